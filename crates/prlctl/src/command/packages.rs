//! `vzpkg install`, and `vzpkg remove`, `update` and `list` of a container

use engine::Result;
use engine::host::damaged;
use engine::operation::applications::{self, Action};
use serde_json::json;
use store::Area;

use super::{done, host};
use crate::arguments::{Common, InstallPackages};
use crate::output;

/// Installs packages in a container, and remembers them.
///
/// # Errors
/// [`engine::Failure`].
pub fn install(arguments: &InstallPackages) -> Result<u8> {
    let InstallPackages { container, packages, timeout, common } = arguments;
    change(Action::Install, container, packages, *timeout, common)
}

/// Has the package manager of a container do something.
///
/// # Errors
/// [`engine::Failure`]; what the container is known to have is as it was.
pub fn change(action: Action, words: &str, packages: &[String], timeout: u64, common: &Common) -> Result<u8> {
    let (operation, past, infinitive) = match action {
        Action::Install => ("packages-install", "installed", "install"),
        Action::Remove => ("packages-remove", "removed", "remove"),
        Action::Update => ("packages-update", "updated", "update"),
    };
    let host = host(common.lock_wait, common.json)?;
    host.not_begun(&format!("cannot {infinitive} packages in `{}`", tree::escaped(words.as_bytes())));
    let container = host.open(words)?;
    let recording = host.recording(container.id(), &container.name, operation, None);
    let result = applications::change(&container, action, packages, timeout);
    recording.end_with(&result);
    let listed = result?;
    let said = format!("The packages of `{}` have been successfully {past}.", container.name);
    let value = json!({ "result": past, "name": container.name, "packages": packages, "templates": listed });
    Ok(done(common.json, &said, value))
}

/// Lists what was installed in a container, and will be at every reinstall.
///
/// # Errors
/// [`engine::Failure`].
pub fn list(words: &str, is_json: bool, has_header: bool) -> Result<u8> {
    let host = host(0, is_json)?;
    let id = host.find(words)?;
    let area = Area::open(&host.prefix, &id).map_err(|error| damaged(error, words))?;
    let conf = area.conf().map_err(|error| damaged(error, words))?;
    let templates = conf.get(applications::KEY).unwrap_or_default();
    let names: Vec<&str> = templates.split_whitespace().collect();
    if is_json {
        output::json(&json!({ "uuid": id.to_string(), "templates": names }));
        return Ok(0);
    }
    let rows: Vec<Vec<String>> = names.iter().map(|name| vec![tree::escaped(name.as_bytes())]).collect();
    output::table(has_header.then_some(&["PACKAGE"]), &[], &rows);
    Ok(0)
}
