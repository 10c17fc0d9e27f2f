//! Interfaces of a container on bridges of its host, which are the administrator's: a pair each, whose end on the host joins the bridge, and whose other
//! end has the name, the addresses and the way out that were asked for. What passes is looked at by `bridge_filter`.

use std::io;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;

use store::{Address, Interface};

use crate::netlink::{End, Link, Netlink, Way};
use crate::routed::write_setting;
use crate::{Bridged, NetworkError, visit};

/// Which of them come, go, and are other than they were.
#[derive(Debug, Default)]
pub struct Changes<'a> {
    pub gone: Vec<&'a Bridged>,
    pub new: Vec<&'a Bridged>,
    pub other: Vec<(&'a Bridged, &'a Bridged)>,
}

impl<'a> Changes<'a> {
    pub fn between(before: &'a [Bridged], wanted: &'a [Bridged]) -> Changes<'a> {
        let mut changes = Changes::default();
        let same = |list: &'a [Bridged], one: &Bridged| list.iter().find(|other| other.is_same_pair(one));
        changes.gone.extend(before.iter().filter(|one| same(wanted, one).is_none()));
        for one in wanted {
            match same(before, one) {
                None => changes.new.push(one),
                Some(old) => changes.other.push((old, one)),
            }
        }
        changes
    }
}

/// The bridge that an interface is to be on; `None`: it is to be on none.
///
/// # Errors
/// [`NetworkError::NoBridge`].
fn bridge_of(kernel: &mut Netlink, wanted: &Interface) -> Result<Option<Link>, NetworkError> {
    let Some(network) = &wanted.network else {
        return match wanted.vlan {
            Some(_) => Err(NetworkError::NoBridge {
                network: wanted.name.to_string(),
                why: "has a VLAN, and is on no bridge",
            }),
            None => Ok(None),
        };
    };
    let refused = |why| NetworkError::NoBridge { network: network.to_string(), why };
    let found = kernel
        .link(network.as_str())
        .map_err(NetworkError::system(format!("find the bridge {network}")))?
        .ok_or_else(|| refused("is no interface of this host"))?;
    let bridge = found.bridge.ok_or_else(|| refused("is no bridge"))?;
    if wanted.vlan.is_some() && !bridge.is_filtering {
        return Err(refused("does not tell VLANs apart: its vlan_filtering is off"));
    }
    Ok(Some(found))
}

/// Whether an interface can be where it is to be.
///
/// # Errors
/// [`NetworkError::NoBridge`].
pub fn check_bridge(wanted: &Interface) -> Result<(), NetworkError> {
    let mut kernel = Netlink::open().map_err(NetworkError::system("speak to the kernel about networks"))?;
    bridge_of(&mut kernel, wanted).map(drop)
}

/// Each has a bridge where it is to be on one, and no address that is the host's own.
///
/// # Errors
/// [`NetworkError::NoBridge`], [`NetworkError::InUse`].
pub fn check<'a>(
    kernel: &mut Netlink,
    alias: &str,
    all: impl IntoIterator<Item = &'a Bridged>,
) -> Result<(), NetworkError> {
    for Bridged { interface, wanted, .. } in all {
        bridge_of(kernel, wanted)?;
        // Before the filter hears of the name: it would take nothing of an interface of the host any more.
        let found = kernel.link(interface).map_err(NetworkError::system("find the interface"))?;
        if found.is_some_and(|link| link.alias.as_deref() != Some(alias)) {
            return Err(NetworkError::NoBridge {
                network: interface.clone(),
                why: "is another interface of this host already",
            });
        }
        for Address { ip, .. } in &wanted.addresses {
            let way = kernel.way_to(*ip);
            if way.map_err(NetworkError::system(format!("ask for the way to {ip}")))? == Way::Here {
                return Err(NetworkError::InUse { ip: *ip, holder: crate::Holder::Host.to_string() });
            }
        }
    }
    Ok(())
}

/// Makes the pair.
///
/// # Errors
/// [`NetworkError`], with what was made of it there: whoever removes it finds it by its name.
pub fn make(
    kernel: &mut Netlink,
    here: BorrowedFd<'_>,
    pidfd: BorrowedFd<'_>,
    one: &Bridged,
    alias: &str,
) -> Result<(), NetworkError> {
    let Bridged { interface, mac, host_mac, wanted } = one;
    let bridge = bridge_of(kernel, wanted)?;
    // A bridge sends no larger packets than the narrowest that is on it takes.
    let mtu = bridge.as_ref().map(|bridge| bridge.mtu);
    visit(pidfd, || {
        let make = || -> io::Result<()> {
            let inside = End { name: wanted.name.as_str(), mac: *mac };
            Netlink::open()?.add_pair(inside, End { name: interface, mac: *host_mac }, here, mtu)
        };
        make().map_err(NetworkError::system(format!("make the interface {} ({interface})", wanted.name)))
    })?;
    let link = link(kernel, one)?;
    let index = link.index;
    kernel.set_alias(index, alias).map_err(NetworkError::system("name the interface"))?;
    // The host itself is not spoken to here, but through the bridge.
    write_setting(&format!("ipv6/conf/{interface}/disable_ipv6"), "1");
    join(kernel, index, one, bridge.as_ref())?;
    let peer = peer(&link)?;
    visit(pidfd, || configure(peer, None, wanted))
}

fn join(kernel: &mut Netlink, index: u32, one: &Bridged, bridge: Option<&Link>) -> Result<(), NetworkError> {
    let what = format!("put {} on {}", one.interface, bridge.map_or("no bridge", |bridge| &bridge.name));
    let mut put = || -> io::Result<()> {
        // While it is up it would be, for a moment, in the VLAN that a bridge puts everybody in.
        kernel.set_down(index)?;
        kernel.join(index, bridge.map_or(0, |bridge| bridge.index), !one.wanted.mac_filter)?;
        if let Some(vlan) = one.wanted.vlan {
            let usual = bridge.and_then(|bridge| bridge.bridge).map_or(0, |bridge| bridge.usual_vlan);
            kernel.set_vlan(index, vlan, usual)?;
        }
        if bridge.is_some() && one.wanted.mac_filter {
            kernel.know(index, one.mac)?;
        }
        kernel.set_up(index)
    };
    put().map_err(NetworkError::system(what))
}

/// Puts an end that is there back on its bridge, which somebody has taken down and made again. A bridge that is not there is waited for.
///
/// # Errors
/// [`NetworkError`].
pub fn rejoin(kernel: &mut Netlink, one: &Bridged, alias: &str) -> Result<(), NetworkError> {
    let found = kernel.link(&one.interface).map_err(NetworkError::system("find the interface"))?;
    let Some(link) = found.filter(|link| link.alias.as_deref() == Some(alias)) else { return Ok(()) };
    let bridge = match bridge_of(kernel, &one.wanted) {
        Ok(Some(bridge)) => bridge,
        Ok(None) | Err(NetworkError::NoBridge { .. }) => return Ok(()),
        Err(error) => return Err(error),
    };
    if link.master == Some(bridge.index) { Ok(()) } else { join(kernel, link.index, one, Some(&bridge)) }
}

fn link(kernel: &mut Netlink, one: &Bridged) -> Result<Link, NetworkError> {
    let missing = || io::Error::from(io::ErrorKind::NotFound);
    kernel
        .link(&one.interface)
        .and_then(|link| link.ok_or_else(missing))
        .map_err(NetworkError::system(format!("find the interface {}", one.interface)))
}

/// The container's end: by its index, since its root may call it what it likes.
fn peer(link: &Link) -> Result<u32, NetworkError> {
    let missing = || io::Error::from(io::ErrorKind::NotFound);
    link.peer
        .ok_or_else(missing)
        .map_err(NetworkError::system(format!("find the other end of {}", link.name)))
}

/// Makes of the pair what is wanted now.
///
/// # Errors
/// [`NetworkError`].
pub fn alter(
    kernel: &mut Netlink,
    pidfd: BorrowedFd<'_>,
    old: &Bridged,
    new: &Bridged,
) -> Result<(), NetworkError> {
    let link = link(kernel, new)?;
    let bridge = bridge_of(kernel, &new.wanted)?;
    let is_other = old.wanted.mac_filter != new.wanted.mac_filter || old.mac != new.mac;
    if is_other && link.master.is_some() && old.wanted.mac_filter {
        kernel
            .forget(link.index, old.mac)
            .map_err(NetworkError::system(format!("forget who is at {}", new.interface)))?;
    }
    if is_other || link.master != bridge.as_ref().map(|bridge| bridge.index) {
        join(kernel, link.index, new, bridge.as_ref())?;
    }
    let peer = peer(&link)?;
    // Also where nothing is other: another interface that has gone may have taken its way out along.
    visit(pidfd, || configure(peer, Some(&old.wanted), &new.wanted))
}

/// In the container: addresses, and the way out.
fn configure(index: u32, old: Option<&Interface>, wanted: &Interface) -> Result<(), NetworkError> {
    let make = || -> io::Result<()> {
        let mut kernel = Netlink::open()?;
        let name = kernel.link_of(index)?.map(|link| link.name).unwrap_or_default();
        if wanted.ip_filter {
            // What it would make of a router's word is no address of its own, and would be dropped.
            write_setting(&format!("ipv6/conf/{name}/accept_ra"), "0");
            write_setting(&format!("ipv6/conf/{name}/autoconf"), "0");
        }
        kernel.set_up(index)?;
        for Address { ip, prefix } in &wanted.addresses {
            kernel.add_address(index, *ip, *prefix)?;
        }
        for gateway in gateways(wanted) {
            kernel.set_gateway(index, gateway)?;
        }
        let Some(old) = old else { return Ok(()) };
        for gateway in gateways(old).filter(|old| gateways(wanted).all(|new| new != *old)) {
            kernel.remove_gateway(index, gateway)?;
        }
        for Address { ip, prefix } in old.addresses.iter().filter(|old| !wanted.addresses.contains(old)) {
            kernel.remove_address(index, *ip, *prefix)?;
        }
        // With an address goes what the kernel knows by it, and the others of its network.
        for Address { ip, prefix } in &wanted.addresses {
            kernel.add_address(index, *ip, *prefix)?;
        }
        for gateway in gateways(wanted) {
            kernel.set_gateway(index, gateway)?;
        }
        Ok(())
    };
    make().map_err(NetworkError::system(format!("configure {}", wanted.name)))
}

fn gateways(of: &Interface) -> impl Iterator<Item = IpAddr> {
    of.gateway.map(IpAddr::V4).into_iter().chain(of.gateway6.map(IpAddr::V6))
}

/// Takes the pair away; that it is not there is no error.
///
/// # Errors
/// [`NetworkError`].
pub fn remove(kernel: &mut Netlink, one: &Bridged, alias: &str) -> Result<(), NetworkError> {
    let found = kernel.link(&one.interface).map_err(NetworkError::system("find the interface"))?;
    // Its name may be one that somebody has chosen: that it is the container's, the alias says. One that was made and not named yet goes with its other end.
    let own = found.filter(|link| link.alias.as_deref() == Some(alias));
    match own {
        Some(link) => kernel.remove_link(link.index).map_err(NetworkError::system("remove the interface")),
        None => Ok(()),
    }
}
