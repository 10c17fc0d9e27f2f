//! `prlctl log`, `prlctl events` and `prlctl reinstall-report`: what operations have told, from their logs.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use engine::event::{Event, What};
use engine::log::follow::Follower;
use engine::log::out_of_memory::OUT_OF_MEMORY;
use engine::log::read::{Context, LogReader, begun, last_report, logs, logs_since};
use engine::log::{directory, directory_of};
use engine::{Code, Failure, Host, Result};
use jiff::{Span, Timestamp, Zoned};
use serde_json::json;

use super::host;
use crate::arguments::{Events, Log, ReinstallReport};
use crate::event_words::{report_lines, seconds, words};
use crate::output;

/// Shows what was done with one container.
///
/// # Errors
/// [`Failure`].
pub fn log(arguments: &Log) -> Result<u8> {
    let host = host(0, arguments.json)?;
    let id = match host.find(&arguments.container) {
        Ok(id) => id,
        // What was done with it is told also when it is gone.
        Err(failure) => match arguments.container.parse() {
            Ok(id) if directory_of(&host.prefix, &id).exists() => id,
            _ => return Err(failure),
        },
    };
    let directory = directory_of(&host.prefix, &id);
    if arguments.follow {
        // Nothing may have been done with it yet.
        let _ = std::fs::create_dir_all(&directory);
    }
    let mut follower =
        if arguments.follow { Some(following(&host, Follower::of(&directory))?) } else { None };
    let mut paths = logs(&host.prefix, &id);
    if arguments.last {
        paths = last(paths);
    }
    let mut show = Show { is_json: arguments.json, is_of_one: true, ..Show::default() };
    for path in paths {
        let open = show_log(&mut show, &path)?;
        if let Some(follower) = &mut follower {
            follower.has_read(path, open);
        }
    }
    match follower {
        Some(follower) => follow(&host, &mut show, follower),
        None => Ok(0),
    }
}

/// The last operation, and if it has brought another to an end, that one before it.
fn last(mut paths: Vec<PathBuf>) -> Vec<PathBuf> {
    // Nobody has begun it.
    paths.retain(|path| !path.to_string_lossy().ends_with(&format!("-{OUT_OF_MEMORY}.jsonl")));
    let Some(last) = paths.pop() else { return paths };
    let recovers = begun(&last).and_then(|(_, recovers)| recovers);
    paths.retain(|path| recovers.is_some() && begun(path).is_some_and(|(began, _)| Some(began) == recovers));
    paths.push(last);
    paths
}

/// Shows what was done on this host.
///
/// # Errors
/// [`Failure`].
pub fn events(arguments: &Events) -> Result<u8> {
    let host = host(0, arguments.json)?;
    let now = Timestamp::now();
    let since = match (&arguments.since, arguments.follow) {
        (Some(text), _) => parse_since(text, now)?,
        (None, true) => now,
        (None, false) => now - jiff::SignedDuration::from_hours(24),
    };
    let mut show = Show { is_json: arguments.json, ..Show::default() };
    let directory = directory(&host.prefix);
    std::fs::create_dir_all(&directory)
        .map_err(|error| engine::error::system(format!("cannot make {}", directory.display()), &error))?;
    let mut follower =
        if arguments.follow { Some(following(&host, Follower::of_all(&directory))?) } else { None };
    let mut all: Vec<(Context, Event)> = Vec::new();
    // With --follow also what began before and is not at its end.
    let from = if arguments.follow { since.min(now - jiff::SignedDuration::from_hours(24)) } else { since };
    for path in logs_since(&host.prefix, from) {
        let Ok(mut log) = LogReader::open(&path) else { continue };
        let events = log.next_events().map_err(|error| unreadable(&path, &error))?;
        let has_ended = events.last().is_some_and(|event| matches!(event.what, What::End { .. }));
        let context = log.context().clone();
        all.extend(
            events.into_iter().filter(|event| event.at >= since).map(|event| (context.clone(), event)),
        );
        if let Some(follower) = &mut follower {
            follower.has_read(path, (!has_ended).then_some(log));
        }
    }
    all.sort_by_key(|(_, event)| event.at);
    for (context, event) in &all {
        show.event(context, event);
    }
    match follower {
        Some(follower) => follow(&host, &mut show, follower),
        None => Ok(0),
    }
}

/// Shows the report of a container's last reinstall.
///
/// # Errors
/// [`Failure`]; [`Code::BadValue`] when it has none.
pub fn reinstall_report(arguments: &ReinstallReport) -> Result<u8> {
    let host = host(0, arguments.json)?;
    let id = host.find(&arguments.container)?;
    let name =
        store::Area::open(&host.prefix, &id).map_or_else(|_| id.to_string(), |area| area.display_name());
    let Some(reported) = last_report(&host.prefix, &id) else {
        return Err(Failure::new(Code::BadValue, format!("there is no report of a reinstall of `{name}`"))
            .because("none of its logs tells of one that was done")
            .unchanged()
            .hint(format!("`prlctl log {name}` shows what was done with it")));
    };
    if arguments.json {
        let mut document = json!(reported);
        let can_undo = reported.report.is_old_kept
            && store::Area::open(&host.prefix, &id)
                .is_ok_and(|area| area.live().is_ok_and(|live| live == reported.report.new));
        document["undo"] = json!(can_undo.then(|| format!("prlctl reinstall {name} --undo")));
        output::json(&document);
        return Ok(0);
    }
    let report = &reported.report;
    let end = match reported.ended {
        Some(ended) => {
            let ms = ended.as_millisecond() - reported.began.as_millisecond();
            format!("done after {}", seconds(u64::try_from(ms).unwrap_or_default()))
        }
        None => "done; its command was killed, and a recovery has brought it to its end".to_owned(),
    };
    output::line(&format!("reinstall of `{name}`, {}: {end}", local(reported.began)));
    let template = report.template.as_deref().unwrap_or("a script's own");
    output::line(&format!("generation {} -> {}, {template}", report.old, report.new));
    for (is_warning, line) in report_lines(report, &name) {
        output::line(&if is_warning { format!("warning: {line}") } else { line });
    }
    let area = store::Area::open(&host.prefix, &id).ok();
    let live = area.as_ref().and_then(|area| area.live().ok());
    let is_there = area.is_some_and(|area| area.generation(report.old).is_ok());
    if live.is_some_and(|live| live != report.new) {
        let live = live.map_or_else(String::new, |live| live.to_string());
        output::line(&format!(
            "since then generation {live} has become the root: `prlctl log {name}` tells how"
        ));
    } else if report.is_old_kept && is_there {
        output::line(&format!(
            "the old root is at /old: generation {0}; `prlctl reinstall {name} --undo` goes back to it, `prlctl generation-delete {name} {0}` deletes it",
            report.old
        ));
    } else {
        output::line("the old root has been deleted");
    }
    Ok(0)
}

/// Shows a whole log; returns it if the operation has not ended.
fn show_log(show: &mut Show, path: &Path) -> Result<Option<LogReader>> {
    // It may have been the oldest one, and be gone.
    let Ok(mut log) = LogReader::open(path) else { return Ok(None) };
    let events = log.next_events().map_err(|error| unreadable(path, &error))?;
    for event in &events {
        show.event(log.context(), event);
    }
    let has_ended = events.last().is_some_and(|event| matches!(event.what, What::End { .. }));
    Ok((!has_ended).then_some(log))
}

fn cannot_follow(host: &Host, error: &std::io::Error) -> Failure {
    Failure::new(Code::System, format!("{} cannot be followed", directory(&host.prefix).display()))
        .caused_by(error)
        .unchanged()
        .hint("without -f there is what was done so far")
}

fn following(host: &Host, follower: std::io::Result<Follower>) -> Result<Follower> {
    follower.map_err(|error| cannot_follow(host, &error))
}

/// Until a signal ends it.
fn follow(host: &Host, show: &mut Show, mut follower: Follower) -> Result<u8> {
    loop {
        for (context, event) in follower.wait().map_err(|error| cannot_follow(host, &error))? {
            show.event(&context, &event);
        }
    }
}

fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(Code::System, format!("{} cannot be read", path.display())).caused_by(error).unchanged()
}

/// How events are shown.
#[derive(Default)]
struct Show {
    is_json: bool,
    /// All of it is of one container.
    is_of_one: bool,
    /// The operation that was shown last, and when it began.
    began: Option<(String, Timestamp)>,
    /// Its steps so far.
    steps: BTreeSet<String>,
}

impl Show {
    fn event(&mut self, context: &Context, event: &Event) {
        if self.is_json {
            let mut document = json!(event);
            if let (Some(document), Some(context)) = (document.as_object_mut(), json!(context).as_object()) {
                // What the event says itself of the container is the same.
                document.extend(context.iter().map(|(key, value)| (key.clone(), value.clone())));
            }
            output::line(&document.to_string());
        } else if self.is_of_one {
            self.line_of_one(context, event);
        } else if let Some(words) = words(event) {
            // What scripts write is for `log`: here it would drown the rest.
            if matches!(event.what, What::Script { .. } | What::Progress { .. } | What::LeftOut { .. }) {
                return;
            }
            let name = if context.name.is_empty() { &context.container } else { &context.name };
            output::line(&format!(
                "{} {name} {}: {}",
                local(event.at),
                context.operation,
                one_line(&words, event)
            ));
        }
    }

    /// Under a line with the date, each with the seconds since that.
    fn line_of_one(&mut self, context: &Context, event: &Event) {
        if matches!(event.what, What::Begin { .. }) {
            self.began = Some((context.log.clone(), event.at));
            self.steps.clear();
            output::line(&format!("{} {}", local(event.at), words(event).unwrap_or_default()));
            return;
        }
        let began = match &self.began {
            Some((log, began)) if *log == context.log => *began,
            _ => event.at,
        };
        let after = event.at.as_millisecond() - began.as_millisecond();
        let text = if let What::Step { step, text } = &event.what {
            self.steps.insert(step.clone());
            format!("{step:<9} {text}")
        } else if let What::Revert { step } = &event.what {
            // Each is, also those that it never came to.
            if !self.steps.contains(step) {
                return;
            }
            format!("{step:<9} is put back")
        } else if let Some(words) = words(event) {
            words
        } else {
            return;
        };
        let text = text.trim_end().replace('\n', "\n             ");
        output::line(&format!("  {:>+9.3}  {text}", after as f64 / 1e3));
    }
}

fn one_line(words: &str, event: &Event) -> String {
    let words = words.replace('\n', "; ");
    if let What::Begin { operation, .. } = &event.what
        && let Some(command) = words.strip_prefix(&format!("{operation}: "))
    {
        return format!("began: {command}");
    }
    words
}

fn local(at: Timestamp) -> String {
    at.to_zoned(jiff::tz::TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// A moment, or how long ago it was.
fn parse_since(text: &str, now: Timestamp) -> Result<Timestamp> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(at);
    }
    let zone = jiff::tz::TimeZone::system();
    if let Ok(at) = text.parse::<jiff::civil::DateTime>().and_then(|at| at.to_zoned(zone.clone())) {
        return Ok(at.timestamp());
    }
    let ago = |span: Span| now.to_zoned(zone.clone()).checked_sub(span.abs()).map(|at: Zoned| at.timestamp());
    text.parse::<Span>().and_then(ago).map_err(|error| {
        Failure::new(Code::BadValue, format!("`{}` is no time", tree::escaped(text.as_bytes())))
            .caused_by(&error)
            .unchanged()
            .hint("write how long ago, `2h` or `3 days`, or when, `2026-11-22` or `2026-11-22T03:00`")
    })
}
