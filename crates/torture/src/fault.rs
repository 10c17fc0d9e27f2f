//! One fault: where in which run, and what.

use std::fmt;
use std::str::FromStr;

use crate::death::Death;
use crate::scenario::{SCENARIOS, Scenario};
use crate::trace::{Action, Seen, Victim};

/// What a host that is in trouble answers.
const ERRORS: [(&str, i32); 5] = [
    ("ENOSPC", libc::ENOSPC),
    ("EIO", libc::EIO),
    ("EMFILE", libc::EMFILE),
    ("ENOMEM", libc::ENOMEM),
    ("EINTR", libc::EINTR),
];

/// What happens at a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// SIGKILL; the call is never made.
    KillBefore,
    /// SIGKILL; the call was made.
    KillAfter,
    /// It is not made and returns this.
    Error(i32),
}

impl Fault {
    /// An error, by a number.
    pub fn error(number: u64) -> Fault {
        Fault::Error(ERRORS[(number % ERRORS.len() as u64) as usize].1)
    }

    /// It is a kill.
    pub fn kills(self) -> bool {
        !matches!(self, Fault::Error(_))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::KillBefore => f.write_str("kill-before"),
            Fault::KillAfter => f.write_str("kill-after"),
            Fault::Error(errno) => {
                let name =
                    ERRORS.iter().find(|(_, number)| number == errno).map_or("error", |(name, _)| name);
                f.write_str(name)
            }
        }
    }
}

/// No fault.
#[derive(Debug)]
pub struct UnknownFault(String);

impl fmt::Display for UnknownFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is none of kill-before, kill-after, ENOSPC, EIO, EMFILE, ENOMEM, EINTR", self.0)
    }
}

impl std::error::Error for UnknownFault {}

impl FromStr for Fault {
    type Err = UnknownFault;

    fn from_str(text: &str) -> Result<Fault, UnknownFault> {
        match text {
            "kill-before" => Ok(Fault::KillBefore),
            "kill-after" => Ok(Fault::KillAfter),
            other => {
                let found = ERRORS.iter().find(|(name, _)| *name == other);
                found.map(|(_, errno)| Fault::Error(*errno)).ok_or_else(|| UnknownFault(other.to_owned()))
            }
        }
    }
}

/// A fault at a call of a run.
#[derive(Debug, Clone, Copy)]
pub struct Point {
    /// Of which operation.
    pub scenario: &'static Scenario,
    /// In which process.
    pub victim: Victim,
    /// It meets not the operation, but `prlctl recover` after the operation has died so.
    pub recovers: Option<Death>,
    /// At which of its calls that change something, from 1.
    pub call: u64,
    /// What.
    pub fault: Fault,
}

impl Point {
    /// What is to happen at a stop.
    pub fn action(&self, seen: &Seen<'_>) -> Action {
        if seen.index != self.call {
            return Action::Go;
        }
        match (self.fault, seen.is_after) {
            (Fault::KillBefore, false) | (Fault::KillAfter, true) => Action::Kill,
            (Fault::Error(errno), false) if seen.can_fail() => Action::Fail(errno),
            _ => Action::Go,
        }
    }

    /// The command line that does it again.
    pub fn repeat(&self, seed: u64) -> String {
        let victim = match (self.victim, self.recovers) {
            (_, Some(death)) => format!(" --recovery {death}"),
            (Victim::Monitor, None) => " --monitor".to_owned(),
            (Victim::Command, None) => String::new(),
        };
        format!(
            "torture one '{}'{victim} --call {} --fault {} --seed {seed}",
            self.scenario.name, self.call, self.fault
        )
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let victim = match (self.victim, self.recovers) {
            (_, Some(Death::BeforeTheCommit)) => ", killed before the commit, its recovery",
            (_, Some(Death::AfterTheCommit)) => ", killed after the commit, its recovery",
            (Victim::Monitor, None) => ", its monitor",
            (Victim::Command, None) => "",
        };
        write!(f, "{}{victim}: {} at call {}", self.scenario.name, self.fault, self.call)
    }
}

/// The scenario of that name.
pub fn scenario(name: &str) -> Option<&'static Scenario> {
    SCENARIOS.iter().find(|scenario| scenario.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_is_read_as_it_is_written() {
        let errors = (0..5).map(Fault::error);
        for fault in [Fault::KillBefore, Fault::KillAfter].into_iter().chain(errors) {
            assert_eq!(fault.to_string().parse::<Fault>().unwrap(), fault);
        }
        assert!("kill".parse::<Fault>().is_err());
    }

    #[test]
    fn every_scenario_has_a_name_of_its_own() {
        for one in SCENARIOS {
            assert_eq!(scenario(one.name).unwrap().words, one.words);
            assert_eq!(SCENARIOS.iter().filter(|other| other.name == one.name).count(), 1, "{}", one.name);
        }
    }
}
