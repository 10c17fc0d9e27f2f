//! `prlctl mount` and `prlctl umount`

use engine::{Code, Failure, Result};
use serde_json::json;

use super::{done, host};
use crate::arguments::{Mount, Named};

/// Mounts a container's root for the host: writable and with plain owners when it is stopped, read-only when it runs.
///
/// # Errors
/// [`Failure`].
pub fn mount(arguments: &Mount) -> Result<u8> {
    let host = host(arguments.common.lock_wait, arguments.common.json)?;
    let container = host.open(&arguments.container)?;
    let point = engine::view::mount(&container)?;
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
    let container = host.open(&arguments.container)?;
    if !engine::view::unmount(&container)? {
        return Err(Failure::new(Code::NotMounted, format!("cannot unmount `{}`", container.name))
            .because("it is not mounted")
            .unchanged()
            .hint(format!("`prlctl mount {}` mounts it", container.name)));
    }
    Ok(done(
        arguments.common.json,
        "The CT has been successfully unmounted.",
        json!({ "result": "unmounted" }),
    ))
}
