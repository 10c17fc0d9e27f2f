//! Addresses of a network that the host is in which are no single machine's to have: its router's, and the first, by which the whole network is called.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteFlags};

use super::{Netlink, route_address};

/// Networks for measurements, RFC 2544 and RFC 5180: whoever has no route of its own to them sends there what he sends to all the world.
const FAR: (Ipv4Addr, Ipv6Addr) = (Ipv4Addr::new(198, 18, 0, 1), Ipv6Addr::new(0x2001, 2, 0, 0, 0, 0, 0, 1));

impl Netlink {
    /// Whether it is the router that this host sends to what is far away. One question to the kernel, however many routes there are.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn is_router(&mut self, ip: IpAddr) -> io::Result<bool> {
        let far = if ip.is_ipv4() { IpAddr::V4(FAR.0) } else { IpAddr::V6(FAR.1) };
        let Some(found) = self.route_to(far, RouteFlags::empty())? else { return Ok(false) };
        let router = route_address(ip);
        Ok(found.attributes.iter().any(|one| matches!(one, RouteAttribute::Gateway(is) if *is == router)))
    }

    /// Whether it is the first address of a network that the host is in: to older kernels a broadcast, to newer ones and in IPv6 what any router answers to.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn is_first(&mut self, ip: IpAddr) -> io::Result<bool> {
        let Some(found) = self.route_to(ip, RouteFlags::FibMatch)? else { return Ok(false) };
        let is_this = |address: &RouteAddress| *address == route_address(ip);
        // Networks of two have no such address, and routes of one are somebody's.
        Ok(found.header.destination_prefix_length + 2 <= store::Address::longest(ip)
            && found
                .attributes
                .iter()
                .any(|one| matches!(one, RouteAttribute::Destination(is) if is_this(is)))
            && !found
                .attributes
                .iter()
                .any(|one| matches!(one, RouteAttribute::Gateway(_) | RouteAttribute::Via(_))))
    }
}
