//! Action scripts: what the host has done with a container at each turn of its life. Where they are, and that they may be trusted.
//!
//! ```text
//! /etc/vz/conf/vps.<action>                  of every container
//! /vz/private/<uuid>/scripts/<action>        of one; else
//! /etc/vz/conf/<uuid>.<action>               as it was before there was that directory
//! ```
//!
//! On the way up that of every container comes first, on the way down last. All but `stop` are run by the container's monitor, which has their files
//! from here: see `runtime::actions`. `stop` is run by whatever command stops a container, before it asks.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use linux::Exit;
use runtime::actions::{Action, SKIP};
use store::Conf;

use crate::error::{Code, Failure, Result};
use crate::host::{Container, Host};
use crate::operation::script_output::ScriptOutput;
use crate::runtime::{ActionFile, InnerScript, Life, Patience};
use crate::scripts::{self, HostScript};

/// Seconds that each may take, in `ve.conf` or `vz.conf`.
const TIMEOUT: &str = "SCRIPT_TIMEOUT";
/// Without one.
const DEFAULT: u64 = 120;
/// A day.
const LONGEST: u64 = 86_400;

/// Opens and checks those that a monitor runs, in the order in which it does.
///
/// # Errors
/// [`Code::BadValue`] for one that must not be run as root, or cannot be: what is wrong, and what to type.
pub fn open_all(container: &Container<'_>) -> Result<Vec<ActionFile>> {
    let mut found = Vec::new();
    for action in Action::ALL.into_iter().filter(|action| *action != Action::Stop) {
        for script in open(container, action)? {
            let HostScript { name, file, .. } = script;
            found.push(ActionFile { action, name, file: Arc::new(file) });
        }
    }
    Ok(found)
}

/// Those of one action, in their order.
fn open(container: &Container<'_>, action: Action) -> Result<Vec<HostScript>> {
    let mut places = [vec![of_all(container.host, action)], of_one(container, action)];
    if action.is_down() {
        places.reverse();
    }
    let mut found = Vec::new();
    for place in places {
        for path in place {
            if let Some(script) = scripts::open(&container.host.prefix, &path)? {
                if !action.is_inside() {
                    scripts::check_interpreter(&script)?;
                }
                found.push(script);
                break;
            }
        }
    }
    Ok(found)
}

fn of_all(host: &Host, action: Action) -> PathBuf {
    host.prefix.conf_dir().join(format!("vps.{}", action.word()))
}

/// Of these the first that there is.
fn of_one(container: &Container<'_>, action: Action) -> Vec<PathBuf> {
    let (prefix, id) = (&container.host.prefix, container.id());
    let word = action.word();
    let mut all =
        vec![prefix.area_dir(id).join("scripts").join(word), prefix.conf_dir().join(format!("{id}.{word}"))];
    // As an old host has it: `101.mount`.
    all.extend(container.area.numeric_id().map(|number| prefix.conf_dir().join(format!("{number}.{word}"))));
    all
}

/// How long each may take.
///
/// # Errors
/// [`Code::BadValue`].
pub fn limit(host: &Host, conf: &Conf) -> Result<Duration> {
    let Some(text) = conf.get(TIMEOUT).or_else(|| host.configuration().ok()?.get(TIMEOUT)) else {
        return Ok(Duration::from_secs(DEFAULT));
    };
    match text.trim().parse() {
        Ok(seconds @ 1..=LONGEST) => Ok(Duration::from_secs(seconds)),
        Ok(_) | Err(_) => {
            let is = tree::escaped(&text.as_bytes()[..text.len().min(80)]);
            Err(Failure::new(Code::BadValue, format!("`{TIMEOUT}` is `{is}`"))
                .because(format!("it is a number of seconds from 1 to {LONGEST}"))
                .unchanged()
                .hint(format!("correct it in ve.conf or vz.conf; without it, it is {DEFAULT}")))
        }
    }
}

/// Runs `stop` in a container that runs. Whatever comes of it, the container stops: one that cannot be stopped since a script of its owner's, or its own
/// damaged shell, says no would have to be killed.
pub fn run_stop(container: &Container<'_>, patience: Patience) {
    let lives = match patience.deadline {
        // Nor is it waited for what is between two lives.
        Some(_) => matches!(container.runtime().life(container.id()), Life::Running(_)),
        None => container.is_running(),
    };
    if !lives || container.runtime().is_stopping(container.id()) {
        return;
    }
    let warn = |text: String| {
        container.host.warning(&format!("{text}; `{}` is stopped all the same", container.name))
    };
    let (scripts, limit) = match open(container, Action::Stop).and_then(|scripts| {
        let conf = container.area.conf().map_err(|error| crate::host::damaged(error, &container.name))?;
        Ok((scripts, limit(container.host, &conf)?))
    }) {
        Ok(found) => found,
        Err(failure) => return warn(failure.reason()),
    };
    for script in scripts {
        let rest = patience.until_deadline();
        if rest.is_some_and(|rest| rest.is_zero()) {
            return warn(format!("`{}` has not run: the deadline of the stop was over", script.name));
        }
        let limit = rest.map_or(limit, |rest| rest.min(limit));
        let mut environment = runtime::exec::environment();
        environment.push(("VEID".to_owned(), container.veid()));
        let inner = InnerScript { text: &script.text, environment, limit };
        let mut output = ScriptOutput::new(container.host, &script.name);
        let exit = container.runtime().run_inside(container.id(), &inner, &mut |line| output.line(line));
        match exit {
            Ok(exit) => {
                let outcome = output.ended(exit, limit.as_secs());
                match exit {
                    Some(Exit::Code(0)) => {}
                    Some(Exit::Code(SKIP)) => return,
                    None if patience.until_deadline().is_some_and(|rest| rest.is_zero()) => {
                        warn(format!(
                            "`{}` had not ended when the deadline of the stop was over, and was killed",
                            script.name
                        ));
                    }
                    Some(Exit::Code(_) | Exit::Signal(_)) | None => {
                        warn(format!("`{}` {outcome}", script.name));
                    }
                }
            }
            Err(error) => warn(format!("`{}` could not be run: {}", script.name, error.because)),
        }
    }
}
