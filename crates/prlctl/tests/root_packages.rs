//! `prlctl reinstall --keep packages` where packages are really installed, and of the records of rpm.

use std::process::Command;

use testkit::RealHost;
use testkit::real_host::not_run_here;

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

/// A running Debian that has installed a package by hand from a repository of its own, and has a route: what the script takes for a network.
fn with_packages(after: &str) -> Option<RealHost> {
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
        "echo 'deb [trusted=yes] file:/srv/repository ./' > /etc/apt/sources.list; rm -f /etc/apt/sources.list.d/*; \
         printf '[Unit]\\nBefore=multi-user.target\\n[Service]\\nType=oneshot\\nExecStart=/sbin/ip route add default dev lo\\n\
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
    ] {
        let Some(host) = busybox_with(line) else { return };
        let ran = host.run(["reinstall", "web01", "--keep", "packages"]);
        assert_eq!(ran.code, 0, "{line}\n{ran}");
        assert!(ran.stderr.contains(told), "{line}\n{ran}");
    }
}
