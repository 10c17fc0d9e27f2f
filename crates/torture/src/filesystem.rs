//! The sweep of power cuts: while an operation goes on, its filesystem is frozen at instants between two of its system calls, and once more
//! right after it has returned. Each of them is then mounted elsewhere, recovered as after a boot, and judged.
//!
//! Until it is mounted there nothing of the cut host has run: `/run` is empty, as a tmpfs would be, and the journal is of another boot.

use std::path::{Path, PathBuf};

use store::Prefix;
use testkit::judge::{Before, Effect, Runs, Verdict, Violation};
use testkit::{Ran, RealHost};

use crate::aftermath::{Came, Recovery, Scene, journal, report};
use crate::dice::Dice;
use crate::disk::{Cut, Disk, FileSystem};
use crate::scenario::{Kind, SCENARIOS, Scenario};
use crate::trace::{self, Action, Victim};
use crate::world::{Unusable, World};

/// So many instants of one operation.
const CUTS: usize = 7;
/// After one cut in so many, also the next reinstall is done.
const BETWEEN_DEEP_LOOKS: u64 = 4;

/// A world on a disk that can be frozen.
#[derive(Debug)]
pub struct CutWorld {
    // In this order: what is on the disk goes first.
    world: World,
    disk: Disk,
    program: String,
    calls: Vec<Option<u64>>,
}

/// An instant, and the filesystem as it was then.
struct Instant {
    cut: Cut,
    at: String,
    came: Came,
}

impl CutWorld {
    /// A new one in `directory`; `None` where containers cannot run.
    ///
    /// # Errors
    /// When the disk cannot be made.
    pub fn new(
        program: &str,
        file_system: &'static FileSystem,
        directory: &Path,
    ) -> Result<Option<CutWorld>, Unusable> {
        let disk = Disk::new(file_system, directory)?;
        let Some(world) = World::new(program, &disk.point())? else { return Ok(None) };
        Ok(Some(CutWorld { world, disk, program: program.to_owned(), calls: vec![None; SCENARIOS.len()] }))
    }

    /// Does one operation and cuts it. Returns how many cuts were survived, and what is to be said of the others.
    ///
    /// # Errors
    /// When the host does not work without a cut.
    pub fn operation(&mut self, seed: u64, turn: u64) -> Result<(u64, Vec<String>), Unusable> {
        let number = (turn % SCENARIOS.len() as u64) as usize;
        let scenario = &SCENARIOS[number];
        let mut dice = Dice::new(seed, turn);
        let calls = match self.calls[number] {
            Some(calls) => calls,
            None => self.measure(number)?,
        };
        let (name, before) = self.world.prepare(scenario)?;
        let starts_at_boot = before.is_some() && dice.below(4) == 0;
        let before = match before {
            Some(before) if starts_at_boot => Some(self.start_at_boot(&before)?),
            other => other,
        };
        // All that was before is durable: what is done now is not.
        let prefix = std::fs::File::open(self.world.prefix.root())?;
        rustix::fs::syncfs(&prefix).map_err(std::io::Error::from)?;
        let wanted: Vec<(u64, bool)> =
            (0..CUTS).map(|_| (1 + dice.below(calls), dice.below(2) == 0)).collect();
        let (instants, said) = self.run(scenario, &name, &wanted)?;
        let mut lost = Vec::new();
        let mut survived = 0;
        let mut seen_new = None;
        let repeat =
            format!("torture run --sweep {} --seed {seed} --from {turn} --faults 1", self.disk.name());
        for (index, mut instant) in instants.into_iter().enumerate() {
            let is_deep = (turn + index as u64).is_multiple_of(BETWEEN_DEEP_LOOKS);
            let scene = CutScene { scenario, name: &name, before: before.as_ref(), starts_at_boot, is_deep };
            let judged = self.judge(&mut instant, &scene, &said);
            let case = format!("{}: power cut on {} {}", scenario.name, self.disk.name(), instant.at);
            match (judged, &seen_new) {
                (Ok(Verdict::Old), Some(earlier)) => {
                    let what = format!("it was there {earlier}");
                    let violation = Violation::new("what was done once stays done", what);
                    lost.push(format!("LOST\n  {violation}\n  case {case}\n  repeat {repeat}\n"));
                }
                (Ok(verdict), _) => {
                    survived += 1;
                    if verdict == Verdict::New && !matches!(scenario.kind, Kind::Start | Kind::Stop) {
                        seen_new = Some(instant.at);
                    }
                }
                (Err((violation, found)), _) => {
                    let run =
                        trace::Run { exit: linux::Exit::Signal(9), calls, said: said.clone(), hangs: false };
                    lost.push(report(&violation, &case, &run, found.as_deref(), &repeat));
                }
            }
        }
        self.clear(scenario, &name)?;
        Ok((survived, lost))
    }

    fn measure(&mut self, number: usize) -> Result<u64, Unusable> {
        let scenario = &SCENARIOS[number];
        let (name, _) = self.world.prepare(scenario)?;
        let mut command = self.world.command(scenario, &name);
        let run = trace::run(&mut command, Victim::Command, self.world.scratch(), &mut |_| Action::Go)?;
        self.clear(scenario, &name)?;
        self.calls[number] = Some(run.calls);
        Ok(run.calls)
    }

    fn start_at_boot(&self, before: &Before) -> Result<Before, Unusable> {
        let failed = |error: store::AreaError| Unusable(error.to_string());
        let area = store::Area::open(&self.world.prefix, &before.id).map_err(failed)?;
        let mut conf = area.conf().map_err(failed)?;
        conf.set("ONBOOT", "yes").map_err(|error| Unusable(error.to_string()))?;
        area.store_conf(&conf).map_err(failed)?;
        Ok(Before::of(&self.world.prefix, &before.name)?)
    }

    /// Runs the operation to its end, with the disk frozen at the wanted calls, and after it.
    fn run(
        &mut self,
        scenario: &'static Scenario,
        name: &str,
        wanted: &[(u64, bool)],
    ) -> Result<(Vec<Instant>, String), Unusable> {
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
        Ok((instants, run.said))
    }

    fn judge(
        &self,
        instant: &mut Instant,
        scene: &CutScene<'_>,
        said: &str,
    ) -> Result<Verdict, (Violation, Option<String>)> {
        let broken = |what: String| (Violation::new("the host comes up after a power cut", what), None);
        let point = instant.cut.mount().map_err(|error| broken(error.to_string()))?.to_owned();
        let below = self.world.prefix.root().strip_prefix(self.disk.point()).unwrap_or(Path::new("prefix"));
        let directory = point.join(below);
        reboot(self.world.prefix.root(), &directory).map_err(|error| broken(error.to_string()))?;
        let host = RealHost::existing(&self.program, directory.parent().unwrap_or(&point));
        let prefix = Prefix::new(&directory).map_err(|error| broken(error.to_string()))?;
        let found = journal(&prefix, scene.before);
        let prlctl = |words: &[&str]| -> Ran { host.run(words) };
        let after = Scene {
            prefix: &prefix,
            prlctl: &prlctl,
            scenario: scene.scenario,
            name: scene.name,
            before: scene.before,
            recovery: Recovery::Boot,
            runs: Some(Runs::from(scene.starts_at_boot)),
        };
        let judged = after.after(instant.came, said).and_then(|verdict| {
            if scene.is_deep {
                after.next_reinstall()?;
            }
            Ok(verdict)
        });
        judged.map_err(|violation| (violation, found))
    }

    fn clear(&mut self, scenario: &Scenario, name: &str) -> Result<(), Unusable> {
        let keeps = scenario.kind == Kind::Change(Effect::Reinstall { discards: false });
        if scenario.kind == Kind::Create {
            self.world.ok(&["delete", name])?;
        }
        if keeps { Ok(()) } else { self.world.forget_container() }
    }
}

struct CutScene<'a> {
    scenario: &'static Scenario,
    name: &'a str,
    before: Option<&'a Before>,
    starts_at_boot: bool,
    is_deep: bool,
}

/// What a boot does before anything of ours runs: `/run` is empty, and the boot has another id than any journal. A real one would also have its
/// prefix where it was: the links say that.
fn reboot(former: &Path, prefix: &Path) -> std::io::Result<()> {
    for links in ["etc/vz/names", "etc/vz/conf"] {
        for entry in std::fs::read_dir(prefix.join(links))?.flatten() {
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
    for entry in std::fs::read_dir(prefix.join("vz/private"))?.flatten() {
        let path: PathBuf = entry.path().join("operation.json");
        if let Ok(text) = std::fs::read_to_string(&path) {
            let other = text.replace(&boot, "00000000-0000-4000-8000-000000000000");
            store::atomic::replace(&path, other.as_bytes(), 0o600).map_err(std::io::Error::other)?;
        }
    }
    Ok(())
}
