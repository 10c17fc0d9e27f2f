//! Containers that really run: [`Runtime`] by way of the crate `runtime`.

mod errors;
mod settings;

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use linux::{Exit, SignalReader, signal_by_number};
use runtime::actions::ActionScript;
use runtime::attachments::{self, Attached, Attachment};
use runtime::confined::{Reach, confined};
use runtime::exec::{self, ExecError, Lines, Program, Request, Script, Streams};
use runtime::going_down::{self, Pulse};
use runtime::keeper::Keeper;
use runtime::limits::{Disk, lacking};
use runtime::monitor::{Launch, MonitorError, Session, living_monitor, spawn, wait_for_former};
use runtime::mounts;
use runtime::state::{Looked, RuntimeState};
use runtime::volume::VolumeError;
use runtime::{cgroup::Cgroups, mounts_of_container, script, state, volume};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use store::{ContainerId, DiskNumber, Forward, GenerationNumber, IdRange, InnerPath, Limits, Prefix};

use self::errors::{because, exec_error, monitor_error, mount_error, other, volume_error, wait_error};
use crate::runtime::{
    InnerScript, Life, OuterScript, Patience, Root, Run, Runtime, RuntimeError, RuntimeErrorKind,
    RuntimeResult, Settings, Sink, Start,
};

/// How long processes may take to die of SIGKILL.
const KILLING: Duration = Duration::from_secs(30);
/// How long the monitor of a stopped container may take to flush and unmount.
const LEAVING: Duration = Duration::from_secs(300);
/// How long a monitor may take until it runs its container, or has left.
const COMING: Duration = Duration::from_secs(5);
/// What is told of a stop whose deadline its monitor has not kept.
const LATE: &str = "its monitor had not ended when the deadline of the stop was over, and was killed with whatever action script it was running";
/// How long joining a container may take at least.
const JOINING: Duration = Duration::from_secs(5);
/// How often a plain init that has just been executed is looked at.
const BETWEEN_LOOKS: Duration = Duration::from_micros(500);
/// One that has been seen waiting for something so many times in a row lives.
const RESTS: u32 = 2;
/// One that has not rested by then is busy with something, and lives.
const LONGEST_LOOK: Duration = Duration::from_secs(1);

/// An application that has gone on for so long is up: one that lacks something at its start says so sooner.
const GOING_ON: Duration = Duration::from_secs(2);

/// One that ends sooner has not started.
const FIRST_LOOK: Duration = Duration::from_millis(200);

/// A longer chain is not attached to its end: one packet to a monitor carries so many descriptors.
const DEEPEST: usize = 100;

/// See the module.
#[derive(Debug)]
pub struct RealRuntime {
    prefix: Prefix,
    /// The conversations with monitors that this process has started; on probation they must stay open.
    sessions: RefCell<HashMap<ContainerId, Session>>,
    keepers: RefCell<HashMap<ContainerId, Keeper>>,
    /// Tells of the first signal that asks this process to end, while an operation is under way.
    signals: RefCell<Option<SignalReader>>,
}

/// What asks a process to end: HUP INT TERM.
pub const ENDING_SIGNALS: [i32; 3] = [1, 2, 15];

impl RealRuntime {
    /// For the host at `prefix`.
    pub fn new(prefix: Prefix) -> RealRuntime {
        RealRuntime {
            prefix,
            sessions: RefCell::default(),
            keepers: RefCell::default(),
            signals: RefCell::default(),
        }
    }

    /// Kills all of the container, its monitor first.
    fn end_all(&self, id: &ContainerId, keeps_mounts: bool) -> RuntimeResult<()> {
        self.kill(id)?;
        if !keeps_mounts {
            mounts_of_container::unmount_all(&self.prefix, id);
        }
        Ok(())
    }

    fn connect(&self, id: &ContainerId) -> RuntimeResult<Option<Session>> {
        Session::connect(&self.prefix, id).map_err(monitor_error)
    }

    /// How a plain init ended that has just been executed, if it did before it waited for anything. A systemd tells when it is up, another init
    /// does not; but one that dies at once does so without ever coming to rest, however loaded the host is.
    fn died_at_once(&self, id: &ContainerId, session: &Session) -> Option<(runtime::monitor::End, String)> {
        let deadline = std::time::Instant::now() + LONGEST_LOOK;
        let mut rests = 0;
        while rests < RESTS && std::time::Instant::now() < deadline {
            if let Some(end) = session.ended_within(BETWEEN_LOOKS) {
                return Some(end);
            }
            let is_at_rest = state::recorded(&self.prefix, id).is_some_and(|state| state.init.is_at_rest());
            rests = if is_at_rest { rests + 1 } else { 0 };
        }
        None
    }

    /// How one ended whose init is dead and whose scripts are still at work: its monitor tells when they are done. One that begins another life has not.
    fn is_ending(
        &self,
        id: &ContainerId,
        session: &Session,
        scripts: Duration,
    ) -> Option<(runtime::monitor::End, String)> {
        let deadline = std::time::Instant::now() + scripts;
        let is_dead = || state::recorded(&self.prefix, id).is_none_or(|state| !state.init.is_alive());
        while is_dead() && std::time::Instant::now() < deadline {
            if let Some(end) = session.ended_within(FIRST_LOOK) {
                return Some(end);
            }
        }
        None
    }

    /// An application need not have a shell: that it goes on is all that can be seen of it.
    fn goes_on(&self, id: &ContainerId, limit: Duration) -> RuntimeResult<()> {
        let deadline = std::time::Instant::now() + limit;
        loop {
            let rest = deadline.saturating_duration_since(std::time::Instant::now());
            if self.ended_within(id, rest)? {
                // Its monitor tells how.
                let told = self.sessions.borrow().get(id).and_then(|session| session.ended_within(COMING));
                let (because, console) = told.map_or_else(
                    || ("it has ended".to_owned(), self.console(id)),
                    |(how, console)| (how.to_string(), console),
                );
                return Err(RuntimeError { because, console, kind: RuntimeErrorKind::NotRunning });
            }
            if rest.is_zero() {
                return Ok(());
            }
        }
    }

    /// Every root mounted, and clones of the mounts: the first for `/`, the rest for `/old`, `/old/old`, …
    fn mount_roots(&self, start: &Start) -> RuntimeResult<Vec<OwnedFd>> {
        let Some(image) = &start.volume else { return self.mount_each_root(start) };
        // Again: a former monitor may have unmounted it since.
        self.mount_volume(&start.id, image)?;
        let mounted = match self.mount_each_root(start) {
            // Nobody runs in it who might take what is released.
            Err(error) if error.kind == RuntimeErrorKind::NoSpace => {
                self.release_reserve(&start.id)?;
                self.mount_each_root(start)
            }
            mounted => mounted,
        };
        volume::keep_reserve(&self.prefix, &start.id);
        mounted
    }

    fn mount_attachment(
        &self,
        id: &ContainerId,
        ids: IdRange,
        one: &Attachment,
    ) -> RuntimeResult<(Attached, OwnedFd)> {
        attachments::mount(&self.prefix, id, ids, one).map_err(|error| other(&error))
    }

    fn mount_each_root(&self, start: &Start) -> RuntimeResult<Vec<OwnedFd>> {
        let mut clones = Vec::with_capacity(start.roots.len());
        for (depth, root) in start.roots.iter().take(DEEPEST).enumerate() {
            let point =
                mounts::mount_generation(&self.prefix, &start.id, root.number, &root.layers, start.ids)
                    .map_err(|error| mount_error(&error))?;
            // The root before this one is the container's to use, once it is not the only way back; older ones never are, so that
            // `rm -rf /old/*` cannot empty the whole chain.
            let is_probation = start.is_probation && !linux::mutated!("old-root-writable");
            let is_read_only = depth > 1 || (depth == 1 && is_probation);
            mounts::set_read_only(&point, is_read_only).map_err(|error| mount_error(&error))?;
            clones.push(mounts::clone_mount(&point).map_err(|error| mount_error(&error))?);
        }
        Ok(clones)
    }
}

/// What a record says that lives.
fn run_of(state: &RuntimeState) -> Run {
    Run {
        generation: state.generation,
        init: state.init.pid,
        started: state.started,
        monitor: Some(state.monitor),
        is_systemd: state.is_systemd,
        is_application: state.is_application,
    }
}

impl Runtime for RealRuntime {
    fn life(&self, id: &ContainerId) -> Life {
        match state::look(&self.prefix, id) {
            Looked::Running(state) => Life::Running(run_of(&state)),
            Looked::BetweenLives => Life::Between,
            Looked::Stopped => Life::Stopped,
            // The kernel is asked whom there is; whether the record is of a later version or damaged.
            Looked::Unreadable(error) => {
                let lives = Cgroups::of(&self.prefix, id).is_ok_and(|groups| groups.is_populated());
                if lives { Life::Unknown(error.to_string()) } else { Life::Stopped }
            }
        }
    }

    fn running(&self, id: &ContainerId) -> Option<Run> {
        state::running(&self.prefix, id).as_ref().map(run_of)
    }

    fn start(&self, start: &Start, said: &mut dyn FnMut(&str, &[u8])) -> RuntimeResult<Vec<String>> {
        // First, so that it comes up while the roots are mounted. It has waited for a former monitor, which may still unmount them.
        let monitor = spawn(&self.prefix, &start.id).map_err(monitor_error)?;
        let mounted = self.release_view(&start.id).and_then(|()| self.mount_roots(start)).and_then(|roots| {
            let attached =
                start.attachments.iter().map(|one| self.mount_attachment(&start.id, start.ids, one));
            Ok((roots, attached.collect::<RuntimeResult<Vec<_>>>()?))
        });
        let (mut clones, attached) = match mounted {
            Ok(mounted) => mounted,
            Err(error) => {
                // It has nothing to run, and the groups that it was born in are nobody's.
                monitor.dismiss();
                let _ = self.kill(&start.id).and_then(|()| self.wait_until_gone(&start.id));
                return Err(error);
            }
        };
        let old = clones.split_off(1);
        let (attachments, attached): (Vec<_>, Vec<_>) = attached.into_iter().unzip();
        let wanted = Launch {
            attachments,
            devices: start.extras.devices.clone(),
            nests: start.extras.nests,
            prefix: self.prefix.root().to_owned(),
            id: start.id,
            generation: start.roots[0].number,
            ids: start.ids,
            settings: start.settings.clone(),
            probation_network: start.probation_network,
            veid: Some(start.veid.clone()).filter(|veid| *veid != start.id.to_string()),
            init: start.init.clone(),
            stop_signal: start.stop_signal,
            is_systemd: start.is_systemd,
            application: start.application.clone(),
            is_probation: start.is_probation,
            actions: start
                .actions
                .iter()
                .map(|script| ActionScript { action: script.action, name: script.name.clone() })
                .collect(),
            action_limit: start.action_limit.as_secs(),
        };
        let files: Vec<_> = start.actions.iter().map(|script| script.file.as_fd()).collect();
        let signals = self.signals.borrow();
        let interrupt = signals.as_ref().map(AsFd::as_fd);
        let launched = monitor
            .launch(&wanted, &clones[0], &files, (&attached, &old), interrupt, said)
            .map_err(|error| {
                if matches!(error, MonitorError::Interrupted) {
                    // What its scripts have begun they are to end.
                    let _ = self.wait_until_gone(&start.id);
                }
                // A monitor that was killed while it started it has left what it had made so far; and what was mounted for it is nobody's.
                let _ = self.kill(&start.id);
                if state::running(&self.prefix, &start.id).is_none() && !start.is_probation {
                    let _ = self.unmount_all(&start.id);
                }
                monitor_error(error)
            });
        drop(signals);
        let (session, warnings) = launched?;
        let ended = match start.application {
            // Process 1 rests while its program works.
            Some(_) => session.ended_within(FIRST_LOOK),
            None if start.is_systemd => None,
            None => self.died_at_once(&start.id, &session),
        };
        let scripts = start.action_limit * start.actions.len() as u32;
        let ended = ended.or_else(|| self.is_ending(&start.id, &session, scripts));
        if let Some((how, console)) = ended {
            return Err(RuntimeError { because: how.to_string(), console, kind: RuntimeErrorKind::Other });
        }
        self.sessions.borrow_mut().insert(start.id, session);
        Ok(warnings)
    }

    fn wait_until_up(&self, id: &ContainerId, limit: Duration) -> RuntimeResult<()> {
        let run = self.running(id).ok_or_else(|| exec_error(&ExecError::NotRunning))?;
        if run.is_systemd {
            let sessions = self.sessions.borrow();
            let own = sessions.get(id);
            let connected = if own.is_none() { self.connect(id)? } else { None };
            let session = own.or(connected.as_ref()).ok_or_else(|| RuntimeError {
                because: "its monitor was killed: nobody can tell whether it is up".to_owned(),
                console: String::new(),
                kind: RuntimeErrorKind::Other,
            })?;
            let signals = self.signals.borrow();
            return session.wait_until_up(limit, signals.as_ref().map(AsFd::as_fd)).map_err(monitor_error);
        }
        if run.is_application {
            return self.goes_on(id, limit.min(GOING_ON));
        }
        // A plain init is alive and executes: the shell is what every script needs.
        let null = exec::null().map_err(|error| other(&error))?;
        let streams = Streams::Descriptors([null.as_fd(); 3]);
        let request =
            Request { program: Program::Shell(":".into()), environment: exec::environment(), streams };
        let running = exec::execute(&self.prefix, id, &request).map_err(|error| exec_error(&error))?;
        let signals = self.signals.borrow();
        let waited = running.child().wait_for(limit, signals.as_ref().map(AsFd::as_fd));
        if waited.is_err() {
            let _ = running.child().end(KILLING);
        }
        match waited.map_err(|error| wait_error(&error))? {
            Some(exit) if exit.is_success() => Ok(()),
            Some(exit) => Err(RuntimeError {
                because: format!("its shell does not work: exit code {}", exit.shell_code()),
                console: String::new(),
                kind: RuntimeErrorKind::NotUp,
            }),
            None => {
                let _ = running.child().end(KILLING);
                Err(monitor_error(MonitorError::NotUp { limit }))
            }
        }
    }

    fn settle(&self, id: &ContainerId) -> RuntimeResult<Vec<String>> {
        match self.sessions.borrow().get(id).map(Session::settle) {
            Some(Ok(warnings)) => return Ok(warnings),
            // It was killed meanwhile.
            Some(Err(MonitorError::Lost { .. })) | None => {}
            Some(Err(error)) => return Err(monitor_error(error)),
        }
        match self.connect(id)? {
            Some(session) => session.settle().map_err(monitor_error),
            // Nobody else lets the container be reached.
            None => net::release(&self.prefix, id).map(|()| Vec::new()).map_err(|error| other(&error)),
        }
    }

    fn stop(&self, id: &ContainerId, patience: Patience, keeps_mounts: bool) -> RuntimeResult<Vec<String>> {
        let running = state::running_by(&self.prefix, id, patience.deadline);
        let limit = patience.rest();
        // What its monitor waits for has no more time, and it hears nobody meanwhile.
        let is_late = || matches!(state::look(&self.prefix, id), Looked::BetweenLives);
        if patience.deadline.is_some() && running.is_none() && is_late() {
            return self.end_all(id, keeps_mounts).map(|()| vec![LATE.to_owned()]);
        }
        let Some(state) = running else {
            return match state::check(&self.prefix, id) {
                Ok(()) => Ok(Vec::new()),
                Err(_) if limit.is_zero() => self.end_all(id, keeps_mounts).map(|()| Vec::new()),
                Err(error) => Err(because(format!(
                    "{} cannot be used: {error}",
                    state::path(&self.prefix, id).display()
                ))),
            };
        };
        let own = self.sessions.borrow_mut().remove(id);
        let session = if own.is_some() { own } else { self.connect(id)? };
        if let Some(session) = session {
            let signals = self.signals.borrow();
            let scripts = (Duration::from_secs(state.actions_limit), patience.deadline);
            match session.stop(limit, scripts, keeps_mounts, signals.as_ref().map(AsFd::as_fd)) {
                // Somebody who has been killed since had told it to stop: it was at its end, and has left without looking who else wants something.
                Err(MonitorError::Lost { .. }) if state::running(&self.prefix, id).is_none() => {
                    return Ok(Vec::new());
                }
                // It hangs: what it was to do at the end of its time is done here. Were it left, it would stop the container when it wakes.
                Err(MonitorError::Lost { source }) if source.kind() == std::io::ErrorKind::TimedOut => {
                    let told = patience.deadline.map(|_| LATE.to_owned());
                    return self.end_all(id, keeps_mounts).map(|()| told.into_iter().collect());
                }
                // It was killed.
                Err(MonitorError::Lost { .. }) if !state.monitor.is_alive() => {}
                stopped => return stopped.map_err(monitor_error),
            }
        }
        // Its monitor was killed: what that would have done.
        if let Some(init) = state.init.open().map_err(|error| other(&error))? {
            if !limit.is_zero() {
                // What could not be asked to stop is not waited for.
                signal_by_number(init.as_fd(), state.stop_signal).map_err(|error| other(&error))?;
                let timeout =
                    Timespec { tv_sec: limit.as_secs() as i64, tv_nsec: limit.subsec_nanos().into() };
                let signals = self.signals.borrow();
                let mut polled = vec![PollFd::new(&init, PollFlags::IN)];
                polled.extend(signals.as_ref().map(|one| PollFd::new(one, PollFlags::IN)));
                let _ = poll(&mut polled, Some(&timeout));
                if polled[0].revents().is_empty()
                    && polled.get(1).is_some_and(|one| !one.revents().is_empty())
                {
                    return Err(monitor_error(MonitorError::Interrupted));
                }
            }
            self.kill(id)?;
        }
        if !keeps_mounts {
            mounts_of_container::unmount_all(&self.prefix, id);
        }
        // What its scripts had mounted was gone with the monitor; what else they had begun is theirs to know.
        let has_scripts = state.actions_limit > 0;
        Ok(has_scripts
            .then(|| "its monitor was killed: `umount` and `postumount` have not run".to_owned())
            .into_iter()
            .collect())
    }

    fn kill(&self, id: &ContainerId) -> RuntimeResult<()> {
        // Closed only when the monitor is dead: on probation it would take that for the death of this process, and begin to recover.
        let _session = self.sessions.borrow_mut().remove(id);
        mounts::sweep_layers(&self.prefix, id);
        // The monitor first: it would start the container again, or its recovery. Also one that has not come to record a start yet.
        if let Some(monitor) = living_monitor(&self.prefix, id)
            && let Some(pidfd) = monitor.open().map_err(|error| other(&error))?
        {
            match rustix::process::pidfd_send_signal(&pidfd, rustix::process::Signal::KILL) {
                Ok(()) | Err(rustix::io::Errno::SRCH) => {}
                // It lives on: whoever waited for its end would wait for all of `LEAVING`, with the container locked.
                Err(error) => {
                    let error = std::io::Error::from(error);
                    return Err(because(format!(
                        "its monitor (pid {}) cannot be killed: {error}",
                        monitor.pid
                    )));
                }
            }
        }
        wait_for_former(&self.prefix, id, LEAVING, None).map_err(monitor_error)?;
        let cgroups = Cgroups::of(&self.prefix, id).map_err(|error| other(&error))?;
        // An action script that its monitor was running.
        cgroups.kill_script(KILLING).map_err(|error| other(&error))?;
        cgroups.kill_container(KILLING).map_err(|error| other(&error))?;
        net::detach(&self.prefix, id).map_err(|error| other(&error))?;
        cgroups.remove_container().map_err(|error| other(&error))?;
        state::forget(&self.prefix, id);
        Ok(())
    }

    fn end(&self, id: &ContainerId) -> RuntimeResult<()> {
        if state::running(&self.prefix, id).is_some_and(|state| state.actions_limit > 0) {
            // A monitor that is killed runs none of them; whatever comes of it, the rest is done all the same.
            let _ = self.stop(id, Duration::ZERO.into(), true);
        }
        self.kill(id)
    }

    fn wait_until_gone(&self, id: &ContainerId) -> RuntimeResult<()> {
        wait_for_former(&self.prefix, id, LEAVING, None).map_err(monitor_error)?;
        // A monitor cannot remove the group that it is in.
        if let Ok(cgroups) = Cgroups::of(&self.prefix, id) {
            // That of the container is there still if a start was killed before it had anything to run.
            if !cgroups.is_populated() {
                let _ = cgroups.remove_container();
            }
            cgroups.remove_empty();
        }
        Ok(())
    }

    fn wait_until_gone_unless_interrupted(&self, id: &ContainerId) -> RuntimeResult<()> {
        let signals = self.signals.borrow();
        wait_for_former(&self.prefix, id, LEAVING, signals.as_ref().map(AsFd::as_fd))
            .map_err(monitor_error)?;
        self.wait_until_gone(id)
    }

    fn change(
        &self,
        id: &ContainerId,
        before: Option<&Settings>,
        wanted: &Settings,
    ) -> RuntimeResult<Vec<String>> {
        settings::change(&self.prefix, id, before, wanted)
    }

    fn lacks(&self, limits: &Limits) -> Vec<(&'static str, String)> {
        lacking(limits, Disk::of(&self.prefix))
    }

    fn check_filter(&self) -> RuntimeResult<()> {
        if net::has_filter() { Ok(()) } else { Err(other(&net::NetworkError::NoFilter)) }
    }

    fn restore_filter(&self) -> RuntimeResult<()> {
        net::restore(&self.prefix).map_err(|error| other(&error))
    }

    fn lacks_bridge(&self, wanted: &store::Interface) -> Option<String> {
        net::check_bridge(wanted).err().map(|error| error.to_string())
    }

    fn listens(&self, forward: &Forward) -> bool {
        net::listens(forward)
    }

    fn holder_of(&self, ip: IpAddr, is_routed: bool, but: Option<&ContainerId>) -> Option<String> {
        settings::holder_of(ip, is_routed, but)
    }

    fn replace_old(&self, id: &ContainerId, ids: IdRange, roots: &[Root]) -> RuntimeResult<Vec<String>> {
        let mut clones = Vec::with_capacity(roots.len());
        for (depth, root) in roots.iter().take(DEEPEST).enumerate() {
            let point = mounts::mount_generation(&self.prefix, id, root.number, &root.layers, ids)
                .map_err(|error| mount_error(&error))?;
            mounts::set_read_only(&point, depth > 0).map_err(|error| mount_error(&error))?;
            clones.push(mounts::clone_mount(&point).map_err(|error| mount_error(&error))?);
        }
        let sessions = self.sessions.borrow();
        let connected = self.connect(id)?;
        match sessions.get(id).or(connected.as_ref()) {
            Some(session) => session.replace_old(&clones).map_err(monitor_error),
            None => Ok(vec!["its monitor was killed: /old changes at the next start".to_owned()]),
        }
    }

    fn set_read_only(
        &self,
        id: &ContainerId,
        number: GenerationNumber,
        is_read_only: bool,
    ) -> RuntimeResult<()> {
        let point = mounts::generation_point(&self.prefix, id, number);
        if !mounts::is_mounted(&point) {
            return Ok(());
        }
        mounts::set_read_only(&point, is_read_only).map_err(|error| mount_error(&error))
    }

    fn unmount(&self, id: &ContainerId, number: GenerationNumber) -> RuntimeResult<()> {
        for point in
            [mounts::generation_point(&self.prefix, id, number), mounts::host_point(&self.prefix, id, number)]
        {
            if mounts::is_mounted(&point) {
                mounts::unmount(&point).map_err(|error| mount_error(&error))?;
            }
        }
        Ok(())
    }

    fn unmount_all(&self, id: &ContainerId) -> RuntimeResult<()> {
        mounts::sweep_layers(&self.prefix, id);
        mounts_of_container::unmount_host_view(&self.prefix, id).map_err(|error| mount_error(&error))?;
        for kind in ["generations", "host"] {
            for point in mounts::mounted(&self.prefix, id, kind) {
                mounts::unmount(&point).map_err(|error| mount_error(&error))?;
            }
        }
        Ok(())
    }

    fn clear_up(&self, id: &ContainerId) {
        let deadline = std::time::Instant::now() + COMING;
        // One that has just been started by a command that was killed then, or one that leaves: it says soon which. What it serves is its own.
        while let Some(monitor) = living_monitor(&self.prefix, id) {
            if self.running(id).is_some() || std::time::Instant::now() >= deadline {
                return;
            }
            let Ok(Some(pidfd)) = monitor.open() else { continue };
            let timeout = Timespec { tv_sec: 0, tv_nsec: BETWEEN_LOOKS.as_nanos() as i64 };
            let _ = poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&timeout));
        }
        // It does not run, and nobody watches it: what there is of its network is what a death has left.
        let _ = net::detach(&self.prefix, id);
        // And what is alive of it is the rest of a start.
        if let Ok(cgroups) = Cgroups::of(&self.prefix, id)
            && cgroups.is_populated()
        {
            let _ = cgroups.kill_container(KILLING).and_then(|()| cgroups.remove_container());
        }
        let _ = Cgroups::of(&self.prefix, id).and_then(|cgroups| cgroups.kill_script(KILLING));
        mounts::sweep_layers(&self.prefix, id);
        for point in mounts::mounted(&self.prefix, id, "generations") {
            // Busy: a process of the host is in it; the next start says so.
            let _ = mounts::unmount(&point);
        }
        let _ = volume::unmount_volume(&self.prefix, id);
        volume::unmount_disks(&self.prefix, id);
    }

    fn release_view(&self, id: &ContainerId) -> RuntimeResult<()> {
        mounts_of_container::unmount_host_view(&self.prefix, id).map_err(|error| mount_error(&error))?;
        for point in mounts::mounted(&self.prefix, id, "host") {
            mounts::unmount(&point).map_err(|error| mount_error(&error))?;
        }
        Ok(())
    }

    fn is_in_use(&self, id: &ContainerId, number: GenerationNumber) -> bool {
        if linux::mutated!("in-use-ignored") {
            return false;
        }
        mounts_of_container::is_seen_by_processes(&self.prefix, id, number)
    }

    fn is_held(&self, id: &ContainerId, number: GenerationNumber) -> bool {
        mounts_of_container::is_held_by_processes(&self.prefix, id, number)
    }

    fn look(&self, id: &ContainerId, root: &Root) -> RuntimeResult<tree::Root> {
        for point in [
            mounts::generation_point(&self.prefix, id, root.number),
            mounts::host_point(&self.prefix, id, root.number),
        ] {
            if mounts::is_mounted(&point) {
                return tree::Root::open(&point).map_err(|error| other(&error));
            }
        }
        let view = mounts::read_view(&root.layers).map_err(|error| mount_error(&error))?;
        Ok(tree::Root::from_handle(view))
    }

    fn keep(&self, id: &ContainerId) -> RuntimeResult<()> {
        if self.keepers.borrow().contains_key(id) || linux::mutated!("no-keeper") {
            return Ok(());
        }
        let keeper = Keeper::start(&self.prefix, id).map_err(|error| other(&error))?;
        self.keepers.borrow_mut().insert(*id, keeper);
        Ok(())
    }

    fn dismiss_keeper(&self, id: &ContainerId) {
        if let Some(keeper) = self.keepers.borrow_mut().remove(id) {
            keeper.dismiss();
        }
    }

    fn confined(&self, reach: &Reach<'_>, work: &mut dyn FnMut()) -> RuntimeResult<()> {
        confined(reach, work).map_err(|error| other(&error))
    }

    fn heed_signals(&self) -> RuntimeResult<()> {
        // What is ignored, as under nohup(1), would be told by the reader all the same, since it is blocked.
        let heeded: Vec<i32> =
            ENDING_SIGNALS.into_iter().filter(|&signal| !linux::is_ignored(signal)).collect();
        let reader = SignalReader::new(&heeded).map_err(|error| other(&error))?;
        *self.signals.borrow_mut() = Some(reader);
        Ok(())
    }

    fn interruption(&self) -> Option<i32> {
        let signal = self.signals.borrow().as_ref()?.try_next().ok()??;
        *self.signals.borrow_mut() = None;
        Some(signal)
    }

    fn interrupt(&self) -> Option<OwnedFd> {
        self.signals.borrow().as_ref()?.as_fd().try_clone_to_owned().ok()
    }

    fn pulse(&self, id: &ContainerId) -> Option<Pulse> {
        going_down::pulse(&self.prefix, id)
    }

    fn is_going_down(&self, id: &ContainerId, before: Option<Pulse>) -> bool {
        going_down::is_going_down(&self.prefix, id, before)
    }

    fn is_stopping(&self, id: &ContainerId) -> bool {
        Session::connect(&self.prefix, id)
            .is_ok_and(|session| session.is_some_and(|session| session.is_stopping()))
    }

    fn run_outside(
        &self,
        id: &ContainerId,
        wanted: &OuterScript<'_>,
        sink: Sink<'_>,
    ) -> RuntimeResult<Option<Exit>> {
        let view = mounts::read_view(&wanted.shown.layers).map_err(|error| mount_error(&error))?;
        let script = script::HostScript {
            file: wanted.file,
            arguments: wanted.arguments.clone(),
            environment: wanted.environment.clone(),
            view: (&view, wanted.shown_at.clone()),
            read_only: wanted.read_only.clone(),
        };
        let signals = self.signals.borrow();
        let interrupt = signals.as_ref().map(AsFd::as_fd);
        script::run(&self.prefix, id, &script, wanted.limit, interrupt, sink).map_err(|error| {
            if matches!(error, script::ScriptError::Interrupted) {
                return monitor_error(MonitorError::Interrupted);
            }
            other(&error)
        })
    }

    fn make_volume(
        &self,
        id: &ContainerId,
        image: &Path,
        size: u64,
        inodes: Option<u64>,
    ) -> RuntimeResult<PathBuf> {
        volume::make(image, size, inodes).map_err(volume_error)?;
        volume::mount(&self.prefix, id, image).map_err(volume_error)
    }

    fn mount_volume(&self, id: &ContainerId, image: &Path) -> RuntimeResult<()> {
        volume::mount(&self.prefix, id, image).map(drop).map_err(volume_error)
    }

    fn release_reserve(&self, id: &ContainerId) -> RuntimeResult<()> {
        volume::release_reserve(&self.prefix, id).map_err(volume_error)
    }

    fn unmount_volume(&self, id: &ContainerId) {
        // Who is in it keeps it, and nothing else.
        let _ = volume::unmount_volume(&self.prefix, id);
    }

    fn put_disks_away(&self, id: &ContainerId, images: &[PathBuf]) -> RuntimeResult<()> {
        volume::put_away(&self.prefix, id, images).map_err(volume_error)
    }

    fn let_volume_go(&self, id: &ContainerId) {
        volume::let_go(&self.prefix, id);
    }

    fn grow_volume(&self, id: &ContainerId, image: &Path, size: u64) -> RuntimeResult<()> {
        match volume::grow(&self.prefix, id, image, size) {
            // Without CAP_SYS_RESOURCE a mounted one stays as it is, and as large as its file it has always been.
            Err(VolumeError::Call { source, .. })
                if source.kind() == std::io::ErrorKind::PermissionDenied
                    && std::fs::symlink_metadata(image).is_ok_and(|found| found.len() == size)
                    && self.running(id).is_some() =>
            {
                Ok(())
            }
            Err(VolumeError::Call { source, .. })
                if source.kind() == std::io::ErrorKind::PermissionDenied && self.running(id).is_none() =>
            {
                self.remake_volume(id, image, size)
            }
            grown => grown.map_err(volume_error),
        }
    }

    fn remake_volume(&self, id: &ContainerId, image: &Path, size: u64) -> RuntimeResult<()> {
        volume::remake(&self.prefix, id, image, size).map_err(volume_error)
    }

    fn compact_volume(&self, id: &ContainerId, image: &Path) -> RuntimeResult<()> {
        volume::compact(&self.prefix, id, image).map(drop).map_err(volume_error)
    }

    fn release_disk(&self, id: &ContainerId, number: DiskNumber) {
        let _ = mounts::unmount(&store::disks::mount_point(&self.prefix, id, number));
    }

    fn let_disks_go(&self, id: &ContainerId) {
        volume::let_disks_go(&self.prefix, id);
    }

    fn attach(&self, id: &ContainerId, ids: IdRange, what: &Attachment) -> RuntimeResult<bool> {
        let Some(session) = self.connect(id)? else { return Ok(false) };
        let (attached, mount) = self.mount_attachment(id, ids, what)?;
        match session.attach(attached, &mount) {
            Ok(()) => Ok(true),
            Err(MonitorError::OtherVersion { .. }) => Ok(false),
            Err(error) => Err(monitor_error(error)),
        }
    }

    fn detach(&self, id: &ContainerId, at: &InnerPath) -> RuntimeResult<bool> {
        let Some(session) = self.connect(id)? else { return Ok(false) };
        match session.detach(at.clone()) {
            Ok(()) => Ok(true),
            Err(MonitorError::OtherVersion { .. }) => Ok(false),
            Err(error) => Err(monitor_error(error)),
        }
    }

    fn kill_outside(&self, id: &ContainerId) -> RuntimeResult<()> {
        let cgroups = Cgroups::of(&self.prefix, id).map_err(|error| other(&error))?;
        cgroups.kill_script(KILLING).map_err(|error| other(&error))
    }

    fn ended_within(&self, id: &ContainerId, limit: Duration) -> RuntimeResult<bool> {
        let Some(state) = state::running(&self.prefix, id) else { return Ok(true) };
        let Some(init) = state.init.open().map_err(|error| other(&error))? else { return Ok(true) };
        let timeout = Timespec { tv_sec: limit.as_secs() as i64, tv_nsec: limit.subsec_nanos().into() };
        let signals = self.signals.borrow();
        let mut polled = vec![PollFd::new(&init, PollFlags::IN)];
        polled.extend(signals.as_ref().map(|one| PollFd::new(one, PollFlags::IN)));
        // One that was interrupted by something else has waited for less: whoever waits asks again.
        let _ = poll(&mut polled, Some(&timeout));
        if polled.get(1).is_some_and(|one| !one.revents().is_empty()) {
            return Err(monitor_error(MonitorError::Interrupted));
        }
        Ok(!polled[0].revents().is_empty())
    }

    fn console(&self, id: &ContainerId) -> String {
        runtime::monitor::last_lines_logged(&self.prefix, id)
    }

    fn ask(&self, id: &ContainerId, words: &[&str], limit: Duration) -> RuntimeResult<Vec<Vec<u8>>> {
        let signals = self.signals.borrow();
        let answer = exec::ask(&self.prefix, id, words, limit, signals.as_ref().map(AsFd::as_fd));
        answer.map_err(|error| {
            if let ExecError::Io(error) = &error {
                return wait_error(error);
            }
            exec_error(&error)
        })
    }

    fn run_inside(
        &self,
        id: &ContainerId,
        wanted: &InnerScript<'_>,
        sink: Sink<'_>,
    ) -> RuntimeResult<Option<Exit>> {
        let other = |error: std::io::Error| other(&error);
        let null = exec::null().map_err(other)?;
        let (output, written) =
            rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(|error| other(error.into()))?;
        let request = Request {
            program: Program::Script(Script::new(wanted.text).map_err(other)?),
            environment: wanted.environment.clone(),
            streams: Streams::Descriptors([null.as_fd(), written.as_fd(), written.as_fd()]),
        };
        // Little time is no reason to take a busy host for a container that stands still.
        let running = exec::execute_within(&self.prefix, id, &request, wanted.limit.max(JOINING))
            .map_err(|error| exec_error(&error))?;
        drop(written);
        let signals = self.signals.borrow();
        let interrupt = signals.as_ref().map(AsFd::as_fd);
        let exit =
            Lines::new(output).until_end(running.child(), wanted.limit, interrupt, &mut exec::Alone, sink);
        if !matches!(exit, Ok(Some(_))) {
            let _ = running.child().end(KILLING);
        }
        exit.map_err(|error| wait_error(&error))
    }
}
