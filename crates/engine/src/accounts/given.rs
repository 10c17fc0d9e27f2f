//! A password that somebody gives for one account of a new root.
//!
//! Only its hash is kept, and no log, no `Debug` and no journal has that. The hash is SHA-512 crypt: glibc, libxcrypt, musl and busybox all take
//! it, whatever the new root is; yescrypt, which the newest prefer, the others do not.

use std::fmt;

use sha_crypt::{Algorithm, Params, PasswordHasher, ShaCrypt};

use super::AccountFiles;
use super::merge::{Merged, is_person};
use super::note::AccountNote;
use super::passwords;
use super::table::Table;

/// musl takes no longer one, PAM twice as much. What one system takes is worth nothing if the next root is another's.
pub const LONGEST_PASSWORD: usize = 256;
/// crypt(5) has 5,000 when it is not told; that is of 2007. These take less than a tenth of a second.
const ROUNDS: u32 = 100_000;
/// 16 characters as they are written, and crypt(3) takes no more of a salt: with a longer one its result would differ from what stands in shadow.
const SALT_BYTES: usize = 12;
/// Whom the hint names when there is no such user: root and people, so many.
const NAMED: usize = 10;
const PEOPLE: u32 = 1000;

/// Why something cannot be a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    #[error("it is empty")]
    Empty,
    #[error("it is longer than {LONGEST_PASSWORD} bytes, which not every system takes")]
    TooLong,
    #[error("there is a control character in it, which cannot be typed at a login")]
    ControlCharacter,
    #[error("the system gives no random numbers")]
    NoRandomNumbers,
    #[error("it cannot be hashed")]
    NotHashed,
    #[error("it is no hash of a password: crypt(5) has those, `$6$…` or 13 letters and digits")]
    NoHash,
}

/// Why nobody can be given a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoSuchUser {
    /// Some of those that there are.
    pub there: Vec<String>,
}

/// For whom, and the hash.
#[derive(Clone)]
pub struct GivenPassword {
    user: String,
    hash: String,
}

impl fmt::Debug for GivenPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GivenPassword").field("user", &self.user).finish_non_exhaustive()
    }
}

impl GivenPassword {
    /// Checks and hashes one, with a new salt.
    ///
    /// # Errors
    /// When it cannot be one.
    pub fn new(user: &str, password: &[u8]) -> Result<GivenPassword, PasswordError> {
        if password.is_empty() {
            return Err(PasswordError::Empty);
        }
        if password.len() > LONGEST_PASSWORD {
            return Err(PasswordError::TooLong);
        }
        if password.iter().any(u8::is_ascii_control) {
            return Err(PasswordError::ControlCharacter);
        }
        let mut salt = [0; SALT_BYTES];
        match rustix::rand::getrandom(&mut salt, rustix::rand::GetRandomFlags::empty()) {
            Ok(SALT_BYTES) => {}
            Ok(_) | Err(_) => return Err(PasswordError::NoRandomNumbers),
        }
        let rounds = Params::new(ROUNDS).map_err(|_| PasswordError::NotHashed)?;
        let hasher = ShaCrypt::new(Algorithm::Sha512Crypt, rounds);
        let hash = hasher.hash_password_with_salt(password, &salt).map_err(|_| PasswordError::NotHashed)?;
        Ok(GivenPassword { user: user.to_owned(), hash: hash.to_string() })
    }

    /// One that somebody has hashed already, as it is to stand in shadow.
    ///
    /// # Errors
    /// When it cannot be one: whoever gives the password itself by mistake must not find it there.
    pub fn hashed(user: &str, hash: &[u8]) -> Result<GivenPassword, PasswordError> {
        let hash = std::str::from_utf8(hash).map_err(|_| PasswordError::NoHash)?;
        // crypt(5): what may stand in one.
        let is_plain = hash.bytes().all(|byte| byte.is_ascii_graphic() && !b":;*!\\".contains(&byte));
        let is_modular = hash.strip_prefix('$').is_some_and(|rest| {
            let parts: Vec<&str> = rest.split('$').collect();
            parts.len() >= 3 && !parts[0].is_empty() && parts.last().is_some_and(|last| last.len() >= 20)
        });
        let of_des = |byte: u8| byte.is_ascii_alphanumeric() || b"./".contains(&byte);
        let is_des = hash.len() == 13 && hash.bytes().all(of_des);
        if hash.is_empty() {
            return Err(PasswordError::Empty);
        }
        if hash.len() > LONGEST_PASSWORD {
            return Err(PasswordError::TooLong);
        }
        if !is_plain || !(is_modular || is_des) {
            return Err(PasswordError::NoHash);
        }
        Ok(GivenPassword { user: user.to_owned(), hash: hash.to_owned() })
    }

    /// For whom it is.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Whether the user is in the new root after the merge.
    ///
    /// # Errors
    /// When he is not.
    pub fn check(&self, new: &AccountFiles, merged: &Merged) -> Result<(), NoSuchUser> {
        self.row(&passwd(new, merged)).map(drop)
    }

    /// Puts it into the new root, on top of what was merged: whatever his password was, this one is valid, since `today` (in days of the epoch).
    ///
    /// # Errors
    /// When there is no such user; nothing has changed then.
    pub fn set(&self, new: &AccountFiles, merged: &mut Merged, today: u32) -> Result<(), NoSuchUser> {
        let mut passwd = passwd(new, merged);
        let row = self.row(&passwd)?;
        passwd.set(row, 1, b"x");
        merged.files.passwd = passwd.into_changed().or(merged.files.passwd.take());
        let mut shadow =
            Table::parse(merged.files.shadow.as_ref().or(new.shadow.as_ref()).map(Vec::as_slice));
        passwords::place(&mut shadow, &self.user, self.hash.as_bytes(), None);
        if let Some(row) = passwords::shadow_row(&shadow, &self.user) {
            // 0 would mean that he has to change it at his first login.
            shadow.set(row, 2, today.max(1).to_string().as_bytes());
        }
        merged.files.shadow = shadow.into_changed().or(merged.files.shadow.take());
        merged.report.retain(|note| !is_of_password(note, &self.user));
        merged.report.push(AccountNote::PasswordGiven { name: self.user.clone() });
        Ok(())
    }

    fn row(&self, passwd: &Table) -> Result<usize, NoSuchUser> {
        passwd.find(&self.user, 7).ok_or_else(|| {
            let is_named = |row: &usize| {
                let logs_in = |uid| uid == 0 || is_person(uid, PEOPLE);
                passwd.find(&passwd.name(*row), 7) == Some(*row)
                    && passwd.number(*row, 2).is_some_and(logs_in)
            };
            let there = passwd.rows().filter(is_named).map(|row| passwd.name(row));
            NoSuchUser { there: there.take(NAMED).collect() }
        })
    }
}

fn passwd(new: &AccountFiles, merged: &Merged) -> Table {
    Table::parse(merged.files.passwd.as_ref().or(new.passwd.as_ref()).map(Vec::as_slice))
}

/// What was said of a password that this one has taken the place of.
fn is_of_password(note: &AccountNote, user: &str) -> bool {
    matches!(note,
        AccountNote::PasswordKept { name }
        | AccountNote::PasswordNotKept { name, .. }
        | AccountNote::EmptyPassword { name } if name == user)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_one_that_crypt_would_make() {
        for hash in [
            "$6$salt$IxDD3jeSOb5eB1CX5LBsqZFVkJdido3OUILO5Ifz5iwMuTS4XMS130MTSuDDl3aCI6WouIL9AjRbLCelDCy.g.",
            "$y$j9T$F5Jx5fExrKuPp53xLKQ..1$X3DX6M94c7o.9agCG9G317fhZg9SqC.5i5rd.RhAtQ7",
            "$1$salt$qJH7.N4xYta3aEG/dfqo/0",
            "ab01FAX.bQRSU",
        ] {
            let given = GivenPassword::hashed("root", hash.as_bytes()).unwrap();
            assert_eq!(given.hash, hash);
            assert!(!format!("{given:?}").contains(hash));
        }
        let long = format!("$6$salt${}", "a".repeat(300));
        for (hash, wanted) in [
            ("", PasswordError::Empty),
            ("secret", PasswordError::NoHash),
            ("$6$salt", PasswordError::NoHash),
            ("$6$salt$short", PasswordError::NoHash),
            ("$6$salt$IxDD3jeSOb5eB1CX5LBsqZFVkJdido:0:0", PasswordError::NoHash),
            ("$6$salt$IxDD3jeSOb5eB1CX5LBsqZFVkJdido\nroot", PasswordError::NoHash),
            ("!$6$salt$IxDD3jeSOb5eB1CX5LBsqZFVkJdido", PasswordError::NoHash),
            (long.as_str(), PasswordError::TooLong),
        ] {
            assert_eq!(GivenPassword::hashed("root", hash.as_bytes()).unwrap_err(), wanted, "{hash}");
        }
    }
}
