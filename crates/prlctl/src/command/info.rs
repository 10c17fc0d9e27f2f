//! `prlctl info`

use engine::Result;
use runtime::kernel::{features, release};
use serde_json::json;

use crate::arguments::Info;
use crate::command::prefix;
use crate::output;

/// Tells what this host can do. Needs no root: without it, that is what is missing.
///
/// # Errors
/// When the prefix is no directory.
pub fn run(arguments: &Info) -> Result<u8> {
    let prefix = prefix()?;
    let directory =
        if prefix.private_dir().is_dir() { prefix.private_dir() } else { prefix.root().to_owned() };
    let features = features(&directory);
    let file_system = prefix.file_system()?;
    let is_able = features.iter().all(|feature| !feature.is_required || feature.missing.is_none());
    if arguments.json {
        output::json(&json!({
            "version": env!("CARGO_PKG_VERSION"),
            "kernel": release(),
            "prefix": prefix.root(),
            "file_system": file_system,
            "features": features,
            "can_run_containers": is_able,
        }));
    } else {
        output::line(&format!("prlctl {} on Linux {}", env!("CARGO_PKG_VERSION"), release()));
        output::line(&format!("{} lies on {file_system}", directory.display()));
        for feature in &features {
            let state = match (&feature.missing, feature.is_required) {
                (None, _) => "yes".to_owned(),
                (Some(because), true) => format!("MISSING: {because}"),
                (Some(because), false) => format!("no ({because}); containers run without it"),
            };
            output::line(&format!("  {:<76} {state}", feature.name));
        }
        output::line(if is_able { "containers can run here" } else { "containers cannot run here" });
    }
    Ok(if is_able { 0 } else { engine::Code::Unsupported.exit() })
}
