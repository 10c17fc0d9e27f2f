//! A tar archive of a root, as a template.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use ::archive::{ArchiveError, Compression, Entry, Left, Lists, MOST_AFTER_THE_END, Place, Reader, Target};
use runtime::confined::{Reach, confined};
use rustix::fs::{Mode, OFlags};
use tree::{Root, Unpack, UnpackLimits};

use super::described::{Beside, Described};
use super::{Told, unified};
use crate::template::RecipeError;
use crate::words::count_of;

/// The command, which nobody types.
const COMMAND: &str = "undo-compression";
/// As many bytes as wait for us: it works while we write.
const PIPE: usize = 1024 * 1024;
/// As many bytes are asked for at once: headers are of 512, and most files not much larger.
const READ: usize = 256 * 1024;
/// What is left free on the filesystem, for the records and everybody else.
const LEFT_FREE: u64 = 64 * 1024 * 1024;
/// Where the filesystem makes inodes as it needs them: more than any root has.
const MOST_ENTRIES: u64 = 20_000_000;
/// How the process that undoes compression exits when that would take more memory than it may have.
const TOO_LARGE: u8 = 2;
/// Of what it says when it fails.
const LONGEST_WORDS: u64 = 4096;

/// Unpacks the archive into `rootfs`, or what is in `rootfs/` of one that `is_perhaps_unified`; returns what it was, and what that says of its root.
pub fn fill(
    mut file: File,
    is_perhaps_unified: bool,
    rootfs: &Path,
    told: &mut Told<'_>,
) -> Result<(String, Option<Described>), RecipeError> {
    let compression = compression_of(&mut file)?;
    let is_unified = is_perhaps_unified && unified::is_unified(&file, compression, limits(rootfs)?, told)?;
    let mut stream = Stream::open(file, compression, 0, u64::MAX)?;
    let described = if is_unified {
        let mut beside = Beside::default();
        let mut take = |entry: &Entry, data: &mut dyn Read| beside.take(entry, data);
        unpack_root(&mut stream, rootfs, told, &mut unified::place, &mut take)?;
        Some(beside.read(told))
    } else {
        let mut tops = unified::Tops::default();
        let mut place = |entry: &Entry| tops.see(entry).map(|()| Some(entry.path.clone()));
        unpack_root(&mut stream, rootfs, told, &mut place, &mut |_, _| Ok(()))?;
        if tops.has_only_metadata() {
            return Err(ArchiveError::NoArchive {
                is: "what is said of an image of Incus or LXD, whose root is in another file",
                instead: "`--from` takes the root: its archive, or the directory that `unsquashfs -d DIR FILE` makes of it",
            }
            .into());
        }
        None
    };
    let what = match compression {
        Compression::Plain => "tar",
        Compression::Gzip => "tar.gz",
        Compression::Xz => "tar.xz",
        Compression::Zstd => "tar.zst",
    };
    Ok((if is_unified { format!("unified image {what}") } else { what.to_owned() }, described))
}

/// Told by what it begins with; the file is at its beginning then.
pub fn compression_of(file: &mut File) -> Result<Compression, ArchiveError> {
    let mut sign = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.take(Compression::SIGN as u64).read_to_end(&mut sign)?;
    file.seek(SeekFrom::Start(0))?;
    Compression::of(&sign)
}

/// What an archive is of, told by the names in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holds {
    /// A root: `bin`, `etc`, `usr`.
    Root,
    /// An image: `index.json`, `manifest.json`, `blobs`.
    Image,
    /// A root in `rootfs/`, perhaps: see [`unified`].
    PerhapsUnified,
}

/// Names at the top of an archive that tell what it is of; most often the first does.
pub const OF_A_ROOT: [&[u8]; 15] = [
    b"bin", b"boot", b"dev", b"etc", b"home", b"lib", b"lib64", b"opt", b"proc", b"root", b"run", b"sbin",
    b"srv", b"usr", b"var",
];
const OF_AN_IMAGE: [&[u8]; 5] = [b"blobs", b"oci-layout", b"index.json", b"manifest.json", b"repositories"];
/// More are not looked at.
const MOST_LOOKED_AT: usize = 2_000;
const MOST_BYTES_LOOKED_AT: u64 = 256 * 1024 * 1024;

/// Looks at the names in an archive. What cannot be read is a root's, which is where it is told why.
pub fn holds(file: &File, compression: Compression) -> Result<Holds, RecipeError> {
    let stream = Stream::open(file.try_clone().map_err(ArchiveError::Read)?, compression, 0, u64::MAX)?;
    let mut reader = Reader::new(stream.take(MOST_BYTES_LOOKED_AT), u64::MAX);
    let (mut has_rootfs, mut has_metadata, mut is_all_backup) = (false, false, true);
    for _ in 0..MOST_LOOKED_AT {
        let Ok(Some(entry)) = reader.next_entry() else { break };
        let mut names = unified::names(&entry.path);
        let Some(top) = names.next() else { continue };
        if OF_A_ROOT.contains(&top) {
            return Ok(Holds::Root);
        }
        // `docker save` of old has a directory a layer: 64 digits.
        let is_layer = top.len() >= 64 && top[..64].iter().all(u8::is_ascii_hexdigit);
        if OF_AN_IMAGE.contains(&top) || is_layer {
            return Ok(Holds::Image);
        }
        is_all_backup &= top == b"backup";
        if is_all_backup && names.eq([b"index.yaml"]) {
            return Err(ArchiveError::NoArchive {
                is: "a backup of Incus or LXD, not an image",
                instead: "make an image of the container there with `incus publish`, and take what `incus image export` writes",
            }
            .into());
        }
        has_rootfs |= top == unified::ROOT;
        has_metadata |= top == unified::METADATA;
        if has_rootfs && has_metadata {
            break;
        }
    }
    Ok(if has_rootfs || has_metadata { Holds::PerhapsUnified } else { Holds::Root })
}

/// All entries of a stream into `rootfs`, by a thread that can reach nothing else.
fn unpack_root(
    stream: &mut Stream,
    rootfs: &Path,
    told: &mut Told<'_>,
    place: Place<'_>,
    beside: ::archive::Beside<'_>,
) -> Result<(), RecipeError> {
    let held =
        |flags: OFlags| rustix::fs::open(rootfs, flags | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let failed = |error: rustix::io::Errno| RecipeError::write("open", rootfs, error.into());
    let (top, reach) = (held(OFlags::RDONLY).map_err(failed)?, held(OFlags::PATH).map_err(failed)?);
    let limits = limits(rootfs)?;
    let mut left = Left::default();
    let reach = Reach { reads: Vec::new(), writes: vec![reach.as_fd()], ids: None };
    let unpacked = confined(&reach, || -> Result<(), ArchiveError> {
        let root = Root::from_handle(top.try_clone()?);
        let mut tree = Unpack::new(top, limits);
        let mut lists = Lists::default();
        let mut target =
            Target { tree: &mut tree, lists: &mut lists, left: &mut left, goes_on: &mut *told.goes_on };
        let read = BufReader::with_capacity(READ, &mut *stream);
        ::archive::unpack_and_read(&mut Reader::new(read, limits.bytes), &mut target, place, beside)?;
        lists.give(&mut tree, &root)?;
        tree.finish().map_err(|source| ArchiveError::Unpack { path: b".".to_vec(), source })?;
        Ok(())
    })?;
    // It has the better reason when it has ended before its time.
    stream.outcome(unpacked)?;
    tell_left(&left, told);
    Ok(())
}

/// As much as there is room for.
pub fn limits(rootfs: &Path) -> Result<UnpackLimits, RecipeError> {
    let found =
        rustix::fs::statvfs(rootfs).map_err(|error| RecipeError::write("look at", rootfs, error.into()))?;
    Ok(UnpackLimits {
        bytes: (found.f_bavail * found.f_frsize).saturating_sub(LEFT_FREE),
        entries: if found.f_files == 0 {
            MOST_ENTRIES
        } else {
            (found.f_favail - found.f_favail / 100).min(MOST_ENTRIES)
        },
    })
}

/// Says which device nodes were in it, and which attributes.
pub fn tell_left(left: &Left, told: &mut Told<'_>) {
    let count = left.devices.len() as u64 + left.more_devices;
    if count > 0 {
        let names = some_of(left.devices.iter());
        let nodes = count_of(count, "device node is", "device nodes are");
        (told.note)(&format!("{nodes} left out ({names}): a container gets its own"));
    }
    if left.with_attributes > 0 {
        let entries = count_of(left.with_attributes, "entry", "entries");
        let names = some_of(left.attributes.iter());
        (told.note)(&format!("attributes of {entries} are left out ({names}): Linux has none of such names"));
    }
}

/// The first few, and whether there are more.
fn some_of<'a>(names: impl ExactSizeIterator<Item = &'a Vec<u8>>) -> String {
    let more = if names.len() > 5 { " and others" } else { "" };
    let first: Vec<String> = names.take(5).map(|name| format!("`{}`", tree::escaped(name))).collect();
    first.join(", ") + more
}

/// The bytes of an archive, with its compression undone.
#[derive(Debug)]
pub enum Stream {
    /// As they are.
    Plain(io::Take<File>),
    /// By a process of its own.
    Undone {
        /// The process.
        child: Child,
        /// What it writes.
        output: ChildStdout,
    },
}

impl Stream {
    /// So many bytes of a file from there on; nobody else may read it meanwhile.
    ///
    /// # Errors
    /// When no process can be started.
    pub fn open(
        mut file: File,
        compression: Compression,
        offset: u64,
        length: u64,
    ) -> Result<Stream, RecipeError> {
        let run = |source| RecipeError::Run { program: COMMAND.to_owned(), source };
        file.seek(SeekFrom::Start(offset)).map_err(|error| RecipeError::Archive(error.into()))?;
        if compression == Compression::Plain {
            return Ok(Stream::Plain(file.take(length)));
        }
        let mut child = Command::new("/proc/self/exe")
            .arg0("prlctl")
            .args([COMMAND, compression.word(), &length.to_string()])
            .env_clear()
            .stdin(file)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A signal at the terminal is for us to heed.
            .process_group(0)
            .spawn()
            .map_err(run)?;
        let output = child.stdout.take().ok_or_else(|| run(io::ErrorKind::BrokenPipe.into()))?;
        // Where the system allows no larger one it is only slower.
        let _ = rustix::pipe::fcntl_setpipe_size(&output, PIPE);
        Ok(Stream::Undone { child, output })
    }

    /// What came of reading it, where it may have been the other end that has failed; and what is left after the last entry is read, so that damage is seen there too.
    ///
    /// # Errors
    /// As `read`, or why it could be read no further.
    pub fn outcome<T>(&mut self, read: Result<T, ArchiveError>) -> Result<T, ArchiveError> {
        let Stream::Undone { child, output } = self else { return read };
        match &read {
            Ok(_) | Err(ArchiveError::Read(_) | ArchiveError::Damaged { .. } | ArchiveError::Empty) => {}
            Err(ArchiveError::Unpack { source: tree::UnpackError::Contents(_), .. }) => {}
            // It has ended at an entry that means harm: what may follow is nobody's business.
            Err(_) => return read,
        }
        // What it has still to say it says when it is not waiting for us; and what means harm may write for ever.
        if io::copy(&mut output.take(MOST_AFTER_THE_END), &mut io::sink())? == MOST_AFTER_THE_END {
            return read.and_then(|_| Err(io::Error::other("it goes on after its end").into()));
        }
        let mut words = String::new();
        if let Some(errors) = child.stderr.as_mut() {
            errors.take(LONGEST_WORDS).read_to_string(&mut words)?;
        }
        let status = child.wait()?;
        match (status.success(), status.signal()) {
            (true, _) => read,
            (false, None) if status.code() == Some(TOO_LARGE.into()) => Err(ArchiveError::NoArchive {
                is: "compressed so that more than 64 MiB of memory are needed to undo it",
                instead: "undo it by hand, with `zstd --decompress --long=31 FILE` or `xz --decompress --keep FILE`, and name what it makes",
            }),
            (false, Some(signal)) => Err(io::Error::other(format!(
                "the process that undoes its compression was ended by {}: the archive is damaged, or means harm",
                crate::interrupt::signal_word(signal)
            ))
            .into()),
            (false, None) => Err(io::Error::other(tree::escaped(words.trim().as_bytes())).into()),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(file) => file.read(buffer),
            Stream::Undone { output, .. } => output.read(buffer),
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Stream::Undone { child, .. } = self
            && matches!(child.try_wait(), Ok(None))
        {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// `prlctl undo-compression KIND LENGTH`: so many bytes of standard input, to standard output, shut in.
///
/// # Errors
/// The exit code, and why it could not.
pub fn undo_compression(word: &str, length: u64) -> Result<(), (u8, String)> {
    let failed = |error: io::Error| {
        (if error.kind() == io::ErrorKind::OutOfMemory { TOO_LARGE } else { 1 }, error.to_string())
    };
    let compression = Compression::from_word(word).ok_or((1, "no such compression".to_owned()))?;
    let end = |fd: std::os::fd::BorrowedFd<'_>| fd.try_clone_to_owned().map(File::from).map_err(failed);
    let (input, mut output) = (end(io::stdin().as_fd())?, end(io::stdout().as_fd())?);
    runtime::shut_in::shut_in().map_err(|error| (1, runtime::monitor::describe(&error)))?;
    ::archive::decompress(compression, input.take(length), &mut output).map_err(failed)?;
    output.flush().map_err(failed)
}
