//! The entries of one archive, or of one layer of an image, into a tree.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Read;
use std::path::Path;

use rustix::io::Errno;
use tree::{NewNode, Properties, Root, Unpack, UnpackError, Unpacked};

use crate::acl::{self, Who};
use crate::entry::{Entry, Kind};
use crate::error::ArchiveError;
use crate::tar::Reader;

/// Lists that name somebody, whose number is known only at the end, in bytes. No root has as many.
const MOST_LISTS: usize = 8 * 1024 * 1024;
/// Owners whose names are remembered.
const MOST_KNOWN: usize = 10_000;
/// No system takes a longer name.
const LONGEST_USER: usize = 256;
/// The kernel takes none of 64 KiB; in words it is longer.
const LONGEST_LIST: usize = 256 * 1024;
/// `/etc/passwd`.
const LONGEST_ACCOUNTS: u64 = 4 * 1024 * 1024;
/// Device nodes, and attributes, that are named in what is told.
const NAMED: usize = 100;
/// Device nodes that are remembered, since further names of them may follow; and all their paths together, in bytes.
const MOST_DEVICES: usize = 20_000;
const MOST_DEVICE_PATHS: usize = 2 * 1024 * 1024;
/// The kernel takes no longer name of an attribute.
const LONGEST_ATTRIBUTE_NAME: usize = 255;
/// Where Linux has attributes; see xattr(7).
const NAMESPACES: [&[u8]; 4] = [b"user.", b"trusted.", b"security.", b"system."];

/// What was in the archive and is not in the tree.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Left {
    /// Device nodes, and further names of them: a container gets its devices from us.
    pub devices: Vec<Vec<u8>>,
    /// More of them than are named.
    pub more_devices: u64,
    /// Names of attributes in no namespace that Linux knows, such as macOS gives: some of them, each once.
    pub attributes: BTreeSet<Vec<u8>>,
    /// Entries that had any.
    pub with_attributes: u64,
    /// Where device nodes would be, as [`plain`] has it.
    device_paths: BTreeSet<Vec<u8>>,
    device_bytes: usize,
}

/// Access lists that have still to be given, since they name users; see [`Lists::give`].
#[derive(Debug, Default)]
pub struct Lists {
    /// By path, and whether it is the default one.
    waiting: BTreeMap<(Vec<u8>, usize), Vec<u8>>,
    bytes: usize,
    known: HashMap<(Who, Vec<u8>), u32>,
}

/// Where entries go.
pub struct Target<'a> {
    /// The tree.
    pub tree: &'a mut Unpack,
    /// Its access lists.
    pub lists: &'a mut Lists,
    /// What does not go there.
    pub left: &'a mut Left,
    /// Asked now and then whether to go on.
    pub goes_on: &'a mut dyn FnMut(Unpacked) -> bool,
}

impl std::fmt::Debug for Target<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Target").field("tree", &self.tree).finish_non_exhaustive()
    }
}

/// The path in the tree that an entry goes to.
pub type Place<'a> = &'a mut dyn FnMut(&Entry) -> Result<Option<Vec<u8>>, ArchiveError>;

/// Unpacks all entries, each under the path that `place` gives it; one that has none is passed over.
///
/// # Errors
/// [`ArchiveError`]: then the tree is in no state that anybody should use.
pub fn unpack<R: Read>(
    reader: &mut Reader<R>,
    target: &mut Target<'_>,
    place: Place<'_>,
) -> Result<(), ArchiveError> {
    unpack_and_read(reader, target, place, &mut |_, _| Ok(()))
}

/// What is done with an entry that has no place in the tree; its data may be read.
pub type Beside<'a> = &'a mut dyn FnMut(&Entry, &mut dyn Read) -> Result<(), ArchiveError>;

/// As [`unpack`], and what has no place there is handed to `beside`.
///
/// # Errors
/// As [`unpack`].
pub fn unpack_and_read<R: Read>(
    reader: &mut Reader<R>,
    target: &mut Target<'_>,
    place: Place<'_>,
    beside: Beside<'_>,
) -> Result<(), ArchiveError> {
    while let Some(entry) = reader.next_entry()? {
        let before = target.tree.unpacked().entries;
        let bytes = match place(&entry)? {
            Some(path) => {
                target.make(reader, &entry, &path, place)?;
                reader.unread()
            }
            None => {
                let bytes = reader.unread();
                beside(&entry, &mut reader.data())?;
                bytes
            }
        };
        // What makes nothing, and data that nobody has read, are bounded too: compressed they are a few bytes.
        let unmade = target.tree.unpacked().entries == before;
        let passed = Unpacked { entries: unmade.into(), bytes };
        target.tree.pass_over(passed).map_err(|source| ArchiveError::unpack(&entry.path, source))?;
        if !(target.goes_on)(target.tree.unpacked()) {
            return Err(ArchiveError::Interrupted);
        }
    }
    Ok(())
}

impl Left {
    /// Those that no Linux would take: they say nothing to anybody here, and are no reason to do without the archive.
    fn take_attributes(&mut self, properties: &mut Properties) {
        let before = properties.attributes.len();
        properties.attributes.retain(|name, _| {
            let name = name.to_bytes();
            let is_known = NAMESPACES.iter().any(|namespace| name.starts_with(namespace));
            if !is_known && self.attributes.len() < NAMED {
                self.attributes.insert(name[..name.len().min(LONGEST_ATTRIBUTE_NAME)].to_owned());
            }
            is_known
        });
        self.with_attributes += u64::from(properties.attributes.len() < before);
    }

    /// A device node that the archive calls `name`, at that path.
    fn device(&mut self, name: &[u8], path: Vec<u8>) {
        if self.devices.len() < NAMED {
            self.devices.push(name.to_owned());
        } else {
            self.more_devices += 1;
        }
        // Beyond that a further name of one has no target, and is refused.
        if self.device_paths.len() < MOST_DEVICES && self.device_bytes + path.len() <= MOST_DEVICE_PATHS {
            self.device_bytes += path.len();
            self.device_paths.insert(path);
        }
    }
}

impl Target<'_> {
    fn make<R: Read>(
        &mut self,
        reader: &mut Reader<R>,
        entry: &Entry,
        path: &[u8],
        place: Place<'_>,
    ) -> Result<(), ArchiveError> {
        for (who, name, id) in
            [(Who::User, &entry.user, entry.properties.uid), (Who::Group, &entry.group, entry.properties.gid)]
        {
            if (1..=LONGEST_USER).contains(&name.len()) && self.lists.known.len() < MOST_KNOWN {
                self.lists.known.insert((who, name.clone()), id);
            }
        }
        // What was there is not any more, and its lists with it.
        let own_path = plain(path);
        for index in 0..2 {
            self.lists.waiting.remove(&(own_path.clone(), index));
        }
        self.left.device_paths.remove(&own_path);
        let mut properties = entry.properties.clone();
        self.left.take_attributes(&mut properties);
        let mut waiting = Vec::new();
        let has_lists = !matches!(entry.kind, Kind::HardLink(_) | Kind::Symlink(_) | Kind::Device);
        if !has_lists {
            LISTS.iter().for_each(|&list| drop(properties.attributes.remove(list)));
        }
        for (index, list) in entry.lists.iter().enumerate().filter(|_| has_lists) {
            let Some(list) = list else { continue };
            if list.len() > LONGEST_LIST {
                return Err(ArchiveError::entry(
                    &entry.path,
                    format!("an access list of {} bytes", list.len()),
                ));
            }
            // One in numbers at once; one that names somebody when it is known who that is.
            match acl::binary(list, &|_, _| None) {
                Ok(value) => drop(properties.attributes.insert(LISTS[index].to_owned(), value)),
                Err(_) => waiting.push((index, list.clone())),
            }
        }
        let mut data = reader.data();
        let linked;
        let what = match &entry.kind {
            Kind::File { size, segments } => NewNode::File { size: *size, segments, contents: &mut data },
            Kind::HardLink(to) => {
                // It is one of the archive's paths, and so goes where that went.
                let to = Entry { path: to.clone(), ..entry.clone() };
                linked = place(&to)?.ok_or_else(|| {
                    ArchiveError::unpack(&entry.path, UnpackError::NoTarget { target: to.path.clone() })
                })?;
                if self.left.device_paths.contains(&plain(&linked)) {
                    return self.leave_device(&entry.path, path, own_path);
                }
                NewNode::HardLink(&linked)
            }
            Kind::Symlink(to) => NewNode::Symlink(to),
            Kind::Directory => NewNode::Directory,
            Kind::Fifo => NewNode::Fifo,
            Kind::Device => return self.leave_device(&entry.path, path, own_path),
        };
        self.tree
            .make(path, what, &properties, self.goes_on)
            .map_err(|source| ArchiveError::unpack(&entry.path, source))?;
        for (index, list) in waiting {
            self.lists.bytes += own_path.len() + list.len() + size_of::<(Vec<u8>, usize, Vec<u8>)>();
            self.lists.waiting.insert((own_path.clone(), index), list);
        }
        if self.lists.bytes > MOST_LISTS {
            return Err(ArchiveError::entry(&entry.path, "with it there are too many access lists"));
        }
        Ok(())
    }

    /// A device is not made; what it takes the place of, in a layer below too, is gone all the same.
    fn leave_device(&mut self, name: &[u8], path: &[u8], own_path: Vec<u8>) -> Result<(), ArchiveError> {
        self.tree.remove(path).map_err(|source| ArchiveError::unpack(name, source))?;
        self.left.device(name, own_path);
        Ok(())
    }
}

/// Access lists of a node, and of what is made in it.
const LISTS: [&std::ffi::CStr; 2] = [c"system.posix_acl_access", c"system.posix_acl_default"];

/// Without `./` and empty names.
pub(crate) fn plain(path: &[u8]) -> Vec<u8> {
    let names: Vec<&[u8]> =
        path.split(|&byte| byte == b'/').filter(|name| !name.is_empty() && *name != b".").collect();
    names.join(&b'/')
}

impl Lists {
    /// Gives them: when all is unpacked that may say whom a name means, which is looked up in `root`, the top of the tree.
    ///
    /// # Errors
    /// [`ArchiveError`]; also when nothing says whom a name means.
    pub fn give(mut self, tree: &mut Unpack, root: &Root) -> Result<(), ArchiveError> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        for (who, path) in [(Who::User, "etc/passwd"), (Who::Group, "etc/group")] {
            let file = root.read_file(Path::new(path), LONGEST_ACCOUNTS).ok().flatten();
            for line in file.iter().flat_map(|file| file.bytes.split(|&byte| byte == b'\n')) {
                let mut fields = line.split(|&byte| byte == b':');
                let (name, id) = (fields.next(), fields.nth(1).and_then(crate::pax::number));
                if let (Some(name), Some(Ok(id))) = (name, id.map(u32::try_from)) {
                    self.known.insert((who, name.to_owned()), id);
                }
            }
        }
        let resolve = |who: Who, name: &[u8]| self.known.get(&(who, name.to_owned())).copied();
        for ((path, index), text) in &self.waiting {
            let value = acl::binary(text, &resolve).map_err(|because| ArchiveError::entry(path, because))?;
            match tree.set_attribute(path, LISTS[*index], &value) {
                // Something else by what came later.
                Err(UnpackError::System { ref source, .. })
                    if matches!(
                        Errno::from_io_error(source),
                        Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP)
                    ) => {}
                other => other.map_err(|source| ArchiveError::unpack(path, source))?,
            }
        }
        Ok(())
    }
}
