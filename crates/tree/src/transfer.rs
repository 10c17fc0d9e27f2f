//! One node made again under a name of its own: contents, holes, owner, mode, attributes, times.
//!
//! Made under its final name, not durably: nothing leads to the tree that it is in yet. The owner comes first, since a change of owner clears
//! setuid and capabilities; then the mode, the attributes, and last the times, which all else changes.

use crate::ids::IdShift;
use crate::node::{self, Facts};
use rustix::fs::{self, AtFlags, Gid, Mode, OFlags, SeekFrom, Timespec, Timestamps, Uid};
use rustix::io::{self, Errno};
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Of a large file so much is copied before somebody is asked whether to go on.
const CHUNK: usize = 16 * 1024 * 1024;
const BUFFER: usize = 1024 * 1024;
pub(crate) const ACCESS_LIST: &CStr = c"system.posix_acl_access";
pub(crate) const DEFAULT_LIST: &CStr = c"system.posix_acl_default";
/// overlayfs' own marks, which say nothing of the file.
pub(crate) const OVERLAY: &[u8] = b"trusted.overlay.";

/// What was learnt of the filesystem on the way.
#[derive(Debug, Default)]
pub(crate) struct Transfer {
    /// What owners are where it is written.
    pub ids: IdShift,
    /// overlayfs' own marks are copied, too: of a layer as it is, not of what it shows.
    keeps_marks: bool,
    cannot_clone: bool,
    cannot_copy_range: bool,
    buffer: Vec<u8>,
}

impl Transfer {
    /// For a layer as it lies on the disk.
    pub(crate) fn of_a_layer() -> Transfer {
        Transfer { keeps_marks: true, ..Transfer::default() }
    }

    /// Makes `name` in `parent`, where nothing is, like the held node: anything but a directory or a device. `goes_on` is asked now and then.
    pub(crate) fn node(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &CStr,
        handle: &OwnedFd,
        facts: &Facts,
        goes_on: &mut dyn FnMut() -> bool,
    ) -> Result<(), Errno> {
        if facts.is_regular() {
            let facts = &self.ids.facts(facts)?;
            let attributes = self.attributes(handle)?;
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let made = fs::openat(parent, name, flags, Mode::RUSR | Mode::WUSR)?;
            if facts.size > 0 {
                self.contents(handle, &made, facts.size, goes_on)?;
            }
            give_owner_and_mode(&made, facts)?;
            give_attributes(&made, &attributes, facts)?;
            return fs::futimens(&made, &times(facts));
        }
        if facts.is_symlink() {
            fs::symlinkat(fs::readlinkat(handle, c"", Vec::new())?, parent, name)?;
        } else {
            fs::mknodat(parent, name, facts.file_type, Mode::from_raw_mode(facts.mode), 0)?;
        }
        self.complete(parent, name, handle, facts)
    }

    /// The attributes of a held node that are copied.
    fn attributes(&self, handle: impl AsFd) -> Result<Vec<(CString, Vec<u8>)>, Errno> {
        self.ids.attributes(if self.keeps_marks {
            node::attributes(handle)?
        } else {
            own_attributes(handle)?
        })
    }

    /// Owner, mode and attributes of a directory.
    pub(crate) fn give_directory(
        &self,
        to: BorrowedFd<'_>,
        from: BorrowedFd<'_>,
        facts: &Facts,
    ) -> Result<(), Errno> {
        let to = node::open_directory(to)?;
        let facts = &self.ids.facts(facts)?;
        give_owner_and_mode(&to, facts)?;
        give_attributes(&to, &self.attributes(from)?, facts)
    }

    /// Gives what has just been made without contents the rest of what the held node has.
    pub(crate) fn complete(
        &self,
        parent: BorrowedFd<'_>,
        name: &CStr,
        handle: &OwnedFd,
        facts: &Facts,
    ) -> Result<(), Errno> {
        let facts = &self.ids.facts(facts)?;
        let attributes = self.attributes(handle)?;
        // From here on by its own handle: whoever may write in that directory may have put a symlink in its place, that leads to the host's files.
        let (made, found) = node::hold(parent, name)?;
        if found.file_type != facts.file_type {
            return Err(Errno::STALE);
        }
        let path = node::own_path(made.as_fd());
        fs::chownat(
            &made,
            c"",
            Some(Uid::from_raw(facts.uid)),
            Some(Gid::from_raw(facts.gid)),
            AtFlags::EMPTY_PATH,
        )?;
        if !facts.is_symlink() {
            if !attributes.iter().any(|(name, _)| name.as_c_str() == ACCESS_LIST) {
                match fs::removexattr(&path, ACCESS_LIST) {
                    Ok(()) | Err(Errno::NODATA | Errno::NOTSUP) => {}
                    Err(error) => return Err(error),
                }
            }
            fs::chmod(&path, Mode::from_raw_mode(facts.mode))?;
        }
        for (attribute, value) in attributes {
            fs::setxattr(&path, &attribute, &value, fs::XattrFlags::empty())?;
        }
        fs::utimensat(&made, c"", &times(facts), AtFlags::EMPTY_PATH)
    }

    fn contents(
        &mut self,
        handle: &OwnedFd,
        to: &OwnedFd,
        size: u64,
        goes_on: &mut dyn FnMut() -> bool,
    ) -> Result<(), Errno> {
        let from = node::open_regular(handle)?;
        if !self.cannot_clone {
            match fs::ioctl_ficlone(to, &from) {
                Ok(()) => return Ok(()),
                Err(Errno::XDEV | Errno::NOTSUP | Errno::NOTTY | Errno::NOSYS) => self.cannot_clone = true,
                // This very file not, perhaps.
                Err(Errno::INVAL | Errno::TXTBSY | Errno::PERM) => {}
                Err(error) => return Err(error),
            }
        }
        fs::ftruncate(to, size)?;
        let mut offset = 0;
        while let Some((start, end)) = next_data(&from, offset, size)? {
            self.range(from.as_fd(), to.as_fd(), start, end, goes_on)?;
            offset = end;
        }
        Ok(())
    }

    /// The bytes from `start` to `end`, or to where the file ends by now.
    fn range(
        &mut self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        start: u64,
        end: u64,
        goes_on: &mut dyn FnMut() -> bool,
    ) -> Result<(), Errno> {
        let mut at = start;
        while at < end {
            let length = usize::try_from(end - at).unwrap_or(CHUNK).min(CHUNK);
            let copied = if self.cannot_copy_range {
                self.through_memory(from, to, at, length)?
            } else {
                let (mut source, mut target) = (at, at);
                match fs::copy_file_range(from, Some(&mut source), to, Some(&mut target), length) {
                    Err(Errno::XDEV | Errno::NOSYS | Errno::NOTSUP | Errno::INVAL) => {
                        self.cannot_copy_range = true;
                        continue;
                    }
                    Err(Errno::INTR) => continue,
                    copied => copied?,
                }
            };
            if copied == 0 {
                break;
            }
            at += copied as u64;
            if at < end && !goes_on() {
                return Err(Errno::INTR);
            }
        }
        Ok(())
    }

    fn through_memory(
        &mut self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        at: u64,
        length: usize,
    ) -> Result<usize, Errno> {
        self.buffer.resize(BUFFER, 0);
        let length = length.min(BUFFER);
        let read = io::retry_on_intr(|| io::pread(from, &mut self.buffer[..length], at))?;
        let mut written = 0;
        while written < read {
            written +=
                io::retry_on_intr(|| io::pwrite(to, &self.buffer[written..read], at + written as u64))?;
        }
        Ok(read)
    }
}

/// Whether files of the filesystem that `directory` lies on can share their contents. Nothing is to be seen of the question.
pub fn can_clone(directory: BorrowedFd<'_>) -> bool {
    let nameless =
        || fs::openat(directory, c".", OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC, Mode::RUSR);
    let (Ok(one), Ok(other)) = (nameless(), nameless()) else { return false };
    io::write(&one, b"x").is_ok() && fs::ioctl_ficlone(other, one).is_ok()
}

/// The next stretch of data at or after `offset`. A filesystem without holes has one: all of it.
fn next_data(file: &OwnedFd, offset: u64, size: u64) -> Result<Option<(u64, u64)>, Errno> {
    if offset >= size {
        return Ok(None);
    }
    let start = match fs::seek(file, SeekFrom::Data(offset)) {
        Ok(start) => start,
        Err(Errno::NXIO) => return Ok(None),
        Err(Errno::INVAL | Errno::NOTSUP) => return Ok(Some((offset, size))),
        Err(error) => return Err(error),
    };
    let end = fs::seek(file, SeekFrom::Hole(start))?;
    Ok((start < size).then_some((start, end.min(size))))
}

/// These attributes, and no access list that is not among them: a directory with a default one gives it to whatever is made in it.
fn give_attributes(to: &OwnedFd, attributes: &[(CString, Vec<u8>)], facts: &Facts) -> Result<(), Errno> {
    let mut has_gone = false;
    for list in [ACCESS_LIST, DEFAULT_LIST] {
        if (list == DEFAULT_LIST && !facts.is_directory())
            || attributes.iter().any(|(name, _)| name.as_c_str() == list)
        {
            continue;
        }
        match fs::fremovexattr(to, list) {
            Ok(()) => has_gone = true,
            Err(Errno::NODATA | Errno::NOTSUP) => {}
            Err(error) => return Err(error),
        }
    }
    if has_gone {
        // Its mask has stood where the group's permissions do.
        fs::fchmod(to, Mode::from_raw_mode(facts.mode))?;
    }
    for (attribute, value) in attributes {
        fs::fsetxattr(to, attribute, value, fs::XattrFlags::empty())?;
    }
    Ok(())
}

/// The times of a directory.
pub(crate) fn give_times(to: BorrowedFd<'_>, facts: &Facts) -> Result<(), Errno> {
    fs::futimens(node::open_directory(to)?, &times(facts))
}

/// All attributes but overlayfs' own.
pub(crate) fn own_attributes(handle: impl AsFd) -> Result<Vec<(CString, Vec<u8>)>, Errno> {
    let mut attributes = node::attributes(handle)?;
    attributes.retain(|(name, _)| !name.to_bytes().starts_with(OVERLAY));
    Ok(attributes)
}

fn give_owner_and_mode(made: impl AsFd, facts: &Facts) -> Result<(), Errno> {
    fs::fchown(&made, Some(Uid::from_raw(facts.uid)), Some(Gid::from_raw(facts.gid)))?;
    fs::fchmod(&made, Mode::from_raw_mode(facts.mode))
}

fn times(facts: &Facts) -> Timestamps {
    let time = |(seconds, nanoseconds): (i64, u32)| Timespec { tv_sec: seconds, tv_nsec: nanoseconds.into() };
    Timestamps { last_access: time(facts.accessed), last_modification: time(facts.modified) }
}
