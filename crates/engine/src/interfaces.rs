//! Which interfaces on bridges of the host a container gets, and that nothing of them is somebody else's.

use net::Bridged;
use store::{
    Address, Area, Conf, ContainerId, INTERFACES, Interface, InterfaceError, InterfaceName, Mac, registry,
};

use crate::addresses::{AddressChange, Place, is_free};
use crate::error::{Code, Failure, Result};
use crate::host::Host;

/// More are none's.
const MOST: usize = 32;

/// What was typed.
#[derive(Debug, Default)]
pub struct Words<'a> {
    /// `--netif_add`.
    pub add: &'a [String],
    /// `--netif_del`.
    pub remove: &'a [String],
    /// `--ifname`.
    pub of: Option<&'a str>,
    /// What is said of that one: option, part of `NETIF`, value.
    pub parts: &'a [(&'static str, &'static str, &'a str)],
    /// `--ipadd` and `--ipdel`.
    pub ipadd: &'a [String],
    /// See there.
    pub ipdel: &'a [String],
}

/// `--netif_add`, `--netif_del`, and `--ifname` with what is said of that one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InterfaceChange {
    add: Vec<Interface>,
    remove: Vec<InterfaceName>,
    removes_all: bool,
    of: Option<(InterfaceName, Vec<Said>, AddressChange)>,
}

/// An option, and what was typed after it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Said {
    option: &'static str,
    part: &'static str,
    value: String,
}

fn refused(option: &str, error: &InterfaceError) -> Failure {
    let shown = tree::escaped(error.text.as_bytes());
    Failure::new(Code::BadValue, format!("`{option} {shown}` cannot be used"))
        .because(format!("it {}", error.why))
        .unchanged()
}

impl InterfaceChange {
    /// Understands it.
    ///
    /// # Errors
    /// [`Code::BadValue`], [`Code::BadAddress`].
    pub fn read(words: &Words<'_>) -> Result<InterfaceChange> {
        let mut change = InterfaceChange::default();
        for word in words.add {
            change.add.push(added(word).map_err(|error| refused("--netif_add", &error))?);
        }
        for word in words.remove {
            if word == "all" {
                change.removes_all = true;
            } else {
                change.remove.push(word.parse().map_err(|error| refused("--netif_del", &error))?);
            }
        }
        let Some(of) = words.of else { return Ok(change) };
        let name: InterfaceName = of.parse().map_err(|error| refused("--ifname", &error))?;
        let addresses = AddressChange::read(words.ipadd, words.ipdel)?;
        let mut said = Vec::new();
        for (option, part, value) in words.parts {
            let value = if (*part, *value) == ("mac", "auto") { "" } else { value.trim() };
            // Tried on one that is nobody's.
            let tried = Interface::new(name.clone()).say(part, value);
            tried.map_err(|error| refused(option, &error))?;
            let wanted = match *part {
                "configure" => Some(("none or all", ["none", "all"])),
                "dhcp6" | "preventpromisc" => Some(("yes or no", ["yes", "no"])),
                _ => None,
            };
            if let Some((wanted, words)) = wanted
                && !words.contains(&value)
            {
                return Err(crate::attachments::bad(option, value, wanted));
            }
            said.push(Said { option, part, value: value.to_owned() });
        }
        if said.is_empty() && addresses.is_empty() {
            return Err(Failure::new(Code::BadOption, format!("`--ifname {name}` says nothing"))
                .because("there is no option that sets anything of it")
                .unchanged()
                .hint(format!("`--ifname {name} --network br0 --ipadd 192.0.2.5/24`")));
        }
        change.of = Some((name, said, addresses));
        Ok(change)
    }

    /// What was said of one and means nothing here, a line each.
    pub fn without_effect(&self) -> Vec<String> {
        let because = |part: &str| match part {
            "configure" => {
                Some("whether the distribution's own files are written is NETWORK_FILES, for all of them")
            }
            "dhcp6" => Some("with `--dhcp yes` it asks as its distribution's own client does"),
            "preventpromisc" => Some(
                "what its filters let through it may hear, and nothing else: `--macfilter`, `--ipfilter`",
            ),
            _ => None,
        };
        let said = self.of.iter().flat_map(|(_, said, _)| said);
        let told = |one: &Said| {
            let because = because(one.part)?;
            Some(format!("`{}` is kept in ve.conf and does nothing here: {because}", one.option))
        };
        said.filter_map(told).collect()
    }

    /// Nothing was asked for.
    pub fn is_empty(&self) -> bool {
        *self == InterfaceChange::default()
    }

    /// Writes it into the configuration of container `id`.
    ///
    /// # Errors
    /// [`Code::BadValue`]; [`Code::AddressInUse`]; [`Code::Unsupported`] for a bridge that there is not.
    pub fn apply(&self, host: &Host, id: Option<&ContainerId>, conf: &mut Conf) -> Result<()> {
        if self.is_empty() {
            return Ok(());
        }
        let mut all = if self.removes_all { Vec::new() } else { read(conf)? };
        for name in &self.remove {
            let before = all.len();
            all.retain(|one| one.name != *name);
            if all.len() == before {
                return Err(none_such("--netif_del", name, &all));
            }
        }
        for new in &self.add {
            if all.iter().any(|one| one.name == new.name) {
                return Err(Failure::new(
                    Code::BadValue,
                    format!("`--netif_add {}` cannot be done", new.name),
                )
                .because("it has one of that name")
                .unchanged()
                .hint(format!("`--ifname {}` changes what it has", new.name)));
            }
            all.push(new.clone());
        }
        if all.len() > MOST {
            return Err(Failure::new(Code::BadValue, "these are too many interfaces")
                .because(format!("there may be {MOST} of them"))
                .unchanged());
        }
        if let Some((name, said, addresses)) = &self.of {
            let Some(index) = all.iter().position(|one| one.name == *name) else {
                return Err(none_such("--ifname", name, &all));
            };
            for Said { option, part, value } in said {
                all[index].say(part, value).map_err(|error| refused(option, &error))?;
            }
            let one = all[index].clone();
            // What it had before is its own also where it is elsewhere now.
            addresses.apply_to(&mut all[index].addresses, |ip| {
                is_free(host, id, ip, Place::Bridge(&one))?;
                let of_another = conf_has(conf, ip);
                if of_another { Err(taken_by_itself(ip)) } else { Ok(()) }
            })?;
        }
        check(host, id, &all, self)?;
        let text = Interface::write(&all);
        // Each by itself can be written; together they may have what only one of them may.
        Interface::read(&text).map_err(|error| {
            Failure::new(Code::BadValue, "the interfaces cannot be so")
                .because(format!("`{}` {}", error.text, error.why))
                .unchanged()
        })?;
        conf.set(INTERFACES, &text)?;
        Ok(())
    }
}

fn conf_has(conf: &Conf, ip: std::net::IpAddr) -> bool {
    Address::all(conf).is_ok_and(|all| all.iter().any(|address| address.ip == ip))
}

fn taken_by_itself(ip: std::net::IpAddr) -> Failure {
    Failure::new(Code::AddressInUse, format!("the address {ip} is taken"))
        .because("the container has it already, routed to it")
        .unchanged()
        .hint(format!("take it from there with `--ipdel {ip}` first"))
}

/// `eth0`, `eth0,MAC`, or `eth0,MAC,HOST_IFNAME,HOST_MAC,BRIDGE` as legacy OpenVZ has it, any of which may be empty.
fn added(word: &str) -> std::result::Result<Interface, InterfaceError> {
    let mut parts = word.split(',').map(str::trim);
    let mut one = Interface::new(parts.next().unwrap_or_default().parse()?);
    for part in ["mac", "host_ifname", "host_mac", "network"] {
        one.say(part, parts.next().unwrap_or_default())?;
    }
    match parts.next() {
        None => Ok(one),
        Some(_) => Err(InterfaceError {
            text: word.chars().take(80).flat_map(char::escape_debug).collect(),
            why: "has more than a name and a MAC address: `eth0,02:00:00:00:00:01`",
        }),
    }
}

fn read(conf: &Conf) -> Result<Vec<Interface>> {
    Interface::all(conf).map_err(|error| {
        Failure::new(Code::BadValue, format!("`{INTERFACES}` cannot be used"))
            .because(format!("`{}` {}", error.text, error.why))
            .unchanged()
            .hint("`--netif_del all` takes away all that is there")
    })
}

fn none_such(option: &str, name: &InterfaceName, all: &[Interface]) -> Failure {
    let names: Vec<&str> = all.iter().map(|one| one.name.as_str()).collect();
    let failure = Failure::new(Code::BadValue, format!("`{option} {name}` cannot be done")).unchanged();
    if names.is_empty() {
        failure.because("it has no interface on a bridge").hint(format!("`--netif_add {name}` makes one"))
    } else {
        failure.because(format!("it has only: {}", names.join(", ")))
    }
}

/// What is new of them can be, and is nobody else's.
fn check(host: &Host, id: Option<&ContainerId>, all: &[Interface], change: &InterfaceChange) -> Result<()> {
    let is_new = |one: &Interface| {
        change.add.iter().any(|new| new.name == one.name)
            || change.of.as_ref().is_some_and(|(name, _, _)| *name == one.name)
    };
    for one in all.iter().filter(|one| is_new(one)) {
        if one.dhcp && one.ip_filter {
            return Err(Failure::new(Code::BadValue, format!("`{}` cannot have --dhcp", one.name))
                .because("which address it will be given nobody here knows, and it is kept from using any that is not its own")
                .unchanged()
                .hint(format!("`--ifname {} --dhcp yes --ipfilter no`, or an address: `--ipadd`", one.name)));
        }
        if let Some(because) = host.runtime.lacks_bridge(one) {
            let bridge = one.network.as_ref().map_or("br0", InterfaceName::as_str);
            return Err(Failure::new(Code::Unsupported, format!("`{}` cannot be there", one.name))
                .because(because)
                .unchanged()
                .hint(match one.vlan {
                    Some(_) => format!("`ip link set {bridge} type bridge vlan_filtering 1` turns it on, where the kernel has it"),
                    None => format!(
                        "bridges are the host's own: `ip link add {bridge} type bridge && ip link set {bridge} up` makes one; `--network` names it"
                    ),
                }));
        }
        // Elsewhere what it has may be another's.
        for Address { ip, .. } in &one.addresses {
            is_free(host, id, *ip, Place::Bridge(one))?;
        }
        is_nobody_elses(host, id, one)?;
    }
    Ok(())
}

/// What a container that comes back has of interfaces is no other's: no address, no MAC address, no name on the host.
///
/// # Errors
/// [`Code::AddressInUse`].
pub fn are_nobody_elses(host: &Host, id: &ContainerId, interfaces: &[Interface]) -> Result<()> {
    for one in interfaces {
        for Address { ip, .. } in &one.addresses {
            is_free(host, Some(id), *ip, Place::Bridge(one))?;
        }
        is_nobody_elses(host, Some(id), one)?;
    }
    Ok(())
}

/// No other container's interface has the MAC address, or the name on the host: neither one that was chosen nor one that is made up.
fn is_nobody_elses(host: &Host, id: Option<&ContainerId>, own: &Interface) -> Result<()> {
    // Of a container that is only to be, nobody knows yet what will be made up.
    let made_up = id.map(|id| Bridged::of(&host.prefix, id, own.clone()));
    let mac = own.mac.map(|mac| mac.0).or(made_up.as_ref().map(|made_up| made_up.mac));
    let name = own.host_name.as_ref().map(ToString::to_string).or(made_up.map(|made_up| made_up.interface));
    if mac.is_none() && name.is_none() {
        return Ok(());
    }
    for other in registry::list(&host.prefix)?.into_iter().filter(|other| Some(other) != id) {
        let Ok(area) = Area::open_unchecked(&host.prefix, &other) else { continue };
        let theirs = area.conf().ok().and_then(|conf| Interface::all(&conf).ok()).unwrap_or_default();
        let has = |one: Interface| -> Option<String> {
            let one = Bridged::of(&host.prefix, &other, one);
            let mac = mac.filter(|mac| *mac == one.mac).map(|mac| format!("the MAC address {}", Mac(mac)));
            let name = name.as_ref().filter(|name| **name == one.interface);
            mac.or_else(|| name.map(|name| format!("the name {name} on the host")))
        };
        if let Some(what) = theirs.into_iter().find_map(has) {
            let is_chosen = own.mac.is_some() || own.host_name.is_some();
            return Err(Failure::new(Code::AddressInUse, format!("{what} is taken"))
                .because(format!("container `{}` has it", area.display_name()))
                .unchanged()
                .hint(if is_chosen {
                    "leave it out for one that is made up"
                } else {
                    "give it one of its own: `--mac`, `--host_ifname`"
                }));
        }
    }
    Ok(())
}
