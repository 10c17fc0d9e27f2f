//! Which user and group ids of the host a container's own are mapped to.
//!
//! Each container has 65,536 of its own, from 1,879,048,192 up: above what systemd-nspawn takes (524,288 to
//! 1,879,048,191), and skipping what `/etc/subuid` and `/etc/subgid` give to users. On disk ids are unshifted, so a
//! range can be changed while the container is stopped; two containers must never have the same.

use serde::{Deserialize, Serialize};

use crate::atomic::AtomicError;

/// The first id that is ever given to a container.
pub const LOWEST: u32 = 1_879_048_192;
/// Ids from 2^31 up are avoided: too many programs keep them in an `int`.
const END: u32 = 1 << 31;
/// How many a container has.
pub const COUNT: u32 = 65_536;

/// Ids `first .. first + count` of the host; `first` is the container's root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdRange {
    pub first: u32,
    pub count: u32,
}

/// No range can be given.
#[derive(Debug, thiserror::Error)]
pub enum IdRangeError {
    #[error("all ranges of 65536 ids from {LOWEST} to {} are in use", END - 1)]
    Exhausted,
    #[error("cannot read `{path}`")]
    Unreadable { path: &'static str, source: std::io::Error },
    #[error(transparent)]
    List(#[from] AtomicError),
}

impl IdRange {
    /// Whether it is one that is given to containers: a record that comes from elsewhere may say anything, also the host's own root.
    pub fn can_be_given(&self) -> bool {
        self.count == COUNT
            && self.first >= LOWEST
            && self.first < END
            && (self.first - LOWEST).is_multiple_of(COUNT)
    }

    pub fn overlaps(&self, other: &Self) -> bool {
        let end = |range: &Self| u64::from(range.first) + u64::from(range.count);
        u64::from(self.first) < end(other) && u64::from(other.first) < end(self)
    }

    /// The host's id for one of the container's; `None` where it has none.
    pub fn host_id(&self, container_id: u32) -> Option<u32> {
        if container_id < self.count { self.first.checked_add(container_id) } else { None }
    }
}

/// Which end of the region is looked at first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum From {
    Bottom,
    /// When some container's range cannot be read: those that were given so far lie at the bottom, so that the
    /// other end is where a second owner is least likely.
    Top,
}

pub(crate) fn first_free(used: &[IdRange], from: From) -> Option<IdRange> {
    let all = (0..(END - LOWEST) / COUNT).map(|n| IdRange { first: LOWEST + n * COUNT, count: COUNT });
    let is_free = |range: &IdRange| !used.iter().any(|other| other.overlaps(range));
    match from {
        From::Bottom => all.into_iter().find(is_free),
        From::Top => all.rev().find(is_free),
    }
}

/// The ranges in an `/etc/subuid` or `/etc/subgid` (`name:first:count`); other lines are skipped, as shadow does.
pub(crate) fn parse_subordinate(bytes: &[u8]) -> Vec<IdRange> {
    String::from_utf8_lossy(bytes)
        .lines()
        .filter_map(|line| {
            let mut fields = line.trim().split(':').skip(1);
            let first = fields.next()?.parse().ok()?;
            let count = fields.next()?.parse().ok()?;
            Some(IdRange { first, count })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nth(n: u32) -> IdRange {
        IdRange { first: LOWEST + n * COUNT, count: COUNT }
    }

    #[test]
    fn gives_the_first_hole() {
        assert_eq!(first_free(&[], From::Bottom), Some(nth(0)));
        assert_eq!(first_free(&[nth(0), nth(2)], From::Bottom), Some(nth(1)));
        assert_eq!(first_free(&[nth(0), nth(2)], From::Top), Some(nth(4095)));
    }

    #[test]
    fn skips_a_range_of_subuid_that_covers_only_an_edge() {
        let subuid = parse_subordinate(b"# comment\nuser:100000:65536\nodd\nanna:1879113727:2\n");
        assert_eq!(subuid.len(), 2);
        assert_eq!(first_free(&subuid, From::Bottom), Some(nth(2)));
    }

    #[test]
    fn says_when_there_is_none() {
        assert_eq!(first_free(&[IdRange { first: 0, count: u32::MAX }], From::Bottom), None);
    }

    #[test]
    fn maps_only_ids_that_the_container_has() {
        assert_eq!(nth(1).host_id(33), Some(LOWEST + COUNT + 33));
        assert_eq!(nth(1).host_id(COUNT), None);
    }
}
