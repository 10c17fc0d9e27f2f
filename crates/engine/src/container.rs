//! One container, locked: its roots, what a start of it takes, and starting and stopping it.

use std::os::fd::AsFd;

use net::Probation;
use runtime::mounts::Layers;
use store::template::{self, Template};
use store::{
    ADDRESSES, Address, Area, AreaError, Base, Conf, ContainerId, FORWARDS, Forward, GenerationNumber,
    GenerationRecord, INTERFACES, Interface, Limits, Lock, OwnFile, RATE, Rate, TemplateRecord, Volume,
};

use crate::boot::yes_or_no;
use crate::defaults;
use crate::devices::Extras;
use crate::error::{Code, Failure, MAKE_ROOM, Result};
use crate::event::What;
use crate::host::{Host, damaged};
use crate::runtime::{Patience, Root, Runtime, RuntimeResult, Settings, Start};
use crate::settings::{is_domain, is_name_server};
use crate::template::{EntryPoint, Init, problem_of};
use tree::LayeredRoot;

/// An init, a shell and what the shell runs.
pub(crate) const LEAST_PROCESSES: u64 = 4;
/// What a static shell needs, and the kernel for it.
pub(crate) const LEAST_MEMORY: u64 = 1 << 20;
/// Whether private addresses are translated on their way outside, in `ve.conf` or `vz.conf`: anything but `no`.
const NAT: &str = "NAT";
/// `no`: the files of the distribution inside that are about its network are its own affair.
const NETWORK_FILES: &str = "NETWORK_FILES";
/// HOST_NAME_MAX of limits.h.
const LONGEST_HOST_NAME: usize = 64;

/// A container, locked.
#[derive(Debug)]
pub struct Container<'host> {
    /// Its host.
    pub host: &'host Host,
    /// Its private area.
    pub area: Area,
    /// What to call it.
    pub name: String,
    pub(crate) _lock: Lock,
}

impl Container<'_> {
    /// Its id.
    pub fn id(&self) -> &ContainerId {
        self.area.id()
    }

    /// What scripts are told that it is: its number where it has one, as they expect it, else its UUID.
    pub fn veid(&self) -> String {
        self.area.numeric_id().map_or_else(|| self.id().to_string(), |number| number.to_string())
    }

    /// Whatever runs it.
    pub fn runtime(&self) -> &dyn Runtime {
        self.host.runtime.as_ref()
    }

    /// It runs.
    pub fn is_running(&self) -> bool {
        self.runtime().running(self.id()).is_some()
    }

    /// Whether it can be told if it runs: a container that runs and is taken for a stopped one would be ended, or started twice on one root.
    ///
    /// # Errors
    /// [`Code::Damaged`].
    pub fn check_runtime_record(&self) -> Result<()> {
        runtime::state::check(&self.host.prefix, self.id()).map_err(|error| {
            let (code, hint) = if error.kind() == std::io::ErrorKind::Unsupported {
                let hint =
                    "use the version of Reroot that has started it; it goes on running meanwhile".to_owned();
                (Code::Unsupported, hint)
            } else {
                (Code::Damaged, format!("`prlctl stop {} --kill` ends whatever runs of it", self.name))
            };
            Failure::new(code, format!("nobody can tell whether `{}` runs", self.name))
                .because(format!(
                    "{} cannot be used: {error}",
                    runtime::state::path(&self.host.prefix, self.id()).display()
                ))
                .unchanged()
                .hint(hint)
        })
    }

    /// The template under a generation.
    ///
    /// # Errors
    /// [`Code::UnknownTemplate`] when it is gone or damaged.
    pub fn template_of(&self, record: &GenerationRecord) -> Result<Option<Template>> {
        match &record.base {
            Base::Empty => Ok(None),
            Base::Template { name, digest } => Ok(Some(template::exact(&self.host.prefix, name, digest)?)),
        }
    }

    /// Says so when a root's template is gone or damaged.
    pub fn warn_of_template(&self, record: &GenerationRecord) {
        let Some(problem) = problem_of(&self.host.prefix, &record.base) else { return };
        let what_is_left = if self.template_of(record).is_ok() {
            "what else is there of it is shown as it is"
        } else {
            "/old will have what the container itself has made or changed, and nothing of the template"
        };
        self.host.warning(&format!("generation {} is not whole: {problem}; {what_is_left}", record.number));
    }

    /// What is left of an old root: all of it, or without its template, should that be gone, what the container itself has made.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn left_of(&self, number: GenerationNumber) -> Result<Root> {
        let record = self.area.generation(number).map_err(|error| damaged(error, &self.name))?;
        if self.template_of(&record).is_ok() {
            return self.root_of(&record);
        }
        let generation = self.layers_dir(number)?;
        let handle = self.area.layers_handle(number).map_err(|error| damaged(error, &self.name))?;
        store::atomic::make_directory_at(handle.as_fd(), "lower", 0o755)?;
        Ok(Root { number, layers: Layers { generation, template: None, options: record.mount_options } })
    }

    /// A generation and its layers.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn root(&self, number: GenerationNumber) -> Result<Root> {
        let record = self.area.generation(number).map_err(|error| damaged(error, &self.name))?;
        self.root_of(&record)
    }

    /// The layers of a generation whose record is at hand.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn root_of(&self, record: &GenerationRecord) -> Result<Root> {
        let template = self.template_of(record)?;
        Ok(Root {
            number: record.number,
            layers: Layers {
                generation: self.layers_dir(record.number)?,
                template: template.map(|template| template.rootfs()),
                options: record.mount_options.clone(),
            },
        })
    }

    /// The root `first`, and `below` it what is at `/old`, `/old/old`, …; a root that is gone, or its template, ends the chain.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn roots(&self, first: GenerationNumber, old: Option<GenerationNumber>) -> Result<Vec<Root>> {
        let mut roots = vec![self.root(first)?];
        let Some(old) = old else { return Ok(roots) };
        let chain = match GenerationRecord::chain(&self.area, old) {
            Ok(chain) => chain,
            // Removed by hand: no reason not to start.
            Err(AreaError::NoGeneration { .. }) => Vec::new(),
            Err(error) => return Err(damaged(error, &self.name)),
        };
        for number in chain {
            match self.left_of(number) {
                Ok(root) => roots.push(root),
                Err(failure) => {
                    self.host.warning(&format!(
                        "generation {number} cannot be attached at /old: {}",
                        failure.because.join(": ")
                    ));
                    break;
                }
            }
        }
        Ok(roots)
    }

    /// Everything that starting it again needs: asked before a container is stopped that is to run again, on whichever root.
    ///
    /// # Errors
    /// [`Code::BadValue`], [`Code::Damaged`].
    pub fn check_restart(&self) -> Result<(Conf, Limits, String)> {
        let live = self.area.live().map_err(|error| damaged(error, &self.name))?;
        // Not only the live one's record: a start attaches what is at /old, too.
        GenerationRecord::chain(&self.area, live).map_err(|error| damaged(error, &self.name))?;
        self.check_configuration()
    }

    /// Everything that a start needs of the configuration.
    ///
    /// # Errors
    /// [`Code::BadValue`], [`Code::Damaged`].
    pub fn check_configuration(&self) -> Result<(Conf, Limits, String)> {
        let conf = self.area.conf().map_err(|error| damaged(error, &self.name))?;
        let Settings { limits, hostname, .. } = self.check(&conf)?;
        // One that must not be run is found out before anything is stopped.
        crate::actions::open_all(self)?;
        crate::actions::limit(self.host, &conf)?;
        self.attachments(&conf)?;
        Ok((conf, limits, hostname))
    }

    /// What a start with this configuration would be with.
    ///
    /// # Errors
    /// [`Code::BadValue`].
    pub fn check(&self, conf: &Conf) -> Result<Settings> {
        let host = self.host.configuration()?;
        let conf = &defaults::beside(conf, &host);
        let refused = |because: String| {
            Failure::new(Code::BadValue, format!("the configuration of `{}` cannot be used", self.name))
                .because(because)
                .unchanged()
                .hint(format!("correct it in {}", self.area.path().join("ve.conf").display()))
        };
        let limits = self.host.limits(conf, &host).map_err(|error| refused(error.to_string()))?;
        if limits.processes.is_some_and(|count| count < LEAST_PROCESSES) {
            return Err(refused(format!(
                "`NUMPROC` is less than {LEAST_PROCESSES}: not even an init and a shell could run"
            )));
        }
        if limits.memory.is_some_and(|bytes| bytes < LEAST_MEMORY) {
            return Err(refused(format!(
                "`PHYSPAGES` is less than {} MiB: nothing could start in it",
                LEAST_MEMORY >> 20
            )));
        }
        let hostname =
            conf.get("HOSTNAME").filter(|name| !name.is_empty()).unwrap_or_else(|| host_name(&self.name));
        check_host_name(&hostname).map_err(|wanted| {
            let is = tree::escaped(&hostname.as_bytes()[..hostname.len().min(80)]);
            refused(format!("`HOSTNAME` is `{is}`, not {wanted}"))
        })?;
        let addresses = Address::all(conf).map_err(|error| refused(format!("`{ADDRESSES}`: {error}")))?;
        let interfaces = Interface::all(conf).map_err(|error| {
            refused(format!("`{INTERFACES}`: `{}` {}", error.text, error.why))
                .hint(format!("correct it, or take all away: `prlctl set {} --netif_del all`", self.name))
        })?;
        if (!addresses.is_empty() || !interfaces.is_empty())
            && let Err(error) = self.runtime().check_filter()
        {
            let all = "--ipdel all --netif_del all";
            let without = format!("or take its addresses away: `prlctl set {} {all}`", self.name);
            return Err(Failure { code: Code::Unsupported, ..refused(error.because) }
                .hint(format!("`apt-get install nftables`, {without}")));
        }
        // Its own word, else the host's.
        let is_no = |key: &str| {
            let from = if conf.get(key).is_some() { conf } else { &host };
            yes_or_no(from, key) == Some(false)
        };
        let translates = !is_no(NAT);
        let restarts_on_crash = crate::settings::restarts_on_crash(conf)
            .map_err(|wanted| refused(format!("`{}` is not {wanted}", crate::settings::RESTART)))?;
        // Where it cannot be told it may, as in OpenVZ, and that is told.
        let forbids_reboot = yes_or_no(conf, crate::settings::ALLOW_REBOOT) == Some(false);
        let keeps_no_access_times = yes_or_no(conf, crate::settings::NO_ACCESS_TIMES) == Some(true);
        // What is none counts for nothing, all of it, and is told.
        let environment = store::environment::of(conf).unwrap_or_default();
        let environment = environment.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        let forwards = Forward::all(conf).map_err(|error| refused(format!("`{FORWARDS}`: {error}")))?;
        if let Some(forward) = forwards.first().filter(|_| addresses.is_empty()) {
            return Err(refused(format!(
                "`{FORWARDS}` has {forward}, and it has no address that could lead to"
            ))
            .hint(format!("give it one: `prlctl set {} --ipadd 10.0.0.2`", self.name)));
        }
        crate::attachments::configured(&self.area, conf).map_err(refused)?;
        Extras::of(conf).map_err(refused)?;
        let rate = Rate::of(conf).map_err(|error| refused(format!("`{RATE}`: {error}")))?;
        Ok(Settings {
            limits,
            hostname,
            addresses,
            translates,
            forwards,
            interfaces,
            rate,
            restarts_on_crash,
            forbids_reboot,
            environment,
            keeps_no_access_times,
            resolver: resolver(conf),
            leaves_network_files: is_no(NETWORK_FILES),
        })
    }

    /// Takes away what `prlctl mount` shows of the container before its root, or what is at its `/old`, becomes another: nobody must go on
    /// writing to what he thinks is the container's root.
    ///
    /// # Errors
    /// [`Code::Mounted`] when a process of the host is in it, with nothing changed.
    pub fn release_view(&self) -> Result<()> {
        self.runtime().release_view(self.id()).map_err(|error| {
            Failure::new(Code::Mounted, format!("`{}` is mounted on the host, and in use there", self.name))
                .because(error.because)
                .unchanged()
                .hint(format!(
                    "leave {} and try again; `fuser -vm` tells who is in it",
                    self.host.prefix.root_dir(self.id()).display()
                ))
        })
    }

    /// Everything that starting `first` takes, with `old` at `/old`.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn start_of(
        &self,
        first: GenerationNumber,
        old: Option<GenerationNumber>,
        is_probation: bool,
    ) -> Result<Start> {
        let conf = self.area.conf().map_err(|error| damaged(error, &self.name))?;
        let settings = self.check(&conf)?;
        self.host.warn_of_configuration();
        for problem in crate::settings::problems(&conf) {
            self.host.warning(&format!("{problem} ({})", self.area.path().join("ve.conf").display()));
        }
        let conf = defaults::beside(&conf, &self.host.configuration()?);
        crate::addresses::are_free_now(self.host, self.id(), &settings.forwards)?;
        let record = self.area.generation(first).map_err(|error| damaged(error, &self.name))?;
        let template = self.template_of(&record).map_err(|failure| {
            failure.within(format!("cannot start `{}`", self.name)).hint(format!(
                "`prlctl reinstall {}`, with `--ostemplate OTHER` where there is none of that name any more, gives it a new root, and keeps all that it has made itself at /old",
                self.name
            ))
        })?;
        let (init, application) = match template {
            Some(template) => {
                let TemplateRecord { init, stop_signal, systemd, application, .. } = template.record;
                (Init { path: init, stop_signal, is_systemd: systemd }, application)
            }
            None => (self.guess_init(&record)?, None),
        };
        let stop_signal = linux::signal_number(&init.stop_signal).ok_or_else(|| {
            Failure::new(Code::BadValue, format!("`{}` is no signal", init.stop_signal))
                .because("it stands in the template's record")
        })?;
        let area = self.area.record().map_err(|error| damaged(error, &self.name))?;
        Ok(Start {
            id: *self.id(),
            roots: self.roots(first, old)?,
            volume: (self.area.volume() == Volume::Image).then(|| self.area.image()),
            ids: area.id_range,
            settings,
            probation_network: Probation::default(),
            veid: self.veid(),
            init: init.path,
            stop_signal,
            is_systemd: init.is_systemd,
            application,
            is_probation,
            actions: crate::actions::open_all(self)?,
            action_limit: crate::actions::limit(self.host, &conf)?,
            attachments: self.attachments(&conf)?,
            extras: Extras::of(&conf).unwrap_or_default(),
        })
    }

    /// What a root that no template tells of is started and stopped with, found out by a look at it.
    fn guess_init(&self, record: &GenerationRecord) -> Result<Init> {
        let root = self.root_of(record)?;
        let look = self.runtime().look(self.id(), &root).map_err(|error| {
            Failure::new(Code::System, "cannot look into the root").because(error.because)
        })?;
        // One that has none cannot be started, which the start itself says best.
        let none =
            || Init { path: "/sbin/init".to_owned(), stop_signal: "SIGPWR".to_owned(), is_systemd: false };
        Ok(crate::template::init_of(&LayeredRoot::new(look, None)).ok().flatten().unwrap_or_else(none))
    }

    /// What a generation runs under the small init; `None`: it has an init of its own.
    ///
    /// # Errors
    /// When its records cannot be read.
    pub fn entry_point(&self, number: GenerationNumber) -> Result<Option<EntryPoint>> {
        let record = self.area.generation(number).map_err(|error| damaged(error, &self.name))?;
        let Some(TemplateRecord { application: Some(application), stop_signal, .. }) =
            self.template_of(&record)?.map(|template| template.record)
        else {
            return Ok(None);
        };
        Ok(Some(EntryPoint { application, stop_signal: Some(stop_signal), is_chosen: true }))
    }

    /// What a root on this generation's template is given of its own; nothing where it has none.
    ///
    /// # Errors
    /// When its records cannot be read.
    pub fn own_files(&self, number: GenerationNumber) -> Result<Vec<OwnFile>> {
        let record = self.area.generation(number).map_err(|error| damaged(error, &self.name))?;
        Ok(self.template_of(&record)?.map_or_else(Vec::new, |template| template.record.own_files))
    }

    /// What a generation is started with.
    ///
    /// # Errors
    /// When its records cannot be read.
    pub fn init_of(&self, number: GenerationNumber) -> Result<String> {
        let record = self.area.generation(number).map_err(|error| damaged(error, &self.name))?;
        let template = self.template_of(&record)?;
        Ok(template.map_or_else(|| "/sbin/init".to_owned(), |template| template.record.init))
    }

    /// Starts the live generation.
    ///
    /// # Errors
    /// [`Failure`] with the last lines of its console.
    pub fn start(&self) -> Result<()> {
        let live = self.area.live().map_err(|error| damaged(error, &self.name))?;
        let record = self.area.generation(live).map_err(|error| damaged(error, &self.name))?;
        self.end_attaching();
        self.follow_disk_space();
        if self.area.volume() != Volume::Directory && self.enter_volume().is_ok() {
            // What a death has left there of roots that are gone.
            let _ = self.area.sweep_layers();
        }
        let start = self.start_of(live, record.parent, false)?;
        // Of one that is full: overlayfs makes a directory at each mount.
        self.make_room();
        let started = self.run(&start);
        self.keep_to_disk_space();
        let warnings = started.map_err(|error| {
            let mut failure = Failure::new(
                match error.kind {
                    crate::runtime::RuntimeErrorKind::Busy => Code::Mounted,
                    crate::runtime::RuntimeErrorKind::FileSystem => Code::Unsupported,
                    crate::runtime::RuntimeErrorKind::NoSpace => Code::NoSpace,
                    crate::runtime::RuntimeErrorKind::Action => Code::ActionFailed,
                    crate::runtime::RuntimeErrorKind::NotRunning
                    | crate::runtime::RuntimeErrorKind::Interrupted
                    | crate::runtime::RuntimeErrorKind::NotUp
                    | crate::runtime::RuntimeErrorKind::InPart
                    | crate::runtime::RuntimeErrorKind::NoDevice
                    | crate::runtime::RuntimeErrorKind::Other => Code::System,
                },
                format!("cannot start `{}`", self.name),
            )
            .because(error.because);
            if !error.console.is_empty() {
                failure = failure.because(format!("its console said:\n{}", error.console));
            }
            let mut failure = failure.state(format!("`{}` is stopped, nothing in it was changed", self.name));
            if error.kind == crate::runtime::RuntimeErrorKind::Action {
                return failure.hint(format!(
                    "correct it and run `prlctl start {}` again; what it wrote is in {}",
                    self.name,
                    runtime::monitor::log_path(&self.host.prefix, self.id()).display()
                ));
            }
            let is_of_the_root = matches!(
                error.kind,
                crate::runtime::RuntimeErrorKind::NotUp | crate::runtime::RuntimeErrorKind::Other
            );
            if is_of_the_root
                && let Base::Template { name, .. } = &record.base
                && let Some(problem) = problem_of(&self.host.prefix, &record.base)
            {
                return failure.because(problem).hint(format!(
                    "`vzpkg verify {name}` tells what else its template lacks, and `vzpkg update cache {name}` may make it whole; `prlctl reinstall {}` gives it a new root",
                    self.name
                ));
            }
            // What the kernel said of one call may be the sign of a host that cannot run containers at all: then that is the cause.
            let missing: Vec<String> = runtime::kernel::features(&self.host.prefix.private_dir())
                .into_iter()
                .filter(|feature| feature.is_required)
                .filter_map(|feature| Some(format!("this host lacks {}: {}", feature.name, feature.missing?)))
                .collect();
            if !missing.is_empty() && error.kind != crate::runtime::RuntimeErrorKind::FileSystem {
                failure.code = Code::Unsupported;
                failure.because.extend(missing);
                return failure.hint("`prlctl info` tells what this host can do, feature by feature");
            }
            match error.kind {
                crate::runtime::RuntimeErrorKind::Busy => failure.hint(format!(
                    "leave its directories on the host, then `prlctl umount {0}` and `prlctl start {0}`",
                    self.name
                )),
                crate::runtime::RuntimeErrorKind::FileSystem => failure.hint(
                    "put /vz on ext4, xfs or btrfs; a loop-mounted image does: \
                     `truncate -s 20G /vz.img; mkfs.ext4 /vz.img; mount -o loop /vz.img /vz`",
                ),
                crate::runtime::RuntimeErrorKind::NoSpace => failure.hint(MAKE_ROOM),
                crate::runtime::RuntimeErrorKind::NoDevice => failure.hint(crate::volume::LOOP_DEVICES),
                crate::runtime::RuntimeErrorKind::NotRunning
                | crate::runtime::RuntimeErrorKind::Interrupted
                | crate::runtime::RuntimeErrorKind::NotUp
                | crate::runtime::RuntimeErrorKind::InPart
                | crate::runtime::RuntimeErrorKind::Action
                | crate::runtime::RuntimeErrorKind::Other => failure.hint(format!(
                    "its console is logged in {}",
                    runtime::monitor::log_path(&self.host.prefix, self.id()).display()
                )),
            }
        })?;
        for warning in warnings.iter().chain(&start.extras.warnings) {
            self.host.warning(warning);
        }
        crate::boot::note_that_it_runs(self);
        Ok(())
    }

    /// Has it started; what its action scripts write is told as what other scripts write.
    ///
    /// # Errors
    /// As [`Runtime::start`].
    pub fn run(&self, start: &Start) -> RuntimeResult<Vec<String>> {
        self.runtime().start(start, &mut |script, line| {
            self.host.tell(What::Script { script: script.to_owned(), line: tree::escaped(line) });
        })
    }

    /// Stops it: asked politely, killed when its time is over; see [`Runtime::stop`] for the mounts.
    ///
    /// # Errors
    /// [`Code::CannotStop`].
    pub fn stop(&self, patience: impl Into<Patience>, keeps_mounts: bool) -> Result<()> {
        let patience = patience.into();
        if !patience.limit.is_zero() {
            crate::actions::run_stop(self, patience);
        }
        let stopped = self.runtime().stop(self.id(), patience, keeps_mounts).map_err(|error| {
            let what = if error.kind == crate::runtime::RuntimeErrorKind::Interrupted {
                format!("`{}` was still stopping", self.name)
            } else {
                format!("cannot stop `{}`", self.name)
            };
            Failure::new(Code::CannotStop, what)
                .because(error.because)
                .hint(format!("`prlctl stop {} --kill` ends it at once", self.name))
        })?;
        for warning in stopped {
            self.host.warning(&warning);
        }
        Ok(())
    }
}

/// A host name out of a container's name, which may have spaces and letters of any script.
pub fn host_name(name: &str) -> String {
    let plain: String = name
        .chars()
        .map(
            |letter| {
                if letter.is_ascii_alphanumeric() || letter == '-' || letter == '.' { letter } else { '-' }
            },
        )
        .take(63)
        .collect();
    let plain = plain.trim_matches(['-', '.']);
    if plain.is_empty() { "container".to_owned() } else { plain.to_ascii_lowercase() }
}

/// What a container may call itself; else what is wanted.
///
/// # Errors
/// What is wanted.
pub fn check_host_name(name: &str) -> std::result::Result<(), &'static str> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.' || byte == b'_';
    if name.is_empty() || name.len() > LONGEST_HOST_NAME || !name.bytes().all(is_plain) {
        return Err("up to 64 letters, digits, dots and hyphens");
    }
    Ok(())
}

/// The text of a container's `resolv.conf`; `None`: it has its own.
fn resolver(conf: &Conf) -> Option<String> {
    resolver_of(conf, &std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default())
}

/// `NAMESERVER` and `SEARCHDOMAIN` as the text of `resolv.conf`; `inherit` takes those of the text of the host's. Public for `fuzzing`.
#[doc(hidden)]
pub fn resolver_of(conf: &Conf, host: &str) -> Option<String> {
    let servers = conf.get("NAMESERVER").filter(|servers| !servers.trim().is_empty())?;
    let of_host = |key: &str| -> Vec<String> {
        host.lines()
            .filter_map(|line| line.trim().strip_prefix(key)?.strip_prefix([' ', '\t']).map(str::to_owned))
            .collect()
    };
    let mut text = String::new();
    let domains = conf.get("SEARCHDOMAIN").unwrap_or_default();
    let domains = if domains.trim() == "inherit" { of_host("search").join(" ") } else { domains };
    // A line is what somebody meant to be one: without a carriage return of another system's editor, or worse.
    let words = |text: &str| -> Vec<String> {
        let words = text.split_whitespace().filter(|word| !word.contains(char::is_control));
        words.map(str::to_owned).collect()
    };
    let mut domains = words(&domains);
    domains.retain(|word| is_domain(word));
    if !domains.is_empty() {
        text.push_str(&format!("search {}\n", domains.join(" ")));
    }
    let servers: Vec<String> = if servers.trim() == "inherit" {
        // After the address there may be a remark.
        of_host("nameserver").iter().filter_map(|rest| words(rest).into_iter().next()).collect()
    } else {
        // One that has none left keeps what its root says.
        let servers = words(&servers).into_iter().filter(|word| is_name_server(word)).collect::<Vec<_>>();
        if servers.is_empty() {
            return None;
        }
        servers
    };
    for server in servers {
        text.push_str(&format!("nameserver {server}\n"));
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn makes_a_host_name_of_any_name() {
        assert_eq!(host_name("Web 01"), "web-01");
        assert_eq!(host_name("мир"), "container");
        assert_eq!(host_name("db.example"), "db.example");
    }

    #[test]
    fn writes_a_resolver_only_when_asked() {
        assert_eq!(resolver(&Conf::parse(b"")), None);
        let conf = Conf::parse(b"NAMESERVER=\"192.0.2.1 2001:db8::1\"\nSEARCHDOMAIN=\"example.com\"\n");
        assert_eq!(
            resolver(&conf).as_deref(),
            Some("search example.com\nnameserver 192.0.2.1\nnameserver 2001:db8::1\n")
        );
        let host = "search a.example\tb.example\nnameserver 192.0.2.9 # the router\n";
        let inherits = Conf::parse(b"NAMESERVER=inherit\nSEARCHDOMAIN=inherit\n");
        assert_eq!(
            resolver_of(&inherits, host).as_deref(),
            Some("search a.example b.example\nnameserver 192.0.2.9\n")
        );
        let shell = Conf::parse(b"NAMESERVER='192.0.2.1 x;y $(id)'\nSEARCHDOMAIN='$(id) a.example `x`'\n");
        assert_eq!(resolver_of(&shell, "").as_deref(), Some("search a.example\nnameserver 192.0.2.1\n"));
        assert_eq!(resolver_of(&Conf::parse(b"NAMESERVER='x;y'\nSEARCHDOMAIN=a\n"), ""), None);
        let odd =
            Conf::parse(b"NAMESERVER='192.0.2.1\x1b 192.0.2.2'\nSEARCHDOMAIN='a.example\r b\x07 c\r'\n");
        assert_eq!(resolver_of(&odd, "").as_deref(), Some("search a.example c\nnameserver 192.0.2.2\n"));
    }
}
