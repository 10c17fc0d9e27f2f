//! The installed product on a host of its own: what tests in a prefix of theirs cannot show.

use std::time::{Duration, Instant};

use testkit::VirtualMachine;

use crate::{comes_up, kernel_is_content, machine, say, seconds, unit_log, wait_until};

/// The lines of `ve.conf` that say how much a container may have, and the files of its control group that say so to the kernel.
const LIMITS: [(&str, &str, &str); 4] = [
    ("PHYSPAGES=\"96M\"", "memory.max", "100663296"),
    ("NUMPROC=\"120\"", "pids.max", "120"),
    ("CPULIMIT=\"150\"", "cpu.max", "150000 100000"),
    ("CPUUNITS=\"2000\"", "cpu.weight", "200"),
];

/// Sets keys in the `ve.conf` of a container.
fn configure<'a>(machine: &mut VirtualMachine, name: &str, lines: impl IntoIterator<Item = &'a str>) {
    let mut script = format!("conf=$(readlink -f /etc/vz/names/{name})");
    for line in lines {
        let key = line.split('=').next().unwrap_or(line);
        script += &format!(" && sed -i '/^{key}=/d' \"$conf\" && echo '{line}' >>\"$conf\"");
    }
    machine.ok(&script);
}

/// A shell line that puts the path of a container's control group on the host into `$group`.
fn group_of(name: &str) -> String {
    format!(
        "uuid=$(prlctl list -a -H -o uuid {name} | tr -d '{{}} '); group=$(echo /sys/fs/cgroup/reroot-*/$uuid); test -d \"$group\""
    )
}

#[track_caller]
fn limits_hold(machine: &mut VirtualMachine, name: &str, when: &str) {
    for (line, file, value) in LIMITS {
        let found = machine.ok(&format!("{} && cat $group/{file}", group_of(name)));
        assert_eq!(found, value, "{when}: {file} of `{name}`, whose ve.conf says {line}");
    }
}

#[track_caller]
fn is_up(machine: &mut VirtualMachine, name: &str) {
    let line = format!(
        "prlctl exec {name} 'systemctl is-system-running --wait; systemctl --failed --no-legend --plain'"
    );
    assert_eq!(machine.ok(&line), "running", "{name}");
}

#[test]
#[ignore = "takes minutes: make vm-test"]
fn vm_the_installed_product_runs_containers() {
    let mut machine = machine();
    let ran =
        machine.run("stat --file-system --format=%T /sys/fs/cgroup; grep -c cgroup /proc/mounts; uname -r");
    assert!(ran.stdout.starts_with("cgroup2fs\n1\n"), "cgroup v2 and nothing else\n{ran}");
    say(&format!(
        "Linux {}, cgroup v2 alone, the host's systemd is content",
        ran.stdout.lines().last().unwrap_or_default()
    ));
    assert!(machine.ok("prlctl info").ends_with("\ncontainers can run here"));

    runs_busybox(&mut machine);
    runs_debian(&mut machine);
    a_unit_that_ends_leaves_its_containers(&mut machine);
    the_host_may_reload(&mut machine);
    reinstalls(&mut machine);
    the_host_shuts_down_in_order(&mut machine);
    kernel_is_content(&mut machine, "at the end");
    machine.power_off();
    let checked =
        std::process::Command::new("e2fsck").arg("-fn").arg(machine.disk()).output().expect("run e2fsck");
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
}

fn runs_busybox(machine: &mut VirtualMachine) {
    machine.ok("prlctl create b1 --ostemplate busybox");
    // The installed sample has it come up with the host.
    configure(machine, "b1", ["ONBOOT=\"no\""]);
    let began = Instant::now();
    machine.ok("prlctl start b1 && prlctl exec b1 true");
    say(&format!("busybox: {} from `start` to the end of the first `exec`", seconds(began.elapsed())));
    assert_eq!(machine.run("prlctl exec b1 'exit 7'").code, 7);
    assert_eq!(machine.ok("prlctl exec b1 'grep ^0:: /proc/self/cgroup'"), "0::/.reroot");
    machine.ok("prlctl restart b1 && prlctl exec b1 true && prlctl stop b1");
    assert_eq!(machine.ok("prlctl status b1"), "CT b1 exist stopped");
    // The monitor's own, which it cannot remove itself, is removed by who comes next.
    let left = machine.run(
        "find /sys/fs/cgroup -path '*/reroot-*' -mindepth 2 -type d -not -name '*.monitor'; grep /run/vz/. /proc/self/mountinfo; cat /sys/fs/cgroup/reroot-*/*/cgroup.procs",
    );
    assert_eq!(left.stdout, "", "a stopped container leaves no control group and no mount");
}

fn runs_debian(machine: &mut VirtualMachine) {
    machine.ok("prlctl create d1 --ostemplate debian-12");
    configure(machine, "d1", LIMITS.iter().map(|(line, _, _)| *line).chain(["ONBOOT=\"yes\""]));
    let began = Instant::now();
    machine.ok("prlctl start d1 --wait");
    say(&format!("debian-12: {} from `start` to running", seconds(began.elapsed())));
    is_up(machine, "d1");
    limits_hold(machine, "d1", "at the start");
    // The kernel's word, and that it counts: a process that takes too much is killed, and only that.
    assert_eq!(machine.run("prlctl exec d1 'dd if=/dev/zero of=/dev/null bs=300M count=1'").code, 137);
    let killed = machine.ok(&format!("{} && grep '^oom_kill ' $group/memory.events", group_of("d1")));
    assert_ne!(killed, "oom_kill 0");
    is_up(machine, "d1");
    // It sees its own part of the tree as all of it, and what its systemd makes is in there.
    assert_eq!(
        machine.ok("prlctl exec d1 'cat /proc/1/cgroup; ls -d /sys/fs/cgroup/system.slice /sys/fs/cgroup/reroot-* 2>/dev/null'; true"),
        "0::/init.scope\n/sys/fs/cgroup/system.slice"
    );
    let ran = machine.run("prlctl exec d1 'echo max >/sys/fs/cgroup/memory.max'");
    assert_ne!(ran.code, 0, "a container does not raise its own limit\n{ran}");
    limits_hold(machine, "d1", "after it has tried to change them");
    other_limits(machine);
    limits_hold(machine, "d1", "after they were others for a while");
}

/// Other settings, at once, and all or none.
fn other_limits(machine: &mut VirtualMachine) {
    let before = machine.ok("cat /etc/vz/names/d1");
    machine.ok(
        "prlctl set d1 --swap 0 --cpuunits 1500 --numproc 700 --memguarantee 50 --cpumask 0 --hostname other",
    );
    for (file, value) in
        [("memory.swap.max", "0"), ("cpu.weight", "150"), ("pids.max", "700"), ("cpuset.cpus.effective", "0")]
    {
        let found = machine.ok(&format!("{} && cat $group/{file}", group_of("d1")));
        assert_eq!(found, value, "{file}");
    }
    let low = machine.ok(&format!("{} && cat $group/memory.low", group_of("d1")));
    assert_ne!(low, "0");
    assert_eq!(machine.ok("prlctl exec d1 hostname"), "other");
    // Less than it uses would kill at once here: it is refused, and nothing else of the command is done.
    let written = machine.ok("cat /etc/vz/names/d1");
    let ran = machine.run("prlctl set d1 --numproc 600 --memsize 2");
    assert!(ran.code == 21 && ran.stderr.contains("MiB of memory are in use"), "{ran}");
    assert_eq!(machine.ok("cat /etc/vz/names/d1"), written);
    assert_eq!(machine.ok(&format!("{} && cat $group/pids.max", group_of("d1"))), "700");
    is_up(machine, "d1");
    // As it was.
    machine.ok(&format!("conf=$(readlink -f /etc/vz/names/d1) && cat >$conf <<'END'\n{before}\nEND\nprlctl stop d1 && prlctl start d1 --wait"));
    is_up(machine, "d1");
}

/// Started out of a service, as a script of somebody's: the service ends, and with it all that is in its control group.
fn a_unit_that_ends_leaves_its_containers(machine: &mut VirtualMachine) {
    machine.ok("systemd-run --quiet --wait --unit starter prlctl start b1");
    machine.ok("systemctl kill --signal KILL starter 2>/dev/null; prlctl exec b1 true");
    // Both monitors, by the control groups that they are in.
    let groups = machine.ok(
        "for pid in $(grep -lazE '^reroot-monitor' /proc/[0-9]*/cmdline | cut -d/ -f3); do cat /proc/$pid/cgroup; done",
    );
    let is_own = |line: &str| line.starts_with("0::/reroot-") && line.ends_with(".monitor");
    assert_eq!(groups.lines().filter(|line| is_own(line)).count(), 2, "{groups}");
    assert_eq!(
        groups.lines().count(),
        2,
        "each has one in a control group of its own, and none is in a unit: {groups}"
    );
    // What goes down may take the one who asked for it along before he ends.
    machine.run("prlctl exec b1 reboot");
    wait_until(machine, "it is up again", "prlctl exec b1 true");
    machine.run("prlctl exec b1 poweroff");
    wait_until(machine, "it is stopped", "prlctl status b1 | grep -q stopped");
}

/// The host's systemd reads everything again and writes to the top of the tree: it takes nothing from the containers.
fn the_host_may_reload(machine: &mut VirtualMachine) {
    machine.ok("systemctl daemon-reload && systemctl daemon-reexec && systemd-run --quiet --wait -p CPUQuota=50% -p MemoryMax=50M -p TasksMax=10 true && systemctl daemon-reload");
    limits_hold(machine, "d1", "after the host's systemd has been reloaded");
    is_up(machine, "d1");
    machine.ok("prlctl exec d1 'systemctl daemon-reload && systemctl daemon-reexec'");
    is_up(machine, "d1");
}

fn reinstalls(machine: &mut VirtualMachine) {
    machine.ok("prlctl exec d1 'echo precious >/root/letter; rm -rf /usr/bin'");
    assert_eq!(machine.run("prlctl exec d1 ls").code, 8, "nothing can be executed in it");
    let began = Instant::now();
    machine.ok("prlctl reinstall d1");
    say(&format!("debian-12: reinstalled in {}", seconds(began.elapsed())));
    wait_until(machine, "it is up", "prlctl exec d1 'systemctl is-system-running --wait'");
    is_up(machine, "d1");
    assert_eq!(machine.ok("prlctl exec d1 'cat /old/root/letter'"), "precious");
    limits_hold(machine, "d1", "after a reinstall");

    machine.ok("cd /etc/vz/conf && for name in reinstall configure; do cp vps.$name.sample vps.$name; done");
    let began = Instant::now();
    machine.ok("prlctl reinstall d1");
    say(&format!("debian-12: reinstalled with the sample scripts in {}", seconds(began.elapsed())));
    machine.ok("rm /etc/vz/conf/vps.reinstall /etc/vz/conf/vps.configure");
    wait_until(machine, "it is up", "prlctl exec d1 'systemctl is-system-running --wait'");
    assert_eq!(machine.ok("prlctl exec d1 'cat /old/old/root/letter'"), "precious");
    machine.ok("prlctl reinstall d1 --undo");
    assert_eq!(machine.ok("prlctl exec d1 'cat /old/root/letter'"), "precious");
    machine.ok("prlctl generation-switch d1 3");
    wait_until(machine, "it is up", "prlctl exec d1 'systemctl is-system-running --wait'");
}

/// A shutdown of the host ends the containers in order; a start brings back those that are to be there.
fn the_host_shuts_down_in_order(machine: &mut VirtualMachine) {
    let unit = "[Service]\\nType=oneshot\\nRemainAfterExit=yes\\nExecStart=/bin/true\\nExecStop=/bin/sh -c \"echo in order >>/root/ended\"\\n[Install]\\nWantedBy=multi-user.target\\n";
    machine.ok(&format!(
        "prlctl exec d1 'printf \"{}\" >/etc/systemd/system/ended.service && systemctl enable --now ended'",
        unit.replace('"', "\\\"")
    ));
    machine.ok("prlctl start b1");
    let took = machine.power_off();
    say(&format!("the host shut down with two running containers in {}", seconds(took)));
    assert!(took < Duration::from_secs(90), "nothing waited for a time-out: {took:?}");
    machine.boot();
    comes_up(machine);
    assert_eq!(
        machine.ok("prlctl status d1; prlctl status b1"),
        "CT d1 exist running\nCT b1 exist stopped",
        "{}",
        unit_log(machine)
    );
    wait_until(machine, "it is up", "prlctl exec d1 'systemctl is-system-running --wait'");
    assert_eq!(machine.ok("prlctl exec d1 'cat /root/ended'"), "in order");
    let ran = machine.run("journalctl --boot=-1 --unit reroot --output cat --no-pager");
    assert!(ran.stdout.contains("Stopped reroot.service"), "{ran}");
    assert!(!ran.stdout.contains("error:"), "{ran}");
    limits_hold(machine, "d1", "after a start of the host");
    machine.ok("systemctl stop reroot");
    assert_eq!(machine.ok("prlctl status d1"), "CT d1 exist stopped");
    let uuid = machine.ok("prlctl mount d1 >/dev/null && prlctl list -a -H -o uuid d1 | tr -d '{} '");
    assert_eq!(
        machine.ok(&format!("cat /vz/root/{uuid}/root/ended && prlctl umount d1 >/dev/null")),
        "in order\nin order"
    );
    machine.ok("systemctl start reroot");
    assert_eq!(machine.ok("prlctl status d1"), "CT d1 exist running");
}
