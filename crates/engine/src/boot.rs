//! What `ve.conf` says of the host's coming and going, and whether a container may be started at all: `ONBOOT`, `BOOTORDER`, `AUTOSTOP`, `DISABLED`.
//!
//! What is written there by hand and means nothing is told, by `info`, by `register`, and when the host comes up: it is the morning after a power cut
//! that somebody finds out otherwise.

use store::{Area, AreaError, Conf};

use crate::error::{Code, Failure, Result};
use crate::host::{Container, damaged};
use crate::settings::AUTOSTOP;

/// Whether it is started when the host has come up.
pub const ON_BOOT: &str = "ONBOOT";
/// The highest first, and those without one last.
pub const BOOT_ORDER: &str = "BOOTORDER";
/// What it says of one that is to be as it was.
const AS_BEFORE: &str = "auto";
/// Nobody starts it.
pub const DISABLED: &str = "DISABLED";

/// It is started when the host has come up, if nobody keeps it from that.
pub fn is_wanted(conf: &Conf) -> bool {
    yes_or_no(conf, ON_BOOT) == Some(true)
}

/// It is started when the host has come up if it ran when the host went down.
pub fn is_as_before(conf: &Conf) -> bool {
    conf.get(ON_BOOT).is_some_and(|value| value.trim() == AS_BEFORE)
}

/// Writes down that it runs where that decides whether it is started at boot; elsewhere nothing of it is written down.
///
/// # Errors
/// What the disk says.
pub fn note_running(area: &Area, conf: &Conf) -> std::result::Result<(), AreaError> {
    if is_as_before(conf) { area.mark_running() } else { area.unmark_running() }
}

/// As [`note_running`] of a container that has just been started, or set, and runs on whatever becomes of that.
pub fn note_that_it_runs(container: &Container<'_>) {
    let conf = container.area.conf().and_then(|conf| {
        let of_host = container.host.configuration().unwrap_or_default();
        note_running(&container.area, &crate::defaults::beside(&conf, &of_host))
    });
    if let Err(error) = conf {
        container.host.warning(&format!(
            "`{}` runs, and whether it is started when the host comes up again could not be written down: {}",
            container.name,
            damaged(error, &container.name).reason()
        ));
    }
}

/// Nobody starts it, but who insists.
pub fn is_disabled(conf: &Conf) -> bool {
    yes_or_no(conf, DISABLED) == Some(true)
}

/// Its turn.
pub fn order(conf: &Conf) -> Option<i64> {
    conf.get(BOOT_ORDER)?.trim().parse().ok()
}

/// Why what somebody wants when the host goes down is not done, if he wants anything but a stop.
pub fn why_only_stopped(conf: &Conf) -> Option<String> {
    let value = said(conf, AUTOSTOP).filter(|value| value != "stop")?;
    Some(format!("{AUTOSTOP}: `{value}` is not done: it is stopped when the host goes down."))
}

fn said(conf: &Conf, key: &str) -> Option<String> {
    let value = conf.get(key)?;
    Some(tree::escaped(value.trim().as_bytes())).filter(|value| !value.is_empty())
}

/// What of it means nothing.
pub fn remarks(conf: &Conf) -> Vec<String> {
    let mut remarks = Vec::new();
    for (key, meaning) in
        [(ON_BOOT, "it is not started when the host comes up"), (DISABLED, "it may be started")]
    {
        if let Some(value) = said(conf, key)
            && yes_or_no(conf, key).is_none()
            && !(key == ON_BOOT && is_as_before(conf))
        {
            let words = if key == ON_BOOT { "neither yes, no nor auto" } else { "neither yes nor no" };
            remarks.push(format!("{key}: `{value}` is {words}: {meaning}."));
        }
    }
    if let Some(value) = said(conf, BOOT_ORDER)
        && order(conf).is_none()
    {
        remarks.push(format!("{BOOT_ORDER}: `{value}` is no number: it is among the last that are started."));
    }
    remarks.extend(why_only_stopped(conf));
    remarks
}

/// As both programs have always written it, and as they take it.
pub(crate) fn yes_or_no(conf: &Conf, key: &str) -> Option<bool> {
    match conf.get(key)?.trim() {
        "yes" | "on" => Some(true),
        "no" | "off" => Some(false),
        _ => None,
    }
}

/// It may be started: nobody has said that it may not.
///
/// # Errors
/// [`Code::StartDisabled`].
pub fn check(container: &Container<'_>, what: &str) -> Result<()> {
    let conf = container.area.conf().map_err(|error| damaged(error, &container.name))?;
    if !is_disabled(&conf) {
        return Ok(());
    }
    let state = if container.is_running() {
        "it runs, and goes on; nothing was changed"
    } else {
        "nothing was changed"
    };
    Err(Failure::new(Code::StartDisabled, what)
        .because(format!("`{DISABLED}` is `yes` in its ve.conf: somebody wants it not to be started"))
        .state(state)
        .hint(format!(
            "`prlctl set {0} --disabled no` allows it again; `prlctl start {0} --force` starts it all the same",
            container.name
        )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conf(lines: &[(&str, &str)]) -> Conf {
        let mut conf = Conf::default();
        for (key, value) in lines {
            conf.set(key, value).unwrap();
        }
        conf
    }

    #[test]
    fn what_means_nothing_is_told_and_what_it_amounts_to() {
        for value in ["AUTO", "YES", "$(id)", "1"] {
            let conf =
                conf(&[(ON_BOOT, value), (DISABLED, value), (BOOT_ORDER, "abc"), (AUTOSTOP, "explode")]);
            assert!(!is_wanted(&conf) && !is_disabled(&conf), "{value}");
            assert_eq!(order(&conf), None);
            let told = remarks(&conf);
            assert_eq!(told.len(), 4, "{told:?}");
            assert!(told[0].contains(value) && told[0].contains("not started"), "{told:?}");
        }
    }

    #[test]
    fn what_is_as_it_should_be_is_not_remarked_upon() {
        let usual = conf(&[(ON_BOOT, "yes"), (DISABLED, " on "), (BOOT_ORDER, "-5"), (AUTOSTOP, "stop")]);
        assert_eq!(remarks(&usual), Vec::<String>::new());
        assert!(is_wanted(&usual) && is_disabled(&usual));
        assert_eq!(order(&usual), Some(-5));
        assert_eq!(remarks(&conf(&[(ON_BOOT, ""), (DISABLED, "")])), Vec::<String>::new());
        let auto = conf(&[(ON_BOOT, " auto ")]);
        assert_eq!(remarks(&auto), Vec::<String>::new());
        assert!(is_as_before(&auto) && !is_wanted(&auto));
        assert_eq!(remarks(&conf(&[(DISABLED, "auto")])).len(), 1);
    }
}
