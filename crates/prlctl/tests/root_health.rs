//! What a new root has to show before it is the container's: the health command, and what is left of a root that was given up.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::PathBuf;
use std::time::Instant;

use testkit::{Ran, RealHost, patience};

/// A host with a running container `web01` whose root has a marker.
fn with_container() -> Option<RealHost> {
    let host = RealHost::new(env!("CARGO_BIN_EXE_prlctl"))?;
    host.started("web01");
    host.exec("web01", "echo old > /root/marker");
    Some(host)
}

fn roots(host: &RealHost) -> String {
    host.ok(["generation-list", "web01", "-H", "--all"])
}

fn is_running(host: &RealHost) -> bool {
    host.ok(["status", "web01"]).contains(" running")
}

/// Adds a line to its configuration.
fn set(host: &RealHost, line: &str) {
    let path = host.area("web01").join("ve.conf");
    let conf = std::fs::read_to_string(&path).unwrap();
    let below = path.strip_prefix(host.prefix()).unwrap().display().to_string();
    host.write(&below, &format!("{conf}{line}\n"), 0o600);
}

/// It was undone, and everything is as before.
#[track_caller]
fn undone(host: &RealHost, words: &[&str], said: &[&str]) -> Ran {
    let was_running = is_running(host);
    let ran = host.run([&["reinstall", "web01"], words].concat());
    ran.failed(94, &["error: cannot reinstall `web01`\n", "\n  state: nothing was lost", "\n  hint: "]);
    ran.failed(94, said);
    assert_eq!(is_running(host), was_running, "it runs if it ran\n{ran}");
    if was_running {
        assert_eq!(host.exec("web01", "cat /root/marker; echo x > /root/writable"), "old");
    }
    assert!(!host.area("web01").join("operation.json").exists());
    assert!(roots(host).contains("1     live"), "{}", roots(host));
    ran
}

#[test]
fn root_a_root_that_is_healthy_at_once_is_taken() {
    let Some(host) = with_container() else { return };
    host.script("etc/vz/conf/vps.configure", "#!/bin/sh\necho yes > /configured\n");
    let ran = host.run(["reinstall", "web01", "--health", "env > /env; test -e /configured && echo fine"]);
    assert_eq!(ran.code, 0, "{ran}");
    let (configure, health) =
        (ran.stderr.find("Running vps.configure"), ran.stderr.find("Waiting until it is healthy"));
    assert!(configure.is_some() && configure < health, "after the scripts\n{ran}");
    let uuid = host.area("web01").file_name().unwrap().to_string_lossy().into_owned();
    assert!(host.exec("web01", "cat /env").contains(&format!("VEID={uuid}")));
}

#[test]
fn root_a_root_that_is_never_healthy_is_given_up_when_the_time_is_over() {
    let Some(host) = with_container() else { return };
    for (command, how, because) in [
        ("echo no database >&2; exit 3", "exited with 3 at the last of ", "because: no database"),
        ("echo hangs; sleep 1000", "did not end and was killed at its only try", "because: hangs"),
        ("kill -KILL $$", "was killed by signal 9 at the last of ", "because: generation "),
        ("no-such-program", "exited with 127 at the last of ", "no-such-program: not found"),
    ] {
        let ran = undone(
            &host,
            &["--timeout", "1", "--health", command],
            &[&format!("is not healthy: `{command}` {how}"), " within 1 s", because],
        );
        assert!(ran.stderr.contains("runs on its old root again"), "{ran}");
        assert_eq!(roots(&host).matches("failed").count(), 1, "{}", roots(&host));
    }
    // One that is stopped is tried out for it, and stays stopped.
    host.ok(["stop", "web01"]);
    undone(&host, &["--timeout", "1", "--health", "exit 4"], &["`exit 4` exited with 4"]);
}

#[test]
fn root_a_root_that_is_healthy_at_the_third_try_is_taken() {
    let Some(host) = with_container() else { return };
    let third = "echo x >> /tries; test $(wc -l < /tries) -ge 3";
    host.ok(["reinstall", "web01", "--health", third]);
    assert_eq!(host.exec("web01", "wc -l < /tries"), "3");
    // A stopped one is started for it, and stopped again.
    host.ok(["stop", "web01"]);
    host.ok(["reinstall", "web01", "--health", third]);
    assert!(!is_running(&host));
    host.ok(["start", "web01"]);
    assert_eq!(host.exec("web01", "wc -l < /tries"), "3");
}

#[test]
fn root_the_configuration_names_a_health_command_and_the_option_wins() {
    let Some(host) = with_container() else { return };
    host.write("etc/vz/vz.conf", "HEALTH=\"echo of the host >&2; exit 5\"\n", 0o644);
    undone(&host, &["--timeout", "1"], &["because: of the host"]);
    set(&host, "HEALTH=\"echo of the container >&2; exit 6\"");
    undone(&host, &["--timeout", "1"], &["because: of the container", "exited with 6", "--health ''"]);
    // It is no script.
    undone(&host, &["--timeout", "1", "--skipscripts"], &["because: of the container"]);
    host.ok(["reinstall", "web01", "--health", "true"]);
    host.ok(["reinstall", "web01", "--health", ""]);
    // Who goes back or on to a root wants that one.
    host.ok(["reinstall", "web01", "--undo"]);
    let first = roots(&host).lines().find(|line| line.contains(" left ")).unwrap().to_owned();
    host.ok(["generation-switch", "web01", first.split_whitespace().next().unwrap()]);
    // In the container's own, an empty one means none, too.
    set(&host, "HEALTH=\"\"");
    host.ok(["reinstall", "web01"]);
    host.run(["reinstall", "web01", "--undo", "--health", "true"]).failed(20, &["--health"]);
}

#[test]
fn root_a_container_that_ends_while_it_is_to_be_healthy_is_not_waited_for() {
    let Some(host) = with_container() else { return };
    for command in ["poweroff; exit 1", "poweroff; sleep 1000", "poweroff", "reboot -f; exit 1"] {
        let began = Instant::now();
        undone(&host, &["--health", command], &[" is not healthy: `"]);
        assert!(began.elapsed() < patience(60), "{:?}", began.elapsed());
    }
}

#[test]
fn root_what_was_given_up_can_be_looked_at_or_is_dropped() {
    let Some(host) = with_container() else { return };
    let bad = ["--timeout", "1", "--health", "echo why > /root/left; exit 1"];
    undone(&host, &bad, &["`prlctl mount web01 --generation 2` shows what is left of it, read-only"]);
    assert!(roots(&host).starts_with("2     failed"), "{}", roots(&host));
    let shown = || -> PathBuf {
        let json: serde_json::Value =
            serde_json::from_str(&host.ok(["mount", "web01", "--generation", "2", "-j"])).unwrap();
        json["path"].as_str().unwrap().into()
    };
    let point = shown();
    assert_eq!(std::fs::read_to_string(point.join("root/left")).unwrap(), "why\n");
    let error = std::fs::File::create(point.join("root/left")).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    // Once more is fine, and so is the live one after it, which is another.
    assert_eq!(shown(), point);
    host.ok(["mount", "web01"]);
    assert_eq!(std::fs::read_to_string(point.join("root/marker")).unwrap(), "old\n");
    shown();
    assert!(!point.join("root/marker").exists());
    host.ok(["umount", "web01"]);
    assert_eq!(std::fs::read_dir(&point).unwrap().count(), 0);
    // Also of a container that is stopped; a start takes it away.
    host.ok(["stop", "web01"]);
    assert_eq!(std::fs::read_to_string(shown().join("root/left")).unwrap(), "why\n");
    host.ok(["start", "web01"]);
    assert_eq!(std::fs::read_dir(&point).unwrap().count(), 0);
    host.run(["mount", "web01", "--generation", "9"])
        .failed(21, &["generation 9 of `web01`", "there is none"]);
    // One that is at /old is shown as it is in there.
    host.ok(["reinstall", "web01"]);
    host.exec("web01", "echo new > /old/root/marker");
    host.ok(["mount", "web01", "--generation", "1"]);
    assert_eq!(std::fs::read_to_string(point.join("root/marker")).unwrap(), "new\n");
    assert!(std::fs::File::create(point.join("root/marker")).is_err());
    host.ok(["umount", "web01"]);
    host.exec("web01", "echo old > /old/root/marker");
    host.ok(["reinstall", "web01", "--undo"]);

    // The newest one is kept, and only that; dropped, it does not take the place of the one before.
    undone(&host, &bad, &[]);
    assert!(roots(&host).starts_with("4     failed"), "{}", roots(&host));
    assert_eq!(roots(&host).matches("failed").count(), 1);
    let ran = undone(&host, &[&bad[..], &["--drop-failed"]].concat(), &[]);
    assert!(!ran.stderr.contains("--generation"), "{ran}");
    assert!(roots(&host).starts_with("4     failed"), "{}", roots(&host));
    assert_eq!(roots(&host).matches("failed").count(), 1);
    assert!(!host.area("web01").join("generations/5").exists());
}

#[test]
fn root_the_plan_names_the_health_command_and_what_is_asked_of_the_root() {
    let Some(host) = with_container() else { return };
    let command = "wget -q -O /dev/null http://127.0.0.1/";
    let words = ["reinstall", "web01", "--dry-run", "--timeout", "7", "--health", command, "--drop-failed"];
    let plan = host.ok(words);
    assert!(
        plan.contains(&format!(
            "health     run `{command}` in it until it exits with 0, for up to 7 s\ncommit "
        )),
        "{plan}"
    );
    assert!(plan.contains("probation  it has to live and to execute a shell\n"), "{plan}");
    let json: serde_json::Value = serde_json::from_str(&host.ok([&words[..], &["-j"]].concat())).unwrap();
    assert_eq!(json["plan"]["making"]["health"], command);
    assert_eq!(json["plan"]["making"]["allows_degraded"], false);
    assert_eq!(json["plan"]["drops_failed"], true);
    assert!(host.ok(["reinstall", "web01", "--dry-run"]).contains("health     no command\n"));
    host.ok(["stop", "web01"]);
    assert!(host.ok(["reinstall", "web01", "--dry-run"]).contains("probation  none: "));
    assert!(!host.ok(words).contains("probation  none: "), "it is started for that");
    assert_eq!(roots(&host).lines().count(), 1);
    let ran = host.run(["reinstall", "web01", "--health", "true\0"].map(|word| word.replace('\0', "")));
    assert_eq!(ran.code, 0, "{ran}");
    host.run(["reinstall", "web01", "--health", &"x".repeat(100_000)])
        .failed(21, &["longer than 64 KiB", "state: nothing was changed"]);
}
