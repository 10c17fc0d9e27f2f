//! The homes of carried users in a new root: made empty, as they were.
//!
//! Only what is missing is made. A home has the mode that it has in the old root, if it is the user's own there: who could not look into it
//! then cannot now. What is on the way to it and missing is root's.

use std::path::Path;

use tree::{LayeredRoot, NewDirectory, Root, TreeError};

use crate::accounts::Home;

/// All of a mode but setuid, which means nothing on a directory.
const CARRIED_MODE: u32 = 0o3777;

/// Makes the homes that are missing; what there is to say of those that cannot be made. `homes` are sorted, so that most share the way to them
/// with their neighbours.
pub fn make(old: &Root, new: &LayeredRoot, homes: &[Home]) -> Vec<String> {
    let mut report = Vec::new();
    let mut fails = |home: &Home, error: &TreeError| {
        report.push(format!(
            "the home {} was not made: {}",
            tree::escaped_path(&home.path),
            runtime::monitor::describe(error)
        ));
    };
    for neighbours in homes.chunk_by(|a, b| a.path.parent() == b.path.parent()) {
        if let Err(error) = make_missing_parents(new, &neighbours[0].path) {
            neighbours.iter().for_each(|home| fails(home, &error));
            continue;
        }
        let wanted: Vec<NewDirectory<'_>> = neighbours.iter().map(|home| as_it_was(old, home)).collect();
        for (home, made) in neighbours.iter().zip(new.make_directories(&wanted)) {
            if let Err(error) = made {
                fails(home, &error);
            }
        }
    }
    report
}

fn as_it_was<'a>(old: &Root, home: &'a Home) -> NewDirectory<'a> {
    let mode = match old.directory_owner(&home.path) {
        Ok(Some((mode, uid))) if uid == home.uid => mode & CARRIED_MODE,
        Ok(_) | Err(_) => home.mode,
    };
    NewDirectory { path: &home.path, mode, uid: home.uid, gid: home.gid }
}

fn make_missing_parents(new: &LayeredRoot, path: &Path) -> Result<(), TreeError> {
    let is_there = |path: &Path| new.kind_followed(path).map(|kind| kind.is_some());
    let Some(parent) = path.parent() else { return Ok(()) };
    if is_there(parent)? {
        return Ok(());
    }
    let ancestors: Vec<&Path> = parent.ancestors().collect();
    for ancestor in ancestors.into_iter().rev().skip(1) {
        if !is_there(ancestor)? {
            new.make_directory(ancestor, 0o755, 0, 0)?;
        }
    }
    Ok(())
}
