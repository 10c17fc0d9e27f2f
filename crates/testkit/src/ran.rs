//! What a command that was run came to.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// What a command did.
#[derive(Debug)]
pub struct Ran {
    /// Its exit code; 128 + n for a signal.
    pub code: i32,
    /// What it wrote to stdout.
    pub stdout: String,
    /// What it wrote to stderr.
    pub stderr: String,
}

impl Ran {
    /// Out of what `std` knows of it.
    pub fn of(output: Output) -> Ran {
        use std::os::unix::process::ExitStatusExt;
        let status = output.status;
        Ran {
            code: status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Runs `command` to its end, but kills it after `limit`: then its code is 137, and the last that it said is that it did not end. What it leaves
    /// behind is not waited for, though that holds its output.
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn within(command: &mut Command, limit: Duration) -> io::Result<Ran> {
        let said = [memory()?, memory()?];
        let mut child = command
            .stdout(Stdio::from(said[0].try_clone()?))
            .stderr(Stdio::from(said[1].try_clone()?))
            .spawn()?;
        let deadline = Instant::now() + limit;
        let status = loop {
            match child.try_wait()? {
                Some(status) => break Some(status),
                None if Instant::now() >= deadline => break None,
                None => std::thread::park_timeout(Duration::from_millis(1)),
            }
        };
        let is_killed = status.is_none();
        let status = match status {
            Some(status) => status,
            None => {
                child.kill()?;
                child.wait()?
            }
        };
        let read = |file: &File| -> io::Result<Vec<u8>> {
            let mut bytes = vec![0; file.metadata()?.len() as usize];
            file.read_exact_at(&mut bytes, 0)?;
            Ok(bytes)
        };
        let mut ran = Ran::of(Output { status, stdout: read(&said[0])?, stderr: read(&said[1])? });
        if is_killed {
            ran.stderr.push_str(&format!("(killed: it did not end within {limit:?})\n"));
        }
        Ok(ran)
    }

    /// It failed with this code, and said each of these on stderr.
    #[track_caller]
    pub fn failed(&self, code: i32, said: &[&str]) {
        assert_eq!(self.code, code, "{self}");
        for words in said {
            assert!(self.stderr.contains(words), "it did not say `{words}`\n{self}");
        }
    }
}

impl std::fmt::Display for Ran {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "exit code {}\n--- stdout\n{}\n--- stderr\n{}", self.code, self.stdout, self.stderr)
    }
}

/// A file without a name, which is where its end is, whoever else writes to it.
fn memory() -> io::Result<File> {
    Ok(rustix::fs::memfd_create("said", rustix::fs::MemfdFlags::CLOEXEC)?.into())
}
