//! How an operation goes, told on stderr: a line a step as it begins, scripts' output with the script's name, JSON lines with `--json`; drawn where there is a terminal.

use engine::event::{Event, What};
use engine::{Failure, Observer};

use crate::event_words::words;
use crate::output;

/// Tells of events as they come.
#[derive(Debug)]
pub struct Progress {
    is_json: bool,
}

impl Progress {
    /// For a command with or without `--json`.
    pub fn new(is_json: bool) -> Progress {
        Progress { is_json }
    }

    fn end_with(&self, failure: &Failure) -> std::io::Result<()> {
        // What is ignored, as under nohup(1), stays ignored.
        let heeded = engine::real::ENDING_SIGNALS.into_iter().filter(|&signal| !linux::is_ignored(signal));
        let mut to = 2;
        let words: Vec<(i32, String)> = heeded
            .map(|signal| {
                let failure = Failure { code: engine::Code::Interrupted(signal), ..failure.clone() };
                let (words, descriptor) = output::last_words(&failure, self.is_json);
                to = descriptor;
                (signal, words)
            })
            .collect();
        linux::end_at(&words, to)
    }
}

impl Observer for Progress {
    fn event(&mut self, event: &Event) {
        if self.is_json {
            output::note(&serde_json::to_string(event).unwrap_or_default());
            return;
        }
        // Its end is told by what comes after it, an error or the closing line.
        if matches!(
            event.what,
            What::Begin { .. } | What::End { .. } | What::ScriptEnd { .. } | What::Failed { .. }
        ) {
            return;
        }
        let Some(words) = words(event) else { return };
        if matches!(event.what, What::Step { .. }) {
            output::step(&words);
        } else if matches!(event.what, What::Progress { .. }) {
            output::progress(&words);
        } else {
            output::note(&words);
        }
    }

    fn interrupted(&mut self, event: &Event, again: &Failure) {
        // Before it is told: whoever reads that may send the second one at once.
        let again = self.end_with(again);
        self.event(event);
        if let Err(error) = again {
            let text = format!("a second signal would not be heard: {error}");
            self.event(&Event::now(What::Warning { text }));
        }
    }

    fn last_words(&mut self, failure: &Failure) {
        // Without them the signal ends the process just the same.
        let _ = self.end_with(failure);
    }
}
