//! The step *configure*: the host's scripts, run in the new root on probation.

use std::path::Path;
use std::time::Duration;

use linux::Exit;

use super::change::ChangeWork;
use super::probation::look_hint;
use super::script_output::ScriptOutput;
use crate::error::{Code, Failure, Result};
use crate::event::What;
use crate::packages::{NO_NETWORK, SCRIPT};
use crate::runtime::{InnerScript, RuntimeErrorKind};
use crate::scripts::HostScript;

/// Step *configure*: `vps.configure`, then those of `reinstall.d`.
///
/// # Errors
/// [`Code::ReinstallFailed`] when one of them fails.
pub fn configure(work: &mut ChangeWork<'_>) -> Result<()> {
    super::applications::install(work)?;
    install_packages(work)?;
    let is_configured = work.plan.making.as_ref().is_some_and(|making| making.is_configured);
    if is_configured && let Some(script) = work.plan.scripts.configure.take() {
        run_inside(work, &Inside::of_host(&script))?;
    }
    for script in std::mem::take(&mut work.plan.scripts.extra) {
        run_inside(work, &Inside::of_host(&script))?;
    }
    for script in std::mem::take(&mut work.plan.scripts.old) {
        let (name, path, text) = (&script.name, &script.path, &script.text);
        let note = format!("script {} of the old root", tree::escaped_path(path));
        work.container.host.record(What::Note { text: note });
        run_inside(work, &Inside { name, path, text, or: OLD_ONE })?;
        work.plan.report.push(format!("`{name}`, a script of the old root, has been run"));
    }
    Ok(())
}

/// What was installed by hand in the old root, before the scripts, which may want it. That it cannot be is told, and undoes nothing.
fn install_packages(work: &mut ChangeWork<'_>) -> Result<()> {
    let container = work.container;
    let Some(packages) = work.plan.kept.as_mut().and_then(|kept| kept.packages.as_mut()) else {
        return Ok(());
    };
    if packages.script.is_none() || !work.plan.is_tried {
        return Ok(());
    }
    container.host.step("configure", "Installing packages ...");
    let text = format!("#!/bin/sh\nexec {SCRIPT}\n");
    let environment = runtime::exec::environment();
    let inner =
        InnerScript { text: text.as_bytes(), environment, limit: Duration::from_secs(work.plan.timeout) };
    let mut output = ScriptOutput::new(container.host, "packages");
    let exit = container.runtime().run_inside(container.id(), &inner, &mut |line| output.line(line));
    let outcome = exit.as_ref().map(|exit| output.ended(*exit, work.plan.timeout));
    packages.outcome = match exit {
        Ok(Some(Exit::Code(0))) => "they have been installed".to_owned(),
        Ok(Some(Exit::Code(NO_NETWORK))) => {
            format!("the container has no network: {SCRIPT} in it installs them when it has one")
        }
        Ok(_) => format!("{SCRIPT} {}: run it again in the container", outcome.unwrap_or_default()),
        Err(error) if error.kind == RuntimeErrorKind::Interrupted => {
            return Err(Failure::new(Code::ReinstallFailed, "the installation of packages was interrupted"));
        }
        Err(error) => format!("{SCRIPT} could not be run: {}", error.because),
    };
    Ok(())
}

/// A script, wherever it comes from.
struct Inside<'a> {
    name: &'a String,
    path: &'a Path,
    text: &'a [u8],
    /// What does without it.
    or: &'a str,
}

impl Inside<'_> {
    fn of_host(script: &HostScript) -> Inside<'_> {
        Inside { name: &script.name, path: &script.path, text: &script.text, or: "add --skipscripts" }
    }
}

/// What does without a script of the old root.
const OLD_ONE: &str = "leave --scripts-from-old out";

/// What to do about a script that has failed: what is typed again is what was typed.
pub fn hint(work: &ChangeWork<'_>, script: &str, path: &str, or: &str) -> String {
    let (command, name) = (&work.container.host.command, &work.container.name);
    if work.plan.is_trial {
        return format!("correct {path} and run `{command}` again");
    }
    let stop = if work.journal.was_running { " --stop" } else { "" };
    // One of the old root cannot be tried.
    let try_it = if or == OLD_ONE {
        String::new()
    } else {
        format!(", `prlctl script-run {name} {script}{stop}` tries it,")
    };
    let look = look_hint(work).filter(|_| work.plan.last_script.is_some());
    let look = look.map_or_else(String::new, |look| format!("; {look}"));
    format!("correct {path}{try_it} and run `{command}` again, or {or}{look}")
}

fn run_inside(work: &mut ChangeWork<'_>, script: &Inside<'_>) -> Result<()> {
    let container = work.container;
    container.host.step("configure", &format!("Running {}...", script.name));
    work.plan.last_script = Some(script.name.clone());
    let mut environment = runtime::exec::environment();
    environment.push(("VEID".to_owned(), container.veid()));
    environment.push(("REINSTALL_DATA_ROOT".to_owned(), "/old".to_owned()));
    let inner = InnerScript { text: script.text, environment, limit: Duration::from_secs(work.plan.timeout) };
    let mut output = ScriptOutput::new(container.host, script.name);
    let before = container.runtime().pulse(container.id());
    let exit = container.runtime().run_inside(container.id(), &inner, &mut |line| output.line(line));
    let failed = |how: String| {
        let failure = Failure::new(Code::ReinstallFailed, format!("`{}` {how}", script.name));
        output.explain(failure).hint(hint(work, script.name, &script.path.display().to_string(), script.or))
    };
    match exit {
        Ok(exit) => {
            let outcome = output.ended(exit, work.plan.timeout);
            match exit {
                Some(Exit::Code(0)) => {}
                Some(Exit::Signal(_)) if !container.is_running() => {
                    return Err(failed(format!("{outcome}: the container went down while it ran")));
                }
                _ => return Err(failed(outcome)),
            }
        }
        Err(error) if error.kind == RuntimeErrorKind::Interrupted => {
            return Err(failed("was interrupted".to_owned()));
        }
        Err(error) => return Err(failed(format!("could not be run: {}", error.because))),
    }
    if container.runtime().is_going_down(container.id(), before) {
        return Err(failed("has ended the container".to_owned()));
    }
    // A root that could not start again would be found out at the next start, when nobody thinks of this script any more.
    let root = container.root(work.plan.to)?;
    let init = container.init_of(work.plan.to)?;
    let look = container
        .runtime()
        .look(container.id(), &root)
        .map_err(|error| failed(format!("has left a root that cannot be looked at: {}", error.because)))?;
    match look.has_executable(Path::new(&init)) {
        Ok(true) => Ok(()),
        Ok(false) => Err(failed(format!("has taken away `{init}`: the new root would not start again"))),
        Err(error) => Err(failed(format!(
            "has left a root that cannot be looked at: {}",
            runtime::monitor::describe(&error)
        ))),
    }
}
