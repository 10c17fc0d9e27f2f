//! `prlctl register`: a private area of OpenVZ becomes a container, whose first generation is a copy of its root. The area itself is only read.
//!
//! As with `create` the container is made aside, under `.staging-<uuid>`, and appears with one rename; what a death leaves is that directory, and links that
//! point at nothing, and the next sweep removes both. A copy may take hours, so that the host's lock is not held meanwhile: the lock of the
//! container that is to be tells a sweep that somebody is still at work.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use runtime::confined::Reach;
use runtime::disk_copy::MountedCopy;
use store::{
    Area, AreaRecord, Base, Conf, ContainerId, ContainerName, Forward, GenerationNumber, GenerationRecord,
    GenerationState, Interface, Lock, LockName, NumericId, Reason, Volume, registry,
};
use tree::{Copied, Copier, Except, LayeredRoot, Root, Stamp};

use super::create::{check_free, publish, refuse_taken_id};
use super::pace::Pace;
use crate::addresses::{AddressChange, are_still_free};
use crate::error::{Code, Failure, Result, system};
use crate::fault::{self, Place};
use crate::host::Host;
use crate::interrupt::Second;
use crate::openvz::conf::{identity, make_usable, ostemplate};
use crate::openvz::ploop::Disk;
use crate::openvz::{PrivateArea, RootPlace, place};
use crate::space::{self, Need};
use crate::template::{RecipeError, System};
use crate::volume::{self, Wanted};

/// An id range has so many.
const IDS: u32 = 65_536;

/// Which UUID it gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WhichId {
    /// A new one.
    New,
    /// The one that it had.
    Preserved,
    /// This one.
    Given(ContainerId),
}

/// What the user has asked for.
#[derive(Debug, Clone)]
pub struct Options {
    /// The private area.
    pub path: PathBuf,
    /// Its configuration, where that does not lie in it.
    pub conf: Option<PathBuf>,
    /// What to call it; else as it was called.
    pub name: Option<ContainerName>,
    /// Its UUID.
    pub id: WhichId,
    /// Though it says that another host has it.
    pub is_forced: bool,
    /// Where its layers are to lie; else as `vz.conf` says.
    pub volume: Option<Volume>,
}

/// What has come of it.
#[derive(Debug)]
pub struct Registered {
    /// Its UUID.
    pub id: ContainerId,
    /// Its name.
    pub name: ContainerName,
    /// Its number.
    pub number: Option<NumericId>,
    /// Its configuration.
    pub conf: Conf,
    /// What was copied.
    pub copied: Copied,
}

/// What is to be made, all of it known before anything is.
struct Plan {
    id: ContainerId,
    name: ContainerName,
    number: Option<NumericId>,
    conf: Conf,
    ostemplate: Option<String>,
    addresses: AddressChange,
    distribution: String,
    disk: Wanted,
    view: View,
}

/// The root that is copied.
struct View {
    root: LayeredRoot,
    origin: Origin,
}

/// Where it comes from, and what that was like.
enum Origin {
    Directory(Stamp),
    /// With what keeps the copy of it mounted.
    Ploop(Disk, MountedCopy),
}

/// Registers it.
///
/// # Errors
/// With nothing of it left, and the area as it was.
pub fn register(host: &Host, options: &Options) -> Result<Registered> {
    let what = format!("cannot register `{}`", tree::escaped_path(&options.path));
    host.not_begun(&what);
    try_register(host, options, &what).map_err(|failure| {
        let failure = if failure.what == what { failure } else { failure.within(what) };
        if failure.state.is_none() { failure.unchanged() } else { failure }
    })
}

fn try_register(host: &Host, options: &Options, what: &str) -> Result<Registered> {
    if let Some(registered) = super::unregister::take_back(host, options, what)? {
        return Ok(registered);
    }
    let area = PrivateArea::open(&options.path, options.conf.as_deref())?;
    place::check(host, &area.path)?;
    if let Some(owner) = area.owner.as_ref().filter(|_| !options.is_forced) {
        return Err(Failure::new(Code::Owned, "another host has it")
            .because(format!("`.owner` of the area says: {owner}"))
            .unchanged()
            .hint("see that it does not run there, and add --force"));
    }
    host.step("look", &format!("Looking at {}...", tree::escaped_path(&area.path)));
    let plan = plan(host, options, &area, what)?;

    let number = GenerationNumber::FIRST;
    // Both locks are held until the area is there: from then on it is this process's, which the second one tells.
    let host_lock = host.lock_host()?;
    check_free(host, &plan.name, plan.number)?;
    refuse_taken_id(host, &plan.id)?;
    registry::unlink_names_of(&host.prefix, &plan.id)?;
    let mut conf = plan.conf.clone();
    plan.addresses.apply(host, None, &mut conf)?;
    are_its_alone(host, &plan.id, &conf)?;
    let ids = registry::allocate_id_range(&host.prefix, &host_lock)
        .map_err(|error| system("no ids are left", &error))?;
    let mut record = AreaRecord::new(plan.id, ids);
    record.next_generation = number.get() + 1;
    Area::need_volume(&mut record, plan.disk.volume);
    host.heed_signals(what)?;
    let at_work = Lock::exclusive(&host.prefix, LockName::Container(plan.id), Duration::ZERO, &host.command)?;
    let made = Area::stage(&host.prefix, &record)?;
    drop(host_lock);

    let mut copied = Copied::default();
    let filled = volume::make(host, &made, &plan.disk)
        .and_then(|()| fill(host, &made, &plan, &conf, number, what))
        .and_then(|done| {
            copied = done;
            check_unchanged(&area, &plan)
        });
    let host_lock = host.lock_host();
    // Somebody may have taken the name, the number or an address while it was copied.
    let filled = filled
        .and_then(|()| host_lock.as_ref().map(drop).map_err(Clone::clone))
        .and_then(|()| check_free(host, &plan.name, plan.number))
        .and_then(|()| plan.addresses.apply(host, None, &mut conf))
        .and_then(|()| are_its_alone(host, &plan.id, &conf));
    publish(host, "register", made, (&plan.name, plan.number), what, filled)?;
    drop(at_work);
    let _ = store::reserve::keep(&host.prefix);
    if let Origin::Ploop(disk, mounted) = &plan.view.origin {
        if mounted.was_mended {
            host.note("the filesystem was not as it should be, as after a power cut; it was mended in the copy, and is as it was in the image");
        }
        if disk.others > 0 {
            host.warning(&format!(
                "snapshots do not come along: {} images of other states than the present one are not read",
                disk.others
            ));
        }
    }
    tell(host, &area, &copied);
    Ok(Registered { id: plan.id, name: plan.name, number: plan.number, conf, copied })
}

/// Ports of the host, and interfaces; of addresses see [`Plan::addresses`].
fn are_its_alone(host: &Host, id: &ContainerId, conf: &Conf) -> Result<()> {
    let (forwards, interfaces) = (Forward::all(conf), Interface::all(conf));
    are_still_free(host, id, &[], &forwards.unwrap_or_default(), &interfaces.unwrap_or_default())
}

fn plan(host: &Host, options: &Options, area: &PrivateArea, what: &str) -> Result<Plan> {
    let configuration = host.configuration()?;
    let mut conf = match &area.conf {
        Some((_, conf)) => conf.clone(),
        None => {
            host.warning("it has no configuration: it gets that of a new container without a sample; `--config FILE` names one");
            Conf::default()
        }
    };
    let stem = |path: &Path| path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    let stems: Vec<String> =
        [options.conf.as_deref().and_then(stem), stem(&area.path)].into_iter().flatten().collect();
    let was = identity(&conf, &stems);
    let id = match &options.id {
        WhichId::New => ContainerId::random(),
        WhichId::Given(id) => *id,
        WhichId::Preserved => was.id.ok_or_else(|| {
            Failure::new(Code::BadValue, "it has no UUID that could be preserved")
                .because("neither its configuration nor its directory has one")
                .unchanged()
                .hint("leave --preserve-uuid out for a new one")
        })?,
    };
    let number_as_name = was.number.and_then(|number| number.to_string().parse().ok());
    let Some(name) = options.name.clone().or(was.name).or(number_as_name) else {
        return Err(Failure::new(Code::BadName, "it has no name")
            .because("its configuration has no NAME that can be one, and no number")
            .unchanged()
            .hint("give it one with --name"));
    };

    check_free(host, &name, was.number)?;
    for note in make_usable(host, &mut conf, &configuration)? {
        host.warning(&note);
    }
    let (disk, unenforced) = volume::choose(host, options.volume, &mut conf, &[])?;
    let is_unenforced = !unenforced.is_empty();
    for warning in unenforced {
        host.warning(&warning);
    }
    if is_unenforced {
        host.warning("`prlctl move NAME --volume image`, or `register --volume image`, gives it a disk of its own, as large as that");
    }
    let (ostemplate, note) = ostemplate(host, &conf);
    if let Some(note) = note {
        host.warning(&note);
    }
    let addresses =
        AddressChange { add: store::Address::all(&conf).unwrap_or_default(), ..AddressChange::default() };
    addresses.apply(host, None, &mut conf)?;
    are_its_alone(host, &id, &conf)?;

    let view = view(host, area, options.is_forced, what)?;
    let System { distribution, .. } = crate::template::system(&view.root).map_err(|error| {
        let code = if matches!(error, RecipeError::NoInit { .. }) { Code::NoInit } else { Code::BadValue };
        Failure::new(code, "its root cannot be a container's")
            .caused_by(&error)
            .unchanged()
            .hint("see whether that is the right directory, and whole")
    })?;
    check_space(host, &view.root, &disk)?;
    let paths = Paths::of(&id, was.number);
    let ostemplate_said = ostemplate.clone().unwrap_or_default();
    let pairs = [
        ("VERSION", "2"),
        (store::NUMERIC_ID, &paths.veid),
        ("UUID", &paths.id),
        ("NAME", name.as_str()),
        ("VE_ROOT", &paths.root),
        ("VE_PRIVATE", &paths.private),
        ("OSTEMPLATE", &ostemplate_said),
        ("DISTRIBUTION", &distribution),
    ];
    for (key, value) in pairs {
        conf.set(key, value)?;
    }
    if conf.get("ONBOOT").is_none() && crate::defaults::said(&configuration, "ONBOOT").is_none() {
        conf.set("ONBOOT", "no")?;
    }
    Ok(Plan { id, name, number: was.number, conf, ostemplate, addresses, distribution, disk, view })
}

/// What its configuration says of where it is.
pub(super) struct Paths {
    pub id: String,
    pub veid: String,
    pub root: String,
    pub private: String,
}

impl Paths {
    /// A shell that sources it finds the directories, which are named after the UUID, also where `VEID` is a number.
    pub fn of(id: &ContainerId, number: Option<NumericId>) -> Paths {
        let id = id.to_string();
        let of = |what: &str| match number {
            Some(_) => format!("/vz/{what}/{id}"),
            None => format!("/vz/{what}/$VEID"),
        };
        let veid = number.map_or_else(|| id.clone(), |number| number.to_string());
        Paths { veid, root: of("root"), private: of("private"), id }
    }
}

fn view(host: &Host, area: &PrivateArea, is_forced: bool, what: &str) -> Result<View> {
    let rooted = |handle| LayeredRoot::new(Root::from_handle(handle), None);
    match &area.root {
        RootPlace::Directory(directory) => {
            let handle = runtime::foreign::read_only(directory).map_err(|error| {
                system(format!("cannot look at {}", tree::escaped_path(directory)), &error)
            })?;
            let root = rooted(handle);
            let stamp = tree::stamp(root.upper())?;
            Ok(View { root, origin: Origin::Directory(stamp) })
        }
        RootPlace::Ploop(directory) => {
            let disk = Disk::open(directory, is_forced)?;
            let mounted = disk.mount(host, what)?;
            let handle = mounted.mount.try_clone().map_err(|error| system("cannot hold the root", &error))?;
            Ok(View { root: rooted(handle), origin: Origin::Ploop(disk, mounted) })
        }
    }
}

/// Asked of all that is there, with a block for each small thing.
fn check_space(host: &Host, root: &LayeredRoot, disk: &Wanted) -> Result<()> {
    const ENTRY: u64 = 512;
    let mut measure = tree::Measure::default();
    let top = Path::new("/");
    for name in root.names(top)?.unwrap_or_default() {
        measure.add(root, &top.join(name))?;
    }
    let size = measure.size();
    let private = store::atomic::open_directory(&host.prefix.private_dir())?;
    let shares = disk.volume != Volume::Image
        && is_one_filesystem(root.upper(), private.as_fd())
        && tree::can_clone(private.as_fd());
    let limit = match disk.volume {
        Volume::Image => Some(disk.size),
        volume if store::counted::is_kept(&host.prefix, volume) => disk.space.bytes,
        Volume::Directory | Volume::Btrfs => None,
    };
    if let Some(limit) = limit.filter(|limit| *limit < size.bytes) {
        return Err(Failure::new(Code::NoSpace, "what is in it does not fit on its disk")
            .because(format!(
                "its root has {} MiB, and its `DISKSPACE` is {} MiB",
                size.bytes >> 20,
                limit >> 20
            ))
            .unchanged()
            .hint("name a configuration with more with --config, or `--volume directory`"));
    }
    let bytes = if shares { 0 } else { size.bytes } + size.entries * ENTRY;
    space::check_create(host)?;
    space::check_private(host, Need { who: "a copy of the root", bytes, inodes: size.entries + 64 })
}

fn is_one_filesystem(one: impl AsFd, other: impl AsFd) -> bool {
    let device = |file: std::os::fd::BorrowedFd<'_>| rustix::fs::fstat(file).map(|found| found.st_dev).ok();
    device(one.as_fd()) == device(other.as_fd())
}

fn fill(
    host: &Host,
    area: &Area,
    plan: &Plan,
    conf: &Conf,
    number: GenerationNumber,
    what: &str,
) -> Result<Copied> {
    area.store_conf(conf)?;
    let generation = GenerationRecord {
        format: GenerationRecord::FORMAT,
        number,
        parent: None,
        ostemplate: plan.ostemplate.clone(),
        base: Base::Empty,
        mount_options: runtime::mounts::MOUNT_OPTIONS.map(str::to_owned).to_vec(),
        reason: Reason::Create,
        state: GenerationState::Kept,
        created: jiff::Timestamp::now(),
        distribution: Some(plan.distribution.clone()),
        templates: None,
        left: None,
    };
    let handle = area.create_generation(&generation)?;
    // All is in the delta: what an overlay wants below it is empty.
    store::atomic::make_directory_at(area.layers_handle(number)?.as_fd(), "lower", 0o755)?;
    let delta = Root::open(&area.layers_dir(number).join("delta"))?;
    host.step("copy", "Copying the root...");
    let copied = copy(host, &plan.view.root, delta).map_err(|failure| {
        host.or_interrupted(failure.within(what).state("nothing of it is left"), Second::HalfMade)
    })?;
    area.point_live(number)?;
    fault::here("register", "sync", Place::Before)?;
    // All of it durable before the rename that makes it visible: it is anybody's tree, so the whole filesystem; then what leads to it.
    host.step("sync", "Writing it out...");
    if !linux::mutated!("registered-root-unsynced") {
        area.sync_layers().map_err(|error| Failure::from(error).within("cannot write out the root"))?;
    }
    store::atomic::fsync_dir(handle.as_fd())?;
    store::atomic::fsync_dir(area.generations_handle()?.as_fd())?;
    area.sync()?;
    Ok(copied)
}

/// Everything, by a thread that can reach nothing else. Identity included: it is the same container as before, not another like it.
fn copy(host: &Host, from: &LayeredRoot, delta: Root) -> Result<Copied> {
    let held: OwnedFd =
        delta.handle().try_clone_to_owned().map_err(|error| system("cannot hold the new root", &error))?;
    let to = LayeredRoot::new(delta, None);
    let reach = Reach { reads: vec![from.upper()], writes: vec![held.as_fd()], ids: None };
    let mut pace = Pace::new(host, "copy");
    host.confined(&reach, "the root cannot be copied", || {
        let mut told = |copied: &Copied| pace.goes_on(copied.entries, copied.bytes);
        let mut copier = Copier::new(from, &to, Except::default(), &mut told);
        copier.copy_all()?;
        Ok(copier.copied().clone())
    })
}

/// A root that somebody has written to is half of one moment and half of another.
fn check_unchanged(area: &PrivateArea, plan: &Plan) -> Result<()> {
    place::in_use(&area.path)?;
    let is_unchanged = match &plan.view.origin {
        Origin::Directory(before) => tree::stamp(plan.view.root.upper()).is_ok_and(|now| now == *before),
        Origin::Ploop(disk, _) => disk.is_unchanged(),
    };
    if is_unchanged {
        return Ok(());
    }
    Err(Failure::new(Code::Mounted, "it was changed while it was copied")
        .because("what was copied would be half of one moment and half of another")
        .state("nothing of it is left")
        .hint("stop the container where it runs, and what else writes there, and register it again"))
}

/// What is not as it was.
fn tell(host: &Host, area: &PrivateArea, copied: &Copied) {
    for left in &area.left {
        host.warning(left);
    }
    let (in_dev, elsewhere): (Vec<_>, Vec<_>) = copied
        .left
        .iter()
        .partition(|(path, _)| path.starts_with("/dev") || path.starts_with("/lib/udev/devices"));
    if !in_dev.is_empty() {
        host.note(&format!("{} device nodes do not come along: /dev is made at every start", in_dev.len()));
    }
    for (path, because) in elsewhere.iter().take(10) {
        host.warning(&format!("{} does not come along: {because}", tree::escaped_path(path)));
    }
    if elsewhere.len() > 10 {
        host.warning(&format!("{} others do not come along either", elsewhere.len() - 10));
    }
    let foreign: u64 = copied.owners.iter().filter(|(id, _)| **id >= IDS).map(|(_, entries)| entries).sum();
    if foreign > 0 {
        host.warning(&format!(
            "{foreign} entries belong to users from {IDS} up, whom no container here has: in it they are nobody's"
        ));
    }
}
