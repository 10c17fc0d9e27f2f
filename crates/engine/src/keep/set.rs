//! Keep sets: files in `/etc/vz/keep.d`, and those that come with the product where no file has their name.

use std::path::Path;

use store::Prefix;

use super::{Pattern, parse};
use crate::error::{Code, Failure, Result, system};
use crate::trust;

/// What is installed, and what counts where it is not.
const SHIPPED: [(&str, &str); 7] = [
    ("cron", include_str!("../../../../share/keep.d/cron.conf")),
    ("home", include_str!("../../../../share/keep.d/home.conf")),
    ("machine-id", include_str!("../../../../share/keep.d/machine-id.conf")),
    ("network", include_str!("../../../../share/keep.d/network.conf")),
    ("packages", include_str!("../../../../share/keep.d/packages.conf")),
    ("ssh-host-keys", include_str!("../../../../share/keep.d/ssh-host-keys.conf")),
    ("ssh-keys", include_str!("../../../../share/keep.d/ssh-keys.conf")),
];
const SUFFIX: &str = ".conf";
/// A file larger than this is no set.
const LARGEST: u64 = 1024 * 1024;

/// The names of all sets, sorted.
pub fn names(prefix: &Prefix) -> Vec<String> {
    let mut names: Vec<String> = SHIPPED.iter().map(|(name, _)| (*name).to_owned()).collect();
    for entry in std::fs::read_dir(prefix.keep_d()).into_iter().flatten().flatten() {
        if let Some(name) = entry.file_name().to_str().and_then(|name| name.strip_suffix(SUFFIX))
            && is_name(name)
        {
            names.push(name.to_owned());
        }
    }
    names.sort();
    names.dedup();
    names
}

/// The lines of a set; `None`: there is none of that name.
///
/// # Errors
/// When its file cannot be read, may be written by others than root, or has a line that says nothing.
pub fn read(prefix: &Prefix, name: &str) -> Result<Option<Vec<Pattern>>> {
    if !is_name(name) {
        return Ok(None);
    }
    let path = prefix.keep_d().join(format!("{name}{SUFFIX}"));
    let text = match trust::open(prefix, &path, LARGEST)? {
        Some(file) => String::from_utf8(file.bytes).map_err(|error| {
            system(format!("cannot read `{}`", path.display()), &std::io::Error::other(error)).unchanged()
        })?,
        None => match SHIPPED.iter().find(|(shipped, _)| *shipped == name) {
            Some((_, text)) => (*text).to_owned(),
            None => return Ok(None),
        },
    };
    parse_file(&path, &text).map(Some)
}

/// The lines of a set's file that say something. Public for `fuzzing`.
#[doc(hidden)]
pub fn parse_file(path: &Path, text: &str) -> Result<Vec<Pattern>> {
    let mut patterns = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        patterns.push(parse(line).map_err(|because| {
            Failure::new(Code::BadValue, format!("the keep set `{}` cannot be used", path.display()))
                .because(format!("line {}, `{}`: {because}", index + 1, tree::escaped(line.as_bytes())))
                .unchanged()
                .hint("correct that line: a path, with `~/` for every home, or `@packages`")
        })?);
    }
    Ok(patterns)
}

fn is_name(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    !name.is_empty() && name.len() <= 64 && name.bytes().all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shipped_can_be_read() {
        let directory = tempfile::tempdir().unwrap();
        let prefix = Prefix::new(directory.path()).unwrap();
        for (name, _) in SHIPPED {
            assert!(!read(&prefix, name).unwrap().unwrap().is_empty(), "{name}");
        }
        assert_eq!(read(&prefix, "none").unwrap(), None);
        assert_eq!(read(&prefix, "../etc").unwrap(), None);
        assert_eq!(names(&prefix).len(), SHIPPED.len());
    }
}
