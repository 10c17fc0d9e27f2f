//! The files of an image, by name: in a directory, or in an archive that is not compressed.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use sha2::{Digest as _, Sha256};

use super::{GoesOn, wrong};
use crate::entry::Kind;
use crate::error::ArchiveError;
use crate::tar::Reader;
use crate::unpack::plain;

/// Files in an archive of an image: some hundred layers have three each.
const MOST_FILES: usize = 50_000;
/// All their names together, in bytes.
const MOST_NAMES: usize = 16 * 1024 * 1024;
/// Of a manifest or a configuration.
pub const LONGEST_RECORD: u64 = 4 * 1024 * 1024;

/// Where the files of an image are.
#[derive(Debug)]
pub enum Blobs {
    /// A directory, whose links lead nowhere else.
    Directory(File),
    /// An archive: where each file lies, and how long it is.
    Archive {
        /// Not compressed.
        file: File,
        /// Offset and length, by name.
        index: HashMap<Vec<u8>, (u64, u64)>,
    },
}

/// Some bytes of a file.
#[derive(Debug)]
pub struct Blob {
    /// The file they are in.
    pub file: File,
    /// From here.
    pub offset: u64,
    /// So many.
    pub length: u64,
    at: u64,
}

impl Blob {
    /// Its first bytes, whoever reads it.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn beginning(&self, length: usize, into: &mut Vec<u8>) -> io::Result<()> {
        let length = usize::try_from(self.length).unwrap_or(length).min(length);
        into.resize(length, 0);
        self.file.read_exact_at(into, self.offset)
    }

    /// The same bytes of the same file.
    ///
    /// # Errors
    /// When no more files can be open.
    pub fn again(&self) -> io::Result<Blob> {
        Ok(Blob { file: self.file.try_clone()?, offset: self.offset, length: self.length, at: 0 })
    }

    /// All of it: a record, which is called `name`.
    ///
    /// # Errors
    /// When it cannot be read, or is too long for one.
    pub fn record(self, name: &str) -> Result<Vec<u8>, ArchiveError> {
        if self.length > LONGEST_RECORD {
            return Err(wrong(format!(
                "`{}` in it has {} bytes",
                tree::escaped(name.as_bytes()),
                self.length
            )));
        }
        let mut bytes = Vec::new();
        self.take(LONGEST_RECORD).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// From its first byte again.
    pub fn rewind(&mut self) {
        self.at = 0;
    }

    /// `sha256:` and 64 digits, of all of it.
    ///
    /// # Errors
    /// [`ArchiveError`].
    pub fn digest(&mut self, goes_on: GoesOn<'_>) -> Result<String, ArchiveError> {
        self.rewind();
        let (mut hash, mut buffer) = (Sha256::new(), vec![0; 256 * 1024]);
        loop {
            if !goes_on() {
                return Err(ArchiveError::Interrupted);
            }
            match self.read(&mut buffer)? {
                0 => break,
                read => hash.update(&buffer[..read]),
            }
        }
        self.rewind();
        Ok(text_of(&hash.finalize()))
    }
}

/// As digests are written.
pub fn text_of(hash: &[u8]) -> String {
    hash.iter().fold("sha256:".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

impl Read for Blob {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.length - self.at).unwrap_or(buffer.len()).min(buffer.len());
        let read = self.file.read_at(&mut buffer[..left], self.offset + self.at)?;
        if read == 0 && left > 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the image breaks off"));
        }
        self.at += read as u64;
        Ok(read)
    }
}

impl Blobs {
    /// Finds out what lies where in an archive. Links in it lead to other files of it, as `docker save` has them.
    ///
    /// # Errors
    /// [`ArchiveError`].
    pub fn of_archive(file: File, goes_on: GoesOn<'_>) -> Result<Blobs, ArchiveError> {
        let (mut index, mut links, mut names) = (HashMap::new(), Vec::new(), 0);
        // Nothing is written: what claims to be longer than the archive breaks off.
        let mut reader = Reader::new(io::BufReader::with_capacity(256 * 1024, file.try_clone()?), u64::MAX);
        while let Some(entry) = reader.next_entry()? {
            if !goes_on() {
                return Err(ArchiveError::Interrupted);
            }
            let path = plain(&entry.path);
            names += path.len();
            if index.len() + links.len() >= MOST_FILES || names > MOST_NAMES {
                return Err(wrong("it has more files than an image has"));
            }
            match entry.kind {
                // One with holes is no file of an image: what lies there is not what it says.
                Kind::File { size, segments } if size == 0 || segments == [(0, size)] => {
                    index.insert(path, (reader.position(), size));
                }
                Kind::Symlink(to) => {
                    // `../<id>/layer.tar`, seen from the directory of the link.
                    let parent = path.rsplitn(2, |&byte| byte == b'/').nth(1).unwrap_or_default().to_vec();
                    links.push((path, joined(parent, &to)));
                }
                Kind::HardLink(to) => links.push((path, plain(&to))),
                Kind::File { .. } | Kind::Directory | Kind::Fifo | Kind::Device => {}
            }
        }
        for (path, to) in links {
            if let Some(&found) = index.get(&to) {
                index.insert(path, found);
            }
        }
        Ok(Blobs::Archive { file, index })
    }

    /// One of them; `None`: there is none of that name.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(&self, name: &str) -> Result<Option<Blob>, ArchiveError> {
        match self {
            Blobs::Directory(top) => {
                let how = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
                let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
                let file = match rustix::fs::openat2(top.as_fd(), name, flags, Mode::empty(), how) {
                    Ok(opened) => File::from(opened),
                    Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(None),
                    Err(error) => return Err(io::Error::from(error).into()),
                };
                let found = file.metadata()?;
                if !found.is_file() {
                    return Err(wrong(format!("`{}` in it is no file", tree::escaped(name.as_bytes()))));
                }
                Ok(Some(Blob { file, offset: 0, length: found.len(), at: 0 }))
            }
            Blobs::Archive { file, index } => {
                let Some(&(offset, length)) = index.get(name.as_bytes()) else { return Ok(None) };
                Ok(Some(Blob { file: file.try_clone()?, offset, length, at: 0 }))
            }
        }
    }

    /// A record, whole.
    ///
    /// # Errors
    /// When it cannot be read, or is too long for one.
    pub fn record(&self, name: &str) -> Result<Option<Vec<u8>>, ArchiveError> {
        self.open(name)?.map(|blob| blob.record(name)).transpose()
    }
}

/// What a relative path leads to; what it would lead to above the top has no name here.
fn joined(from: Vec<u8>, to: &[u8]) -> Vec<u8> {
    let mut names: Vec<&[u8]> = from.split(|&byte| byte == b'/').filter(|name| !name.is_empty()).collect();
    for name in to.split(|&byte| byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => drop(names.pop()),
            name => names.push(name),
        }
    }
    names.join(&b'/')
}
