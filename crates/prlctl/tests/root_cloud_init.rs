//! What a cloud-init in a root is told of its machine.

#![expect(clippy::disallowed_methods, reason = "the templates are the test's own")]

use testkit::{Ran, RealHost, TarMaker};

const PROGRAM: &str = env!("CARGO_BIN_EXE_prlctl");
const DATA: &str = "#cloud-config\nchpasswd: { users: [{ name: root, password: geheim }] }\n";

/// A host with a template that has a cloud-init, which does nothing, and one that has none.
fn scene() -> Option<RealHost> {
    let host = RealHost::bare(PROGRAM)?;
    let mut cloudy = TarMaker::root();
    for below in ["usr", "usr/bin", "var", "var/lib"] {
        cloudy = cloudy.directory(below);
    }
    for (name, maker) in
        [("cloudy", cloudy.executable("usr/bin/cloud-init", b"#!/bin/sh\n")), ("plain", TarMaker::root())]
    {
        let archive = host.path(&format!("{name}.tar"));
        std::fs::write(&archive, maker.finish()).expect("write an archive");
        let made = host.vzpkg().args(["create", "cache", name, "--from"]).arg(&archive).output();
        let ran = Ran::of(made.expect("run vzpkg"));
        assert_eq!(ran.code, 0, "{ran}");
    }
    std::fs::write(host.path("user-data"), DATA).expect("write user data");
    Some(host)
}

fn seed(host: &RealHost, file: &str) -> String {
    let path = host.area("web 01").join("live/delta/var/lib/cloud/seed/nocloud").join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn path(host: &RealHost) -> String {
    host.path("user-data").display().to_string()
}

#[test]
fn root_a_new_root_has_a_seed_and_each_reinstall_another_instance() {
    let Some(host) = scene() else { return };
    host.ok(["create", "web 01", "--ostemplate", "cloudy", "--user-data", &path(&host)]);
    assert_eq!(seed(&host, "user-data"), DATA);
    let first = seed(&host, "meta-data");
    assert!(
        first.contains("-1\nlocal-hostname: web-01\n") && first.starts_with("instance-id: iid-"),
        "{first}"
    );
    assert_eq!(seed(&host, "network-config"), "config: disabled\n");
    use std::os::unix::fs::PermissionsExt;
    for below in ["generations/1/user-data", "live/delta/var/lib/cloud/seed/nocloud/user-data"] {
        let mode = host.area("web 01").join(below).metadata().expect("it is there").permissions().mode();
        assert_eq!(mode & 0o7777, 0o600, "{below}");
    }

    host.ok(["reinstall", "web 01"]);
    assert_eq!(seed(&host, "user-data"), DATA, "handed on");
    assert_ne!(seed(&host, "meta-data"), first, "it does its work once more");
    std::fs::write(host.path("other"), "#!/bin/sh\necho other\n").expect("write user data");
    host.ok(["reinstall", "web 01", "--user-data", &host.path("other").display().to_string()]);
    assert_eq!(seed(&host, "user-data"), "#!/bin/sh\necho other\n");
    host.ok(["reinstall", "web 01", "--undo"]);
    host.ok(["reinstall", "web 01"]);
    assert_eq!(seed(&host, "user-data"), DATA, "what the root had that was gone back to");

    // Through a template without one it is not lost.
    host.ok(["reinstall", "web 01", "--ostemplate", "plain"]);
    host.ok(["reinstall", "web 01", "--ostemplate", "cloudy"]);
    assert_eq!(seed(&host, "user-data"), DATA);
    // Nothing of it is anywhere but there.
    let logs = host.path("var/log/vz");
    let found =
        std::process::Command::new("grep").args(["-r", "geheim"]).arg(&logs).output().expect("run grep");
    assert!(found.stdout.is_empty(), "{}", String::from_utf8_lossy(&found.stdout));
}

#[test]
fn root_without_user_data_there_is_a_seed_all_the_same() {
    let Some(host) = scene() else { return };
    host.ok(["create", "web 01", "--ostemplate", "cloudy"]);
    assert_eq!(seed(&host, "user-data"), "#cloud-config\n{}\n");
    host.ok(["create", "other", "--ostemplate", "plain"]);
    assert!(!host.area("other").join("live/delta/var/lib/cloud").exists());
}

#[test]
fn root_user_data_that_nobody_would_read_is_refused() {
    let Some(host) = scene() else { return };
    host.run(["create", "other", "--ostemplate", "plain", "--user-data", &path(&host)])
        .failed(21, &["template `plain` has no cloud-init"]);
    std::fs::write(host.path("odd"), "hostname: x\n").expect("write user data");
    let odd = host.path("odd").display().to_string();
    for (words, because) in [
        (odd.as_str(), "cloud-init takes what begins with"),
        ("/dev/null", "it is empty"),
        ("/dev/zero", "it is longer than"),
        ("/nowhere", "No such file"),
    ] {
        host.run(["create", "web 01", "--ostemplate", "cloudy", "--user-data", words]).failed(21, &[because]);
    }
    assert!(!host.ok(["list", "-a"]).contains("web 01"), "nothing of it is left");
    host.ok(["create", "web 01", "--ostemplate", "cloudy"]);
    host.run(["reinstall", "web 01", "--ostemplate", "plain", "--user-data", &path(&host)])
        .failed(21, &["has no cloud-init"]);
}

/// Debian's own, with its systemd: what it was told is done, once for each root, and nothing is done to the network.
#[test]
fn root_a_real_cloud_init_does_what_it_is_told() {
    let Some(host) = RealHost::with_cloud_init(PROGRAM) else { return };
    let data = "#cloud-config\nlocale: C.UTF-8\nwrite_files: [{path: /root/written, content: done}]\nruncmd: [[sh, -c, 'echo ran >>/root/ran']]\n";
    std::fs::write(host.path("user-data"), data).expect("write user data");
    let create = ["create", "web 01", "--ostemplate", RealHost::CLOUDY, "--user-data", &path(&host)];
    host.ok([&create[..], &["--hostname", "shop", "--nameserver", "192.0.2.53"]].concat());
    host.ok(["start", "web 01", "--wait"]);
    let has_done_it = |name: &str| {
        let status = host.run(["exec", "web 01", "timeout 100 cloud-init status --wait --long"]);
        assert!(status.code == 0 && status.stdout.contains("status: done"), "{status}");
        let look = "hostname; cat /etc/hostname /root/written; echo; cat /root/ran; cat /etc/resolv.conf; systemctl is-system-running";
        let wanted = format!("{name}\n{name}\ndone\nran\nnameserver 192.0.2.53\nrunning");
        assert_eq!(host.exec("web 01", look), wanted);
        let network = "grep -rl cloud-init /etc/network /etc/systemd/network /etc/netplan 2>/dev/null; :";
        assert_eq!(host.exec("web 01", network), "", "it has written nothing of the network");
    };
    has_done_it("shop");
    host.ok(["reinstall", "web 01"]);
    has_done_it("shop");
    // A name that was given later is not taken back by what it was told before, nor is anything done twice.
    host.ok(["set", "web 01", "--hostname", "other"]);
    host.ok(["restart", "web 01"]);
    host.wait_until("it is up", || {
        host.run(["exec", "web 01", "systemctl is-system-running --wait"]).code == 0
    });
    has_done_it("other");
}

/// A template that has put something else where the seed belongs leads it nowhere.
#[test]
fn root_a_seed_stays_in_its_root() {
    let Some(host) = scene() else { return };
    let outside = host.path("outside");
    std::fs::create_dir(&outside).expect("make a directory");
    let maker = TarMaker::root()
        .directory("usr")
        .directory("usr/bin")
        .executable("usr/bin/cloud-init", b"#!/bin/sh\n")
        .directory("var")
        .directory("var/lib")
        .directory("var/lib/cloud")
        .link(b'2', "var/lib/cloud/seed", &outside.display().to_string());
    std::fs::write(host.path("hostile.tar"), maker.finish()).expect("write an archive");
    let made =
        host.vzpkg().args(["create", "cache", "hostile", "--from"]).arg(host.path("hostile.tar")).output();
    assert!(made.expect("run vzpkg").status.success());
    let ran = host.run(["create", "web 01", "--ostemplate", "hostile", "--user-data", &path(&host)]);
    assert!(ran.code != 0 && ran.stderr.contains("state: nothing was changed"), "{ran}");
    assert_eq!(std::fs::read_dir(&outside).expect("list it").count(), 0);
}
