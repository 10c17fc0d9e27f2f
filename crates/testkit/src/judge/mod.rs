//! Whether a container of a real host is as it was or as it should be, and nothing in between.
//!
//! One checker for every sweep of faults and every test of crashes. It asks the disk and the kernel by itself, never `prlctl`:
//!
//! ```text
//! facts          every byte, owner, attribute, link, hole and time of the roots, before and after
//! disks          what lies beside the roots; settings: what a call of `set` makes another
//! unregistered   an area that is no container, and is whole
//! surroundings   what is mounted, what runs, what lies about
//! still          all that a second recovery could change
//! ```
//!
//! What is wrong is a [`Violation`]: which invariant, and where.

mod disks;
mod facts;
mod settings;
mod still;
mod surroundings;
mod unregistered;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use store::{Area, Base, ContainerId, GenerationNumber, GenerationRecord, GenerationState, Prefix, Volume};

pub use disks::{DiskEffect, DiskState, fill, judge_disks};
pub use facts::{KEPT, KeptPart, RootFacts};
pub use settings::{Setting, Settled, judge_setting, keeps_to_its_end, renamed};
pub use still::Still;
pub use surroundings::{leftovers, trash_empties};
pub use unregistered::is_whole_and_unregistered;

/// How long what a command leaves to others (unmounting, say) may take after its end.
const SETTLING: Duration = Duration::from_secs(30);
/// How often it is looked at: nobody tells of it.
const BETWEEN_LOOKS: Duration = Duration::from_millis(2);

/// What does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// In a few words, always the same ones.
    pub invariant: &'static str,
    /// Which file, process or mount, and what is wrong with it.
    pub what: String,
    /// Others are at work on it yet: it may come to hold by itself.
    is_passing: bool,
}

impl Violation {
    /// One that stays.
    pub fn new(invariant: &'static str, what: impl Into<String>) -> Violation {
        Violation { invariant, what: what.into(), is_passing: false }
    }

    fn passing(invariant: &'static str, what: impl Into<String>) -> Violation {
        Violation { is_passing: true, ..Violation::new(invariant, what) }
    }
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.invariant, self.what)
    }
}

/// See [`Violation`].
pub type Judged<T> = Result<T, Violation>;

/// The two states that there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing has happened.
    Old,
    /// All of it has happened.
    New,
}

/// What an operation changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// A new generation is live; the old one is kept, or not.
    Reinstall {
        /// `--skipbackup`.
        discards: bool,
    },
    /// That one is live.
    Switch(u32),
    /// That one is gone.
    Forget(u32),
    /// A new generation that needs no template is live instead of the old one.
    Flatten,
    /// What its configuration says of those keys, and nothing else: see [`judge_disks`] and [`judge_setting`].
    Settings(&'static [&'static str]),
    /// Accounts of the live root, and nothing else: likewise.
    Accounts,
    /// It runs, or it does not any more: nothing on disk.
    Nothing,
}

/// Whether a container is to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Runs {
    /// It is.
    Yes,
    /// It is not.
    No,
    /// Either will do.
    Either,
}

impl From<bool> for Runs {
    fn from(runs: bool) -> Runs {
        if runs { Runs::Yes } else { Runs::No }
    }
}

/// A container before anything was done to it.
#[derive(Debug)]
pub struct Before {
    /// Its id.
    pub id: ContainerId,
    /// What it is called.
    pub name: String,
    /// Its root.
    pub live: u32,
    /// The number that the next generation gets.
    pub next: u32,
    /// It ran.
    pub is_running: bool,
    parents: Parents,
    failed: Option<u32>,
    roots: BTreeMap<u32, RootFacts>,
    conf: Vec<u8>,
    bases: Bases,
    /// What a reinstall may be asked to keep of the live root.
    kept: KeptPart,
    accounts: settings::Accounts,
}

fn records<E: std::fmt::Display>(error: E) -> Violation {
    Violation::new("every record can be read", error.to_string())
}

/// Of each generation its parent.
type Parents = BTreeMap<u32, Option<u32>>;

/// What a generation is mounted from and how: with another template below it, or other options, it is another root.
type Bases = BTreeMap<u32, (Base, Vec<String>)>;

fn bases(area: &Area) -> Judged<Bases> {
    let mut bases = BTreeMap::new();
    for (number, record) in area.generations().map_err(records)? {
        let record = record.map_err(records)?;
        bases.insert(number.get(), (record.base, record.mount_options));
    }
    Ok(bases)
}

/// Parents of the generations that are kept, and the one that was tried out and given up.
fn generations(area: &Area) -> Judged<(Parents, Option<u32>)> {
    let mut parents = BTreeMap::new();
    let mut failed = None;
    for (number, record) in area.generations().map_err(records)? {
        let record = record.map_err(records)?;
        match record.state {
            GenerationState::Kept => {
                parents.insert(number.get(), record.parent.map(GenerationNumber::get));
            }
            GenerationState::Failed if failed.is_none() => failed = Some(number.get()),
            state @ (GenerationState::Failed | GenerationState::Staged | GenerationState::Doomed) => {
                let what = format!("{} is {state:?}", area.generation_dir(number).display());
                return Err(Violation::new("no generation is left half made or half gone", what));
            }
        }
    }
    Ok((parents, failed))
}

impl Before {
    /// Looks at a container.
    ///
    /// # Errors
    /// [`Violation`] when it cannot be looked at.
    pub fn of(prefix: &Prefix, name: &str) -> Judged<Before> {
        let id = store::registry::find(prefix, name).map_err(records)?;
        let area = Area::open(prefix, &id).map_err(records)?;
        let (parents, failed) = generations(&area)?;
        let mut roots = BTreeMap::new();
        for &number in parents.keys() {
            roots.insert(number, RootFacts::of(&area, number)?);
        }
        Ok(Before {
            id,
            name: name.to_owned(),
            live: area.live().map_err(records)?.get(),
            next: area.next_generation_number().map_err(records)?.get(),
            is_running: runtime::state::running(prefix, &id).is_some(),
            parents,
            failed,
            roots,
            conf: area.conf().map_err(records)?.to_bytes(),
            bases: bases(&area)?,
            kept: KeptPart::of(&area, area.live().map_err(records)?.get())?,
            accounts: settings::Accounts::of(prefix, &area)?,
        })
    }

    /// A new root that was asked to keep [`KEPT`] has it as the old one had it.
    ///
    /// # Errors
    /// With the first files that it has not.
    pub fn is_kept(&self, prefix: &Prefix) -> Judged<()> {
        let area = Area::open(prefix, &self.id).map_err(records)?;
        let now = KeptPart::of(&area, area.live().map_err(records)?.get())?;
        self.kept.compare(&now)
    }

    /// How many roots it has.
    pub fn count(&self) -> usize {
        self.parents.len()
    }

    /// What is live, and which generations there are with which parents, when it has happened.
    fn after(&self, effect: Effect) -> (u32, Parents) {
        let mut parents = self.parents.clone();
        let past = |parents: &mut Parents, gone: u32| {
            let up = parents.remove(&gone).flatten();
            parents.values_mut().filter(|parent| **parent == Some(gone)).for_each(|parent| *parent = up);
        };
        match effect {
            Effect::Reinstall { discards } => {
                parents.insert(self.next, Some(self.live));
                if discards {
                    past(&mut parents, self.live);
                }
                (self.next, parents)
            }
            Effect::Switch(to) => (to, parents),
            Effect::Forget(number) => {
                past(&mut parents, number);
                (self.live, parents)
            }
            Effect::Flatten => {
                let parent = parents.get(&self.live).copied().flatten();
                parents.insert(self.next, parent);
                past(&mut parents, self.live);
                (self.next, parents)
            }
            Effect::Settings(_) | Effect::Accounts | Effect::Nothing => (self.live, parents),
        }
    }
}

/// Everything that must hold when no operation is under way any more. Tells whether it has happened; of [`Effect::Nothing`], `Old`.
///
/// # Errors
/// The first [`Violation`].
pub fn judge(prefix: &Prefix, before: &Before, effect: Effect, runs: Runs) -> Judged<Verdict> {
    judge_called(prefix, before, &before.name, effect, runs)
}

/// The same of one that may be called something else by now.
fn judge_called(prefix: &Prefix, before: &Before, name: &str, effect: Effect, runs: Runs) -> Judged<Verdict> {
    let area = Area::open(prefix, &before.id).map_err(records)?;
    let verdict = judge_area(&area, before, effect)?;
    whole(prefix, &before.id, name, runs)?;
    Ok(verdict)
}

/// What is in an area: records, roots, configuration.
fn judge_area(area: &Area, before: &Before, effect: Effect) -> Judged<Verdict> {
    if let Some(journal) = area.journal().map_err(records)? {
        let what = format!("{} of {}", area.path().join("operation.json").display(), journal.operation);
        return Err(Violation::new("no operation is under way after a recovery", what));
    }
    let live = area.live().map_err(records)?.get();
    let (found, failed) = generations(area)?;
    let (wanted_live, wanted) = before.after(effect);
    let has_happened = !matches!(effect, Effect::Settings(_) | Effect::Accounts | Effect::Nothing)
        && live == wanted_live
        && found.keys().eq(wanted.keys());
    let (verdict, live_then, then) = if has_happened {
        (Verdict::New, wanted_live, &wanted)
    } else {
        (Verdict::Old, before.live, &before.parents)
    };
    if live != live_then || found != *then {
        let what = format!(
            "generation {live} of {found:?} is live; it was {} of {:?} and was to be {wanted_live} of {wanted:?}",
            before.live, before.parents
        );
        return Err(Violation::new("it is on the old root or on the new one", what));
    }
    // At most the one that was tried out now, or was before.
    if failed.is_some_and(|failed| Some(failed) != before.failed && failed < before.next) {
        let what = format!("{failed:?} is said to have failed");
        return Err(Violation::new("no root that was there is said to have failed", what));
    }
    for (number, facts) in &before.roots {
        if found.contains_key(number) {
            let is_other = effect == Effect::Accounts && *number == before.live;
            let but = if is_other { settings::OF_ACCOUNTS } else { &[] };
            facts.compare(area, *number, but)?;
        }
    }
    let now = bases(area)?;
    for (number, base) in &before.bases {
        if found.contains_key(number) && now.get(number) != Some(base) {
            let what = format!("generation {number}: {base:?}, now {:?}", now.get(number));
            return Err(Violation::new("an old root is mounted as it was", what));
        }
    }
    let next = area.next_generation_number().map_err(records)?.get();
    if next < before.next {
        let what = format!("the next one is {next}, and was {}", before.next);
        return Err(Violation::new("no generation's number is given twice", what));
    }
    let is_compared = |bytes: &[u8]| {
        let mut conf = store::Conf::parse(bytes);
        if let Effect::Settings(keys) = effect {
            for key in keys {
                conf.remove(key);
            }
        }
        conf.to_bytes()
    };
    if is_compared(&area.conf().map_err(records)?.to_bytes()) != is_compared(&before.conf) {
        let what = area.path().join("ve.conf").display().to_string();
        return Err(Violation::new("ve.conf is what it was", what));
    }
    Ok(verdict)
}

/// What holds of every container at every time between two operations.
///
/// # Errors
/// The first [`Violation`].
pub fn whole(prefix: &Prefix, id: &ContainerId, name: &str, runs: Runs) -> Judged<()> {
    let area = Area::open(prefix, id).map_err(records)?;
    match store::registry::find(prefix, name) {
        Ok(found) if found == *id => {}
        other => {
            let what = format!("`{name}` is {other:?}, wanted {id}");
            return Err(Violation::new("it is found by its name", what));
        }
    }
    for link in [prefix.conf_dir().join(format!("{id}.conf")), prefix.names_dir().join(name)] {
        if link.canonicalize().ok() != area.path().join("ve.conf").canonicalize().ok() {
            let what = format!("{} does not lead to its ve.conf", link.display());
            return Err(Violation::new("it is found by its name", what));
        }
    }
    let live = area.live().map_err(records)?;
    let record = area.generation(live).map_err(records)?;
    let conf = area.conf().map_err(records)?;
    for (key, value) in [("OSTEMPLATE", &record.ostemplate), ("DISTRIBUTION", &record.distribution)] {
        if value.is_some() && conf.get(key) != *value {
            let what = format!("{key} is {:?}, wanted {value:?}", conf.get(key));
            return Err(Violation::new("ve.conf follows the live root", what));
        }
    }
    generations(&area)?;
    surroundings::nothing_lies_in(&area)?;
    let chain: Vec<u32> = GenerationRecord::chain(&area, live)
        .map_err(records)?
        .into_iter()
        .map(|number| number.get())
        .collect();
    eventually(|| surroundings::runs_as_it_should(prefix, id, &chain, runs))
}

/// Holds a condition that others may still be bringing about.
fn eventually(mut holds: impl FnMut() -> Judged<()>) -> Judged<()> {
    let deadline = Instant::now() + SETTLING;
    loop {
        match holds() {
            Err(violation) if violation.is_passing && Instant::now() < deadline => {
                std::thread::park_timeout(BETWEEN_LOOKS);
            }
            other => return other,
        }
    }
}

/// No two containers have the same ids.
///
/// # Errors
/// The first two that have.
pub fn ranges_are_distinct(prefix: &Prefix) -> Judged<()> {
    let mut seen: BTreeMap<u32, ContainerId> = BTreeMap::new();
    for id in store::registry::list(prefix).map_err(records)? {
        let record = Area::open(prefix, &id).and_then(|area| area.record()).map_err(records)?;
        if let Some(other) = seen.insert(record.id_range.first, id) {
            let what = format!("{id} and {other} begin at {}", record.id_range.first);
            return Err(Violation::new("no two containers have the same ids", what));
        }
    }
    Ok(())
}

/// Where the layers of a generation lie; a disk of the container's own is mounted for it, as any command would.
///
/// # Panics
/// When that cannot be mounted: there is nothing to judge then.
pub fn layers(area: &Area, number: GenerationNumber) -> PathBuf {
    if area.volume() == Volume::Image {
        let prefix = area.path().ancestors().nth(3).expect("an area lies three deep in its prefix");
        let prefix = Prefix::new(prefix).expect("the prefix of an area");
        runtime::volume::mount(&prefix, area.id(), &area.image()).expect("mount a container's disk");
        area.check_volume().expect("it is the container's own");
    }
    area.layers_dir(number)
}

/// Every file of the template that a script has copied into its root has its size there.
///
/// # Errors
/// [`Violation`] with the first one that has not.
pub fn has_the_template(prefix: &Prefix, id: &ContainerId) -> Judged<()> {
    let area = Area::open(prefix, id).map_err(records)?;
    let delta = layers(&area, area.live().map_err(records)?).join("delta");
    let name = "busybox".parse().map_err(records)?;
    let template = store::template::latest(prefix, &name).map_err(records)?.rootfs();
    let mut todo = vec![template.clone()];
    while let Some(directory) = todo.pop() {
        for entry in std::fs::read_dir(&directory).into_iter().flatten().flatten() {
            let path = entry.path();
            let below = path.strip_prefix(&template).unwrap_or(&path);
            let Ok(wanted) = path.symlink_metadata() else { continue };
            let found = delta.join(below).symlink_metadata();
            // What is carried over, or made anew, is another.
            let is_ours = below.starts_with("etc");
            let is_there = found.as_ref().is_ok_and(|found| {
                found.file_type() == wanted.file_type() && (!wanted.is_file() || found.len() == wanted.len())
            });
            if !is_there && !is_ours {
                let what = format!("{} of the template: {found:?}", below.display());
                return Err(Violation::new("the new root has what it was given", what));
            }
            if wanted.is_dir() {
                todo.push(path);
            }
        }
    }
    Ok(())
}

/// The text of a file that a new root must have, in its delta.
///
/// # Errors
/// [`Violation`] when it is missing or another.
pub fn has_written(prefix: &Prefix, id: &ContainerId, file: &str, wanted: &str) -> Judged<()> {
    let area = Area::open(prefix, id).map_err(records)?;
    let live = area.live().map_err(records)?;
    let path = layers(&area, live).join("delta").join(Path::new(file));
    match std::fs::read_to_string(&path) {
        Ok(text) if text.contains(wanted) => Ok(()),
        other => {
            let what = format!("{}: {other:?}, wanted `{wanted}` in it", path.display());
            Err(Violation::new("the new root has what it was given", what))
        }
    }
}
