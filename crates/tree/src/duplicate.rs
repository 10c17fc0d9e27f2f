//! A whole layer made again in another place, as it lies on the disk: overlayfs' own marks and whiteouts included.
//!
//! For a delta that moves to another filesystem. What is read is only held and opened by handle; what is written lies where nobody else looks. **Nothing written here
//! is durable.** To copy what a *root* shows, and into what there is already, is the business of [`crate::Copier`].

use crate::descent::Descent;
use crate::error::TreeError;
use crate::measure::Size;
use crate::node::{self, Facts, HOLD, Identity, as_path};
use crate::transfer::{self, Transfer};
use rustix::fs::{self, AtFlags, Mode, OFlags, makedev};
use rustix::io::Errno;
use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Makes everything that is below `from`, and what `from` itself is, in `to`, an empty directory. `goes_on` is told how much was made, and asked whether to go on.
///
/// # Errors
/// [`TreeError`], with `to` half done; a mount point in `from` among them: what is behind it is not of this tree.
pub fn duplicate(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    goes_on: &mut dyn FnMut(Size) -> bool,
) -> Result<Size, TreeError> {
    let mut duplicate = Duplicate {
        source: Descent::start(from)?,
        target: Descent::start_empty(to)?,
        top: to,
        transfer: Transfer::of_a_layer(),
        way: Vec::new(),
        links: HashMap::new(),
        made: Size::default(),
        goes_on,
    };
    duplicate.run(from, to)?;
    Ok(duplicate.made)
}

struct Duplicate<'a> {
    source: Descent,
    /// As deep as `source`, in the directory that is made of its.
    target: Descent,
    top: BorrowedFd<'a>,
    transfer: Transfer,
    /// What the directories on the way are.
    way: Vec<Facts>,
    /// Of a file with several names: where its first one was made.
    links: HashMap<Identity, Vec<u8>>,
    made: Size,
    goes_on: &'a mut dyn FnMut(Size) -> bool,
}

impl Duplicate<'_> {
    fn run(&mut self, from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<(), TreeError> {
        let failed = |error| TreeError::io("copy", as_path(b"."), error);
        let top = node::facts(from).map_err(failed)?;
        self.transfer.give_directory(to, from, &top).map_err(failed)?;
        loop {
            while let Some(name) = self.source.next_name() {
                self.entry(&name)?;
            }
            if self.source.depth() == 0 {
                // Last: whatever was put into it has changed its time.
                return transfer::give_times(to, &top).map_err(failed);
            }
            let path = self.source.path_of(c"");
            let Some(facts) = self.way.pop() else { return Ok(()) };
            transfer::give_times(self.target.handle(), &facts)
                .map_err(|error| TreeError::io("copy", as_path(&path), error))?;
            self.source.leave()?;
            self.target.leave()?;
        }
    }

    fn entry(&mut self, name: &CStr) -> Result<(), TreeError> {
        let path = self.source.path_of(name);
        let failed = |error| TreeError::io("copy", as_path(&path), error);
        let (handle, facts) = node::hold(self.source.handle(), name).map_err(failed)?;
        if facts.identity.mount != self.source.mount() {
            return Err(failed(Errno::XDEV));
        }
        self.made.entries += 1;
        if facts.is_directory() {
            fs::mkdirat(self.target.handle(), name, Mode::RWXU).map_err(failed)?;
            let (made, its) = node::hold(self.target.handle(), name).map_err(failed)?;
            self.transfer.give_directory(made.as_fd(), handle.as_fd(), &facts).map_err(failed)?;
            self.source.enter(handle, &facts, name)?;
            self.target.enter(made, &its, name)?;
            self.way.push(facts);
        } else if facts.links > 1 && self.link(name, &facts, &path)? {
            // The same file.
        } else {
            let (mut made, goes_on) = (self.made, &mut *self.goes_on);
            made.bytes += facts.size;
            let target = self.target.handle();
            if facts.is_device() {
                self.transfer.device(target, name, &handle, &facts).map_err(failed)?;
            } else {
                self.transfer.node(target, name, &handle, &facts, &mut || goes_on(made)).map_err(failed)?;
            }
            if facts.links > 1 {
                self.links.insert(facts.identity, path.clone());
            }
            if facts.is_regular() {
                self.made.bytes += facts.size;
            }
        }
        if (self.goes_on)(self.made) { Ok(()) } else { Err(failed(Errno::INTR)) }
    }

    /// One more name for what was made under another; false: it was not, or has as many as it can have.
    fn link(&self, name: &CStr, facts: &Facts, path: &[u8]) -> Result<bool, TreeError> {
        let Some(first) = self.links.get(&facts.identity) else { return Ok(false) };
        let failed = |error| TreeError::io("link", as_path(path), error);
        let (parent, last) = way_to(self.top, first).map_err(failed)?;
        match fs::linkat(parent, last, self.target.handle(), name, AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::MLINK) => Ok(false),
            Err(error) => Err(failed(error)),
        }
    }
}

/// The directory that `path` leads to, but for its last name, one name after the other: a path may be longer than the kernel takes.
fn way_to(top: BorrowedFd<'_>, path: &[u8]) -> Result<(OwnedFd, CString), Errno> {
    let flags = HOLD | OFlags::DIRECTORY;
    let mut at = fs::openat(top, c".", flags, Mode::empty())?;
    let mut names =
        path.split(|&byte| byte == b'/').filter(|name| !name.is_empty() && *name != b".").peekable();
    loop {
        let name = CString::new(names.next().ok_or(Errno::NOENT)?).map_err(|_| Errno::INVAL)?;
        if names.peek().is_none() {
            return Ok((at, name));
        }
        at = fs::openat(&at, &name, flags, Mode::empty())?;
    }
}

impl Transfer {
    /// Makes `name` in `parent`, where nothing is, the device node that the held one is.
    fn device(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &CStr,
        handle: &OwnedFd,
        facts: &Facts,
    ) -> Result<(), Errno> {
        let number = makedev(facts.device.0, facts.device.1);
        fs::mknodat(parent, name, facts.file_type, Mode::from_raw_mode(facts.mode), number)?;
        self.complete(parent, name, handle, facts)
    }
}
