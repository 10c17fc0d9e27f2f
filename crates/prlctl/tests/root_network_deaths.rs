//! `prlctl set` dies while it changes a network: the next says what the kernel has been told, and all of it.
//!
//! It dies where it speaks to the packet filter, before and after: there is what it has written down, and what holds, at its most different.

use std::path::{Path, PathBuf};
use std::process::Command;

use testkit::{Ran, RealHost};

const PROGRAM: &str = env!("CARGO_BIN_EXE_prlctl");
const NFT: &str = "/usr/sbin/nft";
/// Of [`Death::set`]: died of it.
const KILLED: i32 = 128 + 9;

/// At which of its words to the packet filter.
#[derive(Debug, Clone, Copy)]
struct Death {
    /// From 1.
    word: usize,
    /// Or after it was heard.
    is_before: bool,
}

impl Death {
    /// `prlctl set web01` with these words, whose `nft` kills it.
    fn set(self, host: &RealHost, words: &[&str]) -> Ran {
        let [real, count, shim] = ["real-nft", "nft-count", "nft-shim"].map(|name| host.path(name));
        if !real.exists() {
            let copied = Command::new("cp").arg(NFT).arg(&real).status();
            assert!(copied.expect("run cp").success());
        }
        host.write("nft-count", "0", 0o600);
        let [real, count] = [real, count].map(|path| path.display().to_string());
        let Death { word, is_before } = self;
        let (before, after) = if is_before { ("kill -9 $PPID; exit 1", ":") } else { (":", "kill -9 $PPID") };
        let text = format!(
            "#!/bin/sh\nword=$(($(cat {count}) + 1)); echo $word >{count}\nif [ $word = {word} ]; then {before}; fi\n{real} \"$@\"; code=$?\n\
             if [ $word = {word} ]; then {after}; fi\nexit $code\n"
        );
        host.script("nft-shim", &text);
        let wire = host.wire();
        let mut command = wire.command(&wire.host());
        // The others go on with the host's own.
        command.args(["unshare", "--mount", "--propagation", "private", "sh", "-c"]);
        command.arg(format!("mount --bind {} {NFT} && exec \"$@\"", shim.display())).arg("sh");
        command.args([PROGRAM, "set", "web01"]).args(words).env("REROOT_PREFIX", host.prefix());
        Ran::of(command.output().expect("run nsenter"))
    }
}

fn record(host: &RealHost) -> PathBuf {
    let id = host.area("web01").file_name().expect("it has a name").to_owned();
    host.path("run/vz").join(id).join("network.json")
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// What the kernel says of the container's network, and what is written down of it.
fn all(host: &RealHost) -> Vec<String> {
    let wire = host.wire();
    let look = "nft list ruleset | sed '/set beginning {/,/^[[:space:]]}$/d'; ip route show proto 118; ip -6 route show proto 118; ip neigh show proxy; ip -6 neigh show proxy; \
                ip -o link show master br0 | cut -d: -f2 | cut -d@ -f1; bridge fdb show br br0 | grep 'master br0' | grep -e static -e permanent; :";
    let mut lines: Vec<String> =
        wire.ok(&wire.host(), ["sh", "-c", look]).lines().map(str::to_owned).collect();
    let inside = host.exec("web01", "ip -o addr | cut -d: -f2-; ip route; ip -6 route");
    // An address that nobody else has been asked for yet is there all the same.
    lines.extend(inside.lines().map(|line| line.replace(" tentative", "").trim_end().to_owned()));
    lines.push(text(&record(host)));
    lines.retain(|line| !line.is_empty());
    lines.sort();
    lines
}

#[track_caller]
fn assert_all(host: &RealHost, expected: &[String], when: &str) {
    let now = all(host);
    let without = |list: &[String], of: &[String]| -> Vec<String> {
        list.iter().filter(|line| !of.contains(line)).cloned().collect()
    };
    assert!(
        now == expected,
        "{when}\nthere: {:#?}\nnot there: {:#?}",
        without(&now, expected),
        without(expected, &now)
    );
}

fn left(host: &RealHost) -> String {
    let wire = host.wire();
    let look = "ip -o link | grep -e ' vz' -e 'alias reroot'; nft list ruleset | tr '\\n' ' ' | grep -o 'elements = {[^}]*}' | grep -v br0; \
                nft list ruleset | grep 'limit vz'; :";
    wire.ok(&wire.host(), ["sh", "-c", look])
}

/// A container with a routed address and interfaces on a bridge, of which this is changed to that, and back.
fn dies(first: &[&str], there: &[&str], back: &[&str]) {
    let Some(host) = RealHost::on_bridge(PROGRAM) else { return };
    host.ok(["create", "web01", "--ostemplate", "busybox"]);
    for (name, ip) in [("eth0", "192.0.2.50/24"), ("eth1", "192.0.2.51/24")] {
        let netif = format!("{name},02:00:00:00:00:5{}", &name[3..]);
        host.ok(["set", "web01", "--netif_add", &netif]);
        host.ok(["set", "web01", "--ifname", name, "--network", "br0", "--ipadd", ip]);
    }
    host.ok(["start", "web01"]);
    let set = |words: &[&str]| host.ok([&["set", "web01"], words].concat());
    set(first);
    let was = all(&host);
    set(there);
    let is = all(&host);
    assert_ne!(was, is, "it changes nothing");
    set(back);
    assert_all(&host, &was, "there and back");

    let mut deaths = 0;
    'all: for word in 1.. {
        for is_before in [true, false] {
            let death = Death { word, is_before };
            let ran = death.set(&host, there);
            if ran.code == 0 {
                // It speaks to it no more often.
                assert!(word > 1);
                break 'all;
            }
            assert_eq!(ran.code, KILLED, "{death:?}: {ran}");
            deaths += 1;
            // Whatever is changed next, all is as it is written in ve.conf.
            set(&["--numproc", &(100 + deaths).to_string()]);
            assert_all(&host, &was, &format!("{death:?} and something else"));

            assert_eq!(death.set(&host, there).code, KILLED, "{death:?}");
            set(there);
            assert_all(&host, &is, &format!("{death:?} and once more"));
            set(back);
            assert_all(&host, &was, &format!("{death:?}, once more and back"));

            assert_eq!(death.set(&host, there).code, KILLED, "{death:?}");
            host.ok(["stop", "web01"]);
            assert_eq!(left(&host), "", "{death:?} and stopped");
            host.ok(["start", "web01"]);
            assert_all(&host, &was, &format!("{death:?} and started again"));
        }
    }
    assert!(deaths >= 2);
}

#[test]
fn root_a_death_over_a_rate_leaves_no_other_one() {
    let back = ["--rate", "*:1:100000"];
    dies(&[&["--ipadd", "198.51.100.50"][..], &back].concat(), &["--rate", "*:1:200000"], &back);
}

#[test]
fn root_a_death_over_the_first_rate_leaves_none() {
    dies(&["--ipadd", "198.51.100.50"], &["--rate", "*:1:200000"], &["--rate", ""]);
}

#[test]
fn root_a_death_over_a_forward_leaves_no_port_open() {
    let back = ["--forward", "tcp:8080:80"];
    let there = ["--forward", "tcp:8080:81,tcp:8081:80"];
    dies(&[&["--ipadd", "198.51.100.50"][..], &back].concat(), &there, &back);
}

#[test]
fn root_a_death_over_addresses_leaves_those_that_it_had() {
    let back = ["--ipdel", "all", "--ipadd", "198.51.100.50"];
    dies(&["--ipadd", "198.51.100.50"], &["--ipadd", "198.51.100.51", "--ipdel", "198.51.100.50"], &back);
}

#[test]
fn root_a_death_over_an_interface_leaves_it_as_it_was() {
    let there = [
        "--ifname",
        "eth1",
        "--mac",
        "02:00:00:00:00:99",
        "--ipdel",
        "192.0.2.51",
        "--ipadd",
        "192.0.2.52/24",
    ];
    let back =
        ["--ifname", "eth1", "--mac", "02:00:00:00:00:51", "--ipdel", "all", "--ipadd", "192.0.2.51/24"];
    dies(&["--ipadd", "198.51.100.50"], &there, &back);
}

#[test]
fn root_a_death_over_a_new_interface_leaves_none_of_it() {
    let there = ["--netif_add", "eth2,02:00:00:00:00:52", "--rate", "*:1:1000"];
    dies(&["--ipadd", "198.51.100.50"], &there, &["--netif_del", "eth2", "--rate", ""]);
}
