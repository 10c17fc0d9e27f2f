//! What holds now, read back from a container's control groups.

use store::Limits;

use super::{Disk, UNLIMITED, WEIGHTS, read};
use crate::cgroup::Cgroups;

/// What the kernel says of a container that runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Now {
    /// Bytes in use.
    pub memory_used: Option<u64>,
    /// Its limits, as they hold; the masks are those that are in effect.
    pub limits: Limits,
    /// Bytes that are taken from it last; `None`: the kernel has nothing to say of that.
    pub memory_guarantee: Option<u64>,
    /// How many processes and threads there are.
    pub processes: Option<u64>,
    /// How often something was killed for want of memory.
    pub out_of_memory_kills: Option<u64>,
    /// How long its processes have run on a processor, in nanoseconds.
    pub cpu_time: Option<u64>,
    /// Bytes that were read from disks, and written.
    pub disk: Option<(u64, u64)>,
}

/// Asks the kernel.
pub fn now(groups: &Cgroups, disk: Option<Disk>) -> Now {
    let file = |controller: &str, name: &str| -> Option<String> {
        let path = groups.of_controller(controller)?.join(name);
        path.exists().then(|| read(&path))
    };
    let number = |controller: &str, name: &str| -> Option<u64> { file(controller, name)?.parse().ok() };
    let limited = |value: Option<u64>| value.filter(|&value| value < UNLIMITED);
    let of_disk = |text: Option<String>| -> Option<String> {
        let Disk { major, minor } = disk?;
        let start = format!("{major}:{minor} ");
        text?.lines().find_map(|line| line.strip_prefix(&start)).map(str::to_owned)
    };
    let keyed = |text: Option<String>, key: &str| -> Option<u64> {
        let mut lines = text.as_deref().unwrap_or_default().lines();
        lines.find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.parse().ok())
    };
    if groups.is_hybrid() {
        let quota = number("cpu", "cpu.cfs_quota_us").zip(number("cpu", "cpu.cfs_period_us"));
        let memory = limited(number("memory", "memory.limit_in_bytes"));
        let both = limited(number("memory", "memory.memsw.limit_in_bytes"));
        let weight = number("blkio", "blkio.bfq.weight");
        return Now {
            memory_used: number("memory", "memory.usage_in_bytes"),
            memory_guarantee: None,
            processes: number("pids", "pids.current"),
            out_of_memory_kills: keyed(file("memory", "memory.oom_control"), "oom_kill"),
            cpu_time: number("cpuacct", "cpuacct.usage"),
            disk: file("blkio", "blkio.throttle.io_service_bytes_recursive")
                .map(|text| (sum_of(&text, " Read "), sum_of(&text, " Write "))),
            limits: Limits {
                memory,
                swap: both.zip(memory).map(|(both, memory)| both.saturating_sub(memory)),
                memory_guarantee: None,
                cpus: quota.and_then(|(quota, period)| hundredths(quota, period)),
                cpu_units: number("cpu", "cpu.shares").map(|shares| (shares * 1000).div_ceil(1024)),
                processes: number("pids", "pids.max"),
                cpu_mask: file("cpuset", "cpuset.effective_cpus"),
                node_mask: file("cpuset", "cpuset.effective_mems"),
                io_priority: weight.and_then(priority),
                io_bytes: of_disk(file("blkio", "blkio.throttle.read_bps_device"))
                    .and_then(|text| text.parse().ok()),
                io_operations: of_disk(file("blkio", "blkio.throttle.read_iops_device"))
                    .and_then(|text| text.parse().ok()),
            },
        };
    }
    let throttles = of_disk(file("", "io.max"));
    let throttle = |name: &str| -> Option<u64> {
        throttles.as_deref()?.split(' ').find_map(|pair| pair.strip_prefix(name)?.parse().ok())
    };
    let maximum = file("", "cpu.max").and_then(|text| {
        let (quota, period) = text.split_once(' ')?;
        hundredths(quota.parse().ok()?, period.parse().ok()?)
    });
    let weight = file("", "io.bfq.weight").or_else(|| file("", "io.weight"));
    Now {
        memory_used: number("", "memory.current"),
        memory_guarantee: number("", "memory.low"),
        processes: number("", "pids.current"),
        out_of_memory_kills: keyed(file("", "memory.events"), "oom_kill"),
        cpu_time: keyed(file("", "cpu.stat"), "usage_usec").map(|microseconds| microseconds * 1000),
        disk: file("", "io.stat").map(|text| (sum_of(&text, " rbytes="), sum_of(&text, " wbytes="))),
        limits: Limits {
            memory: number("", "memory.max"),
            swap: number("", "memory.swap.max"),
            memory_guarantee: number("", "memory.low").filter(|&bytes| bytes > 0),
            cpus: maximum,
            cpu_units: number("", "cpu.weight").map(|weight| weight * 10),
            processes: number("", "pids.max"),
            cpu_mask: file("", "cpuset.cpus.effective"),
            node_mask: file("", "cpuset.mems.effective"),
            io_priority: weight.and_then(|text| text.split(' ').next_back()?.parse().ok()).and_then(priority),
            io_bytes: throttle("rbps="),
            io_operations: throttle("riops="),
        },
    }
}

/// Of what stands after `key` in each line: of all disks.
fn sum_of(text: &str, key: &str) -> u64 {
    let number = |line: &str| line.split_once(key)?.1.split(' ').next()?.parse::<u64>().ok();
    text.lines().filter_map(number).sum()
}

fn hundredths(quota: u64, period: u64) -> Option<u32> {
    u32::try_from(quota.checked_mul(100)?.checked_div(period)?).ok()
}

fn priority(weight: u64) -> Option<u8> {
    WEIGHTS.iter().position(|&one| one == weight).and_then(|priority| u8::try_from(priority).ok())
}
