//! The contents of files, by handle, fast over holes: their digest, and whether two have the same.
//!
//! The digest is SHA-256 over the size and the blocks of 4 KiB that are not all zero, each with its number. So a hole and
//! the zeros it stands for are the same, and a file of a terabyte with nothing in it takes no time.

use crate::node;
use rustix::fs::{self, SeekFrom};
use rustix::io::{self, Errno};
use sha2::{Digest as _, Sha256};
use std::os::fd::{AsFd, BorrowedFd};

const BLOCK: usize = 4096;
const CHUNK: usize = 256 * BLOCK;
static ZEROS: [u8; BLOCK] = [0; BLOCK];

/// The size of a held regular file as it was read, and the digest of its contents.
pub(crate) fn digest(handle: BorrowedFd<'_>) -> Result<(u64, [u8; 32]), Errno> {
    let file = node::open_regular(handle)?;
    let mut hash = Sha256::new();
    // Most are small: a buffer for the largest would be most of the work.
    let size = usize::try_from(node::facts(&file)?.size).unwrap_or(CHUNK);
    let chunk = size.saturating_add(1).next_multiple_of(BLOCK).min(CHUNK);
    let mut buffer = vec![0; chunk];
    let mut offset = 0;
    while let Some(start) = next_data(file.as_fd(), offset)? {
        // A block may begin in a hole.
        offset = start - start % BLOCK as u64;
        let length = fill(file.as_fd(), &mut buffer, offset)?;
        for (index, block) in buffer[..length].chunks(BLOCK).enumerate() {
            if block != &ZEROS[..block.len()] {
                hash.update((offset / BLOCK as u64 + index as u64).to_le_bytes());
                hash.update((block.len() as u64).to_le_bytes());
                hash.update(block);
            }
        }
        offset += length as u64;
        if length < chunk {
            break;
        }
    }
    let size = node::facts(&file)?.size.max(offset);
    hash.update(size.to_le_bytes());
    Ok((size, hash.finalize().into()))
}

/// Whether two held regular files, both of `size` bytes, have the same contents. Told at the first block that differs.
pub(crate) fn same(one: BorrowedFd<'_>, other: BorrowedFd<'_>, size: u64) -> Result<bool, Errno> {
    let (one, other) = (node::open_regular(one)?, node::open_regular(other)?);
    let chunk = usize::try_from(size).unwrap_or(CHUNK).clamp(1, CHUNK);
    let (mut left, mut right) = (vec![0; chunk], vec![0; chunk]);
    let mut offset = 0;
    while offset < size {
        offset = match (next_data(one.as_fd(), offset)?, next_data(other.as_fd(), offset)?) {
            (None, None) => return Ok(true),
            (Some(data), None) | (None, Some(data)) => data,
            (Some(data), Some(other)) => data.min(other),
        };
        let length = fill(one.as_fd(), &mut left, offset)?;
        let other_length = fill(other.as_fd(), &mut right, offset)?;
        if left[..length] != right[..other_length] {
            return Ok(false);
        }
        // The end, also of a file that was made shorter meanwhile.
        if length == 0 {
            break;
        }
        offset += length as u64;
    }
    Ok(true)
}

/// Where the next data is. `None`: there is only a hole up to the end.
fn next_data(file: BorrowedFd<'_>, offset: u64) -> Result<Option<u64>, Errno> {
    match fs::seek(file, SeekFrom::Data(offset)) {
        Ok(start) => Ok(Some(start)),
        Err(Errno::NXIO) => Ok(None),
        // A filesystem without holes: everything is data.
        Err(Errno::INVAL | Errno::NOTSUP) => Ok(Some(offset)),
        Err(error) => Err(error),
    }
}

/// Reads until the buffer is full or the file ends.
fn fill(file: BorrowedFd<'_>, buffer: &mut [u8], offset: u64) -> Result<usize, Errno> {
    let mut length = 0;
    while length < buffer.len() {
        match io::pread(file, &mut buffer[length..], offset + length as u64) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}
