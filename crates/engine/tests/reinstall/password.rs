//! `--password`, and which password is valid for root in the end.

use super::*;
use engine::accounts::{GivenPassword, RootPassword};

fn with_password(user: &str) -> reinstall::Options {
    let password = GivenPassword::new(user, b"geheim").unwrap();
    reinstall::Options { password: Some(password), ..reinstall_options() }
}

fn shadow(host: &TestHost, id: &ContainerId, number: u32, user: &str) -> String {
    let shadow = read(host, id, number, "etc/shadow").unwrap();
    shadow.lines().find(|line| line.starts_with(&format!("{user}:"))).unwrap_or_default().to_owned()
}

/// Root has a password, and there is anna.
fn live_in(host: &TestHost, id: &ContainerId) {
    let passwd = "root:x:0:0:root:/root:/bin/sh\nanna:x:1000:1000:Anna:/home/anna:/bin/sh\n";
    put(&host.delta(id, 1, "etc/passwd"), passwd.as_bytes());
    put(&host.delta(id, 1, "etc/group"), b"root:x:0:\nanna:x:1000:\n");
    put(
        &host.delta(id, 1, "etc/shadow"),
        b"root:$6$s$root:19000:0:99999:7:::\nanna:$6$s$anna:19000:0:99999:7:::\n",
    );
}

#[test]
fn a_given_password_is_the_only_thing_that_is_different() {
    let host = TestHost::new();
    for (user, other, resets) in [("root", "anna", false), ("anna", "root", false), ("root", "daemon", true)]
    {
        let id = host.create(&format!("web-{user}-{resets}"));
        live_in(&host, &id);
        let options = reinstall::Options { reset_passwords: resets, ..with_password(user) };
        let done = host.reinstall(&id, &options).unwrap();
        let line = shadow(&host, &id, 2, user);
        assert!(line.starts_with(&format!("{user}:$6$rounds=")), "{line}");
        let days = line.split(':').nth(2).unwrap().parse::<u64>().unwrap();
        assert!(days > 20_000, "since today: {line}");
        let wanted = match other {
            "daemon" => "daemon:*:19000:0:99999:7:::".to_owned(),
            "root" => "root:$6$s$root:19000:0:99999:7:::".to_owned(),
            _ => format!("{other}:$6$s$anna:19000:0:99999:7:::"),
        };
        assert_eq!(shadow(&host, &id, 2, other), wanted);
        assert_eq!(read(&host, &id, 2, "etc/passwd").is_some_and(|text| text.contains("anna")), !resets);
        assert!(done.report.is_old_kept);
        let wanted = if user == "root" { RootPassword::Given } else { RootPassword::Old };
        assert_eq!(done.report.root_password, Some(wanted));
        assert!(
            done.report.notes.contains(&format!("`{user}` has the password that was given")),
            "{:?}",
            done.report.notes
        );
    }
}

#[test]
fn a_password_for_somebody_who_will_not_be_there_is_refused_before_anything_is_touched() {
    let host = TestHost::new();
    let id = host.create_running("web01");
    live_in(&host, &id);
    let before = host.snapshot(&host.prefix.private_dir());
    for (user, resets, hint) in [
        ("bob", false, "there will be: root, anna"),
        ("anna", true, "there will be: root"),
        ("", false, "there will be: "),
    ] {
        let options = reinstall::Options { reset_passwords: resets, ..with_password(user) };
        let failure = host.reinstall(&id, &options).unwrap_err();
        assert_eq!((failure.code, failure.state.as_deref()), (Code::BadValue, Some("nothing was changed")));
        let text = failure.to_string();
        let said = format!("because: the new root will have no user `{user}`");
        assert!(text.contains(&said) && text.contains(hint), "{text}");
        assert_eq!(host.snapshot(&host.prefix.private_dir()), before);
    }
}

#[test]
fn a_password_for_somebody_whom_vps_reinstall_has_not_made_undoes_it() {
    let host = TestHost::new();
    let id = host.create_running("web01");
    live_in(&host, &id);
    host.script("vps.reinstall", "copy template");
    let failure = host.reinstall(&id, &with_password("bob")).unwrap_err();
    let text = failure.to_string();
    assert_eq!(failure.code, Code::ReinstallFailed, "{text}");
    assert!(
        text.contains("the new root has no user `bob`") && text.contains("hint: there are: root, anna"),
        "{text}"
    );
    assert!(text.contains("runs on its old root again, generation 1"), "{text}");
    assert_eq!((host.live(&id), host.generations(&id)), (1, vec![1]));
    assert!(shadow(&host, &id, 1, "root").starts_with("root:$6$s$root:"));
    // Whom it has made can have one, and so can anybody of the template when it has declined.
    host.script(
        "vps.reinstall",
        "copy template\nwrite /etc/shadow bob:!:1:0:9:7:::\nwrite /etc/passwd bob:x:700:0::/:/bin/sh",
    );
    let done = host.reinstall(&id, &with_password("bob")).unwrap();
    let number = host.live(&id);
    assert!(shadow(&host, &id, number, "bob").starts_with("bob:$6$rounds="));
    assert_eq!(done.report.root_password, Some(RootPassword::Missing));
    host.script("vps.reinstall", "exit 128");
    host.reinstall(&id, &with_password("daemon")).unwrap();
    let number = host.live(&id);
    assert!(shadow(&host, &id, number, "daemon").starts_with("daemon:$6$rounds="));
}

#[test]
fn the_hash_is_in_no_journal_plan_or_log() {
    let host = TestHost::new();
    let id = host.create_running("web01");
    live_in(&host, &id);
    let engine = host.host();
    let container = engine.open("web01").unwrap();
    let options = with_password("anna");
    let plan = reinstall::plan(&container, &options, true).unwrap();
    let steps = engine::operation::explain::explain(&container, &plan).unwrap().lines();
    let said = format!("{} {plan:?} {options:?} {steps:?}", serde_json::to_string(&plan).unwrap());
    assert!(!said.contains("$6$") && !said.contains("geheim"), "{said}");
    assert!(format!("{steps:?}").contains("the password that is given for `anna`"), "{steps:?}");
    drop(container);
    host.script("vps.configure", "exit 1");
    host.reinstall(&id, &options).unwrap_err();
    host.without_scripts();
    host.reinstall(&id, &options).unwrap();
    for (path, text) in host.snapshot(host.prefix.root()) {
        assert!(!text.contains("geheim"), "{path}");
        assert!(!text.contains("$6$rounds=") || path.ends_with("/etc/shadow"), "{path}");
    }
}

#[test]
fn it_is_told_which_password_is_valid_for_root() {
    let with = |root: &'static str| format!("root:{root}:19000:0:99999:7:::");
    for (old, own, options, wanted) in [
        ("$6$s$old", "*", "", RootPassword::Old),
        ("$6$s$old", "$6$s$own", "", RootPassword::Old),
        // Everybody who has the template knows its password: no container has it.
        ("$6$s$old", "$6$s$own", "reset", RootPassword::Locked),
        ("$6$s$old", "*", "reset", RootPassword::Locked),
        ("$6$s$old", "", "reset", RootPassword::Locked),
        ("$6$s$old", "$6$s$own", "script reset", RootPassword::Script),
        ("$6$s$old", "$6$s$own", "script", RootPassword::Old),
        ("!", "$6$s$own", "", RootPassword::Locked),
        // An empty one is not carried.
        ("", "$6$s$own", "", RootPassword::Locked),
        ("", "", "", RootPassword::Locked),
        ("$6$s$old", "*", "given", RootPassword::Given),
        ("$6$s$old", "", "given reset", RootPassword::Given),
        ("$6$s$old", "*", "given script", RootPassword::Given),
        ("$6$s$old", "*", "inside", RootPassword::Changed),
        ("$6$s$old", "*", "inside given", RootPassword::Changed),
        ("$6$s$old", "*", "locks", RootPassword::Locked),
        ("$6$s$old", "*", "opens", RootPassword::Empty),
        ("$6$s$old", "*", "nothing", RootPassword::Old),
    ] {
        let host = TestHost::new();
        let own_line = with(own);
        host.publish("own", 1, false, &[("etc/shadow", &own_line)]);
        let id = host.create("web01");
        put(&host.delta(&id, 1, "etc/shadow"), with(old).as_bytes());
        for (word, name, text) in [
            ("script", "vps.reinstall", "copy template"),
            ("inside", "vps.configure", "write /etc/shadow root:$6$s$inside:1:2:3:4:::"),
            ("locks", "vps.configure", "write /etc/shadow root:!:1:2:3:4:::"),
            ("opens", "vps.configure", "write /etc/shadow root::1:2:3:4:::"),
            ("nothing", "vps.configure", "write /file"),
        ] {
            if options.contains(word) {
                host.script(name, text);
            }
        }
        let password = options.contains("given").then(|| GivenPassword::new("root", b"geheim").unwrap());
        let reset_passwords = options.contains("reset");
        let template = Some("own".parse().unwrap());
        let options = reinstall::Options { password, reset_passwords, template, ..reinstall_options() };
        let done = host.reinstall(&id, &options).unwrap();
        assert_eq!(done.report.root_password, Some(wanted), "{old:?} {own:?} {options:?}");
        assert!(wanted.to_string().starts_with("root's password: "));
    }
}

#[test]
fn a_new_root_whose_files_are_odd_is_only_a_failure_where_something_is_to_be_written() {
    let host = TestHost::new();
    let id = host.create("web01");
    host.script("vps.reinstall", "copy template\nremove /etc/passwd\nmkdir /etc/passwd");
    let options = reinstall::Options { reset_passwords: true, ..reinstall_options() };
    assert_eq!(host.reinstall(&id, &options).unwrap().report.root_password, None);
    let options = reinstall::Options { password: with_password("root").password, ..options };
    assert_eq!(host.reinstall(&id, &options).unwrap_err().code, Code::ReinstallFailed);
    assert_eq!(host.live(&id), 2);
}
