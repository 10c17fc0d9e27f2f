//! A container's network while it runs: what of it is to be other than it was, and nothing else. What is as it was may be gone by now, since its root does
//! what it likes with its own ends, and so does whoever owns the bridges; that is said, and keeps nothing from being changed.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd};

use store::{Address, ContainerId, Lock, Prefix};

use crate::life::{alone, attach_with, detach_with, here, nothing_of_others};
use crate::netlink::Netlink;
use crate::{Bridged, Network, NetworkError, bridged, ends, filter, routed};

/// Another network for a container that runs. New addresses come before old ones go.
///
/// # Errors
/// [`NetworkError`], with what it had before given back; where not all of it can be, [`NetworkError::InPart`].
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
    let result = try_change(&lock, prefix, id, pidfd, before.clone(), wanted, Towards::Wanted);
    result.map_err(|error| {
        // What was made by then is written down as its own, and goes as one that it has no more.
        let half = Network::load(prefix, id).unwrap_or_else(|| before.clone());
        if half == before && !before.changing {
            // It had not begun.
            return error;
        }
        match try_change(&lock, prefix, id, pidfd, half, before, Towards::Before) {
            Ok(left) if left.is_empty() => error,
            Ok(left) => NetworkError::InPart { because: said(&error), left: left.join("; ") },
            Err(left) => NetworkError::InPart { because: said(&error), left: said(&left) },
        }
    })
}

/// Where a change leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Towards {
    /// To what somebody wants; what is lost of the rest is not of his making, and is only said.
    Wanted,
    /// Back: what is lost may have been taken away on the way there, and is made again, whatever else cannot be.
    Before,
}

fn try_change(
    lock: &Lock,
    prefix: &Prefix,
    id: &ContainerId,
    pidfd: BorrowedFd<'_>,
    mut network: Network,
    wanted: Network,
    towards: Towards,
) -> Result<Vec<String>, NetworkError> {
    if wanted.is_empty() {
        return detach_with(lock, prefix, id).map(|()| Vec::new());
    }
    let mut kernel = Netlink::open().map_err(NetworkError::system("speak to the kernel about networks"))?;
    let before = network.clone();
    let pairs = bridged::Changes::between(&before.bridged, &wanted.bridged);
    let touched = pairs.other.iter().filter(|(old, new)| old != new).map(|(_, new)| *new);
    let repairs = towards == Towards::Before;
    // Whoever died while he changed it may have been anywhere: nothing of it is as it is written down. On the way back it is known how far it went.
    let anew = before.changing && !repairs;
    let mut lost = ends::lost(&mut kernel, pidfd, &before)?;
    if anew {
        lost.insert(before.interface.clone());
        lost.extend(before.bridged.iter().map(|one| one.interface.clone()));
    }
    let mut later = BTreeSet::new();
    if !repairs {
        bridged::check(&mut kernel, &wanted.alias, pairs.new.iter().copied().chain(touched))?;
        nothing_of_others(prefix, &wanted)?;
        // Before anything goes: its root may have an interface of that name.
        let made_again = pairs.other.iter().filter(|(old, new)| old != new && lost.contains(&new.interface));
        let made: Vec<_> = pairs.new.iter().copied().chain(made_again.map(|(_, new)| *new)).collect();
        let going =
            pairs.gone.iter().copied().chain(pairs.other.iter().map(|(old, _)| *old).filter(|_| anew));
        let going: Vec<_> = going.collect();
        later = ends::held_by_what_goes(&mut kernel, pidfd, &made, &going, &before.alias)?;
    }
    let addresses = Addresses::between(&before, &wanted);
    network.announced.extend(routed::announced(&mut kernel, &addresses.new, &network.alias)?);
    network.addresses.extend(&addresses.new);
    // Those that go are in it until they are gone.
    network.bridged = wanted.bridged.iter().chain(pairs.gone.iter().copied()).cloned().collect();
    // Where nothing is to be other nothing is written: what is there is looked after, and a full /run keeps nobody from setting anything else.
    let changes = network != before || !wanted.is_same(&before);
    if changes {
        // Before the kernel hears of anything: of a death after this, the next who looks knows.
        network.changing = true;
        network.store(prefix, id).map_err(NetworkError::system("write down what the network is"))?;
    }
    filter::exchange(prefix, &before, &network)?;

    let mut change = Changing { kernel, prefix, pidfd, network: &network, lost, later, repairs, anew };
    let mut warnings = change.addresses(&addresses, &before, &wanted)?;
    warnings.extend(change.pairs(&pairs)?);
    // All that was said of it, since its first address is where its ports lead to. That it was is known here.
    network.changing = false;
    let between = network.clone();
    network.forwards = wanted.forwards;
    network.addresses = wanted.addresses;
    network.bridged.clone_from(&wanted.bridged);
    network.rate = wanted.rate;
    network.announced.retain(|(ip, _)| network.addresses.iter().any(|address| address.ip == *ip));
    if network != between {
        filter::exchange(prefix, &between, &network)?;
    }
    if changes {
        network.store(prefix, id).map_err(NetworkError::system("write down what the network is"))?;
    }
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
    /// Names inside that are free once what goes is gone.
    later: BTreeSet<String>,
    /// It goes back: what is lost is made again, and what cannot be keeps nothing else from that.
    repairs: bool,
    /// All of it is made again.
    anew: bool,
}

impl Changing<'_> {
    fn addresses(
        &mut self,
        Addresses { new, gone }: &Addresses,
        before: &Network,
        wanted: &Network,
    ) -> Result<Vec<String>, NetworkError> {
        let Changing { kernel, prefix, pidfd, network, lost, repairs, anew, .. } = self;
        let is_other = !new.is_empty() || !gone.is_empty();
        let is_lost = lost.contains(&network.interface);
        let changes = is_other || *repairs || *anew;
        // Of what is wanted back, the way there may have taken any.
        let new = if *repairs { &wanted.addresses } else { new };
        let mut alter = || {
            if is_lost && changes {
                let gone = Network { addresses: gone.clone(), ..(*network).clone() };
                routed::take_away(kernel, &gone)?;
            }
            let is_to_be_made = before.addresses.is_empty() || is_lost;
            if changes && is_to_be_made && !wanted.addresses.is_empty() {
                let network = Network { addresses: wanted.addresses.clone(), ..(*network).clone() };
                routed::make(kernel, prefix, here()?.as_fd(), *pidfd, &network)
            } else if is_lost && !changes {
                Ok(vec![not_there(routed::INSIDE)])
            } else if is_lost || network.addresses.is_empty() {
                Ok(Vec::new())
            } else {
                routed::alter(kernel, prefix, *pidfd, network, (new, gone), &wanted.addresses)
            }
        };
        as_warning(alter(), is_other && !*repairs, routed::INSIDE)
    }

    fn pairs(&mut self, pairs: &bridged::Changes<'_>) -> Result<Vec<String>, NetworkError> {
        let Changing { kernel, pidfd, network, lost, later, repairs, anew, .. } = self;
        let here = here()?;
        let mut warnings = Vec::new();
        let mut done = |result: Result<(), NetworkError>, is_other: bool, one: &Bridged| {
            let result =
                as_warning(result.map(|()| Vec::new()), is_other && !*repairs, one.wanted.name.as_str());
            result.map(|told| warnings.extend(told))
        };
        // What comes is there before anything goes, where both can be at once.
        let is_in_its_way =
            |new: &Bridged, gone: &Bridged| gone.interface == new.interface || gone.mac == new.mac;
        let (first, then): (Vec<&Bridged>, Vec<&Bridged>) = pairs.new.iter().partition(|new| {
            !later.contains(new.wanted.name.as_str())
                && !pairs.gone.iter().any(|gone| is_in_its_way(new, gone))
        });
        for one in first {
            done(bridged::make(kernel, here.as_fd(), *pidfd, one, &network.alias), true, one)?;
        }
        for one in &pairs.gone {
            done(bridged::remove(kernel, one, &network.alias), true, one)?;
        }
        for one in then {
            done(bridged::make(kernel, here.as_fd(), *pidfd, one, &network.alias), true, one)?;
        }
        let mut astray = Vec::new();
        for (old, new) in &pairs.other {
            let is_other = old != new;
            // What goes may have had its name on the host.
            let is_lost = lost.contains(&new.interface)
                || pairs.gone.iter().any(|gone| gone.interface == new.interface);
            if !is_lost {
                done(bridged::alter(kernel, *pidfd, old, new), is_other, new)?;
            } else if is_other || *repairs || *anew {
                // Nothing of it goes for one that cannot be made.
                let can_be = if is_other { Ok(()) } else { bridged::check(kernel, &network.alias, [*new]) };
                let made = can_be
                    .and_then(|()| bridged::remove(kernel, old, &network.alias))
                    .and_then(|()| bridged::make(kernel, here.as_fd(), *pidfd, new, &network.alias));
                done(made, is_other, new)?;
            } else {
                astray.push(not_there(new.wanted.name.as_str()));
            }
        }
        warnings.extend(astray);
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
            Ok(vec![format!("{name} in the container is left as it is: {}", said(&error))])
        }
        other => other,
    }
}

/// In one line, with what the system said.
fn said(error: &NetworkError) -> String {
    let source = std::error::Error::source(error).map(|source| format!(": {source}"));
    format!("{error}{}", source.unwrap_or_default())
}
