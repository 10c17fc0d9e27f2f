//! `prlctl register` and `unregister`

use engine::Result;
use engine::event::Ended;
use engine::operation::register::{Options, Registered, WhichId, register};
use serde_json::json;

use super::create::{parse_id, parse_name, parse_volume};
use super::info::Obeyed;
use super::{done, empty_trash_later, host, named_in_full};
use crate::arguments::{Named, Register};

/// Makes a container of a private area of OpenVZ.
///
/// # Errors
/// [`engine::Failure`], with nothing of it left and the area as it was.
pub fn run(arguments: &Register) -> Result<u8> {
    let name = arguments.name.as_deref().map(parse_name).transpose()?;
    let id = match &arguments.uuid {
        Some(uuid) => WhichId::Given(parse_id(uuid)?),
        None if arguments.preserve_uuid => WhichId::Preserved,
        None => WhichId::New,
    };
    let volume = arguments.volume.as_deref().map(parse_volume).transpose()?;
    let host = host(arguments.common.lock_wait, arguments.common.json)?;
    let options = Options {
        path: arguments.path.clone(),
        conf: arguments.config.clone(),
        name,
        id,
        is_forced: arguments.force,
        volume,
    };
    let result = register(&host, &options);
    // Of one that has failed there may be a whole copy.
    empty_trash_later(&host);
    let Registered { id, name, number, conf, copied } = result?;
    // Before, there was nothing that a log could be of.
    host.recording(&id, name.as_str(), "register", None).end(Ended::Done, None, None);
    let obeyed = Obeyed::of(&conf);
    if !obeyed.beancounters.is_empty() {
        host.note(&format!(
            "kept, and without meaning here: {}; `prlctl set {name} --memsize … --numproc …` limits it",
            obeyed.beancounters.join(" ")
        ));
    }
    if !obeyed.without_effect.is_empty() {
        host.note(&format!(
            "kept, and without effect here: {}; `prlctl info {name}` says why",
            obeyed.without_effect.join(" ")
        ));
    }
    if !obeyed.others.is_empty() {
        host.note(&format!("kept, and not obeyed by this version: {}", obeyed.others.join(" ")));
    }
    Ok(done(
        arguments.common.json,
        "The CT has been successfully registered.",
        json!({
            "result": "registered",
            "uuid": id.to_string(),
            "name": name.as_str(),
            "ctid": number.map(store::NumericId::get),
            "entries": copied.entries,
            "bytes": copied.bytes,
            "beancounters": obeyed.beancounters,
            "without_effect": obeyed.without_effect,
            "not_obeyed": obeyed.others,
        }),
    ))
}

/// Has a container be none.
///
/// # Errors
/// [`engine::Failure`], with the container as it was.
pub fn unregister(arguments: &Named) -> Result<u8> {
    let host = host(arguments.common.lock_wait, arguments.common.json)?;
    host.not_begun(&format!("cannot unregister `{}`", tree::escaped(arguments.container.as_bytes())));
    let container = host.open(&arguments.container)?;
    let id = *container.id();
    named_in_full(&container, &arguments.container)?;
    let name = container.name.clone();
    let recording = host.recording(&id, &name, "unregister", None);
    host.step("unregister", "Unregistering the CT...");
    let result = engine::operation::unregister::unregister(container);
    recording.end_with(&result);
    let path = result?;
    host.note(&format!("it lies at {0}; `prlctl register {0}` makes it a container again", path.display()));
    Ok(done(
        arguments.common.json,
        "The CT has been successfully unregistered.",
        json!({ "result": "unregistered", "uuid": id.to_string(), "path": path.display().to_string() }),
    ))
}
