//! How an operation goes, told on stderr: a line a step as it begins, scripts' output with the script's name, JSON lines with `--json`.
//!
//! No spinner: it would want a thread, and this program forks, which wants one thread only.

use std::time::Instant;

use engine::{Failure, Observer};
use serde_json::{Value, json};

use crate::output;

/// Tells of steps as they come.
#[derive(Debug)]
pub struct Progress {
    is_json: bool,
    began: Instant,
}

impl Progress {
    /// For a command with or without `--json`.
    pub fn new(is_json: bool) -> Progress {
        Progress { is_json, began: Instant::now() }
    }

    fn tell(&self, text: &str, event: Value) {
        if self.is_json {
            let mut event = event;
            event["ms"] = json!(self.began.elapsed().as_millis() as u64);
            output::note(&event.to_string());
        } else if !text.is_empty() {
            output::note(text);
        }
    }
}

impl Observer for Progress {
    fn step(&mut self, name: &str, text: &str) {
        self.tell(text, json!({ "event": "step", "step": name, "text": text }));
    }

    fn script_line(&mut self, script: &str, line: &[u8]) {
        let text = tree::escaped(line);
        self.tell(&format!("{script}: {text}"), json!({ "event": "script", "script": script, "line": text }));
    }

    fn warning(&mut self, text: &str) {
        self.tell(&format!("warning: {text}"), json!({ "event": "warning", "text": text }));
    }

    fn note(&mut self, text: &str) {
        self.tell(text, json!({ "event": "note", "text": text }));
    }

    fn interrupted(&mut self, text: &str, again: &Failure) {
        // Before it is told: whoever reads that may send the second one at once.
        let again = self.end_with(again);
        self.tell(text, json!({ "event": "interrupted", "text": text }));
        if let Err(error) = again {
            self.warning(&format!("a second signal would not be heard: {error}"));
        }
    }

    fn last_words(&mut self, failure: &Failure) {
        // Without them the signal ends the process just the same.
        let _ = self.end_with(failure);
    }
}

impl Progress {
    fn end_with(&self, failure: &Failure) -> std::io::Result<()> {
        // What is ignored, as under nohup(1), stays ignored.
        let heeded = engine::real::ENDING_SIGNALS.into_iter().filter(|&signal| !linux::is_ignored(signal));
        let mut to = 2;
        let words: Vec<(i32, String)> = heeded
            .map(|signal| {
                let failure = Failure { code: engine::Code::Interrupted(signal), ..failure.clone() };
                let (words, descriptor) = output::failure_text(&failure, self.is_json);
                to = descriptor;
                (signal, words)
            })
            .collect();
        linux::end_at(&words, to)
    }
}
