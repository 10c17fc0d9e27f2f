//! `prlctl generation-flatten`: the live root becomes one that needs no template, with everything of both in its own layer.
//!
//! It is a new generation beside the old one until the commit, as with a reinstall, and the old one goes at the end: what it had at its `/old` stays there.

use std::path::Path;

use net::Probation;
use store::{Base, GenerationNumber};
use tree::{Copier, Except};

use super::carry::Roots;
use super::change::{Change, ChangeWork, FLATTEN, Making};
use super::pace::Pace;
use super::{Outcome, build, run};
use crate::error::{Code, Failure, Result};
use crate::host::{Container, damaged};
use crate::scripts::Scripts;
use crate::space::{self, Need};

/// What it came to.
#[derive(Debug)]
pub struct Flattened {
    /// The generation that is live.
    pub number: GenerationNumber,
    /// What was not copied.
    pub notes: Vec<String>,
    /// What the next command finishes.
    pub unfinished: Option<String>,
}

/// Makes the live root independent of its template.
///
/// # Errors
/// With everything put back.
pub fn run_on(container: &Container<'_>, timeout: u64, stop_timeout: u64) -> Result<Flattened> {
    let what = format!("cannot flatten the root of `{}`", container.name);
    let change = plan(container, timeout, stop_timeout).map_err(|failure| {
        let failure = failure.within(&what);
        if failure.state.is_none() { failure.unchanged() } else { failure }
    })?;
    let Outcome { plan, unfinished } = run(&FLATTEN, container, change, &what, Code::System)?;
    Ok(Flattened { number: plan.to, notes: plan.report, unfinished })
}

/// Refuses a root whose template is not what it was when it was made: what is missing in it would be missing for good, and there would be nothing to go back to.
///
/// # Errors
/// [`Code::Damaged`].
pub fn refuse_damaged(container: &Container<'_>) -> Result<()> {
    let area = &container.area;
    let live = area.live().map_err(|error| damaged(error, &container.name))?;
    let record = area.generation(live).map_err(|error| damaged(error, &container.name))?;
    // What has none, or one that is gone, is told by what looks for it.
    let Base::Template { name, digest } = &record.base else { return Ok(()) };
    let Ok(template) = store::template::exact(&container.host.prefix, name, digest) else { return Ok(()) };
    container.host.step("verify", &format!("Verifying template {name}..."));
    if super::template_store::is_whole(container.host, &template) {
        return Ok(());
    }
    Err(Failure::new(Code::Damaged, format!("cannot flatten the root of `{}`", container.name))
        .because(format!("its template `{name}` is damaged, and what it lacks the root would lack for good"))
        .unchanged()
        .hint(format!(
            "`vzpkg verify {name}` names what is damaged; `vzpkg update cache {name}` makes it whole where it is made of the same; `--allow-damaged` takes what is left"
        )))
}

fn plan(container: &Container<'_>, timeout: u64, stop_timeout: u64) -> Result<Change> {
    let area = &container.area;
    let from = area.live().map_err(|error| damaged(error, &container.name))?;
    let record = area.generation(from).map_err(|error| damaged(error, &container.name))?;
    container.check_restart()?;
    if record.base == Base::Empty {
        return Err(Failure::new(Code::BadValue, format!("generation {from} needs no template as it is"))
            .hint("`prlctl generation-list` tells what each is made from"));
    }
    if container.entry_point(from)?.is_some() {
        return Err(Failure::new(Code::BadValue, "only its template tells what is to be run in it")
            .because("it has no init: it runs an image's entry point")
            .hint(format!(
                "`vzpkg create cache NEW --from container:{}` makes a template of it as it is",
                container.name
            )));
    }
    // Without its template there is no whole root to be had: better told than made from half of it.
    let root = build::layers(container, from)?;
    if container.is_running() {
        space::check_run(container)?;
    }
    container.release_view()?;
    let mut measure = tree::Measure::default();
    let top = Path::new("/");
    for name in root.names(top)?.unwrap_or_default() {
        measure.add(&root, &top.join(name))?;
    }
    let (size, shares) = (measure.size(), tree::can_clone(area.handle()));
    let bytes = if shares { 0 } else { size.bytes };
    space::check(container, Need { who: "a root without a template", bytes, inodes: size.entries })?;
    Ok(Change {
        from,
        to: area.next_generation_number().map_err(|error| damaged(error, &container.name))?,
        old: record.parent,
        timeout,
        stop_timeout,
        probation_network: Probation::default(),
        discards: true,
        is_trial: false,
        is_tried: container.is_running(),
        making: Some(Making {
            parent: record.parent,
            is_pinned: record.ostemplate.as_deref().is_some_and(|template| template.contains('@')),
            base: record.base,
            is_by_script: false,
            is_flattened: true,
            applications: Vec::new(),
            carries_users: false,
            keep: Vec::new(),
            is_configured: false,
            health: None,
            allows_degraded: false,
            scripts: Vec::new(),
            old_scripts: Vec::new(),
            distribution: record.distribution,
            has_machine_id: false,
        }),
        templates: super::settle::installed_templates(container)?,
        drops_failed: true,
        expires: Vec::new(),
        failed_before: Vec::new(),
        last_script: None,
        measured: None,
        kept: None,
        scripts: Scripts::default(),
        passwords: super::Passwords::default(),
        user_data: crate::cloud_init::read(area, from),
        hostname: String::new(),
        report: Vec::new(),
        down_since: None,
        downtime: None,
        reported: None,
    })
}

/// Of step *carry*: all of both layers into the new one.
///
/// # Errors
/// When something of it cannot be read or written.
pub fn flatten(work: &mut ChangeWork<'_>, roots: &Roots) -> Result<()> {
    let Some(old) = &roots.old else {
        return Err(Failure::new(Code::System, "the old root was not opened"));
    };
    let mut pace = Pace::new(work.container.host, "carry");
    let mut told = |copied: &tree::Copied| pace.goes_on(copied.entries, copied.bytes);
    let mut copier = Copier::new(old, &roots.new, Except::default(), &mut told);
    copier.copy_all()?;
    for (path, because) in &copier.copied().left {
        work.plan.report.push(format!("{} is not in it: {because}", tree::escaped_path(path)));
    }
    Ok(())
}
