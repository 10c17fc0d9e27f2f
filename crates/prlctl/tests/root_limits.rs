//! Limits, network, names and ids of a container that runs.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed, and says where")]

use std::path::PathBuf;

use testkit::RealHost;

fn new_host() -> Option<RealHost> {
    let host = RealHost::new(env!("CARGO_BIN_EXE_prlctl"))?;
    host.ok(["create", "web01", "--ostemplate", "busybox"]);
    Some(host)
}

fn area(host: &RealHost) -> String {
    format!("vz/private/{}", host.area("web01").file_name().unwrap().display())
}

/// Adds lines to `ve.conf`; what comes later counts.
fn configure(host: &RealHost, lines: &str) {
    let path = format!("{}/ve.conf", area(host));
    let text = std::fs::read_to_string(host.path(&path)).unwrap();
    let keys: Vec<&str> = lines.lines().filter_map(|line| line.split_once('=')).map(|(key, _)| key).collect();
    let kept: String = text
        .lines()
        .filter(|line| line.split_once('=').is_none_or(|(key, _)| !keys.contains(&key)))
        .map(|line| format!("{line}\n"))
        .collect();
    host.write(&path, &format!("{kept}{lines}"), 0o644);
}

fn init(host: &RealHost, name: &str) -> i64 {
    let json: serde_json::Value = serde_json::from_str(&host.ok(["list", "-i", name, "-j"])).unwrap();
    json[0]["Init"].as_i64().unwrap()
}

/// A file of the container's control group: by its name where the limits are on v1 hierarchies, and on v2.
fn limit(host: &RealHost, controller: &str, v1: &str, v2: &str) -> (String, bool) {
    let text = std::fs::read_to_string(format!("/proc/{}/cgroup", init(host, "web01"))).unwrap();
    let of_controller = text.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (names, path) = (fields.next()?, fields.next()?);
        names
            .split(',')
            .any(|name| name == controller)
            .then(|| PathBuf::from(format!("/sys/fs/cgroup/{controller}{path}")))
    });
    let (path, is_v1) = match of_controller {
        Some(path) => (path.join(v1), true),
        None => {
            let path = text.lines().find_map(|line| line.strip_prefix("0::/")).unwrap();
            let top = path.split("/init.scope").next().unwrap();
            (PathBuf::from("/sys/fs/cgroup").join(top).join(v2), false)
        }
    };
    (
        std::fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
            .trim()
            .to_owned(),
        is_v1,
    )
}

/// Of a container of which nobody has said anything the host stays alive.
#[test]
fn root_what_a_container_uses_is_counted() {
    let Some(host) = RealHost::new(env!("CARGO_BIN_EXE_prlctl")) else { return };
    host.started("web01");
    host.ok(["create", "web02", "--ostemplate", "busybox"]);
    let all = |words: &[&str]| -> Vec<serde_json::Value> {
        let text = host.ok(["statistics", "-j"].into_iter().chain(words.iter().copied()));
        serde_json::from_str(&text).expect("statistics are JSON")
    };
    let before = all(&["web01"]).remove(0);
    host.exec("web01", "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; dd if=/dev/zero of=/file bs=1M count=20 2>/dev/null; sync");
    let after = all(&["web01"]).remove(0);
    let grown = |name: &str| after[name].as_f64().unwrap() - before[name].as_f64().unwrap();
    assert!(grown("cpu.time") > 0.05, "{before} {after}");
    assert!(after["mem.used"].as_u64().unwrap() > 100_000, "{after}");
    assert!(after["processes"].as_u64().unwrap() >= 1, "{after}");
    // Only of those that run.
    let names: Vec<serde_json::Value> = all(&["-a"]).into_iter().map(|one| one["name"].clone()).collect();
    assert_eq!(names, ["web01"]);
    host.run(["statistics", "web02"]).failed(31, &["it does not run", "prlctl start web02"]);
    host.run(["statistics", "web01", "--filter", "luck"]).failed(1, &["cpu.time"]);
    let some = all(&["web01", "--filter", "cpu"]).remove(0);
    assert!(some.get("cpu.time").is_some() && some.get("mem.used").is_none(), "{some}");
    let shown = host.ok(["statistics", "web01"]);
    assert!(shown.starts_with("web01\n") && shown.contains("bytes received"), "{shown}");
}

#[test]
fn root_without_limits_there_are_those_that_keep_the_host_alive() {
    let Some(host) = new_host() else { return };
    host.ok(["start", "web01"]);
    let number = |text: &str| text.trim().parse::<u64>().unwrap();
    let kernel = |name: &str| number(&std::fs::read_to_string(format!("/proc/sys/kernel/{name}")).unwrap());
    let processes = number(&limit(&host, "pids", "pids.max", "pids.max").0);
    assert_eq!(processes, kernel("pid_max").min(kernel("threads-max")) / 4);
    let memory = number(&limit(&host, "memory", "memory.limit_in_bytes", "memory.max").0);
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap();
    let total: u64 = meminfo.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024;
    assert!(memory >= total / 2 && memory <= total - (256 << 20), "{memory} of {total}");
    let json: serde_json::Value = serde_json::from_str(&host.ok(["list", "-i", "web01", "-j"])).unwrap();
    assert_eq!(json[0]["Hardware"]["processes"], processes);
    // Who wants none says so.
    configure(&host, "NUMPROC=\"unlimited\"\nPHYSPAGES=\"unlimited\"\n");
    host.ok(["restart", "web01"]);
    assert_eq!(limit(&host, "pids", "pids.max", "pids.max").0, "max");
    let memory = limit(&host, "memory", "memory.limit_in_bytes", "memory.max").0;
    assert!(memory == "max" || number(&memory) > total, "{memory}");
}

#[test]
fn root_limits_of_ve_conf_are_those_of_the_control_group() {
    let Some(host) = new_host() else { return };
    configure(&host, "PHYSPAGES=\"32768:32768\"\nNUMPROC=\"40:45\"\nCPULIMIT=\"50\"\nCPUUNITS=\"2000\"\n");
    host.ok(["start", "web01"]);
    assert_eq!(limit(&host, "memory", "memory.limit_in_bytes", "memory.max").0, "134217728");
    assert_eq!(limit(&host, "pids", "pids.max", "pids.max").0, "45");
    let (quota, is_v1) = limit(&host, "cpu", "cpu.cfs_quota_us", "cpu.max");
    assert_eq!(quota, if is_v1 { "50000" } else { "50000 100000" });
    let (weight, is_v1) = limit(&host, "cpu", "cpu.shares", "cpu.weight");
    if is_v1 {
        assert_eq!(weight, "2048");
    } else {
        assert!(
            weight.parse::<u32>().unwrap() > 39,
            "twice the weight of 1024 shares, which is 39: {weight}"
        );
    }
    configure(&host, "CPUS=\"1\"\nCPULIMIT=\"150\"\nPHYSPAGES=\"64M\"\nNUMPROC=\"unlimited\"\n");
    host.ok(["restart", "web01"]);
    assert!(limit(&host, "cpu", "cpu.cfs_quota_us", "cpu.max").0.starts_with("100000"));
    assert_eq!(limit(&host, "memory", "memory.limit_in_bytes", "memory.max").0, "67108864");
    assert_eq!(limit(&host, "pids", "pids.max", "pids.max").0, "max");
}

#[test]
fn root_the_limit_of_processes_holds_for_what_is_executed_too() {
    let Some(host) = new_host() else { return };
    configure(&host, "NUMPROC=\"20:20\"\n");
    host.ok(["start", "web01"]);
    let ran = host.run([
        "exec",
        "web01",
        "i=0; while [ $i -lt 60 ]; do sleep 1000 >/dev/null 2>&1 </dev/null & i=$((i+1)); done; echo all 60",
    ]);
    assert!(!ran.stdout.contains("all 60") && ran.code != 0, "{ran}");
    assert!(ran.stderr.contains("fork"), "{ran}");
    let count: u32 = host.ok(["list", "web01", "-H", "-o", "numproc"]).trim().parse().unwrap();
    assert!((15..=20).contains(&count), "{count}");
    // Full as it is, it can be stopped.
    host.ok(["stop", "web01", "--timeout", "20"]);
}

#[test]
fn root_the_limit_of_memory_holds() {
    let Some(host) = new_host() else { return };
    configure(&host, "PHYSPAGES=\"64M\"\nSWAPPAGES=\"0\"\n");
    host.ok(["start", "web01"]);
    let take = |size: &str| {
        host.run([
            "exec",
            "web01",
            "--without-shell",
            "dd",
            "if=/dev/zero",
            "of=/dev/null",
            &format!("bs={size}"),
            "count=1",
        ])
        .code
    };
    assert_eq!(take("16M"), 0);
    assert_eq!(take("200M"), 137);
    // It is written down which it was.
    let events = || -> Vec<serde_json::Value> {
        let told = host.ok(["log", "web01", "-j"]);
        let all = told.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        all.filter(|event| event["event"] == "out-of-memory").collect()
    };
    host.wait_until("what was killed is in the log", || !events().is_empty());
    let event = events().remove(0);
    assert_eq!((&event["kills"], &event["operation"]), (&1.into(), &"out-of-memory".into()), "{event}");
    if std::fs::File::open("/dev/kmsg").is_ok() {
        let killed = &event["processes"][0];
        assert_eq!(killed["name"], "dd", "{event}");
        assert!(killed["pid"].as_i64().unwrap() > 1 && killed["bytes"].as_u64().is_some(), "{event}");
        let told = host.ok(["log", "web01"]);
        assert!(told.contains("killed for want of memory: dd (pid "), "{told}");
    }
    let counts: serde_json::Value = serde_json::from_str(&host.ok(["statistics", "web01", "-j"])).unwrap();
    assert_eq!(counts[0]["mem.kills"], 1, "{counts}");
    let facts: serde_json::Value = serde_json::from_str(&host.ok(["list", "-i", "web01", "-j"])).unwrap();
    assert_eq!(facts[0]["Now"]["out_of_memory_kills"], 1, "{facts}");
    // The last operation is still the one that somebody has begun.
    assert!(!host.ok(["log", "web01", "--last"]).contains("want of memory"));
    assert_eq!(take("200M"), 137);
    host.wait_until("the second one, too", || events().len() == 2);
    assert_eq!(host.exec("web01", "echo alive"), "alive");
}

#[test]
fn root_a_limit_that_is_none_is_refused() {
    let Some(host) = new_host() else { return };
    for line in
        ["NUMPROC=\"many\"", "PHYSPAGES=\"0\"", "NUMPROC=\"4194305\"", "CPUS=\"0.5x\"", "CPUUNITS=\"1\""]
    {
        configure(&host, "NUMPROC=\"50\"\nPHYSPAGES=\"64M\"\nCPUS=\"1\"\nCPUUNITS=\"1000\"\n");
        configure(&host, &format!("{line}\n"));
        let key = line.split('=').next().unwrap();
        host.run(["start", "web01"]).failed(
            21,
            &["the configuration of `web01` cannot be used", key, "nothing was changed", "ve.conf"],
        );
    }
    assert_eq!(host.ok(["status", "web01"]), "CT web01 exist stopped\n");
}

#[test]
fn root_the_outermost_values_that_are_limits_start() {
    let Some(host) = new_host() else { return };
    for lines in [
        "NUMPROC=\"4194304\"\nPHYSPAGES=\"4503599627370495\"\nCPUS=\"65536\"\nCPUUNITS=\"500000\"\n",
        "NUMPROC=\"4\"\nPHYSPAGES=\"1M\"\nCPULIMIT=\"1\"\nCPUUNITS=\"8\"\n",
        "PHYSPAGES=\"100G\"\nSWAPPAGES=\"9223372036854771000K\"\nCPULIMIT=\"6553600\"\n",
    ] {
        configure(&host, lines);
        host.ok(["start", "web01"]);
        host.ok(["stop", "web01", "--kill"]);
    }
}

#[test]
fn root_a_damaged_ve_conf_is_told_and_changes_nothing() {
    let Some(host) = new_host() else { return };
    let path = format!("{}/ve.conf", area(&host));
    let text = std::fs::read_to_string(host.path(&path)).unwrap();
    host.write(&path, &format!("{text}DESCRIPTION=\"never closed\n"), 0o644);
    host.run(["start", "web01"]).failed(
        85,
        &[
            "cannot be used",
            "ve.conf` is damaged in line",
            "nothing was changed",
            "hint: correct that file in an editor",
        ],
    );
    assert_eq!(host.run(["list", "-a"]).code, 0);
    host.write(&path, &text, 0o644);
    host.ok(["start", "web01"]);
}

#[test]
fn root_each_container_has_a_loopback_of_its_own_and_nothing_else() {
    let Some(host) = new_host() else { return };
    host.ok(["start", "web01"]);
    host.started("web02");
    host.exec("web01", "ping -c1 127.0.0.1; ping -c1 -6 ::1");
    let links = host.exec("web01", "ip -o link show up | cut -d: -f2");
    assert_eq!(links.trim(), "lo");
    // A listener of one is not the other's, nor the host's.
    host.exec("web01", "nc -l -p 4711 127.0.0.1 >/dev/null 2>&1 </dev/null &");
    let listens =
        |name: &str| host.run(["exec", name, "grep -q :1267 /proc/net/tcp /proc/net/tcp6"]).code == 0;
    host.wait_until("it listens", || listens("web01"));
    assert!(!listens("web02"));
}

#[test]
fn root_hostname_hosts_and_resolver_are_set() {
    let Some(host) = new_host() else { return };
    configure(
        &host,
        "HOSTNAME=\"shop.example.com\"\nNAMESERVER=\"192.0.2.1 2001:db8::1\"\nSEARCHDOMAIN=\"example.com\"\n",
    );
    host.ok(["start", "web01"]);
    assert_eq!(host.exec("web01", "hostname; cat /etc/hostname"), "shop.example.com\nshop.example.com");
    assert_eq!(
        host.exec("web01", "cat /etc/resolv.conf"),
        "search example.com\nnameserver 192.0.2.1\nnameserver 2001:db8::1"
    );
    host.exec("web01", "ping -c1 shop.example.com");
    assert_eq!(
        host.exec("web01", "stat -c '%u:%g %a' /etc/hosts /etc/resolv.conf /etc/hostname"),
        "0:0 644\n0:0 644\n0:0 644"
    );
    // Once, not at every start; what the administrator wrote stays.
    host.exec("web01", "echo 192.0.2.9 db >> /etc/hosts");
    host.ok(["restart", "web01"]);
    assert_eq!(
        host.exec("web01", "grep -c shop.example.com /etc/hosts; grep -c 192.0.2.9 /etc/hosts"),
        "1\n1"
    );
    // Another name takes the place of the one that a start has written, and of nothing else.
    host.exec("web01", "echo 192.0.2.7 shop.example.com >> /etc/hosts");
    configure(&host, "HOSTNAME=\"depot\"\n");
    host.ok(["restart", "web01"]);
    assert_eq!(
        host.exec("web01", "grep -v localhost /etc/hosts"),
        "192.0.2.9 db\n192.0.2.7 shop.example.com\n127.0.1.1\tdepot\t# prlctl"
    );
    // Without a key: named after the container, and its resolver is its own.
    host.started("Web_02");
    assert_eq!(host.exec("Web_02", "hostname"), "web-02");
}

#[test]
fn root_no_file_of_the_host_is_written_through_a_link() {
    let Some(host) = new_host() else { return };
    configure(&host, "NAMESERVER=\"192.0.2.1\"\n");
    host.ok(["start", "web01"]);
    for file in ["hosts", "hostname", "resolv.conf"] {
        host.write(&format!("victim/{file}"), "the host's\n", 0o666);
    }
    let victim = host.path("victim");
    let untouched = || {
        for file in ["hosts", "hostname", "resolv.conf"] {
            assert_eq!(std::fs::read_to_string(victim.join(file)).unwrap(), "the host's\n", "{file}");
        }
        assert_eq!(std::fs::read_dir(&victim).unwrap().count(), 3);
    };
    // All of /etc, absolute and by way of the parents of the root.
    for target in [victim.display().to_string(), format!("../../../../../../../../..{}", victim.display())] {
        host.exec("web01", &format!("test -e /etc.own || mv /etc /etc.own; rm -f /etc; ln -s {target} /etc"));
        host.ok(["stop", "web01"]);
        let ran = host.run(["start", "web01"]);
        assert_eq!(ran.code, 0, "{ran}");
        assert!(ran.stderr.contains("/etc/hosts in the container is left as it is"), "{ran}");
        untouched();
    }
    // Single files, and one that nobody ever answers on.
    host.exec("web01", &format!("rm /etc; mv /etc.own /etc; rm /etc/hosts /etc/hostname /etc/resolv.conf; mkfifo /etc/hosts; ln -s {0}/hostname /etc/hostname; ln -s ../../../../../../../../..{0}/resolv.conf /etc/resolv.conf", victim.display()));
    host.ok(["stop", "web01"]);
    let ran = host.run(["start", "web01"]);
    assert_eq!(ran.code, 0, "{ran}");
    assert!(ran.stderr.contains("/etc/hosts in the container is left as it is"), "{ran}");
    assert_eq!(host.exec("web01", "test -p /etc/hosts && hostname"), "web01");
    untouched();
}

#[test]
fn root_every_container_has_ids_of_its_own() {
    let Some(host) = new_host() else { return };
    host.ok(["start", "web01"]);
    host.started("web02");
    let range = |name: &str, file: &str| -> Vec<u64> {
        let text = std::fs::read_to_string(format!("/proc/{}/{file}", init(&host, name))).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        text.split_whitespace().map(|number| number.parse().unwrap()).collect()
    };
    let (one, two) = (range("web01", "uid_map"), range("web02", "uid_map"));
    assert_eq!(range("web01", "gid_map"), one);
    for range in [&one, &two] {
        assert_eq!((range[0], range[2]), (0, 65_536));
        assert!(range[1] >= 1_879_048_192, "{range:?}");
    }
    assert!(one[1].abs_diff(two[1]) >= 65_536, "{one:?} {two:?}");
    // Seen from the host its root is nobody that owns anything there; on disk it is 0.
    use std::os::unix::fs::MetadataExt;
    assert_eq!(
        u64::from(std::fs::metadata(format!("/proc/{}", init(&host, "web01"))).unwrap().uid()),
        one[1]
    );
    host.exec("web01", "touch /root/file");
    assert_eq!(std::fs::metadata(host.path(&area(&host)).join("live/delta/root/file")).unwrap().uid(), 0);
    // The kernel refuses what would reach the host.
    for line in [
        "mknod /root/disk b 8 0",
        "mount -o remount,rw /sys",
        "echo 1 > /proc/sysrq-trigger",
        "dmesg -c",
        "hwclock -w",
    ] {
        assert_ne!(host.run(["exec", "web01", line]).code, 0, "{line}");
    }
}

/// Where four that compute have been run, by what the kernel tells each of them.
fn processors_used(host: &RealHost) -> Vec<String> {
    let told = host.exec(
        "web01",
        "for n in 1 2 3 4; do (i=0; while [ $i -lt 100 ]; do cut -d' ' -f39 /proc/self/stat; i=$((i+1)); done) & done; wait",
    );
    let mut used: Vec<String> = told.lines().map(str::to_owned).collect();
    assert_eq!(used.len(), 400, "{told}");
    used.sort();
    used.dedup();
    used
}

#[test]
fn root_a_load_on_all_processors_is_run_on_those_of_its_mask_only() {
    let Some(host) = new_host() else { return };
    host.ok(["start", "web01"]);
    if processors_used(&host).len() < 2 {
        let because = "this host has one processor, and a mask leaves no other out";
        return testkit::real_host::not_run_here(env!("CARGO_BIN_EXE_prlctl").as_ref(), because);
    }
    for mask in ["0", "1"] {
        host.ok(["set", "web01", "--cpumask", mask]);
        assert_eq!(processors_used(&host), [mask]);
    }
    host.ok(["restart", "web01"]);
    assert_eq!(processors_used(&host), ["1"]);
    host.ok(["set", "web01", "--cpumask", "all"]);
    assert!(processors_used(&host).len() > 1);
}

/// Both on one processor, so that they want the same one: what each has got of it is as 1 to 4, however much of it others take.
#[test]
fn root_two_that_compute_share_a_processor_as_their_units_say() {
    let Some(host) = new_host() else { return };
    host.ok(["create", "web02", "--ostemplate", "busybox"]);
    let spin = |(name, units)| {
        host.ok(["set", name, "--cpuunits", units, "--cpumask", "0"]);
        host.ok(["start", name]);
        host.exec(name, "while :; do :; done >/dev/null 2>&1 </dev/null & echo $!").trim().to_owned()
    };
    let [light, heavy] = [("web01", "1000"), ("web02", "4000")].map(spin);
    // utime, in hundredths of a second.
    let used = |name: &str, pid: &str| -> u64 {
        let told = host.exec(name, &format!("cut -d' ' -f14 /proc/{pid}/stat"));
        told.trim().parse().unwrap()
    };
    let both = || (used("web01", &light), used("web02", &heavy));
    let before = both();
    let mut got = (0, 0);
    host.wait_until("they have computed for three seconds", || {
        let now = both();
        got = (now.0 - before.0, now.1 - before.1);
        got.0 + got.1 >= 300
    });
    assert!(got.0 * 5 / 2 <= got.1 && got.1 <= got.0 * 6, "{got:?}");
}
