//! What was installed by hand where rpm keeps the records: in the words of whichever program installs there.
//!
//! rpm itself knows what is installed and not why. Why is known by dnf (its history, or since version 5 a list) and by yum (a directory a package).
//! The databases of rpm on Berkeley's and of SUSE (`ndb`) are not read.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::Path;

use tree::LayeredRoot;

use super::sqlite::{Database, NO_LOG, Stored, Value};
use super::{Read, is_name};

/// One of them has to be there.
const DATABASES: [&str; 2] = ["/usr/lib/sysimage/rpm", "/var/lib/rpm"];
const DNF5: &str = "/usr/lib/sysimage/libdnf5/packages.toml";
const DNF: &str = "/var/lib/dnf/history.sqlite";
const YUM: &str = "/var/lib/yum/yumdb";
/// The list of some ten thousand packages.
const LONGEST_LIST: u64 = 2 * 1024 * 1024;
/// No host has as many packages.
const MOST: usize = 100_000;

/// rpm keeps records there.
pub fn is_there(root: &LayeredRoot) -> Read<bool> {
    for path in DATABASES {
        if root.kind_followed(Path::new(path))?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Why packages are there, as whoever installed them has written it down.
#[derive(Debug, Default, PartialEq)]
struct Reasons {
    by_hand: BTreeSet<String>,
    for_others: BTreeSet<String>,
}

impl Reasons {
    fn add(&mut self, name: String, is_for_others: bool) {
        if is_for_others {
            self.for_others.insert(name)
        } else {
            self.by_hand.insert(name)
        };
    }

    /// What nobody knows the reason of somebody has wanted, as dnf sees it too: `rpm -i` tells nobody.
    fn among(self, installed: Option<&BTreeSet<String>>) -> BTreeSet<String> {
        let Some(installed) = installed else { return self.by_hand };
        let is_for_others = |name: &String| self.for_others.contains(name) && !self.by_hand.contains(name);
        installed.iter().filter(|name| !is_for_others(name)).cloned().collect()
    }
}

/// What was installed by hand, and is still; `None`: the records cannot be read. What else there is to know of that goes to `notes`.
pub fn by_hand(root: &LayeredRoot, notes: &mut Vec<String>) -> Read<Option<BTreeSet<String>>> {
    let installed = installed(root)?;
    let reasons = if let Some(list) = root.read_file_followed(Path::new(DNF5), LONGEST_LIST)? {
        dnf5(&String::from_utf8_lossy(&list.bytes))
    } else if let Some(history) = stored(root, DNF)? {
        let log = stored(root, &format!("{DNF}-wal"))?;
        Database::of(&history, log_of(log.as_ref())).map(|history| dnf(&history))
    } else if root.kind_followed(Path::new(YUM))?.is_some() {
        Some(yum(root)?)
    } else {
        None
    };
    match (&installed, &reasons) {
        (None, None) => return Ok(None),
        (None, Some(_)) => notes.push(
            "the database of rpm in the old root is none that can be read: what was removed without dnf or yum may be among them, \
             and what was installed without them is not"
                .to_owned(),
        ),
        (Some(_), None) => notes.push(
            "neither dnf nor yum tells in the old root why anything is installed: all that is installed is taken as installed by hand"
                .to_owned(),
        ),
        (Some(_), Some(_)) => {}
    }
    let mut found = reasons.unwrap_or_default().among(installed.as_ref());
    found.retain(|name| is_name(name));
    Ok(Some(found))
}

/// What is installed; `None`: that stands in a database that is not read.
pub fn installed(root: &LayeredRoot) -> Read<Option<BTreeSet<String>>> {
    for directory in DATABASES {
        if let Some(file) = stored(root, &format!("{directory}/rpmdb.sqlite"))? {
            let log = stored(root, &format!("{directory}/rpmdb.sqlite-wal"))?;
            let names = Database::of(&file, log_of(log.as_ref())).map(|database| names(&database));
            // A database that is torn is none in which nothing is installed.
            return Ok(names.filter(|names| !names.is_empty()).map(without_keys));
        }
    }
    Ok(None)
}

/// `Name` (key, hnum, idx).
fn names(database: &Database<'_>) -> BTreeSet<String> {
    let rows = database.rows("Name").into_iter();
    rows.filter_map(|(_, columns)| columns.first()?.text().map(str::to_owned)).collect()
}

fn stored(root: &LayeredRoot, path: &str) -> Read<Option<File>> {
    root.open_file_followed(Path::new(path))
}

fn log_of(log: Option<&File>) -> &dyn Stored {
    log.map_or(&NO_LOG, |log| log as &dyn Stored)
}

/// Keys that packages are signed with are packages to rpm.
fn without_keys(mut names: BTreeSet<String>) -> BTreeSet<String> {
    names.remove("gpg-pubkey");
    names
}

/// `[packages]`, `"NAME.ARCH" = {reason = "User"}`.
fn dnf5(list: &str) -> Option<Reasons> {
    let list: toml::Table = list.parse().ok()?;
    let mut reasons = Reasons::default();
    for (package, about) in list.get("packages")?.as_table()? {
        let reason = about.get("reason").and_then(toml::Value::as_str).unwrap_or_default();
        let is_for_others = matches!(reason, "Dependency" | "Weak Dependency");
        if let Some((name, _)) = package.rsplit_once('.') {
            reasons.add(name.to_owned(), is_for_others);
        }
    }
    Some(reasons)
}

/// See [`super::names_in`]: a database, and in its second half a log.
pub fn names_in(bytes: &[u8], text: &str) -> BTreeSet<String> {
    let all = |reasons: Reasons| reasons.by_hand.into_iter().chain(reasons.for_others);
    let mut found: BTreeSet<String> = dnf5(text).map(all).into_iter().flatten().collect();
    let (file, log) = bytes.split_at(bytes.len() / 2);
    for (file, log) in [(bytes, NO_LOG), (file, log)] {
        if let Some(database) = Database::of(&file, &log) {
            found.extend(all(dnf(&database)));
            found.extend(names(&database));
        }
    }
    found.retain(|name| is_name(name));
    found
}

/// `libdnf`'s `TransactionState`, `TransactionItemReason` and `TransactionItemAction`.
const DONE: i64 = 1;
const DEPENDENCY: i64 = 1;
const WEAK_DEPENDENCY: i64 = 4;
const OBSOLETED: i64 = 5;
const REMOVE: i64 = 8;
/// What an upgrade, a downgrade and a reinstallation have replaced: they say nothing of their own.
const REPLACED: [i64; 3] = [3, 7, 10];

/// The newest that has happened to a package says why it is there, or that it is not. `trans` (id, dt_begin, dt_end, rpmdb_version_begin,
/// rpmdb_version_end, releasever, user_id, cmdline, state, …), `trans_item` (id, trans_id, item_id, repo_id, action, reason, state), `rpm` (item_id, name,
/// epoch, version, release, arch). What failed has not happened, as in `Swdb::resolveRPMTransactionItemReason`.
fn dnf(history: &Database<'_>) -> Reasons {
    let column = |columns: &[Value], index: usize| columns.get(index).and_then(Value::number);
    let packages: BTreeMap<i64, (String, String)> = history
        .rows("rpm")
        .into_iter()
        .filter_map(|(number, columns)| {
            let text = |index: usize| columns.get(index).and_then(Value::text).map(str::to_owned);
            Some((column(&columns, 0).unwrap_or(number), (text(1)?, text(5)?)))
        })
        .collect();
    let done: BTreeSet<i64> = history
        .rows("trans")
        .into_iter()
        .filter(|(_, columns)| column(columns, 8) == Some(DONE))
        .map(|(id, _)| id)
        .collect();
    let mut items = history.rows("trans_item");
    items.sort_by_key(|(id, _)| *id);
    // `None`: it has gone.
    let mut newest = BTreeMap::new();
    for (_, columns) in items {
        let is_done = column(&columns, 1).is_some_and(|transaction| done.contains(&transaction));
        let (Some(action), true) = (column(&columns, 4), is_done) else { continue };
        let package = column(&columns, 2).and_then(|item| packages.get(&item));
        if let (Some(package), false) = (package, REPLACED.contains(&action)) {
            let is_for_others = matches!(column(&columns, 5), Some(DEPENDENCY | WEAK_DEPENDENCY));
            newest.insert(package, (!matches!(action, REMOVE | OBSOLETED)).then_some(is_for_others));
        }
    }
    let mut reasons = Reasons::default();
    for ((name, _), is_for_others) in newest {
        if let Some(is_for_others) = is_for_others {
            reasons.add(name.clone(), is_for_others);
        }
    }
    reasons
}

/// `<letter>/<checksum>-<name>-<version>-<release>-<architecture>/reason`: `user` or `dep`.
fn yum(root: &LayeredRoot) -> Read<Reasons> {
    let mut found = Reasons::default();
    let mut seen = 0;
    for letter in root.names(Path::new(YUM))?.unwrap_or_default() {
        let below = Path::new(YUM).join(letter);
        for package in root.names(&below)?.unwrap_or_default() {
            seen += 1;
            if seen > MOST {
                return Ok(found);
            }
            let Some(name) = package.to_str().and_then(yum_name) else { continue };
            let reason = root.read_file_followed(&below.join(&package).join("reason"), 64)?;
            if let Some(reason) = reason {
                found.add(name.to_owned(), reason.bytes.trim_ascii() == b"dep");
            }
        }
    }
    Ok(found)
}

fn yum_name(directory: &str) -> Option<&str> {
    let (_, package) = directory.split_once('-')?;
    package.rsplitn(4, '-').nth(3)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HISTORY: &[u8] = include_bytes!("../../tests/data/rpm/history.sqlite");
    const HISTORY_LOG: &[u8] = include_bytes!("../../tests/data/rpm/history.sqlite-wal");
    const RPM: &[u8] = include_bytes!("../../tests/data/rpm/rpmdb.sqlite");

    fn strings(names: impl IntoIterator<Item = String>) -> Vec<String> {
        names.into_iter().collect()
    }

    fn by_hand(history: &[u8], log: &[u8]) -> Vec<String> {
        strings(dnf(&Database::of(&history, &log).unwrap()).by_hand)
    }

    #[test]
    fn reads_the_history_of_dnf_with_the_log_in_which_it_leaves_it() {
        // Of three that were installed by hand one was removed, and another one in the log; one is there for another.
        assert_eq!(by_hand(HISTORY, HISTORY_LOG), ["plugin"]);
        assert_eq!(by_hand(HISTORY, NO_LOG), ["plugin", "tool"]);
        let reasons = dnf(&Database::of(&HISTORY, &HISTORY_LOG).unwrap());
        assert_eq!(strings(reasons.for_others), ["library"]);
        // A log that ends in the middle of a transaction, or is not what was written, has nothing of it.
        for damage in [0, 40, 60, 3000] {
            let mut log = HISTORY_LOG.to_vec();
            match damage {
                0 => log.truncate(HISTORY_LOG.len() - 100),
                at => log[at] ^= 1,
            }
            assert_eq!(by_hand(HISTORY, &log), ["plugin", "tool"], "{damage}");
        }
        for length in 0..60 {
            assert_eq!(by_hand(HISTORY, &HISTORY_LOG[..length]), ["plugin", "tool"], "{length}");
        }
    }

    /// The three transactions stand in the file as their command lines; behind each is its state.
    #[test]
    fn what_a_failed_transaction_was_to_do_has_not_happened() {
        let mut history = HISTORY.to_vec();
        let line = b"--disableplugin=* remove other";
        let at = history.windows(line.len()).position(|window| window == line).unwrap() + line.len();
        // An ERROR in place of what SQLite writes a 1 as: no byte of its own, but the type 9 in the row's header.
        let row =
            history[..at].windows(4).rposition(|window| window == b"e3b0" || window == b"5cc2").unwrap();
        let header = (row - 40..row).rev().find(|&place| history[place] == 9).unwrap();
        history[header] = 8;
        assert_eq!(by_hand(&history, NO_LOG), ["other", "plugin", "tool"]);
    }

    #[test]
    fn reads_the_database_of_rpm() {
        let database = Database::of(&RPM, &NO_LOG).unwrap();
        assert_eq!(strings(names(&database)), ["library", "plugin", "tool"]);
        assert_eq!(database.rows("None"), []);
    }

    #[test]
    fn what_nobody_knows_the_reason_of_somebody_has_wanted() {
        let set = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<BTreeSet<String>>();
        // Of two architectures of one package somebody has wanted one.
        let reasons =
            || Reasons { by_hand: set(&["nginx", "gone", "both"]), for_others: set(&["pcre", "both"]) };
        let installed = set(&["nginx", "pcre", "both", "by-rpm"]);
        assert_eq!(reasons().among(Some(&installed)), set(&["both", "by-rpm", "nginx"]));
        assert_eq!(reasons().among(None), reasons().by_hand);
    }

    #[test]
    fn reads_the_list_of_dnf5_and_the_directories_of_yum() {
        let list = "version = \"1.0\"\n[packages]\n\"nginx.x86_64\" = {reason = \"User\"}\n\"pcre.x86_64\" = {reason = \"Dependency\"}\n\
                    [packages.\"bash.x86_64\"]\nreason = \"Group\"\n";
        let reasons = dnf5(list).unwrap();
        assert_eq!(
            (strings(reasons.by_hand), strings(reasons.for_others)),
            (vec!["bash".into(), "nginx".into()], vec!["pcre".into()])
        );
        assert_eq!(dnf5("packages = 3"), None);
        assert_eq!(yum_name("0123abc-nginx-mod-stream-1.20.1-10.el7-x86_64"), Some("nginx-mod-stream"));
        assert_eq!(yum_name("odd"), None);
    }

    proptest::proptest! {
        #[test]
        fn prop_whatever_the_bytes_are_reading_ends(at in 0usize..100_000, bytes: Vec<u8>, cut in 0usize..300_000) {
            for (file, log) in [(HISTORY, HISTORY_LOG), (RPM, &b""[..])] {
                let damage = |whole: &[u8]| {
                    let mut whole = whole[..cut.max(1).min(whole.len())].to_vec();
                    for (place, byte) in whole.iter_mut().skip(at).zip(&bytes) {
                        *place = *byte;
                    }
                    whole
                };
                let (damaged, damaged_log) = (damage(file), damage(log.get(..).filter(|log| !log.is_empty()).unwrap_or(b"x")));
                for (file, log) in [(&damaged[..], log), (file, &damaged_log[..])] {
                    if let Some(database) = Database::of(&file, &log) {
                        dnf(&database);
                        database.rows("Name");
                    }
                }
            }
        }
    }
}
