//! What a file descriptor can be told that rustix lacks.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use rustix::io::Errno;

/// Has the kernel begin to write a file's dirty pages, and does not wait: nothing is durable yet.
///
/// # Errors
/// As in sync_file_range(2).
pub fn begin_writing(file: impl AsFd) -> Result<(), Errno> {
    let descriptor = file.as_fd().as_raw_fd();
    // SAFETY: takes numbers; a length of 0 is to the end of the file.
    let result = unsafe { libc::sync_file_range(descriptor, 0, 0, libc::SYNC_FILE_RANGE_WRITE) };
    if result == 0 {
        Ok(())
    } else {
        Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO))
    }
}

/// `struct file_dedupe_range` of linux/fs.h, with one destination.
#[repr(C)]
struct Range {
    source_offset: u64,
    source_length: u64,
    destinations: u16,
    reserved: [u16; 3],
    destination: i64,
    destination_offset: u64,
    done: u64,
    status: i32,
    reserved_too: u32,
}

/// `_IOWR(0x94, 54, struct file_dedupe_range)`: its size is that of what stands before the destinations.
const FIDEDUPERANGE: libc::c_ulong = 0xc018_9436;
/// What the kernel says of contents that differ: FILE_DEDUPE_RANGE_DIFFERS.
const DIFFERS: i32 = 1;

/// Has `to` take the blocks of `from` for as many of these bytes as are the same in both, which the kernel sees to; returns how many: 0 where they
/// differ.
///
/// # Errors
/// As in ioctl_fideduperange(2): `EOPNOTSUPP` and its like where the filesystem shares none.
pub fn share_blocks(from: impl AsFd, to: impl AsFd, offset: u64, length: u64) -> Result<u64, Errno> {
    let mut range = Range {
        source_offset: offset,
        source_length: length,
        destinations: 1,
        reserved: [0; 3],
        destination: to.as_fd().as_raw_fd().into(),
        destination_offset: offset,
        done: 0,
        status: 0,
        reserved_too: 0,
    };
    let descriptor = from.as_fd().as_raw_fd();
    // SAFETY: the kernel reads and writes one structure with one destination, which this is, and which outlives the call.
    let result = unsafe { libc::ioctl(descriptor, FIDEDUPERANGE as _, std::ptr::from_mut(&mut range)) };
    if result != 0 {
        return Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO));
    }
    match range.status {
        0 => Ok(range.done),
        DIFFERS => Ok(0),
        error => Err(Errno::from_raw_os_error(-error)),
    }
}

/// `_IOWR('X', 121, struct fstrim_range)` of linux/fs.h.
const FITRIM: libc::c_ulong = 0xC018_5879;
/// `_IOW('f', 16, __u64)` of fs/ext4/ext4.h.
const RESIZE_EXT4: libc::c_ulong = 0x4008_6610;

/// Tells what lies below a mounted filesystem which of its blocks are free; returns how many bytes of them it has told.
///
/// # Errors
/// `EOPNOTSUPP` where nobody below wants to know.
pub fn trim(directory: impl AsFd) -> io::Result<u64> {
    // start, length, least
    let mut range: [u64; 3] = [0, u64::MAX, 0];
    let descriptor = directory.as_fd().as_raw_fd();
    // SAFETY: the kernel reads and writes three numbers, which these are, and which outlive the call.
    let result = unsafe { libc::ioctl(descriptor, FITRIM as _, range.as_mut_ptr()) };
    if result == 0 { Ok(range[1]) } else { Err(io::Error::last_os_error()) }
}

/// Has a mounted ext4 take this many blocks of its device.
///
/// # Errors
/// As the kernel says.
pub fn resize_ext4(directory: impl AsFd, blocks: u64) -> io::Result<()> {
    let descriptor = directory.as_fd().as_raw_fd();
    // SAFETY: the kernel reads one number, which outlives the call.
    let result = unsafe { libc::ioctl(descriptor, RESIZE_EXT4 as _, std::ptr::from_ref(&blocks)) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
