//! The step *settle*: after the commit, `/old`, `ve.conf` and what runs follow the new root.

use std::time::Duration;

use store::{Conf, GenerationNumber, GenerationRecord, GenerationState};

use super::change::{ChangeWork, start_what_ran};
use super::expire::expire;
use super::report;
use crate::error::{Code, Failure, Result};
use crate::host::{Container, damaged};

/// Step *settle*: what follows from the commit, each part of it also when it was done before.
///
/// # Errors
/// [`Failure`]; the journal stays, and the next command goes on.
pub fn settle(work: &mut ChangeWork<'_>) -> Result<()> {
    let container = work.container;
    let area = &container.area;
    let fail = |error: crate::runtime::RuntimeError| {
        Failure::new(Code::System, "the new root is in place, but its end is to be made up for")
            .because(error.because)
    };
    let mut record = area.generation(work.plan.to).map_err(|error| damaged(error, &container.name))?;
    // A switch may go to one that had failed.
    if record.state != GenerationState::Kept {
        record.state = GenerationState::Kept;
        area.store_generation(&record)?;
    }
    remember_old(work)?;
    follow_in_configuration(work, &record)?;
    let run = container.runtime().running(container.id());
    if run.is_some() && !work.journal.was_running {
        // It was only started to be tried out.
        let limit = Duration::from_secs(work.plan.stop_timeout);
        if let Err(failure) = container.stop(limit, false) {
            if work.heed().is_none() {
                return Err(failure);
            }
            container.stop(limit, false)?;
        }
        container.runtime().wait_until_gone(container.id()).map_err(fail)?;
    } else if run.is_some() {
        if work.plan.discards {
            let ids = area.record().map_err(|error| damaged(error, &container.name))?.id_range;
            // The first of what comes back is the running root itself.
            let old = container.roots(work.plan.to, record.parent)?.split_off(1);
            for warning in container.runtime().replace_old(container.id(), ids, &old).map_err(fail)? {
                container.host.warning(&warning);
            }
        } else if let Some(old) = record.parent {
            container.runtime().set_read_only(container.id(), old, false).map_err(fail)?;
        }
        for warning in container.runtime().settle(container.id()).map_err(fail)? {
            container.host.warning(&warning);
        }
        if work.plan.making.is_none() {
            unmount_left(container, work.plan.to)?;
        }
    } else {
        // It has ended by itself, or was never started; what the host may still see at its place is the root before.
        let _ = container.runtime().unmount_all(container.id());
    }
    if work.plan.discards {
        link_past(container, work.plan.from, record.parent)?;
        crate::recover::discard(container, work.plan.from)?;
        // Its layers may have been refused by the disk a moment ago. Where they still are, the next start has another try.
        let _ = area.sweep_layers();
    }
    // A script's last word was `reboot`, say, and it came down just after the commit.
    start_what_ran(work);
    expire(work);
    report::complete(work);
    Ok(())
}

/// `TEMPLATES` of the container's `ve.conf`, if any are named.
///
/// # Errors
/// [`Failure`] when it cannot be read.
pub fn installed_templates(container: &Container<'_>) -> Result<Option<String>> {
    let conf = container.area.conf().map_err(|error| damaged(error, &container.name))?;
    Ok(templates_of(&conf))
}

fn templates_of(conf: &Conf) -> Option<String> {
    conf.get("TEMPLATES").filter(|templates| !templates.trim().is_empty())
}

/// Roots that would have had the one that goes at their `/old` get what was at its own.
fn link_past(
    container: &Container<'_>,
    gone: GenerationNumber,
    parent: Option<GenerationNumber>,
) -> Result<()> {
    for (_, record) in container.area.generations().map_err(|error| damaged(error, &container.name))? {
        if let Ok(mut record) = record
            && record.parent == Some(gone)
            && !linux::mutated!("children-forgotten")
        {
            record.parent = parent;
            container.area.store_generation(&record)?;
        }
    }
    Ok(())
}

/// What a container that was switched leaves behind stays no mount: its former root, where nothing leads to it any more.
fn unmount_left(container: &Container<'_>, live: GenerationNumber) -> Result<()> {
    let area = &container.area;
    let chain = GenerationRecord::chain(area, live).map_err(|error| damaged(error, &container.name))?;
    for number in area.generation_numbers().map_err(|error| damaged(error, &container.name))? {
        if !chain.contains(&number) && !container.runtime().is_in_use(container.id(), number) {
            // Busy: a process of the host is in it; the next stop unmounts it.
            let _ = container.runtime().unmount(container.id(), number);
        }
    }
    Ok(())
}

/// What is installed in the root that was live is remembered with it, for when it is live again, and when it was left. A death before or
/// after it, or between it and `ve.conf`, has it done again: the journal knows what it was.
fn remember_old(work: &ChangeWork<'_>) -> Result<()> {
    let area = &work.container.area;
    if work.plan.discards || !area.generation_dir(work.plan.from).exists() {
        return Ok(());
    }
    // A root is left also because its record is damaged; that is nobody's hindrance.
    let Ok(mut record) = area.generation(work.plan.from) else { return Ok(()) };
    let left = Some(work.journal.started);
    if record.templates != work.plan.templates || record.left != left {
        record.templates.clone_from(&work.plan.templates);
        record.left = left;
        area.store_generation(&record)?;
    }
    Ok(())
}

/// `OSTEMPLATE`, `DISTRIBUTION` and `TEMPLATES` say what the live generation is.
pub fn follow_in_configuration(work: &ChangeWork<'_>, record: &GenerationRecord) -> Result<()> {
    let container = work.container;
    let mut conf = container.area.conf().map_err(|error| damaged(error, &container.name))?;
    let before = conf.to_bytes();
    for (key, value) in [("OSTEMPLATE", &record.ostemplate), ("DISTRIBUTION", &record.distribution)] {
        if let Some(value) = value
            && conf.get(key).as_ref() != Some(value)
        {
            conf.set(key, value)?;
        }
    }
    match &record.templates {
        Some(templates) => conf.set("TEMPLATES", templates)?,
        // Nothing is installed in a new root.
        None if templates_of(&conf).is_some() => conf.set("TEMPLATES", "")?,
        None => {}
    }
    if conf.to_bytes() != before {
        container.area.store_conf(&conf)?;
    }
    Ok(())
}
