//! Everything that a container could tell apart in one of its roots: the tree of its delta, and where its files have their holes. What lies
//! below, the template, never changes.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::SeekFrom;
use rustix::io::Errno;
use store::{Area, GenerationNumber};
use tree::Snapshot;

use super::{Judged, Violation, records};

/// More differences than this are counted only.
const SHOWN: usize = 8;

/// One root at one time.
#[derive(Debug, Clone)]
pub struct RootFacts {
    tree: Snapshot,
    /// Begin and end of the data in files that have holes.
    data: BTreeMap<PathBuf, Vec<(u64, u64)>>,
}

impl RootFacts {
    /// Looks at a generation.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn of(area: &Area, number: u32) -> Judged<RootFacts> {
        let directory = super::layers(area, GenerationNumber::new(number)).join("delta");
        let handle = File::open(&directory).map_err(|error| {
            Violation::new("no file of an old root is lost", format!("{}: {error}", directory.display()))
        })?;
        let tree = tree::snapshot(handle.as_fd()).map_err(records)?;
        Ok(RootFacts { tree, data: sparse_files(&directory) })
    }

    /// The same root again: nothing of it is another, but for files that are at, or below, one of `but`, the times of the directories of those, and what a death
    /// has left there of a file that was being made.
    ///
    /// # Errors
    /// With the first files that are.
    pub fn compare(&self, area: &Area, number: u32, but: &[&str]) -> Judged<()> {
        let now = RootFacts::of(area, number)?;
        let mut different: Vec<String> =
            self.tree.differences(&now.tree).iter().filter_map(|line| of_the_container(line)).collect();
        different.retain(|line| !is_of(line, but));
        for (path, data) in &self.data {
            if now.data.get(path) != Some(data) {
                different.push(format!("{}: its holes are elsewhere", path.display()));
            }
        }
        if different.is_empty() {
            return Ok(());
        }
        let more = different.len().saturating_sub(SHOWN);
        different.truncate(SHOWN);
        let mut what = format!("generation {number}: {}", different.join("; "));
        if more > 0 {
            what.push_str(&format!("; and {more} more"));
        }
        Err(Violation::new("no file of an old root is lost", what))
    }
}

/// What a reinstall may be asked to keep, for those that are judged by it.
pub const KEPT: &str = "/srv";

/// That part of a root's delta.
#[derive(Debug, Clone)]
pub struct KeptPart(Option<Snapshot>);

impl KeptPart {
    /// Looks at a generation.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn of(area: &Area, number: u32) -> Judged<KeptPart> {
        let delta = super::layers(area, GenerationNumber::new(number)).join("delta");
        let directory = delta.join(KEPT.trim_start_matches('/'));
        match File::open(&directory) {
            Ok(handle) => Ok(KeptPart(Some(tree::snapshot(handle.as_fd()).map_err(records)?))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(KeptPart(None)),
            Err(error) => Err(records(error)),
        }
    }

    /// The same in another root.
    ///
    /// # Errors
    /// With the first files that are others.
    pub fn compare(&self, now: &KeptPart) -> Judged<()> {
        let violated = |what: String| Err(Violation::new("what was to be kept is in the new root", what));
        match (&self.0, &now.0) {
            (Some(before), Some(now)) if before.entries() > 0 => {
                let mut different: Vec<String> =
                    before.differences(now).iter().filter_map(|line| of_the_container(line)).collect();
                different.truncate(SHOWN);
                if different.is_empty() { Ok(()) } else { violated(different.join("; ")) }
            }
            (before, now) => violated(format!(
                "{KEPT} had {} entries and has {}",
                before.as_ref().map_or(0, Snapshot::entries),
                now.as_ref().map_or(0, Snapshot::entries)
            )),
        }
    }
}

/// Whether what a line tells is of one of those files, or only that something else has a name in their directory now.
fn is_of(line: &str, files: &[&str]) -> bool {
    let Some((path, what)) = line.split_once(": ") else { return false };
    let path = Path::new(if path == "." { "" } else { path });
    files.iter().map(Path::new).any(|file| {
        let is_half_made = path.parent() == file.parent() && is_half_made(path);
        path.starts_with(file) || is_half_made || file.parent() == Some(path) && is_time(what)
    })
}

/// As `tree` calls what it has not finished.
pub(super) fn is_half_made(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".reroot-"))
}

fn is_time(what: &str) -> bool {
    what.starts_with("modified ") && !what.contains("; ")
}

/// Without what overlayfs notes for itself at the first mount of a layer (`origin`, `impure`, `uuid`): no container can see it.
fn of_the_container(line: &str) -> Option<String> {
    let is_noted = |part: &&str| {
        let attribute = part
            .split_once("attribute `trusted.overlay.")
            .and_then(|(_, rest)| rest.strip_suffix("` is new"));
        attribute.is_some_and(|attribute| ["origin", "impure", "uuid"].contains(&attribute))
    };
    let path = line.split(": attribute `").next().unwrap_or_default();
    let parts: Vec<&str> = line.split("; ").collect();
    let rest: Vec<&str> = parts.iter().copied().filter(|part| !is_noted(part)).collect();
    match (rest.len(), parts.len()) {
        (0, _) => None,
        (rest, all) if rest == all => Some(line.to_owned()),
        _ if is_noted(&parts[0]) => Some(format!("{path}: {}", rest.join("; "))),
        _ => Some(rest.join("; ")),
    }
}

/// By path below `top`. Only the test's own roots are looked at this way, by name.
fn sparse_files(top: &Path) -> BTreeMap<PathBuf, Vec<(u64, u64)>> {
    use std::os::unix::fs::MetadataExt;
    let mut found = BTreeMap::new();
    let mut todo = vec![top.to_owned()];
    while let Some(directory) = todo.pop() {
        for entry in std::fs::read_dir(&directory).into_iter().flatten().flatten() {
            let Ok(facts) = entry.metadata() else { continue };
            if facts.is_dir() {
                todo.push(entry.path());
            } else if facts.is_file() && facts.blocks() * 512 < facts.size() {
                let below = entry.path().strip_prefix(top).map(Path::to_owned).unwrap_or_default();
                found.insert(below, data_of(&entry.path(), facts.size()));
            }
        }
    }
    found
}

/// As of lseek(2), `SEEK_DATA`.
fn data_of(path: &Path, size: u64) -> Vec<(u64, u64)> {
    let mut parts = Vec::new();
    let Ok(file) = File::open(path) else { return parts };
    let mut at = 0;
    while at < size {
        let begin = match rustix::fs::seek(&file, SeekFrom::Data(at)) {
            Ok(begin) => begin,
            // Nothing but a hole from here to the end.
            Err(Errno::NXIO) => break,
            Err(_) => return vec![(0, size)],
        };
        let end = rustix::fs::seek(&file, SeekFrom::Hole(begin)).unwrap_or(size);
        parts.push((begin, end));
        at = end.max(begin + 1);
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_overlayfs_notes_for_itself_is_no_difference() {
        let noted = "attribute `trusted.overlay.origin` is new";
        assert_eq!(of_the_container(&format!("root: {noted}")), None);
        // These hide what lies below.
        for hiding in ["opaque", "redirect", "whiteout"] {
            let line = format!("root: attribute `trusted.overlay.{hiding}` is new");
            assert_eq!(of_the_container(&line), Some(line));
        }
        assert_eq!(
            of_the_container(&format!("a: {noted}; mode 644, now 600")).unwrap(),
            "a: mode 644, now 600"
        );
        assert_eq!(of_the_container(&format!("a: other contents; {noted}")).unwrap(), "a: other contents");
        let lost = "a: attribute `trusted.overlay.opaque` is missing";
        assert_eq!(of_the_container(lost).unwrap(), lost);
    }
}
