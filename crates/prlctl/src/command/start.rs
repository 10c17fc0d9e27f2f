//! `prlctl start`

use std::time::Duration;

use engine::{Code, Failure, Result};
use serde_json::json;

use super::{done, host};
use crate::arguments::Start;

/// Starts a container.
///
/// # Errors
/// [`Failure`], with the last lines of its console.
pub fn run(arguments: &Start) -> Result<u8> {
    let host = host(arguments.common.lock_wait, arguments.common.json)?;
    let container = host.open(&arguments.container)?;
    if container.is_running() {
        return Err(Failure::new(Code::Running, format!("cannot start `{}`", container.name))
            .because("it runs already")
            .unchanged()
            .hint(format!("`prlctl restart {}` stops it and starts it again", container.name)));
    }
    host.step("start", "Starting the CT...");
    container.start()?;
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
                failure.state(format!("`{}`: {state}", container.name)).hint(format!(
                    "its console is logged in {}",
                    runtime::monitor::log_path(&host.prefix, container.id()).display()
                ))
            },
        )?;
    }
    Ok(done(
        arguments.common.json,
        "The CT has been successfully started.",
        json!({ "result": "started", "uuid": container.id().to_string() }),
    ))
}
