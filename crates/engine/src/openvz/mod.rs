//! A private area of OpenVZ: where its root is, what its configuration says, and who may be using it.
//!
//! ```text
//! layout 5    ve.conf, root.hdd/DiskDescriptor.xml and images   a disk in a file, or in a chain of them (ploop)
//! layout 4    ve.conf, fs/                                      a directory
//! simfs       the area is the root                              a directory; ve.conf is elsewhere
//! ```
//!
//! Of the last one everything was written by whoever is root in the container, a `ve.conf` and an `fs/` too, should he have wanted to: so an area that looks
//! like a root *is* the root, and nothing in it is read as anything else. All is read by handle. Nothing is written.

pub mod conf;
pub mod descriptor;
pub mod image;
pub mod place;
pub mod ploop;

use std::path::{Path, PathBuf};

use store::Conf;
use tree::{Kind, Root};

use crate::error::{Code, Failure, Result};

/// Longer ones are none.
const LONGEST_CONF: u64 = 1024 * 1024;
/// At the top of every root there has ever been, and of no area.
const OF_A_ROOT: [&str; 2] = ["etc", "usr"];

/// Where a root is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RootPlace {
    /// It is this directory.
    Directory(PathBuf),
    /// It is on a disk of ploop, which is in this directory.
    Ploop(PathBuf),
}

/// An area, looked at.
#[derive(Debug)]
pub struct PrivateArea {
    /// Its path, canonical.
    pub path: PathBuf,
    /// Where its root is.
    pub root: RootPlace,
    /// Its own configuration, and where that was read; `None`: it has none.
    pub conf: Option<(PathBuf, Conf)>,
    /// Which host it says it belongs to.
    pub owner: Option<String>,
    /// What of it does not come along, for people.
    pub left: Vec<String>,
}

impl PrivateArea {
    /// Looks at the area at `path`; `conf` is read in place of its own configuration.
    ///
    /// # Errors
    /// [`Code::BadValue`] for what is no area.
    pub fn open(path: &Path, conf: Option<&Path>) -> Result<PrivateArea> {
        let shown = tree::escaped_path(path);
        let refused = |because: String| {
            Failure::new(Code::BadValue, format!("`{shown}` is no private area"))
                .because(because)
                .unchanged()
                .hint("name the directory that has the `ve.conf` and `fs` or `root.hdd`, or, with simfs, the one that is the root")
        };
        let path = std::fs::canonicalize(path).map_err(|error| refused(error.to_string()))?;
        let area = Root::open(&path).map_err(|error| refused(runtime::monitor::describe(&error)))?;
        let is_directory =
            |name: &str| matches!(area.kind(Path::new(name)), Ok(Some(Kind::Directory { .. })));
        if OF_A_ROOT.into_iter().all(is_directory) {
            let conf = conf.map(read_conf).transpose()?;
            return Ok(PrivateArea {
                root: RootPlace::Directory(path.clone()),
                path,
                conf,
                owner: None,
                left: Vec::new(),
            });
        }
        let root = if is_directory("root.hdd") {
            RootPlace::Ploop(path.join("root.hdd"))
        } else if is_directory("fs") {
            RootPlace::Directory(path.join("fs"))
        } else {
            return Err(refused("it has neither `fs` nor `root.hdd`, and is no root either".to_owned()));
        };
        let conf = match conf {
            Some(conf) => Some(read_conf(conf)?),
            None => own_conf(&area, &path)?,
        };
        let owner = area.read_file(Path::new(".owner"), 4096).ok().flatten();
        let owner =
            owner.map(|file| tree::escaped(file.bytes.trim_ascii())).filter(|owner| !owner.is_empty());
        let left = left(&area);
        Ok(PrivateArea { root, path, conf, owner, left })
    }
}

fn read_conf(path: &Path) -> Result<(PathBuf, Conf)> {
    let conf = Conf::load_checked(path).map_err(|error| unusable(path, &error))?;
    Ok((path.to_owned(), conf))
}

fn unusable(path: &Path, error: &dyn std::error::Error) -> Failure {
    Failure::new(Code::BadValue, format!("the configuration `{}` cannot be used", tree::escaped_path(path)))
        .caused_by(error)
        .unchanged()
        .hint("correct a copy of it, and name that with --config")
}

/// The `ve.conf` of the area itself, which may be a link to nowhere here.
fn own_conf(area: &Root, path: &Path) -> Result<Option<(PathBuf, Conf)>> {
    let name = Path::new("ve.conf");
    let path = path.join(name);
    let Some(file) = area.read_file(name, LONGEST_CONF).map_err(|error| unusable(&path, &error))? else {
        return Ok(None);
    };
    let conf = Conf::parse(&file.bytes);
    if let Some(damage) = conf.damage() {
        return Err(Failure::new(
            Code::BadValue,
            format!("the configuration `{}` cannot be used", tree::escaped_path(&path)),
        )
        .because(format!("line {}: {}", damage.line, damage.why))
        .unchanged()
        .hint("correct a copy of it, and name that with --config"));
    }
    Ok(Some((path, conf)))
}

/// What an area may have that a container here gets otherwise, or not at all.
fn left(area: &Root) -> Vec<String> {
    let entries = |name: &str| {
        area.names(Path::new(name))
            .ok()
            .flatten()
            .unwrap_or_default()
            .into_iter()
            .map(|name| tree::escaped(std::os::unix::ffi::OsStrExt::as_bytes(name.as_os_str())))
    };
    let mut left = Vec::new();
    let scripts: Vec<String> = entries("scripts").collect();
    if !scripts.is_empty() {
        left.push(format!(
            "its scripts do not come along ({}): what is run on this host as root is for somebody to read first",
            scripts.join(", ")
        ));
    }
    let dumps = entries("dump").count();
    if dumps > 0 {
        left.push(format!(
            "{dumps} saved states in `dump` do not come along: only another kernel of OpenVZ reads them"
        ));
    }
    left
}
