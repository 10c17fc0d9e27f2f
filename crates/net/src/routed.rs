//! Addresses that are routed to a container: a pair of interfaces, `venet0` inside.

use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;

use store::{Address, Prefix};

use crate::netlink::{End, Link, Netlink, Way};
use crate::record::Forwarding;
use crate::{Network, NetworkError, filter, visit};

/// What a container calls its own end, as in OpenVZ.
pub const INSIDE: &str = "venet0";

/// Whose an address is already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holder {
    /// This host's own.
    Host,
    /// All of a network that it is in.
    Everybody,
    /// The router that it sends to what is far away.
    Router,
    /// A network that it is in, by its first address.
    Network,
    /// Routed to another container; what its interface says whose it is.
    Container(String),
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Holder::Host => write!(f, "an address of this host itself"),
            Holder::Everybody => write!(f, "the broadcast address of a network that this host is in"),
            Holder::Router => write!(f, "the gateway of this host"),
            Holder::Network => {
                write!(f, "the first address of a network that this host is in, which is no single machine's")
            }
            Holder::Container(alias) => {
                write!(f, "routed to container {} already", alias.strip_prefix("reroot ").unwrap_or(alias))
            }
        }
    }
}

/// Who has an address, as far as this host's routes tell. Of one that is to be routed, and which the host would therefore answer for in its own networks, also
/// whether that is somebody whom all of these need.
///
/// # Errors
/// [`NetworkError`].
pub fn holder_of(ip: IpAddr, is_routed: bool) -> Result<Option<Holder>, NetworkError> {
    let ask = || -> io::Result<Option<Holder>> {
        let mut kernel = Netlink::open()?;
        Ok(match kernel.way_to(ip)? {
            Way::Here => Some(Holder::Host),
            Way::Everybody => Some(Holder::Everybody),
            Way::Link(index) => {
                let alias = kernel.link_of(index)?.and_then(|link| link.alias);
                match alias.filter(|alias| alias.starts_with("reroot ")) {
                    Some(alias) => Some(Holder::Container(alias)),
                    None if is_routed => of_all(&mut kernel, ip)?,
                    None => None,
                }
            }
            Way::None | Way::Router => None,
        })
    };
    ask().map_err(NetworkError::system(format!("ask for the way to {ip}")))
}

/// Whom of a network that this host is in all others need.
fn of_all(kernel: &mut Netlink, ip: IpAddr) -> io::Result<Option<Holder>> {
    if kernel.is_router(ip)? {
        return Ok(Some(Holder::Router));
    }
    Ok(kernel.is_first(ip)?.then_some(Holder::Network))
}

/// The pair, with all that leads to it and away from it; returns what is not as it should be.
pub fn make(
    kernel: &mut Netlink,
    prefix: &Prefix,
    here: BorrowedFd<'_>,
    pidfd: BorrowedFd<'_>,
    network: &Network,
) -> Result<Vec<String>, NetworkError> {
    let Network { interface, mac, .. } = network;
    let is_over = network.has_gateways();
    visit(pidfd, || {
        let make = || -> io::Result<()> {
            let mut kernel = Netlink::open()?;
            // Both have one MAC address: see the crate.
            let [inside, outside] = [INSIDE, interface].map(|name| End { name, mac: *mac });
            kernel.add_pair(inside, outside, here, None)
        };
        make().map_err(NetworkError::system(format!("make the interface {interface}")))
    })?;
    let link = link(kernel, network)?;
    kernel.set_alias(link.index, &network.alias).map_err(NetworkError::system("name the interface"))?;
    let warnings = ready(prefix, network)?;
    kernel
        .set_up_without_neighbours(link.index)
        .map_err(NetworkError::system(format!("bring up {}", network.interface)))?;
    add(kernel, link.index, network, &network.addresses)?;
    let inside = inside(&link)?;
    visit(pidfd, || add_inside(inside, &network.addresses, is_over))?;
    Ok(warnings)
}

/// Other addresses: new ones come before old ones go, and with the last of them the pair. `network` has all of them.
pub fn alter(
    kernel: &mut Netlink,
    prefix: &Prefix,
    pidfd: BorrowedFd<'_>,
    network: &Network,
    (new, gone): (&[Address], &[Address]),
    wanted: &[Address],
) -> Result<Vec<String>, NetworkError> {
    let link = link(kernel, network)?;
    let of_gone = Network { addresses: gone.to_vec(), ..network.clone() };
    if wanted.is_empty() {
        remove(kernel, link.index, &of_gone)?;
        kernel.remove_link(link.index).map_err(NetworkError::system("remove the interface"))?;
        return Ok(Vec::new());
    }
    let inside = inside(&link)?;
    let is_over = network.has_gateways();
    let warnings = ready(prefix, network)?;
    add(kernel, link.index, network, new)?;
    visit(pidfd, || add_inside(inside, wanted, is_over))?;
    remove(kernel, link.index, &of_gone)?;
    visit(pidfd, || {
        let take = || -> io::Result<()> {
            let mut kernel = Netlink::open()?;
            for Address { ip, prefix } in gone {
                kernel.remove_address(inside, *ip, *prefix)?;
            }
            // With its address goes what the kernel knows by it, and the others of its network.
            for Address { ip, prefix } in wanted {
                kernel.add_address(inside, *ip, *prefix)?;
            }
            set_defaults(&mut kernel, inside, wanted, is_over)
        };
        take().map_err(NetworkError::system(format!("configure {INSIDE}")))
    })?;
    Ok(warnings)
}

fn link(kernel: &mut Netlink, network: &Network) -> Result<Link, NetworkError> {
    let missing = || io::Error::from(io::ErrorKind::NotFound);
    kernel
        .link(&network.interface)
        .and_then(|link| link.ok_or_else(missing))
        .map_err(NetworkError::system(format!("find the interface {}", network.interface)))
}

/// On the host: routes, and where somebody would ask for the address, an answer.
fn add(
    kernel: &mut Netlink,
    index: u32,
    network: &Network,
    addresses: &[Address],
) -> Result<(), NetworkError> {
    for Address { ip, .. } in addresses {
        kernel.add_route(index, *ip).map_err(NetworkError::system(format!("route {ip}")))?;
    }
    for (ip, on) in &network.announced {
        if addresses.iter().any(|address| address.ip == *ip) {
            if ip.is_ipv6() {
                write_setting(&format!("ipv6/conf/{}/proxy_ndp", name_of(kernel, *on)), "1");
            }
            kernel.answer_for(*on, *ip).map_err(NetworkError::system(format!("answer for {ip}")))?;
        }
    }
    Ok(())
}

fn name_of(kernel: &mut Netlink, index: u32) -> String {
    kernel.link_of(index).ok().flatten().map(|link| link.name).unwrap_or_default()
}

/// The container's end: by its index, since its root may call it what it likes.
fn inside(link: &Link) -> Result<u32, NetworkError> {
    let missing = || io::Error::from(io::ErrorKind::NotFound);
    link.peer.ok_or_else(missing).map_err(NetworkError::system(format!("find {INSIDE}")))
}

fn add_inside(index: u32, addresses: &[Address], is_over: [bool; 2]) -> Result<(), NetworkError> {
    let make = || -> io::Result<()> {
        let mut kernel = Netlink::open()?;
        kernel.set_up_without_neighbours(index)?;
        for Address { ip, prefix } in addresses {
            kernel.add_address(index, *ip, *prefix)?;
        }
        set_defaults(&mut kernel, index, addresses, is_over)
    };
    make().map_err(NetworkError::system(format!("configure {INSIDE}")))
}

/// The first address of each family is what it speaks from; but where an interface on a bridge has a gateway, that is its way out.
fn set_defaults(
    kernel: &mut Netlink,
    index: u32,
    addresses: &[Address],
    is_over: [bool; 2],
) -> io::Result<()> {
    for (is_family, is_over) in [IpAddr::is_ipv4, IpAddr::is_ipv6].into_iter().zip(is_over) {
        if let Some(Address { ip, .. }) = addresses.iter().find(|address| is_family(&address.ip))
            && !is_over
        {
            kernel.set_default_route(index, *ip)?;
        }
    }
    Ok(())
}

/// The pair, which has lost its end in the container, where anything is left of it.
pub fn take_away(kernel: &mut Netlink, gone: &Network) -> Result<(), NetworkError> {
    remove(kernel, 0, gone)?;
    let found = kernel.link(&gone.interface).map_err(NetworkError::system("find the interface"))?;
    match found.filter(|link| link.alias.as_deref() == Some(&gone.alias)) {
        Some(link) => kernel.remove_link(link.index).map_err(NetworkError::system("remove the interface")),
        None => Ok(()),
    }
}

/// What the host knows of these addresses.
pub fn remove(kernel: &mut Netlink, index: u32, network: &Network) -> Result<(), NetworkError> {
    for Address { ip, .. } in &network.addresses {
        for (announced, on) in &network.announced {
            if announced == ip {
                kernel
                    .answer_no_more(*on, *ip)
                    .map_err(NetworkError::system(format!("answer for {ip} no more")))?;
            }
        }
        if index != 0 {
            kernel.remove_route(index, *ip).map_err(NetworkError::system(format!("route {ip} no more")))?;
        }
    }
    Ok(())
}

/// On which interface the host has to answer for which address: where it lies in a network that the host is in. Refuses what is somebody else's.
pub fn announced(
    kernel: &mut Netlink,
    addresses: &[Address],
    own: &str,
) -> Result<Vec<(IpAddr, u32)>, NetworkError> {
    let mut found = Vec::new();
    for Address { ip, .. } in addresses {
        let mut ask = || -> io::Result<(Way, Option<Link>)> {
            let way = kernel.way_to(*ip)?;
            let link = if let Way::Link(index) = way { kernel.link_of(index)? } else { None };
            Ok((way, link))
        };
        let (way, link) = ask().map_err(NetworkError::system(format!("ask for the way to {ip}")))?;
        let in_use = |holder: Holder| NetworkError::InUse { ip: *ip, holder: holder.to_string() };
        match (way, link) {
            (Way::Here, _) => return Err(in_use(Holder::Host)),
            (Way::Everybody, _) => return Err(in_use(Holder::Everybody)),
            (Way::Link(_), Some(Link { alias: Some(alias), .. })) if alias.starts_with("reroot ") => {
                if alias != own {
                    return Err(in_use(Holder::Container(alias)));
                }
            }
            (Way::Link(index), _) => {
                let holder =
                    of_all(kernel, *ip).map_err(NetworkError::system(format!("ask whose {ip} is")))?;
                if let Some(holder) = holder {
                    return Err(in_use(holder));
                }
                found.push((*ip, index));
            }
            (Way::None | Way::Router, _) => {}
        }
    }
    Ok(found)
}

/// What the host must be to route anything. What of it was otherwise before is told, and is for containers alone.
fn ready(prefix: &Prefix, network: &Network) -> Result<Vec<String>, NetworkError> {
    let interface = &network.interface;
    let mut warnings = Vec::new();
    // Nothing is taken from what the container says of itself; and what has another's address is dropped here, too, should somebody flush the filter.
    for (key, value) in [
        ("ipv6", "accept_ra", "0"),
        ("ipv6", "autoconf", "0"),
        ("ipv6", "accept_redirects", "0"),
        ("ipv4", "accept_redirects", "0"),
        ("ipv4", "rp_filter", "1"),
    ]
    .map(|(family, name, value)| (format!("{family}/conf/{interface}/{name}"), value))
    {
        write_setting(&key, value);
    }
    let has = |is_family: fn(&IpAddr) -> bool| network.addresses.iter().any(|address| is_family(&address.ip));
    for (is_wanted, key, is_six) in [
        (has(IpAddr::is_ipv4), "ipv4/ip_forward", false),
        (has(IpAddr::is_ipv6), "ipv6/conf/all/forwarding", true),
    ] {
        if !is_wanted || read_setting(key) == "1" {
            continue;
        }
        // Before it forwards at all: a host that was no router is none for its neighbours.
        Forwarding::begin(prefix, is_six)
            .map_err(NetworkError::system("write down that this host forwards"))?;
        filter::restore(prefix)?;
        if is_six {
            heed_routers();
        }
        let name = key.replace('/', ".");
        warnings.push(match write_setting(key, "1") {
            true => format!(
                "net.{name} was 0, and is 1 now, for what goes to containers and comes from them; set it in /etc/sysctl.d where this host is to forward other things, too"
            ),
            false => format!("net.{name} is 0, and cannot be set: nothing is routed"),
        });
    }
    Ok(warnings)
}

/// A host that forwards takes no router's word any more, and would lose its own way out.
fn heed_routers() {
    let interfaces = std::fs::read_dir("/proc/sys/net/ipv6/conf").map(|entries| entries.flatten());
    for entry in interfaces.into_iter().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if read_setting(&format!("ipv6/conf/{name}/accept_ra")) == "1" {
            write_setting(&format!("ipv6/conf/{name}/accept_ra"), "2");
        }
    }
}

fn read_setting(name: &str) -> String {
    std::fs::read_to_string(format!("/proc/sys/net/{name}")).unwrap_or_default().trim().to_owned()
}

pub fn write_setting(name: &str, value: &str) -> bool {
    use std::io::Write;
    let path = format!("/proc/sys/net/{name}");
    File::options().write(true).open(path).and_then(|mut file| file.write_all(value.as_bytes())).is_ok()
}
