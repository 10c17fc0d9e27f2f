//! Reinstall, undo and switch as their callers see them: what is live afterwards, what is at `/old`, what runs, what is said.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed, and says where")]

use std::os::unix::fs::{PermissionsExt, symlink};

use engine::operation::{forget, reinstall, switch};
use engine::{Code, Failure, recover};
use store::{Base, ContainerId, GenerationNumber, GenerationState, Lock, LockName, Reason};
use testkit::How;
use testkit::fake_script::put;
use testkit::host::{TestHost, Told, reinstall_options};

/// What runs: its root, and what it sees at `/old`, `/old/old`, …
fn runs(host: &TestHost, id: &ContainerId) -> Option<(u32, Vec<u32>)> {
    host.container(id).running.map(|running| (running.generation, running.old))
}

fn is_read_only(host: &TestHost, id: &ContainerId, number: u32) -> bool {
    host.container(id).mounts[&number].is_read_only
}

fn parent(host: &TestHost, id: &ContainerId, number: u32) -> Option<u32> {
    host.area(id).generation(GenerationNumber::new(number)).unwrap().parent.map(GenerationNumber::get)
}

fn state(host: &TestHost, id: &ContainerId, number: u32) -> GenerationState {
    host.area(id).generation(GenerationNumber::new(number)).unwrap().state
}

fn read(host: &TestHost, id: &ContainerId, number: u32, path: &str) -> Option<String> {
    std::fs::read_to_string(host.delta(id, number, path)).ok()
}

fn lines(told: &[Told]) -> Vec<&str> {
    told.iter()
        .filter_map(|told| match told {
            Told::Line(_, line) => Some(line.as_str()),
            Told::Step(..) | Told::Warning(_) | Told::Note(_) => None,
        })
        .collect()
}

fn steps(told: &[Told]) -> Vec<&str> {
    told.iter()
        .filter_map(|told| match told {
            Told::Step(name, _) => Some(name.as_str()),
            Told::Line(..) | Told::Warning(_) | Told::Note(_) => None,
        })
        .collect()
}

/// The calls that change something, since `before` of them.
fn calls_since(host: &TestHost, before: usize) -> Vec<String> {
    host.fake().world().calls.split_off(before).into_iter().filter(|call| !call.starts_with("look")).collect()
}

fn plain(host: &TestHost, id: &ContainerId) -> reinstall::Reinstalled {
    host.reinstall(id, &reinstall_options()).unwrap()
}

fn undo(host: &TestHost, id: &ContainerId) -> engine::Result<switch::Switched> {
    let engine = host.host();
    let container = engine.open(&id.to_string())?;
    switch::undo(&container, 10, 1)
}

fn switch_to(host: &TestHost, id: &ContainerId, to: u32) -> engine::Result<switch::Switched> {
    let engine = host.host();
    let container = engine.open(&id.to_string())?;
    switch::switch(&container, GenerationNumber::new(to), "cannot switch `web01`", 10, 1)
}

#[test]
fn the_old_root_of_a_running_container_is_at_old() {
    let host = TestHost::new();
    let id = host.create_running("web01");
    let before = host.fake().world().calls.len();
    host.told();
    let done = plain(&host, &id);

    assert_eq!((done.old.get(), done.new.get(), done.is_kept, done.unfinished), (1, 2, true, None));
    assert_eq!(host.generations(&id), [1, 2]);
    assert_eq!((host.live(&id), parent(&host, &id, 2)), (2, Some(1)));
    assert_eq!(runs(&host, &id), Some((2, vec![1])));
    assert!(!is_read_only(&host, &id, 1), "after the commit /old is the container's own");
    assert!(host.delta(&id, 2, "old").is_dir());
    let told = host.told();
    assert_eq!(steps(&told), ["stage", "build", "carry", "stop", "probation"]);
    assert!(told.iter().all(|told| !matches!(told, Told::Warning(_))), "{told:?}");
    assert_eq!(
        calls_since(&host, before),
        [
            "stop keeping mounts",
            "wait_until_gone",
            "start [2, 1] on probation",
            "wait_until_up",
            "set_read_only 1 writable",
            "settle",
        ]
    );
}

#[test]
fn a_stopped_container_without_scripts_is_not_started() {
    let host = TestHost::new();
    let id = host.create("web01");
    plain(&host, &id);
    assert_eq!((host.live(&id), runs(&host, &id)), (2, None));
    assert_eq!(host.fake().world().counts.get("start"), None);
}

#[test]
fn a_stopped_container_with_scripts_is_started_and_stopped_again() {
    let host = TestHost::new();
    let id = host.create("web01");
    host.script("vps.configure", "need /old/etc/passwd\nwrite /configured");
    plain(&host, &id);
    assert_eq!((host.live(&id), runs(&host, &id)), (2, None));
    assert!(host.container(&id).mounts.is_empty());
    assert!(host.delta(&id, 2, "configured").exists());
}

#[test]
fn a_second_and_a_third_reinstall_make_a_chain() {
    let host = TestHost::new();
    let id = host.create_running("web01");
    for _ in 0..3 {
        plain(&host, &id);
    }
    assert_eq!(runs(&host, &id), Some((4, vec![3, 2, 1])));
    let modes: Vec<bool> = [4, 3, 2, 1].iter().map(|&number| is_read_only(&host, &id, number)).collect();
    assert_eq!(modes, [false, false, true, true], "/old/old and deeper are read-only");
    host.stop(&id);
    host.start(&id);
    assert_eq!(runs(&host, &id), Some((4, vec![3, 2, 1])), "at every later start too");
}

#[test]
fn ve_conf_follows_the_live_root_and_keeps_the_rest() {
    let host = TestHost::new();
    let id = host.create_running("web01");
    let area = host.area(&id);
    let mut conf = area.conf().unwrap();
    conf.set("PHYSPAGES", "65536:65536").unwrap();
    conf.set("SOMETHING_NEW", "kept").unwrap();
    area.store_conf(&conf).unwrap();
    let mut options = reinstall_options();
    options.template = Some("maxi".parse().unwrap());
    host.reinstall(&id, &options).unwrap();
    let value = |key: &str| host.value(&id, key).unwrap_or_default();
    assert_eq!((value("OSTEMPLATE"), value("DISTRIBUTION")), ("maxi".into(), "maxi-linux".into()));
    undo(&host, &id).unwrap();
    assert_eq!((value("OSTEMPLATE"), value("DISTRIBUTION")), ("mini".into(), "mini-linux".into()));
    switch_to(&host, &id, 2).unwrap();
    assert_eq!((value("OSTEMPLATE"), value("DISTRIBUTION")), ("maxi".into(), "maxi-linux".into()));
    assert_eq!(
        (value("SOMETHING_NEW"), value("NAME"), value("PHYSPAGES")),
        ("kept".into(), "web01".into(), "65536:65536".into())
    );
}

#[test]
fn takes_the_latest_version_of_the_template_and_leaves_the_old_root_its_own() {
    let host = TestHost::new();
    let id = host.create("web01");
    host.publish("mini", 2, false, &[]);
    plain(&host, &id);
    let digest = |number| match host.area(&id).generation(GenerationNumber::new(number)).unwrap().base {
        Base::Template { digest, .. } => digest,
        Base::Empty => String::new(),
    };
    assert!(
        digest(1).ends_with("00000001") && digest(2).ends_with("00000002"),
        "{} {}",
        digest(1),
        digest(2)
    );
}

#[test]
fn a_new_root_has_a_machine_id_of_its_own() {
    let host = TestHost::new();
    let id = host.create("web01");
    let mut options = reinstall_options();
    options.template = Some("maxi".parse().unwrap());
    host.reinstall(&id, &options).unwrap();
    host.reinstall(&id, &options).unwrap();
    let one = read(&host, &id, 2, "etc/machine-id").unwrap();
    let other = read(&host, &id, 3, "etc/machine-id").unwrap();
    assert_eq!((one.trim().len(), other.trim().len()), (32, 32));
    assert_ne!(one, other);
}

/// A user in the root that is live.
fn with_user(host: &TestHost, id: &ContainerId) {
    let passwd = "root:x:0:0:root:/root:/bin/sh\nanna:x:1000:1000:Anna:/home/anna:/bin/sh\n";
    put(&host.delta(id, 1, "etc/passwd"), passwd.as_bytes());
    put(&host.delta(id, 1, "etc/group"), b"root:x:0:\nanna:x:1000:\n");
    put(
        &host.delta(id, 1, "etc/shadow"),
        b"root:$6$root:19000:0:99999:7:::\nanna:$6$anna:19000:0:99999:7:::\n",
    );
}

#[test]
fn users_are_carried_over() {
    let host = TestHost::new();
    let id = host.create("web01");
    with_user(&host, &id);
    let done = plain(&host, &id);
    assert!(read(&host, &id, 2, "etc/passwd").unwrap().contains("anna:x:1000:1000:Anna:/home/anna:/bin/sh"));
    let shadow = read(&host, &id, 2, "etc/shadow").unwrap();
    assert!(shadow.contains("root:$6$root:") && shadow.contains("anna:$6$anna:"), "{shadow}");
    let mode = host.delta(&id, 2, "etc/shadow").metadata().unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode, 0o644, "as it was in the new root");
    assert!(host.delta(&id, 2, "home/anna").is_dir());
    assert!(!done.report.is_empty());
}

#[test]
fn users_are_not_carried_over_with_resetpwdb_and_nothing_else_changes() {
    let host = TestHost::new();
    let id = host.create("web01");
    with_user(&host, &id);
    let mut options = reinstall_options();
    options.reset_passwords = true;
    let done = host.reinstall(&id, &options).unwrap();
    assert_eq!((read(&host, &id, 2, "etc/passwd"), read(&host, &id, 2, "etc/shadow")), (None, None));
    assert!(done.is_kept);
    assert_eq!((host.generations(&id), parent(&host, &id, 2)), (vec![1, 2], Some(1)));
}

#[test]
fn an_account_file_that_is_no_file_is_reported_and_not_read() {
    let host = TestHost::new();
    let id = host.create("web01");
    put(&host.delta(&id, 1, "etc/group"), b"root:x:0:\n");
    symlink("/etc/shadow", host.delta(&id, 1, "etc/passwd")).unwrap();
    std::fs::remove_file(host.delta(&id, 1, "etc/group")).unwrap();
    std::fs::create_dir(host.delta(&id, 1, "etc/group")).unwrap();
    let done = plain(&host, &id);
    assert!(
        done.report.iter().any(|line| line.contains("/etc/group of the old root is not carried over")),
        "{:?}",
        done.report
    );
}

#[test]
fn without_a_backup_the_old_root_is_gone_and_never_shown() {
    let host = TestHost::new();
    let id = host.create_running("web01");
    plain(&host, &id);
    let before = host.fake().world().calls.len();
    let mut options = reinstall_options();
    options.skip_backup = true;
    let done = host.reinstall(&id, &options).unwrap();
    assert!(!done.is_kept);
    assert_eq!((host.generations(&id), parent(&host, &id, 3)), (vec![1, 3], Some(1)));
    assert_eq!(runs(&host, &id), Some((3, vec![1])), "what was at /old/old is at /old");
    assert!(!is_read_only(&host, &id, 1), "and is the container's own now");
    assert!(calls_since(&host, before).contains(&"start [3, 1] on probation".to_owned()));
    assert!(!store::trash::is_empty(&host.prefix).unwrap());
}

#[test]
fn without_a_backup_the_old_root_is_shown_to_scripts_alone() {
    let host = TestHost::new();
    let id = host.create_running("web01");
    host.script("vps.configure", "need /old/booted\nwrite /saw-it");
    let mut options = reinstall_options();
    options.skip_backup = true;
    host.reinstall(&id, &options).unwrap();
    assert_eq!((host.generations(&id), runs(&host, &id)), (vec![2], Some((2, vec![]))));
    assert!(host.delta(&id, 2, "saw-it").exists());
}

#[test]
fn an_old_root_that_is_still_in_use_is_deleted_when_the_container_stops() {
    let host = TestHost::new();
    let id = host.create_running("web01");
    host.script("vps.configure", "hold");
    let mut options = reinstall_options();
    options.skip_backup = true;
    host.reinstall(&id, &options).unwrap();
    assert_eq!(state(&host, &id, 1), GenerationState::Doomed);
    assert!(
        host.told().iter().any(|told| matches!(told, Told::Warning(text) if text.contains("still in use")))
    );
    let failure = switch_to(&host, &id, 1).unwrap_err();
    assert_eq!(failure.code, Code::BadValue);
    assert_eq!(host.generations(&id), [1, 2], "while it runs nothing of it goes");
    host.stop(&id);
    host.host().open("web01").unwrap();
    assert_eq!(host.generations(&id), [2]);
    assert_eq!(host.fake().world().violations, Vec::<String>::new());
}

#[test]
fn without_a_backup_the_roots_that_had_it_at_old_get_what_was_at_its_own() {
    let host = TestHost::new();
    let id = host.create_running("web01");
    plain(&host, &id);
    plain(&host, &id);
    undo(&host, &id).unwrap();
    let mut options = reinstall_options();
    options.skip_backup = true;
    host.reinstall(&id, &options).unwrap();
    assert_eq!(host.generations(&id), [1, 3, 4]);
    assert_eq!((parent(&host, &id, 4), parent(&host, &id, 3)), (Some(1), Some(1)));
    switch_to(&host, &id, 3).unwrap();
    assert_eq!(runs(&host, &id), Some((3, vec![1])));
}

#[test]
fn a_parent_that_somebody_has_removed_by_hand_keeps_no_root_from_starting() {
    let host = TestHost::new();
    let id = host.create("web01");
    plain(&host, &id);
    host.area(&id).discard_generation(&host.prefix, GenerationNumber::new(1)).unwrap();
    host.start(&id);
    assert_eq!(runs(&host, &id), Some((2, vec![])));
    plain(&host, &id);
    assert_eq!(runs(&host, &id), Some((3, vec![2])));
}

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
fn a_new_root_that_goes_down_by_itself_is_not_accepted() {
    let host = TestHost::new();
    let id = host.create_running("web01");
    host.fake().fail("wait_until_up", 1, How::GoesDown);
    let failure = host.reinstall(&id, &reinstall_options()).unwrap_err();
    assert_eq!(failure.code, Code::ReinstallFailed);
    assert!(failure.to_string().contains("has stopped before it was accepted"), "{failure}");
    assert_eq!(runs(&host, &id), Some((1, vec![])));
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

#[test]
fn undo_goes_back_one_root_at_a_time_and_stops_at_the_first() {
    let host = TestHost::new();
    let id = host.create_running("web01");
    plain(&host, &id);
    plain(&host, &id);
    put(&host.delta(&id, 2, "written-at-old"), b"");
    let done = undo(&host, &id).unwrap();
    assert_eq!((done.from.get(), done.to.get(), done.unfinished), (3, 2, None));
    assert_eq!(runs(&host, &id), Some((2, vec![1])));
    assert!(host.delta(&id, 2, "written-at-old").exists(), "as it is now");
    undo(&host, &id).unwrap();
    assert_eq!((host.live(&id), runs(&host, &id)), (1, Some((1, vec![]))));
    let failure = undo(&host, &id).unwrap_err();
    assert_eq!((failure.code.exit(), failure.state.as_deref()), (21, Some("nothing was changed")));
    assert_eq!(host.generations(&id), [1, 2, 3], "nothing is deleted that nobody asked to delete");
    switch_to(&host, &id, 3).unwrap();
    assert_eq!(runs(&host, &id), Some((3, vec![2, 1])));
    plain(&host, &id);
    assert_eq!(runs(&host, &id), Some((4, vec![3, 2, 1])));
}

#[test]
fn undo_runs_no_script_and_a_stopped_container_stays_stopped() {
    let host = TestHost::new();
    let id = host.create("web01");
    plain(&host, &id);
    host.script("vps.configure", "exit 1");
    host.script("vps.reinstall", "exit 1");
    undo(&host, &id).unwrap();
    assert_eq!((host.live(&id), runs(&host, &id)), (1, None));
    let counts = host.fake().world().counts;
    assert!(
        !counts.contains_key("run_inside")
            && !counts.contains_key("run_outside")
            && !counts.contains_key("start")
    );
}

#[test]
fn a_number_is_never_used_twice() {
    let host = TestHost::new();
    let id = host.create("web01");
    plain(&host, &id);
    undo(&host, &id).unwrap();
    forget::delete(&host.host().open("web01").unwrap(), GenerationNumber::new(2)).unwrap();
    assert_eq!(plain(&host, &id).new.get(), 3);
}

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

/// The host loses its power; what is under way is of another boot then.
fn lose_power(host: &TestHost, id: &ContainerId) {
    host.fake().lose_power();
    let mut journal = host.area(id).journal().unwrap().unwrap();
    journal.boot_id = "another".to_owned();
    host.area(id).store_journal(&journal).unwrap();
}

#[test]
fn at_boot_what_was_under_way_is_ended_and_onboot_alone_says_what_starts() {
    let host = TestHost::new();
    let boot = |name: &str, order: Option<&str>| {
        let id = host.create_running(name);
        if let Some(order) = order {
            let mut conf = host.area(&id).conf().unwrap();
            conf.set("ONBOOT", "yes").unwrap();
            conf.set("BOOTORDER", order).unwrap();
            host.area(&id).store_conf(&conf).unwrap();
        }
        // Fails, and so does its return: the journal stays.
        host.fake().fail("stop", 1, How::ErrorAfter);
        host.script("vps.reinstall", "exit 1");
        let engine = host.host();
        let container = engine.open(name).unwrap();
        host.fake().change(|world| {
            world.fault = Some(testkit::Fault {
                method: "kill_outside".into(),
                call: world.counts.get("kill_outside").copied().unwrap_or(0) + 1,
                how: How::ErrorBefore,
            });
        });
        let failure = reinstall::reinstall(&container, &reinstall_options()).unwrap_err();
        assert!(failure.state.as_deref().unwrap().contains("could not be put back by itself"), "{failure}");
        assert!(failure.hint.unwrap().contains("prlctl recover"));
        host.without_scripts();
        id
    };
    let (low, none, high) = (boot("low", Some("1")), boot("none", None), boot("high", Some("10")));
    for id in [&low, &none, &high] {
        lose_power(&host, id);
    }
    let before = host.fake().world().calls.len();
    let results = recover::recover_all(&host.host(), true).unwrap();
    assert!(results.len() == 3 && results.iter().all(|result| result.failure.is_none()), "{results:?}");
    let started: Vec<String> =
        calls_since(&host, before).into_iter().filter(|call| call.starts_with("start")).collect();
    assert_eq!(started.len(), 2);
    assert_eq!(runs(&host, &none), None);
    let init = |id| host.container(id).running.unwrap().init;
    assert!(init(&high) < init(&low), "the highest BOOTORDER first");
    for id in [&low, &none, &high] {
        assert_eq!((host.generations(id), host.area(id).journal().unwrap()), (vec![1], None));
    }
}
