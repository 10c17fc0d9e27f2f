//! Records that something else has damaged, and filesystems that are full or cannot carry a container.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use testkit::{Ran, RealHost};

/// A host with a container `web01` that has two roots and a marker in each; it is stopped.
fn with_container() -> Option<RealHost> {
    let host = RealHost::new(env!("CARGO_BIN_EXE_prlctl"))?;
    host.started("web01");
    host.exec("web01", "echo 1 > /root/number");
    host.ok(["reinstall", "web01"]);
    host.exec("web01", "echo 2 > /root/number");
    host.ok(["stop", "web01"]);
    Some(host)
}

/// The records of an area, as they are.
fn records(area: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for name in [
        "ve.conf",
        "area.json",
        "operation.json",
        "generations/1/generation.json",
        "generations/2/generation.json",
    ] {
        if let Ok(bytes) = std::fs::read(area.join(name)) {
            found.push((name.into(), bytes));
        }
    }
    let live =
        std::fs::read_link(area.join("live")).map(|target| target.display().to_string()).unwrap_or_default();
    found.push(("live".into(), live.into_bytes()));
    found
}

fn four_lines(ran: &Ran) {
    let lines: Vec<&str> = ran.stderr.lines().skip_while(|line| !line.starts_with("error: ")).collect();
    for (start, index) in
        [("error: ", 0), ("  because: ", 1), ("  state: ", lines.len() - 2), ("  hint: ", lines.len() - 1)]
    {
        assert!(lines[index].starts_with(start), "{ran}");
    }
}

fn put(path: &Path, text: &str) {
    drop(std::fs::remove_file(path));
    std::fs::File::create(path).unwrap().write_all(text.as_bytes()).unwrap();
}

/// Each command refuses, says which file it is and what makes it again, and touches nothing; the rebuild does make it again.
#[track_caller]
fn refused_and_rebuilt(host: &RealHost, area: &Path, file: &str, what: &str) {
    let uuid = area.file_name().unwrap().to_str().unwrap().to_owned();
    let damaged = records(area);
    for words in [
        &["reinstall", "web01"][..],
        &["start", "web01"],
        &["reinstall", "web01", "--undo"],
        &["reinstall", &uuid, "-j"],
    ] {
        let ran = host.run(words);
        assert_eq!(ran.code, 85, "{what}: {words:?}\n{ran}");
        let said = format!("{}{}", ran.stdout, ran.stderr);
        for expected in [file, "nothing was changed"] {
            assert!(said.contains(expected), "{what}: {words:?} does not say `{expected}`\n{ran}");
        }
        assert_eq!(said.matches("prlctl recover --rebuild ").count(), 1, "{what}: {words:?}\n{ran}");
        let does =
            if file == "operation.json" { "puts the journal aside" } else { "makes the records again" };
        assert!(said.contains(does), "{what}: {words:?} does not say `{does}`\n{ran}");
        if !words.contains(&"-j") {
            four_lines(&ran);
        }
        assert_eq!(records(area), damaged, "{what}: {words:?}");
    }
    let text = host.ok(["recover", "--rebuild", "web01"]);
    assert!(
        text.contains(file) && text.ends_with("The records have been successfully rebuilt.\n"),
        "{what}: {text}"
    );
    host.ok(["start", "web01"]);
    let number = host.exec("web01", "cat /root/number");
    assert!(["1", "2"].contains(&number.as_str()), "{what}: {number}");
    host.ok(["reinstall", "web01"]);
    assert_eq!(host.exec("web01", "cat /old/root/number"), number, "{what}");
    host.ok(["stop", "web01"]);
}

#[test]
fn root_a_damaged_area_json_is_refused_and_made_again() {
    for (text, what) in [("", "empty"), ("{", "half"), ("[]", "no record"), ("\0\0\0\0", "zeros")] {
        let Some(host) = with_container() else { return };
        let area = host.area("web01");
        put(&area.join("area.json"), text);
        refused_and_rebuilt(&host, &area, "area.json", what);
    }
    let Some(host) = with_container() else { return };
    let area = host.area("web01");
    std::fs::remove_file(area.join("area.json")).unwrap();
    refused_and_rebuilt(&host, &area, "area.json", "missing");
}

#[test]
fn root_a_damaged_generation_json_is_refused_and_made_again() {
    for (text, what) in [("", "empty"), ("{\"format\":1}", "half"), ("null", "no record")] {
        let Some(host) = with_container() else { return };
        let area = host.area("web01");
        put(&area.join("generations/2/generation.json"), text);
        refused_and_rebuilt(&host, &area, "generation.json", what);
    }
}

#[test]
fn root_a_damaged_record_behind_old_is_refused_before_a_running_container_is_stopped() {
    let Some(host) = with_container() else { return };
    let area = host.area("web01");
    host.ok(["start", "web01"]);
    put(&area.join("generations/1/generation.json"), "damaged");
    let damaged = records(&area);
    for words in [
        &["reinstall", "web01", "--dry-run"][..],
        &["reinstall", "web01"],
        &["restart", "web01"],
        &["generation-switch", "web01", "1"],
    ] {
        let ran = host.run(words);
        ran.failed(85, &["generations/1/generation.json", "nothing was changed", "recover --rebuild web01"]);
        four_lines(&ran);
        assert_eq!(records(&area), damaged, "{words:?}");
        assert_eq!(host.exec("web01", "cat /root/number"), "2", "{words:?}");
    }
}

#[test]
fn root_a_damaged_live_link_is_refused_and_made_again() {
    for (target, what) in [
        (None, "missing"),
        (Some("/etc"), "elsewhere"),
        (Some("generations/x"), "no number"),
        (Some("generations/77"), "gone"),
    ] {
        let Some(host) = with_container() else { return };
        let area = host.area("web01");
        std::fs::remove_file(area.join("live")).unwrap();
        if let Some(target) = target {
            symlink(target, area.join("live")).unwrap();
        }
        if target == Some("generations/77") {
            let ran = host.run(["reinstall", "web01"]);
            assert_eq!(ran.code, 85, "{ran}");
            four_lines(&ran);
        }
        refused_and_rebuilt(&host, &area, if target == Some("generations/77") { "77" } else { "live" }, what);
    }
}

#[test]
fn root_a_damaged_operation_json_is_refused_and_put_aside() {
    for (text, what) in [("", "empty"), ("{\"format\":1}", "half"), ("not json", "other")] {
        let Some(host) = with_container() else { return };
        let area = host.area("web01");
        put(&area.join("operation.json"), text);
        refused_and_rebuilt(&host, &area, "operation.json", what);
    }
}

#[test]
fn root_a_journal_of_which_only_the_inside_is_damaged_is_refused_and_put_aside() {
    let Some(host) = with_container() else { return };
    let area = host.area("web01");
    let text = r#"{"format":1,"operation":"reinstall","steps":[],"boot_id":"x","was_running":false,"started":"2026-01-02T03:04:05Z","pid":1,"arguments":{}}"#;
    put(&area.join("operation.json"), text);
    let ran = host.run(["start", "web01"]);
    ran.failed(85, &["nothing was changed", "`prlctl recover --rebuild web01` puts the journal aside"]);
    four_lines(&ran);
    host.ok(["recover", "--rebuild", "web01"]);
    host.ok(["start", "web01"]);
    assert_eq!(host.exec("web01", "cat /root/number"), "2");
}

#[test]
fn root_a_damaged_record_is_a_row_of_the_list_wherever_it_is_in_the_chain() {
    let Some(host) = with_container() else { return };
    host.ok(["reinstall", "web01"]);
    let area = host.area("web01");
    for (number, places) in [
        (3, [("3", "damaged", "/"), ("2", "left", "-"), ("1", "left", "-")]),
        (2, [("3", "live", "/"), ("2", "damaged", "/old"), ("1", "left", "-")]),
        (1, [("3", "live", "/"), ("2", "retired", "/old"), ("1", "damaged", "/old/old")]),
    ] {
        let file = area.join(format!("generations/{number}/generation.json"));
        let whole = std::fs::read_to_string(&file).unwrap();
        put(&file, "{");
        let ran = host.run(["generation-list", "web01", "-H", "--all"]);
        assert_eq!(ran.code, 0, "{ran}");
        let rows: Vec<Vec<&str>> =
            ran.stdout.lines().map(|line| line.split_whitespace().take(3).collect()).collect();
        assert_eq!(rows, places.map(|(number, state, place)| vec![number, state, place]), "{ran}");
        let hint = format!("warning: generation {number} is damaged: `prlctl recover --rebuild web01` makes");
        assert!(ran.stderr.contains(&hint), "{ran}");
        // Without --all too: it may be what is at /old.
        let json: serde_json::Value =
            serde_json::from_str(&host.ok(["generation-list", "web01", "-j"])).unwrap();
        let row = json.as_array().unwrap().iter().find(|row| row["number"] == number).unwrap();
        assert_eq!(
            (&row["state"], &row["made_from"], &row["created"]),
            (&"damaged".into(), &serde_json::Value::Null, &serde_json::Value::Null)
        );
        assert!(row["damage"].as_str().unwrap().contains("generation.json"), "{row}");
        put(&file, &whole);
    }
}

#[test]
fn root_recover_tells_of_every_container_in_json_and_of_an_error_at_the_top() {
    let Some(host) = with_container() else { return };
    host.ok(["create", "db01", "--ostemplate", "busybox"]);
    let json: serde_json::Value = serde_json::from_str(&host.ok(["recover", "-j"])).unwrap();
    assert_eq!((&json["result"], &json["error"]), (&"recovered".into(), &serde_json::Value::Null));
    put(&host.area("web01").join("area.json"), "{");
    let ran = host.run(["recover", "-j"]);
    assert_eq!(ran.code, 85, "{ran}");
    let json: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(json["result"], serde_json::Value::Null, "{ran}");
    assert_eq!((&json["error"]["code"], &json["error"]["exit"]), (&"damaged".into(), &85.into()), "{ran}");
    assert!(json["error"]["hint"].as_str().unwrap().contains("recover --rebuild"), "{ran}");
    for one in json["containers"].as_array().unwrap() {
        let expected = if one["name"] == "db01" { serde_json::Value::Null } else { json["error"].clone() };
        assert_eq!(one["error"], expected, "{ran}");
    }
}

#[test]
fn root_a_damaged_ve_conf_is_refused_by_line_and_is_for_its_owner_to_correct() {
    let Some(host) = with_container() else { return };
    let area = host.area("web01");
    let uuid = area.file_name().unwrap().to_str().unwrap().to_owned();
    let conf = area.join("ve.conf");
    let good = std::fs::read_to_string(&conf).unwrap();
    for (text, said) in [
        (String::new(), "ve.conf"),
        (format!("{good}ONBOOT=\"yes\n"), "line "),
        ("\0\0\0".to_owned(), "ve.conf"),
    ] {
        put(&conf, &text);
        for command in ["reinstall", "start"] {
            let ran = host.run([command, &uuid]);
            ran.failed(85, &["ve.conf", said, "state: nothing was changed", "hint: "]);
            four_lines(&ran);
            assert_eq!(std::fs::read_to_string(&conf).unwrap(), text);
            assert!(!area.join("generations/3").exists());
        }
    }
    put(&conf, &good);
    host.ok(["reinstall", "web01"]);
}

#[test]
fn root_a_record_of_a_newer_format_is_refused_with_both_numbers_and_never_rebuilt() {
    let Some(host) = with_container() else { return };
    let area = host.area("web01");
    let file = area.join("area.json");
    let text = std::fs::read_to_string(&file).unwrap();
    let mut json: serde_json::Value = serde_json::from_str(&text).unwrap();
    json["format"] = 99.into();
    put(&file, &json.to_string());
    for words in [&["start", "web01"][..], &["recover", "--rebuild", "web01"]] {
        host.run(words).failed(85, &["99", "knows 1", "newer version", "nothing was changed"]);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), json.to_string());
    }
}

#[test]
fn root_a_running_container_with_damaged_records_can_still_be_stopped_and_then_rebuilt() {
    for name in ["area.json", "generations/2/generation.json", "operation.json", "live"] {
        let Some(host) = with_container() else { return };
        host.ok(["start", "web01"]);
        let area = host.area("web01");
        put(&area.join(name), "damaged");
        let ran = host.run(["recover", "--rebuild", "web01"]);
        ran.failed(32, &["it runs", "state: nothing was changed", "prlctl stop web01"]);
        let ran = host.run(["stop", "web01"]);
        assert_eq!(ran.code, 0, "{name}\n{ran}");
        host.ok(["recover", "--rebuild", "web01"]);
        host.ok(["start", "web01"]);
    }
}

/// A host on a small filesystem of its own, with `web01` running.
fn on_small_disk(size: &str) -> Option<RealHost> {
    let host = RealHost::on_image(env!("CARGO_BIN_EXE_prlctl"), size, "ext4")?;
    // As on every host: what dies with it is not on its disk.
    let run = host.path("run");
    std::fs::create_dir_all(&run).unwrap();
    let mut mount = std::process::Command::new("mount");
    assert!(mount.args(["-t", "tmpfs", "-o", "size=16m", "none"]).arg(&run).status().unwrap().success());
    assert!(host.vzpkg().args(["create", "cache", "busybox"]).output().unwrap().status.success());
    host.started("web01");
    host.exec("web01", "echo 1 > /root/number");
    Some(host)
}

/// Writes until there is no room left; gives back so much of it.
fn fill(path: &Path, give_back: u64) {
    let mut file = std::fs::File::create(path).unwrap();
    for block in [1 << 20, 4096, 512] {
        let bytes = vec![b'x'; block];
        while file.write_all(&bytes).is_ok() {}
    }
    file.sync_all().ok();
    let length = file.metadata().unwrap().len();
    file.set_len(length.saturating_sub(give_back)).unwrap();
}

#[test]
fn root_a_full_filesystem_refuses_with_figures_and_changes_nothing() {
    let Some(host) = on_small_disk("48M") else { return };
    let area = host.area("web01");
    fill(&host.path("ballast"), 0);
    let before = records(&area);
    let ran = host.run(["reinstall", "web01"]);
    ran.failed(
        46,
        &[
            "error: cannot reinstall `web01`",
            "needs 1024 KiB and 64 inodes, there are ",
            "state: nothing was changed",
            "hint: make room",
        ],
    );
    four_lines(&ran);
    assert_eq!(records(&area), before);
    assert_eq!(host.exec("web01", "cat /root/number"), "1", "it still runs");
    let create = ["create", "web02", "--ostemplate", "busybox"];
    let ran = host.run(create);
    ran.failed(
        46,
        &[
            "error: cannot create `web02`\n",
            "a new container needs 1024 KiB and 64 inodes, there are ",
            "state: nothing was changed",
            "hint: make room",
        ],
    );
    let ran = Ran::of(host.vzpkg().args(["create", "cache", "busybox"]).output().unwrap());
    ran.failed(
        46,
        &[
            "error: cannot make template `busybox`\n",
            "the template while it is made needs 8192 KiB and 1000 inodes, there are ",
            "state: nothing was changed",
            "hint: make room",
        ],
    );
    assert_eq!(std::fs::read_dir(host.path("etc/vz/names")).unwrap().count(), 1);
    let run = host.path("run/ballast");
    fill(&run, 0);
    let ran = host.run(["restart", "web01"]);
    ran.failed(
        46,
        &[
            "error: cannot restart `web01`\n",
            "cannot write below ",
            "a start needs 64 KiB and 32 inodes, there are 0 KiB and ",
            "state: nothing was changed",
            "hint: make room",
        ],
    );
    std::fs::remove_file(run).unwrap();
    // Enough for the default one, not for a script.
    fill(&host.path("ballast"), 6 << 20);
    host.script("etc/vz/conf/vps.reinstall", "#!/bin/sh\nexit 0\n");
    host.run(["reinstall", "web01"]).failed(46, &["needs 16384 KiB"]);
    host.ok(["reinstall", "web01", "--skipscripts"]);
    assert_eq!(host.exec("web01", "cat /old/root/number"), "1");
}

/// Going back and deleting need no room: what they write lies in the reserve.
#[test]
fn root_what_goes_back_or_deletes_works_on_a_full_filesystem() {
    let Some(host) = on_small_disk("48M") else { return };
    host.ok(["reinstall", "web01"]);
    host.ok(["reinstall", "web01"]);
    host.ok(["reinstall", "web01"]);
    host.ok(["create", "web02", "--ostemplate", "busybox"]);
    let ballast = host.path("ballast");
    fill(&ballast, 0);
    host.ok(["generation-delete", "web01", "3"]);
    assert_eq!(host.exec("web01", "cat /old/old/root/number"), "1");
    host.ok(["stop", "web01"]);
    // What was deleted has given some back.
    host.wait_until("some is kept back again", || host.path("vz/private/.reserve").exists());
    let mut file = std::fs::File::options().append(true).open(&ballast).unwrap();
    while file.write_all(&[b'x'; 512]).is_ok() {}
    drop(file);
    host.ok(["reinstall", "web01", "--undo"]);
    host.run(["start", "web02"])
        .failed(46, &["error: cannot start `web02`", "No space left on device", "hint: make room"]);
    host.ok(["delete", "web02"]);
    std::fs::remove_file(&ballast).unwrap();
    rustix::fs::sync();
    host.ok(["start", "web01"]);
    assert_eq!(host.exec("web01", "cat /old/root/number"), "1");
    host.ok(["stop", "web01", "--kill"]);

    // The highest number goes on a disk without any inode.
    let directory = host.path("ballast");
    std::fs::create_dir(&directory).unwrap();
    let mut count = 0;
    while std::fs::File::create(directory.join(count.to_string())).is_ok() {
        count += 1;
    }
    host.ok(["generation-delete", "web01", "4"]);
    host.wait_until("some is kept back again", || host.path("vz/private/.reserve").exists());
    host.ok(["reinstall", "web01", "--undo"]);
    for number in 0..count {
        std::fs::remove_file(directory.join(number.to_string())).unwrap();
    }
    rustix::fs::sync();
    host.ok(["start", "web01"]);
    assert_eq!(host.exec("web01", "cat /root/number"), "1");
}

#[test]
fn root_a_filesystem_without_inodes_refuses_with_figures() {
    let Some(host) = on_small_disk("48M") else { return };
    let directory = host.path("ballast");
    std::fs::create_dir(&directory).unwrap();
    let mut count = 0;
    while std::fs::File::create(directory.join(count.to_string())).is_ok() {
        count += 1;
    }
    host.run(["reinstall", "web01"])
        .failed(46, &["64 inodes, there are ", " and 0 inodes", "state: nothing was changed"]);
    assert_eq!(host.exec("web01", "cat /root/number"), "1");
}

#[test]
fn root_a_script_that_fills_the_filesystem_is_undone_and_its_room_given_back() {
    let Some(host) = on_small_disk("64M") else { return };
    host.script("etc/vz/conf/vps.reinstall", "#!/bin/sh\ncp -a \"$OSTEMPLATE_ROOT/.\" \"$VE_PRIVATE_TMP/\"\nexec cat /dev/zero >\"$VE_PRIVATE_TMP/srv/large\"\n");
    host.run(["reinstall", "web01"]).failed(
        128,
        &["`vps.reinstall` exited with 1", "No space left on device", "runs on its old root again"],
    );
    assert_eq!(host.exec("web01", "cat /root/number"), "1");
    std::fs::remove_file(host.path("etc/vz/conf/vps.reinstall")).unwrap();
    host.script("etc/vz/conf/vps.configure", "#!/bin/sh\nexec cat /dev/zero >/srv/large\n");
    host.ok(["recover"]);
    let trash = host.path("vz/private/.trash");
    host.wait_until("the trash is empty", || {
        std::fs::read_dir(&trash).map_or(true, |mut entries| entries.next().is_none())
    });
    host.run(["reinstall", "web01"]).failed(
        94,
        &["`vps.configure` exited with 1", "No space left on device", "runs on its old root again"],
    );
    assert_eq!(host.exec("web01", "cat /root/number"), "1");
}

#[test]
fn root_a_filesystem_that_cannot_carry_an_overlay_is_named_with_what_to_do() {
    let Some(host) = RealHost::bare(env!("CARGO_BIN_EXE_prlctl")) else { return };
    let parts = ["lower", "upper", "work", "merged"].map(|name| host.path(name));
    for part in &parts {
        std::fs::create_dir(part).unwrap();
    }
    let [lower, upper, work, merged] = parts.map(|path| path.display().to_string());
    let options = format!("lowerdir={lower},upperdir={upper},workdir={work}");
    assert!(
        std::process::Command::new("mount")
            .args(["-t", "overlay", "none", "-o", &options, &merged])
            .status()
            .unwrap()
            .success()
    );
    let run = |vzpkg: bool, words: &[&str]| {
        let mut command = if vzpkg { host.vzpkg() } else { host.prlctl() };
        Ran::of(command.env("REROOT_PREFIX", &merged).args(words).output().unwrap())
    };
    assert_eq!(run(true, &["create", "cache", "busybox"]).code, 0);
    let made = run(false, &["create", "web01", "--ostemplate", "busybox"]);
    let ran = if made.code == 0 { run(false, &["start", "web01"]) } else { made };
    ran.failed(
        5,
        &[
            "error: cannot ",
            "(overlay)",
            "state: ",
            "put /vz on ext4, xfs or btrfs; a loop-mounted image does",
        ],
    );
    four_lines(&ran);
    assert_eq!(run(false, &["list", "-H"]).stdout, "", "nothing runs");
}

#[test]
fn root_a_full_run_keeps_nobody_from_stopping_and_deleting() {
    let Some(host) = on_small_disk("48M") else { return };
    host.ok(["create", "web02", "--ostemplate", "busybox"]);
    // As after a boot, of which nobody has come by yet.
    for lock in std::fs::read_dir(host.path("run/vz/lock")).unwrap() {
        std::fs::remove_file(lock.unwrap().path()).unwrap();
    }
    fill(&host.path("run/ballast"), 0);
    assert_eq!(host.exec("web01", "cat /root/number"), "1");
    // What stops it to start it again must know that it can.
    for words in [&["restart", "web01"][..], &["reinstall", "web01"], &["restart", "web01", "--kill"]] {
        let ran = host.run(words);
        ran.failed(46, &["No space left on device", "state: nothing was changed", "hint: make room there"]);
        four_lines(&ran);
        assert_eq!(host.exec("web01", "cat /root/number"), "1", "{words:?}");
    }
    host.ok(["delete", "web02"]);
    host.ok(["stop", "web01"]);
    host.ok(["delete", "web01"]);
}
