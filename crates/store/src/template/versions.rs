//! The versions of a template: who lies on which, and which can go.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use super::{
    LATEST, Template, TemplateError, digests, exact, is_digest, is_template, latest, latest_digest, name_dir,
    names,
};
use crate::area::{Area, AreaError};
use crate::atomic;
use crate::conf::{Conf, ConfError, Damage};
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

/// Who wants a version of a template to stay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    pub template: TemplateName,
    /// The digest of the version, or as many of its first digits as stand where it is named.
    pub version: String,
    pub who: Who,
}

/// How somebody uses a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Who {
    /// This root lies on it; or a script has made the root, of a container that was pinned to it, and the next reinstall wants it.
    Root { container: ContainerId, number: GenerationNumber },
    /// `OSTEMPLATE` of this container's `ve.conf` names it.
    Pinned { container: ContainerId },
    /// `DEF_OSTEMPLATE` of this file names it.
    Default { path: PathBuf },
}

impl User {
    /// Of the version with this digest.
    pub fn uses(&self, digest: &str) -> bool {
        digest.starts_with(&self.version)
    }
}

/// Who uses which templates, as far as it can be told.
#[derive(Debug, Default)]
pub struct Users {
    pub known: Vec<User>,
    /// What cannot be read, and may tell of more.
    pub unreadable: Vec<TemplateError>,
}

/// Who uses which templates: a look at every container, and at `vz.conf`.
pub fn users(prefix: &Prefix) -> Result<Users, TemplateError> {
    let mut users = Users::default();
    let areas = registry::areas(prefix)?.into_iter().map(|id| (id, Area::open_unchecked(prefix, &id), false));
    let staged = registry::staged(prefix)?.into_iter().map(|id| (id, Area::open_staged(prefix, &id), true));
    for (id, area, is_staged) in areas.chain(staged) {
        match area {
            Ok(area) => users.add_container(&area, is_staged),
            // Gone since it was listed.
            Err(AreaError::Missing { .. }) => {}
            Err(source) => {
                users.unreadable.push(TemplateError::UnknownUses { container: id.to_string(), source });
            }
        }
    }
    users.add_default(&prefix.vz_conf());
    Ok(users)
}

/// Who uses a template. What cannot be read is an error: it may be a user.
pub fn users_of(prefix: &Prefix, name: &TemplateName) -> Result<Vec<User>, TemplateError> {
    let Users { mut known, unreadable } = users(prefix)?;
    if let Some(error) = unreadable.into_iter().next() {
        return Err(error);
    }
    known.retain(|user| user.template == *name);
    Ok(known)
}

impl Users {
    fn add_container(&mut self, area: &Area, is_staged: bool) {
        let container = *area.id();
        let pinned = |ostemplate: Option<&str>| match ostemplate?.parse().ok()? {
            TemplateChoice { name, version: Some(version) } => Some((name, version)),
            // The latest, whichever that is.
            TemplateChoice { version: None, .. } => None,
        };
        let (records, mut failed) = records_in(area);
        for (number, record) in records {
            let used = match record.base {
                Base::Template { name, digest } => Some((name, digest)),
                Base::Empty => pinned(record.ostemplate.as_deref()),
            };
            if let Some((template, version)) = used {
                let who = Who::Root { container, number };
                self.known.push(User { template, version, who });
            }
        }
        match area.conf() {
            Ok(conf) => {
                if let Some((template, version)) = pinned(conf.get("OSTEMPLATE").as_deref()) {
                    self.known.push(User { template, version, who: Who::Pinned { container } });
                }
            }
            // It died before it had one.
            Err(AreaError::Conf(ConfError::Missing { .. })) if is_staged => {}
            Err(error) => failed = failed.or(Some(error)),
        }
        if let Some(source) = failed {
            self.unreadable.push(TemplateError::UnknownUses { container: area.display_name(), source });
        }
    }

    fn add_default(&mut self, path: &Path) {
        let conf = Conf::load_or_default(path).and_then(|conf| match conf.damage() {
            Some(Damage { line, why }) => Err(ConfError::Damaged { path: path.to_owned(), line, why }),
            None => Ok(conf),
        });
        match conf.map(|conf| conf.get("DEF_OSTEMPLATE").and_then(|words| words.parse().ok())) {
            Ok(Some(TemplateChoice { name: template, version: Some(version) })) => {
                let who = Who::Default { path: path.to_owned() };
                self.known.push(User { template, version, who });
            }
            Ok(Some(TemplateChoice { version: None, .. }) | None) => {}
            Err(error) => self.unreadable.push(TemplateError::Default(error)),
        }
    }
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
    for id in registry::areas(prefix)? {
        let area = match Area::open_unchecked(prefix, &id) {
            Ok(area) => area,
            // Gone since it was listed.
            Err(AreaError::Missing { .. }) => continue,
            Err(error) => return Err(error.into()),
        };
        let (records, failed) = records_in(&area);
        let is_meant = |base: &Base| matches!(base, Base::Template { name: of, digest: at } if of == name && at == digest);
        let on_it = records.into_iter().filter(|(_, record)| is_meant(&record.base));
        let generations: Vec<_> = on_it.map(|(number, _)| number).collect();
        if failed.is_some() {
            lying.push(Lying { area, generations: None });
        } else if !generations.is_empty() {
            lying.push(Lying { area, generations: Some(generations) });
        }
    }
    Ok(lying)
}

/// The records of the generations that can be read, also in the copy from their making; and why not of all.
fn records_in(area: &Area) -> (Vec<(GenerationNumber, GenerationRecord)>, Option<AreaError>) {
    let all = match area.generations() {
        Ok(all) => all,
        Err(error) => return (Vec::new(), Some(error)),
    };
    let (mut records, mut failed) = (Vec::new(), None);
    for (number, record) in all {
        let made = |handle: OwnedFd| load_made(handle.as_fd());
        match record {
            Ok(record) => records.push((number, record)),
            Err(AreaError::NoGeneration { .. }) => {}
            Err(error) => match area.generation_handle(number).ok().and_then(made) {
                Some(made) => records.push((number, made)),
                None => failed = failed.or(Some(error)),
            },
        }
    }
    (records, failed)
}

/// Moves a template, with all of its versions, to the trash; refused while somebody uses any.
pub fn remove(prefix: &Prefix, name: &TemplateName) -> Result<(), TemplateError> {
    if !is_template(prefix, name) {
        return Err(TemplateError::Unknown { name: name.clone(), available: names(prefix)? });
    }
    refuse_what_is_no_version(prefix, name)?;
    let users = users_of(prefix, name)?;
    if !users.is_empty() {
        return Err(TemplateError::InUse { name: name.clone(), users });
    }
    // One rename: a death leaves all of it or nothing.
    discard_at(prefix, &prefix.template_dir(), name.as_str())
}

/// Nothing goes with a template that is not its own: tarballs of OpenVZ lie in `/vz/template/cache`.
fn refuse_what_is_no_version(prefix: &Prefix, name: &TemplateName) -> Result<(), TemplateError> {
    let path = name_dir(prefix, name);
    let handle = atomic::open_directory(&path)?;
    let found = atomic::names_in(handle.as_fd())?;
    let is_own = |own: &std::ffi::OsString| {
        own.to_str().is_some_and(|own| own == LATEST || is_digest(own) || own.starts_with('.'))
    };
    match found.iter().find(|own| !is_own(own)) {
        None => Ok(()),
        Some(other) => Err(TemplateError::NotOnlyVersions {
            path,
            other: other.to_string_lossy().escape_debug().to_string(),
        }),
    }
}

/// What is left when a version has been removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removed {
    /// The one that is gone.
    pub digest: String,
    /// The version that new roots are made from now; `None`: it was the last one, and there is no such template any more.
    pub latest: Option<String>,
}

/// Moves one version, which need not be whole, to the trash; refused while somebody uses it. Where it was the latest, the newest of the others is
/// from then on.
pub fn remove_version(prefix: &Prefix, choice: &TemplateChoice) -> Result<Removed, TemplateError> {
    let name = &choice.name;
    let digest = digest_of(prefix, choice)?;
    let users: Vec<User> = users_of(prefix, name)?.into_iter().filter(|user| user.uses(&digest)).collect();
    if !users.is_empty() {
        return Err(TemplateError::InUse { name: name.clone(), users });
    }
    let others: Vec<String> = digests(prefix, name)?.into_iter().filter(|other| *other != digest).collect();
    if others.is_empty() {
        refuse_what_is_no_version(prefix, name)?;
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

/// Moves the versions that are not the latest, and that nobody uses, to the trash; returns which.
pub fn prune(prefix: &Prefix, name: &TemplateName) -> Result<Vec<String>, TemplateError> {
    let kept = latest(prefix, name)?.record.digest;
    let users = users_of(prefix, name)?;
    let is_used = |digest: &String| *digest == kept || users.iter().any(|user| user.uses(digest));
    let unused: Vec<String> = digests(prefix, name)?.into_iter().filter(|digest| !is_used(digest)).collect();
    for digest in &unused {
        discard_at(prefix, &name_dir(prefix, name), digest)?;
    }
    Ok(unused)
}

fn discard_at(prefix: &Prefix, directory: &Path, name: &str) -> Result<(), TemplateError> {
    Ok(trash::discard(prefix, atomic::open_directory(directory)?.as_fd(), name)?)
}
