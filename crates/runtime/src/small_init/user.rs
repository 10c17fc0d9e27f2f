//! As whom a program runs: what an image says, made sense of by the container's own `/etc/passwd` and `/etc/group`.

use std::path::Path;

use tree::Root;

/// Of `/etc/passwd` and `/etc/group` each.
const LARGEST: u64 = 8 * 1024 * 1024;

/// Ids in the container, and a home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
    /// Beside that group.
    pub groups: Vec<u32>,
    pub home: String,
}

impl User {
    /// Finds the one that `said` means, `USER[:GROUP]` by names or numbers, in `root`, which is this process's own. Without it: root.
    ///
    /// # Errors
    /// In words, which of them is not there.
    pub fn find(said: Option<&str>, root: &Root) -> Result<User, String> {
        let read = |path: &str| -> Result<Vec<u8>, String> {
            let found =
                root.read_file(Path::new(path), LARGEST).map_err(|error| crate::monitor::describe(&error))?;
            Ok(found.map(|file| file.bytes).unwrap_or_default())
        };
        resolve(said.unwrap_or("0"), &read("/etc/passwd")?, &read("/etc/group")?)
    }
}

/// As in Docker: a name goes before a number; a user that stands nowhere has the group 0 and no home; whoever has a group named for him has no other.
fn resolve(said: &str, passwd: &[u8], group: &[u8]) -> Result<User, String> {
    let (name, group_name) = match said.split_once(':') {
        Some((name, group)) => (name, Some(group).filter(|group| !group.is_empty())),
        None => (said, None),
    };
    let name = if name.is_empty() { "0" } else { name };
    let unknown = |kind: &str, name: &str, file: &str| {
        format!("there is no {kind} `{}` in the container's {file}", tree::escaped(name.as_bytes()))
    };
    let account = entry(passwd, name);
    let mut user = match &account {
        Some(fields) => User {
            uid: number(fields.get(2)).ok_or_else(|| unknown("user with a number", name, "/etc/passwd"))?,
            gid: number(fields.get(3)).unwrap_or(0),
            groups: Vec::new(),
            home: fields.get(5).filter(|home| home.starts_with('/')).unwrap_or(&"/".to_owned()).clone(),
        },
        None => User {
            uid: name.parse().map_err(|_| unknown("user", name, "/etc/passwd"))?,
            gid: 0,
            groups: Vec::new(),
            home: "/".to_owned(),
        },
    };
    if let Some(group_name) = group_name {
        user.gid = match entry(group, group_name) {
            Some(fields) => number(fields.get(2))
                .ok_or_else(|| unknown("group with a number", group_name, "/etc/group"))?,
            None => group_name.parse().map_err(|_| unknown("group", group_name, "/etc/group"))?,
        };
    } else if let Some(own) = account.as_ref().and_then(|fields| fields.first()) {
        let is_member = |fields: &Vec<String>| {
            fields.get(3).is_some_and(|members| members.split(',').any(|member| member == own))
        };
        user.groups = lines(group).filter(is_member).filter_map(|fields| number(fields.get(2))).collect();
        user.groups.truncate(MOST_GROUPS);
    }
    Ok(user)
}

/// NGROUPS_MAX of limits.h.
const MOST_GROUPS: usize = 65_536;

fn lines(file: &[u8]) -> impl Iterator<Item = Vec<String>> {
    file.split(|&byte| byte == b'\n')
        .filter_map(|line| std::str::from_utf8(line).ok())
        .map(|line| line.split(':').map(str::to_owned).collect())
}

/// The first line of that name, or else of that number.
fn entry(file: &[u8], name: &str) -> Option<Vec<String>> {
    let of_name = lines(file).find(|fields| fields.first().is_some_and(|first| first == name));
    let wanted = name.parse::<u32>().ok();
    of_name.or_else(|| lines(file).find(|fields| wanted.is_some() && number(fields.get(2)) == wanted))
}

fn number(field: Option<&String>) -> Option<u32> {
    field?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh\nbroken\napp:x:1000:100:App:/srv/app:/bin/sh\n\
        7:x:50:51::/seven:\nhomeless:x:60:61:::\n\xff\n";
    const GROUP: &[u8] = b"root:x:0:\nusers:x:100:\nadm:x:4:root,app\nlog:x:5:app\nbroken:x:y:app\n";

    fn found(said: &str) -> Result<(u32, u32, Vec<u32>, String), String> {
        resolve(said, PASSWD, GROUP).map(|user| (user.uid, user.gid, user.groups, user.home))
    }

    #[test]
    fn finds_users_by_name_and_number() {
        let is = |uid, gid, groups: &[u32], home: &str| Ok((uid, gid, groups.to_vec(), home.to_owned()));
        for (said, wanted) in [
            ("", is(0, 0, &[4], "/root")),
            ("0", is(0, 0, &[4], "/root")),
            ("root", is(0, 0, &[4], "/root")),
            ("app", is(1000, 100, &[4, 5], "/srv/app")),
            ("1000", is(1000, 100, &[4, 5], "/srv/app")),
            ("app:adm", is(1000, 4, &[], "/srv/app")),
            ("app:4", is(1000, 4, &[], "/srv/app")),
            ("app:", is(1000, 100, &[4, 5], "/srv/app")),
            (":adm", is(0, 4, &[], "/root")),
            ("2000:3000", is(2000, 3000, &[], "/")),
            ("2000", is(2000, 0, &[], "/")),
            // A name goes before a number.
            ("7", is(50, 51, &[], "/seven")),
            ("homeless", is(60, 61, &[], "/")),
        ] {
            assert_eq!(found(said), wanted, "{said}");
        }
    }

    #[test]
    fn whom_nobody_knows_is_told() {
        let told = |said: &str| found(said).unwrap_err();
        assert_eq!(told("nobody"), "there is no user `nobody` in the container's /etc/passwd");
        assert_eq!(told("app:none"), "there is no group `none` in the container's /etc/group");
        assert_eq!(
            told("app:broken"),
            "there is no group with a number `broken` in the container's /etc/group"
        );
        assert_eq!(told("-1"), "there is no user `-1` in the container's /etc/passwd");
        assert!(told("x\u{1b}[31m").contains("`x\\x1b[31m`"));
    }

    #[test]
    fn without_files_there_are_numbers() {
        assert_eq!(
            resolve("1000:1000", b"", b"").map(|user| (user.uid, user.gid, user.home)),
            Ok((1000, 1000, "/".to_owned()))
        );
        assert_eq!(resolve("0", b"", b"").map(|user| (user.uid, user.gid)), Ok((0, 0)));
    }
}
