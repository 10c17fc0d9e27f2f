//! `prlctl list`

use std::cell::OnceCell;

use engine::host::hint_of;
use engine::runtime::Life;
use engine::{Code, Failure, Host, Result};
use runtime::cgroup::Cgroups;
use runtime::mounts_of_container::is_mounted_for_host;
use serde_json::{Map, Value, json};
use store::{Area, AreaError, Base, Conf, ContainerId, GenerationNumber, Prefix, registry};

use super::columns::{Named, find};
use super::{host, list_info::inform, template::short_choice};
use crate::arguments::List;
use crate::output;

/// A column: its name for `-o`, its header, its width.
struct Column {
    name: &'static str,
    header: &'static str,
    width: usize,
}

impl Named for Column {
    fn name(&self) -> &'static str {
        self.name
    }
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
    in_words(host, id, &host.runtime.life(id))
}

fn in_words(host: &Host, id: &ContainerId, life: &Life) -> &'static str {
    match life {
        // Whoever waits for its end waits until nothing of it is left.
        Life::Running(_) | Life::Between | Life::Unknown(_) => "running",
        Life::Stopped if is_mounted_for_host(&host.prefix, id) => "mounted",
        Life::Stopped => "stopped",
    }
}

/// What was found of the templates on which containers lie: many lie on the same.
#[derive(Default)]
pub struct Seen(Vec<(Base, Option<String>)>);

impl Seen {
    fn problem_of(&mut self, host: &Host, base: &Base) -> Option<String> {
        if let Some((_, problem)) = self.0.iter().find(|(seen, _)| seen == base) {
            return problem.clone();
        }
        let problem = engine::template::problem_of(&host.prefix, base);
        self.0.push((base.clone(), problem.clone()));
        problem
    }
}

/// What is wrong with the template of the live root, and what to do.
pub fn damage_of_template(host: &Host, area: &Area, seen: &mut Seen) -> Option<String> {
    damage_of_template_of(host, area, area.live().ok()?, &area.display_name(), seen)
}

/// The same of one whose live root and name are known.
fn damage_of_template_of(
    host: &Host,
    area: &Area,
    live: GenerationNumber,
    name: &str,
    seen: &mut Seen,
) -> Option<String> {
    let record = area.generation(live).ok()?;
    let problem = seen.problem_of(host, &record.base)?;
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
        None => registry::areas(&host.prefix)?,
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
    let mut rows: Vec<Row> = Row::load_all(&host, ids);
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
    find(COLUMNS, ALIASES, name, "prlctl list")
}

/// One container and what is known of it without a lock.
pub struct Row {
    pub id: ContainerId,
    pub conf: Conf,
    pub name: String,
    pub state: &'static str,
    pub damage: Option<String>,
    pub home: String,
    /// Of one that runs, counted when somebody wants to know.
    processes: OnceCell<Option<usize>>,
    prefix: Prefix,
}

impl Row {
    /// All of these.
    pub fn load_all(host: &Host, ids: Vec<ContainerId>) -> Vec<Row> {
        let mut seen = Seen::default();
        ids.into_iter().filter_map(|id| Row::load(host, id, &mut seen)).collect()
    }

    /// `None`: it is no container any more.
    pub fn load(host: &Host, id: ContainerId, seen: &mut Seen) -> Option<Row> {
        let home = host.prefix.area_dir(&id).display().to_string();
        let loaded = Area::open(&host.prefix, &id).and_then(|area| {
            let conf = area.conf()?;
            let live = area.live()?;
            // One that is damaged is refused by every command, so it is told here, too.
            area.journal()?;
            let name = area.display_name_in(&conf);
            Ok((area, conf, name, live))
        });
        let life = host.runtime.life(&id);
        let state = in_words(host, &id, &life);
        let (processes, prefix) = (OnceCell::new(), host.prefix.clone());
        match loaded {
            Ok((area, conf, name, live)) => {
                let damage = damage_of_template_of(host, &area, live, &name, seen);
                let damage = match (damage, life) {
                    (None, Life::Unknown(because)) => Some(format!(
                        "`{name}` runs, and nobody can tell how: the record of it cannot be read: {because}; use the version of Reroot that has started it, or `prlctl stop {name} --kill`"
                    )),
                    (damage, _) => damage,
                };
                Some(Row { id, conf, name, state, damage, home, processes, prefix })
            }
            Err(AreaError::Unregistered { .. }) => None,
            Err(error) => {
                let name = Area::open_unchecked(&host.prefix, &id)
                    .map_or_else(|_| id.to_string(), |area| area.display_name());
                let damage = format!("{}: {}", runtime::monitor::describe(&error), hint_of(&error, &name));
                Some(Row {
                    id,
                    conf: Conf::parse(b""),
                    name,
                    state: if state == "running" { state } else { "invalid" },
                    damage: Some(damage),
                    home,
                    processes,
                    prefix,
                })
            }
        }
    }

    fn processes(&self) -> Option<usize> {
        *self.processes.get_or_init(|| {
            let groups = Cgroups::of(&self.prefix, &self.id).ok().filter(|_| self.state == "running");
            groups.map(|groups| groups.count())
        })
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

    /// Those that are routed to it, then those that it has on bridges.
    fn addresses(&self) -> String {
        let interfaces = store::Interface::all(&self.conf).unwrap_or_default();
        let bridged = interfaces.iter().flat_map(|one| &one.addresses).map(|address| address.ip.to_string());
        let routed = self.key(store::ADDRESSES);
        routed.split_whitespace().map(str::to_owned).chain(bridged).collect::<Vec<_>>().join(" ")
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
            "ip" | "ip_configured" => self.addresses(),
            "hostname" => self.key("HOSTNAME"),
            "netif" => self.key("NETIF"),
            "features" => self.key("FEATURES"),
            "iolimit" => self.key("IOLIMIT"),
            "netdev" => self.key("NETDEV"),
            "ha_enable" => self.key("HA_ENABLE"),
            "ha_prio" => self.key("HA_PRIO"),
            "numproc" => self.processes().map(|count| count.to_string()).unwrap_or_default(),
            "ostemplate" => self.key("OSTEMPLATE"),
            _ => String::new(),
        }
    }
}
