//! `prlctl generation-delete`: a generation goes, and those that had it at their `/old` get what was at its own.
//!
//! The commit is the rename to the trash. Children are linked past it durably before, so that whatever is reachable is whole at any instant; taking
//! the same time for any size, the trash is emptied in the background.

use serde::{Deserialize, Serialize};
use store::GenerationNumber;

use super::{Kind, Outcome, Step, Work, run};
use crate::error::{Code, Failure, Result};
use crate::host::{Container, damaged};

/// The plan, as it stands in the journal.
#[derive(Debug, Serialize, Deserialize)]
pub struct Forget {
    /// The generation that goes.
    pub number: GenerationNumber,
    /// What is at its `/old`.
    pub parent: Option<GenerationNumber>,
    /// Whose parent it is.
    pub children: Vec<GenerationNumber>,
}

/// The steps.
pub static GENERATION_DELETE: Kind<Forget> = Kind {
    name: "generation-delete",
    steps: &[
        Step { name: "relink", text: |_| String::new(), apply: relink, revert: link_back },
        Step { name: "detach", text: |_| String::new(), apply: show, revert: |_| Ok(()) },
        Step { name: "commit", text: |_| String::new(), apply: commit, revert: |_| Ok(()) },
        Step { name: "settle", text: |_| String::new(), apply: sweep, revert: |_| Ok(()) },
    ],
    commit: "commit",
    runs_on_the_host: false,
    is_trial: |_| false,
    is_committed: |work| Ok(!work.container.area.generation_dir(work.plan.number).exists()),
};

/// Deletes a generation. Returns what the next command finishes.
///
/// # Errors
/// [`Code::BadValue`] for the live one, or one that is not there.
pub fn delete(container: &Container<'_>, number: GenerationNumber) -> Result<Option<String>> {
    let what = format!("cannot delete generation {number} of `{}`", container.name);
    let area = &container.area;
    let refused = |because: String, hint: String| {
        Failure::new(Code::BadValue, what.clone()).because(because).unchanged().hint(hint)
    };
    let list = format!("`prlctl generation-list {} --all` shows all roots", container.name);
    if area.live().map_err(|error| damaged(error, &container.name))? == number {
        return Err(refused(
            "it is the live one".to_owned(),
            format!("go to another one first: `prlctl generation-switch {} N`", container.name),
        ));
    }
    if container.runtime().running(container.id()).is_some_and(|run| run.generation == number) {
        return Err(refused(
            "the container runs on it".to_owned(),
            format!("prlctl stop {}", container.name),
        ));
    }
    if !area.generation_dir(number).exists() {
        return Err(refused(format!("there is no generation {number}"), list));
    }
    container.release_view().map_err(|failure| failure.within(what.clone()))?;
    let parent = area.generation(number).ok().and_then(|record| record.parent);
    let children = area
        .generations()
        .map_err(|error| damaged(error, &container.name))?
        .into_iter()
        .filter_map(|(child, record)| (record.ok()?.parent == Some(number)).then_some(child))
        .collect();
    let plan = Forget { number, parent, children };
    let Outcome { unfinished, .. } = run(&GENERATION_DELETE, container, plan, &what, Code::System)?;
    Ok(unfinished)
}

fn link(work: &mut Work<'_, Forget>, is_past: bool) -> Result<()> {
    if !is_past && linux::mutated!("relink-stays") {
        return Ok(());
    }
    let area = &work.container.area;
    for &child in &work.plan.children {
        let Ok(mut record) = area.generation(child) else { continue };
        let parent = if is_past { work.plan.parent } else { Some(work.plan.number) };
        if record.parent != parent {
            record.parent = parent;
            area.store_generation(&record)?;
        }
    }
    Ok(())
}

/// `torture mutations`: only once the generation has gone.
fn relinks_late() -> bool {
    linux::mutated!("relink-late")
}

fn relink(work: &mut Work<'_, Forget>) -> Result<()> {
    if relinks_late() {
        return Ok(());
    }
    link(work, true)
}

/// Also reverts *detach*: what is to be shown is only known once the records are as they were.
fn link_back(work: &mut Work<'_, Forget>) -> Result<()> {
    link(work, false)?;
    show(work)
}

/// Its layers may have been refused by the disk a moment ago. Where they still are, the next start has another try.
fn sweep(work: &mut Work<'_, Forget>) -> Result<()> {
    if work.container.enter_volume().is_ok() {
        let _ = work.container.area.sweep_layers();
    }
    Ok(())
}

/// What a running container has at `/old` is what its records say. Where the generation is in nobody's chain, there is nothing to do.
fn show(work: &mut Work<'_, Forget>) -> Result<()> {
    if work.plan.children.is_empty() { Ok(()) } else { show_old(work.container) }
}

/// What a running container has at `/old` is what its records say.
///
/// # Errors
/// When it cannot be changed.
pub fn show_old(container: &Container<'_>) -> Result<()> {
    let fail = |error: crate::runtime::RuntimeError| {
        Failure::new(Code::System, "what is at /old cannot be changed").because(error.because)
    };
    if let Some(run) = container.runtime().running(container.id()) {
        let record =
            container.area.generation(run.generation).map_err(|error| damaged(error, &container.name))?;
        let ids = container.area.record().map_err(|error| damaged(error, &container.name))?.id_range;
        let roots = match record.parent {
            // The first of what comes back is the running root itself.
            Some(parent) => container.roots(run.generation, Some(parent))?.split_off(1),
            None => Vec::new(),
        };
        for warning in container.runtime().replace_old(container.id(), ids, &roots).map_err(fail)? {
            container.host.warning(&warning);
        }
    }
    Ok(())
}

fn commit(work: &mut Work<'_, Forget>) -> Result<()> {
    let (container, number) = (work.container, work.plan.number);
    if !container.area.generation_dir(number).exists() {
        return Ok(());
    }
    if linux::mutated!("trash-before-unmount") {
        container.area.discard_generation(&container.host.prefix, number)?;
    }
    if container.is_running() && container.runtime().is_in_use(container.id(), number) {
        return Err(Failure::new(Code::Mounted, format!("generation {number} is in use in the container"))
            .because("a process in it has moved or copied what was at /old")
            .hint(format!("stop it first: `prlctl stop {}`", container.name)));
    }
    container.runtime().unmount(container.id(), number).map_err(|error| {
        Failure::new(Code::Mounted, format!("generation {number} is in use on the host"))
            .because(error.because)
    })?;
    container.enter_volume()?;
    container.area.discard_generation(&container.host.prefix, number)?;
    if relinks_late() { link(work, true) } else { Ok(()) }
}
