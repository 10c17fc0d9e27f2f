//! `VE_ENVIRONMENT`: what process 1 of a container has in its environment besides, and whatever is executed in it; and `NOATIME`, how its root is mounted.

use std::ffi::OsStr;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::process::Stdio;

use testkit::{Ran, RealHost};

const PROGRAM: &str = env!("CARGO_BIN_EXE_prlctl");

fn conf(host: &RealHost) -> String {
    std::fs::read_to_string(host.area("web01").join("ve.conf")).expect("it can be read")
}

/// A line more in its `ve.conf`, as an editor would add it.
fn edit(host: &RealHost, line: &str) {
    let path = host.area("web01").join("ve.conf");
    let below = path.strip_prefix(host.prefix()).expect("it is below").to_string_lossy().into_owned();
    host.write(&below, &format!("{}{line}\n", conf(host)), 0o600);
}

/// What process 1 was executed with.
fn of_init(host: &RealHost) -> Vec<String> {
    host.exec("web01", "tr '\\0' '\\n' </proc/1/environ").lines().map(str::to_owned).collect()
}

#[test]
fn root_an_environment_is_that_of_init_and_of_what_is_executed() {
    let Some(host) = RealHost::new(PROGRAM) else { return };
    host.started("web01");
    host.ok(["set", "web01", "--environment", "GREETING=$(id)  PLACE=a=b TERM=xterm"]);
    assert!(
        conf(&host).contains("VE_ENVIRONMENT=\"GREETING=\\$(id) PLACE=a=b TERM=xterm\"\n"),
        "{}",
        conf(&host)
    );
    // At once of what is executed, from either program, and of a shell.
    let line = "echo \"$GREETING $PLACE $HOME\"";
    assert_eq!(host.exec("web01", line), "$(id) a=b /");
    let ran = Ran::of(host.vzctl().args(["exec2", "web01", line]).output().expect("run vzctl"));
    assert_eq!(ran.stdout, "$(id) a=b /\n", "{ran}");
    let mut shell =
        host.prlctl().args(["enter", "web01"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let shell = shell.as_mut().expect("run prlctl");
    shell.stdin.take().expect("a pipe").write_all(format!("{line}\n").as_bytes()).expect("say it");
    let mut said = String::new();
    std::io::Read::read_to_string(shell.stdout.as_mut().expect("a pipe"), &mut said).expect("hear it");
    shell.wait().expect("it ends");
    assert!(said.contains("$(id) a=b /\n"), "{said}");
    // Of its process 1 from its next life on, over what is usual, of which all else stays.
    let has = |word: &str| of_init(&host).iter().any(|other| other == word);
    assert!(!has("PLACE=a=b") && has("TERM=linux"));
    host.reboots("web01");
    assert!(has("PLACE=a=b") && has("GREETING=$(id)"), "{:?}", of_init(&host));
    assert!(has("TERM=xterm") && !has("TERM=linux") && has("container=reroot"), "{:?}", of_init(&host));
    host.ok(["set", "web01", "--environment", ""]);
    host.ok(["restart", "web01"]);
    assert!(!has("PLACE=a=b") && has("TERM=linux"));

    // What all have of vz.conf is had by who says nothing.
    host.write("etc/vz/vz.conf", "VE_ENVIRONMENT=\"PLACE=host\"\n", 0o644);
    assert_eq!(host.exec("web01", line), "  /", "an empty one says that there is none");
    host.started("web02");
    assert_eq!(host.exec("web02", line), " host /");
    assert!(host.exec("web02", "tr '\\0' '\\n' </proc/1/environ").contains("PLACE=host"));
}

#[test]
fn root_what_is_no_environment_is_refused_and_in_a_file_counts_for_nothing() {
    let Some(host) = RealHost::new(PROGRAM) else { return };
    host.ok(["create", "web01", "--ostemplate", "busybox"]);
    let before = conf(&host);
    let long = format!("A={}", "x".repeat(5000));
    let many: String = (0..70).map(|number| format!("A{number}=1 ")).collect();
    for bad in
        ["A", "=1", "A=1 B", "1A=1", "A-B=1", "A=1 A=2", "container=lxc", "NOTIFY_SOCKET=/x", "A=\u{1b}[2J"]
    {
        host.run(["set", "web01", "--environment", bad])
            .failed(21, &["wanted `NAME=VALUE`", "nothing was changed"]);
    }
    for bad in [&long, &many] {
        host.run(["set", "web01", "--environment", bad]).failed(21, &["wanted `NAME=VALUE`"]);
    }
    let set = ["set", "web01", "--environment"].map(OsStr::new);
    let ran = host.run(set.into_iter().chain([OsStr::from_bytes(b"A=\xff")]));
    assert!(ran.code != 0 && !ran.stderr.is_empty(), "{ran}");
    for option in ["--noatime", "--allowreboot"] {
        for bad in ["", "-1", "maybe", "yes;reboot", "$(id)", "99999999999999999999", "auto"] {
            let ran = host.run(["set".to_owned(), "web01".to_owned(), format!("{option}={bad}")]);
            ran.failed(21, &["wanted yes or no", "nothing was changed"]);
        }
    }
    host.run(["set", "web01", "--noatime", "yes", "--noatime", "no"]).failed(20, &["--noatime"]);
    assert_eq!(conf(&host), before);
    // Of two lines the last counts, here too.
    for line in
        ["ALLOWREBOOT=\"no\"", "VE_ENVIRONMENT=\"PLACE=here\"", "VE_ENVIRONMENT=\"A=1 container=lxc\""]
    {
        edit(&host, line);
    }
    for line in ["NOATIME=\"perhaps\"", "ALLOWREBOOT=\"$(reboot)\""] {
        edit(&host, line);
    }
    let told = host.ok(["info", "web01"]);
    let ran = host.run(["start", "web01"]);
    assert_eq!(ran.code, 0, "{ran}");
    for said in [
        "`VE_ENVIRONMENT` is `A=1 container=lxc`, not `NAME=VALUE`",
        "`NOATIME` is `perhaps`, not yes or no",
        "`ALLOWREBOOT` is `$(reboot)`, not yes or no",
    ] {
        assert!(told.contains(said) && ran.stderr.contains(said), "{said}\n{told}{ran}");
    }
    assert_eq!(host.exec("web01", "echo \"<$A$PLACE$container>\""), "<>");
    // What cannot be is as if nothing were said.
    host.reboots("web01");
}

#[test]
fn root_when_a_file_was_read_is_kept_unless_nobody_wants_it() {
    let Some(host) = RealHost::new(PROGRAM) else { return };
    host.started("web01");
    // Of one that was last read before it was written the time is kept, by what is usual.
    let is_kept = || {
        host.exec(
            "web01",
            "echo x >/root/file; touch -d '2001-01-01 00:00:00' /root/file; cat /root/file >/dev/null",
        );
        host.exec("web01", "stat -c %X /root/file") != host.exec("web01", "stat -c %Y /root/file")
    };
    let options = || host.exec("web01", "awk '$2 == \"/\" {print $4}' /proc/mounts");
    assert!(is_kept() && !options().contains("noatime"), "{}", options());
    host.ok(["set", "web01", "--noatime", "yes"]);
    assert!(is_kept(), "it is of its next life");
    host.reboots("web01");
    assert!(!is_kept() && options().contains("noatime"), "{}", options());
    // Nobody inside has it otherwise.
    host.run(["exec", "web01", "mount -o remount,relatime /"]);
    assert!(!is_kept());
    host.ok(["reinstall", "web01"]);
    assert!(!is_kept());
    host.ok(["set", "web01", "--noatime", "no"]);
    host.ok(["restart", "web01"]);
    assert!(is_kept() && !options().contains("noatime"), "{}", options());
}
