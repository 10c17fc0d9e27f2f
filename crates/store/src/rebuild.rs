//! `prlctl recover --rebuild`: the machine-written files of an area made again from what lies on disk.
//!
//! For when something other than us has damaged them. Roots are not touched. Nothing is guessed silently: each
//! thing that was made again, and on what grounds, is a line of the report. A file of a newer format is no damage:
//! it stops the rebuild before anything is written. To run it again is harmless; the journal comes last, so that
//! until everything else is whole every other command refuses.

use std::os::fd::{AsFd as _, BorrowedFd};

use jiff::Timestamp;

use crate::area::{Area, AreaError, AreaRecord, GENERATIONS, LIVE, VE_CONF};
use crate::atomic;
use crate::conf::Conf;
use crate::generation::{Base, GenerationRecord, GenerationState, Reason, load_made};
use crate::identity::{ContainerId, GenerationNumber, TemplateChoice};
use crate::journal::Journal;
use crate::lock::Lock;
use crate::prefix::Prefix;
use crate::record::Record as _;
use crate::{registry, template};

impl Area {
    /// Makes what is damaged again. The caller holds the container's lock too, and the container is stopped: it may
    /// get another range of ids. Empty: nothing was damaged.
    pub fn rebuild(prefix: &Prefix, id: &ContainerId, host: &Lock) -> Result<Vec<String>, AreaError> {
        let area = Self::open_unchecked(prefix, id)?;
        area.refuse_newer()?;
        let mut report = Vec::new();
        area.sweep()?;
        if atomic::make_directory_at(area.handle(), GENERATIONS, 0o700)? {
            report.push("`generations` was missing: made, empty".to_owned());
        }
        area.rebuild_record(prefix, host, &mut report)?;
        for number in area.generation_numbers()? {
            area.rebuild_generation(prefix, number, &mut report)?;
        }
        area.rebuild_live(&mut report)?;
        area.rebuild_journal(&mut report)?;
        Ok(report)
    }

    fn refuse_newer(&self) -> Result<(), AreaError> {
        let newer = |error: &AreaError| {
            matches!(error, AreaError::NewerFormat { .. } | AreaError::UnknownFeature { .. })
        };
        let mut errors: Vec<AreaError> = Vec::new();
        errors.extend(self.record().err());
        errors.extend(self.journal().err());
        // A missing `generations/` is damage, and not yet made again.
        let generations = self.generations().unwrap_or_default();
        errors.extend(generations.into_iter().filter_map(|(_, record)| record.err()));
        errors.into_iter().find(newer).map_or(Ok(()), Err)
    }

    fn rebuild_record(
        &self,
        prefix: &Prefix,
        host: &Lock,
        report: &mut Vec<String>,
    ) -> Result<(), AreaError> {
        let Some(because) = damage(self.record())? else { return Ok(()) };
        let mut record = AreaRecord::new(*self.id(), registry::allocate_id_range(prefix, host)?);
        // The link too: it may be all that tells of a generation whose directory was lost.
        let highest = self.generation_numbers()?.into_iter().chain(self.live().ok()).max();
        record.next_generation = highest.map_or(1, |number| number.get().saturating_add(1));
        Area::need_volume(&mut record, self.volume());
        self.store_record(&record)?;
        report.push(format!(
            "`area.json` ({because}): made again, with ids from {} and {} as the next generation",
            record.id_range.first, record.next_generation
        ));
        Ok(())
    }

    fn rebuild_generation(
        &self,
        prefix: &Prefix,
        number: GenerationNumber,
        report: &mut Vec<String>,
    ) -> Result<(), AreaError> {
        let Some(because) = damage(self.generation(number))? else { return Ok(()) };
        let handle = self.generation_handle(number)?;
        atomic::sweep(handle.as_fd())?;
        let (mut record, grounds) = match load_made(handle.as_fd()) {
            Some(made) if made.number == number => (made, "from `made.json`".to_owned()),
            Some(_) | None => self.guess_generation(prefix, number)?,
        };
        // Whether it had failed is not known any more. While an operation is under way its newest one is its own;
        // any other is kept: nothing is ever deleted on a guess.
        let is_staged = matches!(self.journal(), Ok(Some(_)))
            && self.live().is_ok_and(|live| live != number)
            && self.generation_numbers()?.last() == Some(&number);
        record.state = if is_staged { GenerationState::Staged } else { GenerationState::Kept };
        self.store_generation(&record)?;
        report.push(format!("generation {number}: `generation.json` ({because}): made again {grounds}"));
        Ok(())
    }

    /// A record out of nothing but the directory and its neighbours.
    fn guess_generation(
        &self,
        prefix: &Prefix,
        number: GenerationNumber,
    ) -> Result<(GenerationRecord, String), AreaError> {
        let parent = self.generation_numbers()?.into_iter().rfind(|other| *other < number);
        let (base, grounds) = self.guess_base(prefix, number)?;
        // Made by the same program on the same host: very probably with the same options.
        let sibling = self
            .generations()?
            .into_iter()
            .filter_map(|(_, record)| record.ok())
            .find(|record| matches!(record.base, Base::Empty) == matches!(base, Base::Empty));
        let record = GenerationRecord {
            format: GenerationRecord::FORMAT,
            number,
            parent,
            reason: match base {
                Base::Empty => Reason::Script,
                Base::Template { .. } => Reason::Reinstall,
            },
            base,
            mount_options: sibling.map(|record| record.mount_options).unwrap_or_default(),
            state: GenerationState::Kept,
            created: Timestamp::now(),
            distribution: None,
            templates: None,
            left: None,
            ostemplate: None,
        };
        let parent = parent.map_or_else(|| "none".to_owned(), |parent| parent.to_string());
        Ok((record, format!("by guessing: {grounds}, and that its parent is {parent}")))
    }

    fn guess_base(&self, prefix: &Prefix, number: GenerationNumber) -> Result<(Base, String), AreaError> {
        if self.layers_handle(number).is_ok_and(|layers| is_whole_root(layers.as_fd())) {
            return Ok((
                Base::Empty,
                "that it has no template, since `delta` looks like a whole root".into(),
            ));
        }
        let unknown = || {
            let file = self.generation_dir(number).join(GenerationRecord::FILE);
            self.damaged(file, "nothing tells which template it lies on (`OSTEMPLATE` does not name one)")
        };
        let conf = Conf::load(&self.path().join(VE_CONF)).unwrap_or_default();
        let choice: TemplateChoice =
            conf.get("OSTEMPLATE").and_then(|name| name.parse().ok()).ok_or_else(unknown)?;
        let found = template::choose(prefix, &choice).map_err(|_| unknown())?.record;
        let latest = if choice.version.is_none() { "the latest " } else { "" };
        let grounds = format!("that it lies on {latest}`{choice}`, since `OSTEMPLATE` says so");
        Ok((Base::Template { name: found.name, digest: found.digest }, grounds))
    }

    fn rebuild_live(&self, report: &mut Vec<String>) -> Result<(), AreaError> {
        let because = match self.live() {
            Ok(live) if self.generation_handle(live).is_ok() => return Ok(()),
            Ok(live) => format!("generation {live} is missing"),
            Err(AreaError::Damaged { because, .. }) => because,
            Err(error) => return Err(error),
        };
        let whole: Vec<GenerationRecord> =
            self.generations()?.into_iter().filter_map(|(_, record)| record.ok()).collect();
        let newest = whole.iter().rev().find(|record| record.state == GenerationState::Kept);
        let Some(record) = newest else {
            return Err(self.damaged(LIVE, format!("{because}, and there is no generation to point it to")));
        };
        self.point_live(record.number)?;
        self.sync()?;
        report.push(format!(
            "`live` ({because}): points to generation {}, the newest that is kept; `prlctl generation-switch` changes it",
            record.number
        ));
        Ok(())
    }

    /// What an unreadable journal was about cannot be known. `live` tells whether it had committed; what is staged
    /// without being live had not, and is kept as failed.
    fn rebuild_journal(&self, report: &mut Vec<String>) -> Result<(), AreaError> {
        let because = damage(self.journal())?;
        if because.is_none() && self.journal()?.is_some() {
            return Ok(());
        }
        let live = self.live()?;
        for (number, record) in self.generations()? {
            let mut record = record?;
            if record.state == GenerationState::Staged {
                record.state = if number == live { GenerationState::Kept } else { GenerationState::Failed };
                self.store_generation(&record)?;
                report.push(format!(
                    "generation {number}: was staged by a lost operation, is {:?} now",
                    record.state
                ));
            }
        }
        if let Some(because) = because {
            // A death before this line: the journal is still there, and everything is done again.
            report.push(self.put_journal_aside(&because)?);
        }
        Ok(())
    }

    /// Renames the journal, so that nobody takes it for one; what was done, in a line. Also for one that this crate can read, and whose
    /// arguments the engine cannot.
    pub fn put_journal_aside(&self, because: &str) -> Result<String, AreaError> {
        let aside = format!("{}.damaged-{}", Journal::FILE, Timestamp::now().as_second());
        atomic::move_at(self.handle(), Journal::FILE, self.handle(), &aside)?;
        Ok(format!("`operation.json` ({because}): put aside as `{aside}`"))
    }
}

/// Why something is damaged; `None` if it is whole. Other errors go on.
fn damage<T>(read: Result<T, AreaError>) -> Result<Option<String>, AreaError> {
    match read {
        Ok(_) => Ok(None),
        Err(AreaError::Damaged { because, .. }) => Ok(Some(because)),
        Err(error) => Err(error),
    }
}

/// Whether a delta has, at its top, what every root has and a difference hardly ever.
fn is_whole_root(generation: BorrowedFd<'_>) -> bool {
    let Ok(delta) = atomic::open_directory_at(generation, "delta") else { return false };
    let Ok(names) = atomic::names_in(delta.as_fd()) else { return false };
    ["bin", "etc", "lib", "sbin", "usr", "var"].iter().all(|wanted| names.iter().any(|name| name == wanted))
}

#[cfg(test)]
#[path = "rebuild_tests.rs"]
mod tests;
