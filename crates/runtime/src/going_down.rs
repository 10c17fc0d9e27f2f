//! Whether a script's last word was `reboot` or `poweroff`.
//!
//! That takes effect a little after the script has ended with 0. A systemd says so when it is asked. A plain init cannot be asked; but one that has
//! been told to go down has been woken for it, or is about to be, and one that nobody has woken since before the script goes on as before: for
//! that one nothing is waited for.

use std::time::{Duration, Instant};

use store::{ContainerId, Prefix};

use crate::exec::{self, ExecError};
use crate::state::{self, ProcessIdentity, RuntimeState};

/// An init that was woken, and then has slept for so long, was woken for something else. Longer than a slice in which ours waits for others to end.
const QUIET: Duration = Duration::from_millis(120);
/// One that has not slept for so long by then is busy with something.
const LONGEST: Duration = Duration::from_secs(2);
/// Between two questions to a systemd that has not answered.
const BETWEEN: Duration = Duration::from_millis(20);
/// How long a systemd may take to answer.
const ANSWER: Duration = Duration::from_secs(5);

/// How often a container's init has gone to sleep or has been interrupted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pulse(u64);

/// That of a container which runs.
pub fn pulse(prefix: &Prefix, id: &ContainerId) -> Option<Pulse> {
    of(state::recorded(prefix, id)?.init)
}

/// It is about to end, or has: `before` is from before whatever may have told it to.
pub fn is_going_down(prefix: &Prefix, id: &ContainerId, before: Option<Pulse>) -> bool {
    let Some(state) = state::recorded(prefix, id).filter(|state| state.init.is_alive()) else { return true };
    if state.is_systemd {
        return is_stopping(prefix, id, state.init);
    }
    let deadline = Instant::now() + LONGEST;
    let mut last = before;
    let mut quiet_since = None;
    loop {
        let now = of(state.init);
        if now.is_none() {
            return true;
        }
        // The pulse once more: between the two it may have been woken, have begun to go down, and be asleep over that.
        if now == last && is_asleep(&state) && of(state.init) == now {
            let since = *quiet_since.get_or_insert_with(Instant::now);
            if now == before || since.elapsed() >= QUIET {
                return false;
            }
        } else {
            quiet_since = None;
            last = now;
        }
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn of(init: ProcessIdentity) -> Option<Pulse> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", init.pid)).ok()?;
    // Also when it was made to: what is just about to sleep looks asleep, and may be kept from it for long on a busy host.
    let counts = ["voluntary_ctxt_switches:", "nonvoluntary_ctxt_switches:"].map(|key| {
        let count = status.lines().find_map(|line| line.strip_prefix(key))?;
        count.trim().parse::<u64>().ok()
    });
    init.is_alive().then_some(Pulse(counts[0]? + counts[1]?))
}

/// Init and its children all wait for something: none has a signal that it is yet to die of. The children first: what one of them does wakes
/// init, and never the other way round.
fn is_asleep(state: &RuntimeState) -> bool {
    let pid = state.init.pid;
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let mut children = children.split_whitespace().filter_map(|child| child.parse().ok());
    // One that has gone meanwhile has woken init.
    children.all(|child| ProcessIdentity::of(child).is_some_and(|it| !has_signal(child) && it.is_at_rest()))
        && !has_signal(pid)
        && state.init.is_at_rest()
}

/// A signal is on its way to the process, that it does not keep for later.
fn has_signal(pid: i32) -> bool {
    let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/status")) else { return true };
    let mask = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
    };
    (mask("SigPnd:") | mask("ShdPnd:")) & !mask("SigBlk:") != 0
}

/// A systemd that shuts down says `stopping`, until it has ended the one who asks or nobody is there to answer: then its end is near. One that lives
/// on and cannot be asked is believed to go on.
fn is_stopping(prefix: &Prefix, id: &ContainerId, init: ProcessIdentity) -> bool {
    let deadline = Instant::now() + LONGEST;
    loop {
        match ask(prefix, id) {
            Said::Stopping => return true,
            Said::GoesOn => return false,
            Said::Nothing if !init.is_alive() => return true,
            Said::Nothing if Instant::now() >= deadline => return false,
            Said::Nothing => std::thread::sleep(BETWEEN),
        }
    }
}

/// What a systemd says of itself.
enum Said {
    Stopping,
    GoesOn,
    Nothing,
}

fn ask(prefix: &Prefix, id: &ContainerId) -> Said {
    // `offline` and `unknown` are no systemd's words but those of a systemctl that found none.
    const GOES_ON: [&[u8]; 5] = [b"initializing", b"starting", b"running", b"degraded", b"maintenance"];
    let said = exec::ask(prefix, id, &["systemctl", "is-system-running"], ANSWER, None)
        .map(|lines| lines.into_iter().next().unwrap_or_default());
    match said {
        Ok(said) if said.starts_with(b"stopping") => Said::Stopping,
        Ok(said) if GOES_ON.iter().any(|word| said.starts_with(word)) => Said::GoesOn,
        // There is no systemctl, which would have been needed to end it.
        Err(ExecError::NotExecuted { .. }) => Said::GoesOn,
        Ok(_) | Err(_) => Said::Nothing,
    }
}
