//! The network in `prlctl list -i`: what is configured, and what the kernel says is there, under the names that the interfaces have there too: `venet0`, `net0`, ….

use std::cell::OnceCell;

use engine::Host;
use engine::addresses::{present, rates};
use net::{Bridged, Held, Present, Rates};
use serde_json::{Map, Value, json};
use store::{Address, Conf, ContainerId, Interface};

/// What is routed.
const ROUTED: &str = "venet0";

/// In this order, and the rest behind it.
const ORDER: [&str; 10] =
    ["type", "dev", "ifname", "network", "vlan", "mac", "mac_filter", "ip_filter", "ips", "dhcp"];
/// Without quotes, as there.
const PLAIN: [&str; 3] = ["mac", "mac_filter", "ip_filter"];

/// What is configured.
pub fn configured(host: &Host, id: &ContainerId, conf: &Conf) -> Map<String, Value> {
    let mut all = Map::new();
    match Address::all(conf) {
        Ok(addresses) if addresses.is_empty() => {}
        Ok(addresses) => {
            let device = json!({ "enabled": true, "type": "routed", "ips": ips(&addresses) });
            all.insert(ROUTED.to_owned(), device);
        }
        Err(error) => drop(all.insert(ROUTED.to_owned(), unreadable(store::ADDRESSES, &error))),
    }
    let interfaces = match Interface::all(conf) {
        Ok(interfaces) => interfaces,
        Err(error) => {
            all.insert("net".to_owned(), unreadable(store::INTERFACES, &error));
            return all;
        }
    };
    for (number, wanted) in interfaces.into_iter().enumerate() {
        let Bridged { interface, mac, wanted, .. } = Bridged::of(&host.prefix, id, wanted);
        let on_off = |is_on: bool| if is_on { "on" } else { "off" };
        let mut device = json!({
            "enabled": true,
            "dev": interface,
            "ifname": wanted.name.as_str(),
            "mac": store::Mac(mac).to_string(),
            "mac_filter": on_off(wanted.mac_filter),
            "ip_filter": on_off(wanted.ip_filter),
        });
        let mut say = |key: &str, value: Option<Value>| {
            if let Some(value) = value {
                device[key] = value;
            }
        };
        say("network", wanted.network.as_ref().map(|network| json!(network.as_str())));
        say("vlan", wanted.vlan.map(|vlan| json!(vlan)));
        say("ips", (!wanted.addresses.is_empty()).then(|| json!(ips(&wanted.addresses))));
        say("dhcp", wanted.dhcp.then(|| json!("yes")));
        say("gw", wanted.gateway.map(|ip| json!(ip)));
        say("gw6", wanted.gateway6.map(|ip| json!(ip)));
        all.insert(format!("net{number}"), device);
    }
    all
}

fn unreadable(key: &str, error: &dyn std::error::Error) -> Value {
    json!(format!("{key} cannot be used: {error}"))
}

fn ips(addresses: &[Address]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

/// What is there now of the containers of a host. The filter is asked once, for all of them.
#[derive(Default)]
pub struct Network(OnceCell<Rates>);

impl Network {
    /// Of one that runs; what the kernel does not say is null.
    pub fn now(&self, host: &Host, id: &ContainerId) -> Map<String, Value> {
        let rates = self.0.get_or_init(|| rates(host));
        let Some(all) = present(host, id, rates) else {
            return [("network".to_owned(), Value::Null)].into_iter().collect();
        };
        let mut number = 0;
        let named = all.into_iter().map(|Present { name, found }| {
            let key = if name == ROUTED {
                name
            } else {
                number += 1;
                format!("net{}", number - 1)
            };
            let Some(found) = found else { return (key, json!("not there")) };
            let mut ips = ips(&found.addresses);
            if found.has_more {
                ips.push_str(" …");
            }
            let mut device = json!({
                "dev": found.outside,
                "ifname": found.inside,
                "mac": found.mac.map(|mac| store::Mac(mac).to_string()),
                "ips": ips,
                "rate_in": found.rate.map(|Held { inward, .. }| kilobits(inward)),
                "rate_out": found.rate.map(|Held { outward, .. }| kilobits(outward)),
            });
            if key != ROUTED {
                device["network"] = json!(found.bridge);
            }
            (key, device)
        });
        named.collect()
    }
}

/// As `RATE` has them.
fn kilobits(rate: Option<u64>) -> Value {
    rate.map_or_else(|| json!("unlimited"), |kilobits| json!(kilobits))
}

/// An interface in one line, as `prlctl` prints devices.
pub fn in_words(device: &Map<String, Value>) -> String {
    let mut words = Vec::new();
    if let Some(is_enabled) = device.get("enabled") {
        words.push(if *is_enabled == true { "(+)" } else { "(-)" }.to_owned());
    }
    let rest = device.iter().filter(|(key, _)| *key != "enabled" && !ORDER.contains(&key.as_str()));
    let ordered = ORDER.iter().filter_map(|key| device.get_key_value(*key));
    for (key, value) in ordered.chain(rest) {
        words.push(match value.as_str() {
            Some(text) if PLAIN.contains(&key.as_str()) => {
                format!("{key}={}", tree::escaped(text.as_bytes()))
            }
            Some(text) => format!("{key}='{}'", tree::escaped(text.as_bytes())),
            None if value.is_null() => format!("{key}=unknown"),
            None => format!("{key}={value}"),
        });
    }
    words.join(" ")
}
