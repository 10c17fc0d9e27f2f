//! What a delta changes of the tree below it; neither has to be mounted. The delta itself is nearly the answer.
//!
//! All of the upper layer is looked at, and of the lower one what it touches, by overlayfs' own rules
//! (`overlay.rs`):
//!
//! ```text
//!   in the upper layer                   is told as
//!   a name that the lower one lacks      added
//!   a name that both have                changed, and in what; or nothing, if they are alike
//!   a whiteout                           deleted, and so is each thing that was below it
//!   a directory that was made anew       what the lower one had in it and it has not: deleted
//!   a directory that was renamed         renamed; what is in it is compared with what was in it before
//! ```
//!
//! A path is *added* or *deleted* as seen from inside: a directory that is only in the delta because something in
//! it changed, and a file that was copied up and is what it was, are nothing. Not compared: times, which names are
//! one file (a copy-up parts them), flags of inodes, `trusted.overlay.*`, which is overlayfs' own.
//!
//! The upper layer may change meanwhile. What vanishes was not there.

use crate::built::OVERLAY;
use crate::contents;
use crate::descent::Descent;
use crate::error::TreeError;
use crate::layered::names_of;
use crate::node::{self, Facts, as_path};
use crate::overlay::{Below, Held, Inside, Lower, is_gone, is_whiteout, join, lower_child};
use crate::root::Root;
use rustix::fs;
use rustix::io::Errno;
use std::collections::HashSet;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// In what a node differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Aspect {
    /// A file was a directory, or a device another one. Nothing else is told then.
    Kind,
    Contents,
    /// Where a symlink points.
    Target,
    Mode,
    Owner,
    /// Extended attributes, ACLs and capabilities.
    Attributes,
}

/// What has become of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    Added,
    Deleted,
    Changed(Vec<Aspect>),
    /// A directory that was at `from`, absolute, in the lower layer; itself it may differ, too.
    Renamed {
        from: PathBuf,
        differs: Vec<Aspect>,
    },
}

/// One path that is not as it was. The handles are `O_PATH`, and tell which node was looked at.
#[derive(Debug)]
pub struct Difference<'a> {
    /// Absolute, from the top of the root.
    pub path: PathBuf,
    pub change: Change,
    /// "a regular file": what is there, or was.
    pub kind: &'static str,
    /// Of a regular file that is there, or was.
    pub bytes: u64,
    /// What is there now.
    pub upper: Option<BorrowedFd<'a>>,
    /// What was there; of what was renamed, where it was.
    pub lower: Option<BorrowedFd<'a>>,
}

/// Visits everything at and below `below` (absolute, or from the top; not followed) that differs, a directory
/// before what is in it, names in the order of their bytes. Without a template all that there is was added.
///
/// Returns a directory that was moved away while it was walked, if there was one: what else was in it, or beside
/// it, is not told.
///
/// # Errors
/// [`TreeError::Missing`]: `below` is in neither layer. [`TreeError::SymlinkOnTheWay`].
pub fn differences<E: From<TreeError>>(
    delta: &Root,
    template: Option<&Root>,
    below: &Path,
    mut visit: impl FnMut(&Difference<'_>) -> Result<(), E>,
) -> Result<Option<PathBuf>, E> {
    let mut way = names_of(below)?;
    let mut walk = Walk {
        delta,
        lower: Lower(template),
        limit: way.iter().fold(Vec::new(), |path, name| join(&path, name.to_bytes())),
        renamed: None,
        moved: None,
        visit: &mut visit,
    };
    match way.pop() {
        None => walk.whole()?,
        Some(last) => walk.only(&way, &last)?,
    }
    Ok(walk.moved)
}

struct Walk<'a, E> {
    delta: &'a Root,
    lower: Lower<'a>,
    /// At and below this everything is told.
    limit: Vec<u8>,
    /// To where in the lower layer redirects lead. Asked for only once a directory is not where it was.
    renamed: Option<HashSet<Vec<u8>>>,
    moved: Option<PathBuf>,
    visit: &'a mut dyn FnMut(&Difference<'_>) -> Result<(), E>,
}

/// A directory of the upper layer that is being walked.
struct Level {
    inside: Inside,
    /// What the lower layer has there; opened when needed, and closed on the way down.
    lower: Option<OwnedFd>,
    /// Names of the lower layer that are not seen any more, the next one last.
    hidden: Vec<CString>,
}

impl<E: From<TreeError>> Walk<'_, E> {
    fn whole(&mut self) -> Result<(), E> {
        let top = |root: &Root| node::hold(root.handle(), c".").map_err(failed(b""));
        let now = top(self.delta)?;
        if let Some(template) = self.lower.0 {
            self.compare(b"", &top(template)?, &now)?;
        }
        let inside = self.lower.top(now.0.as_fd()).map_err(failed(b""))?;
        self.descend(now.0.as_fd(), b"", inside)
    }

    /// Goes `way` through both layers, to what differs at and below its last name.
    fn only(&mut self, way: &[CString], last: &CStr) -> Result<(), E> {
        let mut path = Vec::new();
        let mut upper = Some(node::hold(self.delta.handle(), c".").map_err(failed(b""))?.0);
        let mut inside = self.lower.top(self.delta.handle()).map_err(failed(b""))?;
        for name in way {
            path = join(&path, name.to_bytes());
            (upper, inside) = self.step(upper, inside, name, &path)?;
        }
        path = join(&path, last.to_bytes());
        let found = child(upper.as_ref(), last).map_err(failed(&path))?;
        let own = self.own(&inside, last).map_err(failed(&path))?;
        match (found, own) {
            (Some(found), own)
                if own.is_some() || !is_whiteout(&found, &inside).map_err(failed(&path))? =>
            {
                if let Some(next) = self.entry(&path, last, &inside, own, &found)? {
                    self.descend(found.0.as_fd(), &path, next)?;
                }
                Ok(())
            }
            (None, Some(own)) => match &inside.below {
                Some(below) if !below.shows => self.deleted(&path, &below.child(last), &own),
                Some(_) | None => Ok(()),
            },
            (None | Some(_), None | Some(_)) => Err(TreeError::Missing { path: absolute(&path) }.into()),
        }
    }

    /// One directory further down, as the upper layer has it, and what the lower one has there.
    fn step(
        &self,
        upper: Option<OwnedFd>,
        inside: Inside,
        name: &CStr,
        path: &[u8],
    ) -> Result<(Option<OwnedFd>, Inside), TreeError> {
        let found = child(upper.as_ref(), name).map_err(failed(path))?;
        let own = self.own(&inside, name).map_err(failed(path))?;
        let parent = inside.below.as_ref();
        let seen = found.as_ref().or(own.as_ref().filter(|_| parent.is_some_and(|below| below.shows)));
        if seen.is_some_and(|(_, facts)| facts.is_symlink()) {
            return Err(TreeError::SymlinkOnTheWay { path: absolute(path) });
        }
        let has_own = own.is_some_and(|(_, facts)| facts.is_directory());
        match found {
            Some((handle, facts)) if facts.is_directory() => {
                let inside =
                    self.lower.inside(parent, name, handle.as_fd(), has_own).map_err(failed(path))?;
                Ok((Some(handle), inside))
            }
            found => {
                // Only what the lower layer has can be below: as it was, or not seen any more.
                let below = parent
                    .filter(|_| has_own)
                    .map(|parent| Below { path: parent.child(name), shows: parent.shows && found.is_none() });
                Ok((None, Inside { below, is_redirected: false, has_file_whiteouts: false }))
            }
        }
    }

    /// Everything in a directory of the upper layer.
    fn descend(&mut self, top: BorrowedFd<'_>, prefix: &[u8], inside: Inside) -> Result<(), E> {
        let mut descent = match Descent::start(top) {
            Err(error) if is_gone(&error) => return Ok(()),
            started => started?,
        };
        let mut levels = vec![self.level(inside)?];
        while let Some(level) = levels.last_mut() {
            if let Some(name) =
                level.hidden.pop_if(|hidden| descent.peek_name().is_none_or(|name| hidden.as_c_str() < name))
            {
                let path = join(prefix, &descent.path_of(&name));
                if let Some(own) = self.own_at(level, &name).map_err(failed(&path))?
                    && let Some(below) = &level.inside.below
                {
                    self.deleted(&path, &below.child(&name), &own)?;
                }
                continue;
            }
            let Some(name) = descent.next_name() else {
                if descent.depth() == 0 {
                    break;
                }
                match descent.leave() {
                    Ok(_) => levels.truncate(levels.len() - 1),
                    Err(TreeError::Moved { path }) => {
                        levels.truncate(levels.len() - descent.leave_moved());
                        self.moved.get_or_insert(absolute(&join(prefix, path.as_os_str().as_bytes())));
                    }
                    Err(error) => return Err(error.into()),
                }
                continue;
            };
            level.hidden.pop_if(|hidden| *hidden == name);
            let path = join(prefix, &descent.path_of(&name));
            let Some(found) = node::try_hold(descent.handle(), &name).map_err(failed(&path))? else {
                continue;
            };
            let own = self.own_at(level, &name).map_err(failed(&path))?;
            let next = self.entry(&path, &name, &level.inside, own, &found)?;
            let (handle, facts) = found;
            if let Some(next) = next
                && facts.identity.mount == descent.mount()
            {
                level.lower = None;
                match descent.enter(handle, &facts, &name) {
                    Ok(()) => levels.push(self.level(next)?),
                    Err(error) if is_gone(&error) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }

    /// One node of the upper layer, beside what the lower one has at the same path. Returns what is in it, if it
    /// is a directory.
    fn entry(
        &mut self,
        path: &[u8],
        name: &CStr,
        parent: &Inside,
        own: Option<Held>,
        found: &Held,
    ) -> Result<Option<Inside>, E> {
        let place = parent.below.as_ref().map(|below| below.child(name)).unwrap_or_default();
        if is_whiteout(found, parent).map_err(failed(path))? {
            if let Some(own) = own {
                self.deleted(path, &place, &own)?;
            }
            return Ok(None);
        }
        if !found.1.is_directory() {
            match self.unless_renamed(own, &place)? {
                Some(own) => {
                    self.compare(path, &own, found)?;
                    self.deleted_below(path, &place, &own)?;
                }
                None => self.tell(path, Change::Added, Some(found), None)?,
            }
            return Ok(None);
        }
        let has_own = own.as_ref().is_some_and(|(_, facts)| facts.is_directory());
        let mut inside =
            self.lower.inside(parent.below.as_ref(), name, found.0.as_fd(), has_own).map_err(failed(path))?;
        let source = inside.below.as_ref().filter(|below| inside.is_redirected && below.path != place);
        if let Some(Below { path: from, .. }) = source {
            if let Some(own) = own {
                // Another directory has taken its place.
                self.deleted(path, &place, &own)?;
            }
            if let Some(was) = self.lower.directory(from).map_err(failed(path))? {
                let differs = aspects(&was, found).map_err(failed(path))?;
                let change = Change::Renamed { from: absolute(from), differs };
                self.tell(path, change, Some(found), Some(&was))?;
            }
            return Ok(Some(inside));
        }
        let is_seen = inside.below.as_ref().is_some_and(|below| below.shows);
        match if is_seen { own } else { self.unless_renamed(own, &place)? } {
            Some(own) => self.compare(path, &own, found)?,
            None => {
                inside.below = None;
                self.tell(path, Change::Added, Some(found), None)?;
            }
        }
        Ok(Some(inside))
    }

    /// A path of the lower layer is gone, and all below it, but for what was only renamed.
    fn deleted(&mut self, path: &[u8], place: &[u8], own: &Held) -> Result<(), E> {
        if own.1.is_directory() && self.is_renamed(place)? {
            return Ok(());
        }
        self.tell(path, Change::Deleted, None, Some(own))?;
        self.deleted_below(path, place, own)
    }

    fn deleted_below(&mut self, path: &[u8], place: &[u8], own: &Held) -> Result<(), E> {
        if !own.1.is_directory() {
            return Ok(());
        }
        let mut descent = Descent::start(own.0.as_fd())?;
        loop {
            let Some(name) = descent.next_name() else {
                if descent.depth() == 0 {
                    return Ok(());
                }
                descent.leave()?;
                continue;
            };
            let below = descent.path_of(&name);
            let path = join(path, &below);
            let Some(own) = lower_child(descent.handle(), &name).map_err(failed(&path))? else { continue };
            let is_directory = own.1.is_directory();
            if is_directory && self.is_renamed(&join(place, &below))? {
                continue;
            }
            self.tell(&path, Change::Deleted, None, Some(&own))?;
            if is_directory && own.1.identity.mount == descent.mount() {
                descent.enter(own.0, &own.1, &name)?;
            }
        }
    }

    fn compare(&mut self, path: &[u8], was: &Held, now: &Held) -> Result<(), E> {
        let differs = aspects(was, now).map_err(failed(path))?;
        if differs.is_empty() {
            return Ok(());
        }
        self.tell(path, Change::Changed(differs), Some(now), Some(was))
    }

    fn tell(
        &mut self,
        path: &[u8],
        change: Change,
        upper: Option<&Held>,
        lower: Option<&Held>,
    ) -> Result<(), E> {
        let facts = upper.or(lower).map(|held| held.1);
        (self.visit)(&Difference {
            path: absolute(path),
            change,
            kind: facts.map_or("nothing", |facts| facts.kind()),
            bytes: facts.filter(Facts::is_regular).map_or(0, |facts| facts.size),
            upper: upper.map(|held| held.0.as_fd()),
            lower: lower.map(|held| held.0.as_fd()),
        })
    }

    fn level(&self, inside: Inside) -> Result<Level, TreeError> {
        let mut level = Level { inside, lower: None, hidden: Vec::new() };
        if let Some(below) = &level.inside.below
            && !below.shows
            && let Some((lower, _)) = self.lower.directory(&below.path).map_err(failed(&below.path))?
        {
            level.hidden = node::names(&lower).map_err(failed(&below.path))?;
            level.hidden.reverse();
            level.lower = Some(lower);
        }
        Ok(level)
    }

    /// What the lower layer has at a name of a directory that is being walked.
    fn own_at(&self, level: &mut Level, name: &CStr) -> Result<Option<Held>, Errno> {
        let Some(below) = &level.inside.below else { return Ok(None) };
        if level.lower.is_none() {
            level.lower = self.lower.directory(&below.path)?.map(|(lower, _)| lower);
        }
        level.lower.as_ref().map_or(Ok(None), |lower| lower_child(lower, name))
    }

    fn own(&self, inside: &Inside, name: &CStr) -> Result<Option<Held>, Errno> {
        let Some(below) = &inside.below else { return Ok(None) };
        let lower = self.lower.directory(&below.path)?;
        lower.map_or(Ok(None), |(lower, _)| lower_child(lower, name))
    }

    /// Whether a directory of the lower layer that is not seen at its place is seen elsewhere.
    fn is_renamed(&mut self, place: &[u8]) -> Result<bool, TreeError> {
        let renamed = match &mut self.renamed {
            Some(renamed) => renamed,
            none => {
                let limit = &self.limit;
                none.insert(self.lower.renamed(self.delta.handle(), |path| is_within(path, limit))?)
            }
        };
        Ok(renamed.contains(place))
    }

    fn unless_renamed(&mut self, own: Option<Held>, place: &[u8]) -> Result<Option<Held>, TreeError> {
        match own {
            Some((_, facts)) if facts.is_directory() && self.is_renamed(place)? => Ok(None),
            own => Ok(own),
        }
    }
}

/// What is another of what was and what is. That only the time is another is no difference: it is of a file that
/// was written back as it was, of a `touch`, and of each directory in which a name came or went.
fn aspects((was, old): &Held, (now, new): &Held) -> Result<Vec<Aspect>, Errno> {
    if old.file_type != new.file_type || old.device != new.device {
        return Ok(vec![Aspect::Kind]);
    }
    let target = |handle: &OwnedFd| fs::readlinkat(handle, c"", Vec::new());
    let mut differs = Vec::new();
    if new.is_regular() && (old.size != new.size || !contents::same(was.as_fd(), now.as_fd(), new.size)?) {
        differs.push(Aspect::Contents);
    }
    if new.is_symlink() && target(was)? != target(now)? {
        differs.push(Aspect::Target);
    }
    if old.mode != new.mode {
        differs.push(Aspect::Mode);
    }
    if (old.uid, old.gid) != (new.uid, new.gid) {
        differs.push(Aspect::Owner);
    }
    if attributes(was)? != attributes(now)? {
        differs.push(Aspect::Attributes);
    }
    Ok(differs)
}

/// All but overlayfs' own.
fn attributes(handle: &OwnedFd) -> Result<Vec<(CString, Vec<u8>)>, Errno> {
    let mut attributes = node::attributes(handle)?;
    attributes.retain(|(name, _)| !name.to_bytes().starts_with(OVERLAY));
    Ok(attributes)
}

fn child(directory: Option<&OwnedFd>, name: &CStr) -> Result<Option<Held>, Errno> {
    directory.map_or(Ok(None), |directory| node::try_hold(directory, name))
}

fn is_within(path: &[u8], limit: &[u8]) -> bool {
    limit.is_empty() || path.strip_prefix(limit).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
}

fn absolute(path: &[u8]) -> PathBuf {
    Path::new("/").join(as_path(path))
}

fn failed(path: &[u8]) -> impl Fn(Errno) -> TreeError {
    move |error| TreeError::io("look at", &absolute(path), error)
}
