//! What a reinstall is to keep of the old root, beyond its users: `--keep PATH|SET` and `REINSTALL_KEEP`.
//!
//! ```text
//! --keep home        the set /etc/vz/keep.d/home.conf    /home
//!                                                        ~            the home of root and of every carried user
//! --keep /srv/w*     itself                              /srv/w*
//! ```
//!
//! A set is a file of paths, a line each. A path may have `*`, `?` and `[…]` in its names, of which none crosses a `/` or matches a leading dot.
//! Sets are read and paths are checked before anything is touched; what they match is only found out when it is copied, by
//! [`crate::operation`]'s step *carry*, from the root of a container that is stopped.

mod find;
mod set;

use serde::{Deserialize, Serialize};
use store::Prefix;

use crate::error::{Code, Failure, Result};

pub use find::{HomeOf, find};
#[doc(hidden)]
pub use set::parse_file;

/// Mount points of ours, and the old roots: what is in them is not the root's.
pub const RESERVED: [&str; 5] = ["old", "proc", "sys", "dev", "run"];

/// One thing to keep, as somebody has named it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keep {
    /// `home`, `/srv/w*`.
    pub word: String,
    /// What that is.
    pub patterns: Vec<Pattern>,
}

/// One line of a set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pattern {
    /// An absolute path, whose names may be patterns.
    Path(String),
    /// The same in the home of root and of every carried user; empty: the home itself.
    Home(String),
    /// The packages that were installed by hand.
    Packages,
    /// As [`Pattern::Path`], but only what is not as it was in the template.
    Changed(String),
}

impl Keep {
    /// For people.
    pub fn said(&self) -> String {
        said(&self.word, self.is_only_changed())
    }

    /// Of what it names, only what was changed.
    pub fn is_only_changed(&self) -> bool {
        self.patterns.iter().any(|pattern| matches!(pattern, Pattern::Changed(_)))
    }
}

/// What was kept, or is to be, for people.
pub fn said(word: &str, is_only_changed: bool) -> String {
    if is_only_changed { format!("what was changed in {word}") } else { word.to_owned() }
}

/// What somebody has named to be kept.
#[derive(Debug, Clone, Copy, Default)]
pub struct Named<'a> {
    /// `--keep`.
    pub keep: &'a [String],
    /// `--keep-changed`.
    pub changed: &'a [String],
    /// `REINSTALL_KEEP`.
    pub configured: Option<&'a str>,
}

/// Reads what is to be kept: the words of `--keep`, `--keep-changed` and `REINSTALL_KEEP`. A word that comes twice counts once.
///
/// # Errors
/// [`Code::BadValue`] for a set that is not there, or a path that cannot be kept, with nothing changed.
pub fn read(prefix: &Prefix, named: Named<'_>) -> Result<Vec<Keep>> {
    let mut kept: Vec<Keep> = Vec::new();
    let refused = |said: &str, because: String| {
        let said = tree::escaped(said.as_bytes());
        Failure::new(Code::BadValue, format!("`{said}` cannot be kept")).because(because).unchanged()
    };
    let options = named.keep.iter().map(|word| (format!("--keep {word}"), word.as_str()));
    let configured = named.configured.unwrap_or_default().split_ascii_whitespace();
    let configured = configured.map(|word| (format!("REINSTALL_KEEP: {word}"), word));
    for (said, word) in options.chain(configured) {
        if kept.iter().any(|keep| keep.word == word) {
            continue;
        }
        let refused = |because: String| refused(&said, because);
        let patterns = if word.starts_with('/') || word.starts_with('~') {
            vec![parse(word).map_err(|because| {
                refused(because).hint("name a directory or a file of the container, or a set")
            })?]
        } else {
            let found = set::read(prefix, word)?;
            found.ok_or_else(|| {
                refused("it is no path, which begins with `/`, and no set".to_owned()).hint(format!(
                    "the sets are {}: files in {}",
                    set::names(prefix).join(", "),
                    prefix.keep_d().display()
                ))
            })?
        };
        kept.push(Keep { word: word.to_owned(), patterns });
    }
    for word in named.changed {
        let refused = |because: String| {
            refused(&format!("--keep-changed {word}"), because)
                .hint("name a directory or a file of the container, by a path that begins with `/`")
        };
        let path = match parse(word).map_err(refused)? {
            Pattern::Path(path) => path,
            Pattern::Home(_) | Pattern::Packages | Pattern::Changed(_) => {
                return Err(refused("it is no path, which begins with `/`".to_owned()));
            }
        };
        let keep = Keep { word: word.clone(), patterns: vec![Pattern::Changed(path)] };
        if !kept.contains(&keep) {
            kept.push(keep);
        }
    }
    Ok(kept)
}

/// One line of a set, or a path on the command line.
///
/// # Errors
/// Why it says nothing.
pub fn parse(line: &str) -> std::result::Result<Pattern, String> {
    if line == "@packages" {
        return Ok(Pattern::Packages);
    }
    let (is_home, path) = match line.strip_prefix('~') {
        Some(rest) => (true, rest),
        None => (false, line),
    };
    if !(path.starts_with('/') || is_home && path.is_empty()) {
        return Err("it is no path: one begins with `/`, or with `~/` for every home".to_owned());
    }
    let names: Vec<&str> = path.split('/').filter(|name| !name.is_empty() && *name != ".").collect();
    if names.contains(&"..") {
        return Err("`..` is not followed".to_owned());
    }
    if names.iter().any(|name| name.contains("**")) {
        return Err("`**` means nothing here: a directory is kept with all that is in it".to_owned());
    }
    if let Some(bad) = names.iter().find_map(|name| glob::Pattern::new(name).err()) {
        return Err(format!("it is no pattern: {}", bad.msg));
    }
    let path: String = names.iter().flat_map(|name| ["/", name]).collect();
    if is_home {
        return Ok(Pattern::Home(path));
    }
    match names.first() {
        None => Err("that is the whole root: `prlctl generation-switch` goes back to it".to_owned()),
        Some(first) if RESERVED.contains(first) => {
            Err(format!("/{first} is no part of the root: it is mounted there at every start"))
        }
        Some(_) => Ok(Pattern::Path(path)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_path_a_home_or_the_packages() {
        let path = |text: &str| Ok(Pattern::Path(text.to_owned()));
        let home = |text: &str| Ok(Pattern::Home(text.to_owned()));
        for (line, wanted) in [
            ("/srv/www", path("/srv/www")),
            ("//srv/./www//", path("/srv/www")),
            ("/etc/ssh/ssh_host_*_key", path("/etc/ssh/ssh_host_*_key")),
            ("/older", path("/older")),
            ("~", home("")),
            ("~/", home("")),
            ("~/.ssh", home("/.ssh")),
            ("@packages", Ok(Pattern::Packages)),
        ] {
            assert_eq!(parse(line), wanted, "{line}");
        }
        for (line, because) in [
            ("/", "whole root"),
            ("/.", "whole root"),
            ("/old", "/old is no part"),
            ("/old/etc", "/old is no part"),
            ("/proc/1", "/proc is no part"),
            ("/srv/../etc", "`..`"),
            ("~/../etc", "`..`"),
            ("/srv/**/x", "`**`"),
            ("/srv/[a", "no pattern"),
            ("srv", "no path"),
            ("~alice", "no path"),
            ("", "no path"),
        ] {
            let refused = parse(line).unwrap_err();
            assert!(refused.contains(because), "{line}: {refused}");
        }
    }
}
