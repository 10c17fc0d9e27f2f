//! A filesystem that can be frozen at any instant, as a power cut leaves it.
//!
//! ```text
//! store.img   on a tmpfs or the disk of the host, loop-mounted: an xfs, whose files can be cloned
//!   disk.img      loop-mounted: the filesystem under test, with the host on it
//!   cut-<n>.img   disk.img cloned (FICLONE) at an instant: what was flushed, or written of its own accord; loop-mounted elsewhere
//! ```
//!
//! What the filesystem under test still holds in memory is not in a clone: it is lost, as in a power cut. Its own journal is replayed when the
//! clone is mounted.

use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::mount::UnmountFlags;

/// Processes that were killed may still be on their way out of a filesystem.
const LEAVING: Duration = Duration::from_secs(10);
const BETWEEN_TRIES: Duration = Duration::from_millis(5);

/// A kind of filesystem and how it is mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileSystem {
    /// For people and the ledger.
    pub name: &'static str,
    kind: &'static str,
    make: &'static [&'static str],
    options: &'static str,
    /// What its clone needs beside, since both have the same UUID.
    of_a_clone: &'static str,
}

/// Those that a host may have under `/vz`.
pub static FILE_SYSTEMS: &[FileSystem] = &[
    FileSystem { name: "ext4", kind: "ext4", make: &["-q", "-F"], options: "data=ordered", of_a_clone: "" },
    FileSystem {
        name: "ext4-writeback",
        kind: "ext4",
        make: &["-q", "-F"],
        options: "data=writeback",
        of_a_clone: "",
    },
    // Without the heuristics that hide a missing fsync: see auto_da_alloc in ext4(5).
    FileSystem {
        name: "ext4-bare",
        kind: "ext4",
        make: &["-q", "-F"],
        options: "noauto_da_alloc,commit=300",
        of_a_clone: "",
    },
    FileSystem { name: "xfs", kind: "xfs", make: &["-q", "-f"], options: "", of_a_clone: "nouuid" },
    // Linux 6.7 and newer give a clone an id of its own for as long as it is mounted.
    FileSystem { name: "btrfs", kind: "btrfs", make: &["-q", "-f"], options: "commit=300", of_a_clone: "" },
];

/// The filesystem of that name.
pub fn file_system(name: &str) -> Option<&'static FileSystem> {
    FILE_SYSTEMS.iter().find(|one| one.name == name)
}

/// Something mounted, until it is dropped.
#[derive(Debug)]
struct Mounted(PathBuf);

impl Mounted {
    fn new(image: &Path, point: &Path, options: &str) -> io::Result<Mounted> {
        std::fs::create_dir_all(point)?;
        let options = format!("loop,{options}");
        succeed(Command::new("mount").args(["-o", options.trim_end_matches(',')]).arg(image).arg(point))?;
        Ok(Mounted(point.to_owned()))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let deadline = Instant::now() + LEAVING;
        while rustix::mount::unmount(&self.0, UnmountFlags::empty()).is_err() {
            if Instant::now() >= deadline {
                let _ = rustix::mount::unmount(&self.0, UnmountFlags::DETACH);
                break;
            }
            std::thread::park_timeout(BETWEEN_TRIES);
        }
        let _ = std::fs::remove_dir(&self.0);
    }
}

/// See the module.
#[derive(Debug)]
pub struct Disk {
    file_system: &'static FileSystem,
    // In this order: the inner one is unmounted first.
    mounted: Option<Mounted>,
    store: Option<Mounted>,
    directory: PathBuf,
    cuts: u64,
}

impl Disk {
    /// A new one in `directory`, which is made.
    ///
    /// # Errors
    /// When a tool is missing, or nothing can be mounted here.
    pub fn new(file_system: &'static FileSystem, directory: &Path) -> io::Result<Disk> {
        std::fs::create_dir_all(directory)?;
        let mut disk =
            Disk { file_system, mounted: None, store: None, directory: directory.to_owned(), cuts: 0 };
        let store = directory.join("store.img");
        succeed(Command::new("truncate").args(["-s", "6G"]).arg(&store))?;
        succeed(Command::new("mkfs.xfs").args(["-q", "-f", "-m", "reflink=1"]).arg(&store))?;
        disk.store = Some(Mounted::new(&store, &directory.join("store"), "")?);
        let image = disk.image();
        succeed(Command::new("truncate").args(["-s", "512M"]).arg(&image))?;
        succeed(Command::new(format!("mkfs.{}", file_system.kind)).args(file_system.make).arg(&image))?;
        disk.mounted = Some(Mounted::new(&image, &disk.point(), file_system.options)?);
        Ok(disk)
    }

    /// What it is called in the ledger.
    pub fn name(&self) -> &'static str {
        self.file_system.name
    }

    /// Where it is mounted.
    pub fn point(&self) -> PathBuf {
        self.directory.join("disk")
    }

    fn image(&self) -> PathBuf {
        self.directory.join("store/disk.img")
    }

    /// Freezes it as it is now.
    ///
    /// # Errors
    /// As of `FICLONE` in ioctl_ficlonerange(2).
    pub fn cut(&mut self) -> io::Result<Cut> {
        self.cuts += 1;
        let image = self.directory.join(format!("store/cut-{}.img", self.cuts));
        let clone = File::create_new(&image)?;
        rustix::fs::ioctl_ficlone(&clone, File::open(self.image())?)?;
        let point = self.directory.join(format!("cut-{}", self.cuts));
        Ok(Cut { file_system: self.file_system, image, point, mounted: None })
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.mounted = None;
        self.store = None;
        let _ = std::fs::remove_file(self.directory.join("store.img"));
        let _ = std::fs::remove_dir(&self.directory);
    }
}

/// What a power cut at one instant leaves; gone when it is dropped.
#[derive(Debug)]
pub struct Cut {
    file_system: &'static FileSystem,
    image: PathBuf,
    point: PathBuf,
    mounted: Option<Mounted>,
}

impl Cut {
    /// Mounts it, as the boot after the cut would.
    ///
    /// # Errors
    /// When the filesystem cannot be mounted any more.
    pub fn mount(&mut self) -> io::Result<&Path> {
        let options = format!("{},{}", self.file_system.options, self.file_system.of_a_clone);
        self.mounted = Some(Mounted::new(&self.image, &self.point, options.trim_matches(','))?);
        Ok(&self.point)
    }
}

impl Drop for Cut {
    fn drop(&mut self) {
        self.mounted = None;
        let _ = std::fs::remove_file(&self.image);
    }
}

fn succeed(command: &mut Command) -> io::Result<()> {
    // Not in our process group, which ^C ends.
    let output = command.process_group(0).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim())))
}
