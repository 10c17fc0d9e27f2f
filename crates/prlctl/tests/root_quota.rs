//! The disk of a container that lies in a directory, on a filesystem that keeps project quotas. Where this kernel has none these tests say so; the machine of
//! `make vm-test` has.
#![expect(
    clippy::disallowed_methods,
    reason = "what is written by name is of the host's, in a prefix of the test's own"
)]

use testkit::RealHost;

/// One after the other, on each filesystem that has them.
fn on_each(test: impl Fn(&RealHost)) {
    for kind in ["ext4", "xfs"] {
        if let Some(host) = RealHost::on_quota(env!("CARGO_BIN_EXE_prlctl"), "2G", kind) {
            test(&host);
        }
    }
}

fn on_a_directory(host: &RealHost, words: &[&str]) {
    host.ok([&["create", "web01", "--ostemplate", "busybox"], words].concat());
    host.ok(["start", "web01"]);
}

/// KiB of all that it may have, as df tells it inside.
fn size(host: &RealHost) -> u64 {
    let said = host.exec("web01", "df -k / | tail -1");
    said.split_whitespace().find_map(|word| word.parse().ok()).expect("df tells a number")
}

/// Fills it, and tells how many KiB that took.
fn fill(host: &RealHost, file: &str) -> u64 {
    let ran = host.run([
        "exec",
        "web01",
        &format!("dd if=/dev/zero of={file} bs=64k; dd if=/dev/zero of={file}.rest bs=1k"),
    ]);
    assert!(ran.stderr.contains("No space left on device") || ran.stderr.contains("quota exceeded"), "{ran}");
    let said = host.exec("web01", &format!("du -k {file} {file}.rest | cut -f1"));
    said.split_whitespace().map(|word| word.parse::<u64>().expect("du tells numbers")).sum()
}

#[test]
fn root_a_directory_has_the_end_that_diskspace_says() {
    on_each(|host| {
        on_a_directory(host, &["--diskspace", "64M"]);
        assert_eq!(size(host), 64 << 10);
        let all = fill(host, "/root/full");
        assert!((50 << 10..=64 << 10).contains(&all), "{all}");
        // More at once, and no less than there is.
        host.ok(["set", "web01", "--diskspace", "128M"]);
        assert_eq!(size(host), 128 << 10);
        assert!(fill(host, "/root/more") > 40 << 10);
        host.run(["set", "web01", "--diskspace", "100M"]).failed(21, &["web01", "nothing was changed"]);
        assert_eq!(size(host), 128 << 10);
        host.exec("web01", "rm -f /root/full /root/full.rest");
        host.ok(["set", "web01", "--diskspace", "100M"]);
        assert_eq!(size(host), 100 << 10);
        let told = host.ok(["list", "-i", "-j", "web01"]);
        assert!(told.contains("\"inodes_used\"") && told.contains("\"size\": \"100Mb\""), "{told}");
        // And all that there is.
        host.ok(["set", "web01", "--diskspace", "unlimited"]);
        assert!(size(host) > 1 << 20);
    });
}

#[test]
fn root_inodes_have_an_end_too() {
    on_each(|host| {
        on_a_directory(host, &["--diskinodes", "300"]);
        let ran = host.run(["exec", "web01", "mkdir /many; cd /many; seq 1 400 | xargs touch"]);
        assert!(ran.code != 0, "{ran}");
        let made: u32 = host.exec("web01", "ls /many | wc -l").trim().parse().unwrap();
        assert!((150..300).contains(&made), "{made}");
        host.ok(["set", "web01", "--diskinodes", "1000"]);
        host.exec("web01", "cd /many; seq 1 400 | xargs touch");
    });
}

#[test]
fn root_all_roots_count_and_a_full_one_is_reinstalled() {
    on_each(|host| {
        on_a_directory(host, &["--diskspace", "64M"]);
        let all = fill(host, "/root/full");
        host.ok(["reinstall", "web01"]);
        // What is at /old counts: the new root has no room of its own.
        assert_eq!(size(host), 64 << 10);
        assert_eq!(
            host.exec("web01", "du -k /old/root/full /old/root/full.rest | cut -f1")
                .split_whitespace()
                .map(|word| word.parse::<u64>().unwrap())
                .sum::<u64>(),
            all
        );
        let ran = host.run(["exec", "web01", "dd if=/dev/zero of=/root/new bs=1M count=8"]);
        assert!(ran.code != 0, "{ran}");
        host.exec("web01", "rm /old/root/full");
        host.exec("web01", "dd if=/dev/zero of=/root/new bs=1M count=8 2>/dev/null");
        // Stopped, from a script, and back: each of them on a full one.
        fill(host, "/root/again");
        host.ok(["stop", "web01"]);
        host.ok(["reinstall", "web01"]);
        host.ok(["reinstall", "web01", "--undo"]);
        host.ok(["start", "web01"]);
        assert_eq!(size(host), 64 << 10);
        host.exec("web01", "test -s /root/new && test -s /root/again");
    });
}

#[test]
fn root_one_that_is_moved_to_a_directory_is_counted_there() {
    on_each(|host| {
        on_a_directory(host, &["--volume", "image", "--diskspace", "64M"]);
        host.exec("web01", "dd if=/dev/urandom of=/root/data bs=1M count=20 2>/dev/null");
        let sum = host.exec("web01", "sha256sum /root/data");
        host.ok(["stop", "web01"]);
        host.ok(["move", "web01", "--volume", "directory"]);
        host.ok(["start", "web01"]);
        assert_eq!(size(host), 64 << 10);
        assert_eq!(host.exec("web01", "sha256sum /root/data"), sum);
        assert!(fill(host, "/root/full") < 44 << 10);
        // Edited by hand to less than there is: it starts, and gets no more.
        host.ok(["stop", "web01"]);
        let path = host.area("web01").join("ve.conf");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replace("65536:65536", "32768:32768")).unwrap();
        host.ok(["start", "web01"]);
        assert!(host.run(["exec", "web01", "dd if=/dev/zero of=/root/more bs=64k count=1"]).code != 0);
        // Deleted, it leaves no end to whoever has its ids next.
        host.ok(["delete", "web01", "--force"]);
        on_a_directory(host, &[]);
        assert!(size(host) > 1 << 20);
    });
}

#[test]
fn root_a_full_directory_gets_no_more_by_asking_again() {
    on_each(|host| {
        on_a_directory(host, &["--diskspace", "64M"]);
        fill(host, "/root/full");
        // It might be given room for a new root: what is only tried out gives nothing.
        host.ok(["reinstall", "web01", "--dry-run"]);
        let more = |file: &str| {
            host.exec(
                "web01",
                &format!("dd if=/dev/zero of={file} bs=1k 2>/dev/null; cat {file} 2>/dev/null | wc -c"),
            )
            .trim()
            .parse::<u64>()
            .expect("wc tells a number")
        };
        assert!(more("/root/tried") < 1 << 20);
        // A start is given what it writes itself, and that is taken back.
        let all: u64 = (0..4)
            .map(|turn| {
                host.ok(["restart", "web01"]);
                more(&format!("/root/more{turn}"))
            })
            .sum();
        assert!(all < 2 << 20, "{all}");
        assert_eq!(size(host), 64 << 10);
        // An image holds less than a directory of the same size, and what to do about that is said.
        host.ok(["stop", "web01"]);
        let words = ["move", "web01", "--volume", "image"];
        host.run(words).failed(46, &["image of 64 MiB", "too small", "more behind `--diskspace`"]);
        // More than half of what it may have is in it: a copy is made beside what is counted.
        host.ok(words.iter().chain(&["--diskspace", "100M"]));
        host.ok(["start", "web01"]);
        host.exec("web01", "test -s /root/full");
    });
}
