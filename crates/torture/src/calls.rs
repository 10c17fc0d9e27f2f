//! Which system calls change anything, and what a stopped one is about.

use std::fs::File;
use std::os::unix::fs::FileExt;

/// A system call by name, and which of its arguments are worth showing.
#[derive(Debug, Clone, Copy)]
pub struct Known {
    number: i64,
    /// As in the manual.
    pub name: &'static str,
    /// One letter an argument: `d` a descriptor, `p` a path, `f` flags of open(2), `-` not shown.
    shown: &'static str,
}

macro_rules! known {
    ($($number:ident $shown:literal),+ $(,)?) => {
        &[$(Known { number: libc::$number, name: stringify!($number), shown: $shown }),+]
    };
}

/// Everything after which the disk, the mounts, the processes or what another process knows may be different.
static CHANGING: &[Known] = known![
    SYS_write "d",
    SYS_pwrite64 "d",
    SYS_writev "d",
    SYS_sendmsg "d",
    SYS_sendto "d",
    SYS_fsync "d",
    SYS_fdatasync "d",
    SYS_sync "",
    SYS_syncfs "d",
    SYS_rename "pp",
    SYS_renameat "dpdp",
    SYS_renameat2 "dpdp",
    SYS_link "pp",
    SYS_linkat "dpdp",
    SYS_symlink "pp",
    SYS_symlinkat "pdp",
    SYS_unlink "p",
    SYS_unlinkat "dp",
    SYS_rmdir "p",
    SYS_mkdir "p",
    SYS_mkdirat "dp",
    SYS_mknod "p",
    SYS_mknodat "dp",
    SYS_open "pf",
    SYS_openat "dpf",
    SYS_truncate "p",
    SYS_ftruncate "d",
    SYS_fallocate "d",
    SYS_chmod "p",
    SYS_fchmod "d",
    SYS_fchmodat "dp",
    SYS_chown "p",
    SYS_lchown "p",
    SYS_fchown "d",
    SYS_fchownat "dp",
    SYS_setxattr "pp",
    SYS_lsetxattr "pp",
    SYS_fsetxattr "dp",
    SYS_removexattr "pp",
    SYS_lremovexattr "pp",
    SYS_fremovexattr "dp",
    SYS_utimensat "dp",
    SYS_copy_file_range "d-d",
    SYS_mount "pp",
    SYS_umount2 "p",
    SYS_mount_setattr "dp",
    SYS_move_mount "dpdp",
    SYS_open_tree "dp",
    SYS_fsopen "p",
    SYS_fsconfig "d-pp",
    SYS_fsmount "d",
    SYS_pivot_root "pp",
    SYS_unshare "",
    SYS_setns "d",
    SYS_clone "",
    SYS_clone3 "",
    SYS_fork "",
    SYS_vfork "",
    SYS_execve "p",
    SYS_flock "d",
    SYS_kill "",
    SYS_pidfd_send_signal "d",
    SYS_bind "d",
    SYS_connect "d",
    SYS_socketpair "",
    SYS_pipe2 "",
];

/// The entry for a call that changes something; opening a file does when it makes or empties it.
pub fn changing(number: u64, arguments: &[u64; 6]) -> Option<&'static Known> {
    let known = CHANGING.iter().find(|known| known.number.cast_unsigned() == number)?;
    if let Some(flags) = known.shown.find('f') {
        let makes = (libc::O_CREAT | libc::O_TRUNC) as u64;
        return (arguments[flags] & makes != 0).then_some(known);
    }
    Some(known)
}

impl Known {
    /// A call of another table.
    pub(crate) const fn of(number: i64, name: &'static str, shown: &'static str) -> Known {
        Known { number, name, shown }
    }

    /// As in `asm/unistd.h`.
    pub(crate) fn number(&self) -> u64 {
        self.number.cast_unsigned()
    }

    /// The call as a stopped process is about to make it: `renameat(/vz/private/…, live.new, …)`.
    pub fn describe(&self, pid: i32, arguments: &[u64; 6]) -> String {
        let shown: Vec<String> = self
            .shown
            .chars()
            .zip(arguments)
            .filter_map(|(letter, &argument)| match letter {
                'd' => Some(descriptor(pid, argument)),
                'p' => Some(text(pid, argument)),
                _ => None,
            })
            .collect();
        format!("{}({})", self.name.trim_start_matches("SYS_"), shown.join(", "))
    }
}

fn descriptor(pid: i32, number: u64) -> String {
    if number as i32 == libc::AT_FDCWD {
        return "AT_FDCWD".to_owned();
    }
    match std::fs::read_link(format!("/proc/{pid}/fd/{}", number as i32)) {
        Ok(target) => target.display().to_string(),
        Err(_) => (number as i32).to_string(),
    }
}

/// A string in the memory of a stopped process, its first part.
fn text(pid: i32, address: u64) -> String {
    let mut bytes = [0u8; 256];
    let read = File::open(format!("/proc/{pid}/mem")).and_then(|memory| memory.read_at(&mut bytes, address));
    match read {
        Ok(read) => tree::escaped(bytes[..read].split(|&byte| byte == 0).next().unwrap_or_default()),
        Err(_) => format!("{address:#x}"),
    }
}
