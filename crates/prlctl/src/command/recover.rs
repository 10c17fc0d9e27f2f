//! `prlctl recover`

use std::time::Duration;

use engine::host::damaged;
use engine::interrupt::signal_word;
use engine::recover::{damage_of, recover_all, to_start};
use engine::{Code, Failure, Result};
use serde_json::json;
use store::Area;

use super::together::{self, Outcome};
use super::{done, empty_trash_later, host};
use crate::arguments::Recover;
use crate::output;

/// How long it waits for a lock: another command may be recovering the same container.
const LOCK_WAIT: u64 = 60;

/// Brings to an end what dead commands have left under way.
///
/// # Errors
/// [`engine::Failure`]; of several, the last.
pub fn run(arguments: &Recover) -> Result<u8> {
    let host = host(LOCK_WAIT, arguments.json)?;
    let whom = arguments
        .container
        .as_ref()
        .map_or_else(|| "all CTs".to_owned(), |words| format!("`{}`", tree::escaped(words.as_bytes())));
    // Also in the middle of it: a recovery that has died is recovered like what it was recovering.
    host.ends_anywhere(
        &format!("cannot recover {whom}"),
        "what was under way and is not at its end yet is left to the next command",
        &format!("`{}` goes on with it", host.command),
    );
    if let Some(words) = &arguments.container {
        if arguments.rebuild {
            return rebuild(&host, words, arguments.json);
        }
        // Opening a container recovers it.
        let container = host.open(words)?;
        engine::operation::create::link(&container)?;
        drop(container);
        empty_trash_later(&host);
        return Ok(done(
            arguments.json,
            "The CT has been successfully recovered.",
            json!({ "result": "recovered" }),
        ));
    }
    let results = recover_all(&host)?;
    empty_trash_later(&host);
    // With everything put right, and each by a process of its own: one that hangs keeps no other down.
    let started = if arguments.boot { start(&host)? } else { Outcome::default() };
    if let Some(signal) = started.signal {
        return Err(Failure::new(
            Code::Interrupted(signal),
            "not everything that is to run has been started",
        )
        .because(format!("{} has interrupted it", signal_word(signal)))
        .state("what was under way is recovered; `prlctl list` shows what runs")
        .hint(format!("`{}` goes on", host.command)));
    }
    // Containers may have their ONBOOT there: one that nobody can read keeps them down, and that is no success.
    let mut last = host.configuration().err().filter(|_| arguments.boot);
    if let Some(failure) = &last
        && !arguments.json
    {
        output::failure(failure, false);
    }
    for result in &results {
        if let Some(failure) = &result.failure {
            if !arguments.json {
                output::failure(failure, false);
            }
            last = Some(failure.clone());
        }
    }
    let code = started
        .failed
        .last()
        .map_or_else(|| last.as_ref().map_or(0, |failure| failure.code.exit()), |failed| failed.code);
    if arguments.json {
        let mut objects: Vec<_> = results
            .iter()
            .map(|one| json!({ "name": one.name, "error": one.failure.as_ref().map(output::failure_value) }))
            .collect();
        objects.extend(started.failed.iter().map(|one| json!({ "name": one.name, "error": one.error })));
        // As of any other command: what reads this looks for `error` at its top.
        let error = started
            .failed
            .last()
            .map(|one| one.error.clone())
            .or_else(|| last.as_ref().map(output::failure_value));
        output::json(&match error {
            Some(error) => json!({ "error": error, "containers": objects }),
            None => json!({ "result": "recovered", "containers": objects }),
        });
    } else if code == 0 {
        output::line(&format!("{} CTs have been looked at; nothing is left under way.", results.len()));
    }
    Ok(code)
}

/// Starts what is to run when the host has come up, the highest `BOOTORDER` first.
fn start(host: &engine::Host) -> Result<Outcome> {
    let groups = to_start(host)?;
    together::run(host, &groups, &mut |id| {
        ["start", &id.to_string(), "--json", "--lock-wait", &LOCK_WAIT.to_string()].map(Into::into).to_vec()
    })
}

/// `prlctl restore-filter`: what of a recovery is about the packet filter, for whoever has just loaded it, and mounts nothing.
pub fn restore_filter() -> Result<u8> {
    engine::recover::restore_filter(&super::host(0, false)?)?;
    Ok(0)
}

fn rebuild(host: &engine::Host, words: &str, is_json: bool) -> Result<u8> {
    let id = host.find_alone(words)?;
    // In the order of all: container, template, host.
    let _lock = store::Lock::exclusive(
        &host.prefix,
        store::LockName::Container(id),
        Duration::from_secs(LOCK_WAIT),
        &host.command,
    )?;
    let lock = host.lock_host()?;
    if host.runtime.running(&id).is_some() {
        return Err(Failure::new(Code::Running, format!("cannot rebuild the records of `{words}`"))
            .because("it runs")
            .unchanged()
            .hint(format!("prlctl stop {words}")));
    }
    // What lies there tells what a generation is whose record is lost.
    let area = Area::open_unchecked(&host.prefix, &id).map_err(|error| damaged(error, words))?;
    engine::volume::enter(host, &area, words)?;
    drop(area);
    let rebuild = || Area::rebuild(&host.prefix, &id, &lock).map_err(|error| damaged(error, words));
    let mut report = rebuild()?;
    let area = Area::open(&host.prefix, &id).map_err(|error| damaged(error, words))?;
    if let Ok(Some(journal)) = area.journal()
        && let Some(because) = damage_of(&journal)
    {
        report.push(area.put_journal_aside(&because).map_err(|error| damaged(error, words))?);
        // Without a journal nothing is staged any more.
        report.extend(rebuild()?);
    }
    if is_json {
        output::json(&json!({ "result": "rebuilt", "report": report }));
    } else {
        for line in &report {
            output::line(line);
        }
        output::line("The records have been successfully rebuilt.");
    }
    Ok(0)
}
