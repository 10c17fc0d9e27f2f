//! Guards that are taken away one at a time (`linux::mutation`), and by which hunts that is to be seen.
//!
//! The guard of a mutation that no hunt sees is either superfluous or not watched: both are worth knowing, so a run in which one survives has failed.

use std::io;

use crate::hunt::{Held, Hunt};
use Hunt::{
    ConfTooSoon, Cuts, Errors, InUse, Kills, Locked, Meanwhile, Steps, Weakest, WeakestAfterRecovery,
};

const STOPPED: &str = "reinstall, stopped";
const RUNNING: &str = "reinstall, running";
const ON_A_DISK: &str = "reinstall, on a disk of its own, stopped";
const CONFIGURED_STOPPED: &str = "reinstall, configured, stopped";
const DISCARD: &str = "reinstall --skipbackup, stopped";
const FORGET: &str = "generation-delete, stopped";
const DESTROY_DISK: &str = "set --device-del --destroy-image, stopped";
const SMALLER_DISK: &str = "set --device-set --size, smaller, stopped";
const MAKE_TEMPLATE: &str = "vzpkg create cache";

/// A mutation by name, and its hunts in the order in which they are tried.
#[derive(Debug, Clone, Copy)]
pub struct Mutation {
    /// As in `linux::mutation::MUTATIONS`.
    pub name: &'static str,
    /// Any of them is to be red.
    pub hunts: &'static [Hunt],
}

/// No fault shows these, but hostile roots do: `make hostile PLAIN=1`. Done wherever a path in a root is opened.
pub const SEEN_BY_HOSTILE_ROOTS: &[&str] = &["plain-path"];

macro_rules! mutations {
    ($($name:literal: [$($hunt:expr),+ $(,)?]),+ $(,)?) => {
        /// All of them.
        pub static MUTATIONS: &[Mutation] = &[$(Mutation { name: $name, hunts: &[$($hunt),+] }),+];
    };
}

mutations! {
    "replace-unsynced": [Cuts(FORGET, "ext4-bare"), Weakest(FORGET)],
    "replace-directory-unsynced": [Weakest(FORGET), Weakest(STOPPED), Weakest("create")],
    "replace-in-place": [Kills(FORGET)],
    "link-in-place": [Kills(STOPPED)],
    "move-unsynced": [Weakest("delete, stopped"), Weakest(FORGET)],
    "move-stands": [Errors("delete, stopped")],
    "contents-unsynced": [Cuts(STOPPED, "ext4-bare"), Weakest(STOPPED)],
    "directories-unsynced": [Weakest(STOPPED)],
    "generation-unsynced": [Weakest(STOPPED)],
    "generations-unsynced": [Weakest(STOPPED)],
    "tried-root-unsynced": [Weakest(CONFIGURED_STOPPED), Weakest("reinstall by script, stopped")],
    "live-unsynced": [Cuts(STOPPED, "ext4-bare"), Weakest(STOPPED)],
    "conf-before-live": [ConfTooSoon(STOPPED)],
    "live-before-the-tree": [Weakest(STOPPED)],
    "created-tree-unsynced": [Weakest("create")],
    "registered-root-unsynced": [Weakest("register"), Cuts("register", "ext4-bare")],
    "created-generations-unsynced": [Weakest("create")],
    "created-area-unsynced": [Weakest("create")],
    "unregistered-unsynced": [Weakest("unregister")],
    "template-unsynced": [Cuts(MAKE_TEMPLATE, "ext4-bare"), Weakest(MAKE_TEMPLATE)],
    "template-named-first": [Weakest(MAKE_TEMPLATE), Cuts(MAKE_TEMPLATE, "ext4-bare")],
    "latest-unsynced": [Weakest(MAKE_TEMPLATE)],
    "layers-unsynced": [Cuts(ON_A_DISK, "ext4-bare")],
    "volume-unsynced": [Cuts("reinstall by script, on a disk of its own, running", "ext4-bare")],
    "layers-before-record": [Kills("generation-delete, on a disk of its own, stopped")],
    "moved-volume-unsynced": [Cuts("move --volume image", "ext4-bare")],
    "moved-layers-unsynced": [Cuts("move --volume directory", "ext4-bare")],
    "left-subvolume-unsynced": [Cuts("move from a subvolume, to a disk of its own", "btrfs")],
    "moved-subvolume-unsynced": [Cuts("move to a subvolume, from a disk of its own", "btrfs")],
    "disk-gone-first": [Kills(DESTROY_DISK)],
    "attaching-forgotten": [Kills("set --device-add, running")],
    "strays-stay-mounted": [Kills("set --device-add, running")],
    "size-not-put-right": [Kills(SMALLER_DISK)],
    "remade-stands": [Errors(SMALLER_DISK)],
    "no-journal": [Kills(STOPPED)],
    "journal-unsynced": [Weakest(STOPPED), Weakest(FORGET), Cuts(STOPPED, "ext4-bare")],
    "journal-late": [Kills(STOPPED)],
    "journal-gone-before-settle": [Kills(DISCARD)],
    "journal-gone-before-reverts": [Steps(STOPPED, &["reinstall/carry/before:error,reinstall/stage/revert:kill"])],
    "recovery-unsynced": [WeakestAfterRecovery("undo, stopped")],
    "number-forgotten": [Kills("generation-delete of the last, gone back")],
    "number-late": [Kills("generation-delete of the last, gone back")],
    "relink-late": [Kills(FORGET)],
    "children-forgotten": [Kills("reinstall --skipbackup, gone back")],
    "stage-stays": [Steps(STOPPED, &["reinstall/carry/after:error"])],
    "stop-stays": [Steps(RUNNING, &["reinstall/stop/after:error"])],
    "probation-stays": [Steps(RUNNING, &["reinstall/probation/after:error"])],
    "commit-stays": [Errors(STOPPED)],
    "relink-stays": [Steps(FORGET, &["generation-delete/relink/after:error"])],
    "no-keeper": [Steps(RUNNING, &["reinstall/stop/after:kill"])],
    "no-guardian": [Steps(CONFIGURED_STOPPED, &["reinstall/configure/before:kill"])],
    "old-root-writable": [Steps("reinstall, badly configured, running", &["none"])],
    "in-use-ignored": [InUse(&["generation-delete", "CT", "1"])],
    "trash-before-unmount": [InUse(&["generation-delete", "CT", "1"])],
    "temporaries-stay": [Kills(STOPPED)],
    "staging-stays": [Kills("create")],
    "links-stay": [Kills("create")],
    "template-staging-stays": [Kills(MAKE_TEMPLATE)],
    "mounts-stay": [Kills("start")],
    "container-unlocked": [Locked(STOPPED, Held::Container), Meanwhile(STOPPED, "live", &["reinstall", "CT", "--skipscripts"])],
    "host-unlocked": [Meanwhile("create", "mkdirat(", &["create", "other", "--ostemplate", "busybox"]), Locked("create", Held::Host)],
    "template-unlocked": [Locked(MAKE_TEMPLATE, Held::Template)],
    "template-staging-unlocked": [Meanwhile(MAKE_TEMPLATE, "syncfs(", &["recover"])],
}

/// Lines of the page between which the table stands.
const BEGIN: &str = "<!-- mutations: begin -->";
const END: &str = "<!-- mutations: end -->";

/// What came of one mutation.
#[derive(Debug)]
pub struct Row {
    /// Its name.
    pub name: String,
    /// What the program does wrong then.
    pub text: String,
    /// By which hunt it was caught; none: it has survived.
    pub caught: Option<String>,
    /// How many faults that took.
    pub faults: u64,
    /// And how long.
    pub seconds: u64,
}

/// The rows as a table.
pub fn table(rows: &[Row]) -> String {
    let mut text = String::from(
        "| mutation | what is wrong then | caught by | faults | seconds |\n|---|---|---|---:|---:|\n",
    );
    for row in rows {
        let caught = row.caught.as_deref().unwrap_or("**SURVIVED**");
        text.push_str(&format!(
            "| {} | {} | {caught} | {} | {} |\n",
            row.name, row.text, row.faults, row.seconds
        ));
    }
    text
}

/// `page` with the table as it is now.
///
/// # Errors
/// When it has no place for it.
pub fn render(page: &str, commit: &str, rows: &[Row]) -> io::Result<String> {
    let missing = || io::Error::other(format!("the page has no lines `{BEGIN}` and `{END}`"));
    let (before, rest) = page.split_once(BEGIN).ok_or_else(missing)?;
    let (_, after) = rest.split_once(END).ok_or_else(missing)?;
    let caught = rows.iter().filter(|row| row.caught.is_some()).count();
    let sum = format!("Of {commit}: {caught} of {} caught.", rows.len());
    Ok(format!("{before}{BEGIN}\n\n{sum}\n\n{}\n{END}{after}", table(rows)))
}
