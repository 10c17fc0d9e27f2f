//! The scripts that run inside the new root, `vps.configure` and those of `reinstall.d`: each line of their contract.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::Path;

use testkit::{Ran, RealHost};

const CONFIGURE: &str = "etc/vz/conf/vps.configure";

/// A host with a running container `web01` whose root has a marker.
fn with_container() -> Option<RealHost> {
    let host = RealHost::new(env!("CARGO_BIN_EXE_prlctl"))?;
    host.started("web01");
    host.exec("web01", "echo old > /root/marker");
    Some(host)
}

fn roots(host: &RealHost) -> String {
    host.ok(["generation-list", "web01", "-H", "--all"])
}

fn is_running(host: &RealHost) -> bool {
    host.ok(["status", "web01"]).contains(" running")
}

#[track_caller]
fn undone(host: &RealHost, words: &[&str], said: &[&str]) -> Ran {
    let (was_running, conf) = (is_running(host), std::fs::read(host.area("web01").join("ve.conf")).unwrap());
    let ran = host.run(words);
    ran.failed(94, &["error: cannot reinstall `web01`\n", "\n  state: nothing was lost", "\n  hint: "]);
    ran.failed(94, said);
    assert_eq!(is_running(host), was_running, "it runs if it ran\n{ran}");
    if was_running {
        assert_eq!(host.exec("web01", "cat /root/marker; ls -d /old 2>/dev/null || :"), "old");
        host.exec("web01", "echo it is writable again > /root/other");
    }
    assert_eq!(std::fs::read(host.area("web01").join("ve.conf")).unwrap(), conf);
    assert!(!host.area("web01").join("operation.json").exists());
    assert!(roots(host).contains("1     live"), "{}", roots(host));
    ran
}

#[test]
fn root_vps_configure_gets_its_environment_and_nothing_else_and_leaves_nothing_behind() {
    let Some(host) = with_container() else { return };
    host.script(
        CONFIGURE,
        "#!/bin/sh\n# unmistakable-words-of-this-script\n{ tr '\\0' '\\n' </proc/$$/environ | sort; echo \"arguments: $*\"; pwd; \
         readlink /proc/$$/fd/0; id -u; } >/root/record\nls /old/root >>/root/record\necho hello; echo oops >&2\n",
    );
    let ran = host.run(["reinstall", "web01"]);
    assert_eq!(ran.code, 0, "{ran}");
    for words in ["vps.configure: hello\n", "vps.configure: oops\n"] {
        assert!(ran.stderr.contains(words), "output is marked with its source\n{ran}");
    }
    let uuid = host.area("web01").file_name().unwrap().to_string_lossy().into_owned();
    assert_eq!(
        host.exec("web01", "cat /root/record"),
        format!(
            "HOME=/\nPATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nREINSTALL_DATA_ROOT=/old\nSHELL=/bin/sh\n\
             VEID={uuid}\narguments: \n/\n/dev/null\n0\nmarker"
        )
    );
    let delta = host.area("web01").join("generations/2/delta");
    assert_eq!(holding(&delta, b"unmistakable-words"), Vec::<String>::new());
    assert_eq!(host.exec("web01", "ls /tmp /var/tmp /run | grep -i script || :"), "");
}

/// The files below a directory in which these bytes stand.
fn holding(directory: &Path, bytes: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap().flatten() {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            found.extend(holding(&entry.path(), bytes));
        } else if kind.is_file()
            && std::fs::read(entry.path()).unwrap().windows(bytes.len()).any(|words| words == bytes)
        {
            found.push(entry.path().display().to_string());
        }
    }
    found
}

#[test]
fn root_vps_configure_is_run_by_its_own_interpreter_if_the_container_has_it_and_else_by_sh() {
    let Some(host) = with_container() else { return };
    for (script, by) in [
        ("#!/usr/bin/awk -f\nBEGIN { print \"awk\" > \"/by\" }\n", "awk"),
        ("#!/usr/bin/env sh\nreadlink /proc/$$/exe > /by\n", "/bin/busybox"),
        ("#!/usr/bin/no-such-interpreter\necho sh > /by\n", "sh"),
        ("echo 'no first line' > /by\n", "no first line"),
    ] {
        host.script(CONFIGURE, script);
        host.ok(["reinstall", "web01", "--skipbackup"]);
        assert_eq!(host.exec("web01", "cat /by"), by, "{script}");
    }
}

#[test]
fn root_a_script_inside_that_fails_has_the_reinstall_undone_and_the_command_exits_with_94() {
    let Some(host) = with_container() else { return };
    for (end, said) in [
        ("echo no licence >&2\nexit 3", "`vps.configure` exited with 3\n  because: no licence"),
        ("exit 128", "`vps.configure` exited with 128"),
        ("kill -KILL $$", "`vps.configure` was killed by signal 9"),
        ("trap '' TERM\nsleep 1000", "`vps.configure` did not end within 1 s and was killed"),
        ("rm -rf /bin/busybox /sbin/init\nexit 1", "`vps.configure` exited with 1"),
    ] {
        host.script(CONFIGURE, &format!("#!/bin/sh\necho tried > /root/tried\n{end}\n"));
        undone(
            &host,
            &["reinstall", "web01", "--timeout", "1"],
            &[said, "runs on its old root again", "or add --skipscripts"],
        );
        // The newest root that failed is kept for a look, and only that.
        assert_eq!(roots(&host).matches("failed").count(), 1, "{}", roots(&host));
    }
    let failed = roots(&host).lines().next().unwrap().split_whitespace().next().unwrap().to_owned();
    let tried = host.area("web01").join("generations").join(failed).join("delta/root/tried");
    assert_eq!(std::fs::read_to_string(tried).unwrap(), "tried\n");
    host.ok(["stop", "web01"]);
    undone(&host, &["reinstall", "web01"], &["is stopped, on its old root"]);
    host.ok(["reinstall", "web01", "--no-scripts"]);
    host.ok(["start", "web01"]);
    assert_eq!(host.exec("web01", "cat /old/root/marker"), "old");
}

#[test]
fn root_a_container_that_is_shut_down_or_rebooted_while_a_script_runs_in_it_has_failed() {
    let Some(host) = with_container() else { return };
    for way in ["poweroff", "reboot", "kill -TERM 1"] {
        host.script(CONFIGURE, &format!("#!/bin/sh\ntrap '' TERM\n{way}\nwhile :; do sleep 1; done\n"));
        undone(&host, &["reinstall", "web01"], &["`vps.configure` "]);
        host.script(CONFIGURE, "#!/bin/sh\n");
        host.script(
            "etc/vz/reinstall.d/10-down.sh",
            &format!("#!/bin/sh\n{way}\nwhile :; do sleep 1; done\n"),
        );
        undone(&host, &["reinstall", "web01"], &["`10-down.sh` "]);
        std::fs::remove_file(host.path("etc/vz/reinstall.d/10-down.sh")).unwrap();
    }
}

#[test]
fn root_a_script_whose_last_word_is_reboot_or_poweroff_has_failed() {
    let Some(host) = with_container() else { return };
    for way in ["reboot", "poweroff", "kill -TERM 1", "reboot -f"] {
        for _ in 0..3 {
            host.script(CONFIGURE, &format!("#!/bin/sh\n{way}\nexit 0\n"));
            undone(&host, &["reinstall", "web01"], &["`vps.configure` "]);
        }
    }
}

#[test]
fn root_a_script_that_wakes_init_for_something_else_has_not_failed() {
    let Some(host) = with_container() else { return };
    // Orphans that end are init's to reap; one that stays is nobody's business.
    host.script(CONFIGURE, "#!/bin/sh\n(sleep 0.01 &)\n(sleep 1000 &)\nsleep 0.05\n(sleep 0.01 &)\nexit 0\n");
    host.ok(["reinstall", "web01", "--skipbackup"]);
    assert_eq!(host.exec("web01", "pidof sleep | wc -w"), "1");
}

#[test]
fn root_a_script_that_takes_init_away_has_failed() {
    let Some(host) = with_container() else { return };
    for way in ["rm /sbin/init", "chmod a-x /sbin/init", "mv /sbin /sbin.gone", "ln -sf /nosuch /sbin/init"] {
        host.script(CONFIGURE, &format!("#!/bin/sh\n{way}\nexit 0\n"));
        let said = "`vps.configure` has taken away `/sbin/init`: the new root would not start again";
        undone(&host, &["reinstall", "web01"], &[said]);
    }
}

#[test]
fn root_the_old_root_is_at_old_while_a_script_runs_and_cannot_be_damaged_there() {
    let Some(host) = with_container() else { return };
    host.exec("web01", "cp /bin/busybox /root/id; chmod 4755 /root/id; chown 1000 /root");
    host.script(
        CONFIGURE,
        "#!/bin/sh\nexec 2>&1\n\
         echo x >/old/f && echo WRITTEN\n\
         echo x >/old/root/marker && echo WRITTEN\n\
         mount -o remount,rw /old && echo REMOUNTED\n\
         mount -o remount,bind,rw,suid,dev /old && echo REMOUNTED\n\
         mkdir /second && mount -o bind /old /second && mount -o remount,bind,rw,suid /second && echo x >/second/f && echo WRITTEN\n\
         mount -t overlay none / -o lowerdir=/old && echo OVERLAID\n\
         rm -rf /old/root\n\
         grep ' /old ' /proc/self/mounts >/root/flags\n\
         cat /old/root/marker >/root/seen\n",
    );
    for words in [vec!["reinstall", "web01"], vec!["reinstall", "web01", "--skipbackup"]] {
        let ran = host.run(&words);
        assert_eq!(ran.code, 0, "{ran}");
        for done in ["WRITTEN", "REMOUNTED", "OVERLAID"] {
            assert!(!ran.stderr.contains(done), "{ran}");
        }
        assert_eq!(host.exec("web01", "cat /root/seen"), "old", "also with --skipbackup");
        let flags = host.exec("web01", "cat /root/flags");
        for flag in ["ro", "nosuid", "nodev"] {
            assert!(flags.split([' ', ',']).any(|one| one == flag), "{flags}");
        }
        host.exec("web01", "echo old > /root/marker");
    }
    host.script(CONFIGURE, "#!/bin/sh\n");
}

#[test]
fn root_scripts_of_reinstall_d_run_in_the_order_of_their_bytes_after_vps_configure() {
    let Some(host) = with_container() else { return };
    let note = "#!/bin/sh\necho \"$NAME $REINSTALL_DATA_ROOT $HOME $(pwd) ${VEID:+has-id}\" >>/root/order\n";
    host.script(CONFIGURE, &note.replace("$NAME", "configure"));
    for name in ["b.sh", "B.sh", "10-a.sh", "9-a.sh", "not.txt", "plain"] {
        host.script(&format!("etc/vz/reinstall.d/{name}"), &note.replace("$NAME", name));
    }
    host.write("etc/vz/reinstall.d/0-off.sh", note, 0o644);
    std::fs::create_dir(host.path("etc/vz/reinstall.d/dir.sh")).unwrap();
    host.write("etc/vz/reinstall.d/B.desc", "Sends a mail\nand more\n", 0o644);

    assert_eq!(host.ok(["reinstall", "web01", "--listscripts"]), "10-a.sh\n9-a.sh\nB.sh\nb.sh\n");
    assert_eq!(
        host.ok(["reinstall", "web01", "--listscripts", "--desc"]),
        "10-a.sh:\n9-a.sh:\nB.sh:Sends a mail\nb.sh:\n"
    );
    let json = host.ok(["reinstall", "web01", "--listscripts", "-j"]);
    let list: Vec<serde_json::Value> = serde_json::from_str(&json).unwrap();
    assert_eq!(list[2], serde_json::json!({ "name": "B.sh", "description": "Sends a mail" }));
    assert_eq!(roots(&host).lines().count(), 1, "nothing was reinstalled");

    let lines = |names: &[&str]| -> String {
        names.iter().map(|name| format!("{name} /old / / has-id")).collect::<Vec<_>>().join("\n")
    };
    let order = |words: &[&str]| {
        host.ok([&["reinstall", "web01", "--skipbackup"], words].concat());
        host.exec("web01", "cat /root/order 2>/dev/null || :")
    };
    assert_eq!(order(&[]), lines(&["configure", "10-a.sh", "9-a.sh", "B.sh", "b.sh"]));
    assert_eq!(order(&["--scripts", "b.sh,10-a.sh"]), lines(&["configure", "10-a.sh", "b.sh"]));
    assert_eq!(order(&["--scripts", "b.sh", "--scripts", "B.sh"]), lines(&["configure", "B.sh", "b.sh"]));
    assert_eq!(order(&["--skipscripts"]), "");
    assert_eq!(order(&["--no-scripts"]), "");

    host.script("etc/vz/reinstall.d/9-a.sh", "#!/bin/sh\nexit 4\n");
    let ran = host.run(["reinstall", "web01"]);
    ran.failed(94, &["`9-a.sh` exited with 4", "runs on its old root again"]);
    assert!(!ran.stderr.contains("Running B.sh"), "{ran}");
}

#[test]
fn root_a_stopped_container_is_started_for_its_scripts_and_stopped_again() {
    let Some(host) = with_container() else { return };
    host.ok(["stop", "web01"]);
    host.script(CONFIGURE, "#!/bin/sh\ncat /old/root/marker > /root/seen\n");
    let ran = host.run(["reinstall", "web01"]);
    assert_eq!(ran.code, 0, "{ran}");
    assert!(!is_running(&host));
    host.wait_until("nothing is mounted", || {
        !host
            .mounts()
            .iter()
            .any(|point| point.starts_with(host.path("run/vz")) && *point != host.path("run/vz"))
    });
    host.ok(["start", "web01"]);
    assert_eq!(host.exec("web01", "cat /root/seen"), "old");
    host.exec("web01", "echo x > /old/written");
}

#[test]
fn root_scripts_of_the_old_root_are_run_only_when_asked_for_and_after_those_of_the_host() {
    let Some(host) = with_container() else { return };
    let note = "#!/bin/sh\necho \"$NAME $REINSTALL_DATA_ROOT ${VEID:+has-id} $(test -e /root/marker || echo new)\" >>/order\n";
    host.exec(
        "web01",
        "mkdir -p /etc/vz/reinstall.d; cd /etc/vz/reinstall.d; \
         for name in 10-a b; do printf '#!/bin/sh\\necho inside %s $REINSTALL_DATA_ROOT $(readlink /proc/$$/fd/0) >>/order\\n' $name > $name.sh; chmod 755 $name.sh; done; \
         echo 'Inside, first' > 10-a.desc; \
         printf 'exit 1\\n' > plain.sh; printf 'exit 1\\n' > others.sh; chmod 755 others.sh; chown 1000 others.sh; \
         printf 'exit 1\\n' > shared.sh; chmod 777 shared.sh; ln -s /etc/shadow link.sh; ln -s b.sh near.sh; mkfifo fifo.sh; \
         dd if=/dev/zero of=huge.sh bs=1024 count=2000 2>/dev/null; chmod 755 huge.sh",
    );
    host.script("etc/vz/reinstall.d/10-a.sh", &note.replace("$NAME", "host"));
    let order = || host.exec("web01", "cat /order 2>/dev/null || :");
    let inside = |name: &str| format!("inside {name} /old /dev/null");
    let of_host = "host /old has-id new";

    host.ok(["reinstall", "web01"]);
    assert_eq!(order(), of_host, "not without the option");
    host.ok(["reinstall", "web01", "--undo"]);

    let words = ["reinstall", "web01", "--scripts-from-old"];
    let plan = host.ok([&words[..], &["--dry-run"]].concat());
    assert!(plan.contains("configure  run 10-a.sh, old:10-a.sh, old:b.sh in it\n"), "{plan}");
    assert!(plan.contains("REINSTALL_DATA_ROOT=/old /old/etc/vz/reinstall.d/10-a.sh\n"), "{plan}");
    let ran = host.run(words);
    assert_eq!(ran.code, 0, "{ran}");
    assert_eq!(order(), [of_host.to_owned(), inside("10-a"), inside("b")].join("\n"));
    for told in [
        "`old:10-a.sh`, a script of the old root, has been run\n",
        "/etc/vz/reinstall.d/others.sh of the old root is not run: it belongs to user 1000\n",
        "/etc/vz/reinstall.d/shared.sh of the old root is not run: others than its owner may write to it\n",
        "/etc/vz/reinstall.d/huge.sh of the old root is not run: ",
    ] {
        assert!(
            ran.stderr.contains(told) && (told.contains("has been run") || plan.contains(told)),
            "{told}\n{ran}"
        );
    }
    for silent in ["plain", "link", "near", "fifo"] {
        assert!(!ran.stderr.contains(silent), "{ran}");
    }
    let logs = host.path("var/log/vz/operations").join(host.area("web01").file_name().unwrap());
    assert_ne!(
        holding(&logs, b"script /old/etc/vz/reinstall.d/b.sh of the old root"),
        Vec::<String>::new(),
        "the log names it"
    );
    host.ok(["reinstall", "web01", "--undo"]);

    // Chosen by name, and listed, with those of the host.
    host.ok([&words[..], &["--scripts", "b.sh"]].concat());
    assert_eq!(order(), inside("b"));
    host.ok(["reinstall", "web01", "--undo"]);
    host.run([&words[..], &["--scripts", "c.sh"]].concat())
        .failed(21, &["there are: 10-a.sh, 10-a.sh, b.sh"]);
    host.run(["reinstall", "web01", "--scripts", "b.sh"]).failed(21, &["there are: 10-a.sh"]);
    host.run([&words[..], &["--skipscripts"]].concat()).failed(20, &["--scripts-from-old"]);
    let list = [&words[..], &["--listscripts", "--desc"]].concat();
    assert_eq!(host.ok(&list), "10-a.sh:\n10-a.sh:Inside, first\nb.sh:\n");
    let json: serde_json::Value = serde_json::from_str(&host.ok([&list[..], &["-j"]].concat())).unwrap();
    assert_eq!(json[0], serde_json::json!({ "name": "10-a.sh", "description": null }));
    assert_eq!(
        json[1],
        serde_json::json!({ "name": "10-a.sh", "description": "Inside, first", "is_from_old": true })
    );

    // A stopped one is started for them; one that fails has the reinstall undone.
    host.ok(["stop", "web01"]);
    host.ok(words);
    host.ok(["start", "web01"]);
    assert_eq!(order().lines().count(), 3);
    host.ok(["reinstall", "web01", "--undo"]);
    host.exec("web01", "printf '#!/bin/sh\\necho no >&2; exit 7\\n' > /etc/vz/reinstall.d/b.sh");
    undone(
        &host,
        &words,
        &["`old:b.sh` exited with 7\n", "because: no\n", "or leave --scripts-from-old out"],
    );
    // The directory may lead nowhere in the root, but never out of it.
    host.script("etc/vz/outside/x.sh", "#!/bin/sh\nexit 9\n");
    let outside = host.path("etc/vz/outside").display().to_string();
    host.exec("web01", &format!("rm -r /etc/vz/reinstall.d; ln -s {outside} /etc/vz/reinstall.d"));
    host.ok(words);
    assert_eq!(order(), of_host);
}
