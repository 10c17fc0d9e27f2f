//! Many commands at the same time, on the same and on different containers, some of them killed.
//!
//! ```text
//! worker ──> prlctl … ct0     each a process; every fourth is killed at some instant
//! worker ──> prlctl … ct1     what came of it goes into the model, with the times of its begin and end
//! worker ──> prlctl … ct0
//! ```
//!
//! Who of two comes first is for them to settle, so the model holds what must be true whoever did: two operations never work on one container;
//! every command ends; it ends with a code that says what happened; a root is gone only if somebody asked for that; what was said to be done is
//! there; each name is given once. At the end all of it stands still, and is judged like after any other fault.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use store::{Area, ContainerId};
use testkit::Ran;
use testkit::judge::{Runs, Still, leftovers, trash_empties, whole};

use crate::dice::Dice;
use crate::sweep::{Done, Slice, Tally, is_interrupted};
use crate::world::{Unusable, World};

/// Containers that live as long as the host.
const CONTAINERS: u64 = 3;
/// Names that are created and deleted all the time.
const PASSING: u64 = 2;
/// At the same time.
const WORKERS: [usize; 4] = [2, 4, 8, 16];
/// Commands of a round, after which everything stands still and is judged.
const COMMANDS: u64 = 120;
/// Longer than any of these may take while so many others wait for the same two processors.
const LONGEST: Duration = Duration::from_secs(120);
/// How long after its start a command is killed, at most, in microseconds.
const LIFETIME: u64 = 120_000;

/// Leaves a word where two of them work on one container; the kernel gives the lock back however it ends.
const BUILD: &str = "#!/bin/sh\nexec 9>>\"DIRECTORY/$VEID.busy\"\nflock -n 9 || echo \"$VEID\" >>\"DIRECTORY/overlaps\"\n\
                     mkdir -p \"$VE_PRIVATE_TMP\" && cp -a \"$OSTEMPLATE_ROOT/.\" \"$VE_PRIVATE_TMP/\"\n";

/// What a command asks for.
#[derive(Debug, Clone)]
struct Wish {
    words: Vec<String>,
    /// Codes beside 0, 9 and 14 that are an answer to it.
    answers: &'static [i32],
    /// Of which container it may take which root away; `None`: whichever is live.
    takes: Option<(String, Option<u32>)>,
}

/// What is known to be so, whoever came first.
#[derive(Debug, Default)]
struct Model {
    /// Of each container the roots that somebody was told of.
    roots: BTreeMap<String, BTreeSet<u32>>,
    /// Of each container the roots that somebody has asked to take away.
    asked: BTreeMap<String, BTreeSet<u32>>,
    tally: Tally,
}

/// Does rounds of it; `None` where containers cannot run.
///
/// # Errors
/// When the host does not work by itself.
pub fn rounds(slice: &Slice) -> Result<Option<Done>, Unusable> {
    let mut tally = Tally::default();
    let mut round = slice.from;
    while Instant::now() < slice.until
        && tally.faults() < slice.at_most
        && tally.lost.is_empty()
        && !is_interrupted()
    {
        let Some(world) = World::new(&slice.program.to_string_lossy(), &slice.directory)? else {
            return Ok(None);
        };
        let workers = WORKERS[(round % WORKERS.len() as u64) as usize];
        let model = one_round(&world, slice.seed, round, workers)?;
        tally.kills += model.tally.kills;
        tally.missed += model.tally.missed;
        tally.lost.extend(model.tally.lost.into_iter().map(|what| {
            format!("lost in round {round} of {workers} at a time: {what}\n  repeat     torture run --sweep concurrency --seed {} --from {round} --faults 1", slice.seed)
        }));
        round += 1;
    }
    Ok(Some(Done { tally, to: round, of: WORKERS.len() as u64 }))
}

fn one_round(world: &World, seed: u64, round: u64, workers: usize) -> Result<Model, Unusable> {
    let build = BUILD.replace("DIRECTORY", &world.scratch().to_string_lossy());
    world.host.script("etc/vz/conf/vps.reinstall", &build);
    let mut model = Model::default();
    for name in (0..CONTAINERS).map(fixed) {
        world.ok(&["create", &name, "--ostemplate", "busybox"])?;
        world.ok(&["start", &name])?;
        world.ok(&["exec", &name, &format!("echo {name} >/root/marker")])?;
        model.roots.insert(name, BTreeSet::from([1]));
    }
    let model = Mutex::new(model);
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let is_lost = model.lock().map_or(true, |model| !model.tally.lost.is_empty());
                    if number >= COMMANDS || is_lost {
                        return;
                    }
                    let mut dice = Dice::new(seed, round * 1_000_003 + number);
                    let wish = wish(&mut dice);
                    let lifetime = (dice.below(4) == 0).then(|| Duration::from_micros(dice.below(LIFETIME)));
                    let came = run(world, &wish, lifetime, &model);
                    if let (Err(violation), Ok(mut model)) = (came, model.lock()) {
                        model.tally.lost.push(format!("prlctl {}: {violation}", wish.words.join(" ")));
                    }
                }
            });
        }
    });
    let mut model = model.into_inner().map_err(|_| Unusable("a worker has panicked".to_owned()))?;
    if model.tally.lost.is_empty()
        && let Err(violation) = stands_still(world, &model)
    {
        model.tally.lost.push(violation);
    }
    for name in (0..CONTAINERS).map(fixed).chain((0..PASSING).map(passing)) {
        if store::registry::find(&world.prefix, &name).is_ok() {
            world.run(&["delete", &name, "--force", "--lock-wait", "60"]);
        }
    }
    Ok(model)
}

fn fixed(number: u64) -> String {
    format!("ct{number}")
}

fn passing(number: u64) -> String {
    format!("tmp{number}")
}

fn wish(dice: &mut Dice) -> Wish {
    let name = fixed(dice.below(CONTAINERS));
    // Of the first nothing is ever deleted.
    let deleted_from = fixed(dice.below(CONTAINERS - 1) + 1);
    let other = passing(dice.below(PASSING));
    let number = dice.below(6) as u32 + 1;
    let wish = |words: &[&str], answers: &'static [i32], takes| Wish {
        words: words.iter().map(|&word| word.to_owned()).collect(),
        answers,
        takes,
    };
    match dice.below(16) {
        0 => wish(&["start", &name], &[32], None),
        1 => wish(&["stop", &name, "--kill"], &[31], None),
        2 | 3 => wish(&["reinstall", &name, "--skipscripts", "-j"], &[], None),
        4 => wish(&["reinstall", &name, "-j"], &[], None),
        5 => wish(
            &["reinstall", &deleted_from, "--skipscripts", "--skipbackup", "-j"],
            &[],
            Some((deleted_from.clone(), None)),
        ),
        6 | 7 => wish(&["reinstall", &name, "--undo"], &[21], None),
        8 => wish(
            &["generation-delete", &deleted_from, &number.to_string()],
            &[21, 41],
            Some((deleted_from.clone(), Some(number))),
        ),
        9 => wish(&["generation-switch", &name, &number.to_string()], &[21], None),
        10 => wish(&["exec", &name, "cat /root/number 2>/dev/null; :"], &[31, 137, 143], None),
        11 => wish(&["recover"], &[], None),
        12 => wish(&["list", "-a", "-j"], &[], None),
        13 => wish(&["create", &other, "--ostemplate", "busybox"], &[44, 137], None),
        14 => wish(&["delete", &other, "--force"], &[], None),
        _ => wish(&["restart", &name, "--kill"], &[31], None),
    }
}

/// Runs a command to its end, or kills it, and writes down what that says.
fn run(world: &World, wish: &Wish, lifetime: Option<Duration>, model: &Mutex<Model>) -> Result<(), String> {
    let panicked = |_| "a worker has panicked".to_owned();
    if let Some((name, Some(number))) = &wish.takes {
        // Asked before it is done: whoever is killed may have done it.
        model.lock().map_err(panicked)?.asked.entry(name.clone()).or_default().insert(*number);
    }
    let mut command = world.host.prlctl();
    command
        .process_group(0)
        .args(&wish.words)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    if !["list", "recover"].contains(&wish.words[0].as_str()) {
        command.args(["--lock-wait", "60"]);
    }
    let Some(ran) = within(&mut command, lifetime).map_err(|error| error.to_string())? else {
        let mut model = model.lock().map_err(panicked)?;
        model.tally.kills += 1;
        if let Some((name, None)) = &wish.takes {
            // Whichever was live when it came to it: of what is made from now on none.
            let made = next_generation(world, name).unwrap_or(1000);
            model.asked.entry(name.clone()).or_default().extend(1..made);
        }
        return Ok(());
    };
    if ran.code != 0 && ![9, 14].contains(&ran.code) && !wish.answers.contains(&ran.code) {
        return Err(format!("that is no answer to it\n{ran}"));
    }
    if ran.stdout.contains("panicked") || ran.stderr.contains("panicked") {
        return Err(format!("it has panicked\n{ran}"));
    }
    if wish.words[0] == "list" {
        let listed: serde_json::Value =
            serde_json::from_str(&ran.stdout).map_err(|error| error.to_string())?;
        let names: Vec<&str> =
            listed.as_array().into_iter().flatten().filter_map(|one| one["name"].as_str()).collect();
        if let Some(missing) = (0..CONTAINERS).map(fixed).find(|name| !names.contains(&name.as_str())) {
            return Err(format!("`{missing}` is not in the list\n{ran}"));
        }
    }
    let mut model = model.lock().map_err(panicked)?;
    model.tally.missed += 1;
    if ran.code == 0 && wish.words[0] == "reinstall" && wish.words.iter().any(|word| word == "-j") {
        let told: serde_json::Value =
            serde_json::from_str(&ran.stdout).map_err(|error| format!("{error}\n{ran}"))?;
        let (Some(made), Some(old)) = (told["new"].as_u64(), told["old"].as_u64()) else {
            return Err(format!("it does not say what it has made, and from what\n{ran}"));
        };
        if let Some((name, None)) = &wish.takes {
            model.asked.entry(name.clone()).or_default().insert(old as u32);
        }
        if !model.roots.entry(wish.words[1].clone()).or_default().insert(made as u32) {
            return Err(format!("two were told of generation {made}\n{ran}"));
        }
    }
    Ok(())
}

fn next_generation(world: &World, name: &str) -> Option<u32> {
    let id = store::registry::find(&world.prefix, name).ok()?;
    Area::open(&world.prefix, &id).ok()?.record().ok().map(|record| record.next_generation)
}

/// `None`: it was killed. One that does not end is an error.
fn within(command: &mut Command, lifetime: Option<Duration>) -> std::io::Result<Option<Ran>> {
    let child = command.spawn()?;
    let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty())?;
    // Its output is read at the end: a pipe holds more than all that any of these says.
    let ended = |limit: Duration| -> std::io::Result<bool> {
        let timeout = Timespec { tv_sec: limit.as_secs() as i64, tv_nsec: limit.subsec_nanos().into() };
        Ok(poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&timeout))? > 0)
    };
    if let Some(lifetime) = lifetime
        && !ended(lifetime)?
    {
        pidfd_send_signal(&pidfd, Signal::KILL)?;
        drop(child.wait_with_output()?);
        return Ok(None);
    }
    if !ended(LONGEST)? {
        pidfd_send_signal(&pidfd, Signal::KILL)?;
        let output = child.wait_with_output()?;
        return Err(std::io::Error::other(format!("it does not end: {}", Ran::of(output))));
    }
    Ok(Some(Ran::of(child.wait_with_output()?)))
}

/// Everything recovered, and nothing left to recover.
fn stands_still(world: &World, model: &Model) -> Result<(), String> {
    let recovered = world.run(&["recover"]);
    if recovered.code != 0 {
        return Err(format!("the recovery: {recovered}"));
    }
    if let Ok(text) = std::fs::read_to_string(world.scratch().join("overlaps")) {
        return Err(format!("two operations on one container at the same time: {text}"));
    }
    let mut ranges: BTreeMap<u32, ContainerId> = BTreeMap::new();
    for id in store::registry::list(&world.prefix).map_err(|error| error.to_string())? {
        let record = Area::open(&world.prefix, &id)
            .and_then(|area| area.record())
            .map_err(|error| error.to_string())?;
        if let Some(other) = ranges.insert(record.id_range.first, id) {
            return Err(format!("{id} and {other} have the same ids, from {}", record.id_range.first));
        }
    }
    for (name, told) in &model.roots {
        let id = store::registry::find(&world.prefix, name)
            .map_err(|error| format!("`{name}` is gone: {error}"))?;
        let area = Area::open(&world.prefix, &id).map_err(|error| error.to_string())?;
        let found: BTreeSet<u32> = area
            .generation_numbers()
            .map_err(|error| error.to_string())?
            .into_iter()
            .map(|one| one.get())
            .collect();
        let nobody = BTreeSet::new();
        let asked = model.asked.get(name).unwrap_or(&nobody);
        let lost: Vec<u32> =
            told.iter().copied().filter(|one| !found.contains(one) && !asked.contains(one)).collect();
        if !lost.is_empty() {
            return Err(format!(
                "`{name}` has lost {lost:?}, which nobody has asked to delete; it has {found:?}"
            ));
        }
        let marker = area.generation_dir(store::GenerationNumber::FIRST).join("delta/root/marker");
        if found.contains(&1)
            && std::fs::read_to_string(&marker).ok().as_deref() != Some(&format!("{name}\n"))
        {
            return Err(format!("{} is not what it was", marker.display()));
        }
        whole(&world.prefix, &id, name, Runs::Either).map_err(|violation| violation.to_string())?;
    }
    trash_empties(&world.prefix).map_err(|violation| violation.to_string())?;
    let still = Still::of(&world.prefix);
    let again = world.run(&["recover"]);
    if again.code != 0 || !again.stderr.is_empty() {
        return Err(format!("the second recovery: {again}"));
    }
    still.compare(&world.prefix).map_err(|violation| violation.to_string())?;
    leftovers(&world.prefix).map_err(|violation| violation.to_string())
}
