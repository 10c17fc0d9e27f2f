//! What an archive is compressed with, told by its first bytes, whatever it is called; and how that is undone.
//!
//! The libraries that undo it are C (zstd, xz), and whoever has made the archive waits for a mistake of theirs. So [`decompress`] is run by a process that can
//! do nothing but read and write what it has open. Memory is bounded whatever the archive asks for.

use std::io::{self, BufReader, BufWriter, Read, Write};

use crate::error::ArchiveError;

/// As much memory as undoing it may take, in bytes: `xz -9` wants 65 MiB, and `zstd --long` 128.
const MEMORY: u64 = 160 * 1024 * 1024;
/// Logarithm of the largest window of zstd that is undone: 128 MiB, which `zstd --ultra -22` and `--long` use.
const WINDOW: u32 = 27;
const BUFFER: usize = 128 * 1024;

/// A kind of compression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// A tar archive as it is.
    Plain,
    /// `.gz`
    Gzip,
    /// `.xz`
    Xz,
    /// `.zst`
    Zstd,
}

impl Compression {
    /// As many bytes tell it.
    pub const SIGN: usize = 512;

    /// Told by the first bytes of a file: [`Compression::SIGN`] of them, if there are as many.
    ///
    /// # Errors
    /// What it is, when that is nothing that can be undone.
    pub fn of(bytes: &[u8]) -> Result<Compression, ArchiveError> {
        let known: [(&[u8], Result<Compression, &'static str>); 8] = [
            (b"\x1f\x8b", Ok(Compression::Gzip)),
            (b"\xfd7zXZ\0", Ok(Compression::Xz)),
            (b"\x28\xb5\x2f\xfd", Ok(Compression::Zstd)),
            (b"BZh", Err("compressed with bzip2: recompress it with zstd, xz or gzip")),
            (b"\x04\x22\x4d\x18", Err("compressed with lz4: recompress it with zstd, xz or gzip")),
            (b"PK\x03\x04", Err("a zip archive: make a tar archive of what is in it")),
            (b"hsqs", Err("a squashfs image: unpack it with `unsquashfs`, and name the directory")),
            (b"QFI\xfb", Err("a disk image: mount it, and name the directory")),
        ];
        for (sign, what) in known {
            if bytes.starts_with(sign) {
                return what.map_err(ArchiveError::Unknown);
            }
        }
        // A frame that is to be skipped comes first where zstd works in parallel.
        if bytes.len() > 4 && bytes[1..4] == [0x2a, 0x4d, 0x18] && bytes[0] >> 4 == 5 {
            return Ok(Compression::Zstd);
        }
        if bytes.is_empty() {
            return Err(ArchiveError::Unknown("an empty file"));
        }
        if bytes.len() < Compression::SIGN {
            return Err(ArchiveError::Unknown("too short for an archive"));
        }
        Ok(Compression::Plain)
    }

    /// As [`Compression::from_word`] reads it.
    pub fn word(self) -> &'static str {
        match self {
            Compression::Plain => "none",
            Compression::Gzip => "gzip",
            Compression::Xz => "xz",
            Compression::Zstd => "zstd",
        }
    }

    /// What [`Compression::word`] has written.
    pub fn from_word(word: &str) -> Option<Compression> {
        let all = [Compression::Plain, Compression::Gzip, Compression::Xz, Compression::Zstd];
        all.into_iter().find(|one| one.word() == word)
    }
}

/// Undoes it, up to the end of what is read.
///
/// # Errors
/// Of either end, or since what is read is damaged.
pub fn decompress(what: Compression, input: impl Read, output: impl Write) -> io::Result<u64> {
    let input = BufReader::with_capacity(BUFFER, input);
    let mut output = BufWriter::with_capacity(BUFFER, output);
    let copied = match what {
        Compression::Plain => io::copy(&mut { input }, &mut output),
        Compression::Gzip => io::copy(&mut flate2::bufread::MultiGzDecoder::new(input), &mut output),
        Compression::Xz => {
            let stream = liblzma::stream::Stream::new_stream_decoder(MEMORY, liblzma::stream::CONCATENATED)?;
            io::copy(&mut liblzma::bufread::XzDecoder::new_stream(input, stream), &mut output)
        }
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(input)?;
            decoder.window_log_max(WINDOW)?;
            io::copy(&mut decoder, &mut output)
        }
    }?;
    output.flush()?;
    Ok(copied)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_archive_is_told() {
        let of = |bytes: &[u8]| Compression::of(bytes).map_err(|error| error.to_string());
        assert_eq!(of(b"\x28\xb5\x2f\xfd...."), Ok(Compression::Zstd));
        assert_eq!(of(b""), Err("it is an empty file".to_owned()));
        assert!(of(b"hello").unwrap_err().contains("too short"));
        assert!(of(b"BZh91AY&SY").unwrap_err().contains("bzip2"));
        assert_eq!(of(&[b'x'; 512]), Ok(Compression::Plain), "the first header tells");
    }
}
