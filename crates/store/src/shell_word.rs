//! The right-hand side of `KEY="value"`, read and written as a shell would: single and double quotes, backslashes,
//! and no expansion whatever (`$VEID` is four letters and a dollar).
//!
//! More is read than a shell would take for one value: `KEY=a b` is `a b`, as in OpenVZ.

/// A value and how much of the text it is; what follows is blanks and perhaps a comment.
#[derive(Debug, PartialEq, Eq)]
pub struct Word {
    pub value: Vec<u8>,
    pub length: usize,
}

pub fn parse(text: &[u8]) -> Result<Word, &'static str> {
    let mut word = Word { value: Vec::new(), length: 0 };
    let mut blanks = Vec::new();
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        if matches!(byte, b' ' | b'\t') {
            blanks.push(byte);
            at += 1;
            continue;
        }
        if byte == b'#' && !blanks.is_empty() {
            break;
        }
        // Blanks within a value are its own, those before it are not.
        if word.length > 0 {
            word.value.append(&mut blanks);
        }
        blanks.clear();
        at = match byte {
            b'\'' => single(text, at + 1, &mut word.value)?,
            b'"' => double(text, at + 1, &mut word.value)?,
            b'\\' => {
                word.value.push(*text.get(at + 1).ok_or("it ends in a backslash")?);
                at + 2
            }
            _ => {
                word.value.push(byte);
                at + 1
            }
        };
        word.length = at;
    }
    Ok(word)
}

fn single(text: &[u8], from: usize, value: &mut Vec<u8>) -> Result<usize, &'static str> {
    let rest = text.get(from..).unwrap_or_default();
    let length = rest.iter().position(|&byte| byte == b'\'').ok_or("a single quote is not closed")?;
    value.extend(rest.iter().take(length));
    Ok(from + length + 1)
}

fn double(text: &[u8], from: usize, value: &mut Vec<u8>) -> Result<usize, &'static str> {
    let mut at = from;
    loop {
        match (text.get(at), text.get(at + 1)) {
            (None, _) => return Err("a double quote is not closed"),
            (Some(b'"'), _) => return Ok(at + 1),
            (Some(b'\\'), Some(&escaped)) => {
                // Before any other byte the backslash stands for itself.
                if !matches!(escaped, b'"' | b'\\' | b'$' | b'`') {
                    value.push(b'\\');
                }
                value.push(escaped);
                at += 2;
            }
            (Some(&byte), _) => {
                value.push(byte);
                at += 1;
            }
        }
    }
}

/// In double quotes, so that [`parse`] and a shell read it back. The value must have no newline and no NUL.
pub fn quote(value: &str) -> Vec<u8> {
    let mut quoted = vec![b'"'];
    for byte in value.bytes() {
        if matches!(byte, b'"' | b'\\' | b'$' | b'`') {
            quoted.push(b'\\');
        }
        quoted.push(byte);
    }
    quoted.push(b'"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_values_as_a_shell_and_openvz_write_them() {
        for (text, value, length) in [
            (r#""plain""#, "plain", 7),
            ("bare", "bare", 4),
            ("", "", 0),
            (r#""""#, "", 2),
            ("'single $x `y`'", "single $x `y`", 15),
            (r#""/vz/root/$VEID""#, "/vz/root/$VEID", 16),
            (r#""a\"b\\c\$d\`e\n""#, r#"a"b\c$d`e\n"#, 17),
            (r#"a\ b"#, "a b", 4),
            (r#""a"'b'c"#, "abc", 7),
            ("a b", "a b", 3),
            (r#""a"   # why"#, "a", 3),
            ("a#b", "a#b", 3),
            ("#b", "#b", 2),
            (" # only a comment", "", 0),
            ("a  ", "a", 1),
        ] {
            let word = parse(text.as_bytes()).unwrap();
            assert_eq!(
                (String::from_utf8(word.value).unwrap().as_str(), word.length),
                (value, length),
                "{text}"
            );
        }
    }

    #[test]
    fn refuses_what_a_shell_would_read_on_in_the_next_line() {
        for text in [r#"""#, r#""a"#, "'a", r#""a'"#, r#""a\""#, "a\\", r#""a" "b"#] {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
    }
}
