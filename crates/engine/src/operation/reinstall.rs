//! `prlctl reinstall`: the plan, and what came of it. The steps are in [`super::change`], and in `build`, `carry` and `configure`.

use std::path::Path;

use net::Probation;
use store::{Base, GenerationRecord, Reason, Template, TemplateChoice, template};
use tree::{Kind as EntryKind, LayeredRoot, Root as TreeRoot};

use super::change::{Change, Making, REINSTALL, REINSTALL_BY_SCRIPT};
use super::keep::measure;
use super::report::Report;
use super::{Outcome, Passwords, applications, expire, health, password, run};
use crate::accounts::GivenPassword;
use crate::cloud_init::{self, UserData};
use crate::error::{Code, Failure, Result};
use crate::host::{Container, damaged};
use crate::old_scripts::{self, Found};
use crate::openvz::conf::without_machine;
use crate::retention::Retention;
use crate::scripts::{Scripts, open_configure, open_extra, open_reinstall};
use crate::space;

/// What the user has asked for.
#[derive(Debug, Clone)]
pub struct Options {
    /// The old root is deleted once the reinstall is complete.
    pub skip_backup: bool,
    /// Run no script of any kind.
    pub skip_scripts: bool,
    /// Of `reinstall.d`, run only these.
    pub scripts: Vec<String>,
    /// Run those that lie in the old root, too.
    pub scripts_from_old: bool,
    /// Do not carry the users over.
    pub reset_passwords: bool,
    /// What to keep of the old root, as it was named; what the configuration names comes on top.
    pub keep: Vec<String>,
    /// Paths of which to keep what the container changed there.
    pub keep_changed: Vec<String>,
    /// What its cloud-init is told; else what that of the old root was.
    pub user_data: Option<UserData>,
    /// A password for one account of the new root.
    pub password: Option<GivenPassword>,
    /// What says whether the new root does what it is for; empty: nothing does, whatever the configuration says.
    pub health: Option<String>,
    /// What `TEMPLATES` names is not installed in the new root.
    pub skip_applications: bool,
    /// What the new root may say to others before it is taken.
    pub probation_network: Probation,
    /// A systemd some of whose units have failed is taken as it is.
    pub allow_degraded: bool,
    /// A root that ran and is given up is deleted at once.
    pub drop_failed: bool,
    /// Another template.
    pub template: Option<TemplateChoice>,
    /// Seconds for each script and for the boot.
    pub timeout: u64,
    /// Seconds for a graceful stop.
    pub stop_timeout: u64,
}

/// What a reinstall came to.
#[derive(Debug)]
pub struct Reinstalled {
    /// For people and programs.
    pub report: Report,
    /// What the next command finishes.
    pub unfinished: Option<String>,
}

/// Everything that can be known before anything is touched. Of a dry run nothing at all is written.
///
/// # Errors
/// Whatever stands in the way, with nothing changed.
pub fn plan(container: &Container<'_>, options: &Options, is_dry: bool) -> Result<Change> {
    let what = cannot(container);
    find_plan(container, options, is_dry).map_err(|failure| {
        let failure = if failure.what == what { failure } else { failure.within(what) };
        if failure.state.is_none() { failure.unchanged() } else { failure }
    })
}

fn cannot(container: &Container<'_>) -> String {
    format!("cannot reinstall `{}`", container.name)
}

fn find_plan(container: &Container<'_>, options: &Options, is_dry: bool) -> Result<Change> {
    let area = &container.area;
    let from = area.live().map_err(|error| damaged(error, &container.name))?;
    let record = area.generation(from).map_err(|error| damaged(error, &container.name))?;
    // All that starting it again needs, and writing it at the end: better known before it is stopped.
    let (conf, _, hostname) = container.check_restart()?;
    if !is_dry {
        // Whichever root runs in the end, it has to be started.
        if container.is_running() {
            space::check_run(container)?;
        }
        container.release_view()?;
    }
    container.warn_of_template(&record);
    let (scripts, told) = open_scripts(container, options)?;
    let choice: TemplateChoice =
        match (&options.template, conf.get("OSTEMPLATE").filter(|name| !name.is_empty())) {
            (Some(name), _) => name.clone(),
            (None, Some(name)) => name.parse().map_err(|error: store::NameError| {
                Failure::new(Code::BadValue, format!("`OSTEMPLATE` of `{}` cannot be used", container.name))
                    .caused_by(&error)
                    .unchanged()
                    .hint("name one with --ostemplate")
            })?,
            (None, None) => {
                return Err(Failure::new(Code::BadValue, format!("cannot reinstall `{}`", container.name))
                    .because("OSTEMPLATE is not set: nobody knows what to make it from")
                    .unchanged()
                    .hint("name a template with --ostemplate"));
            }
        };
    let choice = without_machine(&container.host.prefix, choice);
    let template = template::choose(&container.host.prefix, &choice)
        .map_err(|error| unpinned(error, container, &choice))?;
    check_template(&template)?;
    if options.user_data.is_some() {
        check_user_data(&template)?;
    }
    let configured = match conf.get("REINSTALL_KEEP") {
        Some(words) => Some(words),
        None => container.host.configuration()?.get("REINSTALL_KEEP"),
    };
    let named = crate::keep::Named {
        keep: &options.keep,
        changed: &options.keep_changed,
        configured: configured.as_deref(),
    };
    let keep = crate::keep::read(&container.host.prefix, named)?;
    let measured = if keep.is_empty() { None } else { Some(measure(container, from, &keep)?) };
    space::check(container, space::needed(scripts.reinstall.is_some(), measured.as_ref()))?;

    let retention = Retention::read(container.host, &conf, &container.name)?;
    let health = health::command(container, options.health.as_deref(), conf.get(health::KEY))?;
    let is_by_script = scripts.reinstall.is_some();
    let was_running = container.is_running();
    let needs_start = scripts.configure.is_some() || !scripts.extra.is_empty() || !scripts.old.is_empty();
    let parent = if options.skip_backup { record.parent } else { Some(from) };
    let templates = super::settle::installed_templates(container)?;
    let applications = if options.skip_applications {
        Vec::new()
    } else {
        applications::plan(container, templates.as_deref(), &TreeRoot::open(&template.rootfs())?)?
    };
    let expires = expire::plan(container, retention, from, parent)?;
    let change = Change {
        from,
        to: area.next_generation_number().map_err(|error| damaged(error, &container.name))?,
        // While a script runs inside, the old root is at /old whatever becomes of it.
        old: if options.skip_backup && !needs_start { parent } else { Some(from) },
        timeout: options.timeout,
        stop_timeout: options.stop_timeout,
        discards: options.skip_backup,
        probation_network: options.probation_network,
        is_trial: false,
        // A root made by a script is always started, also to see that it lives.
        is_tried: was_running || is_by_script || needs_start || health.is_some() || !applications.is_empty(),
        making: Some(Making {
            parent,
            base: Base::Template { name: choice.name, digest: template.record.digest.clone() },
            is_pinned: choice.version.is_some(),
            is_by_script,
            is_flattened: false,
            carries_users: !options.reset_passwords,
            keep,
            applications,
            is_configured: scripts.configure.is_some(),
            health,
            allows_degraded: options.allow_degraded,
            scripts: scripts.extra.iter().map(|script| script.name.clone()).collect(),
            old_scripts: scripts.old.iter().map(|script| script.name.clone()).collect(),
            distribution: Some(template.record.distribution.clone()),
            has_machine_id: template.record.systemd,
        }),
        templates,
        drops_failed: options.drop_failed,
        expires,
        failed_before: Vec::new(),
        last_script: None,
        measured,
        kept: None,
        scripts,
        passwords: Passwords::new(options.password.clone()),
        hostname,
        user_data: options.user_data.clone().or_else(|| cloud_init::read(area, from)),
        report: told,
        down_since: None,
        downtime: None,
        reported: None,
    };
    password::check(container, &change, &template)?;
    Ok(change)
}

/// Reinstalls the container.
///
/// # Errors
/// With everything put back.
pub fn reinstall(container: &Container<'_>, options: &Options) -> Result<Reinstalled> {
    let what = cannot(container);
    let change = plan(container, options, false)?;
    let is_by_script = change.making.as_ref().is_some_and(|making| making.is_by_script);
    let kind = if is_by_script { &REINSTALL_BY_SCRIPT } else { &REINSTALL };
    let Outcome { plan, unfinished } = run(kind, container, change, &what, Code::ReinstallFailed)?;
    // Made before the commit, without which nobody comes here.
    let report = plan.reported.clone().unwrap_or_else(|| Report::of(container, &plan));
    Ok(Reinstalled { report, unfinished })
}

/// The scripts that are to be run, and what is to be told of those that are not.
fn open_scripts(container: &Container<'_>, options: &Options) -> Result<(Scripts, Vec<String>)> {
    if options.skip_scripts {
        return Ok((Scripts::default(), Vec::new()));
    }
    let found = if options.scripts_from_old { old_scripts::read(container)? } else { Found::default() };
    let Found { scripts: mut old, told } = found;
    let prefix = &container.host.prefix;
    let extra = open_extra(prefix, &options.scripts, &old)?;
    old.retain(|script| options.scripts.is_empty() || options.scripts.contains(&script.file));
    let reinstall = open_reinstall(prefix)?;
    Ok((Scripts { reinstall, configure: open_configure(prefix)?, extra, old }, told))
}

/// A version that is gone is no reason to look for it in vain: the others are named, and how to be rid of the pin.
fn unpinned(error: store::TemplateError, container: &Container<'_>, choice: &TemplateChoice) -> Failure {
    let is_version = matches!(error, store::TemplateError::NoVersion { .. });
    let failure = Failure::from(error);
    if !is_version {
        return failure;
    }
    failure.hint(format!(
        "`prlctl reinstall {} --ostemplate {}` takes the latest version",
        container.name, choice.name
    ))
}

fn check_template(template: &Template) -> Result<()> {
    let refused = |because: String| {
        Failure::new(Code::BadValue, format!("template `{}` cannot be used", template.record.name))
            .because(because)
            .unchanged()
            .hint(format!("make it again with `vzpkg update cache {}`", template.record.name))
    };
    let root = TreeRoot::open(&template.rootfs())?;
    if !root.has_executable(Path::new(&template.record.init))? {
        return Err(refused(format!("it has no `{}`", template.record.init)));
    }
    check_old(&root).map_err(refused)
}

/// Nobody is to think that his user data is heeded where nobody reads it.
///
/// # Errors
/// [`Code::BadValue`].
pub fn check_user_data(template: &Template) -> Result<()> {
    let root = LayeredRoot::new(TreeRoot::open(&template.rootfs())?, None);
    if cloud_init::is_in(&root)? {
        return Ok(());
    }
    Err(Failure::new(Code::BadValue, "the user data cannot be used")
        .because(format!("template `{}` has no cloud-init, which would read it", template.record.name))
        .unchanged()
        .hint("leave --user-data out, or take a template with cloud-init: a recipe's `packages` may name it"))
}

/// `/old` must be free for the old root.
///
/// # Errors
/// In words, what is in the way.
pub fn check_old(root: &TreeRoot) -> std::result::Result<(), String> {
    match root.kind(Path::new("/old")) {
        Ok(None) => Ok(()),
        Ok(Some(EntryKind::Directory { .. })) => match root.is_empty_directory(Path::new("/old")) {
            Ok(true) => Ok(()),
            Ok(false) => Err("its /old is not empty".to_owned()),
            Err(error) => Err(runtime::monitor::describe(&error)),
        },
        Ok(Some(_)) => Err("its /old is no directory".to_owned()),
        Err(error) => Err(runtime::monitor::describe(&error)),
    }
}

/// What a generation was made from, in words.
pub fn describe_base(record: &GenerationRecord) -> String {
    match &record.base {
        Base::Template { name, .. } => format!("template {name}"),
        Base::Empty if record.reason == Reason::Script => "vps.reinstall".to_owned(),
        Base::Empty => {
            let template = record.ostemplate.as_deref().unwrap_or("unknown");
            format!("template {}, all in itself", template.split('@').next().unwrap_or(template))
        }
    }
}
