//! What a pattern means in one root.

use std::path::{Path, PathBuf};

use tree::LayeredRoot;

use super::{Pattern, RESERVED};
use crate::error::{Code, Failure, Result};

/// More would be no list that anybody has thought of.
const MOST: usize = 100_000;
const MATCHING: glob::MatchOptions = glob::MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: true,
};

/// Whose home, and where it is.
pub type HomeOf = (String, PathBuf);

/// The paths that `pattern` names in `root`; where it has no `*` or the like, whether they are there or not. None, if it has and nothing
/// matches.
///
/// # Errors
/// When a directory cannot be read.
pub fn find(root: &LayeredRoot, pattern: &Pattern, homes: &[HomeOf]) -> Result<Vec<PathBuf>> {
    match pattern {
        Pattern::Packages => Ok(Vec::new()),
        Pattern::Path(path) | Pattern::Changed(path) => below(root, Path::new("/"), path),
        Pattern::Home(path) => {
            let mut found = Vec::new();
            for (_, home) in homes {
                found.extend(below(root, home, path)?);
            }
            Ok(found)
        }
    }
}

fn below(root: &LayeredRoot, start: &Path, pattern: &str) -> Result<Vec<PathBuf>> {
    let mut found = vec![start.to_owned()];
    for name in pattern.split('/').filter(|name| !name.is_empty()) {
        if !name.contains(['*', '?', '[']) {
            found.iter_mut().for_each(|path| path.push(name));
            continue;
        }
        // It was checked when it was read.
        let Ok(pattern) = glob::Pattern::new(name) else { continue };
        let mut next = Vec::new();
        for directory in &found {
            for name in root.names(directory)?.unwrap_or_default() {
                let is_reserved =
                    directory == Path::new("/") && RESERVED.iter().any(|reserved| name == *reserved);
                if pattern.matches_with(&name.to_string_lossy(), MATCHING) && !is_reserved {
                    next.push(directory.join(name));
                }
            }
            if next.len() > MOST {
                return Err(Failure::new(Code::BadValue, format!("`{}` cannot be kept", pattern.as_str()))
                    .because(format!("more than {MOST} names match it"))
                    .unchanged()
                    .hint("name the directory: it is kept with all that is in it"));
            }
        }
        found = next;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_looked_up_name_by_name() {
        let directory = tempfile::tempdir().unwrap();
        let at = |path: &str| directory.path().join(path);
        for path in ["etc/ssh", "srv/a/x", "srv/b", "srv/.hidden/x", "home/alice/.ssh", "old/srv", "proc"] {
            std::fs::create_dir_all(at(path)).unwrap();
        }
        for path in ["etc/ssh/ssh_host_rsa_key", "etc/ssh/ssh_host_rsa_key.pub", "etc/ssh/sshd_config"] {
            std::fs::File::create(at(path)).unwrap();
        }
        std::os::unix::fs::symlink("srv", at("data")).unwrap();
        let root = LayeredRoot::new(tree::Root::open(directory.path()).unwrap(), None);
        let homes = [("root".to_owned(), "/root".into()), ("alice".to_owned(), "/home/alice".into())];
        let found = |line: &str| {
            let found = find(&root, &super::super::parse(line).unwrap(), &homes).unwrap();
            found.iter().map(|path| path.display().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(found("/none/here"), ["/none/here"]);
        assert_eq!(found("/etc/ssh/ssh_host_*_key"), ["/etc/ssh/ssh_host_rsa_key"]);
        assert_eq!(found("/srv/*"), ["/srv/a", "/srv/b"]);
        assert_eq!(found("/srv/.h*/x"), ["/srv/.hidden/x"]);
        assert_eq!(found("/srv/?/x"), ["/srv/a/x", "/srv/b/x"]);
        assert_eq!(found("/data/[ab]"), ["/data/a", "/data/b"]);
        assert_eq!(found("/none/*"), Vec::<String>::new());
        assert_eq!(found("~/.ssh"), ["/root/.ssh", "/home/alice/.ssh"]);
        assert_eq!(found("/*"), ["/data", "/etc", "/home", "/srv"]);
        assert_eq!(found("@packages"), Vec::<String>::new());
    }
}
