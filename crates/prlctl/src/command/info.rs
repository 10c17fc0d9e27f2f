//! `prlctl info`

use engine::Result;
use engine::host::damaged;
use engine::settings::{NETFILTER, SETTINGS};
use runtime::kernel::{features, release};
use serde_json::json;
use store::{Area, Conf, Disks, Features, Volume};

use crate::arguments::Info;
use crate::command::{host, prefix};
use crate::output;

/// Tells what this host can do. Needs no root: without it, that is what is missing.
///
/// # Errors
/// When the prefix is no directory.
pub fn run(arguments: &Info) -> Result<u8> {
    if let Some(container) = &arguments.container {
        return of_container(container, arguments.json);
    }
    let prefix = prefix()?;
    let directory =
        if prefix.private_dir().is_dir() { prefix.private_dir() } else { prefix.root().to_owned() };
    let mut features = features(&directory);
    features.push(runtime::lxcfs::feature(&prefix));
    let file_system = prefix.file_system()?;
    // Whoever may not read it is not told.
    let vz_conf = prefix.vz_conf();
    let configuration = Conf::load_or_default(&vz_conf).unwrap_or_default();
    let unread = engine::defaults::unread(&configuration);
    let problems = engine::defaults::usable(configuration.clone(), &vz_conf).1;
    let is_able = features.iter().all(|feature| !feature.is_required || feature.missing.is_none());
    if arguments.json {
        output::json(&json!({
            "version": env!("CARGO_PKG_VERSION"),
            "kernel": release(),
            "prefix": prefix.root(),
            "file_system": file_system,
            "features": features,
            "can_run_containers": is_able,
            "configuration": { "not_obeyed": unread, "remarks": problems },
        }));
    } else {
        output::line(&format!("prlctl {} on Linux {}", env!("CARGO_PKG_VERSION"), release()));
        output::line(&format!("{} lies on {file_system}", directory.display()));
        for feature in &features {
            let state = match (&feature.missing, feature.is_required) {
                (None, _) => "yes".to_owned(),
                (Some(because), true) => format!("MISSING: {because}"),
                (Some(because), false) => format!("no ({because}); containers run without it"),
            };
            output::line(&format!("  {:<76} {state}", feature.name));
        }
        if !unread.is_empty() {
            output::line(&format!("nobody reads of {}: {}", vz_conf.display(), unread.join(" ")));
        }
        for problem in &problems {
            output::line(problem);
        }
        output::line(if is_able { "containers can run here" } else { "containers cannot run here" });
    }
    Ok(if is_able { 0 } else { engine::Code::Unsupported.exit() })
}

/// Tells what of a container's `ve.conf` is obeyed. Nothing is dropped: what is not stays where it is.
fn of_container(words: &str, is_json: bool) -> Result<u8> {
    let host = host(0, is_json)?;
    let id = host.find(words)?;
    let area = Area::open(&host.prefix, &id).map_err(|error| damaged(error, words))?;
    let conf = area.conf().map_err(|error| damaged(error, words))?;
    let Obeyed { obeyed, beancounters, without_effect, mut others } = Obeyed::of(&conf);
    let kept: &[&str] = match (area.volume(), area.counted()) {
        (Volume::Image, _) | (Volume::Directory, Some(_)) => &OF_DISK,
        (Volume::Btrfs, Some(_)) => &OF_DISK[..1],
        (Volume::Directory | Volume::Btrfs, None) => &[],
    };
    let (obeyed, of_disk): (Vec<&str>, Vec<&str>) =
        obeyed.into_iter().partition(|key| kept.contains(key) || !OF_DISK.contains(key));
    others.extend(&of_disk);
    if is_json {
        output::json(&json!({
            "uuid": id.to_string(),
            "obeyed": obeyed,
            "beancounters": beancounters,
            "without_effect": without_effect,
            "not_obeyed": others,
            "remarks": remarks(&conf),
        }));
        return Ok(0);
    }
    output::line(&format!("{}", area.path().join("ve.conf").display()));
    let shown = |keys: &[&str]| if keys.is_empty() { "none".to_owned() } else { keys.join(" ") };
    output::line(&format!("  obeyed                       {}", shown(&obeyed)));
    output::line(&format!(
        "  without meaning here         {}",
        shown(&[&beancounters[..], &without_effect].concat())
    ));
    output::line(&format!("  not obeyed by this version   {}", shown(&others)));
    if !of_disk.is_empty() {
        output::line(&format!(
            "{}: nobody counts that where its files lie; `prlctl move {} --volume image` gives it a disk of its own.",
            of_disk.join(" "),
            area.display_name()
        ));
    }
    for remark in remarks(&conf) {
        output::line(&remark);
    }
    if !beancounters.is_empty() {
        output::line(
            "Beancounters are of OpenVZ's kernel: PHYSPAGES, SWAPPAGES and NUMPROC are what limits a container.",
        );
    }
    Ok(0)
}

/// What only a disk of its own obeys, or what is counted; of a subvolume the first.
const OF_DISK: [&str; 2] = ["DISKSPACE", "DISKINODES"];

/// What of a key that is obeyed is not.
fn remarks(conf: &Conf) -> Vec<String> {
    let ignored = Features::of(conf).ignored.into_iter();
    let features: Vec<String> = ignored
        .map(|(word, why)| format!("FEATURES: `{}` is not obeyed: {why}.", tree::escaped(word.as_bytes())))
        .collect();
    let mut remarks = [
        engine::boot::remarks(conf),
        features,
        engine::settings::problems(conf),
        engine::without_effect::remarks(conf),
    ]
    .concat();
    if let Some(word) = conf.get(NETFILTER).filter(|word| !["", "full"].contains(&word.trim())) {
        remarks.push(format!(
            "NETFILTER: `{}` is not obeyed: every container has all of nftables and iptables, in its own network.",
            tree::escaped(word.as_bytes())
        ));
    }
    let disks = Disks::of(conf).unwrap_or_default();
    let missing = disks.missing();
    remarks.extend(missing.map(|disk| {
        format!("DISK: `{}` is no disk here, and there is no start without it: `enabled=no` in that entry says that it is not wanted.", tree::escaped(disk.as_bytes()))
    }));
    let is_unmounted = |disk: &&String| disk.contains("mnt=") && Some(disk.as_str()) != missing;
    remarks.extend(disks.foreign.iter().filter(is_unmounted).map(|disk| {
        format!("DISK: `{}` is not obeyed: it is a disk of Virtuozzo's.", tree::escaped(disk.as_bytes()))
    }));
    remarks
}

/// What is done with the keys of a configuration that say anything.
pub struct Obeyed<'a> {
    /// Something.
    pub obeyed: Vec<&'a str>,
    /// Nothing: they are of another kernel.
    pub beancounters: Vec<&'a str>,
    /// Nothing, for a reason that each has of its own.
    pub without_effect: Vec<&'a str>,
    /// Nothing, yet.
    pub others: Vec<&'a str>,
}

impl Obeyed<'_> {
    /// Of this one.
    pub fn of(conf: &Conf) -> Obeyed<'_> {
        let set = conf.keys().into_iter().filter(|key| conf.get(key).is_some_and(|value| !value.is_empty()));
        let (without_effect, set): (Vec<&str>, Vec<&str>) =
            set.partition(|key| engine::without_effect::because(key).is_some());
        let (obeyed, others): (Vec<&str>, Vec<&str>) = set.into_iter().partition(|key| is_obeyed(key));
        let (beancounters, others) = others
            .into_iter()
            .filter(|key| !OF_ITSELF.contains(key))
            .partition(|key| BEANCOUNTERS.contains(key));
        Obeyed { obeyed, beancounters, without_effect, others }
    }
}

fn is_obeyed(key: &str) -> bool {
    SETTINGS.iter().any(|setting| setting.key == key) || ALSO_OBEYED.contains(&key)
}

/// What something is done with beside what `prlctl set` sets.
const ALSO_OBEYED: [&str; 15] = [
    "BINDMOUNT",
    "DISK",
    "OSTEMPLATE",
    "TEMPLATES",
    "DISTRIBUTION",
    "IP_ADDRESS",
    "NETIF",
    "NAT",
    "NETWORK_FILES",
    store::MEGAHERTZ,
    "MEMGUARANTEE_BYTES",
    "REINSTALL_KEEP",
    "REINSTALL_RETAIN",
    "HEALTH",
    "SCRIPT_TIMEOUT",
];
/// What only says which container it is, and where.
const OF_ITSELF: [&str; 9] = [
    "VERSION",
    "VEID",
    "UUID",
    "VE_ROOT",
    "VE_PRIVATE",
    "ORIGIN_SAMPLE",
    "CONFIG_CUSTOMIZED",
    "OSRELEASE",
    "VE_TYPE",
];
/// Those of OpenVZ's kernel (user_beancounters), and of its quota of users.
const BEANCOUNTERS: [&str; 25] = [
    "KMEMSIZE",
    "LOCKEDPAGES",
    "PRIVVMPAGES",
    "SHMPAGES",
    "VMGUARPAGES",
    "OOMGUARPAGES",
    "NUMTCPSOCK",
    "NUMFLOCK",
    "NUMPTY",
    "NUMSIGINFO",
    "TCPSNDBUF",
    "TCPRCVBUF",
    "OTHERSOCKBUF",
    "DGRAMRCVBUF",
    "NUMOTHERSOCK",
    "DCACHESIZE",
    "NUMFILE",
    "NUMIPTENT",
    "AVNUMPROC",
    "TOTVMPAGES",
    "IPTENTRIES",
    "PAGECACHE_ISOLATION",
    "VM_OVERCOMMIT",
    "QUOTATIME",
    "NUMNETIF",
];
