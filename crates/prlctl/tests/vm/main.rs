//! A stock Debian 12 in an emulator: its own kernel, cgroup v2 alone, systemd as the host's init, Reroot put in by `make install`; and power cuts.
//!
//! ```text
//! quick        a boot and a reinstall, for every day
//! installed    what only a host of its own can show: the unit, a host that shuts down, limits beside a systemd
//! end_to_end   the tests `root_*` and `crash_*`, as they were compiled here, run there
//! cuts         the emulator is killed in the middle of reinstalls
//! ```
//!
//! They take minutes and so are ignored by `make test`; `make vm-test` builds the machine and runs them. Figures go to stderr: run with `--nocapture`.

mod cuts;
mod end_to_end;
mod installed;
mod quick;

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use testkit::VirtualMachine;

/// A machine that has come up; what it was built from lies in the directory of this build.
fn machine() -> VirtualMachine {
    let built = Path::new(env!("CARGO_BIN_EXE_prlctl")).ancestors().nth(2).map(|target| target.join("vm"));
    let mut machine = VirtualMachine::new(&built.expect("the program lies in a build directory"));
    let took = machine.boot();
    say(&format!("the machine is up after {:.1} s", took.as_secs_f64()));
    comes_up(&mut machine);
    machine
}

/// The host's systemd is content, and so is our unit.
#[track_caller]
fn comes_up(machine: &mut VirtualMachine) {
    let ran = machine.run("systemctl is-system-running --wait; systemctl --failed --no-legend --plain; systemctl show -P Result reroot; systemctl is-active reroot");
    assert_eq!(ran.stdout, "running\nsuccess\nactive\n", "the host's units\n{ran}\n{}", unit_log(machine));
}

/// What our unit has said since the machine was switched on.
fn unit_log(machine: &mut VirtualMachine) -> String {
    machine.run("journalctl --boot --unit reroot --output cat --no-pager").stdout
}

/// Nothing that the kernel has complained of since the machine was switched on is ours to worry about. What `vps.reinstall` is shown is a second
/// overlay over a delta that nobody writes to; and tests ask for an overlay that cannot be, take its work directory away, and fill the disk.
#[track_caller]
fn kernel_is_content(machine: &mut VirtualMachine, when: &str) {
    let ran = machine.run("dmesg --level emerg,alert,crit,err,warn | grep -vE 'lowerdir is in-use as upperdir|at least 2 lowerdir are needed|failed to resolve .*/work|failed to create directory .*/work/work .errno: 28' | grep -E 'overlayfs:|EXT4-fs (error|warning)|BUG:|WARNING:|Oops:|hung task'");
    assert_eq!((ran.code, ran.stdout.as_str()), (1, ""), "{when}: the kernel says\n{ran}");
}

/// Asks again and again until it is so, for what nobody tells of.
#[track_caller]
fn wait_until(machine: &mut VirtualMachine, what: &str, line: &str) {
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        let ran = machine.run(line);
        if ran.code == 0 {
            return;
        }
        assert!(Instant::now() < deadline, "it never came that {what}: {line}\n{ran}");
    }
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

/// A figure for whoever has called this.
fn say(line: &str) {
    let mut stderr = std::io::stderr().lock();
    writeln!(stderr, "vm: {line}").expect("write to stderr");
}

/// A number that `make vm-test` was given.
fn number(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) if !text.is_empty() => text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")),
        _ => default,
    }
}
