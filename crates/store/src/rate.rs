//! `RATE` and `RATEBOUND` of a `ve.conf`: how much may go in, and how much out, in a second.

use crate::conf::Conf;

/// The keys.
pub const KEY: &str = "RATE";
pub const BOUND: &str = "RATEBOUND";
/// 100 Gbit.
const MOST: u64 = 100_000_000;

/// How fast a container may send, and likewise receive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Rate {
    /// Of 1,000 bits, a second.
    pub kilobits: u64,
}

/// What is no rate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is no rate: wanted `eth0:1:1000`, a device or `*`, a class from 1 to 15, and kilobits a second up to 100000000"
)]
pub struct RateError {
    /// Its beginning, with what is not to be printed escaped.
    pub text: String,
}

impl Rate {
    /// That of a `ve.conf`; `None`: none, or one that `RATEBOUND="no"` says is no limit.
    pub fn of(conf: &Conf) -> Result<Option<Rate>, RateError> {
        let rate = Rate::read(&conf.get(KEY).unwrap_or_default())?;
        Ok(rate.filter(|_| Rate::is_bound(conf)))
    }

    /// It is a limit. Where it is said to be none, it is what OpenVZ would have granted at least, which nothing here does.
    pub fn is_bound(conf: &Conf) -> bool {
        conf.get(BOUND).is_none_or(|word| word.trim() != "no")
    }

    /// The narrowest of class 1, which is all traffic. Other classes are of addresses that vz's own tables would have to know, and mean nothing.
    pub fn read(text: &str) -> Result<Option<Rate>, RateError> {
        let refused =
            |word: &str| RateError { text: word.chars().take(80).flat_map(char::escape_debug).collect() };
        let mut narrowest: Option<Rate> = None;
        for word in text.split([' ', '\t', ',']).filter(|word| !word.is_empty()) {
            let mut parts = word.split(':');
            let (device, class, kilobits) = (parts.next(), parts.next(), parts.next());
            let is_device =
                |name: &str| name == "*" || name.parse::<crate::interfaces::InterfaceName>().is_ok();
            let number = |part: Option<&str>, most: u64| {
                let part =
                    part.filter(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()))?;
                part.parse::<u64>().ok().filter(|number| (1..=most).contains(number))
            };
            let (Some(class), Some(kilobits)) = (number(class, 15), number(kilobits, MOST)) else {
                return Err(refused(word));
            };
            if !device.is_some_and(is_device) || parts.next().is_some() {
                return Err(refused(word));
            }
            if class == 1 && narrowest.is_none_or(|rate| kilobits < rate.kilobits) {
                narrowest = Some(Rate { kilobits });
            }
        }
        Ok(narrowest)
    }

    /// Bytes a second.
    pub fn bytes(self) -> u64 {
        self.kilobits * 125
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_narrowest_of_all_traffic_counts_where_it_is_a_limit() {
        let of = |text: &str| Rate::of(&Conf::parse(text.as_bytes())).unwrap().map(|rate| rate.kilobits);
        assert_eq!(of("RATE=\"eth0:1:1000\"\n"), Some(1000));
        assert_eq!(of("RATE=\"*:1:8 eth0:2:4,eth1:1:7\"\nRATEBOUND=yes\n"), Some(7));
        assert_eq!(of("RATE=\"eth0:2:4\"\n"), None);
        assert_eq!(of("RATE=\"eth0:1:1000\"\nRATEBOUND=\"no\"\n"), None);
        assert_eq!(of("RATE=\"\"\n"), None);
        assert_eq!(Rate { kilobits: 1000 }.bytes(), 125_000);
    }

    #[test]
    fn says_what_is_no_rate() {
        for text in [
            "1000",
            "eth0:1",
            "eth0:1:0",
            "eth0:1:-1",
            "eth0:1:+1",
            "eth0:0:1",
            "eth0:16:1",
            ":1:1",
            "eth0:1:1:1",
            "eth0:1:1M",
            "eth0:1:100000001",
            "eth0:1:99999999999999999999",
            "e th0:1:1",
            "$(x):1:1",
            "sixteen-bytes-16:1:1",
        ] {
            assert!(Rate::read(text).is_err(), "{text}");
        }
    }
}
