//! A file of netplan: netplan(5). It makes files of systemd-networkd or NetworkManager of it, after which ours come first.

use tree::TreeError;

use super::{Inside, Told, Way};

pub(super) const DIRECTORY: &str = "/etc/netplan";
const PROGRAMS: [&str; 1] = ["/usr/sbin/netplan"];
pub(super) const FILE: &str = "90-reroot.yaml";

pub(super) fn write(inside: &mut Inside<'_>, all: &[Told]) -> Result<(), TreeError> {
    if !inside.has_directory(DIRECTORY)? {
        return Ok(());
    }
    let all = if inside.has_any(&PROGRAMS)? { all } else { &[] };
    let taken = inside.taken(DIRECTORY, ".yaml", all, names)?;
    let text: String = all.iter().filter(|one| !taken.contains(&one.name)).map(text).collect();
    let wanted = (!text.is_empty())
        .then(|| (FILE.to_owned(), format!("network:\n  version: 2\n  ethernets:\n{text}")));
    inside.put(DIRECTORY, &[FILE.to_owned()], wanted.as_slice(), 0o600)
}

/// It is a key, whatever is behind that.
fn names(text: &str, name: &str) -> bool {
    let keys = text.lines().filter_map(|line| Some(line.split_once(':')?.0.trim()));
    keys.map(|key| key.trim_matches(['"', '\''])).any(|key| key == name)
}

fn text(one: &Told) -> String {
    let mut text = format!("    \"{}\":\n", one.name);
    let mut line = |words: String| text.push_str(&format!("      {words}\n"));
    if one.asks_dhcp {
        line("dhcp4: true".to_owned());
    } else {
        line("critical: true".to_owned());
    }
    if one.is_routed {
        line("link-local: []".to_owned());
    }
    if one.is_bound {
        line("accept-ra: false".to_owned());
    }
    let quoted = |words: &[String]| -> String {
        let words: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
        format!("[{}]", words.join(", "))
    };
    let addresses: Vec<String> =
        one.addresses.iter().map(|address| format!("{}/{}", address.ip, address.prefix)).collect();
    if !addresses.is_empty() {
        line(format!("addresses: {}", quoted(&addresses)));
    }
    if !one.ways.is_empty() {
        line("routes:".to_owned());
        for way in &one.ways {
            let to = if way.is_ipv4() { "0.0.0.0/0" } else { "::/0" };
            line(match way {
                Way::Direct { source } => format!("  - {{ to: \"{to}\", scope: link, from: \"{source}\" }}"),
                Way::Router(router) => format!("  - {{ to: \"{to}\", via: \"{router}\", on-link: true }}"),
            });
        }
    }
    if !one.servers.is_empty() {
        line(format!(
            "nameservers: {{ addresses: {}, search: {} }}",
            quoted(&one.servers),
            quoted(&one.domains)
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::names;

    #[test]
    fn a_key_names_an_interface_whatever_is_behind_it() {
        for line in ["eth0:", "    \"eth0\":", "  'eth0' : ", "    eth0: {dhcp4: true}", "    eth0: # lan"] {
            assert!(names(&format!("network:\n{line}\n"), "eth0"), "{line}");
        }
        for line in ["# eth0: none", "eth01:", "- eth0", "match: { name: eth0 }", "eth0"] {
            assert!(!names(line, "eth0"), "{line}");
        }
    }
}
