//! Operations as lists of steps, recovery, preflight: what the product does, without knowing how a container is run or what a terminal is.
//!
//! ```text
//! host        a host, its containers, whom to tell
//! container   one of them, locked
//! operation   create, reinstall, undo, switch, delete: steps, a journal, one commit
//! recover     what a dead command has left is brought to an end
//! accounts    users of an old root in a new one
//! identity    what no two containers may share
//! cloud_init  what a cloud-init in a root is told
//! interrupt   signals, for commands without a journal
//! keep        what of an old root is kept in a new one
//! openvz      what a private area of OpenVZ has, and what of it means something here
//! packages    what was installed by hand in an old root
//! difference  what a root has changed of its template, and which of it is configuration of packages
//! scripts     the host's scripts, checked before they are trusted with root
//! template    recipes of roots
//! runtime     what is asked of whatever runs containers; `real` is what really does
//! event       what an operation tells while it goes; `log` is what is kept of that
//! error       the four lines of a failure
//! words       figures in words, words of a command line
//! ```

pub mod accounts;
pub mod actions;
pub mod addresses;
mod attaching;
pub mod attachments;
pub mod boot;
pub mod cloud_init;
pub mod conffiles;
mod container;
pub mod defaults;
pub mod devices;
pub mod difference;
pub mod disks;
pub mod error;
pub mod event;
pub mod fault;
pub mod host;
pub mod identity;
pub mod interfaces;
pub mod interrupt;
pub mod keep;
pub mod log;
pub mod names;
pub mod old_scripts;
pub mod openvz;
pub mod operation;
pub mod packages;
pub mod real;
pub mod recover;
pub mod retention;
pub mod runtime;
pub mod scripts;
pub mod settings;
pub mod space;
pub mod systemd;
pub mod template;
pub mod trust;
pub mod view;
pub mod volume;
pub mod without_effect;
pub mod words;

pub use container::resolver_of;
pub use error::{Code, Failure, Result};
pub use host::{Container, Host, Observer, Silent};
#[doc(hidden)]
pub use net::Probation;
pub use real::RealRuntime;
