//! What is being deleted: `/vz/private/.trash/<random>`, and `.trash/<random>` in the volume of a container that has one.
//!
//! To delete is to rename, which takes no time and is either done or not; the space comes back later, in the
//! background, and whoever empties may die at any moment: the next one goes on.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;

use crate::atomic::{self, AtomicError};
use crate::lock::{Lock, LockError, LockName};
use crate::prefix::Prefix;

pub use tree::Removed;

/// Something could not be thrown away, or the trash not emptied.
#[derive(Debug, thiserror::Error)]
pub enum TrashError {
    #[error(transparent)]
    Write(#[from] AtomicError),
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error(transparent)]
    Remove(#[from] tree::TreeError),
}

/// Moves `name` out of `parent` into the trash, durably; what is gone already is fine. Where `parent` lies on
/// another filesystem than the trash, it is removed on the spot.
pub fn discard(prefix: &Prefix, parent: BorrowedFd<'_>, name: impl AsRef<OsStr>) -> Result<(), TrashError> {
    let name = name.as_ref();
    let trash = atomic::open_directory(&prefix.trash_dir())?;
    let place = uuid::Uuid::new_v4().to_string();
    // A death before the rename: nothing is deleted. After it, or a power cut before the sync: it is in one of the two places, whole. Later it may
    // be in neither: what is in the trash was to go.
    match atomic::move_at(parent, name, trash.as_fd(), &place) {
        Ok(()) => Ok(()),
        Err(error) => match Errno::from_io_error(&error.source) {
            Some(Errno::NOENT) => Ok(atomic::fsync_dir(parent)?),
            Some(Errno::XDEV) => {
                let aside = format!(".discarded-{place}");
                atomic::move_at(parent, name, parent, &aside)?;
                // A death from here on leaves `.discarded-*`, which nothing takes for what it was.
                remove_now(parent, &aside)
            }
            _ => Err(error.into()),
        },
    }
}

/// Removes a tree on the spot: for what nobody has seen yet.
pub(crate) fn remove_now(parent: BorrowedFd<'_>, name: impl AsRef<OsStr>) -> Result<(), TrashError> {
    tree::remove_entry(parent, name.as_ref())?;
    Ok(atomic::fsync_dir(parent)?)
}

/// Deletes what is in the trash. One at a time: when another process is at it already, nothing is done. What is a
/// mount point stays, and is reported.
pub fn empty(prefix: &Prefix) -> Result<Removed, TrashError> {
    let mut removed = Removed { entries: 0, left: Vec::new() };
    let _lock = match Lock::exclusive(prefix, LockName::Trash, Duration::ZERO, "emptying the trash") {
        Ok(lock) => lock,
        Err(LockError::Held { .. }) => return Ok(removed),
        Err(error) => return Err(error.into()),
    };
    let mut seen = HashSet::new();
    let mut first = None;
    // Looked at again after each round: what came meanwhile has had its own process turned away by the lock.
    while empty_each(prefix, &mut seen, &mut removed, &mut first)? {}
    // What has given space back may have taken it for that.
    let _ = crate::reserve::keep(prefix);
    first.map_or(Ok(removed), |error| Err(TrashError::Remove(error)))
}

/// Everything that has not been tried yet, in the trash of the host and in those of the volumes; false: there was nothing.
fn empty_each(
    prefix: &Prefix,
    seen: &mut HashSet<OsString>,
    removed: &mut Removed,
    first: &mut Option<tree::TreeError>,
) -> Result<bool, TrashError> {
    let mut has_found = false;
    for trash in trashes(prefix)? {
        loop {
            // Names are drawn by lot: one that was seen in another trash is the same.
            let names = atomic::names_in(trash.as_fd())?;
            let Some(name) = names.into_iter().find(|name| !seen.contains(name)) else { break };
            has_found = true;
            // A death anywhere in here leaves a part of the tree; the next one removes the rest.
            match tree::remove_entry(trash.as_fd(), &name) {
                Ok(one) => {
                    removed.entries += one.entries;
                    removed.left.extend(one.left);
                }
                // One disk that has gone read-only is no reason to leave the others full.
                Err(error) => drop(first.get_or_insert(error)),
            }
            seen.insert(name);
        }
    }
    Ok(has_found)
}

fn trashes(prefix: &Prefix) -> Result<Vec<OwnedFd>, TrashError> {
    let mut all = vec![atomic::open_directory(&prefix.trash_dir())?];
    all.extend(crate::volume::trashes(prefix));
    Ok(all)
}

pub fn is_empty(prefix: &Prefix) -> Result<bool, TrashError> {
    for trash in trashes(prefix)? {
        if !atomic::names_in(trash.as_fd())?.is_empty() {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prefix::tests::prefix;

    #[test]
    fn what_is_discarded_is_gone_from_its_place_and_then_from_the_disk() {
        let (_directory, prefix) = prefix();
        let private = atomic::open_directory(&prefix.private_dir()).unwrap();
        std::fs::create_dir_all(prefix.private_dir().join("thing/deep")).unwrap();
        atomic::replace(&prefix.private_dir().join("thing/deep/file"), b"x", 0o600).unwrap();
        assert!(is_empty(&prefix).unwrap());

        discard(&prefix, private.as_fd(), "thing").unwrap();
        assert!(!prefix.private_dir().join("thing").exists());
        assert!(!is_empty(&prefix).unwrap());
        discard(&prefix, private.as_fd(), "thing").unwrap();

        assert!(empty(&prefix).unwrap().entries >= 3);
        assert!(is_empty(&prefix).unwrap());
    }

    #[test]
    fn two_things_of_the_same_name_do_not_meet() {
        let (_directory, prefix) = prefix();
        let private = atomic::open_directory(&prefix.private_dir()).unwrap();
        for _ in 0..2 {
            std::fs::create_dir(prefix.private_dir().join("1")).unwrap();
            discard(&prefix, private.as_fd(), "1").unwrap();
        }
        assert_eq!(std::fs::read_dir(prefix.trash_dir()).unwrap().count(), 2);
    }

    #[test]
    fn leaves_the_trash_to_whoever_empties_it_already() {
        let (_directory, prefix) = prefix();
        std::fs::create_dir(prefix.trash_dir().join("x")).unwrap();
        let lock = Lock::exclusive(&prefix, LockName::Trash, Duration::ZERO, "the other").unwrap();
        assert_eq!(empty(&prefix).unwrap().entries, 0);
        assert!(!is_empty(&prefix).unwrap());
        drop(lock);
        empty(&prefix).unwrap();
        assert!(is_empty(&prefix).unwrap());
    }
}
