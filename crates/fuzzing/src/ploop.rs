//! Disks of ploop: what their descriptors and their images say.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;

use engine::openvz::{descriptor, image};

/// A chain that is taken has an end, and files that lie beside the descriptor.
pub(crate) fn descriptor(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match descriptor::read(text) {
        Ok(disk) => {
            assert!((1..=512).contains(&disk.chain.len()));
            for (index, image) in disk.chain.iter().enumerate() {
                let name = image.file.to_str().expect("what was text stays text");
                assert!(!name.is_empty() && !name.contains('/') && name != "." && name != "..", "{name:?}");
                assert!(!disk.chain[..index].contains(image), "no image lies over itself");
            }
        }
        Err(because) => assert!(!because.is_empty()),
    }
}

fn memory(bytes: &[u8]) -> File {
    let file = rustix::fs::memfd_create("disk", rustix::fs::MemfdFlags::CLOEXEC).map(File::from);
    let mut file = file.expect("memory for a disk");
    file.write_all(bytes).expect("write to memory");
    file
}

/// A disk that is taken says what its clusters say, wherever they lie, and its filesystem lies on it.
pub(crate) fn image(bytes: &[u8]) {
    let chain = match image::Image::open(memory(bytes), false) {
        Ok(image) => [image],
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    let size = image::size(&chain);
    if size > 1 << 22 {
        return;
    }
    let copy = memory(b"");
    let done = image::flatten(&chain, &copy, &mut |_| true);
    let number = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes")) as usize;
    let cluster = number(28) * 512;
    let unit = if bytes.starts_with(b"WithouFreSpacExt") { cluster } else { 512 };
    let mut disk = vec![0; size as usize];
    for (index, part) in disk.chunks_mut(cluster).enumerate() {
        let place = number(64 + index * 4) * unit;
        if place == 0 {
            continue;
        }
        let Some(there) = bytes.get(place..).filter(|there| !there.is_empty()) else {
            return assert!(done.is_err(), "a cluster behind the end is told");
        };
        let length = part.len().min(there.len());
        part[..length].copy_from_slice(&there[..length]);
    }
    done.expect("all of it is in the file");
    let mut copied = vec![0; disk.len()];
    copy.read_exact_at(&mut copied, 0).expect("the copy is as long as the disk");
    assert!(copied == disk, "the copy is the disk");
    if let Ok(found) = image::file_system(&copy) {
        assert!(found.offset < size && found.length > 0 && found.offset + found.length <= size);
        assert!(["ext4", "xfs"].contains(&found.kind));
    }
}
