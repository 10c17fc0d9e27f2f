//! A container's root, by handle, nobody in it trusted.
//!
//! A path is absolute or relative, both from this root. The kernel resolves it below the handle
//! (`openat2`): a symlink to `/etc` is this root's `/etc`, `..` stops at the top, magic links are
//! refused. "Followed" means that the last component is followed too, in the same way.

use crate::error::TreeError;
use crate::node::{self, Facts, HOLD};
use crate::write::{self, Durable, Owned};
use rustix::fs::{self, AtFlags, Mode, OFlags, RenameFlags, ResolveFlags};
use rustix::io::Errno;
use std::ffi::{CStr, CString, OsString};
use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

/// `openat2` gives up with EAGAIN when something, anywhere on the host, is renamed while it resolves `..`.
const RESOLVE_ATTEMPTS: u32 = 128;

/// The top of a container's tree.
#[derive(Debug)]
pub struct Root {
    handle: OwnedFd,
}

/// What a name in a root is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    File {
        size: u64,
        mode: u32,
        uid: u32,
        gid: u32,
    },
    Directory {
        empty: bool,
        mode: u32,
        uid: u32,
        gid: u32,
    },
    Symlink,
    /// "a FIFO", "a socket", "a character device", "a block device".
    Other(&'static str),
}

/// The contents of a regular file with its owner and permission bits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileBytes {
    pub bytes: Vec<u8>,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
}

impl Root {
    /// `host_path` is the host's own; its last component must not be a symlink.
    pub fn open(host_path: &Path) -> Result<Root, TreeError> {
        let handle = fs::open(host_path, HOLD | OFlags::DIRECTORY, Mode::empty())
            .map_err(|error| TreeError::io("open the root", host_path, error))?;
        Ok(Root { handle })
    }

    pub fn from_handle(handle: OwnedFd) -> Root {
        Root { handle }
    }

    pub fn handle(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }

    /// Another handle on the same directory.
    pub fn try_clone(&self) -> Result<Root, TreeError> {
        let handle = self.handle.try_clone().map_err(|error| TreeError::io("open", Path::new("/"), error))?;
        Ok(Root { handle })
    }

    /// A directory inside, followed, as a root of its own.
    pub fn subdirectory(&self, path: &Path) -> Result<Option<Root>, TreeError> {
        let Some((handle, facts)) = self.hold(path, true)? else { return Ok(None) };
        if !facts.is_directory() {
            return Err(TreeError::NotDirectory { path: path.to_owned(), kind: facts.kind() });
        }
        Ok(Some(Root { handle }))
    }

    /// What `path` is; its last component is not followed. `None`: nothing is there.
    pub fn kind(&self, path: &Path) -> Result<Option<Kind>, TreeError> {
        self.kind_of(path, false)
    }

    /// What `path` leads to inside this root. A dangling link leads to nothing.
    pub fn kind_followed(&self, path: &Path) -> Result<Option<Kind>, TreeError> {
        self.kind_of(path, true)
    }

    /// Whether `path`, followed, is a directory with nothing in it. Missing: `false`.
    pub fn is_empty_directory(&self, path: &Path) -> Result<bool, TreeError> {
        Ok(matches!(self.kind_followed(path)?, Some(Kind::Directory { empty: true, .. })))
    }

    /// Whether `path`, followed, is a regular file that somebody may execute.
    pub fn has_executable(&self, path: &Path) -> Result<bool, TreeError> {
        let found = self.hold(path, true)?;
        Ok(found.is_some_and(|(_, facts)| facts.is_regular() && facts.mode & 0o111 != 0))
    }

    /// Mode and owner of a directory, not followed, without a look into it. `None`: nothing there, or no directory.
    pub fn directory_owner(&self, path: &Path) -> Result<Option<(u32, u32)>, TreeError> {
        let found = self.hold(path, false)?;
        Ok(found.filter(|(_, facts)| facts.is_directory()).map(|(_, facts)| (facts.mode, facts.uid)))
    }

    /// Where a symlink points, as it is written there. `None`: nothing there, or no symlink.
    pub fn read_link(&self, path: &Path) -> Result<Option<PathBuf>, TreeError> {
        let Some((handle, facts)) = self.hold(path, false)? else { return Ok(None) };
        if !facts.is_symlink() {
            return Ok(None);
        }
        let target = fs::readlinkat(&handle, c"", Vec::new())
            .map_err(|error| TreeError::io("read the symlink", path, error))?;
        Ok(Some(PathBuf::from(OsString::from_vec(target.into_bytes()))))
    }

    /// The names in a directory, followed, sorted. `None`: nothing there.
    pub fn names(&self, path: &Path) -> Result<Option<Vec<OsString>>, TreeError> {
        let Some(directory) = self.subdirectory(path)? else { return Ok(None) };
        let names = node::names(directory.handle()).map_err(|error| TreeError::io("list", path, error))?;
        Ok(Some(names.into_iter().map(|name| OsString::from_vec(name.into_bytes())).collect()))
    }

    /// As `names`, of a directory that has at most so many: whoever owns this root may have made it as large as the disk.
    pub fn names_up_to(&self, path: &Path, most: usize) -> Result<Option<Vec<OsString>>, TreeError> {
        let Some(directory) = self.subdirectory(path)? else { return Ok(None) };
        let names = node::names_up_to(directory.handle(), most)
            .map_err(|error| TreeError::io("list", path, error))?;
        let names = names.ok_or_else(|| TreeError::TooMany { path: path.to_owned(), most })?;
        Ok(Some(names.into_iter().map(|name| OsString::from_vec(name.into_bytes())).collect()))
    }

    /// Reads a regular file of at most `limit` bytes, followed inside this root. `None`: nothing there.
    pub fn read_file(&self, path: &Path, limit: u64) -> Result<Option<FileBytes>, TreeError> {
        match self.hold(path, true)? {
            Some((handle, facts)) => read_held(&handle, &facts, path, limit).map(Some),
            None => Ok(None),
        }
    }

    /// Replaces or makes a file durably. The directory it is in is followed inside this root; a symlink,
    /// FIFO or device at the last component is itself replaced.
    pub fn replace_file(
        &self,
        path: &Path,
        bytes: &[u8],
        mode: u32,
        uid: u32,
        gid: u32,
    ) -> Result<(), TreeError> {
        self.replace(path, bytes, Owned { mode, uid, gid }, Durable::AtOnce)
    }

    /// Opens a regular file, not followed, so that it can be locked as programs inside lock it; made empty, for its owner alone, where none is.
    pub fn open_to_lock(&self, path: &Path) -> Result<File, TreeError> {
        let failed = |error: Errno| TreeError::io("open", path, error);
        let Some((handle, facts)) = self.hold(path, false)? else {
            let (parent, name) = self.hold_parent(path)?;
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            return fs::openat(parent, &name, flags, Mode::RUSR | Mode::WUSR).map(File::from).map_err(failed);
        };
        if !facts.is_regular() {
            return Err(TreeError::NotRegular { path: path.to_owned(), kind: facts.kind() });
        }
        node::open_to_lock(handle).map(File::from).map_err(failed)
    }

    pub(crate) fn replace(
        &self,
        path: &Path,
        bytes: &[u8],
        owned: Owned,
        durable: Durable,
    ) -> Result<(), TreeError> {
        let (parent, name) = self.hold_parent(path)?;
        replace_held(parent.as_fd(), &name, bytes, owned, durable, path)
    }

    /// Makes a directory durably, all at once with its owner and mode. `false`: one was there (also by a
    /// symlink); it is left as it is.
    pub fn make_directory(&self, path: &Path, mode: u32, uid: u32, gid: u32) -> Result<bool, TreeError> {
        self.make(path, Owned { mode, uid, gid }, Durable::AtOnce)
    }

    pub(crate) fn make(&self, path: &Path, owned: Owned, durable: Durable) -> Result<bool, TreeError> {
        if let Some((_, facts)) = self.hold(path, true)? {
            return existing_directory(&facts, path);
        }
        let (parent, name) = self.hold_parent(path)?;
        write::make_directory_at(parent.as_fd(), &name, owned, &[], RenameFlags::NOREPLACE, durable)
            .map_err(|error| TreeError::io("make the directory", path, error))?;
        Ok(true)
    }

    /// Removes whatever but a directory is at `path`, not followed. `false`: nothing was there.
    pub fn remove_file(&self, path: &Path) -> Result<bool, TreeError> {
        self.remove(path, Durable::AtOnce)
    }

    pub(crate) fn remove(&self, path: &Path, durable: Durable) -> Result<bool, TreeError> {
        if self.hold(path, false)?.is_none() {
            return Ok(false);
        }
        let (parent, name) = self.hold_parent(path)?;
        fs::unlinkat(&parent, &name, AtFlags::empty())
            .and_then(|()| durable.sync_directory(parent.as_fd()))
            .map_err(|error| TreeError::io("remove", path, error))?;
        Ok(true)
    }

    fn kind_of(&self, path: &Path, follow: bool) -> Result<Option<Kind>, TreeError> {
        let Some((handle, facts)) = self.hold(path, follow)? else { return Ok(None) };
        let empty = facts.is_directory()
            && !node::any_name(&handle, |_| true).map_err(|error| TreeError::io("list", path, error))?;
        Ok(Some(kind_from(&facts, empty)))
    }

    /// The handle of what is at `path`; nothing is opened.
    pub(crate) fn hold(&self, path: &Path, follow: bool) -> Result<Option<(OwnedFd, Facts)>, TreeError> {
        let flags = if follow { HOLD.difference(OFlags::NOFOLLOW) } else { HOLD };
        let found = resolve(self.handle(), &inside(path), flags)
            .and_then(|handle| node::facts(&handle).map(|facts| (handle, facts)));
        match found {
            Ok(found) => Ok(Some(found)),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(error) => Err(TreeError::io("look at", path, error)),
        }
    }

    fn hold_parent(&self, path: &Path) -> Result<(OwnedFd, CString), TreeError> {
        let name = last_component(path)?;
        let parent = inside(path.parent().unwrap_or(Path::new("")));
        let handle = resolve(self.handle(), &parent, HOLD.difference(OFlags::NOFOLLOW) | OFlags::DIRECTORY)
            .map_err(|error| TreeError::io("open the directory of", path, error))?;
        Ok((handle, name))
    }
}

/// Resolves below `root`; neither a symlink nor `..` leads out of it.
fn resolve(root: BorrowedFd<'_>, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    if linux::mutated!("plain-path") {
        return fs::openat(root, path, flags.difference(OFlags::NOFOLLOW), Mode::empty());
    }
    let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let mut attempts = 0;
    loop {
        match fs::openat2(root, path, flags, Mode::empty(), how) {
            Err(Errno::AGAIN | Errno::INTR) if attempts < RESOLVE_ATTEMPTS => attempts += 1,
            resolved => return resolved,
        }
    }
}

/// A trailing slash would make the kernel follow the last component; an empty path means the top.
fn inside(path: &Path) -> PathBuf {
    let path: PathBuf = path.components().filter(|part| !matches!(part, Component::RootDir)).collect();
    if path.as_os_str().is_empty() { PathBuf::from(".") } else { path }
}

pub(crate) fn last_component(path: &Path) -> Result<CString, TreeError> {
    let because = "it does not end in a name";
    let bad = || TreeError::BadPath { path: path.to_owned(), because };
    let name = path.file_name().ok_or_else(bad)?;
    CString::new(name.as_bytes()).map_err(|_| bad())
}

pub(crate) fn kind_from(facts: &Facts, empty: bool) -> Kind {
    let Facts { size, mode, uid, gid, .. } = *facts;
    if facts.is_regular() {
        Kind::File { size, mode, uid, gid }
    } else if facts.is_directory() {
        Kind::Directory { empty, mode, uid, gid }
    } else if facts.is_symlink() {
        Kind::Symlink
    } else {
        Kind::Other(facts.kind())
    }
}

pub(crate) fn existing_directory(facts: &Facts, path: &Path) -> Result<bool, TreeError> {
    if facts.is_directory() {
        return Ok(false);
    }
    Err(TreeError::NotDirectory { path: path.to_owned(), kind: facts.kind() })
}

/// Opens what is held, if it is a regular file.
pub(crate) fn open_held(handle: &OwnedFd, facts: &Facts, path: &Path) -> Result<File, TreeError> {
    if !facts.is_regular() {
        return Err(TreeError::NotRegular { path: path.to_owned(), kind: facts.kind() });
    }
    node::open_regular(handle).map(File::from).map_err(|error| TreeError::io("open", path, error))
}

/// Reads what is held, if it is a regular file that is small enough. A file may grow while it is read, or
/// say that it has no bytes and have some: what counts is what comes.
pub(crate) fn read_held(
    handle: &OwnedFd,
    facts: &Facts,
    path: &Path,
    limit: u64,
) -> Result<FileBytes, TreeError> {
    let too_large = |size| TreeError::TooLarge { path: path.to_owned(), size, limit };
    if facts.is_regular() && facts.size > limit {
        return Err(too_large(facts.size));
    }
    let mut bytes = Vec::new();
    open_held(handle, facts, path)?
        .take(limit.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(|error| TreeError::io("read", path, error))?;
    if bytes.len() as u64 > limit {
        return Err(too_large(bytes.len() as u64));
    }
    Ok(FileBytes { bytes, mode: facts.mode, uid: facts.uid, gid: facts.gid })
}

pub(crate) fn replace_held(
    parent: BorrowedFd<'_>,
    name: &CStr,
    bytes: &[u8],
    owned: Owned,
    durable: Durable,
    path: &Path,
) -> Result<(), TreeError> {
    let failed = |error: std::io::Error| TreeError::io("replace", path, error);
    let found = node::try_hold(parent, name).map_err(|error| failed(error.into()))?;
    if let Some((_, facts)) = found
        && facts.is_directory()
    {
        return Err(TreeError::NotRegular { path: path.to_owned(), kind: facts.kind() });
    }
    write::replace_file_at(parent, name, bytes, owned, durable).map_err(failed)
}
