//! The words of legacy OpenVZ: `vzctl` and `vzlist`, their lines and codes, and containers that are known by numbers.

use std::ffi::OsStr;

use testkit::{Ran, RealHost};

fn host() -> Option<RealHost> {
    RealHost::new(env!("CARGO_BIN_EXE_prlctl"))
}

fn vzctl<Word: AsRef<OsStr>>(host: &RealHost, words: impl IntoIterator<Item = Word>) -> Ran {
    Ran::of(host.vzctl().args(words).output().expect("run vzctl"))
}

fn said<Word: AsRef<OsStr>>(host: &RealHost, words: impl IntoIterator<Item = Word>) -> String {
    let ran = vzctl(host, words);
    assert_eq!(ran.code, 0, "{ran}");
    ran.stdout
}

fn vzlist(host: &RealHost, words: &[&str]) -> Ran {
    Ran::of(host.vzlist().args(words).output().expect("run vzlist"))
}

#[test]
fn root_a_life_in_the_words_of_openvz() {
    let Some(host) = host() else { return };
    assert_eq!(said(&host, ["status", "101"]), "VEID 101 deleted unmounted down\n");
    let words = [
        "create",
        "101",
        "--ostemplate",
        "busybox",
        "--hostname",
        "one.example.com",
        "--private",
        "/vz/private/101",
    ];
    assert_eq!(
        said(&host, words),
        "Creating Container private area (busybox)\nContainer private area was created\n"
    );
    assert_eq!(said(&host, ["status", "101"]), "VEID 101 exist unmounted down\n");
    assert_eq!(said(&host, ["mount", "101"]), "Container is mounted\n");
    assert_eq!(said(&host, ["status", "101"]), "VEID 101 exist mounted down\n");
    assert_eq!(said(&host, ["umount", "101"]), "Container is unmounted\n");
    assert_eq!(
        said(&host, ["start", "101", "--wait"]),
        "Starting Container ...\nContainer is mounted\nContainer start in progress...\n"
    );
    assert_eq!(said(&host, ["status", "101"]), "VEID 101 exist mounted running\n");
    vzctl(&host, ["start", "101"]).failed(32, &["it runs already"]);
    vzctl(&host, ["create", "101", "--ostemplate", "busybox"]).failed(137, &["taken"]);
    vzctl(&host, ["create", "150", "--layout", "floppy"]).failed(21, &["wanted ploop", "simfs"]);
    let words = [
        "create",
        "150",
        "--ostemplate",
        "busybox",
        "--layout",
        "ploop:expanded",
        "--diskspace",
        "65536:65536",
    ];
    assert_eq!(vzctl(&host, words).code, 0);
    assert_eq!(host.area("150").join("volume.img").metadata().unwrap().len(), 64 << 20);
    assert_eq!(vzctl(&host, ["destroy", "150"]).code, 0);
    vzctl(&host, ["create", "101", "--name", "other", "--ostemplate", "busybox"])
        .failed(44, &["the CTID 101 is taken"]);
    vzctl(&host, ["destroy", "101"]).failed(32, &["it runs"]);

    // The code of a command is lost with `exec`, and is kept with the others.
    assert_eq!(vzctl(&host, ["exec", "101", "exit", "3"]).code, 8);
    assert_eq!(vzctl(&host, ["exec2", "101", "exit", "3"]).code, 3);
    assert_eq!(said(&host, ["exec", "101", "echo", "$((1+1))"]), "2\n");
    assert_eq!(said(&host, ["exec3", "101", "/bin/echo", "-j", "$((1+1))"]), "-j $((1+1))\n");
    assert_eq!(said(&host, ["exec", "101", "hostname"]), "one.example.com\n");

    host.write("words", "echo in; exit 4\n", 0o600);
    let mut enter = host.vzctl();
    enter.args(["enter", "101"]).stdin(std::fs::File::open(host.path("words")).unwrap());
    let ran = Ran::of(enter.output().unwrap());
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (4, "entered into CT 101\nin\nexited from CT 101\n"),
        "{ran}"
    );

    let saved = said(&host, ["set", "101", "--name", "web01", "--ram", "268435456", "--save"]);
    assert_eq!(saved, "Saved parameters for Container 101\n");
    assert_eq!(said(&host, ["exec", "web01", "hostname"]), "one.example.com\n");
    assert!(host.ok(["list", "-i", "101"]).contains("256Mb"));

    host.exec("101", "echo mine > /root/file");
    assert_eq!(said(&host, ["reinstall", "101"]), "Container was successfully reinstalled\n");
    assert_eq!(host.exec("101", "cat /old/root/file"), "mine");
    assert_eq!(
        said(&host, ["restart", "101"]),
        "Restarting Container\nContainer is mounted\nContainer start in progress...\n"
    );
    // What is being done is told to those who ask.
    assert_eq!(vzctl(&host, ["umount", "101"]).stdout, "");
    let ran = vzctl(&host, ["--verbose", "restart", "101"]);
    assert!(ran.code == 0 && ran.stderr.contains("Stopping the CT..."), "{ran}");
    let ran = vzctl(&host, ["restart", "101", "--fast"]);
    assert!(ran.code == 0 && ran.stderr.is_empty(), "{ran}");
    assert_eq!(said(&host, ["--quiet", "stop", "101"]), "");
    vzctl(&host, ["enter", "101"]).failed(31, &["it does not run"]);
    vzctl(&host, ["stop", "101"]).failed(31, &["it does not run"]);
    vzctl(&host, ["exec", "101", "true"]).failed(31, &["it does not run"]);
    let area = host.area("web01");
    let destroyed = said(&host, ["destroy", "101"]);
    assert_eq!(
        destroyed,
        format!(
            "Destroying Container private area: {}\nContainer private area was destroyed\n",
            area.display()
        )
    );
    assert_eq!(said(&host, ["status", "101"]), "VEID 101 deleted unmounted down\n");
    assert!(
        std::fs::symlink_metadata(host.path("etc/vz/conf/101.conf")).is_err(),
        "its link is gone with it"
    );
    vzctl(&host, ["start", "101"]).failed(14, &["no container has that number"]);
}

#[test]
fn root_what_scripts_of_old_hosts_say_is_understood() {
    let Some(host) = host() else { return };
    let servers = ["--nameserver", "192.0.2.53,2001:db8::53", "--nameserver", "192.0.2.54"];
    let domains = ["--searchdomain", "a.example", "--searchdomain", "b.example, c.example"];
    let words = ["create", "101", "--ostemplate", "busybox-x86_64", "--skip_app_templates"];
    said(&host, words.into_iter().chain(servers).chain(domains));
    let conf = || std::fs::read_to_string(host.area("101").join("ve.conf")).unwrap();
    for line in [
        "NAMESERVER=\"192.0.2.53 2001:db8::53 192.0.2.54\"\n",
        "SEARCHDOMAIN=\"a.example b.example c.example\"\n",
        "OSTEMPLATE=\"busybox\"\n",
    ] {
        assert!(conf().contains(line), "{line}{}", conf());
    }
    let before = conf();
    for (option, words) in [
        ("--nameserver", ["192.0.2.1", "192.0.2.2;reboot"]),
        ("--nameserver", ["inherit", "192.0.2.1"]),
        ("--nameserver", ["192.0.2.1", "\u{1b}[2J"]),
        ("--searchdomain", ["a.example", "$(reboot)"]),
    ] {
        vzctl(&host, ["set", "101", option, words[0], option, words[1], "--save"])
            .failed(21, &["wanted", "state: nothing was changed"]);
    }
    assert_eq!(conf(), before);
    said(&host, ["set", "101", "--nameserver", "192.0.2.1", "--searchdomain", "", "--save"]);
    assert!(
        conf().contains("NAMESERVER=\"192.0.2.1\"\n") && conf().contains("SEARCHDOMAIN=\"\"\n"),
        "{}",
        conf()
    );

    let ran = vzctl(&host, ["start", "101", "--repair"]);
    assert!(ran.code == 0 && ran.stderr.matches("`--repair` means nothing here").count() == 1, "{ran}");
    let ran = vzctl(&host, ["enter", "101", "--exec", "echo", "in", "-x;", "exit", "5"]);
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (5, "entered into CT 101\nin -x\nexited from CT 101\n"),
        "{ran}"
    );
    vzctl(&host, ["enter", "101", "--exec"]).failed(21, &["--exec"]);
    let ran = vzctl(&host, ["stop", "101", "--skip-umount"]);
    assert!(ran.code == 0 && ran.stderr.matches("`--skip-umount` means nothing here").count() == 1, "{ran}");
    assert_eq!(ran.stdout, "Stopping Container ...\nContainer was stopped\nContainer is unmounted\n");
    assert_eq!(said(&host, ["status", "101"]), "VEID 101 exist unmounted down\n");
    vzctl(&host, ["enter", "101", "--exec", "true"]).failed(31, &["it does not run"]);

    // As OpenVZ names templates, wherever one is named.
    host.ok(["reinstall", "101", "--ostemplate", ".busybox-amd64"]);
    assert!(conf().contains("OSTEMPLATE=\"busybox\"\n"), "{}", conf());
    host.write("etc/vz/vz.conf", "DEF_OSTEMPLATE=\".busybox-x86\"\n", 0o644);
    host.ok(["create", "web02"]);
    for name in ["floppy-x86_64", "busybox-x86_65", "-x86_64", "busybox-x86_64@0123456789ab"] {
        let ran = vzctl(&host, ["create", "103", &format!("--ostemplate={name}")]);
        let said = name.split('@').next().unwrap_or_default();
        assert!(ran.code != 0 && ran.stderr.contains(said), "{name}: {ran}");
    }
    let ran = host.run(["start", "web02", "--repair"]);
    assert!(ran.code == 0 && ran.stderr.contains("prlctl reinstall web02"), "{ran}");
}

#[test]
fn root_what_is_not_saved_holds_until_the_next_start() {
    let Some(host) = host() else { return };
    said(&host, ["create", "101", "--ostemplate", "busybox"]);
    vzctl(&host, ["set", "101", "--numproc", "50"]).failed(31, &["it does not run", "--save"]);
    said(&host, ["start", "101"]);
    let processes = || {
        let json: serde_json::Value = serde_json::from_str(&host.ok(["list", "-i", "-j", "101"])).unwrap();
        (json[0]["Hardware"]["processes"].clone(), json[0]["Now"]["processes"].clone())
    };
    let before = processes();
    let ran = vzctl(&host, ["set", "101", "--numproc", "50"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (0, ""), "{ran}");
    assert!(ran.stderr.contains("WARNING: the settings are not saved"), "{ran}");
    assert_eq!(processes(), (before.0.clone(), serde_json::json!(50)));
    for (option, value, key) in [("--onboot", "yes", "ONBOOT"), ("--description", "x", "DESCRIPTION")] {
        vzctl(&host, ["set", "101", option, value]).failed(20, &[key, "--save"]);
    }
    vzctl(&host, ["set", "101", "--name", "web01"]).failed(20, &["NAME"]);
    vzctl(&host, ["set", "101", "--ipadd", "192.0.2.7"]).failed(20, &["IP_ADDRESS"]);
    said(&host, ["restart", "101"]);
    assert_eq!(processes(), before);
}

#[test]
fn root_numbers_are_names_and_nothing_else_is() {
    let Some(host) = host() else { return };
    for (number, because) in [
        ("0", "reserved"),
        ("100", "reserved"),
        ("2147483645", "the last one"),
        ("web01", "number"),
        ("0101", "plain"),
    ] {
        vzctl(&host, ["create", number, "--ostemplate", "busybox"]).failed(21, &[because]);
    }
    said(&host, ["create", "1015", "--ostemplate", "busybox", "--name", "shop"]);
    host.ok(["create", "web02", "--ctid", "2147483644", "--ostemplate", "busybox"]);
    for words in ["1015", "shop", "2147483644", "web02"] {
        assert!(host.ok(["status", words]).contains("exist stopped"), "{words}");
    }
    // Neither program takes 101 for 1015, or a start of a name for the name.
    host.run(["status", "101"]).failed(14, &["unknown container"]);
    vzctl(&host, ["start", "sho"]).failed(14, &["no container has that"]);
    host.run(["create", "1015", "--ostemplate", "busybox"]).failed(44, &["the CTID 1015 is taken"]);
    host.run(["set", "web02", "--name", "1015"]).failed(137, &["taken"]);

    // Where old scripts look, and what it says to a shell that reads it.
    let link = host.path("etc/vz/conf/1015.conf");
    assert_eq!(std::fs::read_link(&link).unwrap(), host.area("shop").join("ve.conf"));
    let conf = std::fs::read_to_string(&link).unwrap();
    let uuid = host.area("shop").file_name().unwrap().to_string_lossy().into_owned();
    for line in
        ["VEID=\"1015\"".to_owned(), format!("UUID=\"{uuid}\""), format!("VE_PRIVATE=\"/vz/private/{uuid}\"")]
    {
        assert!(conf.lines().any(|found| found == line), "{line}:\n{conf}");
    }

    // Scripts are told the number.
    host.script("etc/vz/conf/vps.configure", "#!/bin/sh\necho \"it is $VEID\" > /told\n");
    said(&host, ["start", "shop"]);
    said(&host, ["reinstall", "1015"]);
    assert_eq!(host.exec("shop", "cat /told"), "it is 1015");

    // An edited VEID is known at once, and the old one is nobody's.
    host.ok(["stop", "shop"]);
    host.write(&format!("vz/private/{uuid}/ve.conf"), &conf.replace("\"1015\"", "\"777\""), 0o600);
    assert!(host.ok(["status", "777"]).contains("exist"));
    host.ok(["start", "777"]);
    host.run(["status", "1015"]).failed(14, &["unknown container"]);
    assert_eq!(
        std::fs::read_link(host.path("etc/vz/conf/777.conf")).unwrap(),
        host.area("shop").join("ve.conf")
    );
    host.ok(["stop", "777", "--kill"]);
    host.ok(["recover", "shop"]);
    assert!(std::fs::symlink_metadata(&link).is_err(), "the old link is gone");
    host.ok(["delete", "777"]);
}

/// Puts another `VEID` into a container's `ve.conf`, as an editor would.
fn renumber(host: &RealHost, name: &str, number: &str) {
    let area = host.area(name);
    let text = std::fs::read_to_string(area.join("ve.conf")).expect("it can be read");
    let kept: String =
        text.lines().filter(|line| !line.starts_with("VEID=")).map(|line| format!("{line}\n")).collect();
    let below =
        area.strip_prefix(host.prefix()).expect("it is below").join("ve.conf").to_string_lossy().into_owned();
    host.write(&below, &format!("{kept}VEID=\"{number}\"\n"), 0o600);
}

#[test]
fn root_a_number_that_two_claim_is_refused_and_both_are_named() {
    let Some(host) = host() else { return };
    for (number, name) in [("556", "web01"), ("557", "db01"), ("558", "mail")] {
        said(&host, ["create", number, "--ostemplate", "busybox", "--name", name]);
    }
    let uuid = |name: &str| host.area(name).file_name().unwrap().to_string_lossy().into_owned();
    let (web, db, mail) = (uuid("web01"), uuid("db01"), uuid("mail"));
    renumber(&host, "db01", "556");
    let refused =
        ["two containers are called `556`", &web, &db, "both have it as VEID", "nothing was changed"];
    let refuses = || {
        for words in [
            &["start", "556"][..],
            &["stop", "556"],
            &["set", "556", "--onboot", "yes", "--save"],
            &["exec", "556", "true"],
            &["reinstall", "556"],
            &["unregister", "556"],
            &["destroy", "556"],
            &["destroy", "556"],
        ] {
            vzctl(&host, words).failed(137, &refused);
        }
        for words in [
            &["start", "556"][..],
            &["stop", "556"],
            &["exec", "556", "true"],
            &["set", "556", "--onboot", "yes"],
            &["reinstall", "556"],
            &["reinstall", "556", "mail", "--yes"],
            &["recover", "--rebuild", "556"],
            &["delete", "556"],
        ] {
            host.run(words).failed(137, &refused);
        }
    };
    refuses();
    // It is still whose it was for whoever only looks; without the link nobody can tell.
    assert!(host.ok(["status", "556", "-j"]).contains(&web));
    host.run(["recover"]).failed(137, &["two containers are called `556`", &web, &db]);
    std::fs::remove_file(host.path("etc/vz/conf/556.conf")).unwrap();
    refuses();
    host.run(["status", "556"]).failed(137, &refused);
    // By its UUID each is reached, and it is told.
    let ran = host.run(["start", &db]);
    assert!(ran.code == 0 && ran.stderr.contains("both have it as VEID"), "{ran}");
    host.ok(["stop", &db, "--kill"]);
    // A name that is another's number is no better.
    renumber(&host, "db01", "557");
    let conf = format!("vz/private/{mail}/ve.conf");
    let text = std::fs::read_to_string(host.path(&conf)).unwrap();
    host.write(&conf, &text.replace("NAME=\"mail\"", "NAME=\"556\""), 0o600);
    vzctl(&host, ["destroy", "556"])
        .failed(137, &[&format!("{{{web}}} has it as VEID"), &format!("{{{mail}}} has it as NAME")]);
    host.write(&conf, &text, 0o600);
    // With one holder again it goes, and the same command again finds nothing.
    said(&host, ["destroy", "556"]);
    vzctl(&host, ["destroy", "556"]).failed(14, &["no container has that"]);
    for id in [&db, &mail] {
        host.ok(["status", id]);
    }
    // Nor does a name that two claim get past `vzctl`.
    host.write(&conf, &text.replace("NAME=\"mail\"", "NAME=\"db01\""), 0o600);
    vzctl(&host, ["destroy", "db01"]).failed(137, &["two containers are called `db01`", &db, &mail]);
}

#[test]
fn root_the_list_of_openvz() {
    let Some(host) = host() else { return };
    assert_eq!(vzlist(&host, &[]).stdout, "      CTID      NPROC STATUS    IP_ADDR         HOSTNAME\n");
    said(&host, ["create", "1000", "--ostemplate", "busybox", "--hostname", "b.example.com"]);
    said(
        &host,
        [
            "create",
            "101",
            "--ostemplate",
            "busybox",
            "--name",
            "shop",
            "--hostname",
            "a.example.com",
            "--ipadd",
            "192.0.2.7",
        ],
    );
    host.ok(["create", "web", "--ostemplate", "busybox"]);
    said(&host, ["start", "1000"]);
    let table = |words: &[&str]| {
        let ran = vzlist(&host, words);
        assert_eq!(ran.code, 0, "{ran}");
        ran.stdout
            .lines()
            .map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
            .collect::<Vec<_>>()
    };
    let rows = table(&["-H"]);
    assert_eq!(
        (rows.len(), rows[0][0].as_str(), rows[0][2].as_str(), rows[0][3].as_str(), rows[0][4].as_str()),
        (1, "1000", "running", "-", "b.example.com")
    );
    let rows = table(&["-a"]);
    assert_eq!(rows[0], ["CTID", "NPROC", "STATUS", "IP_ADDR", "HOSTNAME"]);
    // By number, and what has none behind them.
    assert_eq!(rows[1], ["101", "-", "stopped", "192.0.2.7", "a.example.com"]);
    assert_eq!((rows[2][0].as_str(), rows[3][0].len()), ("1000", 36));
    assert_eq!(table(&["-S", "-n", "-H", "101"])[0][4], "shop");
    assert_eq!(table(&["-1", "-a"])[..2], [["101"], ["1000"]]);
    assert_eq!(table(&["-a", "-H", "-o", "ctid,status", "-s", "-ctid"])[1], ["1000", "running"]);
    assert_eq!(table(&["-a", "-H", "-h", "a.*", "-o", "name"]), [["shop"]]);
    let json: serde_json::Value =
        serde_json::from_str(&vzlist(&host, &["-a", "-j", "-o", "ctid,status,ip,uptime"]).stdout).unwrap();
    assert_eq!(
        json[0],
        serde_json::json!({ "ctid": 101, "status": "stopped", "ip": "192.0.2.7", "uptime": null })
    );
    assert!(json[1]["uptime"].is_u64(), "{json}");
    vzlist(&host, &["102"]).failed(1, &["Container(s) not found"]);
    vzlist(&host, &["-o", "laverage"]).failed(1, &["Unknown field: laverage"]);
    vzlist(&host, &["-o"]).failed(21, &["command line"]);
}

#[test]
fn root_the_scripts_of_a_number_are_its_and_are_told_it() {
    let Some(host) = RealHost::new(env!("CARGO_BIN_EXE_prlctl")) else { return };
    assert_eq!(vzctl(&host, ["create", "101", "--ostemplate", "busybox"]).code, 0);
    let note = host.path("told");
    for action in ["mount", "umount"] {
        let line = format!("#!/bin/sh\necho \"{action} $VEID\" >> {}\n", note.display());
        host.script(&format!("etc/vz/conf/101.{action}"), &line);
    }
    host.script("etc/vz/conf/101.start", "#!/bin/sh\necho \"start $VEID\" > /root/told\n");
    host.ok(["start", "101"]);
    assert_eq!(host.exec("101", "cat /root/told"), "start 101");
    host.ok(["stop", "101"]);
    host.wait_until("it is unmounted", || {
        std::fs::read_to_string(&note).is_ok_and(|text| text.contains("umount"))
    });
    assert_eq!(std::fs::read_to_string(&note).unwrap(), "mount 101\numount 101\n");
}
