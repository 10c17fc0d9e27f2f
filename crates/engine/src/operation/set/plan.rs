//! What a call comes to, with all that can be known before anything is done.

use std::collections::BTreeSet;

use runtime::monitor::Settings;
use store::{Conf, Forward, MEGAHERTZ, RATE, RATE_BOUND, Rate};

use super::Options;
use crate::addresses::{are_free, are_not_listened_to};
use crate::attachments::configured;
use crate::boot::why_only_stopped;
use crate::defaults::beside;
use crate::devices::{self, merged};
use crate::disks;
use crate::error::{Code, Failure, Result};
use crate::host::{Container, Host, damaged};
use crate::operation::create::load_sample;
use crate::operation::user_password;
use crate::settings::{AUTOSTOP, Change, LIMITS};
use crate::volume::{self, Resize};
use crate::without_effect;

/// What is to be done.
#[derive(Debug)]
pub struct Plan {
    /// Its `ve.conf` as it is.
    pub old: Conf,
    /// As it is to be.
    pub new: Conf,
    /// What the kernel and its monitor are told.
    pub wanted: Settings,
    /// What they were told before; else why nobody knows.
    pub before: std::result::Result<Settings, String>,
    /// Of a disk beside that of its root.
    pub disk: disks::Work,
    /// Of that of its root.
    pub resize: Option<Resize>,
    /// What is not as it should be.
    pub warnings: Vec<String>,
}

/// Looks at all of it.
///
/// # Errors
/// With nothing changed.
pub fn plan(container: &Container<'_>, options: &Options, what: &str) -> Result<Plan> {
    let old = container.area.conf().map_err(|error| damaged(error, &container.name))?;
    let mut new = old.clone();
    if let Some(sample) = &options.sample {
        let sample = load_sample(container.host, Some(sample), &Conf::default())?;
        for key in sample.keys() {
            new.set(key, &sample.get(key).unwrap_or_default())?;
        }
        new.set("ORIGIN_SAMPLE", options.sample.as_deref().unwrap_or_default())?;
    }
    let configuration = container.host.configuration()?;
    apply(&mut new, &options.changes, &configuration)?;
    devices::check(&options.changes)?;
    options.addresses.apply(container.host, Some(container.id()), &mut new)?;
    options.interfaces.apply(container.host, Some(container.id()), &mut new)?;
    let disk = options.attachments.apply(&container.area, &mut new)?;
    container.check_disk_work(&disk)?;
    let wanted = container.check(&new)?;
    for one in configured(&container.area, &new).unwrap_or_default() {
        if options.attachments.bind.iter().any(|bind| bind.at == one.at) {
            container.check_attachment(&one)?;
        }
    }
    if container.is_running() && options.is_kept {
        container.check_not_hidden(&old, &new)?;
    }
    if !options.is_kept {
        check_unkept(container, &difference(&old, &new), options)?;
    }
    let had = Forward::all(&old).unwrap_or_default();
    let new_ones: Vec<Forward> = wanted
        .forwards
        .iter()
        .filter(|one| !had.iter().any(|had| had.is_of_the_port_of(one)))
        .copied()
        .collect();
    // One that it has had beside another is told at its start, and keeps nothing else from being set.
    are_free(container.host, Some(container.id()), &new_ones)?;
    are_not_listened_to(container.host, &new_ones)?;
    let mut warnings = lacking(container.host, &wanted.limits, &options.changes)?;
    let (resize, unenforced) = volume::plan(container, &new, &options.changes)?;
    warnings.extend(unenforced);
    warnings.extend(of_no_effect(&beside(&new, &configuration), &options.changes));
    warnings.extend(options.interfaces.without_effect());
    container.host.warn_of_configuration();
    let is_other = match resize {
        Some(Resize::Grow(bytes)) => container.area.image_size().is_none_or(|(_, size)| size != bytes),
        Some(Resize::Shrink { .. } | Resize::Limit(_)) => true,
        None => false,
    };
    if is_other && disk.changes_size() {
        // Of two, the first could not be taken back where the second fails.
        return Err(Failure::new(Code::BadOption, what)
            .because("two disks are to be of another size, and each is of a call of its own")
            .unchanged()
            .hint(format!("`prlctl set {} --diskspace SIZE` first, then the other", container.name)));
    }
    if !options.passwords.is_empty() {
        // It may fail at its very end, and what these change cannot be taken back then: somebody inside uses it already.
        // One that somebody has edited into ve.conf is done all the same, and is told if what follows fails.
        let is_sized = volume::changes_size(&options.changes) || options.sample.is_some() && resize.is_some();
        if is_sized || !options.attachments.is_empty() {
            return Err(Failure::new(Code::BadOption, what)
                .because(
                    "`--userpasswd` is of a call of its own where disks change, or what it sees of the host",
                )
                .unchanged()
                .hint("say the one, then the other"));
        }
        for given in &options.passwords {
            user_password::give(container, given, true)?;
        }
    }
    if container.is_running() {
        warnings.extend(devices::waits(&options.changes));
    }
    let before = container.check(&old).map_err(|failure| failure.reason());
    Ok(Plan { old, new, wanted, before, disk, resize, warnings })
}

/// What was said and means nothing, or not what it says.
fn of_no_effect(new: &Conf, changes: &[Change]) -> Vec<String> {
    let mut warnings = Vec::new();
    let is_said = |keys: &[&str]| changes.iter().any(|change| keys.contains(&change.key));
    if is_said(&[RATE, RATE_BOUND])
        && new.get(RATE).is_some_and(|rate| !rate.trim().is_empty())
        && !Rate::is_bound(new)
    {
        warnings.push(format!(
            "`{RATE_BOUND}` is `no`: nothing is limited, and nothing granted, which OpenVZ would then do"
        ));
    }
    if is_said(&[AUTOSTOP]) {
        warnings.extend(why_only_stopped(new));
    }
    warnings.extend(without_effect::warnings(changes));
    warnings
}

/// What is not written down can only be what the kernel holds for a container that runs: all else is read from `ve.conf` when it is wanted, or, as
/// addresses, has to be known to others.
fn check_unkept(container: &Container<'_>, changed: &[(String, String)], options: &Options) -> Result<()> {
    let refused = |code, because: String| {
        Failure::new(code, format!("cannot set `{}` without saving it", container.name))
            .because(because)
            .unchanged()
            .hint("`--save` writes it to its ve.conf, and has it hold at once where it can")
    };
    if !container.is_running() {
        return Err(refused(
            Code::NotRunning,
            "it does not run, so there is nothing that it could hold for".into(),
        ));
    }
    let said = options.changes.iter().map(|change| change.key.to_owned());
    let keys = changed.iter().map(|(key, _)| key.clone()).chain(said);
    match keys.into_iter().find(|key| !LIMITS.contains(&key.as_str())) {
        Some(key) => Err(refused(Code::BadOption, format!("{key} holds only by being in its ve.conf"))),
        None => Ok(()),
    }
}

/// Writes changes into a configuration of a container, on a host with that `vz.conf`.
///
/// # Errors
/// [`Code::BadOption`] for a key that is set twice.
pub fn apply(conf: &mut Conf, changes: &[Change], of_host: &Conf) -> Result<()> {
    let mut keys = BTreeSet::new();
    for change in changes {
        if !keys.insert(change.key) {
            return Err(Failure::new(Code::BadOption, format!("`{}` cannot be used", change.option))
                .because(format!("another option sets {} too", change.key))
                .unchanged()
                .hint("leave one of them out"));
        }
        conf.set(change.key, &merged(&beside(conf, of_host), change)?)?;
        // What was said last of one limit is all that holds.
        match change.key {
            "CPULIMIT" => {
                conf.remove(MEGAHERTZ);
            }
            MEGAHERTZ => {
                conf.remove("CPULIMIT");
            }
            _ => {}
        }
    }
    Ok(())
}

/// What was said by hand and cannot be had is refused; what a sample or the file says is told.
///
/// # Errors
/// [`Code::Unsupported`].
pub fn lacking(host: &Host, limits: &store::Limits, changes: &[Change]) -> Result<Vec<String>> {
    let mut warnings = Vec::new();
    for (key, because) in host.runtime.lacks(limits) {
        let by_hand = changes.iter().find(|change| {
            change.key == key || key == "CPULIMIT" && ["CPUS", MEGAHERTZ].contains(&change.key)
        });
        match by_hand {
            Some(change) => {
                return Err(Failure::new(
                    Code::Unsupported,
                    format!("`{}` cannot be enforced", change.option),
                )
                .because(because)
                .unchanged()
                .hint("`prlctl info` tells what this host can do"));
            }
            None => warnings.push(format!("`{key}` is not enforced: {because}")),
        }
    }
    Ok(warnings)
}

/// Keys that have become others, and what they are.
pub fn difference(old: &Conf, new: &Conf) -> Vec<(String, String)> {
    let keys = new.keys().into_iter().filter(|key| old.get(key) != new.get(key));
    keys.map(|key| (key.to_owned(), new.get(key).unwrap_or_default())).collect()
}
