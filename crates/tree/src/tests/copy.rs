//! Parts of an old root in a new one, judged by what overlayfs shows of both.

use super::*;
use crate::{Copied, Copier, Except, LayeredRoot, TreeError, snapshot};
use std::os::unix::fs::MetadataExt;

/// Two roots of two layers: `old` and `new`, each with `upper`, `lower`, `work` and `merged` in it.
struct Roots {
    scene: Scene,
}

impl Roots {
    fn new() -> Roots {
        let scene = Scene::new();
        for root in ["old", "new"] {
            for name in ["upper", "lower", "work", "merged"] {
                let path = format!("{root}/{name}");
                scene.directory(&path).mode(&path, 0o755);
            }
        }
        Roots { scene }
    }

    fn root(&self, name: &str) -> LayeredRoot {
        let open = |layer: &str| Root::open(&self.scene.at(&format!("{name}/{layer}"))).unwrap();
        LayeredRoot::new(open("upper"), Some(open("lower")))
    }

    fn mounted(&self, name: &str) -> Option<(Mounted, Root)> {
        let at = |layer: &str| self.scene.at(&format!("{name}/{layer}"));
        let mounted = Mounted::overlay(&at("lower"), &at("upper"), &at("work"), at("merged"))?;
        Some((mounted, Root::open(&at("merged")).unwrap()))
    }

    fn copy(&self, paths: &[&str]) -> Copied {
        self.try_copy(paths, Except::default()).unwrap()
    }

    fn try_copy(&self, paths: &[&str], except: Except<'_>) -> Result<Copied, TreeError> {
        let (old, new) = (self.root("old"), self.root("new"));
        let mut told = |_: &Copied| true;
        let mut copier = Copier::new(&old, &new, except, &mut told);
        for path in paths {
            assert!(copier.copy(Path::new(path))?, "{path} is not there");
        }
        Ok(copier.copied().clone())
    }

    /// What differs between the two roots below `path`.
    fn differences(&self, path: &str) -> Option<Vec<String>> {
        let shot = |name: &str| {
            let (_mounted, root) = self.mounted(name)?;
            let below = root.subdirectory(Path::new(path)).unwrap().expect("it is a directory");
            Some(snapshot(below.handle()).unwrap())
        };
        Some(shot("old")?.differences(&shot("new")?))
    }
}

/// A tree with one of everything that a root may have.
/// user::rwx, user:1000:rwx, group::r-x, mask::rwx, other::---, for whatever is made in a directory.
fn default_list() -> Vec<u8> {
    let entry = |tag: u16, permissions: u16, id: u32| {
        [tag.to_le_bytes().to_vec(), permissions.to_le_bytes().to_vec(), id.to_le_bytes().to_vec()].concat()
    };
    let entries = [(1, 7, u32::MAX), (2, 7, 1000), (4, 5, u32::MAX), (16, 7, u32::MAX), (32, 0, u32::MAX)];
    let entries = entries.iter().flat_map(|(tag, permissions, id)| entry(*tag, *permissions, *id));
    2u32.to_le_bytes().into_iter().chain(entries).collect()
}

fn one_of_everything(scene: &Scene, layer: &str) {
    let at = |name: &str| format!("{layer}/srv/{name}");
    scene.file(&at("plain"), "text").file(&at("tool"), "#!").file(&at("deep/er/file"), "below");
    scene.file(&at("empty"), "").directory(&at("bare")).mode(&at("bare"), 0o1777).mode(&at("deep"), 0o700);
    scene.file(&at("one"), "linked");
    std::fs::hard_link(scene.at(&at("one")), scene.at(&at("deep/two"))).unwrap();
    scene.symlink("/etc/shadow", &at("link")).symlink("nowhere", &at("dangling")).fifo(&at("pipe"));
    fs::mknodat(fs::CWD, scene.at(&at("socket")), FileType::Socket, Mode::from_raw_mode(0o640), 0).unwrap();
    let owner = |name: &str, uid: u32, gid: u32| {
        let flags = fs::AtFlags::SYMLINK_NOFOLLOW;
        let (uid, gid) = (fs::Uid::from_raw(uid), fs::Gid::from_raw(gid));
        fs::chownat(fs::CWD, scene.at(&at(name)), Some(uid), Some(gid), flags).unwrap();
    };
    owner("tool", 33, 34);
    owner("link", 1000, 1001);
    owner("deep", 1000, 1000);
    scene.mode(&at("tool"), 0o6755);
    // cap_net_raw+ep
    let capability = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    scene.file(&at("ping"), "ELF").attribute(&at("ping"), "security.capability", capability);
    scene.attribute(&at("plain"), "user.note", b"kept").attribute(&at("deep"), "user.note", b"too");
    // user::rw-, user:1000:r--, group::r--, mask::r--, other::---
    let entry = |tag: u16, permissions: u16, id: u32| {
        [tag.to_le_bytes().to_vec(), permissions.to_le_bytes().to_vec(), id.to_le_bytes().to_vec()].concat()
    };
    let none = u32::MAX;
    let acl = [
        2u32.to_le_bytes().to_vec(),
        entry(1, 6, none),
        entry(2, 4, 1000),
        entry(4, 4, none),
        entry(16, 4, none),
        entry(32, 0, none),
    ]
    .concat();
    scene.file(&at("listed"), "x").attribute(&at("listed"), "system.posix_acl_access", &acl);
    // A hole with an island.
    let holes = std::fs::File::create(scene.at(&at("holes"))).unwrap();
    rustix::io::pwrite(&holes, b"island", 8 << 20).unwrap();
    fs::ftruncate(&holes, 64 << 20).unwrap();
    for (name, seconds) in [("plain", 1_000_000_000), ("bare", 1_100_000_000), ("deep", 1_200_000_000)] {
        let time = fs::Timespec { tv_sec: seconds, tv_nsec: 123_456_789 };
        let times = fs::Timestamps { last_access: time, last_modification: time };
        fs::utimensat(fs::CWD, scene.at(&at(name)), &times, fs::AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }
}

#[test]
fn root_all_that_a_file_has_is_copied() {
    if !is_root() {
        return;
    }
    for layer in ["old/upper", "old/lower"] {
        let roots = Roots::new();
        one_of_everything(&roots.scene, layer);
        let copied = roots.copy(&["/srv"]);
        assert_eq!((copied.entries, copied.conflicts.len(), copied.left.len()), (17, 0, 0), "{copied:?}");
        assert_eq!(copied.owners[&33], 1);
        let Some(differences) = roots.differences("srv") else { return };
        assert!(differences.is_empty(), "{layer}: {differences:#?}");
        let blocks = std::fs::metadata(roots.scene.at("new/upper/srv/holes")).unwrap().blocks();
        assert!(blocks * 512 < 1 << 20, "the hole has become {blocks} blocks");
    }
}

#[test]
fn root_what_the_container_deleted_renamed_and_made_anew_is_copied_as_it_sees_it() {
    if !is_root() {
        return;
    }
    let roots = Roots::new();
    for name in ["kept", "gone", "dir/a", "dir/b", "anew/old", "moved/file", "moved/sub/x"] {
        roots.scene.file(&format!("old/lower/srv/{name}"), name);
    }
    {
        let Some((_mounted, _)) = roots.mounted("old") else { return };
        let at = |name: &str| roots.scene.at(&format!("old/merged/srv/{name}"));
        std::fs::remove_file(at("gone")).unwrap();
        std::fs::remove_file(at("dir/a")).unwrap();
        std::fs::remove_file(at("anew/old")).unwrap();
        std::fs::remove_dir(at("anew")).unwrap();
        std::fs::create_dir(at("anew")).unwrap();
        write(&at("anew/new"), b"new");
        // Without `redirect_dir` overlayfs refuses this, and so it is marked by hand.
    }
    roots.scene.directory("old/upper/srv/renamed");
    roots.scene.attribute("old/upper/srv/renamed", "trusted.overlay.redirect", b"/srv/moved");
    roots.scene.file("old/upper/srv/renamed/sub/y", "y");
    roots.copy(&["/srv"]);
    let (_mounted, new) = roots.mounted("new").unwrap();
    let names = |path: &str| new.names(Path::new(path)).unwrap().unwrap();
    assert_eq!(names("srv"), ["anew", "dir", "kept", "moved", "renamed"]);
    assert_eq!((names("srv/dir"), names("srv/anew")), (vec!["b".into()], vec!["new".into()]));
    assert_eq!(
        (names("srv/renamed"), names("srv/renamed/sub")),
        (vec!["file".into(), "sub".into()], vec!["x".into(), "y".into()])
    );
}

#[test]
fn root_the_old_one_wins_and_the_new_one_is_saved() {
    if !is_root() {
        return;
    }
    for layer in ["new/lower", "new/upper"] {
        let roots = Roots::new();
        let scene = &roots.scene;
        for (name, text) in
            [("same", "same"), ("other", "old"), ("file", "old"), ("dir/x", "old"), ("link", "old")]
        {
            scene.file(&format!("old/upper/etc/{name}"), text);
        }
        scene.mode("old/upper/etc/dir", 0o711).mode("old/upper/etc/same", 0o644);
        let at = |name: &str| format!("{layer}/etc/{name}");
        scene
            .file(&at("same"), "same")
            .mode(&at("same"), 0o644)
            .file(&at("other"), "new")
            .file(&at("only"), "new");
        scene.file(&at("file/in/it"), "new").file(&at("dir/y"), "new").symlink("only", &at("link"));
        let copied = roots.copy(&["/etc"]);
        let saved: Vec<String> =
            copied.conflicts.iter().map(|(_, saved)| saved.display().to_string()).collect();
        assert_eq!(saved, ["/etc/file.template-new", "/etc/link.template-new", "/etc/other.template-new"]);
        {
            let Some((_mounted, new)) = roots.mounted("new") else { return };
            let text = |path: &str| {
                let file = new.read_file(Path::new(path), 99).unwrap().map(|file| file.bytes);
                file.map(|bytes| String::from_utf8(bytes).unwrap()).unwrap_or_default()
            };
            for (path, wanted) in [
                ("etc/same", "same"),
                ("etc/other", "old"),
                ("etc/other.template-new", "new"),
                ("etc/file", "old"),
                ("etc/file.template-new/in/it", "new"),
                ("etc/dir/x", "old"),
                ("etc/dir/y", "new"),
                ("etc/link", "old"),
                ("etc/only", "new"),
            ] {
                assert_eq!(text(path), wanted, "{layer} {path}");
            }
            let link = new.read_link(Path::new("etc/link.template-new")).unwrap();
            assert_eq!(link.as_deref(), Some(Path::new("only")));
            let mode = std::fs::metadata(scene.at("new/merged/etc/dir")).unwrap().mode();
            assert_eq!(mode & 0o7777, 0o711);
        }
        if layer == "new/lower" {
            assert!(!scene.at("new/upper/etc/same").exists(), "what is the same takes no room");
        }
        // Once more: everything is there already.
        let before = snapshot(Root::open(&scene.at("new/upper")).unwrap().handle()).unwrap();
        assert_eq!(roots.copy(&["/etc"]).conflicts, []);
        let after = snapshot(Root::open(&scene.at("new/upper")).unwrap().handle()).unwrap();
        let lines: Vec<String> =
            before.differences(&after).into_iter().filter(|line| !line.contains("modified")).collect();
        assert_eq!(lines, Vec::<String>::new(), "{layer}");
    }
}

#[test]
fn root_a_symlink_leads_nowhere_but_inside_each_root() {
    if !is_root() {
        return;
    }
    let roots = Roots::new();
    let scene = &roots.scene;
    scene.directory("outside-of-both");
    let host = scene.outside("secret");
    scene.file("old/lower/data/www/index", "page").symlink("/data", "old/lower/srv");
    scene.symlink(&host, "old/lower/data/www/leak").symlink("/", "old/lower/data/www/top");
    // The new one has it elsewhere, by a symlink that would be the host's.
    scene.symlink(scene.at("outside-of-both"), "new/lower/srv");
    let error = roots.try_copy(&["/srv/www"], Except::default()).unwrap_err();
    assert!(matches!(error, TreeError::NotDirectory { .. }), "{error}");
    assert_eq!(std::fs::read_dir(scene.at("outside-of-both")).unwrap().count(), 0);
    std::fs::remove_file(scene.at("new/lower/srv")).unwrap();
    scene.symlink("var/lib", "new/lower/srv").directory("new/lower/var/lib");
    roots.copy(&["/srv/www"]);
    assert_eq!(read(&scene.at("new/upper/var/lib/www/index")), "page");
    assert_eq!(std::fs::read_link(scene.at("new/upper/var/lib/www/leak")).unwrap(), host);
    assert_eq!(std::fs::read_link(scene.at("new/upper/var/lib/www/top")).unwrap(), Path::new("/"));
    // The last name is not followed.
    let (old, new) = (roots.root("old"), roots.root("new"));
    let mut told = |_: &Copied| true;
    let mut copier = Copier::new(&old, &new, Except::default(), &mut told);
    assert!(copier.copy(Path::new("/srv")).unwrap());
    assert!(!copier.copy(Path::new("/none/at/all")).unwrap());
    assert!(copier.copy(Path::new("/")).is_err());
    assert_eq!(std::fs::read_link(scene.at("new/upper/srv")).unwrap(), Path::new("/data"));
}

#[test]
fn root_the_way_is_made_as_it_was_and_the_excepted_stays_out() {
    if !is_root() {
        return;
    }
    let roots = Roots::new();
    let scene = &roots.scene;
    scene.file("old/upper/a/b/c/file", "x").mode("old/upper/a", 0o701).mode("old/upper/a/b", 0o2750);
    scene.file("old/upper/a/b/c/passwd", "evil").device("old/upper/a/b/c/sda", FileType::BlockDevice, 8, 0);
    scene.file("old/upper/id", "old").file("new/upper/id", "new");
    let except = Except { left: &["/a/b/c/passwd"], unsaved: &["/id"], reserved: &[] };
    let copied = roots.try_copy(&["/a/b/c", "/id"], except).unwrap();
    let mode = |path: &str| std::fs::metadata(scene.at(path)).unwrap().mode() & 0o7777;
    assert_eq!((mode("new/upper/a"), mode("new/upper/a/b")), (0o701, 0o2750));
    assert_eq!(copied.left.len(), 2, "{copied:?}");
    assert_eq!(copied.conflicts, []);
    let (_mounted, new) = roots.mounted("new").unwrap();
    assert_eq!(new.names(Path::new("a/b/c")).unwrap().unwrap(), ["file"]);
    assert_eq!(read(&scene.at("new/merged/id")), "old");
}

#[test]
fn root_nobody_inherits_what_he_did_not_have() {
    if !is_root() {
        return;
    }
    let roots = Roots::new();
    let scene = &roots.scene;
    let at = |path: &str| format!("old/upper/srv/{path}");
    scene.file(&at("secret"), "x").mode(&at("secret"), 0o660).directory(&at("sub")).mode(&at("sub"), 0o750);
    scene.file(&at("sub/deep"), "x").mode(&at("sub/deep"), 0o600).fifo(&at("pipe")).mode(&at("pipe"), 0o620);
    // Set last: nothing of the old root has inherited it.
    scene.attribute("old/upper/srv", "system.posix_acl_default", &default_list());
    // And in the new one a directory that would give it to what is copied into it.
    scene.directory("new/lower/opt").attribute("new/lower/opt", "system.posix_acl_default", &default_list());
    scene.file("old/upper/opt/app", "x").mode("old/upper/opt/app", 0o640).mode("old/upper/opt", 0o755);
    roots.copy(&["/srv", "/opt/app"]);
    let Some(differences) = roots.differences("srv") else { return };
    assert!(differences.is_empty(), "{differences:#?}");
    let names = |path: &str| {
        let mut buffer = [0; 4096];
        let length = fs::lgetxattr(scene.at(path), "system.posix_acl_access", &mut buffer[..]);
        length.map(|length: usize| length)
    };
    assert_eq!(names("new/upper/opt/app"), Err(rustix::io::Errno::NODATA));
    let mode = std::fs::metadata(scene.at("new/upper/opt/app")).unwrap().mode();
    assert_eq!(mode & 0o777, 0o640);
}

#[test]
fn root_what_is_named_twice_and_has_two_names_is_copied_once() {
    if !is_root() {
        return;
    }
    let roots = Roots::new();
    let scene = &roots.scene;
    scene.file("old/upper/srv/www/a", "x").file("old/upper/srv/other/b", "y");
    std::fs::hard_link(scene.at("old/upper/srv/www/a"), scene.at("old/upper/srv/www/b")).unwrap();
    roots.copy(&["/srv", "/srv/www", "/srv/www/b", "/srv"]);
    let Some(differences) = roots.differences("srv") else { return };
    assert!(differences.is_empty(), "{differences:#?}");
    // Two directories of the old root that are one in the new: the later file must not get the earlier one's other names.
    let roots = Roots::new();
    let scene = &roots.scene;
    scene.file("old/upper/a/same", "first").file("old/upper/b/same", "second").directory("old/upper/c");
    std::fs::hard_link(scene.at("old/upper/a/same"), scene.at("old/upper/c/link")).unwrap();
    scene.directory("new/upper/a").symlink("a", "new/upper/b");
    roots.copy(&["/a/same", "/b/same", "/c/link"]);
    assert_eq!(read(&scene.at("new/upper/a/same")), "second");
    assert_eq!(read(&scene.at("new/upper/c/link")), "first");
}

#[test]
fn root_what_would_be_mounted_over_is_refused() {
    if !is_root() {
        return;
    }
    let roots = Roots::new();
    let scene = &roots.scene;
    scene.file("old/upper/var/run/app/db", "x").directory("new/lower/var").directory("new/lower/run");
    scene.symlink("../run", "new/lower/var/run");
    let except = Except { reserved: &["run"], ..Except::default() };
    let error = roots.try_copy(&["/var/run/app"], except).unwrap_err();
    assert!(error.to_string().contains("mounted at every start"), "{error}");
    roots.copy(&["/var/run/app"]);
}

#[test]
fn root_depth_is_no_matter_until_it_is_too_deep() {
    if !is_root() {
        return;
    }
    for (depth, fits) in [(300, true), (5000, false)] {
        let roots = Roots::new();
        roots.scene.directory("old/upper/deep");
        let top =
            Root::open(&roots.scene.at("old/upper/deep")).unwrap().handle().try_clone_to_owned().unwrap();
        let bottom = deep(&top, c"d", depth);
        fs::mkdirat(&bottom, c"bottom", Mode::RWXU).unwrap();
        let copied = roots.try_copy(&["/deep"], Except::default());
        match (copied, fits) {
            (Ok(copied), true) => assert_eq!(copied.entries, depth as u64 + 2),
            (Err(error), false) => assert!(error.to_string().contains("too deep"), "{error}"),
            (other, _) => panic!("{depth}: {other:?}"),
        }
    }
}

#[test]
fn a_copy_ends_when_it_is_told_to() {
    let roots = Roots::new();
    for number in 0..50 {
        roots.scene.file(&format!("old/lower/srv/{number:02}"), "x");
    }
    let (old, new) = (roots.root("old"), roots.root("new"));
    let mut told = |copied: &Copied| copied.entries < 10;
    let mut copier = Copier::new(&old, &new, Except::default(), &mut told);
    let error = copier.copy(Path::new("/srv")).unwrap_err();
    assert_eq!(error.io_error().unwrap().kind(), std::io::ErrorKind::Interrupted, "{error}");
    assert_eq!(copier.copied().entries, 10);
}
