//! Files of the host that have something done as root: nobody but root may have had a hand in them, nor in what leads to them.
//!
//! The way to a file is gone step by step, by handle, from the prefix: every directory on it, and every symlink, is looked at as it is passed, so that
//! what was checked is what was gone through. Whoever may write to a directory may put another file in the place of the one in it, whatever that
//! one's mode is. What leads to the prefix is the choice of whoever has set it; the host's own is `/`.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, Stat, fstat, openat, readlinkat};
use rustix::io::Errno;
use store::Prefix;

use crate::error::{Code, Failure, Result, system};

/// As many as the kernel follows in one path.
const SYMLINKS: usize = 40;
/// Set-user-id and the like are above it.
const STICKY: u32 = 0o1000;
const WRITABLE: u32 = 0o022;

/// A file that only root can have written.
#[derive(Debug)]
pub struct Trusted {
    /// The file.
    pub file: OwnedFd,
    /// What stands in it.
    pub bytes: Vec<u8>,
    /// Its permission bits.
    pub mode: u32,
}

/// Opens a regular file of at most `largest` bytes, once, and checks through that handle; `None` when there is none of that name.
///
/// # Errors
/// [`Code::BadValue`] when somebody else could have written it, or could have put it there; what is wrong, and what to type.
pub fn open(prefix: &Prefix, path: &Path, largest: u64) -> Result<Option<Trusted>> {
    let Some((directory, name)) = directory_of(prefix, path)? else { return Ok(None) };
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = match openat(&directory, &name, flags, Mode::empty()) {
        Ok(file) => file,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
        Err(Errno::LOOP) => return Err(refused(path, "it is a symbolic link", "put the file itself there")),
        // A socket, or a device that is not there.
        Err(Errno::NXIO | Errno::NODEV) => {
            return Err(refused(path, "it is no regular file", "put the file itself there"));
        }
        Err(error) => {
            return Err(system(format!("cannot open `{}`", path.display()), &std::io::Error::from(error)));
        }
    };
    let failed = |error: std::io::Error| system(format!("cannot read `{}`", path.display()), &error);
    let found = fstat(&file).map_err(|error| failed(error.into()))?;
    if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
        return Err(refused(path, "it is no regular file", "put the file itself there"));
    }
    if found.st_uid != 0 {
        let because = format!("it belongs to user {}, who could have it do anything as root", found.st_uid);
        return Err(refused(path, &because, &format!("chown root: {}", path.display())));
    }
    if found.st_mode & WRITABLE != 0 {
        let because = "others than its owner may write to it, and could have it do anything as root";
        return Err(refused(path, because, &format!("chmod go-w {}", path.display())));
    }
    if found.st_size.cast_unsigned() > largest {
        return Err(refused(path, &format!("it has {} bytes", found.st_size), "put a smaller one there"));
    }
    let mut bytes = Vec::new();
    let copy = file.try_clone().map_err(failed)?;
    std::fs::File::from(copy).take(largest + 1).read_to_end(&mut bytes).map_err(failed)?;
    Ok(Some(Trusted { file, bytes, mode: found.st_mode & 0o7777 }))
}

/// Refuses a path on which somebody else than root could put another thing in the place of what is there.
///
/// # Errors
/// [`Code::BadValue`]; what is wrong, and what to type.
pub fn check_way(prefix: &Prefix, path: &Path) -> Result<()> {
    directory_of(prefix, path).map(drop)
}

/// The directory that a path leads to, checked on all the way, and the name in it.
fn directory_of(prefix: &Prefix, path: &Path) -> Result<Option<(OwnedFd, OsString)>> {
    let failed =
        |error: Errno| system(format!("cannot open `{}`", path.display()), &std::io::Error::from(error));
    let Some(name) = path.file_name().map(OsStr::to_owned) else {
        return Err(refused(path, "it does not end in a name", "put the file itself there"));
    };
    let hold = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let top = |path: &Path| openat(CWD, path, hold, Mode::empty()).map_err(failed);
    let below = path.strip_prefix(prefix.root()).ok();
    let mut place = below.map_or(Path::new("/"), |_| prefix.root()).to_owned();
    let mut held = top(&place)?;
    let mut rest = steps(below.unwrap_or(path).parent().unwrap_or(Path::new("")));
    let mut symlinks = 0;
    check(&fstat(&held).map_err(failed)?, &place, path, rest.is_empty())?;
    while let Some(step) = rest.pop_front() {
        let next = match openat(&held, &step, hold, Mode::empty()) {
            Ok(next) => next,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let found = fstat(&next).map_err(failed)?;
        if FileType::from_raw_mode(found.st_mode) == FileType::Symlink {
            symlinks += 1;
            if symlinks > SYMLINKS {
                return Err(failed(Errno::LOOP));
            }
            let link = place.join(&step);
            if found.st_uid != 0 {
                let because = format!(
                    "`{}` on the way to it belongs to user {}, who could let it lead elsewhere",
                    link.display(),
                    found.st_uid
                );
                return Err(refused(path, &because, &format!("chown -h root: {}", link.display())));
            }
            let target = readlinkat(&next, c"", Vec::new()).map_err(failed)?;
            let target = Path::new(OsStr::from_bytes(target.to_bytes()));
            if target.is_absolute() {
                place = PathBuf::from("/");
                held = top(&place)?;
            }
            let mut way = steps(target);
            way.extend(rest);
            rest = way;
            continue;
        }
        match step.as_bytes() {
            b".." => drop(place.pop()),
            _ => place.push(&step),
        }
        check(&found, &place, path, rest.is_empty())?;
        held = next;
    }
    Ok(Some((held, name)))
}

fn steps(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some("..".into()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
        })
        .collect()
}

/// Nobody but root may put another thing in the place of what is in this directory. In one like `/tmp` nobody may touch what is root's; but a *file* of
/// root's can be linked to there by others, so the last one on the way must not be like that.
fn check(directory: &Stat, place: &Path, path: &Path, is_last: bool) -> Result<()> {
    // What is no directory is found out by the next step.
    let shown = place.display();
    if directory.st_uid != 0 {
        let because = format!(
            "`{shown}` on the way to it belongs to user {}, who could put another one in its place",
            directory.st_uid
        );
        return Err(refused(path, &because, &format!("chown root: {shown}")));
    }
    let is_sticky = directory.st_mode & STICKY != 0;
    if directory.st_mode & WRITABLE != 0 && (is_last || !is_sticky) {
        let because = format!(
            "others than root may write to `{shown}` on the way to it, and could put another one in its place"
        );
        return Err(refused(path, &because, &format!("chmod go-w {shown}")));
    }
    Ok(())
}

fn refused(path: &Path, because: &str, hint: &str) -> Failure {
    Failure::new(Code::BadValue, format!("`{}` cannot be used", path.display()))
        .because(because)
        .unchanged()
        .hint(hint)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the trees of these tests are their own")]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    const FILE: &str = "etc/vz/conf/script";

    struct Scene {
        directory: tempfile::TempDir,
        prefix: Prefix,
    }

    impl Scene {
        fn new() -> Scene {
            let directory = tempfile::tempdir().unwrap();
            let prefix = Prefix::new(directory.path()).unwrap();
            std::fs::create_dir_all(prefix.conf_dir()).unwrap();
            let scene = Scene { directory, prefix };
            for below in ["", "etc", "etc/vz", "etc/vz/conf"] {
                scene.mode(below, 0o755);
            }
            std::fs::File::create(scene.at(FILE)).unwrap();
            scene.mode(FILE, 0o644);
            scene
        }

        fn at(&self, below: &str) -> PathBuf {
            self.directory.path().join(below)
        }

        fn mode(&self, below: &str, mode: u32) {
            std::fs::set_permissions(self.at(below), std::fs::Permissions::from_mode(mode)).unwrap();
        }

        fn open(&self) -> Result<bool> {
            open(&self.prefix, &self.prefix.root().join(FILE), 16).map(|found| found.is_some())
        }

        fn refused(&self, because: &str) {
            let failure = self.open().unwrap_err();
            assert_eq!(failure.code, Code::BadValue, "{failure:?}");
            assert!(failure.reason().contains(because), "{because}: {failure:?}");
        }
    }

    #[test]
    fn what_is_roots_alone_is_opened_and_what_is_not_there_is_none() {
        let scene = Scene::new();
        assert!(scene.open().unwrap());
        for below in ["etc/vz/conf", "etc"] {
            let missing = scene.at(below).join("none/script");
            assert!(open(&scene.prefix, &missing, 16).unwrap().is_none());
        }
        assert!(open(&scene.prefix, &scene.at("etc/vz/conf/script/below"), 16).unwrap().is_none());
        // By a way that does not begin with the prefix, too.
        assert!(open(&scene.prefix, Path::new("/proc/version"), 1024).unwrap().is_some());
    }

    #[test]
    fn every_directory_on_the_way_has_to_be_roots_alone() {
        for below in ["", "etc", "etc/vz", "etc/vz/conf"] {
            for mode in [0o775, 0o757, 0o722] {
                let scene = Scene::new();
                scene.mode(below, mode);
                scene.refused("others than root may write to");
            }
            let scene = Scene::new();
            chown(scene.at(below), Some(4711), None).unwrap();
            scene.refused("belongs to user 4711");
            // As in /tmp: what is root's can be exchanged by nobody, but root's files can be linked to.
            let scene = Scene::new();
            scene.mode(below, 0o1777);
            if below == "etc/vz/conf" {
                scene.refused("others than root may write to");
            } else {
                assert!(scene.open().unwrap(), "{below}");
            }
        }
    }

    #[test]
    fn a_symlink_on_the_way_is_gone_through_and_what_it_leads_to_is_looked_at() {
        for absolute in [true, false] {
            let scene = Scene::new();
            std::fs::create_dir_all(scene.at("elsewhere/deep")).unwrap();
            rustix::fs::rename(scene.at("etc/vz/conf"), scene.at("elsewhere/deep/conf")).unwrap();
            let target = if absolute {
                scene.at("elsewhere/deep/conf")
            } else {
                PathBuf::from("../.././elsewhere/deep/conf")
            };
            symlink(target, scene.at("etc/vz/conf")).unwrap();
            // All that leads to an absolute one is looked at; where the tests run that may be anybody's.
            let is_open = scene.open();
            if !absolute {
                assert!(is_open.unwrap());
            }
            scene.mode("elsewhere/deep", 0o777);
            scene.refused("elsewhere/deep");
            scene.mode("elsewhere/deep", 0o755);
            rustix::fs::chownat(
                CWD,
                scene.at("etc/vz/conf"),
                Some(rustix::fs::Uid::from_raw(4711)),
                None,
                rustix::fs::AtFlags::SYMLINK_NOFOLLOW,
            )
            .unwrap();
            scene.refused("who could let it lead elsewhere");
        }
        let scene = Scene::new();
        rustix::fs::rename(scene.at("etc/vz"), scene.at("etc/other")).unwrap();
        symlink("vz", scene.at("etc/vz")).unwrap();
        assert!(scene.open().is_err(), "a loop ends");
    }

    #[test]
    fn the_file_itself_is_a_regular_one_of_roots_that_nobody_else_writes() {
        let scene = Scene::new();
        scene.mode(FILE, 0o664);
        scene.refused("others than its owner may write to it");
        scene.mode(FILE, 0o644);
        chown(scene.at(FILE), Some(4711), None).unwrap();
        scene.refused("it belongs to user 4711");
        chown(scene.at(FILE), Some(0), None).unwrap();
        std::fs::File::create(scene.at(FILE)).unwrap().set_len(17).unwrap();
        scene.refused("it has 17 bytes");

        let replaced = |make: &dyn Fn(&Path), because: &str| {
            let scene = Scene::new();
            std::fs::remove_file(scene.at(FILE)).unwrap();
            make(&scene.at(FILE));
            scene.refused(because);
        };
        replaced(&|path| symlink("/etc/passwd", path).unwrap(), "it is a symbolic link");
        replaced(&|path| std::fs::create_dir(path).unwrap(), "it is no regular file");
        let make = |path: &Path, kind| {
            rustix::fs::mknodat(CWD, path, kind, Mode::from_raw_mode(0o600), rustix::fs::makedev(1, 3))
                .unwrap();
        };
        replaced(&|path| make(path, FileType::Fifo), "it is no regular file");
        replaced(&|path| make(path, FileType::CharacterDevice), "it is no regular file");
        replaced(
            &|path| drop(std::os::unix::net::UnixListener::bind(path).unwrap()),
            "it is no regular file",
        );
    }
}
