//! Every point of every operation, killed there and failed there, with containers that really run: afterwards it is on the old root or on the new
//! one, whole, runs if it ran, and nothing is left lying about.
//!
//! The points come from the program (`prlctl generate fault-points`), so that a new step is visited without anybody thinking of it.
#![cfg(debug_assertions)] // A release build has no fault points.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use store::Prefix;
use testkit::judge::{self, Runs, Still};
use testkit::{Ran, RealHost};

fn new() -> Option<RealHost> {
    RealHost::new(env!("CARGO_BIN_EXE_prlctl"))
}

/// The same, where every container has a disk of its own.
fn on_disks() -> Option<RealHost> {
    let host = new()?;
    host.write("etc/vz/vz.conf", "VOLUME=\"image\"\nDISKSPACE=\"64M\"\n", 0o644);
    Some(host)
}

/// The points of one operation at one place (`before`, `after`, `revert`).
fn points(host: &RealHost, operation: &str, place: &str) -> Vec<String> {
    let all = host.ok(["generate", "fault-points"]);
    let found: Vec<String> = all
        .lines()
        .filter(|point| point.starts_with(&format!("{operation}/")) && point.ends_with(&format!("/{place}")))
        .map(str::to_owned)
        .collect();
    assert!(found.len() >= 4, "{all}");
    found
}

fn is_past_commit(point: &str) -> bool {
    point.ends_with("/commit/after") || point.contains("/settle/")
}

fn run_with(host: &RealHost, fault: &str, words: &[&str]) -> Ran {
    Ran::of(host.prlctl().env("REROOT_FAULT", fault).args(words).output().expect("run prlctl"))
}

fn killed(host: &RealHost, point: &str, words: &[&str]) {
    let ran = run_with(host, &format!("{point}:kill"), words);
    assert_eq!(ran.code, 128 + 9, "{point} was not passed\n{ran}");
}

fn generations(host: &RealHost, name: &str) -> Vec<serde_json::Value> {
    let text = host.ok(["generation-list", name, "--all", "-j"]);
    serde_json::from_str::<Vec<serde_json::Value>>(&text).expect("a list is JSON")
}

fn is_running(host: &RealHost, name: &str) -> bool {
    host.ok(["status", name]).contains(" running")
}

/// A container with the root `old`, which has a marker; it runs or it does not.
fn prepare(host: &RealHost, name: &str, runs: bool) {
    host.ok(["create", name, "--ostemplate", "busybox"]);
    host.ok(["start", name]);
    host.exec(
        name,
        &format!("echo {name} > /root/marker; mkdir /srv/deep; echo deep > /srv/deep/file; rm /usr/bin/env"),
    );
    if !runs {
        host.ok(["stop", name]);
    }
}

/// What stands in a file of the container's root, `None` when it is not there; through `exec` or `mount`.
fn contents(host: &RealHost, name: &str, path: &str) -> Option<String> {
    if is_running(host, name) {
        let mut found = None;
        // A recovery that has begun by itself may still hold the lock.
        host.wait_until("nobody holds the lock", || {
            let ran = host.run(["exec", name, &format!("cat {path}")]);
            found = (ran.code == 0).then(|| ran.stdout.trim_end().to_owned());
            ran.code != 9
        });
        return found;
    }
    host.ok(["mount", name, "--lock-wait", "30"]);
    let uuid = host.area(name).file_name().expect("a private area has a name").to_owned();
    let path = host.path("vz/root").join(uuid).join(path.trim_start_matches('/'));
    let text = std::fs::read_to_string(path).ok().map(|text| text.trim_end().to_owned());
    host.ok(["umount", name, "--lock-wait", "30"]);
    text
}

/// On which root a container is to be, and at which depth the root with the marker is.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Root {
    Old,
    New,
}

/// After a recovery: the root that it should be on (`None`: either), whole, and nothing left lying about. Returns which it is on.
#[track_caller]
fn judge(host: &RealHost, name: &str, wanted: Option<Root>, ran: bool, point: &str) -> Root {
    assert_eq!(is_running(host, name), ran, "{point}: it runs if it ran");
    let area = host.area(name);
    assert!(!area.join("operation.json").exists(), "{point}: the journal is gone");
    let is_old = contents(host, name, "/root/marker").is_some();
    let root = if is_old { Root::Old } else { Root::New };
    if let Some(wanted) = wanted {
        assert_eq!(root, wanted, "{point}");
    }
    let at = if is_old { "" } else { "/old" };
    assert_eq!(
        contents(host, name, &format!("{at}/root/marker")).as_deref(),
        Some(name),
        "{point}: the old root"
    );
    assert_eq!(
        contents(host, name, &format!("{at}/srv/deep/file")).as_deref(),
        Some("deep"),
        "{point}: the old root"
    );
    assert_eq!(contents(host, name, &format!("{at}/usr/bin/env")), None, "{point}: what was deleted is");
    nothing_is_left(host, name, &area, point);
    root
}

#[track_caller]
fn nothing_is_left(host: &RealHost, name: &str, area: &Path, point: &str) {
    let id = area.file_name().and_then(|id| id.to_str()?.parse().ok()).expect("an area is named by its id");
    let runs = Runs::from(is_running(host, name));
    if let Err(violation) = judge::whole(&prefix(host), &id, name, runs) {
        panic!("{point}: {violation}");
    }
}

fn prefix(host: &RealHost) -> Prefix {
    Prefix::new(host.prefix()).expect("a host has a prefix")
}

/// Recovery again finds nothing to do.
#[track_caller]
fn recovers_twice(host: &RealHost, name: &str, point: &str) {
    let still = Still::of(&prefix(host));
    let again = host.run(["recover", name]);
    assert_eq!((again.code, again.stderr.as_str()), (0, ""), "{point}");
    if let Err(violation) = still.compare(&prefix(host)) {
        panic!("{point}: {violation}");
    }
}

/// The next reinstall works, and the marker is one `/old` further away.
#[track_caller]
fn reinstalls_again(host: &RealHost, name: &str, root: Root, point: &str) {
    let ran = host.run(["reinstall", name, "--lock-wait", "30"]);
    assert_eq!(ran.code, 0, "{point}: the next reinstall\n{ran}");
    let path = if root == Root::Old { "/old/root/marker" } else { "/old/old/root/marker" };
    assert_eq!(contents(host, name, path).as_deref(), Some(name), "{point}: after the next reinstall");
}

fn scripts(host: &RealHost, by_script: bool) {
    if by_script {
        host.script(
            "etc/vz/conf/vps.reinstall",
            "#!/bin/sh\nmkdir -p \"$VE_PRIVATE_TMP\" && cp -a \"$OSTEMPLATE_ROOT/.\" \"$VE_PRIVATE_TMP/\"\n",
        );
    }
    host.script("etc/vz/conf/vps.configure", "#!/bin/sh\ntest -d /old/root\n");
}

fn operation(by_script: bool) -> &'static str {
    if by_script { "reinstall-by-script" } else { "reinstall" }
}

/// Every point before and after a step, killed there.
fn kill_everywhere(host: Option<RealHost>, by_script: bool, runs: bool) {
    let Some(host) = host else { return };
    scripts(&host, by_script);
    let operation = operation(by_script);
    for (index, point) in
        points(&host, operation, "before").iter().chain(&points(&host, operation, "after")).enumerate()
    {
        let name = format!("ct{index}");
        prepare(&host, &name, runs);
        killed(&host, point, &["reinstall", &name]);
        // Nobody waits for the next command: not what ran, not a script of the host, not a root on probation.
        let is_tried = point.ends_with("/probation/after")
            || point.contains("/configure/")
            || point.ends_with("/commit/before")
            || point.ends_with("/commit/after")
            || point.ends_with("/settle/before");
        if runs || by_script || is_tried {
            comes_back_by_itself(&host, &name, runs, point);
        }
        host.ok(["recover", &name]);
        let wanted = if is_past_commit(point) { Root::New } else { Root::Old };
        let root = judge(&host, &name, Some(wanted), runs, point);
        recovers_twice(&host, &name, point);
        reinstalls_again(&host, &name, root, point);
        host.ok(["delete", &name, "--force", "--lock-wait", "30"]);
    }
}

/// Whatever is left under way is brought to an end although nobody types anything.
fn comes_back_by_itself(host: &RealHost, name: &str, runs: bool, point: &str) {
    let journal = host.area(name).join("operation.json");
    host.wait_until(&format!("{name} recovers by itself after {point}"), || !journal.exists());
    host.wait_until(&format!("{name} is as it was after {point}"), || is_running(host, name) == runs);
    let place = if is_past_commit(point) { "/old/root/marker" } else { "/root/marker" };
    assert_eq!(contents(host, name, place).as_deref(), Some(name), "{point}: it came back by itself");
}

#[test]
fn crash_a_reinstall_of_a_running_container_killed_anywhere_is_old_or_new() {
    kill_everywhere(new(), false, true);
}

#[test]
fn crash_a_reinstall_of_a_stopped_container_killed_anywhere_is_old_or_new() {
    kill_everywhere(new(), false, false);
}

#[test]
fn crash_a_reinstall_by_script_of_a_running_container_killed_anywhere_is_old_or_new() {
    kill_everywhere(new(), true, true);
}

#[test]
fn crash_a_reinstall_by_script_of_a_stopped_container_killed_anywhere_is_old_or_new() {
    kill_everywhere(new(), true, false);
}

#[test]
fn crash_on_a_disk_of_its_own_a_reinstall_killed_anywhere_is_old_or_new() {
    kill_everywhere(on_disks(), false, true);
    kill_everywhere(on_disks(), false, false);
}

#[test]
fn crash_on_a_disk_of_its_own_a_reinstall_by_script_killed_anywhere_is_old_or_new() {
    kill_everywhere(on_disks(), true, true);
}

/// Every point before and after a step, with a failure there: the command puts everything back by itself, or has done it.
fn fail_everywhere(host: Option<RealHost>, by_script: bool, runs: bool) {
    let Some(host) = host else { return };
    scripts(&host, by_script);
    let operation = operation(by_script);
    for (index, point) in
        points(&host, operation, "before").iter().chain(&points(&host, operation, "after")).enumerate()
    {
        let name = format!("ct{index}");
        prepare(&host, &name, runs);
        let ran = run_with(&host, &format!("{point}:error"), &["reinstall", &name]);
        let wanted = if is_past_commit(point) { Root::New } else { Root::Old };
        if wanted == Root::New {
            assert_eq!(ran.code, 0, "{point}: what has happened is no error\n{ran}");
            assert!(ran.stderr.contains("warning: it is done"), "{point}\n{ran}");
            host.ok(["recover", &name]);
        } else {
            ran.failed(94, &["error: cannot reinstall `", "state: nothing was lost"]);
        }
        judge(&host, &name, Some(wanted), runs, point);
        recovers_twice(&host, &name, point);
        host.ok(["delete", &name, "--force", "--lock-wait", "30"]);
    }
}

#[test]
fn crash_a_reinstall_that_fails_anywhere_is_undone_or_done() {
    fail_everywhere(new(), false, true);
    fail_everywhere(new(), false, false);
}

#[test]
fn crash_on_a_disk_of_its_own_a_reinstall_that_fails_anywhere_is_undone_or_done() {
    fail_everywhere(on_disks(), false, true);
}

#[test]
fn crash_a_reinstall_by_script_that_fails_anywhere_is_undone_or_done() {
    fail_everywhere(new(), true, true);
    fail_everywhere(new(), true, false);
}

/// A script fails, and the command is killed while it puts everything back.
fn kill_every_revert(by_script: bool) {
    let Some(host) = new() else { return };
    scripts(&host, by_script);
    host.script("etc/vz/conf/vps.configure", "#!/bin/sh\nexit 3\n");
    for (index, point) in points(&host, operation(by_script), "revert").iter().enumerate() {
        for runs in [true, false] {
            let name = format!("ct{index}{}", if runs { "r" } else { "s" });
            prepare(&host, &name, runs);
            killed(&host, point, &["reinstall", &name]);
            // The recovery is killed at the same point, if it comes there.
            run_with(&host, &format!("{point}:kill"), &["recover", &name]);
            host.ok(["recover", &name]);
            let root = judge(&host, &name, Some(Root::Old), runs, point);
            recovers_twice(&host, &name, point);
            host.ok(["reinstall", &name, "--skipscripts", "--lock-wait", "30"]);
            assert_eq!(root, Root::Old);
            assert_eq!(contents(&host, &name, "/old/root/marker").as_deref(), Some(&*name), "{point}");
            host.ok(["delete", &name, "--force", "--lock-wait", "30"]);
        }
    }
}

#[test]
fn crash_a_reinstall_killed_while_it_is_undone_is_undone_by_recovery() {
    kill_every_revert(false);
}

#[test]
fn crash_a_reinstall_by_script_killed_while_it_is_undone_is_undone_by_recovery() {
    kill_every_revert(true);
}

#[test]
fn crash_recovery_that_is_killed_after_the_commit_is_made_up_for_by_the_next() {
    let Some(host) = new() else { return };
    for runs in [true, false] {
        for (index, point) in ["reinstall/settle/before", "reinstall/settle/after"].into_iter().enumerate() {
            let name = format!("ct{index}{}", if runs { "r" } else { "s" });
            prepare(&host, &name, runs);
            killed(&host, "reinstall/commit/after", &["reinstall", &name]);
            // On probation the recovery that has begun by itself may have been quicker.
            run_with(&host, &format!("{point}:kill"), &["recover", &name]);
            host.ok(["recover", &name]);
            judge(&host, &name, Some(Root::New), runs, point);
            host.ok(["delete", &name, "--force", "--lock-wait", "30"]);
        }
    }
}

/// The old root is the one with the marker, generation 1; undo brings it back.
fn kill_every_undo(runs: bool) {
    let Some(host) = new() else { return };
    let all: Vec<String> =
        ["before", "after", "revert"].iter().flat_map(|place| points(&host, "switch", place)).collect();
    for (index, point) in all.iter().enumerate() {
        let name = format!("ct{index}");
        prepare(&host, &name, runs);
        host.ok(["reinstall", &name]);
        if point.ends_with("/revert") {
            killed(&host, "switch/commit/before", &["reinstall", &name, "--undo"]);
            // Either this one comes to the point, or the recovery that has begun by itself has passed it.
            run_with(&host, &format!("{point}:kill"), &["recover", &name]);
        } else {
            killed(&host, point, &["reinstall", &name, "--undo"]);
            let journal = host.area(&name).join("operation.json");
            host.wait_until(&format!("{point}: it recovers by itself if it ran"), || {
                !runs || !journal.exists()
            });
        }
        host.ok(["recover", &name]);
        let wanted = if is_past_commit(point) && !point.ends_with("/revert") { Root::Old } else { Root::New };
        judge(&host, &name, Some(wanted), runs, point);
        recovers_twice(&host, &name, point);
        reinstalls_again(&host, &name, wanted, point);
        host.ok(["delete", &name, "--force", "--lock-wait", "30"]);
    }
}

#[test]
fn crash_an_undo_of_a_running_container_killed_anywhere_is_old_or_new() {
    kill_every_undo(true);
}

#[test]
fn crash_an_undo_of_a_stopped_container_killed_anywhere_is_old_or_new() {
    kill_every_undo(false);
}

/// Of three roots the one in the middle is deleted: it is there and linked, or gone and linked past.
fn kill_every_deletion(host: Option<RealHost>, runs: bool) {
    let Some(host) = host else { return };
    let all: Vec<String> = ["before", "after", "revert"]
        .iter()
        .flat_map(|place| points(&host, "generation-delete", place))
        .collect();
    for (index, point) in all.iter().enumerate() {
        let name = format!("ct{index}");
        prepare(&host, &name, runs);
        host.ok(["reinstall", &name]);
        host.ok(["reinstall", &name]);
        if point.ends_with("/revert") {
            killed(&host, "generation-delete/commit/before", &["generation-delete", &name, "2"]);
            // Either this one comes to the point, or the recovery that has begun by itself has passed it.
            run_with(&host, &format!("{point}:kill"), &["recover", &name]);
        } else {
            killed(&host, point, &["generation-delete", &name, "2"]);
        }
        host.ok(["recover", &name]);
        assert_eq!(is_running(&host, &name), runs, "{point}");
        let is_gone = is_past_commit(point) && !point.ends_with("/revert");
        let place = if is_gone { "/old/root/marker" } else { "/old/old/root/marker" };
        assert_eq!(contents(&host, &name, place).as_deref(), Some(&*name), "{point}");
        let numbers: Vec<u64> =
            generations(&host, &name).iter().filter_map(|one| one["number"].as_u64()).collect();
        assert_eq!(numbers, if is_gone { vec![3, 1] } else { vec![3, 2, 1] }, "{point}");
        let area = host.area(&name);
        assert!(!area.join("operation.json").exists(), "{point}");
        nothing_is_left(&host, &name, &area, point);
        recovers_twice(&host, &name, point);
        host.ok(["delete", &name, "--force", "--lock-wait", "30"]);
    }
}

#[test]
fn crash_a_deletion_of_a_root_of_a_running_container_killed_anywhere_is_whole_or_gone() {
    kill_every_deletion(new(), true);
}

#[test]
fn crash_a_deletion_of_a_root_of_a_stopped_container_killed_anywhere_is_whole_or_gone() {
    kill_every_deletion(new(), false);
}

#[test]
fn crash_on_a_disk_of_its_own_a_deletion_of_a_root_killed_anywhere_is_whole_or_gone() {
    kill_every_deletion(on_disks(), true);
    kill_every_deletion(on_disks(), false);
}

/// The same numbers in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit.max(1)
    }
}

fn kill_at_random(seed: u64, times: usize, by_script: bool) {
    let Some(host) = new() else { return };
    scripts(&host, by_script);
    let mut dice = Dice(seed);
    prepare(&host, "measured", true);
    let began = Instant::now();
    host.ok(["reinstall", "measured"]);
    let whole = began.elapsed().as_micros() as u64 * 11 / 10;
    for index in 0..times {
        let name = format!("ct{index}");
        let runs = dice.below(3) > 0;
        prepare(&host, &name, runs);
        let after = Duration::from_micros(dice.below(whole));
        let mut command = host.prlctl();
        command.args(["reinstall", &name]).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().expect("run prlctl");
        let pid = rustix::process::Pid::from_child(&child);
        let pidfd =
            rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).expect("hold the process");
        let limit = Timespec { tv_sec: after.as_secs() as i64, tv_nsec: after.subsec_nanos().into() };
        poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&limit)).expect("wait for the process");
        let _ = rustix::process::pidfd_send_signal(&pidfd, rustix::process::Signal::KILL);
        let status = child.wait().expect("wait for the process");
        host.ok(["recover", &name]);
        let wanted = status.success().then_some(Root::New);
        let what = format!("seed {seed}, kill {index} after {after:?} of {whole} us, ran: {runs}");
        let root = judge(&host, &name, wanted, runs, &what);
        recovers_twice(&host, &name, &what);
        reinstalls_again(&host, &name, root, &what);
        host.ok(["delete", &name, "--force", "--lock-wait", "30"]);
    }
}

#[test]
fn crash_a_reinstall_killed_at_random_instants_is_old_or_new() {
    kill_at_random(1, 20, false);
}

#[test]
fn crash_a_reinstall_by_script_killed_at_random_instants_is_old_or_new() {
    kill_at_random(2, 10, true);
}
