//! What a delta is told to change: each of overlayfs' rules, on layers made by hand.

#![expect(clippy::disallowed_methods, reason = "the trees of these tests are their own")]

use super::layered::Layers;
use super::*;
use crate::{Aspect, Change, Difference, TreeError, differences};
use std::fs::File;
use std::os::unix::ffi::OsStrExt;

/// `A /x`, `D /x`, `M /x contents mode`, `R /x from /y mode`.
pub(super) fn line(difference: &Difference<'_>) -> String {
    let path = difference.path.display();
    let words = |differs: &[Aspect]| {
        differs.iter().map(|aspect| format!(" {aspect:?}").to_lowercase()).collect::<String>()
    };
    match &difference.change {
        Change::Added => format!("A {path}"),
        Change::Deleted => format!("D {path}"),
        Change::Changed(differs) => format!("M {path}{}", words(differs)),
        Change::Renamed { from, differs } => format!("R {path} from {}{}", from.display(), words(differs)),
    }
}

/// What is told of a root, from a path on.
pub(super) fn told_below(scene: &Scene, below: &str) -> Result<Vec<String>, TreeError> {
    let open = |name| Root::open(&scene.at(name)).unwrap();
    let mut lines = Vec::new();
    let moved = differences(&open("upper"), Some(&open("lower")), Path::new(below), |difference| {
        lines.push(line(difference));
        Ok::<(), TreeError>(())
    })?;
    assert_eq!(moved, None);
    Ok(lines)
}

fn told(layers: &Layers) -> Vec<String> {
    told_below(&layers.scene, "/").unwrap()
}

impl Layers {
    fn redirect(&self, path: &str, to: &str) -> &Layers {
        self.scene.directory(path).attribute(path, "trusted.overlay.redirect", to.as_bytes());
        self
    }

    fn opaque(&self, path: &str, value: &str) -> &Layers {
        self.scene.directory(path).attribute(path, "trusted.overlay.opaque", value.as_bytes());
        self
    }

    fn whiteout(&self, path: &str) -> &Layers {
        self.scene.device(path, FileType::CharacterDevice, 0, 0);
        self
    }
}

#[test]
fn what_only_the_upper_layer_has_was_added_with_all_that_is_in_it() {
    let layers = Layers::new();
    layers.scene.file("lower/etc/hosts", "").file("upper/srv/a/file", "four").file("upper/etc/new", "");
    layers.scene.symlink("x", "upper/srv/link").fifo("upper/srv/z");
    assert_eq!(
        told(&layers),
        ["A /etc/new", "A /srv", "A /srv/a", "A /srv/a/file", "A /srv/link", "A /srv/z"]
    );
}

#[test]
fn a_change_is_told_apart_into_contents_mode_owner_attributes_and_target() {
    let layers = Layers::new();
    for layer in ["lower", "upper"] {
        for name in ["same", "contents", "size", "mode", "attribute", "removed", "other"] {
            layers.scene.file(&format!("{layer}/{name}"), "text").mode(&format!("{layer}/{name}"), 0o644);
        }
        layers.scene.symlink("a", format!("{layer}/link").as_str());
        layers.scene.directory(&format!("{layer}/directory")).mode(&format!("{layer}/directory"), 0o755);
    }
    layers.scene.file("upper/contents", "tex2").file("upper/size", "tex").mode("upper/mode", 0o4644);
    layers.scene.attribute("upper/attribute", "user.a", b"1").attribute("lower/removed", "user.a", b"1");
    layers.scene.attribute("upper/other", "user.a", b"1").attribute("lower/other", "user.a", b"2");
    layers.scene.mode("upper/directory", 0o700).mode("upper", 0o700);
    std::fs::remove_file(layers.scene.at("upper/link")).unwrap();
    layers.scene.symlink("b", "upper/link");
    assert_eq!(
        told(&layers),
        [
            "M / mode",
            "M /attribute attributes",
            "M /contents contents",
            "M /directory mode",
            "M /link target",
            "M /mode mode",
            "M /other attributes",
            "M /removed attributes",
            "M /size contents",
        ]
    );
}

#[test]
fn what_is_compared_block_by_block_differs_in_its_last_byte_and_not_in_its_holes() {
    let layers = Layers::new();
    let long = "x".repeat(3 << 20);
    layers.scene.file("lower/long", &long).file("upper/long", &long);
    layers.scene.file("lower/end", &long).file("upper/end", &format!("{}y", &long[1..]));
    for (layer, name, text) in
        [("lower", "hole", ""), ("upper", "hole", "\0\0"), ("lower", "data", ""), ("upper", "data", "x")]
    {
        layers.scene.file(&format!("{layer}/{name}"), text);
        let file = File::options().write(true).open(layers.scene.at(&format!("{layer}/{name}"))).unwrap();
        // A look at each byte would take an hour.
        file.set_len(1 << 42).unwrap();
    }
    within(Duration::from_secs(10), move || {
        assert_eq!(told(&layers), ["M /data contents", "M /end contents"])
    });
}

#[test]
fn root_an_owner_a_kind_and_a_device_are_told() {
    if !is_root() {
        return;
    }
    let layers = Layers::new();
    for layer in ["lower", "upper"] {
        layers.scene.file(&format!("{layer}/user"), "").file(&format!("{layer}/group"), "");
    }
    std::os::unix::fs::chown(layers.scene.at("upper/user"), Some(33), None).unwrap();
    std::os::unix::fs::chown(layers.scene.at("upper/group"), None, Some(33)).unwrap();
    layers.scene.device("lower/null", FileType::CharacterDevice, 1, 3);
    layers.scene.device("upper/null", FileType::CharacterDevice, 1, 5);
    // A directory took the place of a file, and a symlink that of a directory.
    layers
        .scene
        .file("lower/a", "")
        .file("upper/a/in", "")
        .file("lower/b/in/deep", "")
        .symlink("a", "upper/b");
    assert_eq!(
        told(&layers),
        [
            "M /a kind",
            "A /a/in",
            "M /b kind",
            "D /b/in",
            "D /b/in/deep",
            "M /group owner",
            "M /null kind",
            "M /user owner"
        ]
    );
}

#[test]
fn root_whiteouts_of_both_forms_delete_all_that_was_there() {
    if !is_root() {
        return;
    }
    let layers = Layers::new();
    layers
        .scene
        .file("lower/a/b/c", "")
        .file("lower/d", "")
        .file("lower/x/gone", "")
        .file("lower/x/kept", "");
    layers.scene.file("lower/plain/file", "x");
    layers.whiteout("upper/a").whiteout("upper/d").whiteout("upper/nothing-was-here").opaque("upper/x", "x");
    layers.scene.file("upper/x/gone", "").attribute("upper/x/gone", "trusted.overlay.whiteout", b"y");
    layers.scene.file("upper/x/kept", "");
    // Without the mark of its directory it is no whiteout.
    layers.scene.file("upper/plain/file", "").attribute("upper/plain/file", "trusted.overlay.whiteout", b"y");
    let expected = ["D /a", "D /a/b", "D /a/b/c", "D /d", "M /plain/file contents", "D /x/gone"];
    assert_eq!(told(&layers), expected);
    assert_eq!(told_below(&layers.scene, "/a/b").unwrap(), expected[1..3]);
    assert!(matches!(told_below(&layers.scene, "/nothing-was-here"), Err(TreeError::Missing { .. })));
}

#[test]
fn root_a_directory_made_anew_has_deleted_what_it_lacks() {
    if !is_root() {
        return;
    }
    let layers = Layers::new();
    for name in ["a", "same", "sub/gone", "sub/kept", "z/z"] {
        layers.scene.file(&format!("lower/d/{name}"), "text");
    }
    layers.opaque("upper/d", "y");
    layers.scene.file("upper/d/same", "text").file("upper/d/sub/kept", "text").file("upper/d/b", "");
    assert_eq!(told(&layers), ["D /d/a", "A /d/b", "D /d/sub/gone", "D /d/z", "D /d/z/z"]);
    assert_eq!(told_below(&layers.scene, "d/sub").unwrap(), ["D /d/sub/gone"]);
    assert_eq!(told_below(&layers.scene, "d/z/z").unwrap(), ["D /d/z/z"]);
    assert_eq!(told_below(&layers.scene, "d/same").unwrap(), [""; 0]);
}

#[test]
fn root_a_renamed_directory_is_compared_with_what_was_in_it_before() {
    if !is_root() {
        return;
    }
    let layers = Layers::new();
    for name in ["a/changed", "a/gone", "a/kept", "a/sub/deep", "p/q/r/file", "s/file"] {
        layers.scene.file(&format!("lower/{name}"), "text");
    }
    layers.redirect("upper/b", "a").whiteout("upper/a").whiteout("upper/b/gone");
    layers.scene.file("upper/b/changed", "Text").mode("upper/b", 0o700).mode("lower/a", 0o755);
    // Out of what was deleted, into what is new, and within what was renamed.
    layers.scene.directory("upper/new");
    layers.whiteout("upper/p").redirect("upper/new/r", "/p/q/r").redirect("upper/b/under", "sub");
    layers.whiteout("upper/b/sub");
    // Away and back again.
    layers.redirect("upper/s", "s");
    let expected = [
        "R /b from /a mode",
        "M /b/changed contents",
        "D /b/gone",
        "R /b/under from /a/sub",
        "A /new",
        "R /new/r from /p/q/r",
        "D /p",
        "D /p/q",
    ];
    assert_eq!(told(&layers), expected);
    // Below a path, what went elsewhere has gone.
    assert_eq!(told_below(&layers.scene, "/p").unwrap(), ["D /p", "D /p/q", "D /p/q/r", "D /p/q/r/file"]);
    assert_eq!(told_below(&layers.scene, "/b").unwrap(), expected[..4]);
    assert_eq!(told_below(&layers.scene, "/b/under/deep").unwrap(), [""; 0]);
}

#[test]
fn root_directories_that_changed_places_and_one_on_top_of_another() {
    if !is_root() {
        return;
    }
    let layers = Layers::new();
    for name in ["a/one", "b/two", "c/three", "d/four"] {
        layers.scene.file(&format!("lower/{name}"), "");
    }
    layers.redirect("upper/a", "b").redirect("upper/b", "a").redirect("upper/d", "/c").whiteout("upper/c");
    assert_eq!(told(&layers), ["R /a from /b", "R /b from /a", "D /d", "D /d/four", "R /d from /c"]);
}

#[test]
fn root_a_directory_at_its_own_path_again_in_another_parent_was_renamed_out_of_the_old_one() {
    if !is_root() {
        return;
    }
    let layers = Layers::new();
    layers.scene.file("lower/b/in/file", "").file("lower/c", "");
    // mv b d; mkdir b; mv d/in b/in
    layers
        .redirect("upper/d", "/b")
        .opaque("upper/b", "y")
        .whiteout("upper/d/in")
        .redirect("upper/b/in", "/b/in");
    assert_eq!(told(&layers), ["A /b", "R /b/in from /b/in", "R /d from /b"]);
}

#[test]
fn root_a_redirect_that_no_kernel_writes_leads_nowhere() {
    if !is_root() {
        return;
    }
    let layers = Layers::new();
    layers
        .scene
        .file("lower/a/file", "")
        .symlink(layers.scene.outside(""), "lower/link")
        .symlink("a", "lower/near");
    let long = format!("/{}", "x/".repeat(30_000));
    for (index, to) in
        ["..", "/..", "/../host", "/a/../../host", "//a", "/link", "near", "", "/", "/a/file", &long]
            .into_iter()
            .enumerate()
    {
        // Attributes are a block at most on ext4.
        layers.redirect(&format!("upper/{index:02}"), &to[..to.len().min(3000)]);
    }
    layers.scene.file("upper/00/secret", "");
    let lines = told(&layers);
    assert_eq!(lines.len(), 12, "{lines:?}");
    assert!(lines.iter().all(|line| line.starts_with("A /")), "{lines:?}");
}

#[test]
fn root_marks_of_overlayfs_are_no_differences_and_those_of_others_are() {
    if !is_root() {
        return;
    }
    let layers = Layers::new();
    layers.scene.file("lower/d/file", "").file("upper/d/file", "");
    for (path, name) in [
        ("upper/d", "trusted.overlay.origin"),
        ("upper/d", "trusted.overlay.impure"),
        ("upper/d/file", "trusted.overlay.nlink"),
        ("upper", "trusted.overlay.uuid"),
    ] {
        layers.scene.attribute(path, name, b"y");
    }
    assert_eq!(told(&layers), [""; 0]);
    layers.scene.attribute("upper/d/file", "trusted.other", b"y");
    assert_eq!(told(&layers), ["M /d/file attributes"]);
}

#[test]
fn a_path_is_gone_to_through_both_layers_and_no_symlink() {
    let layers = Layers::new();
    layers.scene.file("lower/etc/hosts", "").file("lower/etc/kept", "").file("upper/etc/hosts", "x");
    layers.scene.symlink("etc", "lower/link").symlink("etc", "upper/new-link").file("upper/etcetera", "");
    let told = |below| told_below(&layers.scene, below);
    for below in ["/etc", "etc/", "/etc/hosts", "//etc/./hosts"] {
        assert_eq!(told(below).unwrap(), ["M /etc/hosts contents"], "{below}");
    }
    assert_eq!(told("/etc/kept").unwrap(), [""; 0]);
    assert_eq!(told("/link").unwrap(), [""; 0]);
    for below in ["/nowhere", "/etc/hosts/x", "/etc/kept/x", "/etc/x/y"] {
        assert!(matches!(told(below), Err(TreeError::Missing { .. })), "{below}: {:?}", told(below));
    }
    for below in ["/link/hosts", "/new-link/hosts"] {
        assert!(matches!(told(below), Err(TreeError::SymlinkOnTheWay { .. })), "{below}");
    }
    assert!(matches!(told("/etc/../etc"), Err(TreeError::BadPath { .. })));
}

#[test]
fn without_a_template_everything_was_added() {
    let layers = Layers::new();
    layers.scene.file("upper/a/b", "12345").symlink("x", "upper/c");
    let upper = Root::open(&layers.scene.at("upper")).unwrap();
    let mut found = Vec::new();
    differences(&upper, None, Path::new("/"), |difference| {
        found.push((line(difference), difference.kind, difference.bytes, difference.lower.is_some()));
        Ok::<(), TreeError>(())
    })
    .unwrap();
    assert_eq!(
        found,
        [
            ("A /a".to_owned(), "a directory", 0, false),
            ("A /a/b".to_owned(), "a regular file", 5, false),
            ("A /c".to_owned(), "a symlink", 0, false)
        ]
    );
}

#[test]
fn a_tree_deeper_than_any_path_takes_few_handles_and_no_stack() {
    let layers = Layers::new();
    let handle = |name| Root::open(&layers.scene.at(name)).unwrap().handle().try_clone_to_owned().unwrap();
    layers.scene.directory("upper/0").directory("lower/0");
    deep(&handle("upper/0"), c"d", 9_000);
    deep(&handle("lower/0"), c"d", 300);
    let (upper, lower) = (Root::open(&layers.scene.at("upper")), Root::open(&layers.scene.at("lower")));
    let (mut count, mut longest) = (0, 0);
    differences(&upper.unwrap(), Some(&lower.unwrap()), Path::new("/"), |difference| {
        count += 1;
        longest = longest.max(difference.path.as_os_str().as_bytes().len());
        assert_eq!(difference.change, Change::Added);
        Ok::<(), TreeError>(())
    })
    .unwrap();
    assert_eq!((count, longest), (9_000 - 300, 2 + 2 * 9_000));
}

#[test]
fn what_vanishes_or_moves_under_the_walk_does_not_end_it() {
    let layers = Layers::new();
    let scene = &layers.scene;
    scene.file("upper/a/gone/file", "").file("upper/a/gone-too", "").file("upper/z", "");
    let way = "d/".repeat(60);
    scene.file(&format!("upper/m/{way}file"), "").file("upper/m/unseen", "").directory("upper/n");
    let upper = Root::open(&scene.at("upper")).unwrap();
    let mut lines = Vec::new();
    let moved = differences(&upper, None, Path::new("/"), |difference| {
        let line = line(difference);
        match line.as_str() {
            "A /a/gone" => {
                std::fs::remove_file(scene.at("upper/a/gone/file")).unwrap();
                std::fs::remove_dir(scene.at("upper/a/gone")).unwrap();
                std::fs::remove_file(scene.at("upper/a/gone-too")).unwrap();
            }
            // Deeper than what stays open: there is no way back up.
            line if line.starts_with("A /m") && line.ends_with("/d/file") => {
                fs::rename(scene.at("upper/m/d/d"), scene.at("upper/n/d")).unwrap();
            }
            _ => {}
        }
        lines.push(line);
        Ok::<(), TreeError>(())
    })
    .unwrap();
    assert_eq!(lines[..2], ["A /a", "A /a/gone"]);
    assert_eq!(lines.last().unwrap(), "A /z");
    assert!(moved.unwrap().starts_with("/m/d"));
}

#[test]
fn a_fifo_in_either_layer_does_not_hang() {
    within(Duration::from_secs(10), || {
        let layers = Layers::new();
        layers.scene.fifo("lower/a").fifo("upper/a").file("lower/b", "").fifo("upper/b").fifo("upper/c");
        assert_eq!(told(&layers)[..], ["M /b kind", "A /c"]);
    });
}
