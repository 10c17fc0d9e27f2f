//! Running a program in a running container: `exec`, `enter`, and the scripts of a reinstall.
//!
//! Our own code, not the runtime library's: that one does not join the user namespace, so that what it starts is the host's real root. Here a child
//! joins *every* namespace of init through one pidfd, takes init's ids, capabilities and seccomp filter and its control groups, and only then
//! executes. A test compares each of these with init's.

mod ask;
mod join;
mod program;
mod relay;
mod terminal;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use linux::{Child, Exit};
use store::{ContainerId, Prefix};

pub use ask::ask;
pub use join::{JOINING, join};
pub use program::{Interpreter, Program, Script};
pub use relay::{Alone, Beside, Line, Lines, Relay};
pub use terminal::RawTerminal;

use crate::cgroup::CgroupError;

/// What can go wrong before the program runs.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// The container does not run.
    #[error("it does not run")]
    NotRunning,
    /// The program is not there, or cannot be executed.
    #[error("{because}")]
    NotExecuted {
        /// Why, with the program's name.
        because: String,
        /// 127 when there is no such program, 126 when it cannot be executed: what a shell gives.
        code: i32,
    },
    /// A namespace could not be joined, or another step before that failed.
    #[error("cannot join it: {because}")]
    NotJoined {
        /// Which step, and what the kernel said.
        because: String,
    },
    /// It did not answer: it may be frozen.
    #[error("nothing could be executed in it within {} s", limit.as_secs())]
    Stuck {
        /// How long it was waited for.
        limit: Duration,
    },
    /// A control group said no.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// A descriptor, a fork.
    #[error("cannot prepare the execution")]
    Io(#[from] io::Error),
}

/// Where the program's standard streams go.
#[derive(Debug)]
pub enum Streams<'fd> {
    /// To these three descriptors; none may be a terminal of the host, which a hostile program could type into.
    Descriptors([BorrowedFd<'fd>; 3]),
    /// To a new pseudo-terminal of the container's own, whose other side comes back. Its window is as large as that of this terminal
    /// before the program can ask.
    Terminal(BorrowedFd<'fd>),
}

/// What to run.
#[derive(Debug)]
pub struct Request<'a> {
    /// The program.
    pub program: Program,
    /// Its whole environment.
    pub environment: Vec<(String, String)>,
    /// Its standard streams.
    pub streams: Streams<'a>,
}

/// A program that runs in a container.
#[derive(Debug)]
pub struct Running {
    child: Child,
    /// The other side of its terminal.
    pub terminal: Option<OwnedFd>,
}

impl Running {
    /// The process, seen from the host.
    pub fn child(&self) -> &Child {
        &self.child
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// As in waitid(2).
    pub fn wait(&self) -> io::Result<Exit> {
        self.child.wait()
    }
}

/// The environment that everything executed in a container starts with.
pub fn environment() -> Vec<(String, String)> {
    [("HOME", "/"), ("PATH", crate::spec::PATH), ("SHELL", "/bin/sh")]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

/// Starts a program in a container that runs.
///
/// # Errors
/// [`ExecError`].
pub fn execute(prefix: &Prefix, id: &ContainerId, request: &Request<'_>) -> Result<Running, ExecError> {
    execute_within(prefix, id, request, JOINING)
}

/// As [`execute`]; it has to be joined within `limit`.
///
/// # Errors
/// [`ExecError`].
pub fn execute_within(
    prefix: &Prefix,
    id: &ContainerId,
    request: &Request<'_>,
    limit: Duration,
) -> Result<Running, ExecError> {
    let state = crate::state::running(prefix, id).ok_or(ExecError::NotRunning)?;
    let (child, terminal) = join(prefix, id, &state, request, limit.min(JOINING))?;
    Ok(Running { child, terminal })
}

/// `/dev/null` of the host, for a program that is to read nothing: a device without a filesystem behind it.
///
/// # Errors
/// As in open(2).
pub fn null() -> io::Result<OwnedFd> {
    Ok(std::fs::OpenOptions::new().read(true).write(true).open("/dev/null")?.into())
}

/// One of these descriptors is a terminal.
pub fn is_terminal(descriptor: impl AsFd) -> bool {
    rustix::termios::isatty(descriptor)
}
