//! Action scripts of the host that belong to one life of a container: `premount`, `mount`, `umount`, `postumount`.
//!
//! Each runs as root in a mount namespace and a control group of its own, beside a **warden**: a process of ours in that namespace. The warden
//! attaches the container's root where the script looks for it, lets nothing be mounted but below it (`gate`), hands the root back with
//! what was mounted there, and kills the script should whoever wanted it die.
//!
//! ```text
//!     monitor ──> warden   (.monitor)  new mount namespace, all of it private; the root at VE_ROOT
//!                   └──> script  (.script)  a descendant of nobody's: killed with its group
//! ```
//!
//! Whoever is root in the container has made every name in that root. So the view of it that a script has does not follow symbolic links
//! (`nosymfollow`), executes nothing, and there is no other place in the script's namespace where something can be mounted. See
//! docs/decisions/0029-action-scripts.md.

mod gate;
mod warden;

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use linux::{Exit, fork};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::process::{PidfdFlags, getpid, pidfd_open};
use store::{ContainerId, Prefix};

use crate::cgroup::Cgroups;
use crate::exec::{Beside, Lines};
use crate::monitor::Channel;
use crate::script::ScriptError;

/// How long the processes of a script may take to die of SIGKILL.
const KILLING: Duration = Duration::from_secs(30);
/// What a warden may take beside its script: it mounts and unmounts, and nothing of that waits for a disk.
const BESIDE: Duration = Duration::from_secs(30);

/// What is about to be done, or has just been done, when a script runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Before the root is mounted, on the host.
    Premount,
    /// When it is, on the host.
    Mount,
    /// When init has been executed, in the container.
    Start,
    /// Before init is asked to stop, in the container.
    Stop,
    /// When the container has ended and its root is still mounted, on the host.
    Umount,
    /// When it is no more, on the host.
    Postumount,
}

impl Action {
    /// All, in the order of a container's life.
    pub const ALL: [Action; 6] =
        [Action::Premount, Action::Mount, Action::Start, Action::Stop, Action::Umount, Action::Postumount];

    /// As its scripts are called.
    pub fn word(self) -> &'static str {
        match self {
            Action::Premount => "premount",
            Action::Mount => "mount",
            Action::Start => "start",
            Action::Stop => "stop",
            Action::Umount => "umount",
            Action::Postumount => "postumount",
        }
    }

    /// It runs in the container.
    pub fn is_inside(self) -> bool {
        match self {
            Action::Start | Action::Stop => true,
            Action::Premount | Action::Mount | Action::Umount | Action::Postumount => false,
        }
    }

    /// The container is on its way down: a script that fails holds nothing up.
    pub fn is_down(self) -> bool {
        match self {
            Action::Stop | Action::Umount | Action::Postumount => true,
            Action::Premount | Action::Mount | Action::Start => false,
        }
    }
}

/// A script that exits with this wants those after it, of the same action, left out: VZ_ACTION_SCRIPT_SKIP of vzctl's list.
pub const SKIP: i32 = 39;

/// One script, as a monitor is told of it; its file comes beside.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ActionScript {
    /// When it runs.
    pub action: Action,
    /// What to call it: `vps.mount`, `mount`.
    pub name: String,
}

/// A script of the host and what it is given.
#[derive(Debug)]
pub struct HostAction<'a> {
    /// The file, opened when it was checked; that file is executed, whatever its name means by now.
    pub file: &'a OwnedFd,
    /// Its whole environment.
    pub environment: Vec<(String, OsString)>,
    /// What is mounted here is not the script's to see.
    pub stage: &'a Path,
    /// The container's root, a detached tree of mounts, and where it is seen. It is this one's alone from here on.
    pub root: Option<(OwnedFd, PathBuf)>,
}

/// How a script of the host ended.
#[derive(Debug)]
pub struct Ended {
    /// `None`: it did not end in time and was killed.
    pub exit: Option<Exit>,
    /// Where it wanted something mounted that is not below the root.
    pub refused: Option<String>,
    /// The root with what is mounted in it now, detached again; none of one that has failed.
    pub root: Option<OwnedFd>,
}

/// What a warden says at its end; the root is beside it.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Report {
    code: i32,
    refused: Option<String>,
}

/// Runs a script to its end, or kills it when `limit` is over. Either way nothing of it is left running, and nothing is mounted but what
/// [`Ended::root`] holds. The calling process has one thread.
///
/// # Errors
/// [`ScriptError`]; [`ScriptError::Interrupted`] when `interrupt` has become readable.
pub fn run(
    prefix: &Prefix,
    id: &ContainerId,
    action: HostAction<'_>,
    limit: Duration,
    interrupt: Option<BorrowedFd<'_>>,
    beside: &mut dyn Beside,
    each: &mut dyn FnMut(&[u8]),
) -> Result<Ended, ScriptError> {
    let cgroups = Cgroups::of(prefix, id)?;
    cgroups.kill_script(KILLING)?;
    let (group, own) = (cgroups.script_group()?, cgroups.monitor_group()?);
    let (output, written) =
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(io::Error::from)?;
    let (ours, theirs) =
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .map_err(io::Error::from)?;
    let parent = pidfd_open(getpid(), PidfdFlags::empty()).map_err(io::Error::from)?;
    let null = crate::exec::null()?;
    let scene = warden::Scene {
        cgroups: &cgroups,
        group: &group,
        parent: &parent,
        output: &written,
        null: &null,
        report: &theirs,
        action: &action,
    };
    // Not in the group of the container, where a monitor is until its first container is made: that one is killed if the start fails.
    let child = fork(0, Some(own.as_fd()), || warden::watch(&scene))?;
    drop((written, theirs, group, own));
    // With the child's copy of it this process's would be a second one: a root that a script unmounts would stay in use.
    drop(action);
    let result = Lines::new(output).until_end(&child, limit, interrupt, beside, each);
    // Its daemons die with it, and with a script that has to be killed goes everything that it was doing.
    cgroups.kill_script(KILLING)?;
    if !matches!(result, Ok(Some(_))) {
        // It ends by itself, since its script has; what it mounted goes with it.
        if child.wait_for(BESIDE, None)?.is_none() {
            child.end(KILLING)?;
        }
    }
    match result {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(ScriptError::Interrupted),
        Err(error) => Err(error.into()),
        Ok(None) => Ok(Ended { exit: None, refused: None, root: None }),
        Ok(Some(exit)) => Ok(match Channel::new(ours).receive_now::<Report>() {
            Ok(Some((report, descriptors))) => Ended {
                exit: Some(Exit::Code(report.code)),
                refused: report.refused,
                root: descriptors.into_iter().next(),
            },
            // It was killed, or could not even prepare.
            Ok(None) | Err(_) => {
                let exit = if exit.is_success() { Exit::Code(126) } else { exit };
                Ended { exit: Some(exit), refused: None, root: None }
            }
        }),
    }
}
