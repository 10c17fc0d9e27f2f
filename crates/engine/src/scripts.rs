//! The host's scripts: which there are, and whether they may be trusted with root.
//!
//! A script is opened once, checked through that handle, and what is executed later is that handle: what its name means by then does not matter.

use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, openat};
use store::Prefix;

use crate::error::{Code, Failure, Result, system};
use crate::old_scripts::OldScript;

/// A script larger than this is none.
const LARGEST: u64 = 16 * 1024 * 1024;

/// An opened and checked script.
#[derive(Debug)]
pub struct HostScript {
    /// What it is called: `vps.configure`, `10-mail.sh`.
    pub name: String,
    /// Where it was found.
    pub path: PathBuf,
    /// The file.
    pub file: OwnedFd,
    /// What stands in it.
    pub text: Vec<u8>,
}

/// The scripts of one reinstall.
#[derive(Debug, Default)]
pub struct Scripts {
    /// `vps.reinstall`.
    pub reinstall: Option<HostScript>,
    /// `vps.configure`.
    pub configure: Option<HostScript>,
    /// Those of `reinstall.d`, in order.
    pub extra: Vec<HostScript>,
    /// Those of the old root, after them.
    pub old: Vec<OldScript>,
}

/// Opens and checks a script; `None` when there is none of that name.
///
/// # Errors
/// When it is one that must not be run as root: what is wrong with it, and what to type.
pub fn open(path: &Path) -> Result<Option<HostScript>> {
    let Some(script) = open_trusted(path)? else { return Ok(None) };
    let found = fstat(&script.file)
        .map_err(|error| system("cannot look at a script", &std::io::Error::from(error)))?;
    if found.st_mode & 0o100 == 0 {
        return Err(Failure::new(Code::BadValue, format!("`{}` cannot be run", path.display()))
            .because("it is not executable")
            .unchanged()
            .hint(format!("chmod u+x {}", path.display())));
    }
    Ok(Some(script))
}

/// Opens and checks a file that has something done as root, script or not; `None` when there is none of that name.
///
/// # Errors
/// When somebody else could have written it.
pub fn open_trusted(path: &Path) -> Result<Option<HostScript>> {
    let refused = |because: String, hint: String| {
        Failure::new(Code::BadValue, format!("`{}` cannot be used", path.display()))
            .because(because)
            .unchanged()
            .hint(hint)
    };
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = match openat(CWD, path, flags, Mode::empty()) {
        Ok(file) => file,
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        Err(rustix::io::Errno::LOOP) => {
            return Err(refused("it is a symbolic link".to_owned(), "put the file itself there".to_owned()));
        }
        Err(error) => {
            return Err(system(format!("cannot open `{}`", path.display()), &std::io::Error::from(error)));
        }
    };
    let found =
        fstat(&file).map_err(|error| system("cannot look at a script", &std::io::Error::from(error)))?;
    if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
        return Err(refused("it is no regular file".to_owned(), "put the file itself there".to_owned()));
    }
    if found.st_uid != 0 {
        return Err(refused(
            format!("it belongs to user {}, who could have it do anything as root", found.st_uid),
            format!("chown root: {}", path.display()),
        ));
    }
    if found.st_mode & 0o022 != 0 {
        return Err(refused(
            "others than its owner may write to it, and could have it do anything as root".to_owned(),
            format!("chmod go-w {}", path.display()),
        ));
    }
    if found.st_size as u64 > LARGEST {
        return Err(refused(format!("it has {} bytes", found.st_size), "put a smaller one there".to_owned()));
    }
    let mut text = Vec::new();
    let copy = file.try_clone().map_err(|error| system("cannot read a script", &error))?;
    std::fs::File::from(copy)
        .take(LARGEST + 1)
        .read_to_end(&mut text)
        .map_err(|error| system(format!("cannot read `{}`", path.display()), &error))?;
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    Ok(Some(HostScript { name, path: path.to_owned(), file, text }))
}

/// `vps.reinstall`: executed on the host by the kernel, which wants a `#!` line (or a program).
///
/// # Errors
/// As [`open`].
pub fn open_reinstall(prefix: &Prefix) -> Result<Option<HostScript>> {
    let script = open(&prefix.conf_dir().join("vps.reinstall"))?;
    if let Some(script) = &script
        && !script.text.starts_with(b"#!")
        && !script.text.starts_with(b"\x7fELF")
    {
        return Err(Failure::new(Code::BadValue, format!("`{}` cannot be run", script.path.display()))
            .because("it does not say by which interpreter: its first line does not begin with #!")
            .unchanged()
            .hint("make `#!/bin/bash` its first line"));
    }
    Ok(script)
}

/// `vps.configure`: executed in the container.
///
/// # Errors
/// As [`open`].
pub fn open_configure(prefix: &Prefix) -> Result<Option<HostScript>> {
    open(&prefix.conf_dir().join("vps.configure"))
}

/// One script of `reinstall.d`, as `--listscripts` tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedScript {
    /// Its file name.
    pub name: String,
    /// The first line of `NAME.desc` beside it.
    pub description: Option<String>,
}

/// The scripts of `reinstall.d`: regular, owner-executable, named `*.sh`, sorted by their bytes.
///
/// # Errors
/// When the directory cannot be read.
pub fn list(prefix: &Prefix) -> Result<Vec<ListedScript>> {
    use std::os::unix::fs::PermissionsExt;
    let directory = prefix.reinstall_d();
    let entries = match std::fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(system(format!("cannot read `{}`", directory.display()), &error)),
    };
    let mut found = Vec::new();
    for entry in entries.flatten() {
        let Ok(name) = entry.file_name().into_string() else { continue };
        let is_script = name.ends_with(".sh")
            && std::fs::symlink_metadata(entry.path())
                .is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o100 != 0);
        if !is_script {
            continue;
        }
        let description = directory.join(format!("{}.desc", name.trim_end_matches(".sh")));
        let description = std::fs::read_to_string(description).ok();
        let description = description.and_then(|text| text.lines().next().map(str::to_owned));
        found.push(ListedScript { name, description });
    }
    found.sort_by(|one, other| one.name.as_bytes().cmp(other.name.as_bytes()));
    Ok(found)
}

/// Opens the scripts of `reinstall.d` that are to be run: all, or those named in `only`, of which some may be among `others`.
///
/// # Errors
/// [`Code::BadValue`] for a name that is not there, and as [`open`].
pub fn open_extra(prefix: &Prefix, only: &[String], others: &[OldScript]) -> Result<Vec<HostScript>> {
    let listed = list(prefix)?;
    for name in only {
        let known: Vec<&str> = (listed.iter().map(|script| script.name.as_str()))
            .chain(others.iter().map(|script| script.file.as_str()))
            .collect();
        if !known.contains(&name.as_str()) {
            let because = if known.is_empty() {
                format!("{} has no scripts", prefix.reinstall_d().display())
            } else {
                format!("there are: {}", known.join(", "))
            };
            return Err(Failure::new(Code::BadValue, format!("Reinstallation script {name} is not found"))
                .because(because)
                .unchanged()
                .hint("`prlctl reinstall NAME --listscripts --desc` tells of each"));
        }
    }
    let mut scripts = Vec::new();
    for script in listed {
        if only.is_empty() || only.contains(&script.name) {
            scripts.extend(open(&prefix.reinstall_d().join(&script.name))?);
        }
    }
    Ok(scripts)
}
