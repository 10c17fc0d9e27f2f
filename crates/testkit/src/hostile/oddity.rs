//! Roots that are hostile in a way of their own.

#![expect(clippy::disallowed_methods, reason = "the trees are the test's own")]

use std::fs::File;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags, XattrFlags};

use super::Canary;

/// How a root becomes one.
#[derive(Debug, Clone, Copy)]
pub enum Oddity {
    /// By its own root, in a shell inside, while it runs. `CANARY` stands for a file of the host, `/bin/call` is there.
    Inside(&'static str),
    /// By whoever made it, in its files, as the host shows them; nothing runs.
    Outside(fn(&Path, &Canary)),
    /// In the delta itself, which only the host can reach.
    Delta(fn(&Path, &Canary)),
    /// Its first process is this.
    Init(&'static str),
}

/// Every one, by the names of their tests.
pub const ODDITIES: &[(&str, Oddity)] = &[
    (
        "root_names_have_escape_sequences",
        Oddity::Inside(
            "mkdir -p /srv \"$(printf '/srv/\\033[31mred\\007\\r\\033]0;title\\033\\\\')\"; echo x > \"$(printf '/srv/\\033[31mred\\007\\r\\033]0;title\\033\\\\/\\233c')\"; cp -a /srv/* /home",
        ),
    ),
    (
        "root_names_are_not_utf8",
        Oddity::Inside(
            "mkdir -p /srv; echo x > \"$(printf '/srv/\\377\\376\\200')\"; echo x > \"$(printf '/home/\\300\\257etc\\300\\257passwd')\"",
        ),
    ),
    (
        "root_names_have_newlines",
        Oddity::Inside(
            "mkdir -p \"$(printf '/srv/a\\nb')\"; echo x > \"$(printf '/srv/a\\nb/error: nothing\\n  state: lost')\"; cp -a /srv/* /home",
        ),
    ),
    (
        "root_names_have_255_bytes",
        Oddity::Inside(
            "n=$(printf 'n%.0s' $(seq 255)); mkdir -p /srv/$n/$n; echo x > /srv/$n/$n/$n; cp -a /srv/$n /home",
        ),
    ),
    ("root_a_tree_is_deeper_than_any_path", Oddity::Outside(deep)),
    ("root_links_are_100000_deep", Oddity::Outside(links)),
    ("root_a_directory_has_100000_entries", Oddity::Outside(many)),
    ("root_files_are_immutable", Oddity::Outside(|root, _| attributes(root, "+i"))),
    ("root_files_are_append_only", Oddity::Outside(|root, _| attributes(root, "+a"))),
    ("root_files_are_setuid_and_have_capabilities", Oddity::Outside(powers)),
    ("root_files_have_access_lists", Oddity::Outside(access_lists)),
    ("root_files_have_user_overlay_attributes", Oddity::Outside(user_overlay)),
    ("root_directories_are_opaque_and_redirected", Oddity::Delta(trusted_overlay)),
    ("root_whiteouts_are_everywhere", Oddity::Delta(whiteouts)),
    ("root_sh_is_of_another_architecture", Oddity::Outside(other_architecture)),
    ("root_sh_is_its_own_interpreter", Oddity::Outside(|root, _| script(root, "bin/sh", "#!/bin/sh\n"))),
    ("root_sh_has_an_interpreter_that_never_ends", Oddity::Outside(endless_interpreter)),
    ("root_passwd_has_a_line_without_end", Oddity::Outside(long_line)),
    (
        "root_passwd_has_uid_0_clones_and_nonsense",
        Oddity::Inside(
            "printf 'toor:x:0:0::/root:/bin/sh\\nroot:x:0:0::/:/bin/sh\\n:::::::::\\n+::::::\\na:x:-1:99999999999::/etc:\\n\\000\\n../x:x:1000:1000::/../../..:/bin/sh\\n' >> /etc/passwd",
        ),
    ),
    (
        "root_homes_are_elsewhere",
        Oddity::Inside(
            "printf 'u:x:1000:1000::CANARY:/bin/sh\\nv:x:1001:1001::/proc/1/root:/bin/sh\\nw:x:1002:1002::/etc:/bin/sh\\n' >> /etc/passwd; printf 'u:x:1000:\\nv:x:1001:\\nw:x:1002:\\n' >> /etc/group; ln -s CANARY /home/x",
        ),
    ),
    (
        "root_links_are_swapped_meanwhile",
        Oddity::Inside(
            "mkdir -p /srv/d; echo x > /srv/d/f; (cd /srv; while :; do ln -sfn CANARY l; mv -T l s 2>/dev/null; mkdir -p d2; mv -T d2 s 2>/dev/null; ln -sfn / l; mv -T l d3 2>/dev/null; rm -rf s d3; done) >/dev/null 2>&1 </dev/null &",
        ),
    ),
    (
        "root_links_are_exchanged_meanwhile",
        Oddity::Inside(
            "mkdir -p /srv/d /home; echo x > /srv/d/f; ln -s CANARY /home/l; ln -s CANARY /etc/l; ln -s / /srv/top; echo x > /home/f; \
             for two in '/srv/d /srv/top' '/home/f /home/l' '/etc/passwd /etc/l' '/srv /home'; do set -- $two; \
             call again 316 -100 s:$1 -100 s:$2 2 >/dev/null 2>&1 </dev/null & done",
        ),
    ),
    (
        "root_something_is_mounted_over_everything",
        Oddity::Inside(
            "for d in /old /etc /home /srv /root; do mount -t tmpfs none $d; done; mkdir -p /etc/a /old/a; mount --bind / /old/a",
        ),
    ),
    (
        "root_mounts_are_moved_about",
        Oddity::Inside(
            "mkdir -p /mnt /srv/p; mount --bind /etc /srv/p; mount --move /srv/p /mnt; mount --bind / /srv/p; mount -o remount,bind,suid,dev,rw / ; mount --make-rshared /; true",
        ),
    ),
    (
        "root_a_terabyte_of_nothing_is_kept",
        Oddity::Inside(
            "mkdir -p /home/h; truncate -s 1T /home/h/huge; mkfifo /home/h/fifo; ln -s CANARY /home/h/link; ln /home/h/link /home/h/second 2>/dev/null; true",
        ),
    ),
    ("root_init_ends_at_once", Oddity::Init("#!/bin/sh\nexit 0\n")),
    ("root_init_reboots_for_ever", Oddity::Init("#!/bin/sh\nexec /bin/busybox reboot -f\n")),
    (
        "root_init_ignores_every_signal",
        Oddity::Init(
            "#!/bin/sh\ntrap '' 1 2 3 10 12 13 14 15 17 18 20 28 37\nwhile :; do sleep 1000; done\n",
        ),
    ),
    ("root_init_forks_for_ever", Oddity::Init("#!/bin/sh\nwhile :; do sleep 1000 & done\n")),
    (
        "root_init_writes_without_end",
        Oddity::Init("#!/bin/sh\nexec /bin/busybox yes \"$(printf '\\033[31m\\033]0;title\\007')\"\n"),
    ),
];

fn script(root: &Path, below: &str, text: &str) {
    let path = root.join(below);
    let _ = std::fs::remove_file(&path);
    let mut file = File::create(&path).expect("make a file");
    file.write_all(text.as_bytes()).expect("write a file");
    file.set_permissions(std::fs::Permissions::from_mode(0o755)).expect("set its mode");
}

fn deep(root: &Path, canary: &Canary) {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let home = root.join("home");
    let mut at = rustix::fs::open(&home, flags, Mode::empty()).expect("open a directory");
    let name = "d".repeat(200);
    for _ in 0..5_000 {
        rustix::fs::mkdirat(&at, &name, Mode::from_raw_mode(0o755)).expect("make a directory");
        at = rustix::fs::openat(&at, &name, flags, Mode::empty()).expect("open a directory");
    }
    rustix::fs::symlinkat(canary.file().as_os_str().as_bytes(), &at, "end").expect("make a link");
}

fn links(root: &Path, canary: &Canary) {
    let home = root.join("home");
    symlink(canary.file(), home.join("l0")).expect("make a link");
    for index in 1..=100_000 {
        symlink(format!("l{}", index - 1), home.join(format!("l{index}"))).expect("make a link");
    }
    rustix::fs::rename(root.join("etc/passwd"), root.join("etc/passwd.was")).expect("move it aside");
    symlink("/home/l100000", root.join("etc/passwd")).expect("make a link");
}

/// A directory with so many names of a few files: as many links to one as the filesystem lets it have.
pub fn names(directory: &Path, count: usize) {
    std::fs::create_dir_all(directory).expect("make a directory");
    let mut of = directory.join("0");
    File::create(&of).expect("make a file");
    for index in 1..count {
        let name = directory.join(index.to_string());
        match rustix::fs::link(&of, &name) {
            Ok(()) => {}
            Err(rustix::io::Errno::MLINK) => {
                File::create(&name).expect("make a file");
                of = name;
            }
            Err(error) => panic!("link {}: {error}", name.display()),
        }
    }
}

fn many(root: &Path, _: &Canary) {
    std::fs::create_dir_all(root.join("home/many")).expect("make a directory");
    for index in 0..100_000 {
        rustix::fs::mknodat(
            CWD,
            root.join(format!("home/many/{index}")),
            FileType::RegularFile,
            Mode::from_raw_mode(0o644),
            0,
        )
        .expect("make a file");
    }
}

fn attributes(root: &Path, how: &str) {
    std::fs::create_dir_all(root.join("home/fixed/deep")).expect("make a directory");
    File::create(root.join("home/fixed/deep/file")).expect("make a file");
    for below in ["home/fixed/deep/file", "home/fixed/deep", "home/fixed", "etc/passwd", "etc"] {
        let done = std::process::Command::new("chattr").arg(how).arg(root.join(below)).status();
        assert!(done.expect("run chattr").success(), "chattr {how} {below}");
    }
}

fn powers(root: &Path, _: &Canary) {
    for (name, mode) in [("home/setuid", 0o4755), ("home/setgid", 0o2755), ("home/both", 0o6777)] {
        script(root, name, "#!/bin/sh\nid\n");
        std::fs::set_permissions(root.join(name), std::fs::Permissions::from_mode(mode)).expect("set a mode");
    }
    script(root, "home/capable", "x");
    // VFS_CAP_REVISION_2, effective; all of the first 32.
    let mut value = 0x0200_0001u32.to_le_bytes().to_vec();
    value.extend([0xff; 4]);
    value.extend([0; 12]);
    rustix::fs::setxattr(root.join("home/capable"), "security.capability", &value, XattrFlags::empty())
        .expect("give it capabilities");
}

fn access_lists(root: &Path, _: &Canary) {
    script(root, "home/listed", "x");
    // Version 2; user::rw, user:65534:rwx, group::r, mask::rwx, other::-
    let mut value = 2u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in
        [(1u16, 6u16, u32::MAX), (2, 7, 65_534), (4, 4, u32::MAX), (16, 7, u32::MAX), (32, 0, u32::MAX)]
    {
        value.extend(tag.to_le_bytes());
        value.extend(permissions.to_le_bytes());
        value.extend(id.to_le_bytes());
    }
    rustix::fs::setxattr(root.join("home/listed"), "system.posix_acl_access", &value, XattrFlags::empty())
        .expect("give it a list");
    rustix::fs::setxattr(root.join("home"), "system.posix_acl_default", &value, XattrFlags::empty())
        .expect("give it a list");
}

fn user_overlay(root: &Path, _: &Canary) {
    for (name, value) in [("opaque", "y"), ("redirect", "/etc"), ("whiteout", "y"), ("metacopy", "")] {
        for below in ["home", "etc", "srv"] {
            std::fs::create_dir_all(root.join(below)).expect("make a directory");
            rustix::fs::setxattr(
                root.join(below),
                format!("user.overlay.{name}"),
                value.as_bytes(),
                XattrFlags::empty(),
            )
            .expect("set an attribute");
        }
    }
}

fn trusted_overlay(delta: &Path, _: &Canary) {
    for (below, name, value) in [
        ("srv/a", "opaque", "y"),
        ("srv/b", "redirect", "/etc"),
        ("home/c", "redirect", "../../../../../etc"),
        ("home/c", "opaque", "x"),
        ("srv/b", "metacopy", ""),
    ] {
        std::fs::create_dir_all(delta.join(below)).expect("make a directory");
        rustix::fs::setxattr(
            delta.join(below),
            format!("trusted.overlay.{name}"),
            value.as_bytes(),
            XattrFlags::empty(),
        )
        .expect("set an attribute");
    }
}

fn whiteouts(delta: &Path, _: &Canary) {
    for below in ["etc/passwd", "etc/group", "home", "srv/gone", "root"] {
        let path = delta.join(below);
        std::fs::create_dir_all(path.parent().expect("it is below")).expect("make a directory");
        if path.symlink_metadata().is_ok() {
            rustix::fs::rename(&path, path.with_extension("was")).expect("move it aside");
        }
        rustix::fs::mknodat(CWD, &path, FileType::CharacterDevice, Mode::empty(), 0)
            .expect("make a whiteout");
    }
}

/// An ELF header of a machine that is none.
fn other_architecture(root: &Path, _: &Canary) {
    let mut header = vec![0; 64];
    header[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    header[16] = 2;
    header[18] = 0xf3;
    header[20] = 1;
    let path = root.join("bin/sh");
    std::fs::remove_file(&path).expect("remove the shell");
    let mut file = File::create(&path).expect("make a file");
    file.write_all(&header).expect("write it");
    file.set_permissions(std::fs::Permissions::from_mode(0o755)).expect("set its mode");
}

/// A program for this machine whose interpreter is a FIFO.
fn endless_interpreter(root: &Path, _: &Canary) {
    let mut program = std::fs::read(root.join("bin/busybox")).expect("read a program")[..64].to_vec();
    let interpreter = b"/home/fifo\0";
    // One program header, PT_INTERP, right behind the file's own, and what it names behind that.
    program[32..40].copy_from_slice(&64u64.to_le_bytes());
    program[54..58].copy_from_slice(&[56, 0, 1, 0]);
    let mut header = Vec::new();
    header.extend(3u32.to_le_bytes());
    header.extend(4u32.to_le_bytes());
    for number in [120u64, 0, 0, interpreter.len() as u64, interpreter.len() as u64, 1] {
        header.extend(number.to_le_bytes());
    }
    program.extend(header);
    program.extend(interpreter);
    std::fs::remove_file(root.join("bin/sh")).expect("remove the shell");
    let mut file = File::create(root.join("bin/sh")).expect("make a file");
    file.write_all(&program).expect("write it");
    file.set_permissions(std::fs::Permissions::from_mode(0o755)).expect("set its mode");
    rustix::fs::mknodat(CWD, root.join("home/fifo"), FileType::Fifo, Mode::from_raw_mode(0o777), 0)
        .expect("make a FIFO");
}

fn long_line(root: &Path, _: &Canary) {
    let mut file = File::options().append(true).open(root.join("etc/passwd")).expect("open passwd");
    file.write_all(&vec![b'x'; 30 * 1024 * 1024]).expect("write a line");
}
