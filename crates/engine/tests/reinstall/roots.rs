//! What is live, what is at `/old`, what is deleted: by a reinstall, by going back and forth.

use super::*;

#[test]
fn the_old_root_of_a_running_container_is_at_old() {
    let host = TestHost::new();
    let id = host.create_running("web01");
    let before = host.fake().world().calls.len();
    host.told();
    let done = plain(&host, &id);

    assert_eq!(
        (done.report.old.get(), done.report.new.get(), done.report.is_old_kept, done.unfinished),
        (1, 2, true, None)
    );
    assert_eq!(host.generations(&id), [1, 2]);
    assert_eq!((host.live(&id), parent(&host, &id, 2)), (2, Some(1)));
    assert_eq!(runs(&host, &id), Some((2, vec![1])));
    assert!(!is_read_only(&host, &id, 1), "after the commit /old is the container's own");
    assert!(host.delta(&id, 2, "old").is_dir());
    let told = host.told();
    assert_eq!(steps(&told), ["stage", "build", "stop", "carry", "probation"]);
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
fn without_a_backup_the_old_root_is_gone_and_never_shown() {
    let host = TestHost::new();
    let id = host.create_running("web01");
    plain(&host, &id);
    let before = host.fake().world().calls.len();
    let mut options = reinstall_options();
    options.skip_backup = true;
    let done = host.reinstall(&id, &options).unwrap();
    assert!(!done.report.is_old_kept);
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
    assert_eq!(plain(&host, &id).report.new.get(), 3);
}
