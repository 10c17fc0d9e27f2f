//! Extended headers: `LENGTH KEY=VALUE\n` again and again. Values have any bytes, newlines too.

use std::collections::BTreeMap;
use std::ffi::CString;

use base64ct::Encoding;
use tree::Moment;

/// Of one header. A list of 100,000 holes fits, and attributes of a megabyte.
pub const LONGEST: u64 = 4 * 1024 * 1024;
/// Of what counts for all entries, and is copied for each.
pub const LONGEST_GLOBAL: u64 = 64 * 1024;
/// The kernel takes no longer value of an attribute.
const LONGEST_ATTRIBUTE: usize = 64 * 1024;
const SCHILY: &[u8] = b"SCHILY.xattr.";
const LIBARCHIVE: &[u8] = b"LIBARCHIVE.xattr.";
/// Access lists: as an attribute, in the kernel's form, and under which key they stand in words.
const LISTS: [(&[u8], &[u8]); 2] = [
    (b"system.posix_acl_access", b"SCHILY.acl.access"),
    (b"system.posix_acl_default", b"SCHILY.acl.default"),
];

/// Keys that mean something here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pax {
    values: BTreeMap<Vec<u8>, Vec<u8>>,
    /// `GNU.sparse.offset` and `GNU.sparse.numbytes`, which come again for each piece.
    pub pieces: Vec<(u64, u64)>,
    /// Of all that was taken, in bytes.
    taken: u64,
}

impl Pax {
    /// Takes what a header says on top of what is known.
    ///
    /// # Errors
    /// Which record is no record; and that there are more of them than are kept in memory.
    pub fn add(&mut self, mut bytes: &[u8], limit: u64) -> Result<(), String> {
        let mut offset = None;
        self.taken += bytes.len() as u64;
        if self.taken > limit {
            return Err(format!("extended headers of more than {limit} bytes"));
        }
        while !bytes.is_empty() {
            // What fills a block up.
            if bytes[0] == 0 {
                break;
            }
            let digits = bytes.iter().take(20).take_while(|byte| byte.is_ascii_digit()).count();
            let length = number(&bytes[..digits]).and_then(|length| usize::try_from(length).ok());
            let record = length
                .filter(|&length| length > digits + 1 && length <= bytes.len() && bytes[digits] == b' ')
                .map(|length| (&bytes[digits + 1..length - 1], &bytes[length..]))
                .filter(|_| bytes[length.unwrap_or(1) - 1] == b'\n');
            let Some((record, rest)) = record else {
                return Err("an extended header that is none".to_owned());
            };
            bytes = rest;
            let Some(equals) = record.iter().position(|&byte| byte == b'=') else {
                return Err("an extended header with a record that has no value".to_owned());
            };
            let (key, value) = (&record[..equals], &record[equals + 1..]);
            match key {
                b"GNU.sparse.offset" => offset = Some(checked(key, value)?),
                b"GNU.sparse.numbytes" => {
                    let from = offset.take().ok_or("a piece of a file with holes that begins nowhere")?;
                    self.pieces.push((from, checked(key, value)?));
                }
                // As if it had not been said; but an attribute may be empty.
                _ if value.is_empty() && !key.starts_with(SCHILY) => drop(self.values.remove(key)),
                _ => drop(self.values.insert(key.to_owned(), value.to_owned())),
            }
        }
        Ok(())
    }

    /// A value as it is.
    pub fn bytes(&self, key: &str) -> Option<&[u8]> {
        self.values.get(key.as_bytes()).map(Vec::as_slice)
    }

    /// A value that is a whole number.
    ///
    /// # Errors
    /// That it is none.
    pub fn number(&self, key: &str) -> Result<Option<u64>, String> {
        self.bytes(key).map(|value| checked(key.as_bytes(), value)).transpose()
    }

    /// A value that is a moment: seconds with a fraction, perhaps before 1970.
    ///
    /// # Errors
    /// That it is none.
    pub fn moment(&self, key: &str) -> Result<Option<Moment>, String> {
        let Some(value) = self.bytes(key) else { return Ok(None) };
        moment(value)
            .map(Some)
            .ok_or_else(|| format!("`{key}` is no moment: {}", super::ArchiveError::quoted(value)))
    }

    /// Extended attributes, as star and GNU tar write them, or as libarchive does alone.
    ///
    /// # Errors
    /// Which one cannot be.
    pub fn attributes(&self) -> Result<BTreeMap<CString, Vec<u8>>, String> {
        let mut found = BTreeMap::new();
        for (key, value) in &self.values {
            let (name, value) = if let Some(name) = key.strip_prefix(SCHILY) {
                // libarchive writes its names also here as it writes them there.
                if self.values.contains_key(&[LIBARCHIVE, name].concat()) {
                    continue;
                }
                (name.to_vec(), value.clone())
            } else if let Some(name) = key.strip_prefix(LIBARCHIVE) {
                let text = value.iter().filter(|byte| !matches!(byte, b'\n' | b'=')).copied().collect();
                let value = String::from_utf8(text)
                    .ok()
                    .and_then(|text| base64ct::Base64Unpadded::decode_vec(&text).ok());
                (unescaped(name), value.ok_or("an attribute that is no base64")?)
            } else {
                continue;
            };
            let shown = super::ArchiveError::quoted(&name);
            if value.len() > LONGEST_ATTRIBUTE {
                return Err(format!("its attribute {shown} has {} bytes", value.len()));
            }
            // Said once more as lists, in words; where there are none (`tar --xattrs` alone, umoci) these are all that there is.
            if LISTS.iter().any(|(list, words)| name == *list && self.values.contains_key(*words)) {
                continue;
            }
            found.insert(CString::new(name).map_err(|_| format!("an attribute {shown}"))?, value);
        }
        Ok(found)
    }
}

fn checked(key: &[u8], value: &[u8]) -> Result<u64, String> {
    number(value).ok_or_else(|| {
        format!("{} is no number: {}", super::ArchiveError::quoted(key), super::ArchiveError::quoted(value))
    })
}

/// Decimal digits and nothing else.
pub fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn moment(value: &[u8]) -> Option<Moment> {
    let (is_negative, value) = match value.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, value),
    };
    let (whole, fraction) = match value.iter().position(|&byte| byte == b'.') {
        Some(point) => (&value[..point], &value[point + 1..]),
        None => (value, &b""[..]),
    };
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let whole = i64::try_from(number(whole)?).ok()?;
    // To the nanosecond; what is finer is cut off.
    let nanoseconds =
        fraction.iter().chain(b"000000000").take(9).fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0'));
    Some(match (is_negative, nanoseconds) {
        (false, _) => (whole, nanoseconds),
        (true, 0) => (-whole, 0),
        (true, _) => (-whole - 1, 1_000_000_000 - nanoseconds),
    })
}

/// `%41` is `A`.
fn unescaped(name: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    let mut rest = name;
    while let [first, after @ ..] = rest {
        let hex = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match (first, hex.and_then(|hex| u8::from_str_radix(hex, 16).ok())) {
            (b'%', Some(byte)) => {
                plain.push(byte);
                rest = &after[2..];
            }
            _ => {
                plain.push(*first);
                rest = after;
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(key: &str, value: &[u8]) -> Vec<u8> {
        let tail = [b" ", key.as_bytes(), b"=", value, b"\n"].concat();
        let mut length = tail.len() + 1;
        while length.to_string().len() + tail.len() != length {
            length = length.to_string().len() + tail.len();
        }
        [length.to_string().as_bytes(), &tail].concat()
    }

    #[test]
    fn values_have_any_bytes() {
        let mut pax = Pax::default();
        let bytes = [record("path", b"a\nb=\xff"), record("SCHILY.xattr.user.x", b"1\n2 path=no\n")].concat();
        pax.add(&bytes, LONGEST).unwrap();
        assert_eq!(pax.bytes("path"), Some(&b"a\nb=\xff"[..]));
        assert_eq!(pax.attributes().unwrap()[c"user.x"], b"1\n2 path=no\n");
        pax.add(&record("path", b""), LONGEST).unwrap();
        assert_eq!(pax.bytes("path"), None);
    }

    #[test]
    fn nonsense_is_told() {
        for nonsense in [
            &b"12 path=a\n"[..],
            b"x",
            b"9999999999999999999999 a=b\n",
            b"5 abc\n",
            b"6 abc\n",
            b"0 a=b\n",
            b"10 path=ab!",
            b"\xff\xff",
        ] {
            let told = Pax::default().add(nonsense, LONGEST);
            assert!(told.is_err(), "{:?}", String::from_utf8_lossy(nonsense));
        }
        for (key, value) in
            [("size", &b"-1"[..]), ("size", b"1e9"), ("size", b"99999999999999999999"), ("size", b" 1")]
        {
            let mut pax = Pax::default();
            pax.add(&record(key, value), LONGEST).unwrap();
            assert!(pax.number("size").is_err());
        }
    }

    #[test]
    fn moments_have_nanoseconds_and_may_be_before_1970() {
        for (text, is) in [
            ("1", Some((1, 0))),
            ("1.5", Some((1, 500_000_000))),
            ("1.1234567891", Some((1, 123_456_789))),
            ("-1.25", Some((-2, 750_000_000))),
            ("-3", Some((-3, 0))),
            ("1.", Some((1, 0))),
            (".5", None),
            ("1.x", None),
            ("nan", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(moment(text.as_bytes()), is, "{text}");
        }
    }

    #[test]
    fn attributes_of_libarchive_alone_are_read_too() {
        let mut pax = Pax::default();
        pax.add(&record("LIBARCHIVE.xattr.user.a%3Db", b"AAEC/w"), LONGEST).unwrap();
        pax.add(&record("LIBARCHIVE.xattr.user.b%20b", b"AAEC/w"), LONGEST).unwrap();
        pax.add(&record("SCHILY.xattr.user.b%20b", b"\0\x01\x02\xff"), LONGEST).unwrap();
        pax.add(&record("SCHILY.xattr.user.empty", b""), LONGEST).unwrap();
        let attributes = pax.attributes().unwrap();
        assert_eq!(attributes[c"user.a=b"], [0, 1, 2, 255]);
        assert_eq!(attributes[c"user.b b"], [0, 1, 2, 255]);
        assert_eq!((attributes.len(), &attributes[c"user.empty"][..]), (3, &b""[..]));
    }

    #[test]
    fn an_access_list_in_words_counts_and_one_in_the_form_of_the_kernel_where_there_is_none() {
        let mut pax = Pax::default();
        pax.add(&record("SCHILY.xattr.system.posix_acl_access", b"a"), LONGEST).unwrap();
        pax.add(&record("SCHILY.xattr.system.posix_acl_default", b"d"), LONGEST).unwrap();
        pax.add(&record("SCHILY.acl.access", b"user::rwx"), LONGEST).unwrap();
        let attributes = pax.attributes().unwrap();
        assert_eq!((attributes.len(), &attributes[c"system.posix_acl_default"][..]), (1, &b"d"[..]));
    }
}
