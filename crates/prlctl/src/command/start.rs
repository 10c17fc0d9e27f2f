//! `prlctl start`

use std::time::Duration;

use engine::interrupt::Second;
use engine::{Code, Container, Failure, Result};
use serde_json::json;

use super::{done, host};
use crate::arguments::Start;

/// Starts a container.
///
/// # Errors
/// [`Failure`], with the last lines of its console.
pub fn run(arguments: &Start) -> Result<u8> {
    let host = host(arguments.common.lock_wait, arguments.common.json)?;
    host.not_begun(&format!("cannot start `{}`", tree::escaped(arguments.container.as_bytes())));
    let container = host.open(&arguments.container)?;
    if container.is_running() {
        return Err(Failure::new(Code::Running, format!("cannot start `{}`", container.name))
            .because("it runs already")
            .unchanged()
            .hint(format!("`prlctl restart {}` stops it and starts it again", container.name)));
    }
    if !arguments.force {
        engine::boot::check(&container, &format!("cannot start `{}`", container.name))?;
    }
    let recording = host.recording(container.id(), &container.name, "start", None);
    if arguments.repair {
        let name = &container.name;
        host.warning(&format!(
            "`--repair` means nothing here, and it is started as ever: `prlctl reinstall {name}` gives it a new root, with the old one at /old"
        ));
    }
    let result = start(&container, arguments);
    recording.end_with(&result);
    result?;
    Ok(done(
        arguments.common.json,
        "The CT has been successfully started.",
        json!({ "result": "started", "uuid": container.id().to_string() }),
    ))
}

fn start(container: &Container<'_>, arguments: &Start) -> Result<()> {
    let host = container.host;
    let what = format!("cannot start `{}`", container.name);
    let second = Second::Container(&container.name);
    host.heed_signals(&what)?;
    host.step("start", "Starting the CT...");
    // What it wrote in its last run may take minutes to reach the disk.
    container.runtime().wait_until_gone_unless_interrupted(container.id()).map_err(|error| {
        host.or_interrupted(
            Failure::new(Code::System, &what)
                .because(error.because)
                .state(format!(
                    "`{}` is stopped, and its last run is still being written out",
                    container.name
                ))
                .hint(format!("`prlctl start {}` waits for that", container.name)),
            second,
        )
    })?;
    host.unless_interrupted(
        &what,
        &format!("`{}` is stopped, nothing in it was changed", container.name),
        second,
    )?;
    container.start().map_err(|failure| host.or_interrupted(failure, second))?;
    if arguments.wait {
        container.runtime().wait_until_up(container.id(), Duration::from_secs(arguments.timeout)).map_err(
            |error| {
                let mut failure =
                    Failure::new(Code::System, format!("`{}` does not come up", container.name))
                        .because(error.because);
                if !error.console.is_empty() {
                    failure = failure.because(format!("its console said:\n{}", error.console));
                }
                let state = if container.is_running() { "it runs, but is not up" } else { "it is stopped" };
                let failure = failure.state(format!("`{}`: {state}", container.name)).hint(format!(
                    "its console is logged in {}",
                    runtime::monitor::log_path(&host.prefix, container.id()).display()
                ));
                host.or_interrupted(failure, second)
            },
        )?;
    }
    Ok(())
}
