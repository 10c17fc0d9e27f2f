//! Names from a root, made printable.
//!
//! A file name may hold anything but `/` and NUL: an escape sequence that repaints the operator's
//! terminal, a newline that forges a line of a report, bytes that are no UTF-8. Whatever is shown or
//! logged goes through here. The result is for eyes; it is unambiguous (a backslash is doubled), but
//! nothing reads it back.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// What an error line shows of one path at most, in characters; a root can hold far longer ones.
const SHOWN: usize = 400;

/// The printable form of any bytes: `\n`, `\x1b`, `\xff`, `\u{202e}`.
pub fn escaped(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            escape_char(&mut out, c);
        }
        for byte in chunk.invalid() {
            escape_byte(&mut out, *byte);
        }
    }
    out
}

/// Text with what would do something to a terminal escaped: lines and columns stay. For the last place on the way to one; whoever knows
/// what of a text is somebody else's uses [`escaped`] for that.
pub fn printable(text: &str) -> Cow<'_, str> {
    let does_something = |c: char| !matches!(c, '\n' | '\t') && (c.is_control() || reorders_or_hides(c));
    if !text.contains(does_something) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if does_something(c) { escape_char(&mut out, c) } else { out.push(c) }
    }
    Cow::Owned(out)
}

/// The printable form of a path, shortened in its middle where it is very long.
pub fn escaped_path(path: &Path) -> String {
    let bytes = path.as_os_str().as_bytes();
    // Not the whole of one that a hostile root has made a megabyte long; a character has four bytes at the most.
    if bytes.len() > 8 * SHOWN {
        let (head, tail) = (&bytes[..4 * SHOWN], &bytes[bytes.len() - 4 * SHOWN..]);
        let head: String = escaped(head).chars().take(SHOWN / 2).collect();
        let tail: Vec<char> = escaped(tail).chars().collect();
        let tail: String = tail[tail.len().saturating_sub(SHOWN / 2)..].iter().collect();
        return format!("{head}…{tail}");
    }
    let whole = escaped(bytes);
    if whole.len() <= SHOWN {
        return whole;
    }
    let characters: Vec<char> = whole.chars().collect();
    if characters.len() <= SHOWN {
        return whole;
    }
    let head: String = characters[..SHOWN / 2].iter().collect();
    let tail: String = characters[characters.len() - SHOWN / 2..].iter().collect();
    format!("{head}…{tail}")
}

fn escape_char(out: &mut String, c: char) {
    match c {
        '\\' => out.push_str("\\\\"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        c if c.is_ascii_control() => escape_byte(out, c as u8),
        c if c.is_control() || reorders_or_hides(c) => {
            let _ = write!(out, "\\u{{{:x}}}", c as u32);
        }
        c => out.push(c),
    }
}

fn escape_byte(out: &mut String, byte: u8) {
    let _ = write!(out, "\\x{byte:02x}");
}

/// Characters that turn the direction of what follows ("Trojan Source"), that end a line, or that print as nothing: of the Unicode property
/// Default_Ignorable_Code_Point all, or two names would look like one.
fn reorders_or_hides(c: char) -> bool {
    matches!(
        c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::path::PathBuf;

    #[test]
    fn control_characters_and_foreign_bytes_become_visible() {
        for (bytes, shown) in [
            (&b"plain name"[..], "plain name"),
            (b"a\nb\r\tc", "a\\nb\\r\\tc"),
            (b"\x1b[2J\x07\x7f\0", "\\x1b[2J\\x07\\x7f\\x00"),
            (b"\xff\xc3\xa9\xc3", "\\xff\u{e9}\\xc3"),
            (b"back\\slash", "back\\\\slash"),
            ("\u{202e}gpj\u{9b}".as_bytes(), "\\u{202e}gpj\\u{9b}"),
            ("a\u{200b}\u{feff}\u{2066}b".as_bytes(), "a\\u{200b}\\u{feff}\\u{2066}b"),
            (
                "soft\u{ad} tag\u{e0041} filler\u{3164}".as_bytes(),
                "soft\\u{ad} tag\\u{e0041} filler\\u{3164}",
            ),
        ] {
            assert_eq!(escaped(bytes), shown);
        }
    }

    #[test]
    fn the_last_net_leaves_lines_and_what_was_escaped() {
        for (text, shown) in [
            ("error: x\n  because:\ty \\x1b é", "error: x\n  because:\ty \\x1b é"),
            ("a\x1b]0;b\x07\r\u{9b}\u{202e}\n", "a\\x1b]0;b\\x07\\r\\u{9b}\\u{202e}\n"),
        ] {
            assert_eq!(printable(text), shown);
        }
    }

    #[test]
    fn a_very_long_path_is_shortened_in_its_middle() {
        let shown = escaped_path(&PathBuf::from("a/".repeat(100_000)));
        assert_eq!(shown.chars().count(), SHOWN + 1);
    }

    proptest! {
        #[test]
        fn prop_escaped_is_printable_and_tells_names_apart(a: Vec<u8>, b: Vec<u8>) {
            let shown = escaped(&a);
            prop_assert!(!shown.chars().any(char::is_control));
            prop_assert_eq!(a == b, shown == escaped(&b));
        }
    }
}
