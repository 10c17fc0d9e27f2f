//! Which files package managers hold to be configuration: what somebody may well have edited, and a package may ask about.
//!
//! dpkg says it of each package (`Conffiles:` in its `status`); apk protects what is below `/etc`, so it is the files of packages there.
//! rpm's database is a binary one, and is not read. What these files say comes from a root in which nobody is trusted: it marks paths,
//! and nothing is opened because of it.

use std::collections::HashSet;
use std::path::Path;

use tree::{LayeredRoot, TreeError};

const DPKG: &str = "/var/lib/dpkg/status";
const APK: &str = "/lib/apk/db/installed";
/// A thousand times what a full desktop has.
const LARGEST: u64 = 64 << 20;

/// Paths, absolute.
#[derive(Debug, Default)]
pub struct Conffiles(HashSet<Vec<u8>>);

impl Conffiles {
    /// Adds those that one root knows of.
    ///
    /// # Errors
    /// When a database is there and cannot be read.
    pub fn add_of(&mut self, root: &LayeredRoot) -> Result<(), TreeError> {
        let read = |path| root.read_file_followed(Path::new(path), LARGEST);
        if let Some(status) = read(DPKG)? {
            self.add_dpkg(&status.bytes);
        }
        if let Some(installed) = read(APK)? {
            self.add_apk(&installed.bytes);
        }
        Ok(())
    }

    /// Whether it is one.
    pub fn contains(&self, path: &[u8]) -> bool {
        self.0.contains(path)
    }

    /// Lines `␠PATH␠MD5` with perhaps `␠obsolete` or `␠remove-on-upgrade`, below `Conffiles:` up to a line that begins without a space.
    fn add_dpkg(&mut self, status: &[u8]) {
        let mut is_in_field = false;
        for line in status.split(|&byte| byte == b'\n') {
            let Some(entry) = line.strip_prefix(b" ") else {
                is_in_field = line.eq_ignore_ascii_case(b"conffiles:");
                continue;
            };
            if !is_in_field {
                continue;
            }
            let mut entry = entry;
            for flag in [&b" remove-on-upgrade"[..], b" obsolete"] {
                entry = entry.strip_suffix(flag).unwrap_or(entry);
            }
            // A path may have spaces in it, a digest has none.
            if let Some(end) = entry.iter().rposition(|&byte| byte == b' ')
                && entry.starts_with(b"/")
            {
                self.0.insert(entry[..end].to_vec());
            }
        }
    }

    /// `F:` and a directory, then `R:` and a name for each file in it.
    fn add_apk(&mut self, installed: &[u8]) {
        let mut directory: &[u8] = b"";
        for line in installed.split(|&byte| byte == b'\n') {
            match line {
                [b'F', b':', path @ ..] => directory = path,
                [b'R', b':', name @ ..] if directory == b"etc" || directory.starts_with(b"etc/") => {
                    self.0.insert([b"/", directory, b"/", name].concat());
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(conffiles: Conffiles) -> Vec<String> {
        let mut paths: Vec<String> =
            conffiles.0.into_iter().map(|path| String::from_utf8_lossy(&path).into_owned()).collect();
        paths.sort();
        paths
    }

    #[test]
    fn dpkg_lists_them_for_each_package_with_digests_and_flags() {
        let mut conffiles = Conffiles::default();
        conffiles.add_dpkg(
            b"Package: a\nConffiles:\n /etc/a 0123\n /etc/with space 4567\n /etc/old 89ab obsolete\n /etc/gone cdef remove-on-upgrade\n\
            Description: short\n /etc/no a line of text\nConffiles:\n/etc/out 12\n relative 12\n\nPackage: b\nConffiles:\n /etc/new newconffile\n /etc/last 12",
        );
        assert_eq!(
            sorted(conffiles),
            ["/etc/a", "/etc/gone", "/etc/last", "/etc/new", "/etc/old", "/etc/with space"],
            "a field ends with the first line that does not begin with a space"
        );
    }

    #[test]
    fn of_apk_it_is_what_packages_have_below_etc() {
        let mut conffiles = Conffiles::default();
        conffiles.add_apk(
            b"P:a\nF:etc\nR:hosts\nZ:Q1\nF:etc/init.d\nR:net\nF:etcetera\nR:no\nF:usr/bin\nR:no\n\nP:b\nF:etc/b\nR:conf\n",
        );
        assert_eq!(sorted(conffiles), ["/etc/b/conf", "/etc/hosts", "/etc/init.d/net"]);
    }
}
