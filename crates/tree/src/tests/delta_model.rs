//! What a delta is told to change, against what has changed: random work in a mounted overlay, then its two whole
//! trees compared node by node.
//!
//! The lower tree is copied, and what was told of renamed directories is done to the copy. What then differs
//! between the copy and the mounted tree is what must have been told, no more and no less.

use super::delta::told_below;
use super::layered::Layers;
use super::*;
use crate::{TreeError, snapshot};
use proptest::prelude::*;
use rustix::fs::XattrFlags;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// One thing that somebody in the container does; what cannot be done is not done.
#[derive(Debug, Clone)]
enum Deed {
    Write(String, &'static str),
    Append(String),
    /// Opens it for writing and does no more: it is copied up as it is.
    Open(String),
    Remove(String),
    MakeDirectory(String),
    Rename(String, String),
    Link(String, String),
    Symlink(String, &'static str),
    Fifo(String),
    Mode(String, u32),
    Owner(String, u32),
    Attribute(String, bool),
    Touch(String),
}

/// In a small world, so that the same names are hit again and again.
fn path() -> impl Strategy<Value = String> {
    let name = || prop::sample::select(vec!["a", "b", "c"]);
    prop::collection::vec(name(), 1..4).prop_map(|names| names.join("/"))
}

fn deed() -> impl Strategy<Value = Deed> {
    let text = prop::sample::select(vec!["", "one", "two", "longer than the others"]);
    prop_oneof![
        2 => (path(), text).prop_map(|(path, text)| Deed::Write(path, text)),
        1 => path().prop_map(Deed::Append),
        1 => path().prop_map(Deed::Open),
        2 => path().prop_map(Deed::Remove),
        3 => path().prop_map(Deed::MakeDirectory),
        8 => (path(), path()).prop_map(|(from, to)| Deed::Rename(from, to)),
        1 => (path(), path()).prop_map(|(from, to)| Deed::Link(from, to)),
        1 => (path(), prop::sample::select(vec!["a", "b"])).prop_map(|(path, to)| Deed::Symlink(path, to)),
        1 => path().prop_map(Deed::Fifo),
        1 => (path(), prop::sample::select(vec![0o644, 0o755, 0o600])).prop_map(|(path, mode)| Deed::Mode(path, mode)),
        1 => (path(), 0..2u32).prop_map(|(path, user)| Deed::Owner(path, user)),
        1 => (path(), any::<bool>()).prop_map(|(path, set)| Deed::Attribute(path, set)),
        1 => path().prop_map(Deed::Touch),
    ]
}

/// Does it below `top`.
fn attempt(top: &Path, deed: &Deed) -> std::io::Result<()> {
    use std::os::unix::fs as unix;
    let at = |path: &str| top.join(path);
    // Nobody reads the FIFOs.
    let open = |path: &str, flags: OFlags| -> std::io::Result<std::fs::File> {
        let flags = OFlags::WRONLY | OFlags::NONBLOCK | flags;
        Ok(fs::open(at(path), flags, Mode::from_raw_mode(0o644))?.into())
    };
    match deed {
        Deed::Write(path, text) => open(path, OFlags::CREATE | OFlags::TRUNC)?.write_all(text.as_bytes()),
        Deed::Append(path) => open(path, OFlags::APPEND)?.write_all(b"+"),
        Deed::Open(path) => open(path, OFlags::empty()).map(drop),
        Deed::Remove(path) => {
            let (parent, name) = path.rsplit_once('/').unwrap_or((".", path));
            let parent = fs::open(at(parent), OFlags::PATH, Mode::empty())?;
            crate::remove_entry(parent.as_fd(), name.as_ref()).map(drop).map_err(std::io::Error::other)
        }
        Deed::MakeDirectory(path) => std::fs::create_dir(at(path)),
        Deed::Rename(from, to) => Ok(fs::rename(at(from), at(to))?),
        Deed::Link(from, to) => std::fs::hard_link(at(from), at(to)),
        Deed::Symlink(path, to) => unix::symlink(to, at(path)),
        Deed::Fifo(path) => Ok(fs::mknodat(fs::CWD, at(path), FileType::Fifo, Mode::RWXU, 0)?),
        Deed::Mode(path, mode) => Ok(fs::chmod(at(path), Mode::from_raw_mode(*mode))?),
        Deed::Owner(path, user) => unix::lchown(at(path), Some(*user), None),
        Deed::Attribute(path, true) => Ok(fs::lsetxattr(at(path), "user.a", b"1", XattrFlags::empty())?),
        Deed::Attribute(path, false) => Ok(fs::lremovexattr(at(path), "user.a")?),
        Deed::Touch(path) => open(path, OFlags::empty())?.set_modified(std::time::SystemTime::UNIX_EPOCH),
    }
}

/// Paths with what became of them: `added`, `deleted`, or in what they differ.
type Changes = BTreeMap<String, BTreeSet<String>>;

/// What was told: of the renamed directories where each was, and of the others what became of them.
struct Told {
    renamed: Vec<(String, String)>,
    changes: Changes,
    /// Directories that others took the place of, each with all that was told of it.
    replaced: BTreeMap<String, BTreeSet<String>>,
}

impl Told {
    fn of(lines: &[String]) -> Told {
        let mut told = Told { renamed: Vec::new(), changes: BTreeMap::new(), replaced: BTreeMap::new() };
        for (index, line) in lines.iter().enumerate() {
            let words: Vec<&str> = line.split(' ').collect();
            let path = words[1].trim_start_matches('/').to_owned();
            let of_replaced =
                |line: &&String| line.strip_prefix("D /").is_some_and(|below| is_within(below, &path));
            let differs: BTreeSet<String> = words[2..].iter().map(|word| (*word).to_owned()).collect();
            match words[0] {
                "R" => {
                    let before: Vec<&String> = lines[..index].iter().rev().take_while(of_replaced).collect();
                    for line in &before {
                        told.changes.remove(&line["D /".len()..]);
                    }
                    if !before.is_empty() {
                        let all = before.iter().map(|line| line["D /".len()..].to_owned()).collect();
                        told.replaced.insert(path.clone(), all);
                    }
                    told.renamed.push((words[3].trim_start_matches('/').to_owned(), path.clone()));
                    let differs: BTreeSet<String> =
                        words[4..].iter().map(|word| (*word).to_owned()).collect();
                    if !differs.is_empty() {
                        told.changes.insert(path, differs);
                    }
                }
                "A" => assert_eq!(told.changes.insert(path, ["added".to_owned()].into()), None, "{line}"),
                "D" => assert_eq!(told.changes.insert(path, ["deleted".to_owned()].into()), None, "{line}"),
                _ => assert_eq!(told.changes.insert(path, differs), None, "{line}"),
            }
        }
        told
    }

    /// Does to `copy` what was told of directories. Returns those that had to be made for it, which must have been
    /// told as added, or as another kind.
    fn rename_in(&self, copy: &Path, stash: &Path) -> BTreeSet<String> {
        let mut made = BTreeSet::new();
        let depth = |path: &str| path.matches('/').count();
        let mut out: Vec<(usize, &String)> = self.renamed.iter().map(|(from, _)| from).enumerate().collect();
        out.sort_by_key(|(_, from)| std::cmp::Reverse(depth(from)));
        for (index, from) in out {
            fs::rename(copy.join(from), stash.join(index.to_string())).unwrap();
        }
        let mut back: Vec<(usize, &String)> = self.renamed.iter().map(|(_, to)| to).enumerate().collect();
        back.sort_by_key(|(_, to)| depth(to));
        for (index, to) in back {
            let mut way = String::new();
            for part in to
                .rsplit_once('/')
                .map_or("", |(parent, _)| parent)
                .split('/')
                .filter(|part| !part.is_empty())
            {
                way = if way.is_empty() { part.to_owned() } else { format!("{way}/{part}") };
                if std::fs::symlink_metadata(copy.join(&way)).is_ok_and(|found| found.is_dir()) {
                    continue;
                }
                let _ = std::fs::remove_file(copy.join(&way));
                std::fs::create_dir(copy.join(&way)).unwrap();
                made.insert(way.clone());
            }
            let there: BTreeSet<String> = all_of(copy, to);
            assert_eq!(there, self.replaced.get(to).cloned().unwrap_or_default(), "in the place of {to}");
            if !there.is_empty() {
                attempt(copy, &Deed::Remove(to.clone())).unwrap();
            }
            fs::rename(stash.join(index.to_string()), copy.join(to)).unwrap();
        }
        made
    }
}

fn is_within(path: &str, top: &str) -> bool {
    path.strip_prefix(top).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Every path at and below one, if it is there.
fn all_of(top: &Path, path: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut left = vec![path.to_owned()];
    while let Some(path) = left.pop() {
        let Ok(facts) = std::fs::symlink_metadata(top.join(&path)) else { continue };
        if facts.is_dir() {
            for entry in std::fs::read_dir(top.join(&path)).unwrap() {
                left.push(format!("{path}/{}", entry.unwrap().file_name().to_string_lossy()));
            }
        }
        found.insert(path);
    }
    found
}

/// What has changed from one tree to another, by their snapshots.
fn truth(before: &Path, after: &Path) -> Changes {
    let take = |path: &Path| snapshot(Root::open(path).unwrap().handle()).unwrap();
    let mut changes = BTreeMap::new();
    for line in take(before).differences(&take(after)) {
        let (path, found) = line.split_once(": ").unwrap();
        // Of a whole directory that came or went only its top is told.
        if found == "is new" || found == "is missing" {
            let (word, top) = if found == "is new" { ("added", after) } else { ("deleted", before) };
            for path in all_of(top, path) {
                changes.insert(path, [word.to_owned()].into());
            }
            continue;
        }
        let mut aspects: BTreeSet<String> = found.split("; ").filter_map(aspect).map(str::to_owned).collect();
        if aspects.contains("kind") {
            aspects = ["kind".to_owned()].into();
        }
        if !aspects.is_empty() {
            let path = if path == "." { "" } else { path };
            changes.insert(path.to_owned(), aspects);
        }
    }
    changes
}

fn aspect(words: &str) -> Option<&'static str> {
    let begins = |start: &str| words.starts_with(start);
    if begins("modified") || words.contains("the same file as") || words.contains("several links") {
        return None;
    }
    Some(match words {
        _ if begins("was ") => "kind",
        _ if begins("mode ") => "mode",
        _ if begins("owner ") => "owner",
        _ if begins("attribute ") => "attributes",
        _ if begins("pointed ") => "target",
        _ if words.contains("bytes, now") || words == "other contents" => "contents",
        other => panic!("what is `{other}`?"),
    })
}

fn check(before: &[Deed], deeds: &[Deed], again: &[Deed]) {
    let layers = Layers::new();
    let at = |name: &str| layers.scene.at(name);
    for directory in ["a/a", "a/b", "b/a/a", "b/b", "c"] {
        layers
            .scene
            .directory(&format!("lower/{directory}"))
            .file(&format!("lower/{directory}/c"), directory);
    }
    for deed in before {
        let _ = attempt(&at("lower"), deed);
    }
    layers.scene.directory("stash");
    let copied = Command::new("cp").arg("-a").args([at("lower"), at("copy")]).status().unwrap();
    assert!(copied.success());
    // The second time it is mounted, a redirect is read from the disk.
    let mount = |work: &str| {
        layers.scene.directory(work);
        Mounted::overlay_unsynced(&at("lower"), &at("upper"), &at(work), at("merged"))
    };
    for (work, deeds) in [("work", deeds), ("work-again", again)] {
        let Some(_mounted) = mount(work) else { return };
        for deed in deeds {
            let _ = attempt(&at("merged"), deed);
        }
    }
    let Some(_mounted) = mount("work-for-a-look") else { return };
    let lines = told_below(&layers.scene, "/").unwrap();
    let mut told = Told::of(&lines);
    let made = told.rename_in(&at("copy"), &at("stash"));
    let mut expected = truth(&at("copy"), &at("merged"));
    for path in made {
        let found = told.changes.remove(&path).unwrap_or_default();
        assert!(found.contains("added") || found.contains("kind"), "{path} is {found:?} in {lines:#?}");
        expected.remove(&path);
    }
    assert_eq!(told.changes, expected, "{lines:#?}");
    // From a path on it is the same, but for what came from elsewhere or went there.
    if told.renamed.is_empty() {
        for below in ["a", "a/b", "c"] {
            let some: Vec<String> = lines
                .iter()
                .filter(|line| is_within(line.split(' ').nth(1).unwrap().trim_start_matches('/'), below))
                .cloned()
                .collect();
            match told_below(&layers.scene, below) {
                Ok(found) => assert_eq!(found, some, "below {below}"),
                Err(TreeError::Missing { .. }) => assert_eq!(some, [""; 0], "below {below}"),
                Err(TreeError::SymlinkOnTheWay { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn prop_root_what_is_told_is_what_has_changed(
        before in prop::collection::vec(deed(), 0..10),
        deeds in prop::collection::vec(deed(), 0..40),
        again in prop::collection::vec(deed(), 0..20),
    ) {
        if is_root() {
            check(&before, &deeds, &again);
        }
    }
}
