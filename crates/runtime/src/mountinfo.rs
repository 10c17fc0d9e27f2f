//! Lines of `/proc/<pid>/mountinfo`, as in proc(5).

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its number, never used twice at a time.
    pub id: u64,
    /// Device number of its superblock, `major:minor`.
    pub superblock: String,
    /// What of that filesystem is mounted there.
    pub root: PathBuf,
    /// Where it is mounted, seen from the process's root.
    pub point: PathBuf,
    /// Type of its filesystem.
    pub file_system: String,
}

impl Entry {
    /// Reads one line; `None` for what is none.
    pub fn parse(line: &str) -> Option<Entry> {
        let (left, right) = line.split_once(" - ")?;
        let fields: Vec<&str> = left.split(' ').collect();
        Some(Entry {
            id: fields.first()?.parse().ok()?,
            superblock: (*fields.get(2)?).to_owned(),
            root: PathBuf::from(unescape(fields.get(3)?)),
            point: PathBuf::from(unescape(fields.get(4)?)),
            file_system: right.split(' ').next()?.to_owned(),
        })
    }
}

/// Space, tab, newline and backslash are written as three octal digits.
fn unescape(text: &str) -> OsString {
    let bytes = text.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((&first, tail)) = rest.split_first() {
        let octal = (first == b'\\').then(|| tail.get(..3)).flatten();
        let value = octal.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        match value {
            Some(byte) => {
                plain.push(byte);
                rest = &tail[3..];
            }
            None => {
                plain.push(first);
                rest = tail;
            }
        }
    }
    OsString::from_vec(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_line_with_a_space_in_the_path() {
        let line = "36 35 0:57 / /mnt/my\\040old rw,nosuid master:1 - overlay reroot rw,lowerdir=/a";
        let entry = Entry::parse(line).unwrap();
        assert_eq!((entry.id, entry.superblock.as_str()), (36, "0:57"));
        assert_eq!(entry.point, PathBuf::from("/mnt/my old"));
        assert_eq!(entry.file_system, "overlay");
        assert_eq!(Entry::parse("nonsense"), None);
    }
}
