//! What the engine asks of whatever runs containers: one narrow trait, a real implementation in [`crate::real`], and a fake one for tests that
//! can be told to fail.

use std::ffi::OsString;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use linux::Exit;
use net::Probation;
use runtime::actions::Action;
use runtime::attachments::Attachment;
use runtime::confined::Reach;
use runtime::going_down::Pulse;
pub use runtime::monitor::Settings;
use runtime::mounts::Layers;
use runtime::state::ProcessIdentity;
use store::{
    Application, ContainerId, DiskNumber, Forward, GenerationNumber, IdRange, InnerPath, Interface, Limits,
};

use crate::devices::Extras;

/// A container that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Its root.
    pub generation: GenerationNumber,
    /// Its init, seen from the host.
    pub init: i32,
    /// When it was started.
    pub started: jiff::Timestamp,
    /// Its monitor; `None`: one that is always there.
    pub monitor: Option<ProcessIdentity>,
    /// Its init is a systemd.
    pub is_systemd: bool,
    /// Its init is the small one, and runs an application.
    pub is_application: bool,
}

impl Run {
    /// Its monitor lives. Asked when it is wanted: of hundreds that are listed nobody wants it.
    pub fn is_monitored(&self) -> bool {
        self.monitor.is_none_or(ProcessIdentity::is_alive)
    }
}

/// What can be told of a container at once.
#[derive(Debug, Clone)]
pub enum Life {
    /// Its init lives.
    Running(Run),
    /// It is about to be started again, or to be no more: scripts may be at work between.
    Between,
    /// Something of it runs, and the record of it cannot be read: why.
    Unknown(String),
    /// Neither.
    Stopped,
}

/// One generation and what it is made of.
#[derive(Debug, Clone)]
pub struct Root {
    /// Its number.
    pub number: GenerationNumber,
    /// Its layers.
    pub layers: Layers,
}

/// What to start.
#[derive(Debug, Clone)]
pub struct Start {
    /// The container.
    pub id: ContainerId,
    /// Its root, then what is at `/old`, `/old/old`, …
    pub roots: Vec<Root>,
    /// The file with the filesystem that they lie on, if it is one of its own.
    pub volume: Option<PathBuf>,
    /// Its ids on the host.
    pub ids: IdRange,
    /// What can become something else while it runs.
    pub settings: Settings,
    /// What of its network there is on probation.
    pub probation_network: Probation,
    /// What scripts are told that it is: its number, or its UUID.
    pub veid: String,
    /// PID 1.
    pub init: String,
    /// What stops it.
    pub stop_signal: i32,
    /// Init is a systemd.
    pub is_systemd: bool,
    /// What the small init runs, which then is PID 1.
    pub application: Option<Application>,
    /// On probation: what is at `/old` is read-only, nothing is restarted, and if this process dies recovery is run.
    pub is_probation: bool,
    /// Its action scripts, in the order in which they run.
    pub actions: Vec<ActionFile>,
    /// How long each of them may take.
    pub action_limit: Duration,
    /// What is mounted in its root.
    pub attachments: Vec<Attachment>,
    /// What it has that others have not.
    pub extras: Extras,
}

/// How long a stop may take.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// What has not stopped by then is killed; zero: it is not asked.
    pub limit: Duration,
    /// When all of it has to be over, the container's own action scripts among it.
    pub deadline: Option<Instant>,
}

impl Patience {
    /// What is left of it.
    pub fn rest(&self) -> Duration {
        self.until_deadline().map_or(self.limit, |rest| rest.min(self.limit))
    }

    /// What is left for everything together, where that has an end.
    pub fn until_deadline(&self) -> Option<Duration> {
        self.deadline.map(|at| at.saturating_duration_since(Instant::now()))
    }
}

impl From<Duration> for Patience {
    fn from(limit: Duration) -> Patience {
        Patience { limit, deadline: None }
    }
}

/// An action script that has been opened and checked.
#[derive(Debug, Clone)]
pub struct ActionFile {
    /// When it runs.
    pub action: Action,
    /// What to call it: `vps.mount`, `mount`.
    pub name: String,
    /// The file. Shared: what was checked is what runs, however often.
    pub file: Arc<OwnedFd>,
}

/// A script to run in a container.
#[derive(Debug)]
pub struct InnerScript<'a> {
    /// Its text.
    pub text: &'a [u8],
    /// Its whole environment.
    pub environment: Vec<(String, String)>,
    /// How long it may take.
    pub limit: Duration,
}

/// A script to run on the host.
#[derive(Debug)]
pub struct OuterScript<'a> {
    /// The file, opened when it was checked.
    pub file: &'a OwnedFd,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Its whole environment.
    pub environment: Vec<(String, OsString)>,
    /// The root that it is shown, read-only, with plain owners.
    pub shown: &'a Root,
    /// Where.
    pub shown_at: PathBuf,
    /// What it sees read-only.
    pub read_only: Option<PathBuf>,
    /// How long it may take.
    pub limit: Duration,
}

/// Why something around a running container did not work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{because}")]
pub struct RuntimeError {
    /// In one line.
    pub because: String,
    /// The last lines of the container's console, perhaps none.
    pub console: String,
    /// What kind of failure it is.
    pub kind: RuntimeErrorKind,
}

/// What kind of failure a [`RuntimeError`] is, where callers treat them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuntimeErrorKind {
    /// The container does not run.
    NotRunning,
    /// A process of the host is in a mount.
    Busy,
    /// Somebody wants this process to end: [`Runtime::interruption`] tells by which signal.
    Interrupted,
    /// It lives, but is not up: a systemd has not reached its target in time, or its shell does not work or is not there.
    NotUp,
    /// The filesystem cannot carry a container.
    FileSystem,
    /// It has no room.
    NoSpace,
    /// There is no loop device for a disk of a container.
    NoDevice,
    /// An action script has failed.
    Action,
    /// What was changed could not all be given back.
    InPart,
    /// Anything else.
    Other,
}

/// See the module.
pub type RuntimeResult<T> = Result<T, RuntimeError>;

/// Takes a script's output, line by line.
pub type Sink<'a> = &'a mut dyn FnMut(&[u8]);

/// Whatever runs containers.
pub trait Runtime {
    /// Asks the kernel what the container does just now, and waits for nothing: for whoever only looks, or holds what others wait for.
    fn life(&self, id: &ContainerId) -> Life;
    /// Asks the kernel whether the container runs; waits where it is between two lives.
    fn running(&self, id: &ContainerId) -> Option<Run>;
    /// Mounts the roots and starts it; returns when init has been executed, with what is not as it should be. `said` is told what its action scripts
    /// write, each by its name.
    fn start(&self, start: &Start, said: &mut dyn FnMut(&str, &[u8])) -> RuntimeResult<Vec<String>>;
    /// Waits until it is up: a systemd says so, a plain init is alive and executes, an application goes on for a while.
    fn wait_until_up(&self, id: &ContainerId, limit: Duration) -> RuntimeResult<()>;
    /// Its probation is over. Returns what is not as it should be.
    fn settle(&self, id: &ContainerId) -> RuntimeResult<Vec<String>>;
    /// Stops it: asked politely, killed after `limit`. Stopped already is fine. The mounts go a little later, unless `keeps_mounts`: unmounting
    /// flushes, and where a start follows nobody should wait for that. Returns what is not as it should be.
    fn stop(&self, id: &ContainerId, patience: Patience, keeps_mounts: bool) -> RuntimeResult<Vec<String>>;
    /// Ends the monitor first, then the container; gone already is fine.
    fn kill(&self, id: &ContainerId) -> RuntimeResult<()>;
    /// Ends it at once, and has its scripts take back what they have begun; gone already is fine. Its mounts stay.
    fn end(&self, id: &ContainerId) -> RuntimeResult<()> {
        self.kill(id)
    }
    /// Waits until nothing of a stopped container is left but its mounts.
    fn wait_until_gone(&self, id: &ContainerId) -> RuntimeResult<()>;
    /// As [`Runtime::wait_until_gone`], until a signal asks this process to end: for what can still be left undone.
    fn wait_until_gone_unless_interrupted(&self, id: &ContainerId) -> RuntimeResult<()> {
        self.wait_until_gone(id)
    }
    /// Gives a container that runs other limits, addresses and another name: all or, with an error, none. Returns what of it this host cannot do, and
    /// what of it that was not so `before`, as far as that is known, its monitor cannot.
    fn change(
        &self,
        _id: &ContainerId,
        _before: Option<&Settings>,
        _settings: &Settings,
    ) -> RuntimeResult<Vec<String>> {
        Ok(Vec::new())
    }
    /// Which of the limits this host has nothing to enforce with: keys of `ve.conf`, each with what is lacking.
    fn lacks(&self, _limits: &Limits) -> Vec<(&'static str, String)> {
        Vec::new()
    }
    /// Whether a container can be kept from using addresses that are not its own; else why not.
    fn check_filter(&self) -> RuntimeResult<()> {
        Ok(())
    }
    /// Has the packet filter what it has to know of all containers, should somebody have flushed it.
    fn restore_filter(&self) -> RuntimeResult<()> {
        Ok(())
    }
    /// Why an interface cannot be on the bridge that it is to be on; `None`: it can.
    fn lacks_bridge(&self, _wanted: &Interface) -> Option<String> {
        None
    }
    /// A program of this host listens to the port of the host that this is about.
    fn listens(&self, _forward: &Forward) -> bool {
        false
    }
    /// Who has an address on this host, in words, unless it is this container; of one that is to be routed also who has it beside this host.
    fn holder_of(&self, _ip: IpAddr, _is_routed: bool, _but: Option<&ContainerId>) -> Option<String> {
        None
    }
    /// Has other roots at `/old` of a running container.
    fn replace_old(&self, id: &ContainerId, ids: IdRange, roots: &[Root]) -> RuntimeResult<Vec<String>>;
    /// Makes the superblock of a mounted generation read-only or writable; not mounted is fine.
    fn set_read_only(
        &self,
        id: &ContainerId,
        number: GenerationNumber,
        is_read_only: bool,
    ) -> RuntimeResult<()>;
    /// Unmounts a generation of which no view is in use; not mounted is fine.
    fn unmount(&self, id: &ContainerId, number: GenerationNumber) -> RuntimeResult<()>;
    /// Unmounts everything of a stopped container.
    fn unmount_all(&self, id: &ContainerId) -> RuntimeResult<()>;
    /// Unmounts what a start that was killed half way has mounted of a container that does not run; what `prlctl mount` shows of it stays.
    fn clear_up(&self, _id: &ContainerId) {}
    /// Takes away what `prlctl mount` shows of the container; not mounted is fine. Busy is an error, and then it is shown still.
    fn release_view(&self, _id: &ContainerId) -> RuntimeResult<()> {
        Ok(())
    }
    /// A view of that generation is mounted in the host's namespace or in one of the container's.
    fn is_in_use(&self, id: &ContainerId, number: GenerationNumber) -> bool;
    /// A process of the container is in that generation, or has something of it open.
    fn is_held(&self, _id: &ContainerId, _number: GenerationNumber) -> bool {
        false
    }
    /// A look at a generation, read-only. For one that runs, its mount; else an overlay that nothing has to be flushed for.
    fn look(&self, id: &ContainerId, root: &Root) -> RuntimeResult<tree::Root>;
    /// Has `work` done on a container's files where nothing but `reach` can be reached. In a fake, wherever it is.
    ///
    /// # Errors
    /// When that cannot be had, and then nothing was done.
    fn confined(&self, _reach: &Reach<'_>, work: &mut dyn FnMut()) -> RuntimeResult<()> {
        work();
        Ok(())
    }
    /// From now on, should this process die, the container is recovered without anybody typing anything; until [`Runtime::dismiss_keeper`].
    /// Kept already is fine.
    fn keep(&self, _id: &ContainerId) -> RuntimeResult<()> {
        Ok(())
    }
    /// The operation has come to an end by itself.
    fn dismiss_keeper(&self, _id: &ContainerId) {}
    /// From now on a signal that asks this process to end does not: it ends the waits for scripts, boots and stops, and is told by
    /// [`Runtime::interruption`].
    ///
    /// # Errors
    /// Where the system does not allow it.
    fn heed_signals(&self) -> RuntimeResult<()> {
        Ok(())
    }
    /// The signal that asks this process to end; told once, and no wait is ended by a second one.
    fn interruption(&self) -> Option<i32> {
        None
    }
    /// Becomes readable with such a signal, for waits that are not this trait's.
    fn interrupt(&self) -> Option<OwnedFd> {
        None
    }
    /// How often init has gone to sleep, for [`Runtime::is_going_down`].
    fn pulse(&self, _id: &ContainerId) -> Option<Pulse> {
        None
    }
    /// The container is about to end by itself, or has: a script that ran since `before` may have told it to.
    fn is_going_down(&self, id: &ContainerId, _before: Option<Pulse>) -> bool {
        self.running(id).is_none()
    }
    /// A stop of the container is under way, whoever has asked for it.
    fn is_stopping(&self, _id: &ContainerId) -> bool {
        false
    }
    /// Runs a script of the host; `None`: it did not end in time and was killed.
    fn run_outside(
        &self,
        id: &ContainerId,
        script: &OuterScript<'_>,
        sink: Sink<'_>,
    ) -> RuntimeResult<Option<Exit>>;
    /// Kills whatever a script of the host has left running.
    fn kill_outside(&self, id: &ContainerId) -> RuntimeResult<()>;
    /// Waits for the container's end, for no longer than `limit`; true: it runs no more.
    ///
    /// # Errors
    /// [`RuntimeErrorKind::Interrupted`].
    fn ended_within(&self, id: &ContainerId, _limit: Duration) -> RuntimeResult<bool> {
        Ok(self.running(id).is_none())
    }
    /// The last lines that the container has printed on its console since its last start, perhaps none.
    fn console(&self, _id: &ContainerId) -> String {
        String::new()
    }
    /// Asks a program in a running container something: the lines that it writes to stdout within `limit`, of which nothing is to be trusted.
    ///
    /// # Errors
    /// When it cannot be run, or has not ended in time.
    fn ask(&self, _id: &ContainerId, words: &[&str], _limit: Duration) -> RuntimeResult<Vec<Vec<u8>>> {
        Err(RuntimeError {
            because: format!("nobody answers `{}`", words.join(" ")),
            console: String::new(),
            kind: RuntimeErrorKind::Other,
        })
    }
    /// Makes a filesystem of its own for a container, in a file that is not there yet, and mounts it; returns where.
    fn make_volume(
        &self,
        id: &ContainerId,
        image: &Path,
        size: u64,
        inodes: Option<u64>,
    ) -> RuntimeResult<PathBuf>;
    /// Mounts a container's own filesystem; mounted is fine.
    fn mount_volume(&self, id: &ContainerId, image: &Path) -> RuntimeResult<()>;
    /// Gives what is kept back in a mounted one to whoever writes next: it is full, and somebody needs a little of it.
    fn release_reserve(&self, id: &ContainerId) -> RuntimeResult<()>;
    /// Unmounts it, unless somebody is in it.
    fn unmount_volume(&self, id: &ContainerId);
    /// Puts its volume and its disks away, and waits until nobody has these files as a device: they may be copied then. With an error somebody is in one.
    fn put_disks_away(&self, _id: &ContainerId, _images: &[PathBuf]) -> RuntimeResult<()> {
        Ok(())
    }
    /// Takes it away for good, whoever is in it: what is in it is deleted, or never was anybody's.
    fn let_volume_go(&self, id: &ContainerId);
    /// Makes a mounted one larger, at once.
    fn grow_volume(&self, id: &ContainerId, image: &Path, size: u64) -> RuntimeResult<()>;
    /// Makes one smaller, or larger, that nobody is in: all of it or, with an error, nothing.
    fn remake_volume(&self, id: &ContainerId, image: &Path, size: u64) -> RuntimeResult<()>;
    /// Gives back what is free in a mounted one.
    fn compact_volume(&self, id: &ContainerId, image: &Path) -> RuntimeResult<()>;
    /// Unmounts what is mounted of a disk beside it on the host, unless somebody is in it.
    fn release_disk(&self, _id: &ContainerId, _number: DiskNumber) {}
    /// Takes the disks beside it away for good, whoever is in them: they are deleted.
    fn let_disks_go(&self, _id: &ContainerId) {}
    /// Has a container that runs see something more; false: only its next start can.
    fn attach(&self, _id: &ContainerId, _ids: IdRange, _what: &Attachment) -> RuntimeResult<bool> {
        Ok(true)
    }
    /// Takes something away from a container that runs; false: only its end can. With an error something in it is in it.
    fn detach(&self, _id: &ContainerId, _at: &InnerPath) -> RuntimeResult<bool> {
        Ok(true)
    }
    /// Runs a script in a running container; `None`: it did not end in time and was killed.
    fn run_inside(
        &self,
        id: &ContainerId,
        script: &InnerScript<'_>,
        sink: Sink<'_>,
    ) -> RuntimeResult<Option<Exit>>;
}
