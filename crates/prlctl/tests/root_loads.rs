//! What a load inside gets of processors, of a node's memory, and of swap.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use testkit::RealHost;
use testkit::real_host::not_run_here;

const PROGRAM: &str = env!("CARGO_BIN_EXE_prlctl");

/// How long it has computed, as the kernel tells it inside.
fn computed(host: &RealHost) -> Duration {
    let told = host.exec("web01", "cat /sys/fs/cgroup/cpu.stat");
    let line = told.lines().find_map(|line| line.strip_prefix("usage_usec ")).expect("it is told");
    Duration::from_micros(line.parse().expect("a number"))
}

/// What so many that compute at once get in how long.
fn load(host: &RealHost, count: usize) -> (Duration, Duration) {
    let (began, before) = (Instant::now(), computed(host));
    let one = "(i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done) &";
    host.exec("web01", &format!("for n in $(seq {count}); do {one} done; wait"));
    (computed(host) - before, began.elapsed())
}

/// More than that cannot be had in any time, however busy the host is.
#[test]
fn root_many_that_compute_get_as_many_processors_as_cpus_says() {
    let Some(host) = RealHost::new(PROGRAM) else { return };
    if std::thread::available_parallelism().map_or(1, usize::from) < 2 {
        let because = "this host has one processor, and CPUS takes nothing from one that has all of it";
        return not_run_here(PROGRAM.as_ref(), because);
    }
    host.started("web01");
    let all = host.exec("web01", "nproc");
    // What a period is over by at its end.
    let over = Duration::from_millis(200);
    let keeps = |when: &str| {
        let (used, elapsed) = load(&host, 4);
        assert!(used > 2 * over, "{when}: {used:?} tells nothing");
        assert!(used <= elapsed + over, "{when}: {used:?} in {elapsed:?}");
    };
    host.ok(["set", "web01", "--cpus", "1"]);
    keeps("at once");
    host.reboots("web01");
    keeps("after a reboot");
    // It is so much of all of them; which they are, and so how many a program counts, is CPUMASK.
    assert_eq!(host.exec("web01", "nproc"), all);
    host.ok(["set", "web01", "--cpumask", "0"]);
    assert_eq!(host.exec("web01", "nproc"), "1");
    host.ok(["set", "web01", "--cpumask", "all", "--cpus", "0"]);
    assert_eq!(host.exec("web01", "nproc"), all);
}

/// The nodes of this host that have memory.
fn nodes() -> Vec<u32> {
    let text = std::fs::read_to_string("/sys/devices/system/node/has_memory").unwrap_or_else(|_| "0".into());
    let number = |text: &str| text.parse::<u32>().expect("a number");
    text.trim()
        .split(',')
        .flat_map(|range| match range.split_once('-') {
            Some((first, last)) => number(first)..=number(last),
            None => number(range)..=number(range),
        })
        .collect()
}

#[test]
fn root_memory_is_of_the_nodes_that_nodemask_names() {
    let Some(host) = RealHost::new(PROGRAM) else { return };
    host.started("web01");
    let allowed =
        || host.exec("web01", "awk '/^Mems_allowed_list/ {print $2}' /proc/self/status /proc/1/status");
    let before = allowed();
    let nodes = nodes();
    for node in &nodes {
        let node = node.to_string();
        host.ok(["set", "web01", "--nodemask", &node]);
        assert_eq!(allowed(), format!("{node}\n{node}"));
    }
    let last = nodes.last().expect("one at least").to_string();
    host.reboots("web01");
    assert_eq!(allowed(), format!("{last}\n{last}"));
    for absent in [nodes.iter().max().expect("one") + 1, 4095] {
        for mask in [absent.to_string(), format!("{last},{absent}")] {
            host.run(["set", "web01", "--nodemask", &mask]).failed(5, &["--nodemask", "nothing was changed"]);
        }
    }
    for bad in ["", "-1", "1-0", "4096", "0;reboot", "$(id)", "0x0", "99999999999999999999"] {
        host.run(["set".to_owned(), "web01".to_owned(), format!("--nodemask={bad}")])
            .failed(21, &["wanted numbers and ranges", "nothing was changed"]);
    }
    assert_eq!(allowed(), format!("{last}\n{last}"));
    host.ok(["set", "web01", "--nodemask", "all"]);
    assert_eq!(allowed(), before);
}

/// Swap of this host, on a file; gone with whoever has it, also if he is killed: who turns it off waits for his end.
struct Swap(Child);

impl Swap {
    fn on(file: &Path) -> Result<Swap, String> {
        let line = "dd if=/dev/zero of=\"$0\" bs=1M count=128 2>/dev/null && chmod 600 \"$0\" && mkswap -q \"$0\" && swapon \"$0\" && echo on && { read -r word; swapoff \"$0\"; }";
        let mut child = Command::new("sh")
            .args(["-c", line])
            .arg(file)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("run sh");
        let mut said = String::new();
        BufReader::new(child.stdout.as_mut().expect("a pipe")).read_line(&mut said).expect("hear it");
        if said == "on\n" {
            return Ok(Swap(child));
        }
        let ended = child.wait_with_output().expect("it ends");
        Err(String::from_utf8_lossy(&ended.stderr).trim().to_owned())
    }
}

impl Drop for Swap {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let ended = self.0.wait().expect("it ends");
        assert!(ended.success() || std::thread::panicking(), "the swap of this host could not be turned off");
    }
}

#[test]
fn root_so_much_is_swapped_as_swappages_says_and_no_more() {
    let Some(host) = RealHost::on_image(PROGRAM, "1G", "ext4") else { return };
    let made = host.vzpkg().args(["create", "cache", "busybox"]).output().expect("run vzpkg");
    assert!(made.status.success(), "{made:?}");
    host.ok(["create", "web01", "--ostemplate", "busybox", "--memsize", "32", "--swap", "0"]);
    host.ok(["start", "web01"]);
    let swap = match Swap::on(&host.path("swap")) {
        Ok(swap) => swap,
        Err(because) => {
            return not_run_here(PROGRAM.as_ref(), &format!("this host takes no swap: {because}"));
        }
    };
    // More than the memory, in a place that is memory or swap and nothing else.
    let fits = |mebibytes: u32| {
        let line = format!("dd if=/dev/zero of=/dev/shm/load bs=1M count={mebibytes} 2>/dev/null");
        let is_whole = format!("{line}; stat -c %s /dev/shm/load");
        let size = host.run(["exec", "web01", &is_whole]).stdout;
        host.exec("web01", "rm -f /dev/shm/load");
        size.trim() == (u64::from(mebibytes) << 20).to_string()
    };
    assert!(fits(16), "it is its memory");
    assert!(!fits(48), "without swap there is no room for more than its memory");
    host.ok(["set", "web01", "--swap", "32"]);
    assert!(fits(48), "what is over is swapped");
    assert!(!fits(96), "that is more than both");
    host.reboots("web01");
    assert!(fits(48), "after a reboot, too");
    host.ok(["set", "web01", "--swap", "0"]);
    assert!(!fits(48));
    drop(swap);
}
