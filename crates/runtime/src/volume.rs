//! A filesystem of a container's own, in a sparse file: made, mounted, and made larger or smaller.
//!
//! ```text
//! /vz/private/<uuid>/volume.img     an ext4, as large as the container's disk may become, and taking what is in it
//!     loop device                   direct, so that nothing is held in memory twice; nobody's again with the last mount
//! /run/vz/<uuid>/volume             where it is mounted; its layers are cloned from there as any others
//!
//! /vz/private/<uuid>/hdd1.img       a disk beside it, of which the container sees what is in `data/`; made, checked, mounted and resized by the same code
//! /run/vz/<uuid>/disks/hdd1         where that is mounted
//! ```
//!
//! What a container deletes is given back to the host's disk (`discard`, which a loop device makes a hole of). A file that is behind a loop device already is
//! mounted by that device: the kernel then has one filesystem of it, however often it is mounted. Two devices with one file would destroy it.
//!
//! Nothing here is done to a file that somebody has mounted but what a mounted ext4 allows, which is to grow. Anything else takes tools that a power cut must not
//! meet half way, so that is done to a copy.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use linux::{Exit, attach_whole, find_loop, is_loop_of};
use rustix::fs::{CWD, FlockOperation, MemfdFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};
use store::atomic::TEMPORARY;
use store::volume::{mount_point, mount_point_of};
use store::{ContainerId, DiskNumber, Prefix};

use crate::mounts::{MountError, attach, ensure_run_mount, is_mounted, mounted, unmount};

/// What an ext4 needs for itself beside anything worth keeping.
pub const SMALLEST: u64 = 32 << 20;
/// What mke2fs and the kernel take.
pub const LARGEST: u64 = 16 << 40;
/// Blocks of the filesystem, whatever its size: it may grow.
const BLOCK: u64 = 4096;
/// Bytes of disk for each inode where nobody has said how many: as OpenVZ has it.
const BYTES_PER_INODE: u64 = 16_384;
/// Kept back for the host's root, so that a full container can be given a new root.
const RESERVE: u64 = 16 << 20;
/// For a new root, and for overlayfs, which makes a directory at every mount with no privilege to take what is kept for the host's root.
const RESERVED_INODES: u32 = 96;
/// What a tool has to say of more than this is not read.
const LONGEST: u64 = 16_384;
/// For tools that look at everything.
const LOOKING: Duration = Duration::from_secs(3600);
/// For tools that have little to do.
const MAKING: Duration = Duration::from_secs(600);
const KILLING: Duration = Duration::from_secs(30);
/// How long a device may take to be nobody's: what is dirty is written first.
const LEAVING: Duration = Duration::from_secs(60);
const BETWEEN_LOOKS: Duration = Duration::from_millis(2);
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What can go wrong with a volume.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// A tool is not installed.
    #[error("there is no `{program}` on this host: `apt-get install {package}`")]
    NoTool {
        /// Its name.
        program: &'static str,
        /// What it is in.
        package: &'static str,
    },
    /// A tool has failed.
    #[error("`{program}` has failed: {said}")]
    Tool {
        /// Its name.
        program: &'static str,
        /// What it has said last.
        said: String,
    },
    /// The filesystem is damaged, and its tool does not dare to correct it by itself.
    #[error("its filesystem is damaged: {said}")]
    Damaged {
        /// What the tool has said.
        said: String,
    },
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
    /// What makes a block device of a file is not there, or there is none left.
    #[error("there is no loop device for {}", path.display())]
    NoLoopDevice {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// It cannot be mounted, or not unmounted.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// What is in it needs more.
    #[error("what is in it needs more room than that: {said}")]
    TooSmall {
        /// What the tool has said.
        said: String,
    },
}

fn call(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> VolumeError {
    let path = path.to_owned();
    move |source| VolumeError::Call { what, path, source }
}

/// How many inodes an ext4 of that size gets: so many as are said, as far as it can have them, or as are usual.
pub fn inodes(size: u64, said: Option<u64>) -> u64 {
    said.unwrap_or(size / BYTES_PER_INODE).clamp(64, size / BLOCK)
}

/// Makes a file with an empty ext4 in it, durably. `size` in bytes; `inodes`, or as many as are usual.
///
/// # Errors
/// [`VolumeError`], with a file that is nobody's left behind.
pub fn make(image: &Path, size: u64, inodes: Option<u64>) -> Result<(), VolumeError> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::open(image, flags, Mode::RUSR | Mode::WUSR)
        .map(File::from)
        .map_err(|error| call("make", image)(error.into()))?;
    let size = size / BLOCK * BLOCK;
    file.set_len(size).map_err(call("make room in", image))?;
    let inodes = self::inodes(size, inodes);
    // Whole permille are as exact as it takes. No root is made on a disk beside.
    let permille =
        if DiskNumber::of_image(image).is_some() { 0 } else { (RESERVE * 1000 / size).clamp(1, 50) };
    let (inodes, reserve) = (inodes.to_string(), format!("{}.{}", permille / 10, permille % 10));
    // Tables of inodes need not be written: what was never written of a sparse file is zero.
    let arguments = ["-q", "-F", "-b", "4096", "-I", "256", "-N", &inodes, "-m", &reserve];
    let lazily = ["-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard,root_owner=0:0"];
    let words = arguments.into_iter().chain(lazily).map(OsStr::new).chain([image.as_os_str()]);
    run("mkfs.ext4", "e2fsprogs", words, MAKING)?.success("mkfs.ext4")?;
    file.sync_all().map_err(call("write out", image))
}

/// Mounts a container's volume where its layers are looked for, or a disk beside it, unless it is.
///
/// # Errors
/// [`VolumeError::Damaged`], and the rest.
pub fn mount(prefix: &Prefix, id: &ContainerId, image: &Path) -> Result<PathBuf, VolumeError> {
    let point = mount_point_of(prefix, id, image);
    if is_mounted(&point) && is_of(&point, image)? {
        return Ok(point);
    }
    ensure_run_mount(prefix)?;
    std::fs::create_dir_all(&point).map_err(call("make", &point))?;
    // Two at once would check it while it is mounted, and whoever makes it anew must not be met half way.
    let _lock = lock(&prefix.run_dir_of(id))?;
    // Another may be mounted there, of a move that a death has ended: what is then written to it would be written to nobody's file.
    while is_mounted(&point) {
        if is_of(&point, image)? {
            return Ok(point);
        }
        unmount(&point)?;
    }
    let file = open_image(image)?;
    let found = file.metadata().map_err(call("look at", image))?;
    let used = find_loop(found.dev(), found.ino()).map_err(call("look for the device of", image))?;
    let device = match used {
        Some(device) => device,
        None => {
            check(image)?;
            attach_whole(&file).map_err(|source| unattached(image, source))?
        }
    };
    let failed = |error: rustix::io::Errno| call("mount", image)(error.into());
    let filesystem = rustix::mount::fsopen("ext4", FsOpenFlags::FSOPEN_CLOEXEC).map_err(failed)?;
    rustix::mount::fsconfig_set_string(&filesystem, "source", device.path()).map_err(failed)?;
    // What is wrong with it stays as it is, until somebody has looked at it.
    rustix::mount::fsconfig_set_string(&filesystem, "errors", "remount-ro").map_err(failed)?;
    for option in ["discard", "noinit_itable"] {
        rustix::mount::fsconfig_set_flag(&filesystem, option).map_err(failed)?;
    }
    rustix::mount::fsconfig_create(&filesystem).map_err(failed)?;
    let kept_out = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    let made =
        rustix::mount::fsmount(&filesystem, FsMountFlags::FSMOUNT_CLOEXEC, kept_out).map_err(failed)?;
    // A death while it grew has left it smaller than its file. Where it is not, this does nothing; where it may not be done, it is as it was.
    // A mount that was made is a path only, and the kernel takes such a call of an open directory.
    let _ =
        rustix::fs::openat(&made, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map(|top| linux::resize_ext4(top, found.size() / BLOCK));
    attach(made.as_fd(), &point)?;
    if point == mount_point(prefix, id) {
        keep_reserve(prefix, id);
    }
    Ok(point)
}

/// That there is no device left, or none at all, is something that can be done about; anything else is what it is.
fn unattached(image: &Path, source: io::Error) -> VolumeError {
    // No control, or no node for the number that it gave; a module without a driver behind it; all taken, or all numbers.
    let is_none = [Errno::NOENT, Errno::NODEV, Errno::NXIO, Errno::NOTTY, Errno::BUSY, Errno::NOSPC]
        .iter()
        .any(|errno| source.raw_os_error() == Some(errno.raw_os_error()));
    match is_none {
        true => VolumeError::NoLoopDevice { path: image.to_owned(), source },
        false => call("attach a loop device to", image)(source),
    }
}

/// What is mounted at `point` is the filesystem in this file, and not in one that had its name before.
fn is_of(point: &Path, image: &Path) -> Result<bool, VolumeError> {
    let mounted = rustix::fs::stat(point).map_err(|error| call("look at", point)(error.into()))?.st_dev;
    let found = match std::fs::symlink_metadata(image) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(call("look at", image)(error)),
    };
    is_loop_of(mounted, found.dev(), found.ino()).map_err(call("look at the device of", image))
}

/// Keeps back in a mounted volume what a start on a full one takes, should somebody have released it. Best effort: one that is so full has none.
pub fn keep_reserve(prefix: &Prefix, id: &ContainerId) {
    if let Ok(top) = open_directory(&mount_point(prefix, id)) {
        let _ = store::reserve::keep_in(top.as_fd(), RESERVED_INODES);
    }
}

/// Gives that to whoever writes next.
///
/// # Errors
/// [`VolumeError::Call`].
pub fn release_reserve(prefix: &Prefix, id: &ContainerId) -> Result<(), VolumeError> {
    let point = mount_point(prefix, id);
    let top = open_directory(&point).map_err(call("open", &point))?;
    store::reserve::release_in(top.as_fd(), RESERVED_INODES)
        .map_err(|error| call("make room in", &point)(error.into()))
}

/// Unmounts it; not mounted is fine. What is mounted of its layers goes on.
///
/// # Errors
/// [`MountError::Busy`] when somebody has something of it open.
pub fn unmount_volume(prefix: &Prefix, id: &ContainerId) -> Result<(), MountError> {
    unmount(&mount_point(prefix, id))
}

/// Unmounts what is mounted of the disks beside it; what of them somebody has open stays.
pub fn unmount_disks(prefix: &Prefix, id: &ContainerId) {
    for point in mounted(prefix, id, "disks") {
        let _ = unmount(&point);
    }
}

/// Unmounts the volume and the disks, and has their files be files again: whoever copies one while it is a device has half of one moment and half of another.
///
/// # Errors
/// [`MountError::Busy`] when somebody has something in one of them open.
pub fn put_away(prefix: &Prefix, id: &ContainerId, images: &[PathBuf]) -> Result<(), VolumeError> {
    for point in mounted(prefix, id, "disks") {
        unmount(&point)?;
    }
    unmount_volume(prefix, id)?;
    for image in images {
        if let Ok(found) = std::fs::symlink_metadata(image) {
            wait_until_free(image, &found)?;
        }
    }
    Ok(())
}

/// The same of one that is deleted with all that is in it: whoever has something of it open goes on with what is nobody's any more.
pub fn let_go(prefix: &Prefix, id: &ContainerId) {
    let point = mount_point(prefix, id);
    if is_mounted(&point) {
        detach(&point);
    }
}

/// The same of its disks beside that.
pub fn let_disks_go(prefix: &Prefix, id: &ContainerId) {
    mounted(prefix, id, "disks").iter().for_each(|point| detach(point));
}

fn detach(point: &Path) {
    let flags = rustix::mount::UnmountFlags::DETACH | rustix::mount::UnmountFlags::NOFOLLOW;
    let _ = rustix::mount::unmount(point, flags);
}

/// Makes a mounted volume larger, at once. `size` in bytes.
///
/// # Errors
/// [`VolumeError`]; it is as large as before.
pub fn grow(prefix: &Prefix, id: &ContainerId, image: &Path, size: u64) -> Result<(), VolumeError> {
    let point = mount_point_of(prefix, id, image);
    let size = size / BLOCK * BLOCK;
    let file = open_image(image)?;
    let before = file.metadata().map_err(call("look at", image))?;
    let device = find_loop(before.dev(), before.ino())
        .map_err(call("look for the device of", image))?
        .ok_or_else(|| call("grow", image)(io::Error::other("it is not mounted")))?;
    let mut has_begun = false;
    let grown = (|| {
        let top = open_directory(&point)?;
        // A death while it grew has left a device, or only a filesystem, that is smaller than its file.
        device.follow_size()?;
        // Whether that may be done at all is asked before the file is another: who may not is told so of the size that it has.
        linux::resize_ext4(&top, before.size() / BLOCK)?;
        // A death from here on leaves a filesystem in a file that is too large for it: the next mount makes it as large.
        if before.size() < size {
            file.set_len(size)?;
            file.sync_all()?;
        }
        device.follow_size()?;
        has_begun = true;
        linux::resize_ext4(top, size / BLOCK)
    })();
    grown.map_err(|source| {
        // A file that is too large for its filesystem harms nobody, and one that is too small loses it: it is cut only where the kernel has not even begun.
        if !has_begun && before.size() < size {
            let _ = file.set_len(before.size()).and_then(|()| device.follow_size());
        }
        call("grow", image)(source)
    })
}

/// Makes a volume smaller, or larger, that is mounted nowhere: in a copy, which then takes its place with one rename. `size` in bytes.
///
/// # Errors
/// [`VolumeError::TooSmall`], [`MountError::Busy`], and the rest; it is as large as before.
pub fn remake(prefix: &Prefix, id: &ContainerId, image: &Path, size: u64) -> Result<(), VolumeError> {
    // Until the copy has its name nobody mounts the one that it is made of.
    let _lock = lock(&prefix.run_dir_of(id))?;
    unmount(&mount_point_of(prefix, id, image))?;
    let file = open_image(image)?;
    let found = file.metadata().map_err(call("look at", image))?;
    wait_until_free(image, &found)?;
    let size = size / BLOCK * BLOCK;
    // One that a death leaves is swept by its name.
    let copy = image.with_file_name(format!("{TEMPORARY}resized"));
    let _ = rustix::fs::unlink(&copy);
    let made = (|| {
        check(image)?;
        let from = OsStr::new("--");
        let how = ["--reflink=auto", "--sparse=always"].map(OsStr::new);
        let words = how.into_iter().chain([from, image.as_os_str(), copy.as_os_str()]);
        run("cp", "coreutils", words, LOOKING)?.success("cp")?;
        let whole = ["-f", "-p"].map(OsStr::new).into_iter().chain([copy.as_os_str()]);
        run("e2fsck", "e2fsprogs", whole, LOOKING)?.checked()?;
        let copied = open_image(&copy)?;
        if found.size() < size {
            copied.set_len(size).map_err(call("make room in", &copy))?;
        }
        let blocks = format!("{}", size / BLOCK);
        let resized = run("resize2fs", "e2fsprogs", [copy.as_os_str(), OsStr::new(&blocks)], LOOKING)?;
        match resized.exit {
            Some(Exit::Code(0)) => {}
            _ if found.size() > size => return Err(VolumeError::TooSmall { said: resized.said }),
            _ => return Err(VolumeError::Tool { program: "resize2fs", said: resized.said }),
        }
        copied.set_len(size).map_err(call("cut off", &copy))?;
        // Whole and durable before it has the name.
        copied.sync_all().map_err(call("write out", &copy))?;
        let exchange = || rustix::fs::renameat_with(CWD, &copy, CWD, image, RenameFlags::EXCHANGE);
        exchange().map_err(|error| call("put in its place", &copy)(error.into()))?;
        let parent = image.parent().unwrap_or(Path::new("/"));
        open_directory(parent)
            .and_then(|parent| rustix::fs::fsync(parent).map_err(io::Error::from))
            // The one before is there still.
            .inspect_err(|_| {
                if !linux::mutated!("remade-stands") {
                    let _ = exchange();
                }
            })
            .map_err(call("write out", parent))
    })();
    // The copy, or what it was made of.
    let _ = rustix::fs::unlink(&copy);
    made
}

/// Its device goes with its last mount, and nobody tells when: some kernels do that a moment later.
fn wait_until_free(image: &Path, found: &std::fs::Metadata) -> Result<(), VolumeError> {
    let deadline = Instant::now() + LEAVING;
    while find_loop(found.dev(), found.ino()).map_err(call("look for the device of", image))?.is_some() {
        if Instant::now() >= deadline {
            return Err(MountError::Busy { path: image.to_owned() }.into());
        }
        std::thread::park_timeout(BETWEEN_LOOKS);
    }
    Ok(())
}

/// Gives back what of a mounted volume is free; returns how many bytes were told to be.
///
/// # Errors
/// [`VolumeError::Call`].
pub fn compact(prefix: &Prefix, id: &ContainerId, image: &Path) -> Result<u64, VolumeError> {
    let point = mount_point_of(prefix, id, image);
    let top = open_directory(&point).map_err(call("open", &point))?;
    // What was deleted a moment ago is free once that is written down.
    rustix::fs::syncfs(&top).map_err(|error| call("write out", &point)(error.into()))?;
    linux::trim(top).map_err(call("compact", &point))
}

/// Less free space than this, bytes, and a journal may not be written back.
const LEAST_FREE: u64 = 1 << 20;

/// Has what a power cut has left corrected, where that can be done without a question.
fn check(image: &Path) -> Result<(), VolumeError> {
    let words = [OsStr::new("-p"), image.as_os_str()];
    let checked = run("e2fsck", "e2fsprogs", words, LOOKING)?.checked();
    // What a power cut has left cannot be put right where nothing can be written: that is no damage, and whoever corrected it by hand would make some.
    let is_full = || {
        let host = image.parent().and_then(|parent| rustix::fs::statvfs(parent).ok());
        host.is_some_and(|host| host.f_bavail.saturating_mul(host.f_frsize) < LEAST_FREE)
    };
    match checked {
        Err(VolumeError::Damaged { .. }) if is_full() => {
            Err(call("check, on a host's disk that is full,", image)(Errno::NOSPC.into()))
        }
        checked => checked,
    }
}

fn open_image(image: &Path) -> Result<File, VolumeError> {
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(image, flags, Mode::empty())
        .map(File::from)
        .map_err(|error| call("open", image)(error.into()))
}

fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

fn lock(directory: &Path) -> Result<OwnedFd, VolumeError> {
    let handle = open_directory(directory).map_err(call("open", directory))?;
    let deadline = Instant::now() + LEAVING;
    loop {
        match rustix::fs::flock(&handle, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(handle),
            Err(rustix::io::Errno::AGAIN) if Instant::now() < deadline => {
                std::thread::park_timeout(BETWEEN_LOOKS);
            }
            Err(rustix::io::Errno::AGAIN) => {
                return Err(MountError::Busy { path: directory.to_owned() }.into());
            }
            Err(error) => return Err(call("lock", directory)(error.into())),
        }
    }
}

/// How a tool has ended; `None`: it had to be.
struct Ran {
    exit: Option<Exit>,
    said: String,
}

impl Ran {
    fn success(self, program: &'static str) -> Result<(), VolumeError> {
        match self.exit {
            Some(Exit::Code(0)) => Ok(()),
            _ => Err(VolumeError::Tool { program, said: self.said }),
        }
    }

    /// e2fsck(8): 0 is whole, 1 is corrected, and with 2 that is so, too.
    fn checked(self) -> Result<(), VolumeError> {
        match self.exit {
            Some(Exit::Code(0..=2)) => Ok(()),
            Some(Exit::Code(_)) => Err(VolumeError::Damaged { said: self.said }),
            Some(Exit::Signal(_)) | None => Err(VolumeError::Tool { program: "e2fsck", said: self.said }),
        }
    }
}

/// Runs a tool of the host to its end, and not for longer than `limit`.
fn run<'a>(
    program: &'static str,
    package: &'static str,
    words: impl IntoIterator<Item = &'a OsStr>,
    limit: Duration,
) -> Result<Ran, VolumeError> {
    let failed = |source: io::Error| {
        if source.kind() == io::ErrorKind::NotFound {
            VolumeError::NoTool { program, package }
        } else {
            VolumeError::Tool { program, said: source.to_string() }
        }
    };
    // Not a pipe, which somebody would have to read meanwhile.
    let mut output = rustix::fs::memfd_create("said", MemfdFlags::CLOEXEC)
        .map(File::from)
        .map_err(|error| failed(error.into()))?;
    let child = {
        let (written, both) = (output.try_clone().map_err(failed)?, output.try_clone().map_err(failed)?);
        let mut command = Command::new(program);
        command
            .args(words)
            .current_dir("/")
            .env_clear()
            .env("PATH", PATH)
            .stdin(Stdio::null())
            .stdout(Stdio::from(written))
            .stderr(Stdio::from(both));
        linux::spawn(&mut command).map_err(failed)?
    };
    let exit = child.wait_for(limit, None).map_err(failed)?;
    if exit.is_none() {
        let _ = child.end(KILLING);
    }
    let mut said = Vec::new();
    let from_end = output.metadata().map_or(0, |found| found.size().min(LONGEST)) as i64;
    let _ = output.seek(SeekFrom::End(-from_end)).and_then(|_| output.take(LONGEST).read_to_end(&mut said));
    let text = String::from_utf8_lossy(&said);
    let last = text.lines().rev().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('('));
    let said = match (exit, last) {
        (None, _) => format!("it had not ended after {} s", limit.as_secs()),
        (_, Some(line)) => tree::escaped(line.as_bytes()).to_string(),
        (Some(_), None) => "it does not say why".to_owned(),
    };
    Ok(Ran { exit, said })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_where_there_is_no_device_it_is_said_that_there_is_none() {
        let told = |errno: Errno| unattached(Path::new("/vz/volume.img"), errno.into()).to_string();
        for errno in [Errno::NOENT, Errno::NODEV, Errno::NXIO, Errno::NOTTY, Errno::BUSY, Errno::NOSPC] {
            assert_eq!(told(errno), "there is no loop device for /vz/volume.img", "{errno}");
        }
        for errno in [Errno::PERM, Errno::ACCESS, Errno::IO, Errno::INVAL, Errno::NOMEM, Errno::MFILE] {
            assert_eq!(told(errno), "cannot attach a loop device to /vz/volume.img", "{errno}");
        }
    }
}
