//! Where the ends of a container's pairs are: its root does what it likes with its own, and moves it into a network within its own, or removes it, and the
//! host's end with it.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::BorrowedFd;

use crate::netlink::Netlink;
use crate::{Network, NetworkError, visit};

/// Of an end on the host, and of its other one in whatever network that is.
type Indices = (u32, u32);

/// The interfaces on the host whose other end is not in the container's network: they, or only that end, are gone.
///
/// # Errors
/// [`NetworkError`].
pub fn lost(
    kernel: &mut Netlink,
    pidfd: BorrowedFd<'_>,
    network: &Network,
) -> Result<BTreeSet<String>, NetworkError> {
    let routed = (!network.addresses.is_empty()).then_some(&network.interface);
    let names: Vec<&String> = network.bridged.iter().map(|one| &one.interface).chain(routed).collect();
    let mut find = || -> io::Result<Vec<(String, Option<Indices>)>> {
        let mut all = Vec::new();
        for name in &names {
            let found = kernel.link(name)?.filter(|link| link.alias.as_deref() == Some(&network.alias));
            let pair = found.and_then(|link| Some((link.index, link.peer?)));
            all.push(((*name).clone(), pair));
        }
        Ok(all)
    };
    let mut all = find().map_err(NetworkError::system("find the interface"))?;
    if all.iter().all(|(_, pair)| pair.is_none()) {
        return Ok(all.into_iter().map(|(name, _)| name).collect());
    }
    visit(pidfd, || {
        let mut look = || -> io::Result<BTreeSet<String>> {
            let mut kernel = Netlink::open()?;
            let mut lost = BTreeSet::new();
            for (name, pair) in all.drain(..) {
                // Its index is of the network that it is in: another interface may have the same here.
                let is_here = match pair {
                    Some((outside, inside)) => {
                        kernel.link_of(inside)?.is_some_and(|link| link.peer == Some(outside))
                    }
                    None => false,
                };
                if !is_here {
                    lost.insert(name);
                }
            }
            Ok(lost)
        };
        look().map_err(NetworkError::system("look for the container's interfaces"))
    })
}
