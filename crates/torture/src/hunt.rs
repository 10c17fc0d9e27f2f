//! One narrow sweep for one mutation: which operation, and the faults at which the guard that is missing would be missed.
//!
//! A hunt ends at the first thing that does not hold: it is red, and the mutation is caught. Without a mutation every hunt must come to its end.

use std::path::Path;
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use linux::Exit;
use store::{Lock, LockName};
use testkit::Ran;
use testkit::judge::{Before, Verdict, Violation};

use crate::aftermath::{Came, Recovery, Scene};
use crate::dice::Dice;
use crate::disk::file_system;
use crate::fault::{Fault, Point, scenario};
use crate::filesystem::{AfterACut, CutScene, CutWorld};
use crate::scenario::{Kind, Scenario};
use crate::sweep;
use crate::syscalls::{Survived, measure, survive};
use crate::trace::{self, Action, Victim};
use crate::weakest::{self, Weakest};
use crate::world::{Unusable, World, ended};

/// How long a command that may have to wait for a lock is left to itself.
const PATIENCE: Duration = Duration::from_secs(1);
const BETWEEN_LOOKS: Duration = Duration::from_millis(5);

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hunt {
    /// The command is killed before and after each of its calls.
    Kills(&'static str),
    /// Its monitor is.
    MonitorKills(&'static str),
    /// Each of its calls fails with EIO.
    Errors(&'static str),
    /// It fails at fault points of the engine: `reinstall/configure/after:error`.
    Steps(&'static str, &'static [&'static str]),
    /// The power goes, on that filesystem, after each call that changes a name or syncs, and at the end.
    Cuts(&'static str, &'static str),
    /// The power goes on the weakest filesystem that there may be, after each sync, and at the end.
    Weakest(&'static str),
    /// The command is killed right before its first `fsync` after the renaming of `live`, recovered, and then the power goes, on the weakest filesystem.
    WeakestAfterRecovery(&'static str),
    /// What `ve.conf` says of the root has been taken out of it, so that the operation has something to write; it dies right before the renaming of
    /// `live`.
    ConfTooSoon(&'static str),
    /// At the call that is described so, another command is run: words, and whether it is to be refused.
    Meanwhile(&'static str, &'static str, &'static [&'static str]),
    /// While somebody else has that lock, the command does nothing.
    Locked(&'static str, Held),
    /// The container has made a mount of its own of what is at `/old`; that root is deleted nevertheless.
    InUse(&'static [&'static str]),
}

/// A lock that somebody else has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// Of the container.
    Container,
    /// Of the host.
    Host,
    /// Of the template.
    Template,
}

impl Held {
    fn word(self) -> &'static str {
        match self {
            Held::Container => "container",
            Held::Host => "host",
            Held::Template => "template",
        }
    }
}

/// What a hunt came to.
#[derive(Debug)]
pub struct Hunted {
    /// How many faults were tried.
    pub faults: u64,
    /// What did not hold.
    pub red: Option<String>,
}

impl std::fmt::Display for Hunt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Hunt::Kills(name) => write!(f, "kills, {name}"),
            Hunt::MonitorKills(name) => write!(f, "kills of the monitor, {name}"),
            Hunt::Errors(name) => write!(f, "EIO, {name}"),
            Hunt::Steps(name, _) => write!(f, "failing steps, {name}"),
            Hunt::Cuts(name, file_system) => write!(f, "power cuts on {file_system}, {name}"),
            Hunt::Weakest(name) => write!(f, "power cuts on the weakest filesystem, {name}"),
            Hunt::WeakestAfterRecovery(name) => {
                write!(f, "a power cut on the weakest filesystem after a recovery, {name}")
            }
            Hunt::ConfTooSoon(name) => write!(f, "killed before `live`, another ve.conf, {name}"),
            Hunt::Meanwhile(name, _, words) => write!(f, "`{}` in the middle of: {name}", words.join(" ")),
            Hunt::Locked(name, held) => write!(f, "another has the lock of the {}, {name}", held.word()),
            Hunt::InUse(words) => write!(f, "`{}` while it is in use inside", words.join(" ")),
        }
    }
}

/// Where hunts take place.
#[derive(Debug)]
pub struct Field<'a> {
    /// The program, which does what `REROOT_MUTATION` says.
    pub program: &'a Path,
    /// In which order.
    pub seed: u64,
    /// When a hunt is given up.
    pub until: Instant,
}

/// Waits for it, and kills it if it does not end.
fn end_of(child: &mut Child) -> std::io::Result<ExitStatus> {
    let deadline = Instant::now() + trace::LONGEST;
    loop {
        match child.try_wait()? {
            Some(status) => return Ok(status),
            None if Instant::now() >= deadline => child.kill()?,
            None => std::thread::park_timeout(BETWEEN_LOOKS),
        }
    }
}

/// Does to the weakest filesystem what a call does to any: whether it is one that syncs something.
fn follow(disk: &mut Weakest, seen: &trace::Seen<'_>) -> Result<bool, Unusable> {
    let text = seen.describe();
    let (call, path) = text.trim_end_matches(')').split_once('(').unwrap_or_default();
    if !seen.is_after || !["fsync", "fdatasync", "syncfs"].contains(&call) {
        return Ok(false);
    }
    let followed = if call == "syncfs" { disk.everything() } else { disk.sync(Path::new(path)) };
    followed.map(|()| true).map_err(|error| Unusable(format!("{text}: {error}")))
}

fn known(name: &str) -> Result<&'static Scenario, Unusable> {
    scenario(name).ok_or_else(|| Unusable(format!("there is no scenario `{name}`")))
}

impl Field<'_> {
    /// Does a hunt.
    ///
    /// # Errors
    /// When the host does not work without a fault.
    pub fn hunt(&self, hunt: Hunt) -> Result<Hunted, Unusable> {
        match hunt {
            Hunt::Kills(name) => {
                self.calls(known(name)?, Victim::Command, &[Fault::KillAfter, Fault::KillBefore])
            }
            Hunt::MonitorKills(name) => {
                self.calls(known(name)?, Victim::Monitor, &[Fault::KillAfter, Fault::KillBefore])
            }
            Hunt::Errors(name) => self.calls(known(name)?, Victim::Command, &[Fault::error(1)]),
            Hunt::Steps(name, points) => self.steps(known(name)?, points),
            Hunt::Cuts(name, on) => self.cuts(known(name)?, on),
            Hunt::Weakest(name) => self.weakest(known(name)?),
            Hunt::WeakestAfterRecovery(name) => self.weakest_after_recovery(known(name)?),
            Hunt::ConfTooSoon(name) => self.conf_too_soon(known(name)?),
            Hunt::Meanwhile(name, at, words) => self.meanwhile(known(name)?, at, words),
            Hunt::Locked(name, held) => self.locked(known(name)?, held),
            Hunt::InUse(words) => self.in_use(words),
        }
    }

    fn world(&self) -> Result<World, Unusable> {
        let world = World::new(&self.program.to_string_lossy(), &sweep::scratch(self.program))?;
        world.ok_or_else(|| Unusable("containers cannot run here".to_owned()))
    }

    fn is_over(&self) -> bool {
        Instant::now() >= self.until || sweep::is_interrupted()
    }

    /// Every call, in an order that the seed says.
    fn calls(
        &self,
        scenario: &'static Scenario,
        victim: Victim,
        faults: &[Fault],
    ) -> Result<Hunted, Unusable> {
        let mut world = self.world()?;
        let calls: Vec<u64> = (1..=measure(&mut world, scenario, victim, None)?).collect();
        self.points(&mut world, scenario, victim, faults, &calls)
    }

    fn points(
        &self,
        world: &mut World,
        scenario: &'static Scenario,
        victim: Victim,
        faults: &[Fault],
        calls: &[u64],
    ) -> Result<Hunted, Unusable> {
        let mut points: Vec<Point> = calls
            .iter()
            .flat_map(|&call| {
                faults.iter().map(move |&fault| Point { scenario, victim, recovers: None, call, fault })
            })
            .collect();
        Dice::new(self.seed, 2).shuffle(&mut points);
        let mut tried = 0;
        for (turn, point) in points.iter().enumerate() {
            if self.is_over() {
                break;
            }
            tried += 1;
            if let Survived::Lost(text) = survive(world, point, self.seed, turn as u64)? {
                return Ok(Hunted { faults: tried, red: Some(text) });
            }
        }
        Ok(Hunted { faults: tried, red: None })
    }

    fn steps(&self, scenario: &'static Scenario, points: &[&str]) -> Result<Hunted, Unusable> {
        let mut world = self.world()?;
        let mut tried = 0;
        for point in points {
            tried += 1;
            world.forget_container()?;
            let (name, before) = world.prepare(scenario)?;
            let ran = ended(world.command(scenario, &name).env("REROOT_FAULT", point));
            let came =
                Came::of(if ran.code > 128 { Exit::Signal(ran.code - 128) } else { Exit::Code(ran.code) });
            let prlctl = |words: &[&str]| -> Ran { world.run(words) };
            let scene = Scene {
                prefix: &world.prefix,
                former: world.prefix.root(),
                prlctl: &prlctl,
                scenario,
                name: &name,
                before: before.as_ref(),
                recovery: if came == Came::Killed { Recovery::ByItself } else { Recovery::Named },
                runs: None,
            };
            // What has returned an error has put back everything by itself: that is looked at before anybody recovers it.
            let judged = scene.at_once(came).and_then(|()| scene.after(came, &ran.to_string()));
            let judged = judged.and_then(|_| scene.next_reinstall());
            if let Err(violation) = judged {
                return Ok(Hunted { faults: tried, red: Some(format!("{point}: {violation}\n{ran}")) });
            }
        }
        Ok(Hunted { faults: tried, red: None })
    }

    fn cuts(&self, scenario: &'static Scenario, on: &str) -> Result<Hunted, Unusable> {
        let file_system =
            file_system(on).ok_or_else(|| Unusable(format!("there is no filesystem `{on}`")))?;
        let directory =
            sweep::scratch(self.program).join(format!("{}-hunt", testkit::real_host::mark("torture")));
        let program = self.program.to_string_lossy();
        let mut world = CutWorld::new(&program, file_system, &directory, "")?
            .ok_or_else(|| Unusable("containers cannot run here".to_owned()))?;
        let mut tried = 0;
        for turn in 0.. {
            if self.is_over() || turn == 2 {
                break;
            }
            let (survived, lost) = world.names_and_syncs(scenario, self.seed, turn)?;
            tried += survived + lost.len() as u64;
            if let Some(red) = lost.into_iter().next() {
                return Ok(Hunted { faults: tried, red: Some(red) });
            }
        }
        Ok(Hunted { faults: tried, red: None })
    }

    fn weakest(&self, scenario: &'static Scenario) -> Result<Hunted, Unusable> {
        let mut world = self.world()?;
        let (name, before) = world.prepare(scenario)?;
        // Nobody takes anything away while it is copied.
        testkit::judge::trash_empties(&world.prefix)?;
        let scratch = world.scratch().to_owned();
        let mut disk = Weakest::new(world.prefix.root(), &scratch.join("weakest"))?;
        let place = |number: usize| scratch.join(format!("cut-{number}/prefix"));
        let mut instants: Vec<(String, Came)> = Vec::new();
        let mut failure = None;
        let mut command = world.command(scenario, &name);
        let run = trace::run(&mut command, Victim::Command, world.scratch(), &mut |seen| {
            match follow(&mut disk, seen) {
                Ok(false) => {}
                Ok(true) => {
                    if let Err(error) = disk.cut(&place(instants.len())) {
                        failure = Some(error.into());
                    }
                    instants.push((format!("after call {}, {}", seen.index, seen.describe()), Came::Killed));
                }
                Err(unusable) => failure = Some(unusable),
            }
            Action::Go
        })?;
        if let Some(failure) = failure {
            return Err(failure);
        }
        let came = Came::of(run.exit);
        disk.cut(&place(instants.len()))?;
        instants.push((format!("after it had come to {came:?}"), came));
        drop(disk);
        let program = self.program.to_string_lossy();
        let mut hunted = Hunted { faults: 0, red: None };
        let scene =
            CutScene { scenario, name: &name, before: before.as_ref(), starts_at_boot: false, is_deep: true };
        let mut is_new = false;
        for (number, (at, came)) in instants.iter().enumerate() {
            let directory = place(number);
            let after = AfterACut {
                program: &program,
                former: world.prefix.root(),
                directory: &directory,
                came: *came,
                said: &run.said,
            };
            let judged = after.judge(&scene);
            hunted.faults += 1;
            let violation = match judged {
                Err((violation, _)) => Some(violation),
                Ok(Verdict::Old) if is_new => {
                    Some(Violation::new("what was done once stays done", "it was there before"))
                }
                Ok(verdict) => {
                    is_new |= verdict == Verdict::New && !matches!(scenario.kind, Kind::Start | Kind::Stop);
                    None
                }
            };
            if let Some(violation) = violation {
                hunted.red.get_or_insert(format!("power cut {at}: {violation}\n{}", run.said));
                break;
            }
        }
        for number in 0..instants.len() {
            let _ = weakest::remove(&scratch.join(format!("cut-{number}")));
        }
        Ok(hunted)
    }

    /// What a recovery has found done, and has told, is done.
    fn weakest_after_recovery(&self, scenario: &'static Scenario) -> Result<Hunted, Unusable> {
        let mut world = self.world()?;
        let (name, before) = world.prepare(scenario)?;
        testkit::judge::trash_empties(&world.prefix)?;
        let scratch = world.scratch().to_owned();
        let mut disk = Weakest::new(world.prefix.root(), &scratch.join("weakest"))?;
        let mut failure = None;
        let mut is_live = false;
        let mut command = world.command(scenario, &name);
        let killed = trace::run(&mut command, Victim::Command, &scratch, &mut |seen| {
            let text = seen.describe();
            if is_live && !seen.is_after && text.starts_with("fsync") {
                return Action::Kill;
            }
            is_live |= seen.is_after && text.starts_with("rename") && text.ends_with(", live)");
            failure = failure.take().or(follow(&mut disk, seen).err());
            Action::Go
        })?;
        if Came::of(killed.exit) != Came::Killed {
            return Err(Unusable(format!("{}: nothing to kill it at: {killed:?}", scenario.name)));
        }
        let mut recovery = world.host.prlctl();
        recovery.args(["recover", &name]);
        let run = trace::run(&mut recovery, Victim::Command, &scratch, &mut |seen| {
            failure = failure.take().or(follow(&mut disk, seen).err());
            Action::Go
        })?;
        if let Some(failure) = failure {
            return Err(failure);
        }
        if Came::of(run.exit) != Came::Done {
            return Err(Unusable(format!("{}: it is not recovered: {run:?}", scenario.name)));
        }
        let directory = scratch.join("cut-0/prefix");
        disk.cut(&directory)?;
        let program = self.program.to_string_lossy();
        let scene =
            CutScene { scenario, name: &name, before: before.as_ref(), starts_at_boot: false, is_deep: true };
        let after = AfterACut {
            program: &program,
            former: world.prefix.root(),
            directory: &directory,
            came: Came::Killed,
            said: &run.said,
        };
        let red = match after.judge(&scene) {
            Ok(Verdict::New) => None,
            Ok(Verdict::Old) => {
                Some(Violation::new("what was done once stays done", "a recovery had found it done"))
            }
            Err((violation, _)) => Some(violation),
        };
        let _ = weakest::remove(&scratch.join("cut-0"));
        Ok(Hunted { faults: 1, red: red.map(|violation| format!("{violation}\n{}", run.said)) })
    }

    fn conf_too_soon(&self, scenario: &'static Scenario) -> Result<Hunted, Unusable> {
        let mut world = self.world()?;
        let (name, before) = world.prepare(scenario)?;
        let id = before.ok_or_else(|| Unusable(format!("{}: no container", scenario.name)))?.id;
        let conf = world.prefix.area_dir(&id).join("ve.conf");
        // What is installed in the old root, and in no new one: what its ve.conf may lose too soon.
        let text = std::fs::read_to_string(&conf)? + "TEMPLATES=\"apache\"\n";
        store::atomic::replace(&conf, text.as_bytes(), 0o600).map_err(std::io::Error::other)?;
        let before = Before::of(&world.prefix, &name)?;
        let mut command = world.command(scenario, &name);
        command.arg("--skip-app-templates");
        let run = trace::run(&mut command, Victim::Command, world.scratch(), &mut |seen| {
            let text = seen.describe();
            let is_live = !seen.is_after && text.starts_with("rename") && text.ends_with(", live)");
            if is_live { Action::Kill } else { Action::Go }
        })?;
        let came = Came::of(run.exit);
        if came != Came::Killed {
            return Err(Unusable(format!("{}: `live` was not renamed: {run:?}", scenario.name)));
        }
        let prlctl = |words: &[&str]| -> Ran { world.run(words) };
        let scene = Scene {
            prefix: &world.prefix,
            former: world.prefix.root(),
            prlctl: &prlctl,
            scenario,
            name: &name,
            before: Some(&before),
            recovery: Recovery::Named,
            runs: None,
        };
        let red = scene.after(came, &run.said).err().map(|violation| violation.to_string());
        Ok(Hunted { faults: 1, red })
    }

    /// Another command comes, and has its time, while this one stands still.
    fn meanwhile(&self, scenario: &'static Scenario, at: &str, words: &[&str]) -> Result<Hunted, Unusable> {
        let mut world = self.world()?;
        let (name, before) = world.prepare(scenario)?;
        let mut command = world.command(scenario, &name);
        let mut other = None;
        let run = trace::run(&mut command, Victim::Command, world.scratch(), &mut |seen| {
            if other.is_none() && !seen.is_after && seen.describe().contains(at) {
                let mut command = world.host.prlctl();
                command.args(words.iter().map(|word| if *word == "CT" { name.as_str() } else { word }));
                command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
                if let Ok(mut child) = command.spawn() {
                    let deadline = Instant::now() + PATIENCE;
                    while Instant::now() < deadline && matches!(child.try_wait(), Ok(None)) {
                        std::thread::park_timeout(BETWEEN_LOOKS);
                    }
                    other = Some(child);
                }
            }
            Action::Go
        })?;
        let Some(mut other) = other else {
            return Err(Unusable(format!("{}: no call is `{at}`: {run:?}", scenario.name)));
        };
        let code = end_of(&mut other)?.code();
        let came = Came::of(run.exit);
        let red = |what: String| Ok(Hunted { faults: 1, red: Some(what) });
        if came != Came::Done {
            return red(format!("it came to {came:?}, the other to {code:?}: {}", run.said));
        }
        let prlctl = |words: &[&str]| -> Ran { world.run(words) };
        let scene = Scene {
            prefix: &world.prefix,
            former: world.prefix.root(),
            prlctl: &prlctl,
            scenario,
            name: &name,
            before: before.as_ref(),
            recovery: Recovery::All,
            runs: None,
        };
        let judged = scene.after(came, &run.said).and_then(|_| {
            testkit::judge::ranges_are_distinct(&world.prefix)?;
            scene.next_reinstall()
        });
        match judged {
            Ok(()) => Ok(Hunted { faults: 1, red: None }),
            Err(violation) => red(format!("the other came to {code:?}: {violation}")),
        }
    }

    fn locked(&self, scenario: &'static Scenario, held: Held) -> Result<Hunted, Unusable> {
        let mut world = self.world()?;
        let (name, before) = world.prepare(scenario)?;
        let wanted = match (held, &before) {
            (Held::Container, Some(before)) => LockName::Container(before.id),
            (Held::Template, _) => {
                LockName::Template("busybox".parse().map_err(|_| Unusable("no name".to_owned()))?)
            }
            (Held::Host | Held::Container, _) => LockName::Host,
        };
        let lock = Lock::exclusive(&world.prefix, wanted, PATIENCE, "torture")
            .map_err(|error| Unusable(error.to_string()))?;
        let mut child = world
            .command(scenario, &name)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()?;
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline && child.try_wait()?.is_none() {
            std::thread::park_timeout(BETWEEN_LOOKS);
        }
        let is_done = child.try_wait()?.is_some_and(|status| status.success());
        drop(lock);
        end_of(&mut child)?;
        let red = is_done.then(|| "it was done although another had the lock".to_owned());
        Ok(Hunted { faults: 1, red })
    }

    fn in_use(&self, words: &[&str]) -> Result<Hunted, Unusable> {
        let mut world = self.world()?;
        let (name, _) = world.prepare(known("undo, running")?)?;
        world.ok(&["exec", &name, "mkdir -p /root/kept && mount -o bind /old /root/kept"])?;
        let words: Vec<&str> = words.iter().map(|&word| if word == "CT" { &name } else { word }).collect();
        let ran = world.run(&words);
        // What is in the trash goes.
        testkit::judge::trash_empties(&world.prefix)?;
        let seen = world.run(&["exec", &name, "cat /root/kept/root/number"]);
        let is_whole = seen.code == 0 && seen.stdout.trim() == "1";
        let red = (!is_whole).then(|| format!("what is in use was deleted: {ran}\nseen inside: {seen}"));
        Ok(Hunted { faults: 1, red })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hunt_of_no_scenario_is_refused() {
        assert!(known("nothing").is_err());
        assert!(known("create").is_ok());
    }
}
