//! One layer over those below it: what it removes, then what it brings.
//!
//! A whiteout (`.wh.NAME`, and `.wh..wh..opq` for all that is in a directory) is of what lies below, wherever in the layer it stands. So a layer is read
//! twice, and nothing has to be remembered of it, however large it is. A link of a lower layer is followed, but not where this layer has a directory in its
//! place: what it led to is nothing that the layer has spoken of.

use std::io::{self, Read};

use sha2::{Digest as _, Sha256};
use tree::Unpacked;

use super::blobs::text_of;
use crate::entry::{Entry, Kind};
use crate::error::ArchiveError;
use crate::tar::{MOST_AFTER_THE_END, Reader};
use crate::unpack::{Target, unpack};

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// What aufs has kept for itself.
const OF_AUFS: &[u8] = b".wh..wh.";

/// Bytes whose digest is taken as they pass.
#[derive(Debug)]
pub struct Hashed<R> {
    input: R,
    hash: Sha256,
}

impl<R: Read> Hashed<R> {
    /// From the first byte.
    pub fn new(input: R) -> Hashed<R> {
        Hashed { input, hash: Sha256::new() }
    }

    /// The digest of all there is, with what nobody has read so far.
    ///
    /// # Errors
    /// When that cannot be read.
    pub fn digest(mut self) -> io::Result<String> {
        let after = io::copy(&mut (&mut self).take(MOST_AFTER_THE_END), &mut io::sink())?;
        if after == MOST_AFTER_THE_END {
            return Err(io::Error::other("it goes on after its end"));
        }
        Ok(text_of(&self.hash.finalize()))
    }
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(buffer)?;
        self.hash.update(&buffer[..read]);
        Ok(read)
    }
}

/// The directory and the name.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    let path = path.strip_suffix(b"/").unwrap_or(path);
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b"", path),
    }
}

/// That a layer is whole its digest tells.
fn reader<R: Read>(stream: R, target: &Target<'_>) -> Reader<R> {
    Reader::new(stream, target.tree.limits().bytes).that_may_just_end()
}

/// Removes what a layer removes.
///
/// # Errors
/// [`ArchiveError`].
pub fn whiteouts(stream: impl Read, target: &mut Target<'_>) -> Result<(), ArchiveError> {
    let mut reader = reader(stream, target);
    // Of this pass alone: what is made of the entries is counted when it is made.
    let (limits, mut passed) = (target.tree.limits(), Unpacked::default());
    loop {
        let entry = match reader.next_entry() {
            Ok(Some(entry)) => entry,
            Ok(None) | Err(ArchiveError::Empty) => return Ok(()),
            Err(error) => return Err(error),
        };
        let (directory, name) = split(&entry.path);
        let failed = |source| ArchiveError::unpack(&entry.path, source);
        passed.entries += 1;
        passed.bytes = passed.bytes.saturating_add(reader.unread());
        limits.check(passed).map_err(failed)?;
        if name == OPAQUE {
            target.tree.empty(directory).map_err(failed)?;
        } else if let Some(name) = name.strip_prefix(WHITEOUT).filter(|_| !name.starts_with(OF_AUFS)) {
            if matches!(name, b"" | b"." | b"..") {
                return Err(ArchiveError::entry(&entry.path, "it removes nothing that could have a name"));
            }
            target.tree.remove(&[directory, b"/", name].concat()).map_err(failed)?;
        } else if !name.starts_with(WHITEOUT) && entry.kind == Kind::Directory {
            // It is made in the link's place: marks that follow are of that directory, and not of the one that the link led to.
            target.tree.remove_link(&entry.path).map_err(failed)?;
        }
        if !(target.goes_on)(target.tree.unpacked()) {
            return Err(ArchiveError::Interrupted);
        }
    }
}

/// Makes what a layer brings. One that breaks off after an entry is taken for whole: whoever calls compares its digest.
///
/// # Errors
/// [`ArchiveError`].
pub fn apply(stream: impl Read, target: &mut Target<'_>) -> Result<(), ArchiveError> {
    let mut place = |entry: &Entry| {
        let is_mark = split(&entry.path).1.starts_with(WHITEOUT);
        Ok((!is_mark).then(|| entry.path.clone()))
    };
    match unpack(&mut reader(stream, target), target, &mut place) {
        // A layer that only says that something was run.
        Err(ArchiveError::Empty) => Ok(()),
        other => other,
    }
}
