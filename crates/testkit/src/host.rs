//! A host in a temporary directory: two templates, the engine over a fake runtime, and an observer that remembers.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use engine::event::{Event, What};
use engine::operation::{create, reinstall};
use engine::{Host, Observer, Result};
use store::template::{self, Template, TemplateRecord};
use store::{Area, ContainerId, GenerationNumber, Prefix};
use tempfile::TempDir;

use crate::fake_runtime::{FakeContainer, FakeRuntime};
use crate::fake_script::put;

/// What the observers of a host were told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// A step, and its words.
    Step(String, String),
    /// A script, and a line of it.
    Line(String, String),
    /// A warning.
    Warning(String),
    /// A note.
    Note(String),
}

#[derive(Debug)]
struct Recorder(Rc<RefCell<Vec<Told>>>);

impl Observer for Recorder {
    fn event(&mut self, event: &Event) {
        let told = match &event.what {
            What::Step { step, text } if !text.is_empty() => Told::Step(step.clone(), text.clone()),
            What::Script { script, line } => Told::Line(script.clone(), line.clone()),
            What::Warning { text } | What::Interrupted { text } => Told::Warning(text.clone()),
            What::Note { text } => Told::Note(text.clone()),
            What::Begin { .. }
            | What::Step { .. }
            | What::Progress { .. }
            | What::OutOfMemory { .. }
            | What::LeftOut { .. }
            | What::ScriptEnd { .. }
            | What::Failed { .. }
            | What::Revert { .. }
            | What::Report(_)
            | What::End { .. } => return,
        };
        self.0.borrow_mut().push(told);
    }
}

/// A host of its own.
#[derive(Debug)]
pub struct TestHost {
    /// Where it lies.
    pub prefix: Prefix,
    /// Gone with this; `None` for a second process over the same prefix.
    _directory: Option<TempDir>,
    told: Rc<RefCell<Vec<Told>>>,
}

impl Default for TestHost {
    fn default() -> TestHost {
        TestHost::new()
    }
}

impl TestHost {
    /// With the templates `mini` and `maxi` (another distribution, with a machine-id and a package manager), and no container.
    pub fn new() -> TestHost {
        assert!(
            rustix::process::geteuid().is_root(),
            "these tests make files of user 0: run them as root or with `unshare -r cargo test`"
        );
        // A memory filesystem has no disk to wait for.
        let memory = Path::new("/dev/shm");
        let directory =
            if store::file_system_of(memory) == "tmpfs" { TempDir::new_in(memory) } else { TempDir::new() };
        let directory = directory.expect("a temporary directory");
        let prefix = Prefix::new(directory.path()).expect("a directory");
        prefix.ensure().expect("an empty prefix can be prepared");
        let host = TestHost { prefix, _directory: Some(directory), told: Rc::default() };
        host.publish("mini", 1, false, &[]);
        host.publish("maxi", 1, true, &[("etc/machine-id", "0123\n"), ("usr/bin/apt-get", "apt-get\n")]);
        host
    }

    /// Another process's view of the host at `prefix`.
    pub fn at(prefix: &Path) -> TestHost {
        let prefix = Prefix::new(prefix).expect("the prefix of another process");
        TestHost { prefix, _directory: None, told: Rc::default() }
    }

    /// An engine, as a process of its own has it.
    pub fn host(&self) -> Host {
        Host {
            prefix: self.prefix.clone(),
            runtime: Box::new(FakeRuntime::new(&self.prefix)),
            observer: RefCell::new(Box::new(Recorder(self.told.clone()))),
            log: RefCell::default(),
            command: "a test".to_owned(),
            lock_wait: Duration::ZERO,
        }
    }

    /// What "runs".
    pub fn fake(&self) -> FakeRuntime {
        FakeRuntime::new(&self.prefix)
    }

    /// What observers were told since this was last asked.
    pub fn told(&self) -> Vec<Told> {
        std::mem::take(&mut self.told.borrow_mut())
    }

    /// Publishes a template of a few files, and more.
    pub fn publish(&self, name: &str, version: u32, is_systemd: bool, more: &[(&str, &str)]) -> Template {
        let name = name.parse().expect("a template's name");
        let staging = template::staging(&self.prefix, &name).expect("a template can be staged");
        let files = [
            ("sbin/init", "init\n"),
            ("bin/sh", "sh\n"),
            ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/:/bin/sh\n"),
            ("etc/group", "root:x:0:\ndaemon:x:1:\n"),
            ("etc/shadow", "root:*:19000:0:99999:7:::\ndaemon:*:19000:0:99999:7:::\n"),
            ("etc/login.defs", "UID_MIN 1000\nGID_MIN 1000\n"),
        ];
        for (path, text) in files.iter().chain(more) {
            put(&staging.rootfs().join(path), text.as_bytes());
        }
        std::fs::create_dir(staging.rootfs().join("home")).expect("a new directory");
        let release = staging.rootfs().join("etc/release");
        put(&release, format!("{name} {version}\n").as_bytes());
        let digest: String = format!("{name}").bytes().map(|byte| format!("{byte:02x}")).collect();
        let record = TemplateRecord {
            format: TemplateRecord::FORMAT,
            digest: format!("{digest}{version:08x}"),
            source: "a test".to_owned(),
            created: jiff::Timestamp::now(),
            distribution: format!("{name}-linux"),
            release: Some(version.to_string()),
            architecture: "amd64".to_owned(),
            init: "/sbin/init".to_owned(),
            stop_signal: "SIGTERM".to_owned(),
            size_bytes: 1,
            disk_bytes: None,
            entries: 1,
            systemd: is_systemd,
            application: None,
            own_files: Vec::new(),
            origin: None,
            name,
        };
        staging.publish(record).expect("a template can be published")
    }

    /// Writes a script into `/etc/vz/conf`, or one that is named `*.sh` into `reinstall.d`; see `fake_script`.
    pub fn script(&self, name: &str, text: &str) -> PathBuf {
        let directory =
            if name.ends_with(".sh") { self.prefix.reinstall_d() } else { self.prefix.conf_dir() };
        let path = directory.join(name);
        let _ = std::fs::remove_file(&path);
        let mut file = std::fs::File::options()
            .write(true)
            .create_new(true)
            .mode(0o700)
            .open(&path)
            .expect("a new script");
        std::io::Write::write_all(&mut file, format!("#!/bin/fake\n{text}\n").as_bytes())
            .expect("a new script");
        path
    }

    /// Removes every script.
    pub fn without_scripts(&self) {
        for name in ["vps.reinstall", "vps.configure"] {
            let _ = std::fs::remove_file(self.prefix.conf_dir().join(name));
        }
        for entry in std::fs::read_dir(self.prefix.reinstall_d()).expect("a directory of ours").flatten() {
            let _ = std::fs::remove_file(entry.path());
        }
    }

    /// Creates a container from `mini`.
    pub fn create(&self, name: &str) -> ContainerId {
        create::create(&self.host(), &create_options(name)).expect("a container can be created")
    }

    /// Creates one and starts it.
    pub fn create_running(&self, name: &str) -> ContainerId {
        let id = self.create(name);
        self.start(&id);
        id
    }

    /// Starts one.
    pub fn start(&self, id: &ContainerId) {
        self.host().open(&id.to_string()).and_then(|container| container.start()).expect("it can be started");
    }

    /// Stops one.
    pub fn stop(&self, id: &ContainerId) {
        let host = self.host();
        let container = host.open(&id.to_string()).expect("it can be opened");
        container.stop(Duration::from_secs(1), false).expect("it can be stopped");
    }

    /// Reinstalls one.
    ///
    /// # Errors
    /// As the engine's.
    pub fn reinstall(
        &self,
        id: &ContainerId,
        options: &reinstall::Options,
    ) -> Result<reinstall::Reinstalled> {
        let host = self.host();
        let container = host.open(&id.to_string())?;
        reinstall::reinstall(&container, options)
    }

    /// Its private area, without a lock.
    pub fn area(&self, id: &ContainerId) -> Area {
        Area::open(&self.prefix, id).expect("the area of a container")
    }

    /// Which root is live.
    pub fn live(&self, id: &ContainerId) -> u32 {
        self.area(id).live().expect("a live generation").get()
    }

    /// Which roots there are.
    pub fn generations(&self, id: &ContainerId) -> Vec<u32> {
        let numbers = self.area(id).generation_numbers().expect("the generations of a container");
        numbers.into_iter().map(GenerationNumber::get).collect()
    }

    /// A value of its `ve.conf`.
    pub fn value(&self, id: &ContainerId, key: &str) -> Option<String> {
        self.area(id).conf().expect("the configuration of a container").get(key)
    }

    /// Where a file of a root is, or would be, in its delta.
    pub fn delta(&self, id: &ContainerId, number: u32, path: &str) -> PathBuf {
        self.area(id).generation_dir(GenerationNumber::new(number)).join("delta").join(path)
    }

    /// The fake's word on a container.
    pub fn container(&self, id: &ContainerId) -> FakeContainer {
        self.fake().container(id)
    }

    /// Every file below `path` of the prefix: its kind, mode, and what is in it.
    pub fn snapshot(&self, path: &Path) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        let mut rest = vec![path.to_owned()];
        while let Some(directory) = rest.pop() {
            let Ok(entries) = std::fs::read_dir(&directory) else { continue };
            for entry in entries.flatten() {
                let path = entry.path();
                let Ok(facts) = path.symlink_metadata() else { continue };
                let contents = if facts.is_dir() {
                    rest.push(path.clone());
                    String::new()
                } else if facts.is_symlink() {
                    std::fs::read_link(&path).map(|target| target.display().to_string()).unwrap_or_default()
                } else {
                    std::fs::read(&path)
                        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
                        .unwrap_or_default()
                };
                let name = path.strip_prefix(self.prefix.root()).unwrap_or(&path).display().to_string();
                found.insert(name, format!("{:o} {contents}", facts.mode()));
            }
        }
        found
    }
}

/// From `mini`.
pub fn create_options(name: &str) -> create::Options {
    create::Options {
        passwords: Vec::new(),
        name: name.parse().expect("a container's name"),
        id: None,
        number: None,
        user_data: None,
        template: Some("mini".parse().expect("a template's name")),
        sample: None,
        changes: Vec::new(),
        addresses: engine::addresses::AddressChange::default(),
        attachments: engine::attachments::AttachmentChange::default(),
        interfaces: engine::interfaces::InterfaceChange::default(),
        volume: None,
    }
}

/// A reinstall with no options.
pub fn reinstall_options() -> reinstall::Options {
    reinstall::Options {
        skip_backup: false,
        skip_scripts: false,
        scripts: Vec::new(),
        scripts_from_old: false,
        reset_passwords: false,
        keep: Vec::new(),
        keep_changed: Vec::new(),
        user_data: None,
        password: None,
        health: None,
        allow_degraded: false,
        skip_applications: false,
        probation_network: engine::Probation::default(),
        drop_failed: false,
        template: None,
        timeout: 10,
        stop_timeout: 1,
    }
}
