//! One life of a container: its root mounted, its action scripts, its init; and all of that taken back.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use linux::{MountAttributes, set_mount_attributes};
use rustix::fs::CWD;
use rustix::mount::{OpenTreeFlags, UnmountFlags};
use store::Prefix;

use super::actions::Actions;
use super::attached::Attachments;
use super::container::{DEVICES, Place, Running, describe, start};
use super::old::{OldRoots, share};
use super::place::{enter_own_namespace, listen, mount_stage};
use super::protocol::{Event, Launch, VERSION};
use super::serve::{Monitor, SOCKET};
use crate::actions::Action;
use crate::cgroup::Cgroups;
use crate::devices::make_nodes;
use crate::mounts::{attach, clone_mount, is_mounted};
use crate::state::{self, ProcessIdentity, RuntimeState};

/// Why a container has not come to life, in one line.
pub struct Trouble {
    pub because: String,
    /// An action script would not have it.
    pub is_action: bool,
}

impl From<String> for Trouble {
    fn from(because: String) -> Trouble {
        Trouble { because, is_action: false }
    }
}

fn of_action(because: String) -> Trouble {
    Trouble { because, is_action: true }
}

/// What a monitor has before its container has anything.
pub struct Prepared {
    pub prefix: Prefix,
    pub cgroups: Cgroups,
    pub host: OwnedFd,
    pub plain: PathBuf,
    pub root: PathBuf,
    pub old: OldRoots,
    pub attachments: Attachments,
    pub actions: Actions,
    pub listener: OwnedFd,
}

impl Prepared {
    /// Out of a launch and what came beside it.
    pub fn new(launch: &Launch, mut descriptors: Vec<OwnedFd>) -> Result<Prepared, String> {
        let prefix = Prefix::new(&launch.prefix).map_err(|error| describe(&error))?;
        let cgroups = Cgroups::of(&prefix, &launch.id).map_err(|error| describe(&error))?;
        let run = prefix.run_dir_of(&launch.id);
        let host = std::fs::File::open("/proc/self/ns/mnt").map_err(|error| error.to_string())?.into();
        enter_own_namespace(&prefix).map_err(|error| format!("cannot make a mount namespace: {error}"))?;
        if descriptors.len() <= launch.actions.len() + launch.attachments.len() {
            return Err("no root, or not every script or mount, came with the request".to_owned());
        }
        let mut files = descriptors.split_off(1);
        let mut mounts = files.split_off(launch.actions.len());
        let chain = mounts.split_off(launch.attachments.len());
        let stage =
            mount_stage(&prefix).map_err(|error| format!("cannot make a place for the root: {error}"))?;
        let (plain, root) = (stage.join("plain"), stage.join("root"));
        for directory in [&plain, &root] {
            std::fs::create_dir_all(directory).map_err(|error| error.to_string())?;
        }
        attach(descriptors[0].as_fd(), &plain).map_err(|error| describe(&error))?;
        make_nodes(&stage.join(DEVICES), launch.ids, &launch.devices)
            .map_err(|error| format!("cannot make its devices: {error}"))?;
        if launch.nests {
            // It may ask for keys, and must not find those of whoever has started it.
            linux::take_new_session_keyring()
                .map_err(|error| format!("cannot take a keyring of its own: {error}"))?;
        }
        let mut old = OldRoots::new(&root, &stage.join("old"));
        old.replace(chain).map_err(|error| format!("cannot take the old roots: {error}"))?;
        let mut attachments = Attachments::new(&root, &stage.join("attached"), launch.ids);
        for (what, mount) in launch.attachments.iter().zip(&mounts) {
            attachments
                .take(what.clone(), mount)
                .map_err(|error| format!("cannot take {}: {error}", what.name))?;
        }
        let actions = Actions::new(&prefix, launch, &stage, files);
        let listener =
            listen(&run.join(SOCKET)).map_err(|error| format!("cannot listen for commands: {error}"))?;
        Ok(Prepared { prefix, cgroups, host, plain, root, old, attachments, actions, listener })
    }
}

impl Monitor {
    /// From nothing to a container whose init has been executed, and its scripts have run.
    pub(super) fn come_to_life(&mut self, is_first: bool) -> Result<Running, Trouble> {
        self.outside(Action::Premount, None, is_first)?;
        let clone = clone_mount(&self.plain).map_err(|error| describe(&error))?;
        if self.launch.settings.keeps_no_access_times {
            let attributes = MountAttributes {
                set: MountAttributes::NO_ACCESS_TIMES,
                clear: MountAttributes::ACCESS_TIMES,
                ..MountAttributes::default()
            };
            set_mount_attributes(&clone, &attributes)
                .map_err(|error| format!("cannot mount it with `noatime`: {error}"))?;
        }
        let tree = self.outside(Action::Mount, Some(clone), is_first)?;
        let tree = tree.ok_or_else(|| "the root was not handed on".to_owned())?;
        attach(tree.as_fd(), &self.root).map_err(|error| describe(&error))?;
        share(&self.root).map_err(|error| format!("cannot share the root: {error}"))?;
        let mut place = Place {
            launch: &self.launch,
            prefix: &self.prefix,
            cgroups: &self.cgroups,
            root: &self.root,
            old: &self.old,
            attachments: &mut self.attachments,
        };
        let running = start(&mut place, &mut self.console, is_first)?;
        // One that nobody knows of would be started a second time, on the same root.
        let state = self.record(&running).map_err(|error| format!("cannot record the start: {error}"))?;
        self.inside(Action::Start, &state, is_first)?;
        Ok(running)
    }

    /// The way back of [`Monitor::come_to_life`] once no process of the container is left. What could not be done is told, and holds nothing up.
    pub(super) fn go_down(&mut self) -> Vec<String> {
        let mut warnings = Vec::new();
        self.old.detach();
        // Scripts of the host see nothing of it: what lies there could be executed by them.
        self.attachments.detach();
        if self.actions.take_begun(Action::Mount) && self.actions.has(Action::Umount) {
            match self.give_up_root() {
                Ok(tree) => warnings.extend(self.outside(Action::Umount, Some(tree), false).err()),
                Err(error) => warnings.extend([Trouble::from(format!("cannot give up the root: {error}"))]),
            }
        }
        self.unmount_root();
        if self.actions.take_begun(Action::Premount) {
            warnings.extend(self.outside(Action::Postumount, None, false).err());
        }
        let warnings: Vec<String> = warnings.into_iter().map(|trouble| trouble.because).collect();
        for warning in &warnings {
            self.console.note(warning);
        }
        warnings
    }

    /// The root with all that scripts have mounted in it, and mounted nowhere else any more: what is unmounted there is free. One that a failed
    /// start has left nothing of is as it came.
    fn give_up_root(&self) -> io::Result<OwnedFd> {
        if !is_mounted(&self.root) {
            return clone_mount(&self.plain).map_err(io::Error::other);
        }
        let flags =
            OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
        let tree = rustix::mount::open_tree(CWD, &self.root, flags)?;
        self.unmount_root();
        Ok(tree)
    }

    /// Lazily: the superblock of the root has another mount here, and the scripts' mounts are whole elsewhere or not wanted any more.
    fn unmount_root(&self) {
        if is_mounted(&self.root) {
            let _ = rustix::mount::unmount(&self.root, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW);
        }
    }

    fn outside(
        &mut self,
        action: Action,
        root: Option<OwnedFd>,
        is_first: bool,
    ) -> Result<Option<OwnedFd>, Trouble> {
        let Monitor { actions, console, connections, .. } = self;
        // Nothing more comes from there but its end: then nobody wants the container any more.
        let starter = connections.first().filter(|_| is_first);
        let interrupt = starter.map(AsFd::as_fd);
        let mut tell = |script: &str, line: &[u8]| say(starter, script, line);
        actions.run_outside(action, root, interrupt, console, &mut tell).map_err(of_action)
    }

    fn inside(&mut self, action: Action, state: &RuntimeState, is_first: bool) -> Result<(), Trouble> {
        let Monitor { actions, console, connections, .. } = self;
        let starter = connections.first().filter(|_| is_first);
        let interrupt = starter.map(AsFd::as_fd);
        let mut tell = |script: &str, line: &[u8]| say(starter, script, line);
        actions.run_inside(action, state, interrupt, console, &mut tell).map_err(of_action)
    }

    fn record(&self, running: &Running) -> io::Result<RuntimeState> {
        let monitor = ProcessIdentity::of(rustix::process::getpid().as_raw_nonzero().get())
            .ok_or_else(|| io::Error::other("this process is not in /proc"))?;
        let state = RuntimeState {
            format: state::FORMAT,
            boot_id: crate::kernel::boot_id(),
            prefix: self.prefix.root().to_owned(),
            generation: self.launch.generation,
            ids: self.launch.ids,
            init: running.init,
            monitor,
            stop_signal: self.launch.stop_signal,
            is_systemd: self.launch.is_systemd,
            is_application: self.launch.application.is_some(),
            nests: self.launch.nests,
            protocol: VERSION,
            actions_limit: self.actions.limit_between_lives(),
            started: jiff::Timestamp::now(),
        };
        state::record(&self.prefix, &self.launch.id, &state)?;
        Ok(state)
    }
}

fn say(starter: Option<&super::protocol::Channel>, script: &str, line: &[u8]) {
    if let Some(starter) = starter {
        let said = Event::Said { script: script.to_owned(), line: line.to_owned() };
        // Who does not listen misses it; the log has it.
        drop(starter.send(&said, &[]));
    }
}
