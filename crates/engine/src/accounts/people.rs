//! Who is whom in both roots: for what is kept of people's files.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use super::AccountFiles;
use super::homes;
use super::login_defs::Minimums;
use super::merge::is_person;
use super::note::Notes;
use super::old::OldAccounts;

/// A home in one of these, or one of these itself, is no home: a root's own programs would be taken for somebody's files.
const NO_HOMES: [&str; 10] =
    ["/bin", "/boot", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/sbin", "/usr", "/var/spool"];

/// Root, and everybody of the old root whom the new one has by name and id: his name, and where his home was. In the order of the old file.
pub fn homes_of_people(old: &AccountFiles, new_passwd: Option<&[u8]>) -> Vec<(String, PathBuf)> {
    let mut notes = Notes::default();
    let minimum = Minimums::read(old.login_defs.as_deref(), &mut notes).uid;
    let new = names_by_id(new_passwd);
    let mut found: Vec<(String, PathBuf)> = Vec::new();
    let mut seen = HashSet::new();
    for user in OldAccounts::read(old, &mut notes).users {
        let is_root = user.name == "root" && user.uid == 0;
        if !is_root && !is_person(user.uid, minimum) || new.get(&user.uid) != Some(&user.name) {
            continue;
        }
        let Ok(Some(home)) = homes::home(&user.home, user.uid, user.gid) else { continue };
        let is_system = home.path == Path::new("/var") || NO_HOMES.iter().any(|no| home.path.starts_with(no));
        if !is_system && seen.insert(home.path.clone()) {
            found.push((user.name, home.path));
        }
    }
    found
}

/// The name that an id has: of several, the first.
pub fn names_by_id(passwd: Option<&[u8]>) -> BTreeMap<u32, String> {
    let mut names = BTreeMap::new();
    for line in passwd.unwrap_or_default().split(|byte| *byte == b'\n') {
        let mut fields = line.split(|byte| *byte == b':');
        let (name, _, id) = (fields.next(), fields.next(), fields.next());
        let id = id.and_then(|id| std::str::from_utf8(id).ok()?.parse().ok());
        if let (Some(name), Some(id)) = (name, id) {
            names.entry(id).or_insert_with(|| tree::escaped(name));
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_are_root_and_who_has_the_same_name_and_id_in_both() {
        let old = AccountFiles {
            passwd: Some(
                b"root:x:0:0::/root:/bin/sh\nwww-data:x:33:33::/var/www:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/sh\n\
                bob:x:1001:1001::/home/bob:/bin/sh\ncarol:x:1002:1002::/etc/ssh:/bin/sh\ndave:x:1003:1003::/:/bin/sh\n\
                erin:x:1004:1004::/var:/bin/sh\nfay:x:1005:1005::/var/www/fay:/bin/sh\n"
                    .to_vec(),
            ),
            ..AccountFiles::default()
        };
        let new = b"root:x:0:0::/root:/bin/sh\nalice:x:1000:1000::/home/elsewhere:/bin/sh\nother:x:1001:1001::/home/bob:/bin/sh\n\
            carol:x:1002:1002::/etc/ssh:/bin/sh\ndave:x:1003:1003::/:/bin/sh\nerin:x:1004:1004::/var:/bin/sh\n\
            fay:x:1005:1005::/var/www/fay:/bin/sh\n";
        let homes = homes_of_people(&old, Some(new));
        let homes: Vec<(&str, &str)> =
            homes.iter().map(|(name, home)| (name.as_str(), home.to_str().unwrap())).collect();
        assert_eq!(homes, [("root", "/root"), ("alice", "/home/alice"), ("fay", "/var/www/fay")]);
        assert_eq!(names_by_id(Some(new))[&1001], "other");
        assert_eq!(homes_of_people(&AccountFiles::default(), None), []);
    }
}
