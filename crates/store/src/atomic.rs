//! Files, links and directories that are replaced as a whole, or not at all.
//!
//! A temporary with a random name in the same directory, write, `fsync`, `rename`, `fsync` of the directory. A
//! death before the rename leaves the old file and a `.reroot-tmp.*` beside it, which [`sweep`] removes; after it,
//! the new file. An error after the rename (the last `fsync` failed) means: new now, not certain after a power cut.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

/// Begins the name of every temporary; no container, template or generation can have such a name.
/// What begins so is nobody's, and is swept.
pub const TEMPORARY: &str = ".reroot-tmp.";

/// One system call on one path failed; the cause (`ENOSPC`, `EIO`, …) is the source.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} `{}`", .path.display())]
pub struct AtomicError {
    pub action: &'static str,
    pub path: PathBuf,
    pub source: io::Error,
}

impl AtomicError {
    pub(crate) fn new(action: &'static str, path: impl Into<PathBuf>, source: impl Into<io::Error>) -> Self {
        Self { action, path: path.into(), source: source.into() }
    }

    fn at(action: &'static str, dir: BorrowedFd<'_>, name: &OsStr, source: impl Into<io::Error>) -> Self {
        Self::new(action, path_of(dir).join(name), source)
    }
}

/// Where a directory handle points now. For messages only: nothing is ever opened by this name.
pub(crate) fn path_of(dir: BorrowedFd<'_>) -> PathBuf {
    let link = format!("/proc/self/fd/{}", dir.as_raw_fd());
    match rustix::fs::readlink(&link, Vec::new()) {
        Ok(target) => PathBuf::from(OsString::from_vec(target.into_bytes())),
        Err(_) => PathBuf::from(link),
    }
}

fn temporary_name() -> String {
    format!("{TEMPORARY}{}", uuid::Uuid::new_v4().simple())
}

/// Opens a directory so that it can be synced (an `O_PATH` handle cannot).
pub fn open_directory(path: &Path) -> Result<OwnedFd, AtomicError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| AtomicError::new("open", path, errno))
}

/// The same below a handle; a symbolic link in the place of the directory is refused.
pub fn open_directory_at(dir: BorrowedFd<'_>, name: impl AsRef<OsStr>) -> Result<OwnedFd, AtomicError> {
    let name = name.as_ref();
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    rustix::fs::openat(dir, name, flags, Mode::empty())
        .map_err(|errno| AtomicError::at("open", dir, name, errno))
}

/// Replaces, or makes, the file `name` in `dir`: whole, durable, with exactly this mode.
pub fn replace_at(
    dir: BorrowedFd<'_>,
    name: impl AsRef<OsStr>,
    bytes: &[u8],
    mode: u32,
) -> Result<(), AtomicError> {
    let name = name.as_ref();
    if linux::mutated!("replace-in-place") {
        return overwrite(dir, name, bytes, mode);
    }
    let temporary = temporary_name();
    // A death up to the rename leaves the old file as it was, and the temporary.
    let renamed = write_new(dir, &temporary, bytes, mode)
        .and_then(|file| if linux::mutated!("replace-unsynced") { Ok(()) } else { file.sync_all() })
        .and_then(|()| Ok(rustix::fs::renameat(dir, temporary.as_str(), dir, name)?));
    if let Err(source) = renamed {
        // Best effort: the cause of the failure matters more than the litter, and `sweep` comes by later.
        let _ = rustix::fs::unlinkat(dir, temporary.as_str(), AtFlags::empty());
        return Err(AtomicError::at("write", dir, name, source));
    }
    // A power cut here: the old file or the new one, each whole, since the new one was synced before it had a name.
    if linux::mutated!("replace-directory-unsynced") {
        return Ok(());
    }
    fsync_dir(dir)
}

/// What [`replace_at`] is there to avoid: for `torture mutations` alone.
fn overwrite(dir: BorrowedFd<'_>, name: &OsStr, bytes: &[u8], mode: u32) -> Result<(), AtomicError> {
    let failed = |source| AtomicError::at("write", dir, name, source);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let handle = rustix::fs::openat(dir, name, flags, Mode::from_raw_mode(mode));
    let mut file = File::from(handle.map_err(|errno| failed(errno.into()))?);
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed)?;
    fsync_dir(dir)
}

/// Not durable.
fn write_new(dir: BorrowedFd<'_>, name: &str, bytes: &[u8], mode: u32) -> io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let handle = rustix::fs::openat(dir, name, flags, Mode::from_raw_mode(0o600))?;
    let mut file = File::from(handle);
    file.write_all(bytes)?;
    // After the open, because the umask has a say there.
    rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))?;
    Ok(file)
}

/// [`replace_at`] by path.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<(), AtomicError> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(AtomicError::new("write", path, io::Error::from(io::ErrorKind::InvalidInput)));
    };
    replace_at(open_directory(parent)?.as_fd(), name, bytes, mode)
}

/// Replaces, or makes, the symbolic link `name`. **Not durable**: where the link is a commit point, the moment of
/// [`fsync_dir`] is the caller's to choose.
pub fn replace_symlink_at(
    dir: BorrowedFd<'_>,
    name: impl AsRef<OsStr>,
    target: impl AsRef<OsStr>,
) -> Result<(), AtomicError> {
    let name = name.as_ref();
    if linux::mutated!("link-in-place") {
        let _ = rustix::fs::unlinkat(dir, name, AtFlags::empty());
        return rustix::fs::symlinkat(target.as_ref(), dir, name)
            .map_err(|errno| AtomicError::at("make the link", dir, name, errno));
    }
    let temporary = temporary_name();
    rustix::fs::symlinkat(target.as_ref(), dir, temporary.as_str())
        .map_err(|errno| AtomicError::at("make the link", dir, name, errno))?;
    // A death here leaves the old link and a temporary one.
    rustix::fs::renameat(dir, temporary.as_str(), dir, name).map_err(|errno| {
        let _ = rustix::fs::unlinkat(dir, temporary.as_str(), AtFlags::empty());
        AtomicError::at("replace the link", dir, name, errno)
    })
}

/// Makes durable which names the directory holds.
pub fn fsync_dir(dir: BorrowedFd<'_>) -> Result<(), AtomicError> {
    rustix::fs::fsync(dir).map_err(|errno| AtomicError::new("sync", path_of(dir), errno))
}

/// Removes a file or a link, durably; one that is missing already is fine.
pub fn remove_file_at(dir: BorrowedFd<'_>, name: impl AsRef<OsStr>) -> Result<(), AtomicError> {
    let name = name.as_ref();
    match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
        // Missing: perhaps an earlier try died before its sync, so sync now.
        Ok(()) | Err(Errno::NOENT) => fsync_dir(dir),
        Err(errno) => Err(AtomicError::at("remove", dir, name, errno)),
    }
}

/// The same where it does no harm if it comes back.
pub(crate) fn remove_file_unsynced_at(dir: BorrowedFd<'_>, name: &str) -> Result<(), AtomicError> {
    match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(AtomicError::at("remove", dir, OsStr::new(name), errno)),
    }
}

/// The same as [`replace_at`] where nothing leads yet: durable once the file and `dir` are synced, which is the caller's.
pub(crate) fn replace_unsynced_at(
    dir: BorrowedFd<'_>,
    name: &str,
    bytes: &[u8],
    mode: u32,
) -> Result<(), AtomicError> {
    let temporary = temporary_name();
    write_new(dir, &temporary, bytes, mode)
        .and_then(|_| Ok(rustix::fs::renameat(dir, temporary.as_str(), dir, name)?))
        .map_err(|source| {
            let _ = rustix::fs::unlinkat(dir, temporary.as_str(), AtFlags::empty());
            AtomicError::at("write", dir, OsStr::new(name), source)
        })
}

/// Makes a file where nobody looks yet: durable once it and `dir` are synced, which is the caller's.
pub(crate) fn create_at(dir: BorrowedFd<'_>, name: &str, bytes: &[u8], mode: u32) -> Result<(), AtomicError> {
    write_new(dir, name, bytes, mode)
        .map(drop)
        .map_err(|source| AtomicError::at("write", dir, OsStr::new(name), source))
}

/// Makes a directory with exactly this mode, durably. `false`: something of that name was there, and is untouched.
pub fn make_directory_at(
    dir: BorrowedFd<'_>,
    name: impl AsRef<OsStr>,
    mode: u32,
) -> Result<bool, AtomicError> {
    let made = make_directory_unsynced_at(dir, name, mode)?;
    if made {
        fsync_dir(dir)?;
    }
    Ok(made)
}

/// The same where nobody looks yet: durable once `dir` is synced.
pub(crate) fn make_directory_unsynced_at(
    dir: BorrowedFd<'_>,
    name: impl AsRef<OsStr>,
    mode: u32,
) -> Result<bool, AtomicError> {
    let name = name.as_ref();
    let failed = |errno: Errno| AtomicError::at("make the directory", dir, name, errno);
    match rustix::fs::mkdirat(dir, name, Mode::from_raw_mode(mode & 0o700)) {
        Ok(()) => {}
        Err(Errno::EXIST) => return Ok(false),
        Err(errno) => return Err(failed(errno)),
    }
    // A death here leaves an empty directory that is at most narrower than asked.
    let made = open_directory_at(dir, name)?;
    rustix::fs::fchmod(&made, Mode::from_raw_mode(mode)).map_err(failed)?;
    Ok(true)
}

/// Renames, and has the old name gone durably; something that has the new name already is never replaced (`EEXIST`). Where it arrives in another
/// directory, that one is the caller's to sync, unless nobody minds what becomes of it there, as in the trash. After an error it has its old name: whoever is told
/// that a deletion or a creation has failed must not find it done.
pub fn move_at(
    from: BorrowedFd<'_>,
    old: impl AsRef<OsStr>,
    to: BorrowedFd<'_>,
    new: impl AsRef<OsStr>,
) -> Result<(), AtomicError> {
    let (old, new) = (old.as_ref(), new.as_ref());
    rustix::fs::renameat_with(from, old, to, new, RenameFlags::NOREPLACE)
        .map_err(|errno| AtomicError::at("move", from, old, errno))?;
    if linux::mutated!("move-unsynced") {
        return Ok(());
    }
    fsync_dir(from).inspect_err(|_| {
        if linux::mutated!("move-stands") {
            return;
        }
        // Best effort, on a disk that has just refused to write: nobody knows which of the two a power cut would leave.
        if rustix::fs::renameat_with(to, new, from, old, RenameFlags::NOREPLACE).is_ok() {
            let _ = fsync_dir(from).and_then(|()| fsync_dir(to));
        }
    })
}

/// Has two names, in two directories, change places, durably in both: at no instant is one of them missing. After an error each has what it had.
pub(crate) fn exchange_at(
    from: BorrowedFd<'_>,
    one: impl AsRef<OsStr>,
    to: BorrowedFd<'_>,
    other: impl AsRef<OsStr>,
) -> Result<(), AtomicError> {
    let (one, other) = (one.as_ref(), other.as_ref());
    rustix::fs::renameat_with(from, one, to, other, RenameFlags::EXCHANGE)
        .map_err(|errno| AtomicError::at("move", from, one, errno))?;
    // Where it is looked for first.
    fsync_dir(to).and_then(|()| fsync_dir(from)).inspect_err(|_| {
        // Best effort, as in `move_at`.
        if rustix::fs::renameat_with(from, one, to, other, RenameFlags::EXCHANGE).is_ok() {
            let _ = fsync_dir(to).and_then(|()| fsync_dir(from));
        }
    })
}

/// Removes the temporaries that killed writers left in `dir`. Only for who holds the lock of what lies in it.
pub fn sweep(dir: BorrowedFd<'_>) -> Result<usize, AtomicError> {
    let mut removed = 0;
    for name in names_in(dir)? {
        if name.as_bytes().starts_with(TEMPORARY.as_bytes()) {
            match rustix::fs::unlinkat(dir, &*name, AtFlags::empty()) {
                Ok(()) => removed += 1,
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(AtomicError::at("remove", dir, &name, errno)),
            }
        }
    }
    Ok(removed)
}

/// The names in a directory, sorted, without `.` and `..`.
pub(crate) fn names_in(dir: BorrowedFd<'_>) -> Result<Vec<OsString>, AtomicError> {
    let failed = |errno: Errno| AtomicError::new("list", path_of(dir), errno);
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(OsString::from_vec(name.to_vec()));
        }
    }
    names.sort();
    Ok(names)
}

/// All of a regular file that has `size` bytes, or as much of it as shows that it has more than `limit`: one read, unless it has grown since. Lists of hundreds of
/// containers read thousands of such files.
pub(crate) fn read_at_once(file: &mut std::fs::File, size: u64, limit: u64) -> io::Result<Vec<u8>> {
    let wanted = size.min(limit) + 1;
    let mut bytes = vec![0; usize::try_from(wanted).unwrap_or(usize::MAX)];
    let length = loop {
        match file.read(&mut bytes) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            read => break read?,
        }
    };
    bytes.truncate(length);
    // Less than was asked for is all that there is.
    if (length as u64) == wanted {
        file.take((limit + 1).saturating_sub(wanted)).read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn directory() -> (tempfile::TempDir, OwnedFd) {
        let directory = tempfile::tempdir().unwrap();
        let handle = open_directory(directory.path()).unwrap();
        (directory, handle)
    }

    #[test]
    fn replaces_a_file_whole_with_its_mode_and_leaves_no_temporary() {
        let (directory, handle) = directory();
        replace_at(handle.as_fd(), "a", b"a long first text", 0o600).unwrap();
        replace_at(handle.as_fd(), "a", b"short", 0o640).unwrap();
        let path = directory.path().join("a");
        assert_eq!(std::fs::read(&path).unwrap(), b"short");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o7777, 0o640);
        assert_eq!(names_in(handle.as_fd()).unwrap(), ["a"]);
    }

    #[test]
    fn replaces_a_symlink_itself_and_not_what_it_points_to() {
        let (directory, handle) = directory();
        replace(&directory.path().join("victim"), b"kept", 0o600).unwrap();
        replace_symlink_at(handle.as_fd(), "link", "victim").unwrap();
        replace_at(handle.as_fd(), "link", b"new", 0o600).unwrap();
        assert_eq!(std::fs::read(directory.path().join("victim")).unwrap(), b"kept");
        assert_eq!(std::fs::read(directory.path().join("link")).unwrap(), b"new");
    }

    #[test]
    fn keeps_the_old_file_and_no_litter_when_the_rename_fails() {
        let (directory, handle) = directory();
        std::fs::create_dir(directory.path().join("taken")).unwrap();
        let error = replace_at(handle.as_fd(), "taken", b"x", 0o600).unwrap_err();
        assert_eq!(error.source.raw_os_error(), Some(Errno::ISDIR.raw_os_error()));
        assert_eq!(error.path, directory.path().canonicalize().unwrap().join("taken"));
        assert_eq!(names_in(handle.as_fd()).unwrap(), ["taken"]);
    }

    #[test]
    fn says_enospc_when_the_disk_is_full() {
        // /dev/full has no directory; a directory that cannot take the file is the same path through the code.
        let error = replace(Path::new("/proc/reroot-cannot-write-here"), b"x", 0o600).unwrap_err();
        assert!(error.to_string().starts_with("cannot write `/proc/"), "{error}");
        assert!(std::error::Error::source(&error).is_some());
    }

    #[test]
    fn removes_what_is_there_and_forgives_what_is_not() {
        let (directory, handle) = directory();
        replace(&directory.path().join("a"), b"", 0o600).unwrap();
        remove_file_at(handle.as_fd(), "a").unwrap();
        remove_file_at(handle.as_fd(), "a").unwrap();
        assert!(names_in(handle.as_fd()).unwrap().is_empty());
    }

    #[test]
    fn sweeps_temporaries_only() {
        let (directory, handle) = directory();
        for name in [&temporary_name(), "kept", ".kept"] {
            replace(&directory.path().join(name), b"", 0o600).unwrap();
        }
        assert_eq!(sweep(handle.as_fd()).unwrap(), 1);
        assert_eq!(names_in(handle.as_fd()).unwrap(), [".kept", "kept"]);
    }

    #[test]
    fn moves_but_never_over_something() {
        let (_directory, handle) = directory();
        assert!(make_directory_at(handle.as_fd(), "a", 0o700).unwrap());
        assert!(make_directory_at(handle.as_fd(), "b", 0o755).unwrap());
        assert!(!make_directory_at(handle.as_fd(), "b", 0o700).unwrap());
        let error = move_at(handle.as_fd(), "a", handle.as_fd(), "b").unwrap_err();
        assert_eq!(error.source.kind(), io::ErrorKind::AlreadyExists);
        move_at(handle.as_fd(), "a", handle.as_fd(), "c").unwrap();
        assert_eq!(names_in(handle.as_fd()).unwrap(), ["b", "c"]);
    }

    #[test]
    fn takes_a_move_back_whose_sync_fails() {
        let (directory, handle) = directory();
        for name in ["thing", "there"] {
            assert!(make_directory_at(handle.as_fd(), name, 0o700).unwrap());
        }
        // Good for a rename, and for no fsync.
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let here = rustix::fs::open(directory.path(), flags, Mode::empty()).unwrap();
        let there = open_directory(&directory.path().join("there")).unwrap();
        let error = move_at(here.as_fd(), "thing", there.as_fd(), "moved").unwrap_err();
        assert_eq!(error.source.raw_os_error(), Some(Errno::BADF.raw_os_error()));
        assert_eq!(names_in(handle.as_fd()).unwrap(), ["there", "thing"]);
    }

    #[test]
    fn two_names_change_places_and_back_again_when_a_sync_fails() {
        let (directory, handle) = directory();
        for name in ["old", "there"] {
            assert!(make_directory_at(handle.as_fd(), name, 0o700).unwrap());
        }
        let there = open_directory(&directory.path().join("there")).unwrap();
        assert!(make_directory_at(there.as_fd(), "new", 0o700).unwrap());
        replace(&directory.path().join("old/file"), b"old", 0o600).unwrap();
        let is_old = |path: &str| directory.path().join(path).join("file").exists();
        exchange_at(handle.as_fd(), "old", there.as_fd(), "new").unwrap();
        assert!(!is_old("old") && is_old("there/new"));
        exchange_at(handle.as_fd(), "old", there.as_fd(), "nonesuch").unwrap_err();

        // Good for a rename, and for no fsync.
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        for (one, other) in [(directory.path().to_owned(), None), (directory.path().join("there"), Some(()))]
        {
            let bad = rustix::fs::open(&one, flags, Mode::empty()).unwrap();
            let (from, to) = match other {
                None => (bad.as_fd(), there.as_fd()),
                Some(()) => (handle.as_fd(), bad.as_fd()),
            };
            let error = exchange_at(from, "old", to, "new").unwrap_err();
            assert_eq!(error.source.raw_os_error(), Some(Errno::BADF.raw_os_error()));
            assert!(!is_old("old") && is_old("there/new"), "each has what it had");
        }
    }
}
