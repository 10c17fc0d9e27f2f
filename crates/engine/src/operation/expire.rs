//! The end of *settle*: the old roots that [`crate::retention`] keeps no longer go, as `generation-delete` would have them go.
//!
//! Which ones is decided before the first step and stands in the journal, so that a recovery deletes these and no others, whatever the clock or the
//! configuration says by then. Children are linked past a root durably before it is moved to the trash. One that something is still using is
//! linked back and stays, for the next reinstall to try. None of it takes anything back: what fails is told.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use store::GenerationNumber;

use super::change::ChangeWork;
use super::forget::show_old;
use crate::error::{Code, Failure, Result};
use crate::event::What;
use crate::host::{Container, damaged};
use crate::retention::{OldRoot, Retention, old_roots};

/// A root that goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expiring {
    /// Its number.
    pub number: GenerationNumber,
    /// Whose parent it is.
    pub children: Vec<GenerationNumber>,
}

/// What a reinstall will delete that leaves `from`, and has `parent` at `/old`; without `from` among the old roots, should it go itself.
///
/// # Errors
/// When the container's records cannot be read.
pub fn plan(
    container: &Container<'_>,
    retention: Option<Retention>,
    from: GenerationNumber,
    parent: Option<GenerationNumber>,
) -> Result<Vec<Expiring>> {
    let Some(retention) = retention else { return Ok(Vec::new()) };
    let all = container.area.generations().map_err(|error| damaged(error, &container.name))?;
    let now = Timestamp::now();
    let mut old = old_roots(&all, from);
    if parent == Some(from) {
        old.push(OldRoot { number: from, left: now });
    }
    let children = |number| {
        let records = all.iter().filter_map(|(_, record)| record.as_ref().ok());
        records.filter(|record| record.parent == Some(number)).map(|record| record.number).collect()
    };
    let expired = retention.expired(old, parent, now).into_iter();
    Ok(expired.map(|number| Expiring { number, children: children(number) }).collect())
}

/// Deletes them.
pub fn expire(work: &mut ChangeWork<'_>) {
    let container = work.container;
    for expiring in work.plan.expires.clone() {
        let number = expiring.number;
        if !container.area.generation_dir(number).exists() {
            continue;
        }
        let told = match discard(container, &expiring) {
            Ok(()) => format!("generation {number} has been deleted: {}", crate::retention::KEY),
            Err(failure) => {
                container
                    .host
                    .warning(&format!("generation {number} is not deleted this time: {}", failure.reason()));
                continue;
            }
        };
        // A recovery has no report that anybody reads.
        container.host.record(What::Note { text: told.clone() });
        work.plan.report.push(told);
    }
}

fn discard(container: &Container<'_>, expiring: &Expiring) -> Result<()> {
    let number = expiring.number;
    let area = &container.area;
    let live = area.live().map_err(|error| damaged(error, &container.name))?;
    if live == number
        || container.runtime().running(container.id()).is_some_and(|run| run.generation == number)
    {
        return Err(Failure::new(Code::Running, "it is the live one"));
    }
    if container.is_running() && container.runtime().is_held(container.id(), number) {
        return Err(Failure::new(Code::Mounted, "it is in use in the container")
            .because("a process is in it, or has a file of it open"));
    }
    // Not that of the plan: one further back may have gone a moment ago.
    let parent = area.generation(number).map_err(|error| damaged(error, &container.name))?.parent;
    link(container, expiring, parent)?;
    // What is in nobody's chain is shown nowhere.
    let show = || if expiring.children.is_empty() { Ok(()) } else { show_old(container) };
    let taken = show().and_then(|()| {
        if container.is_running() && container.runtime().is_in_use(container.id(), number) {
            let failure = Failure::new(Code::Mounted, "it is in use in the container");
            return Err(failure.because("a process in it has moved or copied what was at /old"));
        }
        container
            .runtime()
            .unmount(container.id(), number)
            .map_err(|error| Failure::new(Code::Mounted, "it is in use on the host").because(error.because))
    });
    if let Err(failure) = taken {
        link(container, expiring, Some(number))?;
        show()?;
        return Err(failure);
    }
    container.enter_volume()?;
    Ok(area.discard_generation(&container.host.prefix, number)?)
}

/// Links those whose parent it is, or was, to another one. One that has gone is nobody's child.
fn link(container: &Container<'_>, expiring: &Expiring, parent: Option<GenerationNumber>) -> Result<()> {
    for &child in &expiring.children {
        let Ok(mut record) = container.area.generation(child) else { continue };
        if record.parent != parent {
            record.parent = parent;
            container.area.store_generation(&record)?;
        }
    }
    Ok(())
}
