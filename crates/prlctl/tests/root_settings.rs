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
    // It may end before what it has been told by.
    host.run(["exec", "web01", "reboot"]);
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

/// The last line of a key in its `ve.conf`, as an editor would add it.
fn edit(host: &RealHost, lines: &str) {
    let path = host.area("web01").join("ve.conf");
    let below = path.strip_prefix(host.prefix()).expect("it is below").to_string_lossy().into_owned();
    let text = std::fs::read_to_string(&path).expect("it can be read") + lines;
    host.write(&below, &text, 0o600);
}

#[test]
fn root_what_vz_conf_says_holds_for_whoever_says_nothing_of_it() {
    let Some(host) = RealHost::new(PROGRAM) else { return };
    let lines = "ONBOOT=\"yes\"\nNAMESERVER=\"192.0.2.7\"\nSEARCHDOMAIN=\"example.org\"\nFEATURES=\"tun:off\"\nLOCKDIR=\"/vz/lock\"\n";
    host.write("etc/vz/vz.conf", lines, 0o644);
    host.ok(["create", "web01", "--ostemplate", "busybox"]);
    host.ok(["create", "web02", "--ostemplate", "busybox", "--onboot", "no", "--nameserver", "192.0.2.8"]);
    assert!(!conf(&host).contains("ONBOOT"), "{}", conf(&host));
    let known = facts(&host);
    for (key, value) in [
        ("Autostart", "on"),
        ("DNS Servers", "192.0.2.7"),
        ("Search Domains", "example.org"),
        ("Features", "tun:off"),
    ] {
        assert_eq!(known[key], value, "{key}");
    }
    host.ok(["recover", "--boot"]);
    assert_eq!(host.ok(["list", "-H", "-o", "name"]).trim(), "web01");
    assert_eq!(host.exec("web01", "cat /etc/resolv.conf"), "search example.org\nnameserver 192.0.2.7");
    // What is added to its features is added to those that it had.
    host.ok(["set", "web01", "--features", "fuse:off"]);
    assert!(conf(&host).contains("FEATURES=\"tun:off fuse:off\""), "{}", conf(&host));
    host.ok(["start", "web02"]);
    assert_eq!(
        host.exec("web02", "cat /etc/resolv.conf"),
        "search example.org\nnameserver 192.0.2.8",
        "each key by itself"
    );
    let told: Value = serde_json::from_str(&host.run(["info", "-j"]).stdout).expect("a document");
    assert_eq!(told["configuration"]["not_obeyed"], serde_json::json!(["LOCKDIR"]), "{told}");
    assert!(host.run(["info"]).stdout.contains("vz.conf: LOCKDIR\n"));
}

#[test]
fn root_a_bad_value_in_vz_conf_keeps_no_container_from_anything() {
    let Some(host) = RealHost::new(PROGRAM) else { return };
    host.ok(["create", "web01", "--ostemplate", "busybox", "--memsize", "64"]);
    host.ok(["start", "web01"]);
    let usual = now(&host, "processes");
    host.ok(["stop", "web01", "--kill"]);
    for (line, said) in [
        ("NUMPROC=\"junk\"", "a number of processes from 1"),
        ("NUMPROC=\"2\"", "4 processes or more"),
        ("PHYSPAGES=\"-1\"", "pages of 4 KiB"),
        ("CPUUNITS=\"$(reboot)\"", "a weight from 8"),
        ("DISKSPACE=\"much\"", "blocks of 1 KiB"),
        ("RATE=\"fast\"", "kilobits a second"),
        ("NAMESERVER=\"x;y\"", "addresses of name servers"),
        ("RESTART=\"always\"", "no or on-crash"),
    ] {
        host.write("etc/vz/vz.conf", &format!("{line}\n"), 0o644);
        for words in [
            &["start", "web01"][..],
            &["set", "web01", "--cpus", "1"],
            &["create", "web02", "--ostemplate", "busybox"],
        ] {
            let ran = host.run(words);
            assert_eq!(ran.code, 0, "{line}: {ran}");
            let key = line.split('=').next().expect("a key");
            let warning = ran.stderr.lines().find(|line| line.contains(&format!("`{key}` in ")));
            let warning = warning.unwrap_or_else(|| panic!("{line} is told by {words:?}\n{ran}"));
            assert!(warning.contains("etc/vz/vz.conf") && warning.contains(said), "{warning}");
            assert!(!ran.stderr.contains("ve.conf"), "{ran}");
        }
        assert_eq!(now(&host, "processes"), usual, "{line}");
        assert!(host.run(["info"]).stdout.contains(said), "{line}");
        host.ok(["stop", "web01", "--kill"]);
        host.ok(["delete", "web02"]);
    }
    // What is the container's own is refused as ever, with its own file.
    edit(&host, "NUMPROC=\"junk\"\n");
    host.run(["start", "web01"]).failed(21, &["NUMPROC=junk", "ve.conf", "nothing was changed"]);
}

#[test]
fn root_swap_without_a_limit_of_memory_is_said_where_it_cannot_be() {
    let Some(host) = with_settings(&["--memsize", "64", "--swap", "32"]) else { return };
    let set = ["set", "web01", "--memsize", "unlimited", "--swap", "100M"];
    if std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        host.ok(set);
        assert_eq!(now(&host, "swap"), "100Mb");
        return;
    }
    host.run(set).failed(5, &["`--swap` cannot be enforced", "cgroup v1", "nothing was changed"]);
    assert_eq!((now(&host, "memory"), now(&host, "swap")), ("64Mb".to_owned(), "32Mb".to_owned()));
    // What was said before, or stands in the file, is told.
    let ran = host.run(["set", "web01", "--memsize", "unlimited"]);
    assert!(ran.code == 0 && ran.stderr.contains("`SWAPPAGES` is not enforced: cgroup v1"), "{ran}");
    let ran = host.run(["restart", "web01"]);
    assert!(ran.code == 0 && ran.stderr.contains("SWAPPAGES"), "{ran}");
}

#[test]
fn root_what_a_ve_conf_says_and_cannot_be_is_told_and_reaches_no_file_inside() {
    let Some(host) = RealHost::new(PROGRAM) else { return };
    host.ok(["create", "web01", "--ostemplate", "busybox"]);
    edit(
        &host,
        "NAMESERVER=\"192.0.2.1 x;y\"\nSEARCHDOMAIN='$(id) example.org'\nTEMPLATE=\"perhaps\"\nRATEBOUND=\"maybe\"\n",
    );
    let told = host.ok(["info", "web01"]);
    let ran = host.run(["start", "web01"]);
    assert_eq!(ran.code, 0, "{ran}");
    for said in [
        "`NAMESERVER` is `192.0.2.1 x;y`, not addresses of name servers",
        "`SEARCHDOMAIN` is `$(id) example.org`, not domains",
        "`TEMPLATE` is `perhaps`, not yes or no",
        "`RATEBOUND` is `maybe`, not yes or no",
    ] {
        assert!(told.contains(said), "info does not say `{said}`\n{told}");
        assert!(ran.stderr.contains(said) && ran.stderr.contains("ve.conf"), "no `{said}`\n{ran}");
    }
    assert_eq!(host.exec("web01", "cat /etc/resolv.conf"), "search example.org\nnameserver 192.0.2.1");
}

#[test]
fn root_what_is_out_of_range_says_the_range_in_the_units_of_the_option() {
    let Some(host) = RealHost::new(PROGRAM) else { return };
    host.ok(["create", "web01", "--ostemplate", "busybox"]);
    let before = conf(&host);
    for (option, value, said) in [
        ("--numproc", "-1", "a number of processes from 1 to 4194304"),
        ("--memsize", "-1", "MiB from 1 to 8796093022207"),
        ("--memsize", "-1G", "MiB from 1 to"),
        ("--memsize", "0", "MiB from 1 to"),
        ("--memsize", "99999999999999999999", "MiB from 1 to"),
        ("--swap", "-1", "MiB from 0 to"),
        ("--physpages", "", "pages of 4 KiB from 1 on"),
        ("--swappages", "", "pages of 4 KiB from 0 on"),
        ("--memguarantee", "", "percent of the memory from 0 to 100"),
        ("--cpus", "-1", "a number of cores up to 65536"),
        ("--cpus", "70000", "a number of cores up to 65536"),
        ("--cpulimit", "99999999", "percent of one core up to 6553600"),
        ("--cpuunits", "-1", "a weight from 8 to 500000"),
        ("--ioprio", "-1", "a priority from 0 to 7"),
        ("--iolimit", "99999999999999999999", "MiB a second up to"),
        ("--iopslimit", "", "operations a second, up to 4294967295"),
        ("--bootorder", "-5", "a number from 0 to 4294967295"),
        ("--diskspace", "-1", "blocks of 1 KiB from 1 on"),
        ("--diskinodes", "", "a number of inodes from 1 on"),
    ] {
        host.run(["set", "web01", option, value]).failed(21, &[option, said, "nothing was changed"]);
        assert_eq!(conf(&host), before, "{option} {value}");
    }
    for size in ["-5", "0"] {
        host.run(["set", "web01", "--device-add", "hdd", "--size", size, "--mnt", "/data"])
            .failed(21, &["from 32 MiB to 16 TiB", "nothing was changed"]);
    }
}

#[test]
fn root_inodes_that_a_disk_cannot_have_are_refused_by_hand_and_told_of_a_sample() {
    let Some(host) = RealHost::new(PROGRAM) else { return };
    let words = ["create", "web01", "--ostemplate", "busybox", "--volume", "image", "--diskspace", "64M"];
    for count in ["4000000", "63", "16385"] {
        host.run([&words[..], &["--diskinodes", count]].concat())
            .failed(21, &["`--diskinodes` cannot be used", "from 64 to 16384 inodes", "nothing was changed"]);
    }
    assert!(!host.ok(["list", "-a"]).contains("web01"));
    host.write("etc/vz/conf/ve-many.conf-sample", "DISKINODES=\"4000000\"\n", 0o644);
    let ran = host.run([&words[..], &["--config", "many"]].concat());
    assert!(ran.code == 0 && ran.stderr.contains("`DISKINODES` is 4000000, and it gets 16384"), "{ran}");
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
