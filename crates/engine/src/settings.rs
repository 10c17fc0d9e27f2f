//! What `prlctl set` and `prlctl create` can say of a container: which key of `ve.conf` an option is, and what it takes.
//!
//! What a key may hold is known by whoever reads it, `store::Limits` above all: a value that is written here is one that is understood at the next
//! start.

use std::net::IpAddr;

use store::{
    Conf, ContainerName, DeviceNode, DiskSpace, FeatureError, Features, Forward, Limits, MEGAHERTZ, RATE,
    RATE_BOUND, Rate, device_nodes, environment, features,
};

use crate::container::check_host_name;
use crate::error::{Code, Failure, Result};
use crate::without_effect;

const PAGE: u64 = 4096;
/// A longer description is none.
const LONGEST_DESCRIPTION: usize = 4096;

/// What is done with it when the host goes down.
pub const AUTOSTOP: &str = "AUTOSTOP";
/// What of the packet filter it may use: here all, always.
pub const NETFILTER: &str = "NETFILTER";
/// Whether a reboot of its init is one, or its end.
pub const ALLOW_REBOOT: &str = "ALLOWREBOOT";
/// Whether it is started again when it has ended without having been asked to.
pub const RESTART: &str = "RESTART";

/// Whether it is not kept when a file was last read.
pub const NO_ACCESS_TIMES: &str = "NOATIME";

/// Keys whose values the kernel holds.
pub const LIMITS: [&str; 14] = [
    "PHYSPAGES",
    "SWAPPAGES",
    "MEMGUARANTEE",
    "MEMGUARANTEE_BYTES",
    "NUMPROC",
    "CPUS",
    "CPULIMIT",
    MEGAHERTZ,
    "CPUUNITS",
    "CPUMASK",
    "NODEMASK",
    "IOPRIO",
    "IOLIMIT",
    "IOPSLIMIT",
];

/// An option.
#[derive(Debug)]
pub struct Setting {
    /// As it is typed: `--memsize`.
    pub option: &'static str,
    /// What it sets in `ve.conf`.
    pub key: &'static str,
    read: fn(&str) -> std::result::Result<String, &'static str>,
}

const fn setting(
    option: &'static str,
    key: &'static str,
    read: fn(&str) -> std::result::Result<String, &'static str>,
) -> Setting {
    Setting { option, key, read }
}

/// All there are.
pub const SETTINGS: [Setting; 44] = [
    setting("--name", "NAME", name),
    setting("--description", "DESCRIPTION", description),
    setting("--onboot", "ONBOOT", on_boot),
    setting("--autostart", "ONBOOT", on_boot),
    setting("--bootorder", "BOOTORDER", boot_order),
    setting("--disabled", "DISABLED", on_or_off),
    setting("--autostop", AUTOSTOP, auto_stop),
    setting("--restart", RESTART, restart),
    setting("--allowreboot", ALLOW_REBOOT, on_or_off),
    setting("--environment", environment::KEY, variables),
    setting("--noatime", NO_ACCESS_TIMES, on_or_off),
    setting("--template", "TEMPLATE", yes_or_no),
    setting("--hostname", "HOSTNAME", host_name),
    setting("--nameserver", "NAMESERVER", name_servers),
    setting("--searchdomain", "SEARCHDOMAIN", search_domains),
    setting("--memsize", "PHYSPAGES", mebibytes_of_memory),
    setting("--swap", "SWAPPAGES", mebibytes_in_pages),
    setting("--physpages", "PHYSPAGES", as_it_is),
    setting("--swappages", "SWAPPAGES", as_it_is),
    setting("--memguarantee", "MEMGUARANTEE", as_it_is),
    setting("--numproc", "NUMPROC", as_it_is),
    setting("--cpus", "CPUS", as_it_is),
    setting("--cpulimit", "CPULIMIT", as_it_is),
    setting("--cpuunits", "CPUUNITS", as_it_is),
    setting("--cpumask", "CPUMASK", as_it_is),
    setting("--nodemask", "NODEMASK", as_it_is),
    setting("--ioprio", "IOPRIO", as_it_is),
    setting("--iolimit", "IOLIMIT", mebibytes_in_bytes),
    setting("--iopslimit", "IOPSLIMIT", as_it_is),
    setting("--forward", "FORWARD", forwards),
    setting("--features", features::KEY, feature_words),
    setting("--devnodes", device_nodes::KEY, devices),
    setting("--netfilter", NETFILTER, netfilter),
    setting("--rate", RATE, rate),
    setting("--ratebound", RATE_BOUND, yes_or_no),
    setting("--diskspace", "DISKSPACE", blocks_of_disk),
    setting("--diskinodes", "DISKINODES", as_it_is),
    setting("--autocompact", without_effect::AUTO_COMPACT, on_or_off),
    setting("--apply-iponly", without_effect::APPLY_ONLY_ADDRESSES, on_or_off),
    setting("--autostart-delay", without_effect::AUTO_START_DELAY, seconds),
    setting("--ha-enable", without_effect::HA_ENABLE, on_or_off),
    setting("--ha-prio", without_effect::HA_PRIORITY, priority),
    setting("--offline-management", without_effect::OFFLINE_MANAGEMENT, on_or_off),
    setting("--quotaugidlimit", without_effect::USER_QUOTA, users),
];

/// What somebody has typed, understood: a key and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// As it was typed.
    pub option: &'static str,
    /// In `ve.conf`.
    pub key: &'static str,
    /// As it stands there.
    pub value: String,
}

/// Understands an option of [`SETTINGS`] with what was typed after it.
///
/// # Errors
/// [`Code::BadValue`], with what is wanted; [`Code::BadName`] for a name.
pub fn read(option: &str, text: &str) -> Result<Change> {
    let shown = shown(text);
    let refused = |wanted: &str| {
        let code = if option == "--name" { Code::BadName } else { Code::BadValue };
        Failure::new(code, format!("`{option} {shown}` cannot be used")).because(format!("wanted {wanted}"))
    };
    let Some(setting) = SETTINGS.iter().find(|setting| setting.option == option) else {
        return Err(Failure::new(Code::BadOption, format!("there is no `{option}`")));
    };
    // `500m`: the same limit in MHz, which has a key of its own.
    let megahertz = text.trim().strip_suffix('m').filter(|_| setting.key == "CPULIMIT");
    let (key, value) = match megahertz {
        Some(megahertz) => {
            if store::megahertz().is_none() {
                return Err(refused(
                    "percent: the kernel of this host does not tell how fast its processors are",
                ));
            }
            (MEGAHERTZ, as_it_is(megahertz).map_err(|wanted| refused(units(setting, MEGAHERTZ, wanted)))?)
        }
        None => {
            let read = (setting.read)(text.trim());
            (setting.key, read.map_err(|wanted| refused(units(setting, setting.key, wanted)))?)
        }
    };
    let mut conf = Conf::default();
    conf.set(key, &value)?;
    Limits::from_conf(&[&conf]).map_err(|error| refused(error.wanted))?;
    DiskSpace::from_conf(&[&conf]).map_err(|error| refused(error.wanted))?;
    Ok(Change { option: setting.option, key, value })
}

type Read = std::result::Result<String, &'static str>;

/// As much of what somebody has written as is shown, with what is not to be printed escaped.
pub fn shown(text: &str) -> String {
    tree::escaped(&text.as_bytes()[..text.len().min(200)])
}

/// Where nothing was said: what is wanted is what is said of something that is none.
fn units(setting: &Setting, key: &str, wanted: &'static str) -> &'static str {
    if wanted != A_VALUE {
        return wanted;
    }
    let of_option = (setting.read)("?").err();
    of_option.or_else(|| wanted_of(key, "?")).unwrap_or(wanted)
}

/// What a key of a file wants where it holds something that it cannot; nothing of an empty one, nor of a key that no option sets.
pub fn wanted_of(key: &str, value: &str) -> Option<&'static str> {
    let value = value.trim();
    if value.is_empty() {
        return None;
    }
    let setting = SETTINGS.iter().find(|setting| setting.key == key && !TYPED.contains(&setting.option));
    if let Some(Err(wanted)) = setting.map(|setting| (setting.read)(value)) {
        return Some(wanted);
    }
    let mut conf = Conf::default();
    conf.set(key, value).ok()?;
    let limits = Limits::from_conf(&[&conf]).err();
    limits.or_else(|| DiskSpace::from_conf(&[&conf]).err()).map(|error| error.wanted)
}

/// Sizes that are typed in other units than they are written in.
const TYPED: [&str; 4] = ["--memsize", "--swap", "--iolimit", "--diskspace"];
/// Keys of which what cannot be is told by whoever reads them.
const TOLD_ELSEWHERE: [&str; 7] =
    ["NAME", "ONBOOT", "BOOTORDER", "DISABLED", AUTOSTOP, features::KEY, NETFILTER];

/// What of a `ve.conf` cannot be, a line each: some of it keeps the container from starting, the rest counts for nothing.
pub fn problems(conf: &Conf) -> Vec<String> {
    let is_looked_at = |key: &&str| {
        !TOLD_ELSEWHERE.contains(key)
            && without_effect::because(key).is_none()
            && (SETTINGS.iter().any(|setting| setting.key == *key)
                || [MEGAHERTZ, "MEMGUARANTEE_BYTES"].contains(key))
    };
    let of_key = |key: &str| {
        let value = conf.get(key)?;
        let wanted = wanted_of(key, &value)?;
        let what = match key {
            "NAMESERVER" | "SEARCHDOMAIN" => ": what is none is left out of resolv.conf",
            _ => "",
        };
        Some(format!("`{key}` is `{}`, not {wanted}{what}", shown(&value)))
    };
    conf.keys().into_iter().filter(is_looked_at).filter_map(of_key).collect()
}

const A_VALUE: &str = "a value";

/// Whoever reads the key says what it takes.
fn as_it_is(text: &str) -> Read {
    if text.is_empty() { Err(A_VALUE) } else { Ok(text.to_owned()) }
}

/// As OpenVZ writes it: barrier and limit, in blocks of 1 KiB.
fn blocks_of_disk(text: &str) -> Read {
    let mut conf = Conf::default();
    let wanted = "blocks of 1 KiB from 1 on, or a number with K, M, G or T, or `unlimited`";
    conf.set("DISKSPACE", as_it_is(text)?.as_str()).map_err(|_| wanted)?;
    match DiskSpace::from_conf(&[&conf]).map_err(|error| error.wanted)?.bytes {
        Some(bytes) => Ok(format!("{0}:{0}", bytes.div_ceil(1024))),
        None => Ok("unlimited".to_owned()),
    }
}

/// Added to those that are there when they are written.
fn feature_words(text: &str) -> Read {
    match Features::merge("", as_it_is(text)?.as_str()) {
        Ok(words) => Ok(words),
        // What is no word at all; what cannot be had is said where it is written.
        Err(FeatureError::Unknown(_)) => Err(features::WANTED),
        Err(FeatureError::Impossible(..)) => Ok(text.to_owned()),
    }
}

/// Likewise.
fn devices(text: &str) -> Read {
    DeviceNode::merge("", as_it_is(text)?.as_str()).map_err(|error| error.wanted)?;
    Ok(text.to_owned())
}

/// Every container has all of nftables, in its own network.
fn netfilter(text: &str) -> Read {
    match text {
        "disabled" | "stateless" | "stateful" | "full" => Ok(text.to_owned()),
        _ => Err("disabled, stateless, stateful or full, all of which are full here"),
    }
}

/// Ports, each once.
fn forwards(text: &str) -> Read {
    let all = Forward::read(text).map_err(
        |_| "`tcp:8080:80` or `udp:53`, several with blanks between them, no port twice; or '' for none",
    )?;
    Ok(all.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
}

/// As OpenVZ writes it.
fn rate(text: &str) -> Read {
    Rate::read(text).map_err(|_| {
        "`eth0:1:1000`: a device or `*`, a class from 1 to 15, and kilobits a second up to 100000000; or '' for no limit"
    })?;
    Ok(text.split([' ', '\t', ',']).filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" "))
}

fn name(text: &str) -> Read {
    let wanted = "a name: letters and digits of any script, spaces, `-`, `_` and `.`, beginning with a letter or digit";
    text.parse::<ContainerName>().map(|name| name.as_str().to_owned()).map_err(|_| wanted)
}

fn description(text: &str) -> Read {
    if text.len() <= LONGEST_DESCRIPTION && !text.contains(char::is_control) {
        return Ok(text.to_owned());
    }
    Err("one line of up to 4096 bytes")
}

/// `auto`: as it was when the host went down.
fn on_boot(text: &str) -> Read {
    if text == "auto" {
        return Ok(text.to_owned());
    }
    on_or_off(text).map_err(|_| "yes, no or auto")
}

/// What is in the environment of whatever is executed in it.
fn variables(text: &str) -> Read {
    environment::read(text)?;
    Ok(text.split_ascii_whitespace().collect::<Vec<_>>().join(" "))
}

fn on_or_off(text: &str) -> Read {
    match text {
        "yes" | "on" => Ok("yes".to_owned()),
        "no" | "off" => Ok("no".to_owned()),
        _ => Err("yes or no"),
    }
}

/// `suspend` is understood, for those who come with it.
fn auto_stop(text: &str) -> Read {
    match text {
        "stop" | "suspend" => Ok(text.to_owned()),
        _ => Err("stop; suspend, too, means that it is stopped"),
    }
}

fn restart(text: &str) -> Read {
    match text {
        "no" | "on-crash" => Ok(text.to_owned()),
        _ => Err("no or on-crash"),
    }
}

/// Whether it is started again after a crash.
///
/// # Errors
/// What is wanted.
pub fn restarts_on_crash(conf: &Conf) -> std::result::Result<bool, &'static str> {
    let Some(value) = conf.get(RESTART) else { return Ok(false) };
    Ok(restart(value.trim())? == "on-crash")
}

fn yes_or_no(text: &str) -> Read {
    match text {
        "yes" | "no" => Ok(text.to_owned()),
        _ => Err("yes or no"),
    }
}

fn boot_order(text: &str) -> Read {
    match text.parse::<u32>() {
        Ok(order) => Ok(order.to_string()),
        Err(_) => Err("a number from 0 to 4294967295, the highest is started first"),
    }
}

/// Digits, of which there are no more than a number may have.
fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u32>().is_ok()
}

fn seconds(text: &str) -> Read {
    if is_number(text) { Ok(text.to_owned()) } else { Err("seconds from 0 to 4294967295") }
}

fn priority(text: &str) -> Read {
    if is_number(text) { Ok(text.to_owned()) } else { Err("a priority from 0 to 4294967295") }
}

fn users(text: &str) -> Read {
    if is_number(text) {
        Ok(text.to_owned())
    } else {
        Err("a number of users and groups from 0 to 4294967295")
    }
}

fn host_name(text: &str) -> Read {
    check_host_name(text).map(|()| text.to_owned())
}

/// What may be one word of `NAMESERVER`.
pub fn is_name_server(word: &str) -> bool {
    word.parse::<IpAddr>().is_ok()
}

/// What may be one word of `SEARCHDOMAIN`.
pub fn is_domain(word: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    word.len() <= 253 && word.bytes().all(is_plain)
}

/// `inherit`, or addresses.
fn name_servers(text: &str) -> Read {
    if text == "inherit" || text.split_whitespace().all(is_name_server) {
        return Ok(text.split_whitespace().collect::<Vec<_>>().join(" "));
    }
    Err("addresses of name servers, or `inherit` for those of the host, or '' for none")
}

fn search_domains(text: &str) -> Read {
    if text.split_whitespace().all(is_domain) {
        return Ok(text.split_whitespace().collect::<Vec<_>>().join(" "));
    }
    Err("domains, or `inherit` for those of the host, or '' for none")
}

/// A number of MiB, or one with a suffix, in bytes.
fn bytes(text: &str) -> Option<u64> {
    let (digits, factor) = match text.bytes().last()?.to_ascii_uppercase() {
        b'B' => (text.get(..text.len() - 1)?, 1),
        b'K' => (text.get(..text.len() - 1)?, 1 << 10),
        b'M' => (text.get(..text.len() - 1)?, 1 << 20),
        b'G' => (text.get(..text.len() - 1)?, 1 << 30),
        b'T' => (text.get(..text.len() - 1)?, 1 << 40),
        _ => (text, 1 << 20),
    };
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number
        .then(|| digits.parse::<u64>().ok()?.checked_mul(factor).filter(|&bytes| bytes <= i64::MAX as u64))?
}

/// The size of something that has one.
pub fn size_in_bytes(text: &str) -> Option<u64> {
    bytes(text.trim()).filter(|&bytes| bytes > 0)
}

/// As OpenVZ writes it: barrier and limit, in pages.
fn mebibytes_in_pages(text: &str) -> Read {
    if text.eq_ignore_ascii_case("unlimited") {
        return Ok("unlimited".to_owned());
    }
    let bytes =
        bytes(text).ok_or("MiB from 0 to 8796093022207, or a number with K, M, G or T, or `unlimited`")?;
    let pages = bytes.div_ceil(PAGE);
    Ok(format!("{pages}:{pages}"))
}

/// Of which there is some.
fn mebibytes_of_memory(text: &str) -> Read {
    match mebibytes_in_pages(text) {
        Ok(pages) if pages != "0:0" => Ok(pages),
        Ok(_) | Err(_) => Err("MiB from 1 to 8796093022207, or a number with K, M, G or T, or `unlimited`"),
    }
}

fn mebibytes_in_bytes(text: &str) -> Read {
    let bytes = bytes(text)
        .ok_or("MiB a second up to 8796093022207, or a number with B, K, M or G; 0 for no limit")?;
    Ok(bytes.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(option: &str, text: &str) -> String {
        read(option, text).unwrap().value
    }

    #[test]
    fn options_are_written_as_openvz_writes_them() {
        for (option, text, wanted) in [
            ("--memsize", "512", "131072:131072"),
            ("--memsize", "2G", "524288:524288"),
            ("--memsize", "1048576K", "262144:262144"),
            ("--memsize", "unlimited", "unlimited"),
            ("--swap", "0", "0:0"),
            ("--physpages", "100:200", "100:200"),
            ("--iolimit", "10", "10485760"),
            ("--iolimit", "512K", "524288"),
            ("--iolimit", "0", "0"),
            ("--cpulimit", "150%", "150%"),
            ("--cpulimit", "0m", "0"),
            ("--cpumask", "0-1", "0-1"),
            ("--features", "nesting:on,fuse:off", "nesting:on fuse:off"),
            ("--devnodes", "sdb1:rw ttyS0:none", "sdb1:rw ttyS0:none"),
            ("--netfilter", "stateful", "stateful"),
            ("--diskspace", "10G", "10485760:10485760"),
            ("--forward", "tcp:8080:80,udp:53", "tcp:8080:80 udp:53:53"),
            ("--forward", "", ""),
            ("--diskspace", "100:2048", "2048:2048"),
            ("--rate", "eth0:1:1000,*:2:5", "eth0:1:1000 *:2:5"),
            ("--rate", "", ""),
            ("--ratebound", "no", "no"),
            ("--diskspace", "unlimited", "unlimited"),
            ("--diskinodes", "5000", "5000"),
            ("--onboot", "on", "yes"),
            ("--onboot", "auto", "auto"),
            ("--environment", " A=1   LANG=C ", "A=1 LANG=C"),
            ("--environment", "", ""),
            ("--noatime", "yes", "yes"),
            ("--autostart", "off", "no"),
            ("--autostop", "suspend", "suspend"),
            ("--restart", "on-crash", "on-crash"),
            ("--allowreboot", "off", "no"),
            ("--nameserver", "192.0.2.1  2001:db8::1", "192.0.2.1 2001:db8::1"),
            ("--nameserver", "", ""),
            ("--searchdomain", "inherit", "inherit"),
        ] {
            assert_eq!(value(option, text), wanted, "{option} {text}");
        }
    }

    #[test]
    fn what_cannot_be_says_what_is_wanted() {
        for (option, text, wanted) in [
            ("--memsize", "much", "wanted MiB"),
            ("--memsize", "0", "wanted MiB from 1 to"),
            ("--memsize", "99999999999999999999", "wanted MiB"),
            ("--cpuunits", "7", "wanted a weight from 8 to 500000"),
            ("--cpus", "two", "wanted a number of cores"),
            ("--cpulimit", "m", "wanted MHz"),
            ("--cpulimit", "-5m", "wanted MHz"),
            ("--cpulimit", "5mm", "wanted MHz"),
            ("--cpulimit", "5M", "wanted percent"),
            ("--cpumask", "3-1", "wanted numbers and ranges"),
            ("--ioprio", "9", "wanted a priority from 0 to 7"),
            ("--iolimit", "fast", "wanted MiB a second"),
            ("--numproc", "0", "wanted a number of processes"),
            ("--hostname", "a b", "wanted"),
            ("--nameserver", "ns1.example.com", "wanted addresses"),
            ("--searchdomain", "a\nb;c", "wanted domains"),
            ("--description", "a\nb", "wanted one line"),
            ("--onboot", "maybe", "wanted yes, no or auto"),
            ("--onboot", "", "wanted yes, no or auto"),
            ("--autostart", "auto; reboot", "wanted yes, no or auto"),
            ("--disabled", "auto", "wanted yes or no"),
            ("--environment", "A", "wanted `NAME=VALUE`"),
            ("--environment", "A=1 A=2", "wanted `NAME=VALUE`"),
            ("--noatime", "", "wanted yes or no"),
            ("--autocompact", "maybe", "wanted yes or no"),
            ("--ha-prio", "-1", "wanted a priority from 0"),
            ("--ha-prio", "+1", "wanted a priority from 0"),
            ("--autostart-delay", "10s", "wanted seconds from 0"),
            ("--quotaugidlimit", "99999999999", "wanted a number of users"),
            ("--noatime", "$(id)", "wanted yes or no"),
            ("--autostop", "pause", "wanted stop"),
            ("--restart", "always", "wanted no or on-crash"),
            ("--allowreboot", "", "wanted yes or no"),
            ("--allowreboot", "never; reboot", "wanted yes or no"),
            ("--name", "-x", "wanted a name"),
            ("--bootorder", "-1", "wanted a number"),
            ("--diskspace", "10GB", "wanted blocks of 1 KiB"),
            ("--forward", "tcp:0", "wanted `tcp:8080:80`"),
            ("--forward", "tcp:80 tcp:80:81", "wanted `tcp:8080:80`"),
            ("--diskspace", "\0", "wanted blocks of 1 KiB"),
            ("--rate", "1000", "wanted `eth0:1:1000`"),
            ("--rate", "eth0:1:0", "wanted `eth0:1:1000`"),
            ("--rate", "eth0:1:10M", "wanted `eth0:1:1000`"),
            ("--ratebound", "maybe", "wanted yes or no"),
            ("--diskinodes", "10K", "wanted a number of inodes"),
            ("--features", "frob:on", "wanted `NAME:on`"),
            ("--features", "", "wanted `NAME:on`"),
            ("--devnodes", "mem:rw", "wanted one that is not the whole host"),
            ("--devnodes", "../sda:rw", "wanted `NAME:r`"),
            ("--netfilter", "on", "wanted disabled"),
            ("--cpus", "", "wanted a number of cores up to 65536"),
            ("--cpus", "70000", "wanted a number of cores up to 65536"),
            ("--cpulimit", "99999999", "wanted percent of one core up to 6553600"),
            ("--physpages", "", "wanted pages of 4 KiB from 1 on"),
            ("--swappages", "", "wanted pages of 4 KiB from 0 on"),
            ("--memguarantee", "", "wanted percent of the memory from 0 to 100"),
            ("--numproc", "", "wanted a number of processes from 1"),
            ("--numproc", "-1", "wanted a number of processes from 1"),
            ("--iopslimit", "", "wanted operations a second, up to"),
            ("--iolimit", "99999999999999999999", "wanted MiB a second up to"),
            ("--diskspace", "", "wanted blocks of 1 KiB from 1 on"),
            ("--diskinodes", "", "wanted a number of inodes from 1 on"),
            ("--devnodes", "", "wanted `NAME:r`"),
        ] {
            let failure = read(option, text).unwrap_err();
            assert!(failure.because[0].starts_with(wanted), "{option} {text}: {failure}");
        }
    }

    #[test]
    fn what_of_a_file_cannot_be_is_told_in_its_own_units() {
        let text = "PHYSPAGES=131072:131072\nSWAPPAGES=1G\nIOLIMIT=5M\nDISKSPACE=1:2\nHOSTNAME=\nNAMESERVER='x;y'\nSEARCHDOMAIN='$(id)'\nRATEBOUND=maybe\nTEMPLATE=perhaps\nCPULIMIT_MHZ=m\nONBOOT=x\nUNKNOWN=y\n";
        let problems = problems(&Conf::parse(text.as_bytes()));
        let keys: Vec<&str> = problems.iter().filter_map(|problem| problem.split('`').nth(1)).collect();
        assert_eq!(keys, ["NAMESERVER", "SEARCHDOMAIN", "RATEBOUND", "TEMPLATE", "CPULIMIT_MHZ"]);
        assert!(problems[0].contains("`x;y`, not addresses") && problems[0].ends_with("resolv.conf"));
    }
}
