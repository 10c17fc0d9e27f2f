//! `prlctl move`

use engine::operation::move_volume::move_volume;
use engine::settings;
use engine::{Failure, Result};
use serde_json::json;

use super::create::parse_volume;
use super::{done, empty_trash_later, host};
use crate::arguments::Move;

/// Puts a container's files somewhere else.
///
/// # Errors
/// [`engine::Failure`].
pub fn run(arguments: &Move) -> Result<u8> {
    let volume = parse_volume(&arguments.volume)?;
    let space = arguments.diskspace.as_deref().map(|text| settings::read("--diskspace", text));
    let space = space.transpose().map_err(Failure::unchanged)?;
    let host = host(arguments.common.lock_wait, arguments.common.json)?;
    host.not_begun(&format!("cannot move `{}`", tree::escaped(arguments.container.as_bytes())));
    let container = host.open(&arguments.container)?;
    let recording = host.recording(container.id(), &container.name, "move", None);
    host.step("move", "Moving the CT...");
    let result = move_volume(&container, volume, space.as_ref());
    recording.end_with(&result);
    for warning in result? {
        host.warning(&warning);
    }
    let id = container.id().to_string();
    drop(container);
    empty_trash_later(&host);
    Ok(done(
        arguments.common.json,
        "The CT has been successfully moved.",
        json!({ "result": "moved", "uuid": id, "volume": volume.as_str() }),
    ))
}
