//! Images of Parallels, which ploop's are: a table that says where each cluster of the disk lies in the file. A chain of them is one disk, of which the
//! first image that has a cluster counts.
//!
//! ```text
//!  0  "WithoutFreeSpace" (table in sectors) or "WithouFreSpacExt" (table in clusters)
//! 16  version 2
//! 28  sectors of a cluster        32  entries of the table      36  sectors of the disk (64 bits; of the first kind 32)
//! 44  0x746f6e59: it is open      48  where the data begins     64  the table, 32 bits each; 0: not here
//! ```
//!
//! All little-endian (qemu's docs/interop/parallels.rst). Each number is somebody else's: nothing is read but what lies in the file, and no more of it than there is.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

const SECTOR: u64 = 512;
const HEADER: usize = 64;
const IN_USE: u32 = 0x746f_6e59;
/// 32 TiB in clusters of 1 MiB.
pub const MOST_ENTRIES: u32 = 1 << 25;
/// 64 MiB.
const LARGEST_CLUSTER: u64 = 64 << 20;
/// What is read at once, and what is left out where it is all zeros.
const PIECE: usize = 64 * 1024;

/// Why an image cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// It is none, or none that makes sense.
    #[error("it is {0}")]
    Damaged(&'static str),
    /// The file.
    #[error("it cannot be read")]
    Read(#[source] io::Error),
    /// Where it is copied to.
    #[error("the copy of it cannot be written")]
    Write(#[source] io::Error),
    /// Somebody wants this process to end.
    #[error("it was interrupted")]
    Interrupted,
}

/// An image of a chain.
#[derive(Debug)]
pub struct Image {
    file: File,
    /// Bytes of the file.
    length: u64,
    /// Bytes of the disk.
    size: u64,
    table: Option<Table>,
    /// Somebody has it open, or had when he died.
    pub is_in_use: bool,
}

#[derive(Debug)]
struct Table {
    /// Bytes.
    cluster: u64,
    /// Bytes that an entry counts.
    unit: u64,
    entries: Vec<u32>,
}

impl Image {
    /// Reads the table of one; `is_plain`: it has none, and its bytes are the disk's.
    ///
    /// # Errors
    /// [`ImageError`].
    pub fn open(file: File, is_plain: bool) -> Result<Image, ImageError> {
        let length = file.metadata().map_err(ImageError::Read)?.len();
        if is_plain {
            return Ok(Image { file, length, size: length, table: None, is_in_use: false });
        }
        if length < HEADER as u64 {
            return Err(ImageError::Damaged("too short for an image"));
        }
        let mut header = [0; HEADER];
        file.read_exact_at(&mut header, 0).map_err(ImageError::Read)?;
        let number =
            |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let is_extended = match &header[..16] {
            b"WithoutFreeSpace" => false,
            b"WithouFreSpacExt" => true,
            _ => return Err(ImageError::Damaged("no image of Parallels: it does not begin like one")),
        };
        if number(16) != 2 {
            return Err(ImageError::Damaged("of a version that is unknown"));
        }
        let cluster = u64::from(number(28)) * SECTOR;
        if cluster == 0 || cluster > LARGEST_CLUSTER {
            return Err(ImageError::Damaged("damaged: no cluster is so large"));
        }
        let count = number(32);
        let sectors = u64::from(number(36)) | if is_extended { u64::from(number(40)) << 32 } else { 0 };
        let size = sectors.checked_mul(SECTOR).filter(|size| *size <= i64::MAX as u64);
        let size = size.ok_or(ImageError::Damaged("damaged: no disk is so large"))?;
        if count > MOST_ENTRIES || u64::from(count) * 4 + HEADER as u64 > length {
            return Err(ImageError::Damaged("damaged: its table is longer than the file"));
        }
        // Also what keeps the walk along the disk as short as the table.
        if size > u64::from(count) * cluster {
            return Err(ImageError::Damaged("damaged: its table is shorter than its disk"));
        }
        let mut bytes = vec![0; count as usize * 4];
        file.read_exact_at(&mut bytes, HEADER as u64).map_err(ImageError::Read)?;
        let entries: Vec<u32> = bytes
            .chunks_exact(4)
            .map(|entry| u32::from_le_bytes(entry.try_into().expect("four bytes are four")))
            .collect();
        let table = Table { cluster, unit: if is_extended { cluster } else { SECTOR }, entries };
        // Each has a place of its own: one place for many would be a disk of any size out of a small file.
        if table.used() > length / cluster + 1 {
            return Err(ImageError::Damaged("damaged: it has more clusters than there are in the file"));
        }
        Ok(Image { file, length, size, table: Some(table), is_in_use: number(44) == IN_USE })
    }

    /// Bytes that it has of the disk, at the most.
    pub fn used(&self) -> u64 {
        self.table.as_ref().map_or(self.length, |table| table.used() * table.cluster)
    }

    /// How long its table is, all of which is in memory.
    pub fn entries(&self) -> usize {
        self.table.as_ref().map_or(0, |table| table.entries.len())
    }

    /// Where in the file the byte at `at` of the disk lies, and how many from there on lie together; `None`: not in this image.
    fn place(&self, at: u64) -> Result<(Option<u64>, u64), ImageError> {
        let Some(table) = &self.table else {
            return Ok((Some(at), self.length.saturating_sub(at)));
        };
        let (index, within) = (at / table.cluster, at % table.cluster);
        let left = table.cluster - within;
        let entry =
            usize::try_from(index).ok().and_then(|index| table.entries.get(index)).copied().unwrap_or(0);
        if entry == 0 {
            return Ok((None, left));
        }
        let place = u64::from(entry) * table.unit + within;
        if place >= self.length {
            return Err(ImageError::Damaged("damaged: a cluster lies behind its end"));
        }
        Ok((Some(place), left))
    }
}

impl Table {
    fn used(&self) -> u64 {
        self.entries.iter().filter(|entry| **entry != 0).count() as u64
    }
}

/// Bytes of the disk: those of its newest image.
///
/// # Panics
/// Without an image.
pub fn size(chain: &[Image]) -> u64 {
    chain.first().expect("a chain has an image").size
}

/// Writes the disk that a chain is, the newest image first, into `to`, which is empty, with holes where there is nothing. `goes_on` is told how many bytes were looked at.
///
/// # Errors
/// [`ImageError`].
pub fn flatten(chain: &[Image], to: &File, goes_on: &mut dyn FnMut(u64) -> bool) -> Result<(), ImageError> {
    let size = size(chain);
    to.set_len(size).map_err(ImageError::Write)?;
    let mut buffer = vec![0; PIECE];
    let mut at = 0;
    while at < size {
        if !goes_on(at) {
            return Err(ImageError::Interrupted);
        }
        // No further than any of those that were asked in vain says nothing.
        let mut length = size - at;
        let mut found = None;
        for image in chain {
            let (place, together) = image.place(at)?;
            if together > 0 {
                length = length.min(together);
            }
            if let Some(place) = place.filter(|_| together > 0) {
                found = Some((image, place));
                break;
            }
        }
        if let Some((image, place)) = found {
            copy(image, place, (to, at), length, &mut buffer, goes_on)?;
        }
        at += length;
    }
    Ok(())
}

fn copy(
    image: &Image,
    place: u64,
    (to, at): (&File, u64),
    length: u64,
    buffer: &mut [u8],
    goes_on: &mut dyn FnMut(u64) -> bool,
) -> Result<(), ImageError> {
    // What is missing at its end was never written.
    let length = length.min(image.length - place);
    let mut done = 0;
    while done < length {
        let wanted = usize::try_from(length - done).unwrap_or(usize::MAX).min(buffer.len());
        let piece = &mut buffer[..wanted];
        image.file.read_exact_at(piece, place + done).map_err(ImageError::Read)?;
        if piece.iter().any(|byte| *byte != 0) {
            to.write_all_at(piece, at + done).map_err(ImageError::Write)?;
        }
        done += wanted as u64;
        if !goes_on(at + done) {
            return Err(ImageError::Interrupted);
        }
    }
    Ok(())
}

/// Where on a disk the filesystem is, and which one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileSystem {
    /// Bytes from the beginning of the disk.
    pub offset: u64,
    /// Bytes.
    pub length: u64,
    /// What the kernel calls it.
    pub kind: &'static str,
}

/// Finds it: on the whole disk, or in the first partition.
///
/// # Errors
/// When there is none that is known.
pub fn file_system(disk: &File) -> Result<FileSystem, ImageError> {
    let size = disk.metadata().map_err(ImageError::Read)?.len();
    let whole = (0, size);
    let partition =
        || partition(disk).map(|found| found.filter(|(offset, length)| *length > 0 && *offset < size));
    for (offset, length) in [Some(whole), partition()?].into_iter().flatten() {
        if let Some(kind) = kind_at(disk, offset)? {
            return Ok(FileSystem { offset, length: length.min(size - offset), kind });
        }
    }
    Err(ImageError::Damaged("a disk without an ext4 or xfs, on all of it or in its first partition"))
}

fn read<const N: usize>(disk: &File, at: u64) -> Result<[u8; N], ImageError> {
    let mut bytes = [0; N];
    match disk.read_exact_at(&mut bytes, at) {
        Ok(()) => Ok(bytes),
        // A disk so short has nothing there.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok([0; N]),
        Err(error) => Err(ImageError::Read(error)),
    }
}

fn kind_at(disk: &File, offset: u64) -> Result<Option<&'static str>, ImageError> {
    let Some(superblock) = offset.checked_add(1024 + 56) else { return Ok(None) };
    if read::<2>(disk, superblock)? == [0x53, 0xef] {
        return Ok(Some("ext4"));
    }
    Ok((&read::<4>(disk, offset)? == b"XFSB").then_some("xfs"))
}

/// Offset and length of the first partition, by its GPT or by its MBR.
fn partition(disk: &File) -> Result<Option<(u64, u64)>, ImageError> {
    let little = |bytes: &[u8]| bytes.iter().rev().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    let header: [u8; 92] = read(disk, SECTOR)?;
    let in_bytes =
        |first: u64, count: Option<u64>| Some((first.checked_mul(SECTOR)?, count?.checked_mul(SECTOR)?));
    if header.starts_with(b"EFI PART") {
        let Some(at) = little(&header[72..80]).checked_mul(SECTOR) else { return Ok(None) };
        let entry: [u8; 48] = read(disk, at)?;
        if entry[..16] == [0; 16] {
            return Ok(None);
        }
        let (first, last) = (little(&entry[32..40]), little(&entry[40..48]));
        return Ok(in_bytes(first, last.checked_sub(first).and_then(|count| count.checked_add(1))));
    }
    let record: [u8; 512] = read(disk, 0)?;
    if record[510..] != [0x55, 0xaa] || record[446 + 4] == 0 {
        return Ok(None);
    }
    Ok(in_bytes(little(&record[454..458]), Some(little(&record[458..462]))))
}

#[cfg(test)]
#[path = "image_tests.rs"]
mod tests;
