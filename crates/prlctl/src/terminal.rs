//! `exec` and `enter`: which stream of the caller goes where.
//!
//! A terminal of the host is never given to a container, which could type into it (TIOCSTI) after the command has ended: a program that is to have
//! one gets a new one of the container's, relayed. What else is no pipe goes through one: with a file of the host's, say a log that the caller appends
//! to, a program could do what it likes, and by a directory it could go anywhere. Pipes are passed on as they are, and so is a file that can only be read.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use engine::error::system;
use engine::{Code, Failure, Result};
use runtime::exec::{self, ExecError, Program, RawTerminal, Relay, Request, Streams};
use rustix::fs::{FileType, OFlags, fcntl_getfl, fstat, makedev};
use store::{ContainerId, Lock, Prefix};

/// Runs a program in a container with this process's streams; returns the code to exit with. `besides` is what it has in its environment beside what
/// everything has; `lock` is held until the program runs.
///
/// # Errors
/// When it could not be run.
pub fn run(
    prefix: &Prefix,
    id: &ContainerId,
    name: &str,
    program: Program,
    besides: Vec<(String, String)>,
    lock: Lock,
) -> Result<u8> {
    let (input, output) = (std::io::stdin(), std::io::stdout());
    let is_interactive = exec::is_terminal(&input) && exec::is_terminal(&output);
    let result = if is_interactive {
        with_terminal(prefix, id, program, besides, lock)
    } else {
        with_streams(prefix, id, program, besides, lock)
    };
    result.map_err(|error| failure(error, name))
}

fn failure(error: ExecError, name: &str) -> Failure {
    match &error {
        ExecError::NotRunning => Failure::new(Code::NotRunning, format!("cannot execute in `{name}`"))
            .because("it does not run")
            .unchanged()
            .hint(format!("prlctl start {name}")),
        ExecError::NotExecuted { because, .. } => {
            Failure::new(Code::ExecFailed, format!("cannot execute in `{name}`"))
                .because(because.clone())
                .state(format!("`{name}` runs, and nothing was executed in it"))
                .hint(format!(
                "if its programs are gone, `prlctl reinstall {name}` gives it a new root and keeps every file at /old"
            ))
        }
        // Where its control group is full, older kernels say so of the process itself (EAGAIN).
        ExecError::Io(source) if source.kind() == std::io::ErrorKind::WouldBlock => full(&error, name),
        ExecError::NotJoined { .. } => full(&error, name),
        ExecError::Stuck { .. } | ExecError::Cgroup(_) | ExecError::Io(_) => {
            system(format!("cannot execute in `{name}`"), &error)
        }
    }
}

fn full(error: &ExecError, name: &str) -> Failure {
    system(format!("cannot execute in `{name}`"), error)
        .state(format!("`{name}` runs, and nothing was executed in it"))
        .hint(format!("it may be at its limit of processes or memory: `prlctl list -i {name}` tells both"))
}

fn with_terminal(
    prefix: &Prefix,
    id: &ContainerId,
    program: Program,
    besides: Vec<(String, String)>,
    lock: Lock,
) -> std::result::Result<u8, ExecError> {
    let mut environment = exec::environment();
    environment.push(("TERM".to_owned(), std::env::var("TERM").unwrap_or_else(|_| "linux".to_owned())));
    environment.extend(besides);
    let mut relay = Relay::new()?;
    let (input, output) = (std::io::stdin(), std::io::stdout());
    let streams = Streams::Terminal(input.as_fd());
    let running = exec::execute(prefix, id, &Request { program, environment, streams })?;
    drop(lock);
    if let Some(terminal) = &running.terminal {
        relay.follow_window(input.as_fd().try_clone_to_owned()?, terminal.try_clone()?);
        relay.input(input.as_fd().try_clone_to_owned()?, terminal.try_clone()?);
        relay.output(terminal.try_clone()?, output.as_fd().try_clone_to_owned()?);
    }
    let raw = RawTerminal::new(&input)?;
    let exit = relay.run(running.child());
    drop(raw);
    Ok(code(exit?))
}

fn with_streams(
    prefix: &Prefix,
    id: &ContainerId,
    program: Program,
    besides: Vec<(String, String)>,
    lock: Lock,
) -> std::result::Result<u8, ExecError> {
    let mut relay = Relay::new()?;
    let (input, output, error) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    let mut own: [Option<OwnedFd>; 3] = [None, None, None];
    let streams = [input.as_fd(), output.as_fd(), error.as_fd()];
    for (index, stream) in streams.iter().enumerate() {
        if is_harmless(*stream) {
            continue;
        }
        // Lines of both stay in their order.
        if let (2, Some(both)) = (index, &own[1])
            && is_same(streams[1], streams[2])
        {
            own[2] = Some(both.try_clone()?);
            continue;
        }
        let (reading, writing) =
            rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(std::io::Error::from)?;
        let ours = stream.try_clone_to_owned()?;
        if index == 0 {
            relay.input(ours, writing);
            own[index] = Some(reading);
        } else {
            relay.output(reading, ours);
            own[index] = Some(writing);
        }
    }
    let given: [BorrowedFd<'_>; 3] =
        std::array::from_fn(|index| own[index].as_ref().map_or(streams[index], OwnedFd::as_fd));
    let environment = exec::environment().into_iter().chain(besides).collect();
    let request = Request { program, environment, streams: Streams::Descriptors(given) };
    let running = exec::execute(prefix, id, &request)?;
    drop(own);
    drop(lock);
    Ok(code(relay.run(running.child())?))
}

/// There is nothing that could be done with it but to read and write what goes through it.
fn is_harmless(stream: BorrowedFd<'_>) -> bool {
    let Ok(found) = fstat(stream) else { return false };
    match FileType::from_raw_mode(found.st_mode) {
        FileType::Fifo => true,
        // `/dev/null`.
        FileType::CharacterDevice => found.st_rdev == makedev(1, 3),
        FileType::RegularFile => {
            fcntl_getfl(stream).is_ok_and(|flags| !flags.intersects(OFlags::WRONLY | OFlags::RDWR))
        }
        FileType::Directory
        | FileType::Symlink
        | FileType::Socket
        | FileType::BlockDevice
        | FileType::Unknown => false,
    }
}

fn is_same(one: BorrowedFd<'_>, other: BorrowedFd<'_>) -> bool {
    let of = |stream| fstat(stream).map(|found| (found.st_dev, found.st_ino, found.st_rdev));
    matches!((of(one), of(other)), (Ok(one), Ok(other)) if one == other)
}

fn code(exit: linux::Exit) -> u8 {
    u8::try_from(exit.shell_code()).unwrap_or(u8::MAX)
}
