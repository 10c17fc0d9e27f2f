//! Kills, errors and power cuts at every instant of every operation, and a judge of what they leave behind.
//!
//! ```text
//! scenario     what is done, from which state
//! world        a host in that state; golden: a root with one of everything that can be lost
//! trace        one run of `prlctl`, stopped at each system call that changes anything; calls: which those are
//! fault        what happens at one of them
//! aftermath    the recovery and the verdict (testkit's judge)
//! syscalls     the sweep over all calls of a command, of a monitor, or of a recovery; death: how what it recovers has died
//! filesystem   the sweep of power cuts; disk: a filesystem that can be frozen at any instant
//! concurrency  many commands at the same time
//! weakest      a filesystem that keeps only what was synced
//! sweep        a slice of either, by several workers
//! mutations    guards that are taken away, to prove the sweeps; hunt: what is to see it; proof: all of them
//! naming       which calls name files, and which of those go into a root by name
//! ledger       what was survived, a line a slice, and the figures in docs/promises.md
//! ```
//!
//! It drives the program as a user would and reads what it leaves by itself; nothing of the engine is used here.

pub mod aftermath;
pub mod calls;
pub mod concurrency;
pub mod death;
pub mod dice;
pub mod disk;
pub mod fault;
pub mod filesystem;
mod golden;
pub mod hunt;
pub mod ledger;
pub mod mutations;
pub mod naming;
pub mod proof;
pub mod scenario;
pub mod sweep;
pub mod syscalls;
pub mod trace;
pub mod weakest;
pub mod world;
