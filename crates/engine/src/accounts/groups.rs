//! Groups of the old root, and who is in them.
//!
//! A group's members are merged by name: people only. What a system account was in is the business of the
//! packages of the new root.

use super::login_defs::Minimums;
use super::merge::{Accounts, Verdict, is_person};
use super::note::{AccountNote, Because, Notes};
use super::old::{OldAccounts, OldGroup, OldUser, names_in};
use std::collections::{HashMap, HashSet};

const LOCKED: &[u8] = b"!";

/// Adds the groups of people, and those that are the primary one of somebody who is carried; memberships come later, when it is known who was carried.
pub(super) fn carry(new: &mut Accounts, old: &OldAccounts, minimums: Minimums, notes: &mut Notes) {
    let primary = primary_of_people(new, old, minimums.uid);
    for group in &old.groups {
        let is_wanted = is_of_people(group, minimums.gid) || primary.contains(&group.gid);
        match verdict(new, group, is_wanted) {
            Verdict::Carry => {
                let gid = group.gid.to_string().into_bytes();
                new.group.add(vec![group.name.clone().into_bytes(), b"x".to_vec(), gid, Vec::new()]);
                new.carried_groups.insert(group.name.clone());
                notes.push(AccountNote::GroupCarried { name: group.name.clone(), gid: group.gid });
            }
            Verdict::Same(_) => {}
            Verdict::No(because) => {
                notes.push(AccountNote::GroupNotCarried { name: group.name.clone(), because });
            }
        }
    }
}

/// The primary groups of those who are going to be carried: a system's own group (`users`, `staff`) comes with them where the new root lacks
/// it, or they would have to stay behind.
fn primary_of_people(new: &Accounts, old: &OldAccounts, minimum: u32) -> HashSet<u32> {
    let comes = |user: &&OldUser| {
        is_person(user.uid, minimum)
            && !new.passwd.has_name(&user.name)
            && new.passwd.holder(user.uid).is_none()
    };
    let primary = old.users.iter().filter(comes).map(|user| user.gid);
    primary.filter(|gid| is_person(*gid, 0)).collect()
}

/// Alpine's `nogroup` is not where all others have theirs, but at 65533.
fn is_of_people(group: &OldGroup, minimum: u32) -> bool {
    is_person(group.gid, minimum) && group.name != "nogroup"
}

fn verdict(new: &Accounts, group: &OldGroup, is_wanted: bool) -> Verdict {
    if let Some(row) = new.group.find(&group.name, 4) {
        return match new.group.number(row, 2) {
            Some(gid) if gid == group.gid => Verdict::Same(row),
            Some(gid) => Verdict::No(Because::OtherId { old: group.gid, new: gid }),
            None => Verdict::No(Because::NewLineMalformed),
        };
    }
    if new.group.has_name(&group.name) {
        return Verdict::No(Because::NewLineMalformed);
    }
    if !is_wanted {
        return Verdict::No(Because::System);
    }
    match new.group.holder(group.gid) {
        Some(by) => Verdict::No(Because::IdTaken { id: group.gid, by }),
        None => Verdict::Carry,
    }
}

/// Puts people back into their groups.
pub(super) fn merge_members(new: &mut Accounts, old: &OldAccounts, minimum: u32, notes: &mut Notes) {
    let uids: HashMap<&str, u32> = old.users.iter().map(|user| (user.name.as_str(), user.uid)).collect();
    for group in &old.groups {
        let Some(row) = new.group.find(&group.name, 4) else {
            if !group.members.is_empty() {
                let because = match new.group.has_name(&group.name) {
                    true => Because::NewLineMalformed,
                    false => Because::GroupMissing,
                };
                report_all(group, &because, notes);
            }
            continue;
        };
        let there: HashSet<String> = names_in(new.group.field(row, 3)).into_iter().collect();
        let (back, others): (Vec<String>, Vec<String>) =
            group.members.iter().cloned().partition(|member| new.people.contains(member));
        for user in others.into_iter().filter(|user| !there.contains(user)) {
            let is_system = uids.get(user.as_str()).is_some_and(|uid| !is_person(*uid, minimum));
            let because = if is_system { Because::System } else { Because::UserMissing };
            notes.push(AccountNote::MembershipNotAdded { group: group.name.clone(), user, because });
        }
        for user in new.group.add_to_list(row, 3, &back) {
            notes.push(AccountNote::MembershipAdded { group: group.name.clone(), user });
        }
        if let Some(row) = new.gshadow.find(&group.name, 4) {
            new.gshadow.add_to_list(row, 3, &back);
        } else if new.carried_groups.contains(&group.name) {
            add_secrets(new, old, group, &back);
        }
    }
}

fn report_all(group: &OldGroup, because: &Because, notes: &mut Notes) {
    for user in &group.members {
        let (group, user, because) = (group.name.clone(), user.clone(), because.clone());
        notes.push(AccountNote::MembershipNotAdded { group, user, because });
    }
}

/// The line in gshadow of a carried group. A root without that file gets one only for what would be lost.
fn add_secrets(new: &mut Accounts, old: &OldAccounts, group: &OldGroup, members: &[String]) {
    let fields = old.gshadow.get(&group.name);
    let field = |index: usize| fields.map(|fields| fields[index].as_slice()).unwrap_or_default();
    let password = if group.password == b"x" { field(1) } else { &group.password };
    let mut administrators = names_in(field(2));
    administrators.retain(|name| new.people.contains(name));
    let is_locked = matches!(password, b"" | b"!" | b"*" | b"!!");
    if !new.gshadow.exists && is_locked && administrators.is_empty() {
        return;
    }
    let password = if password.is_empty() { LOCKED } else { password };
    let mut line = vec![
        group.name.clone().into_bytes(),
        password.to_vec(),
        administrators.join(",").into_bytes(),
        members.join(",").into_bytes(),
    ];
    line.extend(fields.map(|fields| fields[4..].to_vec()).unwrap_or_default());
    new.gshadow.add(line);
}
