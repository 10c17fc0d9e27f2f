//! The versions of a template: who lies on which, and which can go.

use std::os::fd::AsFd as _;
use std::path::Path;

use super::{TemplateError, digests, latest, name_dir, names};
use crate::area::{Area, AreaError};
use crate::atomic;
use crate::generation::{Base, load_made};
use crate::identity::{ContainerId, GenerationNumber, TemplateName};
use crate::prefix::Prefix;
use crate::{registry, trash};

/// Which generations lie on a template, and on which version. Generations whose record cannot be read are an
/// error: they may be users.
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
    for (number, record) in area.generations()? {
        let base = match record {
            Ok(record) => record.base,
            Err(AreaError::NoGeneration { .. }) => continue,
            Err(error) => match load_made(area.generation_handle(number)?.as_fd()) {
                Some(made) => made.base,
                None => return Err(error),
            },
        };
        match base {
            Base::Template { name, digest } if name == *wanted => versions.push((number, digest)),
            Base::Template { .. } | Base::Empty => {}
        }
    }
    Ok(versions)
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
