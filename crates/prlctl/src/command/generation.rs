//! `prlctl generation-list`, `generation-switch` and `generation-delete`

use engine::Result;
use engine::host::{damaged, hint_of};
use engine::operation::{forget, reinstall, switch};
use serde_json::{Value, json};
use store::{Area, GenerationNumber, GenerationRecord};

use super::{done, empty_trash_later, host, named_in_full, stop_timeout};
use crate::arguments::{GenerationDelete, GenerationList, GenerationSwitch};
use crate::output;

/// Lists the roots of a container.
///
/// # Errors
/// [`engine::Failure`].
pub fn list(arguments: &GenerationList) -> Result<u8> {
    let host = host(0, arguments.json)?;
    let id = host.find(&arguments.container)?;
    let area = Area::open(&host.prefix, &id).map_err(|error| damaged(error, &arguments.container))?;
    let live = area.live().map_err(|error| damaged(error, &arguments.container))?;
    // A record that is damaged is what somebody looks for here: it is shown, and no reason to show nothing.
    let chain = GenerationRecord::chain_as_known(&area, live);
    let all = area.generations().map_err(|error| damaged(error, &arguments.container))?;
    let mut rows = Vec::new();
    let mut objects: Vec<Value> = Vec::new();
    for (number, record) in all.into_iter().rev() {
        let depth = chain.iter().position(|&one| one == number);
        if depth.is_none() && record.is_ok() && !arguments.all {
            continue;
        }
        let place = depth.map(|depth| if depth == 0 { "/".to_owned() } else { "/old".repeat(depth) });
        let (state, what, parent, created) = match &record {
            Ok(record) => (
                if number == live { "live".to_owned() } else { state(record, depth.is_some()).to_owned() },
                reinstall::describe_base(record),
                record.parent.map(|parent| parent.to_string()),
                record.created.strftime("%Y-%m-%d %H:%M:%S").to_string(),
            ),
            Err(error) => ("damaged".to_owned(), runtime::monitor::describe(error), None, "-".to_owned()),
        };
        if let Err(error) = &record {
            host.warning(&format!(
                "generation {number} is damaged: {}",
                hint_of(error, &arguments.container)
            ));
        }
        objects.push(json!({
            "number": number.get(),
            "state": state,
            "place": place,
            "parent": parent.as_ref().and_then(|parent| parent.parse::<u32>().ok()),
            "made_from": record.is_ok().then_some(&what),
            "damage": record.is_err().then_some(&what),
            "created": record.as_ref().ok().map(|record| record.created.to_string()),
        }));
        let dash = || "-".to_owned();
        rows.push(vec![
            number.to_string(),
            state,
            place.unwrap_or_else(dash),
            parent.unwrap_or_else(dash),
            created,
            what,
        ]);
    }
    if arguments.json {
        output::json(&Value::Array(objects));
        return Ok(0);
    }
    let header = ["N", "STATE", "PLACE", "PARENT", "CREATED", "MADE FROM"];
    output::table((!arguments.no_header).then_some(&header), &[5, 8, 16, 6, 20], &rows);
    Ok(0)
}

fn state(record: &GenerationRecord, is_reachable: bool) -> &'static str {
    match record.state {
        store::GenerationState::Staged => "staged",
        store::GenerationState::Failed => "failed",
        store::GenerationState::Doomed => "doomed",
        store::GenerationState::Kept if is_reachable => "retired",
        store::GenerationState::Kept => "left",
    }
}

/// Makes another root the live one.
///
/// # Errors
/// [`engine::Failure`], with everything put back.
pub fn switch(arguments: &GenerationSwitch) -> Result<u8> {
    let number = GenerationNumber::new(arguments.number);
    let host = host(arguments.common.lock_wait, arguments.common.json)?;
    let words = tree::escaped(arguments.container.as_bytes());
    host.not_begun(&format!("cannot switch `{words}` to generation {number}"));
    let container = host.open(&arguments.container)?;
    let what = format!("cannot switch `{}` to generation {number}", container.name);
    let switched = switch::switch(&container, number, &what, arguments.timeout, stop_timeout(&host, None))?;
    if let Some(unfinished) = &switched.unfinished {
        host.warning(&format!("it is done, and the next command makes up for its end: {unfinished}"));
    }
    Ok(done(
        arguments.common.json,
        &format!("The CT has been successfully switched to generation {}.", switched.to),
        json!({ "result": "switched", "from": switched.from.get(), "to": switched.to.get() }),
    ))
}

/// Deletes a root that is not live.
///
/// # Errors
/// [`engine::Failure`].
pub fn delete(arguments: &GenerationDelete) -> Result<u8> {
    let number = GenerationNumber::new(arguments.number);
    let host = host(arguments.common.lock_wait, arguments.common.json)?;
    let words = tree::escaped(arguments.container.as_bytes());
    host.not_begun(&format!("cannot delete generation {number} of `{words}`"));
    let container = host.open(&arguments.container)?;
    named_in_full(&container, &arguments.container)?;
    if let Some(unfinished) = forget::delete(&container, number)? {
        host.warning(&format!("it is done, and the next command makes up for its end: {unfinished}"));
    }
    drop(container);
    empty_trash_later(&host);
    Ok(done(
        arguments.common.json,
        &format!("Generation {number} has been successfully deleted."),
        json!({ "result": "deleted", "number": number.get() }),
    ))
}
