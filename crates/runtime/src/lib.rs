//! A running container: generations' mounts, the OCI specification, the monitor, `exec`, control groups, console.
//!
//! ```text
//! mounts      one superblock a generation, and views of it
//! spec        what a container is, in the words of the OCI runtime specification
//! monitor     one process a container, that starts it and sees it end
//! small_init  process 1 of a container whose root has no init, but an application
//! exec        a process of the host becomes one of the container
//! going_down  whether a script has told its container to end
//! script      a script of the host, with a mount namespace and a control group of its own
//! keeper      a killed command's container is recovered
//! cgroup      counting, limiting, killing
//! limits      how much of the host it may use
//! defaults    limits of whoever has none
//! lxcfs       a container is told its own share of the host
//! state       what dies with the host
//! uts         what a container calls itself
//! volume      a filesystem of its own
//! kernel      what this host can do
//! ```
//!
//! Whether a container runs or is mounted is asked of the kernel, never stored. Nothing here knows what an operation is.

pub mod actions;
pub mod attachments;
pub mod cgroup;
pub mod confined;
pub mod defaults;
pub mod devices;
pub mod disk_copy;
pub mod exec;
pub mod foreign;
pub mod going_down;
pub mod keeper;
pub mod kernel;
pub mod limits;
pub mod lxcfs;
pub mod monitor;
pub mod mountinfo;
pub mod mounts;
pub mod mounts_of_container;
pub mod network_files;
pub mod script;
pub mod shut_in;
mod small_init;
pub mod spec;
pub mod state;
pub mod uts;
pub mod volume;
