//! What is mounted in a container's root and is no part of it: `BINDMOUNT`, what it sees of the host, and `DISK`, its disks beside that of the root.
//!
//! They belong to the container and not to a root: a reinstall mounts them in the new one, nothing of them is at `/old`, and they are not copied, tried out or
//! undone with a root. On probation the new root has them as the old one had, to be written: a database that finds its disk read-only would not come up, and
//! what a copy of it took in would be lost. So what a root writes there before it is given up stays written.

use std::path::Path;

use runtime::attachments::{Attachment, Source, open_source};
use store::{Area, BIND_MOUNTS, BindMount, Conf, Disk, DiskNumber, Disks, InnerPath, MountFlags, disks};

use crate::error::{Code, Failure, Result};
use crate::host::{Container, damaged};
use crate::space::{self, Need};
use crate::volume::refused as not_mounted;

/// What a new disk takes before anything is on it.
const DISK: Need = Need { who: "a new disk", bytes: 16 << 20, inodes: 1 };

/// `--bindmount_add`, `--bindmount_del`, `--device-add`, `--device-set`, `--device-del`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AttachmentChange {
    /// What of the host it sees besides.
    pub bind: Vec<BindMount>,
    /// What it sees no more, by where it is in the container.
    pub unbind: Vec<InnerPath>,
    /// Nothing of what it saw stays.
    pub unbinds_all: bool,
    /// What becomes of one disk.
    pub device: Option<DeviceChange>,
}

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
    resize: Option<(DiskNumber, u64, u64)>,
    discard: Option<DiskNumber>,
    /// What it is told about.
    notes: Vec<String>,
}

impl AttachmentChange {
    /// Nothing was asked for.
    pub fn is_empty(&self) -> bool {
        *self == AttachmentChange::default()
    }

    /// Understands what was typed behind `--bindmount_add` and `--bindmount_del`.
    ///
    /// # Errors
    /// [`Code::BadValue`].
    pub fn read_binds(add: &[String], remove: &[String]) -> Result<AttachmentChange> {
        let mut change = AttachmentChange::default();
        for word in add {
            change.bind.push(word.parse().map_err(|error: store::BindMountError| {
                Failure::new(Code::BadValue, "`--bindmount_add` cannot be used").caused_by(&error).unchanged()
            })?);
        }
        for word in remove {
            match word.parse() {
                _ if word == "all" => change.unbinds_all = true,
                Ok(at) => change.unbind.push(at),
                Err(wanted) => return Err(bad("--bindmount_del", word, wanted)),
            }
        }
        Ok(change)
    }

    /// Writes the bind mounts into a configuration.
    ///
    /// # Errors
    /// [`Code::BadValue`].
    pub fn apply_binds(&self, conf: &mut Conf) -> Result<()> {
        if self.bind.is_empty() && self.unbind.is_empty() && !self.unbinds_all {
            return Ok(());
        }
        let mut all = if self.unbinds_all {
            Vec::new()
        } else {
            BindMount::all(conf).map_err(|error| {
                Failure::new(Code::BadValue, format!("`{BIND_MOUNTS}` cannot be used"))
                    .caused_by(&error)
                    .hint("`--bindmount_del all` takes away all that is there")
            })?
        };
        for at in &self.unbind {
            let before = all.len();
            all.retain(|one| one.at != *at);
            if all.len() == before {
                return Err(bad("--bindmount_del", at.as_str(), "where one of its bind mounts is"));
            }
        }
        for one in &self.bind {
            all.retain(|other| other.at != one.at);
            all.push(one.clone());
        }
        conf.set(BIND_MOUNTS, &BindMount::write(&all))?;
        // Once more, for what holds for all of them together.
        BindMount::all(conf).map_err(|error| {
            Failure::new(Code::BadValue, "`--bindmount_add` cannot be used").caused_by(&error)
        })?;
        Ok(())
    }

    /// Writes all of it into the configuration of a container; what else has to be done.
    ///
    /// # Errors
    /// [`Code::BadValue`], with nothing changed.
    pub fn apply(&self, area: &Area, conf: &mut Conf) -> Result<Work> {
        self.apply_binds(conf)?;
        let Some(device) = &self.device else { return Ok(Work::default()) };
        let mut all = of_disks(conf)?;
        let mut work = Work::default();
        match device {
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
                        work.resize = (before != size).then_some((number, before, size));
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

fn of_disks(conf: &Conf) -> Result<Disks> {
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

/// An option with a value that it cannot have.
pub fn bad(option: &str, value: &str, wanted: &str) -> Failure {
    let shown = tree::escaped(&value.as_bytes()[..value.len().min(200)]);
    Failure::new(Code::BadValue, format!("`{option} {shown}` cannot be used"))
        .because(format!("wanted {wanted}"))
        .unchanged()
}

fn gone(area: &Area, number: DiskNumber) -> Failure {
    Failure::new(Code::MountFailed, format!("the disk {number} of `{}` is not there", area.display_name()))
        .because(format!("there is no file {}", area.disk_image(number).display()))
        .unchanged()
        .hint(format!(
            "put it back, or `prlctl set {0} --device-del {number}`, or `--device-set {number} --disable`",
            area.display_name()
        ))
}

/// All that is to be mounted, parents before what is below them.
///
/// # Errors
/// In one line, what of the configuration cannot be.
pub fn configured(area: &Area, conf: &Conf) -> std::result::Result<Vec<Attachment>, String> {
    let binds = BindMount::all(conf).map_err(|error| format!("`{BIND_MOUNTS}`: {error}"))?;
    let all = Disks::of(conf).map_err(|error| format!("`{}`: {error}", disks::KEY))?;
    let mut found: Vec<Attachment> = binds
        .into_iter()
        .map(|one| Attachment {
            name: one.source.clone(),
            source: Source::Host(one.source.into()),
            at: one.at,
            flags: one.flags,
        })
        .collect();
    for disk in all.own.into_iter().filter(|disk| disk.is_enabled) {
        let source = Source::Disk(area.disk_image(disk.number));
        found.push(Attachment { name: disk.number.to_string(), source, at: disk.at, flags: disk.flags });
    }
    found.sort_by(|one, other| one.at.cmp(&other.at));
    match found.windows(2).find(|pair| pair[0].at == pair[1].at) {
        Some(pair) => Err(format!("`{}` and `{}` are both at {}", pair[0].name, pair[1].name, pair[0].at)),
        None => Ok(found),
    }
}

impl Container<'_> {
    /// What a start mounts, each looked at: it is there, and it is this container's.
    ///
    /// # Errors
    /// [`Code::MountFailed`], [`Code::BadValue`], [`Code::Damaged`].
    pub fn attachments(&self, conf: &Conf) -> Result<Vec<Attachment>> {
        let found = configured(&self.area, conf).map_err(|because| {
            Failure::new(Code::BadValue, format!("the configuration of `{}` cannot be used", self.name))
                .because(because)
                .unchanged()
                .hint(format!("correct it in {}", self.area.path().join("ve.conf").display()))
        })?;
        for one in &found {
            self.check_attachment(one)?;
        }
        for disk in of_disks(conf)?.own.iter().filter(|disk| disk.is_enabled) {
            let is = self.enter_disk(disk.number)?;
            if is != disk.uuid {
                return Err(self.another_disk(
                    disk.number,
                    &format!("it is {is}, and `{}` has {}", disks::KEY, disk.uuid),
                ));
            }
        }
        Ok(found)
    }

    /// It is there; without a look into it.
    pub(crate) fn check_attachment(&self, one: &Attachment) -> Result<()> {
        match &one.source {
            Source::Disk(image) => match DiskNumber::of_image(image) {
                Some(number) if self.area.disk_size(number).is_none() => Err(gone(&self.area, number)),
                Some(_) | None => Ok(()),
            },
            Source::Host(path) => open_source(&self.host.prefix, path).map(drop).map_err(|error| {
                Failure::new(
                    Code::MountFailed,
                    format!("`{}` cannot be mounted in `{}`", tree::escaped_path(path), self.name),
                )
                .caused_by(&error)
                .unchanged()
                .hint(format!("put that right, or `prlctl set {} --bindmount_del {}`", self.name, one.at))
            }),
        }
    }

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

    fn another_disk(&self, number: DiskNumber, because: &str) -> Failure {
        Failure::new(Code::Damaged, format!("the disk {number} of `{}` is another one", self.name))
            .because(because)
            .unchanged()
            .hint(format!(
                "put its own {} back, or correct its ve.conf",
                self.area.disk_image(number).display()
            ))
    }

    /// Does what comes before the configuration is written; what of it is to be taken back should that fail.
    ///
    /// # Errors
    /// With nothing done.
    pub(crate) fn begin(&self, work: &Work, conf: &mut Conf) -> Result<()> {
        if let Some(disk) = &work.make {
            return self.make_disk(disk);
        }
        if let Some(disk) = &work.take {
            // As which it was made is what it is called by.
            let is = self.enter_disk(disk.number)?;
            let mut all = of_disks(conf)?;
            all.own.iter_mut().filter(|one| one.number == disk.number).for_each(|one| one.uuid = is);
            conf.set(disks::KEY, &all.write())?;
            return Ok(());
        }
        let Some((number, before, size)) = work.resize else { return Ok(()) };
        let image = self.area.disk_image(number);
        let what = |error| {
            not_mounted(format!("the disk {number} cannot be made as large as that"), error)
                .unchanged()
                .hint(format!("while it is stopped it may: `prlctl stop {}`", self.name))
        };
        if before < size {
            self.enter_disk(number)?;
            return self.runtime().grow_volume(self.id(), &image, size).map_err(what);
        }
        if self.is_running() {
            return Err(Failure::new(
                Code::Running,
                format!("the disk {number} cannot be made smaller while it runs"),
            )
            .because(format!("it has {} MiB, and is to have {} MiB", before >> 20, size >> 20))
            .unchanged()
            .hint(format!("`prlctl stop {}` first", self.name)));
        }
        if let Some((_, taken)) = self.area.disk_size(number) {
            space::check_host(self.host, Need { who: "a copy of it", bytes: taken, inodes: 1 })?;
        }
        self.runtime().wait_until_gone(self.id()).map_err(what)?;
        self.runtime().remake_volume(self.id(), &image, size).map_err(what)
    }

    fn make_disk(&self, disk: &Disk) -> Result<()> {
        space::check_host(self.host, DISK)?;
        let mut record = self.area.record().map_err(|error| damaged(error, &self.name))?;
        let staged = self.area.staged_disk(disk.number);
        let _ = rustix::fs::unlink(&staged);
        let made = (|| {
            let point = self
                .runtime()
                .make_volume(self.id(), &staged, disk.size, None)
                .map_err(|error| not_mounted("cannot make the disk", error))?;
            self.area.begin_disk(&point, disk.uuid)?;
            // Whoever finds the disk has to know of disks.
            Area::need_disks(&mut record);
            self.area.store_record(&record)?;
            // A death before it: a file with a name that is swept. After it: a disk with nothing on it that is detached.
            Ok(self.area.take_disk(disk.number)?)
        })();
        if made.is_err() {
            self.runtime().release_disk(self.id(), disk.number);
            let _ = rustix::fs::unlink(&staged);
        }
        made
    }

    /// Takes back what [`Container::begin`] has made: nothing is on it.
    pub(crate) fn take_back(&self, work: &Work) {
        if let Some(disk) = &work.make {
            // One that somebody inside may write to stays, detached; the list tells of it.
            let is_in_use = self.is_running() && self.runtime().detach(self.id(), &disk.at).is_err();
            if is_in_use {
                return;
            }
            self.runtime().release_disk(self.id(), disk.number);
            let _ = self.area.discard_disk(&self.host.prefix, disk.number);
        }
    }

    /// Does what comes when the configuration is written: what is deleted is deleted last.
    pub(crate) fn conclude(&self, work: &Work) -> Vec<String> {
        let mut warnings = work.notes.clone();
        let touched = [work.make.as_ref(), work.take.as_ref()].into_iter().flatten().map(|disk| disk.number);
        if !self.is_running() {
            for number in touched.chain(work.resize.map(|(number, ..)| number)) {
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

    /// Has a container that runs see what it is to see from now on; what of it only its next start brings. Nothing of it, with an error.
    ///
    /// # Errors
    /// [`Code::Mounted`], [`Code::MountFailed`].
    pub(crate) fn follow_attachments(&self, old: &Conf, new: &Conf) -> Result<Vec<String>> {
        let before = configured(&self.area, old).unwrap_or_default();
        let after = configured(&self.area, new).unwrap_or_default();
        let ids = self.area.record().map_err(|error| damaged(error, &self.name))?.id_range;
        let going: Vec<&Attachment> = before.iter().rev().filter(|one| !after.contains(one)).collect();
        let coming: Vec<&Attachment> = after.iter().filter(|one| !before.contains(one)).collect();
        let mut warnings = Vec::new();
        for (index, one) in going.iter().enumerate() {
            match self.runtime().detach(self.id(), &one.at) {
                Ok(true) => {}
                Ok(false) => {
                    warnings.push(format!("`{}` is at {} in it until it is stopped", one.name, one.at))
                }
                Err(error) => {
                    // As it was.
                    for gone in going[..index].iter().rev() {
                        let _ = self.runtime().attach(self.id(), ids, gone);
                    }
                    return Err(Failure::new(
                        Code::Mounted,
                        format!("`{}` cannot be taken away from {}", one.name, one.at),
                    )
                    .because(error.because)
                    .unchanged()
                    .hint(format!("have nobody in it, or `prlctl stop {}` first", self.name)));
                }
            }
        }
        for (index, one) in coming.iter().enumerate() {
            match self.runtime().attach(self.id(), ids, one) {
                Ok(true) => {}
                Ok(false) => {
                    warnings.push(format!("`{}` is at {} in it from its next start on", one.name, one.at))
                }
                Err(error) => {
                    for made in coming[..index].iter().rev() {
                        let _ = self.runtime().detach(self.id(), &made.at);
                    }
                    for gone in going.iter().rev() {
                        let _ = self.runtime().attach(self.id(), ids, gone);
                    }
                    return Err(Failure::new(
                        Code::MountFailed,
                        format!("`{}` cannot be mounted at {}", one.name, one.at),
                    )
                    .because(error.because)
                    .unchanged());
                }
            }
        }
        for number in going.iter().filter_map(|one| of_source(&one.source)) {
            if !coming.iter().any(|one| of_source(&one.source) == Some(number)) {
                self.runtime().release_disk(self.id(), number);
            }
        }
        Ok(warnings)
    }
}

fn of_source(source: &Source) -> Option<DiskNumber> {
    match source {
        Source::Disk(image) => DiskNumber::of_image(image),
        Source::Host(_) => None,
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
