//! Children by pidfd: made, watched, killed, reaped.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{
    Pid, Resource, Rlimit, Signal, WaitId, WaitIdOptions, WaitOptions, getrlimit, pidfd_send_signal,
    setrlimit, wait, waitid,
};

/// For [`fork`]: the new process is its parent's sibling, so that whoever started the caller waits for it.
pub const CLONE_PARENT: u64 = libc::CLONE_PARENT as u64;
/// From linux/sched.h; the constant of `libc` overflows its type.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It called exit with this code.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
}

impl Exit {
    /// The code that a shell would give: 128 + n for a signal.
    pub fn shell_code(self) -> i32 {
        match self {
            Exit::Code(code) => code,
            Exit::Signal(signal) => 128 + signal,
        }
    }

    /// It exited with 0.
    pub fn is_success(self) -> bool {
        self == Exit::Code(0)
    }
}

/// From linux/ioprio.h, which `libc` has not.
const IOPRIO_WHO_PROCESS: libc::c_long = 1;
const IOPRIO_CLASS_IDLE: libc::c_long = 3;
const IOPRIO_CLASS_SHIFT: u32 = 13;

/// The calling thread's reads and writes wait for everybody else's, where the disk's scheduler knows of priorities.
///
/// # Errors
/// As in ioprio_set(2).
pub fn idle_io() -> io::Result<()> {
    // SAFETY: three numbers, no memory; 0 is the calling thread.
    let result = unsafe {
        let zero: libc::c_long = 0;
        libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, zero, IOPRIO_CLASS_IDLE << IOPRIO_CLASS_SHIFT)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A child of this process; one that is dropped goes on.
#[derive(Debug)]
pub struct Child {
    pid: i32,
    pidfd: OwnedFd,
}

impl Child {
    /// A child of this process that another process has made for it.
    ///
    /// # Errors
    /// As in pidfd_open(2).
    pub fn of(pid: i32) -> io::Result<Child> {
        let raw = Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidInput)?;
        let pidfd = rustix::process::pidfd_open(raw, rustix::process::PidfdFlags::empty())?;
        Ok(Child { pid, pidfd })
    }

    /// Its process id, as this process sees it.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Readable when it has ended.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Kills it; that it is dead already is no error.
    ///
    /// # Errors
    /// As in pidfd_send_signal(2).
    pub fn kill(&self) -> io::Result<()> {
        self.signal(Signal::KILL)
    }

    /// Sends it a signal; that it is dead already is no error.
    ///
    /// # Errors
    /// As in pidfd_send_signal(2).
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        match pidfd_send_signal(&self.pidfd, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits for its end and reaps it.
    ///
    /// # Errors
    /// As in waitid(2).
    pub fn wait(&self) -> io::Result<Exit> {
        loop {
            match waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED) {
                Ok(Some(status)) => {
                    return Ok(match (status.exit_status(), status.terminating_signal()) {
                        (Some(code), _) => Exit::Code(code),
                        (None, signal) => Exit::Signal(signal.unwrap_or(0)),
                    });
                }
                Ok(None) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Kills it and waits at most `limit` for its end; `None` when that has passed: what is frozen, or in a disk that does not answer, dies later.
    ///
    /// # Errors
    /// As in pidfd_send_signal(2), and then it is not waited for; as in waitid(2).
    pub fn end(&self, limit: Duration) -> io::Result<Option<Exit>> {
        self.kill()?;
        self.wait_for(limit, None)
    }

    /// Waits at most `limit` for its end; `None` when that has passed.
    ///
    /// # Errors
    /// [`io::ErrorKind::Interrupted`] when `interrupt` has become readable before; as in poll(2) and waitid(2).
    pub fn wait_for(&self, limit: Duration, interrupt: Option<BorrowedFd<'_>>) -> io::Result<Option<Exit>> {
        let deadline = Instant::now() + limit;
        loop {
            let rest = deadline.saturating_duration_since(Instant::now());
            let timeout = Timespec { tv_sec: rest.as_secs() as i64, tv_nsec: rest.subsec_nanos().into() };
            let mut polled = vec![PollFd::new(&self.pidfd, PollFlags::IN)];
            polled.extend(interrupt.map(|one| PollFd::from_borrowed_fd(one, PollFlags::IN)));
            match poll(&mut polled, Some(&timeout)) {
                Ok(0) => return Ok(None),
                Ok(_) if polled[0].revents().is_empty() => return Err(io::ErrorKind::Interrupted.into()),
                Ok(_) => return self.wait().map(Some),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Reaps one child that has ended, whichever; `None` when none has.
///
/// # Errors
/// As in waitpid(2); that there are no children is `None`.
pub fn reap_any() -> io::Result<Option<(i32, Exit)>> {
    match wait(WaitOptions::NOHANG) {
        Ok(Some((pid, status))) => {
            let exit = match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => Exit::Code(code),
                (None, signal) => Exit::Signal(signal.unwrap_or(0)),
            };
            Ok(Some((pid.as_raw_nonzero().get(), exit)))
        }
        Ok(None) | Err(rustix::io::Errno::CHILD) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Makes a child that runs `work` and exits with what it returns; `flags` are further `CLONE_*` bits (namespaces), `cgroup` is a directory
/// of the v2 tree that it is born in.
///
/// The caller's process must have one thread, since the child goes on in a copy of its memory in which other threads, and the locks that
/// they held, stand still. The commands and the monitor keep to that: threads are joined before.
///
/// # Errors
/// As in clone3(2).
pub fn fork(flags: u64, cgroup: Option<BorrowedFd<'_>>, work: impl FnOnce() -> i32) -> io::Result<Child> {
    let mut pidfd: libc::c_int = -1;
    // SAFETY: `clone_args` is plain numbers, for which zero is valid.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = flags | libc::CLONE_PIDFD as u64;
    arguments.pidfd = &raw mut pidfd as u64;
    if flags & CLONE_PARENT == 0 {
        // With CLONE_PARENT the kernel takes the caller's own, and refuses a value.
        arguments.exit_signal = libc::SIGCHLD as u64;
    }
    if let Some(cgroup) = cgroup {
        arguments.flags |= CLONE_INTO_CGROUP;
        arguments.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: without CLONE_VM the child has a copy of everything and goes on on a copy of this stack, as after fork(2); the arguments
    // and `pidfd` live through the call.
    let result =
        unsafe { libc::syscall(libc::SYS_clone3, &raw const arguments, size_of::<libc::clone_args>()) };
    match result {
        0 => {
            let code = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).unwrap_or(127);
            exit_now(code)
        }
        pid if pid > 0 => {
            // SAFETY: with CLONE_PIDFD the kernel has stored a new descriptor there, which is ours alone.
            Ok(Child { pid: pid as i32, pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) } })
        }
        _ => Err(io::Error::last_os_error()),
    }
}

/// Ends this process at once: no destructors, no buffers flushed. For a child of [`fork`], whose buffers are its parent's.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit(2) takes a number and does not return.
    unsafe { libc::_exit(code) }
}

/// Watches a process that `std` has started.
///
/// # Errors
/// As in pidfd_open(2).
pub fn spawn(command: &mut std::process::Command) -> io::Result<Child> {
    let child = command.spawn()?;
    Child::of(child.id() as i32)
}

/// How many files a process may have open unless it asks for more, and how many it may ask for: what a systemd gives its services.
const OPEN_FILES: (u64, u64) = (1024, 524_288);
/// The stack of a main thread, as the kernel gives it.
const STACK: u64 = 8 << 20;

/// Gives this process, and what it starts, the limits that a host's services have, whoever has called it and with which. Where there is no
/// privilege to raise one (CAP_SYS_RESOURCE), it is as high as it may be.
pub fn lift_limits() {
    let all = [Resource::Cpu, Resource::Fsize, Resource::Data, Resource::Rss, Resource::As, Resource::Nproc];
    for resource in all.into_iter().chain([Resource::Locks, Resource::Rttime]) {
        lift(resource, None, None);
    }
    lift(Resource::Stack, Some(STACK), None);
    lift(Resource::Nofile, Some(OPEN_FILES.0), Some(OPEN_FILES.1));
}

fn lift(resource: Resource, current: Option<u64>, maximum: Option<u64>) {
    if setrlimit(resource, Rlimit { current, maximum }).is_err() {
        let maximum = getrlimit(resource).maximum;
        // None is without end, not less than anything.
        let current = [current, maximum].into_iter().flatten().min();
        let _ = setrlimit(resource, Rlimit { current, maximum });
    }
}

/// Marks every descriptor from `first` up close-on-exec: nothing of the host reaches what is executed in a container.
///
/// # Errors
/// As in close_range(2).
pub fn close_on_exec_from(first: u32) -> io::Result<()> {
    // SAFETY: takes numbers; with CLOSE_RANGE_CLOEXEC nothing is closed here, so no descriptor in use goes away.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Takes over a descriptor that the process which executed this one left open for it, close-on-exec from now on.
///
/// # Errors
/// When there is no such descriptor, or it is one of the standard three.
pub fn inherited_descriptor(number: i32) -> io::Result<OwnedFd> {
    // SAFETY: takes numbers; for one that is not open the call fails without effect.
    if number < 3 || unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: it is open, as the call before has shown, and was named to this process, which calls this once for it, before it opens anything.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Closes every descriptor but the standard three, which become `/dev/null`. As [`close_all_but`].
pub fn close_all() {
    close_all_but(2);
}

/// Closes every descriptor but the standard three, which become `/dev/null`, and `kept`. For a child of [`fork`] that must hold nothing of its
/// parent's.
pub fn close_all_but(kept: i32) {
    // SAFETY: takes numbers. What is closed belongs to this copy of the process alone, which uses none of it afterwards: whoever calls this
    // goes on with `kept` only.
    unsafe {
        let null = libc::open(c"/dev/null".as_ptr(), libc::O_RDWR);
        for standard in 0..3 {
            libc::dup2(null, standard);
        }
        if kept > 3 {
            libc::syscall(libc::SYS_close_range, 3, kept - 1, 0);
        }
        libc::syscall(libc::SYS_close_range, kept.max(2) + 1, u32::MAX, 0);
    }
}

/// Closes every descriptor from 3 up but `kept`, whoever in this process believes to have it: for one that goes on with those alone, and ends with
/// [`exit_now`].
pub fn close_others(kept: &[BorrowedFd<'_>]) {
    let mut kept: Vec<u32> = kept.iter().filter_map(|fd| u32::try_from(fd.as_raw_fd()).ok()).collect();
    kept.sort_unstable();
    let mut first = 3;
    for number in kept.into_iter().chain([u32::MAX]) {
        if number > first {
            let last = if number == u32::MAX { number } else { number - 1 };
            // SAFETY: takes numbers. The owners of what is closed are never used or dropped again, since whoever calls this goes on with `kept`
            // and ends without destructors.
            unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
        }
        first = first.max(number.saturating_add(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes_become_idle_and_only_this_threads() {
        let class = || {
            let zero: libc::c_long = 0;
            // SAFETY: two numbers, no memory.
            unsafe { libc::syscall(libc::SYS_ioprio_get, IOPRIO_WHO_PROCESS, zero) >> IOPRIO_CLASS_SHIFT }
        };
        std::thread::spawn(move || {
            idle_io().unwrap();
            assert_eq!(class(), IOPRIO_CLASS_IDLE);
        })
        .join()
        .unwrap();
        assert_ne!(class(), IOPRIO_CLASS_IDLE);
    }
}
