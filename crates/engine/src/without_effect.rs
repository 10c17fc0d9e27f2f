//! What OpenVZ and Virtuozzo can be told of a container, and what means nothing here: on a stock kernel, or on a host that is one of no cluster.
//!
//! It is understood, so that a script that says it goes on, it is kept in `ve.conf`, and it is told once that it does nothing, and why: by whoever is told it, and
//! by `prlctl info`. Nothing of it is obeyed in silence, and none of it is another's work to be taken for done.

use store::Conf;

use crate::settings::{Change, shown};

/// One of these.
#[derive(Debug)]
pub struct WithoutEffect {
    /// As it stands in `ve.conf`.
    pub key: &'static str,
    /// Why nothing comes of it.
    pub because: &'static str,
}

const fn none(key: &'static str, because: &'static str) -> WithoutEffect {
    WithoutEffect { key, because }
}

/// `--apply-iponly`.
pub const APPLY_ONLY_ADDRESSES: &str = "APPLY_IPONLY";
/// `--autocompact`.
pub const AUTO_COMPACT: &str = "AUTOCOMPACT";
/// `--autostart-delay`.
pub const AUTO_START_DELAY: &str = "AUTOSTART_DELAY";
/// `--ha-enable`.
pub const HA_ENABLE: &str = "HA_ENABLE";
/// `--ha-prio`.
pub const HA_PRIORITY: &str = "HA_PRIO";
/// `--offline-management`.
pub const OFFLINE_MANAGEMENT: &str = "OFFLINE_MANAGEMENT";
/// `--quotaugidlimit`.
pub const USER_QUOTA: &str = "QUOTAUGIDLIMIT";

/// All of them; beancounters are another list.
pub const ALL: [WithoutEffect; 12] = [
    none(
        AUTO_COMPACT,
        "what is deleted in an image goes back to the host's disk by discard, and `prlctl compact` gives back the rest",
    ),
    none(
        APPLY_ONLY_ADDRESSES,
        "whether the distribution's own files are written is NETWORK_FILES, for all of them",
    ),
    none(AUTO_START_DELAY, "BOOTORDER says who waits for whom, and VE_PARALLEL how many are started at once"),
    none(HA_ENABLE, "this host is in no cluster that would start it elsewhere"),
    none(HA_PRIORITY, "this host is in no cluster that would start it elsewhere"),
    none(OFFLINE_MANAGEMENT, "there is no service that would let its owner in while it is stopped"),
    none(USER_QUOTA, "quota of users and groups inside is counted by nobody; DISKSPACE and DISKINODES are"),
    none(
        "JOURNALED_QUOTA",
        "quota of users and groups inside is counted by nobody; DISKSPACE and DISKINODES are",
    ),
    none(
        "NETDEV",
        "no interface of the host is moved into it: `--netif_add` with `--network BRIDGE` puts it on a bridge beside that one",
    ),
    none(
        "DEVICES",
        "devices are named, and not by their numbers, which are others after a boot: `--devnodes`",
    ),
    none("PCI", "no device of the bus is handed to a container"),
    none("TECHNOLOGIES", "what its template needs of OpenVZ's kernel says nothing of this one"),
];

/// Why nothing comes of a key; nothing of one that is obeyed, or unknown.
pub fn because(key: &str) -> Option<&'static str> {
    ALL.iter().find(|one| one.key == key).map(|one| one.because)
}

/// What of a call does nothing, a line each.
pub fn warnings(changes: &[Change]) -> Vec<String> {
    let told = |change: &Change| {
        let because = because(change.key)?;
        Some(format!("`{}` is kept in ve.conf and does nothing here: {because}", change.option))
    };
    changes.iter().filter_map(told).collect()
}

/// What of a configuration does nothing, a line each.
pub fn remarks(conf: &Conf) -> Vec<String> {
    let told = |one: &WithoutEffect| {
        let value = conf.get(one.key).filter(|value| !value.trim().is_empty())?;
        Some(format!("{}: `{}` does nothing here: {}.", one.key, shown(&value), one.because))
    };
    ALL.iter().filter_map(told).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::SETTINGS;

    #[test]
    fn what_does_nothing_is_told_once_with_why() {
        let text = "HA_ENABLE=yes\nHA_PRIO=\nTECHNOLOGIES='x86_64 nptl'\nNUMPROC=9\nPCI=\"\u{1b}[2J\"\n";
        let told = remarks(&Conf::parse(text.as_bytes()));
        assert_eq!(told.len(), 3, "{told:?}");
        assert!(told[0].starts_with("HA_ENABLE: `yes` does nothing here: "), "{told:?}");
        assert!(!told.concat().contains('\u{1b}'), "{told:?}");
        let mut keys: Vec<&str> = ALL.iter().map(|one| one.key).collect();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), ALL.len());
    }

    /// What can be set and is obeyed is no such, and limits are none.
    #[test]
    fn options_that_do_nothing_are_settings_like_others() {
        let options = SETTINGS.iter().filter(|setting| because(setting.key).is_some());
        assert_eq!(options.count(), 7);
        assert!(crate::settings::LIMITS.iter().all(|key| because(key).is_none()));
    }
}
