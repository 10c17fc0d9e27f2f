//! A tree made out of what an archive says is in it, entry by entry, by handle.
//!
//! Whoever made the archive is trusted with nothing: a path is resolved by the kernel below the top (`openat2`, `RESOLVE_IN_ROOT`), so that a link which the
//! archive itself has brought leads to a place in the tree and nowhere else; `..` is refused. What an entry makes is always *made*: whatever had the name is
//! removed first, and is never opened, followed or written into. Nothing is durable when it is made (see [`crate::sync_filesystem`]): nobody knows of the
//! tree yet.
//!
//! The times of directories come last, since whatever is made in one changes them: they are all that is remembered of an entry.

mod give;

use self::give::{finish, give, give_to_file, times};
use crate::node::{self, HOLD, own_path};
use crate::transfer::{DEFAULT_LIST, OVERLAY};
use crate::write::Owned;
use crate::{escape, remove};
use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, ResolveFlags, Timestamps};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;

/// Names on the way to an entry. No root of use is as deep.
const DEEPEST: usize = 1024;
/// Of the paths of directories whose times are still to be set, in bytes.
const MOST_REMEMBERED: usize = 24 * 1024 * 1024;
const BUFFER: usize = 256 * 1024;
/// `openat2` gives up when somebody renames meanwhile; nobody does here.
const RESOLVE_ATTEMPTS: u32 = 8;

/// A moment: seconds since 1970, and nanoseconds after them.
pub type Moment = (i64, u32);

/// What an entry says of its node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Properties {
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// When it was changed last.
    pub modified: Moment,
    /// When it was read last; `None`: as [`Properties::modified`].
    pub accessed: Option<Moment>,
    /// Extended attributes by name. One that is not among them is taken away.
    pub attributes: BTreeMap<CString, Vec<u8>>,
}

/// What is to be made.
pub enum NewNode<'a> {
    /// A regular file.
    File {
        /// How long it is in the end.
        size: u64,
        /// Where its data goes: offset and length, in order. What lies between is a hole.
        segments: &'a [(u64, u64)],
        /// The data of all segments, one after the other.
        contents: &'a mut dyn Read,
    },
    /// One more name for what has this path.
    HardLink(&'a [u8]),
    /// To this target, whatever that is.
    Symlink(&'a [u8]),
    /// A directory, which may be there already.
    Directory,
    /// A FIFO.
    Fifo,
}

impl std::fmt::Debug for NewNode<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            NewNode::File { .. } => "File",
            NewNode::HardLink(_) => "HardLink",
            NewNode::Symlink(_) => "Symlink",
            NewNode::Directory => "Directory",
            NewNode::Fifo => "Fifo",
        })
    }
}

/// Why an entry was not made.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// `..` in a path.
    #[error("its path leads upwards (`..`)")]
    Upwards,
    /// Not a path that anything can be made at.
    #[error("its path {because}")]
    Path {
        /// "is empty", "has a NUL in it".
        because: &'static str,
    },
    /// Whatever is named is not there.
    #[error("it is one more name of `{}`, which is not there", escape::escaped(.target))]
    NoTarget {
        /// As the archive has it.
        target: Vec<u8>,
    },
    /// A hard link to a directory.
    #[error("it is one more name of `{}`, which is a directory", escape::escaped(.target))]
    TargetDirectory {
        /// As the archive has it.
        target: Vec<u8>,
    },
    /// What only overlayfs may set.
    #[error("it has the attribute `{}`, which only overlayfs may set", escape::escaped(.0.to_bytes()))]
    OverlayAttribute(CString),
    /// The data ended before its file did, or could not be read.
    #[error("its data cannot be read")]
    Contents(#[source] io::Error),
    /// More than there may be.
    #[error("with it there are more than {limit} {of}")]
    TooMuch {
        /// The limit.
        limit: u64,
        /// "bytes", "entries".
        of: &'static str,
    },
    /// The system said no.
    #[error("cannot {doing} it")]
    System {
        /// "make", "write".
        doing: &'static str,
        /// What it said.
        source: io::Error,
    },
}

fn failed(doing: &'static str) -> impl Fn(Errno) -> UnpackError {
    move |error| UnpackError::System { doing, source: error.into() }
}

/// How much an archive may bring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnpackLimits {
    /// Of data, holes not counted.
    pub bytes: u64,
    /// Of any kind.
    pub entries: u64,
}

/// How much was unpacked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unpacked {
    /// Of data, holes not counted.
    pub bytes: u64,
    /// Of any kind.
    pub entries: u64,
}

impl UnpackLimits {
    /// Is it within them?
    ///
    /// # Errors
    /// [`UnpackError::TooMuch`].
    pub fn check(&self, so_far: Unpacked) -> Result<(), UnpackError> {
        if so_far.entries > self.entries {
            return Err(UnpackError::TooMuch { limit: self.entries, of: "entries" });
        }
        if so_far.bytes > self.bytes {
            return Err(UnpackError::TooMuch { limit: self.bytes, of: "bytes" });
        }
        Ok(())
    }
}

/// A tree that is being unpacked.
#[derive(Debug)]
pub struct Unpack {
    root: OwnedFd,
    /// The directory that the last entry was made in, by its path, and how deep it is.
    last: Option<(Vec<u8>, OwnedFd)>,
    /// Directories and their times, in the order of the archive: the last word counts.
    times: Vec<(Box<[u8]>, Timestamps)>,
    remembered: usize,
    limits: UnpackLimits,
    unpacked: Unpacked,
    buffer: Vec<u8>,
    /// Some directory may give an access list to what is made in it.
    has_default_lists: bool,
}

impl Unpack {
    /// Into this directory, which nobody else may change meanwhile.
    pub fn new(root: OwnedFd, limits: UnpackLimits) -> Unpack {
        // One of the host's, which it was made in, goes on in it; what cannot be asked may have one.
        let has_default_lists =
            !matches!(fs::fgetxattr(&root, DEFAULT_LIST, &mut [0u8; 0]), Err(Errno::NODATA | Errno::NOTSUP));
        Unpack {
            has_default_lists,
            root,
            last: None,
            times: Vec::new(),
            remembered: 0,
            limits,
            unpacked: Unpacked::default(),
            buffer: vec![0; BUFFER],
        }
    }

    /// How much there may be.
    pub fn limits(&self) -> UnpackLimits {
        self.limits
    }

    /// How much there is by now.
    pub fn unpacked(&self) -> Unpacked {
        self.unpacked
    }

    /// Counts what the archive has and nothing is made of: it takes no room, but time.
    ///
    /// # Errors
    /// [`UnpackError::TooMuch`].
    pub fn pass_over(&mut self, passed: Unpacked) -> Result<(), UnpackError> {
        self.unpacked.entries += passed.entries;
        self.unpacked.bytes = self.unpacked.bytes.saturating_add(passed.bytes);
        self.limits.check(self.unpacked)
    }

    /// Makes one entry. `goes_on` is asked now and then within a large file; when it says no, the error is of the kind `Interrupted`.
    ///
    /// # Errors
    /// [`UnpackError`]: then the tree is in no state that anybody should use.
    pub fn make(
        &mut self,
        path: &[u8],
        what: NewNode<'_>,
        properties: &Properties,
        goes_on: &mut dyn FnMut(Unpacked) -> bool,
    ) -> Result<(), UnpackError> {
        if let Some(name) = properties.attributes.keys().find(|name| name.to_bytes().starts_with(OVERLAY)) {
            return Err(UnpackError::OverlayAttribute(name.clone()));
        }
        self.count()?;
        self.has_default_lists |= properties.attributes.contains_key(DEFAULT_LIST);
        let names = names(path)?;
        let Some((name, parents)) = names.split_last() else {
            if matches!(what, NewNode::Directory) {
                let top = node::open_directory(&self.root).map_err(failed("open"))?;
                give(&top, properties, true)?;
                return self.remember(b"", properties);
            }
            return Err(UnpackError::Path { because: "is that of the top, which is a directory" });
        };
        let name = CString::new(*name).map_err(|_| UnpackError::Path { because: "has a NUL in it" })?;
        match what {
            NewNode::Directory => {
                let parent = self.parent(parents)?;
                let is_there = matches!(look(parent, &name)?, Some((_, FileType::Directory)));
                if !is_there {
                    self.clear(parents, &name)?;
                    let parent = self.parent(parents)?;
                    fs::mkdirat(parent, &name, Mode::RWXU).map_err(failed("make"))?;
                }
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let made =
                    fs::openat(self.parent(parents)?, &name, flags, Mode::empty()).map_err(failed("open"))?;
                give(&made, properties, true)?;
                self.remember(&names.join(&b'/'), properties)
            }
            NewNode::File { size, segments, contents } => {
                let flags =
                    OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let mode = Mode::RUSR | Mode::WUSR;
                let made = match fs::openat(self.parent(parents)?, &name, flags, mode) {
                    // Hardly ever.
                    Err(Errno::EXIST) => {
                        self.clear(parents, &name)?;
                        fs::openat(self.parent(parents)?, &name, flags, mode)
                    }
                    other => other,
                };
                let made =
                    self.write(made.map_err(failed("make"))?.into(), size, segments, contents, goes_on)?;
                give_to_file(&made, properties, self.has_default_lists)?;
                fs::futimens(&made, &times(properties)).map_err(failed("give its times to"))?;
                // The disk works while we do: who syncs it all in the end waits for the rest alone. That it will not is told then.
                let _ = linux::begin_writing(&made);
                Ok(())
            }
            NewNode::HardLink(target) => self.link(parents, &name, target),
            NewNode::Symlink(target) => {
                let target = CString::new(target)
                    .map_err(|_| UnpackError::Path { because: "leads to one with a NUL in it" })?;
                self.clear(parents, &name)?;
                let parent = self.parent(parents)?;
                fs::symlinkat(&target, parent, &name).map_err(failed("make"))?;
                finish(parent, &name, properties, false)
            }
            NewNode::Fifo => {
                self.clear(parents, &name)?;
                let parent = self.parent(parents)?;
                fs::mknodat(parent, &name, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)
                    .map_err(failed("make"))?;
                finish(parent, &name, properties, true)
            }
        }
    }

    /// Removes what has this path, and all below it; what is not there is no error.
    ///
    /// # Errors
    /// [`UnpackError`].
    pub fn remove(&mut self, path: &[u8]) -> Result<(), UnpackError> {
        let names = names(path)?;
        let Some((name, parents)) = names.split_last() else {
            return Err(UnpackError::Path { because: "is that of the top, which cannot be removed" });
        };
        let name = CString::new(*name).map_err(|_| UnpackError::Path { because: "has a NUL in it" })?;
        match self.existing(parents)? {
            Some(_) => self.clear(parents, &name),
            None => Ok(()),
        }
    }

    /// Removes what has this path if that is a symlink; anything else stays.
    ///
    /// # Errors
    /// [`UnpackError`].
    pub fn remove_link(&mut self, path: &[u8]) -> Result<(), UnpackError> {
        let names = names(path)?;
        let Some((name, parents)) = names.split_last() else { return Ok(()) };
        let name = CString::new(*name).map_err(|_| UnpackError::Path { because: "has a NUL in it" })?;
        let Some(directory) = self.existing(parents)? else { return Ok(()) };
        match look(directory.as_fd(), &name)? {
            Some((_, FileType::Symlink)) => self.clear(parents, &name),
            Some(_) | None => Ok(()),
        }
    }

    /// Whether a directory on the way to what has this path, which itself need not be there, is a symlink.
    ///
    /// # Errors
    /// [`UnpackError`].
    pub fn leads_through_link(&self, path: &[u8]) -> Result<bool, UnpackError> {
        let names = names(path)?;
        let Some((_, parents)) = names.split_last().filter(|(_, parents)| !parents.is_empty()) else {
            return Ok(false);
        };
        let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        // `HOLD` alone would not follow the last of them, and find it.
        match fs::openat2(&self.root, parents.join(&b'/'), FOLLOWED, Mode::empty(), how) {
            Err(Errno::LOOP) => Ok(true),
            Ok(_) | Err(Errno::NOENT | Errno::NOTDIR) => Ok(false),
            Err(error) => Err(failed("look at")(error)),
        }
    }

    /// Removes everything in the directory that has this path; where there is none, that is no error.
    ///
    /// # Errors
    /// [`UnpackError`].
    pub fn empty(&mut self, path: &[u8]) -> Result<(), UnpackError> {
        let names = names(path)?;
        let Some(directory) = self.existing(&names)? else { return Ok(()) };
        self.last = None;
        let emptied = remove::empty_directory(directory.as_fd());
        emptied.map(drop).map_err(|error| UnpackError::System {
            doing: "remove what was in",
            source: io::Error::other(error),
        })
    }

    /// Gives one more attribute to what is there by now; a path that goes through a link is not followed.
    ///
    /// # Errors
    /// [`UnpackError`].
    pub fn set_attribute(&mut self, path: &[u8], attribute: &CStr, value: &[u8]) -> Result<(), UnpackError> {
        self.has_default_lists |= attribute == DEFAULT_LIST;
        let joined = names(path)?.join(&b'/');
        let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        let held = fs::openat2(&self.root, joined, HOLD, Mode::empty(), how).map_err(failed("look at"))?;
        let facts = node::facts(&held).map_err(failed("look at"))?;
        if facts.is_symlink() {
            return Ok(());
        }
        fs::setxattr(own_path(held.as_fd()), attribute, value, fs::XattrFlags::empty())
            .map_err(failed("give its attributes to"))
    }

    /// Gives directories their times: the last thing of all.
    ///
    /// # Errors
    /// [`UnpackError`].
    pub fn finish(mut self) -> Result<Unpacked, UnpackError> {
        for (path, times) in std::mem::take(&mut self.times) {
            // Another entry may have made something else of it, or a layer above have removed it.
            let held = match resolve(self.root.as_fd(), &path, HOLD) {
                Ok(held) => held,
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
                Err(error) => return Err(failed("find")(error)),
            };
            if node::facts(&held).map_err(failed("look at"))?.is_directory() {
                fs::utimensat(&held, c"", &times, AtFlags::EMPTY_PATH)
                    .map_err(failed("give its times to"))?;
            }
        }
        Ok(self.unpacked)
    }

    fn remember(&mut self, path: &[u8], properties: &Properties) -> Result<(), UnpackError> {
        self.remembered += path.len() + size_of::<(Box<[u8]>, Timestamps)>();
        if self.remembered > MOST_REMEMBERED {
            return Err(UnpackError::TooMuch { limit: self.times.len() as u64, of: "directories" });
        }
        self.times.push((path.into(), times(properties)));
        Ok(())
    }

    /// The directory of these names, made where it is not there.
    fn parent(&mut self, names: &[&[u8]]) -> Result<BorrowedFd<'_>, UnpackError> {
        let path = names.join(&b'/');
        if self.last.as_ref().is_none_or(|(last, _)| *last != path) {
            let directory = match resolve(self.root.as_fd(), &path, FOLLOWED) {
                Err(Errno::NOENT) => self.make_parents(names)?,
                found => found.map_err(failed("open the directory of"))?,
            };
            self.last = Some((path, directory));
        }
        self.last
            .as_ref()
            .map(|(_, directory)| directory.as_fd())
            .ok_or(UnpackError::Path { because: "has no directory" })
    }

    fn count(&mut self) -> Result<(), UnpackError> {
        self.pass_over(Unpacked { entries: 1, bytes: 0 })
    }

    fn make_parents(&mut self, names: &[&[u8]]) -> Result<OwnedFd, UnpackError> {
        let mut directory =
            resolve(self.root.as_fd(), b"", FOLLOWED).map_err(failed("open the directory of"))?;
        for index in 1..=names.len() {
            let path = names[..index].join(&b'/');
            directory = match resolve(self.root.as_fd(), &path, FOLLOWED) {
                Err(Errno::NOENT) => {
                    self.count()?;
                    let name = CString::new(names[index - 1])
                        .map_err(|_| UnpackError::Path { because: "has a NUL in it" })?;
                    let make = || {
                        fs::mkdirat(&directory, &name, Mode::RWXU)?;
                        let made = resolve(self.root.as_fd(), &path, FOLLOWED)?;
                        let owned = Owned { mode: 0o755, uid: 0, gid: 0 };
                        owned.give(node::open_directory(&made)?)?;
                        Ok(made)
                    };
                    make().map_err(|error| match error {
                        // A link that leads nowhere has the name.
                        Errno::EXIST => {
                            UnpackError::Path { because: "goes through a link that leads nowhere" }
                        }
                        error => failed("make the directory of")(error),
                    })?
                }
                found => found.map_err(failed("open the directory of"))?,
            };
        }
        Ok(directory)
    }

    /// The directory of these names, if it is there.
    fn existing(&self, names: &[&[u8]]) -> Result<Option<OwnedFd>, UnpackError> {
        match resolve(self.root.as_fd(), &names.join(&b'/'), FOLLOWED) {
            Ok(directory) => Ok(Some(directory)),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(error) => Err(failed("open the directory of")(error)),
        }
    }

    /// Removes what has a name.
    fn clear(&mut self, parents: &[&[u8]], name: &CStr) -> Result<(), UnpackError> {
        let parent = self.parent(parents)?;
        match look(parent, name)? {
            None => Ok(()),
            Some((_, FileType::Directory)) => {
                let removed = remove::remove_entry(parent, OsStr::from_bytes(name.to_bytes()));
                // It may have been that very one, or one on the way to it.
                self.last = None;
                removed.map(drop).map_err(|error| UnpackError::System {
                    doing: "make place for",
                    source: io::Error::other(error),
                })
            }
            Some((_, _)) => {
                fs::unlinkat(parent, name, AtFlags::empty()).map_err(failed("make place for"))?;
                // A link may have led to the directory that is known.
                self.last = None;
                Ok(())
            }
        }
    }

    fn link(&mut self, parents: &[&[u8]], name: &CStr, target: &[u8]) -> Result<(), UnpackError> {
        let missing = || UnpackError::NoTarget { target: target.to_owned() };
        let path = names(target)?.join(&b'/');
        let held = match resolve(self.root.as_fd(), &path, HOLD) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Err(missing()),
            found => found.map_err(failed("find what it is one more name of, to make"))?,
        };
        let facts = node::facts(&held).map_err(failed("look at"))?;
        if facts.is_directory() {
            return Err(UnpackError::TargetDirectory { target: target.to_owned() });
        }
        if let Some((there, _)) = look(self.parent(parents)?, name)?
            && node::facts(&there).map_err(failed("look at"))?.identity == facts.identity
        {
            return Ok(());
        }
        self.clear(parents, name)?;
        fs::linkat(&held, c"", self.parent(parents)?, name, AtFlags::EMPTY_PATH).map_err(failed("make"))
    }

    fn write(
        &mut self,
        file: File,
        size: u64,
        segments: &[(u64, u64)],
        contents: &mut dyn Read,
        goes_on: &mut dyn FnMut(Unpacked) -> bool,
    ) -> Result<File, UnpackError> {
        let data: u64 = segments.iter().map(|(_, length)| length).sum();
        let too_much = UnpackError::TooMuch { limit: self.limits.bytes, of: "bytes" };
        // Before the first byte of it: whoever says that he brings a terabyte is believed.
        if self.unpacked.bytes.saturating_add(data) > self.limits.bytes {
            return Err(too_much);
        }
        let system = |error| UnpackError::System { doing: "write", source: error };
        let mut end = 0;
        for &(offset, length) in segments {
            let mut at = offset;
            end = offset
                .checked_add(length)
                .ok_or(UnpackError::Path { because: "has data beyond any file" })?;
            while at < end {
                let wanted = usize::try_from(end - at).unwrap_or(BUFFER).min(BUFFER);
                contents.read_exact(&mut self.buffer[..wanted]).map_err(UnpackError::Contents)?;
                file.write_all_at(&self.buffer[..wanted], at).map_err(system)?;
                at += wanted as u64;
                self.unpacked.bytes += wanted as u64;
                if !goes_on(self.unpacked) {
                    return Err(system(io::ErrorKind::Interrupted.into()));
                }
            }
        }
        if end < size {
            file.set_len(size).map_err(system)?;
        }
        Ok(file)
    }
}

const FOLLOWED: OFlags = HOLD.difference(OFlags::NOFOLLOW).union(OFlags::DIRECTORY);

/// Below the top, whatever links there are; nothing that is mounted in it is entered.
fn resolve(root: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let path = if path.is_empty() { &b"."[..] } else { path };
    let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
    let mut attempts = 0;
    loop {
        match fs::openat2(root, path, flags, Mode::empty(), how) {
            Err(Errno::AGAIN | Errno::INTR) if attempts < RESOLVE_ATTEMPTS => attempts += 1,
            resolved => return resolved,
        }
    }
}

/// `./usr//bin/` is `usr`, `bin`; of an absolute path what it is below the top.
fn names(path: &[u8]) -> Result<Vec<&[u8]>, UnpackError> {
    let names: Vec<&[u8]> =
        path.split(|&byte| byte == b'/').filter(|name| !name.is_empty() && *name != b".").collect();
    if names.contains(&&b".."[..]) {
        return Err(UnpackError::Upwards);
    }
    if names.len() > DEEPEST {
        return Err(UnpackError::Path { because: "has more than 1,024 names in it" });
    }
    Ok(names)
}

fn look(parent: BorrowedFd<'_>, name: &CStr) -> Result<Option<(OwnedFd, FileType)>, UnpackError> {
    let held = node::try_hold(parent, name).map_err(failed("look at"))?;
    Ok(held.map(|(handle, facts)| (handle, facts.file_type)))
}
