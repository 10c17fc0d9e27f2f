//! A place that every root has, and what somebody has put there.

use std::fs::File;
use std::os::unix::fs::{FileTypeExt, symlink};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode};

use super::Canary;

/// Where something of ours looks, or writes, or mounts: by the names of their tests.
pub const PLACES: &[(&str, &str)] = &[
    ("root_old", "/old"),
    ("root_etc", "/etc"),
    ("root_passwd", "/etc/passwd"),
    ("root_shadow", "/etc/shadow"),
    ("root_group", "/etc/group"),
    ("root_hosts", "/etc/hosts"),
    ("root_hostname", "/etc/hostname"),
    ("root_resolv_conf", "/etc/resolv.conf"),
    ("root_machine_id", "/etc/machine-id"),
    ("root_proc", "/proc"),
    ("root_dev", "/dev"),
    ("root_dev_null", "/dev/null"),
    ("root_dev_console", "/dev/console"),
    ("root_init", "/sbin/init"),
    ("root_sbin", "/sbin"),
    ("root_run", "/run"),
    ("root_tmp", "/tmp"),
    ("root_home", "/home"),
    ("root_ssh", "/root/.ssh"),
];

/// What is there instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disguise {
    /// A symlink to a file of the host, by its path.
    LinkToFile,
    /// A symlink to a directory of the host, by its path.
    LinkToDirectory,
    /// A symlink to a directory of the host, up and up and down again.
    RelativeLink,
    /// A symlink to `/`, which is not the host's.
    LinkToTop,
    /// A symlink to itself.
    Loop,
    /// A FIFO that nobody writes to.
    Fifo,
    /// A socket that nobody listens on.
    Socket,
    /// `/dev/zero`, which never ends. No container can make one: a template's maker can.
    Device,
    /// A regular file where a directory belongs, and the other way round.
    OtherKind,
    /// A file of 1 TB without anything in it.
    Huge,
}

/// Every one, by the names of their tests.
pub const DISGUISES: &[(&str, Disguise)] = &[
    ("is_a_link_to_a_file_of_the_host", Disguise::LinkToFile),
    ("is_a_link_to_a_directory_of_the_host", Disguise::LinkToDirectory),
    ("is_a_relative_link_out", Disguise::RelativeLink),
    ("is_a_link_to_the_top", Disguise::LinkToTop),
    ("is_a_loop", Disguise::Loop),
    ("is_a_fifo", Disguise::Fifo),
    ("is_a_socket", Disguise::Socket),
    ("is_a_device", Disguise::Device),
    ("is_of_another_kind", Disguise::OtherKind),
    ("is_huge", Disguise::Huge),
];

impl Disguise {
    /// The path by which a program that thinks of no harm is led to a file of the host.
    pub fn way_out(self, place: &str, canary: &Canary) -> String {
        match self {
            Disguise::LinkToDirectory | Disguise::RelativeLink => format!("{place}/file"),
            Disguise::LinkToTop => format!("{place}{}", canary.file().display()),
            Disguise::LinkToFile
            | Disguise::Loop
            | Disguise::Fifo
            | Disguise::Socket
            | Disguise::Device
            | Disguise::OtherKind
            | Disguise::Huge => place.to_owned(),
        }
    }

    /// Puts it at `place` of a root whose files lie at `root` on the host, where nobody else is.
    pub fn plant(self, root: &Path, place: &str, canary: &Canary) {
        let path = root.join(place.trim_start_matches('/'));
        let was_directory = path.symlink_metadata().is_ok_and(|found| found.is_dir());
        std::fs::create_dir_all(path.parent().expect("it is below a root")).expect("make the way to it");
        if path.symlink_metadata().is_ok() {
            let mut aside = path.clone().into_os_string();
            aside.push(".was");
            rustix::fs::rename(&path, aside).expect("move aside what was there");
        }
        let node = |kind: FileType, device: u64| {
            rustix::fs::mknodat(CWD, &path, kind, Mode::from_raw_mode(0o666), device).expect("make a node");
        };
        match self {
            Disguise::LinkToFile => symlink(canary.file(), &path).expect("make a link"),
            Disguise::LinkToDirectory => symlink(canary.directory(), &path).expect("make a link"),
            Disguise::RelativeLink => {
                let below = canary.directory();
                let below = below.strip_prefix("/").expect("it is absolute");
                symlink(Path::new(&"../".repeat(40)).join(below), &path).expect("make a link");
            }
            Disguise::LinkToTop => symlink("/", &path).expect("make a link"),
            Disguise::Loop => symlink(path.file_name().expect("it has a name"), &path).expect("make a link"),
            Disguise::Fifo => node(FileType::Fifo, 0),
            Disguise::Socket => node(FileType::Socket, 0),
            Disguise::Device => node(FileType::CharacterDevice, rustix::fs::makedev(1, 5)),
            Disguise::OtherKind if was_directory => drop(File::create(&path).expect("make a file")),
            Disguise::OtherKind => std::fs::create_dir(&path).expect("make a directory"),
            Disguise::Huge => {
                File::create(&path).expect("make a file").set_len(1 << 40).expect("make it large");
            }
        }
        let found = path.symlink_metadata().expect("it is there now");
        assert!(self != Disguise::Device || found.file_type().is_char_device());
    }
}
