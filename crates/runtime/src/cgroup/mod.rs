//! Where a container's processes are counted, limited and killed.
//!
//! ```text
//! <v2 tree>/reroot-<hash of the prefix>/
//!     <uuid>/            the container; handed to its root (its systemd makes what it likes below)
//!         .reroot/       what `prlctl exec` starts in it
//!     <uuid>.monitor/    the monitor, out of its caller's unit, which a host's systemd may end
//!     <uuid>.script/     a script of the host, so that whoever recovers can kill all of it
//! ```
//!
//! On a host with cgroup v2 that is all. On a hybrid host the limits are on the v1 hierarchies, in directories of the same name, and the v2 tree
//! carries what systemd in a container needs, and `cgroup.kill`. A host without any v2 tree is refused.

mod guarantee;
mod layout;
mod walk;

use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use linux::{Child, close_all, fork};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, chown, open};
use rustix::process::{Gid, Uid};
use store::{ContainerId, Prefix};

pub use layout::Layout;

const ROOT: &str = "/sys/fs/cgroup";
/// Where `exec` puts what it starts.
const EXEC: &str = ".reroot";

/// How deep groups of a container may lie below its own: a systemd takes five levels, and so does one in a container in it.
const DEEPEST: u32 = 64;
/// How many they may be: each costs the kernel memory, and whoever counts or removes them time.
const MOST_BELOW: u32 = 8192;
/// How long a killed process may take to leave its group.
const LEAVING: Duration = Duration::from_secs(10);

/// What can go wrong with a control group.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// Neither a v2 host nor a hybrid one.
    #[error("no cgroup2 tree at {ROOT} or {ROOT}/unified")]
    NoUnifiedTree,
    /// A file of the control group filesystem said no.
    #[error("cannot {what} {}", tree::escaped_path(path))]
    File {
        /// What was tried.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Less memory than is in use, and cannot be had back.
    #[error("{} MiB of memory are in use, of which nothing can be taken away: that is more than {} MiB", .used >> 20, .limit >> 20)]
    InUse {
        /// Bytes.
        used: u64,
        /// Bytes.
        limit: u64,
    },
    /// Processes are left after the kill.
    #[error("processes in {} have not ended within {limit:?}", tree::escaped_path(path))]
    NotEmpty {
        /// The group.
        path: PathBuf,
        /// How long they were waited for.
        limit: Duration,
    },
}

/// The control groups of one container.
#[derive(Debug, Clone)]
pub struct Cgroups {
    layout: Layout,
    group: String,
    container: String,
}

impl Cgroups {
    /// Those of container `id` of the host at `prefix`; makes nothing.
    ///
    /// # Errors
    /// [`CgroupError::NoUnifiedTree`].
    pub fn of(prefix: &Prefix, id: &ContainerId) -> Result<Cgroups, CgroupError> {
        Ok(Cgroups {
            layout: Layout::detect()?,
            group: format!("reroot-{}", prefix.short_hash()),
            container: id.to_string(),
        })
    }

    /// The path of the container's group in every hierarchy, for the OCI specification.
    pub fn path_in_hierarchy(&self) -> PathBuf {
        Path::new("/").join(&self.group).join(&self.container)
    }

    /// See [`Layout::is_hybrid`].
    pub fn is_hybrid(&self) -> bool {
        self.layout.is_hybrid()
    }

    /// The container's group that has the files of a controller: the v2 group; on a hybrid host that of the v1 hierarchy, or none where this kernel
    /// lacks the controller.
    pub fn of_controller(&self, controller: &str) -> Option<PathBuf> {
        if !self.is_hybrid() {
            return Some(self.unified(""));
        }
        Some(self.layout.legacy_tree(controller)?.join(&self.group).join(&self.container))
    }

    fn unified(&self, suffix: &str) -> PathBuf {
        self.layout.unified.join(&self.group).join(format!("{}{suffix}", self.container))
    }

    /// A handle on the monitor's v2 group, to be born in.
    ///
    /// # Errors
    /// [`CgroupError::File`].
    pub fn monitor_group(&self) -> Result<OwnedFd, CgroupError> {
        let path = self.unified(".monitor");
        ensure_directory(&path)?;
        open_directory(&path)
    }

    /// A handle on the v2 group for a monitor to be born in, with all groups of an earlier run gone: its own; on a hybrid host the container's,
    /// where the control group namespace is to be made, since a birth there costs nothing and a move waits, see [`Cgroups::foresee_moves`].
    ///
    /// # Errors
    /// [`CgroupError::File`], [`CgroupError::NotEmpty`] after `limit`.
    pub fn birthplace(&self, limit: Duration) -> Result<OwnedFd, CgroupError> {
        self.clear_container(limit)?;
        let own = self.monitor_group()?;
        if !self.is_hybrid() {
            return Ok(own);
        }
        let path = self.unified("");
        ensure_directory(&path)?;
        open_directory(&path)
    }

    /// Has the kernel ready for moves between groups by the time that they come.
    ///
    /// The first move after a while waits for all of the kernel to agree (`cgroup_threadgroup_rwsem`, 5 to 20 ms); those after it do not. A child
    /// that moves itself and ends has that wait pass while its parent does other things. All that it costs is a process, so nobody asks how it went.
    pub fn foresee_moves(&self) -> Option<Child> {
        fork(0, None, || {
            // A lock of the command must not outlive it here.
            close_all();
            i32::from(self.enter_monitor().is_err())
        })
        .ok()
    }

    /// Takes the calling process to the monitor's v2 group.
    ///
    /// # Errors
    /// [`CgroupError::File`].
    pub fn enter_monitor(&self) -> Result<(), CgroupError> {
        self.enter(&self.unified(".monitor"))
    }

    /// Takes the calling process out of its unit in the hierarchy by which a systemd of a hybrid host knows its units. Nothing elsewhere.
    ///
    /// # Errors
    /// [`CgroupError::File`].
    pub fn enter_legacy_monitor(&self) -> Result<(), CgroupError> {
        let Some(tree) = self.layout.legacy.iter().find(|tree| tree.ends_with("systemd")) else {
            return Ok(());
        };
        let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        if own.lines().any(|line| line.ends_with(":name=systemd:/")) {
            return Ok(());
        }
        let path = tree.join(&self.group);
        ensure_directory(&path)?;
        enter_legacy_group(&path)
    }

    /// Takes the calling process to the container's own v2 group, where the control group namespace is to be made.
    ///
    /// # Errors
    /// [`CgroupError::File`].
    pub fn enter_container(&self) -> Result<(), CgroupError> {
        self.enter(&self.unified(""))
    }

    fn enter(&self, path: &Path) -> Result<(), CgroupError> {
        ensure_directory(path)?;
        write_file("enter", &path.join("cgroup.procs"), "0")
    }

    /// Hands the container's v2 group to its root, whose id on the host is `owner`, and makes the group for `exec`. Between create and start:
    /// without it a systemd inside exits at once. How many groups there may be below stays the host's to say.
    ///
    /// # Errors
    /// [`CgroupError::File`].
    pub fn delegate(&self, owner: u32) -> Result<(), CgroupError> {
        let path = self.unified("");
        for (file, most) in [("cgroup.max.depth", DEEPEST), ("cgroup.max.descendants", MOST_BELOW)] {
            write_file("limit", &path.join(file), &most.to_string())?;
        }
        self.give(&path, owner)?;
        self.ensure_exec_group(owner)
    }

    fn ensure_exec_group(&self, owner: u32) -> Result<(), CgroupError> {
        let path = self.unified("").join(EXEC);
        ensure_directory(&path)?;
        self.give(&path, owner)
    }

    fn give(&self, path: &Path, owner: u32) -> Result<(), CgroupError> {
        for name in ["", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"] {
            let file = if name.is_empty() { path.to_owned() } else { path.join(name) };
            chown(&file, Some(Uid::from_raw(owner)), Some(Gid::from_raw(owner))).map_err(|error| {
                CgroupError::File { what: "hand over", path: file.clone(), source: error.into() }
            })?;
        }
        Ok(())
    }

    /// A handle on the v2 group for `exec`, to be born in; made again if the container has removed it.
    ///
    /// # Errors
    /// [`CgroupError::File`].
    pub fn exec_group(&self, owner: u32) -> Result<OwnedFd, CgroupError> {
        let path = self.unified("").join(EXEC);
        match open_directory(&path) {
            Ok(handle) => Ok(handle),
            Err(_) => {
                self.ensure_exec_group(owner)?;
                open_directory(&path)
            }
        }
    }

    /// Takes the calling process to the container's groups in the v1 hierarchies, so that its limits hold for it too, and out of its caller's unit.
    /// Nothing on a v2 host.
    ///
    /// # Errors
    /// [`CgroupError::File`].
    pub fn enter_legacy(&self) -> Result<(), CgroupError> {
        self.enter_legacy_monitor()?;
        for path in self.legacy_groups() {
            if path.exists() {
                enter_legacy_group(&path)?;
            }
        }
        Ok(())
    }

    /// Makes the container's groups in the v1 hierarchies: with one of them in it, the group of all stays when the last other container ends, which
    /// the runtime library does not reckon with.
    ///
    /// # Errors
    /// [`CgroupError::File`].
    pub fn hold_legacy(&self) -> Result<(), CgroupError> {
        self.legacy_groups().try_for_each(|path| ensure_directory(&path))
    }

    /// A handle on the group for scripts, empty and new, to be born in.
    ///
    /// Never the one of a script that was killed: at least Linux 6.18 kills what is cloned into a group to which `cgroup.kill` was ever written,
    /// since it compares the number of such writes with that of the parent's group (`kill_seq` in kernel/cgroup/cgroup.c).
    ///
    /// # Errors
    /// [`CgroupError::File`].
    pub fn script_group(&self) -> Result<OwnedFd, CgroupError> {
        let path = self.unified(".script");
        remove_group(&path)?;
        ensure_directory(&path)?;
        open_directory(&path)
    }

    /// Kills every process of the script's group and waits until it is empty.
    ///
    /// # Errors
    /// [`CgroupError::NotEmpty`] after `limit`.
    pub fn kill_script(&self, limit: Duration) -> Result<(), CgroupError> {
        kill_group(&self.unified(".script"), limit)
    }

    /// Kills the monitor, should it be there.
    ///
    /// # Errors
    /// [`CgroupError::NotEmpty`] after `limit`.
    pub fn kill_monitor(&self, limit: Duration) -> Result<(), CgroupError> {
        kill_group(&self.unified(".monitor"), limit)
    }

    /// Kills what is left of an earlier run and removes its groups.
    ///
    /// # Errors
    /// [`CgroupError::File`], [`CgroupError::NotEmpty`] after `limit`.
    pub fn clear_container(&self, limit: Duration) -> Result<(), CgroupError> {
        self.kill_container(limit)?;
        self.remove_container()
    }

    /// Kills every process of the container and waits until there is none.
    ///
    /// # Errors
    /// [`CgroupError::NotEmpty`] after `limit`.
    pub fn kill_container(&self, limit: Duration) -> Result<(), CgroupError> {
        kill_group(&self.unified(""), limit)
    }

    /// A process of the container is alive.
    pub fn is_populated(&self) -> bool {
        is_populated(&self.unified(""))
    }

    /// Every process of the container, as the host numbers them.
    pub fn processes(&self) -> Vec<i32> {
        let mut found = Vec::new();
        let mut look = |group: BorrowedFd<'_>| {
            let text = walk::read_file(group, c"cgroup.procs").unwrap_or_default();
            found.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
        };
        // What goes meanwhile has none.
        let _ = walk::walk(&self.unified(""), &mut look, &mut |_, _| Ok(()));
        found
    }

    /// How many processes the container has.
    pub fn count(&self) -> usize {
        self.processes().len()
    }

    /// Removes the container's groups, which must be empty; that they are gone is no error.
    ///
    /// # Errors
    /// [`CgroupError::File`].
    pub fn remove_container(&self) -> Result<(), CgroupError> {
        let is_guaranteed = self.is_guaranteed();
        remove_tree(&self.unified(""))?;
        for path in self.legacy_groups() {
            remove_tree(&path)?;
        }
        if is_guaranteed {
            // A sum that is too large takes nothing from anybody for good: whoever is next writes it.
            drop(self.ensure_guarantees());
        }
        Ok(())
    }

    /// Removes what of the container's groups is empty, the parent group of all of this host's too when it was the last one. Best effort.
    pub fn remove_empty(&self) {
        for suffix in [".script", ".monitor"] {
            drop(std::fs::remove_dir(self.unified(suffix)));
        }
        drop(std::fs::remove_dir(self.layout.unified.join(&self.group)));
        for tree in &self.layout.legacy {
            drop(std::fs::remove_dir(tree.join(&self.group)));
        }
    }

    fn legacy_groups(&self) -> impl Iterator<Item = PathBuf> + '_ {
        self.layout.legacy.iter().map(|tree| tree.join(&self.group).join(&self.container))
    }
}

fn ensure_directory(path: &Path) -> Result<(), CgroupError> {
    let mut attempts = 0;
    loop {
        match std::fs::create_dir_all(path) {
            Ok(()) => return Ok(()),
            // The end of another container has just removed the group of all, as the last one in it.
            Err(error) if error.kind() == io::ErrorKind::NotFound && attempts < 8 => attempts += 1,
            Err(source) => return Err(CgroupError::File { what: "make", path: path.to_owned(), source }),
        }
    }
}

/// The process has one thread, and a thread that moves itself need not wait for the kernel as a process that is moved must (`cgroup_procs_write_start`
/// in kernel/cgroup/cgroup.c).
fn enter_legacy_group(path: &Path) -> Result<(), CgroupError> {
    write_file("enter", &path.join("tasks"), "0")
}

fn open_directory(path: &Path) -> Result<OwnedFd, CgroupError> {
    open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|error| CgroupError::File { what: "open", path: path.to_owned(), source: error.into() })
}

fn write_file(what: &'static str, path: &Path, text: &str) -> Result<(), CgroupError> {
    File::options()
        .write(true)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|source| CgroupError::File { what, path: path.to_owned(), source })
}

fn is_populated(path: &Path) -> bool {
    std::fs::read_to_string(path.join("cgroup.events"))
        .unwrap_or_default()
        .lines()
        .any(|line| line == "populated 1")
}

/// `cgroup.kill` reaches also what is forked while it runs, and what is frozen (cgroup-v2.rst).
fn kill_group(path: &Path, limit: Duration) -> Result<(), CgroupError> {
    if !is_populated(path) {
        return Ok(());
    }
    write_file("kill all of", &path.join("cgroup.kill"), "1")?;
    let events = path.join("cgroup.events");
    let deadline = Instant::now() + limit;
    loop {
        let Ok(file) = rustix::fs::openat(CWD, &events, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        else {
            return Ok(());
        };
        // The kernel tells of a change by POLLPRI since the file was last read: read first, then wait.
        let mut text = [0u8; 256];
        let length = rustix::io::read(&file, &mut text).unwrap_or(0);
        if !text[..length].windows(11).any(|window| window == b"populated 1") {
            return Ok(());
        }
        let rest = deadline.saturating_duration_since(Instant::now());
        if rest.is_zero() {
            return Err(CgroupError::NotEmpty { path: path.to_owned(), limit });
        }
        let timeout = Timespec { tv_sec: rest.as_secs() as i64, tv_nsec: rest.subsec_nanos().into() };
        match poll(&mut [PollFd::new(&file.as_fd(), PollFlags::PRI)], Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => {
                return Err(CgroupError::File { what: "watch", path: events, source: error.into() });
            }
        }
    }
}

/// Removes a group without groups below; that it is gone is no error.
fn remove_group(path: &Path) -> Result<(), CgroupError> {
    remove_when_empty(&mut || std::fs::remove_dir(path)).map_err(|source| CgroupError::File {
        what: "remove",
        path: path.to_owned(),
        source,
    })
}

/// A killed process is counted out of `populated` before it has quite left, and an `exec` may be born into the group of a container that is just
/// dying, and end at once: both make it busy for a moment.
fn remove_when_empty(remove: &mut dyn FnMut() -> io::Result<()>) -> io::Result<()> {
    let deadline = Instant::now() + LEAVING;
    loop {
        match remove() {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(error) => return Err(error),
        }
    }
}

/// Bottom up. What is below belongs to a container that has ended, and has the names and the depth that it liked.
fn remove_tree(path: &Path) -> Result<(), CgroupError> {
    let mut remove = |parent: BorrowedFd<'_>, name: &CStr| {
        remove_when_empty(&mut || Ok(rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)?))
    };
    walk::walk(path, &mut |_| (), &mut remove).map_err(|source| CgroupError::File {
        what: "remove what is in",
        path: path.to_owned(),
        source,
    })?;
    remove_group(path)
}
