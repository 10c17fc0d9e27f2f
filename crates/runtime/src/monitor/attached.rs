//! The container's disks beside its root, and what it sees of the host, attached in its root in the monitor's mount namespace.
//!
//! They arrive in the container as `/old` does, by propagation, with their flags locked, and leave the same way. The clones that they are cut from are attached
//! in the stage, which no container sees, so that every life of the container has them. An empty directory, or file, is made where none is; nothing else of
//! the root is changed, and no symbolic link is followed: whoever is root in the container has made every name in it.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, StatxFlags};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, UnmountFlags};
use store::IdRange;
use tree::{Kind, Root};

use super::container::describe;
use crate::attachments::Attached;
use crate::confined::{Reach, confined};
use crate::mountinfo::Entry;
use crate::mounts::clone_mount;
use crate::mounts_of_container::unmount_below;

/// Those of one container.
#[derive(Debug)]
pub struct Attachments {
    root: PathBuf,
    directory: PathBuf,
    ids: IdRange,
    /// Parents before what is below them.
    all: Vec<One>,
    made: u32,
}

#[derive(Debug)]
struct One {
    what: Attached,
    /// Where the clone is that views are cut from.
    point: PathBuf,
    /// The mount in the root, while there is one.
    id: Option<u64>,
}

impl Attachments {
    /// None yet.
    pub fn new(root: &Path, directory: &Path, ids: IdRange) -> Attachments {
        Attachments { root: root.to_owned(), directory: directory.to_owned(), ids, all: Vec::new(), made: 0 }
    }

    /// Takes a detached mount as one of them from now on. It is in no root yet.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn take(&mut self, what: Attached, mount: &OwnedFd) -> io::Result<()> {
        let point = self.directory.join(self.made.to_string());
        std::fs::create_dir_all(&self.directory)?;
        if what.is_file {
            drop(std::fs::File::create_new(&point)?)
        } else {
            std::fs::create_dir(&point)?
        }
        rustix::mount::move_mount(mount, "", CWD, &point, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
        self.made += 1;
        self.all.push(One { what, point, id: None });
        self.all.sort_by(|one, other| one.what.at.cmp(&other.what.at));
        Ok(())
    }

    /// There is one at that path.
    pub fn has(&self, at: &store::InnerPath) -> bool {
        self.all.iter().any(|one| one.what.at == *at)
    }

    /// Attaches in the root what is not there yet.
    ///
    /// # Errors
    /// In one line; those before it are attached.
    pub fn attach(&mut self) -> Result<(), String> {
        let Attachments { root, ids, all, .. } = self;
        for one in all.iter_mut().filter(|one| one.id.is_none()) {
            one.id = Some(attach(root, *ids, one).map_err(|because| {
                format!("{} cannot be mounted at {} in the container: {because}", one.what.name, one.what.at)
            })?);
        }
        Ok(())
    }

    /// Takes all of them out of a root in which nobody runs any more, wherever the container has moved the directories to.
    pub fn detach(&mut self) {
        let ids: Vec<u64> = self.all.iter_mut().filter_map(|one| one.id.take()).collect();
        for mount in mounts_below(&self.root, &ids) {
            let _ = unmount_below(&self.root, &mount.point, UnmountFlags::DETACH);
        }
    }

    /// Takes one away for good, while the container may run.
    ///
    /// # Errors
    /// [`Errno::BUSY`] when something in the container is in it, and then it stays.
    pub fn remove(&mut self, at: &store::InnerPath) -> Result<(), Errno> {
        let Some(index) = self.all.iter().position(|one| one.what.at == *at) else { return Ok(()) };
        if let Some(id) = self.all[index].id {
            for mount in mounts_below(&self.root, &[id]) {
                unmount_below(&self.root, &mount.point, UnmountFlags::empty())?;
            }
        }
        let one = self.all.remove(index);
        rustix::mount::unmount(&one.point, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)?;
        Ok(())
    }
}

/// Of these mounts those that are below the root, the last first.
fn mounts_below(root: &Path, ids: &[u64]) -> Vec<Entry> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let entries = table.lines().rev().filter_map(Entry::parse);
    entries
        .filter(|mount| ids.contains(&mount.id) && mount.point.starts_with(root) && mount.point != root)
        .collect()
}

fn attach(root: &Path, ids: IdRange, one: &One) -> Result<u64, String> {
    let handle = Root::open(root).map_err(|error| describe(&error))?;
    let reach = Reach { reads: Vec::new(), writes: vec![handle.handle()], ids: Some(ids.first) };
    confined(&reach, || prepare(&handle, ids, &one.what)).map_err(|error| describe(&error))??;
    let kind = if one.what.is_file { OFlags::empty() } else { OFlags::DIRECTORY };
    let below = one.what.at.as_path().strip_prefix("/").unwrap_or(one.what.at.as_path());
    let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC | kind;
    let target =
        rustix::fs::openat2(handle.handle(), below, flags, Mode::empty(), how).map_err(
            |error| match error {
                Errno::LOOP => "a symbolic link is on the way".to_owned(),
                other => io::Error::from(other).to_string(),
            },
        )?;
    let clone = clone_mount(&one.point).map_err(|error| describe(&error))?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(&clone, "", &target, "", flags)
        .map_err(|error| io::Error::from(error).to_string())?;
    let found = rustix::fs::statx(clone.as_fd(), "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)
        .map_err(|error| io::Error::from(error).to_string())?;
    Ok(found.stx_mnt_id)
}

/// Makes what it is mounted on, and the directories on the way, where there are none.
fn prepare(root: &Root, ids: IdRange, what: &Attached) -> Result<(), String> {
    let path = what.at.as_path();
    let mut parents: Vec<&Path> =
        path.ancestors().skip(1).filter(|parent| *parent != Path::new("/")).collect();
    parents.reverse();
    for parent in parents {
        make_directory(root, ids, parent)?;
    }
    if !what.is_file {
        return make_directory(root, ids, path);
    }
    match root.kind(path).map_err(|error| describe(&error))? {
        Some(Kind::File { .. }) => Ok(()),
        Some(Kind::Directory { .. } | Kind::Symlink | Kind::Other(_)) => {
            Err(format!("{} is no regular file", tree::escaped_path(path)))
        }
        None => root.replace_file(path, b"", 0o644, ids.first, ids.first).map_err(|error| describe(&error)),
    }
}

fn make_directory(root: &Root, ids: IdRange, path: &Path) -> Result<(), String> {
    match root.kind(path).map_err(|error| describe(&error))? {
        Some(Kind::Directory { .. }) => Ok(()),
        Some(Kind::Symlink) => Err(format!("{} is a symbolic link", tree::escaped_path(path))),
        Some(Kind::File { .. } | Kind::Other(_)) => {
            Err(format!("{} is no directory", tree::escaped_path(path)))
        }
        None => {
            root.make_directory(path, 0o755, ids.first, ids.first).map(drop).map_err(|error| describe(&error))
        }
    }
}
