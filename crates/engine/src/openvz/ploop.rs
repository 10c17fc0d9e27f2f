//! A root on a disk of ploop: the images are read, and the disk that they are is copied, checked and mounted where nobody else can see it.
//!
//! The images themselves are only read, through a view in which they cannot be written. The copy is gone with whoever has it.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use runtime::disk_copy::{self, DiskError, MountedCopy};
use tree::{LayeredRoot, Root};

use super::descriptor;
use super::image::{self, Image, ImageError};
use crate::error::{Code, Failure, Result, system};
use crate::host::Host;
use crate::interrupt::Second;
use crate::operation::pace::Pace;
use crate::space::{self, Need};

const DESCRIPTOR: &str = "DiskDescriptor.xml";
const LONGEST_DESCRIPTOR: u64 = 1024 * 1024;

/// A disk, read but not copied yet.
#[derive(Debug)]
pub struct Disk {
    chain: Vec<Image>,
    stamps: Vec<(File, FileStamp)>,
    /// Images of other states than the present one.
    pub others: usize,
}

/// What an image was like.
type FileStamp = (u64, u64, i64, i64);

fn stamp(file: &File) -> std::io::Result<FileStamp> {
    let facts = file.metadata()?;
    Ok((facts.ino(), facts.len(), facts.ctime(), facts.ctime_nsec()))
}

impl Disk {
    /// Reads what the directory at `path` says of its disk.
    ///
    /// # Errors
    /// [`Code::BadValue`]; [`Code::Mounted`] where somebody has it open, unless `is_forced`.
    pub fn open(path: &Path, is_forced: bool) -> Result<Disk> {
        let shown = tree::escaped_path(path);
        let refused = |because: String| {
            Failure::new(Code::BadValue, format!("the disk in `{shown}` cannot be read"))
                .because(because)
                .unchanged()
                .hint("see whether it is whole; what it is made of is in its `DiskDescriptor.xml`")
        };
        let view = runtime::foreign::read_only(path)
            .map_err(|error| system(format!("cannot look at {shown}"), &error))?;
        let directory = LayeredRoot::new(Root::from_handle(view), None);
        let text = directory
            .read_file(Path::new(DESCRIPTOR), LONGEST_DESCRIPTOR)
            .map_err(|error| refused(runtime::monitor::describe(&error)))?
            .ok_or_else(|| refused(format!("it has no `{DESCRIPTOR}`")))?;
        let text =
            String::from_utf8(text.bytes).map_err(|_| refused(format!("`{DESCRIPTOR}` is no text")))?;
        let read = descriptor::read(&text)
            .map_err(|error| refused(format!("`{DESCRIPTOR}`: {}", tree::printable(&error))))?;
        let (mut chain, mut stamps, mut entries) = (Vec::new(), Vec::new(), 0);
        for one in &read.chain {
            let name = tree::escaped_path(&one.file);
            if let Some(device) = runtime::foreign::device_of(&path.join(&one.file)) {
                return Err(Failure::new(Code::Mounted, format!("`{name}` is in use"))
                    .because(format!("the device /dev/{device} is made of it"))
                    .unchanged()
                    .hint("stop what uses it, and detach that"));
            }
            let file = directory
                .open_file_followed(&one.file)
                .map_err(|error| refused(runtime::monitor::describe(&error)))?
                .ok_or_else(|| refused(format!("there is no `{name}`")))?;
            let own = file.try_clone().and_then(|file| Ok((stamp(&file)?, file)));
            let (stamp, kept) = own.map_err(|error| refused(format!("`{name}`: {error}")))?;
            let image = Image::open(file, one.is_plain)
                .map_err(|error| refused(format!("`{name}`: {}", runtime::monitor::describe(&error))))?;
            if image.is_in_use && !is_forced {
                return Err(Failure::new(Code::Mounted, format!("`{name}` is in use"))
                    .because("it says of itself that it is open: its container runs, or its host has died meanwhile")
                    .unchanged()
                    .hint("see that it runs nowhere, and add --force: its journal is replayed, as after a power cut"));
            }
            entries += image.entries();
            if entries > image::MOST_ENTRIES as usize {
                return Err(refused("its images have longer tables together than any disk has".to_owned()));
            }
            chain.push(image);
            stamps.push((kept, stamp));
        }
        Ok(Disk { chain, stamps, others: read.others })
    }

    /// None of the images has changed since it was opened.
    pub fn is_unchanged(&self) -> bool {
        self.stamps.iter().all(|(file, before)| stamp(file).is_ok_and(|now| now == *before))
    }

    /// Copies, checks and mounts it.
    ///
    /// # Errors
    /// [`Code::NoSpace`], [`Code::BadValue`], [`Code::Interrupted`].
    pub fn mount(&self, host: &Host, what: &str) -> Result<MountedCopy> {
        // The disk, and beside it for a while what is copied from it.
        let used: u64 = self.chain.iter().map(Image::used).sum();
        let bytes = used.min(image::size(&self.chain)) * 2;
        space::check_private(host, Need { who: "a copy of the disk and of its root", bytes, inodes: 64 })?;
        host.heed_signals(what)?;
        let interrupted =
            |failure: Failure| host.or_interrupted(failure.within(what).unchanged(), Second::Nothing);
        let copy = disk_copy::nameless(&host.prefix.private_dir())
            .map_err(|error| system("there can be no copy of the disk", &error))?;
        host.step("read", "Reading the disk...");
        let mut pace = Pace::new(host, "read");
        image::flatten(&self.chain, &copy, &mut |bytes| pace.goes_on(0, bytes)).map_err(|error| {
            interrupted(match &error {
                ImageError::Write(source) => system("the copy of the disk cannot be written", source),
                ImageError::Damaged(_) | ImageError::Read(_) | ImageError::Interrupted => {
                    Failure::new(Code::BadValue, "the disk cannot be read").caused_by(&error)
                }
            })
        })?;
        let found = image::file_system(&copy).map_err(|error| {
            Failure::new(Code::BadValue, "its root cannot be read").caused_by(&error).unchanged()
        })?;
        host.step("check", &format!("Checking its {}...", found.kind));
        let mut pace = Pace::new(host, "check");
        let place = (found.offset, found.length);
        disk_copy::mount(&copy, place, found.kind, &mut || pace.goes_on(0, 0))
            .map_err(|error| interrupted(explained(&error)))
    }
}

fn explained(error: &DiskError) -> Failure {
    let failure = Failure::new(Code::BadValue, "its root cannot be read").caused_by(error);
    match error {
        DiskError::NoChecker => {
            Failure { code: Code::Unsupported, ..failure }.hint("run `apt-get install e2fsprogs`")
        }
        DiskError::System { .. } | DiskError::Confined(_) | DiskError::TooLong => {
            Failure { code: Code::System, ..failure }.hint("`dmesg` may tell more")
        }
        DiskError::Refused { .. } => failure.hint(
            "check it on the old host, or mount it there and copy what can be read to a directory `fs`",
        ),
        DiskError::Interrupted => failure,
    }
}
