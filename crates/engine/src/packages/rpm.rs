//! What was installed by hand where rpm keeps the records: in the words of whichever program installs there.
//!
//! rpm itself knows what is installed and not why. Why is known by dnf (its history, or since version 5 a list) and by yum (a directory a package).
//! The databases of rpm on Berkeley's and of SUSE (`ndb`) are not read: what of yum's and dnf's has gone since without them is installed again.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use tree::LayeredRoot;

use super::sqlite::{Database, Value};
use super::{LARGEST, is_name};
use crate::error::Result;

/// One of them has to be there.
const DATABASES: [&str; 2] = ["/usr/lib/sysimage/rpm", "/var/lib/rpm"];
const DNF5: &str = "/usr/lib/sysimage/libdnf5/packages.toml";
const DNF: &str = "/var/lib/dnf/history.sqlite";
const YUM: &str = "/var/lib/yum/yumdb";
/// No host has as many packages.
const MOST: usize = 100_000;

/// rpm keeps records there.
pub fn is_there(root: &LayeredRoot) -> Result<bool> {
    for path in DATABASES {
        if root.kind_followed(Path::new(path))?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What was installed by hand, and is still; `None`: the records cannot be read.
pub fn by_hand(root: &LayeredRoot) -> Result<Option<BTreeSet<String>>> {
    let installed = installed(root)?;
    let found = if let Some(list) = bytes(root, DNF5)? {
        dnf5(&String::from_utf8_lossy(&list))
    } else if let Some(history) = bytes(root, DNF)? {
        let log = bytes(root, &format!("{DNF}-wal"))?.unwrap_or_default();
        Database::of(&history, &log).map(|history| dnf(&history))
    } else if root.kind_followed(Path::new(YUM))?.is_some() {
        Some(yum(root)?)
    } else {
        None
    };
    let is_installed = |name: &String| installed.as_ref().is_none_or(|installed| installed.contains(name));
    Ok(found.map(|found| found.into_iter().filter(|name| is_name(name) && is_installed(name)).collect()))
}

/// What is installed; `None`: that stands in a database that is not read.
pub fn installed(root: &LayeredRoot) -> Result<Option<BTreeSet<String>>> {
    for directory in DATABASES {
        if let Some(file) = bytes(root, &format!("{directory}/rpmdb.sqlite"))? {
            let log = bytes(root, &format!("{directory}/rpmdb.sqlite-wal"))?.unwrap_or_default();
            // Name (key, hnum, idx)
            let names = Database::of(&file, &log).map(|database| {
                let rows = database.rows("Name").into_iter();
                rows.filter_map(|(_, columns)| columns.first()?.text().map(str::to_owned)).collect()
            });
            return Ok(names.map(without_keys));
        }
    }
    Ok(None)
}

/// Keys that packages are signed with are packages to rpm.
fn without_keys(mut names: BTreeSet<String>) -> BTreeSet<String> {
    names.remove("gpg-pubkey");
    names
}

fn bytes(root: &LayeredRoot, path: &str) -> Result<Option<Vec<u8>>> {
    Ok(root.read_file_followed(Path::new(path), LARGEST)?.map(|file| file.bytes))
}

/// `[packages]`, `"NAME.ARCH" = {reason = "User"}`.
fn dnf5(list: &str) -> Option<BTreeSet<String>> {
    let list: toml::Table = list.parse().ok()?;
    let packages = list.get("packages")?.as_table()?;
    let by_hand = packages.iter().filter(|(_, about)| {
        let reason = about.get("reason").and_then(toml::Value::as_str).unwrap_or_default();
        !matches!(reason, "Dependency" | "Weak Dependency")
    });
    Some(by_hand.filter_map(|(name, _)| Some(name.rsplit_once('.')?.0.to_owned())).collect())
}

/// See [`super::names_in`]: a database, and in its second half a log.
pub fn names_in(bytes: &[u8], text: &str) -> BTreeSet<String> {
    let mut names = dnf5(text).unwrap_or_default();
    let (file, log) = bytes.split_at(bytes.len() / 2);
    for (file, log) in [(bytes, &b""[..]), (file, log)] {
        if let Some(database) = Database::of(file, log) {
            names.extend(dnf(&database));
            let rows = database.rows("Name").into_iter();
            names.extend(rows.filter_map(|(_, columns)| columns.first()?.text().map(str::to_owned)));
        }
    }
    names.retain(|name| is_name(name));
    names
}

/// `libdnf`'s `TransactionItemReason` and `TransactionItemAction`.
const DEPENDENCY: i64 = 1;
const WEAK_DEPENDENCY: i64 = 4;
const OBSOLETED: i64 = 5;
const REMOVE: i64 = 8;

/// The newest that has happened to a package says why it is there, or that it is not. `trans_item` (id, trans_id, item_id, repo_id, action, reason, state),
/// `rpm` (item_id, name, epoch, version, release, arch).
fn dnf(history: &Database<'_>) -> BTreeSet<String> {
    let column = |columns: &[Value], index: usize| columns.get(index).and_then(Value::number);
    let names: BTreeMap<i64, (String, String)> = history
        .rows("rpm")
        .into_iter()
        .filter_map(|(number, columns)| {
            let text = |index: usize| columns.get(index).and_then(Value::text).map(str::to_owned);
            Some((column(&columns, 0).unwrap_or(number), (text(1)?, text(5)?)))
        })
        .collect();
    let mut items = history.rows("trans_item");
    items.sort_by_key(|(id, _)| *id);
    let mut by_hand = BTreeMap::new();
    for (_, columns) in items {
        let Some(package) = column(&columns, 2).and_then(|item| names.get(&item)) else { continue };
        let is_gone = matches!(column(&columns, 4), Some(REMOVE | OBSOLETED));
        let is_for_others = matches!(column(&columns, 5), Some(DEPENDENCY | WEAK_DEPENDENCY));
        by_hand.insert(package, !is_gone && !is_for_others);
    }
    by_hand.into_iter().filter(|(_, is_by_hand)| *is_by_hand).map(|((name, _), _)| name.clone()).collect()
}

/// `<letter>/<checksum>-<name>-<version>-<release>-<architecture>/reason`: `user` or `dep`.
fn yum(root: &LayeredRoot) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
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
            if reason.is_some_and(|reason| reason.bytes.trim_ascii() == b"user") {
                found.insert(name.to_owned());
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

    #[test]
    fn reads_the_history_of_dnf_with_the_log_in_which_it_leaves_it() {
        // Of three that were installed by hand one was removed, and another one in the log; one is there for another.
        let history = Database::of(HISTORY, HISTORY_LOG).unwrap();
        assert_eq!(strings(dnf(&history)), ["plugin"]);
        let without = Database::of(HISTORY, b"").unwrap();
        assert_eq!(strings(dnf(&without)), ["plugin", "tool"]);
        // A log that ends in the middle of a transaction, or is not what was written, has nothing of it.
        for damage in [0, 40, 60, 3000] {
            let mut log = HISTORY_LOG.to_vec();
            match damage {
                0 => log.truncate(HISTORY_LOG.len() - 100),
                at => log[at] ^= 1,
            }
            let torn = Database::of(HISTORY, &log).unwrap();
            assert_eq!(strings(dnf(&torn)), ["plugin", "tool"], "{damage}");
        }
    }

    #[test]
    fn reads_the_database_of_rpm() {
        let database = Database::of(RPM, b"").unwrap();
        let names: BTreeSet<String> =
            database.rows("Name").iter().filter_map(|(_, row)| row[0].text().map(str::to_owned)).collect();
        assert_eq!(strings(names), ["library", "plugin", "tool"]);
        assert_eq!(database.rows("None"), []);
    }

    #[test]
    fn reads_the_list_of_dnf5_and_the_directories_of_yum() {
        let list = "version = \"1.0\"\n[packages]\n\"nginx.x86_64\" = {reason = \"User\"}\n\"pcre.x86_64\" = {reason = \"Dependency\"}\n\
                    [packages.\"bash.x86_64\"]\nreason = \"Group\"\n";
        assert_eq!(strings(dnf5(list).unwrap()), ["bash", "nginx"]);
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
                    if let Some(database) = Database::of(file, log) {
                        dnf(&database);
                        database.rows("Name");
                    }
                }
            }
        }
    }
}
