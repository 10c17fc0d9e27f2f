//! `prlctl move --volume`: the layers of all generations of a stopped container go to another volume.
//!
//! No journal: what is copied lies where nobody looks until one rename makes it the container's, and what a death leaves before or after that is swept by the next
//! command. The old layers are whole until then, and go to the trash after.
//!
//! ```text
//! directory -> image   a new image, under a name that is swept; all layers copied, and durable; COMMIT: renamed to volume.img
//! image -> directory   all layers copied beside their records, and durable;                    COMMIT: volume.img renamed into the trash
//! ```

use std::os::fd::AsFd as _;
use std::path::Path;

use store::{Area, DiskSpace, Volume};

use super::pace::Pace;
use crate::error::{Code, Failure, Result, system};
use crate::fault::{self, Place};
use crate::host::{Container, damaged};
use crate::interrupt::Second;
use crate::space::{self, Need};
use crate::volume;

/// Moves it. Returns what is not as it should be.
///
/// # Errors
/// With all of it where it was.
pub fn move_volume(container: &Container<'_>, to: Volume) -> Result<Vec<String>> {
    let what = format!("cannot move `{}`", container.name);
    try_move(container, to, &what).map_err(|failure| {
        let failure = if failure.what == what { failure } else { failure.within(what) };
        let failure = container.host.or_interrupted(failure, Second::Container(&container.name));
        if failure.state.is_none() { failure.unchanged() } else { failure }
    })
}

fn try_move(container: &Container<'_>, to: Volume, what: &str) -> Result<Vec<String>> {
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
    match to {
        Volume::Image => to_image(container, size, what),
        Volume::Directory => to_directory(container, size, what),
    }
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

fn to_image(container: &Container<'_>, size: tree::Size, what: &str) -> Result<Vec<String>> {
    let (host, area) = (container.host, &container.area);
    let mut conf = area.conf().map_err(|error| damaged(error, &container.name))?;
    let (wanted, mut warnings) = volume::choose(host, Some(Volume::Image), &mut conf, &[])?;
    let need = Need { who: "what is moved", bytes: size.bytes, inodes: 64 };
    // It lies beside what is counted of a directory.
    space::check_host(host, need)?;
    let staged = area.staged_image();
    let made = (|| {
        let _ = rustix::fs::unlink(&staged);
        let point = volume::make_at(host, area, &staged, &wanted)?;
        // Held all the while: nobody unmounts it, and what is looked at in the end is what was written to.
        let top = store::atomic::open_directory(&point)?;
        copy_all(container, Volume::Image, what)?;
        for number in area.generation_numbers().map_err(|error| damaged(error, &container.name))? {
            let layers = store::atomic::open_directory_at(top.as_fd(), number.to_string())?;
            store::atomic::open_directory_at(layers.as_fd(), "delta")?;
        }
        if !linux::mutated!("moved-volume-unsynced") {
            rustix::fs::syncfs(&top).map_err(|error| system("cannot write out the new volume", &error))?;
        }
        drop(top);
        // Whoever finds the image has to know of images.
        let mut record = area.record().map_err(|error| damaged(error, &container.name))?;
        Area::need_volumes(&mut record);
        area.store_record(&record)?;
        fault::here("move", "commit", Place::Before)?;
        host.unless_interrupted(what, "nothing was changed", Second::Container(&container.name))?;
        // A death before it: a file with a name that is swept. After it: an image, and layers beside the records that are.
        Ok(area.take_image()?)
    })();
    if let Err(failure) = made {
        host.runtime.let_volume_go(container.id());
        let _ = rustix::fs::unlink(&staged);
        return Err(failure);
    }
    fault::here("move", "commit", Place::After)?;
    // What was counted of the directory is its disk's business now.
    let _ = area.limit_project(&DiskSpace::default());
    // From here on it has happened: what cannot be swept now is swept by the next command.
    let _ = area.sweep_former_layers(&host.prefix);
    host.runtime.unmount_volume(container.id());
    if let Err(error) = area.store_conf(&conf) {
        warnings.push(format!("its size does not stand in ve.conf: {}", Failure::from(error).reason()));
    }
    Ok(warnings)
}

fn to_directory(container: &Container<'_>, size: tree::Size, what: &str) -> Result<Vec<String>> {
    let (host, area) = (container.host, &container.area);
    let need = Need { who: "what is moved", bytes: size.bytes, inodes: size.entries };
    space::check_host(host, need)?;
    let conf = area.conf().map_err(|error| damaged(error, &container.name))?;
    let space = DiskSpace::from_conf(&[&conf, &host.configuration()?]).unwrap_or_default();
    let is_counted = store::project::is_kept(&host.prefix);
    // Before there is anything in it: what is there already would not be counted.
    let begun = if is_counted { area.begin_project(&space).map_err(Failure::from) } else { Ok(()) };
    let made = begun.and_then(|()| copy_all(container, Volume::Directory, what)).and_then(|()| {
        if !linux::mutated!("moved-layers-unsynced") {
            rustix::fs::syncfs(area.handle())
                .map_err(|error| system("cannot write out the layers", &error))?;
        }
        fault::here("move", "commit", Place::Before)?;
        host.unless_interrupted(what, "nothing was changed", Second::Container(&container.name))?;
        // A death before it: layers beside the records, which are swept. After it: no image, and those are the container's.
        Ok(area.leave_image(&host.prefix)?)
    });
    if let Err(failure) = made {
        let _ = area.sweep_former_layers(&host.prefix);
        return Err(failure);
    }
    fault::here("move", "commit", Place::After)?;
    host.runtime.let_volume_go(container.id());
    if is_counted { Ok(Vec::new()) } else { volume::unenforced(&space, &[], volume::UNCOUNTED, "") }
}

/// Makes the layers of every generation again on the other volume.
fn copy_all(container: &Container<'_>, to: Volume, what: &str) -> Result<()> {
    let area = &container.area;
    let mut pace = Pace::new(container.host, "copy");
    let mut done = tree::Size::default();
    for number in area.generation_numbers().map_err(|error| damaged(error, &container.name))? {
        let from = area.layers_handle(number).map_err(|error| damaged(error, &container.name))?;
        let target = area.layers_elsewhere(to, number);
        if to == Volume::Image {
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

fn make(path: &Path, mode: u32) -> Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
    store::atomic::make_directory_at(store::atomic::open_directory(parent)?.as_fd(), name, mode)?;
    Ok(())
}
