//! `prlctl script-run`

use engine::Probation;
use engine::Result;
use engine::operation::reinstall::Options;
use engine::operation::trial::run_script;
use serde_json::json;
use store::GenerationNumber;

use super::{done, empty_trash_later, host, stop_timeout};
use crate::arguments::ScriptRun;

/// Tries a script.
///
/// # Errors
/// [`engine::Failure`], with everything put back.
pub fn run(arguments: &ScriptRun) -> Result<u8> {
    let host = host(arguments.common.lock_wait, arguments.common.json)?;
    let words = |text: &str| tree::escaped(text.as_bytes());
    host.not_begun(&format!(
        "cannot try `{}` with `{}`",
        words(&arguments.script),
        words(&arguments.container)
    ));
    let container = host.open(&arguments.container)?;
    let options = Options {
        skip_backup: false,
        skip_scripts: true,
        scripts: Vec::new(),
        scripts_from_old: false,
        reset_passwords: false,
        keep: Vec::new(),
        keep_changed: Vec::new(),
        user_data: None,
        password: None,
        skip_applications: true,
        probation_network: Probation::default(),
        allow_degraded: false,
        // That script alone.
        health: Some(String::new()),
        drop_failed: true,
        template: None,
        timeout: arguments.timeout,
        stop_timeout: stop_timeout(&host, None),
    };
    let generation = arguments.generation.map(GenerationNumber::new);
    let tried = run_script(&container, &arguments.script, generation, arguments.stop, &options)?;
    host.note(&format!(
        "generation {} was thrown away: `{}` is as it was",
        tried.thrown_away, container.name
    ));
    drop(container);
    empty_trash_later(&host);
    Ok(done(
        arguments.common.json,
        "The script has been successfully tried.",
        json!({ "result": "tried", "script": arguments.script, "old": tried.from.get() }),
    ))
}
