//! What comes out of an archive is what went in: judged by one comparer against the trees that they were made of, and against what GNU tar and bsdtar unpack.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed, and says where")]
#![expect(clippy::disallowed_methods, reason = "the tree that is packed is the test's own")]

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use archive::{Left, Lists, Reader, Target};
use rustix::fs::{AtFlags, FileType, Mode, Timespec, Timestamps, XattrFlags};
use tree::{Root, Unpack, UnpackLimits};

const ALL: UnpackLimits = UnpackLimits { bytes: 1 << 30, entries: 1 << 20 };

fn unpack(archive: &Path, to: &Path) {
    let top = || {
        rustix::fs::open(to, rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY, Mode::empty())
            .unwrap()
    };
    let (mut tree, mut lists, mut left) = (Unpack::new(top(), ALL), Lists::default(), Left::default());
    let mut target = Target { tree: &mut tree, lists: &mut lists, left: &mut left, goes_on: &mut |_| true };
    let mut reader = Reader::new(File::open(archive).unwrap(), ALL.bytes);
    archive::unpack(&mut reader, &mut target, &mut |entry| Ok(Some(entry.path.clone()))).unwrap();
    lists.give(&mut tree, &Root::from_handle(top())).unwrap();
    tree.finish().unwrap();
}

fn differences(one: &Path, other: &Path) -> Vec<String> {
    let look = |path: &Path| tree::snapshot(File::open(path).unwrap().as_fd()).unwrap();
    look(one).differences(&look(other))
}

fn set_times(path: &Path, seconds: i64, nanoseconds: i64) {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(rustix::fs::CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

/// An access list in the kernel's form.
fn list(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let mut bytes = 2u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        bytes.extend([tag.to_le_bytes(), permissions.to_le_bytes()].concat());
        bytes.extend(id.to_le_bytes());
    }
    bytes
}

/// Everything that a file can have, in one tree, made by root.
fn worst(top: &Path, fraction: i64) {
    let at = |name: &str| top.join(name);
    for directory in ["etc", "plain", "plain/deep", "sticky", "closed", "lists", "times"] {
        fs::create_dir(at(directory)).unwrap();
    }
    fs::write(at("etc/passwd"), "root:x:0:0::/:/bin/sh\nanna:x:54321:54321::/:/bin/sh\n").unwrap();
    fs::write(at("etc/group"), "root:x:0:\nanna:x:54321:\n").unwrap();
    // Names of any bytes, of any length.
    for name in [
        &b"\xff\xfe"[..],
        b"new\nline",
        b"\x1b[31m",
        b"trailing ",
        b"back\\slash",
        b"-rf",
        b"*",
        "ünïcödé".as_bytes(),
        &[b'n'; 255],
    ] {
        fs::write(top.join("plain").join(std::ffi::OsStr::from_bytes(name)), name).unwrap();
    }
    let mut long = at("plain/deep");
    for _ in 0..8 {
        long.push("d".repeat(200));
        fs::create_dir(&long).unwrap();
    }
    fs::write(long.join("at the end"), "of a long path").unwrap();
    fs::write(at("empty"), "").unwrap();
    for (name, mode) in [("setuid", 0o4755), ("setgid", 0o2711), ("all", 0o7777), ("none", 0)] {
        fs::write(at(name), name).unwrap();
        std::os::unix::fs::chown(at(name), Some(54321), Some(4_000_000_000)).unwrap();
        fs::set_permissions(at(name), PermissionsExt::from_mode(mode)).unwrap();
    }
    fs::set_permissions(at("sticky"), PermissionsExt::from_mode(0o1777)).unwrap();
    // Links: three names, also of a link and of a FIFO; targets of any kind and length.
    fs::hard_link(at("setuid"), at("another name")).unwrap();
    fs::hard_link(at("setuid"), at("closed/a third name")).unwrap();
    symlink("/etc/passwd", at("absolute")).unwrap();
    symlink("../../../etc", at("upwards")).unwrap();
    symlink("t".repeat(3000), at("to a long target")).unwrap();
    symlink("loop", at("loop")).unwrap();
    symlink(std::ffi::OsStr::from_bytes(b"\xff\n"), at("to any bytes")).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, at("fifo"), FileType::Fifo, Mode::from_raw_mode(0o640), 0).unwrap();
    rustix::fs::chownat(
        rustix::fs::CWD,
        at("loop"),
        Some(rustix::fs::Uid::from_raw(7)),
        Some(rustix::fs::Gid::from_raw(8)),
        AtFlags::SYMLINK_NOFOLLOW,
    )
    .unwrap();
    // Holes: at the beginning, in the middle, at the end; all hole; many.
    let holes = |name: &str, size: u64, pieces: &[(u64, &[u8])]| {
        let file = File::create(at(name)).unwrap();
        for (offset, bytes) in pieces {
            file.write_all_at(bytes, *offset).unwrap();
        }
        file.set_len(size).unwrap();
    };
    holes("hole first", 1 << 20, &[((1 << 20) - 4, b"last")]);
    holes("hole last", 1 << 30, &[(0, b"first")]);
    holes("all hole", 1 << 32, &[]);
    let many: Vec<(u64, &[u8])> = (0..50).map(|number| (number * 65_536, &b"piece"[..])).collect();
    holes("many holes", 50 * 65_536, &many);
    // Attributes, capabilities, access lists, also a default one whose directory has files.
    let set = |name: &str, attribute: &str, value: &[u8]| {
        rustix::fs::setxattr(at(name), attribute, value, XattrFlags::empty()).unwrap();
    };
    set("empty", "user.bytes", b"\0\n=\xff");
    set("empty", "user.empty", b"");
    set("plain", "user.of a directory", b"x");
    set("none", "trusted.mine", b"y");
    set("all", "security.capability", &[1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let entries = [
        (0x01, 6, u32::MAX),
        (0x02, 4, 54321),
        (0x04, 5, u32::MAX),
        (0x08, 7, 12345),
        (0x10, 7, u32::MAX),
        (0x20, 0, u32::MAX),
    ];
    fs::write(at("lists/before"), "x").unwrap();
    set("lists", "system.posix_acl_default", &list(&entries));
    set("lists", "system.posix_acl_access", &list(&entries));
    fs::write(at("lists/with one of its own"), "x").unwrap();
    fs::write(at("lists/without"), "x").unwrap();
    rustix::fs::removexattr(at("lists/without"), "system.posix_acl_access").unwrap();
    fs::set_permissions(at("lists/without"), PermissionsExt::from_mode(0o640)).unwrap();
    // Times, of links and directories too.
    for (name, seconds, nanoseconds) in [
        ("times/old", -86_400, fraction),
        ("times/new", 4_102_444_800, 1),
        ("times/exact", 1_600_000_000, 123_456_789),
    ] {
        fs::write(at(name), "x").unwrap();
        set_times(&at(name), seconds, nanoseconds);
    }
    set_times(&at("absolute"), 1_500_000_000, 5);
    set_times(&at("fifo"), 1_500_000_001, 6);
    fs::set_permissions(at("closed"), PermissionsExt::from_mode(0o500)).unwrap();
    for directory in ["plain", "closed", "times", ""] {
        set_times(&at(directory), 1_400_000_000, 7);
    }
}

fn ran(program: &str, arguments: &[&str], from: &Path) {
    let output = Command::new(program).args(arguments).current_dir(from).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The worst tree packed by a program; unpacked by us it is what it was.
fn comes_out_as_it_was(program: &str, pack: &[&str]) {
    if !rustix::process::geteuid().is_root() {
        testkit::real_host::unit_test_not_run_here("only root can give files to others");
        return;
    }
    // Beside the build: a memory filesystem would not have all attributes.
    let scratch = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let [from, ours, theirs] = ["from", "ours", "theirs"].map(|name| {
        fs::create_dir(scratch.path().join(name)).unwrap();
        scratch.path().join(name)
    });
    // bsdtar writes a quarter of a second after a second before 1970 as one before it.
    worst(&from, if program == "bsdtar" { 0 } else { 250_000_000 });
    let archive = scratch.path().join("archive.tar");
    ran(program, &[pack, &["-cf", archive.to_str().unwrap(), "."]].concat(), &from);
    unpack(&archive, &ours);
    let found = differences(&from, &ours);
    assert!(found.is_empty(), "{found:#?}");
    // And GNU tar does no better. What bsdtar has packed it does not take.
    if program == "tar" {
        let mut options: Vec<&str> = EVERYTHING.to_vec();
        // With that it makes a list of the mode where the archive has none in words.
        options.retain(|option| *option != "--acls" || pack.contains(option));
        ran("tar", &[&options[..], &["-p", "-xf", archive.to_str().unwrap()]].concat(), &theirs);
        let found = differences(&theirs, &ours);
        assert!(found.is_empty(), "{found:#?}");
    }
    // Holes are holes: four gigabytes of them were no work.
    for name in ["all hole", "hole last"] {
        let file = fs::metadata(ours.join(name)).unwrap();
        let is_kept = pack.contains(&"--sparse") || program == "bsdtar";
        assert!(!is_kept || file.blocks() < 1000, "{name}: {} blocks", file.blocks());
    }
}

const EVERYTHING: [&str; 4] = ["--xattrs", "--xattrs-include=*", "--acls", "--numeric-owner"];

#[test]
fn root_gnu_tar_with_holes_in_version_1_0() {
    comes_out_as_it_was(
        "tar",
        &[&EVERYTHING[..], &["--format=pax", "--sparse", "--sparse-version=1.0"]].concat(),
    );
}

#[test]
fn root_gnu_tar_with_holes_in_version_0_1() {
    comes_out_as_it_was(
        "tar",
        &[&EVERYTHING[..], &["--format=pax", "--sparse", "--sparse-version=0.1"]].concat(),
    );
}

#[test]
fn root_gnu_tar_with_holes_in_version_0_0() {
    comes_out_as_it_was(
        "tar",
        &[&EVERYTHING[..], &["--format=pax", "--sparse", "--sparse-version=0.0"]].concat(),
    );
}

/// Access lists are among the attributes then, in the kernel's form alone.
#[test]
fn root_gnu_tar_with_attributes_and_without_access_lists() {
    let attributes: Vec<&str> = EVERYTHING.into_iter().filter(|option| *option != "--acls").collect();
    comes_out_as_it_was("tar", &[&attributes[..], &["--format=pax", "--sparse"]].concat());
}

#[test]
fn root_bsdtar() {
    comes_out_as_it_was("bsdtar", &["--format=pax", "--xattrs", "--acls", "--read-sparse"]);
}

/// The old format of GNU has neither attributes nor fractions of seconds, but names, links and holes.
#[test]
fn root_gnu_tar_in_its_old_format() {
    if !rustix::process::geteuid().is_root() {
        testkit::real_host::unit_test_not_run_here("only root can give files to others");
        return;
    }
    let scratch = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let [from, ours, theirs] = ["from", "ours", "theirs"].map(|name| {
        fs::create_dir(scratch.path().join(name)).unwrap();
        scratch.path().join(name)
    });
    worst(&from, 250_000_000);
    let archive = scratch.path().join("archive.tar");
    ran(
        "tar",
        &["--format=gnu", "--sparse", "--numeric-owner", "-cf", archive.to_str().unwrap(), "."],
        &from,
    );
    unpack(&archive, &ours);
    ran("tar", &["--numeric-owner", "-p", "-xf", archive.to_str().unwrap()], &theirs);
    let found = differences(&theirs, &ours);
    assert!(found.is_empty(), "{found:#?}");
    assert!(fs::metadata(ours.join("many holes")).unwrap().blocks() < 2000);
}
