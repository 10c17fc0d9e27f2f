//! Roots of distributions, packed and unpacked: what comes out is what went in, and what other programs make of the same archive and image.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed, and says where")]

use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;

use testkit::real_host::not_run_here;
use testkit::{Ran, RealHost, patience};

const PROGRAM: &str = env!("CARGO_BIN_EXE_prlctl");

fn differences(one: &Path, other: &Path) -> Vec<String> {
    let look = |path: &Path| tree::snapshot(std::fs::File::open(path).unwrap().as_fd()).unwrap();
    look(one).differences(&look(other))
}

/// What bsdtar does otherwise: it leaves the top's times, and access lists that GNU tar has written in words. In both ours is as what was packed.
fn is_of_bsdtar(difference: &str) -> bool {
    difference.starts_with(".: modified ") || difference.contains(": attribute `system.posix_acl_")
}

fn ran<Word: AsRef<OsStr>>(program: &str, words: &[Word]) {
    let ran = Ran::within(Command::new(program).args(words), patience(120)).unwrap();
    assert_eq!(ran.code, 0, "{program}: {ran}");
}

/// `template` of a host that has it, by way of tar and of an image.
fn comes_out_as_it_was(host: &RealHost, template: &str) {
    let root = std::fs::canonicalize(host.path(&format!("vz/template/{template}/latest/rootfs"))).unwrap();
    let Some(own) = RealHost::bare(PROGRAM) else { return };
    let made = |source: &str| {
        let name = source.split([':', '.']).next().unwrap().to_owned();
        let mut command = own.vzpkg();
        command.args(["create", "cache", &name, "--from", source.split(':').next().unwrap()]);
        command.current_dir(own.prefix());
        let ran = Ran::within(&mut command, patience(120)).unwrap();
        assert_eq!(ran.code, 0, "{ran}");
        std::fs::canonicalize(own.path(&format!("vz/template/{name}/latest/rootfs"))).unwrap()
    };
    let directory = |name: &str| {
        std::fs::create_dir(own.path(name)).unwrap();
        own.path(name)
    };
    let same = |what: &str, one: &Path, other: &Path| {
        let mut found = differences(one, other);
        found.retain(|difference| what != "bsdtar" || !is_of_bsdtar(difference));
        assert!(found.is_empty(), "{template}, {what}: {:#?}", &found[..found.len().min(20)]);
    };
    let words = |words: &[&str], last: &[&Path]| -> Vec<std::ffi::OsString> {
        words.iter().map(Into::into).chain(last.iter().map(|path| path.as_os_str().to_owned())).collect()
    };

    let archive = own.path("archive.tar");
    let all = ["--xattrs", "--xattrs-include=*", "--acls", "--numeric-owner", "--format=pax", "--sparse"];
    ran(
        "tar",
        &[words(&all, &[]), words(&["-C"], &[&root, Path::new("-cf"), &archive, Path::new(".")])].concat(),
    );
    let ours = made("archive.tar");
    same("what was packed", &root, &ours);
    for (program, options) in [("tar", &all[..4]), ("bsdtar", &["--xattrs", "--acls", "--numeric-owner"])] {
        let theirs = directory(program);
        let to = words(&["-p", "-C"], &[&theirs, Path::new("-xf"), &archive]);
        ran(program, &[words(options, &[]), to].concat());
        same(program, &theirs, &ours);
    }

    let layout = own.path("image");
    let (image, bundle, unpacked) =
        (format!("{}:latest", layout.display()), own.path("bundle"), own.path("unpacked"));
    ran("umoci", &words(&["init", "--layout"], &[&layout]));
    ran("umoci", &["new", "--image", &image]);
    ran("umoci", &words(&["unpack", "--image", &image], &[&bundle]));
    // What it has packed is another root than an empty one.
    std::fs::remove_dir(bundle.join("rootfs")).unwrap();
    ran("cp", &words(&["-a"], &[&root, &bundle.join("rootfs")]));
    ran("umoci", &words(&["repack", "--image", &image], &[&bundle]));
    ran("umoci", &words(&["unpack", "--image", &image], &[&unpacked]));
    let ours = made("image:latest");
    same("umoci", &unpacked.join("rootfs"), &ours);
}

#[test]
fn root_a_small_root_comes_out_as_it_was_and_as_others_unpack_it() {
    let Some(host) = RealHost::new(PROGRAM) else { return };
    comes_out_as_it_was(&host, "busybox");
}

#[test]
fn root_a_debian_comes_out_as_it_was_and_as_others_unpack_it() {
    let Some(host) = RealHost::with_debian(PROGRAM) else { return };
    if !host.path("vz/template/debian-12/latest").exists() {
        return not_run_here(PROGRAM.as_ref(), "there is no Debian root");
    }
    comes_out_as_it_was(&host, "debian-12");
}
