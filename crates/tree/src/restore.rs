//! A part of an old root back into a mounted one, in which a hostile container may run.
//!
//! ```text
//!   /srv/.reroot-restore-1f…    the copy, under a name of ours beside its place; a death leaves it, and the next restore to that place removes it
//!      sync
//!   /srv/www                    renamed there, if nothing is there
//!
//!   /srv/www.before-restore     or, where something is: the copy gets this name first, and then both change names at once.
//!   /srv/www  <──exchange──┘    So at every instant both are there, each whole.
//! ```
//!
//! The directory that it is put into is found step by step and held; whoever renames it takes the copy with him, and nothing leads out of the root.
//! What is mounted on the way is not seen by the handle that is given here: whoever gives it says what lies below a mount.

use crate::copy::{Copied, Copier, Except, Target, Told, joined};
use crate::error::TreeError;
use crate::ids::IdShift;
use crate::layered::LayeredRoot;
use crate::merged::Found;
use crate::node;
use crate::remove::remove_entry;
use crate::root::{Root, last_component};
use crate::sync::sync_filesystem;
use crate::transfer;
use rustix::fs::{self, RenameFlags};
use rustix::io::Errno;
use sha2::{Digest, Sha256};
use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

const SAVED: &[u8] = b".before-restore";
/// NAME_MAX of limits.h.
const LONGEST_NAME: usize = 255;
/// So many saved ones of one name are stepped aside of.
const ATTEMPTS: u32 = 1000;

/// What to bring back.
pub struct Restore<'a> {
    /// The old root, as it lies on the disk.
    pub from: &'a LayeredRoot,
    /// Where in it.
    pub path: &'a Path,
    /// The other one, as it is mounted.
    pub to: &'a Root,
    /// Where in it. The directories that lead there and are not, are made as the old root has them, if it is the same path.
    pub target: &'a Path,
    /// What owners are there.
    pub ids: IdShift,
    /// What is there is put aside.
    pub replaces: bool,
    /// Of a path without symlinks: why what is put there would not be seen.
    pub is_hidden: &'a dyn Fn(&Path) -> Option<&'static str>,
}

impl std::fmt::Debug for Restore<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Restore")
            .field("path", &self.path)
            .field("target", &self.target)
            .finish_non_exhaustive()
    }
}

/// What was brought back.
#[derive(Debug)]
pub struct Restored {
    /// How much.
    pub copied: Copied,
    /// What was there is there now, if something was.
    pub saved_as: Option<PathBuf>,
}

/// Why nothing was brought back.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    #[error("it is not there")]
    Missing,

    #[error("{kind} is there already")]
    InTheWay { kind: &'static str },

    #[error("the directory `{}` is not there", crate::escape::escaped_path(.path))]
    NoDirectory { path: PathBuf },

    #[error(transparent)]
    Tree {
        #[from]
        source: TreeError,
    },
}

/// Where it is put.
struct Place {
    parent: OwnedFd,
    name: CString,
    /// Directories of the old root that are to be made there, the first one under `name`.
    way: Vec<PathBuf>,
}

/// See the module. When it returns, it is durable.
///
/// # Errors
/// [`RestoreError`], and at the target everything is as it was.
pub fn restore(what: &Restore<'_>, told: Told<'_>) -> Result<Restored, RestoreError> {
    let (path, target) = (without_slashes(what.path)?, without_slashes(what.target)?);
    if !is_there(what.from, &path)? {
        return Err(RestoreError::Missing);
    }
    let place = place(what, &path, &target)?;
    let present = try_hold(&place)?;
    if let Some(kind) = present.filter(|_| !what.replaces) {
        return Err(RestoreError::InTheWay { kind });
    }
    let temporary = temporary_name(&place.name);
    let parent = place.parent.as_fd();
    remove(&place, &temporary)?;
    let put = (|| {
        let new = LayeredRoot::new(Root::from_handle(clone(&place.parent, &target)?), None);
        let mut copier = Copier::new(what.from, &new, Except::default(), told).with_ids(what.ids);
        if !copier.copy_as(&place.way, &path, &temporary)? {
            return Err(TreeError::Moved { path: path.clone() }.into());
        }
        let copied = copier.copied().clone();
        sync_filesystem(parent)?;
        let saved = put(&place, &temporary, what.replaces)?;
        node::open_directory(parent)
            .and_then(fs::fsync)
            .map_err(|error| TreeError::io("sync", &target, error))?;
        let beside = target.parent().unwrap_or(Path::new("/"));
        let saved_as = saved.map(|saved| beside.join(OsStr::from_bytes(saved.to_bytes())));
        Ok(Restored { copied, saved_as })
    })();
    if put.is_err() {
        // Best effort: the error that matters is that one.
        let _ = remove(&place, &temporary);
    }
    put
}

fn put(place: &Place, temporary: &CStr, replaces: bool) -> Result<Option<CString>, RestoreError> {
    let parent = place.parent.as_fd();
    let failed =
        |error| TreeError::io("put in its place", Path::new(OsStr::from_bytes(place.name.to_bytes())), error);
    let rename = |from: &CStr, to: &CStr, flags| fs::renameat_with(parent, from, parent, to, flags);
    match rename(temporary, &place.name, RenameFlags::NOREPLACE) {
        Ok(()) => return Ok(None),
        Err(Errno::EXIST) if replaces => {}
        Err(Errno::EXIST) => {
            return Err(RestoreError::InTheWay { kind: try_hold(place)?.unwrap_or("something") });
        }
        Err(error) => return Err(failed(error).into()),
    }
    for count in 1..=ATTEMPTS {
        let saved = saved_name(&place.name, count);
        match rename(temporary, &saved, RenameFlags::NOREPLACE) {
            Err(Errno::EXIST) => continue,
            result => result.map_err(failed)?,
        }
        // A death here leaves what was there at its place, and the copy, whole, under the name that the former was to get.
        return match rename(&saved, &place.name, RenameFlags::EXCHANGE) {
            Ok(()) => Ok(Some(saved)),
            Err(error) => {
                rename(&saved, temporary, RenameFlags::NOREPLACE).map_err(failed)?;
                Err(failed(error).into())
            }
        };
    }
    Err(failed(Errno::EXIST).into())
}

fn is_there(from: &LayeredRoot, path: &Path) -> Result<bool, TreeError> {
    let name = last_component(path)?;
    let Found::Directory(merged, _) = from.resolve(path.parent().unwrap_or(Path::new("/")))?.1 else {
        return Ok(false);
    };
    Ok(!matches!(from.step(&merged, &name).map_err(|error| error.at(path))?, Found::Missing))
}

/// Follows the way to the target as far as it is there.
fn place(what: &Restore<'_>, path: &Path, target: &Path) -> Result<Place, RestoreError> {
    let root = LayeredRoot::new(what.to.try_clone()?, None);
    let mut parent = root.top()?;
    let (mut real, mut gone) = (PathBuf::new(), PathBuf::from("/"));
    let mut name = last_component(target)?;
    let mut way = Vec::new();
    for part in target.parent().unwrap_or(Path::new("/")).components() {
        let Component::Normal(part) = part else { continue };
        gone.push(part);
        if !way.is_empty() {
            way.push(gone.clone());
            continue;
        }
        let here = real.join(part);
        match root.resolve(&here)? {
            (resolved, Found::Directory(merged, _)) => (real, parent) = (resolved, merged),
            (_, Found::Node(_, facts)) => {
                return Err(TreeError::NotDirectory { path: gone, kind: facts.kind() }.into());
            }
            (_, Found::Missing) if !matches!(root.find(&here)?, Found::Missing) => {
                let kind = "a symlink that leads nowhere";
                return Err(TreeError::NotDirectory { path: gone, kind }.into());
            }
            (_, Found::Missing) if path != target => return Err(RestoreError::NoDirectory { path: gone }),
            (_, Found::Missing) => {
                name = node::component(part).map_err(|error| TreeError::io("make", &gone, error))?;
                way.push(gone.clone());
            }
        }
    }
    let whole = Path::new("/").join(&real).join(OsStr::from_bytes(name.to_bytes()));
    if let Some(because) = (what.is_hidden)(&whole) {
        return Err(TreeError::BadPath { path: target.to_owned(), because }.into());
    }
    let parent = parent.upper.ok_or_else(|| TreeError::Moved { path: target.to_owned() })?;
    Ok(Place { parent, name, way })
}

impl Copier<'_> {
    /// Owners of what is made are shifted so.
    fn with_ids(mut self, ids: IdShift) -> Self {
        self.transfer.ids = ids;
        self
    }

    /// Copies `path` with all below it as `name` into the top of the new root, where nothing may be. `way` are directories that lead to it; they
    /// come with it, and then it is the first of them that is `name`. `false`: it is not there.
    fn copy_as(&mut self, way: &[PathBuf], path: &Path, name: &CStr) -> Result<bool, TreeError> {
        let (mut made, mut target_path) = (Vec::new(), Vec::new());
        let mut target = Target { merged: self.to.top()?, is_new: true };
        for (index, directory) in way.iter().enumerate() {
            let name = if index == 0 { name.to_owned() } else { last_component(directory)? };
            let Found::Directory(model, facts) = self.from.resolve(directory)?.1 else { return Ok(false) };
            target_path = joined(&target_path, &name);
            let entered = self.directory(&target, &name, &target_path, model.shown(), &facts)?;
            let Some(entered) = entered else { return Ok(false) };
            made.push((std::mem::replace(&mut target, entered), facts));
        }
        let own = last_component(path)?;
        let (source_parent, found) = self.from.resolve(path.parent().unwrap_or(Path::new("/")))?;
        let Found::Directory(source, _) = found else { return Ok(false) };
        let found = self.from.step(&source, &own).map_err(|error| error.at(path))?;
        if matches!(found, Found::Missing) {
            return Ok(false);
        }
        let source_path = joined(source_parent.as_os_str().as_bytes(), &own);
        let name = if way.is_empty() { name } else { &own };
        let target_path = joined(&target_path, name);
        self.found(&target, name, (&source_path, target_path), found, true)?;
        // The deepest first: each has changed the time of the one that it is in.
        for (parent, facts) in made.into_iter().rev() {
            transfer::give_times(target.upper(), &facts)
                .map_err(|error| TreeError::io("copy", path, error))?;
            target = parent;
        }
        Ok(true)
    }
}

fn try_hold(place: &Place) -> Result<Option<&'static str>, TreeError> {
    let found = node::try_hold(&place.parent, &place.name);
    let path = Path::new(OsStr::from_bytes(place.name.to_bytes()));
    Ok(found.map_err(|error| TreeError::io("look at", path, error))?.map(|(_, facts)| facts.kind()))
}

fn remove(place: &Place, name: &CStr) -> Result<(), TreeError> {
    remove_entry(place.parent.as_fd(), OsStr::from_bytes(name.to_bytes())).map(|_| ())
}

fn clone(handle: &OwnedFd, path: &Path) -> Result<OwnedFd, TreeError> {
    handle.try_clone().map_err(|error| TreeError::io("open", path, error))
}

/// Absolute, and without double and trailing slashes.
fn without_slashes(path: &Path) -> Result<PathBuf, TreeError> {
    let bad = |because| TreeError::BadPath { path: path.to_owned(), because };
    if !path.is_absolute() {
        return Err(bad("it does not begin with /"));
    }
    if path.components().any(|part| part == Component::ParentDir) {
        return Err(bad("`..` is not followed"));
    }
    let path: PathBuf = path.components().collect();
    if path.file_name().is_none() { Err(bad("it is the whole root")) } else { Ok(path) }
}

/// Of one length whatever the name's own is.
fn temporary_name(name: &CStr) -> CString {
    let hash = Sha256::digest(name.to_bytes());
    let hash: String = hash.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    CString::new(format!(".reroot-restore-{hash}")).expect("hexadecimal has no NUL")
}

fn saved_name(name: &CStr, count: u32) -> CString {
    let number = if count > 1 { format!("-{count}") } else { String::new() };
    let stem = &name.to_bytes()[..name.to_bytes().len().min(LONGEST_NAME - SAVED.len() - number.len())];
    CString::new([stem, SAVED, number.as_bytes()].concat()).expect("a name with a suffix has no NUL")
}
