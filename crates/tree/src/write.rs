//! Writing into a held directory so that a death at any line leaves the old thing or the new one.
//!
//! The new file or directory is made under a name of ours in the same directory, given its owner and mode,
//! made durable where it is to be [`Durable::AtOnce`], and only then renamed to its place; the directory is made durable last. A death before
//! the rename leaves `.reroot-…`, which the next write to the same name removes.

use crate::node;
use rustix::fs::{self, AtFlags, Gid, Mode, OFlags, RenameFlags, Uid};
use rustix::io::Errno;
use sha2::{Digest, Sha256};
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

const ATTEMPTS: u32 = 32;

/// Owner and permission bits of what is made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Owned {
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
}

/// When a power cut can no longer take it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durable {
    /// When the call returns; until then the old one is there.
    AtOnce,
    /// When the caller has synced the whole tree, before which nothing leads to it.
    WithTheTree,
}

impl Durable {
    pub(crate) fn sync(self, handle: impl AsFd) -> Result<(), Errno> {
        match self {
            Durable::AtOnce => fs::fsync(handle),
            Durable::WithTheTree => Ok(()),
        }
    }

    pub(crate) fn sync_directory(self, dir: BorrowedFd<'_>) -> Result<(), Errno> {
        match self {
            Durable::AtOnce => fs::fsync(node::open_directory(dir)?),
            Durable::WithTheTree => Ok(()),
        }
    }
}

impl Owned {
    /// The owner first: a change of owner clears setuid and setgid.
    pub(crate) fn give(self, made: impl AsFd) -> Result<(), Errno> {
        fs::fchown(&made, Some(Uid::from_raw(self.uid)), Some(Gid::from_raw(self.gid)))?;
        fs::fchmod(&made, Mode::from_raw_mode(self.mode & 0o7777))
    }
}

/// Replaces `name` in `dir`, whatever but a directory it is; never follows or opens what is there.
pub(crate) fn replace_file_at(
    dir: BorrowedFd<'_>,
    name: &CStr,
    bytes: &[u8],
    owned: Owned,
    durable: Durable,
) -> io::Result<()> {
    let (temporary, made) = make_temporary(dir, name, |temporary| {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        fs::openat(dir, temporary, flags, Mode::RUSR | Mode::WUSR)
    })?;
    let mut file = File::from(made);
    let written: io::Result<()> = (|| {
        file.write_all(bytes)?;
        owned.give(&file)?;
        durable.sync(&file)?;
        fs::renameat(dir, &temporary, dir, name)?;
        Ok(())
    })();
    if written.is_err() {
        // Best effort: the error that matters is the one above.
        let _ = fs::unlinkat(dir, &temporary, AtFlags::empty());
    }
    written?;
    Ok(durable.sync_directory(dir)?)
}

/// Makes the directory `name` in `dir` with these extended attributes; the name must be free.
pub(crate) fn make_directory_at(
    dir: BorrowedFd<'_>,
    name: &CStr,
    owned: Owned,
    attributes: &[(CString, Vec<u8>)],
    place: RenameFlags,
    durable: Durable,
) -> Result<(), Errno> {
    let make = |name: &CStr| {
        fs::mkdirat(dir, name, Mode::RWXU)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        fs::openat(dir, name, flags, Mode::empty())
    };
    if durable == Durable::WithTheTree && place == RenameFlags::NOREPLACE && attributes.is_empty() {
        // Nothing leads to the tree yet, and one that is half made goes with it: no other name is needed. There may be hundreds of homes.
        return owned.give(make(name)?);
    }
    let (temporary, made) = make_temporary(dir, name, make)?;
    let placed = (|| {
        for (attribute, value) in attributes {
            fs::fsetxattr(&made, attribute, value, fs::XattrFlags::empty())?;
        }
        owned.give(&made)?;
        durable.sync(&made)?;
        fs::renameat_with(dir, &temporary, dir, name, place)
    })();
    if placed.is_err() {
        let _ = fs::unlinkat(dir, &temporary, AtFlags::REMOVEDIR);
    } else if place.contains(RenameFlags::EXCHANGE) {
        fs::unlinkat(dir, &temporary, AtFlags::empty())?;
    }
    placed?;
    durable.sync_directory(dir)
}

/// Makes something under a name of ours. What a dead run left there is removed; what cannot be removed
/// (somebody's directory of that very name) is stepped aside of.
fn make_temporary(
    dir: BorrowedFd<'_>,
    name: &CStr,
    make: impl Fn(&CStr) -> Result<OwnedFd, Errno>,
) -> Result<(CString, OwnedFd), Errno> {
    for attempt in 0..ATTEMPTS {
        let temporary = temporary_name(name, attempt);
        match make(&temporary) {
            Err(Errno::EXIST) => {}
            made => return made.map(|made| (temporary, made)),
        }
        let removed = match fs::unlinkat(dir, &temporary, AtFlags::empty()) {
            Err(Errno::ISDIR) => fs::unlinkat(dir, &temporary, AtFlags::REMOVEDIR),
            other => other,
        };
        if removed.is_ok()
            && let Ok(made) = make(&temporary)
        {
            return Ok((temporary, made));
        }
    }
    Err(Errno::EXIST)
}

/// Of one length whatever the name's own is, so that a name of 255 bytes can be replaced too.
fn temporary_name(name: &CStr, attempt: u32) -> CString {
    let hash = Sha256::digest(name.to_bytes());
    let hash: String = hash.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    CString::new(format!(".reroot-{hash}-{attempt}")).expect("hexadecimal has no NUL")
}
