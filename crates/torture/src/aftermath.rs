//! What follows every fault: the recovery, the verdict, a second recovery, and now and then the next reinstall.

use std::time::{Duration, Instant};

use linux::Exit;
use store::{Area, GenerationNumber, Lock, LockError, LockName, Prefix, TemplateName};
use testkit::Ran;
use testkit::judge::{
    Before, DiskEffect, DiskState, Effect, Judged, Runs, Setting, Settled, Still, Verdict, Violation,
    has_the_template, has_written, is_whole_and_unregistered, judge, judge_disks, judge_setting,
    keeps_to_its_end, leftovers, renamed, trash_empties, whole,
};

use crate::golden;
use crate::scenario::{Kind, Scenario, Scripts};
use crate::trace::Run;
use crate::world::{self, VERSION, area_beside, area_elsewhere};

/// Longer than that no recovery takes.
const RECOVERY: Duration = Duration::from_secs(60);
/// Within that time whoever recovers by himself has the container's lock.
const BEGINNING: Duration = Duration::from_secs(3);
const BETWEEN_LOOKS: Duration = Duration::from_millis(1);

/// What the command came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Came {
    /// It returned 0.
    Done,
    /// It returned an error.
    Failed(i32),
    /// It was killed.
    Killed,
}

impl Came {
    /// Out of how it ended.
    pub fn of(exit: Exit) -> Came {
        match exit {
            Exit::Code(0) => Came::Done,
            Exit::Code(code) => Came::Failed(code),
            Exit::Signal(_) => Came::Killed,
        }
    }
}

impl Came {
    /// How it ended, for the message.
    pub(crate) fn exit(self) -> Exit {
        match self {
            Came::Done => Exit::Code(0),
            Came::Failed(code) => Exit::Code(code),
            Came::Killed => Exit::Signal(libc::SIGKILL),
        }
    }
}

/// By whom the container is recovered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recovery {
    /// By whom the dead command has left to watch; nobody types anything.
    ByItself,
    /// `prlctl recover CT`.
    Named,
    /// `prlctl recover`.
    All,
    /// The next command on that container, `prlctl umount CT`.
    NextCommand,
    /// As after a boot: `prlctl recover --boot`.
    Boot,
}

/// The host of one fault, and what it was.
pub struct Scene<'a> {
    /// Where the container lies now; of a power cut another place than before.
    pub prefix: &'a Prefix,
    /// Where it lay when it was made ready: what lies beside that is there after a power cut, too.
    pub former: &'a std::path::Path,
    /// `prlctl` on that prefix.
    pub prlctl: &'a dyn Fn(&[&str]) -> Ran,
    /// What was done.
    pub scenario: &'static Scenario,
    /// The container's name.
    pub name: &'a str,
    /// The container before; none when there was none.
    pub before: Option<&'a Before>,
    /// How it is recovered.
    pub recovery: Recovery,
    /// Whether it is to run: `None`, as it did.
    pub runs: Option<Runs>,
}

const OUTCOME: &str = "what has returned 0 is done, and what has returned an error is undone";
const BY_ITSELF: &str = "nobody has to type anything for what ran, or for a script, to be recovered";
const RECOVERS: &str = "recovery succeeds";

impl std::fmt::Debug for Scene<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scene")
            .field("scenario", &self.scenario.name)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Scene<'_> {
    /// Recovers and judges.
    ///
    /// # Errors
    /// The first [`Violation`].
    pub fn after(&self, came: Came, said: &str) -> Judged<Verdict> {
        self.recover()?;
        self.stop_what_is_doomed()?;
        let verdict = self.verdict(came, said)?;
        if let Ok(id) = store::registry::find(self.prefix, self.name) {
            self.keeps_to_its_end(&id)?;
        }
        let wanted = match came {
            // Nothing that fails by itself is ever done.
            Came::Done if !self.scenario.fails => Some(Verdict::New),
            Came::Done => None,
            Came::Failed(_) => Some(Verdict::Old),
            Came::Killed => None,
        };
        if wanted.is_some_and(|wanted| wanted != verdict) {
            return Err(Violation::new(OUTCOME, format!("it has come to {came:?}, and is {verdict:?}")));
        }
        if self.scenario.fails && verdict == Verdict::New {
            return Err(Violation::new(OUTCOME, "a script has failed, and its root is live"));
        }
        self.second_recovery()?;
        Ok(verdict)
    }

    /// What a qgroup is told goes with the power, and comes back before anything of the container runs.
    fn keeps_to_its_end(&self, id: &store::ContainerId) -> Judged<()> {
        let is_kept = keeps_to_its_end(self.prefix, id);
        if is_kept.is_ok() || self.recovery != Recovery::Boot {
            return is_kept;
        }
        for word in ["start", "stop"] {
            let ran = (self.prlctl)(&[word, &id.to_string()]);
            if ran.code != 0 {
                return Err(Violation::new(RECOVERS, format!("prlctl {word}: {ran}")));
            }
        }
        keeps_to_its_end(self.prefix, id)
    }

    /// What has returned an error before anything happened to it has put back everything by itself: before anybody recovers it.
    ///
    /// # Errors
    /// The first [`Violation`].
    pub fn at_once(&self, came: Came) -> Judged<()> {
        match (self.scenario.kind, came, self.before) {
            (Kind::Change(effect), Came::Failed(_), Some(before)) => {
                judge(self.prefix, before, effect, self.runs.unwrap_or(before.is_running.into())).map(drop)
            }
            _ => Ok(()),
        }
    }

    fn recover(&self) -> Judged<()> {
        let words: &[&str] = match self.recovery {
            Recovery::ByItself => return self.wait_for_recovery(),
            // One that is not there, or not yet, cannot be named.
            _ if self.before.is_none() && self.recovery != Recovery::Boot => &["recover"],
            Recovery::Named | Recovery::NextCommand if self.may_be_called_otherwise() => &["recover"],
            Recovery::Named => &["recover", self.name],
            Recovery::NextCommand => &["umount", self.name, "--lock-wait", "60"],
            Recovery::All => &["recover"],
            Recovery::Boot => &["recover", "--boot"],
        };
        self.must_recover(words)
    }

    /// A root that a container without a monitor still has at its `/old` is deleted when that stops, as was said: so it is restarted.
    fn stop_what_is_doomed(&self) -> Judged<()> {
        let Some(before) = self.before else { return Ok(()) };
        let Some(state) = runtime::state::running(self.prefix, &before.id) else { return Ok(()) };
        let records = |error: store::AreaError| Violation::new("every record can be read", error.to_string());
        let area = store::Area::open(self.prefix, &before.id).map_err(records)?;
        let is_doomed = area
            .generations()
            .map_err(records)?
            .into_iter()
            .any(|(_, record)| record.is_ok_and(|record| record.state == store::GenerationState::Doomed));
        if state.monitor.is_alive() || !is_doomed {
            return Ok(());
        }
        let ran = (self.prlctl)(&["restart", self.name]);
        if ran.code == 0 { Ok(()) } else { Err(Violation::new(RECOVERS, format!("prlctl restart: {ran}"))) }
    }

    /// By its name it may not be found any more.
    fn may_be_called_otherwise(&self) -> bool {
        let changes = [Kind::Delete, Kind::Unregister, Kind::Return, Kind::Set(Setting::Name)];
        changes.contains(&self.scenario.kind)
    }

    fn must_recover(&self, words: &[&str]) -> Judged<()> {
        let ran = (self.prlctl)(words);
        // What is not mounted cannot be unmounted; it was recovered all the same.
        let is_not_mounted = self.recovery == Recovery::NextCommand && ran.code == 40;
        if ran.code == 0 || is_not_mounted {
            Ok(())
        } else {
            Err(Violation::new(RECOVERS, format!("prlctl {words:?}: {ran}")))
        }
    }

    /// Waits for whoever watches. Where nobody does yet, because the command died before it had done anything, the next one is to do it.
    fn wait_for_recovery(&self) -> Judged<()> {
        let Some(before) = self.before else { return self.must_recover(&["recover"]) };
        let journal = self.prefix.area_dir(&before.id).join("operation.json");
        let began = Instant::now();
        if !journal.exists() {
            // It died before it had a journal, so that nobody had anything to watch; what it was writing then, the next command removes.
            return self.must_recover(&["recover", self.name]);
        }
        while journal.exists() {
            if began.elapsed() > RECOVERY {
                return Err(Violation::new(BY_ITSELF, format!("{} is still there", journal.display())));
            }
            if began.elapsed() > BEGINNING && self.is_unlocked(before)? && journal.exists() {
                let runs_on =
                    runtime::state::running(self.prefix, &before.id).map(|state| state.generation.get());
                // Neither down that ran, nor on probation for ever.
                if runs_on != before.is_running.then_some(before.live) {
                    return Err(Violation::new(
                        BY_ITSELF,
                        format!("it runs on {runs_on:?}, and nobody recovers it"),
                    ));
                }
                return self.must_recover(&["recover", self.name]);
            }
            std::thread::park_timeout(BETWEEN_LOOKS);
        }
        // The recovery removes the journal before it is quite at its end.
        let lock = Lock::exclusive(self.prefix, LockName::Container(before.id), RECOVERY, "torture");
        lock.map(drop).map_err(|error| Violation::new("no lock is held for ever", error.to_string()))
    }

    fn is_unlocked(&self, before: &Before) -> Judged<bool> {
        match Lock::exclusive(self.prefix, LockName::Container(before.id), Duration::ZERO, "torture") {
            Ok(_) => Ok(true),
            Err(LockError::Held { .. }) => Ok(false),
            Err(error) => Err(Violation::new("no lock is held for ever", error.to_string())),
        }
    }

    fn verdict(&self, came: Came, said: &str) -> Judged<Verdict> {
        match self.scenario.kind {
            Kind::Change(effect) => self.verdict_of_change(effect, came, said),
            Kind::Start | Kind::Stop => self.verdict_of_running(came),
            Kind::Create => self.verdict_of_creation(),
            Kind::Delete => self.verdict_of_deletion(),
            Kind::Move(to) => self.verdict_of_move(to),
            Kind::Disk(effect) => self.verdict_of_disk(effect, came, said),
            Kind::Set(setting) => self.verdict_of_setting(setting, came),
            Kind::Unregister => self.verdict_of_unregistering(),
            Kind::Return => self.verdict_of_return(),
            Kind::MakeTemplate
            | Kind::RemoveTemplate
            | Kind::UpdateTemplate
            | Kind::RemoveVersion
            | Kind::RepairTemplate
            | Kind::RepairVersion => self.verdict_of_template(),
        }
    }

    fn needed(&self) -> Judged<&Before> {
        self.before.ok_or_else(|| Violation::new("the test itself", "there is no container"))
    }

    fn verdict_of_change(&self, effect: Effect, came: Came, said: &str) -> Judged<Verdict> {
        let before = self.needed()?;
        let is_told = matches!(came, Came::Failed(_)) && said.contains("but it does not run");
        let runs = match self.runs {
            Some(runs) => runs,
            // The one call that was made to fail was the start of the old root, and the command has said so.
            None if is_told => Runs::Either,
            None => before.is_running.into(),
        };
        let verdict = judge(self.prefix, before, effect, runs)?;
        if verdict == Verdict::New && self.scenario.keeps() {
            before.is_kept(self.prefix)?;
        }
        if verdict == Verdict::New && effect == Effect::Flatten {
            has_the_template(self.prefix, &before.id)?;
            has_written(self.prefix, &before.id, "etc/passwd", golden::USER)?;
        }
        if verdict == Verdict::New && matches!(effect, Effect::Reinstall { .. }) {
            let mut files = vec![("etc/passwd", golden::USER)];
            match self.scenario.scripts {
                Scripts::None | Scripts::BadConfigure => {}
                Scripts::Configure => files.push(("configured", "yes")),
                Scripts::Build => {
                    files.extend([("built", "yes"), ("configured", "yes")]);
                    has_the_template(self.prefix, &before.id)?;
                }
            }
            for (file, wanted) in files {
                has_written(self.prefix, &before.id, file, wanted)?;
            }
        }
        Ok(verdict)
    }

    fn verdict_of_running(&self, came: Came) -> Judged<Verdict> {
        let before = self.needed()?;
        let runs = match (came, self.runs) {
            (_, Some(runs)) => runs,
            (Came::Done, None) => (!before.is_running).into(),
            // A stop that comes to an error may have stopped it, and says so.
            (Came::Failed(_), None) if self.scenario.kind == Kind::Stop => Runs::Either,
            (Came::Failed(_), None) => before.is_running.into(),
            (Came::Killed, None) => Runs::Either,
        };
        judge(self.prefix, before, Effect::Nothing, runs)?;
        // There is nothing on disk to tell the two apart: what it came to is what `runs` was about.
        Ok(if came == Came::Done { Verdict::New } else { Verdict::Old })
    }

    fn verdict_of_creation(&self) -> Judged<Verdict> {
        let verdict = match store::registry::find(self.prefix, self.name) {
            Ok(id) => {
                whole(self.prefix, &id, self.name, Runs::No)?;
                if self.scenario.registers() {
                    self.is_all_of_the_area(&id)?;
                }
                Verdict::New
            }
            Err(_) => Verdict::Old,
        };
        leftovers(self.prefix)?;
        Ok(verdict)
    }

    /// What was registered has all that the area had, and the area is as it was.
    fn is_all_of_the_area(&self, id: &store::ContainerId) -> Judged<()> {
        let look = |path: &std::path::Path| -> Judged<tree::Snapshot> {
            let failed = |error: String| Violation::new("what is registered is whole", error);
            let directory = std::fs::File::open(path).map_err(|error| failed(error.to_string()))?;
            tree::snapshot(std::os::fd::AsFd::as_fd(&directory)).map_err(|error| failed(error.to_string()))
        };
        let had = look(&area_beside(self.former).join("fs"))?;
        let area = Area::open(self.prefix, id)
            .map_err(|error| Violation::new("what is registered is whole", error.to_string()))?;
        let has = look(&testkit::judge::layers(&area, GenerationNumber::FIRST).join("delta"))?;
        match had.differences(&has).first() {
            None => Ok(()),
            Some(first) => Err(Violation::new("what is registered is whole", first.clone())),
        }
    }

    fn verdict_of_deletion(&self) -> Judged<Verdict> {
        let before = self.needed()?;
        if self.prefix.area_dir(&before.id).exists() {
            // Stopped, perhaps, but whole.
            return judge(self.prefix, before, Effect::Nothing, self.runs.unwrap_or(Runs::Either));
        }
        leftovers(self.prefix)?;
        Ok(Verdict::New)
    }

    /// All of it is there, and its layers lie in one of the two places.
    fn verdict_of_move(&self, to: store::Volume) -> Judged<Verdict> {
        let before = self.needed()?;
        judge(self.prefix, before, Effect::Nothing, self.runs.unwrap_or(before.is_running.into()))?;
        let area = Area::open(self.prefix, &before.id)
            .map_err(|error| Violation::new("every record can be read", error.to_string()))?;
        Ok(if area.volume() == to { Verdict::New } else { Verdict::Old })
    }

    /// The disk is there whole, with its entry, or is not there. Killed in between, it may be detached; what has come to an end by itself leaves none.
    fn verdict_of_disk(&self, effect: DiskEffect, came: Came, said: &str) -> Judged<Verdict> {
        let before = self.needed()?;
        judge(
            self.prefix,
            before,
            Effect::Settings(&[store::disks::KEY]),
            self.runs.unwrap_or(before.is_running.into()),
        )?;
        match judge_disks(self.prefix, &before.id, effect)? {
            DiskState::Old => Ok(Verdict::Old),
            DiskState::New => Ok(Verdict::New),
            DiskState::Detached if came == Came::Killed => Ok(Verdict::New),
            // It has no entry any more, and the file could not be deleted, which was said.
            DiskState::Detached if came == Came::Done && said.contains("hdd1.img is still there") => {
                Ok(Verdict::New)
            }
            DiskState::Detached => {
                Err(Violation::new(OUTCOME, format!("it has come to {came:?}, and left a detached disk")))
            }
        }
    }

    /// One or the other; killed in between, what its next start makes so.
    fn verdict_of_setting(&self, setting: Setting, came: Came) -> Judged<Verdict> {
        let before = self.needed()?;
        let runs = self.runs.unwrap_or(before.is_running.into());
        let is_new = match judge_setting(self.prefix, before, setting, runs)? {
            Settled::Old => false,
            Settled::New => true,
            // What a qgroup is told a power cut takes back.
            Settled::Between { is_new } if came == Came::Killed || self.recovery == Recovery::Boot => {
                self.comes_to_an_end(setting, is_new)?
            }
            Settled::Between { .. } => {
                return Err(Violation::new(OUTCOME, format!("it has come to {came:?}, and is neither")));
            }
        };
        Ok(if is_new { Verdict::New } else { Verdict::Old })
    }

    /// What is half done the next start puts right; of a password, whoever gives it again. Whether it is done then.
    fn comes_to_an_end(&self, setting: Setting, is_new: bool) -> Judged<bool> {
        let before = self.needed()?;
        let (commands, is_done): (Vec<Vec<&str>>, bool) = match setting {
            Setting::Password(_) => {
                let words =
                    self.scenario.words.iter().map(|&word| if word == "CT" { self.name } else { word });
                (vec![words.collect()], true)
            }
            Setting::Name | Setting::Bind { .. } | Setting::Space { .. } if before.is_running => {
                (vec![vec!["restart", self.name]], is_new)
            }
            Setting::Name | Setting::Bind { .. } | Setting::Space { .. } => {
                (vec![vec!["start", self.name], vec!["stop", self.name]], is_new)
            }
        };
        for words in commands {
            let ran = (self.prlctl)(&words);
            if ran.code != 0 {
                return Err(Violation::new(RECOVERS, format!("prlctl {words:?}: {ran}")));
            }
        }
        let settled = judge_setting(self.prefix, before, setting, Runs::Either)?;
        if settled == if is_done { Settled::New } else { Settled::Old } {
            return Ok(is_done);
        }
        Err(Violation::new(OUTCOME, format!("half done, and after the next command it is {settled:?}")))
    }

    /// A container as it was, or an area that is none, as it was.
    fn verdict_of_unregistering(&self) -> Judged<Verdict> {
        let before = self.needed()?;
        let verdict = if store::registry::find(self.prefix, self.name).is_ok() {
            judge(self.prefix, before, Effect::Nothing, self.runs.unwrap_or(before.is_running.into()))?;
            Verdict::Old
        } else {
            is_whole_and_unregistered(self.prefix, before, &self.prefix.area_dir(&before.id))?;
            Verdict::New
        };
        leftovers(self.prefix)?;
        Ok(verdict)
    }

    /// The same the other way round; one that lay elsewhere may have got to its place.
    fn verdict_of_return(&self) -> Judged<Verdict> {
        let before = self.needed()?;
        let verdict = if store::registry::find(self.prefix, self.name).is_ok() {
            judge(self.prefix, before, Effect::Nothing, Runs::No)?;
            Verdict::New
        } else {
            is_whole_and_unregistered(self.prefix, before, &self.unregistered(before))?;
            Verdict::Old
        };
        leftovers(self.prefix)?;
        Ok(verdict)
    }

    /// Where it lies then.
    fn unregistered(&self, before: &Before) -> std::path::PathBuf {
        let elsewhere = area_elsewhere(self.prefix);
        if elsewhere.exists() { elsewhere } else { self.prefix.area_dir(&before.id) }
    }

    /// What is no container can be one again, as it was.
    fn comes_back(&self) -> Judged<()> {
        let Some(before) = self.before else { return Ok(()) };
        let is_of_these = matches!(self.scenario.kind, Kind::Unregister | Kind::Return);
        if !is_of_these || store::registry::find(self.prefix, self.name).is_ok() {
            return Ok(());
        }
        let path = self.unregistered(before);
        let ran = (self.prlctl)(&["register", &path.to_string_lossy()]);
        if ran.code != 0 {
            return Err(Violation::new("what was unregistered can be registered", ran.to_string()));
        }
        self.must_recover(&["recover", self.name])?;
        judge(self.prefix, before, Effect::Nothing, Runs::No).map(drop)
    }

    fn verdict_of_template(&self) -> Judged<Verdict> {
        leftovers(self.prefix)?;
        let damaged = |what: String| Violation::new("a template is whole, or not there", what);
        let name: TemplateName = self.name.parse().map_err(|error| damaged(format!("{error}")))?;
        let (mut versions, mut is_as_damaged) = (Vec::new(), false);
        for template in store::template::templates(self.prefix).map_err(|error| damaged(error.to_string()))? {
            let template = template.map_err(|error| damaged(error.to_string()))?;
            if template.record.name != name {
                continue;
            }
            let rootfs =
                std::fs::File::open(template.rootfs()).map_err(|error| damaged(error.to_string()))?;
            let digest = tree::digest(std::os::fd::AsFd::as_fd(&rootfs))
                .map_err(|error| damaged(error.to_string()))?;
            let is_repaired = matches!(self.scenario.kind, Kind::RepairTemplate | Kind::RepairVersion);
            if is_repaired && world::is_as_damaged(&template.rootfs()) {
                is_as_damaged = true;
            } else if digest.hex != template.record.digest {
                return Err(damaged(format!("{} has another digest", template.rootfs().display())));
            }
            versions.push(template);
        }
        let latest = match store::template::latest(self.prefix, &name) {
            Ok(template) => Some(template),
            Err(store::TemplateError::Unknown { .. } | store::TemplateError::NoLatest { .. }) => None,
            Err(error) => return Err(damaged(error.to_string())),
        };
        let version = latest.as_ref().map(|latest| {
            std::fs::read_to_string(latest.rootfs().join(VERSION)).unwrap_or_else(|_| "none".to_owned())
        });
        let is_new = match (self.scenario.kind, version.as_deref(), versions.len()) {
            (Kind::MakeTemplate, version, _) => version.is_some(),
            (Kind::RemoveTemplate, version, _) => version.is_none(),
            (Kind::UpdateTemplate, Some("1"), 1) => false,
            // The one before is there still: roots may lie on it.
            (Kind::UpdateTemplate, Some("2"), 2) => true,
            (Kind::RemoveVersion, Some("2"), 2) => false,
            (Kind::RemoveVersion, Some("2"), 1) => true,
            // Under its name there is one of the two trees, whole as it was.
            (Kind::RepairTemplate, Some("1"), 1) => !is_as_damaged,
            // Killed in between, it is whole and not yet the latest.
            (Kind::RepairVersion, Some("2"), 2) => false,
            (Kind::RepairVersion, Some("1"), 2) if !is_as_damaged => true,
            (_, version, count) => {
                return Err(damaged(format!("{count} versions, and the latest says it is {version:?}")));
            }
        };
        Ok(if is_new { Verdict::New } else { Verdict::Old })
    }

    fn second_recovery(&self) -> Judged<()> {
        let still = Still::of(self.prefix);
        self.must_recover(&["recover"])?;
        still.compare(self.prefix)
    }

    /// What is deleted is gone in the end, and the container can be given another root as ever.
    ///
    /// # Errors
    /// The first [`Violation`].
    pub fn next_reinstall(&self) -> Judged<()> {
        leftovers(self.prefix)?;
        trash_empties(self.prefix)?;
        self.comes_back()?;
        let unusable = |what: String| Violation::new("the next reinstall works", what);
        let names = [self.name.to_owned(), renamed(self.name)];
        let name = names.iter().find(|name| store::registry::find(self.prefix, name).is_ok());
        let Some(name) = name.filter(|_| !self.scenario.is_of_templates()) else { return Ok(()) };
        let before = Before::of(self.prefix, name)?;
        let ran =
            (self.prlctl)(&["reinstall", name, "--skipscripts", "--skip-app-templates", "--lock-wait", "60"]);
        if ran.code != 0 {
            return Err(unusable(ran.to_string()));
        }
        let effect = Effect::Reinstall { discards: false };
        match judge(self.prefix, &before, effect, before.is_running.into())? {
            Verdict::New => Ok(()),
            Verdict::Old => Err(unusable("it has returned 0, and the root is the old one".to_owned())),
        }
    }
}

/// The journal as it lies on disk, for the message.
pub fn journal(prefix: &Prefix, before: Option<&Before>) -> Option<String> {
    let area = Area::open_unchecked(prefix, &before?.id).ok()?;
    std::fs::read_to_string(area.path().join("operation.json")).ok()
}

/// The step that the operation was last at, as its log says: of the newest operation on that container.
pub fn step(prefix: &Prefix, before: Option<&Before>) -> Option<String> {
    let directory = prefix.log_dir().join("operations").join(before?.id.to_string());
    let newest = std::fs::read_dir(directory).ok()?.flatten().map(|entry| entry.path()).max()?;
    let text = String::from_utf8_lossy(&std::fs::read(newest).ok()?).into_owned();
    text.lines().rev().find_map(|line| line.split_once(" reroot: step ").map(|(_, step)| step.to_owned()))
}

/// Where an operation stood when the fault met it, for the message.
#[derive(Debug, Default)]
pub struct Stood {
    journal: Option<String>,
    step: Option<String>,
}

impl Stood {
    /// To be asked before anybody recovers it.
    pub fn now(prefix: &Prefix, before: Option<&Before>) -> Stood {
        Stood { journal: journal(prefix, before), step: step(prefix, before) }
    }
}

/// Everything that must be said of a failure.
pub fn report(violation: &Violation, case: &str, run: &Run, stood: &Stood, repeat: &str) -> String {
    format!(
        "LOST\n  invariant  {}\n  what       {}\n  case       {case}\n  step       {}\n  command    {:?} after {} calls{}\n  said       \
         {}\n  journal    {}\n  repeat     {repeat}\n",
        violation.invariant,
        violation.what.trim_end().replace('\n', "\n             "),
        stood.step.as_deref().unwrap_or("none"),
        run.exit,
        run.calls,
        if run.hangs { ", killed because it did not end" } else { "" },
        run.said.trim_end().replace('\n', "\n             "),
        stood.journal.as_deref().unwrap_or("none").trim_end().replace('\n', "\n             "),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_is_told_with_all_that_is_needed_to_look_into_it() {
        let violation =
            Violation::new("no file of an old root is lost", "generation 1: root/marker: is missing");
        let run = Run {
            exit: Exit::Signal(9),
            calls: 77,
            said: "Creating generation 2 ...\n".to_owned(),
            hangs: false,
        };
        let stood = Stood {
            journal: Some("{\n  \"operation\": \"reinstall\"\n}\n".to_owned()),
            step: Some("commit".to_owned()),
        };
        let point = crate::fault::Point {
            scenario: crate::fault::scenario("reinstall, stopped").unwrap(),
            victim: crate::trace::Victim::Command,
            recovers: None,
            call: 77,
            fault: crate::fault::Fault::KillAfter,
        };
        let case = format!("{point}, renameat(live)");
        let text = report(&violation, &case, &run, &stood, &point.repeat(5));
        let wanted = "LOST\n  \
            invariant  no file of an old root is lost\n  \
            what       generation 1: root/marker: is missing\n  \
            case       reinstall, stopped: kill-after at call 77, renameat(live)\n  \
            step       commit\n  \
            command    Signal(9) after 77 calls\n  \
            said       Creating generation 2 ...\n  \
            journal    {\n               \"operation\": \"reinstall\"\n             }\n  \
            repeat     torture one 'reinstall, stopped' --call 77 --fault kill-after --seed 5\n";
        assert_eq!(text, wanted);
    }
}
