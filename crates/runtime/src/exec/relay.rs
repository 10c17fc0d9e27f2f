//! Carrying bytes between descriptors while a process runs, and cutting a script's output into lines.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use linux::{Child, Exit, SignalReader, signal_by_number};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;

use super::terminal::copy_window_size;

const SIGWINCH: i32 = 28;
/// The signals that go on to the program: HUP INT QUIT USR1 USR2 TERM, and WINCH.
const SIGNALS: [i32; 7] = [1, 2, 3, 10, 12, 15, SIGWINCH];

/// So much is read at once.
const BUFFER: usize = 16 * 1024;
/// So often is read after the end of a program: a pipe of ours, and a terminal, hold 64 KiB; a read may find less than a buffer.
const LAST_READS: u32 = 32;

/// Bytes that go one way.
#[derive(Debug)]
struct Pair {
    from: OwnedFd,
    to: Option<OwnedFd>,
    /// Read to the end also after the process has ended; input is not.
    is_output: bool,
    /// Of input: what was read and the program has no room for yet. Nobody waits for it to take that: it may be waiting for us to take what it says.
    waiting: Vec<u8>,
}

/// What is carried while a program runs.
#[derive(Debug)]
pub struct Relay {
    pairs: Vec<Pair>,
    window: Option<(OwnedFd, OwnedFd)>,
    signals: SignalReader,
}

impl Relay {
    /// Carries nothing yet. From here on the signals that are to go on to the program are blocked in this process: make it before the program.
    ///
    /// # Errors
    /// As in signalfd(2).
    pub fn new() -> io::Result<Relay> {
        Ok(Relay { pairs: Vec::new(), window: None, signals: SignalReader::new(&SIGNALS)? })
    }

    /// What comes in at `from` goes to the program; `to` is ours alone, and does not block from here on.
    pub fn input(&mut self, from: OwnedFd, to: OwnedFd) {
        if let Ok(flags) = fcntl_getfl(&to) {
            let _ = fcntl_setfl(&to, flags | OFlags::NONBLOCK);
        }
        self.pairs.push(Pair { from, to: Some(to), is_output: false, waiting: Vec::new() });
    }

    /// What the program writes goes to `to`.
    pub fn output(&mut self, from: OwnedFd, to: OwnedFd) {
        self.pairs.push(Pair { from, to: Some(to), is_output: true, waiting: Vec::new() });
    }

    /// The size of the window of terminal `from` is kept at terminal `to`; also one that it got since `to` was made.
    pub fn follow_window(&mut self, from: OwnedFd, to: OwnedFd) {
        copy_window_size(&from, &to);
        self.window = Some((from, to));
    }

    /// Carries until the program has ended and what it wrote is out.
    ///
    /// # Errors
    /// As in poll(2) and waitid(2).
    pub fn run(mut self, child: &Child) -> io::Result<Exit> {
        loop {
            let mut polled = vec![
                PollFd::from_borrowed_fd(child.pidfd(), PollFlags::IN),
                PollFd::new(&self.signals, PollFlags::IN),
            ];
            polled.extend(self.pairs.iter().map(|pair| match &pair.to {
                Some(to) if !pair.waiting.is_empty() => PollFd::new(to, PollFlags::OUT),
                Some(_) | None => PollFd::new(&pair.from, PollFlags::IN),
            }));
            match poll(&mut polled, None) {
                Ok(_) => {}
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            }
            let ready: Vec<bool> = polled.iter().map(|one| !one.revents().is_empty()).collect();
            drop(polled);
            while let Ok(Some(signal)) = self.signals.try_next() {
                match (&self.window, signal) {
                    (Some((from, to)), SIGWINCH) => copy_window_size(from, to),
                    (None, SIGWINCH) => {}
                    _ => drop(signal_by_number(child.pidfd(), signal)),
                }
            }
            for index in (0..self.pairs.len()).rev() {
                if ready[2 + index] && !carry(&mut self.pairs[index]) {
                    drop(self.pairs.remove(index));
                }
            }
            if ready[0] {
                self.drain();
                return child.wait();
            }
        }
    }

    /// What is still in the pipes. A process that the program has left behind may hold them open, and may write faster than anybody reads: what
    /// the program itself has written is among the first that comes.
    fn drain(&mut self) {
        for pair in &mut self.pairs {
            for _ in 0..LAST_READS {
                if !pair.is_output || !is_readable(pair.from.as_fd()) || !carry(pair) {
                    break;
                }
            }
        }
    }
}

/// Carries one buffer; false when nothing more will come.
fn carry(pair: &mut Pair) -> bool {
    if !pair.waiting.is_empty() {
        return pass_on(pair);
    }
    let mut buffer = [0u8; BUFFER];
    let length = match rustix::io::read(&pair.from, &mut buffer) {
        Ok(0) => return false,
        Ok(length) => length,
        Err(Errno::AGAIN | Errno::INTR) => return true,
        // A terminal whose other side is closed says EIO.
        Err(_) => return false,
    };
    if !pair.is_output {
        pair.waiting.extend_from_slice(&buffer[..length]);
        return pass_on(pair);
    }
    let Some(to) = &pair.to else { return true };
    if write_all(to.as_fd(), &buffer[..length]).is_err() {
        // Nobody reads us any more: go on reading, so that the program does not block.
        pair.to = None;
    }
    true
}

/// Writes of what is waiting as much as there is room for; false when nobody will ever read it.
fn pass_on(pair: &mut Pair) -> bool {
    let Some(to) = &pair.to else { return false };
    match rustix::io::write(to, &pair.waiting) {
        Ok(written) => drop(pair.waiting.drain(..written)),
        Err(Errno::INTR | Errno::AGAIN) => {}
        Err(_) => return false,
    }
    true
}

fn write_all(to: BorrowedFd<'_>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(to, bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                poll(&mut [PollFd::from_borrowed_fd(to, PollFlags::OUT)], None)?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn is_readable(descriptor: BorrowedFd<'_>) -> bool {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    let mut polled = [PollFd::from_borrowed_fd(descriptor, PollFlags::IN)];
    poll(&mut polled, Some(&now)).is_ok_and(|count| count > 0)
}

/// A line that a script wrote, without its newline; longer ones come in pieces.
pub type Line<'a> = &'a [u8];

/// Something else that has to be listened to while a script runs.
pub trait Beside {
    /// What to poll for now.
    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }
    /// When to ask for it again, where there is none now.
    fn again_at(&self) -> Option<Instant> {
        None
    }
    /// It has become readable.
    fn hear(&mut self) {}
}

/// Nothing else.
#[derive(Debug)]
pub struct Alone;

impl Beside for Alone {}

/// The output of a script, line by line.
#[derive(Debug)]
pub struct Lines {
    pipe: OwnedFd,
    partial: Vec<u8>,
}

/// A script that writes no newline gives a line each time that so much has come.
const LONGEST_LINE: usize = 8 * 1024;

impl Lines {
    /// Reads from the reading end of the pipe that is the script's stdout and stderr.
    pub fn new(pipe: OwnedFd) -> Lines {
        Lines { pipe, partial: Vec::new() }
    }

    /// Hands over lines until the script has ended; `None` when it has not within `limit`: it is the caller's to kill.
    ///
    /// # Errors
    /// [`io::ErrorKind::Interrupted`] when `interrupt` has become readable, and then, too, it is the caller's to kill; as in poll(2) and
    /// waitid(2).
    pub fn until_end(
        mut self,
        child: &Child,
        limit: Duration,
        interrupt: Option<BorrowedFd<'_>>,
        beside: &mut dyn Beside,
        each: &mut dyn FnMut(Line<'_>),
    ) -> io::Result<Option<Exit>> {
        let deadline = Instant::now() + limit;
        let mut is_open = true;
        loop {
            let rest = deadline.saturating_duration_since(Instant::now());
            if rest.is_zero() {
                return Ok(None);
            }
            let other = beside.descriptor();
            let again = if other.is_none() { beside.again_at() } else { None };
            let rest = again.map_or(rest, |at| rest.min(at.saturating_duration_since(Instant::now())));
            let timeout = Timespec { tv_sec: rest.as_secs() as i64, tv_nsec: rest.subsec_nanos().into() };
            let mut polled = vec![PollFd::from_borrowed_fd(child.pidfd(), PollFlags::IN)];
            if is_open {
                polled.push(PollFd::new(&self.pipe, PollFlags::IN));
            }
            polled.extend(other.map(|one| PollFd::from_borrowed_fd(one, PollFlags::IN)));
            let at_other = other.map(|_| polled.len() - 1);
            polled.extend(interrupt.map(|one| PollFd::from_borrowed_fd(one, PollFlags::IN)));
            match poll(&mut polled, Some(&timeout)) {
                Ok(_) => {}
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            }
            let has_ended = !polled[0].revents().is_empty();
            let has_output = is_open && polled.get(1).is_some_and(|one| !one.revents().is_empty());
            let is_interrupted =
                interrupt.is_some() && polled.last().is_some_and(|one| !one.revents().is_empty());
            let hears_other = at_other.is_some_and(|index| !polled[index].revents().is_empty());
            drop(polled);
            if hears_other {
                beside.hear();
            }
            if is_interrupted {
                return Err(io::ErrorKind::Interrupted.into());
            }
            if has_output && !has_ended {
                is_open = self.read(each);
            } else if has_ended {
                // As in `Relay::drain`.
                for _ in 0..LAST_READS {
                    if !is_open || !is_readable(self.pipe.as_fd()) {
                        break;
                    }
                    is_open = self.read(each);
                }
                if !self.partial.is_empty() {
                    each(&self.partial);
                }
                return child.wait().map(Some);
            }
        }
    }

    fn read(&mut self, each: &mut dyn FnMut(Line<'_>)) -> bool {
        let mut buffer = [0u8; BUFFER];
        let length = match rustix::io::read(&self.pipe, &mut buffer) {
            Ok(0) => return false,
            Ok(length) => length,
            Err(Errno::INTR | Errno::AGAIN) => return true,
            Err(_) => return false,
        };
        for &byte in &buffer[..length] {
            if byte == b'\n' || self.partial.len() >= LONGEST_LINE {
                each(&self.partial);
                self.partial.clear();
            }
            if byte != b'\n' {
                self.partial.push(byte);
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::pipe::{PipeFlags, pipe_with};

    fn pipe() -> (OwnedFd, OwnedFd) {
        pipe_with(PipeFlags::CLOEXEC).unwrap()
    }

    fn relay() -> Relay {
        Relay { pairs: Vec::new(), window: None, signals: SignalReader::new(&[]).unwrap() }
    }

    fn read_now(from: &OwnedFd) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut buffer = [0; 64 * 1024];
        while is_readable(from.as_fd()) {
            let length = rustix::io::read(from, &mut buffer).unwrap();
            if length == 0 {
                break;
            }
            bytes.extend_from_slice(&buffer[..length]);
        }
        bytes
    }

    #[test]
    fn what_a_program_wrote_before_it_ended_is_carried_and_nothing_is_waited_for() {
        // More than one buffer, and the writing end stays open: a process that the program has left behind has it.
        let said: Vec<u8> = (0..50_000u32).map(|index| index as u8).collect();
        let ((from, written), (read, to)) = (pipe(), pipe());
        write_all(written.as_fd(), &said).unwrap();
        let mut relay = relay();
        relay.output(from, to);
        relay.drain();
        assert_eq!(read_now(&read), said);
        // Again, with nothing there.
        relay.drain();
        assert_eq!(read_now(&read), b"");
        drop(written);
        relay.drain();
    }

    /// A process that a program has left behind, and that writes without end into a pipe of which the reading end is given.
    fn babbler() -> (OwnedFd, std::process::Child) {
        let (from, written) = pipe();
        let child = std::process::Command::new("yes").arg("x".repeat(1000)).stdout(written).spawn().unwrap();
        // The pipe is full, and is again whenever somebody has read.
        while rustix::io::ioctl_fionread(&from).unwrap() < 32 * 1024 {
            std::thread::sleep(Duration::from_millis(1));
        }
        (from, child)
    }

    #[test]
    fn what_is_left_behind_and_writes_without_end_keeps_no_script_from_having_ended() {
        let (from, mut babbler) = babbler();
        let child = linux::spawn(&mut std::process::Command::new("true")).unwrap();
        // A reader that is slower than the writer.
        let mut slow = |_: Line<'_>| std::thread::sleep(Duration::from_micros(100));
        let exit = Lines::new(from).until_end(&child, Duration::from_secs(3), None, &mut Alone, &mut slow);
        babbler.kill().unwrap();
        babbler.wait().unwrap();
        assert_eq!(exit.unwrap(), Some(Exit::Code(0)));
    }

    #[test]
    fn what_is_left_behind_and_writes_without_end_is_not_drained() {
        let (from, mut babbler) = babbler();
        let (read, to) = pipe();
        let reader = std::thread::spawn(move || {
            let mut count = 0;
            let mut buffer = [0; 1024];
            loop {
                match rustix::io::read(&read, &mut buffer) {
                    // Given up, so that the drain ends in any case.
                    Ok(0) | Err(_) => return count,
                    Ok(_) if count > 4 << 20 => return count,
                    Ok(length) => count += length,
                }
                std::thread::sleep(Duration::from_micros(50));
            }
        });
        let mut relay = relay();
        relay.output(from, to);
        relay.drain();
        babbler.kill().unwrap();
        babbler.wait().unwrap();
        drop(relay);
        let count = reader.join().unwrap();
        assert!((32 * 1024..=1 << 20).contains(&count), "{count}");
    }

    #[test]
    fn what_a_program_has_not_read_is_not_taken_from_its_caller() {
        let ((from, typed), (read, to)) = (pipe(), pipe());
        write_all(typed.as_fd(), b"for the next program").unwrap();
        let mut relay = relay();
        relay.input(from.try_clone().unwrap(), to);
        relay.drain();
        assert_eq!(read_now(&read), b"");
        assert_eq!(read_now(&from), b"for the next program");
    }

    #[test]
    fn a_reader_that_has_gone_does_not_stop_the_draining() {
        let ((from, written), (read, to)) = (pipe(), pipe());
        write_all(written.as_fd(), &[1; 40_000]).unwrap();
        drop(read);
        let mut relay = relay();
        relay.output(from.try_clone().unwrap(), to);
        relay.drain();
        assert_eq!(read_now(&from), b"", "all of it was read, and thrown away");
    }
}
