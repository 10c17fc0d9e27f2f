//! `prlctl list -i`: all that is known of a container, what is configured and, where it runs, what holds.

use engine::Host;
use engine::runtime::Life;
use runtime::cgroup::Cgroups;
use runtime::limits::{Disk, Now, now};
use serde_json::{Value, json};
use store::{Area, BindMount, Disks, Limits, USUAL_IO_PRIORITY, Volume};

use super::list::Row;
use super::list_network::{self, Network};
use crate::arguments::List;
use crate::output;

/// Prints all that is known of some containers.
pub fn inform(host: &Host, rows: &[Row], arguments: &List) -> u8 {
    let network = Network::default();
    let all: Vec<Vec<(String, Value)>> = rows.iter().map(|row| facts(host, row, &network)).collect();
    if arguments.json {
        let objects = all.into_iter().map(|facts| Value::Object(facts.into_iter().collect())).collect();
        output::json(&Value::Array(objects));
        return 0;
    }
    for facts in all {
        output::line("INFO");
        for (key, value) in facts {
            if let Value::Object(parts) = value {
                output::line(&format!("{key}:"));
                for (name, part) in parts {
                    output::line(&format!("  {name} {}", plain(&part)));
                }
            } else {
                output::line(&format!("{key}: {}", plain(&value)));
            }
        }
        output::line("");
    }
    0
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => tree::escaped(text.as_bytes()),
        Value::Object(device) => list_network::in_words(device),
        Value::Null => "unknown".to_owned(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) => value.to_string(),
    }
}

fn facts(host: &Host, row: &Row, network: &Network) -> Vec<(String, Value)> {
    let run = match host.runtime.life(&row.id) {
        Life::Running(run) => Some(run),
        Life::Between | Life::Unknown(_) | Life::Stopped => None,
    };
    let uptime =
        run.as_ref().map_or(0, |run| (jiff::Timestamp::now().as_second() - run.started.as_second()).max(0));
    let of_host = host.configuration().unwrap_or_default();
    let limits = host.limits(&row.conf, &of_host).unwrap_or_default();
    // With what it has of the host's.
    let conf = engine::defaults::beside(&row.conf, &of_host);
    let key = |key: &str| conf.get(key).unwrap_or_default();
    let on_off = |is_on: bool| if is_on { "on" } else { "off" };
    let mut facts: Vec<(String, Value)> = vec![
        ("ID".into(), json!(row.id.braced())),
        ("EnvID".into(), json!(row.value("envid"))),
        ("Name".into(), json!(row.name)),
        ("Description".into(), json!(row.key("DESCRIPTION"))),
        ("Type".into(), json!("CT")),
        ("State".into(), json!(row.state)),
        ("OS".into(), json!(row.key("DISTRIBUTION"))),
        ("Template".into(), json!(if row.is_template() { "yes" } else { "no" })),
        ("Uptime".into(), json!(format!("{:02}:{:02}:{:02}", uptime / 3600, uptime / 60 % 60, uptime % 60))),
        ("Home".into(), json!(row.home)),
        ("Owner".into(), json!("root")),
        (
            "Autostart".into(),
            json!(if engine::boot::is_as_before(&conf) {
                "auto"
            } else {
                on_off(engine::boot::is_wanted(&conf))
            }),
        ),
        // The only thing that there is.
        ("Autostop".into(), json!("shutdown")),
        ("Disabled".into(), json!(if row.key("DISABLED") == "yes" { "yes" } else { "no" })),
        ("Boot order".into(), json!(row.key("BOOTORDER"))),
        (
            "Restart".into(),
            json!(if key(engine::settings::RESTART) == "on-crash" { "on-crash" } else { "no" }),
        ),
        ("OSTemplate".into(), json!(row.key("OSTEMPLATE"))),
    ];
    if let Ok(live) = Area::open(&host.prefix, &row.id).and_then(|area| area.live()) {
        facts.push(("Generation".into(), json!(live.get())));
    }
    let mut hardware = json!({
        "cpu": processors(&limits),
        "memory": or_unlimited(limits.memory.map(mebibytes)),
        "swap": or_unlimited(limits.swap.map(mebibytes)),
        "memory_guarantee": limits.memory_guarantee.map_or_else(|| "auto".to_owned(), mebibytes),
        "processes": limits.processes.map_or_else(|| json!("unlimited"), |count| json!(count)),
        "disk": disk(&limits),
    });
    if let Value::Object(hardware) = &mut hardware {
        hardware.extend(list_network::configured(host, &row.id, &row.conf));
    }
    facts.push(("Hardware".into(), hardware));
    facts.push(("Disk".into(), volume(host, row)));
    if let Ok(area) = Area::open_unchecked(&host.prefix, &row.id) {
        let beside = beside(host, &area, row);
        if beside.as_object().is_some_and(|found| !found.is_empty()) {
            facts.push(("Mounts".into(), beside));
        }
    }
    facts.push(("Features".into(), json!(key("FEATURES"))));
    facts.push(("Devices".into(), json!(row.key("DEVNODES"))));
    facts.push(("Hostname".into(), json!(row.key("HOSTNAME"))));
    facts.push(("DNS Servers".into(), json!(key("NAMESERVER"))));
    facts.push(("Search Domains".into(), json!(key("SEARCHDOMAIN"))));
    facts.push(("Forward".into(), json!(row.key(store::FORWARDS))));
    facts.push(("Rate".into(), json!(key(store::RATE))));
    if !store::Rate::is_bound(&conf) {
        facts.push(("Rate bound".into(), json!("no")));
    }
    if run.is_some()
        && let Ok(groups) = Cgroups::of(&host.prefix, &row.id)
    {
        let mut holding = holding(&now(&groups, Disk::of(&host.prefix)));
        if let Value::Object(holding) = &mut holding {
            holding.extend(network.now(host, &row.id));
        }
        facts.push(("Now".into(), holding));
    }
    if let Some(run) = run {
        facts.push(("Init".into(), json!(run.init)));
        if !run.is_monitored() {
            facts.push((
                "Monitor".into(),
                json!("killed: the container goes on, and its end will mean stopped"),
            ));
        }
    }
    if let Some(damage) = &row.damage {
        facts.push(("Damage".into(), json!(damage)));
    }
    facts
}

/// Where its files lie, and how much of its own disk is used.
fn volume(host: &Host, row: &Row) -> Value {
    let Ok(area) = Area::open_unchecked(&host.prefix, &row.id) else { return Value::Null };
    let volume = area.volume().as_str();
    if let Some(counted) = area.counted() {
        let mut disk = json!({
            "volume": volume,
            "size": counted.limits.bytes.map(mebibytes),
            "used": mebibytes(counted.bytes),
        });
        if area.volume() != Volume::Btrfs {
            disk["inodes"] = json!(counted.limits.inodes);
            disk["inodes_used"] = json!(counted.inodes);
        }
        return disk;
    }
    let Some((taken, size)) = area.image_size() else { return json!({ "volume": volume }) };
    let mut disk = json!({ "volume": volume, "size": mebibytes(size), "taken": mebibytes(taken) });
    // Mounted or not: nobody is made to wait for that here.
    if let Some(found) = area.layers_top().ok().and_then(|top| rustix::fs::fstatvfs(top).ok()) {
        disk["used"] = json!(mebibytes(found.f_blocks.saturating_sub(found.f_bfree) * found.f_frsize));
        disk["inodes_used"] = json!(found.f_files.saturating_sub(found.f_ffree));
    }
    disk
}

/// Its disks beside that of the root, and what of the host it sees.
fn beside(host: &Host, area: &Area, row: &Row) -> Value {
    let mut found = serde_json::Map::new();
    for disk in Disks::of(&row.conf).unwrap_or_default().own {
        let mut one = format!("{} at {}", disk.number.image(), disk.at);
        match area.disk_size(disk.number) {
            Some((size, taken)) => {
                one.push_str(&format!(", size {}, taken {}", mebibytes(size), mebibytes(taken)))
            }
            None => one.push_str(", which is not there"),
        }
        let point = store::disks::mount_point(&host.prefix, &row.id, disk.number);
        if runtime::mounts::is_mounted(&point)
            && let Ok(now) = rustix::fs::statvfs(&point)
        {
            one.push_str(&format!(
                ", used {}",
                mebibytes(now.f_blocks.saturating_sub(now.f_bfree) * now.f_frsize)
            ));
        }
        if !disk.is_enabled {
            one.push_str(", disabled");
        }
        for word in disk.flags.words() {
            one.push_str(&format!(", {word}"));
        }
        found.insert(disk.number.to_string(), json!(one));
    }
    for number in engine::disks::detached(area, &row.conf) {
        found.insert(number.to_string(), json!(format!("{}, detached", number.image())));
    }
    for bind in BindMount::all(&row.conf).unwrap_or_default() {
        let words: String = bind.flags.words().iter().map(|word| format!(", {word}")).collect();
        found.insert(bind.source, json!(format!("at {}{words}", bind.at)));
    }
    Value::Object(found)
}

/// What the kernel says, which is what holds.
fn holding(now: &Now) -> Value {
    let used = |amount: Option<String>| amount.unwrap_or_else(|| "unknown".to_owned());
    let limits = &now.limits;
    json!({
        "cpu": processors(limits),
        "memory": or_unlimited(limits.memory.map(mebibytes)),
        "memory_used": used(now.memory_used.map(mebibytes)),
        "memory_guarantee": now.memory_guarantee.map(mebibytes),
        "swap": or_unlimited(limits.swap.map(mebibytes)),
        "processes": limits.processes.map_or_else(|| json!("unlimited"), |count| json!(count)),
        "processes_used": now.processes,
        "disk": disk(limits),
        "out_of_memory_kills": now.out_of_memory_kills,
    })
}

fn or_unlimited(amount: Option<String>) -> String {
    amount.unwrap_or_else(|| "unlimited".to_owned())
}

fn mebibytes(bytes: u64) -> String {
    format!("{}Mb", bytes / 1024 / 1024)
}

fn processors(limits: &Limits) -> String {
    let cores = limits.cpus.map(|hundredths| format!("{}.{:02}", hundredths / 100, hundredths % 100));
    let mask = limits.cpu_mask.as_ref().map(|mask| format!(" mask={mask}"));
    let nodes = limits.node_mask.as_ref().map(|mask| format!(" nodemask={mask}"));
    format!(
        "cpus={} cpuunits={}{}{}",
        or_unlimited(cores),
        limits.cpu_units.unwrap_or(1000),
        mask.unwrap_or_default(),
        nodes.unwrap_or_default()
    )
}

fn disk(limits: &Limits) -> String {
    format!(
        "ioprio={} iolimit={} iopslimit={}",
        limits.io_priority.unwrap_or(USUAL_IO_PRIORITY),
        or_unlimited(limits.io_bytes.map(|bytes| bytes.to_string())),
        or_unlimited(limits.io_operations.map(|count| count.to_string()))
    )
}
