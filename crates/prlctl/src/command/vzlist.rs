//! `vzlist`: the list of legacy OpenVZ, with its columns. What they say is asked of the same place as that of `prlctl list`.

use std::cmp::Ordering;

use engine::runtime::{Life, Run};
use engine::{Code, Failure, Host, Result};
use serde_json::{Map, Value, json};
use store::{ContainerId, NumericId, registry};

use super::columns::{Named, find};
use super::host;
use super::list::{Row, Seen};
use crate::arguments::Vzlist;
use crate::output;

/// A column: its name for `-o`, its header, how wide it is, and whether it holds numbers, which stand on the right.
struct Column {
    name: &'static str,
    header: &'static str,
    width: usize,
    is_number: bool,
}

impl Named for Column {
    fn name(&self) -> &'static str {
        self.name
    }
}

const fn text(name: &'static str, header: &'static str, width: usize) -> Column {
    Column { name, header, width, is_number: false }
}

const fn number(name: &'static str, header: &'static str, width: usize) -> Column {
    Column { name, header, width, is_number: true }
}

const COLUMNS: &[Column] = &[
    number("ctid", "CTID", 10),
    text("private", "PRIVATE", 55),
    text("root", "ROOT", 55),
    text("uuid", "UUID", 36),
    text("hostname", "HOSTNAME", 32),
    text("name", "NAME", 32),
    text("smart_name", "SMARTNAME", 32),
    text("description", "DESCRIPTION", 32),
    text("ostemplate", "OSTEMPLATE", 24),
    text("distribution", "DISTRIBUTION", 15),
    text("ip", "IP_ADDR", 15),
    text("configured_ip", "IP_ADDR", 15),
    text("nameserver", "NAMESERVER", 15),
    text("searchdomain", "SEARCHDOMAIN", 15),
    text("status", "STATUS", 9),
    number("numproc", "NPROC", 10),
    number("physpages", "PHYSPAGES", 21),
    number("swappages", "SWAPPAGES", 21),
    number("uptime", "UPTIME", 12),
    number("cpulimit", "CPULIM", 7),
    number("cpuunits", "CPUUNI", 7),
    number("cpus", "CPUS", 5),
    text("cpumask", "CPUMASK", 12),
    number("ioprio", "IOP", 3),
    number("iolimit", "IOLIMIT", 12),
    number("iopslimit", "IOPSLIMIT", 10),
    text("onboot", "ONBOOT", 6),
    number("bootorder", "BOOTORDER", 10),
    text("disabled", "DISABL", 6),
    text("features", "FEATURES", 20),
    text("type", "TYPE", 4),
];
/// Other names, which `-L` does not show.
const ALIASES: &[(&str, &str)] =
    &[("veid", "ctid"), ("tm", "ostemplate"), ("nproc", "numproc"), ("host", "hostname")];
const DEFAULT: [&str; 5] = ["ctid", "numproc", "status", "configured_ip", "hostname"];
const WITH_NAMES: [&str; 5] = ["ctid", "numproc", "status", "configured_ip", "name"];

/// Lists containers.
///
/// # Errors
/// [`Failure`] for a column that there is not.
pub fn run(arguments: &Vzlist) -> Result<u8> {
    if arguments.list {
        for column in COLUMNS {
            output::line(&format!("{:<15} {}", column.name, column.header));
        }
        return Ok(0);
    }
    let names: Vec<&str> = match () {
        () if arguments.only_ctid => vec!["ctid"],
        () if arguments.name => WITH_NAMES.to_vec(),
        () if arguments.output.is_empty() => DEFAULT.to_vec(),
        () => arguments.output.iter().map(|name| name.trim()).collect(),
    };
    let columns = names.iter().map(|name| column(name)).collect::<Result<Vec<_>>>()?;
    let (key, is_reversed) = match arguments.sort.as_deref() {
        None => ("ctid", false),
        Some(key) => key.strip_prefix('-').map_or((key, false), |key| (key, true)),
    };
    let key = column(key)?;
    let patterns = [
        ("hostname", &arguments.hostname),
        ("name", &arguments.name_filter),
        ("description", &arguments.description),
    ];
    let patterns = patterns
        .into_iter()
        .filter_map(|(column, pattern)| Some((column, pattern.as_ref()?)))
        .map(|(column, pattern)| Ok((column, read_pattern(pattern)?)))
        .collect::<Result<Vec<_>>>()?;

    let host = host(0, false)?;
    let mut rows = rows(&host, arguments)?;
    for damage in rows.iter().filter_map(|row| row.damage.as_ref()) {
        host.warning(damage);
    }
    if arguments.stopped {
        rows.retain(|row| row.state == "stopped");
    } else if !arguments.all && arguments.containers.is_empty() {
        rows.retain(|row| ["running", "mounted"].contains(&row.state));
    }
    rows.retain(|row| patterns.iter().all(|(column, pattern)| pattern.matches(&value(&host, row, column))));
    rows.sort_by(|one, other| {
        let (one, other) = (value(&host, one, key.name), value(&host, other, key.name));
        if key.is_number { by_number(&one, &other) } else { one.cmp(&other) }
    });
    if is_reversed {
        rows.reverse();
    }
    if arguments.json {
        let object = |row: &Row| {
            let pair =
                |column: &&Column| (column.name.to_owned(), as_json(column, value(&host, row, column.name)));
            Value::Object(columns.iter().map(pair).collect::<Map<_, _>>())
        };
        output::json(&Value::Array(rows.iter().map(object).collect()));
        return Ok(0);
    }
    if !arguments.no_header && !arguments.only_ctid {
        print(&columns, columns.iter().map(|column| column.header.to_owned()).collect());
    }
    for row in &rows {
        let shown = |(index, column): (usize, &&Column)| {
            let value = value(&host, row, column.name);
            // Only the first address, unless nothing follows.
            let is_last = index + 1 == columns.len();
            let value = match value.split_once(' ') {
                Some((first, _)) if column.header == "IP_ADDR" && !is_last => first.to_owned(),
                _ => value,
            };
            if value.is_empty() { "-".to_owned() } else { tree::escaped(value.as_bytes()) }
        };
        print(&columns, columns.iter().enumerate().map(shown).collect());
    }
    Ok(0)
}

fn rows(host: &Host, arguments: &Vzlist) -> Result<Vec<Row>> {
    if arguments.containers.is_empty() {
        return Ok(Row::load_all(host, registry::list(&host.prefix)?));
    }
    let load = |id| Row::load(host, id, &mut Seen::default());
    let named = |words: &String| match registry::find_whole(&host.prefix, words)?.and_then(load) {
        Some(row) => Ok(row),
        // As there: whoever asks for one that is not there gets 1.
        None => Err(Failure::new(Code::UnknownField, "Container(s) not found")
            .because(format!("`{}` is none", tree::escaped(words.as_bytes())))
            .unchanged()
            .hint("`vzlist -a` shows all there are")),
    };
    arguments.containers.iter().map(named).collect()
}

fn column(name: &str) -> Result<&'static Column> {
    find(COLUMNS, ALIASES, name, "vzlist")
}

fn read_pattern(text: &str) -> Result<glob::Pattern> {
    glob::Pattern::new(text).map_err(|error| {
        Failure::new(Code::BadValue, format!("`{}` is no pattern", tree::escaped(text.as_bytes())))
            .because(error.msg)
            .unchanged()
            .hint("`*` is any text, `?` one character, `[…]` one of those")
    })
}

fn running(host: &Host, id: &ContainerId) -> Option<Run> {
    match host.runtime.life(id) {
        Life::Running(run) => Some(run),
        Life::Between | Life::Unknown(_) | Life::Stopped => None,
    }
}

/// What stands in a column; empty where there is nothing.
fn value(host: &Host, row: &Row, column: &str) -> String {
    match column {
        "ctid" => row.number().map_or_else(|| row.id.to_string(), |number| number.to_string()),
        "uuid" => row.id.to_string(),
        "private" => row.home.clone(),
        "root" => host.prefix.root_dir(&row.id).display().to_string(),
        "smart_name" | "name" => row.name.clone(),
        "uptime" => running(host, &row.id).map_or_else(String::new, |run| {
            let seconds = jiff::Timestamp::now().as_second() - run.started.as_second();
            seconds.max(0).to_string()
        }),
        "nameserver" | "searchdomain" | "physpages" | "swappages" | "cpulimit" | "cpuunits" | "cpus"
        | "cpumask" | "ioprio" | "iopslimit" | "onboot" | "bootorder" | "disabled" => {
            row.key(&column.to_uppercase())
        }
        "distribution" => row.key("DISTRIBUTION"),
        "type" => "ct".to_owned(),
        "configured_ip" => row.value("ip"),
        other => row.value(other),
    }
}

fn as_json(column: &Column, value: String) -> Value {
    match value.parse::<u64>() {
        _ if value.is_empty() => Value::Null,
        Ok(number) if column.is_number => json!(number),
        Ok(_) | Err(_) => json!(value),
    }
}

/// Numbers first, by what they are; then all else, by how it is written.
fn by_number(one: &str, other: &str) -> Ordering {
    match (one.parse::<u64>(), other.parse::<u64>()) {
        (Ok(one), Ok(other)) => one.cmp(&other),
        (Ok(_), Err(_)) => Ordering::Less,
        (Err(_), Ok(_)) => Ordering::Greater,
        (Err(_), Err(_)) => one.cmp(other),
    }
}

fn print(columns: &[&Column], cells: Vec<String>) {
    let mut row = String::new();
    for (index, (column, cell)) in columns.iter().zip(&cells).enumerate() {
        let width = column.width;
        if index > 0 {
            row.push(' ');
        }
        match (column.is_number, index + 1 == columns.len()) {
            (true, _) => row.push_str(&format!("{cell:>width$}")),
            (false, true) => row.push_str(cell),
            (false, false) => row.push_str(&format!("{cell:<width$}")),
        }
    }
    output::line(&row);
}

impl Row {
    /// Its number, if it has one.
    pub fn number(&self) -> Option<NumericId> {
        self.key(store::NUMERIC_ID).parse().ok()
    }
}
