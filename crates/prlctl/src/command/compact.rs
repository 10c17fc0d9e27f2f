//! `prlctl compact`

use engine::Result;
use engine::volume::Compacted;
use serde_json::json;

use super::{done, host};
use crate::arguments::Named;

/// Gives back to the host's disk what is free on a container's own.
///
/// # Errors
/// [`engine::Failure`].
pub fn run(arguments: &Named) -> Result<u8> {
    let host = host(arguments.common.lock_wait, arguments.common.json)?;
    host.not_begun(&format!("cannot compact `{}`", tree::escaped(arguments.container.as_bytes())));
    let container = host.open(&arguments.container)?;
    host.step("compact", "Compacting the CT...");
    let recording = host.recording(container.id(), &container.name, "compact", None);
    let result = container.compact();
    recording.end_with(&result);
    let Compacted { before, after, warnings } = result?;
    for warning in &warnings {
        host.warning(warning);
    }
    host.note(&format!("its disk takes {} MB now, {} MB before", after / 1_000_000, before / 1_000_000));
    Ok(done(
        arguments.common.json,
        "The CT has been successfully compacted.",
        json!({ "result": "compacted", "uuid": container.id().to_string(), "bytes_before": before, "bytes": after, "warnings": warnings }),
    ))
}
