//! What of a tree its container has changed: the paths that a copy of only that takes.
//!
//! Told by [`crate::differences`], and put so that a copier makes it again: a directory that was added or renamed is taken with all that is in it,
//! one of which only the owner or the like is another without. What is gone cannot be taken; it is told.

use crate::delta::{Aspect, Change, differences};
use crate::error::TreeError;
use crate::layered::LayeredRoot;
use std::path::{Path, PathBuf};

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changed {
    /// To be copied, a directory before what is in it.
    pub paths: Vec<ChangedPath>,
    /// What the lower layer has and this root has not; of a directory only itself.
    pub deleted: Vec<PathBuf>,
}

/// One path to be copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangedPath {
    /// Absolute; below the path that was asked for, as it was written.
    pub path: PathBuf,
    /// With all below it. Without, it is a directory whose contents, as far as they are others, come by themselves.
    pub is_whole: bool,
}

/// What was changed at and below `path`, whose parent is followed inside the root. `None`: nothing is there, and never was.
///
/// # Errors
/// [`TreeError`]; [`TreeError::Moved`] when somebody moves directories about meanwhile.
pub fn changed(root: &LayeredRoot, path: &Path) -> Result<Option<Changed>, TreeError> {
    let (upper, lower) = root.layers();
    let mut changed = Changed::default();
    // What has been told as a whole: the rest of it comes right after it.
    let mut whole: Option<PathBuf> = None;
    let real = root.without_symlinks(path)?;
    let as_asked = |found: &Path| match found.strip_prefix(&real) {
        Ok(rest) if !rest.as_os_str().is_empty() => path.join(rest),
        Ok(_) => path.to_owned(),
        Err(_) => found.to_owned(),
    };
    let ended = differences(upper, lower, &real, |difference| {
        if whole.as_ref().is_some_and(|whole| difference.path.starts_with(whole)) {
            return Ok(());
        }
        let is_whole = match &difference.change {
            Change::Added | Change::Renamed { .. } | Change::Deleted => true,
            Change::Changed(differs) => difference.kind != "a directory" || differs.contains(&Aspect::Kind),
        };
        if is_whole {
            whole = Some(difference.path.clone());
        }
        if difference.change == Change::Deleted {
            changed.deleted.push(as_asked(&difference.path));
        } else {
            changed.paths.push(ChangedPath { path: as_asked(&difference.path), is_whole });
        }
        Ok::<(), TreeError>(())
    });
    match ended {
        Ok(None) => Ok(Some(changed)),
        Ok(Some(path)) => Err(TreeError::Moved { path }),
        Err(TreeError::Missing { .. } | TreeError::SymlinkOnTheWay { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}
