//! Files of systemd-networkd: systemd.network(5).
//!
//! What it finds at an interface it takes for somebody else's, and drops, unless it is in the file; with `KeepConfiguration=` it is left in any case. Ours come first by
//! their name: an image's `Name=*` is about what is there if nobody says anything else.

use super::{OneEach, Told, Way};

pub(super) const UNIT: &str = "systemd-networkd.service";
pub(super) const FILES: OneEach = OneEach {
    directory: "/etc/systemd/network",
    programs: &["/usr/lib/systemd/systemd-networkd", "/lib/systemd/systemd-networkd"],
    beginning: "00-reroot-",
    ending: ".network",
    read: ".network",
    mode: 0o644,
    names,
    text,
};

/// It is named there itself; a pattern that it fits is no word about it.
fn names(text: &str, name: &str) -> bool {
    let values =
        text.lines().filter_map(|line| line.trim().strip_prefix("Name")?.trim_start().strip_prefix('='));
    values.flat_map(str::split_whitespace).any(|word| word == name)
}

fn text(one: &Told) -> String {
    let mut text = format!("[Match]\nName={}\n", one.name);
    if one.is_routed {
        text.push_str("\n[Link]\nARP=no\n");
    }
    text.push_str("\n[Network]\nConfigureWithoutCarrier=yes\n");
    text.push_str(match (one.is_routed, one.is_bound) {
        (true, _) => "LinkLocalAddressing=no\nIPv6AcceptRA=no\n",
        (false, true) => "IPv6LinkLocalAddressGenerationMode=eui64\nIPv6AcceptRA=no\n",
        (false, false) => "",
    });
    text.push_str(if one.asks_dhcp { "DHCP=yes\n" } else { "DHCP=no\nKeepConfiguration=yes\n" });
    for server in &one.servers {
        text.push_str(&format!("DNS={server}\n"));
    }
    if !one.domains.is_empty() {
        text.push_str(&format!("Domains={}\n", one.domains.join(" ")));
    }
    for address in &one.addresses {
        text.push_str(&format!("\n[Address]\nAddress={}/{}\n", address.ip, address.prefix));
    }
    for way in &one.ways {
        text.push_str("\n[Route]\n");
        text.push_str(&match way {
            Way::Direct { source } if source.is_ipv4() => {
                format!("Destination=0.0.0.0/0\nScope=link\nPreferredSource={source}\n")
            }
            Way::Direct { source } => format!("Destination=::/0\nPreferredSource={source}\n"),
            Way::Router(ip) => format!("Gateway={ip}\nGatewayOnLink=yes\n"),
        });
    }
    text
}
