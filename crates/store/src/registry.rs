//! Which containers there are, what they are called, and which ids they have.
//!
//! The directories of `/vz/private` are the truth. The links `/etc/vz/names/<name>` and `/etc/vz/conf/<uuid>.conf`
//! point at a container's `ve.conf`; one that dangles counts for nothing. Links and id ranges change under the
//! host's lock.

use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::area::{self, Area, AreaError, VE_CONF};
use crate::atomic::{self, AtomicError};
use crate::conf::Conf;
use crate::id_range::{self, From, IdRange, IdRangeError};
use crate::identity::{ContainerId, ContainerName};
use crate::lock::{Lock, LockName};
use crate::nearest::nearest;
use crate::numeric_id::{self, NumericId};
use crate::prefix::Prefix;

/// Nothing, or too much, is meant by what somebody typed.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    #[error("unknown container `{words}`")]
    Unknown { words: String, did_you_mean: Option<String> },
    #[error("`{words}` may be {}", .candidates.join(", "))]
    Ambiguous { words: String, candidates: Vec<String> },
    /// Somebody has edited `NAME` or `VEID`.
    #[error("{} are all called `{words}`", .holders.iter().map(|(id, _)| id.braced()).collect::<Vec<_>>().join(" and "))]
    Claimed { words: String, holders: Vec<Holder> },
    #[error("`{id}` is not registered")]
    Unregistered { id: ContainerId, path: PathBuf },
    #[error(transparent)]
    List(#[from] AtomicError),
}

/// Who has a word, and as which key of its `ve.conf`: `NAME` or `VEID`.
pub type Holder = (ContainerId, &'static str);

/// A link cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    #[error("the name `{name}` is taken by `{holder}`")]
    NameTaken { name: ContainerName, holder: ContainerId },
    #[error("`{}` is not a link of ours, so it is left alone", .path.display())]
    NotALink { path: PathBuf },
    #[error(transparent)]
    Write(#[from] AtomicError),
}

/// All containers, sorted.
pub fn list(prefix: &Prefix) -> Result<Vec<ContainerId>, AtomicError> {
    let mut ids = areas(prefix)?;
    ids.retain(|id| !is_unregistered(prefix, id));
    Ok(ids)
}

/// All areas at their places: of containers, and what has been unregistered. Both lie on templates and have ids.
pub fn areas(prefix: &Prefix) -> Result<Vec<ContainerId>, AtomicError> {
    ids(prefix, ContainerId::from_file_name)
}

/// What cannot be read is a container: a damaged one.
fn is_unregistered(prefix: &Prefix, id: &ContainerId) -> bool {
    Area::open_unchecked(prefix, id)
        .and_then(|area| area.record())
        .is_ok_and(|record| !record.is_registered())
}

/// Areas that were being made (`.staging-<uuid>`). One whose container lock is free is what a death left.
pub fn staged(prefix: &Prefix) -> Result<Vec<ContainerId>, AtomicError> {
    ids(prefix, area::staged_id)
}

fn ids(prefix: &Prefix, read: fn(&str) -> Option<ContainerId>) -> Result<Vec<ContainerId>, AtomicError> {
    let private = atomic::open_directory(&prefix.private_dir())?;
    Ok(atomic::names_in(private.as_fd())?.iter().filter_map(|name| read(name.to_str()?)).collect())
}

/// All names whose container exists, sorted.
pub fn names(prefix: &Prefix) -> Result<Vec<(ContainerName, ContainerId)>, AtomicError> {
    let directory = atomic::open_directory(&prefix.names_dir())?;
    let named = |name: &std::ffi::OsString| {
        let name: ContainerName = name.to_str()?.parse().ok()?;
        match link_target(directory.as_fd(), name.as_str()) {
            Target::Container(id) if exists(prefix, &id) => Some((name, id)),
            Target::Container(_) | Target::Missing | Target::Other => None,
        }
    };
    Ok(atomic::names_in(directory.as_fd())?.iter().filter_map(named).collect())
}

/// All containers that have a name, linked or not yet; what a damaged configuration cannot tell, its links do.
fn own_names(prefix: &Prefix) -> Result<Vec<(ContainerName, ContainerId)>, AtomicError> {
    let linked = names(prefix)?;
    let mut own = Vec::with_capacity(linked.len());
    for id in list(prefix)? {
        match Area::open_unchecked(prefix, &id).and_then(|area| area.name()) {
            Ok(Some(name)) => own.push((name, id)),
            Ok(None) | Err(_) => own.extend(linked.iter().filter(|(_, holder)| *holder == id).cloned()),
        }
    }
    Ok(own)
}

/// The existing container that a name's link leads to.
pub fn linked(prefix: &Prefix, name: &ContainerName) -> Result<Option<ContainerId>, AtomicError> {
    let directory = atomic::open_directory(&prefix.names_dir())?;
    Ok(match link_target(directory.as_fd(), name.as_str()) {
        Target::Container(id) if exists(prefix, &id) && !is_unregistered(prefix, &id) => Some(id),
        Target::Container(_) | Target::Missing | Target::Other => None,
    })
}

/// The containers that have this `NAME`, linked or not.
pub fn named(prefix: &Prefix, name: &ContainerName) -> Result<Vec<ContainerId>, AtomicError> {
    Ok(having(prefix, &["NAME"], name.as_str())?.into_iter().map(|(id, _)| id).collect())
}

/// The containers that have this number, linked or not.
fn all_numbered(prefix: &Prefix, number: NumericId) -> Result<Vec<ContainerId>, AtomicError> {
    Ok(having(prefix, &[numeric_id::KEY], &number.to_string())?.into_iter().map(|(id, _)| id).collect())
}

/// The containers that this whole word is the name or the number of, linked or not: one, unless somebody has edited.
pub fn holders(prefix: &Prefix, words: &str) -> Result<Vec<Holder>, AtomicError> {
    let keys: &[&'static str] =
        if words.parse::<NumericId>().is_ok() { &["NAME", numeric_id::KEY] } else { &["NAME"] };
    having(prefix, keys, words)
}

/// A look at every `ve.conf`, since somebody may have edited any of them. It is one glance each, and only who seems to
/// have it is opened: every command that changes something by a name or a number asks this.
fn having(prefix: &Prefix, keys: &[&'static str], words: &str) -> Result<Vec<Holder>, AtomicError> {
    let private = atomic::open_directory(&prefix.private_dir())?;
    let mut buffer = vec![0; GLANCE];
    let mut holders = Vec::new();
    for id in ids(prefix, ContainerId::from_file_name)? {
        if may_have(private.as_fd(), &id, keys, words, &mut buffer)
            && let Some(key) = keys.iter().find(|key| has(prefix, &id, key, words))
        {
            holders.push((id, *key));
        }
    }
    Ok(holders)
}

/// No `ve.conf` that nobody has grown is as large.
const GLANCE: usize = 16 << 10;

/// `false`: it certainly has none of these keys with that value.
fn may_have(
    private: BorrowedFd<'_>,
    id: &ContainerId,
    keys: &[&str],
    words: &str,
    buffer: &mut [u8],
) -> bool {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let read = rustix::fs::openat(private, format!("{id}/{VE_CONF}"), flags, Mode::empty())
        .and_then(|file| rustix::io::read(file, &mut *buffer));
    match read {
        // Less than was asked for is all that there is.
        Ok(length) if length < buffer.len() => {
            let text = buffer.get(..length).unwrap_or_default();
            keys.iter().any(|key| Conf::glance(text, key).as_deref() == Some(words))
        }
        Ok(_) => true,
        Err(Errno::NOENT) => false,
        Err(_) => true,
    }
}

fn is_called(prefix: &Prefix, id: &ContainerId, name: &ContainerName) -> bool {
    has(prefix, id, "NAME", name.as_str())
}

fn has(prefix: &Prefix, id: &ContainerId, key: &str, words: &str) -> bool {
    let Ok(area) = Area::open_unchecked(prefix, id) else { return false };
    let is_its = if key == numeric_id::KEY {
        area.numeric_id().is_some_and(|own| own.to_string() == words)
    } else {
        area.name().is_ok_and(|own| own.is_some_and(|own| own.as_str() == words))
    };
    is_its && !is_unregistered(prefix, id)
}

/// The existing container that has this number: of several the one that its link leads to, else any.
pub fn numbered(prefix: &Prefix, number: NumericId) -> Result<Option<ContainerId>, AtomicError> {
    match linked_number(prefix, number)? {
        Some(id) => Ok(Some(id)),
        // A link that is missing, or leads to what has another number by now.
        None => Ok(all_numbered(prefix, number)?.into_iter().next()),
    }
}

/// Where the link of a number leads, if that has it.
fn linked_number(prefix: &Prefix, number: NumericId) -> Result<Option<ContainerId>, AtomicError> {
    let directory = atomic::open_directory(&prefix.conf_dir())?;
    Ok(match link_target(directory.as_fd(), &number_link(number)) {
        Target::Container(id) if has(prefix, &id, numeric_id::KEY, &number.to_string()) => Some(id),
        Target::Container(_) | Target::Missing | Target::Other => None,
    })
}

/// The container that somebody means: by its exact name, its number, its UUID with or without braces, or a start of
/// a name or a UUID that fits only one.
pub fn find(prefix: &Prefix, words: &str) -> Result<ContainerId, FindError> {
    match find_whole(prefix, words)? {
        Some(id) => Ok(id),
        None => find_start(prefix, words),
    }
}

/// As [`find`], of whole words alone; `None`: nothing has that name, number or UUID.
pub fn find_whole(prefix: &Prefix, words: &str) -> Result<Option<ContainerId>, FindError> {
    let name = words.parse::<ContainerName>().ok();
    let linked = name.as_ref().map(|name| linked(prefix, name)).transpose()?.flatten();
    if let (Some(id), Some(name)) = (linked, &name)
        && is_called(prefix, &id, name)
    {
        return Ok(Some(id));
    }
    if let Ok(number) = words.parse::<NumericId>() {
        if let Some(id) = linked_number(prefix, number)? {
            return Ok(Some(id));
        }
        match all_numbered(prefix, number)?[..] {
            [] => {}
            [id] => return Ok(Some(id)),
            _ => {
                return Err(FindError::Claimed { words: words.to_owned(), holders: holders(prefix, words)? });
            }
        }
    }
    // A link that is missing, or leads to what has another name by now.
    if let Some(name) = name {
        let mut holders = named(prefix, &name)?;
        match (holders.pop(), holders.is_empty(), linked) {
            (Some(id), true, _) | (None, _, Some(id)) => return Ok(Some(id)),
            (Some(last), false, _) => {
                holders.push(last);
                let holders = holders.into_iter().map(|id| (id, "NAME")).collect();
                return Err(FindError::Claimed { words: words.to_owned(), holders });
            }
            (None, _, None) => {}
        }
    }
    if let Ok(id) = words.parse::<ContainerId>()
        && exists(prefix, &id)
    {
        if is_unregistered(prefix, &id) {
            return Err(FindError::Unregistered { path: prefix.area_dir(&id), id });
        }
        return Ok(Some(id));
    }
    Ok(None)
}

fn find_start(prefix: &Prefix, words: &str) -> Result<ContainerId, FindError> {
    let names = own_names(prefix)?;
    let start = words.trim_matches(['{', '}']).to_ascii_lowercase();
    let mut found: Vec<(ContainerId, Option<&ContainerName>)> = Vec::new();
    // A number that is nobody's is no start of anything: `stop 101` must not stop 1015, nor what has a UUID that begins so.
    let is_number = words.len() < 8 && words.bytes().all(|byte| byte.is_ascii_digit());
    if !start.is_empty() && !is_number {
        for id in list(prefix)? {
            let mut own = names.iter().filter(|(_, holder)| *holder == id).map(|(name, _)| name);
            let by_name = own.clone().find(|name| name.as_str().starts_with(words));
            if by_name.is_some() || id.to_string().starts_with(&start) {
                found.push((id, by_name.or_else(|| own.next())));
            }
        }
    }
    match found[..] {
        [(id, _)] => Ok(id),
        [] => Err(FindError::Unknown {
            words: words.to_owned(),
            did_you_mean: nearest(words, names.iter().map(|(name, _)| name.as_str())).map(str::to_owned),
        }),
        _ => {
            let show = |(id, name): &(ContainerId, Option<&ContainerName>)| {
                name.map_or_else(|| id.to_string(), ToString::to_string)
            };
            Err(FindError::Ambiguous {
                words: words.to_owned(),
                candidates: found.iter().map(show).collect(),
            })
        }
    }
}

/// The first range of ids that no container, and no user of the host, has. Taken by whoever writes it into an
/// `area.json` before the host's lock is let go.
pub fn allocate_id_range(prefix: &Prefix, host: &Lock) -> Result<IdRange, IdRangeError> {
    debug_assert_eq!(host.name(), &LockName::Host, "ranges are given under the host's lock");
    let (used, from) = used_ids(prefix, None)?;
    id_range::first_free(&used, from).ok_or(IdRangeError::Exhausted)
}

/// The range of an area that may come from another host, if nobody here has any of it, else another.
pub fn id_range_for(
    prefix: &Prefix,
    host: &Lock,
    id: &ContainerId,
    wanted: IdRange,
) -> Result<IdRange, IdRangeError> {
    debug_assert_eq!(host.name(), &LockName::Host, "ranges are given under the host's lock");
    let (used, from) = used_ids(prefix, Some(id))?;
    // Where somebody's cannot be read, it may be his.
    if from == From::Bottom && wanted.can_be_given() && !used.iter().any(|other| other.overlaps(&wanted)) {
        return Ok(wanted);
    }
    id_range::first_free(&used, from).ok_or(IdRangeError::Exhausted)
}

/// What all have but this one, and where to look first for what nobody has.
fn used_ids(prefix: &Prefix, but: Option<&ContainerId>) -> Result<(Vec<IdRange>, From), IdRangeError> {
    let mut used = Vec::new();
    for path in ["/etc/subuid", "/etc/subgid"] {
        match std::fs::read(path) {
            Ok(bytes) => used.extend(id_range::parse_subordinate(&bytes)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(source) => return Err(IdRangeError::Unreadable { path, source }),
        }
    }
    let mut from = From::Bottom;
    let is_another = |id: &ContainerId| Some(id) != but;
    let areas = areas(prefix)?.into_iter().filter(is_another).map(|id| Area::open_unchecked(prefix, &id));
    let staged = staged(prefix)?.into_iter().map(|id| Area::open_staged(prefix, &id));
    for area in areas.chain(staged) {
        match area.and_then(|area| area.record()) {
            Ok(record) => used.push(record.id_range),
            // Gone since it was listed.
            Err(AreaError::Missing { .. }) => {}
            Err(_) => from = From::Top,
        }
    }
    Ok((used, from))
}

/// Makes `/etc/vz/names/<name>`, durably. A name that another existing container has is refused.
pub fn link_name(prefix: &Prefix, name: &ContainerName, id: &ContainerId) -> Result<(), RegistryError> {
    link(prefix, &prefix.names_dir(), name.as_str(), id).map_err(|error| match error {
        LinkError::Taken(holder) => RegistryError::NameTaken { name: name.clone(), holder },
        LinkError::Registry(error) => error,
    })
}

/// Removes the name, if it is this container's.
pub fn unlink_name(prefix: &Prefix, name: &ContainerName, id: &ContainerId) -> Result<(), RegistryError> {
    unlink(&prefix.names_dir(), name.as_str(), id)
}

/// Removes every name that points to `id`, which is no container any more, or not yet: what a deletion has left must not mean the next one of that UUID.
pub fn unlink_names_of(prefix: &Prefix, id: &ContainerId) -> Result<(), RegistryError> {
    let directory = prefix.names_dir();
    let handle = atomic::open_directory(&directory)?;
    for name in atomic::names_in(handle.as_fd())? {
        if let Some(name) = name.to_str() {
            unlink(&directory, name, id)?;
        }
    }
    Ok(())
}

/// Makes `/etc/vz/conf/<uuid>.conf`, durably. A file that an editor has put there in the link's place is left
/// alone and refused: it may hold what somebody wrote.
pub fn link_conf(prefix: &Prefix, id: &ContainerId) -> Result<(), RegistryError> {
    link(prefix, &prefix.conf_dir(), &conf_link(id), id).map_err(|error| match error {
        LinkError::Taken(_) => RegistryError::NotALink { path: prefix.conf_dir().join(conf_link(id)) },
        LinkError::Registry(error) => error,
    })
}

/// Makes `/etc/vz/conf/<number>.conf`, durably. What another container has there that has that number no more is
/// replaced; whether it has it is the caller's to know.
pub fn link_number(prefix: &Prefix, number: NumericId, id: &ContainerId) -> Result<(), RegistryError> {
    let (directory, name) = (prefix.conf_dir(), number_link(number));
    let link = || link(prefix, &directory, &name, id);
    let made = match link() {
        Err(LinkError::Taken(holder)) => {
            unlink(&directory, &name, &holder)?;
            link()
        }
        other => other,
    };
    made.map_err(|error| match error {
        LinkError::Taken(_) => RegistryError::NotALink { path: directory.join(&name) },
        LinkError::Registry(error) => error,
    })
}

/// Removes every link of a number to `id`, but that of the one that it has.
pub fn unlink_numbers_of(
    prefix: &Prefix,
    id: &ContainerId,
    but: Option<NumericId>,
) -> Result<(), RegistryError> {
    let directory = prefix.conf_dir();
    let handle = atomic::open_directory(&directory)?;
    for name in atomic::names_in(handle.as_fd())? {
        let number = name.to_str().and_then(|name| name.strip_suffix(".conf")?.parse::<NumericId>().ok());
        if let Some(number) = number.filter(|number| Some(*number) != but) {
            unlink(&directory, &number_link(number), id)?;
        }
    }
    Ok(())
}

/// Removes it, if it is a link of ours.
pub fn unlink_conf(prefix: &Prefix, id: &ContainerId) -> Result<(), RegistryError> {
    unlink(&prefix.conf_dir(), &conf_link(id), id)
}

/// Removes the links of containers that are not there: what a creation that died before its commit has left, or a
/// deletion after it; and what whoever died while he made one has left beside it. Only ours, which point into this prefix, and under the host's lock. Returns how many.
pub fn sweep_links(prefix: &Prefix) -> Result<usize, RegistryError> {
    let mut removed = 0;
    for directory in [prefix.names_dir(), prefix.conf_dir()] {
        let handle = atomic::open_directory(&directory)?;
        for name in atomic::names_in(handle.as_fd())? {
            let Some(name) = name.to_str() else { continue };
            let Target::Container(id) = link_target(handle.as_fd(), name) else { continue };
            let is_ours = std::fs::read_link(directory.join(name))
                .is_ok_and(|target| target == prefix.area_dir(&id).join(VE_CONF));
            let is_temporary = name.starts_with(atomic::TEMPORARY);
            if is_ours && (is_temporary || !exists(prefix, &id) || is_unregistered(prefix, &id)) {
                atomic::remove_file_at(handle.as_fd(), name)?;
                removed += 1;
            }
        }
    }
    Ok(removed)
}

fn conf_link(id: &ContainerId) -> String {
    format!("{id}.conf")
}

fn number_link(number: NumericId) -> String {
    format!("{number}.conf")
}

enum LinkError {
    Taken(ContainerId),
    Registry(RegistryError),
}

impl<E: Into<RegistryError>> std::convert::From<E> for LinkError {
    fn from(error: E) -> Self {
        Self::Registry(error.into())
    }
}

fn link(prefix: &Prefix, directory: &Path, name: &str, id: &ContainerId) -> Result<(), LinkError> {
    let handle = atomic::open_directory(directory)?;
    match link_target(handle.as_fd(), name) {
        // What is unregistered has none: a death has left it.
        Target::Container(holder)
            if holder != *id && exists(prefix, &holder) && !is_unregistered(prefix, &holder) =>
        {
            return Err(LinkError::Taken(holder));
        }
        Target::Other => return Err(RegistryError::NotALink { path: directory.join(name) }.into()),
        Target::Container(_) | Target::Missing => {}
    }
    atomic::replace_symlink_at(handle.as_fd(), name, prefix.area_dir(id).join(VE_CONF))?;
    // A power cut before this may lose the link; the operation that makes it is not done before either.
    Ok(atomic::fsync_dir(handle.as_fd())?)
}

fn unlink(directory: &Path, name: &str, id: &ContainerId) -> Result<(), RegistryError> {
    let handle = atomic::open_directory(directory)?;
    match link_target(handle.as_fd(), name) {
        Target::Container(holder) if holder == *id => Ok(atomic::remove_file_at(handle.as_fd(), name)?),
        Target::Container(_) | Target::Missing | Target::Other => Ok(()),
    }
}

enum Target {
    Missing,
    Container(ContainerId),
    Other,
}

/// Which container a link points to: the last but one component of `…/<uuid>/ve.conf`.
fn link_target(directory: BorrowedFd<'_>, name: &str) -> Target {
    let target = match rustix::fs::readlinkat(directory, name, Vec::new()) {
        Ok(target) => target,
        Err(Errno::NOENT) => return Target::Missing,
        Err(_) => return Target::Other,
    };
    let id = target
        .to_str()
        .ok()
        .and_then(|target| target.strip_suffix("/ve.conf"))
        .and_then(|area| area.rsplit('/').next())
        .and_then(ContainerId::from_file_name);
    id.map_or(Target::Other, Target::Container)
}

fn exists(prefix: &Prefix, id: &ContainerId) -> bool {
    prefix.area_dir(id).is_dir()
}

#[cfg(test)]
#[path = "registry_tests.rs"]
mod tests;
