//! The Debian templates, by `mmdebstrap`.
//!
//! The recipe itself is a script, `share/debian-recipe`, compiled in: it can be read, run and changed by hand. Here it is
//! run, watched and checked:
//!
//! - it has a process group of its own, which is killed when its [`Running`] is dropped, and by a guard in the group
//!   itself when this process dies (the guard reads a pipe that nobody else holds);
//! - what it mounts is in a mount namespace of its own, so nothing can stay mounted; that it is so is checked all the same,
//!   with the rest, by [`adopt_debian`].

use std::collections::VecDeque;
use std::fmt;
use std::io::{BufRead as _, BufReader, Write};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, Signal, kill_process_group};
use tree::{Kind, Root};

use super::{BuiltTemplate, RecipeError, architecture};

const RECIPE: &str = include_str!("../../../../share/debian-recipe");

/// `sh -c GUARD recipe SUITE DIRECTORY`. Its standard input is the pipe: it ends when we do.
pub(super) const GUARD: &str = r#"
exec 3<&0 </dev/null 2>&1
{ read -r _ <&3; kill -KILL 0; } >/dev/null 2>&1 &
exec 3<&-
sh -c "$0" debian-recipe "$@"
status=$?
kill -KILL $!
exit $status
"#;

/// How many of its last lines an error keeps.
const LAST_LINES: usize = 20;
/// `etc/os-release` is a few hundred bytes.
const OS_RELEASE_LIMIT: u64 = 64 * 1024;

/// The releases that the recipe is tried with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DebianRelease {
    Bullseye,
    Bookworm,
    Trixie,
}

impl DebianRelease {
    pub const ALL: [Self; 3] = [Self::Bullseye, Self::Bookworm, Self::Trixie];

    /// `debian-12`
    pub fn from_template_name(name: &str) -> Option<Self> {
        let number = name.strip_prefix("debian-")?;
        Self::ALL.into_iter().find(|release| release.number() == number)
    }

    pub fn suite(self) -> &'static str {
        match self {
            Self::Bullseye => "bullseye",
            Self::Bookworm => "bookworm",
            Self::Trixie => "trixie",
        }
    }

    pub fn number(self) -> &'static str {
        match self {
            Self::Bullseye => "11",
            Self::Bookworm => "12",
            Self::Trixie => "13",
        }
    }
}

impl fmt::Display for DebianRelease {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Debian {} ({})", self.number(), self.suite())
    }
}

/// Makes a Debian in `rootfs`, an empty directory: a few tens of seconds, from the network. `progress` gets the name of each
/// stage, `log` everything that is said; when `interrupt` becomes readable it is ended.
///
/// # Errors
/// When mmdebstrap is missing or fails, or when what it made cannot be a container's root.
pub fn build_debian(
    rootfs: &Path,
    release: DebianRelease,
    interrupt: Option<BorrowedFd<'_>>,
    progress: &mut dyn FnMut(&str),
    log: &mut dyn Write,
) -> Result<BuiltTemplate, RecipeError> {
    run(RECIPE, rootfs, release, interrupt, progress, log)?;
    adopt_debian(rootfs, release)
}

/// Checks a root that `share/debian-recipe` has made at some other time, and says what it is. Device nodes in it are
/// removed.
///
/// # Errors
/// When it is another release, has no init or a machine-id; and as [`tree::accept_built_root`].
pub fn adopt_debian(rootfs: &Path, release: DebianRelease) -> Result<BuiltTemplate, RecipeError> {
    let root = Root::open(rootfs)?;
    tree::accept_built_root(root.handle())?;
    if !root.has_executable(Path::new("sbin/init"))? {
        return Err(RecipeError::unusable(rootfs, "it has no /sbin/init"));
    }
    let os_release = root.read_file(Path::new("etc/os-release"), OS_RELEASE_LIMIT)?;
    let os_release =
        os_release.map(|file| String::from_utf8_lossy(&file.bytes).into_owned()).unwrap_or_default();
    let says = |key: &str| value_of(&os_release, key);
    if says("ID") != Some("debian") || says("VERSION_ID") != Some(release.number()) {
        let name = says("PRETTY_NAME").unwrap_or("something without a name");
        let name = tree::escaped(name.as_bytes());
        return Err(RecipeError::unusable(rootfs, format!("it is {name}, not {release}")));
    }
    match root.kind(Path::new("etc/machine-id"))? {
        None | Some(Kind::File { size: 0, .. }) => {}
        Some(_) => {
            return Err(RecipeError::unusable(
                rootfs,
                "it has a machine-id, which all containers would share",
            ));
        }
    }
    Ok(BuiltTemplate {
        source: format!("mmdebstrap {}", release.suite()),
        distribution: "debian".to_owned(),
        release: Some(release.number().to_owned()),
        architecture: architecture().to_owned(),
        init: "/sbin/init".to_owned(),
        stop_signal: "SIGRTMIN+3".to_owned(),
        systemd: true,
    })
}

fn value_of<'text>(os_release: &'text str, key: &str) -> Option<&'text str> {
    let value = os_release.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
    Some(value.trim_matches('"'))
}

pub(super) fn run(
    recipe: &str,
    rootfs: &Path,
    release: DebianRelease,
    interrupt: Option<BorrowedFd<'_>>,
    progress: &mut dyn FnMut(&str),
    log: &mut dyn Write,
) -> Result<(), RecipeError> {
    let program = format!("mmdebstrap {}", release.suite());
    let run = |source| RecipeError::Run { program: program.clone(), source };
    // It hears the signals that this process has blocked for itself.
    let child = linux::with_signals_unblocked(&mut Command::new("sh"))
        .args(["-c", GUARD, recipe, release.suite()])
        .arg(rootfs)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .process_group(0)
        // What it says is also read: `RecipeError::is_said_to_be_full`.
        .env("LC_ALL", "C.UTF-8")
        .spawn()
        .map_err(run)?;
    let mut running = Running { child };

    let mut said = VecDeque::with_capacity(LAST_LINES);
    if let Some(output) = running.child.stdout.take() {
        let mut output = BufReader::new(output);
        loop {
            let mut line = Vec::new();
            while line.last() != Some(&b'\n') {
                if output.buffer().is_empty() && is_interrupted(output.get_ref().as_fd(), interrupt) {
                    return Err(RecipeError::Interrupted);
                }
                let more = output.fill_buf().map_err(run)?;
                let end = more.iter().position(|&byte| byte == b'\n').map_or(more.len(), |at| at + 1);
                if end == 0 {
                    break;
                }
                line.extend_from_slice(&more[..end]);
                output.consume(end);
            }
            if line.is_empty() {
                break;
            }
            if line.last() == Some(&b'\n') {
                line.pop();
            }
            log.write_all(&line).and_then(|()| log.write_all(b"\n")).map_err(RecipeError::Log)?;
            let line = String::from_utf8_lossy(&line).into_owned();
            // `I: running --essential-hook in shell: <all of it>`: what stands before the colon is enough.
            if let Some(stage) = line.strip_prefix("I: ").and_then(|stage| stage.split(": ").next()) {
                progress(stage.trim_end_matches('.'));
            }
            if said.len() == LAST_LINES {
                said.pop_front();
            }
            said.push_back(line);
        }
    }
    let status = running.wait().map_err(run)?;
    match status.code() {
        Some(0) => Ok(()),
        Some(127) => {
            Err(RecipeError::MissingProgram { program: "mmdebstrap".to_owned(), package: "mmdebstrap" })
        }
        Some(_) | None => Err(RecipeError::Failed { program, status: status.to_string(), said: said.into() }),
    }
}

/// Waits until there is something to read; true: somebody wants this process to end.
fn is_interrupted(output: BorrowedFd<'_>, interrupt: Option<BorrowedFd<'_>>) -> bool {
    let mut polled = vec![PollFd::from_borrowed_fd(output, PollFlags::IN)];
    polled.extend(interrupt.map(|one| PollFd::from_borrowed_fd(one, PollFlags::IN)));
    // EINTR: then the read waits, which is not ended by a signal, but by what the recipe says next.
    poll(&mut polled, None).is_ok() && polled.get(1).is_some_and(|one| !one.revents().is_empty())
}

/// The recipe at work: a process group that does not outlive this value.
struct Running {
    child: Child,
}

impl Running {
    /// Unlike [`Child::wait`] this keeps standard input open: the guard takes its end for ours.
    fn wait(&mut self) -> std::io::Result<ExitStatus> {
        let guard = self.child.stdin.take();
        let status = self.child.wait();
        drop(guard);
        status
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // While its leader is not reaped its number is nobody else's.
        if matches!(self.child.try_wait(), Ok(None))
            && let Some(group) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw)
        {
            let _ = kill_process_group(group, Signal::KILL);
            drop(self.child.wait());
        }
    }
}
