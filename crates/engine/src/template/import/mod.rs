//! Templates out of what others have made: `vzpkg create cache NAME --from SOURCE`.
//!
//! Whatever it is, it becomes a tree in the staging, is looked over once, and judged: what system it is, for which machine, and what starts and stops it.

mod archive;
mod described;
mod directory;
mod entry_point;
mod image;
mod judge;
mod unified;

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use ::archive::image::Blobs;
use rustix::fs::{FileType, Mode, OFlags};
use store::OwnFile;
use tree::{LayeredRoot, Root, Unpacked};

use super::{BuiltTemplate, RecipeError, architecture};

pub use archive::undo_compression;
pub use entry_point::EntryPoint;
pub(super) use judge::judge;
pub use judge::{Init, System, init_of, system};

/// Where a template comes from.
#[derive(Debug)]
pub enum Source {
    /// A tar archive, compressed or not.
    Archive {
        /// Its path.
        path: PathBuf,
        /// From its first byte.
        file: File,
        /// Its root is in `rootfs/`, perhaps: what is read tells.
        is_perhaps_unified: bool,
    },
    /// An image of layers in an archive.
    ImageArchive {
        /// Its path.
        path: PathBuf,
        /// From its first byte.
        file: File,
    },
    /// An image of layers in a directory.
    Layout {
        /// Its path.
        path: PathBuf,
        /// Held.
        handle: OwnedFd,
    },
    /// A root that is read by handle: of a directory, or of a container that does not run.
    Root {
        /// For people: `directory /srv/root`, `container web01`.
        said: String,
        /// Its layers.
        root: LayeredRoot,
        /// It is a directory, and no container's.
        of_the_host: bool,
        /// What the container runs, where that is not an init.
        entry_point: Option<EntryPoint>,
        /// What the container was given of its own: so are those that are made of it.
        own_files: Vec<OwnFile>,
    },
}

/// What the command line says of a source.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Its init, instead of what is found.
    pub init: Option<String>,
    /// What stops that, instead of what is found.
    pub stop_signal: Option<String>,
    /// What an image says is to be run is run, even where it has an init.
    pub entry_point: bool,
    /// Which image, where there are several: a name with tag, or a digest.
    pub image: Option<String>,
}

/// Told while it goes on.
pub struct Told<'a> {
    /// So much is done; `false`: somebody wants it to end.
    pub goes_on: &'a mut dyn FnMut(Unpacked) -> bool,
    /// Something worth knowing.
    pub note: &'a mut dyn FnMut(&str),
}

impl std::fmt::Debug for Told<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Told")
    }
}

impl Source {
    /// Opens what `words` name, before anything is made.
    ///
    /// # Errors
    /// When there is nothing of that name, or nothing that could be a source.
    pub fn open(words: &Path) -> Result<Source, RecipeError> {
        let unreadable =
            |error: rustix::io::Errno| RecipeError::Source { path: words.to_owned(), source: error.into() };
        // Neither a FIFO nor a device is to keep us waiting.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let opened = rustix::fs::open(words, flags, Mode::empty()).map_err(unreadable)?;
        let kind = rustix::fs::fstat(&opened).map_err(unreadable)?.st_mode;
        let (kind, path) = (FileType::from_raw_mode(kind), words.to_owned());
        if kind == FileType::RegularFile {
            let mut file = File::from(opened);
            let compression = archive::compression_of(&mut file)?;
            return Ok(match archive::holds(&file, compression)? {
                archive::Holds::Root => Source::Archive { path, file, is_perhaps_unified: false },
                archive::Holds::PerhapsUnified => Source::Archive { path, file, is_perhaps_unified: true },
                archive::Holds::Image => Source::ImageArchive { path, file },
            });
        }
        if kind == FileType::Directory {
            // A root has no such file at its top.
            let is_layout =
                rustix::fs::statat(&opened, "oci-layout", rustix::fs::AtFlags::SYMLINK_NOFOLLOW).is_ok();
            if is_unpacked_image(&opened) {
                return Err(RecipeError::UnpackedImage { path });
            }
            return Ok(if is_layout {
                Source::Layout { path, handle: opened }
            } else {
                Source::Root {
                    said: format!("directory {}", tree::escaped_path(&path)),
                    root: LayeredRoot::new(Root::from_handle(opened), None),
                    of_the_host: true,
                    entry_point: None,
                    own_files: Vec::new(),
                }
            });
        }
        Err(RecipeError::unusable(words, "it is neither a directory nor a file"))
    }

    /// There may be several images in it, of which one is meant.
    pub fn has_images(&self) -> bool {
        match self {
            Source::ImageArchive { .. } | Source::Layout { .. } => true,
            Source::Archive { .. } | Source::Root { .. } => false,
        }
    }

    /// Bytes that its root will take at the least, as far as can be told.
    pub fn size(&self) -> u64 {
        match self {
            Source::Archive { file, .. } | Source::ImageArchive { file, .. } => {
                file.metadata().map_or(0, |metadata| metadata.len())
            }
            Source::Root { .. } | Source::Layout { .. } => 0,
        }
    }

    /// For people: what is going on.
    pub fn doing(&self) -> String {
        match self {
            Source::Archive { path, .. }
            | Source::ImageArchive { path, .. }
            | Source::Layout { path, .. } => {
                format!("Unpacking {}...", tree::escaped_path(path))
            }
            Source::Root { said, .. } => format!("Copying {said}..."),
        }
    }

    /// Fills `rootfs`, an empty directory, and says what has become of it.
    ///
    /// # Errors
    /// [`RecipeError`]; what was made so far goes with the staging.
    pub fn fill(
        self,
        rootfs: &Path,
        wanted: &Wanted,
        told: &mut Told<'_>,
    ) -> Result<BuiltTemplate, RecipeError> {
        let mut own_files = Vec::new();
        let (source, entry_point) = match self {
            Source::Archive { path, file, is_perhaps_unified } => {
                let (what, described) = archive::fill(file, is_perhaps_unified, rootfs, told)?;
                let source = format!("{what} {}", tree::escaped_path(&path));
                let Some(described) = described else { return judge(rootfs, source, None, wanted, told) };
                if let Some(machine) = described.other_machine() {
                    return Err(RecipeError::OtherMachine { is: machine.to_owned(), here: architecture() });
                }
                let mut built = judge(rootfs, source, None, wanted, told)?;
                described.tell(told);
                described.add_to(&mut built);
                return Ok(built);
            }
            Source::ImageArchive { path, mut file } => {
                let compression = archive::compression_of(&mut file)?;
                let whole = image::undone(file, compression, rootfs, told)?;
                let blobs = Blobs::of_archive(whole, &mut || (told.goes_on)(Unpacked::default()))?;
                let (name, entry_point) = image::fill(&blobs, wanted, rootfs, told)?;
                (format!("image {name} {}", tree::escaped_path(&path)), entry_point)
            }
            Source::Layout { path, handle } => {
                let blobs = Blobs::Directory(handle.into());
                let (name, entry_point) = image::fill(&blobs, wanted, rootfs, told)?;
                (format!("image {name} {}", tree::escaped_path(&path)), entry_point)
            }
            Source::Root { said, root, of_the_host, entry_point, own_files: own } => {
                directory::fill(&root, of_the_host, rootfs, told)?;
                own_files = own;
                (said, entry_point)
            }
        };
        Ok(BuiltTemplate { own_files, ..judge(rootfs, source, entry_point, wanted, told)? })
    }
}

/// A unified image of Incus or LXD whose archive somebody has unpacked: its root is not what lies here.
fn is_unpacked_image(directory: &OwnedFd) -> bool {
    let kind = |name: &str| {
        let found = rustix::fs::statat(directory, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).ok()?;
        Some(FileType::from_raw_mode(found.st_mode))
    };
    kind("metadata.yaml") == Some(FileType::RegularFile)
        && kind("rootfs") == Some(FileType::Directory)
        // A root that happens to have both has these, too.
        && ["bin", "etc", "sbin", "usr"].iter().all(|name| kind(name).is_none())
}
