//! The old roots at `/old`, attached in the monitor's mount namespace.
//!
//! The container's root is a slave of the monitor's: what is attached here arrives there by propagation, with its flags locked, and leaves the same
//! way. The clones that views are cut from are attached at `/run/vz/<uuid>/old/<k>`, which no container sees.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use linux::{MountAttributes, set_mount_attributes};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{MountPropagationFlags, MoveMountFlags, UnmountFlags};

use crate::mounts::{attach_at_old, clone_mount, restrict};

/// The chain of old roots of one container.
#[derive(Debug)]
pub struct OldRoots {
    /// The container's root in the monitor's namespace.
    root: PathBuf,
    /// Where the clones are attached.
    directory: PathBuf,
    count: usize,
}

impl OldRoots {
    /// None yet.
    pub fn new(root: &Path, directory: &Path) -> OldRoots {
        OldRoots { root: root.to_owned(), directory: directory.to_owned(), count: 0 }
    }

    /// Takes these detached mounts, newest first, as the chain from now on.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn replace(&mut self, chain: Vec<OwnedFd>) -> io::Result<()> {
        self.detach();
        for index in 0..self.count {
            let _ = rustix::mount::unmount(self.point(index), UnmountFlags::DETACH);
        }
        self.count = 0;
        for mount in chain {
            let point = self.point(self.count);
            std::fs::create_dir_all(&point)?;
            rustix::mount::move_mount(&mount, "", CWD, &point, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
            rustix::mount::mount_change(&point, MountPropagationFlags::PRIVATE)?;
            self.count += 1;
        }
        Ok(())
    }

    /// Attaches the chain at `/old`, `/old/old`, … Returns a warning when there is no plain directory for one of them.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn attach(&self) -> io::Result<Option<String>> {
        let mut place =
            rustix::fs::open(&self.root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        for index in 0..self.count {
            let name = "/old".repeat(index + 1);
            let clone = clone_mount(&self.point(index)).map_err(io::Error::other)?;
            restrict(&clone, false).map_err(io::Error::other)?;
            if !attach_at_old(&clone, &place).map_err(io::Error::other)? {
                return Ok(Some(format!(
                    "{name} in the container is no plain directory: the old root is not attached there"
                )));
            }
            place = clone;
        }
        Ok(None)
    }

    /// Takes every view of the chain away from the root, wherever the container has moved the directory to.
    pub fn detach(&self) {
        let superblocks: Vec<String> =
            (0..self.count).filter_map(|index| crate::mounts::superblock(&self.point(index)).ok()).collect();
        let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        // Deepest last in the table: from the end, so that `/old/old` goes before `/old`.
        for line in table.lines().rev() {
            let Some(mount) = crate::mountinfo::Entry::parse(line) else { continue };
            if mount.point.starts_with(&self.root)
                && mount.point != self.root
                && superblocks.contains(&mount.superblock)
            {
                let _ = rustix::mount::unmount(&mount.point, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW);
            }
        }
    }

    fn point(&self, index: usize) -> PathBuf {
        self.directory.join(index.to_string())
    }
}

/// Makes the mount at `point` the head of a peer group of its own: what is mounted in it goes to its slaves.
///
/// # Errors
/// What the kernel says.
pub fn share(point: &Path) -> io::Result<()> {
    let handle = rustix::fs::open(point, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let attributes =
        MountAttributes { propagation: Some(linux::Propagation::Shared), ..MountAttributes::default() };
    set_mount_attributes(handle.as_fd(), &attributes)
}
