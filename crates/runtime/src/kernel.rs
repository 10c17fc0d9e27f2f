//! What this kernel and this host can do, asked feature by feature.
//!
//! `prlctl info` prints the list, and the first error of a command on a host that lacks something names what is missing. Each probe tries the
//! real thing in a throw-away way; nothing is concluded from version numbers alone, since distributions backport.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;

use linux::{MountAttributes, set_mount_attributes, user_namespace};
use rustix::mount::{OpenTreeFlags, open_tree};

use crate::cgroup::Layout;

/// One thing that is needed or useful, and whether it is here.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Feature {
    /// What it is, in the kernel's own words.
    pub name: &'static str,
    /// Containers cannot run without it.
    pub is_required: bool,
    /// `None`: it is here; else why not.
    pub missing: Option<String>,
}

/// The release of the running kernel, as `uname -r` gives it.
pub fn release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// The id of this boot; runtime state of another boot is stale.
pub fn boot_id() -> String {
    // No process outlives its boot.
    static BOOT: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    let read = || std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    BOOT.get_or_init(|| read().map(|id| id.trim().to_owned()).unwrap_or_default()).clone()
}

/// Asks for everything that containers need, in `directory`, which must lie on the filesystem that will carry them.
pub fn features(directory: &Path) -> Vec<Feature> {
    vec![
        feature("effective user id 0", true, || {
            let id = rustix::process::geteuid();
            if id.is_root() { Ok(()) } else { Err(format!("this process runs as {}", id.as_raw())) }
        }),
        feature("user namespaces", true, || user_namespace(0, 1).map(drop).map_err(words)),
        feature("mounting (CAP_SYS_ADMIN)", true, || {
            open_tree(
                rustix::fs::CWD,
                directory,
                OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC,
            )
            .map(drop)
            .map_err(words)
        }),
        feature("overlayfs", true, || {
            let known = std::fs::read_to_string("/proc/filesystems").map_err(words)?;
            if known.lines().any(|line| line.split_whitespace().last() == Some("overlay")) {
                return Ok(());
            }
            // A module that nobody has used yet is loaded by asking for it.
            rustix::mount::fsopen("overlay", rustix::mount::FsOpenFlags::FSOPEN_CLOEXEC)
                .map(drop)
                .map_err(words)
        }),
        feature("idmapped mounts on the filesystem of /vz (Linux 5.19 for overlay layers)", true, || {
            id_map(directory)
        }),
        feature("pidfd and setns by pidfd (Linux 5.8)", true, || {
            rustix::process::pidfd_open(rustix::process::getpid(), rustix::process::PidfdFlags::empty())
                .map(drop)
                .map_err(words)
        }),
        feature("a cgroup2 tree with cgroup.kill (Linux 5.14)", true, || {
            Layout::detect().map(drop).map_err(|e| e.to_string())
        }),
        feature("seccomp filters", true, || {
            File::open("/proc/sys/kernel/seccomp/actions_avail").map(drop).map_err(words)
        }),
        feature("Landlock, for the processes that write into roots", false, || {
            if crate::confined::has_landlock() {
                Ok(())
            } else {
                Err("this kernel has it not, or not switched on".to_owned())
            }
        }),
        feature("packet filter, for containers with addresses", false, || {
            if net::has_filter() {
                Ok(())
            } else {
                Err("there is no nft: `apt-get install nftables`".to_owned())
            }
        }),
        feature("memory limits", false, || controller("memory")),
        feature("CPU limits", false, || controller("cpu")),
        feature("process limits", false, || controller("pids")),
    ]
}

fn feature(name: &'static str, is_required: bool, probe: impl FnOnce() -> Result<(), String>) -> Feature {
    Feature { name, is_required, missing: probe().err() }
}

fn words(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn id_map(directory: &Path) -> Result<(), String> {
    let namespace = user_namespace(1, 1).map_err(words)?;
    let clone = open_tree(
        rustix::fs::CWD,
        directory,
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC,
    )
    .map_err(words)?;
    let attributes = MountAttributes { id_map: Some(namespace.as_fd()), ..MountAttributes::default() };
    set_mount_attributes(&clone, &attributes).map_err(words)
}

fn controller(name: &str) -> Result<(), String> {
    let layout = Layout::detect().map_err(words)?;
    if layout.has_controller(name) {
        Ok(())
    } else {
        Err(format!("no hierarchy has the controller `{name}`"))
    }
}
