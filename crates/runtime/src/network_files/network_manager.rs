//! Files of NetworkManager: nm-settings-keyfile(5). It reads none that others than root may read.

use super::{OneEach, Told, Way};

pub(super) const UNIT: &str = "NetworkManager.service";
pub(super) const FILES: OneEach = OneEach {
    directory: "/etc/NetworkManager/system-connections",
    programs: &["/usr/sbin/NetworkManager", "/usr/bin/NetworkManager"],
    beginning: "reroot-",
    ending: ".nmconnection",
    read: "",
    mode: 0o600,
    names,
    text,
};

fn names(text: &str, name: &str) -> bool {
    text.lines().any(|line| {
        line.trim()
            .split_once('=')
            .is_some_and(|(key, value)| key.trim() == "interface-name" && value.trim() == name)
    })
}

fn text(one: &Told) -> String {
    let mut text = format!(
        "[connection]\nid=reroot-{name}\ntype=ethernet\ninterface-name={name}\nautoconnect=true\n\n[ethernet]\n",
        name = one.name
    );
    for (family, is_four) in [("ipv4", true), ("ipv6", false)] {
        let has_any = one.of_family(is_four).next().is_some();
        let method = match (has_any, one.asks_dhcp, is_four || one.is_routed) {
            (true, _, _) => "manual",
            (false, true, _) => "auto",
            (false, false, true) => "disabled",
            (false, false, false) => "link-local",
        };
        text.push_str(&format!("\n[{family}]\nmethod={method}\n"));
        if !is_four {
            text.push_str("addr-gen-mode=eui64\n");
        }
        for (number, address) in (1..).zip(one.of_family(is_four)) {
            text.push_str(&format!("address{number}={}/{}\n", address.ip, address.prefix));
        }
        match one.way(is_four) {
            Some(Way::Router(router)) => text.push_str(&format!("gateway={router}\n")),
            Some(Way::Direct { source }) => {
                let to = if is_four { "0.0.0.0/0" } else { "::/0" };
                text.push_str(&format!("route1={to}\nroute1_options=src={source}\n"));
            }
            None => {}
        }
        let servers = one.servers.iter().filter(|server| server.contains(':') != is_four);
        let servers: String = servers.map(|server| format!("{server};")).collect();
        if !servers.is_empty() {
            text.push_str(&format!("dns={servers}\n"));
        }
        if is_four && !one.domains.is_empty() {
            text.push_str(&format!("dns-search={};\n", one.domains.join(";")));
        }
    }
    text
}
