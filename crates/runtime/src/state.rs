//! What is known of a container that runs: `/run/vz/<uuid>/state.json`, which dies with the host.
//!
//! Whether it *runs* is never read here: a record names processes by id **and start time**, and the kernel is asked whether they live. A record
//! of another boot, or of another prefix that was moved here, says nothing.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use store::{ContainerId, GenerationNumber, IdRange, Prefix};

use crate::kernel::boot_id;

/// A process that cannot be mistaken for a later one with the same id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ProcessIdentity {
    /// Its id in the host's namespace.
    pub pid: i32,
    /// Clock ticks between boot and its start; field 22 of proc(5) `stat`.
    pub start_time: u64,
}

impl ProcessIdentity {
    /// The identity of process `pid`, if there is one.
    pub fn of(pid: i32) -> Option<ProcessIdentity> {
        let (start_time, state) = stat(pid)?;
        (state != 'Z' && state != 'X').then_some(ProcessIdentity { pid, start_time })
    }

    /// That very process lives.
    pub fn is_alive(self) -> bool {
        ProcessIdentity::of(self.pid) == Some(self)
    }

    /// It waits for something, rather than runs.
    pub fn is_at_rest(self) -> bool {
        stat(self.pid).is_some_and(|(start_time, state)| start_time == self.start_time && state == 'S')
    }

    /// A handle on it: `None` when it has ended.
    ///
    /// # Errors
    /// As in pidfd_open(2).
    pub fn open(self) -> io::Result<Option<OwnedFd>> {
        let Some(pid) = Pid::from_raw(self.pid) else { return Ok(None) };
        let handle = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(handle) => handle,
            Err(rustix::io::Errno::SRCH) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        // Asked after the open: from here on the handle cannot come to mean another process.
        Ok(self.is_alive().then_some(handle))
    }
}

/// Start time and state letter of a process. The command name in the middle may hold anything, parentheses too: it ends at the last one.
fn stat(pid: i32) -> Option<(u64, char)> {
    // Less than a page, and read in one piece: the kernel would make it anew for each.
    let mut buffer = [0; 4096];
    let length = File::open(format!("/proc/{pid}/stat")).and_then(|mut file| file.read(&mut buffer)).ok()?;
    let text = String::from_utf8_lossy(&buffer[..length]);
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    Some((fields.get(19)?.parse().ok()?, fields.first()?.chars().next()?))
}

/// The record of a start.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct RuntimeState {
    /// [`FORMAT`]
    pub format: u32,
    /// `/proc/sys/kernel/random/boot_id` of the boot in which it was written.
    pub boot_id: String,
    /// The prefix that it was written under.
    pub prefix: PathBuf,
    /// The root that it runs on.
    pub generation: GenerationNumber,
    /// The ids that its processes have on the host.
    pub ids: IdRange,
    /// PID 1 of the container.
    pub init: ProcessIdentity,
    /// Its monitor.
    pub monitor: ProcessIdentity,
    /// What it is asked to stop with.
    pub stop_signal: i32,
    /// Its init is a systemd, and tells when it is up.
    pub is_systemd: bool,
    /// Its init is the small one, and runs an application.
    #[serde(default)]
    pub is_application: bool,
    /// Containers run in it: it may use keyrings.
    #[serde(default)]
    pub nests: bool,
    /// What its monitor speaks: `monitor::VERSION` of the program that has started it.
    #[serde(default = "first")]
    pub protocol: u32,
    /// Seconds that the action scripts between two of its lives, or after its last, may take in all.
    #[serde(default)]
    pub actions_limit: u64,
    /// When init was started.
    pub started: jiff::Timestamp,
}

/// The format of this record.
pub const FORMAT: u32 = 1;

/// Of a record that does not say.
fn first() -> u32 {
    1
}

/// How long a monitor may take to start its container again, or to clear up after it.
const BETWEEN_LIVES: Duration = Duration::from_secs(30);

/// Reads the record of a container, if there is one of this boot and prefix and its init lives.
///
/// When init has ended, the record is there and the monitor lives, then the container is between two lives (it reboots) or about to be no more,
/// and only the monitor knows which. That is waited for: whoever took a rebooting container for a stopped one would next wait for its monitor to
/// leave, in vain.
pub fn running(prefix: &Prefix, id: &ContainerId) -> Option<RuntimeState> {
    running_by(prefix, id, None)
}

/// The same, and what is between two lives is waited for until then at most: [`look`] tells whether it still is.
pub fn running_by(prefix: &Prefix, id: &ContainerId, until: Option<Instant>) -> Option<RuntimeState> {
    let began = Instant::now();
    loop {
        let state = recorded(prefix, id)?;
        let deadline = began + BETWEEN_LIVES + Duration::from_secs(state.actions_limit);
        let deadline = until.map_or(deadline, |until| until.min(deadline));
        if state.init.is_alive() {
            return Some(state);
        }
        if !state.monitor.is_alive() || Instant::now() >= deadline {
            return None;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The record, whether or not its init lives; of this boot and prefix.
pub fn recorded(prefix: &Prefix, id: &ContainerId) -> Option<RuntimeState> {
    let text = std::fs::read(path(prefix, id)).ok()?;
    let state: RuntimeState = serde_json::from_slice(&text).ok()?;
    (state.format == FORMAT && state.prefix == prefix.root() && state.boot_id == boot_id()).then_some(state)
}

/// What can be told of a container at once, without waiting for anybody.
#[derive(Debug)]
pub enum Looked {
    /// There is no record, or nobody in it lives.
    Stopped,
    /// Its init lives.
    Running(RuntimeState),
    /// Its init has ended, and its monitor has not yet begun the next life, nor given up: there may be scripts between.
    BetweenLives,
    /// There is a record that says nothing here: why.
    Unreadable(io::Error),
}

/// Looks at the record and at whom it names.
pub fn look(prefix: &Prefix, id: &ContainerId) -> Looked {
    let state = match text_of(prefix, id).and_then(|text| read(&text)) {
        Ok(state) => state,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Looked::Stopped,
        Err(error) => return Looked::Unreadable(error),
    };
    if state.prefix != prefix.root() || state.boot_id != boot_id() {
        return Looked::Stopped;
    }
    if state.init.is_alive() {
        Looked::Running(state)
    } else if state.monitor.is_alive() {
        Looked::BetweenLives
    } else {
        Looked::Stopped
    }
}

/// Whether it can be told if the container runs: that there is no record says that it does not, one that cannot be read says nothing.
///
/// # Errors
/// Why it cannot; [`io::ErrorKind::Unsupported`] where a later version of this program has written it.
pub fn check(prefix: &Prefix, id: &ContainerId) -> io::Result<()> {
    match std::fs::read(path(prefix, id)) {
        Ok(text) => read(&text).map(drop),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// As fs::read, in one piece where it can be.
fn text_of(prefix: &Prefix, id: &ContainerId) -> io::Result<Vec<u8>> {
    let mut file = File::open(path(prefix, id))?;
    let mut text = vec![0; USUAL];
    let length = file.read(&mut text)?;
    text.truncate(length);
    if length == USUAL {
        file.read_to_end(&mut text)?;
    }
    Ok(text)
}

/// None is larger.
const USUAL: usize = 4096;

fn read(text: &[u8]) -> io::Result<RuntimeState> {
    // First: of a later one nothing else need be as it is known here.
    let Format { format } = serde_json::from_slice(text)?;
    if format > FORMAT {
        return Err(io::Error::new(
            io::ErrorKind::Unsupported,
            format!(
                "a later version of Reroot has written it: its format is {format}, and {FORMAT} the latest known here"
            ),
        ));
    }
    Ok(serde_json::from_slice(text)?)
}

/// What every record has.
#[derive(serde::Deserialize)]
struct Format {
    format: u32,
}

/// Writes the record: whole or not at all, but not synced, since it dies with the host.
///
/// # Errors
/// As of open(2), write(2), rename(2).
pub fn record(prefix: &Prefix, id: &ContainerId, state: &RuntimeState) -> io::Result<()> {
    let bytes = serde_json::to_vec_pretty(state)?;
    let path = path(prefix, id);
    let temporary = path.with_extension("json.new");
    let mut file =
        std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(&bytes)?;
    rustix::fs::rename(&temporary, &path)?;
    Ok(())
}

/// Removes the record; that there is none is no error.
pub fn forget(prefix: &Prefix, id: &ContainerId) {
    drop(std::fs::remove_file(path(prefix, id)));
}

/// Where it is.
pub fn path(prefix: &Prefix, id: &ContainerId) -> PathBuf {
    prefix.run_dir_of(id).join("state.json")
}
