//! What a script writes while it runs, and how it ends: told line by line, and the last lines again in the error.

use std::collections::VecDeque;
use std::time::Instant;

use linux::Exit;

use crate::error::Failure;
use crate::event::What;
use crate::host::Host;

/// So many lines stand in an error.
const LINES: usize = 20;
/// And so much of each.
const LINE: usize = 500;

/// A script that runs.
#[derive(Debug)]
pub struct ScriptOutput<'h> {
    host: &'h Host,
    /// It is in the log alone.
    is_quiet: bool,
    name: String,
    began: Instant,
    last: VecDeque<String>,
}

impl<'h> ScriptOutput<'h> {
    /// Of one that is about to run.
    pub fn new(host: &'h Host, name: &str) -> ScriptOutput<'h> {
        let began = Instant::now();
        ScriptOutput { host, is_quiet: false, name: name.to_owned(), began, last: VecDeque::new() }
    }

    /// Of one that may be run many times until it is content: only the log has all of it.
    pub fn quiet(host: &'h Host, name: &str) -> ScriptOutput<'h> {
        ScriptOutput { is_quiet: true, ..ScriptOutput::new(host, name) }
    }

    fn tell(&self, what: What) {
        if self.is_quiet { self.host.record(what) } else { self.host.tell(what) }
    }

    /// Tells of a line.
    pub fn line(&mut self, line: &[u8]) {
        self.tell(What::Script { script: self.name.clone(), line: tree::escaped(line) });
        if line.trim_ascii().is_empty() {
            return;
        }
        if self.last.len() == LINES {
            self.last.pop_front();
        }
        self.last.push_back(tree::escaped(&line[..line.len().min(LINE)]));
    }

    /// Tells that it has ended; returns how, in words. `None`: it was killed when `limit` seconds were over.
    pub fn ended(&self, exit: Option<Exit>, limit: u64) -> String {
        let outcome = match exit {
            Some(Exit::Code(code)) => format!("exited with {code}"),
            Some(Exit::Signal(signal)) => format!("was killed by signal {signal}"),
            None => format!("did not end within {limit} s and was killed"),
        };
        let ms = self.began.elapsed().as_millis() as u64;
        self.tell(What::ScriptEnd { script: self.name.clone(), outcome: outcome.clone(), ms });
        outcome
    }

    /// Adds the last lines to an error.
    pub fn explain(&self, failure: Failure) -> Failure {
        if self.last.is_empty() {
            return failure;
        }
        let lines: Vec<&str> = self.last.iter().map(String::as_str).collect();
        failure.because(lines.join("\n"))
    }
}
