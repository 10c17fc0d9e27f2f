//! `vzpkg create cache`: a template is made aside and appears with one rename.
//!
//! What a death leaves is a `.staging-…` directory that nobody holds the lock of; the next creation, and recovery, sweep it away.

mod in_place;
mod source;

use std::fs::File;
use std::hash::{DefaultHasher, Hasher as _};
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use store::{Staging, Template, TemplateName, TemplateOrigin, TemplateRecord, template};

use crate::error::{Code, Failure, MAKE_ROOM, Result, system};
use crate::fault::{self, Place};
use crate::host::Host;
use crate::interrupt::Second;
use crate::operation::pace::Pace;
use crate::operation::template_store;
use crate::space;
use crate::template::recipe;
use crate::template::{BuiltTemplate, RecipeError, Source, Told, Wanted, adopt, build, build_busybox};
use crate::words::{count_of, in_words};
use in_place::{Standing, nobody_on, standing};
use source::{Making, Resolved, golden, hint_of, refuse_the_store};

/// The list of a million files; a tree that somebody has made deep has far longer paths.
const MOST_OF_FILES: u64 = 128 * 1024 * 1024;
/// Where Debian's package `busybox-static` has it.
const BUSYBOX: &str = "/bin/busybox";

/// The state when a signal ends the wait for another command.
const NOT_BEGUN: &str = "nothing of it had begun";

/// Where a template is to come from.
#[derive(Debug, Clone, Default)]
pub struct Origin {
    /// Anything that others have made; else there is a recipe of the template's name.
    pub from: Option<PathBuf>,
    /// What is said of it.
    pub wanted: Wanted,
    /// A root that the recipe has made already.
    pub built_root: Option<PathBuf>,
}

/// Makes a template, a new version of it when there is one already.
///
/// # Errors
/// With nothing of it left under its name.
pub fn create(host: &Host, name: &TemplateName, origin: &Origin) -> Result<Template> {
    let what = format!("cannot make template `{name}`");
    host.not_begun(&what);
    let began = Timestamp::now();
    let (_lock, has_waited) = host.lock_template(name, &what, NOT_BEGUN)?;
    if has_waited && let Some(template) = made_meanwhile(host, name, origin, began) {
        return Ok(template);
    }
    let Made { template, was_there, former, .. } = make(host, name, origin, what)?;
    let digest = &template.record.digest;
    // Nobody who makes an old one whole need think of that.
    if let Some(former) = former.filter(|former| was_there && former != digest) {
        let short = |digest: &str| digest.chars().take(12).collect::<String>();
        host.note(&format!(
            "version {0} was there already, and is the latest now, which new roots get; until now that was {1}, of which `vzpkg list` tells: `prlctl reinstall NAME --ostemplate {name}@{1}` takes it",
            short(digest),
            short(&former)
        ));
    }
    Ok(template)
}

/// What another command has made by the recipe while this one waited for it to end: two at once are one. What is made of a file, a directory or a
/// container is made again, since the other one may have read it before it was changed; that comes to the same version where it was not.
fn made_meanwhile(host: &Host, name: &TemplateName, origin: &Origin, began: Timestamp) -> Option<Template> {
    let latest = template::latest(&host.prefix, name).ok()?;
    let is_by_recipe = origin.from.is_none() && origin.built_root.is_none();
    if !is_by_recipe || latest.record.created < began || latest.record.origin != Some(TemplateOrigin::Recipe)
    {
        return None;
    }
    host.note("another command has made it meanwhile, of the same: it is not made twice");
    Some(latest)
}

/// What an update has come to.
#[derive(Debug)]
pub struct Updated {
    /// The version that is the latest now.
    pub template: Template,
    /// The digest of the one that was.
    pub before: String,
    /// It was there, and is whole again.
    pub is_repaired: bool,
}

/// Makes a template again, of what its latest version was made of, unless `origin` names something else.
///
/// # Errors
/// [`Code::UnknownTemplate`] when there is none, or nothing tells what it was made of; and as [`create`]. The latest version is what it was then.
pub fn update(host: &Host, name: &TemplateName, origin: &Origin) -> Result<Updated> {
    let what = format!("cannot update template `{name}`");
    host.not_begun(&what);
    // Never what another one has made: an update is asked for what there is now.
    let (_lock, _) = host.lock_template(name, &what, NOT_BEGUN)?;
    let before =
        template::latest(&host.prefix, name).map_err(|error| Failure::from(error).within(what.clone()))?;
    let recorded = match (&origin.from, before.record.origin.clone()) {
        (Some(_), _) => origin.clone(),
        (None, Some(TemplateOrigin::Recipe)) => Origin::default(),
        (None, Some(TemplateOrigin::From { source, image, init, stop_signal, entry_point })) => Origin {
            from: Some(source.into()),
            wanted: Wanted { init, stop_signal, entry_point, image },
            built_root: None,
        },
        (None, None) => {
            return Err(Failure::new(Code::UnknownTemplate, what)
                .because("it is not written down what it was made of: an earlier program made it, or its path was none that can be written down")
                .unchanged()
                .hint(format!("`vzpkg update cache {name} --from SOURCE`, or `vzpkg create cache {name}` by its recipe")));
        }
    };
    let Made { template, is_repaired, .. } = make(host, name, &recorded, what).map_err(|failure| {
        let is_gone = |from: &Path| {
            failure.code == Code::UnknownContainer
                || failure.code == Code::BadValue && std::fs::symlink_metadata(from).is_err()
        };
        match &recorded.from {
            Some(from) if origin.from.is_none() && is_gone(from) => with_other_source(failure, name, from),
            Some(_) | None => failure,
        }
    })?;
    Ok(Updated { template, before: before.record.digest, is_repaired })
}

/// Of a source that nobody has typed, and that is not there any more: which it is, and how to name another one.
fn with_other_source(failure: Failure, name: &TemplateName, from: &Path) -> Failure {
    failure
        .because(format!("it was made of `{}`, as is written down", tree::escaped_path(from)))
        .hint(format!("`vzpkg update cache {name} --from SOURCE` makes it of something else, from then on"))
}

struct Made {
    template: Template,
    /// It was there, damaged.
    is_repaired: bool,
    /// It was there, damaged or not.
    was_there: bool,
    /// The digest of the version that was the latest.
    former: Option<String>,
}

/// The whole of it, under the template's lock.
fn make(host: &Host, name: &TemplateName, origin: &Origin, what: String) -> Result<Made> {
    let within = |failure: Failure| failure.within(what.clone());
    let resolved = Resolved::of(host, name, origin, &what)?;
    let is_by_recipe = origin.from.is_none();
    // Held until all of it is copied.
    let golden = golden(host, &resolved).map_err(within)?;
    let making = Making::of(resolved, golden.as_ref(), &what)?;
    refuse_the_store(host, &making, &what)?;
    let remembered = if is_by_recipe { Some(TemplateOrigin::Recipe) } else { making.origin() };
    template::sweep(&host.prefix).map_err(|error| within(error.into()))?;
    space::check_template(host, making.need()).map_err(within)?;
    host.heed_signals(&what)?;
    let unless_interrupted = || host.unless_interrupted(&what, "nothing of it is left", Second::HalfMade);
    let staging = template::staging(&host.prefix, name).map_err(|error| within(error.into()))?;
    let log_path = host.prefix.log_dir().join(format!("template-{name}.log"));
    let has_log = matches!(making, Making::Mmdebstrap(_));
    let wanted = making.wanted();
    let built = fill(host, &staging, making, name, &log_path).map_err(|error| {
        let code = if error.is_said_to_be_full() {
            Code::NoSpace
        } else {
            crate::error::code_of(&error, code_of(&error))
        };
        let failure = Failure::new(code, what.clone()).caused_by(&error).unchanged();
        let failure = match hint_of(&error, &recipe::path_of(&host.prefix, name)) {
            _ if code == Code::NoSpace => failure.hint(MAKE_ROOM),
            None if has_log => failure.hint(format!("all that was said is in {}", log_path.display())),
            None => failure,
            Some(hint) => failure.hint(hint),
        };
        host.or_interrupted(failure, Second::HalfMade)
    })?;
    unless_interrupted()?;
    host.step("digest", "Computing the template's digest...");
    let rootfs = rustix::fs::open(
        staging.rootfs(),
        rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )
    .map_err(|error| system(what.clone(), &std::io::Error::from(error)))?;
    let mut before = Before::of(host, name, &rootfs);
    let mut list = staging.list().map_err(|error| within(error.into()))?;
    let mut line = Vec::new();
    let mut compute = || {
        tree::digest_of_nodes(rootfs.as_fd(), &mut |path, digest| {
            if list.bytes() <= MOST_OF_FILES {
                line.clear();
                template_store::line_of(&mut line, path, digest);
                list.add(&line);
                if let Some(before) = &mut before
                    && before.has(&line)
                    && host.runtime.interruption().is_none()
                {
                    before.sharing.file(path);
                }
            }
        })
    };
    let digest = std::thread::scope(|scope| {
        // The disk works while the processor does.
        scope.spawn(|| staging.sync_ahead());
        compute()
    })
    .map_err(|error| within(error.into()))?;
    if list.bytes() > MOST_OF_FILES {
        return Err(Failure::new(Code::BadValue, what)
            .because(format!("the paths in it take more than {MOST_OF_FILES} bytes"))
            .unchanged()
            .hint("it is thousands of directories deep, as no root is"));
    }
    list.finish().map_err(|error| within(error.into()))?;
    if let Some(before) = before {
        before.tell(host);
    }
    fault::here("template", "publish", Place::Before)?;
    let record = TemplateRecord {
        format: TemplateRecord::FORMAT,
        name: name.clone(),
        digest: version_of(&digest.hex, &built, &wanted),
        source: built.source,
        created: Timestamp::now(),
        distribution: built.distribution,
        release: built.release,
        architecture: built.architecture,
        init: built.init,
        stop_signal: built.stop_signal,
        size_bytes: digest.bytes,
        disk_bytes: Some(digest.allocated),
        entries: digest.entries,
        systemd: built.systemd,
        application: built.application,
        own_files: built.own_files,
        origin: remembered,
    };
    let there = standing(host, &record).map_err(within)?;
    let was_there = !matches!(there, Standing::Free);
    let former = template::latest_digest(&host.prefix, name).ok().flatten();
    unless_interrupted()?;
    let published = match there {
        Standing::Free | Standing::Whole => staging.publish(record).map(|template| (template, false)),
        Standing::Damaged => {
            let own = golden.as_ref().map(|container| container.id());
            // Before the locks that others wait for: what is left to be synced is little then.
            staging.sync_ahead();
            let locks = nobody_on(host, &record, own, &what)?;
            unless_interrupted()?;
            let published = staging.publish_in_place(record);
            drop(locks);
            // And after them all that was damaged is removed.
            published.map(|(template, damaged)| {
                drop(damaged);
                (template, true)
            })
        }
    };
    let (template, is_repaired) = published.map_err(|error| within(error.into()))?;
    if is_repaired {
        host.note("this version was there already, and damaged: it is whole again, also for the roots that lie on it");
    }
    drop(golden);
    Ok(Made { template, is_repaired, was_there, former })
}

/// The latest version so far: what a new one has in common with it takes no room twice where the filesystem can share blocks.
struct Before {
    /// A number of each line of the list of its files, sorted: the lines themselves are as long as somebody has made the paths. That two lines may have
    /// one number does no harm, since the kernel compares what it shares.
    lines: Vec<u64>,
    sharing: tree::Sharing,
}

impl Before {
    /// `None`: there is none, or nothing that could be shared with. It saves room and nothing else: that it cannot be done is nobody's concern.
    fn of(host: &Host, name: &TemplateName, rootfs: &impl AsFd) -> Option<Before> {
        let latest = template::latest(&host.prefix, name).ok()?;
        let old = tree::Root::open(&latest.rootfs()).ok()?;
        let new = tree::Root::from_handle(rustix::io::fcntl_dupfd_cloexec(rootfs, 0).ok()?);
        let mut list = BufReader::new(latest.files().ok()??.take(MOST_OF_FILES));
        let (mut lines, mut line) = (Vec::new(), Vec::new());
        while list.read_until(b'\n', &mut line).ok()? > 0 {
            lines.push(number_of(&line));
            line.clear();
        }
        lines.sort_unstable();
        Some(Before { lines, sharing: tree::Sharing::of(old, new) })
    }

    fn has(&self, line: &[u8]) -> bool {
        self.lines.binary_search(&number_of(line)).is_ok()
    }

    fn tell(&self, host: &Host) {
        let shared = self.sharing.so_far();
        if shared.files > 0 {
            host.note(&format!(
                "{} the same as in the version before, and {} of {} own: {}",
                count_of(shared.files, "file is", "files are"),
                if shared.files == 1 { "takes no room" } else { "take no room" },
                if shared.files == 1 { "its" } else { "their" },
                in_words(shared.bytes)
            ));
        }
    }
}

fn number_of(line: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(line);
    hasher.finish()
}

/// What a version is called: the digest of its tree, and, where the tree alone does not tell how it is run, or what each container gets of its own, 32
/// digits more. Else an image of the same files with another entry point would be taken for the version that is there.
fn version_of(tree: &str, built: &BuiltTemplate, wanted: &Wanted) -> String {
    let is_as_found = built.application.is_none() && wanted.init.is_none() && wanted.stop_signal.is_none();
    if is_as_found && built.own_files.is_empty() {
        return tree.to_owned();
    }
    let how = (&built.init, &built.stop_signal, &built.application);
    let how = match &built.own_files[..] {
        // As versions are called that there are already.
        [] => serde_json::to_vec(&how),
        own_files => serde_json::to_vec(&(how, own_files)),
    };
    let digest = Sha256::digest(how.unwrap_or_default());
    digest[..16].iter().fold(tree.to_owned(), |name, byte| format!("{name}{byte:02x}"))
}

/// What a script is told: that what was named cannot be a template, or that a recipe has failed.
fn code_of(error: &RecipeError) -> Code {
    let is_of_the_source = matches!(
        error,
        RecipeError::Archive(_)
            | RecipeError::NoInit { .. }
            | RecipeError::EntryPoint { .. }
            | RecipeError::OtherMachine { .. }
            | RecipeError::Source { .. }
            | RecipeError::Unusable { .. }
            | RecipeError::Tree(_)
    );
    if is_of_the_source { Code::BadValue } else { Code::UnknownTemplate }
}

fn fill(
    host: &Host,
    staging: &Staging,
    making: Making,
    name: &TemplateName,
    log_path: &Path,
) -> std::result::Result<BuiltTemplate, RecipeError> {
    let rootfs = staging.rootfs();
    match making {
        Making::Busybox => {
            host.step("build", "Creating the root from busybox...");
            build_busybox(&rootfs, Path::new(BUSYBOX))
        }
        Making::TakeOver(made, recipe) => {
            host.step("build", &format!("Taking over {}...", made.display()));
            take_over(&made, &rootfs)?;
            adopt(&rootfs, &recipe, &mut |text| host.note(text))
        }
        Making::Mmdebstrap(prepared) => {
            let suite = &prepared.recipe.suite;
            let doing =
                format!("Creating the root of {name} ({suite}) from the archive; this takes a minute...");
            host.step("build", &doing);
            let mut log = File::options()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(log_path)
                .map_err(RecipeError::Log)?;
            let interrupt = host.runtime.interrupt();
            build(
                &rootfs,
                &prepared,
                interrupt.as_ref().map(AsFd::as_fd),
                &mut |stage| host.note(stage),
                &mut log,
            )
        }
        Making::Import { source, wanted, .. } => {
            host.step("build", &source.doing());
            let mut pace = Pace::new(host, "build");
            if let Source::Archive { file, .. } | Source::ImageArchive { file, .. } = &source {
                pace.watch(file);
            }
            let mut told = Told {
                goes_on: &mut |so_far| pace.goes_on(so_far.entries, so_far.bytes),
                note: &mut |text| host.note(text),
            };
            source.fill(&rootfs, &wanted, &mut told)
        }
    }
}

/// The directory itself becomes the staging's root, where that is one rename away.
fn take_over(made: &Path, rootfs: &Path) -> std::result::Result<(), RecipeError> {
    let failed =
        |source: std::io::Error| RecipeError::Write { what: "move", path: PathBuf::from(made), source };
    std::fs::remove_dir(rootfs).map_err(failed)?;
    rustix::fs::rename(made, rootfs).map_err(|error| failed(error.into()))
}
