//! Lines of the old root that are not what they should be.

use super::*;

#[test]
fn malformed_lines_of_the_old_root_are_kept_out_by_number() {
    let long = format!("long:x:1000:1000:{}:/:/bin/sh", "x".repeat(70_000));
    for (line, because) in [
        ("a:x:1000:1000::/home/a", LineBecause::Fields { found: 6, wanted: 7 }),
        ("a:x:1000:1000::/home/a:/bin/sh:", LineBecause::Fields { found: 8, wanted: 7 }),
        ("just words", LineBecause::Fields { found: 1, wanted: 7 }),
        (":x:1000:1000::/:/bin/sh", LineBecause::EmptyName),
        ("a/b:x:1000:1000::/:/bin/sh", LineBecause::BadName),
        ("..:x:1000:1000::/:/bin/sh", LineBecause::BadName),
        ("a,b:x:1000:1000::/:/bin/sh", LineBecause::BadName),
        ("a b:x:1000:1000::/:/bin/sh", LineBecause::BadName),
        ("1234:x:1000:1000::/:/bin/sh", LineBecause::BadName),
        ("~a:x:1000:1000::/:/bin/sh", LineBecause::BadName),
        ("a:x:abc:1000::/:/bin/sh", LineBecause::BadId),
        ("a:x:-1:1000::/:/bin/sh", LineBecause::BadId),
        ("a:x:+1000:1000::/:/bin/sh", LineBecause::BadId),
        ("a:x: 1000:1000::/:/bin/sh", LineBecause::BadId),
        ("a:x::1000::/:/bin/sh", LineBecause::BadId),
        ("a:x:4294967295:1000::/:/bin/sh", LineBecause::BadId),
        ("a:x:65535:1000::/:/bin/sh", LineBecause::BadId),
        ("a:x:4294968296:1000::/:/bin/sh", LineBecause::BadId),
        ("a\0:x:1000:1000::/:/bin/sh", LineBecause::ControlCharacter),
        ("a:x:1000:1000:\x1b[2J:/:/bin/sh", LineBecause::ControlCharacter),
        ("a:x:1000:1000:x\rroot::0:0:::", LineBecause::ControlCharacter),
        ("+::::::", LineBecause::Nis),
        ("-evil::::::", LineBecause::Nis),
        ("# comment", LineBecause::Comment),
        (long.as_str(), LineBecause::TooLong { kib: 64 }),
    ] {
        let passwd = format!("\r\n{line}\nok:x:1001:0::/home/ok:/bin/sh");
        let found = run(Sources { passwd: &passwd, ..Sources::default() }, Sources::default());
        let note = AccountNote::LineKeptOut { file: AccountFile::Passwd, line_number: 3, because };
        assert!(found.report.contains(&note), "{line:.40}: {:?}", report(&found));
        assert_eq!(text(&found.files.passwd), "ok:x:1001:0::/home/ok:/bin/sh\n");
    }
}

#[test]
fn names_that_are_not_utf8_stay_behind_and_comments_that_are_not_come_over() {
    let mut old = alice().files();
    old.passwd = Some(
        b"root:x:0:0:::\nal\xff:x:1001:1000::/:/bin/sh\nalice:x:1000:1000:J\xfcrg:/home/alice:/bin/sh"
            .to_vec(),
    );
    let found = merged(&old, &Sources::default().files());
    let passwd = found.files.passwd.unwrap();
    assert!(passwd.ends_with(b"\nalice:x:1000:1000:J\xfcrg:/home/alice:/bin/sh\n"));
    let because = LineBecause::BadName;
    assert!(found.report.contains(&AccountNote::LineKeptOut {
        file: AccountFile::Passwd,
        line_number: 2,
        because
    }));
}

#[test]
fn carriage_returns_are_dropped_and_a_missing_newline_is_added() {
    let old = Sources {
        passwd: "alice:x:1000:1000::/home/alice:/bin/bash\r\n",
        shadow: "alice:$y$hash:1:2:3:4:::\r\n",
        group: "alice:x:1000:\r",
        ..Sources::default()
    };
    let mut new = Sources::default().files();
    new.passwd = Some(b"root:x:0:0:root:/root:/bin/bash".to_vec());
    let found = merged(&old.files(), &new);
    assert_eq!(text(&found.files.passwd), "alice:x:1000:1000::/home/alice:/bin/bash\n");
    assert_eq!(text(&found.files.shadow), "alice:$y$hash:1:2:3:4:::\n");
    assert_eq!(text(&found.files.group), "alice:x:1000:\n");
}

#[test]
fn secrets_without_an_account_are_reported() {
    let old = Sources {
        shadow: "ghost:$y$x:1:2:3:4:::\nroot::1:2:3:4:::\nshort:x\n",
        gshadow: "ghost:x::\n",
        ..Sources::default()
    };
    let found = run(old, Sources::default());
    let note = |file, line_number, because| AccountNote::LineKeptOut { file, line_number, because };
    for note in [
        note(AccountFile::Shadow, 2, LineBecause::NoSuchAccount),
        note(AccountFile::Shadow, 3, LineBecause::DuplicateName),
        note(AccountFile::Shadow, 4, LineBecause::Fields { found: 2, wanted: 9 }),
        note(AccountFile::Gshadow, 2, LineBecause::NoSuchAccount),
    ] {
        assert!(found.report.contains(&note), "{note}: {:?}", report(&found));
    }
}

#[test]
fn a_million_malformed_lines_make_a_short_report_in_no_time() {
    let started = std::time::Instant::now();
    let old = AccountFiles { passwd: Some(b"x\n".repeat(1_000_000)), ..AccountFiles::default() };
    let found = merged(&old, &Sources::default().files());
    assert_eq!(found.report.len(), 1001);
    let note = AccountNote::MoreLinesKeptOut { file: AccountFile::Passwd, count: 999_000 };
    assert_eq!(found.report.last(), Some(&note));
    assert!(started.elapsed().as_secs() < 30);
}
