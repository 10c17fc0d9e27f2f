//! lxcfs, a filesystem that tells whoever reads `/proc/meminfo` and the like what his container has, instead of what the host has.
//!
//! Not ours: where it is installed and running, its files are bound over those of a container's `/proc` at each of its starts. It is a program of the host and
//! may be dead or hang, and whoever touches a file of it then hangs, too: so a child does that first, which is killed when it takes too long. What it does not
//! tell, and what is bound in a container that runs when it dies, cannot be read; the next start of that container does without.

use std::io::Read;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use linux::{Exit, fork};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::mount::UnmountFlags;
use store::Prefix;

use crate::kernel::Feature;
use crate::mountinfo::Entry;
use crate::mounts::{attach, clone_mount, restrict};

/// What is bound, of each that it has.
const FILES: [&str; 7] = ["cpuinfo", "diskstats", "loadavg", "meminfo", "stat", "swaps", "uptime"];
/// It answers within milliseconds, or not at all.
const PATIENCE: Timespec = Timespec { tv_sec: 2, tv_nsec: 0 };
const DYING: Duration = Duration::from_secs(2);
/// Below the monitor's stage.
const PLACE: &str = "lxcfs";
const NAME: &str = "lxcfs, for a /proc/meminfo, cpuinfo, stat, uptime of a container's own";

/// What there is of it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Lxcfs {
    /// Nothing is mounted there.
    Absent,
    /// Something is, and does not answer.
    Dead,
    /// These files, by their names in `/proc`, and where they are.
    There(Vec<(&'static str, PathBuf)>),
}

/// Where it is mounted, if it is.
fn directory(prefix: &Prefix) -> PathBuf {
    prefix.root().join("var/lib/lxcfs")
}

/// Asks it.
fn ask(prefix: &Prefix) -> Lxcfs {
    let directory = directory(prefix);
    // Not by looking at it, which might not end.
    if !is_in_table(&std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default(), &directory) {
        return Lxcfs::Absent;
    }
    let paths: Vec<PathBuf> = FILES.iter().map(|name| directory.join("proc").join(name)).collect();
    let Ok(child) = fork(0, None, || {
        let answers = paths.iter().enumerate().filter(|(_, path)| can_be_read(path));
        answers.fold(0, |all, (index, _)| all | 1 << index)
    }) else {
        return Lxcfs::Dead;
    };
    let has_ended =
        matches!(poll(&mut [PollFd::new(&child.pidfd(), PollFlags::IN)], Some(&PATIENCE)), Ok(1..));
    let exit = if has_ended { child.wait().ok() } else { child.end(DYING).ok().flatten() };
    let Some(Exit::Code(answers)) = exit else { return Lxcfs::Dead };
    let there = FILES.into_iter().zip(paths).enumerate().filter(|(index, _)| answers & (1 << index) != 0);
    let there: Vec<_> = there.map(|(_, file)| file).collect();
    if there.is_empty() { Lxcfs::Dead } else { Lxcfs::There(there) }
}

/// Has its files where the process that becomes a container's init can walk to, below `stage` of this namespace, read-only; by their names in `/proc`.
///
/// # Errors
/// In one line, why there are none though it is there.
pub fn bring(prefix: &Prefix, stage: &Path) -> Result<Vec<(&'static str, PathBuf)>, String> {
    let place = stage.join(PLACE);
    for name in FILES {
        // Of an earlier life. Nothing is asked of it, not even whether it is there: an lxcfs that hangs would not answer.
        let _ = rustix::mount::unmount(place.join(name), UnmountFlags::DETACH | UnmountFlags::NOFOLLOW);
    }
    let files = match ask(prefix) {
        Lxcfs::Absent => return Ok(Vec::new()),
        Lxcfs::Dead => {
            return Err(format!("what is mounted at {} does not answer", directory(prefix).display()));
        }
        Lxcfs::There(files) => files,
    };
    let words = |error: &dyn std::error::Error| crate::monitor::describe(error);
    std::fs::create_dir_all(&place).map_err(|error| words(&error))?;
    let bring = |(name, path): (&'static str, PathBuf)| {
        let point = place.join(name);
        std::fs::File::create(&point).map_err(|error| words(&error))?;
        let clone = clone_mount(&path).map_err(|error| words(&error))?;
        restrict(&clone, true).and_then(|()| attach(clone.as_fd(), &point)).map_err(|error| words(&error))?;
        Ok((name, point))
    };
    files.into_iter().map(bring).collect()
}

fn is_in_table(table: &str, directory: &Path) -> bool {
    table
        .lines()
        .filter_map(Entry::parse)
        .any(|entry| entry.point == directory && entry.file_system == "fuse.lxcfs")
}

fn can_be_read(path: &Path) -> bool {
    let mut byte = [0];
    // `swaps` may be empty.
    std::fs::File::open(path).and_then(|mut file| file.read(&mut byte)).is_ok()
}

/// For `prlctl info`.
pub fn feature(prefix: &Prefix) -> Feature {
    let directory = directory(prefix);
    let missing = match ask(prefix) {
        Lxcfs::There(_) => None,
        Lxcfs::Absent => Some(format!(
            "it is not mounted at {}: `free`, `nproc`, `uptime` in a container tell what the host has",
            directory.display()
        )),
        Lxcfs::Dead => Some(format!("what is mounted at {} does not answer", directory.display())),
    };
    Feature { name: NAME, is_required: false, missing }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lxcfs_itself_is_taken_for_it() {
        let line = |point: &str, kind: &str| {
            format!("46 27 0:41 / {point} rw,nosuid,nodev,relatime - {kind} lxcfs rw,allow_other\n")
        };
        let directory = Path::new("/var/lib/lxcfs");
        assert!(is_in_table(&line("/var/lib/lxcfs", "fuse.lxcfs"), directory));
        assert!(!is_in_table(&line("/var/lib/lxcfs", "fuse.sshfs"), directory));
        assert!(!is_in_table(&line("/var/lib/lxcfs2", "fuse.lxcfs"), directory));
        assert!(!is_in_table("", directory));
    }
}
