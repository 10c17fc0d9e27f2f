//! The account files of two roots and what the merge makes of them, told from the files themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path};

use engine::accounts::{self, AccountFile, AccountFiles, AccountNote, Merged};

/// The files of two roots, one after the other between NUL bytes:
///
/// - every line of the new root stays where it was, but for what the report says was changed of it;
/// - whatever stands there more is somebody whom the report names: once in every file, with an id that is nobody else's, with a line in shadow and a
///   primary group;
/// - every line of the old root is in the new one or in the report;
/// - the merge of what was merged changes nothing.
pub(crate) fn merge(bytes: &[u8]) {
    let mut parts = bytes.split(|&byte| byte == 0).map(<[u8]>::to_vec);
    let mut files = || AccountFiles {
        passwd: parts.next(),
        shadow: parts.next(),
        group: parts.next(),
        gshadow: parts.next(),
        subuid: parts.next(),
        subgid: parts.next(),
        login_defs: parts.next(),
    };
    let (old, new) = (files(), files());
    let shell_exists = |shell: &str| shell.len().is_multiple_of(2);
    let merged = accounts::merge(&old, &new, &shell_exists);
    let after = after(&new, &merged);
    let report = Report::of(&merged.report);

    check_users(&old, &new, &after, &report);
    check_groups(&new, &after, &report);
    check_ranges(&new, &after, &report, &merged.report);
    check_old_is_told_of(&old, &new, &report, &merged.report);
    check_homes(&merged);
    for note in &merged.report {
        crate::assert_fit_for_eyes(&note.to_string());
    }
    let again = accounts::merge(&old, &after, &shell_exists);
    assert!(again.files == AccountFiles::default(), "a second merge changes something: {:?}", again.report);
}

/// The files of the new root as they are to be.
fn after(new: &AccountFiles, merged: &Merged) -> AccountFiles {
    let files = merged.files.clone();
    AccountFiles {
        passwd: files.passwd.or_else(|| new.passwd.clone()),
        shadow: files.shadow.or_else(|| new.shadow.clone()),
        group: files.group.or_else(|| new.group.clone()),
        gshadow: files.gshadow.or_else(|| new.gshadow.clone()),
        subuid: files.subuid.or_else(|| new.subuid.clone()),
        subgid: files.subgid.or_else(|| new.subgid.clone()),
        login_defs: new.login_defs.clone(),
    }
}

/// What the report says, by name.
#[derive(Default)]
struct Report {
    /// In the order of the report, each as often as it stands there.
    users: Vec<(Vec<u8>, u32)>,
    groups: Vec<(Vec<u8>, u32)>,
    kept: BTreeSet<Vec<u8>>,
    empty: BTreeSet<Vec<u8>>,
    members: BTreeSet<(Vec<u8>, Vec<u8>)>,
    /// Users, and groups, who were not carried.
    left: BTreeSet<Vec<u8>>,
    groups_left: BTreeSet<Vec<u8>>,
}

impl Report {
    fn of(notes: &[AccountNote]) -> Report {
        let mut report = Report::default();
        let bytes = |name: &String| name.clone().into_bytes();
        for note in notes {
            if let AccountNote::Carried { name, uid } = note {
                report.users.push((bytes(name), *uid));
            } else if let AccountNote::GroupCarried { name, gid } = note {
                report.groups.push((bytes(name), *gid));
            } else if let AccountNote::PasswordKept { name } = note {
                report.kept.insert(bytes(name));
            } else if let AccountNote::EmptyPassword { name } = note {
                report.empty.insert(bytes(name));
            } else if let AccountNote::MembershipAdded { group, user } = note {
                report.members.insert((bytes(group), bytes(user)));
            } else if let AccountNote::NotCarried { name, .. } | AccountNote::PasswordNotKept { name, .. } =
                note
            {
                report.left.insert(bytes(name));
            } else if let AccountNote::GroupNotCarried { name, .. } = note {
                report.groups_left.insert(bytes(name));
            }
        }
        report
    }

    fn carried(&self, name: &[u8]) -> bool {
        self.users.iter().any(|(carried, _)| carried == name)
    }
}

/// With their carriage returns, if they have any.
fn lines(file: Option<&Vec<u8>>) -> Vec<&[u8]> {
    let bytes = file.map(Vec::as_slice).unwrap_or_default();
    bytes
        .split_inclusive(|&byte| byte == b'\n')
        .map(|line| line.strip_suffix(b"\n").unwrap_or(line))
        .collect()
}

fn fields(line: &[u8]) -> Vec<&[u8]> {
    line.strip_suffix(b"\r").unwrap_or(line).split(|&byte| byte == b':').collect()
}

/// The lines that are entries, in fields: no remarks, and nothing of NIS.
fn entries(file: Option<&Vec<u8>>) -> Vec<Vec<&[u8]>> {
    let entries = lines(file).into_iter().map(fields);
    entries.filter(|fields| !matches!(fields[0].first(), Some(b'#' | b'+' | b'-'))).collect()
}

/// A number as generously as any system reads it.
fn number(fields: &[&[u8]], index: usize) -> Option<u32> {
    std::str::from_utf8(fields.get(index)?).ok()?.trim().parse().ok()
}

/// Who has which id, as often as it is had.
fn by_id(file: Option<&Vec<u8>>) -> BTreeMap<u32, Vec<Vec<u8>>> {
    let mut holders: BTreeMap<u32, Vec<Vec<u8>>> = BTreeMap::new();
    for entry in entries(file) {
        if let Some(id) = number(&entry, 2) {
            holders.entry(id).or_default().push(entry[0].to_vec());
        }
    }
    holders
}

/// Whether a line may have become another, in fields.
type MayBecome<'a> = &'a dyn Fn(&[&[u8]], &[&[u8]]) -> bool;

/// What is in a file that was not there; panics if what was there is not, in its order.
fn added<'a>(
    before: Option<&Vec<u8>>,
    after: Option<&'a Vec<u8>>,
    may_become: MayBecome<'_>,
) -> Vec<Vec<&'a [u8]>> {
    let mut now = lines(after).into_iter();
    let mut added = Vec::new();
    for line in lines(before) {
        loop {
            let Some(next) = now.next() else {
                panic!("a line of the new root is gone: {}", tree::escaped(line))
            };
            if next == line || may_become(&fields(line), &fields(next)) {
                break;
            }
            added.push(fields(next));
        }
    }
    added.extend(now.map(fields));
    added
}

/// Whether two lines are the same but for one field.
fn differ_only_in(index: usize, before: &[&[u8]], now: &[&[u8]]) -> bool {
    before.len() == now.len() && (0..now.len()).all(|field| field == index || before[field] == now[field])
}

fn check_users(old: &AccountFiles, new: &AccountFiles, after: &AccountFiles, report: &Report) {
    let is_hidden = |before: &[&[u8]], now: &[&[u8]]| {
        differ_only_in(1, before, now) && now[1] == b"x" && report.kept.contains(now[0])
    };
    let more = added(new.passwd.as_ref(), after.passwd.as_ref(), &is_hidden);
    let ids = by_id(after.passwd.as_ref());
    let gids = by_id(after.group.as_ref());
    let names: Vec<&[u8]> = entries(after.passwd.as_ref()).iter().map(|entry| entry[0]).collect();
    let told: Vec<&[u8]> = report.users.iter().map(|(name, _)| name.as_slice()).collect();
    assert_eq!(more.iter().map(|line| line[0]).collect::<Vec<_>>(), told, "who is added is who is told of");
    for (line, (name, uid)) in more.iter().zip(&report.users) {
        let shown = tree::escaped(name);
        assert!(!name.is_empty() && line.len() == 7 && line[1] == b"x", "{shown}: a line of passwd");
        assert_eq!(line[2], uid.to_string().as_bytes(), "{shown}: another id than is told");
        assert_eq!(names.iter().filter(|other| *other == name).count(), 1, "{shown}: not one line in passwd");
        assert_eq!(ids[uid].len(), 1, "an id is shared: {uid}");
        assert!(*uid != 0, "{shown}: a second root");
        assert!(
            number(line, 3).is_some_and(|gid| gids.contains_key(&gid)),
            "{shown}: without a primary group"
        );
    }

    let has_new_hash = |before: &[&[u8]], now: &[&[u8]]| {
        differ_only_in(1, before, now)
            && now.len() >= 5
            && (report.kept.contains(now[0]) || report.carried(now[0]))
    };
    let mut seen = BTreeSet::new();
    for line in added(new.shadow.as_ref(), after.shadow.as_ref(), &has_new_hash) {
        let shown = tree::escaped(line[0]);
        assert!(report.kept.contains(line[0]) || report.carried(line[0]), "{shown}: of nobody");
        assert!(line.len() >= 9 && seen.insert(line[0]), "{shown}: its line in shadow");
    }
    let shadow = entries(after.shadow.as_ref());
    for name in report.users.iter().map(|(name, _)| name).chain(&report.kept) {
        let shown = tree::escaped(name);
        let line = shadow.iter().find(|line| line[0] == name && line.len() >= 5);
        let hash = line.unwrap_or_else(|| panic!("{shown}: without a line in shadow"))[1];
        let is_his = [(&old.passwd, 7), (&old.shadow, 9)].into_iter().any(|(file, wanted)| {
            entries(file.as_ref())
                .iter()
                .any(|line| line.len() >= wanted && line[0] == name && line[1] == hash)
        });
        assert!(is_his || hash == b"!", "{shown}: a hash that was not his");
        assert!(
            !hash.is_empty() || report.empty.contains(name),
            "{shown}: an empty password that nobody tells of"
        );
    }
}

fn check_groups(new: &AccountFiles, after: &AccountFiles, report: &Report) {
    let users: BTreeSet<&[u8]> = entries(after.passwd.as_ref()).iter().map(|entry| entry[0]).collect();
    // A list that has become longer, by people.
    let has_more_members = |before: &[&[u8]], now: &[&[u8]]| {
        differ_only_in(3, before, now)
            && now.len() >= 4
            && now[3].strip_prefix(before[3]).is_some_and(|more| {
                more.split(|&byte| byte == b',').all(|name| name.is_empty() || users.contains(name))
            })
    };
    let more = added(new.group.as_ref(), after.group.as_ref(), &has_more_members);
    let told: Vec<&[u8]> = report.groups.iter().map(|(name, _)| name.as_slice()).collect();
    assert_eq!(more.iter().map(|line| line[0]).collect::<Vec<_>>(), told, "what is added is what is told of");
    let ids = by_id(after.group.as_ref());
    let all = entries(after.group.as_ref());
    for (line, (name, gid)) in more.iter().zip(&report.groups) {
        let shown = tree::escaped(name);
        assert!(!name.is_empty() && line.len() == 4 && line[1] == b"x", "{shown}: a line of group");
        assert_eq!(line[2], gid.to_string().as_bytes(), "{shown}: another id than is told");
        assert_eq!(all.iter().filter(|other| other[0] == name).count(), 1, "{shown}: not one line in group");
        assert_eq!(ids[gid].len(), 1, "an id of a group is shared: {gid}");
    }
    for (group, user) in &report.members {
        let line = all.iter().find(|line| line[0] == group && line.len() >= 4);
        let is_member = line.is_some_and(|line| line[3].split(|&byte| byte == b',').any(|name| name == user));
        assert!(is_member && users.contains(user.as_slice()), "{} is not in it", tree::escaped(user));
    }
    let mut seen = BTreeSet::new();
    for line in added(new.gshadow.as_ref(), after.gshadow.as_ref(), &has_more_members) {
        let shown = tree::escaped(line[0]);
        assert!(
            told.contains(&line[0]) && line.len() >= 4 && seen.insert(line[0]),
            "{shown}: its line in gshadow"
        );
    }
}

fn check_ranges(new: &AccountFiles, after: &AccountFiles, report: &Report, notes: &[AccountNote]) {
    let unchanged = |_: &[&[u8]], _: &[&[u8]]| false;
    for (which, before, now, accounts) in [
        (AccountFile::Subuid, &new.subuid, &after.subuid, &after.passwd),
        (AccountFile::Subgid, &new.subgid, &after.subgid, &after.group),
    ] {
        let more = added(before.as_ref(), now.as_ref(), &unchanged);
        let more: Vec<String> = more.iter().map(|line| tree::escaped(&line.join(&b':'))).collect();
        let mut told = Vec::new();
        for note in notes {
            if let AccountNote::RangeCarried { file, name, first, count } = note
                && *file == which
            {
                let line = format!("{name}:{first}:{count}");
                told.push((tree::escaped(line.as_bytes()), u64::from(*first), u64::from(*count)));
                let name = name.as_bytes();
                let is_there = entries(after.passwd.as_ref()).iter().any(|entry| entry[0] == name);
                assert!(report.carried(name) || is_there, "a range of nobody: {line}");
            }
        }
        assert_eq!(more, told.iter().map(|(line, ..)| line.clone()).collect::<Vec<_>>(), "{which}");
        let all: Vec<(u64, u64)> = entries(now.as_ref())
            .iter()
            .filter_map(|line| Some((u64::from(number(line, 1)?), u64::from(number(line, 2)?))))
            .collect();
        let ids = by_id(accounts.as_ref());
        for (line, first, count) in &told {
            let overlap =
                |&&(start, length): &&(u64, u64)| start < first + count && first < &(start + length);
            // Itself.
            assert_eq!(all.iter().filter(overlap).count(), 1, "{which}: {line} overlaps");
            let mut within = ids.keys().filter(|id| (*first..first + count).contains(&u64::from(**id)));
            assert_eq!(within.next(), None, "{which}: somebody's own is in {line}");
        }
    }
}

/// Nobody is lost without a word.
fn check_old_is_told_of(old: &AccountFiles, new: &AccountFiles, report: &Report, notes: &[AccountNote]) {
    for (which, old, new, wanted) in
        [(AccountFile::Passwd, &old.passwd, &new.passwd, 7), (AccountFile::Group, &old.group, &new.group, 4)]
    {
        let carried = if which == AccountFile::Passwd { &report.users } else { &report.groups };
        let left = if which == AccountFile::Passwd { &report.left } else { &report.groups_left };
        let mut kept_out = BTreeSet::new();
        let mut has_more = false;
        for note in notes {
            if let AccountNote::LineKeptOut { file, line_number, .. } = note
                && *file == which
            {
                kept_out.insert(*line_number);
            }
            has_more |= matches!(note, AccountNote::MoreLinesKeptOut { file, .. } if *file == which);
        }
        let present = entries(new.as_ref());
        for (index, line) in lines(old.as_ref()).into_iter().enumerate() {
            let entry = fields(line);
            let is_told = line.trim_ascii().is_empty()
                || kept_out.contains(&(index + 1))
                || has_more
                || left.contains(entry[0])
                || report.kept.contains(entry[0])
                || carried.iter().any(|(name, _)| name == entry[0])
                || present.iter().any(|now| {
                    now.len() >= wanted && now[0] == entry[0] && number(now, 2) == number(&entry, 2)
                });
            assert!(is_told, "nobody tells of line {} of the old {which}", index + 1);
        }
    }
}

fn check_homes(merged: &Merged) {
    for home in &merged.homes {
        let parts: Vec<Component<'_>> = home.path.components().collect();
        let is_plain = parts[1..].iter().all(|part| matches!(part, Component::Normal(_)));
        assert!(parts[0] == Component::RootDir && parts.len() > 1 && is_plain, "{home:?}");
        let is_ours = ["/old", "/proc", "/sys", "/dev", "/run"]
            .iter()
            .any(|ours| home.path.starts_with(Path::new(ours)));
        assert!(!is_ours, "{home:?}");
    }
    assert!(merged.homes.is_sorted_by(|a, b| a.path < b.path), "parents come first, and each once");
}
