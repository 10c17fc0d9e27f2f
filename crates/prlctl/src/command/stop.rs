//! `prlctl stop` and `prlctl restart`

use std::time::Duration;

use engine::interrupt::Second;
use engine::space;
use engine::{Code, Container, Failure, Host, Result};
use serde_json::json;

use super::{done, empty_trash_later, host, stop_timeout};
use crate::arguments::{Restart, Stop};

/// Stops a container, or all that run.
///
/// # Errors
/// [`Failure`].
pub fn stop(arguments: &Stop) -> Result<u8> {
    let host = host(arguments.common.lock_wait, arguments.common.json)?;
    let Some(words) = &arguments.container else { return stop_all(&host, arguments) };
    host.not_begun(&format!("cannot stop `{}`", tree::escaped(words.as_bytes())));
    let container = host.open_to_stop(words)?;
    if !container.is_running() && container.check_runtime_record().is_ok() {
        return Err(Failure::new(Code::NotRunning, format!("cannot stop `{}`", container.name))
            .because("it does not run")
            .unchanged()
            .hint(format!("`prlctl start {}` starts it", container.name)));
    }
    let recording = host.recording(container.id(), &container.name, "stop", None);
    host.step("stop", "Stopping the CT...");
    let what = format!("cannot stop `{}`", container.name);
    let result = stop_heeding(&container, &what, limit(&host, arguments.kill, arguments.timeout), false);
    recording.end_with(&result);
    result?;
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
    container.check_restart().map_err(within)?;
    space::check_run(container).map_err(within)?;
    container.release_view().map_err(within)?;
    host.heed_signals(&what)?;
    if container.is_running() {
        host.step("stop", "Stopping the CT...");
        stop_heeding(container, &what, limit(host, arguments.kill, arguments.timeout), true).map_err(
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
fn stop_heeding(container: &Container<'_>, what: &str, limit: Duration, keeps_mounts: bool) -> Result<()> {
    let host = container.host;
    host.heed_signals(what)?;
    container.stop(limit, keeps_mounts).map_err(|failure| {
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

fn stop_all(host: &Host, arguments: &Stop) -> Result<u8> {
    let mut stopped: Vec<String> = Vec::new();
    host.not_begun("cannot stop all CTs");
    let mut failures = Vec::new();
    for id in store::registry::list(&host.prefix)? {
        if host.runtime.running(&id).is_none() {
            continue;
        }
        // Before the next one is asked to stop.
        host.unless_interrupted(
            "cannot stop all CTs",
            &format!("{} are stopped, the others run", stopped.len()),
            Second::Containers,
        )?;
        let result = host.open_to_stop(&id.to_string()).and_then(|container: Container<'_>| {
            let recording = host.recording(container.id(), &container.name, "stop", None);
            host.step("stop", &format!("Stopping the CT {}...", container.name));
            let what = format!("cannot stop `{}`", container.name);
            let result =
                stop_heeding(&container, &what, limit(host, arguments.kill, arguments.timeout), false);
            recording.end_with(&result);
            result
        });
        match result {
            Ok(()) => stopped.push(id.to_string()),
            Err(failure) if matches!(failure.code, Code::Interrupted(_)) => {
                return Err(failure.hint(format!("`{}` goes on with the others", host.command)));
            }
            Err(failure) => failures.push(failure),
        }
    }
    match failures.into_iter().next() {
        Some(failure) => Err(failure),
        None => Ok(done(
            arguments.common.json,
            "All CTs have been successfully stopped.",
            json!({ "result": "stopped", "uuids": stopped }),
        )),
    }
}
