//! What holds for any two roots.

use super::*;
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// Few names and ids, so that they collide all the time.
fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => prop::sample::select(vec!["root", "alice", "bob", "carl", "users", "sudo", "nobody"]),
        1 => prop::sample::select(vec!["", "a/b", "+", "-x", "#", "..", "12", "a b"]),
    ]
    .prop_map(str::to_owned)
}

fn id() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => prop::sample::select(vec!["0", "27", "100", "999", "1000", "1001", "1002", "65534"]),
        1 => prop::sample::select(vec!["", "x", "-1", " 1000", "01000", "+1001", "65535", "4294967295"]),
    ]
    .prop_map(str::to_owned)
}

fn members() -> impl Strategy<Value = String> {
    vec(name(), 0..4).prop_map(|names| names.join(","))
}

fn hash() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["x", "x", "x", "", "!", "*", "$y$a", "$y$b"]).prop_map(str::to_owned)
}

fn file(line: impl Strategy<Value = String>) -> impl Strategy<Value = Option<Vec<u8>>> {
    let odd =
        prop::sample::select(vec!["", "odd", ":::::::::::", "+::::::", "# c", "\u{1b}", "alice", "alice:x"]);
    let line = prop_oneof![9 => line, 1 => odd.prop_map(str::to_owned)];
    let end = prop::sample::select(vec!["\n", "\n", "\n", "\r\n"]);
    let lines = vec((line, end), 0..8);
    prop::option::weighted(
        0.9,
        (lines, any::<bool>()).prop_map(|(lines, newline)| {
            let mut text: String = lines.into_iter().map(|(line, end)| line + end).collect();
            if newline && text.ends_with('\n') {
                text.pop();
            }
            text.into_bytes()
        }),
    )
}

fn root() -> impl Strategy<Value = AccountFiles> {
    let shells = prop::sample::select(vec!["/bin/bash", "/bin/zsh", "", "/sbin/nologin"]);
    let homes = prop::sample::select(vec!["/home/a", "/", "", "../x", "/old/x"]);
    let passwd = (name(), hash(), id(), id(), homes, shells)
        .prop_map(|(name, hash, uid, gid, home, shell)| format!("{name}:{hash}:{uid}:{gid}::{home}:{shell}"));
    let shadow = (name(), hash()).prop_map(|(name, hash)| format!("{name}:{hash}:1:2:3:4:::"));
    let group = (name(), hash(), id(), members()).prop_map(|(n, h, g, m)| format!("{n}:{h}:{g}:{m}"));
    let gshadow = (name(), hash(), members(), members()).prop_map(|(n, h, a, m)| format!("{n}:{h}:{a}:{m}"));
    let range =
        || (name(), 0..4u32, 0..20u32).prop_map(|(n, first, count)| format!("{n}:{}:{count}", first * 500));
    let login_defs = file(id().prop_map(|id| format!("UID_MIN {id}\nGID_MIN {id}")));
    (file(passwd), file(shadow), file(group), file(gshadow), file(range()), file(range()), login_defs)
        .prop_map(|(passwd, shadow, group, gshadow, subuid, subgid, login_defs)| AccountFiles {
            passwd,
            shadow,
            group,
            gshadow,
            subuid,
            subgid,
            login_defs,
        })
}

/// The new root as it is after the merge.
fn after(new: &AccountFiles, merged: &Merged) -> AccountFiles {
    let files = merged.files.clone();
    AccountFiles {
        passwd: files.passwd.or(new.passwd.clone()),
        shadow: files.shadow.or(new.shadow.clone()),
        group: files.group.or(new.group.clone()),
        gshadow: files.gshadow.or(new.gshadow.clone()),
        subuid: files.subuid.or(new.subuid.clone()),
        subgid: files.subgid.or(new.subgid.clone()),
        login_defs: new.login_defs.clone(),
    }
}

fn lines(file: &Option<Vec<u8>>) -> Vec<String> {
    let text = String::from_utf8(file.clone().unwrap_or_default()).unwrap();
    text.lines().map(|line| line.trim_end_matches('\r').to_owned()).collect()
}

fn field(line: &str, index: usize) -> &str {
    line.split(':').nth(index).unwrap_or_default()
}

/// Which names have an id, as glibc reads it.
fn names_by_id(file: &Option<Vec<u8>>) -> BTreeMap<u32, BTreeSet<String>> {
    let mut found: BTreeMap<u32, BTreeSet<String>> = BTreeMap::new();
    for line in lines(file) {
        let is_entry = !field(&line, 0).starts_with(['+', '-', '#']);
        if let Some(id) = field(&line, 2).trim().parse().ok().filter(|_| is_entry) {
            found.entry(id).or_default().insert(field(&line, 0).to_owned());
        }
    }
    found
}

/// Whether any note speaks of the line: by its number, or by its name.
fn is_told(report: &[AccountNote], file: AccountFile, number: usize, name: &str) -> bool {
    report.iter().any(|note| {
        if let AccountNote::LineKeptOut { file: of, line_number, .. } = note {
            return *of == file && *line_number == number;
        }
        match file {
            AccountFile::Group => matches!(note, AccountNote::GroupNotCarried { name: of, .. } if of == name),
            AccountFile::Passwd => matches!(
                note,
                AccountNote::NotCarried { name: of, .. } | AccountNote::PasswordNotKept { name: of, .. } if of == name
            ),
            AccountFile::Shadow
            | AccountFile::Gshadow
            | AccountFile::Subuid
            | AccountFile::Subgid
            | AccountFile::LoginDefs => false,
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn prop_no_two_names_share_an_id_unless_they_did_in_the_new_root(old in root(), new in root()) {
        let after = after(&new, &merged(&old, &new));
        for (before, after) in [(&new.passwd, &after.passwd), (&new.group, &after.group)] {
            let before = names_by_id(before);
            for (id, names) in names_by_id(after) {
                prop_assert!(names.len() < 2 || before.get(&id) == Some(&names), "{id}: {names:?}");
            }
        }
    }

    #[test]
    fn prop_every_old_line_is_carried_equal_or_reported(old in root(), new in root()) {
        let merged = merged(&old, &new);
        let after = after(&new, &merged);
        for (file, old, after) in [
            (AccountFile::Passwd, &old.passwd, &after.passwd),
            (AccountFile::Group, &old.group, &after.group),
        ] {
            let accounts: BTreeSet<(String, String)> =
                lines(after).iter().map(|line| (field(line, 0).to_owned(), normal(field(line, 2)))).collect();
            for (index, line) in lines(old).iter().enumerate().filter(|(_, line)| !line.is_empty()) {
                let is_there = accounts.contains(&(field(line, 0).to_owned(), normal(field(line, 2))));
                let told = is_told(&merged.report, file, index + 1, field(line, 0));
                prop_assert!(is_there || told, "{file} {line:?}: {:#?}", report(&merged));
            }
        }
    }

    #[test]
    fn prop_every_old_password_range_and_membership_is_carried_or_reported(old in root(), new in root()) {
        let merged = merged(&old, &new);
        let after = after(&new, &merged);
        let is_in_both = |name: &str| lines(&new.passwd).iter().any(|line| field(line, 0) == name);
        for (index, line) in lines(&old.shadow).iter().enumerate().filter(|(_, line)| !line.is_empty()) {
            let name = field(line, 0);
            let hash = lines(&after.shadow).iter().any(|other| field(other, 0) == name && field(other, 1) == field(line, 1));
            // A password in passwd itself goes before that in shadow; an account of the system that both have is the new root's.
            let is_overruled = lines(&old.passwd).iter().any(|other| field(other, 0) == name && field(other, 1) != "x");
            let told = is_told(&merged.report, AccountFile::Shadow, index + 1, name)
                || is_told(&merged.report, AccountFile::Passwd, 0, name);
            prop_assert!(hash || told || is_overruled || is_in_both(name), "{line:?}: {:#?}", report(&merged));
        }
        for (index, line) in lines(&old.group).iter().enumerate() {
            if is_told(&merged.report, AccountFile::Group, index + 1, "\0") {
                continue;
            }
            for member in field(line, 3).split(',').map(str::trim).filter(|member| !member.is_empty()) {
                let is_member = |other: &String| {
                    field(other, 0) == field(line, 0) && field(other, 3).split(',').any(|name| name.trim() == member)
                };
                let told = merged.report.iter().any(|note| matches!(
                    note,
                    AccountNote::MembershipNotAdded { group, user, .. } if *group == field(line, 0) && user == member
                ));
                prop_assert!(told || lines(&after.group).iter().any(is_member), "{line:?}: {:#?}", report(&merged));
            }
        }
        for (file, old, after) in [
            (AccountFile::Subuid, &old.subuid, &after.subuid),
            (AccountFile::Subgid, &old.subgid, &after.subgid),
        ] {
            for (index, line) in lines(old).iter().enumerate().filter(|(_, line)| !line.is_empty()) {
                let is_there = lines(after).iter().any(|other| field(other, 1) == field(line, 1) && field(other, 2) == field(line, 2));
                let told = merged.report.iter().any(|note| {
                    if let AccountNote::RangeNotCarried { file: of, first, .. } = note {
                        return *of == file && first.to_string() == normal(field(line, 1));
                    }
                    matches!(note, AccountNote::LineKeptOut { file: of, line_number, .. }
                        if *of == file && *line_number == index + 1)
                });
                prop_assert!(is_there || told, "{file} {line:?}: {:#?}", report(&merged));
            }
        }
    }

    #[test]
    fn prop_new_lines_are_never_lost(old in root(), new in root()) {
        let merged = merged(&old, &new);
        // The one field of each file that may change.
        for (before, after, may_change) in [
            (&new.passwd, &merged.files.passwd, 1),
            (&new.shadow, &merged.files.shadow, 1),
            (&new.group, &merged.files.group, 3),
            (&new.gshadow, &merged.files.gshadow, 3),
            (&new.subuid, &merged.files.subuid, 99),
            (&new.subgid, &merged.files.subgid, 99),
        ] {
            let Some(after) = after else { continue };
            let after = Some(after.clone());
            let mut rest = lines(&after).into_iter();
            for line in lines(before) {
                let same = |other: &String| {
                    line.split(':').count() == other.split(':').count()
                        && line.split(':').zip(other.split(':')).enumerate().all(|(index, (a, b))| {
                            a == b || (index == may_change && (index != 3 || b.starts_with(a)))
                        })
                };
                prop_assert!(rest.any(|other| same(&other)), "{line:?} is lost or moved");
            }
        }
    }

    #[test]
    fn prop_nobody_becomes_root_and_no_line_is_smuggled_in(old in root(), new in root()) {
        let merged = merged(&old, &new);
        let after = after(&new, &merged);
        let zeros = |file: &Option<Vec<u8>>| names_by_id(file).remove(&0);
        prop_assert_eq!(zeros(&new.passwd), zeros(&after.passwd));
        let carried = merged.report.iter().filter(|note| matches!(note, AccountNote::Carried { .. })).count();
        prop_assert_eq!(lines(&after.passwd).len(), lines(&new.passwd).len() + carried);
    }

    #[test]
    fn prop_a_second_merge_changes_nothing(old in root(), new in root()) {
        let after = after(&new, &merged(&old, &new));
        let second = merged(&old, &after);
        prop_assert_eq!(&second.files, &AccountFiles::default(), "{:#?} {:#?}", report(&second), lines(&after.passwd));
    }

    #[test]
    fn prop_any_bytes_are_survived(old in vec(any::<u8>(), 0..300), new in vec(any::<u8>(), 0..300)) {
        let all = |bytes: &Vec<u8>| AccountFiles {
            passwd: Some(bytes.clone()),
            shadow: Some(bytes.clone()),
            group: Some(bytes.clone()),
            gshadow: Some(bytes.clone()),
            subuid: Some(bytes.clone()),
            subgid: Some(bytes.clone()),
            login_defs: Some(bytes.clone()),
        };
        let found = merged(&all(&old), &all(&new));
        prop_assert!(report(&found).iter().all(|line| !line.contains(char::is_control)));
    }
}

fn normal(id: &str) -> String {
    id.trim().parse::<u32>().map_or_else(|_| id.to_owned(), |id| id.to_string())
}
