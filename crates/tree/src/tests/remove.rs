//! Removing what does not want to go.

use super::*;
use crate::{Removed, TreeError, empty_directory, remove_entry};
use std::ffi::OsStr;

fn empty(scene: &Scene) -> Removed {
    empty_directory(scene.handle().as_fd()).unwrap()
}

#[test]
fn everything_below_goes_and_nothing_a_link_points_to() {
    let scene = Scene::new();
    scene.file("a/b/c", "1").file("a/d", "2").fifo("pipe").symlink(scene.outside("secret"), "link");
    scene.symlink(scene.outside(""), "a/host").symlink("/", "a/slash");
    std::fs::hard_link(scene.outside("secret"), scene.at("hard")).unwrap();
    let removed = empty(&scene);
    assert_eq!(removed, Removed { entries: 9, left: vec![] });
    assert!(scene.names().is_empty());
    assert_eq!(read(&scene.outside("secret")), "the host's own");
    assert_eq!(empty(&scene), Removed::default());
}

#[test]
fn names_of_any_bytes_go() {
    use std::os::unix::ffi::OsStrExt;
    let scene = Scene::new();
    for name in [&b"\xff"[..], b"a\nb", b" ", b"-rf", &[b'n'; 255]] {
        let path = scene.top().join(OsStr::from_bytes(name));
        std::fs::create_dir(&path).unwrap();
        write(&path.join("x"), b"");
    }
    assert_eq!(empty(&scene).entries, 10);
}

#[test]
fn a_tree_of_twenty_thousand_levels_goes_with_few_descriptors() {
    let scene = Scene::new();
    let bottom = deep(&scene.handle(), c"d", 20_000);
    fs::mkdirat(&bottom, "last", Mode::RWXU).unwrap();
    drop(bottom);
    let before = descriptors();
    let most = std::sync::atomic::AtomicUsize::new(0);
    let top = scene.handle();
    std::thread::scope(|scope| {
        let removing = scope.spawn(|| empty_directory(top.as_fd()).unwrap());
        while !removing.is_finished() {
            most.fetch_max(descriptors(), std::sync::atomic::Ordering::Relaxed);
        }
        assert_eq!(removing.join().unwrap().entries, 20_001);
    });
    // Other tests of this process have descriptors too; 20,000 would show.
    assert!(most.into_inner() < before + 1000);
    assert!(scene.names().is_empty());
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn a_wide_and_a_long_named_deep_tree_go() {
    let scene = Scene::new();
    let name = std::ffi::CString::new([b'l'; 255]).unwrap();
    deep(&scene.handle(), &name, 300);
    for index in 0..3000 {
        scene.file(&format!("wide/{index}"), "");
    }
    assert_eq!(empty(&scene).entries, 3301);
}

#[test]
fn root_immutable_and_append_only_entries_go() {
    let scene = Scene::new();
    scene.file("plain/file", "").file("log", "").file("kept/inner/file", "");
    if !is_root() || !scene.flag("plain/file", IFlags::IMMUTABLE) {
        return;
    }
    assert!(scene.flag("log", IFlags::APPEND));
    assert!(scene.flag("kept/inner", IFlags::APPEND));
    assert!(scene.flag("kept", IFlags::IMMUTABLE | IFlags::APPEND));
    assert!(scene.flag("", IFlags::IMMUTABLE));
    assert!(std::fs::remove_file(scene.at("log")).is_err());
    assert_eq!(empty(&scene).entries, 6);
}

#[test]
fn root_a_mount_inside_is_not_crossed_and_is_reported() {
    if !is_root() {
        return;
    }
    let scene = Scene::new();
    scene.file("a/b/at/hidden", "").file("a/c", "").directory("a/bound").file("single", "");
    std::fs::create_dir(scene.outside("elsewhere")).unwrap();
    scene.file_outside("elsewhere/file", "the host's");
    let Some(_tmpfs) = Mounted::tmpfs(scene.at("a/b/at")) else { return };
    write(&scene.at("a/b/at/in the mount"), b"x");
    // The same filesystem: st_dev alone would not tell.
    let _bound = Mounted::bind(&scene.outside("elsewhere"), scene.at("a/bound")).unwrap();
    let _file = Mounted::bind(&scene.outside("secret"), scene.at("single")).unwrap();

    let mut removed = empty(&scene);
    removed.left.sort();
    assert_eq!(removed.left, [Path::new("a/b/at"), Path::new("a/bound"), Path::new("single")]);
    assert_eq!(removed.entries, 1);
    assert_eq!(read(&scene.at("a/b/at/in the mount")), "x");
    assert_eq!(read(&scene.outside("elsewhere/file")), "the host's");
    assert_eq!(read(&scene.outside("secret")), "the host's own");

    let again = remove_entry(scene.handle().as_fd(), OsStr::new("a")).unwrap();
    assert_eq!(again.left.len(), 2);
    assert_eq!(remove_entry(scene.handle().as_fd(), OsStr::new("single")).unwrap().left.len(), 1);
    drop((_tmpfs, _bound, _file));
    // a, a/b, a/b/at, its hidden file, a/bound, single: resumed.
    assert_eq!(empty(&scene), Removed { entries: 6, left: vec![] });
}

#[test]
fn one_entry_is_removed_and_its_neighbours_stay() {
    let scene = Scene::new();
    scene.file("a/b/c", "").file("file", "").symlink("a", "link").directory("z");
    let top = scene.handle();
    assert_eq!(remove_entry(top.as_fd(), OsStr::new("link")).unwrap().entries, 1);
    assert_eq!(remove_entry(top.as_fd(), OsStr::new("a")).unwrap().entries, 3);
    assert_eq!(remove_entry(top.as_fd(), OsStr::new("file")).unwrap().entries, 1);
    assert_eq!(remove_entry(top.as_fd(), OsStr::new("missing")).unwrap(), Removed::default());
    assert_eq!(scene.names(), ["z"]);
    for name in ["", ".", "..", "z/x", "/", "z/"] {
        let refused = remove_entry(top.as_fd(), OsStr::new(name));
        assert!(matches!(refused, Err(TreeError::BadPath { .. })), "{name:?}");
    }
}

#[test]
fn a_tree_that_is_moved_about_meanwhile_never_leads_out_of_it() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let scene = Scene::new();
    std::fs::create_dir_all(scene.outside("host/a/b")).unwrap();
    write(&scene.outside("host/file"), b"stays");
    let stop = AtomicBool::new(false);
    let outside = fs::open(scene.outside("host"), OFlags::PATH, Mode::empty()).unwrap();
    for _ in 0..20 {
        let top = scene.handle();
        deep(&top, c"d", 200);
        stop.store(false, Ordering::Relaxed);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                // A subtree goes out of the tree and back in, again and again.
                let inner = fs::openat(&top, "d/d/d/d", OFlags::PATH, Mode::empty());
                let Ok(inner) = inner else { return };
                while !stop.load(Ordering::Relaxed) {
                    let _ = fs::renameat(&inner, "d", &outside, "moved");
                    let _ = fs::renameat(&outside, "moved", &inner, "d");
                }
            });
            let _ = empty_directory(top.as_fd());
            stop.store(true, Ordering::Relaxed);
        });
        let _ = remove_entry(outside.as_fd(), OsStr::new("moved"));
        assert_eq!(read(&scene.outside("host/file")), "stays");
        assert!(scene.outside("host/a/b").is_dir());
        assert!(empty_directory(top.as_fd()).unwrap().left.is_empty());
    }
}
