//! A container's network while it runs: what of it is to be other than it was, and nothing else. What is as it was may be gone by now, since its root does
//! what it likes with its own ends, and so does whoever owns the bridges; that is said, and keeps nothing from being changed.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd};

use store::{Address, ContainerId, Lock, Prefix};

use crate::life::{alone, attach_with, detach_with, here, nothing_of_others};
use crate::netlink::Netlink;
use crate::{Network, NetworkError, bridged, ends, filter, routed};

/// Another network for a container that runs. New addresses come before old ones go.
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
    if wanted.is_empty() {
        return detach_with(lock, prefix, id).map(|()| Vec::new());
    }
    let mut kernel = Netlink::open().map_err(NetworkError::system("speak to the kernel about networks"))?;
    let before = network.clone();
    let pairs = bridged::Changes::between(&before.bridged, &wanted.bridged);
    let touched = pairs.other.iter().filter(|(old, new)| old != new).map(|(_, new)| *new);
    bridged::check(&mut kernel, &wanted.alias, pairs.new.iter().copied().chain(touched))?;
    nothing_of_others(prefix, &wanted)?;
    let addresses = Addresses::between(&before, &wanted);
    network.announced.extend(routed::announced(&mut kernel, &addresses.new, &network.alias)?);
    network.addresses.extend(&addresses.new);
    // Those that go are in it until they are gone.
    network.bridged = wanted.bridged.iter().chain(pairs.gone.iter().copied()).cloned().collect();
    network.store(prefix, id).map_err(NetworkError::system("write down what the network is"))?;
    filter::exchange(prefix, &before, &network)?;

    let lost = ends::lost(&mut kernel, pidfd, &before)?;
    let mut change = Changing { kernel, prefix, pidfd, network: &network, lost };
    let mut warnings = change.addresses(&addresses, &before, &wanted)?;
    warnings.extend(change.pairs(&pairs)?);
    // All that was said of it, since its first address is where its ports lead to.
    let between = network.clone();
    network.forwards = wanted.forwards;
    network.addresses = wanted.addresses;
    network.bridged.clone_from(&wanted.bridged);
    network.rate = wanted.rate;
    network.announced.retain(|(ip, _)| network.addresses.iter().any(|address| address.ip == *ip));
    if network != between {
        filter::exchange(prefix, &between, &network)?;
    }
    network.store(prefix, id).map_err(NetworkError::system("write down what the network is"))?;
    Ok(warnings)
}

/// Which of the addresses come, and which go.
struct Addresses {
    new: Vec<Address>,
    gone: Vec<Address>,
}

impl Addresses {
    fn between(before: &Network, wanted: &Network) -> Addresses {
        let not_in = |list: &[Address], of: &[Address]| -> Vec<Address> {
            of.iter().filter(|one| list.iter().all(|other| other.ip != one.ip)).copied().collect()
        };
        Addresses {
            new: not_in(&before.addresses, &wanted.addresses),
            gone: not_in(&wanted.addresses, &before.addresses),
        }
    }
}

struct Changing<'a> {
    kernel: Netlink,
    prefix: &'a Prefix,
    pidfd: BorrowedFd<'a>,
    /// With what comes, and with what goes.
    network: &'a Network,
    /// Interfaces on the host that have no end in the container.
    lost: BTreeSet<String>,
}

impl Changing<'_> {
    fn addresses(
        &mut self,
        Addresses { new, gone }: &Addresses,
        before: &Network,
        wanted: &Network,
    ) -> Result<Vec<String>, NetworkError> {
        let Changing { kernel, prefix, pidfd, network, lost } = self;
        let is_other = !new.is_empty() || !gone.is_empty();
        let is_lost = lost.contains(&network.interface);
        if is_lost && is_other {
            routed::take_away(kernel, &Network { addresses: gone.clone(), ..(*network).clone() })?;
        }
        let is_to_be_made = before.addresses.is_empty() || is_lost;
        if is_other && is_to_be_made && !wanted.addresses.is_empty() {
            let network = Network { addresses: wanted.addresses.clone(), ..(*network).clone() };
            routed::make(kernel, prefix, here()?.as_fd(), *pidfd, &network)
        } else if is_lost && !is_other {
            Ok(vec![not_there(routed::INSIDE)])
        } else if is_lost || network.addresses.is_empty() {
            Ok(Vec::new())
        } else {
            let altered = routed::alter(kernel, prefix, *pidfd, network, (new, gone), &wanted.addresses);
            as_warning(altered, is_other, routed::INSIDE)
        }
    }

    fn pairs(&mut self, pairs: &bridged::Changes<'_>) -> Result<Vec<String>, NetworkError> {
        let Changing { kernel, pidfd, network, lost, .. } = self;
        let here = here()?;
        let mut warnings = Vec::new();
        for one in &pairs.gone {
            bridged::remove(kernel, one, &network.alias)?;
        }
        for one in &pairs.new {
            bridged::make(kernel, here.as_fd(), *pidfd, one, &network.alias)?;
        }
        for (old, new) in &pairs.other {
            let (is_other, name) = (old != new, new.wanted.name.as_str());
            if !lost.contains(&new.interface) {
                let altered = bridged::alter(kernel, *pidfd, old, new).map(|()| Vec::new());
                warnings.extend(as_warning(altered, is_other, name)?);
            } else if is_other {
                bridged::remove(kernel, old, &network.alias)?;
                bridged::make(kernel, here.as_fd(), *pidfd, new, &network.alias)?;
            } else {
                warnings.push(not_there(name));
            }
        }
        Ok(warnings)
    }
}

fn not_there(name: &str) -> String {
    format!(
        "{name} is not in the container's network any more, since its root has removed or moved it: `prlctl restart` makes it again, and so does `prlctl set` where it changes anything of it"
    )
}

/// What cannot be said of an interface of which nothing is to change is no reason to refuse what is.
fn as_warning(
    result: Result<Vec<String>, NetworkError>,
    is_other: bool,
    name: &str,
) -> Result<Vec<String>, NetworkError> {
    match result {
        Err(error) if !is_other => {
            let source = std::error::Error::source(&error).map(|source| format!(": {source}"));
            Ok(vec![format!(
                "{name} in the container is left as it is: {error}{}",
                source.unwrap_or_default()
            )])
        }
        other => other,
    }
}
