//! Digests and snapshots: equal for the same tree, different for any other.

#![expect(clippy::disallowed_methods, reason = "the trees of these tests are their own")]

use super::*;
use crate::{Snapshot, digest, snapshot};
use rustix::fs::{Timespec, Timestamps};

fn hex(scene: &Scene) -> String {
    digest(scene.handle().as_fd()).unwrap().hex
}

fn shot(scene: &Scene) -> Snapshot {
    snapshot(scene.handle().as_fd()).unwrap()
}

fn sample(names: &[&str]) -> Scene {
    let scene = Scene::new();
    for name in names {
        scene.file(name, name);
    }
    scene.symlink("b", "link").mode("", 0o755).mode("d", 0o755).mode("d/e", 0o755);
    scene
}

#[test]
fn the_order_of_creation_and_the_time_do_not_matter() {
    let names = ["a", "b", "c", "d/e/f", "d/x", "d.x", "é"];
    let mut backwards = names;
    backwards.reverse();
    let (one, two) = (sample(&names), sample(&backwards));
    let found = digest(one.handle().as_fd()).unwrap();
    assert_eq!(found, digest(two.handle().as_fd()).unwrap());
    assert_eq!((found.hex.len(), found.entries, found.bytes), (64, 10, 16));
}

/// Whatever a container's root could tell apart.
#[test]
fn root_every_change_changes_digest_and_snapshot() {
    if !is_root() {
        return;
    }
    type Change = fn(&Scene);
    let changes: &[(&str, Change)] = &[
        ("contents of the same size", |scene| write(&scene.at("a"), b"z")),
        ("size", |scene| write(&scene.at("a"), b"aa")),
        ("zeros at the end", |scene| write(&scene.at("a"), b"a\0")),
        ("mode", |scene| ignore(scene.mode("a", 0o4755))),
        ("owner", |scene| std::os::unix::fs::chown(scene.at("a"), Some(5), None).unwrap()),
        ("group", |scene| std::os::unix::fs::chown(scene.at("a"), None, Some(5)).unwrap()),
        ("top's mode", |scene| ignore(scene.mode("", 0o700))),
        ("a new empty directory", |scene| ignore(scene.directory("d/new"))),
        ("a name", |scene| rustix::fs::rename(scene.at("a"), scene.at("a2")).unwrap()),
        ("a place", |scene| rustix::fs::rename(scene.at("a"), scene.at("d/a")).unwrap()),
        ("link target", |scene| {
            std::fs::remove_file(scene.at("link")).unwrap();
            scene.symlink("c", "link");
        }),
        ("kind", |scene| {
            std::fs::remove_file(scene.at("a")).unwrap();
            scene.fifo("a").mode("a", 0o644);
        }),
        ("a hard link instead of a copy", |scene| {
            std::fs::remove_file(scene.at("same")).unwrap();
            std::fs::hard_link(scene.at("a"), scene.at("same")).unwrap();
        }),
        ("an attribute", |scene| ignore(scene.attribute("a", "user.x", b"1"))),
        ("an attribute of a directory", |scene| ignore(scene.attribute("d", "trusted.x", b"1"))),
        ("an attribute of a symlink", |scene| ignore(scene.attribute("link", "trusted.x", b"1"))),
        ("a device number", |scene| {
            std::fs::remove_file(scene.at("null")).unwrap();
            scene.device("null", FileType::CharacterDevice, 1, 5);
        }),
    ];
    let base = || {
        let scene = sample(&["a", "b", "d/e/f"]);
        scene.file("same", "a").device("null", FileType::CharacterDevice, 1, 3);
        scene
    };
    for (what, change) in changes {
        let scene = base();
        let (hex_before, before) = (hex(&scene), shot(&scene));
        assert!(before.differences(&shot(&scene)).is_empty(), "{what}");
        change(&scene);
        assert_ne!(hex_before, hex(&scene), "{what}");
        assert!(!before.differences(&shot(&scene)).is_empty(), "{what}");
        assert!(!shot(&scene).differences(&before).is_empty(), "{what}");
    }
}

#[test]
fn differences_name_what_differs_escaped() {
    let scene = Scene::new();
    scene.file("keep", "1").file("gone\x1b[2J", "2").file("dir/changed", "3").mode("dir/changed", 0o644);
    still(&scene, &["keep", "dir/changed", "dir", ""]);
    let before = shot(&scene);
    assert_eq!(before.entries(), 4);
    rustix::fs::rename(scene.at("gone\x1b[2J"), scene.at("new")).unwrap();
    write(&scene.at("dir/changed"), b"four");
    scene.mode("dir/changed", 0o600);
    still(&scene, &["dir/changed", "dir", ""]);
    assert_eq!(
        before.differences(&shot(&scene)),
        ["gone\\x1b[2J: is missing", "new: is new", "dir/changed: mode 0644, now 0600; 1 bytes, now 4"]
    );
}

#[test]
fn hard_links_are_compared_as_groups() {
    let scene = Scene::new();
    scene.file("a", "x").file("c", "x");
    std::fs::hard_link(scene.at("a"), scene.at("b")).unwrap();
    std::fs::hard_link(scene.at("c"), scene.at("d")).unwrap();
    std::fs::hard_link(scene.outside("secret"), scene.at("single here")).unwrap();
    let before = shot(&scene);
    let found = digest(scene.handle().as_fd()).unwrap();
    assert_eq!((found.entries, found.bytes), (5, 2 + "the host's own".len() as u64));
    for (name, to) in [("b", "c"), ("d", "a")] {
        std::fs::remove_file(scene.at(name)).unwrap();
        std::fs::hard_link(scene.at(to), scene.at(name)).unwrap();
    }
    let lines = before.differences(&shot(&scene));
    let told = |what: &str| assert!(lines.iter().any(|line| line.contains(what)), "{what}: {lines:?}");
    told("was the same file as `a`, is the first of several links");
    told("was the first of several links, is the same file as `b`");
    told("was the same file as `c`, is the same file as `a`");
    assert_ne!(found.hex, hex(&scene));
}

#[test]
fn a_hole_and_the_zeros_it_stands_for_are_the_same() {
    use std::os::unix::fs::FileExt;
    let make = |sparse: bool| {
        let scene = Scene::new();
        let file = std::fs::File::create(scene.at("file")).unwrap();
        if !sparse {
            file.write_all_at(&vec![0; 3 << 20], 0).unwrap();
        }
        file.write_all_at(b"in the middle", (1 << 20) + 4090).unwrap();
        file.set_len((3 << 20) + 5).unwrap();
        scene
    };
    let (one, two) = (make(true), make(false));
    assert_eq!(hex(&one), hex(&two));
    let other = make(true);
    other.mode("file", 0o644);
    std::fs::File::options().write(true).open(other.at("file")).unwrap().write_all_at(b"!", 1 << 20).unwrap();
    assert_ne!(hex(&one), hex(&other));
}

#[test]
fn a_sparse_terabyte_takes_no_time() {
    use std::os::unix::fs::FileExt;
    within(Duration::from_secs(20), || {
        let scene = Scene::new();
        let file = std::fs::File::create(scene.at("disk")).unwrap();
        file.set_len(1 << 40).unwrap();
        file.write_all_at(b"x", (1 << 40) - 1).unwrap();
        assert_eq!(digest(scene.handle().as_fd()).unwrap().bytes, 1 << 40);
    });
}

#[test]
fn fifos_do_not_hang_and_a_deep_tree_is_walked() {
    within(Duration::from_secs(120), || {
        let scene = Scene::new();
        scene.fifo("pipe");
        deep(&scene.handle(), c"d", 20_000);
        assert_eq!(digest(scene.handle().as_fd()).unwrap().entries, 20_001);
        let before = shot(&scene);
        assert!(before.differences(&shot(&scene)).is_empty());
    });
}

#[test]
fn root_what_is_mounted_is_not_entered() {
    if !is_root() {
        return;
    }
    let scene = Scene::new();
    scene.directory("at");
    let Some(_mounted) = Mounted::tmpfs(scene.at("at")) else { return };
    let before = (hex(&scene), shot(&scene));
    write(&scene.at("at/file"), b"x");
    assert_eq!(before.0, hex(&scene));
    assert!(before.1.differences(&shot(&scene)).is_empty());
}

/// Sets the times back, so that only what a test means to change differs.
fn still(scene: &Scene, paths: &[&str]) {
    let at = Timespec { tv_sec: 1_000_000_000, tv_nsec: 7 };
    for path in paths {
        let times = Timestamps { last_access: at, last_modification: at };
        rustix::fs::utimensat(fs::CWD, scene.at(path), &times, fs::AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }
}

fn ignore(_: &Scene) {}
