//! One number for a whole tree: two trees have the same digest if and only if a container could not tell
//! them apart, timestamps aside. Templates are named by it.
//!
//! A record for every node, a directory before what is in it, names in the order of their bytes, so it does
//! not depend on the order of creation or on the filesystem. A record says where its node is by depth and
//! name. Everything of variable length has its length before it. Bump `FORMAT` when any of this changes.
//!
//! ```text
//!   depth, name, kind, mode, uid, gid, xattrs, then
//!     file       number of the first hard link to it in the tree, or: size, digest of the contents
//!     symlink    target
//!     device     major, minor
//! ```

use crate::error::TreeError;
use crate::node::{self, Facts, Identity};
use crate::{contents, descent};
use rustix::fs::{self, FileType};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::os::fd::BorrowedFd;
use std::path::Path;

const FORMAT: &[u8] = b"reroot tree 1";

/// The digest of a tree with its size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeDigest {
    /// 64 hexadecimal digits.
    pub hex: String,
    /// Of regular files, hard links once.
    pub bytes: u64,
    /// What all of it takes on the disk, hard links once: holes cost nothing, and what is shared with another tree is counted.
    pub allocated: u64,
    /// Without the top directory.
    pub entries: u64,
}

/// Is told of each node: its path, and a digest of all that is known of it but its name and, of a further hard link, of which file it is one.
pub type Nodes<'a> = &'a mut dyn FnMut(&Path, &[u8; 32]);

/// The digest of everything below `dir`, and of the owner, mode and attributes of `dir` itself.
/// Something mounted in it counts as a mount point and is not entered.
pub fn digest(dir: BorrowedFd<'_>) -> Result<TreeDigest, TreeError> {
    digest_of_nodes(dir, &mut |_, _| {})
}

/// The same, and that of each node.
pub fn digest_of_nodes(dir: BorrowedFd<'_>, nodes: Nodes<'_>) -> Result<TreeDigest, TreeError> {
    let mut state = State {
        hash: Sha256::new(),
        node: Sha256::new(),
        bytes: 0,
        allocated: 0,
        entries: 0,
        links: HashMap::new(),
    };
    state.field(FORMAT);
    let failed = |error| TreeError::io("read", Path::new("."), error);
    let top = node::facts(dir).map_err(failed)?;
    state.number(0);
    state.common(dir, &top).map_err(failed)?;
    nodes(Path::new("."), &state.node.finalize_reset().into());
    descent::walk(dir, |visit| {
        state.entries += 1;
        state.number(visit.depth as u64);
        state.field(visit.name.to_bytes());
        // Of what comes from here on.
        state.node = Sha256::new();
        if visit.is_mount_point {
            state.field(b"mount point");
        } else {
            state.node(visit.handle, visit.facts).map_err(visit.failed("read"))?;
        }
        nodes(&visit.path(), &state.node.finalize_reset().into());
        Ok::<(), TreeError>(())
    })?;
    let hex = contents::hex(&state.hash.finalize());
    Ok(TreeDigest { hex, bytes: state.bytes, allocated: state.allocated, entries: state.entries })
}

struct State {
    hash: Sha256,
    /// Of the present node alone.
    node: Sha256,
    bytes: u64,
    allocated: u64,
    entries: u64,
    /// Files with several links: the number of the entry where each was met first.
    links: HashMap<Identity, u64>,
}

impl State {
    fn node(&mut self, handle: BorrowedFd<'_>, facts: &Facts) -> Result<(), Errno> {
        if facts.links > 1 && !facts.is_directory() {
            let here = self.entries;
            let first = *self.links.entry(facts.identity).or_insert(here);
            if first != here {
                self.field(b"link");
                // Not of the node: it changes with whatever comes before it.
                self.hash.update(first.to_le_bytes());
                return Ok(());
            }
        }
        self.common(handle, facts)?;
        self.allocated = self.allocated.saturating_add(facts.allocated);
        match facts.file_type {
            FileType::RegularFile => {
                let (size, digest) = contents::digest(handle)?;
                self.bytes += size;
                self.number(size);
                self.field(&digest);
            }
            FileType::Symlink => self.field(fs::readlinkat(handle, c"", Vec::new())?.to_bytes()),
            FileType::CharacterDevice | FileType::BlockDevice => {
                self.number(u64::from(facts.device.0));
                self.number(u64::from(facts.device.1));
            }
            FileType::Directory | FileType::Fifo | FileType::Socket | FileType::Unknown => {}
        }
        Ok(())
    }

    fn common(&mut self, handle: BorrowedFd<'_>, facts: &Facts) -> Result<(), Errno> {
        self.field(facts.kind().as_bytes());
        for number in [facts.mode, facts.uid, facts.gid] {
            self.number(u64::from(number));
        }
        let attributes = node::attributes(handle)?;
        self.number(attributes.len() as u64);
        for (name, value) in attributes {
            self.field(name.to_bytes());
            self.field(&value);
        }
        Ok(())
    }

    fn field(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.hash.update(bytes);
        self.node.update(bytes);
    }

    fn number(&mut self, number: u64) {
        self.hash.update(number.to_le_bytes());
        self.node.update(number.to_le_bytes());
    }
}
