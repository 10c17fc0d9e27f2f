//! Which file a stopped process is about to name, and whether it goes into a container's root by that name.
//!
//! Whoever is root in a container decides what a name in its root leads to. So the host's own processes may go into one by handle only: with
//! `openat2` that cannot leave it, or by a single name that is not followed, relative to a directory that is held already.

use std::fs::File;
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Component, Path, PathBuf};

use crate::calls::Known;

/// A system call that names files.
#[derive(Debug)]
struct Naming {
    known: Known,
    /// Where its arguments have a directory, or none, and the name below it.
    names: &'static [(Option<usize>, usize)],
    last: Last,
}

/// What becomes of a symlink in the place of the last name.
#[derive(Debug, Clone, Copy)]
enum Last {
    /// It is followed.
    Followed,
    /// It is itself what the call is about.
    Itself,
    /// Followed unless this flag is in that argument.
    Unless(usize, u64),
    /// Followed only with this flag in that argument.
    With(usize, u64),
    /// As `openat`: neither with `O_NOFOLLOW` nor with `O_CREAT | O_EXCL`.
    Opened(usize),
    /// As `openat2`: what is allowed stands in a structure.
    Resolved(usize),
}

const NOFOLLOW: u64 = libc::AT_SYMLINK_NOFOLLOW as u64;
const ONE: &[(Option<usize>, usize)] = &[(None, 0)];
const AT: &[(Option<usize>, usize)] = &[(Some(0), 1)];

macro_rules! naming {
    ($($number:ident $names:expr, $last:expr;)+) => {
        &[$(Naming { known: Known::of(libc::$number, stringify!($number), ""), names: $names, last: $last }),+]
    };
}

static NAMING: &[Naming] = naming![
    SYS_open ONE, Last::Opened(1);
    SYS_creat ONE, Last::Followed;
    SYS_openat AT, Last::Opened(2);
    SYS_openat2 AT, Last::Resolved(2);
    SYS_stat ONE, Last::Followed;
    SYS_lstat ONE, Last::Itself;
    SYS_newfstatat AT, Last::Unless(3, NOFOLLOW);
    SYS_statx AT, Last::Unless(2, NOFOLLOW);
    SYS_access ONE, Last::Followed;
    SYS_faccessat AT, Last::Followed;
    SYS_faccessat2 AT, Last::Unless(3, NOFOLLOW);
    SYS_readlink ONE, Last::Itself;
    SYS_readlinkat AT, Last::Itself;
    SYS_mkdir ONE, Last::Itself;
    SYS_mkdirat AT, Last::Itself;
    SYS_mknod ONE, Last::Itself;
    SYS_mknodat AT, Last::Itself;
    SYS_unlink ONE, Last::Itself;
    SYS_unlinkat AT, Last::Itself;
    SYS_rmdir ONE, Last::Itself;
    SYS_rename &[(None, 0), (None, 1)], Last::Itself;
    SYS_renameat &[(Some(0), 1), (Some(2), 3)], Last::Itself;
    SYS_renameat2 &[(Some(0), 1), (Some(2), 3)], Last::Itself;
    SYS_link &[(None, 0), (None, 1)], Last::Itself;
    SYS_linkat &[(Some(0), 1), (Some(2), 3)], Last::With(4, libc::AT_SYMLINK_FOLLOW as u64);
    SYS_symlink &[(None, 1)], Last::Itself;
    SYS_symlinkat &[(Some(1), 2)], Last::Itself;
    SYS_chmod ONE, Last::Followed;
    SYS_fchmodat AT, Last::Followed;
    SYS_fchmodat2 AT, Last::Unless(3, NOFOLLOW);
    SYS_chown ONE, Last::Followed;
    SYS_lchown ONE, Last::Itself;
    SYS_fchownat AT, Last::Unless(4, NOFOLLOW);
    SYS_truncate ONE, Last::Followed;
    SYS_utimensat AT, Last::Unless(3, NOFOLLOW);
    SYS_getxattr ONE, Last::Followed;
    SYS_lgetxattr ONE, Last::Itself;
    SYS_setxattr ONE, Last::Followed;
    SYS_lsetxattr ONE, Last::Itself;
    SYS_listxattr ONE, Last::Followed;
    SYS_llistxattr ONE, Last::Itself;
    SYS_removexattr ONE, Last::Followed;
    SYS_lremovexattr ONE, Last::Itself;
    SYS_statfs ONE, Last::Followed;
    SYS_chdir ONE, Last::Followed;
    SYS_chroot ONE, Last::Followed;
    SYS_execve ONE, Last::Followed;
    SYS_execveat AT, Last::Unless(4, NOFOLLOW);
    SYS_mount &[(None, 1)], Last::Followed;
    SYS_umount2 ONE, Last::Unless(1, libc::UMOUNT_NOFOLLOW as u64);
    SYS_open_tree AT, Last::Unless(2, NOFOLLOW);
    SYS_move_mount &[(Some(2), 3)], Last::With(4, libc::MOVE_MOUNT_T_SYMLINKS as u64);
    SYS_mount_setattr AT, Last::Unless(2, NOFOLLOW);
    SYS_name_to_handle_at AT, Last::With(4, libc::AT_SYMLINK_FOLLOW as u64);
    SYS_inotify_add_watch &[(None, 1)], Last::Unless(2, libc::IN_DONT_FOLLOW as u64);
];

/// The entry for a call that names files.
pub fn naming(number: u64, _: &[u64; 6]) -> Option<&'static Known> {
    NAMING.iter().map(|naming| &naming.known).find(|known| known.number() == number)
}

/// How a call that is about to be made goes into a root by a name that somebody in it may have put there; nothing, if it does not. `prefix` is the
/// host's.
pub fn enters_a_root(pid: i32, known: &Known, arguments: &[u64; 6], prefix: &Path) -> Option<String> {
    let known = NAMING.iter().find(|naming| naming.known.number() == known.number())?;
    for &(directory, name) in known.names {
        let name = text(pid, arguments[name]);
        let directory = directory.map_or(libc::AT_FDCWD, |index| arguments[index] as i32);
        let from = held(pid, directory);
        if goes_in(pid, known, arguments, &from, Path::new(std::ffi::OsStr::from_bytes(&name)), prefix) {
            let call = known.known.name.trim_start_matches("SYS_");
            return Some(format!("{call}({}, {})", from.path.display(), tree::escaped(&name)));
        }
    }
    None
}

/// A directory that a process has, as it would be called.
struct Held {
    path: PathBuf,
    /// It is in a mount that no name leads to, as roots are that are only looked at.
    is_detached: bool,
}

fn held(pid: i32, descriptor: RawFd) -> Held {
    let link = if descriptor == libc::AT_FDCWD {
        format!("/proc/{pid}/cwd")
    } else {
        format!("/proc/{pid}/fd/{descriptor}")
    };
    let path = std::fs::read_link(link).unwrap_or_default();
    let field = |text: String, name: &str| {
        text.lines().find_map(|line| line.strip_prefix(name).map(|value| value.trim().to_owned()))
    };
    let mount = std::fs::read_to_string(format!("/proc/{pid}/fdinfo/{descriptor}"));
    let mount = mount.ok().and_then(|text| field(text, "mnt_id:"));
    let table = std::fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
    let is_detached =
        mount.is_some_and(|id| !table.lines().any(|line| line.split(' ').next() == Some(id.as_str())));
    Held { path, is_detached }
}

fn goes_in(pid: i32, known: &Naming, arguments: &[u64; 6], from: &Held, name: &Path, prefix: &Path) -> bool {
    if name.is_absolute() {
        // What is held already, by its number.
        let mut parts = name.components().skip(1).map(Component::as_os_str);
        let own = ["self", &pid.to_string()].map(std::ffi::OsString::from);
        let is_held = parts.next().is_some_and(|part| part == "proc")
            && parts.next().is_some_and(|part| own.iter().any(|own| own == part))
            && parts.next().is_some_and(|part| part == "fd");
        let number = parts.next().and_then(|part| part.to_str()?.parse().ok());
        if let (true, Some(number)) = (is_held, number) {
            let rest: PathBuf = parts.collect();
            return !rest.as_os_str().is_empty()
                && goes_in(pid, known, arguments, &held(pid, number), &rest, prefix);
        }
        return is_beyond_a_top(name, prefix);
    }
    let is_inside = from.is_detached || is_top_or_beyond(&from.path, prefix);
    if !is_inside {
        return is_beyond_a_top(&from.path.join(name), prefix);
    }
    if name.as_os_str().is_empty() || name == Path::new(".") {
        return false;
    }
    if let Last::Resolved(how) = known.last {
        // struct open_how: flags, mode, resolve; O_NOFOLLOW is in the first.
        let stays = libc::RESOLVE_IN_ROOT | libc::RESOLVE_BENEATH | libc::RESOLVE_NO_SYMLINKS;
        let is_safe = number(pid, arguments[how] + 16) & stays != 0;
        let is_one =
            name.components().count() == 1 && number(pid, arguments[how]) & libc::O_NOFOLLOW as u64 != 0;
        return !is_safe && !is_one;
    }
    let is_one_name =
        name.components().count() == 1 && matches!(name.components().next(), Some(Component::Normal(_)));
    let is_followed = match known.last {
        Last::Followed | Last::Resolved(_) => true,
        Last::Itself => false,
        Last::Unless(index, flag) => arguments[index] & flag == 0,
        Last::With(index, flag) => arguments[index] & flag != 0,
        Last::Opened(index) => {
            let flags = arguments[index] as i32;
            let makes = libc::O_CREAT | libc::O_EXCL;
            flags & libc::O_NOFOLLOW == 0 && flags & makes != makes
        }
    };
    !is_one_name || is_followed
}

/// How many names lead from the prefix to a root's top, if the path leads there.
fn top(path: &Path, prefix: &Path) -> Option<usize> {
    let below: Vec<&str> =
        path.strip_prefix(prefix).ok()?.iter().map(|part| part.to_str().unwrap_or("?")).collect();
    match below.as_slice() {
        // The template's, and a generation's layers, wherever their names have been moved to.
        ["vz", "template" | "private", rest @ ..] => {
            rest.iter().position(|&part| part == "delta" || part == "rootfs").map(|position| position + 3)
        }
        ["vz", "root", _, ..] => Some(3),
        ["run", "vz", _, "generations" | "host" | "layers", _, ..] => Some(5),
        _ => None,
    }
}

fn is_top_or_beyond(path: &Path, prefix: &Path) -> bool {
    top(path, prefix).is_some()
}

fn is_beyond_a_top(path: &Path, prefix: &Path) -> bool {
    let names = path.strip_prefix(prefix).map_or(0, |below| below.iter().count());
    top(path, prefix).is_some_and(|top| names > top)
}

/// A string in the memory of a stopped process.
fn text(pid: i32, address: u64) -> Vec<u8> {
    let Ok(memory) = File::open(format!("/proc/{pid}/mem")) else { return Vec::new() };
    let mut text = Vec::new();
    // Byte by byte at the end of what is mapped.
    while text.len() < libc::PATH_MAX as usize {
        let mut part = [0; 64];
        let read = memory.read_at(&mut part, address + text.len() as u64).unwrap_or(0);
        let read = if read == 0 {
            memory.read_at(&mut part[..1], address + text.len() as u64).unwrap_or(0)
        } else {
            read
        };
        match part[..read].iter().position(|&byte| byte == 0) {
            Some(end) => {
                text.extend_from_slice(&part[..end]);
                break;
            }
            None if read == 0 => break,
            None => text.extend_from_slice(&part[..read]),
        }
    }
    text
}

/// Eight bytes in the memory of a stopped process.
fn number(pid: i32, address: u64) -> u64 {
    let mut bytes = [0; 8];
    let memory = File::open(format!("/proc/{pid}/mem"));
    match memory.and_then(|memory| memory.read_exact_at(&mut bytes, address)) {
        Ok(()) => u64::from_ne_bytes(bytes),
        Err(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_what_lies_in_a_root() {
        let prefix = Path::new("/p");
        let beyond = |path: &str| is_beyond_a_top(&prefix.join(path), prefix);
        for inside in [
            "vz/private/uuid/generations/1/delta/etc",
            "vz/private/.trash/x/generations/1/delta/etc/passwd",
            "vz/private/.trash/x.delta/delta/a",
            "vz/template/busybox/digest/rootfs/bin",
            "vz/root/uuid/etc",
            "run/vz/uuid/generations/1/etc",
            "run/vz/uuid/host/1/etc",
        ] {
            assert!(beyond(inside), "{inside}");
        }
        for outside in [
            "vz/private/uuid/generations/1/delta",
            "vz/private/uuid/generations/1/generation.json",
            "vz/template/busybox/digest/template.json",
            "vz/root/uuid",
            "run/vz/uuid/generations/1",
            "run/vz/uuid/state.json",
            "etc/vz/names/delta/x",
        ] {
            assert!(!beyond(outside), "{outside}");
        }
        assert!(!is_beyond_a_top(Path::new("/elsewhere/vz/root/uuid/etc"), prefix));
    }
}
