//! `prlctl reinstall --keep-changed`: what the container changed against its template is in the new root, and what it left alone is the template's.

use testkit::RealHost;

/// A host with a running container `web01` that has changed something of each kind.
fn with_container() -> Option<RealHost> {
    let host = RealHost::new(env!("CARGO_BIN_EXE_prlctl"))?;
    host.started("web01");
    host.exec(
        "web01",
        "mkdir -p /etc/app/deep && echo added > /etc/app/deep/conf && ln /etc/app/deep/conf /etc/app/same && chown -R 33:34 /etc/app \
         && ln -s deep/conf /etc/app/link && touch -d @1000000000 /etc/app/deep/conf \
         && echo old > /etc/profile && chmod 711 /root && rm /bin/true && touch -d @1000000000 /bin/sh && touch -d @1100000000 /etc \
         && mv /usr /srv/usr && echo more > /srv/usr/more",
    );
    Some(host)
}

#[test]
fn root_keep_changed_takes_what_was_added_and_changed_and_nothing_else() {
    let Some(host) = with_container() else { return };
    let shell = host.exec("web01", "stat -c %Y /bin/cat");
    let ran = host.run(["reinstall", "web01", "--keep-changed", "/etc", "--keep-changed", "/bin", "-j"]);
    assert_eq!(ran.code, 0, "{ran}");
    let result: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    let kept = &result["kept"]["kept"];
    assert_eq!((&kept[0]["keep"], &kept[0]["is_only_changed"]), (&"/etc".into(), &true.into()), "{result:#}");
    assert_eq!((&kept[1]["entries"], &kept[1]["not_deleted"][0]), (&0.into(), &"/bin/true".into()));
    let conflicts = result["kept"]["conflicts"].as_array().unwrap();
    let saved: Vec<_> = conflicts.iter().map(|conflict| conflict["saved_as"].as_str().unwrap()).collect();
    // What every start writes is nobody's change.
    assert_eq!(saved, ["/etc/profile.template-new"], "{result:#}");
    assert_eq!(
        host.exec(
            "web01",
            "cat /etc/app/link /etc/profile; stat -c '%u:%g %Y %h' /etc/app/same; stat -c %Y /etc/app /old/etc/app | uniq | wc -l; ls -d /bin/true; stat -c %Y /bin/cat; ls /srv; stat -c %a /root"
        ),
        format!("added\nold\n33:34 1000000000 2\n1\n/bin/true\n{shell}\n700")
    );
    // What was the same in both has not been copied, nor saved.
    assert_eq!(
        host.exec("web01", "ls /etc/*.template-new /bin/*.template-new 2>/dev/null; :"),
        "/etc/profile.template-new"
    );
    assert_eq!(
        host.exec("web01", "stat -c %a /old/root; ls -d /old/bin/true 2>&1 || :").lines().next(),
        Some("711")
    );
}

#[test]
fn root_keep_changed_of_a_mode_a_rename_a_file_and_a_pattern() {
    let Some(host) = with_container() else { return };
    let words = [
        "reinstall",
        "web01",
        "--keep-changed",
        "/root",
        "--keep-changed",
        "/s?v/usr",
        "--keep-changed",
        "/etc/profile",
    ];
    let ran = host.run(words);
    assert_eq!(ran.code, 0, "{ran}");
    assert!(ran.stderr.contains("kept what was changed in /root: 1 entries"), "{ran}");
    assert!(ran.stderr.contains("kept what was changed in /etc/profile: 1 entries"), "{ran}");
    // What was renamed is there whole under its new name, and where it was the template's is.
    assert_eq!(
        host.exec("web01", "stat -c %a /root; cat /srv/usr/more /etc/profile; ls -A /usr | head -n1 | wc -l; ls -d /srv/usr/bin /usr/bin | wc -l; ls -d /etc/app 2>&1 || :")
            .lines().collect::<Vec<_>>(),
        ["711", "more", "old", "1", "2", "ls: /etc/app: No such file or directory"]
    );
}

#[test]
fn root_keep_changed_is_in_the_plan_and_changes_nothing_there() {
    let Some(host) = with_container() else { return };
    let plan =
        host.ok(["reinstall", "web01", "--keep-changed", "/etc", "--keep-changed", "/bin", "--dry-run"]);
    assert!(plan.contains("keep what was changed in /etc: "), "{plan}");
    assert!(plan.contains("in /bin, 1 paths that were deleted are not deleted again"), "{plan}");
    assert!(plan.contains("keep what was changed in /bin: nothing"), "{plan}");
    let plan = host.ok([
        "reinstall",
        "web01",
        "--keep-changed",
        "/etc",
        "--keep-changed",
        "/none",
        "--dry-run",
        "-j",
    ]);
    let plan: serde_json::Value = serde_json::from_str(&plan).unwrap();
    assert_eq!(plan["plan"]["making"]["keep"][0]["patterns"][0]["changed"], "/etc", "{plan:#}");
    assert!(
        plan["steps"].to_string().contains("keep what was changed in /none: nothing of it is there"),
        "{plan:#}"
    );
    assert_eq!(host.ok(["generation-list", "web01", "-H"]).lines().count(), 1);
}

#[test]
fn root_keep_changed_with_keep_and_skipbackup_from_a_stopped_container() {
    let Some(host) = with_container() else { return };
    host.exec("web01", "echo page > /srv/index");
    host.ok(["stop", "web01"]);
    let words = [
        "reinstall",
        "web01",
        "--skipbackup",
        "--keep-changed",
        "/etc",
        "--keep",
        "/srv/index",
        "--keep-changed",
        "/none",
    ];
    let ran = host.run(words);
    assert_eq!(ran.code, 0, "{ran}");
    assert!(
        ran.stderr.contains("nothing of what was changed in /none is in the old root")
            || ran.stderr.contains("nothing of /none"),
        "{ran}"
    );
    host.ok(["start", "web01", "--wait"]);
    assert_eq!(host.exec("web01", "cat /etc/app/same /srv/index; ls -A /old"), "added\npage");
    // What it is now is what the next one takes it from: the same again.
    host.ok(["reinstall", "web01", "--keep-changed", "/etc"]);
    assert_eq!(host.exec("web01", "cat /etc/app/same /etc/profile"), "added\nold");
}

#[test]
fn root_keep_changed_of_a_root_that_a_script_has_built_is_all_of_it() {
    let Some(host) = with_container() else { return };
    host.script(
        "etc/vz/conf/vps.reinstall",
        "#!/bin/sh\nmkdir -p \"$VE_PRIVATE_TMP\" && cp -a \"$OSTEMPLATE_ROOT\"/. \"$VE_PRIVATE_TMP\" && mkdir -p \"$VE_PRIVATE_TMP/srv\" && echo built > \"$VE_PRIVATE_TMP/srv/index\"\n",
    );
    host.ok(["reinstall", "web01"]);
    let ran = host.run(["reinstall", "web01", "--skipscripts", "--keep-changed", "/srv"]);
    assert_eq!(ran.code, 0, "{ran}");
    assert_eq!(host.exec("web01", "cat /srv/index"), "built");
}

#[test]
fn root_keep_changed_refuses_what_is_no_path_and_follows_nothing_out_of_the_root() {
    let Some(host) = with_container() else { return };
    for (word, said) in [
        ("home", "it is no path"),
        ("~/x", "it is no path"),
        ("/", "the whole root"),
        ("/old/etc", "no part of the root"),
        ("/a/../b", "`..`"),
    ] {
        host.run(["reinstall", "web01", "--keep-changed", word]).failed(
            21,
            &["--keep-changed", "cannot be kept", said, "nothing was changed", "hint: name a directory"],
        );
    }
    host.run(["reinstall", "web01", "--undo", "--keep-changed", "/etc"]).failed(20, &["cannot be used with"]);
    host.write("secret", "of the host", 0o644);
    host.exec(
        "web01",
        &format!(
            "ln -s {} /srv/host; mkdir /srv/real; echo in > /srv/real/file; ln -s /srv/real /srv/way",
            host.prefix().display()
        ),
    );
    let ran = host.run([
        "reinstall",
        "web01",
        "--keep-changed",
        "/srv/host/secret",
        "--keep-changed",
        "/srv/way/file",
    ]);
    assert_eq!(ran.code, 0, "{ran}");
    assert_eq!(
        host.exec("web01", "cat /srv/way/file; ls -d /srv/host 2>&1 || :"),
        "in\nls: /srv/host: No such file or directory"
    );
}
