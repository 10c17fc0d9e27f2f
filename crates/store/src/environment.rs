//! `VE_ENVIRONMENT`: what of an environment process 1 of a container has, and whatever is executed in it, beside what every one has.

use crate::conf::Conf;

/// In `ve.conf`.
pub const KEY: &str = "VE_ENVIRONMENT";
/// What there is to say.
pub const WANTED: &str = "`NAME=VALUE`, up to 64 with blanks between them and 4096 bytes in all, each name once; names of letters, digits and `_`, \
     none of those by which a container knows that it is one";

const MOST: usize = 64;
const LONGEST: usize = 4096;
/// By these an init knows where it is, and whom it tells that it is up.
const OURS: [&str; 3] = ["container", "container_uuid", "NOTIFY_SOCKET"];

/// Those of a configuration.
///
/// # Errors
/// What is wanted.
pub fn of(conf: &Conf) -> Result<Vec<(String, String)>, &'static str> {
    read(&conf.get(KEY).unwrap_or_default())
}

/// Those that are written there.
///
/// # Errors
/// What is wanted.
pub fn read(text: &str) -> Result<Vec<(String, String)>, &'static str> {
    let mut all: Vec<(String, String)> = Vec::new();
    if text.len() > LONGEST {
        return Err(WANTED);
    }
    for word in text.split_ascii_whitespace() {
        let (name, value) = word.split_once('=').ok_or(WANTED)?;
        let is_name = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if !is_name || OURS.contains(&name) || value.contains(char::is_control) {
            return Err(WANTED);
        }
        if all.len() == MOST || all.iter().any(|(other, _)| other == name) {
            return Err(WANTED);
        }
        all.push((name.to_owned(), value.to_owned()));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_none_is_refused_and_nothing_is_expanded() {
        let all = read(" LANG=C.UTF-8\tA=  b_1=x=$(id);`id` ").unwrap();
        let all: Vec<String> = all.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(all, ["LANG=C.UTF-8", "A=", "b_1=x=$(id);`id`"]);
        assert_eq!(read("").unwrap(), []);
        let many: String = (0..65).map(|number| format!("A{number}=1 ")).collect();
        let long = format!("A={}", "x".repeat(LONGEST));
        let bad =
            ["A", "=1", "1A=1", "A-B=1", "A;B=1", "\u{e4}=1", "A=1 A=2", "container=lxc", "NOTIFY_SOCKET=/x"];
        for text in bad.into_iter().chain(["A=\0", "A=\u{1b}[2J", "export A=1", &many, &long]) {
            assert_eq!(read(text), Err(WANTED), "{text}");
        }
    }
}
