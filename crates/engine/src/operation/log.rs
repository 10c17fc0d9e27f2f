//! The log of one operation: steps and scripts' output, with times, of bounded size.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::Duration;

use crate::host::Container;

/// The first so many bytes of an operation's log are kept, and the last so many.
const KEPT: usize = 1024 * 1024;

/// Of so many earlier operations it is told how long they took.
const REMEMBERED: usize = 5;

/// How long the last operations of this kind on this container have taken that came to their end, the newest first.
pub fn durations(container: &Container<'_>, operation: &str) -> Vec<Duration> {
    let mut names: Vec<String> = std::fs::read_dir(directory(container))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.split_once('-').is_some_and(|(_, kind)| kind == format!("{operation}.log")))
        .collect();
    names.sort_unstable_by(|one, other| other.cmp(one));
    let taken = names.iter().filter_map(|name| {
        let mut text = Vec::new();
        let file = File::open(directory(container).join(name)).ok()?;
        file.take(3 * KEPT as u64).read_to_end(&mut text).ok()?;
        duration(&String::from_utf8_lossy(&text))
    });
    taken.take(REMEMBERED).collect()
}

/// From the first line to the last, of an operation that did not fail.
fn duration(log: &str) -> Option<Duration> {
    let (first, last) = (log.lines().next()?, log.lines().next_back()?);
    let has_failed =
        log.lines().any(|line| line.get(12..).is_some_and(|text| text.starts_with(" reroot: failed")));
    if has_failed || !last.ends_with(" reroot: end") {
        return None;
    }
    let time = |line: &str| line.get(..12)?.parse::<jiff::civil::Time>().ok();
    let (began, ended) = (time(first)?, time(last)?);
    let milliseconds = began.until(ended).ok()?.total(jiff::Unit::Millisecond).ok()? as i64;
    // Midnight was in between.
    const DAY: i64 = 24 * 60 * 60 * 1000;
    u64::try_from(milliseconds.rem_euclid(DAY)).ok().map(Duration::from_millis)
}

fn directory(container: &Container<'_>) -> PathBuf {
    container.host.prefix.log_dir().join("operations").join(container.id().to_string())
}

/// An open log. That it cannot be written stops no operation.
#[derive(Debug)]
pub struct OperationLog {
    file: Option<File>,
    written: usize,
    last: VecDeque<u8>,
    dropped: u64,
}

impl OperationLog {
    /// Opens a new one in `/var/log/vz/operations/<uuid>/`.
    pub fn open(container: &Container<'_>, operation: &str) -> OperationLog {
        let directory = directory(container);
        let time = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%S.%3fZ");
        let file = std::fs::create_dir_all(&directory).ok().and_then(|()| {
            File::options()
                .append(true)
                .create(true)
                .mode(0o600)
                .open(directory.join(format!("{time}-{operation}.log")))
                .ok()
        });
        OperationLog { file, written: 0, last: VecDeque::new(), dropped: 0 }
    }

    /// Adds a line of ours.
    pub fn note(&mut self, text: &str) {
        self.line("reroot", text.as_bytes());
    }

    /// Adds a line of a script.
    pub fn line(&mut self, source: &str, line: &[u8]) {
        let time = jiff::Timestamp::now().strftime("%H:%M:%S%.3f");
        let mut text = format!("{time} {source}: ").into_bytes();
        text.extend_from_slice(line);
        text.push(b'\n');
        if self.written + text.len() <= KEPT {
            self.written += text.len();
            if let Some(file) = &mut self.file {
                let _ = file.write_all(&text);
            }
            return;
        }
        self.last.extend(text);
        let surplus = self.last.len().saturating_sub(KEPT);
        self.last.drain(..surplus);
        self.dropped += surplus as u64;
    }
}

impl Drop for OperationLog {
    fn drop(&mut self) {
        let Some(file) = &mut self.file else { return };
        if self.dropped > 0 {
            let _ = writeln!(file, "[… {} bytes are not kept …]", self.dropped);
        }
        let (first, second) = self.last.as_slices();
        let _ = file.write_all(first).and_then(|()| file.write_all(second));
    }
}

/// The last lines of a script's output, for the error.
#[derive(Debug, Default)]
pub struct Tail {
    lines: std::collections::VecDeque<String>,
}

impl Tail {
    const LINES: usize = 5;

    /// Takes in a line.
    pub fn take(&mut self, line: &[u8]) {
        if line.trim_ascii().is_empty() {
            return;
        }
        if self.lines.len() == Tail::LINES {
            self.lines.pop_front();
        }
        self.lines.push_back(tree::escaped(&line[..line.len().min(500)]));
    }

    /// The last lines, if there were any.
    pub fn words(&self) -> Option<String> {
        let lines: Vec<&str> = self.lines.iter().map(String::as_str).collect();
        (!lines.is_empty()).then(|| lines.join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_came_to_its_end_has_taken_a_time() {
        let of = |log: &str| duration(log).map(|taken| taken.as_millis());
        assert_eq!(of("10:00:00.000 reroot: step stage\n10:00:01.250 reroot: end\n"), Some(1250));
        assert_eq!(of("23:59:59.900 reroot: step stage\n00:00:00.100 reroot: end\n"), Some(200));
        assert_eq!(
            of("10:00:00.000 reroot: step stage\n10:00:01.250 a.sh: failed\n10:00:02.000 reroot: end\n"),
            Some(2000)
        );
        assert_eq!(
            of("10:00:00.000 reroot: step stage\n10:00:01.250 reroot: failed: x\n10:00:02.000 reroot: end\n"),
            None
        );
        assert_eq!(of("10:00:00.000 reroot: step stage\n"), None);
        assert_eq!(of(""), None);
    }
}
