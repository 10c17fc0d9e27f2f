//! The process beside a script of the host: it makes the script's namespace, answers for its mounts, and hands the root back.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use linux::{Child, MountAttributes, default_signals, exit_now, fork, set_mount_attributes, unblock_signals};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::CWD;
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::mount::{MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::gate::{self, Gate};
use super::{HostAction, Report};
use crate::cgroup::Cgroups;
use crate::monitor::{Channel, describe};
use crate::mounts::is_mounted;

/// How long the processes of a script may take to die of SIGKILL.
const KILLING: Duration = Duration::from_secs(30);
/// Of one that could not be executed, or whose mounts could not be made; what a shell gives.
const NOT_EXECUTED: i32 = 126;

/// All that a warden has; every other descriptor of the process that it is a copy of is closed in it.
pub struct Scene<'a> {
    pub cgroups: &'a Cgroups,
    /// The script's.
    pub group: &'a OwnedFd,
    /// Readable when whoever wants the script run is dead.
    pub parent: &'a OwnedFd,
    pub output: &'a OwnedFd,
    pub null: &'a OwnedFd,
    pub report: &'a OwnedFd,
    pub action: &'a HostAction<'a>,
}

/// Runs the script; what the process is to exit with.
pub fn watch(scene: &Scene<'_>) -> i32 {
    let _ = rustix::process::setsid();
    let streams = [
        rustix::stdio::dup2_stdin(scene.null),
        rustix::stdio::dup2_stdout(scene.output),
        rustix::stdio::dup2_stderr(scene.output),
    ];
    if streams.iter().any(Result::is_err) {
        return NOT_EXECUTED;
    }
    let mut kept =
        vec![scene.group.as_fd(), scene.parent.as_fd(), scene.report.as_fd(), scene.action.file.as_fd()];
    kept.extend(scene.action.root.as_ref().map(|(tree, _)| tree.as_fd()));
    // Connections of the monitor's, above all: whoever speaks to it is to learn of its death at once.
    linux::close_others(&kept);
    match run(scene) {
        Ok(code) => code,
        Err(error) => {
            say(&format!("cannot prepare the script: {error}\n"));
            NOT_EXECUTED
        }
    }
}

fn run(scene: &Scene<'_>) -> io::Result<i32> {
    prepare(scene.action)?;
    let root = scene.action.root.as_ref();
    let (ours, theirs) =
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    let child = fork(0, Some(scene.group.as_fd()), || become_script(scene.action, &theirs))?;
    drop(theirs);
    let gate = root.and_then(|_| Channel::new(ours).receive_descriptor().ok().flatten());
    let mut gate = root.zip(gate).map(|((tree, point), socket)| Gate::new(socket, tree, point));
    let (code, refused) = attend(scene, &child, &mut gate)?;
    // Before the view is opened below: what it has left running would walk in it as on any other, wherever the container's links lead.
    scene.cgroups.kill_script(KILLING).map_err(io::Error::other)?;
    let report = Report { code, refused };
    let tree = match root {
        // A script that has failed has mounted nothing.
        Some((tree, point)) if code == 0 || code == super::SKIP => Some(take_back(tree, point)?),
        Some(_) | None => None,
    };
    let beside: Vec<_> = tree.iter().map(AsFd::as_fd).collect();
    let sent = scene.report.try_clone().and_then(|socket| Channel::new(socket).send(&report, &beside));
    Ok(if sent.is_ok() { 0 } else { NOT_EXECUTED })
}

/// A namespace in which nothing comes and from which nothing goes, with the root in its place.
fn prepare(action: &HostAction<'_>) -> io::Result<()> {
    linux::unshare_mount_namespace()?;
    rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    // What the monitor has of the container there would be a way around the view below.
    rustix::mount::unmount(action.stage, UnmountFlags::DETACH)?;
    let Some((tree, point)) = &action.root else { return Ok(()) };
    follow_no_symlinks(tree)?;
    // Nothing of the container's is executed by the host's root. What is mounted below has flags of its own.
    let attributes = MountAttributes { set: MountAttributes::NO_EXEC, ..MountAttributes::default() };
    set_mount_attributes(tree, &attributes)?;
    rustix::mount::move_mount(tree, "", CWD, point, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    Ok(())
}

/// The root and all that is mounted in it.
pub fn follow_no_symlinks(tree: &OwnedFd) -> io::Result<()> {
    let set = MountAttributes::NO_SYMLINKS;
    set_mount_attributes(tree, &MountAttributes { set, recursive: true, ..MountAttributes::default() })
}

/// The root with all that the script has mounted in it, as mounts of no namespace, without what was only this script's view of it.
fn take_back(tree: &OwnedFd, point: &Path) -> io::Result<OwnedFd> {
    let is_there = rustix::fs::stat(point)?.st_dev == rustix::fs::fstat(tree)?.st_dev;
    if !is_there || !is_mounted(point) {
        return Err(io::Error::other("it has unmounted the container's root"));
    }
    let clear = |clear, recursive| {
        set_mount_attributes(tree, &MountAttributes { clear, recursive, ..MountAttributes::default() })
    };
    clear(MountAttributes::NO_SYMLINKS, true)?;
    clear(MountAttributes::NO_EXEC, false)?;
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    let taken = rustix::mount::open_tree(CWD, point, flags | OpenTreeFlags::AT_SYMLINK_NOFOLLOW)?;
    // Now, and not some time after the end of this process: the next script may want to take away what is below a filesystem.
    rustix::mount::unmount(point, UnmountFlags::DETACH)?;
    Ok(taken)
}

/// Until the script has ended: its exit code as a shell would give it, and what it was refused.
fn attend(
    scene: &Scene<'_>,
    child: &Child,
    gate: &mut Option<Gate<'_>>,
) -> io::Result<(i32, Option<String>)> {
    let mut refused = None;
    loop {
        let mut polled = vec![
            PollFd::from_borrowed_fd(child.pidfd(), PollFlags::IN),
            PollFd::new(scene.parent, PollFlags::IN),
        ];
        polled.extend(gate.as_ref().map(|gate| PollFd::new(gate, PollFlags::IN)));
        match poll(&mut polled, None) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        }
        let ready: Vec<PollFlags> = polled.iter().map(PollFd::revents).collect();
        drop(polled);
        if !ready[1].is_empty() {
            // Nobody else kills it: whoever wanted it is dead, and the next command may be long in coming.
            scene.cgroups.kill_script(KILLING).map_err(io::Error::other)?;
            return Err(io::Error::other("the monitor has died"));
        }
        if let Some(events) = ready.get(2)
            && let Some(open) = gate.as_ref()
        {
            if events.contains(PollFlags::IN) {
                let one = open.answer();
                if let Some(why) = &one {
                    say(&format!("[reroot] refused: {why}\n"));
                }
                refused = refused.or(one);
            } else if !events.is_empty() {
                // All that went through it have ended.
                *gate = None;
            }
        }
        if !ready[0].is_empty() {
            return Ok((child.wait()?.shell_code(), refused));
        }
    }
}

fn become_script(action: &HostAction<'_>, to_warden: &OwnedFd) -> i32 {
    let _ = rustix::process::setsid();
    if action.root.is_some() {
        let installed = gate::install()
            .and_then(|socket| Channel::new(to_warden.try_clone()?).send(&"gate", &[socket.as_fd()]));
        if let Err(error) = installed {
            say(&format!("cannot watch what the script mounts: {}\n", describe(&error)));
            return NOT_EXECUTED;
        }
    }
    default_signals();
    unblock_signals();
    drop(std::env::set_current_dir("/"));
    drop(linux::close_on_exec_from(3));
    let _ = fcntl_setfd(action.file, FdFlags::empty());
    let error = Command::new(format!("/proc/self/fd/{}", action.file.as_raw_fd()))
        .env_clear()
        .envs(action.environment.iter().map(|(key, value)| (key, value)))
        .exec();
    say(&format!("cannot execute the script: {error}\n"));
    exit_now(NOT_EXECUTED)
}

fn say(text: &str) {
    let _ = rustix::io::write(rustix::stdio::stdout(), text.as_bytes());
}
