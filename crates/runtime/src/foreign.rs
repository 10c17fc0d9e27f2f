//! Directories of the host that are not ours, to be read: whether somebody uses them, and a view through which nobody can change them.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use linux::{MountAttributes, set_mount_attributes};

use crate::mountinfo::Entry;
use crate::mounts::{MountError, clone_mount};

/// What is at `path`, attached nowhere and gone with the handle: read-only, whatever it is mounted with, and without what else is mounted below it.
/// Not even the times of access of what is read change.
///
/// # Errors
/// [`MountError`].
pub fn read_only(path: &Path) -> Result<OwnedFd, MountError> {
    let clone = clone_mount(path)?;
    let attributes = MountAttributes {
        set: MountAttributes::READ_ONLY
            | MountAttributes::NO_SUID
            | MountAttributes::NO_DEVICES
            | MountAttributes::NO_EXEC
            | MountAttributes::NO_ACCESS_TIMES,
        clear: MountAttributes::ACCESS_TIMES,
        ..MountAttributes::default()
    };
    set_mount_attributes(&clone, &attributes).map_err(|error| MountError::Call {
        what: "make read-only",
        path: path.to_owned(),
        source: error,
    })?;
    Ok(clone)
}

/// What of the mounts of this host says that `path`, which is canonical, is in use: something mounted in it, or it, or a part of it, mounted elsewhere, too. Who
/// uses it from another host, or in a mount namespace of his own, is not to be seen.
///
/// # Errors
/// When the mounts cannot be read.
pub fn use_of(path: &Path) -> io::Result<Option<String>> {
    let text = std::fs::read("/proc/self/mountinfo")?;
    let entries: Vec<Entry> = String::from_utf8_lossy(&text).lines().filter_map(Entry::parse).collect();
    Ok(use_among(path, &entries))
}

/// The device that is attached to the file at `path`, which is canonical, if there is one.
pub fn device_of(path: &Path) -> Option<String> {
    let devices = std::fs::read_dir("/sys/block").ok()?.flatten();
    devices.map(|device| device.file_name().to_string_lossy().into_owned()).find(|device| {
        // What a loop device is of is written there with a newline behind it.
        std::fs::read(format!("/sys/block/{device}/loop/backing_file"))
            .is_ok_and(|file| file.strip_suffix(b"\n") == Some(path.as_os_str().as_bytes()))
    })
}

fn use_among(path: &Path, entries: &[Entry]) -> Option<String> {
    let shown = |path: &Path| tree::escaped_path(path);
    if let Some(inner) = entries.iter().find(|entry| entry.point != path && entry.point.starts_with(path)) {
        return Some(format!("something is mounted in it, at {}", shown(&inner.point)));
    }
    // Of several mounts over each other the last one is seen.
    let own = entries
        .iter()
        .enumerate()
        .filter(|(_, entry)| path.starts_with(&entry.point))
        .max_by_key(|(index, entry)| (entry.point.components().count(), *index));
    let (own_index, own) = own?;
    let inside = own.root.join(path.strip_prefix(&own.point).ok()?);
    let elsewhere = entries.iter().enumerate().find(|(index, entry)| {
        *index != own_index && entry.superblock == own.superblock && entry.root.starts_with(&inside)
    });
    elsewhere.map(|(_, entry)| format!("it is mounted at {}, too", shown(&entry.point)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_tell_who_uses_a_directory() {
        let lines = "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
                     23 22 0:20 / /proc rw - proc proc rw\n\
                     24 22 8:17 / /old rw - ext4 /dev/sdb1 rw\n\
                     25 22 8:17 /private/102 /srv/x rw - ext4 /dev/sdb1 rw\n\
                     26 22 0:20 / /old/private/103/fs/proc rw - proc proc rw\n\
                     27 22 8:1 /home /mnt rw - ext4 /dev/sda1 rw\n";
        let entries: Vec<Entry> = lines.lines().filter_map(Entry::parse).collect();
        let used = |path: &str| use_among(Path::new(path), &entries);
        for free in ["/old/private/101", "/old/private/1020", "/srv/y", "/homes"] {
            assert_eq!(used(free), None, "{free}");
        }
        for (path, why) in [
            ("/old/private/102", "mounted at /srv/x, too"),
            ("/old/private", "mounted in it, at /old/private/103/fs/proc"),
            ("/old/private/103", "mounted in it"),
            ("/home", "mounted at /mnt, too"),
        ] {
            let said = used(path).unwrap_or_default();
            assert!(said.contains(why), "{path}: {said}");
        }
    }
}
