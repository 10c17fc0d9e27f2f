//! Names in answers of the kernel: whoever is root of a container gives his interfaces and addresses what bytes he likes, and what reads answers here takes none
//! but UTF-8. One that is none would have all of the answer be none, and nobody could be told anything of that interface, or set.
//!
//! What is no UTF-8 is made question marks, before anything is read. Nothing is found by such a name.

const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
/// `IFLA_IFNAME` of a link, and `IFA_LABEL` of an address.
const NAME: u16 = 3;
const IFLA_IFALIAS: u16 = 20;
const IFLA_PROP_LIST: u16 = 52;
const IFLA_ALT_IFNAME: u16 = 53;
/// Of an attribute's type, without `NLA_F_NESTED` and `NLA_F_NET_BYTEORDER`.
const TYPE: u16 = 0x3fff;
/// `nlmsghdr`.
const HEADER: usize = 16;

/// Makes names readable in an answer, of however many messages.
pub fn make_readable(answer: &mut [u8]) {
    let mut rest = answer;
    while let Some(length) = rest.get(..4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_ne_bytes) {
        let length = (length as usize).min(rest.len());
        if length < HEADER {
            return;
        }
        let kind = u16::from_ne_bytes([rest[4], rest[5]]);
        // `ifinfomsg`, `ifaddrmsg`.
        let fixed = match kind {
            RTM_NEWLINK => Some(16),
            RTM_NEWADDR => Some(8),
            _ => None,
        };
        if let Some(attributes) = fixed.and_then(|fixed| rest[..length].get_mut(HEADER + fixed..)) {
            attributes_of(attributes, if kind == RTM_NEWLINK { is_of_link } else { |kind| kind == NAME });
        }
        let next = length.next_multiple_of(4).min(rest.len());
        rest = &mut rest[next..];
    }
}

fn is_of_link(kind: u16) -> bool {
    [NAME, IFLA_IFALIAS, IFLA_ALT_IFNAME].contains(&kind)
}

fn attributes_of(mut rest: &mut [u8], is_name: fn(u16) -> bool) {
    while rest.len() >= 4 {
        let length = usize::from(u16::from_ne_bytes([rest[0], rest[1]])).min(rest.len());
        let kind = u16::from_ne_bytes([rest[2], rest[3]]) & TYPE;
        if length < 4 {
            return;
        }
        let value = &mut rest[4..length];
        if kind == IFLA_PROP_LIST && is_name(IFLA_ALT_IFNAME) {
            attributes_of(value, is_name);
        } else if is_name(kind) && std::str::from_utf8(value).is_err() {
            value.iter_mut().filter(|byte| !byte.is_ascii()).for_each(|byte| *byte = b'?');
        }
        let next = length.next_multiple_of(4).min(rest.len());
        rest = &mut rest[next..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(u16::try_from(4 + value.len()).unwrap().to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn message(kind: u16, fixed: usize, attributes: &[Vec<u8>]) -> Vec<u8> {
        let body = attributes.concat();
        let mut bytes = Vec::new();
        bytes.extend(u32::try_from(HEADER + fixed + body.len()).unwrap().to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.resize(HEADER + fixed, 0xff);
        bytes.extend(body);
        bytes
    }

    #[test]
    fn names_become_readable_and_nothing_else_becomes_other() {
        const ADDRESS: u16 = 1;
        let link = |name: &[u8], other: &[u8]| {
            let properties = attribute(IFLA_PROP_LIST | 0x8000, &attribute(IFLA_ALT_IFNAME, name));
            message(RTM_NEWLINK, 16, &[attribute(NAME, name), attribute(ADDRESS, other), properties])
        };
        let address = |label: &[u8]| {
            message(RTM_NEWADDR, 8, &[attribute(ADDRESS, b"\xff\xfe"), attribute(NAME, label)])
        };
        let mut answer = [link(b"b\xff\0", b"\xff\xfe"), address(b"\xc3x:1\0"), message(2, 4, &[])].concat();
        make_readable(&mut answer);
        assert_eq!(answer, [link(b"b?\0", b"\xff\xfe"), address(b"?x:1\0"), message(2, 4, &[])].concat());
        let mut same = link("bl\u{fc}\0".as_bytes(), b"\xff");
        make_readable(&mut same);
        assert_eq!(same, link("bl\u{fc}\0".as_bytes(), b"\xff"));
    }

    #[test]
    fn whatever_it_is_given_it_comes_to_an_end() {
        let whole = message(
            RTM_NEWLINK,
            16,
            &[attribute(NAME, b"b\xff"), attribute(IFLA_PROP_LIST, b"\x03\0\x35\0\xff")],
        );
        for end in 0..whole.len() {
            make_readable(&mut whole.clone()[..end]);
        }
        for byte in 0..whole.len() {
            for value in [0, 1, 3, 5, 0xff] {
                let mut changed = whole.clone();
                changed[byte] = value;
                make_readable(&mut changed);
            }
        }
    }
}
