//! A seeded sample of every sweep: what `make torture` does for hours, for a minute. What it visits differs with the seed
//! (`REROOT_TORTURE_SEED`), and a loss says how to repeat it.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use testkit::judge::{Effect, Runs, Verdict, judge};
use torture::disk::{FileSystem, file_system};
use torture::fault::{self, Fault, Point};
use torture::scenario::Scenario;
use torture::sweep::{self, Done, Slice};
use torture::syscalls::{self, Survived, Sweep};
use torture::trace::{self, Action, Victim};
use torture::world::World;

const SEED: u64 = 3;
/// A sample that takes longer is cut short, and says so: the machine may be busy.
const LONGEST: Duration = Duration::from_secs(100);

fn slice(faults: u64, workers: usize) -> Slice {
    let program = program();
    let seed = std::env::var("REROOT_TORTURE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(SEED);
    Slice {
        directory: sweep::scratch(&program),
        program,
        seed,
        from: 0,
        until: Instant::now() + LONGEST,
        at_most: faults,
        workers,
        only: String::new(),
        on: None,
    }
}

/// The program is another crate's: built beside this test by `make test`, and by `cargo test --workspace`.
fn program() -> PathBuf {
    let test = std::env::current_exe().expect("a test has a path");
    let program = test.ancestors().nth(2).expect("it lies in the build directory").join("prlctl");
    assert!(program.exists(), "{} is not built: `cargo build --workspace` first", program.display());
    program
}

/// A host whose faults a test chooses by itself, where containers can run.
fn world() -> Option<World> {
    let slice = slice(0, 1);
    World::new(&slice.program.to_string_lossy(), &slice.directory).expect("the host works without a fault")
}

#[track_caller]
fn whole(done: Option<Done>, least: u64) {
    let Some(Done { tally, .. }) = done else { return };
    assert!(tally.lost.is_empty(), "{}", tally.lost.join("\n"));
    assert!(tally.faults() >= least, "only {} faults in {LONGEST:?}", tally.faults());
}

/// So many faults of each operation.
const EACH: usize = 1;
/// So many operations, as the seed says: `make torture` sees all of them, and every call.
const OPERATIONS: usize = 51;
/// The same of those that want a filesystem of their own.
const ON_ITS_OWN: usize = 8;

#[track_caller]
fn sample(sweep: Sweep, workers: usize, least: u64) {
    let done = sweep::sample(&slice(u64::MAX, workers), sweep, EACH, OPERATIONS)
        .expect("the host works without a fault");
    if let Some(Done { tally, to, of }) = &done {
        // Each worker has found that there is no more.
        assert!(*to >= *of || !tally.lost.is_empty(), "{to} of {of} operations in {LONGEST:?}");
    }
    whole(done, least);
}

#[test]
fn crash_commands_killed_and_failed_at_a_sample_of_their_calls_lose_nothing() {
    sample(Sweep::Commands, 4, 35);
}

#[test]
fn crash_monitors_killed_and_failed_at_a_sample_of_their_calls_lose_nothing() {
    sample(Sweep::Monitors, 3, 10);
}

#[test]
fn crash_recoveries_killed_and_failed_at_a_sample_of_their_calls_lose_nothing() {
    sample(Sweep::Recoveries, 3, 18);
}

/// What only btrfs has, on one.
#[test]
fn crash_commands_on_subvolumes_killed_and_failed_lose_nothing() {
    let Some(on) = made("btrfs") else { return };
    let slice = Slice { only: "subvolume".to_owned(), on: Some(on), ..slice(u64::MAX, 2) };
    whole(sweep::sample(&slice, Sweep::Commands, 2, ON_ITS_OWN).unwrap(), 12);
}

/// Once it left its roots mounted.
#[test]
fn crash_a_start_killed_anywhere_leaves_nothing_mounted() {
    let scenario = fault::scenario("start").unwrap();
    let Some(mut world) = world() else { return };
    let calls = syscalls::measure(&mut world, scenario, Victim::Command, None).unwrap();
    for call in (1..=calls).step_by(6) {
        let point =
            Point { scenario, victim: Victim::Command, recovers: None, call, fault: Fault::KillAfter };
        if let Survived::Lost(text) = syscalls::survive(&mut world, &point, SEED, call).unwrap() {
            panic!("{text}");
        }
    }
}

/// Under the name of a damaged version there is it, or the whole one, whatever call of the exchange is the last, or fails.
#[test]
fn crash_a_damaged_template_that_is_made_whole_is_one_of_the_two() {
    let Some(mut world) = world() else { return };
    for name in ["vzpkg update cache, damaged", "vzpkg update cache, an older version damaged"] {
        let scenario = fault::scenario(name).unwrap();
        let (name, _) = world.prepare(scenario).unwrap();
        let mut command = world.command(scenario, &name);
        let mut names = Vec::new();
        let run = trace::run(&mut command, Victim::Command, world.scratch(), &mut |seen| {
            let text = seen.describe();
            if !seen.is_after
                && ["rename", "symlink", "fsync", "syncfs"].iter().any(|call| text.starts_with(call))
            {
                names.push(seen.index);
            }
            Action::Go
        })
        .unwrap();
        assert_eq!(run.exit, linux::Exit::Code(0), "{run:?}");
        world.forget_container().unwrap();
        // Most calls make the tree; the last ones exchange it, point to it, and remove the other. Of these each that gives a name or makes one durable.
        let last = run.calls.saturating_sub(100);
        let names = names.into_iter().filter(|call| *call >= last);
        let mut met: Vec<(u64, Fault)> =
            names.flat_map(|call| [(call, Fault::KillAfter), (call, Fault::Error(libc::EIO))]).collect();
        assert!(met.len() > 4, "{met:?}");
        for (number, call) in (1..last).step_by(40).chain((last..=run.calls).step_by(10)).enumerate() {
            met.push((call, if number % 2 == 0 { Fault::KillAfter } else { Fault::Error(libc::EIO) }));
        }
        for (call, fault) in met {
            let point = Point { scenario, victim: Victim::Command, recovers: None, call, fault };
            if let Survived::Lost(text) = syscalls::survive(&mut world, &point, SEED, call).unwrap() {
                panic!("{text}");
            }
        }
    }
}

/// Once a recovery found a container running that had just been told to stop, took it for one that runs, and let it go down.
#[test]
fn crash_a_reinstall_killed_while_the_container_stops_brings_it_back() {
    let scenario = fault::scenario("reinstall, running").unwrap();
    let Some(mut world) = world() else { return };
    let (name, before) = world.prepare(scenario).unwrap();
    let before = before.unwrap();
    // Frozen, it stops as slowly as a large one does.
    let group = format!("reroot-{}/{}/cgroup.freeze", world.prefix.short_hash(), before.id);
    let freezer = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"].map(|tree| Path::new(tree).join(&group));
    let freezer = freezer.iter().find(|path| path.exists()).unwrap();
    let freeze = |how: &[u8]| File::options().write(true).open(freezer).unwrap().write_all(how).unwrap();
    freeze(b"1");
    let mut command = world.command(scenario, &name);
    let run = trace::run(&mut command, Victim::Command, world.scratch(), &mut |seen| {
        let is_told = seen.is_after && seen.describe().starts_with("sendmsg");
        if is_told { Action::Kill } else { Action::Go }
    })
    .unwrap();
    assert_eq!(run.exit, linux::Exit::Signal(9), "{run:?}");
    let recovered = std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::park_timeout(Duration::from_millis(500));
            freeze(b"0");
        });
        world.host.run(["recover", &name])
    });
    assert_eq!(recovered.code, 0, "{recovered}");
    let effect = Effect::Reinstall { discards: false };
    assert_eq!(judge(&world.prefix, &before, effect, Runs::Yes), Ok(Verdict::Old));
}

/// Once it waited for that monitor's end for five and a half minutes, with the container locked.
#[test]
fn crash_a_reinstall_that_cannot_kill_its_monitor_ends_at_once_and_is_undone_later() {
    let scenario = fault::scenario("reinstall, badly configured, running").unwrap();
    let Some(mut world) = world() else { return };
    let (name, before) = world.prepare(scenario).unwrap();
    let before = before.unwrap();
    let mut command = world.command(scenario, &name);
    let mut killed = 0;
    let began = Instant::now();
    let run = trace::run(&mut command, Victim::Command, world.scratch(), &mut |seen| {
        if !seen.is_after && seen.describe().starts_with("pidfd_send_signal") {
            killed += 1;
        }
        // The first that is killed is the child that has made the user namespace of the new root's mount, the second the monitor.
        if !seen.is_after && killed == 2 { Action::Fail(libc::EPERM) } else { Action::Go }
    })
    .unwrap();
    assert!(killed >= 2, "{run:?}");
    assert!(!run.hangs && began.elapsed() < testkit::patience(30), "{:?}: {run:?}", began.elapsed());
    assert!(matches!(run.exit, linux::Exit::Code(code) if code != 0), "{run:?}");
    for words in [
        ") cannot be killed: Operation not permitted",
        "could not be put back by itself",
        &format!("prlctl recover {name}"),
    ] {
        assert!(run.said.contains(words), "{}", run.said);
    }
    let recovered = world.host.run(["recover", &name]);
    assert_eq!(recovered.code, 0, "{recovered}");
    let effect = Effect::Reinstall { discards: false };
    assert_eq!(judge(&world.prefix, &before, effect, Runs::Yes), Ok(Verdict::Old));
}

/// Once the monitor sent it once: refused, all of the time to stop passed, and then the container was killed.
#[test]
fn crash_a_container_is_asked_to_stop_again_when_the_signal_was_refused() {
    let scenario = fault::scenario("reinstall, configured, stopped").unwrap();
    let Some(mut world) = world() else { return };
    let (name, _) = world.prepare(scenario).unwrap();
    let mut command = world.command(scenario, &name);
    let (mut refused, mut sent) = (0, 0);
    let began = Instant::now();
    let run = trace::run(&mut command, Victim::Monitor, world.scratch(), &mut |seen| {
        if seen.is_after || !seen.describe().starts_with("pidfd_send_signal") {
            return Action::Go;
        }
        if refused == 3 {
            sent += 1;
            return Action::Go;
        }
        refused += 1;
        Action::Fail(libc::ENOMEM)
    })
    .unwrap();
    assert_eq!((run.exit, refused, sent), (linux::Exit::Code(0), 3, 1), "{run:?}");
    assert!(began.elapsed() < testkit::patience(30), "{:?}: {run:?}", began.elapsed());
}

/// The filesystem, where it can be made.
fn made(name: &str) -> Option<&'static FileSystem> {
    let file_system: &'static FileSystem = file_system(name).expect("it is one of those");
    let tool = if name.starts_with("ext4") { "ext4" } else { name };
    let missing = [format!("mkfs.{tool}"), "mkfs.xfs".to_owned()].into_iter().find(|tool| {
        !["/usr/sbin", "/sbin", "/usr/bin"].iter().any(|at| std::path::Path::new(at).join(tool).exists())
    });
    let missing = missing.map(|tool| format!("there is no {tool}"));
    if let Some(missing) = missing.or_else(|| testkit::real_host::can_run(&program()).err()) {
        testkit::real_host::not_run_here(&program(), &missing);
        return None;
    }
    Some(file_system)
}

fn cut(name: &str) {
    let Some(file_system) = made(name) else { return };
    whole(sweep::power_cuts(&slice(24, 2), file_system).expect("the host works without a cut"), 8);
}

#[test]
fn crash_power_cuts_on_ext4_without_its_heuristics_lose_nothing() {
    cut("ext4-bare");
}

#[test]
fn crash_power_cuts_on_xfs_lose_nothing() {
    cut("xfs");
}

#[test]
fn crash_power_cuts_on_btrfs_lose_nothing() {
    cut("btrfs");
}

/// What somebody inside may be writing to is not thrown away with the call that made it.
#[test]
fn crash_a_new_disk_that_is_in_use_stays_when_the_call_fails() {
    let scenario = fault::scenario("set --device-add, running").unwrap();
    let Some(mut world) = world() else { return };
    let (name, before) = world.prepare(scenario).unwrap();
    let area = world.prefix.area_dir(&before.unwrap().id);
    // It has something of its own there as soon as there is a disk.
    let line = "(until grep -q ' /data ' /proc/mounts; do :; done; cd /data && echo mine > file && touch /in && exec sleep 1000) >/dev/null 2>&1 &";
    world.ok(&["exec", &name, line]).unwrap();
    let is_in = area.join("generations/1/delta/in");
    let mut command = world.command(scenario, &name);
    let mut failed = 0;
    let run = trace::run(&mut command, Victim::Command, world.scratch(), &mut |seen| {
        let text = seen.describe();
        if failed > 0 || seen.is_after || !text.starts_with("rename") || !text.ends_with(", ve.conf)") {
            return Action::Go;
        }
        wait_for(&is_in);
        failed += 1;
        Action::Fail(libc::EIO)
    })
    .unwrap();
    assert!(failed == 1 && is_in.exists(), "{run:?}");
    assert!(matches!(run.exit, linux::Exit::Code(code) if code != 0), "{run:?}");
    let kept = "the new disk is in use in it at /data, and stays as hdd1.img, detached";
    assert!(run.said.contains(kept), "{}", run.said);
    assert!(!std::fs::read_to_string(area.join("ve.conf")).unwrap().contains("hdd1"));
    assert!(area.join("hdd1.img").exists());
    assert!(world.ok(&["list", "-i", &name]).unwrap().stdout.contains("hdd1 hdd1.img, detached"));
    world.ok(&["stop", &name]).unwrap();
    world.ok(&["set", &name, "--device-add", "hdd", "--image", "hdd1.img", "--mnt", "/data"]).unwrap();
    world.ok(&["start", &name]).unwrap();
    assert_eq!(world.ok(&["exec", &name, "cat /data/file"]).unwrap().stdout, "mine\n");
}

/// What cannot be unmounted again when the call fails is said, and goes when nobody is in it any more.
#[test]
fn crash_a_bind_mount_that_is_in_use_when_the_call_fails_is_told_and_goes_later() {
    let scenario = fault::scenario("set --device-add, running").unwrap();
    let Some(mut world) = world() else { return };
    let (name, before) = world.prepare(scenario).unwrap();
    let area = world.prefix.area_dir(&before.unwrap().id);
    // Not below /dev, of which nothing is bound.
    let bound = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let line = "(until grep -q ' /data ' /proc/mounts; do :; done; cd /data && touch /in && until [ -e /go ]; do sleep 0.1; done; cd / && touch /out) >/dev/null 2>&1 &";
    world.ok(&["exec", &name, line]).unwrap();
    let delta = area.join("generations/1/delta");
    let mut command = world.command(&Scenario { words: &["set", "CT"], ..*scenario }, &name);
    command.arg("--bindmount_add").arg(format!("{}:/data", bound.path().display()));
    let mut failed = 0;
    let run = trace::run(&mut command, Victim::Command, world.scratch(), &mut |seen| {
        let text = seen.describe();
        if failed > 0 || seen.is_after || !text.starts_with("rename") || !text.ends_with(", ve.conf)") {
            return Action::Go;
        }
        wait_for(&delta.join("in"));
        failed += 1;
        Action::Fail(libc::EIO)
    })
    .unwrap();
    assert!(failed == 1 && delta.join("in").exists(), "{run:?}");
    assert!(matches!(run.exit, linux::Exit::Code(code) if code != 0), "{run:?}");
    for said in ["state: what it sees is not as it was", "has /data in use", "nothing else was changed"] {
        assert!(run.said.contains(said), "{said}: {}", run.said);
    }
    assert!(!std::fs::read_to_string(area.join("ve.conf")).unwrap().contains("BINDMOUNT=\"/"));
    let mounted = || world.ok(&["exec", &name, "grep -c ' /data ' /proc/mounts || true"]).unwrap().stdout;
    // As often as it is tried, until it can be had.
    for _ in 0..2 {
        let ran = world.ok(&["recover", &name]).unwrap();
        assert!(
            ran.stderr.contains("what is at /data in") && ran.stderr.contains("while it is in use"),
            "{ran}"
        );
        assert_eq!(mounted(), "1\n");
    }
    world.ok(&["exec", &name, "touch /go"]).unwrap();
    wait_for(&delta.join("out"));
    let ran = world.ok(&["recover", &name]).unwrap();
    assert_eq!((mounted().as_str(), ran.stderr.as_str()), ("0\n", ""));
}

fn wait_for(path: &Path) {
    let deadline = Instant::now() + testkit::patience(30);
    while !path.exists() && Instant::now() < deadline {
        std::thread::park_timeout(Duration::from_millis(2));
    }
}
