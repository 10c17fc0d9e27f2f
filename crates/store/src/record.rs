//! Machine-written JSON files: how one is read with suspicion and written durably.
//!
//! Each carries `format`. A newer one than this program knows is refused before anything else of it is looked at,
//! since it may mean other things by the same words; what does not parse is damaged, and says where.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::BorrowedFd;
use std::path::PathBuf;

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::atomic::{self, AtomicError};

/// No file of ours comes near; a larger one is not ours.
const LIMIT: u64 = 1 << 20;

pub(crate) trait Record: Serialize + DeserializeOwned {
    const FILE: &'static str;
    const FORMAT: u32;
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
    let mut bytes = Vec::with_capacity(LIMIT.min(stat.st_size.unsigned_abs() + 1) as usize);
    File::from(handle).take(LIMIT + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > LIMIT {
        return Err(damaged("it is larger than 1 MiB"));
    }
    Ok(Some(bytes))
}

pub(crate) fn load_at<T: Record>(dir: BorrowedFd<'_>) -> Result<T, RecordError> {
    load_named_at(dir, T::FILE)
}

/// [`load_at`] for a copy of the record under another name.
pub(crate) fn load_named_at<T: Record>(dir: BorrowedFd<'_>, name: &str) -> Result<T, RecordError> {
    let path = || atomic::path_of(dir).join(name);
    let bytes = read_at(dir, name)?.ok_or_else(|| RecordError::Missing { path: path() })?;
    let damaged = |because: String| RecordError::Damaged { path: path(), because };
    if bytes.is_empty() {
        return Err(damaged("it is empty".into()));
    }
    let value: serde_json::Value =
        serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
    match value.get("format").and_then(serde_json::Value::as_u64) {
        None | Some(0) => Err(damaged("it has no `format` number".into())),
        Some(found) if found > u64::from(T::FORMAT) => {
            Err(RecordError::NewerFormat { path: path(), found, known: T::FORMAT })
        }
        Some(_) => serde_json::from_value(value).map_err(|error| damaged(error.to_string())),
    }
}

/// Durable when it returns `Ok`. A death inside leaves the old file.
pub(crate) fn store_at<T: Record>(dir: BorrowedFd<'_>, record: &T) -> Result<(), AtomicError> {
    atomic::replace_at(dir, T::FILE, &encode(dir, record)?, 0o600)
}

/// [`store_at`] where nothing leads yet; durable once the file and `dir` are synced, which is the caller's.
pub(crate) fn store_unsynced_at<T: Record>(dir: BorrowedFd<'_>, record: &T) -> Result<(), AtomicError> {
    atomic::replace_unsynced_at(dir, T::FILE, &encode(dir, record)?, 0o600)
}

/// Writes a new record, under any name, where nobody looks yet; durable once it and `dir` are synced, which is the caller's.
pub(crate) fn create_at<T: Record>(dir: BorrowedFd<'_>, name: &str, record: &T) -> Result<(), AtomicError> {
    atomic::create_at(dir, name, &encode(dir, record)?, 0o600)
}

fn encode<T: Record>(dir: BorrowedFd<'_>, record: &T) -> Result<Vec<u8>, AtomicError> {
    let mut bytes = serde_json::to_vec_pretty(record).map_err(|error| {
        AtomicError::new("write", atomic::path_of(dir).join(T::FILE), io::Error::from(error))
    })?;
    bytes.push(b'\n');
    Ok(bytes)
}
