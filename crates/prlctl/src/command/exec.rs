//! `prlctl exec` and `prlctl enter`

use std::ffi::OsString;

use engine::{Code, Failure, Host, Result};
use runtime::exec::Program;
use store::{Area, ContainerId, Lock};

use super::host;
use crate::arguments::{Enter, Exec};
use crate::terminal;

/// Runs a command in a container; the code is the command's.
///
/// # Errors
/// [`engine::Failure`] when it could not be run.
pub fn exec(arguments: Exec) -> Result<u8> {
    let words = arguments.command;
    let program = if arguments.without_shell {
        Program::Arguments(words)
    } else if words == ["-"] {
        Program::ShellInput
    } else {
        let mut line = OsString::new();
        for (index, word) in words.iter().enumerate() {
            if index > 0 {
                line.push(" ");
            }
            line.push(word);
        }
        Program::Shell(line)
    };
    visit(&arguments.container, program)
}

/// Opens a shell in a container.
///
/// # Errors
/// [`engine::Failure`] when it could not be opened.
pub fn enter(arguments: &Enter) -> Result<u8> {
    visit(&arguments.container, Program::Login)
}

/// Seconds that are waited for another command: most hold their lock for a moment.
const PATIENCE: u64 = 2;

fn visit(words: &str, program: Program) -> Result<u8> {
    let host = host(PATIENCE, false)?;
    host.not_begun(&format!("cannot execute in `{}`", tree::escaped(words.as_bytes())));
    let id = host.find_alone(words)?;
    recover_if_needed(&host, &id, words)?;
    // Shared, and only while the program is being started: a reinstall must not pull the root away under that, and may under the rest.
    let lock = host.lock_container(&id, words, Lock::shared).map_err(try_again)?;
    let environment = environment(&host, &id);
    // From here on signals are the program's, and at its end they end this process as they would any.
    linux::end_silently(&engine::real::ENDING_SIGNALS);
    let result = terminal::run(&host.prefix, &id, words, program, environment, lock);
    drop(host);
    result
}

/// What it has besides. A `ve.conf` that is damaged keeps nobody out who would look after that from within.
fn environment(host: &Host, id: &ContainerId) -> Vec<(String, String)> {
    let conf = Area::open_unchecked(&host.prefix, id).and_then(|area| area.conf()).unwrap_or_default();
    let conf = engine::defaults::beside(&conf, &host.configuration().unwrap_or_default());
    store::environment::of(&conf).unwrap_or_default()
}

fn recover_if_needed(host: &Host, id: &ContainerId, words: &str) -> Result<()> {
    let area = Area::open_unchecked(&host.prefix, id)?;
    if area.journal().is_ok_and(|journal| journal.is_none()) {
        return Ok(());
    }
    drop(host.open(words).map_err(try_again)?);
    Ok(())
}

/// What follows `exec` is the container's: there is no `--lock-wait` here.
fn try_again(failure: Failure) -> Failure {
    if failure.code == Code::Locked { failure.hint("try again when it is done") } else { failure }
}
