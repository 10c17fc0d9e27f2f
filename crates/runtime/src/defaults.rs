//! What a container may use of the host where nobody has said: so much that no work is kept from anybody, and so little that the host stays alive, and can be
//! reached, whatever a container does.

use store::Conf;

use crate::cgroup::Layout;

/// Of all processes that the kernel has room for, one container has at the most one in so many.
const PROCESSES: u64 = 4;
/// Of all memory the host keeps one part in so many for itself …
const MEMORY: u64 = 8;
/// … and no less than this, in bytes.
const LEAST_MEMORY: u64 = 256 << 20;
const PAGE: u64 = 4096;

/// `NUMPROC` and `PHYSPAGES`, as a `vz.conf` would have them; without those that this kernel cannot enforce.
pub fn limits() -> Conf {
    let Ok(layout) = Layout::detect() else { return Conf::default() };
    let mut text = String::new();
    if layout.has_controller("pids")
        && let Some(processes) = processes()
    {
        text += &format!("NUMPROC=\"{processes}\"\n");
    }
    if layout.has_controller("memory")
        && let Some(pages) = pages(total_memory())
    {
        text += &format!("PHYSPAGES=\"{pages}\"\n");
    }
    Conf::parse(text.as_bytes())
}

/// Threads count, too: the kernel has numbers, and memory, for so many.
fn processes() -> Option<u64> {
    let number = |name: &str| -> Option<u64> {
        std::fs::read_to_string(format!("/proc/sys/kernel/{name}")).ok()?.trim().parse().ok()
    };
    Some(number("pid_max")?.min(number("threads-max")?) / PROCESSES)
}

fn total_memory() -> u64 {
    let found = rustix::system::sysinfo();
    (found.totalram as u64).saturating_mul(found.mem_unit.into())
}

/// `None`: there is too little to keep anything.
fn pages(total: u64) -> Option<u64> {
    let left = total.checked_sub((total / MEMORY).max(LEAST_MEMORY))?;
    (left >= LEAST_MEMORY).then_some(left / PAGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_keeps_an_eighth_and_no_less_than_256_mib() {
        let mib = |pages: Option<u64>| pages.map(|pages| (pages * PAGE) >> 20);
        assert_eq!(mib(pages(16 << 30)), Some(14 << 10));
        assert_eq!(mib(pages(1 << 30)), Some(768));
        assert_eq!(mib(pages(512 << 20)), Some(256));
        assert_eq!(mib(pages(300 << 20)), None);
        assert_eq!(mib(pages(0)), None);
    }
}
