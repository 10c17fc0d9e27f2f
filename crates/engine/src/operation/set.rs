//! `prlctl set`: other settings of a container, at once where the kernel can, and in its `ve.conf`. All of one call, or none.
//!
//! First the kernel, then the file: what the kernel was told is taken back when the file cannot be written, and is gone with the next start when
//! this process dies in between. The other way round a file would promise what does not hold.

use std::collections::BTreeSet;

use runtime::monitor::Settings;
use store::{Conf, ContainerName, Forward, MEGAHERTZ, RATE, RATE_BOUND, Rate, registry};

use super::create::{load_sample, name_is_taken};
use super::user_password;
use crate::accounts::GivenPassword;
use crate::addresses::{AddressChange, are_free, are_not_listened_to};
use crate::attachments::{AttachmentChange, configured};
use crate::devices::{self, merged};
use crate::error::{Code, Failure, Result};
use crate::host::{Container, Host, damaged};
use crate::interfaces::InterfaceChange;
use crate::names;
use crate::settings::{AUTOSTOP, Change, why_not_suspended};
use crate::volume;

/// What the user has asked for.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// A sample whose settings come first.
    pub sample: Option<String>,
    /// Each key once.
    pub changes: Vec<Change>,
    /// Which addresses come and go.
    pub addresses: AddressChange,
    /// Of an account of its root.
    pub password: Option<GivenPassword>,
    /// Which disks, and what it sees of the host.
    pub attachments: AttachmentChange,
    /// Which interfaces on bridges come, go, and become other.
    pub interfaces: InterfaceChange,
    /// Written to `ve.conf`; else it is gone with the next start.
    pub is_kept: bool,
}

/// What has come of it.
#[derive(Debug)]
pub struct Report {
    /// The keys whose values have become others, and what they are.
    pub changed: Vec<(String, String)>,
    /// What became of the password.
    pub password: Option<user_password::Given>,
    /// What is not as it should be.
    pub warnings: Vec<String>,
}

/// Sets them.
///
/// # Errors
/// With nothing changed: [`Code::BadValue`], [`Code::BadName`]; [`Code::Unsupported`] where this kernel lacks what is needed for what was said by hand.
pub fn set(container: &Container<'_>, options: &Options) -> Result<Report> {
    let what = format!("cannot set `{}`", container.name);
    try_set(container, options, &what).map_err(|failure| {
        let failure = if failure.what == what { failure } else { failure.within(what) };
        if failure.state.is_none() { failure.unchanged() } else { failure }
    })
}

fn try_set(container: &Container<'_>, options: &Options, what: &str) -> Result<Report> {
    let old = container.area.conf().map_err(|error| damaged(error, &container.name))?;
    let mut new = old.clone();
    if let Some(sample) = &options.sample {
        let sample = load_sample(container.host, Some(sample), &Conf::default())?;
        for key in sample.keys() {
            new.set(key, &sample.get(key).unwrap_or_default())?;
        }
        new.set("ORIGIN_SAMPLE", options.sample.as_deref().unwrap_or_default())?;
    }
    apply(&mut new, &options.changes)?;
    devices::check(&options.changes)?;
    options.addresses.apply(container.host, Some(container.id()), &mut new)?;
    options.interfaces.apply(container.host, Some(container.id()), &mut new)?;
    let work = options.attachments.apply(&container.area, &mut new)?;
    let wanted = container.check(&new)?;
    for one in configured(&container.area, &new).unwrap_or_default() {
        if options.attachments.bind.iter().any(|bind| bind.at == one.at) {
            container.check_attachment(&one)?;
        }
    }
    if !options.is_kept {
        check_unkept(container, &difference(&old, &new), options)?;
    }
    are_free(container.host, Some(container.id()), &wanted.forwards)?;
    let had = Forward::all(&old).unwrap_or_default();
    let new_ones: Vec<Forward> = wanted
        .forwards
        .iter()
        .filter(|one| !had.iter().any(|had| had.is_of_the_port_of(one)))
        .copied()
        .collect();
    are_not_listened_to(container.host, &new_ones)?;
    let mut warnings = lacking(container.host, &wanted.limits, &options.changes)?;
    let (resize, unenforced) = volume::plan(container, &new, &options.changes)?;
    warnings.extend(unenforced);
    if options.changes.iter().any(|change| [RATE, RATE_BOUND].contains(&change.key))
        && new.get(RATE).is_some_and(|rate| !rate.trim().is_empty())
        && !Rate::is_bound(&new)
    {
        warnings.push(format!(
            "`{RATE_BOUND}` is `no`: nothing is limited, and nothing granted, which OpenVZ would then do"
        ));
    }
    if options.changes.iter().any(|change| change.key == AUTOSTOP) {
        warnings.extend(why_not_suspended(&new).map(str::to_owned));
    }

    if let Some(given) = &options.password {
        // It may fail at its very end, and what these change cannot be taken back then: somebody inside uses it already.
        if resize.is_some() || !options.attachments.is_empty() {
            return Err(Failure::new(Code::BadOption, what)
                .because(
                    "`--userpasswd` is of a call of its own where disks change, or what it sees of the host",
                )
                .unchanged()
                .hint("say the one, then the other"));
        }
        user_password::give(container, given, true)?;
    }
    if container.is_running() {
        warnings.extend(devices::waits(&options.changes));
    }

    container.host.heed_signals(what)?;
    let name = claim(container, &old, &options.changes)?;
    // Before what cannot fail as easily: a disk that has changed with a configuration that has not is said at the next start.
    let resized = resize.map_or(Ok(()), |resize| volume::resize(container, resize));
    let is_resized = resize.is_some() && resized.is_ok();
    let mut told = resized.and_then(|()| container.begin(&work, &mut new)).and_then(|()| {
        if options.is_kept {
            tell_and_write(container, (&old, &new), &wanted, what)
        } else {
            tell(container, &wanted, what)
        }
    });
    let mut password = None;
    if told.is_ok()
        && let Some(given) = &options.password
    {
        match user_password::give(container, given, false) {
            Ok(given) => password = Some(given),
            Err(failure) => {
                take_back(container, &old, options.is_kept);
                told = Err(failure);
            }
        }
    }
    if let Err(failure) = told {
        container.take_back(&work);
        // Of a directory the limit goes back to what is configured still.
        container.keep_to_disk_space();
        let has_another_size = is_resized && container.area.counted().is_none();
        let state = "its disk has its new size; nothing else was changed";
        told = Err(if has_another_size { failure.state(state) } else { failure });
    }
    if let Some(name) = &name {
        if told.is_err() {
            // One that stays is removed by `recover`.
            let _ = registry::unlink_name(&container.host.prefix, name, container.id());
        } else if let Err(failure) = names::put_right(container, true) {
            warnings.push(failure.reason());
        }
    }
    warnings.extend(told?);
    warnings.extend(container.conclude(&work));
    warnings.sort();
    warnings.dedup();
    Ok(Report { changed: difference(&old, &new), password, warnings })
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

/// Keys whose values the kernel holds.
const LIMITS: [&str; 14] = [
    "PHYSPAGES",
    "SWAPPAGES",
    "MEMGUARANTEE",
    "MEMGUARANTEE_BYTES",
    "NUMPROC",
    "CPUS",
    "CPULIMIT",
    MEGAHERTZ,
    "CPUUNITS",
    "CPUMASK",
    "NODEMASK",
    "IOPRIO",
    "IOLIMIT",
    "IOPSLIMIT",
];

/// Tells the kernel; returns what is not as it should be.
fn tell(container: &Container<'_>, wanted: &Settings, what: &str) -> Result<Vec<String>> {
    container.runtime().change(container.id(), wanted).map_err(|error| {
        Failure::new(Code::BadValue, what)
            .because(error.because)
            .hint(format!("`prlctl list -i {}` shows what it uses", container.name))
    })
}

/// All of one call, or none.
fn take_back(container: &Container<'_>, old: &Conf, is_kept: bool) {
    if is_kept {
        // As it could be written a moment ago.
        let _ = container.area.store_conf(old);
    }
    if container.is_running()
        && let Ok(settings) = container.check(old)
    {
        let _ = container.runtime().change(container.id(), &settings);
    }
}

/// The kernel first, then the file; returns what is not as it should be.
fn tell_and_write(
    container: &Container<'_>,
    (old, new): (&Conf, &Conf),
    wanted: &Settings,
    what: &str,
) -> Result<Vec<String>> {
    let mut warnings = Vec::new();
    let is_running = container.is_running();
    if is_running {
        warnings = tell(container, wanted, what)?;
        let followed = container.follow_attachments(old, new).inspect_err(|_| {
            if let Ok(settings) = container.check(old) {
                let _ = container.runtime().change(container.id(), &settings);
            }
        });
        warnings.extend(followed?);
    }
    if let Err(error) = container.area.store_conf(new) {
        if is_running {
            let _ = container.follow_attachments(new, old);
        }
        if is_running && let Ok(settings) = container.check(old) {
            // What holds is what is written.
            let _ = container.runtime().change(container.id(), &settings);
        }
        return Err(error.into());
    }
    Ok(warnings)
}

/// Writes changes into a configuration.
///
/// # Errors
/// [`Code::BadOption`] for a key that is set twice.
pub fn apply(conf: &mut Conf, changes: &[Change]) -> Result<()> {
    let mut keys = BTreeSet::new();
    for change in changes {
        if !keys.insert(change.key) {
            return Err(Failure::new(Code::BadOption, format!("`{}` cannot be used", change.option))
                .because(format!("another option sets {} too", change.key))
                .unchanged()
                .hint("leave one of them out"));
        }
        conf.set(change.key, &merged(conf, change)?)?;
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

/// The new name, if it is another, linked to the container already: of two that want it at once one is refused. A death after this leaves a link
/// that the container's own `NAME` does not bear out: `recover` removes it.
fn claim(container: &Container<'_>, old: &Conf, changes: &[Change]) -> Result<Option<ContainerName>> {
    let Some(change) = changes.iter().find(|change| change.key == "NAME") else { return Ok(None) };
    if old.get("NAME").as_ref() == Some(&change.value) {
        return Ok(None);
    }
    let name: ContainerName = change.value.parse().map_err(|error: store::NameError| {
        Failure::new(Code::BadName, "that cannot be a container's name").caused_by(&error)
    })?;
    let _lock = container.host.lock_host()?;
    let prefix = &container.host.prefix;
    let holders = registry::linked(prefix, &name)?.into_iter().chain(registry::named(prefix, &name)?);
    if let Some(holder) = holders.into_iter().find(|holder| holder != container.id()) {
        return Err(name_is_taken(&name, &holder));
    }
    if let Ok(number) = name.as_str().parse()
        && let Some(holder) = registry::numbered(prefix, number)?.filter(|holder| holder != container.id())
    {
        return Err(name_is_taken(&name, &holder));
    }
    registry::link_name(prefix, &name, container.id())?;
    Ok(Some(name))
}

fn difference(old: &Conf, new: &Conf) -> Vec<(String, String)> {
    let keys = new.keys().into_iter().filter(|key| old.get(key) != new.get(key));
    keys.map(|key| (key.to_owned(), new.get(key).unwrap_or_default())).collect()
}
