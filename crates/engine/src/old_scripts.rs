//! `--scripts-from-old`: the scripts that lie in the old root itself, in its `/etc/vz/reinstall.d`.
//!
//! That root may be broken or hostile, and what lies in it is the container's: such a script is only ever run in the container, and only when the
//! user says so. It is read by handle before anything is touched, and what was read is what is run. One that its root would not run (no regular file,
//! not executable, somebody else's, or writable by others) is passed over; where somebody else could have written it, that is told.

use std::path::{Path, PathBuf};

use tree::{Kind, LayeredRoot, TreeError};

use crate::error::Result;
use crate::host::{Container, damaged};
use crate::operation::layers;
use crate::scripts::ListedScript;

/// Where they are, in the old root.
const DIRECTORY: &str = "/etc/vz/reinstall.d";
/// A script larger than this is none.
const LARGEST: u64 = 1024 * 1024;
/// As large is a description, at most.
const LARGEST_DESCRIPTION: u64 = 4096;
/// Whose they are: ids on disk are the container's own.
const ROOT: u32 = 0;
/// More are not looked for.
const MOST: usize = 100;

/// A script of the old root.
#[derive(Debug, Clone)]
pub struct OldScript {
    /// Its file name.
    pub file: String,
    /// What it is called where a script of the host may have the same file name: `old:10-mail.sh`.
    pub name: String,
    /// Where it is while it runs: below `/old`.
    pub path: PathBuf,
    /// What stands in it.
    pub text: Vec<u8>,
    /// The first line of its `.desc`.
    pub description: Option<String>,
}

/// Those of a root, and what is to be told of the ones that are passed over.
#[derive(Debug, Default)]
pub struct Found {
    /// Sorted by their bytes.
    pub scripts: Vec<OldScript>,
    /// A line each.
    pub told: Vec<String>,
}

/// Reads the scripts of the live root.
///
/// # Errors
/// When the container's records cannot be read. What of its root cannot be is told.
pub fn read(container: &Container<'_>) -> Result<Found> {
    let live = container.area.live().map_err(|error| damaged(error, &container.name))?;
    Ok(read_from(&layers(container, live)?, ROOT))
}

fn read_from(root: &LayeredRoot, owner: u32) -> Found {
    let mut found = Found::default();
    let told = |name: &str, because: &str| {
        format!("{DIRECTORY}/{} of the old root is not run: {because}", tree::escaped(name.as_bytes()))
    };
    let names = match root.names(Path::new(DIRECTORY)) {
        Ok(names) => names.unwrap_or_default(),
        Err(error) => {
            let because = runtime::monitor::describe(&error);
            found.told.push(format!("{DIRECTORY} of the old root cannot be read: {because}"));
            return found;
        }
    };
    let names = names.into_iter().filter_map(|name| name.into_string().ok());
    for file in names.filter(|name| name.ends_with(".sh") && !name.chars().any(char::is_control)) {
        if found.scripts.len() == MOST {
            found
                .told
                .push(format!("{DIRECTORY} of the old root has more than {MOST} scripts: those are run"));
            break;
        }
        match read_script(root, &file, owner) {
            Ok(Some(script)) => found.scripts.push(script),
            Ok(None) => {}
            Err(because) => found.told.push(told(&file, &because)),
        }
    }
    found
}

/// `None`: it is no script, as of those of the host.
fn read_script(root: &LayeredRoot, file: &str, owner: u32) -> std::result::Result<Option<OldScript>, String> {
    let words = |error: TreeError| runtime::monitor::describe(&error);
    let inside = Path::new(DIRECTORY).join(file);
    // Asked first: a link would be followed below.
    match root.kind(&inside).map_err(words)? {
        Some(Kind::File { mode, .. }) if mode & 0o100 != 0 => {}
        _ => return Ok(None),
    }
    let Some(read) = root.read_file(&inside, LARGEST).map_err(words)? else { return Ok(None) };
    if read.uid != owner {
        return Err(format!("it belongs to user {}", read.uid));
    }
    if read.mode & 0o022 != 0 {
        return Err("others than its owner may write to it".to_owned());
    }
    let description = inside.with_extension("desc");
    let description = root.read_file(&description, LARGEST_DESCRIPTION).ok().flatten();
    let description = description.map(|text| {
        let line = text.bytes.split(|&byte| byte == b'\n').next().unwrap_or_default();
        tree::escaped(line)
    });
    Ok(Some(OldScript {
        file: file.to_owned(),
        name: format!("old:{file}"),
        path: Path::new("/old").join(inside.strip_prefix("/").unwrap_or(&inside)),
        text: read.bytes,
        description,
    }))
}

/// As `--listscripts` tells of them.
pub fn list(found: &Found) -> Vec<ListedScript> {
    let listed = found
        .scripts
        .iter()
        .map(|script| ListedScript { name: script.file.clone(), description: script.description.clone() });
    listed.collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use rustix::fs::{CWD, FileType, mknodat};

    use super::*;

    #[test]
    fn only_what_the_containers_root_would_run_is_a_script() {
        let directory = tempfile::tempdir().unwrap();
        let scripts = directory.path().join("etc/vz/reinstall.d");
        std::fs::create_dir_all(&scripts).unwrap();
        let put = |name: &str, mode: u32, size: u64| {
            let file = std::fs::File::create(scripts.join(name)).unwrap();
            file.set_len(size).unwrap();
            file.set_permissions(std::fs::Permissions::from_mode(mode)).unwrap();
        };
        for name in ["b.sh", "B.sh", "10-a.sh"] {
            put(name, 0o755, 10);
        }
        put("plain.sh", 0o644, 10);
        put("other.txt", 0o755, 10);
        put("shared.sh", 0o777, 10);
        put("huge.sh", 0o755, LARGEST + 1);
        symlink("/etc/shadow", scripts.join("link.sh")).unwrap();
        symlink("b.sh", scripts.join("near.sh")).unwrap();
        std::fs::create_dir(scripts.join("dir.sh")).unwrap();
        mknodat(CWD, scripts.join("fifo.sh"), FileType::Fifo, 0o755.into(), 0).unwrap();
        let own = rustix::process::getuid().as_raw();
        for (upper, lower) in [("", None), ("empty", Some(""))] {
            let upper = directory.path().join(upper);
            let _ = std::fs::create_dir(&upper);
            let open = |path: &Path| tree::Root::open(path).unwrap();
            let root = LayeredRoot::new(open(&upper), lower.map(|lower| open(&directory.path().join(lower))));
            let found = read_from(&root, own);
            let names: Vec<&str> = found.scripts.iter().map(|script| script.name.as_str()).collect();
            assert_eq!(names, ["old:10-a.sh", "old:B.sh", "old:b.sh"]);
            assert!(found.told.iter().any(|line| line.contains("shared.sh")), "{:?}", found.told);
            assert!(found.told.iter().any(|line| line.contains("huge.sh")), "{:?}", found.told);
            assert_eq!(found.told.len(), 2, "{:?}", found.told);
            let others = read_from(&root, own + 1);
            assert!(
                others.scripts.is_empty() && others.told[0].ends_with(&format!("it belongs to user {own}"))
            );
        }
    }
}
