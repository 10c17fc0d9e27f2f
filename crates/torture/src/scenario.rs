//! What is done to a host, from which state, and what it must have come to when it has happened.

use std::path::Path;

use store::Volume;
use testkit::judge::{DiskEffect, Effect, KEPT, Setting};

/// Scripts of the host that are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scripts {
    /// None.
    None,
    /// `vps.configure`.
    Configure,
    /// `vps.configure`, which exits with 3.
    BadConfigure,
    /// `vps.reinstall` and `vps.configure`.
    Build,
}

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The container's roots change.
    Change(Effect),
    /// It runs afterwards.
    Start,
    /// It does not.
    Stop,
    /// There is one more container.
    Create,
    /// The container is gone.
    Delete,
    /// Its layers lie there.
    Move(Volume),
    /// Its disk beside that of its root is another, or there is one.
    Disk(DiskEffect),
    /// Something else of it is.
    Set(Setting),
    /// It is a container no more.
    Unregister,
    /// What is none is one again.
    Return,
    /// There is a template where there was none.
    MakeTemplate,
    /// There is none where there was one.
    RemoveTemplate,
    /// There is a newer version beside the one before.
    UpdateTemplate,
    /// The older of two versions is gone.
    RemoveVersion,
    /// The only version, which was damaged, is whole.
    RepairTemplate,
    /// The older of two versions, which was damaged, is whole, and the latest.
    RepairVersion,
}

/// See the module.
#[derive(Debug, Clone, Copy)]
pub struct Scenario {
    /// For people.
    pub name: &'static str,
    /// The command; `CT` stands for the container's name.
    pub words: &'static [&'static str],
    /// The container runs when it begins.
    pub runs: bool,
    /// Where its layers lie when it begins.
    pub volume: Volume,
    /// How many roots it has then, each the parent of the next, the last one live.
    pub roots: u32,
    /// What is in `/etc/vz/conf`.
    pub scripts: Scripts,
    /// What it does.
    pub kind: Kind,
    /// It fails without any fault of ours.
    pub fails: bool,
    /// It has gone back to the root before the last one.
    pub is_back: bool,
}

const REINSTALL: Scenario = Scenario {
    name: "reinstall, stopped",
    words: &["reinstall", "CT"],
    runs: false,
    volume: Volume::Directory,
    roots: 1,
    scripts: Scripts::None,
    kind: Kind::Change(Effect::Reinstall { discards: false }),
    fails: false,
    is_back: false,
};
const ON_A_DISK: Scenario =
    Scenario { name: "reinstall, on a disk of its own, stopped", volume: Volume::Image, ..REINSTALL };
const ON_A_SUBVOLUME: Scenario =
    Scenario { name: "reinstall, on a subvolume, stopped", volume: Volume::Btrfs, ..REINSTALL };
const MOVE: Scenario = Scenario {
    name: "move --volume image",
    words: &["move", "CT", "--volume", "image"],
    roots: 2,
    kind: Kind::Move(Volume::Image),
    ..REINSTALL
};
const SWITCH: Scenario = Scenario {
    name: "undo, stopped",
    words: &["reinstall", "CT", "--undo"],
    roots: 2,
    kind: Kind::Change(Effect::Switch(1)),
    ..REINSTALL
};
const FORGET: Scenario = Scenario {
    name: "generation-delete, stopped",
    words: &["generation-delete", "CT", "2"],
    roots: 3,
    kind: Kind::Change(Effect::Forget(2)),
    ..REINSTALL
};
const FLATTEN: Scenario = Scenario {
    name: "generation-flatten, stopped",
    words: &["generation-flatten", "CT"],
    roots: 2,
    kind: Kind::Change(Effect::Flatten),
    ..REINSTALL
};
const DISCARD: Scenario = Scenario {
    name: "reinstall --skipbackup, stopped",
    words: &["reinstall", "CT", "--skipbackup"],
    roots: 2,
    kind: Kind::Change(Effect::Reinstall { discards: true }),
    ..REINSTALL
};

const ADD_DISK: Scenario = Scenario {
    name: "set --device-add, stopped",
    words: &["set", "CT", "--device-add", "hdd", "--size", DISK, "--mnt", "/data"],
    kind: Kind::Disk(DiskEffect::Add),
    ..REINSTALL
};
const NEW_ACCOUNT: Scenario = Scenario {
    name: "set --userpasswd, a new account, stopped",
    words: &["set", "CT", "--userpasswd", "bob:secret"],
    kind: Kind::Set(Setting::Password("bob")),
    ..REINSTALL
};
const BIND: Scenario = Scenario {
    name: "set --bindmount_add, stopped",
    words: &["set", "CT", "--bindmount_add", BOUND],
    kind: Kind::Set(Setting::Bind { comes: true }),
    ..REINSTALL
};
const UNBIND: Scenario = Scenario {
    name: "set --bindmount_del, stopped",
    words: &["set", "CT", "--bindmount_del", "/data"],
    kind: Kind::Set(Setting::Bind { comes: false }),
    ..REINSTALL
};
const LARGER: Scenario = Scenario {
    name: "set --diskspace, larger, stopped",
    words: &["set", "CT", "--diskspace", "96M"],
    volume: Volume::Image,
    kind: Kind::Set(Setting::Space { from: 64, to: 96 }),
    ..REINSTALL
};
const SMALLER: Scenario = Scenario {
    name: "set --diskspace, smaller, stopped",
    words: &["set", "CT", "--diskspace", "40M"],
    kind: Kind::Set(Setting::Space { from: 64, to: 40 }),
    ..LARGER
};
const RENAME: Scenario = Scenario {
    name: "set --name, stopped",
    words: &["set", "CT", "--name", OTHER_NAME],
    kind: Kind::Set(Setting::Name),
    ..REINSTALL
};
const DELETE: Scenario =
    Scenario { name: "delete, stopped", words: &["delete", "CT"], kind: Kind::Delete, ..SWITCH };
const UNREGISTER: Scenario =
    Scenario { name: "unregister", words: &["unregister", "CT"], kind: Kind::Unregister, ..SWITCH };
const RETURN: Scenario =
    Scenario { name: "register, unregistered", words: &["register", OWN_AREA], kind: Kind::Return, ..SWITCH };
const DESTROY_DISK: Scenario = Scenario {
    name: "set --device-del --destroy-image, stopped",
    words: &["set", "CT", "--device-del", "hdd1", "--destroy-image"],
    kind: Kind::Disk(DiskEffect::Destroy),
    ..REINSTALL
};

/// Every operation that there is, in the states that make a difference to it.
pub static SCENARIOS: &[Scenario] = &[
    REINSTALL,
    Scenario { name: "reinstall, running", runs: true, ..REINSTALL },
    Scenario { name: "reinstall, configured, stopped", scripts: Scripts::Configure, ..REINSTALL },
    Scenario { name: "reinstall, configured, running", scripts: Scripts::Configure, runs: true, ..REINSTALL },
    Scenario { name: "reinstall by script, stopped", scripts: Scripts::Build, ..REINSTALL },
    Scenario { name: "reinstall by script, running", scripts: Scripts::Build, runs: true, ..REINSTALL },
    Scenario {
        name: "reinstall, badly configured, running",
        scripts: Scripts::BadConfigure,
        runs: true,
        fails: true,
        ..REINSTALL
    },
    DISCARD,
    Scenario { name: "reinstall --skipbackup, running", runs: true, ..DISCARD },
    Scenario {
        name: "reinstall --skipbackup, configured, running",
        runs: true,
        scripts: Scripts::Configure,
        ..DISCARD
    },
    Scenario { name: "reinstall --keep, stopped", words: &["reinstall", "CT", "--keep", KEPT], ..REINSTALL },
    Scenario {
        name: "reinstall --keep --skipbackup, running",
        words: &["reinstall", "CT", "--keep", KEPT, "--skipbackup"],
        runs: true,
        kind: Kind::Change(Effect::Reinstall { discards: true }),
        ..REINSTALL
    },
    Scenario {
        name: "reinstall --health, running",
        words: &["reinstall", "CT", "--health", "test -s /etc/passwd"],
        runs: true,
        ..REINSTALL
    },
    Scenario {
        name: "reinstall --keep-changed, running",
        words: &["reinstall", "CT", "--keep-changed", KEPT],
        runs: true,
        ..REINSTALL
    },
    Scenario { name: "reinstall --skipbackup, gone back", roots: 3, is_back: true, ..DISCARD },
    ON_A_DISK,
    Scenario { name: "reinstall, on a disk of its own, running", runs: true, ..ON_A_DISK },
    Scenario {
        name: "reinstall by script, on a disk of its own, running",
        scripts: Scripts::Build,
        runs: true,
        ..ON_A_DISK
    },
    Scenario {
        name: "reinstall --keep --skipbackup, on a disk of its own, stopped",
        words: &["reinstall", "CT", "--keep", KEPT, "--skipbackup"],
        kind: Kind::Change(Effect::Reinstall { discards: true }),
        ..ON_A_DISK
    },
    SWITCH,
    Scenario { name: "undo, running", runs: true, ..SWITCH },
    Scenario {
        name: "generation-switch, running",
        words: &["generation-switch", "CT", "1"],
        roots: 3,
        runs: true,
        ..SWITCH
    },
    FLATTEN,
    Scenario { name: "generation-flatten, running", runs: true, ..FLATTEN },
    Scenario {
        name: "generation-flatten, on a disk of its own, running",
        volume: Volume::Image,
        runs: true,
        ..FLATTEN
    },
    FORGET,
    Scenario { name: "generation-delete, on a disk of its own, stopped", volume: Volume::Image, ..FORGET },
    Scenario { name: "generation-delete, running", runs: true, ..FORGET },
    Scenario { name: "generation-delete of the last, gone back", roots: 2, is_back: true, ..FORGET },
    Scenario { name: "start", words: &["start", "CT"], kind: Kind::Start, ..SWITCH },
    Scenario { name: "stop", words: &["stop", "CT"], kind: Kind::Stop, runs: true, ..SWITCH },
    Scenario {
        name: "create",
        words: &["create", "CT", "--ostemplate", "busybox"],
        roots: 0,
        kind: Kind::Create,
        ..REINSTALL
    },
    Scenario {
        name: "create --volume image",
        words: &["create", "CT", "--ostemplate", "busybox", "--volume", "image", "--diskspace", DISK],
        roots: 0,
        kind: Kind::Create,
        ..REINSTALL
    },
    MOVE,
    Scenario {
        name: "move --volume directory",
        words: &["move", "CT", "--volume", "directory"],
        volume: Volume::Image,
        kind: Kind::Move(Volume::Directory),
        ..MOVE
    },
    ON_A_SUBVOLUME,
    Scenario { name: "reinstall, on a subvolume, running", runs: true, ..ON_A_SUBVOLUME },
    Scenario { name: "generation-delete, on a subvolume, stopped", volume: Volume::Btrfs, ..FORGET },
    Scenario {
        name: "create --volume btrfs, on a subvolume",
        words: &["create", "CT", "--ostemplate", "busybox", "--volume", "btrfs", "--diskspace", DISK],
        roots: 0,
        kind: Kind::Create,
        // Where there are none it could not be made.
        volume: Volume::Btrfs,
        ..REINSTALL
    },
    Scenario {
        name: "move to a subvolume",
        words: &["move", "CT", "--volume", "btrfs"],
        kind: Kind::Move(Volume::Btrfs),
        ..MOVE
    },
    Scenario {
        name: "move to a subvolume, from a disk of its own",
        words: &["move", "CT", "--volume", "btrfs"],
        volume: Volume::Image,
        kind: Kind::Move(Volume::Btrfs),
        ..MOVE
    },
    Scenario {
        name: "move from a subvolume",
        words: &["move", "CT", "--volume", "directory"],
        volume: Volume::Btrfs,
        kind: Kind::Move(Volume::Directory),
        ..MOVE
    },
    Scenario { name: "move from a subvolume, to a disk of its own", volume: Volume::Btrfs, ..MOVE },
    Scenario {
        name: "register",
        words: &["register", AREA, "--name", "CT"],
        roots: 0,
        kind: Kind::Create,
        ..REINSTALL
    },
    ADD_DISK,
    Scenario { name: "set --device-add, running", runs: true, ..ADD_DISK },
    Scenario {
        name: "set --device-set --size, larger, stopped",
        words: &["set", "CT", "--device-set", "hdd1", "--size", "96M"],
        kind: Kind::Disk(DiskEffect::Resize { from: 64, to: 96 }),
        ..REINSTALL
    },
    Scenario {
        name: "set --device-set --size, smaller, stopped",
        words: &["set", "CT", "--device-set", "hdd1", "--size", "40M"],
        kind: Kind::Disk(DiskEffect::Resize { from: 64, to: 40 }),
        ..REINSTALL
    },
    DESTROY_DISK,
    Scenario { name: "set --device-del --destroy-image, running", runs: true, ..DESTROY_DISK },
    Scenario {
        name: "register, on a disk of its own",
        words: &["register", AREA, "--name", "CT", "--volume", "image"],
        roots: 0,
        kind: Kind::Create,
        ..REINSTALL
    },
    NEW_ACCOUNT,
    Scenario { name: "set --userpasswd, a new account, running", runs: true, ..NEW_ACCOUNT },
    Scenario {
        name: "set --userpasswd, on a disk of its own, stopped",
        words: &["set", "CT", "--userpasswd", "alice:secret"],
        volume: Volume::Image,
        kind: Kind::Set(Setting::Password("alice")),
        ..REINSTALL
    },
    BIND,
    Scenario { name: "set --bindmount_add, running", runs: true, ..BIND },
    UNBIND,
    Scenario { name: "set --bindmount_del, running", runs: true, ..UNBIND },
    LARGER,
    SMALLER,
    Scenario {
        name: "set --diskspace, larger, on a subvolume, running",
        volume: Volume::Btrfs,
        runs: true,
        ..LARGER
    },
    Scenario { name: "set --diskspace, smaller, on a subvolume, stopped", volume: Volume::Btrfs, ..SMALLER },
    RENAME,
    Scenario { name: "set --name, running", runs: true, ..RENAME },
    UNREGISTER,
    Scenario { name: "unregister, on a disk of its own", volume: Volume::Image, ..UNREGISTER },
    RETURN,
    Scenario {
        name: "register, unregistered, from elsewhere",
        words: &["register", AREA_ELSEWHERE],
        ..RETURN
    },
    Scenario { name: "register, unregistered, on a disk of its own", volume: Volume::Image, ..RETURN },
    DELETE,
    Scenario { name: "delete, on a disk of its own, stopped", volume: Volume::Image, ..DELETE },
    Scenario { name: "delete, on a subvolume, stopped", volume: Volume::Btrfs, ..DELETE },
    Scenario {
        name: "delete --force, running",
        words: &["delete", "CT", "--force"],
        kind: Kind::Delete,
        runs: true,
        ..SWITCH
    },
    Scenario {
        name: "delete --force, on a disk of its own, running",
        words: &["delete", "CT", "--force"],
        kind: Kind::Delete,
        volume: Volume::Image,
        runs: true,
        ..SWITCH
    },
    Scenario {
        name: "vzpkg create cache",
        words: &["create", "cache", "busybox"],
        roots: 0,
        kind: Kind::MakeTemplate,
        ..REINSTALL
    },
    Scenario {
        name: "vzpkg remove cache",
        words: &["remove", "cache", "busybox"],
        roots: 0,
        kind: Kind::RemoveTemplate,
        ..REINSTALL
    },
    Scenario {
        name: "vzpkg update cache",
        words: &["update", "cache", "CT"],
        roots: 0,
        kind: Kind::UpdateTemplate,
        ..REINSTALL
    },
    Scenario {
        name: "vzpkg remove cache, a version",
        words: &["remove", "cache", OLDER_VERSION],
        roots: 0,
        kind: Kind::RemoveVersion,
        ..REINSTALL
    },
    Scenario {
        name: "vzpkg update cache, damaged",
        words: &["update", "cache", "CT"],
        roots: 0,
        kind: Kind::RepairTemplate,
        ..REINSTALL
    },
    Scenario {
        name: "vzpkg update cache, an older version damaged",
        words: &["update", "cache", "CT"],
        roots: 0,
        kind: Kind::RepairVersion,
        ..REINSTALL
    },
];

/// Those whose names contain `text`, and that can be done on a host that lies in `directory`.
pub fn named(text: &str, directory: &Path) -> Vec<&'static Scenario> {
    let has_subvolumes = std::fs::File::open(directory).is_ok_and(linux::is_btrfs);
    let can_be = |scenario: &&Scenario| has_subvolumes || !scenario.needs_subvolumes();
    all_named(text).filter(can_be).collect()
}

/// Those whose names contain `text`.
pub fn all_named(text: &str) -> impl Iterator<Item = &'static Scenario> {
    SCENARIOS.iter().filter(move |scenario| scenario.name.contains(text))
}

/// How large a disk of its own is.
pub const DISK: &str = "64M";
/// The same, as it stands in `ve.conf`.
pub const DISK_BLOCKS: &str = "65536:65536";

/// Stands for a private area of OpenVZ that is not the host's.
pub const AREA: &str = "AREA";

/// Stands for the private area of the container, which is unregistered.
pub const OWN_AREA: &str = "OWN_AREA";
/// The same of one that lies at another place.
pub const AREA_ELSEWHERE: &str = "AREA_ELSEWHERE";
/// Stands for another name of the container.
pub const OTHER_NAME: &str = "OTHER_NAME";
/// What of the host is seen at `/data`: there on every one, and only read.
pub const BOUND: &str = "/usr/share:/data,ro";

/// Stands for the template's version that is not its latest.
pub const OLDER_VERSION: &str = "CT@OLDER";

impl Scenario {
    /// It starts a container, so that there is a monitor to be traced from its first instruction.
    pub fn starts_a_monitor(&self) -> bool {
        let changes_what_runs =
            matches!(self.kind, Kind::Change(Effect::Reinstall { .. } | Effect::Switch(_) | Effect::Flatten))
                && (self.runs || self.scripts != Scripts::None);
        changes_what_runs || self.kind == Kind::Start
    }

    /// What it keeps of the old root is in the new one.
    pub fn keeps(&self) -> bool {
        self.words.iter().any(|word| matches!(*word, "--keep" | "--keep-changed"))
    }

    /// It can only be done on btrfs.
    pub fn needs_subvolumes(&self) -> bool {
        self.volume == Volume::Btrfs || self.kind == Kind::Move(Volume::Btrfs)
    }

    /// What is done to `/data` needs a directory there.
    pub fn mounts_at_data(&self) -> bool {
        matches!(self.kind, Kind::Disk(_) | Kind::Set(Setting::Bind { .. }))
    }

    /// The container has a disk beside that of its root when it begins.
    pub fn has_a_disk(&self) -> bool {
        matches!(self.kind, Kind::Disk(DiskEffect::Resize { .. } | DiskEffect::Destroy))
    }

    /// A start writes nothing into its root that was not there: its name, for one; and there is a container that can be started.
    pub fn may_start(&self) -> bool {
        !matches!(self.kind, Kind::Set(Setting::Name) | Kind::Return)
    }

    /// It copies a private area of OpenVZ.
    pub fn registers(&self) -> bool {
        self.words.contains(&AREA)
    }

    /// It is about a template, in a host without containers.
    pub fn is_of_templates(&self) -> bool {
        match self.kind {
            Kind::MakeTemplate
            | Kind::RemoveTemplate
            | Kind::UpdateTemplate
            | Kind::RemoveVersion
            | Kind::RepairTemplate
            | Kind::RepairVersion => true,
            Kind::Change(_)
            | Kind::Start
            | Kind::Stop
            | Kind::Create
            | Kind::Delete
            | Kind::Move(_)
            | Kind::Disk(_)
            | Kind::Set(_)
            | Kind::Unregister
            | Kind::Return => false,
        }
    }

    /// Should the command die, the container is recovered without anybody typing anything: where it ran or a script of the host did from where its
    /// journal is written; else while it is on probation.
    pub fn is_kept(&self) -> bool {
        matches!(self.kind, Kind::Change(_)) && (self.runs || self.scripts != Scripts::None)
    }
}
