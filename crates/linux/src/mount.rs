//! `mount_setattr(2)` and the mount namespace of a process.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use rustix::thread::{UnshareFlags, unshare_unsafe};

/// How mounts and unmounts travel between the copies of a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// Neither way.
    Private,
    /// To the peers and slaves of this mount, and back from the peers.
    Shared,
    /// Received only.
    Slave,
}

/// What [`set_mount_attributes`] changes; the default changes nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct MountAttributes<'fd> {
    /// Attributes to set, a sum of `MOUNT_ATTR_*`.
    pub set: u64,
    /// Attributes to clear.
    pub clear: u64,
    /// New propagation type.
    pub propagation: Option<Propagation>,
    /// Map ids through this user namespace; only for a mount that is not attached anywhere yet.
    pub id_map: Option<BorrowedFd<'fd>>,
    /// The whole tree below the mount, too.
    pub recursive: bool,
}

impl MountAttributes<'_> {
    /// `MOUNT_ATTR_RDONLY`
    pub const READ_ONLY: u64 = 0x1;
    /// `MOUNT_ATTR_NOSUID`
    pub const NO_SUID: u64 = 0x2;
    /// `MOUNT_ATTR_NODEV`
    pub const NO_DEVICES: u64 = 0x4;
    /// `MOUNT_ATTR_NOEXEC`
    pub const NO_EXEC: u64 = 0x8;
    /// `MOUNT_ATTR_NOSYMFOLLOW`
    pub const NO_SYMLINKS: u64 = 0x0020_0000;
    /// `MOUNT_ATTR_NOATIME`; set together with [`MountAttributes::ACCESS_TIMES`] cleared.
    pub const NO_ACCESS_TIMES: u64 = 0x10;
    /// `MOUNT_ATTR__ATIME`: all that is said of times of access.
    pub const ACCESS_TIMES: u64 = 0x70;
    const ID_MAP: u64 = 0x0010_0000;
}

/// Changes the attributes of the mount behind `mount` (a handle from `open_tree` or `O_PATH`). Needs Linux 5.12, for overlay layers 5.19.
///
/// # Errors
/// As in mount_setattr(2).
pub fn set_mount_attributes(mount: impl AsFd, attributes: &MountAttributes<'_>) -> io::Result<()> {
    let mut raw = libc::mount_attr {
        attr_set: attributes.set,
        attr_clr: attributes.clear,
        propagation: match attributes.propagation {
            None => 0,
            Some(Propagation::Private) => libc::MS_PRIVATE,
            Some(Propagation::Shared) => libc::MS_SHARED,
            Some(Propagation::Slave) => libc::MS_SLAVE,
        },
        userns_fd: 0,
    };
    if let Some(id_map) = attributes.id_map {
        raw.attr_set |= MountAttributes::ID_MAP;
        raw.userns_fd = id_map.as_raw_fd() as u64;
    }
    let mut flags = libc::AT_EMPTY_PATH;
    if attributes.recursive {
        flags |= libc::AT_RECURSIVE;
    }
    // SAFETY: the path is a NUL-terminated string, `raw` is a `mount_attr` whose true size is passed; both live through the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const raw,
            size_of::<libc::mount_attr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Gives the calling thread a mount namespace of its own. Call it in a process with one thread: others would stay behind.
///
/// # Errors
/// As in unshare(2).
pub fn unshare_mount_namespace() -> io::Result<()> {
    // SAFETY: CLONE_NEWNS (with the CLONE_FS that it implies) changes what paths mean to the calling thread and touches neither memory nor
    // descriptors.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS) }.map_err(io::Error::from)
}
