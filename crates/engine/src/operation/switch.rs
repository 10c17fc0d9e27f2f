//! `prlctl reinstall --undo` and `prlctl generation-switch`: another generation becomes live, as it is now.

use std::path::Path;

use net::Probation;
use store::{GenerationNumber, GenerationRecord, GenerationState};

use super::change::{Change, SWITCH};
use super::{Outcome, run};
use crate::error::{Code, Failure, Result};
use crate::host::{Container, damaged};
use crate::scripts::Scripts;

/// What a switch came to.
#[derive(Debug)]
pub struct Switched {
    /// The generation that was live; it stays until somebody deletes it.
    pub from: GenerationNumber,
    /// The one that is.
    pub to: GenerationNumber,
    /// What the next command finishes.
    pub unfinished: Option<String>,
}

/// Goes back to the parent of the live generation: to what is at `/old`.
///
/// # Errors
/// [`Code::BadValue`] when there is none to go to.
pub fn undo(container: &Container<'_>, timeout: u64, stop_timeout: u64) -> Result<Switched> {
    let what = format!("cannot undo the reinstall of `{}`", container.name);
    let live = container.area.live().map_err(|error| damaged(error, &container.name))?;
    let record = container.area.generation(live).map_err(|error| damaged(error, &container.name))?;
    let Some(parent) = record.parent.filter(|&parent| container.area.generation_dir(parent).exists()) else {
        return Err(Failure::new(Code::BadValue, what)
            .because(format!("generation {live} has no root before it: there is none at its /old"))
            .unchanged()
            .hint(format!("`prlctl generation-list {} --all` shows all roots", container.name)));
    };
    switch(container, parent, &what, timeout, stop_timeout)
}

/// Makes `to` the live generation.
///
/// # Errors
/// With everything put back.
pub fn switch(
    container: &Container<'_>,
    to: GenerationNumber,
    what: &str,
    timeout: u64,
    stop_timeout: u64,
) -> Result<Switched> {
    let from = container.area.live().map_err(|error| damaged(error, &container.name))?;
    let refused = |because: String, hint: String| {
        Failure::new(Code::BadValue, what).because(because).unchanged().hint(hint)
    };
    let list = format!("`prlctl generation-list {} --all` shows all roots", container.name);
    if from == to {
        return Err(refused(format!("generation {to} is the live one already"), list));
    }
    let record = match container.area.generation(to) {
        Ok(record) => record,
        Err(store::AreaError::NoGeneration { .. }) => {
            return Err(refused(format!("there is no generation {to}"), list));
        }
        Err(error) => return Err(damaged(error, &container.name)),
    };
    if matches!(record.state, GenerationState::Doomed | GenerationState::Staged) {
        return Err(refused(format!("generation {to} is being deleted"), list));
    }
    if container.is_running() {
        // Should the other root not come up, this one must.
        container.check_restart().map_err(|failure| failure.within(what))?;
        crate::space::check_run(container).map_err(|failure| failure.within(what))?;
        GenerationRecord::chain(&container.area, to).map_err(|error| damaged(error, &container.name))?;
    } else {
        container.check_configuration().map_err(|failure| failure.within(what))?;
    }
    if record.state == GenerationState::Failed {
        container.host.warning(&format!(
            "generation {to} had been given up by a reinstall that failed: it is taken as it is"
        ));
    }
    container.release_view().map_err(|failure| failure.within(what))?;
    let root = container.root_of(&record).map_err(|failure| failure.within(what).unchanged())?;
    let look = container
        .runtime()
        .look(container.id(), &root)
        .map_err(|error| Failure::new(Code::System, what).because(error.because).unchanged())?;
    let init = container.init_of(to).map_err(|failure| failure.within(what).unchanged())?;
    if !look.has_executable(Path::new(&init)).unwrap_or(false) {
        return Err(refused(
            format!("generation {to} has no {init}: it would not start"),
            format!("its files are at /old, or through `prlctl mount {}`", container.name),
        ));
    }
    drop(look);
    let change = Change {
        from,
        to,
        old: record.parent,
        timeout,
        stop_timeout,
        probation_network: Probation::default(),
        discards: false,
        is_trial: false,
        is_tried: container.is_running(),
        making: None,
        templates: super::settle::installed_templates(container)?,
        drops_failed: false,
        expires: Vec::new(),
        failed_before: Vec::new(),
        last_script: None,
        measured: None,
        kept: None,
        scripts: Scripts::default(),
        passwords: super::Passwords::default(),
        user_data: None,
        hostname: String::new(),
        report: Vec::new(),
        down_since: None,
        downtime: None,
        reported: None,
    };
    let Outcome { unfinished, .. } = run(&SWITCH, container, change, what, Code::ReinstallFailed)?;
    Ok(Switched { from, to, unfinished })
}
