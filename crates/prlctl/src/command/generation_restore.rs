//! `prlctl generation-restore`

use engine::Result;
use engine::operation::restore::{Options, restore};
use engine::words::in_words;
use serde_json::json;
use store::GenerationNumber;

use super::{done, host};
use crate::arguments::GenerationRestore;

/// Brings a file or a tree of an old root back into the live one.
///
/// # Errors
/// [`engine::Failure`]; the live root is as it was.
pub fn run(arguments: &GenerationRestore) -> Result<u8> {
    let number = GenerationNumber::new(arguments.number);
    let host = host(arguments.common.lock_wait, arguments.common.json)?;
    let words = tree::escaped(arguments.container.as_bytes());
    host.not_begun(&format!("cannot restore from generation {number} of `{words}`"));
    let container = host.open(&arguments.container)?;
    let recording = host.recording(container.id(), &container.name, "generation-restore", None);
    host.step("restore", &format!("Restoring {} ...", tree::escaped_path(&arguments.path)));
    let options = Options {
        number,
        path: arguments.path.clone(),
        to: arguments.to.clone(),
        replaces: arguments.replace,
    };
    let result = restore(&container, &options);
    recording.end_with(&result);
    let report = result?;
    host.note(&format!("{} is there: {} entries, {}", report.to, report.entries, in_words(report.bytes)));
    if let Some(saved) = &report.saved_as {
        host.note(&format!("what was there is {saved}"));
    }
    for left in &report.left {
        host.warning(&format!("not restored: {}: {}", left.path, left.because));
    }
    let mut document = json!(report);
    document["result"] = json!("restored");
    Ok(done(
        arguments.common.json,
        &format!("{} has been successfully restored from generation {number}.", report.path),
        document,
    ))
}
