//! What a container calls itself, changed while it runs.

use std::io;
use std::os::fd::BorrowedFd;

use rustix::system::sethostname;
use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};

/// Gives the container of the process behind `pidfd` another host name, by a thread that visits it.
///
/// # Errors
/// When the process has ended, or the kernel refuses.
pub fn set_hostname(pidfd: BorrowedFd<'_>, name: &str) -> io::Result<()> {
    std::thread::scope(|scope| {
        let visit = std::thread::Builder::new().spawn_scoped(scope, || {
            move_into_thread_name_spaces(pidfd, ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME)?;
            Ok(sethostname(name.as_bytes())?)
        })?;
        visit.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
