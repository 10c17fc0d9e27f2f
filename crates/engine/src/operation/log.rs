//! The log of one operation: steps and scripts' output, with times, of bounded size.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;

use crate::host::Container;

/// The first so many bytes of an operation's log are kept, and the last so many.
const KEPT: usize = 1024 * 1024;

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
        let directory = container.host.prefix.log_dir().join("operations").join(container.id().to_string());
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
