//! A configuration of OpenVZ as one of ours: all that means something here stays, and so does the rest. What would keep the container from starting, or
//! would mean something else, becomes a comment. Nothing is lost, and each such line is told.

use store::{
    ADDRESSES, Address, Conf, ContainerId, ContainerName, DiskSpace, FORWARDS, Forward, INTERFACES,
    Interface, NumericId, Prefix, RATE, Rate, TemplateChoice, template,
};

use crate::container::check_host_name;
use crate::error::{Code, Failure, Result};
use crate::host::Host;

/// What ends the name of a template of OpenVZ, and none of ours: for which machine it is.
const MACHINES: [&str; 5] = ["-x86_64", "-x86", "-i386", "-amd64", "-aarch64"];

/// Who the container was.
#[derive(Debug, Default)]
pub struct Identity {
    /// By its number; `VEID`.
    pub number: Option<NumericId>,
    /// By its UUID.
    pub id: Option<ContainerId>,
    /// By its name.
    pub name: Option<ContainerName>,
}

/// Who it was; `stems` are the names of its directory and of its file without `.conf`, which have the number where `VEID` has not.
pub fn identity(conf: &Conf, stems: &[String]) -> Identity {
    let text = |key: &str| conf.get(key).unwrap_or_default();
    let number = text(store::NUMERIC_ID).parse().ok();
    let id = text("UUID").parse().ok().or_else(|| text(store::NUMERIC_ID).parse().ok());
    let stems = || stems.iter();
    Identity {
        number: number.or_else(|| stems().find_map(|stem| stem.parse().ok())),
        id: id.or_else(|| stems().find_map(|stem| stem.parse().ok())),
        name: text("NAME").parse().ok(),
    }
}

/// Makes it one that a container can be started with; returns what became of it, a line each.
///
/// # Errors
/// When `vz.conf` itself cannot be used.
pub fn make_usable(host: &Host, conf: &mut Conf, configuration: &Conf) -> Result<Vec<String>> {
    let mut notes = Vec::new();
    // Each time round one key less: each limit has a key of its own.
    while let Err(error) = host.limits(conf, configuration) {
        if !conf.comment_out(error.key) {
            return Err(Failure::new(Code::Damaged, "`vz.conf` cannot be used")
                .caused_by(&error)
                .unchanged());
        }
        notes.push(format!("`{}` is a comment now: `{}` is not {}", error.key, error.value, error.wanted));
    }
    while let Err(error) = DiskSpace::from_conf(&[conf, configuration]) {
        if !conf.comment_out(error.key) {
            return Err(Failure::new(Code::Damaged, "`vz.conf` cannot be used")
                .caused_by(&error)
                .unchanged());
        }
        notes.push(format!("`{}` is a comment now: `{}` is not {}", error.key, error.value, error.wanted));
    }
    if let Err(error) = Forward::all(conf) {
        conf.comment_out(FORWARDS);
        notes.push(format!("`{FORWARDS}` is a comment now: {error}"));
    }
    match Interface::all(conf) {
        Ok(all) => notes.extend(all.iter().flat_map(unheard)),
        Err(error) => {
            conf.comment_out(INTERFACES);
            notes.push(format!("`{INTERFACES}` is a comment now: `{}` {}", error.text, error.why));
        }
    }
    if let Err(error) = Rate::read(&conf.get(RATE).unwrap_or_default()) {
        conf.comment_out(RATE);
        notes.push(format!("`{RATE}` is a comment now: {error}"));
    }
    if let Some(name) =
        conf.get("NAME").filter(|name| !name.is_empty() && name.parse::<ContainerName>().is_err())
    {
        conf.comment_out("NAME");
        let shown = tree::escaped(&name.as_bytes()[..name.len().min(80)]);
        notes.push(format!("`NAME` is a comment now: `{shown}` can be no container's name"));
    }
    if let Some(hostname) = conf.get("HOSTNAME").filter(|name| !name.is_empty())
        && let Err(wanted) = check_host_name(&hostname)
    {
        conf.comment_out("HOSTNAME");
        notes.push(format!(
            "`HOSTNAME` is a comment now: `{}` is not {wanted}",
            tree::escaped(hostname.as_bytes())
        ));
    }
    if Address::all(conf).is_err() {
        let words = conf.get(ADDRESSES).unwrap_or_default();
        let (good, bad): (Vec<&str>, Vec<&str>) =
            words.split_whitespace().partition(|word| word.parse::<Address>().is_ok());
        conf.comment_out(ADDRESSES);
        conf.set(ADDRESSES, &good.join(" "))?;
        notes.push(format!(
            "`{ADDRESSES}` is without what is no address: {}",
            tree::escaped(bad.join(" ").as_bytes())
        ));
    }
    notes.extend(leave_behind(conf));
    if let Some(applications) = conf.get("TEMPLATES").filter(|list| !list.trim().is_empty()) {
        // Here they are packages that a reinstall installs: those are other names.
        conf.comment_out("TEMPLATES");
        notes.push(format!(
            "`TEMPLATES` is a comment now: application templates ({}) are packages here, for `vzpkg install`",
            tree::escaped(applications.as_bytes())
        ));
    }
    Ok(notes)
}

/// What keeps an interface from being of any use: OpenVZ filtered nothing, and a script of the hoster's may have put it on its bridge.
fn unheard(interface: &Interface) -> Vec<String> {
    let name = &interface.name;
    let mut notes = Vec::new();
    if interface.network.is_none() {
        notes.push(format!(
            "`{name}` of `{INTERFACES}` is on no bridge: `prlctl set NAME --ifname {name} --network BRIDGE` puts it on one"
        ));
    }
    if interface.addresses.is_empty() && interface.ip_filter {
        notes.push(format!(
            "`{name}` of `{INTERFACES}` has no `ip=`, so whatever address the container gives itself is dropped: \
             `prlctl set NAME --ifname {name} --ipadd ADDRESS`, or `--ipfilter no`"
        ));
    }
    notes
}

/// What another host had beside the root: paths of this host that somebody else has written down would be shown to whoever he was.
fn leave_behind(conf: &mut Conf) -> Vec<String> {
    let mut notes = Vec::new();
    let of_host = [
        (store::device_nodes::KEY, "`prlctl set NAME --devnodes` gives it devices of this host"),
        (store::BIND_MOUNTS, "`prlctl set NAME --bindmount_add` binds it again, once it is there and meant"),
        (
            store::disks::KEY,
            "disks beside that of the root stay behind: `prlctl set NAME --device-add hdd --size SIZE --mnt PATH` makes new ones",
        ),
    ];
    for (key, what) in of_host {
        let said = conf.get(key).unwrap_or_default();
        let is_said = match key {
            store::BIND_MOUNTS | store::device_nodes::KEY => !said.trim().is_empty(),
            // The root's own is what became of it.
            _ => said.split(';').any(|disk| disk.contains("mnt=") || disk.contains("image=hdd")),
        };
        if is_said && conf.comment_out(key) {
            let shown = tree::escaped(&said.as_bytes()[..said.len().min(300)]);
            notes.push(format!("`{key}` is a comment now ({shown}): {what}"));
        }
    }
    notes
}

/// The template of this host that is meant by OpenVZ's name for it, which has the machine behind it: there is one machine here. Where there is none, what was
/// said.
pub fn without_machine(prefix: &Prefix, choice: TemplateChoice) -> TemplateChoice {
    let is_there = |choice: &TemplateChoice| template::choose(prefix, choice).is_ok();
    if choice.version.is_some() || is_there(&choice) {
        return choice;
    }
    let said = choice.name.to_string();
    let short =
        MACHINES.iter().find_map(|machine| said.strip_suffix(machine)).and_then(|short| short.parse().ok());
    short.filter(is_there).unwrap_or(choice)
}

/// What a reinstall is to be from: the template of this host that is meant by OpenVZ's name for it, else that name, with what is to be said of it.
pub fn ostemplate(host: &Host, conf: &Conf) -> (Option<String>, Option<String>) {
    let said = conf.get("OSTEMPLATE").unwrap_or_default();
    let said = said.trim().trim_start_matches('.');
    if said.is_empty() {
        let note = "it has no OSTEMPLATE: a reinstall of it wants `--ostemplate`".to_owned();
        return (None, Some(note));
    }
    if let Ok(choice) = said.parse::<TemplateChoice>() {
        let choice = without_machine(&host.prefix, choice);
        if template::choose(&host.prefix, &choice).is_ok() {
            return (Some(choice.to_string()), None);
        }
    }
    let kept = tree::escaped(said.as_bytes());
    let note = format!(
        "there is no template `{kept}` here: a reinstall of it wants `--ostemplate`, or that template"
    );
    // A word that is no name of a template at all would make its configuration one that cannot be read.
    let is_name = said.parse::<TemplateChoice>().is_ok();
    (is_name.then(|| said.to_owned()), Some(note))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_of_another_host_was_beside_the_root_is_not_taken_for_ones_own() {
        let root = "DISK=\"uuid={00000000-0000-0000-0000-000000000000},size=1,enabled=yes,image=root.hdd\"\n";
        let mut conf = Conf::parse(root.as_bytes());
        assert_eq!(leave_behind(&mut conf), Vec::<String>::new());
        let text = format!("BINDMOUNT=\"/etc:/x,ro\"\n{}", root.replace("root.hdd", "hdd1.img"));
        let mut conf = Conf::parse(text.as_bytes());
        assert_eq!(leave_behind(&mut conf).len(), 2);
        assert_eq!(conf.keys(), Vec::<&str>::new());
        assert_eq!(String::from_utf8(conf.to_bytes()).unwrap().replace("# ", ""), text, "nothing is lost");
    }

    #[test]
    fn who_it_was_is_told_by_its_configuration_or_by_where_it_lay() {
        let uuid = "9e3f3a2c-0f5e-4f0b-8d8a-2b1d6a9c1e77";
        for (text, stem, number, id, name) in [
            ("VEID=\"101\"\nNAME=\"web\"\n", "102", Some(101), None, Some("web")),
            ("", "102", Some(102), None, None),
            (&format!("VEID=\"{uuid}\"\n"), "x", None, Some(uuid), None),
            (&format!("UUID=\"{{{uuid}}}\"\nVEID=\"1\"\n"), "1", None, Some(uuid), None),
            ("NAME=\"../x\"\n", uuid, None, Some(uuid), None),
        ] {
            let found = identity(&Conf::parse(text.as_bytes()), &[stem.to_owned()]);
            assert_eq!(found.number.map(NumericId::get), number, "{text}");
            assert_eq!(found.id.map(|id| id.to_string()).as_deref(), id, "{text}");
            assert_eq!(found.name.map(|name| name.to_string()).as_deref(), name, "{text}");
        }
    }
}
