//! Looking into roots that were made to harm whoever looks.

use super::*;
use crate::{Kind, TreeError};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const LIMIT: u64 = 64 * 1024;

fn text(root: &Root, path: &str) -> Option<String> {
    root.read_file(Path::new(path), LIMIT).unwrap().map(|file| String::from_utf8(file.bytes).unwrap())
}

#[test]
fn a_symlink_to_the_host_stays_inside_the_root() {
    let scene = Scene::new();
    let secret = scene.outside("secret");
    scene.directory("etc").symlink(&secret, "etc/absolute").symlink("../../../../secret", "etc/relative");
    scene.symlink(scene.outside(""), "host").symlink("/", "slash").symlink("..", "up");
    let root = scene.root();
    for path in [
        "etc/absolute",
        "/etc/relative",
        "host/secret",
        "slash/../secret",
        "up/secret",
        "../secret",
        "up/../../secret",
    ] {
        assert_eq!(text(&root, path), None, "{path}");
        assert_eq!(root.kind_followed(Path::new(path)).unwrap(), None, "{path}");
    }
    // The same names do exist from here: they mean this root's own file.
    scene.file("secret", "mine");
    for path in ["slash/../secret", "up/secret", "../secret", "up/../../secret", "etc/relative"] {
        assert_eq!(text(&root, path).as_deref(), Some("mine"), "{path}");
    }
}

#[test]
fn writing_through_a_symlink_to_the_host_writes_inside_the_root() {
    let scene = Scene::new();
    scene.symlink(scene.outside(""), "etc").symlink("../../..", "up");
    let root = scene.root();
    root.replace_file(Path::new("etc/secret"), b"overwritten", 0o644, 0, 0).unwrap_err();
    root.replace_file(Path::new("up/secret"), b"inside", 0o600, uid(), gid()).unwrap();
    root.make_directory(Path::new("etc/made"), 0o755, 0, 0).unwrap_err();
    assert!(root.make_directory(Path::new("up/made"), 0o755, uid(), gid()).unwrap());
    assert_eq!(read(&scene.outside("secret")), "the host's own");
    assert_eq!(read(&scene.at("secret")), "inside");
    assert!(scene.at("made").is_dir() && !scene.outside("made").exists());
}

#[test]
fn a_symlink_or_fifo_at_the_last_component_is_replaced_never_followed() {
    let scene = Scene::new();
    scene.symlink(scene.outside("secret"), "passwd").fifo("shadow").symlink("nowhere", "group");
    let root = scene.root();
    for name in ["passwd", "shadow", "group"] {
        root.replace_file(Path::new(name), b"new", 0o640, uid(), gid()).unwrap();
        assert_eq!(
            root.kind(Path::new(name)).unwrap(),
            Some(Kind::File { size: 3, mode: 0o640, uid: uid(), gid: gid() })
        );
    }
    assert_eq!(read(&scene.outside("secret")), "the host's own");
    assert_eq!(scene.names(), ["group", "passwd", "shadow"]);
}

#[test]
fn a_fifo_named_passwd_does_not_hang_and_is_refused() {
    within(Duration::from_secs(10), || {
        let scene = Scene::new();
        scene.directory("etc").fifo("etc/passwd").symlink("passwd", "etc/link");
        for path in ["etc/passwd", "etc/link"] {
            let error = scene.root().read_file(Path::new(path), LIMIT).unwrap_err();
            assert!(matches!(error, TreeError::NotRegular { kind: "a FIFO", .. }), "{error}");
        }
    });
}

#[test]
fn root_sockets_devices_and_directories_are_no_files() {
    if !is_root() {
        return;
    }
    let scene = Scene::new();
    let _listener = std::os::unix::net::UnixListener::bind(scene.at("socket")).unwrap();
    scene.device("tty", FileType::CharacterDevice, 5, 0).device("disk", FileType::BlockDevice, 7, 0);
    scene.directory("dir");
    let root = scene.root();
    for (name, what) in [
        ("socket", "a socket"),
        ("tty", "a character device"),
        ("disk", "a block device"),
        ("dir", "a directory"),
    ] {
        let error = root.read_file(Path::new(name), LIMIT).unwrap_err();
        assert!(matches!(error, TreeError::NotRegular { kind, .. } if kind == what), "{error}");
        assert!(!root.has_executable(Path::new(name)).unwrap());
    }
    assert_eq!(root.kind(Path::new("tty")).unwrap(), Some(Kind::Other("a character device")));
}

#[test]
fn loops_and_magic_links_are_errors_and_no_way_out() {
    let scene = Scene::new();
    scene.symlink("b", "a").symlink("a", "b");
    let root = scene.root();
    assert!(root.read_file(Path::new("a"), LIMIT).is_err());
    assert!(root.kind_followed(Path::new("a/x")).is_err());
    assert_eq!(root.kind(Path::new("a")).unwrap(), Some(Kind::Symlink));
    assert_eq!(root.read_link(Path::new("a")).unwrap(), Some(PathBuf::from("b")));
    // A root that is itself /proc: its magic links lead to the host's files.
    let proc = Root::open(Path::new("/proc")).unwrap();
    assert!(proc.read_file(Path::new("self/root/etc/passwd"), LIMIT).is_err());
    assert!(proc.read_file(Path::new("self/exe"), u64::MAX).is_err());
    // No magic link, and a size of 0 that is not true.
    assert!(!text(&proc, "self/status").unwrap().is_empty());
}

#[test]
fn a_file_larger_than_the_limit_is_refused_unread() {
    let scene = Scene::new();
    scene.file("exact", &"x".repeat(LIMIT as usize)).file("more", &"x".repeat(LIMIT as usize + 1));
    std::fs::File::create(scene.at("sparse")).unwrap().set_len(10 << 30).unwrap();
    let root = scene.root();
    assert_eq!(text(&root, "exact").unwrap().len(), LIMIT as usize);
    for name in ["more", "sparse"] {
        let error = root.read_file(Path::new(name), LIMIT).unwrap_err();
        assert!(matches!(error, TreeError::TooLarge { limit: LIMIT, .. }), "{error}");
    }
    // Says that it is empty, and is not.
    let proc = Root::open(Path::new("/proc")).unwrap();
    assert!(matches!(proc.read_file(Path::new("version"), 5), Err(TreeError::TooLarge { .. })));
}

#[test]
fn the_top_itself_must_not_be_a_symlink() {
    let scene = Scene::new();
    std::os::unix::fs::symlink(scene.outside(""), scene.at("link")).unwrap();
    assert!(Root::open(&scene.at("link")).is_err());
    assert!(Root::open(&scene.outside("secret")).is_err());
    assert!(Root::open(&scene.at("missing")).is_err());
}

#[test]
fn names_of_any_bytes_and_the_longest_names_are_served() {
    use std::os::unix::ffi::OsStrExt;
    let scene = Scene::new();
    let root = scene.root();
    for name in [&b"\xff\xfe"[..], b"new\nline", b" ", b"-rf", &[b'n'; 255]] {
        let name = Path::new(std::ffi::OsStr::from_bytes(name));
        root.replace_file(name, b"x", 0o600, uid(), gid()).unwrap();
        assert_eq!(root.read_file(name, 1).unwrap().unwrap().bytes, b"x");
        assert!(root.remove_file(name).unwrap() && !root.remove_file(name).unwrap());
    }
    for name in ["", "/", "..", "a/..", "\0"] {
        assert!(root.replace_file(Path::new(name), b"x", 0o600, uid(), gid()).is_err(), "{name:?}");
    }
    assert!(scene.names().is_empty());
}

#[test]
fn missing_things_are_none_and_trailing_slashes_do_not_follow() {
    let scene = Scene::new();
    scene.file("file", "").directory("dir").symlink("dir", "link").symlink("gone", "dangling");
    let root = scene.root();
    for path in ["missing", "missing/below", "file/below", "dir/missing", "dangling/x"] {
        assert_eq!(root.kind(Path::new(path)).unwrap(), None, "{path}");
        assert_eq!(text(&root, path), None, "{path}");
    }
    assert_eq!(root.kind(Path::new("link/")).unwrap(), Some(Kind::Symlink));
    assert_eq!(root.kind_followed(Path::new("dangling")).unwrap(), None);
    assert!(matches!(root.kind(Path::new("/")).unwrap(), Some(Kind::Directory { empty: false, .. })));
    assert!(root.is_empty_directory(Path::new("link")).unwrap());
    assert!(!root.is_empty_directory(Path::new("dangling")).unwrap());
    assert_eq!(root.names(Path::new("")).unwrap().unwrap().len(), 4);
}

#[test]
fn a_directory_that_is_there_is_left_as_it_is() {
    let scene = Scene::new();
    scene.directory("home").mode("home", 0o711).symlink("home", "link").file("file", "");
    let root = scene.root();
    assert!(!root.make_directory(Path::new("home"), 0o700, uid(), gid()).unwrap());
    assert!(!root.make_directory(Path::new("link"), 0o700, uid(), gid()).unwrap());
    assert!(root.make_directory(Path::new("link/new"), 0o2750, uid(), gid()).unwrap());
    assert!(matches!(root.kind(Path::new("home")).unwrap(), Some(Kind::Directory { mode: 0o711, .. })));
    assert!(matches!(
        root.kind(Path::new("home/new")).unwrap(),
        Some(Kind::Directory { mode: 0o2750, empty: true, .. })
    ));
    let error = root.make_directory(Path::new("file"), 0o700, 0, 0).unwrap_err();
    assert!(matches!(error, TreeError::NotDirectory { .. }), "{error}");
    assert!(root.make_directory(Path::new("a/b"), 0o700, 0, 0).is_err());
    assert!(matches!(
        root.replace_file(Path::new("home"), b"", 0o600, 0, 0),
        Err(TreeError::NotRegular { kind: "a directory", .. })
    ));
}

#[test]
fn only_a_regular_file_that_may_be_executed_is_an_executable() {
    let scene = Scene::new();
    scene.file("bin/sh", "").file("bin/text", "").mode("bin/sh", 0o755).mode("bin/text", 0o644);
    scene.symlink("/bin/sh", "bin/link").symlink("/gone", "bin/dangling");
    let root = scene.root();
    for (path, is_executable) in [
        ("/bin/sh", true),
        ("bin/link", true),
        ("bin/text", false),
        ("bin", false),
        ("bin/dangling", false),
        ("", false),
    ] {
        assert_eq!(root.has_executable(Path::new(path)).unwrap(), is_executable, "{path}");
    }
}

#[test]
fn what_a_dead_write_left_behind_is_cleaned_up_by_the_next() {
    let scene = Scene::new();
    let root = scene.root();
    root.replace_file(Path::new("name"), b"1", 0o600, uid(), gid()).unwrap();
    let hash: String = {
        use sha2::Digest as _;
        sha2::Sha256::digest(b"name").iter().take(6).map(|byte| format!("{byte:02x}")).collect()
    };
    scene.file(&format!(".reroot-{hash}-0"), "half");
    root.replace_file(Path::new("name"), b"2", 0o600, uid(), gid()).unwrap();
    assert_eq!(scene.names(), ["name"]);
    // Somebody's directory of that name, with something in it, is stepped aside of.
    scene.file(&format!(".reroot-{hash}-0/x"), "");
    root.replace_file(Path::new("name"), b"3", 0o600, uid(), gid()).unwrap();
    assert_eq!(read(&scene.at("name")), "3");
}

#[test]
fn a_link_swapped_while_we_look_never_shows_the_host() {
    let scene = Scene::new();
    scene.file("etc/secret", "mine").symlink(scene.outside(""), "other");
    let stop = Arc::new(AtomicBool::new(false));
    let swapping = {
        let (stop, top) = (stop.clone(), scene.handle());
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let _ = fs::renameat_with(&top, "etc", &top, "other", fs::RenameFlags::EXCHANGE);
            }
        })
    };
    let root = scene.root();
    for _ in 0..3000 {
        let file = root.read_file(Path::new("etc/secret"), LIMIT).unwrap();
        assert!(file.is_none_or(|file| file.bytes == b"mine"));
        let _ = root.replace_file(Path::new("etc/written"), b"x", 0o600, uid(), gid());
    }
    stop.store(true, Ordering::Relaxed);
    swapping.join().unwrap();
    assert!(!scene.outside("written").exists());
}

fn uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

fn gid() -> u32 {
    rustix::process::getegid().as_raw()
}
