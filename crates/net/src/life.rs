//! A container's network as a whole: made before its init is executed, taken away at its end, or after a crash.

use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use store::{ContainerId, Forward, Lock, LockName, Prefix};

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

pub(crate) fn attach_with(
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
pub(crate) fn alone(prefix: &Prefix) -> Result<Lock, NetworkError> {
    Lock::exclusive(prefix, LockName::Network, PATIENCE, "what makes a container's network").map_err(
        |error| NetworkError::System {
            what: "make networks alone".to_owned(),
            source: io::Error::other(error),
        },
    )
}

/// Says to the filter what it has to know of all containers, and of this host: somebody may have flushed it. And puts back on their bridges what is off them.
///
/// # Errors
/// [`NetworkError`].
pub fn restore(prefix: &Prefix) -> Result<(), NetworkError> {
    let _lock = alone(prefix)?;
    filter::restore(prefix)?;
    // With its filter: a bridge that was taken down and made again has none of its containers.
    let mut kernel = Netlink::open().map_err(NetworkError::system("speak to the kernel about networks"))?;
    let mut result = Ok(());
    for network in Network::all(prefix) {
        for one in &network.bridged {
            result = result.and(bridged::rejoin(&mut kernel, one, &network.alias));
        }
    }
    result
}

fn try_attach(
    prefix: &Prefix,
    id: &ContainerId,
    pidfd: BorrowedFd<'_>,
    network: &mut Network,
) -> Result<Vec<String>, NetworkError> {
    let mut kernel = Netlink::open().map_err(NetworkError::system("speak to the kernel about networks"))?;
    network.announced = routed::announced(&mut kernel, &network.addresses, &network.alias)?;
    bridged::check(&mut kernel, &network.alias, &network.bridged)?;
    nothing_of_others(prefix, network)?;
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

pub(crate) fn here() -> Result<OwnedFd, NetworkError> {
    let file = File::open("/proc/thread-self/ns/net");
    Ok(file.map_err(NetworkError::system("open the host's network"))?.into())
}

/// What two containers have at once is refused: by the filter, with all that is said in the same breath, or by nobody, which is worse.
pub(crate) fn nothing_of_others(prefix: &Prefix, network: &Network) -> Result<(), NetworkError> {
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

pub(crate) fn detach_with(_lock: &Lock, prefix: &Prefix, id: &ContainerId) -> Result<(), NetworkError> {
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
