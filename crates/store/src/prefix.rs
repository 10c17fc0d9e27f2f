//! The one directory under which everything of ours lies (`REROOT_PREFIX`, on a real host `/`).
//!
//! ```text
//! etc/vz/            names/  conf/  reinstall.d/  vz.conf
//! vz/                private/<uuid>/  private/.trash/  template/<name>/<digest>/  root/<uuid>/
//! run/vz/            <uuid>/  lock/
//! var/log/vz/
//! ```
//!
//! What holds roots of containers must be closed to every other user of the host: a setuid file in a delta is a
//! setuid file of the host, and an open path to it made any local user root (tried). [`Prefix::ensure`] checks it.

use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use rustix::fs::Mode;
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

use crate::atomic::{self, AtomicError};
use crate::identity::ContainerId;

/// Why a directory cannot be the prefix, or what of it is not as it must be.
#[derive(Debug, thiserror::Error)]
pub enum PrefixError {
    #[error("the prefix `{}` is not an absolute path", .path.display())]
    NotAbsolute { path: PathBuf },
    #[error("the prefix `{}` is not a directory", .path.display())]
    NotDirectory { path: PathBuf },
    #[error(
        "`{}` is open to others (owner {uid}:{gid}, mode {mode:04o}): run `chown 0:0 {0} && chmod 0700 {0}`",
        .path.display()
    )]
    Open { path: PathBuf, uid: u32, gid: u32, mode: u32 },
    #[error("cannot look at `{}`", .path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Write(#[from] AtomicError),
}

/// An existing directory, absolute, without symbolic links in its path: one directory is one prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prefix(PathBuf);

impl Prefix {
    pub fn new(path: impl Into<PathBuf>) -> Result<Self, PrefixError> {
        let path = path.into();
        if !path.is_absolute() {
            return Err(PrefixError::NotAbsolute { path });
        }
        match path.canonicalize() {
            Ok(real) if real.is_dir() => Ok(Self(real)),
            Ok(_) => Err(PrefixError::NotDirectory { path }),
            Err(source) if source.kind() == io::ErrorKind::NotADirectory => {
                Err(PrefixError::NotDirectory { path })
            }
            Err(source) => Err(PrefixError::Unreadable { path, source }),
        }
    }

    pub fn root(&self) -> &Path {
        &self.0
    }

    /// Eight hex digits that tell this prefix from others on the same kernel, for names of cgroups, interfaces and
    /// tables.
    pub fn short_hash(&self) -> String {
        let digest = Sha256::digest(self.0.as_os_str().as_encoded_bytes());
        digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect()
    }

    pub fn etc_vz(&self) -> PathBuf {
        self.0.join("etc/vz")
    }

    /// `/etc/vz/conf`: the configurations' links, samples, action scripts.
    pub fn conf_dir(&self) -> PathBuf {
        self.etc_vz().join("conf")
    }

    pub fn names_dir(&self) -> PathBuf {
        self.etc_vz().join("names")
    }

    /// `/etc/vz/keep.d`: sets of what a reinstall keeps.
    pub fn keep_d(&self) -> PathBuf {
        self.etc_vz().join("keep.d")
    }

    /// `/etc/vz/templates.d`: recipes of templates.
    pub fn templates_d(&self) -> PathBuf {
        self.etc_vz().join("templates.d")
    }

    pub fn reinstall_d(&self) -> PathBuf {
        self.etc_vz().join("reinstall.d")
    }

    /// The host's defaults.
    pub fn vz_conf(&self) -> PathBuf {
        self.etc_vz().join("vz.conf")
    }

    pub fn vz_dir(&self) -> PathBuf {
        self.0.join("vz")
    }

    pub fn private_dir(&self) -> PathBuf {
        self.vz_dir().join("private")
    }

    pub fn area_dir(&self, id: &ContainerId) -> PathBuf {
        self.private_dir().join(id.to_string())
    }

    pub fn trash_dir(&self) -> PathBuf {
        self.private_dir().join(".trash")
    }

    pub fn template_dir(&self) -> PathBuf {
        self.vz_dir().join("template")
    }

    /// Where a container is mounted for the host.
    pub fn root_dir(&self, id: &ContainerId) -> PathBuf {
        self.vz_dir().join("root").join(id.to_string())
    }

    pub fn run_dir(&self) -> PathBuf {
        self.0.join("run/vz")
    }

    pub fn run_dir_of(&self, id: &ContainerId) -> PathBuf {
        self.run_dir().join(id.to_string())
    }

    pub fn log_dir(&self) -> PathBuf {
        self.0.join("var/log/vz")
    }

    pub fn lock_dir(&self) -> PathBuf {
        self.run_dir().join("lock")
    }

    /// Makes the fixed directories that are missing and checks that those which hold roots belong to root alone.
    /// It refuses rather than repairs: who could look in before may have been there already, and the
    /// administrator should know.
    pub fn ensure(&self) -> Result<(), PrefixError> {
        for open in ["etc", "etc/vz", "etc/vz/reinstall.d", "vz", "run", "var", "var/log"] {
            self.make(open, 0o755)?;
        }
        // What containers are called is nobody's business but root's. One that is there already, of another product perhaps, stays as it is.
        for quiet in ["etc/vz/conf", "etc/vz/names"] {
            self.make(quiet, 0o700)?;
        }
        for closed in [
            "vz/private",
            "vz/private/.trash",
            "vz/template",
            "vz/root",
            "run/vz",
            "run/vz/lock",
            "var/log/vz",
        ] {
            self.make(closed, 0o700)?;
            self.check_closed(closed)?;
        }
        Ok(())
    }

    fn make(&self, below: &str, mode: u32) -> Result<(), PrefixError> {
        let path = self.0.join(below);
        match rustix::fs::stat(&path) {
            Ok(stat) if rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir() => return Ok(()),
            Ok(_) => return Err(PrefixError::NotDirectory { path }),
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(PrefixError::Unreadable { path, source: errno.into() }),
        }
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(PrefixError::NotDirectory { path });
        };
        // Another command may make the same directory at the same moment: `false`, and as good.
        atomic::make_directory_at(atomic::open_directory(parent)?.as_fd(), name, mode)?;
        Ok(())
    }

    fn check_closed(&self, below: &str) -> Result<(), PrefixError> {
        let path = self.0.join(below);
        let stat = rustix::fs::stat(&path)
            .map_err(|errno| PrefixError::Unreadable { path: path.clone(), source: errno.into() })?;
        let mode = Mode::from_raw_mode(stat.st_mode).as_raw_mode() & 0o7777;
        // For the program that is root; a test without root owns its prefix itself.
        let owner = rustix::process::geteuid().as_raw();
        if stat.st_uid == owner && mode == 0o700 {
            return Ok(());
        }
        Err(PrefixError::Open { path, uid: stat.st_uid, gid: stat.st_gid, mode })
    }

    /// The kind of filesystem under `/vz`, as mount(8) spells it; one that we do not know, as its magic number.
    pub fn file_system(&self) -> Result<String, PrefixError> {
        let vz = self.vz_dir();
        let path = if vz.is_dir() { vz } else { self.0.clone() };
        match rustix::fs::statfs(&path) {
            Ok(_) => Ok(file_system_of(&path)),
            Err(errno) => Err(PrefixError::Unreadable { path, source: errno.into() }),
        }
    }
}

/// The name of the filesystem that `path` lies on; `unknown` when that cannot be asked.
pub fn file_system_of(path: &Path) -> String {
    // The field's type differs between architectures; the magic numbers have 32 bits.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "see above")]
    rustix::fs::statfs(path)
        .map_or_else(|_| "unknown".to_owned(), |found| file_system_name(found.f_type as u32))
}

/// linux/magic.h, and what of it a host may have under `/vz`.
fn file_system_name(magic: u32) -> String {
    let name = match magic {
        0xEF53 => "ext4",
        0x5846_5342 => "xfs",
        0x9123_683E => "btrfs",
        0x0102_1994 => "tmpfs",
        0x794C_7630 => "overlay",
        0x2FC1_2FC1 => "zfs",
        0xCA45_1A4E => "bcachefs",
        0xF2F5_2010 => "f2fs",
        0x6969 => "nfs",
        0x6573_5546 => "fuse",
        0x0102_1997 => "9p",
        0x8584_58F6 => "ramfs",
        other => return format!("0x{other:08x}"),
    };
    name.to_owned()
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the trees of these tests are their own")]
pub(crate) mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    /// A prefix of its own for a test, with its directories made.
    pub(crate) fn prefix() -> (tempfile::TempDir, Prefix) {
        let directory = tempfile::tempdir().unwrap();
        let prefix = Prefix::new(directory.path()).unwrap();
        prefix.ensure().unwrap();
        (directory, prefix)
    }

    #[test]
    fn is_absolute_existing_and_the_same_by_every_way_to_it() {
        let directory = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(directory.path(), directory.path().join("link")).unwrap();
        let straight = Prefix::new(directory.path()).unwrap();
        let linked = Prefix::new(directory.path().join("link/./link")).unwrap();
        assert_eq!(straight, linked);
        assert_eq!(straight.short_hash(), linked.short_hash());
        assert_eq!(straight.short_hash().len(), 8);
        assert!(matches!(Prefix::new("relative"), Err(PrefixError::NotAbsolute { .. })));
        assert!(matches!(Prefix::new("/does/not/exist"), Err(PrefixError::Unreadable { .. })));
        assert!(matches!(Prefix::new("/proc/self/status"), Err(PrefixError::NotDirectory { .. })));
    }

    #[test]
    fn makes_its_directories_closed_and_again_without_a_word() {
        let (_directory, prefix) = prefix();
        prefix.ensure().unwrap();
        for (path, mode) in [
            (prefix.private_dir(), 0o700),
            (prefix.trash_dir(), 0o700),
            (prefix.template_dir(), 0o700),
            (prefix.lock_dir(), 0o700),
            (prefix.log_dir(), 0o700),
            (prefix.conf_dir(), 0o700),
            (prefix.names_dir(), 0o700),
        ] {
            assert_eq!(path.metadata().unwrap().permissions().mode() & 0o7777, mode, "{}", path.display());
        }
    }

    #[test]
    fn refuses_each_directory_that_others_can_enter() {
        for below in ["vz/private", "vz/private/.trash", "vz/template", "vz/root", "run/vz", "var/log/vz"] {
            for mode in [0o755, 0o711, 0o701, 0o770] {
                let (directory, prefix) = prefix();
                let path = directory.path().join(below);
                std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
                let error = prefix.ensure().unwrap_err();
                assert!(matches!(error, PrefixError::Open { .. }), "{error}");
                let wanted = format!("chmod 0700 {}", prefix.root().join(below).display());
                assert!(error.to_string().contains(&wanted), "{error}");
            }
        }
    }

    #[test]
    fn refuses_a_file_in_the_place_of_a_directory() {
        let directory = tempfile::tempdir().unwrap();
        atomic::replace(&directory.path().join("vz"), b"", 0o600).unwrap();
        let prefix = Prefix::new(directory.path()).unwrap();
        assert!(matches!(prefix.ensure(), Err(PrefixError::NotDirectory { .. })));
    }

    #[test]
    fn knows_the_filesystem() {
        let (_directory, prefix) = prefix();
        assert!(!prefix.file_system().unwrap().is_empty());
        assert_eq!(file_system_name(0x794c_7630), "overlay");
        assert_eq!(file_system_name(0x1234), "0x00001234");
    }
}
