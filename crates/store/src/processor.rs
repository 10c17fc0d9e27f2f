//! How fast this host's processors are, for `CPULIMIT_MHZ`, which is a limit in MHz of one of them.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::OnceLock;

/// What the kernel tells of the first processor's frequency, in kHz: its usual one, or the highest. Not what it has at this moment, which changes.
const FREQUENCIES: [&str; 2] = [
    "/sys/devices/system/cpu/cpu0/cpufreq/base_frequency",
    "/sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq",
];
const DESCRIPTION: &str = "/proc/cpuinfo";

/// MHz of a processor of this host; `None`: its kernel does not tell.
pub fn megahertz() -> Option<u32> {
    static MEGAHERTZ: OnceLock<Option<u32>> = OnceLock::new();
    *MEGAHERTZ.get_or_init(|| {
        let kilohertz = FREQUENCIES.iter().find_map(|path| read(path)?.trim().parse::<u32>().ok());
        kilohertz
            .map(|kilohertz| kilohertz / 1000)
            .or_else(|| of_description(&read(DESCRIPTION)?))
            .filter(|&mhz| mhz > 0)
    })
}

/// The fastest one there, since those that rest are told with less.
fn of_description(text: &str) -> Option<u32> {
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    let speeds = lines.filter(|(key, _)| key.trim() == "cpu MHz").filter_map(|(_, value)| {
        let whole = value.trim().split('.').next()?;
        whole.parse::<u32>().ok()
    });
    speeds.max()
}

fn read(path: &str) -> Option<String> {
    let mut text = String::new();
    // Some tens of bytes a line, some lines a processor.
    File::open(Path::new(path)).ok()?.take(16 << 20).read_to_string(&mut text).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fastest_processor_counts() {
        let text =
            "processor\t: 0\ncpu MHz\t\t: 800.012\nprocessor\t: 1\ncpu MHz\t\t: 2694.000\nbogomips : 5000\n";
        assert_eq!(of_description(text), Some(2694));
        assert_eq!(of_description("processor : 0\nBogoMIPS : 50.00\n"), None);
        assert_eq!(of_description("cpu MHz : fast\n"), None);
    }
}
