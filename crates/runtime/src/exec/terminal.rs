//! Terminals: a new one of the container's, and the administrator's own while it is relayed to that.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, fstat, fstatfs, major, minor, open};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};

const DEVPTS_MAGIC: i64 = 0x1cd1;

/// A pseudo-terminal of the devpts of the container that this process is in: its outer and its inner side.
///
/// The path is the container's, and it may have put anything there: what is opened must be the multiplexer of a devpts, and the inner side
/// is asked of the outer one, not looked up by a name.
///
/// # Errors
/// When there is no such terminal.
pub fn open_in_container() -> io::Result<(OwnedFd, OwnedFd)> {
    let outer = open(
        "/dev/pts/ptmx",
        OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC | OFlags::NONBLOCK,
        Mode::empty(),
    )?;
    let found = fstat(&outer)?;
    let is_multiplexer = FileType::from_raw_mode(found.st_mode) == FileType::CharacterDevice
        && (major(found.st_rdev), minor(found.st_rdev)) == (5, 2)
        && fstatfs(&outer)?.f_type as i64 == DEVPTS_MAGIC;
    if !is_multiplexer {
        return Err(io::Error::other("/dev/pts/ptmx of the container is no terminal multiplexer"));
    }
    let flags = rustix::fs::fcntl_getfl(&outer)?;
    rustix::fs::fcntl_setfl(&outer, flags - OFlags::NONBLOCK)?;
    unlockpt(&outer)?;
    let inner = ioctl_tiocgptpeer(&outer, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    Ok((outer, inner))
}

/// The administrator's terminal, raw while this lives.
#[derive(Debug)]
pub struct RawTerminal {
    terminal: OwnedFd,
    before: Termios,
}

impl RawTerminal {
    /// Makes the terminal raw.
    ///
    /// # Errors
    /// As in tcsetattr(3).
    pub fn new(terminal: impl AsFd) -> io::Result<RawTerminal> {
        let before = tcgetattr(&terminal)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(&terminal, OptionalActions::Drain, &raw)?;
        Ok(RawTerminal { terminal: terminal.as_fd().try_clone_to_owned()?, before })
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        let _ = tcsetattr(&self.terminal, OptionalActions::Drain, &self.before);
    }
}

/// Gives `to` the window size of `from`.
pub fn copy_window_size(from: impl AsFd, to: impl AsFd) {
    if let Ok(size) = tcgetwinsize(from) {
        let _ = tcsetwinsize(to, size);
    }
}
