//! A process that can do nothing but read and write what it has open: for libraries of C at work on bytes that anybody may have made.
//!
//! It is nobody, has no capability, can open no file, start no process and reach no network, and has as much memory as it needs and no more. It gives up all
//! that for good.

use std::io;

use libcontainer::seccomp::{SeccompError, initialize_seccomp};
use oci_spec::OciSpecError;
use oci_spec::runtime::{LinuxSeccompAction, LinuxSeccompBuilder, LinuxSyscallBuilder};
use rustix::process::{Gid, Resource, Rlimit, Uid, setrlimit};
use rustix::thread::{
    CapabilitySet, CapabilitySets, set_capabilities, set_no_new_privs, set_thread_groups, set_thread_res_gid,
    set_thread_res_uid,
};

use crate::spec::architectures;

/// Nobody's number, everywhere.
const NOBODY: u32 = 65_534;
/// All that it may map, in bytes: the program itself, and the largest window that is undone.
const MEMORY: u64 = 512 * 1024 * 1024;

/// Memory, bytes in and out, and an end.
const CALLS: &[&str] = &[
    "brk",
    "clock_gettime",
    "close",
    "exit",
    "exit_group",
    "fcntl",
    "fstat",
    "futex",
    "getrandom",
    "lseek",
    "madvise",
    "mmap",
    "mprotect",
    "mremap",
    "munmap",
    "newfstatat",
    "read",
    "readv",
    "restart_syscall",
    "rt_sigaction",
    "rt_sigprocmask",
    "rt_sigreturn",
    "sched_yield",
    "sigaltstack",
    "write",
    "writev",
];

/// Why the process is not shut in: then it must not go on.
#[derive(Debug, thiserror::Error)]
pub enum ShutInError {
    /// Limits, ids, capabilities.
    #[error("cannot give up {0}")]
    System(&'static str, #[source] io::Error),
    /// System calls.
    #[error("cannot give up system calls")]
    Seccomp(#[from] SeccompError),
    /// As above.
    #[error("cannot give up system calls")]
    Specification(#[from] OciSpecError),
}

/// Shuts this process in, which has one thread.
///
/// # Errors
/// [`ShutInError`].
pub fn shut_in() -> Result<(), ShutInError> {
    let of = |what: &'static str| move |error: rustix::io::Errno| ShutInError::System(what, error.into());
    for (resource, most) in [(Resource::As, MEMORY), (Resource::Core, 0), (Resource::Nproc, 0)] {
        let limit = Rlimit { current: Some(most), maximum: Some(most) };
        setrlimit(resource, limit).map_err(of("memory"))?;
    }
    if rustix::process::geteuid().is_root() {
        set_thread_groups(&[]).map_err(of("groups"))?;
        let (user, group) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
        set_thread_res_gid(group, group, group).map_err(of("its group"))?;
        set_thread_res_uid(user, user, user).map_err(of("its user"))?;
    }
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })
        .map_err(of("capabilities"))?;
    set_no_new_privs(true).map_err(of("new privileges"))?;
    let allowed = LinuxSyscallBuilder::default()
        .names(CALLS.iter().map(|&call| call.to_owned()).collect::<Vec<_>>())
        .action(LinuxSeccompAction::ScmpActAllow)
        .build()?;
    let filter = LinuxSeccompBuilder::default()
        .default_action(LinuxSeccompAction::ScmpActKillProcess)
        .architectures(architectures())
        .syscalls(vec![allowed])
        .build()?;
    initialize_seccomp(&filter)?;
    Ok(())
}
