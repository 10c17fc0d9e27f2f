//! `vps.reinstall`, `vps.configure` and `reinstall.d`: which are run, and what comes of what they do.

use super::*;

#[test]
fn vps_reinstall_makes_the_root() {
    let host = TestHost::new();
    let id = host.create_running("web01");
    host.script("vps.reinstall", "arguments\nenv VEID\nenv VE_PRIVATE\nenv VE_PRIVATE_TMP\nenv OSTEMPLATE_ROOT\nenv HOME\ncopy template\nwrite /built");
    host.script("vps.configure", "need /built\nenv VEID\nenv REINSTALL_DATA_ROOT\nenv HOME");
    host.told();
    plain(&host, &id);
    let record = host.area(&id).generation(GenerationNumber::new(2)).unwrap();
    assert_eq!(
        (record.base, record.reason, record.parent),
        (Base::Empty, Reason::Script, Some(GenerationNumber::FIRST))
    );
    assert_eq!((host.live(&id), runs(&host, &id)), (2, Some((2, vec![1]))));
    let told = host.told();
    let delta = host.delta(&id, 2, "").display().to_string();
    let delta = delta.trim_end_matches('/');
    let private = host.area(&id).path().join("root").display().to_string();
    let lines = lines(&told);
    assert_eq!(lines[0], format!("--veid {id} --ve_private_tmp {delta} --ve_private {private}"));
    assert_eq!(
        lines[1..4],
        [format!("VEID={id}"), format!("VE_PRIVATE={private}"), format!("VE_PRIVATE_TMP={delta}")]
    );
    assert!(lines[4].ends_with("/rootfs"), "{}", lines[4]);
    assert_eq!(lines[5..], ["HOME=/", &format!("VEID={id}"), "REINSTALL_DATA_ROOT=/old", "HOME=/"]);
    assert_eq!(
        steps(&told),
        ["stage", "stop", "build", "carry", "probation", "configure"],
        "stopped before it is copied"
    );
}

#[test]
fn a_root_made_by_a_script_is_tried_out_even_where_the_container_is_stopped() {
    let host = TestHost::new();
    let id = host.create("web01");
    host.script("vps.reinstall", "copy old");
    plain(&host, &id);
    assert_eq!(host.fake().world().counts["start"], 1);
    assert_eq!((host.live(&id), runs(&host, &id)), (2, None));
}

#[test]
fn exit_code_128_means_the_default_reinstall() {
    let host = TestHost::new();
    let id = host.create_running("web01");
    host.script("vps.reinstall", "copy old\nwrite /rubbish\nexit 128");
    host.script("vps.configure", "print never\nexit 1");
    host.script("10-extra.sh", "write /extra");
    host.told();
    plain(&host, &id);
    let record = host.area(&id).generation(GenerationNumber::new(2)).unwrap();
    assert_eq!((record.reason, record.ostemplate.as_deref()), (Reason::Reinstall, Some("mini")));
    assert!(matches!(record.base, Base::Template { .. }));
    assert!(!host.delta(&id, 2, "rubbish").exists());
    assert!(host.delta(&id, 2, "extra").exists(), "reinstall.d still runs");
    assert!(lines(&host.told()).is_empty());
    assert_eq!(runs(&host, &id), Some((2, vec![1])));
}

#[test]
fn a_stopped_container_whose_script_declines_is_not_started() {
    let host = TestHost::new();
    let id = host.create("web01");
    host.script("vps.reinstall", "exit 128");
    host.script("vps.configure", "exit 1");
    plain(&host, &id);
    assert_eq!((host.live(&id), host.fake().world().counts.get("start")), (2, None));
}

#[test]
fn whatever_vps_reinstall_does_wrong_changes_nothing() {
    let cases = [
        ("print tar: no space\nexit 3", "exited with 3", "tar: no space"),
        ("signal 11", "was killed by signal 11", ""),
        ("hang", "did not end within 10 s", ""),
        ("unstartable", "cannot be run", "no such interpreter"),
        ("exit 0", "is no root", "empty"),
        ("remove /", "is no root", ""),
        ("write /etc/passwd", "is no root", "no /sbin/init"),
        ("copy template\nsymlink /old /etc", "is no root", "/old is no directory"),
        ("copy template\nwrite /old/file", "is no root", "/old is not empty"),
        ("exit 127", "exited with 127", ""),
        ("exit 129", "exited with 129", ""),
    ];
    for is_running in [true, false] {
        for (script, says, because) in cases {
            let host = TestHost::new();
            let id = host.create_running("web01");
            if !is_running {
                host.stop(&id);
            }
            host.script("vps.reinstall", script);
            let failure = host.reinstall(&id, &reinstall_options()).unwrap_err();
            let text = failure.to_string();
            assert_eq!((failure.code, failure.code.exit()), (Code::ScriptFailed, 128), "{script}: {text}");
            assert!(text.contains(says) && text.contains(because), "{script}: {text}");
            let state = failure.state.unwrap();
            let wanted = if is_running {
                "runs on its old root again, generation 1"
            } else {
                "is stopped, on its old root, generation 1"
            };
            assert!(state.starts_with("nothing was lost: ") && state.ends_with(wanted), "{script}: {state}");
            assert_eq!((host.generations(&id), host.live(&id)), (vec![1], 1), "{script}");
            assert_eq!(runs(&host, &id), is_running.then(|| (1, vec![])), "{script}");
        }
    }
}

#[test]
fn whatever_a_script_inside_does_wrong_brings_the_old_root_back() {
    let cases = [
        ("print one\nprint two\nexit 3", "exited with 3", "one\n           two"),
        ("signal 9", "was killed by signal 9", ""),
        ("hang", "did not end within 10 s", ""),
        ("halt", "the container went down while it ran", ""),
        ("unstartable", "could not be run", "no such interpreter"),
        ("write /old/etc/passwd", "exited with 1", "Read-only file system"),
        ("remove /old/etc/passwd", "exited with 1", "Read-only file system"),
        ("need /nowhere", "exited with 1", "No such file"),
        ("exit 128", "exited with 128", ""),
    ];
    for name in ["vps.configure", "10-extra.sh"] {
        for is_running in [true, false] {
            for (script, says, because) in cases {
                let host = TestHost::new();
                let id = host.create_running("web01");
                if !is_running {
                    host.stop(&id);
                }
                host.script(name, &format!("write /half-done\n{script}"));
                let failure = host.reinstall(&id, &reinstall_options()).unwrap_err();
                let text = failure.to_string();
                assert_eq!(
                    (failure.code, failure.code.exit()),
                    (Code::ReinstallFailed, 94),
                    "{script}: {text}"
                );
                assert!(
                    text.contains(name) && text.contains(says) && text.contains(because),
                    "{script}: {text}"
                );
                assert!(
                    failure.hint.is_some() && failure.state.unwrap().starts_with("nothing was lost: "),
                    "{script}"
                );
                assert_eq!(
                    (host.live(&id), runs(&host, &id)),
                    (1, is_running.then(|| (1, vec![]))),
                    "{script}"
                );
                if is_running {
                    assert!(!is_read_only(&host, &id, 1), "{script}: the old root can be written again");
                }
                assert_eq!(state(&host, &id, 2), GenerationState::Failed, "{script}: kept for a look");
                assert!(host.delta(&id, 2, "half-done").exists(), "{script}");
            }
        }
    }
}

#[test]
fn only_the_newest_failed_root_is_kept_and_one_can_go_to_it() {
    let host = TestHost::new();
    let id = host.create_running("web01");
    host.script("vps.configure", "exit 1");
    for _ in 0..3 {
        host.reinstall(&id, &reinstall_options()).unwrap_err();
    }
    assert_eq!((host.generations(&id), state(&host, &id, 4)), (vec![1, 4], GenerationState::Failed));
    switch_to(&host, &id, 4).unwrap();
    assert_eq!((host.live(&id), state(&host, &id, 4)), (4, GenerationState::Kept));
    assert_eq!(runs(&host, &id), Some((4, vec![1])));
}

#[test]
fn scripts_are_chosen_ordered_and_skipped_as_asked() {
    let host = TestHost::new();
    let id = host.create_running("web01");
    for name in ["vps.configure", "20-b.sh", "10-a.sh", "B.sh"] {
        host.script(name, &format!("print {name}"));
    }
    put(&host.prefix.reinstall_d().join("30-not-executable.sh"), b"#!/bin/fake\nprint never\n");
    put(&host.prefix.reinstall_d().join("README"), b"no script");
    let ran = |options: &reinstall::Options| {
        host.told();
        host.reinstall(&id, options).unwrap();
        let told = host.told();
        lines(&told).into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let mut options = reinstall_options();
    assert_eq!(ran(&options), ["vps.configure", "10-a.sh", "20-b.sh", "B.sh"]);
    options.scripts = vec!["B.sh".into(), "10-a.sh".into()];
    assert_eq!(ran(&options), ["vps.configure", "10-a.sh", "B.sh"]);
    options.skip_scripts = true;
    assert!(ran(&options).is_empty());
}
