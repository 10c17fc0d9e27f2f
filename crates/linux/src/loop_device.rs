//! A file as a block device, loop(4), which is gone with its last user.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};

/// `linux/loop.h`
const LOOP_CONFIGURE: libc::c_ulong = 0x4C0A;
const LOOP_GET_STATUS64: libc::c_ulong = 0x4C05;
const LOOP_SET_CAPACITY: libc::c_ulong = 0x4C07;
const LOOP_CTL_GET_FREE: libc::c_ulong = 0x4C82;
const AUTOCLEAR: u32 = 4;
/// What is written is not held in memory twice. Where the filesystem below has no direct I/O, the kernel does without.
const DIRECT_IO: u32 = 16;
/// Somebody else may take the one that was free.
const TRIES: u32 = 64;

/// `struct loop_info64` of linux/loop.h.
#[repr(C)]
#[derive(Clone, Copy)]
struct Information {
    device: u64,
    inode: u64,
    raw_device: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// `struct loop_config` of linux/loop.h.
#[repr(C)]
struct Configuration {
    file: u32,
    block_size: u32,
    information: Information,
    reserved: [u64; 8],
}

const NOTHING: Information = Information {
    device: 0,
    inode: 0,
    raw_device: 0,
    offset: 0,
    size_limit: 0,
    number: 0,
    encrypt_type: 0,
    encrypt_key_size: 0,
    flags: 0,
    file_name: [0; 64],
    crypt_name: [0; 64],
    encrypt_key: [0; 32],
    init: [0; 2],
};

/// A device that is attached. It stays as long as this, or anybody who has opened or mounted it.
#[derive(Debug)]
pub struct LoopDevice {
    file: File,
    path: PathBuf,
}

impl LoopDevice {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Has the kernel look again at how large the file is.
    ///
    /// # Errors
    /// As in loop(4).
    pub fn follow_size(&self) -> io::Result<()> {
        // SAFETY: takes no argument.
        let result = unsafe { libc::ioctl(self.file.as_raw_fd(), LOOP_SET_CAPACITY as _, 0) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

impl AsFd for LoopDevice {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Makes a device of `length` bytes of `file`, which is open for writing, from `offset` on; both are whole sectors. However this process ends, nothing of it stays.
/// Needs Linux 5.8.
///
/// # Errors
/// As in loop(4).
pub fn attach_loop(file: &File, offset: u64, length: u64) -> io::Result<LoopDevice> {
    attach(file, Information { offset, size_limit: length, flags: AUTOCLEAR, ..NOTHING })
}

/// The same of all of a file, however large it becomes, and directly.
///
/// # Errors
/// As in loop(4).
pub fn attach_whole(file: &File) -> io::Result<LoopDevice> {
    attach(file, Information { flags: AUTOCLEAR | DIRECT_IO, ..NOTHING })
}

fn attach(file: &File, information: Information) -> io::Result<LoopDevice> {
    let control = File::options().read(true).write(true).open("/dev/loop-control")?;
    let mut last = io::Error::from(io::ErrorKind::ResourceBusy);
    for _ in 0..TRIES {
        // SAFETY: takes no argument, and returns a number.
        let number = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE as _) };
        if number < 0 {
            return Err(io::Error::last_os_error());
        }
        let path = PathBuf::from(format!("/dev/loop{number}"));
        let device = File::options().read(true).write(true).open(&path)?;
        let file = u32::try_from(file.as_raw_fd()).map_err(io::Error::other)?;
        let configuration = Configuration { file, block_size: 0, information, reserved: [0; 8] };
        // SAFETY: the kernel reads one structure of that layout, which outlives the call, and takes a reference of its own on the file.
        let result = unsafe {
            libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE as _, std::ptr::from_ref(&configuration))
        };
        if result == 0 {
            return Ok(LoopDevice { file: device, path });
        }
        last = io::Error::last_os_error();
        if last.raw_os_error() != Some(libc::EBUSY) {
            break;
        }
    }
    Err(last)
}

/// The device of the file with this device number and inode, if it has one.
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
        if let Some(found) = open_of(&name, device, inode)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// Whether the device with this number, on which a filesystem is mounted, is one of the file with this device number and inode: without a look at any other.
///
/// # Errors
/// When it cannot be opened.
pub fn is_loop_of(number: u64, device: u64, inode: u64) -> io::Result<bool> {
    let entry = format!("/sys/dev/block/{}:{}", libc::major(number), libc::minor(number));
    let Ok(entry) = std::fs::canonicalize(entry) else { return Ok(false) };
    match entry.file_name() {
        Some(name) if entry.join("loop").exists() => Ok(open_of(name, device, inode)?.is_some()),
        Some(_) | None => Ok(false),
    }
}

fn open_of(name: &OsStr, device: u64, inode: u64) -> io::Result<Option<LoopDevice>> {
    let path = Path::new("/dev").join(name);
    let file = match File::options().read(true).write(true).open(&path) {
        Ok(file) => file,
        // It is nobody's any more.
        Err(error) if error.raw_os_error() == Some(libc::ENXIO) => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut found = NOTHING;
    // SAFETY: the kernel writes one structure of that layout, which outlives the call.
    let result =
        unsafe { libc::ioctl(file.as_raw_fd(), LOOP_GET_STATUS64 as _, std::ptr::from_mut(&mut found)) };
    // Not the name that it was attached by: that is of somebody's namespace, and may be another file's by now.
    let is_it = result == 0 && (found.device, found.inode) == (device, inode);
    Ok(is_it.then_some(LoopDevice { file, path }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_structures_are_as_large_as_the_kernels() {
        assert_eq!(size_of::<Information>(), 232);
        assert_eq!(size_of::<Configuration>(), 304);
    }
}
