//! One of the containers that a reinstall of several is about: what it is, and what came of it.

use std::time::Duration;

use engine::host::damaged;
use engine::retention::KEY as RETAIN;
use engine::runtime::Life;
use engine::{Code, Failure, Host, Result};
use linux::Exit;
use serde_json::{Value, json};
use store::{Area, ContainerId, TemplateChoice};

use super::super::template::short_choice;
use crate::arguments::Reinstall;
use crate::crew::Ended;
use crate::output;

/// One container, and what became of it.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) id: ContainerId,
    pub(super) name: String,
    pub(super) is_running: bool,
    /// The number of its live root, and what the next one is made from; of one that is damaged neither is known.
    pub(super) live: Option<u32>,
    pub(super) template: Option<String>,
    /// What its configuration says of old roots.
    pub(super) retain: Option<String>,
    pub(super) outcome: Outcome,
}

#[derive(Debug)]
pub(super) enum Outcome {
    NotBegun,
    /// What its command said, or why that said nothing.
    Ended {
        is_done: bool,
        document: Value,
        took: Duration,
    },
}

impl Target {
    pub(super) fn look(host: &Host, id: ContainerId) -> Result<Target> {
        let damaged = |error| damaged(error, &id.to_string());
        let area = Area::open(&host.prefix, &id).map_err(damaged)?;
        let conf = area.conf().map_err(damaged)?;
        Ok(Target {
            id,
            name: area.display_name(),
            is_running: !matches!(host.runtime.life(&id), Life::Stopped),
            live: Some(area.live().map_err(damaged)?.get()),
            template: conf.get("OSTEMPLATE").filter(|name| !name.is_empty()),
            retain: conf
                .get(RETAIN)
                .or_else(|| host.configuration().ok()?.get(RETAIN))
                .filter(|retain| !retain.trim().is_empty()),
            outcome: Outcome::NotBegun,
        })
    }

    /// Also one that is pinned to a version of it.
    pub(super) fn is_based_on(&self, wanted: &TemplateChoice) -> bool {
        let own = self.template.as_ref().and_then(|own| own.parse::<TemplateChoice>().ok());
        own.is_some_and(|own| wanted.means(&own.name, own.version.as_deref().unwrap_or_default()))
    }

    pub(super) fn damaged(id: ContainerId) -> Target {
        let outcome = Outcome::NotBegun;
        Target {
            id,
            name: id.to_string(),
            is_running: false,
            live: None,
            template: None,
            retain: None,
            outcome,
        }
    }

    pub(super) fn plan(&self, arguments: &Reinstall) -> String {
        let state = if self.is_running { "runs, and will be stopped and started" } else { "is stopped" };
        let live = self.live.map_or_else(|| "unknown".to_owned(), |live| live.to_string());
        let template = arguments.ostemplate.as_ref().or(self.template.as_ref());
        let to = match (template, arguments.undo) {
            (_, true) => "goes back to the root before".to_owned(),
            (Some(template), false) => format!("from template {}", short_choice(template)),
            (None, false) => "from no template that is known".to_owned(),
        };
        let mut goes = String::new();
        if arguments.skipbackup {
            goes += "; its old root is DELETED";
        }
        if let Some(retain) = self.retain.as_ref().filter(|_| !arguments.undo) {
            goes += &format!("; REINSTALL_RETAIN=\"{retain}\" deletes older roots");
        }
        format!("{}: {state}; generation {live}; {to}{goes}", self.name)
    }

    pub(super) fn take(&mut self, ended: &Ended) {
        let said = serde_json::from_slice::<Value>(&ended.stdout);
        let is_done = ended.exit.as_ref().is_ok_and(|exit| exit.is_success());
        let document = match (said, &ended.exit) {
            (Ok(document), _) => document,
            (Err(_), exit) => {
                let because = match exit {
                    Ok(Exit::Signal(signal)) => format!("it was ended by signal {signal}"),
                    Ok(Exit::Code(code)) => format!("it exited with {code}, and said nothing"),
                    Err(error) => format!("it could not be run: {error}"),
                };
                let failure = Failure::new(Code::System, format!("cannot reinstall `{}`", self.name))
                    .because(because)
                    .hint(format!("`prlctl recover {}` brings to an end what was under way", self.name));
                json!({ "error": output::failure_value(&failure) })
            }
        };
        self.outcome = Outcome::Ended { is_done, document, took: ended.took };
    }

    pub(super) fn result(&self) -> &str {
        match &self.outcome {
            Outcome::NotBegun => "not begun",
            Outcome::Ended { is_done: false, .. } => "failed",
            Outcome::Ended { document, .. } => document["result"].as_str().unwrap_or("done"),
        }
    }

    pub(super) fn has_failed(&self) -> bool {
        matches!(self.outcome, Outcome::Ended { is_done: false, .. })
    }

    /// The signal was passed on to it.
    pub(super) fn was_interrupted(&self) -> bool {
        matches!(&self.outcome, Outcome::Ended { document, .. } if document["error"]["code"] == "interrupted")
    }

    /// Old and new.
    pub(super) fn generations(&self) -> Option<(u64, u64)> {
        let Outcome::Ended { is_done: true, document, .. } = &self.outcome else { return None };
        let number = |one: &str, other: &str| document[one].as_u64().or_else(|| document[other].as_u64());
        number("old", "from").zip(number("new", "to"))
    }

    /// In one line.
    pub(super) fn error(&self) -> Option<String> {
        let Outcome::Ended { is_done: false, document, .. } = &self.outcome else { return None };
        let error = &document["error"];
        let causes = error["because"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let words: Vec<&str> = error["what"].as_str().into_iter().chain(causes).collect();
        // Its command knew it by its UUID only.
        Some(words.join(": ").replace('\n', " ").replace(&self.id.to_string(), &self.name))
    }

    pub(super) fn object(&self) -> Value {
        let (document, took) = match &self.outcome {
            Outcome::NotBegun => (Value::Null, None),
            Outcome::Ended { document, took, .. } => (document.clone(), Some(took.as_millis() as u64)),
        };
        json!({
            "name": self.name,
            "uuid": self.id.to_string(),
            "was_running": self.is_running,
            "template": self.template,
            "result": self.result(),
            "old": self.generations().map(|(old, _)| old),
            "new": self.generations().map(|(_, new)| new),
            "ms": took,
            "document": document,
        })
    }
}
