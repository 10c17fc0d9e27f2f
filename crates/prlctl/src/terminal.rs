//! `exec` and `enter`: which stream of the caller goes where.
//!
//! A terminal of the host is never given to a container, which could type into it (TIOCSTI) after the command has ended: a program that is to have
//! one gets a new one of the container's, relayed; where only some streams are terminals, those go through pipes. Pipes and files are passed on
//! as they are.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use engine::error::system;
use engine::{Code, Failure, Result};
use runtime::exec::{self, ExecError, Program, RawTerminal, Relay, Request, Streams};
use store::{ContainerId, Lock, Prefix};

/// Runs a program in a container with this process's streams; returns the code to exit with. `lock` is held until the program runs.
///
/// # Errors
/// When it could not be run.
pub fn run(prefix: &Prefix, id: &ContainerId, name: &str, program: Program, lock: Lock) -> Result<u8> {
    let (input, output) = (std::io::stdin(), std::io::stdout());
    let is_interactive = exec::is_terminal(&input) && exec::is_terminal(&output);
    let result = if is_interactive {
        with_terminal(prefix, id, program, lock)
    } else {
        with_streams(prefix, id, program, lock)
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
        ExecError::NotJoined { .. } => system(format!("cannot execute in `{name}`"), &error)
            .state(format!("`{name}` runs, and nothing was executed in it"))
            .hint(format!("it may be at its limit of processes or memory: `prlctl list -i {name}` tells both")),
        ExecError::Stuck { .. } | ExecError::Cgroup(_) | ExecError::Io(_) => {
            system(format!("cannot execute in `{name}`"), &error)
        }
    }
}

fn with_terminal(
    prefix: &Prefix,
    id: &ContainerId,
    program: Program,
    lock: Lock,
) -> std::result::Result<u8, ExecError> {
    let mut environment = exec::environment();
    environment.push(("TERM".to_owned(), std::env::var("TERM").unwrap_or_else(|_| "linux".to_owned())));
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
    lock: Lock,
) -> std::result::Result<u8, ExecError> {
    let mut relay = Relay::new()?;
    let (input, output, error) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    let mut own: [Option<OwnedFd>; 3] = [None, None, None];
    let streams = [input.as_fd(), output.as_fd(), error.as_fd()];
    for (index, stream) in streams.iter().enumerate() {
        if !exec::is_terminal(stream) {
            continue;
        }
        let (reading, writing) =
            rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(std::io::Error::from)?;
        let terminal = stream.try_clone_to_owned()?;
        if index == 0 {
            relay.input(terminal, writing);
            own[index] = Some(reading);
        } else {
            relay.output(reading, terminal);
            own[index] = Some(writing);
        }
    }
    let given: [BorrowedFd<'_>; 3] =
        std::array::from_fn(|index| own[index].as_ref().map_or(streams[index], OwnedFd::as_fd));
    let request = Request { program, environment: exec::environment(), streams: Streams::Descriptors(given) };
    let running = exec::execute(prefix, id, &request)?;
    drop(own);
    drop(lock);
    Ok(code(relay.run(running.child())?))
}

fn code(exit: linux::Exit) -> u8 {
    u8::try_from(exit.shell_code()).unwrap_or(u8::MAX)
}
