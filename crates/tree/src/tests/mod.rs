//! The crate against the real kernel: hostile trees in temporary directories of their own.
//!
//! Tests named `root_*` need root (owners, devices, `chattr`, mounts); without it each says so and passes.

mod copy;
mod delta;
mod delta_model;
mod digest;
mod duplicate;
mod hostile;
mod layered;
mod remove;
mod written;

use crate::Root;
use rustix::fs::{self, FileType, IFlags, Mode, OFlags};
use rustix::mount::{MountFlags, UnmountFlags};
use std::ffi::CStr;
use std::io::Write as _;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A directory with a tree in it and, beside it, what belongs to the "host".
pub(super) struct Scene {
    directory: TempDir,
}

impl Scene {
    pub fn new() -> Scene {
        let scene = Scene { directory: tempfile::tempdir().unwrap() };
        std::fs::create_dir(scene.top()).unwrap();
        scene.file_outside("secret", "the host's own");
        scene
    }

    pub fn top(&self) -> PathBuf {
        self.directory.path().join("top")
    }

    pub fn at(&self, path: &str) -> PathBuf {
        self.top().join(path)
    }

    pub fn outside(&self, path: &str) -> PathBuf {
        self.directory.path().join(path)
    }

    pub fn file_outside(&self, path: &str, text: &str) {
        write(&self.outside(path), text.as_bytes());
    }

    pub fn root(&self) -> Root {
        Root::open(&self.top()).unwrap()
    }

    pub fn handle(&self) -> OwnedFd {
        self.root().handle().try_clone_to_owned().unwrap()
    }

    pub fn directory(&self, path: &str) -> &Scene {
        std::fs::create_dir_all(self.at(path)).unwrap();
        self
    }

    pub fn file(&self, path: &str, text: &str) -> &Scene {
        if let Some(parent) = self.at(path).parent() {
            std::fs::create_dir_all(parent).unwrap();
        }
        write(&self.at(path), text.as_bytes());
        self
    }

    pub fn symlink(&self, target: impl AsRef<Path>, path: &str) -> &Scene {
        std::os::unix::fs::symlink(target, self.at(path)).unwrap();
        self
    }

    pub fn fifo(&self, path: &str) -> &Scene {
        fs::mknodat(fs::CWD, self.at(path), FileType::Fifo, Mode::from_raw_mode(0o666), 0).unwrap();
        self
    }

    pub fn device(&self, path: &str, file_type: FileType, major: u32, minor: u32) -> &Scene {
        let device = fs::makedev(major, minor);
        fs::mknodat(fs::CWD, self.at(path), file_type, Mode::from_raw_mode(0o600), device).unwrap();
        self
    }

    pub fn attribute(&self, path: &str, name: &str, value: &[u8]) -> &Scene {
        fs::lsetxattr(self.at(path), name, value, fs::XattrFlags::empty()).unwrap();
        self
    }

    pub fn mode(&self, path: &str, mode: u32) -> &Scene {
        fs::chmod(self.at(path), Mode::from_raw_mode(mode)).unwrap();
        self
    }

    /// `false`: this filesystem has no such flags.
    pub fn flag(&self, path: &str, flag: IFlags) -> bool {
        let file = fs::open(self.at(path), OFlags::RDONLY, Mode::empty()).unwrap();
        let Ok(flags) = fs::ioctl_getflags(&file) else {
            return skip("inode flags", "set TMPDIR to a directory on ext4, xfs or btrfs");
        };
        fs::ioctl_setflags(&file, flags | flag).is_ok()
            || skip("inode flags", "set TMPDIR to a directory on ext4, xfs or btrfs")
    }

    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(self.top())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        // The tests' own trees are too deep and too immutable for TempDir.
        if let Ok(all) = fs::open(self.directory.path(), OFlags::PATH, Mode::empty()) {
            let _ = crate::empty_directory(all.as_fd());
        }
    }
}

pub(super) fn write(path: &Path, bytes: &[u8]) {
    std::fs::File::create(path).unwrap().write_all(bytes).unwrap();
}

pub(super) fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

/// Directories one below the other, each of the same name, made by handle.
pub(super) fn deep(top: &OwnedFd, name: &CStr, depth: usize) -> OwnedFd {
    let mut here = top.try_clone().unwrap();
    for _ in 0..depth {
        fs::mkdirat(&here, name, Mode::RWXU).unwrap();
        here = fs::openat(&here, name, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
    }
    here
}

/// Something mounted, until it is dropped.
pub(super) struct Mounted(PathBuf);

impl Mounted {
    pub fn tmpfs(at: PathBuf) -> Option<Mounted> {
        let mounted = rustix::mount::mount("none", &at, "tmpfs", MountFlags::empty(), c"size=1m");
        Mounted::checked(at, mounted)
    }

    pub fn bind(from: &Path, at: PathBuf) -> Option<Mounted> {
        let mounted = rustix::mount::mount_bind(from, &at);
        Mounted::checked(at, mounted)
    }

    pub fn overlay(lower: &Path, upper: &Path, work: &Path, at: PathBuf) -> Option<Mounted> {
        Mounted::overlay_with(lower, upper, work, at, "")
    }

    /// Each with a `work` of its own: to unmount it does not flush the whole filesystem, which takes its time.
    pub fn overlay_unsynced(lower: &Path, upper: &Path, work: &Path, at: PathBuf) -> Option<Mounted> {
        Mounted::overlay_with(lower, upper, work, at, ",volatile")
    }

    fn overlay_with(lower: &Path, upper: &Path, work: &Path, at: PathBuf, more: &str) -> Option<Mounted> {
        // As generations are mounted.
        let options = format!(
            "lowerdir={},upperdir={},workdir={},index=off,metacopy=off,redirect_dir=on,xino=off{more}",
            lower.display(),
            upper.display(),
            work.display()
        );
        let options = std::ffi::CString::new(options).unwrap();
        let mounted =
            rustix::mount::mount("overlay", &at, "overlay", MountFlags::empty(), options.as_c_str());
        Mounted::checked(at, mounted)
    }

    fn checked(at: PathBuf, mounted: rustix::io::Result<()>) -> Option<Mounted> {
        match mounted {
            Ok(()) => Some(Mounted(at)),
            Err(error) => {
                skip(&format!("mounts ({error})"), "run it with CAP_SYS_ADMIN, TMPDIR not on an overlay");
                None
            }
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.0, UnmountFlags::DETACH);
    }
}

/// Whether this test can do what only root can, attributes that are overlayfs's own included.
pub(super) fn is_root() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let capabilities = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap().trim();
    let capabilities = u64::from_str_radix(capabilities, 16).unwrap();
    const SYS_ADMIN: u64 = 1 << 21;
    rustix::process::geteuid().is_root() && capabilities & SYS_ADMIN != 0
        || skip("root with CAP_SYS_ADMIN", "sudo -E cargo test -p tree")
}

fn skip(needs: &str, command: &str) -> bool {
    testkit::real_host::unit_test_not_run_here(&format!("it needs {needs}: {command}"));
    false
}

/// Whoever opens a FIFO hangs; this makes it a failure instead.
pub(super) fn within(limit: Duration, what: impl FnOnce() + Send + 'static) {
    let started = Instant::now();
    let thread = std::thread::spawn(what);
    while !thread.is_finished() {
        assert!(started.elapsed() < limit, "it hangs");
        std::thread::park_timeout(Duration::from_millis(2));
    }
    thread.join().unwrap();
}
