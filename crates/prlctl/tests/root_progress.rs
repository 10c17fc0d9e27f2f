//! How an operation goes, on a terminal: the step under way with its seconds, and everything else above it; and that nothing of it stays.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use testkit::{RealHost, Terminal};

const CONFIGURE: &str = "etc/vz/conf/vps.configure";

fn with_container() -> Option<RealHost> {
    let host = RealHost::new(env!("CARGO_BIN_EXE_prlctl"))?;
    host.started("web01");
    Some(host)
}

fn on_terminal(host: &RealHost, kind: &str, words: &[&str]) -> Terminal {
    let mut command: Command = host.prlctl();
    command.args(words).env("TERM", kind);
    Terminal::run(&command, 24, 100)
}

/// Those that draw, and have the host's prefix in their environment.
fn drawing(host: &RealHost) -> usize {
    let is_one = |entry: &std::fs::DirEntry| {
        let read = |name: &str| std::fs::read(entry.path().join(name)).unwrap_or_default();
        let holds = |bytes: &[u8], words: &str| bytes.windows(words.len()).any(|one| one == words.as_bytes());
        holds(&read("cmdline"), "draw-progress")
            && holds(&read("environ"), &host.prefix().display().to_string())
    };
    std::fs::read_dir("/proc").unwrap().flatten().filter(is_one).count()
}

/// A script that goes on when somebody opens the gate, which is returned.
fn gated(host: &RealHost) -> PathBuf {
    let gate = host.path("vz/gate");
    assert!(Command::new("mkfifo").arg(&gate).status().unwrap().success());
    let text =
        format!("#!/bin/sh\necho it waits\nread line <{}\necho it went on\nexit 128\n", gate.display());
    host.script("etc/vz/conf/vps.reinstall", &text);
    gate
}

fn open(gate: &Path) {
    let mut gate = std::fs::OpenOptions::new().write(true).open(gate).unwrap();
    gate.write_all(b"go on\n").unwrap();
}

#[test]
fn root_a_terminal_shows_the_step_that_is_under_way_and_for_how_long() {
    let Some(host) = with_container() else { return };
    let gate = gated(&host);
    let mut terminal = on_terminal(&host, "xterm", &["reinstall", "web01"]);
    terminal.expects("vps.reinstall: it waits");
    // Drawn again and again, without anything happening.
    terminal.expects("Running vps.reinstall...");
    terminal.expects("0.3 s");
    terminal.expects("0.5 s");
    open(&gate);
    terminal.expects("vps.reinstall: it went on");
    let (code, rest) = terminal.ends();
    assert_eq!(code, 0, "{rest}");
    let last = rest.rsplit("\u{1b}[2K").next().unwrap();
    assert!(
        last.starts_with("The CT has been successfully reinstalled."),
        "nothing drawn is left before it: {rest:?}"
    );
    assert_eq!(drawing(&host), 0);

    // One that cannot be drawn on gets plain lines, as a pipe does.
    host.script("etc/vz/conf/vps.reinstall", "#!/bin/sh\nexit 128\n");
    for kind in ["dumb", ""] {
        let (code, said) = on_terminal(&host, kind, &["reinstall", "web01"]).ends();
        assert_eq!(code, 0, "{said}");
        assert!(!said.contains('\u{1b}') && said.contains("Stopping the CT...\r\n"), "{said:?}");
    }
    let (_, said) = on_terminal(&host, "xterm", &["reinstall", "web01", "-j"]).ends();
    assert!(!said.contains('\u{1b}'), "{said:?}");
}

#[test]
fn root_an_error_on_a_terminal_is_whole_and_ctrl_c_is_heard_by_the_one_that_works() {
    let Some(host) = with_container() else { return };
    host.script(CONFIGURE, "echo first; exit 3\n");
    let (code, said) = on_terminal(&host, "xterm", &["reinstall", "web01"]).ends();
    assert_eq!(code, 94);
    let last = said.rsplit("\u{1b}[2K").next().unwrap();
    assert!(last.starts_with("error: cannot reinstall `web01`\r\n  because: "), "{said:?}");
    assert!(last.contains("\r\n  hint: "), "{said:?}");

    gated(&host);
    let mut terminal = on_terminal(&host, "xterm", &["reinstall", "web01"]);
    terminal.expects("vps.reinstall: it waits");
    terminal.types("\u{3}");
    terminal.expects("SIGINT: undoing it");
    let (code, said) = terminal.ends();
    assert_eq!(code, 130, "{said}");
    assert!(said.contains("runs on its old root again, generation 1"), "{said}");
    assert_eq!(drawing(&host), 0);
}

#[test]
fn root_what_draws_ends_with_the_one_that_is_killed() {
    let Some(host) = with_container() else { return };
    gated(&host);
    let mut terminal = on_terminal(&host, "xterm", &["reinstall", "web01"]);
    terminal.expects("vps.reinstall: it waits");
    assert_eq!(drawing(&host), 1);
    let uuid = host.ok(["list", "-H", "-o", "uuid", "web01"]).trim().trim_matches(['{', '}']).to_owned();
    let journal = std::fs::read_to_string(host.path("vz/private").join(uuid).join("operation.json")).unwrap();
    let pid = serde_json::from_str::<serde_json::Value>(&journal).unwrap()["pid"].as_i64().unwrap();
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    host.wait_until("nothing draws any more", || drawing(&host) == 0);
    host.ok(["recover", "web01"]);
}
