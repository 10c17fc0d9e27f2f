//! Where the ends of a container's pairs are: its root does what it likes with its own, and moves it into a network within its own, or removes it, and the
//! host's end with it.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::BorrowedFd;

use crate::netlink::Netlink;
use crate::{Bridged, Network, NetworkError, visit};

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

/// Which names inside, of pairs that are to be `made`, are those of pairs that go.
///
/// # Errors
/// [`NetworkError`], also where anybody else has such a name: its root has made an interface of its own.
pub fn held_by_what_goes(
    kernel: &mut Netlink,
    pidfd: BorrowedFd<'_>,
    made: &[&Bridged],
    gone: &[&Bridged],
    alias: &str,
) -> Result<BTreeSet<String>, NetworkError> {
    if made.is_empty() {
        return Ok(BTreeSet::new());
    }
    let mut find = || -> io::Result<BTreeSet<Indices>> {
        let mut going = BTreeSet::new();
        for one in gone {
            let found = kernel.link(&one.interface)?.filter(|link| link.alias.as_deref() == Some(alias));
            going.extend(found.and_then(|link| Some((link.index, link.peer?))));
        }
        Ok(going)
    };
    let going = find().map_err(NetworkError::system("find the interface"))?;
    visit(pidfd, || {
        let mut held = BTreeSet::new();
        for Bridged { interface, wanted, .. } in made {
            let look = || -> io::Result<bool> {
                let Some(link) = Netlink::open()?.link(wanted.name.as_str())? else { return Ok(false) };
                if link.peer.is_some_and(|outside| going.contains(&(outside, link.index))) {
                    return Ok(true);
                }
                let why = "File exists: something in the container has made another interface of that name";
                Err(io::Error::new(io::ErrorKind::AlreadyExists, why))
            };
            let what = format!("make the interface {} ({interface})", wanted.name);
            if look().map_err(NetworkError::system(what))? {
                held.insert(wanted.name.to_string());
            }
        }
        Ok(held)
    })
}
