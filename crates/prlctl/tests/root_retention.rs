//! `REINSTALL_RETAIN`: which old roots a reinstall deletes, and which it never does.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use serde_json::Value;
use testkit::RealHost;

/// A host with a running container `web01` that has been reinstalled so often that it has that many roots, each with its number in it.
fn with_roots(count: u32) -> Option<RealHost> {
    let host = RealHost::new(env!("CARGO_BIN_EXE_prlctl"))?;
    host.started("web01");
    host.exec("web01", "echo 1 > /root/number");
    for number in 2..=count {
        reinstall(&host, number);
    }
    Some(host)
}

fn reinstall(host: &RealHost, number: u32) -> String {
    let ran = host.run(["reinstall", "web01"]);
    assert_eq!(ran.code, 0, "{ran}");
    host.exec("web01", &format!("echo {number} > /root/number"));
    ran.stderr
}

/// The roots that a running container sees, from `/` on.
fn chain(host: &RealHost) -> String {
    let line = "at=; while [ -e $at/root/number ]; do cat $at/root/number; at=$at/old; done | tr '\\n' ' '";
    host.exec("web01", line).trim().to_owned()
}

fn list(host: &RealHost) -> Vec<Value> {
    serde_json::from_str(&host.ok(["generation-list", "web01", "--all", "-j"])).unwrap()
}

fn numbers(host: &RealHost) -> Vec<u64> {
    list(host).iter().map(|one| one["number"].as_u64().unwrap()).collect()
}

fn below(host: &RealHost, path: &std::path::Path) -> String {
    path.strip_prefix(host.prefix()).unwrap().display().to_string()
}

/// Sets a value of its configuration.
fn set(host: &RealHost, value: &str) {
    let path = host.area("web01").join("ve.conf");
    let conf = std::fs::read_to_string(&path).unwrap();
    let rest: String = conf
        .lines()
        .filter(|line| !line.starts_with("REINSTALL_RETAIN"))
        .map(|line| format!("{line}\n"))
        .collect();
    host.write(&below(host, &path), &format!("{rest}REINSTALL_RETAIN=\"{value}\"\n"), 0o600);
}

/// A root was left so many hours ago.
fn left(host: &RealHost, number: u32, hours: i64) {
    let path = host.area("web01").join("generations").join(number.to_string()).join("generation.json");
    let mut record: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let left = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(hours);
    assert!(record["left"].is_string(), "it was left: {record}");
    record["left"] = Value::String(left.to_string());
    host.write(&below(host, &path), &record.to_string(), 0o600);
}

#[test]
fn root_so_many_old_roots_are_kept_as_the_configuration_says_and_all_without() {
    let Some(host) = with_roots(3) else { return };
    assert_eq!(numbers(&host), [3, 2, 1], "without it everything");
    host.write("etc/vz/vz.conf", "REINSTALL_RETAIN=\"2\"\n", 0o644);
    let plan = host.ok(["reinstall", "web01", "--dry-run"]);
    assert!(plan.contains("\nexpires    generation 1 is deleted ("), "{plan}");
    assert!(!plan.contains("generation 2 is deleted") && plan.contains("): REINSTALL_RETAIN\n"), "{plan}");
    let json: Value = serde_json::from_str(&host.ok(["reinstall", "web01", "--dry-run", "-j"])).unwrap();
    assert_eq!((json["expires"].as_array().unwrap().len(), &json["expires"][0]["number"]), (1, &1.into()));
    assert!(json["expires"][0]["bytes"].as_u64().unwrap() >= 2, "{json}");
    assert_eq!(numbers(&host), [3, 2, 1], "a plan deletes nothing");
    let said = reinstall(&host, 4);
    assert!(said.contains("generation 1 has been deleted: REINSTALL_RETAIN\n"), "{said}");
    assert_eq!((numbers(&host), chain(&host)), (vec![4, 3, 2], "4 3 2".to_owned()));
    // The container's own says more, and an empty one everything.
    set(&host, "");
    reinstall(&host, 5);
    assert_eq!(chain(&host), "5 4 3 2");
    set(&host, "1");
    reinstall(&host, 6);
    assert_eq!((numbers(&host), chain(&host)), (vec![6, 5], "6 5".to_owned()));
    host.exec("web01", "echo it can be written to > /old/root/written");
    // Stopped, and with nothing started.
    host.ok(["stop", "web01"]);
    host.ok(["reinstall", "web01"]);
    assert_eq!(numbers(&host), [7, 6]);
    // With --skipbackup the one before is at /old, and stays.
    host.ok(["reinstall", "web01", "--skipbackup"]);
    assert_eq!(numbers(&host), [8, 6]);
    let trash = host.path("vz/private/.trash");
    host.wait_until("the trash is empty", || std::fs::read_dir(&trash).unwrap().next().is_none());
}

#[test]
fn root_old_roots_are_kept_for_so_long_since_they_were_left() {
    let Some(host) = with_roots(4) else { return };
    set(&host, "7d");
    left(&host, 2, 8 * 24);
    left(&host, 1, 6 * 24);
    let goes: Vec<(u64, bool)> = list(&host)
        .iter()
        .map(|one| (one["number"].as_u64().unwrap(), one["goes_next"].as_bool().unwrap()))
        .collect();
    assert_eq!(goes, [(4, false), (3, false), (2, true), (1, false)]);
    reinstall(&host, 5);
    // From the middle of the chain: what was behind it is nearer.
    assert_eq!((numbers(&host), chain(&host)), (vec![5, 4, 3, 1], "5 4 3 1".to_owned()));
    assert_eq!(list(&host)[2]["parent"], 1);
    // The way back stays, however long ago it was left.
    host.ok(["generation-switch", "web01", "1"]);
    left(&host, 3, 8 * 24);
    left(&host, 4, 8 * 24);
    left(&host, 5, 1);
    host.ok(["reinstall", "web01"]);
    assert_eq!(numbers(&host), [6, 5, 1], "that which was gone back from is not older than that");
    host.exec("web01", "echo 6 > /root/number");
    assert_eq!(chain(&host), "6 1");
}

#[test]
fn root_nothing_but_a_reinstall_that_has_happened_deletes_an_old_root() {
    let Some(host) = with_roots(3) else { return };
    set(&host, "1");
    for (words, code) in [
        (vec!["reinstall", "web01", "--health", "exit 1", "--timeout", "1"], 94),
        (vec!["reinstall", "web01", "--undo"], 0),
        (vec!["generation-switch", "web01", "3"], 0),
        (vec!["restart", "web01"], 0),
        (vec!["recover", "web01"], 0),
    ] {
        assert_eq!(host.run(&words).code, code, "{words:?}");
        assert_eq!(numbers(&host).iter().filter(|&&number| number < 4).count(), 3, "{words:?}");
    }
    // What has failed is no old root: it is neither counted nor deleted by this.
    reinstall(&host, 5);
    assert_eq!(numbers(&host), [5, 4, 3]);
    assert_eq!(list(&host)[1]["state"], "failed");
}

#[test]
fn root_an_old_root_that_is_in_use_stays_and_goes_with_the_next() {
    let Some(host) = with_roots(3) else { return };
    set(&host, "2");
    let busy = [
        ("cd /old/old/old && exec sleep 1000 >/dev/null 2>&1 &", "a process is in it"),
        ("exec sleep 1000 </old/old/old/root/number >/dev/null 2>&1 &", "has a file of it open"),
        ("mkdir /second && mount -o bind /old/old/old /second", "has moved or copied what was at /old"),
    ];
    for (line, because) in busy {
        let before = numbers(&host);
        host.script("etc/vz/conf/vps.configure", &format!("#!/bin/sh\n{line}\n"));
        let said = reinstall(&host, 0);
        let last = before.last().unwrap();
        let told =
            format!("warning: generation {last} is not deleted this time: it is in use in the container: ");
        assert!(said.contains(&told) && said.contains(because), "{said}");
        assert_eq!(numbers(&host)[1..], before, "{line}");
        let seen: Vec<String> = before.iter().map(u64::to_string).collect();
        assert_eq!(chain(&host), format!("0 {}", seen.join(" ")), "{line}");
        // The next one takes all that is too many, and none is in use.
        host.script("etc/vz/conf/vps.configure", "#!/bin/sh\n");
        host.ok(["reinstall", "web01", "--skipbackup"]);
        let now = numbers(&host);
        assert_eq!(now[1..], before[..2], "{line}");
        host.exec("web01", &format!("echo {} > /root/number", now[0]));
    }
}

#[test]
fn root_a_recovery_deletes_what_was_to_go_when_the_reinstall_began() {
    let Some(host) = with_roots(3) else { return };
    for point in ["reinstall/settle/before:kill", "reinstall/settle/after:kill"] {
        set(&host, "2");
        let before = numbers(&host);
        let killed = host.prlctl().args(["reinstall", "web01"]).env("REROOT_FAULT", point).output().unwrap();
        assert!(!killed.status.success());
        // Whatever it says by now.
        set(&host, "1");
        host.ok(["recover", "web01"]);
        let now = numbers(&host);
        assert_eq!(now, [before[0] + 1, before[0], before[1]], "{point}");
        assert_eq!(
            host.exec("web01", "ls -d /old/old/root; ls -d /old/old/old/root 2>/dev/null || :"),
            "/old/old/root"
        );
    }
    // One that is undone deletes nothing.
    set(&host, "1");
    let before = numbers(&host);
    let killed = host
        .prlctl()
        .args(["reinstall", "web01"])
        .env("REROOT_FAULT", "reinstall/commit/before:kill")
        .output();
    assert!(!killed.unwrap().status.success());
    host.ok(["recover", "web01"]);
    assert_eq!(list(&host).iter().filter(|one| one["state"] != "failed").count(), before.len());
}

#[test]
fn root_a_value_that_cannot_be_is_refused_before_anything_happens() {
    let Some(host) = with_roots(2) else { return };
    for (value, because) in [
        ("0", "the way back: --skipbackup does so"),
        ("7m", "`m` is no unit of time: h, d and w are"),
        ("all", "it is neither a number of roots nor a time"),
        ("-3", "it is neither a number of roots nor a time"),
    ] {
        set(&host, value);
        let said = [
            because,
            "`REINSTALL_RETAIN=",
            "in ve.conf of `web01`",
            "state: nothing was changed",
            "hint: REINSTALL_RETAIN=\"3\"",
        ];
        host.run(["reinstall", "web01"]).failed(21, &said);
        host.run(["reinstall", "web01", "--dry-run"]).failed(21, &said);
        let ran = host.run(["generation-list", "web01"]);
        assert!(ran.code == 0 && ran.stderr.contains("warning: ") && ran.stderr.contains(because), "{ran}");
    }
    assert_eq!(numbers(&host), [2, 1]);
    set(&host, "");
    host.write("etc/vz/vz.conf", "REINSTALL_RETAIN=\"x\"\n", 0o644);
    host.ok(["reinstall", "web01", "--dry-run"]);
    assert_eq!(host.run(["generation-list", "web01"]).stderr, "");
}

#[test]
fn root_the_list_tells_how_old_and_how_large_a_root_is_and_what_goes_next() {
    let Some(host) = with_roots(3) else { return };
    let header = |words: &[&str]| {
        host.ok([&["generation-list", "web01"], words].concat()).lines().next().unwrap().to_owned()
    };
    assert!(header(&[]).ends_with("CREATED              AGE   MADE FROM"), "{}", header(&[]));
    assert!(header(&["--size"]).ends_with("AGE   SIZE               MADE FROM"), "{}", header(&["--size"]));
    host.exec("web01", "dd if=/dev/zero of=/old/root/million bs=1000 count=1000 2>/dev/null");
    left(&host, 1, 50);
    set(&host, "1");
    let ran = host.run(["generation-list", "web01", "--size"]);
    let rows: Vec<&str> = ran.stdout.lines().collect();
    assert!(rows[0].ends_with("SIZE               NEXT MADE FROM"), "{ran}");
    let words = |row: usize| rows[row].split_whitespace().skip(6).collect::<Vec<_>>().join(" ");
    assert!(words(1).starts_with("0m ") && words(1).ends_with(" - template busybox"), "{ran}");
    assert!(words(2).starts_with("0m 1.0 MB in ") && words(2).ends_with(" goes template busybox"), "{ran}");
    assert!(words(3).starts_with("2d ") && words(3).ends_with(" goes template busybox"), "{ran}");
    assert_eq!(ran.stderr, "REINSTALL_RETAIN: only one old root is kept\n");
    let json: Vec<Value> =
        serde_json::from_str(&host.ok(["generation-list", "web01", "--size", "-j"])).unwrap();
    assert!(json[1]["bytes"].as_u64().unwrap() > 1_000_000 && json[1]["entries"].as_u64().unwrap() > 1);
    assert_eq!(json[0]["since"], json[0]["created"]);
    assert_ne!(json[1]["since"], json[1]["created"]);
    let plain = list(&host);
    assert!(plain[1]["bytes"].is_null() && plain[1]["goes_next"] == true && plain[0]["goes_next"] == false);
}
