//! The homes of carried users in a new root: made empty, as they were.
//!
//! Only what is missing is made. A home has the mode that it has in the old root, if it is the user's own there: who could not look into it
//! then cannot now. What is on the way to it and missing is root's.

use std::path::Path;

use tree::{Kind, LayeredRoot, Root, TreeError};

use crate::accounts::Home;

/// All of a mode but setuid, which means nothing on a directory.
const CARRIED_MODE: u32 = 0o3777;

/// Makes the homes that are missing; what there is to say of those that cannot be made.
pub fn make(old: &Root, new: &LayeredRoot, homes: &[Home]) -> Vec<String> {
    let make = |home: &Home| {
        make_missing_parents(new, &home.path)?;
        new.make_directory(&home.path, mode(old, home), home.uid, home.gid)
    };
    homes
        .iter()
        .filter_map(|home| {
            let error = make(home).err()?;
            Some(format!(
                "the home {} was not made: {}",
                tree::escaped_path(&home.path),
                runtime::monitor::describe(&error)
            ))
        })
        .collect()
}

fn mode(old: &Root, home: &Home) -> u32 {
    match old.kind(&home.path) {
        Ok(Some(Kind::Directory { mode, uid, .. })) if uid == home.uid => mode & CARRIED_MODE,
        Ok(_) | Err(_) => home.mode,
    }
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
