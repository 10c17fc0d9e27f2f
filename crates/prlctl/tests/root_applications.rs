//! Images of applications: a container whose root has no init runs what the image says, under the small one.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed, and says where")]
#![expect(clippy::disallowed_methods, reason = "the images are the test's own")]

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use testkit::attack::UnderWay;
use testkit::{ImageMaker, Ran, RealHost, TarHeader, TarMaker};

const PROGRAM: &str = env!("CARGO_BIN_EXE_prlctl");

/// What an application tells of itself, until it is told to stop.
const TELLING: &str = r#"#!/bin/sh
trap 'echo told to stop >>/state/log; exit 7' USR1
trap 'echo heard HUP >>/state/log' HUP
{ echo "arguments $*"; echo "ids $(id -u) $(id -g) $(id -G)"; echo "in $PWD"; echo "home $HOME"; echo "color $COLOR"
  echo "path $PATH"; echo "name $HOSTNAME"; echo "parent $PPID"; } >>/state/log
echo to the console
while :; do sleep 1000 & wait $!; done
"#;

/// A root without an init: busybox, users, and a place to write to.
fn root() -> TarMaker {
    let mut state = TarHeader::new(b'5', b"state");
    let links = [
        "sh", "sleep", "id", "cat", "ls", "ps", "cp", "dd", "readlink", "grep", "false", "kill", "env",
        "mkdir",
    ];
    let root = TarMaker::new()
        .directory("bin")
        .executable("bin/busybox", &std::fs::read("/bin/busybox").unwrap())
        .directory("etc")
        .file("etc/passwd", b"root:x:0:0::/root:/bin/sh\napp:x:1000:100::/srv/app:/bin/sh\n")
        .file("etc/group", b"root:x:0:\nusers:x:100:\nadm:x:4:app\nlog:x:5:app\n")
        .header(state.mode(0o1777))
        .executable("bin/tell", TELLING.as_bytes());
    links.iter().fold(root, |root, name| root.link(b'2', &format!("bin/{name}"), "busybox"))
}

/// Makes a template of an image with that root.
fn template(host: &RealHost, name: &str, root: TarMaker, config: &Value, more: &[&str]) -> Ran {
    let layout = host.path(&format!("layout-{name}"));
    let _ = std::fs::remove_dir_all(&layout);
    ImageMaker::new().layer(&root.finish(), Some("gzip")).config(config.clone()).named("x").layout(&layout);
    vzpkg(host, name, &layout, more)
}

fn vzpkg(host: &RealHost, name: &str, from: &Path, more: &[&str]) -> Ran {
    let mut command = host.vzpkg();
    Ran::of(command.args(["create", "cache", name, "--from"]).arg(from).args(more).output().unwrap())
}

fn made(host: &RealHost, name: &str, config: &Value) {
    let ran = template(host, name, root(), config, &[]);
    assert_eq!(ran.code, 0, "{ran}");
}

fn telling() -> Value {
    json!({
        "Entrypoint": ["tell", "one"], "Cmd": ["two words"], "User": "app", "WorkingDir": "/srv/work",
        "Env": ["COLOR=red=blue", "PATH=/usr/bin:/bin"], "StopSignal": "SIGUSR1",
    })
}

fn record(host: &RealHost, name: &str) -> Value {
    let path = host.path(&format!("vz/template/{name}/latest/template.json"));
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn log_has(host: &RealHost, container: &str, line: &str) {
    host.wait_until(line, || host.exec(container, "cat /state/log").lines().any(|found| found == line));
}

#[test]
fn root_an_application_runs_as_its_image_says() {
    let Some(host) = RealHost::bare(PROGRAM) else { return };
    made(&host, "app", &telling());
    let record = record(&host, "app");
    assert_eq!((&record["init"], &record["stop_signal"]), (&"/bin/tell".into(), &"SIGUSR1".into()));
    assert_eq!(record["application"]["arguments"], json!(["tell", "one", "two words"]));
    host.ok(["create", "web01", "--ostemplate", "app"]);
    host.ok(["start", "web01"]);
    for line in [
        "arguments one two words",
        "ids 1000 100 100 4 5",
        "in /srv/work",
        "home /srv/app",
        "color red=blue",
        "path /usr/bin:/bin",
        "name web01",
        "parent 1",
    ] {
        log_has(&host, "web01", line);
    }
    assert!(host.ok(["status", "web01"]).contains("running"));
    assert_eq!(host.exec("web01", "cat /proc/1/comm"), "init");
    // Orphans do not stay.
    host.exec("web01", "sh -c '(sleep 0.05; exit 3) & exit'");
    host.wait_until("the orphan is gone", || {
        !host.exec("web01", "ps -o stat,args").lines().any(|line| line.starts_with('Z'))
    });
    // What somebody inside sends to process 1 the program gets, and nothing else does.
    host.exec("web01", "kill -HUP 1; kill -KILL 1; kill -SEGV 1; kill -STOP 1; kill -CHLD 1");
    log_has(&host, "web01", "heard HUP");
    host.ok(["restart", "web01"]);
    assert_eq!(host.exec("web01", "grep -c 'told to stop' /state/log"), "1");
    log_has(&host, "web01", "parent 1");
    host.ok(["stop", "web01"]);
    assert!(host.ok(["status", "web01"]).contains("stopped"));
    host.ok(["start", "web01"]);
    assert_eq!(host.exec("web01", "grep -c 'told to stop' /state/log"), "2");
    assert!(console_log(&host).contains("to the console"), "{}", console_log(&host));
    assert!(console_log(&host).contains("its program ended with exit code 7"), "{}", console_log(&host));
}

/// All consoles of the host.
fn console_log(host: &RealHost) -> String {
    let all = Command::new("find")
        .arg(host.path("var/log/vz"))
        .args(["-type", "f", "-exec", "cat", "{}", "+"])
        .output();
    String::from_utf8_lossy(&all.unwrap().stdout).into_owned()
}

#[test]
fn root_an_application_ends_its_container_whenever_it_ends() {
    let Some(host) = RealHost::bare(PROGRAM) else { return };
    made(
        &host,
        "app",
        &json!({ "Cmd": ["/bin/sh", "-c", "while ! [ -e /state/end ]; do sleep 0.1; done; sleep 1000 & exit 3"] }),
    );
    host.ok(["create", "web01", "--ostemplate", "app"]);
    host.ok(["start", "web01"]);
    host.exec("web01", ": >/state/end");
    host.wait_until("it has stopped", || host.ok(["status", "web01"]).contains("stopped"));
    assert!(console_log(&host).contains("its program ended with exit code 3"));
    // At once, next time.
    let ran = host.run(["start", "web01"]);
    ran.failed(3, &["cannot start `web01`", "its program ended with exit code 3"]);
}

/// A program without a handler for it dies of the signal, as it would not as process 1; one that does not listen is killed in the end.
#[test]
fn root_an_application_is_stopped_whether_it_listens_or_not() {
    let Some(host) = RealHost::bare(PROGRAM) else { return };
    made(&host, "plain", &json!({ "Cmd": ["sleep", "1000"] }));
    made(
        &host,
        "deaf",
        &json!({ "Cmd": ["sh", "-c", "trap '' TERM; while :; do sleep 1000; done"], "StopSignal": "SIGFOO" }),
    );
    for name in ["plain", "deaf"] {
        host.ok(["create", name, "--ostemplate", name]);
        host.ok(["start", name]);
    }
    let began = std::time::Instant::now();
    host.ok(["stop", "plain", "--timeout", "60"]);
    assert!(began.elapsed() < testkit::patience(30), "{:?}", began.elapsed());
    host.ok(["stop", "deaf", "--timeout", "1"]);
    assert!(host.ok(["status", "deaf"]).contains("stopped"));
}

#[test]
fn root_an_application_is_reinstalled_to_and_from() {
    let Some(host) = RealHost::bare(PROGRAM) else { return };
    assert_eq!(Ran::of(host.vzpkg().args(["create", "cache", "busybox"]).output().unwrap()).code, 0);
    made(&host, "app", &telling());
    host.ok(["create", "web01", "--ostemplate", "app"]);
    host.ok(["start", "web01"]);
    host.exec("web01", "echo mine >/state/mine");
    host.ok(["reinstall", "web01"]);
    assert_eq!(host.exec("web01", "cat /old/state/mine; ls /state/mine 2>&1 | grep -c No"), "mine\n1");
    log_has(&host, "web01", "parent 1");
    host.ok(["reinstall", "web01", "--ostemplate", "busybox"]);
    assert_eq!(host.exec("web01", "cat /old/old/state/mine; ls /sbin/init"), "mine\n/sbin/init");
    host.ok(["reinstall", "web01", "--undo"]);
    log_has(&host, "web01", "parent 1");
    host.ok(["reinstall", "web01", "--undo"]);
    assert_eq!(host.exec("web01", "cat /state/mine"), "mine");
    // A stopped one, with a script to run in it.
    host.ok(["stop", "web01"]);
    host.script("etc/vz/conf/vps.configure", "#!/bin/sh\necho configured >/state/configured\n");
    host.ok(["reinstall", "web01"]);
    host.ok(["start", "web01"]);
    assert_eq!(host.exec("web01", "cat /state/configured"), "configured");
}

#[test]
fn root_an_application_that_does_not_go_on_is_no_new_root() {
    let Some(host) = RealHost::bare(PROGRAM) else { return };
    made(&host, "good", &telling());
    host.ok(["create", "web01", "--ostemplate", "good"]);
    host.ok(["start", "web01"]);
    host.exec("web01", "echo mine >/state/mine");
    for (name, config, because) in [
        ("ends", json!({ "Cmd": ["false"] }), "its program ended with exit code 1"),
        (
            "later",
            json!({ "Cmd": ["sh", "-c", "sleep 0.7; echo no database; exit 9"] }),
            "its program ended with exit code 9",
        ),
        (
            "who",
            json!({ "Cmd": ["sleep", "1000"], "User": "nobody-knows" }),
            "there is no user `nobody-knows`",
        ),
        ("group", json!({ "Cmd": ["sleep", "1000"], "User": "app:none" }), "there is no group `none`"),
        ("many", json!({ "Cmd": ["sleep", "1000"], "User": "4000000" }), "user: "),
        (
            "where",
            json!({ "Cmd": ["sleep", "1000"], "WorkingDir": "/etc/passwd" }),
            "it cannot be started in `/etc/passwd`",
        ),
    ] {
        made(&host, name, &config);
        let ran = host.run(["reinstall", "web01", "--ostemplate", name]);
        ran.failed(94, &[because, "runs on its old root again"]);
        assert_eq!(host.exec("web01", "cat /state/mine"), "mine", "{name}");
    }
    let ran = host.run(["reinstall", "web01", "--ostemplate", "later"]);
    ran.failed(94, &["no database"]);
}

/// Neither a shell, nor users, nor anything else: one program that needs nothing.
#[test]
fn root_an_application_needs_nothing_but_itself() {
    let Some(host) = RealHost::bare(PROGRAM) else { return };
    let busybox = std::fs::read("/bin/busybox").unwrap();
    let bare = || TarMaker::new().executable("sleep", &busybox);
    let ran = template(
        &host,
        "bare",
        bare(),
        &json!({ "Entrypoint": ["/sleep", "1000"], "User": "65534:65534" }),
        &[],
    );
    assert_eq!(ran.code, 0, "{ran}");
    host.ok(["create", "web01", "--ostemplate", "bare"]);
    host.ok(["start", "web01"]);
    host.ok(["reinstall", "web01"]);
    assert!(host.ok(["status", "web01"]).contains("running"));
    host.ok(["stop", "web01"]);
}

#[test]
fn root_what_an_image_says_is_overridden_and_refused() {
    let Some(host) = RealHost::bare(PROGRAM) else { return };
    let config = telling();
    // A program named by hand is process 1 itself.
    let ran = template(&host, "hand", root(), &config, &["--init", "/bin/tell", "--stop-signal", "SIGTERM"]);
    assert_eq!(ran.code, 0, "{ran}");
    let found = record(&host, "hand");
    assert_eq!((&found["application"], &found["stop_signal"]), (&Value::Null, &"SIGTERM".into()));
    // One with an init starts that, and says so; unless it is told otherwise.
    let with_init = || root().directory("sbin").executable("sbin/init", b"#!/bin/sh\nexec sleep 1000\n");
    let ran = template(&host, "both", with_init(), &config, &[]);
    assert!(ran.code == 0 && ran.stderr.contains("is only run with `--entry-point`"), "{ran}");
    assert_eq!(record(&host, "both")["application"], Value::Null);
    let ran = template(&host, "both", with_init(), &config, &["--entry-point"]);
    assert_eq!(ran.code, 0, "{ran}");
    assert_eq!(record(&host, "both")["init"], "/bin/tell");
    let ran = template(&host, "shell", with_init(), &json!({ "Cmd": ["/bin/sh"] }), &[]);
    assert!(ran.code == 0 && !ran.stderr.contains("entry-point"), "{ran}");
    // The same files with something else to run are another version, and whole.
    let other = json!({ "Cmd": ["tell", "other"] });
    assert_eq!(template(&host, "both", with_init(), &other, &["--entry-point"]).code, 0);
    assert_eq!(record(&host, "both")["application"]["arguments"][1], "other");
    assert_eq!(Ran::of(host.vzpkg().args(["verify", "both"]).output().unwrap()).code, 0);
    // A container that runs one is a template for others that do.
    host.ok(["create", "web01", "--ostemplate", "both"]);
    assert_eq!(vzpkg(&host, "golden", Path::new("container:web01"), &[]).code, 0);
    assert_eq!(record(&host, "golden")["application"], record(&host, "both")["application"]);
    assert_eq!(record(&host, "golden")["stop_signal"], record(&host, "both")["stop_signal"]);

    let refused = |config: &Value, more: &[&str], said: &str| {
        template(&host, "refused", root(), config, more).failed(21, &[said, "nothing was changed"]);
        assert!(!host.path("vz/template/refused").exists());
    };
    refused(&json!({}), &[], "it has no init");
    refused(&json!({ "Entrypoint": [], "Cmd": null }), &["--entry-point"], "it has no init");
    refused(&json!({ "Cmd": ["nonesuch"] }), &[], "it has no init, and no program `nonesuch`");
    refused(&json!({ "Cmd": ["./tell"], "WorkingDir": "/srv" }), &[], "no program `./tell`");
    refused(&json!({ "Cmd": ["/etc/passwd"] }), &[], "no program `/etc/passwd`");
    refused(&json!({ "Cmd": [""] }), &[], "no program ``");
    refused(
        &json!({ "Cmd": ["tell"], "Env": ["X=".to_owned() + &"x".repeat(40_000)] }),
        &[],
        "no more than 32768 may be",
    );
    let ran = template(&host, "told", root(), &json!({ "Cmd": ["tell"], "StopSignal": "SIGKILL" }), &[]);
    assert!(
        ran.code == 0 && ran.stderr.contains("`SIGKILL` is no signal that a program could be stopped with"),
        "{ran}"
    );
}

/// As a public tool builds one.
#[test]
fn root_an_application_in_an_image_of_umoci_runs() {
    let Some(host) = RealHost::bare(PROGRAM) else { return };
    let layout = host.path("layout");
    let umoci = |words: &[&str]| {
        let ran = Ran::of(Command::new("umoci").args(words).output().unwrap());
        assert_eq!(ran.code, 0, "umoci {words:?}: {ran}");
    };
    let (at, image) = (layout.to_str().unwrap(), format!("{}:latest", layout.display()));
    let bundle = host.path("bundle");
    umoci(&["init", "--layout", at]);
    umoci(&["new", "--image", &image]);
    umoci(&["unpack", "--image", &image, bundle.to_str().unwrap()]);
    let tar = host.path("root.tar");
    std::fs::write(&tar, root().finish()).unwrap();
    assert!(
        Command::new("tar")
            .arg("-C")
            .arg(bundle.join("rootfs"))
            .arg("-xpf")
            .arg(&tar)
            .status()
            .unwrap()
            .success()
    );
    umoci(&["repack", "--image", &image, bundle.to_str().unwrap()]);
    umoci(&[
        "config",
        "--image",
        &image,
        "--config.entrypoint",
        "/bin/tell",
        "--config.cmd",
        "built",
        "--config.user",
        "app:adm",
        "--config.workingdir",
        "/state",
        "--config.env",
        "COLOR=green",
        "--config.stopsignal",
        "SIGUSR1",
    ]);
    let ran = vzpkg(&host, "app", &layout, &["--image", "latest"]);
    assert_eq!(ran.code, 0, "{ran}");
    host.ok(["create", "web01", "--ostemplate", "app"]);
    host.ok(["start", "web01"]);
    for line in ["arguments built", "ids 1000 4 4", "in /state", "color green"] {
        log_has(&host, "web01", line);
    }
    host.ok(["stop", "web01"]);
}

/// Process 1 is a copy of our program: nothing in the container may get at it by that.
#[test]
fn root_the_small_init_is_no_way_to_the_program_of_the_host() {
    let Some(host) = RealHost::bare(PROGRAM) else { return };
    let under_way =
        UnderWay::begin(PROGRAM, "root_the_small_init_is_no_way_to_the_program_of_the_host", "CVE-2019-5736");
    made(&host, "app", &json!({ "Cmd": ["sleep", "1000"], "User": "0" }));
    host.ok(["create", "web01", "--ostemplate", "app"]);
    host.ok(["start", "web01"]);
    let program = std::fs::read(PROGRAM).unwrap();
    let says = |line: &str| {
        let ran = Ran::within(host.prlctl().args(["exec", "web01", line]), testkit::patience(60)).unwrap();
        ran.stdout + &ran.stderr
    };
    for line in [
        "readlink /proc/1/exe",
        "cat /proc/1/exe",
        "cp /proc/1/exe /state/copy",
        "echo x >>/proc/1/exe",
        "ls /proc/1/fd/",
        "ls /proc/1/map_files/",
        "ls /proc/1/root/",
        "ls /proc/1/cwd/",
        "cat /proc/1/environ",
        "cat /proc/1/maps",
        "cat /proc/1/auxv",
        "dd if=/proc/1/mem bs=1 count=1",
        "echo x >/proc/1/mem",
        "cat /proc/1/stack",
    ] {
        let said = says(&format!("({line}) 2>&1; true"));
        // readlink says nothing.
        let is_refused =
            ["Permission denied", "Operation not permitted"].iter().any(|words| said.contains(words));
        assert!(is_refused || said.trim().is_empty() && line.starts_with("readlink"), "{line}: {said}");
        assert!(!said.contains("prlctl") && !said.contains("reroot-monitor"), "{line}: {said}");
    }
    // Its command line is everybody's to read.
    let line = says("cat /proc/1/cmdline");
    assert!(!line.contains(host.prefix().to_str().unwrap()) && !line.contains("web01"), "{line}");
    for held in ["ls -l /proc/[12]/fd", "cat /proc/[12]/maps", "readlink /proc/[12]/exe"] {
        let said = says(&format!("{held} 2>/dev/null; true"));
        assert!(!said.contains("prlctl") && !said.contains("memfd"), "{held}: {said}");
    }
    assert_eq!(std::fs::read(PROGRAM).unwrap(), program);
    // Seen from the host: the console three times, signals, and the program.
    let run: Value = serde_json::from_str(&host.ok(["list", "-i", "web01", "-j"])).unwrap();
    let init = run[0]["Init"].as_i64().unwrap_or_else(|| panic!("{run}"));
    let mut held: Vec<String> = std::fs::read_dir(format!("/proc/{init}/fd"))
        .unwrap()
        .map(|entry| std::fs::read_link(entry.unwrap().path()).unwrap().display().to_string())
        .collect();
    held.sort();
    assert_eq!(held.len(), 5, "{held:?}");
    assert!(held.iter().all(|one| one.starts_with("/dev/") || one.starts_with("anon_inode:")), "{held:?}");
    let status = std::fs::read_to_string(format!("/proc/{init}/status")).unwrap();
    let of = |key: &str| status.lines().find_map(|line| line.strip_prefix(key)).unwrap().trim().to_owned();
    let executed = host.exec("web01", "grep -E '^(Cap(Prm|Eff|Bnd|Amb)|Seccomp):' /proc/self/status");
    for line in executed.lines() {
        let (key, value) = line.split_once(':').unwrap();
        assert_eq!(of(&format!("{key}:")), value.trim(), "{key}");
    }
    under_way.held();
}
