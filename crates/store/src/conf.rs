//! `ve.conf`, `vz.conf` and samples: `KEY="value"` lines that people, scripts and we write.
//!
//! A file is kept byte for byte: comments, order, unknown and odd lines, keys that stand twice (the last one
//! counts), CRLF, a missing last newline, text that is not UTF-8. Only the line that is set is written anew, so that
//! a shell which sources the file reads exactly the value that was set. Nothing is expanded.

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use crate::atomic;
use crate::shell_word;

const LIMIT: u64 = 1 << 20;

/// What is wrong with a configuration, or with what somebody wants to write into it.
#[derive(Debug, thiserror::Error)]
pub enum ConfError {
    #[error("there is no `{}`", .path.display())]
    Missing { path: PathBuf },
    #[error("cannot read `{}`", .path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("`{}` is damaged in line {line}: {why}; correct it in an editor", .path.display())]
    Damaged { path: PathBuf, line: usize, why: &'static str },
    #[error("`{key}` cannot be a key: wanted letters, digits and `_`, not beginning with a digit")]
    BadKey { key: String },
    #[error("the value of `{key}` cannot be written: it holds {what}")]
    BadValue { key: String, what: &'static str },
}

/// A line that cannot be read for certain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Damage {
    /// From 1.
    pub line: usize,
    pub why: &'static str,
}

/// The lines of a configuration, each with its end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Conf {
    lines: Vec<Vec<u8>>,
}

impl Conf {
    pub fn parse(bytes: &[u8]) -> Self {
        Self { lines: bytes.split_inclusive(|&byte| byte == b'\n').map(<[u8]>::to_vec).collect() }
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        self.lines.concat()
    }

    pub fn load(path: &Path) -> Result<Self, ConfError> {
        let unreadable = |source| ConfError::Unreadable { path: path.to_owned(), source };
        // Not to wait for the writer of a FIFO, for which every command on this host would wait.
        let mut options = File::options();
        options.read(true).custom_flags(OFlags::NONBLOCK.bits() as i32);
        let mut file = match options.open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(ConfError::Missing { path: path.to_owned() });
            }
            Err(error) => return Err(unreadable(error)),
        };
        let Some(found) = file.metadata().ok().filter(|found| found.is_file()) else {
            return Err(unreadable(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file")));
        };
        let bytes = atomic::read_at_once(&mut file, found.len(), LIMIT).map_err(unreadable)?;
        if bytes.len() as u64 > LIMIT {
            return Err(unreadable(io::Error::from(io::ErrorKind::FileTooLarge)));
        }
        Ok(Self::parse(&bytes))
    }

    /// An empty one if there is none.
    pub fn load_or_default(path: &Path) -> Result<Self, ConfError> {
        match Self::load(path) {
            Err(ConfError::Missing { .. }) => Ok(Self::default()),
            other => other,
        }
    }

    /// Refuses one that is empty (as after a power cut) or has damage: to go on with half of somebody's limits and
    /// addresses is worse.
    pub fn load_checked(path: &Path) -> Result<Self, ConfError> {
        let conf = Self::load(path)?;
        let damage = match conf.lines.is_empty() {
            true => Some(Damage { line: 1, why: "the file is empty" }),
            false => conf.damage(),
        };
        match damage {
            Some(Damage { line, why }) => Err(ConfError::Damaged { path: path.to_owned(), line, why }),
            None => Ok(conf),
        }
    }

    /// The value, unquoted; the last line counts. Bytes that are not UTF-8 become U+FFFD.
    pub fn get(&self, key: &str) -> Option<String> {
        let assignment =
            self.lines.iter().rev().filter_map(|line| assignment(line)).find(|a| a.key == key)?;
        let word = shell_word::parse(assignment.text).ok()?;
        Some(String::from_utf8_lossy(&word.value).into_owned())
    }

    /// What [`Conf::get`] gives of a file with these bytes, without taking it apart: for whoever goes through hundreds.
    pub(crate) fn glance(bytes: &[u8], key: &str) -> Option<String> {
        let lines = bytes.split_inclusive(|&byte| byte == b'\n').rev();
        let assignment = lines.filter_map(assignment).find(|a| a.key == key)?;
        let word = shell_word::parse(assignment.text).ok()?;
        Some(String::from_utf8_lossy(&word.value).into_owned())
    }

    /// The keys that have a value, in the order of the file, each once.
    pub fn keys(&self) -> Vec<&str> {
        let mut keys: Vec<&str> = Vec::new();
        for assignment in self.lines.iter().filter_map(|line| assignment(line)) {
            if !keys.contains(&assignment.key) {
                keys.push(assignment.key);
            }
        }
        keys
    }

    /// Rewrites the last line of the key where it stands, with its comment, or appends one.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), ConfError> {
        if !is_key(key.as_bytes()) {
            return Err(ConfError::BadKey { key: key.to_owned() });
        }
        for (byte, what) in [('\n', "a newline"), ('\0', "a NUL byte")] {
            if value.contains(byte) {
                return Err(ConfError::BadValue { key: key.to_owned(), what });
            }
        }
        let quoted = shell_word::quote(value);
        let last = self.lines.iter_mut().rev().find(|line| assignment(line).is_some_and(|a| a.key == key));
        match last {
            Some(line) => *line = rewritten(line, &quoted),
            None => self.append([key.as_bytes(), b"=", &quoted, b"\n"].concat()),
        }
        Ok(())
    }

    fn append(&mut self, line: Vec<u8>) {
        if let Some(last) = self.lines.last_mut()
            && !last.ends_with(b"\n")
        {
            last.push(b'\n');
        }
        self.lines.push(line);
    }

    /// Removes every line of the key; whether there was one.
    pub fn remove(&mut self, key: &str) -> bool {
        let before = self.lines.len();
        self.lines.retain(|line| assignment(line).is_none_or(|a| a.key != key));
        self.lines.len() < before
    }

    /// Makes a comment of every line of the key, which loses nothing; whether there was one.
    pub fn comment_out(&mut self, key: &str) -> bool {
        let mut found = false;
        for line in &mut self.lines {
            if assignment(line).is_some_and(|a| a.key == key) {
                line.splice(0..0, *b"# ");
                found = true;
            }
        }
        found
    }

    /// The first line that cannot be read for certain: NUL bytes, an open quote. Odd lines are no damage.
    pub fn damage(&self) -> Option<Damage> {
        self.lines.iter().enumerate().find_map(|(index, line)| {
            let why = if line.contains(&0) {
                "it holds NUL bytes"
            } else {
                shell_word::parse(assignment(line)?.text).err()?
            };
            Some(Damage { line: index + 1, why })
        })
    }
}

/// `[blanks][export ]KEY=text`, the text without the end of the line.
struct Assignment<'a> {
    key: &'a str,
    /// All before the text: blanks, `export`, key and `=`.
    head: &'a [u8],
    text: &'a [u8],
}

fn assignment(line: &[u8]) -> Option<Assignment<'_>> {
    let content = line.strip_suffix(b"\n").unwrap_or(line);
    // A shell would take the carriage return into an unquoted value; nobody who wrote it meant that.
    let content = content.strip_suffix(b"\r").unwrap_or(content);
    let equals = content.iter().position(|&byte| byte == b'=')?;
    let (before, text) = content.split_at_checked(equals)?;
    let before = before.trim_ascii_start();
    let key = match before.strip_prefix(b"export") {
        Some(rest) if rest.first().is_some_and(|byte| matches!(byte, b' ' | b'\t')) => {
            rest.trim_ascii_start()
        }
        Some(_) | None => before,
    };
    if !is_key(key) {
        return None;
    }
    Some(Assignment {
        key: std::str::from_utf8(key).ok()?,
        head: content.get(..=equals)?,
        text: text.get(1..)?,
    })
}

fn is_key(key: &[u8]) -> bool {
    let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    key.first().is_some_and(|byte| !byte.is_ascii_digit()) && key.iter().all(is_word)
}

/// The line with another value. It ends in a plain newline: after a closing quote a carriage return would be a part
/// of what a shell reads.
fn rewritten(line: &[u8], quoted: &[u8]) -> Vec<u8> {
    let Some(Assignment { head, text, .. }) = assignment(line) else {
        return line.to_vec();
    };
    let tail = match shell_word::parse(text) {
        Ok(word) => text.get(word.length..).unwrap_or_default(),
        Err(_) => b"",
    };
    [head, quoted, tail, b"\n"].concat()
}

#[cfg(test)]
#[path = "conf_tests.rs"]
mod tests;
