//! How much of the host a container may use, out of the keys that OpenVZ has for it.
//!
//! `PHYSPAGES`, `SWAPPAGES` and `NUMPROC` are `barrier:limit`, of which the limit counts; memory is in pages of
//! 4 KiB whatever the host's page size is, or has a suffix. What `ve.conf` does not have is taken from `vz.conf`, and what that has not from what is
//! good for the host.

use crate::conf::Conf;
use crate::processor;

const PAGE: u64 = 4096;
/// What the kernel itself shows for "no limit": the largest `long` that is a whole number of pages.
const LARGEST: u64 = i64::MAX as u64 / PAGE * PAGE;

/// PID_MAX_LIMIT of the kernel's threads.h: its controller of processes says no to more.
const MOST_PROCESSES: u64 = 4_194_304;

/// A limit of the processors in MHz of one.
pub const MEGAHERTZ: &str = "CPULIMIT_MHZ";
const MOST_MEGAHERTZ: u64 = 1_000_000_000;

/// A value that is no limit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{key}={value}`: wanted {wanted}")]
pub struct LimitsError {
    pub key: &'static str,
    pub value: String,
    pub wanted: &'static str,
}

/// `None`: as much as there is.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Bytes.
    pub memory: Option<u64>,
    /// Bytes, beside the memory.
    pub swap: Option<u64>,
    /// Bytes that are taken from it only when nobody else has any left.
    pub memory_guarantee: Option<u64>,
    /// Hundredths of a core.
    pub cpus: Option<u32>,
    /// Weight against others, 1000 being usual.
    pub cpu_units: Option<u64>,
    pub processes: Option<u64>,
    /// Which processors, as the kernel lists them: `0-3,8`.
    pub cpu_mask: Option<String>,
    /// Which nodes of memory.
    pub node_mask: Option<String>,
    /// 0 to 7, the most; 4 is usual.
    pub io_priority: Option<u8>,
    /// Bytes a second that are read from the disk, and as many that are written.
    pub io_bytes: Option<u64>,
    /// Operations a second, likewise.
    pub io_operations: Option<u64>,
}

/// `IOPRIO` where nobody has said.
pub const USUAL_IO_PRIORITY: u8 = 4;

impl Limits {
    /// Of each key the first one of `sources` that says anything counts.
    pub fn from_conf(sources: &[&Conf]) -> Result<Self, LimitsError> {
        let look_up = |key: &'static str| {
            let mut said =
                sources.iter().filter_map(|source| source.get(key)).map(|value| value.trim().to_owned());
            said.find(|value| !value.is_empty()).map(|value| (key, value))
        };
        let cores = look_up("CPUS").map(parse_cores).transpose()?.flatten();
        // Two spellings of one limit: whoever says one does not mean another's other.
        let said_first = sources.iter().find(|source| {
            ["CPULIMIT", MEGAHERTZ]
                .iter()
                .any(|key| source.get(key).is_some_and(|value| !value.trim().is_empty()))
        });
        let said = |key: &'static str| {
            let value = said_first?.get(key)?.trim().to_owned();
            (!value.is_empty()).then_some((key, value))
        };
        let percent = said("CPULIMIT").map(parse_percent).transpose()?.flatten();
        let of_megahertz = said(MEGAHERTZ)
            .map(|entry| parse_megahertz(entry, processor::megahertz()))
            .transpose()?
            .flatten();
        let memory = look_up("PHYSPAGES").map(parse_memory).transpose()?.flatten();
        let guarantee = match look_up("MEMGUARANTEE_BYTES").map(parse_bytes).transpose()? {
            Some(bytes) => Some(bytes),
            // A share of nothing that is known is nothing.
            None => look_up("MEMGUARANTEE")
                .map(parse_guarantee)
                .transpose()?
                .flatten()
                .and_then(|percent| Some(memory? / 100 * percent)),
        };
        Ok(Self {
            memory,
            memory_guarantee: guarantee,
            swap: look_up("SWAPPAGES").map(parse_swap).transpose()?.flatten(),
            cpus: cores.into_iter().chain(percent).chain(of_megahertz).min(),
            cpu_units: look_up("CPUUNITS").map(parse_units).transpose()?,
            processes: look_up("NUMPROC").map(parse_processes).transpose()?.flatten(),
            cpu_mask: look_up("CPUMASK").map(parse_mask).transpose()?.flatten(),
            node_mask: look_up("NODEMASK").map(parse_mask).transpose()?.flatten(),
            io_priority: look_up("IOPRIO").map(parse_priority).transpose()?,
            io_bytes: look_up("IOLIMIT").map(parse_bytes).transpose()?.filter(|&bytes| bytes > 0),
            io_operations: look_up("IOPSLIMIT").map(parse_operations).transpose()?.filter(|&count| count > 0),
        })
    }
}

type Entry = (&'static str, String);

fn refuse((key, value): Entry, wanted: &'static str) -> LimitsError {
    LimitsError { key, value, wanted }
}

/// The limit in `barrier:limit`, or the only number. The barrier must be one too.
fn parse_pair(text: &str, parse: fn(&str) -> Option<Amount>) -> Option<Amount> {
    match text.split_once(':') {
        Some((barrier, limit)) => parse(barrier).and(parse(limit)),
        None => parse(text),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Amount {
    Unlimited,
    Of(u64),
}

impl Amount {
    fn limit(self) -> Option<u64> {
        match self {
            Self::Unlimited => None,
            Self::Of(amount) => Some(amount),
        }
    }
}

/// OpenVZ writes the largest `long` for "unlimited".
fn parse_count(text: &str) -> Option<Amount> {
    if text.eq_ignore_ascii_case("unlimited") {
        return Some(Amount::Unlimited);
    }
    let count: u64 = parse_digits(text)?;
    Some(if count >= i64::MAX as u64 { Amount::Unlimited } else { Amount::Of(count) })
}

fn parse_digits(text: &str) -> Option<u64> {
    // `u64::from_str` would take a sign.
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// In bytes.
fn parse_pages(text: &str) -> Option<Amount> {
    let factor = match text.as_bytes().last()?.to_ascii_uppercase() {
        b'K' => 1 << 10,
        b'M' => 1 << 20,
        b'G' => 1 << 30,
        b'T' => 1 << 40,
        b'P' => PAGE,
        _ => 0,
    };
    let (digits, factor) = match factor {
        0 => (text, PAGE),
        _ => (text.get(..text.len() - 1)?, factor),
    };
    match parse_count(digits)? {
        // "unlimitedK" is nothing.
        Amount::Unlimited if digits.len() < text.len() => None,
        Amount::Unlimited => Some(Amount::Unlimited),
        Amount::Of(count) => Some(match count.checked_mul(factor) {
            Some(bytes) if bytes < LARGEST => Amount::Of(bytes),
            Some(_) | None => Amount::Unlimited,
        }),
    }
}

fn parse_memory(entry: Entry) -> Result<Option<u64>, LimitsError> {
    match parse_pair(&entry.1, parse_pages) {
        Some(amount) if amount != Amount::Of(0) => Ok(amount.limit()),
        Some(_) | None => {
            Err(refuse(entry, "pages of 4 KiB from 1 on, or a number with K, M, G, T or P, or `unlimited`"))
        }
    }
}

fn parse_swap(entry: Entry) -> Result<Option<u64>, LimitsError> {
    match parse_pair(&entry.1, parse_pages) {
        Some(amount) => Ok(amount.limit()),
        None => {
            Err(refuse(entry, "pages of 4 KiB from 0 on, or a number with K, M, G, T or P, or `unlimited`"))
        }
    }
}

fn parse_processes(entry: Entry) -> Result<Option<u64>, LimitsError> {
    match parse_pair(&entry.1, parse_count) {
        Some(Amount::Of(count)) if !(1..=MOST_PROCESSES).contains(&count) => {
            Err(refuse(entry, "a number of processes from 1 to 4194304, or `unlimited`"))
        }
        Some(amount) => Ok(amount.limit()),
        None => Err(refuse(entry, "a number of processes from 1 to 4194304, or `unlimited`")),
    }
}

fn parse_cores(entry: Entry) -> Result<Option<u32>, LimitsError> {
    match parse_count(&entry.1) {
        Some(Amount::Unlimited | Amount::Of(0)) => Ok(None),
        Some(Amount::Of(cores)) if cores <= 65_536 => Ok(u32::try_from(cores * 100).ok()),
        Some(Amount::Of(_)) | None => {
            Err(refuse(entry, "a number of cores up to 65536, 0 or `unlimited` for all"))
        }
    }
}

fn parse_percent(entry: Entry) -> Result<Option<u32>, LimitsError> {
    match parse_count(entry.1.trim_end_matches('%')) {
        Some(Amount::Unlimited | Amount::Of(0)) => Ok(None),
        Some(Amount::Of(percent)) if percent <= 6_553_600 => Ok(u32::try_from(percent).ok()),
        Some(Amount::Of(_)) | None => {
            Err(refuse(entry, "percent of one core up to 6553600, or 0 for no limit"))
        }
    }
}

/// As much of one processor as that is, at the least one hundredth.
fn parse_megahertz(entry: Entry, processor: Option<u32>) -> Result<Option<u32>, LimitsError> {
    match (parse_digits(&entry.1), processor) {
        (Some(0), _) => Ok(None),
        (Some(megahertz @ 1..=MOST_MEGAHERTZ), Some(processor)) => {
            Ok(u32::try_from(megahertz.saturating_mul(100) / u64::from(processor))
                .ok()
                .map(|percent| percent.max(1)))
        }
        // A share of nothing that is known is nothing; whoever says it by hand is refused.
        (Some(1..=MOST_MEGAHERTZ), None) => Ok(None),
        (Some(_) | None, _) => Err(refuse(entry, "MHz of one core, up to 1000000000, or 0 for no limit")),
    }
}

fn parse_units(entry: Entry) -> Result<u64, LimitsError> {
    match parse_digits(&entry.1) {
        Some(units @ 8..=500_000) => Ok(units),
        Some(_) | None => Err(refuse(entry, "a weight from 8 to 500000")),
    }
}

/// A number, or one with a suffix, in bytes.
fn parse_bytes(entry: Entry) -> Result<u64, LimitsError> {
    let wanted = "bytes up to 9223372036854771712, or a number with K, M or G";
    let (digits, factor) = match entry.1.as_bytes().last().map(u8::to_ascii_uppercase) {
        Some(b'K') => (&entry.1[..entry.1.len() - 1], 1 << 10),
        Some(b'M') => (&entry.1[..entry.1.len() - 1], 1 << 20),
        Some(b'G') => (&entry.1[..entry.1.len() - 1], 1 << 30),
        _ => (entry.1.as_str(), 1),
    };
    match parse_digits(digits).and_then(|count| count.checked_mul(factor)) {
        Some(bytes) if bytes <= LARGEST => Ok(bytes),
        Some(_) | None => Err(refuse(entry, wanted)),
    }
}

fn parse_operations(entry: Entry) -> Result<u64, LimitsError> {
    match parse_digits(&entry.1) {
        Some(count) if count <= u64::from(u32::MAX) => Ok(count),
        Some(_) | None => Err(refuse(entry, "operations a second, up to 4294967295, or 0 for no limit")),
    }
}

fn parse_priority(entry: Entry) -> Result<u8, LimitsError> {
    match parse_digits(&entry.1) {
        Some(priority @ 0..=7) => Ok(priority as u8),
        Some(_) | None => Err(refuse(entry, "a priority from 0 to 7")),
    }
}

/// Percent of the memory; `auto` is none.
fn parse_guarantee(entry: Entry) -> Result<Option<u64>, LimitsError> {
    match entry.1.trim_end_matches('%') {
        "auto" => Ok(None),
        text => match parse_digits(text) {
            Some(percent @ 0..=100) => Ok(Some(percent)),
            Some(_) | None => Err(refuse(entry, "percent of the memory from 0 to 100, or `auto`")),
        },
    }
}

/// As the kernel's lists are (cpuset(7)), up to 4095; `all` is none.
fn parse_mask(entry: Entry) -> Result<Option<String>, LimitsError> {
    if entry.1 == "all" {
        return Ok(None);
    }
    let is_number = |text: &str| parse_digits(text).filter(|&number| number < 4096);
    let is_part = |part: &str| match part.split_once('-') {
        Some((first, last)) => {
            is_number(first).zip(is_number(last)).is_some_and(|(first, last)| first <= last)
        }
        None => is_number(part).is_some(),
    };
    if entry.1.split(',').all(is_part) {
        return Ok(Some(entry.1));
    }
    Err(refuse(entry, "numbers and ranges from 0 to 4095, `0-3,8`, or `all`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(text: &str) -> Result<Limits, LimitsError> {
        Limits::from_conf(&[&Conf::parse(text.as_bytes())])
    }

    #[test]
    fn reads_the_sample_basic() {
        let limits =
            limits("PHYSPAGES=\"131072:131072\"\nSWAPPAGES=\"0\"\nCPUUNITS=1000\nNUMPROC=\"400:500\"\n");
        let wanted = Limits {
            memory: Some(512 << 20),
            swap: Some(0),
            cpu_units: Some(1000),
            processes: Some(500),
            ..Limits::default()
        };
        assert_eq!(limits.unwrap(), wanted);
    }

    #[test]
    fn understands_suffixes_and_unlimited() {
        for (text, memory) in [
            ("PHYSPAGES=512M", Some(512 << 20)),
            ("PHYSPAGES=1g", Some(1 << 30)),
            ("PHYSPAGES=2T", Some(2 << 40)),
            ("PHYSPAGES=8K", Some(8192)),
            ("PHYSPAGES=3P", Some(3 * 4096)),
            ("PHYSPAGES=0:1", Some(4096)),
            ("PHYSPAGES=unlimited", None),
            ("PHYSPAGES=0:unlimited", None),
            ("PHYSPAGES=9223372036854775807:9223372036854775807", None),
            ("PHYSPAGES=2251799813685247", None),
            ("PHYSPAGES=", None),
            ("", None),
        ] {
            assert_eq!(limits(text).unwrap().memory, memory, "{text}");
        }
    }

    #[test]
    fn reads_what_concerns_disks_and_processors() {
        let text = "PHYSPAGES=1G\nMEMGUARANTEE=25%\nCPUMASK=0-1,3\nNODEMASK=all\nIOPRIO=7\nIOLIMIT=10M\nIOPSLIMIT=300\n";
        let wanted = Limits {
            memory: Some(1 << 30),
            memory_guarantee: Some((1 << 30) / 100 * 25),
            cpu_mask: Some("0-1,3".to_owned()),
            io_priority: Some(7),
            io_bytes: Some(10 << 20),
            io_operations: Some(300),
            ..Limits::default()
        };
        assert_eq!(limits(text).unwrap(), wanted);
        let none = limits("MEMGUARANTEE=50\nIOLIMIT=0\nIOPSLIMIT=0\nCPUMASK=all\n").unwrap();
        assert_eq!(none, Limits::default());
        let bytes = limits("MEMGUARANTEE=auto\nMEMGUARANTEE_BYTES=64M\n").unwrap();
        assert_eq!(bytes.memory_guarantee, Some(64 << 20));
    }

    #[test]
    fn the_narrower_of_cores_and_percent_counts() {
        for (text, cpus) in [
            ("CPUS=2", Some(200)),
            ("CPULIMIT=150", Some(150)),
            ("CPULIMIT=150%", Some(150)),
            ("CPUS=1\nCPULIMIT=150", Some(100)),
            ("CPUS=4\nCPULIMIT=150", Some(150)),
            ("CPUS=unlimited\nCPULIMIT=0", None),
        ] {
            assert_eq!(limits(text).unwrap().cpus, cpus, "{text}");
        }
    }

    #[test]
    fn megahertz_are_a_share_of_this_hosts() {
        let share = |text: &str, processor| parse_megahertz((MEGAHERTZ, text.to_owned()), processor);
        for (text, cpus) in
            [("1300", Some(50)), ("2600", Some(100)), ("7800", Some(300)), ("1", Some(1)), ("0", None)]
        {
            assert_eq!(share(text, Some(2600)).unwrap(), cpus, "{text}");
        }
        assert_eq!(share("1300", None).unwrap(), None);
        for text in ["1000000001", "-1", "1.5", "500m", "", "99999999999999999999"] {
            assert!(share(text, Some(2600)).unwrap_err().wanted.starts_with("MHz of one core"), "{text}");
        }
        // Whoever says either says both: what the host's own file has of the other does not count.
        let conf = |text: &str| Conf::parse(text.as_bytes());
        let both = Limits::from_conf(&[&conf("CPULIMIT=0\n"), &conf("CPULIMIT_MHZ=100\n")]);
        assert_eq!(both.unwrap().cpus, None);
    }

    #[test]
    fn says_which_value_is_no_limit() {
        for text in [
            "PHYSPAGES=0",
            "PHYSPAGES=-1",
            "PHYSPAGES=+1",
            "PHYSPAGES=1X",
            "PHYSPAGES=M",
            "PHYSPAGES=1:2:3",
            "PHYSPAGES=x:1",
            "PHYSPAGES=unlimitedK",
            "SWAPPAGES=1.5G",
            "NUMPROC=0",
            "NUMPROC=4194305",
            "NUMPROC=many",
            "CPUS=0.5",
            "CPULIMIT=fast",
            "CPUUNITS=7",
            "CPUUNITS=500001",
            "CPUMASK=1-0",
            "CPUMASK=0,,1",
            "CPUMASK=4096",
            "NODEMASK=none",
            "IOPRIO=8",
            "IOLIMIT=1.5M",
            "IOPSLIMIT=-1",
            "MEMGUARANTEE=101",
            "MEMGUARANTEE_BYTES=M",
        ] {
            let error = limits(text).unwrap_err();
            assert_eq!(format!("{}={}", error.key, error.value), text);
        }
    }

    #[test]
    fn the_host_gives_what_the_container_does_not_have() {
        let host = Conf::parse(b"CPUUNITS=500\nNUMPROC=10\n");
        let limits = |ve: &[u8]| {
            Limits::from_conf(&[&Conf::parse(ve), &host, &Conf::parse(b"NUMPROC=5\nPHYSPAGES=1G\n")]).unwrap()
        };
        let found = limits(b"NUMPROC=20\n");
        assert_eq!((found.cpu_units, found.processes, found.memory), (Some(500), Some(20), Some(1 << 30)));
        // What is empty says nothing; what is without a limit says so.
        let found = limits(b"NUMPROC=\nPHYSPAGES=unlimited\n");
        assert_eq!((found.processes, found.memory), (Some(10), None));
    }
}
