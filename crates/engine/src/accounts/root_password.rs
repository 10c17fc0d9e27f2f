//! With which password root can log in to a new root: what an operator asks first after a reinstall.
//!
//! Read from what the new root has in the end, not from what was meant to be put there. Nothing is tried out: a hash that is one counts as a
//! password, anything else (`!`, `*`, `!locked`) lets nobody in.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::merge::Merged;
use super::note::AccountNote;
use super::old::ROOT;
use super::passwords;
use super::table::Table;
use super::{AccountFiles, GivenPassword};

/// Which password is valid for root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RootPassword {
    /// That of the old root.
    Old,
    /// The one that was given.
    Given,
    /// The one that the template comes with.
    Template,
    /// The one that `vps.reinstall` has put there.
    Script,
    /// Something that ran inside has set another since.
    Changed,
    /// None: root cannot log in with one.
    Locked,
    /// The empty one: anybody is root.
    Empty,
    /// There is no root in passwd.
    Missing,
}

impl RootPassword {
    /// The stable word of `--json`.
    pub fn word(self) -> &'static str {
        match self {
            RootPassword::Old => "old",
            RootPassword::Given => "given",
            RootPassword::Template => "template",
            RootPassword::Script => "script",
            RootPassword::Changed => "changed",
            RootPassword::Locked => "locked",
            RootPassword::Empty => "empty",
            RootPassword::Missing => "missing",
        }
    }

    /// Whether somebody ought to look at it.
    pub fn is_warning(self) -> bool {
        matches!(self, RootPassword::Empty | RootPassword::Missing)
    }
}

impl fmt::Display for RootPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("root's password: ")?;
        f.write_str(match self {
            RootPassword::Old => "the one of the old root",
            RootPassword::Given => "the one that was given with --password",
            RootPassword::Template => "the one of the template",
            RootPassword::Script => "the one that vps.reinstall has set",
            RootPassword::Changed => "the one that something inside the new root has set",
            RootPassword::Locked => "none, root cannot log in with one (locked)",
            RootPassword::Empty => "it is EMPTY, anybody can log in as root",
            RootPassword::Missing => "none, the new root has no user `root`",
        })
    }
}

/// What stands in a root in the place of root's password. It is in no log.
#[derive(Clone, PartialEq, Eq)]
pub struct RootSecret {
    /// `None`: there is no root.
    secret: Option<Vec<u8>>,
}

impl fmt::Debug for RootSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RootSecret").finish_non_exhaustive()
    }
}

impl RootSecret {
    /// Of a root as it is.
    pub fn read(files: &AccountFiles) -> RootSecret {
        RootSecret::of(files.passwd.as_deref(), files.shadow.as_deref())
    }

    /// Of a new root as it is after a merge.
    pub fn after(new: &AccountFiles, merged: &Merged) -> RootSecret {
        let passwd = merged.files.passwd.as_ref().or(new.passwd.as_ref());
        let shadow = merged.files.shadow.as_ref().or(new.shadow.as_ref());
        RootSecret::of(passwd.map(Vec::as_slice), shadow.map(Vec::as_slice))
    }

    fn of(passwd: Option<&[u8]>, shadow: Option<&[u8]>) -> RootSecret {
        let (passwd, shadow) = (Table::parse(passwd), Table::parse(shadow));
        let Some(row) = passwd.find(ROOT, 7) else { return RootSecret { secret: None } };
        // passwd(5): only `x` leads to shadow.
        let secret = match passwd.field(row, 1) {
            b"x" => passwords::shadow_row(&shadow, ROOT).map_or(&b"!"[..], |row| shadow.field(row, 1)),
            other => other,
        };
        RootSecret { secret: Some(secret.to_vec()) }
    }

    /// Whose it is, if it is a password at all; `source` is where one comes from.
    pub fn valid(&self, source: RootPassword) -> RootPassword {
        match self.secret.as_deref() {
            None => RootPassword::Missing,
            Some([]) => RootPassword::Empty,
            Some(secret) if is_hash(secret) => source,
            Some(_) => RootPassword::Locked,
        }
    }
}

/// Where the password of a merged root comes from: `own` is what the new root had before.
pub fn source(merged: &Merged, given: Option<&GivenPassword>, own: RootPassword) -> RootPassword {
    if given.is_some_and(|given| given.user() == ROOT) {
        return RootPassword::Given;
    }
    let is_kept = |note: &AccountNote| matches!(note, AccountNote::PasswordKept { name } if name == ROOT);
    if merged.report.iter().any(is_kept) { RootPassword::Old } else { own }
}

/// Whether crypt(3) could ever make it out of a password, as crypt(5) tells its forms.
fn is_hash(secret: &[u8]) -> bool {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'/');
    match secret {
        [b'$', rest @ ..] => rest.iter().filter(|byte| **byte == b'$').count() >= 2,
        [b'_', rest @ ..] => rest.len() == 19 && rest.iter().all(is_plain),
        _ => secret.len() == 13 && secret.iter().all(is_plain),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn valid(passwd: &str, shadow: Option<&str>) -> RootPassword {
        let files = AccountFiles {
            passwd: Some(passwd.as_bytes().to_vec()),
            shadow: shadow.map(|text| text.as_bytes().to_vec()),
            ..AccountFiles::default()
        };
        RootSecret::read(&files).valid(RootPassword::Old)
    }

    #[test]
    fn what_stands_there_tells_whether_it_is_a_password() {
        use RootPassword::{Empty, Locked, Old};
        for (secret, wanted) in [
            ("$6$rounds=100000$salt$hash", Old),
            ("$1$salt$hash", Old),
            ("$y$j9T$salt$hash", Old),
            ("_J9..CCCCXBrJUJV154M", Old),
            ("rqXexS6ZhobKA", Old),
            ("", Empty),
            ("!", Locked),
            ("!!", Locked),
            ("*", Locked),
            ("!*", Locked),
            ("*LK*", Locked),
            ("!locked", Locked),
            ("!unprovisioned", Locked),
            ("!$6$salt$hash", Locked),
            ("x", Locked),
            ("NP", Locked),
            ("$6$", Locked),
        ] {
            let shadow = format!("daemon:*:1:0:9:7:::\nroot:{secret}::0:99999:7:::\n");
            assert_eq!(valid("root:x:0:0:root:/root:/bin/sh\n", Some(&shadow)), wanted, "{secret}");
            let passwd = format!("root:{secret}:0:0:root:/root:/bin/sh\n");
            let wanted = if secret == "x" { Old } else { wanted };
            assert_eq!(
                valid(&passwd, Some("root:$6$salt$hash::0:99999:7:::\n")),
                wanted,
                "{secret} in passwd"
            );
        }
        assert_eq!(valid("root:x:0:0:root:/root:/bin/sh\n", None), Locked);
        assert_eq!(valid("root:x:0:0:root:/root:/bin/sh\n", Some("root::\n")), Locked, "a line of nothing");
        assert_eq!(valid("toor:x:0:0:root:/root:/bin/sh\n", None), RootPassword::Missing);
        assert_eq!(RootSecret::read(&AccountFiles::default()).valid(Old), RootPassword::Missing);
    }

    #[test]
    fn it_is_in_no_log() {
        let files = AccountFiles {
            passwd: Some(b"root:$6$salt$hash:0:0::/:/bin/sh\n".to_vec()),
            ..AccountFiles::default()
        };
        assert!(!format!("{:?}", RootSecret::read(&files)).contains("hash"));
    }
}
