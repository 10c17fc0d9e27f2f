//! What is executed, and how its interpreter is found in the container.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::fs::{MemfdFlags, SealFlags};

/// A program for a container.
#[derive(Debug)]
pub enum Program {
    /// Executed as it is; the first word is looked for in `PATH`.
    Arguments(Vec<OsString>),
    /// By `bash -c`, or `sh -c` where there is no bash.
    Shell(OsString),
    /// By a shell that reads its standard input.
    ShellInput,
    /// A login shell.
    Login,
    /// A script of the host, of which nothing is left behind in the container.
    Script(Script),
}

/// A script, in memory that nobody can change any more.
#[derive(Debug)]
pub struct Script {
    text: OwnedFd,
    interpreter: Option<Interpreter>,
}

/// The first line of a script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interpreter {
    /// The program.
    pub path: String,
    /// Its one argument, as the kernel has it: all the rest of the line.
    pub argument: Option<String>,
}

impl Interpreter {
    /// Reads a `#!` line; `None` when there is none.
    pub fn of(script: &[u8]) -> Option<Interpreter> {
        let line = script.strip_prefix(b"#!")?.split(|&byte| byte == b'\n').next()?;
        let line = std::str::from_utf8(line).ok()?.trim();
        let (path, argument) = match line.split_once([' ', '\t']) {
            Some((path, rest)) => (path, Some(rest.trim().to_owned()).filter(|rest| !rest.is_empty())),
            None => (line, None),
        };
        (!path.is_empty()).then(|| Interpreter { path: path.to_owned(), argument })
    }
}

impl Script {
    /// Takes the text of a script.
    ///
    /// # Errors
    /// As in memfd_create(2).
    pub fn new(text: &[u8]) -> io::Result<Script> {
        let memory = rustix::fs::memfd_create("script", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        let mut rest = text;
        while !rest.is_empty() {
            let written = rustix::io::write(&memory, rest)?;
            rest = &rest[written..];
        }
        // The interpreter opens it again by its number, as a user who does not own it.
        rustix::fs::fchmod(&memory, rustix::fs::Mode::from_raw_mode(0o555))?;
        rustix::fs::fcntl_add_seals(
            &memory,
            SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL,
        )?;
        Ok(Script { text: memory, interpreter: Interpreter::of(text) })
    }
}

impl Program {
    /// Executes it in place of this process, which has joined the container. Returns only why it could not.
    pub fn execute(&self, environment: &[(String, String)]) -> (String, i32) {
        let mut attempts: Vec<Command> = Vec::new();
        match self {
            Program::Arguments(words) => {
                let mut command = Command::new(words.first().cloned().unwrap_or_default());
                command.args(words.iter().skip(1));
                attempts.push(command);
            }
            Program::Shell(line) => {
                for shell in ["bash", "sh"] {
                    let mut command = Command::new(shell);
                    command.arg("-c").arg(line);
                    attempts.push(command);
                }
            }
            Program::ShellInput => attempts.extend(["bash", "sh"].map(Command::new)),
            Program::Login => {
                for (shell, name) in [("bash", "-bash"), ("sh", "-sh")] {
                    let mut command = Command::new(shell);
                    command.arg0(name);
                    attempts.push(command);
                }
            }
            Program::Script(script) => {
                let path = format!("/proc/self/fd/{}", script.text.as_raw_fd());
                let _ = rustix::io::fcntl_setfd(&script.text, rustix::io::FdFlags::empty());
                if let Some(interpreter) = &script.interpreter {
                    let mut command = Command::new(&interpreter.path);
                    command.args(&interpreter.argument).arg(&path);
                    attempts.push(command);
                }
                for shell in ["bash", "sh"] {
                    let mut command = Command::new(shell);
                    command.arg(&path);
                    attempts.push(command);
                }
            }
        }
        let mut last = ("there is nothing to execute".to_owned(), 127);
        for mut command in attempts {
            command.env_clear().envs(environment.iter().map(|(key, value)| (key, value)));
            let name = command.get_program().to_string_lossy().into_owned();
            let error = command.exec();
            let is_absent = error.kind() == io::ErrorKind::NotFound;
            last = (
                format!("cannot execute `{}`: {error}", tree::escaped(name.as_bytes())),
                if is_absent { 127 } else { 126 },
            );
            if !is_absent {
                break;
            }
        }
        last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_interpreter_as_the_kernel_does() {
        let read = |text: &str| Interpreter::of(text.as_bytes()).map(|found| (found.path, found.argument));
        assert_eq!(read("#!/bin/sh\nexit"), Some(("/bin/sh".into(), None)));
        assert_eq!(
            read("#! /usr/bin/env  bash -e \n"),
            Some(("/usr/bin/env".into(), Some("bash -e".into())))
        );
        assert_eq!(read("echo"), None);
        assert_eq!(read("#!\n"), None);
    }
}
