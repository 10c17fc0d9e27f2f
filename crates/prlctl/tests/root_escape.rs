//! Ways out of a container, tried by its root. Each test says what the attacker got, and looks at the host whether that is true.

use std::path::{Path, PathBuf};
use std::process::Command;

use testkit::attack::{self, UnderWay};
use testkit::{Ran, RealHost, Terminal, patience};

const PROGRAM: &str = env!("CARGO_BIN_EXE_prlctl");

/// See [`attack::caller`].
fn caller() -> Option<PathBuf> {
    attack::caller(PROGRAM)
}

/// A running container with an attacker in it.
struct Scene {
    host: RealHost,
    under_way: UnderWay,
}

impl Scene {
    fn new(attack: &str, source: &str) -> Option<Scene> {
        let host = RealHost::new(PROGRAM)?;
        let under_way = UnderWay::begin(PROGRAM, attack, source);
        host.ok(["create", "tenant", "--ostemplate", "busybox"]);
        host.ok(["mount", "tenant"]);
        let root = host.path("vz/root").join(host.area("tenant").file_name().expect("it has a name"));
        if let Some(caller) = caller() {
            let copied = Command::new("cp").arg(caller).arg(root.join("bin/call")).status().expect("run cp");
            assert!(copied.success());
        }
        host.ok(["umount", "tenant"]);
        host.ok(["start", "tenant"]);
        Some(Scene { host, under_way })
    }

    /// What a shell line in the container has said, however it ended.
    fn says(&self, line: &str) -> String {
        let ran =
            Ran::within(self.host.prlctl().args(["exec", "tenant", line]), patience(60)).expect("run prlctl");
        assert_ne!(ran.code, 137, "{line} hangs\n{ran}");
        ran.stdout + &ran.stderr
    }

    /// What became of writing a word to a file in the container.
    fn writes(&self, word: &str, file: &str) -> bool {
        self.says(&format!("echo {word} > {file} && echo WRITTEN")).contains("WRITTEN")
    }

    fn held(self) {
        self.under_way.held();
    }

    fn not_run(self, because: &str) {
        testkit::real_host::not_run_here(PROGRAM.as_ref(), because);
        self.under_way.not_run(because);
    }
}

/// A system call that has to be refused, with what; `s:TEXT` and `z:N` are texts and zeroes.
fn refused_call(attack: &str, source: &str, call: &str, errors: &[&str]) {
    let Some(scene) = Scene::new(attack, source) else { return };
    if cfg!(not(target_arch = "x86_64")) || caller().is_none() {
        return scene.not_run("the numbers are those of x86-64, and there has to be a compiler");
    }
    let said = scene.says(&format!("call {call}"));
    assert!(errors.contains(&said.trim()), "call {call}: {said}, not {errors:?}");
    scene.held();
}

/// A setting of the host that is neither changed nor can be written to.
fn unchanged(attack: &str, source: &str, file: &str, word: &str) {
    let Some(scene) = Scene::new(attack, source) else { return };
    let Ok(before) = std::fs::read(file) else { return scene.not_run(&format!("this kernel has no {file}")) };
    assert!(!scene.writes(word, file), "{file} can be written to");
    assert_eq!(std::fs::read(file).expect("it can be read"), before, "{file}");
    scene.held();
}

/// A file of the kernel that the container cannot read, or that has nothing in it there.
fn unreadable(attack: &str, source: &str, file: &str) {
    let Some(scene) = Scene::new(attack, source) else { return };
    if !Path::new(file).exists() {
        return scene.not_run(&format!("this kernel has no {file}"));
    }
    let said = scene.says(&format!("dd if={file} of=/dev/null bs=64 count=1 2>&1; true"));
    assert!(
        ["Permission denied", "Operation not permitted", "No such file", "0+0 records in"]
            .iter()
            .any(|words| said.contains(words)),
        "{file}: {said}"
    );
    scene.held();
}

/// A filesystem of the kernel that the container cannot mount.
fn unmountable(attack: &str, source: &str, kind: &str, options: &str) {
    let Some(scene) = Scene::new(attack, source) else { return };
    let known = std::fs::read_to_string("/proc/filesystems").expect("read the filesystems");
    if !known.lines().any(|line| line.split_whitespace().last() == Some(kind)) {
        return scene.not_run(&format!("this kernel has no {kind}"));
    }
    let said = scene.says(&format!("mkdir -p /mnt/x; mount -t {kind} {options} none /mnt/x && echo MOUNTED"));
    assert!(!said.contains("MOUNTED"), "{kind}: {said}");
    scene.held();
}

macro_rules! calls {
    ($($name:ident: $source:literal, $call:expr, $errors:expr;)+) => { $(
        #[test]
        fn $name() { refused_call(stringify!($name), $source, $call, &$errors); }
    )+ };
}

macro_rules! files {
    ($how:ident: $($name:ident: $source:literal, $file:literal $(, $word:literal)?;)+) => { $(
        #[test]
        fn $name() { $how(stringify!($name), $source, $file $(, $word)?); }
    )+ };
}

const NO: [&str; 1] = ["EPERM"];
const ABSENT: [&str; 1] = ["ENOSYS"];

calls! {
    root_modules_are_not_loaded: "issue 5", "175 z:100 100 s:", NO;
    root_modules_are_not_loaded_from_files: "issue 5", "313 0 s: 0", NO;
    root_modules_are_not_removed: "issue 5", "176 s:loop 0", NO;
    root_no_other_kernel_is_loaded: "Incus' filter", "246 0 0 0 0", NO;
    root_no_other_kernel_is_loaded_from_a_file: "Incus' filter", "320 0 0 0 s: 0", NO;
    root_files_are_not_opened_by_handle: "CVE-2014-3519, shocker", "304 0 z:128 0", NO;
    root_bpf_is_refused: "issue 5", "321 0 z:128 72", NO;
    root_bpf_is_refused_to_programs_of_32_bits: "issue 5", "32 357 0 z:128 72", NO;
    root_bpf_is_refused_by_its_x32_number: "issue 5", "0x40000141 0 z:128 72", ["EPERM", "ENOSYS"];
    root_performance_counters_are_refused: "CVE-2013-2094", "298 z:128 0 -1 -1 0", NO;
    root_userfaultfd_is_refused: "issue 5", "323 0", NO;
    root_keys_are_not_added: "CVE-2016-0728", "248 s:user s:name s:secret 6 -3", NO;
    root_keyrings_are_not_read: "issue 5", "250 0 -3 0", NO;
    root_keys_are_not_asked_for: "issue 5", "249 s:user s:name 0 0", NO;
    root_io_uring_is_absent: "issue 5", "425 8 z:128", ABSENT;
    root_io_uring_cannot_be_entered: "issue 5", "426 0 0 0 0 0 0", ABSENT;
    root_io_uring_cannot_be_registered_with: "issue 5", "427 0 0 0 0", ABSENT;
    root_swap_is_not_switched_on: "Docker's filter", "167 s:/etc/passwd 0", NO;
    root_swap_is_not_switched_off: "Docker's filter", "168 s:/dev/vda", NO;
    root_accounting_is_refused: "Docker's filter", "163 s:/etc/passwd", NO;
    root_the_time_of_the_host_is_not_set: "issue 5", "164 z:16 0", NO;
    root_the_clock_of_the_host_is_not_set: "issue 5", "227 0 z:16", NO;
    root_the_clock_of_the_host_is_not_tuned: "issue 5", "159 s:\u{1}", ["EPERM"];
    root_ports_of_devices_are_refused: "Docker's filter", "172 3", NO;
    root_single_ports_of_devices_are_refused: "Docker's filter", "173 0 8 1", NO;
    root_the_log_of_the_kernel_is_refused: "issue 5", "103 3 z:1000 1000", NO;
    root_quotas_are_refused: "Docker's filter", "179 0x80000700 s:/dev/vda 0 z:100", NO;
    root_cookies_of_directories_are_refused: "Docker's filter", "212 0 z:100 100", NO;
    root_all_of_the_host_is_not_watched: "fanotify(7)", "300 0x4 0", NO;
    // A kernel that let it try would say that the source is no disk.
    root_ext4_is_not_mounted: "CVE-2022-0185", "165 s:/etc/passwd s:/mnt s:ext4 0 0", NO;
}

files! { unchanged:
    root_core_pattern_is_not_written: "issue 5", "/proc/sys/kernel/core_pattern", "'|/bin/sh'";
    root_modprobe_is_not_written: "CVE-2022-0185, its exploit", "/proc/sys/kernel/modprobe", "/bin/sh";
    root_uevent_helper_is_not_written: "issue 5", "/sys/kernel/uevent_helper", "/bin/sh";
    root_sysrq_is_not_configured: "issue 5", "/proc/sys/kernel/sysrq", "1";
    root_panic_is_not_configured: "Docker's paths", "/proc/sys/kernel/panic", "1";
    root_overcommit_is_not_configured: "Docker's paths", "/proc/sys/vm/overcommit_memory", "1";
    root_address_randomization_is_not_configured: "Docker's paths", "/proc/sys/kernel/randomize_va_space", "0";
    root_hidden_pointers_stay_hidden: "Docker's paths", "/proc/sys/kernel/kptr_restrict", "0";
    root_open_files_of_the_host_are_not_configured: "Docker's paths", "/proc/sys/fs/file-max", "1";
    root_binary_formats_are_not_registered: "Docker's paths", "/proc/sys/fs/binfmt_misc/register", ":x:M::x::/bin/sh:F";
    root_huge_pages_are_not_configured: "Docker's paths", "/sys/kernel/mm/transparent_hugepage/enabled", "never";
    root_the_host_does_not_sleep: "Docker's paths", "/sys/power/state", "mem";
    root_interrupts_are_not_moved: "Docker's paths", "/proc/irq/default_smp_affinity", "1";
}

files! { unreadable:
    root_kcore_is_not_read: "issue 5", "/proc/kcore";
    root_kmsg_is_not_read: "issue 5", "/proc/kmsg";
    root_timers_are_not_read: "Docker's paths", "/proc/timer_list";
    root_the_memory_map_is_not_read: "Docker's paths", "/proc/pagetypeinfo";
    root_caches_are_not_read: "Docker's paths", "/proc/slabinfo";
}

macro_rules! mounts {
    ($($name:ident: $source:literal, $kind:literal, $options:literal;)+) => { $(
        #[test]
        fn $name() { unmountable(stringify!($name), $source, $kind, $options); }
    )+ };
}

mounts! {
    root_debugfs_is_not_mounted: "Docker's filter", "debugfs", "";
    root_tracefs_is_not_mounted: "Docker's filter", "tracefs", "";
    root_securityfs_is_not_mounted: "Docker's filter", "securityfs", "";
    root_configfs_is_not_mounted: "Docker's filter", "configfs", "";
    root_pstore_is_not_mounted: "Docker's filter", "pstore", "";
    root_hugetlbfs_is_not_mounted: "Docker's filter", "hugetlbfs", "-o uid=0,size=1G,min_size=1G";
}

#[test]
fn root_sysrq_is_not_triggered() {
    let Some(scene) = Scene::new("root_sysrq_is_not_triggered", "issue 5") else { return };
    // `h` would only print a help text, should it work.
    assert!(!scene.writes("h", "/proc/sysrq-trigger"));
    scene.held();
}

#[test]
fn root_devices_are_not_made() {
    let Some(scene) = Scene::new("root_devices_are_not_made", "issue 5") else { return };
    let said = scene.says("for d in 'b 254 0' 'b 8 0' 'c 1 1' 'c 1 11' 'c 10 200'; do mknod /dev/made $d && echo MADE; mknod /tmp/made $d && echo MADE; done");
    assert!(!said.contains("MADE"), "{said}");
    scene.held();
}

#[test]
fn root_disks_and_memory_of_the_host_are_not_in_dev() {
    let Some(scene) = Scene::new("root_disks_and_memory_of_the_host_are_not_in_dev", "issue 5") else {
        return;
    };
    let there = scene.says("find /dev -type b; find /dev -type c | sort");
    let allowed = ["console", "full", "null", "ptmx", "pts/ptmx", "random", "tty", "urandom", "zero"];
    for device in there.lines() {
        let name = device.trim_start_matches("/dev/");
        assert!(allowed.contains(&name) || name.starts_with("pts/"), "{device}");
    }
    assert!(there.contains("/dev/null"), "{there}");
    scene.held();
}

#[test]
fn root_a_device_that_a_template_brought_is_dead() {
    let Some(scene) = Scene::new("root_a_device_that_a_template_brought_is_dead", "issue 5") else { return };
    // The host's disk and /dev/zero, as a root that somebody has made might have them.
    scene.host.ok(["stop", "tenant"]);
    let delta = scene.host.area("tenant").join("live/delta");
    for (name, kind, major, minor) in [
        ("zero", rustix::fs::FileType::CharacterDevice, 1, 5),
        ("disk", rustix::fs::FileType::BlockDevice, 254, 0),
    ] {
        let device = rustix::fs::makedev(major, minor);
        rustix::fs::mknodat(
            rustix::fs::CWD,
            delta.join(name),
            kind,
            rustix::fs::Mode::from_raw_mode(0o666),
            device,
        )
        .expect("make a device");
    }
    scene.host.ok(["start", "tenant"]);
    let said = scene.says("for d in /zero /disk; do dd if=$d of=/dev/null bs=1 count=1 && echo READ; done; mount -o remount,dev / ; dd if=/zero of=/dev/null bs=1 count=1 && echo READ");
    assert!(!said.contains("READ"), "{said}");
    scene.held();
}

#[test]
fn root_flags_of_the_root_and_of_old_stay() {
    let Some(scene) = Scene::new("root_flags_of_the_root_and_of_old_stay", "issue 5") else { return };
    scene.host.ok(["reinstall", "tenant"]);
    scene.says("for d in / /old; do mount -o remount,bind,suid,dev,rw,exec $d; mount -o remount,suid,dev,rw $d; done; unshare -m mount -o remount,bind,suid,dev /old");
    let table = scene.says("cat /proc/self/mountinfo");
    let flags = |point: &str| {
        let line = table.lines().rfind(|line| line.split(' ').nth(4) == Some(point)).expect("it is mounted");
        line.split(' ').nth(5).expect("it has flags").to_owned()
    };
    assert!(flags("/").contains("nodev"), "{}", flags("/"));
    assert!(flags("/old").contains("nosuid") && flags("/old").contains("nodev"), "{}", flags("/old"));
    scene.held();
}

#[test]
fn root_a_setuid_shell_in_old_is_dead() {
    let Some(scene) = Scene::new("root_a_setuid_shell_in_old_is_dead", "issue 5") else { return };
    if caller().is_none() || cfg!(not(target_arch = "x86_64")) {
        return scene.not_run("there is no compiler");
    }
    // geteuid(2). In the root that it is made in it is alive.
    scene.host.exec("tenant", "cp /bin/call /setuid; chmod 4755 /setuid; chmod 755 /; echo 'u:x:1000:1000::/:/bin/sh' >> /etc/passwd");
    let euid = |program: &str| scene.says(&format!("su -s /bin/sh u -c '{program} 107'")).trim().to_owned();
    assert_eq!(euid("/setuid"), "done: 0", "setuid works in a root of its own");
    scene.host.ok(["reinstall", "tenant"]);
    scene.host.exec("tenant", "chmod 755 /; echo 'u:x:1000:1000::/:/bin/sh' >> /etc/passwd");
    assert_eq!(euid("/old/setuid"), "done: 1000");
    scene.held();
}

#[test]
fn root_old_that_was_moved_away_or_mounted_over_is_not_deleted_under_somebody() {
    let Some(scene) =
        Scene::new("root_old_that_was_moved_away_or_mounted_over_is_not_deleted_under_somebody", "issue 5")
    else {
        return;
    };
    scene.host.exec("tenant", "echo kept > /marker");
    scene.host.ok(["reinstall", "tenant"]);
    scene.says("mkdir /away; mount --make-private /; mount --move /old /away; mount -t tmpfs none /old; (cd /away && exec sleep 1000 >/dev/null 2>&1 </dev/null) &");
    let ran = scene.host.run(["generation-delete", "tenant", "1"]);
    if ran.code == 0 {
        assert!(!scene.host.area("tenant").join("generations/1").exists());
    } else {
        assert!(ran.stderr.contains("state: "), "{ran}");
        assert_eq!(
            std::fs::read_to_string(scene.host.area("tenant").join("generations/1/delta/marker"))
                .expect("it is there"),
            "kept\n"
        );
    }
    scene.held();
}

#[test]
fn root_the_program_of_the_host_is_not_overwritten_by_way_of_proc() {
    let Some(scene) =
        Scene::new("root_the_program_of_the_host_is_not_overwritten_by_way_of_proc", "CVE-2019-5736")
    else {
        return;
    };
    let program = std::fs::read(PROGRAM).expect("read the program");
    scene.host.exec(
        "tenant",
        "(while :; do for p in /proc/[0-9]*; do [ $p = /proc/1 ] || { exec 3>>$p/exe; } 2>/dev/null && readlink $p/exe >> /opened; done; done) >/dev/null 2>&1 </dev/null &",
    );
    for _ in 0..40 {
        scene.says("exit 0");
    }
    assert_eq!(std::fs::read(PROGRAM).expect("read the program"), program);
    let opened = scene.says("sort -u /opened 2>/dev/null; true");
    assert!(!opened.contains("prlctl") && !opened.contains("memfd"), "{opened}");
    scene.held();
}

/// With the terminal of whoever calls as every stream that it can be.
#[test]
fn root_nothing_is_typed_at_the_terminal_of_the_administrator() {
    let Some(scene) =
        Scene::new("root_nothing_is_typed_at_the_terminal_of_the_administrator", "CVE-2016-2568, TIOCSTI")
    else {
        return;
    };
    let Some(caller) = caller().filter(|_| cfg!(target_arch = "x86_64")) else {
        return scene.not_run("there is no compiler");
    };
    // What lies in the terminal's input after `attack` has run there; what was typed at it beforehand is read first.
    let lies_there = |attack: &str| {
        let script = format!(
            "stty -icanon -echo min 0 time 5; {attack} >/dev/null; echo; echo \"typed [$(dd bs=64 count=1 2>/dev/null)]\""
        );
        let mut shell = Command::new("sh");
        shell.args(["-c", &script]);
        shell.envs(scene.host.prlctl().get_envs().filter_map(|(key, value)| Some((key, value?))));
        let mut terminal = Terminal::run(&shell, 24, 80);
        let said = terminal.expects("]");
        terminal.ends();
        said.rsplit("typed [").next().unwrap_or_default().to_owned()
    };
    // ioctl(FD, TIOCSTI, "#")
    let types = |call: &str| (0..4).map(|fd| format!("{call} 16 {fd} 0x5412 s:#; ")).collect::<String>();
    let from_the_host =
        lies_there(&format!("{{ exec 3</dev/tty; {} }}", types(&caller.display().to_string())));
    if !from_the_host.starts_with('#') {
        return scene.not_run("this kernel lets nobody type at a terminal");
    }
    let inside = format!("exec 3</dev/tty; {}", types("call"));
    let program = PROGRAM;
    for streams in ["", " 2>&1 | cat", " </dev/null", " 2>/dev/null"] {
        for command in ["exec tenant", "exec --without-shell tenant sh -c"] {
            let typed = lies_there(&format!("{{ {program} {command} '{inside}'{streams}; }}"));
            assert_eq!(typed, "]", "{command} {streams}");
        }
    }
    scene.held();
}

#[test]
fn root_no_process_of_the_host_is_seen_through_an_executed_one() {
    let Some(scene) =
        Scene::new("root_no_process_of_the_host_is_seen_through_an_executed_one", "CVE-2024-21626")
    else {
        return;
    };
    // Whatever number a leaked directory of the host may have.
    let said = scene.says("for n in $(seq 0 30); do ls /proc/self/fd/$n/../../../../etc/ 2>/dev/null && echo LEAKED; done; readlink /proc/self/cwd");
    assert!(!said.contains("LEAKED"), "{said}");
    assert_eq!(said.trim(), "/");
    let own = std::process::id().to_string();
    assert!(
        !scene.says("ls /proc").lines().any(|line| line == own && line.len() > 3),
        "processes of the host are seen"
    );
    scene.held();
}

#[test]
fn root_an_executed_process_cannot_be_traced_before_it_is_one_of_the_container() {
    let Some(scene) = Scene::new(
        "root_an_executed_process_cannot_be_traced_before_it_is_one_of_the_container",
        "CVE-2016-9962",
    ) else {
        return;
    };
    if caller().is_none() || cfg!(not(target_arch = "x86_64")) {
        return scene.not_run("there is no compiler");
    }
    // PTRACE_SEIZE of everything new; what is the container's own by then may be traced, a program of ours may not.
    scene.host.exec(
        "tenant",
        "(while :; do for p in /proc/[0-9]*; do n=${p#/proc/}; [ $n = 1 ] || case $(readlink $p/exe) in *prlctl*|*memfd*) call 101 0x4206 $n 0 0 >> /traced;; esac; done; done) >/dev/null 2>&1 </dev/null &",
    );
    for _ in 0..40 {
        scene.says("exit 0");
    }
    let traced = scene.says("sort -u /traced 2>/dev/null; true");
    assert!(!traced.contains("done"), "{traced}");
    scene.held();
}

#[test]
fn root_names_of_proc_are_no_way_out_of_masks_and_links() {
    let Some(scene) =
        Scene::new("root_names_of_proc_are_no_way_out_of_masks_and_links", "CVE-2025-31133, -52565, -52881")
    else {
        return;
    };
    // What is made at a start goes through links that the root has put there.
    scene.host.ok(["stop", "tenant"]);
    let before = std::fs::read("/proc/sys/kernel/core_pattern").expect("read it");
    let delta = scene.host.area("tenant").join("live/delta");
    for name in ["dev", "proc"] {
        let _ = std::fs::remove_dir(delta.join(name));
    }
    std::os::unix::fs::symlink("/proc/sys/kernel", delta.join("dev")).expect("make a link");
    let ran = scene.host.run(["start", "tenant"]);
    assert!(ran.code == 0 || ran.stderr.contains("state: "), "{ran}");
    assert_eq!(std::fs::read("/proc/sys/kernel/core_pattern").expect("read it"), before);
    assert!(!Path::new("/proc/sys/kernel/null").exists());
    scene.held();
}

#[test]
fn root_the_host_name_is_the_containers_own() {
    let Some(scene) = Scene::new("root_the_host_name_is_the_containers_own", "issue 5") else { return };
    let before = rustix::system::uname().nodename().to_owned();
    scene.says(
        "hostname stolen; echo stolen > /proc/sys/kernel/hostname; echo stolen > /proc/sys/kernel/domainname",
    );
    assert_eq!(rustix::system::uname().nodename(), before.as_c_str());
    scene.held();
}

#[test]
fn root_the_network_of_the_host_is_not_seen() {
    let Some(scene) = Scene::new("root_the_network_of_the_host_is_not_seen", "issue 5") else { return };
    let said = scene.says("ls /sys/class/net; cat /proc/net/unix; cat /proc/net/tcp");
    assert_eq!(said.lines().next(), Some("lo"), "{said}");
    assert!(!said.contains("systemd") && !said.contains("/run/"), "sockets of the host: {said}");
    scene.held();
}

#[test]
fn root_the_groups_above_are_not_entered() {
    let Some(scene) = Scene::new("root_the_groups_above_are_not_entered", "CVE-2022-0492") else { return };
    let said = scene.says(
        "mkdir /mnt/c; unshare -m true; mount -t cgroup2 none /mnt/c; ls -a /mnt/c /sys/fs/cgroup | grep reroot-; \
         find / -xdev -path '*reroot-*' 2>/dev/null; true",
    );
    assert!(!said.contains("reroot-"), "{said}");
    scene.held();
}

#[test]
fn root_a_release_agent_is_not_set_and_limits_are_not_raised() {
    let Some(scene) =
        Scene::new("root_a_release_agent_is_not_set_and_limits_are_not_raised", "CVE-2022-0492")
    else {
        return;
    };
    let known = std::fs::read_to_string("/proc/cgroups").unwrap_or_default();
    if !Path::new("/sys/fs/cgroup/memory/release_agent").exists() || !known.contains("memory") {
        return scene.not_run("this host has no hierarchies of cgroup v1");
    }
    let agents = || std::fs::read_to_string("/sys/fs/cgroup/memory/release_agent").expect("read it");
    let before = agents();
    let said = scene.says(
        "for c in memory pids cpu devices freezer rdma; do mkdir -p /mnt/$c; mount -t cgroup -o $c none /mnt/$c || continue; \
         for f in release_agent notify_on_release memory.limit_in_bytes pids.max devices.allow freezer.state cgroup.procs; do \
         [ ! -e /mnt/$c/$f ] || { echo 1 > /mnt/$c/$f; } 2>/dev/null && [ -e /mnt/$c/$f ] && echo WRITTEN $c/$f; done; mkdir /mnt/$c/x && echo MADE $c; done 2>/dev/null; true",
    );
    assert!(!said.contains("WRITTEN") && !said.contains("MADE"), "{said}");
    assert_eq!(agents(), before);
    scene.held();
}

#[test]
fn root_ids_of_the_host_and_of_others_are_not_taken() {
    let Some(scene) = Scene::new("root_ids_of_the_host_and_of_others_are_not_taken", "issue 5") else {
        return;
    };
    scene.host.started("other");
    scene.host.exec("other", "echo secret > /secret; chmod 600 /secret; echo all > /open; chmod 644 /open");
    // The other one's files, where both can see them: from a directory that is handed in, by way of the host's mount, and as they lie on the disk.
    let id = scene.host.area("other").file_name().expect("it has a name").to_owned();
    let state = |name: &str| -> serde_json::Value {
        let id = scene.host.area(name).file_name().expect("it has a name").to_string_lossy().into_owned();
        let text =
            std::fs::read_to_string(scene.host.path(&format!("run/vz/{id}/state.json"))).expect("it runs");
        serde_json::from_str(&text).expect("a document")
    };
    let init = state("tenant")["init"]["pid"].to_string();
    let inside = format!("/proc/{}/root", state("other")["init"]["pid"]);
    for place in [
        Path::new(&inside),
        &scene.host.path("vz/root").join(&id),
        &scene.host.area("other").join("live/delta"),
    ] {
        let reads = |file: &str| {
            let words = ["--user", "--mount", "--pid", "--setuid", "0", "--setgid", "0", "--target", &init];
            let ran = Command::new("nsenter")
                .args(words)
                .arg(format!("--wd={}", place.display()))
                .args(["/bin/cat", file])
                .output()
                .expect("run nsenter");
            String::from_utf8_lossy(&ran.stdout).into_owned()
        };
        assert_eq!(reads("secret"), "", "{}", place.display());
        assert!(
            !place.join("open").exists() || reads("open") == "all\n",
            "it is seen at all: {}",
            place.display()
        );
    }
    let map = scene.says("cat /proc/self/uid_map");
    let numbers: Vec<u64> = map.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let other: Vec<u64> = scene
        .host
        .exec("other", "cat /proc/self/uid_map")
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect();
    assert_eq!((numbers[0], numbers[2], other[2]), (0, 65_536, 65_536));
    assert!(numbers[1] >= 1_879_048_192 && numbers[1].abs_diff(other[1]) >= 65_536, "{numbers:?} {other:?}");
    if caller().is_some() && cfg!(target_arch = "x86_64") {
        assert_eq!(scene.says("call 105 65536").trim(), "EINVAL", "an id that it does not have");
    }
    scene.held();
}

#[test]
fn root_other_containers_are_not_seen_or_killed() {
    let Some(scene) = Scene::new("root_other_containers_are_not_seen_or_killed", "issue 5") else { return };
    scene.host.started("other");
    scene.host.exec("other", "sleep 1234 >/dev/null 2>&1 </dev/null &");
    let said = scene.says("ps; kill -9 -1; true");
    assert!(!said.contains("1234"), "{said}");
    assert!(scene.host.exec("other", "ps").contains("sleep 1234"));
    scene.held();
}

#[test]
fn root_forks_without_end_stay_within_the_limit() {
    let Some(scene) = Scene::new("root_forks_without_end_stay_within_the_limit", "issue 5") else { return };
    scene.host.ok(["stop", "tenant"]);
    let conf = scene.host.area("tenant").join("ve.conf");
    let text = std::fs::read_to_string(&conf).expect("read ve.conf") + "NUMPROC=\"80\"\n";
    scene.host.write(
        conf.strip_prefix(scene.host.prefix()).expect("it is below").to_str().expect("it is text"),
        &text,
        0o600,
    );
    scene.host.ok(["start", "tenant"]);
    scene.host.started("other");
    scene.host.exec("tenant", "(b() { b | b & }; b) >/dev/null 2>&1 </dev/null &");
    let count = || -> u64 {
        let facts: serde_json::Value =
            serde_json::from_str(&scene.host.ok(["list", "-i", "-j", "tenant"])).expect("a document");
        facts[0]["Now"]["processes_used"].as_u64().expect("it is counted")
    };
    scene.host.wait_until("there are as many as there may be", || {
        // A shell that cannot fork dies, and all of them may at once: what this one starts stays.
        scene.host.run(["exec", "tenant", "(while :; do sleep 1000 & done) >/dev/null 2>&1 </dev/null &"]);
        count() >= 78
    });
    for _ in 0..20 {
        assert!(count() <= 80);
    }
    // The others and the host live, and it can be stopped.
    assert_eq!(scene.host.exec("other", "echo lives"), "lives");
    scene.host.ok(["list", "-a"]);
    scene.host.ok(["stop", "tenant", "--kill"]);
    scene.held();
}

#[test]
fn root_memory_without_end_stays_within_the_limit() {
    let Some(scene) = Scene::new("root_memory_without_end_stays_within_the_limit", "issue 5") else { return };
    scene.host.ok(["stop", "tenant"]);
    let conf = scene.host.area("tenant").join("ve.conf");
    let text = std::fs::read_to_string(&conf).expect("read ve.conf") + "PHYSPAGES=\"32M\"\nSWAPPAGES=\"0\"\n";
    scene.host.write(
        conf.strip_prefix(scene.host.prefix()).expect("it is below").to_str().expect("it is text"),
        &text,
        0o600,
    );
    scene.host.ok(["start", "tenant"]);
    scene.host.started("other");
    // What takes it is killed, and where that is not gone at once, the shell that has begun it, too: 137 of its own.
    let line = "head -c 200000000 /dev/zero | tail -c 200000000 >/dev/null; echo $?";
    let ran =
        Ran::within(scene.host.prlctl().args(["exec", "tenant", line]), patience(60)).expect("run prlctl");
    assert!(ran.code == 137 || ran.stdout.trim() == "137", "{ran}");
    assert_eq!(scene.host.exec("tenant", "echo goes on"), "goes on");
    assert_eq!(scene.host.exec("other", "echo lives"), "lives");
    scene.held();
}

/// Its groups are its own: what it makes of them keeps nobody from giving it another root, or from deleting it.
#[test]
fn root_groups_deeper_than_any_path_and_with_any_name_are_removed() {
    let Some(scene) = Scene::new("root_groups_deeper_than_any_path_and_with_any_name_are_removed", "review")
    else {
        return;
    };
    let dig = "cd /sys/fs/cgroup && n=$(printf '\\033]0;PWNED\\007'; printf 'd%.0s' $(seq 190)); \
               for i in $(seq 20); do mkdir \"$n\" && cd \"$n\" || exit; done; sleep 1000 >/dev/null 2>&1 </dev/null & \
               echo $! > cgroup.procs; echo DUG";
    let dug = || {
        let said = scene.says(dig);
        assert!(said.contains("DUG"), "{said}");
    };
    let done = |words: &[&str]| {
        let ran = scene.host.run(words);
        assert_eq!(ran.code, 0, "{words:?}\n{ran}");
        assert!(!ran.stderr.contains('\x1b') && !ran.stdout.contains('\x1b'), "{words:?}\n{ran:?}");
        ran
    };
    dug();
    assert!(done(&["list", "-i", "tenant"]).stdout.contains("tenant"));
    done(&["stop", "tenant", "--kill"]);
    done(&["start", "tenant"]);
    dug();
    done(&["reinstall", "tenant"]);
    assert_eq!(scene.host.exec("tenant", "echo lives"), "lives");
    dug();
    // There is an end to it, which is not its own to move.
    let said = scene.says(
        "cd /sys/fs/cgroup; echo max > cgroup.max.depth && echo WRITTEN; echo max > cgroup.max.descendants && echo WRITTEN; \
         for i in $(seq 70); do mkdir x && cd x || break; done; echo $i",
    );
    assert!(!said.contains("WRITTEN") && said.starts_with("65\n"), "{said}");
    done(&["delete", "tenant", "--force"]);
    scene.held();
}

/// What `>> log` of the host is to be added to is added to, and nothing else is done with it.
#[test]
fn root_files_and_directories_of_the_caller_are_not_the_containers() {
    let Some(scene) = Scene::new("root_files_and_directories_of_the_caller_are_not_the_containers", "review")
    else {
        return;
    };
    if cfg!(not(target_arch = "x86_64")) || caller().is_none() {
        return scene.not_run("the numbers are those of x86-64, and there has to be a compiler");
    }
    let path = scene.host.path("log");
    scene.host.write("log", "precious\n", 0o644);
    let open = || std::fs::File::options().append(true).read(true).open(&path).expect("open it");
    let run = |line: &str| {
        let mut command = scene.host.prlctl();
        let status = command
            .args(["exec", "tenant", line])
            .stdin(open())
            .stdout(open())
            .stderr(open())
            .status()
            .expect("run prlctl");
        assert!(status.code().is_some());
        std::fs::read_to_string(&path).expect("read it")
    };
    // ftruncate(2) of each, and what is appended by one who has taken O_APPEND away (fcntl(2), F_SETFL).
    let said =
        run("for fd in 0 1 2; do call 77 $fd 0; call 72 $fd 4 0; done; echo out; echo err >&2; echo out");
    assert!(said.starts_with("precious\n"), "{said}");
    assert!(said.ends_with("out\nerr\nout\n"), "in their order: {said}");
    let mut command = scene.host.prlctl();
    let inside = std::fs::File::open("/etc").expect("open it");
    let output =
        command.args(["exec", "tenant", "ls /proc/self/fd/0/ /proc/self/fd/0/.."]).stdin(inside).output();
    let said = String::from_utf8(output.expect("run prlctl").stdout).expect("it is text");
    assert!(!said.contains("passwd") && !said.contains("vmlinuz"), "{said}");
    scene.held();
}
