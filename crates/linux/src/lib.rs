//! The few system calls that `rustix` lacks, each wrapped once and safely.
//!
//! This is the only crate of the house with `unsafe` code. Every block says which conditions its callee has and why they hold. Nothing here
//! knows what a container is: types are descriptors, numbers and flags.
//!
//! Left to callers: what the calls are *for*, the order in which they are made, and every policy.

mod btrfs;
mod counted;
mod file;
mod ids;
mod keyring;
mod loop_device;
mod memory;
mod mount;
pub mod mutation;
mod process;
mod project;
mod signal;
mod trace;
mod user_namespace;

pub use btrfs::{
    is_btrfs, is_subvolume, keeps_subvolume_limits, limit_subvolume, make_subvolume, subvolume_use,
};
pub use counted::{SpaceLimits, SpaceUse};
pub use file::{begin_writing, resize_ext4, share_blocks, trim};
pub use ids::{on_a_thread_of_its_own, take_filesystem_ids, with_filesystem_ids};
pub use keyring::take_new_session_keyring;
pub use loop_device::{LoopDevice, attach_loop, attach_whole, find_loop, is_loop_of};
pub use memory::release_code_pages;
pub use mount::{MountAttributes, Propagation, set_mount_attributes, unshare_mount_namespace};
pub use process::{
    CLONE_PARENT, Child, Exit, close_all, close_all_but, close_on_exec_from, close_others, exit_now, fork,
    idle_io, inherited_descriptor, lift_limits, reap_any, spawn,
};
pub use project::{begin_project, keeps_project_limits, limit_project, project_below, project_use};
pub use signal::{
    Sent, SignalReader, count_signals, counted_signals, default_signals, end_at, end_silently, is_ignored,
    signal_by_number, signal_number, unblock_signals, with_signals_unblocked,
};
pub use trace::{
    Follow, Stop, TracedCall, Until, detach_traced, forge_traced_call, resume_traced, set_traced_options,
    spawn_traced, traced_call, wait_traced,
};
pub use user_namespace::user_namespace;
