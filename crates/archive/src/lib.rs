//! Archives that others have made, read as a stream and unpacked into a tree.
//!
//! Nothing in an archive is trusted: names, numbers and lengths are read within bounds, what is remembered of it does not grow with it, and all that is made
//! is made by [`tree::Unpack`], below the directory that it was given. What is compressed is undone by a process of its own (see [`decompress`]), since the
//! libraries that do it are C.

mod acl;
mod compression;
mod entry;
mod error;
pub mod image;
pub mod incus;
mod pax;
mod sparse;
mod tar;
mod unpack;

pub use compression::{Compression, decompress};
pub use entry::{Entry, Kind};
pub use error::ArchiveError;
pub use tar::{MOST_AFTER_THE_END, Reader};
pub use unpack::{Beside, Left, Lists, Place, Target, unpack, unpack_and_read};
