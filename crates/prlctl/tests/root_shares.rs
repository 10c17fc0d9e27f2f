//! What more than one container wants at once: how much of a disk each gets, and whose memory stays when that of the host comes to its end.
//!
//! They want bfq for disks, and cgroup v2 for memory: where this kernel has them not these tests say so, and the machine of `make vm-test` has both.
#![expect(clippy::unwrap_used, reason = "a test that panics has failed, and says where")]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{major, minor, stat};
use testkit::RealHost;
use testkit::real_host::not_run_here;

const PROGRAM: &str = env!("CARGO_BIN_EXE_prlctl");

/// The process 1 of a container, as the host numbers it.
fn init(host: &RealHost, name: &str) -> i64 {
    let json: serde_json::Value = serde_json::from_str(&host.ok(["list", "-i", name, "-j"])).unwrap();
    json[0]["Init"].as_i64().unwrap()
}

fn now(host: &RealHost, name: &str, key: &str) -> String {
    let json: serde_json::Value = serde_json::from_str(&host.ok(["list", "-i", name, "-j"])).unwrap();
    json[0]["Now"][key].to_string()
}

/// What the kernel is told of a disk. It outlives whoever has had it: the next one finds it as it was.
struct Sharing(PathBuf);

impl Sharing {
    fn by(&self, scheduler: &str) -> bool {
        tell(&self.0, scheduler)
    }

    fn tune(&self, file: &str, value: &str) {
        assert!(tell(&self.0.with_file_name("iosched").join(file), value), "{file}");
    }
}

impl Drop for Sharing {
    fn drop(&mut self) {
        self.by("none");
    }
}

/// A host on a disk of its own, which nothing shares among those who want it as yet.
fn on_a_disk() -> Option<(RealHost, Sharing)> {
    let host = RealHost::on_image(PROGRAM, "2G", "ext4")?;
    let device = stat(host.prefix()).unwrap().st_dev;
    let file = format!("/sys/dev/block/{}:{}/queue/scheduler", major(device), minor(device));
    let sharing = Sharing(PathBuf::from(file));
    if !sharing.by("bfq") {
        let because =
            "no disk of this kernel is shared by bfq (CONFIG_IOSCHED_BFQ, CONFIG_BFQ_GROUP_IOSCHED)";
        not_run_here(PROGRAM.as_ref(), because);
        return None;
    }
    assert!(sharing.by("none"));
    let made = host.vzpkg().args(["create", "cache", "busybox"]).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    Some((host, sharing))
}

/// Whether a file of the kernel takes that.
fn tell(file: &Path, value: &str) -> bool {
    let line = format!("echo {value} >{}", file.display());
    Command::new("sh").args(["-c", &line]).output().unwrap().status.success()
}

/// Both do the same to the disk, again and again, until they have done it so many times together; how often each.
fn contend(host: &RealHost, line: &str) -> [u64; 2] {
    const TOGETHER: u64 = 32;
    let names = ["web01", "web02"];
    let passes = |name: &str| PathBuf::from(format!("/proc/{}/root/passes", init(host, name)));
    for name in names {
        // As each tells of itself: a byte whenever one is through. With more than one there is always one that wants something.
        let one = format!("while [ ! -e /stop ] && {line} 2>/dev/null; do printf x >>/passes; done");
        let run = format!(
            "rm -f /stop /ended; : >/passes; (for i in 1 2 3; do ({one}) & done; wait; : >/ended) >/dev/null 2>&1 </dev/null &"
        );
        host.exec(name, &run);
    }
    let files = names.map(passes);
    let read = || [0, 1].map(|index| std::fs::metadata(&files[index]).map_or(0, |found| found.len()));
    let before = read();
    let mut after = before;
    host.wait_until("they have had the disk", || {
        after = read();
        after[0] + after[1] >= before[0] + before[1] + TOGETHER
    });
    for name in names {
        host.exec(name, "touch /stop");
        let has_ended = || host.run(["exec", name, "test -e /ended"]).code == 0;
        host.wait_until("it has stopped", has_ended);
    }
    [after[0] - before[0], after[1] - before[1]]
}

fn each_gets_its_share_of_the_disk(words: &[&str]) {
    let Some((host, sharing)) = on_a_disk() else { return };
    for name in ["web01", "web02"] {
        host.ok([&["create", name, "--ostemplate", "busybox"], words].concat());
        host.ok(["start", name]);
        host.exec(name, "dd if=/dev/zero of=/data bs=1M count=16 2>/dev/null; sync");
    }
    // By whatever else shares the disk nobody would get more.
    host.run(["set", "web01", "--ioprio", "7"])
        .failed(5, &["`--ioprio` cannot be enforced", "the disk's scheduler is none", "echo bfq >"]);
    assert!(sharing.by("bfq"));
    // It gives shares of a disk that is busy, and this one is a file, which answers at once: it takes one request at a time, nobody has it for long, and whoever
    // is slow to ask for more, as on a processor that is emulated or has much to do, is waited for.
    for (file, value) in
        [("strict_guarantees", "1"), ("slice_idle", "100"), ("low_latency", "0"), ("max_budget", "1024")]
    {
        sharing.tune(file, value);
    }
    let reads = "dd if=/data of=/dev/null bs=4M iflag=direct";
    let writes = "dd if=/dev/zero of=/data bs=4M count=4 oflag=direct conv=notrunc";
    let mut figures = String::new();
    // The one, and then the other: it is not by chance, nor by who came first. 32 times the share, of which some is lost between two passes.
    for (first, second) in [("7", "1"), ("1", "7")] {
        host.ok(["set", "web01", "--ioprio", first]);
        host.ok(["set", "web02", "--ioprio", second]);
        assert!(now(&host, "web01", "disk").contains(&format!("ioprio={first}")));
        for (what, line) in [("read", reads), ("written", writes)] {
            let [one, other] = contend(&host, line);
            write!(figures, "{what} with {first} and {second}: {one} and {other}; ").unwrap();
            let (more, less) = if first == "7" { (one, other) } else { (other, one) };
            assert!(more >= 2 * less, "{figures}");
        }
    }
    // Also from its start on.
    host.ok(["restart", "web02"]);
    let [one, other] = contend(&host, reads);
    assert!(other >= 2 * one, "{figures}after a restart: {one} and {other}");
}

#[test]
fn root_a_disk_is_shared_by_priority() {
    each_gets_its_share_of_the_disk(&[]);
}

/// What the kernel reads and writes for a disk that is a file is on the account of whoever has asked for it.
#[test]
fn root_a_disk_is_shared_by_priority_among_those_with_a_disk_of_their_own() {
    each_gets_its_share_of_the_disk(&["--volume", "image", "--diskspace", "128M"]);
}

const MIB: u64 = 1 << 20;

fn has_guarantees() -> bool {
    let has = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    if !has {
        not_run_here(PROGRAM.as_ref(), "the memory controller of cgroup v1 guarantees nothing");
    }
    has
}

/// A container's control group on the host.
fn group(host: &RealHost, name: &str) -> PathBuf {
    let text = std::fs::read_to_string(format!("/proc/{}/cgroup", init(host, name))).unwrap();
    let path = text.trim().strip_prefix("0::/").unwrap();
    PathBuf::from("/sys/fs/cgroup").join(path.split('/').take(2).collect::<PathBuf>())
}

/// The kernel minds what a group is guaranteed as far as the group above has it, too.
#[test]
fn root_containers_are_guaranteed_together_what_each_is() {
    if !has_guarantees() {
        return;
    }
    let Some(host) = RealHost::new(PROGRAM) else { return };
    for (name, memory, guarantee) in [("web01", "100", "50"), ("web02", "200", "10")] {
        let words = ["--ostemplate", "busybox", "--memsize", memory, "--memguarantee", guarantee];
        host.ok([&["create", name], &words[..]].concat());
        host.ok(["start", name]);
    }
    host.started("web03");
    let all = group(&host, "web01").parent().unwrap().join("memory.low");
    let together = || std::fs::read_to_string(&all).unwrap().trim().parse::<u64>().unwrap();
    assert_eq!(together(), 70 * MIB);
    host.ok(["set", "web01", "--memguarantee", "80"]);
    assert_eq!(together(), 100 * MIB);
    host.run(["set", "web01", "--memguarantee", "20", "--cpumask", "4000"])
        .failed(5, &["nothing was changed"]);
    assert_eq!(together(), 100 * MIB);
    host.ok(["restart", "web01"]);
    assert_eq!(together(), 100 * MIB);
    host.ok(["stop", "web02"]);
    host.wait_until("what has ended is guaranteed nothing", || together() == 80 * MIB);
    host.ok(["set", "web01", "--memguarantee", "auto"]);
    assert_eq!(together(), 0);
}

/// Of the machine's memory, in bytes.
fn meminfo(key: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).unwrap();
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() * 1024
}

/// One has files in memory that are guaranteed to it, another has twice as many, and a third takes what there is of memory until that of the second goes.
#[test]
fn root_what_is_guaranteed_stays_when_the_host_is_short_of_memory() {
    if !has_guarantees() {
        return;
    }
    let total = meminfo("MemTotal");
    if total > 4 << 30 {
        let because =
            "it takes nearly all of its host's memory, and does so only where that is less than 4 GiB";
        return not_run_here(PROGRAM.as_ref(), because);
    }
    let Some(host) = RealHost::new(PROGRAM) else { return };
    let part = total / 8 / MIB;
    let memory = (2 * part).to_string();
    for (name, words) in
        [("web01", &["--memsize", &memory, "--memguarantee", "70"][..]), ("web02", &[]), ("web03", &[])]
    {
        host.ok([&["create", name, "--ostemplate", "busybox"], words].concat());
        host.ok(["start", name]);
    }
    for (name, size) in [("web01", part), ("web02", 2 * part)] {
        host.exec(name, &format!("dd if=/dev/zero of=/data bs=1M count={size} 2>/dev/null; sync"));
        host.exec(name, "cat /data >/dev/null");
    }
    // As each of them is told inside.
    let cached = |name: &str| {
        let text = host.exec(name, "cat /sys/fs/cgroup/memory.stat");
        let line = text.lines().find_map(|line| line.strip_prefix("file ")).unwrap();
        line.parse::<u64>().unwrap()
    };
    let before = [cached("web01"), cached("web02")];
    assert!(before[0] >= part * MIB * 9 / 10 && before[1] >= 2 * part * MIB * 9 / 10, "{before:?}");
    host.exec("web03", "mkdir /hog; mount -t tmpfs -o size=100% hog /hog");
    let mut taken = 0;
    while cached("web02") > before[1] / 2 {
        let left = meminfo("MemAvailable");
        assert!(
            left > before[0] + 64 * MIB,
            "{taken} MiB were taken, and it has all: {before:?}, {left} left"
        );
        host.exec("web03", &format!("dd if=/dev/zero of=/hog/{taken} bs=1M count=32 2>/dev/null"));
        taken += 32;
    }
    let after = [cached("web01"), cached("web02")];
    assert!(after[0] >= before[0] / 100 * 95, "{taken} MiB were taken: {before:?} became {after:?}");
    host.exec("web03", "rm -f /hog/*; umount /hog");
}
