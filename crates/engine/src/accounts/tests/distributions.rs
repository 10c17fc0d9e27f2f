//! Account files as distributions have them, and people carried from each to each.
//!
//! `roots/` has those of freshly made roots; the people are added here.

use super::*;
use std::collections::BTreeMap;

const NAMES: [&str; 5] = ["debian-12", "ubuntu-24.04", "alpine-3.20", "rocky-9", "centos-6"];

macro_rules! files {
    ($name:literal, $gshadow:expr, $login_defs:expr) => {
        AccountFiles {
            passwd: Some(include_bytes!(concat!("roots/", $name, "/passwd")).to_vec()),
            shadow: Some(include_bytes!(concat!("roots/", $name, "/shadow")).to_vec()),
            group: Some(include_bytes!(concat!("roots/", $name, "/group")).to_vec()),
            gshadow: $gshadow,
            login_defs: $login_defs,
            ..AccountFiles::default()
        }
    };
    ($name:literal) => {
        files!(
            $name,
            Some(include_bytes!(concat!("roots/", $name, "/gshadow")).to_vec()),
            Some(include_bytes!(concat!("roots/", $name, "/login.defs")).to_vec())
        )
    };
}

fn fresh(name: &str) -> AccountFiles {
    match name {
        "debian-12" => files!("debian-12"),
        "ubuntu-24.04" => files!("ubuntu-24.04"),
        "rocky-9" => files!("rocky-9"),
        "centos-6" => files!("centos-6"),
        // Neither gshadow nor, without the package `shadow`, login.defs.
        "alpine-3.20" => files!("alpine-3.20", None, None),
        other => panic!("there are no files of {other}"),
    }
}

/// What of the shells and of what keeps people out a fresh root has.
fn shells(name: &str) -> &'static [&'static str] {
    match name {
        // A merged /usr: both names of everything.
        "debian-12" | "ubuntu-24.04" => &[
            "/bin/sh",
            "/bin/bash",
            "/usr/bin/bash",
            "/usr/bin/sh",
            "/usr/sbin/nologin",
            "/sbin/nologin",
            "/bin/false",
        ],
        "alpine-3.20" => &["/bin/sh", "/bin/ash", "/sbin/nologin", "/bin/false"],
        "rocky-9" => &[
            "/bin/sh",
            "/bin/bash",
            "/usr/bin/bash",
            "/usr/bin/sh",
            "/usr/sbin/nologin",
            "/sbin/nologin",
            "/usr/bin/false",
        ],
        _ => &["/bin/sh", "/bin/bash", "/sbin/nologin", "/bin/false"],
    }
}

/// A fresh root in which people have been added: `anna`, an administrator; `robot`, whom nobody is to be.
fn lived_in(name: &str) -> AccountFiles {
    let first = if name == "centos-6" { 500 } else { 1000 };
    let (shell, administrators, nologin, hash) = match name {
        "debian-12" | "ubuntu-24.04" => ("/bin/bash", "sudo", "/usr/sbin/nologin", "$y$j9T$anna"),
        "alpine-3.20" => ("/bin/ash", "wheel", "/sbin/nologin", "$6$anna"),
        _ => ("/bin/bash", "wheel", "/sbin/nologin", "$6$anna"),
    };
    let mut files = fresh(name);
    let second = first + 1;
    add(
        &mut files.passwd,
        &format!(
            "anna:x:{first}:{first}:Anna,,,:/home/anna:{shell}\nrobot:x:{second}:{second}::/home/robot:{nologin}\n"
        ),
    );
    // Without ageing, as `useradd` in an image and busybox's `adduser` may leave it; and locked, as RHEL writes it.
    add(&mut files.shadow, &format!("anna:{hash}::0:99999:7:::\nrobot:!!:19000::::::\n"));
    add(&mut files.group, &format!("anna:x:{first}:\nrobot:x:{second}:\n"));
    edit(&mut files.group, administrators);
    if files.gshadow.is_some() {
        add(&mut files.gshadow, "anna:!::\nrobot:!::\n");
        edit(&mut files.gshadow, administrators);
    }
    let root = [
        "root:*:19676:0:99999:7:::",
        "root:*::0:::::",
        "root:!locked::0:99999:7:::",
        "root:*:15980:0:99999:7:::",
    ];
    let shadow = String::from_utf8(files.shadow.take().unwrap()).unwrap();
    let shadow = root.iter().fold(shadow, |text, line| text.replace(line, "root:$6$root:19000:0:99999:7:::"));
    files.shadow = Some(shadow.into_bytes());
    files
}

fn add(file: &mut Option<Vec<u8>>, lines: &str) {
    file.as_mut().unwrap().extend_from_slice(lines.as_bytes());
}

/// Puts anna into a group, as its last member.
fn edit(file: &mut Option<Vec<u8>>, group: &str) {
    let text = String::from_utf8(file.take().unwrap()).unwrap();
    let line = |line: &str| match line.strip_prefix(group).is_some_and(|rest| rest.starts_with(':')) {
        true if line.ends_with(':') => format!("{line}anna\n"),
        true => format!("{line},anna\n"),
        false => format!("{line}\n"),
    };
    *file = Some(text.lines().map(line).collect::<String>().into_bytes());
}

fn carried(old: &str, new: &str) -> (AccountFiles, Merged) {
    let new_files = fresh(new);
    let merged = merge(&lived_in(old), &new_files, &|shell| shells(new).contains(&shell));
    let after = AccountFiles {
        passwd: merged.files.passwd.clone().or(new_files.passwd),
        shadow: merged.files.shadow.clone().or(new_files.shadow),
        group: merged.files.group.clone().or(new_files.group),
        gshadow: merged.files.gshadow.clone().or(new_files.gshadow),
        ..AccountFiles::default()
    };
    (after, merged)
}

fn line<'a>(file: &'a Option<Vec<u8>>, name: &str) -> Option<&'a str> {
    let text = std::str::from_utf8(file.as_deref()?).unwrap();
    text.lines().find(|line| line.split(':').next() == Some(name))
}

#[test]
fn people_are_carried_from_each_distribution_to_each() {
    for old in NAMES {
        for new in NAMES {
            let (after, merged) = carried(old, new);
            let uid = if old == "centos-6" { 500 } else { 1000 };
            let has = |shell: &str| shells(new).contains(&shell);
            let shell = if old == "alpine-3.20" { "/bin/ash" } else { "/bin/bash" };
            let shell = match () {
                () if has(shell) => shell,
                () if has("/bin/bash") => "/bin/bash",
                () => "/bin/sh",
            };
            let told = format!("{old} to {new}: {:#?}", report(&merged));
            let anna = format!("anna:x:{uid}:{uid}:Anna,,,:/home/anna:{shell}");
            assert_eq!(line(&after.passwd, "anna"), Some(anna.as_str()), "{told}");
            let robot = line(&after.passwd, "robot").unwrap();
            let (_, nologin) = robot.rsplit_once(':').unwrap();
            assert!(has(nologin) && nologin.ends_with("/nologin"), "{robot}; {told}");
            // The hash, with an empty day of its last change and all; and one that is locked stays so.
            let hash = if ["debian-12", "ubuntu-24.04"].contains(&old) { "$y$j9T$anna" } else { "$6$anna" };
            assert_eq!(
                line(&after.shadow, "anna"),
                Some(format!("anna:{hash}::0:99999:7:::").as_str()),
                "{told}"
            );
            assert_eq!(line(&after.shadow, "robot"), Some("robot:!!:19000::::::"), "{told}");
            assert!(line(&after.shadow, "root").unwrap().starts_with("root:$6$root:"), "{told}");
            assert_eq!(line(&after.group, "anna"), Some(format!("anna:x:{uid}:").as_str()), "{told}");
            assert_eq!(after.gshadow.is_some(), new != "alpine-3.20", "{told}");
            if new != "alpine-3.20" {
                assert_eq!(line(&after.gshadow, "anna"), Some("anna:!::"), "{told}");
            }
            assert_eq!(merged.homes.len(), 2, "{told}");
        }
    }
}

#[test]
fn nothing_of_a_distribution_itself_changes_or_comes_along() {
    for old in NAMES {
        for new in NAMES {
            let (after, merged) = carried(old, new);
            let fresh = fresh(new);
            let people = ["anna", "robot"];
            for (before, after) in [(&fresh.passwd, &after.passwd), (&fresh.shadow, &after.shadow)] {
                let (before, after) = (names(before), names(after));
                let more: Vec<&str> = after.iter().filter(|name| !before.contains(*name)).copied().collect();
                assert_eq!(more, people, "{old} to {new}: {:#?}", report(&merged));
            }
            let text = |file: &Option<Vec<u8>>| String::from_utf8(file.clone().unwrap()).unwrap();
            let (before, after) = (text(&fresh.passwd), text(&after.passwd));
            assert_eq!(
                after.strip_prefix(&before).map(|more| more.lines().count()),
                Some(2),
                "{old} to {new}"
            );
            // Whoever is of the system and in both with another id is told of: /old has files of that id.
            for (id, holders) in ids(&merged.files.passwd) {
                assert_eq!(holders.len(), 1, "{old} to {new}: {id} is shared by {holders:?}");
            }
        }
    }
}

fn names(file: &Option<Vec<u8>>) -> Vec<&str> {
    let text = std::str::from_utf8(file.as_deref().unwrap_or_default()).unwrap();
    text.lines().filter_map(|line| line.split(':').next()).collect()
}

fn ids(file: &Option<Vec<u8>>) -> BTreeMap<u32, Vec<&str>> {
    let mut found: BTreeMap<u32, Vec<&str>> = BTreeMap::new();
    let text = std::str::from_utf8(file.as_deref().unwrap_or_default()).unwrap();
    for line in text.lines() {
        let fields: Vec<&str> = line.split(':').collect();
        found.entry(fields[2].parse().unwrap()).or_default().push(fields[0]);
    }
    found
}

#[test]
fn an_administrator_is_one_again_where_the_group_has_the_same_name_and_else_it_is_told() {
    let wheel = ["alpine-3.20", "rocky-9", "centos-6"];
    for old in NAMES {
        for new in NAMES {
            let (after, merged) = carried(old, new);
            let group = if wheel.contains(&old) { "wheel" } else { "sudo" };
            let is_same = wheel.contains(&old) == wheel.contains(&new);
            let is_in =
                |file| line(file, group).is_some_and(|line| line.rsplit([':', ',']).next() == Some("anna"));
            assert_eq!(is_in(&after.group), is_same, "{old} to {new}: {:?}", line(&after.group, group));
            if new != "alpine-3.20" {
                assert_eq!(
                    is_in(&after.gshadow),
                    is_same,
                    "{old} to {new}: {:?}",
                    line(&after.gshadow, group)
                );
            }
            let lost = AccountNote::MembershipNotAdded {
                group: group.to_owned(),
                user: "anna".to_owned(),
                because: Because::GroupMissing,
            };
            assert_eq!(merged.report.contains(&lost), !is_same, "{old} to {new}");
            assert!(lost.is_warning());
        }
    }
}

#[test]
fn people_with_the_ids_of_a_newer_system_stay_behind_and_are_named() {
    let mut old = fresh("centos-6");
    // 998 is systemd-network's in Debian 12, and so is the group; 997 is a group's alone.
    add(
        &mut old.passwd,
        "eva:x:998:998::/home/eva:/bin/bash\nfred:x:600:997::/home/fred:/bin/bash\ngina:x:601:601::/home/gina:/bin/bash\n",
    );
    add(&mut old.group, "eva:x:998:gina\nfred:x:997:\ngina:x:601:\n");
    add(
        &mut old.shadow,
        "eva:$6$e:19000:0:99999:7:::\nfred:$6$f:19000:0:99999:7:::\ngina:$6$g:19000:0:99999:7:::\n",
    );
    let found = merge(&old, &fresh("debian-12"), &|shell| shells("debian-12").contains(&shell));
    let passwd = found.files.passwd.clone();
    assert_eq!(names(&passwd).last(), Some(&"gina"));
    assert!(!names(&passwd).contains(&"eva") && !names(&passwd).contains(&"fred"));
    assert!(!names(&found.files.shadow).contains(&"eva"));
    let told = report(&found);
    for line in [
        "user `eva` was not carried over: id 998 is taken by `systemd-network`",
        "user `fred` was not carried over: the id of the primary group, 997, is that of `systemd-timesync` in the new root",
        "group `eva` was not carried over: id 998 is taken by `systemd-network`",
        "group `fred` was not carried over: id 997 is taken by `systemd-timesync`",
        "`gina` is no more in group `eva`: the new root has no such group",
        "user `gina` (601) was carried over",
    ] {
        assert!(told.contains(&line.to_owned()), "{line}: {told:#?}");
    }
}

#[test]
fn the_user_that_an_image_comes_with_shares_his_id_with_nobody() {
    let mut new = fresh("ubuntu-24.04");
    add(&mut new.passwd, "ubuntu:x:1000:1000:Ubuntu:/home/ubuntu:/bin/bash\n");
    add(&mut new.group, "ubuntu:x:1000:\n");
    let found = merge(&lived_in("debian-12"), &new, &|shell| shells("ubuntu-24.04").contains(&shell));
    let passwd = found.files.passwd.clone();
    assert_eq!(ids(&passwd)[&1000], ["ubuntu"]);
    assert_eq!(ids(&passwd)[&1001], ["robot"]);
    assert!(
        report(&found).contains(&"user `anna` was not carried over: id 1000 is taken by `ubuntu`".to_owned())
    );
    assert!(!names(&found.files.shadow).contains(&"anna"));
}

#[test]
fn the_nobodies_of_distributions_are_nobodys() {
    for old in NAMES {
        for new in NAMES {
            let (after, merged) = carried(old, new);
            let nobodies = |file: &Option<Vec<u8>>| {
                names(file).into_iter().filter(|name| name.contains("nobody") || *name == "nogroup").count()
            };
            let fresh = fresh(new);
            assert_eq!(
                nobodies(&after.passwd),
                nobodies(&fresh.passwd),
                "{old} to {new}: {:#?}",
                report(&merged)
            );
            assert_eq!(
                nobodies(&after.group),
                nobodies(&fresh.group),
                "{old} to {new}: {:#?}",
                report(&merged)
            );
        }
    }
}

#[test]
fn a_long_line_is_carried_where_it_can_be_somebodys() {
    let members: Vec<String> = (0..20_000).map(|number| format!("u{number}")).collect();
    let mut old = lived_in("debian-12");
    add(&mut old.group, &format!("team:x:2000:{},anna\n", members.join(",")));
    add(&mut old.passwd, &format!("long:x:1500:1000:{}:/home/long:/bin/bash\n", "x".repeat(100_000)));
    let mut new = fresh("rocky-9");
    let comment = format!("kept:x:700:0:{}:/:/sbin/nologin\n", "y".repeat(100_000));
    add(&mut new.passwd, &comment);
    let found = merge(&old, &new, &|shell| shells("rocky-9").contains(&shell));
    assert!(line(&old.group, "team").unwrap().len() > 100_000);
    assert_eq!(
        line(&found.files.group, "team"),
        Some("team:x:2000:anna"),
        "who is not carried is in no group"
    );
    assert!(!names(&found.files.passwd).contains(&"long"));
    let passwd = String::from_utf8(found.files.passwd.clone().unwrap()).unwrap();
    assert!(passwd.contains(&comment), "a line of the new root stays");
    let line_number = String::from_utf8(old.passwd.unwrap()).unwrap().lines().count();
    let because = LineBecause::TooLong { kib: 64 };
    assert!(found.report.contains(&AccountNote::LineKeptOut {
        file: AccountFile::Passwd,
        line_number,
        because
    }));
}
