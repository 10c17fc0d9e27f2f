//! A filesystem that somebody else has made, in a copy that is ours: checked, mounted read-only, attached nowhere.
//!
//! The copy is a file without a name, its device detaches itself, and its mount is a descriptor: however this process ends, nothing of them stays.
//!
//! The kernel reads a filesystem as its friend wrote it. So a program goes over it first, which mends or refuses what makes no sense and replays its
//! journal; it can write to nothing but the device, and read nothing else but programs and what they are linked with (Landlock). What is then mounted
//! cannot ask for a panic: how errors are dealt with is said here, and not by the filesystem. A hole in the kernel's own reading remains one: see
//! SECURITY.md.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use linux::{LoopDevice, attach_loop};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, Mode, OFlags};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::confined::{ConfinedError, Reach, confined};

/// A check of some terabytes takes minutes.
const LONGEST_CHECK: Duration = Duration::from_secs(4 * 3600);
/// So often somebody is asked whether to go on.
const BETWEEN_LOOKS: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
/// Where programs of the system are, and what they need of it.
const OF_PROGRAMS: [&str; 7] = ["/usr", "/lib", "/lib64", "/bin", "/sbin", "/etc/ld.so.cache", "/dev/null"];
const CHECKERS: [&str; 2] = ["/usr/sbin/e2fsck", "/sbin/e2fsck"];
/// Bits of e2fsck's exit code, e2fsck(8): mended; mended, and whoever has it mounted had better boot.
const MENDED: i32 = 1 | 2;

/// Why there is no filesystem to be looked at.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    #[error("`e2fsck` is not there")]
    NoChecker,
    #[error("`e2fsck` did not end within {} hours, and was killed", LONGEST_CHECK.as_secs() / 3600)]
    TooLong,
    #[error("it was interrupted")]
    Interrupted,
    #[error("`e2fsck` ended with {status}{}", in_lines(.said))]
    Refused {
        status: ExitStatus,
        /// Its last lines.
        said: Vec<String>,
    },
    #[error("cannot {what}")]
    System { what: &'static str, source: io::Error },
    #[error(transparent)]
    Confined(#[from] ConfinedError),
}

fn in_lines(lines: &[String]) -> String {
    lines.iter().map(|line| format!("\n{line}")).collect()
}

fn system(what: &'static str) -> impl Fn(io::Error) -> DiskError {
    move |source| DiskError::System { what, source }
}

/// A filesystem that can be read.
#[derive(Debug)]
pub struct MountedCopy {
    /// Its top.
    pub mount: OwnedFd,
    /// It was not as it should have been, and was mended; or its journal was replayed.
    pub was_mended: bool,
    /// Whoever is asked about an error in the kernel's log looks for that name.
    _device: LoopDevice,
}

/// A file for a copy, without a name, on the filesystem of `directory`.
///
/// # Errors
/// As in open(2).
pub fn nameless(directory: &Path) -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
    Ok(rustix::fs::open(directory, flags, Mode::RUSR | Mode::WUSR)?.into())
}

/// Checks and mounts the filesystem in `length` bytes of a copy from `offset` on; `kind`, as the kernel calls it, is `ext4` or `xfs`. `goes_on` is asked now and then.
///
/// # Errors
/// [`DiskError`].
pub fn mount(
    copy: &File,
    (offset, length): (u64, u64),
    kind: &str,
    goes_on: &mut dyn FnMut() -> bool,
) -> Result<MountedCopy, DiskError> {
    // Whole sectors: what is behind the last one holds nothing.
    let device =
        attach_loop(copy, offset, length / 512 * 512).map_err(system("make a device of the copy"))?;
    let was_mended = kind == "ext4" && check(&device, goes_on)?;
    let call = |error: rustix::io::Errno| io::Error::from(error);
    let filesystem = rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)
        .map_err(|error| system("read such a filesystem with this kernel")(error.into()))?;
    let configure = || -> io::Result<()> {
        rustix::mount::fsconfig_set_string(&filesystem, "source", device.path()).map_err(call)?;
        rustix::mount::fsconfig_set_flag(&filesystem, "ro").map_err(call)?;
        if kind == "ext4" {
            // A superblock may ask for a panic.
            rustix::mount::fsconfig_set_string(&filesystem, "errors", "remount-ro").map_err(call)?;
        } else {
            // It may have the UUID of one that is mounted: a copy of it, say.
            rustix::mount::fsconfig_set_flag(&filesystem, "nouuid").map_err(call)?;
        }
        rustix::mount::fsconfig_create(&filesystem).map_err(call)
    };
    configure().map_err(system("mount the copy"))?;
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC
        | MountAttrFlags::MOUNT_ATTR_NOATIME;
    let mount = rustix::mount::fsmount(&filesystem, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
        .map_err(|error| system("mount the copy")(error.into()))?;
    Ok(MountedCopy { mount, was_mended, _device: device })
}

/// Has e2fsck go over an ext2, ext3 or ext4; whether there was something to mend.
fn check(device: &LoopDevice, goes_on: &mut dyn FnMut() -> bool) -> Result<bool, DiskError> {
    let Some(program) = CHECKERS.iter().find(|program| Path::new(program).exists()) else {
        return Err(DiskError::NoChecker);
    };
    let hold = |path: &str| rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok();
    let programs: Vec<OwnedFd> = OF_PROGRAMS.iter().filter_map(|path| hold(path)).collect();
    let path: PathBuf = device.path().to_owned();
    let held = rustix::fs::open(&path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .map_err(|error| system("open the device of the copy")(error.into()))?;
    let reach =
        Reach { reads: programs.iter().map(AsFd::as_fd).collect(), writes: vec![held.as_fd()], ids: None };
    let memory = || -> io::Result<File> {
        Ok(rustix::fs::memfd_create("e2fsck", MemfdFlags::CLOEXEC).map_err(io::Error::from)?.into())
    };
    let output = memory().map_err(system("keep what e2fsck says"))?;
    let handed = output.try_clone().and_then(|one| Ok((one, output.try_clone()?)));
    let (out, error) = handed.map_err(system("keep what e2fsck says"))?;
    // What a thread has given up, its children never had.
    let child = confined(&reach, || {
        Command::new(program)
            .args(["-f", "-y"])
            .arg(&path)
            .env_clear()
            .env("LC_ALL", "C")
            .current_dir("/usr")
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(error)
            .spawn()
    })?;
    let child = Guard(child.map_err(system("run e2fsck"))?);
    let status = child.wait(goes_on)?;
    match status.code() {
        Some(code) if code & !MENDED == 0 => Ok(code != 0),
        Some(_) | None => Err(DiskError::Refused { status, said: last_lines(output) }),
    }
}

/// A process that does not outlive its use.
struct Guard(Child);

impl Guard {
    fn wait(mut self, goes_on: &mut dyn FnMut() -> bool) -> Result<ExitStatus, DiskError> {
        let deadline = Instant::now() + LONGEST_CHECK;
        let pidfd = pidfd_open(Pid::from_child(&self.0), PidfdFlags::empty())
            .map_err(|error| system("wait for e2fsck")(error.into()))?;
        loop {
            let ended = poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&BETWEEN_LOOKS));
            if matches!(ended, Ok(1..)) {
                return self.0.wait().map_err(system("wait for e2fsck"));
            }
            if !goes_on() {
                return Err(DiskError::Interrupted);
            }
            if Instant::now() >= deadline {
                return Err(DiskError::TooLong);
            }
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
}

fn last_lines(mut output: File) -> Vec<String> {
    const MOST: u64 = 64 * 1024;
    let mut bytes = Vec::new();
    let length = output.metadata().map_or(0, |metadata| metadata.len());
    let read = output
        .seek(io::SeekFrom::Start(length.saturating_sub(MOST)))
        .and_then(|_| output.take(MOST).read_to_end(&mut bytes));
    if read.is_err() {
        return Vec::new();
    }
    let lines: Vec<String> =
        bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(tree::escaped).collect();
    lines[lines.len().saturating_sub(5)..].to_vec()
}
