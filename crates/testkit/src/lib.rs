//! A host of its own for every test.
//!
//! ```text
//! host           a prefix in a temporary directory, two templates, and an engine on it
//! fake_runtime   what "runs" containers there: a file, so that every process over the prefix sees the same
//! fake_script    the few words that a script of a test is written in
//! ran            what a command that was run came to
//! real_host      a prefix in which containers really run
//! judge          whether a container there is as it was or as it should be
//! machine        a whole computer in an emulator, whose power can be cut
//! hostile        roots that were made to harm whoever looks into them, and what of the host is watched meanwhile
//! tar_maker      archives that are put together by hand, and can be put together wrong
//! image_maker    images likewise
//! attack         what was tried on us, for a table
//! old_area       private areas of OpenVZ, to be registered
//! terminal       a terminal for a command under test, and somebody who types at it
//! ```
//!
//! Nothing of the first three mounts or executes; so the whole of the engine's logic is tested in milliseconds. It takes user id 0 for the
//! owners of files (`unshare -r` gives one), and nothing else of root.

pub mod attack;
pub mod fake_runtime;
pub mod fake_script;
pub mod host;
pub mod hostile;
pub mod image_maker;
pub mod judge;
pub mod machine;
pub mod old_area;
pub mod ran;
pub mod real_host;
pub mod tar_maker;
pub mod terminal;
pub mod wire;

pub use fake_runtime::{FakeRuntime, Fault, How, World};
pub use host::{TestHost, Told};
pub use image_maker::ImageMaker;
pub use machine::VirtualMachine;
pub use ran::Ran;
pub use real_host::RealHost;
pub use tar_maker::{TarHeader, TarMaker};
pub use terminal::Terminal;

/// How long to wait for what takes less than `seconds` on a machine of today: `REROOT_TEST_PATIENCE` times as long where that is set, as on one that is
/// only emulated.
pub fn patience(seconds: u32) -> std::time::Duration {
    let factor = std::env::var("REROOT_TEST_PATIENCE").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    std::time::Duration::from_secs(seconds.into()) * factor
}
