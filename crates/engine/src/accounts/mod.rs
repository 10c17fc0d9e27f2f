//! The people of an old root in a new one: passwd, shadow, group, gshadow, subuid, subgid.
//!
//! Bytes in, bytes out: nothing here touches a root or runs anything of it. The old files are hostile input,
//! the new ones are the template's and are added to, never rewritten.
//!
//! - users and groups at or above the old root's `UID_MIN` / `GID_MIN` that the new one lacks are added;
//! - the password hashes of root and of those users are the old ones; memberships are merged by name;
//! - an id that is taken is never shared: whoever had it is not carried, and the report says so;
//! - a line of the old root that we do not understand is kept out, and the report says which and why;
//! - a line of the new root that we do not understand stays, byte for byte.
//!
//! ```text
//!   old files ── read ──> OldAccounts ──┐
//!                                       ├── merge ──> changed files + homes to make + report
//!   new files ── parse ─> Table, each ──┘
//! ```

mod added;
mod given;
mod groups;
mod homes;
mod login_defs;
mod merge;
mod note;
mod old;
mod passwords;
mod people;
mod ranges;
mod root_password;
mod shells;
mod table;
#[cfg(test)]
mod tests;

pub use added::{AddError, NewUser, USERADD_DEFAULTS, add, complete, has_user, shell_of_new_users};
pub use given::{GivenPassword, LONGEST_PASSWORD, NoSuchUser, PasswordError};
pub use homes::Home;
pub use merge::{Merged, merge};
pub use note::{AccountFile, AccountNote, Because, HomeBecause, LineBecause, PasswordBecause, RangeBecause};
pub use people::{homes_of_people, names_by_id};
pub use root_password::{RootPassword, RootSecret, source as root_password_source};

use std::fmt;

/// The account files of one root; `None`: it has no such file.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct AccountFiles {
    pub passwd: Option<Vec<u8>>,
    pub shadow: Option<Vec<u8>>,
    pub group: Option<Vec<u8>>,
    pub gshadow: Option<Vec<u8>>,
    pub subuid: Option<Vec<u8>>,
    pub subgid: Option<Vec<u8>>,
    /// Read only: of the old root, for `UID_MIN` and `GID_MIN`.
    pub login_defs: Option<Vec<u8>>,
}

/// Sizes only: password hashes belong in no log.
impl fmt::Debug for AccountFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = |file: &Option<Vec<u8>>| file.as_ref().map(Vec::len);
        f.debug_struct("AccountFiles")
            .field("passwd", &size(&self.passwd))
            .field("shadow", &size(&self.shadow))
            .field("group", &size(&self.group))
            .field("gshadow", &size(&self.gshadow))
            .field("subuid", &size(&self.subuid))
            .field("subgid", &size(&self.subgid))
            .field("login_defs", &size(&self.login_defs))
            .finish()
    }
}
