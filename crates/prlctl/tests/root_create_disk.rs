//! `create --device-add`: a container that begins with a disk beside that of its root, or is not made at all.

use std::path::Path;

use testkit::{Ran, RealHost};

const PROGRAM: &str = env!("CARGO_BIN_EXE_prlctl");
const CREATE: [&str; 4] = ["create", "web01", "--ostemplate", "busybox"];

/// What there is below the directory of all private areas.
fn areas(host: &RealHost) -> usize {
    let entries = std::fs::read_dir(host.path("vz/private")).expect("there is one").flatten();
    entries.filter(|entry| entry.file_name() != ".trash").count()
}

fn loops(host: &RealHost) -> usize {
    let devices = std::fs::read_dir("/sys/block").expect("there are block devices").flatten();
    let files =
        devices.filter_map(|device| std::fs::read_to_string(device.path().join("loop/backing_file")).ok());
    files.filter(|file| Path::new(file).starts_with(host.prefix())).count()
}

#[test]
fn root_a_container_is_made_with_a_disk_beside_its_root() {
    let Some(host) = RealHost::new(PROGRAM) else { return };
    for volume in ["directory", "image"] {
        let disk = ["--device-add", "hdd", "--size", "64M", "--mnt", "/data", "--mnt-opts", "noexec"];
        host.ok(CREATE.into_iter().chain(disk).chain(["--volume", volume]));
        let conf = std::fs::read_to_string(host.area("web01").join("ve.conf")).expect("it can be read");
        assert!(
            conf.contains(",size=65536,enabled=yes,mnt=/data,mnt_opts=noexec,image=hdd1.img\"\n"),
            "{conf}"
        );
        let mounts = host.mounts();
        assert!(!mounts.iter().any(|point| point.ends_with("disks/hdd1")), "{mounts:?}");
        host.ok(["start", "web01"]);
        host.exec("web01", "echo precious > /data/file; cp /bin/busybox /data/; sync");
        host.run(["exec", "web01", "/data/busybox", "true"]).failed(126, &["ermission denied"]);
        host.ok(["reinstall", "web01"]);
        assert_eq!(host.exec("web01", "cat /data/file; ls -A /old/data | wc -l"), "precious\n0");
        host.ok(["delete", "web01", "--force"]);
        host.wait_until("the devices are gone", || loops(&host) == 0);
    }
}

#[test]
fn root_a_disk_that_cannot_be_leaves_no_container() {
    let Some(host) = RealHost::new(PROGRAM) else { return };
    let sized = ["--device-add", "hdd", "--size", "64M"];
    let bind = format!("{}:/data", host.path("vz").display());
    for (words, code, said) in [
        (&["--device-add", "hdd"][..], 20, "--size"),
        (&["--size", "64M"], 20, "--device-add"),
        (&sized, 20, "--mnt"),
        (&["--device-add", "net", "--size", "64M", "--mnt", "/data"], 21, "wanted hdd"),
        (&["--device-add", "hdd", "--size", "1M", "--mnt", "/data"], 21, "32 MiB to 16 TiB"),
        (&["--device-add", "hdd", "--size", "17T", "--mnt", "/data"], 21, "32 MiB to 16 TiB"),
        (&["--device-add", "hdd", "--size=-1", "--mnt", "/data"], 21, "32 MiB to 16 TiB"),
        (&["--device-add", "hdd", "--size", "64M", "--mnt", "data"], 21, "--mnt data"),
        (&["--device-add", "hdd", "--size", "64M", "--mnt", "/a/../etc"], 21, "--mnt"),
        (&["--device-add", "hdd", "--size", "64M", "--mnt", "/data", "--mnt-opts", "exec"], 21, "--mnt-opts"),
        (
            &["--device-add", "hdd", "--size", "64M", "--mnt", "/data", "--bindmount_add", &bind],
            21,
            "is there, too",
        ),
        (
            &["--device-add", "hdd", "--size", "64M", "--mnt", "/data", "--userpasswd", "root:x"],
            20,
            "afterwards",
        ),
        (&["--device-set", "hdd1", "--size", "64M"], 20, "--device-set"),
    ] {
        host.run(CREATE.iter().chain(words)).failed(code, &[said]);
        assert_eq!(areas(&host), 0, "{words:?}");
    }
    // In a mount namespace of its own, where what gives block devices is something else.
    let line = "mount --bind /dev/null /dev/loop-control && exec \"$0\" \"$@\"";
    let mut command = std::process::Command::new("unshare");
    command.args(["--mount", "sh", "-c", line, PROGRAM]).args(CREATE).args(sized).args(["--mnt", "/data"]);
    Ran::of(command.env("REROOT_PREFIX", host.prefix()).output().expect("unshare runs"))
        .failed(50, &["there is no loop device", "state: nothing was changed", "modprobe loop"]);
    assert_eq!((areas(&host), loops(&host)), (0, 0));
    assert!(!host.ok(["list", "-a"]).contains("web01"));
    host.ok(CREATE);
}

#[test]
#[cfg(debug_assertions)] // A release build has no fault points.
fn root_a_creation_that_is_killed_leaves_no_disk_beside() {
    let Some(host) = RealHost::new(PROGRAM) else { return };
    let words = CREATE.into_iter().chain(["--device-add", "hdd", "--size", "64M", "--mnt", "/data"]);
    let mut command = host.prlctl();
    let ran = command.env("REROOT_FAULT", "create/publish/before:kill").args(words.clone()).output();
    assert_eq!(Ran::of(ran.expect("it runs")).code, 128 + 9);
    host.ok(["recover"]);
    assert_eq!(areas(&host), 0);
    host.wait_until("the devices are gone", || loops(&host) == 0);
    host.ok(words);
}
