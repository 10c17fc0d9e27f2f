//! Recipes: what `vzpkg create cache NAME` does where nothing else is named.
//!
//! ```text
//! /etc/vz/templates.d/NAME.toml    the recipe of NAME; users write their own
//! share/templates.d/NAME.toml      compiled in; counts where there is no file of that name
//! ```
//!
//! A recipe is read when it is needed and by itself: one that says nothing sensible is told with its file, line and key, and is nobody else's trouble. It
//! says what is run as root, so that its file, and those of its scripts, are held to [`crate::trust`]. Nothing of it is run on the host itself.

mod parse;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use store::{Prefix, TemplateName};

use super::Wanted;
use crate::error::{Code, Failure, Result};
use crate::trust;

#[doc(hidden)]
pub use parse::{KEYS, parse};

/// What is installed, and what counts where it is not.
const SHIPPED: [(&str, &str); 6] = [
    ("busybox", include_str!("../../../../../share/templates.d/busybox.toml")),
    ("debian-11", include_str!("../../../../../share/templates.d/debian-11.toml")),
    ("debian-12", include_str!("../../../../../share/templates.d/debian-12.toml")),
    ("debian-13", include_str!("../../../../../share/templates.d/debian-13.toml")),
    ("ubuntu-22.04", include_str!("../../../../../share/templates.d/ubuntu-22.04.toml")),
    ("ubuntu-24.04", include_str!("../../../../../share/templates.d/ubuntu-24.04.toml")),
];
const SUFFIX: &str = ".toml";
/// A file larger than this is no recipe, and no script of one: such a script is handed on in the environment, where a string may have 128 KiB.
const LARGEST: u64 = 64 * 1024;

/// How a template is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recipe {
    /// One static program.
    Busybox,
    /// Packages of Debian, or of what is made like it.
    Mmdebstrap(Mmdebstrap),
    /// What others have made: as `--from`.
    Import(Import),
}

/// What `mmdebstrap` is told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mmdebstrap {
    /// `bookworm`
    pub suite: String,
    /// What `ID` of the new root's os-release has to be.
    pub distribution: Option<String>,
    /// What its `VERSION_ID` has to be.
    pub release: Option<String>,
    /// URLs, or lines of a `sources.list`; none: those that mmdebstrap knows of, or `REROOT_DEBIAN_MIRROR`.
    pub mirrors: Vec<String>,
    /// `main`, `contrib`; for URLs only.
    pub components: Vec<String>,
    /// A file with the keys that packages are signed with.
    pub keyring: Option<PathBuf>,
    /// Which packages there are that nobody names.
    pub variant: Variant,
    /// Instead of those that every template of ours has: an init, somebody to log in to.
    pub base_packages: Vec<String>,
    /// Besides them.
    pub packages: Vec<String>,
    /// A proxy for HTTP, while the template is made.
    pub proxy: Option<String>,
    /// A script that is run inside the new root before its packages are installed, but for the essential ones.
    pub pre: Option<PathBuf>,
    /// A script that is run inside it after them.
    pub post: Option<PathBuf>,
}

/// Of mmdebstrap's variants those in which there is a system to speak of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Variant {
    /// Those of priority `required`, and apt.
    #[default]
    Minbase,
    /// And a compiler.
    Buildd,
    /// And those of priority `important`.
    Important,
    /// And those of priority `standard`.
    Standard,
}

impl Variant {
    const ALL: [Self; 4] = [Self::Minbase, Self::Buildd, Self::Important, Self::Standard];

    /// As mmdebstrap calls it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Minbase => "minbase",
            Self::Buildd => "buildd",
            Self::Important => "important",
            Self::Standard => "standard",
        }
    }
}

/// What is taken, as on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Import {
    /// As `--from` has it.
    pub from: PathBuf,
    /// How it is to be looked at.
    pub wanted: Wanted,
}

/// A recipe that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its file; `None`: it is built in.
    pub path: Option<PathBuf>,
    /// What it says.
    pub recipe: Recipe,
}

impl Recipe {
    /// As `kind` has it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Busybox => "busybox",
            Self::Mmdebstrap(_) => "mmdebstrap",
            Self::Import(_) => "import",
        }
    }

    /// What it is made of, for people: `bookworm`, the path of an archive.
    pub fn of(&self) -> String {
        match self {
            Self::Busybox => "busybox-static".to_owned(),
            Self::Mmdebstrap(recipe) => recipe.suite.clone(),
            Self::Import(recipe) => tree::escaped_path(&recipe.from),
        }
    }
}

/// A recipe of that name is built in.
pub fn is_shipped(name: &str) -> bool {
    SHIPPED.iter().any(|(shipped, _)| *shipped == name)
}

/// Where the recipe of a name is, or would be, written.
pub fn path_of(prefix: &Prefix, name: &TemplateName) -> PathBuf {
    prefix.templates_d().join(format!("{name}{SUFFIX}"))
}

/// The recipe of a name; `None`: there is none.
///
/// # Errors
/// [`Code::BadValue`] when its file cannot be trusted, or says what no recipe says: the line, the key, and what is meant.
pub fn find(prefix: &Prefix, name: &TemplateName) -> Result<Option<Found>> {
    let path = path_of(prefix, name);
    if let Some(file) = trust::open(prefix, &path, LARGEST)? {
        let recipe = parse(&path, &file.bytes)?;
        return Ok(Some(Found { path: Some(path), recipe }));
    }
    match SHIPPED.iter().find(|(shipped, _)| *shipped == name.as_str()) {
        Some((_, text)) => Ok(Some(Found { path: None, recipe: parse(&path, text.as_bytes())? })),
        None => Ok(None),
    }
}

/// The names of all recipes, sorted; and of the files in `templates.d` that are called like one, but as no template can be called.
pub fn names(prefix: &Prefix) -> (Vec<TemplateName>, Vec<String>) {
    let mut names: Vec<TemplateName> = SHIPPED.iter().filter_map(|(name, _)| name.parse().ok()).collect();
    let mut strange = Vec::new();
    for entry in std::fs::read_dir(prefix.templates_d()).into_iter().flatten().flatten() {
        let file = entry.file_name().to_string_lossy().into_owned();
        let Some(name) = file.strip_suffix(SUFFIX) else { continue };
        match name.parse::<TemplateName>() {
            Ok(parsed) if parsed.as_str() == name => names.push(parsed),
            // Editors' hidden files.
            Ok(_) | Err(_) if name.starts_with('.') => {}
            Ok(_) | Err(_) => strange.push(tree::escaped(file.as_bytes())),
        }
    }
    names.sort();
    names.dedup();
    strange.sort();
    (names, strange)
}

/// The text of a script that a recipe names; one without a `/` at its beginning lies beside the recipe.
///
/// # Errors
/// [`Code::BadValue`] when it is not there, or others than root may have written it.
pub fn script(prefix: &Prefix, key: &str, path: &Path) -> Result<String> {
    let path = prefix.templates_d().join(path);
    let refused = |because: String| {
        Failure::new(Code::BadValue, format!("the script `{key}` of the recipe cannot be run"))
            .because(because)
            .unchanged()
    };
    let Some(file) = trust::open(prefix, &path, LARGEST)? else {
        return Err(refused(format!("there is no `{}`", path.display()))
            .hint("write it there, or correct its name: one without a `/` lies beside the recipe"));
    };
    match String::from_utf8(file.bytes) {
        Ok(text) if !text.contains('\0') => Ok(text),
        Ok(_) | Err(_) => Err(refused(format!("`{}` is no text", path.display()))
            .hint("have a script there, which may bring a program itself")),
    }
}
