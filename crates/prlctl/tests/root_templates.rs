//! `vzpkg`: templates are made, listed and removed, and never half made.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed, and says where")]

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::PathBuf;
use std::process::Stdio;

use testkit::{Ran, RealHost};

fn new_host() -> Option<RealHost> {
    RealHost::bare(env!("CARGO_BIN_EXE_prlctl"))
}

fn vzpkg(host: &RealHost, words: &[&str]) -> Ran {
    Ran::of(host.vzpkg().args(words).output().expect("run vzpkg"))
}

fn latest(host: &RealHost) -> PathBuf {
    std::fs::canonicalize(host.path("vz/template/busybox/latest")).unwrap()
}

#[test]
fn root_a_template_is_made_listed_used_and_removed() {
    let Some(host) = new_host() else { return };
    let ran = vzpkg(&host, &["create", "cache", "busybox"]);
    assert_eq!(ran.code, 0, "{ran}");
    assert!(ran.stdout.starts_with("The template busybox has been successfully created"), "{ran}");

    let ran = vzpkg(&host, &["list"]);
    assert!(ran.stdout.starts_with("NAME ") && ran.stdout.lines().count() == 2, "{ran}");
    assert!(vzpkg(&host, &["list", "-H"]).stdout.starts_with("busybox "));
    let list =
        || -> serde_json::Value { serde_json::from_str(&vzpkg(&host, &["list", "-j"]).stdout).unwrap() };
    let json = list();
    assert_eq!(
        (&json[0]["name"], &json[0]["is_latest"], &json[0]["users"]),
        (&"busybox".into(), &true.into(), &0.into())
    );
    assert_eq!(json[0]["digest"].as_str(), latest(&host).file_name().unwrap().to_str());

    host.started("web01");
    assert_eq!(list()[0]["users"], 1);
    let ran = vzpkg(&host, &["remove", "cache", "busybox"]);
    let uuid = host.area("web01").file_name().unwrap().to_string_lossy().into_owned();
    ran.failed(21, &["cannot remove template `busybox`", &uuid, "nothing was changed"]);
    assert_eq!(host.exec("web01", "echo alive"), "alive");
    host.ok(["delete", "web01", "--force"]);
    let ran = vzpkg(&host, &["remove", "cache", "busybox"]);
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (0, "The template busybox has been successfully removed.\n"),
        "{ran}"
    );
    assert_eq!(list(), serde_json::json!([]));
    vzpkg(&host, &["remove", "cache", "busybox"]).failed(91, &["unknown template `busybox`"]);
    host.run(["create", "web01", "--ostemplate", "busybox"])
        .failed(91, &["unknown template `busybox`", "vzpkg create cache busybox"]);
    // A hint leads somewhere.
    let ran = host.run(["create", "web01", "--ostemplate", "nonesuch"]);
    let hint =
        "hint: `vzpkg create cache NAME` makes one; `vzpkg list --recipes` shows what there are recipes for";
    ran.failed(91, &["unknown template `nonesuch`", hint]);
    let ran = vzpkg(&host, &["remove", "cache", "nonesuch"]);
    ran.failed(91, &["unknown template `nonesuch`", "hint: `vzpkg list` shows the templates of this host"]);
}

#[test]
fn root_an_unknown_recipe_is_refused() {
    let Some(host) = new_host() else { return };
    vzpkg(&host, &["create", "cache", "plan9"]).failed(
        91,
        &["cannot make template `plan9`", "there are: busybox", "debian-12", "nothing was changed"],
    );
    let ran = vzpkg(&host, &["create", "cache", "plan9", "-j"]);
    let json: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(json["error"]["code"], "unknown-template");
    assert!(!host.path("vz/template/plan9").exists());
}

#[test]
fn root_an_interrupted_creation_leaves_nothing_under_the_name() {
    let Some(host) = new_host() else { return };
    host.ok(["list"]);
    let begin = || {
        let mut command = host.vzpkg();
        command.args(["create", "cache", "busybox"]).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().unwrap()
    };
    // Killed at other moments: as soon as there is something, a little later, later still.
    for wanted in [1, 20, 120, 280] {
        let mut child = begin();
        host.wait_until("it has made so many files", || {
            child.try_wait().unwrap().is_some() || entries(&host.path("vz/template")) >= wanted
        });
        child.kill().unwrap();
        child.wait().unwrap();
        if host.path("vz/template/busybox/latest").exists() {
            // It was quicker than we: then it is whole.
            host.ok(["create", "whole", "--ostemplate", "busybox"]);
            host.ok(["delete", "whole"]);
            continue;
        }
        assert_eq!(vzpkg(&host, &["list", "-j"]).stdout.trim(), "[]");
        host.run(["create", "web01", "--ostemplate", "busybox"]).failed(91, &["unknown template `busybox`"]);
    }
    assert_eq!(vzpkg(&host, &["create", "cache", "busybox"]).code, 0);
    let left: Vec<_> = std::fs::read_dir(host.path("vz/template/busybox"))
        .unwrap()
        .chain(std::fs::read_dir(host.path("vz/template")).unwrap())
        .map(|entry| entry.unwrap().file_name().display().to_string())
        .filter(|name| name.contains("staging"))
        .collect();
    assert_eq!(left, Vec::<String>::new(), "what the dead have left is swept away");
    host.started("web01");
}

fn entries(directory: &std::path::Path) -> usize {
    let Ok(found) = std::fs::read_dir(directory) else { return 0 };
    found
        .flatten()
        .map(|entry| {
            1 + if entry.file_type().is_ok_and(|kind| kind.is_dir()) { entries(&entry.path()) } else { 0 }
        })
        .sum()
}

#[test]
fn root_a_failed_creation_leaves_the_former_template() {
    let Some(host) = new_host() else { return };
    assert_eq!(vzpkg(&host, &["create", "cache", "busybox"]).code, 0);
    let before = latest(&host);
    // Again: the same content is the same version.
    assert_eq!(vzpkg(&host, &["create", "cache", "busybox"]).code, 0);
    assert_eq!(latest(&host), before);
    assert_eq!(vzpkg(&host, &["list", "-H"]).stdout.lines().count(), 1);
    // Debian without its tool and without an archive.
    let mut command = host.vzpkg();
    let empty = host.path("empty");
    std::fs::create_dir_all(&empty).unwrap();
    let output = command.args(["create", "cache", "debian-12"]).env("PATH", &empty).output().unwrap();
    Ran::of(output).failed(91, &["cannot make template `debian-12`", "because:", "nothing was changed"]);
    assert!(!host.path("vz/template/debian-12/latest").exists());
}

#[test]
fn root_the_busybox_template_is_what_it_should_be() {
    let Some(host) = new_host() else { return };
    assert_eq!(vzpkg(&host, &["create", "cache", "busybox"]).code, 0);
    let root = latest(&host).join("rootfs");
    let output = std::process::Command::new("/bin/busybox").arg("--list-full").output().unwrap();
    let applets = String::from_utf8(output.stdout).unwrap();
    let mut count = 0;
    for applet in applets.lines().filter(|applet| !["linuxrc", "sbin/init", "bin/busybox"].contains(applet)) {
        let target =
            std::fs::read_link(root.join(applet)).unwrap_or_else(|error| panic!("{applet}: {error}"));
        let program = root.join(applet).parent().unwrap().join(target);
        assert_eq!(std::fs::canonicalize(program).unwrap(), root.join("bin/busybox"), "{applet}");
        count += 1;
    }
    assert!(count > 150, "{count} applets");
    for (path, mode) in [
        ("root", 0o700),
        ("tmp", 0o1777),
        ("srv", 0o755),
        ("home", 0o755),
        ("var", 0o755),
        ("var/tmp", 0o1777),
        ("etc/shadow", 0o640),
        ("etc/gshadow", 0o640),
        ("etc/passwd", 0o644),
    ] {
        let found = std::fs::metadata(root.join(path)).unwrap();
        assert_eq!((found.mode() & 0o7777, found.uid()), (mode, 0), "{path}");
    }
    let shadow = std::fs::read_to_string(root.join("etc/shadow")).unwrap();
    assert!(shadow.lines().all(|line| ["!", "*"].contains(&line.split(':').nth(1).unwrap())), "{shadow}");
    assert!(shadow.starts_with("root:!:"));
    no_devices(&root);
    // Closed to everybody but root, since there is a setuid program in it.
    assert_eq!(std::fs::metadata(host.path("vz/template")).unwrap().mode() & 0o777, 0o700);
    host.started("web01");
    let dead =
        "sh -c 'sleep 0.01 & exec sleep 0.05' & wait; sleep 0.3; ps -o stat,comm | grep -c '^Z' || true";
    assert_eq!(host.exec("web01", dead), "0", "its init reaps orphans");
    let ran = host.run(["exec", "web01", "echo root | su -s /bin/sh nobody -c 'su root -c id'"]);
    assert!(ran.code != 0 && !ran.stdout.contains("uid=0"), "root has no password: {ran}");
}

fn no_devices(directory: &std::path::Path) {
    for entry in std::fs::read_dir(directory).unwrap().flatten() {
        let kind = entry.file_type().unwrap();
        assert!(!kind.is_block_device() && !kind.is_char_device(), "{}", entry.path().display());
        if kind.is_dir() {
            no_devices(&entry.path());
        }
    }
}

#[test]
fn root_a_template_that_was_changed_is_found_and_what_is_named() {
    let Some(host) = RealHost::bare(env!("CARGO_BIN_EXE_prlctl")) else { return };
    assert_eq!(vzpkg(&host, &["create", "cache", "busybox"]).code, 0);
    let ran = vzpkg(&host, &["verify"]);
    assert!(ran.code == 0 && ran.stdout.ends_with(": whole\n"), "{ran}");
    let root = latest(&host).join("rootfs");
    let shell = |line: &str| {
        let ran = std::process::Command::new("sh").args(["-ec", line, "sh"]).arg(&root).status().unwrap();
        assert!(ran.success(), "{line}");
    };
    // Contents of the same length with the same times, a mode, what is gone, what is new, an attribute of none.
    shell(
        "touch -r $1/etc/hosts /tmp/.$$; sed -i s/localhost/localhosT/ $1/etc/hosts; touch -r /tmp/.$$ $1/etc/hosts; rm /tmp/.$$; \
         chmod u+s $1/etc/passwd; rm $1/etc/shells; : >\"$1/etc/new\u{1b}[31m\"; mkdir $1/aaa",
    );
    let ran = vzpkg(&host, &["verify", "busybox"]);
    ran.failed(85, &["not all templates are what they were", "nothing was changed"]);
    let lines: Vec<&str> = ran.stdout.lines().skip(1).collect();
    let found = [
        "  changed etc/hosts",
        "  changed etc/passwd",
        "  missing etc/shells",
        "  extra aaa",
        "  extra etc/new\\x1b[31m",
    ];
    assert_eq!(lines, found, "{ran}");
    let ran = vzpkg(&host, &["verify", "-j"]);
    let json: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(
        (ran.code, &json[0]["whole"], &json[0]["missing"][0]),
        (85, &false.into(), &"etc/shells".into())
    );
    vzpkg(&host, &["verify", "nonesuch"]).failed(91, &["unknown template `nonesuch`"]);

    // What is the matter with another one is not this one's, and its own record is.
    let from = host.path("vz/template/busybox/latest/rootfs").display().to_string();
    assert_eq!(vzpkg(&host, &["create", "cache", "mine", "--from", &from]).code, 0);
    let file = latest(&host).join("template.json");
    let below =
        file.strip_prefix(std::fs::canonicalize(host.prefix()).unwrap()).unwrap().display().to_string();
    host.write(&below, "{", 0o600);
    let ran = vzpkg(&host, &["verify", "mine"]);
    assert!(ran.code == 0 && ran.stdout.ends_with(": whole\n"), "{ran}");
    vzpkg(&host, &["verify", "mine", "busybox"]).failed(85, &["busybox", "template.json` is damaged"]);
    assert_eq!(vzpkg(&host, &["verify", "busybox", "-j"]).code, 85);
}

#[test]
fn root_versions_that_nobody_uses_are_collected_and_others_stay() {
    let Some(host) = RealHost::bare(env!("CARGO_BIN_EXE_prlctl")) else { return };
    let directory = host.path("root");
    let version = |word: &str| {
        let line = "mkdir -p $1/sbin && printf '#!/bin/sh\\n' >$1/sbin/init && chmod 755 $1/sbin/init && echo $2 >$1/version";
        let made =
            std::process::Command::new("sh").args(["-ec", line, "sh"]).arg(&directory).arg(word).status();
        assert!(made.unwrap().success());
        let ran = vzpkg(&host, &["create", "cache", "mine", "--from", directory.to_str().unwrap()]);
        assert_eq!(ran.code, 0, "{ran}");
        std::fs::canonicalize(host.path("vz/template/mine/latest")).unwrap()
    };
    let one = version("one");
    host.ok(["create", "web01", "--ostemplate", "mine"]);
    let (two, three) = (version("two"), version("three"));
    let ran = vzpkg(&host, &["gc", "-j"]);
    let json: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(json["removed"][0]["digest"].as_str(), two.file_name().unwrap().to_str(), "{ran}");
    assert!(one.exists() && !two.exists() && three.exists(), "one is used, and three is the latest");
    assert!(vzpkg(&host, &["gc"]).stdout.starts_with("There is no version"));
    host.ok(["delete", "web01"]);
    vzpkg(&host, &["gc"]);
    assert!(!one.exists() && three.exists());

    // What the killed have left goes, too.
    let left = host.path("vz/template/.staging-1-00000000000000000000000000000000");
    std::fs::create_dir_all(left.join("rootfs/etc")).unwrap();
    let ran = vzpkg(&host, &["gc"]);
    assert!(
        ran.stderr.contains("1 half made template that killed commands had left has been removed"),
        "{ran}"
    );
    assert!(!left.exists() && ran.code == 0 && ran.stdout.starts_with("There is no version"), "{ran}");
    std::fs::create_dir_all(left.join("rootfs")).unwrap();
    let ran = vzpkg(&host, &["gc", "-j"]);
    let json: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(json["swept"], 1, "{ran}");
    assert!(!vzpkg(&host, &["gc"]).stderr.contains("half made"));
}

/// A root with two names of one file, a named access list, and a device node, packed by GNU tar.
fn packed(host: &RealHost, line: &str) {
    let make = "mkdir -p root/sbin root/etc root/dev && cd root && printf '#!/bin/sh\\n' >sbin/init && chmod 755 sbin/init && ln sbin/init sbin/again && chmod 750 . && \
                printf 'ID=centos\\nVERSION_ID=7\\n' >etc/os-release && chown 7:8 etc/os-release && mknod dev/null c 1 3 && \
                echo anna:x:1000:1000::/:/bin/sh >etc/passwd && ln -s /etc/passwd etc/link && cd .. && ";
    let ran = std::process::Command::new("sh")
        .args(["-ec", &format!("{make}{line}")])
        .current_dir(host.prefix())
        .status();
    assert!(ran.unwrap().success(), "{line}");
}

fn is_packed(root: &std::path::Path) {
    let look = |path: &str| std::fs::symlink_metadata(root.join(path)).unwrap();
    assert_eq!(look(".").mode() & 0o7777, 0o750);
    assert_eq!((look("sbin/init").ino(), look("sbin/init").nlink()), (look("sbin/again").ino(), 2));
    assert_eq!((look("etc/os-release").uid(), look("etc/os-release").gid()), (7, 8));
    assert_eq!(std::fs::read_link(root.join("etc/link")).unwrap(), PathBuf::from("/etc/passwd"));
    no_devices(root);
    let mut names: Vec<_> = std::fs::read_dir(root)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["dev", "etc", "sbin"]);
}

/// What lies in `/vz/template/cache` of an OpenVZ host: a root from its top, with `./` before each name.
#[test]
fn root_a_cache_of_openvz_is_a_template() {
    let Some(host) = new_host() else { return };
    packed(&host, "tar --numeric-owner -C root -czf centos-7-x86_64.tar.gz .");
    let path = host.path("centos-7-x86_64.tar.gz").display().to_string();
    let ran = vzpkg(&host, &["create", "cache", "centos-7-x86_64", "--from", &path]);
    assert_eq!(ran.code, 0, "{ran}");
    assert!(ran.stderr.contains("1 device node is left out (`./dev/null`)"), "{ran}");
    is_packed(&host.path("vz/template/centos-7-x86_64/latest/rootfs"));
    let json: serde_json::Value = serde_json::from_str(&vzpkg(&host, &["list", "-j"]).stdout).unwrap();
    assert!(json[0]["source"].as_str().unwrap().starts_with("tar.gz "), "{json}");
    host.ok(["create", "web01", "--ostemplate", "centos-7-x86_64"]);
}

/// A host that comes from OpenVZ has its caches and its templates in the same directory.
#[test]
fn root_what_is_no_template_is_not_removed_as_one() {
    let Some(host) = new_host() else { return };
    host.ok(["list"]);
    let file = host.path("vz/template/cache/centos-7-x86_64.tar.gz");
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    host.write("vz/template/cache/centos-7-x86_64.tar.gz", "the only one", 0o600);
    vzpkg(&host, &["remove", "cache", "cache"]).failed(91, &["unknown template `cache`"]);
    let ran = host.run(["create", "web01", "--ostemplate", "cache"]);
    assert!(ran.code == 91 && !ran.stderr.contains("there are: cache"), "{ran}");
    // Also where somebody has made a template of that name beside it.
    std::fs::create_dir_all(host.path("root/sbin")).unwrap();
    host.write("root/sbin/init", "#!/bin/sh\n", 0o755);
    let from = host.path("root").display().to_string();
    assert_eq!(vzpkg(&host, &["create", "cache", "cache", "--from", &from]).code, 0);
    vzpkg(&host, &["remove", "cache", "cache"]).failed(
        21,
        &[
            "`centos-7-x86_64.tar.gz` in ",
            " is no version of a template",
            "nothing was changed",
            "move that elsewhere",
        ],
    );
    let version = std::fs::read_link(host.path("vz/template/cache/latest")).unwrap();
    vzpkg(&host, &["remove", "cache", &format!("cache@{}", version.display())])
        .failed(21, &["centos-7-x86_64.tar.gz"]);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "the only one");
    std::fs::remove_file(&file).unwrap();
    assert_eq!(vzpkg(&host, &["remove", "cache", "cache"]).code, 0);
}

/// Nothing of it is in anybody's way, and what is repaired below is seen.
#[test]
fn root_a_start_that_has_failed_leaves_nothing_mounted() {
    let Some(host) = new_host() else { return };
    assert_eq!(vzpkg(&host, &["create", "cache", "busybox"]).code, 0);
    host.started("web01");
    host.exec("web01", "rm /sbin/init");
    host.ok(["stop", "web01", "--kill"]);
    assert_ne!(host.run(["start", "web01"]).code, 0);
    let id = host.area("web01").file_name().unwrap().to_string_lossy().into_owned();
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let left: Vec<&str> =
        mounts.lines().filter(|line| line.contains(&format!("{id}/generations/"))).collect();
    assert!(left.is_empty(), "{left:?}");
}

/// As a cache of OpenVZ, and as an image of Incus.
#[test]
fn root_containers_run_on_what_others_have_packed() {
    let Some(host) = new_host() else { return };
    assert_eq!(vzpkg(&host, &["create", "cache", "busybox"]).code, 0);
    let root = std::fs::canonicalize(host.path("vz/template/busybox/latest/rootfs")).unwrap();
    let pack = "mkdir image; cp -a \"$1\" image/rootfs; echo architecture: x86_64 >image/metadata.yaml; \
                tar --numeric-owner -C image/rootfs -czf openvz.tar.gz .; tar --numeric-owner -C image -czf incus.tar.gz metadata.yaml rootfs";
    let ran = std::process::Command::new("sh")
        .args(["-ec", pack, "pack"])
        .arg(&root)
        .current_dir(host.prefix())
        .status();
    assert!(ran.unwrap().success());
    for name in ["openvz", "incus"] {
        let path = host.path(&format!("{name}.tar.gz")).display().to_string();
        let ran = vzpkg(&host, &["create", "cache", name, "--from", &path]);
        assert_eq!(ran.code, 0, "{ran}");
        host.ok(["create", name, "--ostemplate", name, "--hostname", "mine"]);
        host.ok(["start", name, "--wait"]);
        assert_eq!(host.exec(name, "hostname; grep -c mine /etc/hosts"), "mine\n1");
        host.ok(["stop", name]);
    }
}

/// However it was packed: `metadata.yaml` before or after all of the root, which has thousands of entries.
#[test]
fn root_an_image_of_incus_is_a_template() {
    let Some(host) = new_host() else { return };
    let pack = "echo architecture: x86_64 >metadata.yaml; mkdir templates; echo x >templates/hostname.tpl; mv root rootfs; \
                tar -czf first.tar.gz metadata.yaml rootfs templates; (cd rootfs/etc && seq -f 'n%g' 3000 | xargs touch); \
                tar -cf last.tar ./rootfs ./templates ./metadata.yaml";
    packed(&host, pack);
    for (name, what) in [("first.tar.gz", "unified image tar.gz "), ("last.tar", "unified image tar ")] {
        let path = host.path(name).display().to_string();
        let ran = vzpkg(&host, &["create", "cache", "mine", "--from", &path]);
        assert_eq!(ran.code, 0, "{ran}");
        assert!(ran.stderr.contains("it is an image of Incus or LXD: its `rootfs` is taken"), "{ran}");
        is_packed(&host.path("vz/template/mine/latest/rootfs"));
        let json: serde_json::Value = serde_json::from_str(&vzpkg(&host, &["list", "-j"]).stdout).unwrap();
        let of = |source: &serde_json::Value| source.as_str().is_some_and(|source| source.starts_with(what));
        assert!(json.as_array().unwrap().iter().any(|version| of(&version["source"])), "{json}");
    }
}

#[test]
fn root_an_image_that_is_unpacked_is_told_and_one_of_several_is_only_of_images() {
    let Some(host) = new_host() else { return };
    packed(
        &host,
        "tar -cf root.tar -C root . && mkdir image && cp -a root image/rootfs && : >image/metadata.yaml",
    );
    let path = |name: &str| host.path(name).display().to_string();
    let create = |from: &str, more: &[&str]| {
        vzpkg(&host, &[&["create", "cache", "mine", "--from", from][..], more].concat())
    };
    let ran = create(&path("image"), &[]);
    ran.failed(21, &["an image of Incus or LXD that somebody has unpacked", "nothing was changed"]);
    assert!(ran.stderr.contains(&format!("hint: `--from {}/rootfs`", path("image"))), "{ran}");
    for name in ["root", "root.tar"] {
        create(&path(name), &["--image", "shop:1.2"]).failed(
            21,
            &[
                "cannot make template `mine`",
                "it is no image",
                "`shop:1.2` names one of several",
                "leave `--image`",
            ],
        );
    }
    assert_eq!(create(&path("image/rootfs"), &[]).code, 0);
    // A root may have both names at its top.
    packed(&host, ": >metadata.yaml; mkdir rootfs");
    assert_eq!(create(&path("root"), &[]).code, 0);
}

#[test]
fn root_a_containers_root_is_a_template_for_others() {
    let Some(host) = RealHost::bare(env!("CARGO_BIN_EXE_prlctl")) else { return };
    assert_eq!(vzpkg(&host, &["create", "cache", "busybox"]).code, 0);
    host.started("web01");
    host.exec("web01", "echo golden >/etc/golden; rm /etc/shells; mkdir -p /etc/ssh; : >/etc/ssh/ssh_host_rsa_key; mkfifo /srv/fifo");
    let from = ["create", "cache", "golden", "--from", "container:web01"];
    vzpkg(&host, &from).failed(32, &["`web01` runs", "prlctl stop web01"]);
    host.ok(["stop", "web01"]);
    let ran = vzpkg(&host, &from);
    assert_eq!(ran.code, 0, "{ran}");
    assert!(ran.stderr.contains("there are SSH host keys in it"), "{ran}");
    host.ok(["start", "web01"]);
    host.ok(["create", "web02", "--ostemplate", "golden"]);
    host.ok(["start", "web02"]);
    assert_eq!(
        host.exec("web02", "cat /etc/golden; test -p /srv/fifo && ls /etc/shells 2>&1 | grep -c No"),
        "golden\n1"
    );
    vzpkg(&host, &["create", "cache", "x", "--from", "container:nobody"]).failed(14, &["nobody"]);
    vzpkg(&host, &["create", "cache", "x", "--from", "/nonexistent"])
        .failed(21, &["`/nonexistent` cannot be read", "nothing was changed"]);
    vzpkg(&host, &["create", "cache", "x", "--from", "/dev/null"])
        .failed(21, &["it is neither a directory nor a file"]);
}
