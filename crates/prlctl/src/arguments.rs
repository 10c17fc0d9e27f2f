//! The command lines, as the original spells them.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Linux system containers whose broken root can be replaced without losing a file
#[derive(Debug, Parser)]
#[command(name = "prlctl", version, max_term_width = 110, disable_help_subcommand = true)]
#[command(
    after_help = "A container is named by its name, its UUID with or without braces, or a unique start of either; what is deleted must be named in full.\n\
    REROOT_PREFIX names another directory than / to work under.\n\n\
    Examples:\n  vzpkg create cache debian-12\n  prlctl create web01 --ostemplate debian-12\n  \
    prlctl start web01\n  prlctl exec web01 systemctl is-system-running\n  prlctl reinstall web01\n  prlctl reinstall web01 --undo"
)]
pub struct Prlctl {
    /// What to do
    #[command(subcommand)]
    pub command: PrlctlCommand,
}

/// OS templates: what containers are made from
#[derive(Debug, Parser)]
#[command(name = "vzpkg", version, max_term_width = 110, disable_help_subcommand = true)]
#[command(
    after_help = "Examples:\n  vzpkg create cache debian-12\n  vzpkg create cache busybox\n  vzpkg list\n  vzpkg remove cache busybox"
)]
pub struct Vzpkg {
    /// What to do
    #[command(subcommand)]
    pub command: VzpkgCommand,
}

/// Options that every command has which works on a container.
#[derive(Debug, Clone, Args)]
pub struct Common {
    /// Wait so many seconds for another command's lock
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    pub lock_wait: u64,
    /// One JSON document on stdout, progress as JSON lines on stderr
    #[arg(short = 'j', long)]
    pub json: bool,
}

/// See [`Prlctl`].
#[derive(Debug, Subcommand)]
pub enum PrlctlCommand {
    /// Create a container
    #[command(after_help = "Example:\n  prlctl create web01 --ostemplate debian-12")]
    Create(Create),
    /// Start a container
    #[command(after_help = "Example:\n  prlctl start web01 --wait")]
    Start(Start),
    /// Stop a container
    #[command(
        after_help = "Examples:\n  prlctl stop web01\n  prlctl stop web01 --timeout 30\n  prlctl stop web01 --kill"
    )]
    Stop(Stop),
    /// Stop a container and start it again
    #[command(after_help = "Example:\n  prlctl restart web01")]
    Restart(Restart),
    /// Tell whether a container is there, and runs
    #[command(after_help = "Example:\n  prlctl status web01")]
    Status(Status),
    /// List containers
    #[command(
        after_help = "Examples:\n  prlctl list -a\n  prlctl list -a -o uuid,name,status -s name -H\n  prlctl list -i web01\n  prlctl list -L"
    )]
    List(List),
    /// Run a command in a container
    #[command(
        after_help = "The words are joined by spaces and run by `bash -c` in the container, `sh -c` if it has no bash.\n\n\
        Examples:\n  prlctl exec web01 'ls /old | head'\n  prlctl exec web01 --without-shell /bin/echo '*'\n  prlctl exec web01 - < script.sh"
    )]
    Exec(Exec),
    /// Open a shell in a container
    #[command(after_help = "Example:\n  prlctl enter web01")]
    Enter(Enter),
    /// Delete a container
    #[command(
        after_help = "Examples:\n  prlctl delete web01\n  prlctl delete web01 --force",
        visible_alias = "destroy"
    )]
    Delete(Delete),
    /// Mount a container's root on the host, at /vz/root/UUID
    #[command(
        after_help = "That of a running container is read-only, and so is any other root.\n\nExamples:\n  prlctl mount web01\n  prlctl mount web01 --generation 2"
    )]
    Mount(Mount),
    /// Unmount what `mount` has mounted
    #[command(after_help = "Example:\n  prlctl umount web01")]
    Umount(Named),
    /// Give a container a new root; its old one is at /old, whole
    #[command(
        after_help = "Examples:\n  prlctl reinstall web01\n  prlctl reinstall web01 --ostemplate debian-12 --skipscripts\n  \
        prlctl reinstall web01 --keep home --keep ssh-host-keys --keep /srv/www\n  prlctl reinstall web01 --keep-changed /etc\n  prlctl reinstall web01 --skipbackup\n  prlctl reinstall web01 --resetpwdb --password root:-\n  \
        prlctl reinstall web01 --health 'curl -fs http://127.0.0.1/'\n  prlctl reinstall web01 --undo\n  prlctl reinstall web01 --dry-run\n  prlctl reinstall web01 web02 web03\n  prlctl reinstall --based-on debian-12 --parallel 4 --max-failures 1 --yes"
    )]
    Reinstall(Reinstall),
    /// List the roots of a container
    #[command(
        after_help = "Of the live root and what is at its /old, /old/old, …; with --all of every root there is. What the next reinstall deletes, by REINSTALL_RETAIN, is marked.\n\nExamples:\n  prlctl generation-list web01 --all\n  prlctl generation-list web01 --size"
    )]
    GenerationList(GenerationList),
    /// Tell what a root has changed of its template
    #[command(
        after_help = "A line for each path, sorted: A added, M changed, D deleted, R a renamed directory; a c beside it marks configuration of a package.\n\n\
        Examples:\n  prlctl generation-diff web01\n  prlctl generation-diff web01 /etc\n  prlctl generation-diff web01 1 --stat\n  prlctl generation-diff web01 1 /srv -j"
    )]
    GenerationDiff(GenerationDiff),
    /// Make another root of a container the live one
    #[command(after_help = "Example:\n  prlctl generation-switch web01 2")]
    GenerationSwitch(GenerationSwitch),
    /// Bring a file or a tree of an old root back into the live one
    #[command(
        after_help = "Of a container that runs or is stopped. Nothing is overwritten: what is in the way is a reason to refuse, or is saved.\n\n\
        Examples:\n  prlctl generation-restore web01 1 /etc/nginx\n  prlctl generation-restore web01 1 /etc/nginx --to /root/nginx.old\n  \
        prlctl generation-restore web01 1 /srv/www/index.html --replace"
    )]
    GenerationRestore(GenerationRestore),
    /// Delete a root of a container that is not live
    #[command(after_help = "Example:\n  prlctl generation-delete web01 1")]
    GenerationDelete(GenerationDelete),
    /// Show what was done with a container: operations, their steps, what scripts wrote
    #[command(after_help = "Each line has the seconds since its operation began.\n\n\
        Examples:\n  prlctl log web01 --last\n  prlctl log web01 -f\n  prlctl log web01 -j | jq 'select(.event == \"script\")'")]
    Log(Log),
    /// Show what is done on this host
    #[command(
        after_help = "Without --since and -f: of the last 24 hours. What scripts wrote is left to `prlctl log`, or to -j.\n\n\
        Examples:\n  prlctl events -f\n  prlctl events --since 2h\n  prlctl events --since 2026-11-22T03:00 -j"
    )]
    Events(Events),
    /// Show the report of a container's last reinstall
    #[command(after_help = "Example:\n  prlctl reinstall-report web01")]
    ReinstallReport(ReinstallReport),
    /// Try a script of the host: run it as a reinstall would, in a root that is thrown away
    #[command(
        after_help = "SCRIPT is vps.reinstall, vps.configure, or the name of one in /etc/vz/reinstall.d. Everything is done that a reinstall does until its commit, with\n\
        that script alone, and then undone. The container does not run meanwhile: one that runs wants --stop, and runs again afterwards.\n\n\
        Examples:\n  prlctl script-run web01 vps.configure\n  prlctl script-run web01 10-mail.sh --stop\n  prlctl script-run web01 vps.configure --generation 1"
    )]
    ScriptRun(ScriptRun),
    /// Bring to an end what dead commands have left under way
    #[command(
        after_help = "Examples:\n  prlctl recover\n  prlctl recover web01\n  prlctl recover --rebuild web01"
    )]
    Recover(Recover),
    /// Tell what this host can do, feature by feature
    #[command(after_help = "Example:\n  prlctl info")]
    Info(Info),
    /// Make man pages and completions, or list what tests need to know
    #[command(hide = true)]
    Generate(Generate),
    /// Empty the trash
    #[command(hide = true)]
    EmptyTrash,
    /// Draw what is told on stdin
    #[command(hide = true)]
    DrawProgress,
}

/// A container and nothing else.
#[derive(Debug, Args)]
pub struct Named {
    /// The container
    pub container: String,
    /// Options of every command
    #[command(flatten)]
    pub common: Common,
}

/// `prlctl create`
#[derive(Debug, Args)]
pub struct Create {
    /// Its name
    pub name: String,
    /// The only kind there is
    #[arg(long, value_name = "ct", default_value = "ct")]
    pub vmtype: String,
    /// From which template; without it DEF_OSTEMPLATE of vz.conf
    #[arg(short = 't', long, visible_alias = "ostemplates", value_name = "TEMPLATE")]
    pub ostemplate: Option<String>,
    /// Its UUID; without it a new one
    #[arg(long)]
    pub uuid: Option<String>,
    /// Begin with the settings of /etc/vz/conf/ve-SAMPLE.conf-sample
    #[arg(long, value_name = "SAMPLE")]
    pub config: Option<String>,
    /// Options of every command
    #[command(flatten)]
    pub common: Common,
}

/// `prlctl start`
#[derive(Debug, Args)]
pub struct Start {
    /// The container
    pub container: String,
    /// Wait until it is up
    #[arg(long)]
    pub wait: bool,
    /// With --wait: for so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
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
    /// Every container that runs
    #[arg(long, conflicts_with = "container")]
    pub all: bool,
    /// At once, without asking it
    #[arg(long, visible_alias = "fast")]
    pub kill: bool,
    /// Kill it when it has not stopped within so many seconds; without it STOP_TIMEOUT of vz.conf, or 120
    #[arg(long, value_name = "SECONDS")]
    pub timeout: Option<u64>,
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
    #[arg(long, value_name = "SECONDS")]
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

/// `prlctl log`
#[derive(Debug, Args)]
pub struct Log {
    /// The container; of one that was deleted, its UUID
    pub container: String,
    /// Only the last operation
    #[arg(long)]
    pub last: bool,
    /// Go on with what is being done, until interrupted
    #[arg(short, long)]
    pub follow: bool,
    /// A JSON object a line: docs/format/events.md
    #[arg(short, long)]
    pub json: bool,
}

/// `prlctl events`
#[derive(Debug, Args)]
pub struct Events {
    /// From then on: a time, or how long ago
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Go on with what is being done, until interrupted
    #[arg(short, long)]
    pub follow: bool,
    /// A JSON object a line: docs/format/events.md
    #[arg(short, long)]
    pub json: bool,
}

/// `prlctl reinstall-report`
#[derive(Debug, Args)]
pub struct ReinstallReport {
    /// The container
    pub container: String,
    /// One JSON document
    #[arg(short, long)]
    pub json: bool,
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
    /// Every container whose OSTEMPLATE that is
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
    /// Set a password for one user of the new root; `-` is all that is ever written there: it is read from stdin, one line, without echo on a terminal
    #[arg(long, value_name = "USER:-", conflicts_with_all = ["undo", "listscripts"])]
    pub password: Option<String>,
    /// Take the new root only when this command, run in it by `sh -c` until then, exits with 0; without it HEALTH of ve.conf or vz.conf; '' for none
    #[arg(long, value_name = "COMMAND", allow_hyphen_values = true)]
    pub health: Option<String>,
    /// Take a new root also when units of its systemd have failed that had not in the old one
    #[arg(long)]
    pub allow_degraded: bool,
    /// Delete a new root that ran and was given up, instead of keeping it for a look
    #[arg(long)]
    pub drop_failed: bool,
    /// From another template
    #[arg(short = 't', long, visible_alias = "ostemplates", value_name = "TEMPLATE")]
    pub ostemplate: Option<String>,
    /// Go back to the root before
    #[arg(long, conflicts_with_all = ["skipbackup", "skipscripts", "scripts", "resetpwdb", "keep", "keep_changed", "health", "allow_degraded", "drop_failed", "ostemplate", "listscripts"])]
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

/// `prlctl generation-list`
#[derive(Debug, Args)]
pub struct GenerationList {
    /// The container
    pub container: String,
    /// Every root there is, not only those that the live one leads to
    #[arg(short, long)]
    pub all: bool,
    /// Also how much each has changed: files and bytes of its delta, which takes a walk through it
    #[arg(long)]
    pub size: bool,
    /// No header
    #[arg(short = 'H', long)]
    pub no_header: bool,
    /// As JSON
    #[arg(short = 'j', long)]
    pub json: bool,
}

/// `prlctl generation-diff`
#[derive(Debug, Args)]
pub struct GenerationDiff {
    /// The container
    pub container: String,
    /// The root; without it the live one
    #[arg(value_name = "N")]
    pub number: Option<OsString>,
    /// Only what is there and below, a path in the container that begins with /
    #[arg(value_name = "PATH")]
    pub path: Option<OsString>,
    /// Only how many and how much, for each directory and in all
    #[arg(long)]
    pub stat: bool,
    /// As JSON
    #[arg(short = 'j', long)]
    pub json: bool,
}

/// `prlctl generation-switch`
#[derive(Debug, Args)]
pub struct GenerationSwitch {
    /// The container
    pub container: String,
    /// The root
    #[arg(value_name = "N")]
    pub number: u32,
    /// Seconds for the boot
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    pub timeout: u64,
    /// Options of every command
    #[command(flatten)]
    pub common: Common,
}

/// `prlctl generation-restore`
#[derive(Debug, Args)]
pub struct GenerationRestore {
    /// The container
    pub container: String,
    /// The old root
    #[arg(value_name = "N")]
    pub number: u32,
    /// What of it: a path in the container that begins with /
    pub path: PathBuf,
    /// Put it there; without it where it was
    #[arg(long, value_name = "PATH")]
    pub to: Option<PathBuf>,
    /// Save what is there as NAME.before-restore; without it that is refused
    #[arg(long)]
    pub replace: bool,
    /// Options of every command
    #[command(flatten)]
    pub common: Common,
}

/// `prlctl generation-delete`
#[derive(Debug, Args)]
pub struct GenerationDelete {
    /// The container
    pub container: String,
    /// The root
    #[arg(value_name = "N")]
    pub number: u32,
    /// Options of every command
    #[command(flatten)]
    pub common: Common,
}

/// `prlctl recover`
#[derive(Debug, Args)]
pub struct Recover {
    /// The container; without one: all
    pub container: Option<String>,
    /// Also start what has ONBOOT="yes"; what the unit runs at boot
    #[arg(long, conflicts_with = "container")]
    pub boot: bool,
    /// Make damaged records of the container again from what lies on disk
    #[arg(long, requires = "container")]
    pub rebuild: bool,
    /// As JSON
    #[arg(short = 'j', long)]
    pub json: bool,
}

/// `prlctl info`
#[derive(Debug, Args)]
pub struct Info {
    /// As JSON
    #[arg(short = 'j', long)]
    pub json: bool,
}

/// `prlctl generate`
#[derive(Debug, Args)]
pub struct Generate {
    /// `man`, `completions` or `fault-points`
    pub what: String,
    /// The directory to write to
    pub directory: Option<PathBuf>,
}

/// See [`Vzpkg`].
#[derive(Debug, Subcommand)]
pub enum VzpkgCommand {
    /// Make a template
    #[command(after_help = "Example:\n  vzpkg create cache debian-12")]
    Create(CreateTemplate),
    /// List the templates of this host
    #[command(after_help = "Example:\n  vzpkg list -j")]
    List(ListTemplates),
    /// Remove a template
    #[command(after_help = "Example:\n  vzpkg remove cache busybox")]
    Remove(RemoveTemplate),
}

/// `vzpkg create cache`
#[derive(Debug, Args)]
pub struct CreateTemplate {
    /// The word `cache`
    #[arg(value_parser = ["cache"])]
    pub cache: String,
    /// debian-11, debian-12, debian-13 or busybox
    pub name: String,
    /// A directory with a finished root of that distribution; it is moved or copied
    #[arg(long, value_name = "DIR", hide = true)]
    pub built_root: Option<PathBuf>,
    /// Options of every command
    #[command(flatten)]
    pub common: Common,
}

/// `vzpkg list`
#[derive(Debug, Args)]
pub struct ListTemplates {
    /// No header
    #[arg(short = 'H', long)]
    pub no_header: bool,
    /// As JSON
    #[arg(short = 'j', long)]
    pub json: bool,
}

/// `vzpkg remove cache`
#[derive(Debug, Args)]
pub struct RemoveTemplate {
    /// The word `cache`
    #[arg(value_parser = ["cache"])]
    pub cache: String,
    /// The template
    pub name: String,
    /// Options of every command
    #[command(flatten)]
    pub common: Common,
}
