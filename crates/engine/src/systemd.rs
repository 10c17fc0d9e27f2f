//! What a systemd says of itself when it is asked, and whether a root that says so is taken.
//!
//! ```text
//! running                                             good
//! degraded   by no other units than the root before   good, and told
//!            and the user takes it so                 good, and told
//!            else                                     no: the units, and why each has failed
//! starting, initializing                              asked again, until the time is over
//! anything else, or no answer                         no
//! ```
//!
//! The answer is the container's, which may be hostile: it is bounded, and all it decides is whether that container is given a root.

use std::time::{Duration, Instant};

use crate::host::Container;
use crate::runtime::{RuntimeErrorKind, RuntimeResult};

/// How many failed units are remembered.
const MOST_UNITS: usize = 100;
/// UNIT_NAME_MAX of systemd.
const LONGEST_NAME: usize = 255;
/// Of so many units it is told why they have failed.
const EXPLAINED: usize = 3;
/// In so many lines that it said itself, each.
const OWN_LINES: usize = 4;
/// And in so many that systemd said: how its process ended, what that comes to, and that it failed to start.
const LINES_OF_ITS_END: usize = 3;
/// How long it may take to find that out, of all of them.
const EXPLAINING: Duration = Duration::from_secs(10);
/// How much of it is for the journal to have all that was said.
const SYNCING: Duration = Duration::from_secs(3);
/// So much of a line is shown.
const LONGEST_LINE: usize = 300;

/// What a systemd says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// Everything is up.
    Running,
    /// It is not done yet.
    Starting,
    /// Units have failed: these.
    Degraded(Vec<String>),
    /// Another word, or none.
    Other(String),
}

/// Asks it.
///
/// # Errors
/// When it does not answer within `limit`.
pub fn ask(container: &Container<'_>, limit: Duration) -> RuntimeResult<Said> {
    let deadline = Instant::now() + limit;
    let answer = container.runtime().ask(container.id(), &["systemctl", "is-system-running"], limit)?;
    let word = answer.first().map_or(&b""[..], |line| line.trim_ascii());
    Ok(match word {
        b"running" => Said::Running,
        b"initializing" | b"starting" => Said::Starting,
        b"degraded" => {
            let list = ["systemctl", "list-units", "--state=failed", "--plain", "--no-legend", "--no-pager"];
            let rest = deadline.saturating_duration_since(Instant::now());
            Said::Degraded(units(&container.runtime().ask(container.id(), &list, rest)?))
        }
        other => Said::Other(tree::escaped(&other[..other.len().min(40)])),
    })
}

/// The first word of each line, where that can be the name of a unit.
fn units(lines: &[Vec<u8>]) -> Vec<String> {
    let names = lines.iter().filter_map(|line| line.split(u8::is_ascii_whitespace).next());
    let names = names.filter(|name| is_name(name)).take(MOST_UNITS);
    let mut units: Vec<String> = names.map(|name| String::from_utf8_lossy(name).into_owned()).collect();
    units.sort();
    units.dedup();
    units
}

/// As in systemd.unit(5), which has it begin with no `-` that a program would take for an option.
fn is_name(name: &[u8]) -> bool {
    let is_letter = |byte: &u8| byte.is_ascii_alphanumeric() || b":_.\\@-".contains(byte);
    name.len() <= LONGEST_NAME
        && name.contains(&b'.')
        && name.iter().all(is_letter)
        && !name.starts_with(b"-")
        && !name.starts_with(b".")
}

/// Whether a root with these failed units is as good as the one before was. One that says it is degraded, and not by what, is not.
pub fn is_as_before(failed: &[String], before: &[String]) -> bool {
    !failed.is_empty() && failed.iter().all(|unit| before.contains(unit))
}

/// Why units have failed: of the first few the last lines that they said, and what systemd said of their end.
pub fn reasons(container: &Container<'_>, failed: &[String]) -> Vec<String> {
    let deadline = Instant::now() + EXPLAINING;
    let ask = |words: &[&str], most: usize| -> Vec<String> {
        let rest = deadline.saturating_duration_since(Instant::now());
        let answer = container.runtime().ask(container.id(), words, rest).unwrap_or_default();
        let lines = answer.iter().map(|line| line.trim_ascii()).filter(|line| !line.is_empty());
        let lines: Vec<String> =
            lines.map(|line| tree::escaped(&line[..line.len().min(LONGEST_LINE)])).collect();
        let first = lines.len().saturating_sub(most);
        lines[first..].to_vec()
    };
    // What a unit printed comes to the journal on another way than what systemd says of it: before, after, or in between. So each is asked for
    // by itself, and first to have it all; one that cannot say when it has is asked for what it has.
    drop(container.runtime().ask(container.id(), &["journalctl", "--sync"], SYNCING));
    let journal = |field: &str, most: usize| {
        let count = most.to_string();
        ask(&["journalctl", "--quiet", "--no-pager", "--output=cat", "--lines", &count, field], most)
    };
    let mut reasons = Vec::new();
    for unit in failed.iter().take(EXPLAINED) {
        let mut said = journal(&format!("_SYSTEMD_UNIT={unit}"), OWN_LINES);
        said.extend(journal(&format!("UNIT={unit}"), LINES_OF_ITS_END));
        if said.is_empty() {
            let count = OWN_LINES.to_string();
            said = ask(&["systemctl", "status", "--no-pager", "--lines", &count, "--", unit], OWN_LINES);
        }
        if !said.is_empty() {
            reasons.push(format!("`{unit}` said last:\n{}", said.join("\n")));
        }
    }
    reasons
}

/// The failed units of a root that runs and is about to be replaced, in no longer than `limit`; one that does not answer has none.
pub fn failed_before(container: &Container<'_>, limit: Duration) -> Vec<String> {
    match ask(container, limit) {
        Ok(Said::Degraded(units)) => units,
        Ok(Said::Running | Said::Starting | Said::Other(_)) | Err(_) => Vec::new(),
    }
}

/// Asks until it is no more only on its way, or `deadline` has come; between two questions its end is waited for.
///
/// # Errors
/// When it does not answer, or has ended.
pub fn ask_until(container: &Container<'_>, deadline: Instant) -> RuntimeResult<Said> {
    /// So soon it is asked again the first time, each time twice as long after, and at least so often.
    const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));
    let mut pause = PAUSES.0;
    loop {
        let rest = deadline.saturating_duration_since(Instant::now());
        let said = ask(container, rest)?;
        if said != Said::Starting || rest <= pause {
            return Ok(said);
        }
        if container.runtime().ended_within(container.id(), pause)? {
            return Err(crate::runtime::RuntimeError {
                because: "it has ended".to_owned(),
                console: container.runtime().console(container.id()),
                kind: RuntimeErrorKind::NotRunning,
            });
        }
        pause = (pause * 2).min(PAUSES.1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_be_the_name_of_a_unit_is_one() {
        let lines = [
            "bad.service    loaded failed failed A bad one",
            "bad.service    loaded failed failed Again",
            "mnt-a\\x2db.mount loaded failed failed /mnt/a-b",
            "getty@tty1.service loaded",
            "--help.service",
            "\u{1b}[31mred.service",
            "no-dot loaded",
            "",
        ];
        let lines: Vec<Vec<u8>> = lines.iter().map(|line| line.as_bytes().to_vec()).collect();
        assert_eq!(units(&lines), ["bad.service", "getty@tty1.service", "mnt-a\\x2db.mount"]);
        let many: Vec<Vec<u8>> = (0..1000).map(|n| format!("u{n}.service x").into_bytes()).collect();
        assert_eq!(units(&many).len(), MOST_UNITS);
        assert!(!is_name(&[b'a', b'.'].repeat(200)));
    }

    #[test]
    fn a_root_is_as_before_when_nothing_else_has_failed() {
        let of = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert!(is_as_before(&of(&["a.service"]), &of(&["a.service", "b.service"])));
        assert!(is_as_before(&of(&["a.service"]), &of(&["a.service"])));
        assert!(!is_as_before(&of(&["a.service", "c.service"]), &of(&["a.service"])));
        assert!(!is_as_before(&of(&["a.service"]), &[]));
        assert!(!is_as_before(&[], &of(&["a.service"])), "degraded, and nobody knows by what");
    }
}
