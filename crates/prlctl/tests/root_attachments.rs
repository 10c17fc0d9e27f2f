//! What is mounted in a container's root and is no part of it: its disks beside that of the root, and what it sees of the host.
#![expect(
    clippy::disallowed_methods,
    reason = "what is written by name is of the host's, in a prefix of the test's own"
)]

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use testkit::{Ran, RealHost};

const FIRST_ID: u32 = 1_879_048_192;

fn new_host() -> Option<RealHost> {
    RealHost::new(env!("CARGO_BIN_EXE_prlctl"))
}

fn add_disk(host: &RealHost, size: &str, at: &str) {
    host.ok(["set", "web01", "--device-add", "hdd", "--size", size, "--mnt", at]);
}

/// A directory of the host, with a file in it; its path.
fn shared(host: &RealHost, name: &str) -> String {
    let directory = host.path("srv").join(name);
    std::fs::create_dir_all(&directory).expect("make a directory");
    std::fs::write(directory.join("file"), "of the host\n").expect("write a file");
    directory.to_str().expect("a prefix is UTF-8").to_owned()
}

fn conf(host: &RealHost, name: &str) -> String {
    std::fs::read_to_string(host.area(name).join("ve.conf")).expect("it can be read")
}

/// The loop devices that have a file below the prefix behind them.
fn loops(host: &RealHost) -> Vec<String> {
    let devices = std::fs::read_dir("/sys/block").expect("there are block devices").flatten();
    let files =
        devices.filter_map(|device| std::fs::read_to_string(device.path().join("loop/backing_file")).ok());
    let prefix = host.prefix().join("vz/private");
    files.filter(|file| file.starts_with(prefix.to_str().expect("a prefix is UTF-8"))).collect()
}

#[test]
fn root_a_disk_is_in_every_root_and_no_part_of_one() {
    let Some(host) = new_host() else { return };
    host.started("web01");
    let bound = shared(&host, "data");
    add_disk(&host, "64M", "/var/lib/data");
    host.ok(["set", "web01", "--bindmount_add", &format!("{bound}:/shared,ro")]);
    host.exec("web01", "echo precious > /var/lib/data/file; chown 33:44 /var/lib/data/file; chmod 4751 /var/lib/data/file; sync");
    let [size, ..]: [u64; 1] = host
        .exec("web01", "df -k /var/lib/data | tail -1 | awk '{print $2}'")
        .split_whitespace()
        .map(|word| word.parse().expect("df tells a number"))
        .collect::<Vec<_>>()
        .try_into()
        .expect("one number");
    assert!((50_000..=65_536).contains(&size), "{size}");
    let is_whole = |when: &str| {
        let seen =
            host.exec("web01", "stat -c '%u %g %a' /var/lib/data/file; cat /var/lib/data/file /shared/file");
        assert_eq!(seen, "33 44 4751\nprecious\nof the host", "{when}");
    };
    is_whole("at once");
    host.ok(["reinstall", "web01"]);
    is_whole("in the new root");
    // At the old one's place there is the directory, and nothing of the disk.
    assert_eq!(
        host.exec("web01", "ls -A /old/var/lib/data /old/shared | tr -d '\\n'"),
        "/old/shared:/old/var/lib/data:"
    );
    // A root that is given up has had it, to be written; what it wrote is not undone with it.
    host.script("etc/vz/conf/vps.configure", "#!/bin/sh\necho tried >> /var/lib/data/log\nexit 7\n");
    host.run(["reinstall", "web01"]).failed(94, &["exited with 7"]);
    std::fs::remove_file(host.path("etc/vz/conf/vps.configure")).unwrap();
    is_whole("after a reinstall that was undone");
    assert_eq!(host.exec("web01", "cat /var/lib/data/log"), "tried");
    host.ok(["reinstall", "web01", "--undo"]);
    is_whole("after an undo");
    host.reboots("web01");
    is_whole("after a reboot from inside");
    host.ok(["stop", "web01"]);
    host.ok(["move", "web01", "--volume", "image"]);
    host.ok(["start", "web01"]);
    is_whole("after a move of the root");
    let ran = host.run(["list", "-i", "web01"]);
    assert!(ran.stdout.contains("hdd1 hdd1.img at /var/lib/data, size 64Mb"), "{ran}");
    assert!(ran.stdout.contains("at /shared, ro"), "{ran}");
    let info = host.ok(["info", "web01"]);
    assert!(
        info.lines()
            .any(|line| line.contains(" obeyed ") && line.contains("BINDMOUNT") && line.contains("DISK")),
        "{info}"
    );
    host.ok(["compact", "web01"]);
    // With the container goes its disk, and nothing of the host's.
    host.ok(["delete", "web01", "--force"]);
    host.wait_until("the devices are gone", || loops(&host).is_empty());
    assert_eq!(std::fs::read_to_string(format!("{bound}/file")).unwrap(), "of the host\n");
}

#[test]
fn root_a_disk_changes_while_the_container_runs() {
    let Some(host) = new_host() else { return };
    host.started("web01");
    add_disk(&host, "64M", "/one");
    add_disk(&host, "64M", "/two");
    host.exec("web01", "echo 1 > /one/file; echo 2 > /two/file");
    // Elsewhere, and with other flags.
    host.ok(["set", "web01", "--device-set", "hdd1", "--mnt", "/three", "--mnt-opts", "ro,noexec"]);
    assert_eq!(
        host.exec("web01", "cat /three/file; ls /one; touch /three/x 2>/dev/null || echo read-only"),
        "1\nread-only"
    );
    host.run(["exec", "web01", "mount -o remount,rw /three"]).failed(1, &["ermission denied"]);
    host.ok(["set", "web01", "--device-set", "hdd1", "--mnt-opts", ""]);
    host.exec("web01", "touch /three/x");
    // One that is in use stays.
    let mut busy = host
        .prlctl()
        .args(["exec", "web01", "cd /two && echo in && cat"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = [0; 3];
    std::io::Read::read_exact(busy.stdout.as_mut().unwrap(), &mut said).unwrap();
    for words in [
        &["--device-del", "hdd2", "--destroy-image"][..],
        &["--device-set", "hdd2", "--disable"],
        &["--device-set", "hdd2", "--mnt", "/four"],
    ] {
        let ran = host.run(["set", "web01"].iter().chain(words));
        ran.failed(
            41,
            &[
                "`hdd2` cannot be taken away from /two",
                "has /two in use",
                "nothing was changed",
                "prlctl stop web01",
            ],
        );
    }
    assert_eq!(host.exec("web01", "cat /two/file"), "2");
    drop(busy.stdin.take());
    assert!(busy.wait().unwrap().success());
    // Detached, and there again; its file is the same all the while.
    let ran = host.run(["set", "web01", "--device-del", "hdd2"]);
    assert!(ran.code == 0 && ran.stderr.contains("still in ") && ran.stderr.contains("hdd2.img"), "{ran}");
    assert_eq!(host.exec("web01", "ls /two"), "");
    assert!(host.ok(["list", "-i", "web01"]).contains("hdd2 hdd2.img, detached"));
    // What is detached is nobody's to overwrite.
    add_disk(&host, "64M", "/five");
    assert!(conf(&host, "web01").contains("image=hdd3.img"));
    host.ok(["set", "web01", "--device-add", "hdd", "--image", "hdd2.img", "--mnt", "/six"]);
    assert_eq!(host.exec("web01", "cat /six/file"), "2");
    host.ok(["set", "web01", "--device-set", "hdd2", "--disable"]);
    assert_eq!(host.exec("web01", "ls /six"), "");
    host.ok(["restart", "web01"]);
    assert_eq!(host.exec("web01", "ls /six; cat /three/file"), "1");
    host.ok(["set", "web01", "--device-set", "hdd2", "--enable"]);
    assert_eq!(host.exec("web01", "cat /six/file"), "2");
    host.ok(["set", "web01", "--device-del", "hdd2", "--destroy-image"]);
    assert!(!host.area("web01").join("hdd2.img").exists());
    assert_eq!(host.exec("web01", "ls /six"), "");
    // A kill of its monitor, and of all of it, leaves no device.
    host.ok(["stop", "web01", "--kill"]);
    host.run(["recover", "web01"]);
    host.wait_until("the devices are gone", || loops(&host).is_empty());
}

#[test]
fn root_what_a_later_version_has_under_way_is_left_to_it() {
    let Some(host) = new_host() else { return };
    host.started("web01");
    let (one, two) = (shared(&host, "one"), shared(&host, "two"));
    host.ok(["set", "web01", "--bindmount_add", &format!("{one}:/one")]);
    let id = host.area("web01").file_name().unwrap().to_str().unwrap().to_owned();
    let record = format!("run/vz/{id}/attaching.json");
    let later = r#"{"format":2,"at":["/one"],"trees":[]}"#;
    host.write(&record, later, 0o600);
    let is_left = || std::fs::read_to_string(host.path(&record)).unwrap() == later;
    // It is said by whoever has to do with the container, who does what it is asked for all the same.
    let ran = host.run(["set", "web01", "--numproc", "200"]);
    assert!(ran.code == 0 && ran.stderr.contains("what is mounted in `web01` is left as it is"), "{ran}");
    assert!(ran.stderr.contains("its format is 2, and 1 the latest known here") && is_left(), "{ran}");
    for words in [["--bindmount_add", &format!("{two}:/two")], ["--bindmount_del", "/one"]] {
        let ran = host.run(["set", "web01"].iter().chain(&words));
        ran.failed(
            5,
            &["a later version of Reroot has written", "nothing was changed", "prlctl restart web01"],
        );
        assert!(is_left());
    }
    assert_eq!(host.exec("web01", "cat /one/file; ls -d /two 2>/dev/null || echo none"), "of the host\nnone");
    // With the container goes all that it could be about.
    let ran = host.run(["restart", "web01"]);
    assert_eq!(ran.code, 0, "{ran}");
    host.ok(["set", "web01", "--bindmount_add", &format!("{two}:/two")]);
    assert_eq!(host.exec("web01", "cat /one/file /two/file"), "of the host\nof the host");
    assert!(!host.path(&record).exists());
}

#[test]
fn root_a_disk_becomes_larger_and_smaller() {
    let Some(host) = new_host() else { return };
    host.started("web01");
    add_disk(&host, "64M", "/data");
    host.exec(
        "web01",
        "dd if=/dev/urandom of=/data/much bs=1M count=30 2>/dev/null; sha256sum /data/much > /data/sum",
    );
    host.run(["set", "web01", "--device-set", "hdd1", "--size", "40M"])
        .failed(32, &["cannot be made smaller while it runs"]);
    host.ok(["stop", "web01"]);
    for (size, blocks) in [("200M", 204_800), ("80M", 81_920)] {
        host.ok(["set", "web01", "--device-set", "hdd1", "--size", size]);
        assert!(conf(&host, "web01").contains(&format!("size={blocks},")));
        assert_eq!(host.area("web01").join("hdd1.img").metadata().unwrap().len(), blocks * 1024);
        host.ok(["start", "web01"]);
        host.exec("web01", "sha256sum -c /data/sum");
        host.ok(["stop", "web01"]);
    }
    host.run(["set", "web01", "--device-set", "hdd1", "--size", "32M"])
        .failed(46, &["needs more room", "nothing was changed"]);
    assert_eq!(host.area("web01").join("hdd1.img").metadata().unwrap().len(), 81_920 * 1024);
}

#[test]
fn root_no_root_is_started_without_a_disk_for_a_slip_in_its_entry() {
    let Some(host) = new_host() else { return };
    host.started("web01");
    add_disk(&host, "64M", "/data");
    host.exec("web01", "echo precious > /data/file; sync");
    let path = host.area("web01").join("ve.conf");
    let good = conf(&host, "web01");
    std::fs::write(&path, good.replace("image=hdd1.img", "image=hdd01.img")).unwrap();
    let refused = ["image=hdd01.img", "there is hdd1.img", "ve.conf", "nothing was changed"];
    host.run(["reinstall", "web01"]).failed(21, &refused);
    assert_eq!(host.exec("web01", "cat /data/file; ls -A /old | wc -l"), "precious\n0");
    assert!(host.ok(["info", "web01"]).contains("is no disk here, and there is no start without it"));
    host.ok(["stop", "web01"]);
    host.run(["start", "web01"]).failed(21, &refused);
    // An entry of Virtuozzo's that has its UUID: nobody can tell which of the two is the slip.
    let entry = good.lines().find_map(|line| line.strip_prefix("DISK=\"")).expect("it has one");
    let uuid = entry.split(',').next().expect("it begins so");
    let other = format!("DISK=\"{uuid},image=/vz/data.hdd;");
    std::fs::write(&path, good.replace("DISK=\"", &other)).unwrap();
    host.run(["start", "web01"])
        .failed(21, &["data.hdd", "has the UUID of another disk", "nothing was changed"]);
    assert!(host.ok(["info", "web01"]).contains("is no disk here, and there is no start without it"));
    std::fs::write(&path, good.replace("DISK=\"", &other.replace("image=", "enabled=no,image="))).unwrap();
    host.ok(["start", "web01"]);
    host.ok(["stop", "web01"]);
    std::fs::write(&path, good).unwrap();
    host.ok(["start", "web01"]);
    assert_eq!(host.exec("web01", "cat /data/file"), "precious");
}

#[test]
fn root_a_disk_that_is_not_its_own_is_told_and_keeps_nobody_from_deleting() {
    let Some(host) = new_host() else { return };
    for name in ["web01", "web02"] {
        host.ok(["create", name, "--ostemplate", "busybox"]);
        host.ok(["set", name, "--device-add", "hdd", "--size", "64M", "--mnt", "/data"]);
        host.ok(["start", name]);
        host.exec(name, &format!("echo {name} > /data/whose"));
        host.ok(["stop", name]);
        host.run(["recover", name]);
    }
    host.wait_until("the devices are gone", || loops(&host).is_empty());
    let [own, other] = ["web01", "web02"].map(|name| host.area(name).join("hdd1.img"));
    let aside = host.path("aside.img");
    std::fs::rename(&own, &aside).unwrap();
    host.run(["start", "web01"])
        .failed(50, &["the disk hdd1 of `web01` is not there", "--device-del hdd1", "nothing was changed"]);
    std::fs::copy(&other, &own).unwrap();
    host.run(["start", "web01"]).failed(85, &["it is a disk of another container"]);
    host.run(["recover", "web01"]);
    host.wait_until("its device is gone", || loops(&host).is_empty());
    for junk in [&b""[..], b"no filesystem"] {
        std::fs::write(&own, junk).unwrap();
        host.run(["start", "web01"]).failed(50, &["the disk hdd1 of `web01` cannot be mounted", "e2fsck -f"]);
        assert!(host.ok(["list", "-a"]).contains("web01"));
    }
    std::fs::rename(&aside, &own).unwrap();
    host.ok(["start", "web01"]);
    assert_eq!(host.exec("web01", "cat /data/whose"), "web01");
    // A second file with the same disk in it, under another entry.
    host.ok(["stop", "web01"]);
    host.ok(["set", "web01", "--device-add", "hdd", "--size", "64M", "--mnt", "/more"]);
    host.run(["recover", "web01"]);
    host.wait_until("the devices are gone", || loops(&host).is_empty());
    std::fs::copy(&own, host.area("web01").join("hdd2.img")).unwrap();
    host.run(["start", "web01"]).failed(85, &["hdd2 of `web01` is another one"]);
    host.run(["recover", "web01"]);
    std::fs::remove_file(&own).unwrap();
    for name in ["web01", "web02"] {
        host.ok(["delete", name]);
    }
}

/// Whoever is root in the container makes what he likes of the place where something is to be mounted.
#[test]
fn root_nothing_is_mounted_where_a_link_leads() {
    let Some(host) = new_host() else { return };
    host.started("web01");
    let bound = shared(&host, "data");
    let bind = |at: &str| host.run(["set", "web01", "--bindmount_add", &format!("{bound}:{at}")]);
    host.exec("web01", "mkdir /real; ln -s /etc /link; ln -s ../../../../../../../../etc /up; mkfifo /fifo; touch /file; ln -s /nowhere /dangling; mkdir /dir; ln -s /etc /dir/x");
    for (at, because) in [
        ("/link", "/link is a symbolic link"),
        ("/link/deep/er", "/link is a symbolic link"),
        ("/up", "/up is a symbolic link"),
        ("/dangling", "/dangling is a symbolic link"),
        ("/dir/x/y", "/dir/x is a symbolic link"),
        ("/fifo", "/fifo is no directory"),
        ("/file/below", "/file is no directory"),
    ] {
        bind(at).failed(50, &[because, "nothing was changed"]);
        assert!(!conf(&host, "web01").contains("BINDMOUNT=\"/"), "{at}");
    }
    assert_eq!(host.exec("web01", "ls /etc | grep -c deep || true; ls -d /nowhere 2>/dev/null || true"), "0");
    // While it is stopped nobody looks; the start does, and does not begin.
    host.ok(["set", "web01", "--bindmount_add", &format!("{bound}:/real")]);
    assert_eq!(host.exec("web01", "cat /real/file"), "of the host");
    // Moved away by the container while it is mounted, it is still taken away, and nothing else.
    host.exec("web01", "umount /real && rmdir /real && ln -s /etc /real");
    let before = std::fs::read_dir("/etc").unwrap().count();
    host.ok(["stop", "web01"]);
    let ran = host.run(["start", "web01"]);
    ran.failed(
        3,
        &["cannot be mounted at /real in the container: /real is a symbolic link", "`web01` is stopped"],
    );
    // A new root has none of that.
    host.ok(["reinstall", "web01"]);
    host.ok(["start", "web01"]);
    assert_eq!(host.exec("web01", "cat /real/file; readlink /old/real"), "of the host\n/etc");
    assert_eq!(std::fs::read_dir("/etc").unwrap().count(), before);
}

#[test]
fn root_what_it_sees_of_the_host_has_its_ids_and_no_more_rights() {
    let Some(host) = new_host() else { return };
    let bound = shared(&host, "data");
    let file = format!("{bound}/file");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    host.ok([
        "create",
        "web01",
        "--ostemplate",
        "busybox",
        "--bindmount_add",
        &format!("{bound}:/data"),
        "--bindmount_add",
        &format!("{file}:/etc/one.conf,ro"),
    ]);
    host.ok(["start", "web01"]);
    // What is root's on the host is the container's root's, and the other way round.
    assert_eq!(host.exec("web01", "stat -c '%u %g' /data/file; cat /etc/one.conf"), "0 0\nof the host");
    host.exec("web01", "echo new > /data/new; chown 33:33 /data/new");
    let found = std::fs::metadata(format!("{bound}/new")).unwrap();
    assert_eq!((found.uid(), found.gid()), (33, 33));
    // Setuid means nothing there, device nodes neither; what is read-only stays so.
    let flags = host.exec("web01", "grep ' /data ' /proc/mounts");
    assert!(flags.contains(",nosuid,nodev,"), "{flags}");
    host.run(["exec", "web01", "echo x > /etc/one.conf"]).failed(1, &["Read-only"]);
    for flags in ["suid", "dev", "suid,dev"] {
        let ran = host.run(["exec", "web01", &format!("mount -o remount,{flags} /data")]);
        assert!(ran.code != 0, "{ran}");
    }
    let node = rustix::fs::makedev(1, 3);
    rustix::fs::mknodat(
        rustix::fs::CWD,
        format!("{bound}/null"),
        rustix::fs::FileType::CharacterDevice,
        rustix::fs::Mode::from_raw_mode(0o666),
        node,
    )
    .unwrap();
    host.run(["exec", "web01", "cat /data/null"]).failed(1, &["ermission denied"]);
    let ids = host.area("web01").join("area.json");
    assert!(std::fs::read_to_string(ids).unwrap().contains(&FIRST_ID.to_string()));
    // One that has gone is told before anything begins.
    host.ok(["stop", "web01"]);
    std::fs::rename(&bound, host.path("elsewhere")).unwrap();
    host.run(["start", "web01"]).failed(50, &["is not there", "--bindmount_del /data"]);
    std::os::unix::fs::symlink("/etc", &bound).unwrap();
    host.run(["start", "web01"]).failed(50, &["a symbolic link"]);
    host.run(["reinstall", "web01"]).failed(50, &["a symbolic link", "nothing was changed"]);
    std::fs::remove_file(&bound).unwrap();
    host.ok(["set", "web01", "--bindmount_del", "all"]);
    host.ok(["start", "web01"]);
    assert_eq!(host.exec("web01", "ls /data"), "");
}

#[test]
fn root_what_cannot_be_attached_is_refused() {
    let Some(host) = new_host() else { return };
    host.ok(["create", "web01", "--ostemplate", "busybox"]);
    let bound = shared(&host, "data");
    let private = host.path("vz/private");
    std::os::unix::fs::symlink(&bound, host.path("srv/link")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        host.path("srv/fifo"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    let link = host.path("srv/link");
    let fifo = host.path("srv/fifo");
    let of = |path: &std::path::Path| format!("{}:/x", path.display());
    let before = conf(&host, "web01");
    for (word, code) in [
        ("/data".to_owned(), 21),
        ("srv:/x".into(), 21),
        ("/srv/../etc:/x".into(), 21),
        (format!("{bound}:x"), 21),
        (format!("{bound}:/"), 21),
        (format!("{bound}:/proc/x"), 21),
        (format!("{bound}:/old"), 21),
        (format!("{bound}:/x,suid"), 21),
        (format!("{bound}:/x,ro;reboot"), 21),
        (format!("{bound}:/x /y:/z"), 21),
        (format!("{bound}:/$(reboot) x"), 21),
        (format!("{bound}:/{}", "x".repeat(2000)), 21),
        ("/:/x,ro".into(), 21),
        ("/etc:/x".into(), 21),
        ("/dev/null:/x".into(), 21),
        (of(&private), 50),
        (of(&host.prefix()), 50),
        (of(&link), 50),
        (of(&fifo), 50),
        (of(&host.path("srv/none")), 50),
        (String::new(), 21),
    ] {
        host.run(["set", "web01", "--bindmount_add", &word]).failed(code, &["nothing was changed"]);
        let ran = host.run(["create", "web02", "--ostemplate", "busybox", "--bindmount_add", &word]);
        ran.failed(21, &["nothing was changed"]);
    }
    let add = ["set", "web01", "--device-add"];
    for (words, code, because) in [
        (&["hdd", "--size", "64M"][..], 20, "--mnt"),
        (&["hdd", "--mnt", "/data"], 21, "--size"),
        (&["net", "--size", "64M", "--mnt", "/data"], 21, "--ipadd"),
        (&["hdd", "--size", "0", "--mnt", "/data"], 21, "wanted MiB"),
        (&["hdd", "--size", "31M", "--mnt", "/data"], 21, "32 MiB to 16 TiB"),
        (&["hdd", "--size", "17T", "--mnt", "/data"], 21, "32 MiB to 16 TiB"),
        (&["hdd", "--size", "10GB", "--mnt", "/data"], 21, "wanted MiB"),
        (&["hdd", "--size=-1", "--mnt", "/data"], 21, "wanted MiB"),
        (&["hdd", "--size", "99999999999999999999", "--mnt", "/data"], 21, "wanted MiB"),
        (&["hdd", "--size", "64M", "--mnt", "data"], 21, "absolute"),
        (&["hdd", "--size", "64M", "--mnt", "/sys/x"], 21, "/proc, /sys"),
        (&["hdd", "--size", "64M", "--mnt", "/a;b"], 21, "absolute"),
        (&["hdd", "--size", "64M", "--mnt", "/data", "--mnt-opts", "suid"], 21, "some of"),
        (&["hdd", "--mnt", "/data", "--image", "hdd1.img"], 50, "there is no file"),
        (&["hdd", "--mnt", "/data", "--image", "../hdd1.img"], 21, "hdd1.img"),
        (&["hdd", "--mnt", "/data", "--image", "/etc/shadow"], 21, "hdd1.img"),
    ] {
        host.run(add.iter().chain(words)).failed(code, &[because, "nothing was changed"]);
    }
    for words in [
        &["--device-set", "hdd1", "--size", "1G"][..],
        &["--device-del", "hdd0"],
        &["--device-del", "hdd1; reboot"],
        &["--device-set", "", "--disable"],
    ] {
        host.run(["set", "web01"].iter().chain(words)).failed(21, &["it has no disk", "nothing was changed"]);
    }
    host.run(["set", "web01", "--device-set", "hdd1"]).failed(20, &["--size"]);
    host.run(["set", "web01", "--bindmount_del", "/data"]).failed(21, &["where one of its bind mounts is"]);
    assert_eq!(conf(&host, "web01"), before);
    assert!(!host.area("web01").join("hdd1.img").exists() && loops(&host).is_empty());
    // Two at one place.
    add_disk(&host, "64M", "/data");
    host.run(["set", "web01", "--bindmount_add", &format!("{bound}:/data")])
        .failed(21, &["are both at /data"]);
    host.run(["set", "web01", "--device-add", "hdd", "--size", "64M", "--mnt", "/data"])
        .failed(21, &["every path once"]);
    assert!(!host.area("web01").join("hdd2.img").exists());
    // An edited ve.conf.
    let path = host.area("web01").join("ve.conf");
    let good = conf(&host, "web01");
    for (line, because) in [
        ("BINDMOUNT=\"/data\"", "`BINDMOUNT`"),
        ("BINDMOUNT=\"/etc:/x\"", "`ro`"),
        ("DISK=\"image=hdd1.img\"", "`DISK`"),
        ("DISK=\"uuid={x},mnt=/data,image=hdd1.img\"", "`DISK`"),
        ("DISK=\"garbage\"", "`garbage`"),
    ] {
        std::fs::write(&path, format!("{good}{line}\n")).unwrap();
        host.run(["start", "web01"]).failed(21, &[because, "ve.conf"]);
    }
    // What Virtuozzo has written of its own is kept; what would be missed is told.
    let foreign = "DISK=\"uuid={00000000-0000-0000-0000-000000000000},size=10485760,enabled=yes,image=root.hdd;uuid={6b9f3c1e-2f0a-4f8e-9d3b-5a1c7e42d001},mnt=/x,image=/vz/data.hdd\"";
    std::fs::write(&path, format!("{good}{foreign}\n")).unwrap();
    host.run(["start", "web01"])
        .failed(21, &["mnt=/x,image=/vz/data.hdd", "enabled=no", "nothing was changed"]);
    let foreign = foreign.replace(",mnt=/x", ",enabled=no,mnt=/x");
    std::fs::write(&path, format!("{good}{foreign}\n")).unwrap();
    host.ok(["start", "web01"]);
    add_disk(&host, "64M", "/more");
    let text = conf(&host, "web01");
    assert!(
        text.contains(
            "image=root.hdd;uuid={6b9f3c1e-2f0a-4f8e-9d3b-5a1c7e42d001},enabled=no,mnt=/x,image=/vz/data.hdd;uuid={"
        ),
        "{text}"
    );
}

#[test]
fn root_vzctl_says_the_same_in_its_words() {
    let Some(host) = new_host() else { return };
    let bound = shared(&host, "data");
    let vzctl = |words: &[&str]| Ran::of(host.vzctl().args(words).output().unwrap());
    let ran = vzctl(&["create", "101", "--ostemplate", "busybox"]);
    assert_eq!(ran.code, 0, "{ran}");
    let bind = format!("{bound}:/data,nosuid,noexec,nodev");
    let set =
        ["set", "101", "--bindmount_add", &bind, "--device-add", "hdd", "--size", "64M", "--mnt", "/more"];
    vzctl(&set).failed(31, &["without saving it"]);
    let ran = vzctl(&[&set[..], &["--save"]].concat());
    assert_eq!(ran.code, 0, "{ran}");
    assert_eq!(vzctl(&["start", "101"]).code, 0);
    assert_eq!(vzctl(&["exec2", "101", "cat /data/file; touch /more/x"]).stdout, "of the host\n");
    let text = conf(&host, "101");
    let uuid = text.split("uuid={").nth(1).and_then(|rest| rest.split('}').next()).expect("it has a disk");
    let ran = vzctl(&[
        "set",
        "101",
        "--device-del",
        &format!("{{{uuid}}}"),
        "--destroy-image",
        "--bindmount_del",
        "all",
        "--save",
    ]);
    assert_eq!(ran.code, 0, "{ran}");
    assert_eq!(vzctl(&["exec2", "101", "ls /data /more"]).stdout, "/data:\n\n/more:\n");
    assert_eq!(vzctl(&["stop", "101", "--fast"]).code, 0);
}

/// `CAP_SYS_RESOURCE`, without which the kernel makes no mounted filesystem larger.
fn can_grow_mounted() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").expect("the kernel tells");
    let found = status.lines().find_map(|line| line.strip_prefix("CapEff:")).expect("it has capabilities");
    u64::from_str_radix(found.trim(), 16).expect("they are a number") & (1 << 24) != 0
}

/// While it runs, as at a start: another's disk is nobody's to mount because it has the name.
#[test]
fn root_a_disk_that_comes_back_while_it_runs_is_looked_at() {
    let Some(host) = new_host() else { return };
    host.ok(["create", "web02", "--ostemplate", "busybox"]);
    host.ok(["set", "web02", "--device-add", "hdd", "--size", "64M", "--mnt", "/data"]);
    host.started("web01");
    add_disk(&host, "64M", "/data");
    add_disk(&host, "64M", "/more");
    host.exec("web01", "echo mine > /data/whose");
    let enable = ["set", "web01", "--device-set", "hdd1", "--enable"];
    let [own, second] = ["hdd1.img", "hdd2.img"].map(|image| host.area("web01").join(image));
    for number in ["hdd1", "hdd2"] {
        host.ok(["set", "web01", "--device-set", number, "--disable"]);
    }
    host.wait_until("the devices are gone", || loops(&host).is_empty());
    let aside = host.path("aside.img");
    std::fs::rename(&own, &aside).unwrap();
    host.run(enable)
        .failed(50, &["the disk hdd1 of `web01` is not there", "--device-del hdd1", "nothing was changed"]);
    let before = conf(&host, "web01");
    for (other, because) in [
        (host.area("web02").join("hdd1.img"), "it is a disk of another container"),
        (second, "hdd1 of `web01` is another one"),
    ] {
        std::fs::copy(other, &own).unwrap();
        host.run(enable).failed(85, &[because, "nothing was changed"]);
        assert_eq!(conf(&host, "web01"), before);
        assert_eq!(host.exec("web01", "ls /data; grep -c ' /data ' /proc/mounts || true"), "0");
        host.wait_until("its device is gone", || loops(&host).is_empty());
    }
    std::fs::rename(&aside, &own).unwrap();
    host.ok(enable);
    assert_eq!(host.exec("web01", "cat /data/whose"), "mine");
    // The same in the words of Virtuozzo.
    host.ok(["set", "web01", "--device-disconnect", "hdd1"]);
    assert_eq!(host.exec("web01", "ls /data"), "");
    assert!(conf(&host, "web01").contains("enabled=no,mnt=/data,"));
    host.ok(["set", "web01", "--device-connect", "hdd1"]);
    assert_eq!(host.exec("web01", "cat /data/whose"), "mine");
    for words in [
        &["--device-connect", "hdd1", "--mnt", "/x"][..],
        &["--device-connect", "hdd1", "--device-disconnect", "hdd1"],
        &["--device-connect", "hdd1", "--enable"],
        &["--device-disconnect"],
    ] {
        let ran = host.run(["set", "web01"].iter().chain(words));
        assert!(ran.code != 0, "{words:?} {ran}");
    }
    for which in ["hdd0", "hdd9", "", "hdd1; reboot", "net0"] {
        host.run(["set", "web01", "--device-disconnect", which])
            .failed(21, &["it has no disk", "nothing was changed"]);
    }
    assert_eq!(host.exec("web01", "cat /data/whose"), "mine");
}

#[test]
fn root_a_disk_that_is_not_there_keeps_no_other_from_being_compacted() {
    let Some(host) = new_host() else { return };
    host.started("web01");
    add_disk(&host, "64M", "/data");
    add_disk(&host, "64M", "/more");
    host.ok(["set", "web01", "--device-set", "hdd1", "--disable"]);
    let [gone, there] = ["hdd1.img", "hdd2.img"].map(|image| host.area("web01").join(image));
    host.wait_until("the device is gone", || loops(&host).len() == 1);
    let taken = || there.metadata().unwrap().blocks() * 512;
    let fill = || {
        let file = std::fs::File::options().write(true).open(&there).unwrap();
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, 64 << 20).unwrap();
        file.sync_all().unwrap();
        assert!(taken() >= 64 << 20);
    };
    std::fs::rename(&gone, host.path("aside.img")).unwrap();
    fill();
    let ran = host.run(["compact", "web01"]);
    assert!(ran.code == 0 && ran.stdout.contains("successfully compacted"), "{ran}");
    assert!(ran.stderr.contains("warning: hdd1 is not there: ") && taken() < 32 << 20, "{} {ran}", taken());
    // What is there and cannot be is an error, after the others.
    std::fs::write(&gone, "no filesystem").unwrap();
    // What a mounted filesystem has given back once it does not give back again.
    host.ok(["stop", "web01"]);
    host.run(["recover", "web01"]);
    host.wait_until("the devices are gone", || loops(&host).is_empty());
    host.ok(["start", "web01"]);
    fill();
    host.run(["compact", "web01"]).failed(
        50,
        &["the disk hdd1 of `web01` cannot be mounted", "what else it has was compacted; nothing was lost"],
    );
    assert!(taken() < 32 << 20, "{}", taken());
}

/// What cannot be made smaller again is made larger when nothing else can fail any more.
#[test]
fn root_a_disk_is_as_large_as_before_when_the_call_fails() {
    let Some(host) = new_host() else { return };
    host.started("web01");
    add_disk(&host, "64M", "/data");
    host.exec("web01", "echo precious > /data/file; ln -s /etc /link");
    let image = host.area("web01").join("hdd1.img");
    let size = || image.metadata().unwrap().len() >> 20;
    let before = conf(&host, "web01");
    host.run(["set", "web01", "--device-set", "hdd1", "--size", "128M", "--mnt", "/link"])
        .failed(50, &["/link is a symbolic link", "nothing was changed"]);
    assert_eq!((conf(&host, "web01"), size()), (before.clone(), 64));
    assert_eq!(host.exec("web01", "cat /data/file"), "precious");
    // The growth itself, last: where it cannot be had, all else is taken back.
    let ran = host.run([
        "set",
        "web01",
        "--device-set",
        "hdd1",
        "--size",
        "128M",
        "--mnt",
        "/elsewhere",
        "--cpuunits",
        "500",
        "--name",
        "web03",
    ]);
    if can_grow_mounted() {
        assert_eq!(ran.code, 0, "{ran}");
        assert_eq!(host.exec("web03", "cat /elsewhere/file"), "precious");
        assert!(conf(&host, "web03").contains("size=131072,") && size() == 128);
        return;
    }
    ran.failed(50, &["hdd1 cannot be made as large as that", "nothing was changed", "prlctl stop web01"]);
    assert_eq!((conf(&host, "web01"), size()), (before.clone(), 64));
    assert_eq!(host.exec("web01", "cat /data/file; ls /elsewhere"), "precious");
    host.run(["list", "-i", "web03"]).failed(14, &["unknown container `web03`"]);
    // Likewise of the root's own, with a new disk in the same call: that is gone again.
    host.ok(["stop", "web01"]);
    host.ok(["move", "web01", "--volume", "image"]);
    host.ok(["start", "web01"]);
    let before = conf(&host, "web01");
    host.run([
        "set",
        "web01",
        "--diskspace",
        "20G",
        "--device-add",
        "hdd",
        "--size",
        "64M",
        "--mnt",
        "/more",
    ])
    .failed(50, &["its disk cannot be made larger", "nothing was changed"]);
    assert_eq!(conf(&host, "web01"), before);
    assert!(!host.area("web01").join("hdd2.img").exists());
    assert_eq!(loops(&host).len(), 2);
}

/// What a death has left between a disk and its entry, the next command puts right: the file is what counts.
#[test]
fn root_an_entry_says_how_large_its_disk_is() {
    let Some(host) = new_host() else { return };
    host.started("web01");
    add_disk(&host, "64M", "/data");
    host.exec("web01", "echo precious > /data/file");
    host.ok(["stop", "web01"]);
    host.run(["recover", "web01"]);
    host.wait_until("the devices are gone", || loops(&host).is_empty());
    let image = host.area("web01").join("hdd1.img");
    // Killed when the file had grown, and its filesystem had not.
    std::fs::File::options().write(true).open(&image).unwrap().set_len(96 << 20).unwrap();
    host.ok(["recover", "web01"]);
    assert!(conf(&host, "web01").contains("size=98304,"), "{}", conf(&host, "web01"));
    host.wait_until("the device is gone", || loops(&host).is_empty());
    host.ok(["start", "web01"]);
    let size = host.exec("web01", "df -m /data | tail -1 | awk '{print $2}'; cat /data/file");
    let (size, text) = size.split_once('\n').expect("two lines");
    assert!((78..=96).contains(&size.parse::<u64>().unwrap()) && text == "precious", "{size} {text}");
}

/// Also where `/vz` is a link: by its true name, too, what containers are kept in is nobody's to see.
#[test]
fn root_nothing_of_what_containers_are_kept_in_is_bound_where_vz_is_a_link() {
    let Some(host) = new_host() else { return };
    let (vz, real) = (host.path("vz"), host.path("elsewhere"));
    std::fs::rename(&vz, &real).unwrap();
    std::os::unix::fs::symlink(&real, &vz).unwrap();
    host.started("web01");
    let before = conf(&host, "web01");
    for below in ["", "/private", "/template", "/root"] {
        let source = format!("{}{below}", real.display());
        host.run(["set", "web01", "--bindmount_add", &format!("{source}:/x")])
            .failed(50, &[&source, "is, or holds, what containers are kept in", "nothing was changed"]);
    }
    let area = host.area("web01").canonicalize().unwrap();
    host.run(["set", "web01", "--bindmount_add", &format!("{}:/x", area.display())])
        .failed(50, &["what containers are kept in"]);
    assert_eq!(conf(&host, "web01"), before);
    // Beside them it may be.
    std::fs::create_dir(real.join("shared")).unwrap();
    host.ok(["set", "web01", "--bindmount_add", &format!("{}:/x", real.join("shared").display())]);
    host.exec("web01", "touch /x/file");
}

/// Of two that are made larger the first would stay so where the second fails.
#[test]
fn root_two_disks_become_of_another_size_in_two_calls() {
    let Some(host) = new_host() else { return };
    host.ok(["create", "web01", "--ostemplate", "busybox", "--volume", "image", "--diskspace", "64M"]);
    add_disk(&host, "64M", "/data");
    host.write("etc/vz/conf/ve-large.conf-sample", "DISKSPACE=\"96M\"\n", 0o644);
    let sizes = || {
        ["volume.img", "hdd1.img"].map(|file| host.area("web01").join(file).metadata().unwrap().len() >> 20)
    };
    let before = conf(&host, "web01");
    for root in [["--diskspace", "96M"], ["--diskspace", "48M"], ["--applyconfig", "large"]] {
        for size in ["96M", "48M"] {
            let ran =
                host.run([&["set", "web01", "--device-set", "hdd1", "--size", size], &root[..]].concat());
            ran.failed(
                20,
                &[
                    "each is of a call of its own",
                    "state: nothing was changed",
                    "prlctl set web01 --diskspace",
                ],
            );
            assert_eq!((conf(&host, "web01"), sizes()), (before.clone(), [64, 64]), "{root:?} {size}");
        }
    }
    host.ok(["set", "web01", "--diskspace", "96M"]);
    host.ok(["set", "web01", "--diskspace", "96M", "--device-set", "hdd1", "--size", "96M"]);
    assert_eq!(sizes(), [96, 96]);
}

#[test]
fn root_nothing_is_mounted_above_what_it_sees_while_it_runs() {
    let Some(host) = new_host() else { return };
    host.started("web01");
    add_disk(&host, "64M", "/data/db");
    let bound = shared(&host, "data");
    host.exec("web01", "echo precious > /data/db/file");
    let before = conf(&host, "web01");
    let mount = format!("{bound}:/data");
    let bind = ["set", "web01", "--bindmount_add", &mount];
    let words = [&bind[..], &["set", "web01", "--device-add", "hdd", "--size", "64M", "--mnt", "/data"]];
    for words in words {
        host.run(words.iter()).failed(
            41,
            &["it would hide `hdd1`, which is at /data/db", "nothing was changed", "prlctl stop web01"],
        );
    }
    assert_eq!(conf(&host, "web01"), before);
    assert!(!host.area("web01").join("hdd2.img").exists());
    assert_eq!(host.exec("web01", "cat /data/db/file"), "precious");
    // Beside it, by name only above it, it may be; stopped, above it too.
    host.ok(["set", "web01", "--bindmount_add", &format!("{bound}:/dat")]);
    host.ok(["stop", "web01"]);
    host.ok(bind);
    host.ok(["start", "web01"]);
    assert_eq!(host.exec("web01", "cat /data/db/file /data/file"), "precious\nof the host");
}
