//! A user namespace that exists only to describe an id map.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;

use crate::process::fork;

/// A user namespace in which ids `0..count` are the host's `first..first+count`, for [`crate::MountAttributes::id_map`].
///
/// A namespace lives as long as a descriptor of it: the process that made it is gone when this returns.
///
/// # Errors
/// What the kernel says of the clone, of the maps (needs the privilege over all these ids) or of `/proc`.
pub fn user_namespace(first: u32, count: u32) -> io::Result<OwnedFd> {
    let (wait, go_on) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let child = fork(libc::CLONE_NEWUSER as u64, None, || {
        // The parent's end is a copy here too: without dropping it the read would never end.
        drop(go_on);
        let _ = rustix::io::read(&wait, &mut [0u8; 1]);
        0
    })?;
    let map = format!("0 {first} {count}\n");
    let directory = format!("/proc/{}", child.pid());
    let result = (|| {
        File::options().write(true).open(format!("{directory}/uid_map"))?.write_all(map.as_bytes())?;
        File::options().write(true).open(format!("{directory}/gid_map"))?.write_all(map.as_bytes())?;
        Ok(OwnedFd::from(File::open(format!("{directory}/ns/user"))?))
    })();
    // One that was refused once is tried again: who is left has everything open that we have, a disk's mount among it.
    child.kill().or_else(|_| child.kill())?;
    child.wait()?;
    result
}
