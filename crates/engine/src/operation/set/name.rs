//! What is one container's alone: its name, and what of a network is nobody else's.

use store::{Conf, ContainerName, FORWARDS, Forward, Interface, Lock, registry};

use super::Options;
use crate::addresses::are_still_free;
use crate::error::{Code, Failure, Result};
use crate::host::Container;
use crate::operation::create::name_is_taken;
use crate::settings::Change;

/// The new name, if it is another, linked to the container already: of two that want it at once one is refused. A death after this leaves a link
/// that the container's own `NAME` does not bear out: `recover` removes it.
///
/// # Errors
/// [`Code::BadName`].
pub fn claim(container: &Container<'_>, old: &Conf, changes: &[Change]) -> Result<Option<ContainerName>> {
    let Some(change) = changes.iter().find(|change| change.key == "NAME") else { return Ok(None) };
    if old.get("NAME").as_ref() == Some(&change.value) {
        return Ok(None);
    }
    let name: ContainerName = change.value.parse().map_err(|error: store::NameError| {
        Failure::new(Code::BadName, "that cannot be a container's name").caused_by(&error)
    })?;
    let _lock = container.host.lock_host()?;
    let prefix = &container.host.prefix;
    let holders = registry::linked(prefix, &name)?.into_iter().chain(registry::named(prefix, &name)?);
    if let Some(holder) = holders.into_iter().find(|holder| holder != container.id()) {
        return Err(name_is_taken(&name, &holder));
    }
    if let Ok(number) = name.as_str().parse()
        && let Some(holder) = registry::numbered(prefix, number)?.filter(|holder| holder != container.id())
    {
        return Err(name_is_taken(&name, &holder));
    }
    registry::link_name(prefix, &name, container.id())?;
    Ok(Some(name))
}

/// The same of what it has of a network besides what it had: found free once more, under the lock under which it is then written.
///
/// # Errors
/// [`Code::AddressInUse`].
pub fn claim_the_rest(container: &Container<'_>, options: &Options, new: &Conf) -> Result<Option<Lock>> {
    let has_forwards = options.changes.iter().any(|change| change.key == FORWARDS);
    let forwards = if has_forwards { Forward::all(new).unwrap_or_default() } else { Vec::new() };
    let has_interfaces = !options.interfaces.is_empty();
    let interfaces = if has_interfaces { Interface::all(new).unwrap_or_default() } else { Vec::new() };
    if options.addresses.add.is_empty() && forwards.is_empty() && interfaces.is_empty() {
        return Ok(None);
    }
    let (host, id) = (container.host, container.id());
    let lock = host.lock_host()?;
    are_still_free(host, id, &options.addresses.add, &forwards, &interfaces)?;
    Ok(Some(lock))
}
