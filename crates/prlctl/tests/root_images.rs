//! Images as templates: what comes out of their layers, judged against a public tool; and images that are not whole, or mean harm.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed, and says where")]
#![expect(clippy::disallowed_methods, reason = "the images are the test's own")]

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use testkit::image_maker::{digest, machine, piped};
use testkit::real_host::not_run_here;
use testkit::{ImageMaker, Ran, RealHost, TarHeader, TarMaker};

const PROGRAM: &str = env!("CARGO_BIN_EXE_prlctl");

fn import(host: &RealHost, from: &Path, more: &[&str]) -> Ran {
    let mut command = host.vzpkg();
    Ran::of(command.args(["create", "cache", "image", "--from"]).arg(from).args(more).output().unwrap())
}

fn rootfs(host: &RealHost) -> PathBuf {
    host.path("vz/template/image/latest/rootfs")
}

fn read(path: PathBuf) -> String {
    std::fs::read_to_string(path).unwrap()
}

/// Three layers with everything that a layer can say of those below it.
fn layered(highest_is: &str) -> ImageMaker {
    let lowest = TarMaker::root()
        .directory("etc")
        .file("etc/kept", b"low")
        .file("etc/replaced", b"low")
        .file("etc/removed", b"low")
        .directory("opaque")
        .file("opaque/low", b"low")
        .directory("opaque/below")
        .file("opaque/below/x", b"low")
        .directory("gone")
        .file("gone/a", b"low")
        .directory("gone/b")
        .file("gone/b/c", b"low")
        .directory("becomes-file")
        .file("becomes-file/x", b"low")
        .file("becomes-directory", b"low")
        .link(b'2', "lib", "usr/lib")
        .directory("usr")
        .directory("usr/lib")
        .file("usr/lib/one", b"low")
        .file("linked", b"low");
    let middle = TarMaker::new()
        // A mark counts for what lies below, also when it stands after what the layer itself brings.
        .directory("opaque")
        .file("opaque/middle", b"middle")
        .file("opaque/.wh..wh..opq", b"")
        .file("etc/replaced", b"middle")
        .file("etc/.wh.removed", b"")
        .file(".wh.gone", b"")
        .file("becomes-file", b"middle")
        .directory("becomes-directory")
        .file("becomes-directory/x", b"middle")
        .link(b'1', "another-name", "linked")
        .file("lib/two", b"middle")
        .header(TarHeader::new(b'5', b"etc").mode(0o700));
    let highest = TarMaker::new()
        .file("gone", b"a file now")
        .file("etc/.wh.never-was", b"")
        .file(".wh..wh.aufs", b"")
        .directory("opaque")
        .file("opaque/highest", b"highest");
    ImageMaker::new()
        .layer(&lowest.finish(), Some("gzip"))
        .layer(&middle.finish(), None)
        .layer(&highest.finish(), Some(highest_is))
        .named("latest")
}

fn is_layered(root: &Path) {
    let at = |name: &str| read(root.join(name));
    let is = |name: &str| root.join(name).symlink_metadata().is_ok();
    assert_eq!((at("etc/kept"), at("etc/replaced")), ("low".into(), "middle".into()));
    assert!(!is("etc/removed") && !is("etc/.wh.removed") && !is(".wh..wh.aufs"));
    assert!(!is("opaque/low") && !is("opaque/below") && is("opaque/middle") && is("opaque/highest"));
    assert_eq!(
        (at("gone"), at("becomes-file"), at("becomes-directory/x")),
        ("a file now".into(), "middle".into(), "middle".into())
    );
    assert_eq!(
        (at("usr/lib/one"), at("usr/lib/two"), at("another-name")),
        ("low".into(), "middle".into(), "low".into())
    );
    assert!(root.join("lib").symlink_metadata().unwrap().is_symlink());
}

#[test]
fn root_an_image_is_a_template_whatever_it_is_kept_in() {
    let Some(host) = RealHost::bare(PROGRAM) else { return };
    let layout = host.path("layout");
    layered("zstd").layout(&layout);
    let ran = import(&host, &layout, &[]);
    assert_eq!(ran.code, 0, "{ran}");
    is_layered(&rootfs(&host));
    let first = std::fs::canonicalize(rootfs(&host)).unwrap();
    // The same tree has the same name, from an archive too, and from one that is compressed.
    for (name, bytes) in
        [("a.tar", layered("zstd").archive()), ("a.tar.gz", piped("gzip", &layered("zstd").archive()))]
    {
        let path = host.path(name);
        std::fs::write(&path, bytes).unwrap();
        let ran = import(&host, &path, &[]);
        assert_eq!(ran.code, 0, "{ran}");
        assert_eq!(std::fs::canonicalize(rootfs(&host)).unwrap(), first);
    }
    let list: Value =
        serde_json::from_str(&Ran::of(host.vzpkg().args(["list", "-j"]).output().unwrap()).stdout).unwrap();
    assert!(list[0]["source"].as_str().unwrap().starts_with("image latest "), "{list}");
}

/// What `docker save` wrote before it wrote layouts.
#[test]
fn root_a_saved_image_of_docker_is_a_template() {
    let Some(host) = RealHost::bare(PROGRAM) else { return };
    let lower =
        TarMaker::root().file("etc/os-release", b"ID=alpine\nVERSION_ID=3.20.1\n").file("old", b"x").finish();
    let upper = TarMaker::new().file(".wh.old", b"").file("new", b"x").finish();
    let record = json!({
        "architecture": machine(), "os": "linux",
        "rootfs": { "type": "layers", "diff_ids": [digest(&lower), digest(&upper)] },
    });
    let id = "0".repeat(64);
    let manifest = json!([{ "Config": "config.json", "RepoTags": ["shop:1"], "Layers": [format!("{id}/layer.tar"), "second/layer.tar"] }]);
    let hex = digest(record.to_string().as_bytes()).replace("sha256:", "");
    let manifest = manifest.to_string().replace("config.json", &format!("{hex}.json"));
    let saved = |record: &str| {
        TarMaker::new()
            .directory(&id)
            .entry(b'0', format!("{id}/layer.tar").as_bytes(), &lower)
            .entry(b'0', b"real/layer.tar", &upper)
            // A layer that two images have stands once.
            .link(b'2', "second/layer.tar", "../real/layer.tar")
            .file(&format!("{hex}.json"), record.as_bytes())
            .file("manifest.json", manifest.as_bytes())
            .finish()
    };
    let path = host.path("saved.tar");
    std::fs::write(&path, saved(&record.to_string())).unwrap();
    // As short as one may name it, as it is named in full, and by its digest.
    for name in ["shop:1", "docker.io/library/shop:1", &format!("sha256:{hex}")] {
        let ran = import(&host, &path, &["--image", name]);
        assert_eq!(ran.code, 0, "{name}: {ran}");
    }
    import(&host, &path, &["--image", "shop"]).failed(21, &["there is no `shop` in it; there are: `shop:1`"]);
    let changed = host.path("changed.tar");
    std::fs::write(&changed, saved(&record.to_string().replace("linux", "Linux"))).unwrap();
    import(&host, &changed, &[]).failed(21, &[&format!("what is called `{hex}.json` in it is sha256:")]);
    assert!(rootfs(&host).join("new").exists() && !rootfs(&host).join("old").exists());
    let list: Value =
        serde_json::from_str(&Ran::of(host.vzpkg().args(["list", "-j"]).output().unwrap()).stdout).unwrap();
    assert_eq!((&list[0]["distribution"], &list[0]["release"]), (&"alpine".into(), &"3.20.1".into()));
}

#[test]
fn root_of_several_images_one_is_named() {
    let Some(host) = RealHost::bare(PROGRAM) else { return };
    let root = |word: &str| TarMaker::root().file("which", word.as_bytes()).finish();
    let mut maker =
        ImageMaker::new().layer(&root("one"), None).named("one").layer(&root("two"), None).named("two");
    maker.architecture = "s390x".to_owned();
    let maker = maker.layer(&root("other"), None).named("other");
    let layout = host.path("layout");
    maker.layout(&layout);
    let by_name = "hint: name one of them with `--image NAME`";
    import(&host, &layout, &[])
        .failed(21, &["because: there are several images in it: `one`, `two`", by_name]);
    import(&host, &layout, &["--image", "three"])
        .failed(21, &["because: there is no `three` in it; there are: `one`, `two`, `other`", by_name]);
    import(&host, &layout, &["--image", "other"]).failed(
        21,
        &[
            "because: there is nothing for linux/",
            "it has: `linux/",
            "hint: take the one that was made for this machine",
        ],
    );
    let ran = import(&host, &layout, &["--image", "two"]);
    assert_eq!(ran.code, 0, "{ran}");
    assert_eq!(read(rootfs(&host).join("which")), "two");
}

/// Changes the one record of a layout that no digest is of.
fn reindex(layout: &Path, change: impl Fn(&mut Value)) {
    let path = layout.join("index.json");
    let mut index = serde_json::from_str(&read(path.clone())).unwrap();
    change(&mut index);
    std::fs::write(path, index.to_string()).unwrap();
}

/// An index as a blob: its descriptor.
fn index_blob(layout: &Path, manifests: &[Value]) -> Value {
    let bytes = json!({ "schemaVersion": 2, "manifests": manifests }).to_string();
    let digest = digest(bytes.as_bytes());
    std::fs::write(layout.join("blobs").join(digest.replace(':', "/")), &bytes).unwrap();
    json!({ "mediaType": "application/vnd.oci.image.index.v1+json", "digest": digest, "size": bytes.len() })
}

/// One image that has two names is one image.
#[test]
fn root_an_image_with_two_names_needs_none_of_them() {
    let Some(host) = RealHost::bare(PROGRAM) else { return };
    let layout = host.path("layout");
    simple().named("shop:1").layout(&layout);
    reindex(&layout, |index| {
        let mut other = index["manifests"][0].clone();
        other["annotations"]["org.opencontainers.image.ref.name"] = json!("shop:latest");
        index["manifests"].as_array_mut().unwrap().push(other);
    });
    let index: Value = serde_json::from_str(&read(layout.join("index.json"))).unwrap();
    let digest = index["manifests"][0]["digest"].as_str().unwrap();
    for wanted in [&[][..], &["--image", digest], &["--image", "shop:1"], &["--image", "shop"]] {
        let ran = import(&host, &layout, wanted);
        assert_eq!(ran.code, 0, "{wanted:?}: {ran}");
    }
    import(&host, &layout, &["--image", "shop:2"])
        .failed(21, &["there is no `shop:2` in it; there are: `shop:1`, `shop:latest`"]);
}

/// An image for several machines has an index of its own, in which each of them has a digest.
#[test]
fn root_an_image_of_a_nested_index_is_found_by_its_digest() {
    let Some(host) = RealHost::bare(PROGRAM) else { return };
    let layout = host.path("layout");
    let root = |word: &str| TarMaker::root().file("which", word.as_bytes()).finish();
    let mut maker =
        ImageMaker::new().layer(&root("one"), None).named("one").layer(&root("two"), None).named("two");
    maker.architecture = "s390x".to_owned();
    maker.layer(&root("other"), None).named("other").layout(&layout);
    let mut manifests = Vec::new();
    reindex(&layout, |index| {
        let of_each = index["manifests"].as_array_mut().unwrap();
        of_each.iter_mut().for_each(|one| drop(one.as_object_mut().unwrap().remove("annotations")));
        // In one that lies deeper; beside one that was not copied.
        let (one, others) = (index_blob(&layout, &of_each[..1]), index_blob(&layout, &of_each[1..]));
        let mut missing = one.clone();
        missing["digest"] = json!(digest(b"missing"));
        *of_each = vec![index_blob(&layout, &[missing, one, others])];
    });
    for path in std::fs::read_dir(layout.join("blobs/sha256")).unwrap().map(|blob| blob.unwrap().path()) {
        let bytes = std::fs::read(&path).unwrap();
        if bytes.starts_with(b"{\"config\"") {
            manifests.push(digest(&bytes));
        }
    }
    assert_eq!(manifests.len(), 3);
    let mut found = Vec::new();
    for digest in &manifests {
        let ran = import(&host, &layout, &["--image", digest]);
        match ran.code {
            0 => found.push(read(rootfs(&host).join("which"))),
            _ => ran.failed(21, &["there is nothing for linux/", "`linux/s390x`"]),
        }
    }
    found.sort();
    assert_eq!(found, ["one", "two"]);
    let unknown = digest(b"unknown");
    import(&host, &layout, &["--image", &unknown]).failed(21, &[&format!("there is no `{unknown}` in it")]);
}

/// A device is left out, and so is every other name of it; what it replaces is gone all the same.
#[test]
fn root_devices_of_an_upper_layer_replace_what_is_below() {
    let Some(host) = RealHost::bare(PROGRAM) else { return };
    let lower = TarMaker::root()
        .file("replaced", b"low")
        .file("linked/x", b"low")
        .header(&mut TarHeader::new(b'3', b"dev/null"));
    let upper = TarMaker::new()
        .header(&mut TarHeader::new(b'3', b"replaced"))
        .link(b'1', "linked", "dev/null")
        .link(b'1', "new", "replaced");
    let layout = host.path("layout");
    ImageMaker::new().layer(&lower.finish(), None).layer(&upper.finish(), None).named("x").layout(&layout);
    let ran = import(&host, &layout, &[]);
    assert_eq!(ran.code, 0, "{ran}");
    assert!(ran.stderr.contains("4 device nodes are left out"), "{ran}");
    let left = std::fs::read_dir(rootfs(&host)).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(left.collect::<Vec<_>>(), ["sbin"]);
}

/// That a layer is whole its digest says: then it needs no mark of its end.
#[test]
fn root_layers_without_the_mark_of_their_end_are_whole_by_their_digest() {
    let Some(host) = RealHost::bare(PROGRAM) else { return };
    let layout = host.path("layout");
    let mut cut = TarMaker::new().file("cut", b"x").unfinished();
    // Nor what fills up its last block.
    cut.truncate(513);
    ImageMaker::new()
        .layer(&TarMaker::root().unfinished(), None)
        .layer(&TarMaker::new().file("packed", b"x").unfinished(), Some("gzip"))
        .layer(&cut, None)
        .layer(b"", Some("gzip"))
        .layer(b"", None)
        .named("x")
        .layout(&layout);
    let ran = import(&host, &layout, &[]);
    assert_eq!(ran.code, 0, "{ran}");
    assert!(rootfs(&host).join("packed").exists() && rootfs(&host).join("cut").exists());
}

/// Layers that were not to be handed on: whoever has one has it.
#[test]
fn root_a_layer_that_is_kept_elsewhere_is_taken_where_it_is_here_too() {
    let Some(host) = RealHost::bare(PROGRAM) else { return };
    let mut maker = simple().layer(&TarMaker::new().file("more", b"x").finish(), None);
    maker.layers[0]["mediaType"] = json!(FOREIGN);
    maker.layers[1]["mediaType"] = json!("application/vnd.oci.image.layer.nondistributable.v1.tar");
    let layout = host.path("layout");
    maker.named("x").layout(&layout);
    let ran = import(&host, &layout, &[]);
    assert_eq!(ran.code, 0, "{ran}");
    assert!(rootfs(&host).join("more").exists());
}

/// A real system in an image starts.
#[test]
fn root_a_container_runs_from_an_image() {
    // Not in the store that all tests share.
    let Some(host) = RealHost::bare(PROGRAM) else { return };
    let made = Ran::of(host.vzpkg().args(["create", "cache", "busybox"]).output().unwrap());
    assert_eq!(made.code, 0, "{made}");
    let packed = Command::new("tar")
        .arg("-C")
        .arg(host.path("vz/template/busybox/latest/rootfs"))
        .args(["-c", "."])
        .output()
        .unwrap();
    let upper = TarMaker::new().file("from-the-image", b"yes").finish();
    let layout = host.path("layout");
    ImageMaker::new()
        .layer(&packed.stdout, Some("zstd"))
        .layer(&upper, Some("gzip"))
        .named("busybox")
        .layout(&layout);
    let ran = import(&host, &layout, &[]);
    assert_eq!(ran.code, 0, "{ran}");
    host.ok(["create", "web01", "--ostemplate", "image"]);
    host.ok(["start", "web01"]);
    assert_eq!(host.exec("web01", "cat /from-the-image; su -s /bin/sh www-data -c 'id -un'"), "yeswww-data");
    host.ok(["reinstall", "web01"]);
    assert_eq!(host.exec("web01", "cat /from-the-image; ls /old/sbin/init"), "yes/old/sbin/init");
}

/// `umoci unpack` makes the same tree of the same image.
#[test]
fn root_layers_come_out_as_umoci_has_them() {
    let Some(host) = RealHost::bare(PROGRAM) else { return };
    let layout = host.path("layout");
    // It knows no zstd.
    layered("gzip").layout(&layout);
    let bundle = host.path("bundle");
    let unpacked = Command::new("umoci")
        .args(["unpack", "--image"])
        .arg(format!("{}:latest", layout.display()))
        .arg(&bundle)
        .output()
        .unwrap();
    assert!(unpacked.status.success(), "{}", String::from_utf8_lossy(&unpacked.stderr));
    let ran = import(&host, &layout, &[]);
    assert_eq!(ran.code, 0, "{ran}");
    let look = |path: PathBuf| tree::snapshot(std::fs::File::open(path).unwrap().as_fd()).unwrap();
    let theirs = look(bundle.join("rootfs"));
    let differences = theirs.differences(&look(rootfs(&host)));
    // Directories that no entry names have no time of their own.
    let differences: Vec<&String> = differences.iter().filter(|line| !line.starts_with(".: ")).collect();
    assert!(differences.is_empty(), "{differences:#?}");
}

/// What `skopeo copy` makes of an image, in each of the forms that it knows, is the same tree, and run the same way.
#[test]
fn root_images_that_skopeo_has_copied_are_the_same_template() {
    let Some(host) = RealHost::bare(PROGRAM) else { return };
    if Command::new("skopeo").arg("--version").output().is_err() {
        not_run_here(PROGRAM.as_ref(), "there is no skopeo");
        return;
    }
    let layout = host.path("layout");
    // What it writes for docker knows no zstd.
    let config = json!({ "Env": ["A=b"], "Cmd": ["/bin/sh"], "WorkingDir": "/etc" });
    layered("gzip").config(config).layout(&layout);
    let ran = import(&host, &layout, &[]);
    assert_eq!(ran.code, 0, "{ran}");
    let first = std::fs::canonicalize(rootfs(&host)).unwrap();
    let from = format!("oci:{}:latest", layout.display());
    for (form, name, suffix) in [
        ("oci", "copied", ":latest"),
        ("oci-archive", "oci.tar", ":latest"),
        ("docker-archive", "docker.tar", ":example/image:latest"),
    ] {
        let path = host.path(name);
        let copied = Command::new("skopeo")
            .args(["--insecure-policy", "copy", "--quiet", &from])
            .arg(format!("{form}:{}{suffix}", path.display()))
            .output()
            .unwrap();
        assert!(copied.status.success(), "{form}: {}", String::from_utf8_lossy(&copied.stderr));
        let ran = import(&host, &path, &[]);
        assert_eq!(ran.code, 0, "{form}: {ran}");
        is_layered(&rootfs(&host));
        assert_eq!(std::fs::canonicalize(rootfs(&host)).unwrap(), first, "{form}");
    }
}

macro_rules! refused {
    ($($name:ident: $make:expr, [$($said:literal),+];)+) => {$(
        #[test]
        fn $name() {
            let Some(host) = RealHost::bare(PROGRAM) else { return };
            let layout = host.path("layout");
            let make: fn(&Path) = $make;
            make(&layout);
            import(&host, &layout, &[]).failed(21, &[$($said),+]);
            assert_eq!(std::fs::read_dir(host.path("vz/template")).unwrap().count(), 0);
        }
    )+};
}

fn simple() -> ImageMaker {
    ImageMaker::new().layer(&TarMaker::root().finish(), None)
}

/// The one file whose name ends so, changed.
fn change(layout: &Path, is_it: impl Fn(&[u8]) -> bool, to: impl Fn(Vec<u8>) -> Vec<u8>) {
    let blobs = layout.join("blobs/sha256");
    for entry in std::fs::read_dir(&blobs).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        if is_it(&bytes) {
            std::fs::write(&path, to(bytes)).unwrap();
            return;
        }
    }
    panic!("there is no such blob");
}

fn is_layer(bytes: &[u8]) -> bool {
    bytes.len() > 1024
}

fn remove_layer(layout: &Path) {
    for entry in std::fs::read_dir(layout.join("blobs/sha256")).unwrap() {
        let path = entry.unwrap().path();
        if is_layer(&std::fs::read(&path).unwrap()) {
            std::fs::remove_file(path).unwrap();
        }
    }
}

const FOREIGN: &str = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";

fn is_config(bytes: &[u8]) -> bool {
    bytes.starts_with(b"{\"architecture\"")
}

refused! {
    root_an_image_with_a_changed_layer: |layout| {
        simple().named("x").layout(layout);
        change(layout, is_layer, |mut bytes| { bytes[600] ^= 1; bytes });
    }, ["what is called `sha256:", "in it is sha256:"];
    root_an_image_with_a_longer_layer: |layout| {
        simple().named("x").layout(layout);
        change(layout, is_layer, |mut bytes| { bytes.push(0); bytes });
    }, ["bytes in it and should have"];
    root_an_image_with_a_changed_configuration: |layout| {
        simple().named("x").layout(layout);
        change(layout, is_config, |bytes| bytes.iter().map(|&byte| if byte == b'6' { b'7' } else { byte }).collect());
    }, ["what is called `sha256:"];
    root_an_image_without_a_layer: |layout| {
        simple().named("x").layout(layout);
        remove_layer(layout);
    }, ["because: the image is not whole", "is missing in it", "hint: copy it once more"];
    root_an_image_whose_layer_is_another_when_it_is_undone: |layout| {
        let mut maker = simple();
        maker.digests[0] = digest(b"another");
        maker.named("x").layout(layout);
    }, ["layer 1 of 1 is sha256:", "and should be sha256:"];
    root_an_image_with_more_digests_than_layers: |layout| {
        let mut maker = simple();
        maker.digests.push(digest(b"more"));
        maker.named("x").layout(layout);
    }, ["it has 1 layers and digests of 2"];
    root_an_image_with_a_layer_that_is_kept_elsewhere: |layout| {
        let mut maker = simple();
        maker.layers[0]["mediaType"] = json!(FOREIGN);
        maker.named("x").layout(layout);
        remove_layer(layout);
    }, ["because: a layer of it is kept elsewhere", "hint: copy it with `skopeo copy`"];
    root_an_image_with_a_layer_kept_elsewhere_that_is_another: |layout| {
        let mut maker = simple();
        maker.layers[0]["mediaType"] = json!(FOREIGN);
        maker.named("x").layout(layout);
        change(layout, is_layer, |mut bytes| { bytes[600] ^= 1; bytes });
    }, ["what is called `sha256:", "in it is sha256:"];
    root_an_image_with_a_layer_that_is_cut_between_two_entries: |layout| {
        let mut maker = ImageMaker::new().layer(&TarMaker::root().unfinished(), None);
        maker.digests[0] = digest(&TarMaker::root().file("more", b"").unfinished());
        maker.named("x").layout(layout);
    }, ["layer 1 of 1 is sha256:", "and should be sha256:"];
    root_an_image_with_a_layer_that_is_cut_in_a_header: |layout| {
        let mut layer = TarMaker::root().file("more", b"").unfinished();
        layer.truncate(layer.len() - 9);
        ImageMaker::new().layer(&layer, None).named("x").layout(layout);
    }, ["it breaks off"];
    root_an_image_without_layers: |layout| {
        ImageMaker::new().named("x").layout(layout);
    }, ["because: it has 0 layers; from 1 to 512 can be unpacked", "hint: take an image that has a root in it"];
    root_a_layout_without_an_image: |layout| {
        ImageMaker::new().layout(layout);
    }, ["because: there is no image in it", "hint: take an image that has a root in it"];
    root_an_image_with_a_layer_of_an_unknown_kind: |layout| {
        let mut maker = simple();
        maker.layers[0]["mediaType"] = json!("application/vnd.cncf.helm.chart.content.v1.tar+gzip");
        maker.named("x").layout(layout);
    }, ["a layer of it is of a kind that is not known"];
    root_an_image_with_a_digest_that_leads_out: |layout| {
        let mut maker = simple();
        maker.layers[0]["digest"] = json!("sha256:../../../../../../etc/passwd");
        maker.named("x").layout(layout);
    }, ["is no digest that is known"];
    root_an_image_whose_blob_is_a_link_out: |layout| {
        simple().named("x").layout(layout);
        for entry in std::fs::read_dir(layout.join("blobs/sha256")).unwrap() {
            let path = entry.unwrap().path();
            std::fs::remove_file(&path).unwrap();
            std::os::unix::fs::symlink("/etc/passwd", path).unwrap();
        }
    }, ["the archive cannot be read"];
    root_an_image_whose_index_is_a_fifo: |layout| {
        simple().named("x").layout(layout);
        let index = layout.join("index.json");
        std::fs::remove_file(&index).unwrap();
        assert!(Command::new("mkfifo").arg(index).status().unwrap().success());
    }, ["`index.json` in it is no file"];
    root_an_image_whose_index_is_nonsense: |layout| {
        simple().named("x").layout(layout);
        std::fs::write(layout.join("index.json"), "{\x1b[31m").unwrap();
    }, ["`index.json` in it cannot be understood"];
    root_an_image_whose_index_is_nested_without_end: |layout| {
        simple().named("x").layout(layout);
        std::fs::write(layout.join("index.json"), "[".repeat(1 << 20)).unwrap();
    }, ["`index.json` in it cannot be understood"];
    root_an_image_whose_index_is_ten_megabytes: |layout| {
        simple().named("x").layout(layout);
        std::fs::write(layout.join("index.json"), " ".repeat(10 << 20)).unwrap();
    }, ["`index.json` in it has 10485760 bytes"];
    root_an_image_without_an_index: |layout| {
        simple().named("x").layout(layout);
        std::fs::remove_file(layout.join("index.json")).unwrap();
    }, ["it has neither `index.json` nor `manifest.json`"];
    root_an_image_for_another_machine: |layout| {
        let mut maker = simple();
        maker.architecture = "riscv64".to_owned();
        maker.named("x").layout(layout);
    }, ["there is nothing for linux/", "`linux/riscv64`"];
    root_a_whiteout_that_leads_upwards: |layout| {
        simple().layer(&TarMaker::new().file("sbin/.wh...", b"").finish(), None).named("x").layout(layout);
    }, ["`sbin/.wh...` in the archive", "removes nothing that could have a name"];
    root_a_whiteout_of_its_own_directory: |layout| {
        simple().layer(&TarMaker::new().file("sbin/.wh..", b"").finish(), None).named("x").layout(layout);
    }, ["`sbin/.wh..` in the archive"];
    root_a_whiteout_above_the_root: |layout| {
        simple().layer(&TarMaker::new().file("../.wh.vz", b"").finish(), None).named("x").layout(layout);
    }, ["leads upwards"];
    root_an_opaque_mark_above_the_root: |layout| {
        simple().layer(&TarMaker::new().file("../.wh..wh..opq", b"").finish(), None).named("x").layout(layout);
    }, ["leads upwards"];
    root_a_layer_that_is_no_archive: |layout| {
        simple().layer(&vec![b'x'; 4096], None).named("x").layout(layout);
    }, ["it is no tar archive"];
    root_an_image_of_more_layers_than_can_be_held_open: |layout| {
        (0..513).fold(simple(), |maker, _| maker.layer(&TarMaker::new().file("f", b"").finish(), None)).named("x").layout(layout);
    }, ["it has 514 layers; from 1 to 512 can be unpacked"];
    root_an_image_of_an_application: |layout| {
        ImageMaker::new().layer(&TarMaker::new().executable("app", b"#!/bin/sh\n").finish(), None).named("x").layout(layout);
    }, ["it has no init"];
}

/// A whiteout in a directory that is a link of a lower layer removes what is there, and nothing of the host.
#[test]
fn root_whiteouts_through_links_stay_in_the_root() {
    let Some(host) = RealHost::bare(PROGRAM) else { return };
    let canary = host.path("canary");
    std::fs::create_dir(&canary).unwrap();
    std::fs::write(canary.join("file"), "x").unwrap();
    let layout = host.path("layout");
    let out = canary.display().to_string();
    simple()
        .layer(
            &TarMaker::new().link(b'2', "out", &out).link(b'2', "top", "/").file("file", b"x").finish(),
            None,
        )
        .layer(
            &TarMaker::new()
                .file("out/.wh.file", b"")
                .file("out/.wh..wh..opq", b"")
                .file("top/.wh.file", b"")
                .finish(),
            None,
        )
        .named("x")
        .layout(&layout);
    let ran = import(&host, &layout, &[]);
    assert_eq!(ran.code, 0, "{ran}");
    assert!(canary.join("file").exists() && !rootfs(&host).join("file").exists());
}

/// Where a layer has a directory in the place of a link, what the link led to is not what its marks are of.
#[test]
fn root_whiteouts_below_a_link_that_becomes_a_directory_leave_what_it_led_to() {
    let Some(host) = RealHost::bare(PROGRAM) else { return };
    let lower = TarMaker::root()
        .directory("run")
        .file("run/keep", b"low")
        .directory("var")
        .link(b'2', "var/run", "../run")
        .link(b'2', "var/lock", "../run")
        .link(b'2', "var/stays", "../run")
        .file("run/removed", b"low");
    type Part = fn(TarMaker) -> TarMaker;
    let directories: Part = |maker| maker.directory("var/run/").directory("var/lock");
    let marks: Part = |maker| {
        maker
            .file("var/run/.wh..wh..opq", b"")
            .file("var/run/new", b"up")
            .file("var/lock/.wh.keep", b"")
            // It leads there still.
            .file("var/stays/.wh.removed", b"")
    };
    let lower = lower.finish();
    // As tools write them, and the other way round.
    for (name, order) in [("first", [directories, marks]), ("last", [marks, directories])] {
        let upper = order.iter().fold(TarMaker::new(), |maker, part| part(maker)).finish();
        let layout = host.path(name);
        ImageMaker::new().layer(&lower, None).layer(&upper, None).named("x").layout(&layout);
        let ran = import(&host, &layout, &[]);
        assert_eq!(ran.code, 0, "{name}: {ran}");
        let root = rootfs(&host);
        assert_eq!(
            (read(root.join("run/keep")), read(root.join("var/run/new"))),
            ("low".into(), "up".into())
        );
        assert!(!root.join("run/new").exists() && !root.join("run/removed").exists(), "{name}");
        for directory in ["var/run", "var/lock"] {
            assert!(root.join(directory).symlink_metadata().unwrap().is_dir(), "{name}: {directory}");
        }
    }
}

/// Directories, too, in the place of links, whose own directory comes last, or only leads elsewhere.
#[test]
fn root_directories_of_a_layer_are_where_they_are_last_said_to_be() {
    let Some(host) = RealHost::bare(PROGRAM) else { return };
    let lower = TarMaker::root()
        .directory("usr")
        .directory("usr/lib")
        .directory("usr/lib/x")
        .file("usr/lib/x/keep", b"low")
        .link(b'2', "usr/lib/y", "x")
        .link(b'2', "lib", "usr/lib")
        .link(b'2', "lib64", "usr/lib")
        .finish();
    let upper = TarMaker::new()
        // Of the directory `lib` that comes last: `usr/lib/y` is none of them.
        .file("lib/y/.wh.keep", b"")
        .directory("lib/y")
        .directory("lib")
        // And this leads there.
        .directory("lib64/z")
        .file("lib64/z/new", b"up")
        .finish();
    let layout = host.path("layout");
    ImageMaker::new().layer(&lower, None).layer(&upper, None).named("x").layout(&layout);
    let ran = import(&host, &layout, &[]);
    assert_eq!(ran.code, 0, "{ran}");
    let root = rootfs(&host);
    assert_eq!(read(root.join("usr/lib/x/keep")), "low");
    assert_eq!(std::fs::read_link(root.join("usr/lib/y")).unwrap(), std::path::Path::new("x"));
    assert!(root.join("lib").symlink_metadata().unwrap().is_dir());
    assert_eq!(read(root.join("usr/lib/z/new")), "up");
}

/// A layer that has tools' order of entries comes to the same as with umoci.
#[test]
fn root_marks_below_links_are_those_of_umoci() {
    let Some(host) = RealHost::bare(PROGRAM) else { return };
    if std::process::Command::new("umoci").arg("--version").output().is_err() {
        eprintln!("not run: `apt-get install umoci`");
        return;
    }
    let lower = TarMaker::root()
        .directory("usr")
        .directory("usr/lib")
        .file("usr/lib/keep", b"low")
        .file("usr/lib/gone", b"low")
        .directory("opaque")
        .file("opaque/gone", b"low")
        .link(b'2', "lib", "usr/lib")
        .link(b'2', "way", "opaque")
        .finish();
    let upper = TarMaker::new().file("lib/.wh.gone", b"").file("way/.wh..wh..opq", b"").finish();
    let layout = host.path("layout");
    ImageMaker::new().layer(&lower, None).layer(&upper, None).named("x").layout(&layout);
    let ran = import(&host, &layout, &[]);
    assert_eq!(ran.code, 0, "{ran}");
    let bundle = host.path("bundle");
    let unpacked = std::process::Command::new("umoci")
        .args(["unpack", "--image", &format!("{}:x", layout.display())])
        .arg(&bundle)
        .output()
        .unwrap();
    assert!(unpacked.status.success(), "{}", String::from_utf8_lossy(&unpacked.stderr));
    for root in [rootfs(&host), bundle.join("rootfs")] {
        let is = |path: &str| root.join(path).symlink_metadata().is_ok();
        let found = ["usr/lib/keep", "usr/lib/gone", "opaque", "opaque/gone", "lib", "way"].map(is);
        assert_eq!(found, [true, false, true, false, true, true], "{}", root.display());
    }
}

/// More layers than any overlay has.
#[test]
fn root_an_image_of_two_hundred_layers() {
    let Some(host) = RealHost::bare(PROGRAM) else { return };
    let layout = host.path("layout");
    let maker = (0..200).fold(simple(), |maker, number| {
        maker.layer(&TarMaker::new().file("number", number.to_string().as_bytes()).finish(), None)
    });
    maker.named("x").layout(&layout);
    let ran = import(&host, &layout, &[]);
    assert_eq!(ran.code, 0, "{ran}");
    assert_eq!(read(rootfs(&host).join("number")), "199");
}
