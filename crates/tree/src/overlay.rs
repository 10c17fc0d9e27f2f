//! overlayfs' own rules for a directory of the upper layer: what of the lower one is seen through it.
//!
//! ```text
//!   mark on a directory                  the lower layer below it is
//!   none                                 what has the same name, and is seen
//!   trusted.overlay.opaque = y           hidden
//!   trusted.overlay.redirect = /a/b, b   what lies there, and is seen: the directory was renamed
//!   trusted.overlay.opaque = x           as without a mark, but files with an attribute may be whiteouts
//! ```
//!
//! Handles only; nothing here is followed. A mark that no kernel would write shows nothing of the lower layer.

use crate::descent::Descent;
use crate::error::TreeError;
use crate::merged::{OPAQUE, REDIRECT};
use crate::node::{self, Facts};
use crate::root::Root;
use rustix::io::Errno;
use std::collections::HashSet;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

const WHITEOUT: &CStr = c"trusted.overlay.whiteout";
/// NAME_MAX of limits.h.
const LONGEST_NAME: usize = 255;

/// A node and what the kernel says of it.
pub(crate) type Held = (OwnedFd, Facts);

/// What of the lower layer belongs to a directory of the upper one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Below {
    /// Of a directory of the lower layer, from its top, without a slash before it.
    pub path: Vec<u8>,
    /// What the upper layer lacks is seen. If not, it is gone, and this is only what was at that path.
    pub shows: bool,
}

/// A directory of the upper layer, as its marks have it.
#[derive(Debug)]
pub(crate) struct Inside {
    pub below: Option<Below>,
    /// `below` is where a redirect leads, which may be the directory's own place: it was renamed there and back.
    pub is_redirected: bool,
    /// A file in it may be a whiteout.
    pub has_file_whiteouts: bool,
}

/// The lower layer, if there is one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lower<'a>(pub Option<&'a Root>);

impl Below {
    pub(crate) fn child(&self, name: &CStr) -> Vec<u8> {
        join(&self.path, name.to_bytes())
    }
}

pub(crate) fn join(path: &[u8], name: &[u8]) -> Vec<u8> {
    if path.is_empty() { name.to_vec() } else { [path, b"/", name].concat() }
}

/// `name` of a directory of the lower layer. One layer alone has whiteouts, too.
pub(crate) fn lower_child(directory: impl AsFd, name: &CStr) -> Result<Option<Held>, Errno> {
    Ok(node::try_hold(directory, name)?.filter(|(_, facts)| !facts.is_whiteout()))
}

/// Whether a node of the upper layer says that its name is gone.
pub(crate) fn is_whiteout((handle, facts): &Held, parent: &Inside) -> Result<bool, Errno> {
    if parent.has_file_whiteouts && facts.is_regular() && facts.size == 0 {
        return Ok(node::attribute(handle, WHITEOUT)?.is_some());
    }
    Ok(facts.is_whiteout())
}

impl Lower<'_> {
    /// The directory at `path`, gone step by step; a symlink is none.
    pub(crate) fn directory(self, path: &[u8]) -> Result<Option<Held>, Errno> {
        let Some(root) = self.0 else { return Ok(None) };
        let mut here = node::hold(root.handle(), c".")?;
        for part in path.split(|&byte| byte == b'/').filter(|part| !part.is_empty()) {
            let Ok(name) = CString::new(part) else { return Ok(None) };
            match lower_child(&here.0, &name)? {
                Some(next) if next.1.is_directory() => here = next,
                Some(_) | None => return Ok(None),
            }
        }
        Ok(Some(here))
    }

    /// The top of both layers is always one directory.
    pub(crate) fn top(self, upper: BorrowedFd<'_>) -> Result<Inside, Errno> {
        let below = self.0.map(|_| Below { path: Vec::new(), shows: true });
        Ok(Inside { below, is_redirected: false, has_file_whiteouts: is_marked(upper, b"x")? })
    }

    /// What lies below the directory `name` of the upper layer, in a directory with `parent` below it. `has_own`:
    /// the lower layer has a directory at the same path.
    pub(crate) fn inside(
        self,
        parent: Option<&Below>,
        name: &CStr,
        directory: BorrowedFd<'_>,
        has_own: bool,
    ) -> Result<Inside, Errno> {
        let place = parent.map(|parent| parent.child(name));
        let opaque = node::attribute(directory, OPAQUE)?;
        let is_opaque = opaque.as_deref() == Some(b"y");
        let has_file_whiteouts = opaque.as_deref() == Some(b"x");
        let redirect = if is_opaque { None } else { node::attribute(directory, REDIRECT)? };
        if let Some(redirect) = &redirect
            && let Some(path) = source(redirect, parent)
            && self.directory(&path)?.is_some()
        {
            let below = Some(Below { path, shows: true });
            return Ok(Inside { below, is_redirected: true, has_file_whiteouts });
        }
        let shows = !is_opaque && redirect.is_none() && parent.is_some_and(|parent| parent.shows);
        let below = place.filter(|_| has_own).map(|path| Below { path, shows });
        Ok(Inside { below, is_redirected: false, has_file_whiteouts })
    }

    /// The paths of directories of the lower layer to which redirects lead, from where `counts` says that it counts:
    /// what is not at its place, and is among these, was renamed. Looks at every directory of the upper layer, and at nothing else of it.
    pub(crate) fn renamed(
        self,
        upper: BorrowedFd<'_>,
        counts: impl Fn(&[u8]) -> bool,
    ) -> Result<HashSet<Vec<u8>>, TreeError> {
        let mut found = HashSet::new();
        let mut descent = Descent::start_with_directories(upper)?;
        let top = self.top(upper).map_err(|error| descent.failed("look at", error))?;
        let mut way = vec![top.below];
        loop {
            let Some(name) = descent.next_name() else {
                if descent.depth() == 0 {
                    return Ok(found);
                }
                match descent.leave() {
                    Ok(_) => way.truncate(way.len() - 1),
                    Err(TreeError::Moved { .. }) => way.truncate(way.len() - descent.leave_moved()),
                    Err(error) => return Err(error),
                }
                continue;
            };
            let failed = |error| descent.failed_at(&name, "look at", error);
            let Some((handle, facts)) = node::try_hold(descent.handle(), &name).map_err(failed)? else {
                continue;
            };
            if !facts.is_directory() || facts.identity.mount != descent.mount() {
                continue;
            }
            let parent = way.last().and_then(Option::as_ref);
            let inside = parent
                .map_or(Ok(None), |parent| self.directory(&parent.child(&name)))
                .and_then(|own| self.inside(parent, &name, handle.as_fd(), own.is_some()))
                .map_err(failed)?;
            // Also one at its own place: what is above it may have been renamed and have left that place to another.
            if let Some(below) = inside.below.as_ref().filter(|_| inside.is_redirected)
                && counts(&descent.path_of(&name))
            {
                found.insert(below.path.clone());
            }
            match descent.enter(handle, &facts, &name) {
                Ok(()) => way.push(inside.below),
                Err(error) if is_gone(&error) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// Somebody has removed it since its name was read.
pub(crate) fn is_gone(error: &TreeError) -> bool {
    error.io_error().is_some_and(|error| error.kind() == std::io::ErrorKind::NotFound)
}

/// Whether the directory has this `trusted.overlay.opaque`.
fn is_marked(directory: BorrowedFd<'_>, value: &[u8]) -> Result<bool, Errno> {
    Ok(node::attribute(directory, OPAQUE)?.is_some_and(|found| found == value))
}

/// The path in the lower layer that a redirect means: an absolute one, or a name beside it. `None`: the kernel
/// would not go there.
fn source(redirect: &[u8], parent: Option<&Below>) -> Option<Vec<u8>> {
    let is_name = |part: &[u8]| {
        !part.is_empty() && part != b"." && part != b".." && part.len() <= LONGEST_NAME && !part.contains(&0)
    };
    match redirect.strip_prefix(b"/") {
        Some(path) => path.split(|&byte| byte == b'/').all(is_name).then(|| path.to_vec()),
        None if redirect.contains(&b'/') || !is_name(redirect) => None,
        None => parent.filter(|parent| parent.shows).map(|parent| join(&parent.path, redirect)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_is_a_whole_path_or_a_name_and_nothing_else() {
        let shown = Below { path: b"a".to_vec(), shows: true };
        let hidden = Below { path: b"a".to_vec(), shows: false };
        for (redirect, below, path) in [
            (&b"/b/c"[..], None, Some(&b"b/c"[..])),
            (b"b", Some(&shown), Some(b"a/b")),
            (b"b", Some(&hidden), None),
            (b"b", None, None),
            (b"b/c", Some(&shown), None),
            (b"..", Some(&shown), None),
            (b"", Some(&shown), None),
            (b"/", Some(&shown), None),
            (b"//b", Some(&shown), None),
            (b"/b/", Some(&shown), None),
            (b"/b/../../etc", Some(&shown), None),
            (b"/b/./c", Some(&shown), None),
            (b"b\0c", Some(&shown), None),
        ] {
            assert_eq!(source(redirect, below).as_deref(), path, "{}", redirect.escape_ascii());
        }
        assert_eq!(source(&[b'x'; LONGEST_NAME + 1], Some(&shown)), None);
    }
}
