//! What the containers of a prefix are guaranteed together.
//!
//! The kernel takes no more account of a group's `memory.low` than that of the group above has room for ("Effective low boundary is limited by memory.low
//! values of all ancestor cgroups", cgroup-v2.rst): without one there, none of those below counts when the host is short of memory. So the group of all has
//! the sum. More than the sum would be handed to those that have no guarantee (`memory_recursiveprot`).
//!
//! Nobody holds a lock for it: containers start and end at once. Whoever has written the sum looks whether it is still that, and whoever has changed one
//! of its parts counts after that.

use std::io;
use std::path::Path;

use super::{CgroupError, Cgroups, write_file};

const FILE: &str = "memory.low";
/// How often the others may change theirs meanwhile before it is left to them.
const ATTEMPTS: u32 = 64;

impl Cgroups {
    /// Has the group of all containers guaranteed what they are together. Nothing where there are no guarantees: on a hybrid host.
    ///
    /// # Errors
    /// [`CgroupError::File`].
    pub fn ensure_guarantees(&self) -> Result<(), CgroupError> {
        let all = self.layout.unified.join(&self.group);
        let file = all.join(FILE);
        for _ in 0..ATTEMPTS {
            // It has gone with the last of them, or this kernel has no such thing.
            let Some(is) = number(&file) else { return Ok(()) };
            let sum = sum_below(&all);
            if is == sum {
                return Ok(());
            }
            match write_file("set", &file, &sum.to_string()) {
                Err(CgroupError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                    return Ok(());
                }
                written => written?,
            }
        }
        Ok(())
    }

    /// The container is guaranteed something.
    pub(super) fn is_guaranteed(&self) -> bool {
        number(&self.unified("").join(FILE)).is_some_and(|bytes| bytes > 0)
    }
}

fn sum_below(group: &Path) -> u64 {
    let groups = std::fs::read_dir(group).into_iter().flatten().flatten();
    groups.filter_map(|entry| number(&entry.path().join(FILE))).fold(0, u64::saturating_add)
}

fn number(file: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(file).ok()?;
    match text.trim() {
        "max" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}
