//! One command for many containers, in groups, each container by a process of its own: what one of them comes to is no other's business.

use std::ffi::OsString;

use engine::recover::name_of;
use engine::{Code, Failure, Host, Result};
use serde_json::{Value, json};
use store::ContainerId;

use crate::crew::{self, Event};
use linux::Exit;

/// The key in `vz.conf` for how many are worked on at once; as in OpenVZ without it four times the processors.
const PARALLEL: &str = "VE_PARALLEL";
const FOR_EACH_PROCESSOR: usize = 4;
/// More at once are no help to any host.
const MOST: usize = 4096;

/// One that has failed.
#[derive(Debug)]
pub struct Failed {
    /// Its name.
    pub name: String,
    /// As the command itself exits.
    pub code: u8,
    /// As it tells it with `--json`.
    pub error: Value,
}

/// What came of all of them.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Those that it has worked for.
    pub done: Vec<ContainerId>,
    /// Those that it has not.
    pub failed: Vec<Failed>,
    /// The signal that has ended it before all had begun.
    pub signal: Option<i32>,
}

impl Outcome {
    /// How the names of those that have failed are told.
    pub fn names(&self) -> String {
        self.failed.iter().map(|failed| failed.name.as_str()).collect::<Vec<_>>().join(", ")
    }
}

/// Runs `words` for each container, asked for when it begins, group after group, of one group so many at once as `VE_PARALLEL` says. Errors are told as they come.
///
/// # Errors
/// When no processes can be started or waited for.
pub fn run(
    host: &Host,
    groups: &[Vec<ContainerId>],
    words: &mut dyn FnMut(&ContainerId) -> Vec<OsString>,
) -> Result<Outcome> {
    let parallel = parallel(host);
    let mut outcome = Outcome::default();
    for group in groups {
        let result = crew::run(group.len(), parallel, &mut |index| words(&group[index]), &mut |event| {
            match event {
                Event::Line(index, line) => {
                    let event = serde_json::from_slice::<Value>(line).unwrap_or_default();
                    if event["event"] == "warning"
                        && let Some(text) = event["text"].as_str()
                    {
                        host.warning(&format!("{}: {text}", name_of(host, &group[index])));
                    }
                }
                Event::Ends(ended) => {
                    let id = group[ended.index];
                    if let Ok(Exit::Code(0)) = ended.exit {
                        outcome.done.push(id);
                    } else {
                        outcome.failed.push(failed(host, id, ended));
                    }
                }
                Event::Signal { number, is_first, under_way } => {
                    host.warning(&crew::said_of_signal(number, is_first, under_way));
                }
                Event::Begins(_) => {}
            }
            true
        });
        outcome.signal = result.map_err(|error| {
            Failure::new(Code::System, "cannot work on several containers at once").caused_by(&error)
        })?;
        if outcome.signal.is_some() {
            break;
        }
    }
    Ok(outcome)
}

fn failed(host: &Host, id: ContainerId, ended: &crew::Ended) -> Failed {
    let name = name_of(host, &id);
    let document = serde_json::from_slice::<Value>(&ended.stdout).unwrap_or_default();
    let code = match ended.exit {
        Ok(Exit::Code(code)) => u8::try_from(code).unwrap_or(Code::System.exit()),
        Ok(Exit::Signal(_)) | Err(_) => Code::System.exit(),
    };
    let error = if document["error"].is_null() {
        json!({ "what": format!("nothing was heard of `{name}`"), "because": [format!("{:?}", ended.exit)] })
    } else {
        document["error"].clone()
    };
    if let Some(what) = error["what"].as_str() {
        let because: Vec<&str> =
            error["because"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        host.warning(&format!(
            "{}: {}",
            tree::escaped(what.as_bytes()),
            tree::escaped(because.join(": ").as_bytes())
        ));
    }
    Failed { name, code, error }
}

fn parallel(host: &Host) -> usize {
    let usual = || std::thread::available_parallelism().map_or(1, usize::from) * FOR_EACH_PROCESSOR;
    let Some(said) = host.configuration().ok().and_then(|conf| conf.get(PARALLEL)) else { return usual() };
    match said.trim().parse() {
        Ok(count @ 1..=MOST) => count,
        _ => {
            host.warning(&format!(
                "{PARALLEL} of vz.conf: `{}` is no number from 1 to {MOST}: {} at once.",
                tree::escaped(said.trim().as_bytes()),
                usual()
            ));
            usual()
        }
    }
}
