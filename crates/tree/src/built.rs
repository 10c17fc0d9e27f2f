//! A root that a script built, looked over once before it is anybody's.
//!
//! Two things in it would mean something to the host or to overlayfs that they do not mean to the script:
//! `trusted.overlay.*` attributes and 0:0 character devices make overlayfs hide or redirect files. The
//! container's own root cannot make these, so a tree that has them is refused, by name. Device nodes are
//! removed and reported: a container gets its devices from us.

use crate::error::TreeError;
use crate::escape::{escaped, escaped_path as shown};
use crate::node::Facts;
use crate::{descent, node, remove};
use std::collections::HashSet;
use std::ffi::CString;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

pub(crate) const OVERLAY: &[u8] = b"trusted.overlay.";

/// What was found in a root that a script built.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Accepted {
    pub entries: u64,
    /// Of regular files, hard links once.
    pub bytes: u64,
    pub removed_devices: Vec<PathBuf>,
}

/// Why a root that a script built is not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuiltRootError {
    #[error("the new root is a symlink; it has to be a directory")]
    Symlink,

    #[error("the new root is {kind}; it has to be a directory")]
    NotDirectory { kind: &'static str },

    #[error("the new root is empty")]
    Empty,

    #[error("`{}` has the attribute `{}`, which only overlayfs may set", shown(.path), escaped(.attribute))]
    OverlayAttribute { path: PathBuf, attribute: Vec<u8> },

    #[error("`{}` is a character device 0:0, with which overlayfs marks a deleted file", shown(.path))]
    Whiteout { path: PathBuf },

    #[error("something is still mounted at `{}`", shown(.path))]
    MountPoint { path: PathBuf },

    #[error("the new root cannot be looked over")]
    Tree {
        #[from]
        source: TreeError,
    },
}

/// Walks a tree that a script built, once. `dir` is the tree's top, held without following it.
pub fn accept_built_root(dir: BorrowedFd<'_>) -> Result<Accepted, BuiltRootError> {
    let top = node::facts(dir).map_err(|error| TreeError::io("look at", Path::new("."), error))?;
    if top.is_symlink() {
        return Err(BuiltRootError::Symlink);
    }
    if !top.is_directory() {
        return Err(BuiltRootError::NotDirectory { kind: top.kind() });
    }
    let attributes =
        node::attributes(dir).map_err(|error| TreeError::io("read attributes of", Path::new("."), error))?;
    refuse_overlay_attributes(attributes, || PathBuf::from("."))?;

    let mut accepted = Accepted::default();
    let mut linked = HashSet::new();
    descent::walk(dir, |visit| {
        if visit.is_mount_point {
            return Err(BuiltRootError::MountPoint { path: visit.path() });
        }
        if visit.facts.is_whiteout() {
            return Err(BuiltRootError::Whiteout { path: visit.path() });
        }
        accepted.entries += 1;
        if visit.facts.is_device() {
            remove::unlink_node(visit.parent, visit.name, visit.facts).map_err(visit.failed("remove"))?;
            accepted.removed_devices.push(visit.path());
            return Ok(());
        }
        let attributes = node::attributes(visit.handle).map_err(visit.failed("read attributes of"))?;
        refuse_overlay_attributes(attributes, || visit.path())?;
        accepted.bytes += own_bytes(visit.facts, &mut linked);
        Ok(())
    })?;
    if accepted.entries == 0 {
        return Err(BuiltRootError::Empty);
    }
    Ok(accepted)
}

fn refuse_overlay_attributes(
    attributes: Vec<(CString, Vec<u8>)>,
    path: impl FnOnce() -> PathBuf,
) -> Result<(), BuiltRootError> {
    match attributes.into_iter().find(|(name, _)| name.to_bytes().starts_with(OVERLAY)) {
        Some((name, _)) => {
            Err(BuiltRootError::OverlayAttribute { path: path(), attribute: name.into_bytes() })
        }
        None => Ok(()),
    }
}

/// The size of a regular file, at the first of its hard links.
pub(crate) fn own_bytes(facts: &Facts, linked: &mut HashSet<node::Identity>) -> u64 {
    if !facts.is_regular() || (facts.links > 1 && !linked.insert(facts.identity)) {
        return 0;
    }
    facts.size
}
