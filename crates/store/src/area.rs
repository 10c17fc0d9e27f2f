//! A private area: everything that is a container, in one directory, `/vz/private/<uuid>/`.
//!
//! ```text
//! ve.conf            the configuration (see `conf`)
//! area.json          format, features, id range, next generation number
//! generations/<n>/   generation.json, made.json, delta/, work/ (see `generation`)
//! hdd<n>.img         its disks beside that of the root (see `disks`)
//! volume.img         instead of delta/ and work/: a filesystem that has them (see `volume`)
//! live -> generations/<n>
//! operation.json     only while an operation is under way (see `journal`)
//! scripts/           per-container action scripts
//! ```
//!
//! `live` is the commit point: [`Area::point_live`] is one `rename(2)`, and before it nothing has happened. An
//! area is made as `.staging-<uuid>` beside the others and gets its name when it is whole. Whoever changes
//! anything here holds the container's lock (or, before the name, the host's); this module does not check it.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::atomic::{self, AtomicError};
use crate::conf::{Conf, ConfError};
use crate::disks;
use crate::id_range::{IdRange, IdRangeError};
use crate::identity::{ContainerId, ContainerName, GenerationNumber, NameError};
use crate::prefix::Prefix;
use crate::record::{self, Record, RecordError};
use crate::trash::TrashError;
use crate::volume;

pub(crate) const VE_CONF: &str = "ve.conf";
pub(crate) const LIVE: &str = "live";
pub(crate) const GENERATIONS: &str = "generations";
const STAGING: &str = ".staging-";
/// In `area.json`.
const UNREGISTERED: &str = "unregistered";

/// What a private area cannot give, and why.
#[derive(Debug, thiserror::Error)]
pub enum AreaError {
    #[error("there is no private area `{}`", .path.display())]
    Missing { container: ContainerId, path: PathBuf },
    #[error("`{}` is damaged: {because}", .path.display())]
    Damaged { container: String, path: PathBuf, because: String },
    #[error(
        "`{}` has format {found} and this program knows {known}: it was written by a newer version",
        .path.display()
    )]
    NewerFormat { path: PathBuf, found: u64, known: u32 },
    #[error("`{}` needs the feature `{feature}`, which this program does not know", .path.display())]
    UnknownFeature { path: PathBuf, feature: String },
    #[error("the disk of `{container}` is missing: there is no `{}`, and its roots are in it", .path.display())]
    NoDisk { container: String, path: PathBuf },
    #[error("`{container}` is not registered: its private area lies at `{}` and is no container", .path.display())]
    Unregistered { container: ContainerId, path: PathBuf },
    #[error("`{container}` has no generation {number}")]
    NoGeneration { container: String, number: GenerationNumber },
    #[error("`NAME` in `{}` is not a name", .path.display())]
    BadName { path: PathBuf, source: NameError },
    #[error("cannot read `{}`", .path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Conf(#[from] ConfError),
    #[error(transparent)]
    Ids(#[from] IdRangeError),
    #[error(transparent)]
    Write(#[from] AtomicError),
    #[error(transparent)]
    Trash(#[from] TrashError),
}

/// `area.json`. See `docs/format/area.md`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AreaRecord {
    pub format: u32,
    /// What a program must know to touch this area; one that it does not know is refused.
    pub features: Vec<String>,
    pub uuid: ContainerId,
    pub id_range: IdRange,
    pub next_generation: u32,
    pub created: Timestamp,
}

impl AreaRecord {
    pub const FORMAT: u32 = 1;
    const KNOWN_FEATURES: [&'static str; 4] =
        [volume::IMAGE_FEATURE, volume::BTRFS_FEATURE, disks::FEATURE, UNREGISTERED];

    /// Whether it is a container. What has been unregistered lies where it lay and is none; a program that does not know of that refuses it.
    pub fn is_registered(&self) -> bool {
        !self.features.iter().any(|feature| feature == UNREGISTERED)
    }

    /// Has it be one, or not; [`Area::store_record`] is the commit of either.
    pub fn set_registered(&mut self, is_registered: bool) {
        self.features.retain(|feature| feature != UNREGISTERED);
        if !is_registered {
            self.features.push(UNREGISTERED.to_owned());
        }
    }

    /// The record of a container that is being made.
    pub fn new(uuid: ContainerId, id_range: IdRange) -> Self {
        Self {
            format: Self::FORMAT,
            features: Vec::new(),
            uuid,
            id_range,
            next_generation: GenerationNumber::FIRST.get(),
            created: Timestamp::now(),
        }
    }
}

impl Record for AreaRecord {
    const FILE: &'static str = "area.json";
    const FORMAT: u32 = Self::FORMAT;
}

/// An opened private area.
#[derive(Debug)]
pub struct Area {
    id: ContainerId,
    path: PathBuf,
    handle: OwnedFd,
    pub(crate) layers: volume::Layers,
}

impl Area {
    /// Opens the area of a container and reads its `area.json` once, so that nobody works on a format, or with a
    /// feature, that this program does not know.
    pub fn open(prefix: &Prefix, id: &ContainerId) -> Result<Self, AreaError> {
        let area = Self::open_unchecked(prefix, id)?;
        let record = area.record()?;
        if !record.is_registered() {
            return Err(AreaError::Unregistered { container: *id, path: area.path });
        }
        area.check_disk(&record)?;
        Ok(area)
    }

    /// Opens what lies at `path` and may become a container; `None`: it is no area of ours.
    pub fn open_elsewhere(prefix: &Prefix, path: &Path) -> Result<Option<Self>, AreaError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let unreadable = |errno: Errno| AreaError::Unreadable { path: path.to_owned(), source: errno.into() };
        let handle = match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(handle) => handle,
            // Whoever reads others' areas says what is wrong with it.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
            Err(errno) => return Err(unreadable(errno)),
        };
        let is_there = |name| rustix::fs::statat(&handle, name, AtFlags::SYMLINK_NOFOLLOW).is_ok();
        if !is_there(AreaRecord::FILE) || !is_there(GENERATIONS) {
            return Ok(None);
        }
        // Only to be called something until it is known what it is called.
        let nobody = ContainerId::random();
        let mut area =
            Self { id: nobody, path: path.to_owned(), handle, layers: volume::Layers::new(prefix, &nobody) };
        let record: AreaRecord = record::load_at(area.handle()).map_err(|error| area.refuse(error))?;
        area.id = record.uuid;
        area.layers = volume::Layers::new(prefix, &record.uuid);
        area.record()?;
        Ok(Some(area))
    }

    /// Moves an area that was opened elsewhere to where its container's lies, durably. It must be on the same filesystem, and nothing be there. After an error it lies
    /// where it lay.
    pub fn take_its_place(&mut self, prefix: &Prefix) -> Result<(), AreaError> {
        let (Some(parent), Some(name)) = (self.path.parent(), self.path.file_name()) else {
            return Err(self.damaged("", "it is at no place that it could be taken from"));
        };
        let from = atomic::open_directory(parent)?;
        let private = atomic::open_directory(&prefix.private_dir())?;
        // A death before: it lies where it lay. After it: where a container's lies, and is none yet.
        atomic::move_at(from.as_fd(), name, private.as_fd(), self.id.to_string())?;
        if let Err(error) = atomic::fsync_dir(private.as_fd()) {
            let _ = atomic::move_at(private.as_fd(), self.id.to_string(), from.as_fd(), name);
            return Err(error.into());
        }
        // By name: somebody may have put another there since this one was looked at.
        let (own, there) = (
            rustix::fs::fstat(&self.handle),
            rustix::fs::statat(&private, self.id.to_string(), AtFlags::SYMLINK_NOFOLLOW),
        );
        let is_it = matches!((own, there), (Ok(own), Ok(there)) if (own.st_dev, own.st_ino) == (there.st_dev, there.st_ino));
        if !is_it {
            atomic::move_at(private.as_fd(), self.id.to_string(), from.as_fd(), name)?;
            return Err(self.damaged("", "another directory was put in its place meanwhile"));
        }
        self.path = prefix.area_dir(&self.id);
        Ok(())
    }

    /// Opens it whatever state it is in: to list, to destroy, to rebuild.
    pub fn open_unchecked(prefix: &Prefix, id: &ContainerId) -> Result<Self, AreaError> {
        Self::open_at(prefix, prefix.area_dir(id), *id)
    }

    /// Opens one that is being made.
    pub fn open_staged(prefix: &Prefix, id: &ContainerId) -> Result<Self, AreaError> {
        Self::open_at(prefix, staged_dir(prefix, id), *id)
    }

    fn open_at(prefix: &Prefix, path: PathBuf, id: ContainerId) -> Result<Self, AreaError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::open(&path, flags, Mode::empty()) {
            Ok(handle) => Ok(Self { id, path, handle, layers: volume::Layers::new(prefix, &id) }),
            Err(Errno::NOENT) => Err(AreaError::Missing { container: id, path }),
            Err(errno) => Err(AreaError::Unreadable { path, source: errno.into() }),
        }
    }

    /// Begins a new area as `.staging-<uuid>`, with `area.json`, `generations/` and `scripts/`. One that a killed
    /// create left under that name must have been discarded before.
    pub fn stage(prefix: &Prefix, record: &AreaRecord) -> Result<Self, AreaError> {
        let private = atomic::open_directory(&prefix.private_dir())?;
        let name = staged_name(&record.uuid);
        // A death from here until `publish` leaves a directory that `registry::staged` lists and recovery discards.
        if !atomic::make_directory_at(private.as_fd(), &name, 0o700)? {
            let path = staged_dir(prefix, &record.uuid);
            return Err(AtomicError::new("make", path, io::Error::from(io::ErrorKind::AlreadyExists)).into());
        }
        let area = Self::open_staged(prefix, &record.uuid)?;
        atomic::make_directory_at(area.handle(), GENERATIONS, 0o700)?;
        atomic::make_directory_at(area.handle(), "scripts", 0o700)?;
        area.store_record(record)?;
        Ok(area)
    }

    /// Gives a staged area its name: the commit of `create`, and of whatever else makes a container. What lies in
    /// it must be durable already (the caller's [`Area::sync`], and of the delta).
    pub fn publish(self, prefix: &Prefix) -> Result<Self, AreaError> {
        let private = atomic::open_directory(&prefix.private_dir())?;
        // A death before the rename: no container, and a staging. After it: a whole container, without links yet.
        atomic::move_at(private.as_fd(), staged_name(&self.id), private.as_fd(), self.id.to_string())?;
        Ok(Self { path: prefix.area_dir(&self.id), ..self })
    }

    pub fn id(&self) -> &ContainerId {
        &self.id
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Can be synced, and opened below.
    pub fn handle(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }

    pub fn record(&self) -> Result<AreaRecord, AreaError> {
        let record: AreaRecord = record::load_at(self.handle()).map_err(|error| self.refuse(error))?;
        if let Some(feature) =
            record.features.iter().find(|feature| !AreaRecord::KNOWN_FEATURES.contains(&feature.as_str()))
        {
            return Err(AreaError::UnknownFeature {
                path: self.path.join(AreaRecord::FILE),
                feature: feature.clone(),
            });
        }
        if record.uuid != self.id {
            return Err(self.damaged(AreaRecord::FILE, format!("it is the record of `{}`", record.uuid)));
        }
        Ok(record)
    }

    pub fn store_record(&self, record: &AreaRecord) -> Result<(), AreaError> {
        if !record.is_registered() && linux::mutated!("unregistered-unsynced") {
            return Ok(record::store_unsynced_at(self.handle(), record)?);
        }
        Ok(record::store_at(self.handle(), record)?)
    }

    /// The configuration; refused when it is missing, empty, or damaged.
    pub fn conf(&self) -> Result<Conf, AreaError> {
        Ok(Conf::load_checked(&self.path.join(VE_CONF))?)
    }

    pub fn store_conf(&self, conf: &Conf) -> Result<(), AreaError> {
        Ok(atomic::replace_at(self.handle(), VE_CONF, &conf.to_bytes(), 0o600)?)
    }

    /// `NAME` of the configuration; a container may have none.
    pub fn name(&self) -> Result<Option<ContainerName>, AreaError> {
        self.name_in(&self.conf()?)
    }

    fn name_in(&self, conf: &Conf) -> Result<Option<ContainerName>, AreaError> {
        match conf.get("NAME") {
            None => Ok(None),
            Some(name) if name.is_empty() => Ok(None),
            Some(name) => match name.parse() {
                Ok(name) => Ok(Some(name)),
                Err(source) => Err(AreaError::BadName { path: self.path.join(VE_CONF), source }),
            },
        }
    }

    /// What to call the container in a message: its name, else its id. Never fails.
    pub fn display_name(&self) -> String {
        match self.name() {
            Ok(Some(name)) => name.to_string(),
            Ok(None) | Err(_) => self.id.to_string(),
        }
    }

    /// The same, where its configuration has been read.
    pub fn display_name_in(&self, conf: &Conf) -> String {
        match self.name_in(conf) {
            Ok(Some(name)) => name.to_string(),
            Ok(None) | Err(_) => self.id.to_string(),
        }
    }

    /// The generation that is the container's root.
    pub fn live(&self) -> Result<GenerationNumber, AreaError> {
        let target = match rustix::fs::readlinkat(self.handle(), LIVE, Vec::new()) {
            Ok(target) => target,
            Err(Errno::NOENT) => return Err(self.damaged(LIVE, "the link is missing")),
            Err(Errno::INVAL) => return Err(self.damaged(LIVE, "it is not a link")),
            Err(errno) => {
                return Err(AreaError::Unreadable { path: self.path.join(LIVE), source: errno.into() });
            }
        };
        let target = target.to_string_lossy();
        let number = target.strip_prefix("generations/").and_then(|number| number.parse().ok());
        number.ok_or_else(|| {
            self.damaged(
                LIVE,
                format!("it points to `{}`, wanted `generations/<n>`", tree::escaped(target.as_bytes())),
            )
        })
    }

    /// **The commit.** One `rename(2)`, and no sync: everything that `number` is made of must be durable already,
    /// and [`Area::sync`] must follow before anybody is told that it has happened.
    ///
    /// A death before the rename leaves the old root and a temporary link, after it the new one. A power cut
    /// before [`Area::sync`] may bring either, and each is whole; therefore recovery that finds `live` new syncs
    /// before it does anything that leans on it.
    pub fn point_live(&self, number: GenerationNumber) -> Result<(), AreaError> {
        Ok(atomic::replace_symlink_at(self.handle(), LIVE, format!("{GENERATIONS}/{number}"))?)
    }

    /// Makes durable which names the area holds, `live` among them.
    pub fn sync(&self) -> Result<(), AreaError> {
        Ok(atomic::fsync_dir(self.handle())?)
    }

    /// Removes what killed writers left. Only under the container's lock.
    pub fn sweep(&self) -> Result<usize, AreaError> {
        Ok(atomic::sweep(self.handle())?)
    }

    /// As [`Area::sweep`], in the directories of the generations.
    pub fn sweep_generations(&self) -> Result<usize, AreaError> {
        let mut swept = 0;
        for number in self.generation_numbers()? {
            swept += atomic::sweep(self.generation_handle(number)?.as_fd())?;
        }
        Ok(swept)
    }

    /// A number that no generation of this container has had. Nothing is written for it: while a generation is there its directory says that its
    /// number is taken, and before it goes `area.json` does ([`Area::discard_generation`]).
    pub fn next_generation_number(&self) -> Result<GenerationNumber, AreaError> {
        let highest = self.generation_numbers()?.last().map_or(0, |number| number.get());
        let next = highest.saturating_add(1).max(self.record()?.next_generation);
        if next == u32::MAX {
            return Err(self.damaged(AreaRecord::FILE, "there are no generation numbers left"));
        }
        Ok(GenerationNumber::new(next))
    }

    /// Has `area.json` say that this number has been given, durably. `make_room` is called when there is none for
    /// that, and what it gives is kept until it is written.
    pub(crate) fn remember_number<Room>(
        &self,
        number: GenerationNumber,
        make_room: impl FnOnce() -> Room,
    ) -> Result<(), AreaError> {
        let mut record = self.record()?;
        if record.next_generation > number.get() {
            return Ok(());
        }
        record.next_generation = number.get().saturating_add(1);
        let is_full = |result: &Result<(), AreaError>| {
            matches!(result, Err(AreaError::Write(error))
                if matches!(Errno::from_io_error(&error.source), Some(Errno::NOSPC | Errno::DQUOT)))
        };
        let mut result = self.store_record(&record);
        if is_full(&result) {
            let _room = make_room();
            result = self.store_record(&record);
        }
        // What is deleted gives the space back that this would need; a number that comes twice harms nobody.
        if is_full(&result) { Ok(()) } else { result }
    }

    pub(crate) fn damaged(&self, file: impl AsRef<OsStr>, because: impl Into<String>) -> AreaError {
        let path = self.path.join(file.as_ref());
        AreaError::Damaged { container: self.display_name(), path, because: because.into() }
    }

    /// What a record's error means in this area: a record that should be there and is missing is damage.
    pub(crate) fn refuse(&self, error: RecordError) -> AreaError {
        match error {
            RecordError::Missing { path } => {
                AreaError::Damaged { container: self.display_name(), path, because: "it is missing".into() }
            }
            RecordError::Damaged { path, because } => {
                AreaError::Damaged { container: self.display_name(), path, because }
            }
            RecordError::NewerFormat { path, found, known } => AreaError::NewerFormat { path, found, known },
            RecordError::Unreadable { path, source } => AreaError::Unreadable { path, source },
        }
    }
}

pub(crate) fn staged_name(id: &ContainerId) -> String {
    format!("{STAGING}{id}")
}

fn staged_dir(prefix: &Prefix, id: &ContainerId) -> PathBuf {
    prefix.private_dir().join(staged_name(id))
}

/// The id in the name of a staged area.
pub(crate) fn staged_id(name: &str) -> Option<ContainerId> {
    ContainerId::from_file_name(name.strip_prefix(STAGING)?)
}

#[cfg(test)]
#[path = "area_tests.rs"]
pub(crate) mod tests;
