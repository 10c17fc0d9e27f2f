//! One entry of an archive, before anything is made of it.

use tree::Properties;

/// What an entry says that there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File {
        /// How long it is in the end, in bytes.
        size: u64,
        /// Where the data that follows goes: offset and length.
        segments: Vec<(u64, u64)>,
    },
    /// One more name of another entry.
    HardLink(Vec<u8>),
    /// A symlink to this.
    Symlink(Vec<u8>),
    /// A directory.
    Directory,
    /// A FIFO.
    Fifo,
    /// A device node, which no template has.
    Device,
}

/// An entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// As the archive has it: it may be absolute, lead upwards, or be empty.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Owner, mode, times, attributes; access lists among them only where [`Entry::lists`] has none.
    pub properties: Properties,
    /// Access lists as text, of access and of default, which name users and groups.
    pub lists: [Option<Vec<u8>>; 2],
    /// Who the owner is called.
    pub user: Vec<u8>,
    /// What the group is called.
    pub group: Vec<u8>,
}
