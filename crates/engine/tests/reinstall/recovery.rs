//! Roots that go down by themselves, and what is under way when the power goes.

use super::*;

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
    let results = recover::recover_all(&host.host()).unwrap();
    assert!(results.len() == 3 && results.iter().all(|result| result.failure.is_none()), "{results:?}");
    let started: Vec<String> =
        calls_since(&host, before).into_iter().filter(|call| call.starts_with("start")).collect();
    assert_eq!((started.len(), runs(&host, &none)), (0, None));
    assert_eq!(
        recover::to_start(&host.host()).unwrap(),
        [vec![high], vec![low]],
        "the highest BOOTORDER first"
    );
    for id in [&low, &none, &high] {
        assert_eq!((host.generations(id), host.area(id).journal().unwrap()), (vec![1], None));
    }
}

#[test]
fn at_boot_a_name_that_two_claim_keeps_nothing_down() {
    let host = TestHost::new();
    let (id, other) = (host.create("web01"), host.create("db01"));
    let mut conf = host.area(&id).conf().unwrap();
    conf.set("NAME", "db01").unwrap();
    conf.set("ONBOOT", "yes").unwrap();
    host.area(&id).store_conf(&conf).unwrap();
    let engine = host.host();
    let results = recover::recover_all(&engine).unwrap();
    let told: Vec<String> =
        results.iter().filter_map(|one| Some(one.failure.as_ref()?.to_string())).collect();
    assert!(told.len() == 1 && told[0].contains("two containers are called `db01`"), "{told:?}");
    assert_eq!(recover::to_start(&engine).unwrap(), [vec![id]], "it is started all the same");
    assert_eq!(engine.find("db01").unwrap(), other);
}

#[test]
fn a_new_root_that_goes_down_just_after_the_commit_and_does_not_start_again_locks_nobody_out() {
    let host = TestHost::new();
    let id = host.create_running("web01");
    host.fake().fail("settle", 1, How::GoesDownForGood);
    let engine = host.host();
    let done = reinstall::reinstall(&engine.open("web01").unwrap(), &reinstall_options()).unwrap();
    assert_eq!((done.report.new.get(), done.unfinished), (2, None));
    assert!(
        host.told()
            .iter()
            .any(|told| matches!(told, Told::Warning(text) if text.contains("cannot start `web01`"))),
        "{:?}",
        host.told()
    );
    assert_eq!((host.live(&id), runs(&host, &id), host.area(&id).journal().unwrap()), (2, None, None));
    // It can be given yet another root, or its old one.
    undo(&host, &id).unwrap();
    assert_eq!(host.live(&id), 1);
    plain(&host, &id);
    assert_eq!(host.live(&id), 3);
}
