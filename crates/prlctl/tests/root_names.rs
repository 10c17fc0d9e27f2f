//! A container's name is its `NAME`, whoever has edited that.

use testkit::RealHost;

/// Puts another `NAME` into a container's `ve.conf`, as an editor would.
fn rename(host: &RealHost, area: &std::path::Path, name: &str) {
    let path = area.join("ve.conf");
    let text = std::fs::read_to_string(&path).expect("read ve.conf");
    let kept: String =
        text.lines().filter(|line| !line.starts_with("NAME=")).map(|line| format!("{line}\n")).collect();
    let below =
        path.strip_prefix(host.prefix()).expect("an area is below the prefix").to_string_lossy().into_owned();
    host.write(&below, &format!("{kept}NAME=\"{name}\"\n"), 0o600);
}

#[test]
fn root_a_name_that_was_edited_is_put_right_by_whoever_notices() {
    let Some(host) = RealHost::new(env!("CARGO_BIN_EXE_prlctl")) else { return };
    for name in ["web01", "db01"] {
        host.ok(["create", name, "--ostemplate", "busybox"]);
    }
    let (web, db) = (host.area("web01"), host.area("db01"));
    let links = || {
        let mut names: Vec<String> = std::fs::read_dir(host.path("etc/vz/names"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    };
    // By the new name at once, and the old link is gone with it.
    rename(&host, &web, "shop");
    host.ok(["status", "shop"]);
    host.ok(["start", "shop"]);
    assert_eq!(links(), ["db01", "shop"]);
    host.run(["status", "web01"]).failed(14, &["unknown container `web01`"]);
    // Two that change their names: each name means who has it now.
    rename(&host, &web, "db01");
    rename(&host, &db, "shop");
    assert!(host.ok(["status", "db01"]).contains("running"));
    assert!(host.ok(["status", "shop"]).contains("stopped"));
    host.ok(["recover"]);
    assert_eq!(links(), ["db01", "shop"]);
    host.ok(["exec", "db01", "true"]);
    // Two that claim one name.
    rename(&host, &db, "db01");
    let ran = host.run(["recover"]);
    let uuids = [&web, &db].map(|area| area.file_name().unwrap().to_string_lossy().into_owned());
    ran.failed(
        137,
        &["two containers are called `db01`", &uuids[0], &uuids[1], "state: ", "hint: correct NAME in "],
    );
    host.run(["create", "db01", "--ostemplate", "busybox"]).failed(137, &["the name `db01` is taken"]);
    assert!(host.ok(["status", "db01"]).contains("running"), "it is still whose it was");
    for command in ["stop", "restart", "reinstall", "delete"] {
        host.run([command, "db01"]).failed(
            137,
            &[
                "two containers are called `db01`",
                &uuids[0],
                &uuids[1],
                "state: nothing was changed",
                "hint: ",
            ],
        );
    }
    host.ok(["stop", &uuids[0], "--kill"]);
    host.ok(["status", &uuids[1]]);
    rename(&host, &db, "last");
    host.ok(["recover"]);
    assert_eq!(links(), ["db01", "last"]);
}

#[test]
fn root_a_name_is_not_given_away_while_its_configuration_cannot_be_read() {
    let Some(host) = RealHost::new(env!("CARGO_BIN_EXE_prlctl")) else { return };
    for name in ["web01", "db01"] {
        host.ok(["create", name, "--ostemplate", "busybox"]);
    }
    let (web, db) = (host.area("web01"), host.area("db01"));
    let conf = db.join("ve.conf");
    let below = conf.strip_prefix(host.prefix()).unwrap().to_string_lossy().into_owned();
    let whole = std::fs::read_to_string(&conf).unwrap();
    host.write(&below, &format!("{whole}HOSTNAME=\"an open quote\n"), 0o600);
    rename(&host, &web, "db01");
    let uuid = web.file_name().unwrap().to_string_lossy().into_owned();
    let ran = host.run(["start", &uuid]);
    assert!(ran.code == 0 && ran.stderr.contains("two containers are called `db01`"), "{ran}");
    host.ok(["stop", &uuid]);
    host.write(&below, &whole, 0o600);
    // It means whom it always meant; and as long as two claim it, nobody deletes by it.
    assert!(host.ok(["status", "db01", "-j"]).contains(&*db.file_name().unwrap().to_string_lossy()));
    host.run(["delete", "db01"]).failed(137, &["two containers are called `db01`"]);
    rename(&host, &web, "shop");
    host.ok(["delete", "db01"]);
    assert!(web.exists() && !db.exists());
}

#[test]
fn root_a_name_that_is_none_is_told_with_what_to_type() {
    let Some(host) = RealHost::new(env!("CARGO_BIN_EXE_prlctl")) else { return };
    host.ok(["create", "web01", "--ostemplate", "busybox"]);
    let area = host.area("web01");
    rename(&host, &area, "../x");
    let uuid = area.file_name().unwrap().to_string_lossy().into_owned();
    for words in [&["start", "web01"][..], &["recover"], &["restart", &uuid]] {
        let ran = host.run(words);
        assert_eq!(ran.code, 0, "{ran}");
        for said in ["warning: `NAME` in `", "/ve.conf` is not a name", "is ignored", &uuid] {
            assert!(ran.stderr.contains(said), "{words:?} does not say `{said}`\n{ran}");
        }
        assert_eq!(ran.stderr.matches("is ignored").count(), 1, "{ran}");
    }
    rename(&host, &area, "shop");
    assert!(host.ok(["status", "sh"]).contains("running"));
}

#[test]
fn root_a_name_that_a_deletion_has_left_does_not_mean_the_next_container_of_that_uuid() {
    let Some(host) = RealHost::new(env!("CARGO_BIN_EXE_prlctl")) else { return };
    host.ok(["create", "web01", "--ostemplate", "busybox"]);
    let area = host.area("web01");
    let uuid = area.file_name().unwrap().to_string_lossy().into_owned();
    host.ok(["delete", "web01"]);
    std::os::unix::fs::symlink(area.join("ve.conf"), host.path("etc/vz/names/web01")).unwrap();
    host.ok(["create", "db01", "--uuid", &uuid, "--ostemplate", "busybox"]);
    host.run(["status", "web01"]).failed(14, &["unknown container `web01`"]);
    assert!(host.ok(["status", "db01"]).contains("stopped"));
    host.ok(["create", "web01", "--ostemplate", "busybox"]);
}
