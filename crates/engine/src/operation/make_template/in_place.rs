//! A version of the same tree that is there already: whether it is whole, and, where it is damaged, that nobody is on it while another takes its place.
//!
//! An overlay whose lower tree is exchanged shows a mixture of both, and what is removed is missing in it: no container that runs, or is mounted, has that
//! done to it. Whoever would start one, mount it or make it a new root waits for the locks that are held meanwhile.

use std::time::Duration;

use runtime::{mounts, mounts_of_container};
use store::template::{self, Lying};
use store::{ContainerId, GenerationNumber, Lock, LockName, TemplateError, TemplateRecord};

use crate::error::{Code, Failure, Result};
use crate::host::Host;
use crate::operation::template_store;
use crate::runtime::Life;

/// What is there under the name of a version.
pub(super) enum Standing {
    /// Nothing.
    Free,
    /// The same tree.
    Whole,
    /// What was the same tree once.
    Damaged,
}

/// Reads every file of the version that has this record's name.
pub(super) fn standing(host: &Host, record: &TemplateRecord) -> Result<Standing> {
    match template::exact(&host.prefix, &record.name, &record.digest) {
        Ok(there) if template_store::is_whole(host, &there) => Ok(Standing::Whole),
        Ok(_)
        | Err(TemplateError::Damaged { .. } | TemplateError::Unreadable { .. } | TemplateError::Write(_)) => {
            Ok(Standing::Damaged)
        }
        Err(TemplateError::Missing { .. }) => Ok(Standing::Free),
        // Whatever it is, it is not ours to replace.
        Err(
            error @ (TemplateError::NewerFormat { .. }
            | TemplateError::Unknown { .. }
            | TemplateError::NoLatest { .. }
            | TemplateError::NoVersion { .. }
            | TemplateError::AmbiguousVersion { .. }
            | TemplateError::InUse { .. }
            | TemplateError::NotOnlyVersions { .. }
            | TemplateError::UnknownUses { .. }
            | TemplateError::Default(_)
            | TemplateError::Area(_)
            | TemplateError::Trash(_)),
        ) => Err(error.into()),
    }
}

/// The locks of the host and of all containers that have roots on a version: nobody uses it, nor can begin to. `own` is locked already.
///
/// # Errors
/// [`Code::Running`], [`Code::Mounted`] with whom; [`Code::Locked`].
pub(super) fn nobody_on(
    host: &Host,
    record: &TemplateRecord,
    own: Option<&ContainerId>,
    what: &str,
) -> Result<Vec<Lock>> {
    let within = |failure: Failure| failure.within(what);
    // No root is made on it from here on.
    let mut locks = vec![host.lock_host().map_err(within)?];
    let lying = template::lying_on(&host.prefix, &record.name, &record.digest)
        .map_err(|error| within(error.into()))?;
    for one in lying {
        let id = one.area.id();
        // Before its lock, which whoever is at work inside may have.
        refuse_running(host, &one, what)?;
        if own != Some(id) {
            // Without waiting: whoever has it may wait for the lock of the template, which is ours.
            let lock = Lock::exclusive(&host.prefix, LockName::Container(*id), Duration::ZERO, &host.command);
            let lock = lock.map_err(|error| {
                let mut failure = Failure::from(error);
                failure.what = format!("`{}` is locked by another command", one.area.display_name());
                within(failure).hint(format!("when that has ended, `{}` again", host.command))
            })?;
            locks.push(lock);
        }
        refuse_running(host, &one, what)?;
        if matches!(host.runtime.life(id), Life::Stopped) {
            // What a stop leaves mounted for the next start, which would find what was damaged there.
            host.runtime.clear_up(id);
        }
        refuse_mounted(host, &one, what)?;
    }
    Ok(locks)
}

fn refuse_running(host: &Host, lying: &Lying, what: &str) -> Result<()> {
    let id = lying.area.id();
    let name = lying.area.display_name();
    // One that runs, and is taken for a stopped one, would have its root taken away.
    if let Err(error) = runtime::state::check(&host.prefix, id) {
        return Err(Failure::new(Code::Damaged, what)
            .because("this version of it is there already, and is damaged")
            .because(format!("nobody can tell whether `{name}`, which lies on it, runs: {error}"))
            .unchanged()
            .hint(format!(
                "`prlctl stop {name} --kill` ends whatever runs of it, then `{}` again",
                host.command
            )));
    }
    // Without waiting: this is under the lock of the host.
    let is_live = match host.runtime.life(id) {
        Life::Stopped => return Ok(()),
        // The one at `/old` is mounted there, too.
        Life::Running(run) => lying.generations.as_ref().is_none_or(|on_it| on_it.contains(&run.generation)),
        Life::Between | Life::Unknown(_) => true,
    };
    if is_live || is_mounted(host, lying, "generations") {
        let hint = format!("`prlctl stop {name}`, then `{}` again", host.command);
        return Err(refused(Code::Running, what, &format!("`{name}` runs"), hint));
    }
    Ok(())
}

fn refuse_mounted(host: &Host, lying: &Lying, what: &str) -> Result<()> {
    let (prefix, id) = (&host.prefix, lying.area.id());
    let name = lying.area.display_name();
    // A look at one root does not tell at which.
    if is_mounted(host, lying, "host") || mounts_of_container::is_mounted_for_host(prefix, id) {
        let hint = format!("`prlctl umount {name}`, then `{}` again", host.command);
        return Err(refused(Code::Mounted, what, &format!("`{name}` is mounted on the host"), hint));
    }
    if is_mounted(host, lying, "generations") {
        let hint = format!("leave its directories on the host, then `{}` again", host.command);
        let how = format!("`{name}` is mounted still, and a process of the host is in it");
        return Err(refused(Code::Mounted, what, &how, hint));
    }
    Ok(())
}

fn is_mounted(host: &Host, lying: &Lying, kind: &str) -> bool {
    let points = mounts::mounted(&host.prefix, lying.area.id(), kind);
    points.iter().any(|point| {
        let name = point.file_name().unwrap_or_default();
        let is_it = |number: &GenerationNumber| name == number.to_string().as_str();
        lying.generations.as_ref().is_none_or(|on_it| on_it.iter().any(is_it))
    })
}

fn refused(code: Code, what: &str, how: &str, hint: String) -> Failure {
    Failure::new(code, what)
        .because("this version of it is there already, and is damaged")
        .because(format!("{how}, and what it lies on must not become another under it"))
        .unchanged()
        .hint(hint)
}
