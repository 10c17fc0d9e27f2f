//! `--userpasswd`: a password for an account of the root that is live, or is being made. An account that is not there is made, as `useradd -m` would.
//!
//! Nothing of the root is executed, so that it works where that is broken, and whether the container runs or not. Files are read and replaced through a
//! mount of the live root by a thread that reaches nothing else; each with one rename, `shadow` first and then `passwd`, `gshadow` and `group`: a
//! death before `passwd` leaves a line for somebody whom there is not, which the next try finds and uses; one after it an account whose group has no name yet, which the next try
//! gives it. An error puts back what was replaced before it. While it runs, the lock is taken that `passwd` and `useradd` inside take.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use runtime::confined::Reach;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FlockOperation, fcntl_lock};
use rustix::io::Errno;
use tree::{FileBytes, Kind, LayeredRoot, Root, TreeError};

use super::carry::{LARGEST_ACCOUNT_FILE, account_files};
use super::password::today;
use crate::accounts::{self, GivenPassword, Merged, NewUser, USERADD_DEFAULTS};
use crate::attachments;
use crate::error::{Code, Failure, Result};
use crate::host::Container;
use crate::view;

const LOCK: &str = "/etc/.pwd.lock";
/// Whoever holds it does so for milliseconds.
const LOCK_WAIT: Duration = Duration::from_secs(5);
const LOCK_PACE: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
const SKELETON: &str = "/etc/skel";
/// More than any distribution has there; whoever is root inside may have put anything there.
const SKELETON_FILES: usize = 100;
/// And more names than that are not even listed.
const SKELETON_NAMES: usize = 1024;
const SKELETON_DEPTH: usize = 5;
const LARGEST_SKELETON_FILE: u64 = 256 * 1024;
/// A home is its user's alone.
const HOME_MODE: u32 = 0o700;

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Given {
    /// The account was there.
    ToOld,
    /// The account was made for it.
    ToNew,
}

/// Gives the password to an account of the live root; with `is_tried` only as far as nothing is changed.
///
/// # Errors
/// [`Code::PasswordFailed`].
pub fn give(container: &Container<'_>, given: &GivenPassword, is_tried: bool) -> Result<Given> {
    let what = words(given);
    let failed = |because: String| Failure::new(Code::PasswordFailed, what.clone()).because(because);
    let within = |failure: Failure| Failure { code: Code::PasswordFailed, ..failure.within(what.clone()) };
    let hides = |point: &PathBuf| {
        ["/etc/passwd", "/etc/shadow", "/etc/group", "/etc/gshadow"]
            .iter()
            .any(|file| Path::new(file).starts_with(point))
    };
    let mut points = view::mounted_inside(container);
    let conf = container.area.conf().unwrap_or_default();
    let configured = attachments::configured(&container.area, &conf).unwrap_or_default();
    points.extend(configured.into_iter().map(|one| PathBuf::from(one.at.to_string())));
    if let Some(point) = points.iter().find(|point| hides(point)) {
        return Err(failed(format!("something else is mounted at `{}` in it", tree::escaped_path(point)))
            .hint("set it inside, with `passwd`, or unmount that"));
    }
    let (mount, ids) = view::writable(container).map_err(within)?;
    let root = Root::from_handle(mount);
    let interrupt = container.runtime().interrupt();
    let reach = Reach { reads: Vec::new(), writes: vec![root.handle()], ids: ids.map(|ids| ids.first) };
    container
        .host
        .confined(&reach, &what, || {
            let _lock = if is_tried { None } else { Some(lock(&root, interrupt.as_ref(), &what)?) };
            put(&root, given, &points, ids.map_or(0, |ids| ids.first), is_tried)
        })
        .map_err(|failure| if failure.what == what { failure } else { within(failure) })
}

/// Gives it to an account of a root that is being made.
///
/// # Errors
/// [`Code::PasswordFailed`].
pub fn give_to_new(root: &LayeredRoot, given: &GivenPassword) -> Result<Given> {
    // With an error all of that root goes.
    put(root, given, &[], 0, false).map_err(|failure| Failure { state: None, ..failure })
}

fn words(given: &GivenPassword) -> String {
    format!("the password of `{}` cannot be set", tree::escaped(given.user().as_bytes()))
}

/// Whoever is root inside may hold it for ever.
fn lock(root: &Root, interrupt: Option<&std::os::fd::OwnedFd>, what: &str) -> Result<File> {
    let failed = |because: String| Failure::new(Code::PasswordFailed, what).because(because);
    let file =
        root.open_to_lock(Path::new(LOCK)).map_err(|error| failed(runtime::monitor::describe(&error)))?;
    let end = Instant::now() + LOCK_WAIT;
    loop {
        match fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(Errno::AGAIN | Errno::ACCESS | Errno::INTR) => {}
            Err(error) => return Err(failed(format!("`{LOCK}` in it cannot be locked: {error}"))),
        }
        let mut heeded: Vec<PollFd<'_>> =
            interrupt.iter().map(|fd| PollFd::new(*fd, PollFlags::IN)).collect();
        if matches!(poll(&mut heeded, Some(&LOCK_PACE)), Ok(1..)) {
            return Err(failed(
                "it was interrupted while it waited for another program in it, which changes passwords"
                    .to_owned(),
            ));
        }
        if Instant::now() >= end {
            return Err(failed(format!(
                "another program in it has held `{LOCK}` for {} seconds: it is changing passwords, or hangs",
                LOCK_WAIT.as_secs()
            ))
            .hint("wait for that, or end it: `passwd`, `useradd`, `chpasswd` take that lock"));
        }
    }
}

/// What is read and written, whichever way the root is reached.
trait Files {
    fn read(&self, path: &Path, most: u64) -> std::result::Result<Option<FileBytes>, TreeError>;
    fn replace(
        &self,
        path: &Path,
        bytes: &[u8],
        mode: u32,
        owner: (u32, u32),
    ) -> std::result::Result<(), TreeError>;
    fn remove(&self, path: &Path) -> std::result::Result<bool, TreeError>;
    fn make(&self, path: &Path, mode: u32, owner: u32) -> std::result::Result<bool, TreeError>;
    fn kind(&self, path: &Path) -> std::result::Result<Option<Kind>, TreeError>;
    fn names_up_to(&self, path: &Path, most: usize) -> std::result::Result<Option<Vec<OsString>>, TreeError>;
    fn has_executable(&self, path: &Path) -> bool;
}

macro_rules! files_of {
    ($root:ty) => {
        impl Files for $root {
            fn read(&self, path: &Path, most: u64) -> std::result::Result<Option<FileBytes>, TreeError> {
                self.read_file(path, most)
            }
            fn replace(
                &self,
                path: &Path,
                bytes: &[u8],
                mode: u32,
                (uid, gid): (u32, u32),
            ) -> std::result::Result<(), TreeError> {
                self.replace_file(path, bytes, mode, uid, gid)
            }
            fn remove(&self, path: &Path) -> std::result::Result<bool, TreeError> {
                self.remove_file(path)
            }
            fn make(&self, path: &Path, mode: u32, owner: u32) -> std::result::Result<bool, TreeError> {
                self.make_directory(path, mode, owner, owner)
            }
            fn kind(&self, path: &Path) -> std::result::Result<Option<Kind>, TreeError> {
                <$root>::kind(self, path)
            }
            fn names_up_to(
                &self,
                path: &Path,
                most: usize,
            ) -> std::result::Result<Option<Vec<OsString>>, TreeError> {
                <$root>::names_up_to(self, path, most)
            }
            fn has_executable(&self, path: &Path) -> bool {
                <$root>::has_executable(self, path).unwrap_or(false)
            }
        }
    };
}

files_of!(Root);
files_of!(LayeredRoot);

/// Owners are `shift` more than inside.
fn put(
    root: &impl Files,
    given: &GivenPassword,
    covered: &[PathBuf],
    shift: u32,
    is_tried: bool,
) -> Result<Given> {
    let failed = |because: String| Failure::new(Code::PasswordFailed, words(given)).because(because);
    let mut modes = HashMap::new();
    let mut problem = None;
    let files = account_files(&mut |name| match root.read(Path::new(name), LARGEST_ACCOUNT_FILE) {
        Ok(found) => found.map(|file| {
            modes.insert(name.to_owned(), (file.mode & 0o7777, file.uid, file.gid));
            file.bytes
        }),
        Err(error) => {
            problem.get_or_insert(error);
            None
        }
    });
    if let Some(error) = problem {
        return Err(failed(runtime::monitor::describe(&error)));
    }
    let mut merged = Merged::default();
    let made = if accounts::has_user(&files, given.user()) {
        accounts::complete(&files, &mut merged, given.user());
        None
    } else {
        let defaults = root.read(Path::new(USERADD_DEFAULTS), LARGEST_SKELETON_FILE).ok().flatten();
        let shell = defaults.and_then(|file| accounts::shell_of_new_users(&file.bytes));
        let has = |path: &str| root.has_executable(Path::new(path));
        let made = accounts::add(&files, &mut merged, given.user(), &has, shell.as_deref());
        Some(made.map_err(|error| {
            failed(error.to_string()).hint("make the account inside, with `useradd`, and try again")
        })?)
    };
    if let Some(point) =
        made.as_ref().and_then(|made| covered.iter().find(|point| made.home.starts_with(point)))
    {
        return Err(failed(format!(
            "something else is mounted at `{}` in it, where its home would be",
            tree::escaped_path(point)
        ))
        .hint("make the account inside, with `useradd -m`, and try again"));
    }
    given.set(&files, &mut merged, today()).map_err(|_| failed("there is no such account".to_owned()))?;
    if !is_tried {
        let failed = |error: TreeError| failed(runtime::monitor::describe(&error));
        let mut home = None;
        if let Some(made) = &made {
            let filled = make_home(root, made, shift, || home = Some(&made.home));
            filled.map_err(|error| with_home(failed(error), home))?;
        }
        let owner = |name: &str, mode| modes.get(name).copied().unwrap_or((mode, shift, shift));
        let changed = [
            ("/etc/shadow", &merged.files.shadow, &files.shadow, 0o640),
            ("/etc/passwd", &merged.files.passwd, &files.passwd, 0o644),
            ("/etc/gshadow", &merged.files.gshadow, &files.gshadow, 0o640),
            ("/etc/group", &merged.files.group, &files.group, 0o644),
        ];
        let replace = |name: &str, bytes: &[u8], mode| {
            let (mode, uid, gid) = owner(name, mode);
            root.replace(Path::new(name), bytes, mode, (uid, gid))
        };
        for (index, (name, bytes, _, mode)) in changed.iter().enumerate() {
            let Some(bytes) = bytes else { continue };
            let Err(error) = replace(name, bytes, *mode) else { continue };
            // One that is as it was wants no room to be so. This one, too: it may have its name, and not be durable.
            let is_as_before = |name: &str, former: Option<&[u8]>| {
                let now = root.read(Path::new(name), LARGEST_ACCOUNT_FILE);
                now.is_ok_and(|now| now.map(|file| file.bytes).as_deref() == former)
            };
            let begun = changed[..=index].iter().rev().filter(|(_, bytes, ..)| bytes.is_some());
            // Each of them, whatever becomes of another.
            let put_back = begun.map(|(name, _, former, mode)| match former {
                former if is_as_before(name, former.as_deref()) => Ok(()),
                Some(former) => replace(name, former, *mode),
                None => root.remove(Path::new(name)).map(drop),
            });
            let failure = failed(error);
            return Err(if put_back.fold(true, |all, done| all & done.is_ok()) {
                with_home(failure, home)
            } else {
                failure.state(
                    "not all that was changed of its accounts could be put back: the same command once more does all of it",
                )
            });
        }
    }
    Ok(if made.is_some() { Given::ToNew } else { Given::ToOld })
}

/// Nothing was changed, but for a home that was made.
fn with_home(failure: Failure, home: Option<&PathBuf>) -> Failure {
    match home {
        Some(home) => {
            failure.state(format!("nothing was changed, but there is `{}` now", tree::escaped_path(home)))
        }
        None => failure.unchanged(),
    }
}

/// One that is there already stays as it is: somebody of that name had it. Else says that it was made.
fn make_home(
    root: &impl Files,
    made: &NewUser,
    shift: u32,
    is_made: impl FnOnce(),
) -> std::result::Result<(), TreeError> {
    if let Some(parent) = made.home.parent() {
        root.make(parent, 0o755, shift)?;
    }
    if !root.make(&made.home, HOME_MODE, made.id + shift)? {
        return Ok(());
    }
    is_made();
    let mut left = SKELETON_FILES;
    let mut todo = vec![(PathBuf::from(SKELETON), made.home.clone(), 0)];
    while let Some((from, to, depth)) = todo.pop() {
        // Its contents are a courtesy: what of them cannot be had keeps nobody from his account.
        for name in root.names_up_to(&from, SKELETON_NAMES).ok().flatten().unwrap_or_default() {
            let (source, target) = (from.join(&name), to.join(&name));
            if left == 0 {
                return Ok(());
            }
            left -= 1;
            match root.kind(&source) {
                Ok(Some(Kind::File { mode, .. })) => {
                    if let Ok(Some(file)) = root.read(&source, LARGEST_SKELETON_FILE) {
                        root.replace(&target, &file.bytes, mode & 0o777, (made.id + shift, made.id + shift))?;
                    }
                }
                Ok(Some(Kind::Directory { mode, .. })) if depth < SKELETON_DEPTH => {
                    root.make(&target, mode & 0o777, made.id + shift)?;
                    todo.push((source, target, depth + 1));
                }
                Ok(Some(Kind::Directory { .. } | Kind::Symlink | Kind::Other(_)) | None) | Err(_) => {}
            }
        }
    }
    Ok(())
}
