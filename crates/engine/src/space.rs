//! Room enough for what is going to be written, asked before anything is.

use rustix::fs::{Mode, OFlags};

use crate::error::{Code, Failure, Result, system};
use crate::host::Container;

/// A staged generation and the records around it: a few files and directories.
const BYTES: u64 = 1024 * 1024;
const INODES: u64 = 64;
/// What a script will write is known by nobody; less than this is not even worth beginning.
const BYTES_FOR_SCRIPT: u64 = 16 * 1024 * 1024;

/// Refuses with figures when the filesystem of `/vz` has not room enough for a new root.
///
/// # Errors
/// [`Code::NoSpace`].
pub fn check(container: &Container<'_>, is_by_script: bool) -> Result<()> {
    let path = container.host.prefix.private_dir();
    let found = rustix::fs::statvfs(&path).map_err(|error| {
        system(format!("cannot ask for the free space of {}", path.display()), &std::io::Error::from(error))
    })?;
    let bytes = if is_by_script { BYTES_FOR_SCRIPT } else { BYTES };
    let free = found.f_bfree * found.f_frsize;
    // A filesystem that makes inodes as it needs them says that it has none.
    let has_inodes = found.f_files == 0 || found.f_ffree >= INODES;
    if free >= bytes && has_inodes {
        return Ok(());
    }
    Err(Failure::new(Code::NoSpace, format!("the filesystem of {} is full", path.display()))
        .because(format!(
            "a new root needs {} KiB and {INODES} inodes, there are {} KiB and {} inodes",
            bytes / 1024,
            free / 1024,
            found.f_ffree
        ))
        .unchanged()
        .hint("make room there; `prlctl generation-list` shows old roots that may go"))
}

/// What a start writes in `/run/vz/<uuid>`: records, mount points, the bundle.
const RUN_BYTES: usize = 64 * 1024;
const RUN_INODES: u64 = 32;

/// Refuses when what a start writes below `/run` would not fit there: asked before a container is stopped that is to run again. It is written for a
/// trial, which in memory costs nothing; what a filesystem says of itself is not what a quota or a read-only mount lets one write.
///
/// # Errors
/// [`Code::NoSpace`], [`Code::System`].
pub fn check_run(container: &Container<'_>) -> Result<()> {
    let directory = container.host.prefix.run_dir_of(container.id());
    let refused = |error: &std::io::Error| {
        system(format!("cannot write below {}", directory.display()), error).unchanged().hint(format!(
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
    if found.f_files != 0 && found.f_ffree < RUN_INODES {
        return Err(refused(&rustix::io::Errno::NOSPC.into()));
    }
    Ok(())
}
