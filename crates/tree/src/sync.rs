//! Making a tree durable: each file of a small one, or the whole filesystem under a large one.
//!
//! A delta of a few files is cheaper to sync file by file than with `syncfs`, which also writes
//! everybody else's dirty data. For a tree that a script built it is the other way round.

use crate::error::TreeError;
use crate::{descent, node};
use rustix::fs;
use rustix::io::Errno;
use std::os::fd::BorrowedFd;
use std::path::Path;

/// Makes every regular file and every directory below `dir`, and `dir` itself, durable.
/// What is mounted in it is not entered.
pub fn sync_small_tree(dir: BorrowedFd<'_>) -> Result<(), TreeError> {
    let syncs_contents = !linux::mutated!("contents-unsynced");
    // Filesystems give new contents their place only when they are written: all of them first, so that the first sync below is one commit of
    // the filesystem's journal for the whole tree, and finds nothing left for the others to do.
    descent::walk(dir, |visit| {
        if !visit.is_mount_point && visit.facts.is_regular() && syncs_contents {
            let begun = node::open_regular(visit.handle).and_then(linux::begin_writing);
            return begun.map_err(visit.failed("write out"));
        }
        Ok(())
    })?;
    descent::walk(dir, |visit| {
        let opened = if visit.is_mount_point {
            return Ok(());
        } else if visit.facts.is_directory() && !linux::mutated!("directories-unsynced") {
            node::open_directory(visit.handle)
        } else if visit.facts.is_regular() && syncs_contents {
            node::open_regular(visit.handle)
        } else {
            // Links, FIFOs and the like have no contents: they are in their directory.
            return Ok(());
        };
        opened.and_then(fs::fsync).map_err(visit.failed("sync"))
    })?;
    if linux::mutated!("generation-unsynced") {
        return Ok(());
    }
    node::open_directory(dir).and_then(fs::fsync).map_err(failed)
}

/// Makes the filesystem that `dir` lies on durable. A write error since `dir` was opened is reported here,
/// once for each open descriptor; an `O_PATH` handle is opened anew for it and hears only of later ones.
pub fn sync_filesystem(dir: BorrowedFd<'_>) -> Result<(), TreeError> {
    match fs::syncfs(dir) {
        Err(Errno::BADF) => node::open_directory(dir).and_then(fs::syncfs).map_err(failed),
        synced => synced.map_err(failed),
    }
}

fn failed(error: Errno) -> TreeError {
    TreeError::io("sync", Path::new("."), error)
}
