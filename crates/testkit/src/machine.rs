//! A whole computer: a stock Debian in an emulator, which can be told to run commands, and whose power can be cut.
//!
//! `share/vm/build` has made it; a [`VirtualMachine`] works on a copy of its disk of its own. Commands go in and come out by a virtio serial port, whose other end
//! in the machine is `share/vm/host/agent`: a line of base64 in; a line `code bytes-of-stdout bytes-of-stderr` out, then these bytes. Our end is the emulator's
//! stdin, a socket that is there before the machine is: there is nothing to connect to and no file to find.
//!
//! Cutting the power is to kill the emulator. What the machine had handed to its disk by then is in the file, in this host's page cache; what was
//! only in its own memory is gone. So `cache=unsafe` loses nothing here that a flush would have saved, and a flush costs nothing. What it cannot
//! show is a disk that loses, out of its own cache, what was written and not flushed.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::Ran;

/// For a boot; one takes 20 to 30 s on two processors without hardware virtualisation.
const BOOT: Duration = Duration::from_secs(240);
/// For a command that says nothing else.
const COMMAND: Duration = Duration::from_secs(300);

/// How the directories of machines are named.
const PREFIX: &str = "machine-";

/// A machine, switched on or off. Gone with this, and with the process whatever ends it.
#[derive(Debug)]
pub struct VirtualMachine {
    built: PathBuf,
    own: TempDir,
    /// Says that `own` is somebody's.
    _lock: OwnedFd,
    emulator: Option<Emulator>,
}

#[derive(Debug)]
struct Emulator {
    process: Child,
    port: UnixStream,
    /// What has come and belongs to no complete answer yet.
    read: Vec<u8>,
}

impl VirtualMachine {
    /// A new one, switched off, from what lies in `built`.
    pub fn new(built: &Path) -> VirtualMachine {
        let disk = built.join("disk.img");
        assert!(disk.is_file(), "{} is not there: `make vm-test` makes it", disk.display());
        // As `share/vm/build` does: what it is copied from is not made anew meanwhile.
        let turn = std::fs::File::open(built.join("lock")).expect("open the lock");
        rustix::fs::flock(&turn, rustix::fs::FlockOperation::LockExclusive).expect("take the lock");
        remove_ownerless(built);
        let own = TempDir::with_prefix_in(PREFIX, built).expect("a directory for the machine");
        let lock = try_lock(own.path()).expect("nobody else knows it");
        let copied = Command::new("cp")
            .args(["--sparse=always", "--reflink=auto"])
            .args([&disk, &own.path().join("disk.img")])
            .status()
            .expect("run cp");
        assert!(copied.success(), "the disk cannot be copied");
        VirtualMachine { built: built.to_owned(), own, _lock: lock, emulator: None }
    }

    /// The file that is its disk.
    pub fn disk(&self) -> PathBuf {
        self.own.path().join("disk.img")
    }

    /// Switches it on and waits until it takes commands; how long that took.
    #[track_caller]
    pub fn boot(&mut self) -> Duration {
        assert!(self.emulator.is_none(), "it is on already");
        let began = Instant::now();
        let (port, other) = UnixStream::pair().expect("a pair of sockets");
        let log = std::fs::File::create(self.own.path().join("emulator.log"))
            .expect("a file for the emulator's words");
        // It ends with the thread that runs the test, whatever ends that.
        let process = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(self.built.join("qemu"))
            .args("-machine q35 -accel tcg,thread=multi -cpu max -smp 2 -m 2048".split(' '))
            .args("-display none -monitor none -no-reboot -nic none".split(' '))
            .arg("-kernel")
            .arg(self.built.join("vmlinuz"))
            .arg("-initrd")
            .arg(self.built.join("initrd"))
            .args([
                "-append",
                "console=ttyS0 root=/dev/vda rw quiet systemd.show_status=0 loglevel=4 panic=-1",
            ])
            .arg("-drive")
            .arg(format!("file={},if=virtio,format=raw,cache=unsafe", self.disk().display()))
            .arg("-serial")
            .arg(format!("file:{}", self.console().display()))
            .args("-device virtio-serial -chardev socket,id=test,fd=0".split(' '))
            .args("-device virtserialport,chardev=test,name=test".split(' '))
            .stdin(OwnedFd::from(other))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("start the emulator");
        self.emulator = Some(Emulator { process, port, read: Vec::new() });
        let greeting = self.line_by(began + BOOT);
        assert_eq!(
            greeting.as_deref(),
            Some("ready"),
            "it has not come up in {BOOT:?}\n{}",
            self.last_words()
        );
        began.elapsed()
    }

    /// Runs a shell line in it, as root, in a unit of its own systemd.
    #[track_caller]
    pub fn run(&mut self, line: &str) -> Ran {
        self.run_within(COMMAND, line)
    }

    /// As [`VirtualMachine::run`], with a deadline of its own.
    #[track_caller]
    pub fn run_within(&mut self, limit: Duration, line: &str) -> Ran {
        self.begin(line);
        self.answer_within(limit)
            .unwrap_or_else(|| panic!("`{line}` has not ended in {limit:?}\n{}", self.last_words()))
    }

    /// Runs a shell line that must succeed; its stdout, without the last newline.
    #[track_caller]
    pub fn ok(&mut self, line: &str) -> String {
        let ran = self.run(line);
        assert_eq!(ran.code, 0, "{line}\n{ran}");
        ran.stdout.trim_end_matches('\n').to_owned()
    }

    /// Has a shell line begun, and does not wait for its end.
    #[track_caller]
    pub fn begin(&mut self, line: &str) {
        let emulator = self.emulator.as_mut().expect("it is on");
        let sent = emulator.port.write_all(format!("{}\n", base64(line.as_bytes())).as_bytes());
        assert!(sent.is_ok(), "the machine has ended\n{}", self.last_words());
    }

    /// Waits for the end of what was begun; `None` when it has not come by then.
    #[track_caller]
    pub fn answer_within(&mut self, limit: Duration) -> Option<Ran> {
        let deadline = Instant::now() + limit;
        loop {
            let emulator = self.emulator.as_mut().expect("it is on");
            if let Some(ran) = emulator.answer() {
                return Some(ran);
            }
            if !emulator.read_more(deadline) {
                assert!(Instant::now() >= deadline, "the machine has ended\n{}", self.last_words());
                return None;
            }
        }
    }

    /// Cuts the power. What was begun may have ended just before: then that is its answer.
    pub fn cut(&mut self) -> Option<Ran> {
        let mut emulator = self.emulator.take()?;
        let _ = emulator.process.kill();
        let _ = emulator.process.wait();
        // What it had said before its end is still to be read.
        while emulator.read_more(Instant::now() + Duration::from_secs(1)) {}
        emulator.answer()
    }

    /// Has it shut down in order, and waits for that; how long it took.
    #[track_caller]
    pub fn power_off(&mut self) -> Duration {
        let began = Instant::now();
        self.begin("systemctl poweroff");
        let emulator = self.emulator.as_mut().expect("it is on");
        let deadline = began + COMMAND;
        // Its end is the end of the socket.
        while emulator.read_more(deadline) {}
        assert!(Instant::now() < deadline, "it does not shut down\n{}", self.last_words());
        self.cut();
        began.elapsed()
    }

    fn line_by(&mut self, deadline: Instant) -> Option<String> {
        let emulator = self.emulator.as_mut()?;
        loop {
            if let Some(end) = emulator.read.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = emulator.read.drain(..=end).collect();
                return Some(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            if !emulator.read_more(deadline) {
                return None;
            }
        }
    }

    fn console(&self) -> PathBuf {
        self.own.path().join("console.log")
    }

    /// The end of what its kernel, its shell and the emulator have said.
    fn last_words(&self) -> String {
        let end_of = |path: PathBuf| {
            let bytes = std::fs::read(path).unwrap_or_default();
            let text = String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(3000)..]).into_owned();
            text.lines().map(|line| format!("  | {line}\n")).collect::<String>()
        };
        format!(
            "its console:\n{}the emulator:\n{}",
            end_of(self.console()),
            end_of(self.own.path().join("emulator.log"))
        )
    }
}

impl Drop for VirtualMachine {
    fn drop(&mut self) {
        self.cut();
    }
}

impl Emulator {
    /// Reads what comes next; false when nothing has by `deadline`, or when nothing more will.
    fn read_more(&mut self, deadline: Instant) -> bool {
        let rest = deadline.saturating_duration_since(Instant::now());
        // A time-out of zero is none.
        if rest.is_zero() || self.port.set_read_timeout(Some(rest)).is_err() {
            return false;
        }
        let mut buffer = [0u8; 65_536];
        match self.port.read(&mut buffer) {
            Ok(0) => false,
            Ok(length) => {
                self.read.extend_from_slice(&buffer[..length]);
                true
            }
            Err(error) => error.kind() == ErrorKind::Interrupted,
        }
    }

    /// The first complete answer, if there is one.
    fn answer(&mut self) -> Option<Ran> {
        let end = self.read.iter().position(|byte| *byte == b'\n')?;
        let header = String::from_utf8_lossy(&self.read[..end]).into_owned();
        let numbers: Vec<usize> = header.split(' ').filter_map(|word| word.parse().ok()).collect();
        let [code, out, err] = numbers[..] else { panic!("the agent in the machine says `{header}`") };
        if self.read.len() < end + 1 + out + err {
            return None;
        }
        let whole: Vec<u8> = self.read.drain(..end + 1 + out + err).skip(end + 1).collect();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Some(Ran {
            code: i32::try_from(code).unwrap_or(-1),
            stdout: text(&whole[..out]),
            stderr: text(&whole[out..]),
        })
    }
}

/// Removes what machines have left whose process was killed.
fn remove_ownerless(built: &Path) {
    let directory = std::fs::File::open(built).expect("open the directory of the machine");
    for entry in std::fs::read_dir(built).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(PREFIX) && try_lock(&entry.path()).is_some() {
            drop(tree::remove_entry(directory.as_fd(), &entry.file_name()));
        }
    }
}

fn try_lock(directory: &Path) -> Option<OwnedFd> {
    let directory = std::fs::File::open(directory).ok()?;
    rustix::fs::flock(&directory, rustix::fs::FlockOperation::NonBlockingLockExclusive).ok()?;
    Some(directory.into())
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let number =
            group.iter().fold(0u32, |number, byte| number << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for place in 0..4 {
            let digit = DIGITS[(number >> (18 - 6 * place)) as usize & 63];
            text.push(if place <= group.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::base64;

    #[test]
    fn base64_is_that_of_rfc_4648() {
        let cases = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
        ];
        for (plain, coded) in cases {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
        assert_eq!(base64(&[0xff, 0xfe, 0xfd]), "//79");
    }
}
