//! `prlctl create`: a private area is made aside and appears with one rename.
//!
//! The container's links in `/etc/vz` are made before it, so that whoever sees the container finds it by its name; until then they point at nothing,
//! which nobody takes for a container. No journal: what a death leaves is a `.staging-…` directory and such links, and [`sweep`] removes them.

use std::os::fd::AsFd;
use std::time::Duration;

use runtime::attachments::open_source;
use runtime::confined::Reach;
use store::registry;
use store::{
    ADDRESSES, Area, AreaRecord, Base, Conf, ContainerId, ContainerName, FORWARDS, Forward, GenerationRecord,
    GenerationState, Interface, Lock, LockName, NumericId, Reason, TemplateChoice, Volume, template,
};
use tree::{LayeredRoot, Root};

use super::change::ostemplate;
use super::register::Paths;
use super::reinstall::check_user_data;
use super::{set, user_password};
use crate::accounts::GivenPassword;
use crate::addresses::{AddressChange, are_free, are_not_listened_to, are_still_free};
use crate::attachments::AttachmentChange;
use crate::cloud_init::{self, UserData};
use crate::container::{check_host_name, host_name};
use crate::defaults;
use crate::error::{Code, Failure, Result, system};
use crate::fault::{self, Place};
use crate::host::{Container, Host};
use crate::identity::make_own;
use crate::interfaces::InterfaceChange;
use crate::interrupt::Second;
use crate::openvz::conf::without_machine;
use crate::settings::Change;
use crate::volume;

/// What the user has asked for.
#[derive(Debug, Clone)]
pub struct Options {
    /// What to call it.
    pub name: ContainerName,
    /// Its id, or a new one.
    pub id: Option<ContainerId>,
    /// Its number, for those who know it by one.
    pub number: Option<NumericId>,
    /// What its cloud-init is told.
    pub user_data: Option<UserData>,
    /// From which template; else `DEF_OSTEMPLATE`.
    pub template: Option<TemplateChoice>,
    /// `ve-NAME.conf-sample`; else `CONFIGFILE`.
    pub sample: Option<String>,
    /// Settings on top of it.
    pub changes: Vec<Change>,
    /// Its addresses.
    pub addresses: AddressChange,
    /// Of accounts of its root.
    pub passwords: Vec<GivenPassword>,
    /// What it sees of the host.
    pub attachments: AttachmentChange,
    /// Its interfaces on bridges.
    pub interfaces: InterfaceChange,
    /// Where its layers lie; else `VOLUME` of `vz.conf`.
    pub volume: Option<Volume>,
}

/// Keys that a sample never brings: they are the container's own. Samples are made by copying the `ve.conf` of one that does well.
const NOT_FROM_SAMPLE: [&str; 14] = [
    store::NUMERIC_ID,
    "UUID",
    "VERSION",
    "DISTRIBUTION",
    store::disks::KEY,
    "OSTEMPLATE",
    "TEMPLATES",
    "VE_ROOT",
    "VE_PRIVATE",
    "HOSTNAME",
    "IP_ADDRESS",
    "TEMPLATE",
    "NETIF",
    "NAME",
];

/// Makes a container.
///
/// # Errors
/// With nothing of it left.
pub fn create(host: &Host, options: &Options) -> Result<ContainerId> {
    let what = format!("cannot create `{}`", options.name);
    host.not_begun(&what);
    try_create(host, options, &what).map_err(|failure| {
        let failure = if failure.what == what { failure } else { failure.within(what) };
        if failure.state.is_none() { failure.unchanged() } else { failure }
    })
}

fn try_create(host: &Host, options: &Options, what: &str) -> Result<ContainerId> {
    let configuration = host.configuration()?;
    let choice: TemplateChoice = match &options.template {
        Some(choice) => choice.clone(),
        None => match configuration.get("DEF_OSTEMPLATE").filter(|name| !name.is_empty()) {
            Some(name) => name.strip_prefix('.').unwrap_or(&name).parse().map_err(|error| {
                Failure::new(Code::BadValue, "`DEF_OSTEMPLATE` cannot be used").caused_by(&error).hint(
                    format!(
                        "correct it in {}, or name a template with --ostemplate",
                        host.prefix.vz_conf().display()
                    ),
                )
            })?,
            None => {
                return Err(Failure::new(Code::BadOption, "no template is named")
                    .because("there is no --ostemplate, and no DEF_OSTEMPLATE in vz.conf")
                    .hint("`vzpkg list` shows the templates of this host"));
            }
        },
    };
    let choice = without_machine(&host.prefix, choice);
    let template = template::choose(&host.prefix, &choice)?;
    if options.user_data.is_some() {
        check_user_data(&template)?;
    }
    let is_pinned = choice.version.is_some();
    let mut sample = load_sample(host, options.sample.as_ref(), &configuration)?;
    host.limits(&sample, &configuration).map_err(|error| {
        Failure::new(Code::BadSample, "the sample cannot be used").caused_by(&error).hint(format!(
            "correct that value in {}, or name another sample with --config",
            host.prefix.conf_dir().display()
        ))
    })?;
    // The name is the first word of the command.
    set::apply(&mut sample, &options.changes, &configuration)?;
    crate::devices::check(&options.changes)?;
    if !options.passwords.is_empty() && !options.attachments.is_empty() {
        return Err(Failure::new(Code::BadOption, "the settings do not fit")
            .because("`--userpasswd` writes into the root, which what it sees of the host may lie over")
            .hint("`prlctl set NAME --userpasswd` sets it afterwards"));
    }
    options.addresses.apply(host, None, &mut sample)?;
    let beside = options.attachments.apply_to_new(&mut sample)?;
    for one in &options.attachments.bind {
        open_source(&host.prefix, one.source.as_ref()).map_err(|error| {
            Failure::new(Code::BadValue, "`--bindmount_add` cannot be used").caused_by(&error)
        })?;
    }
    options.interfaces.apply(host, None, &mut sample)?;
    let forwards = Forward::all(&sample)
        .map_err(|error| Failure::new(Code::BadValue, "the settings do not fit").caused_by(&error))?;
    if !forwards.is_empty() && sample.get(ADDRESSES).unwrap_or_default().trim().is_empty() {
        return Err(Failure::new(Code::BadValue, "the settings do not fit")
            .because(format!("`{FORWARDS}` leads to no address: it has none"))
            .hint("give it one: `--ipadd 10.0.0.2`"));
    }
    are_free(host, None, &forwards)?;
    are_not_listened_to(host, &forwards)?;
    let limits = host
        .limits(&sample, &configuration)
        .map_err(|error| Failure::new(Code::BadValue, "the settings do not fit").caused_by(&error))?;
    host.warn_of_configuration();
    let (disk, unenforced) = volume::choose(host, options.volume, &mut sample, &options.changes)?;
    let mut idle = crate::without_effect::warnings(&options.changes);
    idle.extend(options.interfaces.without_effect());
    for warning in set::lacking(host, &limits, &options.changes)?.iter().chain(&unenforced).chain(&idle) {
        host.warning(warning);
    }

    let lock = host.lock_host()?;
    let id = options.id.unwrap_or_else(ContainerId::random);
    check_free(host, &options.name, options.number)?;
    refuse_taken_id(host, &id)?;
    // With the id it is known what is made up of it.
    let interfaces = Interface::all(&sample).unwrap_or_default();
    are_still_free(host, &id, &options.addresses.add, &forwards, &interfaces)?;
    crate::space::check_create(host)?;
    registry::unlink_names_of(&host.prefix, &id)?;
    let ids = registry::allocate_id_range(&host.prefix, &lock)
        .map_err(|error| system("no ids are left", &error))?;
    let mut record = AreaRecord::new(id, ids);
    let number = store::GenerationNumber::FIRST;
    record.next_generation = number.get() + 1;
    Area::need_volume(&mut record, disk.volume);
    // Looked at again under the lock, under which a template is removed.
    let template = template::exact(&host.prefix, &template.record.name, &template.record.digest)?;
    host.heed_signals(what)?;
    let area = Area::stage(&host.prefix, &record)?;
    let filled = volume::make(host, &area, &disk)
        .and_then(|()| match &beside {
            None => Ok(()),
            Some(beside) => {
                let made = crate::disks::make(host, &area, beside);
                // A start mounts it where it is then.
                host.runtime.release_disk(&id, beside.number);
                made
            }
        })
        .and_then(|()| fill(host, &area, options, (&template, is_pinned), &sample, number));
    publish(host, "create", area, (&options.name, options.number), what, filled)?;
    let _ = store::reserve::keep(&host.prefix);
    Ok(id)
}

/// Gives a staged area that has been `filled` its links and its place, or takes back all that was made of it. Under the host's lock.
pub(super) fn publish(
    host: &Host,
    operation: &str,
    area: Area,
    (name, number): (&ContainerName, Option<NumericId>),
    what: &str,
    filled: Result<()>,
) -> Result<()> {
    let id = *area.id();
    let result = filled.and_then(|()| {
        // A name that points at nothing is nobody's yet, and is replaced; a container without its name would be somebody's lost one.
        registry::link_name(&host.prefix, name, &id)?;
        registry::link_conf(&host.prefix, &id)?;
        if let Some(number) = number {
            match registry::link_number(&host.prefix, number, &id) {
                // What an old host has left there, or an editor: it may be the only copy of what somebody wrote.
                Err(registry::RegistryError::NotALink { path }) => host.warning(&format!(
                    "{} is a file of its own, so that no link to this container can be there; the number leads to it all the same",
                    path.display()
                )),
                other => other?,
            }
        }
        Ok(())
    });
    let result = result
        .and_then(|()| fault::here(operation, "publish", Place::Before))
        .and_then(|()| host.unless_interrupted(what, "nothing of it is left", Second::HalfMade));
    if let Err(failure) = result {
        let _ = registry::unlink_name(&host.prefix, name, &id);
        let _ = registry::unlink_conf(&host.prefix, &id);
        let _ = registry::unlink_numbers_of(&host.prefix, &id, None);
        drop(area);
        discard(host, &id)?;
        return Err(failure);
    }
    // Until here nothing of the container is there, and from here on all of it.
    area.publish(&host.prefix)?;
    Ok(())
}

/// Refuses a UUID that a container has, or that somebody is making one with; what a death has left of one is taken away. Under the host's lock.
///
/// # Errors
/// [`Code::Exists`], [`Code::Locked`].
pub(super) fn refuse_taken_id(host: &Host, id: &ContainerId) -> Result<()> {
    if host.prefix.area_dir(id).exists() {
        let holder = Area::open_unchecked(&host.prefix, id)
            .map_or_else(|_| id.to_string(), |area| area.display_name());
        return Err(Failure::new(Code::Exists, format!("the UUID {} is taken", id.braced()))
            .because(format!("container `{holder}` has it"))
            .unchanged()
            .hint("leave --uuid out for a new one"));
    }
    discard_staged(host, id)
}

fn fill(
    host: &Host,
    area: &Area,
    options: &Options,
    (template, is_pinned): (&store::Template, bool),
    sample: &Conf,
    number: store::GenerationNumber,
) -> Result<()> {
    let mut conf = sample.clone();
    let base = Base::Template { name: template.record.name.clone(), digest: template.record.digest.clone() };
    let ostemplate = ostemplate(&base, is_pinned);
    let paths = Paths::of(area.id(), options.number);
    let pairs = [
        ("VERSION", "2"),
        (store::NUMERIC_ID, &paths.veid),
        ("UUID", &paths.id),
        ("NAME", options.name.as_str()),
        ("VE_ROOT", &paths.root),
        ("VE_PRIVATE", &paths.private),
        ("OSTEMPLATE", ostemplate.as_deref().unwrap_or_default()),
        ("DISTRIBUTION", &template.record.distribution),
    ];
    for (key, value) in pairs {
        conf.set(key, value)?;
    }
    if conf.get("ONBOOT").is_none() && defaults::said(&host.configuration()?, "ONBOOT").is_none() {
        conf.set("ONBOOT", "no")?;
    }
    area.store_conf(&conf)?;
    let generation = GenerationRecord {
        format: GenerationRecord::FORMAT,
        number,
        parent: None,
        ostemplate,
        base,
        mount_options: runtime::mounts::MOUNT_OPTIONS.map(str::to_owned).to_vec(),
        reason: Reason::Create,
        state: GenerationState::Kept,
        created: jiff::Timestamp::now(),
        distribution: Some(template.record.distribution.clone()),
        templates: None,
        left: None,
    };
    area.create_generation(&generation)?;
    if let Some(data) = &options.user_data {
        cloud_init::keep(area, number, data)?;
    }
    let delta = Root::open(&area.layers_dir(number).join("delta"))?;
    let root = LayeredRoot::new(delta, Some(Root::open(&template.rootfs())?));
    let hostname = conf.get("HOSTNAME").filter(|name| check_host_name(name).is_ok());
    let hostname = hostname.unwrap_or_else(|| host_name(options.name.as_str()));
    let reach = Reach { reads: root.lower().into_iter().collect(), writes: vec![root.upper()], ids: None };
    let own = host.confined(&reach, "cannot make the root the container's own", || {
        cloud_init::seed(&root, area.id(), number, &hostname, options.user_data.as_ref())?;
        let own = make_own(&root, area.id(), template.record.systemd, &hostname, &template.record.own_files)?;
        for given in &options.passwords {
            user_password::give_to_new(&root, given)?;
        }
        Ok(own)
    })?;
    for news in own.news {
        host.note(&news);
    }
    for problem in own.problems {
        host.warning(&problem);
    }
    area.point_live(number)?;
    // Everything durable before the rename that makes it visible.
    if !linux::mutated!("created-tree-unsynced") {
        area.sync_small_generation(number)?;
    }
    if !linux::mutated!("created-generations-unsynced") {
        store::atomic::fsync_dir(area.generations_handle()?.as_fd())?;
    }
    if !linux::mutated!("created-area-unsynced") {
        area.sync()?;
    }
    Ok(())
}

/// Refuses a name or a number that is another container's name or number: one word means one container. Under the host's lock.
///
/// # Errors
/// [`Code::BadName`], [`Code::Exists`].
pub fn check_free(host: &Host, name: &ContainerName, number: Option<NumericId>) -> Result<()> {
    let prefix = &host.prefix;
    // Also one that is not linked yet: somebody has edited NAME.
    let holder_of = |name: &ContainerName| -> Result<Option<ContainerId>> {
        match registry::linked(prefix, name)? {
            Some(linked) => Ok(Some(linked)),
            None => Ok(registry::named(prefix, name)?.into_iter().next()),
        }
    };
    if let Some(holder) = holder_of(name)? {
        return Err(name_is_taken(name, &holder));
    }
    if let Ok(own) = name.as_str().parse::<NumericId>()
        && let Some(holder) = registry::numbered(prefix, own)?
    {
        return Err(number_is_taken(own, &holder));
    }
    let Some(number) = number else { return Ok(()) };
    let mut holder = registry::numbered(prefix, number)?;
    if holder.is_none()
        && let Ok(name) = number.to_string().parse()
    {
        holder = holder_of(&name)?;
    }
    match holder {
        Some(holder) => Err(number_is_taken(number, &holder)),
        None => Ok(()),
    }
}

fn number_is_taken(number: NumericId, holder: &ContainerId) -> Failure {
    Failure::new(Code::Exists, format!("the CTID {number} is taken"))
        .because(format!("container {} has it, as its number or as its name", holder.braced()))
        .unchanged()
        .hint("choose another one; `vzlist -a` lists those that there are")
}

/// A name that somebody has.
pub fn name_is_taken(name: &ContainerName, holder: &ContainerId) -> Failure {
    Failure::new(Code::BadName, format!("the name `{name}` is taken"))
        .because(format!("container {} has it", holder.braced()))
        .unchanged()
        .hint("choose another name")
}

/// The settings of the sample that is named, or that the host's configuration names, without what is a container's own.
///
/// # Errors
/// [`Code::BadSample`], [`Code::BadValue`].
pub fn load_sample(host: &Host, named: Option<&String>, configuration: &Conf) -> Result<Conf> {
    let is_named = named.is_some();
    let Some(name) =
        named.cloned().or_else(|| configuration.get("CONFIGFILE")).filter(|name| !name.is_empty())
    else {
        return Ok(Conf::parse(b""));
    };
    let samples =
        format!("`ls {}/ve-*.conf-sample` lists the samples there are", host.prefix.conf_dir().display());
    if name.contains(['/', '\0', '\n']) || name.starts_with('.') {
        return Err(Failure::new(
            Code::BadValue,
            format!("`{}` is no name of a sample", tree::escaped(name.as_bytes())),
        )
        .because("a sample is named by what stands between `ve-` and `.conf-sample`")
        .hint(samples));
    }
    let path = host.prefix.conf_dir().join(format!("ve-{name}.conf-sample"));
    match Conf::load(&path) {
        Ok(mut conf) => {
            for key in NOT_FROM_SAMPLE {
                conf.remove(key);
            }
            Ok(conf)
        }
        Err(store::ConfError::Missing { .. }) if !is_named => Ok(Conf::parse(b"")),
        Err(error) => Err(Failure::new(Code::BadSample, format!("sample `{name}` cannot be used"))
            .caused_by(&error)
            .hint(samples)),
    }
}

/// Takes away what a death has left of a container that was being made. `register` is at work for long without the host's lock: then it has the
/// container's.
fn discard_staged(host: &Host, id: &ContainerId) -> Result<()> {
    if !registry::staged(&host.prefix)?.contains(id) {
        return Ok(());
    }
    let _lock = Lock::exclusive(&host.prefix, LockName::Container(*id), Duration::ZERO, &host.command)?;
    discard(host, id)
}

fn discard(host: &Host, id: &ContainerId) -> Result<()> {
    // Only of one that was being made: whoever is called by that id has no area that is called so.
    host.runtime.let_volume_go(id);
    let private = store::atomic::open_directory(&host.prefix.private_dir())?;
    Ok(store::trash::discard(&host.prefix, private.as_fd(), format!(".staging-{id}"))?)
}

/// Makes the links in `/etc/vz` of a container that has lost them.
///
/// # Errors
/// When another container has its name.
pub fn link(container: &Container<'_>) -> Result<()> {
    let prefix = &container.host.prefix;
    // By its UUID it is found, whoever else claims its name or number.
    let named = crate::names::put_right(container, true);
    if std::fs::symlink_metadata(prefix.conf_dir().join(format!("{}.conf", container.id()))).is_err() {
        registry::link_conf(prefix, container.id())?;
    }
    named
}

/// What a deletion that died has left of a container's runtime state; what is mounted there is not entered.
fn sweep_run_directories(host: &Host) -> Result<()> {
    let run = store::atomic::open_directory(&host.prefix.run_dir())?;
    let Ok(entries) = std::fs::read_dir(host.prefix.run_dir()) else { return Ok(()) };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(id) = name.to_str().and_then(|name| name.parse::<ContainerId>().ok()) else { continue };
        if !host.prefix.area_dir(&id).exists() && host.runtime.running(&id).is_none() {
            let _ = tree::remove_entry(run.as_fd(), &name);
        }
    }
    Ok(())
}

/// Removes what creations and deletions that died have left: staged areas, names that point at nothing. What of it cannot be removed keeps nothing
/// else; returns why not.
pub fn sweep(host: &Host) -> Vec<Failure> {
    let what = "cannot remove what dead commands have left";
    let _lock = match host.lock_host() {
        Ok(lock) => lock,
        Err(failure) => return vec![failure.within(what)],
    };
    let mut failures = Vec::new();
    let mut note = |result: Result<()>| failures.extend(result.err());
    if !linux::mutated!("staging-stays") {
        match registry::staged(&host.prefix) {
            Ok(staged) => staged.iter().for_each(|id| match discard_staged(host, id) {
                // Somebody is making it.
                Err(failure) if failure.code == Code::Locked => {}
                other => note(other),
            }),
            Err(error) => note(Err(error.into())),
        }
    }
    if !linux::mutated!("links-stay") {
        note(registry::sweep_links(&host.prefix).map(drop).map_err(Failure::from));
    }
    note(sweep_run_directories(host));
    note(
        template::sweep(&host.prefix).map(drop).map_err(|error| system("cannot sweep the templates", &error)),
    );
    let state = "it stays where it is, and is nobody's; every container is looked at all the same";
    failures.into_iter().map(|failure| failure.within(what).state(state)).collect()
}
