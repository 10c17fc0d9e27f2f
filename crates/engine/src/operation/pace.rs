//! How far something is that takes its time: told now and then, and whether to stop is asked each time.

use std::fs::File;
use std::io::Seek;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::event::What;
use crate::host::Host;

/// So long nothing is said, and then as often.
const SILENCE: Duration = Duration::from_millis(500);
const PACE: Duration = Duration::from_secs(5);
/// So often a signal is looked for.
const BETWEEN_LOOKS: Duration = Duration::from_millis(10);

/// See the module.
#[derive(Debug)]
pub struct Pace<'a> {
    host: &'a Host,
    step: &'static str,
    interrupt: Option<OwnedFd>,
    began: Instant,
    next: Instant,
    asked: Instant,
    /// What is being read, and how long it is: that tells how much is left.
    source: Option<(File, u64)>,
}

impl<'a> Pace<'a> {
    /// Of a step that begins.
    pub fn new(host: &'a Host, step: &'static str) -> Pace<'a> {
        let began = Instant::now();
        Pace {
            host,
            step,
            interrupt: host.runtime.interrupt(),
            began,
            next: began + SILENCE,
            asked: began,
            source: None,
        }
    }

    /// The step is at its end when this file is: another handle of whoever reads it, who may be another process.
    pub fn watch(&mut self, file: &File) {
        let length = file.metadata().map_or(0, |metadata| metadata.len());
        self.source = file.try_clone().ok().filter(|_| length > 0).map(|file| (file, length));
    }

    /// `false`: somebody wants this process to end.
    pub fn goes_on(&mut self, entries: u64, bytes: u64) -> bool {
        let now = Instant::now();
        // Whoever asks for each of many thousand files is not to be asked back each time.
        if now < self.asked {
            return true;
        }
        self.asked = now + BETWEEN_LOOKS;
        if now >= self.next {
            self.next = Instant::now() + PACE;
            let done = self.done();
            self.host.tell(What::Progress {
                step: self.step.to_owned(),
                entries,
                bytes,
                percent: done.map(|done| (done * 100.0) as u8),
                seconds_left: done
                    .filter(|done| *done > 0.01)
                    .map(|done| (self.began.elapsed().as_secs_f64() * (1.0 - done) / done).ceil() as u64),
            });
        }
        let Some(interrupt) = &self.interrupt else { return true };
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        !matches!(poll(&mut [PollFd::new(interrupt, PollFlags::IN)], Some(&at_once)), Ok(1..))
    }

    /// From 0 to 1.
    fn done(&mut self) -> Option<f64> {
        let (file, length) = self.source.as_mut()?;
        let at = file.stream_position().ok()?;
        Some((at as f64 / *length as f64).clamp(0.0, 1.0))
    }
}
