//! `prlctl generation-list`, `generation-switch`, `generation-flatten` and `generation-delete`

use engine::Result;
use engine::host::{damaged, hint_of};
use engine::operation::explain::size_of_delta;
use engine::operation::{flatten, forget, reinstall, switch};
use engine::retention::{self, Retention, left_at, next_to_go};
use engine::words::in_words;
use jiff::Timestamp;
use serde_json::{Value, json};
use store::{Area, GenerationNumber, GenerationRecord};

use super::{done, empty_trash_later, host, named_in_full, stop_timeout};
use crate::arguments::{GenerationDelete, GenerationFlatten, GenerationList, GenerationSwitch};
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
    // A value that cannot be used keeps a reinstall from beginning, and nobody from looking.
    let retention = area
        .conf()
        .map_err(|error| damaged(error, &arguments.container))
        .and_then(|conf| Retention::read(&host, &conf, &arguments.container));
    let retention = retention.unwrap_or_else(|failure| {
        host.warning(&format!("{}: {}", failure.what, failure.because.join(": ")));
        None
    });
    if arguments.size
        && let Err(failure) = engine::volume::enter_unlocked(&host, &area, &arguments.container)
    {
        host.warning(&failure.reason());
    }
    let now = Timestamp::now();
    let going = retention.map(|retention| next_to_go(retention, &all, live, now)).unwrap_or_default();
    let records: Vec<GenerationRecord> =
        all.iter().filter_map(|(_, record)| record.as_ref().ok().cloned()).collect();
    let mut rows = Vec::new();
    let mut objects: Vec<Value> = Vec::new();
    for (number, record) in all.into_iter().rev() {
        let depth = chain.iter().position(|&one| one == number);
        if depth.is_none() && record.is_ok() && !arguments.all {
            continue;
        }
        let place = depth.map(|depth| if depth == 0 { "/".to_owned() } else { "/old".repeat(depth) });
        let size = arguments.size.then(|| size_of_delta(&area, number)).flatten();
        let goes = going.contains(&number);
        // The live one is as old as it is, another as long ago as it was left.
        let since = record
            .as_ref()
            .ok()
            .map(|record| if number == live { record.created } else { left_at(record, records.iter()) });
        let problem =
            record.as_ref().ok().and_then(|record| engine::template::problem_of(&host.prefix, &record.base));
        if let Some(problem) = &problem {
            host.warning(&format!("generation {number} is not whole: {problem}"));
        }
        let (state, what, parent, created) = match &record {
            Ok(record) => (
                if number == live { "live".to_owned() } else { state(record, depth.is_some()).to_owned() },
                match &problem {
                    Some(_) => format!("{} (gone or damaged)", reinstall::describe_base(record)),
                    None => reinstall::describe_base(record),
                },
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
            "damage": if record.is_err() { Some(&what) } else { problem.as_ref() },
            "created": record.as_ref().ok().map(|record| record.created.to_string()),
            "since": since.map(|since| since.to_string()),
            "entries": size.map(|size| size.entries),
            "bytes": size.map(|size| size.bytes),
            "goes_next": goes,
        }));
        let dash = || "-".to_owned();
        let mut row = vec![
            number.to_string(),
            state,
            place.unwrap_or_else(dash),
            parent.unwrap_or_else(dash),
            created,
            since.map_or_else(dash, |since| age(since, now)),
        ];
        if arguments.size {
            row.push(size.map_or_else(dash, |size| format!("{} in {}", in_words(size.bytes), size.entries)));
        }
        if retention.is_some() {
            row.push(if goes { "goes".to_owned() } else { dash() });
        }
        row.push(what);
        rows.push(row);
    }
    if arguments.json {
        output::json(&Value::Array(objects));
        return Ok(0);
    }
    let mut header = vec!["N", "STATE", "PLACE", "PARENT", "CREATED", "AGE"];
    let mut widths = vec![5, 8, 16, 6, 20, 5];
    if arguments.size {
        header.push("SIZE");
        widths.push(18);
    }
    if retention.is_some() {
        header.push("NEXT");
        widths.push(4);
    }
    header.push("MADE FROM");
    output::table((!arguments.no_header).then_some(&header[..]), &widths, &rows);
    if let Some(retention) = retention
        && !arguments.no_header
    {
        host.note(&format!("{}: {retention}", retention::KEY));
    }
    Ok(0)
}

/// How long ago, in the unit that says most: minutes, hours, days.
pub fn age(since: Timestamp, now: Timestamp) -> String {
    let minutes = now.duration_since(since).as_secs().max(0) / 60;
    match minutes {
        0..60 => format!("{minutes}m"),
        60..2880 => format!("{}h", minutes / 60),
        _ => format!("{}d", minutes / (24 * 60)),
    }
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
    if !arguments.common.json {
        host.note(&format!(
            "generation {0} stays: `prlctl generation-switch {1} {0}` goes back to it",
            switched.from, container.name
        ));
    }
    Ok(done(
        arguments.common.json,
        &format!("The CT has been successfully switched to generation {}.", switched.to),
        json!({ "result": "switched", "from": switched.from.get(), "to": switched.to.get() }),
    ))
}

/// Makes the live root independent of its template.
///
/// # Errors
/// [`engine::Failure`], with everything put back.
pub fn flatten(arguments: &GenerationFlatten) -> Result<u8> {
    let host = host(arguments.common.lock_wait, arguments.common.json)?;
    let words = tree::escaped(arguments.container.as_bytes());
    host.not_begun(&format!("cannot flatten the root of `{words}`"));
    let container = host.open(&arguments.container)?;
    if !arguments.allow_damaged {
        flatten::refuse_damaged(&container)?;
    }
    let flattened = flatten::run_on(&container, arguments.timeout, stop_timeout(&host, None))?;
    for note in &flattened.notes {
        host.warning(note);
    }
    if let Some(unfinished) = &flattened.unfinished {
        host.warning(&format!("it is done, and the next command makes up for its end: {unfinished}"));
    }
    drop(container);
    empty_trash_later(&host);
    Ok(done(
        arguments.common.json,
        &format!("The root of the CT needs no template any more: generation {}.", flattened.number),
        json!({ "result": "flattened", "number": flattened.number.get() }),
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
