//! A signal that asks a command to end which has no journal: `create`, `delete`, `start`, `stop`, `restart`, `vzpkg`; and one of which a death is as
//! good an end as any, [`Host::ends_anywhere`]: `mount`, `umount`, `recover`.
//!
//! Until a command has begun, [`Host::not_begun`] has words ready that the signal itself says. From [`Host::heed_signals`] on it is asked for
//! where the command can still be taken back ([`Host::unless_interrupted`]); what has happened by then stays so, and returns 0. Operations with a
//! journal do the same between their steps (`operation`).

use crate::error::{Code, Failure, Result};
use crate::host::Host;

/// What a second signal may leave, which ends the process before the first one was dealt with.
#[derive(Debug, Clone, Copy)]
pub enum Second<'a> {
    /// Something half made under no name yet, which the next sweep removes.
    HalfMade,
    /// Nothing: it was only asked whether to begin.
    Nothing,
    /// A container of this name, which is whole and runs or does not.
    Container(&'a str),
    /// A copy beside its place in this container.
    Copy(&'a str),
    /// What the package manager of this container was doing.
    Packages(&'a str),
    /// Several of these.
    Containers,
}

impl Host {
    /// Says what there is to say should a signal end the process while it waits for a lock: it has not begun yet.
    pub fn not_begun(&self, what: &str) {
        let failure = Failure::new(Code::Interrupted(0), what)
            .because("a signal has interrupted it")
            .state("nothing of it had begun")
            .hint(self.begins_again());
        self.observer.borrow_mut().last_words(&failure);
    }

    /// Says what there is to say should a signal end the process while it brings to an end what another had left under way.
    pub(crate) fn recovering(&self, name: &str, is_kept: bool) {
        let (state, hint) = if is_kept {
            (
                "another process brings it to its end",
                format!("`prlctl recover {name}` waits until that is done"),
            )
        } else {
            (
                "it is not at its end, and it may be that the container does not run",
                format!("`prlctl recover {name}` goes on"),
            )
        };
        self.ends_anywhere(&format!("`{name}` has not been recovered"), state, &hint);
    }

    /// Says what there is to say should a signal end the process from here on, which it may anywhere: what it leaves is what any death leaves.
    pub fn ends_anywhere(&self, what: &str, state: &str, hint: &str) {
        let failure = Failure::new(Code::Interrupted(0), what)
            .because("a signal has interrupted it")
            .state(state)
            .hint(hint);
        self.observer.borrow_mut().last_words(&failure);
    }

    /// The command itself begins, or `recover` goes on to its next container: what was recovered so far stays so.
    pub(crate) fn recovered(&self, name: &str) {
        self.ends_anywhere(
            &format!("`{}` has not been done", self.command),
            &format!("`{name}` has been recovered, and nothing else was under way"),
            &self.begins_again(),
        );
    }

    /// From here on a signal that asks this process to end is told by [`Host::unless_interrupted`], and ends the waits for stops and boots.
    ///
    /// # Errors
    /// Where the system does not allow it.
    pub fn heed_signals(&self, what: &str) -> Result<()> {
        self.runtime
            .heed_signals()
            .map_err(|error| Failure::new(Code::System, what).because(error.because).unchanged())
    }

    /// Fails when a signal has come; `state` and `hint` are for that.
    ///
    /// # Errors
    /// [`Code::Interrupted`].
    pub fn unless_interrupted(&self, what: &str, state: &str, second: Second<'_>) -> Result<()> {
        match self.interruption(what, second) {
            Some(signal) => Err(Failure::new(Code::Interrupted(signal), what)
                .because(because(signal))
                .state(state)
                .hint(self.begins_again())),
            None => Ok(()),
        }
    }

    /// What has failed may have been ended by a signal: then that is why.
    pub fn or_interrupted(&self, mut failure: Failure, second: Second<'_>) -> Failure {
        if let Some(signal) = self.interruption(&failure.what, second) {
            failure.code = Code::Interrupted(signal);
            failure.because.insert(0, because(signal));
        }
        failure
    }

    fn interruption(&self, what: &str, second: Second<'_>) -> Option<i32> {
        let signal = self.runtime.interruption()?;
        let (state, hint) = match second {
            Second::HalfMade => (
                "what was made so far may still be there".to_owned(),
                "`prlctl recover` takes it away".to_owned(),
            ),
            Second::Nothing => ("nothing was changed".to_owned(), self.begins_again()),
            Second::Container(name) => (
                format!("`{name}` runs, is stopping or is stopped; nothing in it was changed"),
                format!("`prlctl status {name}` tells which"),
            ),
            Second::Copy(name) => (
                format!("nothing of `{name}` was changed, but `.reroot-restore-…` may lie beside the target"),
                format!("{}, and takes that away", self.begins_again()),
            ),
            Second::Packages(name) => {
                (format!("the package manager of `{name}` may still be at work"), self.begins_again())
            }
            Second::Containers => (
                "each CT runs, is stopping or is stopped; nothing in them was changed".to_owned(),
                "`prlctl list -a` tells which".to_owned(),
            ),
        };
        let again = Failure::new(Code::Interrupted(signal), what)
            .because("a second signal came before the first one was dealt with")
            .state(state)
            .hint(hint);
        let text = format!("{}: ending it; a second signal ends it at once", signal_word(signal));
        self.interrupted(text, &again);
        Some(signal)
    }

    fn begins_again(&self) -> String {
        format!("`{}` begins again", self.command)
    }
}

fn because(signal: i32) -> String {
    format!("{} has interrupted it", signal_word(signal))
}

/// `SIGINT` for 2.
pub fn signal_word(signal: i32) -> String {
    match signal {
        1 => "SIGHUP".to_owned(),
        2 => "SIGINT".to_owned(),
        15 => "SIGTERM".to_owned(),
        other => format!("signal {other}"),
    }
}
