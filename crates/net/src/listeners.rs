//! Who listens on this host.

use std::net::IpAddr;

use store::{Forward, Transport};

/// `TCP_LISTEN`, and what a socket of UDP that is not connected is in: proc(5).
const LISTENS: &str = "0A";
const UNCONNECTED: &str = "07";

/// A program of this host listens to that port, other than on the loopback alone.
pub fn listens(forward: &Forward) -> bool {
    let (files, state) = match forward.transport {
        Transport::Tcp => (["tcp", "tcp6"], LISTENS),
        Transport::Udp => (["udp", "udp6"], UNCONNECTED),
    };
    files.iter().any(|file| {
        let text = std::fs::read_to_string(format!("/proc/thread-self/net/{file}")).unwrap_or_default();
        text.lines().skip(1).any(|line| is_it(line, forward.port, state))
    })
}

fn is_it(line: &str, port: u16, wanted: &str) -> bool {
    let mut words = line.split_whitespace().skip(1);
    let (Some(local), Some(state)) = (words.next(), words.nth(1)) else { return false };
    let Some((ip, own)) = local.split_once(':') else { return false };
    state == wanted
        && u16::from_str_radix(own, 16).is_ok_and(|own| own == port)
        && !address(ip).is_some_and(|ip| ip.is_loopback())
}

/// In words of four bytes, each as this machine has them.
fn address(text: &str) -> Option<IpAddr> {
    let words: Vec<[u8; 4]> = (0..text.len() / 8)
        .filter_map(|word| {
            Some(u32::from_str_radix(text.get(word * 8..word * 8 + 8)?, 16).ok()?.to_ne_bytes())
        })
        .collect();
    match words.as_slice() {
        [four] => Some(IpAddr::from(*four)),
        [_, _, _, _] => Some(IpAddr::from(<[u8; 16]>::try_from(words.concat()).ok()?)),
        _ => None,
    }
}

#[cfg(test)]
#[cfg(target_endian = "little")]
mod tests {
    use super::*;

    #[test]
    fn tells_who_listens_to_all_and_who_to_himself() {
        let tcp = |local: &str| {
            format!(
                "   0: {local} 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1"
            )
        };
        assert!(is_it(&tcp("00000000:0016"), 22, LISTENS));
        assert!(is_it(&tcp("010200C0:0016"), 22, LISTENS));
        assert!(is_it(&tcp("00000000000000000000000000000000:0016"), 22, LISTENS));
        assert!(!is_it(&tcp("0100007F:0016"), 22, LISTENS));
        assert!(!is_it(&tcp("00000000000000000000000001000000:0016"), 22, LISTENS));
        assert!(!is_it(&tcp("00000000:0017"), 22, LISTENS));
        assert!(!is_it(&tcp("00000000:0016").replace(" 0A ", " 01 "), 22, LISTENS));
        assert!(!is_it("", 22, LISTENS) && !is_it("  sl  local_address rem_address   st", 22, LISTENS));
    }
}
