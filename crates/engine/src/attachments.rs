//! What is mounted in a container's root and is no part of it: `BINDMOUNT`, what it sees of the host, and `DISK`, its disks beside that of the root.
//!
//! They belong to the container and not to a root: a reinstall mounts them in the new one, nothing of them is at `/old`, and they are not copied, tried out or
//! undone with a root. On probation the new root has them as the old one had, to be written: a database that finds its disk read-only would not come up, and
//! what a copy of it took in would be lost. So what a root writes there before it is given up stays written.

use runtime::attachments::{Attachment, Source, open_source};
use store::{Area, BIND_MOUNTS, BindMount, Conf, Disk, DiskNumber, Disks, InnerPath, disks};

use crate::disks::{DeviceChange, Work, gone, of_disks};
use crate::error::{Code, Failure, Result};
use crate::host::{Container, damaged};
use crate::runtime::RuntimeResult;

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

    /// Writes all of it into the configuration of a container that is to be, which has no disk yet; the one that is to be made.
    ///
    /// # Errors
    /// [`Code::BadValue`].
    pub fn apply_to_new(&self, conf: &mut Conf) -> Result<Option<Disk>> {
        self.apply_binds(conf)?;
        let Some(device) = &self.device else { return Ok(None) };
        let disk = device.first(conf)?;
        let binds = BindMount::all(conf).unwrap_or_default();
        match binds.iter().find(|bind| bind.at == disk.at) {
            Some(bind) => Err(bad("--mnt", disk.at.as_str(), "a place of its own")
                .because(format!("`{}` is there, too", bind.source))),
            None => Ok(Some(disk)),
        }
    }

    /// Writes all of it into the configuration of a container; what else has to be done.
    ///
    /// # Errors
    /// [`Code::BadValue`], with nothing changed.
    pub fn apply(&self, area: &Area, conf: &mut Conf) -> Result<Work> {
        self.apply_binds(conf)?;
        self.device.as_ref().map_or_else(|| Ok(Work::default()), |device| device.apply(area, conf))
    }
}

/// An option with a value that it cannot have.
pub fn bad(option: &str, value: &str, wanted: &str) -> Failure {
    let shown = tree::escaped(&value.as_bytes()[..value.len().min(200)]);
    Failure::new(Code::BadValue, format!("`{option} {shown}` cannot be used"))
        .because(format!("wanted {wanted}"))
        .unchanged()
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
        let disks = of_disks(conf)?;
        if let Some(entry) = disks.missing() {
            return Err(self.without_its_disk(entry, disks.is_of_another(entry)));
        }
        for one in &found {
            self.check_attachment(one)?;
        }
        for disk in disks.own.iter().filter(|disk| disk.is_enabled) {
            self.enter_own_disk(disk)?;
        }
        Ok(found)
    }

    /// What finds the directory of its data empty fills it.
    fn without_its_disk(&self, entry: &str, is_of_another: bool) -> Failure {
        let shown = tree::escaped(&entry.as_bytes()[..entry.len().min(200)]);
        let detached: Vec<String> = DiskNumber::all()
            .filter(|number| self.area.disk_size(*number).is_some())
            .map(DiskNumber::image)
            .collect();
        let there = match detached.is_empty() {
            true => "there is none".to_owned(),
            false => format!("there is {}", detached.join(", ")),
        };
        let because = match is_of_another {
            true => "has the UUID of another disk there".to_owned(),
            false => format!("is no disk of a file `hddN.img` of its private area, of which {there}"),
        };
        Failure::new(
            Code::BadValue,
            format!("`{}` would be without a disk that its configuration has", self.name),
        )
        .because(format!("`{shown}` in `{}` {because}", disks::KEY))
        .unchanged()
        .hint(format!(
            "correct it in {}; `enabled=no` in that entry says that it is to be started without",
            self.area.path().join("ve.conf").display()
        ))
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

    /// Nothing is mounted above what is mounted already and stays: that would be seen no more, and yet be in use.
    ///
    /// # Errors
    /// [`Code::Mounted`].
    pub(crate) fn check_not_hidden(&self, old: &Conf, new: &Conf) -> Result<()> {
        let before = configured(&self.area, old).unwrap_or_default();
        let after = configured(&self.area, new).unwrap_or_default();
        let (staying, coming): (Vec<_>, Vec<_>) = after.iter().partition(|one| before.contains(one));
        let is_above =
            |one: &Attachment, other: &Attachment| other.at.as_path().starts_with(one.at.as_path());
        for one in coming {
            if let Some(hidden) = staying.iter().find(|other| is_above(one, other)) {
                return Err(Failure::new(
                    Code::Mounted,
                    format!("`{}` cannot be mounted at {} while it runs", one.name, one.at),
                )
                .because(format!("it would hide `{}`, which is at {}", hidden.name, hidden.at))
                .unchanged()
                .hint(format!(
                    "`prlctl stop {}` first: a start mounts the one, then the other in it",
                    self.name
                )));
            }
        }
        Ok(())
    }

    /// Has a container that runs see what it is to see from now on; what of it only its next start brings. With an error nothing of it, but for
    /// what of that could not be taken back, which is `left`.
    ///
    /// # Errors
    /// [`Code::Mounted`], [`Code::MountFailed`].
    pub(crate) fn follow_attachments(
        &self,
        old: &Conf,
        new: &Conf,
        left: &mut Vec<String>,
    ) -> Result<Vec<String>> {
        let before = configured(&self.area, old).unwrap_or_default();
        let after = configured(&self.area, new).unwrap_or_default();
        let ids = self.area.record().map_err(|error| damaged(error, &self.name))?.id_range;
        let going: Vec<&Attachment> = before.iter().rev().filter(|one| !after.contains(one)).collect();
        let coming: Vec<&Attachment> = after.iter().filter(|one| !before.contains(one)).collect();
        self.check_coming(&coming, &before, new)?;
        let mut warnings = Vec::new();
        let attach = |one: &Attachment| self.runtime().attach(self.id(), ids, one).map(drop);
        let detach = |one: &Attachment| self.runtime().detach(self.id(), &one.at).map(drop);
        for (index, one) in going.iter().enumerate() {
            match self.runtime().detach(self.id(), &one.at) {
                Ok(true) => {}
                Ok(false) => {
                    warnings.push(format!("`{}` is at {} in it until it is stopped", one.name, one.at))
                }
                Err(error) => {
                    // As it was.
                    left.extend(undone(going[..index].iter().rev(), "is no longer at", attach));
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
                    left.extend(undone(coming[..index].iter().rev(), "is still at", detach));
                    left.extend(undone(going.iter().rev(), "is no longer at", attach));
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

    /// What is to be attached is what its start would take: of each disk, in its file is that one. Nothing is mounted any longer for it, with an error.
    pub(crate) fn check_coming(
        &self,
        coming: &[&Attachment],
        before: &[Attachment],
        new: &Conf,
    ) -> Result<()> {
        let all = of_disks(new)?;
        for number in coming.iter().filter_map(|one| of_source(&one.source)) {
            let Some(disk) = all.own.iter().find(|disk| disk.number == number) else { continue };
            self.enter_own_disk(disk).inspect_err(|_| {
                if !before.iter().any(|one| of_source(&one.source) == Some(number)) {
                    self.runtime().release_disk(self.id(), number);
                }
            })?;
        }
        Ok(())
    }
}

/// Has each be as it was; of which that cannot be had.
fn undone<'a>(
    all: impl Iterator<Item = &'a &'a Attachment>,
    how: &str,
    undo: impl Fn(&Attachment) -> RuntimeResult<()>,
) -> Vec<String> {
    let left = all.filter_map(|one| {
        let error = undo(one).err()?;
        Some(format!("`{}` {how} {} in it: {}", one.name, one.at, error.because))
    });
    left.collect()
}

fn of_source(source: &Source) -> Option<DiskNumber> {
    match source {
        Source::Disk(image) => DiskNumber::of_image(image),
        Source::Host(_) => None,
    }
}
