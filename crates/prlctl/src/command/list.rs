//! `prlctl list`

use engine::host::hint_of;
use engine::{Code, Failure, Host, Result};
use runtime::mounts_of_container::is_mounted_for_host;
use serde_json::{Map, Value, json};
use store::{Area, Conf, ContainerId, registry};

use super::{host, list_info::inform, template::short_choice};
use crate::arguments::List;
use crate::output;

/// A column: its name for `-o`, its header, its width.
struct Column {
    name: &'static str,
    header: &'static str,
    width: usize,
}

const COLUMNS: &[Column] = &[
    Column { name: "uuid", header: "UUID", width: 39 },
    Column { name: "envid", header: "ENVID", width: 10 },
    Column { name: "home", header: "HOME", width: 50 },
    Column { name: "type", header: "T", width: 2 },
    Column { name: "name", header: "NAME", width: 32 },
    Column { name: "status", header: "STATUS", width: 12 },
    Column { name: "dist", header: "DIST", width: 15 },
    Column { name: "owner", header: "OWNER", width: 10 },
    Column { name: "description", header: "DESCRIPTION", width: 32 },
    Column { name: "ip", header: "IP_ADDR", width: 15 },
    Column { name: "ip_configured", header: "IP_ADDR", width: 15 },
    Column { name: "hostname", header: "HOSTNAME", width: 32 },
    Column { name: "netif", header: "NETIF", width: 10 },
    Column { name: "mac", header: "MAC", width: 17 },
    Column { name: "features", header: "FEATURES", width: 20 },
    Column { name: "location", header: "LOCATION", width: 10 },
    Column { name: "iolimit", header: "IOLIMIT", width: 10 },
    Column { name: "netdev", header: "NETDEV", width: 10 },
    Column { name: "ha_enable", header: "HA_ENABLE", width: 9 },
    Column { name: "ha_prio", header: "HA_PRIO", width: 7 },
    Column { name: "numproc", header: "NPROC", width: 6 },
    Column { name: "ostemplate", header: "OSTEMPLATE", width: 20 },
];
/// Other names for columns, which `-L` does not show.
const ALIASES: &[(&str, &str)] = &[("id", "uuid"), ("ctid", "uuid"), ("veid", "uuid"), ("private", "home")];
const OF_TEMPLATES: [&str; 4] = ["uuid", "dist", "type", "name"];
const DEFAULT: [&str; 5] = ["uuid", "status", "ip_configured", "type", "name"];

/// What the kernel, and the mounts, say of a container: `running`, `mounted`, `stopped`.
pub fn state_of(host: &Host, id: &ContainerId) -> &'static str {
    if host.runtime.running(id).is_some() {
        "running"
    } else if is_mounted_for_host(&host.prefix, id) {
        "mounted"
    } else {
        "stopped"
    }
}

/// What is wrong with the template of the live root, and what to do.
pub fn damage_of_template(host: &Host, id: &ContainerId) -> Option<String> {
    let area = Area::open(&host.prefix, id).ok()?;
    let record = area.generation(area.live().ok()?).ok()?;
    let problem = engine::template::problem_of(&host.prefix, &record.base)?;
    let name = area.display_name();
    let what_to_do = if problem.contains("damaged") {
        format!(
            "`vzpkg update cache TEMPLATE` may make that whole; `prlctl reinstall {name}` gives it a new root, and `prlctl generation-flatten {name} --allow-damaged` makes the one that it has independent of what is left"
        )
    } else {
        format!(
            "it cannot be started; `prlctl reinstall {name}`, with `--ostemplate OTHER` where there is none of that name any more, gives it a new root, and keeps all that it has made itself at /old"
        )
    };
    Some(format!("the root of `{name}` is not whole: {problem}; {what_to_do}"))
}

/// Lists containers.
///
/// # Errors
/// [`Failure`] for an unknown column.
pub fn run(arguments: &List) -> Result<u8> {
    if arguments.list_fields {
        for column in COLUMNS {
            output::line(&format!("{:<15} {}", column.name, column.header));
        }
        return Ok(0);
    }
    let host = host(0, arguments.json)?;
    let mut ids = match &arguments.container {
        Some(words) => vec![host.find(words)?],
        None => registry::list(&host.prefix)?,
    };
    match arguments.vmtype.as_str() {
        "ct" | "all" => {}
        "vm" => ids.clear(),
        other => {
            return Err(Failure::new(Code::BadValue, super::create::no_kind(other))
                .because("there are `ct` and `all`, and `vm`, of which there are none")
                .unchanged()
                .hint("`--vmtype ct`, or leave it out"));
        }
    }
    let mut rows: Vec<Row> = ids.into_iter().map(|id| Row::load(&host, id)).collect();
    if !arguments.json && !arguments.info {
        for damage in rows.iter().filter_map(|row| row.damage.as_ref()) {
            host.warning(damage);
        }
    }
    if arguments.info {
        return Ok(inform(&host, &rows, arguments));
    }
    if arguments.template {
        // None of them runs.
        rows.retain(Row::is_template);
    } else if !arguments.all && arguments.container.is_none() {
        rows.retain(|row| row.state == "running");
    }
    let names: Vec<&str> = if arguments.output.is_empty() {
        if arguments.template { OF_TEMPLATES.to_vec() } else { DEFAULT.to_vec() }
    } else {
        arguments.output.iter().map(|name| name.trim()).collect()
    };
    let columns = names.iter().map(|name| column(name)).collect::<Result<Vec<_>>>()?;
    let (key, is_reversed) = match arguments.sort.as_deref() {
        None => ("name", false),
        Some(key) => key.strip_prefix('-').map_or((key, false), |key| (key, true)),
    };
    let key = column(key)?.name;
    rows.sort_by(|one, other| {
        one.value(key).cmp(&other.value(key)).then_with(|| one.uuid().cmp(&other.uuid()))
    });
    if is_reversed {
        rows.reverse();
    }
    if arguments.json {
        let objects: Vec<Value> = rows
            .iter()
            .map(|row| {
                let pairs = columns.iter().map(|column| {
                    let value =
                        if column.name == "uuid" { row.id.to_string() } else { row.value(column.name) };
                    (column.name.to_owned(), json!(value))
                });
                Value::Object(pairs.collect::<Map<_, _>>())
            })
            .collect();
        output::json(&Value::Array(objects));
        return Ok(0);
    }
    let headers: Vec<&str> = columns.iter().map(|column| column.header).collect();
    let widths: Vec<usize> = columns.iter().map(|column| column.width).collect();
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            let last = columns.len().saturating_sub(1);
            columns
                .iter()
                .enumerate()
                .map(|(index, column)| {
                    let value = row.value(column.name);
                    let value = if column.name == "ostemplate" { short_choice(&value) } else { value };
                    // Only the first address, unless nothing follows.
                    let value = if column.name.starts_with("ip") && index != last {
                        value.split_whitespace().next().unwrap_or_default().to_owned()
                    } else {
                        value
                    };
                    if value.is_empty() { "-".to_owned() } else { tree::escaped(value.as_bytes()) }
                })
                .collect()
        })
        .collect();
    output::table((!arguments.no_header).then_some(headers.as_slice()), &widths, &cells);
    Ok(0)
}

fn column(name: &str) -> Result<&'static Column> {
    let name = ALIASES.iter().find(|(alias, _)| *alias == name).map_or(name, |(_, name)| name);
    COLUMNS.iter().find(|column| column.name == name).ok_or_else(|| {
        Failure::new(Code::UnknownField, format!("Unknown field: {}", tree::escaped(name.as_bytes())))
            .because("there is no column of that name")
            .unchanged()
            .hint("`prlctl list -L` lists the columns there are")
    })
}

/// One container and what is known of it without a lock.
pub struct Row {
    pub id: ContainerId,
    pub conf: Conf,
    pub name: String,
    pub state: &'static str,
    pub damage: Option<String>,
    pub home: String,
    processes: Option<usize>,
}

impl Row {
    pub fn load(host: &Host, id: ContainerId) -> Row {
        let home = host.prefix.area_dir(&id).display().to_string();
        let loaded = Area::open(&host.prefix, &id).and_then(|area| {
            let conf = area.conf()?;
            area.live()?;
            // One that is damaged is refused by every command, so it is told here, too.
            area.journal()?;
            Ok((conf, area.display_name()))
        });
        let state = state_of(host, &id);
        match loaded {
            Ok((conf, name)) => {
                let damage = damage_of_template(host, &id);
                Row { id, conf, name, state, damage, home, processes: None }
            }
            Err(error) => {
                let name = Area::open_unchecked(&host.prefix, &id)
                    .map_or_else(|_| id.to_string(), |area| area.display_name());
                let damage = format!("{}: {}", runtime::monitor::describe(&error), hint_of(&error, &name));
                Row {
                    id,
                    conf: Conf::parse(b""),
                    name,
                    state: if state == "running" { state } else { "invalid" },
                    damage: Some(damage),
                    home,
                    processes: None,
                }
            }
        }
        .with_processes(host)
    }

    fn with_processes(mut self, host: &Host) -> Row {
        if self.state == "running" {
            self.processes =
                runtime::cgroup::Cgroups::of(&host.prefix, &self.id).ok().map(|groups| groups.count());
        }
        self
    }

    fn uuid(&self) -> String {
        self.id.to_string()
    }

    /// Somebody has said that it is a model for others.
    pub fn is_template(&self) -> bool {
        self.key("TEMPLATE") == "yes"
    }

    /// What its `ve.conf` says, or nothing.
    pub fn key(&self, key: &str) -> String {
        self.conf.get(key).unwrap_or_default()
    }

    /// What stands in a column.
    pub fn value(&self, column: &str) -> String {
        match column {
            "uuid" => self.id.braced(),
            "envid" => match self.number() {
                Some(number) => number.to_string(),
                None => self.id.to_string().chars().take(8).collect(),
            },
            "home" => self.home.clone(),
            "type" => "CT".to_owned(),
            "name" => self.name.clone(),
            "status" => self.state.to_owned(),
            "dist" => self.key("DISTRIBUTION"),
            "owner" => "root".to_owned(),
            "description" => self.key("DESCRIPTION"),
            "ip" | "ip_configured" => self.key("IP_ADDRESS"),
            "hostname" => self.key("HOSTNAME"),
            "netif" => self.key("NETIF"),
            "features" => self.key("FEATURES"),
            "iolimit" => self.key("IOLIMIT"),
            "netdev" => self.key("NETDEV"),
            "ha_enable" => self.key("HA_ENABLE"),
            "ha_prio" => self.key("HA_PRIO"),
            "numproc" => self.processes.map(|count| count.to_string()).unwrap_or_default(),
            "ostemplate" => self.key("OSTEMPLATE"),
            _ => String::new(),
        }
    }
}
