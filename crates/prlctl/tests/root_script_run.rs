//! `prlctl script-run`: a script runs as in a reinstall, and nothing of it stays.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::process::Command;

use serde_json::Value;
use testkit::RealHost;

const CONFIGURE: &str = "etc/vz/conf/vps.configure";

fn with_container() -> Option<RealHost> {
    let host = RealHost::new(env!("CARGO_BIN_EXE_prlctl"))?;
    host.started("web01");
    host.exec("web01", "echo live > /root/marker");
    Some(host)
}

/// Everything that the container is: its records, its roots with contents, owners, modes and times.
fn state(host: &RealHost) -> String {
    let line = "find . -path ./root -prune -o ! -name operation.json -printf '%p %y %m %U %G %s %T@ %l\\n' | sort; \
                find . -type f -size -1M -exec sha256sum {} + | sort";
    let output = Command::new("sh").args(["-c", line]).current_dir(host.area("web01")).output().unwrap();
    // Directories of overlayfs, and the one whose number goes up, are touched by every start.
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines()
        .filter(|line| {
            !line.contains("/work")
                && !line.contains("area.json")
                && !line.starts_with(". ")
                && !line.starts_with("./generations d")
        })
        .map(|line| format!("{line}\n"))
        .collect()
}

#[test]
fn root_a_script_is_tried_with_a_stopped_container_and_nothing_stays() {
    let Some(host) = with_container() else { return };
    host.ok(["stop", "web01"]);
    host.script(
        CONFIGURE,
        "echo \"$REINSTALL_DATA_ROOT has $(cat /old/root/marker)\"; echo x > /left; ! echo y > /old/left\n",
    );
    let before = state(&host);
    let ran = host.run(["script-run", "web01", "vps.configure"]);
    assert_eq!(ran.code, 0, "{ran}");
    assert!(ran.stderr.contains("vps.configure: /old has live\n"), "{ran}");
    assert!(ran.stderr.contains("Read-only file system"), "{ran}");
    assert!(ran.stdout.contains("The script has been successfully tried."), "{ran}");
    assert_eq!(state(&host), before);
    assert!(host.ok(["status", "web01"]).contains("stopped"));
    assert!(
        host.mounts().iter().all(|mount| !mount.to_string_lossy().contains("generations")),
        "{:?}",
        host.mounts()
    );
    assert_eq!(host.ok(["generation-list", "web01", "--all", "-H"]).lines().count(), 1);
    let log: Vec<Value> = host
        .ok(["log", "web01", "--last", "-j"])
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(
        (&log[0]["operation"], &log.last().unwrap()["result"]),
        (&"script-run".into(), &"done".into())
    );
    host.run(["reinstall-report", "web01"]).failed(21, &["no report"]);
    // Its time is not that of a reinstall.
    let plan: Value = serde_json::from_str(&host.ok(["reinstall", "web01", "--dry-run", "-j"])).unwrap();
    assert_eq!(plan["last_ms"], Value::Array(Vec::new()));
}

#[test]
fn root_one_that_runs_is_only_stopped_when_that_is_said_and_runs_again() {
    let Some(host) = with_container() else { return };
    host.script(CONFIGURE, "echo here\n");
    host.run(["script-run", "web01", "vps.configure"])
        .failed(32, &["it runs", "nothing was changed", "--stop"]);
    host.exec("web01", "echo still > /tmp/here");
    let ran = host.run(["script-run", "web01", "vps.configure", "--stop", "-j"]);
    assert_eq!(ran.code, 0, "{ran}");
    assert_eq!(serde_json::from_str::<Value>(&ran.stdout).unwrap()["result"], "tried");
    assert_eq!(host.exec("web01", "cat /root/marker; ls /old 2>/dev/null | wc -l"), "live\n0");
    assert_eq!(host.ok(["generation-list", "web01", "--all", "-H"]).lines().count(), 1);
    host.ok(["reinstall", "web01"]);
}

#[test]
fn root_a_script_that_fails_says_how_with_its_last_lines() {
    let Some(host) = with_container() else { return };
    host.script(
        "etc/vz/reinstall.d/10-a.sh",
        "#!/bin/sh\nfor n in $(seq 30); do echo line $n; done\nkill -9 $$\n",
    );
    host.script("etc/vz/reinstall.d/20-b.sh", "echo not me; exit 1\n");
    let failed = host.run(["script-run", "web01", "10-a.sh", "--stop"]);
    failed.failed(
        94,
        &["`10-a.sh` was killed by signal 9", "line 11\n", "line 30", "`web01` is as it was, and runs"],
    );
    assert!(!failed.stderr.contains("20-b.sh"), "{failed}");
    host.script(CONFIGURE, "sleep 600\n");
    host.run(["script-run", "web01", "vps.configure", "--stop", "--timeout", "1"])
        .failed(94, &["`vps.configure` did not end within 1 s", "`web01` is as it was, and runs"]);
    host.run(["script-run", "web01", "30-c.sh", "--stop"])
        .failed(21, &["30-c.sh", "10-a.sh, 20-b.sh", "nothing was changed"]);
    host.run(["script-run", "web01", "vps.reinstall", "--stop"])
        .failed(21, &["no `vps.reinstall`", "nothing was changed"]);
    host.run(["script-run", "web01", "vps.configure", "--stop", "--generation", "7"])
        .failed(21, &["no generation 7", "nothing was changed"]);
    assert_eq!(host.ok(["generation-list", "web01", "--all", "-H"]).lines().count(), 1);
    assert_eq!(host.exec("web01", "cat /root/marker"), "live");
}

#[test]
fn root_vps_reinstall_is_tried_up_to_a_root_that_lives() {
    let Some(host) = with_container() else { return };
    let copy = "#!/bin/sh\nwhile [ $# -gt 0 ]; do case $1 in --ve_private_tmp) tmp=$2;; --ve_private) private=$2;; esac; shift 2; done\n\
                echo \"there is $(cat $private/root/marker)\"\nmkdir -p $tmp; cp -a $OSTEMPLATE_ROOT/. $tmp/\n";
    host.script("etc/vz/conf/vps.reinstall", copy);
    let ran = host.run(["script-run", "web01", "vps.reinstall", "--stop"]);
    assert_eq!(ran.code, 0, "{ran}");
    assert!(ran.stderr.contains("vps.reinstall: there is live\n"), "{ran}");
    host.script("etc/vz/conf/vps.reinstall", &format!("{copy}rm $tmp/sbin/init\nprintf '#!/bin/sh\\nexit 1\\n' >$tmp/sbin/init\nchmod 755 $tmp/sbin/init\n"));
    host.run(["script-run", "web01", "vps.reinstall", "--stop"])
        .failed(94, &["does not come up", "`web01` is as it was, and runs"]);
    assert_eq!(host.exec("web01", "cat /root/marker"), "live");
    assert_eq!(host.ok(["generation-list", "web01", "--all", "-H"]).lines().count(), 1);
}

#[test]
fn root_an_older_root_can_be_the_old_one_and_stays_as_it_was() {
    let Some(host) = with_container() else { return };
    for name in ["second", "third"] {
        host.ok(["reinstall", "web01"]);
        host.exec("web01", &format!("echo {name} > /root/marker"));
    }
    host.script(CONFIGURE, "echo \"it was $(cat /old/root/marker)\"; ! touch /old/root/marker\n");
    for (number, name) in [("1", "live"), ("2", "second"), ("3", "third")] {
        let ran = host.run(["script-run", "web01", "vps.configure", "--stop", "--generation", number]);
        assert_eq!(ran.code, 0, "{ran}");
        assert!(ran.stderr.contains(&format!("vps.configure: it was {name}\n")), "{ran}");
        // What may be written is what might be written before.
        let line = "cat /root/marker /old/root/marker /old/old/root/marker; touch /old/root/marker && ! touch /old/old/root/marker 2>/dev/null";
        assert_eq!(host.exec("web01", line), "third\nsecond\nlive", "after {number}");
    }
    // One that nothing leads to any more.
    host.ok(["generation-switch", "web01", "1"]);
    let ran = host.run(["script-run", "web01", "vps.configure", "--stop", "--generation", "3"]);
    assert!(ran.code == 0 && ran.stderr.contains("it was third\n"), "{ran}");
    let mounted = host.mounts();
    assert!(
        !mounted.iter().any(|mount| mount.ends_with("generations/3") || mount.ends_with("generations/2")),
        "{mounted:?}"
    );
}

#[test]
fn root_a_kill_at_any_step_of_a_trial_leaves_the_container_as_it_was() {
    let Some(host) = with_container() else { return };
    host.script(CONFIGURE, "echo x > /left\n");
    for step in ["stage", "build", "stop", "carry", "probation", "configure"] {
        for place in ["before", "after"] {
            let mut command = host.prlctl();
            command.args(["script-run", "web01", "vps.configure", "--stop"]);
            let ran = testkit::Ran::of(
                command.env("REROOT_FAULT", format!("reinstall/{step}/{place}:kill")).output().unwrap(),
            );
            assert_ne!(ran.code, 0, "{step} {place}: {ran}");
            host.ok(["recover", "web01"]);
            let case = format!("{step} {place}");
            assert_eq!(
                host.exec("web01", "cat /root/marker; ls -d /left 2>/dev/null | wc -l"),
                "live\n0",
                "{case}"
            );
            assert_eq!(host.ok(["generation-list", "web01", "--all", "-H"]).lines().count(), 1, "{case}");
        }
    }
    for step in ["configure", "probation", "stop", "stage"] {
        let mut command = host.prlctl();
        command.args(["script-run", "web01", "vps.configure", "--stop"]);
        let ran = testkit::Ran::of(
            command.env("REROOT_FAULT", format!("reinstall/{step}/revert:kill")).output().unwrap(),
        );
        assert_ne!(ran.code, 0, "{step}: {ran}");
        host.ok(["recover", "web01"]);
        assert_eq!(host.exec("web01", "cat /root/marker"), "live", "{step} revert");
        assert_eq!(host.ok(["generation-list", "web01", "--all", "-H"]).lines().count(), 1, "{step} revert");
    }
}
