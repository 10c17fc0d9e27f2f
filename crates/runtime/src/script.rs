//! A script of the host, `vps.reinstall`: as root, in a mount namespace and a control group of its own.
//! What it mounts is gone with it, and so is every process that it leaves behind; if this program is killed, by the recovery that its keeper
//! starts (see [`crate::keeper`]).

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use linux::{Exit, MountAttributes, default_signals, exit_now, fork, set_mount_attributes, unblock_signals};
use rustix::fs::CWD;
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::mount::{MountPropagationFlags, MoveMountFlags};
use store::{ContainerId, Prefix};

use crate::cgroup::{CgroupError, Cgroups};
use crate::exec::{Alone, Lines};
use crate::mounts::{MountError, clone_mount};

/// How long the processes of a script may take to die of SIGKILL.
const KILLING: Duration = Duration::from_secs(30);
/// CLONE_NEWNS of sched.h.
const NEW_MOUNT_NAMESPACE: u64 = 0x0002_0000;

/// What can go wrong around a script.
#[derive(Debug, thiserror::Error)]
pub enum ScriptError {
    /// A control group said no.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// A mount for it could not be made.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// Somebody wants this process to end.
    #[error("it was interrupted")]
    Interrupted,
    /// A pipe, a fork, a wait.
    #[error("cannot run it")]
    Io(#[from] io::Error),
}

/// A script and what it is given.
#[derive(Debug)]
pub struct HostScript<'a> {
    /// The file, opened when it was checked; that file is executed, whatever its name means by now.
    pub file: &'a OwnedFd,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Its whole environment.
    pub environment: Vec<(String, OsString)>,
    /// A detached mount that it sees at a path: the container's present root.
    pub view: (&'a OwnedFd, PathBuf),
    /// A directory that it sees read-only: the template.
    pub read_only: Option<PathBuf>,
}

/// Runs a script to its end; `None` when it has not ended within `limit`. Either way nothing of it is left running.
///
/// # Errors
/// [`ScriptError`]; [`ScriptError::Interrupted`] when `interrupt` has become readable.
pub fn run(
    prefix: &Prefix,
    id: &ContainerId,
    script: &HostScript<'_>,
    limit: Duration,
    interrupt: Option<BorrowedFd<'_>>,
    each: &mut dyn FnMut(&[u8]),
) -> Result<Option<Exit>, ScriptError> {
    let cgroups = Cgroups::of(prefix, id)?;
    cgroups.kill_script(KILLING)?;
    let group = cgroups.script_group()?;
    let read_only = script.read_only.as_ref().map(|path| read_only_clone(path)).transpose()?;
    let (output, written) =
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(io::Error::from)?;
    let null = crate::exec::null()?;

    let child = fork(NEW_MOUNT_NAMESPACE, Some(group.as_fd()), || {
        let _ = rustix::process::setsid();
        for (descriptor, to) in [(&null, 0), (&written, 1), (&written, 2)] {
            let result = match to {
                0 => rustix::stdio::dup2_stdin(descriptor),
                1 => rustix::stdio::dup2_stdout(descriptor),
                _ => rustix::stdio::dup2_stderr(descriptor),
            };
            if result.is_err() {
                exit_now(126);
            }
        }
        if let Err(error) = prepare(script, read_only.as_ref()) {
            say(&format!("cannot prepare the script's mounts: {error}\n"));
            exit_now(126);
        }
        default_signals();
        unblock_signals();
        drop(std::env::set_current_dir("/"));
        drop(linux::close_on_exec_from(3));
        let _ = fcntl_setfd(script.file, FdFlags::empty());
        let error = Command::new(format!("/proc/self/fd/{}", script.file.as_raw_fd()))
            .args(&script.arguments)
            .env_clear()
            .envs(script.environment.iter().map(|(key, value)| (key, value)))
            .exec();
        say(&format!("cannot execute the script: {error}\n"));
        exit_now(126)
    })?;
    drop(written);
    let result = Lines::new(output).until_end(&child, limit, interrupt, &mut Alone, each);
    // Its daemons die with it, and with a script that has to be killed goes everything that it was doing.
    cgroups.kill_script(KILLING)?;
    if !matches!(result, Ok(Some(_))) {
        // Mostly to reap it: with its group it is dead, unless it had moved itself elsewhere.
        child.end(KILLING)?;
    }
    cgroups.remove_empty();
    match result {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(ScriptError::Interrupted),
        other => Ok(other?),
    }
}

fn prepare(script: &HostScript<'_>, read_only: Option<&OwnedFd>) -> io::Result<()> {
    rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    let (view, point) = &script.view;
    rustix::mount::move_mount(view, "", CWD, point, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    if let (Some(mount), Some(path)) = (read_only, &script.read_only) {
        rustix::mount::move_mount(mount, "", CWD, path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    }
    Ok(())
}

fn read_only_clone(path: &std::path::Path) -> Result<OwnedFd, ScriptError> {
    let clone = clone_mount(path)?;
    let attributes = MountAttributes { set: MountAttributes::READ_ONLY, ..MountAttributes::default() };
    set_mount_attributes(&clone, &attributes)?;
    Ok(clone)
}

fn say(text: &str) {
    let _ = rustix::io::write(rustix::stdio::stdout(), text.as_bytes());
}
