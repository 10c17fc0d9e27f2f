//! What of a container can become something else while it runs: told at its start, as a part of the [`Launch`](super::Launch), and again whenever it is another.
//!
//! Which these are is said here and nowhere else. A command tells all that it knows of, as JSON; a monitor takes over what it was told and keeps the rest
//! ([`Settings::take_over`]), so that a command of an earlier version drops nothing of what only this one knows.

use std::mem::take;

use net::{Network, Probation};
use serde_json::{Map, Value};
use store::{Address, ContainerId, Forward, Interface, Limits, Prefix, Rate};

use crate::network_files;

/// All of it. What is not there has none; every field is said, also where there is nothing in it, since what is not said stays what it was.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Settings {
    /// Its limits.
    pub limits: Limits,
    /// What is routed to it.
    #[serde(default)]
    pub addresses: Vec<Address>,
    /// Private ones of them are others' on their way outside.
    #[serde(default)]
    pub translates: bool,
    /// Ports of the host behind which it answers.
    #[serde(default)]
    pub forwards: Vec<Forward>,
    /// Its interfaces on bridges of the host.
    #[serde(default)]
    pub interfaces: Vec<Interface>,
    /// How much may go in, and how much out.
    #[serde(default)]
    pub rate: Option<Rate>,
    /// Its host name.
    pub hostname: String,
    /// `NAMESERVER` and `SEARCHDOMAIN`: the lines of `resolv.conf`, or `None` to leave it alone.
    #[serde(default)]
    pub resolver: Option<String>,
    /// Files of its distribution about its network are not written, and those that were go.
    #[serde(default)]
    pub leaves_network_files: bool,
    /// It is started again when its init has crashed.
    #[serde(default)]
    pub restarts_on_crash: bool,
    /// It is left stopped when its init reboots.
    #[serde(default)]
    pub forbids_reboot: bool,
    /// What its process 1 has in its environment beside what every one has: `NAME=VALUE`.
    #[serde(default)]
    pub environment: Vec<String>,
    /// When a file was last read is not kept.
    #[serde(default)]
    pub keeps_no_access_times: bool,
}

/// Since which version of the protocol a running monitor is told of a setting, and what that is called where it is set; of all others, since the first.
const SINCE: [(&str, &str, u32); 9] = [
    ("forwards", "FORWARD", 2),
    ("interfaces", "NETIF", 2),
    ("rate", "RATE", 2),
    ("resolver", "NAMESERVER and SEARCHDOMAIN", 2),
    ("leaves_network_files", "NETWORK_FILES", 2),
    ("restarts_on_crash", "RESTART", 2),
    ("forbids_reboot", "ALLOWREBOOT", 3),
    ("environment", store::environment::KEY, 3),
    ("keeps_no_access_times", "NOATIME", 3),
];

/// Settings as one of whatever version says them.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Said(Map<String, Value>);

impl Settings {
    /// All of it, to be said to a monitor.
    pub fn said(&self) -> Said {
        let all = serde_json::to_value(self).and_then(serde_json::from_value);
        Said(all.expect("a structure of strings, numbers and lists is an object in JSON"))
    }

    /// Takes over what was said, and keeps what was not, be it a limit among others. What only a later version knows is passed over.
    ///
    /// # Errors
    /// Where something of it means nothing to this version; nothing is taken over then.
    pub fn take_over(&mut self, Said(fields): Said) -> Result<(), serde_json::Error> {
        let mut all = serde_json::to_value(&*self)?;
        merge(&mut all, Value::Object(fields));
        *self = serde_json::from_value(all)?;
        Ok(())
    }

    /// What of it is other than before, or is not known to be the same, and means nothing to a monitor that speaks `version`: keys of `ve.conf`.
    pub fn unknown_to(&self, version: u32, before: Option<&Settings>) -> Vec<&'static str> {
        let (Said(now), before) = (self.said(), before.map(Settings::said));
        let is_other =
            |field: &str| before.as_ref().is_none_or(|Said(before)| before.get(field) != now.get(field));
        let unknown = SINCE.iter().filter(|(field, _, since)| *since > version && is_other(field));
        unknown.map(|(_, key, _)| *key).collect()
    }

    /// The network that it means.
    pub fn network(&self, prefix: &Prefix, id: &ContainerId, probation: Option<Probation>) -> Network {
        let network = Network::of(prefix, id, self.addresses.clone(), self.translates, probation);
        Network {
            forwards: self.forwards.clone(),
            rate: self.rate,
            ..network.with_bridged(prefix, id, &self.interfaces)
        }
    }

    /// What its distribution's files are to say of that; `None`: they are left alone.
    pub fn network_files(&self) -> Option<network_files::Wanted<'_>> {
        (!self.leaves_network_files).then(|| network_files::Wanted {
            addresses: &self.addresses,
            interfaces: &self.interfaces,
            resolver: self.resolver.as_deref(),
        })
    }
}

/// Field by field where both have any.
fn merge(into: &mut Value, said: Value) {
    match (into, said) {
        (Value::Object(into), Value::Object(said)) => {
            for (name, value) in said {
                merge(into.entry(name).or_insert(Value::Null), value);
            }
        }
        (into, mut said) => *into = take(&mut said),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings {
            limits: Limits { memory: Some(1 << 30), processes: Some(800), ..Limits::default() },
            hostname: "web01".into(),
            forwards: Forward::read("tcp:8080:80").unwrap(),
            rate: Some(Rate { kilobits: 1000 }),
            resolver: Some("nameserver 192.0.2.1\n".into()),
            restarts_on_crash: true,
            forbids_reboot: true,
            environment: vec!["LANG=C".into()],
            keeps_no_access_times: true,
            ..Settings::default()
        }
    }

    fn said(json: &str) -> Said {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn what_is_not_said_stays_and_what_is_said_to_be_none_goes() {
        let mut one = settings();
        one.take_over(said(r#"{"limits":{"memory":null},"hostname":"web02","rate":null,"forwards":[]}"#))
            .unwrap();
        let expected = Settings {
            limits: Limits { processes: Some(800), ..Limits::default() },
            hostname: "web02".into(),
            forwards: Vec::new(),
            rate: None,
            ..settings()
        };
        assert_eq!(one, expected);
        one.take_over(settings().said()).unwrap();
        assert_eq!(one, settings());
        let none = Settings { hostname: "web01".into(), ..Settings::default() };
        one.take_over(none.said()).unwrap();
        assert_eq!(one, none, "all that there is can be said to be none");
    }

    #[test]
    fn what_only_a_later_version_knows_is_passed_over_and_what_means_nothing_changes_nothing() {
        let mut one = settings();
        one.take_over(said(r#"{"hostname":"web02","snapshots":{"daily":7},"limits":{"gpu":1}}"#)).unwrap();
        assert_eq!(one, Settings { hostname: "web02".into(), ..settings() });
        let before = one.clone();
        for bad in [r#"{"hostname":"a","addresses":"all"}"#, r#"{"limits":{"memory":-1}}"#, r#"{"limits":7}"#]
        {
            one.take_over(said(bad)).unwrap_err();
            assert_eq!(one, before, "{bad}");
        }
    }

    #[test]
    fn what_a_monitor_does_not_know_is_told_where_it_has_become_another() {
        let fewer = Settings { rate: None, hostname: "web02".into(), ..settings() };
        assert_eq!(fewer.unknown_to(1, Some(&settings())), ["RATE"]);
        assert_eq!(fewer.unknown_to(2, Some(&settings())), [""; 0]);
        let may = Settings { forbids_reboot: false, ..fewer.clone() };
        assert_eq!(may.unknown_to(1, Some(&settings())), ["RATE", "ALLOWREBOOT"]);
        assert_eq!(may.unknown_to(2, Some(&settings())), ["ALLOWREBOOT"]);
        assert_eq!(may.unknown_to(3, Some(&settings())), [""; 0]);
        assert_eq!(fewer.unknown_to(1, None).len(), SINCE.len());
        let Said(fields) = fewer.said();
        for (field, ..) in SINCE {
            assert!(fields.contains_key(field), "{field}");
        }
    }
}
