//! One host: its prefix, whatever runs its containers, and whom to tell how it goes.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use runtime::confined::Reach;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use store::{
    Area, AreaError, Conf, ContainerId, Journal, Limits, LimitsError, Lock, LockError, LockName, Prefix,
    TemplateName,
};

pub use crate::container::Container;
use crate::error::{Code, Failure, Result};
use crate::event::{Event, What};
use crate::interrupt::Second;
use crate::log::OperationLog;
use crate::runtime::{Life, Runtime};

/// How long a recovery is waited for that has a container's lock.
const RECOVERY: Duration = Duration::from_secs(10);
/// How long a template is waited for that another command is making, where nobody has said it.
const MAKING: Duration = Duration::from_secs(600);
/// So often a lock is tried where a signal ends the wait and not the process.
const BETWEEN_TRIES: Duration = Duration::from_millis(100);

/// [`Lock::exclusive`] or [`Lock::shared`].
pub type TakeLock = fn(&Prefix, LockName, Duration, &str) -> std::result::Result<Lock, LockError>;

/// Who is told how an operation goes. The engine prints nothing.
pub trait Observer {
    /// Something has happened.
    fn event(&mut self, event: &Event);
    /// A signal asks the process to end: `event` says what is done about it. What is under way goes on after this call; `again` is what there is
    /// to say if a second signal does not let it.
    fn interrupted(&mut self, event: &Event, again: &Failure) {
        let _ = again;
        self.event(event);
    }
    /// What there is to say should a signal end the process from now on, which it does at once.
    fn last_words(&mut self, failure: &Failure) {
        let _ = failure;
    }
}

/// Tells nobody.
#[derive(Debug, Clone, Copy)]
pub struct Silent;

impl Observer for Silent {
    fn event(&mut self, _event: &Event) {}
}

/// Everything that a command needs to work on a host.
pub struct Host {
    /// Where it lies.
    pub prefix: Prefix,
    /// What runs its containers.
    pub runtime: Box<dyn Runtime>,
    /// Whom to tell.
    pub observer: RefCell<Box<dyn Observer>>,
    /// The log of the operation that is under way.
    pub log: RefCell<Option<OperationLog>>,
    /// The command line, for the error message of whoever finds a lock held.
    pub command: String,
    /// How long to wait for a lock.
    pub lock_wait: Duration,
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host")
            .field("prefix", &self.prefix)
            .field("command", &self.command)
            .finish_non_exhaustive()
    }
}

impl Host {
    /// Tells of a step that begins; `text` says it for people.
    pub fn step(&self, name: &str, text: &str) {
        self.tell(What::Step { step: name.to_owned(), text: text.to_owned() });
    }

    /// Tells of something that is not as it should be, but no reason to stop.
    pub fn warning(&self, text: &str) {
        self.tell(What::Warning { text: text.to_owned() });
    }

    /// Tells of something worth knowing that is as it should be.
    pub fn note(&self, text: &str) {
        self.tell(What::Note { text: text.to_owned() });
    }

    /// Tells what is done about a signal, and what there is to say should a second one come before that is done.
    pub(crate) fn interrupted(&self, text: String, again: &Failure) {
        let event = Event::now(What::Interrupted { text });
        self.keep_in_log(&event);
        self.observer.borrow_mut().interrupted(&event, again);
    }

    /// Has work done on files of roots where nothing but `reach` can be reached; `what` could not be done, should that not be had.
    ///
    /// # Errors
    /// As `work`.
    pub fn confined<T>(&self, reach: &Reach<'_>, what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let (mut work, mut done) = (Some(work), None);
        self.runtime
            .confined(reach, &mut || done = work.take().map(|work| work()))
            .map_err(|error| Failure::new(Code::System, what).because(error.because))?;
        done.unwrap_or_else(|| Err(Failure::new(Code::System, what).because("it was not done")))
    }

    /// Takes the host's lock: for the id ranges and the names.
    ///
    /// # Errors
    /// [`Code::Locked`].
    pub fn lock_host(&self) -> Result<Lock> {
        // Held for milliseconds by whoever creates or deletes: worth waiting for, whatever the caller said.
        let wait = self.lock_wait.max(Duration::from_secs(30));
        Ok(Lock::exclusive(&self.prefix, LockName::Host, wait, &self.command)?)
    }

    /// Takes a template's lock. Whoever has it makes a version, which takes minutes and is what others want, too: that is waited for, as long as the caller
    /// said or for ten minutes, and told. With the lock, whether it was. `state` is for a signal that ends the wait.
    ///
    /// # Errors
    /// [`Code::Locked`], [`Code::Interrupted`].
    pub fn lock_template(&self, name: &TemplateName, what: &str, state: &str) -> Result<(Lock, bool)> {
        let take =
            |wait| Lock::exclusive(&self.prefix, LockName::Template(name.clone()), wait, &self.command);
        let within = |error: LockError| Failure::from(error).within(what);
        match take(Duration::ZERO) {
            Ok(lock) => return Ok((lock, false)),
            Err(error @ LockError::Unusable { .. }) => return Err(within(error)),
            Err(LockError::Held { pid, command, since, .. }) => {
                let whom =
                    format!("`{command}` (pid {pid}), which is at work on template `{name}` since {since}");
                self.step("wait", &format!("Waiting for {whom}..."));
            }
        }
        let wait = if self.lock_wait.is_zero() { MAKING } else { self.lock_wait };
        let longer = |error| {
            within(error).hint("wait for it longer with --lock-wait SECONDS, or see what that process does")
        };
        // Where signals are heeded, one does not end the process, and not the wait of a thread.
        let Some(interrupt) = self.runtime.interrupt() else {
            return take(wait).map(|lock| (lock, true)).map_err(longer);
        };
        let deadline = Instant::now() + wait;
        loop {
            match take(Duration::ZERO) {
                Ok(lock) => return Ok((lock, true)),
                Err(LockError::Held { .. }) if Instant::now() < deadline => {}
                Err(error) => return Err(longer(error)),
            }
            let between = Timespec { tv_sec: 0, tv_nsec: BETWEEN_TRIES.as_nanos() as i64 };
            let _ = poll(&mut [PollFd::new(&interrupt, PollFlags::IN)], Some(&between));
            self.unless_interrupted(what, state, Second::Nothing)?;
        }
    }

    /// The limits of a container with this `ve.conf` on a host with this `vz.conf`; where neither says anything, those that keep the host alive.
    ///
    /// # Errors
    /// The value that is none.
    pub fn limits(&self, conf: &Conf, configuration: &Conf) -> std::result::Result<Limits, LimitsError> {
        Limits::from_conf(&[conf, configuration, &runtime::defaults::limits()])
    }

    /// `vz.conf` without what cannot be, empty when there is none.
    ///
    /// # Errors
    /// [`Code::Damaged`].
    pub fn configuration(&self) -> Result<Conf> {
        Ok(self.usable_configuration()?.0)
    }

    /// Tells what of `vz.conf` cannot be, to whoever starts a container or sets something.
    pub fn warn_of_configuration(&self) {
        for problem in self.usable_configuration().map(|(_, problems)| problems).unwrap_or_default() {
            self.warning(&problem);
        }
    }

    /// With what is to be said of that.
    ///
    /// # Errors
    /// [`Code::Damaged`].
    pub fn usable_configuration(&self) -> Result<(Conf, Vec<String>)> {
        let path = self.prefix.vz_conf();
        let conf = Conf::load_or_default(&path)?;
        match conf.damage() {
            Some(damage) => Err(Failure::new(Code::Damaged, format!("`{}` cannot be used", path.display()))
                .because(format!("line {}: {}", damage.line, damage.why))
                .unchanged()
                .hint("correct that line")),
            None => Ok(crate::defaults::usable(conf, &path)),
        }
    }

    /// The container that `words` name, without a lock.
    ///
    /// # Errors
    /// [`Code::UnknownContainer`].
    pub fn find(&self, words: &str) -> Result<ContainerId> {
        Ok(store::registry::find(&self.prefix, words)?)
    }

    /// As [`Host::find`], and what was typed is no other's name or number, too: for whatever does something there.
    ///
    /// # Errors
    /// [`Code::UnknownContainer`], [`Code::BadName`].
    pub fn find_alone(&self, words: &str) -> Result<ContainerId> {
        let id = self.find(words)?;
        crate::names::is_its_alone(&self.prefix, &id, words)?;
        Ok(id)
    }

    /// Opens a container exclusively, and brings to an end what a dead command has left under way in it.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn open(&self, words: &str) -> Result<Container<'_>> {
        let id = self.find(words)?;
        let container = self.open_unrecovered(&id, words)?;
        crate::names::is_its_alone(&self.prefix, &id, words)?;
        crate::recover::recover(&container)?;
        crate::names::warn_of_no_name(&container);
        if let Err(failure) = crate::names::put_right(&container, false) {
            self.warning(&failure.reason());
        }
        let link = self.prefix.conf_dir().join(format!("{id}.conf"));
        if std::fs::symlink_metadata(&link).is_ok_and(|found| found.is_file()) {
            self.warning(&format!(
                "{} is a file of its own, which nobody reads: an editor has put it in the place of a link to {}",
                link.display(),
                container.area.path().join("ve.conf").display()
            ));
        }
        if self.runtime.running(&id).is_some_and(|run| !run.is_monitored()) {
            self.warning(&format!(
                "the monitor of `{}` was killed: it goes on, and its end will mean stopped, also that of a reboot",
                container.name
            ));
        }
        Ok(container)
    }

    /// Opens a container exclusively and as it is.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn open_unrecovered(&self, id: &ContainerId, words: &str) -> Result<Container<'_>> {
        let container = self.open_by(id, words, Area::open)?;
        container.check_runtime_record()?;
        Ok(container)
    }

    /// Opens a container exclusively to stop it. That its records are damaged is no reason not to: what runs must be stopped before they can be
    /// made again.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn open_to_stop(&self, words: &str) -> Result<Container<'_>> {
        match self.open(words) {
            Err(failure) if failure.code == Code::Damaged => {
                let id = self.find(words)?;
                crate::names::is_its_alone(&self.prefix, &id, words)?;
                self.open_by(&id, words, Area::open_unchecked)
            }
            other => other,
        }
    }

    /// Opens a container exclusively if it is between two lives, and as it is: whatever else opens it waits for the scripts that run between.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn open_between_lives(&self, words: &str) -> Result<Option<Container<'_>>> {
        let id = self.find(words)?;
        match self.runtime.life(&id) {
            Life::Between => {
                crate::names::is_its_alone(&self.prefix, &id, words)?;
                self.open_unrecovered(&id, words).map(Some)
            }
            Life::Running(_) | Life::Unknown(_) | Life::Stopped => Ok(None),
        }
    }

    /// Opens a container exclusively to delete it: whatever is left under way on a disk that cannot be mounted, or that is missing, is of no account for what goes as a
    /// whole.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn open_to_delete(&self, words: &str) -> Result<Container<'_>> {
        let failure = match self.open(words) {
            Ok(container) => return Ok(container),
            Err(failure) => failure,
        };
        let id = self.find(words)?;
        crate::names::is_its_alone(&self.prefix, &id, words)?;
        let is_without_disk = || matches!(Area::open(&self.prefix, &id), Err(AreaError::NoDisk { .. }));
        if failure.code == Code::MountFailed {
            self.open_unrecovered(&id, words)
        } else if failure.code == Code::Damaged && is_without_disk() {
            self.open_by(&id, words, Area::open_unchecked)
        } else {
            Err(failure)
        }
    }

    /// Takes a container's lock with [`Lock::exclusive`] or [`Lock::shared`], and waits for a recovery that has it: that is short, and nobody has
    /// asked for it. Whoever else has it is in nobody's way for longer than `lock_wait`.
    ///
    /// # Errors
    /// [`Code::Locked`].
    pub fn lock_container(&self, id: &ContainerId, words: &str, take: TakeLock) -> Result<Lock> {
        let take = |wait| take(&self.prefix, LockName::Container(*id), wait, &self.command);
        let lock = match take(self.lock_wait) {
            Err(LockError::Held { pid, command, .. })
                if self.lock_wait < RECOVERY && self.is_recovery(id, pid, &command) =>
            {
                take(RECOVERY)
            }
            other => other,
        };
        lock.map_err(|error| renamed(error, words))
    }

    /// What has the lock is not doing what it was called for yet, or was called to recover: the journal is another's.
    fn is_recovery(&self, id: &ContainerId, pid: u32, command: &str) -> bool {
        command.split(' ').nth(1) == Some("recover")
            || Area::open_unchecked(&self.prefix, id)
                .and_then(|area| area.journal())
                .is_ok_and(|journal| journal.is_some_and(|journal| journal.pid != pid))
    }

    fn open_by(
        &self,
        id: &ContainerId,
        words: &str,
        open: fn(&Prefix, &ContainerId) -> std::result::Result<Area, AreaError>,
    ) -> Result<Container<'_>> {
        let lock = self.lock_container(id, words, Lock::exclusive)?;
        // Looked at again under the lock: it may have been deleted while we waited.
        let area = open(&self.prefix, id).map_err(|error| damaged(error, words))?;
        // A damaged configuration tells no name: then it is what the user calls it.
        let name = match area.name() {
            Ok(Some(name)) => name.to_string(),
            Ok(None) => id.to_string(),
            Err(_) => words.to_owned(),
        };
        std::fs::create_dir_all(self.prefix.run_dir_of(id))
            .map_err(|error| crate::error::system("cannot make the run directory", &error))?;
        Ok(Container { host: self, area, name, _lock: lock })
    }
}

/// The message names what the user has typed, not the lock's own name.
fn renamed(error: LockError, words: &str) -> Failure {
    let mut failure = Failure::from(error);
    if failure.code == Code::Locked {
        failure.what = format!("`{words}` is locked by another command");
    }
    failure
}

/// What to do about an area that cannot be used.
pub fn hint_of(error: &AreaError, words: &str) -> String {
    match error {
        AreaError::NewerFormat { .. } | AreaError::UnknownFeature { .. } => {
            "use the version of prlctl that wrote it, or a newer one".to_owned()
        }
        AreaError::NoDisk { .. } => crate::error::NO_DISK.to_owned(),
        AreaError::Unregistered { path, .. } => {
            format!("`prlctl register {}` makes it one again", path.display())
        }
        AreaError::Conf(_) | AreaError::BadName { .. } => {
            "correct that file in an editor: nothing makes it again".to_owned()
        }
        // Nobody can know what it was about.
        AreaError::Damaged { path, .. }
            if path.file_name().is_some_and(|name| name == Journal::FILE_NAME) =>
        {
            format!(
                "`prlctl recover --rebuild {words}` puts the journal aside; the root stays what `live` says, and none is deleted"
            )
        }
        AreaError::Missing { .. }
        | AreaError::Damaged { .. }
        | AreaError::NoGeneration { .. }
        | AreaError::Unreadable { .. }
        | AreaError::Ids(_)
        | AreaError::Write(_)
        | AreaError::Trash(_) => {
            format!("`prlctl recover --rebuild {words}` makes the records again from what lies on disk")
        }
    }
}

/// A damaged area names the command that rebuilds it.
pub fn damaged(error: AreaError, words: &str) -> Failure {
    if matches!(error, AreaError::NoDisk { .. }) {
        return error.into();
    }
    let is_missing = matches!(error, AreaError::NoGeneration { .. });
    let hint = hint_of(&error, words);
    let mut failure = Failure::from(error);
    if is_missing {
        // What a record or `live` names must be there.
        failure.code = Code::Damaged;
    }
    if failure.code == Code::Damaged {
        return Failure { what: format!("the records of `{words}` cannot be used"), ..failure }
            .unchanged()
            .hint(hint);
    }
    failure
}
