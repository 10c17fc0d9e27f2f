//! The versions of a template: who lies on which, and which can go.

use std::os::fd::AsFd as _;
use std::path::Path;

use super::{LATEST, Template, TemplateError, digests, exact, latest, latest_digest, name_dir, names};
use crate::area::{Area, AreaError};
use crate::atomic;
use crate::generation::{Base, GenerationRecord, load_made};
use crate::identity::{ContainerId, GenerationNumber, TemplateChoice, TemplateName};
use crate::prefix::Prefix;
use crate::{registry, trash};

/// The version that is meant: the latest, or the only one whose digest begins like that.
pub fn choose(prefix: &Prefix, choice: &TemplateChoice) -> Result<Template, TemplateError> {
    match choice.version {
        None => latest(prefix, &choice.name),
        Some(_) => exact(prefix, &choice.name, &digest_of(prefix, choice)?),
    }
}

/// The digest of the version that is meant, whether or not that is whole.
pub fn digest_of(prefix: &Prefix, choice: &TemplateChoice) -> Result<String, TemplateError> {
    let name = &choice.name;
    if !name_dir(prefix, name).is_dir() {
        return Err(TemplateError::Unknown { name: name.clone(), available: names(prefix)? });
    }
    let Some(version) = choice.version.clone() else { return Ok(latest(prefix, name)?.record.digest) };
    let available = digests(prefix, name)?;
    let meant: Vec<&String> = available.iter().filter(|digest| digest.starts_with(&version)).collect();
    match meant[..] {
        [digest] => Ok(digest.clone()),
        [] => {
            let latest = latest_digest(prefix, name)?;
            Err(TemplateError::NoVersion { name: name.clone(), version, available, latest })
        }
        _ => {
            let candidates = meant.into_iter().cloned().collect();
            Err(TemplateError::AmbiguousVersion { name: name.clone(), version, candidates })
        }
    }
}

/// Which generations lie on a template, and on which version. Generations whose record cannot be read are an
/// error: they may be users. A root that a script has made is one, too, where the container is pinned to a version: the next reinstall wants it.
pub fn users_of(
    prefix: &Prefix,
    name: &TemplateName,
) -> Result<Vec<(ContainerId, GenerationNumber, String)>, TemplateError> {
    let areas = registry::list(prefix)?.into_iter().map(|id| Area::open_unchecked(prefix, &id));
    let staged = registry::staged(prefix)?.into_iter().map(|id| Area::open_staged(prefix, &id));
    let mut users = Vec::new();
    for area in areas.chain(staged) {
        let area = match area {
            Ok(area) => area,
            // Gone since it was listed.
            Err(AreaError::Missing { .. }) => continue,
            Err(error) => return Err(error.into()),
        };
        for (number, digest) in versions_in(&area, name)? {
            users.push((*area.id(), number, digest));
        }
    }
    Ok(users)
}

fn versions_in(area: &Area, wanted: &TemplateName) -> Result<Vec<(GenerationNumber, String)>, AreaError> {
    let mut versions = Vec::new();
    for (number, record) in records_in(area)? {
        let pinned = || record.ostemplate.as_ref()?.parse::<TemplateChoice>().ok();
        match record.base {
            Base::Template { name, digest } if name == *wanted => versions.push((number, digest)),
            Base::Template { .. } => {}
            Base::Empty => {
                if let Some(TemplateChoice { name, version: Some(digest) }) = pinned()
                    && name == *wanted
                {
                    versions.push((number, digest));
                }
            }
        }
    }
    Ok(versions)
}

/// A container that has, or may have, roots on a version.
#[derive(Debug)]
pub struct Lying {
    pub area: Area,
    /// Which; `None`: its records cannot be read, so that it may be any.
    pub generations: Option<Vec<GenerationNumber>>,
}

/// The containers whose roots lie on a version, and those of which nobody can tell. One that is being made is none: the host's lock keeps it from becoming one.
pub fn lying_on(prefix: &Prefix, name: &TemplateName, digest: &str) -> Result<Vec<Lying>, TemplateError> {
    let mut lying = Vec::new();
    for id in registry::list(prefix)? {
        let area = match Area::open_unchecked(prefix, &id) {
            Ok(area) => area,
            // Gone since it was listed.
            Err(AreaError::Missing { .. }) => continue,
            Err(error) => return Err(error.into()),
        };
        match records_in(&area) {
            Ok(bases) => {
                let is_meant = |base: &Base| matches!(base, Base::Template { name: of, digest: at } if of == name && at == digest);
                let generations: Vec<_> = bases
                    .into_iter()
                    .filter(|(_, record)| is_meant(&record.base))
                    .map(|(number, _)| number)
                    .collect();
                if !generations.is_empty() {
                    lying.push(Lying { area, generations: Some(generations) });
                }
            }
            Err(_) => lying.push(Lying { area, generations: None }),
        }
    }
    Ok(lying)
}

/// The records of all generations; of one that cannot be read, the copy from its making.
fn records_in(area: &Area) -> Result<Vec<(GenerationNumber, GenerationRecord)>, AreaError> {
    let mut records = Vec::new();
    for (number, record) in area.generations()? {
        match record {
            Ok(record) => records.push((number, record)),
            Err(AreaError::NoGeneration { .. }) => {}
            Err(error) => match load_made(area.generation_handle(number)?.as_fd()) {
                Some(made) => records.push((number, made)),
                None => return Err(error),
            },
        }
    }
    Ok(records)
}

/// Moves a template, with all of its versions, to the trash; refused while a generation lies on any.
pub fn remove(prefix: &Prefix, name: &TemplateName) -> Result<(), TemplateError> {
    if !name_dir(prefix, name).is_dir() {
        return Err(TemplateError::Unknown { name: name.clone(), available: names(prefix)? });
    }
    let users: Vec<_> = users_of(prefix, name)?.into_iter().map(|(id, number, _)| (id, number)).collect();
    if !users.is_empty() {
        return Err(TemplateError::InUse { name: name.clone(), users });
    }
    // One rename: a death leaves all of it or nothing.
    discard_at(prefix, &prefix.template_dir(), name.as_str())
}

/// What is left when a version has been removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removed {
    /// The one that is gone.
    pub digest: String,
    /// The version that new roots are made from now; `None`: it was the last one, and there is no such template any more.
    pub latest: Option<String>,
}

/// Moves one version, which need not be whole, to the trash; refused while a generation lies on it. Where it was the latest, the newest of the others is
/// from then on.
pub fn remove_version(prefix: &Prefix, choice: &TemplateChoice) -> Result<Removed, TemplateError> {
    let name = &choice.name;
    let digest = digest_of(prefix, choice)?;
    let users = users_of(prefix, name)?.into_iter().filter(|(_, _, used)| *used == digest);
    let users: Vec<_> = users.map(|(id, number, _)| (id, number)).collect();
    if !users.is_empty() {
        return Err(TemplateError::InUse { name: name.clone(), users });
    }
    let others: Vec<String> = digests(prefix, name)?.into_iter().filter(|other| *other != digest).collect();
    if others.is_empty() {
        // One rename, as of all of it: no name is left that leads to nothing.
        discard_at(prefix, &prefix.template_dir(), name.as_str())?;
        return Ok(Removed { digest, latest: None });
    }
    let mut latest = latest_digest(prefix, name)?;
    if latest.as_deref().is_none_or(|latest| latest == digest) {
        let whole: Vec<Result<Template, TemplateError>> =
            others.iter().map(|other| exact(prefix, name, other)).collect();
        let newest = whole.iter().flatten().max_by_key(|template| template.record.created);
        let Some(newest) = newest.map(|template| template.record.digest.clone()) else {
            // All are damaged: which one new roots would be made from is for somebody to say.
            return Err(whole
                .into_iter()
                .find_map(Result::err)
                .unwrap_or(TemplateError::Missing { name: name.clone(), digest }));
        };
        // Before that one goes: a death in between leaves an older latest version, and all of them.
        let named = atomic::open_directory(&name_dir(prefix, name))?;
        atomic::replace_symlink_at(named.as_fd(), LATEST, &newest)?;
        atomic::fsync_dir(named.as_fd())?;
        latest = Some(newest);
    }
    discard_at(prefix, &name_dir(prefix, name), &digest)?;
    Ok(Removed { digest, latest })
}

/// Moves the versions that are not the latest, and that no generation lies on, to the trash; returns which.
pub fn prune(prefix: &Prefix, name: &TemplateName) -> Result<Vec<String>, TemplateError> {
    let kept = latest(prefix, name)?.record.digest;
    let users = users_of(prefix, name)?;
    let is_used = |digest: &String| *digest == kept || users.iter().any(|(_, _, used)| used == digest);
    let unused: Vec<String> = digests(prefix, name)?.into_iter().filter(|digest| !is_used(digest)).collect();
    for digest in &unused {
        discard_at(prefix, &name_dir(prefix, name), digest)?;
    }
    Ok(unused)
}

fn discard_at(prefix: &Prefix, directory: &Path, name: &str) -> Result<(), TemplateError> {
    Ok(trash::discard(prefix, atomic::open_directory(directory)?.as_fd(), name)?)
}
