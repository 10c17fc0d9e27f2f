//! File trees by directory handle: look inside hostile roots, write, remove, compare.
//!
//! Nobody inside a container's root is trusted: any name in it may be a symlink to the host, a FIFO that
//! never answers, a device, a loop, a directory 100,000 deep, or may become one while we look. So this
//! crate is the only one that touches a root, and it never opens a path in one by name from the host:
//!
//! - a path is resolved by the kernel below a handle (`openat2`, `RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS`);
//! - what is found is first only *held* (`O_PATH`), looked at, and opened through its own handle;
//! - whatever is read is bounded; whatever walks is iterative, with a bounded number of descriptors.
//!
//! It knows nothing of containers, generations or mounts.

mod built;
mod changed;
mod compare;
mod contents;
mod copy;
mod delta;
mod descent;
mod digest;
mod duplicate;
mod error;
mod escape;
mod ids;
mod layered;
mod layered_walk;
mod measure;
mod merged;
mod node;
mod overlay;
mod remove;
mod restore;
mod root;
mod share;
mod stamp;
mod sync;
#[cfg(test)]
mod tests;
mod transfer;
mod unpack;
mod write;

pub use built::{Accepted, BuiltRootError, accept_built_root};
pub use changed::{Changed, ChangedPath, changed};
pub use compare::{Snapshot, snapshot};
pub use copy::{Copied, Copier, Except, Told};
pub use delta::{Aspect, Change, Difference, differences};
pub use digest::{Nodes, TreeDigest, digest, digest_of_nodes};
pub use duplicate::duplicate;
pub use error::TreeError;
pub use escape::{escaped, escaped_path, printable};
pub use ids::IdShift;
pub use layered::{LayeredRoot, NewDirectory};
pub use measure::{Measure, Size, measure};
pub use remove::{Removed, empty_directory, remove_entry};
pub use restore::{Restore, RestoreError, Restored, restore};
pub use root::{FileBytes, Kind, Root};
pub use share::{Shared, Sharing};
pub use stamp::{Stamp, stamp};
pub use sync::{sync_filesystem, sync_small_tree};
pub use transfer::can_clone;
pub use unpack::{Moment, NewNode, Properties, Unpack, UnpackError, UnpackLimits, Unpacked};
