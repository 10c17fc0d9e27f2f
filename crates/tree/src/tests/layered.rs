//! Two layers without overlayfs, against overlayfs itself.

#![expect(clippy::disallowed_methods, reason = "the trees of these tests are their own")]

use super::*;
use crate::{Kind, LayeredRoot, NewDirectory, TreeError};

pub(super) struct Layers {
    /// `upper`, `lower`, `work`, `merged` in it.
    pub scene: Scene,
}

impl Layers {
    pub fn new() -> Layers {
        let scene = Scene::new();
        for name in ["upper", "lower", "work", "merged"] {
            scene.directory(name).mode(name, 0o755);
        }
        Layers { scene }
    }

    fn root(&self) -> LayeredRoot {
        let open = |name| Root::open(&self.scene.at(name)).unwrap();
        LayeredRoot::new(open("upper"), Some(open("lower")))
    }

    /// The same through overlayfs.
    fn mounted(&self) -> Option<(Mounted, Root)> {
        let at = |name| self.scene.at(name);
        let mounted = Mounted::overlay(&at("lower"), &at("upper"), &at("work"), at("merged"))?;
        Some((mounted, Root::open(&at("merged")).unwrap()))
    }
}

fn text(found: Option<crate::FileBytes>) -> Option<String> {
    found.map(|file| String::from_utf8(file.bytes).unwrap())
}

#[test]
fn the_upper_name_wins_and_the_lower_one_shows_through() {
    let layers = Layers::new();
    layers
        .scene
        .file("lower/etc/passwd", "old")
        .file("lower/etc/group", "lower")
        .file("upper/etc/passwd", "new");
    let root = layers.root();
    assert_eq!(text(root.read_file(Path::new("/etc/passwd"), 99).unwrap()).unwrap(), "new");
    assert_eq!(text(root.read_file(Path::new("etc/group"), 99).unwrap()).unwrap(), "lower");
    assert_eq!(root.read_file(Path::new("etc/shadow"), 99).unwrap(), None);
    assert!(matches!(root.read_file(Path::new("etc/group"), 1), Err(TreeError::TooLarge { .. })));
    assert!(matches!(root.read_file(Path::new("etc"), 1), Err(TreeError::NotRegular { .. })));
    assert!(matches!(root.kind(Path::new("/")).unwrap(), Some(Kind::Directory { empty: false, .. })));
}

#[test]
fn a_symlink_on_the_way_is_refused_and_followed_only_on_demand() {
    let layers = Layers::new();
    layers.scene.file("lower/usr/bin/dash", "").mode("lower/usr/bin/dash", 0o755);
    layers.scene.symlink("usr/bin", "lower/bin").symlink("dash", "lower/usr/bin/sh");
    layers.scene.symlink(layers.scene.outside(""), "lower/host").symlink("loop", "upper/loop");
    layers.scene.symlink("../../../../usr/../bin/sh", "upper/up");
    let root = layers.root();
    let refused = |result: Result<(), TreeError>| {
        assert!(matches!(result, Err(TreeError::SymlinkOnTheWay { .. })), "{result:?}");
    };
    refused(root.kind(Path::new("/bin/sh")).map(drop));
    refused(root.read_file(Path::new("host/secret"), 99).map(drop));
    refused(root.replace_file(Path::new("host/secret"), b"x", 0o600, 0, 0));
    refused(root.make_directory(Path::new("host/x"), 0o700, 0, 0).map(drop));
    assert_eq!(root.kind(Path::new("bin")).unwrap(), Some(Kind::Symlink));
    for path in ["/bin/sh", "usr/bin/sh", "up", "bin/../../bin/sh"] {
        assert!(root.has_executable(Path::new(path)).unwrap(), "{path}");
    }
    assert!(!root.has_executable(Path::new("host/secret")).unwrap());
    assert_eq!(root.read_file_followed(Path::new("host/secret"), 99).unwrap(), None);
    assert!(root.has_executable(Path::new("loop")).is_err());
    assert_eq!(read(&layers.scene.outside("secret")), "the host's own");
}

#[test]
fn a_fifo_in_a_layer_does_not_hang() {
    within(Duration::from_secs(10), || {
        let layers = Layers::new();
        layers.scene.fifo("lower/passwd").fifo("upper/group");
        for name in ["passwd", "group"] {
            let found = layers.root().read_file(Path::new(name), 99);
            assert!(matches!(found, Err(TreeError::NotRegular { kind: "a FIFO", .. })));
        }
    });
}

#[test]
fn one_layer_alone_is_a_root() {
    let scene = Scene::new();
    scene.file("real/file", "x").symlink("real", "link");
    let root = LayeredRoot::new(scene.root(), None);
    assert_eq!(text(root.read_file(Path::new("link/file"), 9).unwrap()).unwrap(), "x");
    assert!(matches!(root.kind(Path::new("link")).unwrap(), Some(Kind::Symlink)));
    assert!(root.remove_file(Path::new("link/file")).unwrap());
}

#[test]
fn root_writes_make_the_way_with_the_lower_ones_owner_mode_and_attributes() {
    if !is_root() {
        return;
    }
    let layers = Layers::new();
    let scene = &layers.scene;
    scene.file("lower/etc/deep/file", "lower").mode("lower/etc", 0o751).mode("lower/etc/deep", 0o2770);
    std::os::unix::fs::chown(scene.at("lower/etc/deep"), Some(33), Some(44)).unwrap();
    scene.mode("lower/etc/deep", 0o2770).attribute("lower/etc/deep", "user.kept", b"1");
    scene.attribute("lower/etc", "trusted.overlay.opaque", b"y");
    let root = layers.root();
    root.replace_file(Path::new("/etc/deep/file"), b"upper", 0o4640, 5, 6).unwrap();
    assert!(root.make_directory(Path::new("/etc/deep/home"), 0o700, 1000, 1001).unwrap());
    assert!(!root.make_directory(Path::new("/etc/deep/home"), 0o755, 0, 0).unwrap());
    let upper = Root::open(&scene.at("upper")).unwrap();
    assert_eq!(
        upper.kind(Path::new("etc/deep")).unwrap(),
        Some(Kind::Directory { empty: false, mode: 0o2770, uid: 33, gid: 44 })
    );
    assert_eq!(
        upper.kind(Path::new("etc/deep/home")).unwrap(),
        Some(Kind::Directory { empty: true, mode: 0o700, uid: 1000, gid: 1001 })
    );
    assert_eq!(
        upper.kind(Path::new("etc/deep/file")).unwrap(),
        Some(Kind::File { size: 5, mode: 0o4640, uid: 5, gid: 6 })
    );
    assert!(matches!(upper.kind(Path::new("etc")).unwrap(), Some(Kind::Directory { mode: 0o751, .. })));
    let attributes = |path| crate::node::attributes(upper.hold(Path::new(path), false).unwrap().unwrap().0);
    assert_eq!(attributes("etc/deep").unwrap(), [(c"user.kept".to_owned(), b"1".to_vec())]);
    assert!(attributes("etc").unwrap().is_empty());
    assert_eq!(read(&scene.at("lower/etc/deep/file")), "lower");
    let error = root.replace_file(Path::new("/etc/deep"), b"", 0o600, 0, 0).unwrap_err();
    assert!(matches!(error, TreeError::NotRegular { .. }), "{error}");
    assert!(root.replace_file(Path::new("/none/file"), b"", 0o600, 0, 0).is_err());
}

#[test]
fn root_many_directories_are_made_as_one_by_one() {
    if !is_root() {
        return;
    }
    let made = |at_once: bool, paths: &[&str]| {
        let layers = Layers::new();
        let scene = &layers.scene;
        scene.directory("lower/home/there").directory("upper/home/new").file("lower/home/file", "");
        scene.file("lower/home/gone/inside", "").symlink("there", "lower/home/link").directory("lower/srv");
        scene.device("upper/home/gone", FileType::CharacterDevice, 0, 0);
        let root = layers.root();
        let new = |path| NewDirectory { path, mode: 0o2750, uid: 7, gid: 8 };
        let wanted: Vec<NewDirectory<'_>> = paths.iter().map(|path| new(Path::new(path))).collect();
        let made = if at_once {
            root.make_directories(&wanted)
        } else {
            wanted.iter().map(|new| root.make_directory(new.path, new.mode, new.uid, new.gid)).collect()
        };
        let said: Vec<String> = made.iter().map(|made| format!("{made:?}")).collect();
        let kinds: Vec<String> =
            paths.iter().map(|path| format!("{:?}", root.kind(Path::new(path)))).collect();
        (said, kinds, scene.at("upper/srv").exists())
    };
    for paths in [
        &[
            "/home/a",
            "/home/there",
            "/home/new",
            "/home/file",
            "/home/link",
            "/home/gone",
            "/home/b",
            "/home/a",
        ][..],
        &["/srv/a", "/srv/b"],
        &["/home/a", "/srv/b"],
        &["/none/a", "/none/b"],
        &["/home/file/a", "/home/file/b"],
        &["/home/link/a", "/home/link/b"],
        &["/"],
        &[],
    ] {
        assert_eq!(made(true, paths), made(false, paths), "{paths:?}");
    }
    let (said, kinds, _) = made(true, &["/home/a", "/home/gone", "/home/there"]);
    assert_eq!(said, ["Ok(true)", "Ok(true)", "Ok(false)"]);
    let new = "Ok(Some(Directory { empty: true, mode: 1512, uid: 7, gid: 8 }))";
    assert_eq!(kinds[..2], [new, new]);
    assert!(
        !made(true, &["/home/there"]).2 && made(true, &["/srv/a"]).2,
        "the way is made for what is missing"
    );
}

#[test]
fn root_a_renamed_directory_shows_what_it_was() {
    if !is_root() {
        return;
    }
    let layers = Layers::new();
    layers.scene.file("lower/a/old/file", "").file("lower/a/old/below/deep", "").directory("upper/a/near");
    layers.scene.directory("upper/far").directory("upper/lost").directory("upper/up");
    layers.scene.attribute("upper/a/near", "trusted.overlay.redirect", b"old");
    layers.scene.attribute("upper/far", "trusted.overlay.redirect", b"/a/old/below");
    layers.scene.attribute("upper/lost", "trusted.overlay.redirect", b"/a/none");
    layers.scene.attribute("upper/up", "trusted.overlay.redirect", b"/a/../a/old");
    let root = layers.root();
    for path in ["a/near/file", "a/near/below/deep", "far/deep"] {
        assert!(matches!(root.kind(Path::new(path)).unwrap(), Some(Kind::File { .. })), "{path}");
    }
    for path in ["lost/file", "up/file"] {
        let found = root.kind(Path::new(path));
        assert!(matches!(found, Err(TreeError::Redirected { .. })), "{found:?}");
    }
}

/// Whiteouts, opaque directories, and what we write ourselves: overlayfs must show the same.
#[test]
fn root_overlayfs_shows_what_two_layers_show() {
    if !is_root() {
        return;
    }
    let layers = Layers::new();
    let scene = &layers.scene;
    for path in
        ["lower/a/1", "lower/a/2", "lower/gone/x", "lower/opaque/x", "lower/full/x", "lower/emptied/x"]
    {
        scene.file(path, path);
    }
    scene.file("lower/file-over-dir/x", "").file("lower/dir-over-file", "");
    scene.file("upper/a/3", "3").device("upper/a/2", FileType::CharacterDevice, 0, 0);
    scene.device("upper/gone", FileType::CharacterDevice, 0, 0);
    scene.directory("upper/opaque").attribute("upper/opaque", "trusted.overlay.opaque", b"y");
    scene.directory("upper/emptied").device("upper/emptied/x", FileType::CharacterDevice, 0, 0);
    scene.file("upper/file-over-dir", "file").file("upper/dir-over-file/x", "");
    let root = layers.root();
    assert!(root.make_directory(Path::new("gone"), 0o755, 0, 0).unwrap());
    assert!(root.remove_file(Path::new("a/1")).unwrap());
    assert!(root.remove_file(Path::new("a/3")).unwrap());
    assert!(!root.remove_file(Path::new("a/2")).unwrap());
    root.replace_file(Path::new("full/y"), b"y", 0o644, 0, 0).unwrap();
    assert!(matches!(root.remove_file(Path::new("a")), Err(TreeError::NotRegular { .. })));

    let paths = [
        "",
        "a",
        "a/1",
        "a/2",
        "a/3",
        "gone",
        "gone/x",
        "opaque",
        "opaque/x",
        "full",
        "full/x",
        "full/y",
        "emptied",
        "emptied/x",
        "file-over-dir",
        "file-over-dir/x",
        "dir-over-file",
        "dir-over-file/x",
        "none",
    ];
    let ours: Vec<_> = paths.iter().map(|path| root.kind(Path::new(path)).unwrap()).collect();
    assert!(matches!(ours[5], Some(Kind::Directory { empty: true, .. })), "{:?}", ours[5]);
    assert!(matches!(ours[12], Some(Kind::Directory { empty: true, .. })), "{:?}", ours[12]);
    let Some((_mounted, merged)) = layers.mounted() else { return };
    for (path, ours) in paths.iter().zip(ours) {
        assert_eq!(ours, merged.kind(Path::new(path)).unwrap(), "{path}");
    }
}
