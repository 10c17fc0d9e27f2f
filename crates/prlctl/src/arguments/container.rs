//! Of commands on containers.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

use super::{Common, NewDisk, Settings};

/// `prlctl create`
#[derive(Debug, Args)]
pub struct Create {
    /// Its name
    pub name: String,
    /// The only kind there is
    #[arg(long, value_name = "ct", default_value = "ct")]
    pub vmtype: String,
    /// From which template, or which version of it, NAME@VERSION, to which it is pinned then; without it DEF_OSTEMPLATE of vz.conf
    #[arg(short = 't', long, visible_alias = "ostemplates", value_name = "TEMPLATE")]
    pub ostemplate: Option<String>,
    /// Its UUID; without it a new one
    #[arg(long)]
    pub uuid: Option<String>,
    /// A number as OpenVZ had it, from 101 up, by which it can be named, too
    #[arg(long, value_name = "NUMBER")]
    pub ctid: Option<String>,
    /// For the cloud-init of the template: its user data, in this file; `-` is standard input. Reinstalls hand it on
    #[arg(long, value_name = "FILE")]
    pub user_data: Option<PathBuf>,
    /// Begin with the settings of /etc/vz/conf/ve-SAMPLE.conf-sample
    #[arg(long, value_name = "SAMPLE")]
    pub config: Option<String>,
    /// Where its files lie: in a directory, in an image, as large as --diskspace, or in a subvolume, where /vz is a btrfs; without it VOLUME of vz.conf
    #[arg(long, value_name = "directory|image|btrfs")]
    pub volume: Option<String>,
    /// Its disk beside that of its root
    #[command(flatten)]
    pub disk: NewDisk,
    /// What is to be set on top of the sample
    #[command(flatten)]
    pub settings: Settings,
    /// Options of every command
    #[command(flatten)]
    pub common: Common,
}

/// `prlctl start`
#[derive(Debug, Args)]
pub struct Start {
    /// The container
    pub container: String,
    /// Also one that DISABLED keeps from being started
    #[arg(long)]
    pub force: bool,
    /// Wait until it is up
    #[arg(long)]
    pub wait: bool,
    /// Accepted: `prlctl reinstall` gives it a new root, with the old one at /old
    #[arg(long)]
    pub repair: bool,
    /// With --wait: for so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 600, value_parser = clap::value_parser!(u64).range(..=86_400))]
    pub timeout: u64,
    /// Options of every command
    #[command(flatten)]
    pub common: Common,
}

/// `prlctl stop`
#[derive(Debug, Args)]
pub struct Stop {
    /// The container
    #[arg(required_unless_present = "all")]
    pub container: Option<String>,
    /// Every container that runs, the lowest BOOTORDER first, VE_PARALLEL of vz.conf at once
    #[arg(long, conflicts_with = "container")]
    pub all: bool,
    /// What has not stopped within so many seconds in all, with its action scripts, is killed; with --all they are those of all together
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(..=86_400))]
    pub deadline: Option<u64>,
    /// At once, without asking it
    #[arg(long, visible_alias = "fast")]
    pub kill: bool,
    /// Kill it when it has not stopped within so many seconds; without it STOP_TIMEOUT of vz.conf, or 120
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(..=86_400))]
    pub timeout: Option<u64>,
    /// With the host: one that is to be as it was when that comes up again is started then
    #[arg(long, hide = true, requires = "container")]
    pub with_host: bool,
    /// Options of every command
    #[command(flatten)]
    pub common: Common,
}

/// `prlctl restart`
#[derive(Debug, Args)]
pub struct Restart {
    /// The container
    pub container: String,
    /// At once, without asking it
    #[arg(long, visible_alias = "fast")]
    pub kill: bool,
    /// Kill it when it has not stopped within so many seconds; without it STOP_TIMEOUT of vz.conf, or 120
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(..=86_400))]
    pub timeout: Option<u64>,
    /// Options of every command
    #[command(flatten)]
    pub common: Common,
}

/// `prlctl status`
#[derive(Debug, Args)]
pub struct Status {
    /// The container
    pub container: String,
    /// As JSON
    #[arg(short = 'j', long)]
    pub json: bool,
}

/// `prlctl list`
#[derive(Debug, Args)]
pub struct List {
    /// Only this one
    pub container: Option<String>,
    /// Also those that do not run
    #[arg(short, long)]
    pub all: bool,
    /// Columns, separated by commas; -L lists them
    #[arg(short = 'o', long, value_name = "FIELD,…", value_delimiter = ',')]
    pub output: Vec<String>,
    /// Sort by a column; with - before it, the other way round
    #[arg(short, long, value_name = "FIELD", allow_hyphen_values = true)]
    pub sort: Option<String>,
    /// Only those that are templates for others, TEMPLATE="yes"; what roots are made from is listed by `vzpkg list`
    #[arg(short, long)]
    pub template: bool,
    /// No header
    #[arg(short = 'H', long)]
    pub no_header: bool,
    /// List the columns there are
    #[arg(short = 'L', long)]
    pub list_fields: bool,
    /// Everything about each
    #[arg(short, long)]
    pub info: bool,
    /// Accepted with -i, which tells everything anyway
    #[arg(short, long)]
    pub full: bool,
    /// Only containers of this kind
    #[arg(long, value_name = "ct|all", default_value = "all")]
    pub vmtype: String,
    /// As JSON
    #[arg(short = 'j', long)]
    pub json: bool,
}

/// `prlctl exec`
#[derive(Debug, Args)]
pub struct Exec {
    /// The container
    pub container: String,
    /// Execute the words as they are
    #[arg(long)]
    pub without_shell: bool,
    /// The command; `-` reads a script from stdin
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// `prlctl enter`
#[derive(Debug, Args)]
pub struct Enter {
    /// The container
    pub container: String,
}

/// `prlctl delete`
#[derive(Debug, Args)]
pub struct Delete {
    /// The container
    pub container: String,
    /// Kill it when it runs
    #[arg(long)]
    pub force: bool,
    /// Options of every command
    #[command(flatten)]
    pub common: Common,
}

/// `prlctl mount`
#[derive(Debug, Args)]
pub struct Mount {
    /// The container
    pub container: String,
    /// Another of its roots, read-only: one that has failed, say
    #[arg(long, value_name = "N")]
    pub generation: Option<u32>,
    /// Options of every command
    #[command(flatten)]
    pub common: Common,
}

/// `prlctl move`
#[derive(Debug, Args)]
pub struct Move {
    /// The container
    pub container: String,
    /// Into a directory, into an image, as large as its DISKSPACE, or into a subvolume of btrfs
    #[arg(long, value_name = "directory|image|btrfs")]
    pub volume: String,
    /// How large its disk is to be there: blocks of 1 KiB, or with K, M, G, T; without it its DISKSPACE
    #[arg(long, allow_hyphen_values = true, value_name = "SIZE")]
    pub diskspace: Option<String>,
    /// Options of every command
    #[command(flatten)]
    pub common: Common,
}

/// `prlctl statistics`
#[derive(Debug, Args)]
pub struct Statistics {
    /// The container
    #[arg(required_unless_present = "all")]
    pub container: Option<String>,
    /// All that run
    #[arg(short, long, conflicts_with = "container")]
    pub all: bool,
    /// Only what begins so, `net` or `cpu.time`; may be repeated
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub filter: Vec<String>,
    /// Again and again, every so many seconds
    #[arg(long = "loop", value_name = "SECONDS", num_args = 0..=1, default_missing_value = "1")]
    pub every: Option<u64>,
    /// As JSON
    #[arg(short = 'j', long)]
    pub json: bool,
}
