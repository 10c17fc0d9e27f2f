//! `prlctl delete`: one rename to the trash, which is emptied in the background.

use std::os::fd::AsFd;
use std::time::Duration;

use runtime::monitor::describe;
use store::registry;

use crate::error::{Code, Failure, Result};
use crate::fault::{self, Place};
use crate::host::Container;
use crate::interrupt::Second;

/// Deletes a container. One that runs is refused, unless `is_forced`, which kills it.
///
/// # Errors
/// [`Code::Running`]; [`Code::Mounted`] when a process of the host is in it. Nothing is deleted then.
pub fn delete(container: Container<'_>, is_forced: bool) -> Result<()> {
    let what = format!("cannot delete `{}`", container.name);
    let host = container.host;
    let id = *container.id();
    host.heed_signals(&what)?;
    if container.is_running() {
        if !is_forced {
            return Err(Failure::new(Code::Running, what)
                .because("it runs")
                .unchanged()
                .hint(format!("`prlctl stop {0}` first, or `prlctl delete {0} --force`", container.name)));
        }
        container.stop(Duration::ZERO, false).map_err(|failure| {
            let failure = host.or_interrupted(failure, Second::Container(&container.name));
            if failure.state.is_none() { failure.state("nothing was deleted") } else { failure }
        })?;
    }
    let whole = format!("`{}` is stopped; nothing was deleted", container.name);
    let busy = |error: crate::runtime::RuntimeError| {
        host.or_interrupted(
            Failure::new(Code::Mounted, what.clone())
                .because(error.because)
                .state(whole.clone())
                .hint("leave its directories on the host and try again"),
            Second::Container(&container.name),
        )
    };
    container.runtime().wait_until_gone_unless_interrupted(&id).map_err(busy)?;
    container.runtime().unmount_all(&id).map_err(busy)?;
    container.runtime().let_volume_go(&id);
    container.runtime().let_disks_go(&id);

    let _lock = host.lock_host()?;
    fault::here("delete", "discard", Place::Before)?;
    host.unless_interrupted(&what, &whole, Second::Container(&container.name))?;
    let _released = store::reserve::release_if_full(&host.prefix);
    let private = store::atomic::open_directory(&host.prefix.private_dir())?;
    // The commit. A death before it: the container is whole. After it: it is gone, and its names point at nothing, which nobody takes for a
    // container and the next sweep removes.
    store::trash::discard(&host.prefix, private.as_fd(), id.to_string())?;
    // By what they point to, not by NAME: an editor may have made that another one, or none that can be used.
    let unlinked = registry::unlink_names_of(&host.prefix, &id);
    if let Err(error) = unlinked
        .and_then(|()| registry::unlink_conf(&host.prefix, &id))
        .and_then(|()| registry::unlink_numbers_of(&host.prefix, &id, None))
    {
        // It has happened, and an error would say that it has not.
        host.warning(&format!("it is deleted, and `prlctl recover` removes its links: {}", describe(&error)));
    }
    let _ = std::fs::remove_dir(host.prefix.root_dir(&id));
    let run = store::atomic::open_directory(&host.prefix.run_dir())?;
    let _ = tree::remove_entry(run.as_fd(), id.to_string().as_ref());
    Ok(())
}
