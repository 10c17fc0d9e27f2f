//! A log that is being written.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use jiff::Timestamp;
use store::{ContainerId, Prefix};

use super::read::names;
use super::{directory, directory_of};
use crate::event::{Event, What};

/// Of what scripts write the first so many bytes are kept, and before the next line of ours the last so many.
const KEPT: usize = 1024 * 1024;
/// Of scripts there is never more than this in a log, however often they are run.
const MOST_OF_SCRIPTS: usize = 8 * KEPT;
/// Of so many reinstalls the logs stay, however many other ones come after.
const REINSTALLS: usize = 10;
/// Of a container so many logs are kept, the newest ones.
const MOST: usize = 200;
/// So long the logs of a container stay that has been deleted.
const AFTER_DELETION: jiff::SignedDuration = jiff::SignedDuration::from_hours(30 * 24);

/// An open log. That it cannot be written stops no operation.
#[derive(Debug)]
pub struct OperationLog {
    file: Option<File>,
    /// Of scripts.
    written: usize,
    /// Lines of scripts that wait for the next line of ours, and how long they are.
    last: VecDeque<String>,
    waiting: usize,
    left_out: u64,
    /// The last line was not written whole: the disk was full.
    is_torn: bool,
}

impl OperationLog {
    /// Begins a new one.
    pub fn open(prefix: &Prefix, id: &ContainerId, operation: &str) -> OperationLog {
        let directory = directory_of(prefix, id);
        let time = Timestamp::now().strftime("%Y%m%dT%H%M%S.%3fZ");
        let file = std::fs::create_dir_all(&directory).ok().and_then(|()| {
            remove_oldest(&directory);
            File::options()
                .append(true)
                .create(true)
                .mode(0o600)
                .open(directory.join(format!("{time}-{operation}.jsonl")))
                .ok()
        });
        OperationLog { file, written: 0, last: VecDeque::new(), waiting: 0, left_out: 0, is_torn: false }
    }

    /// Nothing that is told is kept.
    pub fn is_lost(&self) -> bool {
        self.file.is_none()
    }

    /// Adds a line.
    pub fn write(&mut self, event: &Event) {
        let Ok(mut line) = serde_json::to_string(event) else { return };
        line.push('\n');
        if !matches!(event.what, What::Script { .. }) {
            self.write_last();
            self.put(&line);
            return;
        }
        // Whoever writes without end has his end in the log, too.
        if self.left_out == 0 && self.last.is_empty() && self.written + line.len() <= KEPT {
            self.written += line.len();
            self.put(&line);
            return;
        }
        if self.written > MOST_OF_SCRIPTS {
            self.left_out += 1;
            return;
        }
        self.waiting += line.len();
        self.last.push_back(line);
        while self.waiting > KEPT {
            let Some(first) = self.last.pop_front() else { break };
            self.waiting -= first.len();
            self.left_out += 1;
        }
    }

    fn write_last(&mut self) {
        if self.left_out > 0 {
            let left_out = Event::now(What::LeftOut { lines: self.left_out });
            if let Ok(line) = serde_json::to_string(&left_out) {
                self.put(&(line + "\n"));
            }
        }
        for line in std::mem::take(&mut self.last) {
            self.written += line.len();
            self.put(&line);
        }
        (self.waiting, self.left_out) = (0, 0);
    }

    fn put(&mut self, line: &str) {
        let Some(file) = &mut self.file else { return };
        // What was torn stays a line of its own, which whoever reads passes over.
        let line = if self.is_torn { format!("\n{line}") } else { line.to_owned() };
        self.is_torn = file.write_all(line.as_bytes()).is_err();
    }
}

impl Drop for OperationLog {
    fn drop(&mut self) {
        self.write_last();
    }
}

/// Makes room for one more.
fn remove_oldest(directory: &Path) {
    let names = names(directory);
    let reinstalls: Vec<&String> =
        names.iter().rev().filter(|name| name.contains("-reinstall")).take(REINSTALLS).collect();
    for name in names.iter().take((names.len() + 1).saturating_sub(MOST)) {
        if !reinstalls.contains(&name) {
            let _ = std::fs::remove_file(directory.join(name));
        }
    }
}

/// Removes the logs of containers that were deleted long ago.
pub fn remove_of_deleted(prefix: &Prefix) {
    let Ok(all) = store::atomic::open_directory(&directory(prefix)) else { return };
    let before = Timestamp::now() - AFTER_DELETION;
    for entry in std::fs::read_dir(directory(prefix)).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(id) = name.to_str().and_then(|name| name.parse::<ContainerId>().ok()) else { continue };
        let newest = names(&entry.path()).pop();
        let is_old = newest
            .is_none_or(|newest| newest.as_str() < before.strftime("%Y%m%dT%H%M%S").to_string().as_str());
        if is_old && !prefix.area_dir(&id).exists() {
            let _ = tree::remove_entry(all.as_fd(), &name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log_in(directory: &Path) -> OperationLog {
        let file = File::options().append(true).create(true).open(directory.join("log")).unwrap();
        OperationLog {
            file: Some(file),
            written: 0,
            last: VecDeque::new(),
            waiting: 0,
            left_out: 0,
            is_torn: false,
        }
    }

    fn script(line: usize) -> Event {
        let line = format!("{line:0>100}");
        Event::now(What::Script { script: "a.sh".to_owned(), line })
    }

    #[test]
    fn of_what_a_script_writes_the_beginning_and_the_end_are_kept_and_of_ours_all() {
        let directory = tempfile::tempdir().unwrap();
        let mut log = log_in(directory.path());
        let note = |text: &str| Event::now(What::Note { text: text.to_owned() });
        for line in 0..100_000 {
            log.write(&script(line));
        }
        log.write(&note("between"));
        for line in 100_000..200_000 {
            log.write(&script(line));
        }
        drop(log);
        let text = std::fs::read_to_string(directory.path().join("log")).unwrap();
        assert!(text.len() < 4 * KEPT, "{}", text.len());
        let events: Vec<Event> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let (mut seen, mut left_out) = (Vec::new(), 0);
        for event in &events {
            if let What::Script { line, .. } = &event.what {
                seen.push(line.parse::<usize>().unwrap());
            } else if let What::LeftOut { lines } = &event.what {
                left_out += lines;
            } else {
                seen.push(usize::MAX);
            }
        }
        let between = seen.iter().position(|&line| line == usize::MAX).unwrap();
        assert_eq!((seen[0], seen[between - 1]), (0, 99_999));
        assert_eq!(seen[seen.len() - 1], 199_999);
        assert_eq!(seen.len() as u64 - 1 + left_out, 200_000);
    }

    #[test]
    fn only_so_many_logs_of_a_container_are_kept() {
        let directory = tempfile::tempdir().unwrap();
        for number in 0..MOST + 10 {
            let name = format!("20260101T0000{number:03}Z-start.jsonl");
            File::create(directory.path().join(name)).unwrap();
        }
        remove_oldest(directory.path());
        let left = names(directory.path());
        assert_eq!(left.len(), MOST - 1);
        assert_eq!(left[0], "20260101T0000011Z-start.jsonl");
    }
}
