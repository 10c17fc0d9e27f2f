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
