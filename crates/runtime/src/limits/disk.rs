//! The disk that containers lie on.

use std::path::PathBuf;

use rustix::fs::{major, minor, stat};
use store::Prefix;

use super::read;

/// A disk, as the kernel numbers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disk {
    pub(super) major: u32,
    pub(super) minor: u32,
}

impl Disk {
    /// The one that the containers of a host lie on; `None`: they lie on no one disk, as on btrfs or a network's filesystem.
    pub fn of(prefix: &Prefix) -> Option<Disk> {
        let device = stat(prefix.private_dir()).ok()?.st_dev;
        let directory = PathBuf::from(format!("/sys/dev/block/{}:{}", major(device), minor(device)));
        let directory = directory.canonicalize().ok()?;
        // Limits are of whole disks.
        let disk = if directory.join("partition").exists() { directory.parent()? } else { &directory };
        let text = std::fs::read_to_string(disk.join("dev")).ok()?;
        let (major, minor) = text.trim().split_once(':')?;
        Some(Disk { major: major.parse().ok()?, minor: minor.parse().ok()? })
    }

    pub(super) fn scheduler_file(self) -> PathBuf {
        PathBuf::from(format!("/sys/dev/block/{}:{}/queue/scheduler", self.major, self.minor))
    }

    /// What shares the disk among those who want it; `None`: nothing, as of a loop device, or it does not say.
    pub(super) fn scheduler(self) -> Option<String> {
        let text = read(&self.scheduler_file());
        let chosen = text.split(['[', ']']).nth(1)?;
        Some(chosen.to_owned())
    }
}
