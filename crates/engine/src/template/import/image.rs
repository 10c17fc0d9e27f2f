//! An image of layers, as a template.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::AsFd;
use std::path::Path;

use ::archive::image::{Blobs, Hashed, Image, Layer, Wish, apply, read, whiteouts};
use ::archive::{ArchiveError, Compression, Left, Lists, Target};
use runtime::confined::{Reach, confined};
use rustix::fs::{Mode, OFlags};
use tree::{Root, Unpack, Unpacked};

use super::archive::{Stream, limits, tell_left};
use super::{EntryPoint, Told, Wanted};
use crate::template::{RecipeError, architecture};

/// Bytes after which a signal is heeded.
const PIECE: u64 = 8 * 1024 * 1024;

/// An image that is compressed as a whole, with that undone: beside the root, under no name.
pub fn undone(
    file: File,
    compression: Compression,
    rootfs: &Path,
    told: &mut Told<'_>,
) -> Result<File, RecipeError> {
    if compression == Compression::Plain {
        return Ok(file);
    }
    let staging = rootfs.parent().unwrap_or(rootfs);
    let failed = |source: io::Error| RecipeError::write("write the image beside", rootfs, source);
    let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
    let opened =
        rustix::fs::open(staging, flags, Mode::RUSR | Mode::WUSR).map_err(|error| failed(error.into()))?;
    let mut whole = File::from(opened);
    let most = limits(rootfs)?.bytes;
    let mut stream = Stream::open(file, compression, 0, u64::MAX)?;
    let (mut copied, mut outcome) = (Unpacked::default(), Ok(()));
    loop {
        if !(told.goes_on)(copied) {
            return Err(ArchiveError::Interrupted.into());
        }
        let piece = io::copy(&mut (&mut stream).take(PIECE), &mut whole).map_err(ArchiveError::Read);
        match piece {
            Ok(0) => break,
            Ok(more) => copied.bytes += more,
            Err(error) => {
                outcome = Err(error);
                break;
            }
        }
        if copied.bytes >= most {
            return Err(failed(io::ErrorKind::StorageFull.into()));
        }
    }
    whole.flush().map_err(failed)?;
    // What it has written is all there is, or it says why not.
    stream.outcome(outcome)?;
    whole.rewind().map_err(failed)?;
    Ok(whole)
}

/// Unpacks the layers into `rootfs`, one over the other; returns how the image names itself, and what it says is to be run.
pub fn fill(
    blobs: &Blobs,
    wanted: &Wanted,
    rootfs: &Path,
    told: &mut Told<'_>,
) -> Result<(String, Option<EntryPoint>), RecipeError> {
    let wish = Wish { image: wanted.image.clone(), architecture: machine().to_owned() };
    let Image { name, configuration, layers, .. } =
        read(blobs, &wish, &mut || (told.goes_on)(Unpacked::default()))?;
    let held =
        |flags: OFlags| rustix::fs::open(rootfs, flags | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let failed = |error: rustix::io::Errno| RecipeError::write("open", rootfs, error.into());
    let (top, reach) = (held(OFlags::RDONLY).map_err(failed)?, held(OFlags::PATH).map_err(failed)?);
    let reach = Reach { reads: Vec::new(), writes: vec![reach.as_fd()], ids: None };
    let root = Root::open(rootfs)?;
    let (mut tree, mut lists, mut left) =
        (Unpack::new(top, limits(rootfs)?), Lists::default(), Left::default());
    let mut target =
        Target { tree: &mut tree, lists: &mut lists, left: &mut left, goes_on: &mut *told.goes_on };
    let count = layers.len();
    for (index, layer) in layers.into_iter().enumerate() {
        if index > 0 {
            let (mut stream, _) = stream_of(&layer)?;
            let removed = confined(&reach, || whiteouts(&mut stream, &mut target))?;
            stream.outcome(removed)?;
        }
        let (mut stream, wanted) = stream_of(&layer)?;
        let made = confined(&reach, || {
            let mut hashed = Hashed::new(&mut stream);
            apply(&mut hashed, &mut target)?;
            Ok(hashed.digest()?)
        })?;
        let found = stream.outcome(made)?;
        if found != wanted {
            return Err(ArchiveError::Image(format!(
                "layer {} of {count} is {found} when its compression is undone, and should be {wanted}",
                index + 1
            ))
            .into());
        }
    }
    confined(&reach, || -> Result<Unpacked, ArchiveError> {
        lists.give(&mut tree, &root)?;
        tree.finish().map_err(|source| ArchiveError::Unpack { path: b".".to_vec(), source })
    })??;
    tell_left(&left, told);
    Ok((tree::escaped(name.as_bytes()), EntryPoint::of(configuration)))
}

fn stream_of(layer: &Layer) -> Result<(Stream, &str), RecipeError> {
    let mut sign = Vec::new();
    let file = || layer.blob.file.try_clone().map_err(ArchiveError::Read);
    let Layer { blob, digest } = layer;
    blob.beginning(Compression::SIGN, &mut sign).map_err(ArchiveError::Read)?;
    // One with nothing in it at all, not even the mark of its end.
    let compression = if sign.is_empty() { Compression::Plain } else { Compression::of(&sign)? };
    Ok((Stream::open(file()?, compression, blob.offset, blob.length)?, digest))
}

/// This machine, as images name it.
fn machine() -> &'static str {
    match architecture() {
        "i386" => "386",
        "armhf" => "arm",
        "ppc64el" => "ppc64le",
        same => same,
    }
}
