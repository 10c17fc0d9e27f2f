//! `prlctl set`

use engine::addresses::AddressChange;
use engine::operation::set::{Options, set};
use engine::operation::user_password::Given;
use engine::settings::{self, Change};
use engine::{Code, Failure, Result};
use serde_json::json;

use super::{devices, done, host};
use crate::arguments::{Set, Settings};
use crate::password;

/// Sets something of a container.
///
/// # Errors
/// [`engine::Failure`], with nothing changed.
pub fn run(arguments: &Set) -> Result<u8> {
    let mut changes = understood(&arguments.settings)?;
    if let Some(name) = &arguments.name {
        changes.push(settings::read("--name", name).map_err(Failure::unchanged)?);
    }
    let addresses = AddressChange::read(&arguments.settings.ipadd, &arguments.ipdel)?;
    let is_kept = !arguments.no_save;
    let attachments = devices::understood(&arguments.settings.bindmount_add, &arguments.devices)?;
    let mut options = Options {
        sample: arguments.applyconfig.clone(),
        changes,
        addresses,
        attachments,
        password: None,
        is_kept,
    };
    if options.sample.is_none()
        && options.changes.is_empty()
        && options.addresses.is_empty()
        && options.attachments.is_empty()
        && arguments.settings.userpasswd.is_none()
    {
        return Err(Failure::new(Code::BadOption, "nothing is to be set")
            .because("there is no option that sets anything")
            .unchanged()
            .hint("`prlctl set --help` lists what can be set"));
    }
    let host = host(arguments.common.lock_wait, arguments.common.json)?;
    host.not_begun(&format!("cannot set `{}`", tree::escaped(arguments.container.as_bytes())));
    // Before the container is locked: somebody may take his time to type it.
    options.password =
        password::of_settings(&host, &arguments.settings, &arguments.container, arguments.common.json)?;
    let container = host.open(&arguments.container)?;
    let recording = host.recording(container.id(), &container.name, "set", None);
    let result = set(&container, &options);
    recording.end_with(&result);
    let report = result?;
    for warning in &report.warnings {
        host.warning(warning);
    }
    if let (Some(given), Some(Given::ToNew)) = (&options.password, report.password) {
        host.note(&format!("`{}` was not there, and has been made", tree::escaped(given.user().as_bytes())));
    }
    let changed: serde_json::Map<_, _> =
        report.changed.iter().map(|(key, value)| (key.clone(), json!(value))).collect();
    Ok(done(
        arguments.common.json,
        "The CT has been successfully configured.",
        json!({ "result": "set", "uuid": container.id().to_string(), "changed": changed, "warnings": report.warnings }),
    ))
}

/// Settings as they were typed, understood.
///
/// # Errors
/// [`Code::BadValue`] for the first that cannot be used.
pub fn understood(settings: &Settings) -> Result<Vec<Change>> {
    let said = settings.said();
    said.into_iter()
        .map(|(option, value)| settings::read(option, value).map_err(Failure::unchanged))
        .collect()
}
