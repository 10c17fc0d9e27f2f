//! What an operation tells while it goes: a line of its log, a line of `--json` on stderr, a line for people. The schema is in
//! `docs/format/events.md`.

use jiff::Timestamp;
use runtime::monitor::Killed;
use serde::{Deserialize, Serialize, Serializer};
use store::ContainerId;

use crate::error::Failure;
use crate::operation::report::Report;

/// Something that happened, and when.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// To the millisecond.
    #[serde(serialize_with = "to_the_millisecond")]
    pub at: Timestamp,
    /// What.
    #[serde(flatten)]
    pub what: What,
}

/// What can happen in an operation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum What {
    /// It begins: the first line of every log.
    Begin {
        /// `reinstall`, `switch`, `start` and the like.
        operation: String,
        /// The container.
        container: ContainerId,
        /// Its name then.
        name: String,
        /// The command line.
        command: String,
        /// The process.
        pid: u32,
        /// Set when it brings to an end what another process has left under way: since when that was.
        #[serde(
            default,
            skip_serializing_if = "Option::is_none",
            serialize_with = "to_the_millisecond_if_any"
        )]
        recovers: Option<Timestamp>,
    },
    /// A step begins, or goes on to its next part.
    Step {
        /// Its name.
        step: String,
        /// For people; empty: not worth a line.
        text: String,
    },
    /// How far a step is in which bytes flow.
    Progress {
        /// Its name.
        step: String,
        /// Files, directories and all else so far.
        entries: u64,
        /// So far.
        bytes: u64,
        /// Of what is read, where its length is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        percent: Option<u8>,
        /// At the present pace, rounded up.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seconds_left: Option<u64>,
    },
    /// A script has written a line, of which nothing can control a terminal any more.
    Script {
        /// Its name.
        script: String,
        /// The line.
        line: String,
    },
    /// Lines of scripts that were left out of the log, in this place.
    LeftOut {
        /// How many.
        lines: u64,
    },
    /// A script has ended.
    ScriptEnd {
        /// Its name.
        script: String,
        /// How: `exited with 0`, `was killed by signal 9` and the like.
        outcome: String,
        /// How long it ran.
        ms: u64,
    },
    /// Something is not as it should be, but no reason to stop.
    Warning {
        /// For people.
        text: String,
    },
    /// Something worth knowing that is as it should be.
    Note {
        /// For people.
        text: String,
    },
    /// A signal asks the process to end.
    Interrupted {
        /// What is done about it.
        text: String,
    },
    /// A step has failed; what follows is that everything is put back.
    Failed {
        /// Its name.
        step: String,
        /// Why.
        text: String,
    },
    /// A step is put back.
    Revert {
        /// Its name.
        step: String,
    },
    /// The kernel has killed processes of the container for want of memory.
    OutOfMemory {
        /// How many.
        kills: u64,
        /// The last of them, as far as it is known which they were.
        processes: Vec<Killed>,
    },
    /// What a reinstall has come to; the last one of a log counts.
    Report(Box<Report>),
    /// It is at its end: the last line, unless the process was killed.
    End {
        /// What it came to.
        result: Ended,
        /// How long it took.
        ms: u64,
        /// After the commit, what the next command is to make up for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        unfinished: Option<String>,
        /// Why it failed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<ErrorWords>,
    },
}

/// What an operation came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ended {
    /// It has happened.
    Done,
    /// It has not.
    Failed,
    /// A recovery found that it had not happened, and has put everything back.
    Undone,
}

impl Ended {
    /// The word of `--json`.
    pub fn word(self) -> &'static str {
        match self {
            Ended::Done => "done",
            Ended::Failed => "failed",
            Ended::Undone => "undone",
        }
    }
}

/// The four lines of a failure, as `error` in a JSON document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorWords {
    /// A stable word.
    pub code: String,
    /// What the command exits with.
    pub exit: u8,
    /// What could not be done.
    pub what: String,
    /// Why, the nearest cause last.
    pub because: Vec<String>,
    /// In which state things are.
    pub state: Option<String>,
    /// What to type.
    pub hint: Option<String>,
}

impl From<&Failure> for ErrorWords {
    fn from(failure: &Failure) -> ErrorWords {
        ErrorWords {
            code: failure.code.word().to_owned(),
            exit: failure.code.exit(),
            what: failure.what.clone(),
            because: failure.because.clone(),
            state: failure.state.clone(),
            hint: failure.hint.clone(),
        }
    }
}

/// Of one length, so that times can be compared as text.
fn to_the_millisecond<S: Serializer>(at: &Timestamp, to: S) -> Result<S::Ok, S::Error> {
    // Not strftime(3)'s `%Y`: a year before 0 it writes so that nobody reads it.
    to.collect_str(&format_args!("{at:.3}"))
}

fn to_the_millisecond_if_any<S: Serializer>(at: &Option<Timestamp>, to: S) -> Result<S::Ok, S::Error> {
    match at {
        Some(at) => to_the_millisecond(at, to),
        None => to.serialize_none(),
    }
}

impl Event {
    /// Of now.
    pub fn now(what: What) -> Event {
        let now = Timestamp::now();
        Event { at: Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now), what }
    }
}

impl From<What> for Event {
    fn from(what: What) -> Event {
        Event::now(what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_written_to_the_millisecond_and_read_back_whatever_the_year() {
        for (at, written) in [
            ("2026-11-22T20:15:03.123999Z", "2026-11-22T20:15:03.123Z"),
            ("2026-11-22T20:15:03Z", "2026-11-22T20:15:03.000Z"),
            ("1969-12-31T23:59:59.9999Z", "1969-12-31T23:59:59.999Z"),
            ("-009999-01-02T01:59:59Z", "-009999-01-02T01:59:59.000Z"),
        ] {
            let event = Event { at: at.parse().unwrap(), what: What::Note { text: "x".to_owned() } };
            let line = serde_json::to_string(&event).unwrap();
            assert_eq!(line, format!(r#"{{"at":"{written}","event":"note","text":"x"}}"#));
            assert!(serde_json::from_str::<Event>(&line).is_ok(), "{line}");
        }
    }
}
