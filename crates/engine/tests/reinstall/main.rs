//! Reinstall, undo and switch as their callers see them: what is live afterwards, what is at `/old`, what runs, what is said.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed, and says where")]

mod password;
mod recovery;
mod refusals;
mod roots;
mod scripts;
mod users;

use engine::operation::{forget, reinstall, switch};
use engine::{Code, Failure, recover};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use store::{Base, ContainerId, GenerationNumber, GenerationState, Lock, LockName, Reason};
use testkit::How;
use testkit::fake_script::put;
use testkit::host::{TestHost, Told, reinstall_options};

/// What runs: its root, and what it sees at `/old`, `/old/old`, …
pub fn runs(host: &TestHost, id: &ContainerId) -> Option<(u32, Vec<u32>)> {
    host.container(id).running.map(|running| (running.generation, running.old))
}

pub fn is_read_only(host: &TestHost, id: &ContainerId, number: u32) -> bool {
    host.container(id).mounts[&number].is_read_only
}

pub fn parent(host: &TestHost, id: &ContainerId, number: u32) -> Option<u32> {
    host.area(id).generation(GenerationNumber::new(number)).unwrap().parent.map(GenerationNumber::get)
}

pub fn state(host: &TestHost, id: &ContainerId, number: u32) -> GenerationState {
    host.area(id).generation(GenerationNumber::new(number)).unwrap().state
}

pub fn read(host: &TestHost, id: &ContainerId, number: u32, path: &str) -> Option<String> {
    std::fs::read_to_string(host.delta(id, number, path)).ok()
}

pub fn lines(told: &[Told]) -> Vec<&str> {
    told.iter()
        .filter_map(|told| match told {
            Told::Line(_, line) => Some(line.as_str()),
            Told::Step(..) | Told::Warning(_) | Told::Note(_) => None,
        })
        .collect()
}

pub fn steps(told: &[Told]) -> Vec<&str> {
    told.iter()
        .filter_map(|told| match told {
            Told::Step(name, _) => Some(name.as_str()),
            Told::Line(..) | Told::Warning(_) | Told::Note(_) => None,
        })
        .collect()
}

/// The calls that change something, since `before` of them.
pub fn calls_since(host: &TestHost, before: usize) -> Vec<String> {
    host.fake().world().calls.split_off(before).into_iter().filter(|call| !call.starts_with("look")).collect()
}

pub fn plain(host: &TestHost, id: &ContainerId) -> reinstall::Reinstalled {
    host.reinstall(id, &reinstall_options()).unwrap()
}

pub fn undo(host: &TestHost, id: &ContainerId) -> engine::Result<switch::Switched> {
    let engine = host.host();
    let container = engine.open(&id.to_string())?;
    switch::undo(&container, 10, 1)
}

pub fn switch_to(host: &TestHost, id: &ContainerId, to: u32) -> engine::Result<switch::Switched> {
    let engine = host.host();
    let container = engine.open(&id.to_string())?;
    switch::switch(&container, GenerationNumber::new(to), "cannot switch `web01`", 10, 1)
}
