//! For every day: one boot, and one reinstall of a container that runs.

use std::time::Instant;

use crate::{kernel_is_content, machine, say, seconds};

#[test]
#[ignore = "takes minutes: make vm-test"]
fn vm_quick_a_container_gets_a_new_root_and_keeps_its_old_one() {
    let began = Instant::now();
    let mut machine = machine();
    machine.ok("prlctl create q1 --ostemplate busybox && prlctl start q1");
    machine.ok("prlctl exec q1 'echo precious >/root/letter; rm -rf /usr/bin'");
    let reinstalling = Instant::now();
    machine.ok("prlctl reinstall q1");
    say(&format!("busybox: reinstalled in {}", seconds(reinstalling.elapsed())));
    assert_eq!(
        machine.ok("prlctl exec q1 'ls /usr/bin/env; cat /old/root/letter'"),
        "/usr/bin/env\nprecious"
    );
    assert_eq!(machine.ok("prlctl recover >/dev/null && prlctl status q1"), "CT q1 exist running");
    kernel_is_content(&mut machine, "at the end");
    say(&format!("a boot and a reinstall: {}", seconds(began.elapsed())));
}
