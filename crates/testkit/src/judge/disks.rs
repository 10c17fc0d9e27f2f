//! Disks beside that of the root: what lies there, and what its entry says of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use store::{Area, Disk, DiskNumber, Disks, Prefix, disks};

use super::{Judged, Violation, eventually, records};

const AGREE: &str = "a disk and its entry agree";
const WHOLE: &str = "what is on a disk stays";
const SEEN: &str = "a container that runs sees what it has beside its root";

/// What is on each, to be lost.
pub const PRECIOUS: &str = "precious, and only here";
/// Its file.
pub const FILE: &str = "file";

/// What becomes of a container's disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskEffect {
    /// There is one more.
    Add,
    /// It is of another size, MiB.
    Resize {
        /// Before.
        from: u64,
        /// And after it.
        to: u64,
    },
    /// It is gone, with all that was on it.
    Destroy,
}

/// Where that stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskState {
    /// Nothing has happened.
    Old,
    /// All of it has.
    New,
    /// A whole disk that nobody's entry names: listed, and to be attached again or deleted.
    Detached,
}

/// The files of disks, with their sizes.
fn files(area: &Area) -> BTreeMap<DiskNumber, u64> {
    DiskNumber::all().filter_map(|number| Some((number, area.disk_size(number)?.0))).collect()
}

/// Puts on a new disk of a stopped container what it can lose.
///
/// # Errors
/// [`Violation`].
pub fn fill(prefix: &Prefix, area: &Area, number: DiskNumber) -> Judged<()> {
    let point = runtime::volume::mount(prefix, area.id(), &area.disk_image(number)).map_err(records)?;
    let path = point.join(disks::DATA).join(FILE);
    store::atomic::replace(&path, PRECIOUS.as_bytes(), 0o600).map_err(records)?;
    leave(&point)
}

/// Whom another thread is just forking has its files open for an instant.
fn leave(point: &Path) -> Judged<()> {
    eventually(|| {
        runtime::mounts::unmount(point).map_err(|error| Violation::passing(WHOLE, error.to_string()))
    })
}

/// Looks at all of them, and says where an effect on `hdd1` stands. Where there was one, `PRECIOUS` was on it.
///
/// # Errors
/// The first [`Violation`].
pub fn judge_disks(prefix: &Prefix, id: &store::ContainerId, effect: DiskEffect) -> Judged<DiskState> {
    let area = Area::open(prefix, id).map_err(records)?;
    let entries = Disks::of(&area.conf().map_err(records)?).map_err(records)?.own;
    let files = files(&area);
    let wrong = |what: String| Err(Violation::new(AGREE, what));
    for disk in &entries {
        let number = disk.number;
        match files.get(&number) {
            None => return wrong(format!("{number} has an entry, and no file")),
            Some(size) if *size != disk.size => {
                return wrong(format!("{number} has {size} bytes, and its entry says {}", disk.size));
            }
            Some(_) => {}
        }
    }
    let had = effect != DiskEffect::Add;
    for (number, size) in &files {
        look(prefix, &area, entries.iter().find(|disk| disk.number == *number), (*number, *size), had)?;
    }
    let is_running = runtime::state::running(prefix, id).filter(|state| state.monitor.is_alive());
    if let Some(state) = is_running {
        eventually(|| sees(state.init.pid, entries.iter().any(|disk| disk.is_enabled)))?;
    }
    let numbers: Vec<DiskNumber> = files.keys().copied().collect();
    let is_entered = |number: &DiskNumber| entries.iter().any(|disk| disk.number == *number);
    match (effect, numbers.as_slice()) {
        (DiskEffect::Add, []) => Ok(DiskState::Old),
        (DiskEffect::Add, [one]) if is_entered(one) => Ok(DiskState::New),
        (DiskEffect::Add | DiskEffect::Destroy, [_]) if entries.is_empty() => Ok(DiskState::Detached),
        (DiskEffect::Destroy, []) => Ok(DiskState::New),
        (DiskEffect::Destroy, [one]) if is_entered(one) => Ok(DiskState::Old),
        (DiskEffect::Resize { from, to }, [one]) if is_entered(one) => match files[one] {
            size if size == to << 20 => Ok(DiskState::New),
            size if size == from << 20 => Ok(DiskState::Old),
            size => wrong(format!("{one} had {from} MiB, is to have {to}, and has {size} bytes")),
        },
        (effect, found) => wrong(format!("{effect:?}, and there are the files of {found:?}")),
    }
}

/// It is the container's, and the one that its entry names, as large as its file, and has on it what it had.
fn look(
    prefix: &Prefix,
    area: &Area,
    entry: Option<&Disk>,
    (number, size): (DiskNumber, u64),
    had: bool,
) -> Judged<()> {
    let broken = |what: String| Violation::new(WHOLE, format!("{number}: {what}"));
    let was_mounted = runtime::mounts::is_mounted(&disks::mount_point(prefix, area.id(), number));
    let point = runtime::volume::mount(prefix, area.id(), &area.disk_image(number))
        .map_err(|error| broken(runtime::monitor::describe(&error)))?;
    let seen = (|| {
        let is = area.disk_uuid(&point).map_err(|error| broken(error.to_string()))?;
        if entry.is_some_and(|disk| disk.uuid != is) {
            return Err(Violation::new(AGREE, format!("in the file of {number} is {is}")));
        }
        let found = rustix::fs::statvfs(&point).map_err(|error| broken(error.to_string()))?;
        let holds = found.f_blocks * found.f_frsize;
        if holds < size / 10 * 8 || holds > size {
            return Err(broken(format!("its filesystem has {holds} bytes in a file of {size}")));
        }
        if had {
            let text = std::fs::read_to_string(point.join(disks::DATA).join(FILE));
            if text.as_deref().ok() != Some(PRECIOUS) {
                return Err(broken(format!("on it is {text:?}")));
            }
        }
        Ok(())
    })();
    if !was_mounted {
        leave(&point)?;
    }
    seen
}

/// Whether something is at `/data` in it.
pub(super) fn sees(init: i32, is_wanted: bool) -> Judged<()> {
    let table = std::fs::read_to_string(format!("/proc/{init}/mountinfo")).unwrap_or_default();
    // In our scenarios each is at `/data`, and nothing else is.
    let is_seen = table.lines().any(|line| line.split(' ').nth(4) == Some("/data"));
    if is_seen == is_wanted {
        return Ok(());
    }
    Err(Violation::passing(SEEN, format!("at /data is one: {is_seen}; it has one: {is_wanted}")))
}

/// Where disks are mounted that a container has.
pub(super) fn points(prefix: &Prefix, id: &store::ContainerId) -> Vec<PathBuf> {
    let Ok(conf) = Area::open(prefix, id).and_then(|area| area.conf()) else { return Vec::new() };
    let own = Disks::of(&conf).unwrap_or_default().own;
    own.iter().map(|disk| disks::mount_point(prefix, id, disk.number)).collect()
}
