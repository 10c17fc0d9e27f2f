//! All that a second recovery could change, and must not.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use store::Prefix;

use super::{Judged, Violation};

type Facts = (u64, u32, u64, i64, i64, Option<PathBuf>);

/// A host at one time: which files its records are, of what times, and where its links lead.
#[derive(Debug, PartialEq, Eq)]
pub struct Still(BTreeMap<PathBuf, Facts>);

impl Still {
    /// Looks at a host.
    pub fn of(prefix: &Prefix) -> Still {
        let mut found = BTreeMap::new();
        for top in [prefix.private_dir(), prefix.etc_vz(), prefix.template_dir()] {
            let mut todo = vec![top];
            while let Some(directory) = todo.pop() {
                for entry in std::fs::read_dir(&directory).into_iter().flatten().flatten() {
                    let path = entry.path();
                    // What roots hold is another's to compare; whoever comes by empties the trash, and makes the reserve when there is room.
                    let is_root = ["delta", "work", "lower", "rootfs", ".trash", ".reserve", "volume.img"];
                    if is_root.iter().any(|name| entry.file_name() == *name) {
                        continue;
                    }
                    // A disk's time is that of what is written to it.
                    let is_disk = store::DiskNumber::of_image(&path).is_some();
                    let Ok(facts) = entry.metadata() else { continue };
                    if is_disk && path.extension().is_some() {
                        continue;
                    }
                    if facts.is_dir() {
                        todo.push(path.clone());
                    }
                    found.insert(path.clone(), of_file(&path, &facts));
                }
            }
        }
        // Its time changes with the trash.
        found.remove(&prefix.private_dir());
        Still(found)
    }

    /// Nothing is another than before.
    ///
    /// # Errors
    /// With the files that are.
    pub fn compare(&self, prefix: &Prefix) -> Judged<()> {
        let now = Still::of(prefix);
        let changed: Vec<String> = self
            .0
            .keys()
            .chain(now.0.keys())
            .filter(|path| self.0.get(*path) != now.0.get(*path))
            .map(|path| path.display().to_string())
            .collect();
        if changed.is_empty() {
            return Ok(());
        }
        Err(Violation::new("a second recovery changes nothing", changed.join(", ")))
    }
}

fn of_file(path: &Path, facts: &Metadata) -> Facts {
    let target = std::fs::read_link(path).ok();
    (facts.ino(), facts.mode(), facts.size(), facts.mtime(), facts.mtime_nsec(), target)
}
