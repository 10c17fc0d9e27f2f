//! The step *health*: a command of the user's says whether the new root does what it is for, before it is the container's.

use std::time::{Duration, Instant};

use linux::Exit;

use super::change::ChangeWork;
use super::probation::look_hint;
use super::script_output::ScriptOutput;
use crate::error::{Code, Failure, Result};
use crate::host::Container;
use crate::runtime::{InnerScript, RuntimeErrorKind};

/// The key in `ve.conf`, or in `vz.conf` for containers whose `ve.conf` has none.
pub const KEY: &str = "HEALTH";
/// What its lines are called in the log.
const SOURCE: &str = "health";
/// A longer command is none.
const LONGEST: usize = 64 * 1024;
/// A try that was cut off after less says nothing: the one before does. Of a short time-out, a quarter.
const SHORTEST_TRY: Duration = Duration::from_secs(1);
/// So soon it is run again the first time, each time twice as long after, and at least so often.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// The command that is to be run: that of the option, which may be empty and then means none, or that of the configuration.
///
/// # Errors
/// [`Code::BadValue`] for one that cannot be run.
pub fn command(
    container: &Container<'_>,
    option: Option<&str>,
    own: Option<String>,
) -> Result<Option<String>> {
    let (said, command) = match (option, own) {
        (Some(command), _) => ("--health", Some(command.to_owned())),
        (None, Some(command)) => (KEY, Some(command)),
        (None, None) => (KEY, container.host.configuration()?.get(KEY)),
    };
    let Some(command) = command.filter(|command| !command.trim().is_empty()) else { return Ok(None) };
    let refused = |because: &str| {
        Failure::new(Code::BadValue, format!("the command of `{said}` cannot be run"))
            .because(because)
            .unchanged()
            .hint("name one that `sh -c` can run in the container, or none: --health ''")
    };
    if command.len() > LONGEST {
        return Err(refused("it is longer than 64 KiB"));
    }
    if command.contains('\0') {
        return Err(refused("there is a NUL byte in it"));
    }
    Ok(Some(command))
}

/// Step *health*: runs the command until it exits with 0, in no longer than the time-out.
///
/// # Errors
/// [`Code::ReinstallFailed`] with what the last try has said.
pub fn check_health(work: &mut ChangeWork<'_>) -> Result<()> {
    let Some(command) = work.plan.making.as_ref().and_then(|making| making.health.clone()) else {
        return Ok(());
    };
    let container = work.container;
    let limit = Duration::from_secs(work.plan.timeout);
    let shortest = SHORTEST_TRY.min(limit / 4);
    let began = Instant::now();
    // What was waited for by the clock, or by what was to be waited: the one that is more.
    let mut paused = Duration::ZERO;
    let mut pause = PAUSES.0;
    let text = format!("#!/bin/sh\n{command}\n");
    let before = container.runtime().pulse(container.id());
    let mut tries = 0;
    let mut last: Option<(String, ScriptOutput<'_>)> = None;
    loop {
        tries += 1;
        let rest = limit.saturating_sub(began.elapsed().max(paused));
        let mut environment = runtime::exec::environment();
        environment.push(("VEID".to_owned(), container.veid()));
        let inner = InnerScript { text: text.as_bytes(), environment, limit: rest };
        let mut output = ScriptOutput::quiet(container.host, SOURCE);
        let exit = container.runtime().run_inside(container.id(), &inner, &mut |line| output.line(line));
        let how = match exit {
            Ok(exit) => {
                let how = output.ended(exit, rest.as_secs());
                if exit == Some(Exit::Code(0)) {
                    break;
                }
                if exit.is_none() { "did not end and was killed".to_owned() } else { how }
            }
            Err(error) if error.kind == RuntimeErrorKind::Interrupted => {
                return Err(Failure::new(Code::ReinstallFailed, "the health command was interrupted"));
            }
            Err(error) => {
                return Err(failed(work, &command, "could not be run", &output).because(error.because));
            }
        };
        let is_cut_off = matches!(exit, Ok(None));
        let left = limit.saturating_sub(began.elapsed().max(paused));
        if is_cut_off || left <= shortest {
            let (how, output) = last.filter(|_| is_cut_off && rest < shortest).unwrap_or((how, output));
            let at =
                if tries == 1 { "its only try".to_owned() } else { format!("the last of {tries} tries") };
            let how = format!("{how} at {at} within {} s", limit.as_secs());
            return Err(failed(work, &command, &how, &output));
        }
        // The last try is at the end of the time, not before it.
        let pause_now = pause.min(left - shortest);
        match container.runtime().ended_within(container.id(), pause_now) {
            Ok(false) => {}
            Ok(true) => {
                let how = format!("{how}, and the container has ended");
                let failure = failed(work, &command, &how, &output);
                let console = container.runtime().console(container.id());
                return Err(if console.is_empty() {
                    failure
                } else {
                    failure.because(format!("its console said:\n{console}"))
                });
            }
            Err(error) if error.kind == RuntimeErrorKind::Interrupted => {
                return Err(Failure::new(Code::ReinstallFailed, "the health command was interrupted"));
            }
            Err(error) => return Err(failed(work, &command, &how, &output).because(error.because)),
        }
        last = Some((how, output));
        paused += pause_now;
        pause = (pause * 2).min(PAUSES.1);
    }
    work.plan.last_script = Some(command.clone());
    if container.runtime().is_going_down(container.id(), before) {
        let output = ScriptOutput::quiet(container.host, SOURCE);
        return Err(failed(work, &command, "has ended the container", &output));
    }
    Ok(())
}

fn failed(work: &ChangeWork<'_>, command: &str, how: &str, output: &ScriptOutput<'_>) -> Failure {
    let command = tree::escaped(&command.as_bytes()[..command.len().min(200)]);
    let failure = output.explain(Failure::new(
        Code::ReinstallFailed,
        format!("generation {} is not healthy: `{command}` {how}", work.plan.to),
    ));
    let without = "--health '' does without the command";
    failure.hint(look_hint(work).map_or_else(|| without.to_owned(), |look| format!("{look}; {without}")))
}
