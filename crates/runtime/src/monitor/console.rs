//! The console of a container: what its init prints, kept in a log of bounded size, the last of it in memory for error messages.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer};
use store::{ContainerId, Prefix};

use crate::exec::Beside;

/// The log is put aside as `.1` when it has grown beyond this, so that a container can fill twice as much of the host's disk and no more.
const LARGEST_LOG: u64 = 1024 * 1024;
/// So much is listened to at once, and so much a second after that. Who shouts waits: it is the host's processor and disk that take it in.
const BURST: u64 = 1024 * 1024;
const RATE: u64 = 256 * 1024;
/// So long nobody is listened to who has shouted.
const PAUSE: Duration = Duration::from_millis(100);
/// What is remembered for an error message.
const TAIL: usize = 4096;

/// Where the console of a container is logged.
pub fn log_path(prefix: &Prefix, id: &ContainerId) -> PathBuf {
    prefix.log_dir().join(format!("{id}.console"))
}

/// The console of one container.
#[derive(Debug)]
pub struct Console {
    path: PathBuf,
    log: Option<File>,
    written: u64,
    tail: Vec<u8>,
    terminal: Option<OwnedFd>,
    /// The other side, kept open: a systemd opens its console for each line and closes it again, and once nobody has it open, reading here and
    /// opening there fail with EIO, which makes it wait a second a line.
    inner: Option<OwnedFd>,
    /// So much may be taken in, as of then.
    room: u64,
    as_of: Instant,
}

impl Console {
    /// Opens the log; that it cannot be written is no reason not to start a container.
    pub fn open(path: &Path) -> Console {
        let log = append(path).ok();
        let written = log.as_ref().and_then(|file| file.metadata().ok()).map_or(0, |found| found.len());
        Console {
            path: path.to_owned(),
            log,
            written,
            tail: Vec::new(),
            terminal: None,
            inner: None,
            room: BURST,
            as_of: Instant::now(),
        }
    }

    /// From now on listens to this pseudo-terminal.
    pub fn listen(&mut self, terminal: OwnedFd) {
        self.inner =
            ioctl_tiocgptpeer(&terminal, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).ok();
        self.terminal = Some(terminal);
    }

    /// What to poll for; nothing while somebody has shouted: see [`Console::listens_again_at`].
    pub fn terminal(&self) -> Option<&OwnedFd> {
        self.terminal.as_ref().filter(|_| self.room_now() > 0)
    }

    /// When to look again, where [`Console::terminal`] had none for now.
    pub fn listens_again_at(&self) -> Option<Instant> {
        self.terminal.is_some().then(|| Instant::now() + PAUSE)
    }

    fn room_now(&self) -> u64 {
        // In whole pauses: not a few bytes at a time.
        let pauses = self.as_of.elapsed().as_millis() / PAUSE.as_millis();
        let more = u64::try_from(pauses).unwrap_or(u64::MAX).saturating_mul(RATE / 10);
        self.room.saturating_add(more).min(BURST)
    }

    /// Takes in what is there, a bounded amount of it, so that a container that shouts cannot keep its monitor from anything else.
    pub fn hear(&mut self) {
        for _ in 0..16 {
            if self.terminal().is_none() || !self.read() {
                return;
            }
        }
    }

    /// Takes in what is left of a container that has ended.
    pub fn hear_to_the_end(&mut self) {
        for _ in 0..64 {
            if !self.read() {
                return;
            }
        }
    }

    /// One buffer; false when there is none.
    fn read(&mut self) -> bool {
        let Some(terminal) = &self.terminal else { return false };
        let mut buffer = [0u8; 8192];
        match rustix::io::read(terminal, &mut buffer) {
            Ok(0) => self.terminal = None,
            Ok(length) => {
                self.room = self.room_now().saturating_sub(length as u64);
                if self.as_of.elapsed() >= PAUSE {
                    self.as_of = Instant::now();
                }
                self.take(&buffer[..length]);
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return false,
            // Hung up (vhangup(2) inside): nothing more comes of this one.
            Err(_) => self.terminal = None,
        }
        true
    }

    /// Adds a line of our own; [`last_lines_logged`] knows those of an end.
    pub fn note(&mut self, text: &str) {
        let line = format!("[reroot] {} {text}\r\n", jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M:%SZ"));
        self.take(line.as_bytes());
    }

    /// The last lines, control characters made visible, for an error message.
    pub fn last_lines(&self) -> String {
        last_lines_of(&String::from_utf8_lossy(&self.tail))
    }

    fn take(&mut self, bytes: &[u8]) {
        self.tail.extend_from_slice(bytes);
        let surplus = self.tail.len().saturating_sub(TAIL);
        self.tail.drain(..surplus);
        if self.written > LARGEST_LOG {
            let aside = self.path.with_extension("console.1");
            let _ = rustix::fs::rename(&self.path, &aside);
            self.log = append(&self.path).ok();
            self.written = 0;
        }
        if let Some(log) = &mut self.log
            && log.write_all(bytes).is_ok()
        {
            self.written += bytes.len() as u64;
        }
    }
}

impl Beside for Console {
    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.terminal().map(AsFd::as_fd)
    }

    fn again_at(&self) -> Option<Instant> {
        self.listens_again_at()
    }

    fn hear(&mut self) {
        Console::hear(self);
    }
}

/// What a container has printed last, out of its log: for whoever its monitor has nothing to tell, since it runs.
pub fn last_lines_logged(prefix: &Prefix, id: &ContainerId) -> String {
    let Ok(log) = File::open(log_path(prefix, id)) else { return String::new() };
    let length = log.metadata().map_or(0, |found| found.len());
    let mut tail = vec![0; TAIL];
    let read = log.read_at(&mut tail, length.saturating_sub(TAIL as u64)).unwrap_or(0);
    let text = String::from_utf8_lossy(&tail[..read]).into_owned();
    // What came before is the word of another root.
    let is_end = |line: &&str| line.starts_with("[reroot] ") && line.contains("Z stopped: ");
    let last_end = text.lines().rfind(is_end).and_then(|end| text.rfind(end));
    last_lines_of(&text[last_end.unwrap_or(0)..])
}

fn last_lines_of(text: &str) -> String {
    let text = text.replace('\r', "");
    let lines: Vec<&str> =
        text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with("[reroot]")).collect();
    let first = lines.len().saturating_sub(10);
    lines[first..].iter().map(|line| tree::escaped(line.as_bytes())).collect::<Vec<_>>().join("\n")
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}
