//! Several commands of this very program at once, each a process of its own: what one of them comes to, or whoever kills it, is no other's business.
//!
//! They are no members of the terminal's foreground group, so that its ^C comes to this process alone: the first signal only starts no more of them, and
//! those that come after it are passed on. Nothing is waited for but the ends of processes, what they write, and signals: one poll(2).

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use engine::interrupt::signal_word;
use engine::real::ENDING_SIGNALS;
use linux::{Child, Exit, SignalReader, signal_by_number};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;

/// What a process may write on one stream; the rest is thrown away.
const LONGEST: usize = 4 << 20;

/// How one of them ended.
#[derive(Debug)]
pub struct Ended {
    /// Which.
    pub index: usize,
    /// `Err`: it could not even be started, or waited for.
    pub exit: io::Result<Exit>,
    /// What it wrote to stdout.
    pub stdout: Vec<u8>,
    /// How long it took.
    pub took: Duration,
}

/// What happens.
#[derive(Debug)]
pub enum Event<'a> {
    /// That one is started.
    Begins(usize),
    /// It has written a line to stderr.
    Line(usize, &'a [u8]),
    /// It has ended.
    Ends(&'a Ended),
    /// That signal asks this process to end, for the first time or not; so many are under way.
    Signal { number: i32, is_first: bool, under_way: usize },
}

#[derive(Debug)]
struct Worker {
    index: usize,
    child: Child,
    stdout: Stream,
    stderr: Stream,
    began: Instant,
}

#[derive(Debug)]
struct Stream {
    file: Option<File>,
    bytes: Vec<u8>,
}

/// What there is to say of [`Event::Signal`].
pub fn said_of_signal(number: i32, is_first: bool, under_way: usize) -> String {
    let word = signal_word(number);
    if is_first {
        format!(
            "{word}: no more are begun, and the {under_way} under way are brought to their end; the next one is passed on to them"
        )
    } else {
        format!("{word}: passed on to the {under_way} under way")
    }
}

/// Runs this program so many times, `parallel` at once, each with the words that `words` has for it when it begins; `tell` says whether to start more.
/// Returns the signal that came, if one did. What was never started was not told of.
///
/// # Errors
/// When signals cannot be read, with none started; as in poll(2).
pub fn run(
    count: usize,
    parallel: usize,
    words: &mut dyn FnMut(usize) -> Vec<OsString>,
    tell: &mut dyn FnMut(Event<'_>) -> bool,
) -> io::Result<Option<i32>> {
    let heeded: Vec<i32> = ENDING_SIGNALS.into_iter().filter(|&signal| !linux::is_ignored(signal)).collect();
    let signals = SignalReader::new(&heeded)?;
    let (mut workers, mut next): (Vec<Worker>, usize) = (Vec::new(), 0);
    let (mut first, mut goes_on) = (None, true);
    loop {
        while first.is_none() && goes_on && workers.len() < parallel && next < count {
            goes_on &= tell(Event::Begins(next));
            let began = Instant::now();
            match Worker::start(next, &words(next)) {
                Ok(worker) => workers.push(worker),
                Err(error) => {
                    let ended =
                        Ended { index: next, exit: Err(error), stdout: Vec::new(), took: began.elapsed() };
                    goes_on &= tell(Event::Ends(&ended));
                }
            }
            next += 1;
        }
        if workers.is_empty() {
            return Ok(first);
        }
        wait(&signals, &workers)?;
        while let Some(number) = signals.try_next()? {
            let is_first = first.is_none();
            first.get_or_insert(number);
            tell(Event::Signal { number, is_first, under_way: workers.len() });
            if !is_first {
                for worker in &workers {
                    signal_by_number(worker.child.pidfd(), number)?;
                }
            }
        }
        let mut at = 0;
        while at < workers.len() {
            let worker = &mut workers[at];
            worker.stdout.read();
            worker.stderr.read();
            let index = worker.index;
            worker.stderr.lines(&mut |line| {
                tell(Event::Line(index, line));
            });
            if !worker.has_ended()? {
                at += 1;
                continue;
            }
            let ended = workers.swap_remove(at).end(tell);
            goes_on &= tell(Event::Ends(&ended));
        }
    }
}

/// Until something has happened.
fn wait(signals: &SignalReader, workers: &[Worker]) -> io::Result<()> {
    let mut polled = vec![PollFd::new(signals, PollFlags::IN)];
    for worker in workers {
        polled.push(PollFd::from_borrowed_fd(worker.child.pidfd(), PollFlags::IN));
        let streams = [&worker.stdout, &worker.stderr].into_iter().filter_map(|stream| stream.file.as_ref());
        polled.extend(streams.map(|file| PollFd::new(file, PollFlags::IN)));
    }
    match poll(&mut polled, None) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

impl Worker {
    fn start(index: usize, words: &[OsString]) -> io::Result<Worker> {
        let mut command = Command::new("/proc/self/exe");
        command.arg0("prlctl").args(words).process_group(0);
        let mut started =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let stream = |end: Option<OwnedFd>| {
            let end = end.ok_or(io::ErrorKind::BrokenPipe)?;
            fcntl_setfl(&end, fcntl_getfl(&end)? | OFlags::NONBLOCK)?;
            Ok::<_, io::Error>(Stream { file: Some(File::from(end)), bytes: Vec::new() })
        };
        Ok(Worker {
            index,
            stdout: stream(started.stdout.take().map(OwnedFd::from))?,
            stderr: stream(started.stderr.take().map(OwnedFd::from))?,
            child: Child::of(started.id().cast_signed())?,
            began: Instant::now(),
        })
    }

    fn has_ended(&self) -> io::Result<bool> {
        let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        match poll(&mut [PollFd::from_borrowed_fd(self.child.pidfd().as_fd(), PollFlags::IN)], Some(&now)) {
            Ok(ready) => Ok(ready > 0),
            Err(Errno::INTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn end(mut self, tell: &mut dyn FnMut(Event<'_>) -> bool) -> Ended {
        // What it has left behind may have its streams open, and is not waited for.
        self.stdout.read();
        self.stderr.read();
        let index = self.index;
        self.stderr.lines(&mut |line| {
            tell(Event::Line(index, line));
        });
        Ended { index, exit: self.child.wait(), stdout: self.stdout.bytes, took: self.began.elapsed() }
    }
}

impl Stream {
    /// All that there is.
    fn read(&mut self) {
        let mut buffer = [0; 16 << 10];
        while let Some(file) = &mut self.file {
            match file.read(&mut buffer) {
                Ok(0) => self.file = None,
                Ok(count) => {
                    let room = LONGEST.saturating_sub(self.bytes.len());
                    self.bytes.extend_from_slice(&buffer[..count.min(room)]);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => self.file = None,
            }
        }
    }

    /// Takes the whole lines out.
    fn lines(&mut self, each: &mut dyn FnMut(&[u8])) {
        while let Some(end) = self.bytes.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = self.bytes.drain(..=end).collect();
            each(&line[..end]);
        }
    }
}
