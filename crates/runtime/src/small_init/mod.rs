//! Process 1 of a container that has no init: it starts the application's program, and looks after it.
//!
//! ```text
//! libcontainer's init, in the container, confined as any ──> process 1: reaps, passes signals on, ends with the program
//!                                                             └─ the program, as its user, in its directory
//! ```
//!
//! It is a copy of the monitor that never executes anything, so that nothing has to be put into the root, and no program be found there. What is the
//! host's in it, its code and its memory, is out of reach: it is not dumpable, and its memory belongs to the user namespace of the host, in
//! which nobody in the container has a capability (ptrace(2), *Ptrace access mode checking*). So nobody there can open its `exe`, `fd`, `mem`, `root` or
//! `map_files`, or trace it. Of descriptors it keeps three on the container's console, one for its signals and one on the program.
//!
//! The one who reads the container's files (its users) is not process 1 but what is to become the program.

mod user;

use std::convert::Infallible;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use libcontainer::workload::{Executor, ExecutorError, ExecutorValidationError};
use linux::{
    Child, SignalReader, close_on_exec_from, close_others, default_signals, exit_now, fork, reap_any,
    signal_by_number, unblock_signals,
};
use oci_spec::runtime::Spec;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Gid, Uid, set_dumpable_behavior};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use store::Application;
use tree::Root;

use self::user::User;
use crate::monitor::describe;

/// What process 1 is called among the processes of its container.
const NAME: &std::ffi::CStr = c"init";
/// SIGCHLD of linux/signal.h, on the machines that we run on.
const CHILD_ENDED: i32 = 17;
/// Signals that mean the one who gets them: SIGILL SIGTRAP SIGABRT SIGBUS SIGFPE SIGSEGV SIGSYS; and SIGKILL and SIGSTOP, which nobody gets to see.
const OWN: [i32; 9] = [4, 5, 6, 7, 8, 9, 11, 19, 31];
/// Of what the program's process says when it cannot become the program.
const LONGEST_WORDS: u64 = 1024;
/// How long to wait after poll(2) has failed.
const BETWEEN_FAILURES: Duration = Duration::from_secs(1);

/// For `libcontainer`: instead of executing an init, be one.
#[derive(Debug, Clone)]
pub struct SmallInit {
    /// What to run.
    pub application: Application,
}

impl Executor for SmallInit {
    fn exec(&self, specification: &Spec) -> Result<(), ExecutorError> {
        let Err(because) = be_process_one(&self.application, specification);
        // The monitor reads it; from here nothing of `libcontainer` has anything to do any more.
        tracing::error!("{because}");
        exit_now(127)
    }

    fn validate(&self, _: &Spec) -> Result<(), ExecutorValidationError> {
        // Whether the program is there is found out where it is executed, by its user and with its environment.
        Ok(())
    }
}

/// Returns only why the program could not be run.
fn be_process_one(application: &Application, specification: &Spec) -> Result<Infallible, String> {
    // Before there is anybody in the container who could look.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(named("dumpable"))?;
    rustix::thread::set_name(NAME).map_err(named("name"))?;
    close_on_exec_from(3).map_err(|error| format!("descriptors: {error}"))?;
    let all: Vec<i32> = (1..=64).filter(|signal| !OWN.contains(signal)).collect();
    let signals = SignalReader::new(&all).map_err(|error| format!("signals: {error}"))?;
    let (words, teller) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(named("pipe"))?;
    let program = fork(0, None, || {
        let Err(because) = become_program(application, specification);
        let _ = File::from(teller).write_all(because.as_bytes());
        127
    })
    .map_err(|error| format!("fork: {error}"))?;
    let because = read_until_executed(words)?;
    if !because.is_empty() {
        let _ = program.wait();
        return Err(because);
    }
    // Among them the pipe by which the monitor sees that it runs.
    close_others(&[signals.as_fd(), program.pidfd()]);
    exit_now(look_after(&program, &signals))
}

/// What the program's process says until it has been executed, or has died: nothing, where it was executed.
fn read_until_executed(words: OwnedFd) -> Result<String, String> {
    let mut said = Vec::new();
    File::from(words).take(LONGEST_WORDS).read_to_end(&mut said).map_err(|error| format!("pipe: {error}"))?;
    Ok(String::from_utf8_lossy(&said).into_owned())
}

/// In the child: from here on it is only the program's. Returns only why it could not be executed.
fn become_program(application: &Application, specification: &Spec) -> Result<Infallible, String> {
    default_signals();
    unblock_signals();
    // The console is process 1's terminal: were it the program's, it would die of its hanging up when the monitor is killed.
    rustix::process::setsid().map_err(named("session"))?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let root = Root::open(Path::new("/")).map_err(|error| describe(&error))?;
    let user = User::find(application.user.as_deref(), &root)?;
    drop(root);
    let directory = Path::new("/").join(application.directory.as_deref().unwrap_or("/"));
    enter(&directory)
        .map_err(|error| format!("it cannot be started in `{}`: {error}", tree::escaped_path(&directory)))?;
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    for stream in [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()] {
        // What opens `/dev/stdout` opens the terminal anew, as its user. Where it is none of ours it is left.
        let _ = rustix::fs::fchown(stream, Some(uid), None);
    }
    let groups: Vec<Gid> = user.groups.iter().map(|&group| Gid::from_raw(group)).collect();
    set_thread_groups(&groups).map_err(named("groups"))?;
    set_thread_res_gid(gid, gid, gid).map_err(named("group"))?;
    set_thread_res_uid(uid, uid, uid).map_err(named("user"))?;
    // Taking ids has set it to what the host has in fs.suid_dumpable.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(named("dumpable"))?;
    let Some((program, arguments)) = application.arguments.split_first() else {
        return Err("there is no program to execute".to_owned());
    };
    let error = Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(environment(application, specification, &user.home))
        .exec();
    // In the words in which `libcontainer` tells of it.
    Err(match Errno::from_io_error(&error) {
        Some(Errno::NOENT) => "execvp: ENOENT".to_owned(),
        Some(Errno::ACCESS) => "execvp: EACCES".to_owned(),
        Some(Errno::NOEXEC) => "execvp: ENOEXEC".to_owned(),
        _ => describe(&error),
    })
}

/// Goes there; a directory that is not there is made, as whatever else runs images does.
fn enter(directory: &Path) -> io::Result<()> {
    match std::env::set_current_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            std::fs::DirBuilder::new().recursive(true).mode(0o755).create(directory)?;
            std::env::set_current_dir(directory)
        }
        result => result,
    }
}

/// That of any process 1, over it the user's home, over that what the image says.
fn environment(application: &Application, specification: &Spec, home: &str) -> Vec<(String, String)> {
    let process = specification.process().as_ref();
    let every = process.and_then(|process| process.env().as_deref()).unwrap_or_default();
    let pairs = |words: &[String]| -> Vec<(String, String)> {
        let split =
            |word: &String| word.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()));
        words.iter().filter_map(split).filter(|(key, _)| !key.is_empty()).collect()
    };
    let mut all = pairs(every);
    all.extend(specification.hostname().clone().map(|name| ("HOSTNAME".to_owned(), name)));
    all.push(("HOME".to_owned(), home.to_owned()));
    all.extend(pairs(&application.environment));
    all
}

/// Until the program has ended; returns its exit code, 128 and the number for a signal.
fn look_after(program: &Child, signals: &SignalReader) -> i32 {
    loop {
        match poll(&mut [PollFd::new(signals, PollFlags::IN)], None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => std::thread::sleep(BETWEEN_FAILURES),
        }
        while let Ok(Some(sent)) = signals.try_next_sent() {
            // Not what the kernel says to process 1 of its terminal.
            if sent.number != CHILD_ENDED && sent.is_by_process {
                let _ = signal_by_number(program.pidfd(), sent.number);
            }
        }
        while let Ok(Some((pid, how))) = reap_any() {
            if pid == program.pid() {
                return how.shell_code();
            }
        }
    }
}

fn named(what: &'static str) -> impl FnOnce(Errno) -> String {
    move |error| format!("{what}: {error}")
}

#[cfg(test)]
mod tests {
    use oci_spec::runtime::{ProcessBuilder, SpecBuilder};

    use super::*;

    #[test]
    fn what_an_image_says_is_over_the_users_home_and_that_over_all_else() {
        let process = ProcessBuilder::default().env(["HOME=/".to_owned(), "A=1".to_owned()]).build().unwrap();
        let specification = SpecBuilder::default().hostname("web01").process(process).build().unwrap();
        let application = Application {
            environment: ["A=2", "B=x=y", "C=", "none", "=x"].map(str::to_owned).to_vec(),
            ..Application::default()
        };
        let all: std::collections::BTreeMap<String, String> =
            environment(&application, &specification, "/srv").into_iter().collect();
        let all: Vec<String> = all.into_iter().map(|(key, value)| format!("{key}={value}")).collect();
        assert_eq!(all, ["A=2", "B=x=y", "C=", "HOME=/srv", "HOSTNAME=web01"]);
    }
}
