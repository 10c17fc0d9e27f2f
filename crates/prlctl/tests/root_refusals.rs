//! What cannot be done is refused in four lines: what, because of what, in which state things are, what to type; and with the code of the original.

#![expect(clippy::disallowed_methods, reason = "the trees of these tests are their own")]

use testkit::{Ran, RealHost};

/// What is not as it must be: each of the four things once and in this order, nothing else, and that code.
fn wrong(ran: &Ran, words: &str, code: i32) -> Option<String> {
    let said: Vec<&str> = ran.stderr.lines().skip_while(|line| !line.starts_with("error: ")).collect();
    let kinds: Vec<&str> =
        said.iter().map(|line| line.trim_start().split(' ').next().unwrap_or("")).collect();
    let causes = kinds.iter().filter(|kind| **kind == "because:").count();
    let mut wanted = vec!["error:"];
    wanted.extend(std::iter::repeat_n("because:", causes.max(1)));
    wanted.extend(["state:", "hint:"]);
    let is_said = |line: &&str| line.split_once(": ").is_some_and(|(_, rest)| !rest.trim().is_empty());
    let is_right = ran.code == code && ran.stdout.is_empty() && kinds == wanted && said.iter().all(is_said);
    (!is_right).then(|| format!("`{words}`, wanted {code}: {ran}"))
}

#[track_caller]
fn judge(wrong: impl Iterator<Item = Option<String>>) {
    let wrong: Vec<String> = wrong.flatten().collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn root_every_refusal_says_four_things_and_has_its_code() {
    let Some(host) = RealHost::new(env!("CARGO_BIN_EXE_prlctl")) else { return };
    host.started("web01");
    host.ok(["create", "db01", "--ostemplate", "busybox"]);
    host.ok(["create", "db02", "--ostemplate", "busybox"]);
    host.write("etc/vz/conf/ve-bad.conf-sample", "NUMPROC=\"many\"\n", 0o644);
    let uuid = host.area("web01").file_name().unwrap().to_string_lossy().into_owned();
    let taken = format!("create other --ostemplate busybox --uuid {uuid}");
    let prlctl = [
        ("create a/b --ostemplate busybox", 137),
        ("create .web --ostemplate busybox", 137),
        ("create web01 --ostemplate busybox", 137),
        (taken.as_str(), 44),
        ("create other --ostemplate busybox --uuid 12345", 21),
        ("create other --ostemplate busybox --vmtype vm", 21),
        ("create other --ostemplate ../etc", 21),
        ("create other --ostemplate nosuch", 91),
        ("create other --ostemplate busybox --config nosuch", 82),
        ("create other --ostemplate busybox --config ../web", 21),
        ("create other --ostemplate busybox --config bad", 82),
        ("create other", 20),
        ("create", 20),
        ("create other --ostemplate", 21),
        ("create other --colour red", 20),
        ("start nosuch", 14),
        ("start web1", 14),
        ("start db", 14),
        ("start web01", 32),
        ("start web01 --timeout soon", 21),
        ("stop db01", 31),
        ("stop", 20),
        ("stop web01 --all", 20),
        ("status nosuch", 14),
        ("list nosuch", 14),
        ("list --vmtype house", 21),
        ("list -a -o colour", 1),
        ("list -a -s colour", 1),
        ("lst", 20),
        ("", 20),
        ("exec nosuch true", 14),
        ("exec db01 true", 31),
        ("exec web01 --without-shell /nosuch", 8),
        ("exec web01", 20),
        ("enter db01", 31),
        ("delete web", 137),
        ("delete web01", 32),
        ("delete nosuch --force", 14),
        ("umount web01", 40),
        ("mount nosuch", 14),
        ("reinstall nosuch", 14),
        ("reinstall web01 --undo", 21),
        ("reinstall web01 --undo --skipbackup", 20),
        ("reinstall web --skipbackup", 137),
        ("reinstall web01 --desc", 20),
        ("reinstall web01 --timeout 0", 21),
        ("reinstall web01 --lock-wait never", 21),
        ("reinstall web01 --ostemplate nosuch", 91),
        ("reinstall web01 --ostemplate ../etc", 21),
        ("reinstall web01 --scripts nosuch.sh", 21),
        ("reinstall nosuch --listscripts", 14),
        ("generation-list nosuch", 14),
        ("generation-diff nosuch", 14),
        ("generation-diff web01 7", 21),
        ("generation-diff web01 minus", 21),
        ("generation-diff web01 /nowhere", 21),
        ("generation-diff web01 1 etc", 21),
        ("generation-switch web01 1", 21),
        ("generation-switch web01 7", 21),
        ("generation-switch web01 minus", 21),
        ("generation-delete web01 1", 21),
        ("generation-delete web01 7", 21),
        ("generation-delete web 1", 137),
        ("recover nosuch", 14),
        ("recover --rebuild", 20),
        ("recover --rebuild web01", 32),
        ("recover --boot web01", 20),
        ("generate nonsense", 20),
    ];
    judge(prlctl.into_iter().map(|(words, code)| wrong(&host.run(words.split_whitespace()), words, code)));
    let vzpkg = [
        ("create cache nosuch", 91),
        ("create cache ../etc", 21),
        ("create nonsense busybox", 21),
        ("remove cache nosuch", 91),
        ("remove cache busybox", 21),
        ("lst", 20),
    ];
    judge(vzpkg.into_iter().map(|(words, code)| {
        wrong(&Ran::of(host.vzpkg().args(words.split_whitespace()).output().unwrap()), words, code)
    }));
    assert_eq!(host.ok(["list", "-a", "-H", "-o", "name"]), "db01\ndb02\nweb01\n");
    assert_eq!(host.ok(["generation-list", "web01", "--all", "-H"]).lines().count(), 1);
}

#[test]
fn root_a_lock_that_another_command_holds_is_refused_in_four_lines() {
    let Some(host) = RealHost::new(env!("CARGO_BIN_EXE_prlctl")) else { return };
    host.started("web01");
    let id: store::ContainerId = host.area("web01").file_name().unwrap().to_str().unwrap().parse().unwrap();
    let prefix = store::Prefix::new(host.prefix()).unwrap();
    let _held = store::Lock::exclusive(
        &prefix,
        store::LockName::Container(id),
        std::time::Duration::ZERO,
        "prlctl backup web01",
    )
    .unwrap();
    for words in
        ["start web01", "stop web01", "exec web01 true", "reinstall web01", "delete web01", "mount web01"]
    {
        let ran = host.run(words.split_whitespace());
        judge([wrong(&ran, words, 9)].into_iter());
        ran.failed(
            9,
            &["error: `web01` is locked by another command\n  because: `prlctl backup web01` (pid "],
        );
    }
}

#[test]
fn root_a_host_that_is_not_as_it_should_be_is_refused_in_four_lines() {
    use std::os::unix::fs::PermissionsExt;
    let Some(host) = RealHost::new(env!("CARGO_BIN_EXE_prlctl")) else { return };
    for prefix in ["/nonexistent-prefix", "relative", "/etc/passwd"] {
        let ran = Ran::of(host.prlctl().env("REROOT_PREFIX", prefix).args(["list"]).output().unwrap());
        judge([wrong(&ran, prefix, 3)].into_iter());
    }
    std::fs::set_permissions(host.path("vz/private"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let ran = host.run(["list"]);
    std::fs::set_permissions(host.path("vz/private"), std::fs::Permissions::from_mode(0o700)).unwrap();
    judge([wrong(&ran, "an open directory", 3)].into_iter());
}

#[test]
fn root_a_recovery_that_has_the_lock_is_waited_for() {
    let Some(host) = RealHost::new(env!("CARGO_BIN_EXE_prlctl")) else { return };
    host.started("web01");
    let id: store::ContainerId = host.area("web01").file_name().unwrap().to_str().unwrap().parse().unwrap();
    let prefix = store::Prefix::new(host.prefix()).unwrap();
    let journal = host.area("web01").join("operation.json");
    for (command, has_journal) in
        [(format!("prlctl recover {id}"), false), ("prlctl status web01".to_owned(), true)]
    {
        let name = store::LockName::Container(id);
        let held = store::Lock::exclusive(&prefix, name, std::time::Duration::ZERO, &command).unwrap();
        if has_journal {
            // Another's: what has the lock is recovering it.
            let text = serde_json::json!({
                "format": 1, "operation": "switch", "steps": [], "boot_id": "", "was_running": true,
                "started": "2026-01-02T03:04:05Z", "pid": 1, "arguments": {},
            });
            host.write(&format!("vz/private/{id}/operation.json"), &text.to_string(), 0o600);
        }
        let mut commands: Vec<_> = [["exec", "web01", "true"], ["mount", "web01", "-j"]]
            .map(|words| host.prlctl().args(words).stdout(std::process::Stdio::null()).spawn().unwrap())
            .into();
        // Nothing tells that somebody waits; on a slow machine it takes longer until he does.
        std::thread::sleep(testkit::patience(1).mul_f64(0.3));
        for command in &mut commands {
            assert_eq!(command.try_wait().unwrap(), None, "it waits");
        }
        if has_journal {
            std::fs::remove_file(&journal).unwrap();
        }
        drop(held);
        for mut command in commands {
            assert!(command.wait().unwrap().success());
        }
        host.ok(["umount", "web01"]);
    }
}
