//! What the runtime library complains of while it makes a container, for the error message.
//!
//! The library says why only to its log (`tracing`), and much of that in processes that are gone when the error comes back. So errors are appended
//! to a file in memory that all of them share.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::sync::OnceLock;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber, span};

static COMPLAINTS: OnceLock<File> = OnceLock::new();
/// More than this is not read back.
const MOST: u64 = 4096;

struct Complaints;

/// From now on complaints are kept.
pub fn keep() {
    let made = rustix::fs::memfd_create("complaints", rustix::fs::MemfdFlags::CLOEXEC).map(File::from);
    if let Ok(file) = made
        && COMPLAINTS.set(file).is_ok()
    {
        drop(tracing::subscriber::set_global_default(Complaints));
    }
}

/// Takes what has been complained of since the last time: the first thing, which is the cause of the others.
pub fn take() -> Option<String> {
    let mut file = COMPLAINTS.get()?;
    file.seek(SeekFrom::Start(0)).ok()?;
    let mut text = String::new();
    file.take(MOST).read_to_string(&mut text).ok()?;
    file.set_len(0).ok()?;
    file.seek(SeekFrom::Start(0)).ok()?;
    text.lines().next().map(str::to_owned)
}

impl Subscriber for Complaints {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == Level::ERROR
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut words = Words(String::new());
        event.record(&mut words);
        if let Some(mut file) = COMPLAINTS.get() {
            drop(writeln!(file, "{}", words.0.replace('\n', " ")));
        }
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

struct Words(String);

impl Visit for Words {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let separator = if self.0.is_empty() { "" } else { ", " };
        if field.name() == "message" {
            self.0 = format!("{value:?}{separator}{}", self.0);
        } else {
            self.0.push_str(&format!("{separator}{}: {value:?}", field.name()));
        }
    }
}
