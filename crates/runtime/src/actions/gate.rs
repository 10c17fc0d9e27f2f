//! What a script mounts: every `mount(2)` and `move_mount(2)` of it and of its children is asked about before the kernel does it.
//!
//! `mount --bind /srv/data $VE_ROOT/data` looks harmless, but mount(8) follows symbolic links by itself before it calls the kernel, and whoever is root
//! in the container may have made `data` one to `/bin`. What the container has put into `/srv/data` would then be executed as the host's
//! root by the script's next line, though nobody outside its namespace saw the mount. So the name that arrives at the kernel has to be one below the
//! container's root, and the kernel's own walk there follows no link (`nosymfollow`): whatever the container renames meanwhile, it leads
//! nowhere else. The script itself is trusted; its memory is read as it is.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::FileExt;
use std::path::{Component, Path, PathBuf};

use libseccomp::{
    ScmpAction, ScmpFilterContext, ScmpNotifReq, ScmpNotifResp, ScmpNotifRespFlags, ScmpSyscall,
    notify_id_valid,
};

use super::warden::follow_no_symlinks;

/// PATH_MAX of limits.h.
const LONGEST_PATH: usize = 4096;
/// EPERM
const REFUSED: i32 = -1;
/// `MS_REMOUNT`, `MS_BIND`, `MS_MOVE` of mount.h.
const CHANGES: u64 = 32 | 4096 | 8192;
/// `MS_UNBINDABLE`, `MS_PRIVATE`, `MS_SLAVE`, `MS_SHARED` of mount.h.
const PROPAGATION: u64 = 1 << 17 | 1 << 18 | 1 << 19 | 1 << 20;

/// Has the calling process and its children asked about; the descriptor on which they are.
///
/// # Errors
/// When this kernel or libseccomp cannot.
pub fn install() -> io::Result<OwnedFd> {
    let installed = || -> Result<i32, libseccomp::error::SeccompError> {
        let mut filter = ScmpFilterContext::new(ScmpAction::Allow)?;
        // A script is the host's root, and may be a setuid program's caller.
        filter.set_ctl_nnp(false)?;
        for call in ["mount", "move_mount"] {
            filter.add_rule(ScmpAction::Notify, ScmpSyscall::from_name(call)?)?;
        }
        filter.load()?;
        let number = filter.get_notify_fd()?;
        // It would close the descriptor.
        std::mem::forget(filter);
        Ok(number)
    };
    linux::inherited_descriptor(installed().map_err(io::Error::other)?)
}

/// The other side.
pub struct Gate<'a> {
    socket: OwnedFd,
    tree: &'a OwnedFd,
    root: &'a Path,
    calls: [ScmpSyscall; 2],
}

impl AsFd for Gate<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl<'a> Gate<'a> {
    /// `tree` is what is mounted at `root`.
    pub fn new(socket: OwnedFd, tree: &'a OwnedFd, root: &'a Path) -> Gate<'a> {
        let call = |name| ScmpSyscall::from_name(name).unwrap_or_else(|_| ScmpSyscall::from(-1));
        Gate { socket, tree, root, calls: [call("mount"), call("move_mount")] }
    }

    /// Answers one question; why it was refused, if it was.
    pub fn answer(&self) -> Option<String> {
        let socket = self.socket.as_raw_fd();
        // Whoever asked may have been killed meanwhile.
        let Ok(asked) = ScmpNotifReq::receive(socket) else { return None };
        let verdict = self.judge(&asked);
        // What was read was that process's, not that of one that came to have its number.
        notify_id_valid(socket, asked.id).ok()?;
        // What the script has mounted so far follows links as the filesystem below does, until now.
        let verdict = verdict.and_then(|()| {
            follow_no_symlinks(self.tree)
                .map_err(|error| format!("links cannot be kept from being followed: {error}"))
        });
        let answer = match &verdict {
            Ok(()) => ScmpNotifResp::new_continue(asked.id, ScmpNotifRespFlags::empty()),
            Err(_) => ScmpNotifResp::new_error(asked.id, REFUSED, ScmpNotifRespFlags::empty()),
        };
        drop(answer.respond(socket));
        verdict.err()
    }

    fn judge(&self, asked: &ScmpNotifReq) -> Result<(), String> {
        let args = asked.data.args;
        let is_mount = asked.data.syscall == self.calls[0];
        if is_mount && args[3] & CHANGES == 0 && args[3] & PROPAGATION != 0 {
            // Nothing is mounted; in a namespace of which nothing leaves it means nothing.
            return Ok(());
        }
        let unreadable = |error: io::Error| format!("what is to be mounted where cannot be read: {error}");
        let process = Process { pid: asked.pid };
        let target = if is_mount {
            process.path(args[1], None)
        } else {
            process.path(args[3], Some(args[2] as u32 as i32))
        };
        let target = target.map_err(unreadable)?;
        let is_here = process.is_here().map_err(unreadable)?;
        check(&target, self.root, is_here)
    }
}

/// Whether something may be mounted at `target` when a container's root is at `root`.
fn check(target: &Path, root: &Path, is_here: bool) -> Result<(), String> {
    let shown = tree::escaped_path(target);
    if !is_here {
        return Err(format!("a mount at {shown} in another namespace, or below another root"));
    }
    let is_plain = target.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    if !is_plain || target == root || !target.starts_with(root) {
        return Err(format!(
            "a mount at {shown}, which is not below the container's root; perhaps a symbolic link in it leads there"
        ));
    }
    Ok(())
}

/// One that waits for an answer.
struct Process {
    pid: u32,
}

impl Process {
    /// Where its file `name` of proc(5) leads.
    fn link(&self, name: &str) -> io::Result<PathBuf> {
        std::fs::read_link(format!("/proc/{}/{name}", self.pid))
    }

    /// It has this process's mounts, and its root directory.
    fn is_here(&self) -> io::Result<bool> {
        let own = std::fs::read_link("/proc/self/ns/mnt")?;
        Ok(self.link("ns/mnt")? == own && self.link("root")? == Path::new("/"))
    }

    /// The path at an address in its memory, as seen from a directory that it has open, or from where it is.
    fn path(&self, address: u64, directory: Option<i32>) -> io::Result<PathBuf> {
        let mut bytes = vec![0; LONGEST_PATH];
        let memory = File::open(format!("/proc/{}/mem", self.pid))?;
        let mut length = 0;
        // What follows in the next page may not be there.
        while length < LONGEST_PATH && !bytes[..length].contains(&0) {
            let page = 4096 - ((address as usize + length) & 4095);
            let end = LONGEST_PATH.min(length + page);
            memory.read_exact_at(&mut bytes[length..end], address + length as u64)?;
            length = end;
        }
        let Some(end) = bytes[..length].iter().position(|&byte| byte == 0) else {
            return Err(io::Error::from_raw_os_error(36));
        };
        bytes.truncate(end);
        let path = PathBuf::from(std::ffi::OsString::from_vec(bytes));
        if path.is_absolute() {
            return Ok(path);
        }
        let below = match directory {
            Some(number) if number >= 0 => self.link(&format!("fd/{number}"))?,
            Some(_) | None => self.link("cwd")?,
        };
        Ok(if path.as_os_str().is_empty() { below } else { below.join(path) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_below_the_root_may_something_be_mounted() {
        let root = Path::new("/vz/root/one");
        let may = |target: &str| check(Path::new(target), root, true).is_ok();
        assert!(may("/vz/root/one/data"));
        assert!(may("/vz/root/one/srv/data/"));
        for elsewhere in [
            "/bin",
            "/",
            "/vz/root/one",
            "/vz/root/one/",
            "/vz/root/one/../two",
            "/vz/root/onetwo",
            "data",
            "",
        ] {
            assert!(!may(elsewhere), "{elsewhere}");
        }
        assert!(check(Path::new("/vz/root/one/data"), root, false).is_err(), "another namespace's");
    }

    #[test]
    fn reads_paths_out_of_a_process() {
        let own = Process { pid: std::process::id() };
        let at = |path: &std::ffi::CStr, directory| own.path(path.as_ptr() as u64, directory).unwrap();
        assert_eq!(at(c"/vz/root", None), Path::new("/vz/root"));
        let cwd = std::env::current_dir().unwrap();
        assert_eq!(at(c"data", Some(-100)), cwd.join("data"));
        assert_eq!(at(c"data", None), cwd.join("data"));
        let slash = File::open("/usr").unwrap();
        assert_eq!(at(c"", Some(slash.as_raw_fd())), Path::new("/usr"));
        assert!(own.path(8, None).is_err(), "nothing is mapped there");
        assert!(own.is_here().unwrap());
    }
}
