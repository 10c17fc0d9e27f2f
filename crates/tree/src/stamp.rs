//! Whether anything in a tree has changed between two looks at it: names, owners, modes, sizes, and when the kernel last changed each node.
//!
//! No contents are read: whoever writes to a file, or changes anything else of it, moves its `ctime`, which nobody can set (inode(7)).

use std::os::fd::BorrowedFd;

use sha2::{Digest, Sha256};

use crate::descent;
use crate::error::TreeError;
use crate::node;

/// What a tree was like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    /// Entries below the top.
    pub entries: u64,
    digest: [u8; 32],
}

/// Looks at everything below `top`, and at `top` itself.
///
/// # Errors
/// When a directory cannot be read; also when something in it goes meanwhile.
pub fn stamp(top: BorrowedFd<'_>) -> Result<Stamp, TreeError> {
    let mut digest = Sha256::new();
    let mut add = |depth: usize, name: &[u8], facts: &node::Facts| {
        digest.update((depth as u64).to_le_bytes());
        digest.update((name.len() as u64).to_le_bytes());
        digest.update(name);
        for number in [facts.identity.inode, facts.size, facts.changed.0.cast_unsigned()] {
            digest.update(number.to_le_bytes());
        }
        for number in [facts.changed.1, facts.mode, facts.uid, facts.gid] {
            digest.update(number.to_le_bytes());
        }
    };
    let facts =
        node::facts(top).map_err(|error| TreeError::io("look at", std::path::Path::new("/"), error))?;
    add(0, b"", &facts);
    let mut entries = 0;
    descent::walk::<TreeError>(top, |visit| {
        entries += 1;
        add(visit.depth, visit.name.to_bytes(), visit.facts);
        Ok(())
    })?;
    Ok(Stamp { entries, digest: digest.finalize().into() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::Write;
    use std::os::fd::AsFd;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn every_change_is_seen_and_a_look_is_none() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        std::fs::create_dir(path("d")).unwrap();
        File::create(path("d/file")).unwrap().write_all(b"one").unwrap();
        let top = File::open(directory.path()).unwrap();
        let look = || stamp(top.as_fd()).unwrap();
        let mut last = look();
        assert_eq!(last.entries, 2);
        std::fs::read(path("d/file")).unwrap();
        assert_eq!(look(), last);
        let modified = File::open(path("d/file")).unwrap().metadata().unwrap().modified().unwrap();
        let changes: [(&str, &dyn Fn()); 4] = [
            ("contents of the same length and times", &|| {
                let mut file = File::options().write(true).open(path("d/file")).unwrap();
                file.write_all(b"two").unwrap();
                file.set_modified(modified).unwrap();
            }),
            ("a mode", &|| {
                let file = File::open(path("d/file")).unwrap();
                file.set_permissions(std::fs::Permissions::from_mode(0o600)).unwrap();
            }),
            ("a name", &|| std::fs::hard_link(path("d/file"), path("other")).unwrap()),
            ("one that is gone", &|| std::fs::remove_file(path("d/file")).unwrap()),
        ];
        for (what, change) in changes {
            // Two changes within one tick of the kernel's clock have one time.
            loop {
                change();
                let now = look();
                if now != last {
                    last = now;
                    break;
                }
                assert_eq!(what, "contents of the same length and times", "{what} was not seen");
            }
        }
    }
}
