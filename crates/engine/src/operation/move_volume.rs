//! `prlctl move --volume`: the layers of all generations of a stopped container go to another volume.
//!
//! No journal: what is copied lies where nobody looks until one rename makes it the container's, and what a death leaves before or after that is swept by the next
//! command. The old layers are whole until then, and go to the trash after.
//!
//! ```text
//! directory -> image   a new image, under a name that is swept; all layers copied, and durable; COMMIT: renamed to volume.img
//! image -> directory   all layers copied beside their records, and durable;                    COMMIT: volume.img renamed into the trash
//! ```
//!
//! With the subvolume of btrfs between them ([`Volume`]): one that is moved to comes before what the container leaves, and is taken, or after it, and then what it leaves is thrown away.

use std::os::fd::AsFd as _;
use std::path::Path;

use store::{Area, DiskSpace, Volume};

use super::pace::Pace;
use super::set;
use crate::error::{Code, Failure, Result, system};
use crate::fault::{self, Place};
use crate::host::{Container, damaged};
use crate::interrupt::Second;
use crate::settings::Change;
use crate::space::{self, Need};
use crate::volume::{self, Wanted};

/// Moves it, perhaps to a disk of another size. Returns what is not as it should be.
///
/// # Errors
/// With all of it where it was.
pub fn move_volume(container: &Container<'_>, to: Volume, space: Option<&Change>) -> Result<Vec<String>> {
    let what = format!("cannot move `{}`", container.name);
    let changes = space.map(std::slice::from_ref).unwrap_or_default();
    try_move(container, to, changes, &what).map_err(|failure| {
        let failure = if failure.what == what { failure } else { failure.within(what) };
        let failure = container.host.or_interrupted(failure, Second::Container(&container.name));
        if failure.state.is_none() { failure.unchanged() } else { failure }
    })
}

fn try_move(container: &Container<'_>, to: Volume, changes: &[Change], what: &str) -> Result<Vec<String>> {
    let area = &container.area;
    if area.volume() == to {
        return Err(Failure::new(Code::BadValue, what)
            .because(format!("its volume is `{}` already", to.as_str()))
            .hint(format!("`prlctl list -i {}` shows it", container.name)));
    }
    if container.is_running() {
        return Err(Failure::new(Code::Running, what)
            .because("it runs, and what is copied has to be of one moment")
            .hint(format!("`prlctl stop {}` first", container.name)));
    }
    let (old, host) = (area.conf().map_err(|error| damaged(error, &container.name))?, container.host);
    let mut conf = old.clone();
    set::apply(&mut conf, changes, &host.configuration()?)?;
    // Before anything is looked at that takes long.
    let (wanted, warnings) = match to > area.volume() {
        true => volume::choose(host, Some(to), &mut conf, changes)?,
        false => {
            let space = DiskSpace::from_conf(&[&conf, &host.configuration()?]).unwrap_or_default();
            let wanted = Wanted { volume: to, size: space.bytes.unwrap_or(volume::USUAL), space };
            (wanted, volume::unkept(host, to, &space, changes)?)
        }
    };
    container.host.heed_signals(what)?;
    let busy = |error: crate::runtime::RuntimeError| {
        Failure::new(Code::Mounted, what)
            .because(error.because)
            .hint("leave its directories on the host and try again")
    };
    container.runtime().wait_until_gone_unless_interrupted(container.id()).map_err(busy)?;
    container.runtime().unmount_all(container.id()).map_err(busy)?;
    container.enter_volume()?;
    area.sweep_former_layers(&container.host.prefix)?;
    let size = measure(container)?;
    if !changes.is_empty() && wanted.space.bytes.is_some_and(|bytes| bytes < size.bytes) {
        // Whoever is root here may be let write beyond the end of what is counted.
        let failure = Failure::new(Code::NoSpace, what);
        return Err(too_small(failure, container, &wanted));
    }
    let conf = Some(conf).filter(|conf| conf.to_bytes() != old.to_bytes());
    let moved = if to > area.volume() {
        take(container, &wanted, size, what)
    } else {
        leave(container, &wanted, size, what)
    };
    let mut warnings = moved.map(|()| warnings)?;
    if let Some(conf) = conf
        && let Err(error) = area.store_conf(&conf)
    {
        warnings.push(format!("its size does not stand in ve.conf: {}", Failure::from(error).reason()));
    }
    Ok(warnings)
}

/// How much there is to copy.
fn measure(container: &Container<'_>) -> Result<tree::Size> {
    let mut all = tree::Size::default();
    for number in container.area.generation_numbers().map_err(|error| damaged(error, &container.name))? {
        let layers = container.area.layers_handle(number).map_err(|error| damaged(error, &container.name))?;
        let delta = store::atomic::open_directory_at(layers.as_fd(), "delta")?;
        let one = tree::measure(delta.as_fd())?;
        all.entries += one.entries;
        all.bytes += one.bytes;
    }
    Ok(all)
}

/// To a volume that comes before the one it is on.
fn take(container: &Container<'_>, wanted: &Wanted, size: tree::Size, what: &str) -> Result<()> {
    let (host, area, to) = (container.host, &container.area, wanted.volume);
    let inodes = if to == Volume::Image { 64 } else { size.entries };
    let room = Need { who: "what is moved", bytes: size.bytes, inodes };
    // It lies beside what is counted of a directory.
    space::check_host(host, room)?;
    let made = (|| {
        let top = match to {
            Volume::Image => {
                let staged = area.staged_image();
                let _ = rustix::fs::unlink(&staged);
                volume::make_at(host, area, &staged, wanted)?
            }
            Volume::Directory | Volume::Btrfs => {
                stage_subvolume(container, &wanted.space)?;
                area.staged_subvolume()
            }
        };
        // Held all the while: nobody unmounts it, and what is looked at in the end is what was written to.
        let held = store::atomic::open_directory(&top)?;
        copy_all(container, Some(&top), what).map_err(|failure| whose_end(failure, container, wanted))?;
        for number in area.generation_numbers().map_err(|error| damaged(error, &container.name))? {
            let layers = store::atomic::open_directory_at(held.as_fd(), number.to_string())?;
            store::atomic::open_directory_at(layers.as_fd(), "delta")?;
        }
        if !linux::mutated!("moved-volume-unsynced") && !leaves_a_subvolume_unsynced(area.volume()) {
            rustix::fs::syncfs(&held).map_err(|error| system("cannot write out the new volume", &error))?;
        }
        drop(held);
        // Whoever finds it has to know of it.
        need(container, to)?;
        fault::here("move", "commit", Place::Before)?;
        host.unless_interrupted(what, "nothing was changed", Second::Container(&container.name))?;
        // A death before it: something with a name that is swept. After it: a volume, and layers that are swept where they were.
        Ok(area.take_volume(to)?)
    })();
    if let Err(failure) = made {
        if to == Volume::Image {
            host.runtime.let_volume_go(container.id());
            let _ = rustix::fs::unlink(area.staged_image());
        }
        let _ = area.discard_staged_subvolume(&host.prefix);
        return Err(failure);
    }
    fault::here("move", "commit", Place::After)?;
    area.end_project();
    // From here on it has happened: what cannot be swept now is swept by the next command.
    let _ = area.sweep_former_layers(&host.prefix);
    // Said too often it keeps nobody from anything but an older program.
    let _ = area.forget_former_volumes();
    host.runtime.unmount_volume(container.id());
    Ok(())
}

/// `torture mutations`.
fn leaves_a_subvolume_unsynced(from: Volume) -> bool {
    match from {
        Volume::Btrfs => linux::mutated!("left-subvolume-unsynced"),
        Volume::Directory | Volume::Image => false,
    }
}

/// The same.
fn takes_a_subvolume_unsynced(to: Volume) -> bool {
    match to {
        Volume::Btrfs => linux::mutated!("moved-subvolume-unsynced"),
        Volume::Directory | Volume::Image => false,
    }
}

/// Has `area.json` say that one must know of it.
fn need(container: &Container<'_>, to: Volume) -> Result<()> {
    let mut record = container.area.record().map_err(|error| damaged(error, &container.name))?;
    Area::need_volume(&mut record, to);
    Ok(container.area.store_record(&record)?)
}

fn stage_subvolume(container: &Container<'_>, space: &DiskSpace) -> Result<()> {
    let (host, area) = (container.host, &container.area);
    area.discard_staged_subvolume(&host.prefix)?;
    area.stage_subvolume()?;
    if store::counted::is_kept(&host.prefix, Volume::Btrfs) {
        area.limit_staged_subvolume(space)?;
    }
    Ok(())
}

/// To a volume that comes after the one it is on.
fn leave(container: &Container<'_>, wanted: &Wanted, size: tree::Size, what: &str) -> Result<()> {
    let (host, area) = (container.host, &container.area);
    let Wanted { volume: to, space, .. } = *wanted;
    let from = area.volume();
    let room = Need { who: "what is moved", bytes: size.bytes, inodes: size.entries };
    space::check_host(host, room)?;
    let made = (|| {
        let top = match to {
            Volume::Directory | Volume::Image => {
                // Before there is anything in it: what is there already would not be counted.
                if store::counted::is_kept(&host.prefix, to) {
                    area.begin_project(&space)?;
                }
                None
            }
            Volume::Btrfs => {
                stage_subvolume(container, &space)?;
                Some(area.staged_subvolume())
            }
        };
        copy_all(container, top.as_deref(), what).map_err(|failure| whose_end(failure, container, wanted))?;
        if !linux::mutated!("moved-layers-unsynced") && !takes_a_subvolume_unsynced(to) {
            rustix::fs::syncfs(area.handle())
                .map_err(|error| system("cannot write out the layers", &error))?;
        }
        need(container, to)?;
        // Nobody looks there yet: what it is on comes before it.
        area.take_volume(to)?;
        fault::here("move", "commit", Place::Before)?;
        host.unless_interrupted(what, "nothing was changed", Second::Container(&container.name))?;
        // A death before it: layers where nobody looks, which are swept. After it: those are the container's.
        Ok(area.leave_volume(&host.prefix, from)?)
    })();
    if let Err(failure) = made {
        let _ = area.sweep_former_layers(&host.prefix);
        return Err(failure);
    }
    fault::here("move", "commit", Place::After)?;
    host.runtime.let_volume_go(container.id());
    let _ = area.forget_former_volumes();
    Ok(())
}

/// Makes the layers of every generation again on the other volume.
///
/// That is mounted, or lies, at `top`; `None`: beside their records.
fn copy_all(container: &Container<'_>, top: Option<&Path>, what: &str) -> Result<()> {
    let area = &container.area;
    let mut pace = Pace::new(container.host, "copy");
    let mut done = tree::Size::default();
    for number in area.generation_numbers().map_err(|error| damaged(error, &container.name))? {
        let from = area.layers_handle(number).map_err(|error| damaged(error, &container.name))?;
        let target = match top {
            Some(top) => top.join(number.to_string()),
            None => area.generation_dir(number),
        };
        if top.is_some() {
            make(&target, 0o700)?;
        }
        make(&target.join("delta"), 0o755)?;
        make(&target.join("work"), 0o700)?;
        if rustix::fs::statat(&from, "lower", rustix::fs::AtFlags::SYMLINK_NOFOLLOW).is_ok() {
            make(&target.join("lower"), 0o755)?;
        }
        let delta = store::atomic::open_directory_at(from.as_fd(), "delta")?;
        let into = store::atomic::open_directory(&target.join("delta"))?;
        let before = done;
        let mut goes_on =
            |made: tree::Size| pace.goes_on(before.entries + made.entries, before.bytes + made.bytes);
        let made = tree::duplicate(delta.as_fd(), into.as_fd(), &mut goes_on)
            .map_err(|error| Failure::from(error).within(what))?;
        done = tree::Size { entries: before.entries + made.entries, bytes: before.bytes + made.bytes };
    }
    Ok(())
}

/// What there has to be on the host, for a copy without room to be the new volume's fault: more than a filesystem keeps to itself of what it calls free.
const ROOM_OF_A_HOST: Need = Need { who: "a copy", bytes: 32 << 20, inodes: 64 };

/// Where there was no room for a copy while the host has some, it is the new volume that ends, and nothing that is done on the host would help. An image
/// holds less than a directory of the same size: its filesystem's own tables are in it.
fn whose_end(failure: Failure, container: &Container<'_>, wanted: &Wanted) -> Failure {
    let Wanted { volume: to, space, .. } = wanted;
    let to = *to;
    let has_an_end = to == Volume::Image || space.bytes.is_some() || space.inodes.is_some();
    if failure.code != Code::NoSpace
        || !has_an_end
        || space::check_host(container.host, ROOM_OF_A_HOST).is_err()
    {
        return failure;
    }
    too_small(failure, container, wanted)
}

fn too_small(failure: Failure, container: &Container<'_>, wanted: &Wanted) -> Failure {
    let name = &container.name;
    let because = match wanted.volume {
        Volume::Image => format!("an image of {} MiB is too small for what it has", wanted.size >> 20),
        Volume::Directory | Volume::Btrfs => {
            "it has more than its `DISKSPACE` or `DISKINODES` would let it have there".to_owned()
        }
    };
    failure.because(because).hint(format!(
        "the same command with more behind `--diskspace`; `prlctl generation-list {name}` shows old roots that may go"
    ))
}

fn make(path: &Path, mode: u32) -> Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
    store::atomic::make_directory_at(store::atomic::open_directory(parent)?.as_fd(), name, mode)?;
    Ok(())
}
