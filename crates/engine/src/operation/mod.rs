//! Operations: lists of steps, one of which is the commit.
//!
//! ```text
//!          journal written                                              journal removed
//!               │                                                              │
//!   plan ──> [ step  step  step  COMMIT ] ──────────────────> [ settle ] ──> done
//!               └── failure, kill, power cut ──> reverts, last first          └── failure, kill, power cut ──> applied again
//! ```
//!
//! Every apply and every revert is idempotent, so the journal need not say how far the operation came: it is written once, with the whole list,
//! before the first step. Whether the commit happened is asked of the disk. Recovery is this same code, run by whatever command next opens the
//! container, by the monitor of a root on probation when its command dies, and at boot.

pub mod applications;
mod build;
mod carry;
pub mod change;
mod configure;
pub mod create;
pub mod delete;
mod expire;
pub mod explain;
pub mod flatten;
pub mod forget;
pub mod health;
mod homes;
pub mod keep;
pub mod make_template;
pub mod move_volume;
pub(crate) mod pace;
mod password;
mod probation;
pub mod register;
pub mod reinstall;
pub mod report;
pub mod restore;
pub(crate) mod script_output;
pub mod set;
mod settle;
pub mod switch;
pub mod template_store;
pub mod trial;
pub mod unregister;
pub mod user_password;

use runtime::kernel::boot_id;
use serde::Serialize;
use serde::de::DeserializeOwned;
use store::{Journal, reserve};

use crate::error::{Code, Failure, Result};
use crate::event::{Ended, What};
use crate::fault::{self, Place};
use crate::host::{Container, damaged};
use crate::interrupt::signal_word;

pub(crate) use build::layers;
pub use password::Passwords;

/// One step of an operation whose plan is a `P`.
#[derive(Debug)]
pub struct Step<P: 'static> {
    /// Its name in journals, plans and fault points.
    pub name: &'static str,
    /// What it does, for people; empty: not worth a line.
    pub text: fn(&Work<'_, P>) -> String,
    /// Does it, also when it was done before.
    pub apply: fn(&mut Work<'_, P>) -> Result<()>,
    /// Undoes it, also when it was never or only half done.
    pub revert: fn(&mut Work<'_, P>) -> Result<()>,
}

/// One kind of operation.
#[derive(Debug)]
pub struct Kind<P: 'static> {
    /// Its name in journals.
    pub name: &'static str,
    /// Its steps.
    pub steps: &'static [Step<P>],
    /// Which step is the commit.
    pub commit: &'static str,
    /// One of its steps runs a script of the host.
    pub runs_on_the_host: bool,
    /// It is undone where it would be committed.
    pub is_trial: fn(&P) -> bool,
    /// Asks the disk whether the commit has happened.
    pub is_committed: fn(&Work<'_, P>) -> Result<bool>,
}

/// An operation and its steps by name, for fault points and plans.
#[derive(Debug)]
pub struct Named {
    /// Its name.
    pub name: &'static str,
    /// Its steps.
    pub steps: &'static [NamedStep],
}

/// A step by name.
#[derive(Debug)]
pub struct NamedStep {
    /// Its name.
    pub name: &'static str,
}

macro_rules! named {
    ($($name:literal: [$($step:literal),+]),+ $(,)?) => {
        /// Every operation with a journal. A test holds it against the lists themselves.
        pub static OPERATIONS: &[Named] = &[$(Named { name: $name, steps: &[$(NamedStep { name: $step }),+] }),+];
    };
}

named! {
    "reinstall": ["stage", "build", "stop", "carry", "probation", "configure", "health", "commit", "settle"],
    "reinstall-by-script": ["stage", "stop", "build", "carry", "probation", "configure", "health", "commit", "settle"],
    "switch": ["stop", "probation", "commit", "settle"],
    "generation-flatten": ["stage", "stop", "carry", "probation", "commit", "settle"],
    "generation-delete": ["relink", "detach", "commit", "settle"],
}

/// An operation under way.
#[derive(Debug)]
pub struct Work<'a, P> {
    /// On which container.
    pub container: &'a Container<'a>,
    /// What stands in its journal.
    pub journal: Journal,
    /// Its plan.
    pub plan: P,
    /// What cannot be done if it fails: "cannot reinstall `web01`".
    pub what: String,
    /// The commit has happened.
    pub is_committed: bool,
}

impl<P> Work<'_, P> {
    /// The journal was written in this boot: what ran then may run still, and may be started again.
    pub fn is_this_boot(&self) -> bool {
        self.journal.boot_id == boot_id()
    }

    /// Whether a signal asks this process to end, and which: told to the observer, once. It is undone, or after the commit finished, by this
    /// process; a second signal leaves that to the keeper.
    pub fn heed(&mut self) -> Option<i32> {
        let container = self.container;
        let signal = container.runtime().interruption()?;
        let word = signal_word(signal);
        // An operation on a stopped container has none yet; and there may be no process for one.
        let is_kept = container.runtime().keep(container.id()).is_ok();
        let name = &container.name;
        let other = if is_kept { "another process" } else { "the next command" };
        let (text, state) = match (self.is_committed, is_kept) {
            (true, _) => (
                format!(
                    "{word}: it has happened already, and is brought to its end; a second signal leaves that to {other}"
                ),
                format!("it has happened and stays so; {other} brings it to its end for `{name}`"),
            ),
            (false, true) => (
                format!("{word}: undoing it; a second signal leaves that to another process"),
                format!("nothing is lost: another process puts `{name}` back on its old root"),
            ),
            (false, false) => (
                format!("{word}: undoing it; a second signal leaves that to the next command"),
                format!(
                    "nothing is lost, but nobody puts `{name}` back on its old root before the next command"
                ),
            ),
        };
        let hint = if is_kept { "waits until that is done" } else { "does that" };
        let again = Failure::new(Code::Interrupted(signal), self.what.clone())
            .because("a second signal came before the first one was dealt with")
            .state(state)
            .hint(format!("`prlctl recover {name}` {hint}"));
        container.host.interrupted(text, &again);
        Some(signal)
    }
}

/// What an operation came to.
#[derive(Debug)]
pub struct Outcome<P> {
    /// The plan, as the steps have left it.
    pub plan: P,
    /// After the commit something was left for the next command to finish: what, in one line.
    pub unfinished: Option<String>,
}

/// Runs an operation to its end.
///
/// # Errors
/// Before the commit: whatever stopped it, with everything reverted; `code` is what the command exits with when a step has no code of its own.
pub fn run<P: Serialize>(
    kind: &'static Kind<P>,
    container: &Container<'_>,
    plan: P,
    what: &str,
    code: Code,
) -> Result<Outcome<P>> {
    let name = name_of(kind, &plan);
    let recording = container.host.recording(container.id(), &container.name, name, None);
    let journal = Journal {
        format: Journal::FORMAT,
        operation: kind.name.to_owned(),
        steps: kind.steps.iter().map(|step| step.name.to_owned()).collect(),
        boot_id: boot_id(),
        was_running: container.is_running(),
        // By which a recovery is found that was one of this operation.
        started: recording.at(),
        pid: std::process::id(),
        arguments: serde_json::to_value(&plan).map_err(|error| crate::error::system(what, &error))?,
    };
    let work = Work { container, journal, plan, what: what.to_owned(), is_committed: false };
    // What makes a root has asked already; what goes back to one has to be possible on a full disk too.
    container.make_room();
    let result = begin(kind, work, code);
    container.keep_to_disk_space();
    match &result {
        Ok(outcome) => recording.end(Ended::Done, outcome.unfinished.clone(), None),
        Err(failure) => recording.end(Ended::Failed, None, Some(failure)),
    }
    result
}

/// What it is called where people read it.
fn name_of<P>(kind: &Kind<P>, plan: &P) -> &'static str {
    if (kind.is_trial)(plan) { "script-run" } else { kind.name }
}

/// From the journal on.
fn begin<P: Serialize>(kind: &'static Kind<P>, work: Work<'_, P>, code: Code) -> Result<Outcome<P>> {
    let (container, what) = (work.container, work.what.clone());
    // From here on whoever presses ^C is to be told what becomes of the container.
    container
        .runtime()
        .heed_signals()
        .map_err(|error| Failure::new(Code::System, &what).because(error.because).unchanged())?;
    // What makes a root has asked for room; what goes back to one, or deletes one, must not need any.
    let released = reserve::release_if_full(&container.host.prefix);
    // Durable before the first step: a death from here on is found by the next command.
    if !linux::mutated!("no-journal") && !is_journal_late() {
        container
            .area
            .store_journal(&work.journal)
            .map_err(|error| damaged(error, &container.name).within(&what))?;
    }
    // A container that ran must not stay down, nor a script of the host go on, because this process is killed.
    let is_kept = work.journal.was_running || kind.runs_on_the_host;
    let result = match if is_kept { container.runtime().keep(container.id()) } else { Ok(()) } {
        Ok(()) => walk(kind, work, code),
        Err(error) => {
            let failure = Failure::new(Code::System, "it cannot be kept").because(error.because);
            Err(give_up(kind, work, failure, code))
        }
    };
    container.runtime().dismiss_keeper(container.id());
    // There may be none for it: then the next operation tries.
    drop(released);
    let _ = reserve::keep(&container.host.prefix);
    result
}

/// Step by step to the end, or back.
fn walk<P>(kind: &'static Kind<P>, mut work: Work<'_, P>, code: Code) -> Result<Outcome<P>> {
    let container = work.container;
    for step in kind.steps {
        if step.name == kind.commit && (kind.is_trial)(&work.plan) {
            return match revert_all(kind, &mut work) {
                Ok(()) => Ok(Outcome { plan: work.plan, unfinished: None }),
                Err(failure) => Err(give_up(kind, work, failure, code)),
            };
        }
        let text = (step.text)(&work);
        container.host.step(step.name, &text);
        let result = fault::here(kind.name, step.name, Place::Before)
            .and_then(|()| unless_interrupted(&mut work))
            .and_then(|()| apply(kind.name, step, &mut work))
            .and_then(|()| late(&work, step.name == kind.commit))
            .and_then(|()| {
                work.is_committed |= step.name == kind.commit;
                fault::here(kind.name, step.name, Place::After)
            });
        if let Err(failure) = result {
            container.host.tell(What::Failed { step: step.name.to_owned(), text: failure.reason() });
            if work.is_committed {
                // It has happened, and nothing takes it back: the journal stays, and the next command finishes it.
                let unfinished = failure.reason();
                return Ok(Outcome { plan: work.plan, unfinished: Some(unfinished) });
            }
            // What has failed may have been ended by the signal itself, which goes to the whole group of a terminal.
            let failure = match work.heed() {
                Some(signal) => interrupted(signal, container).because(failure.what),
                None => failure,
            };
            return Err(give_up(kind, work, failure, code));
        }
    }
    // That the journal is still there takes nothing back either: the next command finds everything done.
    let unfinished = finish(&mut work).err().map(|failure| failure.reason());
    Ok(Outcome { plan: work.plan, unfinished })
}

/// `torture mutations`: the journal comes and goes at the wrong time.
fn late<P>(work: &Work<'_, P>, is_commit: bool) -> Result<()> {
    let area = &work.container.area;
    if is_journal_late() {
        area.store_journal(&work.journal)?;
    }
    if is_commit && linux::mutated!("journal-gone-before-settle") {
        area.clear_journal()?;
    }
    Ok(())
}

fn is_journal_late() -> bool {
    linux::mutated!("journal-late")
}

/// Before the commit a signal is a failure like any other; after it nothing is.
fn unless_interrupted<P>(work: &mut Work<'_, P>) -> Result<()> {
    match work.heed() {
        Some(signal) if !work.is_committed => Err(interrupted(signal, work.container)),
        Some(_) | None => Ok(()),
    }
}

fn interrupted(signal: i32, container: &Container<'_>) -> Failure {
    Failure::new(Code::Interrupted(signal), format!("{} has interrupted it", signal_word(signal)))
        .hint(format!("`{}` begins again", container.host.command))
}

/// Reverts everything and says in which state things are.
fn give_up<P>(kind: &'static Kind<P>, mut work: Work<'_, P>, failure: Failure, code: Code) -> Failure {
    let _released = reserve::release_if_full(&work.container.host.prefix);
    let reverted = revert_all(kind, &mut work);
    let state = match &reverted {
        Ok(()) if (kind.is_trial)(&work.plan) => {
            let runs = if work.container.is_running() { "runs" } else { "is stopped" };
            format!("`{}` is as it was, and {runs}", work.container.name)
        }
        Ok(()) => state_after(&work),
        Err(error) => format!(
            "`{}` could not be put back by itself ({}: {}); nothing was deleted",
            work.container.name,
            error.what,
            error.because.join(": ")
        ),
    };
    let code = if failure.code == Code::System { code } else { failure.code };
    let mut failure = Failure { code, ..failure.within(&work.what) }.state(state);
    if reverted.is_err() {
        failure = failure.hint(format!("`prlctl recover {}` tries again", work.container.name));
    }
    failure
}

/// In words, on which root the container is and whether it runs.
pub fn state_after<P>(work: &Work<'_, P>) -> String {
    let container = work.container;
    let live = container.area.live().map_or_else(|_| "unknown".to_owned(), |number| number.to_string());
    match (work.journal.was_running, container.is_running()) {
        (true, true) => {
            format!("nothing was lost: `{}` runs on its old root again, generation {live}", container.name)
        }
        (true, false) => format!(
            "nothing was lost: `{}` is on its old root, generation {live}, but it does not run: `prlctl start {}`",
            container.name, container.name
        ),
        (false, _) => {
            format!("nothing was lost: `{}` is stopped, on its old root, generation {live}", container.name)
        }
    }
}

fn revert_all<P>(kind: &'static Kind<P>, work: &mut Work<'_, P>) -> Result<()> {
    if linux::mutated!("journal-gone-before-reverts") {
        finish(work)?;
    }
    for step in kind.steps.iter().rev() {
        fault::here(kind.name, step.name, Place::Revert)?;
        work.container.host.record(What::Revert { step: step.name.to_owned() });
        (step.revert)(work)?;
        if fault::is_twice(kind.name, step.name, Place::Revert) {
            work.container.host.record(What::Note { text: format!("revert {} once more", step.name) });
            (step.revert)(work)?;
        }
    }
    finish(work)
}

/// Once, or as often as a test wants.
fn apply<P>(operation: &str, step: &Step<P>, work: &mut Work<'_, P>) -> Result<()> {
    (step.apply)(work)?;
    if fault::is_twice(operation, step.name, Place::After) {
        work.container.host.record(What::Note { text: format!("apply {} once more", step.name) });
        (step.apply)(work)?;
    }
    Ok(())
}

fn finish<P>(work: &mut Work<'_, P>) -> Result<()> {
    work.container.area.clear_journal().map_err(|error| damaged(error, &work.container.name))?;
    Ok(())
}

/// Brings an operation to an end that a dead command has left under way. Returns what came of it, in one line.
///
/// # Errors
/// [`Failure`]; the journal stays.
pub fn resume<P: DeserializeOwned>(
    kind: &'static Kind<P>,
    container: &Container<'_>,
    journal: Journal,
) -> Result<String> {
    let plan: P = serde_json::from_value(journal.arguments.clone()).map_err(|error| {
        Failure::new(Code::Damaged, format!("the journal of `{}` cannot be used", container.name))
            .caused_by(&error)
            .unchanged()
            .hint(format!(
                "`prlctl recover --rebuild {}` puts the journal aside; the root stays what `live` says, and none is deleted",
                container.name
            ))
    })?;
    let name = name_of(kind, &plan);
    let recording = container.host.recording(container.id(), &container.name, name, Some(journal.started));
    let work = Work { container, journal, plan, what: String::new(), is_committed: false };
    // What has been brought down to be brought back must not stay down because this process is killed too.
    let is_kept = work.journal.was_running
        && work.is_this_boot()
        && runtime::keeper::is_worth_another()
        && container.runtime().keep(container.id()).is_ok();
    container.host.recovering(&container.name, is_kept);
    let result = bring_to_an_end(kind, work);
    container.runtime().dismiss_keeper(container.id());
    if result.is_ok() {
        container.host.recovered(&container.name);
    }
    match &result {
        Ok((ended, _)) => recording.end(*ended, None, None),
        Err(failure) => recording.end(Ended::Failed, None, Some(failure)),
    }
    result.map(|(_, told)| told)
}

fn bring_to_an_end<P>(kind: &'static Kind<P>, mut work: Work<'_, P>) -> Result<(Ended, String)> {
    let container = work.container;
    let name = name_of(kind, &work.plan);
    let _released = reserve::release_if_full(&container.host.prefix);
    if (kind.is_committed)(&work)? {
        // What the rename has made visible may not be durable yet: before anything leans on it.
        if !linux::mutated!("recovery-unsynced") {
            container.area.sync().map_err(|error| damaged(error, &container.name))?;
        }
        let after = kind.steps.iter().skip_while(|step| step.name != kind.commit).skip(1);
        for step in after {
            fault::here(kind.name, step.name, Place::Before)?;
            apply(kind.name, step, &mut work)?;
            fault::here(kind.name, step.name, Place::After)?;
        }
        finish(&mut work)?;
        let told = format!("{name} of `{}` was complete: its end was made up for", container.name);
        return Ok((Ended::Done, told));
    }
    revert_all(kind, &mut work)?;
    let told = format!("{name} of `{}` was undone: {}", container.name, state_after(&work));
    Ok((Ended::Undone, told))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names<P>(kind: &Kind<P>) -> (&'static str, Vec<&'static str>) {
        (kind.name, kind.steps.iter().map(|step| step.name).collect())
    }

    #[test]
    fn the_list_of_operations_is_true() {
        let real = vec![
            names(&change::REINSTALL),
            names(&change::REINSTALL_BY_SCRIPT),
            names(&change::SWITCH),
            names(&change::FLATTEN),
            names(&forget::GENERATION_DELETE),
        ];
        let listed: Vec<_> = OPERATIONS
            .iter()
            .map(|one| (one.name, one.steps.iter().map(|step| step.name).collect::<Vec<_>>()))
            .collect();
        assert_eq!(real, listed);
    }

    #[test]
    fn the_commit_is_one_of_the_steps() {
        for kind in [&change::REINSTALL, &change::REINSTALL_BY_SCRIPT, &change::SWITCH, &change::FLATTEN] {
            assert!(kind.steps.iter().any(|step| step.name == kind.commit));
        }
    }
}
