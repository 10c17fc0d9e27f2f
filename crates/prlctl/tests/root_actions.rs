//! Action scripts: what the host has done with a container at each turn of its life.

#![expect(clippy::disallowed_methods, reason = "the trees of these tests are their own")]
#![expect(clippy::unwrap_used, reason = "a test that panics has failed, and says where")]

use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal, kill_process};
use testkit::RealHost;

/// A host with a stopped container `web01` and a directory `data` of the host's, which is everybody's.
fn new() -> Option<RealHost> {
    let host = RealHost::new(env!("CARGO_BIN_EXE_prlctl"))?;
    host.ok(["create", "web01", "--ostemplate", "busybox"]);
    std::fs::create_dir(host.path("data")).unwrap();
    std::fs::set_permissions(host.path("data"), std::fs::Permissions::from_mode(0o777)).unwrap();
    host.write("data/log", "", 0o666);
    std::fs::set_permissions(host.path("data/log"), std::fs::Permissions::from_mode(0o666)).unwrap();
    Some(host)
}

fn uuid(host: &RealHost) -> String {
    host.area("web01").file_name().unwrap().to_string_lossy().into_owned()
}

fn of_all(action: &str) -> String {
    format!("etc/vz/conf/vps.{action}")
}

fn of_one(host: &RealHost, action: &str) -> String {
    format!("vz/private/{}/scripts/{action}", uuid(host))
}

fn log(host: &RealHost) -> PathBuf {
    host.path("data/log")
}

fn logged(host: &RealHost) -> Vec<String> {
    std::fs::read_to_string(log(host)).unwrap().lines().map(str::to_owned).collect()
}

fn forget(host: &RealHost) {
    std::fs::OpenOptions::new().write(true).truncate(true).open(log(host)).unwrap();
}

fn console(host: &RealHost) -> String {
    let bytes =
        std::fs::read(host.path("var/log/vz").join(format!("{}.console", uuid(host)))).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn is_state(host: &RealHost, state: &str) -> bool {
    host.ok(["status", "web01"]) == format!("CT web01 exist {state}\n")
}

/// A script of the host that logs its name.
fn logs(host: &RealHost, path: &str, name: &str, then: &str) {
    host.script(path, &format!("#!/bin/sh\necho {name} >>{}\n{then}\n", log(host).display()));
}

/// `data` is at `/srv` in the container.
fn binds(host: &RealHost) {
    let line = format!("mount --bind {} \"$VE_ROOT/srv\"", host.path("data").display());
    logs(host, &of_one(host, "mount"), "mount", &line);
}

/// Nothing of the container is left: no process, no mount, no group.
fn nothing_is_left(host: &RealHost) {
    assert!(is_state(host, "stopped"));
    let below = host.path("run/vz").join(uuid(host));
    host.wait_until("its mounts are gone", || !host.mounts().iter().any(|mount| mount.starts_with(&below)));
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let data = host.path("data");
    assert!(!table.lines().any(|line| line.contains(data.to_str().unwrap())), "{table}");
}

fn is_alive(pid: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).is_ok_and(|stat| !stat.contains(") Z "))
}

#[test]
fn root_all_action_scripts_run_in_their_order_at_every_turn_of_a_life() {
    let Some(host) = new() else { return };
    for action in ["premount", "mount", "umount", "postumount"] {
        logs(&host, &of_all(action), &format!("vps.{action}"), "");
        logs(&host, &of_one(&host, action), action, "");
    }
    binds(&host);
    // In the container they see the log where `mount` has put it.
    for action in ["start", "stop"] {
        let line = |name: &str| format!("echo {name} $(hostname) >>/srv/log\n");
        host.script(&of_all(action), &line(&format!("vps.{action}")));
        host.script(&of_one(&host, action), &line(action));
    }
    let up = ["vps.premount", "premount", "vps.mount", "mount", "vps.start web01", "start web01"];
    let down = ["umount", "vps.umount", "postumount", "vps.postumount"];
    let stop = ["stop web01", "vps.stop web01"];

    host.ok(["start", "web01"]);
    assert_eq!(logged(&host), up);
    forget(&host);
    host.ok(["stop", "web01"]);
    assert_eq!(logged(&host), [&stop[..], &down[..]].concat());
    nothing_is_left(&host);

    forget(&host);
    host.ok(["start", "web01"]);
    host.ok(["restart", "web01"]);
    assert_eq!(logged(&host), [&up[..], &stop[..], &down[..], &up[..]].concat());

    // By itself: it does not ask for `stop`.
    forget(&host);
    host.run(["exec", "web01", "reboot"]);
    let whole = [&down[..], &up[..]].concat();
    host.wait_until("it has rebooted", || logged(&host).len() >= whole.len() && is_state(&host, "running"));
    assert_eq!(logged(&host), whole);
    forget(&host);
    host.run(["exec", "web01", "poweroff"]);
    host.wait_until("it is down", || logged(&host).len() >= down.len());
    assert_eq!(logged(&host), down);
    host.wait_until("it is stopped", || is_state(&host, "stopped"));

    // Killed: nothing of it is asked, and what was mounted is taken away all the same.
    host.ok(["start", "web01"]);
    forget(&host);
    host.ok(["stop", "web01", "--kill"]);
    assert_eq!(logged(&host), down);
    nothing_is_left(&host);
    // A look is no start.
    forget(&host);
    host.ok(["mount", "web01"]);
    host.ok(["umount", "web01"]);
    assert_eq!(logged(&host), Vec::<String>::new());
}

#[test]
fn root_an_action_script_gets_its_environment_and_nothing_else() {
    let Some(host) = new() else { return };
    let record = host.path("record");
    let text = format!(
        "#!/bin/sh\n{{ tr '\\0' '\\n' </proc/$$/environ | sort; echo \"arguments: $*\"; pwd; readlink /proc/$$/fd/0; \
         echo open:; for one in /proc/$$/fd/*; do readlink $one || :; done; }} >{}\n",
        record.display()
    );
    host.script(&of_all("mount"), &text);
    host.prlctl().args(["start", "web01"]).env("CALLERS", "own").status().unwrap();
    let (area, uuid) = (host.area("web01"), uuid(&host));
    let record: serde_json::Value =
        serde_json::from_slice(&std::fs::read(area.join("area.json")).unwrap()).unwrap();
    let first = record["id_range"]["first"].as_u64().unwrap();
    let text = std::fs::read_to_string(host.path("record")).unwrap();
    let (said, open) = text.split_once("open:\n").unwrap();
    let expected = format!(
        "HOME=/\nPATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nSHELL=/bin/bash\nVEID={uuid}\n\
         VE_CONFFILE={}\nVE_PRIVATE={}\nVE_ROOT={}\nVE_UID={first}\narguments: \n/\n/dev/null\n",
        host.path(&format!("etc/vz/conf/{uuid}.conf")).display(),
        area.display(),
        host.path(&format!("vz/root/{uuid}")).display(),
    );
    assert_eq!(said, expected);
    // Its own streams, and itself: no lock, no socket, no root.
    for one in open.lines() {
        let is_own = one == "/dev/null" || one.starts_with("pipe:") || one.ends_with("/vps.mount");
        assert!(is_own || one.ends_with("/record"), "{one} is open\n{open}");
    }
}

#[test]
fn root_what_mount_mounts_is_in_the_container_and_survives_reboot_and_reinstall() {
    let Some(host) = new() else { return };
    binds(&host);
    host.write("data/file", "of the host\n", 0o644);
    host.ok(["start", "web01"]);
    assert_eq!(host.exec("web01", "cat /srv/file"), "of the host");
    host.exec("web01", "echo of the container > /srv/answer");
    assert_eq!(std::fs::read_to_string(host.path("data/answer")).unwrap(), "of the container\n");
    // Nobody outside sees it mounted.
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!table.contains(&format!("{}/srv", uuid(&host))), "{table}");

    host.exec("web01", "echo before > /run/before");
    host.run(["exec", "web01", "reboot"]);
    host.wait_until("it has rebooted", || {
        is_state(&host, "running") && host.run(["exec", "web01", "test ! -e /run/before"]).code == 0
    });
    assert_eq!(host.exec("web01", "cat /srv/file"), "of the host");
    host.exec("web01", "echo old > /root/marker");
    host.ok(["reinstall", "web01"]);
    assert_eq!(
        host.exec("web01", "cat /srv/file /old/root/marker; test -e /root/marker || echo new"),
        "of the host\nold\nnew"
    );
    host.ok(["stop", "web01"]);
    nothing_is_left(&host);
    assert_eq!(std::fs::read_to_string(host.path("data/file")).unwrap(), "of the host\n");
}

#[test]
fn root_a_read_only_bind_of_mount_is_read_only_in_the_container() {
    let Some(host) = new() else { return };
    let line = format!("mount -o bind,ro {} \"$VE_ROOT/srv\"", host.path("data").display());
    logs(&host, &of_one(&host, "mount"), "mount", &line);
    host.ok(["start", "web01"]);
    assert_eq!(
        host.exec("web01", "echo x > /srv/new || mount -o remount,rw,bind /srv || umount /srv || echo stays"),
        "stays"
    );
    assert!(!host.path("data/new").exists());
}

#[test]
fn root_39_skips_the_rest_of_an_action_and_is_no_error() {
    let Some(host) = new() else { return };
    logs(&host, &of_all("mount"), "vps.mount", "exit 39");
    logs(&host, &of_one(&host, "mount"), "mount", "");
    logs(&host, &of_one(&host, "umount"), "umount", "exit 39");
    logs(&host, &of_all("umount"), "vps.umount", "");
    logs(&host, &of_all("postumount"), "vps.postumount", "");
    host.ok(["start", "web01"]);
    host.ok(["stop", "web01"]);
    assert_eq!(logged(&host), ["vps.mount", "umount", "vps.postumount"]);
}

#[test]
fn root_an_action_script_that_fails_on_the_way_up_is_79_and_all_is_taken_back() {
    let Some(host) = new() else { return };
    logs(&host, &of_all("postumount"), "vps.postumount", "");
    logs(&host, &of_one(&host, "umount"), "umount", "");
    for (action, runs) in
        [("premount", &["premount", "vps.postumount"][..]), ("mount", &["mount", "umount", "vps.postumount"])]
    {
        forget(&host);
        logs(&host, &of_one(&host, action), action, "echo 'no disk\x1b[2J' >&2; exit 3");
        let ran = host.run(["start", "web01"]);
        ran.failed(
            79,
            &[
                &format!("`{action}` exited with 3: no disk\\x1b[2J"),
                "state: `web01` is stopped",
                "hint: correct it",
            ],
        );
        assert!(!ran.stderr.contains('\x1b'), "{ran}");
        assert_eq!(logged(&host), runs);
        assert!(console(&host).contains(&format!("{action}: no disk\\x1b[2J")), "{}", console(&host));
        nothing_is_left(&host);
        std::fs::remove_file(host.path(&of_one(&host, action))).unwrap();
    }
    forget(&host);
    host.script(&of_one(&host, "start"), "echo not today; exit 4\n");
    host.run(["start", "web01"]).failed(79, &["`start` exited with 4: not today"]);
    assert_eq!(logged(&host), ["umount", "vps.postumount"]);
    nothing_is_left(&host);
    std::fs::remove_file(host.path(&of_one(&host, "start"))).unwrap();
    host.ok(["start", "web01"]);
}

#[test]
fn root_a_reinstall_whose_mount_script_fails_goes_back_to_the_old_root() {
    let Some(host) = new() else { return };
    let once = host.path("once");
    // It fails for the new root alone.
    let line = format!("test -e \"$VE_ROOT/root/marker\" || {{ touch {}; exit 5; }}", once.display());
    host.ok(["start", "web01"]);
    host.exec("web01", "echo old > /root/marker");
    logs(&host, &of_one(&host, "mount"), "mount", &line);
    let ran = host.run(["reinstall", "web01"]);
    ran.failed(79, &["`mount` exited with 5", "state: "]);
    assert!(once.exists());
    assert_eq!(host.exec("web01", "cat /root/marker; test -e /old/root || echo alone"), "old\nalone");
}

#[test]
fn root_a_script_that_fails_on_the_way_down_holds_nothing_up() {
    let Some(host) = new() else { return };
    binds(&host);
    for action in ["umount", "postumount"] {
        logs(&host, &of_one(&host, action), action, "echo alas; exit 7");
    }
    host.script(&of_one(&host, "stop"), "exit 6\n");
    host.ok(["start", "web01"]);
    let ran = host.run(["stop", "web01"]);
    assert_eq!(ran.code, 0, "{ran}");
    for said in ["`stop` exited with 6", "`umount` exited with 7: alas", "`postumount` exited with 7: alas"] {
        assert!(ran.stderr.contains(said), "{said}\n{ran}");
    }
    assert_eq!(logged(&host), ["mount", "umount", "postumount"]);
    nothing_is_left(&host);
}

#[test]
fn root_an_action_script_that_does_not_end_is_killed_with_all_that_it_has_started() {
    let Some(host) = new() else { return };
    let conf = host.area("web01").join("ve.conf");
    let text = std::fs::read_to_string(&conf).unwrap();
    std::fs::write(&conf, format!("{text}SCRIPT_TIMEOUT=\"1\"\n")).unwrap();
    let pids = host.path("pids");
    let line = format!("setsid sleep 1000 & echo $! >{0}; echo $$ >>{0}; sleep 1000", pids.display());
    logs(&host, &of_one(&host, "mount"), "mount", &line);
    host.run(["start", "web01"]).failed(79, &["`mount` did not end within 1 s and was killed"]);
    for pid in std::fs::read_to_string(&pids).unwrap().lines() {
        assert!(!is_alive(pid), "{pid}");
    }
    nothing_is_left(&host);
    std::fs::write(&conf, format!("{text}SCRIPT_TIMEOUT=\"soon\"\n")).unwrap();
    host.run(["start", "web01"]).failed(21, &["`SCRIPT_TIMEOUT` is `soon`", "hint: correct it"]);
}

#[test]
fn root_a_symlink_in_the_root_does_not_lead_a_mount_elsewhere() {
    let Some(host) = new() else { return };
    let outside = host.path("outside");
    std::fs::create_dir(&outside).unwrap();
    host.ok(["start", "web01"]);
    host.exec(
        "web01",
        &format!(
            "rmdir /srv; ln -s {0} /srv; ln -s ../../../../../../../../../{0} /mnt/x",
            outside.display()
        ),
    );
    host.ok(["stop", "web01"]);
    let executed = host.path("executed");
    // What is in `data` is the container's, and would be executed by the script's next line.
    host.script("data/tool", &format!("#!/bin/sh\ntouch {}\n", executed.display()));
    for (number, line) in [
        "mount --bind DATA \"$VE_ROOT/srv\"",
        "mount -c --bind DATA \"$VE_ROOT/srv\"",
        "busybox mount -o bind DATA \"$VE_ROOT/srv\"",
        "cd \"$VE_ROOT\"; mount --bind DATA srv",
        "mount --bind DATA \"$VE_ROOT/mnt/x\"",
        "mount --bind DATA \"$VE_ROOT\"",
        "mount --bind DATA OUT",
        "unshare -m mount --bind DATA OUT",
        "mount -t tmpfs none OUT",
    ]
    .iter()
    .enumerate()
    {
        forget(&host);
        let line = line
            .replace("DATA", host.path("data").to_str().unwrap())
            .replace("OUT", outside.to_str().unwrap());
        let line =
            format!("{line} && echo mounted >>{}; {}/tool; exit 0", log(&host).display(), outside.display());
        logs(&host, &of_one(&host, "mount"), "mount", &line);
        let ran = host.run(["start", "web01"]);
        assert_eq!(logged(&host), ["mount"], "{number}: {line}\n{ran}");
        assert!(!executed.exists(), "{line}");
        // Whom the gate has refused something has failed, whatever it says of itself; what the kernel has refused it may have an answer to.
        assert!([0, 79].contains(&ran.code), "{line}\n{ran}");
        assert!(std::fs::read_dir(&outside).unwrap().next().is_none(), "{line}");
        host.run(["stop", "web01"]);
        nothing_is_left(&host);
    }
    // Nothing of the container's is executed, and no file of the host's is reached through it.
    std::fs::remove_file(host.path(&of_one(&host, "mount"))).unwrap();
    let secret = host.path("secret");
    host.write("secret", "secret\n", 0o600);
    host.ok(["start", "web01"]);
    host.exec("web01", &format!("rm /srv; ln -s {} /srv", secret.display()));
    host.ok(["stop", "web01"]);
    let line =
        format!("echo gone >\"$VE_ROOT/srv\"; \"$VE_ROOT/bin/busybox\" touch {}; exit 0", executed.display());
    logs(&host, &of_all("mount"), "vps.mount", &line);
    host.ok(["start", "web01"]);
    assert_eq!(std::fs::read_to_string(secret).unwrap(), "secret\n");
    assert!(!executed.exists());
}

#[test]
fn root_a_mount_point_that_is_missing_can_be_made_as_the_containers_root() {
    let Some(host) = new() else { return };
    let line = format!(
        "set -e; cd \"$VE_ROOT\"; setpriv --reuid \"$VE_UID\" --regid \"$VE_UID\" --clear-groups mkdir -p data; mount --bind {} \"$VE_ROOT/data\"",
        host.path("data").display()
    );
    logs(&host, &of_all("mount"), "vps.mount", &line);
    host.ok(["start", "web01"]);
    host.ok(["reinstall", "web01"]);
    assert_eq!(host.exec("web01", "stat -c %u:%a /data; ls /data"), "65534:777\nlog");
}

#[test]
fn root_an_action_script_that_is_not_roots_alone_is_refused_before_anything_happens() {
    let Some(host) = new() else { return };
    host.ok(["start", "web01"]);
    host.exec("web01", "echo here > /run/marker");
    let script = of_all("umount");
    let refuses = |said: &str| {
        for words in [&["restart", "web01"][..], &["reinstall", "web01"]] {
            host.run(words).failed(21, &[said, "nothing was changed", "hint: "]);
            assert_eq!(host.exec("web01", "cat /run/marker"), "here");
        }
    };
    logs(&host, &script, "umount", "");
    let mode =
        |mode| std::fs::set_permissions(host.path(&script), std::fs::Permissions::from_mode(mode)).unwrap();
    mode(0o777);
    refuses("others than its owner may write to it");
    mode(0o644);
    refuses("it is not executable");
    mode(0o755);
    std::os::unix::fs::chown(host.path(&script), Some(4711), None).unwrap();
    refuses("it belongs to user 4711");
    host.script(&script, "echo\n");
    std::os::unix::fs::chown(host.path(&script), Some(0), None).unwrap();
    refuses("it does not say by which interpreter");
    std::fs::remove_file(host.path(&script)).unwrap();
    let scripts = host.area("web01").join("scripts");
    logs(&host, &of_one(&host, "mount"), "mount", "");
    std::fs::set_permissions(&scripts, std::fs::Permissions::from_mode(0o777)).unwrap();
    refuses("others than root may write to");
    // That of before counts where the directory has none.
    std::fs::remove_dir_all(&scripts).unwrap();
    logs(&host, &format!("etc/vz/conf/{}.mount", uuid(&host)), "legacy", "");
    host.ok(["restart", "web01"]);
    assert_eq!(logged(&host), ["legacy"]);
}

#[test]
fn root_a_monitor_that_is_killed_leaves_no_action_script_behind() {
    let Some(host) = new() else { return };
    let pids = host.path("pids");
    let line = format!(
        "echo $$ >{0}.new; setsid sleep 1000 & echo $! >>{0}.new; mv {0}.new {0}; sleep 1000",
        pids.display()
    );
    binds(&host);
    logs(&host, &of_all("mount"), "vps.mount", &line);
    let mut start = host.prlctl().args(["start", "web01"]).spawn().unwrap();
    host.wait_until("its script runs", || pids.exists());
    let monitor: serde_json::Value = serde_json::from_slice(
        &std::fs::read(host.path("run/vz").join(uuid(&host)).join("monitor.json")).unwrap(),
    )
    .unwrap();
    let monitor = Pid::from_raw(monitor["pid"].as_i64().unwrap() as i32).unwrap();
    kill_process(monitor, Signal::KILL).unwrap();
    assert!(!start.wait().unwrap().success());
    let all: Vec<String> = std::fs::read_to_string(&pids).unwrap().lines().map(str::to_owned).collect();
    assert_eq!(all.len(), 2);
    for pid in all {
        host.wait_until("it is killed", || !is_alive(&pid));
    }
    nothing_is_left(&host);
    std::fs::remove_file(host.path(&of_all("mount"))).unwrap();
    host.ok(["start", "web01"]);
    assert_eq!(host.exec("web01", "ls /srv"), "log");

    // One that runs without its monitor is stopped, and what could not be run is said.
    let state: serde_json::Value = serde_json::from_slice(
        &std::fs::read(host.path("run/vz").join(uuid(&host)).join("state.json")).unwrap(),
    )
    .unwrap();
    let monitor = state["monitor"]["pid"].as_i64().unwrap() as i32;
    kill_process(Pid::from_raw(monitor).unwrap(), Signal::KILL).unwrap();
    host.wait_until("it is dead", || !is_alive(&monitor.to_string()));
    let ran = host.run(["stop", "web01"]);
    assert!(ran.code == 0 && ran.stderr.contains("`umount` and `postumount` have not run"), "{ran}");
    nothing_is_left(&host);
}

#[test]
fn root_a_start_whose_init_dies_at_once_is_told_though_scripts_take_their_time() {
    let Some(host) = new() else { return };
    host.ok(["start", "web01"]);
    host.exec("web01", "rm /sbin/init; printf '#!/bin/sh\\nexit 7\\n' >/sbin/init; chmod 755 /sbin/init");
    host.ok(["stop", "web01"]);
    logs(&host, &of_all("umount"), "vps.umount", "sleep 2; echo done");
    host.run(["start", "web01"]).failed(3, &["its init exited with 7"]);
    assert_eq!(logged(&host), ["vps.umount"]);
    nothing_is_left(&host);
}

#[test]
fn root_a_start_that_nobody_wants_any_more_is_taken_back_by_its_scripts() {
    let Some(host) = new() else { return };
    let ready = host.path("ready");
    logs(&host, &of_all("mount"), "vps.mount", &format!("touch {}; sleep 1000", ready.display()));
    for action in ["premount", "umount", "postumount"] {
        logs(&host, &of_one(&host, action), action, "");
    }
    for signal in [Signal::INT, Signal::KILL] {
        forget(&host);
        let mut start = host.prlctl().args(["start", "web01"]).spawn().unwrap();
        host.wait_until("its script runs", || ready.exists());
        kill_process(Pid::from_raw(start.id() as i32).unwrap(), signal).unwrap();
        let status = start.wait().unwrap();
        assert!(status.code().is_none_or(|code| code == 130), "{status}");
        let all = ["premount", "vps.mount", "umount", "postumount"];
        host.wait_until("all is taken back", || logged(&host).len() >= all.len());
        assert_eq!(logged(&host), all);
        nothing_is_left(&host);
        std::fs::remove_file(&ready).unwrap();
    }
}

#[test]
fn root_a_probation_that_fails_has_its_scripts_run_before_the_old_root_comes_back() {
    let Some(host) = new() else { return };
    // As with a volume: what is open cannot be opened again.
    let open = host.path("open");
    logs(&host, &of_one(&host, "premount"), "premount", &format!("mkdir {}", open.display()));
    logs(&host, &of_one(&host, "postumount"), "postumount", &format!("rmdir {}", open.display()));
    host.ok(["start", "web01"]);
    host.exec("web01", "echo old > /root/marker");
    forget(&host);
    host.run(["reinstall", "web01", "--health", "false", "--timeout", "1"]).failed(94, &[]);
    assert_eq!(host.exec("web01", "cat /root/marker"), "old");
    assert_eq!(logged(&host), ["postumount", "premount", "postumount", "premount"]);
    // And where the command is killed in the middle of it, by whoever recovers it.
    host.ok(["stop", "web01"]);
    binds(&host);
    host.ok(["start", "web01"]);
    forget(&host);
    host.script("etc/vz/conf/vps.configure", "touch /srv/ready; sleep 1000\n");
    let mut reinstall = host.prlctl().args(["reinstall", "web01"]).spawn().unwrap();
    host.wait_until("it runs", || host.path("data/ready").exists());
    kill_process(Pid::from_raw(reinstall.id() as i32).unwrap(), Signal::KILL).unwrap();
    reinstall.wait().unwrap();
    host.wait_until("the old root runs", || host.run(["exec", "web01", "test -e /root/marker"]).code == 0);
    assert_eq!(logged(&host), ["postumount", "premount", "mount", "postumount", "premount", "mount"]);
}

#[test]
fn root_what_an_action_script_writes_is_told_and_logged_a_bounded_amount_of_it() {
    let Some(host) = new() else { return };
    logs(
        &host,
        &of_all("mount"),
        "vps.mount",
        "echo hello; i=0; while [ $i -lt 5000 ]; do echo line $i; i=$((i+1)); done",
    );
    let ran = host.run(["start", "web01"]);
    assert!(ran.code == 0 && ran.stderr.contains("hello"), "{ran}");
    assert!(
        ran.stderr.contains("what else it wrote is left out") && !ran.stderr.contains("line 4999"),
        "{ran}"
    );
    let log = host.ok(["log", "web01"]);
    assert!(log.contains("hello"), "{log}");
    assert!(console(&host).contains("vps.mount: hello"));
    assert!(Path::new(&log_of(&host)).exists());
}

fn log_of(host: &RealHost) -> PathBuf {
    host.path("var/log/vz").join(format!("{}.console", uuid(host)))
}

/// Whoever only looks waits for no script, and the container is not taken for a stopped one.
#[test]
fn root_who_only_looks_waits_for_no_script_between_two_lives() {
    let Some(host) = new() else { return };
    let (first, ready, fifo) = (host.path("data/first"), host.path("data/ready"), host.path("data/go-on"));
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    // Were it waited for, it would be until its time is over and the container has stopped.
    std::fs::write(host.path("etc/vz/vz.conf"), "SCRIPT_TIMEOUT=\"60\"\n").unwrap();
    host.script(
        &of_all("premount"),
        &format!(
            "#!/bin/sh\nif [ -e {first} ]; then : >{ready}; read -r word <{fifo}; fi\n: >{first}\n",
            first = first.display(),
            ready = ready.display(),
            fifo = fifo.display()
        ),
    );
    host.ok(["start", "web01"]);
    host.run(["exec", "web01", "reboot"]);
    host.wait_until("the script is at work again", || ready.exists());
    assert!(host.ok(["list", "-a"]).contains(" running "));
    assert!(host.ok(["list", "-i", "web01"]).contains("State: running"));
    assert!(is_state(&host, "running"));
    assert!(host.run(["statistics", "-a"]).code == 0);
    assert!(String::from_utf8_lossy(&host.vzlist().arg("-a").output().unwrap().stdout).contains("running"));
    // It is still at work: nobody has waited for its end.
    drop(
        std::fs::File::options()
            .write(true)
            .custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed())
            .open(&fifo)
            .unwrap(),
    );
    host.wait_until("it has rebooted", || host.run(["exec", "web01", "true"]).code == 0);
}
