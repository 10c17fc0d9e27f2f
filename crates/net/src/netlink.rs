//! What is said to the kernel about interfaces, addresses, routes and neighbours, one request and its answer at a time.

mod addresses;
mod names;
mod routers;

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage,
    NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage, AddressScope};
use netlink_packet_route::link::{
    AfSpecBridge, BridgeVlanInfo, BridgeVlanInfoFlags, InfoBridge, InfoBridgePort, InfoData, InfoKind,
    InfoPortData, InfoPortKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use rustix::io::Errno;

use crate::Traffic;

/// Who has made our routes and neighbours: a number of our own, as rtnetlink(7) leaves them to whoever wants one.
const OURS: u8 = 118;

/// An interface.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Link {
    pub index: u32,
    pub name: String,
    pub alias: Option<String>,
    /// Of a pair: the index of its other end, in whatever namespace that is.
    pub peer: Option<u32>,
    pub mtu: u32,
    /// Of Ethernet.
    pub mac: Option<[u8; 6]>,
    /// It is a bridge.
    pub bridge: Option<Bridge>,
    /// The bridge that it is on.
    pub master: Option<u32>,
    pub traffic: Traffic,
}

/// What is particular to a bridge.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bridge {
    /// It tells VLANs apart.
    pub is_filtering: bool,
    /// The VLAN that whatever joins it is in, where nothing else is said; 0: none.
    pub usual_vlan: u16,
}

/// One end of a pair that is to be.
#[derive(Debug, Clone, Copy)]
pub struct End<'a> {
    pub name: &'a str,
    pub mac: [u8; 6],
}

/// Where the kernel would send a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Nowhere.
    None,
    /// To this host itself.
    Here,
    /// To all who are in a network that this host is in.
    Everybody,
    /// Out of this interface to whoever has the address.
    Link(u32),
    /// By another router.
    Router,
}

pub struct Netlink {
    socket: Socket,
}

fn family(ip: IpAddr) -> AddressFamily {
    if ip.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

fn route_address(ip: IpAddr) -> RouteAddress {
    match ip {
        IpAddr::V4(ip) => RouteAddress::Inet(ip),
        IpAddr::V6(ip) => RouteAddress::Inet6(ip),
    }
}

fn is(error: &io::Error, errno: Errno) -> bool {
    error.raw_os_error() == Some(errno.raw_os_error())
}

/// That it is so already, or is gone already, is no error.
fn unless(result: io::Result<()>, errnos: &[Errno]) -> io::Result<()> {
    match result {
        Err(error) if errnos.iter().any(|&errno| is(&error, errno)) => Ok(()),
        other => other,
    }
}

fn bridge(infos: &[LinkInfo]) -> Bridge {
    let mut bridge = Bridge::default();
    let of_bridges = infos
        .iter()
        .map(|info| if let LinkInfo::Data(InfoData::Bridge(all)) = info { &all[..] } else { &[] });
    for info in of_bridges.flatten() {
        if let InfoBridge::VlanFiltering(is) = info {
            bridge.is_filtering = *is;
        } else if let InfoBridge::VlanDefaultPvid(vlan) = info {
            bridge.usual_vlan = *vlan;
        }
    }
    bridge
}

impl Netlink {
    /// Of the network namespace of the calling thread.
    pub fn open() -> io::Result<Netlink> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Netlink { socket })
    }

    /// Asks, and returns the answer; none where it was only acknowledged.
    fn send(&self, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        let mut request = NetlinkMessage::new(header, NetlinkPayload::from(message));
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        self.socket.send(&bytes, 0).map(drop)
    }

    fn ask(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<Option<RouteNetlinkMessage>> {
        self.send(message, flags)?;
        let (mut answer, _) = self.socket.recv_from_full()?;
        names::make_readable(&mut answer);
        let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&answer).map_err(io::Error::other)?;
        match answer.payload {
            NetlinkPayload::Error(error) if error.code.is_none() => Ok(None),
            NetlinkPayload::Error(error) => Err(error.to_io()),
            NetlinkPayload::InnerMessage(message) => Ok(Some(message)),
            NetlinkPayload::Done(_) | NetlinkPayload::Noop | NetlinkPayload::Overrun(_) => Ok(None),
            _ => Err(io::Error::other("an answer of an unknown kind")),
        }
    }

    fn tell(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        self.ask(message, NLM_F_ACK | flags).map(drop)
    }

    /// An interface by its name; `None`: there is none.
    pub fn link(&mut self, name: &str) -> io::Result<Option<Link>> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.to_owned()));
        self.find(message)
    }

    /// An interface by its index.
    pub fn link_of(&mut self, index: u32) -> io::Result<Option<Link>> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        self.find(message)
    }

    fn find(&mut self, message: LinkMessage) -> io::Result<Option<Link>> {
        match self.ask(RouteNetlinkMessage::GetLink(message), 0) {
            Ok(Some(RouteNetlinkMessage::NewLink(found))) => {
                let mut link = Link { index: found.header.index, ..Link::default() };
                for attribute in found.attributes {
                    if let LinkAttribute::IfName(name) = attribute {
                        link.name = name;
                    } else if let LinkAttribute::IfAlias(alias) = attribute {
                        link.alias = Some(alias);
                    } else if let LinkAttribute::Link(index) = attribute {
                        link.peer = Some(index);
                    } else if let LinkAttribute::Mtu(mtu) = attribute {
                        link.mtu = mtu;
                    } else if let LinkAttribute::Address(mac) = &attribute {
                        link.mac = mac[..].try_into().ok();
                    } else if let LinkAttribute::Controller(index) = attribute {
                        link.master = Some(index);
                    } else if let LinkAttribute::LinkInfo(infos) = &attribute
                        && infos.contains(&LinkInfo::Kind(InfoKind::Bridge))
                    {
                        link.bridge = Some(bridge(infos));
                    } else if let LinkAttribute::Stats64(counts) = attribute {
                        // What comes in here has gone out of the container, and the other way round.
                        link.traffic = Traffic {
                            bytes_in: counts.tx_bytes,
                            bytes_out: counts.rx_bytes,
                            packets_in: counts.tx_packets,
                            packets_out: counts.rx_packets,
                        };
                    }
                }
                Ok(Some(link))
            }
            Ok(_) => Ok(None),
            Err(error) if is(&error, Errno::NODEV) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A pair of interfaces: one here, the other in the namespace behind `there`; packets of `mtu` bytes, or as many as is usual.
    pub fn add_pair(
        &mut self,
        here: End<'_>,
        other: End<'_>,
        there: BorrowedFd<'_>,
        mtu: Option<u32>,
    ) -> io::Result<()> {
        let attributes = |end: End<'_>| {
            let mut all =
                vec![LinkAttribute::IfName(end.name.to_owned()), LinkAttribute::Address(end.mac.to_vec())];
            all.extend(mtu.map(LinkAttribute::Mtu));
            all
        };
        let mut peer = LinkMessage::default();
        peer.attributes = attributes(other);
        peer.attributes.push(LinkAttribute::NetNsFd(there.as_raw_fd()));
        let mut message = LinkMessage::default();
        message.attributes = attributes(here);
        message.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
        ]));
        self.tell(RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL)
    }

    /// Puts an interface on a bridge; 0: on none. What is on one cannot take the bridge's part in a spanning tree. With `learns`, the bridge knows by what comes from there
    /// who is there; else only what [`Netlink::know`] tells: it learns from some frames (LLDP's, 802.1X's) before any filter sees them.
    pub fn join(&mut self, index: u32, bridge: u32, learns: bool) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.attributes.push(LinkAttribute::Controller(bridge));
        self.tell(RouteNetlinkMessage::SetLink(message), 0)?;
        if bridge == 0 {
            return Ok(());
        }
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::PortKind(InfoPortKind::Bridge),
            LinkInfo::PortData(InfoPortData::BridgePort(vec![
                InfoBridgePort::Guard(true),
                InfoBridgePort::Learning(learns),
            ])),
        ]));
        self.tell(RouteNetlinkMessage::NewLink(message), 0)
    }

    /// This MAC address is at this end of a bridge, and nowhere else.
    pub fn know(&mut self, index: u32, mac: [u8; 6]) -> io::Result<()> {
        let message = RouteNetlinkMessage::NewNeighbour(Netlink::known(index, mac));
        self.tell(message, NLM_F_CREATE | NLM_F_REPLACE)
    }

    /// It is not any more.
    pub fn forget(&mut self, index: u32, mac: [u8; 6]) -> io::Result<()> {
        let message = RouteNetlinkMessage::DelNeighbour(Netlink::known(index, mac));
        unless(self.tell(message, 0), &[Errno::NOENT, Errno::NODEV])
    }

    fn known(index: u32, mac: [u8; 6]) -> NeighbourMessage {
        let mut message = NeighbourMessage::default();
        message.header.family = AddressFamily::Bridge;
        message.header.ifindex = index;
        message.header.state = NeighbourState::Noarp;
        message.header.flags = NeighbourFlags::Controller | NeighbourFlags::Sticky;
        message.attributes = vec![NeighbourAttribute::LinkLayerAddress(mac.to_vec())];
        message
    }

    /// What is on a bridge is in this VLAN and not in the one that all are in there, and is told nothing of it.
    pub fn set_vlan(&mut self, index: u32, vlan: u16, usual: u16) -> io::Result<()> {
        let message = |flags, vid| {
            let mut message = LinkMessage::default();
            message.header.interface_family = AddressFamily::Bridge;
            message.header.index = index;
            message.attributes.push(LinkAttribute::AfSpecBridge(vec![AfSpecBridge::VlanInfo(
                BridgeVlanInfo { flags, vid },
            )]));
            message
        };
        let own = BridgeVlanInfoFlags::Pvid | BridgeVlanInfoFlags::Untagged;
        self.tell(RouteNetlinkMessage::SetLink(message(own, vlan)), 0)?;
        if vlan == usual || usual == 0 {
            return Ok(());
        }
        let usual = RouteNetlinkMessage::DelLink(message(BridgeVlanInfoFlags::empty(), usual));
        unless(self.tell(usual, 0), &[Errno::NOENT])
    }

    /// Removes an interface, and its peer; that it is gone is no error.
    pub fn remove_link(&mut self, index: u32) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        unless(self.tell(RouteNetlinkMessage::DelLink(message), 0), &[Errno::NODEV])
    }

    pub fn set_alias(&mut self, index: u32, alias: &str) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.attributes.push(LinkAttribute::IfAlias(alias.to_owned()));
        self.tell(RouteNetlinkMessage::SetLink(message), 0)
    }

    pub fn set_up(&mut self, index: u32) -> io::Result<()> {
        self.set_flags(index, LinkFlags::Up)
    }

    pub fn set_down(&mut self, index: u32) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.header.change_mask = LinkFlags::Up;
        self.tell(RouteNetlinkMessage::SetLink(message), 0)
    }

    /// Up, and without ARP and neighbour discovery.
    pub fn set_up_without_neighbours(&mut self, index: u32) -> io::Result<()> {
        // First the one, then the other: what is up looks for neighbours.
        self.set_flags(index, LinkFlags::Noarp)?;
        self.set_flags(index, LinkFlags::Up)
    }

    fn set_flags(&mut self, index: u32, flags: LinkFlags) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.header.flags = flags;
        message.header.change_mask = flags;
        self.tell(RouteNetlinkMessage::SetLink(message), 0)
    }

    fn address(index: u32, ip: IpAddr, prefix: u8) -> AddressMessage {
        let mut message = AddressMessage::default();
        message.header.family = family(ip);
        message.header.prefix_len = prefix;
        message.header.index = index;
        message.header.scope = AddressScope::Universe;
        // There is nobody who could have it too.
        message.header.flags =
            if ip.is_ipv6() { AddressHeaderFlags::Nodad } else { AddressHeaderFlags::empty() };
        message.attributes = vec![AddressAttribute::Local(ip), AddressAttribute::Address(ip)];
        message
    }

    pub fn add_address(&mut self, index: u32, ip: IpAddr, prefix: u8) -> io::Result<()> {
        let message = RouteNetlinkMessage::NewAddress(Netlink::address(index, ip, prefix));
        // Whose root has turned IPv6 off has no address of it.
        unless(self.tell(message, NLM_F_CREATE | NLM_F_EXCL), &[Errno::EXIST, Errno::ACCESS])
    }

    pub fn remove_address(&mut self, index: u32, ip: IpAddr, prefix: u8) -> io::Result<()> {
        let message = RouteNetlinkMessage::DelAddress(Netlink::address(index, ip, prefix));
        unless(self.tell(message, 0), &[Errno::ADDRNOTAVAIL])
    }

    /// To an address alone, or, with `None`, to all of a family.
    fn route(index: u32, family: AddressFamily, to: Option<IpAddr>, source: Option<IpAddr>) -> RouteMessage {
        let mut message = RouteMessage::default();
        message.header.address_family = family;
        message.header.destination_prefix_length = to.map_or(0, store::Address::longest);
        message.header.table = RouteHeader::RT_TABLE_MAIN;
        message.header.protocol = RouteProtocol::from(OURS);
        message.header.scope =
            if family == AddressFamily::Inet { RouteScope::Link } else { RouteScope::Universe };
        message.header.kind = RouteType::Unicast;
        message.attributes.extend(to.map(|ip| RouteAttribute::Destination(route_address(ip))));
        message.attributes.extend(source.map(|ip| RouteAttribute::PrefSource(route_address(ip))));
        message.attributes.push(RouteAttribute::Oif(index));
        message
    }

    pub fn add_route(&mut self, index: u32, ip: IpAddr) -> io::Result<()> {
        let message = RouteNetlinkMessage::NewRoute(Netlink::route(index, family(ip), Some(ip), None));
        unless(self.tell(message, NLM_F_CREATE | NLM_F_EXCL), &[Errno::EXIST])
    }

    pub fn remove_route(&mut self, index: u32, ip: IpAddr) -> io::Result<()> {
        let message = RouteNetlinkMessage::DelRoute(Netlink::route(index, family(ip), Some(ip), None));
        unless(self.tell(message, 0), &[Errno::SRCH])
    }

    /// All of the family of `source` goes out of the interface, from `source`.
    pub fn set_default_route(&mut self, index: u32, source: IpAddr) -> io::Result<()> {
        let message =
            RouteNetlinkMessage::NewRoute(Netlink::route(index, family(source), None, Some(source)));
        // As with the address.
        unless(self.tell(message, NLM_F_CREATE | NLM_F_REPLACE), &[Errno::ACCESS])
    }

    /// All of the family of `gateway` that goes elsewhere goes by it, wherever its address lies.
    pub fn set_gateway(&mut self, index: u32, gateway: IpAddr) -> io::Result<()> {
        let message = RouteNetlinkMessage::NewRoute(Netlink::by(index, gateway));
        unless(self.tell(message, NLM_F_CREATE | NLM_F_REPLACE), &[Errno::ACCESS])
    }

    /// And no more; that it is gone is no error.
    pub fn remove_gateway(&mut self, index: u32, gateway: IpAddr) -> io::Result<()> {
        let message = RouteNetlinkMessage::DelRoute(Netlink::by(index, gateway));
        unless(self.tell(message, 0), &[Errno::SRCH])
    }

    fn by(index: u32, gateway: IpAddr) -> RouteMessage {
        let mut message = Netlink::route(index, family(gateway), None, None);
        message.header.scope = RouteScope::Universe;
        message.header.flags = RouteFlags::Onlink;
        message.attributes.push(RouteAttribute::Gateway(route_address(gateway)));
        message
    }

    /// The route of a packet to this address.
    fn route_to(&mut self, ip: IpAddr, flags: RouteFlags) -> io::Result<Option<RouteMessage>> {
        let mut message = RouteMessage::default();
        message.header.address_family = family(ip);
        message.header.destination_prefix_length = store::Address::longest(ip);
        message.header.flags = flags;
        message.attributes.push(RouteAttribute::Destination(route_address(ip)));
        match self.ask(RouteNetlinkMessage::GetRoute(message), 0) {
            Ok(Some(RouteNetlinkMessage::NewRoute(found))) => Ok(Some(found)),
            Ok(_) => Ok(None),
            Err(error)
                if [Errno::NETUNREACH, Errno::HOSTUNREACH, Errno::ACCESS, Errno::INVAL]
                    .iter()
                    .any(|&errno| is(&error, errno)) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Where the kernel would send a packet to this address.
    pub fn way_to(&mut self, ip: IpAddr) -> io::Result<Way> {
        let Some(found) = self.route_to(ip, RouteFlags::empty())? else { return Ok(Way::None) };
        if found.header.kind == RouteType::Local {
            return Ok(Way::Here);
        }
        if found.header.kind == RouteType::Broadcast {
            return Ok(Way::Everybody);
        }
        let mut way = Way::None;
        for attribute in &found.attributes {
            if let RouteAttribute::Oif(index) = attribute
                && way != Way::Router
            {
                way = Way::Link(*index);
            } else if let RouteAttribute::Gateway(_) | RouteAttribute::Via(_) = attribute {
                way = Way::Router;
            }
        }
        Ok(if found.header.kind == RouteType::Unicast { way } else { Way::None })
    }

    fn answer(index: u32, ip: IpAddr) -> NeighbourMessage {
        let mut message = NeighbourMessage::default();
        message.header.family = family(ip);
        message.header.ifindex = index;
        message.header.flags = NeighbourFlags::Proxy;
        let address = match ip {
            IpAddr::V4(ip) => NeighbourAddress::Inet(ip),
            IpAddr::V6(ip) => NeighbourAddress::Inet6(ip),
        };
        message.attributes = vec![
            NeighbourAttribute::Destination(address),
            NeighbourAttribute::Protocol(RouteProtocol::from(OURS)),
        ];
        message
    }

    /// The host answers for the address where it is asked for on the interface.
    pub fn answer_for(&mut self, index: u32, ip: IpAddr) -> io::Result<()> {
        let message = RouteNetlinkMessage::NewNeighbour(Netlink::answer(index, ip));
        unless(self.tell(message, NLM_F_CREATE | NLM_F_REPLACE), &[Errno::EXIST])
    }

    /// And no more.
    pub fn answer_no_more(&mut self, index: u32, ip: IpAddr) -> io::Result<()> {
        let message = RouteNetlinkMessage::DelNeighbour(Netlink::answer(index, ip));
        unless(self.tell(message, 0), &[Errno::NOENT, Errno::NODEV])
    }
}
