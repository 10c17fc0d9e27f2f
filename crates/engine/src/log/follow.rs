//! Waits for what is added to logs, of one container or of all.

use std::collections::BTreeMap;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};

use super::read::{Context, LogReader, names};
use crate::event::{Event, What};

/// So often it is looked whether anything was missed.
const PACE: Timespec = Timespec { tv_sec: 30, tv_nsec: 0 };

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
}

impl Follower {
    /// Of one container's directory; what is there already is passed over but for `open`, which goes on where it is.
    ///
    /// # Errors
    /// When it cannot be watched.
    pub fn of(directory: &Path, open: Vec<(PathBuf, LogReader)>) -> std::io::Result<Follower> {
        let mut follower = Follower::new(None, open)?;
        follower.watch(directory, true)?;
        Ok(follower)
    }

    /// Of all containers.
    ///
    /// # Errors
    /// When they cannot be watched.
    pub fn of_all(directory: &Path, open: Vec<(PathBuf, LogReader)>) -> std::io::Result<Follower> {
        let mut follower = Follower::new(Some(directory.to_owned()), open)?;
        std::fs::create_dir_all(directory)?;
        let watch =
            inotify::add_watch(&follower.inotify, directory, WatchFlags::CREATE | WatchFlags::ONLYDIR)?;
        follower.watched.insert(watch, directory.to_owned());
        for entry in std::fs::read_dir(directory)?.flatten() {
            follower.watch(&entry.path(), true)?;
        }
        Ok(follower)
    }

    fn new(all: Option<PathBuf>, open: Vec<(PathBuf, LogReader)>) -> std::io::Result<Follower> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let open = open.into_iter().collect();
        Ok(Follower { inotify, all, watched: BTreeMap::new(), open, seen: BTreeMap::new() })
    }

    fn watch(&mut self, directory: &Path, passes_over: bool) -> std::io::Result<()> {
        std::fs::create_dir_all(directory)?;
        let flags = WatchFlags::CREATE | WatchFlags::MODIFY | WatchFlags::ONLYDIR;
        let watch = inotify::add_watch(&self.inotify, directory, flags)?;
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
        match poll(&mut [PollFd::new(&self.inotify, PollFlags::IN)], Some(&PACE)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
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
                Err(rustix::io::Errno::AGAIN) => break,
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
