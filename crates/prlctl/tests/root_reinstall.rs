//! What a reinstall keeps, what it renews, and what `/old` is.
#![expect(clippy::disallowed_methods, reason = "the trees of these tests are their own")]
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, XattrFlags, mknodat, setxattr};
use testkit::RealHost;

fn new() -> Option<RealHost> {
    RealHost::new(env!("CARGO_BIN_EXE_prlctl"))
}

fn uuid(host: &RealHost) -> String {
    host.area("web01").file_name().expect("an area has a name").to_string_lossy().into_owned()
}

fn is_running(host: &RealHost) -> bool {
    host.ok(["status", "web01"]).contains(" running")
}

/// Has the container's root mounted for the host, and unmounts it.
fn mounted<T>(host: &RealHost, work: impl FnOnce(&Path) -> T) -> T {
    host.ok(["mount", "web01", "--lock-wait", "30"]);
    let result = work(&host.path("vz/root").join(uuid(host)));
    host.ok(["umount", "web01", "--lock-wait", "30"]);
    result
}

fn snapshot(path: &Path) -> tree::Snapshot {
    let directory = std::fs::File::open(path).expect("open a root");
    tree::snapshot(directory.as_fd()).expect("read a root")
}

/// A template in a store of its own: `busybox` under another name, changed.
fn with_own_template(
    name: &str,
    change: impl FnOnce(&Path),
    record: &[(&str, serde_json::Value)],
) -> Option<RealHost> {
    let host = RealHost::bare(env!("CARGO_BIN_EXE_prlctl"))?;
    let made = host.vzpkg().args(["create", "cache", "busybox"]).output().unwrap();
    assert!(made.status.success());
    let (from, to) = (host.path("vz/template/busybox"), host.path("vz/template").join(name));
    assert!(std::process::Command::new("cp").arg("-a").args([&from, &to]).status().unwrap().success());
    let version = std::fs::canonicalize(to.join("latest")).unwrap();
    change(&version.join("rootfs"));
    let file = version.join("template.json");
    let mut json: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    json["name"] = name.into();
    for (key, value) in record {
        json[*key] = value.clone();
    }
    host.write(file.strip_prefix(host.prefix()).unwrap().to_str().unwrap(), &json.to_string(), 0o600);
    Some(host)
}

/// Everything that a filesystem can hold and a container's root may.
fn fill(root: &Path) {
    let at = |name: &str| root.join("srv").join(name);
    let write =
        |path: &Path, bytes: &[u8]| std::fs::File::create(path).unwrap().write_all_at(bytes, 0).unwrap();
    std::fs::create_dir_all(at("dir/deep/deeper")).unwrap();
    for (name, mode, owner) in [
        ("plain", 0o644, 0),
        ("setuid", 0o4755, 0),
        ("setgid", 0o2711, 33),
        ("secret", 0o000, 1000),
        ("high", 0o600, 65535),
    ] {
        write(&at(name), name.as_bytes());
        std::os::unix::fs::chown(at(name), Some(owner), Some(owner)).unwrap();
        std::fs::set_permissions(at(name), std::fs::Permissions::from_mode(mode)).unwrap();
    }
    setxattr(at("plain"), "user.note", b"kept", XattrFlags::empty()).unwrap();
    // CAP_NET_RAW, as `setcap cap_net_raw+ep` writes it: VFS_CAP_REVISION_2.
    setxattr(
        at("plain"),
        "security.capability",
        b"\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
        XattrFlags::empty(),
    )
    .unwrap();
    // Version 2; user::rw, user:33:r, group::r, mask::r, other::-; each tag, permissions, id.
    let mut acl = 2u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in [
        (0x01u16, 6u16, u32::MAX),
        (0x02, 4, 33),
        (0x04, 4, u32::MAX),
        (0x10, 4, u32::MAX),
        (0x20, 0, u32::MAX),
    ] {
        acl.extend(tag.to_le_bytes());
        acl.extend(permissions.to_le_bytes());
        acl.extend(id.to_le_bytes());
    }
    setxattr(at("setgid"), "system.posix_acl_access", &acl, XattrFlags::empty()).unwrap();
    std::fs::hard_link(at("plain"), at("dir/linked")).unwrap();
    std::fs::hard_link(at("plain"), root.join("linked-at-the-top")).unwrap();
    let sparse = std::fs::File::create(at("sparse")).unwrap();
    sparse.set_len(1 << 30).unwrap();
    sparse.write_all_at(b"end", (1 << 30) - 3).unwrap();
    for target in ["plain", "/etc/passwd", "../../../../../etc", "nowhere\nat all"] {
        symlink(target, at(&format!("link to {}", target.replace('/', "_")))).unwrap();
    }
    mknodat(CWD, at("pipe"), FileType::Fifo, Mode::from_raw_mode(0o620), 0).unwrap();
    // Not bound: the way to it may be longer than a socket's address.
    mknodat(CWD, at("s"), FileType::Socket, Mode::from_raw_mode(0o755), 0).unwrap();
    for name in [&b"not \xff\xfe utf-8"[..], b"new\nline", b" ", &[b'n'; 255]] {
        write(&root.join("srv").join(OsStr::from_bytes(name)), b"x");
    }
    let old = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_nanos(1_234_567_890_123_456_789);
    for path in [at("plain"), at("dir")] {
        std::fs::File::open(path).unwrap().set_modified(old).unwrap();
    }
    std::fs::remove_file(root.join("etc/profile")).unwrap();
}

fn the_whole_old_root(runs: bool) {
    let Some(host) = new() else { return };
    host.ok(["create", "web01", "--ostemplate", "busybox"]);
    mounted(&host, fill);
    if runs {
        host.ok(["start", "web01"]);
    }
    let (before, blocks) =
        mounted(&host, |root| (snapshot(root), std::fs::metadata(root.join("srv/sparse")).unwrap().blocks()));
    assert!(blocks < 100, "{blocks}");
    for depth in 1..=2 {
        host.ok(["reinstall", "web01"]);
        assert_eq!(is_running(&host), runs);
        let place: PathBuf = std::iter::repeat_n("old", depth).collect();
        let (after, same) = mounted(&host, |root| {
            assert!(
                !root.join("srv/plain").exists() && root.join("etc/profile").exists(),
                "the new root is the template's"
            );
            (
                snapshot(&root.join(&place)),
                std::fs::metadata(root.join(&place).join("srv/sparse")).unwrap().blocks(),
            )
        });
        assert_eq!(before.differences(&after), Vec::<String>::new());
        assert_eq!(before.entries(), after.entries());
        assert_eq!(same, blocks, "it still has its holes");
    }
    if runs {
        assert_eq!(host.exec("web01", "cat /old/old/linked-at-the-top; stat -c %h /old/old/srv/plain; stat -c %u:%a /old/old/srv/high"), "plain3\n65535:600");
    }
}

#[test]
fn root_the_old_root_of_a_running_container_is_whole_at_old() {
    the_whole_old_root(true);
}

#[test]
fn root_the_old_root_of_a_stopped_container_is_whole_at_old() {
    the_whole_old_root(false);
}

#[test]
fn root_each_reinstall_puts_the_roots_before_one_old_further_away_and_read_only() {
    let Some(host) = new() else { return };
    host.started("web01");
    for number in 1..=3 {
        host.exec("web01", &format!("echo {number} > /root/number"));
        host.ok(["reinstall", "web01"]);
    }
    assert_eq!(
        host.exec("web01", "cat /old/root/number /old/old/root/number /old/old/old/root/number"),
        "3\n2\n1"
    );
    let is_so = |host: &RealHost| {
        host.exec("web01", "echo x > /old/written && rm /old/written");
        for place in ["/old/old", "/old/old/old"] {
            let ran = host.run(["exec", "web01", &format!("echo x > {place}/written")]);
            ran.failed(1, &["Read-only file system"]);
            host.run(["exec", "web01", &format!("mount -o remount,rw {place}")]).failed(1, &[]);
        }
        assert_eq!(host.exec("web01", "ls / | grep -c '^old$'"), "1");
    };
    is_so(&host);
    host.ok(["restart", "web01"]);
    is_so(&host);
    assert_eq!(
        host.exec("web01", "cat /old/root/number /old/old/root/number /old/old/old/root/number"),
        "3\n2\n1"
    );
}

#[test]
fn root_removing_everything_in_old_gives_its_space_back_and_spares_the_roots_before() {
    let Some(host) = new() else { return };
    host.started("web01");
    host.exec("web01", "echo 1 > /root/number");
    host.ok(["reinstall", "web01"]);
    host.exec("web01", "echo 2 > /root/number; head -c 20000000 /dev/zero > /srv/large");
    host.ok(["reinstall", "web01"]);
    let large = host.area("web01").join("generations/2/delta/srv/large");
    assert_eq!(std::fs::metadata(&large).unwrap().len(), 20_000_000);
    // It cannot remove the mount point in it, and says so; everything else goes.
    host.run(["exec", "web01", "rm -rf /old/* 2>/dev/null"]);
    assert!(!large.exists());
    assert_eq!(host.exec("web01", "ls -A /old; cat /old/old/root/number"), "old\n1");
    host.ok(["restart", "web01"]);
    assert_eq!(host.exec("web01", "cat /old/old/root/number; test -e /root/number || echo new"), "1\nnew");
}

#[test]
fn root_old_is_nosuid_and_nodev_and_nobody_inside_can_change_that() {
    let Some(host) = new() else { return };
    host.started("web01");
    host.ok(["reinstall", "web01"]);
    let flags = || host.exec("web01", "grep ' /old ' /proc/self/mounts | cut -d' ' -f4");
    for flag in ["rw", "nosuid", "nodev"] {
        assert!(flags().split(',').any(|one| one == flag), "{}", flags());
    }
    for options in ["remount,suid", "remount,dev", "remount,bind,rw,suid,dev", "remount,exec,suid,dev,rw"] {
        let ran = host.run(["exec", "web01", &format!("mount -o {options} /old")]);
        assert_ne!(ran.code, 0, "{options}\n{ran}");
    }
    let ran =
        host.run(["exec", "web01", "mkdir /b && mount -o bind /old /b && mount -o remount,bind,suid,dev /b"]);
    assert_ne!(ran.code, 0, "{ran}");
    for flag in ["nosuid", "nodev"] {
        assert!(flags().split(',').any(|one| one == flag), "{}", flags());
    }
    // `su` tells whether it is setuid; in the new root it is.
    let su = |program: &str| {
        host.run([
            "exec",
            "web01",
            &format!("su -s /bin/sh nobody -c '{program} su root -c id </dev/null' 2>&1"),
        ])
    };
    assert!(su("/old/bin/busybox").stdout.contains("must be suid"), "{}", su("/old/bin/busybox"));
    assert!(!su("/bin/busybox").stdout.contains("must be suid"), "{}", su("/bin/busybox"));
    assert_eq!(host.exec("web01", "stat -c %a /old/bin/busybox"), "4755", "the bit itself is kept");
}

#[test]
fn root_identity_and_configuration_stay_to_the_byte() {
    let Some(host) = new() else { return };
    host.started("web01");
    let (uuid, area) = (uuid(&host), host.area("web01"));
    let conf = area.join("ve.conf");
    let text = format!(
        "# my own comment\n{}\n  # indented, 'quoted\nMY_OWN_KEY=\"some value\"\nONBOOT=no\nPHYSPAGES=\"65536:65536\"\nMAC='00:18:51:00:00:01'\n\n",
        std::fs::read_to_string(&conf).unwrap()
    );
    host.write(conf.strip_prefix(host.prefix()).unwrap().to_str().unwrap(), &text, 0o600);
    std::fs::create_dir_all(area.join("scripts")).unwrap();
    host.script(&format!("vz/private/{uuid}/scripts/start"), "#!/bin/sh\n");
    for words in [vec![], vec!["--skipbackup"], vec!["--undo"]] {
        host.ok([&["reinstall", "web01"][..], &words].concat());
        assert_eq!(std::fs::read_to_string(&conf).unwrap(), text, "{words:?}");
    }
    assert_eq!(
        host.ok(["list", "web01", "-o", "uuid,name", "-H"]).split_whitespace().collect::<Vec<_>>(),
        [&format!("{{{uuid}}}"), "web01"]
    );
    assert!(area.join("scripts/start").exists());
    assert_eq!(std::fs::canonicalize(host.path("etc/vz/names/web01")).unwrap(), conf.canonicalize().unwrap());
    assert_eq!(
        std::fs::canonicalize(host.path(&format!("etc/vz/conf/{uuid}.conf"))).unwrap(),
        conf.canonicalize().unwrap()
    );
}

#[test]
fn root_another_template_changes_two_keys_of_the_configuration_and_undo_puts_them_back() {
    let change = |rootfs: &Path| std::fs::File::create(rootfs.join("etc/other")).map(drop).unwrap();
    let Some(host) = with_own_template("other", change, &[("distribution", "otherix".into())]) else {
        return;
    };
    host.started("web01");
    let conf = host.area("web01").join("ve.conf");
    let before = std::fs::read_to_string(&conf).unwrap();
    for option in ["-t", "--ostemplate", "--ostemplates"] {
        host.ok(["reinstall", "web01", option, "other"]);
        assert_eq!(host.exec("web01", "ls /etc/other"), "/etc/other");
        let after = std::fs::read_to_string(&conf).unwrap();
        let changed: Vec<&str> =
            after.lines().filter(|line| !before.lines().any(|one| one == *line)).collect();
        assert_eq!(changed, [r#"OSTEMPLATE="other""#, r#"DISTRIBUTION="otherix""#], "{after}");
        // Without the option: from what it is made from now.
        host.ok(["reinstall", "web01"]);
        assert_eq!(host.exec("web01", "ls /etc/other"), "/etc/other");
        host.ok(["generation-switch", "web01", "1"]);
        assert_eq!(std::fs::read_to_string(&conf).unwrap(), before);
        assert_eq!(host.run(["exec", "web01", "test -e /etc/other"]).code, 1);
    }
    let ran = host.run(["reinstall", "web01", "-t", "nonesuch"]);
    ran.failed(
        91,
        &[
            "error: cannot reinstall `web01`",
            "unknown template `nonesuch`",
            "there are: busybox, other",
            "state: nothing was changed",
            "`vzpkg create cache NAME` makes one; `vzpkg list --recipes` shows",
        ],
    );
    host.run(["reinstall", "web01", "-t", "../busybox"]).failed(21, &["state: nothing was changed"]);
}

#[test]
fn root_the_machine_id_of_a_new_root_is_a_new_one() {
    let change = |rootfs: &Path| {
        std::fs::File::create(rootfs.join("etc/machine-id"))
            .unwrap()
            .write_all_at(b"uninitialized\n", 0)
            .unwrap()
    };
    let Some(host) = with_own_template("likesystemd", change, &[("systemd", true.into())]) else { return };
    host.ok(["create", "web01", "--ostemplate", "likesystemd"]);
    let id =
        |host: &RealHost| mounted(host, |root| std::fs::read_to_string(root.join("etc/machine-id")).unwrap());
    let mut seen = vec![id(&host)];
    host.ok(["reinstall", "web01"]);
    seen.push(id(&host));
    host.script(
        "etc/vz/conf/vps.reinstall",
        "#!/bin/sh\ncp -a \"$OSTEMPLATE_ROOT/.\" \"$VE_PRIVATE_TMP/\"\necho 0123456789abcdef0123456789abcdef > \"$VE_PRIVATE_TMP/etc/machine-id\"\n",
    );
    host.ok(["reinstall", "web01"]);
    seen.push(id(&host));
    for one in &seen {
        assert!(one.len() == 33 && one.trim_end().bytes().all(|byte| byte.is_ascii_hexdigit()), "{seen:?}");
        assert_eq!(seen.iter().filter(|other| *other == one).count(), 1, "{seen:?}");
    }
    assert!(!seen.contains(&"0123456789abcdef0123456789abcdef\n".to_owned()));
}

#[test]
fn root_a_template_with_something_at_old_is_refused() {
    for (change, said) in [
        ((|rootfs| symlink("/etc", rootfs.join("old")).unwrap()) as fn(&Path), "its /old is no directory"),
        (|rootfs| std::fs::File::create(rootfs.join("old")).map(drop).unwrap(), "its /old is no directory"),
        (|rootfs| std::fs::create_dir_all(rootfs.join("old/x")).unwrap(), "its /old is not empty"),
    ] {
        let Some(host) = with_own_template("odd", change, &[]) else { return };
        host.started("web01");
        let ran = host.run(["reinstall", "web01", "-t", "odd"]);
        ran.failed(21, &["error: cannot reinstall `web01`", said, "state: nothing was changed", "hint: "]);
        assert!(is_running(&host));
        assert!(!host.area("web01").join("generations/2").exists());
    }
    let Some(host) =
        with_own_template("free", |rootfs| std::fs::create_dir(rootfs.join("old")).unwrap(), &[])
    else {
        return;
    };
    host.started("web01");
    host.ok(["reinstall", "web01", "-t", "free"]);
    assert_eq!(host.exec("web01", "ls -d /old/bin"), "/old/bin");
}
