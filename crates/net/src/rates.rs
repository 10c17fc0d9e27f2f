//! How much of each interface passes in a second, as the packet filter has it: what `limit` has told it, read back. Asked once for all of a host.

use std::collections::BTreeMap;

use serde_json::Value;
use store::Prefix;

use crate::{Network, nft};

/// How much of one interface passes, in kilobits a second; `None`: all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Held {
    pub inward: Option<u64>,
    pub outward: Option<u64>,
}

impl Held {
    fn of(&mut self, way: &str) -> &mut Option<u64> {
        if way.ends_with("_in") { &mut self.inward } else { &mut self.outward }
    }
}

/// What the filter has of a host's containers, by interfaces of the host; `None`: it does not say, or what it says is not understood.
#[derive(Debug, Default)]
pub struct Rates(Option<BTreeMap<String, Held>>);

impl Rates {
    /// Asks the filter.
    pub fn ask(prefix: &Prefix) -> Rates {
        Rates(ask(&Network::table_of(prefix)))
    }

    /// Of an interface by its name on the host.
    pub fn of(&self, interface: &str) -> Option<Held> {
        self.0.as_ref().map(|all| all.get(interface).copied().unwrap_or_default())
    }
}

fn ask(table: &str) -> Option<BTreeMap<String, Held>> {
    let tables = listed("list tables")?;
    let mut all = BTreeMap::new();
    // Where there is no table nothing is limited.
    for (family, more) in [("inet", &[][..]), ("bridge", &["map rates_out", "map rates_in", "limits"])] {
        let is_it = |one: &Value| one["table"]["family"] == family && one["table"]["name"] == table;
        if !tables.iter().any(is_it) {
            continue;
        }
        let mut found = Vec::new();
        // One at a time: nft 1.0.6 does not find a set where it is asked for a map in the same breath.
        for list in ["set rate_out", "set rate_in"].iter().chain(more) {
            found.extend(match list.split_once(' ') {
                Some((kind, name)) => listed(&format!("list {kind} {family} {table} {name}"))?,
                None => listed(&format!("list {list} table {family} {table}"))?,
            });
        }
        take(&found, &mut all)?;
    }
    Some(all)
}

/// What nft prints of these.
fn listed(what: &str) -> Option<Vec<Value>> {
    let said = nft::ask(what).ok()?;
    let mut all = Vec::new();
    for document in serde_json::Deserializer::from_slice(&said).into_iter::<Value>() {
        all.extend(document.ok()?["nftables"].as_array()?.iter().cloned());
    }
    Some(all)
}

/// Sets whose elements have a limit each, and maps whose elements have the name of one.
fn take(listed: &[Value], all: &mut BTreeMap<String, Held>) -> Option<()> {
    let mut objects: BTreeMap<&str, u64> = BTreeMap::new();
    for limit in listed.iter().filter_map(|one| one.get("limit")) {
        objects.insert(limit["name"].as_str()?, kilobits(limit)?);
    }
    for one in listed {
        let Some(set) = one.get("set").or_else(|| one.get("map")) else { continue };
        let way = set["name"].as_str()?;
        for element in set.get("elem").and_then(Value::as_array).into_iter().flatten() {
            let (interface, rate) = if let Some([interface, name]) = element.as_array().map(Vec::as_slice) {
                (interface, *objects.get(name.as_str()?)?)
            } else {
                let element = &element["elem"];
                // Of later versions in a list of statements.
                let limit = element.get("limit").or_else(|| element["stmt"].get(0)?.get("limit"))?;
                (&element["val"], kilobits(limit)?)
            };
            *all.entry(interface.as_str()?.to_owned()).or_default().of(way) = Some(rate);
        }
    }
    Some(())
}

/// nft tells bytes in the largest unit of which they are a whole number.
fn kilobits(limit: &Value) -> Option<u64> {
    let unit = match limit["rate_unit"].as_str()? {
        "bytes" => 1,
        "kbytes" => 1 << 10,
        "mbytes" => 1 << 20,
        _ => return None,
    };
    (limit["per"] == "second").then_some(())?;
    Some(limit["rate"].as_u64()?.checked_mul(unit)? / 125)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As nft 1.0.6 prints it.
    const SAID: &str = r#"[{"metainfo":{"version":"1.0.6"}},
        {"set":{"family":"bridge","name":"rate_out","table":"t","type":"ifname","elem":[{"elem":{"val":"vz0","limit":{"rate":125,"burst":64,"per":"second","inv":true,"rate_unit":"kbytes","burst_unit":"kbytes"}}}],"stmt":[{"limit":{"rate":1000000000,"per":"second","rate_unit":"bytes"}}]}},
        {"set":{"family":"bridge","name":"rate_in","table":"t","type":"ifname","stmt":[]}},
        {"map":{"family":"bridge","name":"rates_in","table":"t","type":"ifname","map":"limit","elem":[["vz1","vz9_in"],["vz2","vz9_in"]]}},
        {"limit":{"family":"bridge","name":"vz9_in","table":"t","rate":250125,"per":"second","rate_unit":"bytes"}}]"#;

    fn of(text: &str) -> Option<BTreeMap<String, Held>> {
        let listed: Vec<Value> = serde_json::from_str(text).unwrap();
        let mut all = BTreeMap::new();
        take(&listed, &mut all).map(|()| all)
    }

    #[test]
    fn what_passes_is_what_the_filter_says() {
        let all = of(SAID).unwrap();
        assert_eq!(all["vz0"], Held { inward: None, outward: Some(1024) });
        assert_eq!(all["vz1"], Held { inward: Some(2001), outward: None });
        assert_eq!(all["vz1"], all["vz2"]);
        assert_eq!(Rates(Some(all)).of("vz7"), Some(Held::default()));
    }

    #[test]
    fn what_is_not_understood_is_not_guessed() {
        for (what, instead) in [
            ("vz9_in\",\"table", "vz8_in\",\"table"),
            ("kbytes\",\"burst", "miles\",\"burst"),
            ("second", "hour"),
        ] {
            assert!(SAID.contains(what));
            assert_eq!(of(&SAID.replace(what, instead)), None, "{instead}");
        }
        assert_eq!(Rates(None).of("vz0"), None);
    }
}
