//! How the root of a template is made, before `store` gives it its name.
//!
//! What makes it, by a recipe or out of what others have made, fills one empty directory, the `rootfs` of a template's staging, and says what it has made there. It takes
//! no locks, computes no digest and publishes nothing: what a failed one leaves goes with the staging.
//!
//! The staging is ours alone (root:root, 0700) and nothing of a container has ever run in it, so here, and nowhere else,
//! files of a root are made by plain paths. They are always *made*, never replaced: a link in the way is an error, not a
//! way out. What comes from elsewhere (a root that somebody hands over) is looked at through `tree` only.

mod busybox;
mod import;
mod mmdebstrap;
pub mod recipe;
#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};

use archive::ArchiveError;
use runtime::confined::ConfinedError;
use store::{Application, Base, OwnFile, Prefix};
use tree::{BuiltRootError, Root, TreeError, UnpackError};

pub use busybox::{BUSYBOX_STOP_SIGNAL, build_busybox, is_busybox_init};
pub use import::{EntryPoint, Init, Source, System, Told, Wanted, init_of, system, undo_compression};
pub use mmdebstrap::{Prepared, adopt, build};

/// Whether a text can be the path of an init; why not.
///
/// # Errors
/// In words.
pub fn check_init(text: &str) -> Result<(), &'static str> {
    let is_plain = text.starts_with('/')
        && !text.contains(char::is_control)
        && !text.split('/').any(|part| part == "..");
    if is_plain { Ok(()) } else { Err("an init is an absolute path") }
}

/// Whether a text names a signal; why not.
///
/// # Errors
/// In words.
pub fn check_signal(text: &str) -> Result<(), &'static str> {
    match linux::signal_number(text) {
        Some(_) => Ok(()),
        None => Err("that is no signal; SIGTERM, SIGRTMIN+3 and 15 are"),
    }
}

/// Why a root on this base cannot be shown or started as it was; `None`: it can. It is a look at what has to be there, not a comparison.
pub fn problem_of(prefix: &Prefix, base: &Base) -> Option<String> {
    let Base::Template { name, digest } = base else { return None };
    let template = match store::template::exact(prefix, name, digest) {
        Ok(template) => template,
        Err(error) => return Some(runtime::monitor::describe(&error)),
    };
    let init = &template.record.init;
    match Root::open(&template.rootfs()).and_then(|root| root.has_executable(Path::new(init))) {
        Ok(true) => None,
        Ok(false) => {
            let short = digest.get(..12).unwrap_or(digest);
            Some(format!("template `{name}` {short} is damaged: it has no {init} that can be executed"))
        }
        Err(error) => Some(runtime::monitor::describe(&error)),
    }
}

/// What a recipe has made: the part of `template.json` that only it knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuiltTemplate {
    /// Where it came from, for people.
    pub source: String,
    /// `ID` of os-release: `debian`, `busybox`.
    pub distribution: String,
    /// `VERSION_ID` of os-release: `12`.
    pub release: Option<String>,
    /// As Debian names it: `amd64`.
    pub architecture: String,
    /// Process 1.
    pub init: String,
    /// Stops the whole container when it is sent to process 1.
    pub stop_signal: String,
    /// Process 1 is a systemd.
    pub systemd: bool,
    /// Process 1 is the small init, which runs this.
    pub application: Option<Application>,
    /// What each container gets of its own, beside what all do.
    pub own_files: Vec<OwnFile>,
}

/// Why there is no new root.
#[derive(Debug, thiserror::Error)]
pub enum RecipeError {
    #[error("`{program}` is not there: run `apt-get install {package}`")]
    MissingProgram { program: String, package: &'static str },
    #[error("there is no keyring `{}`", .path.display())]
    MissingKeyring {
        path: PathBuf,
        /// Which has it, where that is known.
        package: Option<&'static str>,
    },
    /// No package, or no list of them, came from a mirror.
    #[error("{said}{}", all_tried(.tried))]
    Unreachable {
        /// The mirrors that the recipe names.
        tried: Vec<String>,
        /// What apt says.
        said: String,
    },
    #[error("cannot {what} `{}`", .path.display())]
    Write { what: &'static str, path: PathBuf, source: io::Error },
    #[error("cannot run `{program}`")]
    Run { program: String, source: io::Error },
    /// Somebody wants this process to end.
    #[error("it was interrupted")]
    Interrupted,
    #[error("cannot write the log")]
    Log(#[source] io::Error),
    #[error("`{program}` ended with {status}{}", last_words(.said))]
    Failed {
        program: String,
        status: String,
        /// Its last lines.
        said: Vec<String>,
    },
    #[error("`{}` cannot be a template's root: {because}", .path.display())]
    Unusable { path: PathBuf, because: String },
    #[error("`{}` is an image of Incus or LXD that somebody has unpacked: its root is in `rootfs`", tree::escaped_path(.path))]
    UnpackedImage { path: PathBuf },
    #[error("`{}` cannot be read", tree::escaped_path(.path))]
    Source { path: PathBuf, source: io::Error },
    #[error("it has no init: there is no {tried} that can be executed")]
    NoInit {
        /// Where it was looked for.
        tried: String,
    },
    #[error("{because}")]
    EntryPoint { because: String },
    #[error("its programs are for {is}, and this host is {here}")]
    OtherMachine { is: String, here: &'static str },
    #[error(transparent)]
    Archive(ArchiveError),
    #[error("nothing can be unpacked out of the reach of all else")]
    Confined(#[from] ConfinedError),
    #[error(transparent)]
    Tree(#[from] TreeError),
    #[error(transparent)]
    Built(#[from] BuiltRootError),
}

/// Behind what apt says, which names but one of them.
fn all_tried(mirrors: &[String]) -> String {
    match mirrors {
        [] => String::new(),
        mirrors => format!("; tried: {}", tree::escaped(mirrors.join(", ").as_bytes())),
    }
}

/// The line that names the reason: the first error of apt or mmdebstrap (those after it say that there was one), else
/// simply the last.
fn last_words(said: &[String]) -> String {
    let is_error = |line: &&String| line.starts_with("E: ") || line.starts_with("error: ");
    match said.iter().find(is_error).or(said.last()) {
        Some(line) => format!(": {}", tree::escaped(line.as_bytes())),
        None => String::new(),
    }
}

impl From<ArchiveError> for RecipeError {
    fn from(error: ArchiveError) -> Self {
        if matches!(error, ArchiveError::Interrupted) { Self::Interrupted } else { Self::Archive(error) }
    }
}

impl RecipeError {
    /// There is not room enough, and no error of the system says so: a program has ended that has said it, in English, as it was asked to; or what an
    /// archive brings was looked at before it was written.
    pub fn is_said_to_be_full(&self) -> bool {
        if let Self::Archive(ArchiveError::Unpack { source: UnpackError::TooMuch { .. }, .. }) = self {
            return true;
        }
        matches!(self, Self::Failed { said, .. } if said.iter().any(|line| line.contains("No space left on device")))
    }

    fn write(what: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Write { what, path: path.to_owned(), source }
    }

    fn unusable(path: &Path, because: impl Into<String>) -> Self {
        Self::Unusable { path: path.to_owned(), because: because.into() }
    }
}

/// The architecture of this machine in Debian's words.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "i386",
        "powerpc64" => "ppc64el",
        other => other,
    }
}
