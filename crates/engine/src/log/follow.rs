//! Waits for what is added to logs, of one container or of all.

use std::collections::BTreeMap;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;

use super::read::{Context, LogReader, names};
use crate::event::{Event, What};

/// So often it is looked whether anything was missed.
const PACE: Timespec = Timespec { tv_sec: 30, tv_nsec: 0 };
const NOW: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

/// Follows the logs in a directory, or in the directories of a directory.
#[derive(Debug)]
pub struct Follower {
    inotify: OwnedFd,
    /// The directory of directories, if it follows them all.
    all: Option<PathBuf>,
    watched: BTreeMap<i32, PathBuf>,
    /// Those that have not ended.
    open: BTreeMap<PathBuf, LogReader>,
    /// In each directory, the newest log whose end was seen or passed over.
    seen: BTreeMap<PathBuf, String>,
    /// Nobody has waited yet.
    is_first: bool,
}

impl Follower {
    /// Of one container's directory. Made before what is there is read, so that nothing is missed in between: what was read is passed to
    /// [`Follower::has_read`], what else is there by now is passed over.
    ///
    /// # Errors
    /// When it cannot be watched.
    pub fn of(directory: &Path) -> std::io::Result<Follower> {
        let mut follower = Follower::new(None)?;
        follower.watch(directory, true)?;
        Ok(follower)
    }

    /// Of all containers.
    ///
    /// # Errors
    /// When they cannot be watched.
    pub fn of_all(directory: &Path) -> std::io::Result<Follower> {
        let mut follower = Follower::new(Some(directory.to_owned()))?;
        let watch =
            inotify::add_watch(&follower.inotify, directory, WatchFlags::CREATE | WatchFlags::ONLYDIR)?;
        follower.watched.insert(watch, directory.to_owned());
        for entry in std::fs::read_dir(directory)?.flatten() {
            follower.watch(&entry.path(), true)?;
        }
        Ok(follower)
    }

    fn new(all: Option<PathBuf>) -> std::io::Result<Follower> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        Ok(Follower {
            inotify,
            all,
            watched: BTreeMap::new(),
            open: BTreeMap::new(),
            seen: BTreeMap::new(),
            is_first: true,
        })
    }

    /// A log that was read; `open`: it had not ended, and this goes on where that was.
    pub fn has_read(&mut self, path: PathBuf, open: Option<LogReader>) {
        if let (Some(directory), Some(name)) = (path.parent(), path.file_name()) {
            let name = name.to_string_lossy().into_owned();
            let seen = self.seen.entry(directory.to_owned()).or_default();
            *seen = std::mem::take(seen).max(name);
        }
        if let Some(log) = open {
            self.open.insert(path, log);
        }
    }

    /// What is no directory is nobody's.
    fn watch(&mut self, directory: &Path, passes_over: bool) -> std::io::Result<()> {
        let flags = WatchFlags::CREATE | WatchFlags::MODIFY | WatchFlags::ONLYDIR;
        let watch = match inotify::add_watch(&self.inotify, directory, flags) {
            Err(Errno::NOTDIR | Errno::NOENT) => return Ok(()),
            watch => watch?,
        };
        self.watched.insert(watch, directory.to_owned());
        if passes_over && let Some(newest) = names(directory).pop() {
            self.seen.insert(directory.to_owned(), newest);
        }
        Ok(())
    }

    /// Waits for something to be added, and returns it.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn wait(&mut self) -> std::io::Result<Vec<(Context, Event)>> {
        // What was written while others were read has been told already, or is found now.
        let pace = if std::mem::take(&mut self.is_first) { NOW } else { PACE };
        match poll(&mut [PollFd::new(&self.inotify, PollFlags::IN)], Some(&pace)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let mut touched: Vec<PathBuf> = Vec::new();
        let mut buffer = [MaybeUninit::uninit(); 16 * 1024];
        let mut reader = inotify::Reader::new(&self.inotify, &mut buffer);
        let mut is_lost = false;
        loop {
            match reader.next() {
                Ok(event) => {
                    is_lost |= event.events().contains(ReadFlags::QUEUE_OVERFLOW);
                    if let Some(directory) = self.watched.get(&event.wd())
                        && Some(directory) == self.all.as_ref()
                        && let Some(name) = event.file_name()
                    {
                        touched.push(directory.join(name.to_string_lossy().as_ref()));
                    } else if let Some(directory) = self.watched.get(&event.wd()) {
                        touched.push(directory.clone());
                    }
                }
                Err(Errno::AGAIN) => break,
                Err(error) => return Err(error.into()),
            }
        }
        if is_lost || touched.is_empty() {
            touched =
                self.watched.values().filter(|path| Some(*path) != self.all.as_ref()).cloned().collect();
        }
        touched.sort();
        touched.dedup();
        let mut events = Vec::new();
        for directory in touched {
            if !self.watched.values().any(|watched| *watched == directory) {
                self.watch(&directory, false)?;
            }
            self.look(&directory, &mut events)?;
        }
        events.sort_by_key(|(_, event): &(Context, Event)| event.at);
        Ok(events)
    }

    /// Opens what is new in a directory, and reads what was added to what is open.
    fn look(&mut self, directory: &Path, events: &mut Vec<(Context, Event)>) -> std::io::Result<()> {
        for name in names(directory) {
            let is_new = self.seen.get(directory).is_none_or(|seen| name > *seen);
            if is_new && let Ok(log) = LogReader::open(&directory.join(&name)) {
                self.open.insert(directory.join(&name), log);
                self.seen.insert(directory.to_owned(), name);
            }
        }
        let mut ended = Vec::new();
        for (path, log) in self.open.iter_mut().filter(|(path, _)| path.parent() == Some(directory)) {
            for event in log.next_events()? {
                if matches!(event.what, What::End { .. }) {
                    ended.push(path.clone());
                }
                events.push((log.context().clone(), event));
            }
        }
        for path in ended {
            self.open.remove(&path);
        }
        Ok(())
    }
}
