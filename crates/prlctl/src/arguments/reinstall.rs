//! Of `prlctl reinstall` and `script-run`.

use std::path::PathBuf;

use clap::Args;

use super::Common;

/// What a root on probation may say to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ProbationNetwork {
    /// Everything.
    Full,
    /// It calls, and is answered.
    Outgoing,
    /// Nothing.
    None,
}

/// `prlctl reinstall`
#[derive(Debug, Args)]
pub struct Reinstall {
    /// The container, or several
    #[arg(required_unless_present_any = ["all", "based_on"], value_name = "CONTAINER")]
    pub containers: Vec<String>,
    /// Every container of this host
    #[arg(long, conflicts_with_all = ["containers", "based_on"])]
    pub all: bool,
    /// Every container whose OSTEMPLATE that is, pinned to a version of it or not
    #[arg(long, value_name = "TEMPLATE", conflicts_with = "containers")]
    pub based_on: Option<String>,
    /// Of several, so many at once; without it as many as there are processors
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..))]
    pub parallel: Option<u8>,
    /// Of several, begin no more once so many have failed
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_failures: Option<u32>,
    /// Of several, do not ask
    #[arg(short, long)]
    pub yes: bool,
    /// Delete the old root once the reinstall is complete
    #[arg(long, visible_alias = "no-backup")]
    pub skipbackup: bool,
    /// Run no script of any kind
    #[arg(long, visible_alias = "no-scripts")]
    pub skipscripts: bool,
    /// Of /etc/vz/reinstall.d, run only these; an empty list is --skipscripts
    #[arg(long, value_name = "SCRIPT,…", conflicts_with = "skipscripts")]
    pub scripts: Vec<String>,
    /// Run also the scripts in /etc/vz/reinstall.d of the old root, in the new one, after those of the host
    #[arg(long, conflicts_with_all = ["skipscripts", "undo"])]
    pub scripts_from_old: bool,
    /// List the scripts of /etc/vz/reinstall.d and stop
    #[arg(long)]
    pub listscripts: bool,
    /// With --listscripts: their descriptions
    #[arg(long, requires = "listscripts")]
    pub desc: bool,
    /// Do not carry the users over
    #[arg(long)]
    pub resetpwdb: bool,
    /// Keep this of the old root: a path, whose names may have `*`, or a set of /etc/vz/keep.d: cron, home, machine-id, network, packages,
    /// ssh-host-keys, ssh-keys; may be repeated
    #[arg(long, value_name = "PATH|SET")]
    pub keep: Vec<String>,
    /// Keep of this path only what the container changed there against its template: what it added and changed, not what it deleted; may be
    /// repeated
    #[arg(long, value_name = "PATH")]
    pub keep_changed: Vec<String>,
    /// For the cloud-init of the new root: its user data, in this file; `-` is standard input. Without it, that of the old root
    #[arg(long, value_name = "FILE", conflicts_with_all = ["undo", "listscripts"])]
    pub user_data: Option<PathBuf>,
    /// Set a password for one user of the new root; `-` is all that is ever written there: it is read from stdin, one line, without echo on a terminal
    #[arg(long, value_name = "USER:-", conflicts_with_all = ["undo", "listscripts"])]
    pub password: Option<String>,
    /// Take the new root only when this command, run in it by `sh -c` until then, exits with 0; without it HEALTH of ve.conf or vz.conf; '' for none
    #[arg(long, value_name = "COMMAND", allow_hyphen_values = true)]
    pub health: Option<String>,
    /// Take a new root also when units of its systemd have failed that had not in the old one
    #[arg(long)]
    pub allow_degraded: bool,
    /// What the new root may say to others before it is taken: outgoing lets it call out, and nobody reach it, so that it takes in nothing
    /// that an undo would lose
    #[arg(long, value_name = "full|outgoing|none", default_value = "outgoing")]
    pub probation_network: ProbationNetwork,
    /// Do not install what TEMPLATES of ve.conf names
    #[arg(long, alias = "skip_app_templates")]
    pub skip_app_templates: bool,
    /// Delete a new root that ran and was given up, instead of keeping it for a look
    #[arg(long)]
    pub drop_failed: bool,
    /// From another template, or another version, NAME@VERSION, to which it is pinned then; NAME alone is its latest
    #[arg(short = 't', long, visible_alias = "ostemplates", value_name = "TEMPLATE")]
    pub ostemplate: Option<String>,
    /// Go back to the root before
    #[arg(long, conflicts_with_all = ["skipbackup", "skipscripts", "scripts", "resetpwdb", "keep", "keep_changed", "health", "allow_degraded", "skip_app_templates", "drop_failed", "ostemplate", "listscripts"])]
    pub undo: bool,
    /// Print the plan and change nothing
    #[arg(long, conflicts_with_all = ["undo", "listscripts"])]
    pub dry_run: bool,
    /// Seconds for each script, for the boot, and for --health
    #[arg(long, value_name = "SECONDS", default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub timeout: u64,
    /// Options of every command
    #[command(flatten)]
    pub common: Common,
}

/// `prlctl script-run`
#[derive(Debug, Args)]
pub struct ScriptRun {
    /// The container
    pub container: String,
    /// The script
    pub script: String,
    /// What is at /old, and --ve_private, instead of the live root
    #[arg(long, value_name = "N")]
    pub generation: Option<u32>,
    /// Stop the container for as long as it takes
    #[arg(long)]
    pub stop: bool,
    /// Seconds for the script and for the boot
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    pub timeout: u64,
    /// Options of every command
    #[command(flatten)]
    pub common: Common,
}
