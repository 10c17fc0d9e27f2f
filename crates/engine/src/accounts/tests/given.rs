//! A password that is given for one account.

use super::*;
use sha_crypt::{PasswordVerifier, ShaCrypt};

fn given(user: &str) -> GivenPassword {
    GivenPassword::new(user, b"correct: horse").unwrap()
}

/// The new root after the merge with a password for `user`; the report.
fn with(user: &str, old: Option<Sources<'_>>, new: &AccountFiles) -> Result<Merged, NoSuchUser> {
    let mut found = old.map(|old| merged(&old.files(), new)).unwrap_or_default();
    let before = format!("{:?}", found.files);
    let checked = given(user).check(new, &found);
    let result = given(user).set(new, &mut found, 20_500);
    assert_eq!(checked, result);
    if result.is_err() {
        assert_eq!(format!("{:?}", found.files), before);
    }
    result.map(|()| found)
}

/// The line of shadow, with the hash, which is a right one, as `HASH`.
fn shadow_line(merged: &Merged, user: &str) -> String {
    let shadow = String::from_utf8(merged.files.shadow.clone().unwrap()).unwrap();
    let lines: Vec<&str> = shadow.lines().filter(|line| line.starts_with(&format!("{user}:$6$"))).collect();
    let hash = lines[0].split(':').nth(1).unwrap();
    ShaCrypt::SHA512.verify_password(b"correct: horse", hash).unwrap();
    lines.join("\n").replace(hash, "HASH")
}

#[test]
fn it_is_hashed_as_every_system_takes_it() {
    let (one, other) = (given("root"), given("root"));
    let set = |given: &GivenPassword| {
        let mut found = Merged::default();
        given.set(&Sources::default().files(), &mut found, 1).unwrap();
        String::from_utf8(found.files.shadow.unwrap()).unwrap().split(':').nth(1).unwrap().to_owned()
    };
    let (one, other) = (set(&one), set(&other));
    let parts: Vec<&str> = one.split('$').collect();
    assert_eq!((parts[0], parts[1], parts[2]), ("", "6", "rounds=100000"));
    // A salt that crypt(3) would shorten would make another string of it.
    assert_eq!((parts[3].len(), parts[4].len(), parts.len()), (16, 86, 5), "{one}");
    assert_ne!(parts[3], other.split('$').nth(3).unwrap(), "each has a salt of its own");
    // What glibc has made of the same words.
    let glibc = "$6$rounds=100000$5QC1.DWG.Mp0/QC1$TN6hX0hT7VOf3S5EUVdgJ0J1LJ5B3NYlPmqedgxMHnaOsh0MLf7jXayTb.ezyREBVwaRpbYPgwG5UpNNqMKme0";
    ShaCrypt::SHA512.verify_password(b"correct horse battery", glibc).unwrap();
    assert!(ShaCrypt::SHA512.verify_password(b"correct horse batterz", glibc).is_err());
}

#[test]
fn what_nobody_could_type_at_a_login_is_refused() {
    let long = [b'x'; LONGEST_PASSWORD + 1];
    for (password, error) in [
        (&b""[..], PasswordError::Empty),
        (b"a\0b", PasswordError::ControlCharacter),
        (b"a\tb", PasswordError::ControlCharacter),
        (b"secret\r", PasswordError::ControlCharacter),
        (b"a\x7f", PasswordError::ControlCharacter),
        (&long, PasswordError::TooLong),
    ] {
        assert_eq!(GivenPassword::new("root", password).unwrap_err(), error);
    }
    for password in [&b" "[..], b":", b"p\xc3\xa4ss\xff", &long[1..]] {
        GivenPassword::new("root", password).unwrap();
    }
}

#[test]
fn it_is_valid_whatever_was_there() {
    let root = "root:x:0:0:root:/root:/bin/bash\n";
    let bob = "bob:x:1001:0::/home/bob:/bin/sh\n";
    for (passwd, shadow, user, wanted) in [
        (root.to_owned(), Some("root:*:1:0:9:7:::\n"), "root", "root:HASH:20500:0:9:7:::"),
        (root.to_owned(), Some("root:!$6$a$b::0:9:7:::\n"), "root", "root:HASH:20500:0:9:7:::"),
        (root.to_owned(), Some("root::0:0:9:7:::\n"), "root", "root:HASH:20500:0:9:7:::"),
        (root.to_owned(), Some("root:!:1:0:9\n"), "root", "root:HASH:20500:0:9"),
        (root.to_owned(), Some("root:!\n"), "root", "root:HASH:20500::::::"),
        (root.to_owned(), Some(""), "root", "root:HASH:20500::::::"),
        (root.to_owned(), None, "root", "root:HASH:20500::::::"),
        (root.replace(":x:", "::"), Some("root:*:1:0:9:7:::\n"), "root", "root:HASH:20500:0:9:7:::"),
        (root.to_owned() + bob, Some("root:*:1:0:9:7:::\n"), "bob", "bob:HASH:20500::::::"),
    ] {
        let mut new = Sources::default().files();
        new.passwd = Some(passwd.clone().into_bytes());
        new.shadow = shadow.map(|text| text.as_bytes().to_vec());
        let found = with(user, None, &new).unwrap();
        assert_eq!(shadow_line(&found, user), wanted, "{passwd} {shadow:?}");
        let passwd = found.files.passwd.or(new.passwd).unwrap();
        assert!(String::from_utf8(passwd).unwrap().contains(&format!("{user}:x:")));
        assert_eq!((found.files.group, found.files.gshadow), (None, None));
        assert_eq!(found.report, [AccountNote::PasswordGiven { name: user.to_owned() }]);
    }
}

#[test]
fn it_takes_the_place_of_what_was_carried_and_of_what_was_said_of_that() {
    let new = Sources::default().files();
    let found = with("alice", Some(alice()), &new).unwrap();
    assert_eq!(shadow_line(&found, "alice"), "alice:HASH:20500:0:99999:7:::");
    assert_eq!(text(&found.files.passwd), alice().passwd);
    assert!(report(&found).contains(&"user `alice` (1000) was carried over".to_owned()));
    let found = with("root", Some(alice()), &new).unwrap();
    assert!(!report(&found).contains(&"`root` keeps the old password".to_owned()), "{:?}", report(&found));
    assert!(report(&found).contains(&"`root` has the password that was given".to_owned()));
    assert!(text(&found.files.shadow).contains("alice:$y$hash:"), "others keep theirs");
}

#[test]
fn whoever_is_not_in_the_new_root_can_have_none() {
    let new = Sources {
        passwd: "daemon:x:1:1::/:/bin/sh\n#off:x:1005:1::/:/bin/sh\nshort:x:1006\n",
        ..Sources::default()
    };
    for user in ["bob", "off", "#off", "short", ""] {
        let error = with(user, Some(alice()), &new.files()).unwrap_err();
        assert_eq!(error.there, ["root", "alice"], "{user}");
    }
    assert_eq!(with("alice", None, &new.files()).unwrap_err().there, ["root"], "he is not carried");
    with("daemon", None, &new.files()).unwrap();
}

#[test]
fn neither_the_password_nor_its_hash_is_in_any_log() {
    let said = format!("{:?}", given("root"));
    assert!(said.contains("root") && !said.contains("horse") && !said.contains("$6$"), "{said}");
}
