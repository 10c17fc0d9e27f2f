//! The few words that a script of a test is written in, since nothing is executed here.
//!
//! ```text
//! #!…                       skipped
//! print WORDS               a line of output
//! env KEY                   prints KEY=value
//! arguments                 prints the arguments (outside)
//! copy template|old         into the new root (outside)
//! mkdir PATH                in the new root (outside), in the running root (inside)
//! write PATH [WORDS]        a file, executable below /sbin; on a read-only superblock the script ends with 1
//! symlink PATH TARGET
//! remove PATH
//! need PATH                 ends with 1 when nothing is there
//! hold                      moves what is at /old elsewhere in the container (inside)
//! exit N | signal N | hang | halt | unstartable
//! ```

#![expect(clippy::disallowed_methods, reason = "the trees are the test's own")]

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

use engine::runtime::{RuntimeError, RuntimeErrorKind, RuntimeResult, Sink};
use linux::Exit;
use runtime::mounts::Layers;

use crate::fake_runtime::{Mounted, Running, delta};

/// How a script ended.
#[derive(Debug)]
pub enum Ended {
    /// By itself, or by a signal.
    Exit(Exit),
    /// Not in time.
    OutOfTime,
    /// It has ended the container it ran in.
    Halted,
    /// Well, and what was at `/old` is somewhere else.
    Held(u32),
}

/// Where it runs.
#[derive(Debug)]
pub enum Place<'a> {
    /// On the host: `vps.reinstall`.
    Outside {
        /// The present root.
        shown: &'a Layers,
        /// Its arguments.
        arguments: &'a [OsString],
    },
    /// In the container.
    Inside {
        /// `…/generations`
        generations: &'a Path,
        /// What runs.
        running: &'a Running,
        /// What is mounted.
        mounts: &'a BTreeMap<u32, Mounted>,
    },
}

/// A path in a root, and where it is on the disk.
struct Found {
    /// In the layer that is written to.
    written: PathBuf,
    /// In the template.
    below: Option<PathBuf>,
    is_read_only: bool,
}

impl Place<'_> {
    fn find(&self, environment: &HashMap<String, String>, path: &str) -> Found {
        let inside = path.trim_start_matches('/');
        match self {
            Place::Outside { .. } => {
                let root = Path::new(&environment["VE_PRIVATE_TMP"]);
                Found { written: root.join(inside), below: None, is_read_only: false }
            }
            Place::Inside { generations, running, mounts } => {
                let mut rest = Path::new(inside);
                let mut number = running.generation;
                for old in &running.old {
                    match rest.strip_prefix("old") {
                        Ok(deeper) => (rest, number) = (deeper, *old),
                        Err(_) => break,
                    }
                }
                let mounted = &mounts[&number];
                Found {
                    written: delta(generations, number).join(rest),
                    below: mounted.template.as_ref().map(|template| template.join(rest)),
                    is_read_only: mounted.is_read_only,
                }
            }
        }
    }
}

/// Runs one.
pub fn run(
    text: &str,
    environment: &HashMap<String, String>,
    place: &Place<'_>,
    sink: Sink<'_>,
) -> RuntimeResult<Ended> {
    let mut held = None;
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let (first, second) = rest.split_once(' ').unwrap_or((rest, ""));
        let found = first.starts_with('/').then(|| place.find(environment, first));
        if let Some(found) = &found
            && found.is_read_only
            && word != "need"
        {
            sink(format!("{word}: {first}: Read-only file system").as_bytes());
            return Ok(Ended::Exit(Exit::Code(1)));
        }
        let written = || found.as_ref().map(|found| found.written.clone()).expect("a path begins with /");
        let number = || first.parse::<i32>().expect("a number");
        match word {
            "print" => sink(rest.as_bytes()),
            "env" => sink(
                format!("{first}={}", environment.get(first).map_or("(unset)", String::as_str)).as_bytes(),
            ),
            "arguments" => {
                if let Place::Outside { arguments, .. } = place {
                    let words: Vec<_> = arguments.iter().map(|word| word.to_string_lossy()).collect();
                    sink(words.join(" ").as_bytes());
                }
            }
            "copy" => copy(first, environment, place),
            "mkdir" => std::fs::create_dir_all(written()).expect("a directory of a test"),
            "write" => put(&written(), format!("{second}\n").as_bytes()),
            "symlink" => symlink(second, written()).expect("a link of a test"),
            "remove" => {
                let _ = tree_remove(&written());
            }
            "need" => {
                let found = found.as_ref().expect("a path begins with /");
                let is_there = found.written.symlink_metadata().is_ok()
                    || found.below.as_ref().is_some_and(|below| below.symlink_metadata().is_ok());
                if !is_there {
                    sink(format!("need: {first}: No such file or directory").as_bytes());
                    return Ok(Ended::Exit(Exit::Code(1)));
                }
            }
            "hold" => {
                if let Place::Inside { running, .. } = place {
                    held = running.old.first().copied();
                }
            }
            "exit" => return Ok(Ended::Exit(Exit::Code(number()))),
            "signal" => return Ok(Ended::Exit(Exit::Signal(number()))),
            "hang" => return Ok(Ended::OutOfTime),
            "halt" => return Ok(Ended::Halted),
            "unstartable" => {
                return Err(RuntimeError {
                    because: "cannot execute it: no such interpreter".to_owned(),
                    console: String::new(),
                    kind: RuntimeErrorKind::Other,
                });
            }
            other => panic!("`{other}` is no word of a test's script"),
        }
    }
    Ok(held.map_or(Ended::Exit(Exit::Code(0)), Ended::Held))
}

fn copy(what: &str, environment: &HashMap<String, String>, place: &Place<'_>) {
    let to = PathBuf::from(&environment["VE_PRIVATE_TMP"]);
    std::fs::create_dir_all(&to).expect("the directory of a new root");
    match (what, place) {
        ("template", _) => copy_tree(Path::new(&environment["OSTEMPLATE_ROOT"]), &to),
        ("old", Place::Outside { shown, .. }) => {
            if let Some(template) = &shown.template {
                copy_tree(template, &to);
            }
            copy_tree(&shown.generation.join("delta"), &to);
        }
        _ => panic!("`copy template` and `copy old`, outside"),
    }
}

/// The text of an opened script.
pub(crate) fn read(file: &OwnedFd) -> String {
    let file = file.try_clone().expect("a descriptor");
    let mut file = std::fs::File::from(file);
    // It was read before, when it was checked.
    std::io::Seek::rewind(&mut file).expect("a regular file");
    let mut text = String::new();
    file.read_to_string(&mut text).expect("a script of a test");
    text
}

/// Writes a file and the directories on the way; below `sbin` and `bin` it is executable.
pub fn put(path: &Path, bytes: &[u8]) {
    let is_program = path.parent().is_some_and(|parent| parent.ends_with("sbin") || parent.ends_with("bin"));
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).expect("the directory of a test's file");
    }
    let mode = if is_program { 0o755 } else { 0o644 };
    let mut file = std::fs::File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(path)
        .expect("a file of a test");
    file.write_all(bytes).expect("a file of a test");
}

fn tree_remove(path: &Path) -> Option<()> {
    let parent = store::atomic::open_directory(path.parent()?).ok()?;
    tree::remove_entry(std::os::fd::AsFd::as_fd(&parent), path.file_name()?).ok().map(|_| ())
}

/// Copies a tree over another, as an overlay would show it: a 0:0 node takes away.
pub fn copy_tree(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).expect("a directory of a test").flatten() {
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        let found = path.symlink_metadata().expect("it was listed");
        if found.is_dir() {
            if target.symlink_metadata().is_ok_and(|there| !there.is_dir()) {
                let _ = tree_remove(&target);
            }
            let _ = std::fs::create_dir(&target);
            let _ = std::fs::set_permissions(&target, found.permissions());
            copy_tree(&path, &target);
        } else {
            let _ = tree_remove(&target);
            if found.is_file() {
                put(&target, &std::fs::read(&path).expect("a file of a test"));
                let mode = std::fs::Permissions::from_mode(found.mode() & 0o7777);
                std::fs::set_permissions(&target, mode).expect("a file of ours");
            } else if found.is_symlink() {
                symlink(std::fs::read_link(&path).expect("a link"), &target).expect("a link");
            } else {
                assert!(found.file_type().is_char_device() && found.rdev() == 0, "{}", path.display());
                continue;
            }
        }
        let _ = lchown(&target, Some(found.uid()), Some(found.gid()));
    }
}
