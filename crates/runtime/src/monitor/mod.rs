//! The monitor: one small process a container.
//!
//! It is the program run again under another name, with one thread, since `libcontainer` clones it. It has a mount namespace and a control group
//! of its own, is init's parent, keeps the console, tells a reboot from a halt, starts again and takes down. It serves one generation for its life
//! and never reads `live`. If it is killed the container goes on; the next command adopts it.

mod actions;
mod attached;
mod complaints;
mod console;
mod container;
mod identity;
mod killed;
mod life;
mod listening;
mod old;
mod place;
mod protocol;
#[cfg(test)]
mod recorded;
mod restarts;
mod serve;
mod session;
mod settings;

pub use console::{last_lines_logged, log_path};
pub use container::describe;
pub use killed::{Diary, Killed};
pub use protocol::{Channel, End, Launch, VERSION};
pub use serve::{NAME, serve};
pub use session::{MonitorError, Session, living_monitor, spawn, wait_for_former};
pub use settings::{Said, Settings};
