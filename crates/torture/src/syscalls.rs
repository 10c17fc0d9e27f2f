//! The sweeps of system calls: every operation, at each call that changes anything, killed before it, killed after it, and failed there. So are
//! monitors, and the recovery of operations that were killed themselves.
//!
//! How many calls an operation makes is measured first, by a run that nothing happens to. The points are then taken in an order that the seed
//! says, in batches of one operation, since a container that is found whole on its old root serves for the next fault.

use std::path::Path;
use std::process::Command;

use testkit::Ran;
use testkit::judge::{Effect, Runs, Verdict, Violation};

use crate::aftermath::{Came, Recovery, Scene, Stood, report};
use crate::death::{Death, deaths, die};
use crate::dice::Dice;
use crate::fault::{Fault, Point};
use crate::scenario::{self, Kind, Scenario};
use crate::trace::{self, Action, Run, Victim};
use crate::world::{Unusable, World};

/// So many faults are tried one after the other on the same operation.
const BATCH: usize = 20;
/// After every so many faults, also the next reinstall and the trash are looked at.
const BETWEEN_DEEP_LOOKS: u64 = 8;

/// What a fault came to.
#[derive(Debug)]
pub enum Survived {
    /// Nothing was lost.
    Whole,
    /// The run had fewer calls this time.
    NotReached,
    /// Something was: all that is to be said of it.
    Lost(String),
}

/// Whose calls are visited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sweep {
    /// The command's.
    Commands,
    /// Those of the first monitor that it starts.
    Monitors,
    /// Those of `prlctl recover`, after the command was killed.
    Recoveries,
}

impl Sweep {
    /// Which runs of a scenario are to be visited: in which process, and what it recovers from.
    fn runs(self, scenario: &Scenario) -> Vec<(Victim, Option<Death>)> {
        match self {
            Sweep::Commands => vec![(Victim::Command, None)],
            Sweep::Monitors if scenario.starts_a_monitor() => vec![(Victim::Monitor, None)],
            Sweep::Monitors => Vec::new(),
            Sweep::Recoveries => {
                deaths(scenario).iter().map(|&death| (Victim::Command, Some(death))).collect()
            }
        }
    }
}

/// All points of a sweep over the operations whose names contain `only`, in batches.
///
/// # Errors
/// When an operation cannot even be done without a fault.
pub fn plan(world: &mut World, sweep: Sweep, seed: u64, only: &str) -> Result<Vec<Vec<Point>>, Unusable> {
    let mut dice = Dice::new(seed, 1);
    let mut batches = Vec::new();
    let runs = scenario::named(only, world.prefix.root()).into_iter().flat_map(|scenario| {
        sweep.runs(scenario).into_iter().map(move |(victim, recovers)| (scenario, victim, recovers))
    });
    for (scenario, victim, recovers) in runs {
        if crate::sweep::is_interrupted() {
            return Ok(Vec::new());
        }
        let calls = measure(world, scenario, victim, recovers)?;
        let mut points = Vec::new();
        for call in 1..=calls {
            for fault in [Fault::KillBefore, Fault::KillAfter, Fault::error(dice.below(5))] {
                points.push(Point { scenario, victim, recovers, call, fault });
            }
        }
        dice.shuffle(&mut points);
        batches.extend(points.chunks(BATCH).map(<[Point]>::to_vec));
    }
    dice.shuffle(&mut batches);
    Ok(batches)
}

/// A run whose calls are visited: of which operation, in which process, recovering from what.
pub type Visited = (&'static Scenario, Victim, Option<Death>);

/// What a sample visits: every operation once, in an order that the seed says; of those that can die in two ways, one of the two.
pub fn visited(sweep: Sweep, seed: u64, only: &str, directory: &Path) -> Vec<Visited> {
    let mut dice = Dice::new(seed, 3);
    let mut all: Vec<Visited> = scenario::named(only, directory)
        .into_iter()
        .filter_map(|scenario| {
            let runs = sweep.runs(scenario);
            let (victim, recovers) = (!runs.is_empty()).then(|| dice.one_of(&runs))?;
            Some((scenario, victim, recovers))
        })
        .collect();
    dice.shuffle(&mut all);
    all
}

/// So many points of a run, drawn; it is measured for that, once.
///
/// # Errors
/// When the operation cannot even be done without a fault.
pub fn drawn(
    world: &mut World,
    visited: Visited,
    count: usize,
    dice: &mut Dice,
) -> Result<Vec<Point>, Unusable> {
    let (scenario, victim, recovers) = visited;
    let calls = measure(world, scenario, victim, recovers)?;
    Ok((0..count)
        .map(|_| {
            let faults = [Fault::KillBefore, Fault::KillAfter, Fault::error(dice.below(5))];
            Point { scenario, victim, recovers, call: 1 + dice.below(calls), fault: dice.one_of(&faults) }
        })
        .collect())
}

/// How many calls that change something an operation makes.
///
/// # Errors
/// When it cannot be done without a fault.
pub fn measure(
    world: &mut World,
    scenario: &'static Scenario,
    victim: Victim,
    recovers: Option<Death>,
) -> Result<u64, Unusable> {
    let (name, _) = world.prepare(scenario)?;
    let mut command = command(world, scenario, &name, recovers)?;
    let run = trace::run(&mut command, victim, world.scratch(), &mut |_| Action::Go)?;
    let is_done = Came::of(run.exit) == Came::Done;
    let is_to_fail = scenario.fails && recovers.is_none();
    if is_done == is_to_fail || run.calls == 0 {
        return Err(Unusable(format!("{}, without a fault: {run:?}", scenario.name)));
    }
    clear(world, scenario, &name)?;
    Ok(run.calls)
}

/// What meets the faults: the operation, or the recovery of one that has died.
fn command(
    world: &World,
    scenario: &Scenario,
    name: &str,
    recovers: Option<Death>,
) -> Result<Command, Unusable> {
    let Some(death) = recovers else { return Ok(world.command(scenario, name)) };
    die(world, scenario, name, death)?;
    let mut command = world.host.prlctl();
    command.args(["recover", name]);
    Ok(command)
}

/// Nothing of a scenario is left for the next one.
fn clear(world: &mut World, scenario: &Scenario, name: &str) -> Result<(), Unusable> {
    if scenario.kind == Kind::Create && store::registry::find(&world.prefix, name).is_ok() {
        world.ok(&["delete", name])?;
    }
    world.forget_container()
}

/// Tries one fault.
///
/// # Errors
/// When the host does not work without one.
pub fn survive(world: &mut World, point: &Point, seed: u64, turn: u64) -> Result<Survived, Unusable> {
    let scenario = point.scenario;
    let (name, before) = world.prepare(scenario)?;
    let mut command = command(world, scenario, &name, point.recovers)?;
    let mut at = None;
    let run = trace::run(&mut command, point.victim, world.scratch(), &mut |seen| {
        let action = point.action(seen);
        if action != Action::Go {
            at = Some(seen.describe());
        }
        action
    })?;
    // A recovery that has been visited says nothing of whether the operation was done.
    let came = if point.recovers.is_some() { Came::Killed } else { Came::of(run.exit) };
    // The one call that was made to fail was in the start of the old root, and the recovery has said so: it is done, and locks nothing.
    let is_told = point.recovers.is_some() && run.said.contains(&format!("cannot start `{name}`"));
    let stood = Stood::now(&world.prefix, before.as_ref());
    let prlctl = |words: &[&str]| -> Ran { world.run(words) };
    let scene = Scene {
        prefix: &world.prefix,
        former: world.prefix.root(),
        prlctl: &prlctl,
        scenario,
        name: &name,
        before: before.as_ref(),
        recovery: recovery_of(point, came, seed, turn),
        runs: is_told.then_some(Runs::Either),
    };
    let is_deep = turn.is_multiple_of(BETWEEN_DEEP_LOOKS);
    let judged = still_running(&run).and_then(|()| scene.after(came, &run.said)).and_then(|verdict| {
        if is_deep {
            scene.next_reinstall()?;
        }
        Ok(verdict)
    });
    let Some(at) = at else {
        clear(world, scenario, &name)?;
        return match judged {
            Ok(_) => Ok(Survived::NotReached),
            Err(violation) => {
                Ok(Survived::Lost(report(&violation, &format!("{point}, not reached"), &run, &stood, "")))
            }
        };
    };
    match judged {
        Ok(verdict) => {
            // A monitor that failed at naming the new root has warned, and its next start names it: such a root is not what it will be.
            let is_unnamed = verdict == Verdict::New && point.victim == Victim::Monitor;
            if is_unnamed
                || is_deep
                || verdict == Verdict::New
                    && scenario.kind != Kind::Change(Effect::Reinstall { discards: false })
                || scenario.kind == Kind::Create
            {
                clear(world, scenario, &name)?;
            }
            Ok(Survived::Whole)
        }
        Err(violation) => {
            let case = format!("{point}, {at}; recovered {:?}", scene.recovery);
            let text = report(&violation, &case, &run, &stood, &point.repeat(seed));
            Ok(Survived::Lost(text))
        }
    }
}

fn still_running(run: &Run) -> Result<(), Violation> {
    if run.hangs {
        return Err(Violation::new("every wait has an end", format!("{:?} were not enough", trace::LONGEST)));
    }
    Ok(())
}

fn recovery_of(point: &Point, came: Came, seed: u64, turn: u64) -> Recovery {
    let mut dice = Dice::new(seed, turn.wrapping_add(1 << 32));
    if came == Came::Killed && point.recovers.is_none() && point.scenario.is_kept() && dice.below(2) == 0 {
        return Recovery::ByItself;
    }
    dice.one_of(&[Recovery::Named, Recovery::All, Recovery::NextCommand])
}
