//! `--password`, and which password is valid for root in the end.
//!
//! The hash goes from the command into the delta of a staged root and nowhere else: the journal does not have it (`serde(skip)`), nor does a
//! recovery need it, which before the commit takes the root away and after it finds the hash there.

use std::path::Path;

use store::Template;
use tree::Root as TreeRoot;

use super::carry::{LARGEST_ACCOUNT_FILE, account_files, old_root};
use super::change::{Change, ChangeWork};
use crate::accounts::{self, AccountFiles, GivenPassword, Merged, NoSuchUser, RootPassword, RootSecret};
use crate::error::{Code, Failure, Result};
use crate::host::Container;

/// What a reinstall knows of passwords while it runs.
#[derive(Debug, Default)]
pub struct Passwords {
    /// The one that was given.
    pub given: Option<GivenPassword>,
    /// Root's, as the step *carry* has left it, and where it comes from.
    root: Option<(RootPassword, RootSecret)>,
}

impl Passwords {
    /// With one that was given, or none.
    pub fn new(given: Option<GivenPassword>) -> Passwords {
        Passwords { given, root: None }
    }
}

/// Before anything is touched: the user is going to be in the new root, as far as that can be told. What `vps.reinstall` makes nobody knows.
///
/// # Errors
/// [`Code::BadValue`] when he is not.
pub fn check(container: &Container<'_>, change: &Change, template: &Template) -> Result<()> {
    let Some(given) = &change.passwords.given else { return Ok(()) };
    let Some(making) = change.making.as_ref().filter(|making| !making.is_by_script) else { return Ok(()) };
    let template = TreeRoot::open(&template.rootfs())?;
    let mut is_readable = true;
    let mut read = |root: &TreeRoot, name: &str| match root.read_file(Path::new(name), LARGEST_ACCOUNT_FILE) {
        Ok(found) => found.map(|file| file.bytes),
        Err(_) => {
            is_readable = false;
            None
        }
    };
    let new = account_files(&mut |name| read(&template, name));
    let merged = if making.carries_users {
        let old = old_root(container, change.from)?;
        accounts::merge(&account_files(&mut |name| read(&old, name)), &new, &|_| true)
    } else {
        Merged::default()
    };
    if !is_readable {
        // The step itself tells of it, or goes on without.
        return Ok(());
    }
    given.check(&new, &merged).map_err(|error| {
        let failure = missing(given, &error, "will have");
        Failure { code: Code::BadValue, ..failure }.unchanged()
    })
}

/// In the step *carry*: puts the given password on top of what was merged, and remembers whose is valid for root.
///
/// # Errors
/// When there is no such user.
pub fn give(work: &mut ChangeWork<'_>, new: &AccountFiles, merged: &mut Merged) -> Result<()> {
    let passwords = &mut work.plan.passwords;
    if let Some(given) = &passwords.given {
        given.set(new, merged, today()).map_err(|error| missing(given, &error, "has"))?;
    }
    let is_by_script = work.plan.making.as_ref().is_some_and(|making| making.is_by_script);
    let own = if is_by_script { RootPassword::Script } else { RootPassword::Template };
    let source = accounts::root_password_source(merged, passwords.given.as_ref(), own);
    passwords.root = Some((source, RootSecret::after(new, merged)));
    Ok(())
}

/// After it all: which password is valid for root. Something inside may have set another since; where nothing ran, nobody needs to look.
pub fn valid_for_root(container: &Container<'_>, change: &Change) -> Option<RootPassword> {
    let (source, carried) = change.passwords.root.as_ref()?;
    let now = if change.is_tried { look(container, change) } else { None };
    Some(match now {
        Some(now) if now != *carried => now.valid(RootPassword::Changed),
        Some(_) | None => carried.valid(*source),
    })
}

fn look(container: &Container<'_>, change: &Change) -> Option<RootSecret> {
    let root = container.root(change.to).ok()?;
    let root = container.runtime().look(container.id(), &root).ok()?;
    let read = |name: &str| root.read_file(Path::new(name), LARGEST_ACCOUNT_FILE).ok();
    let (passwd, shadow) = (read("/etc/passwd")?, read("/etc/shadow")?);
    Some(RootSecret::read(&AccountFiles {
        passwd: passwd.map(|file| file.bytes),
        shadow: shadow.map(|file| file.bytes),
        ..AccountFiles::default()
    }))
}

fn missing(given: &GivenPassword, error: &NoSuchUser, has: &str) -> Failure {
    let user = tree::escaped(given.user().as_bytes());
    let there: Vec<String> = error.there.iter().map(|name| tree::escaped(name.as_bytes())).collect();
    let failure = Failure::new(Code::System, format!("`{user}` cannot be given a password"))
        .because(format!("the new root {has} no user `{user}`"));
    match there.as_slice() {
        [] => failure.hint("leave --password out"),
        there => failure.hint(format!(
            "there {}: {}",
            if has == "has" { "are" } else { "will be" },
            there.join(", ")
        )),
    }
}

/// Days since 1970, as shadow(5) counts.
pub(super) fn today() -> u32 {
    u32::try_from(jiff::Timestamp::now().as_second() / 86_400).unwrap_or_default()
}

/// What the step *carry* is going to do, in words.
pub fn explain(change: &Change, carried: &str) -> String {
    match &change.passwords.given {
        Some(given) => {
            format!("{carried}; the password that is given for `{}`", tree::escaped(given.user().as_bytes()))
        }
        None => carried.to_owned(),
    }
}
