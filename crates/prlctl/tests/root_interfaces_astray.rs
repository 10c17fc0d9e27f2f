//! A container's root does what it likes with its own ends, and whoever owns a bridge with that: nobody is kept by it from changing something else.

use testkit::RealHost;

const PROGRAM: &str = env!("CARGO_BIN_EXE_prlctl");

/// A busybox that runs, with a routed address and an interface on `br0`.
fn with_both() -> Option<RealHost> {
    let host = RealHost::on_bridge(PROGRAM)?;
    host.ok([
        "create",
        "web01",
        "--ostemplate",
        "busybox",
        "--ipadd",
        "198.51.100.50",
        "--netif_add",
        "eth0",
    ]);
    host.ok(["set", "web01", "--ifname", "eth0", "--network", "br0", "--ipadd", "192.0.2.50/24"]);
    host.ok(["start", "web01"]);
    assert!(host.wire().reaches("192.0.2.50") && host.calls("web01", "192.0.2.9"));
    Some(host)
}

/// In a network within the container's own, in which it has the index of another interface.
const MOVED: &str = "unshare -n sleep 600 </dev/null >/dev/null 2>&1 & \
    for i in $(seq 100); do test \"$(readlink /proc/$!/ns/net)\" = \"$(readlink /proc/self/ns/net)\" || break; usleep 20000; done; \
    ip link set NAME netns $!";

#[test]
fn root_what_its_root_does_to_an_interface_keeps_nothing_else_from_being_set() {
    let Some(host) = with_both() else { return };
    let set = |words: &[&str]| host.run([&["set", "web01"], words].concat());
    let numproc = || {
        let ran = set(&["--numproc", "400"]);
        assert_eq!(ran.code, 0, "{ran}");
        ran.stderr
    };
    for (number, line) in [MOVED, "ip link del NAME"].into_iter().enumerate() {
        for name in ["eth0", "venet0"] {
            assert!(!numproc().contains(name), "nothing is wrong yet");
            host.exec("web01", &line.replace("NAME", name));
            let said = numproc();
            let wanted = format!("{name} is not in the container's network any more");
            assert!(said.contains(&wanted), "{line}: {said}");
            // What is about it makes it again, and takes it away from wherever it is.
            let ip = format!("{}{number}", if name == "eth0" { "192.0.2.6" } else { "198.51.100.6" });
            let ran = match name {
                "eth0" => set(&["--ifname", "eth0", "--ipadd", &format!("{ip}/24")]),
                _ => set(&["--ipadd", &ip]),
            };
            assert_eq!(ran.code, 0, "{ran}");
            let there = host.exec("web01", &format!("ip addr show {name}"));
            assert!(
                there.contains(&ip)
                    && there.contains(if name == "eth0" { "192.0.2.50" } else { "198.51.100.50" }),
                "{there}"
            );
            assert!(host.calls("web01", "192.0.2.9"), "{line} {name}");
        }
        host.exec("web01", "killall sleep 2>/dev/null; :");
    }
    // By another name it is what it was.
    host.exec("web01", "ip link set eth0 down; ip link set eth0 name lan0; ip link set lan0 up");
    assert!(!numproc().contains("warning"), "{}", numproc());
    host.ok(["set", "web01", "--ifname", "eth0", "--ipadd", "192.0.2.70/24"]);
    assert!(host.wire().reaches("192.0.2.70"));
    // One that is gone can be taken away, and one that is in the way of the name is said.
    host.exec("web01", "ip link del lan0; ip link add eth0 type veth peer name eth9");
    let ran = set(&["--ifname", "eth0", "--ipadd", "192.0.2.71/24"]);
    assert!(
        ran.code != 0
            && ran.stderr.contains("File exists")
            && ran.stderr.contains("has made another interface"),
        "{ran}"
    );
    numproc();
    host.ok(["set", "web01", "--netif_del", "eth0", "--ipdel", "all"]);
    assert!(!numproc().contains("not in the container's network"));
}

/// What of the network is there: inside, on the host, and what is written down of it.
fn network_of(host: &RealHost) -> [String; 5] {
    let wire = host.wire();
    let routes = "ip route; ip -o link | grep -o 'vz[0-9a-f]*@' | sort";
    let inside =
        "for i in eth0 lan0 venet0; do ip -o addr show $i 2>/dev/null | sed 's/^[0-9]*: //'; done; ip route";
    // What the kernel puts there itself, and counts, is nobody's, and an address that it still asks others for (`tentative`) is there.
    let filter = wire.ok(&wire.host(), ["sh", "-c", "PATH=$PATH:/usr/sbin; nft -s list ruleset"]);
    let mut filter: Vec<&str> = filter.lines().filter(|line| !line.contains("expires")).collect();
    filter.sort_unstable();
    let area = host.area("web01");
    let run = host.path("run/vz").join(area.file_name().expect("it has a name"));
    let written = |path: std::path::PathBuf| std::fs::read_to_string(path).expect("it can be read");
    [
        host.exec("web01", inside).replace("tentative ", ""),
        wire.ok(&wire.host(), ["sh", "-c", routes]),
        filter.join("\n"),
        written(run.join("network.json")),
        written(area.join("ve.conf")),
    ]
}

/// "Nothing was changed", and nothing is.
#[test]
fn root_a_set_that_fails_leaves_the_network_that_was_there() {
    let Some(host) = with_both() else { return };
    host.ok(["set", "web01", "--ipadd", "198.51.100.51"]);
    let refused = |words: &[&str], why: &str| {
        let before = network_of(&host);
        host.run([&["set", "web01"], words].concat()).failed(21, &[why, "nothing was changed"]);
        assert_eq!(network_of(&host), before, "{words:?}");
        assert!(host.wire().reaches("192.0.2.50"), "{words:?}");
        assert!(host.calls("web01", "192.0.2.9"), "{words:?}");
    };
    // Its root has one of that name.
    host.exec("web01", "ip link add eth1 type veth peer name eth9");
    refused(&["--netif_del", "eth0", "--netif_add", "eth1"], "File exists");
    refused(&["--ipdel", "all", "--netif_add", "eth1"], "File exists");
    refused(&["--ipdel", "198.51.100.51", "--netif_add", "eth1"], "File exists");
    // What cannot be known before: the kernel takes no gateway that is the interface's own address.
    host.exec("web01", "ip addr add 192.0.2.99/32 dev eth0");
    refused(&["--ifname", "eth0", "--gw", "192.0.2.99"], "configure eth0");
    // By then it has an address more or less, its ports and its rate are others, and none of it stays.
    let late = |more: &[&'static str]| {
        refused(&[more, &["--ifname", "eth0", "--gw", "192.0.2.99"]].concat(), "configure eth0");
    };
    host.ok(["set", "web01", "--forward", "tcp:8081:81", "--rate", "eth0:1:5000"]);
    late(&["--netif_add", "eth2", "--forward", "tcp:8080:80", "--rate", "eth0:1:1000"]);
    late(&["--forward", "tcp:8080:80", "--memsize", "256M", "--hostname", "other"]);
    late(&["--rate", "eth0:1:1000", "--ratebound", "no"]);
    // Nor are several of them kept from having one rate together.
    host.ok(["set", "web01", "--netif_add", "eth2", "--rate", "eth0:1:1000"]);
    late(&["--rate", "eth0:1:2000"]);
    late(&["--netif_del", "eth2"]);
    host.ok(["set", "web01", "--netif_del", "eth2"]);
    // It has renamed ours, and made one of that name.
    host.exec("web01", "ip link set eth0 down; ip link set eth0 name lan0; ip link set lan0 up; ip link del eth1; ip link add eth0 type veth peer name eth9");
    for words in [
        &["--ifname", "eth0", "--mac", "02:00:00:00:00:99"][..],
        &["--ifname", "eth0", "--host_mac", "02:00:00:00:00:98"],
        &["--ifname", "eth0", "--host_ifname", "own0"],
    ] {
        refused(words, "File exists");
    }
    // What goes may have any name, and what comes another's.
    host.exec(
        "web01",
        "ip link del eth0; ip link set lan0 down; ip link set lan0 name eth1; ip link set eth1 up",
    );
    host.ok(["set", "web01", "--netif_del", "eth0", "--netif_add", "eth1"]);
    assert!(!host.exec("web01", "ip addr show eth1").contains("192.0.2.50"), "it is another");
}

/// Its root has taken what it had, and what it is to have: neither can be made.
#[test]
fn root_what_cannot_be_given_back_is_told() {
    let Some(host) = with_both() else { return };
    host.ok(["set", "web01", "--ifname", "eth0", "--gw", "192.0.2.9"]);
    host.exec("web01", "ip addr add 192.0.2.99/32 dev eth0; ip addr add 192.0.2.9/32 dev eth0");
    let ran = host.run(["set", "web01", "--ifname", "eth0", "--gw", "192.0.2.99"]);
    ran.failed(
        21,
        &[
            "configure eth0",
            "; and it could not be made as it was again: eth0 in the container is left as it is",
            "state: `web01` runs, and not all of it is as it was; its ve.conf is",
            "hint: `prlctl restart web01` makes it",
        ],
    );
    host.ok(["restart", "web01"]);
    assert!(host.exec("web01", "ip route").contains("default via 192.0.2.9 dev eth0"));
    let ran = host.run(["set", "web01", "--numproc", "400"]);
    assert!(ran.code == 0 && !ran.stderr.contains("eth0"), "{ran}");
}

#[test]
fn root_a_bridge_that_goes_keeps_nothing_else_from_being_set_and_has_its_containers_when_it_is_back() {
    let Some(host) = with_both() else { return };
    let wire = host.wire();
    let inside = |line: &str| wire.ok(&wire.host(), ["sh", "-c", line]);
    inside("ip link del br0");
    let ran = host.run(["set", "web01", "--numproc", "400", "--ipadd", "198.51.100.51"]);
    assert!(ran.code == 0 && ran.stderr.contains("`br0` is no interface of this host"), "{ran}");
    assert!(host.exec("web01", "ip addr show venet0").contains("198.51.100.51"));
    let ran = host.run(["set", "web01", "--ifname", "eth0", "--ipadd", "192.0.2.60/24"]);
    assert!(ran.code != 0 && ran.stderr.contains("`br0` is no interface of this host"), "{ran}");
    // Whatever waits for it, and whatever is never on it again, is no reason to fail.
    host.ok(["recover"]);
    inside(
        "ip link add br0 type bridge && ip link set eth0 master br0 && ip addr add 192.0.2.1/24 dev br0 && ip link set br0 up",
    );
    assert!(!wire.reaches("192.0.2.50"), "its end is off the bridge");
    host.ok(["recover"]);
    assert!(wire.reaches("192.0.2.50") && host.calls("web01", "192.0.2.9"));
    // With all that it had there: it does not learn, and cannot take a part in the spanning tree.
    let port = inside("ip -d -o link show master br0 | grep ' vz'");
    assert!(port.contains("guard on") && port.contains("learning off"), "{port}");
    let known = inside("bridge fdb show br br0 | grep sticky");
    assert!(known.contains("static"), "{known}");
}

/// Its root may want none of IPv6.
#[test]
fn root_addresses_are_set_where_ipv6_is_turned_off_inside() {
    let Some(host) = with_both() else { return };
    host.exec("web01", "echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6; echo 1 >/proc/sys/net/ipv6/conf/eth0/disable_ipv6; echo 1 >/proc/sys/net/ipv6/conf/venet0/disable_ipv6");
    let ran = host.run(["set", "web01", "--ipadd", "198.51.100.51", "--ipadd", "2001:db8:2::51"]);
    assert_eq!(ran.code, 0, "{ran}");
    let ran = host.run([
        "set",
        "web01",
        "--ifname",
        "eth0",
        "--ipadd",
        "192.0.2.51/24",
        "--ipadd",
        "2001:db8:1::51/64",
        "--gw6",
        "2001:db8:1::9",
    ]);
    assert_eq!(ran.code, 0, "{ran}");
    assert!(host.wire().reaches("192.0.2.51") && !host.wire().reaches("2001:db8:1::51"));
    assert!(host.exec("web01", "ip addr show venet0").contains("198.51.100.51"));
    // And all of it where it is turned on again, and anything is said.
    host.exec("web01", "for i in all eth0 venet0; do echo 0 >/proc/sys/net/ipv6/conf/$i/disable_ipv6; done");
    let ran = host.run(["set", "web01", "--numproc", "400"]);
    assert_eq!(ran.code, 0, "{ran}");
    assert!(host.wire().reaches("2001:db8:1::51"));
    assert!(host.exec("web01", "ip -6 addr show venet0").contains("2001:db8:2::51"));
}

/// Also where nobody has chosen it.
#[test]
fn root_no_interface_has_the_mac_address_or_the_name_that_is_made_up_for_another() {
    let Some(host) = with_both() else { return };
    let mac = host.exec("web01", "cat /sys/class/net/eth0/address");
    let name = host.wire().ok(
        &host.wire().host(),
        ["sh", "-c", "ip -o link show master br0 | grep -o 'vz[0-9a-f]*' | head -1"],
    );
    let netif = format!("eth0,{mac}");
    for words in [
        vec!["create", "web02", "--ostemplate", "busybox", "--netif_add", &netif],
        vec![
            "create",
            "web02",
            "--ostemplate",
            "busybox",
            "--netif_add",
            "eth0",
            "--ifname",
            "eth0",
            "--host_ifname",
            name.trim(),
        ],
    ] {
        host.run(&words).failed(78, &["is taken", "container `web01` has it"]);
    }
    host.ok(["create", "web02", "--ostemplate", "busybox"]);
    host.run(["set", "web02", "--netif_add", &netif])
        .failed(78, &["container `web01` has it", "nothing was changed"]);
    // Nor is one made up that somebody has chosen: here by what was written by hand.
    host.ok(["set", "web02", "--netif_add", "eth0"]);
    let text = std::fs::read_to_string(host.area("web01").join("ve.conf")).expect("it can be read");
    host.ok(["start", "web02"]);
    let made_up = host.exec("web02", "cat /sys/class/net/eth0/address");
    host.ok(["set", "web02", "--netif_del", "eth0"]);
    host.ok(["set", "web01", "--ifname", "eth0", "--mac", &made_up]);
    host.run(["set", "web02", "--netif_add", "eth0"]).failed(78, &["container `web01` has it", "--mac"]);
    assert!(text.contains("NETIF"), "{text}");
}
