//! `prlctl script-run`: one script of the host, run as a reinstall would run it, in a generation that is thrown away.
//!
//! It is a reinstall that is undone where it would be committed, by the same reverts as one that has failed: what is tried is what would happen.

use store::{GenerationNumber, GenerationState};

use super::change::{REINSTALL, REINSTALL_BY_SCRIPT};
use super::reinstall::{Options, plan};
use super::run;
use crate::error::{Code, Failure, Result};
use crate::host::{Container, damaged};
use crate::scripts::{Scripts, list, open_configure, open_extra, open_reinstall};

/// What a trial came to.
#[derive(Debug)]
pub struct Tried {
    /// The root that was the old one.
    pub from: GenerationNumber,
    /// The one that was thrown away.
    pub thrown_away: GenerationNumber,
}

/// Runs `script`, which is `vps.reinstall`, `vps.configure` or one of `reinstall.d`, over `generation`, else over the live one; of `options` the
/// time-outs count. The container does not run meanwhile: one that runs is only stopped if it `may_stop`, and runs again afterwards.
///
/// # Errors
/// As a reinstall with that script has them; the container is as it was.
pub fn run_script(
    container: &Container<'_>,
    script: &str,
    generation: Option<GenerationNumber>,
    may_stop: bool,
    options: &Options,
) -> Result<Tried> {
    let what = format!("cannot try `{}` with `{}`", tree::escaped(script.as_bytes()), container.name);
    let refused = |failure: Failure| {
        let failure = failure.within(&what);
        if failure.state.is_none() { failure.unchanged() } else { failure }
    };
    let scripts = open_one(container, script).map_err(refused)?;
    if let Some(number) = generation {
        check(container, number).map_err(refused)?;
    }
    if container.is_running() && !may_stop {
        return Err(Failure::new(Code::Running, &what)
            .because("it runs, and does not while a script is tried")
            .unchanged()
            .hint(format!("`{} --stop` stops it for as long as it takes", container.host.command)));
    }
    let options = Options { skip_scripts: true, ..options.clone() };
    let mut change = plan(container, &options, false).map_err(refused)?;
    if let Some(number) = generation {
        change.from = number;
    }
    (change.old, change.is_tried, change.is_trial) = (Some(change.from), true, true);
    change.drops_failed = true;
    let is_by_script = scripts.reinstall.is_some();
    if let Some(making) = &mut change.making {
        making.parent = Some(change.from);
        making.is_by_script = is_by_script;
        making.is_configured = scripts.configure.is_some();
        making.scripts = scripts.extra.iter().map(|script| script.name.clone()).collect();
    }
    change.scripts = scripts;
    let tried = Tried { from: change.from, thrown_away: change.to };
    let kind = if is_by_script { &REINSTALL_BY_SCRIPT } else { &REINSTALL };
    run(kind, container, change, &what, Code::ReinstallFailed)?;
    Ok(tried)
}

fn open_one(container: &Container<'_>, name: &str) -> Result<Scripts> {
    let prefix = &container.host.prefix;
    let scripts = match name {
        "vps.reinstall" => Scripts { reinstall: open_reinstall(prefix)?, ..Scripts::default() },
        "vps.configure" => Scripts { configure: open_configure(prefix)?, ..Scripts::default() },
        _ => Scripts { extra: open_extra(prefix, &[name.to_owned()], &[])?, ..Scripts::default() },
    };
    if scripts.reinstall.is_some() || scripts.configure.is_some() || !scripts.extra.is_empty() {
        return Ok(scripts);
    }
    let there: Vec<String> = list(prefix)?.into_iter().map(|script| script.name).collect();
    Err(Failure::new(Code::BadValue, format!("there is no `{name}`"))
        .because(format!("{} has no file of that name", prefix.conf_dir().display()))
        .unchanged()
        .hint(match there.as_slice() {
            [] => {
                "put it there; what can be tried is vps.reinstall, vps.configure, and what is in reinstall.d"
                    .to_owned()
            }
            there => format!("put it there, or try one of {}", there.join(", ")),
        }))
}

fn check(container: &Container<'_>, number: GenerationNumber) -> Result<()> {
    let hint = format!("`prlctl generation-list {} --all` shows what there is", container.name);
    let record = match container.area.generation(number) {
        Ok(record) => record,
        Err(store::AreaError::NoGeneration { .. }) => {
            return Err(Failure::new(Code::BadValue, format!("there is no generation {number}")).hint(hint));
        }
        Err(error) => return Err(damaged(error, &container.name)),
    };
    if matches!(record.state, GenerationState::Doomed | GenerationState::Staged) {
        return Err(Failure::new(Code::BadValue, format!("generation {number} is being deleted")).hint(hint));
    }
    Ok(())
}
