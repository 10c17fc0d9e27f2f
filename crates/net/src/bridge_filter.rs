//! The packet filter for what is on bridges: one table a host of the family `bridge`, likewise with the same rules for one container and for a thousand.
//!
//! `sent` is what comes from a container, before the bridge learns anything of it (but of frames of LLDP and 802.1X, which no table sees: it learns nothing at all of whoever has to
//! keep his MAC address, and is told that, see `Netlink::know`); `received` is what is about to be given to one. There is no connection
//! tracking here (many kernels have none for bridges): whom a container on probation has called is remembered in a set.

use std::net::{IpAddr, Ipv6Addr};

use store::{Mac, Rate};

use crate::nft::{Element, absent, added, gone};
use crate::{Bridged, Network, Probation, limit};

/// See `filter::RULES`.
pub(crate) const RULES: &str = "rules_3";

/// `own_mac` and `own_ip` are what the filters of an interface are, each of which may be turned off. What has a tag of a VLAN is never taken: which one it is
/// in, the host says. Of ARP the sender's addresses are looked at, of neighbour advertisements the target; routers and servers of DHCP are no containers.
const TABLE: &str = "
add table bridge TABLE
add set bridge TABLE RULES { type ifname; }
add set bridge TABLE ours { type ifname; }
add set bridge TABLE of_one_mac { type ifname; }
add set bridge TABLE of_own_ips { type ifname; }
add set bridge TABLE macs { type ifname . ether_addr; }
add set bridge TABLE four { type ifname . ipv4_addr; }
add set bridge TABLE six { type ifname . ipv6_addr; }
add set bridge TABLE targets { typeof iifname . @th,64,128; }
add set bridge TABLE probation { type ifname; }
add set bridge TABLE silent { type ifname; }
add set bridge TABLE called { typeof iifname . ip daddr . meta l4proto . th sport . th dport; size 65536; flags dynamic,timeout; timeout 2m; }
add set bridge TABLE called6 { typeof iifname . ip6 daddr . meta l4proto . th sport . th dport; size 65536; flags dynamic,timeout; timeout 2m; }
add map bridge TABLE rates_out { type ifname : limit; }
add map bridge TABLE rates_in { type ifname : limit; }
add chain bridge TABLE own_mac
add chain bridge TABLE own_ip
add chain bridge TABLE calling
add chain bridge TABLE answered
add chain bridge TABLE sent { type filter hook prerouting priority -300; policy accept; }
add chain bridge TABLE received { type filter hook postrouting priority 0; policy accept; }
flush chain bridge TABLE sent
flush chain bridge TABLE received
flush chain bridge TABLE own_mac
flush chain bridge TABLE own_ip
flush chain bridge TABLE calling
flush chain bridge TABLE answered
flush set bridge TABLE ours
flush set bridge TABLE of_one_mac
flush set bridge TABLE of_own_ips
flush set bridge TABLE macs
flush set bridge TABLE four
flush set bridge TABLE six
flush set bridge TABLE targets
flush set bridge TABLE probation
flush set bridge TABLE silent
flush map bridge TABLE rates_out
flush map bridge TABLE rates_in
add rule bridge TABLE sent iifname != @ours accept
add rule bridge TABLE sent iifname @silent drop
add rule bridge TABLE sent ether type { 8021q, 8021ad } drop
add rule bridge TABLE sent iifname @of_one_mac jump own_mac
add rule bridge TABLE sent iifname @of_own_ips jump own_ip
add rule bridge TABLE sent iifname @probation jump calling
add rule bridge TABLE sent iifname @rate_out drop
add rule bridge TABLE sent limit name iifname map @rates_out drop
add rule bridge TABLE own_mac iifname . ether saddr != @macs drop
add rule bridge TABLE own_mac iifname . arp saddr ether != @macs drop
add rule bridge TABLE own_ip arp plen != 4 drop
add rule bridge TABLE own_ip arp hlen != 6 drop
add rule bridge TABLE own_ip arp operation request arp saddr ip 0.0.0.0 iifname . arp daddr ip @four return
add rule bridge TABLE own_ip iifname . arp saddr ip @four return
add rule bridge TABLE own_ip udp sport { 67, 547 } drop
add rule bridge TABLE own_ip udp dport { 68, 546 } drop
add rule bridge TABLE own_ip iifname . ip saddr @four return
add rule bridge TABLE own_ip ip6 saddr :: icmpv6 type nd-neighbor-solicit iifname . @th,64,128 @targets return
add rule bridge TABLE own_ip ip6 saddr :: icmpv6 type mld2-listener-report return
add rule bridge TABLE own_ip icmpv6 type nd-neighbor-advert iifname . @th,64,128 != @targets drop
add rule bridge TABLE own_ip icmpv6 type { nd-router-advert, nd-redirect } drop
add rule bridge TABLE own_ip iifname . ip6 saddr @six return
add rule bridge TABLE own_ip drop
add rule bridge TABLE calling meta l4proto { tcp, udp } update @called { iifname . ip daddr . meta l4proto . th sport . th dport }
add rule bridge TABLE calling meta l4proto { tcp, udp } update @called6 { iifname . ip6 daddr . meta l4proto . th sport . th dport }
add rule bridge TABLE received oifname != @ours accept
add rule bridge TABLE received oifname @silent drop
add rule bridge TABLE received oifname @of_one_mac ether daddr & 01:00:00:00:00:00 == 00:00:00:00:00:00 oifname . ether daddr != @macs drop
add rule bridge TABLE received oifname @probation jump answered
add rule bridge TABLE received oifname @rate_in drop
add rule bridge TABLE received limit name oifname map @rates_in drop
add rule bridge TABLE answered ether type arp return
add rule bridge TABLE answered ip frag-off & 0x1fff != 0 return
add rule bridge TABLE answered frag frag-off != 0 return
add rule bridge TABLE answered icmp type != echo-request return
add rule bridge TABLE answered icmpv6 type != echo-request return
add rule bridge TABLE answered oifname . ip saddr . meta l4proto . th dport . th sport @called return
add rule bridge TABLE answered oifname . ip6 saddr . meta l4proto . th dport . th sport @called6 return
add rule bridge TABLE answered drop
";

/// The table, made anew where it is not there.
pub(crate) fn table(table: &str) -> String {
    let head = format!("add table bridge {table}\n") + &limit::SETS.replace("FAMILY", "bridge");
    (head + TABLE).replace("TABLE", table).replace("RULES", RULES)
}

/// What is said of a container that has anything on a bridge.
pub(crate) fn addition(network: &Network) -> String {
    let table = format!("bridge {}", network.table);
    let shared = shared_rate(network);
    let mut text = shared.map(|rate| limit::objects(&table, &network.interface, rate)).unwrap_or_default();
    text.extend(added(&table, &elements(network)));
    text
}

/// And what is said of it no more.
pub(crate) fn removal(network: &Network) -> String {
    let table = format!("bridge {}", network.table);
    let shared = shared_rate(network);
    let mut text = shared.map(|rate| limit::objects(&table, &network.interface, rate)).unwrap_or_default();
    for probation in [Some(Probation::Outgoing), Some(Probation::None)] {
        let network = Network { probation, ..network.clone() };
        text.extend(elements(&network).iter().map(|element| absent(&table, &element.key)));
    }
    text.push_str(&shared.map(|_| limit::no_objects(&table, &network.interface)).unwrap_or_default());
    text
}

/// Takes away the objects that limit it, whatever they say: nothing leads to them any more.
pub(crate) fn no_objects(network: &Network) -> String {
    let table = format!("bridge {}", network.table);
    // Of any rate, since one that is there stays as it is, and one that is not cannot be deleted.
    limit::objects(&table, &network.interface, Rate { kilobits: 1 })
        + &limit::no_objects(&table, &network.interface)
}

/// What it is now instead of what it was. Where the objects stay, so does all else that is said of both.
pub(crate) fn difference(old: &Network, new: &Network) -> String {
    let shared = [old, new].map(|network| shared_rate(network).map(|rate| (rate, &network.interface)));
    if shared[0] != shared[1] {
        return removal(old) + &addition(new);
    }
    let table = format!("bridge {}", new.table);
    gone(&table, &elements(old), &elements(new)) + &addition(new)
}

/// How much may pass by its only interface on a bridge.
fn own_rate(network: &Network) -> Option<(&str, Rate)> {
    match &network.bridged[..] {
        [only] => network.rate.map(|rate| (only.interface.as_str(), rate)),
        _ => None,
    }
}

/// And by all that it has on bridges together.
fn shared_rate(network: &Network) -> Option<Rate> {
    network.rate.filter(|_| network.bridged.len() > 1)
}

fn elements(network: &Network) -> Vec<Element> {
    let mut elements: Vec<String> =
        network.bridged.iter().flat_map(|one| of(one, network.probation)).collect();
    if shared_rate(network).is_some() {
        let interfaces = network.bridged.iter().map(|one| one.interface.as_str());
        elements.extend(limit::elements(interfaces, &network.interface));
    }
    let own = own_rate(network).map(|(interface, rate)| limit::own(interface, rate));
    elements.into_iter().map(Element::from).chain(own.into_iter().flatten()).collect()
}

fn of(one: &Bridged, probation: Option<Probation>) -> Vec<String> {
    let Bridged { interface, mac, wanted, .. } = one;
    let mut elements =
        vec![format!("ours {{ \"{interface}\" }}"), format!("macs {{ \"{interface}\" . {} }}", Mac(*mac))];
    let sets = [
        (wanted.mac_filter, "of_one_mac"),
        (wanted.ip_filter, "of_own_ips"),
        (probation == Some(Probation::Outgoing), "probation"),
        (probation == Some(Probation::None), "silent"),
    ];
    elements.extend(sets.iter().filter(|(is, _)| *is).map(|(_, set)| format!("{set} {{ \"{interface}\" }}")));
    let own = wanted.addresses.iter().map(|address| address.ip);
    for ip in own.chain([IpAddr::V6(link_local(*mac))]) {
        match ip {
            IpAddr::V4(ip) => elements.push(format!("four {{ \"{interface}\" . {ip} }}")),
            IpAddr::V6(ip) => {
                elements.push(format!("six {{ \"{interface}\" . {ip} }}"));
                elements.push(format!("targets {{ \"{interface}\" . 0x{:032x} }}", ip.to_bits()));
            }
        }
    }
    elements
}

/// The address of its link that an interface with this MAC address gives itself: RFC 4291, appendix A.
pub(crate) fn link_local([a, b, c, d, e, f]: [u8; 6]) -> Ipv6Addr {
    let word = |high: u8, low: u8| u16::from_be_bytes([high, low]);
    Ipv6Addr::new(0xfe80, 0, 0, 0, word(a ^ 2, b), word(c, 0xff), word(0xfe, d), word(e, f))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_of_a_link_is_made_of_the_mac_address() {
        assert_eq!(link_local([0x02, 0x12, 0x34, 0x56, 0x78, 0x9a]).to_string(), "fe80::12:34ff:fe56:789a");
    }
}
