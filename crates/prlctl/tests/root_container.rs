//! The life of a container: create, start, stop, status, mount, delete; how it is named, and what is refused.

#![expect(clippy::disallowed_methods, reason = "the trees of these tests are their own")]
#![expect(clippy::unwrap_used, reason = "a test that panics has failed, and says where")]

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use testkit::{Ran, RealHost};

fn new_host() -> Option<RealHost> {
    RealHost::new(env!("CARGO_BIN_EXE_prlctl"))
}

fn create(host: &RealHost, name: &str, words: &[&str]) -> Ran {
    host.run([&["create", name, "--ostemplate", "busybox"], words].concat())
}

fn state(host: &RealHost, name: &str) -> String {
    host.ok(["list", name, "-H", "-o", "status"]).trim().to_owned()
}

fn uuid(host: &RealHost, name: &str) -> String {
    host.area(name).file_name().unwrap().to_string_lossy().into_owned()
}

/// The control groups that carry the name of a container, in every tree.
fn groups_of(id: &str) -> Vec<std::path::PathBuf> {
    fn walk(directory: &Path, depth: u32, id: &str, found: &mut Vec<std::path::PathBuf>) {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                if entry.file_name().to_string_lossy().starts_with(id) {
                    found.push(entry.path());
                } else if depth > 0 {
                    walk(&entry.path(), depth - 1, id, found);
                }
            }
        }
    }
    let mut found = Vec::new();
    walk(Path::new("/sys/fs/cgroup"), 2, id, &mut found);
    found
}

/// Everything below the prefix that a refusal must leave as it is.
fn picture(host: &RealHost) -> Vec<String> {
    fn walk(directory: &Path, found: &mut Vec<String>) {
        let Ok(entries) = std::fs::read_dir(directory) else { return };
        for entry in entries.flatten() {
            found.push(entry.path().display().to_string());
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                walk(&entry.path(), found);
            }
        }
    }
    let mut found = Vec::new();
    for below in ["etc/vz", "vz/private", "vz/root"] {
        walk(&host.path(below), &mut found);
    }
    found.sort();
    found
}

#[test]
fn root_a_container_lives_from_create_to_delete() {
    let Some(host) = new_host() else { return };
    let ran = create(&host, "web01", &["--vmtype", "ct"]);
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (0, "The Container has been successfully created.\n"),
        "{ran}"
    );
    assert!(ran.stderr.contains("Creating the Container..."), "{ran}");
    assert_eq!(host.ok(["status", "web01"]), "CT web01 exist stopped\n");

    let ran = host.run(["start", "web01"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "The CT has been successfully started.\n"), "{ran}");
    assert!(ran.stderr.contains("Starting the CT..."), "{ran}");
    assert_eq!(host.ok(["status", "web01"]), "CT web01 exist running\n");
    host.exec("web01", "echo kept > /root/file; echo $(( $(cut -d. -f1 /proc/uptime) )) > /tmp/x");

    host.run(["start", "web01"])
        .failed(32, &["cannot start `web01`", "it runs already", "nothing was changed"]);
    let first = host.exec("web01", "cut -d' ' -f22 /proc/1/stat");
    assert_eq!(host.ok(["restart", "web01"]), "The CT has been successfully restarted.\n");
    assert_ne!(host.exec("web01", "cut -d' ' -f22 /proc/1/stat"), first, "init is the same");
    assert_eq!(host.exec("web01", "cat /root/file"), "kept");

    let ran = host.run(["stop", "web01"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "The CT has been successfully stopped.\n"), "{ran}");
    assert!(ran.stderr.contains("Stopping the CT..."), "{ran}");
    host.run(["stop", "web01"]).failed(31, &["cannot stop `web01`", "it does not run"]);

    let (area, id) = (host.area("web01"), uuid(&host, "web01"));
    assert_eq!(host.ok(["delete", "web01"]), "The CT has been successfully removed.\n");
    assert!(!area.exists());
    assert_eq!(groups_of(&id), Vec::<std::path::PathBuf>::new(), "control groups are left");
    host.run(["status", "web01"]).failed(14, &["unknown container `web01`"]);
    assert_eq!(host.ok(["list", "-a", "-H"]), "");
    assert_eq!(std::fs::read_dir(host.path("etc/vz/names")).unwrap().count(), 0);
    host.wait_until("the trash is emptied", || {
        std::fs::read_dir(host.path("vz/private/.trash")).is_ok_and(|mut found| found.next().is_none())
    });
    let (run, root) = (host.path("run/vz"), host.path("vz/root"));
    let is_left =
        |point: &std::path::PathBuf| *point != run && (point.starts_with(&run) || point.starts_with(&root));
    host.wait_until("its mounts are gone", || !host.mounts().iter().any(is_left));
}

#[test]
fn root_restart_starts_what_was_stopped() {
    let Some(host) = new_host() else { return };
    create(&host, "web01", &[]);
    host.ok(["restart", "web01"]);
    assert_eq!(state(&host, "web01"), "running");
}

#[test]
fn root_stop_asks_and_kill_does_not() {
    let Some(host) = new_host() else { return };
    host.started("web01");
    let trapped = "sh -c 'trap \"echo asked > /root/asked; exit\" TERM; touch /tmp/ready; sleep 1000 & wait' >/dev/null 2>&1 </dev/null &";
    let ready = || host.run(["exec", "web01", "test -e /tmp/ready"]).code == 0;
    host.exec("web01", trapped);
    host.wait_until("it listens", ready);
    host.ok(["stop", "web01"]);
    host.ok(["start", "web01"]);
    assert_eq!(host.exec("web01", "cat /root/asked"), "asked");

    host.exec("web01", "rm -f /root/asked /tmp/ready");
    host.exec("web01", trapped);
    host.wait_until("it listens", ready);
    host.ok(["stop", "web01", "--kill"]);
    host.ok(["start", "web01"]);
    assert_eq!(host.run(["exec", "web01", "test -e /root/asked"]).code, 1);
}

#[test]
fn root_stop_all_stops_all_that_run() {
    let Some(host) = new_host() else { return };
    for name in ["one", "two"] {
        host.started(name);
    }
    create(&host, "three", &[]);
    assert_eq!(host.ok(["stop", "--all"]), "All CTs have been successfully stopped.\n");
    assert_eq!(host.ok(["list", "-H"]), "");
}

#[test]
fn root_list_has_the_columns_of_the_original() {
    let Some(host) = new_host() else { return };
    let given = "600adc12-0e39-41b3-bf05-c59b7d26dd73";
    create(&host, "web02", &["--uuid", given]);
    host.started("web01");
    let other = uuid(&host, "web01");
    assert_eq!(
        host.ok(["list", "-a"]),
        format!(
            "UUID                                    STATUS       IP_ADDR         T  NAME\n\
             {{{other}}}  running      -               CT web01\n\
             {{{given}}}  stopped      -               CT web02\n"
        )
    );
    assert_eq!(host.ok(["list", "-H", "-o", "name"]), "web01\n", "without -a only what runs");
    assert_eq!(host.ok(["list", "-aH", "-o", "name", "-s", "-name"]), "web02\nweb01\n");
    assert_eq!(
        host.ok(["list", "-a", "-H", "-o", "name,status", "-s", "status"])
            .split_whitespace()
            .collect::<Vec<_>>(),
        ["web01", "running", "web02", "stopped"]
    );
    assert_eq!(host.ok(["list", "-aHo", "ctid"]), format!("{{{other}}}\n{{{given}}}\n"));
    let numproc: u32 = host.ok(["list", "web01", "-H", "-o", "numproc"]).trim().parse().unwrap();
    assert!(numproc >= 1);
    assert!(
        host.ok(["list", "-aH", "-o", "private,name"]).contains(&host.area("web02").display().to_string())
    );

    let fields = host.ok(["list", "-L"]);
    for field in [
        "uuid",
        "envid",
        "home",
        "type",
        "name",
        "status",
        "dist",
        "owner",
        "description",
        "ip",
        "ip_configured",
        "hostname",
        "netif",
        "mac",
        "features",
        "location",
        "iolimit",
        "netdev",
        "ha_enable",
        "ha_prio",
    ] {
        assert!(
            fields.lines().any(|line| line.split(' ').next() == Some(field)),
            "{field} is missing in\n{fields}"
        );
    }
    let ran = host.run(["list", "-o", "colour"]);
    assert!(ran.code != 0 && ran.stderr.contains("Unknown field: colour"), "{ran}");

    let json: serde_json::Value = serde_json::from_str(&host.ok(["list", "-a", "-j"])).unwrap();
    assert_eq!(json[1]["uuid"], given, "for scripts there are no braces");
    assert_eq!((&json[0]["status"], &json[0]["name"]), (&"running".into(), &"web01".into()));

    let info = host.ok(["list", "-i", "web01"]);
    assert_eq!(info.lines().next(), Some("INFO"));
    for line in [
        format!("ID: {{{other}}}"),
        "Name: web01".into(),
        "Type: CT".into(),
        "State: running".into(),
        format!("Home: {}", host.area("web01").display()),
    ] {
        assert!(info.lines().any(|found| found == line), "`{line}` is missing in\n{info}");
    }
    let json: serde_json::Value = serde_json::from_str(&host.ok(["list", "-i", "-j", "web02"])).unwrap();
    assert_eq!((&json[0]["State"], &json[0]["Name"]), (&"stopped".into(), &"web02".into()));
}

#[test]
fn root_a_container_is_named_by_name_uuid_or_a_unique_start() {
    let Some(host) = new_host() else { return };
    create(&host, "web01", &["--uuid", "aaaa1111-0e39-41b3-bf05-c59b7d26dd73"]);
    create(&host, "web02", &["--uuid", "{aaaa2222-0e39-41b3-bf05-c59b7d26dd73}"]);
    create(&host, "web", &["--uuid", "bbbb3333-0e39-41b3-bf05-c59b7d26dd73"]);
    // Its name is the start of another's UUID: the exact name comes first.
    create(&host, "aaaa1111", &["--uuid", "cccc4444-0e39-41b3-bf05-c59b7d26dd73"]);
    let name_of = |words: &str| host.ok(["list", words, "-H", "-o", "name"]).trim().to_owned();
    for (words, name) in [
        ("web01", "web01"),
        ("web", "web"),
        ("aaaa1111", "aaaa1111"),
        ("aaaa1111-0e39-41b3-bf05-c59b7d26dd73", "web01"),
        ("{AAAA1111-0e39-41b3-bf05-c59b7d26dd73}", "web01"),
        ("aaaa2", "web02"),
        ("bbbb", "web"),
    ] {
        assert_eq!(name_of(words), name, "{words}");
    }
    // The words of the user come back in the line that scripts read.
    assert_eq!(host.ok(["status", "aaaa2"]), "CT aaaa2 exist stopped\n");
    host.run(["status", "web0"])
        .failed(14, &["more than one container begins with `web0`", "web01", "web02"]);
    host.run(["status", "wbe01"]).failed(14, &["hint: did you mean `web01`?"]);
    host.run(["status", ""]).failed(14, &["unknown container"]);
    host.run(["status", "../web01"]).failed(14, &["unknown container"]);
    for command in [
        "start",
        "stop",
        "restart",
        "delete",
        "mount",
        "umount",
        "reinstall",
        "enter",
        "generation-list",
        "recover",
    ] {
        host.run([command, "nosuch"]).failed(14, &["unknown container `nosuch`"]);
    }
}

#[test]
fn root_create_refuses_names_that_cannot_be() {
    let Some(host) = new_host() else { return };
    host.ok(["list"]);
    let before = picture(&host);
    let long = "n".repeat(300);
    for name in
        ["", ".", "..", "a/b", "/", "../../etc", "new\nline", "tab\t", "\u{1b}[31mred", long.as_str(), "-x"]
    {
        let ran = host.run(["create", "--ostemplate", "busybox", "--", name]);
        ran.failed(137, &["because:", "nothing was changed"]);
        assert!(
            !ran.stderr.contains('\u{1b}') && !ran.stderr.contains("new\nline"),
            "it is printed raw: {ran}"
        );
    }
    assert_eq!(picture(&host), before);
}

#[test]
fn root_two_containers_cannot_have_one_name_or_one_uuid() {
    let Some(host) = new_host() else { return };
    let given = "600adc12-0e39-41b3-bf05-c59b7d26dd73";
    create(&host, "web01", &["--uuid", given]);
    let before = picture(&host);
    create(&host, "web01", &[])
        .failed(137, &["cannot create `web01`", "the name `web01` is taken", given, "nothing was changed"]);
    create(&host, "web02", &["--uuid", given]).failed(44, &[given, "is taken", "nothing was changed"]);
    create(&host, "web02", &["--uuid", "nonsense"]).failed(21, &["`nonsense` is no UUID"]);
    create(&host, "web02", &["--vmtype", "vm"]).failed(21, &["`vm`"]);
    assert_eq!(picture(&host), before);
    // What is deleted gives its name and its UUID back.
    host.ok(["delete", "web01"]);
    assert_eq!(create(&host, "web01", &["--uuid", given]).code, 0);
}

#[test]
fn root_containers_created_at_once_get_each_its_own() {
    let Some(host) = new_host() else { return };
    let mut children: Vec<_> = (0..6)
        .map(|number| {
            let mut command = host.prlctl();
            let name = if number < 4 { format!("web{number}") } else { "same".to_owned() };
            command
                .args(["create", &name, "--ostemplate", "busybox"])
                .stdout(std::process::Stdio::null())
                .stderr(std::process::Stdio::null());
            command.spawn().unwrap()
        })
        .collect();
    let failed =
        children.iter_mut().map(|child| child.wait().unwrap()).filter(|status| !status.success()).count();
    assert_eq!(failed, 1, "of the two of one name one is refused");
    let mut ranges = std::collections::BTreeSet::new();
    for name in ["web0", "web1", "web2", "web3", "same"] {
        let record = std::fs::read_to_string(host.area(name).join("area.json")).unwrap();
        let record: serde_json::Value = serde_json::from_str(&record).unwrap();
        ranges.insert(record["id_range"]["first"].as_u64().expect("it has a range of ids"));
    }
    assert_eq!(ranges.len(), 5);
}

#[test]
fn root_create_takes_the_default_template_and_a_sample() {
    let Some(host) = new_host() else { return };
    host.ok(["list"]);
    host.write("etc/vz/vz.conf", "", 0o644);
    host.run(["create", "web01"]).failed(20, &["DEF_OSTEMPLATE", "nothing was changed"]);
    host.write("etc/vz/vz.conf", "DEF_OSTEMPLATE=\"busybox\"\n", 0o644);
    host.ok(["create", "web01"]);
    assert_eq!(host.ok(["list", "web01", "-H", "-o", "ostemplate"]).trim(), "busybox");

    let sample = "# ours\nNUMPROC=\"77:77\"\nDESCRIPTION=\"two words\"\nX_OWN=\"kept\"\n";
    host.write("etc/vz/conf/ve-small.conf-sample", sample, 0o644);
    assert_eq!(create(&host, "web02", &["--config", "small"]).code, 0);
    let conf = std::fs::read_to_string(host.area("web02").join("ve.conf")).unwrap();
    for line in ["# ours", "NUMPROC=\"77:77\"", "X_OWN=\"kept\""] {
        assert!(conf.lines().any(|found| found == line), "`{line}` is not in\n{conf}");
    }
    assert!(host.ok(["list", "-i", "web02"]).contains("processes 77"));
    // The links of the original point at it.
    let link = host.path(&format!("etc/vz/conf/{}.conf", uuid(&host, "web02")));
    assert_eq!(std::fs::read_to_string(link).unwrap(), conf);
    assert_eq!(std::fs::read_to_string(host.path("etc/vz/names/web02")).unwrap(), conf);

    for (sample, code) in [("nosuch", 82), ("../../../etc/passwd", 21)] {
        create(&host, "web03", &["--config", sample])
            .failed(code, &["cannot create `web03`", "nothing was changed"]);
    }
    host.write("etc/vz/conf/ve-bad.conf-sample", "NUMPROC=\"many\"\n", 0o644);
    create(&host, "web03", &["--config", "bad"]).failed(82, &["NUMPROC", "nothing was changed"]);
    assert_eq!(host.run(["status", "web03"]).code, 14);
}

#[test]
fn root_create_refuses_templates_that_are_not_there_or_damaged() {
    let Some(host) = new_host() else { return };
    host.run(["create", "web01", "--ostemplate", "nosuch"]).failed(
        91,
        &[
            "unknown template `nosuch`",
            "there are: busybox",
            "`vzpkg create cache NAME` makes one; `vzpkg list --recipes` shows",
        ],
    );
    host.run(["create", "web01", "--ostemplate", "../../etc"]).failed(21, &["is no name of a template"]);
    // A store of its own to be damaged.
    let Some(host) = RealHost::bare(env!("CARGO_BIN_EXE_prlctl")) else { return };
    assert!(host.vzpkg().args(["create", "cache", "busybox"]).output().unwrap().status.success());
    create(&host, "web01", &[]);
    let store = host.path("vz/template/busybox");
    let version = std::fs::canonicalize(store.join("latest")).unwrap();
    let record = version.join("template.json");
    let text = std::fs::read_to_string(&record).unwrap();
    let below = |name: &str| format!("vz/template/busybox/{}/{name}", version.file_name().unwrap().display());
    let before = picture(&host);
    for damage in ["", "{", "{\"format\": 1}"] {
        host.write(&below("template.json"), damage, 0o644);
        create(&host, "web02", &[]).failed(91, &["cannot create `web02`", "template", "nothing was changed"]);
        host.run(["start", "web01"]).failed(91, &["template"]);
    }
    let newer = text.replacen("\"format\": 1", "\"format\": 99", 1);
    assert_ne!(newer, text);
    host.write(&below("template.json"), &newer, 0o644);
    create(&host, "web02", &[]).failed(91, &["99", "1"]);
    host.write(&below("template.json"), &text, 0o644);
    rustix::fs::rename(version.join("rootfs"), version.join("aside")).unwrap();
    create(&host, "web02", &[]).failed(91, &["nothing was changed"]);
    rustix::fs::rename(version.join("aside"), version.join("rootfs")).unwrap();
    assert_eq!(picture(&host), before);
    assert_eq!(create(&host, "web02", &[]).code, 0);
}

#[test]
fn root_delete_of_what_runs_wants_force() {
    let Some(host) = new_host() else { return };
    host.started("web01");
    let area = host.area("web01");
    host.run(["delete", "web01"])
        .failed(32, &["cannot delete `web01`", "it runs", "nothing was changed", "--force"]);
    assert_eq!(host.exec("web01", "echo alive"), "alive");
    host.ok(["delete", "web01", "--force"]);
    assert!(!area.exists());
    assert_eq!(host.run(["status", "web01"]).code, 14);
}

#[test]
fn root_mount_shows_plain_owners_and_is_writable_when_stopped() {
    use std::os::unix::fs::MetadataExt;
    let Some(host) = new_host() else { return };
    host.started("web01");
    host.exec("web01", "echo inside > /srv/file; chown 33:33 /srv/file");
    host.ok(["stop", "web01"]);
    let text = host.ok(["mount", "web01"]);
    let root = host.path("vz/root").join(uuid(&host, "web01"));
    assert_eq!(text, format!("The CT has been successfully mounted at {}\n", root.display()));
    assert_eq!(host.ok(["status", "web01"]), "CT web01 exist mounted\n");
    let found = std::fs::metadata(root.join("srv/file")).unwrap();
    assert_eq!((found.uid(), found.gid()), (33, 33));
    host.write(&format!("vz/root/{}/srv/from-host", uuid(&host, "web01")), "host\n", 0o644);
    assert_eq!(host.ok(["umount", "web01"]), "The CT has been successfully unmounted.\n");
    assert!(!root.join("srv").exists());
    host.run(["umount", "web01"]).failed(40, &["cannot unmount `web01`", "it is not mounted"]);
    host.ok(["start", "web01"]);
    assert_eq!(host.exec("web01", "cat /srv/from-host; stat -c %u:%g /srv/from-host"), "host\n0:0");
    // That of a running one can be looked at, and no more.
    host.ok(["mount", "web01"]);
    assert!(root.join("srv/file").exists());
    let refused = std::fs::File::create(root.join("srv/second")).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    assert_eq!(state(&host, "web01"), "running");
    host.exec("web01", "echo the container goes on > /srv/second");
    host.ok(["umount", "web01"]);
    host.ok(["stop", "web01"]);
    // A mount in the way of a start is taken away by it.
    host.ok(["mount", "web01"]);
    host.ok(["start", "web01"]);
    assert!(!root.join("srv").exists());
}

#[test]
fn root_directories_that_others_can_open_are_refused() {
    let Some(host) = new_host() else { return };
    host.ok(["list"]);
    let private = host.path("vz/private");
    let mode = |mode: u32| std::fs::set_permissions(&private, std::fs::Permissions::from_mode(mode)).unwrap();
    mode(0o755);
    let ran = create(&host, "web01", &[]);
    mode(0o700);
    ran.failed(3, &["vz/private", "open to others", "chmod 0700", "nothing was changed"]);
    assert_eq!(host.run(["status", "web01"]).code, 14);
}

#[test]
fn root_files_on_disk_have_plain_owners() {
    use std::os::unix::fs::MetadataExt;
    let Some(host) = new_host() else { return };
    host.started("web01");
    host.exec("web01", "touch /srv/file; chown 33:42 /srv/file");
    let delta = host.area("web01").join("live/delta");
    let found = std::fs::metadata(delta.join("srv/file")).unwrap();
    assert_eq!((found.uid(), found.gid()), (33, 42));
    assert_eq!(std::fs::metadata(delta.join("srv")).unwrap().uid(), 0);
}

#[test]
fn root_containers_that_are_templates_are_listed_as_the_original_does() {
    let Some(host) = new_host() else { return };
    for name in ["golden", "web01"] {
        host.ok(["create", name, "--ostemplate", "busybox"]);
    }
    let header = format!("{:<39} {:<15} {:<2} NAME\n", "UUID", "DIST", "T");
    assert_eq!(host.ok(["list", "-t"]), header);
    let area = host.area("golden");
    let text = std::fs::read_to_string(area.join("ve.conf")).unwrap();
    let uuid = area.file_name().unwrap().to_string_lossy().into_owned();
    host.write(&format!("vz/private/{uuid}/ve.conf"), &format!("{text}TEMPLATE=\"yes\"\n"), 0o600);
    assert_eq!(host.ok(["list", "-t"]), format!("{header}{{{uuid}}}  {:<15} CT golden\n", "busybox"));
    assert_eq!(host.ok(["list", "-t", "-H", "-o", "name"]), "golden\n");
}

#[test]
fn root_what_a_caller_may_use_limits_no_container() {
    let Some(host) = new_host() else { return };
    host.started("web01");
    // All of what is asked for is less than a container needs, or would end what runs in it.
    let under = |limits: &str, words: &[&str]| {
        let mut command = Command::new("bash");
        command.args(["-c", &format!("{limits}; exec \"$@\""), "bash", env!("CARGO_BIN_EXE_prlctl")]);
        let output = command.args(words).env("REROOT_PREFIX", host.prefix()).stdin(Stdio::null()).output();
        let ran = testkit::Ran::of(output.unwrap());
        assert_eq!(ran.code, 0, "{limits}: {ran}");
        ran.stdout
    };
    let limits = |process: &str| host.exec("web01", &format!("sed 1d /proc/{process}/limits"));
    let before = limits("1");
    // A database asks for more than a few, if the host has them to give.
    let files = host.exec("web01", "grep 'open files' /proc/1/limits | tr -s ' ' | cut -d' ' -f4,5");
    let (soft, hard) = files.trim().split_once(' ').unwrap();
    let own = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum.unwrap_or(u64::MAX);
    assert!(soft == "1024" && hard.parse::<u64>().unwrap() >= own.min(524_288), "{files}");
    let tight = "ulimit -S -n 32; ulimit -S -f 10; ulimit -S -t 60; ulimit -S -u 40; ulimit -S -s 512";
    under(tight, &["reinstall", "web01"]);
    assert_eq!(limits("1"), before);
    under(tight, &["restart", "web01"]);
    assert_eq!(limits("1"), before);
    assert_eq!(limits("self"), before);
    assert_eq!(under(tight, &["exec", "web01", "sed 1d /proc/self/limits"]).trim_end_matches('\n'), before);
    under("ulimit -S -n 12", &["stop", "web01"]);
}

#[test]
fn root_a_start_that_cannot_mount_leaves_no_control_group() {
    let Some(host) = new_host() else { return };
    host.ok(["create", "web01", "--ostemplate", "busybox"]);
    let id = uuid(&host, "web01");
    std::fs::remove_dir(host.area("web01").join("generations/1/work")).unwrap();
    host.run(["start", "web01"]).failed(3, &["cannot start `web01`", "No such file or directory"]);
    assert_eq!(groups_of(&id), Vec::<std::path::PathBuf>::new());
    host.ok(["delete", "web01"]);
    assert_eq!(groups_of(&id), Vec::<std::path::PathBuf>::new());
}
