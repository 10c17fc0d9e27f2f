//! What is started when the host comes up, in which order, and how all of it is stopped.

use std::time::{Duration, Instant};

use testkit::{Ran, RealHost};

const PROGRAM: &str = env!("CARGO_BIN_EXE_prlctl");

/// When a container was started, by its own record.
fn started(host: &RealHost, name: &str) -> String {
    let id = host.area(name).file_name().expect("it has a name").to_string_lossy().into_owned();
    let state = std::fs::read_to_string(host.path(&format!("run/vz/{id}/state.json"))).expect("it runs");
    let state: serde_json::Value = serde_json::from_str(&state).expect("a document");
    state["started"].as_str().expect("a time").to_owned()
}

#[test]
fn root_boot_starts_what_is_to_run_in_its_order_and_one_that_cannot_keeps_none_down() {
    let Some(host) = RealHost::new(PROGRAM) else { return };
    host.write("etc/vz/vz.conf", "VE_PARALLEL=\"2\"\n", 0o644);
    for (name, settings) in [
        ("last", &["--onboot", "yes"][..]),
        ("second", &["--onboot", "yes", "--bootorder", "5"]),
        ("first", &["--onboot", "yes", "--bootorder", "10"]),
        ("also-first", &["--onboot", "yes", "--bootorder", "10"]),
        ("broken", &["--onboot", "yes", "--bootorder", "20"]),
        ("never", &["--bootorder", "30"]),
    ] {
        host.ok([&["create", name, "--ostemplate", "busybox"], settings].concat());
    }
    let conf = host.area("broken").join("ve.conf");
    let below =
        conf.strip_prefix(host.prefix()).expect("it is below").to_str().expect("it is text").to_owned();
    let text = std::fs::read_to_string(&conf).expect("it can be read") + "NUMPROC=\"none\"\n";
    host.write(&below, &text, 0o600);

    let ran = host.run(["recover", "--boot"]);
    assert_eq!(ran.code, 21, "{ran}");
    assert!(ran.stderr.contains("NUMPROC=none"), "{ran}");
    assert_eq!(
        host.ok(["list", "-H", "-o", "name"]).lines().map(str::trim).collect::<Vec<_>>(),
        ["also-first", "first", "last", "second"]
    );
    let at = |name: &str| started(&host, name);
    assert!(at("first") < at("second") && at("also-first") < at("second") && at("second") < at("last"));
    // Once more starts nothing twice, and tells the same.
    let ran = host.run(["recover", "--boot", "-j"]);
    assert_eq!(ran.code, 21, "{ran}");
    let told: serde_json::Value = serde_json::from_str(&ran.stdout).expect("a document");
    assert!(told["error"]["what"].as_str().is_some_and(|what| what.contains("broken")), "{told}");

    // One that hears nothing is killed when the time of all is over, and the others are not kept by it.
    deafen(&host, "second");
    let began = Instant::now();
    assert_eq!(host.ok(["stop", "--all", "--deadline", "2"]), "All CTs have been successfully stopped.\n");
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    assert_eq!(host.ok(["list", "-H"]), "");
    assert_eq!(host.ok(["stop", "--all"]), "All CTs have been successfully stopped.\n");
}

fn vzctl(host: &RealHost, words: &[&str]) -> Ran {
    Ran::of(host.vzctl().args(words).output().expect("run vzctl"))
}

/// Who has stopped paying, or is attacked: whoever disabled it has not to look after it again at the next boot.
#[test]
fn root_what_is_disabled_is_started_by_nobody_but_who_insists() {
    let Some(host) = RealHost::new(PROGRAM) else { return };
    host.write("etc/vz/vz.conf", "VE_PARALLEL=\"many\"\n", 0o644);
    let create = ["create", "web01", "--ostemplate", "busybox", "--onboot", "yes", "--disabled", "yes"];
    host.ok([&create[..], &["--ctid", "101"]].concat());
    host.ok(["create", "web02", "--ostemplate", "busybox", "--onboot", "yes", "--bootorder", "5"]);
    let refused = ["`DISABLED` is `yes` in its ve.conf", "`web01` --disabled no", "--force"];
    host.run(["start", "web01"]).failed(105, &[refused[0], "--disabled no", refused[2]]);
    vzctl(&host, &["start", "101"]).failed(105, &refused[..1]);
    let ran = host.run(["recover", "--boot"]);
    assert_eq!(ran.code, 0, "{ran}");
    assert!(ran.stderr.contains("`web01` is not started: DISABLED"), "{ran}");
    assert!(ran.stderr.contains("VE_PARALLEL of vz.conf: `many` is no number"), "{ran}");
    assert_eq!(host.ok(["list", "-H", "-o", "name"]).trim(), "web02");
    let listed =
        Ran::of(host.vzlist().args(["101", "-a", "-H", "-o", "disabled"]).output().expect("run vzlist"));
    assert_eq!(listed.stdout.trim(), "yes", "{listed}");

    // Who insists has it; it goes on, and is not restarted into what it may not be.
    host.ok(["start", "web01", "--force"]);
    host.run(["restart", "web01"]).failed(105, &["it runs, and goes on"]);
    assert!(host.ok(["status", "web01"]).contains("running"));
    host.ok(["stop", "web01", "--kill"]);
    assert_eq!(vzctl(&host, &["start", "101", "--force"]).code, 0);
    // A reinstall is no start of anybody's: what ran runs.
    host.ok(["reinstall", "web01"]);
    assert!(host.ok(["status", "web01"]).contains("running"));
    host.ok(["stop", "web01", "--kill"]);
    host.ok(["set", "web01", "--disabled", "no"]);
    host.ok(["start", "web01"]);

    // What was meant otherwise is said, by whoever reads it.
    let conf = host.area("web02").join("ve.conf");
    let below = conf.strip_prefix(host.prefix()).expect("it is below").to_str().expect("text").to_owned();
    let text = std::fs::read_to_string(&conf).expect("it can be read");
    let text = text.replace("ONBOOT=\"yes\"", "ONBOOT=\"later\"").replace("ORDER=\"5\"", "ORDER=\"x\"");
    host.write(&below, &text, 0o600);
    host.ok(["stop", "web02", "--kill"]);
    let ran = host.run(["recover", "--boot"]);
    for said in [
        "`web02`: ONBOOT: `later` is neither yes, no nor auto: it is not started",
        "BOOTORDER: `x` is no number",
    ] {
        assert!(ran.stderr.contains(said), "{ran}");
    }
    assert!(host.ok(["info", "web02"]).contains("ONBOOT: `later` is neither yes, no nor auto"));

    // All of them may have it in one file, and that one is told of as well.
    host.write("etc/vz/vz.conf", "ONBOOT=\"later\"\n", 0o644);
    let ran = host.run(["recover", "--boot"]);
    assert!(ran.code == 0 && ran.stderr.contains("`ONBOOT` in"), "{ran}");
    host.write("etc/vz/vz.conf", "ONBOOT=\"yes\"\nNAT=\"no\n", 0o644);
    host.run(["recover", "--boot"]).failed(85, &["vz.conf"]);
}

/// Those that run.
fn running(host: &RealHost) -> Vec<String> {
    let mut names: Vec<String> =
        host.ok(["list", "-H", "-o", "name"]).lines().map(|line| line.trim().to_owned()).collect();
    names.sort();
    names
}

/// What was stopped because somebody wanted that stays stopped, and what went with the host comes with it.
#[test]
fn root_what_is_to_be_as_it_was_is_started_if_it_ran_when_the_host_went_down() {
    let Some(host) = RealHost::new(PROGRAM) else { return };
    for name in ["ran", "stopped", "halted", "edited", "never"] {
        host.ok([
            "create",
            name,
            "--ostemplate",
            "busybox",
            "--onboot",
            if name == "edited" { "no" } else { "auto" },
        ]);
        if name != "never" {
            host.ok(["start", name]);
        }
    }
    let facts: serde_json::Value =
        serde_json::from_str(&host.ok(["list", "-i", "-j", "ran"])).expect("a document");
    assert_eq!(facts[0]["Autostart"], "auto");
    assert!(!host.ok(["info", "ran"]).contains("neither"));
    let is_noted = |name: &str| host.area(name).join("running").exists();
    assert!(is_noted("ran") && !is_noted("edited") && !is_noted("never"));
    host.ok(["stop", "stopped", "--kill"]);
    assert!(!is_noted("stopped"));
    host.run(["exec", "halted", "poweroff"]);
    host.wait_until("it has ended", || running(&host) == ["edited", "ran"] && !is_noted("halted"));
    // Edited while it runs, by hand and by us.
    let conf = host.area("edited").join("ve.conf");
    let below = conf.strip_prefix(host.prefix()).expect("it is below").to_str().expect("text").to_owned();
    let text = std::fs::read_to_string(&conf).expect("it can be read");
    host.write(&below, &text.replace("ONBOOT=\"no\"", "ONBOOT=\"auto\""), 0o600);
    host.ok(["set", "ran", "--onboot", "no"]);
    assert!(!is_noted("ran"));
    host.ok(["set", "ran", "--autostart", "auto"]);
    assert!(is_noted("ran"));

    // The host goes down, and comes up.
    host.ok(["stop", "--all"]);
    assert_eq!(running(&host), [""; 0]);
    host.ok(["recover", "--boot"]);
    assert_eq!(running(&host), ["edited", "ran"]);
    // A power cut: nobody has said anything to anybody.
    let init = |name: &str| {
        let told: serde_json::Value =
            serde_json::from_str(&host.ok(["list", "-i", "-j", name])).expect("a document");
        told[0]["Init"].as_i64().expect("a number") as i32
    };
    for name in ["edited", "ran"] {
        let pid = rustix::process::Pid::from_raw(init(name)).expect("a process");
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("kill it");
    }
    host.wait_until("they have ended", || running(&host).is_empty());
    host.ok(["recover", "--boot"]);
    assert_eq!(running(&host), ["edited", "ran"]);
    // What a reinstall or a restart stops on its way is not stopped for that.
    host.ok(["reinstall", "ran"]);
    host.ok(["restart", "edited"]);
    assert!(is_noted("ran") && is_noted("edited"));
    let ran = Ran::of(host.vzctl().args(["stop", "ran", "--fast"]).output().expect("run vzctl"));
    assert!(ran.code == 0 && !is_noted("ran"), "{ran}");
    host.ok(["stop", "--all"]);
    host.ok(["recover", "--boot"]);
    assert_eq!(running(&host), ["edited"]);
    for bad in ["", "AUTO", "auto;reboot", "-1", "yes no", "$(id)"] {
        host.run(["set".to_owned(), "edited".to_owned(), format!("--onboot={bad}")])
            .failed(21, &["wanted yes, no or auto", "nothing was changed"]);
    }
}

/// Restarts it with an init that ignores what is to end it.
fn deafen(host: &RealHost, name: &str) {
    let init = "rm /sbin/init; printf '#!/bin/sh\\ntrap \"\" TERM\\nwhile :; do sleep 1000; done\\n' >/sbin/init; chmod 755 /sbin/init";
    host.exec(name, init);
    host.ok(["restart", name, "--kill"]);
    host.wait_until("its init ignores the signal", || {
        host.exec(name, "grep SigIgn /proc/1/status").trim_end().chars().rev().nth(3) == Some('4')
    });
}

/// It is the time of all of them together, however few are stopped at once.
#[test]
fn root_a_deadline_is_that_of_all() {
    const DEADLINE: u64 = 5;
    let Some(host) = RealHost::new(PROGRAM) else { return };
    host.write("etc/vz/vz.conf", "VE_PARALLEL=\"1\"\n", 0o644);
    for name in ["one", "two", "three"] {
        host.ok(["create", name, "--ostemplate", "busybox"]);
        host.ok(["start", name]);
        deafen(&host, name);
    }
    let began = Instant::now();
    host.ok(["stop", "--all", "--deadline", &DEADLINE.to_string()]);
    let elapsed = began.elapsed();
    assert!(
        elapsed >= Duration::from_secs(DEADLINE - 1),
        "the first has its time, in whole seconds: {elapsed:?}"
    );
    assert!(elapsed < Duration::from_secs(2 * DEADLINE), "the others have what is left of it: {elapsed:?}");
}

/// Blocks for as long as nobody writes to the fifo, which nobody does, and says before that it has come so far.
fn waiting(host: &RealHost, action: &str) -> std::path::PathBuf {
    let (reached, fifo) = (host.path(&format!("reached-{action}")), host.path(&format!("fifo-{action}")));
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0)
        .expect("make a fifo");
    let text = format!("#!/bin/sh\n: >{}\nread -r word <{}\n", reached.display(), fifo.display());
    host.script(&format!("etc/vz/conf/vps.{action}"), &text);
    reached
}

/// None of them says when it ends, and each may take 120 s of its own.
#[test]
fn root_a_deadline_is_that_of_action_scripts_too() {
    const OVER: &str = "the deadline of the stop was over";
    let Some(host) = RealHost::new(PROGRAM) else { return };
    let reached = waiting(&host, "umount");
    host.script("etc/vz/conf/vps.postumount", "#!/bin/sh\n:\n");
    host.started("web01");
    // Killed, so that nothing of the time is its own.
    let ran = host.run(["stop", "--all", "--kill", "--deadline", "5"]);
    assert_eq!((ran.code, host.ok(["list", "-H"]).as_str()), (0, ""), "{ran}");
    assert!(reached.exists(), "{ran}");
    let killed = format!("web01: `vps.umount` had not ended when {OVER}, and was killed");
    assert!(ran.stderr.contains(&killed), "{ran}");
    assert!(ran.stderr.contains(&format!("web01: `vps.postumount` has not run: {OVER}")), "{ran}");
    let named = |name: &str| {
        let pid = std::process::Command::new("pgrep").args(["-f", name]).output().expect("run pgrep");
        String::from_utf8_lossy(&pid.stdout).into_owned()
    };
    assert_eq!(named(&host.path("fifo-umount").display().to_string()), "", "nobody waits any more");

    // One that is on its way to another life hears nobody before its script has ended.
    std::fs::remove_file(&reached).expect("forget it");
    host.ok(["start", "web01"]);
    host.run(["exec", "web01", "reboot"]);
    host.wait_until("it is between two lives", || reached.exists());
    let ran = host.run(["stop", "--all", "--deadline", "1"]);
    assert_eq!((ran.code, host.ok(["list", "-H"]).as_str()), (0, ""), "{ran}");
    assert!(ran.stderr.contains("web01: its monitor had not ended when the deadline"), "{ran}");

    // What runs inside counts as well, and of one container alone.
    host.script("etc/vz/conf/vps.stop", "#!/bin/sh\nmkfifo /run/fifo\nread -r word </run/fifo\n");
    host.ok(["start", "web01"]);
    // Nor is a configured time longer than can be said.
    host.write("etc/vz/vz.conf", "STOP_TIMEOUT=18446744073709551615\n", 0o644);
    let ran = host.run(["stop", "web01", "--deadline", "10"]);
    assert_eq!((ran.code, host.ok(["list", "-H"]).as_str()), (0, ""), "{ran}");
    assert!(ran.stderr.contains(&format!("`vps.stop` had not ended when {OVER}, and was killed")), "{ran}");
    assert!(ran.stderr.contains(&format!("`vps.umount` has not run: {OVER}")), "{ran}");
    for bad in ["", "-1", "soon", "1s", "86401", "18446744073709551616"] {
        for option in ["--deadline", "--timeout"] {
            let ran = host.run(["stop", "--all", &format!("{option}={bad}")]);
            assert!(ran.code == 21 && ran.stderr.contains(option), "{bad}: {ran}");
        }
    }
}

#[test]
fn root_one_that_is_to_be_suspended_is_stopped_and_that_is_said() {
    let Some(host) = RealHost::new(PROGRAM) else { return };
    host.started("web01");
    host.run(["set", "web01", "--autostop", "pause"]).failed(21, &["wanted stop"]);
    let ran = host.run(["set", "web01", "--autostop", "suspend"]);
    assert!(ran.code == 0 && ran.stderr.contains("is not done: it is stopped"), "{ran}");
    let ran = host.run(["stop", "--all"]);
    assert!(ran.code == 0 && ran.stderr.contains("`web01`: AUTOSTOP: `suspend` is not done"), "{ran}");
    assert_eq!(host.ok(["list", "-H"]), "");
    host.ok(["set", "web01", "--autostop", "stop"]);
    host.ok(["start", "web01"]);
    assert_eq!(host.run(["stop", "--all"]).stderr.matches("AUTOSTOP").count(), 0);
}

/// Has every container say at `action` that it begins and that it ends, as `begin ID` and `end ID`; before it ends it has given others the time to begin.
fn recording(host: &RealHost, action: &str) -> std::path::PathBuf {
    let record = host.path(&format!("record-{action}"));
    let file = record.display();
    // Whoever may begin beside it does so meanwhile, on however loaded a machine two of them: the first of all waits for the second.
    let text = format!(
        "#!/bin/sh\necho begin $VEID >>{file}\ni=0\nwhile [ $i -lt 10 ] || {{ [ $i -lt 600 ] && [ $(grep -c begin {file}) -lt 2 ]; }}; do sleep 0.1; i=$((i+1)); done\necho end $VEID >>{file}\n"
    );
    host.script(&format!("etc/vz/conf/vps.{action}"), &text);
    record
}

/// In the order in which they ended, and how many there were between begin and end at most.
fn recorded(record: &std::path::Path) -> (Vec<String>, usize) {
    let (mut ended, mut now, mut most) = (Vec::new(), 0_usize, 0);
    for line in std::fs::read_to_string(record).expect("some have run").lines() {
        match line.split_once(' ').expect("a word and an id") {
            ("begin", _) => now += 1,
            (_, id) => {
                now -= 1;
                ended.push(id.to_owned());
            }
        }
        most = most.max(now);
    }
    (ended, most)
}

/// By what their action scripts have written down, not by time.
#[test]
fn root_so_many_at_once_as_ve_parallel_says_up_in_their_order_and_down_in_reverse() {
    let Some(host) = RealHost::new(PROGRAM) else { return };
    host.write("etc/vz/vz.conf", "VE_PARALLEL=\"2\"\n", 0o644);
    let (up, down) = (recording(&host, "mount"), recording(&host, "umount"));
    for (name, number, order) in
        [("a", "101", "10"), ("b", "102", "10"), ("c", "103", "10"), ("d", "104", "5"), ("e", "105", "5")]
    {
        let create = ["create", name, "--ostemplate", "busybox", "--onboot", "yes"];
        host.ok([&create[..], &["--ctid", number, "--bootorder", order]].concat());
    }
    host.ok(["recover", "--boot"]);
    host.ok(["stop", "--all", "--kill"]);
    let groups = |ended: &[String], first: usize| {
        let mut ended = ended.to_vec();
        ended[..first].sort();
        ended[first..].sort();
        ended
    };
    let (ended, most) = recorded(&up);
    assert_eq!(
        (groups(&ended, 3), most),
        (["101", "102", "103", "104", "105"].map(str::to_owned).to_vec(), 2)
    );
    let (ended, most) = recorded(&down);
    assert_eq!(
        (groups(&ended, 2), most),
        (["104", "105", "101", "102", "103"].map(str::to_owned).to_vec(), 2)
    );
}
