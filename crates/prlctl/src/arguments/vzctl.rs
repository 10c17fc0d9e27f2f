//! The command lines of legacy OpenVZ, `vzctl` and `vzlist`, as far as they have a meaning here.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand};

use super::{Devices, Reinstall, Settings};

/// Containers, in the words of legacy OpenVZ
#[derive(Debug, Parser)]
#[command(name = "vzctl", version, max_term_width = 110, disable_help_subcommand = true)]
#[command(
    after_help = "CTID is a number from 101 to 2147483644, the whole name of a container, or its whole UUID. Everything is done by `prlctl`, which can do more.\n\n\
    Examples:\n  vzctl create 101 --ostemplate debian-12 --hostname web01.example.com\n  vzctl set 101 --onboot yes --save\n  \
    vzctl start 101\n  vzctl exec 101 ps ax\n  vzctl reinstall 101"
)]
pub struct Vzctl {
    /// Say nothing but errors and warnings
    #[arg(long, global = true)]
    pub quiet: bool,
    /// Also say what is being done
    #[arg(long, global = true, action = ArgAction::Count, conflicts_with = "quiet")]
    pub verbose: u8,
    /// What to do
    #[command(subcommand)]
    pub command: VzctlCommand,
}

/// See [`Vzctl`].
#[derive(Debug, Subcommand)]
pub enum VzctlCommand {
    /// Create a container
    #[command(after_help = "Example:\n  vzctl create 101 --ostemplate debian-12 --ipadd 192.0.2.10")]
    Create(Box<VzctlCreate>),
    /// Start a container
    #[command(after_help = "Example:\n  vzctl start 101 --wait")]
    Start(VzctlStart),
    /// Stop a container
    #[command(after_help = "Examples:\n  vzctl stop 101\n  vzctl stop 101 --fast")]
    Stop(VzctlStopOnly),
    /// Stop a container and start it again
    #[command(after_help = "Example:\n  vzctl restart 101")]
    Restart(VzctlStop),
    /// Tell whether a container is there, is mounted, and runs
    #[command(
        after_help = "Always five words: `VEID 101 exist mounted running`.\n\nExample:\n  vzctl status 101"
    )]
    Status(OfContainer),
    /// Run a command in a container; the code is 8 when that of the command is not 0
    #[command(after_help = "Example:\n  vzctl exec 101 'ls / | wc -l'")]
    Exec(VzctlExec),
    /// The same; the code is the command's
    #[command(after_help = "Example:\n  vzctl exec2 101 test -e /etc/debian_version")]
    Exec2(VzctlExec),
    /// The same without a shell: the words as they are
    #[command(after_help = "Example:\n  vzctl exec3 101 /bin/echo '*'")]
    Exec3(VzctlExec),
    /// Open a shell in a container
    #[command(after_help = "Examples:\n  vzctl enter 101\n  vzctl enter 101 --exec top -d 5")]
    Enter(VzctlEnter),
    /// Change what a container may use of the host, and what it is called
    #[command(
        after_help = "Without --save only limits of a container that runs can be set, and they are gone with its next start.\n\n\
        Example:\n  vzctl set 101 --physpages 512M --hostname web01.example.com --save"
    )]
    Set(Box<VzctlSet>),
    /// Delete a container
    #[command(after_help = "Example:\n  vzctl destroy 101", visible_alias = "delete")]
    Destroy(OfContainer),
    /// Give a container a new root; its old one is at /old, whole
    #[command(
        after_help = "Takes all that `prlctl reinstall` takes.\n\nExamples:\n  vzctl reinstall 101\n  vzctl reinstall 101 --skipbackup --resetpwdb"
    )]
    Reinstall(Box<VzctlReinstall>),
    /// Mount a container's root on the host, at /vz/root/UUID
    #[command(after_help = "Example:\n  vzctl mount 101")]
    Mount(OfContainer),
    /// Unmount it
    #[command(after_help = "Example:\n  vzctl umount 101")]
    Umount(OfContainer),
    /// Have a stopped container be none, and leave its private area where it is
    #[command(
        after_help = "`prlctl register PATH` makes it a container again.\n\nExample:\n  vzctl unregister 101"
    )]
    Unregister(OfContainer),
}

/// A container and nothing else.
#[derive(Debug, Args)]
pub struct OfContainer {
    /// The container
    #[arg(value_name = "CTID")]
    pub container: String,
}

/// `vzctl create`
#[derive(Debug, Args)]
pub struct VzctlCreate {
    /// Its number from 101 up, or a UUID
    #[arg(value_name = "CTID")]
    pub container: String,
    /// From which template; without it DEF_OSTEMPLATE of vz.conf
    #[arg(long, value_name = "TEMPLATE")]
    pub ostemplate: Option<String>,
    /// Begin with the settings of /etc/vz/conf/ve-SAMPLE.conf-sample
    #[arg(long, value_name = "SAMPLE")]
    pub config: Option<String>,
    /// What to call it, beside its number
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Its UUID; without it a new one
    #[arg(long)]
    pub uuid: Option<String>,
    /// Accepted where it says what is so anyway
    #[arg(long, value_name = "PATH")]
    pub private: Option<PathBuf>,
    /// Accepted where it says what is so anyway
    #[arg(long, value_name = "PATH")]
    pub root: Option<PathBuf>,
    /// Where its files lie: ploop, a disk of its own, or simfs, a directory; without it VOLUME of vz.conf
    #[arg(long, value_name = "ploop|simfs")]
    pub layout: Option<String>,
    /// Accepted: none are installed at a creation
    #[arg(long, alias = "skip_app_templates")]
    pub skip_app_templates: bool,
    /// Accepted: there is nothing that it could override
    #[arg(long)]
    pub force: bool,
    /// Memory: bytes, or with K, M, G, T
    #[arg(long, allow_hyphen_values = true, value_name = "SIZE", conflicts_with_all = ["memsize", "physpages"])]
    pub ram: Option<String>,
    /// What is to be set on top of the sample
    #[command(flatten)]
    pub settings: Settings,
}

/// `vzctl start`
#[derive(Debug, Args)]
pub struct VzctlStart {
    /// The container
    #[arg(value_name = "CTID")]
    pub container: String,
    /// Wait until it is up
    #[arg(long)]
    pub wait: bool,
    /// Accepted: a disk of its own is always looked at before it is mounted
    #[arg(long)]
    pub skip_fsck: bool,
    /// Also one that DISABLED keeps from being started
    #[arg(long)]
    pub force: bool,
    /// Accepted: `vzctl reinstall` gives it a new root, with the old one at /old
    #[arg(long)]
    pub repair: bool,
}

/// `vzctl stop`
#[derive(Debug, Args)]
pub struct VzctlStopOnly {
    /// Accepted: `vzctl mount` shows its root afterwards
    #[arg(long, alias = "skip_umount")]
    pub skip_umount: bool,
    /// As of a restart
    #[command(flatten)]
    pub stop: VzctlStop,
}

/// `vzctl enter`
#[derive(Debug, Args)]
pub struct VzctlEnter {
    /// The container
    #[arg(value_name = "CTID")]
    pub container: String,
    /// A command instead of the shell: all words behind it
    #[arg(long, num_args = 1.., allow_hyphen_values = true, value_name = "COMMAND")]
    pub exec: Vec<OsString>,
}

/// `vzctl stop` and `vzctl restart`
#[derive(Debug, Args)]
pub struct VzctlStop {
    /// The container
    #[arg(value_name = "CTID")]
    pub container: String,
    /// At once, without asking it
    #[arg(long)]
    pub fast: bool,
    /// After a restart, accepted: `prlctl start --wait` waits
    #[arg(long, hide = true)]
    pub wait: bool,
}

/// `vzctl exec`, `exec2`, `exec3`
#[derive(Debug, Args)]
pub struct VzctlExec {
    /// The container
    #[arg(value_name = "CTID")]
    pub container: String,
    /// The command; `-` reads a script from stdin
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// `vzctl set`
#[derive(Debug, Args)]
pub struct VzctlSet {
    /// The container
    #[arg(value_name = "CTID")]
    pub container: String,
    /// Write it to ve.conf, too
    #[arg(long)]
    pub save: bool,
    /// Another name for it; its number stays
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Take the settings of /etc/vz/conf/ve-SAMPLE.conf-sample; what else is said comes on top
    #[arg(long, value_name = "SAMPLE")]
    pub applyconfig: Option<String>,
    /// Accepted: nothing that can be set wants a restart
    #[arg(long, value_name = "restart|ignore", value_parser = ["restart", "ignore"])]
    pub setmode: Option<String>,
    /// An address that it has no more, or all; may be repeated
    #[arg(long, value_name = "ADDRESS|all")]
    pub ipdel: Vec<String>,
    /// Its disks
    #[command(flatten)]
    pub devices: Devices,
    /// Memory: bytes, or with K, M, G, T
    #[arg(long, allow_hyphen_values = true, value_name = "SIZE", conflicts_with_all = ["memsize", "physpages"])]
    pub ram: Option<String>,
    /// What is to be set
    #[command(flatten)]
    pub settings: Settings,
}

/// `vzctl reinstall`
#[derive(Debug, Args)]
pub struct VzctlReinstall {
    /// Accepted, as there, where it has no effect
    #[arg(long, value_name = "OPTIONS", hide = true)]
    pub vzpkg_opts: Option<String>,
    /// All that `prlctl reinstall` takes
    #[command(flatten)]
    pub reinstall: Reinstall,
}

/// List containers, as legacy OpenVZ does
#[derive(Debug, Parser)]
#[command(name = "vzlist", version, max_term_width = 110, disable_help_flag = true)]
#[command(
    after_help = "Without -a and -S: those that run, or are mounted. PATTERN may have `*` and `?`.\n\nExamples:\n  vzlist -a\n  vzlist -H -o ctid,status,hostname -s -ctid\n  vzlist -1\n  vzlist -j 101"
)]
pub struct Vzlist {
    /// Only these
    #[arg(value_name = "CTID")]
    pub containers: Vec<String>,
    /// All of them
    #[arg(short, long)]
    pub all: bool,
    /// Only those that do not run
    #[arg(short = 'S', long, conflicts_with = "all")]
    pub stopped: bool,
    /// No header
    #[arg(short = 'H', long)]
    pub no_header: bool,
    /// As JSON
    #[arg(short = 'j', long)]
    pub json: bool,
    /// Names instead of host names
    #[arg(short = 'n', long)]
    pub name: bool,
    /// Columns, separated by commas; -L lists them
    #[arg(short = 'o', long, value_name = "FIELD,…", value_delimiter = ',', conflicts_with_all = ["name", "only_ctid"])]
    pub output: Vec<String>,
    /// Sort by a column; with - before it, the other way round
    #[arg(short, long, value_name = "[-]FIELD", allow_hyphen_values = true)]
    pub sort: Option<String>,
    /// Only those with such a host name
    #[arg(short = 'h', long, value_name = "PATTERN")]
    pub hostname: Option<String>,
    /// Only those with such a name
    #[arg(short = 'N', long, value_name = "PATTERN")]
    pub name_filter: Option<String>,
    /// Only those with such a description
    #[arg(short, long, value_name = "PATTERN")]
    pub description: Option<String>,
    /// Numbers alone, without a header
    #[arg(short = '1', long)]
    pub only_ctid: bool,
    /// List the columns there are
    #[arg(short = 'L', long)]
    pub list: bool,
    /// Print help
    #[arg(long, action = ArgAction::Help)]
    pub help: Option<bool>,
}
