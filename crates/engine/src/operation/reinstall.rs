//! `prlctl reinstall`: the plan, and the steps that only a reinstall has.

use std::ffi::OsString;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use linux::Exit;
use store::{Base, GenerationRecord, Reason, Template, TemplateName, template};
use tree::{Kind as EntryKind, LayeredRoot, Root as TreeRoot};

use super::change::{Change, ChangeWork, Making, REINSTALL, REINSTALL_BY_SCRIPT, create_generation, template_name};
use super::{Outcome, run};
use crate::accounts;
use crate::error::{Code, Failure, Result};
use crate::host::{Container, damaged};
use crate::runtime::{InnerScript, OuterScript};
use crate::scripts::{HostScript, Scripts, open_configure, open_extra, open_reinstall};
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
    /// Do not carry the users over.
    pub reset_passwords: bool,
    /// Another template.
    pub template: Option<TemplateName>,
    /// Seconds for each script and for the boot.
    pub timeout: u64,
    /// Seconds for a graceful stop.
    pub stop_timeout: u64,
}

/// What a reinstall came to, for the report.
#[derive(Debug)]
pub struct Reinstalled {
    /// The generation that was live.
    pub old: store::GenerationNumber,
    /// The one that is.
    pub new: store::GenerationNumber,
    /// The old root is at `/old`.
    pub is_kept: bool,
    /// What was carried, and what not.
    pub report: Vec<String>,
    /// What the next command finishes.
    pub unfinished: Option<String>,
}

/// Everything that can be known before anything is touched. Of a dry run nothing at all is written, not even the number that the new generation
/// would get.
///
/// # Errors
/// Whatever stands in the way, with nothing changed.
pub fn plan(container: &Container<'_>, options: &Options, is_dry: bool) -> Result<Change> {
    let area = &container.area;
    let from = area.live().map_err(|error| damaged(error, &container.name))?;
    let record = area.generation(from).map_err(|error| damaged(error, &container.name))?;
    // Its configuration is needed at the end; a damaged one is better known now.
    let conf = area.conf().map_err(|error| damaged(error, &container.name))?;
    let scripts = if options.skip_scripts {
        Scripts::default()
    } else {
        Scripts {
            reinstall: open_reinstall(&container.host.prefix)?,
            configure: open_configure(&container.host.prefix)?,
            extra: open_extra(&container.host.prefix, &options.scripts)?,
        }
    };
    let name = match (&options.template, conf.get("OSTEMPLATE").filter(|name| !name.is_empty())) {
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
    let template = template::latest(&container.host.prefix, &name)?;
    check_template(&template)?;
    space::check(container, scripts.reinstall.is_some())?;

    let is_by_script = scripts.reinstall.is_some();
    let was_running = container.is_running();
    let needs_start = scripts.configure.is_some() || !scripts.extra.is_empty();
    let parent = if options.skip_backup { record.parent } else { Some(from) };
    let number = if is_dry {
        area.record().map(|record| store::GenerationNumber::new(record.next_generation))
    } else {
        area.take_generation_number()
    };
    Ok(Change {
        from,
        to: number.map_err(|error| damaged(error, &container.name))?,
        // While a script runs inside, the old root is at /old whatever becomes of it.
        old: if options.skip_backup && !needs_start { parent } else { Some(from) },
        timeout: options.timeout,
        stop_timeout: options.stop_timeout,
        discards: options.skip_backup,
        // A root made by a script is always started, also to see that it lives.
        is_tried: was_running || is_by_script || needs_start,
        making: Some(Making {
            parent,
            base: Base::Template { name, digest: template.record.digest.clone() },
            is_by_script,
            carries_users: !options.reset_passwords,
            is_configured: scripts.configure.is_some(),
            scripts: scripts.extra.iter().map(|script| script.name.clone()).collect(),
            distribution: Some(template.record.distribution.clone()),
            has_machine_id: template.record.systemd,
        }),
        scripts,
        report: Vec::new(),
    })
}

/// Reinstalls the container.
///
/// # Errors
/// With everything put back.
pub fn reinstall(container: &Container<'_>, options: &Options) -> Result<Reinstalled> {
    let what = format!("cannot reinstall `{}`", container.name);
    let change = plan(container, options, false).map_err(|failure| {
        let failure = if failure.what == what { failure } else { failure.within(what.clone()) };
        if failure.state.is_none() { failure.unchanged() } else { failure }
    })?;
    let (old, new, discards) = (change.from, change.to, change.discards);
    let is_by_script = change.making.as_ref().is_some_and(|making| making.is_by_script);
    let kind = if is_by_script { &REINSTALL_BY_SCRIPT } else { &REINSTALL };
    let Outcome { plan, unfinished } = run(kind, container, change, &what, Code::ReinstallFailed)?;
    Ok(Reinstalled { old, new, is_kept: !discards, report: plan.report, unfinished })
}

fn check_template(template: &Template) -> Result<()> {
    let refused = |because: String| {
        Failure::new(Code::BadValue, format!("template `{}` cannot be used", template.record.name))
            .because(because)
            .unchanged()
            .hint(format!("make it again with `vzpkg create cache {}`", template.record.name))
    };
    let root = TreeRoot::open(&template.rootfs())?;
    if !root.has_executable(Path::new(&template.record.init))? {
        return Err(refused(format!("it has no `{}`", template.record.init)));
    }
    check_old(&root).map_err(refused)
}

/// `/old` must be free for the old root.
fn check_old(root: &TreeRoot) -> std::result::Result<(), String> {
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

/// The staged root as it can be written before anybody mounts it.
fn staged(work: &ChangeWork<'_>) -> Result<LayeredRoot> {
    let area = &work.container.area;
    let record = area.generation(work.plan.to).map_err(|error| damaged(error, &work.container.name))?;
    let upper = TreeRoot::open(&area.generation_dir(work.plan.to).join("delta"))?;
    let lower = match work.container.template_of(&record)? {
        Some(template) => Some(TreeRoot::open(&template.rootfs())?),
        None => None,
    };
    Ok(LayeredRoot::new(upper, lower))
}

/// Step *build*.
///
/// # Errors
/// [`Code::ScriptFailed`] when `vps.reinstall` did not do its work.
pub fn build(work: &mut ChangeWork<'_>) -> Result<()> {
    if work.plan.making.as_ref().is_some_and(|making| making.is_by_script) && !build_by_script(work)? {
        decline(work)?;
    }
    let root = staged(work)?;
    if root.kind(Path::new("/old"))?.is_none() {
        root.make_directory(Path::new("/old"), 0o755, 0, 0)?;
    }
    let has_machine_id = match &work.plan.making {
        Some(making) if making.is_by_script => root.kind(Path::new("/etc/machine-id"))?.is_some(),
        Some(making) => making.has_machine_id,
        None => false,
    };
    if has_machine_id {
        let id = format!("{}\n", uuid::Uuid::new_v4().simple());
        root.replace_file(Path::new("/etc/machine-id"), id.as_bytes(), 0o444, 0, 0)?;
    }
    Ok(())
}

/// Runs `vps.reinstall`; false: it exited with 128 and wants the default.
fn build_by_script(work: &mut ChangeWork<'_>) -> Result<bool> {
    let container = work.container;
    let Some(script) = &work.plan.scripts.reinstall else {
        return Err(Failure::new(Code::ScriptFailed, "`vps.reinstall` is not there any more"));
    };
    let area = &container.area;
    let delta = area.generation_dir(work.plan.to).join("delta");
    let private = area.path().join("root");
    let base = work.plan.making.as_ref().map(|making| making.base.clone());
    let template = match &base {
        Some(Base::Template { name, digest }) => template::exact(&container.host.prefix, name, digest)?,
        _ => return Err(Failure::new(Code::ScriptFailed, "the plan has no template")),
    };
    // The same path at every reinstall; what is mounted there is seen by the script alone.
    store::atomic::make_directory_at(area.handle(), "root", 0o700)?;
    let pair = |key: &str, value: &Path| (key.to_owned(), value.as_os_str().to_owned());
    let id = container.id().to_string();
    let environment: Vec<(String, OsString)> = vec![
        ("VEID".to_owned(), id.clone().into()),
        pair("VE_CONFFILE", &container.host.prefix.conf_dir().join(format!("{id}.conf"))),
        pair("VE_ROOT", &container.host.prefix.root_dir(container.id())),
        pair("VE_PRIVATE", &private),
        pair("VE_PRIVATE_TMP", &delta),
        pair("OSTEMPLATE_ROOT", &template.rootfs()),
        ("HOME".to_owned(), "/".into()),
        ("PATH".to_owned(), runtime::spec::PATH.into()),
        ("SHELL".to_owned(), "/bin/bash".into()),
    ];
    let shown = container.root(work.plan.from)?;
    let outer = OuterScript {
        file: &script.file,
        arguments: vec![
            "--veid".into(),
            id.into(),
            "--ve_private_tmp".into(),
            delta.clone().into(),
            "--ve_private".into(),
            private.clone().into(),
        ],
        environment,
        shown: &shown,
        shown_at: private,
        read_only: Some(template.rootfs()),
        limit: Duration::from_secs(work.plan.timeout),
    };
    let log = &mut work.log;
    let mut tail = Tail::default();
    let exit = container
        .runtime()
        .run_outside(container.id(), &outer, &mut |line| {
            tail.take(line);
            log.line("vps.reinstall", line);
            container.host.observer.borrow_mut().script_line("vps.reinstall", line);
        })
        .map_err(|error| Failure::new(Code::ScriptFailed, "`vps.reinstall` cannot be run").because(error.because))?;
    let failed = |how: String| {
        let mut failure = Failure::new(Code::ScriptFailed, format!("`vps.reinstall` {how}"));
        if let Some(words) = tail.words() {
            failure = failure.because(words);
        }
        failure.hint(format!(
            "correct {0}/vps.reinstall and run `prlctl reinstall {1}`, or add --skipscripts",
            container.host.prefix.conf_dir().display(),
            container.name
        ))
    };
    match exit {
        Some(Exit::Code(0)) => {}
        Some(Exit::Code(128)) => return Ok(false),
        Some(Exit::Code(code)) => return Err(failed(format!("exited with {code}"))),
        Some(Exit::Signal(signal)) => return Err(failed(format!("was killed by signal {signal}"))),
        None => return Err(failed(format!("did not end within {} s and was killed", work.plan.timeout))),
    }
    accept(work, &delta)?;
    Ok(true)
}

/// What the script has made must be a root, and one that only the script has made.
fn accept(work: &mut ChangeWork<'_>, delta: &Path) -> Result<()> {
    let (conf_dir, name) = (work.container.host.prefix.conf_dir(), work.container.name.clone());
    let refused = |because: String| {
        Failure::new(Code::ScriptFailed, "what `vps.reinstall` has made is no root").because(because).hint(format!(
            "correct {}/vps.reinstall and run `prlctl reinstall {name}`, or add --skipscripts",
            conf_dir.display()
        ))
    };
    let handle = rustix::fs::open(
        delta,
        rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )
    .map_err(|error| refused(format!("{}: {error}", delta.display())))?;
    let accepted =
        tree::accept_built_root(handle.as_fd()).map_err(|error| refused(runtime::monitor::describe(&error)))?;
    for device in &accepted.removed_devices {
        let name = tree::escaped(std::os::unix::ffi::OsStrExt::as_bytes(device.as_os_str()));
        work.plan.report.push(format!("removed the device node /{name} from the new root: /dev is made at every start"));
    }
    let root = TreeRoot::open(delta)?;
    if !root.has_executable(Path::new("/sbin/init"))? {
        return Err(refused("it has no /sbin/init".to_owned()));
    }
    check_old(&root).map_err(refused)
}

/// Exit code 128: neither script is used, what was built is thrown away, and the default reinstall is done.
fn decline(work: &mut ChangeWork<'_>) -> Result<()> {
    let container = work.container;
    container.host.note("vps.reinstall exited with 128: the default reinstallation is done, vps.configure is not run");
    let area = &container.area;
    let was_running = work.journal.was_running;
    let Some(making) = &mut work.plan.making else { return Ok(()) };
    making.is_by_script = false;
    making.is_configured = false;
    let mut record = area.generation(work.plan.to).map_err(|error| damaged(error, &container.name))?;
    record.base = making.base.clone();
    record.reason = Reason::Reinstall;
    // Made anew rather than changed: what it was at its making is kept beside its record, for a rebuild.
    area.discard_generation(&container.host.prefix, work.plan.to)?;
    create_generation(container, &record)?;
    work.plan.is_tried = was_running || !making.scripts.is_empty();
    if work.plan.discards && making.scripts.is_empty() {
        // With no script to run inside, the old root is never shown.
        work.plan.old = making.parent;
    }
    Ok(())
}

/// Reverts step *build*: no process of the script goes on.
///
/// # Errors
/// When they cannot be killed.
pub fn revert_build(work: &mut ChangeWork<'_>) -> Result<()> {
    if !work.plan.making.as_ref().is_some_and(|making| making.is_by_script) {
        return Ok(());
    }
    work.container
        .runtime()
        .kill_outside(work.container.id())
        .map_err(|error| Failure::new(Code::System, "`vps.reinstall` cannot be ended").because(error.because))
}

/// Larger account files are not read: a container's root may have made them so.
const LARGEST_ACCOUNT_FILE: u64 = 16 * 1024 * 1024;

/// Step *carry*: users and groups, by reading files of the old root and writing files of the new one; nothing of either is executed.
///
/// # Errors
/// When the new root cannot be written. What of the old one cannot be read is reported.
pub fn carry(work: &mut ChangeWork<'_>) -> Result<()> {
    if !work.plan.making.as_ref().is_some_and(|making| making.carries_users) {
        return Ok(());
    }
    let container = work.container;
    let old_root = container.root(work.plan.from)?;
    let old = container
        .runtime()
        .look(container.id(), &old_root)
        .map_err(|error| Failure::new(Code::System, "cannot look into the old root").because(error.because))?;
    let new = staged(work)?;
    let mut report = Vec::new();
    let mut of_old = |name: &str| match old.read_file(Path::new(name), LARGEST_ACCOUNT_FILE) {
        Ok(found) => found.map(|file| file.bytes),
        Err(error) => {
            report.push(format!("{name} of the old root is not carried over: {}", runtime::monitor::describe(&error)));
            None
        }
    };
    let old_files = account_files(&mut of_old);
    let mut modes = std::collections::HashMap::new();
    let mut failure = None;
    let mut of_new = |name: &str| match new.read_file(Path::new(name), LARGEST_ACCOUNT_FILE) {
        Ok(found) => found.map(|file| {
            modes.insert(name.to_owned(), (file.mode & 0o7777, file.uid, file.gid));
            file.bytes
        }),
        Err(error) => {
            failure.get_or_insert(error);
            None
        }
    };
    let new_files = account_files(&mut of_new);
    if let Some(error) = failure {
        return Err(Failure::from(error));
    }
    let shell_exists = |shell: &str| new.has_executable(Path::new(shell)).unwrap_or(false);
    let merged = accounts::merge(&old_files, &new_files, &shell_exists);
    let changed = [
        ("/etc/passwd", &merged.files.passwd, 0o644),
        ("/etc/group", &merged.files.group, 0o644),
        ("/etc/shadow", &merged.files.shadow, 0o640),
        ("/etc/gshadow", &merged.files.gshadow, 0o640),
        ("/etc/subuid", &merged.files.subuid, 0o644),
        ("/etc/subgid", &merged.files.subgid, 0o644),
    ];
    for (name, bytes, mode) in changed {
        if let Some(bytes) = bytes {
            let (mode, uid, gid) = modes.get(name).copied().unwrap_or((mode, 0, 0));
            new.replace_file(Path::new(name), bytes, mode, uid, gid)?;
        }
    }
    for home in &merged.homes {
        if let Err(error) = new.make_directory(&home.path, home.mode, home.uid, home.gid) {
            report.push(format!(
                "the home {} was not made: {}",
                tree::escaped_path(&home.path),
                runtime::monitor::describe(&error)
            ));
        }
    }
    work.plan.report.extend(report);
    work.plan.report.extend(merged.report.iter().map(ToString::to_string));
    Ok(())
}

fn account_files(read: &mut dyn FnMut(&str) -> Option<Vec<u8>>) -> accounts::AccountFiles {
    accounts::AccountFiles {
        passwd: read("/etc/passwd"),
        shadow: read("/etc/shadow"),
        group: read("/etc/group"),
        gshadow: read("/etc/gshadow"),
        subuid: read("/etc/subuid"),
        subgid: read("/etc/subgid"),
        login_defs: read("/etc/login.defs"),
    }
}

/// Step *configure*: `vps.configure`, then those of `reinstall.d`.
///
/// # Errors
/// [`Code::ReinstallFailed`] when one of them fails.
pub fn configure(work: &mut ChangeWork<'_>) -> Result<()> {
    let is_configured = work.plan.making.as_ref().is_some_and(|making| making.is_configured);
    if is_configured && let Some(script) = work.plan.scripts.configure.take() {
        run_inside(work, &script)?;
    }
    for script in std::mem::take(&mut work.plan.scripts.extra) {
        run_inside(work, &script)?;
    }
    Ok(())
}

fn run_inside(work: &mut ChangeWork<'_>, script: &HostScript) -> Result<()> {
    let container = work.container;
    container.host.step("configure", &format!("Running {}...", script.name));
    let mut environment = runtime::exec::environment();
    environment.push(("VEID".to_owned(), container.id().to_string()));
    environment.push(("REINSTALL_DATA_ROOT".to_owned(), "/old".to_owned()));
    let inner = InnerScript { text: &script.text, environment, limit: Duration::from_secs(work.plan.timeout) };
    let log = &mut work.log;
    let mut tail = Tail::default();
    let exit = container.runtime().run_inside(container.id(), &inner, &mut |line| {
        tail.take(line);
        log.line(&script.name, line);
        container.host.observer.borrow_mut().script_line(&script.name, line);
    });
    let failed = |how: String| {
        let mut failure = Failure::new(Code::ReinstallFailed, format!("`{}` {how}", script.name));
        if let Some(words) = tail.words() {
            failure = failure.because(words);
        }
        failure.hint(format!(
            "correct {} and run `prlctl reinstall {}`, or add --skipscripts",
            script.path.display(),
            container.name
        ))
    };
    match exit {
        Ok(Some(Exit::Code(0))) => {}
        Ok(Some(Exit::Code(code))) => return Err(failed(format!("exited with {code}"))),
        Ok(Some(Exit::Signal(signal))) => {
            let how = if container.is_running() { "" } else { ": the container went down while it ran" };
            return Err(failed(format!("was killed by signal {signal}{how}")));
        }
        Ok(None) => return Err(failed(format!("did not end within {} s and was killed", work.plan.timeout))),
        Err(error) => return Err(failed(format!("could not be run: {}", error.because))),
    }
    if !container.is_running() {
        return Err(failed("has ended the container".to_owned()));
    }
    Ok(())
}

/// The last lines of a script's output, for the error.
#[derive(Default)]
struct Tail {
    lines: std::collections::VecDeque<String>,
}

impl Tail {
    const LINES: usize = 5;

    fn take(&mut self, line: &[u8]) {
        if line.trim_ascii().is_empty() {
            return;
        }
        if self.lines.len() == Tail::LINES {
            self.lines.pop_front();
        }
        self.lines.push_back(tree::escaped(&line[..line.len().min(500)]));
    }

    fn words(&self) -> Option<String> {
        let lines: Vec<&str> = self.lines.iter().map(String::as_str).collect();
        (!lines.is_empty()).then(|| lines.join("\n"))
    }
}

/// What a generation was made from, in words.
pub fn describe_base(record: &GenerationRecord) -> String {
    match &record.base {
        Base::Template { name, .. } => format!("template {name}"),
        Base::Empty => "vps.reinstall".to_owned(),
    }
}

/// The steps of a plan, in words, with what is going to be deleted and how large it is.
///
/// # Errors
/// When the container's records cannot be read.
pub fn explain(container: &Container<'_>, change: &Change) -> Result<Vec<(&'static str, String)>> {
    let Some(making) = &change.making else { return Ok(Vec::new()) };
    let is_running = container.is_running();
    let template = template_name(&making.base).unwrap_or_default();
    let mut steps = vec![("stage", format!("make generation {}", change.to))];
    let stop = ("stop", if is_running { "stop the container, which runs".to_owned() } else { "it is stopped".to_owned() });
    if making.is_by_script {
        steps.push(stop.clone());
        steps.push(("build", "run vps.reinstall on the host; if it exits with 128: ".to_owned() + &template));
    } else {
        steps.push(("build", format!("from template {template}, in constant time")));
    }
    steps.push((
        "carry",
        if making.carries_users { "users, groups and passwords of the old root" } else { "nothing: --resetpwdb" }.to_owned(),
    ));
    if !making.is_by_script {
        steps.push(stop);
    }
    steps.push((
        "probation",
        match (change.is_tried, change.old) {
            (true, Some(old)) => format!("start it with generation {old} at /old, read-only"),
            (true, None) => "start it".to_owned(),
            (false, _) => "none: a stopped container with no script to run is not started".to_owned(),
        },
    ));
    let mut scripts: Vec<&str> = if making.is_configured { vec!["vps.configure"] } else { Vec::new() };
    scripts.extend(making.scripts.iter().map(String::as_str));
    steps.push(("configure", if scripts.is_empty() { "no scripts".to_owned() } else { format!("run {} in it", scripts.join(", ")) }));
    steps.push(("commit", format!("generation {} instead of {} is the root", change.to, change.from)));
    let settle = if change.discards {
        let size = delta_size(container, change.from);
        format!("delete generation {} ({size}); what was at /old/old is at /old", change.from)
    } else {
        format!("generation {} stays at /old, whole; `prlctl reinstall {} --undo` goes back", change.from, container.name)
    };
    steps.push(("settle", settle));
    Ok(steps)
}

/// How much a generation's delta holds.
fn delta_size(container: &Container<'_>, number: store::GenerationNumber) -> String {
    let size = container
        .area
        .generation_handle(number)
        .ok()
        .and_then(|handle| tree::measure(handle.as_fd()).ok());
    match size {
        Some(size) => format!("{} entries, {} MB", size.entries, size.bytes / 1_000_000),
        None => "of unknown size".to_owned(),
    }
}
