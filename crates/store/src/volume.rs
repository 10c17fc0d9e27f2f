//! Where the layers of a container's generations lie: beside their records, or on a filesystem of the container's own.
//!
//! ```text
//! directory   generations/<n>/{delta,work}
//! image       volume.img, an ext4; mounted at /run/vz/<uuid>/volume:
//!                 .volume          whose it is
//!                 <n>/{delta,work}
//!                 .trash/          what is being deleted of it
//! btrfs       volume.btrfs, a subvolume: the same
//! ```
//!
//! Records, `live` and the journal lie in the area whatever the volume is: who asks about a container need not mount anything, and the commit of an operation is
//! the same rename. An area whose `volume.img` is there is on it; else on its `volume.btrfs`, if that is there: the one name is what making and leaving a volume turn on,
//! and what lies in a place that comes later in this order is what a move has not finished, or has left.
//!
//! A generation is on its volume after its record is made, and leaves it after its record is gone: what lies there without a record is litter, and is swept.

use std::cell::OnceCell;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, Mode, OFlags};
use rustix::io::Errno;

use crate::area::{Area, AreaError, AreaRecord};
use crate::atomic;
use crate::disks::{self, DiskNumber};
use crate::identity::{ContainerId, GenerationNumber};
use crate::prefix::Prefix;
use crate::trash::{self, TrashError};

/// The file that is a volume.
pub const IMAGE: &str = "volume.img";
/// The subvolume that is one.
pub const SUBVOLUME: &str = "volume.btrfs";
/// Says in the volume whose it is, so that an empty mount point is never taken for one.
const MARK: &str = ".volume";
pub(crate) const TRASH: &str = ".trash";
const STAGED: &str = ".reroot-tmp.volume";
/// Not as temporary files are called: those are swept as files.
const STAGED_SUBVOLUME: &str = ".staged-volume";
/// What a generation has beside its records.
const LAYERS: [&str; 3] = ["delta", "work", "lower"];

/// Where the layers of a container lie.
///
/// In the order in which they are looked for, the last one first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Volume {
    /// In the area.
    Directory,
    /// In a subvolume of its own, in an area that lies on btrfs.
    Btrfs,
    /// In an ext4 of its own, in a sparse file in the area.
    Image,
}

impl Volume {
    const ALL: [Volume; 3] = [Volume::Directory, Volume::Image, Volume::Btrfs];
    /// All there are, as they are written.
    pub const NAMES: [&'static str; 3] = ["directory", "image", "btrfs"];

    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Volume::Directory => "directory",
            Volume::Btrfs => "btrfs",
            Volume::Image => "image",
        }
    }

    /// The one that is written so.
    pub fn named(text: &str) -> Option<Volume> {
        Volume::ALL.into_iter().find(|volume| volume.as_str() == text)
    }

    /// What an area that is on it says in its `area.json`, so that a program that does not know of it leaves it alone.
    fn feature(self) -> Option<&'static str> {
        match self {
            Volume::Directory => None,
            Volume::Btrfs | Volume::Image => Some(self.as_str()),
        }
    }
}

/// Where a container's volume is mounted.
pub fn mount_point(prefix: &Prefix, id: &ContainerId) -> PathBuf {
    prefix.run_dir_of(id).join("volume")
}

/// Where the filesystem in one of a container's files is mounted: the volume of its roots, or a disk beside it.
pub fn mount_point_of(prefix: &Prefix, id: &ContainerId, image: &Path) -> PathBuf {
    match DiskNumber::of_image(image) {
        Some(number) => disks::mount_point(prefix, id, number),
        None => mount_point(prefix, id),
    }
}

/// An area's view of its volume.
#[derive(Debug)]
pub(crate) struct Layers {
    point: PathBuf,
    /// One for each kind, since a move is from one to the other.
    tops: [OnceCell<OwnedFd>; 3],
}

impl Layers {
    pub(crate) fn new(prefix: &Prefix, id: &ContainerId) -> Self {
        Self { point: mount_point(prefix, id), tops: Default::default() }
    }
}

impl Area {
    /// Where the layers of its generations lie. Asked of the disk, since that may change.
    pub fn volume(&self) -> Volume {
        // One that cannot be looked at is no reason to look elsewhere.
        let is_there = |name| {
            rustix::fs::accessat(self.handle(), name, Access::EXISTS, AtFlags::SYMLINK_NOFOLLOW)
                != Err(Errno::NOENT)
        };
        if is_there(IMAGE) {
            Volume::Image
        } else if is_there(SUBVOLUME) {
            Volume::Btrfs
        } else {
            Volume::Directory
        }
    }

    /// The file that is its volume, should it have one.
    pub fn image(&self) -> PathBuf {
        self.path().join(IMAGE)
    }

    /// The directory of `<n>/` with `delta/` and `work/`. On an image nothing is there until that is mounted.
    pub fn layers_dir(&self, number: GenerationNumber) -> PathBuf {
        match self.volume() {
            Volume::Directory => self.generation_dir(number),
            Volume::Btrfs => self.path().join(SUBVOLUME).join(number.to_string()),
            Volume::Image => self.layers.point.join(number.to_string()),
        }
    }

    /// The directory of all of them, opened once, so that what a later sync tells includes all that was written since.
    pub fn layers_top(&self) -> Result<BorrowedFd<'_>, AreaError> {
        let volume = self.volume();
        let kept = &self.layers.tops[volume as usize];
        if let Some(top) = kept.get() {
            return Ok(top.as_fd());
        }
        let top = match volume {
            Volume::Directory => self.generations_handle()?,
            Volume::Btrfs | Volume::Image => self.open_volume(volume)?,
        };
        Ok(kept.get_or_init(|| top).as_fd())
    }

    /// Whether what is mounted, or lies there, is this container's volume.
    pub fn check_volume(&self) -> Result<(), AreaError> {
        match self.volume() {
            Volume::Directory => Ok(()),
            // Opened for this alone: who has it open keeps it mounted.
            volume @ (Volume::Btrfs | Volume::Image) => self.open_volume(volume).map(drop),
        }
    }

    fn open_volume(&self, volume: Volume) -> Result<OwnedFd, AreaError> {
        let (point, path, top) = match volume {
            Volume::Image => {
                (self.layers.point.clone(), self.image(), atomic::open_directory(&self.layers.point)?)
            }
            Volume::Directory | Volume::Btrfs => {
                let point = self.path().join(SUBVOLUME);
                (point.clone(), point, atomic::open_directory_at(self.handle(), SUBVOLUME)?)
            }
        };
        let refused = |because: &str| AreaError::Damaged {
            container: self.display_name(),
            path: path.clone(),
            because: because.to_owned(),
        };
        if volume == Volume::Btrfs && !linux::is_subvolume(&top) {
            return Err(refused("it is no subvolume"));
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut found = [0; 64];
        let read = rustix::fs::openat(&top, MARK, flags, Mode::empty())
            .and_then(|mark| rustix::io::read(mark, &mut found).map(|count| found[..count].to_vec()));
        match read {
            Ok(found) if found == self.mark() => Ok(top),
            Ok(_) => Err(refused("it is the volume of another container")),
            Err(Errno::NOENT) => {
                Err(refused(&format!("what is at {} is not mounted, or no volume", point.display())))
            }
            Err(errno) => Err(AreaError::Unreadable { path: point.join(MARK), source: errno.into() }),
        }
    }

    fn mark(&self) -> Vec<u8> {
        format!("{}\n", self.id()).into_bytes()
    }

    /// Makes a filesystem that has just been made, and is mounted at `point`, this container's volume, durably.
    pub fn begin_volume(&self, point: &Path) -> Result<(), AreaError> {
        let top = atomic::open_directory(point)?;
        atomic::make_directory_at(top.as_fd(), TRASH, 0o700)?;
        Ok(atomic::replace_at(top.as_fd(), MARK, &self.mark(), 0o600)?)
    }

    /// A generation's `delta/` and `work/` are in here.
    pub fn layers_handle(&self, number: GenerationNumber) -> Result<OwnedFd, AreaError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::openat(self.layers_top()?, number.to_string(), flags, Mode::empty()) {
            Ok(handle) => Ok(handle),
            Err(Errno::NOENT) => Err(AreaError::NoGeneration { container: self.display_name(), number }),
            Err(errno) => Err(AreaError::Unreadable { path: self.layers_dir(number), source: errno.into() }),
        }
    }

    /// Has a small new generation durable: its records and its layers, in which there are but a few files of ours, and the names of all.
    ///
    /// The names go last, and whether a power cut leaves them is for `live` to say: it is renamed after this.
    pub fn sync_small_generation(&self, number: GenerationNumber) -> Result<(), AreaError> {
        let failed = |source: tree::TreeError| AreaError::Trash(TrashError::Remove(source));
        let record = self.generation_handle(number)?;
        tree::sync_small_tree(record.as_fd()).map_err(failed)?;
        if self.volume() != Volume::Directory && !linux::mutated!("layers-unsynced") {
            tree::sync_small_tree(self.layers_handle(number)?.as_fd()).map_err(failed)?;
            atomic::fsync_dir(self.layers_top()?)?;
        }
        Ok(())
    }

    /// Has everything durable that anybody has written into the layers, and the records.
    pub fn sync_layers(&self) -> Result<(), AreaError> {
        let failed = |path: PathBuf| move |errno: Errno| AreaError::Unreadable { path, source: errno.into() };
        let (top, volume) = (self.layers_top()?, self.volume());
        if volume == Volume::Directory || !linux::mutated!("volume-unsynced") {
            rustix::fs::syncfs(top).map_err(failed(atomic::path_of(top)))?;
        }
        if volume == Volume::Image {
            rustix::fs::syncfs(self.handle()).map_err(failed(self.path().to_owned()))?;
        }
        Ok(())
    }

    /// Makes a generation's place on the volume, where it is another than that of its record. As durable as the record.
    pub(crate) fn create_layers(
        &self,
        number: GenerationNumber,
        record: BorrowedFd<'_>,
    ) -> Result<(), AreaError> {
        let own = match self.volume() {
            Volume::Directory => None,
            Volume::Btrfs | Volume::Image => {
                // What is there already is of a generation that has no record: it is nobody's.
                self.discard_layers(number)?;
                atomic::make_directory_unsynced_at(self.layers_top()?, number.to_string(), 0o700)?;
                Some(self.layers_handle(number)?)
            }
        };
        let layers = own.as_ref().map_or(record, |own| own.as_fd());
        atomic::make_directory_unsynced_at(layers, "delta", 0o755)?;
        atomic::make_directory_unsynced_at(layers, "work", 0o700)?;
        Ok(())
    }

    /// Moves the layers of a generation whose record is gone to the trash of the volume; gone already is fine.
    pub(crate) fn discard_layers(&self, number: GenerationNumber) -> Result<(), AreaError> {
        match self.layers_trash()? {
            Some(trash) => self.discard_layers_into(&trash, number),
            None => Ok(()),
        }
    }

    /// The trash of the volume; `None`: the layers lie beside their records, and go with them.
    pub(crate) fn layers_trash(&self) -> Result<Option<OwnedFd>, AreaError> {
        if self.volume() == Volume::Directory {
            return Ok(None);
        }
        let top = self.layers_top()?;
        atomic::make_directory_at(top, TRASH, 0o700)?;
        Ok(Some(atomic::open_directory_at(top, TRASH)?))
    }

    /// See [`Area::discard_layers`].
    pub(crate) fn discard_layers_into(
        &self,
        trash: &OwnedFd,
        number: GenerationNumber,
    ) -> Result<(), AreaError> {
        let place = uuid::Uuid::new_v4().to_string();
        match atomic::move_at(self.layers_top()?, number.to_string(), trash.as_fd(), place) {
            Ok(()) => Ok(()),
            Err(error) if Errno::from_io_error(&error.source) == Some(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Throws away what lies on the volume of generations that have no record. Only under the container's lock.
    pub fn sweep_layers(&self) -> Result<usize, AreaError> {
        if self.volume() == Volume::Directory {
            return Ok(0);
        }
        let known = self.generation_numbers()?;
        let mut swept = 0;
        for name in atomic::names_in(self.layers_top()?)? {
            let Some(number) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
            if !known.contains(&number) {
                self.discard_layers(number)?;
                swept += 1;
            }
        }
        Ok(swept)
    }

    /// What a volume that is being made is called until it is one; what a death leaves is swept.
    pub fn staged_image(&self) -> PathBuf {
        self.path().join(STAGED)
    }

    /// The same of a subvolume.
    pub fn staged_subvolume(&self) -> PathBuf {
        self.path().join(STAGED_SUBVOLUME)
    }

    /// Makes an area that is being made lie on a subvolume.
    pub fn make_subvolume(&self) -> Result<(), AreaError> {
        self.make_subvolume_as(SUBVOLUME)
    }

    /// Makes the subvolume that is to become the container's.
    pub fn stage_subvolume(&self) -> Result<(), AreaError> {
        self.make_subvolume_as(STAGED_SUBVOLUME)
    }

    fn make_subvolume_as(&self, name: &str) -> Result<(), AreaError> {
        let path = self.path().join(name);
        let failed = |source| AreaError::Unreadable { path: path.clone(), source };
        linux::make_subvolume(self.handle(), name.as_ref()).map_err(failed)?;
        rustix::fs::chmodat(self.handle(), name, Mode::from_raw_mode(0o700), AtFlags::empty())
            .map_err(|errno| failed(errno.into()))?;
        self.begin_volume(&path)
    }

    /// Throws away what a death has left of one that was to become the container's, or somebody's wish.
    pub fn discard_staged_subvolume(&self, prefix: &Prefix) -> Result<(), AreaError> {
        match rustix::fs::statat(self.handle(), STAGED_SUBVOLUME, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => Ok(()),
            Ok(_) | Err(_) => Ok(trash::discard(prefix, self.handle(), STAGED_SUBVOLUME)?),
        }
    }

    /// **The commit** of a move to a volume that comes before the one that it is on: durable before, and one rename. To one that comes after it this is not the commit yet:
    /// nobody looks there before [`Area::leave_volume`].
    pub fn take_volume(&self, volume: Volume) -> Result<(), AreaError> {
        let (staged, name) = match volume {
            Volume::Directory => return Ok(()),
            Volume::Btrfs => (STAGED_SUBVOLUME, SUBVOLUME),
            Volume::Image => (STAGED, IMAGE),
        };
        Ok(atomic::move_at(self.handle(), staged, self.handle(), name)?)
    }

    /// **The commit** of a move to a volume that comes after this one: likewise.
    pub fn leave_volume(&self, prefix: &Prefix, volume: Volume) -> Result<(), AreaError> {
        let name = match volume {
            Volume::Directory => return Ok(()),
            Volume::Btrfs => SUBVOLUME,
            Volume::Image => IMAGE,
        };
        Ok(trash::discard(prefix, self.handle(), name)?)
    }

    /// Whether layers lie beside their records, or on a subvolume, of a container that has them elsewhere: of a move that was not finished, or was.
    pub fn has_former_layers(&self) -> Result<bool, AreaError> {
        let is_there = |name| rustix::fs::statat(self.handle(), name, AtFlags::SYMLINK_NOFOLLOW).is_ok();
        let volume = self.volume();
        if is_there(STAGED_SUBVOLUME) || (volume == Volume::Image && is_there(SUBVOLUME)) {
            return Ok(true);
        }
        if volume == Volume::Directory {
            return Ok(false);
        }
        let lies = |number| {
            let record = self.generation_handle(number)?;
            Ok(LAYERS
                .iter()
                .any(|name| rustix::fs::statat(&record, *name, AtFlags::SYMLINK_NOFOLLOW).is_ok()))
        };
        let mut found = self.generation_numbers()?.into_iter().map(lies);
        found.find(|lies| !matches!(lies, Ok(false))).unwrap_or(Ok(false))
    }

    /// Throws them away, each only where the volume, which has to be mounted, has its own: a thing of that name that somebody has put there by hand is nobody's
    /// volume, and what lies elsewhere then all that there is. Only under the container's lock.
    pub fn sweep_former_layers(&self, prefix: &Prefix) -> Result<(), AreaError> {
        self.discard_staged_subvolume(prefix)?;
        let volume = self.volume();
        if volume == Volume::Directory {
            return Ok(());
        }
        self.check_volume()?;
        let numbers = self.generation_numbers()?;
        for number in &numbers {
            atomic::open_directory_at(self.layers_handle(*number)?.as_fd(), "delta")?;
        }
        if volume == Volume::Image {
            // Of nothing, where there is none.
            self.leave_volume(prefix, Volume::Btrfs)?;
        }
        for number in numbers {
            let record = self.generation_handle(number)?;
            for name in LAYERS {
                if rustix::fs::statat(&record, name, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
                    trash::discard(prefix, record.as_fd(), name)?;
                }
            }
        }
        Ok(())
    }

    /// Has `area.json` say that a program must know of this volume to touch the area.
    pub fn need_volume(record: &mut AreaRecord, volume: Volume) {
        if let Some(feature) = volume.feature()
            && !record.features.iter().any(|there| there == feature)
        {
            record.features.push(feature.to_owned());
        }
    }

    /// Has it say so of no other than the one it is on.
    pub fn forget_former_volumes(&self) -> Result<(), AreaError> {
        let mut record = self.record()?;
        let before = record.features.len();
        let volume = self.volume();
        let former = Volume::ALL.into_iter().filter(|other| *other != volume).filter_map(Volume::feature);
        for feature in former {
            record.features.retain(|there| there != feature);
        }
        if record.features.len() == before { Ok(()) } else { self.store_record(&record) }
    }

    /// Refuses an area whose layers were on a volume that is not there any more: without this it would be one whose roots are empty.
    pub(crate) fn check_disk(&self, record: &AreaRecord) -> Result<(), AreaError> {
        let said = |volume: &Volume| {
            volume.feature().is_some_and(|feature| record.features.iter().any(|there| there == feature))
        };
        let Some(volume) = Volume::ALL.into_iter().filter(said).max() else { return Ok(()) };
        // Said are, for a moment, also one that a move is going to and one that it has left: then the layers are where they are looked for.
        let is_there = || self.volume() != Volume::Directory;
        let lies_beside = |number| {
            self.generation_handle(number)
                .is_ok_and(|record| rustix::fs::statat(record, "delta", AtFlags::SYMLINK_NOFOLLOW).is_ok())
        };
        if is_there() {
            return Ok(());
        }
        // Looked at again: a move may have come between.
        match self.live() {
            Ok(live) if !lies_beside(live) && !is_there() => {
                let path = self.path().join(if volume == Volume::Btrfs { SUBVOLUME } else { IMAGE });
                Err(AreaError::NoDisk { container: self.display_name(), path })
            }
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// What the volume takes of the disk that it lies on, and how large it may become, both in bytes; `None`: it is a directory.
    pub fn image_size(&self) -> Option<(u64, u64)> {
        let found = rustix::fs::statat(self.handle(), IMAGE, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        let taken = u64::try_from(found.st_blocks).ok()?.saturating_mul(512);
        Some((taken, u64::try_from(found.st_size).ok()?))
    }
}

/// In `area.json`.
pub(crate) const IMAGE_FEATURE: &str = Volume::Image.as_str();
pub(crate) const BTRFS_FEATURE: &str = Volume::Btrfs.as_str();

/// The trash of every volume that is mounted, and of every subvolume.
pub(crate) fn trashes(prefix: &Prefix) -> Vec<OwnedFd> {
    let open = |path: PathBuf| {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::open(path, flags, Mode::empty()).ok()
    };
    let in_each = |directory: PathBuf, volume: &'static str| {
        let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
        entries.filter_map(move |entry| open(entry.path().join(volume).join(TRASH)))
    };
    let mut all: Vec<OwnedFd> = in_each(prefix.run_dir(), "volume").collect();
    // No other filesystem has any.
    let private = prefix.private_dir();
    if atomic::open_directory(&private).is_ok_and(linux::is_btrfs) {
        all.extend(in_each(private, SUBVOLUME));
    }
    all
}
