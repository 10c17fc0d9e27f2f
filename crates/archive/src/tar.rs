//! The entries of a tar archive, one after the other: v7, ustar, GNU's and the extended ones of POSIX, as every tar of the field writes them.
//!
//! The crate `tar` knows the fields of a header and nothing more is asked of it: its own reader keeps long names, extended headers and maps of holes
//! in memory, however long somebody has made them.

use std::io::{self, Read};

use ::tar::{GnuExtSparseHeader, GnuHeader, Header};
use tree::{Moment, Properties, UnpackError};

use crate::entry::{Entry, Kind};
use crate::error::ArchiveError;
use crate::pax::{self, Pax};
use crate::sparse;

const BLOCK: u64 = 512;
/// What fills an archive up after the mark of its end, in bytes: tapes have had blocks of megabytes.
pub const MOST_AFTER_THE_END: u64 = 64 * 1024 * 1024;
/// Headers that say something of the next one.
const MOST_BEFORE: usize = 64;
/// Of a name in a header of its own.
const LONGEST_NAME: u64 = 1024 * 1024;

/// Reads an archive whose compression is undone.
#[derive(Debug)]
pub struct Reader<R> {
    input: R,
    /// Where it is read, in bytes.
    at: u64,
    /// Of the present entry's data, and of what fills it up to a block.
    left: u64,
    padding: u64,
    /// What counts for all that comes.
    global: Pax,
    has_entries: bool,
    /// Of one entry's data.
    most: u64,
    /// It may end without the mark of its end.
    may_just_end: bool,
}

impl<R: Read> Reader<R> {
    /// From its first byte; an entry with more data than `most` bytes is refused, before any of it is read.
    pub fn new(input: R, most: u64) -> Reader<R> {
        Reader {
            input,
            at: 0,
            left: 0,
            padding: 0,
            global: Pax::default(),
            has_entries: false,
            most,
            may_just_end: false,
        }
    }

    /// The same of an archive of which something else tells that it is whole: it may end after any entry, without the mark of its end and what fills its last block up.
    pub fn that_may_just_end(mut self) -> Reader<R> {
        self.may_just_end = true;
        self
    }

    /// What it reads from.
    pub fn input(&mut self) -> &mut R {
        &mut self.input
    }

    /// Where it is, in bytes.
    pub fn position(&self) -> u64 {
        self.at
    }

    /// As many bytes of the last entry's data nobody has read.
    pub fn unread(&self) -> u64 {
        self.left
    }

    /// The data of the entry that was read last: that of its pieces, one after the other.
    pub fn data(&mut self) -> Data<'_, R> {
        Data { reader: self }
    }

    /// The next entry; `None`: there is no more. Data of the last one that was not read is passed over.
    ///
    /// # Errors
    /// [`ArchiveError`].
    pub fn next_entry(&mut self) -> Result<Option<Entry>, ArchiveError> {
        self.skip()?;
        let (mut pax, mut name, mut link) = (self.global.clone(), None, None);
        for _ in 0..MOST_BEFORE {
            let Some(header) = self.header()? else {
                if pax != self.global || name.is_some() || link.is_some() {
                    return Err(self.damaged("it ends after the header of a header"));
                }
                return if self.has_entries { Ok(None) } else { Err(ArchiveError::Empty) };
            };
            let size = header.entry_size().map_err(|_| self.damaged("a header with a size that is none"))?;
            match header.as_bytes()[156] {
                b'x' | b'X' => {
                    let bytes = self.small(size, pax::LONGEST, "an extended header")?;
                    pax.add(&bytes, pax::LONGEST).map_err(|because| self.damaged(because))?;
                }
                b'g' => {
                    let bytes = self.small(size, pax::LONGEST, "an extended header")?;
                    self.global.add(&bytes, pax::LONGEST_GLOBAL).map_err(|because| self.damaged(because))?;
                    pax.add(&bytes, pax::LONGEST).map_err(|because| self.damaged(because))?;
                }
                b'L' => name = Some(until_nul(self.small(size, LONGEST_NAME, "a name")?)),
                b'K' => link = Some(until_nul(self.small(size, LONGEST_NAME, "the target of a link")?)),
                // What the archive is called.
                b'V' => {
                    self.small(size, LONGEST_NAME, "the name of a volume")?;
                }
                kind => {
                    self.has_entries = true;
                    return self.entry(&header, kind, size, &pax, name, link).map(Some);
                }
            }
        }
        Err(self.damaged("one header after the other, and no entry"))
    }

    fn entry(
        &mut self,
        header: &Header,
        kind: u8,
        stored: u64,
        pax: &Pax,
        name: Option<Vec<u8>>,
        link: Option<Vec<u8>>,
    ) -> Result<Entry, ArchiveError> {
        let sparse_name = pax.bytes("GNU.sparse.name");
        let path = match sparse_name.or(pax.bytes("path")) {
            Some(path) => path.to_owned(),
            None => name.unwrap_or_else(|| header.path_bytes().into_owned()),
        };
        let wrong = |because: String| ArchiveError::entry(&path, because);
        if path.contains(&0) {
            return Err(wrong("its path has a NUL in it".to_owned()));
        }
        let stored = pax.number("size").map_err(wrong)?.unwrap_or(stored);
        // Where one program sees data and the next one headers, nobody knows what he has looked at.
        if matches!(kind, b'1'..=b'5') && stored > 0 {
            return Err(wrong("it has data, as no entry of its kind has".to_owned()));
        }
        if stored > self.most {
            return Err(ArchiveError::unpack(&path, UnpackError::TooMuch { limit: self.most, of: "bytes" }));
        }
        let link = match pax.bytes("linkpath") {
            Some(link) => link.to_owned(),
            None => link
                .or_else(|| header.link_name_bytes().map(std::borrow::Cow::into_owned))
                .unwrap_or_default(),
        };
        let has_data = |reader: &mut Self, stored: u64| {
            reader.left = stored;
            reader.padding = padding_of(stored);
        };
        let kind = match kind {
            // Before there was a type for directories they were called so.
            b'0' | 0 | b'7' if path.ends_with(b"/") => {
                has_data(self, stored);
                Kind::Directory
            }
            b'0' | 0 | b'7' => {
                has_data(self, stored);
                self.file(&path, stored, pax)?
            }
            b'S' => self.old_sparse(&path, header, stored)?,
            b'1' => Kind::HardLink(link),
            b'2' => Kind::Symlink(link),
            b'3' | b'4' => Kind::Device,
            b'5' => Kind::Directory,
            // A list of names follows, which an incremental backup wants.
            b'D' => {
                has_data(self, stored);
                Kind::Directory
            }
            b'6' => {
                has_data(self, stored);
                Kind::Fifo
            }
            b'M' => return Err(wrong("it goes on from another volume".to_owned())),
            other => {
                return Err(wrong(format!(
                    "it is of a kind that is not known: {}",
                    ArchiveError::quoted(&[other])
                )));
            }
        };
        let id = |key: &str, plain: io::Result<u64>, what: &str| {
            let number = match pax.number(key).map_err(wrong)? {
                Some(number) => number,
                None => plain.map_err(|_| wrong(format!("its {what} is no number")))?,
            };
            u32::try_from(number)
                .ok()
                .filter(|&id| id != u32::MAX)
                .ok_or_else(|| wrong(format!("its {what} cannot be {number}")))
        };
        let properties = Properties {
            mode: mode(header).ok_or_else(|| wrong("its mode is no number".to_owned()))? & 0o7777,
            uid: id("uid", header.uid(), "owner")?,
            gid: id("gid", header.gid(), "group")?,
            modified: match pax.moment("mtime").map_err(wrong)? {
                Some(moment) => moment,
                None => modified(header).ok_or_else(|| wrong("its time is no number".to_owned()))?,
            },
            accessed: pax.moment("atime").map_err(wrong)?,
            attributes: pax.attributes().map_err(wrong)?,
        };
        let list = |key: &str| pax.bytes(key).map(<[u8]>::to_vec);
        Ok(Entry {
            kind,
            properties,
            lists: [list("SCHILY.acl.access"), list("SCHILY.acl.default")],
            user: pax.bytes("uname").or(header.username_bytes()).unwrap_or_default().to_vec(),
            group: pax.bytes("gname").or(header.groupname_bytes()).unwrap_or_default().to_vec(),
            path,
        })
    }

    /// A file, with holes perhaps that an extended header tells of.
    fn file(&mut self, path: &[u8], stored: u64, pax: &Pax) -> Result<Kind, ArchiveError> {
        let wrong = |because: String| ArchiveError::entry(path, because);
        let (pieces, size) = if pax.bytes("GNU.sparse.major") == Some(b"1") {
            let found = sparse::before_the_data(&mut self.data()).map_err(|error| self.cut(error))?;
            let (pieces, _) = found.map_err(wrong)?;
            (pieces, pax.number("GNU.sparse.realsize").map_err(wrong)?)
        } else {
            let size = pax.number("GNU.sparse.size").map_err(wrong)?;
            match sparse::of_header(pax).map_err(wrong)? {
                Some(pieces) => (pieces, size.or(pax.number("GNU.sparse.realsize").map_err(wrong)?)),
                None => return Ok(Kind::File { size: stored, segments: plain(stored) }),
            }
        };
        let size = size.ok_or_else(|| wrong("a file with holes and without a size".to_owned()))?;
        Ok(Kind::File { size, segments: sparse::checked(pieces, size, self.left).map_err(wrong)? })
    }

    /// GNU's old format: four pieces in the header, and more in blocks after it.
    fn old_sparse(&mut self, path: &[u8], header: &Header, stored: u64) -> Result<Kind, ArchiveError> {
        let wrong = |because: &str| ArchiveError::entry(path, because);
        let gnu: &GnuHeader =
            header.as_gnu().ok_or_else(|| wrong("a file with holes in a header without them"))?;
        let size = gnu.real_size().map_err(|_| wrong("a file with holes whose size is no number"))?;
        let mut pieces = Vec::new();
        let mut add = |found: &[::tar::GnuSparseHeader]| -> Result<(), ArchiveError> {
            for piece in found.iter().filter(|piece| !piece.is_empty()) {
                let (offset, length) = (piece.offset(), piece.length());
                let number =
                    |number: io::Result<u64>| number.map_err(|_| wrong("a map of holes that is none"));
                pieces.push((number(offset)?, number(length)?));
            }
            sparse::few(&pieces).map_err(|because| wrong(&because))
        };
        add(&gnu.sparse)?;
        let (mut goes_on, mut blocks) = (gnu.is_extended(), 0);
        while goes_on {
            // They may be empty, and then nothing else counts them.
            if blocks == sparse::MOST_BLOCKS {
                return Err(wrong("its map of holes has no end"));
            }
            blocks += 1;
            let mut more = GnuExtSparseHeader::new();
            self.fill(more.as_mut_bytes()).map_err(|error| self.cut(error))?;
            add(more.sparse())?;
            goes_on = more.is_extended();
        }
        self.left = stored;
        self.padding = padding_of(stored);
        let segments = sparse::checked(pieces, size, stored).map_err(|because| wrong(&because))?;
        Ok(Kind::File { size, segments })
    }

    /// The next header; `None`: the mark of the end.
    fn header(&mut self) -> Result<Option<Header>, ArchiveError> {
        let mut header = Header::new_old();
        let before = self.at;
        match self.fill(header.as_mut_bytes()) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                if self.may_just_end && self.at == before {
                    return Ok(None);
                }
                return Err(self.damaged("it breaks off, without the mark of its end"));
            }
            Err(error) => return Err(error.into()),
        }
        if header.as_bytes().iter().all(|&byte| byte == 0) {
            return Ok(None);
        }
        let bytes = header.as_bytes();
        let (mut unsigned, mut signed) = (0i64, 0i64);
        for (index, &byte) in bytes.iter().enumerate() {
            let byte = if (148..156).contains(&index) { b' ' } else { byte };
            unsigned += i64::from(byte);
            signed += i64::from(byte.cast_signed());
        }
        // Some have added up bytes that can be negative.
        if !header.cksum().is_ok_and(|sum| [unsigned, signed].contains(&i64::from(sum))) {
            return Err(self.damaged(if self.at == BLOCK {
                "it is no tar archive"
            } else {
                "a header with a wrong sum"
            }));
        }
        Ok(Some(header))
    }

    /// What is kept in memory of one header.
    fn small(&mut self, size: u64, limit: u64, what: &str) -> Result<Vec<u8>, ArchiveError> {
        if size > limit {
            return Err(self.damaged(format!("{what} of {size} bytes")));
        }
        let mut bytes = vec![0; size as usize];
        self.fill(&mut bytes).map_err(|error| self.cut(error))?;
        self.padding = padding_of(size);
        self.skip()?;
        Ok(bytes)
    }

    /// All of it, or `UnexpectedEof`.
    fn fill(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.input.read(&mut buffer[filled..]) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => {
                    filled += read;
                    self.at += read as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Over what is left of an entry's data.
    fn skip(&mut self) -> Result<(), ArchiveError> {
        let (mut left, padding) = (self.left, self.padding);
        (self.left, self.padding) = (0, 0);
        let mut buffer = vec![0; usize::try_from(left).unwrap_or(usize::MAX).min(64 * 1024)];
        while left > 0 {
            let length = usize::try_from(left).unwrap_or(buffer.len()).min(buffer.len());
            self.fill(&mut buffer[..length]).map_err(|error| self.cut(error))?;
            left -= length as u64;
        }
        let mut block = [0; BLOCK as usize];
        match self.fill(&mut block[..padding as usize]) {
            Err(error) if self.may_just_end && error.kind() == io::ErrorKind::UnexpectedEof => Ok(()),
            filled => filled.map_err(|error| self.cut(error)),
        }
    }

    fn cut(&self, error: io::Error) -> ArchiveError {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            self.damaged("it breaks off")
        } else {
            error.into()
        }
    }

    fn damaged(&self, because: impl Into<String>) -> ArchiveError {
        ArchiveError::Damaged { at: self.at, because: because.into() }
    }
}

/// The data of one entry.
#[derive(Debug)]
pub struct Data<'a, R> {
    reader: &'a mut Reader<R>,
}

impl<R: Read> Read for Data<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = usize::try_from(self.reader.left).unwrap_or(buffer.len()).min(buffer.len());
        let read = self.reader.input.read(&mut buffer[..length])?;
        if read == 0 && length > 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the archive breaks off"));
        }
        self.reader.left -= read as u64;
        self.reader.at += read as u64;
        Ok(read)
    }
}

fn padding_of(size: u64) -> u64 {
    size.wrapping_neg() % BLOCK
}

fn plain(size: u64) -> Vec<(u64, u64)> {
    if size == 0 { Vec::new() } else { vec![(0, size)] }
}

fn until_nul(mut name: Vec<u8>) -> Vec<u8> {
    if let Some(nul) = name.iter().position(|&byte| byte == 0) {
        name.truncate(nul);
    }
    name
}

/// Octal digits. One that somebody has left empty is 0, as it is for GNU tar: NULs, or blanks and a NUL; blanks alone are no number to it.
fn mode(header: &Header) -> Option<u32> {
    let field: &[u8] = &header.as_old().mode;
    if field.contains(&0) && field.iter().all(|byte| matches!(byte, 0 | b' ')) {
        return Some(0);
    }
    header.mode().ok()
}

/// Octal digits, or since GNU a number in two's complement, which may be before 1970.
fn modified(header: &Header) -> Option<Moment> {
    let field: &[u8] = &header.as_old().mtime;
    if field[0] & 0x80 == 0 {
        return Some((i64::try_from(header.mtime().ok()?).ok()?, 0));
    }
    let start = if field[0] & 0x40 == 0 { 0 } else { -1 };
    let first = if start == 0 { field[0] & 0x7f } else { field[0] };
    let number = std::iter::once(first)
        .chain(field[1..].iter().copied())
        .fold(i128::from(start), |number, byte| number << 8 | i128::from(byte));
    Some((i64::try_from(number).ok()?, 0))
}
