//! `prlctl exec` and `prlctl enter`

use std::ffi::OsString;
use std::time::Duration;

use engine::{Host, Result};
use runtime::exec::Program;
use store::{Area, ContainerId, Lock, LockName};

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

fn visit(words: &str, program: Program) -> Result<u8> {
    let host = host(0, false)?;
    let id = host.find(words)?;
    recover_if_needed(&host, &id, words)?;
    // Shared, and only while the program is being started: a reinstall must not pull the root away under that, and may under the rest.
    let lock = Lock::shared(&host.prefix, LockName::Container(id), Duration::ZERO, &host.command).map_err(
        |error| {
            let mut failure = engine::Failure::from(error);
            failure.what = format!("`{words}` is locked by another command");
            failure.hint = Some("try again when it is done".to_owned());
            failure
        },
    )?;
    let result = terminal::run(&host.prefix, &id, words, program, lock);
    drop(host);
    result
}

fn recover_if_needed(host: &Host, id: &ContainerId, words: &str) -> Result<()> {
    let area = Area::open_unchecked(&host.prefix, id)?;
    if area.journal().is_ok_and(|journal| journal.is_none()) {
        return Ok(());
    }
    drop(host.open(words).map_err(|failure| {
        if failure.code == engine::Code::Locked { failure.hint("try again when it is done") } else { failure }
    })?);
    Ok(())
}
