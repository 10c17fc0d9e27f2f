//! An account that somebody wants to have a password and that is not there yet: as `useradd -m` would make it, without running anything of the root.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::AccountFiles;
use super::login_defs::Minimums;
use super::merge::Merged;
use super::note::Notes;
use super::table::Table;

/// As shadow-utils have it, where `login.defs` says nothing else.
const LAST_ID: u32 = 60_000;
const LONGEST_NAME: usize = 32;
const SHELLS: [&str; 4] = ["/bin/bash", "/bin/sh", "/usr/bin/bash", "/usr/bin/sh"];

/// Where the shell of new accounts is said.
pub const USERADD_DEFAULTS: &str = "/etc/default/useradd";

/// Why there can be no such account.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddError {
    #[error("it has no /etc/passwd")]
    NoAccounts,
    #[error(
        "there is no such account, and none can be made with that name: up to {LONGEST_NAME} letters, digits, `.`, `_` and `-`, beginning with a letter or `_`"
    )]
    Name,
    #[error("there is no such account, and the one of id 0 is not made")]
    Root,
    #[error(
        "there is no such account, and a group with that name is there already, whose rights it would get"
    )]
    Group,
    #[error("there is no such account, and no id is left for one")]
    NoId,
}

/// An account that has been added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewUser {
    pub id: u32,
    /// To be made.
    pub home: PathBuf,
}

/// Whether the name is somebody's in these files.
pub fn has_user(files: &AccountFiles, name: &str) -> bool {
    Table::parse(files.passwd.as_deref()).find(name, 7).is_some()
}

/// Adds an account with a group of its own. `shell` is what `/etc/default/useradd` says, if it does.
///
/// # Errors
/// [`AddError`], with nothing added.
pub fn add(
    files: &AccountFiles,
    merged: &mut Merged,
    name: &str,
    has_executable: &dyn Fn(&str) -> bool,
    shell: Option<&str>,
) -> Result<NewUser, AddError> {
    let mut passwd = Table::parse(files.passwd.as_deref());
    let mut group = Table::parse(files.group.as_deref());
    let mut gshadow = Table::parse(files.gshadow.as_deref());
    if !passwd.exists {
        return Err(AddError::NoAccounts);
    }
    if name == "root" {
        return Err(AddError::Root);
    }
    if !is_name(name) || passwd.has_name(name) {
        return Err(AddError::Name);
    }
    if group.has_name(name) || gshadow.has_name(name) {
        return Err(AddError::Group);
    }
    let minimums = Minimums::read(files.login_defs.as_deref(), &mut Notes::default());
    // One number for both, as it is everywhere.
    let first = minimums.uid.max(minimums.gid);
    let taken: BTreeSet<u32> = passwd.ids().chain(group.ids()).collect();
    let id = (first..=LAST_ID).find(|id| !taken.contains(id)).ok_or(AddError::NoId)?;
    let shell = shell.filter(|shell| has_executable(shell));
    let shell = shell.or_else(|| SHELLS.into_iter().find(|shell| has_executable(shell)));
    let home = format!("/home/{name}");
    let row = [name, "x", &id.to_string(), &id.to_string(), "", &home, shell.unwrap_or("/bin/sh")];
    passwd.add(row.map(|field| field.as_bytes().to_vec()).to_vec());
    group.add([name, "x", &id.to_string(), ""].map(|field| field.as_bytes().to_vec()).to_vec());
    if gshadow.exists {
        gshadow.add([name, "!", "", ""].map(|field| field.as_bytes().to_vec()).to_vec());
    }
    merged.files.passwd = passwd.into_changed();
    merged.files.group = group.into_changed();
    merged.files.gshadow = gshadow.into_changed();
    Ok(NewUser { id, home: home.into() })
}

/// Gives an account that is there, and is like one of [`add`], its group, should nothing have that number or that name: who added it has died before.
pub fn complete(files: &AccountFiles, merged: &mut Merged, name: &str) {
    let passwd = Table::parse(files.passwd.as_deref());
    let mut group = Table::parse(files.group.as_deref());
    let mut gshadow = Table::parse(files.gshadow.as_deref());
    let Some(row) = passwd.find(name, 7) else { return };
    let (id, own_group) = (passwd.field(row, 2).to_vec(), passwd.field(row, 3));
    let number = std::str::from_utf8(&id).ok().and_then(|id| id.parse::<u32>().ok());
    let is_alike = id == own_group && passwd.field(row, 5) == format!("/home/{name}").as_bytes();
    let is_missing = number.is_some_and(|number| group.ids().all(|other| other != number));
    if !is_alike || !is_missing || !is_name(name) || group.has_name(name) {
        return;
    }
    group.add(vec![name.into(), "x".into(), id, Vec::new()]);
    if gshadow.exists && !gshadow.has_name(name) {
        gshadow.add([name, "!", "", ""].map(|field| field.as_bytes().to_vec()).to_vec());
    }
    merged.files.group = group.into_changed();
    merged.files.gshadow = gshadow.into_changed();
}

/// What every distribution takes for a name. Upper case is taken, since there are panels that give it.
fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    let first = bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    first
        && name.len() <= LONGEST_NAME
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

/// What `SHELL=` of `/etc/default/useradd` says.
pub fn shell_of_new_users(defaults: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(defaults);
    let said = text.lines().filter_map(|line| line.trim().strip_prefix("SHELL=")).next_back()?;
    let said = said.trim().trim_matches(['"', '\'']);
    let is_plain =
        said.starts_with('/') && !said.contains([':', '$', '`']) && !said.contains(char::is_control);
    is_plain.then(|| said.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files() -> AccountFiles {
        AccountFiles {
            passwd: Some(
                b"root:x:0:0::/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\n+::::::\n".to_vec(),
            ),
            group: Some(b"root:x:0:\nann:x:1000:\nstaff:x:1001:\ndocker:x:90:\n".to_vec()),
            gshadow: Some(b"root:*::\n".to_vec()),
            ..AccountFiles::default()
        }
    }

    #[test]
    fn an_account_is_made_with_the_first_id_that_nobody_has() {
        let mut merged = Merged::default();
        let has = |path: &str| path == "/bin/sh" || path == "/bin/ksh";
        let made = add(&files(), &mut merged, "Bob.2", &has, Some("/bin/ksh")).unwrap();
        assert_eq!(made, NewUser { id: 1002, home: "/home/Bob.2".into() });
        let passwd = String::from_utf8(merged.files.passwd.unwrap()).unwrap();
        assert!(passwd.ends_with("\nBob.2:x:1002:1002::/home/Bob.2:/bin/ksh\n+::::::\n"), "{passwd}");
        assert!(merged.files.group.unwrap().ends_with(b"\nBob.2:x:1002:\n"));
        assert!(merged.files.gshadow.unwrap().ends_with(b"\nBob.2:!::\n"));

        let mut merged = Merged::default();
        let login_defs = Some(b"UID_MIN 500\nGID_MIN 600\n".to_vec());
        let files = AccountFiles { login_defs, gshadow: None, ..files() };
        assert_eq!(add(&files, &mut merged, "_b", &has, Some("/bin/zsh")).unwrap().id, 600);
        assert!(String::from_utf8(merged.files.passwd.unwrap()).unwrap().contains("/home/_b:/bin/sh\n"));
        assert_eq!(merged.files.gshadow, None);
    }

    #[test]
    fn an_account_whose_group_was_not_made_gets_it_and_no_other_does() {
        let row = |row: &str| AccountFiles {
            passwd: Some(format!("root:x:0:0::/root:/bin/sh\n{row}\n").into_bytes()),
            ..files()
        };
        let mut merged = Merged::default();
        complete(&row("bob:x:1002:1002::/home/bob:/bin/sh"), &mut merged, "bob");
        assert!(merged.files.group.unwrap().ends_with(b"\nbob:x:1002:\n"));
        assert!(merged.files.gshadow.unwrap().ends_with(b"\nbob:!::\n"));
        for other in [
            // It has a group, by another name; in the group of all; a daemon's; that name is another group's.
            ("bob", "bob:x:1001:1001::/home/bob:/bin/sh"),
            ("bob", "bob:x:1002:100::/home/bob:/bin/sh"),
            ("bob", "bob:x:1002:1002::/var/lib/bob:/bin/sh"),
            ("docker", "docker:x:1002:1002::/home/docker:/bin/sh"),
            ("ann", "bob:x:1002:1002::/home/bob:/bin/sh"),
        ] {
            let mut merged = Merged::default();
            complete(&row(other.1), &mut merged, other.0);
            assert_eq!(merged.files, AccountFiles::default(), "{other:?}");
        }
    }

    #[test]
    fn what_can_be_no_account_is_refused() {
        let full =
            (1000..=LAST_ID).fold(String::new(), |all, id| all + &format!("u{id}:x:{id}:0::/:/bin/sh\n"));
        let full = AccountFiles { passwd: Some(full.into_bytes()), ..AccountFiles::default() };
        let long = "a".repeat(33);
        for (files, name, wanted) in [
            (files(), "root", AddError::Root),
            (files(), "docker", AddError::Group),
            (files(), "-r", AddError::Name),
            (files(), "../x", AddError::Name),
            (files(), "a b", AddError::Name),
            (files(), "", AddError::Name),
            (files(), "jürgen", AddError::Name),
            (files(), long.as_str(), AddError::Name),
            (full, "one", AddError::NoId),
            (AccountFiles::default(), "one", AddError::NoAccounts),
        ] {
            let mut merged = Merged::default();
            assert_eq!(add(&files, &mut merged, name, &|_| true, None), Err(wanted), "{name}");
            assert_eq!(merged.files, AccountFiles::default(), "{name}");
        }
    }

    #[test]
    fn the_shell_of_new_users_is_a_path_or_none() {
        for (text, wanted) in [
            ("# x\nSHELL=/bin/sh\n", Some("/bin/sh")),
            ("SHELL=/bin/sh\nSHELL=\"/bin/bash\"", Some("/bin/bash")),
            ("SHELL=\n", None),
            ("SHELL=/bin/sh:0\n", None),
            ("", None),
        ] {
            assert_eq!(shell_of_new_users(text.as_bytes()).as_deref(), wanted, "{text}");
        }
    }
}
