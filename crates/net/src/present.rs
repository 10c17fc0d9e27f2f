//! What there is of a container's network at this moment, asked of the kernel: what is written down of it says where to look, and nothing of what is found.

use std::io;
use std::os::fd::BorrowedFd;

use store::{Address, ContainerId, Prefix};

use crate::netlink::Netlink;
use crate::rates::{Held, Rates};
use crate::{Network, NetworkError, routed, visit};

/// More addresses of one interface are not told: its root may give it as many as it likes.
const MOST: usize = 64;

/// An interface that was made for a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Present {
    /// What it was called when it was made: `venet0`, or as `NETIF` says.
    pub name: String,
    /// `None`: it is not in the container's network; its root has removed or moved it.
    pub found: Option<Found>,
}

/// One that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// What it is called on the host.
    pub outside: String,
    /// And inside, where its root may have called it otherwise.
    pub inside: String,
    /// Inside.
    pub mac: Option<[u8; 6]>,
    /// Inside, but for those that the kernel has made itself.
    pub addresses: Vec<Address>,
    /// And more of them.
    pub has_more: bool,
    /// The bridge that its other end is on.
    pub bridge: Option<String>,
    /// What the filter lets pass in a second; `None`: it does not say.
    pub rate: Option<Held>,
}

/// What there is of the network of the container of the process behind `pidfd`.
///
/// # Errors
/// When the kernel does not say.
pub fn present(
    prefix: &Prefix,
    id: &ContainerId,
    pidfd: BorrowedFd<'_>,
    rates: &Rates,
) -> Result<Vec<Present>, NetworkError> {
    Network::check(prefix, id).map_err(NetworkError::system("tell what there is of its network"))?;
    let Some(network) = Network::load(prefix, id) else { return Ok(Vec::new()) };
    let mut kernel = Netlink::open().map_err(NetworkError::system("speak to the kernel about networks"))?;
    let routed = (!network.addresses.is_empty()).then(|| (routed::INSIDE.to_owned(), &network.interface));
    let bridged = network.bridged.iter().map(|one| (one.wanted.name.to_string(), &one.interface));
    let mut all = Vec::new();
    for (name, outside) in routed.into_iter().chain(bridged) {
        let found = found(&mut kernel, pidfd, outside, &network.alias, rates)?;
        all.push(Present { name, found });
    }
    Ok(all)
}

fn found(
    kernel: &mut Netlink,
    pidfd: BorrowedFd<'_>,
    outside: &str,
    alias: &str,
    rates: &Rates,
) -> Result<Option<Found>, NetworkError> {
    let mut find = || -> io::Result<Option<(u32, u32, Option<String>)>> {
        let own = kernel.link(outside)?.filter(|link| link.alias.as_deref() == Some(alias));
        let Some(link) = own else { return Ok(None) };
        let bridge = match link.master {
            Some(master) => kernel.link_of(master)?.map(|link| link.name),
            None => None,
        };
        Ok(link.peer.map(|inside| (link.index, inside, bridge)))
    };
    let Some((index, peer, bridge)) = find().map_err(NetworkError::system("find the interface"))? else {
        return Ok(None);
    };
    visit(pidfd, || {
        let look = || -> io::Result<Option<Found>> {
            let mut kernel = Netlink::open()?;
            // Its index is of the network that it is in: another interface may have the same here.
            let Some(link) = kernel.link_of(peer)?.filter(|link| link.peer == Some(index)) else {
                return Ok(None);
            };
            let (addresses, has_more) = kernel.addresses(peer, MOST)?;
            let (outside, inside) = (outside.to_owned(), link.name);
            let rate = rates.of(&outside);
            Ok(Some(Found { outside, inside, mac: link.mac, addresses, has_more, bridge, rate }))
        };
        look().map_err(NetworkError::system("look for the container's interfaces"))
    })
}
