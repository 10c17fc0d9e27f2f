//! `operation.json`: that an operation is under way, and all that its recovery must know.
//!
//! Written once, whole, before the first step; removed after the last. It does not say how far the operation came:
//! every revert is idempotent, and whether the commit happened is asked of `live`.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::area::{Area, AreaError};
use crate::atomic;
use crate::record::{self, Record};

/// See `docs/format/operation.md`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Journal {
    pub format: u32,
    /// What it is, as the engine calls it (`reinstall`, `switch`, …).
    pub operation: String,
    /// All of its steps, in order.
    pub steps: Vec<String>,
    /// In another boot than this one nothing of it runs any more.
    pub boot_id: String,
    pub was_running: bool,
    pub started: Timestamp,
    pub pid: u32,
    /// The operation's own; this crate does not look inside.
    pub arguments: serde_json::Value,
}

impl Journal {
    pub const FORMAT: u32 = 1;
    /// What it is called in an area.
    pub const FILE_NAME: &'static str = "operation.json";
}

impl Record for Journal {
    const FILE: &'static str = Self::FILE_NAME;
    const FORMAT: u32 = Self::FORMAT;
}

impl Area {
    /// The operation that is under way, or was when its program died.
    pub fn journal(&self) -> Result<Option<Journal>, AreaError> {
        record::load_if_there_at(self.handle()).map_err(|error| self.refuse(error))
    }

    /// Durable when it returns: only then may the first step begin. A death before leaves no journal, and nothing
    /// that would need one.
    pub fn store_journal(&self, journal: &Journal) -> Result<(), AreaError> {
        if linux::mutated!("journal-unsynced") {
            return Ok(record::store_unsynced_at(self.handle(), journal)?);
        }
        Ok(record::store_at(self.handle(), journal)?)
    }

    /// **Not durable.** A power cut may bring the journal back, and recovery then finds that nothing is left to do: what it would do is done
    /// durably, and the next journal takes its place durably before anything else is.
    pub fn clear_journal(&self) -> Result<(), AreaError> {
        Ok(atomic::remove_file_unsynced_at(self.handle(), Journal::FILE)?)
    }
}
