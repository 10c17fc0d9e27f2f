//! What was asked to be kept, from the old root into the new one: the second half of the step *carry*.
//!
//! The container is stopped by then: what is copied is as its processes left it. Whatever of it cannot be copied stops the reinstall, for with
//! `--skipbackup` there would be no other copy; only what is not there is no hindrance, and reported.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tree::{Changed, Copied, Copier, Except, LayeredRoot, TreeError};

use super::build::layers_left;
use super::carry::{Roots, files_of};
use super::change::ChangeWork;
use super::pace::Pace;
use crate::accounts::{self, AccountFiles};
use crate::error::{Code, Failure, Result};
use crate::host::Container;
use crate::keep::{HomeOf, Keep, Pattern, RESERVED, find, said};
use crate::packages;
use crate::words::in_words;

/// Users are merged, whatever else is kept.
const EXCEPT: Except<'_> = Except {
    left: &["/etc/passwd", "/etc/shadow", "/etc/group", "/etc/gshadow", "/etc/subuid", "/etc/subgid"],
    // Made for this very root a moment ago, or written by every start.
    unsaved: &[
        "/etc/machine-id",
        "/var/lib/dbus/machine-id",
        "/etc/hostname",
        "/etc/hosts",
        "/etc/ssh/ssh_host_ed25519_key",
        "/etc/ssh/ssh_host_ed25519_key.pub",
    ],
    reserved: &RESERVED,
};
/// More are only counted.
const MOST_TOLD: usize = 20;

/// What was kept, and what not.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct KeepReport {
    /// In the order in which they were named.
    pub kept: Vec<Kept>,
    /// Where the new root had something else.
    pub conflicts: Vec<Conflict>,
    /// What was left out, and why.
    pub left: Vec<Left>,
    /// Files whose owner is somebody else in the new root.
    pub owners: Vec<String>,
    /// What became of the packages.
    pub packages: Option<packages::PackageReport>,
}

/// One thing to keep.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    /// As it was named.
    pub keep: String,
    /// Files, directories and all else.
    pub entries: u64,
    /// The sum of the sizes of regular files.
    pub bytes: u64,
    /// What the old root does not have.
    pub missing: Vec<String>,
    /// Only what the container changed there: the rest is as the template has it.
    pub is_only_changed: bool,
    /// With that: what the container had deleted there, and is in the new root all the same.
    pub not_deleted: Vec<String>,
}

/// A file of the new root that said something else.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Conflict {
    /// Where it was.
    pub path: String,
    /// Where it is.
    pub saved_as: String,
}

/// What was not copied.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Left {
    /// What.
    pub path: String,
    /// Why.
    pub because: String,
}

/// Copies what is to be kept.
///
/// # Errors
/// When something of it cannot be read or written.
pub fn keep(work: &mut ChangeWork<'_>, roots: &Roots) -> Result<()> {
    let Some(making) = &work.plan.making else { return Ok(()) };
    let Roots { old: Some(old), new, .. } = roots else { return Ok(()) };
    let container = work.container;
    let old_accounts = files_of(old, &mut Vec::new());
    let new_accounts = files_of(new, &mut Vec::new());
    let homes = homes(old, &making.keep, new_accounts.passwd.as_deref())?;

    let mut report = KeepReport::default();
    let mut pace = Pace::new(container.host, "carry");
    let mut told = |copied: &Copied| pace.goes_on(copied.entries, copied.bytes);
    let mut copier = Copier::new(old, new, EXCEPT, &mut told);
    for keep in &making.keep {
        container.host.step("carry", &format!("Keeping {} ...", keep.said()));
        let refused = |failure: Failure| {
            failure
                .within(format!("`{}` cannot be kept", tree::escaped(keep.word.as_bytes())))
                .hint("correct that, or keep less: --dry-run tells what is kept")
        };
        let before = (copier.copied().entries, copier.copied().bytes);
        let (mut missing, mut deleted) = (Vec::new(), Vec::new());
        for path in paths(old, keep, &homes, &mut missing).map_err(refused)? {
            let copied = if keep.is_only_changed() {
                copy_changed(&mut copier, old, &path, &mut deleted)
            } else {
                copier.copy(&path)
            };
            if !copied.map_err(|error| refused(error.into()))? {
                missing.push(path);
            }
        }
        // What a later one of these carries may still bring it: then it is no news.
        deleted.retain(|path| matches!(new.kind(path), Ok(Some(_))));
        let after = copier.copied();
        report.kept.push(Kept {
            keep: keep.word.clone(),
            entries: after.entries - before.0,
            bytes: after.bytes - before.1,
            missing: in_no_home(&missing, keep, &homes),
            is_only_changed: keep.is_only_changed(),
            not_deleted: deleted.iter().map(|path| tree::escaped_path(path)).collect(),
        });
    }
    let copied = copier.copied().clone();
    report.conflicts = copied
        .conflicts
        .iter()
        .map(|(path, saved)| Conflict { path: tree::escaped_path(path), saved_as: tree::escaped_path(saved) })
        .collect();
    report.left = copied
        .left
        .iter()
        .map(|(path, because)| Left { path: tree::escaped_path(path), because: (*because).to_owned() })
        .collect();
    report.owners = changed_owners(&copied.owners, &old_accounts, &new_accounts);
    if making.keep.iter().any(|keep| keep.patterns.contains(&Pattern::Packages)) {
        report.packages = Some(packages::carry(old, new)?);
    }
    work.plan.kept = Some(report);
    Ok(())
}

/// What was changed at and below `path`, without what every start writes, what every new root has of its own, and users, who are merged: that
/// nobody has changed by hand. Who names one of them gets it.
fn changed_by_somebody(root: &LayeredRoot, path: &Path) -> std::result::Result<Option<Changed>, TreeError> {
    let read = |path: &Path, most: u64| Some(root.read_file(path, most).ok()??.bytes);
    let is_ours = |found: &Path| {
        found != path
            && (EXCEPT.left.iter().chain(EXCEPT.unsaved).any(|ours| found == Path::new(ours))
                || runtime::network_files::is_ours(found, read))
    };
    let mut changed = tree::changed(root, path)?;
    if let Some(changed) = &mut changed {
        changed.paths.retain(|found| !is_ours(&found.path));
    }
    Ok(changed)
}

/// What the container changed at and below `path`; what it deleted there is added to `deleted`. False: nothing is there, and never was.
fn copy_changed(
    copier: &mut Copier<'_>,
    old: &LayeredRoot,
    path: &Path,
    deleted: &mut Vec<PathBuf>,
) -> std::result::Result<bool, TreeError> {
    let Some(changed) = changed_by_somebody(old, path)? else { return Ok(false) };
    let mut directories = BTreeSet::new();
    for one in &changed.paths {
        directories.extend(one.path.ancestors().skip(1).take_while(|above| above.starts_with(path)));
        if one.is_whole {
            copier.copy(&one.path)?;
        } else {
            copier.copy_itself(&one.path)?;
        }
    }
    // The deepest first, and last of all: what was copied into them has changed their times.
    for directory in directories.into_iter().rev() {
        copier.copy_times(directory)?;
    }
    deleted.extend(changed.deleted);
    Ok(true)
}

/// The homes that `~` stands for, if anything to keep says so. Who cannot be told whose home is where is not to lose one.
fn homes(old: &LayeredRoot, kept: &[Keep], new_passwd: Option<&[u8]>) -> Result<Vec<HomeOf>> {
    let is_home = |pattern: &Pattern| matches!(pattern, Pattern::Home(_));
    if !kept.iter().any(|keep| keep.patterns.iter().any(is_home)) {
        return Ok(Vec::new());
    }
    let mut problems = Vec::new();
    let accounts = files_of(old, &mut problems);
    if let Some(problem) = problems.into_iter().next() {
        return Err(Failure::new(Code::BadValue, "nobody can tell where the homes are")
            .because(problem)
            .hint("name their paths with --keep"));
    }
    let mut homes = accounts::homes_of_people(&accounts, new_passwd);
    // A broken root may have no passwd at all.
    if !homes.iter().any(|(name, _)| name == "root") {
        homes.insert(0, ("root".to_owned(), "/root".into()));
    }
    Ok(homes)
}

/// What is worth telling of what is not there: of a path in homes only that no home has it.
fn in_no_home(missing: &[PathBuf], keep: &Keep, homes: &[(String, PathBuf)]) -> Vec<String> {
    let mut told = Vec::new();
    let mut in_homes: Vec<PathBuf> = Vec::new();
    for pattern in &keep.patterns {
        let Pattern::Home(path) = pattern else { continue };
        let all: Vec<PathBuf> = homes
            .iter()
            .map(|(_, home)| home.join(path.trim_start_matches('/')).components().collect())
            .collect();
        if all.iter().all(|path| missing.contains(path)) {
            told.push(format!("~{}", tree::escaped(path.as_bytes())));
        }
        in_homes.extend(all);
    }
    let others = missing.iter().filter(|path| !in_homes.contains(path));
    told.extend(others.map(|path| tree::escaped_path(path)));
    told
}

/// The paths that one word means; what has a pattern that nothing matches is missing as a whole.
pub fn paths(
    root: &LayeredRoot,
    keep: &Keep,
    homes: &[(String, PathBuf)],
    missing: &mut Vec<PathBuf>,
) -> Result<Vec<PathBuf>> {
    let mut all: Vec<PathBuf> = Vec::new();
    for pattern in &keep.patterns {
        let found = find(root, pattern, homes)?;
        match pattern {
            Pattern::Path(path) | Pattern::Changed(path) if found.is_empty() => {
                missing.push(PathBuf::from(path));
            }
            Pattern::Path(_) | Pattern::Changed(_) | Pattern::Home(_) | Pattern::Packages => {}
        }
        all.extend(found);
    }
    // What lies in another one comes with that.
    all.sort();
    all.dedup_by(|path, before| path.starts_with(Path::new(before.as_path())));
    Ok(all)
}

/// For people: what was kept, and what there is to know; of each kind at most `most` lines.
pub fn lines(report: &KeepReport, most: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for kept in &report.kept {
        let said = said(&kept.keep, kept.is_only_changed);
        if kept.entries > 0 {
            lines.push(format!("kept {said}: {} entries, {}", kept.entries, in_words(kept.bytes)));
        } else if kept.is_only_changed && kept.missing.is_empty() {
            lines.push(format!("nothing was changed in {} that could be kept", kept.keep));
        } else if !kept.missing.is_empty() {
            lines.push(format!("nothing of {} is in the old root", kept.keep));
            continue;
        }
        if !kept.missing.is_empty() {
            lines.push(format!("not in the old root, of {said}: {}", named(&kept.missing, most)));
        }
        if !kept.not_deleted.is_empty() {
            lines.push(format!(
                "had been deleted in the old root, and is in the new one as the template has it: {}",
                named(&kept.not_deleted, most)
            ));
        }
    }
    let mut some = |all: Vec<String>, what: &str| {
        let more = all.len().saturating_sub(most);
        lines.extend(all.into_iter().take(most));
        if more > 0 {
            lines.push(format!("and {more} more {what}: `prlctl reinstall-report` has all, with -j"));
        }
    };
    let conflicts = report.conflicts.iter();
    some(
        conflicts
            .map(|conflict| {
                format!("{} is the old one; the template's is {}", conflict.path, conflict.saved_as)
            })
            .collect(),
        "in conflict",
    );
    some(
        report.left.iter().map(|left| format!("not kept: {}: {}", left.path, left.because)).collect(),
        "not kept",
    );
    some(report.owners.clone(), "owners");
    if let Some(packages) = &report.packages {
        lines.extend(packages.lines());
    }
    lines
}

/// At most so many of them.
fn named(paths: &[String], most: usize) -> String {
    let more = match paths.len().saturating_sub(most) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let named: Vec<&str> = paths.iter().take(most).map(String::as_str).collect();
    format!("{}{more}", named.join(", "))
}

/// For the report at the end.
pub fn short_lines(report: &KeepReport) -> Vec<String> {
    lines(report, MOST_TOLD)
}

/// Ids are kept; who they are may have changed.
fn changed_owners(owners: &BTreeMap<u32, u64>, old: &AccountFiles, new: &AccountFiles) -> Vec<String> {
    let (old, new) =
        (accounts::names_by_id(old.passwd.as_deref()), accounts::names_by_id(new.passwd.as_deref()));
    let mut lines = Vec::new();
    for (id, count) in owners {
        let what = format!("{count} kept entries belong to id {id}");
        match (old.get(id), new.get(id)) {
            (old, new) if old == new => {}
            (Some(old), Some(new)) => {
                lines.push(format!("{what}, which was `{old}` and is `{new}` in the new root"))
            }
            (Some(old), None) => {
                lines.push(format!("{what}, which was `{old}` and is nobody in the new root"))
            }
            (None, new) => {
                let new = new.map(String::as_str).unwrap_or_default();
                lines.push(format!("{what}, which was nobody and is `{new}` in the new root"));
            }
        }
    }
    lines
}

/// Room for what is to be kept: bytes, which a filesystem that can clone files does not need, and inodes.
///
/// # Errors
/// [`Code::Damaged`] and the like when the old root cannot be read.
pub fn measure(container: &Container<'_>, from: store::GenerationNumber, kept: &[Keep]) -> Result<Measured> {
    let old = layers_left(container, from)?;
    let passwd = files_of(&old, &mut Vec::new()).passwd;
    let homes = homes(&old, kept, passwd.as_deref())?;
    let mut measure = tree::Measure::default();
    let mut measured = Measured {
        // Of a directory that is counted, what is shared counts as often as it is there.
        shares: tree::can_clone(container.area.handle()) && container.area.counted().is_none(),
        ..Measured::default()
    };
    for keep in kept {
        let before = measure.size();
        let (mut missing, mut deleted) = (Vec::new(), Vec::new());
        for path in paths(&old, keep, &homes, &mut missing)? {
            if !keep.is_only_changed() {
                if !measure.add(&old, &path)? {
                    missing.push(path);
                }
                continue;
            }
            let Some(changed) = changed_by_somebody(&old, &path)? else {
                missing.push(path);
                continue;
            };
            for one in &changed.paths {
                if one.is_whole {
                    measure.add(&old, &one.path)?;
                } else {
                    measure.add_itself(&old, &one.path)?;
                }
            }
            deleted.extend(changed.deleted);
        }
        let after = measure.size();
        measured.kept.push(Kept {
            keep: keep.word.clone(),
            entries: after.entries - before.entries,
            bytes: after.bytes - before.bytes,
            missing: in_no_home(&missing, keep, &homes),
            is_only_changed: keep.is_only_changed(),
            not_deleted: deleted.iter().map(|path| tree::escaped_path(path)).collect(),
        });
    }
    (measured.entries, measured.bytes) = (measure.size().entries, measure.size().bytes);
    Ok(measured)
}

/// See [`measure`].
#[derive(Debug, Default, Serialize)]
pub struct Measured {
    /// Each with what it takes on the disk.
    pub kept: Vec<Kept>,
    /// All of them.
    pub entries: u64,
    /// All of them, on the disk.
    pub bytes: u64,
    /// The filesystem clones files: the bytes are there already.
    pub shares: bool,
}
