//! The way down into a tree and back up: iterative, with a bounded number of descriptors.
//!
//! A frame for every directory on the way; only the deepest few are open. To go back up into one whose
//! handle was closed, `..` is opened and must be the very directory that we came through (filesystem,
//! inode, mount): a tree that is moved while we walk it never leads us somewhere else.
//!
//! ```text
//!   top ── a ── b ── … ── y ── z      open: top, and the last OPEN_AT_MOST of the way
//! ```

use crate::error::TreeError;
use crate::node::{self, Facts, HOLD, Identity, as_path};
use rustix::fs::{self, Mode, OFlags};
use rustix::io::Errno;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

const OPEN_AT_MOST: usize = 32;

/// Tells which names in a directory are to be visited, the first one first.
type List = fn(BorrowedFd<'_>) -> Result<Vec<CString>, Errno>;

#[derive(Debug)]
pub(crate) struct Descent {
    list: List,
    frames: Vec<Frame>,
    /// The directory on top of the frames, relative to the first one.
    path: Vec<u8>,
}

#[derive(Debug)]
struct Frame {
    handle: Option<OwnedFd>,
    identity: Identity,
    /// Still to be visited, the next one last.
    names: Vec<CString>,
    /// How long `path` was before this directory was entered.
    parent_path: usize,
}

impl Descent {
    pub(crate) fn start(top: BorrowedFd<'_>) -> Result<Descent, TreeError> {
        Descent::start_with(top, |directory| node::names(directory))
    }

    /// Past everything but directories, which the kernel tells without a look at each name.
    pub(crate) fn start_with_directories(top: BorrowedFd<'_>) -> Result<Descent, TreeError> {
        Descent::start_with(top, |directory| node::directories(directory))
    }

    /// Into a tree that is still to be made: there is nothing to visit.
    pub(crate) fn start_empty(top: BorrowedFd<'_>) -> Result<Descent, TreeError> {
        Descent::start_with(top, |_| Ok(Vec::new()))
    }

    fn start_with(top: BorrowedFd<'_>, list: List) -> Result<Descent, TreeError> {
        let mut descent = Descent { list, frames: Vec::new(), path: Vec::new() };
        let handle = fs::openat(top, c".", HOLD | OFlags::DIRECTORY, Mode::empty())
            .map_err(|error| descent.failed("open", error))?;
        let facts = node::facts(&handle).map_err(|error| descent.failed("look at", error))?;
        descent.push(handle, &facts, 0)?;
        Ok(descent)
    }

    /// 0 in the top directory.
    pub(crate) fn depth(&self) -> usize {
        self.frames.len() - 1
    }

    pub(crate) fn next_name(&mut self) -> Option<CString> {
        self.top_mut().names.pop()
    }

    /// What `next_name` would tell.
    pub(crate) fn peek_name(&self) -> Option<&CStr> {
        self.top().names.last().map(CString::as_c_str)
    }

    /// `name` of the present directory is to be visited again.
    pub(crate) fn again(&mut self, name: CString) {
        self.top_mut().names.push(name);
    }

    pub(crate) fn handle(&self) -> BorrowedFd<'_> {
        self.top().handle.as_ref().expect("the deepest directory is always open").as_fd()
    }

    /// The mount that the whole descent stays on.
    pub(crate) fn mount(&self) -> u64 {
        self.frames[0].identity.mount
    }

    pub(crate) fn path_of(&self, name: &CStr) -> Vec<u8> {
        let mut path = self.path.clone();
        append(&mut path, name);
        path
    }

    pub(crate) fn enter(&mut self, handle: OwnedFd, facts: &Facts, name: &CStr) -> Result<(), TreeError> {
        let parent_path = self.path.len();
        append(&mut self.path, name);
        if let Err(error) = self.push(handle, facts, parent_path) {
            self.path.truncate(parent_path);
            return Err(error);
        }
        let open_from = self.frames.len().saturating_sub(OPEN_AT_MOST);
        if open_from > 1 {
            self.frames[open_from - 1].handle = None;
        }
        Ok(())
    }

    /// Back to the directory above; returns the name, in it, of the one that was left.
    pub(crate) fn leave(&mut self) -> Result<CString, TreeError> {
        let above = self.frames.len() - 2;
        if self.frames[above].handle.is_none() {
            let handle = match fs::openat(self.handle(), c"..", HOLD | OFlags::DIRECTORY, Mode::empty()) {
                // Somebody removed it under us.
                Err(Errno::NOENT) => return Err(TreeError::Moved { path: as_path(&self.path).to_owned() }),
                opened => opened.map_err(|error| self.failed("go back up from", error))?,
            };
            let found = node::facts(&handle).map_err(|error| self.failed("go back up from", error))?;
            if found.identity != self.frames[above].identity {
                return Err(TreeError::Moved { path: as_path(&self.path).to_owned() });
            }
            self.frames[above].handle = Some(handle);
        }
        let parent_path = self.top().parent_path;
        let name = self.path[parent_path..].strip_prefix(b"/").unwrap_or(&self.path[parent_path..]);
        let name = CString::new(name).expect("it was made from a CString");
        self.path.truncate(parent_path);
        self.frames.pop();
        Ok(name)
    }

    /// Gives up all directories on the way that would have to be found again, the present one first; tells how
    /// many. For a look at a tree that others change: what they moved away must not end it. What was still to be
    /// visited in these directories is not.
    pub(crate) fn leave_moved(&mut self) -> usize {
        let mut left = 0;
        while self.depth() > 0 && (left == 0 || self.top().handle.is_none()) {
            self.path.truncate(self.top().parent_path);
            self.frames.pop();
            left += 1;
        }
        left
    }

    pub(crate) fn failed(&self, doing: &'static str, source: Errno) -> TreeError {
        let path = if self.path.is_empty() { &b"."[..] } else { &self.path };
        TreeError::io(doing, as_path(path), source)
    }

    pub(crate) fn failed_at(&self, name: &CStr, doing: &'static str, source: Errno) -> TreeError {
        TreeError::io(doing, as_path(&self.path_of(name)), source)
    }

    fn push(&mut self, handle: OwnedFd, facts: &Facts, parent_path: usize) -> Result<(), TreeError> {
        let mut names = (self.list)(handle.as_fd()).map_err(|error| self.failed("list", error))?;
        names.reverse();
        self.frames.push(Frame { handle: Some(handle), identity: facts.identity, names, parent_path });
        Ok(())
    }

    fn top(&self) -> &Frame {
        self.frames.last().expect("the top directory is never left")
    }

    fn top_mut(&mut self) -> &mut Frame {
        self.frames.last_mut().expect("the top directory is never left")
    }
}

fn append(path: &mut Vec<u8>, name: &CStr) {
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name.to_bytes());
}

/// One entry met by `walk`.
#[derive(Debug)]
pub(crate) struct Visit<'a> {
    /// 1 for what lies directly in the top directory.
    pub depth: usize,
    pub name: &'a CStr,
    pub parent: BorrowedFd<'a>,
    pub handle: BorrowedFd<'a>,
    pub facts: &'a Facts,
    /// Something is mounted here; it is not entered.
    pub is_mount_point: bool,
    descent: &'a Descent,
}

impl Visit<'_> {
    pub(crate) fn path(&self) -> PathBuf {
        as_path(&self.descent.path_of(self.name)).to_owned()
    }

    pub(crate) fn failed(&self, doing: &'static str) -> impl Fn(Errno) -> TreeError {
        move |error| self.descent.failed_at(self.name, doing, error)
    }
}

/// Visits everything below `top`, a directory before what is in it, names in the order of their bytes.
/// Mount points are visited and not entered.
pub(crate) fn walk<E: From<TreeError>>(
    top: BorrowedFd<'_>,
    mut visit: impl FnMut(&Visit<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let mut descent = Descent::start(top)?;
    loop {
        let Some(name) = descent.next_name() else {
            if descent.depth() == 0 {
                return Ok(());
            }
            descent.leave()?;
            continue;
        };
        let (handle, facts) = node::hold(descent.handle(), &name)
            .map_err(|error| descent.failed_at(&name, "look at", error))?;
        let is_mount_point = facts.identity.mount != descent.mount();
        visit(&Visit {
            depth: descent.depth() + 1,
            name: &name,
            parent: descent.handle(),
            handle: handle.as_fd(),
            facts: &facts,
            is_mount_point,
            descent: &descent,
        })?;
        if facts.is_directory() && !is_mount_point {
            descent.enter(handle, &facts, &name)?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{Scene, deep};

    /// At the bottom of a tree that is deeper than what stays open.
    fn at_the_bottom(scene: &Scene) -> Descent {
        let top = scene.handle();
        deep(&top, c"d", 2 * OPEN_AT_MOST);
        let mut descent = Descent::start(top.as_fd()).unwrap();
        while let Some(name) = descent.next_name() {
            let (handle, facts) = node::hold(descent.handle(), &name).unwrap();
            descent.enter(handle, &facts, &name).unwrap();
        }
        descent
    }

    #[test]
    fn the_way_back_up_ends_where_somebody_moved_the_tree() {
        let scene = Scene::new();
        let mut descent = at_the_bottom(&scene);
        std::fs::create_dir(scene.outside("host")).unwrap();
        // Its handle is closed by now: `..` of what was below it leads out of the tree.
        let moved = scene.at(&"d/".repeat(10));
        fs::rename(moved, scene.outside("host/d")).unwrap();
        let mut left = 0;
        let error = loop {
            match descent.leave() {
                Ok(_) => left += 1,
                Err(error) => break error,
            }
        };
        assert!(matches!(error, TreeError::Moved { .. }), "{error}");
        assert_eq!(left, 2 * OPEN_AT_MOST - 10);
        // Only the top is open still.
        assert_eq!((descent.leave_moved(), descent.depth()), (10, 0));
        assert_eq!(descent.path_of(c"x"), b"x");
    }

    #[test]
    fn the_way_down_and_up_keeps_few_handles_and_tells_the_path() {
        let scene = Scene::new();
        let mut descent = at_the_bottom(&scene);
        let open = descent.frames.iter().filter(|frame| frame.handle.is_some()).count();
        assert_eq!(open, OPEN_AT_MOST + 1);
        assert_eq!(descent.path_of(c"x").len(), 2 * (2 * OPEN_AT_MOST) + 1);
        while descent.depth() > 0 {
            assert_eq!(&*descent.leave().unwrap(), c"d");
        }
        assert_eq!(descent.path_of(c"x"), b"x");
    }
}
