//! Every mount of one container in the host's namespace, taken away together.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::mount::UnmountFlags;
use store::{ContainerId, Prefix};

use crate::mounts::{MountError, is_mounted, mounted, unmount};

/// Unmounts all of the container's generations, and its view for the host. What is busy stays, and the next start uses it again.
pub fn unmount_all(prefix: &Prefix, id: &ContainerId) {
    drop(unmount_host_view(prefix, id));
    crate::mounts::sweep_layers(prefix, id);
    for kind in ["generations", "host"] {
        for point in mounted(prefix, id, kind) {
            drop(unmount(&point));
        }
    }
    drop(unmount(&store::volume::mount_point(prefix, id)));
    crate::volume::unmount_disks(prefix, id);
}

/// Takes away what `prlctl mount` has put at `/vz/root/<uuid>`, and the mounts below it.
///
/// # Errors
/// [`MountError::Busy`] when a process of the host is in it.
pub fn unmount_host_view(prefix: &Prefix, id: &ContainerId) -> Result<(), MountError> {
    let root = prefix.root_dir(id);
    // Nothing is mounted where there is nothing. The table of a host with hundreds of containers is long, and every start comes by here.
    if matches!(rustix::fs::lstat(&root), Err(rustix::io::Errno::NOENT)) {
        return Ok(());
    }
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    for line in table.lines().rev() {
        let Some(mount) = crate::mountinfo::Entry::parse(line) else { continue };
        if mount.point.starts_with(&root) {
            match unmount_below(&root, &mount.point, UnmountFlags::empty()) {
                Ok(()) => {}
                Err(rustix::io::Errno::BUSY) => return Err(MountError::Busy { path: mount.point }),
                Err(error) => {
                    return Err(MountError::Call {
                        what: "unmount",
                        path: mount.point,
                        source: error.into(),
                    });
                }
            }
        }
    }
    Ok(())
}

/// Unmounts what is mounted in a root, or the root itself. Whoever is root in the container may have taken away what it was mounted on and put a symlink
/// there, so it is gone to by handle, and what is named is one name that is not followed. There is no call that unmounts by handle alone, and one on the
/// mount itself would keep it busy.
pub(crate) fn unmount_below(root: &Path, point: &Path, how: UnmountFlags) -> rustix::io::Result<()> {
    let (Ok(below), Some(name)) = (point.strip_prefix(root), point.file_name()) else {
        return Err(rustix::io::Errno::INVAL);
    };
    let Some(parent) = below.parent() else {
        return rustix::mount::unmount(root, how | UnmountFlags::NOFOLLOW);
    };
    let hold = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let top = rustix::fs::open(root, hold, Mode::empty())?;
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    let stays = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let parent = rustix::fs::openat2(&top, parent, hold, Mode::empty(), stays)?;
    let before = rustix::fs::open(".", hold, Mode::empty())?;
    rustix::process::fchdir(&parent)?;
    let unmounted = rustix::mount::unmount(name, how | UnmountFlags::NOFOLLOW);
    rustix::process::fchdir(&before)?;
    unmounted
}

/// Something of the container is mounted for the host.
pub fn is_mounted_for_host(prefix: &Prefix, id: &ContainerId) -> bool {
    is_mounted(&prefix.root_dir(id))
}

/// A view of that generation is mounted in the namespace of a process of the container, or for the host.
///
/// The container may have moved `/old` away before it was detached: while its superblock is mounted anywhere, nothing of it may be deleted. Every
/// process is looked at, since each may have a mount namespace of its own.
pub fn is_seen_by_processes(prefix: &Prefix, id: &ContainerId, number: store::GenerationNumber) -> bool {
    let point = crate::mounts::generation_point(prefix, id, number);
    if !is_mounted(&point) {
        return is_mounted(&crate::mounts::host_point(prefix, id, number));
    }
    let Ok(superblock) = crate::mounts::superblock(&point) else { return true };
    let Ok(cgroups) = crate::cgroup::Cgroups::of(prefix, id) else { return true };
    let mut seen = std::collections::HashSet::new();
    cgroups.processes().into_iter().any(|pid| {
        let namespace = std::fs::read_link(format!("/proc/{pid}/ns/mnt")).unwrap_or_default();
        if !seen.insert(namespace) {
            return false;
        }
        let table = std::fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
        table.lines().filter_map(crate::mountinfo::Entry::parse).any(|mount| mount.superblock == superblock)
    })
}

/// A process of the container is in that generation, runs a program of it, or has something of it open: what a detach leaves it, and no table of
/// mounts tells.
pub fn is_held_by_processes(prefix: &Prefix, id: &ContainerId, number: store::GenerationNumber) -> bool {
    let point = crate::mounts::generation_point(prefix, id, number);
    if !is_mounted(&point) {
        return false;
    }
    let Ok(device) = std::fs::metadata(&point).map(|found| found.dev()) else { return true };
    let Ok(cgroups) = crate::cgroup::Cgroups::of(prefix, id) else { return true };
    // The kernel follows these to the file itself: no path in the container is looked up.
    let is_in_it = |link: &Path| std::fs::metadata(link).is_ok_and(|found| found.dev() == device);
    cgroups.processes().into_iter().any(|pid| {
        let process = PathBuf::from(format!("/proc/{pid}"));
        let open = std::fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
        ["cwd", "root", "exe"].iter().any(|link| is_in_it(&process.join(link)))
            || open.into_iter().any(|entry| is_in_it(&entry.path()))
    })
}
