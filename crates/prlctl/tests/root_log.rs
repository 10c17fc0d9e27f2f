//! `prlctl log`, `events` and `reinstall-report`: what was done is told again, also of what failed, was killed, or is still being done.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Stdio};

use serde_json::Value;
use testkit::RealHost;

const CONFIGURE: &str = "etc/vz/conf/vps.configure";

fn with_container() -> Option<RealHost> {
    let host = RealHost::new(env!("CARGO_BIN_EXE_prlctl"))?;
    host.started("web01");
    Some(host)
}

fn events(host: &RealHost, words: &[&str]) -> Vec<Value> {
    host.ok(words).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn of<'a>(events: &'a [Value], kind: &str) -> Vec<&'a Value> {
    events.iter().filter(|event| event["event"] == kind).collect()
}

/// A command that goes on, and its lines as they come.
struct Following {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Following {
    fn new(host: &RealHost, words: &[&str]) -> Following {
        let mut child = host.prlctl().args(words).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Following { child, lines }
    }

    /// The next line that is so; the test's own time limit ends the wait for one that never comes.
    fn next(&mut self, what: &str, is_it: impl Fn(&str) -> bool) -> String {
        self.lines.by_ref().map(|line| line.unwrap()).find(|line| is_it(line)).expect(what)
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn root_the_log_tells_of_steps_scripts_and_ends_line_by_line() {
    let Some(host) = with_container() else { return };
    host.script(CONFIGURE, "echo 'one \u{1b}[31m'\necho two >&2\n");
    host.ok(["reinstall", "web01", "--keep", "/etc/hostname"]);
    host.script(CONFIGURE, "for n in $(seq 40); do echo line $n; done\nexit 3\n");
    let failed = host.run(["reinstall", "web01"]);
    // The last twenty lines, and how it ended.
    failed.failed(94, &["`vps.configure` exited with 3", "line 21\n", "line 40"]);
    assert!(!failed.stderr.contains("because: line 20\n"), "{failed}");

    let all = events(&host, &["log", "web01", "-j"]);
    let began: Vec<&str> =
        of(&all, "begin").iter().map(|event| event["operation"].as_str().unwrap()).collect();
    assert_eq!(began, ["create", "start", "reinstall", "reinstall"]);
    for event in &all {
        assert!(event["at"].as_str().is_some_and(|at| at.ends_with('Z')), "{event}");
        assert_eq!((&event["name"], event["container"].as_str().unwrap().len()), (&Value::from("web01"), 36));
    }

    let last = events(&host, &["log", "web01", "--last", "-j"]);
    assert_eq!(last[0]["event"], "begin");
    assert_eq!(last[0]["command"], "prlctl reinstall web01");
    let ended = of(&last, "script-end");
    assert_eq!(
        (&ended[0]["script"], &ended[0]["outcome"]),
        (&"vps.configure".into(), &"exited with 3".into())
    );
    assert_eq!(of(&last, "script").len(), 40);
    assert_eq!(of(&last, "failed")[0]["step"], "configure");
    let end = last.last().unwrap();
    assert_eq!(
        (&end["event"], &end["result"], &end["error"]["exit"]),
        (&"end".into(), &"failed".into(), &94.into())
    );

    let text = host.ok(["log", "web01"]);
    for words in [
        "reinstall: prlctl reinstall web01 --keep /etc/hostname\n",
        "stage     Creating generation 2 ...",
        "vps.configure: one \\x1b[31m",
        "vps.configure: two",
        "vps.configure exited with 0 after",
        "vps.configure exited with 3 after",
        "failed in configure",
        "probation is put back",
        "nothing was lost: `web01` runs on its old root again",
    ] {
        assert!(text.contains(words), "{words}\n{text}");
    }
    let steps: Vec<usize> =
        ["stage ", "build ", "stop ", "carry ", "probation ", "configure ", "commit", "settle"]
            .iter()
            .map(|step| text.find(&format!("  {step}")).unwrap_or_else(|| panic!("{step}\n{text}")))
            .collect();
    assert!(steps.is_sorted(), "{text}");
}

#[test]
fn root_a_report_is_told_again_and_that_of_what_was_undone_is_not() {
    let Some(host) = with_container() else { return };
    host.run(["reinstall-report", "web01"])
        .failed(21, &["there is no report", "nothing was changed", "prlctl log web01"]);
    let done: Value =
        serde_json::from_str(&host.ok(["reinstall", "web01", "--keep", "/etc/hostname", "-j"])).unwrap();
    let report: Value = serde_json::from_str(&host.ok(["reinstall-report", "web01", "-j"])).unwrap();
    for (key, value) in report.as_object().unwrap() {
        if !["began", "ended"].contains(&key.as_str()) {
            assert_eq!(done[key], *value, "{key}");
        }
    }
    assert_eq!(
        (&report["old"], &report["new"], &report["template"]),
        (&1.into(), &2.into(), &"busybox".into())
    );
    assert!(report["downtime_ms"].as_u64().is_some_and(|ms| ms > 0), "{report}");
    assert_eq!(done["undo"], "prlctl reinstall web01 --undo");

    host.script(CONFIGURE, "exit 1\n");
    host.run(["reinstall", "web01", "--skipbackup"]).failed(94, &["exited with 1"]);
    let text = host.ok(["reinstall-report", "web01"]);
    for words in [
        "generation 1 -> 2, busybox",
        "kept /etc/hostname: 1 entries",
        "`web01` was down for",
        "generation 1",
    ] {
        assert!(text.contains(words), "{words}\n{text}");
    }

    host.ok(["stop", "web01"]);
    host.ok(["reinstall", "web01", "--skipbackup", "--skipscripts"]);
    let report: Value = serde_json::from_str(&host.ok(["reinstall-report", "web01", "-j"])).unwrap();
    assert_eq!(
        (&report["new"], &report["is_old_kept"], &report["downtime_ms"]),
        (&4.into(), &false.into(), &Value::Null)
    );
}

#[test]
fn root_what_a_killed_command_had_done_is_reported_once_it_was_brought_to_its_end() {
    let Some(host) = with_container() else { return };
    let mut killed = host.prlctl();
    killed.args(["reinstall", "web01"]).env("REROOT_FAULT", "reinstall/commit/after:kill");
    let ran = testkit::Ran::of(killed.output().unwrap());
    assert_ne!(ran.code, 0, "{ran}");
    host.ok(["recover", "web01"]);
    let report: Value = serde_json::from_str(&host.ok(["reinstall-report", "web01", "-j"])).unwrap();
    assert_eq!((&report["new"], &report["ended"]), (&2.into(), &Value::Null));
    let all = events(&host, &["log", "web01", "-j"]);
    let began = of(&all, "begin");
    let (killed, recovery) = (began[began.len() - 2], began[began.len() - 1]);
    assert_eq!(killed["at"], recovery["recovers"]);
    assert_eq!(of(&all, "end").last().unwrap()["result"], "done");

    let mut killed = host.prlctl();
    killed.args(["reinstall", "web01"]).env("REROOT_FAULT", "reinstall/commit/before:kill");
    assert!(!killed.status().unwrap().success());
    host.ok(["recover", "web01"]);
    let report: Value = serde_json::from_str(&host.ok(["reinstall-report", "web01", "-j"])).unwrap();
    assert_eq!(report["new"], 2, "what was undone has no report");
    assert_eq!(of(&events(&host, &["log", "web01", "--last", "-j"]), "end")[0]["result"], "undone");
}

#[test]
fn root_what_is_being_done_is_followed_of_one_container_and_of_all() {
    let Some(host) = with_container() else { return };
    let gate = host.path("vz/gate");
    assert!(std::process::Command::new("mkfifo").arg(&gate).status().unwrap().success());
    host.script(
        "etc/vz/conf/vps.reinstall",
        &format!("#!/bin/sh\necho waiting\nread line <{}\necho went on\nexit 128\n", gate.display()),
    );
    let mut of_one = Following::new(&host, &["log", "web01", "-f"]);
    let mut of_all = Following::new(&host, &["events", "-f"]);
    // Both have begun to watch: what comes now is theirs.
    of_one.next("what was before", |line| line.contains("done after"));
    host.wait_until("events are watched", || {
        let _ = host.run(["stop", "web01"]);
        let _ = host.run(["start", "web01"]);
        std::fs::read_dir(format!("/proc/{}/fd", of_all.child.id())).is_ok_and(|all| {
            all.flatten()
                .any(|one| std::fs::read_link(one.path()).is_ok_and(|to| to.ends_with("anon_inode:inotify")))
        })
    });
    let mut reinstall = host
        .prlctl()
        .args(["reinstall", "web01"])
        .stderr(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    // While it waits in the middle of it.
    of_one.next("the script's line", |line| line.contains("vps.reinstall: waiting"));
    of_all.next("the step", |line| line.contains("web01 reinstall-by-script: Running vps.reinstall"));
    let mut joined = Following::new(&host, &["log", "web01", "--last", "-f"]);
    joined.next("what was before it joined", |line| line.contains("vps.reinstall: waiting"));
    std::fs::OpenOptions::new()
        .write(true)
        .open(&gate)
        .map(|mut gate| std::io::Write::write_all(&mut gate, b"go\n"))
        .unwrap()
        .unwrap();
    assert!(reinstall.wait().unwrap().success());
    for one in [&mut of_one, &mut joined] {
        one.next("the script's second line", |line| line.contains("vps.reinstall: went on"));
        one.next("its end", |line| line.contains("done after"));
    }
    of_all.next("its end", |line| line.contains("web01 reinstall-by-script: done after"));

    host.ok(["create", "web02", "--ostemplate", "busybox"]);
    of_all.next("a container that was not there", |line| line.contains("web02 create: done after"));
}

#[test]
fn root_events_are_of_all_containers_in_the_order_in_which_they_happened() {
    let Some(host) = with_container() else { return };
    host.ok(["create", "web02", "--ostemplate", "busybox"]);
    host.ok(["start", "web02"]);
    host.ok(["stop", "web01"]);
    let all = events(&host, &["events", "-j"]);
    let began: Vec<(&str, &str)> = of(&all, "begin")
        .iter()
        .map(|event| (event["name"].as_str().unwrap(), event["operation"].as_str().unwrap()))
        .collect();
    assert_eq!(
        began,
        [("web01", "create"), ("web01", "start"), ("web02", "create"), ("web02", "start"), ("web01", "stop")]
    );
    let times: Vec<&str> = all.iter().map(|event| event["at"].as_str().unwrap()).collect();
    assert!(times.iter().map(|at| at.parse::<jiff::Timestamp>().unwrap()).is_sorted(), "{times:?}");
    assert_eq!(host.ok(["events", "--since", "2100-01-01"]), "");
    assert!(!events(&host, &["events", "--since", "1 hour", "-j"]).is_empty());
    host.run(["events", "--since", "yesterdayish"])
        .failed(21, &["`yesterdayish` is no time", "nothing was changed", "`2h`"]);

    // A container that is gone is told of by its UUID.
    let uuid = began_uuid(&all);
    host.ok(["delete", "web01"]);
    let text = host.ok(["log", &uuid]);
    assert!(text.contains("delete: prlctl delete web01"), "{text}");
    host.run(["log", "web01"]).failed(14, &["web01"]);
}

fn began_uuid(all: &[Value]) -> String {
    all[0]["container"].as_str().unwrap().to_owned()
}

#[test]
fn root_a_log_that_is_torn_or_that_cannot_be_written_is_no_hindrance() {
    let Some(host) = with_container() else { return };
    let uuid = began_uuid(&events(&host, &["log", "web01", "-j"]));
    let directory = host.path("var/log/vz/operations").join(&uuid);
    let log = std::fs::read_dir(&directory).unwrap().flatten().map(|entry| entry.path()).max().unwrap();
    let mut file = std::fs::OpenOptions::new().append(true).open(&log).unwrap();
    std::io::Write::write_all(
        &mut file,
        b"{\"at\":\"2026-\n\0\0\0\n{\"at\":\"2026-01-01T00:00:00Z\",\"event\":\"of tomorrow\"}\n",
    )
    .unwrap();
    let before = events(&host, &["log", "web01", "-j"]).len();
    host.ok(["stop", "web01"]);
    assert!(events(&host, &["log", "web01", "-j"]).len() > before);

    // A file where the directory would be.
    host.ok(["create", "web02", "--ostemplate", "busybox"]);
    let other = began_uuid(&events(&host, &["log", "web02", "-j"]));
    let directory = host.path("var/log/vz/operations").join(&other);
    for entry in std::fs::read_dir(&directory).unwrap().flatten() {
        std::fs::remove_file(entry.path()).unwrap();
    }
    std::fs::remove_dir(&directory).unwrap();
    host.write(&format!("var/log/vz/operations/{other}"), "", 0o600);
    host.ok(["start", "web02"]);
    host.ok(["reinstall", "web02"]);
}

#[test]
fn root_nothing_is_missed_while_somebody_begins_to_follow() {
    let Some(host) = with_container() else { return };
    // Many logs to be read, so that beginning takes a while.
    for _ in 0..20 {
        host.ok(["restart", "web01", "--kill"]);
    }
    for round in 0..3 {
        let mut of_all = Following::new(&host, &["events", "-f", "--since", "1h"]);
        let mut of_one = Following::new(&host, &["log", "web01", "-f"]);
        // Whatever has been done when it is ready is told, or was before it began.
        host.ok(["restart", "web01", "--kill"]);
        let name = format!("later{round}");
        host.ok(["create", &name, "--ostemplate", "busybox"]);
        of_one.next("the restart", |line| line.contains("restart: prlctl restart web01"));
        of_all.next("the creation", |line| line.contains(&format!("{name} create: done after")));
        host.ok(["stop", "web01"]);
        of_one.next("the stop", |line| line.contains("stop: prlctl stop web01"));
        host.ok(["start", "web01"]);
        of_all.next("the start", |line| line.contains("web01 start: done after"));
    }
    // What is no log is in nobody's way.
    let operations = host.path("var/log/vz/operations");
    host.write("var/log/vz/operations/README", "", 0o600);
    let uuid = began_uuid(&events(&host, &["log", "web01", "-j"]));
    let pipe = operations.join(&uuid).join("29990101T000000.000Z-start.jsonl");
    assert!(std::process::Command::new("mkfifo").arg(pipe).status().unwrap().success());
    host.ok(["log", "web01"]);
    host.ok(["events"]);
    let mut of_all = Following::new(&host, &["events", "-f", "--since", "1h"]);
    host.wait_until("it watches", || {
        std::fs::read_dir(format!("/proc/{}/fd", of_all.child.id())).is_ok_and(|all| {
            all.flatten()
                .any(|one| std::fs::read_link(one.path()).is_ok_and(|to| to.ends_with("anon_inode:inotify")))
        })
    });
    host.ok(["create", "last", "--ostemplate", "busybox"]);
    of_all.next("the creation", |line| line.contains("last create: done after"));
}

#[test]
fn root_hints_and_logs_have_commands_that_can_be_typed_again() {
    let Some(host) = with_container() else { return };
    host.script(CONFIGURE, "exit 1\n");
    let failed = host.run(["reinstall", "web01", "--health", "test -e '/a b'", "--keep", "/etc/hostname"]);
    let command = r"prlctl reinstall web01 --health 'test -e '\''/a b'\''' --keep /etc/hostname";
    failed
        .failed(94, &[command, "`prlctl script-run web01 vps.configure --stop` tries it", "--generation 2"]);
    assert!(host.ok(["log", "web01", "--last"]).contains(command));
    let tried = host.run(["script-run", "web01", "vps.configure", "--stop"]);
    tried.failed(
        94,
        &["`web01` is as it was, and runs", "run `prlctl script-run web01 vps.configure --stop` again"],
    );
    assert!(!tried.stderr.contains("reinstall web01"), "{tried}");

    // A trial that was killed is none of a reinstall.
    let mut killed = host.prlctl();
    killed
        .args(["script-run", "web01", "vps.configure", "--stop"])
        .env("REROOT_FAULT", "reinstall/stop/after:kill");
    assert!(!killed.status().unwrap().success());
    host.ok(["recover", "web01"]);
    let text = host.ok(["log", "web01", "--last"]);
    assert!(
        text.contains("script-run: prlctl script-run") && text.contains("is brought to an end"),
        "both: {text}"
    );
    assert!(!text.contains(" reinstall:"), "{text}");
}
