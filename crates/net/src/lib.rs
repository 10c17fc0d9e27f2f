//! A container's network.
//!
//! Today every container has its loopback interface and nothing else; addresses, routes and filters belong here when they come. The interface is
//! brought up from outside, by a thread that visits the container's network namespace: not every init does it, and none has to.

use std::os::fd::BorrowedFd;

use netlink_packet_core::{NLM_F_ACK, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkFlags, LinkMessage};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};

/// The kernel gives `lo` this index in every new namespace.
const LOOPBACK: u32 = 1;

/// What can go wrong with a network.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what}")]
pub struct NetworkError {
    what: &'static str,
    source: std::io::Error,
}

/// Brings up the loopback interface of the network namespace of the process behind `pidfd`.
///
/// # Errors
/// When the process has ended, or the kernel refuses.
pub fn bring_up_loopback(pidfd: BorrowedFd<'_>) -> Result<(), NetworkError> {
    std::thread::scope(|scope| {
        let visit = scope.spawn(|| {
            move_into_thread_name_spaces(pidfd, ThreadNameSpaceType::NETWORK).map_err(|error| {
                NetworkError { what: "enter the container's network", source: error.into() }
            })?;
            set_up(LOOPBACK)
                .map_err(|source| NetworkError { what: "bring up the loopback interface", source })
        });
        visit.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn set_up(index: u32) -> std::io::Result<()> {
    let mut link = LinkMessage::default();
    link.header.index = index;
    link.header.flags = LinkFlags::Up;
    link.header.change_mask = LinkFlags::Up;
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_ACK;
    let mut request = NetlinkMessage::new(header, NetlinkPayload::from(RouteNetlinkMessage::SetLink(link)));
    request.finalize();
    let mut bytes = vec![0; request.buffer_len()];
    request.serialize(&mut bytes);

    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    socket.send(&bytes, 0)?;
    let (answer, _) = socket.recv_from_full()?;
    let answer =
        NetlinkMessage::<RouteNetlinkMessage>::deserialize(&answer).map_err(std::io::Error::other)?;
    let NetlinkPayload::Error(error) = answer.payload else {
        return Err(std::io::Error::other(format!("unexpected answer {:?}", answer.payload)));
    };
    if error.code.is_none() { Ok(()) } else { Err(error.to_io()) }
}
