//! `DEVNODES` of a `ve.conf`, as OpenVZ writes it: `sdb1:rw net/tun:r`, devices of the host that a container sees, by their names in `/dev`.

use std::fmt;
use std::str::FromStr;

use crate::conf::Conf;

/// The key.
pub const KEY: &str = "DEVNODES";
/// More are none.
pub const MOST: usize = 16;
const LONGEST: usize = 128;
/// What every container has of its own there.
const OWN: [&str; 15] = [
    "null", "zero", "full", "random", "urandom", "tty", "console", "ptmx", "pts", "shm", "mqueue", "fd",
    "stdin", "stdout", "stderr",
];
/// Whoever has one of these has the host.
const NEVER: [&str; 14] = [
    "mem",
    "kmem",
    "port",
    "kmsg",
    "nvram",
    "loop-control",
    "mapper",
    "btrfs-control",
    "snapshot",
    "autofs",
    "watchdog",
    "watchdog0",
    "cpu",
    "core",
];

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceNode {
    /// Below `/dev`, on the host and in the container.
    pub name: String,
    pub reads: bool,
    pub writes: bool,
}

/// What is none, and what is wanted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}`: wanted {wanted}")]
pub struct DeviceNodeError {
    /// Its beginning, with what is not to be printed escaped.
    pub text: String,
    pub wanted: &'static str,
}

impl DeviceNode {
    /// Those of a `ve.conf`.
    pub fn all(conf: &Conf) -> Result<Vec<Self>, DeviceNodeError> {
        Self::merge("", &conf.get(KEY).unwrap_or_default())
    }

    /// Those that were there with those that somebody has typed; with `none` behind it one goes.
    pub fn merge(before: &str, typed: &str) -> Result<Vec<Self>, DeviceNodeError> {
        let mut all: Vec<Self> = Vec::new();
        for word in before.split_whitespace().chain(typed.split_whitespace()) {
            let one: Self = word.parse()?;
            all.retain(|other| other.name != one.name);
            if one.reads || one.writes {
                all.push(one);
            }
        }
        if all.len() > MOST {
            return Err(refused("", "at most 16 of them"));
        }
        Ok(all)
    }

    /// As they are written.
    pub fn write(all: &[Self]) -> String {
        all.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    }
}

impl fmt::Display for DeviceNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rights = match (self.reads, self.writes) {
            (true, true) => "rw",
            (true, false) => "r",
            (false, true) => "w",
            (false, false) => "none",
        };
        write!(f, "{}:{rights}", self.name)
    }
}

impl FromStr for DeviceNode {
    type Err = DeviceNodeError;

    fn from_str(text: &str) -> Result<Self, DeviceNodeError> {
        let wanted = "`NAME:r`, `:w`, `:rw` or `:none`, with the name that it has below /dev: `sdb1:rw`";
        let (name, rights) = text.rsplit_once(':').ok_or_else(|| refused(text, wanted))?;
        let (reads, writes) = match rights {
            "r" => (true, false),
            "w" => (false, true),
            "rw" => (true, true),
            "none" => (false, false),
            _ => return Err(refused(text, wanted)),
        };
        let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "-_.+".contains(letter);
        let is_part = |part: &str| !part.is_empty() && !part.starts_with('.') && part.chars().all(is_plain);
        if name.len() > LONGEST || !name.split('/').all(is_part) {
            return Err(refused(text, wanted));
        }
        let first = name.split('/').next().unwrap_or_default();
        if OWN.contains(&first) {
            return Err(refused(text, "one that a container has not anyway"));
        }
        if NEVER.contains(&first) {
            return Err(refused(
                text,
                "one that is not the whole host: memory, ports, all disks, the kernel's log",
            ));
        }
        Ok(Self { name: name.to_owned(), reads, writes })
    }
}

fn refused(text: &str, wanted: &'static str) -> DeviceNodeError {
    DeviceNodeError { text: tree::escaped(&text.as_bytes()[..text.len().min(200)]), wanted }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_is_added_and_none_takes_away() {
        let merge = |before, typed| DeviceNode::merge(before, typed).map(|all| DeviceNode::write(&all));
        assert_eq!(merge("", "sdb1:rw net/tun:r").unwrap(), "sdb1:rw net/tun:r");
        assert_eq!(merge("sdb1:rw ttyS0:w", "sdb1:r").unwrap(), "ttyS0:w sdb1:r");
        assert_eq!(merge("sdb1:rw ttyS0:w", "sdb1:none").unwrap(), "ttyS0:w");
        assert_eq!(merge("", "sdb1:none").unwrap(), "");
    }

    #[test]
    fn what_is_no_device_or_is_the_host_is_refused() {
        let long = format!("{}:rw", "x".repeat(200));
        for text in [
            "sdb",
            "sdb:",
            "sdb:x",
            "sdb:rwm",
            ":rw",
            "/dev/sdb:rw",
            "../sda:rw",
            "net/../sda:rw",
            "net//tun:rw",
            "a b:rw",
            "sdb;reboot:rw",
            "$(x):rw",
            "mem:r",
            "kmem:rw",
            "port:rw",
            "kmsg:r",
            "mapper/control:rw",
            "cpu/0/msr:rw",
            "null:rw",
            "pts/0:rw",
            ".hidden:rw",
            &long,
        ] {
            assert!(DeviceNode::merge("", text).is_err(), "{text}");
        }
        let many: Vec<String> = (0..17).map(|number| format!("sd{number}:r")).collect();
        assert!(DeviceNode::merge("", &many.join(" ")).is_err());
    }
}
