//! `prlctl mount` and `prlctl umount`

use engine::{Code, Container, Failure, Result};
use serde_json::json;
use store::GenerationNumber;

use super::{done, host};
use crate::arguments::{Mount, Named};

/// Mounts a container's root for the host: writable and with plain owners when it is stopped, read-only when it runs. Another root than
/// the live one is always read-only.
///
/// # Errors
/// [`Failure`].
pub fn mount(arguments: &Mount) -> Result<u8> {
    let host = host(arguments.common.lock_wait, arguments.common.json)?;
    host.not_begun(&format!("cannot mount `{}`", tree::escaped(arguments.container.as_bytes())));
    let container = host.open(&arguments.container)?;
    ends_anywhere(&container, "mount");
    let point = match arguments.generation {
        Some(number) => engine::view::mount_generation(&container, GenerationNumber::new(number))?,
        None => engine::view::mount(&container)?,
    };
    Ok(done(
        arguments.common.json,
        &format!("The CT has been successfully mounted at {}", point.display()),
        json!({ "result": "mounted", "path": point }),
    ))
}

/// Unmounts it.
///
/// # Errors
/// [`Failure`].
pub fn umount(arguments: &Named) -> Result<u8> {
    let host = host(arguments.common.lock_wait, arguments.common.json)?;
    host.not_begun(&format!("cannot unmount `{}`", tree::escaped(arguments.container.as_bytes())));
    let container = host.open(&arguments.container)?;
    ends_anywhere(&container, "unmount");
    if !engine::view::unmount(&container)? {
        return Err(Failure::new(Code::NotMounted, format!("cannot unmount `{}`", container.name))
            .because("it is not mounted")
            .unchanged()
            .hint(format!("`prlctl mount {}` mounts it", container.name)));
    }
    if !container.is_running() {
        container.runtime().unmount_volume(container.id());
    }
    Ok(done(
        arguments.common.json,
        "The CT has been successfully unmounted.",
        json!({ "result": "unmounted" }),
    ))
}

/// Whichever call it is that a signal comes before: one of these is made, or undone, by the next `mount`, `umount` or `start`.
fn ends_anywhere(container: &Container<'_>, verb: &str) {
    let name = &container.name;
    container.host.ends_anywhere(
        &format!("cannot {verb} `{name}`"),
        &format!("`{name}` may be mounted; nothing in it was changed"),
        &format!("`prlctl mount {name}` mounts it, and `prlctl umount {name}` unmounts it"),
    );
}
