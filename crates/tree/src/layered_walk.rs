//! The way through a directory of two layers, what overlayfs would show of it: iterative, with a bounded number of descriptors.
//!
//! Only the deepest few directories are open. What was closed is found again from the top, by the names that led there: nobody may change
//! either layer meanwhile (a staged root nobody knows of yet, the root of a container that is stopped).

use crate::error::TreeError;
use crate::layered::LayeredRoot;
use crate::merged::{Found, Merged};
use crate::node::{Facts, as_path};
use std::ffi::{CStr, CString};
use std::os::fd::{BorrowedFd, OwnedFd};

const OPEN_AT_MOST: usize = 16;
/// A path of this many names is longer than any program can name; finding it again from the top takes as many steps.
const DEEPEST: usize = 4096;

/// One step of the way.
#[derive(Debug)]
pub(crate) enum Step {
    /// Anything but a directory.
    Node(CString, OwnedFd, Facts),
    /// A directory, before what is in it.
    Enter(CString, Facts),
    /// The same, after.
    Leave(Facts),
}

/// See the module.
#[derive(Debug)]
pub(crate) struct LayeredWalk<'a> {
    root: &'a LayeredRoot,
    frames: Vec<Frame>,
    /// Of the deepest frame, from the top.
    path: Vec<u8>,
}

#[derive(Debug)]
struct Frame {
    merged: Option<Merged>,
    facts: Facts,
    /// Still to be visited, the next one last.
    names: Vec<CString>,
    /// How long the path was before this directory was entered.
    parent_path: usize,
}

impl<'a> LayeredWalk<'a> {
    /// Below a directory of `root` that `path`, free of symlinks, leads to; its own [`Step::Leave`] comes last.
    pub(crate) fn new(
        root: &'a LayeredRoot,
        path: &[u8],
        merged: Merged,
        facts: Facts,
    ) -> Result<LayeredWalk<'a>, TreeError> {
        let mut walk = LayeredWalk { root, frames: Vec::new(), path: path.to_vec() };
        walk.push(merged, facts, 0)?;
        Ok(walk)
    }

    /// The directory that was entered last, in the layer whose attributes count.
    pub(crate) fn shown(&self) -> Option<BorrowedFd<'_>> {
        self.frames.last()?.merged.as_ref()?.shown()
    }

    /// Leaves the directory that was just entered, without a [`Step::Leave`].
    pub(crate) fn turn_back(&mut self) {
        if let Some(frame) = self.frames.pop() {
            self.path.truncate(frame.parent_path);
        }
    }

    /// The next step.
    pub(crate) fn next(&mut self) -> Result<Option<Step>, TreeError> {
        loop {
            let Some(frame) = self.frames.last_mut() else { return Ok(None) };
            let Some(name) = frame.names.pop() else {
                let facts = frame.facts;
                self.path.truncate(frame.parent_path);
                self.frames.pop();
                return Ok(Some(Step::Leave(facts)));
            };
            self.open()?;
            match self.step(&name)? {
                Found::Missing => {}
                Found::Node(handle, facts) => return Ok(Some(Step::Node(name, handle, facts))),
                Found::Directory(merged, facts) => {
                    let parent_path = self.path.len();
                    if self.frames.len() == DEEPEST {
                        let because = "it is nested too deep";
                        return Err(TreeError::BadPath { path: as_path(&self.path).to_owned(), because });
                    }
                    self.path.push(b'/');
                    self.path.extend_from_slice(name.to_bytes());
                    self.push(merged, facts, parent_path)?;
                    return Ok(Some(Step::Enter(name, facts)));
                }
            }
        }
    }

    fn step(&self, name: &CStr) -> Result<Found, TreeError> {
        let merged = self.frames.last().and_then(|frame| frame.merged.as_ref());
        let merged = merged.expect("it was opened before the step");
        self.root.step(merged, name).map_err(|error| {
            let path = [&self.path[..], b"/", name.to_bytes()].concat();
            error.at(as_path(&path))
        })
    }

    fn push(&mut self, merged: Merged, facts: Facts, parent_path: usize) -> Result<(), TreeError> {
        let mut names = merged.names().map_err(|error| TreeError::io("list", as_path(&self.path), error))?;
        names.reverse();
        self.frames.push(Frame { merged: Some(merged), facts, names, parent_path });
        if let Some(index) = self.frames.len().checked_sub(OPEN_AT_MOST + 1) {
            self.frames[index].merged = None;
        }
        Ok(())
    }

    /// Finds the deepest directory again, should it have been closed.
    fn open(&mut self) -> Result<(), TreeError> {
        let Some(frame) = self.frames.last_mut() else { return Ok(()) };
        if frame.merged.is_none() {
            let path = as_path(&self.path);
            match self.root.find(path)? {
                Found::Directory(merged, _) => frame.merged = Some(merged),
                Found::Node(..) | Found::Missing => return Err(TreeError::Moved { path: path.to_owned() }),
            }
        }
        Ok(())
    }
}
