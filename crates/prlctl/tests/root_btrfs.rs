//! A container on a subvolume of btrfs: its end, its roots, and the way there and back.
use std::process::Command;

use testkit::RealHost;

const PROGRAM: &str = env!("CARGO_BIN_EXE_prlctl");

fn on_a_subvolume(host: &RealHost, words: &[&str]) {
    host.ok([&["create", "web01", "--ostemplate", "busybox", "--volume", "btrfs"], words].concat());
    host.ok(["start", "web01"]);
}

/// Fills it, and tells how many KiB that took.
fn fill(host: &RealHost, file: &str) -> u64 {
    let ran = host.run(["exec", "web01", &format!("dd if=/dev/urandom of={file} bs=64k; sync")]);
    assert!(ran.stderr.contains("No space left on device") || ran.stderr.contains("quota exceeded"), "{ran}");
    size(host, file)
}

fn size(host: &RealHost, file: &str) -> u64 {
    let said = host.exec("web01", &format!("cat {file} 2>/dev/null | wc -c"));
    said.trim().parse::<u64>().expect("wc tells a number") >> 10
}

/// Where its own subvolumes lie, on the filesystem of the prefix.
fn subvolumes(host: &RealHost) -> Vec<String> {
    let told =
        Command::new("btrfs").args(["subvolume", "list"]).arg(host.prefix()).output().expect("run btrfs");
    assert!(told.status.success(), "{told:?}");
    String::from_utf8_lossy(&told.stdout).lines().map(str::to_owned).collect()
}

#[test]
fn root_a_subvolume_has_the_end_that_diskspace_says() {
    let Some(host) = RealHost::on_btrfs(PROGRAM, "2G", true) else { return };
    on_a_subvolume(&host, &["--diskspace", "64M"]);
    let all = fill(&host, "/root/full");
    assert!((32 << 10..=64 << 10).contains(&all), "{all}");
    // More at once, and no less than there is.
    host.ok(["set", "web01", "--diskspace", "192M"]);
    assert!(fill(&host, "/root/more") > 64 << 10);
    host.run(["set", "web01", "--diskspace", "64M"]).failed(21, &["web01", "nothing was changed"]);
    host.exec("web01", "rm -f /root/full; sync");
    host.ok(["set", "web01", "--diskspace", "unlimited"]);
    host.exec("web01", "dd if=/dev/zero of=/root/unlimited bs=1M count=200 2>/dev/null");
    let told = host.ok(["list", "-i", "-j", "web01"]);
    assert!(told.contains("\"volume\": \"btrfs\"") && told.contains("\"used\""), "{told}");
    host.run(["set", "web01", "--diskinodes", "1000"]).failed(5, &["--diskinodes", "inodes"]);
    host.run(["compact", "web01"]).failed(5, &["web01"]);
    let told = host.ok(["info", "web01"]);
    assert!(told.lines().any(|line| line.contains("obeyed ") && line.contains("DISKSPACE")), "{told}");
}

#[test]
fn root_all_roots_on_a_subvolume_count_and_a_full_one_is_reinstalled() {
    let Some(host) = RealHost::on_btrfs(PROGRAM, "2G", true) else { return };
    on_a_subvolume(&host, &["--diskspace", "64M"]);
    let all = fill(&host, "/root/full");
    host.ok(["reinstall", "web01"]);
    assert_eq!(size(&host, "/old/root/full"), all);
    let ran = host.run(["exec", "web01", "dd if=/dev/urandom of=/root/new bs=1M count=24; sync"]);
    assert!(ran.stderr.contains("quota exceeded"), "{ran}");
    host.exec("web01", "rm -f /root/new /old/root/full; sync");
    host.exec("web01", "dd if=/dev/urandom of=/root/new bs=1M count=24 2>/dev/null");
    fill(&host, "/root/again");
    // Stopped, and back: each of them on a full one.
    host.ok(["stop", "web01"]);
    host.ok(["reinstall", "web01"]);
    host.ok(["reinstall", "web01", "--undo"]);
    host.ok(["start", "web01"]);
    host.exec("web01", "test -s /root/new && test -s /root/again");
    // Whoever asks for room again and again does not grow by it.
    for _ in 0..3 {
        host.ok(["restart", "web01"]);
    }
    // A little is free again each time: what was promised and not needed.
    let all: u64 = size(&host, "/root/new") + size(&host, "/root/again") + fill(&host, "/root/more");
    assert!(all < 64 << 10, "{all}");
    assert_eq!(subvolumes(&host).len(), 1);
    host.ok(["delete", "web01", "--force"]);
    host.wait_until("what is deleted is gone", || subvolumes(&host).is_empty());
}

#[test]
fn root_a_container_moves_to_a_subvolume_and_from_it() {
    let Some(host) = RealHost::on_btrfs(PROGRAM, "2G", true) else { return };
    host.ok(["create", "web01", "--ostemplate", "busybox"]);
    host.ok(["start", "web01"]);
    host.exec("web01", "dd if=/dev/urandom of=/root/data bs=1M count=9 2>/dev/null; chown 12:34 /root/data; chmod 4751 /root/data; ln /root/data /root/other; mkfifo /root/pipe");
    host.ok(["reinstall", "web01"]);
    host.exec("web01", "rm /etc/motd; echo new > /root/new");
    let facts =
        "cd /old/root; sha256sum data; stat -c '%a %u %g %h %F' data other pipe; cat /root/new; ls /etc";
    let before = host.exec("web01", facts);
    let mut from = "directory";
    for to in ["btrfs", "image", "btrfs", "directory", "image", "directory", "btrfs"] {
        host.ok(["stop", "web01"]);
        host.run(["move", "web01", "--volume", from]).failed(21, &["already"]);
        host.ok(["move", "web01", "--volume", to, "--json"]);
        let has = |name: &str| host.area("web01").join(name).exists();
        assert_eq!(
            (has("volume.btrfs"), has("volume.img")),
            (to == "btrfs", to == "image"),
            "{from} to {to}"
        );
        assert!(!has(".staged-volume"), "{from} to {to}");
        host.ok(["start", "web01"]);
        assert_eq!(host.exec("web01", facts), before, "{from} to {to}");
        let record = std::fs::read_to_string(host.area("web01").join("area.json")).unwrap();
        assert_eq!(
            (record.contains("\"btrfs\""), record.contains("\"image\"")),
            (to == "btrfs", to == "image")
        );
        from = to;
    }
    host.wait_until("what was left is gone", || subvolumes(&host).len() == 1);
}

#[test]
fn root_a_subvolume_that_nobody_counts_says_so_and_is_counted_when_somebody_does() {
    let Some(host) = RealHost::on_btrfs(PROGRAM, "1G", false) else { return };
    let create = ["create", "web01", "--ostemplate", "busybox", "--volume", "btrfs"];
    let ran = host.run([&create[..], &["--diskspace", "64M"]].concat());
    ran.failed(5, &["--diskspace", "btrfs quota enable"]);
    host.ok(create);
    host.ok(["start", "web01"]);
    host.run(["set", "web01", "--diskspace", "64M"]).failed(5, &["btrfs quota enable"]);
    assert!(Command::new("btrfs").args(["quota", "enable"]).arg(host.prefix()).status().unwrap().success());
    host.ok(["set", "web01", "--diskspace", "64M"]);
    fill(&host, "/root/full");
}

#[test]
fn root_what_lies_on_no_btrfs_has_no_subvolume() {
    let Some(host) = RealHost::new(PROGRAM) else { return };
    host.run(["create", "web01", "--ostemplate", "busybox", "--volume", "btrfs"])
        .failed(5, &["does not lie on btrfs", "--volume image"]);
    host.ok(["create", "web01", "--ostemplate", "busybox"]);
    host.run(["move", "web01", "--volume", "btrfs"])
        .failed(5, &["does not lie on btrfs", "nothing was changed"]);
    // A directory of that name is no subvolume, and nobody's volume.
    let fake = host.area("web01").join("volume.btrfs");
    std::fs::create_dir(&fake).unwrap();
    host.run(["start", "web01"]).failed(85, &["volume.btrfs", "no subvolume"]);
    std::fs::remove_dir(&fake).unwrap();
    host.ok(["start", "web01"]);
}
