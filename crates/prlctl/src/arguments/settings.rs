//! What can be said of a container, by `prlctl set` and `prlctl create`.

use std::borrow::Cow;

use clap::Args;

use super::{Common, Devices, Interfaces};

/// Settings of a container. A value that is none is refused by `engine::settings`, which knows what is wanted.
#[derive(Debug, Default, Clone, Args)]
pub struct Settings {
    /// What it is for, one line
    #[arg(long, value_name = "TEXT", help_heading = SETTINGS)]
    pub description: Option<String>,
    /// Start it when the host comes up: yes, no, or auto, which is if it ran when that went down
    #[arg(long, value_name = "yes|no|auto", visible_alias = "autostart", help_heading = SETTINGS)]
    pub onboot: Option<String>,
    /// Which are started first: those with the highest number
    #[arg(long, allow_hyphen_values = true, value_name = "N", help_heading = SETTINGS)]
    pub bootorder: Option<String>,
    /// Whether nobody may start it, also not at boot; `start --force` does
    #[arg(long, value_name = "yes|no", help_heading = SETTINGS)]
    pub disabled: Option<String>,
    /// What is done with it when the host goes down: stop; suspend means the same
    #[arg(long, value_name = "stop|suspend", help_heading = SETTINGS)]
    pub autostop: Option<String>,
    /// Start it again when its init has crashed: on-crash or no
    #[arg(long, value_name = "on-crash|no", help_heading = SETTINGS)]
    pub restart: Option<String>,
    /// Whether a reboot from inside is one; no: it is stopped then
    #[arg(long, value_name = "yes|no", help_heading = SETTINGS)]
    pub allowreboot: Option<String>,
    /// What is in the environment of its process 1, and of what is executed in it: NAME=VALUE, several with blanks between them; '' for nothing
    #[arg(long, value_name = "NAME=VALUE…", help_heading = SETTINGS)]
    pub environment: Option<String>,
    /// When a file of its root was last read is not kept; from its next start or reboot on
    #[arg(long, value_name = "yes|no", help_heading = SETTINGS)]
    pub noatime: Option<String>,
    /// It is meant as a model for others: yes or no
    #[arg(long, value_name = "yes|no", help_heading = SETTINGS)]
    pub template: Option<String>,
    /// What it calls itself
    #[arg(long, value_name = "NAME", help_heading = SETTINGS)]
    pub hostname: Option<String>,
    /// A password for an account of its root, which is made if it is not there; `USER:-` asks for it, or reads one line of stdin; may be repeated
    #[arg(long, value_name = "USER:PASSWORD", help_heading = SETTINGS)]
    pub userpasswd: Vec<String>,
    /// The password of --userpasswd is hashed already, as crypt(5) has it
    #[arg(long, requires = "userpasswd", help_heading = SETTINGS)]
    pub crypted: bool,
    /// An address that is routed to it, IPv4 or IPv6, with a mask or without; may be repeated
    #[arg(long, value_name = "ADDRESS", help_heading = SETTINGS)]
    pub ipadd: Vec<String>,
    /// A directory or file of the host that it sees: /of/the/host:/in/the/container, or with ,ro after it; may be repeated
    #[arg(long = "bindmount_add", alias = "bindmount-add", value_name = "SOURCE:PATH", help_heading = SETTINGS)]
    pub bindmount_add: Vec<String>,
    /// Addresses of name servers, between blanks or commas; `inherit` for those of the host; at the next start; may be repeated
    #[arg(long, value_name = "ADDRESS…", help_heading = SETTINGS)]
    pub nameserver: Vec<String>,
    /// Domains to search, likewise; `inherit` for those of the host; at the next start; may be repeated
    #[arg(long, value_name = "DOMAIN…", help_heading = SETTINGS)]
    pub searchdomain: Vec<String>,
    /// Memory: MiB, or with K, M, G, T; or unlimited
    #[arg(long, allow_hyphen_values = true, value_name = "SIZE", help_heading = SETTINGS)]
    pub memsize: Option<String>,
    /// Memory as PHYSPAGES of ve.conf has it: pages of 4 KiB, or barrier:limit
    #[arg(long, allow_hyphen_values = true, value_name = "PAGES", conflicts_with = "memsize", help_heading = SETTINGS)]
    pub physpages: Option<String>,
    /// Swap beside the memory: MiB, or with K, M, G, T; or unlimited
    #[arg(long, allow_hyphen_values = true, value_name = "SIZE", help_heading = SETTINGS)]
    pub swap: Option<String>,
    /// Swap as SWAPPAGES of ve.conf has it
    #[arg(long, allow_hyphen_values = true, value_name = "PAGES", conflicts_with = "swap", help_heading = SETTINGS)]
    pub swappages: Option<String>,
    /// Percent of its memory that is taken from it last; or auto
    #[arg(long, allow_hyphen_values = true, value_name = "PERCENT", help_heading = SETTINGS)]
    pub memguarantee: Option<String>,
    /// Processes and threads; or unlimited
    #[arg(long, allow_hyphen_values = true, value_name = "N", help_heading = SETTINGS)]
    pub numproc: Option<String>,
    /// Cores; 0 for all
    #[arg(long, allow_hyphen_values = true, value_name = "N", help_heading = SETTINGS)]
    pub cpus: Option<String>,
    /// Percent of one core, or MHz of one with m; 0 for no limit
    #[arg(long, allow_hyphen_values = true, value_name = "PERCENT|MHZm", help_heading = SETTINGS)]
    pub cpulimit: Option<String>,
    /// Its share of the processors beside others, 8 to 500000; 1000 is usual
    #[arg(long, allow_hyphen_values = true, value_name = "N", help_heading = SETTINGS)]
    pub cpuunits: Option<String>,
    /// On which processors it runs: 0-3,8; or all
    #[arg(long, allow_hyphen_values = true, value_name = "LIST", help_heading = SETTINGS)]
    pub cpumask: Option<String>,
    /// Of which nodes its memory is; or all
    #[arg(long, allow_hyphen_values = true, value_name = "LIST", help_heading = SETTINGS)]
    pub nodemask: Option<String>,
    /// Its share of the disk beside others, 0 to 7, the most; 4 is usual
    #[arg(long, allow_hyphen_values = true, value_name = "N", help_heading = SETTINGS)]
    pub ioprio: Option<String>,
    /// What it reads, and what it writes, of the disk in a second: MiB, or with B, K, M, G; 0 for no limit
    #[arg(long, allow_hyphen_values = true, value_name = "SIZE", help_heading = SETTINGS)]
    pub iolimit: Option<String>,
    /// How often it reads, and writes, of the disk in a second; 0 for no limit
    #[arg(long, allow_hyphen_values = true, value_name = "N", help_heading = SETTINGS)]
    pub iopslimit: Option<String>,
    /// Ports of the host behind which it answers: tcp:8080:80, several with blanks between them; '' for none
    #[arg(long, value_name = "PORTS", help_heading = SETTINGS)]
    pub forward: Option<String>,
    /// What others have not: nesting:on, fuse:on, tun:on, ppp:on; from its next start on
    #[arg(long, value_name = "NAME:on|off…", help_heading = SETTINGS)]
    pub features: Option<String>,
    /// Devices of the host, by their names in /dev: sdb1:rw, net/tun:r; none takes one away; from its next start on
    #[arg(long, value_name = "NAME:rw…", help_heading = SETTINGS)]
    pub devnodes: Option<String>,
    /// Accepted: every container has all of the packet filter
    #[arg(long, value_name = "disabled|stateless|stateful|full", help_heading = SETTINGS)]
    pub netfilter: Option<String>,
    /// How much may go in, and how much out, as OpenVZ writes it: eth0:1:1000 is 1000 kilobits a second; '' for no limit
    #[arg(long, allow_hyphen_values = true, value_name = "DEVICE:1:KBIT", help_heading = SETTINGS)]
    pub rate: Option<String>,
    /// Whether --rate is a limit: yes, which is usual, or no
    #[arg(long, value_name = "yes|no", help_heading = SETTINGS)]
    pub ratebound: Option<String>,
    /// Its interfaces on bridges of the host
    #[command(flatten)]
    pub interfaces: Interfaces,
    /// Its disk: blocks of 1 KiB, or with K, M, G, T; at once where it is to be larger, and while it is stopped where smaller
    #[arg(long, allow_hyphen_values = true, value_name = "SIZE", help_heading = SETTINGS)]
    pub diskspace: Option<String>,
    /// Files and directories on its disk; when it is made
    #[arg(long, allow_hyphen_values = true, value_name = "N", help_heading = SETTINGS)]
    pub diskinodes: Option<String>,
    /// Accepted, kept, and without effect: `prlctl compact` is what there is
    #[arg(long, value_name = "yes|no", hide = true, help_heading = SETTINGS)]
    pub autocompact: Option<String>,
    /// Accepted, kept, and without effect: NETWORK_FILES is what there is
    #[arg(long, value_name = "yes|no", hide = true, help_heading = SETTINGS)]
    pub apply_iponly: Option<String>,
    /// Accepted, kept, and without effect: BOOTORDER and VE_PARALLEL are what there is
    #[arg(long, allow_hyphen_values = true, value_name = "SECONDS", hide = true, help_heading = SETTINGS)]
    pub autostart_delay: Option<String>,
    /// Accepted, kept, and without effect: this host is in no cluster
    #[arg(long, value_name = "yes|no", hide = true, help_heading = SETTINGS)]
    pub ha_enable: Option<String>,
    /// Accepted, kept, and without effect: this host is in no cluster
    #[arg(long, allow_hyphen_values = true, value_name = "N", hide = true, help_heading = SETTINGS)]
    pub ha_prio: Option<String>,
    /// Accepted, kept, and without effect: there is no such service
    #[arg(long, value_name = "yes|no", hide = true, help_heading = SETTINGS)]
    pub offline_management: Option<String>,
    /// Accepted, kept, and without effect: nobody counts what users inside have
    #[arg(long, allow_hyphen_values = true, value_name = "N", hide = true, help_heading = SETTINGS)]
    pub quotaugidlimit: Option<String>,
}

/// What they are called in the help.
const SETTINGS: &str = "Settings";

impl Settings {
    /// What was said: options and their values.
    pub fn said(&self) -> Vec<(&'static str, Cow<'_, str>)> {
        let Settings {
            description,
            onboot,
            bootorder,
            disabled,
            autostop,
            restart,
            allowreboot,
            environment,
            noatime,
            template,
            hostname,
            userpasswd: _,
            crypted: _,
            ipadd: _,
            bindmount_add: _,
            nameserver,
            searchdomain,
            memsize,
            physpages,
            swap,
            swappages,
            memguarantee,
            numproc,
            cpus,
            cpulimit,
            cpuunits,
            cpumask,
            nodemask,
            ioprio,
            iolimit,
            iopslimit,
            forward,
            features,
            devnodes,
            netfilter,
            rate,
            ratebound,
            interfaces: _,
            diskspace,
            diskinodes,
            autocompact,
            apply_iponly,
            autostart_delay,
            ha_enable,
            ha_prio,
            offline_management,
            quotaugidlimit,
        } = self;
        let all = [
            ("--description", description),
            ("--onboot", onboot),
            ("--bootorder", bootorder),
            ("--disabled", disabled),
            ("--autostop", autostop),
            ("--restart", restart),
            ("--allowreboot", allowreboot),
            ("--environment", environment),
            ("--noatime", noatime),
            ("--template", template),
            ("--hostname", hostname),
            ("--memsize", memsize),
            ("--physpages", physpages),
            ("--swap", swap),
            ("--swappages", swappages),
            ("--memguarantee", memguarantee),
            ("--numproc", numproc),
            ("--cpus", cpus),
            ("--cpulimit", cpulimit),
            ("--cpuunits", cpuunits),
            ("--cpumask", cpumask),
            ("--nodemask", nodemask),
            ("--ioprio", ioprio),
            ("--iolimit", iolimit),
            ("--iopslimit", iopslimit),
            ("--forward", forward),
            ("--features", features),
            ("--devnodes", devnodes),
            ("--netfilter", netfilter),
            ("--rate", rate),
            ("--ratebound", ratebound),
            ("--diskspace", diskspace),
            ("--diskinodes", diskinodes),
            ("--autocompact", autocompact),
            ("--apply-iponly", apply_iponly),
            ("--autostart-delay", autostart_delay),
            ("--ha-enable", ha_enable),
            ("--ha-prio", ha_prio),
            ("--offline-management", offline_management),
            ("--quotaugidlimit", quotaugidlimit),
        ];
        let once = all.into_iter().filter_map(|(option, value)| Some((option, value.as_deref()?.into())));
        // One list, however it was written.
        let lists = [("--nameserver", nameserver), ("--searchdomain", searchdomain)];
        let lists = lists.into_iter().filter(|(_, words)| !words.is_empty());
        once.chain(lists.map(|(option, words)| (option, words.join(" ").replace(',', " ").into()))).collect()
    }
}

/// `prlctl set`
#[derive(Debug, Args)]
pub struct Set {
    /// The container
    pub container: String,
    /// Another name for it
    #[arg(long, value_name = "NAME", help_heading = SETTINGS)]
    pub name: Option<String>,
    /// Take the settings of /etc/vz/conf/ve-SAMPLE.conf-sample; what else is said comes on top
    #[arg(long, value_name = "SAMPLE")]
    pub applyconfig: Option<String>,
    /// Accepted: it is always written to ve.conf
    #[arg(long)]
    pub save: bool,
    /// Only until its next start: limits of a container that runs
    #[arg(long, conflicts_with_all = ["save", "applyconfig", "name", "ipadd", "ipdel", "bindmount_add", "bindmount_del", "device"])]
    pub no_save: bool,
    /// An address that it has no more, or all; may be repeated
    #[arg(long, value_name = "ADDRESS|all", help_heading = SETTINGS)]
    pub ipdel: Vec<String>,
    /// Its disks
    #[command(flatten)]
    pub devices: Devices,
    /// Of virtual machines
    #[command(flatten)]
    pub screen: Box<Screen>,
    /// What is to be set
    #[command(flatten)]
    pub settings: Settings,
    /// Options of every command
    #[command(flatten)]
    pub common: Common,
}

/// A screen, which a container has not: understood, and none of it is kept, least of all a password.
#[derive(Debug, Default, Clone, Args)]
pub struct Screen {
    /// Accepted, and without effect
    #[arg(long, value_name = "auto|manual|off", value_parser = ["auto", "manual", "off"], hide = true)]
    pub vnc_mode: Option<String>,
    /// Accepted, and without effect
    #[arg(long, hide = true)]
    pub vnc_port: Option<u16>,
    /// Accepted, and without effect
    #[arg(long, value_name = "ADDRESS", hide = true)]
    pub vnc_address: Option<std::net::IpAddr>,
    /// Accepted, and without effect
    #[arg(long, value_name = "PASSWORD", hide = true)]
    pub vnc_passwd: Option<String>,
    /// Accepted, and without effect
    #[arg(long, hide = true, conflicts_with = "vnc_passwd")]
    pub vnc_nopasswd: bool,
}

impl Screen {
    /// Anything is said of it.
    pub fn is_said(&self) -> bool {
        let Screen { vnc_mode, vnc_port, vnc_address, vnc_passwd, vnc_nopasswd } = self;
        vnc_mode.is_some()
            || vnc_port.is_some()
            || vnc_address.is_some()
            || vnc_passwd.is_some()
            || *vnc_nopasswd
    }
}
