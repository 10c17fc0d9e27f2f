//! The packet filter: one table a host, whose rules are the same for one container and for a thousand; what differs is in sets, where a look costs the
//! same whatever their size.

use store::{Address, Forward, Prefix, Rate};

use crate::nft::{Element, absent, added, gone, tell};
use crate::record::Forwarding;
use crate::{Network, NetworkError, Probation, bridge_filter, limit};

/// The set that tells that the table is there, and has these rules: another number where they are others.
const RULES: &str = "rules_6";

/// The table, made anew where it is not there: of an earlier version, or since somebody has flushed all there was, as a reload of Debian's own
/// `nftables.conf` does. In one transaction with what is put into it: nothing passes in between.
///
/// `sent` comes before anything else is done with a packet. `counted` is about connections that the kernel remembers for all of the host: one container
/// that begins them without end would leave no room for others'. Not about packets of one that nobody has answered yet.
const TABLE: &str = "
add table inet TABLE
add set inet TABLE RULES { type ifname; }
add set inet TABLE ours { type ifname; }
add set inet TABLE four { type ifname . ipv4_addr; }
add set inet TABLE six { type ifname . ipv6_addr; }
add set inet TABLE probation { type ifname; }
add set inet TABLE silent { type ifname; }
add set inet TABLE private { type ipv4_addr; }
add set inet TABLE private6 { type ipv6_addr; }
add set inet TABLE closed { type ifname . ifname; }
add map inet TABLE forwards { type inet_proto . inet_service : ipv4_addr . inet_service; }
add map inet TABLE forwards6 { type inet_proto . inet_service : ipv6_addr . inet_service; }
add set inet TABLE beginning { type ifname; flags dynamic,timeout; timeout 1m; }
add chain inet TABLE sent { type filter hook prerouting priority -300; policy accept; }
add chain inet TABLE counted { type filter hook prerouting priority -150; policy accept; }
add chain inet TABLE limited { type filter hook prerouting priority -250; policy accept; }
add chain inet TABLE forwarded { type filter hook forward priority 0; policy accept; }
add chain inet TABLE received { type filter hook postrouting priority 0; policy accept; }
add chain inet TABLE forwarded_to { type nat hook prerouting priority -100; policy accept; }
add chain inet TABLE forwarded_here { type nat hook output priority -100; policy accept; }
add chain inet TABLE translated { type nat hook postrouting priority 100; policy accept; }
flush set inet TABLE ours
flush set inet TABLE four
flush set inet TABLE six
flush set inet TABLE probation
flush set inet TABLE silent
flush set inet TABLE private
flush set inet TABLE private6
flush set inet TABLE closed
flush map inet TABLE forwards
flush map inet TABLE forwards6
flush chain inet TABLE sent
flush chain inet TABLE counted
flush chain inet TABLE limited
flush chain inet TABLE forwarded
flush chain inet TABLE received
flush chain inet TABLE forwarded_to
flush chain inet TABLE forwarded_here
flush chain inet TABLE translated
add rule inet TABLE sent iifname @silent drop
add rule inet TABLE sent iifname . ip saddr @four accept
add rule inet TABLE sent iifname . ip6 saddr @six accept
add rule inet TABLE sent iifname @ours drop
add rule inet TABLE counted iifname @ours ct state new ct status & confirmed == 0 update @beginning { iifname limit rate over 1000/second burst 10000 packets } drop
add rule inet TABLE limited iifname @rate_out drop
add rule inet TABLE received oifname @silent drop
add rule inet TABLE received oifname @probation ct state new drop
add rule inet TABLE received oifname @rate_in drop
add rule inet TABLE forwarded_to fib daddr type local dnat ip to meta l4proto . th dport map @forwards
add rule inet TABLE forwarded_to fib daddr type local dnat ip6 to meta l4proto . th dport map @forwards6
add rule inet TABLE forwarded_here ip daddr != 127.0.0.0/8 fib daddr type local dnat ip to meta l4proto . th dport map @forwards
add rule inet TABLE forwarded_here ip6 daddr != ::1 fib daddr type local dnat ip6 to meta l4proto . th dport map @forwards6
add rule inet TABLE translated ip saddr @private oifname != @ours masquerade
add rule inet TABLE translated ip6 saddr @private6 oifname != @ours masquerade
";

/// What the filter is to be told: of the table of what is routed, and of that of what is on bridges, where there is anything on one.
#[derive(Debug, Default)]
pub(crate) struct Change {
    routed: String,
    bridged: String,
}

impl Change {
    fn and(mut self, other: Change) -> Change {
        self.routed.push_str(&other.routed);
        self.bridged.push_str(&other.bridged);
        self
    }
}

/// Lets the container send from its addresses, and from no others.
pub(crate) fn admit(prefix: &Prefix, network: &Network) -> Result<(), NetworkError> {
    put(prefix, &network.table, &addition(network))
}

/// Instead of what was said of it as it was, what it is now, in one transaction: at no moment may it send what it likes. What is said of both stays where
/// it is: whoever deletes anything waits until no processor looks at it any more, which is most of the time that an address takes.
///
/// Where nobody knows what was said of it, all is said again, of every container.
pub(crate) fn exchange(prefix: &Prefix, old: &Network, new: &Network) -> Result<(), NetworkError> {
    let change = difference(old, new);
    if old.changing { tell(&whole(prefix, &new.table, &change)) } else { put(prefix, &new.table, &change) }
}

fn difference(old: &Network, new: &Network) -> Change {
    let table = format!("inet {}", new.table);
    let after = elements(new);
    let mut routed = gone(&table, &elements(old), &after);
    routed.extend(added(&table, &after));
    Change { routed, bridged: bridge_filter::difference(old, new) }
}

/// Takes away what was said of it. That something of it is not there is no error.
pub(crate) fn forget(prefix: &Prefix, network: &Network) -> Result<(), NetworkError> {
    let change = removal(network);
    if network.changing {
        return tell(&whole(prefix, &network.table, &change));
    }
    put(prefix, &network.table, &change)
}

/// Says all of it again, of every container: what somebody has flushed. The caller has the lock.
pub(crate) fn restore(prefix: &Prefix) -> Result<(), NetworkError> {
    if Network::all(prefix).is_empty() && Forwarding::load(prefix).families().next().is_none() {
        return Ok(());
    }
    tell(&whole(prefix, &Network::table_of(prefix), &Change::default()))
}

/// The tables as they are, or made anew with all containers in them.
fn put(prefix: &Prefix, table: &str, change: &Change) -> Result<(), NetworkError> {
    let Change { routed, bridged } = change;
    // Refused where it is not there.
    let mut same = format!("flush set inet {table} {RULES}\n{routed}");
    if !bridged.is_empty() {
        same.push_str(&format!("flush set bridge {table} {}\n{bridged}", bridge_filter::RULES));
    }
    match tell(&same) {
        Err(NetworkError::Filter { .. }) => tell(&whole(prefix, table, change)),
        other => other,
    }
}

fn whole(prefix: &Prefix, table: &str, change: &Change) -> String {
    // The sets before the rules that are about them: a table that is there has them already.
    let head = format!("add table inet {table}\n") + &limit::SETS.replace("FAMILY", "inet");
    let mut text = (head + TABLE).replace("TABLE", table).replace("RULES", RULES);
    let forwarding = Forwarding::load(prefix);
    for family in forwarding.families() {
        text.push_str(&format!(
            "add rule inet {table} forwarded meta nfproto {family} iifname . oifname @closed drop\n"
        ));
    }
    for (from, to) in forwarding.closed() {
        text.push_str(&format!("add element inet {table} closed {{ \"{from}\" . \"{to}\" }}\n"));
    }
    let mut all = Change::default();
    for network in Network::all(prefix) {
        if network.changing && !network.bridged.is_empty() {
            // What flushing sets does not take along.
            all.bridged.push_str(&bridge_filter::no_objects(&network));
        }
        all = all.and(addition(&network));
    }
    text.push_str(&all.routed);
    text.push_str(&change.routed);
    // A kernel without a filter for bridges does for whoever has nothing on one.
    if !all.bridged.is_empty() || !change.bridged.is_empty() {
        text.push_str(&bridge_filter::table(table));
        text.push_str(&all.bridged);
        text.push_str(&change.bridged);
    }
    text
}

fn addition(network: &Network) -> Change {
    let routed = added(&format!("inet {}", network.table), &elements(network)).collect();
    Change { routed, bridged: bridge_filter::addition(network) }
}

fn removal(network: &Network) -> Change {
    let table = format!("inet {}", network.table);
    let probations = [Some(Probation::Outgoing), Some(Probation::None)];
    let all = probations.map(|probation| elements(&Network { probation, ..network.clone() })).concat();
    // The last is what the kernel has put there itself.
    let keys = all.into_iter().map(|element| element.key);
    let keys = keys.chain([format!("beginning {{ \"{}\" }}", network.interface)]);
    let routed = keys.map(|key| absent(&table, &key)).collect();
    Change { routed, bridged: bridge_filter::removal(network) }
}

/// How much of what is routed may pass.
fn rate_of(network: &Network) -> Option<Rate> {
    network.rate.filter(|_| !network.addresses.is_empty())
}

/// Its probation is over.
pub(crate) fn release(prefix: &Prefix, network: &Network) -> Result<(), NetworkError> {
    let sets = |family: &str, interface: &str| {
        let table = format!("{family} {}", network.table);
        ["probation", "silent"].map(|set| absent(&table, &format!("{set} {{ \"{interface}\" }}"))).concat()
    };
    let change = Change {
        routed: sets("inet", &network.interface),
        bridged: network.bridged.iter().map(|one| sets("bridge", &one.interface)).collect(),
    };
    put(prefix, &network.table, &change)
}

/// What it has in sets: how it is put there, and what it is found by.
fn elements(network: &Network) -> Vec<Element> {
    let interface = &network.interface;
    // Also what is on a bridge: nothing of it is taken by the host where somebody has taken it off.
    let all = [interface].into_iter().chain(network.bridged.iter().map(|one| &one.interface));
    let mut elements: Vec<String> = all.map(|interface| format!("ours {{ \"{interface}\" }}")).collect();
    match network.probation {
        Some(Probation::Outgoing) => elements.push(format!("probation {{ \"{interface}\" }}")),
        Some(Probation::None) => elements.push(format!("silent {{ \"{interface}\" }}")),
        Some(Probation::Full) | None => {}
    }
    for Address { ip, .. } in &network.addresses {
        let set = if ip.is_ipv4() { "four" } else { "six" };
        elements.push(format!("{set} {{ \"{interface}\" . {ip} }}"));
    }
    for (is_four, map) in [(true, "forwards"), (false, "forwards6")] {
        // The first address of a family is what it speaks from.
        let Some(Address { ip, .. }) = network.addresses.iter().find(|one| one.ip.is_ipv4() == is_four)
        else {
            continue;
        };
        for Forward { transport, port, to } in &network.forwards {
            elements.push(format!("{map} {{ {transport} . {port} : {ip} . {to} }}"));
        }
    }
    for ip in network.translated() {
        let set = if ip.is_ipv4() { "private" } else { "private6" };
        elements.push(format!("{set} {{ {ip} }}"));
    }
    let mut all: Vec<Element> = elements.into_iter().map(Element::from).collect();
    all.extend(rate_of(network).map(|rate| limit::own(&network.interface, rate)).into_iter().flatten());
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A container with a routed address, a forward, a rate, and two interfaces on bridges.
    const BEFORE: &str = r#"{"format":1,"table":"reroot_0123abcd","interface":"vz0","alias":"reroot x","mac":[2,0,0,0,0,1],"addresses":[{"ip":"192.0.2.50","prefix":32}],"forwards":[{"transport":"tcp","port":8080,"to":80}],"bridged":[{"interface":"vz1","mac":[2,0,0,0,0,2],"host_mac":[254,0,0,0,0,2],"wanted":{"name":"eth0","network":"br0","addresses":[],"mac_filter":true,"ip_filter":true,"dhcp":false}},{"interface":"vz2","mac":[2,0,0,0,0,3],"host_mac":[254,0,0,0,0,3],"wanted":{"name":"eth1","network":"br0","addresses":[],"mac_filter":true,"ip_filter":true,"dhcp":false}}],"rate":{"kilobits":1000},"probation":null,"announced":[]}"#;

    fn deleted(change: &str) -> Vec<&str> {
        change.lines().filter(|line| line.starts_with("delete")).collect()
    }

    #[test]
    fn who_gets_something_loses_nothing_meanwhile() {
        let before: Network = serde_json::from_str(BEFORE).unwrap();
        let mut after = before.clone();
        after.addresses.push("192.0.2.51".parse().unwrap());
        after.bridged[1].wanted.addresses.push("198.51.100.7".parse().unwrap());
        let Change { routed, bridged } = difference(&before, &after);
        assert!(
            routed.contains("add element inet reroot_0123abcd four { \"vz0\" . 192.0.2.51 }\n"),
            "{routed}"
        );
        assert!(bridged.contains("add element bridge reroot_0123abcd four { \"vz2\" . 198.51.100.7 }\n"));
        assert_eq!(deleted(&routed), Vec::<&str>::new());
        assert_eq!(deleted(&bridged), Vec::<&str>::new());

        let Change { routed, bridged } = difference(&after, &before);
        assert_eq!(
            deleted(&routed),
            ["delete element inet reroot_0123abcd four { \"vz0\" . 192.0.2.51 }"],
            "and what goes is all that goes"
        );
        assert_eq!(
            deleted(&bridged),
            ["delete element bridge reroot_0123abcd four { \"vz2\" . 198.51.100.7 }"]
        );
    }

    #[test]
    fn what_is_said_otherwise_is_said_anew() {
        let before: Network = serde_json::from_str(BEFORE).unwrap();
        let mut after = before.clone();
        after.rate = Some(Rate { kilobits: 2000 });
        after.forwards[0].to = 81;
        let Change { routed, bridged } = difference(&before, &after);
        let was = [
            "delete element inet reroot_0123abcd forwards { tcp . 8080 : 192.0.2.50 . 80 }",
            "delete element inet reroot_0123abcd rate_out { \"vz0\" }",
            "delete element inet reroot_0123abcd rate_in { \"vz0\" }",
        ];
        assert_eq!(deleted(&routed), was);
        let is = routed.rfind("rate_out { \"vz0\" limit rate over 250000 bytes/second").unwrap();
        assert!(is > routed.find(was[1]).unwrap(), "first it goes");
        assert!(deleted(&bridged).contains(&"delete limit bridge reroot_0123abcd vz0_out"), "{bridged}");
        assert!(bridged.rfind("add limit").unwrap() > bridged.rfind("delete limit").unwrap());

        after.rate = None;
        let Change { routed, .. } = difference(&before, &after);
        assert!(!routed.contains("limit"), "{routed}");
    }
}
