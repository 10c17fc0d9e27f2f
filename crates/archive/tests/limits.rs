//! What makes nothing in the tree is counted like what does.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed, and says where")]

use std::fs::File;
use std::path::Path;

use archive::image::{apply, whiteouts};
use archive::{ArchiveError, Left, Lists, Place, Reader, Target};
use testkit::{TarHeader, TarMaker};
use tree::{Unpack, UnpackLimits};

const FEW: UnpackLimits = UnpackLimits { bytes: 10_000, entries: 10 };

fn with_target<T>(top: &Path, work: impl FnOnce(&mut Target<'_>) -> T) -> T {
    let top = File::open(top).unwrap();
    let (mut tree, mut lists, mut left) = (Unpack::new(top.into(), FEW), Lists::default(), Left::default());
    work(&mut Target { tree: &mut tree, lists: &mut lists, left: &mut left, goes_on: &mut |_| true })
}

fn unpack(archive: &[u8], place: Place<'_>) -> Result<(), ArchiveError> {
    let scratch = tempfile::tempdir().unwrap();
    with_target(scratch.path(), |target| archive::unpack(&mut Reader::new(archive, FEW.bytes), target, place))
}

fn is_too_much(done: Result<(), ArchiveError>, of: &str) {
    let ArchiveError::Unpack { path, source } = done.unwrap_err() else { panic!("it is no entry's error") };
    let path = String::from_utf8(path).unwrap();
    assert!(source.to_string().ends_with(of), "`{path}`: {source}");
    assert!(path.contains('x'), "{path}");
}

fn many(count: usize, kind: u8, name: &str, data: &[u8]) -> Vec<u8> {
    (0..count).fold(TarMaker::new(), |maker, _| maker.entry(kind, name.as_bytes(), data)).finish()
}

#[test]
fn devices_are_counted() {
    unpack(&many(10, b'3', "x", b""), &mut |entry| Ok(Some(entry.path.clone()))).unwrap();
    is_too_much(unpack(&many(11, b'3', "x", b""), &mut |entry| Ok(Some(entry.path.clone()))), "entries");
    let links = (0..10).fold(TarMaker::new().header(&mut TarHeader::new(b'3', b"x")), |maker, _| {
        maker.link(b'1', "more x", "x")
    });
    is_too_much(unpack(&links.finish(), &mut |entry| Ok(Some(entry.path.clone()))), "entries");
}

#[test]
fn what_has_no_place_is_counted_with_its_data() {
    unpack(&many(10, b'0', "x", b""), &mut |_| Ok(None)).unwrap();
    is_too_much(unpack(&many(11, b'0', "x", b""), &mut |_| Ok(None)), "entries");
    is_too_much(unpack(&many(9, b'0', "x", &[0; 2000]), &mut |_| Ok(None)), "bytes");
}

#[test]
fn data_that_nobody_wants_is_counted() {
    let done = unpack(&many(9, b'6', "x", &[0; 2000]), &mut |entry| Ok(Some(entry.path.clone())));
    is_too_much(done, "bytes");
}

type Pass = fn(&[u8], &mut Target<'_>) -> Result<(), ArchiveError>;

#[test]
fn marks_are_counted_both_times() {
    let scratch = tempfile::tempdir().unwrap();
    let (few, more) = (many(10, b'0', ".wh.x", b""), many(11, b'0', ".wh.x", b""));
    let data = many(9, b'0', ".wh.x", &[0; 2000]);
    let passes: [Pass; 2] = [|layer, target| whiteouts(layer, target), |layer, target| apply(layer, target)];
    for pass in passes {
        with_target(scratch.path(), |target| pass(&few, target)).unwrap();
        is_too_much(with_target(scratch.path(), |target| pass(&more, target)), "entries");
        is_too_much(with_target(scratch.path(), |target| pass(&data, target)), "bytes");
    }
}
