//! Devices that a container has beside those that every container has.
//!
//! In a user namespace nobody makes a node that is alive, so the monitor makes them, on a small filesystem of its own, and they are bound into `/dev`. Their rights
//! are those of the file: a node that is only to be read belongs to an id that the container has not, so that its root, whose power over files ends there, has
//! what the group has. With cgroup v1 the group of devices says the same once more.

use std::io;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Uid, makedev};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags};
use store::{DeviceNode, IdRange};

/// A device, as a monitor is told of it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Device {
    /// Below `/dev`.
    pub name: String,
    /// It is one of blocks.
    pub is_block: bool,
    /// The number of its kind.
    pub major: u32,
    /// Its own.
    pub minor: u32,
    /// It may be read.
    pub reads: bool,
    /// It may be written.
    pub writes: bool,
    /// By every user of the container, and not by its root alone.
    #[serde(default)]
    pub is_everybodys: bool,
}

/// Nodes that features bring, with their numbers: Documentation/admin-guide/devices.txt.
pub const OF_FEATURES: [(&str, u32, u32); 3] = [("fuse", 10, 229), ("net/tun", 10, 200), ("ppp", 108, 0)];
/// By whatever name: who has one of these has the host. Of misc devices nvram, watchdog, btrfs-control, autofs, mapper/control, loop-control, snapshot.
const NEVER: [(u32, Option<u32>); 15] = [
    (1, None),
    // The host's own screens, disks past their filesystems (sg, raw), its keyboard (uinput, uhid).
    (7, None),
    (21, None),
    (162, None),
    (10, Some(223)),
    (10, Some(239)),
    (202, None),
    (203, None),
    (10, Some(130)),
    (10, Some(144)),
    (10, Some(231)),
    (10, Some(234)),
    (10, Some(235)),
    (10, Some(236)),
    (10, Some(237)),
];

const LOOP: u32 = 7;

fn is_bound(minor: u32) -> bool {
    Path::new(&format!("/sys/dev/block/{LOOP}:{minor}/loop/backing_file")).exists()
}

/// A device of characters by which a disk takes commands, whoever has it mounted. Their numbers are not always the same.
fn is_way_to_a_disk(major: u32, minor: u32) -> bool {
    let subsystem = std::fs::read_link(format!("/sys/dev/char/{major}:{minor}/subsystem"));
    let is_one = |path: &Path| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        ["bsg", "nvme", "nvme-generic", "nvme-subsystem", "scsi_generic", "raw"].contains(&name)
    };
    subsystem.is_ok_and(|path| is_one(&path))
}

/// Why a container cannot have a device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("/dev/{name} {because}")]
pub struct DeviceError {
    /// Which.
    pub name: String,
    /// Why.
    pub because: String,
}

impl Device {
    /// What of the host is meant.
    ///
    /// # Errors
    /// [`DeviceError`]: it is not there, a link leads to it, it is no device, the host itself uses it, or is it.
    pub fn of_host(node: &DeviceNode) -> Result<Device, DeviceError> {
        let refused = |because: &str| DeviceError { name: node.name.clone(), because: because.to_owned() };
        let directory =
            rustix::fs::open("/dev", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
                .map_err(|error| refused(&io::Error::from(error).to_string()))?;
        let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let handle =
            rustix::fs::openat2(&directory, &node.name, flags, Mode::empty(), how).map_err(|error| {
                match error {
                    Errno::NOENT | Errno::NOTDIR => refused("is not there"),
                    Errno::LOOP => refused("is reached by a symbolic link: `realpath` tells its true name"),
                    other => refused(&io::Error::from(other).to_string()),
                }
            })?;
        let found =
            rustix::fs::fstat(&handle).map_err(|error| refused(&io::Error::from(error).to_string()))?;
        let is_block = match FileType::from_raw_mode(found.st_mode) {
            FileType::BlockDevice => true,
            FileType::CharacterDevice => false,
            FileType::Symlink => return Err(refused("is a symbolic link: `realpath` tells its true name")),
            FileType::Directory
            | FileType::RegularFile
            | FileType::Fifo
            | FileType::Socket
            | FileType::Unknown => {
                return Err(refused("is no device"));
            }
        };
        let (major, minor) = (rustix::fs::major(found.st_rdev), rustix::fs::minor(found.st_rdev));
        let is_host =
            NEVER.iter().any(|(one, other)| *one == major && other.is_none_or(|other| other == minor));
        // Consoles of the host; from 64 on they are serial lines.
        let is_console = major == 4 && minor < 64;
        if !is_block && (is_host || is_console || is_way_to_a_disk(major, minor)) {
            return Err(refused("is the host itself: memory, its clock, all of its disks"));
        }
        if is_block && major == LOOP && !is_bound(minor) {
            return Err(refused("is a loop device without a file: the next disk of a container may get it"));
        }
        if is_block {
            // Two that write to one filesystem destroy it, and who reads the host's has all that is on it.
            let flags = OFlags::RDONLY | OFlags::EXCL | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let opened =
                rustix::fs::open(format!("/proc/self/fd/{}", handle.as_raw_fd()), flags, Mode::empty());
            match opened {
                Ok(_) => {}
                Err(Errno::BUSY) => {
                    return Err(refused(
                        "is in use by the host: it, or a part of it, is mounted there, or belongs to something that is",
                    ));
                }
                Err(other) => {
                    let because = format!("cannot be opened by the host: {}", io::Error::from(other));
                    return Err(refused(&because));
                }
            }
        }
        Ok(Device {
            name: node.name.clone(),
            is_block,
            major,
            minor,
            reads: node.reads,
            writes: node.writes,
            is_everybodys: false,
        })
    }

    /// The node that a feature brings.
    ///
    /// # Errors
    /// [`DeviceError`] when this host has it not.
    pub fn of_feature(name: &str) -> Result<Device, DeviceError> {
        let node = DeviceNode { name: name.to_owned(), reads: true, writes: true };
        let found = Device::of_host(&node)?;
        if !OF_FEATURES.contains(&(name, found.major, found.minor)) {
            return Err(DeviceError { name: node.name, because: "is another device".to_owned() });
        }
        Ok(Device { is_everybodys: true, ..found })
    }

    /// As the group of devices says it.
    pub fn access(&self) -> &'static str {
        match (self.reads, self.writes) {
            (true, true) => "rw",
            (true, false) => "r",
            (false, true) => "w",
            (false, false) => "",
        }
    }
}

/// Makes the nodes, each called by its place in the list, in a filesystem of their own at `directory`.
///
/// # Errors
/// As the kernel says.
pub fn make_nodes(directory: &Path, ids: IdRange, devices: &[Device]) -> io::Result<()> {
    if devices.is_empty() {
        return Ok(());
    }
    std::fs::create_dir_all(directory)?;
    let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
    rustix::mount::mount("reroot", directory, "tmpfs", flags, Some(c"mode=711,size=64k"))?;
    rustix::mount::mount_change(directory, MountPropagationFlags::PRIVATE)?;
    for (index, device) in devices.iter().enumerate() {
        let path = node(directory, index);
        let kind = if device.is_block { FileType::BlockDevice } else { FileType::CharacterDevice };
        rustix::fs::mknodat(CWD, &path, kind, Mode::empty(), makedev(device.major, device.minor))?;
        let own = ids.first;
        let (owner, mode) = match (device.is_everybodys, device.reads, device.writes) {
            (true, ..) => (own, 0o666),
            (false, true, true) => (own, 0o660),
            (false, true, false) => (0, 0o040),
            (false, false, true) => (0, 0o020),
            (false, false, false) => (0, 0),
        };
        rustix::fs::chown(&path, Some(Uid::from_raw(owner)), Some(Gid::from_raw(own)))?;
        rustix::fs::chmod(&path, Mode::from_raw_mode(mode))?;
    }
    Ok(())
}

/// Where the node of a device is.
pub fn node(directory: &Path, index: usize) -> PathBuf {
    directory.join(index.to_string())
}
