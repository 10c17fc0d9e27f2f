//! Files of ifupdown, Debian's and busybox' (Alpine): interfaces(5).
//!
//! What `ifup` adds must not be there yet, or it fails, and `networking.service` with it: so what is there goes a moment before. A file of its own where the main one
//! reads a directory of them; else a section of the main one.

use store::Address;
use tree::TreeError;

use super::{Inside, Told, Way};

const DIRECTORY: &str = "/etc/network";
const MAIN: &str = "/etc/network/interfaces";
pub(super) const PARTS: &str = "/etc/network/interfaces.d";
pub(super) const PART: &str = "reroot";
const PROGRAMS: [&str; 2] = ["/usr/sbin/ifup", "/sbin/ifup"];
const DHCP_CLIENTS: [&str; 6] = [
    "/usr/sbin/dhclient",
    "/sbin/dhclient",
    "/usr/sbin/dhcpcd",
    "/sbin/dhcpcd",
    "/usr/sbin/udhcpc",
    "/sbin/udhcpc",
];
const BEGIN: &str = "# BEGIN of what prlctl writes at every start and `prlctl set`\n";
const END: &str = "# END of what prlctl writes\n";

fn is_there(inside: &Inside<'_>) -> Result<bool, TreeError> {
    Ok(inside.has_directory(DIRECTORY)? && inside.has_any(&PROGRAMS)?)
}

pub(super) fn asks_dhcp(inside: &Inside<'_>) -> Result<bool, TreeError> {
    Ok(is_there(inside)? && inside.has_any(&DHCP_CLIENTS)?)
}

pub(super) fn write(inside: &mut Inside<'_>, all: &[Told]) -> Result<(), TreeError> {
    if !inside.has_directory(DIRECTORY)? {
        return Ok(());
    }
    let all = if is_there(inside)? { all } else { &[] };
    let main = inside.whole_text(MAIN)?;
    let rest = without_section(main.as_deref().unwrap_or_default());
    let reads_parts = reads_parts(&rest) && inside.has_directory(PARTS)?;
    let mut taken = inside.taken(PARTS, "", all, names)?;
    for one in all.iter().filter(|one| names(&rest, &one.name)) {
        if taken.insert(one.name.clone()) {
            inside.say_taken(MAIN, &one.name);
        }
    }
    // Without a client its `ifup` would fail.
    let has_client = inside.has_any(&DHCP_CLIENTS)?;
    let all = all.iter().filter(|one| !taken.contains(&one.name));
    let text: String = all.map(|one| text(one, has_client)).collect();

    let part = (!text.is_empty() && reads_parts).then(|| (PART.to_owned(), text.clone()));
    inside.put(PARTS, &[PART.to_owned()], part.as_slice(), 0o644)?;
    let section = if text.is_empty() || reads_parts { String::new() } else { format!("{BEGIN}{text}{END}") };
    let wanted = if section.is_empty() || rest.is_empty() || rest.ends_with('\n') {
        format!("{rest}{section}")
    } else {
        format!("{rest}\n{section}")
    };
    if main.as_deref().unwrap_or_default() == wanted {
        return Ok(());
    }
    let path = std::path::Path::new(MAIN);
    if let Some(tree::Kind::Symlink) = inside.root.kind(path)? {
        // What it leads to is somebody else's to write, and a file in its place would be nobody's.
        inside.problems.push(format!("{MAIN} in the container is a symlink, and stays as it is"));
        return Ok(());
    }
    let mode = inside.root.read_file(path, super::LARGEST)?.map_or(0o644, |file| file.mode & 0o777);
    inside.root.replace_file(path, wanted.as_bytes(), mode, inside.ids.first, inside.ids.first)
}

fn reads_parts(main: &str) -> bool {
    main.lines().any(|line| {
        let mut words = line.split_whitespace();
        // A pattern that our file does not fit reads no file of ours.
        matches!(words.next(), Some("source" | "source-directory"))
            && words.any(|word| {
                let word = word.strip_prefix("/etc/network/").unwrap_or(word);
                ["interfaces.d", "interfaces.d/", "interfaces.d/*"].contains(&word)
            })
    })
}

/// All but what lies between our marks; a mark without the other is somebody's.
fn without_section(main: &str) -> String {
    let ends = main.find(BEGIN).and_then(|begin| Some((begin, begin + main[begin..].find(END)? + END.len())));
    match ends {
        Some((begin, end)) => format!("{}{}", &main[..begin], &main[end..]),
        None => main.to_owned(),
    }
}

fn names(text: &str, name: &str) -> bool {
    text.lines().any(|line| {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("iface") => words.next() == Some(name),
            Some("auto" | "allow-hotplug" | "allow-auto") => words.any(|word| word == name),
            _ => false,
        }
    })
}

fn text(one: &Told, has_client: bool) -> String {
    let mut stanzas = String::new();
    for (family, is_four) in [("inet", true), ("inet6", false)] {
        let mut addresses = one.of_family(is_four);
        let name = &one.name;
        let Some(first) = addresses.next() else {
            if one.asks_dhcp && is_four && has_client {
                stanzas.push_str(&format!("iface {name} inet dhcp\n"));
            }
            continue;
        };
        let ip = if is_four { "ip" } else { "ip -6" };
        stanzas.push_str(&format!(
            "iface {name} {family} static\n\taddress {}\n\tnetmask {}\n",
            first.ip,
            mask(first)
        ));
        if !is_four {
            stanzas.push_str("\tdad-attempts 0\n");
        }
        stanzas.push_str(&format!(
            "\tpre-up {ip} addr del {first} dev {name} 2>/dev/null || :\n",
            first = exact(first)
        ));
        for address in addresses {
            stanzas.push_str(&format!("\tup {ip} addr add {} dev {name} 2>/dev/null || :\n", exact(address)));
        }
        match one.way(is_four) {
            Some(Way::Direct { source }) => {
                stanzas.push_str(&format!("\tup {ip} route replace default dev {name} src {source} || :\n"));
            }
            Some(Way::Router(router)) => {
                stanzas.push_str(&format!(
                    "\tup {ip} route replace default via {router} dev {name} onlink || :\n"
                ));
            }
            None => {}
        }
        if is_four && !one.servers.is_empty() {
            stanzas.push_str(&format!("\tdns-nameservers {}\n", one.servers.join(" ")));
        }
        if is_four && !one.domains.is_empty() {
            stanzas.push_str(&format!("\tdns-search {}\n", one.domains.join(" ")));
        }
    }
    if stanzas.is_empty() { stanzas } else { format!("auto {}\n{stanzas}", one.name) }
}

fn exact(address: &Address) -> String {
    format!("{}/{}", address.ip, address.prefix)
}

fn mask(address: &Address) -> String {
    match address.ip {
        std::net::IpAddr::V4(_) => {
            let bits = u32::MAX.checked_shl(32 - u32::from(address.prefix)).unwrap_or(0);
            std::net::Ipv4Addr::from_bits(bits).to_string()
        }
        std::net::IpAddr::V6(_) => address.prefix.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_is_ours_and_what_is_around_it_is_not() {
        let around = format!("auto lo\n{BEGIN}auto venet0\n{END}auto eth5\n");
        assert_eq!(without_section(&around), "auto lo\nauto eth5\n");
        for whole in ["", "auto lo\n", &format!("{BEGIN}auto lo\n"), &format!("{END}auto lo\n{BEGIN}")] {
            assert_eq!(without_section(whole), whole);
        }
    }

    #[test]
    fn interfaces_that_somebody_names_are_found() {
        let text = "auto lo eth1\niface lo inet loopback\n# iface eth2 inet dhcp\n  iface eth3 inet manual\nallow-hotplug eth4\n";
        let named: Vec<&str> = ["lo", "eth", "eth1", "eth2", "eth3", "eth4"]
            .into_iter()
            .filter(|name| names(text, name))
            .collect();
        assert_eq!(named, ["lo", "eth1", "eth3", "eth4"]);
        assert!(
            reads_parts("source /etc/network/interfaces.d/*\n")
                && reads_parts("source-directory interfaces.d\n")
        );
        assert!(!reads_parts("# source /etc/network/interfaces.d/*\nsource /etc/other\n"));
        for other in ["interfaces.d/*.cfg", "/etc/network/interfaces.d/lo", "interfaces.dpkg-old"] {
            assert!(!reads_parts(&format!("source {other}\n")), "{other} is not our file");
        }
    }
}
