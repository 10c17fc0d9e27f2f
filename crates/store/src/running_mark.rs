//! `running` in a private area: whether the container ran when the host went down, which is what `ONBOOT="auto"` asks.
//!
//! An empty file. It is there from a start on, and goes with a stop that somebody has wanted, be it from inside; of a host that goes down, or that has lost its
//! power, nobody has, and it stays. Whether a container runs *now* is never asked of it.
//! It is made and removed without the container's lock, by a monitor above all: it is a file of its own, that nobody reads before the host comes up.

use std::io;
use std::os::fd::AsFd as _;

use rustix::fs::{AtFlags, statat};

use crate::area::{Area, AreaError};
use crate::atomic;
use crate::identity::ContainerId;
use crate::prefix::Prefix;

const FILE: &str = "running";

impl Area {
    /// It runs, and is started again should the host go down. Durable when this returns.
    pub fn mark_running(&self) -> Result<(), AreaError> {
        if self.is_marked_running() {
            return Ok(());
        }
        match atomic::create_at(self.handle(), FILE, b"", 0o600) {
            Ok(()) => Ok(atomic::fsync_dir(self.handle())?),
            // Somebody else has meanwhile.
            Err(_) if self.is_marked_running() => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// It is stopped, as somebody would have it. Durable when this returns.
    pub fn unmark_running(&self) -> Result<(), AreaError> {
        if !self.is_marked_running() {
            return Ok(());
        }
        Ok(atomic::remove_file_at(self.handle(), FILE)?)
    }

    /// It ran when the host went down, or runs.
    pub fn is_marked_running(&self) -> bool {
        statat(self.handle(), FILE, AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }
}

/// As [`Area::unmark_running`], for one that knows of an area no more than where it is.
pub fn unmark_running(prefix: &Prefix, id: &ContainerId) -> io::Result<()> {
    let area = atomic::open_directory(&prefix.area_dir(id)).map_err(io::Error::other)?;
    match statat(&area, FILE, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(_) => atomic::remove_file_at(area.as_fd(), FILE).map_err(io::Error::other),
        Err(_) => Ok(()),
    }
}
