//! A directory of two layers, as overlayfs would show it, and the steps down from it.
//!
//! By overlayfs' own rules: the upper one's name wins; a 0:0 character device in it means that the name is gone; a directory marked opaque hides
//! the lower one's; one that was renamed says in `redirect` which lower directory it was: a name beside it, or a path from the lower layer's top.
//! Only the kernel can set these marks; a container cannot.

use crate::error::TreeError;
use crate::node::{self, Facts};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

pub(crate) const OPAQUE: &CStr = c"trusted.overlay.opaque";
pub(crate) const REDIRECT: &CStr = c"trusted.overlay.redirect";

/// A directory as both layers have it; either may lack it.
#[derive(Debug)]
pub(crate) struct Merged {
    pub upper: Option<OwnedFd>,
    pub lower: Option<OwnedFd>,
}

/// What a name in a merged directory is.
#[derive(Debug)]
pub(crate) enum Found {
    Missing,
    Directory(Merged, Facts),
    /// Anything else, held, in whichever layer it is.
    Node(OwnedFd, Facts),
}

/// A step's failure, before the path is known.
pub(crate) enum StepError {
    Errno(Errno),
    /// It was renamed from somewhere where no directory is.
    Redirected,
}

impl From<Errno> for StepError {
    fn from(error: Errno) -> StepError {
        StepError::Errno(error)
    }
}

impl StepError {
    pub(crate) fn at(self, path: &Path) -> TreeError {
        match self {
            StepError::Errno(error) => TreeError::io("look at", path, error),
            StepError::Redirected => TreeError::Redirected { path: path.to_owned() },
        }
    }
}

impl Merged {
    /// What `name` is here. `lower_top` is the lower layer's top, which a renamed directory's path begins at.
    pub(crate) fn step(&self, name: &CStr, lower_top: Option<BorrowedFd<'_>>) -> Result<Found, StepError> {
        let upper = match &self.upper {
            Some(upper) => node::try_hold(upper, name)?,
            None => None,
        };
        let Some((handle, facts)) = upper else { return Ok(self.step_lower(name)?) };
        if facts.is_whiteout() {
            return Ok(Found::Missing);
        }
        if !facts.is_directory() {
            return Ok(Found::Node(handle, facts));
        }
        let is_opaque = node::attribute(&handle, OPAQUE)?.is_some_and(|value| value == b"y");
        let lower = match node::attribute(&handle, REDIRECT)? {
            _ if is_opaque => None,
            Some(from) => Some(self.redirected(&from, lower_top)?),
            None => match self.step_lower(name)? {
                Found::Directory(Merged { lower, .. }, _) => lower,
                Found::Node(..) | Found::Missing => None,
            },
        };
        Ok(Found::Directory(Merged { upper: Some(handle), lower }, facts))
    }

    /// The lower directory that one with this mark was.
    fn redirected(&self, from: &[u8], lower_top: Option<BorrowedFd<'_>>) -> Result<OwnedFd, StepError> {
        let (start, way) = match from.strip_prefix(b"/") {
            Some(way) => (lower_top, way),
            None if from.contains(&b'/') => return Err(StepError::Redirected),
            None => (self.lower.as_ref().map(OwnedFd::as_fd), from),
        };
        let mut here = start
            .ok_or(StepError::Redirected)?
            .try_clone_to_owned()
            .map_err(|error| StepError::Errno(Errno::from_io_error(&error).unwrap_or(Errno::MFILE)))?;
        for part in way.split(|byte| *byte == b'/') {
            let name = node::component(std::os::unix::ffi::OsStrExt::from_bytes(part))
                .map_err(|_| StepError::Redirected)?;
            match node::try_hold(&here, &name)? {
                Some((handle, facts)) if facts.is_directory() => here = handle,
                Some(_) | None => return Err(StepError::Redirected),
            }
        }
        Ok(here)
    }

    fn step_lower(&self, name: &CStr) -> Result<Found, Errno> {
        let Some(lower) = &self.lower else { return Ok(Found::Missing) };
        Ok(match node::try_hold(lower, name)? {
            None => Found::Missing,
            Some((handle, facts)) if facts.is_directory() => {
                Found::Directory(Merged { upper: None, lower: Some(handle) }, facts)
            }
            // A template has no whiteouts of its own; overlayfs would take one at its word.
            Some((_, facts)) if facts.is_whiteout() => Found::Missing,
            Some((handle, facts)) => Found::Node(handle, facts),
        })
    }

    /// The names that either layer has, whiteouts among them, in the order of their bytes.
    pub(crate) fn names(&self) -> Result<Vec<CString>, Errno> {
        let mut names = match &self.upper {
            Some(upper) => node::names(upper)?,
            None => Vec::new(),
        };
        if let Some(lower) = &self.lower {
            if names.is_empty() {
                return node::names(lower);
            }
            let both: BTreeSet<CString> = names.into_iter().chain(node::names(lower)?).collect();
            names = both.into_iter().collect();
        }
        Ok(names)
    }

    /// The layer whose owner, mode and attributes count.
    pub(crate) fn shown(&self) -> Option<BorrowedFd<'_>> {
        self.upper.as_ref().or(self.lower.as_ref()).map(OwnedFd::as_fd)
    }

    pub(crate) fn is_empty(&self) -> Result<bool, Errno> {
        let mut hidden = Vec::new();
        if let Some(upper) = &self.upper {
            for name in node::names(upper)? {
                match node::try_hold(upper, &name)? {
                    Some((_, facts)) if facts.is_whiteout() => hidden.push(name),
                    Some(_) => return Ok(false),
                    None => {}
                }
            }
        }
        match &self.lower {
            Some(lower) => Ok(!node::any_name(lower, |name| !hidden.iter().any(|gone| **gone == *name))?),
            None => Ok(true),
        }
    }
}
