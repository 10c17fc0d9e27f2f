//! Owners as a mount wants them that shows a container's ids as the host has them.
//!
//! On the disk a container's root is 0. Through an overlay whose layers are mapped it is the first id of its range: whoever writes there gives owners,
//! those in access lists, and the one for whom a capability of a namespace counts, in the ids of the host.

use crate::node::Facts;
use rustix::io::Errno;
use std::ffi::{CStr, CString};

const LISTS: [&CStr; 2] = [c"system.posix_acl_access", c"system.posix_acl_default"];
const CAPABILITY: &CStr = c"security.capability";
/// linux/capability.h: the revision in the last byte of the magic number, and the length: of one that counts for the host's root, and for another's.
const OF_THE_HOST: (u8, usize) = (2, 20);
const OF_A_NAMESPACE: (u8, usize) = (3, 24);
/// linux/posix_acl_xattr.h: a version, then tag, permissions and id of each entry; of these tags the id means something.
const HEADER: usize = 4;
const ENTRY: usize = 8;
const NAMED: [u16; 2] = [0x02, 0x08];

/// How ids on the disk become those to write.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct IdShift {
    /// The id on the host that 0 is, and how many there are; `None`: they are the same.
    range: Option<(u32, u32)>,
}

impl IdShift {
    /// To a range of `count` ids that begins at `first`.
    pub fn to_range(first: u32, count: u32) -> IdShift {
        IdShift { range: Some((first, count)) }
    }

    fn id(self, id: u32) -> Result<u32, Errno> {
        match self.range {
            None => Ok(id),
            Some((first, count)) if id < count => first.checked_add(id).ok_or(Errno::OVERFLOW),
            Some(_) => Err(Errno::OVERFLOW),
        }
    }

    pub(crate) fn facts(self, facts: &Facts) -> Result<Facts, Errno> {
        Ok(Facts { uid: self.id(facts.uid)?, gid: self.id(facts.gid)?, ..*facts })
    }

    pub(crate) fn attributes(
        self,
        mut attributes: Vec<(CString, Vec<u8>)>,
    ) -> Result<Vec<(CString, Vec<u8>)>, Errno> {
        if self.range.is_none() {
            return Ok(attributes);
        }
        for (name, value) in &mut attributes {
            if LISTS.contains(&name.as_c_str()) {
                self.access_list(value)?;
            } else if name.as_c_str() == CAPABILITY {
                self.capability(value)?;
            }
        }
        Ok(attributes)
    }

    /// One of the host's root is one of the container's there: the kernel takes it for a mapped layer only when it says whose root it means, and
    /// writes it as if `setcap` in the container had.
    fn capability(self, value: &mut Vec<u8>) -> Result<(), Errno> {
        let Some(revision) = value.get(3).copied() else { return Ok(()) };
        if (revision, value.len()) == OF_THE_HOST {
            value[3] = OF_A_NAMESPACE.0;
            value.extend_from_slice(&[0; 4]);
        }
        if (value[3], value.len()) == OF_A_NAMESPACE {
            self.little_endian(&mut value[OF_A_NAMESPACE.1 - 4..])?;
        }
        Ok(())
    }

    fn access_list(self, value: &mut [u8]) -> Result<(), Errno> {
        let entries = value.get_mut(HEADER..).unwrap_or_default();
        for entry in entries.chunks_exact_mut(ENTRY) {
            if NAMED.contains(&u16::from_le_bytes([entry[0], entry[1]])) {
                self.little_endian(&mut entry[4..])?;
            }
        }
        Ok(())
    }

    fn little_endian(self, bytes: &mut [u8]) -> Result<(), Errno> {
        let mut id = [0; 4];
        id.copy_from_slice(bytes);
        bytes.copy_from_slice(&self.id(u32::from_le_bytes(id))?.to_le_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_in_access_lists_and_capabilities_are_shifted_and_nothing_else() {
        let entry = |tag: u16, id: u32| [&tag.to_le_bytes()[..], &[7, 0], &id.to_le_bytes()].concat();
        let none = u32::MAX;
        let list = |user, group| {
            let entries = [entry(1, none), entry(2, user), entry(4, none), entry(8, group), entry(16, none)];
            [2u32.to_le_bytes().to_vec(), entries.concat()].concat()
        };
        let of_host = [&[1, 0, 0, 2][..], &[0; 16]].concat();
        let of_namespace = |root: u32| [&[1, 0, 0, 3][..], &[0; 16], &root.to_le_bytes()].concat();
        let all = |user, group, capabilities: [Vec<u8>; 2]| {
            let [one, other] = capabilities;
            vec![
                (c"security.capability".to_owned(), one),
                (c"security.capability".to_owned(), other),
                (c"system.posix_acl_access".to_owned(), list(user, group)),
                (c"user.note".to_owned(), b"1000".to_vec()),
            ]
        };
        let shift = IdShift::to_range(100_000, 65_536);
        let old = [of_host, of_namespace(7)];
        let new = [of_namespace(100_000), of_namespace(100_007)];
        assert_eq!(shift.attributes(all(33, 0, old.clone())), Ok(all(100_033, 100_000, new)));
        assert_eq!(IdShift::default().attributes(all(33, 0, old.clone())), Ok(all(33, 0, old.clone())));
        assert_eq!(shift.attributes(all(65_536, 0, old)), Err(Errno::OVERFLOW));
        // What no kernel writes is left as it is.
        let odd = vec![
            (c"system.posix_acl_access".to_owned(), vec![2]),
            (c"security.capability".to_owned(), vec![]),
        ];
        assert_eq!(shift.attributes(odd.clone()), Ok(odd));
    }
}
