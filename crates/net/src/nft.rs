//! `nft`, executed.

use std::io::{self, Read, Seek, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::NetworkError;

/// Where Debian and Ubuntu have it.
const NFT: [&str; 2] = ["/usr/sbin/nft", "/sbin/nft"];

/// So long it may take, on however loaded a host.
const PATIENCE: Duration = Duration::from_secs(30);
/// Of what it says of a refusal, which is less than a pipe holds.
const LONGEST: u64 = 4096;
/// Of what it tells: a hundred bytes a container, thousands of times.
const MOST_TOLD: u64 = 64 << 20;

/// This host has a packet filter that can be told something.
pub fn has_filter() -> bool {
    program().is_some()
}

fn program() -> Option<&'static str> {
    NFT.into_iter().find(|path| std::path::Path::new(path).exists())
}

/// What a container has in a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Element {
    /// With all that is said of it, as it is added.
    pub whole: String,
    /// What it is found by, as it is deleted.
    pub key: String,
}

impl From<String> for Element {
    fn from(whole: String) -> Element {
        Element { key: whole.clone(), whole }
    }
}

/// Takes away what is not among those that are wanted.
pub(crate) fn gone(table: &str, before: &[Element], after: &[Element]) -> String {
    let gone = before.iter().filter(|element| !after.contains(element));
    gone.map(|element| absent(table, &element.key)).collect()
}

/// Puts them there; one that is there already stays as it is.
pub(crate) fn added(table: &str, elements: &[Element]) -> impl Iterator<Item = String> {
    elements.iter().map(move |element| format!("add element {table} {}\n", element.whole))
}

/// `delete` refuses what is not there, and there is no other word for it before nftables 1.0.7.
pub(crate) fn absent(table: &str, element: &str) -> String {
    format!("add element {table} {element}\ndelete element {table} {element}\n")
}

/// What it has to tell, as JSON.
pub(crate) fn ask(what: &str) -> Result<Vec<u8>, NetworkError> {
    let program = program().ok_or(NetworkError::NoFilter)?;
    let run = |source| NetworkError::System { what: format!("run {program}"), source };
    // Not a pipe, which has an end, and whoever waits for nft would have to empty it.
    let said = memfd_create("said", MemfdFlags::CLOEXEC).map_err(io::Error::from).map_err(run)?;
    let mut said = std::fs::File::from(said);
    let mut child = Command::new(program)
        .args(["-j", what])
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(said.try_clone().map_err(run)?)
        .stderr(Stdio::null())
        .spawn()
        .map_err(run)?;
    if !ended(&mut child).map_err(run)?.success() {
        return Err(NetworkError::Filter { said: format!("`{what}`") });
    }
    let mut bytes = Vec::new();
    said.rewind().and_then(|()| said.take(MOST_TOLD).read_to_end(&mut bytes)).map_err(run)?;
    Ok(bytes)
}

/// Does all of it or nothing: `nft -f` is one transaction.
pub(crate) fn tell(text: &str) -> Result<(), NetworkError> {
    let program = program().ok_or(NetworkError::NoFilter)?;
    let run = |source| NetworkError::System { what: format!("run {program}"), source };
    let mut child = Command::new(program)
        .args(["-f", "-"])
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(run)?;
    if let Some(mut input) = child.stdin.take() {
        // What it has to say of an input that it did not read to its end, it says.
        let _ = input.write_all(text.as_bytes());
    }
    let status = ended(&mut child).map_err(run)?;
    if status.success() {
        return Ok(());
    }
    let mut said = String::new();
    if let Some(errors) = child.stderr.take() {
        let _ = errors.take(LONGEST).read_to_string(&mut said);
    }
    let first = said.lines().find(|line| !line.trim().is_empty()).unwrap_or("it does not say why");
    Err(NetworkError::Filter { said: first.trim().to_owned() })
}

/// Waits for its end, and makes one: it has milliseconds of work.
fn ended(child: &mut Child) -> io::Result<ExitStatus> {
    let deadline = Instant::now() + PATIENCE;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::NotFound)?;
    // Not reaped yet, so the number is its own.
    let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
    loop {
        let rest = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec { tv_sec: rest.as_secs() as i64, tv_nsec: rest.subsec_nanos().into() };
        match poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&timeout)) {
            Ok(1..) => return child.wait(),
            Ok(0) => {
                child.kill()?;
                child.wait()?;
                return Err(io::ErrorKind::TimedOut.into());
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
