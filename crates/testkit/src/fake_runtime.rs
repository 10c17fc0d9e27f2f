//! Containers that only seem to run.
//!
//! All there is to know of them is a [`World`], a JSON file in the prefix: it survives the process, so that a test can kill a command in the
//! middle and look, from another process, at what "runs". It models what the engine relies on: which generation runs and what it sees at
//! `/old`, which generations are mounted and whether their superblock can be written to, probation, a script of the host that is still under
//! way. A [`Fault`] makes the nth call of a method fail, or kill the process, before or after its effect.
//!
//! What no caller may do (start what runs, unmount what is seen) is a *violation*, kept in the world for the test to find.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::time::Duration;

use engine::fault;
use engine::runtime::{
    InnerScript, Life, OuterScript, Patience, Root, Run, Runtime, RuntimeError, RuntimeErrorKind,
    RuntimeResult, Sink, Start,
};
use linux::Exit;
use serde::{Deserialize, Serialize};
use store::{ContainerId, GenerationNumber, IdRange, Prefix};
use tempfile::TempDir;

use crate::fake_script::{self, Ended, Place};

/// Every method that can be told to fail.
pub const METHODS: [&str; 14] = [
    "start",
    "wait_until_up",
    "settle",
    "stop",
    "kill",
    "wait_until_gone",
    "replace_old",
    "set_read_only",
    "unmount",
    "unmount_all",
    "look",
    "run_outside",
    "kill_outside",
    "run_inside",
];

/// Those of them that wait for somebody else, and for how long at most: what comes of it when the fault point before them says so.
const WAITING: [(&str, How); 8] = [
    ("start", How::ErrorBefore),
    ("wait_until_up", How::ErrorBefore),
    ("settle", How::ErrorAfter),
    // Killed after its time, it has stopped.
    ("stop", How::EndsLate),
    ("kill", How::ErrorBefore),
    ("wait_until_gone", How::ErrorBefore),
    ("replace_old", How::ErrorAfter),
    ("kill_outside", How::ErrorBefore),
];

/// How a call goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum How {
    /// It says no, and nothing has happened.
    ErrorBefore,
    /// It has happened, and it says no.
    ErrorAfter,
    /// The process dies, and nothing has happened.
    KillBefore,
    /// It has happened, and the process dies.
    KillAfter,
    /// It says yes, and the container goes down by itself.
    GoesDown,
    /// The same, and it does not start again.
    GoesDownForGood,
    /// It has happened, when its time was over.
    EndsLate,
}

/// The call that goes wrong; once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// One of [`METHODS`].
    pub method: String,
    /// Which of its calls, from 1.
    pub call: u32,
    /// How.
    pub how: How,
}

/// A mounted generation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mounted {
    /// Its superblock cannot be written to.
    pub is_read_only: bool,
    /// Its template's root.
    pub template: Option<PathBuf>,
}

/// A container that runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// Its root.
    pub generation: u32,
    /// What is at `/old`, `/old/old`, …
    pub old: Vec<u32>,
    /// On probation.
    pub is_probation: bool,
    /// Counts the starts, as a pid would.
    pub init: i32,
    /// When it was started.
    pub started: jiff::Timestamp,
}

/// What is known of one container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FakeContainer {
    /// It runs.
    pub running: Option<Running>,
    /// What is mounted.
    pub mounts: BTreeMap<u32, Mounted>,
    /// Generations of which its processes have moved a view elsewhere.
    pub held: BTreeSet<u32>,
    /// A script of the host is under way, or has left something running.
    pub is_scripted: bool,
    /// No start of it succeeds.
    pub is_broken: bool,
}

impl FakeContainer {
    fn sees(&self, number: u32) -> bool {
        self.running.as_ref().is_some_and(|run| {
            run.generation == number || run.old.contains(&number) || self.held.contains(&number)
        })
    }

    fn go_down(&mut self) {
        self.running = None;
        self.held.clear();
    }
}

/// Everything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct World {
    /// The containers, by id.
    pub containers: BTreeMap<String, FakeContainer>,
    /// How often each method was called.
    pub counts: BTreeMap<String, u32>,
    /// Each call, in words.
    pub calls: Vec<String>,
    /// What is to go wrong.
    pub fault: Option<Fault>,
    /// Calls that have waited until their time was over.
    pub hung: Vec<String>,
    /// What no caller may do, and did.
    pub violations: Vec<String>,
    /// How many starts there were.
    pub starts: i32,
}

/// See the module.
#[derive(Debug)]
pub struct FakeRuntime {
    prefix: Prefix,
    /// What `look` has made; gone with this.
    looks: RefCell<Vec<TempDir>>,
}

fn refused(kind: RuntimeErrorKind, because: impl Into<String>) -> RuntimeError {
    RuntimeError { because: because.into(), console: String::new(), kind }
}

fn die() -> ! {
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    unreachable!("SIGKILL is not survived")
}

/// Why a file that is a volume cannot be used.
fn unusable(error: &std::io::Error) -> RuntimeError {
    refused(RuntimeErrorKind::Other, error.to_string())
}

fn set_size(image: &Path, size: u64) -> RuntimeResult<()> {
    let file = std::fs::OpenOptions::new().write(true).open(image);
    file.and_then(|file| file.set_len(size)).map_err(|error| unusable(&error))
}

impl FakeRuntime {
    /// A directory does for a filesystem of its own.
    fn volume(&self, id: &ContainerId) -> PathBuf {
        store::volume::mount_point(&self.prefix, id)
    }

    /// Over the prefix of a test.
    pub fn new(prefix: &Prefix) -> FakeRuntime {
        FakeRuntime { prefix: prefix.clone(), looks: RefCell::new(Vec::new()) }
    }

    fn file(&self) -> PathBuf {
        self.prefix.root().join("fake-runtime.json")
    }

    /// What there is.
    pub fn world(&self) -> World {
        match std::fs::read(self.file()) {
            Ok(bytes) => serde_json::from_slice(&bytes).expect("the world is only written by us"),
            Err(_) => World::default(),
        }
    }

    /// Renamed into its place, so that a kill leaves no half of one; not synced, since only processes die here.
    #[expect(clippy::disallowed_methods, reason = "no power cut is survived by this file, nor has it to be")]
    fn store(&self, world: &World) {
        let bytes = serde_json::to_vec(world).expect("plain numbers and strings");
        let next = self.prefix.root().join("fake-runtime.next");
        std::fs::write(&next, bytes).expect("the prefix of a test can be written to");
        std::fs::rename(next, self.file()).expect("the prefix of a test can be written to");
    }

    /// Changes the world from outside.
    pub fn change(&self, change: impl FnOnce(&mut World)) {
        let mut world = self.world();
        change(&mut world);
        self.store(&world);
    }

    /// What is known of a container.
    pub fn container(&self, id: &ContainerId) -> FakeContainer {
        self.world().containers.remove(&id.to_string()).unwrap_or_default()
    }

    /// Lets the `call`th call from now on go wrong.
    pub fn fail(&self, method: &str, call: u32, how: How) {
        assert!(METHODS.contains(&method), "`{method}` is no method of a runtime");
        self.change(|world| {
            let before = world.counts.get(method).copied().unwrap_or(0);
            world.fault = Some(Fault { method: method.to_owned(), call: before + call, how });
        });
    }

    /// The host loses its power: nothing runs, nothing is mounted.
    pub fn lose_power(&self) {
        self.change(|world| world.containers.clear());
    }

    /// One call: recorded, perhaps gone wrong, else done.
    fn call<T>(
        &self,
        id: &ContainerId,
        method: &'static str,
        words: &str,
        work: impl FnOnce(&mut World) -> RuntimeResult<T>,
    ) -> RuntimeResult<T> {
        let mut world = self.world();
        let count = world.counts.entry(method.to_owned()).or_default();
        *count += 1;
        let count = *count;
        world.calls.push(format!("{method} {words}").trim_end().to_owned());
        let how =
            world.fault.take_if(|fault| fault.method == method && fault.call == count).map(|fault| fault.how);
        let waits = WAITING.iter().find(|(waiting, _)| *waiting == method && fault::hangs());
        if waits.is_some() {
            world.hung.push(method.to_owned());
        }
        let how = how.or_else(|| waits.map(|(_, how)| *how));
        let said_no = || refused(RuntimeErrorKind::Other, format!("a test wants `{method}` to fail"));
        if how.is_some() {
            self.store(&world);
        }
        match how {
            Some(How::ErrorBefore) => return Err(said_no()),
            Some(How::KillBefore) => die(),
            Some(How::ErrorAfter | How::KillAfter | How::GoesDown | How::GoesDownForGood | How::EndsLate)
            | None => {}
        }
        let result = work(&mut world);
        if matches!(how, Some(How::GoesDown | How::GoesDownForGood)) {
            let known = container(&mut world, id);
            known.go_down();
            known.is_broken = how == Some(How::GoesDownForGood);
        }
        self.store(&world);
        match how {
            Some(How::ErrorAfter) => Err(said_no()),
            Some(How::KillAfter) => die(),
            Some(_) | None => result,
        }
    }

    /// A script that is told to hang has done all that it does, and never ends.
    fn hangs(&self, method: &str) -> bool {
        if fault::hangs() {
            self.change(|world| world.hung.push(method.to_owned()));
        }
        fault::hangs()
    }

    fn mount(&self, container: &mut FakeContainer, root: &Root, is_read_only: bool) -> RuntimeResult<()> {
        if !root.layers.generation.join("delta").is_dir() {
            let path = root.layers.generation.display();
            return Err(refused(RuntimeErrorKind::Other, format!("cannot mount {path}: no such directory")));
        }
        if root.layers.template.as_ref().is_some_and(|template| !template.is_dir()) {
            return Err(refused(RuntimeErrorKind::Other, "cannot mount: the template is gone"));
        }
        // As overlayfs does at its first mount.
        let _ = std::fs::create_dir(root.layers.generation.join("work/work"));
        let mounted = Mounted { is_read_only, template: root.layers.template.clone() };
        container.mounts.insert(root.number.get(), mounted);
        Ok(())
    }
}

fn container<'a>(world: &'a mut World, id: &ContainerId) -> &'a mut FakeContainer {
    world.containers.entry(id.to_string()).or_default()
}

fn not_running() -> RuntimeError {
    refused(RuntimeErrorKind::NotRunning, "it does not run")
}

impl Runtime for FakeRuntime {
    fn life(&self, id: &ContainerId) -> Life {
        self.running(id).map_or(Life::Stopped, Life::Running)
    }

    fn running(&self, id: &ContainerId) -> Option<Run> {
        let running = self.container(id).running?;
        Some(Run {
            generation: GenerationNumber::new(running.generation),
            init: running.init,
            started: running.started,
            monitor: None,
            is_systemd: false,
            is_application: false,
        })
    }

    fn start(&self, start: &Start, _said: &mut dyn FnMut(&str, &[u8])) -> RuntimeResult<Vec<String>> {
        let id = start.id;
        let numbers: Vec<u32> = start.roots.iter().map(|root| root.number.get()).collect();
        let words = format!("{numbers:?}{}", if start.is_probation { " on probation" } else { "" });
        self.call(&id, "start", &words, |world| {
            if container(world, &id).is_broken {
                return Err(refused(RuntimeErrorKind::Other, "its init exited with 1"));
            }
            world.starts += 1;
            let init = world.starts;
            if container(world, &id).running.is_some() {
                world.violations.push(format!("start {words} of a container that runs"));
            }
            let known = container(world, &id);
            for (depth, root) in start.roots.iter().enumerate() {
                self.mount(known, root, depth > 1 || (depth == 1 && start.is_probation))?;
            }
            // Every root writes something when it comes up.
            fake_script::put(&start.roots[0].layers.generation.join("delta/booted"), b"yes\n");
            known.running = Some(Running {
                generation: numbers[0],
                old: numbers[1..].to_vec(),
                is_probation: start.is_probation,
                init,
                started: jiff::Timestamp::now(),
            });
            Ok(Vec::new())
        })
    }

    fn wait_until_up(&self, id: &ContainerId, _limit: Duration) -> RuntimeResult<()> {
        self.call(id, "wait_until_up", "", |world| {
            container(world, id).running.as_ref().map(|_| ()).ok_or_else(not_running)
        })
    }

    fn settle(&self, id: &ContainerId) -> RuntimeResult<Vec<String>> {
        self.call(id, "settle", "", |world| {
            if let Some(running) = &mut container(world, id).running {
                running.is_probation = false;
            }
            Ok(Vec::new())
        })
    }

    fn stop(&self, id: &ContainerId, _patience: Patience, keeps_mounts: bool) -> RuntimeResult<Vec<String>> {
        self.call(id, "stop", if keeps_mounts { "keeping mounts" } else { "" }, |world| {
            let known = container(world, id);
            if known.running.is_some() {
                known.go_down();
                if !keeps_mounts {
                    known.mounts.clear();
                }
            }
            Ok(Vec::new())
        })
    }

    fn kill(&self, id: &ContainerId) -> RuntimeResult<()> {
        self.call(id, "kill", "", |world| {
            container(world, id).go_down();
            Ok(())
        })
    }

    fn wait_until_gone(&self, id: &ContainerId) -> RuntimeResult<()> {
        self.call(id, "wait_until_gone", "", |_| Ok(()))
    }

    fn replace_old(&self, id: &ContainerId, _ids: IdRange, roots: &[Root]) -> RuntimeResult<Vec<String>> {
        let numbers: Vec<u32> = roots.iter().map(|root| root.number.get()).collect();
        self.call(id, "replace_old", &format!("{numbers:?}"), |world| {
            let known = container(world, id);
            if known.running.is_none() {
                return Err(not_running());
            }
            for (depth, root) in roots.iter().enumerate() {
                self.mount(known, root, depth > 0)?;
            }
            if let Some(running) = &mut known.running {
                running.old = numbers.clone();
            }
            Ok(Vec::new())
        })
    }

    fn set_read_only(
        &self,
        id: &ContainerId,
        number: GenerationNumber,
        is_read_only: bool,
    ) -> RuntimeResult<()> {
        let words = format!("{number} {}", if is_read_only { "read-only" } else { "writable" });
        self.call(id, "set_read_only", &words, |world| {
            if let Some(mounted) = container(world, id).mounts.get_mut(&number.get()) {
                mounted.is_read_only = is_read_only;
            }
            Ok(())
        })
    }

    fn unmount(&self, id: &ContainerId, number: GenerationNumber) -> RuntimeResult<()> {
        self.call(id, "unmount", &number.to_string(), |world| {
            if container(world, id).sees(number.get()) {
                world.violations.push(format!("unmount of generation {number}, which the container sees"));
            }
            container(world, id).mounts.remove(&number.get());
            Ok(())
        })
    }

    fn unmount_all(&self, id: &ContainerId) -> RuntimeResult<()> {
        self.call(id, "unmount_all", "", |world| {
            if container(world, id).running.is_some() {
                world.violations.push("unmount_all of a container that runs".to_owned());
            }
            container(world, id).mounts.clear();
            Ok(())
        })
    }

    fn is_in_use(&self, id: &ContainerId, number: GenerationNumber) -> bool {
        self.container(id).sees(number.get())
    }

    fn look(&self, id: &ContainerId, root: &Root) -> RuntimeResult<tree::Root> {
        self.call(id, "look", &root.number.to_string(), |_| {
            let looks = self.prefix.root().join("looks");
            let _ = std::fs::create_dir(&looks);
            let merged = TempDir::new_in(&looks).expect("the prefix of a test can be written to");
            if let Some(template) = &root.layers.template {
                fake_script::copy_tree(template, merged.path());
            }
            fake_script::copy_tree(&root.layers.generation.join("delta"), merged.path());
            let look = tree::Root::open(merged.path())
                .map_err(|error| refused(RuntimeErrorKind::Other, error.to_string()))?;
            self.looks.borrow_mut().push(merged);
            Ok(look)
        })
    }

    fn run_outside(
        &self,
        id: &ContainerId,
        script: &OuterScript<'_>,
        sink: Sink<'_>,
    ) -> RuntimeResult<Option<Exit>> {
        // It is under way from here on, also for whoever looks after this process was killed.
        self.change(|world| container(world, id).is_scripted = true);
        let result = self.call(id, "run_outside", "", |_| {
            let text = fake_script::read(script.file);
            let environment = script
                .environment
                .iter()
                .map(|(key, value)| (key.clone(), value.to_string_lossy().into_owned()))
                .collect();
            let place = Place::Outside { shown: &script.shown.layers, arguments: &script.arguments };
            fake_script::run(&text, &environment, &place, sink)
        });
        // Whatever it has left is killed with it.
        self.change(|world| container(world, id).is_scripted = false);
        let ended = result?;
        if self.hangs("run_outside") {
            return Ok(None);
        }
        match ended {
            Ended::Exit(exit) => Ok(Some(exit)),
            Ended::OutOfTime | Ended::Halted => Ok(None),
            Ended::Held(_) => Ok(Some(Exit::Code(0))),
        }
    }

    fn make_volume(
        &self,
        id: &ContainerId,
        image: &Path,
        size: u64,
        _inodes: Option<u64>,
    ) -> RuntimeResult<PathBuf> {
        self.call(id, "make_volume", "", |_| {
            let made = std::fs::File::create_new(image).and_then(|file| file.set_len(size));
            made.and_then(|()| std::fs::create_dir_all(self.volume(id))).map_err(|error| unusable(&error))?;
            Ok(self.volume(id))
        })
    }

    fn mount_volume(&self, id: &ContainerId, image: &Path) -> RuntimeResult<()> {
        self.call(id, "mount_volume", "", |_| image.metadata().map(drop).map_err(|error| unusable(&error)))
    }

    fn release_reserve(&self, _id: &ContainerId) -> RuntimeResult<()> {
        Ok(())
    }

    fn unmount_volume(&self, _id: &ContainerId) {}

    fn let_volume_go(&self, id: &ContainerId) {
        let run = self.prefix.run_dir_of(id);
        if let Ok(run) = store::atomic::open_directory(&run) {
            let _ = tree::remove_entry(std::os::fd::AsFd::as_fd(&run), "volume".as_ref());
        }
    }

    fn grow_volume(&self, id: &ContainerId, image: &Path, size: u64) -> RuntimeResult<()> {
        self.call(id, "grow_volume", "", |_| set_size(image, size))
    }

    fn remake_volume(&self, id: &ContainerId, image: &Path, size: u64) -> RuntimeResult<()> {
        self.call(id, "remake_volume", "", |_| set_size(image, size))
    }

    fn compact_volume(&self, id: &ContainerId, _image: &Path) -> RuntimeResult<()> {
        self.call(id, "compact_volume", "", |_| Ok(()))
    }

    fn kill_outside(&self, id: &ContainerId) -> RuntimeResult<()> {
        self.call(id, "kill_outside", "", |world| {
            container(world, id).is_scripted = false;
            Ok(())
        })
    }

    fn run_inside(
        &self,
        id: &ContainerId,
        script: &InnerScript<'_>,
        sink: Sink<'_>,
    ) -> RuntimeResult<Option<Exit>> {
        let exit = self.call(id, "run_inside", "", |world| {
            let known = container(world, id);
            let running = known.running.clone().ok_or_else(not_running)?;
            let environment: HashMap<String, String> = script.environment.iter().cloned().collect();
            let directory = self.prefix.area_dir(id).join("generations");
            let place = Place::Inside { generations: &directory, running: &running, mounts: &known.mounts };
            let text: Cow<'_, str> = match environment.get("PACKAGES") {
                // What it executes then is a package manager.
                Some(names) => names.split(' ').map(|name| format!("write /opt/{name} yes\n")).collect(),
                None => String::from_utf8_lossy(script.text),
            };
            match fake_script::run(&text, &environment, &place, sink)? {
                Ended::Exit(exit) => Ok(Some(exit)),
                Ended::OutOfTime => Ok(None),
                Ended::Halted => {
                    known.go_down();
                    Ok(Some(Exit::Signal(9)))
                }
                Ended::Held(number) => {
                    known.held.insert(number);
                    Ok(Some(Exit::Code(0)))
                }
            }
        })?;
        Ok(exit.filter(|_| !self.hangs("run_inside")))
    }
}

/// The root of a mounted generation as a path: where a file of it is, or would be.
pub(crate) fn delta(generations: &Path, number: u32) -> PathBuf {
    generations.join(number.to_string()).join("delta")
}
