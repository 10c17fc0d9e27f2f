//! Disks of a container beside that of its root, and what of the host it sees no more: `prlctl set` and `vzctl set`.

use clap::Args;

/// What they are called in the help.
const DEVICES: &str = "Disks and bind mounts";

/// What the others take; clap does not ask for what an option requires where that is excluded.
const OF_ONE_THAT_CHANGES: [&str; 8] =
    ["size", "mnt", "mnt_opts", "image", "enable", "disable", "detach_only", "destroy_image"];

/// What becomes of them. What cannot be is refused by `engine::attachments` and `engine::disks`.
#[derive(Debug, Default, Clone, Args)]
pub struct Devices {
    /// One more disk, as large as --size, at --mnt
    #[arg(long, value_name = "hdd", group = "device", help_heading = DEVICES)]
    pub device_add: Option<String>,
    /// Another size, another place or other options for a disk, hdd1 or its UUID
    #[arg(long, value_name = "DISK", group = "device", help_heading = DEVICES)]
    pub device_set: Option<String>,
    /// Mount a disk again that was disconnected: --device-set DISK --enable
    #[arg(long, value_name = "DISK", group = "device", conflicts_with_all = OF_ONE_THAT_CHANGES, help_heading = DEVICES)]
    pub device_connect: Option<String>,
    /// Do not mount a disk, which stays as it is: --device-set DISK --disable
    #[arg(long, value_name = "DISK", group = "device", conflicts_with_all = OF_ONE_THAT_CHANGES, help_heading = DEVICES)]
    pub device_disconnect: Option<String>,
    /// A disk that it has no more; what is on it stays in a file, unless --destroy-image
    #[arg(long, value_name = "DISK", group = "device", help_heading = DEVICES)]
    pub device_del: Option<String>,
    /// Of a disk: MiB, or with K, M, G, T
    #[arg(long, allow_hyphen_values = true, value_name = "SIZE", requires = "device", help_heading = DEVICES)]
    pub size: Option<String>,
    /// Where the disk is in the container
    #[arg(long, value_name = "PATH", requires = "device", help_heading = DEVICES)]
    pub mnt: Option<String>,
    /// What the disk forbids: ro, nosuid, noexec, noatime, between commas; '' for nothing
    #[arg(long, value_name = "OPTIONS", requires = "device", help_heading = DEVICES)]
    pub mnt_opts: Option<String>,
    /// A disk that was detached: hdd1.img
    #[arg(long, value_name = "FILE", requires = "device_add", help_heading = DEVICES)]
    pub image: Option<String>,
    /// Mount the disk again
    #[arg(long, requires = "device_set", help_heading = DEVICES)]
    pub enable: bool,
    /// Do not mount the disk
    #[arg(long, requires = "device_set", conflicts_with = "enable", help_heading = DEVICES)]
    pub disable: bool,
    /// Accepted: what is on the disk stays in its file
    #[arg(long, requires = "device_del", help_heading = DEVICES)]
    pub detach_only: bool,
    /// Delete what is on the disk
    #[arg(long, requires = "device_del", conflicts_with = "detach_only", help_heading = DEVICES)]
    pub destroy_image: bool,
    /// What of the host it sees no more, by where it is in the container, or all; may be repeated
    #[arg(long = "bindmount_del", alias = "bindmount-del", value_name = "PATH|all", help_heading = DEVICES)]
    pub bindmount_del: Vec<String>,
}

/// One of a container that is being made.
#[derive(Debug, Default, Clone, Args)]
pub struct NewDisk {
    /// A disk beside that of its root, as large as --size, at --mnt
    #[arg(long, value_name = "hdd", requires_all = ["size", "mnt"], help_heading = DEVICES)]
    pub device_add: Option<String>,
    /// Of a disk: MiB, or with K, M, G, T
    #[arg(long, allow_hyphen_values = true, value_name = "SIZE", requires = "device_add", help_heading = DEVICES)]
    pub size: Option<String>,
    /// Where the disk is in the container
    #[arg(long, value_name = "PATH", requires = "device_add", help_heading = DEVICES)]
    pub mnt: Option<String>,
    /// What the disk forbids: ro, nosuid, noexec, noatime, between commas; '' for nothing
    #[arg(long, value_name = "OPTIONS", requires = "device_add", help_heading = DEVICES)]
    pub mnt_opts: Option<String>,
}

impl From<&NewDisk> for Devices {
    fn from(disk: &NewDisk) -> Devices {
        let NewDisk { device_add, size, mnt, mnt_opts } = disk.clone();
        Devices { device_add, size, mnt, mnt_opts, ..Devices::default() }
    }
}

impl Devices {
    /// Nothing is said of any.
    pub fn is_empty(&self) -> bool {
        let Devices {
            device_add,
            device_set,
            device_connect,
            device_disconnect,
            device_del,
            bindmount_del,
            ..
        } = self;
        // The others belong to one of these.
        [device_add, device_set, device_connect, device_disconnect, device_del]
            .into_iter()
            .all(Option::is_none)
            && bindmount_del.is_empty()
    }
}
