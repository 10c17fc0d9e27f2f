//! A directory that the host's filesystem counts, and that has an end: project quotas of ext4 and xfs.
//!
//! The project is `generations/` and all that is made in it: every root of the container, whichever is live, and in the trash until it is emptied. Its number is one of
//! the container's ids, the first of which nothing is counted: whoever had them before may lie in the trash still. What had been made before the directory was of a project is not of it, so that is made at the beginning, or as layers leave
//! an image.

use std::os::fd::AsFd as _;

use linux::{ProjectLimits, ProjectUse};

use crate::area::{Area, AreaError};
use crate::atomic;
use crate::disk_space::DiskSpace;
use crate::prefix::Prefix;
use crate::volume::Volume;

/// Whether the filesystem of the private areas counts directories, and keeps them from taking more.
pub fn is_kept(prefix: &Prefix) -> bool {
    atomic::open_directory(&prefix.private_dir())
        .is_ok_and(|directory| linux::keeps_project_limits(&directory))
}

impl DiskSpace {
    fn limits(&self) -> ProjectLimits {
        ProjectLimits { bytes: self.bytes, inodes: self.inodes }
    }
}

impl Area {
    /// Has what is made in `generations/` from now on counted, with that end. The directories of generations that are there are counted too, what is in them is not.
    pub fn begin_project(&self, space: &DiskSpace) -> Result<(), AreaError> {
        let failed = |source| AreaError::Unreadable { path: self.path().to_owned(), source };
        let ids = self.record()?.id_range;
        let generations = self.generations_handle()?;
        let is_unused = |project: &u32| {
            linux::project_use(&generations, *project)
                .map_or(true, |found| found.inodes == 0 && found.bytes == 0)
        };
        let own = linux::project_below(&generations).ok().flatten();
        let project = own.or_else(|| (ids.first..ids.first + ids.count).find(is_unused)).unwrap_or(ids.first);
        // A death on the way leaves an area that is swept, or one whose layers are on its image still and whose next move begins this again: the end comes last,
        // and nothing is made in here before it.
        for number in self.generation_numbers()? {
            linux::begin_project(self.generation_handle(number)?, project).map_err(failed)?;
        }
        linux::begin_project(&generations, project).map_err(failed)?;
        linux::limit_project(&generations, project, &space.limits()).map_err(failed)
    }

    /// What is counted of a container that lies in a directory, and its end; `None`: nobody counts.
    pub fn project(&self) -> Option<ProjectUse> {
        if self.volume() != Volume::Directory {
            return None;
        }
        let generations = self.generations_handle().ok()?;
        let project = linux::project_below(&generations).ok()??;
        // Limits that are written down and not kept are none.
        if !linux::keeps_project_limits(&generations) {
            return None;
        }
        linux::project_use(&generations, project).ok()
    }

    /// Gives it another end, at once.
    pub fn limit_project(&self, space: &DiskSpace) -> Result<(), AreaError> {
        let failed = |source| AreaError::Unreadable { path: self.path().to_owned(), source };
        let generations = self.generations_handle()?;
        let Some(project) = linux::project_below(&generations).map_err(failed)? else { return Ok(()) };
        linux::limit_project(generations.as_fd(), project, &space.limits()).map_err(failed)
    }
}
