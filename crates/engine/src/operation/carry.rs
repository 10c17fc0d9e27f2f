//! The step *carry*: users and groups of the old root into the new one, and then what else is to be kept.

use std::path::Path;

use tree::LayeredRoot;

use super::build::staged;
use super::change::ChangeWork;
use super::homes;
use super::keep::keep;
use crate::accounts;
use crate::error::{Code, Failure, Result};

/// Larger account files are not read: a container's root may have made them so.
const LARGEST_ACCOUNT_FILE: u64 = 16 * 1024 * 1024;

/// Step *carry*: users and groups, by reading files of the old root and writing files of the new one; nothing of either is executed.
///
/// # Errors
/// When the new root cannot be written. What of the old one's users cannot be read is reported.
pub fn carry(work: &mut ChangeWork<'_>) -> Result<()> {
    carry_users(work)?;
    keep(work)
}

fn carry_users(work: &mut ChangeWork<'_>) -> Result<()> {
    if !work.plan.making.as_ref().is_some_and(|making| making.carries_users) {
        return Ok(());
    }
    let container = work.container;
    let old_root = container.root(work.plan.from)?;
    let old = container.runtime().look(container.id(), &old_root).map_err(|error| {
        Failure::new(Code::System, "cannot look into the old root").because(error.because)
    })?;
    let new = staged(work)?;
    let mut report = Vec::new();
    let mut of_old = |name: &str| match old.read_file(Path::new(name), LARGEST_ACCOUNT_FILE) {
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
    let mut modes = std::collections::HashMap::new();
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
        return Err(Failure::from(error));
    }
    let shell_exists = |shell: &str| new.has_executable(Path::new(shell)).unwrap_or(false);
    let merged = accounts::merge(&old_files, &new_files, &shell_exists);
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
    report.extend(homes::make(&old, &new, &merged.homes));
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

fn account_files(read: &mut dyn FnMut(&str) -> Option<Vec<u8>>) -> accounts::AccountFiles {
    accounts::AccountFiles {
        passwd: read("/etc/passwd"),
        shadow: read("/etc/shadow"),
        group: read("/etc/group"),
        gshadow: read("/etc/gshadow"),
        subuid: read("/etc/subuid"),
        subgid: read("/etc/subgid"),
        login_defs: read("/etc/login.defs"),
    }
}
