//! Recovery: what a dead command has left under way is brought to an end, by whatever command next opens the container, and at boot.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use store::{Area, Conf, ContainerId, GenerationNumber, GenerationState, Volume};

use crate::boot;
use crate::error::{Code, Failure, Result};
use crate::host::{Container, Host, damaged};
use crate::operation::{change, forget, resume};

/// Finishes or reverts the operation of which a journal is there; tells the observer. Also deletes what was only still in use when it was to go.
///
/// # Errors
/// [`Failure`]; the journal stays, and the next command tries again.
pub fn recover(container: &Container<'_>) -> Result<()> {
    if let Some(journal) = container.area.journal().map_err(|error| damaged(error, &container.name))? {
        container.enter_volume()?;
        let told = match journal.operation.as_str() {
            name if name == change::REINSTALL.name => resume(&change::REINSTALL, container, journal),
            name if name == change::REINSTALL_BY_SCRIPT.name => {
                resume(&change::REINSTALL_BY_SCRIPT, container, journal)
            }
            name if name == change::SWITCH.name => resume(&change::SWITCH, container, journal),
            name if name == change::FLATTEN.name => resume(&change::FLATTEN, container, journal),
            name if name == forget::GENERATION_DELETE.name => {
                resume(&forget::GENERATION_DELETE, container, journal)
            }
            other => Err(Failure::new(
                Code::Damaged,
                format!("`{}` has an operation under way that this program does not know", container.name),
            )
            .because(format!("it is called `{}`", tree::escaped(other.as_bytes())))
            .unchanged()
            .hint("use the version of the program that began it")),
        }?;
        container.host.note(&told);
        let _ = container.area.sweep_generations();
        let _ = container.area.sweep_layers();
    } else if container.area.volume() == Volume::Btrfs {
        // Of a deletion that has come to its end, but for that. An image is neither mounted for it nor kept mounted: the next start does that.
        let _ = container.area.sweep_layers();
    }
    // Also without a journal: whoever died while it was writing that, or the next number, has left a temporary file.
    if !linux::mutated!("temporaries-stay") {
        let _ = container.area.sweep();
        if container.area.has_former_layers().unwrap_or(false) && container.enter_volume().is_ok() {
            let _ = container.area.sweep_former_layers(&container.host.prefix);
        }
    }
    container.put_attachments_right();
    if !linux::mutated!("size-not-put-right") {
        crate::disks::put_sizes_right(container);
    }
    if !container.is_running() {
        if !linux::mutated!("mounts-stay") {
            container.runtime().clear_up(container.id());
        }
        discard_doomed(container);
    }
    Ok(())
}

/// Why the arguments of a journal cannot be used; `None`: they can, or it is of an operation that this program does not know.
pub fn damage_of(journal: &store::Journal) -> Option<String> {
    let arguments = journal.arguments.clone();
    let changes = [&change::REINSTALL, &change::REINSTALL_BY_SCRIPT, &change::SWITCH, &change::FLATTEN]
        .map(|kind| kind.name);
    let read = if changes.contains(&journal.operation.as_str()) {
        serde_json::from_value::<change::Change>(arguments).map(drop)
    } else if journal.operation == forget::GENERATION_DELETE.name {
        serde_json::from_value::<forget::Forget>(arguments).map(drop)
    } else {
        Ok(())
    };
    read.err().map(|error| error.to_string())
}

/// Deletes a generation that nothing reaches any more, or marks it to be deleted when a view of it is still in use.
///
/// # Errors
/// [`Failure`].
pub fn discard(container: &Container<'_>, number: GenerationNumber) -> Result<()> {
    let area = &container.area;
    if !area.generation_dir(number).exists() {
        return Ok(());
    }
    let is_kept = if container.is_running() {
        container.runtime().is_in_use(container.id(), number)
            || container.runtime().unmount(container.id(), number).is_err()
    } else {
        container.runtime().unmount_all(container.id()).is_err()
    };
    if is_kept {
        // While its superblock is mounted anywhere, nothing of it is deleted.
        if let Ok(mut record) = area.generation(number) {
            record.state = GenerationState::Doomed;
            area.store_generation(&record)?;
        }
        container.host.warning(&format!(
            "generation {number} is still in use: it is deleted when `{}` stops",
            container.name
        ));
        return Ok(());
    }
    container.enter_volume()?;
    Ok(area.discard_generation(&container.host.prefix, number)?)
}

/// Deletes what was to be deleted when the container stops, which it has.
pub fn discard_doomed(container: &Container<'_>) {
    let Ok(generations) = container.area.generations() else { return };
    for (number, record) in generations {
        if record.is_ok_and(|record| record.state == GenerationState::Doomed)
            && container.runtime().unmount(container.id(), number).is_ok()
            && container.enter_volume().is_ok()
        {
            let _ = container.area.discard_generation(&container.host.prefix, number);
        }
    }
}

/// What came of one container, or of what is no container's.
#[derive(Debug)]
pub struct Recovered {
    /// Its name; `None`: it is what creations and deletions have left, of no container.
    pub name: Option<String>,
    /// What could not be done.
    pub failure: Option<Failure>,
}

/// Recovers every container of a host, and what creations and deletions have left.
///
/// # Errors
/// When it cannot be said which containers there are.
pub fn recover_all(host: &Host) -> Result<Vec<Recovered>> {
    // What cannot be swept is told, and keeps no container down.
    let swept = crate::operation::create::sweep(host);
    let mut results: Vec<Recovered> =
        swept.into_iter().map(|failure| Recovered { name: None, failure: Some(failure) }).collect();
    // First: all that follows may take its time, and until then containers that run may be anybody. What has ended goes from it with its container.
    results
        .extend(restore_filter(host).err().map(|failure| Recovered { name: None, failure: Some(failure) }));
    for id in store::registry::list(&host.prefix)? {
        let name = name_of(host, &id);
        let failure = host.open_unrecovered(&id, &name).and_then(|container| {
            recover(&container)?;
            crate::names::warn_of_no_name(&container);
            // A name that two claim, or a file of somebody's in a link's place, is told, and keeps nothing down.
            crate::operation::create::link(&container)
        });
        results.push(Recovered { name: Some(name), failure: failure.err() });
    }
    Ok(results)
}

/// Has the packet filter what it has to know of all containers.
///
/// # Errors
/// [`Code::System`].
pub fn restore_filter(host: &Host) -> Result<()> {
    host.runtime.restore_filter().map_err(|error| {
        Failure::new(Code::System, "cannot say to the packet filter who may use which address")
            .because(error.because)
            .state("containers that run may use addresses of others")
            .hint("`nft list ruleset` shows what there is; `prlctl recover` tries again")
    })
}

/// Containers in the order of their `BOOTORDER`, the highest first and those without one last; those of one order together.
///
/// # Errors
/// When it cannot be said which containers there are.
pub fn in_boot_order(
    host: &Host,
    is_wanted: &dyn Fn(&ContainerId, &Conf) -> bool,
) -> Result<Vec<Vec<ContainerId>>> {
    let mut orders: BTreeMap<Reverse<Option<i64>>, Vec<ContainerId>> = BTreeMap::new();
    let of_host = host.configuration().unwrap_or_default();
    for id in store::registry::list(&host.prefix)? {
        // Of one that is damaged nothing is known; its recovery has told.
        let conf = Area::open_unchecked(&host.prefix, &id).and_then(|area| area.conf()).unwrap_or_default();
        let conf = crate::defaults::beside(&conf, &of_host);
        if is_wanted(&id, &conf) {
            orders.entry(Reverse(boot::order(&conf))).or_default().push(id);
        }
    }
    Ok(orders.into_values().collect())
}

/// What is to be started when the host has come up: `ONBOOT="yes"`, or `auto` and it ran when the host went down; and does not run. What somebody may have meant otherwise is told.
///
/// # Errors
/// As [`in_boot_order`].
pub fn to_start(host: &Host) -> Result<Vec<Vec<ContainerId>>> {
    host.warn_of_configuration();
    in_boot_order(host, &|id, conf| {
        for remark in boot::remarks(conf) {
            host.warning(&format!("`{}`: {remark}", name_of(host, id)));
        }
        let ran = || Area::open_unchecked(&host.prefix, id).is_ok_and(|area| area.is_marked_running());
        let is_wanted = (boot::is_wanted(conf) || boot::is_as_before(conf) && ran())
            && host.runtime.running(id).is_none();
        if is_wanted && boot::is_disabled(conf) {
            let key = boot::DISABLED;
            host.warning(&format!("`{}` is not started: {key} is `yes` in its ve.conf.", name_of(host, id)));
        }
        is_wanted && !boot::is_disabled(conf)
    })
}

/// What to call a container of which nobody knows whether it is whole.
pub fn name_of(host: &Host, id: &ContainerId) -> String {
    Area::open_unchecked(&host.prefix, id).map_or_else(|_| id.to_string(), |area| area.display_name())
}
