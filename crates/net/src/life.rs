//! A container's network as a whole: made before its init is executed, changed while it runs, taken away at its end, or after a crash.

use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use store::{Address, ContainerId, Forward, Lock, LockName, Prefix};

use crate::netlink::Netlink;
use crate::{Network, NetworkError, bridged, filter, nft, routed};

/// So long whoever makes another container's network may take.
const PATIENCE: Duration = Duration::from_secs(60);

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
    if network.is_empty() && Network::load(prefix, id).is_none() {
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
    if network.is_empty() {
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
    network.announced = routed::announced(&mut kernel, &network.addresses, &network.alias)?;
    nothing_of_others(&mut kernel, prefix, network)?;
    // Before any of it is made: a death after this leaves nothing that nobody knows of.
    network.store(prefix, id).map_err(NetworkError::system("write down what the network is"))?;
    // Before there is anything that could send.
    filter::admit(prefix, network)?;

    let here = here()?;
    let mut warnings = Vec::new();
    if !network.addresses.is_empty() {
        warnings = routed::make(&mut kernel, prefix, here.as_fd(), pidfd, network)?;
    }
    for one in &network.bridged {
        bridged::make(&mut kernel, here.as_fd(), pidfd, one, &network.alias)?;
    }
    Ok(warnings)
}

/// All of its ends on the host are there.
fn is_whole(kernel: &mut Netlink, network: &Network) -> Result<bool, NetworkError> {
    let routed = (!network.addresses.is_empty()).then_some(&network.interface);
    for name in network.bridged.iter().map(|one| &one.interface).chain(routed) {
        if kernel.link(name).map_err(NetworkError::system("find the interface"))?.is_none() {
            return Ok(false);
        }
    }
    Ok(true)
}

fn here() -> Result<OwnedFd, NetworkError> {
    let file = File::open("/proc/thread-self/ns/net");
    Ok(file.map_err(NetworkError::system("open the host's network"))?.into())
}

/// What two containers have at once is refused: by the filter, with all that is said in the same breath, or by nobody, which is worse.
fn nothing_of_others(kernel: &mut Netlink, prefix: &Prefix, network: &Network) -> Result<(), NetworkError> {
    bridged::check(kernel, network)?;
    for other in Network::all(prefix).into_iter().filter(|other| other.alias != network.alias) {
        let holder = || other.alias.strip_prefix("reroot ").unwrap_or(&other.alias).to_owned();
        let taken =
            network.forwards.iter().find(|own| other.forwards.iter().any(|one| one.is_of_the_port_of(own)));
        if let Some(Forward { transport, port, .. }) = taken {
            return Err(NetworkError::PortInUse { transport: *transport, port: *port, holder: holder() });
        }
        let of_both = |ip: IpAddr| network.shares(ip, &other).then_some(ip);
        if let Some(ip) = other.every_ip().find_map(of_both) {
            let holder = format!("container {}'s already", holder());
            return Err(NetworkError::InUse { ip, holder });
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
    if wanted.is_empty() {
        return detach_with(lock, prefix, id).map(|()| Vec::new());
    }
    let mut kernel = Netlink::open().map_err(NetworkError::system("speak to the kernel about networks"))?;
    // Its root has removed its end, and with it ours.
    if !is_whole(&mut kernel, &network)? {
        return attach_with(lock, prefix, id, pidfd, wanted);
    }
    nothing_of_others(&mut kernel, prefix, &wanted)?;
    let before = network.clone();
    let here = here()?;
    let pairs = bridged::Changes::between(&before.bridged, &wanted.bridged);
    let is_in = |list: &[Address], address: &Address| list.iter().any(|one| one.ip == address.ip);
    let new: Vec<Address> =
        wanted.addresses.iter().filter(|address| !is_in(&network.addresses, address)).copied().collect();
    let gone: Vec<Address> =
        network.addresses.iter().filter(|address| !is_in(&wanted.addresses, address)).copied().collect();
    network.announced.extend(routed::announced(&mut kernel, &new, &network.alias)?);
    network.addresses.extend(&new);
    // Those that go are in it until they are gone.
    network.bridged = wanted.bridged.iter().chain(pairs.gone.iter().copied()).cloned().collect();
    network.store(prefix, id).map_err(NetworkError::system("write down what the network is"))?;
    filter::exchange(prefix, &before, &network)?;

    let mut warnings = Vec::new();
    if before.addresses.is_empty() && !new.is_empty() {
        warnings = routed::make(&mut kernel, prefix, here.as_fd(), pidfd, &network)?;
    } else if !network.addresses.is_empty() {
        warnings = routed::alter(&mut kernel, prefix, pidfd, &network, (&new, &gone), &wanted.addresses)?;
    }
    for one in &pairs.gone {
        bridged::remove(&mut kernel, one, &network.alias)?;
    }
    for one in &pairs.new {
        bridged::make(&mut kernel, here.as_fd(), pidfd, one, &network.alias)?;
    }
    for (old, new) in &pairs.other {
        bridged::alter(&mut kernel, pidfd, old, new)?;
    }
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
    for one in &network.bridged {
        bridged::remove(&mut kernel, one, &network.alias)?;
    }
    routed::remove(&mut kernel, 0, &network)?;
    if nft::has_filter() {
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
