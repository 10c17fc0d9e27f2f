//! Through the groups below a container's, by handle: their names are the container's, and together they may be longer than any path.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Dir, FileType, Mode, OFlags, openat};
use rustix::io::Errno;

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Calls `enter` with each group, the one at `path` first, and `leave` with each below it, by its parent and its name, when all that is in it was left. What
/// is gone, or goes meanwhile, is passed over.
///
/// # Errors
/// Of `leave`; as in openat(2).
pub(super) fn walk(
    path: &Path,
    enter: &mut dyn FnMut(BorrowedFd<'_>),
    leave: &mut dyn FnMut(BorrowedFd<'_>, &CStr) -> io::Result<()>,
) -> io::Result<()> {
    let mut current: OwnedFd = match rustix::fs::open(path, DIRECTORY, Mode::empty()) {
        Ok(top) => top,
        Err(Errno::NOENT) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    enter(current.as_fd());
    // On the way down the names that are still to be entered, and by which one this level was.
    let mut levels: Vec<(Vec<CString>, CString)> = vec![(below(current.as_fd())?, CString::default())];
    while let Some((names, _)) = levels.last_mut() {
        if let Some(name) = names.pop() {
            match openat(&current, &name, DIRECTORY, Mode::empty()) {
                Ok(next) => {
                    current = next;
                    enter(current.as_fd());
                    levels.push((below(current.as_fd())?, name));
                }
                Err(Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
            }
        } else {
            let Some((_, own)) = levels.pop() else { break };
            if levels.is_empty() {
                break;
            }
            // Only groups of v1 can be moved, and those are not the container's.
            current = openat(&current, c"..", DIRECTORY, Mode::empty())?;
            leave(current.as_fd(), &own)?;
        }
    }
    Ok(())
}

fn below(group: BorrowedFd<'_>) -> io::Result<Vec<CString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(group)? {
        let entry = match entry {
            Ok(entry) => entry,
            Err(Errno::NOENT) => break,
            Err(error) => return Err(error.into()),
        };
        if entry.file_type() == FileType::Directory && !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    Ok(names)
}

/// The text of a group's file.
///
/// # Errors
/// As in openat(2), read(2).
pub(super) fn read_file(group: BorrowedFd<'_>, name: &CStr) -> io::Result<String> {
    let mut text = String::new();
    File::from(openat(group, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
        .read_to_string(&mut text)?;
    Ok(text)
}
