//! A terminal for a command under test, and somebody who types at it.

use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

/// In seconds: longer than anything takes that is tested here.
const PATIENCE: u32 = 60;

/// A command that runs on a terminal of its own; killed when this is dropped.
#[derive(Debug)]
pub struct Terminal {
    outer: OwnedFd,
    child: Child,
    /// What has been written and not been expected yet.
    unread: Vec<u8>,
    is_closed: bool,
}

impl Terminal {
    /// Runs `command` as the leader of a new session whose controlling terminal is a new one of `rows` × `columns`.
    pub fn run(command: &Command, rows: u16, columns: u16) -> Terminal {
        let outer =
            openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("open a terminal");
        grantpt(&outer).expect("own the terminal");
        unlockpt(&outer).expect("unlock the terminal");
        let inner = ioctl_tiocgptpeer(&outer, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)
            .expect("open its other side");
        set_size(&outer, rows, columns);
        let mut session = Command::new("setsid");
        session.arg("--ctty").arg(command.get_program()).args(command.get_args());
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => session.env(key, value),
                None => session.env_remove(key),
            };
        }
        let copy = || Stdio::from(inner.try_clone().expect("copy a descriptor"));
        let child = session.stdin(copy()).stdout(copy()).stderr(copy()).spawn().expect("run setsid");
        Terminal { outer, child, unread: Vec::new(), is_closed: false }
    }

    /// Types; a newline is the return key.
    pub fn types(&self, text: &str) {
        let mut file = std::fs::File::from(self.outer.try_clone().expect("copy a descriptor"));
        file.write_all(text.replace('\n', "\r").as_bytes()).expect("type at the terminal");
    }

    /// Waits until `text` has been written since what was expected last; returns all up to its end.
    #[track_caller]
    pub fn expects(&mut self, text: &str) -> String {
        let deadline = Instant::now() + crate::patience(PATIENCE);
        loop {
            if let Some(at) = self.unread.windows(text.len()).position(|window| window == text.as_bytes()) {
                let read: Vec<u8> = self.unread.drain(..at + text.len()).collect();
                return String::from_utf8_lossy(&read).into_owned();
            }
            let seen = String::from_utf8_lossy(&self.unread).into_owned();
            assert!(!self.is_closed, "`{text}` never came on the terminal, which ended with: {seen}");
            assert!(self.read_until(deadline), "`{text}` never came on the terminal, which says: {seen}");
        }
    }

    /// Changes the size of the window.
    pub fn resizes(&self, rows: u16, columns: u16) {
        set_size(&self.outer, rows, columns);
    }

    /// Waits for the end of the command; its exit code, and all that was written and not been expected.
    #[track_caller]
    pub fn ends(mut self) -> (i32, String) {
        let deadline = Instant::now() + crate::patience(PATIENCE);
        while !self.is_closed {
            let seen = String::from_utf8_lossy(&self.unread).into_owned();
            assert!(self.read_until(deadline), "the command on the terminal does not end; it says: {seen}");
        }
        let status = self.child.wait().expect("wait for the command");
        let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
        (code, String::from_utf8_lossy(&self.unread).into_owned())
    }

    /// Reads what comes next; false when nothing has come by `deadline`.
    fn read_until(&mut self, deadline: Instant) -> bool {
        let rest = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec { tv_sec: rest.as_secs() as i64, tv_nsec: rest.subsec_nanos().into() };
        match poll(&mut [PollFd::new(&self.outer, PollFlags::IN)], Some(&timeout)) {
            Ok(0) => return false,
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => panic!("poll: {error}"),
        }
        let mut buffer = [0u8; 4096];
        match rustix::io::read(&self.outer, &mut buffer) {
            // EIO: nobody has the other side open any more.
            Ok(0) | Err(rustix::io::Errno::IO) => self.is_closed = true,
            Ok(length) => self.unread.extend_from_slice(&buffer[..length]),
            Err(error) => panic!("read a terminal: {error}"),
        }
        true
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn set_size(terminal: &OwnedFd, rows: u16, columns: u16) {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(terminal, size).expect("set a window's size");
}
