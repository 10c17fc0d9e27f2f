//! `prlctl reinstall` of several containers at once.

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use testkit::{RealHost, Terminal};

/// A host with the containers `a`, which runs, `b` and `c`.
fn with_three() -> Option<RealHost> {
    let host = RealHost::new(env!("CARGO_BIN_EXE_prlctl"))?;
    host.started("a");
    for name in ["b", "c"] {
        host.ok(["create", name, "--ostemplate", "busybox"]);
    }
    Some(host)
}

fn live(host: &RealHost, name: &str) -> String {
    let list: Value =
        serde_json::from_str(&host.ok(["generation-list", name, "-j"])).expect("a list is JSON");
    list[0]["number"].to_string()
}

fn all_live(host: &RealHost) -> [String; 3] {
    ["a", "b", "c"].map(|name| live(host, name))
}

/// Its next root will be made from a template that is not there.
fn spoil(host: &RealHost, name: &str) {
    let conf = host.area(name).join("ve.conf");
    let text = std::fs::read_to_string(&conf).expect("a container has a configuration");
    let below = conf
        .strip_prefix(host.prefix())
        .expect("it is of this host")
        .to_str()
        .expect("it is text")
        .to_owned();
    host.write(&below, &text.replace("OSTEMPLATE=\"busybox\"", "OSTEMPLATE=\"nothing\""), 0o600);
}

#[test]
fn root_many_are_reinstalled_with_the_options_of_one() {
    let Some(host) = with_three() else { return };
    host.exec("a", "echo mine > /srv/file");
    let ran = host.run(["reinstall", "--all", "--yes", "--parallel", "2", "--keep", "/srv", "--skipscripts"]);
    assert_eq!(ran.code, 0, "{ran}");
    for said in [
        "a: runs, and will be stopped and started; generation 1; from template busybox",
        "b: is stopped; generation 1",
        "a: begins",
        "a: generation 1 -> 2, ",
    ] {
        assert!(ran.stderr.contains(said), "{said}: {ran}");
    }
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert!(lines[0].starts_with("NAME RESULT      GENERATION SECONDS ERROR"), "{ran}");
    assert!(
        lines[1].starts_with("a    reinstalled 1 -> 2") && lines[3].starts_with("c    reinstalled 1 -> 2"),
        "{ran}"
    );
    assert_eq!(lines[4], "3 CTs have been successfully reinstalled.");
    assert_eq!(host.exec("a", "cat /srv/file"), "mine");
    assert_eq!(host.ok(["status", "b"]), "CT b exist stopped\n");
    // Back again, some of them, one named twice.
    let ran = host.run(["reinstall", "a", "c", "a", "--undo", "-y", "-j"]);
    assert_eq!(ran.code, 0, "{ran}");
    let document: Value = serde_json::from_str(&ran.stdout).expect("one document");
    assert_eq!(
        (&document["result"], &document["done"], &document["error"]),
        (&json!("done"), &json!(2), &Value::Null)
    );
    let first = &document["containers"][0];
    assert_eq!(
        (&first["name"], &first["result"], &first["old"], &first["new"]),
        (&json!("a"), &json!("undone"), &json!(2), &json!(1))
    );
    assert_eq!((&first["was_running"], &first["document"]["to"]), (&json!(true), &json!(1)), "{document:#}");
    assert_eq!(all_live(&host), ["1", "2", "1"]);
}

#[test]
fn root_many_are_asked_about_unless_somebody_has_said_yes() {
    let Some(host) = with_three() else { return };
    for words in [
        &["reinstall", "a", "b"][..],
        &["reinstall", "--all"],
        &["reinstall", "--all", "-j"],
        &["reinstall", "--based-on", "busybox"],
    ] {
        let ran = host.run(words);
        assert_eq!(ran.code, 20, "{ran}");
        let said = [ran.stdout.as_str(), &ran.stderr].concat();
        for part in ["nobody is there to be asked", "nothing was changed", "--yes answers for you"] {
            assert!(said.contains(part), "{part}: {ran}");
        }
    }
    let mut command = host.prlctl();
    command.args(["reinstall", "b", "c"]);
    for (answer, code) in [("n", 20), ("", 20), ("y", 0)] {
        let mut terminal = Terminal::run(&command, 24, 120);
        terminal.expects("c: is stopped; generation 1; from template busybox");
        terminal.expects("Reinstall these 2 containers? [y/N] ");
        assert_eq!(all_live(&host), ["1", "1", "1"]);
        terminal.types(&format!("{answer}\n"));
        assert_eq!(terminal.ends().0, code);
    }
    assert_eq!(all_live(&host), ["1", "2", "2"]);
    // One is none too many, however it was chosen.
    host.ok(["delete", "b"]);
    host.ok(["delete", "c"]);
    host.ok(["reinstall", "--all"]);
    assert_eq!(live(&host, "a"), "2");
    host.ok(["delete", "a", "--force"]);
    assert!(host.ok(["reinstall", "--all"]).contains("There is no CT to reinstall."));
}

#[test]
fn root_many_go_on_where_one_fails_and_the_code_says_so() {
    let Some(host) = with_three() else { return };
    spoil(&host, "b");
    let ran = host.run(["reinstall", "a", "b", "c", "--yes"]);
    ran.failed(
        94,
        &["2 of 3 containers have been reinstalled", "1 failed: b", "hint: `prlctl log b --last` tells"],
    );
    assert!(ran.stdout.contains("\nb    failed      -          "), "{ran}");
    assert!(ran.stdout.contains("unknown template `nothing`"), "{ran}");
    assert_eq!(all_live(&host), ["2", "1", "2"]);
    let ran = host.run(["reinstall", "a", "b", "--yes", "-j"]);
    assert_eq!(ran.code, 94, "{ran}");
    let document: Value = serde_json::from_str(&ran.stdout).expect("one document");
    assert_eq!((&document["failed"], &document["error"]["exit"]), (&json!(1), &json!(94)));
    assert_eq!(document["containers"][1]["document"]["error"]["code"], "unknown-template", "{document:#}");
    // What is based on something else is not meant.
    host.ok(["reinstall", "--based-on", "busybox", "--yes"]);
    assert_eq!(all_live(&host), ["4", "1", "3"]);
    host.run(["reinstall", "--based-on", "debian-12", "--yes"])
        .failed(21, &["no container is based on `debian-12`"]);
}

#[test]
fn root_many_begin_no_more_after_so_many_failures() {
    let Some(host) = with_three() else { return };
    host.script("etc/vz/conf/vps.reinstall", "#!/bin/sh\necho no >&2\nexit 1\n");
    let ran = host.run(["reinstall", "--all", "--yes", "--parallel", "1", "--max-failures", "2"]);
    ran.failed(94, &["0 of 3 containers", "2 failed: a, b", "1 were not begun"]);
    assert!(ran.stderr.contains("no more are begun: 2 have failed"), "{ran}");
    assert!(ran.stdout.contains("\nc    not begun   -          -       -\n"), "{ran}");
    assert_eq!(all_live(&host), ["1", "1", "1"]);
    assert_eq!(host.ok(["status", "a"]), "CT a exist running\n");
}

#[test]
fn root_many_are_planned_and_nothing_is_changed() {
    let Some(host) = with_three() else { return };
    spoil(&host, "c");
    let ran = host.run(["reinstall", "--all", "--dry-run", "--keep", "/etc"]);
    ran.failed(94, &["1 of 3 containers cannot be reinstalled", "nothing was changed"]);
    for said in [
        "a: runs, and will be stopped",
        "  stage      make generation 2\n",
        "  carry      keep /etc: ",
        "  refused    cannot reinstall `c`: unknown template `nothing`",
    ] {
        assert!(ran.stdout.contains(said), "{said}: {ran}");
    }
    let plan = host.ok(["reinstall", "a", "b", "--dry-run", "-j"]);
    let plan: Value = serde_json::from_str(&plan).expect("one document");
    assert_eq!(plan["containers"][1]["document"]["plan"]["to"], 2, "{plan:#}");
    assert_eq!(all_live(&host), ["1", "1", "1"]);
    assert!(host.ok(["reinstall", "a", "b", "--dry-run"]).ends_with("\nnothing was changed\n"));
}

#[test]
fn root_many_refuse_what_is_for_one_alone() {
    let Some(host) = with_three() else { return };
    for (words, code, said) in [
        (&["a", "b", "--listscripts"][..], 20, "--listscripts lists the scripts of this host"),
        (&["a", "b", "--yes", "--password", "root:-"], 20, "one user of one container"),
        (&["--all", "--yes", "--skipbackup"], 20, "must be named in full"),
        (&["--based-on", "busybox", "--yes", "--skipbackup"], 20, "must be named in full"),
        (&["--all", "a"], 20, "cannot be used with"),
        (&["--all", "--based-on", "busybox"], 20, "cannot be used with"),
        (&["a", "none", "--yes"], 14, "unknown container `none`"),
        (&["a", "b", "--parallel", "0"], 21, "--parallel"),
        (&["a", "b", "--max-failures", "0"], 21, "--max-failures"),
        (&[], 20, "required arguments"),
    ] {
        host.run(["reinstall"].iter().chain(words)).failed(code, &[said, "nothing was changed", "hint: "]);
    }
    host.ok(["create", "abcdef", "--ostemplate", "busybox"]);
    host.run(["reinstall", "b", "abc", "--yes", "--skipbackup"])
        .failed(137, &["`abc` is not the whole name"]);
    assert_eq!(all_live(&host), ["1", "1", "1"]);
    host.ok(["reinstall", "b", "abcdef", "--yes", "--skipbackup"]);
    assert_eq!(host.ok(["generation-list", "b", "-H", "--all"]).lines().count(), 1);
}

/// The first of them waits in its script until somebody writes to `gate`; as many signals come as are said, one after the other.
fn interrupted(host: &RealHost, signals: usize, opens: bool) -> (Option<i32>, String, String) {
    let gate = host.path("gate");
    if !gate.exists() {
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &gate,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
            0,
        )
        .expect("make a gate");
    }
    host.script(
        "etc/vz/conf/vps.reinstall",
        &format!("#!/bin/sh\nread word < {}\nexit 128\n", gate.display()),
    );
    let mut command = host.prlctl();
    command
        .args(["reinstall", "--all", "--yes", "--parallel", "1"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("run prlctl");
    let mut said = String::new();
    let mut stderr = BufReader::new(child.stderr.take().expect("it has a stderr"));
    // Opens when the script does.
    let mut gate = std::fs::File::options().write(true).open(&gate).expect("open the gate");
    for _ in 0..signals {
        kill_process(Pid::from_child(&child), Signal::INT).expect("send a signal");
        let before = said.len();
        while !said[before..].contains("warning: SIGINT") {
            assert_ne!(stderr.read_line(&mut said).expect("read"), 0, "{said}");
        }
    }
    if opens {
        gate.write_all(b"go\n").expect("open the gate");
    }
    std::io::Read::read_to_string(&mut stderr, &mut said).expect("read");
    let mut table = String::new();
    std::io::Read::read_to_string(&mut child.stdout.take().expect("it has a stdout"), &mut table)
        .expect("read");
    (child.wait().expect("wait for prlctl").code(), table, said)
}

#[test]
fn root_many_let_those_under_way_finish_at_the_first_signal_and_pass_the_second_on() {
    let Some(host) = with_three() else { return };
    let (code, table, said) = interrupted(&host, 1, true);
    assert_eq!(code, Some(130), "{said}");
    assert!(
        table.contains("\na    reinstalled 1 -> 2") && table.contains("\nb    not begun "),
        "{table}{said}"
    );
    assert!(
        said.contains("1 of 3 containers have been reinstalled") && said.contains("2 were not begun"),
        "{said}"
    );
    assert_eq!(all_live(&host), ["2", "1", "1"]);
    assert_eq!(host.ok(["status", "a"]), "CT a exist running\n");
    let (code, table, said) = interrupted(&host, 2, false);
    assert_eq!(code, Some(130), "{said}");
    assert!(
        said.contains("passed on to the 1 under way") && table.contains("\na    failed "),
        "{table}{said}"
    );
    assert!(table.contains("SIGINT has interrupted it"), "{table}{said}");
    assert_eq!(all_live(&host), ["2", "1", "1"]);
    assert_eq!(host.ok(["status", "a"]), "CT a exist running\n");
}

#[test]
fn root_many_are_not_reached_by_the_terminals_interrupt() {
    let Some(host) = with_three() else { return };
    let gate = host.path("gate");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &gate,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )
    .expect("make a gate");
    host.script(
        "etc/vz/conf/vps.reinstall",
        &format!("#!/bin/sh\nread word < {}\nexit 128\n", gate.display()),
    );
    let mut command = host.prlctl();
    command.args(["reinstall", "a", "b", "--yes", "--parallel", "1"]);
    let mut terminal = Terminal::run(&command, 24, 120);
    terminal.expects("a: begins");
    let mut gate = std::fs::File::options().write(true).open(&gate).expect("open the gate");
    terminal.types("\x03");
    terminal.expects("no more are begun, and the 1 under way are brought to their end");
    gate.write_all(b"go\n").expect("open the gate");
    terminal.expects("a: generation 1 -> 2");
    assert_eq!(terminal.ends().0, 130);
    assert_eq!(all_live(&host), ["2", "1", "1"]);
}

#[test]
fn root_many_each_end_of_a_child_is_its_own() {
    let Some(host) = with_three() else { return };
    let gate = host.path("gate");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &gate,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )
    .expect("make a gate");
    // The one that waits at the gate has its own prlctl killed; the others go on.
    host.script(
        "etc/vz/conf/vps.reinstall",
        &format!(
            "#!/bin/sh\n[ $VEID = {} ] && kill -9 $PPID && read word < {}\nexit 128\n",
            host.area("a").file_name().expect("a UUID").display(),
            gate.display()
        ),
    );
    let ran = host.run(["reinstall", "--all", "--yes", "--parallel", "3"]);
    ran.failed(94, &["2 of 3 containers have been reinstalled", "1 failed: a"]);
    assert!(ran.stdout.contains("it was ended by signal 9") || ran.stdout.contains("vps.reinstall"), "{ran}");
    host.ok(["recover", "a"]);
    assert_eq!(all_live(&host), ["1", "2", "2"]);
    assert_eq!(host.ok(["status", "a"]), "CT a exist running\n");
}
