//! Whether a container is as it was or as it should be, and nothing in between.

use std::collections::BTreeMap;

use engine::recover;
use store::{ContainerId, GenerationNumber, GenerationState};
use testkit::TestHost;

use crate::scenario::{Effect, Scenario};

/// The two states that there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Old,
    New,
}

/// A container before anything was done to it.
#[derive(Debug)]
pub struct Before {
    live: u32,
    next: u32,
    parents: BTreeMap<u32, Option<u32>>,
    deltas: BTreeMap<u32, BTreeMap<String, String>>,
    conf: Vec<u8>,
    /// What is installed in each root.
    templates: BTreeMap<u32, Option<String>>,
    pub was_running: bool,
}

fn parents(host: &TestHost, id: &ContainerId) -> BTreeMap<u32, Option<u32>> {
    let all = host.area(id).generations().unwrap();
    let parent = |record: store::GenerationRecord| record.parent.map(GenerationNumber::get);
    all.into_iter().map(|(number, record)| (number.get(), parent(record.expect("a record")))).collect()
}

/// `TEMPLATES` as each root's record has it; that of the live one says nothing.
fn remembered(host: &TestHost, id: &ContainerId) -> BTreeMap<u32, Option<String>> {
    let all = host.area(id).generations().unwrap();
    all.into_iter().map(|(number, record)| (number.get(), record.expect("a record").templates)).collect()
}

fn delta(host: &TestHost, id: &ContainerId, number: u32) -> BTreeMap<String, String> {
    host.snapshot(&host.delta(id, number, ""))
}

/// `gone` is deleted: those that had it at `/old` have what was at its own.
fn past(parents: &mut BTreeMap<u32, Option<u32>>, gone: u32) {
    let up = parents.remove(&gone).flatten();
    parents.values_mut().filter(|parent| **parent == Some(gone)).for_each(|parent| *parent = up);
}

impl Before {
    pub fn of(host: &TestHost, id: &ContainerId) -> Before {
        let area = host.area(id);
        let parents = parents(host, id);
        let (live, conf) = (host.live(id), area.conf().unwrap());
        let mut templates = remembered(host, id);
        templates.insert(live, conf.get("TEMPLATES"));
        Before {
            live,
            templates,
            next: area.next_generation_number().unwrap().get(),
            deltas: parents.keys().map(|&number| (number, delta(host, id, number))).collect(),
            parents,
            conf: conf.to_bytes(),
            was_running: host.container(id).running.is_some(),
        }
    }

    /// What is live, and which generations there are with which parents, when it has happened.
    fn after(&self, effect: Effect) -> (u32, BTreeMap<u32, Option<u32>>) {
        let mut parents = self.parents.clone();
        match effect {
            Effect::Reinstall { discards } => {
                parents.insert(self.next, Some(self.live));
                if discards {
                    past(&mut parents, self.live);
                }
                (self.next, parents)
            }
            Effect::Flatten => {
                let parent = parents[&self.live];
                parents.insert(self.next, parent);
                past(&mut parents, self.live);
                (self.next, parents)
            }
            Effect::Switch(to) => (to, parents),
            Effect::Forget(number) => {
                past(&mut parents, number);
                (self.live, parents)
            }
        }
    }
}

/// Everything that must hold when no operation is under way; panics with `case` where something does not. `runs`: whether it is to run.
pub fn judge(
    host: &TestHost,
    id: &ContainerId,
    before: &Before,
    scenario: &Scenario,
    runs: bool,
    case: &str,
) -> Verdict {
    let area = host.area(id);
    assert!(area.journal().unwrap().is_none(), "{case}: a journal is left");
    let mut found = parents(host, id);
    let (live, mut wanted) = before.after(scenario.effect);
    // One that was to be deleted, and could not be, is told of, and whole.
    for gone in scenario.retain.iter().flat_map(|(_, gone)| *gone).filter(|gone| !found.contains_key(gone)) {
        past(&mut wanted, *gone);
    }
    // Not of a reinstall that has not happened.
    assert!(
        host.live(id) == live || scenario.retain.is_none() || found.len() >= before.parents.len(),
        "{case}: {found:?}"
    );
    let verdict =
        if found.keys().eq(wanted.keys()) && host.live(id) == live { Verdict::New } else { Verdict::Old };
    let mut states = BTreeMap::new();
    for (number, record) in area.generations().unwrap() {
        states.insert(number.get(), record.unwrap().state);
    }
    if verdict == Verdict::Old {
        assert_eq!(host.live(id), before.live, "{case}: live is neither old nor new; generations {found:?}");
        assert_eq!(area.conf().unwrap().to_bytes(), before.conf, "{case}: ve.conf has changed");
        // At most the one that was tried out.
        if states.get(&before.next) == Some(&GenerationState::Failed) {
            states.remove(&before.next);
            found.remove(&before.next);
        }
        assert_eq!(found, before.parents, "{case}: old, but its generations are others");
    } else {
        assert_eq!(found, wanted, "{case}: new, with other parents than it should have");
    }
    assert!(states.values().all(|state| *state == GenerationState::Kept), "{case}: {states:?}");
    for (number, delta_before) in &before.deltas {
        if found.contains_key(number) {
            assert_eq!(&delta(host, id, *number), delta_before, "{case}: root {number} is not what it was");
        }
    }
    let now = host.live(id);
    for (number, templates) in remembered(host, id) {
        // In a new root nothing is installed but what this installs.
        let is_installed = scenario.applications && scenario.operation == "reinstall";
        // One that was given up says what had been installed in it by then.
        if is_installed && number == before.next && verdict != Verdict::New {
            continue;
        }
        let has_the_same = is_installed || scenario.effect == Effect::Flatten;
        let was = if has_the_same && number == before.next { before.live } else { number };
        let wanted = before.templates.get(&was).cloned().flatten();
        if number == now {
            let templates = area.conf().unwrap().get("TEMPLATES").filter(|templates| !templates.is_empty());
            assert_eq!(templates, wanted, "{case}: ve.conf does not follow live");
        } else {
            assert_eq!(templates, wanted, "{case}: what is installed in root {number} is forgotten");
        }
    }
    if verdict == Verdict::New && matches!(scenario.effect, Effect::Reinstall { .. }) {
        for (script, text) in scenario.scripts {
            let declined = scenario.scripts.iter().any(|(_, text)| text.ends_with("exit 128"));
            let marks = text.lines().filter_map(|line| line.strip_prefix("write /")?.split(' ').next());
            for mark in marks.filter(|_| !(declined && script.starts_with("vps."))) {
                assert!(host.delta(id, live, mark).exists(), "{case}: `{script}` has not written /{mark}");
            }
        }
    }
    if verdict == Verdict::New && scenario.applications && scenario.operation == "reinstall" {
        assert!(host.delta(id, live, "opt/postfix").exists(), "{case}: named, and not installed");
    }
    if verdict == Verdict::New && scenario.effect == Effect::Flatten {
        let record = area.generation(GenerationNumber::new(live)).unwrap();
        assert_eq!(record.base, store::Base::Empty, "{case}");
        assert!(host.delta(id, live, "etc/passwd").exists(), "{case}: the template is not in it");
    }
    if verdict == Verdict::New && !scenario.keep.is_empty() {
        let kept = |delta: &BTreeMap<String, String>| -> Vec<(String, String)> {
            let below = |path: &String| path.split_once("/delta/").map(|(_, path)| path.to_owned());
            let named = delta.iter().filter_map(|(path, facts)| Some((below(path)?, facts.clone())));
            named.filter(|(path, _)| path.starts_with("srv") || path.starts_with("etc/motd")).collect()
        };
        let (wanted, found) = (kept(&before.deltas[&before.live]), kept(&delta(host, id, live)));
        assert_eq!(wanted.len(), 6, "{case}: {wanted:?}");
        assert!(
            wanted.iter().all(|entry| found.contains(entry)),
            "{case}: {wanted:?} was to be kept, {found:?}"
        );
        let saved = found.iter().filter(|(path, _)| path.ends_with(".template-new")).count();
        assert!(saved <= 1, "{case}: what was kept twice is saved twice: {found:?}");
    }
    whole(host, id, runs, case);
    verdict
}

/// What holds of every container at every time between two operations.
pub fn whole(host: &TestHost, id: &ContainerId, runs: bool, case: &str) {
    let area = host.area(id);
    let live = GenerationNumber::new(host.live(id));
    let record = area.generation(live).unwrap();
    let conf = area.conf().unwrap();
    if record.ostemplate.is_some() {
        assert_eq!(conf.get("OSTEMPLATE"), record.ostemplate, "{case}: ve.conf does not follow live");
    }
    assert_eq!(conf.get("DISTRIBUTION"), record.distribution, "{case}: ve.conf does not follow live");
    for path in host.snapshot(area.path()).keys() {
        assert!(!path.contains(".reroot-tmp."), "{case}: {path} is left");
    }
    let known = ["area.json", "generations", "live", "root", "scripts", "ve.conf"];
    for entry in std::fs::read_dir(area.path()).unwrap().flatten() {
        assert!(
            known.iter().any(|name| entry.file_name() == *name),
            "{case}: {:?} is left",
            entry.file_name()
        );
    }
    assert_eq!(host.host().find("web01").unwrap(), *id, "{case}: its name is lost");
    let world = host.fake().world();
    assert_eq!(world.violations, Vec::<String>::new(), "{case}");
    let container = host.container(id);
    assert!(!container.is_scripted, "{case}: a script of the host goes on");
    let Some(running) = &container.running else {
        assert!(!runs, "{case}: it does not run");
        assert!(container.mounts.is_empty(), "{case}: stopped, and {:?} is mounted", container.mounts);
        return;
    };
    assert!(runs, "{case}: it runs");
    assert_eq!(running.generation, live.get(), "{case}: another root runs than is live");
    assert!(!running.is_probation, "{case}: it is on probation for ever");
    let mut chain =
        store::GenerationRecord::chain(&area, live).unwrap().into_iter().map(GenerationNumber::get);
    chain.next();
    assert_eq!(running.old, chain.collect::<Vec<_>>(), "{case}: at /old is not what its records say");
    for (depth, number) in std::iter::once(&running.generation).chain(&running.old).enumerate() {
        let mounted = &container.mounts[number];
        assert_eq!(mounted.is_read_only, depth > 1, "{case}: generation {number}, {depth} deep");
    }
    for number in container.mounts.keys() {
        let directory = area.generation_dir(GenerationNumber::new(*number));
        assert!(directory.exists(), "{case}: generation {number} was deleted while it was mounted");
    }
}

/// A recovery of what needs none changes nothing.
pub fn recovery_is_idle(host: &TestHost, id: &ContainerId, case: &str) {
    let everything = || {
        let mut files = host.snapshot(&host.prefix.private_dir());
        files.extend(host.snapshot(&host.prefix.etc_vz()));
        (files, host.fake().world())
    };
    let before = everything();
    host.host()
        .open(&id.to_string())
        .map(drop)
        .unwrap_or_else(|error| panic!("{case}: second recovery: {error}"));
    let results = recover::recover_all(&host.host()).unwrap();
    assert!(results.iter().all(|result| result.failure.is_none()), "{case}: {results:?}");
    assert_eq!(everything(), before, "{case}: a second recovery has changed something");
}
