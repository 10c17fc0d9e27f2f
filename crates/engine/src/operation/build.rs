//! The step *build*: a new root from a template, or by `vps.reinstall`.

use std::ffi::OsString;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use linux::Exit;
use store::{Base, GenerationNumber, OwnFile, Reason, template};
use tree::{LayeredRoot, Root as TreeRoot};

use super::change::{ChangeWork, create_generation, keep_user_data};
use super::configure::hint;
use super::reinstall::check_old;
use super::script_output::ScriptOutput;
use crate::cloud_init;
use crate::error::{Code, Failure, Result};
use crate::host::{Container, damaged};
use crate::identity::make_own;
use crate::runtime::{OuterScript, Root, RuntimeErrorKind};

/// The staged root as it can be written before anybody mounts it.
///
/// # Errors
/// When it, or its template, cannot be opened.
pub fn staged(work: &ChangeWork<'_>) -> Result<LayeredRoot> {
    layers(work.container, work.plan.to)
}

/// The layers of a generation, as they lie on the disk: of one that is not mounted, or that nobody writes to.
///
/// # Errors
/// When it, or its template, cannot be opened.
pub fn layers(container: &Container<'_>, number: GenerationNumber) -> Result<LayeredRoot> {
    opened(&container.root(number)?)
}

/// The same of an old root whose template may be gone: then its delta alone.
///
/// # Errors
/// When it cannot be opened.
pub fn layers_left(container: &Container<'_>, number: GenerationNumber) -> Result<LayeredRoot> {
    opened(&container.left_of(number)?)
}

fn opened(root: &Root) -> Result<LayeredRoot> {
    let upper = TreeRoot::open(&root.layers.generation.join("delta"))?;
    let lower = root.layers.template.as_deref().map(TreeRoot::open).transpose()?;
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
    Ok(())
}

/// What every new root has, whoever made it: a place for the old one, and a machine-id of its own; one from a template also that one's `own_files`.
///
/// # Errors
/// [`Code::ScriptFailed`] when it is of `vps.reinstall` and cannot have them.
pub fn complete(work: &mut ChangeWork<'_>, root: &LayeredRoot, own_files: &[OwnFile]) -> Result<()> {
    let made = place_and_identity(work, root, own_files);
    let notes = made.map_err(|failure| {
        let is_by_script = work.plan.making.as_ref().is_some_and(|making| making.is_by_script);
        if is_by_script && failure.code == Code::System {
            let conf = work.container.host.prefix.conf_dir();
            return Failure {
                code: Code::ScriptFailed,
                ..failure.within("what `vps.reinstall` has made is no root")
            }
            .hint(format!("correct {}/vps.reinstall, or add --skipscripts", conf.display()));
        }
        failure
    })?;
    work.plan.report.extend(notes);
    Ok(())
}

fn place_and_identity(
    work: &ChangeWork<'_>,
    root: &LayeredRoot,
    own_files: &[OwnFile],
) -> Result<Vec<String>> {
    if root.kind(Path::new("/old"))?.is_none() {
        root.make_directory(Path::new("/old"), 0o755, 0, 0)?;
    }
    let Some(making) = &work.plan.making else { return Ok(Vec::new()) };
    if making.is_by_script {
        // What a script has made is as the script wants it, but for what it cannot make: the one id that is this root's.
        if root.kind(Path::new("/etc/machine-id"))?.is_some() {
            let id = format!("{}\n", uuid::Uuid::new_v4().simple());
            root.replace_file(Path::new("/etc/machine-id"), id.as_bytes(), 0o444, 0, 0)?;
        }
        return Ok(Vec::new());
    }
    let container = work.container;
    let plan = &work.plan;
    cloud_init::seed(root, container.id(), plan.to, &plan.hostname, plan.user_data.as_ref())?;
    Ok(make_own(root, container.id(), making.has_machine_id, &plan.hostname, own_files)?.problems)
}

/// Where `vps.reinstall` is shown the present root.
fn private_of(container: &Container<'_>) -> PathBuf {
    container.area.path().join("root")
}

/// What `vps.reinstall` is called with to build a generation.
pub fn arguments_of_script(container: &Container<'_>, to: GenerationNumber) -> Vec<OsString> {
    let delta = container.area.layers_dir(to).join("delta");
    vec![
        "--veid".into(),
        container.id().to_string().into(),
        "--ve_private_tmp".into(),
        delta.into(),
        "--ve_private".into(),
        private_of(container).into(),
    ]
}

/// Runs `vps.reinstall`; false: it exited with 128 and wants the default.
fn build_by_script(work: &mut ChangeWork<'_>) -> Result<bool> {
    let container = work.container;
    let Some(script) = &work.plan.scripts.reinstall else {
        return Err(Failure::new(Code::ScriptFailed, "`vps.reinstall` is not there any more"));
    };
    let area = &container.area;
    let delta = area.layers_dir(work.plan.to).join("delta");
    let private = private_of(container);
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
        ("VEID".to_owned(), container.veid().into()),
        pair("VE_CONFFILE", &container.host.prefix.conf_dir().join(format!("{id}.conf"))),
        pair("VE_ROOT", &container.host.prefix.root_dir(container.id())),
        pair("VE_PRIVATE", &private),
        pair("VE_PRIVATE_TMP", &delta),
        pair("OSTEMPLATE_ROOT", &template.rootfs()),
        ("HOME".to_owned(), "/".into()),
        ("PATH".to_owned(), runtime::spec::PATH.into()),
        ("SHELL".to_owned(), "/bin/bash".into()),
    ];
    let shown = container.left_of(work.plan.from)?;
    // The old root stays mounted, though what the script is shown is a second overlay over its delta, of which the kernel warns (nobody writes to
    // either): where the script fills the disk, it could not be mounted again, and the container would stay down.
    let outer = OuterScript {
        file: &script.file,
        arguments: arguments_of_script(container, work.plan.to),
        environment,
        shown: &shown,
        shown_at: private,
        read_only: Some(template.rootfs()),
        limit: Duration::from_secs(work.plan.timeout),
    };
    let mut output = ScriptOutput::new(container.host, "vps.reinstall");
    let exit = container
        .runtime()
        .run_outside(container.id(), &outer, &mut |line| output.line(line))
        .map_err(|error| {
            let what = match error.kind {
                RuntimeErrorKind::Interrupted => "`vps.reinstall` was interrupted",
                RuntimeErrorKind::NotRunning
                | RuntimeErrorKind::Busy
                | RuntimeErrorKind::NotUp
                | RuntimeErrorKind::FileSystem
                | RuntimeErrorKind::NoSpace
                | RuntimeErrorKind::NoDevice
                | RuntimeErrorKind::Action
                | RuntimeErrorKind::InPart
                | RuntimeErrorKind::Other => "`vps.reinstall` cannot be run",
            };
            Failure::new(Code::ScriptFailed, what).because(error.because)
        })?;
    let outcome = output.ended(exit, work.plan.timeout);
    match exit {
        Some(Exit::Code(0)) => {
            accept(work, &delta)?;
            Ok(true)
        }
        Some(Exit::Code(128)) => Ok(false),
        _ => Err(output
            .explain(Failure::new(Code::ScriptFailed, format!("`vps.reinstall` {outcome}")))
            .hint(script_hint(work))),
    }
}

fn script_hint(work: &ChangeWork<'_>) -> String {
    let path = work.container.host.prefix.conf_dir().join("vps.reinstall");
    hint(work, "vps.reinstall", &path.display().to_string(), "add --skipscripts")
}

/// What the script has made must be a root, and one that only the script has made.
fn accept(work: &mut ChangeWork<'_>, delta: &Path) -> Result<()> {
    let hint = script_hint(work);
    let refused = |because: String| {
        Failure::new(Code::ScriptFailed, "what `vps.reinstall` has made is no root")
            .because(because)
            .hint(hint.clone())
    };
    let handle = rustix::fs::open(
        delta,
        rustix::fs::OFlags::RDONLY
            | rustix::fs::OFlags::DIRECTORY
            | rustix::fs::OFlags::NOFOLLOW
            | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )
    .map_err(|error| refused(format!("{}: {error}", delta.display())))?;
    let accepted = tree::accept_built_root(handle.as_fd())
        .map_err(|error| refused(runtime::monitor::describe(&error)))?;
    for device in &accepted.removed_devices {
        let name = tree::escaped(std::os::unix::ffi::OsStrExt::as_bytes(device.as_os_str()));
        work.plan
            .report
            .push(format!("removed the device node /{name} from the new root: /dev is made at every start"));
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
    container
        .host
        .note("vps.reinstall exited with 128: the default reinstallation is done, vps.configure is not run");
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
    keep_user_data(work)?;
    let Some(making) = &work.plan.making else { return Ok(()) };
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
