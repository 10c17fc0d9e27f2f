//! The host's scripts: which there are, and whether they may be trusted with root.
//!
//! A script is opened once, checked through that handle ([`crate::trust`]), and what is executed later is that handle: what its name means by then does
//! not matter.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use store::Prefix;

use crate::error::{Code, Failure, Result, system};
use crate::old_scripts::OldScript;
use crate::trust;

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
pub fn open(prefix: &Prefix, path: &Path) -> Result<Option<HostScript>> {
    let Some(trusted) = trust::open(prefix, path, LARGEST)? else { return Ok(None) };
    if trusted.mode & 0o100 == 0 {
        return Err(Failure::new(Code::BadValue, format!("`{}` cannot be run", path.display()))
            .because("it is not executable")
            .unchanged()
            .hint(format!("chmod u+x {}", path.display())));
    }
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    Ok(Some(HostScript { name, path: path.to_owned(), file: trusted.file, text: trusted.bytes }))
}

/// `vps.reinstall`: executed on the host by the kernel, which wants a `#!` line (or a program).
///
/// # Errors
/// As [`open`].
pub fn open_reinstall(prefix: &Prefix) -> Result<Option<HostScript>> {
    let script = open(prefix, &prefix.conf_dir().join("vps.reinstall"))?;
    script.as_ref().map_or(Ok(()), check_interpreter)?;
    Ok(script)
}

/// What the kernel executes says by what.
///
/// # Errors
/// [`Code::BadValue`].
pub fn check_interpreter(script: &HostScript) -> Result<()> {
    if !script.text.starts_with(b"#!") && !script.text.starts_with(b"\x7fELF") {
        return Err(Failure::new(Code::BadValue, format!("`{}` cannot be run", script.path.display()))
            .because("it does not say by which interpreter: its first line does not begin with #!")
            .unchanged()
            .hint("make `#!/bin/bash` its first line"));
    }
    Ok(())
}

/// `vps.configure`: executed in the container.
///
/// # Errors
/// As [`open`].
pub fn open_configure(prefix: &Prefix) -> Result<Option<HostScript>> {
    open(prefix, &prefix.conf_dir().join("vps.configure"))
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
            scripts.extend(open(prefix, &prefix.reinstall_d().join(&script.name))?);
        }
    }
    Ok(scripts)
}
