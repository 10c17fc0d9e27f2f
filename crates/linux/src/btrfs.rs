//! Subvolumes of btrfs: parts of the filesystem with a number of their own, of which qgroups count the bytes, and to which they give an end.
//!
//! What is counted is read from `/sys/fs/btrfs/<uuid>/qgroups` (Linux 5.9): the kernel's own figures, with what is promised and not written yet. The same in the
//! quota tree is as old as the last commit.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use crate::counted::{SpaceLimits, SpaceUse};

/// `linux/magic.h`
const MAGIC: u64 = 0x9123_683E;
/// Every subvolume's top directory has it.
const TOP: u64 = 256;
/// `linux/btrfs.h`
const SUBVOLUME_CREATE: libc::c_ulong = 0x5000_940E;
const INODE_LOOKUP: libc::c_ulong = 0xD000_9412;
const FILE_SYSTEM_INFO: libc::c_ulong = 0x8400_941F;
const QGROUP_LIMIT: libc::c_ulong = 0x8030_942B;
const LIMIT_OF_WHAT_IS_REFERRED_TO: u64 = 1;
const NO_LIMIT: u64 = u64::MAX;
const NAME: usize = 4087;

/// `struct btrfs_ioctl_vol_args`.
#[repr(C)]
struct Named {
    descriptor: i64,
    name: [u8; NAME + 1],
}

/// `struct btrfs_ioctl_ino_lookup_args`.
#[repr(C)]
struct Lookup {
    tree: u64,
    object: u64,
    name: [u8; 4080],
}

/// `struct btrfs_ioctl_fs_info_args`, as far as it is wanted.
#[repr(C)]
struct Information {
    highest: u64,
    devices: u64,
    uuid: [u8; 16],
    rest: [u8; 992],
}

/// `struct btrfs_ioctl_qgroup_limit_args`; group 0 is that of the subvolume.
#[repr(C)]
struct Limit {
    group: u64,
    what: u64,
    referred: u64,
    exclusive: u64,
    reserved_referred: u64,
    reserved_exclusive: u64,
}

fn call<T>(on: BorrowedFd<'_>, command: libc::c_ulong, what: &mut T) -> io::Result<()> {
    // SAFETY: each command above is called with the one structure that is named beside it, of the kernel's length, which outlives the call.
    let result = unsafe { libc::ioctl(on.as_raw_fd(), command as _, std::ptr::from_mut(what)) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Whether it lies on btrfs.
pub fn is_btrfs(on: impl AsFd) -> bool {
    rustix::fs::fstatfs(on).is_ok_and(|found| found.f_type as u64 == MAGIC)
}

/// Whether it is the top of a subvolume.
pub fn is_subvolume(directory: impl AsFd) -> bool {
    let directory = directory.as_fd();
    is_btrfs(directory) && rustix::fs::fstat(directory).is_ok_and(|found| found.st_ino == TOP)
}

/// Makes an empty one, of the caller's, as mkdir(2) would make a directory with mode 755; durably.
///
/// # Errors
/// Where it is no btrfs, or something has that name.
pub fn make_subvolume(parent: impl AsFd, name: &OsStr) -> io::Result<()> {
    let bytes = name.as_bytes();
    if bytes.len() > 255 || bytes.contains(&b'/') {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut named = Named { descriptor: 0, name: [0; NAME + 1] };
    named.name[..bytes.len()].copy_from_slice(bytes);
    call(parent.as_fd(), SUBVOLUME_CREATE, &mut named)
}

/// Where the kernel tells of what is counted; `None`: nothing is, or there is no btrfs.
fn groups(on: BorrowedFd<'_>) -> Option<PathBuf> {
    if !is_btrfs(on) {
        return None;
    }
    let mut found = Information { highest: 0, devices: 0, uuid: [0; 16], rest: [0; 992] };
    call(on, FILE_SYSTEM_INFO, &mut found).ok()?;
    let hex = |part: &[u8]| part.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let uuid = found.uuid;
    let uuid = [&uuid[..4], &uuid[4..6], &uuid[6..8], &uuid[8..10], &uuid[10..]].map(hex).join("-");
    let groups = PathBuf::from(format!("/sys/fs/btrfs/{uuid}/qgroups"));
    groups.is_dir().then_some(groups)
}

/// Whether the filesystem counts what is in its subvolumes, and keeps them from taking more (`btrfs quota enable`).
pub fn keeps_subvolume_limits(on: impl AsFd) -> bool {
    groups(on.as_fd()).is_some()
}

/// Gives the subvolume in which this lies an end. One that has more already gets no more.
///
/// # Errors
/// `ENOTCONN` where nothing is counted.
pub fn limit_subvolume(on: impl AsFd, bytes: Option<u64>) -> io::Result<()> {
    let mut limit = Limit {
        group: 0,
        what: LIMIT_OF_WHAT_IS_REFERRED_TO,
        referred: bytes.unwrap_or(NO_LIMIT),
        exclusive: 0,
        reserved_referred: 0,
        reserved_exclusive: 0,
    };
    call(on.as_fd(), QGROUP_LIMIT, &mut limit)
}

/// What is counted of the subvolume in which this lies, and how much of it there may be.
///
/// # Errors
/// Where nothing is counted.
pub fn subvolume_use(on: impl AsFd) -> io::Result<SpaceUse> {
    let on = on.as_fd();
    let mut lookup = Lookup { tree: 0, object: TOP, name: [0; 4080] };
    call(on, INODE_LOOKUP, &mut lookup)?;
    let groups = groups(on).ok_or(io::ErrorKind::NotFound)?.join(format!("0_{}", lookup.tree));
    let figure = |name: &str| -> io::Result<u64> {
        let text = std::fs::read_to_string(groups.join(name))?;
        text.trim().parse().map_err(|_| io::Error::from(io::ErrorKind::InvalidData))
    };
    let mut bytes = figure("referenced")?;
    for promised in ["rsv_data", "rsv_meta_pertrans", "rsv_meta_prealloc"] {
        bytes = bytes.saturating_add(figure(promised)?);
    }
    let is_limited = figure("limit_flags")? & LIMIT_OF_WHAT_IS_REFERRED_TO != 0;
    let most = figure("max_referenced")?;
    let limit = (is_limited && most != NO_LIMIT && most != 0).then_some(most);
    Ok(SpaceUse { bytes, inodes: 0, limits: SpaceLimits { bytes: limit, inodes: None } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_are_as_long_as_the_kernel_s() {
        assert_eq!(size_of::<Named>(), 4096);
        assert_eq!(size_of::<Lookup>(), 4096);
        assert_eq!(size_of::<Information>(), 1024);
        assert_eq!(size_of::<Limit>(), 48);
    }

    #[test]
    fn what_is_no_btrfs_has_no_subvolumes() {
        let proc = std::fs::File::open("/proc/self").unwrap();
        assert!(!is_btrfs(&proc) && !is_subvolume(&proc) && !keeps_subvolume_limits(&proc));
        assert!(make_subvolume(&proc, OsStr::new("x")).is_err());
        assert!(limit_subvolume(&proc, None).is_err());
        assert!(subvolume_use(&proc).is_err());
        assert!(make_subvolume(&proc, OsStr::new("a/b")).is_err());
    }
}
