//! `vzpkg create cache`: a template is made aside and appears with one rename.
//!
//! What a death leaves is a `.staging-…` directory that nobody holds the lock of; the next creation, and recovery, sweep it away.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use store::{Lock, LockName, Staging, Template, TemplateName, TemplateRecord, template};

use crate::error::{Code, Failure, MAKE_ROOM, Result, system};
use crate::fault::{self, Place};
use crate::host::{Container, Host, damaged};
use crate::interrupt::Second;
use crate::operation::build::layers;
use crate::operation::pace::Pace;
use crate::operation::template_store;
use crate::space::{self, Need};
use crate::template::recipe::{self, Mmdebstrap, Recipe};
use crate::template::{
    BuiltTemplate, Prepared, RecipeError, Source, Told, Wanted, adopt, build, build_busybox,
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
    let within = |failure: Failure| failure.within(what.clone());
    let resolved = Resolved::of(host, name, origin, &what)?;
    // Held until all of it is copied.
    let golden = golden(host, &resolved).map_err(within)?;
    let making = Making::of(resolved, golden.as_ref(), &what)?;
    refuse_the_store(host, &making, &what)?;
    template::sweep(&host.prefix).map_err(|error| within(error.into()))?;
    space::check_template(host, making.need()).map_err(within)?;
    host.heed_signals(&what)?;
    let unless_interrupted = || host.unless_interrupted(&what, "nothing of it is left", Second::HalfMade);
    let staging = template::staging(&host.prefix, name).map_err(|error| within(error.into()))?;
    let log_path = host.prefix.log_dir().join(format!("template-{name}.log"));
    let has_log = matches!(making, Making::Mmdebstrap(_));
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
    let mut files = Vec::new();
    let digest = tree::digest_of_nodes(rootfs.as_fd(), &mut |path, digest| {
        if files.len() <= MOST_OF_FILES {
            template_store::line_of(&mut files, path, digest);
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
fn refuse_the_store(host: &Host, making: &Making, what: &str) -> Result<()> {
    let Making::Import { path: from, .. } = making else { return Ok(()) };
    let canonical = |path: &Path| std::fs::canonicalize(path).ok();
    let (Some(from), Some(store)) = (canonical(from), canonical(&host.prefix.template_dir())) else {
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
fn golden<'host>(host: &'host Host, resolved: &Resolved) -> Result<Option<Container<'host>>> {
    let Resolved::From { path, .. } = resolved else { return Ok(None) };
    let Some(words) = path.to_str().and_then(|from| from.strip_prefix("container:")) else {
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

/// What is to be done, before anything is opened but files of ours.
enum Resolved {
    Busybox,
    Mmdebstrap(Prepared),
    TakeOver(PathBuf, Mmdebstrap),
    From { path: PathBuf, wanted: Wanted },
}

impl Resolved {
    /// By what was said on the command line, else by the recipe of that name.
    fn of(host: &Host, name: &TemplateName, origin: &Origin, what: &str) -> Result<Resolved> {
        if let Some(path) = &origin.from {
            return Ok(Resolved::From { path: path.clone(), wanted: origin.wanted.clone() });
        }
        let prefix = &host.prefix;
        let within = |failure: Failure| failure.within(what.to_owned());
        let Some(found) = recipe::find(prefix, name).map_err(within)? else {
            return Err(no_recipe(host, name, what));
        };
        let script = |key: &str, path: &Option<PathBuf>| {
            path.as_ref().map(|path| recipe::script(prefix, key, path)).transpose().map_err(within)
        };
        match (found.recipe, &origin.built_root) {
            (Recipe::Busybox, _) => Ok(Resolved::Busybox),
            (Recipe::Import(import), _) => Ok(Resolved::From { path: import.from, wanted: import.wanted }),
            (Recipe::Mmdebstrap(recipe), Some(made)) => Ok(Resolved::TakeOver(made.clone(), recipe)),
            (Recipe::Mmdebstrap(recipe), None) => {
                let (pre, post) = (script("pre", &recipe.pre)?, script("post", &recipe.post)?);
                Ok(Resolved::Mmdebstrap(Prepared { recipe, pre, post }))
            }
        }
    }
}

fn no_recipe(host: &Host, name: &TemplateName, what: &str) -> Failure {
    let (names, _) = recipe::names(&host.prefix);
    let names: Vec<&str> = names.iter().map(TemplateName::as_str).collect();
    let failure = Failure::new(Code::UnknownTemplate, what)
        .because(format!("there is no recipe of that name; there are: {}", names.join(", ")))
        .unchanged();
    if name.as_str().starts_with("alpine") {
        // Its packages are not installed by anything that we have; its root is published.
        return failure.hint(format!(
            "Alpine publishes its root as an archive: `vzpkg create cache {name} --from alpine-minirootfs-….tar.gz`"
        ));
    }
    failure.hint(format!(
        "name one of these, give it with `--from` a root that there is already, or write {}",
        recipe::path_of(&host.prefix, name).display()
    ))
}

/// How it is made.
#[derive(Debug)]
enum Making {
    Busybox,
    Mmdebstrap(Prepared),
    TakeOver(PathBuf, Mmdebstrap),
    Import { path: PathBuf, source: Source, wanted: Wanted },
}

impl Making {
    fn of(resolved: Resolved, golden: Option<&Container<'_>>, what: &str) -> Result<Making> {
        let (path, wanted) = match resolved {
            Resolved::Busybox => return Ok(Making::Busybox),
            Resolved::Mmdebstrap(prepared) => return Ok(Making::Mmdebstrap(prepared)),
            Resolved::TakeOver(made, recipe) => return Ok(Making::TakeOver(made, recipe)),
            Resolved::From { path, wanted } => (path, wanted),
        };
        if let Some(container) = golden {
            let live = container.area.live().map_err(|error| damaged(error, &container.name))?;
            let said = format!("container {}", container.name);
            let source = Source::Root { said, root: layers(container, live)? };
            return Ok(Making::Import { path, source, wanted });
        }
        match Source::open(&path) {
            Ok(source) => Ok(Making::Import { path, source, wanted }),
            Err(error) => {
                let failure = Failure::new(Code::BadValue, what).caused_by(&error).unchanged();
                Err(failure.hint(hint_of(&error, &path).unwrap_or_else(|| {
                    "`--from` takes a tar archive or a directory with a root or an image".to_owned()
                })))
            }
        }
    }

    /// Twice or more what the root comes to (busybox 2 MiB and 320 inodes, Debian 230 MiB and 11,000): while a Debian is made, its packages and the
    /// archive's lists lie in it too. A root that somebody hands over is moved; an archive is at the least as large as it is itself.
    fn need(&self) -> Need {
        const MIB: u64 = 1024 * 1024;
        let who = "the template while it is made";
        match self {
            Making::TakeOver(..) => Need { who: "a template that is taken over", bytes: MIB, inodes: 64 },
            Making::Busybox => Need { who, bytes: 8 * MIB, inodes: 1_000 },
            Making::Mmdebstrap(_) => Need { who, bytes: 600 * MIB, inodes: 30_000 },
            Making::Import { source, .. } => Need { who, bytes: source.size() + MIB, inodes: 64 },
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

/// What to do about it, where that is not to read what the recipe has said; `recipe` is where that stands.
fn hint_of(error: &RecipeError, recipe: &Path) -> Option<String> {
    let hint = match error {
        RecipeError::NoInit { .. } => {
            "a container starts with an init: install one in the root (systemd-sysv, busybox), or name another program with `--init`".to_owned()
        }
        RecipeError::OtherMachine { .. } => "take the one that was made for this machine".to_owned(),
        RecipeError::Archive(_) => {
            "`tar -tvf FILE` lists what is in an archive; one that is damaged has to be fetched again".to_owned()
        }
        RecipeError::MissingKeyring { package: Some(package), .. } => {
            let in_ubuntu = package.replace("archive-keyring", "keyring");
            match package.starts_with("ubuntu") {
                true => format!("run `apt-get install {package}`, or, where there is no such package, `apt-get install {in_ubuntu}`"),
                false => format!("run `apt-get install {package}`"),
            }
        }
        RecipeError::MissingKeyring { package: None, .. } => {
            format!("put the keys of the archive there, or correct `keyring` in {}", recipe.display())
        }
        RecipeError::Unreachable { tried, .. } => {
            let variable = if tried.is_empty() { ", or set REROOT_DEBIAN_MIRROR=URL for once" } else { "" };
            format!(
                "have `mirrors = [\"URL\"]` in {} name another{variable}; `proxy = \"http://HOST:PORT\"` there leads through a proxy",
                recipe.display()
            )
        }
        RecipeError::MissingProgram { .. }
        | RecipeError::Write { .. }
        | RecipeError::Run { .. }
        | RecipeError::Interrupted
        | RecipeError::Log(_)
        | RecipeError::Failed { .. }
        | RecipeError::Unusable { .. }
        | RecipeError::Source { .. }
        | RecipeError::Confined(_)
        | RecipeError::Tree(_)
        | RecipeError::Built(_) => return None,
    };
    Some(hint)
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
