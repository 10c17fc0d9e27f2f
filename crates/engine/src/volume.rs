//! How much disk a container may use, and what sees to it.
//!
//! An image is as large as `DISKSPACE` says. A directory has that end where the host's filesystem keeps project quotas, a subvolume of btrfs where its quotas are on, and else
//! none but the disk's: what was said by hand and cannot be had is refused; what a sample says is told.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use linux::SpaceLimits;
use store::disk_space::volume_of;
use store::{Area, Conf, DiskSpace, Disks, GenerationNumber, LimitsError, Lock, Volume};

use crate::container::Container;
use crate::error::{Code, Failure, Result};
use crate::host::{Host, damaged};
use crate::runtime::{RuntimeError, RuntimeErrorKind};
use crate::settings::Change;
use crate::space::{self, Need};

/// An image of which nobody has said how large it may become: as much as OpenVZ gives.
pub const USUAL: u64 = 10 << 30;
const SPACE: &str = "DISKSPACE";
const INODES: &str = "DISKINODES";
/// Whether somebody has just said how much there is to be.
pub fn changes_size(changes: &[Change]) -> bool {
    changes.iter().any(|change| [SPACE, INODES].contains(&change.key))
}

/// Why a limit is not kept.
pub const UNCOUNTED: &str =
    "the container's files lie in a directory, and nothing on this host counts what is in one";
/// The same, where something would.
const BEFORE: &str =
    "the container's files were made before the filesystem counted what is in their directory";
/// The same of a subvolume.
pub const UNCOUNTED_SUBVOLUME: &str = "quotas of its btrfs are off";
/// And what is never counted of one.
const NO_INODES: &str = "btrfs counts the bytes of a subvolume, not its inodes";
/// Where there is none for a disk.
pub const LOOP_DEVICES: &str = "`modprobe loop` brings them, `losetup -a` lists those that are taken; in a virtual machine or a container /dev/loop-control has to be there";
/// So much more than it may have a full container gets for a new root: as much as an image keeps back.
const FOR_A_ROOT: u64 = 16 << 20;
const INODES_OF_A_ROOT: u64 = 4096;
/// And so much for what is written of an operation, and what overlayfs makes at a mount.
const FOR_RECORDS: u64 = 1 << 20;
const INODES_OF_RECORDS: u64 = 64;

/// What a new container gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// Where its layers lie.
    pub volume: Volume,
    /// Of an image, bytes.
    pub size: u64,
    /// What was said.
    pub space: DiskSpace,
}

/// Decides which volume a new container gets, and writes into its configuration what was not said; with what is not enforced.
///
/// # Errors
/// [`Code::BadValue`]; [`Code::Unsupported`] for a limit that was said by hand and that nothing would see to.
pub fn choose(
    host: &Host,
    named: Option<Volume>,
    conf: &mut Conf,
    changes: &[Change],
) -> Result<(Wanted, Vec<String>)> {
    let configuration = host.configuration()?;
    let bad = |error: LimitsError| {
        Failure::new(Code::BadValue, "the disk of the container cannot be made").caused_by(&error).unchanged()
    };
    let volume = match named {
        Some(volume) => volume,
        None => volume_of(&configuration).map_err(bad)?.unwrap_or(Volume::Directory),
    };
    let space = DiskSpace::from_conf(&[conf, &configuration]).map_err(bad)?;
    let mut warnings = unkept(host, volume, &space, changes)?;
    let size = space.bytes.unwrap_or(USUAL);
    if volume == Volume::Image {
        check_size(size)?;
        let inodes = runtime::volume::inodes(size, space.inodes);
        if let Some(said) = space.inodes.filter(|&said| said != inodes) {
            let most = size / 4096;
            if let Some(change) = changes.iter().find(|change| change.key == INODES) {
                return Err(Failure::new(Code::BadValue, format!("`{}` cannot be used", change.option))
                    .because(format!(
                        "it is {said}: a disk of {} MiB has from 64 to {most} inodes, one for each 4 KiB",
                        size >> 20
                    ))
                    .unchanged()
                    .hint(format!("`{} {inodes}`, or a larger disk with `--diskspace`", change.option)));
            }
            warnings.push(format!(
                "`{INODES}` is {said}, and it gets {inodes}: a disk of {} MiB has from 64 to {most}, one for each 4 KiB",
                size >> 20
            ));
        }
        conf.set(SPACE, &in_blocks(size))?;
    }
    Ok((Wanted { volume, size, space }, warnings))
}

/// What of it nobody sees to, on a volume that is made now.
///
/// # Errors
/// [`Code::Unsupported`] for a volume that cannot be here, and as in [`unenforced`].
pub fn unkept(host: &Host, volume: Volume, space: &DiskSpace, changes: &[Change]) -> Result<Vec<String>> {
    let is_kept = store::counted::is_kept(&host.prefix, volume);
    let private = host.prefix.private_dir();
    match volume {
        Volume::Image => Ok(Vec::new()),
        Volume::Directory if is_kept => Ok(Vec::new()),
        Volume::Directory => unenforced(
            space,
            changes,
            UNCOUNTED,
            "leave it out; `--volume image` has it enforced, and so has a filesystem mounted with `prjquota`",
        ),
        Volume::Btrfs if !store::counted::has_subvolumes(&host.prefix) => {
            Err(Failure::new(Code::Unsupported, "there can be no subvolume for the container")
                .because(format!("{} does not lie on btrfs", private.display()))
                .unchanged()
                .hint("`--volume image` gives it a disk of its own on any filesystem"))
        }
        Volume::Btrfs if is_kept => unenforced(
            &DiskSpace { bytes: None, ..*space },
            changes,
            NO_INODES,
            "leave it out; `--volume image` has it enforced",
        ),
        Volume::Btrfs => unenforced(
            space,
            changes,
            UNCOUNTED_SUBVOLUME,
            &format!(
                "`btrfs quota enable {}` turns them on; `--volume image` has it enforced",
                private.display()
            ),
        ),
    }
}

/// What is said of the disk of a container that nobody counts.
///
/// # Errors
/// [`Code::Unsupported`] for what was said by hand.
pub fn unenforced(space: &DiskSpace, changes: &[Change], because: &str, hint: &str) -> Result<Vec<String>> {
    let mut warnings = Vec::new();
    for key in [(SPACE, space.bytes), (INODES, space.inodes)].into_iter().filter(|(_, limit)| limit.is_some())
    {
        if let Some(change) = changes.iter().find(|change| change.key == key.0) {
            return Err(Failure::new(Code::Unsupported, format!("`{}` cannot be enforced", change.option))
                .because(because)
                .unchanged()
                .hint(hint));
        }
        warnings.push(format!("`{}` is not enforced: {because}", key.0));
    }
    Ok(warnings)
}

fn check_size(bytes: u64) -> Result<()> {
    let (least, most) = (runtime::volume::SMALLEST, runtime::volume::LARGEST);
    if (least..=most).contains(&bytes) {
        return Ok(());
    }
    Err(Failure::new(Code::BadValue, "the disk of the container cannot be made")
        .because(format!(
            "`{SPACE}` is {} MiB: wanted {} MiB to {} TiB",
            bytes >> 20,
            least >> 20,
            most >> 40
        ))
        .unchanged()
        .hint("`--diskspace 10G`"))
}

/// As OpenVZ writes it.
fn in_blocks(bytes: u64) -> String {
    let blocks = bytes / 1024;
    format!("{blocks}:{blocks}")
}

/// Makes the volume of an area that is being made: an image is mounted, a directory or a subvolume counted where somebody counts.
///
/// # Errors
/// [`Code::NoSpace`], [`Code::Unsupported`], [`Code::System`].
pub fn make(host: &Host, area: &Area, wanted: &Wanted) -> Result<()> {
    let is_kept = store::counted::is_kept(&host.prefix, wanted.volume);
    match wanted.volume {
        Volume::Image => make_at(host, area, &area.image(), wanted).map(drop),
        Volume::Directory if is_kept => area.begin_project(&wanted.space).map_err(Failure::from),
        Volume::Directory => Ok(()),
        Volume::Btrfs => {
            area.make_subvolume()?;
            if is_kept { area.limit(&wanted.space).map_err(Failure::from) } else { Ok(()) }
        }
    }
}

/// The same under another name; returns where it is mounted.
///
/// # Errors
/// As in [`make`].
pub fn make_at(host: &Host, area: &Area, image: &Path, wanted: &Wanted) -> Result<PathBuf> {
    let point = host
        .runtime
        .make_volume(area.id(), image, wanted.size, wanted.space.inodes)
        .map_err(|error| refused("cannot make the container's disk", error))?;
    area.begin_volume(&point)?;
    Ok(point)
}

/// Of something that could not be done to a disk.
pub fn refused(what: impl Into<String>, error: RuntimeError) -> Failure {
    let code = match error.kind {
        RuntimeErrorKind::NoSpace => Code::NoSpace,
        RuntimeErrorKind::Busy => Code::Mounted,
        RuntimeErrorKind::NotRunning
        | RuntimeErrorKind::Interrupted
        | RuntimeErrorKind::NotUp
        | RuntimeErrorKind::FileSystem
        | RuntimeErrorKind::Action
        | RuntimeErrorKind::InPart
        | RuntimeErrorKind::NoDevice
        | RuntimeErrorKind::Other => Code::MountFailed,
    };
    let failure = Failure::new(code, what).because(error.because);
    if error.kind == RuntimeErrorKind::NoDevice { failure.hint(LOOP_DEVICES) } else { failure }
}

/// What a change of its settings does to a container's disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resize {
    /// To so many bytes, at once.
    Grow(u64),
    /// To so many bytes, while it is stopped.
    Shrink {
        /// From as many.
        before: u64,
        /// Wanted.
        size: u64,
    },
    /// Of a directory or a subvolume that is counted, at once.
    Limit(DiskSpace),
}

/// What is to be done about the disk where the configuration becomes another; with what is not enforced.
///
/// # Errors
/// As in [`choose`]; [`Code::Running`] where it is to become smaller.
pub fn plan(
    container: &Container<'_>,
    new: &Conf,
    changes: &[Change],
) -> Result<(Option<Resize>, Vec<String>)> {
    let configuration = container.host.configuration()?;
    let bad =
        |error: LimitsError| Failure::new(Code::BadValue, "that cannot be set").caused_by(&error).unchanged();
    let space = DiskSpace::from_conf(&[new, &configuration]).map_err(bad)?;
    let Some((_, size)) = container.area.image_size() else {
        return plan_of_what_is_counted(container, &space, changes);
    };
    if let Some(change) = changes.iter().find(|change| change.key == INODES) {
        return Err(Failure::new(Code::Unsupported, format!("`{}` cannot be enforced", change.option))
            .because("how many inodes an image has is settled when it is made; as it grows it gets more")
            .unchanged()
            .hint("leave it out: one that is made with `--diskinodes` has as many as that"));
    }
    let said = changes.iter().any(|change| change.key == SPACE);
    let bytes = match space.bytes {
        Some(bytes) => bytes,
        None if said => {
            return Err(Failure::new(Code::BadValue, "the disk of the container cannot be without an end")
                .because("it lies in an image, which has a size")
                .unchanged()
                .hint("`--diskspace 100G`: it takes only what is in it"));
        }
        None => return Ok((None, Vec::new())),
    };
    // Whole blocks of the filesystem.
    let bytes = bytes / 4096 * 4096;
    let is_running = container.is_running();
    if bytes == size && !(said && is_running) {
        return Ok((None, Vec::new()));
    }
    check_size(bytes)?;
    // Also to what its file has: a death while it grew has left a filesystem that is smaller, until it is mounted once more.
    if bytes >= size {
        return Ok((Some(Resize::Grow(bytes)), Vec::new()));
    }
    if is_running {
        return Err(Failure::new(Code::Running, "its disk cannot be made smaller while it runs")
            .because(format!("it has {} MiB, and is to have {} MiB", size >> 20, bytes >> 20))
            .unchanged()
            .hint(format!("`prlctl stop {}` first", container.name)));
    }
    Ok((Some(Resize::Shrink { before: size, size: bytes }), Vec::new()))
}

fn plan_of_what_is_counted(
    container: &Container<'_>,
    space: &DiskSpace,
    changes: &[Change],
) -> Result<(Option<Resize>, Vec<String>)> {
    let (host, name, volume) = (container.host, &container.name, container.area.volume());
    let Some(counted) = container.area.counted() else {
        if volume == Volume::Directory && store::counted::is_kept(&host.prefix, volume) {
            let hint = format!(
                "stopped, `prlctl move {name} --volume image` and then `--volume directory` has them counted"
            );
            return Ok((None, unenforced(space, changes, BEFORE, &hint)?));
        }
        if volume == Volume::Directory {
            let hint = format!("`prlctl move {name} --volume image` gives it a disk of its own");
            return Ok((None, unenforced(space, changes, UNCOUNTED, &hint)?));
        }
        return Ok((None, unkept(host, volume, space, changes)?));
    };
    let (space, warnings) = match volume {
        Volume::Directory | Volume::Image => (*space, Vec::new()),
        Volume::Btrfs => (DiskSpace { inodes: None, ..*space }, unkept(host, volume, space, changes)?),
    };
    let limits =
        SpaceLimits { bytes: space.bytes.map(|bytes| bytes.div_ceil(1024) * 1024), inodes: space.inodes };
    if limits == counted.limits {
        return Ok((None, warnings));
    }
    for (key, used, limit) in [(SPACE, counted.bytes, limits.bytes), (INODES, counted.inodes, limits.inodes)]
    {
        // Of one that has been edited by hand no start is refused: it gets no more until it has less.
        if let Some(limit) = limit.filter(|limit| *limit < used)
            && let Some(change) = changes.iter().find(|change| change.key == key)
        {
            let unit = if key == SPACE { "bytes" } else { "inodes" };
            return Err(Failure::new(Code::BadValue, format!("`{}` is less than there is", change.option))
                .because(format!("`{name}` has {used} {unit}, with all of its roots, and is to have {limit}"))
                .unchanged()
                .hint(format!("`prlctl generation-list {name}` shows old roots that may go")));
        }
    }
    Ok((Some(Resize::Limit(space)), warnings))
}

/// Does it.
///
/// # Errors
/// With a disk that is as large as before.
pub fn resize(container: &Container<'_>, resize: Resize) -> Result<()> {
    let image = container.area.image();
    match resize {
        Resize::Limit(space) => {
            container.area.limit(&space).map_err(|error| damaged(error, &container.name).unchanged())
        }
        Resize::Grow(bytes) => {
            container.enter_volume()?;
            container.runtime().grow_volume(container.id(), &image, bytes).map_err(|error| {
                refused("its disk cannot be made larger", error)
                    .unchanged()
                    .hint(format!("while it is stopped it may: `prlctl stop {}`", container.name))
            })
        }
        Resize::Shrink { size, .. } => {
            let busy = |error| {
                refused("its disk cannot be made smaller", error).unchanged().hint(format!(
                    "it needs nobody in it, and room for a copy; `prlctl umount {}` unmounts it",
                    container.name
                ))
            };
            if let Some((taken, _)) = container.area.image_size() {
                // It is copied; where the disk becomes full, those of others fail.
                space::check_host(container.host, Need { who: "a copy of it", bytes: taken, inodes: 1 })?;
            }
            container.runtime().wait_until_gone(container.id()).map_err(busy)?;
            container.runtime().unmount_all(container.id()).map_err(busy)?;
            container.runtime().remake_volume(container.id(), &image, size).map_err(busy)
        }
    }
}

/// Has the layers of a container's generations where they are looked for.
///
/// # Errors
/// [`Code::MountFailed`] when its disk cannot be mounted.
pub fn enter(host: &Host, area: &Area, name: &str) -> Result<()> {
    let image = match area.volume() {
        Volume::Directory => return Ok(()),
        Volume::Btrfs => {
            return area.check_volume().map_err(|error| {
                let path = area.path().join(store::volume::SUBVOLUME);
                damaged(error, name).hint(format!(
                    "put its own {0} back; if it never had one, take that away. Where a copy has made a directory of it: `btrfs subvolume create {0}.new && cp -a --reflink=auto {0}/. {0}.new/`, and the new one under its name",
                    path.display()
                ))
            });
        }
        Volume::Image => area.image(),
    };
    host.runtime.mount_volume(area.id(), &image).map_err(|error| {
        let is_without_device = error.kind == RuntimeErrorKind::NoDevice;
        let refused = refused(format!("the disk of `{name}` cannot be mounted"), error);
        if is_without_device {
            return refused.unchanged();
        }
        let whole = refused.state("nothing was changed; all that it has is in that file");
        if whole.code == Code::NoSpace {
            return whole.hint(format!("make room where it lies: `df {}`", image.display()));
        }
        let looks =
            format!("`e2fsck -f {}` looks at it, and asks before it corrects anything", image.display());
        whole.hint(looks)
    })?;
    area.check_volume().map_err(|error| {
        damaged(error, name).hint(format!("put its own {} back, or delete the container", image.display()))
    })
}

/// The same for whoever has not the container's lock: what is not mounted is mounted while nobody moves, remakes or deletes it.
///
/// # Errors
/// [`Code::Locked`]; as in [`enter`].
pub fn enter_unlocked(host: &Host, area: &Area, name: &str) -> Result<()> {
    if area.volume() == Volume::Directory || area.check_volume().is_ok() {
        return Ok(());
    }
    let _lock = host.lock_container(area.id(), name, Lock::shared)?;
    enter(host, area, name)
}

impl Container<'_> {
    /// See [`enter`].
    ///
    /// # Errors
    /// [`Code::MountFailed`] when its disk cannot be mounted.
    pub fn enter_volume(&self) -> Result<()> {
        enter(self.host, &self.area, &self.name)
    }

    /// The directory with `delta/` and `work/` of a generation.
    ///
    /// # Errors
    /// As in [`Container::enter_volume`].
    pub fn layers_dir(&self, number: GenerationNumber) -> Result<PathBuf> {
        self.enter_volume()?;
        Ok(self.area.layers_dir(number))
    }

    /// Has what is configured of its disk hold, should somebody have edited that; what is not so, is told.
    pub fn follow_disk_space(&self) {
        let Ok(conf) = self.area.conf() else { return };
        match plan(self, &conf, &[]) {
            Ok((Some(now @ (Resize::Grow(_) | Resize::Limit(_))), _)) => {
                if let Err(failure) = resize(self, now) {
                    self.host.warning(&failure.reason());
                }
            }
            Ok((Some(Resize::Shrink { .. }), _)) => self.host.warning(&format!(
                "its disk is larger than `{SPACE}` says: `prlctl set {} --diskspace SIZE` while it is stopped makes it smaller",
                self.name
            )),
            Ok((None, _)) => {}
            Err(failure) => self.host.warning(&failure.reason()),
        }
    }

    /// Whether a directory or a subvolume that is counted may have that much more: what it may have, and as much as an image keeps back for a new root. Nothing is changed.
    ///
    /// # Errors
    /// [`Code::NoSpace`].
    pub fn has_room(&self, need: Need) -> Result<()> {
        let Some(counted) = self.area.counted() else { return Ok(()) };
        let most = counted.limits.bytes.map_or(u64::MAX, |limit| limit.saturating_add(FOR_A_ROOT));
        let free = most.saturating_sub(counted.bytes);
        if free >= need.bytes {
            return Ok(());
        }
        Err(Failure::new(Code::NoSpace, format!("the disk of `{}` is full", self.name))
            .because(format!("{} needs {} KiB, and {} KiB are free", need.who, need.bytes / 1024, free / 1024))
            .unchanged()
            .hint(format!(
                "`prlctl set {0} --diskspace SIZE` makes it larger; `prlctl generation-list {0}` shows old roots that may go",
                self.name
            )))
    }

    /// Lets one that is counted and full have what an operation or a start of it writes, until [`Container::keep_to_disk_space`]. One that has had that already
    /// gets no more than the records take: nobody grows by asking again and again.
    pub fn make_room(&self) {
        let Some(counted) = self.area.counted() else { return };
        let more = |limit: Option<u64>, used: u64, (usual, least): (u64, u64)| {
            limit.map(|limit| limit.max(used + if used <= limit { usual } else { least }))
        };
        let more = DiskSpace {
            bytes: more(counted.limits.bytes, counted.bytes, (FOR_A_ROOT, FOR_RECORDS)),
            inodes: more(counted.limits.inodes, counted.inodes, (INODES_OF_A_ROOT, INODES_OF_RECORDS)),
        };
        // Where that cannot be had, whatever is written next says so.
        let _ = self.area.limit(&more);
    }

    /// Has one that is counted keep to what is configured, once nothing is written any more that was let have more.
    pub fn keep_to_disk_space(&self) {
        if self.area.counted().is_some() {
            self.follow_disk_space();
        }
    }

    /// Gives back to the host's disk what is free of its own ones. What keeps one of them from it keeps none of the others.
    ///
    /// # Errors
    /// [`Code::Unsupported`] where it has none of its own; for the first that could not be.
    pub fn compact(&self) -> Result<Compacted> {
        let conf = self.area.conf().map_err(|error| damaged(error, &self.name))?;
        let beside = Disks::of(&conf).unwrap_or_default().own;
        let is_in_image = self.area.volume() == Volume::Image;
        if !is_in_image && beside.is_empty() {
            return Err(Failure::new(Code::Unsupported, format!("`{}` cannot be compacted", self.name))
                .because("its files lie on the host's filesystem, where they take no more than they are")
                .unchanged()
                .hint("there is nothing to do"));
        }
        let (mut compacted, mut failures) = (Compacted::default(), Vec::new());
        let mut add = |done: Result<(u64, u64)>| match done {
            Ok((before, after)) => {
                compacted.before += before;
                compacted.after += after;
            }
            Err(failure) => failures.push(failure),
        };
        if is_in_image {
            add(self.enter_volume().and_then(|()| self.compact_image(&self.area.image())));
        }
        let mut warnings = Vec::new();
        for disk in &beside {
            if self.area.disk_size(disk.number).is_none() {
                let image = self.area.disk_image(disk.number);
                warnings.push(format!("{} is not there: {}", disk.number, image.display()));
                continue;
            }
            add(self
                .enter_own_disk(disk)
                .and_then(|()| self.compact_image(&self.area.disk_image(disk.number))));
            if !disk.is_enabled {
                self.runtime().release_disk(self.id(), disk.number);
            }
        }
        compacted.warnings = warnings;
        let Some(first) = failures.into_iter().next() else { return Ok(compacted) };
        let what = format!("`{}` cannot be compacted", self.name);
        Err(if first.what == what { first } else { first.within(what) }
            .state("what else it has was compacted; nothing was lost"))
    }

    /// How many bytes of the host's disk it took, and takes.
    fn compact_image(&self, image: &Path) -> Result<(u64, u64)> {
        let taken = || std::fs::symlink_metadata(image).map_or(0, |found| found.blocks() * 512);
        let before = taken();
        self.runtime()
            .compact_volume(self.id(), image)
            .map_err(|error| refused(format!("`{}` cannot be compacted", self.name), error))?;
        // What is told lies on the disk when the file does.
        std::fs::File::open(image).and_then(|file| file.sync_all()).map_err(|error| {
            damaged(store::AreaError::Unreadable { path: image.to_owned(), source: error }, &self.name)
        })?;
        Ok((before, taken()))
    }
}

/// What came of [`Container::compact`].
#[derive(Debug, Default)]
pub struct Compacted {
    /// How many bytes its disks took of the host's.
    pub before: u64,
    /// And take.
    pub after: u64,
    /// What is not as it should be.
    pub warnings: Vec<String>,
}
