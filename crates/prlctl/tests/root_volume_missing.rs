//! A container whose disk is gone: told as that, by all that meet it, and whole again when it is back.
#![expect(
    clippy::disallowed_methods,
    reason = "what is moved by name is of the host's, in a prefix of the test's own"
)]

use testkit::RealHost;

#[test]
fn root_a_disk_that_is_missing_is_told_and_is_no_container_without_layers() {
    let Some(host) = RealHost::new(env!("CARGO_BIN_EXE_prlctl")) else { return };
    for name in ["web01", "web02"] {
        host.ok(["create", name, "--ostemplate", "busybox", "--volume", "image", "--diskspace", "64M"]);
    }
    host.ok(["start", "web01"]);
    host.exec("web01", "echo here > /number");
    let (area, other) = (host.area("web01"), host.area("web02"));
    let (image, away) = (area.join("volume.img"), host.path("away.img"));

    // One that runs has it still, and can be stopped.
    std::fs::rename(&image, &away).unwrap();
    let missing = ["the disk of `web01` is missing", "volume.img", "put that file back"];
    host.run(["reinstall", "web01"]).failed(85, &missing);
    let ran = host.run(["list", "-a"]);
    assert!(
        ran.code == 0
            && ran.stdout.contains("running")
            && missing.iter().all(|said| ran.stderr.contains(said)),
        "{ran}"
    );
    host.ok(["stop", "web01"]);

    let ran = host.run(["list", "-a"]);
    assert!(ran.stdout.contains("invalid") && missing.iter().all(|said| ran.stderr.contains(said)), "{ran}");
    for words in [
        &["start", "web01"][..],
        &["reinstall", "web01"],
        &["reinstall", "web01", "--undo"],
        &["set", "web01", "--memsize", "64M"],
        &["move", "web01", "--volume", "image"],
        &["mount", "web01"],
        &["unregister", "web01"],
        &["recover", "web01"],
        &["generation-list", "web01"],
    ] {
        host.run(words).failed(85, &missing);
    }
    assert!(!area.join("generations/1/delta").exists(), "nothing was made in its place");

    // Back, all is as it was.
    std::fs::rename(&away, &image).unwrap();
    host.ok(["start", "web01"]);
    assert_eq!(host.exec("web01", "cat /number"), "here");
    host.ok(["stop", "web01"]);
    // One that has left its disk needs none, and says so.
    host.ok(["move", "web01", "--volume", "directory"]);
    assert!(!std::fs::read_to_string(area.join("area.json")).unwrap().contains("image"));
    host.ok(["start", "web01"]);
    assert_eq!(host.exec("web01", "cat /number"), "here");

    // What is lost can be deleted.
    std::fs::remove_file(other.join("volume.img")).unwrap();
    host.ok(["delete", "web02"]);
    assert!(!other.exists());
}
