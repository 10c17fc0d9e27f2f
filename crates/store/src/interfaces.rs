//! `NETIF` of a `ve.conf`: interfaces of a container on a bridge of its host, as OpenVZ writes them: parts between commas, interfaces between
//! semicolons. Parts that mean nothing here are kept.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use crate::addresses::Address;
use crate::conf::Conf;

/// The key.
pub const KEY: &str = "NETIF";
/// What legacy OpenVZ, and what was written for it, calls `network=`.
const LEGACY_NETWORK: &str = "bridge";
/// `IFNAMSIZ` of if.h, without the NUL.
const LONGEST: usize = 15;

/// What an interface is called, in a container or on the host.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct InterfaceName(String);

impl InterfaceName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for InterfaceName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for InterfaceName {
    type Err = InterfaceError;

    /// What the kernel takes is nearly anything; this is what `sysctl`, `nft` and a shell take, too.
    fn from_str(text: &str) -> Result<InterfaceName, InterfaceError> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
        let begins_well = text.starts_with(|first: char| first.is_ascii_alphanumeric());
        if !begins_well || !text.bytes().all(is_plain) {
            return Err(refused(text, "is no name of an interface: letters, digits, `_`, `-` and `.`"));
        }
        if text.len() > LONGEST {
            return Err(refused(text, "is longer than the 15 bytes that an interface's name has"));
        }
        // Directories of /proc/sys/net of their own, and what every container has.
        if ["all", "default", "lo", "venet0"].contains(&text) {
            return Err(refused(text, "is the name of something else"));
        }
        Ok(InterfaceName(text.to_owned()))
    }
}

/// An address of Ethernet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Mac(pub [u8; 6]);

impl std::fmt::Display for Mac {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for Mac {
    type Err = InterfaceError;

    /// `02:00:00:00:00:01`, `02-00-00-00-00-01`, `020000000001`.
    fn from_str(text: &str) -> Result<Mac, InterfaceError> {
        let none = || refused(text, "is no MAC address: `02:00:00:00:00:01`");
        let digits: String = match text.len() {
            12 => text.to_owned(),
            17 if text.split([':', '-']).all(|pair| pair.len() == 2) => text.replace([':', '-'], ""),
            _ => return Err(none()),
        };
        if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) || digits.len() != 12 {
            return Err(none());
        }
        let number = u64::from_str_radix(&digits, 16).map_err(|_| none())?;
        let [_, _, bytes @ ..] = number.to_be_bytes();
        if bytes[0] & 1 == 1 || number == 0 {
            return Err(refused(text, "can be no interface's own"));
        }
        Ok(Mac(bytes))
    }
}

/// An interface of a container, the other end of which is on the host.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Interface {
    /// Inside.
    pub name: InterfaceName,
    /// Inside; without one, one that is made of the container's UUID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
    /// Of the end on the host; likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_mac: Option<Mac>,
    /// What that end is called; likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_name: Option<InterfaceName>,
    /// The bridge of the host that it is on; without one, none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<InterfaceName>,
    /// Of which VLAN of that bridge, 1 to 4094.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan: Option<u16>,
    /// Its addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<Address>,
    /// Its way out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<Ipv4Addr>,
    /// Its way out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway6: Option<Ipv6Addr>,
    /// Nothing but its own MAC address is taken from it, and nothing but what is sent to that, or to all, given to it.
    pub mac_filter: bool,
    /// Nothing but its own IP addresses is taken from it.
    pub ip_filter: bool,
    /// A client of the container's own is to ask for an address; nothing of ours does.
    #[serde(default)]
    pub dhcp: bool,
    /// What else is said of it, as it stands there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<String>,
}

/// What is no interface.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` {why}")]
pub struct InterfaceError {
    /// Its beginning, with what is not to be printed escaped.
    pub text: String,
    pub why: &'static str,
}

fn refused(text: &str, why: &'static str) -> InterfaceError {
    InterfaceError { text: text.chars().take(80).flat_map(char::escape_debug).collect(), why }
}

fn is_legacy_network(part: &str) -> bool {
    part.split_once('=').is_some_and(|(name, _)| name == LEGACY_NETWORK)
}

fn yes_or_no(text: &str) -> Result<bool, InterfaceError> {
    match text {
        "yes" | "on" => Ok(true),
        "no" | "off" => Ok(false),
        _ => Err(refused(text, "is neither yes nor no")),
    }
}

fn gateway<Ip: FromStr + Copy>(
    text: &str,
    is_one: impl Fn(Ip) -> bool,
) -> Result<Option<Ip>, InterfaceError> {
    if text.is_empty() {
        return Ok(None);
    }
    let ip: Option<Ip> = text.parse().ok();
    ip.filter(|&ip| is_one(ip)).map(Some).ok_or_else(|| refused(text, "can be no gateway"))
}

/// Addresses between colons, those of IPv6 in brackets; without them, too, where each has a mask.
fn addresses(text: &str) -> Result<Vec<Address>, InterfaceError> {
    let mut found: Vec<Address> = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let bracketed = rest.strip_prefix('[').and_then(|inner| inner.split_once(']'));
        let slashed = rest.split_once('/').filter(|(ip, _)| ip.parse::<IpAddr>().is_ok());
        let (ip, more) = match (bracketed, slashed) {
            (Some((ip, more)), _) => (ip, more),
            (None, Some((ip, _))) => (ip, &rest[ip.len()..]),
            (None, None) => match rest.split_once(':').filter(|_| rest.parse::<IpAddr>().is_err()) {
                Some((ip, _)) => (ip, &rest[ip.len()..]),
                None => (rest, ""),
            },
        };
        let (mask, next) = more.split_once(':').unwrap_or((more, ""));
        let address: Address = format!("{ip}{mask}")
            .parse()
            .map_err(|error: crate::addresses::AddressError| refused(&error.text, error.why))?;
        if found.iter().any(|one| one.ip == address.ip) {
            return Err(refused(text, "has an address twice"));
        }
        found.push(address);
        rest = next;
    }
    Ok(found)
}

impl Interface {
    /// One of which nothing is said: filtered, and on no bridge.
    pub fn new(name: InterfaceName) -> Interface {
        Interface {
            name,
            mac: None,
            host_mac: None,
            host_name: None,
            network: None,
            vlan: None,
            addresses: Vec::new(),
            gateway: None,
            gateway6: None,
            mac_filter: true,
            ip_filter: true,
            dhcp: false,
            others: Vec::new(),
        }
    }

    /// What is on both of them sees each other.
    pub fn is_beside(&self, other: &Interface) -> bool {
        (&self.network, self.vlan) == (&other.network, other.vlan)
    }

    /// Those of a `ve.conf`.
    pub fn all(conf: &Conf) -> Result<Vec<Interface>, InterfaceError> {
        Interface::read(&conf.get(KEY).unwrap_or_default())
    }

    /// Those that are written there; no name, MAC address or address twice.
    pub fn read(text: &str) -> Result<Vec<Interface>, InterfaceError> {
        let mut all: Vec<Interface> = Vec::new();
        for one in text.split(';').map(str::trim).filter(|one| !one.is_empty()) {
            all.push(one.parse()?);
        }
        for (number, one) in all.iter().enumerate() {
            let before = &all[..number];
            let has_same_ip = |other: &Interface| {
                one.addresses.iter().any(|own| other.addresses.iter().any(|its| its.ip == own.ip))
            };
            let why = if before.iter().any(|other| other.name == one.name) {
                "is there twice"
            } else if before.iter().any(|other| other.mac.is_some() && other.mac == one.mac) {
                "has the MAC address of another"
            } else if before.iter().any(|other| other.host_name.is_some() && other.host_name == one.host_name)
            {
                "has the name of another on the host"
            } else if before.iter().any(has_same_ip) {
                "has an address of another"
            } else {
                continue;
            };
            return Err(refused(one.name.as_str(), why));
        }
        Ok(all)
    }

    /// As they are written.
    pub fn write(all: &[Interface]) -> String {
        all.iter().map(ToString::to_string).collect::<Vec<_>>().join(";")
    }

    /// Says one thing of it; `false`: nothing that means anything here.
    ///
    /// # Errors
    /// What is wrong with the value.
    pub fn say(&mut self, part: &str, value: &str) -> Result<bool, InterfaceError> {
        fn some<T: FromStr<Err = InterfaceError>>(text: &str) -> Result<Option<T>, InterfaceError> {
            if text.is_empty() { Ok(None) } else { text.parse().map(Some) }
        }
        match part {
            "ifname" => self.name = value.parse()?,
            "mac" => self.mac = some(value)?,
            "host_mac" => self.host_mac = some(value)?,
            "host_ifname" => self.host_name = some(value)?,
            "network" | LEGACY_NETWORK => {
                self.network = some(value)?;
                self.others.retain(|other| !is_legacy_network(other));
                if part == LEGACY_NETWORK && self.network.is_some() {
                    // It stays as it was written, until something else is said.
                    self.others.push(format!("{LEGACY_NETWORK}={value}"));
                }
            }
            "vlan" => {
                let number = value.parse().ok().filter(|number| (1..=4094).contains(number));
                if number.is_none() && !value.is_empty() {
                    return Err(refused(value, "is no VLAN: a number from 1 to 4094"));
                }
                self.vlan = number;
            }
            "ip" => self.addresses = addresses(value)?,
            "gw" => {
                self.gateway = gateway(value, |ip: Ipv4Addr| {
                    !(ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() || ip.is_broadcast())
                })?;
            }
            "gw6" => {
                self.gateway6 = gateway(value, |ip: Ipv6Addr| {
                    !(ip.is_unspecified() || ip.is_loopback() || ip.is_multicast())
                })?;
            }
            "mac_filter" => self.mac_filter = yes_or_no(value)?,
            "ip_filter" => self.ip_filter = yes_or_no(value)?,
            "dhcp" => self.dhcp = yes_or_no(value)?,
            "type" => match value {
                "" | "bridge" | "bridged" => {}
                _ => {
                    return Err(refused(
                        value,
                        "is no type of interface here: `bridge`; what is routed are its `--ipadd`",
                    ));
                }
            },
            // Of Virtuozzo, and kept for it.
            "configure" | "dhcp6" | "preventpromisc" if !value.is_empty() => {
                self.others.retain(|other| other.split('=').next() != Some(part));
                self.others.push(format!("{part}={value}"));
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}

impl FromStr for Interface {
    type Err = InterfaceError;

    fn from_str(text: &str) -> Result<Interface, InterfaceError> {
        let parts: Vec<(&str, &str)> =
            text.split(',').map(|part| part.trim().split_once('=').unwrap_or((part.trim(), ""))).collect();
        let Some((_, name)) = parts.iter().find(|(part, _)| *part == "ifname") else {
            return Err(refused(text, "has no `ifname=`"));
        };
        let said_as = |word: &str| parts.iter().find(|(part, _)| *part == word).map(|(_, value)| value);
        if said_as(LEGACY_NETWORK)
            .is_some_and(|bridge| said_as("network").is_some_and(|other| other != bridge))
        {
            return Err(refused(text, "is on two bridges"));
        }
        let mut interface = Interface::new(name.parse()?);
        for (number, (part, value)) in parts.iter().enumerate() {
            if parts[..number].iter().any(|(before, _)| before == part) {
                return Err(refused(text, "says the same thing twice"));
            }
            if !interface.say(part, value)? && !part.is_empty() {
                let equals = if value.is_empty() { "" } else { "=" };
                interface.others.push(format!("{part}{equals}{value}"));
            }
        }
        Ok(interface)
    }
}

impl std::fmt::Display for Interface {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ifname={}", self.name)?;
        let mut part = |name: &str, value: Option<String>| match value {
            Some(value) => write!(f, ",{name}={value}"),
            None => Ok(()),
        };
        let no = |is: bool| (!is).then(|| "off".to_owned());
        part("mac", self.mac.map(|mac| mac.to_string()))?;
        part("host_mac", self.host_mac.map(|mac| mac.to_string()))?;
        part("host_ifname", self.host_name.as_ref().map(ToString::to_string))?;
        part("type", Some("bridge".to_owned()))?;
        let has_legacy_network = self.others.iter().any(|other| is_legacy_network(other));
        part("network", self.network.as_ref().filter(|_| !has_legacy_network).map(ToString::to_string))?;
        part("vlan", self.vlan.map(|number| number.to_string()))?;
        let words = self.addresses.iter().map(|address| match address.ip {
            IpAddr::V4(_) => address.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]/{}", address.prefix),
        });
        let words: Vec<String> = words.collect();
        part("ip", (!words.is_empty()).then(|| words.join(":")))?;
        part("gw", self.gateway.map(|ip| ip.to_string()))?;
        part("gw6", self.gateway6.map(|ip| ip.to_string()))?;
        part("mac_filter", no(self.mac_filter))?;
        part("ip_filter", no(self.ip_filter))?;
        part("dhcp", self.dhcp.then(|| "yes".to_owned()))?;
        for other in &self.others {
            write!(f, ",{other}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_openvz_has_written_is_read_and_what_means_nothing_is_kept() {
        let text = "ifname=eth0,mac=00:18:51:AA:BB:CC,host_mac=00:18:51:dd:ee:ff,host_ifname=veth101.0,type=bridge,network=br0,gw=192.0.2.1,gw6=fe80::1,\
                    mac_filter=on,ip_filter=off,configure=none,dhcp=no,ip=192.0.2.5/255.255.255.0:2001:db8::5/64:[2001:db8::6]:192.0.2.6,nonsense;ifname=eth1;";
        let all = Interface::read(text).unwrap();
        assert_eq!(all.len(), 2);
        let addresses: Vec<String> = all[0].addresses.iter().map(ToString::to_string).collect();
        assert_eq!(addresses, ["192.0.2.5/24", "2001:db8::5/64", "2001:db8::6", "192.0.2.6"]);
        assert!(all[0].mac_filter && !all[0].ip_filter && !all[0].dhcp);
        assert_eq!(all[1], Interface::new("eth1".parse().unwrap()));
        let written = Interface::write(&all);
        assert_eq!(
            written,
            "ifname=eth0,mac=00:18:51:aa:bb:cc,host_mac=00:18:51:dd:ee:ff,host_ifname=veth101.0,type=bridge,network=br0,\
             ip=192.0.2.5/24:[2001:db8::5]/64:[2001:db8::6]/128:192.0.2.6,gw=192.0.2.1,gw6=fe80::1,ip_filter=off,configure=none,nonsense;ifname=eth1,type=bridge"
        );
        assert_eq!(Interface::read(&written).unwrap(), all);
        assert_eq!(Interface::all(&Conf::parse(b"")).unwrap(), []);
    }

    #[test]
    fn what_legacy_openvz_calls_a_bridge_is_one_and_stays_as_it_is_written() {
        let text =
            "ifname=eth0,bridge=vmbr0,mac=02:00:00:00:00:01,host_ifname=veth101.0,host_mac=FE:00:00:00:00:01";
        let mut all = Interface::read(text).unwrap();
        assert_eq!(all[0].network, Some("vmbr0".parse().unwrap()));
        let written = Interface::write(&all);
        assert!(written.ends_with(",bridge=vmbr0") && !written.contains("network="), "{written}");
        assert_eq!(Interface::read(&written).unwrap(), all);
        assert!(all[0].say("network", "br1").unwrap());
        let written = Interface::write(&all);
        assert!(written.contains(",network=br1") && !written.contains("bridge="), "{written}");
        let both = Interface::read("ifname=eth0,network=br0,bridge=br0").unwrap();
        assert_eq!(Interface::read(&Interface::write(&both)).unwrap(), both);
        assert_eq!(
            Interface::read("ifname=eth0,bridge=").unwrap(),
            [Interface::new("eth0".parse().unwrap())]
        );
    }

    #[test]
    fn says_what_is_no_interface() {
        for text in [
            "eth0",
            "ifname=",
            "ifname=sixteen-bytes-16",
            "ifname=e th0",
            "ifname=$(reboot)",
            "ifname=..",
            "ifname=-x",
            "ifname=lo",
            "ifname=venet0",
            "ifname=eth\0",
            "ifname=eth0,mac=00:18:51",
            "ifname=eth0,mac=01:00:00:00:00:01",
            "ifname=eth0,mac=00:00:00:00:00:00",
            "ifname=eth0,mac=0g:00:00:00:00:01",
            "ifname=eth0,mac=+0:00:00:00:00:01",
            "ifname=eth0,mac=00:0:000:00:00:01",
            "ifname=eth0,network=br0/../x",
            "ifname=eth0,bridge=$(reboot)",
            "ifname=eth0,bridge=br0,network=br1",
            "ifname=eth0,bridge=br0,bridge=br0",
            "ifname=eth0,vlan=0",
            "ifname=eth0,vlan=4095",
            "ifname=eth0,vlan=-1",
            "ifname=eth0,ip=192.0.2.5/33",
            "ifname=eth0,ip=127.0.0.1",
            "ifname=eth0,ip=x",
            "ifname=eth0,ip=[2001:db8::1",
            "ifname=eth0,ip=192.0.2.5:192.0.2.5",
            "ifname=eth0,gw=2001:db8::1",
            "ifname=eth0,gw=0.0.0.0",
            "ifname=eth0,gw6=192.0.2.1",
            "ifname=eth0,mac_filter=maybe",
            "ifname=eth0,type=routed",
            "ifname=eth0,mac=02:00:00:00:00:01,mac=02:00:00:00:00:02",
            "ifname=eth0;ifname=eth0",
            "ifname=eth0,ip=192.0.2.5;ifname=eth1,ip=192.0.2.5/24",
            "ifname=eth0,mac=02:00:00:00:00:01;ifname=eth1,mac=02-00-00-00-00-01",
        ] {
            assert!(Interface::read(text).is_err(), "{text}");
        }
    }
}
