//! One host: its prefix, whatever runs its containers, and whom to tell how it goes.

use std::cell::RefCell;
use std::path::Path;
use std::time::Duration;

use runtime::mounts::Layers;
use store::template::{self, Template};
use store::{
    Area, AreaError, Base, Conf, ContainerId, GenerationNumber, GenerationRecord, Limits, Lock, LockName,
    Prefix,
};

use crate::error::{Code, Failure, Result};
use crate::runtime::{Root, Runtime, Start};

/// Who is told how an operation goes. The engine prints nothing.
pub trait Observer {
    /// A step begins; `text` says it for people.
    fn step(&mut self, name: &str, text: &str);
    /// A script has written a line.
    fn script_line(&mut self, script: &str, line: &[u8]);
    /// Something is not as it should be, but no reason to stop.
    fn warning(&mut self, text: &str);
    /// Something worth knowing that is as it should be.
    fn note(&mut self, text: &str);
}

/// Tells nobody.
#[derive(Debug, Clone, Copy)]
pub struct Silent;

impl Observer for Silent {
    fn step(&mut self, _name: &str, _text: &str) {}
    fn script_line(&mut self, _script: &str, _line: &[u8]) {}
    fn warning(&mut self, _text: &str) {}
    fn note(&mut self, _text: &str) {}
}

/// Everything that a command needs to work on a host.
pub struct Host {
    /// Where it lies.
    pub prefix: Prefix,
    /// What runs its containers.
    pub runtime: Box<dyn Runtime>,
    /// Whom to tell.
    pub observer: RefCell<Box<dyn Observer>>,
    /// The command line, for the error message of whoever finds a lock held.
    pub command: String,
    /// How long to wait for a lock.
    pub lock_wait: Duration,
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host")
            .field("prefix", &self.prefix)
            .field("command", &self.command)
            .finish_non_exhaustive()
    }
}

impl Host {
    /// Tells the observer of a step.
    pub fn step(&self, name: &str, text: &str) {
        self.observer.borrow_mut().step(name, text);
    }

    /// Tells the observer of something that is not as it should be.
    pub fn warning(&self, text: &str) {
        self.observer.borrow_mut().warning(text);
    }

    /// Tells the observer of something worth knowing.
    pub fn note(&self, text: &str) {
        self.observer.borrow_mut().note(text);
    }

    /// Takes the host's lock: for the id ranges and the names.
    ///
    /// # Errors
    /// [`Code::Locked`].
    pub fn lock_host(&self) -> Result<Lock> {
        // Held for milliseconds by whoever creates or deletes: worth waiting for, whatever the caller said.
        let wait = self.lock_wait.max(Duration::from_secs(30));
        Ok(Lock::exclusive(&self.prefix, LockName::Host, wait, &self.command)?)
    }

    /// `vz.conf`, empty when there is none.
    ///
    /// # Errors
    /// [`Code::Damaged`].
    pub fn configuration(&self) -> Result<Conf> {
        let path = self.prefix.vz_conf();
        let conf = Conf::load_or_default(&path)?;
        match conf.damage() {
            Some(damage) => Err(Failure::new(Code::Damaged, format!("`{}` cannot be used", path.display()))
                .because(format!("line {}: {}", damage.line, damage.why))
                .unchanged()
                .hint("correct that line")),
            None => Ok(conf),
        }
    }

    /// The container that `words` name, without a lock.
    ///
    /// # Errors
    /// [`Code::UnknownContainer`].
    pub fn find(&self, words: &str) -> Result<ContainerId> {
        Ok(store::registry::find(&self.prefix, words)?)
    }

    /// Opens a container exclusively, and brings to an end what a dead command has left under way in it.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn open(&self, words: &str) -> Result<Container<'_>> {
        let id = self.find(words)?;
        let container = self.open_unrecovered(&id, words)?;
        crate::recover::recover(&container)?;
        let link = self.prefix.conf_dir().join(format!("{id}.conf"));
        if std::fs::symlink_metadata(&link).is_ok_and(|found| found.is_file()) {
            self.warning(&format!(
                "{} is a file of its own, which nobody reads: an editor has put it in the place of a link to {}",
                link.display(),
                container.area.path().join("ve.conf").display()
            ));
        }
        if self.runtime.running(&id).is_some_and(|run| !run.is_monitored) {
            self.warning(&format!(
                "the monitor of `{}` was killed: it goes on, and its end will mean stopped, also that of a reboot",
                container.name
            ));
        }
        Ok(container)
    }

    /// Opens a container exclusively and as it is.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn open_unrecovered(&self, id: &ContainerId, words: &str) -> Result<Container<'_>> {
        self.open_by(id, words, Area::open)
    }

    /// Opens a container exclusively to stop it. That its records are damaged is no reason not to: what runs must be stopped before they can be
    /// made again.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn open_to_stop(&self, words: &str) -> Result<Container<'_>> {
        match self.open(words) {
            Err(failure) if failure.code == Code::Damaged => {
                self.open_by(&self.find(words)?, words, Area::open_unchecked)
            }
            other => other,
        }
    }

    fn open_by(
        &self,
        id: &ContainerId,
        words: &str,
        open: fn(&Prefix, &ContainerId) -> std::result::Result<Area, AreaError>,
    ) -> Result<Container<'_>> {
        let lock = Lock::exclusive(&self.prefix, LockName::Container(*id), self.lock_wait, &self.command)
            .map_err(|error| renamed(error, words))?;
        // Looked at again under the lock: it may have been deleted while we waited.
        let area = open(&self.prefix, id).map_err(|error| damaged(error, words))?;
        // A damaged configuration tells no name: then it is what the user calls it.
        let name = match area.name() {
            Ok(Some(name)) => name.to_string(),
            Ok(None) => id.to_string(),
            Err(_) => words.to_owned(),
        };
        std::fs::create_dir_all(self.prefix.run_dir_of(id))
            .map_err(|error| crate::error::system("cannot make the run directory", &error))?;
        Ok(Container { host: self, area, name, _lock: lock })
    }
}

/// The message names what the user has typed, not the lock's own name.
fn renamed(error: store::LockError, words: &str) -> Failure {
    let mut failure = Failure::from(error);
    if failure.code == Code::Locked {
        failure.what = format!("`{words}` is locked by another command");
    }
    failure
}

/// A damaged area names the command that rebuilds it.
pub fn damaged(error: AreaError, words: &str) -> Failure {
    let is_missing = matches!(error, AreaError::NoGeneration { .. });
    let mut failure = Failure::from(error);
    if is_missing {
        // What a record or `live` names must be there.
        failure.code = Code::Damaged;
    }
    if failure.code == Code::Damaged {
        return Failure { what: format!("the records of `{words}` cannot be used"), ..failure }.unchanged().hint(format!(
            "`prlctl recover --rebuild {words}` makes the records again from what lies on disk; `ve.conf` is yours to correct"
        ));
    }
    failure
}

/// An init, a shell and what the shell runs.
const LEAST_PROCESSES: u64 = 4;
/// What a static shell needs, and the kernel for it.
const LEAST_MEMORY: u64 = 1 << 20;
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
    _lock: Lock,
}

impl Container<'_> {
    /// Its id.
    pub fn id(&self) -> &ContainerId {
        self.area.id()
    }

    /// Whatever runs it.
    pub fn runtime(&self) -> &dyn Runtime {
        self.host.runtime.as_ref()
    }

    /// It runs.
    pub fn is_running(&self) -> bool {
        self.runtime().running(self.id()).is_some()
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
                generation: self.area.generation_dir(record.number),
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
            match self.root(number) {
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

    /// Everything that a start needs of the configuration: asked before a container is stopped that is to be started again.
    ///
    /// # Errors
    /// [`Code::BadValue`], [`Code::Damaged`].
    pub fn check_configuration(&self) -> Result<(Conf, Limits, String)> {
        let conf = self.area.conf().map_err(|error| damaged(error, &self.name))?;
        let host = self.host.configuration()?;
        let refused = |because: String| {
            Failure::new(Code::BadValue, format!("the configuration of `{}` cannot be used", self.name))
                .because(because)
                .unchanged()
                .hint(format!("correct it in {}", self.area.path().join("ve.conf").display()))
        };
        let limits = Limits::from_conf(&conf, &host).map_err(|error| refused(error.to_string()))?;
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
        let is_plain =
            |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.' || byte == b'_';
        if hostname.len() > LONGEST_HOST_NAME || !hostname.bytes().all(is_plain) {
            return Err(refused(format!(
                "`HOSTNAME` has up to {LONGEST_HOST_NAME} letters, digits, dots and hyphens, not `{}`",
                tree::escaped(&hostname.as_bytes()[..hostname.len().min(80)])
            )));
        }
        Ok((conf, limits, hostname))
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
        let (conf, limits, hostname) = self.check_configuration()?;
        let record = self.area.generation(first).map_err(|error| damaged(error, &self.name))?;
        let (init, stop_signal, is_systemd) = match self.template_of(&record)? {
            Some(template) => {
                let record = template.record;
                (record.init, record.stop_signal, record.systemd)
            }
            None => self.guess_init(&record)?,
        };
        let stop_signal = linux::signal_number(&stop_signal).ok_or_else(|| {
            Failure::new(Code::BadValue, format!("`{stop_signal}` is no signal"))
                .because("it stands in the template's record")
        })?;
        let area = self.area.record().map_err(|error| damaged(error, &self.name))?;
        Ok(Start {
            id: *self.id(),
            roots: self.roots(first, old)?,
            ids: area.id_range,
            limits,
            hostname,
            resolver: resolver(&conf),
            init,
            stop_signal,
            is_systemd,
            is_probation,
        })
    }

    /// What a root that no template tells of is started and stopped with, found out by a look at it.
    fn guess_init(&self, record: &GenerationRecord) -> Result<(String, String, bool)> {
        let root = self.root_of(record)?;
        let look = self.runtime().look(self.id(), &root).map_err(|error| {
            Failure::new(Code::System, "cannot look into the root").because(error.because)
        })?;
        for systemd in ["/lib/systemd/systemd", "/usr/lib/systemd/systemd"] {
            if look.has_executable(Path::new(systemd)).unwrap_or(false) {
                return Ok(("/sbin/init".to_owned(), "SIGRTMIN+3".to_owned(), true));
            }
        }
        let is_ours = look
            .read_file(Path::new("/sbin/init"), 64 * 1024)
            .ok()
            .flatten()
            .is_some_and(|file| crate::template::is_busybox_init(&file.bytes));
        let signal = if is_ours { crate::template::BUSYBOX_STOP_SIGNAL } else { "SIGPWR" };
        Ok(("/sbin/init".to_owned(), signal.to_owned(), false))
    }

    /// Starts the live generation.
    ///
    /// # Errors
    /// [`Failure`] with the last lines of its console.
    pub fn start(&self) -> Result<()> {
        let live = self.area.live().map_err(|error| damaged(error, &self.name))?;
        let record = self.area.generation(live).map_err(|error| damaged(error, &self.name))?;
        let start = self.start_of(live, record.parent, false)?;
        let warnings = self.runtime().start(&start).map_err(|error| {
            let mut failure = Failure::new(
                match error.kind {
                    crate::runtime::RuntimeErrorKind::Busy => Code::Mounted,
                    crate::runtime::RuntimeErrorKind::FileSystem => Code::Unsupported,
                    crate::runtime::RuntimeErrorKind::NotRunning
                    | crate::runtime::RuntimeErrorKind::Other => Code::System,
                },
                format!("cannot start `{}`", self.name),
            )
            .because(error.because);
            if !error.console.is_empty() {
                failure = failure.because(format!("its console said:\n{}", error.console));
            }
            let mut failure = failure.state(format!("`{}` is stopped, nothing in it was changed", self.name));
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
                crate::runtime::RuntimeErrorKind::NotRunning | crate::runtime::RuntimeErrorKind::Other => {
                    failure.hint(format!(
                        "its console is logged in {}",
                        runtime::monitor::log_path(&self.host.prefix, self.id()).display()
                    ))
                }
            }
        })?;
        for warning in warnings {
            self.host.warning(&warning);
        }
        Ok(())
    }

    /// Stops it: asked politely, killed after `limit`; see [`Runtime::stop`] for the mounts.
    ///
    /// # Errors
    /// [`Code::CannotStop`].
    pub fn stop(&self, limit: Duration, keeps_mounts: bool) -> Result<()> {
        self.runtime().stop(self.id(), limit, keeps_mounts).map_err(|error| {
            Failure::new(Code::CannotStop, format!("cannot stop `{}`", self.name))
                .because(error.because)
                .hint(format!("`prlctl stop {} --kill` ends it at once", self.name))
        })
    }
}

/// A host name out of a container's name, which may have spaces and letters of any script.
fn host_name(name: &str) -> String {
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

/// `NAMESERVER` and `SEARCHDOMAIN` as the text of `resolv.conf`; `inherit` takes the host's.
fn resolver(conf: &Conf) -> Option<String> {
    let servers = conf.get("NAMESERVER").filter(|servers| !servers.trim().is_empty())?;
    let host = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let of_host = |key: &str| -> Vec<String> {
        host.lines()
            .filter_map(|line| {
                line.trim().strip_prefix(key)?.strip_prefix([' ', '\t']).map(|rest| rest.trim().to_owned())
            })
            .collect()
    };
    let mut text = String::new();
    let domains = conf.get("SEARCHDOMAIN").unwrap_or_default();
    let domains = if domains.trim() == "inherit" { of_host("search").join(" ") } else { domains };
    if !domains.trim().is_empty() {
        text.push_str(&format!("search {}\n", domains.trim()));
    }
    let servers: Vec<String> = if servers.trim() == "inherit" {
        of_host("nameserver")
    } else {
        servers.split_whitespace().map(str::to_owned).collect()
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
    }
}
