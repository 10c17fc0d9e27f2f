//! A little space that is kept back, so that what gives space back can be written down on a full disk.
//!
//! `/vz/private/.reserve/` holds some blocks and some inodes. Where the disk is full, whoever is about to undo, to finish or to delete removes it
//! first and makes it again when there is room: journals and records are a few KiB.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, FallocateFlags, FlockOperation, Mode, OFlags, fallocate, flock, mkdirat, openat, statvfs,
    unlinkat,
};
use rustix::io::Errno;

use crate::atomic::{self, AtomicError};
use crate::prefix::Prefix;

const NAME: &str = ".reserve";
/// More than all records that one operation writes, and the directories that may grow with them.
const BYTES: u64 = 256 * 1024;
/// A journal, a record, a link and a configuration, each beside what it replaces.
const INODES: u32 = 8;

/// Holds off whoever would make the reserve again, for as long as what it gave is needed.
#[derive(Debug)]
#[must_use = "others take what was released when this is dropped"]
pub struct Released {
    /// The private directory, locked by flock(2).
    _private: Option<OwnedFd>,
}

/// Makes the reserve, if it is missing and nobody needs what it gave. Not durable: it holds nothing.
///
/// # Errors
/// [`AtomicError`]; `ENOSPC` among them.
pub fn keep(prefix: &Prefix) -> Result<(), AtomicError> {
    let private = atomic::open_directory(&prefix.private_dir())?;
    if flock(&private, FlockOperation::NonBlockingLockExclusive).is_err() {
        return Ok(());
    }
    let failed =
        |errno: Errno| AtomicError::new("make", prefix.private_dir().join(NAME), std::io::Error::from(errno));
    keep_in(private.as_fd(), INODES).map_err(failed)
}

/// The same in the volume of a container, for so many inodes.
pub fn keep_in(top: BorrowedFd<'_>, inodes: u32) -> Result<(), Errno> {
    match mkdirat(top, NAME, Mode::RWXU) {
        Ok(()) => {}
        Err(Errno::EXIST) => return Ok(()),
        Err(errno) => return Err(errno),
    }
    fill(top, inodes).inspect_err(|_| {
        // Best effort: what is left of it is released like a whole one.
        let _ = remove(top, inodes);
    })
}

/// Gives it to whoever writes next. That there is none is no error.
pub fn release_in(top: BorrowedFd<'_>, inodes: u32) -> Result<(), Errno> {
    remove(top, inodes)?;
    // Blocks are free for others only once the filesystem has written down that they are.
    rustix::fs::syncfs(top)
}

fn fill(private: BorrowedFd<'_>, inodes: u32) -> Result<(), Errno> {
    let directory = openat(private, NAME, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    for number in 0..inodes {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(&directory, number.to_string(), flags, Mode::RUSR | Mode::WUSR)?;
        if number == 0 {
            match fallocate(&file, FallocateFlags::empty(), 0, BYTES) {
                // Its inodes are kept back all the same.
                Ok(()) | Err(Errno::OPNOTSUPP) => {}
                Err(errno) => return Err(errno),
            }
        }
    }
    Ok(())
}

fn remove(private: BorrowedFd<'_>, inodes: u32) -> Result<(), Errno> {
    let directory = match openat(private, NAME, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) {
        Ok(directory) => directory,
        Err(Errno::NOENT) => return Ok(()),
        Err(errno) => return Err(errno),
    };
    for number in 0..inodes {
        match unlinkat(&directory, number.to_string(), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno),
        }
    }
    match unlinkat(private, NAME, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// Gives the reserve to whoever writes next, where the disk is full. That there is none is no error.
///
/// # Errors
/// [`AtomicError`].
pub fn release_if_full(prefix: &Prefix) -> Result<Released, AtomicError> {
    if !is_full(prefix) {
        return Ok(Released { _private: None });
    }
    let private = atomic::open_directory(&prefix.private_dir())?;
    // Held by others for the moment in which they make the reserve: it does no harm to go on without.
    let _ = flock(&private, FlockOperation::NonBlockingLockShared);
    remove(private.as_fd(), INODES)
        .map_err(|errno| AtomicError::new("remove", prefix.private_dir().join(NAME), errno))?;
    // Synced: blocks are free for others only once the filesystem has written down that they are.
    atomic::fsync_dir(private.as_fd())?;
    Ok(Released { _private: Some(private) })
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
        let metadata = path.join("0").metadata().unwrap();
        assert!(std::os::unix::fs::MetadataExt::blocks(&metadata) * 512 >= BYTES, "{metadata:?}");
        drop(release_if_full(&prefix).unwrap());
        assert!(path.exists());
        remove(atomic::open_directory(&prefix.private_dir()).unwrap().as_fd(), INODES).unwrap();
        assert!(!path.exists());
        drop(release_if_full(&prefix).unwrap());
        // As long as somebody needs what was released, it is not taken back.
        let private = atomic::open_directory(&prefix.private_dir()).unwrap();
        flock(&private, FlockOperation::LockShared).unwrap();
        let released = Released { _private: Some(private) };
        keep(&prefix).unwrap();
        assert!(!path.exists());
        drop(released);
        keep(&prefix).unwrap();
        assert!(path.exists());
    }
}
