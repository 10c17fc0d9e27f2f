//! Points at which a test kills or fails an operation.
//!
//! They are not sprinkled over the code: the machinery of `operation` passes one before and after every step and in every revert, so that a new
//! step is covered without anybody thinking of it, and [`points`] lists them all. In a release build nothing of this exists.
//!
//! What has no journal has one point before its commit, which is not listed: a test has a signal come there.

#[cfg(debug_assertions)]
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::Result;
#[cfg(debug_assertions)]
use crate::error::{Code, Failure};
use crate::operation::OPERATIONS;

/// What the variable says: `<point>:` and `kill`, `error`, `interrupt`, `stop` (until SIGCONT), `hang` or `twice`; several with commas between them.
#[cfg(debug_assertions)]
const VARIABLE: &str = "REROOT_FAULT";

/// What waits, from the point that was passed last to the next one, waits until its deadline.
#[cfg(debug_assertions)]
static HANGS: AtomicBool = AtomicBool::new(false);

/// Where around a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Its effects have not begun.
    Before,
    /// Its effects are complete.
    After,
    /// Its revert has not begun.
    Revert,
}

impl Place {
    fn word(self) -> &'static str {
        match self {
            Place::Before => "before",
            Place::After => "after",
            Place::Revert => "revert",
        }
    }
}

/// Every point there is, as `<operation>/<step>/<place>`.
pub fn points() -> Vec<String> {
    let mut points = Vec::new();
    for operation in OPERATIONS {
        for step in operation.steps {
            for place in [Place::Before, Place::After, Place::Revert] {
                points.push(name(operation.name, step.name, place));
            }
        }
    }
    points
}

fn name(operation: &str, step: &str, place: Place) -> String {
    format!("{operation}/{step}/{}", place.word())
}

/// Dies, fails, or does nothing.
///
/// # Errors
/// When a test wants one here.
#[cfg(debug_assertions)]
pub fn here(operation: &str, step: &str, place: Place) -> Result<()> {
    let Ok(wanted) = std::env::var(VARIABLE) else { return Ok(()) };
    let here = name(operation, step, place);
    HANGS.store(wanted.split(',').any(|one| one.strip_prefix(&here) == Some(":hang")), Ordering::Relaxed);
    let signal = |signal| {
        let _ = rustix::process::kill_process(rustix::process::getpid(), signal);
        Ok(())
    };
    match wanted.split(',').find_map(|one| one.strip_prefix(&here)) {
        Some(":kill") => signal(rustix::process::Signal::KILL),
        Some(":interrupt") => signal(rustix::process::Signal::INT),
        Some(":stop") => signal(rustix::process::Signal::STOP),
        Some(":error") => Err(Failure::new(Code::System, format!("a test wants a failure at `{here}`"))),
        _ => Ok(()),
    }
}

/// A test wants the apply ([`Place::After`]) or the revert of this step to be done once more.
#[cfg(debug_assertions)]
pub fn is_twice(operation: &str, step: &str, place: Place) -> bool {
    let Ok(wanted) = std::env::var(VARIABLE) else { return false };
    let here = name(operation, step, place);
    wanted.split(',').any(|one| one.strip_prefix(&here) == Some(":twice"))
}

/// A test wants what waits in this step to wait in vain. The fake runtime asks.
#[cfg(debug_assertions)]
pub fn hangs() -> bool {
    HANGS.load(Ordering::Relaxed)
}

/// Does nothing.
///
/// # Errors
/// None.
#[cfg(not(debug_assertions))]
#[expect(clippy::unnecessary_wraps, reason = "the same signature as in a test build")]
pub fn here(_operation: &str, _step: &str, _place: Place) -> Result<()> {
    Ok(())
}

/// Never.
#[cfg(not(debug_assertions))]
pub fn is_twice(_operation: &str, _step: &str, _place: Place) -> bool {
    false
}

/// Never.
#[cfg(not(debug_assertions))]
pub fn hangs() -> bool {
    false
}
