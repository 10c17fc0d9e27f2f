//! Loop devices, and what a mounted filesystem can be told that rustix lacks.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// `LOOP_CTL_GET_FREE`, `LOOP_CONFIGURE`, `LOOP_GET_STATUS64`, `LOOP_SET_CAPACITY` of linux/loop.h.
const GET_FREE: libc::c_ulong = 0x4C82;
const CONFIGURE: libc::c_ulong = 0x4C0A;
const GET_STATUS: libc::c_ulong = 0x4C05;
const SET_CAPACITY: libc::c_ulong = 0x4C07;
/// `_IOWR('X', 121, struct fstrim_range)` of linux/fs.h.
const FITRIM: libc::c_ulong = 0xC018_5879;
/// `_IOW('f', 16, __u64)` of fs/ext4/ext4.h.
const RESIZE_EXT4: libc::c_ulong = 0x4008_6610;
/// The device is nobody's again with its last user, so that a killed command leaves none.
const AUTOCLEAR: u32 = 4;
/// What is written is not held in memory twice. Where the filesystem below has no direct I/O, the kernel does without.
const DIRECT_IO: u32 = 16;
/// Others may take the device that was free a moment ago.
const ATTEMPTS: usize = 64;

/// `struct loop_info64` of linux/loop.h.
#[repr(C)]
#[derive(Clone, Copy)]
struct Status {
    device: u64,
    inode: u64,
    remote_device: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encryption: u32,
    key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    key: [u8; 32],
    init: [u64; 2],
}

/// `struct loop_config` of linux/loop.h.
#[repr(C)]
struct Configuration {
    descriptor: u32,
    block_size: u32,
    status: Status,
    reserved: [u64; 8],
}

const NOTHING: Status = Status {
    device: 0,
    inode: 0,
    remote_device: 0,
    offset: 0,
    size_limit: 0,
    number: 0,
    encryption: 0,
    key_size: 0,
    flags: 0,
    file_name: [0; 64],
    crypt_name: [0; 64],
    key: [0; 32],
    init: [0; 2],
};

/// A loop device that somebody has open, and with it the file behind it.
#[derive(Debug)]
pub struct LoopDevice {
    file: File,
    path: PathBuf,
}

impl LoopDevice {
    /// `/dev/loopN`.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Has the kernel look again at how large the file is.
    ///
    /// # Errors
    /// As in loop(4).
    pub fn follow_size(&self) -> io::Result<()> {
        // SAFETY: takes no argument.
        check(unsafe { libc::ioctl(self.file.as_raw_fd(), SET_CAPACITY as _, 0) }).map(drop)
    }
}

/// A loop device with this file behind it, until nobody has it open or mounted any more.
///
/// # Errors
/// As in loop(4); `ENOENT` where the kernel has no loop devices.
pub fn attach_loop(file: BorrowedFd<'_>) -> io::Result<LoopDevice> {
    let control = open(Path::new("/dev/loop-control"))?;
    for _ in 0..ATTEMPTS {
        // SAFETY: takes no argument.
        let number = check(unsafe { libc::ioctl(control.as_raw_fd(), GET_FREE as _, 0) })?;
        let path = PathBuf::from(format!("/dev/loop{number}"));
        let device = open(&path)?;
        let configuration = Configuration {
            descriptor: file.as_raw_fd() as u32,
            block_size: 0,
            status: Status { flags: AUTOCLEAR | DIRECT_IO, ..NOTHING },
            reserved: [0; 8],
        };
        // SAFETY: the kernel reads one structure, which this is, and which outlives the call.
        let done = check(unsafe {
            libc::ioctl(device.as_raw_fd(), CONFIGURE as _, std::ptr::from_ref(&configuration))
        });
        match done {
            Ok(_) => return Ok(LoopDevice { file: device, path }),
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::from_raw_os_error(libc::EBUSY))
}

/// The loop device that has the file with this device number and inode behind it, if there is one.
///
/// # Errors
/// When the devices of this host cannot be listed.
pub fn find_loop(device: u64, inode: u64) -> io::Result<Option<LoopDevice>> {
    for entry in std::fs::read_dir("/sys/block")?.flatten() {
        let name = entry.file_name();
        let is_used = name.to_string_lossy().starts_with("loop") && entry.path().join("loop").exists();
        if !is_used {
            continue;
        }
        let path = Path::new("/dev").join(name);
        let Ok(found) = open(&path) else { continue };
        let mut status = NOTHING;
        // SAFETY: the kernel writes one structure, which this is, and which outlives the call.
        let asked = check(unsafe {
            libc::ioctl(found.as_raw_fd(), GET_STATUS as _, std::ptr::from_mut(&mut status))
        });
        // Not the name that it was attached by: that is cut off, and of somebody's namespace.
        if asked.is_ok() && (status.device, status.inode) == (device, inode) {
            return Ok(Some(LoopDevice { file: found, path }));
        }
    }
    Ok(None)
}

/// Tells what lies below a mounted filesystem which of its blocks are free; returns how many bytes of them it has told.
///
/// # Errors
/// `EOPNOTSUPP` where nobody below wants to know.
pub fn trim(directory: impl AsFd) -> io::Result<u64> {
    // start, length, least
    let mut range: [u64; 3] = [0, u64::MAX, 0];
    let descriptor = directory.as_fd().as_raw_fd();
    // SAFETY: the kernel reads and writes three numbers, which these are, and which outlive the call.
    check(unsafe { libc::ioctl(descriptor, FITRIM as _, range.as_mut_ptr()) })?;
    Ok(range[1])
}

/// Has a mounted ext4 take this many blocks of its device.
///
/// # Errors
/// As the kernel says.
pub fn resize_ext4(directory: impl AsFd, blocks: u64) -> io::Result<()> {
    let descriptor = directory.as_fd().as_raw_fd();
    // SAFETY: the kernel reads one number, which outlives the call.
    check(unsafe { libc::ioctl(descriptor, RESIZE_EXT4 as _, std::ptr::from_ref(&blocks)) }).map(drop)
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).custom_flags(libc::O_CLOEXEC).open(path)
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_structures_are_as_large_as_the_kernels() {
        assert_eq!(size_of::<Status>(), 232);
        assert_eq!(size_of::<Configuration>(), 304);
    }
}
