//! Where in a container something is mounted, and with which flags: one checked path, one checked list of words.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

/// A longer one is none.
const LONGEST: usize = 1024;
/// What a container mounts there itself would hide it; and `/old` is the old root's.
const TAKEN: [&str; 5] = ["/proc", "/sys", "/dev", "/run", "/old"];
const WANTED: &str = "an absolute path without `..`, blanks, `:`, `,`, `;` and `|`";

/// An absolute path in a container, normal, and none of those that every start covers.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct InnerPath(String);

impl InnerPath {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn as_path(&self) -> &Path {
        Path::new(&self.0)
    }
}

impl fmt::Display for InnerPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<InnerPath> for String {
    fn from(path: InnerPath) -> String {
        path.0
    }
}

impl TryFrom<String> for InnerPath {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl FromStr for InnerPath {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let path = plain_path(text)?;
        if path == "/" {
            return Err("a directory below the root, which is taken");
        }
        if TAKEN.iter().any(|taken| Path::new(&path).starts_with(taken)) {
            return Err(
                "a path that is not in /proc, /sys, /dev, /run or /old, which every start has of its own",
            );
        }
        Ok(Self(path))
    }
}

/// The path without what means nothing (`//`, a last `/`).
///
/// # Errors
/// What is wanted.
pub fn plain_path(text: &str) -> Result<String, &'static str> {
    let is_odd = |letter: char| letter.is_control() || letter.is_whitespace() || ":,;|".contains(letter);
    if !text.starts_with('/') || text.len() > LONGEST || text.contains(is_odd) {
        return Err(WANTED);
    }
    let parts: Vec<&str> = text.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if parts.contains(&"..") {
        return Err(WANTED);
    }
    Ok(format!("/{}", parts.join("/")))
}

/// What a mount forbids.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct MountFlags {
    pub read_only: bool,
    pub no_suid: bool,
    pub no_devices: bool,
    pub no_exec: bool,
    pub no_access_times: bool,
}

impl MountFlags {
    /// All words there are.
    pub const WANTED: &'static str = "some of: ro, nosuid, nodev, noexec, noatime";

    /// Takes a word for what it says; false: it says nothing.
    fn take(&mut self, word: &str) -> bool {
        match word {
            "ro" => self.read_only = true,
            "rw" => self.read_only = false,
            "nosuid" => self.no_suid = true,
            "nodev" => self.no_devices = true,
            "noexec" => self.no_exec = true,
            "noatime" => self.no_access_times = true,
            _ => return false,
        }
        true
    }

    /// Words between any of these.
    ///
    /// # Errors
    /// What is wanted.
    pub fn read(text: &str, between: &[char]) -> Result<Self, &'static str> {
        let mut flags = Self::default();
        let mut words = text.split(between).filter(|word| !word.is_empty());
        if words.all(|word| flags.take(word)) { Ok(flags) } else { Err(Self::WANTED) }
    }

    /// As they are read.
    pub fn words(self) -> Vec<&'static str> {
        let all = [
            ("ro", self.read_only),
            ("nosuid", self.no_suid),
            ("nodev", self.no_devices),
            ("noexec", self.no_exec),
            ("noatime", self.no_access_times),
        ];
        all.into_iter().filter(|(_, is_set)| *is_set).map(|(word, _)| word).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_normal_and_leads_to_what_no_start_covers() {
        for (text, wanted) in [
            ("/data", "/data"),
            ("//var/./lib/mysql/", "/var/lib/mysql"),
            ("/procs", "/procs"),
            ("/öl", "/öl"),
        ] {
            assert_eq!(text.parse::<InnerPath>().unwrap().as_str(), wanted);
        }
        let long = format!("/{}", "x".repeat(2000));
        for text in [
            "", "/", "//", "data", "./data", "/a/../b", "/..", "/a b", "/a\tb", "/a\nb", "/a\0b", "/a:b",
            "/a,b", "/a;b", "/proc", "/proc/1", "/sys/x", "/dev/sda", "/run", "//run/x", "/old", "/old/old",
            &long,
        ] {
            assert!(text.parse::<InnerPath>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn flags_are_words_and_nothing_else() {
        let flags = MountFlags::read("ro,noexec", &[',']).unwrap();
        assert_eq!(flags.words(), ["ro", "noexec"]);
        assert_eq!(MountFlags::read("", &[',']).unwrap(), MountFlags::default());
        for text in ["dev", "suid", "ro;noexec", "RO", "ro=1", "bind"] {
            assert!(MountFlags::read(text, &[',']).is_err(), "{text}");
        }
    }
}
