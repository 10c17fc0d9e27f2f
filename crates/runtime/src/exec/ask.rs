//! Asking a program in a container something, of which only what it says first is wanted.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use store::{ContainerId, Prefix};

use super::{ExecError, Lines, Program, Request, Streams, environment, execute_within, null};

/// So much of an answer is kept: whoever answers may be hostile, and say more and more.
const LONGEST_ANSWER: usize = 16 * 1024;
/// How long the program may take to die of SIGKILL.
const KILLING: Duration = Duration::from_secs(5);

/// Runs `words` in a container, and returns what it has written to stdout within `limit`, line by line. Nothing of an answer is to be trusted.
///
/// # Errors
/// [`ExecError`]; [`ExecError::Stuck`] when it has not ended in time; an interrupt is [`std::io::ErrorKind::Interrupted`].
pub fn ask(
    prefix: &Prefix,
    id: &ContainerId,
    words: &[&str],
    limit: Duration,
    interrupt: Option<BorrowedFd<'_>>,
) -> Result<Vec<Vec<u8>>, ExecError> {
    let deadline = Instant::now() + limit;
    let (output, written) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
        .map_err(|error| ExecError::Io(error.into()))?;
    let null = null()?;
    let request = Request {
        program: Program::Arguments(words.iter().map(Into::into).collect()),
        environment: environment(),
        streams: Streams::Descriptors([null.as_fd(), written.as_fd(), null.as_fd()]),
    };
    let running = execute_within(prefix, id, &request, limit)?;
    drop(written);
    let (mut lines, mut bytes) = (Vec::new(), 0);
    let rest = deadline.saturating_duration_since(Instant::now());
    let exit =
        Lines::new(output).until_end(running.child(), rest, interrupt, &mut super::Alone, &mut |line| {
            bytes += line.len() + 1;
            if bytes <= LONGEST_ANSWER {
                lines.push(line.to_vec());
            }
        });
    if !matches!(exit, Ok(Some(_))) {
        let _ = running.child().end(KILLING);
    }
    match exit? {
        Some(_) => Ok(lines),
        None => Err(ExecError::Stuck { limit }),
    }
}
