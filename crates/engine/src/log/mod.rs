//! The logs of operations: one file each, a JSON object a line, `/var/log/vz/operations/<uuid>/<time>-<operation>.jsonl`.
//!
//! They are for people and programs to read, and nothing is decided by them: an operation whose log cannot be written goes on.
//!
//! ```text
//! write    one that is being written, of bounded size
//! read     those that there are: events, how long operations took, reports
//! follow   waits for the next events
//! out_of_memory  what no operation tells: what was killed in a container for want of memory
//! ```

pub mod follow;
pub mod out_of_memory;
pub mod read;
mod write;

use std::path::PathBuf;
use std::time::Instant;

use jiff::Timestamp;
use store::{ContainerId, Prefix};

pub use write::{OperationLog, remove_of_deleted};

use crate::error::Failure;
use crate::event::{Ended, ErrorWords, Event, What};
use crate::host::Host;

/// Where the logs of all containers are.
pub fn directory(prefix: &Prefix) -> PathBuf {
    prefix.log_dir().join("operations")
}

/// Where the logs of a container are.
pub fn directory_of(prefix: &Prefix, id: &ContainerId) -> PathBuf {
    directory(prefix).join(id.to_string())
}

/// Everything that a host is told until it is dropped goes into one log.
#[derive(Debug)]
#[must_use = "the log is closed when this is dropped"]
pub struct Recording<'h> {
    host: &'h Host,
    /// As its first line says.
    at: Timestamp,
    began: Instant,
    /// It is part of another operation, whose log it goes to.
    is_part: bool,
}

impl Host {
    /// Tells the observer, and the log if there is one.
    pub fn tell(&self, what: What) {
        self.tell_event(&Event::now(what));
    }

    fn tell_event(&self, event: &Event) {
        self.keep_in_log(event);
        self.observer.borrow_mut().event(event);
    }

    /// For the log alone: what nobody needs to be told at once.
    pub fn record(&self, what: What) {
        self.keep_in_log(&Event::now(what));
    }

    pub(crate) fn keep_in_log(&self, event: &Event) {
        if let Some(log) = self.log.borrow_mut().as_mut() {
            log.write(event);
        }
    }

    /// Opens the log of an operation; `recovers`: one that another process began then.
    pub fn recording(
        &self,
        id: &ContainerId,
        name: &str,
        operation: &str,
        recovers: Option<Timestamp>,
    ) -> Recording<'_> {
        let is_part = self.log.borrow().is_some();
        let begin = Event::now(What::Begin {
            operation: operation.to_owned(),
            container: *id,
            name: name.to_owned(),
            command: self.command.clone(),
            pid: std::process::id(),
            recovers,
        });
        if !is_part {
            let log = OperationLog::open(&self.prefix, id, operation);
            let is_lost = log.is_lost();
            *self.log.borrow_mut() = Some(log);
            self.tell_event(&begin);
            if is_lost {
                let directory = directory_of(&self.prefix, id);
                self.warning(&format!("no log of this can be written in {}", directory.display()));
            }
        }
        Recording { host: self, at: begin.at, began: Instant::now(), is_part }
    }
}

impl Recording<'_> {
    /// When it began.
    pub fn at(&self) -> Timestamp {
        self.at
    }

    /// The operation is at its end.
    pub fn end(self, result: Ended, unfinished: Option<String>, failure: Option<&Failure>) {
        if !self.is_part {
            let ms = self.began.elapsed().as_millis() as u64;
            self.host.tell(What::End { result, ms, unfinished, error: failure.map(ErrorWords::from) });
        }
    }

    /// As [`Recording::end`], for what has no journal.
    pub fn end_with<T>(self, result: &crate::Result<T>) {
        match result {
            Ok(_) => self.end(Ended::Done, None, None),
            Err(failure) => self.end(Ended::Failed, None, Some(failure)),
        }
    }
}

impl Drop for Recording<'_> {
    fn drop(&mut self) {
        if !self.is_part {
            *self.host.log.borrow_mut() = None;
        }
    }
}
