//! lxcfs: what a container reads of itself in `/proc`, and that one which is dead, or hangs, keeps no container from being started.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use testkit::RealHost;

const PROGRAM: &str = env!("CARGO_BIN_EXE_prlctl");

/// One of the host's own, at the place where it is looked for.
struct Lxcfs {
    child: Child,
    at: PathBuf,
}

impl Lxcfs {
    fn run(host: &RealHost) -> Option<Lxcfs> {
        let at = host.path("var/lib/lxcfs");
        std::fs::create_dir_all(&at).unwrap();
        let mut command = Command::new("lxcfs");
        command.args(["-f", "-p"]).arg(host.path("lxcfs.pid")).arg(&at);
        let Ok(child) = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn() else {
            testkit::real_host::not_run_here(
                PROGRAM.as_ref(),
                "`lxcfs` is not installed: `apt-get install lxcfs`",
            );
            return None;
        };
        let lxcfs = Lxcfs { child, at };
        host.wait_until("lxcfs is mounted", || lxcfs.at.join("proc/meminfo").exists());
        Some(lxcfs)
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }
}

impl Drop for Lxcfs {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = rustix::mount::unmount(&self.at, rustix::mount::UnmountFlags::DETACH);
    }
}

fn kibibytes(host: &RealHost, container: &str) -> u64 {
    let line = host.exec(container, "grep ^MemTotal /proc/meminfo");
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn of_host() -> u64 {
    let text = std::fs::read_to_string(Path::new("/proc/meminfo")).unwrap();
    text.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn root_a_container_is_told_its_own_share() {
    let Some(host) = RealHost::new(PROGRAM) else { return };
    assert!(host.ok(["info"]).contains("`free`, `nproc`, `uptime` in a container tell what the host has"));
    let Some(_lxcfs) = Lxcfs::run(&host) else { return };
    let info = host.ok(["info"]);
    assert!(info.lines().any(|line| line.contains("lxcfs") && line.ends_with(" yes")), "{info}");
    host.ok([
        "create",
        "web01",
        "--ostemplate",
        "busybox",
        "--memsize",
        "64",
        "--swap",
        "0",
        "--cpumask",
        "0",
    ]);
    host.ok(["start", "web01"]);
    assert_eq!(kibibytes(&host, "web01"), 64 * 1024);
    assert_eq!(host.exec("web01", "grep -c ^processor /proc/cpuinfo"), "1");
    assert_eq!(host.exec("web01", "grep -c '^cpu[0-9]' /proc/stat"), "1");
    let uptime = |text: &str| text.split(['.', ' ']).next().unwrap().parse::<u64>().unwrap();
    let of_host = uptime(&std::fs::read_to_string("/proc/uptime").unwrap());
    assert!(uptime(&host.exec("web01", "cat /proc/uptime")) < of_host);
    for name in ["loadavg", "swaps", "diskstats"] {
        host.exec("web01", &format!("cat /proc/{name} && grep -q ' /proc/{name} ' /proc/self/mountinfo"));
    }
    // At once, and in the next life.
    host.ok(["set", "web01", "--memsize", "96"]);
    assert_eq!(kibibytes(&host, "web01"), 96 * 1024);
    host.exec("web01", "touch /run/this-life; reboot");
    host.wait_until("it has rebooted", || host.run(["exec", "web01", "test ! -e /run/this-life"]).code == 0);
    assert_eq!(kibibytes(&host, "web01"), 96 * 1024);
    // What is covered keeps no namespace inside from having a /proc of its own.
    host.exec("web01", "unshare -U -r -p -f -m sh -c 'mount -t proc proc /proc && test -d /proc/1'");
    // And nothing of it can be written to by whoever is root inside.
    assert_ne!(host.run(["exec", "web01", "echo 1 >/proc/meminfo"]).code, 0);
}

#[test]
fn root_an_lxcfs_that_is_dead_or_hangs_keeps_nobody() {
    let Some(host) = RealHost::new(PROGRAM) else { return };
    let Some(lxcfs) = Lxcfs::run(&host) else { return };
    lxcfs.signal(Signal::STOP);
    let info = host.ok(["info"]);
    assert!(info.contains("does not answer"), "{info}");
    host.ok(["create", "web01", "--ostemplate", "busybox", "--memsize", "64"]);
    let ran = host.run(["start", "web01"]);
    assert!(ran.code == 0 && ran.stderr.contains("lxcfs"), "{ran}");
    assert_eq!(kibibytes(&host, "web01"), of_host());
    lxcfs.signal(Signal::CONT);
    host.ok(["restart", "web01"]);
    assert_eq!(kibibytes(&host, "web01"), 64 * 1024);
    lxcfs.signal(Signal::KILL);
    host.wait_until("it is dead", || std::fs::read(lxcfs.at.join("proc/meminfo")).is_err());
    host.ok(["stop", "web01", "--kill"]);
    let ran = host.run(["start", "web01"]);
    assert!(ran.code == 0 && ran.stderr.contains("lxcfs"), "{ran}");
    assert_eq!(kibibytes(&host, "web01"), of_host());
}

/// Its next life begins without anybody of the host waiting for lxcfs, and the one after that has its own share again.
#[test]
fn root_a_reboot_from_inside_is_not_held_up_by_an_lxcfs_that_hangs() {
    let Some(host) = RealHost::new(PROGRAM) else { return };
    let Some(lxcfs) = Lxcfs::run(&host) else { return };
    host.ok(["create", "web01", "--ostemplate", "busybox", "--memsize", "64"]);
    host.ok(["start", "web01"]);
    assert_eq!(kibibytes(&host, "web01"), 64 * 1024);
    lxcfs.signal(Signal::STOP);
    host.reboots("web01");
    assert_eq!(kibibytes(&host, "web01"), of_host());
    assert!(host.ok(["list"]).contains("web01"));
    lxcfs.signal(Signal::CONT);
    host.reboots("web01");
    assert_eq!(kibibytes(&host, "web01"), 64 * 1024);
    // Nor is whoever stops one that has it mounted while it hangs.
    lxcfs.signal(Signal::STOP);
    host.ok(["stop", "web01"]);
    lxcfs.signal(Signal::CONT);
}
