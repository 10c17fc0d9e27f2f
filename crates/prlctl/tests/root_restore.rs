//! `prlctl generation-restore`: what is brought back is as it was, and nothing of the live root is lost by it.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed, and says where")]

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use testkit::{Ran, RealHost};

const TREE: &str = "mkdir -p /srv/www/deep/er /srv/www/bare && echo page > /srv/www/index && ln /srv/www/index /srv/www/deep/same \
    && ln -s /etc/shadow /srv/www/link && mkfifo -m 640 /srv/www/pipe && echo x > /srv/www/deep/er/file && chmod 2750 /srv/www/deep \
    && chown -R 33:34 /srv/www/deep && chown -h 1000:1001 /srv/www/link && chmod 1777 /srv/www/bare && echo 's' > /srv/www/tool && chmod 4755 /srv/www/tool \
    && dd if=/dev/zero of=/srv/www/holes bs=1 count=1 seek=67108864 2>/dev/null && echo island | dd of=/srv/www/holes seek=1M bs=8 conv=notrunc 2>/dev/null \
    && touch -d @1000000000 /srv/www/index && touch -d @1100000000 /srv/www/deep/er && touch -d @1200000000 /srv/www";

/// A host with a running container `web01` on generation 2, whose generation 1 has a tree.
fn with_old_root() -> Option<RealHost> {
    let host = RealHost::new(env!("CARGO_BIN_EXE_prlctl"))?;
    host.started("web01");
    host.exec("web01", TREE);
    host.exec("web01", "echo old > /etc/profile; ln -s /srv/www /srv/way");
    host.ok(["reinstall", "web01"]);
    Some(host)
}

fn restored(host: &RealHost, words: &[&str]) -> Ran {
    let ran = host.run(["generation-restore", "web01"].iter().chain(words));
    assert_eq!(ran.code, 0, "{ran}");
    ran
}

/// Everything below a directory of a layer on the disk: owners and all as they are there.
fn on_disk(top: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut rest = vec![top.to_owned()];
    let mut links: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    while let Some(path) = rest.pop() {
        let facts = path.symlink_metadata().unwrap();
        let name = path.strip_prefix(top).unwrap().display().to_string();
        if facts.is_dir() {
            rest.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            links.entry(facts.ino()).or_default().push(name.clone());
        }
        let contents = if facts.is_file() { std::fs::read(&path).unwrap() } else { Vec::new() };
        let target = std::fs::read_link(&path).unwrap_or_default();
        found.insert(
            name,
            format!(
                "{:o} {}:{} {} {}.{} {target:?} {} {:?}",
                facts.mode(),
                facts.uid(),
                facts.gid(),
                facts.size(),
                if facts.is_dir() || facts.is_file() { facts.mtime() } else { 0 },
                if facts.is_file() { facts.mtime_nsec() } else { 0 },
                contents.iter().filter(|byte| **byte != 0).count(),
                attributes(&path)
            ),
        );
    }
    for mut names in links.into_values().filter(|names| names.len() > 1) {
        names.sort();
        found.insert(format!("one file: {names:?}"), String::new());
    }
    found
}

/// All but overlayfs' own.
fn attributes(path: &Path) -> Vec<(String, Vec<u8>)> {
    let mut list = vec![0; 4096];
    let length = rustix::fs::llistxattr(path, &mut list).unwrap();
    let names = list[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    let names = names.filter(|name| !name.starts_with(b"trusted.overlay."));
    let mut found: Vec<_> = names
        .map(|name| {
            let mut value = vec![0; 4096];
            let length = rustix::fs::lgetxattr(path, std::ffi::OsStr::from_bytes(name), &mut value).unwrap();
            value.truncate(length);
            // That of the container's root, written as the kernel writes what the container sets.
            if name == b"security.capability" && value[3] == 3 && value[20..] == [0; 4] {
                value.truncate(20);
                value[3] = 2;
            }
            (String::from_utf8_lossy(name).into_owned(), value)
        })
        .collect();
    found.sort();
    found
}

fn delta(host: &RealHost, number: u32, path: &str) -> std::path::PathBuf {
    host.area("web01").join(format!("generations/{number}/delta")).join(path)
}

/// An access list with an owner and a group of their own, and a capability.
fn give_attributes(host: &RealHost) {
    host.ok(["stop", "web01"]);
    let entry = |tag: u16, permissions: u16, id: u32| {
        [tag.to_le_bytes().to_vec(), permissions.to_le_bytes().to_vec(), id.to_le_bytes().to_vec()].concat()
    };
    let none = u32::MAX;
    let entries = [
        entry(1, 6, none),
        entry(2, 4, 1000),
        entry(4, 4, none),
        entry(8, 4, 33),
        entry(16, 4, none),
        entry(32, 0, none),
    ];
    let list = [2u32.to_le_bytes().to_vec(), entries.concat()].concat();
    let capability = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let flags = rustix::fs::XattrFlags::empty();
    for (path, name, value) in [
        ("srv/www/index", "system.posix_acl_access", &list[..]),
        ("srv/www/bare", "system.posix_acl_default", &list),
        ("srv/www/index", "user.note", b"kept"),
        ("srv/www/tool", "security.capability", capability),
    ] {
        rustix::fs::setxattr(delta(host, 1, path), name, value, flags).unwrap();
    }
    host.ok(["start", "web01", "--wait"]);
}

#[test]
fn root_restore_brings_a_tree_back_with_all_that_it_has_running_and_stopped() {
    let Some(host) = with_old_root() else { return };
    give_attributes(&host);
    let before = on_disk(&delta(&host, 1, "srv/www"));
    assert!(before.keys().any(|name| name.starts_with("one file")), "{before:#?}");
    let ran = restored(&host, &["1", "/srv/www"]);
    assert!(ran.stdout.contains("/srv/www has been successfully restored from generation 1."), "{ran}");
    assert_eq!(on_disk(&delta(&host, 2, "srv/www")), before);
    let seen = "stat -c '%u:%g %a %Y' /srv/www/deep /srv/www/index; cat /srv/www/deep/same; readlink /srv/www/link; ls -A /srv";
    assert_eq!(
        host.exec("web01", seen),
        "33:34 2750 ".to_owned()
            + &host.exec("web01", "stat -c %Y /old/srv/www/deep")
            + "\n33:34 640 1000000000\npage\n/etc/shadow\nwww"
    );
    let blocks = delta(&host, 2, "srv/www/holes").metadata().unwrap().blocks();
    assert!(blocks * 512 < 1 << 20, "the hole has become {blocks} blocks");
    host.ok(["stop", "web01"]);
    restored(&host, &["1", "/srv/www", "--to", "/srv/again"]);
    assert_eq!(on_disk(&delta(&host, 2, "srv/again")), before);
    // Also while it is mounted for the host.
    host.ok(["mount", "web01"]);
    let ran = restored(&host, &["1", "/srv/www/index", "--to", "/srv/file", "-j"]);
    let document: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(
        (&document["result"], &document["from"], &document["to"]),
        (&"restored".into(), &1.into(), &"/srv/file".into())
    );
    assert_eq!(
        (&document["entries"], &document["bytes"], &document["saved_as"]),
        (&1.into(), &5.into(), &serde_json::Value::Null)
    );
    host.ok(["umount", "web01"]);
    host.ok(["start", "web01", "--wait"]);
    assert_eq!(
        host.exec("web01", "cat /srv/file /srv/again/index; ls -A /srv"),
        "page\npage\nagain\nfile\nwww"
    );
}

#[test]
fn root_restore_refuses_what_is_in_the_way_or_saves_it() {
    let Some(host) = with_old_root() else { return };
    let new = host.exec("web01", "cat /etc/profile");
    for is_stopped in [false, true] {
        if is_stopped {
            host.ok(["stop", "web01"]);
        }
        host.run(["generation-restore", "web01", "1", "/etc/profile"]).failed(
            44,
            &[
                "cannot restore `/etc/profile` of `web01`",
                "a regular file is there already",
                "nothing was changed",
                "--to /etc/profile.restored",
                "--replace",
            ],
        );
    }
    let ran = restored(&host, &["1", "/etc/profile", "--replace"]);
    assert!(ran.stderr.contains("what was there is /etc/profile.before-restore\n"), "{ran}");
    host.ok(["start", "web01", "--wait"]);
    assert_eq!(host.exec("web01", "cat /etc/profile"), "old");
    assert_eq!(host.exec("web01", "cat /etc/profile.before-restore"), new);
    // Once more, and with a directory of the template in the way.
    let ran = restored(&host, &["1", "/etc/profile", "--replace"]);
    assert!(ran.stderr.contains("what was there is /etc/profile.before-restore-2\n"), "{ran}");
    host.exec("web01", "echo mine > /etc/mine");
    restored(&host, &["1", "/etc", "--replace"]);
    assert_eq!(
        host.exec("web01", "cat /etc/profile /etc.before-restore/mine /etc.before-restore/profile.before-restore-2; ls -A / | grep reroot; :"),
        "old\nmine\nold"
    );
    // The same again after a start on that root.
    host.ok(["restart", "web01"]);
    assert_eq!(host.exec("web01", "cat /etc.before-restore/profile.before-restore"), new);
}

#[test]
fn root_restore_makes_the_way_as_it_was_and_copies_a_link_as_a_link() {
    let Some(host) = with_old_root() else { return };
    restored(&host, &["1", "/srv/www/deep/er/file"]);
    assert_eq!(
        host.exec("web01", "cat /srv/www/deep/er/file; stat -c '%u %a' /srv/www/deep; stat -c %Y /srv/www/deep/er /srv/www; find /srv | sort | tail -n +2"),
        "x\n33 2750\n1100000000\n1200000000\n/srv/www\n/srv/www/deep\n/srv/www/deep/er\n/srv/www/deep/er/file"
    );
    // A symlink at the end is brought back, one on the way is followed.
    restored(&host, &["1", "/srv/way"]);
    restored(&host, &["1", "/srv/way/index"]);
    assert_eq!(host.exec("web01", "readlink /srv/way; cat /srv/www/index"), "/srv/www\npage");
}

#[test]
fn root_restore_says_what_it_cannot_bring_back_or_where_to() {
    let Some(host) = with_old_root() else { return };
    for (words, code, said) in [
        (
            &["1", "/none"][..],
            21,
            &["`/none` is not in generation 1", "prlctl mount web01 --generation 1"][..],
        ),
        (&["1", "/srv/www/index/x"], 21, &["is not in generation 1"]),
        (&["7", "/srv"], 21, &["there is no generation 7", "generation-list web01 --all"]),
        (&["2", "/srv"], 21, &["generation 2 is the root as it is now"]),
        (&["1", "srv"], 21, &["does not begin with /"]),
        (&["1", "/"], 21, &["it is the whole root"]),
        (&["1", "/srv/../etc"], 21, &["`..` is not followed"]),
        (&["1", "/srv/www", "--to", "/none/www"], 21, &["the directory `/none` is not there"]),
        (&["1", "/srv/www", "--to", "/etc/profile/www"], 21, &["a regular file, not a directory"]),
        (&["1", "/srv/www", "--to", "/run/www"], 21, &["something else is mounted there at every start"]),
        (&["1", "/srv/www", "--to", "/old/www"], 21, &["something else is mounted there at every start"]),
        (&["one", "/srv"], 21, &["invalid value"]),
    ] {
        let ran = host.run(["generation-restore", "web01"].iter().chain(words));
        ran.failed(code, said);
        ran.failed(code, &["nothing was changed", "hint: "]);
    }
    host.exec("web01", "mkdir /srv/ram && mount -t tmpfs tmpfs /srv/ram");
    host.run(["generation-restore", "web01", "1", "/srv/www", "--to", "/srv/ram/www"])
        .failed(21, &["something else is mounted there in the container"]);
    host.run(["generation-restore", "none", "1", "/srv"]).failed(14, &["unknown container"]);
    assert_eq!(host.exec("web01", "ls -A /srv /srv/ram"), "/srv:\nram\n\n/srv/ram:");
}

#[test]
fn root_restore_never_leads_out_of_either_root() {
    let Some(host) = with_old_root() else { return };
    host.write("secret/file", "of the host", 0o644);
    let outside = host.prefix().join("secret");
    let outside = outside.display();
    // In the old root by way of /old, and in the live one.
    host.exec("web01", &format!("ln -s {outside} /old/srv/out; ln -s {outside} /srv/out; ln -s ../../../../../../../..{outside} /srv/up; ln -s /proc/1/root /srv/magic"));
    for is_stopped in [false, true] {
        if is_stopped {
            host.ok(["stop", "web01"]);
        }
        host.run(["generation-restore", "web01", "1", "/srv/out/file", "--to", "/srv/stolen"])
            .failed(21, &["is not in generation 1"]);
        for to in ["/srv/out/file", "/srv/out/new", "/srv/up/new", "/srv/magic/srv/new"] {
            let ran = host.run(["generation-restore", "web01", "1", "/srv/www", "--to", to, "--replace"]);
            ran.failed(21, &["nothing was changed"]);
        }
    }
    let names: Vec<_> =
        std::fs::read_dir(host.path("secret")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["file"]);
    assert_eq!(std::fs::read_to_string(host.path("secret/file")).unwrap(), "of the host");
}

#[test]
fn root_restore_against_a_container_that_moves_everything_about() {
    let Some(host) = with_old_root() else { return };
    host.write("secret/file", "of the host", 0o644);
    let outside = host.prefix().join("secret").display().to_string();
    host.exec("web01", "mkdir -p /old/srv/many; cd /old/srv/many; seq 1 300 | while read n; do mkdir d$n; mkfifo d$n/pipe; echo $n > d$n/file; done; mkdir -p /srv/t");
    // Whatever name of ours appears is exchanged for a link to the host, and put back, as fast as a shell can.
    host.exec(
        "web01",
        &format!(
            "(while :; do for d in /srv/t/.reroot-restore-*/many /srv/t/.reroot-restore-*/d1* /srv/t/.reroot-restore-*/d2*/pipe; do mv $d $d.x; ln -s {outside} $d; rm -f $d; mv $d.x $d; done; done) >/dev/null 2>&1 &"
        ),
    );
    for round in 0..4 {
        let to = format!("/srv/t/{round}");
        let ran = host.run(["generation-restore", "web01", "1", "/srv/many", "--to", to.as_str()]);
        assert!([0, 3, 21].contains(&ran.code), "{ran}");
    }
    let facts = host.path("secret/file").metadata().unwrap();
    assert_eq!((facts.mode() & 0o7777, facts.uid()), (0o644, 0));
    assert_eq!(host.path("secret").metadata().unwrap().uid(), 0);
    let names: Vec<_> =
        std::fs::read_dir(host.path("secret")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["file"]);
    host.ok(["stop", "web01", "--kill"]);
}

#[test]
fn root_restore_that_was_killed_or_interrupted_leaves_only_what_the_next_one_takes_away() {
    let Some(host) = with_old_root() else { return };
    host.exec("web01", "mkdir /old/srv/many; cd /old/srv/many; seq 1 20000 | xargs touch");
    for (signal, code) in [(rustix::process::Signal::INT, Some(130)), (rustix::process::Signal::KILL, None)] {
        let mut command = host.prlctl();
        command.args(["generation-restore", "web01", "1", "/srv/many"]);
        let child = command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::piped()).spawn();
        let mut child = child.unwrap();
        let srv = delta(&host, 2, "srv");
        host.wait_until("it copies", || {
            let mut names = std::fs::read_dir(&srv).into_iter().flatten().flatten();
            names.any(|entry| entry.file_name().as_bytes().starts_with(b".reroot-restore-"))
        });
        rustix::process::kill_process(rustix::process::Pid::from_child(&child), signal).unwrap();
        assert_eq!(child.wait().unwrap().code(), code);
        let mut said = String::new();
        std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut said).unwrap();
        assert_eq!(host.exec("web01", "ls -d /srv/many 2>/dev/null; :"), "");
        let is_left = host.exec("web01", "ls -A /srv").starts_with(".reroot-restore-");
        assert_eq!(is_left, code.is_none(), "{said}");
        if code.is_some() {
            assert!(
                said.contains("SIGINT has interrupted it") && said.contains("nothing was changed"),
                "{said}"
            );
        }
    }
    restored(&host, &["1", "/srv/many"]);
    assert_eq!(host.exec("web01", "ls -A /srv; ls /srv/many | wc -l"), "many\n20000");
}

#[test]
fn root_restore_that_does_not_fit_is_refused_with_figures() {
    let Some(host) = RealHost::on_image(env!("CARGO_BIN_EXE_prlctl"), "64M", "ext4") else { return };
    assert!(host.vzpkg().args(["create", "cache", "busybox"]).output().unwrap().status.success());
    host.started("web01");
    host.exec("web01", "dd if=/dev/urandom of=/srv/big bs=1M count=30 2>/dev/null");
    host.ok(["reinstall", "web01"]);
    host.run(["generation-restore", "web01", "1", "/srv/big"])
        .failed(46, &["what is restored needs", "there are", "nothing was changed"]);
    assert_eq!(host.exec("web01", "ls -A /srv; stat -c %s /old/srv/big"), "31457280");
}

#[test]
fn root_restore_from_a_debian_of_what_its_programs_have_written() {
    let Some(host) = RealHost::with_debian(env!("CARGO_BIN_EXE_prlctl")) else { return };
    host.ok(["create", "web01", "--ostemplate", "debian-12"]);
    host.ok(["start", "web01", "--wait"]);
    host.exec("web01", "useradd -m anna && cp /bin/cat /srv/cat && (setcap cap_net_raw+ep /srv/cat || :) && (setfacl -m u:anna:r /srv/cat || :) && echo mine > /home/anna/file && chown anna: /home/anna/file && rm -rf /usr/share/doc");
    let before = on_disk(&delta(&host, 1, "srv"));
    host.ok(["reinstall", "web01"]);
    host.exec("web01", "rm -rf /usr/share/perl5");
    restored(&host, &["1", "/srv/cat"]);
    restored(&host, &["1", "/home/anna/file"]);
    // Of the template alone, of which neither delta has anything.
    restored(&host, &["1", "/usr/share/perl5"]);
    let after = on_disk(&delta(&host, 2, "srv"));
    assert_eq!(after["cat"], before["cat"]);
    assert_eq!(host.exec("web01", "su anna -c 'cat ~/file'; /srv/cat /home/anna/file; diff -r /old/usr/share/perl5 /usr/share/perl5 && echo same"), "mine\nmine\nsame");
    host.run(["generation-restore", "web01", "1", "/usr/share/doc"]).failed(21, &["is not in generation 1"]);
}
