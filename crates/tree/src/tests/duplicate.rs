//! A layer made again somewhere else, judged by what lies on the disk of both.

use super::*;
use crate::{Size, TreeError, duplicate, snapshot};
use rustix::fs::{FileType, Mode, XattrFlags, mknodat, setxattr};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

fn open(scene: &Scene, path: &str) -> std::os::fd::OwnedFd {
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY;
    rustix::fs::open(scene.at(path), flags, Mode::empty()).unwrap()
}

fn copied(scene: &Scene, goes_on: &mut dyn FnMut(Size) -> bool) -> Result<Size, TreeError> {
    scene.directory("to");
    duplicate(open(scene, "from").as_fd(), open(scene, "to").as_fd(), goes_on)
}

#[test]
fn root_makes_everything_again_marks_and_whiteouts_too() {
    if !is_root() {
        return;
    }
    let scene = Scene::new();
    scene
        .directory("from/a/b/c")
        .file("from/a/one", "one")
        .file("from/a/b/two", "two")
        .mode("from/a/b", 0o2751);
    scene.mode("from/a/one", 0o4755).mode("from", 0o755);
    let from = open(&scene, "from");
    std::fs::hard_link(scene.at("from/a/one"), scene.at("from/a/b/c/same")).unwrap();
    std::os::unix::fs::symlink("../one", scene.at("from/a/b/link")).unwrap();
    let sparse = std::fs::File::create(scene.at("from/sparse")).unwrap();
    sparse.set_len(1 << 30).unwrap();
    mknodat(&from, "fifo", FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    mknodat(&from, "gone", FileType::CharacterDevice, Mode::empty(), 0).unwrap();
    for (path, name, value) in [
        ("from", "trusted.overlay.origin", "x"),
        ("from/a", "trusted.overlay.opaque", "y"),
        ("from/a/b", "trusted.overlay.redirect", "/elsewhere"),
        ("from/a/one", "user.note", "kept"),
    ] {
        setxattr(scene.at(path), name, value.as_bytes(), XattrFlags::empty()).unwrap();
    }
    let made = copied(&scene, &mut |_| true).unwrap();
    assert_eq!(made.entries, 10);
    let shot = |path: &str| snapshot(open(&scene, path).as_fd()).unwrap();
    assert_eq!(shot("from").differences(&shot("to")), Vec::<String>::new());
    let of = |path: &str| scene.at(path).metadata().unwrap();
    assert_eq!(of("to/a/one").ino(), of("to/a/b/c/same").ino());
    assert!(of("to/sparse").blocks() < 100 && of("to/sparse").len() == 1 << 30);
    assert_eq!(scene.at("to/gone").symlink_metadata().unwrap().rdev(), 0);
    for path in ["", "/a", "/a/b", "/a/one", "/a/b/link"] {
        let time = |side: &str| {
            let found = scene.at(&format!("{side}{path}")).symlink_metadata().unwrap();
            (found.mtime(), found.mtime_nsec())
        };
        assert_eq!(time("from"), time("to"), "{path}");
    }
}

/// On xfs each list has a second name, which would become an attribute of its own elsewhere.
#[test]
fn root_gives_no_list_of_xfs_a_second_time() {
    if !is_root() {
        return;
    }
    let scene = Scene::new();
    scene.directory("from").file("from/one", "one");
    for name in ["trusted.SGI_ACL_FILE", "trusted.SGI_ACL_DEFAULT", "trusted.other"] {
        setxattr(scene.at("from/one"), name, b"x", XattrFlags::empty()).unwrap();
    }
    copied(&scene, &mut |_| true).unwrap();
    let mut names = vec![0_u8; 256];
    let length = rustix::fs::listxattr(scene.at("to/one"), &mut names[..]).unwrap();
    assert_eq!(names[..length], *b"trusted.other\0");
}

#[test]
fn goes_deeper_than_any_path() {
    let scene = Scene::new();
    scene.directory("from");
    let mut at = open(&scene, "from");
    let name = "d".repeat(200);
    for _ in 0..100 {
        rustix::fs::mkdirat(&at, &*name, Mode::RWXU).unwrap();
        let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY;
        at = rustix::fs::openat(&at, &*name, flags, Mode::empty()).unwrap();
    }
    let flags = rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::CREATE;
    drop(rustix::fs::openat(&at, "one", flags, Mode::RUSR).unwrap());
    rustix::fs::linkat(&at, "one", &at, "two", rustix::fs::AtFlags::empty()).unwrap();
    assert_eq!(copied(&scene, &mut |_| true).unwrap().entries, 102);
    let shot = |path: &str| snapshot(open(&scene, path).as_fd()).unwrap();
    assert_eq!(shot("from").differences(&shot("to")), Vec::<String>::new());
}

#[test]
fn stops_when_it_is_told_to() {
    let scene = Scene::new();
    for number in 0..20 {
        scene.file(&format!("from/{number}"), "x");
    }
    let mut left = 5;
    let stopped = copied(&scene, &mut |_| {
        left -= 1;
        left > 0
    });
    assert_eq!(stopped.unwrap_err().io_error().and_then(std::io::Error::raw_os_error), Some(4));
    assert!(scene.at("to").read_dir().unwrap().count() <= 5);
}
