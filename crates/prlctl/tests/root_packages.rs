//! `prlctl reinstall --keep packages` where packages are really installed, and of the records of rpm.

use std::process::Command;
use std::time::Duration;

use testkit::real_host::not_run_here;
use testkit::{Ran, RealHost};

const PROGRAM: &str = env!("CARGO_BIN_EXE_prlctl");

/// Makes a package of Debian that holds one file, and the list of a repository that has it.
fn repository(host: &RealHost, name: &str, after: &str) {
    let below = format!("repository/{name}");
    host.write(
        &format!("{below}/DEBIAN/control"),
        &format!("Package: {name}\nVersion: 1\nArchitecture: all\nMaintainer: nobody <n@example.org>\nDescription: x\n"),
        0o644,
    );
    host.write(&format!("{below}/DEBIAN/postinst"), &format!("#!/bin/sh\n{after}\n"), 0o755);
    host.write(&format!("{below}/opt/{name}"), "installed\n", 0o644);
    let made = Command::new("sh")
        .current_dir(host.path("repository"))
        .args(["-ec", "dpkg-deb --root-owner-group -b \"$1\" \"$1.deb\" >/dev/null; rm -r \"$1\"
            for deb in *.deb; do dpkg-deb -f $deb; echo \"Filename: ./$deb\"; echo \"Size: $(stat -c %s $deb)\"
                echo \"SHA256: $(sha256sum $deb | cut -d' ' -f1)\"; echo; done >Packages", "sh", name])
        .status()
        .expect("run dpkg-deb");
    assert!(made.success());
}

/// A running Debian that has a repository with the package `by-hand`, and nothing else.
fn with_repository(after: &str) -> Option<RealHost> {
    let host = RealHost::with_debian(PROGRAM)?;
    if Command::new("dpkg-deb").arg("--version").output().is_err() {
        not_run_here(PROGRAM.as_ref(), "there is no dpkg-deb");
        return None;
    }
    host.ok(["create", "web01", "--ostemplate", "debian-12"]);
    repository(&host, "by-hand", after);
    let root = host.path("vz/root").join(host.area("web01").file_name().expect("it has a name"));
    host.ok(["mount", "web01"]);
    let copied =
        Command::new("cp").arg("-r").arg(host.path("repository")).arg(root.join("srv/repository")).status();
    assert!(copied.expect("run cp").success());
    host.ok(["umount", "web01"]);
    host.ok(["start", "web01", "--wait"]);
    host.exec(
        "web01",
        "echo 'deb [trusted=yes] file:/srv/repository ./' > /etc/apt/sources.list; rm -f /etc/apt/sources.list.d/*",
    );
    Some(host)
}

/// The same when it has installed the package by hand, and has a route: what the script takes for a network.
fn with_packages(after: &str) -> Option<RealHost> {
    let host = with_repository(after)?;
    host.exec(
        "web01",
        "printf '[Unit]\\nBefore=multi-user.target\\n[Service]\\nType=oneshot\\nExecStart=/sbin/ip route add default dev lo\\n\
         [Install]\\nWantedBy=multi-user.target\\n' > /etc/systemd/system/route.service; systemctl --quiet enable --now route; \
         apt-get -q update; apt-get -q -y install by-hand; cat /opt/by-hand",
    );
    Some(host)
}

const KEEP: [&str; 10] = [
    "reinstall",
    "web01",
    "--keep",
    "packages",
    "--keep",
    "/srv/repository",
    "--keep",
    "/etc/apt",
    "--keep",
    "/etc/systemd/system",
];

#[test]
fn root_packages_are_installed_in_a_new_root_that_has_a_network() {
    let Some(host) = with_packages("exit 0") else { return };
    // The scripts may want what is installed.
    host.script("etc/vz/conf/vps.configure", "#!/bin/sh\ncp /opt/by-hand /srv/seen-by-the-script\n");
    let ran = host.run(KEEP);
    assert_eq!(ran.code, 0, "{ran}");
    assert!(ran.stderr.contains("1 packages were installed by hand: by-hand"), "{ran}");
    assert!(ran.stderr.contains("packages: they have been installed"), "{ran}");
    let found = host.exec(
        "web01",
        "dpkg-query -W -f '${Status}' by-hand; echo; cat /opt/by-hand /srv/seen-by-the-script; apt-mark showmanual by-hand",
    );
    assert_eq!(found, "install ok installed\ninstalled\ninstalled\nby-hand");
}

#[test]
fn root_packages_that_cannot_be_installed_are_told_and_undo_nothing() {
    // It can be installed in the old root, and in the new one it cannot.
    let Some(host) = with_packages("[ ! -e /old/etc ] || { echo not here; exit 7; }") else { return };
    let ran = host.run(KEEP);
    assert_eq!(ran.code, 0, "{ran}");
    assert!(
        ran.stderr.contains("packages: /root/install-packages.sh exited with 100: run it again"),
        "{ran}"
    );
    assert!(ran.stderr.contains("not here"), "what the package manager says is shown\n{ran}");
    assert_eq!(
        host.exec("web01", "systemctl is-system-running --wait || :; ls /old/opt/by-hand"),
        "running\n/old/opt/by-hand"
    );
}

/// What keeps the repository in a new root.
const KEEP_REPOSITORY: [&str; 6] = ["reinstall", "web01", "--keep", "/srv/repository", "--keep", "/etc/apt"];

/// `TEMPLATES` of the container.
fn templates(host: &RealHost) -> String {
    let text = std::fs::read_to_string(host.area("web01").join("ve.conf")).expect("it can be read");
    let line = text.lines().find_map(|line| line.strip_prefix("TEMPLATES="));
    line.unwrap_or_default().trim_matches('"').to_owned()
}

/// Runs `vzpkg`.
fn vzpkg(host: &RealHost, words: &[&str]) -> Ran {
    Ran::within(host.vzpkg().args(words), Duration::from_secs(120)).expect("it ends")
}

#[test]
fn root_applications_are_installed_remembered_and_brought_back() {
    let Some(host) = with_repository("exit 0") else { return };
    let ran = vzpkg(&host, &["install", "web01", "by-hand"]);
    assert_eq!(ran.code, 0, "{ran}");
    assert_eq!(templates(&host), "by-hand");
    assert_eq!(vzpkg(&host, &["list", "web01"]).stdout, "PACKAGE\nby-hand\n");
    // One that is there is no mistake, and is not named twice.
    assert_eq!(vzpkg(&host, &["install", "web01", "by-hand", "by-hand"]).code, 0);
    assert_eq!(templates(&host), "by-hand");

    let plan = host.ok(["reinstall", "web01", "--dry-run"]);
    assert!(plan.contains("install by-hand: TEMPLATES"), "{plan}");
    host.script("etc/vz/conf/vps.configure", "#!/bin/sh\ncp /opt/by-hand /srv/seen-by-the-script\n");
    let ran = host.run(KEEP_REPOSITORY);
    assert_eq!(ran.code, 0, "{ran}");
    assert!(ran.stderr.contains("applications: by-hand have been installed"), "{ran}");
    assert_eq!(host.exec("web01", "cat /opt/by-hand /srv/seen-by-the-script"), "installed\ninstalled");
    assert_eq!(templates(&host), "by-hand");

    // Each root has its own.
    let ran = vzpkg(&host, &["remove", "web01", "by-hand", "never-was"]);
    assert_eq!(ran.code, 0, "{ran}");
    assert_eq!(templates(&host), "");
    assert_eq!(host.exec("web01", "ls /opt 2>/dev/null || :"), "");
    host.ok(["reinstall", "web01", "--undo"]);
    assert_eq!(templates(&host), "by-hand");

    // A stopped container is started for it, and stopped again.
    host.ok(["stop", "web01"]);
    let ran = host.run(KEEP_REPOSITORY);
    assert_eq!(ran.code, 0, "{ran}");
    assert!(host.ok(["status", "web01"]).contains("stopped"));
    assert_eq!(templates(&host), "by-hand");
    host.ok(["start", "web01"]);
    assert_eq!(host.exec("web01", "cat /opt/by-hand"), "installed");
}

#[test]
fn root_applications_that_cannot_be_installed_lose_no_list() {
    // It can be installed in the old root, and in the new one it cannot.
    let Some(host) = with_repository("[ ! -e /old/etc ] || { echo not here; exit 7; }") else { return };
    vzpkg(&host, &["install", "web01", "no-such-package"])
        .failed(70, &["no-such-package", "TEMPLATES names what it named before"]);
    assert_eq!(templates(&host), "");
    assert_eq!(vzpkg(&host, &["install", "web01", "by-hand"]).code, 0);
    vzpkg(&host, &["install", "web01", "no-such-package"]).failed(70, &["no-such-package"]);
    assert_eq!(templates(&host), "by-hand");
    vzpkg(&host, &["install", "web01", "$(reboot)"])
        .failed(21, &["`$(reboot)` is not the name of a package"]);

    host.run(KEEP_REPOSITORY).failed(
        94,
        &[
            "by-hand could not be installed in the new root",
            "not here",
            "runs on its old root",
            "--skip-app-templates",
        ],
    );
    assert_eq!(templates(&host), "by-hand");
    assert_eq!(host.exec("web01", "cat /opt/by-hand"), "installed");

    let ran = host.run([&KEEP_REPOSITORY[..], &["--skip-app-templates"]].concat());
    assert_eq!(ran.code, 0, "{ran}");
    assert!(ran.stderr.contains("`vzpkg install web01 by-hand` does"), "{ran}");
    assert_eq!(templates(&host), "");
    host.ok(["reinstall", "web01", "--undo"]);
    assert_eq!(templates(&host), "by-hand");
    // What was ended half-way is brought to its end.
    host.exec("web01", "dpkg --unpack /srv/repository/by-hand.deb");
    assert_eq!(vzpkg(&host, &["install", "web01"]).code, 0);
    assert_eq!(host.exec("web01", "dpkg-query -W -f '${Status}' by-hand"), "install ok installed");

    host.ok(["stop", "web01"]);
    vzpkg(&host, &["install", "web01", "by-hand"]).failed(31, &["does not run", "prlctl start web01"]);
}

/// A root that `vps.reinstall` has made is its own; where it declines, the one from the template gets what the old one had.
#[test]
fn root_applications_are_not_put_into_a_root_of_vps_reinstall() {
    let Some(host) = with_repository("exit 0") else { return };
    assert_eq!(vzpkg(&host, &["install", "web01", "by-hand"]).code, 0);
    let script = "etc/vz/conf/vps.reinstall";
    host.script(
        script,
        "#!/bin/sh\nmkdir -p \"$VE_PRIVATE_TMP\"; cp -a \"$OSTEMPLATE_ROOT\"/. \"$VE_PRIVATE_TMP\"\n",
    );
    let ran = host.run(KEEP_REPOSITORY);
    assert_eq!(ran.code, 0, "{ran}");
    assert!(ran.stderr.contains("applications of the old root that were not installed: by-hand"), "{ran}");
    assert_eq!(templates(&host), "");
    host.ok(["reinstall", "web01", "--undo"]);
    host.script(script, "#!/bin/sh\nexit 128\n");
    let ran = host.run(KEEP_REPOSITORY);
    assert_eq!(ran.code, 0, "{ran}");
    assert_eq!(templates(&host), "by-hand");
    assert_eq!(host.exec("web01", "cat /opt/by-hand"), "installed");
}

/// A busybox in which a shell has made something as root of the host: `$1` is its root, `$2` the test data.
fn busybox_with(line: &str) -> Option<RealHost> {
    let host = RealHost::new(PROGRAM)?;
    host.ok(["create", "web01", "--ostemplate", "busybox"]);
    host.ok(["mount", "web01"]);
    let root = host.path("vz/root").join(host.area("web01").file_name().expect("it has a name"));
    let data = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../engine/tests/data/rpm");
    let made =
        Command::new("sh").args(["-ec", line, "sh"]).arg(root).arg(data).status().expect("run a shell");
    assert!(made.success());
    host.ok(["umount", "web01"]);
    Some(host)
}

#[test]
fn root_packages_of_dnf_are_read_out_of_its_history() {
    let history = "mkdir -p $1/var/lib/dnf $1/var/lib/rpm && cp $2/history.sqlite* $1/var/lib/dnf";
    let Some(host) = busybox_with(&format!("{history} && cp $2/rpmdb.sqlite $1/var/lib/rpm")) else { return };
    let ran = host.run(["reinstall", "web01", "--keep", "packages"]);
    assert_eq!(ran.code, 0, "{ran}");
    // The history has a removal of `tool`, and the database has it still: nobody knows why it is there again.
    assert!(ran.stderr.contains("2 packages were installed by hand: plugin tool\n"), "{ran}");
    assert!(ran.stderr.contains("the new root has another package manager"), "{ran}");
    drop(host);

    let Some(host) = busybox_with(history) else { return };
    let ran = host.run(["reinstall", "web01", "--keep", "packages"]);
    assert_eq!(ran.code, 0, "{ran}");
    assert!(ran.stderr.contains("1 packages were installed by hand: plugin\n"), "{ran}");
    assert!(ran.stderr.contains("the database of rpm in the old root is none that can be read"), "{ran}");
}

/// Writes records of so many packages.
fn dpkg(count: usize) -> String {
    format!(
        "mkdir -p $1/var/lib/dpkg && for i in $(seq 0 {}); do \
         printf 'Package: p%d\\nStatus: install ok installed\\nArchitecture: amd64\\n\\n' $i; done >$1/var/lib/dpkg/status",
        count - 1
    )
}

#[test]
fn root_records_of_packages_that_are_none_keep_nobody_from_a_new_root() {
    for (line, told) in [
        ("mkdir -p $1/var/lib/dpkg && truncate -s 1T $1/var/lib/dpkg/status", "more than the"),
        ("mkdir -p $1/var/lib/dpkg && mkfifo $1/var/lib/dpkg/status", "a FIFO"),
        ("mkdir -p $1/var/lib/rpm && truncate -s 1T $1/var/lib/rpm/rpmdb.sqlite", "cannot be read"),
        (
            "mkdir -p $1/var/lib/rpm && cp $2/rpmdb.sqlite $1/var/lib/rpm && truncate -s 1T $1/var/lib/rpm/rpmdb.sqlite",
            "all that is installed is taken as installed by hand",
        ),
        (&dpkg(20_000), "the old root's records name 20000 packages"),
        (&dpkg(300), "300 packages were installed by hand: p0 p1 p10 "),
        (&dpkg(300), " and 200 more, which `prlctl reinstall-report -j` names"),
    ] {
        let Some(host) = busybox_with(line) else { return };
        let ran = host.run(["reinstall", "web01", "--keep", "packages"]);
        assert_eq!(ran.code, 0, "{line}\n{ran}");
        assert!(ran.stderr.contains(told), "{line}\n{ran}");
    }
}
