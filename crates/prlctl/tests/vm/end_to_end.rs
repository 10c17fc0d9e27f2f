//! The end-to-end tests, each with a prefix of its own, on this kernel and its control groups.

use std::time::{Duration, Instant};

use crate::{kernel_is_content, machine, number, say};

/// Which of them: `REROOT_VM_TESTS`, an extended regular expression on `root_exec::root_exec_prefers_bash_where_there_is_one` and the like; all.
#[test]
#[ignore = "takes an hour: make vm-test"]
fn vm_the_end_to_end_tests_pass() {
    let pattern = std::env::var("REROOT_VM_TESTS").unwrap_or_default();
    let pattern = if pattern.is_empty() { ".".to_owned() } else { pattern };
    assert!(!pattern.contains('\''), "a pattern without quotes: {pattern}");
    let limit = number("REROOT_VM_LIMIT", 1800);
    let mut machine = machine();
    let executables = machine.ok("ls /opt/tests/root_*");
    let began = Instant::now();
    let (mut passed, mut others) = (0, String::new());
    for executable in executables.lines() {
        // On the console too, so that it can be watched. Ten times as slow as the processor is, and two at a time.
        let line = format!(
            "REROOT_TEST_PATIENCE=10 /usr/local/lib/run-tests {limit} '{pattern}' {executable} | tee /dev/console; exit ${{PIPESTATUS[0]}}"
        );
        let ran = machine.run_within(Duration::from_secs(limit * 20), &line);
        let mut here = 0;
        for line in ran.stdout.lines() {
            if line.starts_with("ok ") {
                here += 1;
                say(line);
            } else {
                others += &format!("{line}\n");
                say(line);
            }
        }
        passed += here;
        assert!(ran.stderr.is_empty(), "{executable}\n{ran}");
        assert_eq!(
            ran.code == 0,
            ran.stdout.lines().all(|line| line.starts_with("ok ")),
            "{executable}\n{ran}"
        );
    }
    let bad = others.lines().filter(|line| line.starts_with("FAILED") || line.starts_with("NOT-RUN")).count();
    say(&format!(
        "{passed} end-to-end tests passed, {bad} did not, in {:.0} s",
        began.elapsed().as_secs_f64()
    ));
    assert!(passed > 0, "no test is named like `{pattern}`");
    assert_eq!(others, "", "{bad} end-to-end tests did not pass there");
    kernel_is_content(&mut machine, "after the end-to-end tests");
}
