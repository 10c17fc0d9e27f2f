//! Each option of `prlctl reinstall` does what it says, and the others stay off.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::Stdio;

use testkit::RealHost;

/// A host with a running container `web01`: a marker, a user, and scripts that leave traces.
fn with_container() -> Option<RealHost> {
    let host = RealHost::new(env!("CARGO_BIN_EXE_prlctl"))?;
    host.started("web01");
    host.exec(
        "web01",
        "echo 1 > /root/number; echo 'joe:x:1000:1000::/home/joe:/bin/sh' >>/etc/passwd; echo 'joe:x:1000:' >>/etc/group; \
         echo 'joe:$6$salt$hash:20000:0:99999:7:::' >>/etc/shadow; sed -i 's/^root:!:/root:$6$salt$roothash:/' /etc/shadow",
    );
    host.script("etc/vz/conf/vps.configure", "#!/bin/sh\necho configured >> /root/traces\n");
    host.script("etc/vz/reinstall.d/10-a.sh", "#!/bin/sh\necho a >> /root/traces\n");
    host.script("etc/vz/reinstall.d/20-b.sh", "#!/bin/sh\necho b >> /root/traces\n");
    Some(host)
}

/// Which of the things that an option may switch off have happened.
fn happened(host: &RealHost) -> String {
    host.exec(
        "web01",
        "{ if [ -e /old/root/number ]; then echo old is kept; fi; cat /root/traces 2>/dev/null; \
         grep -q '^joe:' /etc/passwd && echo joe; grep -q '^joe:[$]' /etc/shadow && echo with his password; \
         if cmp -s /etc/profile /old/etc/profile; then echo same template; fi; } | tr '\\n' ',' || :",
    )
}

fn roots(host: &RealHost) -> String {
    host.ok(["generation-list", "web01", "-H", "--all"])
}

fn is_running(host: &RealHost) -> bool {
    host.ok(["status", "web01"]).contains(" running")
}

#[track_caller]
fn refused(host: &RealHost, words: &[&str], code: i32, said: &[&str]) {
    let (before, was_running, all) = (roots(host), is_running(host), everything(host));
    let ran = host.run(words);
    ran.failed(code, said);
    ran.failed(code, &["error: ", "state: nothing was changed"]);
    assert_eq!((roots(host), is_running(host)), (before, was_running), "{ran}");
    assert_eq!(everything(host), all, "{ran}");
}

/// Every file of the host but locks, logs of the console, and what a container that runs writes by itself: inode, size, time of change.
fn everything(host: &RealHost) -> BTreeMap<PathBuf, (u64, u64, i64, i64)> {
    let mut found = BTreeMap::new();
    let mut todo = vec![host.prefix()];
    while let Some(directory) = todo.pop() {
        for entry in std::fs::read_dir(&directory).unwrap().flatten() {
            let Ok(facts) = std::fs::symlink_metadata(entry.path()) else { continue };
            if entry.path().starts_with(host.path("run"))
                || entry.path().starts_with(host.path("vz/template"))
            {
                continue;
            }
            found.insert(entry.path(), (facts.ino(), facts.size(), facts.ctime(), facts.ctime_nsec()));
            if facts.is_dir() {
                todo.push(entry.path());
            }
        }
    }
    found
}

const ALL: &str = "old is kept,configured,a,b,joe,with his password,same template,";

#[test]
fn root_without_options_everything_happens() {
    let Some(host) = with_container() else { return };
    host.ok(["reinstall", "web01"]);
    assert_eq!(happened(&host), ALL);
}

#[test]
fn root_skipbackup_deletes_the_old_root_and_does_nothing_else() {
    let Some(host) = with_container() else { return };
    host.ok(["reinstall", "web01"]);
    for (number, option) in [(3, "--skipbackup"), (4, "--no-backup")] {
        host.exec("web01", "echo this one goes > /root/number");
        let ran = host.run(["reinstall", "web01", option]);
        assert_eq!(ran.code, 0, "{ran}");
        assert!(ran.stderr.contains("the old root has been deleted"), "{ran}");
        assert_eq!(host.exec("web01", "cat /old/root/number"), "1", "what was at /old/old is at /old");
        host.exec("web01", "echo 1 > /old/root/number");
        assert_eq!(happened(&host), ALL);
        assert_eq!(roots(&host).lines().count(), 2, "{}", roots(&host));
        assert!(roots(&host).starts_with(&format!("{number}     live     /")), "{}", roots(&host));
        let trash = host.path("vz/private/.trash");
        host.wait_until("the trash is empty", || {
            std::fs::read_dir(&trash).map_or(true, |mut entries| entries.next().is_none())
        });
    }
    // Of a container that has no root before, nothing is at /old.
    host.ok(["generation-delete", "web01", "1"]);
    host.ok(["reinstall", "web01", "--skipbackup"]);
    assert_eq!(host.exec("web01", "ls -A /old 2>/dev/null; grep -c ' /old ' /proc/self/mounts || :"), "0");
    host.ok(["stop", "web01"]);
    host.ok(["reinstall", "web01", "--skipbackup", "--skipscripts"]);
    assert_eq!(roots(&host).lines().count(), 1);
    host.ok(["start", "web01"]);
}

#[test]
fn root_skipscripts_runs_none_and_does_nothing_else() {
    let Some(host) = with_container() else { return };
    for option in ["--skipscripts", "--no-scripts"] {
        host.script("etc/vz/conf/vps.reinstall", "#!/bin/sh\nexit 1\n");
        host.ok(["reinstall", "web01", option]);
        assert_eq!(happened(&host), "old is kept,joe,with his password,same template,");
        host.exec("web01", "echo 1 > /root/number");
    }
}

#[test]
fn root_scripts_runs_the_named_ones_and_does_nothing_else() {
    let Some(host) = with_container() else { return };
    host.ok(["reinstall", "web01", "--scripts", "20-b.sh"]);
    assert_eq!(happened(&host), "old is kept,configured,b,joe,with his password,same template,");
    refused(
        &host,
        &["reinstall", "web01", "--scripts", "20-b.sh", "--scripts", "nonesuch.sh"],
        21,
        &["nonesuch.sh", "there are: 10-a.sh, 20-b.sh"],
    );
    refused(&host, &["reinstall", "web01", "--scripts", "../reinstall.d/20-b.sh"], 21, &["there are: "]);
}

#[test]
fn root_resetpwdb_carries_no_users_and_does_nothing_else() {
    let Some(host) = with_container() else { return };
    host.ok(["reinstall", "web01", "--resetpwdb"]);
    assert_eq!(happened(&host), "old is kept,configured,a,b,same template,");
    assert_eq!(host.exec("web01", "grep ^root: /etc/shadow"), "root:!:20000:0:99999:7:::");
    assert!(host.exec("web01", "grep ^joe: /old/etc/shadow").starts_with("joe:$"));
    for name in ["passwd", "shadow", "group", "gshadow"] {
        let fresh = host.path("vz/template/busybox/latest/rootfs/etc").join(name);
        let fresh = std::fs::read_to_string(fresh).unwrap();
        assert_eq!(host.exec("web01", &format!("cat /etc/{name}")), fresh.trim_end(), "{name} is fresh");
    }
}

#[test]
fn root_password_sets_one_and_does_nothing_else() {
    let Some(host) = with_container() else { return };
    for (options, wanted) in [
        (&[][..], ALL),
        (&["--resetpwdb"], "old is kept,configured,a,b,same template,"),
        (&["--skipscripts"], "old is kept,joe,with his password,same template,"),
    ] {
        let mut command = host.prlctl();
        command.args(["reinstall", "web01", "--password", "root:-"]).args(options).stdin(Stdio::piped());
        let mut reinstall = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        reinstall.stdin.take().unwrap().write_all(b"geheim\n").unwrap();
        assert!(reinstall.wait().unwrap().success(), "{options:?}");
        assert_eq!(happened(&host), wanted, "{options:?}");
        assert!(host.exec("web01", "grep ^root: /etc/shadow").starts_with("root:$6$rounds="));
        host.ok(["reinstall", "web01", "--undo"]);
    }
}

#[test]
fn root_listscripts_lists_and_stops() {
    let Some(host) = with_container() else { return };
    let before = everything(&host);
    assert_eq!(host.ok(["reinstall", "web01", "--listscripts"]), "10-a.sh\n20-b.sh\n");
    assert_eq!(everything(&host), before);
    host.run(["reinstall", "nonesuch", "--listscripts"]).failed(14, &["unknown container `nonesuch`"]);
    host.run(["reinstall", "web01", "--desc"]).failed(20, &["--listscripts"]);
}

#[test]
fn root_a_dry_run_prints_the_plan_and_changes_nothing_at_all() {
    let Some(host) = with_container() else { return };
    host.ok(["reinstall", "web01"]);
    for runs in [true, false] {
        if !runs {
            host.ok(["stop", "web01"]);
        }
        for options in [vec![], vec!["--skipbackup"], vec!["--skipscripts", "--resetpwdb"], vec!["-j"]] {
            let before = everything(&host);
            let words = [&["reinstall", "web01", "--dry-run"], &options[..]].concat();
            let plan = host.ok(&words);
            assert_eq!(everything(&host), before, "{words:?}");
            for step in ["stage", "build", "carry", "stop", "probation", "configure", "commit", "settle"] {
                assert!(plan.contains(step), "{words:?}\n{plan}");
            }
            let has = |text: &str| plan.contains(text);
            assert_eq!(
                has("delete generation 2 ("),
                options == ["--skipbackup"],
                "what goes, with its size\n{plan}"
            );
            assert_eq!(
                has("run vps.configure, 10-a.sh, 20-b.sh in it"),
                !options.contains(&"--skipscripts"),
                "{plan}"
            );
            assert_eq!(has("no users: --resetpwdb"), options.contains(&"--resetpwdb"), "{plan}");
            assert_eq!(has("stop the container, which runs"), runs, "{plan}");
        }
        refused(
            &host,
            &["reinstall", "web01", "--dry-run", "-t", "nonesuch"],
            91,
            &["error: cannot reinstall `web01`\n", "because: unknown template"],
        );
    }
}

#[test]
fn root_undo_goes_one_back_each_time_and_the_root_that_was_left_stays() {
    let Some(host) = with_container() else { return };
    refused(
        &host,
        &["reinstall", "web01", "--undo"],
        21,
        &["error: cannot undo", "generation 1 has no root before it", "generation-list web01 --all"],
    );
    for number in 2..=3 {
        host.ok(["reinstall", "web01"]);
        host.exec("web01", &format!("rm /root/traces; echo {number} > /root/number"));
    }
    // It is gone back to as it is now, with what was changed through /old.
    host.exec("web01", "echo changed > /old/root/changed");
    assert_eq!(host.ok(["reinstall", "web01", "--undo"]), "The CT has been successfully reinstalled.\n");
    assert_eq!(
        host.exec("web01", "cat /root/number /root/changed /old/root/number; ls /root"),
        "2\nchanged\n1\nchanged\nnumber",
        "and no script ran"
    );
    assert!(roots(&host).starts_with("3     left     -"), "{}", roots(&host));
    host.exec("web01", "echo x > /old/root/x && rm /old/root/x");
    host.ok(["stop", "web01"]);
    host.ok(["reinstall", "web01", "--undo"]);
    assert!(!is_running(&host));
    refused(&host, &["reinstall", "web01", "--undo"], 21, &["generation 1 has no root before it"]);
    host.ok(["start", "web01"]);
    assert_eq!(host.exec("web01", "cat /root/number; ls -A /old 2>/dev/null || :"), "1");
    host.ok(["generation-switch", "web01", "3"]);
    assert_eq!(host.exec("web01", "cat /root/number /old/root/number /old/old/root/number"), "3\n2\n1");
    // A reinstall after an undo: the root that it leaves is at /old, the other one still there.
    host.ok(["reinstall", "web01", "--undo"]);
    host.ok(["reinstall", "web01"]);
    assert_eq!(host.exec("web01", "cat /old/root/number /old/old/root/number"), "2\n1");
    assert!(roots(&host).contains("3     left"), "{}", roots(&host));
}

#[test]
fn root_undo_to_a_root_without_an_init_is_refused() {
    let Some(host) = with_container() else { return };
    host.ok(["reinstall", "web01"]);
    host.exec("web01", "rm /old/sbin/init; echo 2 > /root/number");
    refused(&host, &["reinstall", "web01", "--undo"], 21, &["generation 1 has no /sbin/init"]);
    // Through a link of the old root nothing outside of it is looked at.
    host.exec("web01", "ln -s /../../../../../../../../sbin/init /old/sbin/init");
    host.ok(["stop", "web01"]);
    refused(&host, &["reinstall", "web01", "--undo"], 21, &["generation 1 has no /sbin/init"]);
}

#[test]
fn root_undo_to_a_root_that_does_not_come_up_stays_where_it_is() {
    let Some(host) = with_container() else { return };
    host.ok(["reinstall", "web01"]);
    host.exec(
        "web01",
        "printf '#!/bin/sh\\necho no way\\nexit 1\\n' > /old/sbin/init; echo 2 > /root/number",
    );
    let ran = host.run(["reinstall", "web01", "--undo"]);
    ran.failed(
        94,
        &[
            "error: cannot undo the reinstall of `web01`",
            "does not come up",
            "no way",
            "runs on its old root again, generation 2",
        ],
    );
    assert_eq!(host.exec("web01", "cat /root/number; echo x > /old/root/x && cat /old/root/number"), "2\n1");
}

#[test]
fn root_a_lock_that_another_command_holds_is_named_and_can_be_waited_for() {
    let Some(host) = with_container() else { return };
    let (ready, fifo) = (host.path("ready"), host.path("go-on"));
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &fifo,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    host.script(
        "etc/vz/conf/vps.reinstall",
        &format!("#!/bin/sh\n: >{}\nread -r word <{}\nexit 128\n", ready.display(), fifo.display()),
    );
    let mut first = host.prlctl();
    let mut first =
        first.args(["reinstall", "web01"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    host.wait_until("the first one runs its script", || ready.exists());
    for words in [
        &["reinstall", "web01"][..],
        &["reinstall", "web01", "--lock-wait", "0"],
        &["stop", "web01"],
        &["generation-switch", "web01", "1"],
    ] {
        let ran = host.run(words);
        ran.failed(
            9,
            &[
                "error: `web01` is locked by another command",
                &format!("`prlctl reinstall web01` (pid {}) holds it since", first.id()),
                "state: nothing was changed",
                "--lock-wait 60",
            ],
        );
    }
    let mut second = host.prlctl();
    let mut second = second
        .args(["reinstall", "web01", "--skipscripts", "--lock-wait", "60"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(std::fs::File::options().write(true).open(&fifo).unwrap());
    assert!(first.wait().unwrap().success());
    let mut said = String::new();
    second.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(second.wait().unwrap().success(), "{said}");
    assert!(roots(&host).starts_with("3     live"), "{}", roots(&host));
}

#[test]
fn root_with_json_stdout_is_one_document_and_stderr_is_lines_of_json() {
    let Some(host) = with_container() else { return };
    let document = |words: &[&str], code: i32| -> serde_json::Value {
        let ran = host.run(words);
        assert_eq!(ran.code, code, "{ran}");
        for line in ran.stderr.lines() {
            serde_json::from_str::<serde_json::Value>(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        }
        serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}\n{ran}"))
    };
    let done = document(&["reinstall", "web01", "-j"], 0);
    assert_eq!(
        (&done["result"], &done["old"], &done["new"], &done["is_old_kept"]),
        (&"reinstalled".into(), &1.into(), &2.into(), &true.into()),
        "{done}"
    );
    assert!(done["notes"].to_string().contains("joe"), "{done}");
    let undone = document(&["reinstall", "web01", "--undo", "--json"], 0);
    assert_eq!(
        (&undone["result"], &undone["from"], &undone["to"]),
        (&"undone".into(), &2.into(), &1.into()),
        "{undone}"
    );
    let plan = document(&["reinstall", "web01", "--dry-run", "-j"], 0);
    assert_eq!(plan["steps"].as_array().map(Vec::len), Some(10), "{plan}");
    host.script("etc/vz/conf/vps.configure", "#!/bin/sh\nexit 9\n");
    let failed = document(&["reinstall", "web01", "-j"], 94);
    let error = &failed["error"];
    assert_eq!((&error["code"], &error["exit"]), (&"reinstall-failed".into(), &94.into()), "{failed}");
    for key in ["what", "because", "state", "hint"] {
        assert!(!error[key].is_null(), "{failed}");
    }
    assert_eq!(document(&["reinstall", "nonesuch", "-j"], 14)["error"]["code"], "unknown-container");
    assert_eq!(document(&["reinstall", "web01", "-j", "--nonesuch"], 20)["error"]["code"], "bad-option");
}

#[test]
fn root_options_that_contradict_each_other_or_make_no_sense_are_refused() {
    let Some(host) = with_container() else { return };
    for (options, code) in [
        (&["--undo", "--skipbackup"][..], 20),
        (&["--undo", "--dry-run"], 20),
        (&["--skipscripts", "--scripts", "10-a.sh"], 20),
        (&["--timeout", "0"], 21),
        (&["--timeout", "soon"], 21),
        (&["--lock-wait", "-1"], 20),
        (&["--nonesuch"], 20),
    ] {
        refused(&host, &[&["reinstall", "web01"], options].concat(), code, &[]);
    }
}
