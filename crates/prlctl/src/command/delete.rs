//! `prlctl delete`, and the emptying of the trash that it leaves to the background

use engine::{Code, Result};
use serde_json::json;

use super::{done, empty_trash_later, host, named_in_full};
use crate::arguments::Delete;

/// Deletes a container.
///
/// # Errors
/// [`engine::Failure`].
pub fn run(arguments: &Delete) -> Result<u8> {
    let host = host(arguments.common.lock_wait, arguments.common.json)?;
    host.not_begun(&format!("cannot delete `{}`", tree::escaped(arguments.container.as_bytes())));
    // No other is offered for one that is not there: it might be pasted.
    let container = host.open_to_delete(&arguments.container).map_err(|failure| {
        if failure.code == Code::UnknownContainer && failure.what.starts_with("unknown") {
            failure.hint("`prlctl list -a` shows all there are")
        } else {
            failure
        }
    })?;
    let id = *container.id();
    named_in_full(&container, &arguments.container)?;
    let name = container.name.clone();
    let recording = host.recording(&id, &name, "delete", None);
    host.step("delete", "Removing the CT...");
    let result = engine::operation::delete::delete(container, arguments.force);
    recording.end_with(&result);
    result?;
    empty_trash_later(&host);
    Ok(done(
        arguments.common.json,
        "The CT has been successfully removed.",
        json!({ "result": "removed", "uuid": id.to_string() }),
    ))
}

/// Empties the trash, and forgets what containers did that were deleted long ago, at the lowest priority there is, of the processor and of the disk.
///
/// # Errors
/// [`engine::Failure`].
pub fn empty_trash() -> Result<u8> {
    let host = host(0, false)?;
    // Either is only a courtesy; a kernel without the one has the other.
    let _ = rustix::process::nice(19);
    let _ = linux::idle_io();
    engine::log::remove_of_deleted(&host.prefix);
    let removed = store::trash::empty(&host.prefix)?;
    for left in removed.left {
        host.warning(&format!("{} is a mount point and stays", tree::escaped_path(&left)));
    }
    Ok(0)
}
