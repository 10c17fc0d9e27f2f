//! `prlctl statistics`: what containers have used since they were started.

use std::time::{Duration, Instant};

use engine::addresses::traffic;
use engine::runtime::Life;
use engine::{Code, Failure, Host, Result};
use runtime::cgroup::Cgroups;
use runtime::limits::{Disk, now};
use rustix::event::{Timespec, poll};
use serde_json::{Value, json};
use store::{Area, ContainerId, registry};

use super::host;
use crate::arguments::Statistics;
use crate::output;

/// What is told of each, as `--filter` names it.
const COUNTS: [(&str, &str); 11] = [
    ("cpu.time", "seconds on a processor"),
    ("mem.used", "bytes of memory in use"),
    ("mem.kills", "processes killed for want of memory"),
    ("processes", "processes and threads"),
    ("disk.read", "bytes read"),
    ("disk.written", "bytes written"),
    ("volume.used", "bytes in use of its own disk"),
    ("net.bytes_in", "bytes received"),
    ("net.bytes_out", "bytes sent"),
    ("net.packets_in", "packets received"),
    ("net.packets_out", "packets sent"),
];

/// Tells what containers have used.
///
/// # Errors
/// [`Failure`].
pub fn run(arguments: &Statistics) -> Result<u8> {
    let wanted: Vec<&str> = arguments.filter.iter().map(String::as_str).collect();
    if let Some(unknown) =
        wanted.iter().find(|name| !COUNTS.iter().any(|(known, _)| known.starts_with(*name)))
    {
        return Err(Failure::new(
            Code::UnknownField,
            format!("unknown count `{}`", tree::escaped(unknown.as_bytes())),
        )
        .because(format!("there are: {}", COUNTS.map(|(name, _)| name).join(", ")))
        .unchanged()
        .hint("`--filter net` shows those that begin so"));
    }
    let host = host(0, arguments.json)?;
    let every = arguments.every.map(Duration::from_secs);
    let mut next = Instant::now();
    loop {
        let ids = match &arguments.container {
            Some(words) => vec![host.find(words)?],
            None => registry::list(&host.prefix)?,
        };
        let all: Vec<Value> = ids.iter().filter_map(|id| counts(&host, id)).collect();
        if arguments.container.is_some() && all.is_empty() {
            let words = arguments.container.as_deref().unwrap_or_default();
            return Err(Failure::new(Code::NotRunning, format!("`{words}` has used nothing"))
                .because("it does not run")
                .unchanged()
                .hint(format!("prlctl start {words}")));
        }
        show(&all, &wanted, arguments.json);
        let Some(every) = every.filter(|every| !every.is_zero()) else { return Ok(0) };
        next += every;
        let rest = next.saturating_duration_since(Instant::now());
        let rest = Timespec { tv_sec: rest.as_secs() as i64, tv_nsec: rest.subsec_nanos().into() };
        // A signal ends it, as whoever looks on would have it.
        let _ = poll(&mut [], Some(&rest));
    }
}

/// Of one that runs.
fn counts(host: &Host, id: &ContainerId) -> Option<Value> {
    if !matches!(host.runtime.life(id), Life::Running(_)) {
        return None;
    }
    let area = Area::open_unchecked(&host.prefix, id).ok()?;
    let now = Cgroups::of(&host.prefix, id).ok().map(|groups| now(&groups, Disk::of(&host.prefix)))?;
    let traffic = traffic(host, id).unwrap_or_default();
    let volume = area.image_size().and_then(|_| rustix::fs::fstatvfs(area.layers_top().ok()?).ok());
    let volume = volume.map(|found| found.f_blocks.saturating_sub(found.f_bfree) * found.f_frsize);
    let volume = volume.or_else(|| Some(area.counted()?.bytes));
    let seconds = now.cpu_time.map(|nanoseconds| (nanoseconds as f64 / 1e7).round() / 100.0);
    Some(json!({
        "uuid": id.to_string(),
        "name": area.display_name(),
        "cpu.time": seconds,
        "mem.used": now.memory_used,
        "mem.kills": now.out_of_memory_kills,
        "processes": now.processes,
        "disk.read": now.disk.map(|(read, _)| read),
        "disk.written": now.disk.map(|(_, written)| written),
        "volume.used": volume,
        "net.bytes_in": traffic.bytes_in,
        "net.bytes_out": traffic.bytes_out,
        "net.packets_in": traffic.packets_in,
        "net.packets_out": traffic.packets_out,
    }))
}

fn show(all: &[Value], wanted: &[&str], is_json: bool) {
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|one| name.starts_with(one));
    if is_json {
        let keep = |one: &Value| -> Value {
            let all = one.as_object().into_iter().flatten();
            let kept = all.filter(|(name, _)| ["uuid", "name"].contains(&name.as_str()) || is_wanted(name));
            Value::Object(kept.map(|(name, value)| (name.clone(), value.clone())).collect())
        };
        output::json(&Value::Array(all.iter().map(keep).collect()));
        return;
    }
    for one in all {
        output::line(&tree::escaped(one["name"].as_str().unwrap_or_default().as_bytes()));
        for (name, what) in COUNTS.iter().filter(|(name, _)| is_wanted(name)) {
            let value = &one[*name];
            let shown = if value.is_null() { "-".to_owned() } else { value.to_string() };
            output::line(&format!("  {name:<16} {shown:>16}  {what}"));
        }
    }
}
