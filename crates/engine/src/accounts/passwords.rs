//! Password hashes: where the old one stands, and how it gets into the new shadow file.
//!
//! passwd(5) may hold the hash itself, or `x` for "in shadow". Either way it is in shadow afterwards, with
//! an `x` in passwd.

use super::merge::Accounts;
use super::note::{AccountNote, Notes, PasswordBecause};
use super::old::{OldAccounts, OldUser};
use super::table::Table;

const SHADOW_FIELDS: usize = 9;
/// The form of before 1990, which shadow-utils and glibc still take; a line with fewer fields they pass over.
const OLD_SHADOW_FIELDS: usize = 5;

/// The hash of an old user, empty if he has an empty one; `None`: there is none anywhere.
pub(super) fn hash<'a>(old: &'a OldAccounts, user: &'a OldUser) -> Option<&'a [u8]> {
    if user.password != b"x" {
        return Some(&user.password);
    }
    old.shadow.get(&user.name).map(|fields| fields[1].as_slice())
}

/// The line in shadow of a user who is carried: ageing and all. Without a hash he is locked.
pub(super) fn carry(new: &mut Accounts, old: &OldAccounts, user: &OldUser, notes: &mut Notes) {
    let hash = hash(old, user);
    match hash {
        Some([]) => notes.push(AccountNote::EmptyPassword { name: user.name.clone() }),
        Some(_) => {}
        None => {
            let because = PasswordBecause::NoneInOld;
            notes.push(AccountNote::PasswordNotKept { name: user.name.clone(), because });
        }
    }
    let hash = hash.unwrap_or(b"!");
    let fields = old.shadow.get(&user.name).cloned();
    place(&mut new.shadow, &user.name, hash, fields);
}

/// The hash of a user whom both roots have, or of root. All else stays the new root's.
pub(super) fn keep(new: &mut Accounts, old: &OldAccounts, user: &OldUser, row: usize, notes: &mut Notes) {
    let name = user.name.clone();
    let hash = match hash(old, user) {
        None => {
            let because = PasswordBecause::NoneInOld;
            return notes.push(AccountNote::PasswordNotKept { name, because });
        }
        Some([]) if user.uid == 0 => {
            let because = PasswordBecause::Empty;
            return notes.push(AccountNote::PasswordNotKept { name, because });
        }
        Some([]) => {
            notes.push(AccountNote::EmptyPassword { name: name.clone() });
            &[]
        }
        Some(hash) => hash,
    };
    notes.push(AccountNote::PasswordKept { name: name.clone() });
    new.passwd.set(row, 1, b"x");
    place(&mut new.shadow, &name, hash, None);
}

/// The line of shadow that counts: the first that the new root's own programs understand.
pub(super) fn shadow_row(shadow: &Table, name: &str) -> Option<usize> {
    shadow.find(name, OLD_SHADOW_FIELDS)
}

/// Into the line of that name, or else into one of its own.
pub(super) fn place(shadow: &mut Table, name: &str, hash: &[u8], fields: Option<Vec<Vec<u8>>>) {
    if let Some(row) = shadow_row(shadow, name) {
        return shadow.set(row, 1, hash);
    }
    let mut fields = fields.unwrap_or_else(|| vec![Vec::new(); SHADOW_FIELDS]);
    fields[0] = name.as_bytes().to_vec();
    fields[1] = hash.to_vec();
    shadow.add(fields);
}
