//! Room enough for what is going to be written, asked before anything is.

use std::path::Path;

use rustix::fs::{Mode, OFlags, StatVfs};
use store::Volume;

use crate::error::{Code, Failure, MAKE_ROOM, Result, system};
use crate::host::{Container, Host, damaged};
use crate::operation::keep::Measured;

/// What is going to be written.
#[derive(Debug, Clone, Copy)]
pub struct Need {
    /// Who needs it, for people: `a new root`.
    pub who: &'static str,
    /// Bytes.
    pub bytes: u64,
    /// Inodes.
    pub inodes: u64,
}

/// What an inode and a name take.
const ENTRY: u64 = 512;

/// A staged generation and the records around it: a few files and directories.
const ROOT: Need = Need { who: "a new root", bytes: 1024 * 1024, inodes: 64 };
/// What a script will write is known by nobody; less than this is not even worth beginning.
const ROOT_BY_SCRIPT: Need = Need { bytes: 16 * 1024 * 1024, ..ROOT };
/// An area with its first generation.
const CONTAINER: Need = Need { who: "a new container", bytes: 1024 * 1024, inodes: 64 };
/// Its name and its configuration: two links, each with a block of its own where the path is long, and directories that may grow.
const LINKS: Need = Need { who: "a new container", bytes: 64 * 1024, inodes: 8 };

/// What a new root takes before any script writes into it.
pub fn needed(is_by_script: bool, kept: Option<&Measured>) -> Need {
    let mut need = if is_by_script { ROOT_BY_SCRIPT } else { ROOT };
    if let Some(kept) = kept {
        // A block for each small thing, whether its contents are shared or not.
        need.bytes += if kept.shares { 0 } else { kept.bytes } + kept.entries * ENTRY;
        need.inodes += kept.entries;
        need.who = "a new root with what is kept";
    }
    need
}

/// What there is where new roots are made: bytes, and inodes unless the filesystem makes them as it needs them.
///
/// # Errors
/// As in statvfs(3).
pub fn free(container: &Container<'_>) -> std::io::Result<(u64, Option<u64>)> {
    let found = rustix::fs::fstatvfs(container.area.layers_top().map_err(std::io::Error::other)?)?;
    Ok((found.f_bfree * found.f_frsize, (found.f_files != 0).then_some(found.f_ffree)))
}

/// Refuses with figures when the filesystem of `/vz` has not room enough for a new root.
///
/// # Errors
/// [`Code::NoSpace`].
pub fn check(container: &Container<'_>, need: Need) -> Result<()> {
    check_host(container.host, need)?;
    if container.area.volume() != Volume::Image {
        return container.has_room(need);
    }
    container.enter_volume()?;
    let top = container.area.layers_top().map_err(|error| damaged(error, &container.name))?;
    let ask = || {
        rustix::fs::fstatvfs(top).map_err(|error| {
            let what = format!("cannot ask for the free space of `{}`", container.name);
            system(what, &std::io::Error::from(error))
        })
    };
    let mut found = ask()?;
    if !fits(&found, need) && container.runtime().release_reserve(container.id()).is_ok() {
        found = ask()?;
    }
    if fits(&found, need) {
        return Ok(());
    }
    Err(Failure::new(Code::NoSpace, format!("the disk of `{}` is full", container.name))
        .because(figures(&found, need))
        .unchanged()
        .hint(format!(
            "`prlctl set {0} --diskspace SIZE` makes it larger; `prlctl generation-list {0}` shows old roots that may go",
            container.name
        )))
}

/// The same of what is not written to the container's own disk.
///
/// # Errors
/// [`Code::NoSpace`].
pub fn check_host(host: &Host, need: Need) -> Result<()> {
    let hint = "make room there, or keep less; `prlctl generation-list` shows old roots that may go";
    check_at(&host.prefix.private_dir(), need, hint)
}

/// Refuses with figures when there is not room enough for a new container.
///
/// # Errors
/// [`Code::NoSpace`].
pub fn check_create(host: &Host) -> Result<()> {
    check_at(&host.prefix.private_dir(), CONTAINER, MAKE_ROOM)?;
    let links = host.prefix.names_dir();
    let hint =
        format!("make room there: `df -h {0}` and `df -i {0}` tell how much there is", links.display());
    check_at(&links, LINKS, &hint)
}

/// Refuses with figures when the filesystem of the templates has not room enough for one.
///
/// # Errors
/// [`Code::NoSpace`].
pub fn check_template(host: &Host, need: Need) -> Result<()> {
    check_at(&host.prefix.template_dir(), need, MAKE_ROOM)
}

/// Refuses with figures when the filesystem of the private areas has not room enough.
///
/// # Errors
/// [`Code::NoSpace`].
pub fn check_private(host: &Host, need: Need) -> Result<()> {
    check_at(&host.prefix.private_dir(), need, MAKE_ROOM)
}

fn check_at(path: &Path, need: Need, hint: &str) -> Result<()> {
    let found = rustix::fs::statvfs(path).map_err(|error| {
        system(format!("cannot ask for the free space of {}", path.display()), &std::io::Error::from(error))
    })?;
    if fits(&found, need) {
        return Ok(());
    }
    Err(Failure::new(Code::NoSpace, format!("the filesystem of {} is full", path.display()))
        .because(figures(&found, need))
        .unchanged()
        .hint(hint))
}

fn fits(found: &StatVfs, need: Need) -> bool {
    // A filesystem that makes inodes as it needs them says that it has none.
    let has_inodes = found.f_files == 0 || found.f_ffree >= need.inodes;
    found.f_bfree * found.f_frsize >= need.bytes && has_inodes
}

fn figures(found: &StatVfs, need: Need) -> String {
    let inodes = if found.f_files == 0 {
        "no limit of inodes".to_owned()
    } else {
        format!("{} inodes", found.f_ffree)
    };
    format!(
        "{} needs {} KiB and {} inodes, there are {} KiB and {inodes}",
        need.who,
        need.bytes / 1024,
        need.inodes,
        found.f_bfree * found.f_frsize / 1024
    )
}

/// What a start writes in `/run/vz/<uuid>`: records, mount points, the bundle.
const RUN_BYTES: usize = 64 * 1024;
const RUN: Need = Need { who: "a start", bytes: RUN_BYTES as u64, inodes: 32 };

/// Refuses when what a start writes below `/run` would not fit there: asked before a container is stopped that is to run again. It is written for a
/// trial, which in memory costs nothing; what a filesystem says of itself is not what a quota or a read-only mount lets one write.
///
/// # Errors
/// [`Code::NoSpace`], [`Code::System`].
pub fn check_run(container: &Container<'_>) -> Result<()> {
    let directory = container.host.prefix.run_dir_of(container.id());
    let refused = |error: &std::io::Error| {
        let mut failure = system(format!("cannot write below {}", directory.display()), error);
        if failure.code == Code::NoSpace
            && let Ok(found) = rustix::fs::statvfs(&directory)
        {
            failure = failure.because(figures(&found, RUN));
        }
        failure.unchanged().hint(format!(
            "make room there, without which `{}` could not start again: `df -h {1}` and `df -i {1}` tell how much there is",
            container.name,
            container.host.prefix.run_dir().display()
        ))
    };
    let trial = directory.join(".trial");
    let written = rustix::fs::open(
        &trial,
        OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::from_raw_mode(0o600),
    )
    .map_err(std::io::Error::from)
    .and_then(|file| std::io::Write::write_all(&mut std::fs::File::from(file), &[0; RUN_BYTES]));
    let _ = rustix::fs::unlink(&trial);
    written.map_err(|error| refused(&error))?;
    let found = rustix::fs::statvfs(&directory).map_err(|error| refused(&error.into()))?;
    if found.f_files != 0 && found.f_ffree < RUN.inodes {
        return Err(refused(&rustix::io::Errno::NOSPC.into()));
    }
    Ok(())
}
