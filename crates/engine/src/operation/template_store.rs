//! What is done with templates that there are: `vzpkg remove cache`, `vzpkg verify`, `vzpkg gc`.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use serde::Serialize;
use store::template::{Removed, User, Who};
use store::{Area, ContainerId, Template, TemplateChoice, TemplateName, template};

use crate::error::{Code, Failure, Result, system};
use crate::host::Host;
use crate::interrupt::Second;
use crate::operation::pace::Pace;

/// The state when a signal ends a collection.
const GONE_SO_FAR: &str = "what was removed so far was used by nobody";

/// Removes a template, or one version of it, that nobody uses; of a version, which one, and what is the latest now.
///
/// # Errors
/// [`Code::BadValue`] when somebody uses it: who; [`Code::Damaged`] when that cannot be told.
pub fn remove(host: &Host, choice: &TemplateChoice) -> Result<Option<Removed>> {
    let name = &choice.name;
    let what = format!("cannot remove template `{choice}`");
    host.not_begun(&what);
    let (_lock, _) = host.lock_template(name, &what, "nothing was changed")?;
    // Nobody may begin to use it while we ask who does.
    let _host = host.lock_host()?;
    host.heed_signals(&what)?;
    host.unless_interrupted(&what, "nothing was changed", Second::Nothing)?;
    let removed = match choice.version {
        None => template::remove(&host.prefix, name).map(|()| None),
        Some(_) => template::remove_version(&host.prefix, choice).map(Some),
    };
    removed.map_err(|error| {
        if let store::TemplateError::InUse { users, .. } = &error {
            return Failure::new(Code::BadValue, what)
                .because(format!("it is in use by {}", users_in_words(host, users)))
                .unchanged()
                .hint("delete those containers, or those generations, first; one that is pinned to it needs another template");
        }
        if matches!(error, store::TemplateError::Unknown { .. }) {
            return Failure::from(error).hint("`vzpkg list` shows the templates of this host");
        }
        if is_of_a_user(&error) {
            return Failure::from(error).within(what);
        }
        Failure::from(error)
    })
}

/// Nothing is wrong with a template: it cannot be told who uses it.
fn is_of_a_user(error: &store::TemplateError) -> bool {
    matches!(error, store::TemplateError::UnknownUses { .. } | store::TemplateError::Default(_))
}

fn users_in_words(host: &Host, users: &[User]) -> String {
    let has_root = |id: &ContainerId| {
        users.iter().any(|user| matches!(&user.who, Who::Root { container, .. } if container == id))
    };
    let show = |user: &User| match &user.who {
        Who::Root { container, number } => Some(named(host, container, &format!("generation {number}"))),
        // Said already.
        Who::Pinned { container } if has_root(container) => None,
        Who::Pinned { container } => {
            Some(named(host, container, "pinned to it by OSTEMPLATE of its ve.conf"))
        }
        Who::Default { path } => Some(format!("`{}` (DEF_OSTEMPLATE is pinned to it)", path.display())),
    };
    users.iter().filter_map(show).collect::<Vec<_>>().join(", ")
}

/// A container and how it uses a template, for people.
fn named(host: &Host, id: &ContainerId, how: &str) -> String {
    match Area::open_unchecked(&host.prefix, id).map(|area| area.display_name()) {
        Ok(name) if name != id.to_string() => format!("`{name}` ({id}, {how})"),
        // One that is being made, or has no name.
        Ok(_) | Err(_) => format!("`{id}` ({how})"),
    }
}

/// A line of what is in a tree: half a digest is enough for what nobody has made on purpose, and the whole tree's name tells of all else.
pub(super) fn line_of(lines: &mut Vec<u8>, path: &Path, digest: &[u8; 32]) {
    for byte in &digest[..16] {
        lines.extend(format!("{byte:02x}").bytes());
    }
    lines.push(b' ');
    lines.extend(tree::escaped(path.as_os_str().as_bytes()).bytes());
    lines.push(b'\n');
}

/// What is not as it was made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// The template.
    pub name: String,
    /// The version.
    pub digest: String,
    /// Nothing is.
    pub whole: bool,
    /// Other contents, owner, mode or attributes.
    pub changed: Vec<String>,
    /// No longer there.
    pub missing: Vec<String>,
    /// Not there before.
    pub extra: Vec<String>,
}

/// Looks whether a version of a template is what it was when it was made.
///
/// # Errors
/// When it cannot be read.
pub fn verify(host: &Host, template: &Template) -> Result<Verified> {
    let record = &template.record;
    let what = format!("cannot verify template `{}`", record.name);
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
    let rootfs = rustix::fs::open(template.rootfs(), flags, rustix::fs::Mode::empty())
        .map_err(|error| system(what.clone(), &std::io::Error::from(error)))?;
    let mut pace = Pace::new(host, "verify");
    let (mut files, mut entries) = (Vec::new(), 0);
    let found = tree::digest_of_nodes(rootfs.as_fd(), &mut |path, digest| {
        entries += 1;
        pace.goes_on(entries, 0);
        line_of(&mut files, path, digest);
    })
    .map_err(|error| Failure::from(error).within(what.clone()))?;
    let mut verified = Verified {
        name: record.name.to_string(),
        digest: record.digest.clone(),
        // What follows is of how it is run.
        whole: record.digest.starts_with(&found.hex),
        ..Verified::default()
    };
    if verified.whole {
        return Ok(verified);
    }
    let Some(mut list) = template.files().map_err(|error| Failure::from(error).within(what.clone()))? else {
        return Ok(verified);
    };
    let mut before = Vec::new();
    list.read_to_end(&mut before).map_err(|error| system(what, &error))?;
    let (before, now) = (by_path(&before), by_path(&files));
    for (path, digest) in &before {
        match now.get(path) {
            Some(found) if found == digest => {}
            Some(_) => verified.changed.push((*path).to_owned()),
            None => verified.missing.push((*path).to_owned()),
        }
    }
    verified.extra =
        now.keys().filter(|path| !before.contains_key(*path)).map(|path| (*path).to_owned()).collect();
    Ok(verified)
}

/// Whether a version is what it was when it was made; one that cannot be read is not. Reads every file.
pub(super) fn is_whole(host: &Host, template: &Template) -> bool {
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
    let Ok(rootfs) = rustix::fs::open(template.rootfs(), flags, rustix::fs::Mode::empty()) else {
        return false;
    };
    let mut pace = Pace::new(host, "verify");
    let mut entries = 0;
    let found = tree::digest_of_nodes(rootfs.as_fd(), &mut |_, _| {
        entries += 1;
        pace.goes_on(entries, 0);
    });
    found.is_ok_and(|found| template.record.digest.starts_with(&found.hex))
}

fn by_path(lines: &[u8]) -> BTreeMap<&str, &str> {
    let text = std::str::from_utf8(lines).unwrap_or_default();
    text.lines().filter_map(|line| line.split_once(' ')).map(|(digest, path)| (path, digest)).collect()
}

/// What `vzpkg gc` has removed.
#[derive(Debug)]
pub struct Collected {
    /// Names and digests of versions.
    pub versions: Vec<(TemplateName, String)>,
    /// How many half made templates, and links to them, nobody was at work on any more.
    pub swept: usize,
}

/// Moves the versions of all templates to the trash that are not the latest and that nobody uses; returns their names and digests. And removes what commands have left that
/// were killed while they made one.
///
/// # Errors
/// When it cannot be told which those are.
pub fn collect(host: &Host) -> Result<Collected> {
    let what = "cannot remove old versions of templates";
    host.not_begun(what);
    host.heed_signals(what)?;
    let swept =
        template::sweep(&host.prefix).map_err(|error| Failure::from(error).within(what.to_owned()))?;
    let mut gone = Vec::new();
    for name in template::names(&host.prefix).map_err(|error| Failure::from(error).within(what.to_owned()))? {
        let (_lock, _) = host.lock_template(&name, what, GONE_SO_FAR)?;
        // Nobody may begin to use one while we ask who does.
        let _host = host.lock_host()?;
        host.unless_interrupted(what, GONE_SO_FAR, Second::Nothing)?;
        match template::prune(&host.prefix, &name) {
            Ok(unused) => gone.extend(unused.into_iter().map(|digest| (name.clone(), digest))),
            // Nothing of that name is whole: `vzpkg list` tells.
            Err(
                store::TemplateError::Unknown { .. }
                | store::TemplateError::NoLatest { .. }
                | store::TemplateError::Damaged { .. },
            ) => {}
            Err(error) => return Err(Failure::from(error).within(what.to_owned())),
        }
    }
    Ok(Collected { versions: gone, swept })
}
