//! Interfaces on bridges: a container's own MAC and IP addresses and nobody else's, there with it and gone with it.

use std::path::{Path, PathBuf};

use testkit::RealHost;

const PROGRAM: &str = env!("CARGO_BIN_EXE_prlctl");
const MAC: &str = "02:00:00:00:00:50";

/// A busybox that runs, with an interface there that has these addresses.
fn on_bridge(host: &RealHost, name: &str, mac: &str, four: &str, six: &str) {
    let netif = format!("eth0,{mac}");
    host.ok(["create", name, "--ostemplate", "busybox", "--netif_add", &netif]);
    host.ok([
        "set",
        name,
        "--ifname",
        "eth0",
        "--network",
        "br0",
        "--ipadd",
        four,
        "--ipadd",
        six,
        "--gw",
        "192.0.2.9",
        "--gw6",
        "2001:db8:1::9",
    ]);
    host.ok(["start", name]);
}

fn web01(host: &RealHost) {
    on_bridge(host, "web01", MAC, "192.0.2.50/24", "2001:db8:1::50/64");
}

fn web02(host: &RealHost) {
    on_bridge(host, "web02", "02:00:00:00:00:60", "192.0.2.60/24", "2001:db8:1::60/64");
}

/// What there is on the host of any container.
fn left(host: &RealHost) -> String {
    let wire = host.wire();
    let look = "ip -o link | grep -e ' vz' -e veth101 -e 'alias reroot'; nft list ruleset | tr '\\n' ' ' | grep -o 'elements = {[^}]*}' | grep -v br0; \
                nft list ruleset | grep 'limit vz'; :";
    wire.ok(&wire.host(), ["sh", "-c", look])
}

fn id_of(host: &RealHost, container: &str) -> String {
    host.area(container).file_name().expect("it has a name").to_string_lossy().into_owned()
}

fn state(host: &RealHost, container: &str) -> serde_json::Value {
    let path = host.path(&format!("run/vz/{}/state.json", id_of(host, container)));
    serde_json::from_str(&std::fs::read_to_string(path).expect("it runs")).expect("a document")
}

/// The network that the container is in, for what it would send if it could.
fn inside(host: &RealHost, container: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{}/ns/net", state(host, container)["init"]["pid"]))
}

#[test]
fn root_containers_on_a_bridge_see_each_other_and_the_outside() {
    let Some(host) = RealHost::on_bridge(PROGRAM) else { return };
    web01(&host);
    web02(&host);
    let wire = host.wire();
    let works = |when: &str| {
        for ip in ["192.0.2.60", "192.0.2.1", "192.0.2.9", "2001:db8:1::60", "2001:db8:1::1", "2001:db8:1::9"]
        {
            assert!(host.calls("web01", ip), "{ip} does not answer {when}\n{}", left(&host));
        }
        for ip in ["192.0.2.50", "2001:db8:1::50"] {
            assert!(wire.reaches(ip) && host.calls("web02", ip), "{ip} is not reached {when}");
        }
    };
    works("at first");
    // The way out, and who it is.
    let said = host.exec("web01", "ip route; ip -6 route; ip link show eth0");
    for wanted in ["default via 192.0.2.9 dev eth0", "default via 2001:db8:1::9 dev eth0", MAC] {
        assert!(said.contains(wanted), "{wanted}: {said}");
    }
    assert!(host.ok(["list", "-o", "name,ip"]).contains("192.0.2.50 2001:db8:1::50"));
    // It cannot take the bridge's part in a spanning tree, and the bridge is still what it was.
    let ports =
        wire.ok(&wire.host(), ["sh", "-c", "ip -d -o link show master br0 | grep ' vz'; ip link show br0"]);
    assert_eq!(ports.matches("guard on").count(), 2, "{ports}");
    assert!(ports.contains("mtu 1400") && !ports.contains("mtu 1500"), "{ports}");
    // TCP, both families.
    host.exec("web02", "mkdir -p /srv; echo it is web02 > /srv/said; httpd -p 80 -h /srv");
    for ip in ["192.0.2.60", "2001:db8:1::60"] {
        let line = format!("printf 'GET /said HTTP/1.0\\r\\n\\r\\n' | nc -w 3 {ip} 80");
        assert!(host.exec("web01", &line).contains("it is web02"), "{ip}");
    }
    host.ok(["reinstall", "web01"]);
    works("after a reinstall");
    host.ok(["restart", "web01"]);
    works("after a restart");
    let conf = std::fs::read_to_string(host.area("web01").join("ve.conf")).expect("it can be read");
    let wanted = format!(
        "NETIF=\"ifname=eth0,mac={MAC},type=bridge,network=br0,ip=192.0.2.50/24:[2001:db8:1::50]/64,gw=192.0.2.9,gw6=2001:db8:1::9\""
    );
    assert!(conf.contains(&wanted), "{conf}");
    for name in ["web01", "web02"] {
        host.ok(["stop", name]);
    }
    assert_eq!(left(&host), "");
}

#[test]
fn root_a_bridge_in_the_words_of_legacy_openvz_is_one() {
    let Some(host) = RealHost::on_bridge(PROGRAM) else { return };
    host.ok(["create", "web01", "--ostemplate", "busybox"]);
    let path = host.area("web01").join("ve.conf");
    let read = || std::fs::read_to_string(&path).expect("it can be read");
    let line = format!("NETIF=\"ifname=eth0,bridge=br0,mac={MAC},ip=192.0.2.50/24\"");
    testkit::old_area::write(&path, format!("{}{line}\n", read()).as_bytes());
    host.ok(["start", "web01"]);
    assert!(host.calls("web01", "192.0.2.1") && host.wire().reaches("192.0.2.50"), "{}", left(&host));
    assert!(read().contains(&line), "{}", read());
    // Of what else is changed it is no part.
    host.ok(["set", "web01", "--ifname", "eth0", "--ipadd", "192.0.2.51/24"]);
    assert!(read().contains(",bridge=br0\"") && !read().contains("network="), "{}", read());
    host.ok(["set", "web01", "--ifname", "eth0", "--bridge", "br0"]);
    assert!(read().contains(",network=br0,") && !read().contains("bridge=br0"), "{}", read());
    assert!(host.calls("web01", "192.0.2.1"), "{}", left(&host));
}

#[test]
fn root_interfaces_come_and_go_and_change_while_it_runs() {
    let Some(host) = RealHost::on_bridge(PROGRAM) else { return };
    let wire = host.wire();
    host.ok(["create", "web01", "--ostemplate", "busybox", "--ipadd", "198.51.100.50"]);
    host.ok(["start", "web01"]);
    host.ok([
        "set",
        "web01",
        "--netif_add",
        "eth0",
        "--ifname",
        "eth0",
        "--network",
        "br0",
        "--ipadd",
        "192.0.2.50/24",
    ]);
    assert!(wire.reaches("192.0.2.50") && host.calls("web01", "192.0.2.9"));
    host.ok([
        "set",
        "web01",
        "--ifname",
        "eth0",
        "--ipadd",
        "2001:db8:1::51/64",
        "--ipadd",
        "192.0.2.51/24",
        "--ipdel",
        "192.0.2.50",
    ]);
    assert!(wire.reaches("192.0.2.51") && wire.reaches("2001:db8:1::51") && !wire.reaches("192.0.2.50"));
    // A second one, off any bridge, and with names of its own; then on one.
    host.ok([
        "set",
        "web01",
        "--netif_add",
        "eth1",
        "--ifname",
        "eth1",
        "--host_ifname",
        "veth101.1",
        "--host_mac",
        "fe:00:00:00:00:01",
        "--mac",
        "02:00:00:00:00:51",
        "--ipadd",
        "203.0.113.5/24",
    ]);
    let link = wire.ok(&wire.host(), ["ip", "link", "show", "veth101.1"]);
    assert!(link.contains("fe:00:00:00:00:01") && !link.contains("master"), "{link}");
    host.ok(["set", "web01", "--ifname", "eth1", "--network", "br0", "--gw", "203.0.113.1"]);
    assert!(wire.ok(&wire.host(), ["ip", "link", "show", "veth101.1"]).contains("master br0"));
    assert!(host.exec("web01", "ip route").contains("default via 203.0.113.1 dev eth1"));
    host.ok(["set", "web01", "--ifname", "eth1", "--network", "", "--gw", ""]);
    assert!(!wire.ok(&wire.host(), ["ip", "link", "show", "veth101.1"]).contains("master"));
    assert!(
        host.exec("web01", "ip route").contains("default dev venet0"),
        "what is routed is its way out again"
    );
    // It goes alone.
    host.ok(["set", "web01", "--netif_del", "eth1"]);
    assert!(wire.run(&wire.host(), ["ip", "link", "show", "veth101.1"]).code != 0);
    assert!(wire.reaches("192.0.2.51"));
    // Its root does what it likes with its own end; it is made again.
    host.exec("web01", "ip link del eth0");
    assert!(!wire.reaches("192.0.2.51"));
    host.ok(["set", "web01", "--ifname", "eth0", "--ipadd", "192.0.2.52/24"]);
    assert!(wire.reaches("192.0.2.51") && wire.reaches("192.0.2.52"));
    host.ok(["set", "web01", "--netif_del", "all", "--ipdel", "all"]);
    assert_eq!(left(&host), "");
    host.ok([
        "set",
        "web01",
        "--netif_add",
        "eth0",
        "--ifname",
        "eth0",
        "--network",
        "br0",
        "--ipadd",
        "192.0.2.50/24",
    ]);
    assert!(wire.reaches("192.0.2.50"));
}

/// A frame, and what on the other side tells that it has come through.
struct Forged {
    what: &'static str,
    frame: Vec<u8>,
    seen: &'static str,
}

const OWN: [u8; 6] = [2, 0, 0, 0, 0, 0x50];
const OTHER: [u8; 6] = [2, 0, 0, 0, 0, 0x60];
const ALL: [u8; 6] = [0xff; 6];
const OWN_FOUR: [u8; 4] = [192, 0, 2, 50];
const OTHER_FOUR: [u8; 4] = [192, 0, 2, 60];

fn ethernet(from: [u8; 6], kind: u16, payload: &[u8]) -> Vec<u8> {
    [&ALL[..], &from, &kind.to_be_bytes(), payload].concat()
}

fn arp(operation: u8, mac: [u8; 6], ip: [u8; 4], target: [u8; 4]) -> Vec<u8> {
    [&[0, 1, 8, 0, 6, 4, 0, operation][..], &mac, &ip, &[0; 6], &target].concat()
}

/// With its checksum: a kernel that has bridges ask the filter of IP, too, drops what has none before that filter sees it.
fn udp(from: [u8; 4], source: u16) -> Vec<u8> {
    udp_to(from, source, 9)
}

fn udp_to(from: [u8; 4], source: u16, to: u16) -> Vec<u8> {
    let head = |sum: u16| -> Vec<u8> {
        let sum = sum.to_be_bytes();
        [&[0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17][..], &sum, &from, &[255; 4]].concat()
    };
    let words = head(0);
    let sum: u32 = words.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    [&head(sum)[..], &source.to_be_bytes(), &to.to_be_bytes(), &[0, 8, 0, 0]].concat()
}

fn six(last: u8) -> [u8; 16] {
    [0x20, 1, 0xd, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]
}

fn ip6(from: [u8; 16], next: u8, payload: &[u8]) -> Vec<u8> {
    let all_nodes = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    [&[0x60, 0, 0, 0, 0, payload.len() as u8, next, 255][..], &from, &all_nodes, payload].concat()
}

fn neighbour(kind: u8, target: [u8; 16]) -> Vec<u8> {
    [&[kind, 0, 0, 0, 0x20, 0, 0, 0][..], &target].concat()
}

fn forged() -> Vec<Forged> {
    let own_six = six(0x50);
    let router = [&[0xfe, 0x80][..], &[0; 13], &[1]].concat().try_into().expect("16 bytes");
    let one = |what, seen, frame| Forged { what, frame, seen };
    vec![
        one(
            "another's MAC address",
            "ether saddr 02:00:00:00:00:60",
            ethernet(OTHER, 0x800, &udp(OWN_FOUR, 7)),
        ),
        one(
            "ARP with another's MAC address in it",
            "arp saddr ether 02:00:00:00:00:60",
            ethernet(OWN, 0x806, &arp(2, OTHER, OWN_FOUR, OWN_FOUR)),
        ),
        one("another's IPv4 address", "ip saddr 192.0.2.60", ethernet(OWN, 0x800, &udp(OTHER_FOUR, 7))),
        one(
            "ARP: another's address is mine",
            "arp saddr ip 192.0.2.60",
            ethernet(OWN, 0x806, &arp(2, OWN, OTHER_FOUR, OTHER_FOUR)),
        ),
        one(
            "ARP: whether another's address is free",
            "arp daddr ip 192.0.2.60",
            ethernet(OWN, 0x806, &arp(1, OWN, [0; 4], OTHER_FOUR)),
        ),
        one("a server of DHCP", "udp sport 67", ethernet(OWN, 0x800, &udp(OWN_FOUR, 67))),
        one(
            "a server of DHCP at another port",
            "udp dport 68",
            ethernet(OWN, 0x800, &udp_to(OWN_FOUR, 7, 68)),
        ),
        one(
            "another's IPv6 address",
            "ip6 saddr 2001:db8:1::60",
            ethernet(OWN, 0x86dd, &ip6(six(0x60), 17, &[0, 7, 0, 9, 0, 8, 0, 0])),
        ),
        one(
            "another's IPv6 address is mine",
            "icmpv6 type nd-neighbor-advert",
            ethernet(OWN, 0x86dd, &ip6(own_six, 58, &neighbour(136, six(0x60)))),
        ),
        one(
            "whether another's IPv6 address is free",
            "icmpv6 type nd-neighbor-solicit ip6 daddr ff02::1",
            ethernet(OWN, 0x86dd, &ip6([0; 16], 58, &neighbour(135, six(0x60)))),
        ),
        one(
            "a router",
            "icmpv6 type nd-router-advert",
            ethernet(OWN, 0x86dd, &ip6(own_six, 58, &[134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0])),
        ),
        one(
            "a router's address of the link",
            "ip6 saddr fe80::1",
            ethernet(OWN, 0x86dd, &ip6(router, 17, &[0, 7, 0, 9, 0, 8, 0, 0])),
        ),
        one(
            "a tag of a VLAN",
            "ether type 8021q",
            ethernet(OWN, 0x8100, &[&[0, 5, 8, 0][..], &udp(OWN_FOUR, 7)].concat()),
        ),
        one("what is neither IP nor ARP", "ether type 0x88cc", ethernet(OWN, 0x88cc, &[0; 46])),
    ]
}

/// Counts from now on what comes in by `eth0` of a network, kind by kind as nft says them; [`seen`] tells of which there was any.
fn watch(host: &RealHost, network: &std::path::Path, kinds: &[&str]) {
    let rules: String =
        kinds.iter().map(|kind| format!("add rule netdev seen one {kind} counter\n")).collect();
    let all = format!(
        "add table netdev seen\ndelete table netdev seen\nadd table netdev seen\nadd chain netdev seen one {{ type filter hook ingress device \"eth0\" priority 0; }}\n{rules}"
    );
    host.wire().ok(network, ["sh", "-c", &format!("printf '%s' '{all}' | nft -f -")]);
}

fn seen(host: &RealHost, network: &std::path::Path) -> Vec<bool> {
    let text = host.wire().ok(network, ["nft", "list", "table", "netdev", "seen"]);
    let counters = text.lines().filter(|line| line.contains("counter packets"));
    counters.map(|line| !line.contains("counter packets 0 ")).collect()
}

/// Sends frames from the container's end, and one more that is its own; whether the first have been seen outside when that one is.
fn come_through(host: &RealHost, all: &[Forged]) -> Vec<bool> {
    let outside = host.wire().outside();
    let kinds: Vec<&str> = all.iter().map(|one| one.seen).chain(["udp sport 1234"]).collect();
    watch(host, &outside, &kinds);
    let last = ethernet(OWN, 0x800, &udp(OWN_FOUR, 1234));
    let frames: Vec<&Vec<u8>> = all.iter().map(|one| &one.frame).chain([&last]).collect();
    send(host, &frames);
    host.wait_until("its own is seen", || seen(host, &outside).last() == Some(&true));
    let mut counts = seen(host, &outside);
    counts.pop();
    assert_eq!(counts.len(), all.len());
    counts
}

/// From the container's end, as they are.
fn send(host: &RealHost, frames: &[&Vec<u8>]) {
    let wire = host.wire();
    let hexadecimal = |frame: &&Vec<u8>| frame.iter().map(|byte| format!("{byte:02x}")).collect();
    let frames: Vec<String> = frames.iter().map(hexadecimal).collect();
    let index = wire.ok(&inside(host, "web01"), ["sh", "-c", "ip -o link show eth0 | cut -d: -f1"]);
    let script = format!(
        "socket(S, 17, 3, 0) or die; for (qw({})) {{ send(S, pack('H*', $_), 0, pack('S n i S C C a8', 17, 3, {}, 0, 0, 6, '')) or die $! }}",
        frames.join(" "),
        index.trim()
    );
    wire.ok(&inside(host, "web01"), ["perl", "-e", &script]);
}

/// Frames of LLDP go past every table of a bridge, which would learn from them that somebody else is here now.
#[test]
fn root_a_bridge_learns_of_a_container_its_own_address_alone() {
    let Some(host) = RealHost::on_bridge(PROGRAM) else { return };
    web01(&host);
    let mut frame = ethernet(OTHER, 0x88cc, &[0; 46]);
    frame[..6].copy_from_slice(&[1, 0x80, 0xc2, 0, 0, 0x0e]);
    let known = |mac: &str| {
        let known = host.wire().ok(&host.wire().host(), ["bridge", "fdb", "show"]);
        known.lines().any(|line| line.starts_with(mac) && line.contains("master"))
    };
    send(&host, &[&frame]);
    // What it sends after that has been seen.
    assert_eq!(come_through(&host, &[]), Vec::<bool>::new());
    assert!(known("02:00:00:00:00:50") && !known("02:00:00:00:00:60"));
    // The control: whoever may use any address is learned.
    host.ok(["set", "web01", "--ifname", "eth0", "--macfilter", "no"]);
    send(&host, &[&frame]);
    assert_eq!(come_through(&host, &[]), Vec::<bool>::new());
    assert!(known("02:00:00:00:00:60"));
}

#[test]
fn root_nothing_is_used_on_a_bridge_but_its_own() {
    let Some(host) = RealHost::on_bridge(PROGRAM) else { return };
    web01(&host);
    let wire = host.wire();
    let all = forged();
    let seen = |what: &str, wanted: &[bool]| {
        for ((one, is), wanted) in all.iter().zip(come_through(&host, &all)).zip(wanted) {
            assert_eq!(is, *wanted, "{what}: {}", one.what);
        }
    };
    let none = vec![false; all.len()];
    seen("filtered", &none);
    // The control: nothing else has kept them back.
    wire.ok(&wire.host(), ["nft", "flush", "ruleset"]);
    seen("not filtered", &vec![true; all.len()]);
    host.ok(["recover"]);
    seen("filtered again", &none);
    // Each by itself: without the one the other holds.
    let without = |option: &str| drop(host.ok(["set", "web01", "--ifname", "eth0", option, "no"]));
    without("--ipfilter");
    let is_of_mac = |one: &Forged| one.what.contains("MAC address") || one.what.contains("VLAN");
    seen("without the filter of IP addresses", &all.iter().map(|one| !is_of_mac(one)).collect::<Vec<_>>());
    without("--macfilter");
    seen("without any", &all.iter().map(|one| !one.what.contains("VLAN")).collect::<Vec<_>>());
}

/// A bridge gives to everybody what it does not know the place of.
#[test]
fn root_what_is_for_others_is_not_given_to_a_container() {
    let Some(host) = RealHost::on_bridge(PROGRAM) else { return };
    web01(&host);
    let wire = host.wire();
    let container = inside(&host, "web01");
    let is_given = |mac: &str| -> bool {
        watch(&host, &container, &["udp dport 9 ip daddr 192.0.2.77", "udp dport 9 ip daddr 192.0.2.50"]);
        // First to a station whose place no bridge knows, then to the container.
        let line = format!(
            "ip neigh replace 192.0.2.77 lladdr {mac} dev eth0; echo x >/dev/udp/192.0.2.77/9; echo x >/dev/udp/192.0.2.50/9"
        );
        wire.ok(&wire.outside(), ["bash", "-c", &line]);
        host.wait_until("its own is seen", || seen(&host, &container)[1]);
        seen(&host, &container)[0]
    };
    assert!(!is_given("02:00:00:00:00:77"));
    wire.ok(&wire.host(), ["nft", "flush", "ruleset"]);
    assert!(is_given("02:00:00:00:00:78"), "the control");
}

#[test]
fn root_what_a_crash_leaves_on_a_bridge_is_put_right() {
    let Some(host) = RealHost::on_bridge(PROGRAM) else { return };
    web01(&host);
    host.ok(["set", "web01", "--rate", "*:1:100000"]);
    let state = state(&host, "web01");
    for who in ["monitor", "init"] {
        let pid = state[who]["pid"].as_i64().expect("it has a number");
        let pid = rustix::process::Pid::from_raw(pid as i32).expect("it is one");
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("it is there");
    }
    host.wait_until("it is dead", || host.ok(["status", "web01"]).contains("stopped"));
    assert!(!left(&host).is_empty(), "somebody has to put it right");
    host.ok(["recover"]);
    assert_eq!(left(&host), "");
    host.ok(["start", "web01"]);
    assert!(host.wire().reaches("192.0.2.50") && host.wire().reaches("2001:db8:1::50"));
    host.ok(["delete", "web01", "--force"]);
    assert_eq!(left(&host), "");
}

#[test]
fn root_what_cannot_be_on_a_bridge_is_refused_with_why() {
    let Some(host) = RealHost::on_bridge(PROGRAM) else { return };
    let wire = host.wire();
    host.ok([
        "create",
        "web01",
        "--ostemplate",
        "busybox",
        "--netif_add",
        &format!("eth0,{MAC}"),
        "--ipadd",
        "192.0.2.40",
    ]);
    host.ok([
        "set",
        "web01",
        "--ifname",
        "eth0",
        "--network",
        "br0",
        "--ipadd",
        "192.0.2.50/24",
        "--host_ifname",
        "veth101.0",
    ]);
    host.ok(["create", "web02", "--ostemplate", "busybox"]);
    wire.ok(
        &wire.host(),
        ["sh", "-c", "ip link add br1 type bridge; ip link add dummy1 type veth peer name dummy2"],
    );
    let conf = |name: &str| std::fs::read_to_string(host.area(name).join("ve.conf")).expect("it can be read");
    let before = conf("web02");
    let eth0 = ["--netif_add", "eth0", "--ifname", "eth0"];
    let more = |words: &[&'static str]| [&eth0[..], words].concat();
    for (words, code, said) in [
        (vec!["--netif_add", "sixteen-bytes-16"], 21, "longer than the 15 bytes"),
        (vec!["--netif_add", ""], 21, "is no name of an interface"),
        (vec!["--netif_add", "eth0;reboot"], 21, "is no name of an interface"),
        (vec!["--netif_add", "venet0"], 21, "the name of something else"),
        (vec!["--netif_add", "eth0,01:00:00:00:00:01"], 21, "can be no interface's own"),
        (vec!["--netif_add", "eth0,02:00:00:00:00"], 21, "is no MAC address"),
        (vec!["--netif_add", "eth0", "--netif_add", "eth0"], 21, "it has one of that name"),
        (vec!["--netif_add", "eth0,02:00:00:00:00:50"], 78, "container `web01` has it"),
        (vec!["--netif_del", "eth0"], 21, "no interface on a bridge"),
        (vec!["--ifname", "eth0", "--network", "br0"], 21, "no interface on a bridge"),
        (vec!["--ifname", "eth0"], 20, "no option that sets anything of it"),
        (more(&["--network", "br9"]), 5, "`br9` is no interface of this host"),
        (more(&["--network", "dummy1"]), 5, "`dummy1` is no bridge"),
        (more(&["--network", "br0", "--vlan", "5"]), 5, "does not tell VLANs apart"),
        (more(&["--vlan", "5"]), 5, "is on no bridge"),
        (more(&["--network", "br0", "--vlan", "4095"]), 21, "is no VLAN"),
        (more(&["--network", "br0", "--gw", "2001:db8::1"]), 21, "can be no gateway"),
        (
            more(&["--network", "br0", "--dhcp", "yes"]),
            21,
            "which address it will be given nobody here knows",
        ),
        (more(&["--network", "br0", "--macfilter", "perhaps"]), 21, "neither yes nor no"),
        (more(&["--network", "br0", "--ipadd", "192.0.2.300"]), 71, "is no address"),
        (more(&["--network", "br0", "--ipadd", "192.0.2.50"]), 78, "container `web01` has it, on eth0"),
        (more(&["--network", "br0", "--ipadd", "192.0.2.40"]), 78, "container `web01` has it"),
        (more(&["--network", "br0", "--ipadd", "192.0.2.1"]), 78, "an address of this host itself"),
        (more(&["--network", "br0", "--host_ifname", "veth101.0"]), 78, "container `web01` has it"),
        (vec!["--ipadd", "192.0.2.50"], 78, "container `web01` has it, on eth0"),
        (vec!["--rate", "1000"], 21, "`eth0:1:1000`"),
    ] {
        let ran = host.run([&["set", "web02"][..], &words].concat());
        ran.failed(code, &[said, "nothing was changed"]);
        assert_eq!(conf("web02"), before, "{words:?}");
    }
    host.run(["set", "web01", "--ipadd", "192.0.2.50"])
        .failed(78, &["the container has it already, on eth0"]);
    host.run(["set", "web01", "--ifname", "eth0", "--ipadd", "192.0.2.40"]).failed(78, &["routed to it"]);
    // On another bridge nobody sees it.
    host.ok([&["set", "web02"][..], &more(&["--network", "br1", "--ipadd", "192.0.2.50/24"])].concat());
    // What somebody has written is told when it is to be, and nothing of it is left.
    wire.ok(&wire.host(), ["ip", "link", "del", "br1"]);
    let ran = host.run(["start", "web02"]);
    assert!(ran.code != 0 && ran.stderr.contains("`br1` is no interface of this host"), "{ran}");
    assert_eq!(left(&host), "");
    // Nor does it take a name of the host's own, or anything from that one for a moment.
    host.ok([
        "set",
        "web02",
        "--ifname",
        "eth0",
        "--network",
        "br0",
        "--host_ifname",
        "dummy1",
        "--ipdel",
        "all",
    ]);
    let before = wire.ok(&wire.host(), ["ip", "-o", "link", "show", "dummy1"]);
    let ran = host.run(["start", "web02"]);
    assert!(
        ran.code != 0 && ran.stderr.contains("`dummy1` is another interface of this host already"),
        "{ran}"
    );
    assert_eq!(wire.ok(&wire.host(), ["ip", "-o", "link", "show", "dummy1"]), before);
    assert_eq!(left(&host), "");
    let ran = host.run([
        "create",
        "web03",
        "--ostemplate",
        "busybox",
        "--netif_add",
        "eth0",
        "--ifname",
        "eth0",
        "--network",
        "br9",
    ]);
    ran.failed(5, &["`br9` is no interface of this host"]);
}

/// What the new root has said to others, and others to it, before it was taken.
fn on_probation(host: &RealHost, words: &[&str]) -> (bool, bool) {
    // Who is called ends at once, however busy the machine; who is not waits for nothing.
    let patience = if words.contains(&"full") { 60 } else { 4 };
    host.script(
        "etc/vz/conf/vps.configure",
        &format!("#!/bin/sh\nping -c 3 -A -W 2 192.0.2.9 >/dev/null && printf 'GET /x HTTP/1.0\\r\\n\\r\\n' | nc -w 2 192.0.2.9 701 | grep -q HTTP && touch /root/out\nnc -l -p 700 -w {patience} </dev/null >/root/in\nexit 0\n"),
    );
    std::thread::scope(|scope| {
        let wire = host.wire();
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let mut answers = wire
            .command(&wire.outside())
            .args(["busybox", "httpd", "-f", "-p", "701", "-h", "/proc/self/fdinfo"])
            .spawn()
            .expect("run nc");
        let speaker = scope.spawn(move || {
            while stopped.recv_timeout(std::time::Duration::from_millis(20))
                == Err(std::sync::mpsc::RecvTimeoutError::Timeout)
            {
                let words = ["sh", "-c", "echo hello | busybox nc -w 1 192.0.2.50 700"];
                drop(wire.run(&wire.outside(), words));
            }
        });
        let ran = host.run([&["reinstall", "web01"], words].concat());
        drop(stop);
        speaker.join().expect("it speaks");
        answers.kill().and_then(|()| answers.wait()).expect("end nc");
        assert_eq!(ran.code, 0, "{ran}");
    });
    let there = host.exec("web01", "ls /root/out 2>/dev/null; cat /root/in");
    (there.contains("out"), there.contains("hello"))
}

#[test]
fn root_a_new_root_on_probation_calls_from_a_bridge_and_is_not_called() {
    let Some(host) = RealHost::on_bridge(PROGRAM) else { return };
    web01(&host);
    assert_eq!(on_probation(&host, &[]), (true, false), "outgoing");
    assert!(host.wire().reaches("192.0.2.50"), "it is its root now");
    assert_eq!(on_probation(&host, &["--probation-network", "full"]), (true, true), "full");
    assert_eq!(on_probation(&host, &["--probation-network", "none"]), (false, false), "none");
    assert!(host.wire().reaches("192.0.2.50"), "it is its root now");
}

/// How much comes through of 20,000 packets of 1,000 bytes, in kilobytes, from the container and to it, and how long they took.
fn through(host: &RealHost) -> [(u64, u64); 2] {
    let wire = host.wire();
    let container = inside(host, "web01");
    let send = |from: &Path, to: &Path, address: &str| {
        let device = "awk '/venet0:|eth0:/ { gsub(/.*:/, \"\"); sum += $1 } END { print sum }' /proc/net/dev";
        let count = || -> u64 { wire.ok(to, ["sh", "-c", device]).trim().parse().expect("a number") };
        // Whoever is asked for first is known then.
        wire.run(from, ["busybox", "ping", "-c", "1", "-W", "2", address]);
        let before = count();
        let began = std::time::Instant::now();
        // Without anybody who would be asked to slow down.
        let script = format!(
            "use Socket; socket(S, PF_INET, SOCK_DGRAM, 0) or die; my $to = sockaddr_in(9, inet_aton('{address}')); for (1 .. 20000) {{ send(S, 'x' x 1000, 0, $to) }}"
        );
        wire.ok(from, ["perl", "-e", &script]);
        ((count() - before) / 1000, began.elapsed().as_millis() as u64)
    };
    [send(&container, &wire.outside(), "192.0.2.9"), send(&wire.outside(), &container, "192.0.2.50")]
}

fn is_limited(host: &RealHost) {
    let free = through(host);
    host.ok(["set", "web01", "--rate", "*:1:800"]);
    let bound = through(host);
    host.ok(["set", "web01", "--rate", ""]);
    let free_again = through(host);
    for way in 0..2 {
        // 100 kB a second, and what is saved of one second and 64 KiB more to begin with; what is free is many times as much.
        let (came, milliseconds) = bound[way];
        let said = format!("{way}: {free:?} {bound:?} {free_again:?}");
        assert!(came >= 100 && came <= 190 + milliseconds / 10, "{said}");
        assert!(free[way].0 > 10 * came && free_again[way].0 > 10 * came, "{said}");
    }
}

#[test]
fn root_what_goes_through_a_bridge_in_a_second_has_a_limit() {
    let Some(host) = RealHost::on_bridge(PROGRAM) else { return };
    web01(&host);
    is_limited(&host);
}

#[test]
fn root_what_is_routed_in_a_second_has_a_limit() {
    let Some(host) = RealHost::on_wire(PROGRAM) else { return };
    host.ok(["create", "web01", "--ostemplate", "busybox", "--ipadd", "192.0.2.50"]);
    host.ok(["start", "web01"]);
    is_limited(&host);
}

/// Somebody's own tables, also of the families that ours are of.
#[test]
fn root_a_firewall_of_others_is_left_as_it_is() {
    let Some(host) = RealHost::on_bridge(PROGRAM) else { return };
    let wire = host.wire();
    let theirs = "table inet ufw { chain forward { type filter hook forward priority 0; policy drop; ct state established accept; }; }; \
                  table bridge guests { set known { type ether_addr; elements = { 02:00:00:00:00:99 }; }; chain forward { type filter hook forward priority 0; policy accept; ether saddr @known accept; }; }";
    wire.ok(&wire.host(), ["nft", theirs]);
    let look =
        || wire.ok(&wire.host(), ["sh", "-c", "nft list table inet ufw; nft list table bridge guests"]);
    let before = look();
    web01(&host);
    host.ok(["set", "web01", "--ipadd", "198.51.100.50", "--rate", "*:1:1000"]);
    host.ok(["restart", "web01"]);
    host.ok(["recover"]);
    assert_eq!(look(), before);
    assert!(host.calls("web01", "192.0.2.1"), "what is for the host itself they have nothing against");
    host.ok(["stop", "web01"]);
    assert_eq!(look(), before);
    wire.ok(&wire.host(), ["sh", "-c", "nft delete table inet ufw; nft delete table bridge guests"]);
    assert_eq!(left(&host), "");
}

/// On a bridge that tells VLANs apart, and has everybody in that one.
fn on_vlans(usual: &str) -> Option<RealHost> {
    let host = RealHost::on_bridge(PROGRAM)?;
    let wire = host.wire();
    let line =
        ["ip", "link", "set", "br0", "type", "bridge", "vlan_filtering", "1", "vlan_default_pvid", usual];
    if wire.run(&wire.host(), line).code != 0 {
        let because = "this kernel's bridges do not tell VLANs apart (CONFIG_BRIDGE_VLAN_FILTERING)";
        testkit::real_host::not_run_here(PROGRAM.as_ref(), because);
        return None;
    }
    Some(host)
}

/// In which VLANs each port of a container is.
fn vlans(host: &RealHost) -> Vec<Vec<u64>> {
    let told = host.wire().ok(&host.wire().host(), ["bridge", "-j", "vlan", "show"]);
    let ports: Vec<serde_json::Value> = serde_json::from_str(&told).expect("a document");
    let is_ours =
        |port: &&serde_json::Value| port["ifname"].as_str().is_some_and(|name| name.starts_with("vz"));
    let of = |port: &serde_json::Value| -> Vec<u64> {
        let vlans = port["vlans"].as_array().into_iter().flatten();
        vlans.filter_map(|one| one["vlan"].as_u64()).collect()
    };
    let mut all: Vec<Vec<u64>> = ports.iter().filter(is_ours).map(of).collect();
    all.sort();
    all
}

#[test]
fn root_a_vlan_is_left_for_another_whichever_is_the_usual_one() {
    let Some(host) = on_vlans("7") else { return };
    web01(&host);
    web02(&host);
    assert_eq!(vlans(&host), [[7], [7]]);
    assert!(host.calls("web01", "192.0.2.60"));
    host.ok(["set", "web01", "--ifname", "eth0", "--vlan", "5"]);
    assert_eq!(vlans(&host), [[5], [7]]);
    assert!(!host.calls("web01", "192.0.2.60") && !host.wire().reaches("192.0.2.50"));
    assert!(host.wire().reaches("192.0.2.60"));
    host.ok(["set", "web02", "--ifname", "eth0", "--vlan", "5"]);
    host.ok(["restart", "web01"]);
    assert_eq!(vlans(&host), [[5], [5]]);
    assert!(host.calls("web01", "192.0.2.60") && host.calls("web02", "2001:db8:1::50"));
    assert!(!host.wire().reaches("192.0.2.50") && !host.wire().reaches("192.0.2.60"));
    // 1 is one as any other here.
    host.ok(["set", "web02", "--ifname", "eth0", "--vlan", "1"]);
    assert_eq!(vlans(&host), [[1], [5]]);
    assert!(!host.calls("web01", "192.0.2.60"));
}

#[test]
fn root_a_vlan_is_seen_by_whoever_is_in_it() {
    let Some(host) = on_vlans("1") else { return };
    web01(&host);
    web02(&host);
    assert!(host.calls("web01", "192.0.2.60"), "all are in the usual one");
    host.ok(["set", "web01", "--ifname", "eth0", "--vlan", "5"]);
    assert!(!host.calls("web01", "192.0.2.60") && !host.wire().reaches("192.0.2.50"));
    host.ok(["set", "web02", "--ifname", "eth0", "--vlan", "5"]);
    assert!(host.calls("web01", "192.0.2.60") && host.calls("web01", "2001:db8:1::60"));
    host.ok(["restart", "web02"]);
    assert!(host.calls("web01", "192.0.2.60"));
    host.ok(["set", "web02", "--ifname", "eth0", "--vlan", "6"]);
    assert!(!host.calls("web01", "192.0.2.60"));
}

/// What is made up is made of the UUID, and somebody may have chosen the same.
#[test]
fn root_a_mac_address_that_is_made_up_for_a_new_container_is_no_others() {
    const UUID: &str = "0c9e5a0e-4f3c-4d2a-9d6b-3f0a5b1c7e42";
    let Some(host) = RealHost::on_bridge(PROGRAM) else { return };
    let create = |name: &str, more: &[&str]| {
        host.run([&["create", name, "--ostemplate", "busybox", "--netif_add"], more].concat())
    };
    assert_eq!(create("first", &["eth0", "--uuid", UUID]).code, 0);
    host.ok(["start", "first"]);
    let mac = host.exec("first", "cat /sys/class/net/eth0/address");
    host.ok(["delete", "first", "--force"]);
    assert_eq!(create("other", &[&format!("eth0,{mac}")]).code, 0);

    let ran = create("first", &["eth0", "--uuid", UUID]);
    ran.failed(
        78,
        &[
            &format!("the MAC address {mac} is taken"),
            "container `other` has it",
            "nothing was changed",
            "--mac",
        ],
    );
    assert_eq!(host.ok(["list", "-a", "-H", "-o", "name"]).trim(), "other");
    assert_eq!(create("first", &["eth0,02:00:00:00:00:99", "--uuid", UUID]).code, 0);
}
