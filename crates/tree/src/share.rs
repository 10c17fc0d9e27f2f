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

/// Has the regular files at these paths in `new` share what they can with those of `old`. What cannot be shared stays as it is, and is no error: nothing
/// that can be read becomes another. `goes_on` is asked before each file.
pub fn share<'a>(
    old: &Root,
    new: &Root,
    paths: impl IntoIterator<Item = &'a Path>,
    goes_on: &mut dyn FnMut() -> bool,
) -> Shared {
    let mut shared = Shared::default();
    for path in paths {
        if !goes_on() {
            break;
        }
        match share_file(old, new, path) {
            Ok(0) => {}
            Ok(bytes) => {
                shared.files += 1;
                shared.bytes += bytes;
            }
            // This filesystem never does.
            Err(Errno::OPNOTSUPP | Errno::NOTTY | Errno::XDEV) => break,
            // Not of this one.
            Err(_) => {}
        }
    }
    shared
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
