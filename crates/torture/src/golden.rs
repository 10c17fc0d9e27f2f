//! A root with one of everything that a root can lose.

#![expect(clippy::disallowed_methods, reason = "the trees are of scenarios")]

use std::fs::{DirBuilder, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, PermissionsExt, chown, lchown, symlink};
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags, makedev, mknodat, utimensat,
};

/// A user that a reinstall must carry over, and his password.
pub const USER: &str = "alice";

/// `user::rw-,user:1000:rwx,group::r--,mask::rwx,other::---` as the kernel keeps it: acl(5), linux/posix_acl_xattr.h.
const ACL: [u8; 44] = [
    2, 0, 0, 0, //
    1, 0, 6, 0, 255, 255, 255, 255, //
    2, 0, 7, 0, 232, 3, 0, 0, //
    4, 0, 4, 0, 255, 255, 255, 255, //
    16, 0, 7, 0, 255, 255, 255, 255, //
    32, 0, 0, 0, 255, 255, 255, 255,
];
/// CAP_NET_BIND_SERVICE, permitted and effective: `vfs_cap_data` of version 2.
const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// Makes it in `top`, with the users of the template whose root is at `template`.
///
/// # Errors
/// As of the calls that make it.
pub fn make(top: &Path, template: &Path) -> io::Result<()> {
    let directory = |path: &str, mode: u32| {
        let path = top.join(path);
        DirBuilder::new().recursive(true).mode(0o755).create(&path)?;
        std::fs::set_permissions(&path, Permissions::from_mode(mode))
    };
    let file = |path: &str, bytes: &[u8], mode: u32| -> io::Result<File> {
        let mut file = File::create(top.join(path))?;
        file.write_all(bytes)?;
        file.set_permissions(Permissions::from_mode(mode))?;
        Ok(file)
    };
    for (path, mode) in [("", 0o755), ("etc", 0o755), ("root", 0o700), ("usr", 0o755), ("usr/bin", 0o755)] {
        directory(path, mode)?;
    }
    directory("srv", 0o755)?;
    directory("srv/torture", 0o2775)?;
    directory("srv/torture/deep", 0o755)?;
    directory("srv/torture/deep/er", 0o1777)?;
    file("root/marker", b"the first root\n", 0o600)?;

    let random: Vec<u8> = (0u32..70_000).map(|n| (n.wrapping_mul(2_654_435_761) >> 11) as u8).collect();
    file("srv/torture/contents", &random, 0o640)?;
    std::fs::hard_link(top.join("srv/torture/contents"), top.join("srv/torture/deep/link"))?;
    symlink("../contents", top.join("srv/torture/deep/symlink"))?;
    lchown(top.join("srv/torture/deep/symlink"), Some(33), Some(33))?;
    let sparse = file("srv/torture/sparse", b"", 0o644)?;
    sparse.set_len(1 << 20)?;
    sparse.write_all_at(b"in the middle of a hole", 500_000)?;
    file("srv/torture/empty", b"", 0o000)?;
    file("srv/torture/setuid", b"#!/bin/sh\n", 0o755)?;
    chown(top.join("srv/torture/setuid"), Some(1000), Some(1000))?;
    std::fs::set_permissions(top.join("srv/torture/setuid"), Permissions::from_mode(0o4755))?;
    file("srv/torture/new\nline \\ and \u{fe0f}", b"a name\n", 0o644)?;
    mknodat(CWD, top.join("srv/torture/fifo"), FileType::Fifo, Mode::from_raw_mode(0o620), 0)?;
    mknodat(CWD, top.join("srv/torture/socket"), FileType::Socket, Mode::from_raw_mode(0o600), 0)?;
    // A file of the template that somebody has deleted: how overlayfs says so.
    mknodat(CWD, top.join("usr/bin/env"), FileType::CharacterDevice, Mode::empty(), makedev(0, 0))?;

    let contents = top.join("srv/torture/contents");
    for (name, value) in [
        ("user.colour", b"blue".as_slice()),
        ("system.posix_acl_access", &ACL),
        ("trusted.of-the-host", b"\0\xff"),
    ] {
        rustix::fs::setxattr(&contents, name, value, XattrFlags::empty())?;
    }
    let bound = file("srv/torture/capable", b"\x7fELF", 0o755)?;
    rustix::fs::fsetxattr(&bound, "security.capability", &CAPABILITY, XattrFlags::empty())?;

    for (name, line) in [
        ("passwd", format!("{USER}:x:1000:1000::/home/{USER}:/bin/sh\n")),
        ("group", format!("{USER}:x:1000:\n")),
        ("shadow", format!("{USER}:$6$salt$hash:20000:0:99999:7:::\n")),
    ] {
        let path = format!("etc/{name}");
        let mut text = std::fs::read(template.join(&path))?;
        text.extend_from_slice(line.as_bytes());
        let mode = if name == "shadow" { 0o640 } else { 0o644 };
        file(&path, &text, mode)?;
    }
    chown(top.join("etc/shadow"), Some(0), Some(42))?;

    let past = Timespec { tv_sec: 922_000_000, tv_nsec: 123_456_789 };
    let times = Timestamps { last_access: past, last_modification: past };
    for path in
        ["srv/torture/deep/symlink", "srv/torture/fifo", "srv/torture/contents", "srv/torture/deep", "srv"]
    {
        utimensat(CWD, top.join(path), &times, AtFlags::SYMLINK_NOFOLLOW)?;
    }
    Ok(())
}
