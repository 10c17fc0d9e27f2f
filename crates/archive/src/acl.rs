//! Access lists: archives have them as text (`user::rw-,user:anna:r--,…`), the kernel wants its own form.
//!
//! They name users and groups. What the text says in numbers counts (libarchive adds them, and tar writes them where it knows no name); a name means what it
//! means in the archive: whoever owns an entry under that name, or the unpacked `/etc/passwd` and `/etc/group`.

/// `struct posix_acl_xattr_header`.
const VERSION: u32 = 2;
const NOBODY: u32 = u32::MAX;

/// Whom a name means.
pub type Resolve<'a> = &'a dyn Fn(Who, &[u8]) -> Option<u32>;

/// What a name is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Who {
    /// A user.
    User,
    /// A group.
    Group,
}

/// The kernel's form of a list.
///
/// # Errors
/// What in it cannot be read.
pub fn binary(text: &[u8], resolve: Resolve<'_>) -> Result<Vec<u8>, String> {
    let wrong = |line: &[u8]| format!("an access list with {}", super::ArchiveError::quoted(line));
    let mut entries = Vec::new();
    for line in text.split(|byte| matches!(byte, b',' | b'\n')) {
        let line = line.split(|&byte| byte == b'#').next().unwrap_or_default().trim_ascii();
        if line.is_empty() {
            continue;
        }
        let mut fields: Vec<&[u8]> = line.split(|&byte| byte == b':').collect();
        if fields.first() == Some(&&b"default"[..]) {
            fields.remove(0);
        }
        // `other:r--` is `other::r--`.
        if fields.len() == 2 {
            fields.insert(1, b"");
        }
        let [kind, name, permissions, ref rest @ ..] = fields[..] else { return Err(wrong(line)) };
        let numbered = match rest {
            [] | [b""] => None,
            [number] => Some(
                crate::pax::number(number)
                    .and_then(|id| u32::try_from(id).ok())
                    .ok_or_else(|| wrong(line))?,
            ),
            _ => return Err(wrong(line)),
        };
        let id = |who: Who| {
            let plain = crate::pax::number(name).and_then(|id| u32::try_from(id).ok());
            numbered.or(plain).or_else(|| resolve(who, name)).ok_or_else(|| {
                format!("an access list for {}, of whom nothing is known", super::ArchiveError::quoted(name))
            })
        };
        let (tag, id) = match (kind, name.is_empty() && numbered.is_none()) {
            (b"user" | b"u", true) => (0x01, NOBODY),
            (b"user" | b"u", false) => (0x02, id(Who::User)?),
            (b"group" | b"g", true) => (0x04, NOBODY),
            (b"group" | b"g", false) => (0x08, id(Who::Group)?),
            (b"mask" | b"m", true) => (0x10, NOBODY),
            (b"other" | b"o", true) => (0x20, NOBODY),
            _ => return Err(wrong(line)),
        };
        let mut bits = 0u16;
        for byte in permissions.trim_ascii() {
            bits |= match byte {
                b'r' => 4,
                b'w' => 2,
                b'x' => 1,
                b'-' => 0,
                _ => return Err(wrong(line)),
            };
        }
        entries.push((tag as u16, id, bits));
    }
    // The order that the kernel wants.
    entries.sort_unstable();
    let mut bytes = VERSION.to_le_bytes().to_vec();
    for (tag, id, bits) in entries {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(bits.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_gnu_tar_and_of_libarchive_are_read() {
        let nobody = |_: Who, _: &[u8]| None;
        let anna = |who: Who, name: &[u8]| (who == Who::User && name == b"anna").then_some(1000);
        let gnu = binary(b"user::rw-\nuser:anna:r--\ngroup::r--\nmask::r--\nother::---\n", &anna).unwrap();
        let numbers = binary(b"user::rw-,user:1000:r--,group::r--,mask::r--,other::---", &nobody).unwrap();
        let libarchive =
            binary(b"user::rw-,group::r--,other::---,user:anna:r--:1000,mask::r--", &nobody).unwrap();
        assert_eq!(gnu, numbers);
        assert_eq!(gnu, libarchive);
        assert_eq!(gnu.len(), 4 + 5 * 8);
        assert!(binary(b"user:anna:r--", &nobody).unwrap_err().contains("`anna`"));
        for nonsense in
            [&b"user"[..], b"user:::::", b"cat::rw-", b"user::rwz", b"mask:anna:rw-", b"user:a:r--:x"]
        {
            assert!(binary(nonsense, &anna).is_err(), "{:?}", String::from_utf8_lossy(nonsense));
        }
    }
}
