//! Two trees that have files in common, on a filesystem whose files can share blocks (`FIDEDUPERANGE`): the kernel compares them, and whatever is
//! damaged in the one is not taken for what is in the other.
//!
//! Not by hard links, where it cannot: how many names a file has is seen in a container, and is in the digest of its tree.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{self, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::root::Root;

/// So much is compared at once: btrfs takes no more.
const CHUNK: u64 = 16 * 1024 * 1024;
/// Smaller ones have no block of their own.
const LEAST: u64 = 4096;

/// What is shared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Shared {
    /// Of how many files.
    pub files: u64,
    /// The sum of their bytes.
    pub bytes: u64,
}

/// Two trees whose files come to share what they can.
#[derive(Debug)]
pub struct Sharing {
    old: Root,
    new: Root,
    so_far: Shared,
    /// This filesystem never does.
    is_in_vain: bool,
}

impl Sharing {
    /// Of files in `new` with those of `old`.
    pub fn of(old: Root, new: Root) -> Sharing {
        Sharing { old, new, so_far: Shared::default(), is_in_vain: false }
    }

    /// Has the regular file at this path in both share what it can. What cannot be shared stays as it is, and is no error: nothing that can be read
    /// becomes another.
    pub fn file(&mut self, path: &Path) {
        if self.is_in_vain {
            return;
        }
        match share_file(&self.old, &self.new, path) {
            Ok(0) => {}
            Ok(bytes) => {
                self.so_far.files += 1;
                self.so_far.bytes += bytes;
            }
            Err(Errno::OPNOTSUPP | Errno::NOTTY | Errno::XDEV) => self.is_in_vain = true,
            // Not of this one.
            Err(_) => {}
        }
    }

    /// What is shared.
    pub fn so_far(&self) -> Shared {
        self.so_far
    }
}

fn share_file(old: &Root, new: &Root, path: &Path) -> Result<u64, Errno> {
    let open = |root: &Root, flags: OFlags| -> Result<File, Errno> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH
            | ResolveFlags::NO_SYMLINKS
            | ResolveFlags::NO_MAGICLINKS
            | ResolveFlags::NO_XDEV;
        Ok(fs::openat2(root.handle(), path, flags, Mode::empty(), resolve)?.into())
    };
    let (from, to) = (open(old, OFlags::RDONLY)?, open(new, OFlags::RDWR)?);
    let size = |file: &File| {
        fs::fstat(file).map(|found| (found.st_size as u64, fs::FileType::from_raw_mode(found.st_mode)))
    };
    let (size, kind) = (size(&from)?, size(&to)?);
    if size != kind || size.1 != fs::FileType::RegularFile || size.0 < LEAST {
        return Ok(0);
    }
    let mut at = 0;
    while at < size.0 {
        let done = linux::share_blocks(from.as_fd(), to.as_fd(), at, CHUNK.min(size.0 - at))?;
        if done == 0 {
            break;
        }
        at += done;
    }
    Ok(at)
}
