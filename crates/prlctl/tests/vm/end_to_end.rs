//! The end-to-end tests, each with a prefix of its own, on this kernel and its control groups.

use std::time::{Duration, Instant};

use crate::{kernel_is_content, machine, number, say};

/// What the machine lacks, in the words of the tests that miss it, and why it is not given: what is not run there for these is counted, and no failure.
const LACKS: &[(&str, &str)] = &[
    (
        "no Debian archive can be reached for",
        "it has no network; the templates that it has were made outside",
    ),
    ("it needs mmdebstrap", "nor anything to download with it"),
    ("there is no skopeo", "nor anything to download with it"),
    ("there is no ssh-keygen", "it is asked of keys that a test on the build machine has checked"),
    ("`lxcfs` is not installed", "the suite shows what holds without it; the build machine has it"),
    ("no qemu-img", "reads files, for which one kernel is as good as another"),
    ("this host has no hierarchies of cgroup v1", "it is there to have none"),
];

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
    let (mut passed, mut lacking, mut others) = (0, 0, Vec::new());
    for executable in executables.lines() {
        // On the console too, so that it can be watched. Ten times as slow as the processor is, and two at a time.
        let line = format!(
            "REROOT_TEST_PATIENCE=10 /usr/local/lib/run-tests {limit} '{pattern}' {executable} | tee /dev/console; exit ${{PIPESTATUS[0]}}"
        );
        let ran = machine.run_within(Duration::from_secs(limit * 20), &line);
        for report in reports(&ran.stdout) {
            say(&report);
            match verdict(&report) {
                Verdict::Passed => passed += 1,
                Verdict::Lacking => lacking += 1,
                Verdict::Bad => others.push(report),
            }
        }
        assert!(ran.stderr.is_empty(), "{executable}\n{ran}");
        assert_eq!(
            ran.code == 0,
            ran.stdout.lines().all(|line| line.starts_with("ok ")),
            "{executable}\n{ran}"
        );
    }
    let bad = others.len();
    say(&format!(
        "{passed} end-to-end tests passed, {lacking} want what the machine lacks, {bad} did not pass, in {:.0} s",
        began.elapsed().as_secs_f64()
    ));
    assert!(passed > 0, "no test is named like `{pattern}`, or none of them can run there");
    assert!(others.is_empty(), "{bad} end-to-end tests did not pass there:\n{}", others.join("\n"));
    kernel_is_content(&mut machine, "after the end-to-end tests");
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Passed,
    /// Not run, for nothing but [`LACKS`].
    Lacking,
    /// Failed, or not run for a reason that nobody has thought of.
    Bad,
}

/// What `share/vm/host/run-tests` says of each test: a line, and what the test has said, indented.
fn reports(text: &str) -> Vec<String> {
    let mut reports: Vec<String> = Vec::new();
    for line in text.lines() {
        match reports.last_mut() {
            Some(report) if line.starts_with("    ") => *report += &format!("\n{line}"),
            Some(_) | None => reports.push(line.to_owned()),
        }
    }
    reports
}

fn verdict(report: &str) -> Verdict {
    if report.starts_with("ok ") {
        return Verdict::Passed;
    }
    let mut reasons = report
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix("NOT RUN: "))
        .map(|said| said.split_once(": ").map_or(said, |(_, because)| because))
        .peekable();
    let is_lacking = report.starts_with("NOT-RUN ")
        && reasons.peek().is_some()
        && reasons.all(|because| LACKS.iter().any(|(lacks, _)| because.starts_with(lacks)));
    if is_lacking { Verdict::Lacking } else { Verdict::Bad }
}

#[test]
fn what_the_machine_lacks_is_all_that_a_test_may_not_run_for() {
    use Verdict::{Bad, Lacking, Passed};

    let said = "ok 3 root_a::one\nNOT-RUN 0 root_a::two\n    running 1 test\n    NOT RUN: two: no qemu-img: apt-get install qemu-utils\n    test two ... ok\n\
        NOT-RUN 1 root_a::three\n    NOT RUN: three: no qemu-img: that\n    NOT RUN: three: no btrfs: this\nNOT-RUN 1 root_a::four\n\
        FAILED 9 root_a::five\n    NOT RUN: five: no qemu-img: and then\n    panicked\nNOT-RUN 1 root_b::six\n    NOT RUN: six: no Debian archive can be reached\n";
    let reports = reports(said);
    assert_eq!(reports.join("\n") + "\n", said);
    let verdicts: Vec<Verdict> = reports.iter().map(|report| verdict(report)).collect();
    assert_eq!(verdicts, [Passed, Lacking, Bad, Bad, Bad, Bad]);
}
