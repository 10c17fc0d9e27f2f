//! A run that is ended from outside: told to end, it writes down what it has done and leaves nothing; killed, the next one clears up after it.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed, and says where")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};
use torture::ledger;
use torture::sweep;

/// A run in a directory of its own, where its ledger is.
struct Run {
    child: Child,
    docs: PathBuf,
}

fn torture(at: &Path, slice: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_torture"));
    command.current_dir(at).args([
        "run",
        "--sweep",
        "ext4",
        "--workers",
        "1",
        "--seed",
        "5",
        "--slice",
        slice,
    ]);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command
}

/// What of that process lies in one of the places for hosts, or is mounted.
fn left(pid: u32) -> Vec<String> {
    let (memory, beside) = sweep::scratches(Path::new(env!("CARGO_BIN_EXE_torture")));
    let mark = format!("-{pid}-");
    let entries =
        [memory, beside].into_iter().flat_map(|scratch| std::fs::read_dir(scratch).into_iter().flatten());
    let directories = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mounts: Vec<String> = mounts.lines().map(str::to_owned).collect();
    directories.chain(mounts).filter(|one| one.contains(&mark)).collect()
}

/// Its first container is there: a batch is under way. False: it has ended before.
fn has_begun(run: &mut Run) -> bool {
    let (memory, beside) = sweep::scratches(Path::new(env!("CARGO_BIN_EXE_torture")));
    let disk = format!("torture-{}-", run.child.id());
    let host = format!("host-{}-", run.child.id());
    let below = |directory: &Path, name: &str| -> Option<PathBuf> {
        let found = std::fs::read_dir(directory).ok()?.flatten();
        found
            .map(|entry| entry.path())
            .find(|path| path.file_name().is_some_and(|one| one.to_string_lossy().starts_with(name)))
    };
    let deadline = Instant::now() + testkit::patience(120);
    while Instant::now() < deadline && matches!(run.child.try_wait(), Ok(None)) {
        let is_container = [&memory, &beside].into_iter().any(|scratch| {
            let host = below(scratch, &disk).and_then(|disk| below(&disk.join("disk"), &host));
            let areas = host.and_then(|host| std::fs::read_dir(host.join("prefix/vz/private")).ok());
            areas.into_iter().flatten().flatten().any(|area| area.path().join("live").is_symlink())
        });
        if is_container {
            return true;
        }
        std::thread::park_timeout(std::time::Duration::from_millis(5));
    }
    false
}

fn begin(at: &Path) -> Run {
    let docs = at.join("docs");
    std::fs::create_dir_all(&docs).unwrap();
    Run { child: torture(at, "5m").spawn().unwrap(), docs }
}

fn is_able() -> bool {
    let program = Path::new(env!("CARGO_BIN_EXE_torture")).with_file_name("prlctl");
    assert!(program.exists(), "{} is not built: `cargo build --workspace` first", program.display());
    let tool =
        |name: &str| ["/usr/sbin", "/sbin", "/usr/bin"].iter().any(|at| Path::new(at).join(name).exists());
    if !tool("mkfs.xfs") || !tool("mkfs.ext4") {
        testkit::real_host::not_run_here(&program, "there is no mkfs.xfs or no mkfs.ext4");
        return false;
    }
    // Says by itself what is missing.
    testkit::RealHost::bare(&program.to_string_lossy()).is_some()
}

#[test]
fn root_a_run_that_is_told_to_end_writes_down_what_it_did_and_leaves_nothing() {
    if !is_able() {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let mut run = begin(scratch.path());
    assert!(has_begun(&mut run), "no batch has begun");
    let pid = run.child.id();
    let began = Instant::now();
    kill_process(Pid::from_child(&run.child), Signal::TERM).unwrap();
    let status = run.child.wait().unwrap();
    assert!(status.success(), "{status}");
    assert!(began.elapsed() < testkit::patience(150), "a batch is one operation: {:?}", began.elapsed());
    let lines = ledger::read(&run.docs.join("torture.jsonl")).unwrap();
    assert_eq!(lines.len(), 1, "{lines:?}");
    // One batch, or two, should this test have looked late.
    assert!(lines[0].from == 0 && (1..4).contains(&lines[0].to), "{lines:?}");
    assert!(lines[0].cuts > 0 && lines[0].lost == 0, "{lines:?}");
    assert_eq!(left(pid), Vec::<String>::new());
}

#[test]
fn root_the_next_run_clears_up_after_one_that_was_killed() {
    if !is_able() {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let mut run = begin(scratch.path());
    assert!(has_begun(&mut run), "no batch has begun");
    let pid = run.child.id();
    run.child.kill().unwrap();
    run.child.wait().unwrap();
    assert_ne!(left(pid), Vec::<String>::new(), "then this test tests nothing");
    let next = torture(scratch.path(), "1s").status().unwrap();
    assert!(next.success(), "{next}");
    assert_eq!(left(pid), Vec::<String>::new());
}

/// Also those of a hybrid host's v1 trees, in which nothing can be killed.
#[test]
fn root_a_host_whose_containers_cannot_be_stopped_leaves_no_control_group() {
    let program = Path::new(env!("CARGO_BIN_EXE_torture")).with_file_name("prlctl");
    assert!(program.exists(), "{} is not built: `cargo build --workspace` first", program.display());
    let own = program.with_file_name(format!("prlctl-{}", std::process::id()));
    std::fs::hard_link(&program, &own).unwrap();
    let host = testkit::RealHost::new(&own.to_string_lossy());
    if let Some(host) = &host {
        host.started("web01");
    }
    // As if it hung: nobody stops anything.
    std::fs::remove_file(&own).unwrap();
    let Some(host) = host else { return };
    let group = format!("reroot-{}", store::Prefix::new(host.prefix()).unwrap().short_hash());
    let groups = || -> Vec<PathBuf> {
        let trees = std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten().map(|tree| tree.path());
        let trees = trees.chain([PathBuf::from("/sys/fs/cgroup")]);
        trees.map(|tree| tree.join(&group)).filter(|group| group.exists()).collect()
    };
    assert_ne!(groups(), Vec::<PathBuf>::new());
    drop(host);
    assert_eq!(groups(), Vec::<PathBuf>::new());
}
