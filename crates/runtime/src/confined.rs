//! Work on a container's files by a thread that can reach nothing else.
//!
//! Whoever is root in a container has made what is read, and waits for a mistake of ours. The thread has the directories that it is given, by handle, and
//! what lies below them: no other file can be opened or changed by it, whatever path it might be led to (Landlock), and
//! it has of root's capabilities only those over files: it can reach no other process, no namespace and no device. It gives up all that for good, and ends
//! with the work.
//!
//! It does not enter the container's user namespace: there the marks of overlayfs could be neither read nor set, and no file be cloned from one
//! generation to another. See docs/decisions/0021-confined-work.md. Where the kernel has no Landlock, the handles alone hold.

use std::io;
use std::os::fd::BorrowedFd;

use landlock::{
    ABI, Access, AccessFs, AccessNet, PathBeneath, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetStatus,
    Scope,
};
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};

/// The newest one that is asked for; of an older kernel's, as much as it knows.
const LANDLOCK: ABI = ABI::V6;

/// Why the work was not done.
#[derive(Debug, thiserror::Error)]
pub enum ConfinedError {
    /// The kernel knows no such thing, or says no.
    #[error("files of other directories cannot be taken away")]
    Landlock(#[from] landlock::RulesetError),
    /// Capabilities.
    #[error("capabilities cannot be taken away")]
    Capabilities(#[source] io::Error),
    /// There can be no thread.
    #[error("there can be no thread for it")]
    Thread(#[from] io::Error),
}

/// The directories that the work has, with what is below them.
#[derive(Debug, Default)]
pub struct Reach<'fd> {
    /// To be read.
    pub reads: Vec<BorrowedFd<'fd>>,
    /// To be read and changed.
    pub writes: Vec<BorrowedFd<'fd>>,
    /// The filesystem ids of whoever writes, where the host's own cannot: through layers that are mapped to a container's ids.
    pub ids: Option<u32>,
}

/// Has `work` done where nothing but `reach` can be reached; what it returns. It may use what is open already.
///
/// # Errors
/// [`ConfinedError`], and then nothing was done.
pub fn confined<T>(reach: &Reach<'_>, work: impl FnOnce() -> T) -> Result<T, ConfinedError> {
    linux::on_a_thread_of_its_own(|| {
        confine(reach)?;
        Ok(work())
    })?
}

/// Gives up, of this thread, all but `reach`.
fn confine(reach: &Reach<'_>) -> Result<(), ConfinedError> {
    if linux::mutated!("plain-path") {
        // It would hide what the handles are for.
        return Ok(reach.ids.map_or(Ok(()), linux::take_filesystem_ids)?);
    }
    if let Some(first) = reach.ids {
        linux::take_filesystem_ids(first)?;
    }
    landlock(reach)?;
    let kept = CapabilitySet::CHOWN
        | CapabilitySet::DAC_OVERRIDE
        | CapabilitySet::DAC_READ_SEARCH
        | CapabilitySet::FOWNER
        | CapabilitySet::FSETID
        | CapabilitySet::LINUX_IMMUTABLE
        | CapabilitySet::MKNOD
        | CapabilitySet::SETFCAP
        // trusted.* attributes, and so the marks of overlayfs.
        | CapabilitySet::SYS_ADMIN;
    set_capabilities(
        None,
        CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() },
    )
    .map_err(|error| ConfinedError::Capabilities(error.into()))
}

/// On a kernel without it this is nothing: the crate asks for as much as there is.
fn landlock(reach: &Reach<'_>) -> Result<RulesetStatus, landlock::RulesetError> {
    let mut rules = Ruleset::default()
        .handle_access(AccessFs::from_all(LANDLOCK))?
        .handle_access(AccessNet::from_all(LANDLOCK))?
        .scope(Scope::from_all(LANDLOCK))?
        .create()?;
    for directory in &reach.reads {
        rules = rules.add_rule(PathBeneath::new(directory, AccessFs::from_read(LANDLOCK)))?;
    }
    for directory in &reach.writes {
        rules = rules.add_rule(PathBeneath::new(directory, AccessFs::from_all(LANDLOCK)))?;
    }
    Ok(rules.restrict_self()?.ruleset)
}

/// Whether the kernel keeps a thread from every file but those that it was given. Asked by trying it, on another one.
pub fn has_landlock() -> bool {
    let status = linux::on_a_thread_of_its_own(|| landlock(&Reach::default()));
    matches!(status, Ok(Ok(RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::Write;
    use std::os::fd::{AsFd, OwnedFd};
    use std::path::Path;

    fn open(path: &Path) -> OwnedFd {
        let hold = rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC;
        rustix::fs::open(path, hold, rustix::fs::Mode::empty()).unwrap()
    }

    fn is_root() -> bool {
        let is_root = rustix::process::geteuid().is_root();
        if !is_root {
            let _ = io::stderr().write_all(b"NOT RUN: only root has capabilities to lose\n");
        }
        is_root
    }

    #[test]
    fn root_confined_work_reaches_what_it_was_given_and_nothing_else() {
        if !is_root() {
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        for name in ["read", "write", "other"] {
            std::fs::create_dir(at(name)).unwrap();
            File::create(at(name).join("file")).unwrap();
        }
        let (reads, writes) = (open(&at("read")), open(&at("write")));
        let reach = Reach { reads: vec![reads.as_fd()], writes: vec![writes.as_fd()], ids: None };
        let can = confined(&reach, || {
            let mut can = Vec::new();
            let mut note = |what: &'static str, does: bool| can.extend(does.then_some(what));
            note("read-given", File::open(at("read").join("file")).is_ok());
            note("write-given", File::create(at("write").join("made")).is_ok());
            note(
                "rename-given",
                rustix::fs::rename(at("write").join("made"), at("write").join("moved")).is_ok(),
            );
            note("write-what-is-to-be-read", File::create(at("read").join("made")).is_ok());
            note("read-other", File::open(at("other").join("file")).is_ok());
            note("make-other", std::fs::create_dir(at("other").join("made")).is_ok());
            note("remove-other", std::fs::remove_file(at("other").join("file")).is_ok());
            note("read-host", File::open("/etc/passwd").is_ok());
            note("list-host", std::fs::read_dir("/etc").is_ok());
            note("leave", std::fs::read_dir("/proc/1/root/etc").is_ok());
            can
        });
        let can = can.unwrap().join(" ");
        // A kernel without Landlock leaves it the host's files: then the handles alone hold.
        if has_landlock() {
            assert_eq!(can, "read-given write-given rename-given");
        } else {
            assert!(can.starts_with("read-given write-given rename-given"), "{can}");
        }
        assert!(File::open("/etc/passwd").is_ok(), "and the rest of the process keeps all");
    }

    #[test]
    fn root_confined_work_has_no_power_over_the_host() {
        if !is_root() {
            return;
        }
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        rustix::process::setpriority_process(None, 0).unwrap();
        let can = confined(&Reach::default(), || {
            let mut can = Vec::new();
            let mut note = |what: &'static str, does: bool| can.extend(does.then_some(what));
            let private = rustix::mount::MountPropagationFlags::PRIVATE;
            note("mount", rustix::mount::mount_change("/", private).is_ok());
            note("chroot", rustix::process::chroot("/").is_ok());
            note("ids", rustix::thread::set_thread_uid(rustix::process::Uid::from_raw(1)).is_ok());
            note("rise", rustix::process::setpriority_process(None, -5).is_ok());
            note("execute", std::process::Command::new("/bin/true").status().is_ok());
            note("listen", std::net::TcpListener::bind("127.0.0.1:1").is_ok());
            note("look at another process", std::fs::read_link(format!("/proc/{}/exe", child.id())).is_ok());
            can
        });
        child.kill().unwrap();
        child.wait().unwrap();
        if has_landlock() {
            assert_eq!(can.unwrap(), Vec::<&str>::new());
        }
        assert!(
            std::process::Command::new("/bin/true").status().is_ok(),
            "and the rest of the process keeps all"
        );
    }
}
