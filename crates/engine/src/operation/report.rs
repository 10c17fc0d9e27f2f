//! What a reinstall came to: told at its end, kept in its log, and told again by `prlctl reinstall-report`.

use serde::{Deserialize, Serialize};
use store::GenerationNumber;

use super::change::{Change, ChangeWork, template_name};
use super::keep::KeepReport;
use super::password;
use crate::accounts::RootPassword;
use crate::event::What;
use crate::host::Container;

/// What a reinstall came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The generation that was live.
    pub old: GenerationNumber,
    /// The one that is.
    pub new: GenerationNumber,
    /// The template of the new one; `None`: a script has made it from nothing we know.
    pub template: Option<String>,
    /// The old root is at `/old`.
    pub is_old_kept: bool,
    /// What was kept beyond the users.
    pub kept: Option<KeepReport>,
    /// Users that were carried, or not and why, and what else there is to know.
    pub notes: Vec<String>,
    /// Which password is valid for root; `None`: the new root's files cannot be read.
    pub root_password: Option<RootPassword>,
    /// From the moment the old root was asked to stop until the new one was up; `None`: it did not run.
    pub downtime_ms: Option<u64>,
}

impl Report {
    /// As far as it is known.
    pub fn of(container: &Container<'_>, change: &Change) -> Report {
        Report {
            old: change.from,
            new: change.to,
            template: change.making.as_ref().and_then(|making| template_name(&making.base)),
            is_old_kept: !change.discards,
            kept: change.kept.clone(),
            notes: change.report.clone(),
            root_password: password::valid_for_root(container, change),
            downtime_ms: change.downtime.map(|downtime| downtime.as_millis() as u64),
        }
    }
}

/// Before the commit: what is known then is in the log even if the command is killed right after it.
pub fn record(work: &mut ChangeWork<'_>) {
    if work.plan.making.is_none() {
        return;
    }
    let report = Report::of(work.container, &work.plan);
    work.container.host.record(What::Report(Box::new(report.clone())));
    work.plan.reported = Some(report);
}

/// In the end: what has been added since.
pub fn complete(work: &mut ChangeWork<'_>) {
    // A recovery knows nothing of what was kept: what stands in the log of the operation is more.
    let Some(report) = &mut work.plan.reported else { return };
    if report.notes != work.plan.report {
        report.notes.clone_from(&work.plan.report);
        work.container.host.record(What::Report(Box::new(report.clone())));
    }
}
