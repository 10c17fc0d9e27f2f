//! The merge by example: one sentence of the contract, or one attack, a test.

mod distributions;
mod given;
mod lines;
mod properties;

use super::*;
use std::path::PathBuf;

const SHELLS: [&str; 4] = ["/bin/bash", "/bin/sh", "/usr/sbin/nologin", "/bin/false"];

/// A root with the files that are given, and what every distribution has.
#[derive(Default, Clone, Copy)]
struct Sources<'a> {
    passwd: &'a str,
    shadow: &'a str,
    group: &'a str,
    gshadow: &'a str,
    subuid: &'a str,
    login_defs: &'a str,
}

impl Sources<'_> {
    fn files(self) -> AccountFiles {
        let file = |text: &str| Some(text.as_bytes().to_vec());
        AccountFiles {
            passwd: file(&format!("root:x:0:0:root:/root:/bin/bash\n{}", self.passwd)),
            shadow: file(&format!("root:*:1:0:9:7:::\n{}", self.shadow)),
            group: file(&format!("root:x:0:\n{}", self.group)),
            gshadow: file(&format!("root:*::\n{}", self.gshadow)),
            subuid: file(self.subuid),
            subgid: None,
            login_defs: file(self.login_defs),
        }
    }
}

fn merged(old: &AccountFiles, new: &AccountFiles) -> Merged {
    merge(old, new, &|shell| SHELLS.contains(&shell))
}

fn run(old: Sources<'_>, new: Sources<'_>) -> Merged {
    merged(&old.files(), &new.files())
}

/// What a changed file has beyond its first line.
fn text(file: &Option<Vec<u8>>) -> &str {
    let text = std::str::from_utf8(file.as_deref().unwrap_or_default()).unwrap();
    text.split_once('\n').map_or(text, |(_, rest)| rest)
}

fn report(merged: &Merged) -> Vec<String> {
    merged.report.iter().map(ToString::to_string).collect()
}

fn alice() -> Sources<'static> {
    Sources {
        passwd: "alice:x:1000:1000:Alice,,,:/home/alice:/bin/bash\n",
        shadow: "alice:$y$hash:19000:0:99999:7:::\n",
        group: "alice:x:1000:\n",
        gshadow: "alice:!::\n",
        ..Sources::default()
    }
}

#[test]
fn a_user_that_is_missing_is_carried_with_password_group_and_home() {
    let found = run(alice(), Sources::default());
    assert_eq!(text(&found.files.passwd), alice().passwd);
    assert_eq!(text(&found.files.shadow), alice().shadow);
    assert_eq!(text(&found.files.group), alice().group);
    assert_eq!(text(&found.files.gshadow), alice().gshadow);
    assert_eq!(found.files.subuid, None);
    let home = Home { path: PathBuf::from("/home/alice"), uid: 1000, gid: 1000, mode: 0o700 };
    assert_eq!(found.homes, [home]);
    assert_eq!(
        report(&found),
        [
            "group `alice` (1000) was carried over",
            "`root` keeps the old password",
            "user `alice` (1000) was carried over"
        ]
    );
    assert!(found.report.iter().all(|note| !note.is_warning()));
}

#[test]
fn a_second_merge_changes_nothing() {
    let new = Sources::default().files();
    let first = merged(&alice().files(), &new);
    let files = AccountFiles {
        passwd: first.files.passwd,
        shadow: first.files.shadow,
        group: first.files.group,
        gshadow: first.files.gshadow,
        ..new
    };
    let second = merged(&alice().files(), &files);
    assert_eq!(second.files, AccountFiles::default());
    assert!(second.homes.is_empty());
}

#[test]
fn an_account_of_both_roots_keeps_everything_but_the_password() {
    let new = Sources {
        passwd: "alice:x:1000:100:New:/srv/alice:/bin/sh\n",
        shadow: "alice:!:20000:1:2:3:4:5:\n",
        group: "users:x:100:\n",
        ..Sources::default()
    };
    let found = run(alice(), new);
    assert_eq!(found.files.passwd, None);
    assert_eq!(text(&found.files.shadow), "alice:$y$hash:20000:1:2:3:4:5:\n");
    assert!(found.homes.is_empty());
    assert!(report(&found).contains(&"`alice` keeps the old password".to_owned()));
}

#[test]
fn the_old_roots_login_defs_says_who_is_a_person() {
    let old = Sources {
        passwd: "low:x:500:500::/home/low:/bin/sh\nsystem:x:499:500::/:/bin/sh\n\
                 nobody2:x:65534:500::/:/bin/sh\n",
        group: "low:x:500:\nsystem:x:499:\nnogroup2:x:65534:\n",
        login_defs: "UID_MIN 500\nGID_MIN 500\n",
        ..Sources::default()
    };
    let found = run(old, Sources { login_defs: "UID_MIN 1000\n", ..Sources::default() });
    assert_eq!(text(&found.files.passwd), "low:x:500:500::/home/low:/bin/sh\n");
    assert_eq!(text(&found.files.group), "low:x:500:\n");
    let system = |name: &str| AccountNote::NotCarried { name: name.to_owned(), because: Because::System };
    assert!(found.report.contains(&system("system")) && found.report.contains(&system("nobody2")));
    assert!(!system("x").is_warning());
}

#[test]
fn a_taken_id_is_reported_and_never_shared() {
    let new = Sources {
        passwd: "builder:x:1000:1000::/:/bin/sh\n",
        group: "builder:x:1000:\n",
        ..Sources::default()
    };
    let found = run(alice(), new);
    assert_eq!(found.files.passwd, None);
    assert_eq!(found.files.group, None);
    assert_eq!(found.files.shadow, None);
    let because = Because::IdTaken { id: 1000, by: "builder".to_owned() };
    assert!(
        found
            .report
            .contains(&AccountNote::NotCarried { name: "alice".to_owned(), because: because.clone() })
    );
    assert!(found.report.contains(&AccountNote::GroupNotCarried { name: "alice".to_owned(), because }));
}

#[test]
fn an_id_in_a_malformed_line_of_the_new_root_is_taken_too() {
    for passwd in ["odd:x:1000\n", "odd:x: 1000:5\n", "odd:x:01000:5::/:/bin/sh\n"] {
        let found = run(alice(), Sources { passwd, ..Sources::default() });
        assert_eq!(found.files.passwd, None, "{passwd}");
    }
    let found = run(alice(), Sources { passwd: "alice:x\n", ..Sources::default() });
    let because = Because::NewLineMalformed;
    assert!(found.report.contains(&AccountNote::NotCarried { name: "alice".to_owned(), because }));
}

#[test]
fn two_old_names_with_one_id_do_not_both_come_over() {
    let old = Sources {
        passwd: "a:x:1000:1000::/home/a:/bin/sh\nb:x:1000:1000::/home/b:/bin/sh\na:x:1001:1000::/:/bin/sh\n",
        group: "a:x:1000:\n",
        ..Sources::default()
    };
    let found = run(old, Sources::default());
    assert_eq!(text(&found.files.passwd), "a:x:1000:1000::/home/a:/bin/sh\n");
    let lines = report(&found);
    assert!(
        lines.contains(&"user `b` was not carried over: id 1000 is taken by `a`".to_owned()),
        "{lines:?}"
    );
    let duplicate = "line 4 of the old /etc/passwd was kept out: an earlier line has the same name";
    assert!(lines.contains(&duplicate.to_owned()), "{lines:?}");
}

#[test]
fn a_primary_group_that_means_something_else_keeps_a_user_out() {
    let old = |gid: u32, group: &'static str| {
        let passwd = format!("alice:x:1000:{gid}::/home/alice:/bin/sh\n");
        run(
            Sources { passwd: &passwd, group, ..Sources::default() },
            Sources { group: "users:x:100:\nssl:x:1001:\n", ..Sources::default() },
        )
    };
    let not_carried = |because| AccountNote::NotCarried { name: "alice".to_owned(), because };
    // The same group by name and id, also a system one.
    assert!(text(&old(100, "users:x:100:\n").files.passwd).starts_with("alice:x:1000:100:"));
    assert!(text(&old(0, "").files.passwd).starts_with("alice:x:1000:0:"));
    // A system's group that the new root lacks altogether comes with him.
    let found = old(50, "staff:x:50:\nother:x:51:\n");
    assert!(text(&found.files.passwd).starts_with("alice:x:1000:50:"));
    assert!(text(&found.files.group).ends_with("\nstaff:x:50:\n"), "{}", text(&found.files.group));
    for (gid, group, because) in [
        (1001, "alice:x:1001:\n", Because::PrimaryGroupTaken { gid: 1001, by: "ssl".to_owned() }),
        (1001, "", Because::PrimaryGroupTaken { gid: 1001, by: "ssl".to_owned() }),
        (100, "staff:x:100:\n", Because::PrimaryGroupTaken { gid: 100, by: "users".to_owned() }),
        (50, "users:x:50:\n", Because::PrimaryGroupMissing { gid: 50 }),
        (50, "", Because::PrimaryGroupMissing { gid: 50 }),
        (4000, "", Because::PrimaryGroupMissing { gid: 4000 }),
    ] {
        let found = old(gid, group);
        assert_eq!(found.files.passwd, None);
        assert!(found.report.contains(&not_carried(because)), "{gid} {group}: {:?}", report(&found));
    }
}

#[test]
fn uid_zero_clones_stay_behind_whatever_login_defs_says() {
    let old = Sources {
        passwd: "toor:$6$x:0:0::/root:/bin/sh\nr00t:x:00:0::/root:/bin/sh\nroot:x:1000:0::/:/bin/sh\n",
        login_defs: "UID_MIN 0\nGID_MIN 0\n",
        ..Sources::default()
    };
    let found = run(old, Sources::default());
    assert_eq!(found.files.passwd, None);
    for name in ["toor", "r00t"] {
        let note = AccountNote::NotCarried { name: name.to_owned(), because: Because::UidZero };
        assert!(found.report.contains(&note), "{name}");
    }
}

#[test]
fn roots_password_is_the_old_one_unless_it_was_empty() {
    let root = |field: &str, shadow: &str, new_shadow: Option<&str>| {
        let old = AccountFiles {
            passwd: Some(format!("root:{field}:0:0:root:/root:/bin/bash\n").into_bytes()),
            shadow: Some(shadow.as_bytes().to_vec()),
            ..AccountFiles::default()
        };
        let mut new = Sources::default().files();
        new.shadow = new_shadow.map(|text| text.as_bytes().to_vec());
        merged(&old, &new)
    };
    let shadow = |merged: &Merged| merged.files.shadow.clone().map(|bytes| String::from_utf8(bytes).unwrap());
    let new = Some("root:new:20000:0:9:7:::\n");
    for (field, old, new, wanted) in [
        ("x", "root:$y$old:1:2:3:4:::\n", new, Some("root:$y$old:20000:0:9:7:::\n")),
        ("x", "root:!:1:2:3:4:::\n", new, Some("root:!:20000:0:9:7:::\n")),
        ("x", "root:*:1:2:3:4:::\n", new, Some("root:*:20000:0:9:7:::\n")),
        ("$1$in-passwd", "", new, Some("root:$1$in-passwd:20000:0:9:7:::\n")),
        ("x", "root::1:2:3:4:::\n", new, None),
        ("", "root:$y$old:1:2:3:4:::\n", new, None),
        ("x", "", new, None),
        ("x", "root:short\n", new, None),
        // No shadow file in the new root: made.
        ("x", "root:$y$old:1:2:3:4:::\n", None, Some("root:$y$old:::::::\n")),
    ] {
        let found = root(field, old, new);
        assert_eq!(shadow(&found).as_deref(), wanted, "{field} {old}");
        let kept = found.report.contains(&AccountNote::PasswordKept { name: "root".to_owned() });
        assert_eq!(kept, wanted.is_some(), "{field} {old}");
    }
}

#[test]
fn roots_password_is_kept_though_passwd_has_lost_him() {
    for passwd in [None, Some(&b"daemon:x:1:1::/:/bin/sh\nroot:x:0:0:short\n"[..])] {
        let old = AccountFiles {
            passwd: passwd.map(<[u8]>::to_vec),
            shadow: Some(b"root:$y$old:1:2:3:4:::\n".to_vec()),
            ..AccountFiles::default()
        };
        let found = merged(&old, &Sources::default().files());
        assert_eq!(found.files.shadow.as_deref(), Some(&b"root:$y$old:1:0:9:7:::\n"[..]));
        assert_eq!(found.files.passwd, None);
    }
    // Another root than the one that shadow speaks of is nobody to be believed.
    let old = AccountFiles {
        passwd: Some(b"root:x:1000:1000::/:/bin/sh\n".to_vec()),
        shadow: Some(b"root:$y$old:1:2:3:4:::\n".to_vec()),
        ..AccountFiles::default()
    };
    assert_eq!(merged(&old, &Sources::default().files()).files.shadow, None);
}

#[test]
fn a_line_of_the_new_shadow_that_its_programs_pass_over_holds_no_password() {
    for (shadow, wanted) in [
        ("root:!:20000\nroot:!:1:2:3:4:::\n", "root:!:20000\nroot:$y$old:1:2:3:4:::\n"),
        ("root:!\n", "root:!\nroot:$y$old:::::::\n"),
        ("root:!:1:2:3\n", "root:$y$old:1:2:3\n"),
    ] {
        let mut old = Sources::default().files();
        old.shadow = Some(b"root:$y$old:19000:2:3:4:::\n".to_vec());
        let mut new = Sources::default().files();
        new.shadow = Some(shadow.as_bytes().to_vec());
        let found = merged(&old, &new);
        assert_eq!(found.files.shadow.as_deref().map(String::from_utf8_lossy).as_deref(), Some(wanted));
    }
}

#[test]
fn a_hash_in_passwd_moves_to_shadow() {
    let old = Sources {
        passwd: "alice:$1$direct:1000:1000::/home/alice:/bin/sh\nbob::1001:1000::/home/bob:/bin/sh\n\
                 carl:x:1002:1000::/home/carl:/bin/sh\n",
        group: "alice:x:1000:\n",
        ..Sources::default()
    };
    let mut new = Sources::default().files();
    new.passwd = Some(b"root:$5$here:0:0:root:/root:/bin/bash\n".to_vec());
    let found = merged(&old.files(), &new);
    assert_eq!(text(&found.files.shadow), "alice:$1$direct:::::::\nbob::::::::\ncarl:!:::::::\n");
    assert!(found.files.passwd.as_deref().unwrap().starts_with(b"root:x:0:"));
    assert!(text(&found.files.passwd).starts_with("alice:x:1000:"));
    assert!(found.report.contains(&AccountNote::EmptyPassword { name: "bob".to_owned() }));
    let because = PasswordBecause::NoneInOld;
    assert!(found.report.contains(&AccountNote::PasswordNotKept { name: "carl".to_owned(), because }));
}

#[test]
fn people_are_back_in_their_groups_and_nobody_else() {
    let old = Sources {
        passwd: "alice:x:1000:1000::/home/alice:/bin/sh\npg:x:105:105::/:/bin/sh\n",
        group: "alice:x:1000:pg\nsudo:x:27:alice,alice\nwheel:x:10:alice\ndocker:x:999:alice\nlxd:x:998:pg,ghost\n",
        gshadow: "sudo:*::alice\n",
        ..Sources::default()
    };
    let new = Sources {
        group: "sudo:x:37:someone\nwheel:x:10:alice\nlxd:x:998:pg\nbroken:x\n",
        gshadow: "sudo:*::someone\nwheel:!::\n",
        ..Sources::default()
    };
    let found = run(old, new);
    assert_eq!(
        text(&found.files.group),
        "sudo:x:37:someone,alice\nwheel:x:10:alice\nlxd:x:998:pg\nbroken:x\nalice:x:1000:\n"
    );
    assert_eq!(text(&found.files.gshadow), "sudo:*::someone,alice\nwheel:!::alice\nalice:!::\n");
    let lost = |group: &str, user: &str, because| AccountNote::MembershipNotAdded {
        group: group.to_owned(),
        user: user.to_owned(),
        because,
    };
    for note in [
        lost("docker", "alice", Because::GroupMissing),
        lost("alice", "pg", Because::System),
        lost("lxd", "ghost", Because::UserMissing),
    ] {
        assert!(found.report.contains(&note), "{note}: {:?}", report(&found));
    }
}

#[test]
fn a_group_password_is_carried_also_into_a_root_without_gshadow() {
    let old = Sources {
        passwd: alice().passwd,
        group: "alice:x:1000:\nteam:x:1001:alice\nplain:$1$g:1002:\n",
        gshadow: "team:$6$team:alice,ghost:alice\nalice:!::\n",
        ..Sources::default()
    };
    let mut new = Sources::default().files();
    new.gshadow = None;
    let found = merged(&old.files(), &new);
    let gshadow = String::from_utf8(found.files.gshadow.unwrap()).unwrap();
    assert_eq!(gshadow, "team:$6$team:alice:alice\nplain:$1$g::\n");
    assert_eq!(text(&found.files.group), "alice:x:1000:\nteam:x:1001:alice\nplain:x:1002:\n");
    let found = merged(&alice().files(), &new);
    assert_eq!(found.files.gshadow, None);
}

#[test]
fn a_missing_shell_and_an_unusable_home_are_reported() {
    let old = Sources {
        passwd: "a:x:1000:1000::/home/a:/usr/bin/zsh\nb:x:1001:1000::/old/b:/sbin/nologin\n\
                 c:x:1002:1000::../etc:\nd:x:1003:1000::/home/a/../b:/bin/sh\n",
        group: "a:x:1000:\n",
        ..Sources::default()
    };
    let found = run(old, Sources::default());
    assert_eq!(
        text(&found.files.passwd),
        "a:x:1000:1000::/home/a:/bin/bash\nb:x:1001:1000::/old/b:/usr/sbin/nologin\n\
         c:x:1002:1000::../etc:\nd:x:1003:1000::/home/a/../b:/bin/sh\n"
    );
    assert_eq!(found.homes.len(), 1);
    let lines = report(&found);
    for line in [
        "the shell of `a` is now /bin/bash: the new root has no /usr/bin/zsh",
        "the home of `b`, `/old/b`, is not made: nobody's home may be there",
        "the home of `c`, `../etc`, is not made: it is no absolute path",
        "the home of `d`, `/home/a/../b`, is not made: there is a `..` in it",
    ] {
        assert!(lines.contains(&line.to_owned()), "{line}: {lines:?}");
    }
}

#[test]
fn subordinate_ids_come_over_where_they_are_nobody_elses() {
    let old = Sources {
        passwd: "alice:x:1000:0::/:/bin/sh\nbob:x:1001:0::/:/bin/sh\ncarl:x:1002:0::/:/bin/sh\n\
                 dora:x:1003:0::/:/bin/sh\nnew:x:1004:0::/:/bin/sh\n",
        subuid: "alice:100000:65536\n1001:200000:10\nbob:200005:10\ncarl:0:2000\nghost:300000:5\n\
                 alice:4294967290:100\ndora:x:5\ndora:400000:0\nnew:500000:10\nroot:600000:5\nalice:900010:1\n",
        ..Sources::default()
    };
    let new = Sources {
        passwd: "new:x:1004:0::/:/bin/sh\n",
        subuid: "first:165535:1\nnew:900000:10\n",
        ..Sources::default()
    };
    let found = run(old, new);
    assert_eq!(text(&found.files.subuid), "new:900000:10\nbob:200000:10\nalice:900010:1\n");
    let lines = report(&found);
    for line in [
        "/etc/subuid: the 65536 ids from 100000 of `alice` were not carried over: they overlap with those of `first`",
        "/etc/subuid: `bob` has 10 ids from 200000 again",
        "/etc/subuid: the 10 ids from 200005 of `bob` were not carried over: they overlap with those of `bob`",
        "/etc/subuid: the 2000 ids from 0 of `carl` were not carried over: 0 is somebody's own",
        "/etc/subuid: the 10 ids from 500000 of `new` were not carried over: the new root has others for this user",
        "line 5 of the old /etc/subuid was kept out: its account was not carried over",
        "line 6 of the old /etc/subuid was kept out: it is no range of ids",
        "line 7 of the old /etc/subuid was kept out: it is no range of ids",
        "line 8 of the old /etc/subuid was kept out: it is no range of ids",
    ] {
        assert!(lines.contains(&line.to_owned()), "{line}: {lines:#?}");
    }
}

#[test]
fn an_old_root_without_files_changes_nothing_and_says_so() {
    let found = merged(&AccountFiles::default(), &Sources::default().files());
    assert_eq!(found.files, AccountFiles::default());
    assert_eq!(report(&found), ["the old root has no /etc/passwd"]);
}

#[test]
fn many_users_in_many_groups_take_no_time() {
    let started = std::time::Instant::now();
    let numbers = 1000..30_000;
    let passwd: String =
        numbers.clone().map(|id| format!("u{id}:x:{id}:1000::/home/u{id}:/bin/sh\n")).collect();
    let members: Vec<String> = (1000..8000).map(|id| format!("u{id}")).collect();
    let group: String = (1000..1200).map(|id| format!("g{id}:x:{id}:{}\n", members.join(","))).collect();
    let subuid: String = numbers.map(|id| format!("u{id}:{}:3\n", 100_000 + id * 3)).collect();
    let old = Sources { passwd: &passwd, group: &group, subuid: &subuid, ..Sources::default() };
    let found = run(old, Sources::default());
    assert_eq!(found.homes.len(), 29_000);
    assert_eq!(text(&found.files.passwd).lines().count(), 29_000);
    assert!(started.elapsed().as_secs() < 60, "{:?}", started.elapsed());
}

#[test]
fn names_are_escaped_in_the_report_and_hashes_are_in_no_log() {
    let note = AccountNote::Carried { name: "\u{202e}x\x1b".to_owned(), uid: 1 };
    assert!(!note.to_string().contains(['\u{202e}', '\x1b']));
    assert!(!format!("{:?}", alice().files()).contains("hash"));
}
