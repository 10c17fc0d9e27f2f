//! A private area that is no container any more, or none yet: all that it had is in it, and nothing of the host leads to it.

use std::path::Path;

use store::{Area, Prefix};

use super::{Before, Effect, Judged, Violation, judge_area, records, surroundings};

const UNREGISTERED: &str = "what is unregistered is no container, and whole";

/// Looks at one that lies at `path`. A temporary file in it is swept when it is a container's.
///
/// # Errors
/// The first [`Violation`].
pub fn is_whole_and_unregistered(prefix: &Prefix, before: &Before, path: &Path) -> Judged<()> {
    let wrong = |what: String| Err(Violation::new(UNREGISTERED, what));
    let area = match Area::open_elsewhere(prefix, path).map_err(records)? {
        Some(area) if *area.id() == before.id => area,
        found => return wrong(format!("at {} is {:?}", path.display(), found.map(|area| *area.id()))),
    };
    if area.record().map_err(records)?.is_registered() {
        return wrong(format!("{} is a container's", path.display()));
    }
    let listed = store::registry::list(prefix).map_err(records)?;
    if listed.contains(&before.id) || store::registry::find(prefix, &before.name).is_ok() {
        return wrong(format!("`{}` is found nevertheless", before.name));
    }
    for directory in [prefix.names_dir(), prefix.conf_dir()] {
        for entry in std::fs::read_dir(&directory).into_iter().flatten().flatten() {
            let leads_here = std::fs::read_link(entry.path())
                .is_ok_and(|target| target.to_string_lossy().contains(&before.id.to_string()));
            if leads_here {
                return wrong(format!("{} leads to it", entry.path().display()));
            }
        }
    }
    surroundings::nothing_is_mounted_of(prefix, &before.id)?;
    judge_area(&area, before, Effect::Nothing).map(drop)
}
