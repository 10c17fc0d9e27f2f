//! The step *probation*: the new root is started while nothing depends on it yet, and judged by how it comes up.

use std::time::{Duration, Instant};

use super::change::ChangeWork;
use crate::error::{Code, Failure, Result};
use crate::host::Container;
use crate::runtime::{RuntimeErrorKind, Start};
use crate::systemd::{self, Said};

/// How long a root that was somebody's before may take to come up until it is taken as it is.
const PATIENCE: Duration = Duration::from_secs(30);

/// Step *probation*: the new root is started, and has to come up.
///
/// # Errors
/// When it does not, or not as it should; everything is reverted then.
pub fn try_out(work: &mut ChangeWork<'_>) -> Result<()> {
    if !work.plan.is_tried {
        return Ok(());
    }
    let container = work.container;
    let look = look_hint(work).filter(|_| work.plan.making.is_some());
    let failed = |error: crate::runtime::RuntimeError| {
        let how = if error.kind == RuntimeErrorKind::Interrupted {
            "was still coming up"
        } else {
            "does not come up"
        };
        let mut failure =
            Failure::new(Code::System, format!("generation {} {how}", work.plan.to)).because(error.because);
        let is_silent = error.console.is_empty() && error.kind != RuntimeErrorKind::Interrupted;
        let console = if is_silent { container.runtime().console(container.id()) } else { error.console };
        if !console.is_empty() {
            failure = failure.because(format!("its console said:\n{console}"));
        }
        if error.kind == RuntimeErrorKind::FileSystem {
            failure.code = Code::Unsupported;
        }
        if error.kind == RuntimeErrorKind::Action {
            failure.code = Code::ActionFailed;
        }
        if error.kind == RuntimeErrorKind::NoSpace {
            failure.code = Code::NoSpace;
            return failure.hint(crate::error::MAKE_ROOM);
        }
        let log = runtime::monitor::log_path(&container.host.prefix, container.id());
        let log = format!("its console is logged in {}", log.display());
        failure.hint(look.clone().map_or_else(|| log.clone(), |look| format!("{log}; {look}")))
    };
    if container.runtime().running(container.id()).is_none_or(|run| run.generation != work.plan.to) {
        let start = Start {
            probation_network: work.plan.probation_network,
            ..container.start_of(work.plan.to, work.plan.old, true)?
        };
        for warning in container.run(&start).map_err(failed)? {
            container.host.warning(&warning);
        }
    }
    let limit = Duration::from_secs(work.plan.timeout);
    if work.plan.making.is_some() {
        let deadline = Instant::now() + limit;
        container.runtime().wait_until_up(container.id(), limit).map_err(failed)?;
        work.plan.downtime = work.plan.down_since.map(|since| since.elapsed());
        if container.runtime().running(container.id()).is_some_and(|run| run.is_systemd) {
            let said = systemd::ask_until(container, deadline).map_err(failed)?;
            return judge(work, said);
        }
        // A plain init is alive and has executed a shell: nobody can ask it for more.
        return Ok(());
    }
    // Whoever goes back to a root of before wants that one, broken as it may be: that it lives is enough.
    match container.runtime().wait_until_up(container.id(), limit.min(PATIENCE)) {
        Err(error) if error.kind == RuntimeErrorKind::NotUp => {
            container.host.warning(&format!(
                "generation {} runs, but is not up: {}; its console is logged in {}",
                work.plan.to,
                error.because,
                runtime::monitor::log_path(&container.host.prefix, container.id()).display()
            ));
            Ok(())
        }
        result => result.map_err(failed),
    }
}

/// Reverts it: nothing of the new root runs, and the old one can be written to.
///
/// # Errors
/// When it cannot be taken down.
pub fn end_probation(work: &mut ChangeWork<'_>) -> Result<()> {
    if linux::mutated!("probation-stays") {
        return Ok(());
    }
    let container = work.container;
    let fail = |error: crate::runtime::RuntimeError| {
        Failure::new(Code::System, "the new root cannot be taken down").because(error.because)
    };
    // A container that still runs on its old root has never been stopped.
    if container.runtime().running(container.id()).is_none_or(|run| run.generation == work.plan.to) {
        container.runtime().end(container.id()).map_err(fail)?;
        if work.plan.is_tried && (work.plan.is_trial || !(work.journal.was_running && work.is_this_boot())) {
            // It stays stopped: nothing of it stays mounted. What was only a trial may have been over a root that nothing else leads to.
            container.runtime().unmount_all(container.id()).map_err(fail)?;
        } else if work.plan.to != work.plan.from {
            container.runtime().unmount(container.id(), work.plan.to).map_err(fail)?;
        }
    }
    if work.plan.is_trial {
        // Of the container that runs, if it does, each root is as it is to be: this may be one deep in its chain.
        return Ok(());
    }
    // Only a mounted superblock can be read-only; the next mount is writable anyway.
    container.runtime().set_read_only(container.id(), work.plan.from, false).map_err(fail)
}

/// Whether a root whose systemd says so is taken; see [`crate::systemd`].
fn judge(work: &mut ChangeWork<'_>, said: Said) -> Result<()> {
    let container = work.container;
    let allows_degraded = work.plan.making.as_ref().is_some_and(|making| making.allows_degraded);
    let failed = match said {
        Said::Running => return Ok(()),
        Said::Starting => return Err(refused(work, "its systemd is still `starting`", None)),
        Said::Other(word) => {
            return Err(refused(work, &format!("its systemd says `{word}`, not `running`"), None));
        }
        Said::Degraded(failed) => failed,
    };
    let units = if failed.is_empty() { "units that it does not name".to_owned() } else { failed.join(", ") };
    let is_as_before = systemd::is_as_before(&failed, &work.plan.failed_before);
    if is_as_before || allows_degraded {
        let why = if is_as_before { "as in the old root" } else { "taken as it is: --allow-degraded" };
        let told = format!("the new root is degraded, {why}; failed: {units}");
        work.plan.report.push(told);
        return Ok(());
    }
    let new: Vec<String> =
        failed.into_iter().filter(|unit| !work.plan.failed_before.contains(unit)).collect();
    let mut failure = refused(
        work,
        &format!("its systemd is `degraded`; failed: {units}"),
        Some("--allow-degraded takes it as it is"),
    );
    let reasons = systemd::reasons(container, &new);
    let console = container.runtime().console(container.id());
    if !reasons.is_empty() {
        failure.because.extend(reasons);
    } else if !console.is_empty() {
        failure = failure.because(format!("its console said:\n{console}"));
    }
    Err(failure)
}

fn refused(work: &ChangeWork<'_>, because: &str, or: Option<&str>) -> Failure {
    let failure = Failure::new(Code::ReinstallFailed, format!("generation {} is not well", work.plan.to))
        .because(because);
    match (look_hint(work), or) {
        (Some(look), Some(or)) => failure.hint(format!("{look}; {or}")),
        (Some(hint), None) => failure.hint(hint),
        (None, Some(or)) => failure.hint(or),
        (None, None) => failure,
    }
}

/// How to look at a root that ran and was given up, if it stays.
pub fn look_hint(work: &ChangeWork<'_>) -> Option<String> {
    let Container { name, .. } = work.container;
    let number = work.plan.to;
    (!work.plan.drops_failed)
        .then(|| format!("`prlctl mount {name} --generation {number}` shows what is left of it, read-only"))
}
