//! Filesystem ids of one thread.

use std::io;

use rustix::thread::{CapabilitiesSecureBits, capabilities_secure_bits, set_capabilities_secure_bits};

/// Runs `work` on a thread whose filesystem user and group are `first`, and which keeps all its capabilities.
///
/// Files made through an idmapped mount take their owner from these ids: with the host's 0, which such a mount does not map, creating fails
/// with `EOVERFLOW`, and overlayfs, that makes its work directory with the mounter's credentials, silently goes read-only.
///
/// The kernel clears the file capabilities of a thread whose fsuid leaves 0, unless `SECBIT_NO_SETUID_FIXUP` is set (capabilities(7)). The
/// thread ends with the call, and its credentials with it.
///
/// # Errors
/// What the kernel says of the secure bits; `work`'s own error is in its result.
pub fn with_filesystem_ids<T: Send>(first: u32, work: impl FnOnce() -> T + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("ids".into()).spawn_scoped(scope, || {
            let bits = capabilities_secure_bits()?;
            set_capabilities_secure_bits(bits | CapabilitiesSecureBits::NO_SETUID_FIXUP)?;
            // SAFETY: both take a number and change the calling thread alone; they have no failure, only an old value.
            unsafe {
                libc::setfsgid(first);
                libc::setfsuid(first);
            }
            Ok(work())
        })?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
