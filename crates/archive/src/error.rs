//! What is wrong with an archive.

use std::io;

use tree::{UnpackError, escaped};

/// Why an archive is not taken.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// It is not there, or what undoes its compression has ended.
    #[error("the archive cannot be read")]
    Read(#[from] io::Error),
    /// It is none, or none of a kind that is known.
    #[error("it is {0}")]
    Unknown(&'static str),
    /// It is something else, of which a root can be had.
    #[error("it is {is}")]
    NoArchive {
        /// "a squashfs image".
        is: &'static str,
        /// What to do with it; a hint.
        instead: &'static str,
    },
    /// It breaks off, or has been changed.
    #[error("the archive is damaged at byte {at}: {because}")]
    Damaged {
        /// Counted after its compression is undone.
        at: u64,
        /// "a header with a wrong sum".
        because: String,
    },
    /// There is nothing in it.
    #[error("there is nothing in the archive")]
    Empty,
    /// What belongs to an image is missing in it, is another, or cannot be understood.
    #[error("the image is not whole, or not one that is known: {0}")]
    Image(String),
    /// An image that may well be whole, and of which nothing can be made as things are.
    #[error("{because}")]
    Unfit {
        /// "there are several images in it: `one`, `two`".
        because: String,
        /// What to do about it; a hint.
        instead: &'static str,
    },
    /// One entry of it.
    #[error("`{}` in the archive: {because}", shown(.path))]
    Entry {
        /// As the archive has it.
        path: Vec<u8>,
        /// "it is of a kind that is not known".
        because: String,
    },
    /// One entry cannot be made.
    #[error("`{}` in the archive cannot be unpacked", shown(.path))]
    Unpack {
        /// As the archive has it.
        path: Vec<u8>,
        /// Why.
        source: UnpackError,
    },
    /// Somebody wants this to end.
    #[error("it was interrupted")]
    Interrupted,
}

fn shown(path: &[u8]) -> String {
    tree::escaped_path(std::path::Path::new(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(
        path,
    )))
}

impl ArchiveError {
    pub(crate) fn entry(path: &[u8], because: impl Into<String>) -> ArchiveError {
        ArchiveError::Entry { path: path.to_owned(), because: because.into() }
    }

    pub(crate) fn unpack(path: &[u8], source: UnpackError) -> ArchiveError {
        if let UnpackError::System { source, .. } = &source
            && source.kind() == io::ErrorKind::Interrupted
        {
            return ArchiveError::Interrupted;
        }
        ArchiveError::Unpack { path: path.to_owned(), source }
    }

    /// Bytes of the archive in a message.
    pub(crate) fn quoted(bytes: &[u8]) -> String {
        format!("`{}`", escaped(&bytes[..bytes.len().min(200)]))
    }
}
