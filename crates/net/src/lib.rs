//! A container's network: its loopback, and what is routed to it.
//!
//! ```text
//! netlink        what is said to the kernel
//! life           a container's network as a whole: made, taken away
//! change         what of it becomes other while it runs
//! routed         venet0 in the container, its other end on the host, addresses and routes
//! ends           where the ends of its pairs are, which its root may have moved
//! bridged        eth0 and so on in the container, their other ends on bridges of the host
//! filter         who may send from which address; new connections on probation; private addresses to the outside
//! bridge_filter  the same for what is on bridges, and who may have which MAC address
//! limit          how much may pass in a second
//! nft            what both filters are told by, and asked
//! present        what of a container's network is there now
//! rates          what the filters say of limits
//! listeners      who listens on this host
//! record         what was made of one container, for whoever takes it away
//! ```
//!
//! All of it is made from outside, by a thread that visits the container's network namespace, so that it is there whatever is in the root. What is routed
//! has no bridge and no neighbour: both ends of its pair have one MAC address and speak neither ARP nor neighbour discovery, so there is nothing in them
//! to forge; packets are routed to it and from it, and those that do not come from its own addresses are dropped before anything else is done with them.

mod bridge_filter;
mod bridged;
mod change;
mod ends;
mod filter;
mod life;
mod limit;
mod listeners;
mod netlink;
mod nft;
mod present;
mod rates;
mod record;
mod routed;

use std::os::fd::BorrowedFd;

use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};
use store::{ContainerId, Prefix};

pub use bridged::check_bridge;
pub use change::change;
pub use life::{attach, detach, release, restore};
pub use listeners::listens;
pub use nft::has_filter;
pub use present::{Found, Present, present};
pub use rates::{Held, Rates};
pub use record::{Bridged, Network, Probation};
pub use routed::{Holder, holder_of};

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
    /// An interface cannot be where it is to be.
    #[error("`{network}` {why}")]
    NoBridge {
        /// The bridge.
        network: String,
        /// What it is instead.
        why: &'static str,
    },
    /// `nft` is not there.
    #[error(
        "there is no `nft`, which keeps a container from using addresses that are not its own: run `apt-get install nftables`"
    )]
    NoFilter,
    /// A change has failed, and what there was before could not be given back whole.
    #[error("{because}; and it could not be made as it was again: {left}")]
    InPart {
        /// Why it has failed.
        because: String,
        /// What is not as it was, and why.
        left: String,
    },
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

/// What has gone in and out of a container, by all of its interfaces; `None`: it has none.
///
/// # Errors
/// When the kernel does not say.
pub fn traffic(prefix: &Prefix, id: &ContainerId) -> Result<Option<Traffic>, NetworkError> {
    let Some(network) = Network::load(prefix, id) else { return Ok(None) };
    let ask = || -> std::io::Result<Option<Traffic>> {
        let mut kernel = netlink::Netlink::open()?;
        let mut sum: Option<Traffic> = None;
        let names = network.bridged.iter().map(|one| &one.interface).chain([&network.interface]);
        for name in names {
            let found = kernel.link(name)?.filter(|link| link.alias.as_deref() == Some(&network.alias));
            if let Some(link) = found {
                let sum = sum.get_or_insert_default();
                sum.bytes_in += link.traffic.bytes_in;
                sum.bytes_out += link.traffic.bytes_out;
                sum.packets_in += link.traffic.packets_in;
                sum.packets_out += link.traffic.packets_out;
            }
        }
        Ok(sum)
    };
    ask().map_err(NetworkError::system("ask what has gone through its interfaces"))
}

/// Does something in the network namespace of the process behind `pidfd`.
fn visit<T: Send>(
    pidfd: BorrowedFd<'_>,
    work: impl FnOnce() -> Result<T, NetworkError> + Send,
) -> Result<T, NetworkError> {
    std::thread::scope(|scope| {
        let begun = std::thread::Builder::new().spawn_scoped(scope, || {
            move_into_thread_name_spaces(pidfd, ThreadNameSpaceType::NETWORK)
                .map_err(std::io::Error::from)
                .map_err(NetworkError::system("enter the container's network"))?;
            work()
        });
        let visit = begun.map_err(NetworkError::system("begin a thread for the container's network"))?;
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
