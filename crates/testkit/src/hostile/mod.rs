//! Roots that were made to harm whoever looks into them: a generator, and what is watched meanwhile.
//!
//! ```text
//! place × disguise   a name that every root has is something else: a link to the host, a loop, a FIFO, a device …
//! oddity             a root that is hostile in another way
//! canary             files, mounts and another container of the host, of which nothing may be changed, and nothing be read
//! ```

mod canary;
mod disguise;
mod oddity;

pub use canary::Canary;
pub use disguise::{DISGUISES, Disguise, PLACES};
pub use oddity::{ODDITIES, Oddity, names};
