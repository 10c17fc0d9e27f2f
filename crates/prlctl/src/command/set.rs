//! `prlctl set`

use engine::addresses::AddressChange;
use engine::interfaces::{InterfaceChange, Words};
use engine::operation::set::{Options, set};
use engine::operation::user_password::Given;
use engine::settings::{self, Change};
use engine::{Code, Failure, Result};
use serde_json::json;

use super::{devices, done, host};
use crate::arguments::{Interfaces, Set, Settings};
use crate::password;

/// Sets something of a container.
///
/// # Errors
/// [`engine::Failure`], with nothing changed.
pub fn run(arguments: &Set) -> Result<u8> {
    let mut changes = understood(&arguments.settings)?;
    if let Some(name) = &arguments.name {
        changes.push(settings::read("--name", name).map_err(Failure::unchanged)?);
    }
    let (addresses, interfaces) = of_networks(&arguments.settings, &arguments.ipdel)?;
    let is_kept = !arguments.no_save;
    let attachments = devices::understood(&arguments.settings.bindmount_add, &arguments.devices)?;
    let mut options = Options {
        sample: arguments.applyconfig.clone(),
        changes,
        addresses,
        interfaces,
        attachments,
        passwords: Vec::new(),
        is_kept,
    };
    if options.sample.is_none()
        && options.changes.is_empty()
        && options.addresses.is_empty()
        && options.interfaces.is_empty()
        && options.attachments.is_empty()
        && arguments.settings.userpasswd.is_empty()
        && !arguments.screen.is_said()
    {
        return Err(Failure::new(Code::BadOption, "nothing is to be set")
            .because("there is no option that sets anything")
            .unchanged()
            .hint("`prlctl set --help` lists what can be set"));
    }
    let host = host(arguments.common.lock_wait, arguments.common.json)?;
    host.not_begun(&format!("cannot set `{}`", tree::escaped(arguments.container.as_bytes())));
    // Before the container is locked: somebody may take his time to type it.
    options.passwords =
        password::of_settings(&host, &arguments.settings, &arguments.container, arguments.common.json)?;
    let container = host.open(&arguments.container)?;
    let recording = host.recording(container.id(), &container.name, "set", None);
    let result = set(&container, &options);
    recording.end_with(&result);
    let report = result?;
    let screen = arguments.screen.is_said().then(|| "the options of VNC are not kept and do nothing here: a container has no screen, and `prlctl enter` is its console".to_owned());
    for warning in report.warnings.iter().chain(&screen) {
        host.warning(warning);
    }
    for (given, became) in options.passwords.iter().zip(&report.passwords) {
        if *became == Given::ToNew {
            let user = tree::escaped(given.user().as_bytes());
            host.note(&format!("`{user}` was not there, and has been made"));
        }
    }
    let changed: serde_json::Map<_, _> =
        report.changed.iter().map(|(key, value)| (key.clone(), json!(value))).collect();
    Ok(done(
        arguments.common.json,
        "The CT has been successfully configured.",
        json!({ "result": "set", "uuid": container.id().to_string(), "changed": changed, "warnings": report.warnings }),
    ))
}

/// What was typed of addresses and interfaces: with `--ifname` addresses are that one's.
///
/// # Errors
/// [`Failure`] for what cannot be used.
pub fn of_networks(settings: &Settings, ipdel: &[String]) -> Result<(AddressChange, InterfaceChange)> {
    let interfaces = interfaces_of(&settings.interfaces, &settings.ipadd, ipdel)?;
    let addresses = match settings.interfaces.ifname {
        Some(_) => AddressChange::default(),
        None => AddressChange::read(&settings.ipadd, ipdel)?,
    };
    Ok((addresses, interfaces))
}

/// Understood, with the addresses that are of the interface that is named.
///
/// # Errors
/// [`Failure`] for what cannot be used.
fn interfaces_of(said: &Interfaces, ipadd: &[String], ipdel: &[String]) -> Result<InterfaceChange> {
    let Interfaces {
        netif_add,
        netif_del,
        ifname,
        network,
        vlan,
        mac,
        host_ifname,
        host_mac,
        gw,
        gw6,
        dhcp,
        macfilter,
        ipfilter,
        kind,
        configure,
        dhcp6,
        preventpromisc,
    } = said;
    let all = [
        ("--network", "network", network),
        ("--vlan", "vlan", vlan),
        ("--mac", "mac", mac),
        ("--host_ifname", "host_ifname", host_ifname),
        ("--host_mac", "host_mac", host_mac),
        ("--gw", "gw", gw),
        ("--gw6", "gw6", gw6),
        ("--dhcp", "dhcp", dhcp),
        ("--macfilter", "mac_filter", macfilter),
        ("--ipfilter", "ip_filter", ipfilter),
        ("--type", "type", kind),
        ("--configure", "configure", configure),
        ("--dhcp6", "dhcp6", dhcp6),
        ("--preventpromisc", "preventpromisc", preventpromisc),
    ];
    let parts: Vec<(&'static str, &'static str, &str)> =
        all.into_iter().filter_map(|(option, part, value)| Some((option, part, value.as_deref()?))).collect();
    InterfaceChange::read(&Words {
        add: netif_add,
        remove: netif_del,
        of: ifname.as_deref(),
        parts: &parts,
        ipadd,
        ipdel,
    })
}

/// Settings as they were typed, understood.
///
/// # Errors
/// [`Code::BadValue`] for the first that cannot be used.
pub fn understood(settings: &Settings) -> Result<Vec<Change>> {
    let said = settings.said();
    said.into_iter()
        .map(|(option, value)| settings::read(option, &value).map_err(Failure::unchanged))
        .collect()
}
