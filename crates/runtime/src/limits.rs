//! A container's limits in its control groups: set at its start, changed while it runs, and read back.
//!
//! | | v2 | hybrid |
//! |---|---|---|
//! | `PHYSPAGES` | `memory.max` | `memory.limit_in_bytes` |
//! | `SWAPPAGES` | `memory.swap.max` | `memory.memsw.limit_in_bytes`, which is the sum of both |
//! | `MEMGUARANTEE` | `memory.low`, and of the group of all containers the sum | none |
//! | `CPUS`, `CPULIMIT` | `cpu.max` | `cpu.cfs_quota_us` of `cpu.cfs_period_us` |
//! | `CPUUNITS` | `cpu.weight`, 100 for 1000 | `cpu.shares`, 1024 for 1000 |
//! | `CPUMASK`, `NODEMASK` | `cpuset.cpus`, `cpuset.mems` | the same |
//! | `NUMPROC` | `pids.max` | the same |
//! | `IOPRIO` | `io.bfq.weight`, else `io.weight` | `blkio.bfq.weight` |
//! | `IOLIMIT`, `IOPSLIMIT` | `io.max` | `blkio.throttle.*`: of what is buffered only what is read |
//!
//! Not by the runtime library's own: that leaves `SWAPPAGES="0"` unlimited on v2, and has no way back to no limit.

mod disk;
mod now;

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use store::{Limits, USUAL_IO_PRIORITY};

pub use self::disk::Disk;
pub use self::now::{Now, now};
use crate::cgroup::{CgroupError, Cgroups, Layout};

/// What `cpu.max` counts in, in microseconds: the kernel's own.
const PERIOD: u64 = 100_000;
/// So much of the disk a container of each `IOPRIO` gets beside one of 4 with 100, whatever the scheduler counts in.
const WEIGHTS: [u64; 8] = [12, 25, 50, 75, 100, 200, 400, 800];
/// The largest number of v1's limits, which means none.
const UNLIMITED: u64 = i64::MAX as u64 / 4096 * 4096;

/// One file of a control group, and what it is to say.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wish {
    /// The key of `ve.conf` that it is for.
    key: &'static str,
    /// Of which v1 hierarchy it is; there is one for all on v2.
    controller: &'static str,
    /// The first of these that is there.
    files: &'static [&'static str],
    text: String,
}

/// What a limit says, or that there is none.
fn or_max(value: Option<u64>) -> String {
    value.map_or_else(|| "max".to_owned(), |value| value.to_string())
}

fn or_minus_one(value: Option<u64>) -> String {
    value.map_or_else(|| "-1".to_owned(), |value| value.to_string())
}

fn unified_wishes(limits: &Limits, disk: Option<Disk>) -> Vec<Wish> {
    let wish = |key, files, text| Wish { key, controller: "", files, text };
    let quota = limits.cpus.map(|hundredths| u64::from(hundredths) * PERIOD / 100);
    let mut wishes = vec![
        wish("MEMGUARANTEE", &["memory.low"], limits.memory_guarantee.unwrap_or(0).to_string()),
        wish("SWAPPAGES", &["memory.swap.max"], or_max(limits.swap)),
        wish("PHYSPAGES", &["memory.max"], or_max(limits.memory)),
        wish("CPULIMIT", &["cpu.max"], format!("{} {PERIOD}", or_max(quota))),
        wish(
            "CPUUNITS",
            &["cpu.weight"],
            (limits.cpu_units.unwrap_or(1000) / 10).clamp(1, 10_000).to_string(),
        ),
        // Empty: as the group above.
        wish("CPUMASK", &["cpuset.cpus"], limits.cpu_mask.clone().unwrap_or_else(|| "\n".to_owned())),
        wish("NODEMASK", &["cpuset.mems"], limits.node_mask.clone().unwrap_or_else(|| "\n".to_owned())),
        wish("NUMPROC", &["pids.max"], or_max(limits.processes)),
        wish("IOPRIO", &["io.bfq.weight", "io.weight"], format!("default {}", weight(limits))),
    ];
    if let Some(Disk { major, minor }) = disk {
        let (bytes, operations) = (or_max(limits.io_bytes), or_max(limits.io_operations));
        let text = format!("{major}:{minor} rbps={bytes} wbps={bytes} riops={operations} wiops={operations}");
        let key = if limits.io_bytes.is_some() { "IOLIMIT" } else { "IOPSLIMIT" };
        wishes.push(wish(key, &["io.max"], text));
    }
    wishes
}

fn legacy_wishes(limits: &Limits, disk: Option<Disk>) -> Vec<Wish> {
    let wish = |key, controller, files, text| Wish { key, controller, files, text };
    let quota = limits.cpus.map(|hundredths| u64::from(hundredths) * PERIOD / 100);
    let both =
        limits.memory.zip(limits.swap).map(|(memory, swap)| memory.saturating_add(swap).min(UNLIMITED));
    let shares = (limits.cpu_units.unwrap_or(1000) * 1024 / 1000).clamp(2, 262_144);
    let mut wishes = vec![
        wish("PHYSPAGES", "memory", &["memory.limit_in_bytes"] as &[_], or_minus_one(limits.memory)),
        wish("SWAPPAGES", "memory", &["memory.memsw.limit_in_bytes"], or_minus_one(both)),
        wish("CPULIMIT", "cpu", &["cpu.cfs_period_us"], PERIOD.to_string()),
        wish("CPULIMIT", "cpu", &["cpu.cfs_quota_us"], or_minus_one(quota)),
        wish("CPUUNITS", "cpu", &["cpu.shares"], shares.to_string()),
        wish("CPUMASK", "cpuset", &["cpuset.cpus"], limits.cpu_mask.clone().unwrap_or_default()),
        wish("NODEMASK", "cpuset", &["cpuset.mems"], limits.node_mask.clone().unwrap_or_default()),
        wish("NUMPROC", "pids", &["pids.max"], or_max(limits.processes)),
        wish("IOPRIO", "blkio", &["blkio.bfq.weight"], weight(limits).to_string()),
    ];
    if let Some(Disk { major, minor }) = disk {
        let throttles: [(&str, &[&str], Option<u64>); 4] = [
            ("IOLIMIT", &["blkio.throttle.read_bps_device"], limits.io_bytes),
            ("IOLIMIT", &["blkio.throttle.write_bps_device"], limits.io_bytes),
            ("IOPSLIMIT", &["blkio.throttle.read_iops_device"], limits.io_operations),
            ("IOPSLIMIT", &["blkio.throttle.write_iops_device"], limits.io_operations),
        ];
        for (key, files, limit) in throttles {
            wishes.push(wish(key, "blkio", files, format!("{major}:{minor} {}", limit.unwrap_or(0))));
        }
    }
    wishes
}

fn weight(limits: &Limits) -> u64 {
    WEIGHTS[usize::from(limits.io_priority.unwrap_or(USUAL_IO_PRIORITY)).min(WEIGHTS.len() - 1)]
}

/// The keys that limits say something for.
fn said(limits: &Limits) -> Vec<&'static str> {
    let pairs = [
        ("PHYSPAGES", limits.memory.is_some()),
        ("SWAPPAGES", limits.swap.is_some()),
        ("MEMGUARANTEE", limits.memory_guarantee.is_some()),
        ("CPULIMIT", limits.cpus.is_some()),
        ("CPUUNITS", limits.cpu_units.is_some_and(|units| units != 1000)),
        ("CPUMASK", limits.cpu_mask.is_some()),
        ("NODEMASK", limits.node_mask.is_some()),
        ("NUMPROC", limits.processes.is_some()),
        ("IOPRIO", limits.io_priority.is_some_and(|priority| priority != USUAL_IO_PRIORITY)),
        ("IOLIMIT", limits.io_bytes.is_some()),
        ("IOPSLIMIT", limits.io_operations.is_some()),
    ];
    pairs.into_iter().filter(|(_, is_said)| *is_said).map(|(key, _)| key).collect()
}

/// Limits that this host has nothing to enforce with: a key of `ve.conf`, and what is lacking.
pub type Lacking = Vec<(&'static str, String)>;

/// What this host has nothing to enforce with, as far as that can be told without a container.
pub fn lacking(limits: &Limits, disk: Option<Disk>) -> Lacking {
    let Ok(layout) = Layout::detect() else { return lacking_machine(limits, disk, false) };
    let mut lacking = lacking_machine(limits, disk, layout.is_hybrid());
    let controllers = [
        ("PHYSPAGES", "memory"),
        ("SWAPPAGES", "memory"),
        ("MEMGUARANTEE", "memory"),
        ("CPULIMIT", "cpu"),
        ("CPUUNITS", "cpu"),
        ("CPUMASK", "cpuset"),
        ("NODEMASK", "cpuset"),
        ("NUMPROC", "pids"),
        ("IOPRIO", if layout.is_hybrid() { "blkio" } else { "io" }),
        ("IOLIMIT", if layout.is_hybrid() { "blkio" } else { "io" }),
        ("IOPSLIMIT", if layout.is_hybrid() { "blkio" } else { "io" }),
    ];
    let said = said(limits);
    for (key, controller) in controllers {
        if !said.contains(&key) || lacking.iter().any(|(known, _)| *known == key) {
            continue;
        }
        if !layout.has_controller(controller) {
            lacking.push((key, format!("this host has no control group controller `{controller}`")));
        } else if key == "MEMGUARANTEE" && layout.is_hybrid() {
            lacking.push((key, "the memory controller of cgroup v1 guarantees nothing".to_owned()));
        }
    }
    lacking
}

/// Sets the limits of a container whose groups are new, where nothing is limited yet.
///
/// # Errors
/// [`CgroupError::File`] for what the kernel refuses.
pub fn set(groups: &Cgroups, limits: &Limits, disk: Option<Disk>) -> Result<Lacking, CgroupError> {
    let said = said(limits);
    let mut lacking = lacking_machine(limits, disk, groups.is_hybrid());
    for wish in wishes(groups, limits, disk).into_iter().filter(|wish| said.contains(&wish.key)) {
        if is_mask(&wish) && lacking.iter().any(|(key, _)| *key == wish.key) {
            continue;
        }
        match place(groups, &wish) {
            Some(path) => write(&path, &wish.text)?,
            None => note(&mut lacking, &wish),
        }
    }
    if limits.memory_guarantee.is_some() {
        groups.ensure_guarantees()?;
    }
    Ok(lacking)
}

/// Gives a container that runs other limits: all of them, or, where the kernel refuses one, none.
///
/// # Errors
/// [`CgroupError::InUse`] for less memory than cannot be taken from it; [`CgroupError::File`].
pub fn change(groups: &Cgroups, limits: &Limits, disk: Option<Disk>) -> Result<Lacking, CgroupError> {
    check_memory(groups, limits)?;
    let said = said(limits);
    let mut lacking = lacking_machine(limits, disk, groups.is_hybrid());
    let mut before: Vec<(PathBuf, String)> = Vec::new();
    for wish in in_order(groups, wishes(groups, limits, disk)) {
        if is_mask(&wish) && lacking.iter().any(|(key, _)| *key == wish.key) {
            continue;
        }
        let Some(path) = place(groups, &wish) else {
            if said.contains(&wish.key) {
                note(&mut lacking, &wish);
            }
            continue;
        };
        let text = match wish.text.as_str() {
            // On v1 there is no word for "as the group above".
            "" => path
                .parent()
                .and_then(Path::parent)
                .map(|above| above.join(wish.files[0]))
                .map(|above| read(&above)),
            text => Some(text.to_owned()),
        };
        let was = read(&path);
        let Some(text) = text.filter(|text| !says(&was, text)) else { continue };
        let is_guarantee = wish.key == "MEMGUARANTEE";
        let written = write(&path, &text);
        if written.is_ok() {
            before.push((path, was));
        }
        let held = written.and_then(|()| if is_guarantee { groups.ensure_guarantees() } else { Ok(()) });
        if let Err(error) = held {
            for (path, was) in before.iter().rev() {
                take_back(path, was);
            }
            drop(groups.ensure_guarantees());
            return Err(error);
        }
    }
    Ok(lacking)
}

fn wishes(groups: &Cgroups, limits: &Limits, disk: Option<Disk>) -> Vec<Wish> {
    if groups.is_hybrid() { legacy_wishes(limits, disk) } else { unified_wishes(limits, disk) }
}

/// On v1 the sum of memory and swap is at no time less than the memory.
fn in_order(groups: &Cgroups, mut wishes: Vec<Wish>) -> Vec<Wish> {
    let number = |text: &str| text.trim().parse::<u64>().unwrap_or(u64::MAX);
    let grows = wishes.iter().any(|wish| {
        wish.files == ["memory.memsw.limit_in_bytes"]
            && place(groups, wish).is_some_and(|path| number(&wish.text) >= number(&read(&path)))
    });
    if grows {
        wishes.swap(0, 1);
    }
    wishes
}

/// What the machine has not, whatever its kernel can: these are left out of what is set.
fn lacking_machine(limits: &Limits, disk: Option<Disk>, is_hybrid: bool) -> Lacking {
    let mut lacking = Lacking::new();
    if is_hybrid && limits.swap.is_some() && limits.memory.is_none() {
        let because = "cgroup v1 limits swap only together with memory, which is `unlimited`";
        lacking.push(("SWAPPAGES", because.to_owned()));
    }
    for (key, mask, what, file) in [
        ("CPUMASK", &limits.cpu_mask, "processors", "cpu"),
        ("NODEMASK", &limits.node_mask, "nodes of memory", "node"),
    ] {
        let there = read(Path::new(&format!("/sys/devices/system/{file}/online")));
        if let Some(mask) = mask
            && !there.is_empty()
            && !is_subset(mask, &there)
        {
            lacking.push((key, format!("this host has the {what} {there}, and not all of {mask}")));
        }
    }
    let keys = [("IOLIMIT", limits.io_bytes.is_some()), ("IOPSLIMIT", limits.io_operations.is_some())];
    let unlimited = keys.into_iter().filter(|(_, is_said)| *is_said && disk.is_none());
    lacking.extend(unlimited.map(|(key, _)| (key, "the containers do not lie on one disk".to_owned())));
    if limits.memory_guarantee.is_some()
        && let Ok(layout) = Layout::detect()
        && !layout.is_hybrid()
        && !layout.hands_guarantees_down()
    {
        let because = "the control groups are mounted so that no guarantee reaches those that a container makes: `mount -o remount,nsdelegate,memory_recursiveprot /sys/fs/cgroup`";
        lacking.push(("MEMGUARANTEE", because.to_owned()));
    }
    if said(limits).contains(&"IOPRIO")
        && let Some(disk) = disk
        && let Some(scheduler) = disk.scheduler().filter(|scheduler| scheduler != "bfq")
    {
        lacking.push(("IOPRIO", format!("the disk's scheduler is {scheduler}, and only bfq gives containers shares of a disk: `echo bfq >{}`", disk.scheduler_file().display())));
    }
    lacking
}

/// Both as cpuset(7) writes lists.
fn is_subset(mask: &str, there: &str) -> bool {
    let ranges = |text: &str| -> Vec<(u32, u32)> {
        let range = |part: &str| -> Option<(u32, u32)> {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            Some((first.trim().parse().ok()?, last.trim().parse().ok()?))
        };
        text.split(',').filter_map(range).collect()
    };
    let there = ranges(there);
    let is_there = |one: u32| there.iter().any(|(first, last)| (*first..=*last).contains(&one));
    ranges(mask).into_iter().all(|(first, last)| (first..=last).all(is_there))
}

fn note(lacking: &mut Lacking, wish: &Wish) {
    if !lacking.iter().any(|(key, _)| *key == wish.key) {
        lacking
            .push((wish.key, format!("this kernel has no {} for control groups", wish.files.join(" or "))));
    }
}

/// What the machine has not cannot even be written.
fn is_mask(wish: &Wish) -> bool {
    matches!(wish.key, "CPUMASK" | "NODEMASK")
}

/// Where the file of a wish is.
fn place(groups: &Cgroups, wish: &Wish) -> Option<PathBuf> {
    let directory = groups.of_controller(wish.controller)?;
    wish.files.iter().map(|file| directory.join(file)).find(|path| path.exists())
}

fn read(path: &Path) -> String {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(64 * 1024).read_to_string(&mut text));
    if read.is_err() { String::new() } else { text.trim().to_owned() }
}

/// What the file says is what is wished, as far as that can be told; else it is written again, which does no harm.
fn says(was: &str, text: &str) -> bool {
    was == text.trim()
}

fn write(path: &Path, text: &str) -> Result<(), CgroupError> {
    let put = |text: &str| File::options().write(true).open(path)?.write_all(text.as_bytes());
    put(text)
        .or_else(|error| match effective_above(path) {
            // Older kernels (6.1 is one) make no mask empty again that somebody runs under: what it would mean is written.
            Some(all) if text == "\n" && error.raw_os_error() == Some(Errno::NOSPC.raw_os_error()) => {
                put(&all)
            }
            Some(_) | None => Err(error),
        })
        .map_err(|source| CgroupError::File { what: "set", path: path.to_owned(), source })
}

/// What the group above has of the processors, or nodes, that a mask of v2 is about.
fn effective_above(mask: &Path) -> Option<String> {
    let name = mask.file_name()?.to_str()?;
    name.starts_with("cpuset.").then_some(())?;
    Some(read(&mask.parent()?.parent()?.join(format!("{name}.effective"))))
}

/// What a file of limits said before; those of disks are written disk by disk, and have no line where there is no limit.
fn take_back(path: &Path, was: &str) {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let lines: Vec<String> = match name {
        "io.max"
        | "blkio.throttle.read_bps_device"
        | "blkio.throttle.write_bps_device"
        | "blkio.throttle.read_iops_device"
        | "blkio.throttle.write_iops_device" => {
            let is_v2 = name == "io.max";
            let now = read(path);
            let kept = was.lines().map(str::to_owned);
            let is_gone = |line: &&str| {
                let disk = line.split(' ').next();
                !was.lines().any(|old| old.split(' ').next() == disk)
            };
            let none = if is_v2 { "rbps=max wbps=max riops=max wiops=max" } else { "0" };
            let gone = now
                .lines()
                .filter(is_gone)
                .filter_map(|line| Some(format!("{} {none}", line.split(' ').next()?)));
            gone.chain(kept).collect()
        }
        _ if was.is_empty() => vec!["\n".to_owned()],
        _ => vec![was.to_owned()],
    };
    for line in lines {
        drop(write(path, &line));
    }
}

/// Of v2 `memory.max` is taken at once, and what cannot be had back by then kills; v1 refuses by itself.
fn check_memory(groups: &Cgroups, limits: &Limits) -> Result<(), CgroupError> {
    let (false, Some(limit)) = (groups.is_hybrid(), limits.memory) else { return Ok(()) };
    let Some(directory) = groups.of_controller("") else { return Ok(()) };
    let statistics = read(&directory.join("memory.stat"));
    let of = |name: &str| -> u64 {
        let line = statistics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|number| number.parse().ok()).unwrap_or(0)
    };
    let used = of("anon") + of("shmem") + of("kernel").saturating_sub(of("slab_reclaimable"));
    if used > limit {
        return Err(CgroupError::InUse { used, limit });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said_of(wishes: &[Wish], file: &str) -> String {
        let wish = wishes.iter().find(|wish| wish.files.contains(&file)).expect(file);
        wish.text.clone()
    }

    const DISK: Option<Disk> = Some(Disk { major: 8, minor: 16 });

    #[test]
    fn nothing_said_is_no_limit_in_both_kinds() {
        let none = Limits::default();
        let unified = unified_wishes(&none, DISK);
        for (file, wanted) in [
            ("memory.max", "max"),
            ("memory.swap.max", "max"),
            ("memory.low", "0"),
            ("cpu.max", "max 100000"),
            ("cpu.weight", "100"),
            ("cpuset.cpus", "\n"),
            ("pids.max", "max"),
            ("io.weight", "default 100"),
            ("io.max", "8:16 rbps=max wbps=max riops=max wiops=max"),
        ] {
            assert_eq!(said_of(&unified, file), wanted, "{file}");
        }
        let legacy = legacy_wishes(&none, DISK);
        for (file, wanted) in [
            ("memory.limit_in_bytes", "-1"),
            ("memory.memsw.limit_in_bytes", "-1"),
            ("cpu.cfs_quota_us", "-1"),
            ("cpu.shares", "1024"),
            ("cpuset.cpus", ""),
            ("pids.max", "max"),
            ("blkio.bfq.weight", "100"),
            ("blkio.throttle.read_bps_device", "8:16 0"),
        ] {
            assert_eq!(said_of(&legacy, file), wanted, "{file}");
        }
    }

    #[test]
    fn no_swap_is_a_limit() {
        let limits = Limits {
            memory: Some(64 << 20),
            swap: Some(0),
            cpus: Some(150),
            io_bytes: Some(1 << 20),
            io_operations: Some(50),
            ..Limits::default()
        };
        assert_eq!(said_of(&unified_wishes(&limits, DISK), "memory.swap.max"), "0");
        assert_eq!(said_of(&unified_wishes(&limits, DISK), "cpu.max"), "150000 100000");
        let io = "8:16 rbps=1048576 wbps=1048576 riops=50 wiops=50";
        assert_eq!(said_of(&unified_wishes(&limits, DISK), "io.max"), io);
        assert_eq!(said_of(&legacy_wishes(&limits, DISK), "memory.memsw.limit_in_bytes"), "67108864");
        assert_eq!(said_of(&legacy_wishes(&limits, DISK), "blkio.throttle.write_iops_device"), "8:16 50");
    }

    #[test]
    fn swap_without_a_limit_of_memory_is_lacking_on_v1_alone() {
        let swap = Limits { swap: Some(0), ..Limits::default() };
        assert_eq!(said(&swap), ["SWAPPAGES"]);
        assert!(lacking_machine(&swap, None, false).is_empty());
        assert_eq!(lacking_machine(&swap, None, true)[0].0, "SWAPPAGES");
        let both = Limits { memory: Some(1 << 20), ..swap };
        assert!(lacking_machine(&both, None, true).is_empty());
    }

    #[test]
    fn a_mask_is_of_what_there_is() {
        for (mask, there, is) in
            [("0-1", "0-3", true), ("0,2-3", "0-1,2-7", true), ("7", "0-3", false), ("0-4", "0-1,3-4", false)]
        {
            assert_eq!(is_subset(mask, there), is, "{mask} of {there}");
        }
    }
}
