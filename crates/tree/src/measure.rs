//! How much there is below a directory.

use std::os::fd::BorrowedFd;

use std::collections::HashSet;
use std::path::Path;

use crate::descent;
use crate::error::TreeError;
use crate::layered::LayeredRoot;
use crate::layered_walk::{LayeredWalk, Step};
use crate::merged::Found;
use crate::node::Facts;

/// What [`measure`] has counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Size {
    /// Entries below the directory, without itself.
    pub entries: u64,
    /// The sum of the sizes of regular files, holes counted as if they were full.
    pub bytes: u64,
}

/// Counts everything below `dir`. What is mounted in it counts as one entry.
///
/// # Errors
/// When a directory cannot be read.
pub fn measure(dir: BorrowedFd<'_>) -> Result<Size, TreeError> {
    let mut size = Size::default();
    descent::walk(dir, |visit| {
        size.entries += 1;
        if visit.facts.is_regular() && !visit.is_mount_point {
            size.bytes += visit.facts.size;
        }
        Ok(())
    })?;
    Ok(size)
}

/// What a copy of some paths of a root would take.
#[derive(Debug, Default)]
pub struct Measure {
    size: Size,
    seen: HashSet<crate::node::Identity>,
}

impl Measure {
    /// Adds what is at `path`, with all below it; `false`: nothing is there. Holes count as nothing, and a file with several names once.
    ///
    /// # Errors
    /// [`TreeError`].
    pub fn add(&mut self, root: &LayeredRoot, path: &Path) -> Result<bool, TreeError> {
        self.add_at(root, path, true)
    }

    /// The same, of a directory without what is in it.
    ///
    /// # Errors
    /// [`TreeError`].
    pub fn add_itself(&mut self, root: &LayeredRoot, path: &Path) -> Result<bool, TreeError> {
        self.add_at(root, path, false)
    }

    fn add_at(&mut self, root: &LayeredRoot, path: &Path, is_whole: bool) -> Result<bool, TreeError> {
        let name = crate::root::last_component(path)?;
        let (parent, found) = root.resolve(path.parent().unwrap_or(Path::new("/")))?;
        let Found::Directory(merged, _) = found else { return Ok(false) };
        match root.step(&merged, &name).map_err(|error| error.at(path))? {
            Found::Missing => return Ok(false),
            Found::Node(_, facts) => self.count(&facts),
            Found::Directory(merged, facts) => {
                self.count(&facts);
                if !is_whole {
                    return Ok(true);
                }
                let path = parent.join(path.file_name().unwrap_or_default());
                let path = std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str());
                let mut walk = LayeredWalk::new(root, path, merged, facts)?;
                while let Some(step) = walk.next()? {
                    match step {
                        Step::Node(_, _, facts) | Step::Enter(_, facts) => self.count(&facts),
                        Step::Leave(_) => {}
                    }
                }
            }
        }
        Ok(true)
    }

    /// What was added.
    pub fn size(&self) -> Size {
        self.size
    }

    fn count(&mut self, facts: &Facts) {
        if facts.links > 1 && !facts.is_directory() && !self.seen.insert(facts.identity) {
            return;
        }
        self.size.entries += 1;
        self.size.bytes += facts.allocated;
    }
}
