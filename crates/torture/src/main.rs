//! `torture`: the sweeps of the library, from a command line.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};
use testkit::attack::{Attack, Outcome};
use torture::death::Death;
use torture::disk::FILE_SYSTEMS;
use torture::fault::{self, Fault, Point};
use torture::ledger::{self, Line};
use torture::mutations::{self, MUTATIONS};
use torture::proof;
use torture::sweep::{self, Done, Slice};
use torture::syscalls::{Survived, Sweep, survive};
use torture::trace::Victim;
use torture::world::{Unusable, World};

const LEDGER: &str = "docs/torture.jsonl";
const PAGE: &str = "docs/promises.md";
const MUTATIONS_PAGE: &str = "docs/mutations.md";
/// Operations wait for the kernel more than they compute.
const WORKERS: usize = 6;
/// HUP INT TERM: the first has a run end with its present batch, what was survived is written down, and the next run goes on there; the second ends it
/// at once.
const ENDING: [i32; 3] = [1, 2, 15];
/// Of the filesystems under a power cut.
const CUT_WORKERS: usize = 3;

/// Kills, errors and power cuts at every instant of every operation.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Does a slice of each sweep and writes down what was survived.
    Run {
        /// Only these: syscalls, recovery, monitor, concurrency, or a filesystem.
        #[arg(long)]
        sweep: Vec<String>,
        /// How long, all together: 90s, 20m, 2h.
        #[arg(long, default_value = "20m", value_parser = duration)]
        slice: Duration,
        /// The order of the points; without it, that of the last slice.
        #[arg(long)]
        seed: Option<u64>,
        /// Only operations whose names contain this, and write nothing down.
        #[arg(long, default_value = "")]
        only: String,
        /// Where hosts lie that are not cut: on that filesystem, made for it; and write nothing down.
        #[arg(long)]
        on: Option<String>,
        /// Begin at this batch, and write nothing down.
        #[arg(long)]
        from: Option<u64>,
        /// So many faults of each sweep are enough.
        #[arg(long, default_value_t = u64::MAX)]
        faults: u64,
        /// Hosts at the same time.
        #[arg(long)]
        workers: Option<usize>,
    },
    /// Does one fault again.
    One {
        /// As the report of a loss names it.
        scenario: String,
        /// At which call.
        #[arg(long)]
        call: u64,
        /// What.
        #[arg(long)]
        fault: Fault,
        /// In the monitor.
        #[arg(long)]
        monitor: bool,
        /// In `prlctl recover`, after the operation was killed `before` or `after` its commit.
        #[arg(long, conflicts_with = "monitor")]
        recovery: Option<Death>,
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Takes guards of the program away, one at a time, and says which sweep sees it.
    Mutations {
        /// Only these; nothing is written down then.
        #[arg(long)]
        only: Vec<String>,
        /// How long a hunt may take.
        #[arg(long, default_value = "90s", value_parser = duration)]
        limit: Duration,
    },
    /// Hunts for one mutation: what `mutations` runs.
    #[command(hide = true)]
    Hunt {
        program: PathBuf,
        #[arg(long)]
        mutation: Option<String>,
        /// Without any: the hunt of that number.
        #[arg(long)]
        control: Option<usize>,
        #[arg(long, default_value = "90s", value_parser = duration)]
        limit: Duration,
    },
    /// Makes a table of the attacks that tests have written down
    Attacks {
        /// The file that they are in
        file: PathBuf,
    },
    /// Writes the figures into docs/promises.md.
    Report {
        /// Only says whether they are as they should be.
        #[arg(long)]
        check: bool,
    },
}

fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is none of 90s, 20m, 2h");
    let (number, unit) = text.split_at(text.len().saturating_sub(1));
    let number: u64 = number.parse().map_err(|_| wrong())?;
    match unit {
        "s" => Ok(Duration::from_secs(number)),
        "m" => Ok(Duration::from_secs(number * 60)),
        "h" => Ok(Duration::from_secs(number * 3600)),
        _ => Err(wrong()),
    }
}

fn say(text: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

fn main() -> ExitCode {
    let result = match Arguments::parse().what {
        What::Run { sweep, slice, seed, only, on, from, faults, workers } => {
            if torture::scenario::all_named(&only).next().is_none() {
                Err(Unusable(format!("no operation has `{only}` in its name")))
            } else {
                run(&Wanted { sweep, slice, seed, only, on, from, faults, workers })
            }
        }
        What::One { scenario, call, fault, monitor, recovery, seed } => {
            let scenario = fault::scenario(&scenario)
                .ok_or_else(|| Unusable(format!("there is no scenario `{scenario}`")));
            let victim = if monitor { Victim::Monitor } else { Victim::Command };
            scenario
                .and_then(|scenario| one(Point { scenario, victim, recovers: recovery, call, fault }, seed))
        }
        What::Mutations { only, limit } => mutations(&only, limit),
        What::Hunt { program, mutation, control, limit } => {
            hunt(&program, mutation.as_deref(), control, limit)
        }
        What::Attacks { file } => attacks(&file),
        What::Report { check } => report(check),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(unusable) => {
            let _ = writeln!(std::io::stderr().lock(), "error: {unusable}");
            ExitCode::from(2)
        }
    }
}

/// A row for each, then how many there were of which outcome. False: one of them got something, or did not come to its end.
fn attacks(file: &Path) -> Result<bool, Unusable> {
    let text = std::fs::read_to_string(file)?;
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Attack>(line).ok());
    // The newest line of each counts.
    let all: BTreeMap<String, Attack> = lines.map(|attack| (attack.attack.clone(), attack)).collect();
    let mut counts = BTreeMap::new();
    let mut out = std::io::stdout().lock();
    for attack in all.values() {
        let outcome = match attack.outcome {
            Outcome::Held => "held",
            Outcome::NotRun => "not run",
            Outcome::Begun => "FOUND SOMETHING",
        };
        *counts.entry(outcome).or_insert(0) += 1;
        let because = attack.because.as_deref().map(|because| format!(" ({because})")).unwrap_or_default();
        writeln!(out, "{:<64} {:<36} {outcome}{because}", attack.attack, attack.source)?;
    }
    let counted: Vec<String> = counts.iter().map(|(outcome, count)| format!("{count} {outcome}")).collect();
    writeln!(out, "{} attacks: {}", all.len(), counted.join(", "))?;
    Ok(!all.is_empty() && !counts.contains_key("FOUND SOMETHING"))
}

struct Wanted {
    sweep: Vec<String>,
    slice: Duration,
    seed: Option<u64>,
    only: String,
    on: Option<String>,
    from: Option<u64>,
    faults: u64,
    workers: Option<usize>,
}

/// Every sweep, and its share of a slice.
fn sweeps() -> Vec<(&'static str, u32)> {
    let mut all = vec![("syscalls", 8), ("recovery", 4), ("monitor", 2), ("concurrency", 2)];
    all.extend(FILE_SYSTEMS.iter().map(|one| (one.name, 2)));
    all
}

/// The `prlctl` beside this program.
fn program() -> Result<PathBuf, Unusable> {
    let program = std::env::current_exe()?.with_file_name("prlctl");
    if program.exists() { Ok(program) } else { Err(Unusable(format!("{} is not built", program.display()))) }
}

fn run(wanted: &Wanted) -> Result<bool, Unusable> {
    let all = sweeps();
    if let Some(unknown) = wanted.sweep.iter().find(|name| !all.iter().any(|(known, _)| known == name)) {
        let known: Vec<&str> = all.iter().map(|(name, _)| *name).collect();
        return Err(Unusable(format!("there is no sweep `{unknown}`; there are {}", known.join(", "))));
    }
    let chosen: Vec<(&str, u32)> = all
        .into_iter()
        .filter(|(name, _)| wanted.sweep.is_empty() || wanted.sweep.iter().any(|one| one == name))
        .collect();
    let mut shares: u32 = chosen.iter().map(|(_, share)| share).sum();
    let end = Instant::now() + wanted.slice;
    let mut is_whole = true;
    // What is ignored stays so: nohup(1), and whatever a shell without job control runs in the background.
    let heeded: Vec<i32> = ENDING.into_iter().filter(|&signal| !linux::is_ignored(signal)).collect();
    linux::count_signals(&heeded)?;
    let program = program()?;
    let (memory, beside) = sweep::scratches(&program);
    let left = [memory, beside].iter().map(|scratch| testkit::real_host::sweep(scratch)).sum::<usize>();
    if left > 0 {
        say(&format!("removed what runs that were killed have left: {left} directories"));
    }
    for (name, share) in chosen {
        if sweep::is_interrupted() {
            say(&format!("interrupted: {name} is not begun"));
            continue;
        }
        let rest = end.saturating_duration_since(Instant::now());
        let until = Instant::now() + rest * share / shares.max(1);
        shares -= share;
        is_whole &= run_one(name, wanted, &program, until)?;
    }
    Ok(is_whole)
}

fn run_one(name: &str, wanted: &Wanted, program: &Path, until: Instant) -> Result<bool, Unusable> {
    let lines = ledger::read(Path::new(LEDGER))?;
    let fresh = wanted.seed.unwrap_or_else(|| jiff::Timestamp::now().as_second().unsigned_abs());
    let resumed =
        ledger::resume(&lines, name, wanted.seed).filter(|_| wanted.only.is_empty() && wanted.on.is_none());
    let (seed, last) = resumed.unwrap_or((fresh, 0));
    let file_system = torture::disk::file_system(name);
    let on = wanted.on.as_deref().map(|on| {
        torture::disk::file_system(on).ok_or_else(|| Unusable(format!("there is no filesystem `{on}`")))
    });
    let on = on.transpose()?;
    let workers = if file_system.is_some() { CUT_WORKERS } else { WORKERS };
    let slice = Slice {
        directory: sweep::scratch(program),
        program: program.to_owned(),
        seed,
        from: wanted.from.unwrap_or(last),
        until,
        at_most: wanted.faults,
        workers: wanted.workers.unwrap_or(workers),
        only: wanted.only.clone(),
        on,
    };
    let began = Instant::now();
    let done = match file_system {
        Some(file_system) => sweep::power_cuts(&slice, file_system)?,
        None if name == "concurrency" => torture::concurrency::rounds(&slice)?,
        None if name == "monitor" => sweep::syscalls(&slice, Sweep::Monitors)?,
        None if name == "recovery" => sweep::syscalls(&slice, Sweep::Recoveries)?,
        None => sweep::syscalls(&slice, Sweep::Commands)?,
    };
    let Some(Done { tally, to, of }) = done else {
        return Err(Unusable("containers cannot run here".to_owned()));
    };
    for lost in &tally.lost {
        say(lost);
    }
    let seconds = began.elapsed().as_secs();
    say(&format!(
        "{name}: seed {seed}, batches {} to {to} of {of}: {} kills, {} errors, {} power cuts, {} lost, in {seconds} s",
        slice.from,
        tally.kills,
        tally.errors,
        tally.cuts,
        tally.lost.len()
    ));
    // One that was interrupted while it was still counting calls has nothing to tell.
    let is_nothing = sweep::is_interrupted() && to == slice.from;
    if wanted.from.is_none() && wanted.only.is_empty() && on.is_none() && !is_nothing {
        let line = Line {
            sweep: name.to_owned(),
            day: ledger::today(),
            commit: ledger::commit(Path::new(".")),
            seed,
            from: slice.from,
            to,
            of,
            kills: tally.kills,
            errors: tally.errors,
            cuts: tally.cuts,
            lost: tally.lost.len() as u64,
            seconds,
        };
        ledger::append(Path::new(LEDGER), &line)?;
    }
    Ok(tally.lost.is_empty())
}

fn one(point: Point, seed: u64) -> Result<bool, Unusable> {
    let program = program()?;
    let Some(mut world) = World::new(&program.to_string_lossy(), &sweep::scratch(&program))? else {
        return Err(Unusable("containers cannot run here".to_owned()));
    };
    // The recovery differs with the turn: all of them.
    for turn in 0..8 {
        match survive(&mut world, &point, seed, turn)? {
            Survived::Whole => {}
            Survived::NotReached => say(&format!("{point}: not reached")),
            Survived::Lost(text) => {
                say(&text);
                return Ok(false);
            }
        }
    }
    say("nothing was lost");
    Ok(true)
}

fn mutations(only: &[String], limit: Duration) -> Result<bool, Unusable> {
    let known = |name: &&String| !MUTATIONS.iter().any(|mutation| mutation.name == **name);
    if let Some(unknown) = only.iter().find(known) {
        return Err(Unusable(format!("there is no mutation `{unknown}`")));
    }
    let program = proof::build(&program()?)?;
    let (rows, red) = proof::prove(&program, only, limit, &|line| say(line))?;
    say(&mutations::table(&rows));
    for text in &red {
        say(&format!("RED WITHOUT A MUTATION\n{text}"));
    }
    let survived = rows.iter().filter(|row| row.caught.is_none()).count();
    say(&format!("{} mutations, {survived} survived", rows.len()));
    if only.is_empty() && red.is_empty() {
        let page = mutations::render(
            &std::fs::read_to_string(MUTATIONS_PAGE)?,
            &ledger::commit(Path::new(".")),
            &rows,
        )?;
        store::atomic::replace(Path::new(MUTATIONS_PAGE), page.as_bytes(), 0o644)
            .map_err(std::io::Error::other)?;
    }
    Ok(survived == 0 && red.is_empty())
}

fn hunt(
    program: &Path,
    name: Option<&str>,
    control: Option<usize>,
    limit: Duration,
) -> Result<bool, Unusable> {
    let mutation = MUTATIONS.iter().find(|mutation| Some(mutation.name) == name);
    let hunts = match (mutation, control) {
        (Some(mutation), None) => mutation.hunts.to_vec(),
        (None, Some(index)) => proof::all_hunts().get(index).copied().into_iter().collect(),
        _ => return Err(Unusable("a mutation or a control is needed".to_owned())),
    };
    let found = proof::hunt(program, &hunts, limit, 1);
    say(&serde_json::to_string(&found).map_err(std::io::Error::from)?);
    Ok(true)
}

fn report(is_check: bool) -> Result<bool, Unusable> {
    let page = std::fs::read_to_string(PAGE)?;
    let wanted = ledger::render(&page, &ledger::read(Path::new(LEDGER))?)?;
    if page == wanted {
        return Ok(true);
    }
    if is_check {
        say(&format!("{PAGE} does not have the figures of {LEDGER}: run `torture report`"));
        return Ok(false);
    }
    store::atomic::replace(Path::new(PAGE), wanted.as_bytes(), 0o644).map_err(std::io::Error::other)?;
    Ok(true)
}
