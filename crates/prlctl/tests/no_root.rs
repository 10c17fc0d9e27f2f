//! What the commands say before they need root: help, version, errors in the command line, man pages and completions; and that they need it.

use std::path::Path;
use std::process::{Command, Stdio};

use std::os::unix::process::CommandExt;
use testkit::Ran;

/// The program by that name, as a user who is not root; `None` where it cannot become one.
fn as_nobody(name: &str, words: &[&str]) -> Option<Ran> {
    let mut command = if rustix::process::geteuid().is_root() {
        let program = Path::new(env!("CARGO_BIN_EXE_prlctl"));
        // The build's directory may be closed to others; an open descriptor is not.
        let file = std::fs::File::open(program).ok()?;
        rustix::io::fcntl_setfd(&file, rustix::io::FdFlags::empty()).ok()?;
        let number = std::os::fd::IntoRawFd::into_raw_fd(file);
        let mut command = Command::new("setpriv");
        command.args([
            "--reuid",
            "65534",
            "--regid",
            "65534",
            "--clear-groups",
            "bash",
            "-c",
            "name=$1; shift; exec -a \"$name\" \"$@\"",
            "bash",
            name,
        ]);
        command.arg(format!("/proc/self/fd/{number}"));
        command
    } else {
        let mut command = Command::new(env!("CARGO_BIN_EXE_prlctl"));
        command.arg0(name);
        command
    };
    command.args(words).stdin(Stdio::null()).env("REROOT_PREFIX", "/nonexistent-prefix").current_dir("/");
    Some(Ran::of(command.output().expect("run it")))
}

fn prlctl(words: &[&str]) -> Ran {
    run("prlctl", words)
}

fn run(name: &str, words: &[&str]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_prlctl"));
    command.arg0(name).args(words).stdin(Stdio::null()).env("REROOT_PREFIX", "/nonexistent-prefix");
    Ran::of(command.output().expect("run it"))
}

/// The visible commands, as the help lists them.
fn commands(name: &str) -> Vec<String> {
    let help = run(name, &["--help"]).stdout;
    let list = help.split("Commands:\n").nth(1).expect("the help lists the commands");
    let first_words =
        list.lines().take_while(|line| !line.is_empty()).filter(|line| !line.starts_with("     "));
    first_words.filter_map(|line| line.split_whitespace().next().map(str::to_owned)).collect()
}

#[test]
fn every_command_says_clearly_that_it_needs_root() {
    let commands: [&[&str]; 9] = [
        &["create", "web01", "--ostemplate", "busybox"],
        &["start", "web01"],
        &["stop", "web01"],
        &["status", "web01"],
        &["list", "-a"],
        &["exec", "web01", "true"],
        &["enter", "web01"],
        &["delete", "web01"],
        &["reinstall", "web01"],
    ];
    for words in commands {
        let Some(ran) = as_nobody("prlctl", words) else { return };
        let user =
            if rustix::process::geteuid().is_root() { 65534 } else { rustix::process::geteuid().as_raw() };
        ran.failed(
            5,
            &[
                "error: containers need root",
                &format!("because: this process runs as user {user}"),
                "state: nothing was changed",
                "hint: run it with sudo",
            ],
        );
        assert_eq!(ran.stdout, "", "{words:?}");
    }
    let Some(ran) = as_nobody("vzpkg", &["list"]) else { return };
    ran.failed(5, &["containers need root"]);
}

#[test]
fn info_names_what_is_missing_feature_by_feature() {
    let Some(ran) = as_nobody("prlctl", &["--version"]) else { return };
    assert_eq!(ran.code, 0, "{ran}");
    let mut command = Command::new(env!("CARGO_BIN_EXE_prlctl"));
    let ran = Ran::of(command.args(["info", "-j"]).env("REROOT_PREFIX", "/").output().unwrap());
    let json: serde_json::Value =
        serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran}"));
    let features = json["features"].as_array().unwrap();
    assert!(features.len() > 5);
    let is_able =
        features.iter().all(|feature| feature["is_required"] == false || feature["missing"].is_null());
    assert_eq!(json["can_run_containers"], is_able);
    assert_eq!(ran.code, if is_able { 0 } else { 5 });
}

#[test]
fn the_help_of_every_command_has_an_example() {
    for name in ["prlctl", "vzpkg", "vzctl"] {
        let commands = commands(name);
        assert!(commands.len() >= 3, "{commands:?}");
        for command in &commands {
            let ran = run(name, &[command, "--help"]);
            assert_eq!(ran.code, 0, "{ran}");
            let example = format!("\n  {name} {command}");
            assert!(
                ran.stdout.contains("Example") && ran.stdout.contains(&example),
                "{name} {command}: {ran}"
            );
            assert_eq!(run(name, &[command, "-h"]).code, 0);
        }
    }
    for wanted in [
        "create",
        "start",
        "stop",
        "restart",
        "status",
        "list",
        "exec",
        "enter",
        "delete",
        "mount",
        "umount",
        "reinstall",
        "generation-list",
        "generation-diff",
        "generation-switch",
        "generation-delete",
        "recover",
        "info",
    ] {
        assert!(commands("prlctl").iter().any(|command| command == wanted), "{wanted} is not in the help");
    }
}

#[test]
fn it_tells_its_version() {
    for (name, version) in
        [("prlctl", "prlctl"), ("vzpkg", "vzpkg"), ("vzctl", "vzctl"), ("vzlist", "vzlist")]
    {
        let ran = run(name, &["--version"]);
        assert_eq!((ran.code, ran.stdout), (0, format!("{version} {}\n", env!("CARGO_PKG_VERSION"))));
    }
}

#[test]
fn an_error_in_the_command_line_has_the_code_of_the_original() {
    for (words, code, said) in [
        (&["list", "--colour"][..], 20, "--colour"),
        (&["lst"], 20, "lst"),
        (&[], 20, ""),
        (&["start"], 20, "<CONTAINER>"),
        (&["stop"], 20, ""),
        (&["reinstall", "web01", "--undo", "--skipbackup"], 20, "--undo"),
        (&["reinstall", "web01", "--desc"], 20, "--listscripts"),
        (&["reinstall", "web01", "--timeout", "soon"], 21, "soon"),
        (&["reinstall", "web01", "--timeout", "0"], 21, "0"),
        (&["stop", "web01", "--timeout", "-1"], 20, ""),
        (&["stop", "web01", "--timeout", "x"], 21, "x"),
        (&["generation-switch", "web01", "minus"], 21, "minus"),
        (&["create", "web01", "--vmtype", "vm"], 21, "`vm`"),
        (&["create", "a/b"], 137, "name"),
    ] {
        let ran = prlctl(words);
        assert_eq!(ran.code, code, "{words:?}: {ran}");
        assert!(ran.stderr.starts_with("error: ") && ran.stderr.contains(said), "{words:?}: {ran}");
        assert_eq!(ran.stderr.matches("error:").count(), 1, "{ran}");
        assert_eq!(ran.stdout, "", "{words:?}");
    }
    // Before the root of the host is asked for, and never under the name of another program.
    run("vzctl", &["sart", "101"]).failed(20, &["did you mean `vzctl start`?"]);
    run("vzctl", &["create", "99"]).failed(21, &["up to 100 are reserved"]);
    run("vzlist", &["--al"]).failed(20, &["did you mean `--all`? `vzlist --help`"]);
    run("vzctl", &["--quiet", "reinstall", "101", "--password", "root:secret"]).failed(21, &["--password"]);
    run("vzpkg", &["create", "nonsense", "busybox"]).failed(21, &["nonsense"]);
    run("vzpkg", &["create", "cache", "../etc"]).failed(21, &["is no name of a template"]);
}

#[test]
fn a_slip_in_the_command_line_is_told_what_was_meant_and_never_to_pass_it_on() {
    for (words, hint) in [
        (&["list", "--al"][..], "did you mean `--all`? `prlctl list --help` tells what there is"),
        (&["reinstal", "web01"], "did you mean `prlctl reinstall`?"),
        (&["start", "web01", "-x"], "`prlctl start --help` tells what can be written there"),
        (&["create", "web01", "--xyzzy"], "`prlctl create --help` tells what can be written there"),
        (&["--xyzzy"], "`prlctl --help` tells what can be written there"),
        (&["start"], "Usage: prlctl start <CONTAINER>"),
    ] {
        let ran = prlctl(words);
        ran.failed(20, &[&format!("\n  hint: {hint}\n")]);
    }
    run("vzpkg", &["lsit"]).failed(20, &["hint: did you mean `vzpkg list`?\n"]);
}

#[test]
fn an_error_as_json_is_one_document_with_the_four_fields() {
    for (words, code, word) in [
        (&["create", "a/b", "-j"][..], 137, "bad-name"),
        (&["create", "web01", "--vmtype", "vm", "--json"], 21, "bad-value"),
        (&["list", "--colour", "-j"], 20, "bad-option"),
        (&["-j", "nonsense"], 20, "bad-option"),
    ] {
        let ran = prlctl(words);
        let json: serde_json::Value =
            serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran}"));
        let error = json["error"].as_object().unwrap();
        for key in ["code", "exit", "what", "because", "state", "hint"] {
            assert!(error.contains_key(key), "{key}: {ran}");
        }
        assert_eq!((ran.code, &error["exit"], &error["code"]), (code, &code.into(), &word.into()), "{ran}");
        assert_eq!(ran.stderr, "", "{words:?}");
    }
}

#[test]
fn man_pages_and_completions_are_made_for_every_command() {
    let directory = std::env::temp_dir().join(format!("reroot-generated-{}", std::process::id()));
    let text = directory.display().to_string();
    assert_eq!(prlctl(&["generate", "man", &text]).code, 0);
    assert_eq!(prlctl(&["generate", "completions", &text]).code, 0);
    let read = |name: &str| {
        std::fs::read_to_string(directory.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    };
    for name in ["prlctl", "vzpkg", "vzctl"] {
        let page = read(&format!("{name}.8"));
        assert!(page.contains(".TH"));
        // From the manual's table, whole.
        for code in ["0\ndone", "14\nno such", "91\nno such template", "129, 130, 143\nSIGHUP"] {
            assert!(page.contains(&format!(".TP\n{code}")), "{name} has no {code}: {page}");
        }
        assert_eq!(page.matches("\n.SH \"EXIT STATUS\"\n").count(), 1);
        for command in commands(name) {
            let page = read(&format!("{name}-{command}.8"));
            assert!(
                page.contains(".TH") && page.contains("SYNOPSIS") && page.contains("Example"),
                "{name}-{command}"
            );
            let (status, others) = page.split_once("\n.SH \"EXIT STATUS\"\n").unwrap_or_default();
            assert!(status.contains("SYNOPSIS") && others.contains(&format!("\\fB{name}\\fR(8).")), "{page}");
            let others = others.split_once("\n.SH \"SEE ALSO\"\n").unwrap_or_default().1;
            assert!(others.contains("\\fBprlctl\\fR(8), \\fBvzpkg\\fR(8)"), "{name}-{command}: {others}");
            let whole = read(&format!("{name}.8"));
            let link = format!("\\fB{name}\\-{}\\fR(8)", command.replace('-', "\\-"));
            assert!(whole.contains(&link), "{name} does not lead to {command}");
            for shell in [format!("bash/{name}"), format!("zsh/_{name}"), format!("fish/{name}.fish")] {
                assert!(read(&shell).contains(&command), "{shell} does not know {command}");
            }
        }
    }
    assert!(read("vzlist.8").contains("\\-\\-only\\-ctid") && read("bash/vzlist").contains("--only-ctid"));
    for (page, alias) in [
        ("prlctl-reinstall", "\\-\\-no\\-backup"),
        ("prlctl-reinstall", "\\-\\-no\\-scripts"),
        ("prlctl-reinstall", "\\-\\-ostemplates"),
        ("prlctl-create", "\\-\\-ostemplates"),
        ("prlctl-stop", "\\-\\-fast"),
    ] {
        let text = read(&format!("{page}.8"));
        assert!(text.contains(&format!("[also: {alias}]")), "{page} has no {alias}: {text}");
    }
    for hidden in ["empty-trash", "generate", "built-root"] {
        assert!(!directory.join(format!("prlctl-{hidden}.8")).exists(), "{hidden} has no page");
        for name in ["prlctl", "vzpkg"] {
            for file in [format!("bash/{name}"), format!("zsh/_{name}"), format!("fish/{name}.fish")] {
                assert!(!read(&file).contains(hidden), "{file} offers {hidden}");
            }
        }
    }
    let parent = std::fs::File::open(directory.parent().unwrap()).unwrap();
    tree::remove_entry(std::os::fd::AsFd::as_fd(&parent), directory.file_name().unwrap()).unwrap();
}
