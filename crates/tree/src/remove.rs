//! Removing a tree by handle, whatever is in it.
//!
//! Iterative, with a bounded number of descriptors, so depth is no matter. Immutable and append-only flags
//! are cleared. No link is followed and no mount is crossed: each directory is held, its mount compared,
//! and entered by that handle; what is a mount point is left, and reported. A death anywhere leaves a
//! smaller tree, and the next call goes on. One thing that cannot be removed does not keep the rest:
//! the first error is returned after everything else is gone.

use crate::descent::Descent;
use crate::error::TreeError;
use crate::node::{self, Facts, as_path};
use rustix::fs::{self, AtFlags, IFlags};
use rustix::io::Errno;
use std::ffi::{CStr, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// How often the removal starts again when somebody moves directories about in the tree.
const MOVES: u32 = 100;
/// How often a directory may be found filled again after it was emptied.
const REFILLS: u32 = 1000;

/// What was removed, and what could not be because something is mounted there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Removed {
    pub entries: u64,
    /// Mount points, relative to the directory that was given.
    pub left: Vec<PathBuf>,
}

/// Removes everything below `dir`; `dir` itself stays.
pub fn empty_directory(dir: BorrowedFd<'_>) -> Result<Removed, TreeError> {
    let mut entries = 0;
    for _ in 0..MOVES {
        let mut removal = Removal { entries, left: Vec::new(), failed: None, refills: 0 };
        match removal.empty(dir) {
            Err(TreeError::Moved { .. }) => entries = removal.entries,
            Err(error) => return Err(error),
            Ok(()) => return removal.finish(),
        }
    }
    Err(TreeError::Moved { path: PathBuf::from(".") })
}

/// Removes `name` in `dir`, a single component, with everything below it. Nothing there: nothing removed.
pub fn remove_entry(dir: BorrowedFd<'_>, name: &OsStr) -> Result<Removed, TreeError> {
    let path = Path::new(name);
    let because = "it is not one name in a directory";
    let name = node::component(name).map_err(|_| TreeError::BadPath { path: path.to_owned(), because })?;
    let failed = |error| TreeError::io("remove", path, error);
    let mount = node::facts(dir).map_err(failed)?.identity.mount;
    let mut removed = Removed::default();
    for _ in 0..REFILLS {
        let outcome = match unlink(dir, &name, mount).map_err(failed)? {
            Unlinked::Directory(handle, _) => {
                let below = empty_directory(handle.as_fd())?;
                removed.entries += below.entries;
                if !below.left.is_empty() {
                    removed.left = below.left.iter().map(|left| path.join(left)).collect();
                    return Ok(removed);
                }
                unlink_empty(dir, &name).map_err(failed)?
            }
            outcome @ (Unlinked::Removed | Unlinked::Gone | Unlinked::MountPoint) => outcome,
        };
        match outcome {
            Unlinked::Removed => removed.entries += 1,
            Unlinked::Gone => {}
            Unlinked::MountPoint => removed.left.push(path.to_owned()),
            Unlinked::Directory(..) => continue,
        }
        return Ok(removed);
    }
    Err(failed(Errno::NOTEMPTY))
}

enum Unlinked {
    Removed,
    Gone,
    MountPoint,
    Directory(OwnedFd, Facts),
}

struct Removal {
    entries: u64,
    left: Vec<PathBuf>,
    failed: Option<TreeError>,
    refills: u32,
}

impl Removal {
    fn empty(&mut self, dir: BorrowedFd<'_>) -> Result<(), TreeError> {
        // A flag that cannot be cleared shows in what cannot be removed.
        let _ = node::facts(dir).and_then(|facts| clear_flags(dir, &facts));
        let mut descent = Descent::start(dir)?;
        loop {
            match descent.next_name() {
                Some(name) => self.remove(&mut descent, &name)?,
                None if descent.depth() == 0 => return Ok(()),
                None => self.leave(&mut descent)?,
            }
        }
    }

    fn remove(&mut self, descent: &mut Descent, name: &CStr) -> Result<(), TreeError> {
        let mount = descent.mount();
        let outcome = unlink(descent.handle(), name, mount).and_then(|outcome| {
            if let Unlinked::Directory(handle, facts) = &outcome {
                clear_flags(handle.as_fd(), facts)?;
            }
            Ok(outcome)
        });
        match outcome {
            Ok(Unlinked::Removed) => self.entries += 1,
            Ok(Unlinked::Gone) => {}
            Ok(Unlinked::MountPoint) => self.left.push(as_path(&descent.path_of(name)).to_owned()),
            Ok(Unlinked::Directory(handle, facts)) => {
                if let Err(error) = descent.enter(handle, &facts, name) {
                    self.keep(error);
                }
            }
            Err(error) => self.keep(descent.failed_at(name, "remove", error)),
        }
        Ok(())
    }

    /// The directory was walked to its end: up, and it goes too, if nothing had to be left in it.
    fn leave(&mut self, descent: &mut Descent) -> Result<(), TreeError> {
        let name = descent.leave()?;
        match unlink_empty(descent.handle(), &name) {
            Ok(Unlinked::Removed) => self.entries += 1,
            Ok(Unlinked::Gone) => {}
            Ok(Unlinked::MountPoint) => self.left.push(as_path(&descent.path_of(&name)).to_owned()),
            Ok(Unlinked::Directory(..)) => {
                let nothing_left = self.left.is_empty() && self.failed.is_none();
                if nothing_left && self.refills < REFILLS {
                    self.refills += 1;
                    descent.again(name);
                } else if nothing_left {
                    self.keep(descent.failed_at(&name, "remove", Errno::NOTEMPTY));
                }
            }
            Err(error) => self.keep(descent.failed_at(&name, "remove", error)),
        }
        Ok(())
    }

    fn keep(&mut self, error: TreeError) {
        self.failed.get_or_insert(error);
    }

    fn finish(self) -> Result<Removed, TreeError> {
        match self.failed {
            Some(error) => Err(error),
            None => Ok(Removed { entries: self.entries, left: self.left }),
        }
    }
}

/// Removes `name` if it is no directory; a directory is returned, held, and known to be on `mount`.
fn unlink(dir: BorrowedFd<'_>, name: &CStr, mount: u64) -> Result<Unlinked, Errno> {
    match fs::unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) => return Ok(Unlinked::Removed),
        Err(Errno::NOENT) => return Ok(Unlinked::Gone),
        Err(Errno::BUSY) => return Ok(Unlinked::MountPoint),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error),
    }
    let Some((handle, facts)) = node::try_hold(dir, name)? else { return Ok(Unlinked::Gone) };
    if facts.identity.mount != mount {
        return Ok(Unlinked::MountPoint);
    }
    if facts.is_directory() {
        return Ok(Unlinked::Directory(handle, facts));
    }
    clear_flags(handle.as_fd(), &facts)?;
    match fs::unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) => Ok(Unlinked::Removed),
        Err(Errno::NOENT) => Ok(Unlinked::Gone),
        Err(error) => Err(error),
    }
}

/// Removes an empty directory. `Directory` says that it is not empty, or no more the one that was.
fn unlink_empty(dir: BorrowedFd<'_>, name: &CStr) -> Result<Unlinked, Errno> {
    match fs::unlinkat(dir, name, AtFlags::REMOVEDIR) {
        Ok(()) => Ok(Unlinked::Removed),
        Err(Errno::NOENT) => Ok(Unlinked::Gone),
        Err(Errno::BUSY) => Ok(Unlinked::MountPoint),
        Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR) => {
            let (handle, facts) = node::hold(dir, name)?;
            Ok(Unlinked::Directory(handle, facts))
        }
        Err(error) => Err(error),
    }
}

/// `chattr -i -a`. Only files and directories can have these flags; others must not even be opened.
fn clear_flags(handle: BorrowedFd<'_>, facts: &Facts) -> Result<(), Errno> {
    if !facts.immutable_or_append {
        return Ok(());
    }
    let opened = if facts.is_directory() {
        node::open_directory(handle)?
    } else if facts.is_regular() {
        node::open_regular(handle)?
    } else {
        return Ok(());
    };
    let flags = fs::ioctl_getflags(&opened)?;
    fs::ioctl_setflags(&opened, flags.difference(IFlags::IMMUTABLE | IFlags::APPEND))
}

/// For the walkers that take single nodes out of a tree.
pub(crate) fn unlink_node(dir: BorrowedFd<'_>, name: &CStr, facts: &Facts) -> Result<(), Errno> {
    match unlink(dir, name, facts.identity.mount)? {
        Unlinked::Removed | Unlinked::Gone => Ok(()),
        Unlinked::MountPoint => Err(Errno::BUSY),
        Unlinked::Directory(..) => Err(Errno::ISDIR),
    }
}
