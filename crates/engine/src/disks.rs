//! `DISK`: a container's disks beside that of its root, in files of its private area.
//!
//! An entry names a file and says which disk is to be in it; the disk says that, too, and whose it is. What counts of a size is how large the file is.

use std::path::Path;

use store::{Area, Conf, Disk, DiskNumber, Disks, InnerPath, MountFlags, disks};

use crate::attachments::bad;
use crate::error::{Code, Failure, Result};
use crate::host::{Container, Host, damaged};
use crate::runtime::RuntimeError;
use crate::space::{self, Need};
use crate::volume::refused as not_mounted;

/// What a new disk takes before anything is on it.
const DISK: Need = Need { who: "a new disk", bytes: 16 << 20, inodes: 1 };

/// What becomes of a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeviceChange {
    /// There is one more.
    Add {
        /// Bytes; none for one that is there already.
        size: Option<u64>,
        /// Where in the container.
        at: InnerPath,
        /// What it forbids.
        flags: MountFlags,
        /// One that was detached.
        image: Option<DiskNumber>,
    },
    /// It is another way.
    Set {
        /// `hdd1`, or its UUID.
        which: String,
        /// Bytes.
        size: Option<u64>,
        /// Where in the container.
        at: Option<InnerPath>,
        /// What it forbids.
        flags: Option<MountFlags>,
        /// Mounted, or not.
        is_enabled: Option<bool>,
    },
    /// The container has it no more.
    Remove {
        /// `hdd1`, or its UUID.
        which: String,
        /// And what is on it is deleted.
        is_destroyed: bool,
    },
}

/// What has to be done beside the configuration.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Work {
    make: Option<Disk>,
    take: Option<Disk>,
    resize: Option<Resize>,
    discard: Option<DiskNumber>,
    /// What it is told about.
    notes: Vec<String>,
}

/// Another size, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Resize {
    number: DiskNumber,
    before: u64,
    size: u64,
}

impl Work {
    fn smaller(&self) -> Option<Resize> {
        self.resize.filter(|resize| resize.size < resize.before)
    }

    fn larger(&self) -> Option<Resize> {
        self.resize.filter(|resize| resize.before < resize.size)
    }

    /// A disk becomes larger or smaller.
    pub fn changes_size(&self) -> bool {
        self.resize.is_some()
    }

    /// A configuration as it is written before the disk is made larger: an entry never says more than the file is.
    pub fn not_yet_larger(&self, conf: &Conf) -> Conf {
        let mut written = conf.clone();
        if let Some(Resize { number, before, .. }) = self.larger() {
            let _ = set_size(&mut written, number, before);
        }
        written
    }
}

/// Has an entry say how large its disk is; whether it said something else.
fn set_size(conf: &mut Conf, number: DiskNumber, size: u64) -> Result<bool> {
    let mut all = of_disks(conf)?;
    let Some(disk) = all.own.iter_mut().find(|disk| disk.number == number && disk.size != size) else {
        return Ok(false);
    };
    disk.size = size;
    conf.set(disks::KEY, &all.write())?;
    Ok(true)
}

impl DeviceChange {
    /// Writes it into the configuration of a container that is to be; the disk that is to be made.
    ///
    /// # Errors
    /// [`Code::BadValue`], also for what is done with disks that are there.
    pub(crate) fn first(&self, conf: &mut Conf) -> Result<Disk> {
        let (DeviceChange::Add { size: Some(size), at, flags, image: None }, Some(number)) =
            (self, DiskNumber::all().next())
        else {
            return Err(bad("--device-add", "hdd", "`--size` and `--mnt` beside it: it has no disk yet"));
        };
        check_size(*size)?;
        let disk = Disk::new(number, uuid::Uuid::new_v4(), size / 4096 * 4096, at.clone(), *flags);
        conf.set(disks::KEY, &Disks { own: vec![disk.clone()], foreign: Vec::new() }.write())?;
        of_disks(conf)?;
        Ok(disk)
    }

    /// Writes it into the configuration of a container; what else has to be done.
    ///
    /// # Errors
    /// [`Code::BadValue`], with nothing changed.
    pub fn apply(&self, area: &Area, conf: &mut Conf) -> Result<Work> {
        let mut all = of_disks(conf)?;
        let mut work = Work::default();
        match self {
            DeviceChange::Add { size, at, flags, image } => {
                let disk = add(area, &all, (*size, at, *flags, *image), &mut work)?;
                all.own.push(disk);
            }
            DeviceChange::Set { which, size, at, flags, is_enabled } => {
                let number = find(&all, which)?.number;
                for disk in all.own.iter_mut().filter(|disk| disk.number == number) {
                    disk.at = at.clone().unwrap_or_else(|| disk.at.clone());
                    disk.flags = flags.unwrap_or(disk.flags);
                    disk.is_enabled = is_enabled.unwrap_or(disk.is_enabled);
                    if let Some(size) = *size {
                        check_size(size)?;
                        let (before, _) = area.disk_size(number).ok_or_else(|| gone(area, number))?;
                        let size = size / 4096 * 4096;
                        work.resize = (before != size).then_some(Resize { number, before, size });
                        disk.size = size;
                    }
                }
            }
            DeviceChange::Remove { which, is_destroyed } => {
                let number = find(&all, which)?.number;
                all.own.retain(|disk| disk.number != number);
                if *is_destroyed {
                    work.discard = Some(number);
                } else {
                    let image = area.disk_image(number);
                    work.notes.push(format!(
                        "what is on {number} is still in {}: `--device-add hdd --image {} --mnt PATH` brings it back, and `rm` deletes it",
                        image.display(),
                        number.image()
                    ));
                }
            }
        }
        conf.set(disks::KEY, &all.write())?;
        of_disks(conf)?;
        Ok(work)
    }
}

fn add(
    area: &Area,
    all: &Disks,
    (size, at, flags, image): (Option<u64>, &InnerPath, MountFlags, Option<DiskNumber>),
    work: &mut Work,
) -> Result<Disk> {
    let is_free = |number: &DiskNumber| all.own.iter().all(|disk| disk.number != *number);
    let uuid = uuid::Uuid::new_v4();
    let Some(number) = image else {
        let size = size.ok_or_else(|| bad("--device-add", "hdd", "`--size` beside it"))?;
        check_size(size)?;
        // A file that nobody names is somebody's detached disk.
        let number = DiskNumber::all()
            .find(|number| is_free(number) && area.disk_size(*number).is_none())
            .ok_or_else(|| {
                Failure::new(Code::BadValue, "there can be no more disks")
                    .because(format!(
                        "{} is the last one, and each has its file",
                        DiskNumber::all().last().map_or_else(String::new, |last| last.to_string())
                    ))
                    .unchanged()
                    .hint("`--device-del hddN --destroy-image` deletes one")
            })?;
        let disk = Disk::new(number, uuid, size / 4096 * 4096, at.clone(), flags);
        work.make = Some(disk.clone());
        return Ok(disk);
    };
    if size.is_some() {
        return Err(bad(
            "--size",
            "",
            "none beside `--image`: a disk that is there has one; `--device-set` changes it",
        ));
    }
    if !is_free(&number) {
        return Err(bad("--image", &number.image(), "one that is detached: it has that one"));
    }
    let (size, _) = area.disk_size(number).ok_or_else(|| gone(area, number))?;
    let disk = Disk::new(number, uuid, size, at.clone(), flags);
    work.take = Some(disk.clone());
    Ok(disk)
}

pub(crate) fn of_disks(conf: &Conf) -> Result<Disks> {
    Disks::of(conf).map_err(|error| {
        Failure::new(Code::BadValue, format!("`{}` cannot be used", disks::KEY)).caused_by(&error).unchanged()
    })
}

fn find<'a>(all: &'a Disks, which: &str) -> Result<&'a Disk> {
    all.find(which).ok_or_else(|| {
        let names: Vec<String> = all.own.iter().map(|disk| disk.number.to_string()).collect();
        let shown = tree::escaped(&which.as_bytes()[..which.len().min(80)]);
        Failure::new(Code::BadValue, format!("it has no disk `{shown}`"))
            .because(match names.is_empty() {
                true => "it has none but that of its root".to_owned(),
                false => format!("beside that of its root it has {}", names.join(", ")),
            })
            .unchanged()
            .hint("`prlctl list -i NAME` lists them; `--diskspace` is for that of its root")
    })
}

fn check_size(bytes: u64) -> Result<()> {
    let (least, most) = (runtime::volume::SMALLEST, runtime::volume::LARGEST);
    if (least..=most).contains(&bytes) {
        return Ok(());
    }
    Err(bad("--size", &format!("{} MiB", bytes >> 20), "32 MiB to 16 TiB"))
}

pub(crate) fn gone(area: &Area, number: DiskNumber) -> Failure {
    Failure::new(Code::MountFailed, format!("the disk {number} of `{}` is not there", area.display_name()))
        .because(format!("there is no file {}", area.disk_image(number).display()))
        .unchanged()
        .hint(format!(
            "put it back, or `prlctl set {0} --device-del {number}`, or `--device-set {number} --disable`",
            area.display_name()
        ))
}

impl Container<'_> {
    /// Has the disk mounted on the host; which it says that it is.
    fn enter_disk(&self, number: DiskNumber) -> Result<uuid::Uuid> {
        let image = self.area.disk_image(number);
        self.runtime().mount_volume(self.id(), &image).map_err(|error| {
            not_mounted(format!("the disk {number} of `{}` cannot be mounted", self.name), error)
                .state("nothing was changed; all that it has is in that file")
                .hint(format!(
                    "`e2fsck -f {}` looks at it, and asks before it corrects anything",
                    image.display()
                ))
        })?;
        let point = disks::mount_point(&self.host.prefix, self.id(), number);
        self.area.disk_uuid(&point).map_err(|error| {
            damaged(error, &self.name)
                .hint(format!("put its own {} back, or `--device-del {number}`", image.display()))
        })
    }

    /// The same, and it is the one that its entry names.
    ///
    /// # Errors
    /// [`Code::MountFailed`], [`Code::Damaged`].
    pub(crate) fn enter_own_disk(&self, disk: &Disk) -> Result<()> {
        if self.area.disk_size(disk.number).is_none() {
            return Err(gone(&self.area, disk.number));
        }
        let is = self.enter_disk(disk.number)?;
        if is == disk.uuid {
            return Ok(());
        }
        Err(self.another_disk(disk.number, &format!("it is {is}, and `{}` has {}", disks::KEY, disk.uuid)))
    }

    fn another_disk(&self, number: DiskNumber, because: &str) -> Failure {
        Failure::new(Code::Damaged, format!("the disk {number} of `{}` is another one", self.name))
            .because(because)
            .unchanged()
            .hint(format!(
                "put its own {} back, or correct its ve.conf",
                self.area.disk_image(number).display()
            ))
    }

    /// What can be known before anything is done.
    ///
    /// # Errors
    /// [`Code::Running`].
    pub(crate) fn check_disk_work(&self, work: &Work) -> Result<()> {
        let Some(Resize { number, before, size }) = work.smaller() else { return Ok(()) };
        if self.is_running() {
            return Err(Failure::new(
                Code::Running,
                format!("the disk {number} cannot be made smaller while it runs"),
            )
            .because(format!("it has {} MiB, and is to have {} MiB", before >> 20, size >> 20))
            .unchanged()
            .hint(format!("`prlctl stop {}` first", self.name)));
        }
        Ok(())
    }

    /// Makes the disk that there is to be, or looks whose the one is that is taken.
    ///
    /// # Errors
    /// With nothing done.
    pub(crate) fn make_or_take_disk(&self, work: &Work, conf: &mut Conf) -> Result<()> {
        if let Some(disk) = &work.make {
            return make(self.host, &self.area, disk);
        }
        if let Some(disk) = &work.take {
            // As which it was made is what it is called by.
            let is = self.enter_disk(disk.number)?;
            let mut all = of_disks(conf)?;
            all.own.iter_mut().filter(|one| one.number == disk.number).for_each(|one| one.uuid = is);
            conf.set(disks::KEY, &all.write())?;
        }
        Ok(())
    }

    fn resize_refused(&self, number: DiskNumber, error: RuntimeError) -> Failure {
        not_mounted(format!("the disk {number} cannot be made as large as that"), error)
            .unchanged()
            .hint(format!("while it is stopped it may: `prlctl stop {}`", self.name))
    }

    /// Makes one smaller, which is stopped.
    ///
    /// # Errors
    /// With nothing done.
    pub(crate) fn make_smaller(&self, work: &Work) -> Result<()> {
        let Some(Resize { number, size, .. }) = work.smaller() else { return Ok(()) };
        if let Some((_, taken)) = self.area.disk_size(number) {
            space::check_host(self.host, Need { who: "a copy of it", bytes: taken, inodes: 1 })?;
        }
        let image = self.area.disk_image(number);
        let remade = self
            .runtime()
            .wait_until_gone(self.id())
            .and_then(|()| self.runtime().remake_volume(self.id(), &image, size));
        remade.map_err(|error| self.resize_refused(number, error))
    }

    /// Takes that back.
    pub(crate) fn make_as_large_as_before(&self, work: &Work) {
        let Some(Resize { number, before, .. }) = work.smaller() else { return };
        if self.enter_disk(number).is_ok() {
            let _ = self.runtime().grow_volume(self.id(), &self.area.disk_image(number), before);
        }
        self.runtime().release_disk(self.id(), number);
    }

    /// Makes one larger, at once, and then has its entry say so. Should that not be had, it is as large as that nevertheless, and the next command writes it.
    ///
    /// # Errors
    /// With nothing done.
    pub(crate) fn make_larger(&self, work: &Work, conf: &Conf) -> Result<Option<String>> {
        let Some(Resize { number, size, .. }) = work.larger() else { return Ok(None) };
        let grown = self.enter_disk(number).and_then(|_| {
            let image = self.area.disk_image(number);
            self.runtime()
                .grow_volume(self.id(), &image, size)
                .map_err(|error| self.resize_refused(number, error))
        });
        if let Err(failure) = grown {
            if !self.is_running() {
                self.runtime().release_disk(self.id(), number);
            }
            return Err(failure);
        }
        let written = self.area.store_conf(conf);
        Ok(written.err().map(|error| {
            let because = runtime::monitor::describe(&error);
            format!("{number} has its new size, which is not in its ve.conf yet: {because}")
        }))
    }

    /// Takes back what was made: nothing is on it. What stays.
    pub(crate) fn unmake_disk(&self, work: &Work) -> Option<String> {
        if let Some(Disk { number, at, .. }) = &work.make {
            // Somebody inside may write to it.
            let is_in_use = self.is_running() && self.runtime().detach(self.id(), at).is_err();
            if is_in_use {
                return Some(format!(
                    "the new disk is in use in it at {at}, and stays as {}, detached",
                    number.image()
                ));
            }
            self.runtime().release_disk(self.id(), *number);
            let _ = self.area.discard_disk(&self.host.prefix, *number);
        }
        if let Some(disk) = &work.take
            && !self.is_running()
        {
            self.runtime().release_disk(self.id(), disk.number);
        }
        None
    }

    /// Does what comes when the configuration is written: what is deleted is deleted last.
    pub(crate) fn conclude(&self, work: &Work) -> Vec<String> {
        let mut warnings = work.notes.clone();
        let touched = [work.make.as_ref(), work.take.as_ref()].into_iter().flatten().map(|disk| disk.number);
        if !self.is_running() {
            for number in touched.chain(work.resize.map(|resize| resize.number)) {
                self.runtime().release_disk(self.id(), number);
            }
        }
        let Some(number) = work.discard else { return warnings };
        self.runtime().release_disk(self.id(), number);
        if let Err(error) = self.area.discard_disk(&self.host.prefix, number) {
            warnings.push(format!(
                "{} is still there: {}",
                self.area.disk_image(number).display(),
                runtime::monitor::describe(&error)
            ));
        }
        warnings
    }
}

/// Makes a disk, which stays mounted; also of an area that is being made.
///
/// # Errors
/// With nothing of it left.
pub(crate) fn make(host: &Host, area: &Area, disk: &Disk) -> Result<()> {
    space::check_host(host, DISK)?;
    let mut record = area.record().map_err(|error| damaged(error, &area.display_name()))?;
    let staged = area.staged_disk(disk.number);
    let _ = rustix::fs::unlink(&staged);
    let made = (|| {
        let point = host
            .runtime
            .make_volume(area.id(), &staged, disk.size, None)
            .map_err(|error| not_mounted("cannot make the disk", error))?;
        area.begin_disk(&point, disk.uuid)?;
        // Whoever finds the disk has to know of disks.
        Area::need_disks(&mut record);
        area.store_record(&record)?;
        // A death before it: a file with a name that is swept. After it: a disk with nothing on it that is detached.
        Ok(area.take_disk(disk.number)?)
    })();
    if made.is_err() {
        host.runtime.release_disk(area.id(), disk.number);
        let _ = rustix::fs::unlink(&staged);
    }
    made
}

/// Has each entry say how large its disk is, and each filesystem be as large as its file: a death, or an error, may have come in between. What cannot be done now, the
/// next command tries.
pub fn put_sizes_right(container: &Container<'_>) {
    let Ok(mut conf) = container.area.conf() else { return };
    let mut is_changed = false;
    for disk in Disks::of(&conf).unwrap_or_default().own {
        let Some((size, _)) = container.area.disk_size(disk.number) else { continue };
        // In whole blocks of 1 KiB, as it is written.
        if size / 1024 == disk.size / 1024 {
            continue;
        }
        if size > disk.size && container.enter_own_disk(&disk).is_ok() {
            let image = container.area.disk_image(disk.number);
            let _ = container.runtime().grow_volume(container.id(), &image, size);
            if !container.is_running() {
                container.runtime().release_disk(container.id(), disk.number);
            }
        }
        is_changed |= set_size(&mut conf, disk.number, size).unwrap_or(false);
    }
    if is_changed {
        let _ = container.area.store_conf(&conf);
    }
}

/// Files of disks that no entry names.
pub fn detached(area: &Area, conf: &Conf) -> Vec<DiskNumber> {
    let known = Disks::of(conf).unwrap_or_default();
    let is_known = |number: &DiskNumber| known.own.iter().any(|disk| disk.number == *number);
    DiskNumber::all().filter(|number| !is_known(number) && area.disk_size(*number).is_some()).collect()
}

/// The file of a disk, by its name alone.
///
/// # Errors
/// [`Code::BadValue`].
pub fn image_named(text: &str) -> Result<DiskNumber> {
    DiskNumber::of_image(Path::new(text))
        .filter(|number| number.image() == text)
        .ok_or_else(|| bad("--image", text, "the name of a detached disk in the private area, `hdd1.img`"))
}
