//! What a node that has just been made is given: owner, mode, attributes, times.

use std::ffi::CStr;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{self, AtFlags, Gid, Mode, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use super::{Moment, Properties, UnpackError, failed};
use crate::node::{self, own_path};
use crate::transfer::ACCESS_LIST;
use crate::write::Owned;

/// The same of a regular file that is new and open for writing; a list can have come to it from its directory alone.
pub(super) fn give_to_file(
    made: &File,
    properties: &Properties,
    may_have_list: bool,
) -> Result<(), UnpackError> {
    let Properties { mode, uid, gid, .. } = *properties;
    Owned { mode, uid, gid }.give(made).map_err(failed("give its owner to"))?;
    if may_have_list && !properties.attributes.contains_key(ACCESS_LIST) {
        match fs::fremovexattr(made, ACCESS_LIST) {
            // Its mask stood where the group's permissions do.
            Ok(()) => {
                fs::fchmod(made, Mode::from_raw_mode(mode & 0o7777)).map_err(failed("give its mode to"))?
            }
            Err(Errno::NODATA | Errno::NOTSUP) => {}
            Err(error) => return Err(failed("take attributes from")(error)),
        }
    }
    for (name, value) in &properties.attributes {
        fs::fsetxattr(made, name, value, fs::XattrFlags::empty())
            .map_err(failed("give its attributes to"))?;
    }
    Ok(())
}

/// Owner, mode and attributes of what is open. The owner first, since a change of owner clears setuid and capabilities.
pub(super) fn give(made: impl AsFd, properties: &Properties, may_be_old: bool) -> Result<(), UnpackError> {
    let Properties { mode, uid, gid, .. } = *properties;
    Owned { mode, uid, gid }.give(&made).map_err(failed("give its owner to"))?;
    let path = own_path(made.as_fd());
    if may_be_old {
        for (name, _) in node::attributes(&made).map_err(failed("read the attributes of"))? {
            if !properties.attributes.contains_key(&name) {
                remove_attribute(&path, &name)?;
            }
        }
    }
    set_attributes(&path, properties)
}

fn remove_attribute(path: &str, name: &CStr) -> Result<(), UnpackError> {
    match fs::removexattr(path, name) {
        Ok(()) | Err(Errno::NODATA | Errno::NOTSUP) => Ok(()),
        Err(error) => Err(failed("take attributes from")(error)),
    }
}

fn set_attributes(path: &str, properties: &Properties) -> Result<(), UnpackError> {
    if !properties.attributes.contains_key(ACCESS_LIST) {
        // A directory with a default list gives one to whatever is made in it, and its mask stands where the group's permissions do.
        match fs::removexattr(path, ACCESS_LIST) {
            Ok(()) => {
                fs::chmod(path, Mode::from_raw_mode(properties.mode & 0o7777))
                    .map_err(failed("give its mode to"))?;
            }
            Err(Errno::NODATA | Errno::NOTSUP) => {}
            Err(error) => return Err(failed("take attributes from")(error)),
        }
    }
    for (name, value) in &properties.attributes {
        fs::setxattr(path, name, value, fs::XattrFlags::empty()).map_err(failed("give its attributes to"))?;
    }
    Ok(())
}

/// Of a link or a FIFO, which is not opened.
pub(super) fn finish(
    parent: BorrowedFd<'_>,
    name: &CStr,
    properties: &Properties,
    has_mode: bool,
) -> Result<(), UnpackError> {
    let (made, _) = node::hold(parent, name).map_err(failed("look at"))?;
    let path = own_path(made.as_fd());
    let (uid, gid) = (Uid::from_raw(properties.uid), Gid::from_raw(properties.gid));
    fs::chownat(&made, c"", Some(uid), Some(gid), AtFlags::EMPTY_PATH)
        .map_err(failed("give its owner to"))?;
    if has_mode {
        fs::chmod(&path, Mode::from_raw_mode(properties.mode & 0o7777))
            .map_err(failed("give its mode to"))?;
        set_attributes(&path, properties)?;
    } else {
        for (name, value) in &properties.attributes {
            fs::setxattr(&path, name, value, fs::XattrFlags::empty())
                .map_err(failed("give its attributes to"))?;
        }
    }
    fs::utimensat(&made, c"", &times(properties), AtFlags::EMPTY_PATH).map_err(failed("give its times to"))
}

pub(super) fn times(properties: &Properties) -> Timestamps {
    let time = |(seconds, nanoseconds): Moment| Timespec { tv_sec: seconds, tv_nsec: nanoseconds.into() };
    let accessed = properties.accessed.unwrap_or(properties.modified);
    Timestamps { last_access: time(accessed), last_modification: time(properties.modified) }
}
