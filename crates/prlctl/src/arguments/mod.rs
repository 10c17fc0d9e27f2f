//! The command lines, as the original spells them.

mod container;
mod devices;
mod generation;
mod interfaces;
mod log;
mod register;
mod reinstall;
mod settings;
mod template;
mod vzctl;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

pub use container::{
    Create, Delete, Enter, Exec, List, Mount, Move, Restart, Start, Statistics, Status, Stop,
};
pub use devices::{Devices, NewDisk};
pub use generation::{
    GenerationDelete, GenerationDiff, GenerationFlatten, GenerationList, GenerationRestore, GenerationSwitch,
};
pub use interfaces::Interfaces;
pub use log::{Events, Log, ReinstallReport};
pub use register::Register;
pub use reinstall::{ProbationNetwork, Reinstall, ScriptRun};
pub use settings::{Set, Settings};
pub use template::{
    CollectTemplates, CreateTemplate, InstallPackages, ListTemplates, RemoveTemplate, SourceOptions,
    UpdateTemplate, VerifyTemplates, VzpkgCommand,
};

pub use vzctl::{
    OfContainer, Vzctl, VzctlCommand, VzctlCreate, VzctlEnter, VzctlExec, VzctlReinstall, VzctlSet,
    VzctlStart, VzctlStop, VzctlStopOnly, Vzlist,
};

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
    after_help = "Examples:\n  vzpkg create cache debian-12\n  vzpkg create cache busybox\n  vzpkg list\n  vzpkg update cache debian-12\n  vzpkg remove cache busybox"
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
    #[command(
        after_help = "Examples:\n  prlctl create web01 --ostemplate debian-12\n  prlctl create web02 --ostemplate debian-12@5b1c9f0e3a12"
    )]
    Create(Create),
    /// Change what a container may use of the host, and what it is called
    #[command(
        after_help = "At once where it runs, and in its ve.conf; all that one command says, or none of it. `prlctl list -i` shows what holds.\n\n\
        Examples:\n  prlctl set web01 --memsize 2G --swap 512M --cpus 2\n  prlctl set web01 --onboot yes --hostname web01.example.com\n  prlctl set web01 --applyconfig basic --numproc 800"
    )]
    Set(Set),
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
    /// Show what containers have used since they were started: processors, memory, disks, network
    #[command(
        after_help = "Examples:\n  prlctl statistics web01\n  prlctl statistics -a --filter net -j\n  prlctl statistics web01 --loop 5"
    )]
    Statistics(Statistics),
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
    /// Give back to the host's disk what is free on a container's own
    #[command(
        after_help = "Of one in an image: what it deletes is given back by and by; this does it now.\n\nExample:\n  prlctl compact web01"
    )]
    Compact(Named),
    /// Put a container's files somewhere else, all its roots with them
    #[command(
        after_help = "It has to be stopped. Until all is copied, and durable, it stays where it was.\n\nExamples:\n  prlctl move web01 --volume image\n  prlctl move web01 --volume directory"
    )]
    Move(Move),
    /// Make a container of a private area of OpenVZ, or of one that was unregistered
    ///
    /// Of OpenVZ: its root is copied, with everything that a file has; the area itself is only read. Its configuration comes along: what has no meaning here is kept, and
    /// told. It must not run, here or elsewhere.
    #[command(
        after_help = "Examples:\n  prlctl register /vz/old/101\n  prlctl register /vz/old/101 --config /root/old/101.conf --name web01\n  prlctl register /vz/old/b1c7… --preserve-uuid\n  prlctl register /vz/private/9e3f3a2c-0f5e-4f0b-8d8a-2b1d6a9c1e77"
    )]
    Register(Register),
    /// Have a stopped container be none any more, and leave its private area where it is
    ///
    /// Nothing of it is deleted: its links and what is mounted of it go, `list` does not show it, and nothing starts it. `prlctl register` of that directory, here or, moved as a
    /// whole, on another host, makes it a container again.
    #[command(
        after_help = "Examples:\n  prlctl unregister web01\n  prlctl register /vz/private/9e3f3a2c-0f5e-4f0b-8d8a-2b1d6a9c1e77"
    )]
    Unregister(Named),
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
    /// Make the live root independent of its template
    ///
    /// All that is in the template becomes a part of the root itself, which takes as much room as both, and as long as to copy them; where the filesystem
    /// can share blocks, neither. A container that runs is stopped meanwhile, and started on it.
    #[command(after_help = "Example:\n  prlctl generation-flatten web01")]
    GenerationFlatten(GenerationFlatten),
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
    /// Tell what this host can do, feature by feature, or which of a container's settings are obeyed
    #[command(after_help = "Examples:\n  prlctl info\n  prlctl info web01")]
    Info(Info),
    /// Make man pages and completions, or list what tests need to know
    #[command(hide = true)]
    Generate(Generate),
    /// Empty the trash
    #[command(hide = true)]
    EmptyTrash,
    /// Say to the packet filter again what somebody has flushed
    #[command(hide = true)]
    RestoreFilter,
    /// Draw what is told on stdin
    #[command(hide = true)]
    DrawProgress,
    /// Undo the compression of an archive, from standard input to standard output, shut in
    #[command(hide = true)]
    UndoCompression {
        /// Of which kind
        kind: String,
        /// How many bytes of it
        length: u64,
    },
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
    /// What of the ve.conf of this container is obeyed, instead
    pub container: Option<String>,
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
