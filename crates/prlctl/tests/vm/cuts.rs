//! The power is cut at random instants of reinstalls; then the machine is switched on again, and judged.
//!
//! Five containers with known contents: of both templates, running and not, and one that runs although a start of the host is not to start it. Each cut hits the
//! reinstall of one of them; afterwards all five are looked at. `REROOT_VM_CUTS` says how many cuts, `REROOT_VM_SEED` which.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use std::path::Path;

use testkit::{Ran, VirtualMachine};
use torture::ledger::{self, Line};

use crate::{comes_up, kernel_is_content, machine, number, say, seconds, unit_log};

/// A shell line that reads `known.sh`.
const KNOWN: &str = ". /root/known.sh";

struct Subject {
    name: &'static str,
    template: &'static str,
    runs: bool,
    is_on_boot: bool,
    /// How long a reinstall takes when nothing cuts it: without a script, and by one.
    whole: [Option<Duration>; 2],
    uuid: String,
}

impl Subject {
    fn new(name: &'static str, template: &'static str, runs: bool, is_on_boot: bool) -> Subject {
        Subject { name, template, runs, is_on_boot, whole: [None; 2], uuid: String::new() }
    }

    /// Where its root is mounted for the host.
    fn view(&self) -> String {
        format!("/vz/root/{}", self.uuid)
    }
}

/// The same numbers in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit.max(1)
    }
}

#[test]
#[ignore = "takes a minute for each cut: make vm-test"]
fn vm_a_power_cut_leaves_the_old_root_or_the_new_one() {
    let (cuts, seed) = (number("REROOT_VM_CUTS", 3), number("REROOT_VM_SEED", 1));
    let mut machine = machine();
    let mut subjects = [
        Subject::new("b-run", "busybox", true, true),
        Subject::new("d-run", "debian-12", true, true),
        Subject::new("b-stopped", "busybox", false, false),
        Subject::new("d-stopped", "debian-12", false, false),
        Subject::new("b-not-on-boot", "busybox", true, false),
    ];
    machine.ok(&format!("cat >/root/known.sh <<'END OF FILE'\n{}END OF FILE", include_str!("known.sh")));
    // What the unit finds when it begins; a look that changes nothing.
    machine.ok("mkdir -p /etc/systemd/system/reroot.service.d && printf '[Service]\\nExecStartPre=/bin/sh -c \"ls /vz/private/*/operation.json >/run/interrupted 2>/dev/null; true\"\\n' >/etc/systemd/system/reroot.service.d/look.conf && systemctl daemon-reload");
    for subject in &mut subjects {
        prepare(&mut machine, subject);
    }

    let mut dice = Dice(seed);
    let mut figures: BTreeMap<&str, u32> = BTreeMap::new();
    let mut interrupted = 0;
    let began = Instant::now();
    let mut survived = Survived { cuts: 0, wanted: cuts, seed, began };
    for index in 0..cuts {
        let chosen = (index + dice.below(2)) as usize % subjects.len();
        // Every fourth by a script. Every fifth in the instant in which the command has said that it is done.
        let by_script = dice.below(4) == 0;
        let whole = whole(&mut machine, &mut subjects[chosen], by_script);
        let subject = &subjects[chosen];
        let after = Duration::from_micros(dice.below(whole.as_micros() as u64 * 11 / 10));
        let after = if index % 5 == 4 { whole * 20 } else { after };
        let what = format!(
            "cut {} of {cuts}, seed {seed}: `{}`{} after {} of {}",
            index + 1,
            subject.name,
            if by_script { " by script" } else { "" },
            if index % 5 == 4 { "its last word".to_owned() } else { seconds(after) },
            seconds(whole),
        );
        let answer = cut(&mut machine, subject, by_script, after, &what);
        machine.boot();
        comes_up(&mut machine);
        let log = unit_log(&mut machine);
        interrupted += u32::from(machine.run("test -s /run/interrupted").code == 0);
        let result = judge(&mut machine, &subjects, subject, answer.as_ref(), &format!("{what}\n{log}"));
        *figures.entry(result).or_default() += 1;
        say(&format!("{what}: {result}"));
        bring_back(&mut machine, &subjects, subject, result != OLD, &what);
        survived.cuts += 1;
    }
    let took = began.elapsed();
    kernel_is_content(&mut machine, "after the last cut");
    machine.power_off();
    let checked =
        std::process::Command::new("e2fsck").arg("-fn").arg(machine.disk()).output().expect("run e2fsck");
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
    let list: Vec<String> = figures.iter().map(|(what, count)| format!("{count} {what}")).collect();
    say(&format!(
        "{cuts} power cuts (seed {seed}): {}; {interrupted} were in the middle of an operation, which the unit brought to an end; every root whole, every container as it was to be; {} a cut",
        list.join(", "),
        seconds(took / u32::try_from(cuts.max(1)).expect("not that many cuts")),
    ));
}

/// Written down however it ends: a run that fails has lost one, and says so in the ledger, too.
struct Survived {
    cuts: u64,
    wanted: u64,
    seed: u64,
    began: Instant,
}

impl Drop for Survived {
    fn drop(&mut self) {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let lost = u64::from(std::thread::panicking());
        let line = Line {
            sweep: "host".to_owned(),
            day: ledger::today(),
            commit: ledger::commit(&root),
            seed: self.seed,
            from: 0,
            to: self.cuts,
            of: self.wanted,
            kills: 0,
            errors: 0,
            cuts: self.cuts + lost,
            lost,
            seconds: self.began.elapsed().as_secs(),
        };
        if let Err(error) = ledger::record(&root.join("docs"), &line) {
            say(&format!("the ledger could not be written: {error}"));
        }
    }
}

const OLD: &str = "on the old root";
const NEW: &str = "on the new root";
const DONE: &str = "on the new root after the command had returned 0";

fn prepare(machine: &mut VirtualMachine, subject: &mut Subject) {
    let name = subject.name;
    let on_boot = if subject.is_on_boot { "yes" } else { "no" };
    // Once up and down: what a first start makes is made.
    machine.ok(&format!(
        "prlctl create {name} --ostemplate {} && prlctl start {name} --wait && prlctl stop {name} && prlctl mount {name}",
        subject.template
    ));
    subject.uuid = machine.ok(&format!("prlctl list -a -H -o uuid {name} | tr -d '{{}} '"));
    let view = subject.view();
    machine.ok(&format!(
        "{KNOWN} && fill {view} && manifest {view} >/root/{name}.manifest && test -s /root/{name}.manifest && prlctl umount {name} && sed -i /^ONBOOT/d /vz/private/{uuid}/ve.conf && echo 'ONBOOT=\"{on_boot}\"' >>/vz/private/{uuid}/ve.conf && sync",
        uuid = subject.uuid
    ));
    if subject.runs {
        machine.ok(&format!("prlctl start {name} --wait && sync"));
    }
}

/// How long a reinstall of it takes when nothing cuts it; measured when it is first asked.
fn whole(machine: &mut VirtualMachine, subject: &mut Subject, by_script: bool) -> Duration {
    if let Some(known) = subject.whole[usize::from(by_script)] {
        return known;
    }
    let whole = if by_script && subject.template != "busybox" {
        // The script copies all of a Debian, for a minute or more: where in it the cut falls need not be known so well.
        whole(machine, subject, false) * 5
    } else {
        scripts(machine, by_script);
        let began = Instant::now();
        machine.ok(&format!("prlctl reinstall {}", subject.name));
        let took = began.elapsed();
        back_to_the_first(machine, subject, "while it was measured");
        took
    };
    subject.whole[usize::from(by_script)] = Some(whole);
    whole
}

fn scripts(machine: &mut VirtualMachine, are_there: bool) {
    let line = if are_there {
        "cd /etc/vz/conf && printf '%s\\n' '#!/bin/sh' 'mkdir -p \"$VE_PRIVATE_TMP\" && cp -a \"$OSTEMPLATE_ROOT/.\" \"$VE_PRIVATE_TMP/\"' >vps.reinstall && printf '%s\\n' '#!/bin/sh' 'test -d /old/srv/known && echo new >/root/new' >vps.configure && chmod 755 vps.reinstall vps.configure && sync"
    } else {
        "rm -f /etc/vz/conf/vps.reinstall /etc/vz/conf/vps.configure && sync"
    };
    machine.ok(line);
}

/// Cuts the power while a reinstall runs; its answer, if it had one.
fn cut(
    machine: &mut VirtualMachine,
    subject: &Subject,
    by_script: bool,
    after: Duration,
    what: &str,
) -> Option<Ran> {
    scripts(machine, by_script);
    machine.begin(&format!("prlctl reinstall {}", subject.name));
    let answer = machine.answer_within(after);
    // An answer may have been on its way.
    let late = machine.cut();
    let answer = answer.or(late);
    assert!(
        answer.as_ref().is_none_or(|ran| ran.code == 0),
        "{what}: it failed before the cut\n{}",
        answer.map(|ran| ran.to_string()).unwrap_or_default()
    );
    answer
}

/// After a boot, before anybody has typed anything.
#[track_caller]
fn judge(
    machine: &mut VirtualMachine,
    subjects: &[Subject],
    hit: &Subject,
    answer: Option<&Ran>,
    what: &str,
) -> &'static str {
    assert!(!what.contains("error:"), "the unit could not recover: {what}");
    for subject in subjects {
        let (name, uuid) = (subject.name, &subject.uuid);
        let state = if subject.is_on_boot { "running" } else { "stopped" };
        assert_eq!(
            machine.ok(&format!("prlctl status {name}")),
            format!("CT {name} exist {state}"),
            "{what}"
        );
        let left = machine.ok(&format!(
            "ls -A /vz/private/{uuid} | grep -vxE 've.conf|area.json|generations|live|scripts|root'; grep -lE '\"state\": *\"staged\"' /vz/private/{uuid}/generations/*/generation.json; true"
        ));
        assert_eq!(left, "", "{what}\nleft in the private area of `{name}`");
    }
    let known =
        subjects.iter().map(|subject| format!("-not -name {}", subject.uuid)).collect::<Vec<_>>().join(" ");
    assert_eq!(
        machine.ok(&format!("find /vz/private -mindepth 1 -maxdepth 1 -not -name '.*' {known}")),
        "",
        "{what}"
    );

    let live = machine.ok(&format!("basename $(readlink /vz/private/{}/live)", hit.uuid));
    let result = match (live.as_str(), answer) {
        ("1", None) => OLD,
        ("1", Some(_)) => panic!("{what}: it had returned 0, and it is on the old root"),
        (_, None) => NEW,
        (_, Some(_)) => DONE,
    };
    for subject in subjects {
        let place = if subject.name == hit.name && result != OLD { "/old" } else { "" };
        is_whole(machine, subject, place, what);
    }
    // Recovery has nothing left to do.
    let listing = format!(
        "find /vz/private/{} \\( -name delta -o -name work -o -name lower \\) -prune -o -printf '%p %i %T@ %s\\n' | sort",
        hit.uuid
    );
    let before = machine.ok(&listing);
    let again = machine.run(&format!("prlctl recover {}", hit.name));
    assert_eq!((again.code, again.stderr.as_str()), (0, ""), "{what}\na second recovery\n{again}");
    assert_eq!(machine.ok(&listing), before, "{what}: a second recovery changes nothing");
    result
}

/// The known contents are there, all of them as they were.
#[track_caller]
fn is_whole(machine: &mut VirtualMachine, subject: &Subject, place: &str, what: &str) {
    let (name, view) = (subject.name, subject.view());
    let ran = machine.run(&format!(
        "prlctl mount {name} >/dev/null && {{ {KNOWN}; manifest {view}{place} | diff /root/{name}.manifest -; }}; code=$?; prlctl umount {name} >/dev/null && exit $code"
    ));
    assert_eq!(ran.code, 0, "{what}\n`{name}`{place} is not what it was\n{ran}");
}

/// The next reinstall works; then the container goes back to its first root, and what else it has had is deleted.
#[track_caller]
fn bring_back(machine: &mut VirtualMachine, subjects: &[Subject], hit: &Subject, is_new: bool, what: &str) {
    scripts(machine, false);
    let ran = machine.run(&format!("prlctl reinstall {}", hit.name));
    assert_eq!(ran.code, 0, "{what}: the next reinstall\n{ran}");
    is_whole(machine, hit, if is_new { "/old/old" } else { "/old" }, what);
    for subject in subjects.iter().filter(|subject| subject.runs && !subject.is_on_boot) {
        machine.ok(&format!("prlctl status {0} | grep -q running || prlctl start {0}", subject.name));
    }
    back_to_the_first(machine, hit, what);
}

#[track_caller]
fn back_to_the_first(machine: &mut VirtualMachine, subject: &Subject, what: &str) {
    let name = subject.name;
    let ran = machine.run(&format!(
        "prlctl generation-switch {name} 1 && for number in $(prlctl generation-list {name} --all -j | grep -o '\"number\": *[0-9]*' | grep -o '[0-9]*$' | grep -vx 1); do prlctl generation-delete {name} $number || exit; done"
    ));
    assert_eq!(ran.code, 0, "{what}: back to the first root\n{ran}");
    let state = if subject.runs { "running" } else { "stopped" };
    assert_eq!(machine.ok(&format!("prlctl status {name}")), format!("CT {name} exist {state}"), "{what}");
    is_whole(machine, subject, "", what);
    machine.ok("sync");
}
