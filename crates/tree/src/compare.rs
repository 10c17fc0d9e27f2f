//! Two trees, or one at two times, compared node by node: the proof that nothing was lost.
//!
//! A snapshot holds all that a container's root could tell apart, in memory, timestamps of contents
//! included; not held are access and change times, inode numbers, and where a file has its holes.
//! Nodes are kept by parent and name, so a tree 100,000 deep takes no more than a flat one.

use crate::contents;
use crate::descent;
use crate::error::TreeError;
use crate::escape::{escaped, escaped_path};
use crate::node::{self, Facts, Identity, as_path};
use rustix::fs::{self, FileType};
use rustix::io::Errno;
use std::collections::HashMap;
use std::ffi::CString;
use std::os::fd::BorrowedFd;
use std::path::Path;

/// Everything in a tree at one time.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The top first; the children of each in the order of their names.
    nodes: Vec<Node>,
}

#[derive(Debug, Clone)]
struct Node {
    parent: usize,
    name: CString,
    kind: &'static str,
    mode: u32,
    uid: u32,
    gid: u32,
    modified: (i64, u32),
    attributes: Vec<(CString, Vec<u8>)>,
    contents: Contents,
    /// The first node in the tree that is the same file.
    first_link: Option<usize>,
    children: Vec<usize>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Contents {
    None,
    File { size: u64, digest: [u8; 32] },
    Symlink(Vec<u8>),
    Device(u32, u32),
}

/// Takes a snapshot of everything below `dir`, and of `dir` itself.
/// Something mounted in it is noted as a mount point and not entered.
pub fn snapshot(dir: BorrowedFd<'_>) -> Result<Snapshot, TreeError> {
    let failed = |error| TreeError::io("read", Path::new("."), error);
    let facts = node::facts(dir).map_err(failed)?;
    let top = Node::read(dir, &facts, 0, CString::default()).map_err(failed)?;
    let mut nodes = vec![top];
    // The last node met on each level: the parent of what comes next one level deeper.
    let mut way = vec![0];
    let mut links: HashMap<Identity, usize> = HashMap::new();
    descent::walk(dir, |visit| {
        way.truncate(visit.depth);
        let parent = way[visit.depth - 1];
        let index = nodes.len();
        let mut node = if visit.is_mount_point {
            Node::mount_point(parent, visit.name.to_owned())
        } else {
            Node::read(visit.handle, visit.facts, parent, visit.name.to_owned())
                .map_err(visit.failed("read"))?
        };
        if visit.facts.links > 1 && !visit.facts.is_directory() {
            let first = *links.entry(visit.facts.identity).or_insert(index);
            // A file whose other links lie outside the tree is a single one here.
            if first != index {
                node.first_link = Some(first);
                nodes[first].first_link = Some(first);
            }
        }
        nodes.push(node);
        nodes[parent].children.push(index);
        way.push(index);
        Ok::<(), TreeError>(())
    })?;
    Ok(Snapshot { nodes })
}

impl Node {
    fn read(handle: BorrowedFd<'_>, facts: &Facts, parent: usize, name: CString) -> Result<Node, Errno> {
        let contents = match facts.file_type {
            FileType::RegularFile => {
                let (size, digest) = contents::digest(handle)?;
                Contents::File { size, digest }
            }
            FileType::Symlink => Contents::Symlink(fs::readlinkat(handle, c"", Vec::new())?.into_bytes()),
            FileType::CharacterDevice | FileType::BlockDevice => {
                Contents::Device(facts.device.0, facts.device.1)
            }
            FileType::Directory | FileType::Fifo | FileType::Socket | FileType::Unknown => Contents::None,
        };
        Ok(Node {
            parent,
            name,
            kind: facts.kind(),
            mode: facts.mode,
            uid: facts.uid,
            gid: facts.gid,
            modified: facts.modified,
            attributes: node::attributes(handle)?,
            contents,
            first_link: None,
            children: Vec::new(),
        })
    }

    fn mount_point(parent: usize, name: CString) -> Node {
        Node {
            parent,
            name,
            kind: "a mount point",
            mode: 0,
            uid: 0,
            gid: 0,
            modified: (0, 0),
            attributes: Vec::new(),
            contents: Contents::None,
            first_link: None,
            children: Vec::new(),
        }
    }
}

impl Snapshot {
    /// How many entries the tree has, its top not counted.
    pub fn entries(&self) -> usize {
        self.nodes.len() - 1
    }

    /// What is different in `other`, a line each, in the order of the tree; names are escaped.
    pub fn differences(&self, other: &Snapshot) -> Vec<String> {
        let mut comparison =
            Comparison { before: self, after: other, partner: HashMap::new(), lines: Vec::new() };
        // In the order of the tree, so that the first link of a file is paired before the others.
        let mut pairs = vec![(0, 0)];
        while let Some((before, after)) = pairs.pop() {
            comparison.pair(before, after);
            let below = comparison.children(before, after);
            pairs.extend(below.into_iter().rev());
        }
        comparison.lines
    }

    fn path(&self, mut index: usize) -> String {
        let mut names = Vec::new();
        while index != 0 {
            names.push(self.nodes[index].name.to_bytes());
            index = self.nodes[index].parent;
        }
        if names.is_empty() {
            return ".".to_owned();
        }
        names.reverse();
        escaped_path(as_path(&names.join(&b'/')))
    }
}

struct Comparison<'a> {
    before: &'a Snapshot,
    after: &'a Snapshot,
    partner: HashMap<usize, usize>,
    lines: Vec<String>,
}

impl Comparison<'_> {
    fn pair(&mut self, before: usize, after: usize) {
        let (old, new) = (&self.before.nodes[before], &self.after.nodes[after]);
        let mut found = Vec::new();
        if old.kind != new.kind {
            found.push(format!("was {}, is {}", old.kind, new.kind));
        }
        if old.mode != new.mode {
            found.push(format!("mode {:04o}, now {:04o}", old.mode, new.mode));
        }
        if (old.uid, old.gid) != (new.uid, new.gid) {
            found.push(format!("owner {}:{}, now {}:{}", old.uid, old.gid, new.uid, new.gid));
        }
        if old.modified != new.modified {
            let ((a, b), (c, d)) = (old.modified, new.modified);
            found.push(format!("modified {a}.{b:09}, now {c}.{d:09}"));
        }
        found.extend(attribute_differences(&old.attributes, &new.attributes));
        found.extend(contents_difference(&old.contents, &new.contents));
        if old.first_link.is_some() {
            self.partner.insert(before, after);
        }
        let expected = old.first_link.and_then(|first| self.partner.get(&first).copied());
        if expected != new.first_link {
            found.push(self.link_difference((before, old.first_link), (after, new.first_link)));
        }
        if !found.is_empty() {
            self.lines.push(format!("{}: {}", self.before.path(before), found.join("; ")));
        }
    }

    fn link_difference(&self, old: (usize, Option<usize>), new: (usize, Option<usize>)) -> String {
        let named = |snapshot: &Snapshot, (index, first): (usize, Option<usize>)| match first {
            Some(first) if first == index => "the first of several links".to_owned(),
            Some(first) => format!("the same file as `{}`", snapshot.path(first)),
            None => "a file of its own".to_owned(),
        };
        format!("was {}, is {}", named(self.before, old), named(self.after, new))
    }

    /// The children of both, paired by name; those without a partner are reported.
    fn children(&mut self, before: usize, after: usize) -> Vec<(usize, usize)> {
        let mut pairs = Vec::new();
        let mut news = self.after.nodes[after].children.iter().copied().peekable();
        for &old in &self.before.nodes[before].children {
            let name = &self.before.nodes[old].name;
            while let Some(new) = news.next_if(|&new| self.after.nodes[new].name < *name) {
                self.lines.push(format!("{}: is new", self.after.path(new)));
            }
            match news.next_if(|&new| self.after.nodes[new].name == *name) {
                Some(new) => pairs.push((old, new)),
                None => self.lines.push(format!("{}: is missing", self.before.path(old))),
            }
        }
        for new in news {
            self.lines.push(format!("{}: is new", self.after.path(new)));
        }
        pairs
    }
}

fn attribute_differences(old: &[(CString, Vec<u8>)], new: &[(CString, Vec<u8>)]) -> Vec<String> {
    let mut found = Vec::new();
    for (name, value) in old {
        let shown = escaped(name.to_bytes());
        match new.iter().find(|(other, _)| other == name) {
            None => found.push(format!("attribute `{shown}` is missing")),
            Some((_, other)) if other != value => found.push(format!("attribute `{shown}` differs")),
            Some(_) => {}
        }
    }
    for (name, _) in new {
        if !old.iter().any(|(other, _)| other == name) {
            found.push(format!("attribute `{}` is new", escaped(name.to_bytes())));
        }
    }
    found
}

fn contents_difference(old: &Contents, new: &Contents) -> Option<String> {
    match (old, new) {
        (old, new) if old == new => None,
        (Contents::File { size: a, .. }, Contents::File { size: b, .. }) if a != b => {
            Some(format!("{a} bytes, now {b}"))
        }
        (Contents::File { .. }, Contents::File { .. }) => Some("other contents".to_owned()),
        (Contents::Symlink(a), Contents::Symlink(b)) => {
            Some(format!("pointed to `{}`, points to `{}`", escaped(a), escaped(b)))
        }
        (Contents::Device(a, b), Contents::Device(c, d)) => Some(format!("device {a}:{b}, now {c}:{d}")),
        // Another kind altogether, which has been said.
        (Contents::None | Contents::File { .. } | Contents::Symlink(_) | Contents::Device(..), _) => None,
    }
}
