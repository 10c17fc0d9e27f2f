//! A signal in the middle of an operation: what is said, in which state the container is afterwards, and with which code the command ends.
//! Before the commit it is undone, after it finished; a second signal leaves either to the keeper.
#![cfg(debug_assertions)] // A release build has no fault points.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use testkit::{Ran, RealHost};

const CONFIGURE: &str = "etc/vz/conf/vps.configure";
const REINSTALL: &str = "etc/vz/conf/vps.reinstall";
/// Far less than any script or time-out here takes by itself.
const SOON: Duration = Duration::from_secs(20);

fn with_container() -> Option<RealHost> {
    let host = RealHost::new(env!("CARGO_BIN_EXE_prlctl"))?;
    host.started("web01");
    host.exec("web01", "echo old > /root/marker");
    Some(host)
}

/// A command under way.
struct Begun {
    child: Child,
    stderr: BufReader<ChildStderr>,
    said: String,
}

impl Begun {
    /// Starts it, and reads what it says until that has `words` in it.
    fn until(command: &mut Command, words: &str) -> Begun {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("start prlctl");
        let stderr = BufReader::new(child.stderr.take().expect("it has a stderr"));
        let mut begun = Begun { child, stderr, said: String::new() };
        while !begun.said.contains(words) {
            let read = begun.stderr.read_line(&mut begun.said).expect("read what it says");
            assert!(read > 0, "it never said `{words}`: {}", begun.said);
        }
        begun
    }

    fn send(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("send a signal");
    }

    fn end(mut self) -> Ran {
        self.stderr.read_to_string(&mut self.said).expect("read what it says");
        let ran = Ran::of(self.child.wait_with_output().expect("wait for prlctl"));
        Ran { stderr: self.said, ..ran }
    }
}

/// Has the init of `web01` hear nothing of the signal that stops it.
fn deafen(host: &RealHost) -> Pid {
    let area = host.area("web01");
    let state = host.path("run/vz").join(area.file_name().expect("an area has a name")).join("state.json");
    let state = std::fs::read(state).expect("it runs");
    let state: serde_json::Value = serde_json::from_slice(&state).expect("a state is JSON");
    let init = state["init"]["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok());
    let init = init.and_then(Pid::from_raw).expect("a state names its init");
    kill_process(init, Signal::STOP).expect("stop its init");
    init
}

/// Waits until a deaf init has been asked to stop; where its status is.
fn wait_until_asked(host: &RealHost, init: Pid) -> String {
    let status = format!("/proc/{}/status", init.as_raw_nonzero());
    host.wait_until("init is asked to stop", || {
        let text = std::fs::read_to_string(&status).expect("init is there");
        text.lines().any(|line| {
            line.strip_prefix("ShdPnd:").is_some_and(|mask| mask.trim().bytes().any(|digit| digit != b'0'))
        })
    });
    status
}

fn names(host: &RealHost, below: &str) -> Vec<String> {
    let entries = std::fs::read_dir(host.path(below)).expect("list a directory");
    let mut names: Vec<String> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn roots(host: &RealHost) -> String {
    host.ok(["generation-list", "web01", "-H"])
}

/// It is on its old root, nothing is under way, and it runs or it does not.
#[track_caller]
fn is_as_before(host: &RealHost, runs: bool) {
    assert!(!host.area("web01").join("operation.json").exists());
    assert!(roots(host).starts_with("1     live"), "{}", roots(host));
    assert_eq!(host.ok(["status", "web01"]).contains(" running"), runs);
    if runs {
        assert_eq!(host.exec("web01", "cat /root/marker"), "old");
    }
}

#[test]
fn root_a_signal_while_vps_configure_hangs_undoes_the_reinstall_and_says_so() {
    let Some(host) = with_container() else { return };
    host.script(CONFIGURE, "#!/bin/sh\necho begun\nsleep 1000\n");
    for (signal, name, code) in
        [(Signal::INT, "SIGINT", 130), (Signal::TERM, "SIGTERM", 143), (Signal::HUP, "SIGHUP", 129)]
    {
        let reinstall = Begun::until(host.prlctl().args(["reinstall", "web01"]), "vps.configure: begun");
        let began = Instant::now();
        reinstall.send(signal);
        let ran = reinstall.end();
        assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
        ran.failed(
            code,
            &[
                &format!("{name}: undoing it; a second signal leaves that to another process"),
                "error: cannot reinstall `web01`\n",
                &format!("  because: {name} has interrupted it\n"),
                "  because: `vps.configure` was interrupted",
                "  state: nothing was lost: `web01` runs on its old root again, generation 1\n",
                "  hint: `prlctl reinstall web01` begins again",
            ],
        );
        assert_eq!(ran.stdout, "");
        is_as_before(&host, true);
    }
}

#[test]
fn root_a_signal_while_vps_reinstall_hangs_ends_all_of_it() {
    let Some(host) = with_container() else { return };
    let pid = host.path("pid");
    host.script(
        REINSTALL,
        &format!(
            "#!/bin/sh\ntrap '' INT TERM HUP\necho $$ >{0}.new; mv {0}.new {0}\necho begun\nsleep 1000\nsleep 1000\n",
            pid.display()
        ),
    );
    let reinstall = Begun::until(host.prlctl().args(["reinstall", "web01", "-j"]), "\"line\":\"begun\"");
    reinstall.send(Signal::TERM);
    let ran = reinstall.end();
    assert_eq!(ran.code, 143, "{ran}");
    let json: serde_json::Value = serde_json::from_str(&ran.stdout).expect("stdout has one document");
    assert_eq!(json["error"]["code"], "interrupted");
    assert_eq!(json["error"]["exit"], 143);
    assert!(
        json["error"]["state"].as_str().is_some_and(|state| state.contains("runs on its old root")),
        "{ran}"
    );
    assert!(ran.stderr.contains("\"event\":\"interrupted\""), "{ran}");
    assert!(ran.stdout.contains("`vps.reinstall` was interrupted"), "{ran}");
    let pid = std::fs::read_to_string(pid).unwrap();
    assert!(!std::path::Path::new("/proc").join(pid.trim()).exists());
    is_as_before(&host, true);
}

#[test]
fn root_a_signal_leaves_a_stopped_container_stopped() {
    let Some(host) = with_container() else { return };
    host.ok(["stop", "web01"]);
    host.script(CONFIGURE, "#!/bin/sh\necho begun\nsleep 1000\n");
    let reinstall = Begun::until(host.prlctl().args(["reinstall", "web01"]), "vps.configure: begun");
    reinstall.send(Signal::INT);
    let ran = reinstall.end();
    ran.failed(130, &["state: nothing was lost: `web01` is stopped, on its old root, generation 1"]);
    is_as_before(&host, false);
}

#[test]
fn root_a_signal_while_the_container_stops_does_not_leave_it_stopped() {
    let Some(host) = with_container() else { return };
    host.write("etc/vz/vz.conf", "STOP_TIMEOUT=5\n", 0o644);
    let init = deafen(&host);
    let reinstall = Begun::until(host.prlctl().args(["reinstall", "web01"]), "Stopping the CT");
    let status = wait_until_asked(&host, init);
    reinstall.send(Signal::INT);
    let ran = reinstall.end();
    ran.failed(130, &["`web01` was still stopping", "runs on its old root again, generation 1"]);
    // The one that was asked to stop does not go down afterwards: another one runs.
    assert!(!std::path::Path::new(&status).exists());
    is_as_before(&host, true);
}

#[test]
fn root_a_signal_after_the_commit_takes_nothing_back() {
    let Some(host) = with_container() else { return };
    let fault = "reinstall/commit/after:interrupt";
    let ran =
        Ran::of(host.prlctl().env("REROOT_FAULT", fault).args(["reinstall", "web01"]).output().unwrap());
    assert_eq!(ran.code, 0, "{ran}");
    let said = "SIGINT: it has happened already, and is brought to its end";
    assert!(ran.stderr.contains(said), "{ran}");
    assert_eq!(ran.stdout, "The CT has been successfully reinstalled.\n");
    assert!(!host.area("web01").join("operation.json").exists());
    assert_eq!(host.exec("web01", "cat /old/root/marker; : > /old/writable"), "old");
}

#[test]
fn root_a_second_signal_leaves_the_rest_to_the_keeper() {
    for (runs, fault, root) in [
        (true, "reinstall/configure/before:interrupt,reinstall/probation/revert:interrupt", 1),
        (false, "reinstall/configure/before:interrupt,reinstall/probation/revert:interrupt", 1),
        (true, "reinstall/commit/after:interrupt,reinstall/settle/after:interrupt", 2),
    ] {
        let Some(host) = with_container() else { return };
        if !runs {
            host.ok(["stop", "web01"]);
        }
        let journal = host.area("web01").join("operation.json");
        let ran =
            Ran::of(host.prlctl().env("REROOT_FAULT", fault).args(["reinstall", "web01"]).output().unwrap());
        let state = if root == 1 {
            "state: nothing is lost: another process puts `web01` back on its old root"
        } else {
            "state: it has happened and stays so; another process brings it to its end for `web01`"
        };
        ran.failed(
            130,
            &[
                "error: cannot reinstall `web01`\n",
                "because: a second signal came before the first one was dealt with\n",
                state,
                "hint: `prlctl recover web01` waits until that is done\n",
            ],
        );
        host.wait_until("the keeper has recovered", || !journal.exists());
        host.ok(["recover", "web01"]);
        assert!(roots(&host).contains(&format!("{root}     live")), "{}", roots(&host));
        assert_eq!(host.ok(["status", "web01"]).contains(" running"), runs);
    }
}

#[test]
fn root_a_signal_that_is_ignored_stays_ignored() {
    let Some(host) = with_container() else { return };
    host.script(CONFIGURE, "#!/bin/sh\necho begun\nsleep 1\n");
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' HUP; exec \"$0\" reinstall web01", env!("CARGO_BIN_EXE_prlctl")]);
    command.env("REROOT_PREFIX", host.prefix()).stdin(Stdio::null());
    let reinstall = Begun::until(&mut command, "vps.configure: begun");
    reinstall.send(Signal::HUP);
    let ran = reinstall.end();
    assert_eq!(ran.code, 0, "{ran}");
}

#[test]
fn root_a_signal_before_the_commit_of_what_has_no_journal_leaves_nothing_of_it() {
    let Some(host) = with_container() else { return };
    let private = names(&host, "vz/private");
    let fault = |point: &str| format!("{point}/before:interrupt");
    let create = ["create", "web02", "--ostemplate", "busybox"];
    let ran =
        Ran::of(host.prlctl().env("REROOT_FAULT", fault("create/publish")).args(create).output().unwrap());
    ran.failed(
        130,
        &[
            "error: cannot create `web02`\n  because: SIGINT has interrupted it\n  state: nothing of it is left\n",
            "  hint: `prlctl create web02 --ostemplate busybox` begins again\n",
        ],
    );
    assert_eq!((ran.stdout.as_str(), names(&host, "vz/private")), ("", private));
    assert_eq!(names(&host, "etc/vz/names"), ["web01"]);
    host.ok(create);

    let delete = ["delete", "web01", "--force", "-j"];
    let ran =
        Ran::of(host.prlctl().env("REROOT_FAULT", fault("delete/discard")).args(delete).output().unwrap());
    assert_eq!(ran.code, 130, "{ran}");
    let json: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(
        (&json["error"]["code"], &json["error"]["exit"], &json["error"]["state"]),
        (&"interrupted".into(), &130.into(), &"`web01` is stopped; nothing was deleted".into())
    );
    host.ok(["start", "web01"]);
    assert_eq!(host.exec("web01", "cat /root/marker"), "old");
}

#[test]
fn root_a_signal_while_a_template_is_made_leaves_nothing_of_it() {
    let Some(host) = RealHost::bare(env!("CARGO_BIN_EXE_prlctl")) else { return };
    let mut vzpkg = host.vzpkg();
    vzpkg.env("REROOT_FAULT", "template/publish/before:interrupt").args(["create", "cache", "busybox"]);
    let ran = Ran::of(vzpkg.output().unwrap());
    ran.failed(
        130,
        &["error: cannot make template `busybox`", "SIGINT has interrupted it", "nothing of it is left"],
    );
    assert_eq!(names(&host, "vz/template"), Vec::<String>::new());
}

#[test]
fn root_a_signal_while_a_lock_is_waited_for_says_that_nothing_has_begun() {
    let Some(host) = with_container() else { return };
    let lock = std::fs::File::open(host.path("run/vz/lock/host.lock")).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let mut command = host.prlctl();
        command.args(["create", "web02", "--ostemplate", "busybox"]);
        let create = Begun::until(&mut command, "Creating the Container...");
        // It has nothing more to say, and waits: the thread that does so is its second.
        let tasks = format!("/proc/{}/task", create.child.id());
        host.wait_until("it waits", || std::fs::read_dir(&tasks).unwrap().count() == 2);
        create.send(signal);
        create.end().failed(
            code,
            &[
                "error: cannot create `web02`\n",
                "state: nothing of it had begun\n",
                "hint: `prlctl create web02",
            ],
        );
    }
}

#[test]
fn root_a_signal_while_the_lock_of_a_container_is_waited_for_is_told_by_every_command() {
    let Some(host) = with_container() else { return };
    let id: store::ContainerId = host.area("web01").file_name().unwrap().to_str().unwrap().parse().unwrap();
    let prefix = store::Prefix::new(host.prefix()).unwrap();
    let held =
        store::Lock::exclusive(&prefix, store::LockName::Container(id), Duration::ZERO, "another").unwrap();
    let begun = "state: nothing of it had begun\n";
    for (words, what, state) in [
        (&["mount", "web01", "--lock-wait", "60"][..], "cannot mount `web01`", begun),
        (&["umount", "web01", "--lock-wait", "60"], "cannot unmount `web01`", begun),
        (&["restart", "web01", "--lock-wait", "60"], "cannot restart `web01`", begun),
        (&["exec", "web01", "true"], "cannot execute in `web01`", begun),
        (&["enter", "web01"], "cannot execute in `web01`", begun),
        (&["recover", "web01"], "cannot recover `web01`", "is left to the next command\n"),
    ] {
        let child = host.prlctl().args(words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let tasks = format!("/proc/{}/task", child.id());
        host.wait_until("it waits", || std::fs::read_dir(&tasks).unwrap().count() == 2);
        kill_process(Pid::from_child(&child), Signal::INT).unwrap();
        let ran = Ran::of(child.wait_with_output().unwrap());
        ran.failed(130, &[&format!("error: {what}\n"), "because: a signal", state, "hint: `prlctl "]);
    }
    drop(held);
    // What is executed has the signal, and not this process's words.
    let mut command = host.prlctl();
    command.args(["exec", "web01", "echo runs >&2; exec sleep 1000"]);
    let exec = Begun::until(&mut command, "runs");
    exec.send(Signal::TERM);
    let ran = exec.end();
    assert_eq!((ran.code, ran.stderr.as_str()), (143, "runs\n"), "{ran}");
}

#[test]
fn root_a_signal_while_a_stop_is_waited_for_says_that_it_goes_on() {
    for (words, state, hint) in [
        (&["stop", "web01"], "`web01` is still stopping\n", "`prlctl stop web01 --kill` ends it at once"),
        (
            &["restart", "web01"],
            "`web01` is still stopping, and nobody starts it again\n",
            "`prlctl restart web01` waits for its end and starts it",
        ),
    ] {
        let Some(host) = with_container() else { return };
        let init = deafen(&host);
        let stop = Begun::until(host.prlctl().args(words), "Stopping the CT");
        wait_until_asked(&host, init);
        let began = Instant::now();
        stop.send(Signal::TERM);
        let ran = stop.end();
        assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
        let first = format!("error: cannot {} `web01`\n  because: SIGTERM has interrupted it\n", words[0]);
        ran.failed(143, &[&first, &format!("state: {state}"), hint]);
        kill_process(init, Signal::CONT).unwrap();
        host.wait_until("it is stopped", || host.ok(["status", "web01"]).contains(" stopped"));
        host.ok(["start", "web01"]);
        assert_eq!(host.exec("web01", "cat /root/marker"), "old");
    }
}
