//! One node of a tree, held by an `O_PATH` handle: what it is, its attributes, its names.
//!
//! A handle is taken first and looked at second, so that what was checked is what is then used, whatever
//! somebody renames meanwhile. Extended attributes and contents are reached through `/proc/self/fd/N`,
//! the one way to a node's own inode without its name (also for symlinks and FIFOs).

use rustix::fs::{self, AtFlags, Dir, FileType, Mode, OFlags, StatxAttributes, StatxFlags};
use rustix::io::Errno;
use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// What is opened for reading must neither hang (FIFO, lease) nor become our terminal.
pub(crate) const READ: OFlags =
    OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);
pub(crate) const HOLD: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// What the kernel says of a node.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Facts {
    pub file_type: FileType,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub size: u64,
    /// Bytes that it takes on the disk.
    pub allocated: u64,
    pub links: u32,
    pub identity: Identity,
    /// Major and minor number of a device node.
    pub device: (u32, u32),
    pub modified: (i64, u32),
    pub accessed: (i64, u32),
    /// When the kernel last changed anything of it.
    pub changed: (i64, u32),
    pub immutable_or_append: bool,
}

/// Which node it is. The mount belongs to it: the same directory under two mounts is two ways out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Identity {
    pub filesystem: (u32, u32),
    pub inode: u64,
    pub mount: u64,
}

impl Facts {
    pub(crate) fn is_directory(&self) -> bool {
        self.file_type == FileType::Directory
    }

    pub(crate) fn is_regular(&self) -> bool {
        self.file_type == FileType::RegularFile
    }

    pub(crate) fn is_symlink(&self) -> bool {
        self.file_type == FileType::Symlink
    }

    pub(crate) fn is_device(&self) -> bool {
        matches!(self.file_type, FileType::CharacterDevice | FileType::BlockDevice)
    }

    /// overlayfs marks what was deleted in the upper layer with a character device 0:0.
    pub(crate) fn is_whiteout(&self) -> bool {
        self.file_type == FileType::CharacterDevice && self.device == (0, 0)
    }

    /// "a FIFO": for `{path} is {…}`.
    pub(crate) fn kind(&self) -> &'static str {
        match self.file_type {
            FileType::RegularFile => "a regular file",
            FileType::Directory => "a directory",
            FileType::Symlink => "a symlink",
            FileType::Fifo => "a FIFO",
            FileType::Socket => "a socket",
            FileType::CharacterDevice => "a character device",
            FileType::BlockDevice => "a block device",
            FileType::Unknown => "of an unknown kind",
        }
    }
}

pub(crate) fn facts(handle: impl AsFd) -> Result<Facts, Errno> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    let found = fs::statx(handle, c"", flags, StatxFlags::BASIC_STATS | StatxFlags::MNT_ID)?;
    let held = StatxAttributes::IMMUTABLE | StatxAttributes::APPEND;
    Ok(Facts {
        file_type: FileType::from_raw_mode(u32::from(found.stx_mode)),
        mode: u32::from(found.stx_mode) & 0o7777,
        uid: found.stx_uid,
        gid: found.stx_gid,
        size: found.stx_size,
        allocated: found.stx_blocks.saturating_mul(512),
        links: found.stx_nlink,
        identity: Identity {
            filesystem: (found.stx_dev_major, found.stx_dev_minor),
            inode: found.stx_ino,
            mount: found.stx_mnt_id,
        },
        device: (found.stx_rdev_major, found.stx_rdev_minor),
        modified: (found.stx_mtime.tv_sec, found.stx_mtime.tv_nsec),
        accessed: (found.stx_atime.tv_sec, found.stx_atime.tv_nsec),
        changed: (found.stx_ctime.tv_sec, found.stx_ctime.tv_nsec),
        immutable_or_append: found.stx_attributes.intersects(held),
    })
}

/// Holds `name` in `dir`, a single component, without opening or following it.
pub(crate) fn hold(dir: impl AsFd, name: &CStr) -> Result<(OwnedFd, Facts), Errno> {
    let handle = fs::openat(dir, name, HOLD, Mode::empty())?;
    let facts = facts(&handle)?;
    Ok((handle, facts))
}

/// As `hold`, but nothing there is no error.
pub(crate) fn try_hold(dir: impl AsFd, name: &CStr) -> Result<Option<(OwnedFd, Facts)>, Errno> {
    match hold(dir, name) {
        Ok(found) => Ok(Some(found)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Opens a held regular file for reading: by its handle, so it is the one that was looked at.
pub(crate) fn open_regular(handle: impl AsFd) -> Result<OwnedFd, Errno> {
    fs::open(own_path(handle.as_fd()), READ, Mode::empty())
}

/// Opens a held regular file as a lock wants it, for writing; nothing of it is changed.
pub(crate) fn open_to_lock(handle: impl AsFd) -> Result<OwnedFd, Errno> {
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    fs::open(own_path(handle.as_fd()), flags, Mode::empty())
}

/// Opens a held directory for what `O_PATH` does not allow: fsync, ioctl.
pub(crate) fn open_directory(handle: impl AsFd) -> Result<OwnedFd, Errno> {
    fs::openat(handle, c".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// The names in a held directory, without `.` and `..`, in the order of their bytes.
pub(crate) fn names(handle: impl AsFd) -> Result<Vec<CString>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::new(open_directory(handle)?)? {
        let entry = entry?;
        if !is_dot(entry.file_name()) {
            names.push(entry.file_name().to_owned());
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// As `names`; `None`: there are more than `most`, or were, and the directory is as large yet: they are not read.
pub(crate) fn names_up_to(handle: impl AsFd, most: usize) -> Result<Option<Vec<CString>>, Errno> {
    // What a name takes at most, and as much again for what a filesystem keeps with it.
    if facts(&handle)?.size > most as u64 * 1024 {
        return Ok(None);
    }
    let mut names = Vec::new();
    for entry in Dir::new(open_directory(handle)?)? {
        let entry = entry?;
        if is_dot(entry.file_name()) {
            continue;
        }
        if names.len() == most {
            return Ok(None);
        }
        names.push(entry.file_name().to_owned());
    }
    names.sort_unstable();
    Ok(Some(names))
}

/// As `names`, but only what is a directory, or may be one where the filesystem does not tell.
pub(crate) fn directories(handle: impl AsFd) -> Result<Vec<CString>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::new(open_directory(handle)?)? {
        let entry = entry?;
        let may_be = matches!(entry.file_type(), FileType::Directory | FileType::Unknown);
        if may_be && !is_dot(entry.file_name()) {
            names.push(entry.file_name().to_owned());
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// The first name in a held directory that `counts`.
pub(crate) fn any_name(handle: impl AsFd, mut counts: impl FnMut(&CStr) -> bool) -> Result<bool, Errno> {
    for entry in Dir::new(open_directory(handle)?)? {
        let entry = entry?;
        if !is_dot(entry.file_name()) && counts(entry.file_name()) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn is_dot(name: &CStr) -> bool {
    matches!(name.to_bytes(), b"." | b"..")
}

/// How xfs names the access control lists of a file a second time. On another filesystem they would be attributes that mean nothing.
const ALIASES_OF_LISTS: [&[u8]; 2] = [b"trusted.SGI_ACL_FILE", b"trusted.SGI_ACL_DEFAULT"];

/// All extended attributes of a held node, sorted by name, each once.
pub(crate) fn attributes(handle: impl AsFd) -> Result<Vec<(CString, Vec<u8>)>, Errno> {
    let path = own_path(handle.as_fd());
    let list = grown(|buffer| match fs::listxattr(&path, buffer) {
        Err(Errno::NOTSUP) => Ok(0),
        other => other,
    })?;
    let mut found = Vec::new();
    for name in list.split_inclusive(|byte| *byte == 0) {
        let Ok(name) = CStr::from_bytes_with_nul(name) else { continue };
        if ALIASES_OF_LISTS.contains(&name.to_bytes()) {
            continue;
        }
        match grown(|buffer| fs::getxattr(&path, name, buffer)) {
            Ok(value) => found.push((name.to_owned(), value)),
            Err(Errno::NODATA) => {}
            Err(error) => return Err(error),
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// One extended attribute of a held node.
pub(crate) fn attribute(handle: impl AsFd, name: &CStr) -> Result<Option<Vec<u8>>, Errno> {
    let path = own_path(handle.as_fd());
    match grown(|buffer| fs::getxattr(&path, name, buffer)) {
        Ok(value) => Ok(Some(value)),
        Err(Errno::NODATA | Errno::NOTSUP) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The kernel bounds names and values of attributes to 64 KiB each.
fn grown(mut read: impl FnMut(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    let mut buffer = vec![0; 1024];
    loop {
        match read(&mut buffer) {
            Ok(length) => {
                buffer.truncate(length);
                return Ok(buffer);
            }
            Err(Errno::RANGE) if buffer.len() < 1 << 20 => buffer.resize(buffer.len() * 8, 0),
            Err(error) => return Err(error),
        }
    }
}

pub(crate) fn own_path(handle: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", handle.as_raw_fd())
}

/// One component as the kernel wants it. A name that came from a directory always passes.
pub(crate) fn component(name: &OsStr) -> Result<CString, Errno> {
    let bytes = name.as_bytes();
    if bytes.is_empty() || bytes == b"." || bytes == b".." || bytes.contains(&b'/') {
        return Err(Errno::INVAL);
    }
    CString::new(bytes).map_err(|_| Errno::INVAL)
}

pub(crate) fn as_path(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}
