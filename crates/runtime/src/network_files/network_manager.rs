//! Files of NetworkManager: nm-settings-keyfile(5). It reads none that others than root may read.

use tree::TreeError;

use super::{Inside, Told, Way};

pub(super) const DIRECTORY: &str = "/etc/NetworkManager/system-connections";
pub(super) const UNIT: &str = "NetworkManager.service";
const PROGRAMS: [&str; 2] = ["/usr/sbin/NetworkManager", "/usr/bin/NetworkManager"];
pub(super) const BEGINNING: &str = "reroot-";
pub(super) const ENDING: &str = ".nmconnection";

pub(super) fn is_there(inside: &Inside<'_>) -> Result<bool, TreeError> {
    Ok(inside.has_directory(DIRECTORY)? && inside.has_any(&PROGRAMS)?)
}

pub(super) fn write(inside: &mut Inside<'_>, all: &[Told]) -> Result<(), TreeError> {
    if !inside.has_directory(DIRECTORY)? {
        return Ok(());
    }
    let all = if is_there(inside)? { all } else { &[] };
    let taken = inside.taken(DIRECTORY, "", all, names)?;
    let all = all.iter().filter(|one| !taken.contains(&one.name));
    let wanted: Vec<(String, String)> =
        all.map(|one| (format!("{BEGINNING}{}{ENDING}", one.name), text(one))).collect();
    let there = inside.files(DIRECTORY, ENDING)?;
    inside.put(DIRECTORY, &there, &wanted, 0o600)
}

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
