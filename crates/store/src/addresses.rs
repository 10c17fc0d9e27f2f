//! `IP_ADDRESS` of a `ve.conf`: the addresses of a container, between blanks.

use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use crate::conf::Conf;

/// The key.
pub const KEY: &str = "IP_ADDRESS";

/// An address of a container. It is routed to it alone; what its mask says is for the container's own eyes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct Address {
    pub ip: IpAddr,
    /// 1 to 32 or 128.
    pub prefix: u8,
}

/// What is no address of a container.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` {why}")]
pub struct AddressError {
    /// Its beginning, with what is not to be printed escaped.
    pub text: String,
    pub why: &'static str,
}

impl Address {
    /// All bits of it.
    pub fn longest(ip: IpAddr) -> u8 {
        if ip.is_ipv4() { 32 } else { 128 }
    }

    /// Those of a `ve.conf`, each once.
    pub fn all(conf: &Conf) -> Result<Vec<Address>, AddressError> {
        let mut found: Vec<Address> = Vec::new();
        for word in conf.get(KEY).unwrap_or_default().split_whitespace() {
            let address: Address = word.parse()?;
            if !found.iter().any(|one| one.ip == address.ip) {
                found.push(address);
            }
        }
        Ok(found)
    }
}

impl FromStr for Address {
    type Err = AddressError;

    /// `192.0.2.5`, `192.0.2.5/24`, `192.0.2.5/255.255.255.0`, `2001:db8::5/64`.
    fn from_str(text: &str) -> Result<Address, AddressError> {
        let refused =
            |why| AddressError { text: text.chars().take(80).flat_map(char::escape_debug).collect(), why };
        let (ip, mask) = text.split_once('/').map_or((text, None), |(ip, mask)| (ip, Some(mask)));
        let ip: IpAddr = ip.parse().map_err(|_| refused("is no address: `192.0.2.5`, `2001:db8::5/64`"))?;
        let is_one_of_many = match ip {
            IpAddr::V4(ip) => {
                // RFC 1122 3.2.1.3 and RFC 1112 4: this network, and what no host sends from. The broadcast is among the latter.
                let is_reserved = ip.octets()[0] == 0 || ip.octets()[0] >= 240;
                is_reserved || ip.is_loopback() || ip.is_multicast() || ip.is_link_local()
            }
            IpAddr::V6(ip) => {
                ip.is_unspecified()
                    || ip.is_loopback()
                    || ip.is_multicast()
                    || ip.is_unicast_link_local()
                    || ip.to_ipv4_mapped().is_some()
            }
        };
        if is_one_of_many {
            return Err(refused("can be no container's own"));
        }
        let longest = Address::longest(ip);
        let prefix = match mask {
            None => Some(longest),
            Some(mask) => mask.parse::<u8>().ok().or_else(|| of_mask(mask)),
        };
        match prefix {
            Some(prefix) if (1..=longest).contains(&prefix) => Ok(Address { ip, prefix }),
            Some(_) | None => Err(refused("has a mask that is none")),
        }
    }
}

fn of_mask(mask: &str) -> Option<u8> {
    let bits = u32::from(mask.parse::<Ipv4Addr>().ok()?);
    (bits.leading_ones() + bits.trailing_zeros() == 32).then_some(bits.leading_ones() as u8)
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.prefix == Address::longest(self.ip) {
            write!(f, "{}", self.ip)
        } else {
            write!(f, "{}/{}", self.ip, self.prefix)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_addresses_with_and_without_masks() {
        let conf = Conf::parse(
            b"IP_ADDRESS=\"192.0.2.5 192.0.2.6/24 192.0.2.7/255.255.255.0 2001:db8::5 2001:db8::6/64 192.0.2.5/8\"\n",
        );
        let said: Vec<String> = Address::all(&conf).unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(said, ["192.0.2.5", "192.0.2.6/24", "192.0.2.7/24", "2001:db8::5", "2001:db8::6/64"]);
        assert!(Address::all(&Conf::parse(b"")).unwrap().is_empty());
    }

    #[test]
    fn says_what_is_no_address() {
        for text in [
            "",
            "x",
            "192.0.2",
            "192.0.2.5/33",
            "192.0.2.5/0",
            "192.0.2.5/255.0.255.0",
            "2001:db8::/129",
            "0.0.0.0",
            "0.1.2.3",
            "169.254.1.1",
            "240.0.0.1",
            "254.255.255.255/8",
            "127.0.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "ff02::1",
            "fe80::1",
            "::ffff:192.0.2.1",
            "192.0.2.5/",
            "192.0.2.5/-1",
        ] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }
}
