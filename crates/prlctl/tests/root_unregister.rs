//! `prlctl unregister` and the way back: a container that is none for a while, and has all that it had.
#![expect(
    clippy::disallowed_methods,
    reason = "what is moved and written by name is of the host's, in a prefix of the test's own"
)]

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use testkit::{Ran, RealHost};

fn host() -> Option<RealHost> {
    RealHost::new(env!("CARGO_BIN_EXE_prlctl"))
}

fn faulted(host: &RealHost, fault: &str, words: &[&str]) -> Ran {
    Ran::of(host.prlctl().env("REROOT_FAULT", fault).args(words).output().expect("run prlctl"))
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

fn uuid(area: &Path) -> String {
    area.file_name().expect("an area has a name").to_string_lossy().into_owned()
}

fn range(area: &Path) -> u64 {
    let record = std::fs::read(area.join("area.json")).expect("there is a record");
    let record: serde_json::Value = serde_json::from_slice(&record).expect("it is one");
    record["id_range"]["first"].as_u64().expect("it has ids")
}

fn links(host: &RealHost) -> Vec<String> {
    let mut found: Vec<String> = ["etc/vz/names", "etc/vz/conf"]
        .iter()
        .flat_map(|below| std::fs::read_dir(host.path(below)).expect("it is there"))
        .map(|entry| entry.expect("it is there").path())
        .filter(|path| path.is_symlink())
        .map(|path| path.file_name().expect("it has a name").to_string_lossy().into_owned())
        .collect();
    found.sort();
    found
}

/// A container with a past, stopped.
fn with_a_past(host: &RealHost, name: &str, options: &[&str]) -> PathBuf {
    host.ok([&["create", name, "--ostemplate", "busybox", "--ctid", "501"], options].concat());
    host.ok(["start", name]);
    host.exec(name, "echo before > /was; chown 33:44 /was");
    host.ok(["reinstall", name]);
    host.exec(name, "echo after > /is");
    host.ok(["stop", name]);
    host.area(name)
}

fn has_its_past(host: &RealHost, name: &str) {
    host.ok(["start", name]);
    assert_eq!(host.exec(name, "cat /is /old/was; stat -c %u:%g /old/was"), "after\nbefore\n33:44");
    host.ok(["stop", name]);
    host.ok(["reinstall", name, "--undo"]);
    host.ok(["start", name]);
    assert_eq!(host.exec(name, "cat /was"), "before");
    host.ok(["stop", name]);
}

#[test]
fn root_what_is_unregistered_is_no_container_and_comes_back_whole() {
    let Some(host) = host() else { return };
    let area = with_a_past(&host, "web01", &[]);
    let (id, before) = (uuid(&area), links(&host));
    assert_eq!(before.len(), 3, "{before:?}");
    host.ok(["start", "web01"]);
    host.run(["unregister", "web01"])
        .failed(32, &["cannot unregister `web01`", "it runs", "prlctl stop web01"]);
    host.ok(["stop", "web01"]);
    host.run(["unregister", "web"]).failed(137, &["is not the whole name"]);
    assert!(host.ok(["unregister", "web01"]).contains("The CT has been successfully unregistered."));

    // It is there, and nobody's.
    assert!(area.join("ve.conf").exists());
    assert_eq!(links(&host), Vec::<String>::new());
    assert!(!host.ok(["list", "-a"]).contains("web01"));
    for words in [&["start", "web01"][..], &["delete", "501"], &["exec", "web01", "true"]] {
        host.run(words).failed(14, &["unknown container"]);
    }
    for command in ["start", "delete", "list", "unregister"] {
        host.run([command, &id])
            .failed(14, &["is not registered", &format!("prlctl register {}", text(&area))]);
    }
    host.ok(["recover"]);
    // Its template is still its.
    let ran = Ran::of(host.vzpkg().args(["remove", "cache", "busybox"]).output().unwrap());
    assert_ne!(ran.code, 0, "{ran}");
    // Its ids too, its name and number are anybody's.
    host.ok(["create", "web01", "--ostemplate", "busybox", "--ctid", "501"]);
    assert_ne!(range(&host.area("web01")), range(&area));
    host.run(["register", &text(&area)]).failed(137, &["the name `web01` is taken", "--name"]);
    host.ok(["delete", "web01"]);

    assert!(host.ok(["register", &text(&area)]).contains("The CT has been successfully registered."));
    assert_eq!(links(&host), before);
    host.run(["register", &text(&area)]).failed(44, &["it is registered, as `web01`"]);
    has_its_past(&host, "web01");
}

#[test]
fn root_what_is_unregistered_can_be_moved_and_gets_ids_that_nobody_has() {
    let Some(host) = host() else { return };
    let area = with_a_past(&host, "web01", &["--volume", "image", "--diskspace", "64M"]);
    let ids = range(&area);
    host.ok(["unregister", "web01"]);
    let away = host.path("vz/away");
    std::fs::create_dir(&away).unwrap();
    let moved = away.join("some name");
    std::fs::rename(&area, &moved).unwrap();
    // Its ids are free from here on.
    host.ok(["create", "other", "--ostemplate", "busybox"]);
    assert_eq!(range(&host.area("other")), ids);

    // Nothing that others can change, or could have.
    std::fs::set_permissions(&moved, std::fs::Permissions::from_mode(0o755)).unwrap();
    host.run(["register", &text(&moved)]).failed(21, &["others can enter it", "chmod 0700"]);
    std::fs::set_permissions(&moved, std::fs::Permissions::from_mode(0o700)).unwrap();
    for (words, code) in
        [(["--config", "/etc/hostname"], 20), (["--uuid", "9e3f3a2c-0f5e-4f0b-8d8a-2b1d6a9c1e77"], 20)]
    {
        host.run(["register", &text(&moved), words[0], words[1]])
            .failed(code, &["cannot register", "leave --"]);
    }
    let ran = host.run(["register", &text(&moved), "--name", "shop"]);
    assert!(ran.code == 0 && ran.stderr.contains("it has other ids than it had"), "{ran}");
    assert!(!moved.exists() && area.exists());
    assert_ne!(range(&area), ids);
    assert_eq!(host.area("shop"), area);
    has_its_past(&host, "shop");
}

#[test]
fn root_an_area_that_was_only_copied_is_not_taken_for_one_that_was_given_up() {
    let Some(host) = host() else { return };
    let area = with_a_past(&host, "web01", &[]);
    let copy = host.path("vz/copy");
    let copied = std::process::Command::new("cp").arg("-a").args([&area, &copy]).status().unwrap();
    assert!(copied.success());
    host.run(["register", &text(&copy)]).failed(44, &["already", &uuid(&area)]);
    host.ok(["delete", "web01"]);
    host.run(["register", &text(&copy)]).failed(141, &["was not unregistered", "--force"]);
    host.ok(["register", &text(&copy), "--force"]);
    has_its_past(&host, "web01");
}

#[test]
fn crash_an_unregistration_and_a_return_are_done_or_not_done() {
    let Some(host) = host() else { return };
    let area = with_a_past(&host, "web01", &[]);
    let whole = links(&host);
    let away = host.path("vz/away");
    for how in ["kill", "error"] {
        faulted(&host, &format!("unregister/forget/before:{how}"), &["unregister", "web01"]);
        host.ok(["recover"]);
        assert!(host.ok(["list", "-a"]).contains("web01"));
        assert_eq!(links(&host), whole);
        faulted(&host, &format!("unregister/forget/after:{how}"), &["unregister", "web01"]);
        host.ok(["recover"]);
        assert!(!host.ok(["list", "-a"]).contains("web01"));
        assert_eq!(links(&host), Vec::<String>::new());

        std::fs::rename(&area, &away).unwrap();
        faulted(&host, &format!("register/return/before:{how}"), &["register", &text(&away)]);
        host.ok(["recover"]);
        assert!(!host.ok(["list", "-a"]).contains("web01"));
        let lies = if away.exists() { &away } else { &area };
        let ran = faulted(&host, &format!("register/return/after:{how}"), &["register", &text(lies)]);
        host.ok(["recover"]);
        // An error is one that has undone it; a death leaves what was done.
        let is_undone = how == "error";
        assert_eq!(host.ok(["list", "-a"]).contains("web01"), !is_undone, "{ran}");
        if is_undone {
            host.ok(["register", &text(if away.exists() { &away } else { &area })]);
        }
        assert_eq!(links(&host), whole);
    }
    has_its_past(&host, "web01");
}

#[test]
fn root_what_lies_on_another_filesystem_is_copied_beside_its_place() {
    let Some(host) = RealHost::on_journal(env!("CARGO_BIN_EXE_prlctl")) else { return };
    let area = with_a_past(&host, "web01", &[]);
    // Outside of the filesystem that the prefix lies on.
    let elsewhere = host.prefix().ancestors().nth(2).expect("it lies on a mounted one").join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    let copy = elsewhere.join("web01");
    let copied = |from: &Path, to: &Path| {
        assert!(Command::new("cp").arg("-a").args([from, to]).status().unwrap().success());
    };
    copied(&area, &copy);
    host.ok(["delete", "web01", "--force"]);
    // First that it may run elsewhere, then where it is to be copied to: what lies at that place is a container at once.
    host.run(["register", &text(&copy)]).failed(141, &["it was not unregistered", "--force"]);
    let ran = host.run(["register", &text(&copy), "--force"]);
    let beside = area.with_file_name(format!("{}.copy", uuid(&area)));
    ran.failed(21, &["another filesystem", &text(&beside), "nothing was changed"]);
    copied(&copy, &beside);
    assert!(!host.ok(["list", "-a"]).contains("web01"), "it is no container yet");
    host.run(["register", &text(&beside)]).failed(141, &["it was not unregistered"]);
    host.ok(["register", &text(&beside), "--force"]);
    has_its_past(&host, "web01");
}

#[test]
fn root_an_area_on_whose_way_others_may_write_is_not_taken() {
    let Some(host) = host() else { return };
    let area = with_a_past(&host, "web01", &[]);
    host.ok(["unregister", "web01"]);
    let open = host.path("vz/open");
    std::fs::create_dir(&open).unwrap();
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o1777)).unwrap();
    let moved = open.join("web01");
    std::fs::rename(&area, &moved).unwrap();
    host.run(["register", &text(&moved)]).failed(21, &[&text(&open), "chmod go-w"]);
    assert!(moved.join("ve.conf").exists());
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o755)).unwrap();
    host.ok(["register", &text(&moved)]);
    has_its_past(&host, "web01");
}

#[test]
fn root_a_volume_that_somebody_is_in_is_not_unregistered() {
    let Some(host) = host() else { return };
    let area = with_a_past(&host, "web01", &["--volume", "image", "--diskspace", "64M"]);
    host.ok(["generation-list", "web01", "--size"]);
    let point = host.path(&format!("run/vz/{}/volume", uuid(&area)));
    let held = std::fs::File::open(point.join(".volume")).expect("it is mounted");
    host.run(["unregister", "web01"]).failed(41, &["nothing was changed", "try again"]);
    assert!(host.ok(["list", "-a"]).contains("web01"));
    drop(held);
    host.ok(["unregister", "web01"]);
    let loops = Command::new("losetup").arg("-j").arg(area.join("volume.img")).output().unwrap();
    assert!(loops.status.success() && loops.stdout.is_empty(), "{loops:?}");
    host.ok(["register", &text(&area)]);
    has_its_past(&host, "web01");
}

#[test]
fn root_a_link_that_a_death_has_left_is_nobodys() {
    let Some(host) = host() else { return };
    let area = with_a_past(&host, "web01", &[]);
    let ran = faulted(&host, "unregister/forget/after:kill", &["unregister", "web01"]);
    assert_ne!(ran.code, 0, "{ran}");
    assert!(links(&host).iter().any(|name| name == "web01"));
    host.ok(["create", "web01", "--ostemplate", "busybox"]);
    host.run(["register", &text(&area)]).failed(137, &["the name `web01` is taken"]);
    host.ok(["delete", "web01"]);
    host.ok(["register", &text(&area)]);
    has_its_past(&host, "web01");
}

#[test]
fn root_what_comes_back_has_nothing_that_is_anothers_by_now() {
    let Some(host) = host() else { return };
    let set = ["--ipadd", "10.99.0.7", "--forward", "tcp:18080:80"];
    let area = with_a_past(&host, "web01", &set);
    host.ok(["unregister", "web01"]);
    host.ok([
        "create",
        "web02",
        "--ostemplate",
        "busybox",
        "--ipadd",
        "10.99.0.8",
        "--forward",
        "tcp:18080:80",
    ]);
    host.run(["register", &text(&area)]).failed(78, &["port 18080", "web02"]);
    host.ok(["delete", "web02"]);
    host.ok(["register", &text(&area)]);
    has_its_past(&host, "web01");
}
