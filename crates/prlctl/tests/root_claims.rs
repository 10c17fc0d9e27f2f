//! What is one container's alone: of several who want it at once one has it; and what is nobody's to have is refused.

use testkit::{Ran, RealHost};

const PROGRAM: &str = env!("CARGO_BIN_EXE_prlctl");

/// All of these commands at once.
fn at_once(host: &RealHost, all: &[Vec<String>]) -> Vec<Ran> {
    let running: Vec<_> = all
        .iter()
        .map(|words| {
            let mut command = host.prlctl();
            command.args(words).stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
            command.spawn().expect("run prlctl")
        })
        .collect();
    running.into_iter().map(|child| Ran::of(child.wait_with_output().expect("wait for prlctl"))).collect()
}

/// One has it, and the others are told who.
fn has_one(all: &[Ran], what: &str) {
    let done = all.iter().filter(|ran| ran.code == 0).count();
    assert_eq!(done, 1, "{what}: {}", all.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"));
    for ran in all.iter().filter(|ran| ran.code != 0) {
        ran.failed(78, &["is taken", "container `", "nothing was changed"]);
    }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

#[test]
fn root_of_those_who_want_one_thing_at_once_one_has_it() {
    let Some(host) = RealHost::on_bridge(PROGRAM) else { return };
    let names = ["web01", "web02", "web03", "web04"];
    for (number, name) in (1..).zip(names) {
        host.ok(["create", name, "--ostemplate", "busybox", "--ipadd", &format!("10.9.0.{number}")]);
        host.ok(["set", name, "--netif_add", "eth0"]);
    }
    host.ok(["start", "web01"]);
    for round in 10..13 {
        let all: Vec<_> =
            names.iter().map(|name| words(&["set", name, "--ipadd", &format!("10.9.1.{round}")])).collect();
        has_one(&at_once(&host, &all), "an address");
        let port = format!("tcp:{}:80", 9000 + round);
        let all: Vec<_> = names.iter().map(|name| words(&["set", name, "--forward", &port])).collect();
        has_one(&at_once(&host, &all), "a port");
        let ip = format!("192.0.2.{}/24", 100 + round);
        let all: Vec<_> = names
            .iter()
            .map(|name| words(&["set", name, "--ifname", "eth0", "--network", "br0", "--ipadd", &ip]))
            .collect();
        has_one(&at_once(&host, &all), "an address on a bridge");
        let all: Vec<_> = ["a", "b", "c"]
            .iter()
            .map(|name| {
                let (name, ip) = (format!("new-{name}-{round}"), format!("10.9.2.{round}"));
                words(&["create", &name, "--ostemplate", "busybox", "--ipadd", &ip])
            })
            .collect();
        has_one(&at_once(&host, &all), "an address of one that is new");
    }
}

/// What somebody has written into two `ve.conf`: the first may have it, and neither is kept from being set.
#[test]
fn root_a_port_that_two_have_is_the_one_that_starts_s() {
    let Some(host) = RealHost::on_wire(PROGRAM) else { return };
    for (name, ip) in [("web01", "10.9.0.1"), ("web02", "10.9.0.2")] {
        host.ok(["create", name, "--ostemplate", "busybox", "--ipadd", ip]);
        let conf = host.area(name).join("ve.conf");
        let below = conf.strip_prefix(host.prefix()).expect("below").to_str().expect("text").to_owned();
        let text = std::fs::read_to_string(&conf).expect("it is there") + "FORWARD=\"tcp:8080:80\"\n";
        host.write(&below, &text, 0o600);
    }
    host.ok(["set", "web01", "--onboot", "yes"]);
    host.ok(["start", "web02"]);
    host.run(["start", "web01"])
        .failed(78, &["tcp port 8080 of this host is taken", "container `web02` has it"]);
    host.ok(["set", "web01", "--onboot", "no"]);
    host.ok(["stop", "web02"]);
    host.ok(["start", "web01"]);
}

#[test]
fn root_what_a_whole_network_needs_is_no_container_s() {
    let Some(host) = RealHost::on_wire(PROGRAM) else { return };
    let wire = host.wire();
    for (family, router) in [("-4", "192.0.2.9"), ("-6", "2001:db8:1::9")] {
        wire.ok(&wire.host(), ["ip", family, "route", "add", "default", "via", router]);
    }
    host.ok(["create", "web01", "--ostemplate", "busybox"]);
    host.started("web02");
    for name in ["web01", "web02"] {
        for (ip, because) in [
            ("192.0.2.9", "the gateway of this host"),
            ("2001:db8:1::9", "the gateway of this host"),
            ("192.0.2.0", "the first address of a network"),
            ("2001:db8:1::", "the first address of a network"),
        ] {
            host.run(["set", name, "--ipadd", ip]).failed(78, &[because, "nothing was changed"]);
        }
        host.ok(["set", name, "--ipadd", if name == "web01" { "192.0.2.10" } else { "192.0.2.12" }]);
        // Of what is routed to it the first is as good as any.
        host.ok(["set", name, "--ipadd", if name == "web01" { "198.51.100.0" } else { "2001:db8:9::" }]);
    }
    assert!(wire.reaches("192.0.2.12"));
    // Nor by hand.
    let conf = host.area("web01").join("ve.conf");
    let below = conf.strip_prefix(host.prefix()).expect("below").to_str().expect("text").to_owned();
    let text = std::fs::read_to_string(&conf).expect("it is there").replace("192.0.2.10", "192.0.2.9");
    host.write(&below, &text, 0o600);
    let ran = host.run(["start", "web01"]);
    assert!(ran.code != 0 && ran.stderr.contains("the gateway of this host"), "{ran}");
}
