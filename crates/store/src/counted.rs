//! A part of the host's filesystem that is counted, and that has an end: a directory by the project quotas of ext4 and xfs, a subvolume by its qgroup.
//!
//! The project is `generations/` and all that is made in it: every root of the container, whichever is live, and in the trash until it is emptied. Its number is one of
//! the container's ids, the first of which nothing is counted: whoever had them before may lie in the trash still. What had been made before the directory was of a project is not of it, so that is made at the beginning, or as layers leave
//! an image.
//!
//! A subvolume is counted from the moment in which the filesystem counts any.

use std::os::fd::AsFd as _;

use linux::{SpaceLimits, SpaceUse};

use crate::area::{Area, AreaError};
use crate::atomic;
use crate::disk_space::DiskSpace;
use crate::prefix::Prefix;
use crate::volume::Volume;

/// Whether the filesystem of the private areas counts what lies on such a volume, and keeps it from taking more.
pub fn is_kept(prefix: &Prefix, volume: Volume) -> bool {
    atomic::open_directory(&prefix.private_dir()).is_ok_and(|directory| match volume {
        Volume::Directory => linux::keeps_project_limits(&directory),
        Volume::Btrfs => linux::keeps_subvolume_limits(&directory),
        Volume::Image => false,
    })
}

/// Whether subvolumes can be made where the private areas lie.
pub fn has_subvolumes(prefix: &Prefix) -> bool {
    atomic::open_directory(&prefix.private_dir()).is_ok_and(linux::is_btrfs)
}

impl DiskSpace {
    fn limits(&self) -> SpaceLimits {
        SpaceLimits { bytes: self.bytes, inodes: self.inodes }
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

    /// What is counted of a container that lies in a directory or on a subvolume, and its end; `None`: nobody counts.
    pub fn counted(&self) -> Option<SpaceUse> {
        match self.volume() {
            Volume::Directory => {
                let generations = self.generations_handle().ok()?;
                let project = linux::project_below(&generations).ok()??;
                // Limits that are written down and not kept are none.
                if !linux::keeps_project_limits(&generations) {
                    return None;
                }
                linux::project_use(&generations, project).ok()
            }
            Volume::Btrfs => linux::subvolume_use(self.layers_top().ok()?).ok(),
            Volume::Image => None,
        }
    }

    /// Whether it lies in a directory that is counted, kept or not.
    pub fn is_counted_as_project(&self) -> bool {
        self.volume() == Volume::Directory
            && self.generations_handle().is_ok_and(|top| matches!(linux::project_below(&top), Ok(Some(_))))
    }

    /// Gives it another end, at once.
    pub fn limit(&self, space: &DiskSpace) -> Result<(), AreaError> {
        let failed = |source| AreaError::Unreadable { path: self.path().to_owned(), source };
        match self.volume() {
            Volume::Directory => self.limit_project(space),
            Volume::Btrfs => linux::limit_subvolume(self.layers_top()?, space.bytes).map_err(failed),
            Volume::Image => Ok(()),
        }
    }

    /// Gives the subvolume that is to become the container's its end.
    pub fn limit_staged_subvolume(&self, space: &DiskSpace) -> Result<(), AreaError> {
        let path = self.staged_subvolume();
        let staged = atomic::open_directory(&path)?;
        linux::limit_subvolume(staged, space.bytes).map_err(|source| AreaError::Unreadable { path, source })
    }

    /// Lets what is left of a directory whose layers are elsewhere now be as large as it likes: records.
    pub fn end_project(&self) {
        // Where nothing was counted, nothing is to be ended.
        let _ = self.limit_project(&DiskSpace::default());
    }

    fn limit_project(&self, space: &DiskSpace) -> Result<(), AreaError> {
        let failed = |source| AreaError::Unreadable { path: self.path().to_owned(), source };
        let generations = self.generations_handle()?;
        let Some(project) = linux::project_below(&generations).map_err(failed)? else { return Ok(()) };
        linux::limit_project(generations.as_fd(), project, &space.limits()).map_err(failed)
    }
}
