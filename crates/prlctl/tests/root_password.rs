//! `prlctl reinstall --password USER:-`: the password lets its user in, and is nowhere but in the new root's shadow, as a hash.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::HashSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use testkit::{Ran, RealHost, Terminal};

const PASSWORD: &str = "Zwölf Boxkämpfer: $6$ jagen\\'\"";

/// A host with a running container `web01` in which root has a password, and so has joe.
fn with_container() -> Option<RealHost> {
    let host = RealHost::new(env!("CARGO_BIN_EXE_prlctl"))?;
    host.started("web01");
    host.exec(
        "web01",
        "echo 1 > /root/marker; echo 'joe:x:1000:1000::/home/joe:/bin/sh' >>/etc/passwd; echo 'joe:x:1000:' >>/etc/group; \
         echo 'joe:$6$salt$hash:20000:0:99999:7:::' >>/etc/shadow; sed -i 's/^root:!:/root:$6$salt$roothash:/' /etc/shadow",
    );
    Some(host)
}

fn begun(host: &RealHost, words: &[&str], given: &[u8]) -> Child {
    let mut command = host.prlctl();
    let command = command.args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // It may have refused the command line already.
    let _ = child.stdin.take().unwrap().write_all(given);
    child
}

/// Runs it with `given` on stdin.
fn run(host: &RealHost, words: &[&str], given: &[u8]) -> Ran {
    Ran::of(begun(host, words, given).wait_with_output().unwrap())
}

#[track_caller]
fn ok(host: &RealHost, words: &[&str]) -> Ran {
    let ran = run(host, words, format!("{PASSWORD}\n").as_bytes());
    assert_eq!(ran.code, 0, "{words:?}\n{ran}");
    ran
}

/// Somebody who is not root logs in as `user` with `password`; whether he is let in.
fn lets_in(host: &RealHost, user: &str, password: &str) -> bool {
    let mut command = host.prlctl();
    command.args([
        "exec",
        "web01",
        &format!("su nobody -s /bin/sh -c 'su {user} -c \"echo I am \\$(id -un)\"'"),
    ]);
    let mut terminal = Terminal::run(&command, 24, 80);
    terminal.expects("assword: ");
    terminal.types(&format!("{password}\n"));
    let (code, said) = terminal.ends();
    assert_eq!(code == 0, said.contains(&format!("I am {user}")), "{said}");
    code == 0
}

fn shadow(host: &RealHost, user: &str) -> String {
    host.exec("web01", &format!("grep '^{user}:' /etc/shadow"))
}

fn today() -> String {
    (std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() / 86_400)
        .to_string()
}

/// What of the host says `words` anywhere: files below the prefix but what is mounted, command lines and environments.
fn found(host: &RealHost, words: &str) -> HashSet<PathBuf> {
    let mut found = HashSet::new();
    let mut todo = vec![host.prefix()];
    let has = |path: &Path| {
        std::fs::read(path).is_ok_and(|bytes| bytes.windows(words.len()).any(|part| part == words.as_bytes()))
    };
    while let Some(directory) = todo.pop() {
        for entry in std::fs::read_dir(&directory).into_iter().flatten().flatten() {
            let path = entry.path();
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_dir() && path != host.path("vz/template") && path != host.path("run/vz") {
                todo.push(path);
            } else if kind.is_file() && has(&path) {
                found.insert(path);
            }
        }
    }
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let of_others =
            |name: &std::ffi::OsStr| !name.to_string_lossy().bytes().all(|byte| byte.is_ascii_digit());
        if of_others(&entry.file_name()) || entry.file_name() == std::process::id().to_string().as_str() {
            continue;
        }
        found.extend(
            ["cmdline", "environ"].map(|name| entry.path().join(name)).into_iter().filter(|path| has(path)),
        );
    }
    found
}

#[test]
fn root_a_given_password_lets_its_user_in_and_the_old_one_does_not() {
    let Some(host) = with_container() else { return };
    let ran = ok(&host, &["reinstall", "web01", "--password", "root:-"]);
    assert!(ran.stderr.contains("\nroot's password: the one that was given with --password\n"), "{ran}");
    assert!(ran.stderr.contains("\n`root` has the password that was given\n"), "{ran}");
    assert!(!ran.stderr.contains("keeps the old password"), "{ran}");
    let line = shadow(&host, "root");
    let fields: Vec<&str> = line.split(':').collect();
    assert!(fields[1].starts_with("$6$rounds=100000$"), "{line}");
    assert_eq!(
        (fields[2].to_owned(), &fields[3..]),
        (today(), &["0", "99999", "7", "", "", ""][..]),
        "{line}"
    );
    assert!(lets_in(&host, "root", PASSWORD));
    assert!(!lets_in(&host, "root", "another"));
    assert_eq!(shadow(&host, "joe"), "joe:$6$salt$hash:20000:0:99999:7:::", "others keep theirs");

    // joe's, and root keeps the one that he has; without a newline at the end, or with that of another system.
    for (given, user) in [("erstes", "joe"), ("zweites\r\n", "joe"), ("drittes\nviertes\n", "www-data")] {
        let ran = run(&host, &["reinstall", "web01", "--password", &format!("{user}:-")], given.as_bytes());
        assert_eq!(ran.code, 0, "{ran}");
        assert!(ran.stderr.contains("\nroot's password: the one of the old root\n"), "{ran}");
        assert!(shadow(&host, user).contains(":$6$rounds="));
        if user == "joe" {
            assert!(lets_in(&host, "joe", given.trim()), "{given}");
        }
    }
    assert!(lets_in(&host, "root", PASSWORD));
}

#[test]
fn root_a_given_password_is_set_whoever_makes_the_root() {
    let Some(host) = with_container() else { return };
    let script = "etc/vz/conf/vps.reinstall";
    let copy = "#!/bin/sh\nset -e\nread line && exit 7\nmkdir -p \"$VE_PRIVATE_TMP\"\ncp -a \"$OSTEMPLATE_ROOT/.\" \"$VE_PRIVATE_TMP/\"\n";
    for (text, options) in [
        (copy.to_owned(), &[][..]),
        (copy.to_owned(), &["--resetpwdb"]),
        (copy.replace("set -e", "exit 128"), &[]),
        (copy.replace("set -e", "exit 1"), &["--resetpwdb", "--skipscripts"]),
    ] {
        host.script(script, &text);
        ok(&host, &[&["reinstall", "web01", "--password", "root:-"], options].concat());
        assert!(lets_in(&host, "root", PASSWORD), "{options:?} {text}");
        let joe = host.run(["exec", "web01", "grep -q ^joe: /etc/passwd"]).code == 0;
        assert_eq!(joe, options.is_empty(), "{options:?}");
        if !joe {
            host.ok(["reinstall", "web01", "--undo"]);
        }
    }
    // No shadow file in the root that a script has made.
    host.script(script, &(copy.to_owned() + "rm \"$VE_PRIVATE_TMP/etc/shadow\"\n"));
    ok(&host, &["reinstall", "web01", "--password", "root:-", "--resetpwdb"]);
    assert!(lets_in(&host, "root", PASSWORD));
    assert_eq!(host.exec("web01", "stat -c %a:%u /etc/shadow"), "640:0");
    // Whom the script has not made can be given none: seen when it is there, and undone.
    let ran = run(&host, &["reinstall", "web01", "--password", "nonesuch:-"], b"x\n");
    ran.failed(
        94,
        &["because: the new root has no user `nonesuch`", "is on its old root again"]
            .map(|_| "the new root has no user `nonesuch`"),
    );
    ran.failed(94, &["state: nothing was lost: `web01` runs on its old root again", "hint: there are: root"]);
    assert!(lets_in(&host, "root", PASSWORD));
}

#[test]
fn root_a_given_password_is_nowhere_but_as_a_hash_in_shadow() {
    let Some(host) = with_container() else { return };
    let (ready, fifo) = (host.path("ready"), host.path("go-on"));
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    host.script(
        "etc/vz/conf/vps.reinstall",
        &format!("#!/bin/sh\n: >{}\nread -r word <{}\nexit 128\n", ready.display(), fifo.display()),
    );
    let words = ["reinstall", "web01", "--password", "root:-"];
    let given = format!("{PASSWORD}\n");
    let child = begun(&host, &words, given.as_bytes());
    // While its journal is there, and its processes.
    host.wait_until("the script runs", || ready.exists());
    assert!(host.area("web01").join("operation.json").exists());
    assert_eq!(found(&host, PASSWORD), HashSet::new());
    assert_eq!(found(&host, "$6$rounds="), HashSet::new());
    drop(std::fs::File::options().write(true).open(&fifo).unwrap());
    let ran = Ran::of(child.wait_with_output().unwrap());
    assert_eq!(ran.code, 0, "{ran}");
    host.script("etc/vz/conf/vps.reinstall", "#!/bin/sh\nexit 128\n");
    let json = run(&host, &[&words[..], &["-j"]].concat(), given.as_bytes());
    let document: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(document["root_password"], "given", "{json}");
    let plan = run(&host, &[&words[..], &["-j", "--dry-run"]].concat(), given.as_bytes());
    let text = run(&host, &[&words[..], &["--dry-run"]].concat(), given.as_bytes());
    assert!(text.stdout.contains("; the password that is given for `root`\n"), "{text}");
    for ran in [ran, json, plan, text] {
        assert_eq!(ran.code, 0, "{ran}");
        assert!(!ran.to_string().contains(PASSWORD) && !ran.to_string().contains("$6$"), "{ran}");
    }
    assert_eq!(found(&host, PASSWORD), HashSet::new());
    let with_hash = found(&host, "$6$rounds=");
    assert_eq!(with_hash.len(), 2, "{with_hash:?}");
    assert!(with_hash.iter().all(|path| path.ends_with("delta/etc/shadow")), "{with_hash:?}");
}

#[test]
#[cfg(debug_assertions)] // A release build has no fault points.
fn root_a_kill_before_the_commit_leaves_the_old_password() {
    let Some(host) = with_container() else { return };
    let before = shadow(&host, "root");
    host.ok(["stop", "web01"]);
    let journal = host.area("web01").join("operation.json");
    for (place, is_new) in [
        ("reinstall/carry/after", false),
        ("reinstall/commit/before", false),
        ("reinstall/commit/after", true),
    ] {
        let mut command = host.prlctl();
        command.env("REROOT_FAULT", format!("{place}:kill")).args([
            "reinstall",
            "web01",
            "--password",
            "root:-",
        ]);
        let mut child = command.stdin(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(b"geheim\n").unwrap();
        assert!(!child.wait().unwrap().success());
        // The hash is in the new root already, and in no journal.
        let text = std::fs::read_to_string(&journal).unwrap();
        assert!(!text.contains("$6$") && !text.contains("geheim"), "{text}");
        host.ok(["recover", "web01"]);
        assert!(!journal.exists());
        host.ok(["start", "web01"]);
        assert_eq!(shadow(&host, "root") != before, is_new, "{place}");
        assert_eq!(lets_in(&host, "root", "geheim"), is_new, "{place}");
        host.ok(["stop", "web01"]);
    }
}

#[test]
fn root_what_cannot_be_a_password_is_refused_before_anything_is_touched() {
    let Some(host) = with_container() else { return };
    let (uuid, before) = (host.area("web01"), host.ok(["generation-list", "web01", "--all", "-j"]));
    let state = |host: &RealHost| {
        assert_eq!(host.ok(["generation-list", "web01", "--all", "-j"]), before);
        assert!(!uuid.join("operation.json").exists() && host.ok(["status", "web01"]).contains(" running"));
        assert_eq!(shadow(host, "root"), "root:$6$salt$roothash:20000:0:99999:7:::");
    };
    let long = "x".repeat(257) + "\n";
    for (given, because) in [
        ("", "it is empty"),
        ("\n", "it is empty"),
        ("\r\n", "it is empty"),
        ("\nsecret\n", "it is empty"),
        ("sec\0ret\n", "there is a control character in it"),
        ("sec\tret\n", "there is a control character in it"),
        ("secret\r\r\n", "there is a control character in it"),
        (&long, "it is longer than 256 bytes"),
    ] {
        let ran = run(&host, &["reinstall", "web01", "--password", "root:-"], given.as_bytes());
        let said = [
            "error: the password for `root` cannot be used\n",
            because,
            "state: nothing was changed\n",
            "hint: ",
        ];
        ran.failed(21, &said);
        assert!(!ran.to_string().contains("ret"), "{ran}");
        state(&host);
    }
    for (words, code, said) in [
        (&["--password", "nonesuch:-"][..], 21, "hint: there will be: root, joe"),
        (&["--password", "joe:-", "--resetpwdb"], 21, "because: the new root will have no user `joe`"),
        (&["--password", "root:-", "--undo"], 20, "--undo"),
        (&["--password", "root:-", "--listscripts"], 20, "--listscripts"),
        (&["--password", "root:-", "--password", "joe:-"], 20, "multiple times"),
        (&["--password", "root:secret"], 21, "every process list shows"),
        (&["--password=root:secret"], 21, "every process list shows"),
        (&["--password", "root", "secret"], 21, "every process list shows"),
        (&["--password", "root:secret", "--nonesuch"], 21, "every process list shows"),
        (&["--password", "root:-", "secret"], 20, "it may be a password"),
        (&["--password", "root:secret", "-j"], 21, ""),
        (&["--password"], 21, "--password <USER:->"),
    ] {
        let ran = run(&host, &[&["reinstall", "web01"], words].concat(), b"x\n");
        ran.failed(code, &[said]);
        assert!(!ran.to_string().contains("secret"), "{ran}");
        if !words.contains(&"-j") {
            ran.failed(code, &["error: ", "state: nothing was changed"]);
        }
        state(&host);
    }
    run(&host, &["reinstall", "nonesuch", "--password", "root:-"], b"").failed(14, &["unknown container"]);
    // The longest that there may be.
    let ran = run(&host, &["reinstall", "web01", "--dry-run", "--password", "root:-"], &long.as_bytes()[1..]);
    assert_eq!(ran.code, 0, "{ran}");
    assert_eq!(found(&host, "secret"), HashSet::new());
}

/// A shell on a terminal that runs `line`, and then tells of the code and of the terminal.
fn on_a_terminal(host: &RealHost, line: &str) -> Terminal {
    let mut command = Command::new("sh");
    command.env("REROOT_PREFIX", host.prefix()).arg("-c");
    let program = env!("CARGO_BIN_EXE_prlctl");
    command.arg(format!(
        "ulimit -c 0; trap : INT QUIT; {program} {line}; echo code=$?; stty -a | tr '; ' '\\n\\n' | grep -x -e '-*echo'"
    ));
    Terminal::run(&command, 24, 200)
}

#[test]
fn root_on_a_terminal_it_is_asked_for_and_not_shown() {
    let Some(host) = with_container() else { return };
    let mut terminal = on_a_terminal(&host, "reinstall web01 --password joe:-");
    terminal.expects("password for `joe` of `web01`: ");
    // What is taken back is none of it.
    terminal.types("gex\u{7f}heim\n");
    let said = terminal.expects("code=0");
    assert!(!said.contains("geh") && !said.contains("hei"), "{said}");
    assert_eq!(terminal.ends().1.trim(), "echo");
    assert!(lets_in(&host, "joe", "geheim"));

    // ^C and ^\ leave the terminal as it was, and nothing has happened; nor does anything of a line that is too long reach the shell.
    let roots = host.ok(["generation-list", "web01", "--all", "-j"]);
    for (typed, code) in
        [("\u{3}", "code=130"), ("halb\u{3}", "code=130"), ("\u{1c}", "code=131"), ("\u{4}", "code=21")]
    {
        let mut terminal = on_a_terminal(&host, "reinstall web01 --password joe:-");
        terminal.expects("`web01`: ");
        terminal.types(typed);
        let said = terminal.expects(code);
        assert!(!said.contains("halb"), "{said}");
        if code == "code=130" {
            assert!(
                said.contains("error: cannot reinstall `web01`") && said.contains("nothing of it had begun"),
                "{said}"
            );
        }
        assert_eq!(terminal.ends().1.trim(), "echo", "{typed:?}");
    }
    let mut terminal = on_a_terminal(&host, "reinstall web01 --password joe:-");
    terminal.expects("`web01`: ");
    terminal.types(&format!("{}secret\n", "x".repeat(1000)));
    let said = terminal.expects("code=21");
    assert!(said.contains("it is longer than 256 bytes") && !said.contains("xx"), "{said}");
    assert_eq!(terminal.ends().1.trim(), "echo");
    assert_eq!(host.ok(["generation-list", "web01", "--all", "-j"]), roots);
    assert!(lets_in(&host, "joe", "geheim"));
}

#[test]
fn root_the_report_says_which_password_is_valid_for_root() {
    let Some(host) = with_container() else { return };
    let told = |options: &[&str]| -> (String, String) {
        let ran = host.run([&["reinstall", "web01"], options].concat());
        assert_eq!(ran.code, 0, "{ran}");
        let line =
            ran.stderr.lines().find(|line| line.contains("root's password: ")).unwrap_or_default().to_owned();
        host.ok(["reinstall", "web01", "--undo"]);
        let ran = host.run([&["reinstall", "web01", "-j"], options].concat());
        let document: serde_json::Value =
            serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran}"));
        host.ok(["reinstall", "web01", "--undo"]);
        (line, document["root_password"].as_str().unwrap_or_default().to_owned())
    };
    let is = |found: (String, String), line: &str, word: &str| {
        assert_eq!((found.0.as_str(), found.1.as_str()), (line, word))
    };
    is(told(&[]), "root's password: the one of the old root", "old");
    is(told(&["--resetpwdb"]), "root's password: none, root cannot log in with one (locked)", "locked");
    let configure = |text: &str| host.script("etc/vz/conf/vps.configure", &format!("#!/bin/sh\n{text}\n"));
    configure("sed -i 's/^root:[^:]*:/root:$6$x$y:/' /etc/shadow");
    is(told(&[]), "root's password: the one that something inside the new root has set", "changed");
    configure("sed -i 's/^root:[^:]*:/root::/' /etc/shadow");
    is(told(&["--resetpwdb"]), "warning: root's password: it is EMPTY, anybody can log in as root", "empty");
}
