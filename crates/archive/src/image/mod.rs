//! Images: layers with what belongs to them, as a layout of OCI in a directory or an archive, or as `docker save` writes them.
//!
//! What is read has its digest checked before it is believed; layers once more when their compression is undone.

mod blobs;
mod layers;
mod manifest;

pub use blobs::{Blob, Blobs};
pub use layers::{Hashed, apply, whiteouts};
pub use manifest::{Configuration, Image, Layer, Wish, read};

use crate::error::ArchiveError;

/// Asked now and then; `false`: somebody wants it to end, and that is [`ArchiveError::Interrupted`].
pub type GoesOn<'a> = &'a mut dyn FnMut() -> bool;

/// An image is not whole: that is why.
fn wrong(because: impl Into<String>) -> ArchiveError {
    ArchiveError::Image(because.into())
}

/// Of an image nothing can be made: why, and what to do about it.
fn unfit(because: impl Into<String>, instead: &'static str) -> ArchiveError {
    ArchiveError::Unfit { because: because.into(), instead }
}
