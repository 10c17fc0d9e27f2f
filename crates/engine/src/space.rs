//! Room enough for what is going to be written, asked before anything is.

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
