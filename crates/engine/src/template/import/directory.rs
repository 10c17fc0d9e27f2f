//! A root in a directory, as a template.

use std::os::fd::AsFd;
use std::path::Path;

use runtime::confined::{Reach, confined};
use rustix::fs::{Mode, OFlags};
use tree::{Copied, Copier, Except, LayeredRoot, Root, TreeError, Unpacked};

use super::Told;
use crate::template::RecipeError;
use crate::words::count_of;

/// Copies what is in `from` into `rootfs`, by a thread that can reach nothing else; blocks are shared where the filesystem can.
///
/// A container's layers have marks of overlayfs, which stay behind; in a directory `of_the_host` they are refused, as in an archive.
pub fn fill(
    from: &LayeredRoot,
    of_the_host: bool,
    rootfs: &Path,
    told: &mut Told<'_>,
) -> Result<(), RecipeError> {
    let held = rustix::fs::open(rootfs, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|error| RecipeError::write("open", rootfs, error.into()))?;
    let to = LayeredRoot::new(Root::open(rootfs)?, None);
    let reads = std::iter::once(from.upper()).chain(from.lower()).collect();
    let reach = Reach { reads, writes: vec![held.as_fd()], ids: None };
    let goes_on = &mut *told.goes_on;
    let copied = confined(&reach, || -> Result<Copied, TreeError> {
        let mut goes_on =
            |copied: &Copied| goes_on(Unpacked { bytes: copied.bytes, entries: copied.entries });
        let copier = Copier::new(from, &to, Except::default(), &mut goes_on);
        let mut copier = if of_the_host { copier.refusing_marks() } else { copier };
        copier.copy_all()?;
        Ok(copier.copied().clone())
    })??;
    let left: Vec<String> = copied
        .left
        .iter()
        .take(5)
        .map(|(path, because)| format!("`{}`: {because}", tree::escaped_path(path)))
        .collect();
    if !left.is_empty() {
        let more = if copied.left.len() > left.len() { "; and others" } else { "" };
        let count = count_of(copied.left.len() as u64, "is", "are");
        (told.note)(&format!("{count} left out ({}{more})", left.join("; ")));
    }
    Ok(())
}
