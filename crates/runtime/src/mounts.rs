//! Generations as mounts: one superblock a generation, ever, and every view a clone of it.
//!
//! ```text
//! /run/vz/                       a mount point of its own, shared: what is unmounted here is unmounted in every namespace that has a copy
//!     <uuid>/generations/<n>     the generation, its layers mapped to the container's ids; `/`, `/old`, `prlctl mount` are clones of it
//!     <uuid>/host/<n>            the generation with plain owners, for `prlctl mount` of a stopped container; never both at once
//!     <uuid>/layers/{lower,upper}  the mapped layers, attached for the instant in which the overlay is made
//! ```
//!
//! A second overlay on a delta in use shows stale files, and unmounting it breaks the first. So nothing here is ever unmounted lazily: what is
//! busy stays mounted, and the next start uses that same superblock. The one exception is [`read_view`], an overlay without an upper layer,
//! which writes nothing and has nothing to flush: it may exist beside a superblock that is not being written.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use linux::{MountAttributes, Propagation, set_mount_attributes, user_namespace, with_filesystem_ids};
use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags, ResolveFlags, StatxAttributes, StatxFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, FsPickFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, UnmountFlags,
};
use store::{ContainerId, GenerationNumber, IdRange, Prefix};

/// How a new generation is mounted; it stands in its `generation.json`, and it is always mounted that way.
///
/// `redirect_dir=on` lets a directory of the template be renamed in the container as on any disk; `index` and `metacopy` would tie a delta to
/// the inodes of its template, `xino` to the width of inode numbers.
pub const MOUNT_OPTIONS: [&str; 4] = ["index=off", "metacopy=off", "redirect_dir=on", "xino=off"];

/// What can go wrong with a mount.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// A system call said no.
    #[error("cannot {what} {}", path.display())]
    Call {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A process of the host is in it.
    #[error("{} is in use by a process of the host", path.display())]
    Busy {
        /// The mount point.
        path: PathBuf,
    },
    /// The filesystem below cannot be an overlay's upper layer.
    #[error("the filesystem of {} ({file_system}) cannot carry an overlay's upper layer or idmapped mounts", path.display())]
    FileSystem {
        /// The generation.
        path: PathBuf,
        /// `overlay`, `tmpfs`, …
        file_system: String,
        /// What the kernel said.
        source: io::Error,
    },
}

fn call(what: &'static str, path: &Path) -> impl FnOnce(rustix::io::Errno) -> MountError {
    let path = path.to_owned();
    move |error| MountError::Call { what, path, source: error.into() }
}

fn io_call(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> MountError {
    let path = path.to_owned();
    move |source| MountError::Call { what, path, source }
}

/// What a generation is made of.
#[derive(Debug, Clone)]
pub struct Layers {
    /// `…/generations/<n>`, with `delta/` and `work/` (and an empty `lower/` when there is no template).
    pub generation: PathBuf,
    /// The template's root, or `None` for a root that is all in its delta.
    pub template: Option<PathBuf>,
    /// From `generation.json`.
    pub options: Vec<String>,
}

impl Layers {
    fn lower(&self) -> PathBuf {
        self.template.clone().unwrap_or_else(|| self.generation.join("lower"))
    }
}

/// Where generation `number` is mounted with the container's ids.
pub fn generation_point(prefix: &Prefix, id: &ContainerId, number: GenerationNumber) -> PathBuf {
    prefix.run_dir_of(id).join("generations").join(number.to_string())
}

/// Where generation `number` is mounted with plain owners.
pub fn host_point(prefix: &Prefix, id: &ContainerId, number: GenerationNumber) -> PathBuf {
    prefix.run_dir_of(id).join("host").join(number.to_string())
}

/// Something is mounted at `path`.
pub fn is_mounted(path: &Path) -> bool {
    rustix::fs::statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT, StatxFlags::empty())
        .is_ok_and(|found| found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

/// The device number of the superblock at `path`, as mountinfo writes it (`0:57`).
///
/// # Errors
/// As in statx(2).
pub fn superblock(path: &Path) -> Result<String, MountError> {
    let found = rustix::fs::statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::empty())
        .map_err(call("look at", path))?;
    Ok(format!("{}:{}", found.stx_dev_major, found.stx_dev_minor))
}

/// Makes `/run/vz` a shared mount point of its own; cheap when it is one.
///
/// # Errors
/// [`MountError::Call`].
pub fn ensure_run_mount(prefix: &Prefix) -> Result<(), MountError> {
    let path = prefix.run_dir();
    if is_mounted(&path) {
        return Ok(());
    }
    // Two at once would put one bind over the other, and what the first had mounted below would be hidden.
    let lock = rustix::fs::open(&path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(call("open", &path))?;
    rustix::fs::flock(&lock, FlockOperation::LockExclusive).map_err(call("lock", &path))?;
    if is_mounted(&path) {
        return Ok(());
    }
    // A bind of what is shared, as all is on a host with systemd, would be of one group with it: each root would be mounted once more, hidden
    // below. So it leaves that group while it is still attached nowhere.
    let own = clone_mount(&path)?;
    let attributes = MountAttributes { propagation: Some(Propagation::Shared), ..MountAttributes::default() };
    set_mount_attributes(&own, &attributes).map_err(io_call("share", &path))?;
    rustix::mount::move_mount(&own, "", CWD, &path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .map_err(call("mount at", &path))
}

/// Mounts a generation with its layers mapped to `ids` at [`generation_point`], unless it is mounted there already.
///
/// # Errors
/// [`MountError`]; nothing stays mounted.
pub fn mount_generation(
    prefix: &Prefix,
    id: &ContainerId,
    number: GenerationNumber,
    layers: &Layers,
    ids: IdRange,
) -> Result<PathBuf, MountError> {
    let point = generation_point(prefix, id, number);
    if is_mounted(&point) {
        return Ok(point);
    }
    ensure_run_mount(prefix)?;
    make_directory(&point)?;
    sweep_layers(prefix, id);
    let scratch = prefix.run_dir_of(id).join("layers");
    let namespace =
        user_namespace(ids.first, ids.count).map_err(io_call("map ids for", &layers.generation))?;
    let lower = Layer::attach(&layers.lower(), &scratch.join("lower"), &namespace)?;
    let upper = Layer::attach(&layers.generation, &scratch.join("upper"), &namespace)?;
    // The overlay makes its work directory with the credentials of this thread: ids that the layers map.
    let made = with_filesystem_ids(ids.first, || {
        overlay(&layers.generation, lower.handle.as_fd(), Some(upper.handle.as_fd()), &layers.options)
    })
    .map_err(io_call("change ids for", &layers.generation))??;
    attach(made.as_fd(), &point)?;
    Ok(point)
}

/// Takes away the mapped layers that a command has left which was killed while it mounted a generation.
pub fn sweep_layers(prefix: &Prefix, id: &ContainerId) {
    for layer in ["lower", "upper"] {
        let point = prefix.run_dir_of(id).join("layers").join(layer);
        // Several, one over the other, if several commands were killed.
        while is_mounted(&point)
            && rustix::mount::unmount(&point, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW).is_ok()
        {}
    }
}

/// Mounts a generation with plain owners at [`host_point`].
///
/// # Errors
/// [`MountError`]; nothing stays mounted.
pub fn mount_for_host(
    prefix: &Prefix,
    id: &ContainerId,
    number: GenerationNumber,
    layers: &Layers,
) -> Result<PathBuf, MountError> {
    let point = host_point(prefix, id, number);
    if is_mounted(&point) {
        return Ok(point);
    }
    ensure_run_mount(prefix)?;
    make_directory(&point)?;
    attach(detached_for_host(layers)?.as_fd(), &point)?;
    Ok(point)
}

/// Mounts a generation with plain owners, attached nowhere: it is unmounted with the handle. Nothing else of it may be mounted meanwhile.
///
/// # Errors
/// [`MountError`].
pub fn detached_for_host(layers: &Layers) -> Result<OwnedFd, MountError> {
    let lower = open_path(&layers.lower())?;
    let generation = open_path(&layers.generation)?;
    overlay(&layers.generation, lower.as_fd(), Some(generation.as_fd()), &layers.options)
}

/// A look at a generation with plain owners: read-only, attached nowhere, gone with the handle, and never flushing anything.
///
/// # Errors
/// [`MountError`].
pub fn read_view(layers: &Layers) -> Result<OwnedFd, MountError> {
    let delta = open_path(&layers.generation.join("delta"))?;
    match &layers.template {
        // An overlay wants two layers; a root that is all in its delta has just that one.
        None => {
            let clone = clone_mount(&layers.generation.join("delta"))?;
            let attributes = MountAttributes {
                set: MountAttributes::READ_ONLY | MountAttributes::NO_SUID | MountAttributes::NO_DEVICES,
                ..MountAttributes::default()
            };
            set_mount_attributes(&clone, &attributes)
                .map_err(io_call("make read-only", &layers.generation))?;
            Ok(clone)
        }
        Some(template) => {
            let lower = open_path(template)?;
            let filesystem = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)
                .map_err(call("open overlayfs for", &layers.generation))?;
            let lowers = format!("/proc/self/fd/{}:/proc/self/fd/{}", delta.as_raw_fd(), lower.as_raw_fd());
            for (key, value) in [("source", "reroot"), ("lowerdir", &lowers), ("redirect_dir", "follow")] {
                rustix::mount::fsconfig_set_string(&filesystem, key, value)
                    .map_err(call("set up a view of", &layers.generation))?;
            }
            rustix::mount::fsconfig_create(&filesystem).map_err(call("look into", &layers.generation))?;
            rustix::mount::fsmount(
                &filesystem,
                FsMountFlags::FSMOUNT_CLOEXEC,
                MountAttrFlags::MOUNT_ATTR_RDONLY
                    | MountAttrFlags::MOUNT_ATTR_NOSUID
                    | MountAttrFlags::MOUNT_ATTR_NODEV,
            )
            .map_err(call("look into", &layers.generation))
        }
    }
}

/// A clone of the mount at `path`, attached nowhere and in no peer group.
///
/// # Errors
/// [`MountError::Call`].
pub fn clone_mount(path: &Path) -> Result<OwnedFd, MountError> {
    let clone = rustix::mount::open_tree(
        CWD,
        path,
        OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_SYMLINK_NOFOLLOW,
    )
    .map_err(call("clone the mount at", path))?;
    let attributes =
        MountAttributes { propagation: Some(Propagation::Private), ..MountAttributes::default() };
    set_mount_attributes(&clone, &attributes).map_err(io_call("set apart the mount at", path))?;
    Ok(clone)
}

/// Attaches a detached mount at `point`.
///
/// # Errors
/// [`MountError::Call`].
pub fn attach(mount: BorrowedFd<'_>, point: &Path) -> Result<(), MountError> {
    rustix::mount::move_mount(mount, "", CWD, point, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .map_err(call("mount at", point))?;
    // Below a shared mount it has become shared itself; what is mounted *in* it is nobody else's.
    rustix::mount::mount_change(point, MountPropagationFlags::PRIVATE).map_err(call("set apart", point))
}

/// Forbids setuid programs and devices on a detached mount, and writing, when `is_read_only`.
///
/// # Errors
/// [`MountError::Call`].
pub fn restrict(mount: &OwnedFd, is_read_only: bool) -> Result<(), MountError> {
    let mut set = MountAttributes::NO_SUID | MountAttributes::NO_DEVICES;
    if is_read_only {
        set |= MountAttributes::READ_ONLY;
    }
    let attributes = MountAttributes { set, ..MountAttributes::default() };
    set_mount_attributes(mount, &attributes).map_err(io_call("restrict", Path::new("/old")))
}

/// Attaches a detached mount at `old` in the mounted root `above`; false when there is no plain directory.
///
/// One component, and a plain directory: no link is followed out of the root, whatever it is.
///
/// # Errors
/// [`MountError::Call`].
pub fn attach_at_old(mount: &OwnedFd, above: impl AsFd) -> Result<bool, MountError> {
    let target = match rustix::fs::openat2(
        above,
        "old",
        OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV,
    ) {
        Ok(target) => target,
        Err(_) => return Ok(false),
    };
    rustix::mount::move_mount(
        mount,
        "",
        &target,
        "",
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH,
    )
    .map_err(call("mount at", Path::new("/old")))?;
    Ok(true)
}

/// Makes the superblock at `point`, and with it every view of it, read-only or writable. What is dirty is written first.
///
/// # Errors
/// [`MountError::Busy`] when something has a file open for writing.
pub fn set_read_only(point: &Path, is_read_only: bool) -> Result<(), MountError> {
    if is_read_only {
        let handle =
            rustix::fs::open(point, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
                .map_err(call("open", point))?;
        rustix::fs::syncfs(&handle).map_err(call("write out", point))?;
    }
    let picked =
        rustix::mount::fspick(CWD, point, FsPickFlags::FSPICK_CLOEXEC | FsPickFlags::FSPICK_NO_AUTOMOUNT)
            .map_err(call("pick", point))?;
    rustix::mount::fsconfig_set_flag(&picked, if is_read_only { "ro" } else { "rw" })
        .map_err(call("set up", point))?;
    match rustix::mount::fsconfig_reconfigure(&picked) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::BUSY) => Err(MountError::Busy { path: point.to_owned() }),
        Err(error) => Err(call(if is_read_only { "make read-only" } else { "make writable" }, point)(error)),
    }
}

/// Unmounts what is at `point`; that nothing is there is no error. Flushes the filesystem: keep it off the critical path.
///
/// # Errors
/// [`MountError::Busy`] when a process of the host is in it.
pub fn unmount(point: &Path) -> Result<(), MountError> {
    match rustix::mount::unmount(point, UnmountFlags::NOFOLLOW) {
        Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => Ok(()),
        Err(rustix::io::Errno::BUSY) => Err(MountError::Busy { path: point.to_owned() }),
        Err(error) => Err(call("unmount", point)(error)),
    }
}

/// Every generation of the container that is mounted below `kind` (`generations` or `host`) of its run directory.
pub fn mounted(prefix: &Prefix, id: &ContainerId, kind: &str) -> Vec<PathBuf> {
    let directory = prefix.run_dir_of(id).join(kind);
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    entries.flatten().map(|entry| entry.path()).filter(|path| is_mounted(path)).collect()
}

struct Layer {
    handle: OwnedFd,
    point: PathBuf,
}

impl Layer {
    /// A mapped clone of `source`, attached at `point` while this lives: before Linux 6.15 overlayfs takes no detached mounts as layers.
    fn attach(source: &Path, point: &Path, namespace: &OwnedFd) -> Result<Layer, MountError> {
        make_directory(point)?;
        let handle = clone_mount(source)?;
        let attributes = MountAttributes { id_map: Some(namespace.as_fd()), ..MountAttributes::default() };
        set_mount_attributes(&handle, &attributes).map_err(|error| refused(source, error))?;
        attach(handle.as_fd(), point)?;
        Ok(Layer { handle, point: point.to_owned() })
    }
}

impl Drop for Layer {
    fn drop(&mut self) {
        // The overlay has clones of its own; nothing is dirty behind this one, so lazily is right, and it cannot fail.
        let _ = rustix::mount::unmount(&self.point, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW);
    }
}

fn overlay(
    generation: &Path,
    lower: BorrowedFd<'_>,
    upper: Option<BorrowedFd<'_>>,
    options: &[String],
) -> Result<OwnedFd, MountError> {
    let filesystem = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)
        .map_err(call("open overlayfs for", generation))?;
    // Through descriptors: a value given to fsconfig has 255 bytes, a path may have more, and colons.
    let mut values = vec![
        ("source".to_owned(), "reroot".to_owned()),
        ("lowerdir".to_owned(), format!("/proc/self/fd/{}", lower.as_raw_fd())),
    ];
    if let Some(upper) = upper {
        values.push(("upperdir".to_owned(), format!("/proc/self/fd/{}/delta", upper.as_raw_fd())));
        values.push(("workdir".to_owned(), format!("/proc/self/fd/{}/work", upper.as_raw_fd())));
    }
    for option in options {
        let (key, value) = option.split_once('=').unwrap_or((option, ""));
        values.push((key.to_owned(), value.to_owned()));
    }
    for (key, value) in &values {
        rustix::mount::fsconfig_set_string(&filesystem, key.as_str(), value.as_str())
            .map_err(call("set up the overlay of", generation))?;
    }
    rustix::mount::fsconfig_create(&filesystem).map_err(|error| refused(generation, error.into()))?;
    let made = rustix::mount::fsmount(
        &filesystem,
        FsMountFlags::FSMOUNT_CLOEXEC,
        // The host made this superblock: without `nodev` a device node in it would be live.
        MountAttrFlags::MOUNT_ATTR_NODEV,
    )
    .map_err(call("mount", generation))?;
    // Without a usable work directory overlayfs does not fail, it mounts read-only and says so in the kernel's log alone.
    let flags = rustix::fs::fstatvfs(&made).map_err(call("look at", generation))?.f_flag;
    if upper.is_some() && flags.contains(rustix::fs::StatVfsMountFlags::RDONLY) {
        return Err(refused(generation, io::Error::from(rustix::io::Errno::ROFS)));
    }
    Ok(made)
}

fn refused(path: &Path, source: io::Error) -> MountError {
    let call = |source| MountError::Call { what: "mount", path: path.to_owned(), source };
    let found = rustix::fs::statvfs(path).ok();
    match rustix::io::Errno::from_io_error(&source) {
        // overlayfs that cannot make its work directory, for whatever reason, would be read-only.
        Some(rustix::io::Errno::ROFS)
            if found
                .as_ref()
                .is_some_and(|found| found.f_bavail == 0 || found.f_files != 0 && found.f_ffree == 0) =>
        {
            call(rustix::io::Errno::NOSPC.into())
        }
        Some(rustix::io::Errno::ROFS)
            if found
                .as_ref()
                .is_some_and(|found| found.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY)) =>
        {
            call(source)
        }
        Some(rustix::io::Errno::INVAL | rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::ROFS) => {
            let file_system = store::file_system_of(path);
            MountError::FileSystem { path: path.to_owned(), file_system, source }
        }
        _ => call(source),
    }
}

fn open_path(path: &Path) -> Result<OwnedFd, MountError> {
    rustix::fs::open(
        path,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(call("open", path))
}

fn make_directory(path: &Path) -> Result<(), MountError> {
    std::fs::create_dir_all(path).map_err(io_call("make", path))
}
