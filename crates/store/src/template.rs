//! Operating system templates: the immutable, shared trees that generations are differences over.
//!
//! ```text
//! /vz/template/<name>/<digest>/     rootfs/, template.json
//! /vz/template/<name>/latest        -> <digest>
//! /vz/template/.staging-<pid>-<…>/  one that is being made, locked by its maker
//! ```
//!
//! A template is named by the digest of its tree and never changes: an update is another digest beside it, and
//! generations go on with theirs. Whoever publishes or removes holds the template's lock.

mod versions;

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::application::Application;
use crate::area::AreaError;
use crate::atomic::{self, AtomicError};
use crate::conf::ConfError;
use crate::identity::TemplateName;
use crate::lock::{Lock, LockName};
use crate::own_file::OwnFile;
use crate::prefix::Prefix;
use crate::record::{self, Record, RecordError};
use crate::trash::{self, TrashError};

pub use versions::{
    Lying, Removed, User, Users, Who, choose, digest_of, lying_on, prune, remove, remove_version, users,
    users_of,
};

const LATEST: &str = "latest";
const ROOTFS: &str = "rootfs";
/// What is in the tree, a line each: `vzpkg verify` names with it what has changed.
const FILES: &str = "files";
const STAGING: &str = ".staging-";

/// What is wrong with a template, or keeps it where it is.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    #[error("unknown template `{name}`")]
    Unknown { name: TemplateName, available: Vec<TemplateName> },
    #[error("template `{name}` has no latest version: nothing says which of them it is; there are: {}", show_versions(.available, None))]
    NoLatest { name: TemplateName, available: Vec<String> },
    #[error("template `{name}` has no version {digest}")]
    Missing { name: TemplateName, digest: String },
    #[error("template `{name}` has no version {version}; there are: {}", show_versions(.available, .latest.as_deref()))]
    NoVersion { name: TemplateName, version: String, available: Vec<String>, latest: Option<String> },
    #[error("more than one version of template `{name}` begins with {version}: {}", .candidates.join(", "))]
    AmbiguousVersion { name: TemplateName, version: String, candidates: Vec<String> },
    #[error("template `{}` is damaged: {because}; remove it and make it again", .path.display())]
    Damaged { path: PathBuf, because: String },
    #[error(
        "`{}` has format {found} and this program knows {known}: it was written by a newer version",
        .path.display()
    )]
    NewerFormat { path: PathBuf, found: u64, known: u32 },
    #[error("template `{name}` is in use by {}", show_users(.users))]
    InUse { name: TemplateName, users: Vec<User> },
    #[error("`{other}` in {} is no version of a template, and would go with them", .path.display())]
    NotOnlyVersions { path: PathBuf, other: String },
    #[error("nobody can tell which templates `{container}` uses")]
    UnknownUses { container: String, source: AreaError },
    #[error("nobody can tell which template is the default one")]
    Default(#[source] ConfError),
    #[error("cannot read `{}`", .path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Area(#[from] AreaError),
    #[error(transparent)]
    Trash(#[from] TrashError),
    #[error(transparent)]
    Write(#[from] AtomicError),
}

fn show_versions(digests: &[String], latest: Option<&str>) -> String {
    let show = |digest: &String| {
        let short: String = digest.chars().take(12).collect();
        if Some(digest.as_str()) == latest { format!("{short} (the latest)") } else { short }
    };
    digests.iter().map(show).collect::<Vec<_>>().join(", ")
}

fn show_users(users: &[User]) -> String {
    let show = |user: &User| match &user.who {
        Who::Root { container, number } => format!("`{container}` (generation {number})"),
        Who::Pinned { container } => format!("`{container}` (pinned)"),
        Who::Default { path } => format!("`{}`", path.display()),
    };
    users.iter().map(show).collect::<Vec<_>>().join(", ")
}

/// `template.json`. See `docs/format/template.md`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplateRecord {
    pub format: u32,
    pub name: TemplateName,
    pub digest: String,
    /// Where it came from, for people.
    pub source: String,
    pub created: Timestamp,
    pub distribution: String,
    pub release: Option<String>,
    pub architecture: String,
    pub init: String,
    pub stop_signal: String,
    pub size_bytes: u64,
    /// What the tree took on the disk when it was made; `None`: an earlier program made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_bytes: Option<u64>,
    pub entries: u64,
    pub systemd: bool,
    /// Process 1 is the small init, which runs this; `init` is where its program was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub application: Option<Application>,
    /// What each container gets of its own, beside what all do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub own_files: Vec<OwnFile>,
    /// What it can be made of again; `None`: an earlier program made it, which did not write it down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<TemplateOrigin>,
}

/// What a template was made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TemplateOrigin {
    /// The recipe of its name.
    Recipe,
    /// What others have made.
    From {
        /// An absolute path, or `container:<uuid>`.
        source: String,
        /// Which image, where there were several.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        image: Option<String>,
        /// Process 1, where somebody has said it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        init: Option<String>,
        /// What stops it, likewise.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stop_signal: Option<String>,
        /// What the image says is to be run, where there was an init, too.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        entry_point: bool,
    },
}

impl TemplateRecord {
    /// What it costs on the disk, as far as that was written down: else the sizes of its files, holes and all.
    pub fn cost(&self) -> u64 {
        self.disk_bytes.unwrap_or(self.size_bytes)
    }

    pub const FORMAT: u32 = 1;
}

impl Record for TemplateRecord {
    const FILE: &'static str = "template.json";
    const FORMAT: u32 = Self::FORMAT;
}

/// One version of a template, whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    pub record: TemplateRecord,
    /// `…/<name>/<digest>`
    pub path: PathBuf,
    /// Whether new containers get this version.
    pub is_latest: bool,
}

impl Template {
    pub fn rootfs(&self) -> PathBuf {
        self.path.join(ROOTFS)
    }

    /// What was in its tree when it was made: a digest and an escaped path a line. `None`: an earlier program made it, which wrote none.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn files(&self) -> Result<Option<File>, TemplateError> {
        let path = self.path.join(FILES);
        match File::open(&path) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(TemplateError::Unreadable { path, source }),
        }
    }
}

/// The names that there are, sorted.
pub fn names(prefix: &Prefix) -> Result<Vec<TemplateName>, TemplateError> {
    let top = atomic::open_directory(&prefix.template_dir())?;
    let read = |name: &OsString| -> Option<TemplateName> {
        let text = name.to_str()?;
        // Only as we write it: the leading dot of OpenVZ would make `.x` and `x` one.
        text.parse().ok().filter(|name: &TemplateName| name.as_str() == text)
    };
    let all = atomic::names_in(top.as_fd())?;
    Ok(all.iter().filter_map(read).filter(|name| is_template(prefix, name)).collect())
}

/// It has a version, whole or not: other directories are others', as those that OpenVZ keeps its own in.
fn is_template(prefix: &Prefix, name: &TemplateName) -> bool {
    digests(prefix, name).is_ok_and(|digests| !digests.is_empty())
}

/// Every version of every template, or what is wrong with it.
pub fn templates(prefix: &Prefix) -> Result<Vec<Result<Template, TemplateError>>, TemplateError> {
    let mut all = Vec::new();
    for name in names(prefix)? {
        all.extend(versions(prefix, &name)?.into_iter().map(|(_, template)| template));
    }
    Ok(all)
}

/// Digests, with the version of that digest, or what is wrong with it.
pub type Versions = Vec<(String, Result<Template, TemplateError>)>;

/// Every version of a template.
pub fn versions(prefix: &Prefix, name: &TemplateName) -> Result<Versions, TemplateError> {
    let all = digests(prefix, name)?.into_iter();
    Ok(all.map(|digest| (digest.clone(), exact(prefix, name, &digest))).collect())
}

/// The version that new roots are made from.
pub fn latest(prefix: &Prefix, name: &TemplateName) -> Result<Template, TemplateError> {
    match latest_digest(prefix, name)? {
        Some(digest) => exact(prefix, name, &digest),
        // Its link is gone; or a death has come between the two names of its first version.
        None => match digests(prefix, name) {
            Ok(available) if !available.is_empty() => {
                Err(TemplateError::NoLatest { name: name.clone(), available })
            }
            Ok(_) | Err(_) => Err(TemplateError::Unknown { name: name.clone(), available: names(prefix)? }),
        },
    }
}

/// One version. A generation names the one that it was made from.
pub fn exact(prefix: &Prefix, name: &TemplateName, digest: &str) -> Result<Template, TemplateError> {
    let path = name_dir(prefix, name).join(digest);
    let missing = || TemplateError::Missing { name: name.clone(), digest: digest.to_owned() };
    if !is_digest(digest) || !path.is_dir() {
        return Err(missing());
    }
    let handle = atomic::open_directory(&path)?;
    let record: TemplateRecord = record::load_at(handle.as_fd()).map_err(refuse)?;
    let damaged = |because: &str| TemplateError::Damaged { path: path.clone(), because: because.to_owned() };
    if record.name != *name || record.digest != digest {
        return Err(damaged("its record is of another template"));
    }
    if !path.join(ROOTFS).is_dir() {
        return Err(damaged("it has no `rootfs`"));
    }
    let is_latest = latest_digest(prefix, name)?.as_deref() == Some(digest);
    Ok(Template { record, path, is_latest })
}

fn name_dir(prefix: &Prefix, name: &TemplateName) -> PathBuf {
    prefix.template_dir().join(name.as_str())
}

fn is_digest(text: &str) -> bool {
    (8..=128).contains(&text.len()) && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn digests(prefix: &Prefix, name: &TemplateName) -> Result<Vec<String>, TemplateError> {
    let handle = atomic::open_directory(&name_dir(prefix, name))?;
    let names = atomic::names_in(handle.as_fd())?;
    Ok(names
        .iter()
        .filter_map(|name| name.to_str())
        .filter(|name| is_digest(name))
        .map(str::to_owned)
        .collect())
}

/// The digest of the version that new roots are made from, whole or not; `None`: there is none.
///
/// # Errors
/// When its link leads nowhere that a version could be.
pub fn latest_digest(prefix: &Prefix, name: &TemplateName) -> Result<Option<String>, TemplateError> {
    let path = name_dir(prefix, name).join(LATEST);
    match rustix::fs::readlink(&path, Vec::new()) {
        Ok(target) => match target.into_string() {
            Ok(digest) if is_digest(&digest) => Ok(Some(digest)),
            Ok(_) | Err(_) => {
                Err(TemplateError::Damaged { path, because: "the link does not point to a version".into() })
            }
        },
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(errno) => Err(TemplateError::Unreadable { path, source: errno.into() }),
    }
}

fn refuse(error: RecordError) -> TemplateError {
    match error {
        RecordError::Missing { path } => TemplateError::Damaged { path, because: "it is missing".into() },
        RecordError::Damaged { path, because } => TemplateError::Damaged { path, because },
        RecordError::NewerFormat { path, found, known } => TemplateError::NewerFormat { path, found, known },
        RecordError::Unreadable { path, source } => TemplateError::Unreadable { path, source },
    }
}

/// A template that is being made; what has its name when it is dropped, unless that is published, is removed.
#[derive(Debug)]
pub struct Staging {
    prefix: Prefix,
    name: TemplateName,
    directory: String,
    /// Locked (`flock`), so that [`sweep`] can tell it from what a death left; and opened before the first write,
    /// so that `syncfs` on it reports every write error since.
    handle: OwnedFd,
    is_published: bool,
}

/// Begins a template. Its tree is unpacked into [`Staging::rootfs`].
pub fn staging(prefix: &Prefix, name: &TemplateName) -> Result<Staging, TemplateError> {
    let top = atomic::open_directory(&prefix.template_dir())?;
    loop {
        let directory = format!("{STAGING}{}-{}", std::process::id(), uuid::Uuid::new_v4().simple());
        atomic::make_directory_at(top.as_fd(), &directory, 0o700)?;
        // A death from here until `publish` leaves the directory, unlocked: `sweep` removes it.
        let handle = match atomic::open_directory_at(top.as_fd(), &directory) {
            Ok(handle) => handle,
            // Swept between the two lines.
            Err(error) if error.source.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error.into()),
        };
        if !lock_directory(&handle)? {
            continue;
        }
        match atomic::make_directory_at(handle.as_fd(), ROOTFS, 0o755) {
            Ok(_) => {}
            Err(error) if error.source.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error.into()),
        }
        return Ok(Staging {
            prefix: prefix.clone(),
            name: name.clone(),
            directory,
            handle,
            is_published: false,
        });
    }
}

fn lock_directory(handle: &OwnedFd) -> Result<bool, TemplateError> {
    if linux::mutated!("template-staging-unlocked") {
        return Ok(true);
    }
    match rustix::fs::flock(handle, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(errno) => {
            Err(TemplateError::Unreadable { path: atomic::path_of(handle.as_fd()), source: errno.into() })
        }
    }
}

/// The list of what is in a tree, while it is written: never all of it in memory.
#[derive(Debug)]
pub struct List {
    file: BufWriter<File>,
    path: PathBuf,
    bytes: u64,
    /// The first error; nothing is written after it.
    failed: Option<io::Error>,
}

impl List {
    /// How long it would be.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Adds a line, which ends as lines do.
    pub fn add(&mut self, line: &[u8]) {
        self.bytes += line.len() as u64;
        if self.failed.is_none() {
            self.failed = self.file.write_all(line).err();
        }
    }

    /// All of it is written, or this says why not.
    pub fn finish(mut self) -> Result<(), TemplateError> {
        let failed = match self.failed.take() {
            None => self.file.flush().err(),
            failed => failed,
        };
        match failed {
            None => Ok(()),
            Some(source) => Err(AtomicError::new("write", self.path, source).into()),
        }
    }
}

impl Staging {
    pub fn path(&self) -> PathBuf {
        self.prefix.template_dir().join(&self.directory)
    }

    pub fn rootfs(&self) -> PathBuf {
        self.path().join(ROOTFS)
    }

    /// The directory that has `rootfs` in it.
    pub fn handle(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }

    /// Where what is in its tree is written down; durable with all the rest, when it is published.
    pub fn list(&self) -> Result<List, TemplateError> {
        let path = self.path().join(FILES);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = rustix::fs::openat(&self.handle, FILES, flags, Mode::RUSR | Mode::WUSR)
            .map_err(|errno| AtomicError::new("write", &path, errno))?;
        Ok(List { file: BufWriter::new(File::from(made)), path, bytes: 0, failed: None })
    }

    /// Has the disk begin with what is there, so that [`Staging::publish`] waits for the rest alone. By a description of its own, which has all the news
    /// of errors: the sync that counts is that of `publish`, and has them, too.
    pub fn sync_ahead(&self) {
        // Whoever takes that sync away must not be saved by this one.
        if let ((false, false), Ok(own)) = (taken_away(), atomic::open_directory(&self.path())) {
            let _ = rustix::fs::syncfs(own);
        }
    }

    /// Makes it durable and gives it its name; new containers get this version from now on. Where the same tree
    /// is there already, that one is used, and this one thrown away: of its record only what it was made of is taken.
    pub fn publish(mut self, record: TemplateRecord) -> Result<Template, TemplateError> {
        let (top, named) = self.make_durable(&record)?;
        // A death before this line leaves a staging; after it, a version that nobody gets, which the next
        // `publish` of the same tree takes up.
        match atomic::move_at(top.as_fd(), &self.directory, named.as_fd(), &record.digest) {
            Ok(()) => self.is_published = true,
            Err(error) if error.source.kind() == io::ErrorKind::AlreadyExists => {
                let there = exact(&self.prefix, &self.name, &record.digest)?;
                // A death after this leaves the version what it is, and from where it is made the next time.
                set_origin(named.as_fd(), there.record, &record)?;
            }
            Err(error) => return Err(error.into()),
        }
        self.point_latest(named.as_fd(), &record).inspect_err(|_| {
            // Whoever is told that it has failed must not find half of it done: a version that takes room, and that nobody gets.
            if self.is_published
                && atomic::move_at(named.as_fd(), &record.digest, top.as_fd(), &self.directory).is_ok()
            {
                self.is_published = false;
            }
        })
    }

    /// The same where a version of that name is there and is damaged: this one takes its place, and what was there is what is thrown away with the
    /// staging that is returned. Nobody may have it mounted, nor begin to: that is the caller's to see to.
    pub fn publish_in_place(mut self, record: TemplateRecord) -> Result<(Template, Staging), TemplateError> {
        let (top, named) = self.make_durable(&record)?;
        // A death before this line leaves what is damaged under the name, and this one as a staging; after it this one, and what was damaged as a
        // staging that nobody holds. A power cut before it is synced leaves either of the two, and each of the trees whole as it was: none is removed
        // before the disk has both of the names.
        if let Err(error) = atomic::exchange_at(top.as_fd(), &self.directory, named.as_fd(), &record.digest) {
            // On a disk that has just refused to write, nobody knows which of the two has the name there: both stay until the next sweep.
            self.is_published = true;
            return Err(error.into());
        }
        match self.point_latest(named.as_fd(), &record) {
            // From here on what was damaged is what goes with this staging.
            Ok(template) => Ok((template, self)),
            Err(error) => {
                // Whoever is told that it has failed must not find half of it done. Where the disk refuses that, too, both stay until the next sweep.
                self.is_published =
                    atomic::exchange_at(top.as_fd(), &self.directory, named.as_fd(), &record.digest).is_err();
                Err(error)
            }
        }
    }

    /// All but its name: the directory of the staging, and that of the template.
    fn make_durable(&self, record: &TemplateRecord) -> Result<(OwnedFd, OwnedFd), TemplateError> {
        if record.name != self.name || !is_digest(&record.digest) {
            let because = "its record is of another template, or has no digest".into();
            return Err(TemplateError::Damaged { path: self.path(), because });
        }
        record::store_at(self.handle(), record)?;
        // The whole tree, before anything can name it: a power cut must never leave a template with holes.
        if taken_away() == (false, false) {
            rustix::fs::syncfs(&self.handle).map_err(|errno| AtomicError::new("sync", self.path(), errno))?;
        }
        let top = atomic::open_directory(&self.prefix.template_dir())?;
        atomic::make_directory_at(top.as_fd(), self.name.as_str(), 0o700)?;
        let named = atomic::open_directory_at(top.as_fd(), self.name.as_str())?;
        Ok((top, named))
    }

    /// New containers get this version from now on.
    fn point_latest(
        &self,
        named: BorrowedFd<'_>,
        record: &TemplateRecord,
    ) -> Result<Template, TemplateError> {
        let before = rustix::fs::readlinkat(named, LATEST, Vec::new()).ok();
        self.try_point_latest(named, record).inspect_err(|_| {
            let now = rustix::fs::readlinkat(named, LATEST, Vec::new()).ok();
            if now == before {
                return;
            }
            // Whoever is told that it has failed must not find it done; as good as can be, on a disk that has just refused to write.
            let _ = match before {
                Some(digest) => {
                    atomic::replace_symlink_at(named, LATEST, OsStr::from_bytes(digest.as_bytes()))
                }
                None => atomic::remove_file_at(named, LATEST),
            };
            let _ = atomic::fsync_dir(named);
        })
    }

    fn try_point_latest(
        &self,
        named: BorrowedFd<'_>,
        record: &TemplateRecord,
    ) -> Result<Template, TemplateError> {
        atomic::replace_symlink_at(named, LATEST, &record.digest)?;
        // Of the version as of the link to it: both are names in there.
        if !linux::mutated!("latest-unsynced") {
            atomic::fsync_dir(named)?;
        }
        let (is_late, _) = taken_away();
        if is_late {
            rustix::fs::syncfs(&self.handle).map_err(|errno| AtomicError::new("sync", self.path(), errno))?;
        }
        exact(&self.prefix, &self.name, &record.digest)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if self.is_published {
            return;
        }
        let removed = atomic::open_directory(&self.prefix.template_dir())
            .map_err(TrashError::from)
            .and_then(|top| trash::remove_now(top.as_fd(), &self.directory));
        if let Err(error) = removed {
            tracing::warn!(path = %self.path().display(), %error, "a template's staging stays until the next sweep");
        }
    }
}

/// Has the record of a version that is there say of what the same tree was made last; all else stays what it says.
fn set_origin(
    named: BorrowedFd<'_>,
    there: TemplateRecord,
    made: &TemplateRecord,
) -> Result<(), TemplateError> {
    if there.origin == made.origin && there.source == made.source {
        return Ok(());
    }
    let version = atomic::open_directory_at(named, &there.digest)?;
    let record = TemplateRecord { origin: made.origin.clone(), source: made.source.clone(), ..there };
    Ok(record::store_at(version.as_fd(), &record)?)
}

/// Removes what deaths have left among the templates; what somebody is working on is locked, and stays.
pub fn sweep(prefix: &Prefix) -> Result<usize, TemplateError> {
    let top = atomic::open_directory(&prefix.template_dir())?;
    let mut swept = 0;
    if linux::mutated!("template-staging-stays") {
        return Ok(0);
    }
    for name in atomic::names_in(top.as_fd())? {
        let text = name.to_string_lossy();
        if !text.starts_with(STAGING) && !text.starts_with(".discarded-") {
            continue;
        }
        let Ok(handle) = atomic::open_directory_at(top.as_fd(), &name) else { continue };
        if lock_directory(&handle)? {
            trash::remove_now(top.as_fd(), &name)?;
            swept += 1;
        }
    }
    // A death at the last step of a publication leaves a temporary beside `latest`.
    for name in names(prefix)? {
        let lock = Lock::exclusive(prefix, LockName::Template(name.clone()), Duration::ZERO, "sweeping");
        if lock.is_ok()
            && let Ok(handle) = atomic::open_directory_at(top.as_fd(), name.as_str())
        {
            swept += atomic::sweep(handle.as_fd())?;
        }
    }
    Ok(swept)
}

/// What a mutation takes away of the sync before a version gets its name: that it is before, or all of it.
fn taken_away() -> (bool, bool) {
    (linux::mutated!("template-named-first"), linux::mutated!("template-unsynced"))
}

#[cfg(test)]
#[path = "template_tests.rs"]
mod tests;
