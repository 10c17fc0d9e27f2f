//! One run of a command, stopped at each system call that changes anything.
//!
//! ```text
//! us ── traces ──> prlctl ──> vps.reinstall, vps.configure    not traced: they run as ever
//!                    └──────> reroot-monitor ──> init          traced in place of prlctl when it is the victim
//! ```
//!
//! Whoever is called at a stop says what happens next: it goes on, the process is killed, or the call fails. No process but the victim's own
//! threads is ever slowed down, so what a container or a script does is what it always does.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use linux::{
    Exit, Follow, Stop, TracedCall, Until, detach_traced, forge_traced_call, resume_traced,
    set_traced_options, spawn_traced, traced_call, wait_traced,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::calls::{Known, changing};
use crate::naming;

/// A run that has not ended by then hangs.
pub const LONGEST: Duration = Duration::from_secs(120);

/// Which process is stopped at its calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Victim {
    /// The command.
    Command,
    /// The first monitor that it starts.
    Monitor,
}

/// At which calls a victim is stopped.
#[derive(Debug, Clone, Copy)]
pub struct Stops {
    /// The entry for a call that counts.
    pub at: fn(u64, &[u64; 6]) -> Option<&'static Known>,
    /// Also in what the victim forks, until that executes another program.
    pub in_forks: bool,
}

/// A stop.
#[derive(Debug)]
pub struct Seen<'a> {
    /// How many calls that change something have begun, this one included: from 1.
    pub index: u64,
    /// It has been made.
    pub is_after: bool,
    pid: i32,
    known: &'static Known,
    arguments: &'a [u64; 6],
}

impl Seen<'_> {
    /// A host in trouble may refuse it. Unmounting needs no memory and no space; what is busy then stays mounted on purpose, which a judge that knows
    /// nothing of the error takes for a leftover (docs/promises.md).
    pub fn can_fail(&self) -> bool {
        self.known.name != "SYS_umount2"
    }

    /// How it goes into a root by name, if it does.
    pub fn enters_a_root(&self, prefix: &Path) -> Option<String> {
        naming::enters_a_root(self.pid, self.known, self.arguments, prefix)
    }

    /// It has been made.
    pub fn is_after(&self) -> bool {
        self.is_after
    }

    /// The process that makes it.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// It is about to kill itself, as a fault point of the engine says.
    pub fn kills_itself(&self) -> bool {
        let itself = [i64::from(self.pid).cast_unsigned(), i64::from(libc::SIGKILL).cast_unsigned()];
        !self.is_after && self.known.name == "SYS_kill" && self.arguments[..2] == itself
    }

    /// The call, with its files.
    pub fn describe(&self) -> String {
        self.known.describe(self.pid, self.arguments)
    }
}

/// What happens at a stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Nothing.
    Go,
    /// The process gets a SIGKILL.
    Kill,
    /// Before a call: it is not made and returns this `errno`.
    Fail(i32),
}

/// What came of a run.
#[derive(Debug)]
pub struct Run {
    /// How the command ended.
    pub exit: Exit,
    /// How many calls that change something its victim has begun.
    pub calls: u64,
    /// What it said, stdout first.
    pub said: String,
    /// It did not end by itself.
    pub hangs: bool,
}

struct Thread {
    process: i32,
    role: Role,
    /// The call that it is in: its number among those that count, its arguments, the `errno` it is to return.
    inside: Option<(u64, &'static Known, [u64; 6], Option<i32>)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Victim,
    /// The command, when it is not the victim.
    Parent,
    /// A child of the command that has not said yet whether it is a monitor.
    Candidate,
}

/// Runs `command` to its end. `scratch` is a directory for its output.
///
/// # Errors
/// When it cannot be run or traced.
pub fn run(
    command: &mut Command,
    victim: Victim,
    scratch: &Path,
    at_call: &mut dyn FnMut(&Seen<'_>) -> Action,
) -> io::Result<Run> {
    run_stopped(command, victim, Stops { at: changing, in_forks: false }, scratch, at_call)
}

/// As [`run`], with other stops.
///
/// # Errors
/// When it cannot be run or traced.
pub fn run_stopped(
    command: &mut Command,
    victim: Victim,
    stops: Stops,
    scratch: &Path,
    at_call: &mut dyn FnMut(&Seen<'_>) -> Action,
) -> io::Result<Run> {
    let said = [scratch.join("stdout"), scratch.join("stderr")];
    // Files, not pipes: what the command leaves behind may hold them for long.
    command
        .stdin(Stdio::null())
        .stdout(std::fs::File::create(&said[0])?)
        .stderr(std::fs::File::create(&said[1])?);
    let follows = victim == Victim::Monitor || stops.in_forks;
    // One that is given a password executes itself anew.
    let leader = spawn_traced(command, Follow { children: follows, executions: true })?;
    let role = if victim == Victim::Command { Role::Victim } else { Role::Parent };
    let mut tracer = Tracer { leader, threads: HashMap::new(), calls: 0, victim, has_monitor: false, stops };
    tracer.threads.insert(leader, Thread { process: leader, role, inside: None });
    let watch = Watch::start(leader)?;
    tracer.resume(leader, 0)?;
    let exit = tracer.follow(at_call)?;
    let hangs = watch.stop();
    let said = said.map(|path| std::fs::read(path).unwrap_or_default());
    let said = said.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    Ok(Run { exit, calls: tracer.calls, said, hangs })
}

/// Traces it no more. A stop that [`Tracer::let_go`] has sent, and that it had not come to, would be its own then, for ever.
fn leave(pid: i32) -> io::Result<()> {
    let detached = detach_traced(pid);
    if let Some(process) = Pid::from_raw(pid) {
        let _ = rustix::process::kill_process(process, Signal::CONT);
    }
    detached
}

struct Tracer {
    stops: Stops,
    leader: i32,
    threads: HashMap<i32, Thread>,
    calls: u64,
    victim: Victim,
    has_monitor: bool,
}

impl Tracer {
    fn resume(&self, pid: i32, signal: i32) -> io::Result<()> {
        let is_victim = self.threads.get(&pid).is_some_and(|thread| thread.role == Role::Victim);
        resume_traced(pid, if is_victim { Until::NextCall } else { Until::NextEvent }, signal)
    }

    fn follow(&mut self, at_call: &mut dyn FnMut(&Seen<'_>) -> Action) -> io::Result<Exit> {
        let mut ended = None;
        loop {
            let (pid, stop) = wait_traced()?;
            match stop {
                Stop::Ended(exit) => {
                    self.threads.remove(&pid);
                    if pid == self.leader {
                        ended = Some(exit);
                        self.let_go();
                    }
                }
                Stop::Call => self.call(pid, at_call)?,
                Stop::Executed => self.executed(pid)?,
                Stop::Signal(signal) => self.signal(pid, signal, ended.is_some())?,
                Stop::Made(_) => self.resume(pid, 0)?,
            }
            if let Some(exit) = ended
                && self.threads.is_empty()
            {
                return Ok(exit);
            }
        }
    }

    /// The command has ended: what is left is traced no more, as soon as it stands still.
    fn let_go(&mut self) {
        for (&pid, thread) in &self.threads {
            if let (Some(pid), Some(process)) = (Pid::from_raw(pid), Pid::from_raw(thread.process))
                && pid == process
            {
                let _ = rustix::process::kill_process(pid, Signal::STOP);
            }
        }
    }

    fn signal(&mut self, pid: i32, signal: i32, has_ended: bool) -> io::Result<()> {
        if has_ended {
            // Ours, or one that comes at the same moment and is handed on.
            let own = libc::SIGSTOP;
            if self.threads.remove(&pid).is_some() && signal != own {
                // The stop that is still to come would be its own then.
                if let Some(process) = Pid::from_raw(pid) {
                    let _ = rustix::process::kill_process(process, Signal::CONT);
                }
            }
            return leave(pid);
        }
        if self.threads.contains_key(&pid) {
            return self.resume(pid, signal);
        }
        // The first stop of something new.
        let Some((process, parent)) = relatives(pid) else { return detach_traced(pid) };
        let is_victim = |pid: i32| self.threads.get(&pid).is_some_and(|thread| thread.role == Role::Victim);
        let role = if is_victim(process) || self.stops.in_forks && is_victim(parent) {
            Role::Victim
        } else if self.victim == Victim::Monitor && parent == self.leader && !self.has_monitor {
            set_traced_options(pid, Follow { children: false, executions: true })?;
            Role::Candidate
        } else {
            return detach_traced(pid);
        };
        self.threads.insert(pid, Thread { process, role, inside: None });
        self.resume(pid, 0)
    }

    fn executed(&mut self, pid: i32) -> io::Result<()> {
        let Some(thread) = self.threads.get_mut(&pid) else { return leave(pid) };
        if thread.role == Role::Candidate {
            let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let is_monitor = words.split(|&byte| byte == 0).next() == Some(runtime::monitor::NAME.as_bytes());
            if !is_monitor || self.has_monitor {
                self.threads.remove(&pid);
                return leave(pid);
            }
            self.has_monitor = true;
            thread.role = Role::Victim;
            set_traced_options(
                pid,
                Follow { children: self.stops.in_forks, executions: self.stops.in_forks },
            )?;
        } else if self.stops.in_forks && pid != self.leader {
            self.threads.remove(&pid);
            return leave(pid);
        }
        self.resume(pid, 0)
    }

    fn call(&mut self, pid: i32, at_call: &mut dyn FnMut(&Seen<'_>) -> Action) -> io::Result<()> {
        let Some(thread) = self.threads.get_mut(&pid) else { return detach_traced(pid) };
        let process = thread.process;
        let found = match traced_call(pid) {
            Ok(found) => found,
            // Killed while it stood here, by the watch or by somebody else: its end comes next.
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return Ok(()),
            Err(error) => return Err(error),
        };
        let action = match found {
            TracedCall::Entry { number, arguments } => match (self.stops.at)(number, &arguments) {
                None => Action::Go,
                Some(known) => {
                    self.calls += 1;
                    thread.inside = Some((self.calls, known, arguments, None));
                    at_call(&Seen { index: self.calls, is_after: false, pid, known, arguments: &arguments })
                }
            },
            TracedCall::Exit { .. } => match thread.inside.take() {
                Some((_, _, _, Some(errno))) => {
                    forge_traced_call(pid, Some(-i64::from(errno)))?;
                    Action::Go
                }
                Some((index, known, arguments, None)) => {
                    at_call(&Seen { index, is_after: true, pid, known, arguments: &arguments })
                }
                None => Action::Go,
            },
        };
        match action {
            Action::Go => {}
            Action::Kill => {
                if let Some(process) = Pid::from_raw(process) {
                    let _ = rustix::process::kill_process(process, Signal::KILL);
                }
            }
            Action::Fail(errno) => {
                forge_traced_call(pid, None)?;
                if let Some(inside) = self.threads.get_mut(&pid).and_then(|thread| thread.inside.as_mut()) {
                    inside.3 = Some(errno);
                }
            }
        }
        self.resume(pid, 0)
    }
}

/// The process of a thread, and that one's parent.
fn relatives(pid: i32) -> Option<(i32, i32)> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let field = |name: &str| {
        status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')?.trim().parse().ok())
    };
    Some((field("Tgid")?, field("PPid")?))
}

/// Kills the command when it takes too long.
struct Watch {
    thread: std::thread::JoinHandle<bool>,
    bell: std::os::fd::OwnedFd,
}

impl Watch {
    fn start(pid: i32) -> io::Result<Watch> {
        let raw = Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidInput)?;
        let pidfd = pidfd_open(raw, PidfdFlags::empty())?;
        let (hears, bell) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        let deadline = Instant::now() + LONGEST;
        let thread = std::thread::spawn(move || {
            loop {
                let rest = deadline.saturating_duration_since(Instant::now());
                let timeout = Timespec { tv_sec: rest.as_secs() as i64, tv_nsec: rest.subsec_nanos().into() };
                match poll(&mut [PollFd::new(&hears, PollFlags::IN)], Some(&timeout)) {
                    Err(rustix::io::Errno::INTR) => {}
                    Ok(0) => {
                        let _ = pidfd_send_signal(&pidfd, Signal::KILL);
                        return true;
                    }
                    // The other end was closed.
                    Ok(_) | Err(_) => return false,
                }
            }
        });
        Ok(Watch { thread, bell })
    }

    /// True when it had to be killed.
    fn stop(self) -> bool {
        drop(self.bell);
        self.thread.join().unwrap_or(false)
    }
}
