//! `prlctl status`

use engine::Result;
use serde_json::json;

use super::{done, host};
use crate::arguments::Status;
use crate::command::list::{Seen, damage_of_template, state_of};

/// Tells whether a container is there, and its state.
///
/// # Errors
/// [`engine::Code::UnknownContainer`]: the original says `deleted` and exits with 0, which no script can tell apart.
pub fn run(arguments: &Status) -> Result<u8> {
    let host = host(0, arguments.json)?;
    let id = host.find(&arguments.container)?;
    let state = state_of(&host, &id);
    let damage = store::Area::open(&host.prefix, &id)
        .ok()
        .and_then(|area| damage_of_template(&host, &area, &mut Seen::default()));
    if let Some(damage) = damage.as_ref().filter(|_| !arguments.json) {
        host.warning(damage);
    }
    Ok(done(
        arguments.json,
        &format!("CT {} exist {state}", arguments.container),
        json!({ "uuid": id.to_string(), "exists": true, "state": state, "damage": damage }),
    ))
}
