//! What the logs of operations say.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use rustix::fs::OFlags;
use serde::Serialize;
use store::{Area, ContainerId, GenerationState, Prefix};

use super::{directory, directory_of};
use crate::event::{Ended, Event, What};
use crate::operation::report::Report;

/// Of so many earlier operations it is told how long they took.
const REMEMBERED: usize = 5;
/// A line of a script is shorter, and so is a report.
const LONGEST_LINE: usize = 16 * 1024 * 1024;

/// When the operation of a log began, and, if it brings another to an end, when that did.
pub fn begun(path: &Path) -> Option<(Timestamp, Option<Timestamp>)> {
    let mut head = Vec::new();
    LogReader::open(path).ok()?.file.take(64 * 1024).read_to_end(&mut head).ok()?;
    let event = serde_json::from_slice::<Event>(head.split(|&byte| byte == b'\n').next()?).ok()?;
    let What::Begin { recovers, .. } = event.what else { return None };
    Some((event.at, recovers))
}

/// The names of the logs in a directory, the oldest first.
pub fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.ends_with(".jsonl"))
        .collect();
    names.sort_unstable();
    names
}

/// The logs of a container, the oldest first.
pub fn logs(prefix: &Prefix, id: &ContainerId) -> Vec<PathBuf> {
    let directory = directory_of(prefix, id);
    names(&directory).into_iter().map(|name| directory.join(name)).collect()
}

/// The logs of all containers that were written to since then, the oldest first.
pub fn logs_since(prefix: &Prefix, since: Timestamp) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(directory(prefix)).into_iter().flatten().flatten() {
        for name in names(&entry.path()) {
            let path = entry.path().join(name);
            let modified = std::fs::metadata(&path).and_then(|found| found.modified()).ok();
            if modified.and_then(|time| Timestamp::try_from(time).ok()).is_some_and(|time| time >= since) {
                all.push(path);
            }
        }
    }
    all.sort_by(|one, other| one.file_name().cmp(&other.file_name()));
    all
}

/// Which operation an event is of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Context {
    /// `20261122T201503.123Z-reinstall`: unique for a container.
    pub log: String,
    /// The container.
    pub container: String,
    /// Its name then; empty: nobody knows.
    pub name: String,
    /// `reinstall`, `start` and the like; empty: nobody knows.
    pub operation: String,
}

/// The events of whole lines of a log. What is none is passed over. Public for `fuzzing`.
#[doc(hidden)]
pub fn events_in(lines: &[u8]) -> impl Iterator<Item = Event> {
    lines.split(|&byte| byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok())
}

/// Reads a log from its beginning, also while it is being written.
#[derive(Debug)]
pub struct LogReader {
    file: File,
    /// A line that is not at its end yet.
    rest: Vec<u8>,
    context: Context,
}

impl LogReader {
    /// Opens a log.
    ///
    /// # Errors
    /// When it is gone.
    pub fn open(path: &Path) -> std::io::Result<LogReader> {
        let part = |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
        let context = Context {
            log: part(path.file_stem()),
            container: part(path.parent().and_then(Path::file_name)),
            name: String::new(),
            operation: String::new(),
        };
        // What else lies there, a pipe say, is nobody's log.
        let file =
            File::options().read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(path)?;
        if !file.metadata()?.is_file() {
            return Err(std::io::ErrorKind::InvalidInput.into());
        }
        Ok(LogReader { file, rest: Vec::new(), context })
    }

    /// Which operation it is; known from its first event on.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// What has been added since the last time. What is no event is passed over.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn next_events(&mut self) -> std::io::Result<Vec<Event>> {
        let mut events = Vec::new();
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let count = self.file.read(&mut buffer)?;
            if count == 0 {
                return Ok(events);
            }
            self.rest.extend_from_slice(&buffer[..count]);
            let rest = std::mem::take(&mut self.rest);
            let whole = rest.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
            self.rest = rest[whole..].to_vec();
            for event in events_in(&rest[..whole]) {
                if let What::Begin { operation, name, .. } = &event.what {
                    self.context.operation.clone_from(operation);
                    self.context.name.clone_from(name);
                }
                events.push(event);
            }
            if self.rest.len() > LONGEST_LINE {
                self.rest.clear();
            }
        }
    }

    /// Passes over all but the last so many bytes, of a log that is only asked how it ended.
    fn pass_over_all_but(&mut self, bytes: u64) -> std::io::Result<()> {
        let length = self.file.metadata()?.len();
        if length > bytes {
            self.file.seek(SeekFrom::Start(length - bytes))?;
        }
        Ok(())
    }
}

/// How long the last operations of this kind on this container have taken that came to their end, the newest first.
pub fn durations(prefix: &Prefix, id: &ContainerId, operation: &str) -> Vec<Duration> {
    let suffix = format!("-{operation}.jsonl");
    let logs = logs(prefix, id).into_iter().rev();
    let logs = logs.filter(|path| path.to_string_lossy().ends_with(&suffix));
    logs.filter_map(|path| taken(&path)).take(REMEMBERED).collect()
}

/// Of an operation that was done, and not by a recovery.
fn taken(path: &Path) -> Option<Duration> {
    let mut reader = LogReader::open(path).ok()?;
    reader.pass_over_all_but(64 * 1024).ok()?;
    let What::End { result: Ended::Done, ms, .. } = reader.next_events().ok()?.pop()?.what else {
        return None;
    };
    (!is_recovery(path)).then(|| Duration::from_millis(ms))
}

fn is_recovery(path: &Path) -> bool {
    begun(path).is_some_and(|(_, recovers)| recovers.is_some())
}

/// The container's records say that its new root was taken.
fn is_accepted(prefix: &Prefix, id: &ContainerId, report: &Report) -> bool {
    Area::open(prefix, id).is_ok_and(|area| {
        area.live().is_ok_and(|live| live == report.new)
            || area.generation(report.new).is_ok_and(|record| record.state == GenerationState::Kept)
    })
}

/// What the last reinstall came to that was done.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Reported {
    /// When it began.
    pub began: Timestamp,
    /// When it had ended; `None`: its command was killed, and a recovery found it done.
    pub ended: Option<Timestamp>,
    /// What it came to.
    #[serde(flatten)]
    pub report: Report,
}

/// The report of the newest reinstall that has happened: one whose log says so, or the log of a recovery of it.
pub fn last_report(prefix: &Prefix, id: &ContainerId) -> Option<Reported> {
    let mut recovered: Vec<Timestamp> = Vec::new();
    for path in logs(prefix, id).into_iter().rev() {
        if !path.to_string_lossy().contains("-reinstall") {
            continue;
        }
        let Ok(events) = LogReader::open(&path).and_then(|mut log| log.next_events()) else { continue };
        let Some(began) = events.first().cloned() else { continue };
        let end = events.iter().rev().find_map(|event| {
            if let What::End { result, .. } = event.what { Some((event.at, result)) } else { None }
        });
        if let What::Begin { recovers: Some(since), .. } = began.what {
            if end.is_some_and(|(_, result)| result == Ended::Done) {
                recovered.push(since);
            }
            continue;
        }
        let report = events
            .into_iter()
            .rev()
            .find_map(|event| if let What::Report(report) = event.what { Some(*report) } else { None });
        let is_done = |report: &Report| match end {
            Some((_, result)) => result == Ended::Done,
            // Killed: at its very end, perhaps, so that nobody had anything to recover.
            None => recovered.contains(&began.at) || is_accepted(prefix, id, report),
        };
        if let Some(report) = report.filter(is_done) {
            return Some(Reported { began: began.at, ended: end.map(|(at, _)| at), report });
        }
    }
    None
}
