//! What was killed in a container for want of memory, in a log of its own: one for as long as its monitor lives, since no command is at work.

use std::time::Instant;

use runtime::monitor::{Diary, Killed};
use store::{Area, ContainerId, Prefix};

use super::OperationLog;
use crate::event::{Ended, Event, What};

/// What it is called among the operations.
pub const OUT_OF_MEMORY: &str = "out-of-memory";
/// Who is killed again and again does not fill the host's disk: from then on the kernel's count is all there is.
const MOST: u32 = 1000;

struct OutOfMemory {
    prefix: Prefix,
    id: ContainerId,
    /// Begun when the first one is killed.
    log: Option<(OperationLog, Instant)>,
    told: u32,
}

/// For a monitor.
pub fn diary(prefix: &Prefix, id: &ContainerId) -> Box<dyn Diary> {
    Box::new(OutOfMemory { prefix: prefix.clone(), id: *id, log: None, told: 0 })
}

impl OutOfMemory {
    fn begin(&self) -> (OperationLog, Instant) {
        let mut log = OperationLog::open(&self.prefix, &self.id, OUT_OF_MEMORY);
        let name = Area::open_unchecked(&self.prefix, &self.id)
            .map_or_else(|_| self.id.to_string(), |area| area.display_name());
        log.write(&Event::now(What::Begin {
            operation: OUT_OF_MEMORY.to_owned(),
            container: self.id,
            name,
            command: runtime::monitor::NAME.to_owned(),
            pid: std::process::id(),
            recovers: None,
        }));
        (log, Instant::now())
    }
}

impl Diary for OutOfMemory {
    fn killed(&mut self, kills: u64, processes: &[Killed]) {
        if self.told >= MOST {
            return;
        }
        let mut open = self.log.take().unwrap_or_else(|| self.begin());
        open.0.write(&Event::now(What::OutOfMemory { kills, processes: processes.to_vec() }));
        self.told += 1;
        if self.told == MOST {
            let text = "what is killed from now on is only counted: `prlctl statistics` tells".to_owned();
            open.0.write(&Event::now(What::Note { text }));
        }
        self.log = Some(open);
    }
}

impl Drop for OutOfMemory {
    fn drop(&mut self) {
        if let Some((mut log, began)) = self.log.take() {
            let ms = began.elapsed().as_millis() as u64;
            log.write(&Event::now(What::End { result: Ended::Done, ms, unfinished: None, error: None }));
        }
    }
}
