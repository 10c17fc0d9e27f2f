//! Every operation dies and fails at every step, in every call of the runtime, and while it is being recovered.
//!
//! A fault is an error, a SIGKILL, or a wait until its deadline; and every apply and every revert is done twice. A process that is killed is this test's own program, run again (test `child`) on the same prefix;
//! the fake runtime's world is a file there, so what "ran" goes on "running". Afterwards the container is the old one or the new one, whole
//! (`judge`); recovered again nothing changes; and the next reinstall works.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed, and says where")]

mod judge;
mod scenario;

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};

use engine::fault;
use engine::operation::OPERATIONS;
use engine::recover;
use serde::{Deserialize, Serialize};
use store::{ContainerId, GenerationState};
use testkit::host::reinstall_options;
use testkit::{How, TestHost, fake_runtime};

use judge::{Before, Verdict, judge, recovery_is_idle, whole};
use scenario::{Effect, SCENARIOS, Scenario};

/// Tells the program run again what to do.
const CHILD: &str = "REROOT_TEST_CHILD";

/// What a command came to.
#[derive(Debug, Clone, Serialize, Deserialize)]
enum Came {
    Done { unfinished: Option<String> },
    Failed { text: String },
    Killed,
}

impl Came {
    fn of(result: engine::Result<Option<String>>) -> Came {
        match result {
            Ok(unfinished) => Came::Done { unfinished },
            Err(failure) => Came::Failed { text: failure.to_string() },
        }
    }

    fn text(&self) -> &str {
        match self {
            Came::Done { unfinished } => unfinished.as_deref().unwrap_or_default(),
            Came::Failed { text } => text,
            Came::Killed => "killed",
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Task {
    /// `None`: recover only.
    scenario: Option<String>,
    prefix: String,
    id: String,
}

/// No test: what [`in_child`] runs.
#[test]
fn child() {
    let Ok(task) = std::env::var(CHILD) else { return };
    let task: Task = serde_json::from_str(&task).unwrap();
    let host = TestHost::at(Path::new(&task.prefix));
    let id: ContainerId = task.id.parse().unwrap();
    let result = match &task.scenario {
        Some(name) => {
            let wanted = |scenario: &&Scenario| format!("{} {}", scenario.operation, scenario.name) == *name;
            SCENARIOS.iter().find(wanted).unwrap().act(&host.host(), &id)
        }
        None => host.host().open(&task.id).map(|_| None),
    };
    let came = serde_json::to_vec(&Came::of(result)).unwrap();
    store::atomic::replace(&host.prefix.root().join("came.json"), &came, 0o600).unwrap();
}

/// Does it in a process of its own, with a fault at a point of the engine.
fn in_child(host: &TestHost, id: &ContainerId, scenario: Option<&Scenario>, fault: Option<&str>) -> Came {
    let task = Task {
        scenario: scenario.map(|scenario| format!("{} {}", scenario.operation, scenario.name)),
        prefix: host.prefix.root().display().to_string(),
        id: id.to_string(),
    };
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["child", "--exact", "--test-threads=1"]).env(CHILD, serde_json::to_string(&task).unwrap());
    command.env_remove("REROOT_FAULT");
    if let Some(fault) = fault {
        command.env("REROOT_FAULT", fault);
    }
    let output = command.stdin(Stdio::null()).output().unwrap();
    if output.status.signal() == Some(9) {
        return Came::Killed;
    }
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let came = host.prefix.root().join("came.json");
    serde_json::from_slice(&std::fs::read(came).unwrap()).unwrap()
}

/// Where it was the start itself that failed, the old root is back and stopped, which is told; nothing but that start is left to do, and no
/// journal locks the container until it succeeds.
fn start_again(host: &TestHost, id: &ContainerId, case: &str, runs: bool) {
    let is_about_start = [": start ", " then start ", "/stop/revert:hang"].iter().any(|at| case.contains(at));
    let is_settled = host.area(id).journal().unwrap().is_none();
    if runs && is_about_start && is_settled && host.container(id).running.is_none() {
        host.host()
            .open(&id.to_string())
            .unwrap()
            .start()
            .unwrap_or_else(|error| panic!("{case}: start: {error}"));
    }
}

/// What follows every fault: the verdict, once more, and the next reinstall.
fn aftermath(
    host: &TestHost,
    id: &ContainerId,
    scenario: &Scenario,
    before: &Before,
    came: &Came,
    case: &str,
    runs: bool,
) {
    start_again(host, id, case, runs);
    let case = &format!("{case}, which came to {came:?}");
    let is_wanted = |verdict: Verdict| match came {
        Came::Done { .. } => {
            assert_eq!(verdict, Verdict::New, "{case}: it has returned 0 and has not happened")
        }
        Came::Failed { .. } => {
            assert_eq!(verdict, Verdict::Old, "{case}: it has returned an error and has happened")
        }
        Came::Killed => {}
    };
    if host.area(id).journal().unwrap().is_none() && !has_doomed(host, id) {
        is_wanted(judge(host, id, before, scenario, runs, case));
    } else {
        assert!(
            !matches!(came, Came::Done { unfinished: None }) || has_doomed(host, id),
            "{case}: under way"
        );
    }
    host.host().open(&id.to_string()).map(drop).unwrap_or_else(|error| panic!("{case}: recovery: {error}"));
    if has_doomed(host, id) {
        // Its deletion waits for the end of the container.
        let deletes = [Effect::Reinstall { discards: true }, Effect::Flatten];
        assert!(deletes.contains(&scenario.effect), "{case}");
        host.stop(id);
        host.start(id);
    }
    is_wanted(judge(host, id, before, scenario, runs, case));
    recovery_is_idle(host, id, case);
    host.without_scripts();
    host.fake().change(|world| world.fault = None);
    let next = host
        .reinstall(
            id,
            &engine::operation::reinstall::Options { skip_applications: true, ..reinstall_options() },
        )
        .unwrap_or_else(|error| panic!("{case}: the next: {error}"));
    assert_eq!((next.unfinished, next.report.new.get()), (None, host.live(id)), "{case}: the next reinstall");
    whole(host, id, runs, &format!("{case}, after the next reinstall"));
}

fn has_doomed(host: &TestHost, id: &ContainerId) -> bool {
    let all = host.area(id).generations().unwrap();
    all.into_iter().any(|(_, record)| record.unwrap().state == GenerationState::Doomed)
}

/// The host loses its power, and the journal is of another boot.
fn lose_power(host: &TestHost, id: &ContainerId) {
    host.fake().lose_power();
    let area = host.area(id);
    if let Some(mut journal) = area.journal().unwrap() {
        journal.boot_id = "another".to_owned();
        area.store_journal(&journal).unwrap();
    }
}

/// Every point of an operation, in every scenario of it; each is reached at least once, by an error and by a kill.
fn visit_points(operation: &str) {
    let prefix = format!("{operation}/");
    let points: Vec<String> =
        fault::points().into_iter().filter(|point| point.starts_with(&prefix)).collect();
    assert!(!points.is_empty());
    let mut missed: BTreeSet<String> =
        points.iter().flat_map(|point| [format!("{point}:error"), format!("{point}:kill")]).collect();
    for scenario in scenario::of(operation) {
        // Nothing is reverted where nothing fails.
        for point in points.iter().filter(|point| scenario.fails || !point.ends_with("/revert")) {
            let mut is_passed = true;
            for (kind, power) in [("error", true), ("kill", true), ("kill", false)] {
                let fault = format!("{point}:{kind}");
                if !is_passed {
                    continue;
                }
                let case = format!("{}: {fault}{}", scenario.name, if power { "" } else { " and power cut" });
                let (host, id) = scenario.prepare();
                let before = Before::of(&host, &id);
                let came = in_child(&host, &id, Some(scenario), Some(&fault));
                let is_reached = came.text().contains(point.as_str()) || matches!(came, Came::Killed);
                is_passed = is_reached;
                if is_reached {
                    missed.remove(&fault);
                }
                // What is killed is recovered by the next command; after a power cut, as the unit does.
                if !power {
                    lose_power(&host, &id);
                    let results = recover::recover_all(&host.host()).unwrap();
                    assert!(results.iter().all(|result| result.failure.is_none()), "{case}: {results:?}");
                }
                aftermath(&host, &id, scenario, &before, &came, &case, before.was_running && power);
            }
        }
    }
    assert!(missed.is_empty(), "never reached: {missed:?}");
}

/// Killed in the middle, and its recovery dies and fails at every point too.
fn visit_points_of_recovery(operation: &str) {
    let steps: Vec<&str> =
        OPERATIONS.iter().find(|one| one.name == operation).unwrap().steps.iter().map(|s| s.name).collect();
    let commit = steps.iter().position(|step| *step == "commit").unwrap();
    let reverts = steps.iter().map(|step| format!("{operation}/{step}/revert"));
    let forwards = steps[commit + 1..]
        .iter()
        .flat_map(|step| [format!("{operation}/{step}/before"), format!("{operation}/{step}/after")]);
    let first = format!("{operation}/{}/before:kill", steps[commit]);
    let second = format!("{operation}/commit/after:kill");
    let pairs: Vec<(String, String)> = reverts
        .map(|point| (first.clone(), point))
        .chain(forwards.map(|point| (second.clone(), point)))
        .collect();
    for scenario in scenario::of(operation).filter(|scenario| !scenario.fails) {
        for (death, point) in &pairs {
            for kind in ["error", "kill"] {
                let case = format!("{}: {death}, then {point}:{kind}", scenario.name);
                let (host, id) = scenario.prepare();
                let before = Before::of(&host, &id);
                let came = in_child(&host, &id, Some(scenario), Some(death));
                assert!(matches!(came, Came::Killed), "{case}: {came:?}");
                let recovered = in_child(&host, &id, None, Some(&format!("{point}:{kind}")));
                let is_reached =
                    recovered.text().contains(point.as_str()) || matches!(recovered, Came::Killed);
                assert!(is_reached, "{case}: {recovered:?}");
                aftermath(&host, &id, scenario, &before, &came, &case, before.was_running);
            }
        }
    }
}

/// Steps in which nothing is waited for, by `<step>/<place>`: what is on disk only.
const WAITLESS: &[&str] = &[
    "stage/before",
    "stage/revert",
    "carry/before",
    "carry/revert",
    "commit/before",
    "commit/revert",
    "configure/revert",
    "health/revert",
    "settle/revert",
    "detach/revert",
    "relink/before",
];
/// There is no script of the host to wait for, and nothing left to settle.
const WAITLESS_HERE: &[&str] =
    &["reinstall/build/before", "reinstall/build/revert", "generation-delete/settle/before"];

/// Whatever waits in a step waits until its deadline: in the operation, in its reverts, and in the recovery of one that was killed.
fn visit_deadlines(operation: &str) {
    let named = OPERATIONS.iter().find(|one| one.name == operation).unwrap();
    let mut reached = BTreeSet::new();
    for scenario in scenario::of(operation) {
        for step in named.steps {
            let (before, revert) =
                (format!("{operation}/{}/before", step.name), format!("{operation}/{}/revert", step.name));
            let commit = format!("{operation}/commit");
            // The command, and then its recovery, each with its fault.
            let mut runs = vec![(format!("{before}:hang"), None, &before)];
            if !scenario.fails {
                runs.push((format!("{commit}/before:error,{revert}:hang"), None, &revert));
                runs.push((format!("{commit}/before:kill"), Some(format!("{revert}:hang")), &revert));
                runs.push((format!("{commit}/after:kill"), Some(format!("{before}:hang")), &before));
            }
            for (first, second, point) in runs {
                let case = format!("{}: {first}, recovered {second:?}", scenario.name);
                let (host, id) = scenario.prepare();
                let state = Before::of(&host, &id);
                let came = in_child(&host, &id, Some(scenario), Some(&first));
                if let Some(second) = &second {
                    in_child(&host, &id, None, Some(second));
                }
                if host.fake().world().hung.is_empty() {
                    continue;
                }
                reached.insert(point.clone());
                aftermath(&host, &id, scenario, &state, &came, &case, state.was_running);
            }
        }
    }
    let all = named.steps.iter().flat_map(|step| {
        ["before", "revert"].map(|place| (step.name, place, format!("{operation}/{}/{place}", step.name)))
    });
    let wanted: BTreeSet<String> = all
        .filter(|(step, place, point)| {
            !WAITLESS.contains(&format!("{step}/{place}").as_str())
                && !WAITLESS_HERE.contains(&point.as_str())
        })
        .map(|(_, _, point)| point)
        .collect();
    assert_eq!(reached, wanted, "where something has waited, and where something was to");
}

/// Every apply, and every revert, once more right after it was done: in the operation, and in the recovery of one that was killed.
fn visit_twice(operation: &str) {
    let named = OPERATIONS.iter().find(|one| one.name == operation).unwrap();
    let mut missed: BTreeSet<String> = BTreeSet::new();
    for step in named.steps {
        missed.extend([format!("apply {}", step.name), format!("revert {}", step.name)]);
    }
    for scenario in scenario::of(operation) {
        for step in named.steps {
            let point = |place: &str| format!("{operation}/{}/{place}", step.name);
            let (apply, revert) = (format!("{}:twice", point("after")), format!("{}:twice", point("revert")));
            let commit = format!("{operation}/commit");
            let mut runs = vec![(format!("{apply},{revert}"), None)];
            if !scenario.fails {
                runs.push((format!("{commit}/before:error,{revert}"), None));
                runs.push((format!("{commit}/before:kill"), Some(revert)));
                runs.push((format!("{commit}/after:kill"), Some(apply)));
            }
            for (first, second) in runs {
                let case = format!("{}: {first}, recovered {second:?}", scenario.name);
                let (host, id) = scenario.prepare();
                let state = Before::of(&host, &id);
                let came = in_child(&host, &id, Some(scenario), Some(&first));
                if let Some(second) = &second {
                    in_child(&host, &id, None, Some(second));
                }
                let log = log_of(&host, &id);
                let again: Vec<&str> =
                    log.lines().filter_map(|line| line.strip_suffix(" once more\"}")).collect();
                if again.is_empty() {
                    continue;
                }
                missed.retain(|one| !again.iter().any(|line| line.ends_with(one)));
                // It changes nothing, so that what failed by itself fails, and nothing else does.
                let is_to_fail = scenario.fails || first.contains(":error");
                let has_failed = matches!(came, Came::Failed { .. });
                assert_eq!(has_failed, is_to_fail, "{case}: {came:?}");
                aftermath(&host, &id, scenario, &state, &came, &case, state.was_running);
            }
        }
    }
    assert!(missed.is_empty(), "never done twice: {missed:?}");
}

/// All that the container's operations have logged.
fn log_of(host: &TestHost, id: &ContainerId) -> String {
    let directory = host.prefix.log_dir().join("operations").join(id.to_string());
    let files = std::fs::read_dir(directory).unwrap().flatten();
    files.map(|file| std::fs::read_to_string(file.path()).unwrap()).collect()
}

/// Every call of the runtime goes wrong in every way.
fn visit_calls(operation: &str) {
    for scenario in scenario::of(operation).filter(|scenario| scenario.breaks.is_none()) {
        let (host, id) = scenario.prepare();
        let counts = host.fake().world().counts;
        let _ = scenario.act(&host.host(), &id);
        let after = host.fake().world().counts;
        for method in fake_runtime::METHODS {
            let calls = after.get(method).unwrap_or(&0) - counts.get(method).unwrap_or(&0);
            for call in 1..=calls {
                for how in [How::ErrorBefore, How::ErrorAfter, How::KillBefore, How::KillAfter, How::GoesDown]
                {
                    if how == How::GoesDown && !matches!(method, "wait_until_up" | "run_inside") {
                        continue;
                    }
                    visit_call(scenario, method, call, how);
                }
            }
        }
    }
}

fn visit_call(scenario: &Scenario, method: &str, call: u32, how: How) {
    let case = format!("{}: {method} {call} {how:?}", scenario.name);
    let (host, id) = scenario.prepare();
    let before = Before::of(&host, &id);
    host.fake().fail(method, call, how);
    let came = match how {
        How::KillBefore | How::KillAfter => in_child(&host, &id, Some(scenario), None),
        How::ErrorBefore | How::ErrorAfter | How::GoesDown | How::GoesDownForGood | How::EndsLate => {
            Came::of(scenario.act(&host.host(), &id))
        }
    };
    assert_eq!(host.fake().world().fault, None, "{case}: not reached");
    aftermath(&host, &id, scenario, &before, &came, &case, before.was_running);
}

/// Killed in the middle, and every call of its recovery fails once.
fn visit_calls_of_recovery(operation: &str) {
    for scenario in scenario::of(operation).filter(|scenario| !scenario.fails) {
        for death in [format!("{operation}/commit/before:kill"), format!("{operation}/commit/after:kill")] {
            for method in fake_runtime::METHODS {
                for how in [How::ErrorBefore, How::ErrorAfter] {
                    for call in 1.. {
                        let case = format!("{}: {death}, then {method} {call} {how:?}", scenario.name);
                        let (host, id) = scenario.prepare();
                        let before = Before::of(&host, &id);
                        let came = in_child(&host, &id, Some(scenario), Some(&death));
                        host.fake().fail(method, call, how);
                        let _ = host.host().open(&id.to_string());
                        if host.fake().world().fault.is_some() {
                            break;
                        }
                        aftermath(&host, &id, scenario, &before, &came, &case, before.was_running);
                    }
                }
            }
        }
    }
}

macro_rules! visits {
    ($($module:ident: $operation:literal),+ $(,)?) => {
        const VISITED: &[&str] = &[$($operation),+];
        $(mod $module {
            #[test]
            fn crash_at_every_point() {
                super::visit_points($operation);
            }

            #[test]
            fn crash_at_every_point_of_the_recovery() {
                super::visit_points_of_recovery($operation);
            }

            #[test]
            fn crash_at_the_deadline_of_every_step() {
                super::visit_deadlines($operation);
            }

            #[test]
            fn crash_with_every_apply_and_revert_done_twice() {
                super::visit_twice($operation);
            }

            #[test]
            fn crash_in_every_call() {
                super::visit_calls($operation);
            }

            #[test]
            fn crash_in_every_call_of_the_recovery() {
                super::visit_calls_of_recovery($operation);
            }
        })+
    };
}

visits! {
    reinstall: "reinstall",
    by_script: "reinstall-by-script",
    switch: "switch",
    generation_flatten: "generation-flatten",
    generation_delete: "generation-delete",
}

#[test]
fn crash_visits_every_operation_there_is() {
    let all: Vec<&str> = OPERATIONS.iter().map(|operation| operation.name).collect();
    assert_eq!(all, VISITED);
}

/// Each scenario does without faults what it says.
#[test]
fn every_scenario_does_what_it_says() {
    for scenario in SCENARIOS {
        let case = format!("{} {}", scenario.operation, scenario.name);
        let (host, id) = scenario.prepare();
        let before = Before::of(&host, &id);
        let came = Came::of(scenario.act(&host.host(), &id));
        let fails = matches!(came, Came::Failed { .. });
        assert_eq!(fails, scenario.fails, "{case}: {came:?}");
        aftermath(&host, &id, scenario, &before, &came, &case, before.was_running);
    }
}
