//! The applications of a container: packages that its own package manager puts into it, and that `TEMPLATES` of its `ve.conf` names, so that a
//! reinstall brings them back. `vzpkg install`, `remove` and `update`, and their part of the step *configure*.
//!
//! `TEMPLATES` names what is there: a name is written down once its package is installed, and taken out once it is removed, so that nothing that fails
//! loses the list. Whoever dies in between types the same again, which does no harm.

use std::time::Duration;

use linux::Exit;
use store::Base;

use super::change::ChangeWork;
use super::probation::look_hint;
use super::script_output::ScriptOutput;
use crate::error::{Code, Failure, Result};
use crate::host::{Container, damaged};
use crate::interrupt::Second;
use crate::packages::is_name;
use crate::runtime::{InnerScript, RuntimeErrorKind};

const SCRIPT: &str = include_str!("../../../../share/package-manager");
/// Where the script that is run in a container finds one of these it goes on; a template without any can install nothing.
const MANAGERS: [&str; 8] = [
    "/usr/bin/apt-get",
    "/sbin/apk",
    "/usr/bin/dnf",
    "/usr/bin/dnf5",
    "/usr/bin/microdnf",
    "/usr/bin/yum",
    "/usr/bin/tdnf",
    "/usr/bin/zypper",
];
/// What the script exits with where there is none: EX_UNAVAILABLE of sysexits.h.
const NO_MANAGER: i32 = 69;
const NONE_KNOWN: &str = "there is none of apt-get, apk, dnf, microdnf, yum, tdnf and zypper in it";
/// What its lines are called.
const SOURCE: &str = "packages";
/// The key in `ve.conf`.
pub const KEY: &str = "TEMPLATES";

/// What is to be done with packages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Install them, and remember them.
    Install,
    /// Remove them, and forget them.
    Remove,
    /// Bring them up to date; without any, all that is installed.
    Update,
}

impl Action {
    fn word(self) -> &'static str {
        match self {
            Action::Install => "install",
            Action::Remove => "remove",
            Action::Update => "update",
        }
    }
}

/// The names in a list as `TEMPLATES` has it, in its order, each once.
///
/// # Errors
/// The words that cannot be names of packages.
pub fn names_in(templates: &str) -> std::result::Result<Vec<String>, Vec<String>> {
    let mut names: Vec<String> = Vec::new();
    let mut strange = Vec::new();
    for word in templates.split_whitespace() {
        if !is_name(word) {
            strange.push(tree::escaped(word.as_bytes()));
        } else if !names.iter().any(|name| name == word) {
            names.push(word.to_owned());
        }
    }
    if strange.is_empty() { Ok(names) } else { Err(strange) }
}

/// What the container's `TEMPLATES` names, whatever it is.
///
/// # Errors
/// When `ve.conf` cannot be read.
pub fn remembered(container: &Container<'_>) -> Result<Vec<String>> {
    let templates = super::settle::installed_templates(container)?.unwrap_or_default();
    Ok(templates.split_whitespace().map(str::to_owned).collect())
}

/// Installs, removes or updates packages in a running container, by its own package manager; returns what `TEMPLATES` names then. To install none is
/// to install what it names.
///
/// # Errors
/// [`Code::NotRunning`]; [`Code::BadValue`] for what can be no name; [`Code::PackageManager`] when that fails: the list is as it was.
pub fn change(
    container: &Container<'_>,
    action: Action,
    packages: &[String],
    timeout: u64,
) -> Result<Vec<String>> {
    let what = format!("cannot {} packages in `{}`", action.word(), container.name);
    let mut listed = remembered(container)?;
    let packages = if packages.is_empty() && action == Action::Install { &listed } else { packages };
    let names = names_in(&packages.join(" ")).map_err(|strange| {
        Failure::new(Code::BadValue, &what)
            .because(format!("`{}` is not the name of a package", strange.join("`, `")))
            .unchanged()
            .hint("names are of letters, digits and `+-._`; without versions")
    })?;
    if names.is_empty() && action != Action::Update {
        return Err(Failure::new(Code::BadOption, &what)
            .because(format!("none is named, and {KEY} names none"))
            .unchanged()
            .hint(format!("`{} PACKAGE…`", container.host.command)));
    }
    if !container.is_running() {
        return Err(Failure::new(Code::NotRunning, &what)
            .because("it does not run, and its own package manager does this")
            .unchanged()
            .hint(format!("`prlctl start {}`, then this again", container.name)));
    }
    container.host.heed_signals(&what)?;
    let (ended, output) = run(container, action, &names, timeout);
    let said = match ended {
        Ended::Done => None,
        Ended::Failed(how) => {
            Some(output.explain(Failure::new(Code::PackageManager, &what).because(format!("it {how}"))))
        }
        // Nothing has begun, and nothing would if it was tried again.
        Ended::NoManager => {
            return Err(Failure::new(Code::PackageManager, &what).because(NONE_KNOWN).unchanged().hint(format!(
                "`prlctl enter {0}`, and put there by hand what is to be in it; or `prlctl reinstall {0} --ostemplate OTHER`, of a system that has one",
                container.name
            )));
        }
        Ended::NotRun(because) => Some(Failure::new(Code::ExecFailed, &what).because(because)),
        Ended::Interrupted => Some(
            container
                .host
                .or_interrupted(Failure::new(Code::PackageManager, &what), Second::Packages(&container.name)),
        ),
    };
    if let Some(failure) = said {
        return Err(failure
            .state(format!(
                "{KEY} names what it named before; the package manager may have done a part of it"
            ))
            .hint(format!("`{}` again goes on where it was", container.host.command)));
    }
    match action {
        Action::Install => names.into_iter().for_each(|name| {
            if !listed.contains(&name) {
                listed.push(name);
            }
        }),
        Action::Remove => listed.retain(|name| !names.contains(name)),
        Action::Update => return Ok(listed),
    }
    let mut conf = container.area.conf().map_err(|error| damaged(error, &container.name))?;
    conf.set(KEY, &listed.join(" "))?;
    container.area.store_conf(&conf)?;
    Ok(listed)
}

/// What a new root is to get, which is what `TEMPLATES` names.
///
/// # Errors
/// [`Code::BadValue`] where that cannot be installed in a root from this template.
pub fn plan(
    container: &Container<'_>,
    templates: Option<&str>,
    template: &tree::Root,
) -> Result<Vec<String>> {
    let refused = |because: String| {
        Failure::new(Code::BadValue, format!("the applications of `{}` cannot be installed", container.name))
            .because(because)
            .unchanged()
            .hint(format!(
                "`{} --skip-app-templates` does without; `vzpkg remove {} NAME…` takes names out of {KEY}",
                container.host.command, container.name
            ))
    };
    let names = names_in(templates.unwrap_or_default()).map_err(|strange| {
        refused(format!("{KEY} has `{}`, which is not the name of a package", strange.join("`, `")))
    })?;
    if names.is_empty() {
        return Ok(names);
    }
    for manager in MANAGERS {
        if template.has_executable(std::path::Path::new(manager))? {
            return Ok(names);
        }
    }
    Err(refused(format!(
        "{KEY} names {}, and the template has no package manager that is known",
        names.join(", ")
    )))
}

/// The first of the step *configure*: what was installed in the old root is installed in the new one, which remembers it. Into a root that
/// `vps.reinstall` has made nothing is put that it has not put there.
///
/// # Errors
/// [`Code::ReinstallFailed`] when the package manager fails.
pub fn install(work: &mut ChangeWork<'_>) -> Result<()> {
    let container = work.container;
    if work.plan.is_trial || work.plan.making.is_none() {
        return Ok(());
    }
    let names = work.plan.making.as_ref().map(|making| making.applications.clone()).unwrap_or_default();
    let mut record =
        container.area.generation(work.plan.to).map_err(|error| damaged(error, &container.name))?;
    if names.is_empty() || record.base == Base::Empty {
        if let (Some(templates), true) = (&work.plan.templates, record.templates.is_none()) {
            let told = tree::escaped(templates.as_bytes());
            work.plan.report.push(format!(
                "applications of the old root that were not installed: {told}; `vzpkg install {} {told}` does",
                container.name
            ));
        }
        return Ok(());
    }
    container.host.step("configure", &format!("Installing {} ...", names.join(", ")));
    let (ended, output) = run(container, Action::Install, &names, work.plan.timeout);
    let without = || {
        let look = look_hint(work).map_or_else(String::new, |look| format!("; {look}"));
        format!("`{} --skip-app-templates` does without{look}", container.host.command)
    };
    let what = format!("{} could not be installed in the new root", names.join(", "));
    match ended {
        Ended::Done => {}
        Ended::Failed(how) => {
            let failure =
                Failure::new(Code::ReinstallFailed, what).because(format!("its package manager {how}"));
            return Err(output.explain(failure).hint(without()));
        }
        Ended::NoManager => {
            return Err(Failure::new(Code::ReinstallFailed, what).because(NONE_KNOWN).hint(without()));
        }
        Ended::NotRun(because) => {
            return Err(Failure::new(Code::ReinstallFailed, what).because(because).hint(without()));
        }
        Ended::Interrupted => {
            return Err(Failure::new(
                Code::ReinstallFailed,
                "the installation of applications was interrupted",
            ));
        }
    }
    work.plan.report.push(format!("applications: {} have been installed", names.join(", ")));
    // With the root, before the commit: `ve.conf` follows it.
    record.templates = Some(names.join(" "));
    container.area.store_generation(&record)?;
    Ok(())
}

/// How the package manager has ended.
enum Ended {
    Done,
    Failed(String),
    /// There is none.
    NoManager,
    NotRun(String),
    Interrupted,
}

fn run<'h>(
    container: &Container<'h>,
    action: Action,
    names: &[String],
    timeout: u64,
) -> (Ended, ScriptOutput<'h>) {
    let mut environment = runtime::exec::environment();
    environment.push(("ACTION".to_owned(), action.word().to_owned()));
    environment.push(("PACKAGES".to_owned(), names.join(" ")));
    let inner = InnerScript { text: SCRIPT.as_bytes(), environment, limit: Duration::from_secs(timeout) };
    let mut output = ScriptOutput::new(container.host, SOURCE);
    let exit = container.runtime().run_inside(container.id(), &inner, &mut |line| output.line(line));
    let ended = match exit {
        Ok(exit) => {
            let how = output.ended(exit, timeout);
            match exit {
                Some(Exit::Code(0)) => Ended::Done,
                Some(Exit::Code(NO_MANAGER)) => Ended::NoManager,
                Some(Exit::Code(_) | Exit::Signal(_)) | None => Ended::Failed(how),
            }
        }
        Err(error) if error.kind == RuntimeErrorKind::Interrupted => Ended::Interrupted,
        Err(error) => Ended::NotRun(error.because),
    };
    (ended, output)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_names_is_taken_apart_or_what_is_none_is_told() {
        assert_eq!(names_in(" nginx  php7.4-fpm g++ nginx ").unwrap(), ["nginx", "php7.4-fpm", "g++"]);
        assert_eq!(
            names_in("nginx $(reboot) --purge .mysql a\u{1b}b").unwrap_err(),
            ["$(reboot)", "--purge", ".mysql", "a\\x1bb"]
        );
        assert!(names_in("").unwrap().is_empty());
    }

    /// The list of a hostile root's reader and this script must agree on what is a word.
    #[test]
    fn the_script_is_one_that_a_shell_understands() {
        let checked = std::process::Command::new("sh").args(["-n", "-c", SCRIPT]).status().unwrap();
        assert!(checked.success());
    }
}
