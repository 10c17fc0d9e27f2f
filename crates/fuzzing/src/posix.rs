//! The words of a line as a POSIX shell reads them ("Shell Command Language", 2.2 and 2.3), for what needs nothing but quoting.
//!
//! It knows nothing of how the product quotes or reads. What a shell would do more with than take it for a word (expansions, operators, patterns, remarks) it
//! does not read.

/// `None`: it is not a line of plain words.
pub(crate) fn words(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut words = Vec::new();
    // `Some` from the first byte of a word on, also where it is only quotes.
    let mut word: Option<Vec<u8>> = None;
    let mut bytes = line.iter().copied();
    while let Some(byte) = bytes.next() {
        match byte {
            b' ' | b'\t' => words.extend(word.take()),
            b'\\' => match bytes.next()? {
                b'\n' => return None,
                next => word.get_or_insert_default().push(next),
            },
            b'\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match bytes.next()? {
                        b'\'' => break,
                        byte => word.push(byte),
                    }
                }
            }
            b'"' => double(&mut bytes, word.get_or_insert_default())?,
            b'#' if word.is_none() => return None,
            0 | b'\n' | b'$' | b'`' | b'|' | b'&' | b';' | b'<' | b'>' | b'(' | b')' | b'*' | b'?' | b'['
            | b'~' => return None,
            byte => word.get_or_insert_default().push(byte),
        }
    }
    words.extend(word);
    Some(words)
}

/// All up to the quote that closes it.
fn double(bytes: &mut impl Iterator<Item = u8>, word: &mut Vec<u8>) -> Option<()> {
    loop {
        match bytes.next()? {
            b'"' => return Some(()),
            0 | b'$' | b'`' => return None,
            b'\\' => match bytes.next()? {
                b'\n' => return None,
                next @ (b'$' | b'`' | b'"' | b'\\') => word.push(next),
                next => word.extend([b'\\', next]),
            },
            byte => word.push(byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::words;

    /// What is not read here a shell is not asked about.
    #[test]
    fn it_reads_what_sh_reads() {
        for line in [
            "a b  c",
            "'a b'\"c d\"e",
            "''",
            "\"\" x",
            r#""a\"b\\c\$d\`e\n""#,
            r"a\ b\'c",
            "a#b",
            "a'b'\"c\"\\d",
            " a\tb ",
            "'a\nb'",
        ] {
            let script = format!("printf '%s\\0' {line}");
            let output = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
            let wanted: Vec<Vec<u8>> = output.stdout.split(|&byte| byte == 0).map(<[u8]>::to_vec).collect();
            let wanted = wanted[..wanted.len() - 1].to_vec();
            assert_eq!(words(line.as_bytes()), Some(wanted), "{line}");
        }
        for line in ["$x", "\"$x\"", "`x`", "a;b", "a*", "~", "#x", "'a", "\"a", "a\\", "a\nb"] {
            assert_eq!(words(line.as_bytes()), None, "{line}");
        }
    }
}
