//! The links of `/etc/vz/names`, put right after somebody has edited `NAME` in a `ve.conf`.
//!
//! `NAME` is the truth, a link only finds it fast. The new name is linked before the old link goes, and a name without a link is found by a look at
//! every `ve.conf`: at no moment is a container without a name that leads to it.

use store::{Area, AreaError, ContainerName, NumericId, Prefix, RegistryError, registry};

use crate::error::{Code, Failure, Result};
use crate::host::Container;

/// Has the container's name lead to it, and no other any more. Nothing is looked for when its name does so already, unless `is_thorough`.
///
/// # Errors
/// [`Code::BadName`] when another container is called the same.
pub fn put_right(container: &Container<'_>, is_thorough: bool) -> Result<()> {
    put_number_right(container, is_thorough)?;
    // A damaged configuration tells no name, and keeps the links that it has.
    let Ok(Some(name)) = container.area.name() else { return Ok(()) };
    let (prefix, id) = (&container.host.prefix, container.id());
    let is_linked = registry::linked(prefix, &name).is_ok_and(|holder| holder == Some(*id));
    if is_linked && !is_thorough {
        return Ok(());
    }
    let _lock = container.host.lock_host()?;
    if !is_linked {
        link(container, &name)?;
    }
    for (other, holder) in registry::names(prefix)? {
        if holder == *id && other != name {
            registry::unlink_name(prefix, &other, id)?;
        }
    }
    Ok(())
}

/// The same of its number, should somebody have edited `VEID`. One that another container has, too, is left to that one: both have a name and a UUID.
fn put_number_right(container: &Container<'_>, is_thorough: bool) -> Result<()> {
    let (prefix, id) = (&container.host.prefix, container.id());
    let number = container.area.numeric_id();
    let is_linked = match number {
        Some(number) => registry::numbered(prefix, number)? == Some(*id) && is_conf_link(prefix, number),
        None => true,
    };
    if is_linked && !is_thorough {
        return Ok(());
    }
    let _lock = container.host.lock_host()?;
    if let Some(number) = number
        && registry::numbered(prefix, number)? == Some(*id)
    {
        match registry::link_number(prefix, number, id) {
            // A file of its own: the number leads to it all the same.
            Err(RegistryError::NotALink { .. }) => {}
            other => other?,
        }
    }
    Ok(registry::unlink_numbers_of(prefix, id, number)?)
}

fn is_conf_link(prefix: &Prefix, number: NumericId) -> bool {
    std::fs::symlink_metadata(prefix.conf_dir().join(format!("{number}.conf"))).is_ok()
}

/// Tells of a `NAME` that is none: what somebody has edited would else be ignored without a word.
pub fn warn_of_no_name(container: &Container<'_>) {
    if let Err(error @ AreaError::BadName { .. }) = container.area.name() {
        container.host.warning(&format!(
            "{}, and is ignored: until it is corrected in an editor, name it {}",
            runtime::monitor::describe(&error),
            container.id()
        ));
    }
}

/// Refuses a name that another container claims too: nobody knows which one is meant.
///
/// # Errors
/// [`Code::BadName`].
pub fn is_its_alone(container: &Container<'_>) -> Result<()> {
    let Ok(Some(name)) = container.area.name() else { return Ok(()) };
    match registry::named(&container.host.prefix, &name)?.iter().find(|id| *id != container.id()) {
        None => Ok(()),
        Some(other) => Err(Failure::new(Code::BadName, format!("two containers are called `{name}`"))
            .because(format!("{} and {} both have it as NAME", container.id().braced(), other.braced()))
            .unchanged()
            .hint("name the one that is meant by its UUID, and give the other another NAME in its ve.conf")),
    }
}

fn link(container: &Container<'_>, name: &ContainerName) -> Result<()> {
    let (prefix, id) = (&container.host.prefix, container.id());
    match registry::link_name(prefix, name, id) {
        Err(RegistryError::NameTaken { holder, .. }) => {
            // A damaged configuration tells no name, and keeps the links that it has.
            let is_its_own = Area::open_unchecked(prefix, &holder)
                .and_then(|area| area.name())
                .map_or(true, |own| own.is_none_or(|own| own == *name));
            if is_its_own {
                return Err(Failure::new(Code::BadName, format!("two containers are called `{name}`"))
                    .because(format!("{} and {} both have it as NAME", holder.braced(), id.braced()))
                    .state(format!("`{name}` means {}; the other is reached by its UUID", holder.braced()))
                    .hint(format!("correct NAME in {}", container.area.path().join("ve.conf").display())));
            }
            // What it was called before.
            registry::unlink_name(prefix, name, &holder)?;
            Ok(registry::link_name(prefix, name, id)?)
        }
        other => Ok(other?),
    }
}
