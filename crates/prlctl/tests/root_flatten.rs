//! Roots whose template is gone or damaged, and roots that are made independent of it.

#![expect(clippy::disallowed_methods, reason = "the templates are the test's own")]

use std::path::PathBuf;

use testkit::{Ran, RealHost};

const PROGRAM: &str = env!("CARGO_BIN_EXE_prlctl");

/// A host with a template of its own, and a container that has written a file and changed one.
fn scene() -> Option<RealHost> {
    let host = RealHost::bare(PROGRAM)?;
    let made = Ran::of(host.vzpkg().args(["create", "cache", "busybox"]).output().expect("run vzpkg"));
    assert_eq!(made.code, 0, "{made}");
    host.ok(["create", "web01", "--ostemplate", "busybox"]);
    host.ok(["start", "web01"]);
    host.exec("web01", "echo mine > /mine; echo u:x:1000:1000::/home/u:/bin/sh >> /etc/passwd; echo u:x:1000: >> /etc/group; echo 'u:!:19000:0:99999:7:::' >> /etc/shadow");
    Some(host)
}

fn template(host: &RealHost) -> PathBuf {
    host.path("vz/template/busybox")
}

/// Away from where it is looked for, as if somebody had removed it.
fn remove(host: &RealHost) {
    std::fs::rename(template(host), host.path("vz/template-of-before")).expect("move the template");
}

fn base(host: &RealHost, number: u32) -> serde_json::Value {
    let record = host.area("web01").join(format!("generations/{number}/generation.json"));
    let record: serde_json::Value =
        serde_json::from_slice(&std::fs::read(record).expect("read the record")).expect("it is JSON");
    record["base"].clone()
}

fn delta(host: &RealHost) -> PathBuf {
    host.area("web01").join("live/delta")
}

#[test]
fn root_a_flattened_root_is_the_same_without_its_template() {
    let Some(host) = scene() else { return };
    let conf = || std::fs::read_to_string(host.area("web01").join("ve.conf")).expect("read ve.conf");
    let before =
        (host.exec("web01", "find / -xdev | sort | md5sum; cat /mine; stat -c '%Y %a' /bin /etc"), conf());
    let said = host.ok(["generation-flatten", "web01"]);
    assert!(said.contains("needs no template any more: generation 2"), "{said}");
    assert_eq!(
        (host.exec("web01", "find / -xdev | sort | md5sum; cat /mine; stat -c '%Y %a' /bin /etc"), conf()),
        before
    );
    assert_eq!(base(&host, 2), "empty");
    assert!(!host.area("web01").join("generations/1").exists(), "the one before is gone");
    assert!(host.ok(["generation-list", "web01"]).contains("template busybox, all in itself"));
    // Nobody uses the template now, and nothing is missing without it.
    let removed = Ran::of(host.vzpkg().args(["remove", "cache", "busybox"]).output().expect("run vzpkg"));
    assert_eq!(removed.code, 0, "{removed}");
    host.ok(["restart", "web01"]);
    assert_eq!(host.exec("web01", "cat /mine"), "mine");
    host.run(["generation-flatten", "web01"]).failed(21, &["generation 2 needs no template as it is"]);
}

#[test]
fn root_what_was_at_old_stays_there_when_a_root_is_flattened() {
    let Some(host) = scene() else { return };
    host.ok(["reinstall", "web01"]);
    host.exec("web01", "echo second > /second");
    host.ok(["stop", "web01"]);
    host.ok(["generation-flatten", "web01"]);
    host.ok(["start", "web01"]);
    assert_eq!(
        host.exec("web01", "cat /second /old/mine; ls -d /old/old/* 2>/dev/null | wc -l"),
        "second\nmine\n0"
    );
    host.ok(["reinstall", "web01", "--undo"]);
    assert_eq!(host.exec("web01", "cat /mine"), "mine");
}

#[test]
fn root_owners_and_ids_are_the_same_in_a_flattened_root() {
    let Some(host) = scene() else { return };
    host.exec("web01", "mkdir -p /srv/d; echo x > /srv/d/f; chown 1000:1000 /srv/d /srv/d/f; chmod 4750 /srv/d/f; ln /srv/d/f /srv/hard; ln -s f /srv/d/l; mkfifo /srv/p; touch -d 2001-02-03 /srv/d; rm /etc/hosts; rm -rf /var");
    let look = || {
        host.exec(
            "web01",
            "cd /; find bin sbin etc srv root usr lib opt home -xdev ! -type d 2>/dev/null | sort | xargs stat -c '%n %F %a %u %g %h %s %Y'; \
             find bin sbin etc srv root usr lib opt home -xdev -type d 2>/dev/null | sort | xargs stat -c '%n %F %a %u %g %Y'; ls -d /var /etc/hosts 2>&1; true",
        )
    };
    let before = look();
    host.ok(["generation-flatten", "web01"]);
    // A start names the container again.
    let without = |text: String| {
        let is_named = |line: &&str| line.contains("etc/hosts") || line.starts_with("etc ");
        text.lines().filter(|line| !is_named(line)).collect::<Vec<_>>().join("\n")
    };
    assert_eq!(without(look()), without(before));
}

/// The container is told of by whoever is asked, and loses nothing that it has made.
#[test]
fn root_a_container_whose_template_is_gone_gets_a_new_root_and_keeps_its_files() {
    let Some(host) = scene() else { return };
    host.ok(["stop", "web01"]);
    remove(&host);
    let status = host.run(["status", "web01"]);
    assert_eq!((status.code, status.stdout.trim()), (0, "CT web01 exist stopped"));
    assert!(
        status.stderr.contains("has no version") && status.stderr.contains("prlctl reinstall web01"),
        "{status}"
    );
    let json: serde_json::Value =
        serde_json::from_str(&host.ok(["status", "web01", "-j"])).expect("it is JSON");
    assert!(json["damage"].as_str().is_some_and(|damage| damage.contains("has no version")), "{json}");
    let list = host.run(["list", "-a"]);
    assert!(list.code == 0 && list.stderr.contains("the root of `web01` is not whole"), "{list}");
    assert!(host.run(["list", "-i", "web01"]).stdout.contains("Damage: the root of `web01` is not whole"));
    assert!(host.ok(["generation-list", "web01"]).contains("(gone or damaged)"));
    host.run(["start", "web01"])
        .failed(91, &["cannot start `web01`", "has no version", "prlctl reinstall web01"]);
    host.run(["generation-flatten", "web01"])
        .failed(91, &["cannot flatten the root of `web01`", "has no version"]);

    // Another version under the same name.
    let source = host.path("vz/template-of-before/latest/rootfs");
    let made =
        host.vzpkg().args(["create", "cache", "busybox", "--from"]).arg(&source).output().expect("run vzpkg");
    assert!(made.status.success());
    let version = std::fs::read_link(template(&host).join("latest")).expect("it has a latest version");
    let before = std::fs::read_link(host.path("vz/template-of-before/latest")).expect("it had one");
    assert_eq!(version, before, "the same tree has the same name: it is whole again");
    host.ok(["start", "web01"]);
    host.ok(["stop", "web01"]);
    std::fs::rename(template(&host), host.path("vz/template-of-before2")).expect("move the template");
    std::fs::rename(host.path("vz/template-of-before"), template(&host)).expect("move it back");
    let changed = template(&host).join("latest/rootfs");
    std::fs::write(changed.join("added"), "x").expect("change the template");
    let made =
        host.vzpkg().args(["create", "cache", "other", "--from"]).arg(&changed).output().expect("run vzpkg");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    remove(&host);

    let dry = host.run(["reinstall", "web01", "--dry-run", "--ostemplate", "other"]);
    assert!(dry.code == 0 && dry.stderr.contains("generation 1 is not whole"), "{dry}");
    let ran = host.run(["reinstall", "web01", "--ostemplate", "other", "--keep", "/mine"]);
    assert_eq!(ran.code, 0, "{ran}");
    assert!(ran.stderr.contains("/old will have what the container itself has made or changed"), "{ran}");
    host.ok(["start", "web01"]);
    assert_eq!(
        host.exec("web01", "cat /mine /old/mine; grep -c ^u: /etc/passwd; ls /old/bin 2>/dev/null | wc -l"),
        "mine\nmine\n1\n0"
    );
    host.ok(["stop", "web01"]);
    // Its template is back: the old root is whole again.
    std::fs::rename(host.path("vz/template-of-before"), template(&host)).expect("move it back");
    host.ok(["start", "web01"]);
    assert_eq!(host.exec("web01", "cat /old/mine; ls /old/bin/busybox"), "mine\n/old/bin/busybox");
    host.ok(["reinstall", "web01", "--undo"]);
    assert_eq!(host.exec("web01", "cat /mine"), "mine");
}

/// What is left of a template that somebody has damaged can be had for good, before it goes, too.
#[test]
fn root_a_damaged_template_is_told_and_can_be_left() {
    let Some(host) = scene() else { return };
    let init = template(&host).join("latest/rootfs/sbin/init");
    let aside = host.path("vz/init");
    std::fs::rename(&init, &aside).expect("take the init away");
    let status = host.run(["status", "web01"]);
    assert!(
        status.stderr.contains("is damaged: it has no /sbin/init")
            && status.stderr.contains("generation-flatten web01 --allow-damaged"),
        "{status}"
    );
    host.run(["generation-flatten", "web01"])
        .failed(85, &["its template `busybox` is damaged", "nothing was changed", "--allow-damaged"]);
    // It does not come up again on what is left: then all is as it was.
    let ran = host.run(["generation-flatten", "web01", "--allow-damaged"]);
    assert!(ran.code != 0 && ran.stderr.contains("nothing was lost"), "{ran}");
    std::fs::rename(&aside, &init).expect("bring it back");
    host.ok(["start", "web01"]);
    assert_eq!(host.exec("web01", "cat /mine"), "mine");
    assert!(delta(&host).join("mine").exists());
    assert!(host.run(["status", "web01"]).stderr.is_empty());
}
