//! What surrounds a monitor: its mount namespace, the place where the container's root is attached, its socket.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use store::Prefix;

use super::container::short_path;
use super::protocol::Launch;

/// A private copy of the host's mounts, without those of containers: a copy of them would keep their superblocks alive.
pub fn enter_own_namespace(prefix: &Prefix) -> io::Result<()> {
    linux::unshare_mount_namespace()?;
    rustix::mount::mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)?;
    rustix::mount::unmount(prefix.run_dir(), UnmountFlags::DETACH)?;
    Ok(())
}

/// Directories of every host, one of which is covered in the monitor's own namespace.
const STAGES: [&str; 7] = ["/mnt", "/media", "/srv", "/opt", "/home", "/boot", "/dev/shm"];

/// A small filesystem of the monitor's namespace for the root to be attached in. What lies below `/run/vz` is closed to the container's ids, and
/// the process that becomes its init has only those when it walks to the root.
pub fn mount_stage(prefix: &Prefix) -> io::Result<PathBuf> {
    let stage = STAGES
        .iter()
        .map(Path::new)
        .find(|stage| stage.is_dir() && !stage.is_symlink() && !prefix.root().starts_with(stage))
        .ok_or_else(|| io::Error::other(format!("none of {} is a directory", STAGES.join(" "))))?;
    rustix::mount::mount(
        "reroot",
        stage,
        "tmpfs",
        MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC,
        Some(c"mode=755,size=1m"),
    )?;
    rustix::mount::mount_change(stage, MountPropagationFlags::PRIVATE)?;
    Ok(stage.to_owned())
}

/// A socket at `path` for commands to connect to.
pub fn listen(path: &Path) -> io::Result<OwnedFd> {
    drop(std::fs::remove_file(path));
    let socket =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    short_path(path, |short| {
        rustix::net::bind(&socket, &SocketAddrUnix::new(short)?)?;
        rustix::net::listen(&socket, 16)?;
        Ok(())
    })?;
    Ok(socket)
}

/// Where the recovery that the monitor starts writes what it says.
pub fn recovery_log(prefix: &Prefix, launch: &Launch) -> io::Result<std::fs::File> {
    use std::os::unix::fs::OpenOptionsExt;
    let path = prefix.log_dir().join(format!("{}.recover", launch.id));
    std::fs::OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}
