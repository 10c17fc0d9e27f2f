//! What a template is to be made of, and whether it can be, before anything is made.

use std::path::{Path, PathBuf};

use archive::ArchiveError;
use store::{ContainerId, TemplateName, TemplateOrigin};
use tree::{TreeError, UnpackError};

use super::Origin;
use crate::error::{Code, Failure, Result};
use crate::host::{Container, Host, damaged};
use crate::operation::build::layers;
use crate::space::Need;
use crate::template::recipe::{self, Mmdebstrap, Recipe};
use crate::template::{Prepared, RecipeError, Source, Wanted};

/// A copy of a directory that has the store in it would be in itself, and never whole.
pub(super) fn refuse_the_store(host: &Host, making: &Making, what: &str) -> Result<()> {
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
pub(super) fn golden<'host>(host: &'host Host, resolved: &Resolved) -> Result<Option<Container<'host>>> {
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
pub(super) enum Resolved {
    Busybox,
    Mmdebstrap(Prepared),
    TakeOver(PathBuf, Mmdebstrap),
    From { path: PathBuf, wanted: Wanted },
}

impl Resolved {
    /// By what was said on the command line, else by the recipe of that name.
    pub(super) fn of(host: &Host, name: &TemplateName, origin: &Origin, what: &str) -> Result<Resolved> {
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
pub(super) enum Making {
    Busybox,
    Mmdebstrap(Prepared),
    TakeOver(PathBuf, Mmdebstrap),
    Import { path: PathBuf, source: Source, wanted: Wanted },
}

impl Making {
    pub(super) fn of(resolved: Resolved, golden: Option<&Container<'_>>, what: &str) -> Result<Making> {
        let (path, wanted) = match resolved {
            Resolved::Busybox => return Ok(Making::Busybox),
            Resolved::Mmdebstrap(prepared) => return Ok(Making::Mmdebstrap(prepared)),
            Resolved::TakeOver(made, recipe) => return Ok(Making::TakeOver(made, recipe)),
            Resolved::From { path, wanted } => (path, wanted),
        };
        let no_image = |image: &str| {
            Failure::new(Code::BadValue, what)
                .because(format!("`{}`: it is no image", tree::escaped_path(&path)))
                .because(format!(
                    "`{}` names one of several in a layout of OCI, or in what `docker save` writes",
                    tree::escaped(image.as_bytes())
                ))
                .unchanged()
                .hint("leave `--image`, or `image` of the recipe, out")
        };
        if let Some(container) = golden {
            if let Some(image) = &wanted.image {
                return Err(no_image(image));
            }
            let live = container.area.live().map_err(|error| damaged(error, &container.name))?;
            let said = format!("container {}", container.name);
            let root = layers(container, live)?;
            let own_files = container.own_files(live)?;
            let entry_point = container.entry_point(live)?;
            let source = Source::Root { said, root, of_the_host: false, entry_point, own_files };
            let path = golden_path(container.id());
            return Ok(Making::Import { path, source, wanted });
        }
        match Source::open(&path) {
            Ok(source) => match &wanted.image {
                Some(image) if !source.has_images() => Err(no_image(image)),
                Some(_) | None => Ok(Making::Import { path, source, wanted }),
            },
            Err(error) => {
                let failure = Failure::new(Code::BadValue, what).caused_by(&error).unchanged();
                Err(failure.hint(hint_of(&error, &path).unwrap_or_else(|| {
                    "`--from` takes a tar archive or a directory with a root or an image".to_owned()
                })))
            }
        }
    }

    /// What was said of it, beside what it is.
    pub(super) fn wanted(&self) -> Wanted {
        match self {
            Making::Import { wanted, .. } => wanted.clone(),
            Making::Busybox | Making::Mmdebstrap(_) | Making::TakeOver(..) => Wanted::default(),
        }
    }

    /// What can be written down, so that it can be made of the same again; `None`: its path is no text.
    pub(super) fn origin(&self) -> Option<TemplateOrigin> {
        let Making::Import { path, wanted, .. } = self else { return Some(TemplateOrigin::Recipe) };
        origin_of(path, wanted)
    }

    /// Twice or more what the root comes to (busybox 2 MiB and 320 inodes, Debian 230 MiB and 11,000): while a Debian is made, its packages and the
    /// archive's lists lie in it too. A root that somebody hands over is moved; an archive is at the least as large as it is itself.
    pub(super) fn need(&self) -> Need {
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

fn origin_of(path: &Path, wanted: &Wanted) -> Option<TemplateOrigin> {
    let is_container = path.to_str().is_some_and(|text| text.starts_with("container:"));
    // As it is found from anywhere.
    let path = if is_container { path.to_owned() } else { std::path::absolute(path).ok()? };
    let Wanted { init, stop_signal, entry_point, image } = wanted.clone();
    Some(TemplateOrigin::From {
        source: path.into_os_string().into_string().ok()?,
        image,
        init,
        stop_signal,
        entry_point,
    })
}

/// By what it is called another one may be called the next time.
fn golden_path(id: &ContainerId) -> PathBuf {
    PathBuf::from(format!("container:{id}"))
}

/// What to do about it, where that is not to read what the recipe has said; `recipe` is where that stands.
pub(super) fn hint_of(error: &RecipeError, recipe: &Path) -> Option<String> {
    let hint = match error {
        RecipeError::NoInit { .. } | RecipeError::EntryPoint { .. } => {
            "a container starts with an init: install one in the root (systemd-sysv, busybox), or name another program with `--init`".to_owned()
        }
        RecipeError::UnpackedImage { path } => format!("`--from {}/rootfs`", tree::escaped_path(path)),
        RecipeError::OtherMachine { .. } => "take the one that was made for this machine".to_owned(),
        RecipeError::Archive(
            ArchiveError::NoArchive { instead, .. } | ArchiveError::Unfit { instead, .. },
        ) => (*instead).to_owned(),
        RecipeError::Archive(ArchiveError::Image(_)) => {
            "copy it once more: `skopeo copy` writes all that belongs to an image, and so does `docker save`".to_owned()
        }
        RecipeError::Archive(ArchiveError::Unpack {
            source: UnpackError::Upwards | UnpackError::OverlayAttribute(_),
            ..
        }) => "no tool writes such an archive of a root: make it anew, with `tar -C ROOT -cf FILE .`, or unpack it by hand and look at what it is".to_owned(),
        RecipeError::Archive(ArchiveError::Unknown(_)) => {
            "`--from` takes a tar archive, as it is or compressed with gzip, xz or zstd, or a directory, with a root or an image".to_owned()
        }
        RecipeError::Archive(ArchiveError::Read(_) | ArchiveError::Damaged { .. } | ArchiveError::Empty) => {
            "compare its checksum: one that is damaged has to be fetched again".to_owned()
        }
        RecipeError::Archive(
            ArchiveError::Entry { .. } | ArchiveError::Unpack { .. } | ArchiveError::Interrupted,
        ) => "`tar -tvf FILE` lists what is in an archive, or in a layer of an image".to_owned(),
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
        RecipeError::Tree(TreeError::OverlayAttribute { name, .. }) => format!(
            "`setfattr -x {} PATH` takes it away; it was written there by hand, or it is a layer of an overlay, of which not the layer but what is mounted is a root",
            tree::escaped(name.to_bytes())
        ),
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
