//! A little space that is kept back, so that what gives space back can be written down on a full disk.
//!
//! `/vz/private/.reserve` holds some blocks and an inode. Where the disk is full, whoever is about to undo, to finish or to delete removes it
//! first and makes it again when there is room: journals and records are a few KiB.

use std::os::fd::AsFd as _;

use rustix::fs::{AtFlags, FallocateFlags, Mode, OFlags, fallocate, openat, statvfs, unlinkat};
use rustix::io::Errno;

use crate::atomic::{self, AtomicError};
use crate::prefix::Prefix;

const NAME: &str = ".reserve";
/// More than all records that one operation writes, and the directories that may grow with them.
const BYTES: u64 = 256 * 1024;

/// Makes the reserve, if it is missing. Not durable: it holds nothing.
///
/// # Errors
/// [`AtomicError`]; `ENOSPC` among them.
pub fn keep(prefix: &Prefix) -> Result<(), AtomicError> {
    let private = atomic::open_directory(&prefix.private_dir())?;
    let failed =
        |errno: Errno| AtomicError::new("make", prefix.private_dir().join(NAME), std::io::Error::from(errno));
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = match openat(&private, NAME, flags, Mode::RUSR | Mode::WUSR) {
        Ok(file) => file,
        Err(Errno::EXIST) => return Ok(()),
        Err(errno) => return Err(failed(errno)),
    };
    match fallocate(&file, FallocateFlags::empty(), 0, BYTES) {
        Ok(()) => Ok(()),
        // Its inode is kept back all the same.
        Err(Errno::OPNOTSUPP) => Ok(()),
        Err(errno) => {
            let _ = unlinkat(&private, NAME, AtFlags::empty());
            Err(failed(errno))
        }
    }
}

/// Gives the reserve to whoever writes next, where the disk is full. That there is none is no error.
///
/// # Errors
/// [`AtomicError`].
pub fn release_if_full(prefix: &Prefix) -> Result<(), AtomicError> {
    if !is_full(prefix) {
        return Ok(());
    }
    let private = atomic::open_directory(&prefix.private_dir())?;
    // Synced: blocks are free for others only once the filesystem has written down that they are.
    atomic::remove_file_at(private.as_fd(), NAME)
}

fn is_full(prefix: &Prefix) -> bool {
    let Ok(found) = statvfs(prefix.private_dir()) else { return false };
    // Not `f_bfree`: ext4 counts what it keeps for itself there. A filesystem that makes inodes as it needs them says that it has none.
    found.f_bavail * found.f_frsize < BYTES || found.f_files != 0 && found.f_ffree < 16
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prefix::tests::prefix;

    #[test]
    fn is_kept_once_and_not_given_away_while_there_is_room() {
        let (_directory, prefix) = prefix();
        let path = prefix.private_dir().join(NAME);
        keep(&prefix).unwrap();
        keep(&prefix).unwrap();
        let metadata = path.metadata().unwrap();
        assert!(std::os::unix::fs::MetadataExt::blocks(&metadata) * 512 >= BYTES, "{metadata:?}");
        release_if_full(&prefix).unwrap();
        assert!(path.exists());
        std::fs::remove_file(&path).unwrap();
        release_if_full(&prefix).unwrap();
    }
}
