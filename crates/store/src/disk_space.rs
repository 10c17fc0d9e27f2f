//! How much disk a container may use: `DISKSPACE` and `DISKINODES`, as OpenVZ writes them, and where its layers lie.

use crate::conf::Conf;
use crate::limits::LimitsError;
use crate::volume::Volume;

/// OpenVZ counts disks in these, in bytes.
const BLOCK: u64 = 1024;
/// Which volume a new container gets, in `vz.conf`.
pub const VOLUME: &str = "VOLUME";

/// `None`: as much as there is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DiskSpace {
    /// Bytes.
    pub bytes: Option<u64>,
    pub inodes: Option<u64>,
}

impl DiskSpace {
    /// Of each key the first one of `sources` that says anything counts; of `barrier:limit` the limit.
    pub fn from_conf(sources: &[&Conf]) -> Result<Self, LimitsError> {
        Ok(Self {
            bytes: read(
                sources,
                "DISKSPACE",
                |text| amount(text, BLOCK),
                "blocks of 1 KiB from 1 on, or a number with K, M, G or T, or `unlimited`",
            )?,
            inodes: read(
                sources,
                "DISKINODES",
                |text| amount(text, 1),
                "a number of inodes from 1 on, or `unlimited`",
            )?,
        })
    }
}

/// Where the layers of a new container lie, should `vz.conf` say.
pub fn volume_of(conf: &Conf) -> Result<Option<Volume>, LimitsError> {
    match conf.get(VOLUME).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty()) {
        None => Ok(None),
        Some(text) => match Volume::named(&text) {
            Some(volume) => Ok(Some(volume)),
            None => Err(LimitsError { key: VOLUME, value: text, wanted: "`directory`, `image` or `btrfs`" }),
        },
    }
}

fn read(
    sources: &[&Conf],
    key: &'static str,
    amount: fn(&str) -> Option<Option<u64>>,
    wanted: &'static str,
) -> Result<Option<u64>, LimitsError> {
    let said = sources.iter().filter_map(|source| source.get(key)).map(|value| value.trim().to_owned());
    let Some(value) = { said }.find(|value| !value.is_empty()) else { return Ok(None) };
    let read = match value.split_once(':') {
        Some((barrier, limit)) => amount(barrier).and(amount(limit)),
        None => amount(&value),
    };
    match read {
        Some(amount) if amount != Some(0) => Ok(amount),
        Some(_) | None => Err(LimitsError { key, value, wanted }),
    }
}

/// A number of `unit`s, or one with a suffix in bytes; of the larger ones of OpenVZ's `unlimited`. The outer `None`: it is none.
fn amount(text: &str, unit: u64) -> Option<Option<u64>> {
    if text.eq_ignore_ascii_case("unlimited") {
        return Some(None);
    }
    let factor = match text.as_bytes().last()?.to_ascii_uppercase() {
        b'K' if unit > 1 => 1 << 10,
        b'M' if unit > 1 => 1 << 20,
        b'G' if unit > 1 => 1 << 30,
        b'T' if unit > 1 => 1 << 40,
        _ => 0,
    };
    let (digits, factor) = if factor == 0 { (text, unit) } else { (text.get(..text.len() - 1)?, factor) };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    Some(number.checked_mul(factor).filter(|&bytes| bytes < i64::MAX as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space(text: &str) -> Result<DiskSpace, LimitsError> {
        DiskSpace::from_conf(&[&Conf::parse(text.as_bytes())])
    }

    #[test]
    fn reads_what_openvz_writes() {
        for (text, bytes, inodes) in [
            (
                "DISKSPACE=\"10485760:10485760\"\nDISKINODES=\"655360:720896\"\n",
                Some(10 << 30),
                Some(720_896),
            ),
            ("DISKSPACE=10G", Some(10 << 30), None),
            ("DISKSPACE=512M:1g", Some(1 << 30), None),
            ("DISKSPACE=unlimited\nDISKINODES=1", None, Some(1)),
            ("DISKSPACE=9223372036854775807:9223372036854775807", None, None),
            ("DISKSPACE=\nDISKINODES=", None, None),
        ] {
            assert_eq!(space(text).unwrap(), DiskSpace { bytes, inodes }, "{text}");
        }
    }

    #[test]
    fn says_which_value_is_none() {
        for text in [
            "DISKSPACE=0",
            "DISKSPACE=-1",
            "DISKSPACE=1.5G",
            "DISKSPACE=G",
            "DISKSPACE=1:2:3",
            "DISKSPACE=10GB",
            "DISKSPACE=$(reboot)",
            "DISKINODES=10K",
            "DISKINODES=many",
            "DISKINODES=0:0",
            "DISKSPACE=99999999999999999999",
        ] {
            let error = space(text).unwrap_err();
            assert_eq!(format!("{}={}", error.key, error.value), text);
        }
        assert!(volume_of(&Conf::parse(b"VOLUME=ploop")).is_err());
        assert_eq!(volume_of(&Conf::parse(b"VOLUME=image")).unwrap(), Some(Volume::Image));
        assert_eq!(volume_of(&Conf::parse(b"VOLUME=")).unwrap(), None);
    }
}
