//! How a command dies, so that its recovery is what the next fault meets.
//!
//! It dies at a fault point of the engine, and nobody who watches it lives to recover it: the points are such that no root is on probation, whose
//! monitor would, and its keeper is killed with it.

use std::fmt;
use std::str::FromStr;

use rustix::process::{Pid, Signal, kill_process};
use testkit::judge::Effect;

use crate::scenario::{Kind, Scenario, Scripts};
use crate::trace::{self, Action, Victim};
use crate::world::{Unusable, World};

/// On which side of the commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Death {
    /// What it did is undone.
    BeforeTheCommit,
    /// It is brought to its end.
    AfterTheCommit,
}

impl fmt::Display for Death {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Death::BeforeTheCommit => "before",
            Death::AfterTheCommit => "after",
        })
    }
}

impl FromStr for Death {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Death, Self::Err> {
        match text {
            "before" => Ok(Death::BeforeTheCommit),
            "after" => Ok(Death::AfterTheCommit),
            _ => Err("neither before nor after"),
        }
    }
}

/// The deaths that an operation can die: none, where it has no journal; one, where it never commits.
pub fn deaths(scenario: &Scenario) -> &'static [Death] {
    match scenario.kind {
        Kind::Change(_) if scenario.fails => &[Death::BeforeTheCommit],
        Kind::Change(_) => &[Death::BeforeTheCommit, Death::AfterTheCommit],
        Kind::Start
        | Kind::Stop
        | Kind::Create
        | Kind::Delete
        | Kind::Move(_)
        | Kind::Disk(_)
        | Kind::Set(_)
        | Kind::Unregister
        | Kind::Return
        | Kind::MakeTemplate
        | Kind::RemoveTemplate
        | Kind::UpdateTemplate
        | Kind::RemoveVersion
        | Kind::RepairTemplate
        | Kind::RepairVersion => &[],
    }
}

/// Where: as late before the commit, and as early after it, as nobody watches.
fn point(scenario: &Scenario, death: Death) -> String {
    let operation = if matches!(scenario.kind, Kind::Change(Effect::Forget(_))) {
        "generation-delete"
    } else if matches!(scenario.kind, Kind::Change(Effect::Flatten)) {
        "generation-flatten"
    } else if matches!(scenario.kind, Kind::Change(Effect::Switch(_))) {
        "switch"
    } else if scenario.scripts == Scripts::Build {
        "reinstall-by-script"
    } else {
        "reinstall"
    };
    let is_tried = operation != "generation-delete" && scenario.is_kept();
    match (death, is_tried) {
        (Death::BeforeTheCommit, false) => format!("{operation}/commit/before"),
        (Death::AfterTheCommit, false) => format!("{operation}/commit/after"),
        (Death::BeforeTheCommit, true) => format!("{operation}/probation/before"),
        (Death::AfterTheCommit, true) => format!("{operation}/settle/after"),
    }
}

/// Begins the operation of a scenario and lets it die there.
///
/// # Errors
/// When it does not.
pub fn die(world: &World, scenario: &Scenario, name: &str, death: Death) -> Result<(), Unusable> {
    let point = point(scenario, death);
    let mut command = world.command(scenario, name);
    command.env("REROOT_FAULT", format!("{point}:kill"));
    let run = trace::run(&mut command, Victim::Command, world.scratch(), &mut |seen| {
        if seen.kills_itself() {
            kill_keeper(seen.pid());
        }
        Action::Go
    })?;
    if run.exit != linux::Exit::Signal(libc::SIGKILL) {
        return Err(Unusable(format!("{} was to die at {point}: {run:?}", scenario.name)));
    }
    Ok(())
}

/// The children of a command that is about to die, but for the monitor of its container.
fn kill_keeper(pid: i32) {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    for child in children.split_whitespace() {
        let words = std::fs::read(format!("/proc/{child}/cmdline")).unwrap_or_default();
        let is_monitor = words.split(|&byte| byte == 0).next() == Some(runtime::monitor::NAME.as_bytes());
        if !is_monitor && let Some(child) = child.parse().ok().and_then(Pid::from_raw) {
            let _ = kill_process(child, Signal::KILL);
        }
    }
}
