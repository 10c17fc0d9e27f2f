//! What a file descriptor can be told that rustix lacks.

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
