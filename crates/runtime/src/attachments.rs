//! What is mounted in a container's root and is no part of it: its disks beside that of the root, and what it sees of the host.
//!
//! Here the mounts are made, on the host's side: detached clones, with ids mapped to the container's and the flags that somebody asked for. Where they go is the
//! monitor's business (`monitor::attached`), since that is a place in a root in which nobody is trusted.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use linux::{MountAttributes, Propagation, set_mount_attributes, user_namespace};
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::OpenTreeFlags;
use store::disks::DATA;
use store::{ContainerId, IdRange, InnerPath, MountFlags, Prefix};

use crate::volume::{self, VolumeError};

/// What is to be mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// What to call it: `hdd1`, or the path on the host.
    pub name: String,
    /// Where it comes from.
    pub source: Source,
    /// Where it goes.
    pub at: InnerPath,
    /// What it forbids.
    pub flags: MountFlags,
}

/// Where an attachment comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A disk of the container's own, in this file.
    Disk(PathBuf),
    /// A directory or a file of the host.
    Host(PathBuf),
}

/// As a monitor is told of it; the mount comes beside.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Attached {
    /// What to call it.
    pub name: String,
    /// Where it goes.
    pub at: InnerPath,
    /// It is a file.
    #[serde(default)]
    pub is_file: bool,
}

/// Why something cannot be attached.
#[derive(Debug, thiserror::Error)]
pub enum AttachmentError {
    /// A disk.
    #[error("the disk `{name}` cannot be mounted")]
    Disk {
        /// Which.
        name: String,
        /// Why.
        source: VolumeError,
    },
    /// What of the host was named.
    #[error("{} on the host {because}", path.display())]
    Source {
        /// Its path.
        path: PathBuf,
        /// Why not.
        because: String,
    },
    /// The kernel says no.
    #[error("cannot {what} {}", path.display())]
    Call {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

/// Makes the mount of an attachment, attached nowhere.
///
/// # Errors
/// [`AttachmentError`]; nothing stays mounted but the filesystem of a disk, where such are.
pub fn mount(
    prefix: &Prefix,
    id: &ContainerId,
    ids: IdRange,
    wanted: &Attachment,
) -> Result<(Attached, OwnedFd), AttachmentError> {
    let (path, handle, is_file) = match &wanted.source {
        Source::Disk(image) => {
            let failed = |source| AttachmentError::Disk { name: wanted.name.clone(), source };
            let path = volume::mount(prefix, id, image).map_err(failed)?.join(DATA);
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let handle = rustix::fs::open(&path, flags, Mode::empty())
                .map_err(|source| call("open", &path, source.into()))?;
            (path, handle, false)
        }
        Source::Host(path) => {
            let (handle, is_file) = open_source(prefix, path)?;
            (path.clone(), handle, is_file)
        }
    };
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    let clone = rustix::mount::open_tree(&handle, "", flags)
        .map_err(|error| call("clone the mount of", &path, error.into()))?;
    let namespace =
        user_namespace(ids.first, ids.count).map_err(|error| call("map ids for", &path, error))?;
    set_mount_attributes(&clone, &attributes(wanted, namespace.as_fd())).map_err(|source| {
        if matches!(Errno::from_io_error(&source), Some(Errno::INVAL | Errno::OPNOTSUPP | Errno::PERM)) {
            let file_system = store::file_system_of(&path);
            let because = format!("lies on a filesystem ({file_system}) on which ids cannot be mapped to the container's: {source}");
            return AttachmentError::Source { path: path.clone(), because };
        }
        call("map ids for", &path, source)
    })?;
    Ok((Attached { name: wanted.name.clone(), at: wanted.at.clone(), is_file }, clone))
}

fn attributes<'fd>(wanted: &Attachment, namespace: BorrowedFd<'fd>) -> MountAttributes<'fd> {
    let MountFlags { read_only, no_suid, no_devices: _, no_exec, no_access_times } = wanted.flags;
    // Nobody in a container makes device nodes, and those that others have made are dead.
    let mut set = MountAttributes::NO_DEVICES;
    let mut clear = 0;
    match wanted.source {
        // The container's own programs, as on the disk of its root: what they may become is an id of its own.
        Source::Disk(_) if !no_suid => clear |= MountAttributes::NO_SUID,
        Source::Disk(_) | Source::Host(_) => set |= MountAttributes::NO_SUID,
    }
    for (flag, is_set) in [(MountAttributes::READ_ONLY, read_only), (MountAttributes::NO_EXEC, no_exec)] {
        set |= if is_set { flag } else { 0 };
    }
    if no_access_times {
        clear |= MountAttributes::ACCESS_TIMES;
        set |= MountAttributes::NO_ACCESS_TIMES;
    }
    MountAttributes {
        set,
        clear,
        propagation: Some(Propagation::Private),
        id_map: Some(namespace),
        recursive: false,
    }
}

/// Opens what of the host a container is to see, and nothing of it; whether that is a file.
///
/// # Errors
/// [`AttachmentError::Source`]: it is not there, a link leads to it, it is neither a directory nor a file, or it is Reroot's own.
pub fn open_source(prefix: &Prefix, path: &Path) -> Result<(OwnedFd, bool), AttachmentError> {
    let refused =
        |because: &str| AttachmentError::Source { path: path.to_owned(), because: because.to_owned() };
    let own = [
        prefix.private_dir(),
        prefix.run_dir(),
        prefix.template_dir(),
        prefix.conf_dir(),
        prefix.log_dir(),
        prefix.root().join("vz/root"),
    ];
    // Also where a link leads to them: `/vz` may be one.
    let real = own.iter().filter_map(|own| own.canonicalize().ok()).collect::<Vec<_>>();
    if own.iter().chain(&real).any(|own| own.starts_with(path) || path.starts_with(own)) {
        return Err(refused("is, or holds, what containers are kept in"));
    }
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    // Whoever can put a link on the way could have anything of the host shown.
    let how = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let handle = rustix::fs::openat2(CWD, path, flags, Mode::empty(), how).map_err(|error| match error {
        Errno::NOENT | Errno::NOTDIR => refused("is not there"),
        Errno::LOOP => refused("is reached by a symbolic link: `realpath` tells its true name"),
        other => refused(&format!("cannot be opened: {}", io::Error::from(other))),
    })?;
    let found = rustix::fs::fstat(&handle).map_err(|error| call("look at", path, error.into()))?;
    match FileType::from_raw_mode(found.st_mode) {
        FileType::Directory => Ok((handle, false)),
        FileType::RegularFile => Ok((handle, true)),
        FileType::Symlink => Err(refused("is a symbolic link: `realpath` tells its true name")),
        FileType::BlockDevice | FileType::CharacterDevice => {
            Err(refused("is a device: that is `--devnodes`"))
        }
        FileType::Fifo | FileType::Socket | FileType::Unknown => {
            Err(refused("is neither a directory nor a file"))
        }
    }
}

fn call(what: &'static str, path: &Path, source: io::Error) -> AttachmentError {
    AttachmentError::Call { what, path: path.to_owned(), source }
}
