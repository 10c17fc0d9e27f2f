//! `prlctl stop` and `prlctl restart`

use std::ffi::OsString;
use std::time::{Duration, Instant};

use engine::interrupt::{Second, signal_word};
use engine::recover::in_boot_order;
use engine::runtime::{Life, Patience};
use engine::space;
use engine::{Code, Container, Failure, Host, Result};
use serde_json::json;
use store::ContainerId;

use super::{done, empty_trash_later, host, stop_timeout, together};
use crate::arguments::{Restart, Stop};

/// Stops a container, or all that run.
///
/// # Errors
/// [`Failure`].
pub fn stop(arguments: &Stop) -> Result<u8> {
    let host = host(arguments.common.lock_wait, arguments.common.json)?;
    let Some(words) = &arguments.container else { return stop_all(&host, arguments) };
    host.not_begun(&format!("cannot stop `{}`", tree::escaped(words.as_bytes())));
    let patience =
        Patience { limit: limit(&host, arguments.kill, arguments.timeout), deadline: end_of(arguments) };
    let between_lives = patience.deadline.map(|_| host.open_between_lives(words)).transpose()?.flatten();
    let is_between = between_lives.is_some();
    let container = between_lives.map_or_else(|| host.open_to_stop(words), Ok)?;
    if !is_between && !container.is_running() && container.check_runtime_record().is_ok() {
        return Err(Failure::new(Code::NotRunning, format!("cannot stop `{}`", container.name))
            .because("it does not run")
            .unchanged()
            .hint(format!("`prlctl start {}` starts it", container.name)));
    }
    let recording = host.recording(container.id(), &container.name, "stop", None);
    host.step("stop", "Stopping the CT...");
    let what = format!("cannot stop `{}`", container.name);
    let result = stop_heeding(&container, &what, patience, false);
    recording.end_with(&result);
    result?;
    if !arguments.with_host
        && let Err(error) = container.area.unmark_running()
    {
        host.warning(&format!("that it is stopped could not be written down, so that it may be started when the host comes up again: {}", engine::host::damaged(error, &container.name).reason()));
    }
    empty_trash_later(&host);
    Ok(done(
        arguments.common.json,
        "The CT has been successfully stopped.",
        json!({ "result": "stopped", "uuid": container.id().to_string() }),
    ))
}

/// Stops a container, if it runs, and starts it.
///
/// # Errors
/// [`Failure`].
pub fn restart(arguments: &Restart) -> Result<u8> {
    let host = host(arguments.common.lock_wait, arguments.common.json)?;
    host.not_begun(&format!("cannot restart `{}`", tree::escaped(arguments.container.as_bytes())));
    let container = host.open(&arguments.container)?;
    let recording = host.recording(container.id(), &container.name, "restart", None);
    let result = stop_and_start(&container, arguments);
    recording.end_with(&result);
    result?;
    Ok(done(
        arguments.common.json,
        "The CT has been successfully restarted.",
        json!({ "result": "restarted", "uuid": container.id().to_string() }),
    ))
}

fn stop_and_start(container: &Container<'_>, arguments: &Restart) -> Result<()> {
    let host = container.host;
    // What the start needs, before the stop.
    let what = format!("cannot restart `{}`", container.name);
    let within = |failure: Failure| failure.within(what.clone());
    engine::boot::check(container, &what)?;
    container.check_restart().map_err(within)?;
    space::check_run(container).map_err(within)?;
    container.release_view().map_err(within)?;
    host.heed_signals(&what)?;
    if container.is_running() {
        host.step("stop", "Stopping the CT...");
        stop_heeding(container, &what, limit(host, arguments.kill, arguments.timeout).into(), true).map_err(
            |failure| {
                if !matches!(failure.code, Code::Interrupted(_)) {
                    return failure;
                }
                let (state, hint) = if container.is_running() {
                    ("is still stopping", "waits for its end and starts it")
                } else {
                    ("is stopped", "starts it")
                };
                failure
                    .state(format!("`{}` {state}, and nobody starts it again", container.name))
                    .hint(format!("`prlctl restart {}` {hint}", container.name))
            },
        )?;
    }
    engine::recover::discard_doomed(container);
    host.unless_interrupted(
        &what,
        &format!("`{}` is stopped, nothing in it was changed", container.name),
        Second::Container(&container.name),
    )?;
    host.step("start", "Starting the CT...");
    container.start().map_err(|failure| {
        // Whatever it says of the start: by now the container has been stopped.
        failure.state(format!("`{}` is stopped, nothing in it was changed", container.name))
    })
}

/// A signal ends the wait; what has been asked to stop goes on stopping. `what` cannot be done then.
fn stop_heeding(container: &Container<'_>, what: &str, patience: Patience, keeps_mounts: bool) -> Result<()> {
    let host = container.host;
    host.heed_signals(what)?;
    container.stop(patience, keeps_mounts).map_err(|failure| {
        let state = if container.is_running() { "is still stopping" } else { "is stopped" };
        let failure = if failure.what == what { failure } else { failure.within(what) };
        host.or_interrupted(
            failure.state(format!("`{}` {state}", container.name)),
            Second::Container(&container.name),
        )
    })
}

fn limit(host: &Host, is_killed: bool, timeout: Option<u64>) -> Duration {
    if is_killed { Duration::ZERO } else { Duration::from_secs(stop_timeout(host, timeout)) }
}

fn end_of(arguments: &Stop) -> Option<Instant> {
    // One beyond all that a clock can tell is none.
    arguments.deadline.and_then(|seconds| Instant::now().checked_add(Duration::from_secs(seconds)))
}

/// What of those that are to be as they were runs, and of which nobody has written that down: so they were set by an editor, or have ended without a word.
fn note_those_that_run(host: &Host, groups: &[Vec<ContainerId>]) {
    let of_host = host.configuration().unwrap_or_default();
    for id in store::registry::list(&host.prefix).unwrap_or_default() {
        let noted = store::Area::open_unchecked(&host.prefix, &id).and_then(|area| {
            if !groups.iter().flatten().any(|running| *running == id) {
                return area.unmark_running();
            }
            engine::boot::note_running(&area, &engine::defaults::beside(&area.conf()?, &of_host))
        });
        if let Err(error) = noted {
            let name = engine::recover::name_of(host, &id);
            host.warning(&format!(
                "whether `{name}` is started when the host comes up again could not be written down: {error}"
            ));
        }
    }
}

/// The lowest `BOOTORDER` first, so that what others need goes last.
fn stop_all(host: &Host, arguments: &Stop) -> Result<u8> {
    host.not_begun("cannot stop all CTs");
    let mut groups = in_boot_order(host, &|id, _| !matches!(host.runtime.life(id), Life::Stopped))?;
    groups.reverse();
    note_those_that_run(host, &groups);
    for id in groups.iter().flatten() {
        let conf =
            store::Area::open_unchecked(&host.prefix, id).and_then(|area| area.conf()).unwrap_or_default();
        if let Some(why) = engine::boot::why_only_stopped(&conf) {
            host.warning(&format!("`{}`: {why}", engine::recover::name_of(host, id)));
        }
    }
    let deadline = end_of(arguments);
    let longest = limit(host, arguments.kill, arguments.timeout);
    if !groups.is_empty() {
        host.step("stop", &format!("Stopping {} CTs...", groups.iter().map(Vec::len).sum::<usize>()));
    }
    let outcome = together::run(host, &groups, &mut |id| {
        // What others have used up of the time is not there any more; in the end they are killed.
        let rest = Patience { limit: longest, deadline }.until_deadline();
        let mut words: Vec<OsString> =
            ["stop", &id.to_string(), "--json", "--with-host"].map(Into::into).to_vec();
        words.extend(["--timeout".into(), longest.as_secs().to_string().into()]);
        words.extend(rest.iter().flat_map(|rest| ["--deadline".into(), rest.as_secs().to_string().into()]));
        // Who is at work on one has as long to end: nobody else stops it before the host goes down.
        let wait = arguments.common.lock_wait.max(rest.map_or(0, |rest| rest.as_secs()));
        words.extend(["--lock-wait".into(), wait.to_string().into()]);
        words
    })?;
    let stopped: Vec<String> = outcome.done.iter().map(ToString::to_string).collect();
    let state = || format!("{} are stopped; `prlctl list` shows those that run", stopped.len());
    let again = format!("`{}` goes on with the others", host.command);
    if let Some(signal) = outcome.signal {
        return Err(Failure::new(Code::Interrupted(signal), "cannot stop all CTs")
            .because(format!("{} has interrupted it", signal_word(signal)))
            .state(state())
            .hint(again));
    }
    if outcome.failed.is_empty() {
        return Ok(done(
            arguments.common.json,
            "All CTs have been successfully stopped.",
            json!({ "result": "stopped", "uuids": stopped }),
        ));
    }
    Err(Failure::new(Code::CannotStop, "not all CTs could be stopped")
        .because(format!("{} could not: {}", outcome.failed.len(), outcome.names()))
        .state(state())
        .hint(again))
}
