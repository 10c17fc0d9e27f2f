//! The network files of a distribution inside: what they would say had its own tools made the interfaces, so that those agree with what the host has made.
//!
//! Nothing depends on them. Interfaces, addresses and routes are there before init is executed, whatever is in the root; but a tool that knows nothing of an
//! interface may give it up to the first `Name=*` that it finds, and `networkctl`, `nmcli` and `ifquery` would not know it. So what is written has to leave
//! everything as it is when such a tool begins, or is restarted; see docs/decisions/0037-network-files.md.
//!
//! ```text
//! systemd-networkd   /etc/systemd/network/00-reroot-NAME.network
//! ifupdown           /etc/network/interfaces.d/reroot, or a section of /etc/network/interfaces
//! NetworkManager     /etc/NetworkManager/system-connections/reroot-NAME.nmconnection
//! netplan            /etc/netplan/90-reroot.yaml
//! ```
//!
//! Only where the tool and its directory are there. A file of ours begins with `HEADER`, and goes when what it says is no more; one that does not is
//! somebody's, and where it names an interface nothing of ours is said of that one. What cannot be written is a warning.

mod ifupdown;
mod netplan;
mod network_manager;
mod networkd;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;

use store::{Address, IdRange, Interface};
use tree::{Root, TreeError};

/// What a file of ours begins with.
const HEADER: &str = "# Written by prlctl at every start and `prlctl set`: what is changed here is lost.\n";
/// Larger files, and more of them, are not ours to look at.
const LARGEST: u64 = 256 * 1024;
const MOST: usize = 256;
/// What is enabled is a link in a `*.wants` below it, or where a distribution has done it itself.
const UNITS: &str = "/etc/systemd/system";
const ENABLED_BY_IMAGE: &str = "/usr/lib/systemd/system/multi-user.target.wants";
/// What a container calls the interface that is routed to it.
const ROUTED: &str = "venet0";

/// What the files have to say.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// What is routed to it.
    pub addresses: &'a [Address],
    /// What it has on bridges.
    pub interfaces: &'a [Interface],
    /// The text of its `resolv.conf`.
    pub resolver: Option<&'a str>,
}

/// One interface, as its files tell it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Told {
    name: String,
    addresses: Vec<Address>,
    /// The ways out: by nobody but the interface, from its first address; or by a router.
    ways: Vec<Way>,
    is_routed: bool,
    asks_dhcp: bool,
    /// It is kept from using any address that is not its own.
    is_bound: bool,
    servers: Vec<String>,
    domains: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Direct { source: IpAddr },
    Router(IpAddr),
}

impl Way {
    fn is_ipv4(self) -> bool {
        match self {
            Way::Direct { source: ip } | Way::Router(ip) => ip.is_ipv4(),
        }
    }
}

impl Told {
    fn of_family(&self, is_four: bool) -> impl Iterator<Item = &Address> {
        self.addresses.iter().filter(move |address| address.ip.is_ipv4() == is_four)
    }

    fn way(&self, is_four: bool) -> Option<Way> {
        self.ways.iter().copied().find(|way| way.is_ipv4() == is_four)
    }
}

/// Each interface of which there is anything to say.
fn told(wanted: &Wanted<'_>) -> Vec<Told> {
    let gateways = |one: &Interface| -> Vec<IpAddr> {
        one.gateway.map(IpAddr::V4).into_iter().chain(one.gateway6.map(IpAddr::V6)).collect()
    };
    let of_bridges: Vec<IpAddr> = wanted.interfaces.iter().flat_map(gateways).collect();
    let mut all = Vec::new();
    if !wanted.addresses.is_empty() {
        let source = |is_four: bool| wanted.addresses.iter().find(|one| one.ip.is_ipv4() == is_four);
        let ways = [true, false].into_iter().filter_map(|is_four| {
            // Where an interface on a bridge has a gateway, that is its way out.
            let is_taken = of_bridges.iter().any(|gateway| gateway.is_ipv4() == is_four);
            source(is_four).filter(|_| !is_taken).map(|address| Way::Direct { source: address.ip })
        });
        all.push(Told {
            name: ROUTED.to_owned(),
            addresses: wanted.addresses.to_vec(),
            ways: ways.collect(),
            is_routed: true,
            is_bound: true,
            ..Told::default()
        });
    }
    all.extend(wanted.interfaces.iter().filter(|one| one.dhcp || !one.addresses.is_empty()).map(|one| {
        Told {
            name: one.name.to_string(),
            addresses: one.addresses.clone(),
            ways: gateways(one).into_iter().map(Way::Router).collect(),
            asks_dhcp: one.dhcp,
            is_bound: one.ip_filter,
            ..Told::default()
        }
    }));
    if let (Some(first), Some(resolver)) = (all.first_mut(), wanted.resolver) {
        let words = |key: &str| -> Vec<String> {
            let lines = resolver.lines().filter_map(|line| line.strip_prefix(key));
            lines.flat_map(str::split_whitespace).map(str::to_owned).collect()
        };
        // What is neither means something else to one of the tools.
        let is_domain =
            |word: &String| word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte));
        first.servers =
            words("nameserver ").into_iter().filter(|word| word.parse::<IpAddr>().is_ok()).collect();
        first.domains = words("search ").into_iter().filter(is_domain).collect();
    }
    all
}

/// A file that is ours alone: by where it is, and by what `read` finds in it.
pub fn is_ours(path: &Path, read: impl Fn(&Path, u64) -> Option<Vec<u8>>) -> bool {
    may_be_ours(path) && read(path, LARGEST).is_some_and(|bytes| bytes.starts_with(HEADER.as_bytes()))
}

fn may_be_ours(path: &Path) -> bool {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else { return false };
    let (directory, name) = (directory.to_string_lossy(), name.to_string_lossy());
    match &*directory {
        ifupdown::PARTS => name == ifupdown::PART,
        netplan::DIRECTORY => name == netplan::FILE,
        directory => [networkd::FILES, network_manager::FILES].iter().any(|files| {
            directory == files.directory && name.starts_with(files.beginning) && name.ends_with(files.ending)
        }),
    }
}

/// A tool that has a file of each interface.
struct OneEach {
    directory: &'static str,
    /// Any of these is the tool.
    programs: &'static [&'static str],
    /// Of the names of ours.
    beginning: &'static str,
    ending: &'static str,
    /// And of all that it reads.
    read: &'static str,
    mode: u32,
    /// Whether the text of a file names an interface.
    names: fn(&str, &str) -> bool,
    text: fn(&Told) -> String,
}

impl OneEach {
    fn is_there(&self, inside: &Inside<'_>) -> Result<bool, TreeError> {
        Ok(inside.has_directory(self.directory)? && inside.has_any(self.programs)?)
    }

    fn write(&self, inside: &mut Inside<'_>, all: &[Told]) -> Result<(), TreeError> {
        let OneEach { directory, beginning, ending, .. } = self;
        if !inside.has_directory(directory)? {
            return Ok(());
        }
        // One that another distribution's root has brought along goes.
        let all = if self.is_there(inside)? { all } else { &[] };
        let taken = inside.taken(directory, self.read, all, self.names)?;
        let all = all.iter().filter(|one| !taken.contains(&one.name));
        let wanted: Vec<(String, String)> =
            all.map(|one| (format!("{beginning}{}{ending}", one.name), (self.text)(one))).collect();
        let there = inside.files(directory, ending)?;
        inside.put(directory, &there, &wanted, self.mode)
    }
}

/// A root with what has come of it so far.
struct Inside<'a> {
    root: &'a Root,
    ids: IdRange,
    problems: Vec<String>,
}

/// Writes what is `wanted`, and takes away what is no more; without `wanted`, all that was ever written. Call it on a thread with the filesystem ids of
/// `ids`. Returns what is not as it should be.
pub fn apply(root: &Root, ids: IdRange, wanted: Option<&Wanted<'_>>) -> Vec<String> {
    let all = wanted.map(told).unwrap_or_default();
    let mut inside = Inside { root, ids, problems: Vec::new() };
    for (what, written) in [
        ("systemd-networkd", networkd::FILES.write(&mut inside, &all)),
        ("ifupdown", ifupdown::write(&mut inside, &all)),
        ("NetworkManager", network_manager::FILES.write(&mut inside, &all)),
        ("netplan", netplan::write(&mut inside, &all)),
    ] {
        if let Err(error) = written {
            inside
                .problems
                .push(format!("the files of {what} in the container are left as they are: {error}"));
        }
    }
    for one in all.iter().filter(|one| one.asks_dhcp) {
        if let Ok(Some(why)) = inside.asks_nobody() {
            let name = &one.name;
            inside.problems.push(format!("`{name}` is to ask for its address by DHCP, and {why}"));
        }
    }
    inside.problems
}

impl Inside<'_> {
    fn has_directory(&self, path: &str) -> Result<bool, TreeError> {
        Ok(matches!(self.root.kind_followed(Path::new(path))?, Some(tree::Kind::Directory { .. })))
    }

    fn has_any(&self, programs: &[&str]) -> Result<bool, TreeError> {
        for program in programs {
            if self.root.has_executable(Path::new(program))? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Why nothing in the root asks for an address by DHCP; `None`: something does.
    fn asks_nobody(&self) -> Result<Option<String>, TreeError> {
        if ifupdown::asks_dhcp(self)? {
            return Ok(None);
        }
        let mut idle = None;
        for (is_there, name, unit) in [
            (networkd::FILES.is_there(self)?, "systemd-networkd", networkd::UNIT),
            (network_manager::FILES.is_there(self)?, "NetworkManager", network_manager::UNIT),
        ] {
            if is_there && self.is_enabled(unit)? {
                return Ok(None);
            }
            idle = idle.or(is_there.then_some((name, unit)));
        }
        Ok(Some(match idle {
            Some((name, unit)) => format!(
                "the root has {name}, which is not enabled: run `systemctl enable --now {}` in it",
                unit.trim_end_matches(".service")
            ),
            None => "nothing in the root does that".to_owned(),
        }))
    }

    /// Something that is started has systemd start a unit along.
    fn is_enabled(&self, unit: &str) -> Result<bool, TreeError> {
        let wants = self.root.names_up_to(Path::new(UNITS), MOST)?.unwrap_or_default();
        let wants = wants.iter().filter_map(|name| name.to_str()).filter(|name| name.ends_with(".wants"));
        let all = wants.map(|wants| format!("{UNITS}/{wants}")).chain([ENABLED_BY_IMAGE.to_owned()]);
        for wants in all {
            if self.root.kind(Path::new(&format!("{wants}/{unit}")))?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The text of a file; `None`: there is none, or none that could be a configuration.
    fn text(&self, path: &str) -> Option<String> {
        let file = self.root.read_file(Path::new(path), LARGEST).ok()??;
        Some(String::from_utf8_lossy(&file.bytes).into_owned())
    }

    /// The same of a file that is written again in part: all of it is text.
    fn whole_text(&self, path: &str) -> Result<Option<String>, TreeError> {
        let Ok(Some(file)) = self.root.read_file(Path::new(path), LARGEST) else { return Ok(None) };
        let because = "it is not UTF-8, and what is not cannot be written again as it is";
        let refused = |_| TreeError::BadPath { path: path.into(), because };
        String::from_utf8(file.bytes).map(Some).map_err(refused)
    }

    /// The names of a directory's files that end so.
    fn files(&self, directory: &str, ending: &str) -> Result<Vec<String>, TreeError> {
        let names = self.root.names_up_to(Path::new(directory), MOST)?.unwrap_or_default();
        let names = names.into_iter().filter_map(|name| name.into_string().ok());
        Ok(names.filter(|name| name.ends_with(ending)).collect())
    }

    fn is_ours(&self, path: &str) -> bool {
        self.text(path).is_some_and(|text| text.starts_with(HEADER))
    }

    /// The interfaces that somebody's own files name, by what `names` finds in the text of one.
    fn taken(
        &mut self,
        directory: &str,
        ending: &str,
        all: &[Told],
        names: impl Fn(&str, &str) -> bool,
    ) -> Result<BTreeSet<String>, TreeError> {
        let mut taken = BTreeSet::new();
        for file in self.files(directory, ending)? {
            let path = format!("{directory}/{file}");
            let Some(text) = self.text(&path).filter(|text| !text.starts_with(HEADER)) else { continue };
            for one in all.iter().filter(|one| names(&text, &one.name)) {
                if taken.insert(one.name.clone()) {
                    self.say_taken(&path, &one.name);
                }
            }
        }
        Ok(taken)
    }

    fn say_taken(&mut self, path: &str, name: &str) {
        let path = tree::escaped(path.as_bytes());
        self.problems.push(format!(
            "{path} in the container says something of `{name}` already: nothing of ours is written for that tool"
        ));
    }

    /// Has these files, and no others of ours among `there`, in a directory. That there is none is nothing.
    fn put(
        &mut self,
        directory: &str,
        there: &[String],
        wanted: &[(String, String)],
        mode: u32,
    ) -> Result<(), TreeError> {
        for file in there.iter().filter(|file| wanted.iter().all(|(name, _)| name != *file)) {
            let path = format!("{directory}/{file}");
            if self.is_ours(&path) {
                self.root.remove_file(Path::new(&path))?;
            }
        }
        for (name, text) in wanted {
            let path = format!("{directory}/{name}");
            let text = format!("{HEADER}{text}");
            let found = self.text(&path);
            if found.as_deref() == Some(&text) {
                continue;
            }
            if found.is_some_and(|found| !found.starts_with(HEADER)) {
                self.problems.push(format!("{path} in the container is somebody's own, and stays"));
                continue;
            }
            self.root.replace_file(
                Path::new(&path),
                text.as_bytes(),
                mode,
                self.ids.first,
                self.ids.first,
            )?;
        }
        Ok(())
    }
}
