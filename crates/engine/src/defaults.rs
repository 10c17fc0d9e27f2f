//! What `vz.conf` says for every container whose own `ve.conf` has none of a key.
//!
//! One bad line of it is no reason that no container starts: such a value counts for nothing, as if it were not there, and is told. A key that a
//! `ve.conf` has, also an empty one, says all there is of it. Limits, disk space and some other keys are looked for in both by whoever reads them; those
//! here are put beside what a container has.

use std::path::Path;

use store::{Conf, Limits, RATE, RATE_BOUND, environment, features};

use crate::container::{LEAST_MEMORY, LEAST_PROCESSES};
use crate::settings::{self, LIMITS};

/// Keys that nobody looks for in `vz.conf` but [`beside`].
const KEYS: [&str; 10] = [
    "ONBOOT",
    settings::RESTART,
    settings::ALLOW_REBOOT,
    settings::NO_ACCESS_TIMES,
    environment::KEY,
    "NAMESERVER",
    "SEARCHDOMAIN",
    features::KEY,
    RATE,
    RATE_BOUND,
];
/// Keys that are looked for there by whoever reads them, beside the limits, and whose values can be bad, too.
const OF_DISK: [&str; 2] = ["DISKSPACE", "DISKINODES"];
/// What else is read of it, by whoever needs it.
const OF_THE_HOST: [&str; 12] = [
    "DEF_OSTEMPLATE",
    "CONFIGFILE",
    "VOLUME",
    "STOP_TIMEOUT",
    "VE_PARALLEL",
    "SCRIPT_TIMEOUT",
    "HEALTH",
    "REINSTALL_KEEP",
    "REINSTALL_RETAIN",
    "NAT",
    "NETWORK_FILES",
    SHAPING,
];
/// `no`: its `RATE` is nobody's. It stands so in the file that OpenVZ comes with, beside a rate of 8 kilobits that nobody has ever wanted.
const SHAPING: &str = "TRAFFIC_SHAPING";

/// A `vz.conf` without the values that cannot be, and what is to be said of those.
pub fn usable(mut conf: Conf, path: &Path) -> (Conf, Vec<String>) {
    let mut problems = Vec::new();
    for key in LIMITS.into_iter().chain(OF_DISK).chain(KEYS) {
        // What is no feature is left out word by word.
        let Some(value) = conf.get(key).filter(|_| key != features::KEY) else { continue };
        if let Some(wanted) = wanted_of(key, &value) {
            problems.push(format!(
                "`{key}` in {} is `{}`, and counts for nothing: wanted {wanted}",
                path.display(),
                settings::shown(&value)
            ));
            conf.remove(key);
        }
    }
    (conf, problems)
}

fn wanted_of(key: &str, value: &str) -> Option<&'static str> {
    if let Some(wanted) = settings::wanted_of(key, value) {
        return Some(wanted);
    }
    let mut conf = Conf::default();
    conf.set(key, value).ok()?;
    let Limits { processes, memory, .. } = Limits::from_conf(&[&conf]).ok()?;
    if processes.is_some_and(|count| count < LEAST_PROCESSES) {
        return Some("4 processes or more: not even an init and a shell could run");
    }
    memory.filter(|&bytes| bytes < LEAST_MEMORY).map(|_| "1 MiB or more: nothing could start in it")
}

/// A container's configuration with what the host's usable one has for it.
pub fn beside(own: &Conf, of_host: &Conf) -> Conf {
    let mut conf = own.clone();
    for key in KEYS {
        if own.get(key).is_none()
            && let Some(value) = said(of_host, key)
        {
            // It was read from one line.
            let _ = conf.set(key, &value);
        }
    }
    conf
}

/// What the host has for a container that has nothing of its own.
pub fn said(of_host: &Conf, key: &str) -> Option<String> {
    let is_shaped = of_host.get(SHAPING).is_none_or(|word| word.trim() != "no");
    of_host
        .get(key)
        .filter(|value| !value.trim().is_empty() && (is_shaped || ![RATE, RATE_BOUND].contains(&key)))
}

/// The keys of a `vz.conf` that say something, and that nobody reads.
pub fn unread(conf: &Conf) -> Vec<&str> {
    let is_read =
        |key: &&str| [&LIMITS[..], &OF_DISK, &KEYS, &OF_THE_HOST].iter().any(|keys| keys.contains(key));
    let says = |key: &&str| conf.get(key).is_some_and(|value| !value.trim().is_empty());
    let is_shaped = conf.get(SHAPING).is_none_or(|word| word.trim() != "no");
    let counts = |key: &&str| is_read(key) && (is_shaped || ![RATE, RATE_BOUND].contains(key));
    conf.keys().into_iter().filter(|key| says(key) && !counts(key)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conf(text: &str) -> Conf {
        Conf::parse(text.as_bytes())
    }

    #[test]
    fn what_a_container_does_not_have_is_the_hosts() {
        let of_host = conf(
            "ONBOOT=yes\nRESTART=on-crash\nNAMESERVER=192.0.2.1\nFEATURES=\"tun:on\"\nRATE=\"*:1:8\"\nHOSTNAME=x\n",
        );
        let own = conf("NAMESERVER=\nFEATURES=\"fuse:on\"\n");
        let both = beside(&own, &of_host);
        for (key, value) in [
            ("ONBOOT", Some("yes")),
            ("RESTART", Some("on-crash")),
            ("NAMESERVER", Some("")),
            ("FEATURES", Some("fuse:on")),
            ("RATE", Some("*:1:8")),
            ("HOSTNAME", None),
        ] {
            assert_eq!(both.get(key).as_deref(), value, "{key}");
        }
    }

    #[test]
    fn a_rate_is_nobodys_where_nothing_is_shaped() {
        let of_host = conf("TRAFFIC_SHAPING=no\nRATE=\"*:1:8\"\nBANDWIDTH=x\n");
        assert_eq!(beside(&conf(""), &of_host).get("RATE"), None);
        assert_eq!(unread(&of_host), ["RATE", "BANDWIDTH"]);
        assert_eq!(unread(&conf("TRAFFIC_SHAPING=yes\nRATE=\"*:1:8\"\nNUMPROC=9\nLOCKDIR=\n")), [""; 0]);
    }

    #[test]
    fn what_cannot_be_counts_for_nothing_and_is_told_with_its_file() {
        let text = "NUMPROC=junk\nNUMPROC=\nCPUS=2\nPHYSPAGES=12\nSWAPPAGES=\nDISKSPACE=-1\nRATE=fast\nNAMESERVER='x;y'\nRESTART=x\nFEATURES=y\n";
        let (left, problems) = usable(conf(&text.replace("NUMPROC=\n", "")), Path::new("/etc/vz/vz.conf"));
        assert_eq!(left.keys(), ["CPUS", "SWAPPAGES", "FEATURES"]);
        assert_eq!(problems.len(), 6, "{problems:?}");
        assert!(problems.iter().all(|problem| problem.contains("/etc/vz/vz.conf")), "{problems:?}");
    }
}
