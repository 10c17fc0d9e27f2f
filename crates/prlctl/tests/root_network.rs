//! Addresses: routed, a container's own and nobody else's, there with it and gone with it.

use std::time::Duration;

use testkit::RealHost;

const PROGRAM: &str = env!("CARGO_BIN_EXE_prlctl");
const FOUR: &str = "192.0.2.50";
const SIX: &str = "2001:db8:1::50";

/// A busybox with these addresses that runs, on a host with a neighbour.
fn with_addresses(addresses: &[&str]) -> Option<RealHost> {
    let host = RealHost::on_wire(PROGRAM)?;
    let mut words = vec!["create", "web01", "--ostemplate", "busybox"];
    words.extend(addresses.iter().flat_map(|address| ["--ipadd", address]));
    host.ok(words);
    host.ok(["start", "web01"]);
    Some(host)
}

/// It is answered by that address.
fn calls(host: &RealHost, container: &str, options: &str, ip: &str) -> bool {
    let line = format!("ping -c 3 -A -W 2 {options} {ip}");
    let ran = host.run(["exec", container, &line]);
    ran.stdout.contains("packets received") && !ran.stdout.contains(" 0 packets received")
}

/// What there is on the host of any container.
fn left(host: &RealHost) -> String {
    let wire = host.wire();
    let look = "ip -o link | grep -o 'vz[0-9a-f]*'; ip neigh show proxy; ip -6 neigh show proxy; ip route show proto 118; ip -6 route show proto 118; \
                nft list ruleset | tr '\\n' ' ' | grep -o 'elements = {[^}]*}'; :";
    wire.ok(&wire.host(), ["sh", "-c", look])
}

#[test]
fn root_addresses_are_there_with_the_container_and_gone_with_it() {
    let Some(host) = with_addresses(&[FOUR, SIX]) else { return };
    let works = |when: &str| {
        for ip in [FOUR, SIX] {
            assert!(host.wire().reaches(ip), "{ip} is not reached {when}\n{}", left(&host));
        }
        for ip in ["192.0.2.9", "192.0.2.1", "2001:db8:1::9", "2001:db8:1::1"] {
            assert!(calls(&host, "web01", "", ip), "{ip} does not answer {when}\n{}", left(&host));
        }
    };
    works("at first");
    assert!(host.ok(["list", "-o", "name,ip"]).contains(FOUR));
    let init = |host: &RealHost| {
        host.ok(["list", "-i", "web01"]).lines().find(|line| line.starts_with("Init")).map(str::to_owned)
    };
    let before = init(&host);
    host.run(["exec", "web01", "reboot"]);
    host.wait_until("it has rebooted", || init(&host).is_some_and(|now| Some(now) != before));
    host.wait_until("its interface is there", || {
        host.run(["exec", "web01", "ip addr show venet0"]).stdout.contains(FOUR)
    });
    works("after a reboot");
    host.ok(["reinstall", "web01"]);
    works("after a reinstall");
    host.ok(["restart", "web01"]);
    works("after a restart");
    host.exec("web01", "poweroff");
    host.wait_until("it is off", || host.ok(["status", "web01"]).contains("stopped"));
    host.wait_until("nothing of it is left", || left(&host).is_empty());
}

#[test]
fn root_no_address_is_used_but_its_own() {
    let Some(host) = with_addresses(&[FOUR, SIX]) else { return };
    host.ok([
        "create",
        "web02",
        "--ostemplate",
        "busybox",
        "--ipadd",
        "192.0.2.60",
        "--ipadd",
        "2001:db8:1::60",
    ]);
    host.ok(["start", "web02"]);
    // The control: its own, and the other's is there.
    assert!(
        calls(&host, "web02", "-I 192.0.2.60", "192.0.2.9")
            && calls(&host, "web02", "-I 2001:db8:1::60", "2001:db8:1::9")
    );
    assert!(calls(&host, "web02", "", FOUR), "one container may speak to another");
    // Its root takes what it likes, also what is the other's, the host's, the neighbour's and nobody's, and turns on what the host has turned off.
    host.exec("web02", "ip link set venet0 arp on; ip link set venet0 address 02:00:00:00:00:01");
    for (ip, to) in [
        (FOUR, "192.0.2.9"),
        (FOUR, "192.0.2.1"),
        ("192.0.2.77", "192.0.2.9"),
        ("192.0.2.1", "192.0.2.9"),
        ("192.0.2.9", FOUR),
        ("10.1.2.3", "192.0.2.1"),
        (SIX, "2001:db8:1::9"),
        ("2001:db8:1::77", "2001:db8:1::9"),
        ("fd00::5", "2001:db8:1::1"),
    ] {
        host.exec(
            "web02",
            &format!("ip addr add {ip}/32 dev venet0 2>/dev/null || ip addr add {ip}/128 dev venet0"),
        );
        assert!(!calls(&host, "web02", &format!("-I {ip}"), to), "web02 speaks to {to} as {ip}");
        host.exec(
            "web02",
            &format!("ip addr del {ip}/32 dev venet0 2>/dev/null || ip addr del {ip}/128 dev venet0"),
        );
    }
    // Nobody has learnt anything of it, and the other has lost nothing.
    let wire = host.wire();
    let learnt = wire.ok(&wire.host(), ["sh", "-c", "ip neigh | grep vz | grep -v NOARP; :"]);
    assert!(!learnt.contains("REACHABLE") && !learnt.contains("STALE"), "{learnt}");
    assert!(wire.reaches(FOUR) && wire.reaches(SIX));
}

#[test]
fn root_addresses_come_and_go_while_it_runs() {
    let Some(host) = with_addresses(&[FOUR]) else { return };
    host.ok(["set", "web01", "--ipadd", "192.0.2.51", "--ipadd", SIX, "--ipdel", FOUR]);
    assert!(host.wire().reaches("192.0.2.51") && host.wire().reaches(SIX));
    assert!(!host.wire().reaches(FOUR));
    assert!(calls(&host, "web01", "", "192.0.2.9"), "its way out has another source now");
    for (words, code, said) in [
        (&["--ipadd", "192.0.2.1"][..], 78, "an address of this host itself"),
        (&["--ipadd", "192.0.2.300"], 71, "is no address"),
        (&["--ipadd", "127.0.0.5"], 71, "can be no container's own"),
        (&["--ipadd", "169.254.1.1"], 71, "can be no container's own"),
        (&["--ipadd", "0.1.2.3"], 71, "can be no container's own"),
        (&["--ipadd", "240.0.0.1/8"], 71, "can be no container's own"),
        (&["--ipadd", "192.0.2.255"], 78, "the broadcast address of a network that this host is in"),
        (&["--ipdel", FOUR], 71, "it is not among its addresses"),
        (&["--numproc", "77", "--ipadd", "192.0.2.1"], 78, "nothing was changed"),
    ] {
        host.run([&["set", "web01"], words].concat()).failed(code, &[said, "nothing was changed"]);
    }
    let conf = std::fs::read_to_string(host.area("web01").join("ve.conf")).expect("it can be read");
    assert!(!conf.contains("NUMPROC"), "{conf}");
    for ip in ["192.0.2.51", SIX] {
        host.run(["create", "web02", "--ostemplate", "busybox", "--ipadd", ip])
            .failed(78, &["container `web01` has it"]);
    }
    // Nor by hand: what is written is told when it is to be.
    host.ok(["create", "web02", "--ostemplate", "busybox"]);
    let conf = host.area("web02").join("ve.conf");
    let text = std::fs::read_to_string(&conf).expect("it can be read") + "IP_ADDRESS=\"192.0.2.51\"\n";
    let below =
        conf.strip_prefix(host.prefix()).expect("it is below").to_str().expect("it is text").to_owned();
    host.write(&below, &text, 0o600);
    let ran = host.run(["start", "web02"]);
    assert_ne!(ran.code, 0);
    assert!(ran.stderr.contains("192.0.2.51 is routed to container"), "{ran}");
    assert!(host.wire().reaches("192.0.2.51"), "and its holder has it still");

    host.ok(["set", "web01", "--ipdel", "all"]);
    assert_eq!(left(&host), "");
    assert!(!host.run(["exec", "web01", "ip link show venet0"]).stdout.contains("venet0"));
    host.ok(["set", "web01", "--ipadd", FOUR]);
    assert!(host.wire().reaches(FOUR));
}

/// What its root does to its own end is its own affair: it can be given addresses all the same.
#[test]
fn root_a_container_that_has_renamed_or_removed_its_interface_gets_addresses() {
    let Some(host) = with_addresses(&[FOUR]) else { return };
    host.exec("web01", "ip link set venet0 down; ip link set venet0 name other0; ip addr flush dev other0");
    host.ok(["set", "web01", "--ipadd", "192.0.2.51", "--ipdel", FOUR]);
    assert!(host.wire().reaches("192.0.2.51") && !host.wire().reaches(FOUR));
    host.exec("web01", "ip link del other0");
    assert!(!host.wire().reaches("192.0.2.51"));
    host.ok(["set", "web01", "--ipadd", SIX]);
    assert!(host.wire().reaches("192.0.2.51") && host.wire().reaches(SIX));
    host.exec("web01", "ip link del venet0");
    host.ok(["stop", "web01"]);
    assert_eq!(left(&host), "");
}

#[test]
fn root_private_addresses_are_translated_on_their_way_outside() {
    let Some(host) = with_addresses(&["10.9.0.5", "fd00:1::5"]) else { return };
    for ip in ["192.0.2.9", "2001:db8:1::9"] {
        assert!(calls(&host, "web01", "", ip), "{ip}\n{}", left(&host));
    }
    let conf = host.area("web01").join("ve.conf");
    let below =
        conf.strip_prefix(host.prefix()).expect("it is below").to_str().expect("it is text").to_owned();
    let text = std::fs::read_to_string(&conf).expect("it can be read") + "NAT=\"no\"\n";
    host.write(&below, &text, 0o600);
    host.ok(["restart", "web01"]);
    assert!(calls(&host, "web01", "", "192.0.2.1"), "the host itself has a way to it");
    assert!(!calls(&host, "web01", "", "192.0.2.9"), "the neighbour knows no way back");
}

#[test]
fn root_what_a_crash_leaves_of_a_network_is_put_right() {
    let Some(host) = with_addresses(&[FOUR, SIX]) else { return };
    let id = host.area("web01").file_name().expect("it has a name").to_string_lossy().into_owned();
    let state = std::fs::read_to_string(host.path(&format!("run/vz/{id}/state.json"))).expect("it runs");
    let state: serde_json::Value = serde_json::from_str(&state).expect("a document");
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
    assert!(host.wire().reaches(FOUR) && host.wire().reaches(SIX));
    host.ok(["stop", "web01", "--kill"]);
    assert_eq!(left(&host), "");
}

/// What the new root has said to others, and others to it, before it was taken.
fn on_probation(host: &RealHost, words: &[&str]) -> (bool, bool) {
    // It calls out, and then listens until somebody speaks to it, or has had his time to.
    host.script(
        "etc/vz/conf/vps.configure",
        "#!/bin/sh\nping -c 3 -A -W 2 192.0.2.9 >/dev/null && touch /root/out\nnc -l -p 700 -w 6 </dev/null >/root/in\nexit 0\n",
    );
    std::thread::scope(|scope| {
        let wire = host.wire();
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let speaker = scope.spawn(move || {
            while stopped.recv_timeout(Duration::from_millis(20))
                == Err(std::sync::mpsc::RecvTimeoutError::Timeout)
            {
                let words = ["sh", "-c", "echo hello | busybox nc -w 1 192.0.2.50 700"];
                drop(wire.run(&wire.outside(), words));
            }
        });
        let ran = host.run([&["reinstall", "web01"], words].concat());
        drop(stop);
        speaker.join().expect("it speaks");
        assert_eq!(ran.code, 0, "{ran}");
    });
    let there = host.exec("web01", "ls /root/out 2>/dev/null; cat /root/in");
    (there.contains("out"), there.contains("hello"))
}

#[test]
fn root_ports_of_the_host_lead_to_it() {
    let Some(host) = with_addresses(&["10.9.0.5", "fd00:9::5"]) else { return };
    let serve = |port: u16, text: &str| {
        host.exec(
            "web01",
            &format!("mkdir -p /srv/{port}; echo {text} > /srv/{port}/said; httpd -p {port} -h /srv/{port}"),
        );
    };
    serve(80, "eighty");
    serve(81, "eighty-one");
    let wire = host.wire();
    let asked = |from: &std::path::Path, whom: &str| -> Option<String> {
        let (ip, port) = whom.rsplit_once(':').expect("an address and a port");
        let ip = ip.trim_matches(['[', ']']);
        let line = format!("printf 'GET /said HTTP/1.0\\r\\n\\r\\n' | busybox nc -w 3 {ip} {port}");
        let ran = wire.run(from, ["sh", "-c", &line]);
        (ran.code == 0).then(|| ran.stdout.lines().last().unwrap_or_default().to_owned())
    };
    let outside = |whom: &str| asked(&wire.outside(), whom);
    assert_eq!(outside("192.0.2.1:8080"), None);
    host.ok(["set", "web01", "--forward", "tcp:8080:80 tcp:81"]);
    for (whom, said) in
        [("192.0.2.1:8080", "eighty"), ("192.0.2.1:81", "eighty-one"), ("[2001:db8:1::1]:8080", "eighty")]
    {
        assert_eq!(outside(whom).as_deref(), Some(said), "{whom}");
    }
    // From the host itself, too, and not to what is only its own.
    assert_eq!(asked(&wire.host(), "192.0.2.1:8080").as_deref(), Some("eighty"));
    assert_eq!(asked(&wire.host(), "127.0.0.1:8080"), None);
    // It changes at once, and is there after all that may happen to it.
    host.ok(["set", "web01", "--forward", "tcp:8080:81"]);
    assert_eq!(outside("192.0.2.1:8080").as_deref(), Some("eighty-one"));
    assert_eq!(outside("192.0.2.1:81"), None);
    wire.ok(&wire.host(), ["nft", "flush", "ruleset"]);
    host.ok(["recover"]);
    assert_eq!(outside("192.0.2.1:8080").as_deref(), Some("eighty-one"));
    host.ok(["restart", "web01"]);
    serve(81, "again");
    assert_eq!(outside("192.0.2.1:8080").as_deref(), Some("again"));
    // Nobody else gets it, and nobody of the host loses it.
    let other = ["create", "web02", "--ostemplate", "busybox", "--ipadd", "10.9.0.6", "--forward"];
    let create = |forward: &str| host.run(other.into_iter().chain([forward]));
    create("tcp:8080:80").failed(78, &["tcp port 8080", "container `web01` has it"]);
    let mut listener =
        wire.command(&wire.host()).args(["busybox", "nc", "-l", "-p", "8088"]).spawn().expect("run nc");
    host.wait_until("somebody listens", || {
        wire.ok(&wire.host(), ["cat", "/proc/net/tcp", "/proc/net/tcp6"]).contains(":1F98 ")
    });
    create("tcp:8088:80").failed(78, &["a program of the host listens"]);
    listener.kill().and_then(|()| listener.wait()).expect("end nc");
    let ran = create("tcp:8081:80");
    assert_eq!(ran.code, 0, "{ran}");
    host.run(["set", "web02", "--ipdel", "all"]).failed(21, &["no address"]);
    host.run(["create", "web03", "--ostemplate", "busybox", "--forward", "tcp:9"]).failed(21, &["--ipadd"]);
    // It goes with the container, and what is others' stays.
    host.ok(["start", "web02"]);
    host.ok(["stop", "web01"]);
    assert_eq!(outside("192.0.2.1:8080"), None);
    let maps = wire.ok(&wire.host(), ["nft", "list", "ruleset"]);
    assert!(maps.contains("tcp . 8081 : 10.9.0.6 . 80") && !maps.contains("10.9.0.5"), "{maps}");
}

#[test]
fn root_what_goes_in_and_out_is_counted() {
    let Some(host) = with_addresses(&[FOUR]) else { return };
    let counts = || -> [u64; 4] {
        let text = host.ok(["statistics", "web01", "--filter", "net", "-j"]);
        let all: serde_json::Value = serde_json::from_str(&text).expect("statistics are JSON");
        ["net.bytes_in", "net.bytes_out", "net.packets_in", "net.packets_out"]
            .map(|name| all[0][name].as_u64().expect("a count"))
    };
    let before = counts();
    // Ten of 1,000 bytes and their answers, of which there are three headers more; and whatever else is said meanwhile.
    let ran = host.run(["exec", "web01", "ping -c 10 -A -s 1000 192.0.2.9"]);
    assert!(ran.stdout.contains("10 packets received"), "{ran}");
    let after = counts();
    for (number, (before, after)) in before.into_iter().zip(after).enumerate() {
        let least = if number < 2 { 10_000..=12_000 } else { 10..=30 };
        assert!(least.contains(&(after - before)), "{number}: {before} {after}");
    }
}

#[test]
fn root_a_new_root_on_probation_calls_and_is_not_called() {
    let Some(host) = with_addresses(&[FOUR]) else { return };
    assert_eq!(on_probation(&host, &[]), (true, false), "outgoing");
    assert!(host.wire().reaches(FOUR), "it is its root now");
    assert_eq!(on_probation(&host, &["--probation-network", "full"]), (true, true), "full");
    assert_eq!(on_probation(&host, &["--probation-network", "none"]), (false, false), "none");
    assert!(host.wire().reaches(FOUR), "it is its root now");
}

/// Who killed its monitor has not kept it from being reached for good.
#[test]
fn root_a_probation_without_a_monitor_ends_too() {
    let Some(host) = with_addresses(&[FOUR]) else { return };
    host.script(
        "etc/vz/conf/vps.configure",
        "#!/bin/sh\ntouch /root/begun\nfor i in $(seq 600); do test -e /root/begun || exit 0; sleep 0.1; done\nexit 1\n",
    );
    let id = host.area("web01").file_name().expect("it has a name").to_string_lossy().into_owned();
    let pid_of = |who: &str| -> Option<i32> {
        let state = std::fs::read_to_string(host.path(&format!("run/vz/{id}/state.json"))).ok()?;
        let state: serde_json::Value = serde_json::from_str(&state).ok()?;
        state[who]["pid"].as_i64().map(|pid| pid as i32)
    };
    std::thread::scope(|scope| {
        let reinstall = scope.spawn(|| host.run(["reinstall", "web01"]));
        // Nobody but it has the container now: neither can a command be run in it.
        let inside = || format!("/proc/{}/root/root", pid_of("init").unwrap_or_default());
        host.wait_until("its script runs", || {
            std::fs::exists(inside() + "/begun").is_ok_and(|is_there| is_there)
        });
        assert!(!host.wire().reaches(FOUR), "it is on probation");
        let monitor = pid_of("monitor").and_then(rustix::process::Pid::from_raw).expect("it has one");
        rustix::process::kill_process(monitor, rustix::process::Signal::KILL).expect("it is there");
        std::fs::remove_file(inside() + "/begun").expect("it is there");
        let ran = reinstall.join().expect("it ends");
        assert_eq!(ran.code, 0, "{ran}");
        assert!(!ran.stderr.contains("warning:"), "{ran}");
    });
    assert!(host.wire().reaches(FOUR));
}

/// Debian's own `nftables.conf` begins with that.
#[test]
fn root_a_filter_that_somebody_has_flushed_comes_back() {
    let Some(host) = with_addresses(&[FOUR, SIX]) else { return };
    let wire = host.wire();
    let flush = || drop(wire.ok(&wire.host(), ["nft", "flush", "ruleset"]));
    host.exec("web01", "ip addr add 192.0.2.77/32 dev venet0; ip addr add 2001:db8:1::77/128 dev venet0");
    let is_kept = |families: &[&str]| {
        families.iter().all(|family| match *family {
            "four" => !calls(&host, "web01", "-I 192.0.2.77", "192.0.2.1"),
            _ => !calls(&host, "web01", "-I 2001:db8:1::77", "2001:db8:1::1"),
        })
    };
    assert!(is_kept(&["four", "six"]));
    flush();
    assert!(is_kept(&["four"]), "the kernel's own look at where it comes from");
    host.ok(["recover"]);
    assert!(is_kept(&["four", "six"]), "{}", left(&host));
    assert!(wire.reaches(FOUR) && wire.reaches(SIX));
    // By whatever is next told to it, for all of them.
    flush();
    host.ok(["create", "web02", "--ostemplate", "busybox", "--ipadd", "192.0.2.60"]);
    host.ok(["start", "web02"]);
    assert!(is_kept(&["four", "six"]), "{}", left(&host));
    flush();
    for name in ["web01", "web02"] {
        host.ok(["stop", name]);
    }
    assert_eq!(left(&host), "");
}

/// A host that was no router is none for its neighbours since it has containers.
#[test]
fn root_a_host_that_forwards_for_containers_forwards_for_nobody_else() {
    let Some(host) = RealHost::on_wire(PROGRAM) else { return };
    let wire = host.wire();
    let inside = |line: &str| wire.ok(&wire.host(), ["sh", "-c", line]);
    let outside = |line: &str| wire.ok(&wire.outside(), ["sh", "-c", line]);
    // A second network of the host's, with somebody in it.
    inside(
        "echo 0 >/proc/sys/net/ipv4/ip_forward; ip link add eth1 type veth peer name eth2; echo 1 >/proc/sys/net/ipv6/conf/eth1/disable_ipv6; ip addr add 198.51.100.1/24 dev eth1; ip link set eth1 up; ip link set eth2 up",
    );
    outside("ip route add 198.51.100.0/24 via 192.0.2.1");
    let sent =
        || -> u64 { inside("awk '/eth1:/ { print $11 }' /proc/net/dev").trim().parse().expect("a number") };
    let routed = || {
        inside("ip neigh replace 198.51.100.7 lladdr 02:00:00:00:00:07 dev eth1");
        let before = sent();
        wire.run(&wire.outside(), ["busybox", "ping", "-c", "3", "-A", "-W", "1", "198.51.100.7"]);
        sent() > before
    };
    assert!(!routed());
    host.ok(["create", "web01", "--ostemplate", "busybox", "--ipadd", FOUR]);
    let ran = host.run(["start", "web01"]);
    assert!(
        ran.stderr.contains("net.ipv4.ip_forward was 0, and is 1 now, for what goes to containers"),
        "{ran}"
    );
    assert!(wire.reaches(FOUR) && calls(&host, "web01", "", "192.0.2.9"));
    assert!(!routed());
    // The control; also where no container is left that has addresses.
    inside("nft flush ruleset");
    assert!(routed());
    host.ok(["stop", "web01"]);
    inside("nft flush ruleset");
    host.ok(["restore-filter"]);
    assert!(!routed());
    // What somebody makes later is his.
    inside(
        "ip link add eth3 type veth peer name eth4; echo 1 >/proc/sys/net/ipv6/conf/eth3/disable_ipv6; ip link set eth3 up; ip link set eth4 up; \
            ip addr del 198.51.100.1/24 dev eth1; ip addr add 198.51.100.1/24 dev eth3; ip neigh replace 198.51.100.7 lladdr 02:00:00:00:00:07 dev eth3",
    );
    let sent =
        || inside("awk '/eth3:/ { print $11 }' /proc/net/dev").trim().parse::<u64>().expect("a number");
    let before = sent();
    wire.run(&wire.outside(), ["busybox", "ping", "-c", "3", "-A", "-W", "1", "198.51.100.7"]);
    assert!(sent() > before);
}

/// The kernel remembers connections for all of the host in one table.
#[test]
fn root_connections_that_are_begun_without_end_leave_room_for_others() {
    let Some(host) = with_addresses(&[FOUR]) else { return };
    let wire = host.wire();
    let id = host.area("web01").file_name().expect("it has a name").to_string_lossy().into_owned();
    let state = std::fs::read_to_string(host.path(&format!("run/vz/{id}/state.json"))).expect("it runs");
    let state: serde_json::Value = serde_json::from_str(&state).expect("a document");
    let inside = std::path::PathBuf::from(format!("/proc/{}/ns/net", state["init"]["pid"]));
    let began = std::time::Instant::now();
    let flood = "for port in $(seq 1 25000); do echo >/dev/udp/192.0.2.9/$port; done 2>/dev/null; :";
    wire.ok(&inside, ["bash", "-c", flood]);
    // One that nobody answers is one, however much is sent.
    let arrived = || -> u64 {
        let line = wire.ok(&wire.outside(), ["sh", "-c", "awk '/eth0:/ { print $3 }' /proc/net/dev"]);
        line.trim().parse().expect("a number")
    };
    let before = arrived();
    wire.ok(
        &inside,
        [
            "bash",
            "-c",
            "exec 3>/dev/udp/192.0.2.9/9; for i in $(seq 25000); do echo $i >&3; done 2>/dev/null; :",
        ],
    );
    let count = arrived() - before;
    assert!(count >= 24_000, "{count} of 25000 packets");
    let most = 10_000 + 1000 * (began.elapsed().as_secs() + 1) + 100;
    let count = wire.ok(&wire.host(), ["cat", "/proc/sys/net/netfilter/nf_conntrack_count"]);
    let count: u64 = count.trim().parse().expect("a number");
    assert!((5_000..=most).contains(&count), "{count} connections, at most {most} in {:?}", began.elapsed());
    assert!(wire.reaches(FOUR), "others reach it all the same");
}
