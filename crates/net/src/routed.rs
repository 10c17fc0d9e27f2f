//! Addresses that are routed to a container: a pair of interfaces, `venet0` inside.

use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use store::{Address, ContainerId, Forward, Lock, LockName, Prefix};

use crate::netlink::{Link, Netlink, Way};
use crate::record::Forwarding;
use crate::{Network, NetworkError, filter, visit};

/// So long whoever makes another container's network may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// What a container calls its own end, as in OpenVZ.
const INSIDE: &str = "venet0";

/// Whose an address is already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holder {
    /// This host's own.
    Host,
    /// Routed to another container; what its interface says whose it is.
    Container(String),
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Holder::Host => write!(f, "an address of this host itself"),
            Holder::Container(alias) => {
                write!(f, "routed to container {} already", alias.strip_prefix("reroot ").unwrap_or(alias))
            }
        }
    }
}

/// Who has an address, as far as this host's routes tell.
///
/// # Errors
/// [`NetworkError`].
pub fn holder_of(ip: IpAddr) -> Result<Option<Holder>, NetworkError> {
    let ask = || -> io::Result<Option<Holder>> {
        let mut kernel = Netlink::open()?;
        Ok(match kernel.way_to(ip)? {
            Way::Here => Some(Holder::Host),
            Way::Link(index) => kernel
                .link_of(index)?
                .and_then(|link| link.alias)
                .filter(|alias| alias.starts_with("reroot "))
                .map(Holder::Container),
            Way::None | Way::Router => None,
        })
    };
    ask().map_err(NetworkError::system(format!("ask for the way to {ip}")))
}

/// Gives the container of the process behind `pidfd`, which has none yet, its network; returns what is not as it should be.
///
/// # Errors
/// [`NetworkError::InUse`], [`NetworkError::NoFilter`]; with nothing of it left.
pub fn attach(
    prefix: &Prefix,
    id: &ContainerId,
    pidfd: BorrowedFd<'_>,
    network: Network,
) -> Result<Vec<String>, NetworkError> {
    Network::check(prefix, id).map_err(NetworkError::system("tell what there is of its network"))?;
    if network.addresses.is_empty() && Network::load(prefix, id).is_none() {
        return Ok(Vec::new());
    }
    let lock = alone(prefix)?;
    attach_with(&lock, prefix, id, pidfd, network)
}

fn attach_with(
    lock: &Lock,
    prefix: &Prefix,
    id: &ContainerId,
    pidfd: BorrowedFd<'_>,
    mut network: Network,
) -> Result<Vec<String>, NetworkError> {
    // What a dead monitor has left.
    detach_with(lock, prefix, id)?;
    if network.addresses.is_empty() {
        return Ok(Vec::new());
    }
    let result = try_attach(prefix, id, pidfd, &mut network);
    if result.is_err() {
        drop(detach_with(lock, prefix, id));
    }
    result
}

/// Whoever says anything to the filter may have to say it of all containers: what is written down of each, and what the filter has been told, are changed together.
fn alone(prefix: &Prefix) -> Result<Lock, NetworkError> {
    Lock::exclusive(prefix, LockName::Network, PATIENCE, "what makes a container's network").map_err(
        |error| NetworkError::System {
            what: "make networks alone".to_owned(),
            source: io::Error::other(error),
        },
    )
}

/// Says to the filter what it has to know of all containers, and of this host: somebody may have flushed it.
///
/// # Errors
/// [`NetworkError`].
pub fn restore(prefix: &Prefix) -> Result<(), NetworkError> {
    let _lock = alone(prefix)?;
    filter::restore(prefix)
}

fn try_attach(
    prefix: &Prefix,
    id: &ContainerId,
    pidfd: BorrowedFd<'_>,
    network: &mut Network,
) -> Result<Vec<String>, NetworkError> {
    let mut kernel = Netlink::open().map_err(NetworkError::system("speak to the kernel about networks"))?;
    let addresses = network.addresses.clone();
    network.announced = announced(&mut kernel, &addresses, &network.alias)?;
    no_port_of_others(prefix, network)?;
    // Before any of it is made: a death after this leaves nothing that nobody knows of.
    network.store(prefix, id).map_err(NetworkError::system("write down what the network is"))?;
    // Before there is anything that could send.
    filter::admit(prefix, network)?;

    let here: OwnedFd = File::open("/proc/thread-self/ns/net")
        .map_err(NetworkError::system("open the host's network"))?
        .into();
    let Network { interface, mac, .. } = &*network;
    visit(pidfd, || {
        let make = || -> io::Result<()> {
            let mut kernel = Netlink::open()?;
            kernel.add_pair(INSIDE, interface, here.as_fd(), *mac)
        };
        make().map_err(NetworkError::system(format!("make the interface {interface}")))
    })?;
    let link = link(&mut kernel, network)?;
    kernel.set_alias(link.index, &network.alias).map_err(NetworkError::system("name the interface"))?;
    let warnings = ready(prefix, network)?;
    kernel
        .set_up_without_neighbours(link.index)
        .map_err(NetworkError::system(format!("bring up {}", network.interface)))?;
    add(&mut kernel, link.index, network, &addresses)?;
    let inside = inside(&link)?;
    visit(pidfd, || add_inside(inside, &addresses))?;
    Ok(warnings)
}

/// What two containers have at once the filter refuses, and with it all that is said in the same breath: nobody else's then either.
fn no_port_of_others(prefix: &Prefix, network: &Network) -> Result<(), NetworkError> {
    for other in Network::all(prefix).into_iter().filter(|other| other.interface != network.interface) {
        let taken =
            network.forwards.iter().find(|own| other.forwards.iter().any(|one| one.is_of_the_port_of(own)));
        if let Some(Forward { transport, port, .. }) = taken {
            let holder = other.alias.strip_prefix("reroot ").unwrap_or(&other.alias).to_owned();
            return Err(NetworkError::PortInUse { transport: *transport, port: *port, holder });
        }
    }
    Ok(())
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

fn add_inside(index: u32, addresses: &[Address]) -> Result<(), NetworkError> {
    let make = || -> io::Result<()> {
        let mut kernel = Netlink::open()?;
        kernel.set_up_without_neighbours(index)?;
        for Address { ip, prefix } in addresses {
            kernel.add_address(index, *ip, *prefix)?;
        }
        set_defaults(&mut kernel, index, addresses)
    };
    make().map_err(NetworkError::system(format!("configure {INSIDE}")))
}

/// The first address of each family is what it speaks from.
fn set_defaults(kernel: &mut Netlink, index: u32, addresses: &[Address]) -> io::Result<()> {
    for is_family in [IpAddr::is_ipv4, IpAddr::is_ipv6] {
        if let Some(Address { ip, .. }) = addresses.iter().find(|address| is_family(&address.ip)) {
            kernel.set_default_route(index, *ip)?;
        }
    }
    Ok(())
}

/// Other addresses for a container that runs. New ones come before old ones go.
///
/// # Errors
/// [`NetworkError`], with what it had before given back as far as that can be.
pub fn change(
    prefix: &Prefix,
    id: &ContainerId,
    pidfd: BorrowedFd<'_>,
    wanted: Network,
) -> Result<Vec<String>, NetworkError> {
    Network::check(prefix, id).map_err(NetworkError::system("tell what there is of its network"))?;
    let lock = alone(prefix)?;
    let Some(before) = Network::load(prefix, id) else {
        return attach_with(&lock, prefix, id, pidfd, wanted);
    };
    let result = try_change(&lock, prefix, id, pidfd, before.clone(), wanted);
    if result.is_err() {
        // What was made by then is written down as its own, and goes as one that it has no more.
        let half = Network::load(prefix, id).unwrap_or_else(|| before.clone());
        drop(try_change(&lock, prefix, id, pidfd, half, before));
    }
    result
}

fn try_change(
    lock: &Lock,
    prefix: &Prefix,
    id: &ContainerId,
    pidfd: BorrowedFd<'_>,
    mut network: Network,
    wanted: Network,
) -> Result<Vec<String>, NetworkError> {
    if wanted.addresses.is_empty() {
        return detach_with(lock, prefix, id).map(|()| Vec::new());
    }
    let is_in = |list: &[Address], address: &Address| list.iter().any(|one| one.ip == address.ip);
    let new: Vec<Address> =
        wanted.addresses.iter().filter(|address| !is_in(&network.addresses, address)).copied().collect();
    let gone: Vec<Address> =
        network.addresses.iter().filter(|address| !is_in(&wanted.addresses, address)).copied().collect();
    let mut kernel = Netlink::open().map_err(NetworkError::system("speak to the kernel about networks"))?;
    let found = kernel.link(&network.interface).map_err(NetworkError::system("find the interface"))?;
    // Its root has removed its end, and with it ours.
    let Some(link) = found else { return attach_with(lock, prefix, id, pidfd, wanted) };
    let inside = inside(&link)?;
    let announced = announced(&mut kernel, &new, &network.alias)?;
    network.announced.extend(announced);
    network.addresses.extend(&new);
    no_port_of_others(prefix, &wanted)?;
    network.store(prefix, id).map_err(NetworkError::system("write down what the network is"))?;
    filter::admit(prefix, &network)?;
    let warnings = ready(prefix, &network)?;
    add(&mut kernel, link.index, &network, &new)?;
    visit(pidfd, || add_inside(inside, &wanted.addresses))?;

    let mut old = network.clone();
    old.addresses.clone_from(&gone);
    remove(&mut kernel, link.index, &old)?;
    visit(pidfd, || {
        let take = || -> io::Result<()> {
            let mut kernel = Netlink::open()?;
            for Address { ip, prefix } in &gone {
                kernel.remove_address(inside, *ip, *prefix)?;
            }
            // With its address goes what the kernel knows by it.
            set_defaults(&mut kernel, inside, &wanted.addresses)
        };
        take().map_err(NetworkError::system(format!("configure {INSIDE}")))
    })?;
    // All that was said of it, since its first address is where its ports lead to.
    let before = network.clone();
    network.forwards = wanted.forwards;
    network.addresses = wanted.addresses;
    network.announced.retain(|(ip, _)| network.addresses.iter().any(|address| address.ip == *ip));
    filter::exchange(prefix, &before, &network)?;
    network.store(prefix, id).map_err(NetworkError::system("write down what the network is"))?;
    Ok(warnings)
}

fn remove(kernel: &mut Netlink, index: u32, network: &Network) -> Result<(), NetworkError> {
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

/// Takes away what there is of a container's network: at its end, and what was left of one. That nothing is there is no error.
///
/// # Errors
/// [`NetworkError`].
pub fn detach(prefix: &Prefix, id: &ContainerId) -> Result<(), NetworkError> {
    Network::check(prefix, id).map_err(NetworkError::system("tell what there is of its network"))?;
    if Network::load(prefix, id).is_none() {
        return Ok(());
    }
    detach_with(&alone(prefix)?, prefix, id)
}

fn detach_with(_lock: &Lock, prefix: &Prefix, id: &ContainerId) -> Result<(), NetworkError> {
    let Some(network) = Network::load(prefix, id) else { return Ok(()) };
    let mut kernel = Netlink::open().map_err(NetworkError::system("speak to the kernel about networks"))?;
    let found = kernel.link(&network.interface).map_err(NetworkError::system("find the interface"))?;
    // Its name is short: that it is the container's, the alias says.
    if let Some(link) = found.filter(|link| link.alias.as_deref().is_none_or(|alias| alias == network.alias))
    {
        kernel.remove_link(link.index).map_err(NetworkError::system("remove the interface"))?;
    }
    remove(&mut kernel, 0, &network)?;
    if filter::has_filter() {
        filter::forget(prefix, &network)?;
    }
    // Last: a death before this leaves all of it to be done again, which does no harm.
    Network::forget(prefix, id);
    Ok(())
}

/// The container's probation is over: it can be reached.
///
/// # Errors
/// [`NetworkError`].
pub fn release(prefix: &Prefix, id: &ContainerId) -> Result<(), NetworkError> {
    Network::check(prefix, id).map_err(NetworkError::system("tell what there is of its network"))?;
    if Network::load(prefix, id).is_none_or(|network| network.probation.is_none()) {
        return Ok(());
    }
    let _lock = alone(prefix)?;
    let Some(mut network) = Network::load(prefix, id) else { return Ok(()) };
    filter::release(prefix, &network)?;
    // After it: a death in between has it said once more.
    network.probation = None;
    network.store(prefix, id).map_err(NetworkError::system("write down what the network is"))
}

/// On which interface the host has to answer for which address: where it lies in a network that the host is in. Refuses what is somebody else's.
fn announced(
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
            (Way::Link(_), Some(Link { alias: Some(alias), .. })) if alias.starts_with("reroot ") => {
                if alias != own {
                    return Err(in_use(Holder::Container(alias)));
                }
            }
            (Way::Link(index), _) => found.push((*ip, index)),
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

fn write_setting(name: &str, value: &str) -> bool {
    use std::io::Write;
    let path = format!("/proc/sys/net/{name}");
    File::options().write(true).open(path).and_then(|mut file| file.write_all(value.as_bytes())).is_ok()
}
