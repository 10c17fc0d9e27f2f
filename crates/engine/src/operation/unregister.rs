//! `prlctl unregister`: a stopped container becomes a directory that is none, whole, where it lay; and `prlctl register` of such a directory, which makes it a container again.
//!
//! One word in `area.json` says which of the two it is, so that either is one rename, and no journal is wanted:
//!
//! ```text
//! unregister   COMMIT: `unregistered` in area.json;   links and runtime directories go
//! register     the same word, should it come without; its ids, where somebody here has them; its place, one rename; COMMIT: the word goes;   links
//! ```
//!
//! A death before a commit leaves what was; what a death after one leaves undone of the links is done by the next sweep, or the next command.

use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use store::{
    Address, Area, AreaRecord, Conf, ContainerId, ContainerName, Disks, Forward, Interface, Lock, LockName,
    NumericId, Volume, registry,
};
use tree::Copied;

use super::create::check_free;
use super::register::{Options, Registered, WhichId};
use crate::addresses::{AddressChange, are_free};
use crate::error::{Code, Failure, Result, system};
use crate::fault::{self, Place};
use crate::host::{Container, Host, damaged};
use crate::interfaces;
use crate::interrupt::Second;
use crate::openvz::place;
use crate::trust;

/// Of one in which `volume.btrfs` is a directory.
const COPIED_SUBVOLUME: &str = "a copy makes a directory of a subvolume: on btrfs, `btrfs subvolume create NEW && cp -a --reflink=auto volume.btrfs/. NEW/`, and NEW under its name; for another filesystem `prlctl move NAME --volume image` where it comes from, before it is unregistered";

/// Has it be no container any more. Returns where it lies.
///
/// # Errors
/// [`Code::Running`]; [`Code::Mounted`] when a process of the host is in it. It is a container as before then.
pub fn unregister(container: Container<'_>) -> Result<PathBuf> {
    let what = format!("cannot unregister `{}`", container.name);
    let (host, id) = (container.host, *container.id());
    host.heed_signals(&what)?;
    if container.is_running() {
        return Err(Failure::new(Code::Running, what)
            .because("it runs")
            .unchanged()
            .hint(format!("`prlctl stop {}` first", container.name)));
    }
    let busy = |error: crate::runtime::RuntimeError| {
        let failure = Failure::new(Code::Mounted, what.clone())
            .because(error.because)
            .unchanged()
            .hint("leave its directories on the host and try again");
        host.or_interrupted(failure, Second::Container(&container.name))
    };
    container.runtime().wait_until_gone_unless_interrupted(&id).map_err(busy)?;
    container.runtime().unmount_all(&id).map_err(busy)?;
    let conf = container.area.conf().map_err(|error| damaged(error, &container.name))?;
    let disks = Disks::of(&conf).unwrap_or_default().own;
    let mut images: Vec<PathBuf> = disks.iter().map(|disk| container.area.disk_image(disk.number)).collect();
    images.push(container.area.image());
    container.runtime().put_disks_away(&id, &images).map_err(|error| {
        busy(error).hint("a program of the host is in it, or what was deleted there is still being removed: try again in a moment")
    })?;

    let _lock = host.lock_host()?;
    let mut record = container.area.record().map_err(|error| damaged(error, &container.name))?;
    record.set_registered(false);
    fault::here("unregister", "forget", Place::Before)?;
    host.unless_interrupted(&what, "nothing was changed", Second::Container(&container.name))?;
    if let Err(error) = container.area.store_record(&record) {
        // It may have its word already, and not be durable.
        record.set_registered(true);
        let _ = container.area.store_record(&record);
        return Err(Failure::from(error).within(what));
    }
    fault::here("unregister", "forget", Place::After)?;
    if let Err(failure) = unlink(host, &id) {
        // It has happened, and an error would say that it has not.
        host.warning(&format!(
            "it is unregistered, and `prlctl recover` removes its links: {}",
            failure.reason()
        ));
    }
    let _ = std::fs::remove_dir(host.prefix.root_dir(&id));
    let run = store::atomic::open_directory(&host.prefix.run_dir())?;
    let _ = tree::remove_entry(run.as_fd(), id.to_string().as_ref());
    Ok(container.area.path().to_owned())
}

/// By what they point to, not by NAME: an editor may have made that another one.
fn unlink(host: &Host, id: &ContainerId) -> Result<()> {
    registry::unlink_names_of(&host.prefix, id)?;
    registry::unlink_conf(&host.prefix, id)?;
    Ok(registry::unlink_numbers_of(&host.prefix, id, None)?)
}

/// Has an area of ours be a container; `None`: what lies there is none of ours.
///
/// # Errors
/// With the area as it was, and where it was.
pub(super) fn take_back(host: &Host, options: &Options, what: &str) -> Result<Option<Registered>> {
    let Ok(path) = std::fs::canonicalize(&options.path) else { return Ok(None) };
    let shown = tree::escaped_path(&path);
    let opened = Area::open_elsewhere(&host.prefix, &path);
    let Some(mut area) = opened.map_err(|error| damaged(error, &shown).within(what))? else {
        return Ok(None);
    };
    let refused = |code, because: String| Failure::new(code, what).because(because).unchanged();
    check_owner(&area, &path).map_err(|(because, hint)| refused(Code::BadValue, because).hint(hint))?;
    // Whoever may write to a directory on the way to it may put another in its place.
    trust::check_way(&host.prefix, &path)?;
    if options.conf.is_some() {
        return Err(refused(
            Code::BadOption,
            "it has its own ve.conf, which is the one that counts".to_owned(),
        )
        .hint("leave --config out, and change what is to be another with `prlctl set` afterwards"));
    }
    if let Some(volume) = options.volume.filter(|volume| *volume != area.volume()) {
        return Err(refused(
            Code::BadOption,
            format!("its files lie on a volume of the kind `{}`, and stay there", area.volume().as_str()),
        )
        .hint(format!(
            "leave --volume out, and `prlctl move NAME --volume {}` afterwards",
            volume.as_str()
        )));
    }
    let id = *area.id();
    if area.volume() == Volume::Btrfs {
        area.check_volume().map_err(|error| damaged(error, &shown).within(what).hint(COPIED_SUBVOLUME))?;
    }
    if let WhichId::Given(other) = &options.id
        && *other != id
    {
        return Err(refused(Code::BadOption, format!("it has a UUID, {}, and keeps it", id.braced()))
            .hint("leave --uuid out"));
    }

    let host_lock = host.lock_host()?;
    let _at_work = Lock::exclusive(&host.prefix, LockName::Container(id), Duration::ZERO, &host.command)?;
    let mut record = area.record().map_err(|error| damaged(error, &shown))?;
    let is_in_place = is_at(&area, &host.prefix.area_dir(&id));
    if is_in_place && record.is_registered() {
        return Err(refused(Code::Exists, format!("it is registered, as `{}`", area.display_name()))
            .hint("`prlctl list -a` shows it"));
    }
    if !is_in_place {
        may_move(host, &area, &path, options.is_forced, record.is_registered(), &refused)?;
    }
    let mut conf = area.conf().map_err(|error| damaged(error, &shown).unchanged())?;
    let name = match &options.name {
        Some(name) => name.clone(),
        None => named(&area, &conf, &refused)?,
    };
    let number = area.numeric_id();
    check_free(host, &name, number).map_err(|failure| {
        let hint = if failure.code == Code::Exists {
            format!("give it another VEID in {}, or none", path.join("ve.conf").display())
        } else {
            "call it something else with --name".to_owned()
        };
        failure.within(what).hint(hint)
    })?;
    let add = Address::all(&conf).unwrap_or_default();
    AddressChange { add, ..AddressChange::default() }.apply(host, Some(&id), &mut conf.clone())?;
    are_free(host, Some(&id), &Forward::all(&conf).unwrap_or_default())?;
    interfaces::are_nobody_elses(host, &id, &Interface::all(&conf).unwrap_or_default())?;
    let ids = registry::id_range_for(&host.prefix, &host_lock, &id, record.id_range)
        .map_err(|error| system("no ids are left", &error))?;
    let has_new_ids = ids != record.id_range;
    if has_new_ids && area.is_counted_as_project() {
        return Err(refused(
            Code::Unsupported,
            "its ids are another's here, and the space of its directory is counted under one of them"
                .to_owned(),
        )
        .hint("copy it (`cp -a`), and register the copy: what is copied is counted anew"));
    }

    host.not_begun(what);
    record.set_registered(false);
    record.id_range = ids;
    let former = conf.clone();
    let returned = (|| {
        // A death from here on leaves an area that is none of a container, and can be registered.
        area.store_record(&record)?;
        if former.get("NAME").as_deref() != Some(name.as_str()) {
            conf.set("NAME", name.as_str())?;
            area.store_conf(&conf)?;
        }
        unlink(host, &id)?;
        if !is_in_place {
            area.take_its_place(&host.prefix)?;
        }
        record.set_registered(true);
        fault::here("register", "return", Place::Before)?;
        area.store_record(&record)?;
        fault::here("register", "return", Place::After)
    })();
    if let Err(failure) = returned {
        return Err(stays_out(&area, record, &former, failure).within(what));
    }
    if let Err(failure) = link(host, &id, &name, number) {
        host.warning(&format!(
            "it is registered, and `prlctl recover` makes its links: {}",
            failure.reason()
        ));
    }
    if has_new_ids {
        host.note(&format!(
            "it has other ids than it had, from {}: what had the former ones on this host is not its own any more",
            ids.first
        ));
    }
    if let Ok(live) = area.live()
        && let Ok(record) = area.generation(live)
        && let Some(problem) = crate::template::problem_of(&host.prefix, &record.base)
    {
        host.warning(&format!("it cannot be started as it is: {problem}"));
    }
    Ok(Some(Registered { id, name, number, conf, copied: Copied::default() }))
}

/// What is not durable is taken back, as far as it can be: the word that it is a container, and another name. Where it lies by now is told.
fn stays_out(area: &Area, mut record: AreaRecord, conf: &Conf, failure: Failure) -> Failure {
    record.set_registered(false);
    let _ = area.store_record(&record);
    let _ = area.store_conf(conf);
    failure.state(format!("it is no container, and lies whole at {}", tree::escaped_path(area.path())))
}

fn link(host: &Host, id: &ContainerId, name: &ContainerName, number: Option<NumericId>) -> Result<()> {
    registry::link_name(&host.prefix, name, id)?;
    registry::link_conf(&host.prefix, id)?;
    if let Some(number) = number {
        registry::link_number(&host.prefix, number, id)?;
    }
    Ok(())
}

/// What it is called, by its own configuration.
fn named(area: &Area, conf: &Conf, refused: &dyn Fn(Code, String) -> Failure) -> Result<ContainerName> {
    let said = conf.get("NAME").filter(|name| !name.is_empty());
    let said = said.or_else(|| area.numeric_id().map(|number| number.to_string()));
    said.and_then(|name| name.parse().ok())
        .ok_or_else(|| refused(Code::BadName, "its NAME is none".to_owned()).hint("give it one with --name"))
}

/// Whoever can write to an area is root in its container and on the host: a set-user-id program in a layer is one of the host's.
fn check_owner(area: &Area, path: &Path) -> std::result::Result<(), (String, String)> {
    let Ok(found) = rustix::fs::fstat(area.handle()) else {
        return Err(("it cannot be looked at".to_owned(), "see whether it is there".to_owned()));
    };
    let owner = rustix::process::geteuid().as_raw();
    if found.st_uid == owner && found.st_mode & 0o077 == 0 {
        return Ok(());
    }
    let path = tree::escaped_path(path);
    Err((
        format!(
            "others can enter it: it belongs to {}, with mode {:04o}",
            found.st_uid,
            found.st_mode & 0o7777
        ),
        format!("see that nobody has changed it, and `chown root: {path}; chmod 0700 {path}`"),
    ))
}

fn is_at(area: &Area, place: &Path) -> bool {
    let (Ok(own), Ok(there)) = (rustix::fs::fstat(area.handle()), rustix::fs::lstat(place)) else {
        return false;
    };
    (own.st_dev, own.st_ino) == (there.st_dev, there.st_ino)
}

/// Whether it may become what lies at the place of its UUID.
fn may_move(
    host: &Host,
    area: &Area,
    path: &Path,
    is_forced: bool,
    is_registered: bool,
    refused: &dyn Fn(Code, String) -> Failure,
) -> Result<()> {
    let place = host.prefix.area_dir(area.id());
    if rustix::fs::lstat(&place).is_ok() {
        return Err(refused(
            Code::Exists,
            format!("something lies at {} already, where it would", place.display()),
        )
        .hint("a container of that UUID is there: `prlctl list -a` tells of it; two of one UUID cannot be"));
    }
    // A name beside the containers' own, as `mv` gives one, is no place of ours.
    let is_beside = path.parent() == std::fs::canonicalize(host.prefix.private_dir()).ok().as_deref()
        && path.file_name().is_some_and(|name| !name.as_encoded_bytes().starts_with(b"."));
    if is_beside {
        place::in_use(path)?
    } else {
        place::check(host, path)?
    }
    if is_registered && !is_forced {
        return Err(refused(
            Code::Owned,
            "it was not unregistered where it comes from, and may run there".to_owned(),
        )
        .hint("see that it does not, `prlctl unregister` it there, or add --force"));
    }
    let private = store::atomic::open_directory(&host.prefix.private_dir())?;
    let device =
        |handle: std::os::fd::BorrowedFd<'_>| rustix::fs::fstat(handle).map(|found| found.st_dev).ok();
    if device(area.handle()) != device(private.as_fd()) {
        return Err(refused(
            Code::BadValue,
            "it lies on another filesystem, and is taken over by a rename".to_owned(),
        )
        .hint(format!(
            // Beside the place of a container: half a copy there would be one.
            "copy it first, whole: `cp -a --sparse=always {0} {1}.copy`, and register {1}.copy",
            tree::escaped_path(path),
            place.display()
        )));
    }
    Ok(())
}
