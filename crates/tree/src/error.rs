//! What can go wrong in a tree, each with the path inside it.

use crate::escape::escaped_path as shown;
use std::ffi::CString;
use std::io;
use std::path::{Path, PathBuf};

/// A failure in a tree. Paths are those inside the tree; shown, they are escaped and shortened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TreeError {
    #[error("cannot {doing} `{}`", shown(.path))]
    Io { doing: &'static str, path: PathBuf, source: io::Error },

    #[error("`{}` is {kind}, not a regular file", shown(.path))]
    NotRegular { path: PathBuf, kind: &'static str },

    #[error("`{}` is {kind}, not a directory", shown(.path))]
    NotDirectory { path: PathBuf, kind: &'static str },

    #[error("`{}` has {size} bytes, more than the {limit} that are read of it", shown(.path))]
    TooLarge { path: PathBuf, size: u64, limit: u64 },

    #[error("`{}` has more than {most} names, which are not read", shown(.path))]
    TooMany { path: PathBuf, most: usize },

    #[error("`{}` goes through a symlink, which is not followed in a root of two layers", shown(.path))]
    SymlinkOnTheWay { path: PathBuf },

    #[error("`{}` was renamed from a place where there is no directory", shown(.path))]
    Redirected { path: PathBuf },

    #[error("`{}` is not a usable path: {because}", shown(.path))]
    BadPath { path: PathBuf, because: &'static str },

    #[error("`{}` is not there, and was not in the template", shown(.path))]
    Missing { path: PathBuf },

    #[error("`{}` has the attribute `{}`, which only overlayfs may set", shown(.path), crate::escape::escaped(.name.to_bytes()))]
    OverlayAttribute { path: PathBuf, name: CString },

    #[error("`{}` was moved while it was being walked", shown(.path))]
    Moved { path: PathBuf },
}

impl TreeError {
    pub(crate) fn io(doing: &'static str, path: &Path, source: impl Into<io::Error>) -> TreeError {
        TreeError::Io { doing, path: path.to_owned(), source: source.into() }
    }

    /// The system's own error, where there is one: to tell a full disk from a hostile root.
    pub fn io_error(&self) -> Option<&io::Error> {
        match self {
            TreeError::Io { source, .. } => Some(source),
            TreeError::NotRegular { .. }
            | TreeError::NotDirectory { .. }
            | TreeError::TooLarge { .. }
            | TreeError::TooMany { .. }
            | TreeError::SymlinkOnTheWay { .. }
            | TreeError::Redirected { .. }
            | TreeError::BadPath { .. }
            | TreeError::Missing { .. }
            | TreeError::OverlayAttribute { .. }
            | TreeError::Moved { .. } => None,
        }
    }
}
