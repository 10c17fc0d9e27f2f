//! `prlctl exec` and `enter`: what reaches the program, what comes back, and that it is a process of the container in every respect.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed, and says where")]

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use testkit::{Ran, RealHost, Terminal};

fn new_host() -> Option<RealHost> {
    let host = RealHost::new(env!("CARGO_BIN_EXE_prlctl"))?;
    host.started("web01");
    Some(host)
}

/// `prlctl exec` with pipes for its three streams.
fn piped(host: &RealHost, words: &[&str]) -> Child {
    let mut command = host.prlctl();
    command.arg("exec").args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("run prlctl")
}

fn with_input(host: &RealHost, words: &[&str], input: &[u8]) -> (Ran, Vec<u8>) {
    let mut child = piped(host, words);
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    let raw = output.stdout.clone();
    (Ran::of(output), raw)
}

/// Bytes of every value, and no period that a buffer's size has.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_u32;
    (0..length)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
        .collect()
}

fn init_of(host: &RealHost, name: &str) -> i32 {
    let text = host.ok(["list", "-i", name, "-j"]);
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    json[0]["Init"].as_i64().expect("a running container has an init") as i32
}

#[test]
fn root_exec_joins_its_words_by_single_spaces_for_a_shell() {
    let Some(host) = new_host() else { return };
    assert_eq!(host.ok(["exec", "web01", "echo", "a   b", "$((1+1))", ";", "echo", "c"]), "a b 2\nc\n");
    assert_eq!(host.ok(["exec", "web01", "echo \"a   b\""]), "a   b\n");
    assert_eq!(host.ok(["exec", "web01", "ls", "-d", "/ro*"]), "/root\n");
    assert_eq!(host.exec("web01", "pwd"), "/");
}

#[test]
fn root_exec_prefers_bash_where_there_is_one() {
    let Some(host) = new_host() else { return };
    assert_eq!(host.exec("web01", "echo $0"), "sh");
    host.exec("web01", "printf '#!/bin/sh\\necho bash was called with: \"$@\"\\n' > /usr/local/bin/bash; chmod 755 /usr/local/bin/bash");
    assert_eq!(host.ok(["exec", "web01", "one", "two"]), "bash was called with: -c one two\n");
}

#[test]
fn root_exec_without_shell_gives_every_word_as_it_is() {
    let Some(host) = new_host() else { return };
    let words: [&[u8]; 9] = [b"a  b", b"", b"*", b"$HOME", b"it's", b"new\nline", b"-x", b"\xff\xfe", b"--"];
    let mut command = host.prlctl();
    command.args(["exec", "web01", "--without-shell", "/usr/bin/printf", "[%s]"]);
    command.args(words.map(OsStr::from_bytes));
    let output = command.output().unwrap();
    let wanted: Vec<u8> = words.iter().flat_map(|word| [b"[", *word, b"]"].concat()).collect();
    assert_eq!(output.stdout.clone(), wanted, "{}", Ran::of(output));
    // Looked for in PATH.
    assert_eq!(host.ok(["exec", "web01", "--without-shell", "echo", "found"]), "found\n");
}

#[test]
fn root_exec_reads_a_script_from_stdin() {
    let Some(host) = new_host() else { return };
    let (ran, _) =
        with_input(&host, &["web01", "-"], b"cd /root\nfor n in 1 2; do echo $n at $PWD; done\nexit 6\n");
    assert_eq!((ran.code, ran.stdout.as_str()), (6, "1 at /root\n2 at /root\n"), "{ran}");
}

#[test]
fn root_exec_passes_bytes_through_unchanged() {
    let Some(host) = new_host() else { return };
    let sent = noise(3 << 20);
    let (ran, got) = with_input(&host, &["web01", "cat"], &sent);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(got == sent, "{} bytes went in, {} came out", sent.len(), got.len());
    let (ran, _) = with_input(&host, &["web01", "cat >&2; echo out"], b"err");
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("out\n", "err"));
}

#[test]
fn root_exec_gives_large_output_whole() {
    let Some(host) = new_host() else { return };
    let output =
        host.prlctl().args(["exec", "web01", "dd if=/dev/zero bs=1M count=64 2>/dev/null"]).output().unwrap();
    assert_eq!(output.stdout.len(), 64 << 20);
    // On a terminal, too, where the last of it is still under way when the program has ended.
    let mut command = host.prlctl();
    command.args(["exec", "web01", "seq 1 20000"]);
    let (code, seen) = Terminal::run(&command, 24, 80).ends();
    assert_eq!((code, seen.lines().count()), (0, 20_000));
    assert!(seen.ends_with("20000\r\n"), "the last of it is missing");
}

#[test]
fn root_exec_ends_with_the_code_of_the_command() {
    let Some(host) = new_host() else { return };
    for (line, code) in
        [("true", 0), ("false", 1), ("exit 42", 42), ("exit 255", 255), ("/nowhere/nothing", 127)]
    {
        assert_eq!(host.run(["exec", "web01", line]).code, code, "{line}");
    }
    for (signal, code) in [("TERM", 143), ("KILL", 137), ("SEGV", 139), ("HUP", 129)] {
        let ran =
            host.run(["exec", "web01", "--without-shell", "/bin/sh", "-c", &format!("kill -{signal} $$")]);
        assert_eq!(ran.code, code, "{signal}: {ran}");
    }
}

#[test]
fn root_exec_of_what_cannot_be_executed_says_so() {
    let Some(host) = new_host() else { return };
    host.run(["exec", "web01", "--without-shell", "/nowhere/nothing"])
        .failed(8, &["cannot execute", "`/nowhere/nothing`", "hint:"]);
    host.run(["exec", "web01", "--without-shell", "/etc/passwd"])
        .failed(8, &["`/etc/passwd`", "ermission denied"]);
    host.ok(["stop", "web01"]);
    host.run(["exec", "web01", "true"])
        .failed(31, &["cannot execute in `web01`", "it does not run", "prlctl start web01"]);
    host.run(["exec", "web02x", "true"]).failed(14, &["unknown container `web02x`"]);
    // The options of the command are not ours.
    let ran = host.run(["exec", "web01", "ls", "-j"]);
    ran.failed(31, &["it does not run"]);
    assert_eq!(ran.stdout, "");
}

#[test]
fn root_exec_forwards_signals_to_the_command() {
    let Some(host) = new_host() else { return };
    let signals = [
        ("HUP", Signal::HUP),
        ("INT", Signal::INT),
        ("QUIT", Signal::QUIT),
        ("USR1", Signal::USR1),
        ("USR2", Signal::USR2),
        ("TERM", Signal::TERM),
    ];
    for (name, signal) in signals {
        let line =
            format!("trap 'echo got {name}; exit 9' {name}; sleep 1000 >/dev/null 2>&1 & echo ready; wait");
        let mut child = piped(&host, &["web01", &line]);
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let mut first = String::new();
        lines.read_line(&mut first).unwrap();
        assert_eq!(first, "ready\n");
        kill_process(Pid::from_child(&child), signal).unwrap();
        host.wait_until("it ends", || child.try_wait().unwrap().is_some());
        let mut rest = String::new();
        lines.read_to_string(&mut rest).unwrap();
        assert_eq!((rest, child.wait().unwrap().code()), (format!("got {name}\n"), Some(9)), "{name}");
    }
    // One that it does not handle ends it, and the code says so.
    let mut child =
        piped(&host, &["web01", "--without-shell", "/bin/sh", "-c", "echo ready; exec sleep 1000"]);
    let mut first = [0; 6];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    host.wait_until("it ends", || child.try_wait().unwrap().is_some());
    assert_eq!(child.wait().unwrap().code(), Some(143));
}

#[test]
fn root_exec_has_a_terminal_of_the_container_when_there_is_one() {
    let Some(host) = new_host() else { return };
    let (ran, _) = with_input(&host, &["web01", "tty; test -t 1 || echo no"], b"");
    assert_eq!(ran.stdout, "not a tty\nno\n");
    let mut command = host.prlctl();
    command
        .args(["exec", "web01", "tty && tty <&2 && stty size && ls -l /proc/self/fd && exit 3"])
        .env("TERM", "vt220");
    let (code, seen) = Terminal::run(&command, 33, 101).ends();
    assert_eq!(code, 3, "{seen}");
    assert!(seen.starts_with("/dev/pts/"), "{seen}");
    assert!(seen.contains("\r\n33 101\r\n"), "{seen}");
    // However soon it asks: never a window of no size.
    for _ in 0..10 {
        let mut command = host.prlctl();
        command.args(["exec", "web01", "--without-shell", "stty", "size"]);
        let (code, seen) = Terminal::run(&command, 33, 101).ends();
        assert_eq!((code, seen.as_str()), (0, "33 101\r\n"));
    }
    // Only stdin is one: then nothing of the host's terminal reaches the container, and bytes go through unchanged.
    let mut command = Command::new("sh");
    command.args([
        "-c",
        "\"$0\" exec web01 'tty; head -n 1 | cat -A' | cat -A",
        env!("CARGO_BIN_EXE_prlctl"),
    ]);
    command.env("REROOT_PREFIX", host.prefix());
    let terminal = Terminal::run(&command, 24, 80);
    terminal.types("typed\n");
    let (_, seen) = terminal.ends();
    assert!(seen.contains("not a tty$") && seen.contains("typed$$"), "{seen}");
}

#[test]
fn root_enter_opens_an_interactive_shell_whose_window_follows() {
    let Some(host) = new_host() else { return };
    let mut command = host.prlctl();
    command.args(["enter", "web01"]).env("TERM", "xterm-256color");
    let mut terminal = Terminal::run(&command, 30, 90);
    terminal.types("tty; stty size; echo term=$TERM.\n");
    terminal.expects("\n/dev/pts/");
    terminal.expects("\n30 90\r\n");
    terminal.expects("term=xterm-256color.");
    // The program in front learns of it.
    // Also when it learns before it waits.
    terminal.types("sh -c 'sleep 1000 & trap \"echo winch; kill $!\" WINCH; echo $((40 + 2)); wait'\n");
    terminal.expects("42\r\n");
    terminal.resizes(40, 120);
    terminal.expects("winch\r\n");
    // A shell that takes its terminal back throws away what was typed meanwhile.
    terminal.expects("# ");
    terminal.types("stty size\n");
    terminal.expects("\n40 120\r\n");
    // Keys that make signals do so inside, not out here.
    terminal.types("sh -c 'echo sleeps; exec sleep 1000'\n");
    terminal.expects("\nsleeps");
    terminal.types("\u{3}");
    terminal.expects("# ");
    terminal.types("echo still he''re\n");
    terminal.expects("still here");
    terminal.types("exit 5\n");
    let (code, seen) = terminal.ends();
    assert_eq!(code, 5, "{seen}");
}

#[test]
fn root_a_hung_up_terminal_ends_the_shell() {
    let Some(host) = new_host() else { return };
    let mut command = host.prlctl();
    command.args(["enter", "web01"]);
    let mut terminal = Terminal::run(&command, 24, 80);
    terminal.types("echo $$ > /tmp/shell; echo se''t\n");
    terminal.expects("set");
    let shell = host.exec("web01", "cat /tmp/shell");
    drop(terminal);
    host.wait_until("the shell ends", || host.run(["exec", "web01", &format!("kill -0 {shell}")]).code != 0);
}

/// What the kernel says of a process that has to be the same for all processes of a container.
fn standing(pid: i32) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(format!("/proc/{pid}/ns")).unwrap() {
        let entry = entry.unwrap();
        let link = std::fs::read_link(entry.path()).unwrap();
        found.insert(format!("ns/{}", entry.file_name().display()), link.display().to_string());
    }
    for file in ["uid_map", "gid_map", "setgroups"] {
        found.insert(file.to_owned(), std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap());
    }
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let keys = [
        "Uid",
        "Gid",
        "Groups",
        "CapInh",
        "CapPrm",
        "CapEff",
        "CapBnd",
        "CapAmb",
        "NoNewPrivs",
        "Seccomp",
        "Seccomp_filters",
    ];
    for line in status.lines() {
        let (key, value) = line.split_once(':').unwrap();
        if keys.contains(&key) {
            found.insert(key.to_owned(), value.trim().to_owned());
        }
    }
    found
}

#[test]
fn root_an_executed_process_is_in_everything_what_init_is() {
    let Some(host) = new_host() else { return };
    let init = init_of(&host, "web01");
    let mut child = piped(&host, &["web01", "--without-shell", "/bin/cat"]);
    child.stdin.as_mut().unwrap().write_all(b"!").unwrap();
    child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
    let pid = child_of(&host, child.id() as i32);

    let (wanted, got) = (standing(init), standing(pid));
    assert_eq!(got, wanted);
    for key in ["CapBnd", "Seccomp", "Seccomp_filters", "ns/user", "uid_map", "Groups"] {
        assert!(wanted.contains_key(key), "the kernel does not tell of {key}");
    }
    assert_eq!(wanted["Seccomp"], "2");
    let own = standing(std::process::id() as i32);
    for kind in ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup"] {
        assert_ne!(own[&format!("ns/{kind}")], wanted[&format!("ns/{kind}")], "{kind} is the host's");
    }
    // In each hierarchy below init's group, or in it.
    let groups = |pid: i32| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        let pairs = text
            .lines()
            .map(|line| line.rsplit_once(':').unwrap())
            .map(|(key, path)| (key.to_owned(), path.to_owned()));
        pairs.collect::<BTreeMap<_, _>>()
    };
    let (of_init, of_it, of_us) = (groups(init), groups(pid), groups(std::process::id() as i32));
    let uuid = host.area("web01").file_name().unwrap().to_string_lossy().into_owned();
    for (hierarchy, path) in &of_it {
        assert!(
            path.starts_with(&of_init[hierarchy]),
            "{hierarchy}: {path} is not below {}",
            of_init[hierarchy]
        );
        // A caller who is in no unit of a host's systemd has none to leave.
        let has_none = hierarchy.ends_with("name=systemd") && of_us[hierarchy] == "/";
        assert!(has_none || *path != of_us[hierarchy], "{hierarchy}: it is where its caller is");
        // What only a systemd of the host looks at has one group for all containers.
        assert!(
            path.contains(&uuid) || hierarchy.ends_with("name=systemd"),
            "{hierarchy}: {path} is not the container's"
        );
    }
    let root = |pid: i32| {
        std::fs::metadata(format!("/proc/{pid}/root/"))
            .map(|found| std::os::unix::fs::MetadataExt::dev(&found))
            .unwrap()
    };
    assert_eq!(root(pid), root(init));
    drop(child.stdin.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

/// The only child of a process, once what has joined the namespaces for it has ended.
fn child_of(host: &RealHost, parent: i32) -> i32 {
    let of = |pid: i32| -> Option<i32> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
    };
    let mut found = Vec::new();
    host.wait_until("it has one child", || {
        let entries = std::fs::read_dir("/proc").unwrap().flatten();
        found = entries
            .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
            .filter(|&pid| of(pid) == Some(parent))
            .collect();
        found.len() == 1
    });
    found[0]
}

#[test]
fn root_an_executed_process_gets_nothing_of_the_host() {
    let Some(host) = new_host() else { return };
    // A caller with descriptors, secrets, a directory, a umask and a group list of its own.
    let words = "cd /usr; umask 077; exec 7</etc/passwd 9</; exec \"$@\"";
    let run = |line: &str| {
        let mut command = Command::new("bash");
        command.args([
            "-c",
            words,
            "bash",
            env!("CARGO_BIN_EXE_prlctl"),
            "exec",
            "web01",
            "--without-shell",
            "/bin/sh",
            "-c",
            line,
        ]);
        let output = command
            .env("REROOT_PREFIX", host.prefix())
            .env("SECRET", "host")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let ran = Ran::of(output);
        assert_eq!(ran.code, 0, "{ran}");
        ran.stdout
    };
    assert_eq!(
        run("exec /bin/ls /proc/self/fd"),
        "0\n1\n2\n3\n",
        "the last one is that of ls on the directory"
    );
    assert_eq!(run("exec /bin/pwd"), "/\n");
    assert_eq!(run("umask; exec /usr/bin/id"), "0022\nuid=0(root) gid=0(root)\n");
    let mut environment: Vec<String> = run("exec /usr/bin/env").lines().map(str::to_owned).collect();
    environment.retain(|line| {
        !line.starts_with("PWD=") && !line.starts_with("OLDPWD=") && !line.starts_with("SHLVL=")
    });
    environment.sort();
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    assert_eq!(environment, ["HOME=/", path, "SHELL=/bin/sh"]);
    // No terminal of a former life: its session is its own.
    assert_eq!(run("cut -d' ' -f6 /proc/self/stat | grep -c '^0$' || true"), "0\n");
}

#[test]
fn root_what_a_command_leaves_behind_goes_on() {
    let Some(host) = new_host() else { return };
    host.exec("web01", "sleep 1000 >/dev/null 2>&1 </dev/null & echo $! > /tmp/pid");
    assert_eq!(host.exec("web01", "cat /proc/$(cat /tmp/pid)/comm"), "sleep");
    // Its limits and its kill are the container's.
    host.ok(["stop", "web01"]);
    host.run(["exec", "web01", "true"]).failed(31, &[]);
}

#[test]
fn root_a_long_command_keeps_nobody_from_stopping_the_container() {
    let Some(host) = new_host() else { return };
    let mut child = piped(&host, &["web01", "echo ready; exec sleep 1000"]);
    child.stdout.as_mut().unwrap().read_exact(&mut [0; 6]).unwrap();
    host.ok(["stop", "web01", "--kill"]);
    assert_eq!(child.wait().unwrap().code(), Some(137));
}

/// Neither waits for the other for ever: the program writes before it reads, more than a pipe holds, and is given more than a pipe holds.
#[test]
fn root_exec_carries_both_ways_at_once() {
    let Some(host) = new_host() else { return };
    let (input, output) = (host.path("input"), host.path("output"));
    let bytes = noise(3 << 20);
    host.write("input", "", 0o600);
    std::fs::File::options().write(true).open(&input).unwrap().write_all(&bytes).unwrap();
    let open = |path: &std::path::Path| {
        std::fs::File::options().read(true).write(true).create(true).truncate(false).open(path).unwrap()
    };
    let status = host
        .prlctl()
        .args(["exec", "web01", "head -c 1000000 /dev/zero; sleep 0.2; head -c 1000000 /dev/zero; cat"])
        .stdin(open(&input))
        .stdout(open(&output))
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(0));
    let out = std::fs::read(&output).unwrap();
    assert_eq!(out.len(), 2_000_000 + bytes.len());
    assert!(out[2_000_000..] == bytes[..]);
}
