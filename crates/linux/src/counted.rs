//! What a filesystem counts of a part of it, whoever does: a project of ext4 or xfs, a subvolume of btrfs.

/// How much there may be of what is counted; `None`: as much as there is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SpaceLimits {
    /// Bytes, whole KiB.
    pub bytes: Option<u64>,
    /// Files, directories, links: whatever has an inode. Of a subvolume they are not counted.
    pub inodes: Option<u64>,
}

/// What is counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SpaceUse {
    /// Bytes.
    pub bytes: u64,
    /// As in [`SpaceLimits`].
    pub inodes: u64,
    /// How much of it there may be.
    pub limits: SpaceLimits,
}
