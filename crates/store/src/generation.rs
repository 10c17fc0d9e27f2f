//! Generations: the numbered roots of a container, of which one is live.
//!
//! ```text
//! generations/<n>/
//!     generation.json   template, parent, mount options, why it was made, its state
//!     made.json         the same as it was at the making, never written again: what a rebuild starts from
//!     delta/            what differs from the template; overlayfs's upper directory
//!     work/             overlayfs's own
//! ```
//! The last two lie elsewhere where the container has a volume of its own: see [`crate::volume`].
//!
//! States: *staged* while an operation makes it; *kept* from then on, live or not (`live` alone says which);
//! *failed* when it ran on probation and was given up; *doomed* when it is to be deleted and was only still in use.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use jiff::Timestamp;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::area::{Area, AreaError, GENERATIONS};
use crate::atomic;
use crate::identity::{GenerationNumber, TemplateName};
use crate::prefix::Prefix;
use crate::record::{self, Record};
use crate::trash;

/// The copy of `generation.json` from the making.
pub(crate) const MADE: &str = "made.json";

/// `generation.json`. See `docs/format/generation.md`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GenerationRecord {
    pub format: u32,
    pub number: GenerationNumber,
    /// What is at its `/old`.
    pub parent: Option<GenerationNumber>,
    pub base: Base,
    /// overlayfs options beside the layers; a generation is always mounted the way it was made.
    pub mount_options: Vec<String>,
    pub reason: Reason,
    pub state: GenerationState,
    pub created: Timestamp,
    /// `DISTRIBUTION` and `OSTEMPLATE` of `ve.conf` while this generation is live.
    pub distribution: Option<String>,
    pub ostemplate: Option<String>,
    /// `TEMPLATES` of `ve.conf`, the applications installed in this root, as it was when this generation was last live.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub templates: Option<String>,
    /// When this generation was last live; of the live one without meaning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left: Option<Timestamp>,
}

/// What lies under the delta.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Base {
    Template {
        name: TemplateName,
        digest: String,
    },
    /// An empty directory: the delta is everything.
    Empty,
}

/// Why it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reason {
    Create,
    Reinstall,
    /// By `vps.reinstall`.
    Script,
}

/// Where it is in its life; whether it is *live* is said by the link alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GenerationState {
    Staged,
    Kept,
    Failed,
    Doomed,
}

impl Record for GenerationRecord {
    const FILE: &'static str = "generation.json";
    const FORMAT: u32 = Self::FORMAT;
}

impl GenerationRecord {
    pub const FORMAT: u32 = 1;

    /// `from`, its parent, the parent's parent, …: what a container sees as `/`, `/old`, `/old/old`. It ends where
    /// there is no parent or somebody has deleted it.
    pub fn chain(area: &Area, from: GenerationNumber) -> Result<Vec<GenerationNumber>, AreaError> {
        let mut chain = vec![from];
        let mut record = area.generation(from)?;
        while let Some(parent) = record.parent {
            if chain.contains(&parent) {
                let file = area.generation_dir(record.number).join(Self::FILE);
                return Err(area.damaged(file, format!("generation {parent} is among its own parents")));
            }
            record = match area.generation(parent) {
                Ok(record) => record,
                Err(AreaError::NoGeneration { .. }) => break,
                Err(error) => return Err(error),
            };
            chain.push(parent);
        }
        Ok(chain)
    }

    /// As [`GenerationRecord::chain`], as far as it can be known: one whose record cannot be read is the last of it. For what only shows.
    pub fn chain_as_known(area: &Area, from: GenerationNumber) -> Vec<GenerationNumber> {
        let mut chain = vec![from];
        let mut next = from;
        while let Ok(GenerationRecord { parent: Some(parent), .. }) = area.generation(next)
            && !chain.contains(&parent)
            && area.generation_dir(parent).exists()
        {
            chain.push(parent);
            next = parent;
        }
        chain
    }
}

impl Area {
    pub fn generation_dir(&self, number: GenerationNumber) -> PathBuf {
        self.path().join(GENERATIONS).join(number.to_string())
    }

    pub fn generation_handle(&self, number: GenerationNumber) -> Result<OwnedFd, AreaError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::openat(&self.generations_handle()?, number.to_string(), flags, Mode::empty()) {
            Ok(handle) => Ok(handle),
            Err(Errno::NOENT) => Err(AreaError::NoGeneration { container: self.display_name(), number }),
            Err(errno) => {
                Err(AreaError::Unreadable { path: self.generation_dir(number), source: errno.into() })
            }
        }
    }

    /// `generations/`, for its sync.
    pub fn generations_handle(&self) -> Result<OwnedFd, AreaError> {
        Ok(atomic::open_directory_at(self.handle(), GENERATIONS)?)
    }

    /// Which there are, by directory, ascending.
    pub fn generation_numbers(&self) -> Result<Vec<GenerationNumber>, AreaError> {
        let names = atomic::names_in(self.generations_handle()?.as_fd())?;
        let mut numbers: Vec<GenerationNumber> =
            names.iter().filter_map(|name| name.to_str()?.parse().ok()).collect();
        numbers.sort();
        Ok(numbers)
    }

    /// All, ascending, each with its record or with what is wrong with it.
    #[expect(clippy::type_complexity, reason = "a pair is what it is")]
    pub fn generations(
        &self,
    ) -> Result<Vec<(GenerationNumber, Result<GenerationRecord, AreaError>)>, AreaError> {
        Ok(self.generation_numbers()?.into_iter().map(|number| (number, self.generation(number))).collect())
    }

    pub fn generation(&self, number: GenerationNumber) -> Result<GenerationRecord, AreaError> {
        // By one call where it is as it should be; what else there is, the slow way tells.
        let quick = rustix::fs::openat2(
            self.handle(),
            format!("{GENERATIONS}/{number}"),
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
        );
        let handle = quick.or_else(|_| self.generation_handle(number))?;
        let record: GenerationRecord = record::load_at(handle.as_fd()).map_err(|error| self.refuse(error))?;
        if record.number != number {
            let file = self.generation_dir(number).join(GenerationRecord::FILE);
            return Err(self.damaged(file, format!("it is the record of generation {}", record.number)));
        }
        Ok(record)
    }

    /// Makes `generations/<n>` with `delta/` (as `/` is in a root: 0755), `work/` and its records. The
    /// number comes from [`Area::next_generation_number`].
    ///
    /// **Not durable**: until the commit nothing points to it, and the commit syncs all of it at once, this directory and `generations/`
    /// included; each sync here would be one more commit of the filesystem's own journal.
    pub fn create_generation(&self, record: &GenerationRecord) -> Result<OwnedFd, AreaError> {
        let generations = self.generations_handle()?;
        let name = record.number.to_string();
        if !atomic::make_directory_unsynced_at(generations.as_fd(), &name, 0o700)? {
            return Err(self.damaged(self.generation_dir(record.number), "it was there before it was made"));
        }
        // A death from here on leaves a directory, perhaps not whole, with a number that is never given again and
        // that nothing points to; the journal names it, and recovery moves it to the trash.
        let handle = self.generation_handle(record.number)?;
        self.create_layers(record.number, handle.as_fd())?;
        record::create_at(handle.as_fd(), MADE, record)?;
        record::create_at(handle.as_fd(), GenerationRecord::FILE, record)?;
        Ok(handle)
    }

    pub fn store_generation(&self, record: &GenerationRecord) -> Result<(), AreaError> {
        Ok(record::store_at(self.generation_handle(record.number)?.as_fd(), record)?)
    }

    /// *Staged* becomes *kept*. **Not durable**: the last thing that is written into a generation before its commit, which syncs all of it.
    /// A death between leaves one that says *kept* and that nothing points to; the journal names it, and recovery takes it away.
    pub fn accept_generation(&self, number: GenerationNumber) -> Result<(), AreaError> {
        let record = GenerationRecord { state: GenerationState::Kept, ..self.generation(number)? };
        Ok(record::store_unsynced_at(self.generation_handle(number)?.as_fd(), &record)?)
    }

    /// Moves a generation to the trash; one that is gone already is fine. It must not be mounted anywhere, and not
    /// be live.
    pub fn discard_generation(&self, prefix: &Prefix, number: GenerationNumber) -> Result<(), AreaError> {
        let generations = atomic::open_directory_at(self.handle(), GENERATIONS)?;
        // Durable before the move: what it says then is all that keeps the number from being given again.
        let make_room = || crate::reserve::release_if_full(prefix).ok();
        let is_late = linux::mutated!("number-late");
        if !is_late && !linux::mutated!("number-forgotten") {
            self.remember_number(number, make_room)?;
        }
        if linux::mutated!("layers-before-record") {
            self.discard_layers(number)?;
        }
        // Whatever may fail comes before the record goes: nobody can say afterwards that nothing was deleted.
        let trash = self.layers_trash()?;
        trash::discard(prefix, generations.as_fd(), number.to_string())?;
        // After the record: a generation that has one has its layers. A death before this line, or a disk that fails, leaves what `sweep_layers` finds.
        if let Some(trash) = trash {
            let _ = self.discard_layers_into(&trash, number);
        }
        if is_late { self.remember_number(number, || ()) } else { Ok(()) }
    }
}

/// Reads a generation's record as it was at its making.
pub(crate) fn load_made(handle: BorrowedFd<'_>) -> Option<GenerationRecord> {
    record::load_named_at(handle, MADE).ok()
}
