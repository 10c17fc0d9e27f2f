//! Which trees of control groups this host has.

use std::path::{Path, PathBuf};

use rustix::fs::statfs;

use super::{CgroupError, ROOT};

const CGROUP2_MAGIC: i64 = 0x6367_7270;
const CGROUP1_MAGIC: i64 = 0x0027_e0eb;

/// The trees of this host.
#[derive(Debug, Clone)]
pub struct Layout {
    pub(super) unified: PathBuf,
    pub(super) legacy: Vec<PathBuf>,
}

impl Layout {
    /// Looks at what is mounted below `/sys/fs/cgroup`.
    ///
    /// # Errors
    /// [`CgroupError::NoUnifiedTree`].
    pub fn detect() -> Result<Layout, CgroupError> {
        let magic = |path: &Path| statfs(path).map_or(0, |found| found.f_type);
        let root = Path::new(ROOT);
        if magic(root) == CGROUP2_MAGIC {
            return Ok(Layout { unified: root.to_owned(), legacy: Vec::new() });
        }
        let unified = root.join("unified");
        if magic(&unified) != CGROUP2_MAGIC {
            return Err(CgroupError::NoUnifiedTree);
        }
        let mut legacy: Vec<PathBuf> = std::fs::read_dir(root)
            .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
            .unwrap_or_default();
        // `cpu` and `cpu,cpuacct` may both be there, one a link to the other.
        legacy.retain(|path| !path.is_symlink() && magic(path) == CGROUP1_MAGIC);
        legacy.sort();
        Ok(Layout { unified, legacy })
    }

    /// The limits are on v1 hierarchies.
    pub fn is_hybrid(&self) -> bool {
        !self.legacy.is_empty()
    }

    /// What a group is guaranteed is also for the groups below it that say nothing of it, as those are that a systemd in a container makes. A systemd of
    /// the host mounts the tree so since version 247.
    pub fn hands_guarantees_down(&self) -> bool {
        let table = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        table.lines().any(|line| {
            let fields: Vec<&str> = line.split(' ').collect();
            let [_, point, "cgroup2", options, ..] = fields[..] else { return false };
            Path::new(point) == self.unified && options.split(',').any(|one| one == "memory_recursiveprot")
        })
    }

    /// Some hierarchy of this host has that controller.
    pub fn has_controller(&self, name: &str) -> bool {
        let unified = std::fs::read_to_string(self.unified.join("cgroup.controllers")).unwrap_or_default();
        unified.split_whitespace().any(|found| found == name) || self.legacy_tree(name).is_some()
    }

    /// The v1 hierarchy that has that controller, perhaps with others.
    pub(super) fn legacy_tree(&self, name: &str) -> Option<&PathBuf> {
        self.legacy.iter().find(|path| {
            path.file_name()
                .and_then(|found| found.to_str())
                .is_some_and(|found| found.split(',').any(|one| one == name))
        })
    }
}
