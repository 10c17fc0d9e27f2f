//! Project quotas: a filesystem counts what lies below a directory, and gives it an end. ext4 and xfs have them, where they were made and mounted for it.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use crate::counted::{SpaceLimits, SpaceUse};

/// `linux/fs.h`
const FS_IOC_FSGETXATTR: libc::c_ulong = 0x801C_581F;
const FS_IOC_FSSETXATTR: libc::c_ulong = 0x401C_5820;
/// What is made in the directory is of its project too; and statfs(2) there tells of the project.
const INHERITED: u32 = 0x200;
/// `linux/quota.h` and `linux/dqblk_xfs.h`
const PROJECT: u32 = 2;
const GET_QUOTA: u32 = 0x0080_0007;
const SET_QUOTA: u32 = 0x0080_0008;
const GET_STATE: u32 = 0x5808;
const STATE_VERSION: i8 = 1;
const LIMITS_ARE_KEPT: u16 = 1 << 5;
const BOTH_LIMITS: u32 = 1 | 4;
/// Limits are counted in these, in bytes.
const BLOCK: u64 = 1024;

/// `struct fsxattr`.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    flags: u32,
    extent_size: u32,
    extents: u32,
    project: u32,
    copy_extent_size: u32,
    padding: [u8; 8],
}

/// `struct if_dqblk`.
#[repr(C)]
#[derive(Default)]
struct Quota {
    hard_blocks: u64,
    soft_blocks: u64,
    bytes: u64,
    hard_inodes: u64,
    soft_inodes: u64,
    inodes: u64,
    block_time: u64,
    inode_time: u64,
    valid: u32,
}

/// `struct fs_quota_statv`.
#[repr(C)]
#[derive(Default)]
struct State {
    version: i8,
    padding: u8,
    flags: u16,
    in_core: u32,
    files: [[u64; 3]; 3],
    time_limits: [i32; 3],
    warnings: [u16; 4],
    more_padding: u32,
    reserved: [u64; 7],
}

fn attributes(of: impl AsFd) -> io::Result<Attributes> {
    let mut found = Attributes::default();
    // SAFETY: the kernel writes one structure of that layout, which outlives the call.
    let result = unsafe {
        libc::ioctl(of.as_fd().as_raw_fd(), FS_IOC_FSGETXATTR as _, std::ptr::from_mut(&mut found))
    };
    if result == 0 { Ok(found) } else { Err(io::Error::last_os_error()) }
}

/// The project that what is made in this directory is of, if any.
///
/// # Errors
/// Where the filesystem has no projects.
pub fn project_below(directory: impl AsFd) -> io::Result<Option<u32>> {
    let found = attributes(directory)?;
    Ok((found.flags & INHERITED != 0 && found.project != 0).then_some(found.project))
}

/// Has this directory, and what is made in it from now on, be of the project. What is in it already is not.
///
/// # Errors
/// Where the filesystem has no projects.
pub fn begin_project(directory: impl AsFd, project: u32) -> io::Result<()> {
    let directory = directory.as_fd();
    let found = attributes(directory)?;
    let wanted = Attributes { flags: found.flags | INHERITED, project, ..found };
    // SAFETY: the kernel reads one structure of that layout, which outlives the call.
    let result =
        unsafe { libc::ioctl(directory.as_raw_fd(), FS_IOC_FSSETXATTR as _, std::ptr::from_ref(&wanted)) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// # Safety
/// `what` points to the structure of that command.
// SAFETY: of one that is only called from here, with the structure of its command, which outlives the call.
unsafe fn quota_call<T>(on: impl AsFd, command: u32, project: u32, what: *mut T) -> io::Result<()> {
    let command = command << 8 | PROJECT;
    // SAFETY: a descriptor, two numbers, and a structure as the caller says.
    let result = unsafe {
        libc::syscall(libc::SYS_quotactl_fd, on.as_fd().as_raw_fd(), command, project, what.cast::<u8>())
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Whether the filesystem keeps limits of projects.
pub fn keeps_project_limits(on: impl AsFd) -> bool {
    let mut found = State { version: STATE_VERSION, ..State::default() };
    // SAFETY: the kernel writes one structure of that layout and version, which outlives the call.
    let asked = unsafe { quota_call(on, GET_STATE, 0, std::ptr::from_mut(&mut found)) };
    asked.is_ok() && found.flags & LIMITS_ARE_KEPT != 0
}

/// Gives a project an end. One that has more already gets no more.
///
/// # Errors
/// As in quotactl(2).
pub fn limit_project(on: impl AsFd, project: u32, limits: &SpaceLimits) -> io::Result<()> {
    // 0 is none; one that is smaller than a block is not none.
    let blocks = limits.bytes.map_or(0, |bytes| bytes.div_ceil(BLOCK).max(1));
    let inodes = limits.inodes.map_or(0, |inodes| inodes.max(1));
    let mut wanted = Quota {
        hard_blocks: blocks,
        soft_blocks: blocks,
        hard_inodes: inodes,
        soft_inodes: inodes,
        valid: BOTH_LIMITS,
        ..Quota::default()
    };
    // SAFETY: the kernel reads one structure of that layout, which outlives the call.
    unsafe { quota_call(on, SET_QUOTA, project, std::ptr::from_mut(&mut wanted)) }
}

/// What is counted of a project, and how much of it there may be.
///
/// # Errors
/// As in quotactl(2).
pub fn project_use(on: impl AsFd, project: u32) -> io::Result<SpaceUse> {
    let mut found = Quota::default();
    // SAFETY: the kernel writes one structure of that layout, which outlives the call.
    unsafe { quota_call(on, GET_QUOTA, project, std::ptr::from_mut(&mut found)) }?;
    let some = |limit: u64| (limit != 0).then_some(limit);
    Ok(SpaceUse {
        bytes: found.bytes,
        inodes: found.inodes,
        limits: SpaceLimits {
            bytes: some(found.hard_blocks).map(|blocks| blocks.saturating_mul(BLOCK)),
            inodes: some(found.hard_inodes),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_are_as_long_as_the_kernel_s() {
        assert_eq!(size_of::<Attributes>(), 28);
        assert_eq!(size_of::<Quota>(), 72);
        assert_eq!(size_of::<State>(), 160);
    }

    #[test]
    fn what_has_no_projects_keeps_no_limits() {
        let proc = std::fs::File::open("/proc/self").unwrap();
        assert!(!keeps_project_limits(&proc));
        assert!(project_below(&proc).is_err());
        assert!(begin_project(&proc, 7).is_err());
        assert!(limit_project(&proc, 7, &SpaceLimits::default()).is_err());
        assert!(project_use(&proc, 7).is_err());
    }
}
