//! Parts of an old root into a new one that nobody has mounted yet, with everything that a file has.
//!
//! Both are two layers read by handle, never a mounted overlay: owners are the container's own, and contents are shared with the old file where
//! the filesystem can (`FICLONE`), which no mount in between would allow. Kept are contents, holes, owner, mode, attributes (ACLs and
//! capabilities among them), times, and hard links among all that one [`Copier`] copies. Device nodes are not: `/dev` is made at every start.
//!
//! The old one wins. A file of the new root that is in the way and says something else is saved beside it as `NAME.template-new`; directories
//! are joined, with the old one's owner and mode. What is the same in both is left alone. So to copy a second time changes nothing.
//!
//! **Nothing written here is durable**: the commit of the new root syncs its filesystem.

use crate::contents;
use crate::error::TreeError;
use crate::layered::LayeredRoot;
use crate::layered::copy_up_directory;
use crate::layered_walk::{LayeredWalk, Step};
use crate::merged::{Found, Merged, OPAQUE};
use crate::node::{self, Facts, Identity, as_path};
use crate::remove::remove_entry;
use crate::transfer::{self, Transfer};
use rustix::fs::{self, AtFlags, Mode};
use rustix::io::Errno;
use std::collections::{BTreeMap, HashMap};
use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

const SAVED: &[u8] = b".template-new";
/// NAME_MAX of limits.h.
const LONGEST_NAME: usize = 255;

/// What was copied so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Copied {
    /// Files, directories and all else.
    pub entries: u64,
    /// The sum of the sizes of regular files.
    pub bytes: u64,
    /// Where the new root had something else, and what that is called now.
    pub conflicts: Vec<(PathBuf, PathBuf)>,
    /// What was not copied, and why.
    pub left: Vec<(PathBuf, &'static str)>,
    /// How many entries belong to each user.
    pub owners: BTreeMap<u32, u64>,
}

/// What must not be copied, or not be saved.
#[derive(Debug, Clone, Copy, Default)]
pub struct Except<'a> {
    /// Paths that stay what they are in the new root.
    pub left: &'a [&'a str],
    /// Files of the new root that are not worth saving.
    pub unsaved: &'a [&'a str],
    /// Names at the top of the new root where something else is mounted later: what is copied there would be gone.
    pub reserved: &'a [&'a str],
}

/// Is told how far it is; false: stop.
pub type Told<'a> = &'a mut dyn FnMut(&Copied) -> bool;

/// See the module.
pub struct Copier<'a> {
    pub(crate) from: &'a LayeredRoot,
    pub(crate) to: &'a LayeredRoot,
    except: Except<'a>,
    told: Told<'a>,
    pub(crate) transfer: Transfer,
    /// Of a file with several names: where in the new root its first one is, and which file that was.
    links: HashMap<Identity, (Vec<u8>, Identity)>,
    copied: Copied,
    refuses_marks: bool,
}

impl std::fmt::Debug for Copier<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Copier").field("copied", &self.copied).finish_non_exhaustive()
    }
}

/// A directory of the new root that is being filled.
#[derive(Debug)]
pub(crate) struct Target {
    pub merged: Merged,
    /// Nothing was there before: nothing can be in the way.
    pub is_new: bool,
}

impl Target {
    pub(crate) fn upper(&self) -> BorrowedFd<'_> {
        self.merged.upper.as_ref().expect("a target is in the upper layer").as_fd()
    }
}

/// The directories of the new root that the walk is in: the deepest one is open, the others are found again by their path.
#[derive(Debug)]
struct Targets {
    deepest: Option<Target>,
    /// Whether each was there before, and how long the path is up to it.
    way: Vec<(bool, usize)>,
    path: Vec<u8>,
}

impl Targets {
    fn enter(&mut self, target: Target, path: Vec<u8>) {
        self.way.push((target.is_new, path.len()));
        self.deepest = Some(target);
        self.path = path;
    }

    fn leave(&mut self) {
        self.way.pop();
        self.path.truncate(self.way.last().map_or(0, |(_, length)| *length));
        self.deepest = None;
    }

    fn deepest(&mut self, root: &LayeredRoot) -> Result<&Target, TreeError> {
        let is_new = self.way.last().is_some_and(|(is_new, _)| *is_new);
        let target = match self.deepest.take() {
            Some(target) => target,
            None => Target { merged: target_at(root, as_path(&self.path))?, is_new },
        };
        Ok(self.deepest.insert(target))
    }
}

impl<'a> Copier<'a> {
    /// From one root into another.
    pub fn new(from: &'a LayeredRoot, to: &'a LayeredRoot, except: Except<'a>, told: Told<'a>) -> Copier<'a> {
        let (links, copied) = (HashMap::new(), Copied::default());
        let transfer = Transfer::default();
        Copier { from, to, except, told, transfer, links, copied, refuses_marks: false }
    }

    /// Refuses a tree with attributes of overlayfs in it. Those of a container's layers are overlayfs' own, and say nothing of the file; of anything else
    /// they are somebody's, who means that they do.
    #[must_use]
    pub fn refusing_marks(mut self) -> Copier<'a> {
        self.refuses_marks = true;
        self
    }

    fn check_marks(&self, handle: impl AsFd, path: &[u8]) -> Result<(), TreeError> {
        if !self.refuses_marks {
            return Ok(());
        }
        let attributes =
            node::attributes(handle).map_err(|error| TreeError::io("look at", as_path(path), error))?;
        match attributes.into_iter().find(|(name, _)| name.to_bytes().starts_with(transfer::OVERLAY)) {
            Some((name, _)) => Err(TreeError::OverlayAttribute { path: as_path(path).to_owned(), name }),
            None => Ok(()),
        }
    }

    /// What was copied so far.
    pub fn copied(&self) -> &Copied {
        &self.copied
    }

    /// Copies what is at `path`, with all below it, to the same path of the new root; the directories on the way are made as the old root has
    /// them. Symlinks on the way are followed, each inside its root; a symlink at the end is copied. `false`: nothing is there.
    ///
    /// # Errors
    /// [`TreeError`]; the new root is then half done.
    pub fn copy(&mut self, path: &Path) -> Result<bool, TreeError> {
        self.copy_at(path, true)
    }

    /// Copies all that there is, and gives the top what it has in the old root.
    ///
    /// # Errors
    /// As [`Copier::copy`].
    pub fn copy_all(&mut self) -> Result<(), TreeError> {
        let top = Path::new("/");
        for name in self.from.names(top)?.unwrap_or_default() {
            self.copy(&top.join(name))?;
        }
        let Found::Directory(from, facts) = self.from.resolve(top)?.1 else { return Ok(()) };
        let Found::Directory(Merged { upper: Some(to), .. }, _) = self.to.resolve(top)?.1 else {
            return Ok(());
        };
        let Some(from) = from.shown() else { return Ok(()) };
        self.check_marks(from, b".")?;
        self.transfer
            .give_directory(to.as_fd(), from, &facts)
            .and_then(|()| transfer::give_times(to.as_fd(), &facts))
            .map_err(|error| TreeError::io("copy", top, error))
    }

    /// The same, of a directory without what is in it.
    ///
    /// # Errors
    /// As [`Copier::copy`].
    pub fn copy_itself(&mut self, path: &Path) -> Result<bool, TreeError> {
        self.copy_at(path, false)
    }

    /// Gives a directory of the new root, in which something was copied, the times that it has in the old one.
    ///
    /// # Errors
    /// As [`Copier::copy`].
    pub fn copy_times(&mut self, path: &Path) -> Result<(), TreeError> {
        let Found::Directory(_, facts) = self.from.resolve(path)?.1 else { return Ok(()) };
        let Found::Directory(Merged { upper: Some(upper), .. }, _) = self.to.resolve(path)?.1 else {
            return Ok(());
        };
        transfer::give_times(upper.as_fd(), &facts).map_err(|error| TreeError::io("copy", path, error))
    }

    fn copy_at(&mut self, path: &Path, is_whole: bool) -> Result<bool, TreeError> {
        let name = crate::root::last_component(path)?;
        let parent = path.parent().unwrap_or(Path::new("/"));
        let (source_parent, found) = self.from.resolve(parent)?;
        let Found::Directory(source, _) = found else { return Ok(false) };
        let found = self.from.step(&source, &name).map_err(|error| error.at(path))?;
        if matches!(found, Found::Missing) {
            return Ok(false);
        }
        let target_parent = self.make_way(parent)?;
        if let Some(std::path::Component::Normal(top)) = target_parent.components().next()
            && self.except.reserved.iter().any(|reserved| top == *reserved)
        {
            let because = "in the new root it lies where something else is mounted at every start";
            return Err(TreeError::BadPath { path: path.to_owned(), because });
        }
        let target = Target { merged: target_at(self.to, &target_parent)?, is_new: false };
        let source_path = joined(source_parent.as_os_str().as_bytes(), &name);
        let target_path = joined(target_parent.as_os_str().as_bytes(), &name);
        self.found(&target, &name, (&source_path, target_path), found, is_whole)?;
        Ok(true)
    }

    /// What was found at the first of the paths, as `name` in `target`, to which the second one leads.
    pub(crate) fn found(
        &mut self,
        target: &Target,
        name: &CStr,
        (source_path, target_path): (&[u8], Vec<u8>),
        found: Found,
        is_whole: bool,
    ) -> Result<(), TreeError> {
        match found {
            Found::Missing => {}
            Found::Node(handle, facts) => self.node(target, name, &target_path, &handle, &facts)?,
            Found::Directory(merged, facts) => {
                let entered = self.directory(target, name, &target_path, merged.shown(), &facts)?;
                if let Some(entered) = entered.filter(|_| is_whole) {
                    let walk = LayeredWalk::new(self.from, source_path, merged, facts)?;
                    self.below(walk, entered, target_path)?;
                }
            }
        }
        Ok(())
    }

    /// All that the walk comes by.
    fn below(&mut self, mut walk: LayeredWalk<'_>, target: Target, path: Vec<u8>) -> Result<(), TreeError> {
        let mut targets = Targets { deepest: None, way: Vec::new(), path: Vec::new() };
        targets.enter(target, path);
        while let Some(step) = walk.next()? {
            match step {
                Step::Node(name, handle, facts) => {
                    let path = joined(&targets.path, &name);
                    self.node(targets.deepest(self.to)?, &name, &path, &handle, &facts)?;
                }
                Step::Enter(name, facts) => {
                    let path = joined(&targets.path, &name);
                    let target = targets.deepest(self.to)?;
                    match self.directory(target, &name, &path, walk.shown(), &facts)? {
                        Some(entered) => targets.enter(entered, path),
                        None => walk.turn_back(),
                    }
                }
                Step::Leave(facts) => {
                    // Last: whatever was put into it has changed its time.
                    transfer::give_times(targets.deepest(self.to)?.upper(), &facts)
                        .map_err(|error| TreeError::io("copy", as_path(&targets.path), error))?;
                    targets.leave();
                }
            }
        }
        Ok(())
    }

    /// A directory itself; `None`: it is to be left alone.
    pub(crate) fn directory(
        &mut self,
        target: &Target,
        name: &CStr,
        path: &[u8],
        source: Option<BorrowedFd<'_>>,
        facts: &Facts,
    ) -> Result<Option<Target>, TreeError> {
        if self.is_left(path) {
            return Ok(None);
        }
        let failed = |error| TreeError::io("make the directory", as_path(path), error);
        let existing = self.existing(target, name, path)?;
        let made = match existing {
            Found::Directory(merged, _) => {
                let merged = match (&merged.upper, &merged.lower) {
                    (None, Some(model)) => {
                        let upper = copy_up_directory(target.upper(), name, model).map_err(failed)?;
                        Merged { upper: Some(upper), ..merged }
                    }
                    _ => merged,
                };
                Target { merged, is_new: false }
            }
            Found::Node(..) => {
                self.save(target, name, path)?;
                self.forget_links(path);
                make_target(target, name).map_err(failed)?
            }
            Found::Missing => make_target(target, name).map_err(failed)?,
        };
        if let Some(source) = source {
            self.check_marks(source, path)?;
            self.transfer.give_directory(made.upper(), source, facts).map_err(failed)?;
        }
        self.count(path, facts, 0)?;
        Ok(Some(made))
    }

    /// Anything but a directory.
    fn node(
        &mut self,
        target: &Target,
        name: &CStr,
        path: &[u8],
        handle: &OwnedFd,
        facts: &Facts,
    ) -> Result<(), TreeError> {
        if self.is_left(path) {
            return Ok(());
        }
        if facts.is_device() {
            let path = Path::new("/").join(as_path(path));
            self.copied.left.push((path, "a device node: /dev is made at every start"));
            return Ok(());
        }
        self.check_marks(handle, path)?;
        let failed = |error: Errno| TreeError::io("copy", as_path(path), error);
        match self.existing(target, name, path)? {
            Found::Missing => {}
            // It came with another path that was to be copied.
            Found::Node(_, new_facts) if self.is_link_of(facts, &new_facts) => {
                return self.count(path, facts, 0);
            }
            Found::Directory(..) => {
                self.save(target, name, path)?;
                self.forget_links(path);
                remove_entry(target.upper(), OsStr::from_bytes(name.to_bytes()))?;
            }
            Found::Node(new, new_facts) => {
                let says_the_same = is_same_contents((handle, facts), (&new, &new_facts)).map_err(failed)?;
                // One with several names cannot share its file with a template.
                if says_the_same
                    && facts.links == 1
                    && is_same_otherwise((handle, facts), (&new, &new_facts)).map_err(failed)?
                {
                    return self.count(path, facts, facts.size);
                }
                self.forget_links(path);
                if !says_the_same && !self.except.unsaved.iter().any(|unsaved| is_path(unsaved, path)) {
                    self.save(target, name, path)?;
                }
            }
        }
        if !target.is_new {
            remove_node(target.upper(), name).map_err(failed)?;
        }
        if facts.links > 1 && self.link(target, name, facts)? {
            return self.count(path, facts, 0);
        }
        let (told, copied) = (&mut self.told, &self.copied);
        self.transfer.node(target.upper(), name, handle, facts, &mut || told(copied)).map_err(failed)?;
        if facts.links > 1 {
            let (_, made) = node::hold(target.upper(), name).map_err(failed)?;
            self.links.insert(facts.identity, (path.to_vec(), made.identity));
        }
        self.count(path, facts, facts.size)
    }

    /// One more name for what was copied under another. False: it was not, or has as many names as it can have.
    fn link(&self, target: &Target, name: &CStr, facts: &Facts) -> Result<bool, TreeError> {
        let Some((first, _)) = self.links.get(&facts.identity) else { return Ok(false) };
        let first = as_path(first);
        let failed = |error| TreeError::io("link to", first, error);
        let parent = target_at(self.to, first.parent().unwrap_or(Path::new("/")))?;
        let parent = parent.upper.ok_or_else(|| failed(Errno::NOENT))?;
        match fs::linkat(parent, crate::root::last_component(first)?, target.upper(), name, AtFlags::empty())
        {
            Ok(()) => Ok(true),
            Err(Errno::MLINK) => Ok(false),
            Err(error) => Err(failed(error)),
        }
    }

    /// Something is about to be copied over what is at `path`: whatever was is no further name's file any more.
    fn forget_links(&mut self, path: &[u8]) {
        let is_below = |first: &[u8]| {
            first.strip_prefix(path).is_some_and(|rest| matches!(rest.first(), None | Some(b'/')))
        };
        self.links.retain(|_, (first, _)| !is_below(first));
    }

    fn is_link_of(&self, facts: &Facts, new: &Facts) -> bool {
        facts.links > 1 && self.links.get(&facts.identity).is_some_and(|(_, made)| *made == new.identity)
    }

    /// What the new root has at `name`.
    fn existing(&self, target: &Target, name: &CStr, path: &[u8]) -> Result<Found, TreeError> {
        if target.is_new {
            return Ok(Found::Missing);
        }
        self.to.step(&target.merged, name).map_err(|error| error.at(as_path(path)))
    }

    /// Copies what is in the way to a name of its own beside it. What is in the way stays there.
    fn save(&mut self, target: &Target, name: &CStr, path: &[u8]) -> Result<(), TreeError> {
        let mut saved = name.to_bytes()[..name.to_bytes().len().min(LONGEST_NAME - SAVED.len())].to_vec();
        let stem = saved.len();
        let mut count = 1;
        let saved = loop {
            saved.truncate(stem);
            saved.extend_from_slice(SAVED);
            if count > 1 {
                let number = format!("-{count}");
                saved.drain(stem.min(LONGEST_NAME - SAVED.len() - number.len())..stem);
                saved.extend_from_slice(number.as_bytes());
            }
            let candidate = CString::new(&saved[..]).expect("a name with a suffix has no NUL");
            if matches!(self.existing(target, &candidate, path)?, Found::Missing) {
                break candidate;
            }
            count += 1;
        };
        let saved_path = joined(parent_of(path), &saved);
        let mut copier = Copier::new(self.to, self.to, Except::default(), self.told);
        match self.to.step(&target.merged, name).map_err(|error| error.at(as_path(path)))? {
            Found::Missing => {}
            Found::Node(handle, facts) => copier.node(target, &saved, &saved_path, &handle, &facts)?,
            Found::Directory(merged, facts) => {
                let entered = copier.directory(target, &saved, &saved_path, merged.shown(), &facts)?;
                if let Some(entered) = entered {
                    copier.below(
                        LayeredWalk::new(self.to, path, merged, facts)?,
                        entered,
                        saved_path.clone(),
                    )?;
                }
            }
        }
        let absolute = |path: &[u8]| Path::new("/").join(as_path(path));
        self.copied.conflicts.push((absolute(path), absolute(&saved_path)));
        Ok(())
    }

    /// The directories that lead to what is copied, followed and made in the new root; where they are in it.
    fn make_way(&mut self, parent: &Path) -> Result<PathBuf, TreeError> {
        let mut way = PathBuf::new();
        let mut gone = PathBuf::from("/");
        for part in parent.components() {
            let std::path::Component::Normal(name) = part else { continue };
            gone.push(name);
            let here = way.join(name);
            let (resolved, found) = self.to.resolve(&here)?;
            match found {
                Found::Directory(..) => way = resolved,
                Found::Node(_, facts) => {
                    return Err(TreeError::NotDirectory { path: gone, kind: facts.kind() });
                }
                Found::Missing if !matches!(self.to.find(&here)?, Found::Missing) => {
                    return Err(TreeError::NotDirectory { path: gone, kind: "a symlink that leads nowhere" });
                }
                Found::Missing => {
                    let failed = |error| TreeError::io("make the directory", &gone, error);
                    let Found::Directory(model, facts) = self.from.resolve(&gone)?.1 else {
                        return Err(TreeError::Moved { path: gone });
                    };
                    let target = Target { merged: target_at(self.to, &way)?, is_new: false };
                    let name = node::component(name).map_err(failed)?;
                    let made = make_target(&target, &name).map_err(failed)?;
                    if let Some(model) = model.shown() {
                        self.transfer.give_directory(made.upper(), model, &facts).map_err(failed)?;
                    }
                    way = here;
                }
            }
        }
        Ok(way)
    }

    fn is_left(&mut self, path: &[u8]) -> bool {
        let is_left = self.except.left.iter().any(|left| is_path(left, path));
        if is_left {
            self.copied
                .left
                .push((Path::new("/").join(as_path(path)), "it is not kept but merged, or made anew"));
        }
        is_left
    }

    fn count(&mut self, path: &[u8], facts: &Facts, bytes: u64) -> Result<(), TreeError> {
        self.copied.entries += 1;
        if facts.is_regular() {
            self.copied.bytes += bytes;
        }
        *self.copied.owners.entry(facts.uid).or_default() += 1;
        if (self.told)(&self.copied) {
            return Ok(());
        }
        Err(TreeError::io("copy", as_path(path), Errno::INTR))
    }
}

pub(crate) fn joined(parent: &[u8], name: &CStr) -> Vec<u8> {
    if parent.is_empty() || parent == b"/" {
        return name.to_bytes().to_vec();
    }
    [parent, b"/", name.to_bytes()].concat()
}

fn parent_of(path: &[u8]) -> &[u8] {
    path.iter().rposition(|byte| *byte == b'/').map_or(&[], |slash| &path[..slash])
}

/// `absolute` is the path, which has no slash in front.
fn is_path(absolute: &str, path: &[u8]) -> bool {
    absolute.strip_prefix('/').is_some_and(|relative| relative.as_bytes() == path)
}

/// A directory of the new root, with one of its own in the upper layer: made there, if only the template has it so far.
fn target_at(root: &LayeredRoot, path: &Path) -> Result<Merged, TreeError> {
    root.upper_parent(&path.join("x"))?;
    match root.find(path)? {
        Found::Directory(merged, _) if merged.upper.is_some() => Ok(merged),
        Found::Directory(..) | Found::Node(..) | Found::Missing => {
            Err(TreeError::Moved { path: path.to_owned() })
        }
    }
}

/// Makes a directory over whatever but a directory may be there.
fn make_target(parent: &Target, name: &CStr) -> Result<Target, Errno> {
    let hides = match &parent.merged.lower {
        Some(lower) => node::try_hold(lower, name)?.is_some_and(|(_, facts)| facts.is_directory()),
        None => false,
    };
    if !parent.is_new {
        remove_node(parent.upper(), name)?;
    }
    fs::mkdirat(parent.upper(), name, Mode::RWXU)?;
    let (handle, _) = node::hold(parent.upper(), name)?;
    if hides {
        // The name was deleted: what the lower layer has there must stay hidden (as overlayfs does it).
        fs::setxattr(node::own_path(handle.as_fd()), OPAQUE, b"y", fs::XattrFlags::empty())?;
    }
    Ok(Target { merged: Merged { upper: Some(handle), lower: None }, is_new: true })
}

/// A file, or the mark that there is none, in the upper layer; nothing there is fine.
fn remove_node(parent: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
    match fs::unlinkat(parent, name, AtFlags::empty()) {
        Err(Errno::NOENT) => Ok(()),
        result => result,
    }
}

fn is_same_contents(old: (&OwnedFd, &Facts), new: (&OwnedFd, &Facts)) -> Result<bool, Errno> {
    if old.1.file_type != new.1.file_type || old.1.size != new.1.size {
        return Ok(false);
    }
    if old.1.is_regular() {
        return Ok(contents::digest(old.0.as_fd())? == contents::digest(new.0.as_fd())?);
    }
    if old.1.is_symlink() {
        return Ok(fs::readlinkat(old.0, c"", Vec::new())? == fs::readlinkat(new.0, c"", Vec::new())?);
    }
    Ok(true)
}

fn is_same_otherwise(old: (&OwnedFd, &Facts), new: (&OwnedFd, &Facts)) -> Result<bool, Errno> {
    let plain = |facts: &Facts| (facts.mode, facts.uid, facts.gid);
    Ok(plain(old.1) == plain(new.1) && transfer::own_attributes(old.0)? == transfer::own_attributes(new.0)?)
}
