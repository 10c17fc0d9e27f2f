//! One layer over those below it: what it removes, then what it brings.
//!
//! A whiteout (`.wh.NAME`, and `.wh..wh..opq` for all that is in a directory) is of what lies below, wherever in the layer it stands. So a layer is read
//! twice, and hardly anything has to be remembered of it, however large it is. A link of a lower layer is followed, but not where this layer has a directory in
//! its place: what it led to is nothing that the layer has spoken of. Tools write a directory before what is in it; where somebody has written it behind, it
//! counts all the same, so what leads through a link waits until all directories of the layer are known. (umoci goes by the order of the entries, and
//! removes what the link led to.)

use std::io::{self, Read};

use sha2::{Digest as _, Sha256};
use tree::{UnpackError, Unpacked};

use super::blobs::text_of;
use crate::entry::{Entry, Kind};
use crate::error::ArchiveError;
use crate::tar::{MOST_AFTER_THE_END, Reader};
use crate::unpack::{Target, unpack};

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// After [`WHITEOUT`]: what aufs has kept for itself.
const OF_AUFS: &[u8] = b".wh.";

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

/// Of what waits, in bytes: paths through links are some hundred in a layer that has any.
const MOST_WAITING: usize = 8 * 1024 * 1024;

/// What an entry removes of the layers below.
#[derive(Debug, PartialEq, Eq)]
enum Removal {
    /// A link, since a directory is made in its place: marks in that are of the directory, and not of the one that the link led to.
    Link(Vec<u8>),
    /// All that is in a directory.
    Contents(Vec<u8>),
    /// What has this path.
    Path(Vec<u8>),
}

impl Removal {
    fn of(entry: &Entry) -> Result<Option<Removal>, ArchiveError> {
        let (directory, name) = split(&entry.path);
        if name == OPAQUE {
            return Ok(Some(Removal::Contents(directory.to_owned())));
        }
        let Some(hidden) = name.strip_prefix(WHITEOUT) else {
            return Ok((entry.kind == Kind::Directory).then(|| Removal::Link(entry.path.clone())));
        };
        if hidden.starts_with(OF_AUFS) {
            return Ok(None);
        }
        if matches!(hidden, b"" | b"." | b"..") {
            return Err(ArchiveError::entry(&entry.path, "it removes nothing that could have a name"));
        }
        Ok(Some(Removal::Path([directory, b"/", hidden].concat())))
    }

    fn carry_out(&self, target: &mut Target<'_>) -> Result<(), UnpackError> {
        match self {
            Removal::Link(path) => target.tree.remove_link(path),
            Removal::Contents(path) => target.tree.empty(path),
            Removal::Path(path) => target.tree.remove(path),
        }
    }

    /// Links first, those at the top before those below them: what another of them leads through is gone by then.
    fn rank(&self) -> usize {
        match self {
            Removal::Link(path) => {
                path.split(|&byte| byte == b'/').filter(|name| !name.is_empty() && *name != b".").count()
            }
            Removal::Contents(_) | Removal::Path(_) => usize::MAX,
        }
    }
}

/// Removes what a layer removes.
///
/// # Errors
/// [`ArchiveError`].
pub fn whiteouts(stream: impl Read, target: &mut Target<'_>) -> Result<(), ArchiveError> {
    let mut reader = reader(stream, target);
    // Of this pass alone: what is made of the entries is counted when it is made.
    let (limits, mut passed) = (target.tree.limits(), Unpacked::default());
    let (mut waiting, mut bytes): (Vec<(Removal, Vec<u8>)>, usize) = (Vec::new(), 0);
    loop {
        let entry = match reader.next_entry() {
            Ok(Some(entry)) => entry,
            Ok(None) | Err(ArchiveError::Empty) => break,
            Err(error) => return Err(error),
        };
        let failed = |source| ArchiveError::unpack(&entry.path, source);
        passed.entries += 1;
        passed.bytes = passed.bytes.saturating_add(reader.unread());
        limits.check(passed).map_err(failed)?;
        if let Some(removal) = Removal::of(&entry)? {
            if target.tree.leads_through_link(&entry.path).map_err(failed)? {
                bytes += 2 * (entry.path.len() + size_of::<(Removal, Vec<u8>)>());
                if bytes > MOST_WAITING {
                    return Err(ArchiveError::entry(
                        &entry.path,
                        "with it there are too many that lead through links of the layers below",
                    ));
                }
                waiting.push((removal, entry.path));
            } else {
                removal.carry_out(target).map_err(failed)?;
            }
        }
        if !(target.goes_on)(target.tree.unpacked()) {
            return Err(ArchiveError::Interrupted);
        }
    }
    waiting.sort_by_key(|(removal, _)| removal.rank());
    for (removal, path) in waiting {
        removal.carry_out(target).map_err(|source| ArchiveError::unpack(&path, source))?;
        if !(target.goes_on)(target.tree.unpacked()) {
            return Err(ArchiveError::Interrupted);
        }
    }
    Ok(())
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
