//! Templates out of packages of Debian, Ubuntu and the like, by `mmdebstrap`.
//!
//! What is done is a script, `share/debian-recipe`, compiled in: it can be read, run and changed by hand. Here it is
//! told what a recipe says, run, watched and checked:
//!
//! - it has a process group of its own, which is killed when its [`Running`] is dropped, and by a guard in the group
//!   itself when this process dies (the guard reads a pipe that nobody else holds);
//! - what it mounts is in a mount namespace of its own, so nothing can stay mounted; that it is so is checked all the same,
//!   with the rest, by [`adopt`].

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::{BufRead as _, BufReader, Write};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, Signal, kill_process_group};
use tree::{Kind, Root};

use super::import::{Told, Wanted, judge};
use super::recipe::Mmdebstrap;
use super::{BuiltTemplate, RecipeError};

const RECIPE: &str = include_str!("../../../../share/debian-recipe");

/// `sh -c GUARD recipe SUITE DIRECTORY MIRROR…`. Its standard input is the pipe: it ends when we do.
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
/// Which package has a keyring that a recipe names.
const KEYRINGS: [(&str, &str); 2] = [
    ("debian-archive-keyring.gpg", "debian-archive-keyring"),
    // In Ubuntu itself it is `ubuntu-keyring`.
    ("ubuntu-archive-keyring.gpg", "ubuntu-archive-keyring"),
];

/// What a recipe says, with its scripts read.
#[derive(Debug, Clone, Default)]
pub struct Prepared {
    /// What it says.
    pub recipe: Mmdebstrap,
    /// The text of `pre`.
    pub pre: Option<String>,
    /// The text of `post`.
    pub post: Option<String>,
}

/// Makes a system in `rootfs`, an empty directory: a few tens of seconds, from the network. `progress` gets the name of each
/// stage, `log` everything that is said; when `interrupt` becomes readable it is ended.
///
/// # Errors
/// When mmdebstrap or the keyring is missing, when no mirror can be reached, when it fails, or when what it made cannot be a container's root.
pub fn build(
    rootfs: &Path,
    prepared: &Prepared,
    interrupt: Option<BorrowedFd<'_>>,
    progress: &mut dyn FnMut(&str),
    log: &mut dyn Write,
) -> Result<BuiltTemplate, RecipeError> {
    let recipe = &prepared.recipe;
    if let Some(keyring) = recipe.keyring.as_ref().filter(|keyring| !keyring.is_file()) {
        let is_of = |(file, _): &&(&str, &str)| keyring.file_name().is_some_and(|name| name == *file);
        let package = KEYRINGS.iter().find(is_of).map(|(_, package)| *package);
        return Err(RecipeError::MissingKeyring { path: keyring.clone(), package });
    }
    run(RECIPE, rootfs, prepared, interrupt, progress, log)?;
    adopt(rootfs, recipe, progress)
}

/// Checks a root that `share/debian-recipe` has made, perhaps at some other time, and says what it is. Device nodes in it are
/// removed.
///
/// # Errors
/// When it is another distribution or release than the recipe says, has no init or a machine-id; and as [`tree::accept_built_root`].
pub fn adopt(
    rootfs: &Path,
    recipe: &Mmdebstrap,
    progress: &mut dyn FnMut(&str),
) -> Result<BuiltTemplate, RecipeError> {
    let root = Root::open(rootfs)?;
    tree::accept_built_root(root.handle())?;
    match root.kind(Path::new("etc/machine-id"))? {
        None | Some(Kind::File { size: 0, .. }) => {}
        Some(_) => {
            return Err(RecipeError::unusable(
                rootfs,
                "it has a machine-id, which all containers would share",
            ));
        }
    }
    let mut told = Told { goes_on: &mut |_| true, note: progress };
    let source = format!("mmdebstrap {}", recipe.suite);
    let built = judge(rootfs, source, None, &Wanted::default(), &mut told)?;
    let is_as_said = recipe.distribution.as_ref().is_none_or(|wanted| *wanted == built.distribution)
        && (recipe.release.is_none() || recipe.release == built.release);
    if !is_as_said {
        let words = |distribution: &str, release: Option<&str>| {
            [Some(distribution), release].into_iter().flatten().collect::<Vec<_>>().join(" ")
        };
        let is = words(&built.distribution, built.release.as_deref());
        let said = recipe.distribution.as_ref().unwrap_or(&built.distribution);
        let said = words(said, recipe.release.as_deref());
        return Err(RecipeError::unusable(rootfs, format!("it is {is}, not {said}, as the recipe says")));
    }
    Ok(built)
}

pub(super) fn run(
    recipe: &str,
    rootfs: &Path,
    prepared: &Prepared,
    interrupt: Option<BorrowedFd<'_>>,
    progress: &mut dyn FnMut(&str),
    log: &mut dyn Write,
) -> Result<(), RecipeError> {
    let told = &prepared.recipe;
    let program = format!("mmdebstrap {}", told.suite);
    let run = |source| RecipeError::Run { program: program.clone(), source };
    // It hears the signals that this process has blocked for itself.
    let mut command = Command::new("sh");
    let child = linux::with_signals_unblocked(say(&mut command, prepared))
        .args(["-c", GUARD, recipe, &told.suite])
        .arg(rootfs)
        .args(&told.mirrors)
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
        Some(_) | None => {
            let said: Vec<String> = said.into();
            // As apt says it, in English, as it was asked to.
            let fetched =
                said.iter().find(|line| line.starts_with("E: ") && line.contains("Failed to fetch"));
            Err(match fetched {
                Some(line) => RecipeError::Unreachable {
                    tried: told.mirrors.clone(),
                    said: tree::escaped(line.trim_start_matches("E: ").as_bytes()),
                },
                None => RecipeError::Failed { program, status: status.to_string(), said },
            })
        }
    }
}

/// Puts what a recipe says into the environment of the script; what it does not say is not said by anybody else's.
fn say<'command>(command: &'command mut Command, prepared: &Prepared) -> &'command mut Command {
    let recipe = &prepared.recipe;
    let list = |words: &[String]| (!words.is_empty()).then(|| words.join(",").into());
    let keyring: Option<OsString> = recipe.keyring.as_ref().map(Into::into);
    let values: [(&str, Option<OsString>); 7] = [
        ("RECIPE_COMPONENTS", list(&recipe.components)),
        ("RECIPE_KEYRING", keyring),
        ("RECIPE_VARIANT", Some(recipe.variant.word().into())),
        ("RECIPE_BASE_PACKAGES", list(&recipe.base_packages)),
        ("RECIPE_PACKAGES", list(&recipe.packages)),
        ("RECIPE_PRE", prepared.pre.as_ref().map(Into::into)),
        ("RECIPE_POST", prepared.post.as_ref().map(Into::into)),
    ];
    for (key, value) in values {
        match value {
            Some(value) => command.env(key, value),
            None => command.env_remove(key),
        };
    }
    // Not as an option of apt, which would stay in the new root.
    if let Some(proxy) = &recipe.proxy {
        command.env("http_proxy", proxy).env("https_proxy", proxy);
    }
    command
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
