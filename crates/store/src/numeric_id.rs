//! The number of a container: what OpenVZ calls its CTID, for scripts that know nothing else.
//!
//! It stands in `ve.conf` as `VEID` and is a second name of the container, never the name of a directory: that is the UUID. The link
//! `/etc/vz/conf/<number>.conf` finds it fast, and is where old scripts look. One that dangles, or leads to what has another `VEID`, counts for
//! nothing. See docs/decisions/0032-numeric-ids.md.

use std::fmt;
use std::str::FromStr;

use crate::area::Area;
use crate::identity::{NameError, refuse};

/// The key of `ve.conf`.
pub const KEY: &str = "VEID";

/// From 101 to 2147483644: those up to 100 are reserved, as in OpenVZ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NumericId(u32);

impl NumericId {
    /// The first one that is not reserved.
    pub const FIRST: u32 = 101;
    /// The last one.
    pub const LAST: u32 = 2_147_483_644;

    /// The number.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for NumericId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for NumericId {
    type Err = NameError;

    /// Only as [`fmt::Display`] writes it: `0101` is another word than `101`, and a script may mean another container by it.
    fn from_str(text: &str) -> Result<Self, NameError> {
        match text.parse::<u32>() {
            Ok(number) if number.to_string() != text => refuse(text, "a CTID", "wanted is a plain number"),
            Ok(number) if number < Self::FIRST => refuse(text, "a CTID", "those up to 100 are reserved"),
            Ok(number) if number > Self::LAST => refuse(text, "a CTID", "the last one is 2147483644"),
            Ok(number) => Ok(Self(number)),
            Err(_) => refuse(text, "a CTID", "wanted is a number from 101 to 2147483644"),
        }
    }
}

impl Area {
    /// The number that its `VEID` is; `None`: it has none, or is not to be read.
    pub fn numeric_id(&self) -> Option<NumericId> {
        self.conf().ok()?.get(KEY)?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_one_spelling_and_bounds() {
        for (text, number) in [("101", 101), ("2147483644", 2_147_483_644)] {
            let id: NumericId = text.parse().unwrap();
            assert_eq!((id.get(), id.to_string()), (number, text.to_owned()));
        }
        for (text, rule) in [
            ("", "from 101"),
            ("0", "reserved"),
            ("100", "reserved"),
            ("0101", "plain"),
            ("+101", "plain"),
            ("-101", "from 101"),
            ("2147483645", "the last"),
            ("99999999999", "from 101"),
            ("101 ", "from 101"),
            ("1e3", "from 101"),
        ] {
            assert!(text.parse::<NumericId>().unwrap_err().rule.contains(rule), "{text}");
        }
    }
}
