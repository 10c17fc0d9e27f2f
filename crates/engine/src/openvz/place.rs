//! Whether a directory may be read as somebody's root: not one of ours, and not in use as far as this host can know.

use std::path::Path;

use crate::error::{Code, Failure, Result, system};
use crate::host::Host;

/// Refuses an area that lies among ours, that has ours in it, or that is in use.
///
/// # Errors
/// [`Code::BadValue`]; [`Code::Mounted`].
pub fn check(host: &Host, area: &Path) -> Result<()> {
    let shown = tree::escaped_path(area);
    let prefix = &host.prefix;
    for ours in [prefix.private_dir(), prefix.template_dir(), prefix.root().join("vz/root"), prefix.run_dir()]
    {
        let Ok(ours) = std::fs::canonicalize(&ours) else { continue };
        let because = if area.starts_with(&ours) {
            format!("it lies in {}, where everything is made and removed by this program", ours.display())
        } else if ours.starts_with(area) {
            format!("{} lies in it: a copy of it would have itself in it", ours.display())
        } else {
            continue;
        };
        return Err(Failure::new(Code::BadValue, format!("`{shown}` cannot be registered from there"))
            .because(because)
            .unchanged()
            .hint("move it to a directory of its own, such as /vz/old"));
    }
    in_use(area)
}

/// Refuses what the mounts of this host show to be in use.
///
/// # Errors
/// [`Code::Mounted`].
pub fn in_use(area: &Path) -> Result<()> {
    let found =
        runtime::foreign::use_of(area).map_err(|error| system("cannot read what is mounted", &error))?;
    match found {
        None => Ok(()),
        Some(because) => {
            Err(Failure::new(Code::Mounted, format!("`{}` is in use", tree::escaped_path(area)))
                .because(because)
                .unchanged()
                .hint("stop what uses it, and unmount that"))
        }
    }
}
