//! Roots that a script built, and making trees durable.

use super::*;
use crate::{BuiltRootError, accept_built_root, sync_filesystem, sync_small_tree};

#[test]
fn root_a_built_root_is_counted_and_its_devices_removed() {
    if !is_root() {
        return;
    }
    let scene = Scene::new();
    scene.file("etc/passwd", "12345").device("dev-null", FileType::CharacterDevice, 1, 3).fifo("pipe");
    scene.directory("dev").device("dev/sda", FileType::BlockDevice, 8, 0).attribute("etc", "user.x", b"1");
    std::fs::hard_link(scene.at("etc/passwd"), scene.at("etc/again")).unwrap();
    let accepted = accept_built_root(scene.handle().as_fd()).unwrap();
    assert_eq!((accepted.entries, accepted.bytes), (7, 5));
    assert_eq!(accepted.removed_devices, [Path::new("dev/sda"), Path::new("dev-null")]);
    assert_eq!(scene.names(), ["dev", "etc", "pipe"]);
    assert!(accept_built_root(scene.handle().as_fd()).unwrap().removed_devices.is_empty());
}

#[test]
fn root_what_only_overlayfs_may_make_is_refused_by_name() {
    if !is_root() {
        return;
    }
    let refused = |scene: &Scene| accept_built_root(scene.handle().as_fd()).unwrap_err();
    let scene = Scene::new();
    scene.directory("a\x1b/b").device("a\x1b/b/white", FileType::CharacterDevice, 0, 0);
    let error = refused(&scene);
    assert!(matches!(error, BuiltRootError::Whiteout { .. }));
    assert!(error.to_string().contains("`a\\x1b/b/white`"), "{error}");
    for (path, name) in [
        ("", "trusted.overlay.opaque"),
        ("d", "trusted.overlay.redirect"),
        ("d/f", "trusted.overlay.metacopy"),
    ] {
        let scene = Scene::new();
        scene.file("d/f", "").attribute(path, name, b"y");
        let error = refused(&scene);
        assert!(
            matches!(&error, BuiltRootError::OverlayAttribute { attribute, .. } if attribute == name.as_bytes())
        );
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[test]
fn a_symlink_a_file_and_an_empty_directory_are_no_roots() {
    let scene = Scene::new();
    assert!(matches!(accept_built_root(scene.handle().as_fd()), Err(BuiltRootError::Empty)));
    scene.symlink("/", "link").file("file", "");
    let held = |name| {
        let flags = OFlags::PATH | OFlags::NOFOLLOW;
        fs::open(scene.at(name), flags, Mode::empty()).unwrap()
    };
    assert!(matches!(accept_built_root(held("link").as_fd()), Err(BuiltRootError::Symlink)));
    assert!(matches!(accept_built_root(held("file").as_fd()), Err(BuiltRootError::NotDirectory { .. })));
}

#[test]
fn root_a_mount_in_a_built_root_is_refused() {
    if !is_root() {
        return;
    }
    let scene = Scene::new();
    scene.directory("proc");
    let Some(_mounted) = Mounted::tmpfs(scene.at("proc")) else { return };
    assert!(matches!(accept_built_root(scene.handle().as_fd()), Err(BuiltRootError::MountPoint { .. })));
}

#[test]
fn syncing_takes_held_and_open_directories_and_meets_no_fifo() {
    within(Duration::from_secs(60), || {
        let scene = Scene::new();
        scene.file("a/b/c", "1").fifo("a/pipe").symlink("/", "a/link");
        sync_small_tree(scene.handle().as_fd()).unwrap();
        sync_filesystem(scene.handle().as_fd()).unwrap();
        let open = std::fs::File::open(scene.top()).unwrap();
        sync_small_tree(open.as_fd()).unwrap();
        sync_filesystem(open.as_fd()).unwrap();
    });
}
