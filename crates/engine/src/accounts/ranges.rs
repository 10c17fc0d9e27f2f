//! subuid(5) and subgid(5): the ids that a person may give to his own containers.
//!
//! A range is carried only if it is nobody else's: it overlaps with no other range of the new root, and no
//! account's id lies in it.

use super::note::{AccountFile, AccountNote, LineBecause, Notes, RangeBecause};
use super::old::{OldRange, OldUser};
use super::table::Table;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// The ranges of one file of the new root, by first id.
struct Taken {
    ranges: BTreeMap<u64, (u64, String)>,
    /// The longest, to know how far back one that overlaps can begin.
    longest: u64,
    owners: HashSet<String>,
}

pub(super) fn carry(
    file: AccountFile,
    table: &mut Table,
    ranges: &[OldRange],
    users: &[OldUser],
    people: &HashSet<String>,
    accounts: &BTreeSet<u32>,
    notes: &mut Notes,
) {
    let mut taken = Taken::read(table);
    let names: HashSet<&str> = users.iter().map(|user| user.name.as_str()).collect();
    let mut by_uid: HashMap<u32, &str> = HashMap::new();
    for user in users {
        by_uid.entry(user.uid).or_insert(&user.name);
    }
    for range in ranges {
        let named = names.get(range.owner.as_str()).copied();
        let owner = named.or_else(|| by_uid.get(&range.owner.parse().ok()?).copied());
        let Some(name) = owner.filter(|name| people.contains(*name)) else {
            notes.line(file, range.line_number, LineBecause::AccountNotCarried);
            continue;
        };
        let (first, count, name) = (range.first, range.count, name.to_owned());
        match taken.refuses(range, &name, accounts) {
            Verdict::Same => {}
            Verdict::No(because) => {
                notes.push(AccountNote::RangeNotCarried { file, name, first, count, because });
            }
            Verdict::Carry => {
                taken.add(u64::from(first), u64::from(count), name.clone());
                let line = [name.clone(), first.to_string(), count.to_string()];
                table.add(line.into_iter().map(String::into_bytes).collect());
                notes.push(AccountNote::RangeCarried { file, name, first, count });
            }
        }
    }
}

enum Verdict {
    Carry,
    Same,
    No(RangeBecause),
}

impl Taken {
    fn read(table: &Table) -> Taken {
        let mut taken = Taken { ranges: BTreeMap::new(), longest: 0, owners: HashSet::new() };
        for row in table.rows() {
            if let (Some(first), Some(count)) = (table.number(row, 1), table.number(row, 2)) {
                taken.owners.insert(table.name(row));
                taken.add(u64::from(first), u64::from(count), table.name(row));
            }
        }
        taken
    }

    fn add(&mut self, first: u64, count: u64, name: String) {
        self.longest = self.longest.max(count);
        let range = self.ranges.entry(first).or_insert((count, name));
        range.0 = range.0.max(count);
    }

    fn refuses(&self, range: &OldRange, name: &str, accounts: &BTreeSet<u32>) -> Verdict {
        let (first, count) = (u64::from(range.first), u64::from(range.count));
        if self.ranges.get(&first).is_some_and(|(other, by)| *other == count && by == name) {
            return Verdict::Same;
        }
        if self.owners.contains(name) {
            return Verdict::No(RangeBecause::HasOne);
        }
        let near = self.ranges.range(first.saturating_sub(self.longest)..first + count);
        if let Some((_, (_, with))) = near.into_iter().find(|(start, (length, _))| *start + length > first) {
            return Verdict::No(RangeBecause::Overlaps { with: with.clone() });
        }
        match accounts.range(range.first..range.first + range.count).next() {
            Some(id) => Verdict::No(RangeBecause::HoldsAccount { id: *id }),
            None => Verdict::Carry,
        }
    }
}
