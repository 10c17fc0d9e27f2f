//! `prlctl mount` and the operations that give a container another root: what is shown must be the container's root, and what is shown and in use
//! is not pulled away.

use std::process::{Child, Command, Stdio};

use testkit::RealHost;

/// A process of the host with its working directory there, until it is dropped.
struct Visitor(Child);

impl Visitor {
    fn in_directory(path: &std::path::Path) -> Visitor {
        let child = Command::new("sleep").arg("1000").current_dir(path).stdin(Stdio::null()).spawn();
        Visitor(child.expect("start a visitor"))
    }
}

impl Drop for Visitor {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn mounted(host: &RealHost, name: &str) -> std::path::PathBuf {
    let shown = host.ok(["mount", name]);
    std::path::PathBuf::from(shown.trim().rsplit_once(' ').expect("it says where").1)
}

fn new_host() -> Option<RealHost> {
    RealHost::new(env!("CARGO_BIN_EXE_prlctl"))
}

#[test]
fn root_a_root_in_use_on_the_host_is_not_pulled_away() {
    let Some(host) = new_host() else { return };
    for is_running in [false, true] {
        let name = if is_running { "running" } else { "stopped" };
        host.ok(["create", name, "--ostemplate", "busybox"]);
        if is_running {
            host.ok(["start", name]);
        }
        host.ok(["reinstall", name]);
        let root = mounted(&host, name);
        let visitor = Visitor::in_directory(&root.join("srv"));
        let before = host.ok(["generation-list", name, "--all", "-j"]);
        for words in [
            vec!["reinstall", name],
            vec!["reinstall", name, "--skipbackup"],
            vec!["reinstall", name, "--undo"],
            vec!["generation-switch", name, "1"],
            vec!["generation-delete", name, "1"],
        ] {
            host.run(&words).failed(41, &["in use", "state: nothing was changed", "hint:"]);
        }
        assert_eq!(host.ok(["generation-list", name, "--all", "-j"]), before);
        assert!(host.ok(["status", name]).contains(if is_running { "running" } else { "mounted" }));
        drop(visitor);
        host.ok(["reinstall", name]);
    }
}

#[test]
fn root_what_mount_shows_is_the_live_root() {
    let Some(host) = new_host() else { return };
    host.ok(["create", "web01", "--ostemplate", "busybox"]);
    let first = mounted(&host, "web01");
    std::fs::File::create(first.join("srv/first")).expect("write in the first root");
    host.ok(["reinstall", "web01"]);
    let second = mounted(&host, "web01");
    assert!(!second.join("srv/first").exists() && second.join("old/srv/first").exists());
    std::fs::File::create(second.join("srv/second")).expect("write in the second root");
    host.ok(["reinstall", "web01", "--undo"]);
    assert!(mounted(&host, "web01").join("srv/first").exists());
    host.ok(["umount", "web01"]);
    host.ok(["generation-switch", "web01", "2"]);
    host.ok(["start", "web01"]);
    assert_eq!(host.exec("web01", "ls /srv /old/srv"), "/old/srv:\nfirst\n\n/srv:\nsecond");
}

#[test]
fn root_what_a_start_needs_is_asked_before_the_stop() {
    let Some(host) = new_host() else { return };
    host.started("web01");
    host.ok(["reinstall", "web01"]);
    let conf = host.area("web01").join("ve.conf");
    let good = std::fs::read_to_string(&conf).expect("read ve.conf");
    for line in ["NUMPROC=\"-5\"", "NUMPROC=\"1\"", "PHYSPAGES=\"16\"", "HOSTNAME=\"a;b c\""] {
        std::fs::File::create(&conf)
            .and_then(|mut file| std::io::Write::write_all(&mut file, format!("{good}{line}\n").as_bytes()))
            .expect("write ve.conf");
        let key = line.split('=').next().expect("a key");
        for words in [
            vec!["reinstall", "web01"],
            vec!["reinstall", "web01", "--dry-run"],
            vec!["reinstall", "web01", "--undo"],
            vec!["restart", "web01"],
        ] {
            host.run(&words).failed(21, &[key, "state: nothing was changed", "hint:"]);
            assert_eq!(host.exec("web01", "echo lives"), "lives", "{words:?} with {line}");
        }
    }
}

#[test]
fn root_what_is_done_is_done_though_nobody_reads_it() {
    let Some(host) = new_host() else { return };
    let full = || std::fs::File::options().write(true).open("/dev/full").expect("open /dev/full");
    for words in [
        vec!["create", "web01", "--ostemplate", "busybox"],
        vec!["start", "web01"],
        vec!["reinstall", "web01"],
        vec!["stop", "web01"],
    ] {
        let status = host.prlctl().args(&words).stdout(full()).stderr(full()).status().expect("run prlctl");
        assert!(status.success(), "{words:?}: {status}");
    }
    let status = host.prlctl().args(["list", "-a"]).stdout(full()).status().expect("run prlctl");
    assert_eq!(status.code(), Some(141), "data that nobody could read is an error, and no panic");
}

#[test]
fn root_what_deletes_wants_a_whole_name() {
    let Some(host) = new_host() else { return };
    host.started("web01");
    let uuid = host.area("web01").file_name().expect("a directory").to_string_lossy().into_owned();
    for words in [&uuid[..1], &uuid[..7], "web"] {
        // Digits alone are a number, and a beginning of nothing.
        let is_number = words.bytes().all(|byte| byte.is_ascii_digit());
        let (code, said) = if is_number { (14, "unknown container") } else { (137, "whole name") };
        host.run(["delete", words, "--force"]).failed(code, &[said, "state: nothing was changed"]);
        host.run(["reinstall", words, "--skipbackup"]).failed(code, &[said]);
    }
    host.ok(["reinstall", &uuid[..8], "--skipbackup"]);
    host.ok(["delete", &format!("{{{uuid}}}"), "--force"]);
}
