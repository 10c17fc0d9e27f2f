//! Who may change what at this moment: one `flock(2)` a container, a template, the host.
//!
//! The file is never unlinked, so that two processes can never hold "the same" lock on two inodes; the kernel lets
//! go of it when its holder dies, however. It is close-on-exec. Its text (`pid time command` a line) is for error
//! messages only and proves nothing; who has not written it yet is found in `/proc/locks`. Order, against deadlocks: container, template, host; the trash last.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use jiff::{Timestamp, tz::TimeZone};
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use crate::identity::{ContainerId, TemplateName};
use crate::prefix::Prefix;
use crate::reserve;

/// Shared holders only append; one that finds more than this begins afresh.
const TEXT_LIMIT: usize = 16 << 10;
/// A lock that was held when it was tried, and by nobody when that one was looked for, is tried again so often.
const TRIES: u32 = 10;

/// What a lock is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LockName {
    /// Id ranges and names.
    Host,
    Template(TemplateName),
    Container(ContainerId),
    /// What is made of containers' networks, and said to the packet filter; taken after every other, for milliseconds.
    Network,
    /// Emptying the trash; taken without waiting, after every other.
    Trash,
}

impl LockName {
    fn file_name(&self) -> String {
        match self {
            Self::Host => "host.lock".to_owned(),
            Self::Template(name) => format!("template-{name}.lock"),
            Self::Container(id) => format!("{id}.lock"),
            Self::Network => "network.lock".to_owned(),
            Self::Trash => "trash.lock".to_owned(),
        }
    }
}

impl std::fmt::Display for LockName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Host => f.write_str("the host's registry"),
            Self::Template(name) => write!(f, "template `{name}`"),
            Self::Container(id) => write!(f, "`{id}`"),
            Self::Network => f.write_str("the network"),
            Self::Trash => f.write_str("the trash"),
        }
    }
}

/// A lock was not got.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error("{name} is locked by another command: `{command}` (pid {pid}) holds it since {since}")]
    Held {
        name: LockName,
        pid: u32,
        command: String,
        /// The local time of day, with the date before it when that is not today.
        since: String,
    },
    #[error("cannot lock {name}: `{}`", .path.display())]
    Unusable { name: LockName, path: PathBuf, source: io::Error },
}

/// Held until it is dropped.
#[derive(Debug)]
#[must_use = "a lock is released when it is dropped"]
pub struct Lock {
    name: LockName,
    file: File,
    /// Who took it: a fork of this process must not release what is not its own.
    pid: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Exclusive,
    Shared,
}

impl Lock {
    /// Alone. `command` is what the error message of others will say holds it.
    pub fn exclusive(
        prefix: &Prefix,
        name: LockName,
        wait: Duration,
        command: &str,
    ) -> Result<Self, LockError> {
        Self::take(prefix, name, Kind::Exclusive, wait, command)
    }

    /// Together with others that are shared.
    pub fn shared(prefix: &Prefix, name: LockName, wait: Duration, command: &str) -> Result<Self, LockError> {
        Self::take(prefix, name, Kind::Shared, wait, command)
    }

    pub fn name(&self) -> &LockName {
        &self.name
    }

    fn take(
        prefix: &Prefix,
        name: LockName,
        kind: Kind,
        wait: Duration,
        command: &str,
    ) -> Result<Self, LockError> {
        // `torture mutations`: a file that nobody else has.
        let is_fiction = match &name {
            LockName::Container(_) => linux::mutated!("container-unlocked"),
            LockName::Host => linux::mutated!("host-unlocked"),
            LockName::Template(_) => linux::mutated!("template-unlocked"),
            LockName::Network | LockName::Trash => false,
        };
        let own = if is_fiction { format!(".{}", std::process::id()) } else { String::new() };
        let path = prefix.lock_dir().join(name.file_name() + &own);
        for attempt in 0..TRIES {
            let wait = if attempt == 0 { wait } else { Duration::ZERO };
            match Self::try_take(&path, kind, wait) {
                Ok(Some(mut file)) => {
                    // A death before the text is there leaves no lock either, and a full disk no text: others ask the kernel then.
                    let _ = write_holder(&mut file, kind, command);
                    return Ok(Self { name, file, pid: std::process::id() });
                }
                Ok(None) => {
                    if let Some((pid, since, command)) = holder(&path) {
                        return Err(LockError::Held { name, pid, command, since: show_time(since) });
                    }
                    // Let go of in between.
                }
                // The first lock of a container makes its file, where everything lies on one filesystem on that of `/vz`.
                Err(error)
                    if attempt == 0
                        && Errno::from_io_error(&error) == Some(Errno::NOSPC)
                        && reserve::release_if_full(prefix).is_ok() => {}
                Err(source) => return Err(LockError::Unusable { name, path, source }),
            }
        }
        let command = "a process that cannot be seen from here".to_owned();
        Err(LockError::Held { name, pid: 0, command, since: "just now".to_owned() })
    }

    /// `None`: somebody else has it, and still had it at the deadline.
    fn try_take(path: &Path, kind: Kind, wait: Duration) -> io::Result<Option<File>> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let handle = rustix::fs::open(path, flags, Mode::from_raw_mode(0o600))?;
        let (now, blocking) = match kind {
            Kind::Exclusive => (FlockOperation::NonBlockingLockExclusive, FlockOperation::LockExclusive),
            Kind::Shared => (FlockOperation::NonBlockingLockShared, FlockOperation::LockShared),
        };
        match rustix::fs::flock(&handle, now) {
            Ok(()) => return Ok(Some(File::from(handle))),
            Err(Errno::WOULDBLOCK) if wait.is_zero() => return Ok(None),
            Err(Errno::WOULDBLOCK) => {}
            Err(errno) => return Err(errno.into()),
        }
        wait_for(handle, blocking, wait).map(|locked| locked.map(File::from))
    }
}

impl Drop for Lock {
    /// Not only by the close: a child of another thread, between its fork and its exec, has the descriptor too.
    fn drop(&mut self) {
        if self.pid == std::process::id() {
            release(&self.file);
        }
    }
}

fn release(handle: impl AsFd) {
    // It cannot fail on a descriptor that was locked, and the close comes right after.
    let _ = rustix::fs::flock(handle, FlockOperation::Unlock);
}

/// Blocks in `flock` in a thread, since it has no time-out of its own and to poll would let others always be first.
fn wait_for(handle: OwnedFd, operation: FlockOperation, wait: Duration) -> io::Result<Option<OwnedFd>> {
    // A rendezvous: what was not received by the deadline comes back to the thread as an error of `send`, so that a
    // lock which comes too late is let go at once.
    let (sender, receiver) = mpsc::sync_channel(0);
    let thread = std::thread::Builder::new().name("lock".to_owned()).spawn(move || {
        let locked = loop {
            match rustix::fs::flock(&handle, operation) {
                Ok(()) => break Ok(handle),
                Err(Errno::INTR) => {}
                Err(errno) => break Err(io::Error::from(errno)),
            }
        };
        if let Err(mpsc::SendError(Ok(too_late))) = sender.send(locked) {
            release(&too_late);
        }
    })?;
    match receiver.recv_timeout(wait) {
        Ok(locked) => {
            // Whoever forks next must be alone in this process.
            let _ = thread.join();
            locked.map(Some)
        }
        Err(mpsc::RecvTimeoutError::Timeout) => Ok(None),
        Err(mpsc::RecvTimeoutError::Disconnected) => Err(io::Error::other("the waiting thread ended")),
    }
}

fn write_holder(file: &mut File, kind: Kind, command: &str) -> io::Result<()> {
    let length = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
    if kind == Kind::Exclusive || length > TEXT_LIMIT {
        file.set_len(0)?;
    }
    // One `write` of one line: shared holders do not interleave.
    let command: String = command.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    file.write_all(format!("{} {} {command}\n", std::process::id(), Timestamp::now()).as_bytes())
}

/// Process, time and command of whoever has the lock.
type Holder = (u32, Timestamp, String);

/// Whoever says so in the file; a process that is gone, or nobody, stands there between another's `flock` and its text, and then the kernel is asked.
fn holder(path: &Path) -> Option<Holder> {
    let text = std::fs::read(path).unwrap_or_default();
    if let Some(holder) = parse_holder(&String::from_utf8_lossy(&text)) {
        return Some(holder);
    }
    let pid = locked_by(path)?;
    let words = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let words: Vec<_> =
        words.split(|&byte| byte == 0).filter(|word| !word.is_empty()).map(tree::escaped).collect();
    Some((pid, Timestamp::now(), words.join(" ")))
}

/// The process in `/proc/locks` that has this file's flock: `1: FLOCK  ADVISORY  WRITE 4711 00:17:42 0 EOF`. Those that wait for it have an arrow.
fn locked_by(path: &Path) -> Option<u32> {
    use std::os::unix::fs::MetadataExt as _;
    let inode = std::fs::metadata(path).ok()?.ino().to_string();
    let locks = std::fs::read_to_string("/proc/locks").ok()?;
    locks.lines().find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let is_it = words.get(1) == Some(&"FLOCK") && words.get(5)?.rsplit(':').next()? == inode;
        let pid: u32 = words.get(4)?.parse().ok()?;
        // Not by the device, which on btrfs is another one to stat(2): by what the process has open.
        (is_it && has_open(pid, path)).then_some(pid)
    })
}

fn has_open(pid: u32, path: &Path) -> bool {
    let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    descriptors.filter_map(|entry| std::fs::read_link(entry.path()).ok()).any(|target| target == path)
}

/// The last line whose process is still there.
fn parse_holder(text: &str) -> Option<Holder> {
    let mut holders = text.lines().rev().filter_map(|line| {
        let mut words = line.splitn(3, ' ');
        let pid: u32 = words.next()?.parse().ok()?;
        let since: Timestamp = words.next()?.parse().ok()?;
        Some((pid, since, words.next()?.to_owned()))
    });
    holders.find(|holder| lives(holder.0))
}

fn lives(pid: u32) -> bool {
    Path::new("/proc").join(pid.to_string()).exists()
}

fn show_time(since: Timestamp) -> String {
    let zone = TimeZone::system();
    let then = since.to_zoned(zone.clone());
    let today = Timestamp::now().to_zoned(zone).date();
    let form = if then.date() == today { "%H:%M:%S" } else { "%Y-%m-%d %H:%M:%S" };
    then.strftime(form).to_string()
}

#[cfg(test)]
#[path = "lock_tests.rs"]
mod tests;
