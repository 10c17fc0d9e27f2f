//! The step *carry*: users and groups of the old root into the new one, the password that was given, and then what else is to be kept.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::Path;

use runtime::confined::Reach;
use store::{Base, template};
use tree::LayeredRoot;

use super::build::{complete, layers_left, staged};
use super::change::ChangeWork;
use super::flatten::flatten;
use super::keep::keep;
use super::{homes, password};
use crate::accounts::{self, AccountFiles, Merged};
use crate::error::{Code, Failure, Result};
use crate::host::Container;

/// Larger account files are not read: a container's root may have made them so.
pub const LARGEST_ACCOUNT_FILE: u64 = 16 * 1024 * 1024;

/// The roots that a carry is about, opened while their paths can be.
#[derive(Debug)]
pub struct Roots {
    /// The new one, which is not mounted.
    pub new: LayeredRoot,
    /// The layers of the old one, if something of it is kept.
    pub old: Option<LayeredRoot>,
    /// The old one as the kernel shows it, if its users are carried.
    old_users: Option<tree::Root>,
}

/// Step *carry*: what every new root has, then users and groups, by reading files of the old root and writing files of the new one; nothing of
/// either is executed. By a thread that can reach these two roots and nothing else of the host.
///
/// # Errors
/// When the new root cannot be written. What of the old one's users cannot be read is reported.
pub fn carry(work: &mut ChangeWork<'_>) -> Result<()> {
    let Some(making) = &work.plan.making else { return Ok(()) };
    let container = work.container;
    let old_users = if making.carries_users { Some(old_root(container, work.plan.from)?) } else { None };
    let own_files = match &making.base {
        Base::Template { name, digest } if !making.is_by_script && !making.is_flattened => {
            template::exact(&container.host.prefix, name, digest)?.record.own_files
        }
        Base::Template { .. } | Base::Empty => Vec::new(),
    };
    let is_read = !making.keep.is_empty() || making.is_flattened;
    let old = if is_read { Some(layers_left(container, work.plan.from)?) } else { None };
    let roots = Roots { new: staged(work)?, old, old_users };
    let old = roots.old.as_ref();
    let reads = [old.map(LayeredRoot::upper), old.and_then(LayeredRoot::lower), roots.new.lower()]
        .into_iter()
        .chain([roots.old_users.as_ref().map(tree::Root::handle)])
        .flatten();
    let reach = Reach { reads: reads.collect(), writes: vec![roots.new.upper()], ids: None };
    container.host.confined(&reach, "cannot carry anything into the new root", || {
        if work.plan.making.as_ref().is_some_and(|making| making.is_flattened) {
            return flatten(work, &roots);
        }
        complete(work, &roots.new, &own_files)?;
        carry_users(work, &roots)?;
        keep(work, &roots)
    })
}

fn carry_users(work: &mut ChangeWork<'_>, roots: &Roots) -> Result<()> {
    let Some(making) = &work.plan.making else { return Ok(()) };
    let carries_users = making.carries_users;
    let new = &roots.new;
    let mut modes = HashMap::new();
    let mut failure = None;
    let mut of_new = |name: &str| match new.read_file(Path::new(name), LARGEST_ACCOUNT_FILE) {
        Ok(found) => found.map(|file| {
            modes.insert(name.to_owned(), (file.mode & 0o7777, file.uid, file.gid));
            file.bytes
        }),
        Err(error) => {
            failure.get_or_insert(error);
            None
        }
    };
    let new_files = account_files(&mut of_new);
    if let Some(error) = failure {
        // With nothing to write, a root of a script's making may be as odd as it likes.
        let writes = carries_users || work.plan.passwords.given.is_some();
        return if writes { Err(Failure::from(error)) } else { Ok(()) };
    }
    let mut report = Vec::new();
    let mut merged = Merged::default();
    if let Some(old_root) = &roots.old_users {
        let mut of_old = |name: &str| match old_root.read_file(Path::new(name), LARGEST_ACCOUNT_FILE) {
            Ok(found) => found.map(|file| file.bytes),
            Err(error) => {
                report.push(format!(
                    "{name} of the old root is not carried over: {}",
                    runtime::monitor::describe(&error)
                ));
                None
            }
        };
        let old_files = account_files(&mut of_old);
        // Most have the same one.
        let asked = RefCell::new(HashMap::new());
        let shell_exists = |shell: &str| {
            let is_there = || new.has_executable(Path::new(shell)).unwrap_or(false);
            *asked.borrow_mut().entry(shell.to_owned()).or_insert_with(is_there)
        };
        merged = accounts::merge(&old_files, &new_files, &shell_exists);
    }
    password::give(work, &new_files, &mut merged)?;
    let changed = [
        ("/etc/passwd", &merged.files.passwd, 0o644),
        ("/etc/group", &merged.files.group, 0o644),
        ("/etc/shadow", &merged.files.shadow, 0o640),
        ("/etc/gshadow", &merged.files.gshadow, 0o640),
        ("/etc/subuid", &merged.files.subuid, 0o644),
        ("/etc/subgid", &merged.files.subgid, 0o644),
    ];
    for (name, bytes, mode) in changed {
        if let Some(bytes) = bytes {
            let (mode, uid, gid) = modes.get(name).copied().unwrap_or((mode, 0, 0));
            new.replace_file(Path::new(name), bytes, mode, uid, gid)?;
        }
    }
    if let Some(old) = &roots.old_users {
        report.extend(homes::make(old, new, &merged.homes));
    }
    work.plan.report.extend(report);
    work.plan.report.extend(merged.report.iter().map(ToString::to_string));
    Ok(())
}

/// The account files of a root whose layers are at hand; of what cannot be read, why.
pub fn files_of(root: &LayeredRoot, problems: &mut Vec<String>) -> accounts::AccountFiles {
    account_files(&mut |name| match root.read_file_followed(Path::new(name), LARGEST_ACCOUNT_FILE) {
        Ok(found) => found.map(|file| file.bytes),
        Err(error) => {
            problems.push(runtime::monitor::describe(&error));
            None
        }
    })
}

/// A look at the old root, read-only.
///
/// # Errors
/// When it cannot be looked at.
pub fn old_root(container: &Container<'_>, from: store::GenerationNumber) -> Result<tree::Root> {
    let root = container.left_of(from)?;
    container
        .runtime()
        .look(container.id(), &root)
        .map_err(|error| Failure::new(Code::System, "cannot look into the old root").because(error.because))
}

/// The account files of a root, as they are read one by one.
pub fn account_files(read: &mut dyn FnMut(&str) -> Option<Vec<u8>>) -> AccountFiles {
    AccountFiles {
        passwd: read("/etc/passwd"),
        shadow: read("/etc/shadow"),
        group: read("/etc/group"),
        gshadow: read("/etc/gshadow"),
        subuid: read("/etc/subuid"),
        subgid: read("/etc/subgid"),
        login_defs: read("/etc/login.defs"),
    }
}
