//! Threads that are something else than the process: by their filesystem ids, or by what they have given up.

use std::io;

use rustix::thread::{CapabilitiesSecureBits, capabilities_secure_bits, set_capabilities_secure_bits};

/// Runs `work` on a thread whose filesystem user and group are `first`, as [`take_filesystem_ids`] has it. The thread ends with the call, and its
/// credentials with it.
///
/// # Errors
/// What the kernel says of the secure bits; `work`'s own error is in its result.
pub fn with_filesystem_ids<T: Send>(first: u32, work: impl FnOnce() -> T + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("ids".into()).spawn_scoped(scope, || {
            take_filesystem_ids(first)?;
            Ok(work())
        })?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Makes `first` the filesystem user and group of this thread, which keeps all its capabilities.
///
/// Files made through an idmapped mount take their owner from these ids: with the host's 0, which such a mount does not map, creating fails
/// with `EOVERFLOW`, and overlayfs, that makes its work directory with the mounter's credentials, silently goes read-only.
///
/// The kernel clears the file capabilities of a thread whose fsuid leaves 0, unless `SECBIT_NO_SETUID_FIXUP` is set (capabilities(7)).
///
/// # Errors
/// What the kernel says of the secure bits.
pub fn take_filesystem_ids(first: u32) -> io::Result<()> {
    let bits = capabilities_secure_bits()?;
    set_capabilities_secure_bits(bits | CapabilitiesSecureBits::NO_SETUID_FIXUP)?;
    // SAFETY: both take a number and change the calling thread alone; they have no failure, only an old value.
    unsafe {
        libc::setfsgid(first);
        libc::setfsuid(first);
    }
    Ok(())
}

/// Runs `work` on a thread of its own, and waits for it: what that thread gives up for itself (capabilities, files, system calls) this one keeps.
///
/// # Errors
/// When there can be no thread.
pub fn on_a_thread_of_its_own<T>(work: impl FnOnce() -> T) -> io::Result<T> {
    /// What is used by one thread at a time.
    struct Lent<T>(T);
    // SAFETY: `Send` guards against two threads that use one thing at the same time. Here this thread does nothing until the other one has ended, which
    // `join` waits for and orders before all that follows; so no more than one of them uses anything of `work` or of its result at any time. Nothing that
    // is handed over may depend on which thread it is: the callers, which are in this workspace, give plain values, `Rc`s and `RefCell`s, of which no third
    // thread has any, since this process has no third thread.
    unsafe impl<T> Send for Lent<T> {}
    impl<T> Lent<T> {
        // A method, so that a closure takes the whole of it and not its field.
        fn back(self) -> T {
            self.0
        }
    }
    let work = Lent(work);
    // A heap of its own would be grown a page at a time.
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes two numbers, and says so if it cannot; what was allocated already stays as it is.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
    // On one processor: with two, each later change of this process's memory would interrupt the other one, too, for as long as it lives (measured: twice
    // the cost of all that is given up). Where that cannot be had, on a machine of thousands of them, it is done without.
    let everywhere = rustix::thread::sched_getaffinity(None)
        .ok()
        .filter(|_| rustix::thread::sched_getcpu() < rustix::thread::CpuSet::MAX_CPU);
    if everywhere.is_some() {
        let mut here = rustix::thread::CpuSet::new();
        here.set(rustix::thread::sched_getcpu());
        let _ = rustix::thread::sched_setaffinity(None, &here);
    }
    let done = std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("confined".into())
            .spawn_scoped(scope, move || Lent(work.back()()))?;
        Ok(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)).back())
    });
    if let Some(everywhere) = everywhere {
        let _ = rustix::thread::sched_setaffinity(None, &everywhere);
    }
    done
}
