//! How much there is below a directory.

use std::os::fd::BorrowedFd;

use crate::descent;
use crate::error::TreeError;

/// What [`measure`] has counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Size {
    /// Entries below the directory, without itself.
    pub entries: u64,
    /// The sum of the sizes of regular files, holes counted as if they were full.
    pub bytes: u64,
}

/// Counts everything below `dir`. What is mounted in it counts as one entry.
///
/// # Errors
/// When a directory cannot be read.
pub fn measure(dir: BorrowedFd<'_>) -> Result<Size, TreeError> {
    let mut size = Size::default();
    descent::walk(dir, |visit| {
        size.entries += 1;
        if visit.facts.is_regular() && !visit.is_mount_point {
            size.bytes += visit.facts.size;
        }
        Ok(())
    })?;
    Ok(size)
}
