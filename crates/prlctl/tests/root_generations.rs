//! `generation-list`, `generation-switch` and `generation-delete`.

use std::process::Stdio;

use store::Prefix;
use testkit::RealHost;
use testkit::judge::{Before, Effect, Runs, Verdict, Violation, judge};

/// A host with a running container `web01` that has been reinstalled so often; generation n has n in `/root/number`.
fn with_roots(count: u32) -> Option<RealHost> {
    let host = RealHost::new(env!("CARGO_BIN_EXE_prlctl"))?;
    host.started("web01");
    host.exec("web01", "echo 1 > /root/number");
    for number in 2..=count {
        host.ok(["reinstall", "web01"]);
        host.exec("web01", &format!("echo {number} > /root/number"));
    }
    Some(host)
}

/// The roots that a running container sees, from `/` on.
fn chain(host: &RealHost) -> String {
    host.exec(
        "web01",
        "at=; while [ -e $at/root/number ]; do cat $at/root/number; at=$at/old; done | tr '\\n' ' '",
    )
    .trim()
    .to_owned()
}

fn roots(host: &RealHost, all: bool) -> Vec<Vec<String>> {
    let words = ["generation-list", "web01", "-H", "--all"];
    let text = host.ok(&words[..if all { 4 } else { 3 }]);
    text.lines().map(|line| line.split_whitespace().take(4).map(str::to_owned).collect()).collect()
}

#[track_caller]
fn refused(host: &RealHost, words: &[&str], code: i32, said: &[&str]) {
    let before = (roots(host, true), chain(host));
    let ran = host.run(words);
    ran.failed(code, said);
    ran.failed(code, &["state: nothing was changed"]);
    assert_eq!((roots(host, true), chain(host)), before, "{ran}");
}

#[test]
fn root_the_list_tells_of_the_chain_and_with_all_of_every_root() {
    let Some(host) = with_roots(3) else { return };
    host.ok(["generation-switch", "web01", "2"]);
    assert_eq!(roots(&host, false), [["2", "live", "/", "1"], ["1", "retired", "/old", "-"]]);
    assert_eq!(
        roots(&host, true),
        [["3", "left", "-", "2"], ["2", "live", "/", "1"], ["1", "retired", "/old", "-"]]
    );
    let header = host.ok(["generation-list", "web01"]);
    assert!(
        header.starts_with("N     STATE    PLACE            PARENT CREATED              AGE   MADE FROM\n"),
        "{header}"
    );
    let json: serde_json::Value = serde_json::from_str(&host.ok(["generation-list", "web01", "-j"])).unwrap();
    assert_eq!(
        (&json[0]["number"], &json[0]["state"], &json[0]["place"], &json[0]["parent"]),
        (&2.into(), &"live".into(), &"/".into(), &1.into())
    );
}

#[test]
fn root_a_switch_goes_to_any_root_and_back() {
    let Some(host) = with_roots(3) else { return };
    for (to, seen) in [(1, "1"), (3, "3 2 1"), (2, "2 1"), (3, "3 2 1")] {
        assert_eq!(
            host.ok(["generation-switch", "web01", &to.to_string()]),
            format!("The CT has been successfully switched to generation {to}.\n")
        );
        assert_eq!(chain(&host), seen);
    }
    refused(&host, &["generation-switch", "web01", "3"], 21, &["generation 3 is the live one already"]);
    refused(&host, &["generation-switch", "web01", "9"], 21, &["there is no generation 9"]);
    refused(&host, &["generation-switch", "web01", "0"], 21, &["there is no generation 0"]);
    host.ok(["stop", "web01"]);
    host.ok(["generation-switch", "web01", "1"]);
    assert!(!host.ok(["status", "web01"]).contains(" running"));
    host.ok(["start", "web01"]);
    assert_eq!(chain(&host), "1");
}

#[test]
fn root_a_switch_takes_a_root_that_lives_though_its_shell_is_broken_and_not_one_that_ends() {
    let Some(host) = with_roots(1) else { return };
    host.exec("web01", "sed -i '1s|.*|#!/bin/busybox sh|' /sbin/init && ln -sfn busybox-is-gone /bin/sh");
    host.ok(["reinstall", "web01"]);
    let ran = host.run(["reinstall", "web01", "--undo"]);
    assert_eq!(ran.code, 0, "{ran}");
    assert!(ran.stderr.contains("warning: generation 1 runs, but is not up: "), "{ran}");
    host.ok(["generation-switch", "web01", "2"]);
    host.exec("web01", "printf '#!/bin/busybox sh\nexit 3\n' > /old/sbin/init");
    host.run(["generation-switch", "web01", "1"])
        .failed(94, &["generation 1 does not come up", "runs on its old root"]);
    assert!(host.ok(["generation-list", "web01"]).contains("2     live"));
}

#[test]
fn root_templates_in_ve_conf_follow_the_live_root() {
    let Some(host) = with_roots(1) else { return };
    let conf = host.area("web01").join("ve.conf");
    let below = conf.strip_prefix(host.prefix()).unwrap().to_str().unwrap().to_owned();
    let templates = || {
        let text = std::fs::read_to_string(&conf).unwrap();
        text.lines().filter(|line| line.starts_with("TEMPLATES=")).collect::<Vec<_>>().join("\n")
    };
    let text = std::fs::read_to_string(&conf).unwrap();
    host.write(&below, &(text + "TEMPLATES=\"apache php\"\n"), 0o600);
    host.run(["reinstall", "web01"]).failed(
        21,
        &[
            "TEMPLATES names apache, php, and the template has no package manager that is known",
            "nothing was changed",
            "--skip-app-templates` does without",
        ],
    );
    assert_eq!(templates(), "TEMPLATES=\"apache php\"");
    let ran = host.run(["reinstall", "web01", "--skip-app-templates"]);
    assert_eq!(ran.code, 0, "{ran}");
    assert!(ran.stderr.contains("`vzpkg install web01 apache php` does"), "{ran}");
    assert_eq!(templates(), "TEMPLATES=\"\"", "nothing is installed in the new root");
    host.ok(["reinstall", "web01", "--undo"]);
    assert_eq!(templates(), "TEMPLATES=\"apache php\"");
    host.ok(["generation-switch", "web01", "2"]);
    assert_eq!(templates(), "TEMPLATES=\"\"");
}

#[test]
fn root_a_root_that_failed_can_be_switched_to_for_a_look() {
    let Some(host) = with_roots(1) else { return };
    host.script("etc/vz/conf/vps.configure", "#!/bin/sh\necho failed > /root/number\nexit 1\n");
    host.run(["reinstall", "web01"]).failed(94, &[]);
    assert_eq!(roots(&host, true)[0][1], "failed");
    let failed = roots(&host, true)[0][0].clone();
    host.ok(["generation-switch", "web01", &failed]);
    assert_eq!(chain(&host), "failed 1");
    assert_eq!(roots(&host, true)[0][1], "live");
    host.ok(["reinstall", "web01", "--undo"]);
    assert_eq!(chain(&host), "1");
}

#[test]
fn root_the_live_root_is_not_deleted() {
    let Some(host) = with_roots(2) else { return };
    refused(
        &host,
        &["generation-delete", "web01", "2"],
        21,
        &["it is the live one", "generation-switch web01"],
    );
    refused(&host, &["generation-delete", "web01", "9"], 21, &["there is no generation 9"]);
}

#[test]
fn root_a_root_in_the_middle_of_the_chain_is_deleted_and_the_chain_closes() {
    let Some(host) = with_roots(4) else { return };
    assert_eq!(host.ok(["generation-delete", "web01", "3"]), "Generation 3 has been successfully deleted.\n");
    assert_eq!(chain(&host), "4 2 1", "while it runs");
    host.exec("web01", "echo x > /old/x && rm /old/x");
    host.run(["exec", "web01", "echo x > /old/old/x"]).failed(1, &["Read-only file system"]);
    host.ok(["restart", "web01"]);
    assert_eq!(chain(&host), "4 2 1");
    host.ok(["generation-delete", "web01", "1"]);
    assert_eq!(chain(&host), "4 2");
    host.ok(["stop", "web01"]);
    host.ok(["generation-delete", "web01", "2"]);
    host.ok(["start", "web01"]);
    assert_eq!(chain(&host), "4");
    assert_eq!(roots(&host, true), [["4", "live", "/", "-"]]);
    let trash = host.path("vz/private/.trash");
    host.wait_until("the trash is empty", || {
        std::fs::read_dir(&trash).map_or(true, |mut entries| entries.next().is_none())
    });
    // A number is never used twice.
    host.ok(["reinstall", "web01"]);
    assert_eq!(roots(&host, true)[0][0], "5");
}

#[test]
fn root_a_branch_that_was_left_is_linked_past_a_deleted_root_too() {
    let Some(host) = with_roots(3) else { return };
    host.ok(["generation-switch", "web01", "1"]);
    host.ok(["generation-delete", "web01", "2"]);
    assert_eq!(roots(&host, true), [["3", "left", "-", "1"], ["1", "live", "/", "-"]]);
    host.ok(["generation-switch", "web01", "3"]);
    assert_eq!(chain(&host), "3 1");
}

#[test]
fn root_nothing_of_a_root_is_deleted_while_a_process_sits_in_it() {
    let Some(host) = with_roots(2) else { return };
    // In a mount namespace of its own, as a service of systemd with a private /tmp has one, and in a directory of /old.
    host.exec("web01", "unshare -m sh -c 'mount --make-rprivate /; cd /old/root; while :; do sleep 1; done' >/dev/null 2>&1 </dev/null &");
    host.wait_until("it sits there", || {
        host.exec("web01", "ls -l /proc/[0-9]*/cwd 2>/dev/null").contains("/old/root")
    });
    let delta = host.area("web01").join("generations/1/delta/root/number");
    let ran = host.run(["generation-delete", "web01", "1"]);
    if ran.code == 0 {
        panic!("it was deleted while a namespace still had it mounted\n{ran}");
    }
    ran.failed(41, &["generation 1 is in use", "state: ", "hint: "]);
    assert_eq!(std::fs::read_to_string(&delta).unwrap(), "1\n");
    assert_eq!(chain(&host), "2 1");
    // A reinstall that is to delete its old root keeps it until the container stops, if the container has hidden it away.
    host.ok(["restart", "web01"]);
    host.ok(["generation-delete", "web01", "1"]);
    assert_eq!(chain(&host), "2");
}

#[test]
fn root_a_process_that_merely_sits_in_old_does_not_keep_a_root_from_being_deleted_whole() {
    let Some(host) = with_roots(2) else { return };
    host.exec("web01", "cd /old/root; while :; do sleep 1; done >/dev/null 2>&1 </dev/null &");
    let ran = host.run(["generation-delete", "web01", "1"]);
    let delta = host.area("web01").join("generations/1/delta/root/number");
    match ran.code {
        0 => assert!(!delta.exists()),
        _ => {
            ran.failed(41, &["generation 1 is in use", "state: ", "hint: "]);
            assert_eq!(std::fs::read_to_string(&delta).unwrap(), "1\n");
            assert_eq!(chain(&host), "2 1");
        }
    }
}

/// All files of all roots, as they are now.
fn look(host: &RealHost) -> Result<(Prefix, Before), Violation> {
    let unusable = |error: &dyn std::fmt::Display| Violation::new("the test itself", error.to_string());
    let prefix = Prefix::new(host.prefix()).map_err(|error| unusable(&error))?;
    let before = Before::of(&prefix, "web01")?;
    Ok((prefix, before))
}

#[test]
fn root_ten_reinstalls_in_a_row_keep_every_root_whole_one_behind_the_other() {
    let Some(host) = with_roots(1) else { return };
    // A second start writes what a first one does: from here on a root changes no more by itself.
    host.ok(["restart", "web01"]);
    for number in 2..=11 {
        let (prefix, before) = look(&host).unwrap();
        host.ok(["reinstall", "web01"]);
        let effect = Effect::Reinstall { discards: false };
        assert_eq!(judge(&prefix, &before, effect, Runs::Yes), Ok(Verdict::New), "reinstall {number}");
        host.exec("web01", &format!("echo {number} > /root/number"));
    }
    assert_eq!(chain(&host), "11 10 9 8 7 6 5 4 3 2 1");
    host.exec("web01", "echo x > /old/x && rm /old/x");
    // In the middle, while it runs, killed at each end of the commit: the child is linked past it before it goes.
    for (number, place, then) in
        [(6, "before", "11 10 9 8 7 6 5 4 3 2 1"), (6, "after", "11 10 9 8 7 5 4 3 2 1")]
    {
        let (prefix, before) = look(&host).unwrap();
        let point = format!("generation-delete/commit/{place}:kill");
        let mut command = host.prlctl();
        command.args(["generation-delete", "web01", &number.to_string()]).env("REROOT_FAULT", point);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let status = command.status().unwrap();
        assert!(!status.success(), "{place}: {status}");
        host.ok(["recover", "web01"]);
        let wanted = if place == "before" { Verdict::Old } else { Verdict::New };
        assert_eq!(judge(&prefix, &before, Effect::Forget(number), Runs::Yes), Ok(wanted), "{place}");
        assert_eq!(chain(&host), then, "{place}");
    }
    let (prefix, before) = look(&host).unwrap();
    host.ok(["generation-delete", "web01", "3"]);
    assert_eq!(judge(&prefix, &before, Effect::Forget(3), Runs::Yes), Ok(Verdict::New));
    host.ok(["restart", "web01"]);
    assert_eq!(chain(&host), "11 10 9 8 7 5 4 2 1");
}

#[test]
fn root_a_root_is_mounted_once_where_everything_is_shared() {
    // As systemd has it on every host of people.
    let Some(host) = RealHost::new(env!("CARGO_BIN_EXE_prlctl")) else { return };
    host.ok(["create", "web01", "--ostemplate", "busybox"]);
    let line = "\"$0\" start web01 && \"$0\" reinstall web01 >/dev/null 2>&1; grep /generations/ /proc/self/mountinfo; \"$0\" stop web01 >/dev/null; echo; \
        for i in $(seq 100); do grep -q /generations/ /proc/self/mountinfo || break; sleep 0.1; done; grep /generations/ /proc/self/mountinfo";
    let mut command = std::process::Command::new("unshare");
    command.args(["--mount", "--propagation", "shared", "sh", "-c", line, env!("CARGO_BIN_EXE_prlctl")]);
    command.env("REROOT_PREFIX", host.prefix());
    let ran = testkit::Ran::within(&mut command, testkit::patience(60)).unwrap();
    let (running, stopped) = ran.stdout.split_once("\n\n").unwrap();
    let own = |text: &str| text.lines().filter(|line| line.contains(host.prefix().to_str().unwrap())).count();
    assert_eq!((own(running), own(stopped)), (2, 0), "{ran}");
}
