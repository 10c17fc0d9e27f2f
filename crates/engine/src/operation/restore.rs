//! `prlctl generation-restore`: a file or a tree of an old root back into the live one.
//!
//! No journal: nothing of the live root is changed but by one rename, and whatever a death leaves lies beside the target under a name of ours. It is
//! written through a mount of the live root and never into its layers: that of the container while it runs, what `prlctl mount` shows, or one of our
//! own that is attached nowhere. What is read is read from the layers.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use runtime::confined::Reach;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Serialize;
use store::{AreaError, GenerationNumber};
use tree::{Copied, IdShift, Measure, Restore, RestoreError, Restored, TreeError};

use super::build::layers;
use super::keep::Left;
use crate::error::{Code, Failure, Result, system};
use crate::host::{Container, damaged};
use crate::interrupt::Second;
use crate::keep::RESERVED;
use crate::space::{self, Need};
use crate::view;

/// What the user has asked for.
#[derive(Debug, Clone)]
pub struct Options {
    /// Of which root.
    pub number: GenerationNumber,
    /// What of it.
    pub path: PathBuf,
    /// Where to; `None`: where it was.
    pub to: Option<PathBuf>,
    /// What is there is put aside.
    pub replaces: bool,
}

/// What was brought back.
#[derive(Debug, Serialize)]
pub struct Report {
    /// From which root.
    pub from: GenerationNumber,
    /// What of it.
    pub path: String,
    /// Where it is.
    pub to: String,
    /// Files, directories and all else.
    pub entries: u64,
    /// The sum of the sizes of regular files.
    pub bytes: u64,
    /// What was there, and is there now.
    pub saved_as: Option<String>,
    /// What was left out, and why.
    pub left: Vec<Left>,
}

/// Brings it back.
///
/// # Errors
/// [`Code::Exists`] when something is in the way, [`Code::BadValue`] when there is nothing to bring back, or nowhere to; the live root is as it was.
pub fn restore(container: &Container<'_>, options: &Options) -> Result<Report> {
    let shown = tree::escaped_path(&options.path);
    let what = format!("cannot restore `{shown}` of `{}`", container.name);
    let refused = |failure: Failure| {
        let failure = if failure.what == what { failure } else { failure.within(what.clone()) };
        if failure.state.is_none() { failure.unchanged() } else { failure }
    };
    let live = container.area.live().map_err(|error| damaged(error, &container.name))?;
    check_number(container, live, options.number, &what)?;
    let old = layers(container, options.number).map_err(refused)?;
    let target = options.to.as_ref().unwrap_or(&options.path);
    let mut measure = Measure::default();
    // That it is not there is told below, and so is a path that is none.
    if options.path.file_name().is_some() {
        measure
            .add(&old, &options.path)
            .map_err(|error| refused(failure(error.into(), container, options, &what)))?;
    }
    let need = Need { who: "what is restored", bytes: measure.size().bytes, inodes: measure.size().entries };
    space::check(container, need).map_err(refused)?;

    let interrupted = |failure| {
        let failure = container.host.or_interrupted(failure, Second::Copy(&container.name));
        if matches!(failure.code, Code::Interrupted(_)) {
            return failure.hint(format!("`{}` begins again", container.host.command));
        }
        failure
    };
    container.host.heed_signals(&what)?;
    let hidden = view::mounted_inside(container);
    let (mount, ids) = view::writable(container).map_err(refused)?;
    let to = tree::Root::from_handle(mount);
    let interrupt = container.runtime().interrupt();
    let put = || {
        let is_hidden = |path: &Path| is_hidden(path, &hidden, options.replaces);
        let what = Restore {
            from: &old,
            path: &options.path,
            to: &to,
            target,
            ids: ids.map_or_else(IdShift::default, |ids| IdShift::to_range(ids.first, ids.count)),
            replaces: options.replaces,
            is_hidden: &is_hidden,
        };
        tree::restore(&what, &mut |_: &Copied| goes_on(interrupt.as_ref()))
    };
    // Where the container runs, somebody may be waiting in it for what goes through his root.
    let reach = Reach {
        reads: [Some(old.upper()), old.lower()].into_iter().flatten().collect(),
        writes: vec![to.handle()],
        // Through mapped layers nothing can be made by an id that they do not map.
        ids: ids.map(|ids| ids.first),
    };
    let put = container.host.confined(&reach, &what, || Ok(put())).map_err(refused)?;
    let Restored { copied, saved_as } =
        put.map_err(|error| interrupted(refused(failure(error, container, options, &what))))?;
    let left = |(path, because): &(PathBuf, &str)| Left {
        path: tree::escaped_path(path),
        because: (*because).to_owned(),
    };
    Ok(Report {
        from: options.number,
        path: shown,
        to: tree::escaped_path(target),
        entries: copied.entries,
        bytes: copied.bytes,
        saved_as: saved_as.map(|path| tree::escaped_path(&path)),
        left: copied.left.iter().map(left).collect(),
    })
}

fn check_number(
    container: &Container<'_>,
    live: GenerationNumber,
    number: GenerationNumber,
    what: &str,
) -> Result<()> {
    let all = format!("`prlctl generation-list {} --all` shows all roots", container.name);
    let refused =
        |because: String| Failure::new(Code::BadValue, what).because(because).unchanged().hint(all.clone());
    if number == live {
        return Err(refused(format!("generation {number} is the root as it is now")));
    }
    match container.area.generation(number) {
        Ok(_) => Ok(()),
        Err(AreaError::NoGeneration { .. }) => Err(refused(format!("there is no generation {number}"))),
        Err(error) => Err(damaged(error, &container.name)),
    }
}

/// Where something else is mounted, now or at every start, it could not be seen.
fn is_hidden(path: &Path, mounted: &[PathBuf], replaces: bool) -> Option<&'static str> {
    if RESERVED.iter().any(|name| path.starts_with(Path::new("/").join(name))) {
        return Some("something else is mounted there at every start");
    }
    if replaces && mounted.iter().any(|point| point.starts_with(path)) {
        return Some("something is mounted below it in the container, and would go away with what is there");
    }
    mounted
        .iter()
        .any(|point| path.starts_with(point))
        .then_some("something else is mounted there in the container")
}

fn goes_on(interrupt: Option<&OwnedFd>) -> bool {
    let Some(interrupt) = interrupt else { return true };
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    !matches!(poll(&mut [PollFd::new(interrupt, PollFlags::IN)], Some(&now)), Ok(1..))
}

fn failure(error: RestoreError, container: &Container<'_>, options: &Options, what: &str) -> Failure {
    let name = &container.name;
    let (path, target) = (&options.path, options.to.as_ref().unwrap_or(&options.path));
    let shown = tree::escaped_path(target);
    let bad = |because: String, hint: String| {
        Failure::new(Code::BadValue, what).because(because).unchanged().hint(hint)
    };
    match error {
        RestoreError::Missing => bad(
            format!("`{}` is not in generation {}", tree::escaped_path(path), options.number),
            format!(
                "`prlctl mount {name} --generation {}` shows all of it, `prlctl generation-list {name} --all` all roots",
                options.number
            ),
        ),
        RestoreError::InTheWay { kind } => Failure::new(Code::Exists, what)
            .because(format!("{kind} is there already: `{shown}`"))
            .unchanged()
            .hint(format!(
                "`--to {shown}.restored` puts it beside that; `--replace` puts it there, and what is there becomes `{shown}.before-restore`"
            )),
        RestoreError::NoDirectory { path } => bad(
            format!("the directory `{}` is not there", tree::escaped_path(&path)),
            "make it, or name another place with --to".to_owned(),
        ),
        RestoreError::Tree { source } => {
            #[expect(clippy::wildcard_enum_match_arm, reason = "every other one is no fault of what was typed")]
            match &source {
                TreeError::BadPath { .. } | TreeError::NotDirectory { .. } => bad(
                    runtime::monitor::describe(&source),
                    "a path begins with /, as the container writes it; --to names another place".to_owned(),
                ),
                TreeError::Moved { .. } | TreeError::SymlinkOnTheWay { .. } => bad(
                    runtime::monitor::describe(&source),
                    "do it again, when nobody moves directories about there".to_owned(),
                ),
                _ => system(what, &source).unchanged(),
            }
        }
        error => system(what, &error).unchanged(),
    }
}
