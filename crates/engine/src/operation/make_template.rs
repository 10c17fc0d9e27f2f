//! `vzpkg create cache` and `vzpkg remove cache`: a template is made aside and appears with one rename.
//!
//! What a death leaves is a `.staging-…` directory that nobody holds the lock of; the next creation, and recovery, sweep it away.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use store::{Lock, LockName, Staging, Template, TemplateName, TemplateRecord, template};

use crate::error::{Code, Failure, MAKE_ROOM, Result, system};
use crate::fault::{self, Place};
use crate::host::{Container, Host, damaged};
use crate::interrupt::Second;
use crate::operation::build::layers;
use crate::operation::pace::Pace;
use crate::space::{self, Need};
use crate::template::{
    BuiltTemplate, DebianRelease, RecipeError, Source, Told, Wanted, adopt_debian, build_busybox,
    build_debian,
};

/// The list of a million files; a tree that somebody has made deep has far longer paths.
const MOST_OF_FILES: usize = 128 * 1024 * 1024;
/// Where Debian's package `busybox-static` has it.
const BUSYBOX: &str = "/bin/busybox";

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
    let lock = Lock::exclusive(&host.prefix, LockName::Template(name.clone()), host.lock_wait, &host.command)
        .map_err(|error| Failure::from(error).within(what.clone()))?;
    // Held until all of it is copied.
    let golden = golden(host, origin).map_err(|failure| failure.within(what.clone()))?;
    let making = Making::of(name, origin, golden.as_ref()).map_err(|mut failure| {
        failure.what.clone_from(&what);
        failure
    })?;
    refuse_the_store(host, origin, &what)?;
    let within = |failure: Failure| failure.within(what.clone());
    template::sweep(&host.prefix).map_err(|error| within(error.into()))?;
    space::check_template(host, making.need()).map_err(within)?;
    host.heed_signals(&what)?;
    let unless_interrupted = || host.unless_interrupted(&what, "nothing of it is left", Second::HalfMade);
    let staging = template::staging(&host.prefix, name).map_err(|error| within(error.into()))?;
    let log_path = host.prefix.log_dir().join(format!("template-{name}.log"));
    let is_made_here = matches!(making, Making::Recipe(_));
    let built = fill(host, &staging, making, &origin.wanted, &log_path).map_err(|error| {
        let code = if error.is_said_to_be_full() {
            Code::NoSpace
        } else {
            crate::error::code_of(&error, code_of(&error))
        };
        let failure = Failure::new(code, what.clone()).caused_by(&error).unchanged();
        let failure = match hint_of(&error) {
            _ if code == Code::NoSpace => failure.hint(MAKE_ROOM),
            None if is_made_here => failure.hint(format!("all that was said is in {}", log_path.display())),
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
    let mut files = Vec::new();
    let digest = tree::digest_of_nodes(rootfs.as_fd(), &mut |path, digest| {
        if files.len() <= MOST_OF_FILES {
            line_of(&mut files, path, digest);
        }
    })
    .map_err(|error| within(error.into()))?;
    if files.len() > MOST_OF_FILES {
        return Err(Failure::new(Code::BadValue, what)
            .because(format!("the paths in it take more than {MOST_OF_FILES} bytes"))
            .unchanged()
            .hint("it is thousands of directories deep, as no root is"));
    }
    staging.write_files(&files).map_err(|error| within(error.into()))?;
    fault::here("template", "publish", Place::Before)?;
    unless_interrupted()?;
    let record = TemplateRecord {
        format: TemplateRecord::FORMAT,
        name: name.clone(),
        digest: digest.hex,
        source: built.source,
        created: jiff::Timestamp::now(),
        distribution: built.distribution,
        release: built.release,
        architecture: built.architecture,
        init: built.init,
        stop_signal: built.stop_signal,
        size_bytes: digest.bytes,
        entries: digest.entries,
        systemd: built.systemd,
    };
    let template = staging.publish(record).map_err(|error| within(error.into()))?;
    drop((golden, lock));
    Ok(template)
}

/// A copy of a directory that has the store in it would be in itself, and never whole.
fn refuse_the_store(host: &Host, origin: &Origin, what: &str) -> Result<()> {
    let canonical = |path: &Path| std::fs::canonicalize(path).ok();
    let (Some(from), Some(store)) =
        (origin.from.as_deref().and_then(canonical), canonical(&host.prefix.template_dir()))
    else {
        return Ok(());
    };
    if !store.starts_with(&from) {
        return Ok(());
    }
    Err(Failure::new(Code::BadValue, what)
        .because(format!("the templates lie in it, at `{}`", store.display()))
        .unchanged()
        .hint("name a directory that has a root in it and nothing else"))
}

/// The container whose root is to be a template: `container:NAME`. It does not run, so that what is copied is of one moment.
fn golden<'host>(host: &'host Host, origin: &Origin) -> Result<Option<Container<'host>>> {
    let Some(words) =
        origin.from.as_deref().and_then(Path::to_str).and_then(|from| from.strip_prefix("container:"))
    else {
        return Ok(None);
    };
    let container = host.open(words)?;
    if container.is_running() {
        return Err(Failure::new(Code::Running, format!("`{}` runs", container.name))
            .because(
                "what its processes write while it is copied would be half of one moment and half of another",
            )
            .unchanged()
            .hint(format!("`prlctl stop {}`, and start it again afterwards", container.name)));
    }
    Ok(Some(container))
}

/// How it is made.
#[derive(Debug)]
enum Making {
    Recipe(Recipe),
    TakeOver(PathBuf, DebianRelease),
    Import(Source),
}

#[derive(Debug, Clone, Copy)]
enum Recipe {
    Busybox,
    Debian(DebianRelease),
}

impl Making {
    fn of(name: &TemplateName, origin: &Origin, golden: Option<&Container<'_>>) -> Result<Making> {
        if let Some(container) = golden {
            let live = container.area.live().map_err(|error| damaged(error, &container.name))?;
            let said = format!("container {}", container.name);
            return Ok(Making::Import(Source::Root { said, root: layers(container, live)? }));
        }
        if let Some(from) = &origin.from {
            return Source::open(from).map(Making::Import).map_err(|error| {
                let failure = Failure::new(Code::BadValue, "").caused_by(&error).unchanged();
                failure.hint(
                    hint_of(&error)
                        .unwrap_or("`--from` takes a tar archive or a directory with a root or an image"),
                )
            });
        }
        match (Recipe::of(name), &origin.built_root) {
            (Some(Recipe::Debian(release)), Some(made)) => Ok(Making::TakeOver(made.clone(), release)),
            (Some(recipe), _) => Ok(Making::Recipe(recipe)),
            (None, _) => Err(Failure::new(Code::UnknownTemplate, "")
                .because(format!("there is no recipe of that name; there are: {}", crate::template::known()))
                .unchanged()
                .hint("name one of these, or give it with `--from` a root that there is already")),
        }
    }

    /// Twice or more what the root comes to (busybox 2 MiB and 320 inodes, Debian 230 MiB and 11,000): while a Debian is made, its packages and the
    /// archive's lists lie in it too. A root that somebody hands over is moved; an archive is at the least as large as it is itself.
    fn need(&self) -> Need {
        const MIB: u64 = 1024 * 1024;
        let who = "the template while it is made";
        match self {
            Making::TakeOver(..) => Need { who: "a template that is taken over", bytes: MIB, inodes: 64 },
            Making::Recipe(Recipe::Busybox) => Need { who, bytes: 8 * MIB, inodes: 1_000 },
            Making::Recipe(Recipe::Debian(_)) => Need { who, bytes: 600 * MIB, inodes: 30_000 },
            Making::Import(source) => Need { who, bytes: source.size() + MIB, inodes: 64 },
        }
    }
}

impl Recipe {
    fn of(name: &TemplateName) -> Option<Recipe> {
        match name.as_str() {
            crate::template::BUSYBOX => Some(Recipe::Busybox),
            other => DebianRelease::from_template_name(other).map(Recipe::Debian),
        }
    }
}

/// What a script is told: that what was named cannot be a template, or that a recipe has failed.
fn code_of(error: &RecipeError) -> Code {
    let is_of_the_source = matches!(
        error,
        RecipeError::Archive(_)
            | RecipeError::NoInit { .. }
            | RecipeError::OtherMachine { .. }
            | RecipeError::Source { .. }
    );
    if is_of_the_source { Code::BadValue } else { Code::UnknownTemplate }
}

/// What to do about it, where that is not to read what the recipe has said.
fn hint_of(error: &RecipeError) -> Option<&'static str> {
    if matches!(error, RecipeError::NoInit { .. }) {
        return Some(
            "a container starts with an init: install one in the root (systemd-sysv, busybox), or name another program with `--init`",
        );
    }
    if matches!(error, RecipeError::OtherMachine { .. }) {
        return Some("take the one that was made for this machine");
    }
    matches!(error, RecipeError::Archive(_))
        .then_some("`tar -tvf FILE` lists what is in an archive; one that is damaged has to be fetched again")
}

fn fill(
    host: &Host,
    staging: &Staging,
    making: Making,
    wanted: &Wanted,
    log_path: &Path,
) -> std::result::Result<BuiltTemplate, RecipeError> {
    let rootfs = staging.rootfs();
    match making {
        Making::Recipe(Recipe::Busybox) => {
            host.step("build", "Creating the root from busybox...");
            build_busybox(&rootfs, Path::new(BUSYBOX))
        }
        Making::TakeOver(made, release) => {
            host.step("build", &format!("Taking over {}...", made.display()));
            take_over(&made, &rootfs)?;
            adopt_debian(&rootfs, release)
        }
        Making::Recipe(Recipe::Debian(release)) => {
            host.step(
                "build",
                &format!("Creating the root of {release} from the archive; this takes a minute..."),
            );
            let mut log = File::options()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(log_path)
                .map_err(RecipeError::Log)?;
            let interrupt = host.runtime.interrupt();
            build_debian(
                &rootfs,
                release,
                interrupt.as_ref().map(AsFd::as_fd),
                &mut |stage| host.note(stage),
                &mut log,
            )
        }
        Making::Import(source) => {
            host.step("build", &source.doing());
            let mut pace = Pace::new(host, "build");
            if let Source::Archive { file, .. } | Source::ImageArchive { file, .. } = &source {
                pace.watch(file);
            }
            let mut told = Told {
                goes_on: &mut |so_far| pace.goes_on(so_far.entries, so_far.bytes),
                note: &mut |text| host.note(text),
            };
            source.fill(&rootfs, wanted, &mut told)
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

/// Removes a template that nobody uses.
///
/// # Errors
/// [`Code::BadValue`] when generations of containers are made from it: which.
pub fn remove(host: &Host, name: &TemplateName) -> Result<()> {
    let what = format!("cannot remove template `{name}`");
    host.not_begun(&what);
    let _lock =
        Lock::exclusive(&host.prefix, LockName::Template(name.clone()), host.lock_wait, &host.command)?;
    // Nobody may begin to use it while we ask who does.
    let _host = host.lock_host()?;
    host.heed_signals(&what)?;
    host.unless_interrupted(&what, "nothing was changed", Second::Nothing)?;
    template::remove(&host.prefix, name).map_err(|error| {
        if matches!(error, store::TemplateError::InUse { .. }) {
            return Failure::new(Code::BadValue, what)
                .caused_by(&error)
                .unchanged()
                .hint("delete those containers, or those generations, first");
        }
        if matches!(error, store::TemplateError::Unknown { .. }) {
            return Failure::from(error).hint("`vzpkg list` shows the templates of this host");
        }
        Failure::from(error)
    })
}

/// A line of what is in a tree: half a digest is enough for what nobody has made on purpose, and the whole tree's name tells of all else.
fn line_of(lines: &mut Vec<u8>, path: &Path, digest: &[u8; 32]) {
    for byte in &digest[..16] {
        lines.extend(format!("{byte:02x}").bytes());
    }
    lines.push(b' ');
    lines.extend(tree::escaped(path.as_os_str().as_bytes()).bytes());
    lines.push(b'\n');
}

/// What is not as it was made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// The template.
    pub name: String,
    /// The version.
    pub digest: String,
    /// Nothing is.
    pub whole: bool,
    /// Other contents, owner, mode or attributes.
    pub changed: Vec<String>,
    /// No longer there.
    pub missing: Vec<String>,
    /// Not there before.
    pub extra: Vec<String>,
}

/// Looks whether a version of a template is what it was when it was made.
///
/// # Errors
/// When it cannot be read.
pub fn verify(host: &Host, template: &Template) -> Result<Verified> {
    let record = &template.record;
    let what = format!("cannot verify template `{}`", record.name);
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
    let rootfs = rustix::fs::open(template.rootfs(), flags, rustix::fs::Mode::empty())
        .map_err(|error| system(what.clone(), &std::io::Error::from(error)))?;
    let mut pace = Pace::new(host, "verify");
    let (mut files, mut entries) = (Vec::new(), 0);
    let found = tree::digest_of_nodes(rootfs.as_fd(), &mut |path, digest| {
        entries += 1;
        pace.goes_on(entries, 0);
        line_of(&mut files, path, digest);
    })
    .map_err(|error| Failure::from(error).within(what.clone()))?;
    let mut verified = Verified {
        name: record.name.to_string(),
        digest: record.digest.clone(),
        whole: found.hex == record.digest,
        ..Verified::default()
    };
    if verified.whole {
        return Ok(verified);
    }
    let Some(before) = template.files().map_err(|error| Failure::from(error).within(what))? else {
        return Ok(verified);
    };
    let (before, now) = (by_path(&before), by_path(&files));
    for (path, digest) in &before {
        match now.get(path) {
            Some(found) if found == digest => {}
            Some(_) => verified.changed.push((*path).to_owned()),
            None => verified.missing.push((*path).to_owned()),
        }
    }
    verified.extra =
        now.keys().filter(|path| !before.contains_key(*path)).map(|path| (*path).to_owned()).collect();
    Ok(verified)
}

fn by_path(lines: &[u8]) -> BTreeMap<&str, &str> {
    let text = std::str::from_utf8(lines).unwrap_or_default();
    text.lines().filter_map(|line| line.split_once(' ')).map(|(digest, path)| (path, digest)).collect()
}

/// Moves the versions of all templates to the trash that are not the latest and that no generation lies on; returns their names and digests.
///
/// # Errors
/// When it cannot be told which those are.
pub fn collect(host: &Host) -> Result<Vec<(TemplateName, String)>> {
    let what = "cannot remove old versions of templates";
    host.not_begun(what);
    host.heed_signals(what)?;
    let mut gone = Vec::new();
    for name in template::names(&host.prefix).map_err(|error| Failure::from(error).within(what.to_owned()))? {
        let _lock =
            Lock::exclusive(&host.prefix, LockName::Template(name.clone()), host.lock_wait, &host.command)?;
        // Nobody may begin to use one while we ask who does.
        let _host = host.lock_host()?;
        host.unless_interrupted(what, "what was removed so far was used by nobody", Second::Nothing)?;
        match template::prune(&host.prefix, &name) {
            Ok(unused) => gone.extend(unused.into_iter().map(|digest| (name.clone(), digest))),
            // Nothing of that name is whole: `vzpkg list` tells.
            Err(store::TemplateError::Unknown { .. } | store::TemplateError::Damaged { .. }) => {}
            Err(error) => return Err(Failure::from(error).within(what.to_owned())),
        }
    }
    Ok(gone)
}
