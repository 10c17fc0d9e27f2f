//! The action scripts of one container, as its monitor runs them.
//!
//! ```text
//!     premount → (root mounted) → mount → init → start   …   end → umount → (root unmounted) → postumount
//! ```
//!
//! Every life of the container, also one that it begins by a reboot, has all of them. What has begun on the way up is taken back on the way down, as
//! with the steps of an operation: `umount` follows a `mount` that has failed, too.

use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use linux::Exit;
use store::{ContainerId, IdRange, Prefix};

use super::console::Console;
use super::container::describe;
use super::protocol::Launch;
use crate::actions::{Action, ActionScript, Ended, HostAction, SKIP, run};
use crate::exec::{self, ExecError, Lines, Program, Request, Script, Streams};
use crate::state::RuntimeState;

/// So much of a script is read. It was checked, and found to be no larger, when it was opened.
const LARGEST: u64 = 16 * 1024 * 1024;
/// How long a process of a script may take to die of SIGKILL.
const KILLING: Duration = Duration::from_secs(30);
/// So many lines, and bytes of them, are told to whoever starts the container: as much as a socket holds, so that what matters finds room.
const MOST_LINES: usize = 100;
const MOST_BYTES: usize = 16 * 1024;

/// Tells whoever starts the container what a script has written.
pub type Tell<'a> = &'a mut dyn FnMut(&str, &[u8]);

/// The scripts, and how far up the container has gone.
#[derive(Debug)]
pub struct Actions {
    prefix: Prefix,
    id: ContainerId,
    veid: String,
    ids: IdRange,
    stage: PathBuf,
    scripts: Vec<(ActionScript, OwnedFd)>,
    limit: Duration,
    /// When all of them have to have ended.
    until: Option<Instant>,
    begun: Vec<Action>,
}

impl Actions {
    /// Those of a launch; `files` are theirs, in their order.
    pub fn new(prefix: &Prefix, launch: &Launch, stage: &Path, files: Vec<OwnedFd>) -> Actions {
        Actions {
            prefix: prefix.clone(),
            id: launch.id,
            veid: launch.veid.clone().unwrap_or_else(|| launch.id.to_string()),
            ids: launch.ids,
            stage: stage.to_owned(),
            scripts: launch.actions.iter().cloned().zip(files).collect(),
            limit: Duration::from_secs(launch.action_limit),
            until: None,
            begun: Vec::new(),
        }
    }

    /// None runs after this. Nobody who says so later has more time for them.
    pub fn end_by(&mut self, until: Instant) {
        self.until = Some(self.until.map_or(until, |before| before.min(until)));
    }

    /// What the next one may take.
    fn rest(&self) -> Duration {
        let rest = self.until.map(|until| until.saturating_duration_since(Instant::now()));
        rest.map_or(self.limit, |rest| rest.min(self.limit))
    }

    /// Seconds that those may take that run between two lives.
    pub fn limit_between_lives(&self) -> u64 {
        self.limit.as_secs() * self.scripts.len() as u64
    }

    /// There is a script for it.
    pub fn has(&self, action: Action) -> bool {
        self.scripts.iter().any(|(script, _)| script.action == action)
    }

    /// It was begun, and was not taken back since.
    pub fn take_begun(&mut self, action: Action) -> bool {
        let before = self.begun.len();
        self.begun.retain(|one| *one != action);
        self.begun.len() < before
    }

    /// Runs the scripts of an action of the host; `root` is what they see of the container's root, a detached tree of mounts, and comes back with what
    /// they have mounted there.
    ///
    /// # Errors
    /// In one line, which of them failed and how; those after it have not run, and the root is gone.
    pub fn run_outside(
        &mut self,
        action: Action,
        mut root: Option<OwnedFd>,
        interrupt: Option<BorrowedFd<'_>>,
        console: &mut Console,
        tell: Tell<'_>,
    ) -> Result<Option<OwnedFd>, String> {
        self.begun.push(action);
        let seen_at = self.prefix.root_dir(&self.id);
        if self.has(action) {
            std::fs::create_dir_all(&seen_at).map_err(|error| error.to_string())?;
        }
        for (script, file) in self.scripts.iter().filter(|(script, _)| script.action == action) {
            let limit = self.rest();
            if limit.is_zero() {
                return Err(format!("`{}` has not run: the deadline of the stop was over", script.name));
            }
            let mut output = Output::new(script, &mut *tell);
            let wanted = HostAction {
                file,
                environment: self.environment(),
                stage: &self.stage,
                root: root.take().map(|tree| (tree, seen_at.clone())),
            };
            let had_root = wanted.root.is_some();
            let ended = run(&self.prefix, &self.id, wanted, limit, interrupt, console, &mut |line| {
                output.line(line);
            });
            let lines = output.lines;
            log(console, script, &lines);
            let ended = ended.map_err(|error| cannot(script, &error, &lines))?;
            let Ended { exit, refused, root: tree } = ended;
            if let Some(refused) = refused {
                return Err(format!("`{}` was refused {refused}", script.name));
            }
            let is_last = self.judge(script, exit, &lines)?;
            if had_root && tree.is_none() {
                return Err(format!("`{}` has left no root behind", script.name));
            }
            root = tree;
            if is_last {
                break;
            }
        }
        Ok(root)
    }

    /// Runs the scripts of an action in the container that `state` tells of.
    ///
    /// # Errors
    /// As [`Actions::run_outside`].
    pub fn run_inside(
        &mut self,
        action: Action,
        state: &RuntimeState,
        interrupt: Option<BorrowedFd<'_>>,
        console: &mut Console,
        tell: Tell<'_>,
    ) -> Result<(), String> {
        for (script, file) in self.scripts.iter().filter(|(script, _)| script.action == action) {
            let mut output = Output::new(script, &mut *tell);
            let exit = self.execute(file, state, interrupt, console, &mut |line| output.line(line));
            let lines = output.lines;
            log(console, script, &lines);
            let exit = exit.map_err(|error| cannot(script, &error, &lines))?;
            if self.judge(script, exit, &lines)? {
                break;
            }
        }
        Ok(())
    }

    fn execute(
        &self,
        file: &OwnedFd,
        state: &RuntimeState,
        interrupt: Option<BorrowedFd<'_>>,
        console: &mut Console,
        each: &mut dyn FnMut(&[u8]),
    ) -> Result<Option<Exit>, ExecError> {
        let null = exec::null()?;
        let (output, written) =
            rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(std::io::Error::from)?;
        let mut environment = exec::environment();
        environment.push(("VEID".to_owned(), self.veid.clone()));
        let request = Request {
            program: Program::Script(Script::new(&read(file)?)?),
            environment,
            streams: Streams::Descriptors([null.as_fd(), written.as_fd(), written.as_fd()]),
        };
        let (child, _) = exec::join(&self.prefix, &self.id, state, &request, exec::JOINING)?;
        drop(request);
        drop(written);
        let exit = Lines::new(output).until_end(&child, self.limit, interrupt, console, each);
        if !matches!(exit, Ok(Some(_))) {
            // The container, and with it what it has left there, is ended by whoever is told.
            drop(child.end(KILLING));
        }
        Ok(exit?)
    }

    /// Whether it was the last of its action; an error when it has failed.
    fn judge(&self, script: &ActionScript, exit: Option<Exit>, lines: &[Vec<u8>]) -> Result<bool, String> {
        let how = match exit {
            Some(Exit::Code(0)) => return Ok(false),
            Some(Exit::Code(SKIP)) => return Ok(true),
            Some(Exit::Code(code)) => format!("exited with {code}"),
            Some(Exit::Signal(signal)) => format!("was killed by signal {signal}"),
            None if self.rest().is_zero() => {
                "had not ended when the deadline of the stop was over, and was killed".to_owned()
            }
            None => format!("did not end within {} s and was killed", self.limit.as_secs()),
        };
        Err(with_last(&format!("`{}` {how}", script.name), lines))
    }

    fn environment(&self) -> Vec<(String, OsString)> {
        let id = self.id.to_string();
        vec![
            ("VEID".to_owned(), self.veid.clone().into()),
            ("VE_CONFFILE".to_owned(), self.prefix.conf_dir().join(format!("{id}.conf")).into()),
            ("VE_ROOT".to_owned(), self.prefix.root_dir(&self.id).into()),
            ("VE_PRIVATE".to_owned(), self.prefix.area_dir(&self.id).into()),
            ("VE_UID".to_owned(), self.ids.first.to_string().into()),
            ("HOME".to_owned(), "/".into()),
            ("PATH".to_owned(), crate::spec::PATH.into()),
            ("SHELL".to_owned(), "/bin/bash".into()),
        ]
    }
}

/// What a script writes, a bounded amount of it.
struct Output<'a, 'b> {
    script: &'a ActionScript,
    tell: &'a mut (dyn FnMut(&str, &[u8]) + 'b),
    lines: Vec<Vec<u8>>,
    bytes: usize,
    is_full: bool,
}

impl<'a, 'b> Output<'a, 'b> {
    fn new(script: &'a ActionScript, tell: &'a mut (dyn FnMut(&str, &[u8]) + 'b)) -> Output<'a, 'b> {
        Output { script, tell, lines: Vec::new(), bytes: 0, is_full: false }
    }

    fn line(&mut self, line: &[u8]) {
        self.bytes += line.len();
        if self.is_full {
            return;
        }
        self.is_full = self.lines.len() >= MOST_LINES || self.bytes > MOST_BYTES;
        let line = if self.is_full { b"(what else it wrote is left out)" } else { line };
        (self.tell)(&self.script.name, line);
        self.lines.push(line.to_owned());
    }
}

fn log(console: &mut Console, script: &ActionScript, lines: &[Vec<u8>]) {
    for line in lines {
        console.note(&format!("{}: {}", script.name, tree::escaped(line)));
    }
}

fn cannot(script: &ActionScript, error: &dyn std::error::Error, lines: &[Vec<u8>]) -> String {
    with_last(&format!("`{}` could not be run: {}", script.name, describe(error)), lines)
}

/// What failed, and the last that it said.
fn with_last(what: &str, lines: &[Vec<u8>]) -> String {
    let last = lines.iter().rfind(|line| !line.trim_ascii().is_empty());
    last.map_or_else(
        || what.to_owned(),
        |last| format!("{what}: {}", tree::escaped(&last[..last.len().min(500)])),
    )
}

fn read(file: &OwnedFd) -> std::io::Result<Vec<u8>> {
    use std::os::unix::fs::FileExt;
    let file = std::fs::File::from(file.try_clone()?);
    // The handle is the same for every life: where it stands is no concern of this one.
    let mut bytes = vec![0; file.metadata()?.len().min(LARGEST) as usize];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}
