//! Giving a container another root: the steps that reinstall, undo and generation-switch are made of.
//!
//! ```text
//! step        apply                                         revert
//! stage       generations/<n> with its delta                to the trash; if it ever ran: kept, marked failed
//! build       template base, or vps.reinstall               the script's processes killed
//! stop        stop the container if it runs                 start it again if it ran
//! carry       users, and what is kept, into it              (stage reverts it)
//! probation   start the new root, the old one read-only     end it; the old one writable
//! configure   vps.configure, reinstall.d                    (probation reverts it)
//! health      the health command, until it exits with 0      (probation reverts it)
//! COMMIT      the new tree durable; rename `live`            rename it back, should only its sync have failed
//! settle      /old writable, or deleted; ve.conf follows     -
//! ```

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use net::Probation;
use serde::{Deserialize, Serialize};
use store::{Base, GenerationNumber, GenerationRecord, GenerationState, Reason};

use super::build::{build, revert_build};
use super::carry::carry;
use super::configure::configure;
use super::expire::Expiring;
use super::health::check_health;
use super::keep::{KeepReport, Measured};
use super::password::Passwords;
use super::probation::{end_probation, try_out};
use super::report::{self, Report};
use super::settle::{follow_in_configuration, settle};
use super::{Kind, Step, Work};
use crate::cloud_init::{self, UserData};
use crate::error::{Code, Failure, Result, system};
use crate::host::{Container, damaged};
use crate::keep::Keep;
use crate::scripts::Scripts;
use crate::systemd;

/// How long a systemd that is about to be stopped may take to say which of its units have failed.
const ASKING: Duration = Duration::from_secs(5);

/// How long an old root that is back is waited for until it is up.
const COMING_UP: Duration = Duration::from_secs(5);

/// The plan of a change, as it stands in the journal.
#[derive(Debug, Serialize, Deserialize)]
pub struct Change {
    /// The live generation before.
    pub from: GenerationNumber,
    /// The live generation after.
    pub to: GenerationNumber,
    /// What is at `/old` while scripts run.
    pub old: Option<GenerationNumber>,
    /// Seconds for each script and for the boot.
    pub timeout: u64,
    /// Seconds for a graceful stop.
    pub stop_timeout: u64,
    /// `from` is deleted in the end.
    pub discards: bool,
    /// The new root is started before the commit.
    pub is_tried: bool,
    /// What the new root may say to others before the commit.
    #[serde(default)]
    pub probation_network: Probation,
    /// It is only tried whether it can be done.
    #[serde(default)]
    pub is_trial: bool,
    /// Set for a reinstall.
    pub making: Option<Making>,
    /// `TEMPLATES` of `ve.conf` at the beginning: what is installed in `from`. Here, since settling twice would find that of `to`.
    #[serde(default)]
    pub templates: Option<String>,
    /// A root that ran and is given up is deleted, and not kept for a look.
    #[serde(default)]
    pub drops_failed: bool,
    /// Old roots that are kept no longer once it has happened, the oldest first, each with those whose parent it is.
    #[serde(default)]
    pub expires: Vec<Expiring>,
    /// The units of the old root that had failed when it was stopped.
    #[serde(skip)]
    pub failed_before: Vec<String>,
    /// The scripts, opened; nothing of them is in the journal.
    #[serde(skip)]
    pub scripts: Scripts,
    /// The script that ran last inside the new root.
    #[serde(skip)]
    pub last_script: Option<String>,
    /// What the things to keep take.
    #[serde(skip)]
    pub measured: Option<Measured>,
    /// What was kept.
    #[serde(skip)]
    pub kept: Option<KeepReport>,
    /// The one that was given, of which nothing is in the journal, and root's.
    #[serde(skip)]
    pub passwords: Passwords,
    /// What the new root's cloud-init is told. It is in no journal: what a root was given lies with it.
    #[serde(skip)]
    pub user_data: Option<UserData>,
    /// What the container calls itself.
    #[serde(skip)]
    pub hostname: String,
    /// What is worth telling at the end.
    #[serde(skip)]
    pub report: Vec<String>,
    /// Since when the container is down that ran.
    #[serde(skip)]
    pub down_since: Option<Instant>,
    /// How long it was.
    #[serde(skip)]
    pub downtime: Option<Duration>,
    /// What it came to, as it stands in the log.
    #[serde(skip)]
    pub reported: Option<Report>,
}

/// What a reinstall makes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Making {
    /// Its parent.
    pub parent: Option<GenerationNumber>,
    /// The template, also where a script builds: the script may decline.
    pub base: Base,
    /// It is to stay on that version of it.
    #[serde(default)]
    pub is_pinned: bool,
    /// `vps.reinstall` builds it.
    pub is_by_script: bool,
    /// It is the old root, with all of its template in it.
    #[serde(default)]
    pub is_flattened: bool,
    /// Users are carried over.
    pub carries_users: bool,
    /// What else is kept.
    #[serde(default)]
    pub keep: Vec<Keep>,
    /// Packages to install in it, of which the new root's record then tells.
    #[serde(default)]
    pub applications: Vec<String>,
    /// `vps.configure` is run.
    pub is_configured: bool,
    /// What says whether the new root does what it is for: a shell line that exits with 0 then.
    #[serde(default)]
    pub health: Option<String>,
    /// A systemd some of whose units have failed is taken as it is.
    #[serde(default)]
    pub allows_degraded: bool,
    /// Names of the scripts of `reinstall.d` to run.
    pub scripts: Vec<String>,
    /// Names of the scripts of the old root to run after them.
    #[serde(default)]
    pub old_scripts: Vec<String>,
    /// `DISTRIBUTION` of the template.
    pub distribution: Option<String>,
    /// The template has a systemd, whose machine-id is to be a new one.
    pub has_machine_id: bool,
}

/// Work on a change.
pub type ChangeWork<'a> = Work<'a, Change>;

const STAGE: Step<Change> = Step {
    name: "stage",
    text: |work| format!("Creating generation {} ...", work.plan.to),
    apply: stage,
    revert: unstage,
};
const BUILD: Step<Change> = Step { name: "build", text: build_text, apply: build, revert: revert_build };
const CARRY: Step<Change> = Step {
    name: "carry",
    text: |work| {
        if work.plan.making.as_ref().is_some_and(|making| making.is_flattened) {
            "Copying the template into the root...".to_owned()
        } else if work.plan.making.as_ref().is_some_and(|making| making.carries_users) {
            "Copying Container credentials...".to_owned()
        } else {
            String::new()
        }
    },
    apply: carry,
    revert: nothing,
};
const STOP: Step<Change> = Step {
    name: "stop",
    text: |work| if work.container.is_running() { "Stopping the CT...".to_owned() } else { String::new() },
    apply: stop,
    revert: start_again,
};
const PROBATION: Step<Change> = Step {
    name: "probation",
    text: |work| if work.plan.is_tried { "Starting the CT...".to_owned() } else { String::new() },
    apply: try_out,
    revert: end_probation,
};
const CONFIGURE: Step<Change> =
    Step { name: "configure", text: |_| String::new(), apply: configure, revert: nothing };
const HEALTH: Step<Change> = Step {
    name: "health",
    text: |work| match &work.plan.making {
        Some(Making { health: Some(_), .. }) => "Waiting until it is healthy...".to_owned(),
        _ => String::new(),
    },
    apply: check_health,
    revert: nothing,
};
const COMMIT: Step<Change> =
    Step { name: "commit", text: |_| String::new(), apply: commit, revert: take_back };
const SETTLE: Step<Change> = Step { name: "settle", text: |_| String::new(), apply: settle, revert: nothing };

/// A reinstall whose root comes from a template: the container runs until the new root is there, and not while something is copied from the
/// old one, so that what is copied is consistent.
pub static REINSTALL: Kind<Change> = Kind {
    name: "reinstall",
    steps: &[STAGE, BUILD, STOP, CARRY, PROBATION, CONFIGURE, HEALTH, COMMIT, SETTLE],
    commit: "commit",
    runs_on_the_host: false,
    is_trial: |change| change.is_trial,
    is_committed,
};

/// A reinstall whose root `vps.reinstall` makes: the container is stopped first, so that what the script copies is consistent.
pub static REINSTALL_BY_SCRIPT: Kind<Change> = Kind {
    name: "reinstall-by-script",
    steps: &[STAGE, STOP, BUILD, CARRY, PROBATION, CONFIGURE, HEALTH, COMMIT, SETTLE],
    commit: "commit",
    runs_on_the_host: true,
    is_trial: |change| change.is_trial,
    is_committed,
};

/// Undo and generation-switch.
pub static SWITCH: Kind<Change> = Kind {
    name: "switch",
    steps: &[STOP, PROBATION, COMMIT, SETTLE],
    commit: "commit",
    runs_on_the_host: false,
    is_trial: |_| false,
    is_committed,
};

/// The live root without its template: copied while it is stopped, so that it is of one moment.
pub static FLATTEN: Kind<Change> = Kind {
    name: "generation-flatten",
    steps: &[STAGE, STOP, CARRY, PROBATION, COMMIT, SETTLE],
    commit: "commit",
    runs_on_the_host: false,
    is_trial: |_| false,
    is_committed,
};

fn build_text(work: &ChangeWork<'_>) -> String {
    match &work.plan.making {
        Some(making) if making.is_by_script => "Running vps.reinstall...".to_owned(),
        Some(Making { base: Base::Template { name, .. }, .. }) => {
            format!("Creating Container private area ({name})")
        }
        _ => String::new(),
    }
}

fn nothing(_: &mut ChangeWork<'_>) -> Result<()> {
    Ok(())
}

fn is_committed(work: &ChangeWork<'_>) -> Result<bool> {
    Ok(work.container.area.live().map_err(|error| damaged(error, &work.container.name))? == work.plan.to)
}

fn stage(work: &mut ChangeWork<'_>) -> Result<()> {
    let Some(making) = &work.plan.making else { return Ok(()) };
    let area = &work.container.area;
    if area.generation(work.plan.to).is_ok() {
        return Ok(());
    }
    let base = if making.is_by_script || making.is_flattened { Base::Empty } else { making.base.clone() };
    let was = if making.is_flattened { area.generation(work.plan.from).ok() } else { None };
    let record = GenerationRecord {
        format: GenerationRecord::FORMAT,
        number: work.plan.to,
        parent: making.parent,
        // Also of a root that a script has made: it is what the next reinstall starts from.
        ostemplate: ostemplate(&making.base, making.is_pinned),
        base,
        mount_options: runtime::mounts::MOUNT_OPTIONS.map(str::to_owned).to_vec(),
        reason: match &was {
            Some(was) => was.reason,
            None if making.is_by_script => Reason::Script,
            None => Reason::Reinstall,
        },
        state: GenerationState::Staged,
        created: jiff::Timestamp::now(),
        distribution: making.distribution.clone(),
        // What is installed in it is no less there.
        templates: was.and(work.plan.templates.clone()),
        left: None,
    };
    create_generation(work.container, &record)?;
    keep_user_data(work)
}

/// A generation has with it what it was made with.
///
/// # Errors
/// When it cannot be written.
pub fn keep_user_data(work: &ChangeWork<'_>) -> Result<()> {
    match &work.plan.user_data {
        Some(data) => cloud_init::keep(&work.container.area, work.plan.to, data),
        None => Ok(()),
    }
}

/// Makes a generation, unless its template has been removed since it was looked at: whoever removes one asks who uses it under the same lock.
///
/// # Errors
/// [`Code::UnknownTemplate`] when it is gone.
pub fn create_generation(container: &Container<'_>, record: &GenerationRecord) -> Result<()> {
    let _lock = container.host.lock_host()?;
    container.template_of(record)?;
    container.enter_volume()?;
    container.area.create_generation(record)?;
    if record.base == Base::Empty {
        let layers = container.area.layers_handle(record.number)?;
        store::atomic::make_directory_at(layers.as_fd(), "lower", 0o755)?;
    }
    Ok(())
}

/// The name of the template under a base.
pub fn template_name(base: &Base) -> Option<String> {
    match base {
        Base::Template { name, .. } => Some(name.to_string()),
        Base::Empty => None,
    }
}

/// `OSTEMPLATE`: what the next reinstall starts from. All digits of a version, since fewer may be those of another by then.
pub fn ostemplate(base: &Base, is_pinned: bool) -> Option<String> {
    match base {
        Base::Template { name, digest } if is_pinned => Some(format!("{name}@{digest}")),
        Base::Template { .. } | Base::Empty => template_name(base),
    }
}

/// A root that ran holds what its scripts have written, which may be all that tells why they failed: it is kept for a look, the newest such
/// one. One that never ran is only what we made of it.
fn unstage(work: &mut ChangeWork<'_>) -> Result<()> {
    if work.plan.making.is_none() || linux::mutated!("stage-stays") {
        return Ok(());
    }
    let (container, number) = (work.container, work.plan.to);
    let area = &container.area;
    if !area.generation_dir(number).exists() {
        return Ok(());
    }
    // overlayfs makes `work/work` at its first mount.
    let has_run = container.layers_dir(number)?.join("work/work").exists();
    let is_kept = has_run && !work.plan.drops_failed;
    let record = area.generation(number).ok().filter(|_| is_kept);
    let Some(mut record) = record else {
        return Ok(area.discard_generation(&container.host.prefix, number)?);
    };
    record.state = GenerationState::Failed;
    area.store_generation(&record)?;
    for (older, record) in area.generations().map_err(|error| damaged(error, &container.name))? {
        if older != number && record.is_ok_and(|record| record.state == GenerationState::Failed) {
            area.discard_generation(&container.host.prefix, older)?;
        }
    }
    Ok(())
}

fn stop(work: &mut ChangeWork<'_>) -> Result<()> {
    let container = work.container;
    if let Some(run) = container.runtime().running(container.id()) {
        let is_judged = work.plan.making.as_ref().is_some_and(|making| !making.allows_degraded);
        if is_judged && run.is_systemd {
            work.plan.failed_before = systemd::failed_before(container, ASKING);
        }
        // What is dirty is written while the container still runs: making its superblock read-only would wait for it later.
        let _ = container.area.sync_layers();
        work.plan.down_since.get_or_insert_with(Instant::now);
        container.stop(Duration::from_secs(work.plan.stop_timeout), true)?;
    }
    container.runtime().wait_until_gone(container.id()).map_err(|error| {
        Failure::new(Code::CannotStop, format!("`{}` is not quite stopped", container.name))
            .because(error.because)
    })
}

fn start_again(work: &mut ChangeWork<'_>) -> Result<()> {
    if linux::mutated!("stop-stays") {
        return Ok(());
    }
    let container = work.container;
    if work.journal.was_running && work.is_this_boot() && container.runtime().is_stopping(container.id()) {
        // Whoever had it stopped was interrupted or killed meanwhile: it would go down after this.
        container.stop(Duration::from_secs(work.plan.stop_timeout), true)?;
    }
    start_what_ran(work);
    Ok(())
}

/// What ran runs. That it does not start is told, and is no failure of the step, before the commit or after it: the journal would stay, and a
/// container that were locked until it starts could not be given another root either.
pub fn start_what_ran(work: &mut ChangeWork<'_>) {
    if work.journal.was_running && work.is_this_boot() && !work.container.is_running() {
        work.container.host.step("start", "Starting the CT again...");
        match work.container.start() {
            Ok(()) => come_up(work.container),
            Err(failure) => work.container.host.warning(&failure.reason()),
        }
    }
}

/// Whoever is told that it runs again is going to use it: a systemd that comes up at all does so in a moment. One that does not had been broken before.
fn come_up(container: &Container<'_>) {
    if container.runtime().running(container.id()).is_some_and(|run| run.is_systemd) {
        let _ = container.runtime().wait_until_up(container.id(), COMING_UP);
    }
}

fn commit(work: &mut ChangeWork<'_>) -> Result<()> {
    let container = work.container;
    let area = &container.area;
    if linux::mutated!("live-before-the-tree") {
        area.point_live(work.plan.to)?;
        area.sync()?;
    }
    if let Some(making) = &work.plan.making {
        // Before the syncs, which it is one of.
        area.accept_generation(work.plan.to)?;
        if making.is_by_script || making.is_flattened || work.plan.is_tried || !making.keep.is_empty() {
            // Anybody may have written anything into it, and as much as he likes.
            if !linux::mutated!("tried-root-unsynced") {
                area.sync_layers().map_err(|error| system("cannot write out the new root", &error))?;
            }
        } else {
            // A few files of ours, and every directory on the way to them. Without `work/`, `<n>/` and `generations/` btrfs has been seen
            // to lose the delta in a power cut while `live` pointed at it.
            area.sync_small_generation(work.plan.to)?;
            if !linux::mutated!("generations-unsynced") {
                store::atomic::fsync_dir(area.generations_handle()?.as_fd())?;
            }
        }
    } else if work.plan.is_tried {
        area.sync_layers().map_err(|error| system("cannot write out the root", &error))?;
    }
    if container.runtime().running(container.id()).is_none() && work.plan.is_tried {
        let failure = Failure::new(Code::System, "the new root has stopped before it was accepted");
        return Err(match &work.plan.last_script {
            Some(script) => failure
                .because(format!("`{script}` was the last that ran in it, and may have ended it"))
                .hint(format!(
                    "a script that wants the container restarted leaves that to `prlctl restart {}`",
                    container.name
                )),
            None => {
                let log = runtime::monitor::log_path(&container.host.prefix, container.id());
                failure.hint(format!("its console is logged in {}", log.display()))
            }
        });
    }
    if linux::mutated!("conf-before-live") {
        follow_in_configuration(work, &area.generation(work.plan.to)?)?;
    }
    report::record(work);
    // A death before the rename: `live` is old, and recovery reverts. After it, before the sync: either, and each is whole; recovery that
    // finds it new syncs first.
    area.point_live(work.plan.to)?;
    if linux::mutated!("live-unsynced") {
        return Ok(());
    }
    Ok(area.sync()?)
}

/// The rename has happened and its sync has failed: nobody knows what a power cut would leave, so back to what is durable.
fn take_back(work: &mut ChangeWork<'_>) -> Result<()> {
    if linux::mutated!("commit-stays") {
        return Ok(());
    }
    let area = &work.container.area;
    if area.live().is_ok_and(|live| live == work.plan.to) && work.plan.to != work.plan.from {
        area.point_live(work.plan.from)?;
        area.sync()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_of_an_older_version_is_read() {
        let arguments = serde_json::json!({
            "from": 1, "to": 2, "old": 1, "timeout": 600, "stop_timeout": 120, "discards": false, "is_tried": true,
            "making": {
                "parent": 1, "base": { "template": { "name": "debian-12", "digest": "5b1c" } }, "is_by_script": false,
                "carries_users": true, "is_configured": false, "scripts": [], "distribution": "debian", "has_machine_id": true
            }
        });
        let change: Change = serde_json::from_value(arguments).unwrap();
        let making = change.making.unwrap();
        assert_eq!((making.health, making.allows_degraded, making.old_scripts.len()), (None, false, 0));
        assert!(!change.drops_failed && change.expires.is_empty() && making.keep.is_empty());
    }
}
