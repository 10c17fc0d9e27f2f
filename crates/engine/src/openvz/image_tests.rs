use super::*;
use std::io::Write;
use testkit::old_area::image;

fn file(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

fn open(bytes: &[u8]) -> Result<Image, ImageError> {
    Image::open(file(bytes), false)
}

fn flat(chain: &[Image]) -> Vec<u8> {
    let to = tempfile::tempfile().unwrap();
    flatten(chain, &to, &mut |_| true).unwrap();
    let mut bytes = vec![0; to.metadata().unwrap().len() as usize];
    to.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

/// A disk of so many sectors, some of which say something.
fn disk(sectors: usize, said: &[(usize, u8)]) -> Vec<u8> {
    let mut disk = vec![0; sectors * 512];
    for (sector, byte) in said {
        disk[sector * 512..][..512].fill(*byte);
    }
    disk
}

#[test]
fn an_image_says_what_the_disk_said() {
    for is_extended in [true, false] {
        // The last cluster is not whole.
        let disk = disk(1001, &[(0, 1), (7, 2), (500, 3), (1000, 4)]);
        let image = open(&image(&disk, None, 8, is_extended)).unwrap();
        assert_eq!((image.used(), image.is_in_use), (3 * 8 * 512, false));
        assert_eq!(flat(&[image]), disk, "{is_extended}");
    }
}

#[test]
fn of_a_chain_the_newest_that_has_a_cluster_counts_also_where_it_says_nothing() {
    let base = disk(800, &[(0, 1), (300, 2), (700, 9)]);
    // Sector 0 was emptied: a cluster of zeros over one that is not.
    let middle = disk(800, &[(300, 3), (700, 9)]);
    // Larger meanwhile.
    let top = disk(1600, &[(300, 3), (400, 5), (700, 9), (1599, 6)]);
    let images = || {
        let over = |disk: &[u8], below: &[u8]| open(&image(disk, Some(below), 8, true)).unwrap();
        let mut below = middle.clone();
        below.resize(top.len(), 0);
        [over(&top, &below), over(&middle, &base), open(&image(&base, None, 8, true)).unwrap()]
    };
    assert_eq!(flat(&images()), top);
    let [_, middle_image, base_image] = images();
    assert_eq!(flat(&[middle_image, base_image]), middle);
    // Over one that is plain, and shorter.
    let [top_image, middle_image, _] = images();
    let plain = Image::open(file(&base[..750 * 512]), true).unwrap();
    assert_eq!(flat(&[top_image, middle_image, plain]), top);
}

#[test]
fn somebody_who_has_it_open_is_seen_and_an_interrupt_is_heeded() {
    let mut bytes = image(&disk(100, &[(5, 1)]), None, 8, true);
    bytes[44..48].copy_from_slice(&IN_USE.to_le_bytes());
    let image = open(&bytes).unwrap();
    assert!(image.is_in_use);
    let to = tempfile::tempfile().unwrap();
    assert!(matches!(flatten(&[image], &to, &mut |_| false), Err(ImageError::Interrupted)));
}

#[test]
fn what_makes_no_sense_is_refused_before_it_is_used() {
    let good = image(&disk(100, &[(5, 1), (50, 2)]), None, 8, true);
    let with = |at: usize, number: u32| {
        let mut bytes = good.clone();
        bytes[at..at + 4].copy_from_slice(&number.to_le_bytes());
        bytes
    };
    for (bytes, why) in [
        (b"".to_vec(), "too short"),
        (vec![0; 64], "does not begin like one"),
        (with(16, 3), "version"),
        (with(28, 0), "cluster"),
        (with(28, u32::MAX), "cluster"),
        (with(32, 0), "shorter than its disk"),
        (with(32, u32::MAX), "longer than the file"),
        (with(36, u32::MAX), "shorter than its disk"),
        (with(40, u32::MAX), "no disk is so large"),
    ] {
        let error = open(&bytes).unwrap_err().to_string();
        assert!(error.contains(why), "{why}: {error}");
    }
    // A cluster behind the end, and one place for all.
    let image = open(&with(64, 77)).unwrap();
    let error = flatten(&[image], &tempfile::tempfile().unwrap(), &mut |_| true).unwrap_err();
    assert!(error.to_string().contains("behind its end"), "{error}");
    let mut bytes = good.clone();
    for entry in bytes[64..64 + 13 * 4].chunks_exact_mut(4) {
        entry.copy_from_slice(&1_u32.to_le_bytes());
    }
    assert!(open(&bytes).unwrap_err().to_string().contains("more clusters"));
}

#[test]
fn no_bytes_whatever_are_more_than_an_error() {
    let good = image(&disk(100, &[(5, 1), (50, 2)]), None, 8, false);
    // Each byte of header and table, and each length.
    for at in 0..64 + 13 * 4 {
        for byte in [0, 1, 0x7f, 0x80, 0xff] {
            let mut bytes = good.clone();
            bytes[at] = byte;
            if let Ok(image) = open(&bytes)
                && image.size < 1 << 24
            {
                let _ = flatten(&[image], &tempfile::tempfile().unwrap(), &mut |_| true);
            }
        }
    }
    for length in 0..200 {
        let _ = open(&good[..length]);
    }
}

#[test]
fn a_filesystem_is_found_on_the_whole_disk_or_in_the_first_partition() {
    let with = |writes: &[(usize, &[u8])]| {
        let mut bytes = vec![0; 1 << 20];
        for (at, what) in writes {
            bytes[*at..at + what.len()].copy_from_slice(what);
        }
        file_system(&file(&bytes))
    };
    let ext = |offset: usize| (offset + 1080, &[0x53, 0xef][..]);
    assert_eq!(with(&[ext(0)]).unwrap(), FileSystem { offset: 0, length: 1 << 20, kind: "ext4" });
    let entry = |first: u64, last: u64| {
        let mut entry = vec![0xaf; 32];
        entry.extend(first.to_le_bytes());
        entry.extend(last.to_le_bytes());
        entry
    };
    let gpt = |entry: &[u8], rest: &[(usize, &[u8])]| {
        let mut writes: Vec<(usize, &[u8])> = vec![(512, b"EFI PART"), (512 + 72, &[2]), (1024, entry)];
        writes.extend(rest);
        with(&writes)
    };
    let (offset, found) = (64 * 512, gpt(&entry(64, 1023), &[ext(64 * 512)]).unwrap());
    assert_eq!(found, FileSystem { offset, length: 960 * 512, kind: "ext4" });
    let found = gpt(&entry(64, u64::MAX / 512), &[(64 * 512, b"XFSB")]).unwrap();
    assert_eq!(found, FileSystem { offset, length: (1 << 20) - offset, kind: "xfs" });
    let mbr: [(usize, &[u8]); 4] = [(510, &[0x55, 0xaa]), (450, &[0x83]), (454, &[64]), (458, &[0, 2])];
    let found = with(&[&mbr[..], &[ext(64 * 512)]].concat()).unwrap();
    assert_eq!(found, FileSystem { offset, length: 512 * 512, kind: "ext4" });
    for (what, found) in [
        ("nothing", with(&[])),
        ("a partition of something else", with(&mbr)),
        ("one that ends before it begins", gpt(&entry(64, 3), &[ext(64 * 512)])),
        ("one behind the disk", gpt(&entry(1 << 40, 1 << 41), &[])),
        ("one at no place", gpt(&entry(u64::MAX, u64::MAX), &[])),
        ("a table at no place", with(&[(512, b"EFI PART"), (512 + 72, &[0xff; 8])])),
    ] {
        assert!(found.is_err(), "{what}: {found:?}");
    }
}
