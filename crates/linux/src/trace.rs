//! A child that stops before and after each of its system calls: ptrace(2), as much of it as a test of crashes needs.
//!
//! Only the thread that has spawned a child can ask about it. Children of a traced process are not traced, unless that is asked for; its threads are.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::Exit;

/// What is followed beside the threads of a traced process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Follow {
    /// Children, which stop when they are there.
    pub children: bool,
    /// The execution of another program.
    pub executions: bool,
}

/// Why a traced process or thread has stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Before a system call or after it; [`traced_call`] tells.
    Call,
    /// It has made a thread or a child, which stops too.
    Made(i32),
    /// It has executed a program.
    Executed,
    /// A signal is about to be delivered; hand it on to [`resume_traced`].
    Signal(i32),
    /// It is no more.
    Ended(Exit),
}

/// A system call of a stopped process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TracedCall {
    /// It is about to be made.
    Entry {
        /// As in `asm/unistd.h`.
        number: u64,
        /// As given.
        arguments: [u64; 6],
    },
    /// It has been made.
    Exit {
        /// What it returned; `-errno` for an error.
        result: i64,
    },
}

/// How a stopped process goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// To the next end of a system call.
    NextCall,
    /// To the next event or signal.
    NextEvent,
}

/// Starts `command` traced by this thread; returns its process id when it has executed the program and stands still.
///
/// It dies with this thread.
///
/// # Errors
/// As in fork(2), execve(2), ptrace(2).
pub fn spawn_traced(command: &mut Command, follow: Follow) -> io::Result<i32> {
    // SAFETY: between fork and exec the closure makes one system call, on plain numbers, and allocates nothing.
    unsafe {
        command.pre_exec(|| {
            let none = std::ptr::null_mut::<libc::c_void>();
            match libc::ptrace(libc::PTRACE_TRACEME, 0, none, none) {
                -1 => Err(io::Error::last_os_error()),
                _ => Ok(()),
            }
        });
    }
    let pid = command.spawn()?.id() as i32;
    loop {
        match wait_traced()? {
            // What execve(2) sends to a traced process.
            (stopped, Stop::Signal(libc::SIGTRAP)) if stopped == pid => break,
            (stopped, Stop::Signal(signal)) if stopped == pid => {
                resume_traced(pid, Until::NextEvent, signal)?
            }
            (ended, Stop::Ended(_)) if ended == pid => {
                return Err(io::Error::other("it ended before it was executed"));
            }
            _ => {}
        }
    }
    set_traced_options(pid, follow)?;
    Ok(pid)
}

/// What is followed from now on; of its threads always. That it was killed meanwhile is no error.
///
/// # Errors
/// As in ptrace(2).
pub fn set_traced_options(pid: i32, follow: Follow) -> io::Result<()> {
    let mut options = libc::PTRACE_O_TRACESYSGOOD | libc::PTRACE_O_EXITKILL | libc::PTRACE_O_TRACECLONE;
    if follow.children {
        options |= libc::PTRACE_O_TRACEFORK | libc::PTRACE_O_TRACEVFORK;
    }
    if follow.executions {
        options |= libc::PTRACE_O_TRACEEXEC;
    }
    forgive_dead(request(libc::PTRACE_SETOPTIONS, pid, 0, options as usize))
}

/// Waits until a process or thread that this thread traces stops or ends.
///
/// # Errors
/// As in waitpid(2).
pub fn wait_traced() -> io::Result<(i32, Stop)> {
    let mut status: libc::c_int = 0;
    let pid = loop {
        // SAFETY: `status` lives through the call, which writes nothing else.
        let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::__WALL | libc::__WNOTHREAD) };
        if pid > 0 {
            break pid;
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    };
    if libc::WIFEXITED(status) {
        return Ok((pid, Stop::Ended(Exit::Code(libc::WEXITSTATUS(status)))));
    }
    if libc::WIFSIGNALED(status) {
        return Ok((pid, Stop::Ended(Exit::Signal(libc::WTERMSIG(status)))));
    }
    let stop = match (libc::WSTOPSIG(status), status >> 16) {
        (signal, 0) if signal == libc::SIGTRAP | 0x80 => Stop::Call,
        (signal, 0) => Stop::Signal(signal),
        (_, libc::PTRACE_EVENT_EXEC) => Stop::Executed,
        (_, libc::PTRACE_EVENT_CLONE | libc::PTRACE_EVENT_FORK | libc::PTRACE_EVENT_VFORK) => {
            let mut made: libc::c_ulong = 0;
            // It may have been killed meanwhile: then its end comes next, and nobody needs the number.
            let _ = request(libc::PTRACE_GETEVENTMSG, pid, 0, &raw mut made as usize);
            Stop::Made(made as i32)
        }
        (signal, _) => Stop::Signal(signal),
    };
    Ok((pid, stop))
}

/// Lets a stopped process go on; `signal` is delivered to it, 0 is none. That it was killed meanwhile is no error.
///
/// # Errors
/// As in ptrace(2).
pub fn resume_traced(pid: i32, until: Until, signal: i32) -> io::Result<()> {
    let how = match until {
        Until::NextCall => libc::PTRACE_SYSCALL,
        Until::NextEvent => libc::PTRACE_CONT,
    };
    forgive_dead(request(how, pid, 0, signal as usize))
}

/// Lets a stopped process go on, traced no more. That it was killed meanwhile is no error.
///
/// # Errors
/// As in ptrace(2).
pub fn detach_traced(pid: i32) -> io::Result<()> {
    forgive_dead(request(libc::PTRACE_DETACH, pid, 0, 0))
}

/// The system call that a process has stopped at.
///
/// # Errors
/// As in ptrace(2); `ESRCH` when it was killed meanwhile.
pub fn traced_call(pid: i32) -> io::Result<TracedCall> {
    // SAFETY: plain numbers, for which zero is valid.
    let mut found: libc::ptrace_syscall_info = unsafe { std::mem::zeroed() };
    request(
        libc::PTRACE_GET_SYSCALL_INFO,
        pid,
        size_of::<libc::ptrace_syscall_info>(),
        &raw mut found as usize,
    )?;
    match found.op {
        libc::PTRACE_SYSCALL_INFO_ENTRY => {
            // SAFETY: `op` says that this member of the union was filled in.
            let entry = unsafe { found.u.entry };
            Ok(TracedCall::Entry { number: entry.nr, arguments: entry.args })
        }
        libc::PTRACE_SYSCALL_INFO_EXIT => {
            // SAFETY: as above.
            let exit = unsafe { found.u.exit };
            Ok(TracedCall::Exit { result: exit.sval })
        }
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// At the entry of a system call: it is not made. At its exit: it has returned `result`. That the process was killed meanwhile is no error.
///
/// # Errors
/// As in ptrace(2); `Unsupported` on other processors than x86-64.
#[cfg(target_arch = "x86_64")]
pub fn forge_traced_call(pid: i32, result: Option<i64>) -> io::Result<()> {
    // SAFETY: plain numbers, for which zero is valid.
    let mut registers: libc::user_regs_struct = unsafe { std::mem::zeroed() };
    match request(libc::PTRACE_GETREGS, pid, 0, &raw mut registers as usize) {
        Ok(_) => {}
        dead => return forgive_dead(dead),
    }
    match result {
        None => registers.orig_rax = u64::MAX,
        Some(result) => registers.rax = result.cast_unsigned(),
    }
    forgive_dead(request(libc::PTRACE_SETREGS, pid, 0, &raw mut registers as usize))
}

/// See the other one.
///
/// # Errors
/// Always.
#[cfg(not(target_arch = "x86_64"))]
pub fn forge_traced_call(_pid: i32, _result: Option<i64>) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

fn request(what: libc::c_uint, pid: i32, address: usize, data: usize) -> io::Result<libc::c_long> {
    // SAFETY: the kernel refuses a `pid` that this thread does not trace. Where `data` is an address it is that of a live local of the caller,
    // as large as the request says; ptrace(2) writes nothing else of this process.
    let result = unsafe { libc::ptrace(what, pid, address as *mut libc::c_void, data as *mut libc::c_void) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn forgive_dead(result: io::Result<libc::c_long>) -> io::Result<()> {
    match result {
        Err(error) if error.raw_os_error() != Some(libc::ESRCH) => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs `true`, and has `at_call` look at every system call; returns how it ended.
    fn run_true(mut at_call: impl FnMut(i32, TracedCall)) -> Exit {
        let pid = spawn_traced(&mut Command::new("true"), Follow::default()).unwrap();
        resume_traced(pid, Until::NextCall, 0).unwrap();
        loop {
            let (stopped, stop) = wait_traced().unwrap();
            assert_eq!(stopped, pid);
            match stop {
                Stop::Ended(exit) => return exit,
                Stop::Call => at_call(pid, traced_call(pid).unwrap()),
                Stop::Made(_) | Stop::Executed | Stop::Signal(_) => {}
            }
            resume_traced(pid, Until::NextCall, 0).unwrap();
        }
    }

    #[test]
    fn every_call_has_an_entry_and_an_exit() {
        let (mut entries, mut exits) = (0, 0);
        let exit = run_true(|_, call| match call {
            TracedCall::Entry { .. } => entries += 1,
            TracedCall::Exit { .. } => exits += 1,
        });
        assert_eq!(exit, Exit::Code(0));
        // The last one, exit_group(2), does not return.
        assert_eq!(entries, exits + 1);
        assert!(exits > 3, "{exits}");
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn a_forged_exit_code_is_what_its_parent_sees() {
        let mut is_forged = false;
        let exit = run_true(|pid, call| {
            if let TracedCall::Entry { number, .. } = call
                && number == libc::SYS_exit_group as u64
                && !is_forged
            {
                is_forged = true;
                // Not made, it returns: the C library tries exit(2) next, which ends it all the same.
                forge_traced_call(pid, None).unwrap();
            }
        });
        assert!(is_forged);
        assert!(matches!(exit, Exit::Code(_) | Exit::Signal(_)), "{exit:?}");
    }
}
