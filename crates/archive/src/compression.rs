//! What an archive is compressed with, told by its first bytes, whatever it is called; and how that is undone.
//!
//! The libraries that undo it are C (zstd, xz), and whoever has made the archive waits for a mistake of theirs. So [`decompress`] is run by a process that can
//! do nothing but read and write what it has open. Memory is bounded whatever the archive asks for.

use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};

use crate::error::ArchiveError;
use crate::tar::MOST_AFTER_THE_END;

/// Logarithm of the largest window that is undone: of what was written so far so many bytes are remembered, 64 MiB, which `xz -9` and
/// `zstd --ultra -21` want.
const WINDOW: u32 = 26;
/// As much memory as liblzma may take, in bytes: that, and its tables.
const MEMORY: u64 = (1 << WINDOW) + 2 * 1024 * 1024;
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
        // Its programs are on no list of what we need: whoever has such an image has them, or gets them.
        if bytes.starts_with(b"hsqs") {
            return Err(ArchiveError::NoArchive {
                is: "a squashfs image",
                instead: "unpack it with `unsquashfs -d DIR FILE`, and name what it makes with `--from DIR`",
            });
        }
        let known: [(&[u8], Compression); 3] = [
            (b"\x1f\x8b", Compression::Gzip),
            (b"\xfd7zXZ\0", Compression::Xz),
            (b"\x28\xb5\x2f\xfd", Compression::Zstd),
        ];
        if let Some((_, compression)) = known.into_iter().find(|(sign, _)| bytes.starts_with(sign)) {
            return Ok(compression);
        }
        let refused: [(&[u8], &'static str, &'static str); 4] = [
            (b"BZh", "compressed with bzip2", "compress it anew: `bzcat FILE | zstd >FILE.zst`"),
            (b"\x04\x22\x4d\x18", "compressed with lz4", "compress it anew: `lz4 -dc FILE | zstd >FILE.zst`"),
            (
                b"PK\x03\x04",
                "a zip archive",
                "it has neither owners nor modes: unpack it with `unzip -d DIR FILE`, put those right, and name it with `--from DIR`",
            ),
            (
                b"QFI\xfb",
                "a disk image",
                "mount it (`qemu-nbd --read-only --connect=/dev/nbd0 FILE`), and name the directory with `--from`",
            ),
        ];
        if let Some((_, is, instead)) = refused.into_iter().find(|(sign, ..)| bytes.starts_with(sign)) {
            return Err(ArchiveError::NoArchive { is, instead });
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
/// Of either end, or since what is read is damaged; [`io::ErrorKind::OutOfMemory`] when more than 64 MiB of what was written would have to be remembered.
pub fn decompress(what: Compression, input: impl Read, output: impl Write) -> io::Result<u64> {
    let input = BufReader::with_capacity(BUFFER, input);
    let mut output = BufWriter::with_capacity(BUFFER, output);
    let copied = match what {
        Compression::Plain => io::copy(&mut { input }, &mut output),
        Compression::Gzip => gunzip(input, &mut output),
        Compression::Xz => {
            let stream = liblzma::stream::Stream::new_stream_decoder(MEMORY, liblzma::stream::CONCATENATED)?;
            io::copy(&mut liblzma::bufread::XzDecoder::new_stream(input, stream), &mut output).map_err(
                |error| {
                    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
                    if matches!(inner, Some(liblzma::stream::Error::MemLimit)) { too_large() } else { error }
                },
            )
        }
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(input)?;
            decoder.window_log_max(WINDOW)?;
            // The library tells by words alone.
            io::copy(&mut decoder, &mut output).map_err(|error| {
                if error.to_string().contains("too much memory") { too_large() } else { error }
            })
        }
    }?;
    output.flush()?;
    Ok(copied)
}

fn too_large() -> io::Error {
    io::Error::new(io::ErrorKind::OutOfMemory, "undoing its compression takes more than 64 MiB of memory")
}

/// One member after the other, and zeros after the last one: what tapes and block devices fill up with, which gzip ignores, too.
fn gunzip(mut input: impl BufRead, output: &mut impl Write) -> io::Result<u64> {
    let mut copied = 0;
    loop {
        copied += io::copy(&mut flate2::bufread::GzDecoder::new(&mut input), output)?;
        match input.fill_buf()? {
            [] => return Ok(copied),
            [0, ..] => break,
            [_, ..] => {}
        }
    }
    let mut zeros = 0;
    loop {
        let more = input.fill_buf()?;
        if more.is_empty() {
            return Ok(copied);
        }
        if more.iter().any(|&byte| byte != 0) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "there is something else after zeros at its end",
            ));
        }
        let length = more.len();
        input.consume(length);
        zeros += length as u64;
        // Nobody sees a signal meanwhile, and a file of holes has terabytes of them.
        if zeros > MOST_AFTER_THE_END {
            return Err(io::Error::other("it goes on after its end"));
        }
    }
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
        assert_eq!(of(b"hsqs\x05\0\0\0"), Err("it is a squashfs image".to_owned()));
        assert_eq!(of(&[b'x'; 512]), Ok(Compression::Plain), "the first header tells");
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn zeros_after_the_last_member_of_gzip_are_ignored_and_nothing_else_is() {
        let undone = |parts: &[&[u8]]| {
            let mut output = Vec::new();
            decompress(Compression::Gzip, &parts.concat()[..], &mut output).map(|_| output)
        };
        let (one, two, zeros) = (gzip(b"one"), gzip(b"two"), vec![0; 300_000]);
        assert_eq!(undone(&[&one, &two]).unwrap(), b"onetwo");
        assert_eq!(undone(&[&one, b"\0"]).unwrap(), b"one");
        assert_eq!(undone(&[&one, &two, &zeros]).unwrap(), b"onetwo");
        assert!(undone(&[&one, &zeros, b"x"]).unwrap_err().to_string().contains("after zeros"));
        for wrong in
            [&[&one[..], b"x"][..], &[&one, &zeros, &two], &[&one, &two[..9]], &[&one[..9]], &[&zeros]]
        {
            assert!(undone(wrong).is_err());
        }
    }

    #[test]
    fn zeros_without_end_are_refused() {
        let one = gzip(b"one");
        let endless = (&one[..]).chain(io::repeat(0));
        let error = decompress(Compression::Gzip, endless, io::sink()).unwrap_err();
        assert_eq!(error.to_string(), "it goes on after its end");
    }
}
