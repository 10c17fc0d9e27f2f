//! `prlctl mount`: a container's root on the host, at `/vz/root/<uuid>`, with what is at its `/old`; and a view of it alone to write to.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use runtime::mountinfo::Entry;
use runtime::mounts::{self, MountError};
use runtime::mounts_of_container;
use store::{AreaError, GenerationNumber, GenerationState, IdRange};

use crate::error::{Code, Failure, Result, system};
use crate::host::{Container, damaged};

/// Mounts it, unless it is mounted: writable and with plain owners when the container is stopped, read-only when it runs.
///
/// # Errors
/// [`Code::MountFailed`].
pub fn mount(container: &Container<'_>) -> Result<PathBuf> {
    let prefix = &container.host.prefix;
    let root = prefix.root_dir(container.id());
    let what = format!("cannot mount `{}`", container.name);
    let failed = |error: MountError| {
        Failure::new(Code::MountFailed, format!("cannot mount `{}`", container.name)).caused_by(&error)
    };
    if !container.is_running() {
        take_down(container, &what)?;
    }
    std::fs::create_dir_all(&root).map_err(|error| system(what.clone(), &error))?;
    let live = container.area.live().map_err(|error| damaged(error, &container.name))?;
    let record = container.area.generation(live).map_err(|error| damaged(error, &container.name))?;
    let is_running = container.is_running();
    if mounts_of_container::is_mounted_for_host(prefix, container.id()) {
        let point = if is_running {
            mounts::generation_point(prefix, container.id(), live)
        } else {
            mounts::host_point(prefix, container.id(), live)
        };
        // What is there may be the root of a container that has another one now, or a view of one that ran.
        if mounts::is_mounted(&point) && mounts::superblock(&point).ok() == mounts::superblock(&root).ok() {
            return Ok(root);
        }
        container.release_view()?;
    }
    let mut place: Option<OwnedFd> = None;
    for (depth, one) in container.roots(live, record.parent)?.iter().enumerate() {
        let point = if is_running {
            mounts::generation_point(prefix, container.id(), one.number)
        } else {
            mounts::mount_for_host(prefix, container.id(), one.number, &one.layers).map_err(failed)?
        };
        if is_running && !mounts::is_mounted(&point) {
            break;
        }
        let clone = mounts::clone_mount(&point).map_err(failed)?;
        // What is further back than /old is read-only also here, so that `rm -rf old/*` cannot empty the whole chain.
        mounts::restrict(&clone, is_running || depth > 1).map_err(failed)?;
        match &place {
            None => mounts::attach(clone.as_fd(), &root).map_err(failed)?,
            Some(above) => {
                if !mounts::attach_at_old(&clone, above).map_err(failed)? {
                    container
                        .host
                        .warning("/old in the container is no directory: the old root is not mounted there");
                    break;
                }
            }
        }
        place = Some(clone);
    }
    Ok(root)
}

/// Mounts another root than the live one there, alone and read-only, for a look: one that has failed, say. What it is made of is not changed by that.
///
/// # Errors
/// [`Code::MountFailed`]; [`Code::BadValue`] for one that there is not.
pub fn mount_generation(container: &Container<'_>, number: GenerationNumber) -> Result<PathBuf> {
    let prefix = &container.host.prefix;
    let root = prefix.root_dir(container.id());
    let what = format!("cannot mount generation {number} of `{}`", container.name);
    let failed =
        |error: MountError| Failure::new(Code::MountFailed, what.clone()).caused_by(&error).unchanged();
    let refused = |because: &str| {
        Failure::new(Code::BadValue, what.clone())
            .because(because)
            .unchanged()
            .hint(format!("`prlctl generation-list {} --all` shows all roots", container.name))
    };
    let record = match container.area.generation(number) {
        Ok(record) => record,
        Err(AreaError::NoGeneration { .. }) => return Err(refused("there is none")),
        Err(error) => return Err(damaged(error, &container.name)),
    };
    if matches!(record.state, GenerationState::Doomed | GenerationState::Staged) {
        return Err(refused("it is being deleted"));
    }
    let layers = container.root_of(&record)?.layers;
    std::fs::create_dir_all(&root).map_err(|error| system(what.clone(), &error))?;
    container.release_view()?;
    // Whatever else has it mounted is a view of the one superblock that it may have.
    let point = mounts::generation_point(prefix, container.id(), number);
    let view = if mounts::is_mounted(&point) {
        mounts::clone_mount(&point).map_err(failed)?
    } else {
        mounts::read_view(&layers).map_err(failed)?
    };
    mounts::restrict(&view, true).map_err(failed)?;
    mounts::attach(view.as_fd(), &root).map_err(failed)?;
    Ok(root)
}

/// The container's own mounts, should a stop have left them: never two superblocks of one generation.
fn take_down(container: &Container<'_>, what: &str) -> Result<()> {
    let failed = |because: String| Failure::new(Code::MountFailed, what).because(because);
    let id = container.id();
    container.runtime().wait_until_gone(id).map_err(|error| failed(error.because))?;
    for point in mounts::mounted(&container.host.prefix, id, "generations") {
        mounts::unmount(&point).map_err(|error| failed(runtime::monitor::describe(&error)))?;
    }
    Ok(())
}

/// The live root and nothing that is mounted in it, to write to: gone with the handle. With the ids that owners are shifted to in it, or `None` where
/// they are plain.
///
/// # Errors
/// [`Code::MountFailed`].
pub fn writable(container: &Container<'_>) -> Result<(OwnedFd, Option<IdRange>)> {
    let (prefix, id) = (&container.host.prefix, container.id());
    let what = format!("cannot mount `{}`", container.name);
    let failed = |error: MountError| Failure::new(Code::MountFailed, what.clone()).caused_by(&error);
    let live = container.area.live().map_err(|error| damaged(error, &container.name))?;
    if container.is_running() {
        let point = mounts::generation_point(prefix, id, live);
        if !mounts::is_mounted(&point) {
            return Err(Failure::new(Code::MountFailed, what)
                .because(format!("nothing is mounted at {}", point.display()))
                .hint(format!("`prlctl restart {}` mounts it again", container.name)));
        }
        let ids = container.area.record().map_err(|error| damaged(error, &container.name))?.id_range;
        return Ok((mounts::clone_mount(&point).map_err(failed)?, Some(ids)));
    }
    take_down(container, &what)?;
    let shown = mounts::host_point(prefix, id, live);
    let mount = if mounts::is_mounted(&shown) {
        mounts::clone_mount(&shown)
    } else {
        mounts::detached_for_host(&container.root(live)?.layers)
    };
    Ok((mount.map_err(failed)?, None))
}

/// Where something is mounted in a running container, as its init sees it.
pub fn mounted_inside(container: &Container<'_>) -> Vec<PathBuf> {
    let Some(run) = container.runtime().running(container.id()) else { return Vec::new() };
    let table = std::fs::read(format!("/proc/{}/mountinfo", run.init)).unwrap_or_default();
    let table = String::from_utf8_lossy(&table);
    let points = table.lines().filter_map(Entry::parse).map(|mount| mount.point);
    points.filter(|point| point.parent().is_some()).collect()
}

/// Unmounts it; false when it was not mounted.
///
/// # Errors
/// [`Code::Mounted`] when a process of the host is in it.
pub fn unmount(container: &Container<'_>) -> Result<bool> {
    let prefix = &container.host.prefix;
    if !mounts_of_container::is_mounted_for_host(prefix, container.id()) {
        return Ok(false);
    }
    let busy = |error: MountError| {
        Failure::new(Code::Mounted, format!("cannot unmount `{}`", container.name))
            .caused_by(&error)
            .state(format!("`{}` is still mounted, nothing in it was changed", container.name))
            .hint("`fuser -vm` on that path tells which process it is")
    };
    mounts_of_container::unmount_host_view(prefix, container.id()).map_err(busy)?;
    for point in mounts::mounted(prefix, container.id(), "host") {
        mounts::unmount(&point).map_err(busy)?;
    }
    Ok(true)
}
