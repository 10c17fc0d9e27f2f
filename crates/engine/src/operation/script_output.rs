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
    name: String,
    began: Instant,
    last: VecDeque<String>,
}

impl<'h> ScriptOutput<'h> {
    /// Of one that is about to run.
    pub fn new(host: &'h Host, name: &str) -> ScriptOutput<'h> {
        ScriptOutput { host, name: name.to_owned(), began: Instant::now(), last: VecDeque::new() }
    }

    /// Tells of a line.
    pub fn line(&mut self, line: &[u8]) {
        self.host.script_line(&self.name, line);
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
        self.host.tell(What::ScriptEnd { script: self.name.clone(), outcome: outcome.clone(), ms });
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
