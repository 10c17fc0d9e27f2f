use super::*;
use proptest::prelude::*;
use std::os::unix::ffi::OsStrExt as _;

#[test]
fn reads_the_last_of_two_and_leaves_odd_lines_alone() {
    let text = b"# head\nA=1\n  export B='two'\nnot an assignment\nA=\"3\" # why\n=x\n9A=1\nC D=1\nE=\r\n";
    let conf = Conf::parse(text);
    assert_eq!(conf.get("A").as_deref(), Some("3"));
    assert_eq!(conf.get("B").as_deref(), Some("two"));
    assert_eq!(conf.get("E").as_deref(), Some(""));
    assert_eq!(conf.get("D"), None);
    assert_eq!(conf.keys(), ["A", "B", "E"]);
    assert_eq!(conf.damage(), None);
    assert_eq!(conf.to_bytes(), text);
}

#[test]
fn rewrites_one_line_in_place() {
    for (before, after) in [
        ("", "K=\"new\"\n"),
        ("X=1", "X=1\nK=\"new\"\n"),
        ("K=old", "K=\"new\"\n"),
        ("K=old\r\nX=1\r\n", "K=\"new\"\nX=1\r\n"),
        ("K=1\nK=2\nX=3\n", "K=1\nK=\"new\"\nX=3\n"),
        ("  export K='old'   # why\n", "  export K=\"new\"   # why\n"),
        ("K=\"open\nX=1\n", "K=\"new\"\nX=1\n"),
        ("KK=1\n#K=1\n", "KK=1\n#K=1\nK=\"new\"\n"),
    ] {
        let mut conf = Conf::parse(before.as_bytes());
        conf.set("K", "new").unwrap();
        assert_eq!(String::from_utf8(conf.to_bytes()).unwrap(), after, "{before:?}");
    }
}

#[test]
fn refuses_what_has_no_place_on_one_line() {
    let mut conf = Conf::parse(b"K=1\n");
    assert!(matches!(conf.set("K", "a\nb"), Err(ConfError::BadValue { .. })));
    assert!(matches!(conf.set("K", "a\0b"), Err(ConfError::BadValue { .. })));
    for key in ["", "9K", "K K", "K-1", "Ä", "K=L"] {
        assert!(matches!(conf.set(key, "x"), Err(ConfError::BadKey { .. })), "{key}");
    }
    assert_eq!(conf.to_bytes(), b"K=1\n");
}

#[test]
fn removes_every_line_of_a_key() {
    let mut conf = Conf::parse(b"K=1\nX=2\nK=3\n");
    assert!(conf.remove("K"));
    assert!(!conf.remove("K"));
    assert_eq!(conf.to_bytes(), b"X=2\n");
}

#[test]
fn tells_damage_from_odd_lines() {
    for (text, line) in [
        (&b"A=1\nB=\"open\nC=2\n"[..], Some(2)),
        (b"A='open\n", Some(1)),
        (b"A=1\\\nB=2\n", Some(1)),
        (b"A=1\n\0\0\0", Some(2)),
        (b"A=1\nfi\nit's odd\n# it's a comment\n", None),
        (b"A=\xff\n", None),
    ] {
        assert_eq!(Conf::parse(text).damage().map(|damage| damage.line), line, "{text:?}");
    }
}

#[test]
fn loads_what_is_there_and_says_what_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ve.conf");
    assert!(matches!(Conf::load(&path), Err(ConfError::Missing { .. })));
    assert_eq!(Conf::load_or_default(&path).unwrap(), Conf::default());
    for (bytes, whole) in [(&b""[..], false), (b"A=\"", false), (b"A=1", true)] {
        crate::atomic::replace(&path, bytes, 0o600).unwrap();
        assert_eq!(Conf::load_checked(&path).is_ok(), whole, "{bytes:?}");
    }
    crate::atomic::replace(&path, &vec![b'#'; (1 << 20) + 1], 0o600).unwrap();
    assert!(matches!(Conf::load(&path), Err(ConfError::Unreadable { .. })));
}

/// Text that is likely to be hard: quotes, blanks, signs of the shell, bytes that are not UTF-8.
fn hard_bytes() -> impl Strategy<Value = Vec<u8>> {
    let sign = prop::sample::select(&b"\"'\\$`#= \t\r\n\0AK1\xff\xc3;&|(!"[..]);
    prop::collection::vec(prop_oneof![sign, any::<u8>()], 0..120)
}

fn hard_value() -> impl Strategy<Value = String> {
    let sign =
        prop::sample::select(vec!['"', '\'', '\\', '$', '`', '#', '=', ' ', '\t', '\r', '!', '~', '*', 'ä']);
    let letter = prop_oneof![sign, any::<char>().prop_filter("one line", |c| !matches!(c, '\n' | '\0'))];
    prop::collection::vec(letter, 0..20).prop_map(|letters| letters.into_iter().collect())
}

proptest! {
    #[test]
    fn prop_any_bytes_come_back_as_they_were(bytes in hard_bytes()) {
        prop_assert_eq!(Conf::parse(&bytes).to_bytes(), bytes);
    }

    #[test]
    fn prop_a_glance_sees_what_is_read(bytes in hard_bytes(), value in hard_value(), more in hard_bytes()) {
        let mut conf = Conf::parse(&bytes);
        let _ = conf.set("NAME", &value);
        for bytes in [conf.to_bytes(), [&conf.to_bytes()[..], &more].concat(), bytes] {
            prop_assert_eq!(Conf::glance(&bytes, "NAME"), Conf::parse(&bytes).get("NAME"));
        }
    }

    #[test]
    fn prop_what_is_set_is_read_and_other_lines_stay(
        bytes in hard_bytes(), key in "[KA_][A-Z0-9_]{0,3}", value in hard_value(),
    ) {
        let before = Conf::parse(&bytes);
        let mut after = before.clone();
        after.set(&key, &value).unwrap();
        prop_assert_eq!(after.get(&key), Some(value));
        // Read again from its bytes it is the same.
        prop_assert_eq!(&Conf::parse(&after.to_bytes()), &after);
        let changed: Vec<usize> = before
            .lines.iter().zip(&after.lines).enumerate()
            .filter(|(_, (old, new))| old != new).map(|(index, _)| index).collect();
        let appended = after.lines.len() - before.lines.len();
        prop_assert!(appended <= 1);
        // Either one line changed, or one was added and at most the last got the newline that it lacked.
        match changed[..] {
            [] => {}
            [one] if appended == 0 => {
                prop_assert!(assignment(&before.lines[one]).is_some_and(|a| a.key == key));
            }
            [one] => {
                prop_assert_eq!([&before.lines[one][..], b"\n"].concat(), after.lines[one].clone());
                prop_assert_eq!(one, before.lines.len() - 1);
            }
            _ => prop_assert!(false, "more than one line changed: {changed:?}"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn prop_a_shell_reads_the_line_that_was_written(
        old in prop::sample::select(vec!["", "KEY=1 # c\n", " export KEY='x'\r\n", "KEY=a"]), value in hard_value(),
    ) {
        let mut conf = Conf::parse(old.as_bytes());
        conf.set("KEY", &value).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        crate::atomic::replace(file.path(), &conf.to_bytes(), 0o600).unwrap();
        let output = std::process::Command::new("sh")
            .arg("-c").arg(". \"$1\"; printf %s \"$KEY\"").arg("sh").arg(file.path())
            .env_clear().output().unwrap();
        prop_assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
        prop_assert_eq!(std::ffi::OsStr::from_bytes(&output.stdout), std::ffi::OsStr::new(&value));
    }
}

#[test]
fn waits_for_no_writer_of_what_is_no_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ve.conf");
    rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR).unwrap();
    assert!(matches!(Conf::load(&path), Err(ConfError::Unreadable { .. })));
    assert!(matches!(Conf::load(directory.path()), Err(ConfError::Unreadable { .. })));
}

#[test]
fn a_key_that_is_commented_out_says_nothing_and_loses_nothing() {
    let mut conf = Conf::parse(b"A=1\n  export B=\"2\" # two\r\nB=3");
    assert!(conf.comment_out("B"));
    assert_eq!(conf.to_bytes(), b"A=1\n#   export B=\"2\" # two\r\n# B=3");
    assert_eq!((conf.get("A").as_deref(), conf.get("B")), (Some("1"), None));
    assert!(!conf.comment_out("B"));
}
