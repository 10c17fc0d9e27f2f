//! A slice of a sweep, by several workers: each has a host of its own, and takes the next batch when it is done with one.
//!
//! Most of an operation's time is spent waiting for the kernel, so there are more workers than processors.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use testkit::real_host::mark;

use crate::dice::Dice;
use crate::disk::{Disk, FileSystem};
use crate::fault::Point;
use crate::filesystem::CutWorld;
use crate::syscalls::{Survived, Sweep, Visited, drawn, plan, survive, visited};
use crate::world::{Unusable, World};

/// After so many losses a slice ends: more of them would say the same.
const ENOUGH: usize = 10;

/// What was survived, and what was not.
#[derive(Debug, Default, Clone)]
pub struct Tally {
    /// Operations that were killed.
    pub kills: u64,
    /// Operations in which a call failed.
    pub errors: u64,
    /// Power cuts.
    pub cuts: u64,
    /// Points that this run did not come to.
    pub missed: u64,
    /// What is to be said of each loss.
    pub lost: Vec<String>,
}

impl Tally {
    fn add(&mut self, point: &Point, survived: Survived) {
        let count = if point.fault.kills() { &mut self.kills } else { &mut self.errors };
        match survived {
            Survived::Whole => *count += 1,
            Survived::NotReached => self.missed += 1,
            Survived::Lost(text) => {
                *count += 1;
                self.lost.push(text);
            }
        }
    }

    /// Faults in all.
    pub fn faults(&self) -> u64 {
        self.kills + self.errors + self.cuts
    }
}

/// What a slice is to do.
#[derive(Debug, Clone)]
pub struct Slice {
    /// The program under test.
    pub program: PathBuf,
    /// Hosts lie here.
    pub directory: PathBuf,
    /// In which order the points are taken.
    pub seed: u64,
    /// The first batch.
    pub from: u64,
    /// When no other batch is begun.
    pub until: Instant,
    /// So many faults are enough.
    pub at_most: u64,
    /// How many at the same time.
    pub workers: usize,
    /// Of the operations, those whose names contain this.
    pub only: String,
    /// Hosts that are not cut lie on a filesystem of that kind, made for them.
    pub on: Option<&'static FileSystem>,
}

/// What came of a slice.
#[derive(Debug)]
pub struct Done {
    /// What was survived.
    pub tally: Tally,
    /// The batch after the last one.
    pub to: u64,
    /// How many there are.
    pub of: u64,
}

struct Shared {
    tally: Tally,
    next: u64,
    /// Operations of power cuts.
    of: u64,
    failure: Option<Unusable>,
}

/// Somebody wants this run to end: with the batch that it is at.
pub fn is_interrupted() -> bool {
    linux::counted_signals() > 0
}

/// Does a slice of one of the sweeps over system calls; `None` where containers cannot run.
///
/// # Errors
/// When a host does not work without a fault.
pub fn syscalls(slice: &Slice, sweep: Sweep) -> Result<Option<Done>, Unusable> {
    let (_disk, slice) = &on_its_own(slice)?;
    let Some(mut world) = new_world(slice)? else { return Ok(None) };
    let batches = plan(&mut world, sweep, slice.seed, &slice.only)?;
    drop(world);
    let of = batches.len() as u64;
    let shared = Mutex::new(Shared { tally: Tally::default(), next: slice.from, of: 0, failure: None });
    std::thread::scope(|scope| {
        for _ in 0..slice.workers {
            scope.spawn(|| {
                if let Err(unusable) = work(slice, &batches, &shared)
                    && let Ok(mut shared) = shared.lock()
                {
                    shared.failure = Some(unusable);
                }
            });
        }
    });
    let shared = shared.into_inner().map_err(|_| Unusable("a worker has panicked".to_owned()))?;
    match shared.failure {
        Some(failure) => Err(failure),
        None => Ok(Some(Done { tally: shared.tally, to: shared.next, of })),
    }
}

/// Does a sample of one of the sweeps over system calls: a few faults of each of so many operations. Each is measured once, by whoever draws from it, and no list of all
/// points is made. `None` where containers cannot run.
///
/// # Errors
/// When a host does not work without a fault.
pub fn sample(slice: &Slice, sweep: Sweep, each: usize, operations: usize) -> Result<Option<Done>, Unusable> {
    let (_disk, slice) = &on_its_own(slice)?;
    if new_world(slice)?.is_none() {
        return Ok(None);
    }
    let mut all = visited(sweep, slice.seed, &slice.only, &slice.directory);
    all.truncate(operations);
    let shared = Mutex::new(Shared { tally: Tally::default(), next: 0, of: 0, failure: None });
    std::thread::scope(|scope| {
        for _ in 0..slice.workers {
            scope.spawn(|| {
                if let Err(unusable) = draw(slice, &all, each, &shared)
                    && let Ok(mut shared) = shared.lock()
                {
                    shared.failure = Some(unusable);
                }
            });
        }
    });
    let shared = shared.into_inner().map_err(|_| Unusable("a worker has panicked".to_owned()))?;
    match shared.failure {
        Some(failure) => Err(failure),
        None => Ok(Some(Done { tally: shared.tally, to: shared.next, of: all.len() as u64 })),
    }
}

/// The slice on the filesystem that it wants for itself.
fn on_its_own(slice: &Slice) -> Result<(Option<Disk>, Slice), Unusable> {
    let Some(kind) = slice.on else { return Ok((None, slice.clone())) };
    let disk = Disk::new(kind, &slice.directory.join(format!("{}-on", mark("torture"))))?;
    let slice = Slice { directory: disk.point(), ..slice.clone() };
    Ok((Some(disk), slice))
}

fn draw(slice: &Slice, all: &[Visited], each: usize, shared: &Mutex<Shared>) -> Result<(), Unusable> {
    let mut world = None;
    while let Some(number) = next(slice, shared)? {
        let Some(&visited) = all.get(number as usize) else { return Ok(()) };
        let mut used = ready(slice, world.take())?;
        let points = drawn(&mut used, visited, each, &mut Dice::new(slice.seed, 4 + number))?;
        world = Some(used);
        meet(slice, &points, number, &mut world, shared)?;
    }
    Ok(())
}

fn ready(slice: &Slice, world: Option<World>) -> Result<World, Unusable> {
    match world {
        Some(world) => Ok(world),
        None => new_world(slice)?.ok_or_else(|| Unusable("containers cannot run".to_owned())),
    }
}

/// Does a slice of the sweep of power cuts on one filesystem; a batch is one operation. `None` where containers cannot run.
///
/// # Errors
/// When a host does not work without a cut.
pub fn power_cuts(slice: &Slice, file_system: &'static FileSystem) -> Result<Option<Done>, Unusable> {
    let shared = Mutex::new(Shared { tally: Tally::default(), next: slice.from, of: 0, failure: None });
    let is_able = AtomicBool::new(true);
    std::thread::scope(|scope| {
        for worker in 0..slice.workers {
            let (shared, is_able) = (&shared, &is_able);
            scope.spawn(move || {
                let directory =
                    slice.directory.join(format!("{}-{}-{worker}", mark("torture"), file_system.name));
                match cut_operations(slice, file_system, &directory, shared) {
                    Ok(true) => {}
                    Ok(false) => is_able.store(false, Ordering::Relaxed),
                    Err(unusable) => {
                        if let Ok(mut shared) = shared.lock() {
                            shared.failure = Some(unusable);
                        }
                    }
                }
            });
        }
    });
    let shared = shared.into_inner().map_err(|_| Unusable("a worker has panicked".to_owned()))?;
    match shared.failure {
        Some(failure) => Err(failure),
        None if !is_able.into_inner() => Ok(None),
        None => Ok(Some(Done { tally: shared.tally, to: shared.next, of: shared.of })),
    }
}

fn cut_operations(
    slice: &Slice,
    file_system: &'static FileSystem,
    directory: &Path,
    shared: &Mutex<Shared>,
) -> Result<bool, Unusable> {
    let program = slice.program.to_string_lossy();
    let Some(mut world) = CutWorld::new(&program, file_system, directory, &slice.only)? else {
        return Ok(false);
    };
    shared.lock().map_err(|_| Unusable("a worker has panicked".to_owned()))?.of = world.count();
    while let Some(turn) = next(slice, shared)? {
        let (survived, lost) = world
            .operation(slice.seed, turn)
            .map_err(|unusable| Unusable(format!("{}, operation {turn}: {unusable}", file_system.name)))?;
        let mut shared = shared.lock().map_err(|_| Unusable("a worker has panicked".to_owned()))?;
        shared.tally.cuts += survived + lost.len() as u64;
        shared.tally.lost.extend(lost);
    }
    Ok(true)
}

/// The number of the next batch, unless the slice is at its end.
fn next(slice: &Slice, shared: &Mutex<Shared>) -> Result<Option<u64>, Unusable> {
    let mut shared = shared.lock().map_err(|_| Unusable("a worker has panicked".to_owned()))?;
    let is_enough = shared.tally.lost.len() >= ENOUGH
        || shared.tally.faults() >= slice.at_most
        || shared.failure.is_some()
        || Instant::now() >= slice.until
        || is_interrupted();
    if is_enough {
        return Ok(None);
    }
    shared.next += 1;
    Ok(Some(shared.next - 1))
}

fn new_world(slice: &Slice) -> Result<Option<World>, Unusable> {
    World::new(&slice.program.to_string_lossy(), &slice.directory)
}

fn work(slice: &Slice, batches: &[Vec<Point>], shared: &Mutex<Shared>) -> Result<(), Unusable> {
    let mut world = None;
    while let Some(number) = next(slice, shared)? {
        let batch = &batches[(number % batches.len() as u64) as usize];
        meet(slice, batch, number, &mut world, shared)?;
    }
    Ok(())
}

/// One fault after the other, as long as there are not enough of them.
fn meet(
    slice: &Slice,
    batch: &[Point],
    number: u64,
    world: &mut Option<World>,
    shared: &Mutex<Shared>,
) -> Result<(), Unusable> {
    let poisoned = |_| Unusable("a worker has panicked".to_owned());
    for (index, point) in batch.iter().enumerate() {
        if shared.lock().map_err(|_| poisoned(()))?.tally.faults() >= slice.at_most {
            return Ok(());
        }
        let turn = number * 100 + index as u64;
        let mut used = ready(slice, world.take())?;
        let survived = survive(&mut used, point, slice.seed, turn)
            .map_err(|unusable| Unusable(format!("{point}: {unusable}")))?;
        // Nobody knows what a lost one has left behind: the next fault gets another host.
        if !matches!(survived, Survived::Lost(_)) {
            *world = Some(used);
        }
        shared.lock().map_err(|_| poisoned(()))?.tally.add(point, survived);
    }
    Ok(())
}

/// Where hosts may lie: in memory, and beside the program.
pub fn scratches(program: &Path) -> (PathBuf, PathBuf) {
    let memory = PathBuf::from("/dev/shm");
    let beside = program.ancestors().nth(2).unwrap_or(&memory).join("test-hosts");
    (memory, beside)
}

/// Where hosts of a sweep lie that need no filesystem of their own: in memory, where there is enough of it.
pub fn scratch(program: &Path) -> PathBuf {
    let (memory, beside) = scratches(program);
    let is_roomy = rustix::fs::statvfs(&memory).is_ok_and(|found| found.f_bavail * found.f_frsize > 2 << 30);
    if is_roomy { memory } else { beside }
}
