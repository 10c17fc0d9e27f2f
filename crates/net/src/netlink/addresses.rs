//! The addresses of one interface, read back: an answer of many messages.

use std::io;

use netlink_packet_core::{NLM_F_DUMP, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use store::Address;

use super::{Netlink, names};

impl Netlink {
    /// Those of an interface, the first `most` of them; and whether there are more. Nothing else is to be asked by it afterwards: where there are, the rest of
    /// the answer is left unread.
    ///
    /// # Errors
    /// When the kernel does not say, or says what cannot be understood.
    pub fn addresses(self, index: u32, most: usize) -> io::Result<(Vec<Address>, bool)> {
        // Else it tells those of all interfaces, of which a container may have thousands.
        self.socket.set_netlink_get_strict_chk(true)?;
        let mut message = AddressMessage::default();
        message.header.index = index;
        self.send(RouteNetlinkMessage::GetAddress(message), NLM_F_DUMP)?;
        let mut found = Vec::new();
        loop {
            let (mut answer, _) = self.socket.recv_from_full()?;
            names::make_readable(&mut answer);
            let mut rest = &answer[..];
            while !rest.is_empty() {
                let one =
                    NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest).map_err(io::Error::other)?;
                // Each begins at a multiple of four, netlink(7).
                let length = (one.header.length as usize).next_multiple_of(4).max(4);
                rest = rest.get(length..).unwrap_or_default();
                if let NetlinkPayload::Done(_) = one.payload {
                    return Ok((found, false));
                } else if let NetlinkPayload::Error(error) = &one.payload
                    && error.code.is_some()
                {
                    return Err(error.to_io());
                } else if let NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewAddress(one)) = one.payload
                    && one.header.index == index
                {
                    if found.len() == most {
                        return Ok((found, true));
                    }
                    found.extend(address_of(&one));
                }
            }
        }
    }
}

/// Its own: of IPv4 the local one, since the other is who is at the other end.
fn address_of(message: &AddressMessage) -> Option<Address> {
    let local = message
        .attributes
        .iter()
        .find_map(|attribute| if let AddressAttribute::Local(ip) = attribute { Some(*ip) } else { None });
    let ip = local.or_else(|| {
        message.attributes.iter().find_map(|attribute| {
            if let AddressAttribute::Address(ip) = attribute { Some(*ip) } else { None }
        })
    })?;
    // The kernel gives every interface one of its own making.
    let is_link_local = matches!(ip, std::net::IpAddr::V6(ip) if ip.is_unicast_link_local());
    (!is_link_local).then_some(Address { ip, prefix: message.header.prefix_len })
}
