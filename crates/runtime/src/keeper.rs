//! A process that outlives a killed command by as long as it takes to have the container recovered: nobody waits for the next command.
//!
//! It holds the reading end of a pipe of which the command has the only writing end. A word through it is the keeper's dismissal; that it closes
//! without one is the command's death, and then the keeper becomes `prlctl recover`, which waits for the container's lock as any command does.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use linux::{Child, fork};
use store::{ContainerId, Prefix};

use crate::cgroup::{CgroupError, Cgroups};

/// How long a keeper may take to end that was told so.
const HEARING: Duration = Duration::from_secs(5);

/// How many keepers in a row have become the recovery that this process is.
const DEPTH: &str = "REROOT_KEEPERS";
/// A recovery that dies again and again dies of itself: somebody has to look.
const DEEPEST: u32 = 3;

fn depth() -> u32 {
    std::env::var(DEPTH).ok().and_then(|depth| depth.parse().ok()).unwrap_or(0)
}

/// Whether this process, a recovery, may have a keeper of its own.
pub fn is_worth_another() -> bool {
    depth() < DEEPEST
}

/// What can go wrong with a keeper.
#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    /// A control group said no.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// A pipe, a fork.
    #[error("cannot start a keeper")]
    Io(#[from] io::Error),
}

/// A keeper. One that is dropped without [`Keeper::dismiss`] has the container recovered.
#[derive(Debug)]
pub struct Keeper {
    child: Child,
    pipe: OwnedFd,
}

impl Keeper {
    /// Starts one. The calling process has one thread.
    ///
    /// # Errors
    /// [`KeeperError`].
    pub fn start(prefix: &Prefix, id: &ContainerId) -> Result<Keeper, KeeperError> {
        let cgroups = Cgroups::of(prefix, id)?;
        let group = cgroups.monitor_group()?;
        let (listen, pipe) =
            rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(io::Error::from)?;
        let child = fork(0, Some(group.as_fd()), || {
            let _ = rustix::process::setsid();
            let _ = cgroups.enter_legacy_monitor();
            // The copy of the writing end, the locks, everything: a keeper that held the container's lock would keep its own recovery out.
            linux::close_all_but(listen.as_raw_fd());
            let mut word = [0u8; 1];
            loop {
                match rustix::io::read(&listen, &mut word) {
                    Ok(1) => return 0,
                    Err(rustix::io::Errno::INTR) => {}
                    Ok(_) | Err(_) => break,
                }
            }
            // Nothing is killed from here: until recovery has the container's lock, another command may have recovered it already, and it is
            // that one's script, or its root on probation, that runs.
            let _error = Command::new("/proc/self/exe")
                .arg0("prlctl")
                .args(["recover", &id.to_string()])
                .env_clear()
                .env("PATH", crate::spec::PATH)
                .env("REROOT_PREFIX", prefix.root())
                .env(DEPTH, (depth() + 1).to_string())
                .envs(linux::mutation::environment())
                .exec();
            127
        })?;
        Ok(Keeper { child, pipe })
    }

    /// The operation has come to an end by itself.
    pub fn dismiss(self) {
        let written = loop {
            match rustix::io::write(&self.pipe, b".") {
                Err(rustix::io::Errno::INTR) => {}
                other => break other,
            }
        };
        // One that has not heard the word would wait for it, and we for its end; let go, it would recover what needs no recovery.
        if written.is_ok() && matches!(self.child.wait_for(HEARING, None), Ok(Some(_))) {
            return;
        }
        // Somebody has stopped it, say. If not even that ends it (a frozen group), it has heard the word, or hears that the pipe is closed, when it
        // goes on: either way nobody waits for it.
        let _ = self.child.kill();
        drop(self.child.wait_for(HEARING, None));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_cannot_be_told_is_dismissed_all_the_same() {
        let (listen, _kept) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        // It is told through the wrong end: the write fails. What would wait for the word waits for ever.
        let mut sleeper = Command::new("sleep");
        let child = linux::spawn(sleeper.arg("600")).unwrap();
        Keeper { child, pipe: listen }.dismiss();
    }

    #[test]
    fn one_that_hears_nothing_is_not_waited_for_for_ever() {
        let (_listen, pipe) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        let mut sleeper = Command::new("sleep");
        let child = linux::spawn(sleeper.arg("600")).unwrap();
        let pid = child.pid();
        let began = std::time::Instant::now();
        Keeper { child, pipe }.dismiss();
        assert!(began.elapsed() < HEARING * 3);
        assert!(crate::state::ProcessIdentity::of(pid).is_none(), "it was killed");
    }
}
