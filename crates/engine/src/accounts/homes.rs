//! The homes of carried users: made empty where they are missing, by whoever may touch the root.

use super::note::HomeBecause;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

/// A container has the ids below this one.
const CONTAINER_IDS: u32 = 65_536;
/// Mount points of ours, and what is nobody's: a directory in it would be in the way, or be lost.
const RESERVED: [&str; 6] = ["/old", "/proc", "/sys", "/dev", "/run", "/nonexistent"];

/// A directory to be made if there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    /// Absolute, without `..`.
    pub path: PathBuf,
    pub uid: u32,
    pub gid: u32,
    /// Where the old root's own does not tell a better one.
    pub mode: u32,
}

/// `None`: he has no home, on purpose.
pub(super) fn home(path: &[u8], uid: u32, gid: u32) -> Result<Option<Home>, HomeBecause> {
    if path.is_empty() {
        return Ok(None);
    }
    let path = PathBuf::from(OsString::from_vec(path.to_vec()));
    if !path.is_absolute() {
        return Err(HomeBecause::NotAbsolute);
    }
    if path.components().any(|part| part == Component::ParentDir) {
        return Err(HomeBecause::ParentDirectory);
    }
    // Rebuilt from its parts: no `.`, no doubled or trailing slash.
    let path: PathBuf = path.components().collect();
    if path == Path::new("/") {
        return Ok(None);
    }
    if RESERVED.iter().any(|reserved| path.starts_with(reserved)) {
        return Err(HomeBecause::Reserved);
    }
    if uid >= CONTAINER_IDS || gid >= CONTAINER_IDS {
        return Err(HomeBecause::Owner);
    }
    Ok(Some(Home { path, uid, gid, mode: 0o700 }))
}

/// Parents before what is in them; of two users with one home, the first has it.
pub(super) fn in_order(mut homes: Vec<Home>) -> Vec<Home> {
    homes.sort_by(|a, b| a.path.cmp(&b.path));
    homes.dedup_by(|b, a| a.path == b.path);
    homes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_is_an_absolute_path_that_is_free_to_use() {
        for (path, wanted) in [
            ("/home/alice", Ok(Some("/home/alice"))),
            ("/home//./bob/", Ok(Some("/home/bob"))),
            ("/", Ok(None)),
            ("", Ok(None)),
            ("home/alice", Err(HomeBecause::NotAbsolute)),
            ("/home/../etc", Err(HomeBecause::ParentDirectory)),
            ("/old/home/x", Err(HomeBecause::Reserved)),
            ("//old", Err(HomeBecause::Reserved)),
            ("/older", Ok(Some("/older"))),
            ("/dev/null", Err(HomeBecause::Reserved)),
        ] {
            let found = home(path.as_bytes(), 1000, 1000).map(|home| home.map(|home| home.path));
            assert_eq!(found, wanted.map(|path| path.map(PathBuf::from)), "{path}");
        }
        assert_eq!(home(b"/home/far", 70_000, 1000), Err(HomeBecause::Owner));
    }
}
