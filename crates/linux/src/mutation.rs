//! Guards that can be taken away one at a time, to prove that the sweeps of faults would see it: `torture mutations`.
//!
//! Only a build with the feature `mutations` has any of this: there the variable `REROOT_MUTATION` names one of `MUTATIONS`, and the code says
//! `mutated!("name")` where it does that wrong. Without the feature `mutated!` is the word `false`.

#[cfg(feature = "mutations")]
pub use chosen::{MUTATIONS, environment, is_chosen};

/// Whether this program is to do wrong what is called so.
#[cfg(feature = "mutations")]
#[macro_export]
macro_rules! mutated {
    ($name:literal) => {
        $crate::mutation::is_chosen($name)
    };
}

/// Never: this is no test build.
#[cfg(not(feature = "mutations"))]
#[macro_export]
macro_rules! mutated {
    ($name:literal) => {
        false
    };
}

/// What a program that is run with an environment of its own must be given of ours: nothing.
#[cfg(not(feature = "mutations"))]
pub fn environment() -> [(&'static str, &'static str); 0] {
    []
}

#[cfg(feature = "mutations")]
mod chosen {
    const VARIABLE: &str = "REROOT_MUTATION";

    /// Whether the variable names it.
    pub fn is_chosen(name: &str) -> bool {
        debug_assert!(MUTATIONS.iter().any(|(known, _)| *known == name), "`{name}` is not in the list");
        std::env::var_os(VARIABLE).is_some_and(|chosen| chosen == name)
    }

    /// What a program that is run with an environment of its own must be given of ours.
    pub fn environment() -> Option<(&'static str, std::ffi::OsString)> {
        std::env::var_os(VARIABLE).map(|chosen| (VARIABLE, chosen))
    }

    /// Every one that there is, and what the program does wrong then.
    pub static MUTATIONS: &[(&str, &str)] = &[
        // Files, links and directories.
        ("replace-unsynced", "a record is renamed to its name before its contents are durable"),
        ("replace-directory-unsynced", "a record's new name is not made durable"),
        ("replace-in-place", "a record is written over, not beside and renamed"),
        ("link-in-place", "a link is removed and made again, not replaced by a rename"),
        (
            "move-unsynced",
            "that something has left its directory, or has its name there, is not made durable",
        ),
        ("move-stands", "a rename whose sync fails is not taken back"),
        // The tree of a new root.
        ("contents-unsynced", "the files of a new root are not synced"),
        ("directories-unsynced", "the directories of a new root, `work/` among them, are not synced"),
        ("generation-unsynced", "`<n>/` is not synced"),
        ("generations-unsynced", "`generations/` is not synced before `live` is renamed"),
        ("tried-root-unsynced", "a new root that was started, or that a script made, is not written out"),
        ("live-unsynced", "the area is not synced after `live` was renamed"),
        ("conf-before-live", "ve.conf follows before `live` is renamed"),
        ("live-before-the-tree", "`live` is renamed before the new root is durable"),
        ("created-tree-unsynced", "a new container's first root is not synced"),
        ("registered-root-unsynced", "the copy of an area's root is not written out"),
        ("created-generations-unsynced", "a new container's `generations/` is not synced"),
        ("created-area-unsynced", "a new container's area is not synced before it gets its name"),
        ("unregistered-unsynced", "that an area is no container any more is not made durable"),
        ("template-unsynced", "a new template is not written out before it gets its name"),
        ("template-named-first", "a new template is written out only after it got its name"),
        ("latest-unsynced", "`latest` of a new template is not made durable"),
        // Disks of their own.
        ("layers-unsynced", "the layers of a new root on a disk of its own are not synced"),
        (
            "volume-unsynced",
            "the disk of a new root that was started, or that a script made, is not written out",
        ),
        ("layers-before-record", "on a disk of its own a root's layers go before its record"),
        ("moved-volume-unsynced", "a new disk is not written out before it becomes the container's"),
        ("moved-layers-unsynced", "layers that leave a disk are not written out before it goes"),
        ("left-subvolume-unsynced", "a new disk is not written out before it takes the place of a subvolume"),
        (
            "moved-subvolume-unsynced",
            "layers that leave a disk for a subvolume are not written out before it goes",
        ),
        // Disks beside that of the root.
        ("disk-gone-first", "a disk is deleted before its entry is"),
        ("attaching-forgotten", "what is being attached to a container that runs is not written down"),
        ("strays-stay-mounted", "a recovery leaves disks mounted that a container that runs has not"),
        ("size-not-put-right", "a recovery does not have an entry say how large its disk is"),
        ("remade-stands", "a disk in its new size whose name cannot be made durable stays"),
        // The journal and the machinery.
        ("no-journal", "no journal is written"),
        ("journal-unsynced", "the journal is not made durable"),
        ("journal-late", "the journal is written after the first step"),
        ("journal-gone-before-settle", "the journal is removed at the commit"),
        ("journal-gone-before-reverts", "the journal is removed before anything is reverted"),
        ("recovery-unsynced", "a recovery that finds `live` new does not sync the area"),
        ("number-forgotten", "a generation goes without its number being written down"),
        ("number-late", "a generation's number is written down after it has gone"),
        ("relink-late", "children are linked past a generation after it has gone"),
        ("children-forgotten", "children of a root that `--skipbackup` deletes keep it as their parent"),
        // Reverts.
        ("stage-stays", "the step stage is not reverted"),
        ("stop-stays", "the step stop is not reverted"),
        ("probation-stays", "the step probation is not reverted"),
        ("commit-stays", "a commit whose sync fails is not taken back"),
        ("relink-stays", "the step relink is not reverted"),
        // What watches, and what is left.
        ("no-keeper", "no keeper is started"),
        ("no-guardian", "a monitor whose command dies on probation does not recover"),
        ("old-root-writable", "the old root is writable on probation"),
        ("in-use-ignored", "a root is deleted while it is mounted in the container"),
        ("trash-before-unmount", "a root is moved to the trash before it is unmounted"),
        ("temporaries-stay", "a recovery does not remove temporary files"),
        ("staging-stays", "a recovery does not remove a container half made"),
        ("links-stay", "a recovery does not remove links to containers that are gone"),
        ("template-staging-stays", "a template half made is not removed"),
        ("mounts-stay", "a recovery does not clear up after a start that was killed"),
        // Looks into roots; seen by `make hostile PLAIN=1`, not by a sweep.
        (
            "plain-path",
            "paths in roots are opened by name, as the host resolves them, and nothing is confined",
        ),
        // Locks.
        ("container-unlocked", "the lock of a container is not taken"),
        ("host-unlocked", "the lock of the host is not taken"),
        ("template-unlocked", "the lock of a template is not taken"),
        ("template-staging-unlocked", "a template that is being made is not locked"),
    ];
}
