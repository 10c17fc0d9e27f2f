//! Machine-written JSON files: how one is read with suspicion and written durably.
//!
//! Each carries `format`. A newer one than this program knows is refused before anything else of it is looked at,
//! since it may mean other things by the same words; what does not parse is damaged, and says where.

use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::atomic::{self, AtomicError};

/// No file of ours comes near; a larger one is not ours.
const LIMIT: u64 = 1 << 20;

/// A file of ours, as a type.
pub trait Record: Serialize + DeserializeOwned {
    /// What it is called in its directory.
    const FILE: &'static str;
    /// The newest format that this program knows.
    const FORMAT: u32;
}

/// Why bytes are no record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// They are not what anybody has written.
    Damaged(String),
    /// A newer version has.
    NewerFormat {
        /// The number that stands there.
        found: u64,
    },
}

#[derive(Debug)]
pub(crate) enum RecordError {
    Missing { path: PathBuf },
    Damaged { path: PathBuf, because: String },
    NewerFormat { path: PathBuf, found: u64, known: u32 },
    Unreadable { path: PathBuf, source: io::Error },
}

/// A small regular file, not followed; `None` if there is nothing of that name.
pub(crate) fn read_at(dir: BorrowedFd<'_>, name: &str) -> Result<Option<Vec<u8>>, RecordError> {
    let path = || atomic::path_of(dir).join(name);
    let unreadable = |source: io::Error| RecordError::Unreadable { path: path(), source };
    let damaged = |because: &str| RecordError::Damaged { path: path(), because: because.to_owned() };

    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let handle = match rustix::fs::openat(dir, name, flags, Mode::empty()) {
        Ok(handle) => handle,
        Err(Errno::NOENT) => return Ok(None),
        Err(Errno::LOOP) => return Err(damaged("it is a symbolic link")),
        Err(errno) => return Err(unreadable(errno.into())),
    };
    let stat = rustix::fs::fstat(&handle).map_err(|errno| unreadable(errno.into()))?;
    if !FileType::from_raw_mode(stat.st_mode).is_file() {
        return Err(damaged("it is not a regular file"));
    }
    let bytes = atomic::read_at_once(&mut File::from(handle), stat.st_size.unsigned_abs(), LIMIT)
        .map_err(unreadable)?;
    if bytes.len() as u64 > LIMIT {
        return Err(damaged("it is larger than 1 MiB"));
    }
    Ok(Some(bytes))
}

/// [`load_at`] of a record that need not be there.
pub(crate) fn load_if_there_at<T: Record>(dir: BorrowedFd<'_>) -> Result<Option<T>, RecordError> {
    read_at(dir, T::FILE)?
        .map(|bytes| decode(&bytes).map_err(|refusal| refused(refusal, dir, T::FILE, T::FORMAT)))
        .transpose()
}

fn refused(refusal: Refusal, dir: BorrowedFd<'_>, name: &str, known: u32) -> RecordError {
    let path = atomic::path_of(dir).join(name);
    match refusal {
        Refusal::Damaged(because) => RecordError::Damaged { path, because },
        Refusal::NewerFormat { found } => RecordError::NewerFormat { path, found, known },
    }
}

pub(crate) fn load_at<T: Record>(dir: BorrowedFd<'_>) -> Result<T, RecordError> {
    load_named_at(dir, T::FILE)
}

/// [`load_at`] for a copy of the record under another name.
pub(crate) fn load_named_at<T: Record>(dir: BorrowedFd<'_>, name: &str) -> Result<T, RecordError> {
    let bytes =
        read_at(dir, name)?.ok_or_else(|| RecordError::Missing { path: atomic::path_of(dir).join(name) })?;
    decode(&bytes).map_err(|refusal| refused(refusal, dir, name, T::FORMAT))
}

/// All of the reading that needs no file, which is what a fuzzer can reach.
///
/// # Errors
/// [`Refusal`].
pub fn decode<T: Record>(bytes: &[u8]) -> Result<T, Refusal> {
    let damaged = |error: serde_json::Error| Refusal::Damaged(error.to_string());
    if bytes.is_empty() {
        return Err(Refusal::Damaged("it is empty".into()));
    }
    let value: serde_json::Value = serde_json::from_slice(bytes).map_err(damaged)?;
    match value.get("format").and_then(serde_json::Value::as_u64) {
        None | Some(0) => Err(Refusal::Damaged("it has no `format` number".into())),
        Some(found) if found > u64::from(T::FORMAT) => Err(Refusal::NewerFormat { found }),
        Some(_) => serde_json::from_value(value).map_err(damaged),
    }
}

/// Durable when it returns `Ok`. A death inside leaves the old file.
pub(crate) fn store_at<T: Record>(dir: BorrowedFd<'_>, record: &T) -> Result<(), AtomicError> {
    atomic::replace_at(dir, T::FILE, &encode_in(dir, record)?, 0o600)
}

/// [`store_at`] where nothing leads yet; durable once the file and `dir` are synced, which is the caller's.
pub(crate) fn store_unsynced_at<T: Record>(dir: BorrowedFd<'_>, record: &T) -> Result<(), AtomicError> {
    atomic::replace_unsynced_at(dir, T::FILE, &encode_in(dir, record)?, 0o600)
}

/// Writes a new record, under any name, where nobody looks yet; durable once it and `dir` are synced, which is the caller's.
pub(crate) fn create_at<T: Record>(dir: BorrowedFd<'_>, name: &str, record: &T) -> Result<(), AtomicError> {
    atomic::create_at(dir, name, &encode_in(dir, record)?, 0o600)
}

fn encode_in<T: Record>(dir: BorrowedFd<'_>, record: &T) -> Result<Vec<u8>, AtomicError> {
    encode(record).map_err(|error| {
        AtomicError::new("write", atomic::path_of(dir).join(T::FILE), io::Error::from(error))
    })
}

/// What is written of a record.
///
/// # Errors
/// When it holds what JSON cannot.
pub fn encode<T: Record>(record: &T) -> serde_json::Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec_pretty(record)?;
    bytes.push(b'\n');
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::Journal;

    fn journal(format: &str, arguments: &str) -> String {
        format!(
            r#"{{"format":{format},"operation":"x","steps":[],"boot_id":"","was_running":false,"started":"2026-11-26T23:58:22.341Z","pid":1,"arguments":{arguments}}}"#
        )
    }

    #[test]
    fn a_newer_format_is_refused_before_anything_else_of_it_is_looked_at() {
        for (text, wanted) in [
            (r#"{"format":2}"#, Refusal::NewerFormat { found: 2 }),
            (&journal("18446744073709551615", "1"), Refusal::NewerFormat { found: u64::MAX }),
            (&journal("0", "1"), Refusal::Damaged("it has no `format` number".into())),
            (&journal("\"1\"", "1"), Refusal::Damaged("it has no `format` number".into())),
            ("", Refusal::Damaged("it is empty".into())),
        ] {
            assert_eq!(decode::<Journal>(text.as_bytes()), Err(wanted), "{text}");
        }
    }

    #[test]
    fn a_number_comes_back_as_it_was() {
        for number in ["18446744073709506744273709551616", "0.1", "5e-324", "18446744073709551615"] {
            let record: Journal = decode(journal("1", number).as_bytes()).unwrap();
            assert_eq!(decode(&encode(&record).unwrap()), Ok(record), "{number}");
        }
    }
}
