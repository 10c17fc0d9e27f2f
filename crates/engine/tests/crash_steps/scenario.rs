//! What is done to a container, from which state, and what it must have come to when it has happened.
//!
//! Every one begins with generations 1, 2 and 3, each the parent of the next, and 3 live; or 2, where it has gone back before.

use engine::operation::{flatten, forget, reinstall, switch};
use engine::{Host, Result};
use store::{ContainerId, GenerationNumber};
use testkit::host::reinstall_options;
use testkit::{How, TestHost};

/// What it changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// A new generation is live; the old one is kept, or not.
    Reinstall { discards: bool },
    /// That one is live.
    Switch(u32),
    /// That one is gone.
    Forget(u32),
    /// A new generation that needs no template is live instead of the old one.
    Flatten,
}

/// See the module.
#[derive(Debug, Clone, Copy)]
pub struct Scenario {
    pub name: &'static str,
    /// As the engine calls it.
    pub operation: &'static str,
    pub is_running: bool,
    /// 2 is live when it begins.
    pub has_gone_back: bool,
    pub effect: Effect,
    /// The scripts that there are: `(name, text)`.
    pub scripts: &'static [(&'static str, &'static str)],
    /// `--health`.
    pub health: Option<&'static str>,
    /// `REINSTALL_RETAIN`, and which roots it has deleted in the end.
    pub retain: Option<(&'static str, &'static [u32])>,
    /// `--keep`.
    pub keep: &'static [&'static str],
    /// `TEMPLATES` of the old root is installed in the new one.
    pub applications: bool,
    /// What goes wrong in it without any fault of the test's.
    pub breaks: Option<(&'static str, How)>,
    /// It ends with the old root.
    pub fails: bool,
}

const PLAIN: Scenario = Scenario {
    name: "",
    operation: "reinstall",
    is_running: true,
    has_gone_back: false,
    effect: Effect::Reinstall { discards: false },
    scripts: &[],
    health: None,
    retain: None,
    keep: &[],
    applications: false,
    breaks: None,
    fails: false,
};
const BY_SCRIPT: Scenario = Scenario { operation: "reinstall-by-script", ..PLAIN };
const DISCARDS: Effect = Effect::Reinstall { discards: true };
const SWITCH: Scenario = Scenario { operation: "switch", effect: Effect::Switch(2), ..PLAIN };
const FLATTEN: Scenario =
    Scenario { operation: "generation-flatten", effect: Effect::Flatten, keep: KEEP, ..PLAIN };
const FORGET: Scenario = Scenario { operation: "generation-delete", effect: Effect::Forget(2), ..PLAIN };

/// What [`Scenario::prepare`] puts into the live root.
const KEEP: &[&str] = &["/srv", "/etc/motd"];

const CONFIGURE: (&str, &str) =
    ("vps.configure", "need /old/etc/passwd\nneed /old/old/etc/passwd\nwrite /configured yes");
const EXTRA: (&str, &str) = ("10-extra.sh", "need /configured\nwrite /extra yes");
const ALONE: (&str, &str) = ("20-alone.sh", "write /alone yes");
const BAD: (&str, &str) = ("vps.configure", "write /half done\nprint sorry\nexit 3");
const HEALTHY: Option<&str> = Some("need /configured\nwrite /healthy yes");
const BUILD: (&str, &str) = ("vps.reinstall", "copy template\nwrite /built yes");

pub const SCENARIOS: &[Scenario] = &[
    Scenario { name: "running", ..PLAIN },
    Scenario { name: "stopped", is_running: false, ..PLAIN },
    Scenario { name: "configured, running", scripts: &[CONFIGURE, EXTRA], ..PLAIN },
    Scenario { name: "configured, stopped", scripts: &[CONFIGURE, EXTRA], is_running: false, ..PLAIN },
    Scenario { name: "badly configured, running", scripts: &[BAD], fails: true, ..PLAIN },
    Scenario { name: "badly configured, stopped", scripts: &[BAD], fails: true, is_running: false, ..PLAIN },
    Scenario { name: "healthy, running", scripts: &[CONFIGURE], health: HEALTHY, ..PLAIN },
    Scenario { name: "healthy, stopped", health: Some("need /etc/passwd"), is_running: false, ..PLAIN },
    Scenario { name: "unhealthy, running", health: Some("need /none"), fails: true, ..PLAIN },
    Scenario { name: "retaining one, running", retain: Some(("1", &[1, 2])), ..PLAIN },
    Scenario { name: "retaining two, stopped", retain: Some(("2", &[1])), is_running: false, ..PLAIN },
    Scenario {
        name: "retaining one, gone back, discarding",
        retain: Some(("1", &[3])),
        has_gone_back: true,
        effect: DISCARDS,
        ..PLAIN
    },
    Scenario { name: "with applications, running", applications: true, ..PLAIN },
    Scenario { name: "with applications, stopped", applications: true, is_running: false, ..PLAIN },
    Scenario { name: "with applications, discarding", applications: true, effect: DISCARDS, ..PLAIN },
    Scenario {
        name: "with applications that cannot be installed",
        applications: true,
        breaks: Some(("run_inside", How::ErrorBefore)),
        fails: true,
        ..PLAIN
    },
    Scenario { name: "keeping, running", keep: KEEP, ..PLAIN },
    Scenario {
        name: "keeping, discarding, stopped",
        keep: KEEP,
        effect: DISCARDS,
        is_running: false,
        ..PLAIN
    },
    Scenario { name: "discarding, running", effect: DISCARDS, ..PLAIN },
    Scenario { name: "discarding, stopped", effect: DISCARDS, is_running: false, ..PLAIN },
    Scenario { name: "discarding, configured, running", effect: DISCARDS, scripts: &[CONFIGURE], ..PLAIN },
    Scenario {
        name: "discarding, configured, stopped",
        effect: DISCARDS,
        scripts: &[CONFIGURE],
        is_running: false,
        ..PLAIN
    },
    Scenario { name: "discarding what has a root after it", effect: DISCARDS, has_gone_back: true, ..PLAIN },
    Scenario { name: "built, running", scripts: &[BUILD, CONFIGURE], ..BY_SCRIPT },
    Scenario { name: "built, stopped", scripts: &[BUILD], is_running: false, ..BY_SCRIPT },
    Scenario { name: "built, without the applications", scripts: &[BUILD], applications: true, ..BY_SCRIPT },
    Scenario { name: "built, healthy", scripts: &[BUILD, CONFIGURE], health: HEALTHY, ..BY_SCRIPT },
    Scenario { name: "built, keeping", scripts: &[BUILD], keep: KEEP, ..BY_SCRIPT },
    Scenario { name: "built, discarding", scripts: &[BUILD], effect: DISCARDS, ..BY_SCRIPT },
    Scenario {
        name: "declined, running",
        scripts: &[("vps.reinstall", "copy old\nexit 128"), ALONE],
        ..BY_SCRIPT
    },
    Scenario {
        name: "declined, stopped",
        scripts: &[("vps.reinstall", "exit 128")],
        is_running: false,
        ..BY_SCRIPT
    },
    Scenario {
        name: "badly built, running",
        scripts: &[("vps.reinstall", "copy old\nexit 3")],
        fails: true,
        ..BY_SCRIPT
    },
    Scenario {
        name: "badly configured, built",
        scripts: &[BUILD, BAD],
        fails: true,
        is_running: false,
        ..BY_SCRIPT
    },
    Scenario { name: "back, running", ..SWITCH },
    Scenario { name: "back, stopped", is_running: false, ..SWITCH },
    Scenario { name: "forward, running", effect: Effect::Switch(3), has_gone_back: true, ..SWITCH },
    Scenario { name: "far back, running", effect: Effect::Switch(1), ..SWITCH },
    Scenario {
        name: "back, to one that does not start",
        breaks: Some(("wait_until_up", How::ErrorBefore)),
        fails: true,
        ..SWITCH
    },
    Scenario {
        name: "back, stopped, and something is left of it",
        is_running: false,
        breaks: Some(("wait_until_gone", How::ErrorBefore)),
        fails: true,
        ..SWITCH
    },
    Scenario { name: "flattened, running", ..FLATTEN },
    Scenario { name: "flattened, stopped", is_running: false, ..FLATTEN },
    Scenario { name: "flattened, gone back", has_gone_back: true, keep: &[], ..FLATTEN },
    Scenario {
        name: "flattened, and does not start",
        breaks: Some(("wait_until_up", How::ErrorBefore)),
        fails: true,
        ..FLATTEN
    },
    Scenario { name: "in the middle, running", ..FORGET },
    Scenario { name: "in the middle, stopped", is_running: false, ..FORGET },
    Scenario { name: "the first, running", effect: Effect::Forget(1), ..FORGET },
    Scenario {
        name: "one that is in use",
        breaks: Some(("unmount", How::ErrorBefore)),
        fails: true,
        ..FORGET
    },
    Scenario {
        name: "one that is in use, stopped",
        breaks: Some(("unmount", How::ErrorBefore)),
        is_running: false,
        fails: true,
        ..FORGET
    },
];

/// Those of one operation.
pub fn of(operation: &str) -> impl Iterator<Item = &'static Scenario> {
    SCENARIOS.iter().filter(move |scenario| scenario.operation == operation)
}

fn write(path: &std::path::Path, text: &str) {
    use std::io::Write;
    let written = std::fs::File::create(path).and_then(|mut file| file.write_all(text.as_bytes()));
    written.expect("room for it");
}

/// Names the applications that are installed in the live root, as `vzpkg install` does.
fn install(host: &TestHost, id: &ContainerId, templates: &str) {
    let mut conf = host.area(id).conf().expect("a ve.conf");
    conf.set("TEMPLATES", templates).expect("a value");
    host.area(id).store_conf(&conf).expect("room for it");
}

impl Scenario {
    /// A host with the container in the state that this begins with.
    pub fn prepare(&self) -> (TestHost, ContainerId) {
        let host = TestHost::new();
        let id = host.create_running("web01");
        for templates in ["apache php", "mysql"] {
            install(&host, &id, templates);
            let options = reinstall::Options { skip_applications: true, ..reinstall_options() };
            host.reinstall(&id, &options).expect("a plain reinstall");
        }
        install(&host, &id, "postfix");
        if !self.keep.is_empty() {
            let delta = |path: &str| host.delta(&id, host.live(&id), path);
            for directory in ["srv/www", "etc"] {
                std::fs::create_dir_all(delta(directory)).expect("room for it");
            }
            for (path, text) in [("srv/www/index", "page"), ("srv/data", "data"), ("etc/motd", "ours")] {
                write(&delta(path), text);
            }
            std::fs::hard_link(delta("srv/data"), delta("srv/www/data")).expect("room for it");
        }
        if self.has_gone_back {
            let engine = host.host();
            let container = engine.open("web01").expect("it can be opened");
            switch::undo(&container, 10, 1).expect("a plain undo");
        }
        if let Some((value, _)) = self.retain {
            let mut conf = host.area(&id).conf().expect("a ve.conf");
            conf.set("REINSTALL_RETAIN", value).expect("a value");
            host.area(&id).store_conf(&conf).expect("room for it");
        }
        if !self.is_running {
            host.stop(&id);
        }
        for (name, text) in self.scripts {
            host.script(name, text);
        }
        if let Some((method, how)) = self.breaks {
            host.fake().fail(method, 1, how);
        }
        host.told();
        (host, id)
    }

    /// Does it. What it returns is what the next command finishes.
    pub fn act(&self, host: &Host, id: &ContainerId) -> Result<Option<String>> {
        let container = host.open(&id.to_string())?;
        match self.effect {
            Effect::Reinstall { discards } => {
                let mut options = reinstall_options();
                options.skip_backup = discards;
                options.skip_applications = !self.applications;
                options.health = self.health.map(str::to_owned);
                options.keep = self.keep.iter().map(|word| (*word).to_owned()).collect();
                options.template = Some("maxi".parse().expect("a template's name"));
                reinstall::reinstall(&container, &options).map(|done| done.unfinished)
            }
            Effect::Switch(2) => switch::undo(&container, 10, 1).map(|done| done.unfinished),
            Effect::Switch(to) => {
                switch::switch(&container, GenerationNumber::new(to), "cannot switch", 10, 1)
                    .map(|done| done.unfinished)
            }
            Effect::Forget(number) => forget::delete(&container, GenerationNumber::new(number)),
            Effect::Flatten => flatten::run_on(&container, 10, 1).map(|done| done.unfinished),
        }
    }
}
