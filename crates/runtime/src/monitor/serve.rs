//! The monitor's life: start the container, listen to it and to the commands, see its end, start it again or take it down.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use linux::{Exit, reap_any};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::SocketFlags;
use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};
use store::{ContainerId, Prefix};

use super::actions::Actions;
use super::attached::Attachments;
use super::console::{Console, log_path};
use super::container::{Running, describe};
use super::killed::{Diary, Killed, MemoryWatch};
use super::life::{Prepared, Trouble};
use super::listening::{hears, is_ready};
use super::old::OldRoots;
use super::place::recovery_log;
use super::protocol::{Channel, End, Event, Launch, Request, deadline};
use super::restarts::{Restarts, Rules, Verdict};
use crate::attachments::Attached;
use crate::cgroup::Cgroups;
use crate::state::{self, ProcessIdentity};

/// How long the processes of a container may take to die of SIGKILL.
pub(super) const KILLING: Duration = Duration::from_secs(30);
/// How long to leave an init to itself that cannot be asked to stop yet.
const BETWEEN_LOOKS: Duration = Duration::from_millis(5);

/// How long to wait after poll(2) has failed.
const BETWEEN_FAILURES: Duration = Duration::from_secs(1);

/// The name of the socket in the container's run directory.
pub const SOCKET: &str = "monitor";

/// The program, run under this name with the number of a socket as its argument, is a monitor.
pub const NAME: &str = "reroot-monitor";

/// Runs a monitor to its end. `argument` is the number of the inherited socket; `diary` is where it is written down what was killed in its container.
///
/// # Errors
/// In one line; nobody but a log reads it.
pub fn serve(argument: &str, diary: fn(&Prefix, &ContainerId) -> Box<dyn Diary>) -> Result<(), String> {
    linux::default_signals();
    super::complaints::keep();
    let number: i32 = argument.parse().map_err(|_| format!("`{argument}` is no descriptor"))?;
    let starter = Channel::new(linux::inherited_descriptor(number).map_err(|error| error.to_string())?);
    let Some((launch, descriptors)) =
        starter.receive::<Launch>(deadline(KILLING)).map_err(|e| e.to_string())?
    else {
        // Whoever wanted a container has died before saying which.
        return Ok(());
    };
    match Monitor::prepare(launch, descriptors, starter, diary) {
        Ok(monitor) => monitor.run(),
        Err((starter, because)) => {
            let failed = Event::Failed { because: because.clone(), console: String::new(), is_action: false };
            drop(starter.send(&failed, &[]));
            Err(because)
        }
    }
}

/// A systemd sends a few hundred messages until it is up; who sends more keeps us busy, and is not listened to any more.
const MOST_HEARD: u32 = 10_000;

pub(super) struct Monitor {
    pub(super) launch: Launch,
    pub(super) prefix: Prefix,
    pub(super) cgroups: Cgroups,
    pub(super) host: OwnedFd,
    /// Where the root is attached as it came, for every life to have a clone of it.
    pub(super) plain: PathBuf,
    pub(super) root: PathBuf,
    pub(super) old: OldRoots,
    pub(super) attachments: Attachments,
    pub(super) actions: Actions,
    pub(super) console: Console,
    pub(super) listener: OwnedFd,
    pub(super) connections: Vec<Channel>,
    /// The command that started it, while on probation: when it goes away without a word, recovery is run.
    pub(super) guardian: Option<usize>,
    pub(super) is_up: bool,
    /// How many messages of a systemd were heard since the start.
    pub(super) heard: u32,
    pub(super) kill_at: Option<Instant>,
    /// When to look again whether init hears the signal that stops it.
    pub(super) signal_at: Option<Instant>,
    pub(super) is_stopping: bool,
    /// Its generations stay mounted at its end: on probation, where the command decides, and where a start follows.
    pub(super) keeps_mounts: bool,
    pub(super) restarts: Restarts,
    diary: Box<dyn Diary>,
}

impl Monitor {
    fn prepare(
        launch: Launch,
        descriptors: Vec<OwnedFd>,
        starter: Channel,
        diary: fn(&Prefix, &ContainerId) -> Box<dyn Diary>,
    ) -> Result<Monitor, (Channel, String)> {
        match Prepared::new(&launch, descriptors) {
            Ok(Prepared { prefix, cgroups, host, plain, root, old, attachments, actions, listener }) => {
                let console = Console::open(&log_path(&prefix, &launch.id));
                let guardian = launch.is_probation.then_some(0);
                let keeps_mounts = launch.is_probation;
                let diary = diary(&prefix, &launch.id);
                Ok(Monitor {
                    diary,
                    launch,
                    prefix,
                    cgroups,
                    host,
                    plain,
                    root,
                    old,
                    attachments,
                    actions,
                    console,
                    listener,
                    connections: vec![starter],
                    guardian,
                    is_up: false,
                    heard: 0,
                    kill_at: None,
                    signal_at: None,
                    is_stopping: false,
                    keeps_mounts,
                    restarts: Restarts::default(),
                })
            }
            Err(because) => Err((starter, because)),
        }
    }

    fn run(mut self) -> Result<(), String> {
        let mut is_first = true;
        let how = loop {
            let running = match self.come_to_life(is_first) {
                Ok(running) => running,
                Err(Trouble { because, is_action }) => {
                    self.console.note(&format!("cannot start: {because}"));
                    let console = self.console.last_lines();
                    // It may have been born in the group that is to be killed.
                    drop(self.cgroups.enter_monitor());
                    self.clear();
                    // Before anybody is told: whoever hears of the failure may kill this process.
                    self.go_down();
                    self.tell(&Event::Failed { because: because.clone(), console, is_action });
                    self.leave();
                    return Err(because);
                }
            };
            (self.is_up, self.heard) = (false, 0);
            for warning in &running.warnings {
                self.console.note(warning);
            }
            self.tell(&if is_first {
                Event::Started { warnings: running.warnings.clone() }
            } else {
                Event::Restarted
            });
            is_first = false;
            let _ = linux::release_code_pages();
            let born = Instant::now();
            let how = self.watch(&running);
            if !self.is_to_live_again(how, born) {
                break how;
            }
            // A reboot is a stop and a start; what is left of it must not be in the root any more.
            drop(self.cgroups.kill_container(KILLING));
            self.go_down();
        };
        self.console.hear_to_the_end();
        self.console.note(&format!("stopped: {how}"));
        let console = self.console.last_lines();
        self.clear();
        self.forget_that_it_ran(how);
        let warnings = self.go_down();
        self.tell(&Event::Ended { how, console, warnings });
        self.leave();
        Ok(())
    }

    /// Until init has ended.
    fn watch(&mut self, running: &Running) -> End {
        let mut memory = MemoryWatch::new(&self.cgroups, self.launch.ids);
        loop {
            let ready = match self.wait(running, memory.as_ref()) {
                Ok(ready) => ready,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    // No memory, say: for a moment nothing is heard, and this process does not take all of a core.
                    self.console.note(&format!("cannot listen: {error}"));
                    std::thread::sleep(BETWEEN_FAILURES);
                    // The end is looked for all the same: nobody else would see it.
                    let has_ended = !ProcessIdentity::is_alive(running.init);
                    Ready {
                        ended: has_ended,
                        listener: false,
                        console: false,
                        notify: false,
                        memory: false,
                        connections: Vec::new(),
                    }
                }
            };
            if ready.console {
                self.console.hear();
            }
            if let Some(socket) = &running.notify
                && ready.notify
            {
                let (is_up, heard) = is_ready(socket);
                self.heard += heard;
                if is_up {
                    self.is_up = true;
                    self.tell(&Event::Up);
                }
                if !self.awaits_word() {
                    // Not left to fill up: whoever has more to say would wait.
                    let _ = socket.shutdown(std::net::Shutdown::Both);
                }
            }
            if ready.listener
                && let Ok(connection) = rustix::net::accept_with(&self.listener, SocketFlags::CLOEXEC)
            {
                self.connections.push(Channel::new(connection));
            }
            for index in ready.connections.iter().rev() {
                self.converse(*index, running);
            }
            if let Some(memory) = &mut memory {
                if ready.memory {
                    memory.hear();
                }
                if let Some((kills, processes)) = memory.look() {
                    self.write_down(kills, &processes);
                }
            }
            if self.signal_at.is_some_and(|at| at <= Instant::now()) {
                self.ask_to_stop(running);
            }
            if self.kill_at.is_some_and(|at| at <= Instant::now()) {
                self.kill_at = None;
                self.console.note("it did not stop in time: killing it");
                drop(self.cgroups.kill_container(KILLING));
            }
            if ready.ended {
                if let Some((kills, processes)) = memory.as_mut().and_then(MemoryWatch::look_last) {
                    self.write_down(kills, &processes);
                }
                return self.end(running);
            }
        }
    }

    fn write_down(&mut self, kills: u64, processes: &[Killed]) {
        let names: Vec<&str> = processes.iter().map(|one| one.name.as_str()).collect();
        self.console.note(&format!("out of memory: {kills} killed: {}", names.join(", ")));
        self.diary.killed(kills, processes);
    }

    /// A systemd may still say that it is up.
    fn awaits_word(&self) -> bool {
        !self.is_up && self.heard < MOST_HEARD
    }

    fn wait(&self, running: &Running, memory: Option<&MemoryWatch>) -> io::Result<Ready> {
        let mut polled =
            vec![PollFd::new(&running.pidfd, PollFlags::IN), PollFd::new(&self.listener, PollFlags::IN)];
        let heard = self.console.terminal();
        // Looked at once: between two looks the time may come.
        let console_at = if heard.is_none() { self.console.listens_again_at() } else { None };
        let console = heard.map(|terminal| {
            polled.push(PollFd::new(terminal, PollFlags::IN));
            polled.len() - 1
        });
        let notify = running.notify.as_ref().filter(|_| self.awaits_word()).map(|socket| {
            polled.push(PollFd::new(socket, PollFlags::IN));
            polled.len() - 1
        });
        let heard = memory.and_then(MemoryWatch::polled).map(|group| {
            polled.push(group);
            polled.len() - 1
        });
        let first = polled.len();
        polled.extend(self.connections.iter().map(|connection| PollFd::new(connection, PollFlags::IN)));
        let timeout = [self.kill_at, self.signal_at, console_at, memory.and_then(MemoryWatch::look_at)]
            .into_iter()
            .flatten()
            .min()
            .map(|at| {
                let rest = at.saturating_duration_since(Instant::now());
                Timespec { tv_sec: rest.as_secs() as i64, tv_nsec: rest.subsec_nanos().into() }
            });
        poll(&mut polled, timeout.as_ref())?;
        let is_ready = |index: usize| !polled[index].revents().is_empty();
        Ok(Ready {
            ended: is_ready(0),
            listener: is_ready(1),
            console: console.is_some_and(is_ready),
            notify: notify.is_some_and(is_ready),
            memory: heard.is_some_and(is_ready),
            connections: (0..self.connections.len()).filter(|&index| is_ready(first + index)).collect(),
        })
    }

    fn converse(&mut self, index: usize, running: &Running) {
        let answer = match self.connections[index].receive_now::<Request>() {
            Ok(Some((Request::Settled, _))) => {
                self.guardian = None;
                self.keeps_mounts = false;
                let released = net::release(&self.prefix, &self.launch.id);
                let warnings = released.err().map(|error| {
                    format!("nobody outside reaches it before its next start: {}", describe(&error))
                });
                Some(Event::Done { warnings: warnings.into_iter().collect() })
            }
            Ok(Some((Request::Stop { limit, keeps_mounts, scripts }, _))) => {
                self.keeps_mounts = keeps_mounts;
                if let Some(rest) = scripts {
                    self.actions.end_by(deadline(Duration::from_millis(rest)));
                }
                self.stop(running, Duration::from_millis(limit));
                None
            }
            Ok(Some((Request::Change(said), _))) => Some(match self.launch.settings.take_over(said) {
                Ok(()) => Event::Done { warnings: Vec::new() },
                Err(error) => Event::Refused { because: error.to_string() },
            }),
            Ok(Some((Request::Old, chain))) => {
                Some(match self.old.replace(chain).and_then(|()| self.old.attach()) {
                    Ok(warning) => Event::Done { warnings: warning.into_iter().collect() },
                    Err(error) => Event::Refused { because: error.to_string() },
                })
            }
            Ok(Some((Request::Attach(what), mounts))) => Some(self.attach(what, &mounts)),
            Ok(Some((Request::Detach(at), _))) => Some(match self.attachments.remove(&at) {
                Ok(()) => Event::Done { warnings: Vec::new() },
                Err(Errno::BUSY) => Event::Refused { because: format!("something in it has {at} in use") },
                Err(error) => Event::Refused { because: format!("{at} in the container: {error}") },
            }),
            Ok(Some((Request::Watch, _))) => self.is_up.then_some(Event::Up),
            Ok(Some((Request::IsStopping, _))) => Some(if self.is_stopping {
                Event::Done { warnings: Vec::new() }
            } else {
                Event::Refused { because: "nobody has asked for a stop".to_owned() }
            }),
            Ok(None) | Err(_) => {
                drop(self.connections.remove(index));
                if self.guardian == Some(index) {
                    self.guardian = None;
                    self.recover();
                } else if let Some(guardian) = &mut self.guardian
                    && *guardian > index
                {
                    *guardian -= 1;
                }
                return;
            }
        };
        if let Some(answer) = answer {
            drop(self.connections[index].send(&answer, &[]));
        }
    }

    /// All of it, or nothing.
    fn attach(&mut self, what: Attached, mounts: &[OwnedFd]) -> Event {
        let refused = |because: String| Event::Refused { because };
        let Some(mount) = mounts.first() else { return refused("nothing to mount came with it".to_owned()) };
        if self.attachments.has(&what.at) {
            return refused(format!("something is mounted at {} in the container already", what.at));
        }
        let at = what.at.clone();
        if let Err(error) = self.attachments.take(what, mount) {
            return refused(error.to_string());
        }
        match self.attachments.attach() {
            Ok(()) => Event::Done { warnings: Vec::new() },
            Err(because) => {
                let _ = self.attachments.remove(&at);
                refused(because)
            }
        }
    }

    fn stop(&mut self, running: &Running, limit: Duration) {
        self.is_stopping = true;
        if limit.is_zero() {
            drop(self.cgroups.kill_container(KILLING));
            return;
        }
        self.kill_at = Some(Instant::now() + limit);
        self.ask_to_stop(running);
    }

    /// To process 1 of a pid namespace a signal for which it has no handler is lost: pid_namespaces(7). One that has only just been executed
    /// gets it as soon as it has one.
    fn ask_to_stop(&mut self, running: &Running) {
        let is_told = hears(running.init.pid, self.launch.stop_signal)
            && linux::signal_by_number(running.pidfd.as_fd(), self.launch.stop_signal).is_ok();
        // A signal that was refused is sent again: without it all of the time to stop would pass, and then the container be killed.
        self.signal_at = (!is_told).then(|| Instant::now() + BETWEEN_LOOKS);
    }

    /// The command that was trying this root out has died before it settled: nobody waits for the next command.
    fn recover(&mut self) {
        if linux::mutated!("no-guardian") {
            return;
        }
        self.console.note("the command that started it on probation has died: recovering");
        let host = self.host.as_fd();
        let mut command = std::process::Command::new("/proc/self/exe");
        std::os::unix::process::CommandExt::arg0(&mut command, "prlctl");
        command
            .args(["recover", &self.launch.id.to_string()])
            .env_clear()
            .env("PATH", crate::spec::PATH)
            .env("REROOT_PREFIX", &self.launch.prefix)
            .envs(linux::mutation::environment())
            .stdin(std::process::Stdio::null());
        if let Ok(log) = recovery_log(&self.prefix, &self.launch)
            && let Ok(copy) = log.try_clone()
        {
            command.stdout(log).stderr(copy);
        }
        let child = linux::fork(0, None, || {
            // Out of this namespace, which has no generations mounted, and out of this session.
            let _ = move_into_thread_name_spaces(host, ThreadNameSpaceType::MOUNT);
            let _ = rustix::process::setsid();
            drop(std::env::set_current_dir("/"));
            let _error = std::os::unix::process::CommandExt::exec(&mut command);
            127
        });
        if let Err(error) = child {
            self.console.note(&format!("cannot start the recovery: {error}; run `prlctl recover`"));
        }
    }

    fn end(&mut self, running: &Running) -> End {
        let mut exit = None;
        while let Ok(Some((pid, how))) = reap_any() {
            if pid == running.init.pid {
                exit = Some(how);
            }
        }
        self.kill_at = None;
        self.signal_at = None;
        // Of reboot(2) in a pid namespace the parent learns by the signal that its init seems to have died of: pid_namespaces(7).
        match exit {
            Some(Exit::Signal(1)) => End::Rebooted,
            Some(Exit::Signal(2)) => End::Halted,
            Some(Exit::Signal(signal)) => End::Killed(signal),
            Some(Exit::Code(code)) if self.launch.application.is_some() => End::Finished(code),
            Some(Exit::Code(0)) => End::Halted,
            Some(Exit::Code(code)) => End::Exited(code),
            None => End::Halted,
        }
    }

    /// Whether it begins another life; what there is to say about that is said.
    fn is_to_live_again(&mut self, how: End, born: Instant) -> bool {
        if self.is_stopping || self.launch.is_probation && self.guardian.is_some() {
            return false;
        }
        let now = Instant::now();
        let lived = now.duration_since(born);
        let settings = &self.launch.settings;
        let rules =
            Rules { restarts_on_crash: settings.restarts_on_crash, forbids_reboot: settings.forbids_reboot };
        match self.restarts.judge(how, rules, lived, now) {
            Verdict::Again(why) => {
                self.console.note(&why);
                true
            }
            Verdict::Stopped(why) => {
                if let Some(why) = why {
                    self.console.note(&why);
                }
                false
            }
        }
    }

    /// Of one that has ended as it wanted to: the host that comes up again does not start it for having run. What a stop means whoever asked for it knows.
    fn forget_that_it_ran(&mut self, how: End) {
        let is_its_own = match how {
            End::Halted | End::Rebooted | End::Exited(0) | End::Finished(0) => true,
            End::Exited(_) | End::Finished(_) | End::Killed(_) => false,
        };
        if is_its_own
            && !self.is_stopping
            && let Err(error) = store::unmark_running(&self.prefix, &self.launch.id)
        {
            self.console.note(&format!("cannot write down that it has ended: {error}"));
        }
    }

    pub(super) fn tell(&mut self, event: &Event) {
        for connection in &self.connections {
            // Who does not listen misses it; a monitor waits for nobody.
            drop(connection.send(event, &[]));
        }
    }

    /// What says that it runs goes first, so that whoever is told of the end finds it stopped.
    fn clear(&mut self) {
        drop(self.cgroups.kill_container(KILLING));
        state::forget(&self.prefix, &self.launch.id);
        if let Err(error) = net::detach(&self.prefix, &self.launch.id) {
            self.console.note(&describe(&error));
        }
        if let Err(error) = self.cgroups.remove_container() {
            self.console.note(&describe(&error));
        }
    }

    /// Gives back the mounts; unmounting flushes the filesystem, and nobody waits for it: a start that comes meanwhile waits for the end of this
    /// process.
    fn leave(self) {
        drop(std::fs::remove_file(self.prefix.run_dir_of(&self.launch.id).join(SOCKET)));
        drop(self.listener);
        drop(self.connections);
        if self.keeps_mounts {
            return;
        }
        if move_into_thread_name_spaces(self.host.as_fd(), ThreadNameSpaceType::MOUNT).is_ok() {
            crate::mounts_of_container::unmount_all(&self.prefix, &self.launch.id);
        }
        self.cgroups.remove_empty();
    }
}

struct Ready {
    ended: bool,
    listener: bool,
    console: bool,
    notify: bool,
    memory: bool,
    connections: Vec<usize>,
}
