//! The commands' side of a conversation with a monitor.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use linux::{Child, close_on_exec_from, exit_now, fork};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use store::{ContainerId, InnerPath, Prefix};

use super::container::short_path;
use super::protocol::{Channel, End, Event, Launch, Request, VERSION, deadline};
use super::serve::{NAME, SOCKET};
use super::settings::Settings;
use crate::attachments::Attached;
use crate::cgroup::{CgroupError, Cgroups};
use crate::state::{ProcessIdentity, recorded};

/// How long a monitor may take to answer what costs it nothing.
const ANSWER: Duration = Duration::from_secs(30);
/// How long one may take to kill its container.
const HEARING: Duration = Duration::from_secs(5);
/// How long left-over processes of an earlier run may take to die.
const KILLING: Duration = Duration::from_secs(10);
/// How long a start may take until init is executed.
const START: Duration = Duration::from_secs(60);
/// How long the monitor of a stopped container may take to flush and unmount.
const LEAVING: Duration = Duration::from_secs(300);

/// What can go wrong between a command and a monitor.
#[derive(Debug, thiserror::Error)]
pub enum MonitorError {
    /// The container did not start.
    #[error("{because}")]
    NotStarted {
        /// Why.
        because: String,
        /// The last lines of its console, perhaps none.
        console: String,
        /// An action script has failed.
        is_action: bool,
    },
    /// It ended while it was coming up.
    #[error("{how}")]
    Ended {
        /// How.
        how: End,
        /// The last lines of its console, perhaps none.
        console: String,
    },
    /// It did not come up in time.
    #[error("it has not come up within {} s", limit.as_secs())]
    NotUp {
        /// How long it was waited for.
        limit: Duration,
    },
    /// The monitor did not do as it was told.
    #[error("its monitor refused: {because}")]
    Refused {
        /// Why.
        because: String,
    },
    /// It is of another version of this program, and does not know what it was asked.
    #[error(
        "its monitor does not know that: it is of another version of Reroot, and speaks version {speaks} where this one speaks {VERSION}"
    )]
    OtherVersion {
        /// What it speaks.
        speaks: u32,
    },
    /// Somebody wants this process to end.
    #[error("it was interrupted")]
    Interrupted,
    /// The monitor went away, or does not answer.
    #[error("its monitor cannot be spoken to")]
    Lost {
        /// What was tried last.
        source: io::Error,
    },
    /// A former monitor is still flushing what the container wrote.
    #[error("the monitor of its last run (pid {pid}) has not finished within {} s", limit.as_secs())]
    Leaving {
        /// Its process id.
        pid: i32,
        /// How long it was waited for.
        limit: Duration,
    },
    /// Control groups are not as they should be.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
}

impl From<io::Error> for MonitorError {
    fn from(source: io::Error) -> MonitorError {
        if source.kind() == io::ErrorKind::Interrupted {
            return MonitorError::Interrupted;
        }
        MonitorError::Lost { source }
    }
}

/// A conversation with the monitor of one container. On probation, dropping it without [`Session::settle`] starts the recovery.
#[derive(Debug)]
pub struct Session {
    channel: Channel,
    /// The version that the monitor speaks.
    speaks: u32,
}

/// A monitor that has not been told yet what to run, and is coming up meanwhile. Dropped, it ends without having run anything.
#[derive(Debug)]
pub struct Newborn {
    session: Session,
    child: Child,
    /// See [`Cgroups::foresee_moves`].
    moves: Option<Child>,
}

/// Starts a monitor; what was left of an earlier run is gone then. The calling process has one thread.
///
/// # Errors
/// [`MonitorError`]; nothing is left running.
pub fn spawn(prefix: &Prefix, id: &ContainerId) -> Result<Newborn, MonitorError> {
    wait_for_former(prefix, id, LEAVING, None)?;
    let cgroups = Cgroups::of(prefix, id)?;
    let group = cgroups.birthplace(KILLING)?;
    let (ours, theirs) =
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .map_err(io::Error::from)?;
    let child = fork(0, Some(group.as_fd()), || {
        let _ = rustix::process::setsid();
        drop(cgroups.enter_legacy_monitor());
        drop(std::env::set_current_dir("/"));
        drop(close_on_exec_from(3));
        let _ = fcntl_setfd(&theirs, FdFlags::empty());
        let _error = Command::new("/proc/self/exe")
            .arg0(NAME)
            .arg(theirs.as_raw_fd().to_string())
            .env_clear()
            .env("PATH", crate::spec::PATH)
            .envs(linux::mutation::environment())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .exec();
        exit_now(127)
    })?;
    drop(theirs);
    // Before it is told what to run: a monitor that nobody knows of runs nothing.
    let identity = ProcessIdentity::of(child.pid())
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the monitor ended at once"))?;
    remember(prefix, id, identity)?;
    // After the birth, which would wait for it.
    let moves = cgroups.foresee_moves();
    Ok(Newborn { session: Session { channel: Channel::new(ours), speaks: VERSION }, child, moves })
}

impl Newborn {
    /// Has it end without having run anything, and waits for that: nobody is left in its groups then.
    pub fn dismiss(self) {
        let Newborn { session, child, moves } = self;
        drop(session);
        for child in moves.into_iter().chain([child]) {
            drop(child.wait_for(ANSWER, None));
        }
    }

    /// Has it start the container. Returns when init has been executed, with what is not as it should be. `said` is told what its action scripts
    /// write. Where the wait for these is interrupted, the monitor takes all down again, and ends.
    ///
    /// `root`, `attachments` and `old` are detached mounts.
    ///
    /// # Errors
    /// [`MonitorError`]; nothing is left running.
    pub fn launch(
        self,
        wanted: &Launch,
        root: &OwnedFd,
        actions: &[BorrowedFd<'_>],
        (attachments, old): (&[OwnedFd], &[OwnedFd]),
        interrupt: Option<BorrowedFd<'_>>,
        said: &mut dyn FnMut(&str, &[u8]),
    ) -> Result<(Session, Vec<String>), MonitorError> {
        let Newborn { session, child, moves } = self;
        let mut descriptors = vec![root.as_fd()];
        descriptors.extend(actions);
        descriptors.extend(attachments.iter().chain(old).map(OwnedFd::as_fd));
        session.channel.send(wanted, &descriptors)?;
        // All of them, down again if one of the first has failed.
        let scripts = Duration::from_secs(wanted.action_limit) * wanted.actions.len() as u32;
        let answer = session.first(&child, scripts, interrupt.filter(|_| !actions.is_empty()), said);
        // It has long ended: a start has moved init, which waits for the same.
        drop(moves.map(|child| child.wait_for(ANSWER, None)));
        match answer? {
            Event::Started { warnings } => Ok((session, warnings)),
            Event::Failed { because, console, is_action } => {
                Err(MonitorError::NotStarted { because, console, is_action })
            }
            other @ (Event::Up
            | Event::Said { .. }
            | Event::Done { .. }
            | Event::Refused { .. }
            | Event::Restarted
            | Event::Ended { .. }) => Err(unexpected(&other)),
        }
    }
}

impl Session {
    /// Speaks to the monitor of a container that runs; `None` when it has none (it was killed).
    ///
    /// # Errors
    /// [`MonitorError::Lost`] where nobody can tell whether it has one.
    pub fn connect(prefix: &Prefix, id: &ContainerId) -> Result<Option<Session>, MonitorError> {
        let socket =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .map_err(|errno| MonitorError::Lost { source: errno.into() })?;
        let connected = short_path(&prefix.run_dir_of(id).join(SOCKET), |path| {
            rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
            Ok(())
        });
        match connected {
            Ok(()) => {
                // One that has not come to record a start is of this version, or says nothing to anybody.
                let speaks = recorded(prefix, id).map_or(VERSION, |state| state.protocol);
                Ok(Some(Session { channel: Channel::new(socket), speaks }))
            }
            Err(error)
                if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) =>
            {
                Ok(None)
            }
            Err(source) => Err(MonitorError::Lost { source }),
        }
    }

    /// Ends the probation. Returns what is not as it should be.
    ///
    /// # Errors
    /// [`MonitorError`].
    pub fn settle(&self) -> Result<Vec<String>, MonitorError> {
        self.ask(&Request::Settled, &[])
    }

    /// What it starts with when it reboots. Of another version it passes over what it does not know: [`Settings::unknown_to`].
    ///
    /// # Errors
    /// [`MonitorError`].
    pub fn change(&self, settings: &Settings) -> Result<(), MonitorError> {
        self.ask(&Request::Change(settings.said()), &[]).map(drop)
    }

    /// Has other old roots at `/old`; these are detached mounts, newest first. Returns what is not as it should be.
    ///
    /// # Errors
    /// [`MonitorError`].
    pub fn replace_old(&self, chain: &[OwnedFd]) -> Result<Vec<String>, MonitorError> {
        let descriptors: Vec<_> = chain.iter().map(OwnedFd::as_fd).collect();
        self.ask(&Request::Old, &descriptors)
    }

    /// Mounts something in the container's root, now and in every life from now on.
    ///
    /// # Errors
    /// [`MonitorError`], also when it is one of an earlier version, which cannot.
    pub fn attach(&self, what: Attached, mount: &OwnedFd) -> Result<(), MonitorError> {
        self.ask(&Request::Attach(what), &[mount.as_fd()]).map(drop)
    }

    /// Takes it away.
    ///
    /// # Errors
    /// [`MonitorError::Refused`] when something in the container is in it, and the rest.
    pub fn detach(&self, at: InnerPath) -> Result<(), MonitorError> {
        self.ask(&Request::Detach(at), &[]).map(drop)
    }

    /// Waits until a systemd inside has reached its target.
    ///
    /// # Errors
    /// [`MonitorError::Ended`] when it dies before, [`MonitorError::NotUp`] after `limit`, [`MonitorError::Interrupted`].
    pub fn wait_until_up(
        &self,
        limit: Duration,
        interrupt: Option<BorrowedFd<'_>>,
    ) -> Result<(), MonitorError> {
        let until = deadline(limit);
        self.channel.send(&Request::Watch, &[])?;
        loop {
            match self.next_unless(until, interrupt) {
                Ok(Event::Up) => return Ok(()),
                Ok(Event::Ended { how, console, .. }) => return Err(MonitorError::Ended { how, console }),
                Ok(Event::Failed { because, console, is_action }) => {
                    return Err(MonitorError::NotStarted { because, console, is_action });
                }
                Ok(
                    Event::Started { .. }
                    | Event::Said { .. }
                    | Event::Done { .. }
                    | Event::Refused { .. }
                    | Event::Restarted,
                ) => {}
                Err(MonitorError::Lost { source }) if source.kind() == io::ErrorKind::TimedOut => {
                    return Err(MonitorError::NotUp { limit });
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The container's end, if it comes within `limit`.
    pub fn ended_within(&self, limit: Duration) -> Option<(End, String)> {
        let until = deadline(limit);
        loop {
            match self.next(until) {
                Ok(Event::Ended { how, console, .. }) => return Some((how, console)),
                Ok(_) => {}
                Err(_) => return None,
            }
        }
    }

    /// Stops the container and waits until it has: asked politely, killed after `limit`. With `keeps_mounts` its
    /// generations stay mounted. Where the wait is interrupted, the monitor goes on stopping it. Its action scripts may take `scripts` more, but where there
    /// is a `deadline` of all of it: they have to have ended by then. Returns what is not as it should be.
    ///
    /// # Errors
    /// [`MonitorError`].
    pub fn stop(
        &self,
        limit: Duration,
        (scripts, deadline_of_all): (Duration, Option<Instant>),
        keeps_mounts: bool,
        interrupt: Option<BorrowedFd<'_>>,
    ) -> Result<Vec<String>, MonitorError> {
        let rest = deadline_of_all.map(|at| at.saturating_duration_since(Instant::now()));
        let scripts_end = rest.map(|rest| rest.as_millis() as u64);
        let request = Request::Stop { limit: limit.as_millis() as u64, keeps_mounts, scripts: scripts_end };
        self.channel.send(&request, &[])?;
        let until = match rest {
            Some(rest) => deadline(rest + HEARING),
            None => deadline(scripts + if limit.is_zero() { HEARING } else { limit + ANSWER * 2 }),
        };
        loop {
            match self.next_unless(until, interrupt)? {
                Event::Ended { warnings, .. } => return Ok(warnings),
                Event::Refused { because } => return Err(MonitorError::Refused { because }),
                // It was about to reboot, and its action scripts would not have it.
                Event::Failed { because, .. } => return Ok(vec![because]),
                Event::Started { .. }
                | Event::Said { .. }
                | Event::Up
                | Event::Done { .. }
                | Event::Restarted => {}
            }
        }
    }

    /// A stop has been asked for, by whomever, and is under way; or may be, as far as one that does not answer can know.
    pub fn is_stopping(&self) -> bool {
        match self.ask(&Request::IsStopping, &[]) {
            Ok(_) => true,
            Err(MonitorError::Lost { source }) => source.kind() == io::ErrorKind::TimedOut,
            Err(_) => false,
        }
    }

    fn ask(&self, request: &Request, descriptors: &[BorrowedFd<'_>]) -> Result<Vec<String>, MonitorError> {
        self.channel.send(request, descriptors)?;
        let until = deadline(ANSWER);
        loop {
            let answer = self.next(until);
            // One that does not know a request hangs up.
            if let Err(MonitorError::Lost { source }) = &answer
                && source.kind() == io::ErrorKind::UnexpectedEof
                && self.speaks != VERSION
            {
                return Err(MonitorError::OtherVersion { speaks: self.speaks });
            }
            match answer? {
                Event::Done { warnings } => return Ok(warnings),
                Event::Refused { because } => return Err(MonitorError::Refused { because }),
                Event::Ended { how, console, .. } => return Err(MonitorError::Ended { how, console }),
                Event::Started { .. }
                | Event::Said { .. }
                | Event::Failed { .. }
                | Event::Up
                | Event::Restarted => {}
            }
        }
    }

    /// What a monitor that has just been started says first. One that was killed says nothing; a child that it had made may hold its end of the
    /// conversation for ever.
    fn first(
        &self,
        monitor: &Child,
        scripts: Duration,
        interrupt: Option<BorrowedFd<'_>>,
        said: &mut dyn FnMut(&str, &[u8]),
    ) -> Result<Event, MonitorError> {
        let until = deadline(START + scripts);
        let pidfd = monitor.pidfd();
        loop {
            let rest = until.saturating_duration_since(Instant::now());
            let timeout = Timespec { tv_sec: rest.as_secs() as i64, tv_nsec: rest.subsec_nanos().into() };
            let mut polled = vec![
                PollFd::new(&self.channel, PollFlags::IN),
                PollFd::from_borrowed_fd(pidfd, PollFlags::IN),
            ];
            polled.extend(interrupt.map(|one| PollFd::from_borrowed_fd(one, PollFlags::IN)));
            match poll(&mut polled, Some(&timeout)) {
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(io::Error::from(error).into()),
                Ok(_) => {}
            }
            let (says, ended) = (!polled[0].revents().is_empty(), !polled[1].revents().is_empty());
            if !says && polled.get(2).is_some_and(|one| !one.revents().is_empty()) {
                return Err(MonitorError::Interrupted);
            }
            if ended && !says {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            match self.next(until)? {
                Event::Said { script, line } => said(&script, &line),
                other @ (Event::Started { .. }
                | Event::Failed { .. }
                | Event::Up
                | Event::Done { .. }
                | Event::Refused { .. }
                | Event::Restarted
                | Event::Ended { .. }) => return Ok(other),
            }
        }
    }

    fn next(&self, until: Instant) -> Result<Event, MonitorError> {
        self.next_unless(until, None)
    }

    fn next_unless(&self, until: Instant, interrupt: Option<BorrowedFd<'_>>) -> Result<Event, MonitorError> {
        loop {
            match self.channel.receive_unless::<Event>(until, interrupt) {
                Ok(Some((event, _))) => return Ok(event),
                Ok(None) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                // What only later versions know is no answer to what this one asks.
                Err(error) if error.kind() == io::ErrorKind::InvalidData && self.speaks > VERSION => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn unexpected(event: &Event) -> MonitorError {
    MonitorError::Refused { because: format!("unexpected answer {event:?}") }
}

/// The monitor of the container, if one lives: also one that is only flushing what a stopped container wrote.
pub fn living_monitor(prefix: &Prefix, id: &ContainerId) -> Option<ProcessIdentity> {
    let text = std::fs::read(identity_path(prefix, id)).ok()?;
    let identity: ProcessIdentity = serde_json::from_slice(&text).ok()?;
    identity.is_alive().then_some(identity)
}

/// Waits until the monitor of a container that has stopped is gone, and its mounts with it.
///
/// # Errors
/// [`MonitorError::Leaving`] after `limit`; [`MonitorError::Interrupted`] when `interrupt` has become readable before.
pub fn wait_for_former(
    prefix: &Prefix,
    id: &ContainerId,
    limit: Duration,
    interrupt: Option<BorrowedFd<'_>>,
) -> Result<(), MonitorError> {
    let Some(identity) = living_monitor(prefix, id) else { return Ok(()) };
    let Some(pidfd) = identity.open()? else { return Ok(()) };
    let timeout = Timespec { tv_sec: limit.as_secs() as i64, tv_nsec: 0 };
    let mut polled = vec![PollFd::new(&pidfd, PollFlags::IN)];
    polled.extend(interrupt.map(|one| PollFd::from_borrowed_fd(one, PollFlags::IN)));
    match poll(&mut polled, Some(&timeout)) {
        Ok(0) => Err(MonitorError::Leaving { pid: identity.pid, limit }),
        Ok(_) if polled[0].revents().is_empty() => Err(MonitorError::Interrupted),
        Ok(_) => Ok(()),
        Err(error) => Err(io::Error::from(error).into()),
    }
}

/// What `monitor.json` says. Whatever later versions add, these two numbers are there: who did not know them would start a second monitor, and a second
/// init on one root.
pub(super) fn record_of(identity: ProcessIdentity) -> serde_json::Value {
    serde_json::json!({ "format": 1, "pid": identity.pid, "start_time": identity.start_time })
}

fn remember(prefix: &Prefix, id: &ContainerId, identity: ProcessIdentity) -> io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let path = identity_path(prefix, id);
    let temporary = path.with_extension("json.new");
    let mut file =
        std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(&serde_json::to_vec(&record_of(identity))?)?;
    rustix::fs::rename(&temporary, &path)?;
    Ok(())
}

fn identity_path(prefix: &Prefix, id: &ContainerId) -> PathBuf {
    prefix.run_dir_of(id).join("monitor.json")
}
