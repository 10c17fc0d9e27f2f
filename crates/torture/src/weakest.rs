//! The weakest filesystem that there may be: of what an operation does, only what it has synced is there after a power cut.
//!
//! Real filesystems keep more than they must, each something else, and so hide a sync that is missing. This one is a second tree beside the host's,
//! which follows it from sync to sync: `fsync` of a file gives it its contents, `fsync` of a directory its names, `syncfs` everything. A new file that
//! is named and was never synced is empty; a new directory likewise; what was moved, and of which only the departure is durable, is lost.

#![expect(clippy::disallowed_methods, reason = "the trees are of scenarios")]

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::Metadata;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirEntryExt, MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What of a prefix outlives a power cut: its runtime state does not, and its logs are nobody's promise.
const KEPT: [&str; 2] = ["etc", "vz"];

/// See the module.
#[derive(Debug)]
pub struct Weakest {
    /// The real one.
    prefix: PathBuf,
    /// All of it is in here: `tree/`, and `nowhere/` for what no durable name leads to.
    directory: PathBuf,
    /// By inode of the real one, the path of its durable self.
    known: HashMap<u64, PathBuf>,
    nameless: u64,
}

impl Weakest {
    /// All that is in `prefix` now is durable.
    ///
    /// # Errors
    /// When it cannot be copied.
    pub fn new(prefix: &Path, directory: &Path) -> io::Result<Weakest> {
        let mut weakest = Weakest {
            prefix: prefix.to_owned(),
            directory: directory.to_owned(),
            known: HashMap::new(),
            nameless: 0,
        };
        weakest.everything()?;
        Ok(weakest)
    }

    /// As after `syncfs`.
    ///
    /// # Errors
    /// When it cannot be copied.
    pub fn everything(&mut self) -> io::Result<()> {
        self.clear()?;
        let (tree, nowhere) = (self.directory.join("tree"), self.directory.join("nowhere"));
        std::fs::create_dir_all(&tree)?;
        std::fs::create_dir_all(&nowhere)?;
        let kept: Vec<PathBuf> =
            KEPT.iter().map(PathBuf::from).filter(|kept| self.prefix.join(kept).exists()).collect();
        for kept in &kept {
            copy(&self.prefix.join(kept), &tree.join(kept))?;
        }
        self.known.clear();
        self.known.insert(self.prefix.metadata()?.ino(), tree.clone());
        let mut todo = kept;
        while let Some(below) = todo.pop() {
            let real = self.prefix.join(&below);
            let facts = real.symlink_metadata()?;
            self.known.insert(facts.ino(), tree.join(&below));
            if facts.is_dir() {
                todo.extend(std::fs::read_dir(&real)?.flatten().map(|entry| below.join(entry.file_name())));
            }
        }
        Ok(())
    }

    /// As after `fsync` of what is at `real` (a descriptor in /proc will do); whether it is anything of the prefix.
    ///
    /// # Errors
    /// When it cannot be copied.
    pub fn sync(&mut self, real: &Path) -> io::Result<()> {
        let facts = real.metadata()?;
        let own = match self.known.get(&facts.ino()) {
            Some(path) => path.clone(),
            // Nothing durable leads to it yet.
            None => {
                self.nameless += 1;
                let path = self.directory.join("nowhere").join(self.nameless.to_string());
                if facts.is_dir() {
                    make_directory(&path, &facts)?
                } else {
                    drop(std::fs::File::create(&path)?)
                }
                self.known.insert(facts.ino(), path.clone());
                path
            }
        };
        if facts.is_dir() {
            self.names(real, &own)
        } else {
            replace(&real.canonicalize().unwrap_or_else(|_| real.to_owned()), &own)
        }
    }

    fn names(&mut self, real: &Path, own: &Path) -> io::Result<()> {
        let mut wanted: HashMap<OsString, u64> = HashMap::new();
        for entry in std::fs::read_dir(real)? {
            let entry = entry?;
            if real.canonicalize().is_ok_and(|real| real == self.prefix)
                && !KEPT.iter().any(|kept| entry.file_name() == *kept)
            {
                continue;
            }
            wanted.insert(entry.file_name(), entry.ino());
        }
        let by_path: HashMap<PathBuf, u64> =
            self.known.iter().map(|(&inode, path)| (path.clone(), inode)).collect();
        for entry in std::fs::read_dir(own)?.flatten() {
            let inode = by_path.get(&entry.path()).copied();
            if inode.is_none() || wanted.get(&entry.file_name()).copied() != inode {
                self.lose(&entry.path())?;
            }
        }
        for (name, inode) in wanted {
            let (from, to) = (real.join(&name), own.join(&name));
            if to.symlink_metadata().is_ok() {
                continue;
            }
            let Ok(facts) = from.symlink_metadata() else { continue };
            match self.known.get(&inode).cloned() {
                Some(elsewhere) if elsewhere.starts_with(self.directory.join("nowhere")) => {
                    rename(&elsewhere, &to)?;
                    self.moved(&elsewhere, &to);
                }
                // Its old name is durable still: it has two.
                Some(elsewhere) => {
                    copy(&elsewhere, &to)?;
                    self.moved(&elsewhere, &to);
                }
                None => {
                    if facts.is_dir() {
                        make_directory(&to, &facts)?;
                    } else if facts.is_symlink() {
                        symlink(std::fs::read_link(&from)?, &to)?;
                    } else {
                        drop(std::fs::File::create(&to)?);
                        std::fs::set_permissions(&to, facts.permissions())?;
                    }
                    self.known.insert(inode, to);
                }
            }
        }
        Ok(())
    }

    /// A name is gone for good; what it named may have another one yet.
    fn lose(&mut self, path: &Path) -> io::Result<()> {
        self.nameless += 1;
        let place = self.directory.join("nowhere").join(self.nameless.to_string());
        rename(path, &place)?;
        self.moved(path, &place);
        Ok(())
    }

    fn moved(&mut self, from: &Path, to: &Path) {
        for path in self.known.values_mut() {
            if let Ok(below) = path.strip_prefix(from) {
                *path = if below.as_os_str().is_empty() { to.to_owned() } else { to.join(below) };
            }
        }
    }

    /// The prefix as a power cut leaves it, in `at`.
    ///
    /// # Errors
    /// When it cannot be copied.
    pub fn cut(&self, at: &Path) -> io::Result<()> {
        std::fs::create_dir_all(at)?;
        copy(&self.directory.join("tree"), at)
    }

    fn clear(&self) -> io::Result<()> {
        remove(&self.directory)
    }
}

impl Drop for Weakest {
    fn drop(&mut self) {
        let _ = self.clear();
    }
}

/// Removes a tree; that it is not there is no error.
///
/// # Errors
/// When it cannot be removed.
pub fn remove(path: &Path) -> io::Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
    if !path.exists() {
        return Ok(());
    }
    let parent = std::fs::File::open(parent)?;
    tree::remove_entry(parent.as_fd(), name).map(drop).map_err(io::Error::other)
}

fn make_directory(path: &Path, facts: &Metadata) -> io::Result<()> {
    std::fs::create_dir(path)?;
    chown(path, Some(facts.uid()), Some(facts.gid()))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(facts.mode() & 0o7777))
}

fn rename(from: &Path, to: &Path) -> io::Result<()> {
    rustix::fs::rename(from, to).map_err(io::Error::from)
}

/// A file's contents and all that is said of it; whoever else has a link to the durable one keeps what it was.
fn replace(from: &Path, to: &Path) -> io::Result<()> {
    let beside = to.with_extension("new");
    copy(from, &beside)?;
    rename(&beside, to)
}

/// With owners, modes, times, attributes, links and holes.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let status = Command::new("cp").args(["-a", "-T", "--sparse=auto"]).arg(from).arg(to).status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("cp {}: {status}", from.display()))) }
}
