//! What a container does by itself, or suffers: it reboots, powers off, dies while it starts, ignores its stop; its monitor is killed.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed, and says where")]

use rustix::process::{Pid, Signal, kill_process};
use testkit::RealHost;

fn new_host() -> Option<RealHost> {
    let host = RealHost::new(env!("CARGO_BIN_EXE_prlctl"))?;
    host.started("web01");
    Some(host)
}

fn uuid(host: &RealHost) -> String {
    host.area("web01").file_name().unwrap().to_string_lossy().into_owned()
}

fn is_state(host: &RealHost, state: &str) -> bool {
    host.ok(["status", "web01"]) == format!("CT web01 exist {state}\n")
}

fn console(host: &RealHost) -> String {
    let bytes =
        std::fs::read(host.path("var/log/vz").join(format!("{}.console", uuid(host)))).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What `list -i` tells, `Null` for what it does not.
fn told(host: &RealHost, key: &str) -> serde_json::Value {
    let json: serde_json::Value = serde_json::from_str(&host.ok(["list", "-i", "web01", "-j"])).unwrap();
    json[0][key].clone()
}

fn pid(of: &RealHost, who: &str) -> i32 {
    let text = std::fs::read_to_string(of.path("run/vz").join(uuid(of)).join("state.json")).unwrap();
    let state: serde_json::Value = serde_json::from_str(&text).unwrap();
    state[who]["pid"].as_i64().unwrap() as i32
}

/// Between two lives it has none.
fn has_another_init(host: &RealHost, init: &serde_json::Value) -> bool {
    let now = told(host, "Init");
    now.is_number() && now != *init
}

fn kill_monitor(host: &RealHost) {
    let monitor = pid(host, "monitor");
    kill_process(Pid::from_raw(monitor).unwrap(), Signal::KILL).unwrap();
    host.wait_until("the monitor is dead", || {
        let stat = std::fs::read_to_string(format!("/proc/{monitor}/stat")).unwrap_or_default();
        stat.is_empty() || stat.contains(") Z ")
    });
}

/// Puts another init in place of that of the template; the one that runs goes on.
fn change_init(host: &RealHost, text: &str) {
    let line = format!(
        "cat > /sbin/init.new <<'END'\n{text}\nEND\nchmod 755 /sbin/init.new; mv /sbin/init.new /sbin/init"
    );
    host.exec("web01", &line);
}

#[test]
fn root_reboot_inside_starts_it_again() {
    let Some(host) = new_host() else { return };
    host.exec("web01", "echo kept > /root/file");
    let (init, monitor) = (told(&host, "Init"), pid(&host, "monitor"));
    host.run(["exec", "web01", "reboot"]);
    host.wait_until("another init runs", || has_another_init(&host, &init));
    assert_eq!(pid(&host, "monitor"), monitor, "its monitor starts it");
    assert_eq!(host.exec("web01", "cat /root/file"), "kept");
    // And it is a whole container: it stops and starts as before.
    host.ok(["restart", "web01"]);
    assert_eq!(host.exec("web01", "hostname"), "web01");
}

#[test]
fn root_poweroff_inside_stops_it() {
    let Some(host) = new_host() else { return };
    for command in ["poweroff", "halt"] {
        host.exec("web01", "echo kept > /root/file");
        host.run(["exec", "web01", command]);
        host.wait_until("it is stopped", || is_state(&host, "stopped"));
        host.run(["exec", "web01", "true"]).failed(31, &[]);
        host.ok(["start", "web01"]);
        assert_eq!(host.exec("web01", "cat /root/file"), "kept", "{command}");
    }
}

#[test]
fn root_a_reboot_that_is_not_allowed_is_a_stop() {
    let Some(host) = new_host() else { return };
    // A reboot runs these scripts, too, and then `mount` again.
    let record = host.path("record");
    for action in ["mount", "umount", "postumount"] {
        let text = format!("#!/bin/sh\necho {action} >>{}\n", record.display());
        host.script(&format!("etc/vz/conf/vps.{action}"), &text);
    }
    host.ok(["restart", "web01"]);
    host.reboots("web01");
    let run = || std::fs::read_to_string(&record).unwrap_or_default();
    let reboot = "mount\numount\npostumount\nmount\n";
    assert!(run().ends_with(reboot), "it may, where nobody says anything: {}", run());
    for bad in ["", "maybe", "-1", "$(reboot)"] {
        host.run(["set".to_owned(), "web01".to_owned(), format!("--allowreboot={bad}")])
            .failed(21, &["wanted yes or no", "nothing was changed"]);
    }
    // Said while it runs, it holds at once.
    host.ok(["set", "web01", "--allowreboot", "no"]);
    std::fs::remove_file(&record).unwrap();
    host.run(["exec", "web01", "reboot"]);
    host.wait_until("it is stopped", || is_state(&host, "stopped"));
    host.wait_until("its scripts have run", || run() == "umount\npostumount\n");
    assert!(console(&host).contains("it has rebooted, which ALLOWREBOOT forbids: it is left stopped"));
    let listed = host.ok(["list", "-a", "-H", "-o", "status,name"]);
    assert_eq!(listed.split_whitespace().collect::<Vec<_>>(), ["stopped", "web01"]);
    host.run(["exec", "web01", "true"]).failed(31, &[]);
    assert!(host.mounts().iter().all(|point| !point.starts_with(host.path("run/vz").join(uuid(&host)))));
    // It is known at the next start, and what a command starts again is no reboot of its own.
    host.ok(["start", "web01"]);
    host.ok(["restart", "web01"]);
    host.ok(["reinstall", "web01"]);
    assert!(is_state(&host, "running"));
    host.run(["exec", "web01", "reboot"]);
    host.wait_until("it is stopped", || is_state(&host, "stopped"));
    host.ok(["start", "web01"]);
    host.ok(["set", "web01", "--allowreboot", "yes"]);
    host.reboots("web01");
}

#[test]
fn root_a_container_that_reboots_for_ever_is_left_stopped() {
    let Some(host) = new_host() else { return };
    host.exec("web01", "printf '#!/bin/sh\\nreboot -n -f\\n' > /etc/init.d/rcS; chmod 755 /etc/init.d/rcS");
    host.run(["exec", "web01", "reboot"]);
    host.wait_until("it is left stopped", || console(&host).contains("it is left stopped"));
    host.wait_until("it is stopped", || is_state(&host, "stopped"));
    let said = console(&host);
    assert!(said.contains("it has rebooted 5 times within 60 s"), "{said}");
    assert_eq!(said.matches("starting it again").count(), 5, "{said}");
}

#[test]
fn root_a_container_outlives_its_monitor() {
    let Some(host) = new_host() else { return };
    let init = told(&host, "Init");
    assert_eq!(told(&host, "Monitor"), serde_json::Value::Null);
    kill_monitor(&host);
    assert!(is_state(&host, "running"));
    assert_eq!(told(&host, "Init"), init);
    assert!(told(&host, "Monitor").as_str().unwrap().contains("its end will mean stopped"));
    assert_eq!(host.exec("web01", "echo alive"), "alive");
    // It is still asked politely to stop.
    host.exec("web01", "sh -c 'trap \"echo asked > /root/asked; exit\" TERM; touch /tmp/ready; sleep 1000 & wait' >/dev/null 2>&1 </dev/null &");
    host.wait_until("it listens", || host.run(["exec", "web01", "test -e /tmp/ready"]).code == 0);
    host.ok(["stop", "web01"]);
    assert!(is_state(&host, "stopped"));
    host.ok(["start", "web01"]);
    assert_eq!(host.exec("web01", "cat /root/asked"), "asked");
    assert_eq!(told(&host, "Monitor"), serde_json::Value::Null, "it has one again");
}

#[test]
fn root_a_container_without_monitor_can_be_reinstalled() {
    let Some(host) = new_host() else { return };
    host.exec("web01", "echo precious > /root/file");
    kill_monitor(&host);
    host.ok(["reinstall", "web01"]);
    assert_eq!(host.exec("web01", "cat /old/root/file"), "precious");
    assert_eq!(told(&host, "Monitor"), serde_json::Value::Null);
    kill_monitor(&host);
    host.ok(["reinstall", "web01", "--undo"]);
    assert_eq!(host.exec("web01", "cat /root/file"), "precious");
}

#[test]
fn root_the_end_of_a_container_without_monitor_means_stopped() {
    let Some(host) = new_host() else { return };
    host.exec("web01", "echo kept > /root/file");
    kill_monitor(&host);
    host.run(["exec", "web01", "reboot"]);
    host.wait_until("it is stopped", || is_state(&host, "stopped"));
    host.ok(["start", "web01"]);
    assert_eq!(host.exec("web01", "cat /root/file"), "kept");
    kill_monitor(&host);
    host.ok(["restart", "web01"]);
    assert_eq!(host.exec("web01", "cat /root/file"), "kept");
    kill_monitor(&host);
    host.ok(["delete", "web01", "--force"]);
    host.run(["status", "web01"]).failed(14, &[]);
}

#[test]
fn root_a_killed_container_is_stopped_and_starts_again() {
    let Some(host) = new_host() else { return };
    kill_process(Pid::from_raw(pid(&host, "init")).unwrap(), Signal::KILL).unwrap();
    host.wait_until("it is stopped", || is_state(&host, "stopped"));
    assert!(console(&host).contains("its init was killed by signal 9"), "{}", console(&host));
    host.ok(["start", "web01"]);
    // Both at once: nobody is left to clean up but the next command.
    let init = pid(&host, "init");
    kill_monitor(&host);
    kill_process(Pid::from_raw(init).unwrap(), Signal::KILL).unwrap();
    host.wait_until("it is stopped", || is_state(&host, "stopped"));
    host.ok(["start", "web01"]);
    assert_eq!(host.exec("web01", "echo alive"), "alive");
}

#[test]
fn root_the_console_is_in_a_log_of_bounded_size() {
    let Some(host) = new_host() else { return };
    host.exec("web01", "echo first words > /dev/console");
    host.wait_until("it is logged", || console(&host).contains("first words"));
    host.exec(
        "web01",
        "yes 0123456789abcdef | head -c 5000000 > /dev/console; echo last words > /dev/console",
    );
    host.wait_until("all is logged", || console(&host).contains("last words"));
    let log = host.path("var/log/vz").join(format!("{}.console", uuid(&host)));
    let size = |path: &std::path::Path| std::fs::metadata(path).unwrap().len();
    let sizes = (size(&log), size(&log.with_extension("console.1")));
    assert!(sizes.0 + sizes.1 < 3 << 20, "{sizes:?}");
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(std::fs::metadata(&log).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn root_an_init_that_exits_at_once_is_told_with_its_last_words() {
    let Some(host) = new_host() else { return };
    change_init(&host, "#!/bin/sh\necho the disk of the moon is missing\nprintf 'red \\033[31m\\n'\nexit 3");
    host.ok(["stop", "web01"]);
    let ran = host.run(["start", "web01"]);
    ran.failed(
        3,
        &[
            "error: cannot start `web01`",
            "its init exited with 3",
            "the disk of the moon is missing",
            "state: `web01` is stopped",
            "hint:",
        ],
    );
    assert!(!ran.stderr.contains('\u{1b}'), "the console reaches a terminal raw: {ran}");
    assert!(is_state(&host, "stopped"));
    host.run(["restart", "web01"]).failed(3, &["the disk of the moon"]);
    // As JSON it is one document.
    let ran = host.run(["start", "web01", "-j"]);
    let json: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(json["error"]["exit"], 3);
    assert!(json["error"]["because"].to_string().contains("the disk of the moon"), "{ran}");
}

#[test]
fn root_an_init_that_cannot_be_executed_is_told() {
    let Some(host) = new_host() else { return };
    for (text, mode, words) in [
        ("#!/nowhere/interpreter", 755, "it, or its interpreter, is not there"),
        ("#!/bin/sh", 644, "it is not executable"),
    ] {
        change_init(&host, text);
        host.exec("web01", &format!("chmod {mode} /sbin/init"));
        host.ok(["stop", "web01"]);
        let ran = host.run(["start", "web01"]);
        ran.failed(3, &["error: cannot start `web01`", "state: `web01` is stopped"]);
        assert!(
            ran.stderr.contains("`/sbin/init` in the container cannot be executed")
                && ran.stderr.contains(words),
            "{text}: {ran}"
        );
        assert!(is_state(&host, "stopped"));
        repair(&host, |init| rustix::fs::unlink(init).unwrap());
        // No init at all.
        host.run(["start", "web01"]).failed(
            3,
            &[
                "error: cannot start `web01`",
                "`/sbin/init` in the container cannot be executed: it is not there",
            ],
        );
        repair(&host, |init| {
            let script = "#!/bin/sh\ntrap 'exit 0' TERM\nsleep 100000 &\nwait\n";
            let mut file = std::fs::File::create(init).unwrap();
            std::io::Write::write_all(&mut file, script.as_bytes()).unwrap();
            file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        });
        host.ok(["start", "web01"]);
        assert_eq!(host.exec("web01", "echo alive"), "alive");
    }
}

/// Does something to the init of a stopped container, from the host.
fn repair(host: &RealHost, work: impl FnOnce(&std::path::Path)) {
    host.ok(["mount", "web01"]);
    work(&host.path("vz/root").join(uuid(host)).join("sbin/init"));
    host.ok(["umount", "web01"]);
}

#[test]
fn root_an_init_that_ignores_its_stop_is_killed_after_the_time_out() {
    let Some(host) = new_host() else { return };
    change_init(&host, "#!/bin/sh\ntrap '' TERM\nwhile :; do sleep 1000; done");
    host.ok(["restart", "web01"]);
    host.wait_until("init ignores the signal", || {
        host.exec("web01", "grep SigIgn /proc/1/status")
            .trim_end()
            .chars()
            .rev()
            .nth(3)
            .is_some_and(|digit| digit == '4')
    });
    assert_eq!(host.ok(["stop", "web01", "--timeout", "1"]), "The CT has been successfully stopped.\n");
    assert!(console(&host).contains("it did not stop in time: killing it"), "{}", console(&host));
    assert!(is_state(&host, "stopped"));
    host.ok(["start", "web01"]);
    // The default of the host.
    host.write("etc/vz/vz.conf", "STOP_TIMEOUT=\"1\"\n", 0o644);
    host.ok(["stop", "web01"]);
}

#[test]
fn root_a_start_that_cannot_be_recorded_has_failed() {
    let Some(host) = RealHost::new(env!("CARGO_BIN_EXE_prlctl")) else { return };
    host.started("web01");
    host.ok(["stop", "web01"]);
    // Where the record is written before it gets its name.
    let in_the_way = host.path(&format!("run/vz/{}/state.json.new", uuid(&host)));
    std::fs::create_dir_all(&in_the_way).unwrap();
    host.run(["start", "web01"]).failed(3, &["cannot start `web01`", "cannot record the start"]);
    assert_eq!(host.ok(["status", "web01"]), "CT web01 exist stopped\n");
    std::fs::remove_dir(&in_the_way).unwrap();
    host.ok(["start", "web01"]);
    assert_eq!(host.exec("web01", "echo yes"), "yes");
}

#[test]
fn root_a_container_of_which_nobody_can_tell_whether_it_runs_is_left_alone() {
    let Some(host) = new_host() else { return };
    let init = Pid::from_raw(pid(&host, "init")).unwrap();
    let record = host.path("run/vz").join(uuid(&host)).join("state.json");
    let text = std::fs::read(&record).unwrap();
    host.write(&format!("run/vz/{}/state.json", uuid(&host)), "{", 0o600);
    for words in [
        &["reinstall", "web01", "--dry-run"][..],
        &["reinstall", "web01"],
        &["delete", "web01"],
        &["delete", "web01", "--force"],
        &["start", "web01"],
        &["restart", "web01"],
        &["recover", "web01"],
        &["mount", "web01"],
    ] {
        let ran = host.run(words);
        ran.failed(85, &["nobody can tell whether `web01` runs", "`prlctl stop web01 --kill` ends"]);
        assert!(rustix::process::test_kill_process(init).is_ok(), "{ran}");
    }
    host.write(&format!("run/vz/{}/state.json", uuid(&host)), &String::from_utf8(text).unwrap(), 0o600);
    assert_eq!(host.exec("web01", "echo yes"), "yes");
    host.write(&format!("run/vz/{}/state.json", uuid(&host)), "{", 0o600);
    host.ok(["stop", "web01", "--kill"]);
    host.wait_until("its init is dead", || {
        let stat =
            std::fs::read_to_string(format!("/proc/{}/stat", init.as_raw_nonzero())).unwrap_or_default();
        stat.is_empty() || stat.contains(") Z ")
    });
    host.ok(["start", "web01"]);
    assert_eq!(host.exec("web01", "echo yes"), "yes");
}

#[test]
fn root_a_container_whose_monitor_hangs_is_ended_all_the_same() {
    let Some(host) = new_host() else { return };
    let hang = || kill_process(Pid::from_raw(pid(&host, "monitor")).unwrap(), Signal::STOP).unwrap();
    hang();
    host.ok(["stop", "web01", "--kill"]);
    assert!(is_state(&host, "stopped"));
    let id = uuid(&host);
    let of_container = host.mounts().into_iter().filter(|at| at.to_string_lossy().contains(&id));
    assert_eq!(of_container.collect::<Vec<_>>(), Vec::<std::path::PathBuf>::new());
    host.ok(["start", "web01"]);
    hang();
    host.ok(["delete", "web01", "--force"]);
}

/// It is the host's processor and disk that take in what a container prints: as much as somebody has to say, and not as much as somebody can.
#[test]
fn root_a_container_that_shouts_is_listened_to_at_leisure() {
    let Some(host) = new_host() else { return };
    let id = uuid(&host);
    let state = std::fs::read_to_string(host.path(&format!("run/vz/{id}/state.json"))).expect("it runs");
    let state: serde_json::Value = serde_json::from_str(&state).expect("a document");
    let written = || -> u64 {
        let text =
            std::fs::read_to_string(format!("/proc/{}/io", state["monitor"]["pid"])).expect("it lives");
        let line = text.lines().find_map(|line| line.strip_prefix("wchar: ")).expect("it is told");
        line.parse().expect("a number")
    };
    let before = written();
    let began = std::time::Instant::now();
    host.run(["exec", "web01", "timeout -s KILL 3 sh -c 'while :; do cat /bin/busybox; done' >/dev/console"]);
    // A buffer on the way, and the burst.
    let most = 256 * 1024 * (began.elapsed().as_secs() + 2) + (1 << 20);
    let taken = written() - before;
    assert!((1 << 20..=most).contains(&taken), "{taken} bytes in {:?}, at most {most}", began.elapsed());
    // It is heard again, and nothing else waits for it.
    host.exec("web01", "echo at last >/dev/console");
    host.wait_until("it is logged", || {
        std::fs::read(host.path(&format!("var/log/vz/{id}.console")))
            .is_ok_and(|log| log.ends_with(b"at last\r\n"))
    });
    host.ok(["stop", "web01"]);
}

fn kill_init(host: &RealHost) {
    kill_process(Pid::from_raw(pid(host, "init")).unwrap(), Signal::KILL).unwrap();
}

#[test]
fn root_a_container_whose_init_crashes_is_started_again_where_that_is_wanted_and_not_for_ever() {
    let Some(host) = new_host() else { return };
    kill_init(&host);
    host.wait_until("it is stopped", || is_state(&host, "stopped"));
    host.run(["set", "web01", "--restart", "always"]).failed(21, &["wanted no or on-crash"]);

    // Said while it runs, it holds at once.
    host.ok(["start", "web01"]);
    host.ok(["set", "web01", "--restart", "on-crash"]);
    let init = told(&host, "Init");
    host.run(["exec", "web01", "reboot"]);
    host.wait_until("it has rebooted", || has_another_init(&host, &init));
    for _ in 0..4 {
        let init = told(&host, "Init");
        kill_init(&host);
        host.wait_until("another init runs", || has_another_init(&host, &init));
    }
    assert_eq!(console(&host).matches("its init was killed by signal 9: starting it again").count(), 4);
    kill_init(&host);
    host.wait_until("it is stopped", || is_state(&host, "stopped"));
    let said = console(&host);
    assert!(said.contains("it has crashed 5 times within 60 s: it is left stopped"), "{said}");

    // What is asked for is no crash, however it is done; and it is known at the next start.
    host.ok(["start", "web01"]);
    host.ok(["stop", "web01", "--kill"]);
    assert!(is_state(&host, "stopped"));
    host.ok(["start", "web01"]);
    host.run(["exec", "web01", "poweroff"]);
    host.wait_until("it is stopped", || is_state(&host, "stopped"));
    // An init that ends at once has never run: whoever starts it is told.
    host.ok(["start", "web01"]);
    change_init(&host, "#!/bin/sh\nexit 7");
    host.ok(["stop", "web01"]);
    host.run(["start", "web01"]).failed(3, &["its init exited with 7"]);
    assert!(is_state(&host, "stopped"));
    let conf = host.area("web01").join("ve.conf");
    assert!(std::fs::read_to_string(conf).unwrap().contains("RESTART=\"on-crash\""));
}

#[test]
fn root_a_record_of_a_later_version_leaves_the_container_as_it_is() {
    let Some(host) = new_host() else { return };
    let path = host.path("run/vz").join(uuid(&host)).join("state.json");
    let init = pid(&host, "init");
    let was = std::fs::read_to_string(&path).unwrap();
    let below = path.strip_prefix(host.prefix()).unwrap().to_str().unwrap().to_owned();
    host.write(&below, &was.replace("\"format\": 1", "\"format\": 2"), 0o600);
    for words in [&["start", "web01"][..], &["reinstall", "web01"], &["delete", "web01"]] {
        host.run(words).failed(
            5,
            &["a later version of Reroot has written it", "nothing was changed", "hint: use the version"],
        );
    }
    // It runs, says the kernel, and is told so, not left out.
    let ran = host.run(["list"]);
    assert!(ran.stdout.contains(" running ") && ran.stderr.contains("a later version of Reroot"), "{ran}");
    assert!(is_state(&host, "running"));
    let ran = host.run(["stop", "--all"]);
    assert!(ran.code == 33 && ran.stderr.contains("1 could not: web01"), "{ran}");
    assert!(ran.stderr.contains("a later version of Reroot"), "{ran}");
    assert!(std::path::Path::new(&format!("/proc/{init}")).exists());
    host.write(&below, &was, 0o600);
    assert_eq!(host.exec("web01", "echo still"), "still");
}
