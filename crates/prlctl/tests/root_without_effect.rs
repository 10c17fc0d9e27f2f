//! What OpenVZ and Virtuozzo can be told of a container, and does nothing here: it is understood, kept, and told once.

use testkit::{Ran, RealHost};

const PROGRAM: &str = env!("CARGO_BIN_EXE_prlctl");

/// Options, what they take, and what is then in `ve.conf`.
const OPTIONS: [(&str, &str, &str); 7] = [
    ("--autocompact", "on", "AUTOCOMPACT=\"yes\""),
    ("--apply-iponly", "no", "APPLY_IPONLY=\"no\""),
    ("--autostart-delay", "30", "AUTOSTART_DELAY=\"30\""),
    ("--ha-enable", "yes", "HA_ENABLE=\"yes\""),
    ("--ha-prio", "4294967295", "HA_PRIO=\"4294967295\""),
    ("--offline-management", "off", "OFFLINE_MANAGEMENT=\"no\""),
    ("--quotaugidlimit", "0", "QUOTAUGIDLIMIT=\"0\""),
];
/// Of one interface; what is then in `NETIF`.
const OF_AN_INTERFACE: [(&str, &str, &str); 3] = [
    ("--configure", "none", "configure=none"),
    ("--dhcp6", "yes", "dhcp6=yes"),
    ("--preventpromisc", "no", "preventpromisc=no"),
];
/// Keys that no option sets.
const KEYS: [&str; 5] = ["JOURNALED_QUOTA", "NETDEV", "DEVICES", "PCI", "TECHNOLOGIES"];

fn vzctl(host: &RealHost, words: &[&str]) -> Ran {
    Ran::of(host.vzctl().args(words).output().expect("run vzctl"))
}

fn conf(host: &RealHost, name: &str) -> String {
    std::fs::read_to_string(host.area(name).join("ve.conf")).expect("it can be read")
}

/// It is done, and said once that nothing comes of it.
fn is_told_once(ran: &Ran, option: &str) {
    assert_eq!(ran.code, 0, "{option}: {ran}");
    assert_eq!(ran.stderr.matches("does nothing here: ").count(), 1, "{option}: {ran}");
    assert!(ran.stderr.contains(&format!("`{option}` is kept in ve.conf and does nothing here: ")), "{ran}");
}

#[test]
fn root_what_does_nothing_is_understood_by_both_programs_kept_and_told_once() {
    let Some(host) = RealHost::new(PROGRAM) else { return };
    let mut create = vec!["create", "web02", "--ostemplate", "busybox"];
    create.extend(OPTIONS.iter().flat_map(|(option, value, _)| [*option, *value]));
    let ran = host.run(create);
    assert_eq!((ran.code, ran.stderr.matches("does nothing here: ").count()), (0, OPTIONS.len()), "{ran}");

    host.ok(["create", "web01", "--ctid", "101", "--ostemplate", "busybox"]);
    for (option, value, line) in OPTIONS {
        assert!(conf(&host, "web02").lines().any(|found| found == line), "{line}");
        is_told_once(&host.run(["set", "web01", option, value]), option);
        assert!(conf(&host, "web01").lines().any(|found| found == line), "{line}");
        is_told_once(&vzctl(&host, &["set", "101", option, value, "--save"]), option);
    }
    host.ok(["set", "web01", "--netif_add", "eth0"]);
    for (option, value, part) in OF_AN_INTERFACE {
        for _ in 0..2 {
            is_told_once(&host.run(["set", "web01", "--ifname", "eth0", option, value]), option);
        }
        is_told_once(&vzctl(&host, &["set", "101", "--ifname", "eth0", option, value, "--save"]), option);
        assert_eq!(conf(&host, "web01").matches(part).count(), 1, "{}", conf(&host, "web01"));
    }
    host.ok(["set", "web01", "--ifname", "eth0", "--type", "bridged"]);
    let before = conf(&host, "web01");
    for words in
        [&["--vnc-mode", "auto", "--vnc-port", "5900", "--vnc-passwd", "secret"][..], &["--vnc-nopasswd"]]
    {
        let ran = host.run([&["set", "web01"], words].concat());
        assert!(ran.code == 0 && ran.stderr.matches("a container has no screen").count() == 1, "{ran}");
    }
    assert_eq!(conf(&host, "web01"), before, "a password of no use is kept nowhere");

    // By whoever asks what of a file is obeyed, each once.
    let path = host.area("web01").join("ve.conf");
    let below = path.strip_prefix(host.prefix()).expect("it is below").to_str().expect("text").to_owned();
    let lines: String = KEYS.iter().map(|key| format!("{key}=\"x\"\n")).collect();
    host.write(&below, &(before + &lines + "HA_PRIO=\"high\"\nNUMFILE=\"9:9\"\n"), 0o600);
    let told = host.ok(["info", "web01"]);
    let of_line =
        |name: &str| told.lines().find(|line| line.trim_start().starts_with(name)).unwrap_or_default();
    let (idle, obeyed) = (of_line("without meaning here"), of_line("obeyed "));
    let keys = OPTIONS.iter().filter_map(|(_, _, line)| line.split_once('=')).map(|(key, _)| key).chain(KEYS);
    for key in keys {
        let is_named = |line: &str| line.split_whitespace().filter(|word| *word == key).count();
        assert_eq!((is_named(idle), is_named(obeyed)), (1, 0), "{key}\n{told}");
        assert_eq!(told.matches(&format!("\n{key}: `")).count(), 1, "{key}\n{told}");
    }
    assert!(idle.contains("NUMFILE") && told.contains("HA_PRIO: `high` does nothing here: "), "{told}");
    let json: serde_json::Value =
        serde_json::from_str(&host.ok(["info", "web01", "-j"])).expect("a document");
    assert_eq!(json["without_effect"].as_array().map(Vec::len), Some(OPTIONS.len() + KEYS.len()), "{json}");
    assert_eq!(json["not_obeyed"], serde_json::json!([]), "{json}");
    // Nor does it keep it from anything.
    let ran = host.run(["start", "web01"]);
    assert!(ran.code == 0 && !ran.stderr.contains("HA_PRIO"), "{ran}");
}

#[test]
fn root_what_does_nothing_is_checked_all_the_same() {
    let Some(host) = RealHost::new(PROGRAM) else { return };
    host.ok(["create", "web01", "--ctid", "101", "--ostemplate", "busybox"]);
    host.ok(["set", "web01", "--netif_add", "eth0"]);
    let before = conf(&host, "web01");
    let bad =
        ["", "-1", "maybe", "1;reboot", "$(id)", "`id`", "99999999999999999999", "1 2", "\n", "0x10", "+1"];
    for (option, _, _) in OPTIONS {
        for value in bad {
            let said = format!("{option}={value}");
            host.run(["set", "web01", &said]).failed(21, &[option, "wanted", "nothing was changed"]);
            vzctl(&host, &["set", "101", &said, "--save"]).failed(21, &[option]);
        }
        vzctl(&host, &["set", "101", option, "1"]).failed(
            if option.contains("prio") || option.contains("delay") || option.contains("quota") {
                31
            } else {
                21
            },
            &[],
        );
        host.run(["set", "web01", option, "yes", option, "no"]).failed(20, &[option]);
    }
    for (option, _, _) in OF_AN_INTERFACE {
        for value in ["", "-1", "maybe", "none,network=br9", "yes;ifname=eth1", "$(id)"] {
            let said = format!("{option}={value}");
            host.run(["set", "web01", "--ifname", "eth0", &said])
                .failed(21, &[option, "nothing was changed"]);
        }
    }
    for words in
        [["--vnc-mode", "on"], ["--vnc-port", "65536"], ["--vnc-port", "-1"], ["--vnc-address", "here"]]
    {
        let ran = host.run(["set", "web01", &format!("{}={}", words[0], words[1])]);
        assert!((20..=21).contains(&ran.code) && ran.stderr.contains(words[0]), "{ran}");
    }
    // An interface is no device here, and that is said.
    for (option, which) in [
        ("--device-add", "net"),
        ("--device-set", "net0"),
        ("--device-connect", "net0"),
        ("--device-disconnect", "net0"),
        ("--device-del", "net0"),
    ] {
        host.run(["set", "web01", option, which])
            .failed(21, &[option, "wanted", "--netif_", "nothing was changed"]);
    }
    host.run(["set", "web01", "--ifname", "eth0", "--type", "routed"])
        .failed(21, &["what is routed are its `--ipadd`"]);
    assert_eq!(conf(&host, "web01"), before);
}
