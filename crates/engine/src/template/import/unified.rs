//! A unified image of Incus or LXD: an archive with `metadata.yaml`, templates of files, and the root in `rootfs/`.
//!
//! The root is taken; what stands beside it says more of it: see [`super::described`].
//!
//! Those that Incus writes begin with `metadata.yaml`; where somebody else has packed them it may come last, after all of the root. So an archive that begins
//! with `rootfs/` is read until it is known, once more than others.

use std::fs::File;
use std::io::{self, Read};

use ::archive::{ArchiveError, Compression, Entry, Reader};
use tree::{UnpackLimits, Unpacked};

use super::Told;
use super::archive::{OF_A_ROOT, Stream};
use crate::template::RecipeError;

/// Where the root is.
pub const ROOT: &[u8] = b"rootfs";
/// What says of which system it is.
pub const METADATA: &[u8] = b"metadata.yaml";

/// The names in a path.
pub fn names(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|&byte| byte == b'/').filter(|name| !name.is_empty() && *name != b".")
}

/// Whether it is one: both are at its top, and before the second of them nothing that a root has. What cannot be read is none: it is told where it is unpacked.
pub fn is_unified(
    file: &File,
    compression: Compression,
    limits: UnpackLimits,
    told: &mut Told<'_>,
) -> Result<bool, RecipeError> {
    let stream = Stream::open(file.try_clone().map_err(ArchiveError::Read)?, compression, 0, u64::MAX)?;
    let mut reader = Reader::new(Heeding { stream, goes_on: &mut *told.goes_on }, limits.bytes);
    let (mut has_root, mut has_metadata) = (false, false);
    let mut passed = Unpacked::default();
    while let Ok(Some(entry)) = reader.next_entry() {
        passed.entries += 1;
        passed.bytes = passed.bytes.saturating_add(reader.unread());
        // Neither can it be unpacked, which is where that is told.
        if limits.check(passed).is_err() {
            break;
        }
        let Some(top) = names(&entry.path).next() else { continue };
        if OF_A_ROOT.contains(&top) {
            return Ok(false);
        }
        has_root |= top == ROOT;
        has_metadata |= top == METADATA;
        if has_root && has_metadata {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What is below `rootfs/`, without that; of all else nothing.
///
/// # Errors
/// When there is a root beside it: then nobody knows which of them is meant.
pub fn place(entry: &Entry) -> Result<Option<Vec<u8>>, ArchiveError> {
    let mut names = names(&entry.path);
    match names.next() {
        Some(top) if top == ROOT => Ok(Some(names.collect::<Vec<_>>().join(&b'/'))),
        Some(top) if OF_A_ROOT.contains(&top) => Err(two_roots()),
        // Upwards: refused as anywhere.
        Some(b"..") => Ok(Some(entry.path.clone())),
        Some(_) | None => Ok(None),
    }
}

/// What an archive that is taken for a root has at its top: whichever of them comes first, one that has an image there, too, is refused.
#[derive(Debug, Default)]
pub struct Tops {
    is_of_a_root: bool,
    has_rootfs: bool,
    has_metadata: bool,
}

impl Tops {
    /// Sees an entry.
    ///
    /// # Errors
    /// When it is the last of what makes two roots of it.
    pub fn see(&mut self, entry: &Entry) -> Result<(), ArchiveError> {
        let Some(top) = names(&entry.path).next() else { return Ok(()) };
        self.is_of_a_root |= OF_A_ROOT.contains(&top);
        self.has_rootfs |= top == ROOT;
        self.has_metadata |= top == METADATA;
        if self.is_of_a_root && self.has_rootfs && self.has_metadata { Err(two_roots()) } else { Ok(()) }
    }

    /// There is no root in it, but what is said of one in another file.
    pub fn has_only_metadata(&self) -> bool {
        self.has_metadata && !self.has_rootfs && !self.is_of_a_root
    }
}

fn two_roots() -> ArchiveError {
    ArchiveError::Unfit {
        because: "there are two roots in it: one at its top, and another one in `rootfs/`, with `metadata.yaml` beside that".to_owned(),
        instead: "unpack it, and name the directory of the root that is meant with `--from`",
    }
}

/// A stream that ends when somebody wants it to: what is passed over in it may be large.
struct Heeding<'a> {
    stream: Stream,
    goes_on: &'a mut dyn FnMut(Unpacked) -> bool,
}

impl Read for Heeding<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !(self.goes_on)(Unpacked::default()) {
            return Err(io::Error::other("interrupted"));
        }
        self.stream.read(buffer)
    }
}

#[cfg(test)]
mod tests {
    use ::archive::Kind;

    use super::*;

    #[test]
    fn only_what_is_below_rootfs_has_a_place() {
        let placed = |path: &str| {
            let entry = Entry {
                path: path.as_bytes().to_vec(),
                kind: Kind::Directory,
                properties: tree::Properties::default(),
                lists: [None, None],
                user: Vec::new(),
                group: Vec::new(),
            };
            place(&entry).map(|path| path.map(|path| String::from_utf8(path).unwrap()))
        };
        let at = |path: &str| placed(path).unwrap();
        for top in ["rootfs", "rootfs/", "./rootfs/.", "/rootfs"] {
            assert_eq!(at(top).as_deref(), Some(""), "{top}");
        }
        assert_eq!(at("./rootfs//etc/x").as_deref(), Some("etc/x"));
        assert_eq!(at("rootfs/../etc/x").as_deref(), Some("../etc/x"), "and is refused there");
        assert_eq!(at("../x").as_deref(), Some("../x"));
        for other in ["", ".", "metadata.yaml", "templates/hostname.tpl", "templates/../rootfs/x", "rootfs.x"]
        {
            assert_eq!(at(other), None, "{other}");
        }
        assert!(placed("etc/passwd").unwrap_err().to_string().contains("another one in `rootfs/`"));
    }
}
