//! A container's network: its loopback, and what is routed to it.
//!
//! ```text
//! netlink     what is said to the kernel
//! routed      venet0 in the container, its other end on the host, addresses and routes
//! filter      who may send from which address; new connections on probation; private addresses to the outside
//! listeners   who listens on this host
//! record      what was made of one container, for whoever takes it away
//! ```
//!
//! All of it is made from outside, by a thread that visits the container's network namespace, so that it is there whatever is in the root. A container
//! has no bridge and no neighbour: both ends of its pair have one MAC address and speak neither ARP nor neighbour discovery, so there is nothing in them
//! to forge; packets are routed to it and from it, and those that do not come from its own addresses are dropped before anything else is done with them.

mod filter;
mod listeners;
mod netlink;
mod record;
mod routed;

use std::os::fd::BorrowedFd;

use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};
use store::{ContainerId, Prefix};

pub use filter::has_filter;
pub use listeners::listens;
pub use record::{Network, Probation};
pub use routed::{Holder, attach, change, detach, holder_of, release, restore};

/// The kernel gives `lo` this index in every new namespace.
const LOOPBACK: u32 = 1;

/// What can go wrong with a network.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The system said no.
    #[error("cannot {what}")]
    System {
        /// What was tried.
        what: String,
        /// What it said.
        source: std::io::Error,
    },
    /// The address is somebody else's.
    #[error("{ip} is {holder}")]
    InUse {
        /// Which one.
        ip: std::net::IpAddr,
        /// Whose.
        holder: String,
    },
    /// The port of the host leads to another container.
    #[error("{transport} port {port} of this host leads to container {holder} already")]
    PortInUse {
        /// Which kind.
        transport: store::Transport,
        /// Which one.
        port: u16,
        /// Its UUID.
        holder: String,
    },
    /// `nft` is not there.
    #[error(
        "there is no `nft`, which keeps a container from using addresses that are not its own: run `apt-get install nftables`"
    )]
    NoFilter,
    /// It does not do what it is asked to.
    #[error("the packet filter refuses: {said}")]
    Filter {
        /// What it said.
        said: String,
    },
}

impl NetworkError {
    fn system(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> NetworkError {
        let what = what.into();
        move |source| NetworkError::System { what, source }
    }
}

/// What has gone in and out of a container since its interface was made, which is its last start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Traffic {
    /// What it has received.
    pub bytes_in: u64,
    /// What it has sent.
    pub bytes_out: u64,
    /// Packets that it has received.
    pub packets_in: u64,
    /// Packets that it has sent.
    pub packets_out: u64,
}

/// What has gone in and out of a container; `None`: it has no address.
///
/// # Errors
/// When the kernel does not say.
pub fn traffic(prefix: &Prefix, id: &ContainerId) -> Result<Option<Traffic>, NetworkError> {
    let Some(network) = Network::load(prefix, id) else { return Ok(None) };
    let found = netlink::Netlink::open().and_then(|mut kernel| kernel.link(&network.interface));
    let link =
        found.map_err(NetworkError::system(format!("ask what has gone through {}", network.interface)))?;
    Ok(link.filter(|link| link.alias.as_deref() == Some(&network.alias)).map(|link| link.traffic))
}

/// Does something in the network namespace of the process behind `pidfd`.
fn visit<T: Send>(
    pidfd: BorrowedFd<'_>,
    work: impl FnOnce() -> Result<T, NetworkError> + Send,
) -> Result<T, NetworkError> {
    std::thread::scope(|scope| {
        let visit = scope.spawn(|| {
            move_into_thread_name_spaces(pidfd, ThreadNameSpaceType::NETWORK)
                .map_err(std::io::Error::from)
                .map_err(NetworkError::system("enter the container's network"))?;
            work()
        });
        visit.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Brings up the loopback interface of the network namespace of the process behind `pidfd`.
///
/// # Errors
/// When the process has ended, or the kernel refuses.
pub fn bring_up_loopback(pidfd: BorrowedFd<'_>) -> Result<(), NetworkError> {
    visit(pidfd, || {
        netlink::Netlink::open()
            .and_then(|mut kernel| kernel.set_up(LOOPBACK))
            .map_err(NetworkError::system("bring up the loopback interface"))
    })
}
