//! What is mounted, what runs and what lies about, asked of the kernel and the disk.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use store::{Area, ContainerId, GenerationNumber, Prefix, Volume};

use super::{Judged, Runs, Violation, eventually};

const MOUNTED: &str = "nothing is mounted that should not be";
const LEFT: &str = "nothing lies on disk that `live` does not reach";
const RUNNING: &str = "what ran runs, on the live root";
const PROCESSES: &str = "no process is left that should not be";

/// One line of mountinfo.
struct Mount {
    point: PathBuf,
    is_read_only: bool,
}

fn mounts_below(directory: &Path) -> Vec<Mount> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let parse = |line: &str| {
        let (left, right) = line.split_once(" - ")?;
        let point = PathBuf::from(left.split(' ').nth(4)?.replace("\\040", " "));
        // The last field has the superblock's own options.
        let is_read_only = right.split(' ').nth(2)?.split(',').any(|option| option == "ro");
        Some(Mount { point, is_read_only })
    };
    table.lines().filter_map(parse).filter(|mount| mount.point.starts_with(directory)).collect()
}

/// Only what belongs there is in a private area.
pub(super) fn nothing_lies_in(area: &Area) -> Judged<()> {
    let known =
        ["area.json", "generations", "live", "root", "scripts", "ve.conf", "volume.btrfs", "volume.img"];
    let is_disk = |name: &str| {
        store::DiskNumber::of_image(Path::new(name)).is_some_and(|number| number.image() == name)
    };
    names_in(area.path(), |name| known.contains(&name) || is_disk(name))?;
    for number in area.generation_numbers().map_err(super::records)? {
        let known = ["delta", "generation.json", "lower", "made.json", "work"];
        names_in(&area.generation_dir(number), |name| known.contains(&name))?;
    }
    names_in(&area.path().join("generations"), |name| name.parse::<GenerationNumber>().is_ok())?;
    if area.volume() == Volume::Directory {
        return Ok(());
    }
    if area.volume() == Volume::Image {
        names_in(area.path(), |name| name != "volume.btrfs")?;
    }
    // On a disk of its own no layers are left of what has no record, and beside the records none.
    let known = area.generation_numbers().map_err(super::records)?;
    for number in &known {
        names_in(&area.generation_dir(*number), |name| ["generation.json", "made.json"].contains(&name))?;
        let layers = super::layers(area, *number);
        names_in(&layers, |name| ["delta", "lower", "work"].contains(&name))?;
    }
    let point = area.layers_dir(GenerationNumber::FIRST);
    let is_own = |name: &str| [".reserve", ".trash", ".volume", "lost+found"].contains(&name);
    names_in(point.parent().unwrap_or(&point), |name| {
        is_own(name) || name.parse::<GenerationNumber>().is_ok_and(|number| known.contains(&number))
    })
}

fn names_in(directory: &Path, is_known: impl Fn(&str) -> bool) -> Judged<()> {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !is_known(&name) {
            return Err(Violation::new(LEFT, entry.path().display().to_string()));
        }
    }
    Ok(())
}

/// It runs on the first of `chain` with the others at `/old`, or is stopped and nothing of it is left.
pub(super) fn runs_as_it_should(prefix: &Prefix, id: &ContainerId, chain: &[u32], runs: Runs) -> Judged<()> {
    let state = runtime::state::running(prefix, id);
    match (&state, runs) {
        (None, Runs::Yes) => return Err(Violation::passing(RUNNING, format!("{id} does not run"))),
        (Some(_), Runs::No) => return Err(Violation::passing(RUNNING, format!("{id} runs"))),
        _ => {}
    }
    mounts_are(prefix, id, if state.is_some() { chain } else { &[] })?;
    processes_are(prefix, id, state.is_some())?;
    let Some(state) = state else { return Ok(()) };
    if chain.first() != Some(&state.generation.get()) {
        let what = format!("{id} runs on generation {}, live are {chain:?}", state.generation);
        return Err(Violation::passing(RUNNING, what));
    }
    // Without its monitor nobody can change what it sees: that comes with its next start, and every command says so.
    let chain = if state.monitor.is_alive() { chain } else { &chain[..1] };
    // What its init sees is what its records say.
    for (depth, number) in chain.iter().enumerate() {
        let point = runtime::mounts::generation_point(prefix, id, GenerationNumber::new(*number));
        let seen = format!("/proc/{}/root{}", state.init.pid, "/old".repeat(depth));
        let device = |path: &Path| std::fs::metadata(path).map(|facts| facts.dev()).ok();
        if device(Path::new(&seen)).is_none() || device(Path::new(&seen)) != device(&point) {
            let what = format!("at `{}/` is not generation {number}", "/old".repeat(depth));
            return Err(Violation::passing("the old root is at /old", what));
        }
    }
    Ok(())
}

/// But for a disk of its own.
pub(super) fn nothing_is_mounted_of(prefix: &Prefix, id: &ContainerId) -> Judged<()> {
    eventually(|| {
        mounts_are(prefix, id, &[])?;
        processes_are(prefix, id, false)
    })
}

fn mounts_are(prefix: &Prefix, id: &ContainerId, chain: &[u32]) -> Judged<()> {
    let run = prefix.run_dir_of(id);
    let mut found = mounts_below(&run);
    found.extend(mounts_below(&prefix.root_dir(id)));
    // A disk of its own is nobody's view of anything.
    found.retain(|mount| mount.point != store::volume::mount_point(prefix, id));
    // Those that it has beside it neither.
    let disks = super::disks::points(prefix, id);
    found.retain(|mount| !disks.contains(&mount.point));
    for mount in &found {
        let place = chain.iter().position(|number| mount.point == run.join(format!("generations/{number}")));
        let Some(depth) = place else {
            return Err(Violation::passing(MOUNTED, mount.point.display().to_string()));
        };
        if mount.is_read_only != (depth > 1) {
            let what = format!("{} is read-only: {}", mount.point.display(), mount.is_read_only);
            return Err(Violation::passing("/old is writable, and what is behind it is not", what));
        }
    }
    if found.len() != chain.len() {
        let what = format!("of the roots {chain:?} only {} are mounted", found.len());
        return Err(Violation::passing("the old root is at /old", what));
    }
    Ok(())
}

fn processes_are(prefix: &Prefix, id: &ContainerId, is_running: bool) -> Judged<()> {
    let (own, script, monitor) = (id.to_string(), format!("{id}.script"), format!("{id}.monitor"));
    for (group, pid) in processes(prefix) {
        let is_wanted = if group == own { is_running } else { group == monitor && is_running };
        if !is_wanted && [&own, &script, &monitor].contains(&&group) {
            let text = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let text = String::from_utf8_lossy(&text).replace('\0', " ");
            return Err(Violation::passing(PROCESSES, format!("{pid} (`{text}`) in {group}")));
        }
    }
    let keepers = processes(prefix).into_iter().filter(|(group, _)| *group == monitor).count();
    if keepers > 1 {
        return Err(Violation::passing(PROCESSES, format!("{keepers} processes in {monitor}")));
    }
    Ok(())
}

/// Every process in the control groups of a host, with the name of the container's group.
fn processes(prefix: &Prefix) -> Vec<(String, i32)> {
    let group = format!("reroot-{}", prefix.short_hash());
    let mut found = Vec::new();
    for tree in ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"] {
        for entry in std::fs::read_dir(Path::new(tree).join(&group)).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let mut todo = vec![entry.path()];
            while let Some(directory) = todo.pop() {
                let text = std::fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
                found.extend(text.lines().filter_map(|line| Some((name.clone(), line.parse().ok()?))));
                let below = std::fs::read_dir(&directory).into_iter().flatten().flatten();
                todo.extend(below.filter(|one| one.path().is_dir()).map(|one| one.path()));
            }
        }
    }
    found
}

/// Nothing of the host is left that belongs to no container: after a recovery of all of it.
///
/// # Errors
/// [`Violation`].
pub fn leftovers(prefix: &Prefix) -> Judged<()> {
    let is_container = |name: &str| {
        name.parse::<ContainerId>().is_ok_and(|id| prefix.area_dir(&id).join("area.json").exists())
    };
    names_in(&prefix.private_dir(), |name| [".trash", ".reserve"].contains(&name) || is_container(name))?;
    names_in(&prefix.run_dir(), |name| name == "lock" || is_container(name))?;
    names_in(&prefix.vz_dir().join("root"), is_container)?;
    for directory in [prefix.names_dir(), prefix.conf_dir()] {
        for entry in std::fs::read_dir(&directory).into_iter().flatten().flatten() {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with(".reroot-tmp.") || path.is_symlink() && !path.exists() {
                return Err(Violation::new(LEFT, path.display().to_string()));
            }
        }
    }
    for entry in std::fs::read_dir(prefix.template_dir()).into_iter().flatten().flatten() {
        names_in(&entry.path(), |name| !name.starts_with('.'))?;
    }
    // A deletion's own processes end a little later than it does.
    eventually(|| {
        match processes(prefix).iter().find(|(group, _)| {
            let id = group.trim_end_matches(".monitor").trim_end_matches(".script");
            !is_container(id)
        }) {
            Some((group, pid)) => Err(Violation::passing(PROCESSES, format!("{pid} in {group}"))),
            None => Ok(()),
        }
    })
}

/// Whoever empties the trash leaves nothing in it.
///
/// # Errors
/// [`Violation`].
pub fn trash_empties(prefix: &Prefix) -> Judged<()> {
    eventually(|| {
        store::trash::empty(prefix).map_err(|error| Violation::passing(LEFT, error.to_string()))?;
        match store::trash::is_empty(prefix) {
            Ok(true) => Ok(()),
            other => Err(Violation::passing(LEFT, format!("{}: {other:?}", prefix.trash_dir().display()))),
        }
    })
}
