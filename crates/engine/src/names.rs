//! The links of `/etc/vz/names`, put right after somebody has edited `NAME` in a `ve.conf`.
//!
//! `NAME` is the truth, a link only finds it fast. The new name is linked before the old link goes, and a name without a link is found by a look at
//! every `ve.conf`: at no moment is a container without a name that leads to it.

use std::collections::BTreeSet;

use store::registry::Holder;
use store::{Area, AreaError, ContainerId, ContainerName, NumericId, Prefix, RegistryError, registry};

use crate::error::{Code, Failure, Result};
use crate::host::Container;

/// Has the container's name lead to it, and no other any more. Nothing is looked for when its name does so already, unless `is_thorough`.
///
/// # Errors
/// [`Code::BadName`] when another container is called the same, or has its number.
pub fn put_right(container: &Container<'_>, is_thorough: bool) -> Result<()> {
    // The name is put right all the same.
    let number = put_number_right(container, is_thorough);
    put_name_right(container, is_thorough)?;
    number
}

fn put_name_right(container: &Container<'_>, is_thorough: bool) -> Result<()> {
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

/// The same of its number, should somebody have edited `VEID`. One that another container has, too, is left to that one, and told.
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
    registry::unlink_numbers_of(prefix, id, number)?;
    let Some(number) = number else { return Ok(()) };
    is_its_alone(prefix, id, &number.to_string()).map_err(|failure| {
        failure.state(format!("each is reached by its UUID, and none that is to be changed by `{number}`"))
    })?;
    match registry::link_number(prefix, number, id) {
        // A file of its own: the number leads to it all the same.
        Err(RegistryError::NotALink { .. }) => Ok(()),
        other => Ok(other?),
    }
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

/// Refuses a name or a number that another container claims, too: nobody knows which one is meant. A UUID, and a start of something, are fine.
///
/// # Errors
/// [`Code::BadName`].
pub fn is_its_alone(prefix: &Prefix, id: &ContainerId, words: &str) -> Result<()> {
    let is_its_word = Area::open_unchecked(prefix, id).is_ok_and(|area| {
        area.name().is_ok_and(|own| own.is_some_and(|own| own.as_str() == words))
            || area.numeric_id().is_some_and(|own| own.to_string() == words)
    });
    if !is_its_word {
        return Ok(());
    }
    match registry::holders(prefix, words)? {
        holders if holders.iter().any(|(holder, _)| holder != id) => Err(claimed(words, &holders)),
        _ => Ok(()),
    }
}

/// A word that is not one container's alone, with nothing changed.
pub(crate) fn claimed(words: &str, holders: &[Holder]) -> Failure {
    let keys: BTreeSet<&str> = holders.iter().map(|(_, key)| *key).collect();
    let because = match (keys.first(), keys.len()) {
        (Some(key), 1) => {
            let ids: Vec<String> = holders.iter().map(|(id, _)| id.braced()).collect();
            let both = if ids.len() == 2 { "both" } else { "all" };
            format!("{} {both} have it as {key}", ids.join(" and "))
        }
        _ => {
            let each = holders.iter().map(|(id, key)| format!("{} has it as {key}", id.braced()));
            each.collect::<Vec<_>>().join(", ")
        }
    };
    let keys: Vec<&str> = keys.into_iter().collect();
    let how_many = if holders.len() == 2 { "two containers are" } else { "more than one container is" };
    Failure::new(Code::BadName, format!("{how_many} called `{words}`")).because(because).unchanged().hint(
        format!(
            "name the one that is meant by its UUID, and give the other another {} in its ve.conf",
            keys.join(" or ")
        ),
    )
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
