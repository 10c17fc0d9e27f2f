//! What was made of one container's network, so that whoever takes it away knows what that is, also after a crash.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use store::{Address, ContainerId, Forward, Interface, Prefix, Rate};

/// What a new root may do before it is the container's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Probation {
    /// Everything.
    Full,
    /// Call out, and be answered; nobody reaches it that it has not called: what it took in, an undo would lose.
    #[default]
    Outgoing,
    /// Nothing.
    None,
}

/// The format of `network.json` and `forwarding.json`.
pub const FORMAT: u32 = 1;

/// Of a record that does not say.
fn first() -> u32 {
    1
}

/// A container's network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// `FORMAT`.
    #[serde(default = "first")]
    pub format: u32,
    /// Of which host: `reroot_` and the hash of its prefix.
    pub table: String,
    /// Its end of the pair, on the host.
    pub interface: String,
    /// What that end says whose it is.
    pub alias: String,
    /// Of both ends.
    pub mac: [u8; 6],
    /// Its addresses.
    pub addresses: Vec<Address>,
    /// Private ones of them are others' on their way outside.
    #[serde(default)]
    pub translates: bool,
    /// Ports of the host behind which it answers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub forwards: Vec<Forward>,
    /// What of it is on bridges.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bridged: Vec<Bridged>,
    /// How much may go in, and how much out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// It is on probation.
    pub probation: Option<Probation>,
    /// Addresses that the host answers for on another interface, by its index.
    #[serde(default)]
    pub announced: Vec<(IpAddr, u32)>,
    /// It is being changed: the kernel may have been told more of it than is written here, and of what is, something else. Whoever finds it so, the other
    /// having died, says and makes all of it again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub changing: bool,
}

/// An interface that is on a bridge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bridged {
    /// Its end on the host.
    pub interface: String,
    /// Inside.
    pub mac: [u8; 6],
    /// On the host: a bridge takes the lowest of those that are on it for its own, where it was given none.
    pub host_mac: [u8; 6],
    /// What was asked for.
    pub wanted: Interface,
}

impl Bridged {
    /// What is not said of it is made of whose it is.
    pub fn of(prefix: &Prefix, id: &ContainerId, wanted: Interface) -> Bridged {
        let digest: [u8; 32] = Sha256::digest(format!("{id} {}", wanted.name)).into();
        let [a, b, c, d, e, ..] = digest;
        let interface = match &wanted.host_name {
            Some(name) => name.as_str().to_owned(),
            None => format!("vz{}{a:02x}{b:02x}{c:02x}{d:02x}", &prefix.short_hash()[..5]),
        };
        Bridged {
            interface,
            mac: wanted.mac.map_or([0x02, a, b, c, d, e], |mac| mac.0),
            host_mac: wanted.host_mac.map_or([0xfe, a, b, c, d, e], |mac| mac.0),
            wanted,
        }
    }

    /// The same, but for what of it can become other while it is there.
    pub(crate) fn is_same_pair(&self, other: &Bridged) -> bool {
        let of = |one: &Bridged| {
            (one.interface.clone(), one.mac, one.host_mac, one.wanted.name.clone(), one.wanted.vlan)
        };
        of(self) == of(other)
    }
}

impl Network {
    /// That of a container of the host at `prefix`; makes nothing.
    pub fn of(
        prefix: &Prefix,
        id: &ContainerId,
        addresses: Vec<Address>,
        translates: bool,
        probation: Option<Probation>,
    ) -> Network {
        let hash = prefix.short_hash();
        let digits = id.to_string().replace('-', "");
        let mut mac = [0u8; 6];
        for (byte, pair) in mac.iter_mut().zip(digits.as_bytes().chunks(2)) {
            *byte = std::str::from_utf8(pair)
                .ok()
                .and_then(|pair| u8::from_str_radix(pair, 16).ok())
                .unwrap_or(0);
        }
        // One of our own making, and one interface's.
        mac[0] = mac[0] & !1 | 2;
        Network {
            format: FORMAT,
            table: Network::table_of(prefix),
            // IFNAMSIZ leaves 15 bytes.
            interface: format!("vz{}{}", &hash[..5], &digits[..8]),
            alias: Network::alias_of(id),
            mac,
            addresses,
            translates,
            forwards: Vec::new(),
            bridged: Vec::new(),
            rate: None,
            probation,
            announced: Vec::new(),
            changing: false,
        }
    }

    /// With these interfaces on bridges.
    #[must_use]
    pub fn with_bridged(mut self, prefix: &Prefix, id: &ContainerId, wanted: &[Interface]) -> Network {
        self.bridged = wanted.iter().map(|one| Bridged::of(prefix, id, one.clone())).collect();
        self
    }

    /// There is nothing of it.
    pub(crate) fn is_empty(&self) -> bool {
        self.addresses.is_empty() && self.bridged.is_empty()
    }

    /// Whether an interface on a bridge has a gateway, IPv4 and IPv6.
    pub(crate) fn has_gateways(&self) -> [bool; 2] {
        let any = |has: fn(&Interface) -> bool| self.bridged.iter().any(|one| has(&one.wanted));
        [any(|one| one.gateway.is_some()), any(|one| one.gateway6.is_some())]
    }

    /// Nothing that can be asked for is other, nor is there anything left to be done of `before`.
    pub(crate) fn is_same(&self, before: &Network) -> bool {
        let of = |one: &Network| Network { probation: None, announced: Vec::new(), ..one.clone() };
        of(self) == of(before)
    }

    /// All of its addresses.
    pub(crate) fn every_ip(&self) -> impl Iterator<Item = IpAddr> {
        let bridged = self.bridged.iter().flat_map(|one| &one.wanted.addresses);
        self.addresses.iter().chain(bridged).map(|address| address.ip)
    }

    /// Both have this address where each would see the other: one that is routed is everybody's, one on a bridge is of that bridge and VLAN.
    pub(crate) fn shares(&self, ip: IpAddr, other: &Network) -> bool {
        let places = |network: &Network| -> Vec<Option<Interface>> {
            let routed = network.addresses.iter().filter(|one| one.ip == ip).map(|_| None);
            let bridged = network.bridged.iter().map(|one| &one.wanted);
            let bridged = bridged.filter(|one| one.addresses.iter().any(|own| own.ip == ip));
            routed.chain(bridged.map(|one| Some(one.clone()))).collect()
        };
        let theirs = places(other);
        places(self).iter().any(|own| {
            theirs.iter().any(|other| match (own, other) {
                (Some(own), Some(other)) => own.is_beside(other),
                (None, _) | (_, None) => true,
            })
        })
    }

    /// The table of a host.
    pub(crate) fn table_of(prefix: &Prefix) -> String {
        format!("reroot_{}", prefix.short_hash())
    }

    /// What its end on the host says whose it is.
    pub fn alias_of(id: &ContainerId) -> String {
        format!("reroot {id}")
    }

    fn path(prefix: &Prefix, id: &ContainerId) -> PathBuf {
        prefix.run_dir_of(id).join("network.json")
    }

    /// Writes it down, before anything of it is made.
    pub(crate) fn store(&self, prefix: &Prefix, id: &ContainerId) -> io::Result<()> {
        let bytes = serde_json::to_vec(self)?;
        store::atomic::replace(&Network::path(prefix, id), &bytes, 0o600).map_err(io::Error::other)
    }

    /// Whether what is written down can be understood.
    ///
    /// # Errors
    /// When a later version of this program has written it: what it is about must stay as it is.
    pub(crate) fn check(prefix: &Prefix, id: &ContainerId) -> io::Result<()> {
        #[derive(Deserialize)]
        struct Format {
            #[serde(default = "first")]
            format: u32,
        }
        let path = Network::path(prefix, id);
        let Ok(bytes) = std::fs::read(&path) else { return Ok(()) };
        match serde_json::from_slice(&bytes) {
            Ok(Format { format }) if format > FORMAT => Err(io::Error::new(
                io::ErrorKind::Unsupported,
                format!(
                    "a later version of Reroot has written {}: its format is {format}, and {FORMAT} the latest known here",
                    path.display()
                ),
            )),
            Ok(Format { .. }) | Err(_) => Ok(()),
        }
    }

    /// What is written down; `None`: nothing, or nothing that can be read.
    pub(crate) fn load(prefix: &Prefix, id: &ContainerId) -> Option<Network> {
        serde_json::from_slice(&std::fs::read(Network::path(prefix, id)).ok()?).ok()
    }

    pub(crate) fn forget(prefix: &Prefix, id: &ContainerId) {
        drop(std::fs::remove_file(Network::path(prefix, id)));
    }

    /// Those of all containers that have one.
    pub(crate) fn all(prefix: &Prefix) -> Vec<Network> {
        let ids = store::registry::list(prefix).unwrap_or_default();
        ids.iter().filter_map(|id| Network::load(prefix, id)).collect()
    }

    /// Addresses that nobody outside would answer to: private ones, unless the host's own network is theirs.
    pub(crate) fn translated(&self) -> Vec<IpAddr> {
        let is_there = |ip: IpAddr| self.announced.iter().any(|(announced, _)| *announced == ip);
        let all = self.addresses.iter().map(|address| address.ip);
        all.filter(|&ip| self.translates && is_private(ip) && !is_there(ip)).collect()
    }
}

/// For which families this host forwards since containers need it, and did not before: for them alone, then. What others have made since may have
/// forwarding of its own, and is none of our business.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Forwarding {
    #[serde(default = "first")]
    format: u32,
    four: bool,
    six: bool,
    /// The interfaces that were there when it began: between them nothing was forwarded.
    #[serde(default)]
    interfaces: BTreeSet<String>,
}

impl Forwarding {
    fn path(prefix: &Prefix) -> PathBuf {
        prefix.run_dir().join("forwarding.json")
    }

    /// None, where nothing is written down, or nothing that can be read.
    pub(crate) fn load(prefix: &Prefix) -> Forwarding {
        let bytes = std::fs::read(Forwarding::path(prefix)).unwrap_or_default();
        serde_json::from_slice(&bytes).unwrap_or_default()
    }

    /// Writes one more down; gone with the next boot, as what it is about.
    pub(crate) fn begin(prefix: &Prefix, is_six: bool) -> io::Result<()> {
        let mut now = Forwarding::load(prefix);
        now.format = FORMAT;
        (now.four, now.six) = (now.four || !is_six, now.six || is_six);
        now.interfaces.extend(interfaces()?);
        let bytes = serde_json::to_vec(&now)?;
        store::atomic::replace(&Forwarding::path(prefix), &bytes, 0o600).map_err(io::Error::other)
    }

    /// As nft calls them.
    pub(crate) fn families(&self) -> impl Iterator<Item = &'static str> {
        [(self.four, "ipv4"), (self.six, "ipv6")].into_iter().filter_map(|(is, family)| is.then_some(family))
    }

    /// From where to where nothing is forwarded. From one to itself bridges have their own traffic.
    pub(crate) fn closed(&self) -> impl Iterator<Item = (&str, &str)> {
        let all = || self.interfaces.iter().map(String::as_str);
        all().flat_map(move |from| all().filter(move |to| *to != from).map(move |to| (from, to)))
    }
}

/// Those of this host that are not containers'.
fn interfaces() -> io::Result<Vec<String>> {
    let text = std::fs::read_to_string("/proc/thread-self/net/dev")?;
    let names = text.lines().filter_map(|line| Some(line.split_once(':')?.0.trim()));
    // Of letters that mean nothing to nft; the kernel takes nearly all.
    let is_plain =
        |name: &&str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-@".contains(&byte));
    let is_others = |name: &&str| *name != "lo" && !name.starts_with("vz");
    Ok(names.filter(is_plain).filter(is_others).map(str::to_owned).collect())
}

/// Addresses that no router outside knows.
fn is_private(ip: IpAddr) -> bool {
    match ip {
        // Also what carriers share among their customers, RFC 6598.
        IpAddr::V4(ip) => ip.is_private() || ip.octets()[0] == 100 && ip.octets()[1] & 0xc0 == 64,
        IpAddr::V6(ip) => ip.is_unique_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What earlier versions have written, never changed: a container goes on while Reroot is upgraded, and its network is to be taken away.
    const FIRST: &str = r#"{"table":"reroot_0123abcd","interface":"vz0123a0c9e5a0e","alias":"reroot 0c9e5a0e-4f3c-4d2a-9d6b-3f0a5b1c7e42","mac":[14,158,90,14,79,60],"addresses":[{"ip":"192.0.2.50","prefix":32},{"ip":"2001:db8::50","prefix":64}],"translates":true,"probation":"outgoing","announced":[["192.0.2.50",2]]}"#;
    const PRESENT: &str = r#"{"format":1,"table":"reroot_0123abcd","interface":"vz0123a0c9e5a0e","alias":"reroot 0c9e5a0e-4f3c-4d2a-9d6b-3f0a5b1c7e42","mac":[14,158,90,14,79,60],"addresses":[{"ip":"192.0.2.50","prefix":32},{"ip":"2001:db8::50","prefix":64}],"translates":true,"probation":"outgoing","announced":[["192.0.2.50",2]]}"#;
    /// With an interface on a bridge, and a rate.
    const BRIDGED: &str = r#"{"format":1,"table":"reroot_0123abcd","interface":"vz0123a0c9e5a0e","alias":"reroot 0c9e5a0e-4f3c-4d2a-9d6b-3f0a5b1c7e42","mac":[14,158,90,14,79,60],"addresses":[],"translates":true,"bridged":[{"interface":"veth101.0","mac":[2,0,0,0,0,1],"host_mac":[254,0,0,0,0,1],"wanted":{"name":"eth0","network":"br0","addresses":[{"ip":"192.0.2.5","prefix":24}],"gateway":"192.0.2.1","mac_filter":true,"ip_filter":true,"dhcp":false}}],"rate":{"kilobits":1000},"probation":null,"announced":[]}"#;
    /// Of a `set` that has died over it.
    const CHANGING: &str = r#"{"format":1,"table":"reroot_0123abcd","interface":"vz0123a0c9e5a0e","alias":"reroot 0c9e5a0e-4f3c-4d2a-9d6b-3f0a5b1c7e42","mac":[14,158,90,14,79,60],"addresses":[],"translates":true,"bridged":[{"interface":"veth101.0","mac":[2,0,0,0,0,1],"host_mac":[254,0,0,0,0,1],"wanted":{"name":"eth0","network":"br0","addresses":[{"ip":"192.0.2.5","prefix":24}],"gateway":"192.0.2.1","mac_filter":true,"ip_filter":true,"dhcp":false}}],"rate":{"kilobits":1000},"probation":null,"announced":[],"changing":true}"#;
    const FIRST_FORWARDING: &str = r#"{"four":true,"six":false,"interfaces":["eth0","eth1"]}"#;
    const PRESENT_FORWARDING: &str = r#"{"format":1,"four":true,"six":false,"interfaces":["eth0","eth1"]}"#;

    #[test]
    fn what_every_version_has_written_is_read_and_what_this_one_writes_is_what_was_recorded() {
        let read = |text: &str| serde_json::from_str::<Network>(text).unwrap();
        assert_eq!(read(FIRST), read(PRESENT));
        for text in [PRESENT, BRIDGED, CHANGING] {
            assert_eq!(serde_json::to_string(&read(text)).unwrap(), text);
        }
        assert!(!read(BRIDGED).changing && read(CHANGING).changing);
        let read = |text: &str| serde_json::from_str::<Forwarding>(text).unwrap();
        for text in [FIRST_FORWARDING, PRESENT_FORWARDING] {
            assert_eq!(serde_json::to_string(&read(text)).unwrap(), PRESENT_FORWARDING);
        }
        assert_eq!(read(FIRST_FORWARDING).closed().count(), 2);
    }

    #[test]
    fn what_a_later_version_has_written_is_left_alone_and_said() {
        let directory = tempfile::tempdir().unwrap();
        let prefix = Prefix::new(directory.path()).unwrap();
        let id: ContainerId = "0c9e5a0e-4f3c-4d2a-9d6b-3f0a5b1c7e42".parse().unwrap();
        std::fs::create_dir_all(prefix.run_dir_of(&id)).unwrap();
        assert!(Network::check(&prefix, &id).is_ok());
        for (text, is_known) in [(FIRST, true), (PRESENT, true), (r#"{"format":2,"links":[]}"#, false)] {
            store::atomic::replace(&Network::path(&prefix, &id), text.as_bytes(), 0o600).unwrap();
            assert_eq!(Network::check(&prefix, &id).is_ok(), is_known, "{text}");
        }
        assert!(crate::detach(&prefix, &id).is_err());
        let error = Network::check(&prefix, &id).unwrap_err().to_string();
        assert!(error.contains("its format is 2, and 1 the latest known here"), "{error}");
        assert!(Network::path(&prefix, &id).exists(), "it is left as it is");
    }
}
