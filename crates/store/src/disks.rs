//! `DISK` of a `ve.conf`: the disks that a container has beside the one of its root, as Virtuozzo writes them.
//!
//! ```text
//! uuid={…},size=N,enabled=yes,mnt=/data,mnt_opts=noexec,image=hdd1.img;…      N in blocks of 1 KiB
//!
//! /vz/private/<uuid>/hdd1.img       an ext4: .volume says whose it is, data/ is what the container sees
//! ```
//!
//! A file that is called so and that no entry names is detached, and stays until somebody says what becomes of it: it may be all there is of somebody's data.
//! Entries with other images, Virtuozzo's own, are kept as they are; one that had to be mounted keeps the container from being started.

use std::fmt;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use uuid::Uuid;

use crate::area::{Area, AreaError, AreaRecord};
use crate::atomic::{self, TEMPORARY};
use crate::conf::Conf;
use crate::identity::ContainerId;
use crate::inner_path::{InnerPath, MountFlags};
use crate::prefix::Prefix;
use crate::trash;

/// The key.
pub const KEY: &str = "DISK";
/// More are none.
pub const MOST: u32 = 15;
/// In `area.json`.
pub(crate) const FEATURE: &str = "disks";
const MARK: &str = ".volume";
/// What of a disk the container sees.
pub const DATA: &str = "data";

/// Which of a container's disks: `hdd1` and so on. `hdd0` is that of its root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DiskNumber(u32);

impl DiskNumber {
    /// Of a device's name.
    pub fn named(text: &str) -> Option<Self> {
        let digits = text.strip_prefix("hdd").filter(|digits| !digits.starts_with('0'))?;
        let number = digits.parse().ok()?;
        (digits.bytes().all(|byte| byte.is_ascii_digit()) && (1..=MOST).contains(&number))
            .then_some(Self(number))
    }

    /// All there may be.
    pub fn all() -> impl Iterator<Item = Self> {
        (1..=MOST).map(Self)
    }

    /// Of an image, also of one that is being made.
    pub fn of_image(image: &Path) -> Option<Self> {
        let name = image.file_name()?.to_str()?;
        Self::named(name.strip_prefix(TEMPORARY).or_else(|| name.strip_suffix(".img"))?)
    }

    /// Its file, in the private area.
    pub fn image(self) -> String {
        format!("{self}.img")
    }

    fn staged(self) -> String {
        format!("{TEMPORARY}{self}")
    }
}

impl fmt::Display for DiskNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "hdd{}", self.0)
    }
}

/// One disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    pub number: DiskNumber,
    /// What the file has to say that it is.
    pub uuid: Uuid,
    /// As it was last made, bytes; what counts is how large the file is.
    pub size: u64,
    /// Mounted when the container starts.
    pub is_enabled: bool,
    /// Where in the container.
    pub at: InnerPath,
    pub flags: MountFlags,
    /// What else stands there.
    others: Vec<String>,
}

impl Disk {
    /// A new one.
    pub fn new(number: DiskNumber, uuid: Uuid, size: u64, at: InnerPath, flags: MountFlags) -> Self {
        Self { number, uuid, size, is_enabled: true, at, flags, others: Vec::new() }
    }

    fn read(text: &str) -> Result<Self, &'static str> {
        let (mut number, mut uuid, mut at, mut size) = (None, None, None, 0);
        let (mut is_enabled, mut flags, mut others) = (true, MountFlags::default(), Vec::new());
        for pair in text.split(',').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            match key {
                "image" => number = value.strip_suffix(".img").and_then(DiskNumber::named),
                "uuid" => uuid = Some(value.parse().map_err(|_| "`uuid={…}`")?),
                "mnt" => at = Some(value.parse::<InnerPath>()?),
                "size" => {
                    let blocks: u64 = value.parse().map_err(|_| "`size=` in blocks of 1 KiB")?;
                    size = blocks.checked_mul(1024).ok_or("`size=` in blocks of 1 KiB")?;
                }
                "enabled" => match value {
                    "yes" | "no" => is_enabled = value == "yes",
                    _ => return Err("`enabled=yes` or `enabled=no`"),
                },
                "mnt_opts" => flags = MountFlags::read(value, &['|'])?,
                _ => others.push(pair.to_owned()),
            }
        }
        let (Some(number), Some(uuid), Some(at)) = (number, uuid, at) else {
            return Err("`uuid={…}`, `mnt=/where` and `image=hdd1.img`");
        };
        Ok(Self { number, uuid, size, is_enabled, at, flags, others })
    }
}

impl fmt::Display for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let enabled = if self.is_enabled { "yes" } else { "no" };
        let Self { uuid, at, .. } = self;
        write!(f, "uuid={{{uuid}}},size={},enabled={enabled},mnt={at}", self.size / 1024)?;
        let flags = self.flags.words().join("|");
        if !flags.is_empty() {
            write!(f, ",mnt_opts={flags}")?;
        }
        self.others.iter().try_for_each(|pair| write!(f, ",{pair}"))?;
        write!(f, ",image={}", self.number.image())
    }
}

/// What is no list of disks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}`: wanted {wanted}")]
pub struct DisksError {
    /// Its beginning, with what is not to be printed escaped.
    pub text: String,
    pub wanted: &'static str,
}

/// All of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Disks {
    pub own: Vec<Disk>,
    /// What Virtuozzo has written of disks that are not here.
    pub foreign: Vec<String>,
}

impl Disks {
    /// Those of a `ve.conf`.
    ///
    /// # Errors
    /// [`DisksError`] for an entry of ours that cannot be.
    pub fn of(conf: &Conf) -> Result<Self, DisksError> {
        let mut all = Self::default();
        let text = conf.get(KEY).unwrap_or_default();
        for entry in text.split(';').map(str::trim).filter(|entry| !entry.is_empty()) {
            let image = entry.split(',').find_map(|pair| pair.strip_prefix("image="));
            let is_own =
                image.and_then(|image| image.strip_suffix(".img")).and_then(DiskNumber::named).is_some();
            if !is_own {
                all.foreign.push(entry.to_owned());
                continue;
            }
            let refused = |wanted| {
                let shown = &entry.as_bytes()[..entry.len().min(200)];
                DisksError { text: tree::escaped(shown), wanted }
            };
            let disk = Disk::read(entry).map_err(refused)?;
            if all
                .own
                .iter()
                .any(|other| other.number == disk.number || other.at == disk.at || other.uuid == disk.uuid)
            {
                return Err(refused("every disk once, and every path once"));
            }
            all.own.push(disk);
        }
        Ok(all)
    }

    /// Whose data a root that is started would go without: an entry that is not of ours, and that is a slip, or of a disk that has to be mounted. Virtuozzo's of the root
    /// is neither, and one that says `enabled=no` is not mounted anyway.
    pub fn missing(&self) -> Option<&str> {
        self.foreign.iter().map(String::as_str).find(|entry| is_missed(entry) || self.is_of_another(entry))
    }

    /// An entry that is not of ours has the UUID of another: one of the two is a slip, and nobody can tell which.
    pub fn is_of_another(&self, entry: &str) -> bool {
        let Some(uuid) = uuid_of(entry).filter(|uuid| !uuid.is_nil() && !is_disabled(entry)) else {
            return false;
        };
        let foreign = self.foreign.iter().filter(|other| uuid_of(other) == Some(uuid)).count();
        foreign > 1 || self.own.iter().any(|disk| disk.uuid == uuid)
    }

    /// As it is written.
    pub fn write(&self) -> String {
        self.foreign
            .iter()
            .cloned()
            .chain(self.own.iter().map(ToString::to_string))
            .collect::<Vec<_>>()
            .join(";")
    }

    /// By `hdd1`, or its UUID with or without braces.
    pub fn find(&self, words: &str) -> Option<&Disk> {
        let uuid = Uuid::try_parse(words.trim_matches(['{', '}'])).ok();
        self.own.iter().find(|disk| Some(disk.uuid) == uuid || Some(disk.number) == DiskNumber::named(words))
    }
}

fn value<'a>(entry: &'a str, key: &str) -> Option<&'a str> {
    let mut pairs = entry.split(',').filter_map(|pair| pair.split_once('='));
    pairs.find(|(name, _)| *name == key).map(|(_, value)| value)
}

fn uuid_of(entry: &str) -> Option<Uuid> {
    value(entry, "uuid")?.parse().ok()
}

fn is_disabled(entry: &str) -> bool {
    value(entry, "enabled") == Some("no")
}

/// Of an entry that is not of ours.
fn is_missed(entry: &str) -> bool {
    if is_disabled(entry) {
        return false;
    }
    let is_readable = entry.split(',').all(|pair| pair.is_empty() || pair.contains('='));
    let is_root = uuid_of(entry).is_some_and(|uuid| uuid.is_nil());
    let image = value(entry, "image");
    let names_one = is_root || image.is_some() || value(entry, "device").is_some();
    let is_slip = image.is_some_and(|image| image.starts_with("hdd"));
    !is_readable || !names_one || is_slip || value(entry, "mnt").is_some()
}

/// Where the disk in a file is mounted.
pub fn mount_point(prefix: &Prefix, id: &ContainerId, number: DiskNumber) -> PathBuf {
    prefix.run_dir_of(id).join("disks").join(number.to_string())
}

impl Area {
    /// The file that is a disk, whether it is there or not.
    pub fn disk_image(&self, number: DiskNumber) -> PathBuf {
        self.path().join(number.image())
    }

    /// What one that is being made is called; what a death leaves is swept.
    pub fn staged_disk(&self, number: DiskNumber) -> PathBuf {
        self.path().join(number.staged())
    }

    /// How large a disk may become, and what it takes of the disk that it lies on, in bytes; `None`: there is no such file.
    pub fn disk_size(&self, number: DiskNumber) -> Option<(u64, u64)> {
        let found = rustix::fs::statat(self.handle(), number.image(), AtFlags::SYMLINK_NOFOLLOW).ok()?;
        let taken = u64::try_from(found.st_blocks).ok()?.saturating_mul(512);
        Some((u64::try_from(found.st_size).ok()?, taken))
    }

    /// Makes a filesystem that has just been made, and is mounted at `point`, that disk of this container, durably.
    pub fn begin_disk(&self, point: &Path, uuid: Uuid) -> Result<(), AreaError> {
        let top = atomic::open_directory(point)?;
        atomic::make_directory_at(top.as_fd(), DATA, 0o755)?;
        Ok(atomic::replace_at(top.as_fd(), MARK, &self.disk_mark(uuid), 0o600)?)
    }

    /// Gives a new disk its name.
    pub fn take_disk(&self, number: DiskNumber) -> Result<(), AreaError> {
        Ok(atomic::move_at(self.handle(), number.staged(), self.handle(), number.image())?)
    }

    /// Throws a disk away, with all that is on it.
    pub fn discard_disk(&self, prefix: &Prefix, number: DiskNumber) -> Result<(), AreaError> {
        Ok(trash::discard(prefix, self.handle(), number.image())?)
    }

    /// Which disk it is that is mounted at `point`.
    pub fn disk_uuid(&self, point: &Path) -> Result<Uuid, AreaError> {
        let top = atomic::open_directory(point)?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut found = [0; 128];
        let read = rustix::fs::openat(&top, MARK, flags, Mode::empty())
            .and_then(|mark| rustix::io::read(mark, &mut found).map(|count| found[..count].to_vec()));
        let refused = |because: &str| self.damaged(point, because);
        let found = match read {
            Ok(found) => found,
            Err(Errno::NOENT) => return Err(refused("it is not mounted, or no disk of a container")),
            Err(errno) => return Err(AreaError::Unreadable { path: point.join(MARK), source: errno.into() }),
        };
        let text = String::from_utf8_lossy(&found);
        let (whose, uuid) = text.trim_end().split_once('/').unwrap_or_default();
        match uuid.parse() {
            Ok(uuid) if whose == self.id().to_string() => Ok(uuid),
            Ok(_) => Err(refused("it is a disk of another container")),
            Err(_) => Err(refused("it does not say which disk it is")),
        }
    }

    fn disk_mark(&self, uuid: Uuid) -> Vec<u8> {
        format!("{}/{uuid}\n", self.id()).into_bytes()
    }

    /// Has `area.json` say that a program must know of disks to touch this area.
    pub fn need_disks(record: &mut AreaRecord) {
        if !record.features.iter().any(|feature| feature == FEATURE) {
            record.features.push(FEATURE.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "uuid={6b9f3c1e-2f0a-4f8e-9d3b-5a1c7e42d001},size=1048576,enabled=yes,mnt=/data,mnt_opts=ro|noexec,image=hdd1.img";
    const ROOT: &str = "uuid={00000000-0000-0000-0000-000000000000},size=10485760,enabled=yes,autocompact=yes,image=root.hdd";

    const ELSEWHERE: &str = "uuid={6b9f3c1e-2f0a-4f8e-9d3b-5a1c7e42d001},image=/vz/data.hdd";

    fn read(text: &str) -> Result<Disks, DisksError> {
        let mut conf = Conf::default();
        conf.set(KEY, text).unwrap();
        Disks::of(&conf)
    }

    #[test]
    fn they_are_written_as_they_are_read_and_what_is_not_ours_stays() {
        let text = format!("{ROOT};{ONE}");
        let disks = read(&text).unwrap();
        assert_eq!((disks.own.len(), disks.foreign.len()), (1, 1));
        assert_eq!(disks.own[0].size, 1 << 30);
        assert_eq!(disks.own[0].flags.words(), ["ro", "noexec"]);
        assert_eq!(disks.write(), text);
        for words in
            ["hdd1", "{6b9f3c1e-2f0a-4f8e-9d3b-5a1c7e42d001}", "6B9F3C1E-2f0a-4f8e-9d3b-5a1c7e42d001"]
        {
            assert!(disks.find(words).is_some(), "{words}");
        }
        for words in ["hdd0", "hdd2", "hdd01", "hdd", "hdd1.img", "", "{}"] {
            assert!(disks.find(words).is_none(), "{words}");
        }
        assert_eq!(read("").unwrap(), Disks::default());
    }

    #[test]
    fn an_entry_of_ours_that_cannot_be_is_refused() {
        let twice = format!("{ONE};{ONE}");
        for text in [
            "image=hdd1.img",
            "uuid={x},mnt=/data,image=hdd1.img",
            "uuid={6b9f3c1e-2f0a-4f8e-9d3b-5a1c7e42d001},image=hdd1.img",
            &ONE.replace("/data", "/proc/x"),
            &ONE.replace("/data", "/a/../b"),
            &ONE.replace("1048576", "-1"),
            &ONE.replace("1048576", "99999999999999999999"),
            &ONE.replace("=yes", "=perhaps"),
            &ONE.replace("noexec", "suid"),
            &twice,
        ] {
            assert!(read(text).is_err(), "{text}");
        }
        // Nothing that leads elsewhere is one of ours.
        for text in [
            ONE.replace("hdd1.img", "../hdd1.img"),
            ONE.replace("hdd1.img", "hdd16.img"),
            ONE.replace("image=hdd1.img", "device=/dev/sda"),
        ] {
            assert_eq!(read(&text).unwrap().own, Vec::new(), "{text}");
        }
    }

    #[test]
    fn an_entry_that_is_not_ours_is_missed_where_it_was_to_be_mounted() {
        let with_image = |image: &str| ONE.replace("hdd1.img", image);
        for text in [
            "garbage",
            "uuid={6b9f3c1e-2f0a-4f8e-9d3b-5a1c7e42d001},imag=hdd1.img",
            "image=hdd01.img",
            &with_image("hdd01.img"),
            &with_image("/vz/data.hdd"),
            &with_image("../hdd1.img"),
            &ONE.replace("image=hdd1.img", "device=/dev/sda"),
            &format!("{ROOT};garbage"),
            // Of one that is ours, and of two that are not.
            &format!("{ONE};{ELSEWHERE}"),
            &format!(
                "{ONE};{}",
                ELSEWHERE.to_uppercase().replace("UUID=", "uuid=").replace("IMAGE", "image")
            ),
            &format!("{ELSEWHERE};{ELSEWHERE}"),
        ] {
            assert!(read(text).unwrap().missing().is_some(), "{text}");
        }
        for text in [
            "",
            ROOT,
            ONE,
            "uuid={00000000-0000-0000-0000-000000000000},size=1",
            ELSEWHERE,
            &format!("{ONE};{ELSEWHERE},enabled=no"),
            &format!("{ONE};{}", ELSEWHERE.replace("d001", "d002")),
            &format!("{ROOT};{ROOT};{ONE}"),
            &with_image("hdd01.img").replace("=yes", "=no"),
        ] {
            assert_eq!(read(text).unwrap().missing(), None, "{text}");
        }
    }

    #[test]
    fn an_image_says_which_disk_it_is() {
        let number = |path: &str| DiskNumber::of_image(Path::new(path)).map(|number| number.to_string());
        assert_eq!(number("/vz/private/x/hdd12.img").as_deref(), Some("hdd12"));
        assert_eq!(number("/vz/private/x/.reroot-tmp.hdd1").as_deref(), Some("hdd1"));
        for path in ["volume.img", ".reroot-tmp.volume", ".reroot-tmp.resized", "hdd1", "hdd1.img.old"] {
            assert_eq!(number(path), None, "{path}");
        }
    }
}
