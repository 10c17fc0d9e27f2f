//! `prlctl list -i` of a container's network: what is configured, and beside it what the kernel says, also where somebody has changed that since.

use serde_json::{Value, json};
use testkit::RealHost;

const PROGRAM: &str = env!("CARGO_BIN_EXE_prlctl");

fn facts(host: &RealHost) -> Value {
    let found: Value = serde_json::from_str(&host.ok(["list", "-i", "-j", "web01"])).expect("a document");
    found[0].clone()
}

#[test]
fn root_list_tells_what_is_routed_and_what_of_it_is_there() {
    let Some(host) = RealHost::on_wire(PROGRAM) else { return };
    host.ok(["create", "web01", "--ostemplate", "busybox", "--ipadd", "192.0.2.50", "--ipadd"]
        .into_iter()
        .chain(["2001:db8:1::50/64", "--rate", "eth0:1:1000", "--forward", "tcp:8080:80"])
        .chain(["--nameserver", "192.0.2.53", "--searchdomain", "example.org", "--restart", "on-crash"]));
    let told = facts(&host);
    let ips = "192.0.2.50 2001:db8:1::50/64";
    assert_eq!(told["Hardware"]["venet0"], json!({ "enabled": true, "type": "routed", "ips": ips }));
    assert_eq!(told["Now"], Value::Null, "it does not run");
    for (key, wanted) in [
        ("Forward", "tcp:8080:80"),
        ("Rate", "eth0:1:1000"),
        ("Restart", "on-crash"),
        ("DNS Servers", "192.0.2.53"),
        ("Search Domains", "example.org"),
    ] {
        assert_eq!(told[key], wanted, "{key}");
    }
    host.ok(["start", "web01"]);
    let now = facts(&host)["Now"].clone();
    let device = &now["venet0"];
    assert_eq!((&device["ips"], &device["ifname"]), (&json!(ips), &json!("venet0")), "{now}");
    assert_eq!((&device["rate_in"], &device["rate_out"]), (&json!(1000), &json!(1000)), "{now}");
    let guarantee = if runtime_is_v2() { json!("0Mb") } else { Value::Null };
    assert_eq!(now["memory_guarantee"], guarantee);
    let text = host.ok(["list", "-i", "web01"]);
    assert!(text.contains(&format!("  venet0 (+) type='routed' ips='{ips}'\n")), "{text}");
    assert!(text.contains("rate_in=1000 rate_out=1000\n"), "{text}");

    // Its root takes more addresses than anybody wants to read, and calls its end what it likes.
    host.exec("web01", "for one in $(seq 1 70); do ip addr add 198.51.100.$one/32 dev venet0; done");
    host.exec("web01", "ip link set venet0 down; ip link set venet0 name \"$(printf 'a\\033[7m')\"");
    let (told, text) = (facts(&host), host.ok(["list", "-i", "web01"]));
    let device = &told["Now"]["venet0"];
    let shown = device["ips"].as_str().unwrap_or_default();
    assert!(
        shown.starts_with("192.0.2.50 198.51.100.1/32") || shown.starts_with("192.0.2.50 198.51.100.1 "),
        "{shown}"
    );
    assert!(shown.ends_with(" …") && !shown.contains("198.51.100.70"), "{shown}");
    assert_eq!(told["Hardware"]["venet0"]["ips"], ips, "it is not configured");
    assert_eq!(device["ifname"], "a\u{1b}[7m");
    assert!(text.contains("ifname='a\\x1b[7m'") && !text.contains('\u{1b}'), "{text}");
    // No letters at all: it is told of, and set, all the same.
    host.exec("web01", "ip link set dev \"$(printf 'a\\033[7m')\" name \"$(printf 'b\\377')\"");
    host.ok(["set", "web01", "--rate", "eth0:1:3000", "--ipadd", "192.0.2.51"]);
    let device = facts(&host)["Now"]["venet0"].clone();
    assert_eq!((&device["ifname"], &device["rate_out"]), (&json!("b?"), &json!(3000)), "{device}");
    assert!(host.wire().reaches("192.0.2.51"));
    host.ok(["set", "web01", "--rate", "eth0:1:1000", "--ipdel", "192.0.2.51"]);
    host.ok(["restart", "web01"]);

    // Somebody flushes the filter.
    let wire = host.wire();
    wire.ok(&wire.host(), ["nft", "flush", "ruleset"]);
    let device = facts(&host)["Now"]["venet0"].clone();
    assert_eq!((&device["rate_in"], &device["rate_out"]), (&json!("unlimited"), &json!("unlimited")));
    host.ok(["set", "web01", "--rate", "eth0:1:2000"]);
    assert_eq!(facts(&host)["Now"]["venet0"]["rate_out"], 2000);

    host.exec("web01", "ip link del venet0");
    assert_eq!(facts(&host)["Now"]["venet0"], "not there");
    assert!(host.ok(["list", "-i", "web01"]).contains("  venet0 not there\n"));
}

fn runtime_is_v2() -> bool {
    !std::path::Path::new("/sys/fs/cgroup/unified").exists()
}

#[test]
fn root_list_tells_what_is_on_bridges_and_which_they_are_on() {
    let Some(host) = RealHost::on_bridge(PROGRAM) else { return };
    let create = ["create", "web01", "--ostemplate", "busybox", "--netif_add", "eth0,02:00:00:00:00:50"];
    host.ok(create.into_iter().chain(["--netif_add", "eth1", "--rate", "eth0:1:1000"]));
    let set = ["set", "web01", "--ifname", "eth0", "--network", "br0", "--host_ifname", "veth101.0"];
    host.ok(set.into_iter().chain(["--ipadd", "192.0.2.50/24", "--gw", "192.0.2.9", "--ipfilter", "no"]));
    let wanted = json!({
        "enabled": true, "dev": "veth101.0", "ifname": "eth0", "network": "br0", "mac": "02:00:00:00:00:50",
        "mac_filter": "on", "ip_filter": "off", "ips": "192.0.2.50/24", "gw": "192.0.2.9",
    });
    assert_eq!(facts(&host)["Hardware"]["net0"], wanted);
    host.ok(["start", "web01"]);
    let text = host.ok(["list", "-i", "web01"]);
    let line = "  net0 (+) dev='veth101.0' ifname='eth0' network='br0' mac=02:00:00:00:00:50 mac_filter=on ip_filter=off ips='192.0.2.50/24' gw='192.0.2.9'\n";
    assert!(text.contains(line), "{text}");
    let now = facts(&host)["Now"].clone();
    // What both may have together.
    for net in ["net0", "net1"] {
        assert_eq!((&now[net]["rate_in"], &now[net]["rate_out"]), (&json!(1000), &json!(1000)), "{now}");
    }
    assert_eq!(
        (&now["net0"]["network"], &now["net0"]["ips"]),
        (&json!("br0"), &json!("192.0.2.50/24")),
        "{now}"
    );
    assert_eq!(
        (&now["net0"]["mac"], &now["net1"]["network"]),
        (&json!("02:00:00:00:00:50"), &Value::Null),
        "{now}"
    );

    let wire = host.wire();
    wire.ok(&wire.host(), ["ip", "link", "set", "veth101.0", "nomaster"]);
    host.exec("web01", "ip addr flush dev eth0");
    let now = facts(&host)["Now"].clone();
    assert_eq!((&now["net0"]["network"], &now["net0"]["ips"]), (&Value::Null, &json!("")), "{now}");

    // What cannot be read is told as that, and the rest all the same.
    let conf = host.area("web01").join("ve.conf");
    let text = std::fs::read_to_string(&conf).expect("it can be read").replace("gw=192.0.2.9", "gw=all");
    host.write(conf.strip_prefix(host.path("")).expect("below").to_str().expect("UTF-8"), &text, 0o600);
    let told = facts(&host);
    assert!(
        told["Hardware"]["net"].as_str().is_some_and(|said| said.contains("`all` can be no gateway")),
        "{told}"
    );
    assert_eq!(told["Now"]["net0"]["dev"], "veth101.0");
}
