//! `prlctl register`: private areas of OpenVZ become containers, whole, and stay what they were.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use testkit::old_area::{conf, layout_4, place, root_at, write};
use testkit::{Ran, RealHost};

fn host() -> Option<RealHost> {
    RealHost::new(env!("CARGO_BIN_EXE_prlctl"))
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// Everything in a tree.
fn look(path: &Path) -> tree::Snapshot {
    tree::snapshot(File::open(path).expect("it is there").as_fd()).expect("it is there")
}

/// What would tell that somebody had been at it: also when it was changed, and read.
fn times(path: &Path) -> Vec<(PathBuf, i64, i64, i64, i64)> {
    let mut found = Vec::new();
    let mut next = vec![path.to_owned()];
    while let Some(path) = next.pop() {
        let facts = std::fs::symlink_metadata(&path).expect("it is there");
        found.push((path.clone(), facts.ctime(), facts.ctime_nsec(), facts.atime(), facts.atime_nsec()));
        if facts.is_dir() {
            next.extend(
                std::fs::read_dir(&path)
                    .expect("it is there")
                    .map(|entry| entry.expect("it is there").path()),
            );
        }
    }
    found.sort();
    found
}

fn nothing_is_left(host: &RealHost) {
    for directory in ["vz/private", "etc/vz/names"] {
        let mut names: Vec<String> = std::fs::read_dir(host.path(directory))
            .expect("it is there")
            .map(|entry| entry.expect("it is there").file_name().to_string_lossy().into_owned())
            .collect();
        names.retain(|name| ![".trash", ".reserve"].contains(&name.as_str()));
        assert_eq!(names, Vec::<String>::new(), "{directory}");
    }
}

#[test]
fn root_an_area_of_layout_4_becomes_a_container_with_all_that_it_had() {
    let Some(host) = host() else { return };
    let area = layout_4(&host, "101", &conf());
    std::fs::create_dir_all(area.join("scripts")).unwrap();
    write(&area.join("scripts/start"), b"#!/bin/sh\necho no > /started\n");
    let before = look(&area);
    let ran = host.run(["register", &text(&area)]);
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "The CT has been successfully registered.\n"), "{ran}");
    assert_eq!(before.differences(&look(&area)), Vec::<String>::new());
    for said in [
        "TEMPLATES` is a comment now: application templates (mailman php)",
        "its scripts do not come along (start)",
        "kept, and without meaning here: KMEMSIZE PRIVVMPAGES QUOTATIME",
        "kept, and not obeyed by this version: FUTURE_KEY",
        "`DISKSPACE` is not enforced",
        "`prlctl move NAME --volume image`",
        "1 device nodes do not come along",
        "/srv/disk does not come along: a device node",
    ] {
        assert!(ran.stderr.contains(said), "{said}: {ran}");
    }

    // By its number and by its name; its root is all that the old one was but the devices.
    let private = host.area("old");
    assert_eq!(host.area("101"), private);
    let mut differences = look(&area.join("fs")).differences(&look(&private.join("generations/1/delta")));
    differences.retain(|line| !line.contains("dev/null") && !line.contains("srv/disk"));
    assert_eq!(differences, Vec::<String>::new());
    let hole = std::fs::metadata(private.join("generations/1/delta/srv/hole")).unwrap();
    assert!(hole.size() == 64 << 20 && hole.blocks() * 512 < 1 << 20, "{hole:?}");

    let conf = std::fs::read_to_string(private.join("ve.conf")).unwrap();
    let uuid = private.file_name().unwrap().to_string_lossy().into_owned();
    for line in [
        "# made by hand, long ago",
        "PHYSPAGES=\"0:131072\"   # 512 MB",
        "KMEMSIZE=\"14372700:14790164\"",
        "# TEMPLATES=\"mailman php\"",
        "OSTEMPLATE=\"busybox\"",
        "VEID=\"101\"",
        "FUTURE_KEY=\"kept\"",
        &format!("UUID=\"{uuid}\""),
        &format!("VE_PRIVATE=\"/vz/private/{uuid}\""),
    ] {
        assert!(conf.lines().any(|found| found == line), "{line}:\n{conf}");
    }

    host.ok(["start", "101"]);
    assert_eq!(
        host.exec("old", "cat /root/file; hostname; cat /etc/machine-id"),
        "mine\nold.example.com\n0123456789abcdef0123456789abcdef"
    );
    assert!(host.ok(["list", "-i", "old"]).contains("512Mb"));
    // It is one like any other: it gets a new root, with the old one at /old.
    host.exec("old", "echo since > /root/since");
    host.ok(["reinstall", "old"]);
    assert_eq!(host.exec("old", "cat /old/root/since /old/root/file"), "since\nmine");
    host.run(["register", &text(&area)]).failed(137, &["the name `old` is taken"]);
    host.run(["register", &text(&area), "--name", "other"]).failed(44, &["the CTID 101 is taken"]);
    host.run(["delete", "101", "--force"]);
    host.write("etc/vz/vz.conf", "VOLUME=\"image\"\n", 0o644);
    // With a disk of its own, as large as it always had; its data and a reinstall on it.
    let ran = host.run(["register", &text(&area)]);
    assert!(ran.code == 0 && !ran.stderr.contains("is not enforced"), "{ran}");
    let private = host.area("101");
    let size = std::fs::metadata(private.join("volume.img")).unwrap().len();
    assert_eq!(size >> 12, 2_306_867 >> 2, "as its DISKSPACE says, in blocks");
    assert!(!private.join("generations/1/delta").exists());
    host.ok(["start", "101"]);
    assert_eq!(host.exec("old", "cat /root/file"), "mine");
    host.ok(["reinstall", "old"]);
    assert_eq!(host.exec("old", "cat /old/root/file"), "mine");
    host.ok(["delete", "101", "--force"]);
    // The option says more than vz.conf; and what is larger than its disk is refused before anything is copied.
    host.ok(["register", &text(&area), "--volume", "directory"]);
    assert!(host.area("101").join("generations/1/delta").is_dir());
    host.ok(["delete", "101", "--force"]);
    write(&area.join("fs/root/large"), &vec![1; 40 << 20]);
    let small = host.path("small.conf");
    write(&small, b"NAME=\"small\"\nDISKSPACE=\"36864:36864\"\n");
    host.run(["register", &text(&area), "--config", &text(&small)])
        .failed(46, &["its `DISKSPACE` is 36 MiB", "--volume directory", "nothing was changed"]);
    assert_ne!(host.run(["list", "small"]).code, 0);
}

#[test]
fn root_an_area_is_not_even_read_so_that_it_shows() {
    let Some(host) = host() else { return };
    let area = layout_4(&host, "101", &conf());
    // To list a directory is a look that shows: the second time it shows no more.
    let fs = area.join("fs");
    times(&fs);
    let before = times(&fs);
    host.ok(["register", &text(&area)]);
    let after = times(&fs);
    assert_eq!(before.len(), after.len());
    for (before, after) in before.iter().zip(&after) {
        assert_eq!(before, after);
    }
}

#[test]
fn root_an_area_of_simfs_is_the_root_and_its_configuration_lies_elsewhere() {
    let Some(host) = host() else { return };
    let area = place(&host).join("102");
    root_at(&host, &area);
    // The root of the container may have written anything into it.
    std::fs::create_dir_all(area.join("fs/etc")).unwrap();
    write(&area.join("ve.conf"), b"NAME=\"evil\"\nIP_ADDRESS=\"192.0.2.1\"\n");
    let conf = place(&host).join("102.conf");
    write(&conf, b"HOSTNAME=\"not a name\"\nIP_ADDRESS=\"0.0.0.0 198.19.255.102\"\nCPUUNITS=\"3\"\nOSTEMPLATE=\"centos-6-x86_64\"\n");
    let uuid = "9e3f3a2c-0f5e-4f0b-8d8a-2b1d6a9c1e77";
    let ran = host.run(["register", &text(&area), "--config", &text(&conf), "--uuid", uuid]);
    assert_eq!(ran.code, 0, "{ran}");
    for said in [
        "`CPUUNITS` is a comment now: `3` is not",
        "`HOSTNAME` is a comment now",
        "`IP_ADDRESS` is without what is no address: 0.0.0.0",
        "there is no template `centos-6-x86_64` here",
    ] {
        assert!(ran.stderr.contains(said), "{said}: {ran}");
    }
    // By the name of its directory, since its configuration says none.
    assert_eq!(host.area("102"), host.path("vz/private").join(uuid));
    let made = std::fs::read_to_string(host.area("102").join("ve.conf")).unwrap();
    for line in [
        "# CPUUNITS=\"3\"",
        "# HOSTNAME=\"not a name\"",
        "IP_ADDRESS=\"198.19.255.102\"",
        "NAME=\"102\"",
        "VEID=\"102\"",
        "OSTEMPLATE=\"centos-6-x86_64\"",
    ] {
        assert!(made.lines().any(|found| found == line), "{line}:\n{made}");
    }
    host.ok(["start", "102"]);
    assert_eq!(host.exec("102", "cat /ve.conf | head -1; cat /root/file"), "NAME=\"evil\"\nmine");
    host.run(["reinstall", "102"]).failed(91, &["centos-6-x86_64"]);
    host.ok(["reinstall", "102", "--ostemplate", "busybox"]);
}

#[test]
fn root_what_keeps_an_interface_of_openvz_from_being_of_use_is_told() {
    let Some(host) = host() else { return };
    let area = place(&host).join("104");
    root_at(&host, &area);
    let conf = place(&host).join("104.conf");
    let interfaces = "NETIF=\"ifname=eth0,bridge=vmbr0,mac=02:00:00:00:00:01;ifname=eth1,host_ifname=veth104.1,ip=192.0.2.5/24\"";
    write(&conf, format!("NAME=\"$(reboot)\"\n{interfaces}\n").as_bytes());
    let ran = host.run(["register", &text(&area), "--config", &text(&conf)]);
    assert_eq!(ran.code, 0, "{ran}");
    for said in [
        "`NAME` is a comment now: `$(reboot)` can be no container's name",
        "`eth0` of `NETIF` has no `ip=`",
        "--ifname eth0 --ipadd ADDRESS`, or `--ipfilter no`",
        "`eth1` of `NETIF` is on no bridge: `prlctl set NAME --ifname eth1 --network BRIDGE`",
    ] {
        assert!(ran.stderr.contains(said), "{said}: {ran}");
    }
    for unsaid in ["`eth0` of `NETIF` is on no bridge", "`eth1` of `NETIF` has no `ip=`"] {
        assert!(!ran.stderr.contains(unsaid), "{unsaid}: {ran}");
    }
    let made = std::fs::read_to_string(host.area("104").join("ve.conf")).unwrap();
    for line in [interfaces, "# NAME=\"$(reboot)\"", "NAME=\"104\""] {
        assert!(made.lines().any(|found| found == line), "{line}:\n{made}");
    }
}

/// An address on a bridge, a MAC address, a port of the host: of whoever has it already.
#[test]
fn root_what_another_container_has_comes_with_no_area() {
    let Some(host) = host() else { return };
    host.ok([
        "create",
        "web01",
        "--ostemplate",
        "busybox",
        "--ipadd",
        "10.9.0.1",
        "--forward",
        "tcp:8080:80",
    ]);
    host.ok(["set", "web01", "--netif_add", "eth0,02:00:00:00:00:05"]);
    let area = place(&host).join("105");
    root_at(&host, &area);
    let conf = place(&host).join("105.conf");
    for (line, what) in [
        (
            "NETIF=\"ifname=eth0,bridge=br0,mac=02:00:00:00:00:05\"\n",
            "the MAC address 02:00:00:00:00:05 is taken",
        ),
        ("IP_ADDRESS=\"10.9.0.2\"\nFORWARD=\"tcp:8080:81\"\n", "the tcp port 8080 of this host is taken"),
        ("IP_ADDRESS=\"10.9.0.1\"\n", "the address 10.9.0.1 is taken"),
    ] {
        write(&conf, line.as_bytes());
        host.run(["register", &text(&area), "--config", &text(&conf)])
            .failed(78, &[what, "container `web01` has it", "nothing was changed"]);
        host.run(["status", "105"]).failed(14, &["105"]);
    }
    write(&conf, b"IP_ADDRESS=\"10.9.0.2\"\nFORWARD=\"tcp:8081:81\"\n");
    host.ok(["register", &text(&area), "--config", &text(&conf)]);
}

#[test]
fn root_what_cannot_be_registered_is_refused_and_nothing_of_it_is_left() {
    let Some(host) = host() else { return };
    let area = layout_4(&host, "103", &conf());
    let path = text(&area);
    let check = |words: &[&str], code: i32, said: &[&str]| {
        let words: Vec<&str> = [&["register"], words].concat();
        host.run(words).failed(code, said);
        nothing_is_left(&host);
    };
    check(&["/nonexistent"], 21, &["is no private area", "No such file"]);
    check(&[&text(&place(&host))], 21, &["neither `fs` nor `root.hdd`"]);
    check(&[&path, "--config", "/nonexistent.conf"], 21, &["/nonexistent.conf"]);
    check(&[&path, "--preserve-uuid"], 21, &["no UUID that could be preserved"]);
    check(&[&path, "--name", "a/b"], 137, &["name"]);
    check(&[&path, "--uuid", "9"], 21, &["no UUID"]);
    check(&[&text(&host.prefix())], 21, &["is no private area"]);

    // Another host says that it has it.
    write(&area.join(".owner"), b"aa.bb.cc\n");
    check(&[&path], 141, &["another host has it", "aa.bb.cc", "--force"]);
    std::fs::remove_file(area.join(".owner")).unwrap();

    // In use, as far as can be seen.
    let mount = |words: &[&str]| {
        assert!(std::process::Command::new(words[0]).args(&words[1..]).status().unwrap().success())
    };
    let inner = text(&area.join("fs/proc"));
    mount(&["mount", "-t", "tmpfs", "none", &inner]);
    check(&[&path], 41, &["is in use", "something is mounted in it"]);
    mount(&["umount", &inner]);
    let elsewhere = place(&host).join("elsewhere");
    std::fs::create_dir_all(&elsewhere).unwrap();
    mount(&["mount", "--bind", &text(&area.join("fs")), &text(&elsewhere)]);
    check(&[&path], 41, &["is mounted at", "elsewhere, too"]);
    mount(&["umount", &text(&elsewhere)]);

    // Among our own.
    let ours = host.path("vz/private/103");
    std::os::unix::fs::symlink(&area, place(&host).join("link")).unwrap();
    mount(&["cp", "-a", &path, &text(&ours)]);
    host.run(["register", &text(&ours)]).failed(21, &["lies in", "/vz/private"]);
    mount(&["rm", "-r", &text(&ours)]);

    // Damage, and what is no root.
    write(&area.join("ve.conf"), b"NAME=\"old\nIP_ADDRESS=\"x\"\n");
    check(&[&path], 21, &["line 1"]);
    write(&area.join("ve.conf"), conf().as_bytes());
    for init in ["sbin/init", "bin/init", "init", "usr/sbin/init"] {
        let _ = std::fs::remove_file(area.join("fs").join(init));
    }
    check(&[&path], 47, &["its root cannot be a container's", "it has no init"]);
    // An address that somebody has.
    mount(&["rm", "-r", &text(&area.join("fs"))]);
    root_at(&host, &area.join("fs"));
    let conf = conf();
    let address = conf.split("IP_ADDRESS=\"").nth(1).unwrap().split(' ').next().unwrap();
    host.ok(["create", "web", "--ostemplate", "busybox", "--ipadd", address]);
    host.run(["register", &path]).failed(78, &[address, "web"]);
    host.ok(["delete", "web"]);
    // And by a link, of what is whole.
    host.ok(["register", &text(&place(&host).join("link"))]);
    host.ok(["start", "old"]);
}

#[test]
#[cfg(debug_assertions)]
fn root_a_registration_that_dies_leaves_nothing_under_a_name() {
    let Some(host) = host() else { return };
    let area = layout_4(&host, "104", &conf());
    let with = |fault: &str| {
        let mut command = host.prlctl();
        command.env("REROOT_FAULT", fault).args(["register", &text(&area)]);
        Ran::of(command.output().unwrap())
    };
    for point in ["register/sync/before", "register/publish/before"] {
        for what in ["error", "interrupt", "kill"] {
            let ran = with(&format!("{point}:{what}"));
            let code = match what {
                "error" => 3,
                "interrupt" => 130,
                _ => 137,
            };
            // Heard only where it is asked for, which is before the commit.
            assert_eq!(ran.code, code, "{point}:{what}\n{ran}");
            host.run(["status", "old"]).failed(14, &[]);
            host.run(["status", "104"]).failed(14, &[]);
            host.ok(["recover"]);
            nothing_is_left(&host);
            assert!(std::fs::symlink_metadata(host.path("etc/vz/conf/104.conf")).is_err());
        }
    }
    host.ok(["register", &text(&area)]);
    host.ok(["start", "104"]);
}

/// A registration that has copied everything, and is stopped there.
#[cfg(debug_assertions)]
struct Stopped(std::process::Child);

#[cfg(debug_assertions)]
impl Stopped {
    fn after_the_copy(host: &RealHost, area: &Path) -> Stopped {
        let mut command = host.prlctl();
        command.env("REROOT_FAULT", "register/sync/before:stop").args(["register", &text(area)]);
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        let child = command.spawn().expect("it is there");
        let pid = rustix::process::Pid::from_child(&child);
        let (_, status) = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::UNTRACED)
            .expect("it is there")
            .expect("it is there");
        assert!(status.stopped(), "{status:?}");
        Stopped(child)
    }

    fn goes_on(self) -> Ran {
        let pid = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(pid, rustix::process::Signal::CONT).expect("it is there");
        Ran::of(self.0.wait_with_output().expect("it is there"))
    }
}

#[test]
#[cfg(debug_assertions)]
fn root_an_area_that_changes_while_it_is_copied_is_not_registered() {
    let Some(host) = host() else { return };
    let area = layout_4(&host, "105", &conf());
    for change in ["echo more >> root/file", "chmod 600 srv/old", "rm srv/deep/hard", "mkdir srv/new"] {
        let stopped = Stopped::after_the_copy(&host, &area);
        let status =
            std::process::Command::new("sh").args(["-c", change]).current_dir(area.join("fs")).status();
        assert!(status.unwrap().success());
        stopped.goes_on().failed(41, &["it was changed while it was copied", "nothing of it is left"]);
        nothing_is_left(&host);
    }
}

#[test]
#[cfg(debug_assertions)]
fn root_a_registration_at_work_is_nobody_elses_to_take_away() {
    let Some(host) = host() else { return };
    let area = layout_4(&host, "106", &conf());
    let stopped = Stopped::after_the_copy(&host, &area);
    // Neither is it swept, nor does it keep anybody from the host.
    host.ok(["recover"]);
    host.ok(["create", "web", "--ostemplate", "busybox"]);
    let ran = stopped.goes_on();
    assert_eq!(ran.code, 0, "{ran}");
    host.ok(["start", "106"]);

    // What somebody takes meanwhile is his.
    host.ok(["delete", "106", "--force"]);
    let stopped = Stopped::after_the_copy(&host, &area);
    host.ok(["create", "old", "--ostemplate", "busybox"]);
    stopped.goes_on().failed(137, &["the name `old` is taken"]);
    host.ok(["delete", "web"]);
    host.ok(["delete", "old"]);
    nothing_is_left(&host);
}

#[test]
fn root_an_area_that_does_not_fit_is_refused_with_figures() {
    let Some(host) = RealHost::on_image(env!("CARGO_BIN_EXE_prlctl"), "96M", "ext4") else { return };
    assert!(host.vzpkg().args(["create", "cache", "busybox"]).output().unwrap().status.success());
    let area = layout_4(&host, "107", &conf());
    write(&area.join("fs/srv/large"), &vec![7; 50 << 20]);
    let ran = host.run(["register", &text(&area)]);
    ran.failed(46, &["a copy of the root needs", "KiB", "inodes", "there are", "hint: make room"]);
    nothing_is_left(&host);
    // What takes no room on the disk needs none.
    File::options().write(true).open(area.join("fs/srv/large")).unwrap().set_len(0).unwrap();
    File::options().write(true).open(area.join("fs/srv/large")).unwrap().set_len(1 << 30).unwrap();
    host.ok(["register", &text(&area)]);
}
