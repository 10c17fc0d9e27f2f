//! What `prlctl reinstall --dry-run` tells: the steps, what would be run with which arguments, what is kept, what it needs, and how long it has taken
//! before. Nothing of it changes anything.

use std::os::fd::AsFd;

use serde::Serialize;

use super::build::arguments_of_script;
use super::change::{Change, Making, template_name};
use super::password;
use crate::error::{Result, system};
use crate::host::Container;
use crate::keep::said;
use crate::log::read::durations;
use crate::retention::KEY;
use crate::space;
use crate::words::in_words;

/// A plan in words and figures.
#[derive(Debug, Serialize)]
pub struct Explained {
    /// In the order in which they are taken; a step may have several.
    pub steps: Vec<ExplainedStep>,
    /// In the order in which they are run.
    pub scripts: Vec<ExplainedScript>,
    /// The container runs, and will be stopped: since when it does.
    pub running_since: Option<jiff::Timestamp>,
    /// What is written before any script writes something.
    pub needs_bytes: u64,
    /// As many files and directories.
    pub needs_inodes: u64,
    /// What there is.
    pub free_bytes: u64,
    /// What there is; `None`: the filesystem makes them as it needs them.
    pub free_inodes: Option<u64>,
    /// Which old roots are deleted in the end, since they are kept no longer.
    pub expires: Vec<ExplainedRoot>,
    /// How long the last such reinstalls of this container have taken, the newest first.
    pub last_ms: Vec<u64>,
}

/// A step in words.
#[derive(Debug, Serialize)]
pub struct ExplainedStep {
    /// Its name.
    pub step: &'static str,
    /// What it does.
    pub text: String,
}

/// A root that would go.
#[derive(Debug, Serialize)]
pub struct ExplainedRoot {
    /// Its number.
    pub number: store::GenerationNumber,
    /// How many files, directories and all else its delta holds; `None`: it cannot be read.
    pub entries: Option<u64>,
    /// The sum of the sizes of its regular files.
    pub bytes: Option<u64>,
}

/// A script that would be run.
#[derive(Debug, Serialize)]
pub struct ExplainedScript {
    /// `host` or `container`.
    pub runs_in: &'static str,
    /// The file, and its arguments.
    pub command: Vec<String>,
    /// What its environment tells it.
    pub environment: Vec<String>,
}

impl Explained {
    /// For people, a name and a text each.
    pub fn lines(&self) -> Vec<(&'static str, String)> {
        let mut lines: Vec<(&'static str, String)> =
            self.steps.iter().map(|step| (step.step, step.text.clone())).collect();
        for script in &self.scripts {
            let environment = script.environment.join(" ");
            lines.push((
                "script",
                format!("in the {}: {environment} {}", script.runs_in, script.command.join(" ")),
            ));
        }
        let inodes = match self.free_inodes {
            Some(free) => format!("{free} inodes"),
            None => "as many inodes as wanted".to_owned(),
        };
        lines.push((
            "needs",
            format!(
                "{} and {} inodes, and what scripts write; there are {} and {inodes}",
                in_words(self.needs_bytes),
                self.needs_inodes,
                in_words(self.free_bytes)
            ),
        ));
        for root in &self.expires {
            let size = match (root.entries, root.bytes) {
                (Some(entries), Some(bytes)) => format!("{entries} entries, {}", in_words(bytes)),
                _ => "of unknown size".to_owned(),
            };
            lines.push(("expires", format!("generation {} is deleted ({size}): {KEY}", root.number)));
        }
        if !self.last_ms.is_empty() {
            let last: Vec<String> =
                self.last_ms.iter().map(|ms| format!("{:.1} s", *ms as f64 / 1e3)).collect();
            lines.push(("took", format!("{}: the last such reinstalls, the newest first", last.join(", "))));
        }
        lines
    }
}

/// Explains a plan that was made a moment ago.
///
/// # Errors
/// When the container's records cannot be read.
pub fn explain(container: &Container<'_>, change: &Change) -> Result<Explained> {
    let is_by_script = change.making.as_ref().is_some_and(|making| making.is_by_script);
    let need = space::needed(is_by_script, change.measured.as_ref());
    let (free_bytes, free_inodes) =
        space::free(container).map_err(|error| system("cannot ask for the free space", &error))?;
    let kind = if is_by_script { "reinstall-by-script" } else { "reinstall" };
    Ok(Explained {
        steps: steps(container, change),
        scripts: scripts(container, change),
        running_since: container.runtime().running(container.id()).map(|run| run.started),
        needs_bytes: need.bytes,
        needs_inodes: need.inodes,
        free_bytes,
        free_inodes,
        expires: change.expires.iter().map(|one| root(container, one.number)).collect(),
        last_ms: durations(&container.host.prefix, container.id(), kind)
            .iter()
            .map(|taken| taken.as_millis() as u64)
            .collect(),
    })
}

fn scripts(container: &Container<'_>, change: &Change) -> Vec<ExplainedScript> {
    let id = container.veid();
    let mut scripts = Vec::new();
    if let Some(script) = &change.scripts.reinstall {
        let arguments = arguments_of_script(container, change.to);
        let arguments = arguments.iter().map(|argument| argument.to_string_lossy().into_owned());
        scripts.push(ExplainedScript {
            runs_in: "host",
            command: std::iter::once(script.path.display().to_string()).chain(arguments).collect(),
            environment: vec![format!("VEID={id}")],
        });
    }
    for script in change.scripts.configure.iter().chain(&change.scripts.extra) {
        scripts.push(ExplainedScript {
            runs_in: "container",
            command: vec![script.path.display().to_string()],
            environment: vec![format!("VEID={id}"), "REINSTALL_DATA_ROOT=/old".to_owned()],
        });
    }
    for script in &change.scripts.old {
        scripts.push(ExplainedScript {
            runs_in: "container",
            command: vec![script.path.display().to_string()],
            environment: vec![format!("VEID={id}"), "REINSTALL_DATA_ROOT=/old".to_owned()],
        });
    }
    scripts
}

fn steps(container: &Container<'_>, change: &Change) -> Vec<ExplainedStep> {
    let Some(making) = &change.making else { return Vec::new() };
    let is_running = container.is_running();
    let mut template = template_name(&making.base).unwrap_or_default();
    if let (true, store::Base::Template { digest, .. }) = (making.is_pinned, &making.base) {
        template += &format!(", pinned to version {}", digest.chars().take(12).collect::<String>());
    }
    let mut steps = vec![("stage", format!("make generation {}", change.to))];
    let stop = (
        "stop",
        if is_running { "stop the container, which runs".to_owned() } else { "it is stopped".to_owned() },
    );
    if making.is_by_script {
        steps.push(stop.clone());
        steps.push(("build", "run vps.reinstall on the host; if it exits with 128: ".to_owned() + &template));
    } else {
        steps.push(("build", format!("from template {template}, in constant time")));
    }
    if !making.is_by_script {
        steps.push(stop);
    }
    let users = if making.carries_users {
        "users, groups and passwords of the old root"
    } else {
        "no users: --resetpwdb"
    };
    steps.push(("carry", password::explain(change, users)));
    if let Some(measured) = &change.measured {
        let how = if measured.shares { "shared with the old root, which takes no room" } else { "copied" };
        for kept in &measured.kept {
            let said = said(&kept.keep, kept.is_only_changed);
            if !kept.not_deleted.is_empty() {
                let count = kept.not_deleted.len();
                let text = format!("in {}, {count} paths that were deleted are not deleted again", kept.keep);
                steps.push(("carry", text));
            }
            if kept.entries == 0 {
                let text = match (kept.missing.is_empty(), kept.is_only_changed) {
                    (true, false) => "a list of packages",
                    (true, true) => "nothing",
                    (false, _) => "nothing of it is there",
                };
                steps.push(("carry", format!("keep {said}: {text}")));
                continue;
            }
            let missing = match kept.missing.len() {
                0 => String::new(),
                count => format!("; {count} of its paths are not there"),
            };
            let text =
                format!("keep {said}: {} entries, {}, {how}{missing}", kept.entries, in_words(kept.bytes));
            steps.push(("carry", text));
        }
    }
    steps.push((
        "probation",
        match (change.is_tried, change.old) {
            (true, Some(old)) => format!("start it with generation {old} at /old, read-only"),
            (true, None) => "start it".to_owned(),
            (false, _) => "none: a stopped container with no script to run is not started".to_owned(),
        },
    ));
    if change.is_tried {
        steps.push(("probation", verdict(making, is_running)));
    }
    if !making.applications.is_empty() {
        steps.push(("configure", format!("install {}: TEMPLATES", making.applications.join(", "))));
    }
    let mut scripts: Vec<&str> = if making.is_configured { vec!["vps.configure"] } else { Vec::new() };
    scripts.extend(making.scripts.iter().chain(&making.old_scripts).map(String::as_str));
    steps.push((
        "configure",
        if scripts.is_empty() {
            "no scripts".to_owned()
        } else {
            format!("run {} in it", scripts.join(", "))
        },
    ));
    // What was found out so far: scripts of the old root that are passed over.
    steps.extend(change.report.iter().map(|told| ("configure", told.clone())));
    steps.push((
        "health",
        match &making.health {
            Some(command) => format!(
                "run `{}` in it until it exits with 0, for up to {} s",
                tree::escaped(command.as_bytes()),
                change.timeout
            ),
            None => "no command".to_owned(),
        },
    ));
    steps.push(("commit", format!("generation {} instead of {} is the root", change.to, change.from)));
    let settle = if let (false, Some(problem)) = (change.discards, problem_of(container, change)) {
        format!(
            "what generation {} has made itself stays at /old; `prlctl reinstall {} --undo` goes back to no more than that: {problem}",
            change.from, container.name
        )
    } else if change.discards {
        let size = delta_size(container, change.from);
        format!("delete generation {} ({size}); what was at /old/old is at /old", change.from)
    } else {
        format!(
            "generation {} stays at /old, whole; `prlctl reinstall {} --undo` goes back",
            change.from, container.name
        )
    };
    steps.push(("settle", settle));
    steps.into_iter().map(|(step, text)| ExplainedStep { step, text }).collect()
}

/// Why the old root is not whole; `None`: it is, as far as a look at it tells.
fn problem_of(container: &Container<'_>, change: &Change) -> Option<String> {
    let record = container.area.generation(change.from).ok()?;
    crate::template::problem_of(&container.host.prefix, &record.base)
}

/// What is asked of a root that is tried out. Of one that a script is yet to build nobody knows whether it has a systemd.
fn verdict(making: &Making, is_running: bool) -> String {
    let running = if making.allows_degraded {
        "its systemd has to be `running` or `degraded`"
    } else if is_running {
        "its systemd has to be `running`, or `degraded` by no other units than the old root's is when it is stopped"
    } else {
        "its systemd has to be `running`"
    };
    match (making.has_machine_id, making.is_by_script) {
        (true, false) => running.to_owned(),
        (_, true) => format!("{running}; without one it has to live and to execute a shell"),
        (false, false) => "it has to live and to execute a shell".to_owned(),
    }
}

fn root(container: &Container<'_>, number: store::GenerationNumber) -> ExplainedRoot {
    let size = size_of_delta(&container.area, number);
    ExplainedRoot { number, entries: size.map(|size| size.entries), bytes: size.map(|size| size.bytes) }
}

/// How much a generation's delta holds, which takes a walk through it; `None`: it cannot be read.
pub fn size_of_delta(area: &store::Area, number: store::GenerationNumber) -> Option<tree::Size> {
    let generation = area.layers_handle(number).ok()?;
    let delta = store::atomic::open_directory_at(generation.as_fd(), "delta").ok()?;
    tree::measure(delta.as_fd()).ok()
}

/// How much a generation's delta holds, in words.
fn delta_size(container: &Container<'_>, number: store::GenerationNumber) -> String {
    match size_of_delta(&container.area, number) {
        Some(size) => format!("{} entries, {} MB", size.entries, size.bytes / 1_000_000),
        None => "of unknown size".to_owned(),
    }
}
