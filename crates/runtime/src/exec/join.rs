//! Becoming a process of a container.
//!
//! ```text
//! prlctl ── clone into the container's cgroup ──> visitor: v1 cgroups, setns(everything)
//!                                                  └─ clone(CLONE_PARENT), now in the pid namespace ──> the program, a child of prlctl
//! ```
//!
//! From the moment in which the container's processes can see the new one it is not dumpable: they cannot trace it, nor open its `exe`,
//! `cwd` or descriptors.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use linux::{CLONE_PARENT, Child, close_on_exec_from, default_signals, exit_now, fork, unblock_signals};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{DumpableBehavior, Gid, Uid, set_dumpable_behavior};
use rustix::thread::{
    CapabilitySet, CapabilitySets, ThreadNameSpaceType, capability_is_in_bounding_set,
    clear_ambient_capability_set, move_into_thread_name_spaces, remove_capability_from_bounding_set,
    set_capabilities, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};
use store::{ContainerId, Prefix};

use super::terminal::{copy_window_size, open_in_container};
use super::{ExecError, Request, Streams};
use crate::cgroup::Cgroups;
use crate::monitor::describe;
use crate::state::RuntimeState;

/// How long joining may take, unless the caller has less time. Without end it would be if the container has frozen its own control group.
pub const JOINING: Duration = Duration::from_secs(30);

/// Starts `request` in the container whose init `state` tells of, which may take as long as `limit`. The calling process has one thread.
///
/// # Errors
/// [`ExecError`].
pub fn join(
    prefix: &Prefix,
    id: &ContainerId,
    state: &RuntimeState,
    request: &Request<'_>,
    limit: Duration,
) -> Result<(Child, Option<OwnedFd>), ExecError> {
    let init = state.init.open()?.ok_or(ExecError::NotRunning)?;
    let cgroups = Cgroups::of(prefix, id)?;
    let group = cgroups.exec_group(state.ids.first)?;
    let (report, reporter) =
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(io::Error::from)?;
    let (terminal, theirs) = rustix::net::socketpair(
        rustix::net::AddressFamily::UNIX,
        rustix::net::SocketType::SEQPACKET,
        rustix::net::SocketFlags::CLOEXEC,
        None,
    )
    .map_err(io::Error::from)?;

    let visitor = fork(0, Some(group.as_fd()), || {
        let step = |what: &str, error: &dyn std::error::Error| {
            tell(&reporter, &format!("J{what}: {}\n", describe(error)));
            1
        };
        if let Err(error) = cgroups.enter_legacy() {
            return step("control groups", &error);
        }
        if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
            return step("dumpable", &error);
        }
        if let Err(error) = move_into_thread_name_spaces(init.as_fd(), every_namespace()) {
            return step("namespaces", &error);
        }
        let program = fork(CLONE_PARENT, None, || {
            let (letter, because, code) = match become_program(request, theirs.as_fd(), state.nests) {
                Ok(()) => {
                    let (because, code) = request.program.execute(&request.environment);
                    ('X', because, code)
                }
                Err(because) => ('J', because, 125),
            };
            tell(&reporter, &format!("{letter}{code} {because}\n"));
            exit_now(code)
        });
        match program {
            Ok(program) => {
                tell(&reporter, &format!("P{}\n", program.pid()));
                0
            }
            Err(error) => step("fork", &error),
        }
    })?;
    drop(reporter);
    drop(theirs);

    let text = match read_until_closed(report, limit) {
        Ok(text) => text,
        Err(error) => {
            drop(visitor.end(limit));
            return Err(error);
        }
    };
    if visitor.wait_for(limit, None)?.is_none() {
        return Err(ExecError::Stuck { limit });
    }
    let pid = text.lines().find_map(|line| line.strip_prefix('P')?.parse::<i32>().ok());
    let child = pid.map(Child::of).transpose()?;
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix('X') {
            if let Some(child) = &child {
                child.wait_for(limit, None)?;
            }
            let (code, because) = rest.split_once(' ').unwrap_or(("126", rest));
            return Err(ExecError::NotExecuted {
                because: because.to_owned(),
                code: code.parse().unwrap_or(126),
            });
        }
        if let Some(because) = line.strip_prefix('J') {
            if let Some(child) = &child {
                child.wait_for(limit, None)?;
            }
            return Err(ExecError::NotJoined { because: because.trim_start_matches("125 ").to_owned() });
        }
    }
    let child =
        child.ok_or_else(|| ExecError::NotJoined { because: "the container ended meanwhile".to_owned() })?;
    let terminal = match request.streams {
        Streams::Descriptors(_) => None,
        Streams::Terminal(_) => crate::monitor::Channel::new(terminal).receive_descriptor()?,
    };
    Ok((child, terminal))
}

fn every_namespace() -> ThreadNameSpaceType {
    ThreadNameSpaceType::USER
        | ThreadNameSpaceType::MOUNT
        | ThreadNameSpaceType::PROCESS_ID
        | ThreadNameSpaceType::NETWORK
        | ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION
        | ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME
        | ThreadNameSpaceType::CONTROL_GROUP
}

/// In the container already: everything that init has, and nothing else.
fn become_program(request: &Request<'_>, terminal_to: BorrowedFd<'_>, nests: bool) -> Result<(), String> {
    let named = |what: &'static str| move |error: rustix::io::Errno| format!("{what}: {error}");
    rustix::process::setsid().map_err(named("session"))?;
    match &request.streams {
        Streams::Descriptors([input, output, error]) => {
            // Held above the standard three first: one of them may be among those it is about to replace.
            let high =
                |fd: &BorrowedFd<'_>| rustix::io::fcntl_dupfd_cloexec(fd, 10).map_err(named("streams"));
            let (input, output, error) = (high(input)?, high(output)?, high(error)?);
            rustix::stdio::dup2_stdin(&input).map_err(named("stdin"))?;
            rustix::stdio::dup2_stdout(&output).map_err(named("stdout"))?;
            rustix::stdio::dup2_stderr(&error).map_err(named("stderr"))?;
        }
        Streams::Terminal(like) => {
            let (outer, inner) = open_in_container().map_err(|error| format!("terminal: {error}"))?;
            // Here and not where the relay begins: by then the program may have asked, and been told 0 × 0.
            copy_window_size(like, &inner);
            crate::monitor::Channel::new(
                terminal_to.try_clone_to_owned().map_err(|error| error.to_string())?,
            )
            .send(&"terminal", &[outer.as_fd()])
            .map_err(|error| format!("terminal: {error}"))?;
            rustix::process::ioctl_tiocsctty(&inner).map_err(named("controlling terminal"))?;
            rustix::stdio::dup2_stdin(&inner).map_err(named("stdin"))?;
            rustix::stdio::dup2_stdout(&inner).map_err(named("stdout"))?;
            rustix::stdio::dup2_stderr(&inner).map_err(named("stderr"))?;
        }
    }
    drop(std::env::set_current_dir("/"));
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let (root, group) = (Uid::ROOT, Gid::ROOT);
    set_thread_groups(&[]).map_err(named("groups"))?;
    set_thread_res_gid(group, group, group).map_err(named("group"))?;
    set_thread_res_uid(root, root, root).map_err(named("user"))?;
    // Taking new ids has made it dumpable again for nobody in the container; once more, since prctl(2) says that it may.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(named("dumpable"))?;
    default_signals();
    unblock_signals();
    close_on_exec_from(3).map_err(|error| format!("descriptors: {error}"))?;
    limit_capabilities().map_err(named("capabilities"))?;
    if nests {
        // Keys of whoever has typed the command are not the container's to find.
        linux::take_new_session_keyring().map_err(|error| format!("keyring: {error}"))?;
    }
    let filter = crate::spec::seccomp(nests).map_err(|error| error.to_string())?;
    libcontainer::seccomp::initialize_seccomp(&filter)
        .map_err(|error| format!("seccomp: {}", describe(&error)))?;
    Ok(())
}

fn limit_capabilities() -> rustix::io::Result<()> {
    let mut kept = CapabilitySet::empty();
    for capability in crate::spec::capabilities() {
        let name = capability.to_string();
        let name = name.strip_prefix("CAP_").unwrap_or(&name);
        kept |= CapabilitySet::from_name(name).unwrap_or(CapabilitySet::empty());
    }
    for number in 0..64 {
        let Some(one) = CapabilitySet::from_bits(1 << number) else { break };
        // Numbers that this kernel does not know end the list.
        if !kept.contains(one) && capability_is_in_bounding_set(one).unwrap_or(false) {
            remove_capability_from_bounding_set(one)?;
        }
    }
    clear_ambient_capability_set()?;
    set_capabilities(
        None,
        CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() },
    )
}

fn tell(reporter: &OwnedFd, text: &str) {
    let _ = rustix::io::write(reporter, text.as_bytes());
}

/// All that comes until the last writer has gone: execution closes its end.
fn read_until_closed(pipe: OwnedFd, limit: Duration) -> Result<String, ExecError> {
    let deadline = std::time::Instant::now() + limit;
    let mut file = File::from(pipe);
    let mut text = Vec::new();
    loop {
        let rest = deadline.saturating_duration_since(std::time::Instant::now());
        let timeout = Timespec { tv_sec: rest.as_secs() as i64, tv_nsec: rest.subsec_nanos().into() };
        match poll(&mut [PollFd::new(&file, PollFlags::IN)], Some(&timeout)) {
            Ok(0) => return Err(ExecError::Stuck { limit }),
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(io::Error::from(error).into()),
        }
        let mut buffer = [0; 4096];
        let length = file.read(&mut buffer)?;
        if length == 0 {
            return Ok(String::from_utf8_lossy(&text).into_owned());
        }
        text.extend_from_slice(&buffer[..length]);
    }
}
