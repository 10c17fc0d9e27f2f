//! The merge itself: groups first, then users, then who is in which group, then subordinate ids.

use super::homes::{self, Home};
use super::login_defs::Minimums;
use super::note::{AccountFile, AccountNote, Because, Notes, PasswordBecause};
use super::old::{OldAccounts, OldGroup, OldUser, ROOT};
use super::table::Table;
use super::{AccountFiles, groups, passwords, ranges, shells};
use std::collections::{BTreeSet, HashMap, HashSet};

/// `nobody` and `nogroup`, at the far end of the ids of people.
const NOBODY: u32 = 65_534;

/// What is to be written into the new root, and what there is to say about it.
#[derive(Debug, Default)]
pub struct Merged {
    /// Only those that change. Each goes to its place atomically, with the mode that it has; a shadow or
    /// gshadow file that the new root lacked is to be 0640.
    pub files: AccountFiles,
    /// To be made if missing; parents come first.
    pub homes: Vec<Home>,
    pub report: Vec<AccountNote>,
}

/// The files of the new root while they are being added to.
#[derive(Debug)]
pub(super) struct Accounts {
    pub passwd: Table,
    pub shadow: Table,
    pub group: Table,
    pub gshadow: Table,
    pub carried_groups: HashSet<String>,
    /// Those who were carried, and those whom both roots have.
    pub people: HashSet<String>,
}

/// What becomes of a user or group of the old root.
pub(super) enum Verdict {
    Carry,
    /// The new root has it in this row, by name and id.
    Same(usize),
    No(Because),
}

/// Merges the people of `old` into `new`. `shell_exists` is asked of the new root.
pub fn merge(old: &AccountFiles, new: &AccountFiles, shell_exists: &dyn Fn(&str) -> bool) -> Merged {
    let mut notes = Notes::default();
    if old.passwd.is_none() {
        notes.push(AccountNote::OldFileMissing { file: AccountFile::Passwd });
    }
    let minimums = Minimums::read(old.login_defs.as_deref(), &mut notes);
    let old = OldAccounts::read(old, &mut notes);
    let mut accounts = Accounts {
        passwd: Table::parse(new.passwd.as_deref()),
        shadow: Table::parse(new.shadow.as_deref()),
        group: Table::parse(new.group.as_deref()),
        gshadow: Table::parse(new.gshadow.as_deref()),
        carried_groups: HashSet::new(),
        people: HashSet::new(),
    };
    groups::carry(&mut accounts, &old, minimums, &mut notes);
    let homes = carry_users(&mut accounts, &old, minimums.uid, shell_exists, &mut notes);
    groups::merge_members(&mut accounts, &old, minimums.uid, &mut notes);
    let (subuid, subgid) = carry_ranges(&accounts, &old, new, &mut notes);
    Merged {
        files: AccountFiles {
            passwd: accounts.passwd.into_changed(),
            shadow: accounts.shadow.into_changed(),
            group: accounts.group.into_changed(),
            gshadow: accounts.gshadow.into_changed(),
            subuid: subuid.into_changed(),
            subgid: subgid.into_changed(),
            login_defs: None,
        },
        homes: homes::in_order(homes),
        report: notes.finish(),
    }
}

/// Whether an id is a person's. Root's never is, whatever the old root's login.defs says.
pub(super) fn is_person(id: u32, minimum: u32) -> bool {
    id >= minimum && id != 0 && id != NOBODY
}

fn carry_users(
    new: &mut Accounts,
    old: &OldAccounts,
    minimum: u32,
    shell_exists: &dyn Fn(&str) -> bool,
    notes: &mut Notes,
) -> Vec<Home> {
    let mut group_names: HashMap<u32, &OldGroup> = HashMap::new();
    for group in &old.groups {
        group_names.entry(group.gid).or_insert(group);
    }
    let mut homes = Vec::new();
    for user in &old.users {
        if user.name == ROOT && user.uid == 0 {
            keep_root(new, old, user, notes);
            continue;
        }
        let primary = group_names.get(&user.gid).map(|group| group.name.as_str());
        match verdict(new, user, minimum, primary) {
            Verdict::Carry => {
                homes.extend(add_user(new, user, shell_exists, notes));
                passwords::carry(new, old, user, notes);
                new.people.insert(user.name.clone());
            }
            Verdict::Same(row) => {
                if is_person(user.uid, minimum) {
                    passwords::keep(new, old, user, row, notes);
                    new.people.insert(user.name.clone());
                }
            }
            Verdict::No(because) => notes.push(AccountNote::NotCarried { name: user.name.clone(), because }),
        }
    }
    homes
}

fn keep_root(new: &mut Accounts, old: &OldAccounts, user: &OldUser, notes: &mut Notes) {
    match new.passwd.find(ROOT, 7).filter(|row| new.passwd.number(*row, 2) == Some(0)) {
        Some(row) => passwords::keep(new, old, user, row, notes),
        None => {
            let because = PasswordBecause::NotInNew;
            notes.push(AccountNote::PasswordNotKept { name: user.name.clone(), because });
        }
    }
}

fn verdict(new: &Accounts, user: &OldUser, minimum: u32, primary: Option<&str>) -> Verdict {
    if user.uid == 0 {
        return Verdict::No(Because::UidZero);
    }
    if let Some(row) = new.passwd.find(&user.name, 7) {
        return match new.passwd.number(row, 2) {
            Some(uid) if uid == user.uid => Verdict::Same(row),
            Some(uid) => Verdict::No(Because::OtherId { old: user.uid, new: uid }),
            None => Verdict::No(Because::NewLineMalformed),
        };
    }
    if new.passwd.has_name(&user.name) {
        return Verdict::No(Because::NewLineMalformed);
    }
    if !is_person(user.uid, minimum) {
        return Verdict::No(Because::System);
    }
    if let Some(by) = new.passwd.holder(user.uid) {
        return Verdict::No(Because::IdTaken { id: user.uid, by });
    }
    // An id alone is no group: what it means here must be what it meant there.
    match new.group.holder(user.gid) {
        Some(name) if Some(name.as_str()) == primary => Verdict::Carry,
        Some(by) => Verdict::No(Because::PrimaryGroupTaken { gid: user.gid, by }),
        None => Verdict::No(Because::PrimaryGroupMissing { gid: user.gid }),
    }
}

fn add_user(
    new: &mut Accounts,
    user: &OldUser,
    shell_exists: &dyn Fn(&str) -> bool,
    notes: &mut Notes,
) -> Option<Home> {
    let name = user.name.clone();
    notes.push(AccountNote::Carried { name: name.clone(), uid: user.uid });
    let mut shell = user.shell.clone();
    if let Some(other) = shells::replacement(&shell, shell_exists) {
        shell = other.clone().into_bytes();
        let old = String::from_utf8_lossy(&user.shell).into_owned();
        notes.push(AccountNote::ShellReplaced { name: name.clone(), old, new: other });
    }
    let home = homes::home(&user.home, user.uid, user.gid).unwrap_or_else(|because| {
        let path = String::from_utf8_lossy(&user.home).into_owned();
        notes.push(AccountNote::HomeNotMade { name: name.clone(), path, because });
        None
    });
    new.passwd.add(vec![
        name.into_bytes(),
        b"x".to_vec(),
        user.uid.to_string().into_bytes(),
        user.gid.to_string().into_bytes(),
        user.comment.clone(),
        user.home.clone(),
        shell,
    ]);
    home
}

fn carry_ranges(
    accounts: &Accounts,
    old: &OldAccounts,
    new: &AccountFiles,
    notes: &mut Notes,
) -> (Table, Table) {
    let mut subuid = Table::parse(new.subuid.as_deref());
    let mut subgid = Table::parse(new.subgid.as_deref());
    for (file, table, ranges, ids) in [
        (AccountFile::Subuid, &mut subuid, &old.subuid, &accounts.passwd),
        (AccountFile::Subgid, &mut subgid, &old.subgid, &accounts.group),
    ] {
        let ids: BTreeSet<u32> = ids.ids().collect();
        ranges::carry(file, table, ranges, &old.users, &accounts.people, &ids, notes);
    }
    (subuid, subgid)
}
