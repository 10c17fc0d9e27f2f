//! Whether a container that has ended begins another life.

use std::time::{Duration, Instant};

use super::protocol::End;

/// One that begins again more often than this within [`WINDOW`] is left stopped.
const MOST: usize = 5;
const WINDOW: Duration = Duration::from_secs(60);
/// A life that a command has begun, and that was shorter, was none: whoever has started it is told, and nothing is tried again.
const LEAST: Duration = Duration::from_secs(2);

/// What its configuration says of that.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// It is started again after a crash.
    pub restarts_on_crash: bool,
    /// A reboot of its init is its end.
    pub forbids_reboot: bool,
}

/// Those of one container.
#[derive(Debug, Default)]
pub struct Restarts {
    recent: Vec<Instant>,
    are_any: bool,
}

/// What becomes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is started again; the words say why.
    Again(String),
    /// It stays stopped; the words say why that is not as somebody would have it.
    Stopped(Option<String>),
}

impl Restarts {
    /// It has ended like this after `lived`.
    pub fn judge(&mut self, how: End, rules: Rules, lived: Duration, now: Instant) -> Verdict {
        let (is_crash, word) = match how {
            End::Rebooted if rules.forbids_reboot => {
                let why = "it has rebooted, which ALLOWREBOOT forbids: it is left stopped";
                return Verdict::Stopped(Some(why.to_owned()));
            }
            End::Rebooted => (false, "rebooted"),
            End::Exited(0) | End::Finished(0) | End::Halted => return Verdict::Stopped(None),
            End::Exited(_) | End::Finished(_) | End::Killed(_) => (true, "crashed"),
        };
        if is_crash && (!rules.restarts_on_crash || !self.are_any && lived < LEAST) {
            return Verdict::Stopped(None);
        }
        self.recent.retain(|at| now.duration_since(*at) < WINDOW);
        if self.recent.len() >= MOST {
            return Verdict::Stopped(Some(format!(
                "it has {word} {MOST} times within {} s: it is left stopped",
                WINDOW.as_secs()
            )));
        }
        self.recent.push(now);
        self.are_any = true;
        Verdict::Again(format!("{how}: starting it again"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(600);

    fn rules(restarts_on_crash: bool) -> Rules {
        Rules { restarts_on_crash, forbids_reboot: false }
    }

    fn is_again(how: End, is_wanted: bool, lived: Duration) -> bool {
        matches!(Restarts::default().judge(how, rules(is_wanted), lived, Instant::now()), Verdict::Again(_))
    }

    #[test]
    fn what_may_not_reboot_is_left_stopped_and_what_crashes_is_another_matter() {
        let mut restarts = Restarts::default();
        let rules = Rules { restarts_on_crash: true, forbids_reboot: true };
        let Verdict::Stopped(Some(why)) = restarts.judge(End::Rebooted, rules, LONG, Instant::now()) else {
            panic!("it lives again")
        };
        assert!(why.contains("ALLOWREBOOT"), "{why}");
        assert!(matches!(restarts.judge(End::Killed(9), rules, LONG, Instant::now()), Verdict::Again(_)));
        assert_eq!(restarts.judge(End::Halted, rules, LONG, Instant::now()), Verdict::Stopped(None));
    }

    #[test]
    fn what_was_meant_is_done_and_what_was_not_is_the_configurations_to_say() {
        for how in [End::Exited(1), End::Killed(9), End::Finished(2), End::Finished(137)] {
            assert!(is_again(how, true, LONG), "{how}");
            assert!(!is_again(how, false, LONG), "{how}");
            assert!(!is_again(how, true, Duration::from_millis(10)), "{how}: it has never run");
        }
        for how in [End::Halted, End::Exited(0), End::Finished(0)] {
            assert!(!is_again(how, true, LONG), "{how}");
        }
        for is_wanted in [true, false] {
            assert!(is_again(End::Rebooted, is_wanted, Duration::ZERO));
        }
    }

    #[test]
    fn one_that_does_it_for_ever_is_left_stopped_and_one_that_does_it_now_and_then_is_not() {
        let mut restarts = Restarts::default();
        let began = Instant::now();
        let mut judge = |seconds: u64, lived| {
            restarts.judge(End::Killed(11), rules(true), lived, began + Duration::from_secs(seconds))
        };
        assert!(matches!(judge(0, LONG), Verdict::Again(_)));
        for second in 1..5 {
            assert!(matches!(judge(second, Duration::ZERO), Verdict::Again(_)), "{second}");
        }
        let Verdict::Stopped(Some(why)) = judge(5, Duration::ZERO) else { panic!("it goes on for ever") };
        assert_eq!(why, "it has crashed 5 times within 60 s: it is left stopped");
        for hour in 1..20 {
            assert!(matches!(judge(hour * 3600, Duration::ZERO), Verdict::Again(_)), "{hour}");
        }
    }
}
