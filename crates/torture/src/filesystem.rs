//! The sweep of power cuts: while an operation goes on, its filesystem is frozen at instants between two of its system calls, and once more
//! right after it has returned. Each of them is then mounted elsewhere, recovered as after a boot, and judged.
//!
//! Until it is mounted there nothing of the cut host has run: `/run` is empty, as a tmpfs would be, and the journal is of another boot.

use std::path::{Path, PathBuf};

use store::{GenerationNumber, Prefix};
use testkit::judge::{Before, Effect, Runs, Verdict, Violation};
use testkit::{Ran, RealHost};

use crate::aftermath::{Came, Recovery, Scene, Stood, report};
use crate::dice::Dice;
use crate::disk::{Cut, Disk, FileSystem};
use crate::scenario::{self, Kind, Scenario};
use crate::trace::{self, Action, Victim};
use crate::world::{Unusable, World, ended};

/// So many instants of one operation.
const CUTS: usize = 7;
/// So many where the calls are chosen.
const MOST_CUTS: usize = 24;
/// After one cut in so many, also the next reinstall is done.
const BETWEEN_DEEP_LOOKS: u64 = 4;

/// A world on a disk that can be frozen.
#[derive(Debug)]
pub struct CutWorld {
    // In this order: what is on the disk goes first.
    world: World,
    disk: Disk,
    program: String,
    only: String,
    scenarios: Vec<&'static Scenario>,
    calls: Vec<Option<u64>>,
}

/// One operation and where it is cut.
struct Plan {
    scenario: &'static Scenario,
    /// At which calls, before or after.
    wanted: Vec<(u64, bool)>,
    starts_at_boot: bool,
    turn: u64,
    repeat: String,
}

/// An instant, and the filesystem as it was then.
struct Instant {
    cut: Cut,
    at: String,
    came: Came,
}

impl CutWorld {
    /// A new one in `directory`, for the operations whose names contain `only`; `None` where containers cannot run.
    ///
    /// # Errors
    /// When the disk cannot be made.
    pub fn new(
        program: &str,
        file_system: &'static FileSystem,
        directory: &Path,
        only: &str,
    ) -> Result<Option<CutWorld>, Unusable> {
        let disk = Disk::new(file_system, directory)?;
        let Some(world) = World::new(program, &disk.point())? else { return Ok(None) };
        let scenarios = scenario::named(only, &disk.point());
        let calls = vec![None; scenarios.len()];
        Ok(Some(CutWorld {
            world,
            disk,
            program: program.to_owned(),
            only: only.to_owned(),
            scenarios,
            calls,
        }))
    }

    /// How many different operations are done here.
    pub fn count(&self) -> u64 {
        self.scenarios.len() as u64
    }

    /// Does one operation and cuts it. Returns how many cuts were survived, and what is to be said of the others.
    ///
    /// # Errors
    /// When the host does not work without a cut.
    pub fn operation(&mut self, seed: u64, turn: u64) -> Result<(u64, Vec<String>), Unusable> {
        let number = (turn % self.scenarios.len().max(1) as u64) as usize;
        let Some(&scenario) = self.scenarios.get(number) else {
            return Err(Unusable("there is no such operation".to_owned()));
        };
        let mut dice = Dice::new(seed, turn);
        let calls = match self.calls[number] {
            Some(calls) => calls,
            None => self.measure(number, scenario)?,
        };
        let wanted: Vec<(u64, bool)> =
            (0..CUTS).map(|_| (1 + dice.below(calls), dice.below(2) == 0)).collect();
        let only = if self.only.is_empty() { String::new() } else { format!(" --only '{}'", self.only) };
        let repeat =
            format!("torture run --sweep {}{only} --seed {seed} --from {turn} --faults 1", self.disk.name());
        let starts_at_boot = dice.below(4) == 0;
        self.cut_at(&Plan { scenario, wanted, starts_at_boot, turn, repeat })
    }

    /// As [`CutWorld::operation`], with the cuts where they hurt: after each call that changes a name or syncs, at most `MOST_CUTS` of them, and
    /// at the end.
    ///
    /// # Errors
    /// When the host does not work without a cut.
    pub fn names_and_syncs(
        &mut self,
        scenario: &'static Scenario,
        seed: u64,
        turn: u64,
    ) -> Result<(u64, Vec<String>), Unusable> {
        let (name, _) = self.world.prepare(scenario)?;
        let mut command = self.world.command(scenario, &name);
        let mut wanted = Vec::new();
        let run = trace::run(&mut command, Victim::Command, self.world.scratch(), &mut |seen| {
            let text = seen.describe();
            let is_one =
                ["rename", "symlink", "unlink", "fsync", "syncfs"].iter().any(|call| text.starts_with(call));
            if seen.is_after && is_one {
                wanted.push((seen.index, true));
            }
            Action::Go
        })?;
        if (Came::of(run.exit) == Came::Done) == scenario.fails {
            return Err(Unusable(format!("{}, without a fault: {run:?}", scenario.name)));
        }
        self.clear(scenario, &name)?;
        Dice::new(seed, turn).shuffle(&mut wanted);
        wanted.truncate(MOST_CUTS);
        self.cut_at(&Plan {
            scenario,
            wanted,
            starts_at_boot: false,
            turn,
            repeat: "torture mutations".to_owned(),
        })
    }

    /// What is done from here on is not durable until somebody syncs it. A container's own disk first: it is a file on the other.
    fn make_durable(&self, before: Option<&Before>) -> Result<(), Unusable> {
        // One that is unregistered has nothing mounted.
        if let Some(before) = before
            && let Ok(area) = store::Area::open(&self.world.prefix, &before.id)
        {
            let layers = testkit::judge::layers(&area, GenerationNumber::new(before.live));
            rustix::fs::syncfs(std::fs::File::open(layers)?).map_err(std::io::Error::from)?;
        }
        let prefix = std::fs::File::open(self.world.prefix.root())?;
        rustix::fs::syncfs(&prefix).map_err(std::io::Error::from)?;
        Ok(())
    }

    fn cut_at(&mut self, plan: &Plan) -> Result<(u64, Vec<String>), Unusable> {
        let Plan { scenario, wanted, turn, repeat, .. } = plan;
        let (scenario, turn) = (*scenario, *turn);
        let (name, before) = self.world.prepare(scenario)?;
        let starts_at_boot = before.is_some() && plan.starts_at_boot && scenario.may_start();
        let before = match before {
            Some(before) if starts_at_boot => Some(self.start_at_boot(&before)?),
            other => other,
        };
        self.make_durable(before.as_ref())?;
        let (instants, said, calls) = self.run(scenario, &name, wanted)?;
        let mut lost = Vec::new();
        let mut survived = 0;
        let mut seen_new = None;
        for (index, mut instant) in instants.into_iter().enumerate() {
            let is_deep = (turn + index as u64).is_multiple_of(BETWEEN_DEEP_LOOKS);
            let scene = CutScene { scenario, name: &name, before: before.as_ref(), starts_at_boot, is_deep };
            let judged = self.judge(&mut instant, &scene, &said);
            let case = format!("{}: power cut on {} {}", scenario.name, self.disk.name(), instant.at);
            let judged = match (judged, &seen_new) {
                (Ok(Verdict::Old), Some(earlier)) => {
                    let what = format!("it was there {earlier}");
                    Err((Violation::new("what was done once stays done", what), Stood::default()))
                }
                (judged, _) => judged,
            };
            match judged {
                Ok(verdict) => {
                    survived += 1;
                    if verdict == Verdict::New && !matches!(scenario.kind, Kind::Start | Kind::Stop) {
                        seen_new = Some(instant.at.clone());
                    }
                }
                Err((violation, stood)) => {
                    let run =
                        trace::Run { exit: instant.came.exit(), calls, said: said.clone(), hangs: false };
                    lost.push(report(&violation, &case, &run, &stood, repeat));
                }
            }
        }
        self.clear(scenario, &name)?;
        Ok((survived, lost))
    }

    fn measure(&mut self, number: usize, scenario: &'static Scenario) -> Result<u64, Unusable> {
        let (name, _) = self.world.prepare(scenario)?;
        let mut command = self.world.command(scenario, &name);
        let run = trace::run(&mut command, Victim::Command, self.world.scratch(), &mut |_| Action::Go)?;
        self.clear(scenario, &name)?;
        self.calls[number] = Some(run.calls);
        Ok(run.calls)
    }

    fn start_at_boot(&self, before: &Before) -> Result<Before, Unusable> {
        self.world.set(&before.name, "ONBOOT", "yes")?;
        Ok(Before::of(&self.world.prefix, &before.name)?)
    }

    /// Runs the operation to its end, with the disk frozen at the wanted calls, and after it.
    fn run(
        &mut self,
        scenario: &'static Scenario,
        name: &str,
        wanted: &[(u64, bool)],
    ) -> Result<(Vec<Instant>, String, u64), Unusable> {
        let mut command = self.world.command(scenario, name);
        let mut instants = Vec::new();
        let mut failure = None;
        let disk = &mut self.disk;
        let run = trace::run(&mut command, Victim::Command, self.world.scratch(), &mut |seen| {
            if wanted.contains(&(seen.index, seen.is_after)) {
                let side = if seen.is_after { "after" } else { "before" };
                let at = format!("{side} call {}, {}", seen.index, seen.describe());
                match disk.cut() {
                    Ok(cut) => instants.push(Instant { cut, at, came: Came::Killed }),
                    Err(error) => failure = Some(error),
                }
            }
            Action::Go
        })?;
        if let Some(failure) = failure {
            return Err(failure.into());
        }
        let came = Came::of(run.exit);
        let at = format!("after it had come to {came:?}");
        instants.push(Instant { cut: disk.cut()?, at, came });
        if (came == Came::Done) == scenario.fails {
            return Err(Unusable(format!("{}, without a fault: {run:?}", scenario.name)));
        }
        Ok((instants, run.said, run.calls))
    }

    fn judge(
        &self,
        instant: &mut Instant,
        scene: &CutScene<'_>,
        said: &str,
    ) -> Result<Verdict, (Violation, Stood)> {
        let broken =
            |what: String| (Violation::new("the host comes up after a power cut", what), Stood::default());
        let point = instant.cut.mount().map_err(|error| broken(error.to_string()))?.to_owned();
        let below = self.world.prefix.root().strip_prefix(self.disk.point()).unwrap_or(Path::new("prefix"));
        let after = AfterACut {
            program: &self.program,
            former: self.world.prefix.root(),
            directory: &point.join(below),
            came: instant.came,
            said,
        };
        after.judge(scene)
    }

    fn clear(&mut self, scenario: &Scenario, name: &str) -> Result<(), Unusable> {
        let keeps = scenario.kind == Kind::Change(Effect::Reinstall { discards: false });
        if scenario.kind == Kind::Create {
            self.world.ok(&["delete", name])?;
        }
        if keeps { Ok(()) } else { self.world.forget_container() }
    }
}

/// A host whose power was cut, at another place than before.
pub(crate) struct AfterACut<'a> {
    /// The program under test.
    pub program: &'a str,
    /// Where its prefix was.
    pub former: &'a Path,
    /// Where it is.
    pub directory: &'a Path,
    /// What the command had come to.
    pub came: Came,
    /// And said.
    pub said: &'a str,
}

impl AfterACut<'_> {
    /// Boots it, recovers it, and judges.
    pub(crate) fn judge(&self, scene: &CutScene<'_>) -> Result<Verdict, (Violation, Stood)> {
        let broken =
            |what: String| (Violation::new("the host comes up after a power cut", what), Stood::default());
        reboot(self.former, self.directory).map_err(|error| broken(error.to_string()))?;
        let host = RealHost::existing(self.program, self.directory.parent().unwrap_or(self.directory));
        let prefix = Prefix::new(self.directory).map_err(|error| broken(error.to_string()))?;
        let stood = Stood::now(&prefix, scene.before);
        let prlctl = |words: &[&str]| -> Ran { ended(host.prlctl().args(words)) };
        let after = Scene {
            prefix: &prefix,
            former: self.former,
            prlctl: &prlctl,
            scenario: scene.scenario,
            name: scene.name,
            before: scene.before,
            recovery: Recovery::Boot,
            runs: Some(Runs::from(scene.starts_at_boot)),
        };
        let judged = after.after(self.came, self.said).and_then(|verdict| {
            if scene.is_deep {
                after.next_reinstall()?;
            }
            Ok(verdict)
        });
        judged.map_err(|violation| (violation, stood))
    }
}

/// What is to be judged.
pub(crate) struct CutScene<'a> {
    /// What was done.
    pub scenario: &'static Scenario,
    /// To which container.
    pub name: &'a str,
    /// As it was.
    pub before: Option<&'a Before>,
    /// It has `ONBOOT`.
    pub starts_at_boot: bool,
    /// Also the next reinstall is done.
    pub is_deep: bool,
}

/// What a boot does before anything of ours runs: `/run` is empty, and the boot has another id than any journal. A real one would also have its
/// prefix where it was: the links say that.
fn reboot(former: &Path, prefix: &Path) -> std::io::Result<()> {
    for links in ["etc/vz/names", "etc/vz/conf"] {
        // A host on which the first command was cut may not have them yet.
        for entry in std::fs::read_dir(prefix.join(links)).into_iter().flatten().flatten() {
            if let Ok(target) = std::fs::read_link(entry.path())
                && let Ok(below) = target.strip_prefix(former)
            {
                std::fs::remove_file(entry.path())?;
                std::os::unix::fs::symlink(prefix.join(below), entry.path())?;
            }
        }
    }
    let run = prefix.join("run");
    if let Ok(parent) = std::fs::File::open(prefix)
        && run.exists()
    {
        tree::remove_entry(std::os::fd::AsFd::as_fd(&parent), "run".as_ref())
            .map_err(std::io::Error::other)?;
    }
    let boot = runtime::kernel::boot_id();
    for entry in std::fs::read_dir(prefix.join("vz/private")).into_iter().flatten().flatten() {
        let path: PathBuf = entry.path().join("operation.json");
        if let Ok(text) = std::fs::read_to_string(&path) {
            let other = text.replace(&boot, "00000000-0000-4000-8000-000000000000");
            store::atomic::replace(&path, other.as_bytes(), 0o600).map_err(std::io::Error::other)?;
        }
    }
    Ok(())
}
