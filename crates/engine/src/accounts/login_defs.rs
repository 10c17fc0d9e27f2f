//! `UID_MIN` and `GID_MIN` of the old root's login.defs(5): where its people begin.

use super::note::{AccountNote, Notes};

const DEFAULT: u32 = 1000;

/// From these ids on, an account belongs to a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Minimums {
    pub uid: u32,
    pub gid: u32,
}

impl Minimums {
    pub(super) fn read(login_defs: Option<&[u8]>, notes: &mut Notes) -> Minimums {
        let text = login_defs.unwrap_or_default();
        Minimums { uid: minimum(text, "UID_MIN", notes), gid: minimum(text, "GID_MIN", notes) }
    }
}

/// The last one counts, as in shadow-utils.
fn minimum(text: &[u8], key: &'static str, notes: &mut Notes) -> u32 {
    let mut found = DEFAULT;
    for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
        let line = String::from_utf8_lossy(line);
        let mut words = line.split_ascii_whitespace();
        if words.next() != Some(key) {
            continue;
        }
        let value = words.next().unwrap_or_default().trim_matches('"');
        found = number(value).unwrap_or_else(|| {
            notes.push(AccountNote::MinimumUnusable { key, line_number: index + 1 });
            DEFAULT
        });
    }
    found
}

/// As strtol with base 0, which is what shadow-utils uses.
fn number(text: &str) -> Option<u32> {
    if let Some(digits) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        return u32::from_str_radix(digits, 16).ok();
    }
    match text.strip_prefix('0') {
        Some(digits) if !digits.is_empty() => u32::from_str_radix(digits, 8).ok(),
        Some(_) | None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_minimums_are_those_of_the_last_line_that_sets_them() {
        for (text, uid, gid, notes) in [
            ("", 1000, 1000, 0),
            ("UID_MIN\t\t\t  500\nGID_MIN 600\n", 500, 600, 0),
            ("#UID_MIN 500\nUID_MINIMUM 3\n", 1000, 1000, 0),
            ("UID_MIN 500\r\nUID_MIN 700 # later\n", 700, 1000, 0),
            ("UID_MIN 0x1F4\nGID_MIN 0764", 500, 500, 0),
            ("UID_MIN many\nGID_MIN", 1000, 1000, 2),
            ("UID_MIN -5\nGID_MIN 99999999999", 1000, 1000, 2),
        ] {
            let mut found = Notes::default();
            assert_eq!(Minimums::read(Some(text.as_bytes()), &mut found), Minimums { uid, gid }, "{text:?}");
            assert_eq!(found.finish().len(), notes, "{text:?}");
        }
    }
}
