//! `prlctl set`, `prlctl create` with settings, and what of it the kernel enforces.

use std::time::{Duration, Instant};

use serde_json::Value;
use testkit::RealHost;
use testkit::real_host::not_run_here;

const PROGRAM: &str = env!("CARGO_BIN_EXE_prlctl");

/// A busybox that runs, made with settings.
fn with_settings(settings: &[&str]) -> Option<RealHost> {
    let host = RealHost::new(PROGRAM)?;
    host.ok([&["create", "web01", "--ostemplate", "busybox"], settings].concat());
    host.ok(["start", "web01"]);
    Some(host)
}

/// `prlctl list -i -j` of the container.
fn facts(host: &RealHost) -> Value {
    let found: Value = serde_json::from_str(&host.ok(["list", "-i", "-j", "web01"])).expect("a document");
    found[0].clone()
}

fn now(host: &RealHost, key: &str) -> String {
    let facts = facts(host);
    let value = &facts["Now"][key];
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn conf(host: &RealHost) -> String {
    std::fs::read_to_string(host.area("web01").join("ve.conf")).expect("it can be read")
}

#[test]
fn root_settings_hold_at_once_and_after_a_reboot_and_a_restart() {
    let Some(host) = with_settings(&["--memsize", "64", "--numproc", "60", "--cpus", "1"]) else { return };
    assert_eq!((now(&host, "memory"), now(&host, "processes")), ("64Mb".to_owned(), "60".to_owned()));
    let set = [
        "set",
        "web01",
        "--memsize",
        "96M",
        "--swap",
        "32",
        "--numproc",
        "80",
        "--cpulimit",
        "50",
        "--cpumask",
        "0",
    ];
    let said =
        host.ok([&set[..], &["--hostname", "other.example.org", "--description", "the \"shop\""]].concat());
    assert_eq!(said, "The CT has been successfully configured.\n");
    let holds = |when: &str| {
        let values = ["memory", "swap", "processes"].map(|key| now(&host, key));
        assert_eq!(values, ["96Mb", "32Mb", "80"], "{when}");
        assert_eq!(now(&host, "cpu"), "cpus=0.50 cpuunits=1000 mask=0 nodemask=0", "{when}");
        assert_eq!(host.exec("web01", "hostname"), "other.example.org", "{when}");
    };
    holds("at once");
    let text = conf(&host);
    for line in [
        "PHYSPAGES=\"24576:24576\"",
        "SWAPPAGES=\"8192:8192\"",
        "NUMPROC=\"80\"",
        "CPULIMIT=\"50\"",
        "DESCRIPTION=\"the \\\"shop\\\"\"",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
    let init = facts(&host)["Init"].clone();
    host.exec("web01", "reboot");
    host.wait_until("it has rebooted", || {
        let found = facts(&host);
        found["State"] == "running" && found["Init"] != init && found["Now"]["memory"] == "96Mb"
    });
    holds("after a reboot");
    host.ok(["restart", "web01"]);
    holds("after a restart");
    // And back to none.
    let words = [
        "--memsize",
        "unlimited",
        "--swap",
        "unlimited",
        "--numproc",
        "unlimited",
        "--cpulimit",
        "0",
        "--cpus",
        "0",
        "--cpumask",
        "all",
    ];
    host.ok([&["set", "web01"], &words[..]].concat());
    assert_eq!(["memory", "swap", "processes"].map(|key| now(&host, key)), ["unlimited"; 3]);
    assert!(now(&host, "cpu").starts_with("cpus=unlimited"), "{}", now(&host, "cpu"));
}

#[test]
fn root_megahertz_are_a_share_of_a_processor() {
    let Some(host) = with_settings(&["--cpulimit", "50"]) else { return };
    let hundredths = |host: &RealHost| -> f64 {
        let cpu = now(host, "cpu");
        cpu.strip_prefix("cpus=").and_then(|text| text.split(' ').next()?.parse().ok()).unwrap()
    };
    let is_told = std::fs::read_to_string("/sys/devices/system/cpu/cpu0/cpufreq/base_frequency").is_ok()
        || std::fs::read_to_string("/proc/cpuinfo").is_ok_and(|text| text.contains("cpu MHz"));
    if !is_told {
        host.run(["set", "web01", "--cpulimit", "500m"]).failed(21, &["does not tell how fast"]);
        return;
    }
    host.ok(["set", "web01", "--cpulimit", "500m"]);
    let one = hundredths(&host);
    let text = conf(&host);
    assert!(text.contains("CPULIMIT_MHZ=\"500\"\n") && !text.contains("CPULIMIT=\""), "{text}");
    assert!(
        host.ok(["info", "web01"])
            .lines()
            .any(|line| line.contains("obeyed ") && line.contains("CPULIMIT_MHZ"))
    );
    // Any processor has between 500 MHz and 10 GHz.
    assert!((0.05..=1.0).contains(&one), "{one}");
    host.ok(["set", "web01", "--cpulimit", "1000m"]);
    assert!((hundredths(&host) - 2.0 * one).abs() <= 0.011, "{one} {}", hundredths(&host));
    host.ok(["restart", "web01"]);
    assert!((hundredths(&host) - 2.0 * one).abs() <= 0.011);
    host.ok(["set", "web01", "--cpulimit", "30"]);
    assert!(!conf(&host).contains("MHZ"), "{}", conf(&host));
    assert!((hundredths(&host) - 0.3).abs() < 0.001);
    host.run(["set", "web01", "--cpulimit", "5mm"])
        .failed(21, &["wanted MHz of one core", "nothing was changed"]);
}

#[test]
fn root_settings_are_all_set_or_none() {
    let Some(host) = with_settings(&["--memsize", "64", "--numproc", "60"]) else { return };
    let before = (conf(&host), facts(&host)["Now"]["processes"].clone());
    let unchanged = || assert_eq!((conf(&host), facts(&host)["Now"]["processes"].clone()), before);
    for (words, code, said) in [
        (&["--numproc", "70", "--cpuunits", "7"][..], 21, "`--cpuunits 7` cannot be used"),
        (&["--numproc", "70", "--memsize", "0"], 21, "`--memsize 0` cannot be used"),
        (&["--numproc", "2"], 21, "not even an init and a shell could run"),
        (&["--numproc", "70", "--cpumask", "4000"], 5, "this host has the processors 0"),
        (&["--numproc", "70", "--memsize", "64", "--physpages", "100"], 20, "cannot be used"),
        (&["--applyconfig", "no-such-sample"], 82, "`no-such-sample` cannot be used"),
        (&["--numproc", "70", "--name", ".x"], 137, "wanted a name"),
        (&[], 20, "nothing is to be set"),
    ] {
        host.run([&["set", "web01"], words].concat()).failed(code, &[said, "nothing was changed"]);
        unchanged();
    }
    // What the kernel refuses is taken back: so much is in use.
    host.exec("web01", "dd if=/dev/zero of=/dev/shm/full bs=1M count=32 2>/dev/null");
    host.run(["set", "web01", "--numproc", "70", "--memsize", "8"])
        .failed(21, &["cannot set `web01`", "nothing was changed"]);
    unchanged();
    assert_eq!(now(&host, "memory"), "64Mb");
}

#[test]
fn root_a_container_gets_another_name() {
    let Some(host) = with_settings(&[]) else { return };
    host.ok(["create", "web02", "--ostemplate", "busybox"]);
    host.run(["set", "web01", "--name", "web02"])
        .failed(137, &["the name `web02` is taken", "nothing was changed"]);
    host.ok(["set", "web01", "--name", "Shop 1"]);
    assert!(host.ok(["status", "Shop 1"]).contains("running"));
    host.run(["start", "web01"]).failed(14, &["web01"]);
    host.ok(["set", "Shop 1", "--name", "web01"]);
    assert!(host.ok(["status", "web01"]).contains("running"));
}

#[test]
fn root_samples_and_samples_on_top() {
    let Some(host) = RealHost::new(PROGRAM) else { return };
    host.write(
        "etc/vz/conf/ve-small.conf-sample",
        "VERSION=\"2\"\nVEID=\"777\"\nUUID=\"0c9e5a0e-4f3c-4d2a-9d6b-3f0a5b1c7e42\"\nDISTRIBUTION=\"other\"\n\
         PHYSPAGES=\"16384:16384\"\nNUMPROC=\"50\"\nHOSTNAME=\"sample\"\nKMEMSIZE=\"1:2\"\n",
        0o644,
    );
    host.ok(["create", "web01", "--ostemplate", "busybox", "--numproc", "70"]);
    host.ok(["set", "web01", "--applyconfig", "small", "--cpus", "1"]);
    let text = conf(&host);
    for line in [
        "PHYSPAGES=\"16384:16384\"",
        "NUMPROC=\"50\"",
        "CPUS=\"1\"",
        "ORIGIN_SAMPLE=\"small\"",
        "NAME=\"web01\"",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
    // A copy of another's ve.conf makes nobody that other one, whom `destroy 777` would have meant.
    for own in ["HOSTNAME", "777", "0c9e5a0e", "\"other\""] {
        assert!(!text.contains(own), "{own} is the container's own\n{text}");
    }
    // What has no meaning here is kept, and told when somebody asks.
    let told = host.ok(["info", "web01"]);
    assert!(told.contains("without meaning here         KMEMSIZE"), "{told}");
    assert!(text.contains("KMEMSIZE=\"1:2\""), "{text}");
}

#[test]
fn root_processes_memory_and_processors_are_limited_while_it_runs() {
    let Some(host) = with_settings(&[]) else { return };
    host.ok(["set", "web01", "--numproc", "30", "--memsize", "32", "--swap", "0", "--cpulimit", "20"]);
    let ran = host.run(["exec", "web01", "for i in $(seq 60); do sleep 100 >/dev/null 2>&1 & done"]);
    assert!(ran.stderr.contains("can't fork"), "{ran}");
    // Fewer than there are: nobody gets in any more, until there is room.
    host.ok(["set", "web01", "--numproc", "10"]);
    host.run(["exec", "web01", "true"]).failed(3, &["it may be at its limit of processes or memory"]);
    host.ok(["set", "web01", "--numproc", "60"]);
    host.exec("web01", "killall sleep");
    host.run(["exec", "web01", "dd if=/dev/zero of=/dev/shm/full bs=1M count=64"]);
    let kills = facts(&host)["Now"]["out_of_memory_kills"].as_u64();
    assert!(kills.is_some_and(|kills| kills > 0), "{}", facts(&host));
    // More than a fifth of a core cannot be had in any time; without the limit all of it would be a whole one's.
    let began = Instant::now();
    let used = host.exec(
        "web01",
        "used() { awk '{print $14+$15}' /proc/$$/stat; }\n\
         while [ \"$(used)\" -lt 60 ]; do i=0; while [ $i -lt 5000 ]; do i=$((i+1)); done; done; used",
    );
    let used = Duration::from_millis(used.trim().parse::<u64>().expect("ticks") * 10);
    let elapsed = began.elapsed();
    assert!(used <= elapsed / 5 + Duration::from_millis(120), "{used:?} of {elapsed:?}");
}

#[test]
fn root_a_disk_is_limited() {
    let Some(host) = with_settings(&[]) else { return };
    let ran = host.run(["set", "web01", "--iolimit", "1"]);
    if ran.code == 5 {
        ran.failed(5, &["`--iolimit` cannot be enforced"]);
        not_run_here(PROGRAM.as_ref(), "what lies below has no one disk, or this kernel limits none");
        return;
    }
    assert_eq!(ran.code, 0, "{ran}");
    assert!(now(&host, "disk").contains("iolimit=1048576"));
    let began = Instant::now();
    let ran = host.run(["exec", "web01", "dd if=/dev/zero of=/x bs=64k count=32 oflag=direct"]);
    assert_eq!(ran.code, 0, "{ran}");
    assert!(
        began.elapsed() >= Duration::from_millis(1000),
        "2 MiB at 1 MiB a second took {:?}",
        began.elapsed()
    );
    host.ok(["set", "web01", "--iolimit", "0"]);
    assert!(now(&host, "disk").contains("iolimit=unlimited"));
}

/// Its disk is a file on the host's, which the kernel reads and writes for it; what that takes is counted as its own, and once.
#[test]
fn root_a_disk_of_its_own_is_limited_too() {
    let Some(host) = with_settings(&["--volume", "image", "--diskspace", "64M"]) else { return };
    host.exec("web01", "dd if=/dev/zero of=/x bs=64k count=32 oflag=direct 2>/dev/null");
    let ran = host.run(["set", "web01", "--iolimit", "1"]);
    if ran.code == 5 {
        ran.failed(5, &["`--iolimit` cannot be enforced"]);
        not_run_here(PROGRAM.as_ref(), "what lies below has no one disk, or this kernel limits none");
        return;
    }
    assert_eq!(ran.code, 0, "{ran}");
    let slow = |line: &str| {
        let began = Instant::now();
        host.exec("web01", line);
        assert!(began.elapsed() >= Duration::from_millis(1000), "{line}: {:?}", began.elapsed());
    };
    slow("dd if=/x of=/dev/null bs=64k count=32 iflag=direct");
    slow("dd if=/dev/zero of=/x bs=64k count=32 oflag=direct conv=notrunc");
    host.ok(["set", "web01", "--iolimit", "0", "--iopslimit", "20"]);
    slow("dd if=/x of=/dev/null bs=4k count=40 iflag=direct");
    slow("dd if=/dev/zero of=/x bs=4k count=40 oflag=direct conv=notrunc");
}
