//! The `busybox` template: one static program, made in a moment, for tests and for a first try.
//!
//! Everything is Debian's `busybox-static` under its many names, with the few files that a system needs around it and an
//! init of ours (`share/init/busybox-init`): busybox's own takes two seconds to stop.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

use super::{BuiltTemplate, RecipeError, architecture};

const INIT: &str = include_str!("../../../../share/init/busybox-init");

/// What stops our init.
pub const BUSYBOX_STOP_SIGNAL: &str = "SIGTERM";

/// This file is our init: a script may have built a root out of this template.
pub fn is_busybox_init(bytes: &[u8]) -> bool {
    bytes == INIT.as_bytes()
}

/// Where busybox lies in the new root. It is setuid root: applets that need it (`su`, `passwd`, `crontab`, `ping`) keep
/// that, all others drop it before they begin. A setuid copy for `su` alone would not do: Debian's ash runs applets
/// from its own program, whatever the links say.
const BUSYBOX: &str = "bin/busybox";
const SETUID: u32 = 0o4755;

const DIRECTORIES: &[(&str, u32)] = &[
    ("bin", 0o755),
    ("dev", 0o755),
    ("etc", 0o755),
    ("etc/init.d", 0o755),
    ("home", 0o755),
    ("lib", 0o755),
    ("mnt", 0o755),
    ("opt", 0o755),
    ("proc", 0o555),
    ("root", 0o700),
    ("run", 0o755),
    ("sbin", 0o755),
    ("srv", 0o755),
    ("sys", 0o555),
    ("tmp", 0o1777),
    ("usr", 0o755),
    ("usr/bin", 0o755),
    ("usr/lib", 0o755),
    ("usr/local", 0o755),
    ("usr/local/bin", 0o755),
    ("usr/local/sbin", 0o755),
    ("usr/sbin", 0o755),
    ("usr/share", 0o755),
    ("var", 0o755),
    ("var/cache", 0o755),
    ("var/lib", 0o755),
    ("var/log", 0o755),
    ("var/spool", 0o755),
    ("var/spool/cron", 0o755),
    ("var/spool/cron/crontabs", 0o700),
    ("var/tmp", 0o1777),
];

const LINKS: &[(&str, &str)] =
    &[("etc/mtab", "../proc/mounts"), ("var/run", "../run"), ("var/lock", "../run/lock")];

/// Numbers as in Debian, so that what is copied between the two keeps its owners.
const PASSWD: &str = "\
root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin
bin:x:2:2:bin:/bin:/usr/sbin/nologin
sys:x:3:3:sys:/dev:/usr/sbin/nologin
mail:x:8:8:mail:/var/mail:/usr/sbin/nologin
www-data:x:33:33:www-data:/var/www:/usr/sbin/nologin
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
";

/// Nobody has a password: `!` and `*` match none. The date is any that is set, and the same in every build.
const SHADOW: &str = "\
root:!:20000:0:99999:7:::
daemon:*:20000:0:99999:7:::
bin:*:20000:0:99999:7:::
sys:*:20000:0:99999:7:::
mail:*:20000:0:99999:7:::
www-data:*:20000:0:99999:7:::
nobody:*:20000:0:99999:7:::
";

/// The groups of the users above, those of files in `/dev` and `/etc`, and what `adduser` would look for.
const GROUPS: &[(&str, u32)] = &[
    ("root", 0),
    ("daemon", 1),
    ("bin", 2),
    ("sys", 3),
    ("adm", 4),
    ("tty", 5),
    ("disk", 6),
    ("mail", 8),
    ("sudo", 27),
    ("www-data", 33),
    ("shadow", 42),
    ("utmp", 43),
    ("staff", 50),
    ("users", 100),
    ("nogroup", 65534),
];
const SHADOW_GROUP: u32 = 42;

const LOGIN_DEFS: &str = "\
UID_MIN 1000
UID_MAX 60000
GID_MIN 1000
GID_MAX 60000
UMASK 022
ENCRYPT_METHOD SHA512
";

const PROFILE: &str = "\
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PS1='\\u@\\h:\\w\\$ '
umask 022
";

const HOSTS: &str = "\
127.0.0.1 localhost
::1 localhost ip6-localhost ip6-loopback
";

/// Fills `rootfs`, an empty directory, with a system made of the static program `busybox`.
///
/// # Errors
/// When there is no such program, when it does not run by itself (Debian's plain `busybox` needs libraries), or when a
/// file cannot be made.
pub fn build_busybox(rootfs: &Path, busybox: &Path) -> Result<BuiltTemplate, RecipeError> {
    let program = busybox.display().to_string();
    if !busybox.is_file() {
        return Err(RecipeError::MissingProgram { program, package: "busybox-static" });
    }
    let (version, source) = version(busybox)?;
    let applets = ask(busybox, &["--list-full"])?;

    for &(path, mode) in DIRECTORIES {
        make_directory(&rootfs.join(path), mode)?;
    }
    let mut original = File::open(busybox).map_err(|error| RecipeError::write("read", busybox, error))?;
    copy_file(&mut original, &rootfs.join(BUSYBOX), SETUID)?;
    make_file(rootfs, "sbin/init", INIT, 0o755)?;
    for applet in applets.lines() {
        link_applet(rootfs, applet)?;
    }
    for &(path, target) in LINKS {
        make_link(&rootfs.join(path), Path::new(target))?;
    }
    make_accounts(rootfs)?;
    let os_release = format!(
        "ID=busybox\nNAME=BusyBox\nVERSION_ID={version}\nPRETTY_NAME=\"BusyBox {version}\"\nHOME_URL=\"https://busybox.net/\"\n"
    );
    for (path, text) in [
        ("etc/fstab", ""),
        ("etc/hostname", "localhost\n"),
        ("etc/hosts", HOSTS),
        ("etc/login.defs", LOGIN_DEFS),
        ("etc/os-release", os_release.as_str()),
        ("etc/profile", PROFILE),
        ("etc/resolv.conf", ""),
        ("etc/shells", "/bin/sh\n/bin/ash\n"),
    ] {
        make_file(rootfs, path, text, 0o644)?;
    }
    see_that_it_runs(rootfs, busybox)?;

    Ok(BuiltTemplate {
        source,
        distribution: "busybox".to_owned(),
        release: Some(version),
        architecture: architecture().to_owned(),
        init: "/sbin/init".to_owned(),
        stop_signal: BUSYBOX_STOP_SIGNAL.to_owned(),
        systemd: false,
        application: None,
        own_files: Vec::new(),
    })
}

/// `BusyBox v1.35.0 (Debian 1:1.35.0-4+b3) multi-call binary.`: the number, and what stands before `multi-call`.
fn version(busybox: &Path) -> Result<(String, String), RecipeError> {
    let help = ask(busybox, &["--help"])?;
    let first = help.lines().next().unwrap_or_default();
    let number = first.strip_prefix("BusyBox v").and_then(|rest| rest.split(' ').next());
    match number {
        Some(number) if number.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'.') => {
            let source = first.split(" multi-call").next().unwrap_or(first);
            Ok((number.to_owned(), tree::escaped(source.as_bytes())))
        }
        Some(_) | None => Err(RecipeError::unusable(busybox, "it does not say that it is BusyBox")),
    }
}

fn ask(busybox: &Path, arguments: &[&str]) -> Result<String, RecipeError> {
    let program = busybox.display().to_string();
    // `busybox` by name, whatever the file is called: it goes by argv[0].
    let output = Command::new(busybox)
        .arg0("busybox")
        .args(arguments)
        .output()
        .map_err(|source| RecipeError::Run { program: program.clone(), source })?;
    if !output.status.success() {
        return Err(failed(program, &output));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn failed(program: String, output: &std::process::Output) -> RecipeError {
    let said = String::from_utf8_lossy(&output.stderr).lines().map(str::to_owned).collect();
    RecipeError::Failed { program, status: output.status.to_string(), said }
}

/// A program that needs a loader would be found out at the first start; here the message can name the package.
fn see_that_it_runs(rootfs: &Path, busybox: &Path) -> Result<(), RecipeError> {
    let output = Command::new("chroot")
        .arg(rootfs)
        .args(["/bin/sh", "-c", "exit 0"])
        .output()
        .map_err(|source| RecipeError::Run { program: "chroot".to_owned(), source })?;
    if output.status.success() {
        return Ok(());
    }
    Err(RecipeError::unusable(
        busybox,
        format!(
            "it does not run by itself ({}); the static one is in Debian's package `busybox-static`",
            tree::escaped(String::from_utf8_lossy(&output.stderr).trim().as_bytes())
        ),
    ))
}

/// `path` is as busybox lists it: `usr/bin/env`, relative to the root.
fn link_applet(rootfs: &Path, path: &str) -> Result<(), RecipeError> {
    let path = Path::new(path);
    let is_plain = path.components().all(|part| matches!(part, Component::Normal(_)));
    // `linuxrc` is an initrd's; `init` is ours.
    let is_made_otherwise =
        ["bin/busybox", "sbin/init", "linuxrc"].iter().any(|other| path == Path::new(other));
    if !is_plain || is_made_otherwise {
        return Ok(());
    }
    let depth = path.components().count() - 1;
    let to_top: PathBuf = std::iter::repeat_n("..", depth).collect();
    make_link(&rootfs.join(path), &to_top.join(BUSYBOX))
}

fn make_accounts(rootfs: &Path) -> Result<(), RecipeError> {
    let group: String = GROUPS.iter().map(|(name, id)| format!("{name}:x:{id}:\n")).collect();
    let gshadow: String = GROUPS.iter().map(|(name, _)| format!("{name}:*::\n")).collect();
    make_file(rootfs, "etc/passwd", PASSWD, 0o644)?;
    make_file(rootfs, "etc/group", &group, 0o644)?;
    for (path, text) in [("etc/shadow", SHADOW), ("etc/gshadow", gshadow.as_str())] {
        make_file(rootfs, path, text, 0o640)?;
        let path = rootfs.join(path);
        File::open(&path)
            .and_then(|file| std::os::unix::fs::fchown(file, Some(0), Some(SHADOW_GROUP)))
            .map_err(|error| RecipeError::write("give to the group `shadow`", &path, error))?;
    }
    Ok(())
}

fn make_directory(path: &Path, mode: u32) -> Result<(), RecipeError> {
    let make = || -> io::Result<()> {
        DirBuilder::new().mode(0o700).create(path)?;
        // Not by mkdir(2), which the umask would have its say in.
        File::open(path)?.set_permissions(Permissions::from_mode(mode))
    };
    make().map_err(|error| RecipeError::write("make the directory", path, error))
}

fn make_file(rootfs: &Path, path: &str, text: &str, mode: u32) -> Result<(), RecipeError> {
    copy_file(&mut text.as_bytes(), &rootfs.join(path), mode)
}

fn copy_file(from: &mut dyn io::Read, path: &Path, mode: u32) -> Result<(), RecipeError> {
    let mut make = || -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        io::copy(from, &mut file)?;
        file.flush()?;
        // Last: a write takes the setuid bit away.
        file.set_permissions(Permissions::from_mode(mode))
    };
    make().map_err(|error| RecipeError::write("make", path, error))
}

fn make_link(path: &Path, target: &Path) -> Result<(), RecipeError> {
    symlink(target, path).map_err(|error| RecipeError::write("make the link", path, error))
}
