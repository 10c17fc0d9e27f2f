//! `REINSTALL_RETAIN`: how many old roots a container keeps, or for how long.
//!
//! ```text
//! REINSTALL_RETAIN="3"     the three that were left last
//! REINSTALL_RETAIN="7d"    those that were left within the last seven days; also `h` and `w`
//! (none)                   all
//! ```
//!
//! A successful reinstall deletes the others, and nothing else does. Never the live root, never the one at its `/old`, which is the way back: `0` is
//! refused. Roots that failed have a rule of their own, and one whose record cannot be read is left to somebody who can tell what it is. What counts is
//! when a root was *left*, that is when it was last live, and not how old it is.

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use store::{AreaError, Conf, GenerationNumber, GenerationRecord, GenerationState};

use crate::error::{Code, Failure, Result};
use crate::host::Host;

/// The key in `ve.conf`, or in `vz.conf` for containers whose `ve.conf` has none.
pub const KEY: &str = "REINSTALL_RETAIN";

const HOUR: u64 = 60 * 60;
/// A hundred years, and as many roots as nobody has: what is more was not meant.
const MOST_HOURS: u64 = 100 * 366 * 24;
const MOST_ROOTS: u64 = 1_000_000;

/// What is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Retention {
    /// So many roots that were left last.
    Roots(usize),
    /// What was left so long ago, and no longer.
    Hours(u64),
}

impl std::fmt::Display for Retention {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Retention::Roots(1) => write!(f, "only one old root is kept"),
            Retention::Roots(count) => write!(f, "only {count} old roots are kept"),
            Retention::Hours(hours) if hours % 24 == 0 => {
                write!(f, "old roots are kept for {} days", hours / 24)
            }
            Retention::Hours(hours) => write!(f, "old roots are kept for {hours} hours"),
        }
    }
}

/// One root, as far as retention has to do with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OldRoot {
    /// Its number.
    pub number: GenerationNumber,
    /// When it was last live.
    pub left: Timestamp,
}

impl Retention {
    /// What the configuration says; `None`: everything is kept.
    ///
    /// # Errors
    /// [`Code::BadValue`] for what is neither a number nor a time.
    pub fn read(host: &Host, own: &Conf, name: &str) -> Result<Option<Retention>> {
        let (value, file) = match own.get(KEY) {
            Some(value) => (Some(value), format!("ve.conf of `{name}`")),
            None => (host.configuration()?.get(KEY), host.prefix.vz_conf().display().to_string()),
        };
        let Some(value) = value.filter(|value| !value.trim().is_empty()) else { return Ok(None) };
        parse(value.trim()).map(Some).map_err(|because| {
            let value = tree::escaped(&value.as_bytes()[..value.len().min(80)]);
            Failure::new(Code::BadValue, format!("`{KEY}=\"{value}\"` in {file} cannot be used"))
                .because(because)
                .unchanged()
                .hint(format!(
                    "{KEY}=\"3\" keeps three old roots, \"12h\", \"7d\" or \"2w\" those of that time; without it all are kept"
                ))
        })
    }

    /// Which of `old` go, the oldest first. `parent` stays, whatever else.
    pub fn expired(
        self,
        mut old: Vec<OldRoot>,
        parent: Option<GenerationNumber>,
        now: Timestamp,
    ) -> Vec<GenerationNumber> {
        // The one at `/old` counts as the one that was left last: whatever a clock said, it is the way back.
        old.sort_by_key(|root| (Some(root.number) == parent, root.left, root.number));
        let gone = match self {
            Retention::Roots(count) => old.len().saturating_sub(count),
            Retention::Hours(hours) => {
                let age =
                    |root: &OldRoot| Duration::try_from(now.duration_since(root.left)).unwrap_or_default();
                old.iter().take_while(|root| age(root) > Duration::from_secs(hours * HOUR)).count()
            }
        };
        let gone = old.iter().take(gone).map(|root| root.number);
        gone.filter(|&number| Some(number) != parent).collect()
    }
}

fn parse(value: &str) -> std::result::Result<Retention, String> {
    let digits = value.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let unit = &value[digits.len()..];
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("it is neither a number of roots nor a time".to_owned());
    }
    let number: u64 = digits.parse().unwrap_or(u64::MAX);
    let hours = match unit {
        "" => 0,
        "h" => 1,
        "d" => 24,
        "w" => 7 * 24,
        _ => return Err(format!("`{}` is no unit of time: h, d and w are", tree::escaped(unit.as_bytes()))),
    };
    let most = MOST_HOURS.checked_div(hours).unwrap_or(MOST_ROOTS);
    match number {
        0 => Err("that would delete the root that a reinstall replaces, the way back: --skipbackup does so"
            .to_owned()),
        number if number > most => Err(format!("more than {most}{unit} cannot be kept")),
        number if hours == 0 => Ok(Retention::Roots(number as usize)),
        number => Ok(Retention::Hours(number * hours)),
    }
}

/// The old roots among a container's generations, once `live` is the live one. Of one that was left before anybody wrote down when, the root that
/// came after it tells, or else its own making.
pub fn old_roots(
    generations: &[(GenerationNumber, std::result::Result<GenerationRecord, AreaError>)],
    live: GenerationNumber,
) -> Vec<OldRoot> {
    let records = || generations.iter().filter_map(|(_, record)| record.as_ref().ok());
    records()
        .filter(|record| record.state == GenerationState::Kept && record.number != live)
        .map(|record| OldRoot { number: record.number, left: left_at(record, records()) })
        .collect()
}

/// When a root was last live.
pub fn left_at<'a>(record: &GenerationRecord, all: impl Iterator<Item = &'a GenerationRecord>) -> Timestamp {
    record.left.unwrap_or_else(|| {
        let after = all.filter(|other| other.parent == Some(record.number)).map(|other| other.created);
        after.max().unwrap_or(record.created)
    })
}

/// Which roots a reinstall would delete now, that makes another one live than `from`, with `from` at its `/old`.
pub fn next_to_go(
    retention: Retention,
    generations: &[(GenerationNumber, std::result::Result<GenerationRecord, AreaError>)],
    from: GenerationNumber,
    now: Timestamp,
) -> Vec<GenerationNumber> {
    let mut old = old_roots(generations, from);
    old.push(OldRoot { number: from, left: now });
    retention.expired(old, Some(from), now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_number_of_roots_or_a_time_and_nothing_else() {
        for (value, wanted) in [
            ("1", Retention::Roots(1)),
            ("003", Retention::Roots(3)),
            ("12h", Retention::Hours(12)),
            ("7d", Retention::Hours(7 * 24)),
            ("2w", Retention::Hours(14 * 24)),
        ] {
            assert_eq!(parse(value), Ok(wanted), "{value}");
        }
        for (value, because) in [
            ("0", "--skipbackup"),
            ("0d", "--skipbackup"),
            ("d", "neither"),
            ("-1", "neither"),
            ("1.5", "neither"),
            ("7 d", "neither"),
            ("seven", "neither"),
            ("7m", "`m` is no unit"),
            ("7days", "`days` is no unit"),
            ("7D", "`D` is no unit"),
            ("99999999999999999999", "more than"),
            ("99999999999999999999w", "more than"),
        ] {
            let refused = parse(value).unwrap_err();
            assert!(refused.contains(because), "{value}: {refused}");
        }
    }

    #[test]
    fn what_was_left_first_goes_first_and_the_way_back_stays() {
        let now: Timestamp = "2026-06-30T12:00:00Z".parse().unwrap();
        let number = GenerationNumber::new;
        let old = |facts: &[(u32, u64)]| -> Vec<OldRoot> {
            facts
                .iter()
                .map(|&(n, hours)| OldRoot {
                    number: number(n),
                    left: now - Duration::from_secs(hours * HOUR),
                })
                .collect()
        };
        let gone = |retention: Retention, facts: &[(u32, u64)], parent: u32| -> Vec<u32> {
            let gone = retention.expired(old(facts), Some(number(parent)), now);
            gone.into_iter().map(GenerationNumber::get).collect()
        };
        let roots = [(1, 300), (2, 200), (3, 24 * 7), (4, 24), (5, 0)];
        assert_eq!(gone(Retention::Roots(2), &roots, 5), [1, 2, 3]);
        assert_eq!(gone(Retention::Roots(1), &roots, 5), [1, 2, 3, 4]);
        assert_eq!(gone(Retention::Roots(5), &roots, 5), Vec::<u32>::new());
        assert_eq!(gone(Retention::Hours(24 * 7), &roots, 5), [1, 2], "exactly as old is not older");
        assert_eq!(gone(Retention::Hours(1), &roots, 5), [1, 2, 3, 4]);
        // It was gone back: what is at /old was left long ago.
        assert_eq!(gone(Retention::Roots(1), &roots, 1), [2, 3, 4, 5]);
        assert_eq!(gone(Retention::Hours(1), &[(1, 300), (2, 200)], 1), [2]);
        // Left in the future, by another clock.
        let ahead = vec![OldRoot { number: number(1), left: now + Duration::from_secs(HOUR) }];
        assert_eq!(Retention::Hours(1).expired(ahead, None, now), Vec::<GenerationNumber>::new());
    }
}
