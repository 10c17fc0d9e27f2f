//! What is refused before anything is touched.

#![expect(clippy::disallowed_methods, reason = "the trees of these tests are their own")]

use super::*;

/// What of the host a refusal must not touch.
fn everything(host: &TestHost) -> Vec<(String, String)> {
    let mut files = host.snapshot(&host.prefix.vz_dir());
    files.extend(host.snapshot(&host.prefix.etc_vz()));
    files.into_iter().collect()
}

#[test]
fn refusals_change_nothing_and_say_so() {
    type Spoil = fn(&TestHost, &ContainerId);
    type Act = fn(&TestHost, &ContainerId) -> Result<(), Failure>;
    fn with(
        host: &TestHost,
        id: &ContainerId,
        change: impl FnOnce(&mut reinstall::Options),
    ) -> Result<(), Failure> {
        let mut options = reinstall_options();
        change(&mut options);
        host.reinstall(id, &options).map(drop)
    }
    let nothing: Spoil = |_, _| {};
    let plain: Act = |host, id| with(host, id, |_| {});
    let cases: &[(&str, Spoil, Act, u8)] = &[
        ("template", nothing, |h, i| with(h, i, |o| o.template = Some("none".parse().unwrap())), 91),
        ("script", nothing, |h, i| with(h, i, |o| o.scripts = vec!["none.sh".into()]), 21),
        (
            "no OSTEMPLATE",
            |h, i| {
                let mut conf = h.area(i).conf().unwrap();
                conf.remove("OSTEMPLATE");
                h.area(i).store_conf(&conf).unwrap();
            },
            plain,
            21,
        ),
        (
            "bad OSTEMPLATE",
            |h, i| {
                let mut conf = h.area(i).conf().unwrap();
                conf.set("OSTEMPLATE", "../../etc").unwrap();
                h.area(i).store_conf(&conf).unwrap();
            },
            plain,
            21,
        ),
        ("damaged ve.conf", |h, i| put(&h.area(i).path().join("ve.conf"), b"NAME=\"web01\nX=(\n"), plain, 85),
        ("empty ve.conf", |h, i| put(&h.area(i).path().join("ve.conf"), b""), plain, 85),
        ("no init", |h, _| drop(h.publish("mini", 2, false, &[("old/file", "")])), plain, 21),
        ("old is a file", |h, _| drop(h.publish("mini", 2, false, &[("old", "")])), plain, 21),
        (
            "not executable",
            |h, _| {
                let path = h.script("vps.configure", "");
                std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
            },
            plain,
            21,
        ),
        (
            "writable by others",
            |h, _| {
                let path = h.script("vps.reinstall", "");
                std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o722)).unwrap();
            },
            plain,
            21,
        ),
        (
            "of somebody else",
            |h, _| {
                let path = h.script("10-a.sh", "");
                std::os::unix::fs::chown(path, Some(1000), None).unwrap();
            },
            plain,
            21,
        ),
        (
            "a link",
            |h, _| symlink("/bin/true", h.prefix.conf_dir().join("vps.configure")).unwrap(),
            plain,
            21,
        ),
        (
            "a directory",
            |h, _| std::fs::create_dir(h.prefix.conf_dir().join("vps.reinstall")).unwrap(),
            plain,
            21,
        ),
        (
            "no interpreter",
            |h, _| {
                let path = h.script("vps.reinstall", "");
                put(&path, b"exit 0\n");
                std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700)).unwrap();
            },
            plain,
            21,
        ),
        ("undo without a parent", nothing, |h, i| undo(h, i).map(drop), 21),
        ("switch to the live one", nothing, |h, i| switch_to(h, i, 1).map(drop), 21),
        ("switch to none", nothing, |h, i| switch_to(h, i, 9).map(drop), 21),
        (
            "switch to one without init",
            |h, i| {
                h.reinstall(i, &reinstall_options()).unwrap();
                undo(h, i).unwrap();
                // As overlayfs says that a name is gone.
                std::fs::create_dir_all(h.delta(i, 2, "sbin")).unwrap();
                let gone = h.delta(i, 2, "sbin/init");
                rustix::fs::mknodat(
                    rustix::fs::CWD,
                    gone,
                    rustix::fs::FileType::CharacterDevice,
                    rustix::fs::Mode::empty(),
                    0,
                )
                .unwrap();
            },
            |h, i| switch_to(h, i, 2).map(drop),
            21,
        ),
        (
            "delete the live one",
            nothing,
            |h, i| forget::delete(&h.host().open(&i.to_string())?, GenerationNumber::FIRST).map(drop),
            21,
        ),
        (
            "delete none",
            nothing,
            |h, i| forget::delete(&h.host().open(&i.to_string())?, GenerationNumber::new(9)).map(drop),
            21,
        ),
    ];
    for (case, spoil, act, exit) in cases {
        let host = TestHost::new();
        let id = host.create_running("web01");
        spoil(&host, &id);
        let before = (everything(&host), host.container(&id));
        let failure = act(&host, &id).expect_err(case);
        assert_eq!(failure.code.exit(), *exit, "{case}: {failure}");
        assert_eq!(failure.state.as_deref(), Some("nothing was changed"), "{case}: {failure}");
        assert!(failure.hint.is_some(), "{case}: {failure}");
        assert_eq!((everything(&host), host.container(&id)), before, "{case}: {failure}");
    }
}

#[test]
fn a_locked_container_is_left_to_whoever_holds_it() {
    let host = TestHost::new();
    let id = host.create("web01");
    let _lock =
        Lock::exclusive(&host.prefix, LockName::Container(id), std::time::Duration::ZERO, "prlctl backup")
            .unwrap();
    let failure = host.host().open("web01").unwrap_err();
    assert_eq!((failure.code.exit(), failure.what.as_str()), (9, "`web01` is locked by another command"));
    assert!(failure.because[0].contains("prlctl backup"), "{failure}");
    assert_eq!(failure.state.as_deref(), Some("nothing was changed"));
}

#[test]
fn an_unknown_container_is_told_with_the_name_that_was_meant() {
    let host = TestHost::new();
    host.create("web01");
    let failure = host.host().open("wbe01").unwrap_err();
    assert_eq!((failure.code.exit(), failure.hint.as_deref()), (14, Some("did you mean `web01`?")));
}
