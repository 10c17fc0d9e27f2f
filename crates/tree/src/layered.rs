//! A staged generation before its first mount: what overlayfs will show, without overlayfs.
//!
//! `delta/` (the upper layer) over a template's root (the lower one), by overlayfs' own rules: the upper
//! one's name wins; a 0:0 character device in it means that the name is gone; a directory marked opaque
//! hides the lower one's. Writes go to the upper one, and what is on the way is made there as overlayfs
//! would, with the lower one's owner, mode and attributes.
//!
//! No kernel resolves a path over two layers for us, so it is gone step by step, and a symlink on the way
//! is refused instead of followed; only the `…followed` questions follow, inside the two layers. With one
//! layer alone everything is as in `Root`.
//!
//! **Nothing written here is durable**: nothing leads to a staged generation, and its commit syncs all of it at once
//! (`sync_small_tree`). Each sync on the way would be one more commit of the filesystem's own journal.

use crate::error::TreeError;
use crate::merged::{Found, Merged, OPAQUE, StepError};
use crate::node;
use crate::root::{self, FileBytes, Kind, Root};
use crate::transfer;
use crate::write::{self, Durable, Owned};
use rustix::fs::{self, AtFlags, FileType, Mode, RenameFlags};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::ffi::{CStr, CString, OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

/// As many as the kernel follows in one path.
const SYMLINKS: u32 = 40;
const DURABLE: Durable = Durable::WithTheTree;

/// A root of one or two layers that is not mounted.
#[derive(Debug)]
pub struct LayeredRoot {
    upper: Root,
    lower: Option<Root>,
}

/// A directory that is to be made.
#[derive(Debug, Clone, Copy)]
pub struct NewDirectory<'a> {
    /// Where.
    pub path: &'a Path,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

impl LayeredRoot {
    /// Without `lower`, the upper one is all there is.
    pub fn new(upper: Root, lower: Option<Root>) -> LayeredRoot {
        LayeredRoot { upper, lower }
    }

    /// The directory that is written to.
    pub fn upper(&self) -> BorrowedFd<'_> {
        self.upper.handle()
    }

    /// The one below it, if there is one.
    pub fn lower(&self) -> Option<BorrowedFd<'_>> {
        self.lower.as_ref().map(Root::handle)
    }

    /// The upper one, and the lower one if there is one.
    pub(crate) fn layers(&self) -> (&Root, Option<&Root>) {
        (&self.upper, self.lower.as_ref())
    }

    /// The same path with the symlinks on the way followed inside this root; the last component is not. As it is, where the way leads nowhere.
    pub(crate) fn without_symlinks(&self, path: &Path) -> Result<PathBuf, TreeError> {
        let Some((parent, name)) = path.parent().zip(path.file_name()) else { return Ok(path.to_owned()) };
        match self.resolve(parent)? {
            (resolved, Found::Directory(..)) => Ok(Path::new("/").join(resolved).join(name)),
            (_, Found::Node(..) | Found::Missing) => Ok(path.to_owned()),
        }
    }

    /// What `path` is; its last component is not followed. `None`: nothing is there.
    pub fn kind(&self, path: &Path) -> Result<Option<Kind>, TreeError> {
        if self.lower.is_none() {
            return self.upper.kind(path);
        }
        kind_of(self.find(path)?, path)
    }

    /// What `path` leads to, symlinks followed inside this root.
    pub fn kind_followed(&self, path: &Path) -> Result<Option<Kind>, TreeError> {
        if self.lower.is_none() {
            return self.upper.kind_followed(path);
        }
        kind_of(self.find_followed(path)?, path)
    }

    /// Reads a regular file of at most `limit` bytes. `None`: nothing there. In two layers a symlink is
    /// not followed, and so is not a regular file.
    pub fn read_file(&self, path: &Path, limit: u64) -> Result<Option<FileBytes>, TreeError> {
        if self.lower.is_none() {
            return self.upper.read_file(path, limit);
        }
        read_found(self.find(path)?, path, limit)
    }

    /// As `read_file`, symlinks followed inside this root.
    pub fn read_file_followed(&self, path: &Path, limit: u64) -> Result<Option<FileBytes>, TreeError> {
        if self.lower.is_none() {
            return self.upper.read_file(path, limit);
        }
        read_found(self.find_followed(path)?, path, limit)
    }

    /// A regular file opened for reading, symlinks followed inside this root. `None`: nothing is there.
    pub fn open_file_followed(&self, path: &Path) -> Result<Option<File>, TreeError> {
        let held = if self.lower.is_none() {
            self.upper.hold(path, true)?
        } else {
            match self.find_followed(path)? {
                Found::Missing => None,
                Found::Node(handle, facts) => Some((handle, facts)),
                Found::Directory(_, facts) => {
                    return Err(TreeError::NotRegular { path: path.to_owned(), kind: facts.kind() });
                }
            }
        };
        let Some((handle, facts)) = held else { return Ok(None) };
        root::open_held(&handle, &facts, path).map(Some)
    }

    /// Whether `path`, followed inside this root, is a regular file that somebody may execute.
    pub fn has_executable(&self, path: &Path) -> Result<bool, TreeError> {
        let kind = self.kind_followed(path)?;
        Ok(matches!(kind, Some(Kind::File { mode, .. }) if mode & 0o111 != 0))
    }

    /// The names in a directory, symlinks followed inside this root, sorted. `None`: no directory is there.
    pub fn names(&self, path: &Path) -> Result<Option<Vec<OsString>>, TreeError> {
        let Found::Directory(merged, _) = self.resolve(path)?.1 else { return Ok(None) };
        let mut names = Vec::new();
        for name in merged.names().map_err(|error| TreeError::io("list", path, error))? {
            if !matches!(self.step(&merged, &name).map_err(|error| error.at(path))?, Found::Missing) {
                names.push(OsString::from_vec(name.into_bytes()));
            }
        }
        Ok(Some(names))
    }

    /// As `names`, of a directory that has at most so many in each layer.
    pub fn names_up_to(&self, path: &Path, most: usize) -> Result<Option<Vec<OsString>>, TreeError> {
        let Found::Directory(merged, _) = self.resolve(path)?.1 else { return Ok(None) };
        for layer in [&merged.upper, &merged.lower].into_iter().flatten() {
            let names = node::names_up_to(layer, most).map_err(|error| TreeError::io("list", path, error))?;
            if names.is_none() {
                return Err(TreeError::TooMany { path: path.to_owned(), most });
            }
        }
        self.names(path)
    }

    /// Replaces or makes a file in the upper layer; whatever but a directory may be there.
    pub fn replace_file(
        &self,
        path: &Path,
        bytes: &[u8],
        mode: u32,
        uid: u32,
        gid: u32,
    ) -> Result<(), TreeError> {
        let owned = Owned { mode, uid, gid };
        if self.lower.is_none() {
            return self.upper.replace(path, bytes, owned, DURABLE);
        }
        let name = root::last_component(path)?;
        if let Found::Directory(_, facts) = self.find(path)? {
            return Err(TreeError::NotRegular { path: path.to_owned(), kind: facts.kind() });
        }
        let parent = self.upper_parent(path)?;
        root::replace_held(parent.as_fd(), &name, bytes, owned, DURABLE, path)
    }

    /// Makes a directory in the upper layer. `false`: one was there, in either layer.
    pub fn make_directory(&self, path: &Path, mode: u32, uid: u32, gid: u32) -> Result<bool, TreeError> {
        let owned = Owned { mode, uid, gid };
        if self.lower.is_none() {
            return self.upper.make(path, owned, DURABLE);
        }
        match self.find(path)? {
            Found::Directory(..) => return Ok(false),
            Found::Node(_, facts) => return root::existing_directory(&facts, path),
            Found::Missing => {}
        }
        self.make_missing(&self.upper_parent(path)?, path, owned)
    }

    /// Makes directories that lie in one, as [`LayeredRoot::make_directory`] would each of them: the way to them is gone once.
    pub fn make_directories(&self, directories: &[NewDirectory<'_>]) -> Vec<Result<bool, TreeError>> {
        let one_by_one = |new: &NewDirectory<'_>| self.make_directory(new.path, new.mode, new.uid, new.gid);
        let way = self.lower.as_ref().and_then(|_| self.common_parent(directories));
        let Some(merged) = way else { return directories.iter().map(one_by_one).collect() };
        let mut parent = None;
        let mut make = |new: &NewDirectory<'_>| {
            let name = root::last_component(new.path)?;
            match self.step(&merged, &name).map_err(|error| error.at(new.path))? {
                Found::Directory(..) => return Ok(false),
                Found::Node(_, facts) => return root::existing_directory(&facts, new.path),
                Found::Missing => {}
            }
            let parent = match &mut parent {
                Some(parent) => parent,
                none => none.insert(self.upper_parent(new.path)?),
            };
            self.make_missing(parent, new.path, Owned { mode: new.mode, uid: new.uid, gid: new.gid })
        };
        directories.iter().map(&mut make).collect()
    }

    /// The directory that all of these are in. `None`: they are not all in one, or that is not there.
    fn common_parent(&self, directories: &[NewDirectory<'_>]) -> Option<Merged> {
        let parent = directories.first()?.path.parent()?;
        if directories.iter().any(|new| new.path.parent() != Some(parent)) {
            return None;
        }
        match self.find(parent) {
            Ok(Found::Directory(merged, _)) => Some(merged),
            Ok(Found::Missing | Found::Node(..)) | Err(_) => None,
        }
    }

    /// Makes one that neither layer shows in `parent`, which is of the upper one.
    fn make_missing(&self, parent: &OwnedFd, path: &Path, owned: Owned) -> Result<bool, TreeError> {
        let name = root::last_component(path)?;
        let failed = |error| TreeError::io("make the directory", path, error);
        let whiteout = node::try_hold(parent, &name).map_err(failed)?.is_some();
        let made = if whiteout {
            // The name was deleted: what the lower layer has there must stay hidden (as overlayfs does it).
            let opaque = [(OPAQUE.to_owned(), b"y".to_vec())];
            write::make_directory_at(parent.as_fd(), &name, owned, &opaque, RenameFlags::EXCHANGE, DURABLE)
        } else {
            write::make_directory_at(parent.as_fd(), &name, owned, &[], RenameFlags::NOREPLACE, DURABLE)
        };
        made.map_err(failed)?;
        Ok(true)
    }

    /// Removes whatever but a directory is at `path`. `false`: nothing was there.
    pub fn remove_file(&self, path: &Path) -> Result<bool, TreeError> {
        if self.lower.is_none() {
            return self.upper.remove(path, DURABLE);
        }
        match self.find(path)? {
            Found::Missing => return Ok(false),
            Found::Directory(_, facts) => {
                return Err(TreeError::NotRegular { path: path.to_owned(), kind: facts.kind() });
            }
            Found::Node(..) => {}
        }
        let name = root::last_component(path)?;
        let parent = self.upper_parent(path)?;
        let hides = self.lower_has(path)?;
        replace_by_whiteout(parent.as_fd(), &name, hides)
            .map_err(|error| TreeError::io("remove", path, error))?;
        Ok(true)
    }

    fn lower_top(&self) -> Option<BorrowedFd<'_>> {
        self.lower.as_ref().map(Root::handle)
    }

    /// What `name` in `directory`, one of this root's, is.
    pub(crate) fn step(&self, directory: &Merged, name: &CStr) -> Result<Found, StepError> {
        directory.step(name, self.lower_top())
    }

    pub(crate) fn top(&self) -> Result<Merged, TreeError> {
        let failed = |error: std::io::Error| TreeError::io("open", Path::new("/"), error);
        let upper = self.upper.handle().try_clone_to_owned().map_err(failed)?;
        let lower = self.lower.as_ref().map(|lower| lower.handle().try_clone_to_owned());
        Ok(Merged { upper: Some(upper), lower: lower.transpose().map_err(failed)? })
    }

    fn top_found(&self) -> Result<Found, TreeError> {
        let facts = node::facts(self.upper.handle())
            .map_err(|error| TreeError::io("look at", Path::new("/"), error))?;
        Ok(Found::Directory(self.top()?, facts))
    }

    /// Step by step; a symlink on the way is refused.
    pub(crate) fn find(&self, path: &Path) -> Result<Found, TreeError> {
        if linux::mutated!("plain-path") {
            return self.find_by_name(path);
        }
        let mut found = self.top_found()?;
        let mut gone = PathBuf::from("/");
        for name in names_of(path)? {
            let Some(merged) = directory_on_the_way(found, &gone)? else { return Ok(Found::Missing) };
            gone.push(OsStr::from_bytes(name.to_bytes()));
            found = self.step(&merged, &name).map_err(|error| error.at(&gone))?;
        }
        Ok(found)
    }

    /// As a program that thinks of no harm would: whatever the name leads to on the host. Only in test builds, see `linux::mutation`.
    fn find_by_name(&self, path: &Path) -> Result<Found, TreeError> {
        let upper = self.upper.hold(path, true)?;
        let lower = self.lower.as_ref().map(|lower| lower.hold(path, true)).transpose()?.flatten();
        Ok(match (upper, lower) {
            (Some((upper, facts)), Some((lower, below))) if facts.is_directory() && below.is_directory() => {
                Found::Directory(Merged { upper: Some(upper), lower: Some(lower) }, facts)
            }
            (Some((upper, facts)), _) if facts.is_directory() => {
                Found::Directory(Merged { upper: Some(upper), lower: None }, facts)
            }
            (None, Some((lower, facts))) if facts.is_directory() => {
                Found::Directory(Merged { upper: None, lower: Some(lower) }, facts)
            }
            (Some((_, facts)), _) if facts.is_whiteout() => Found::Missing,
            (Some((handle, facts)), _) | (None, Some((handle, facts))) => Found::Node(handle, facts),
            (None, None) => Found::Missing,
        })
    }

    fn find_followed(&self, path: &Path) -> Result<Found, TreeError> {
        Ok(self.resolve(path)?.1)
    }

    /// Step by step; a symlink puts its target before what is left of the path. Where it leads, free of symlinks, and what is there.
    pub(crate) fn resolve(&self, path: &Path) -> Result<(PathBuf, Found), TreeError> {
        let failed = |error: Errno| TreeError::io("look at", path, error);
        let mut left: VecDeque<OsString> = parts(path.as_os_str().as_bytes());
        // The names gone so far: `..` is gone anew from the top, which needs no trust in the handles.
        let mut way: Vec<CString> = Vec::new();
        let mut links = 0;
        while let Some(part) = left.pop_front() {
            match part.as_bytes() {
                b"." => continue,
                b".." => {
                    way.pop();
                    continue;
                }
                name => way.push(CString::new(name).map_err(|_| failed(Errno::INVAL))?),
            }
            let here: PathBuf = way.iter().map(|name| OsStr::from_bytes(name.to_bytes())).collect();
            match self.find(&here)? {
                Found::Missing => return Ok((here, Found::Missing)),
                Found::Node(handle, facts) if facts.is_symlink() => {
                    links += 1;
                    if links > SYMLINKS {
                        return Err(failed(Errno::LOOP));
                    }
                    way.pop();
                    let target = fs::readlinkat(&handle, c"", Vec::new()).map_err(failed)?.into_bytes();
                    if target.first() == Some(&b'/') {
                        way.clear();
                    }
                    for part in parts(&target).into_iter().rev() {
                        left.push_front(part);
                    }
                }
                Found::Node(..) if !left.is_empty() => return Ok((here, Found::Missing)),
                Found::Node(..) | Found::Directory(..) => {}
            }
        }
        let here: PathBuf = way.iter().map(|name| OsStr::from_bytes(name.to_bytes())).collect();
        let found = self.find(&here)?;
        Ok((here, found))
    }

    /// The upper layer's own directory that `path` is in, made there if only the lower one has it.
    pub(crate) fn upper_parent(&self, path: &Path) -> Result<OwnedFd, TreeError> {
        let mut names = names_of(path)?;
        names.pop();
        let mut merged = self.top()?;
        let mut gone = PathBuf::from("/");
        for name in names {
            gone.push(OsStr::from_bytes(name.to_bytes()));
            let failed = |error| TreeError::io("open the directory of", path, error);
            let found = self.step(&merged, &name).map_err(|error| error.at(&gone))?;
            let Some(mut next) = directory_on_the_way(found, &gone)? else {
                return Err(failed(Errno::NOENT));
            };
            if let (None, Some(model), Some(upper)) = (&next.upper, &next.lower, &merged.upper) {
                next.upper = Some(copy_up_directory(upper.as_fd(), &name, model).map_err(failed)?);
            }
            merged = next;
        }
        merged.upper.ok_or_else(|| TreeError::io("open the directory of", path, Errno::NOENT))
    }

    /// Whether the lower layer would show something at `path` if the upper one did not have it.
    fn lower_has(&self, path: &Path) -> Result<bool, TreeError> {
        let names = names_of(path)?;
        let Some((last, way)) = names.split_last() else { return Ok(false) };
        let mut merged = self.top()?;
        let mut gone = PathBuf::from("/");
        for name in way {
            gone.push(OsStr::from_bytes(name.to_bytes()));
            let found = self.step(&merged, name).map_err(|error| error.at(&gone))?;
            let Some(next) = directory_on_the_way(found, &gone)? else { return Ok(false) };
            merged = next;
        }
        let Some(lower) = merged.lower else { return Ok(false) };
        let found = node::try_hold(lower, last).map_err(|error| TreeError::io("look at", path, error))?;
        Ok(found.is_some())
    }
}

/// `None`: there is nothing, or something that is no directory.
fn directory_on_the_way(found: Found, path: &Path) -> Result<Option<Merged>, TreeError> {
    match found {
        Found::Directory(merged, _) => Ok(Some(merged)),
        Found::Node(_, facts) if facts.is_symlink() => {
            Err(TreeError::SymlinkOnTheWay { path: path.to_owned() })
        }
        Found::Node(..) | Found::Missing => Ok(None),
    }
}

fn kind_of(found: Found, path: &Path) -> Result<Option<Kind>, TreeError> {
    match found {
        Found::Missing => Ok(None),
        Found::Node(_, facts) => Ok(Some(root::kind_from(&facts, false))),
        Found::Directory(merged, facts) => {
            let empty = merged.is_empty().map_err(|error| TreeError::io("list", path, error))?;
            Ok(Some(root::kind_from(&facts, empty)))
        }
    }
}

fn read_found(found: Found, path: &Path, limit: u64) -> Result<Option<FileBytes>, TreeError> {
    match found {
        Found::Missing => Ok(None),
        Found::Node(handle, facts) => root::read_held(&handle, &facts, path, limit).map(Some),
        Found::Directory(_, facts) => {
            Err(TreeError::NotRegular { path: path.to_owned(), kind: facts.kind() })
        }
    }
}

/// The lower layer's directory, without what is in it, in the upper one.
pub(crate) fn copy_up_directory(
    upper: BorrowedFd<'_>,
    name: &CStr,
    model: &OwnedFd,
) -> Result<OwnedFd, Errno> {
    let facts = node::facts(model)?;
    let owned = Owned { mode: facts.mode, uid: facts.uid, gid: facts.gid };
    let attributes = transfer::own_attributes(model)?;
    write::make_directory_at(upper, name, owned, &attributes, RenameFlags::NOREPLACE, DURABLE)?;
    let (handle, facts) = node::hold(upper, name)?;
    if facts.is_directory() { Ok(handle) } else { Err(Errno::NOTDIR) }
}

/// What overlayfs does at an unlink: a whiteout over what the lower layer has, else just gone.
fn replace_by_whiteout(parent: BorrowedFd<'_>, name: &CStr, hides: bool) -> Result<(), Errno> {
    match fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(error) => return Err(error),
    }
    if hides {
        fs::mknodat(parent, name, FileType::CharacterDevice, Mode::empty(), 0)?;
    }
    DURABLE.sync_directory(parent)
}

/// The names of a path without symlinks to follow: `..` would mean something else after one.
pub(crate) fn names_of(path: &Path) -> Result<Vec<CString>, TreeError> {
    let bad = |because| TreeError::BadPath { path: path.to_owned(), because };
    let mut names = Vec::new();
    for part in path.components() {
        match part {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(name) => {
                names.push(CString::new(name.as_bytes()).map_err(|_| bad("it has a NUL in it"))?);
            }
            Component::ParentDir | Component::Prefix(_) => {
                return Err(bad("`..` is not followed in two layers"));
            }
        }
    }
    Ok(names)
}

fn parts(path: &[u8]) -> VecDeque<OsString> {
    path.split(|byte| *byte == b'/')
        .filter(|part| !part.is_empty())
        .map(|part| OsString::from_vec(part.to_vec()))
        .collect()
}
