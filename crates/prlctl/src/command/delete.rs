//! `prlctl delete`, and the emptying of the trash that it leaves to the background

use engine::{Code, Failure, Result};
use serde_json::json;

use super::{done, empty_trash_later, host};
use crate::arguments::Delete;

/// Deletes a container.
///
/// # Errors
/// [`Failure`].
pub fn run(arguments: &Delete) -> Result<u8> {
    let host = host(arguments.common.lock_wait, arguments.common.json)?;
    let container = host.open(&arguments.container)?;
    let id = *container.id();
    let words = arguments.container.trim_start_matches('{').trim_end_matches('}').to_ascii_lowercase();
    if container.name != arguments.container && !id.to_string().starts_with(&words) {
        // Everywhere else a unique start of a name is a convenience; here it would be somebody's container.
        return Err(Failure::new(
            Code::BadName,
            format!("`{}` is not the whole name of a container", arguments.container),
        )
        .because(format!(
            "it begins the name of `{}`, and what is deleted must be named in full",
            container.name
        ))
        .unchanged()
        .hint(format!("prlctl delete {}", container.name)));
    }
    host.step("delete", "Removing the CT...");
    engine::operation::delete::delete(container, arguments.force)?;
    empty_trash_later(&host);
    Ok(done(
        arguments.common.json,
        "The CT has been successfully removed.",
        json!({ "result": "removed", "uuid": id.to_string() }),
    ))
}

/// Empties the trash, at the lowest priority there is.
///
/// # Errors
/// [`Failure`].
pub fn empty_trash() -> Result<u8> {
    let host = host(0, false)?;
    let _ = rustix::process::nice(19);
    let removed = store::trash::empty(&host.prefix)?;
    for left in removed.left {
        host.warning(&format!("{} is a mount point and stays", tree::escaped_path(&left)));
    }
    Ok(0)
}
