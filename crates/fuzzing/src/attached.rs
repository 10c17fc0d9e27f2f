//! What `ve.conf` says of a container's disks, devices, interfaces, and of what it sees of the host: the value of one key, which an editor has written.

use store::{BindMount, Conf, DeviceNode, Disks, Interface};

use crate::assert_fit_for_eyes;

/// The value as a configuration has it.
fn with(key: &str, bytes: &[u8]) -> Option<Conf> {
    let mut conf = Conf::default();
    conf.set(key, std::str::from_utf8(bytes).ok()?).ok()?;
    Some(conf)
}

/// A place in a container is one that nobody can be led out of, and none that a start covers.
fn assert_inner(path: &str) {
    let mut parts = path.split('/');
    assert_eq!(parts.next(), Some(""), "{path:?}");
    let first = parts.clone().next().unwrap_or_default();
    assert!(!["proc", "sys", "dev", "run", "old", ""].contains(&first), "{path:?}");
    assert!(parts.all(|part| !matches!(part, "" | "." | "..")), "{path:?}");
    assert!(!path.contains(|c: char| c.is_control() || c.is_whitespace() || ":,;|".contains(c)), "{path:?}");
}

fn twice<T: PartialEq>(all: impl Iterator<Item = T>) -> bool {
    let all: Vec<T> = all.collect();
    (0..all.len()).any(|index| all[..index].contains(&all[index]))
}

/// `DISK`: what is ours is a file of the private area, each once, and what is not stays to the byte.
pub fn disks(bytes: &[u8]) {
    let Some(conf) = with("DISK", bytes) else { return };
    let found = match Disks::of(&conf) {
        Ok(found) => found,
        Err(error) => return assert_fit_for_eyes(&error.to_string()),
    };
    let text = conf.get("DISK").unwrap_or_default();
    for disk in &found.own {
        assert_inner(disk.at.as_str());
        let digits = disk.number.to_string().replace("hdd", "");
        assert!(digits.parse::<u32>().is_ok_and(|number| (1..=15).contains(&number)), "{digits}");
        assert_eq!(disk.number.image(), format!("hdd{digits}.img"));
    }
    assert!(!twice(found.own.iter().map(|disk| disk.number)), "{text:?}");
    assert!(!twice(found.own.iter().map(|disk| disk.uuid)), "{text:?}");
    assert!(!twice(found.own.iter().map(|disk| disk.at.clone())), "{text:?}");
    for foreign in &found.foreign {
        assert!(text.split(';').any(|entry| entry.trim() == foreign), "{foreign:?}");
    }
    let written = with("DISK", found.write().as_bytes()).expect("what is written can be set");
    assert_eq!(Disks::of(&written).as_ref(), Ok(&found), "{text:?}");
}

/// `BINDMOUNT`: nothing of the host by a way round, nor the host itself.
pub fn bind_mounts(bytes: &[u8]) {
    let Some(conf) = with("BINDMOUNT", bytes) else { return };
    let found = match BindMount::all(&conf) {
        Ok(found) => found,
        Err(error) => return assert_fit_for_eyes(&error.to_string()),
    };
    assert!(found.len() <= 16);
    for one in &found {
        assert_inner(one.at.as_str());
        let parts: Vec<&str> = one.source.split('/').collect();
        assert!(parts.len() > 1 && parts[0].is_empty(), "{one}");
        assert!(!parts[1..].iter().any(|part| matches!(*part, "" | "." | "..")), "{one}");
        assert!(!["proc", "sys", "dev", "run"].contains(&parts[1]), "{one}");
        let is_system = ["etc", "boot", "usr", "bin", "sbin", "lib", "lib64", "root"].contains(&parts[1]);
        assert!(!is_system || one.flags.read_only, "{one}");
    }
    assert!(!twice(found.iter().map(|one| one.at.clone())));
    let written = with("BINDMOUNT", BindMount::write(&found).as_bytes()).expect("what is written can be set");
    assert_eq!(BindMount::all(&written).as_ref(), Ok(&found));
}

/// `DEVNODES`: a name below `/dev` and nowhere else, once, with some right.
pub fn device_nodes(bytes: &[u8]) {
    let Some(conf) = with("DEVNODES", bytes) else { return };
    let found = match DeviceNode::all(&conf) {
        Ok(found) => found,
        Err(error) => return assert_fit_for_eyes(&error.to_string()),
    };
    assert!(found.len() <= 16);
    for node in &found {
        assert!(node.reads || node.writes, "{node}");
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.+".contains(&byte);
        for part in node.name.split('/') {
            assert!(!part.is_empty() && !part.starts_with('.') && part.bytes().all(is_plain), "{node}");
        }
        let first = node.name.split('/').next().unwrap_or_default();
        assert!(
            !["mem", "kmem", "port", "kmsg", "mapper", "loop-control", "null", "pts"].contains(&first),
            "{node}"
        );
    }
    assert!(!twice(found.iter().map(|node| node.name.clone())));
    let written = with("DEVNODES", DeviceNode::write(&found).as_bytes()).expect("what is written can be set");
    assert_eq!(DeviceNode::all(&written).as_ref(), Ok(&found));
    // What is taken away is gone, and nothing else is.
    for node in &found {
        let rest = DeviceNode::merge(&DeviceNode::write(&found), &format!("{}:none", node.name));
        let rest = rest.expect("one that is there can be taken away");
        assert!(rest.len() == found.len() - 1 && !rest.contains(node), "{node}");
    }
}

/// `NETIF`: names that are files of `/proc/sys/net` and words of `nft`, addresses of Ethernet that are one machine's, nothing twice.
pub fn interfaces(bytes: &[u8]) {
    let Some(conf) = with("NETIF", bytes) else { return };
    let found = match Interface::all(&conf) {
        Ok(found) => found,
        Err(error) => return assert_fit_for_eyes(&error.to_string()),
    };
    for one in &found {
        for name in [Some(&one.name), one.host_name.as_ref(), one.network.as_ref()].into_iter().flatten() {
            let name = name.as_str();
            let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
            assert!((1..=15).contains(&name.len()) && name.bytes().all(is_plain), "{name:?}");
            assert!(!name.starts_with(['.', '-']) && !["all", "default", "lo"].contains(&name), "{name:?}");
        }
        for mac in [one.mac, one.host_mac].into_iter().flatten() {
            assert!(mac.0[0] & 1 == 0 && mac.0 != [0; 6], "{mac}");
        }
        assert!(one.vlan.is_none_or(|vlan| (1..=4094).contains(&vlan)));
    }
    assert!(!twice(found.iter().map(|one| one.name.clone())));
    assert!(!twice(found.iter().filter_map(|one| one.mac)));
    assert!(!twice(found.iter().flat_map(|one| one.addresses.iter().map(|address| address.ip))));
    let written = with("NETIF", Interface::write(&found).as_bytes()).expect("what is written can be set");
    assert_eq!(Interface::all(&written).as_ref(), Ok(&found));
}
