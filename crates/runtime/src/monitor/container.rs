//! One run of a container, from the OCI specification to a running init.
//!
//! `libcontainer` clones and goes on running Rust code in the copies, so this is only ever called in the monitor, which has one thread.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use libcontainer::container::builder::ContainerBuilder;
use libcontainer::syscall::syscall::SyscallType;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use store::Prefix;
use tree::Root;

use super::attached::Attachments;
use super::complaints;
use super::console::Console;
use super::identity;
use super::old::OldRoots;
use super::protocol::{Channel, Launch};
use super::settings::Settings;
use crate::cgroup::Cgroups;
use crate::confined::{Reach, confined};
use crate::limits;
use crate::lxcfs;
use crate::network_files;
use crate::small_init::SmallInit;
use crate::spec::{Wanted, specification};
use crate::state::ProcessIdentity;

/// Beside the root: where the nodes of its devices are.
pub const DEVICES: &str = "devices";
/// How long the last step, from the word to start to the execution of init, may take.
const EXECUTION: Duration = Duration::from_secs(30);
/// How long a process that has complained of its end may take to end.
const LAST_BREATH: Duration = Duration::from_secs(1);
/// How long left-over processes of an earlier run may take to die.
const KILLING: Duration = Duration::from_secs(10);

/// A container whose init has been executed.
#[derive(Debug)]
pub struct Running {
    /// PID 1, seen from the host.
    pub init: ProcessIdentity,
    /// Readable when it has ended.
    pub pidfd: OwnedFd,
    /// Where a systemd tells that it is up.
    pub notify: Option<UnixDatagram>,
    /// What is not as it should be.
    pub warnings: Vec<String>,
}

/// The places and things that every run of one container shares.
#[derive(Debug)]
pub struct Place<'a> {
    /// What to run.
    pub launch: &'a Launch,
    /// The host.
    pub prefix: &'a Prefix,
    /// Its control groups.
    pub cgroups: &'a Cgroups,
    /// Its root in this namespace.
    pub root: &'a Path,
    /// The roots for `/old`.
    pub old: &'a OldRoots,
    /// What is mounted in the root.
    pub attachments: &'a mut Attachments,
}

/// Starts the container and returns when its init has been executed. For the first run of a monitor its control groups are new, and it was born
/// where [`Cgroups::birthplace`] says.
///
/// # Errors
/// In one line, why not; nothing of the container is left running.
pub fn start(place: &mut Place<'_>, console: &mut Console, is_first: bool) -> Result<Running, String> {
    let result = try_start(place, console, is_first).map_err(|because| match complaints::take() {
        Some(complaint) => why_not_executed(&complaint)
            .map_or_else(|| format!("{because} ({complaint})"), |why| not_executed(&place.launch.init, why)),
        None => because,
    });
    if result.is_err() {
        console.hear_to_the_end();
        // It may have been born in the group that is to be killed.
        drop(place.cgroups.enter_monitor());
        drop(place.cgroups.kill_container(KILLING));
        drop(net::detach(place.prefix, &place.launch.id));
        drop(place.cgroups.remove_container());
    }
    result
}

fn try_start(place: &mut Place<'_>, console: &mut Console, is_first: bool) -> Result<Running, String> {
    let Place { launch, prefix, cgroups, root, old, attachments } = place;
    let run = prefix.run_dir_of(&launch.id);
    if !is_first {
        cgroups.clear_container(KILLING).map_err(words("clear the control group"))?;
    }
    // What is below is cut off while init is made: a mount that is there already would be locked in the container for ever.
    old.detach();
    attachments.detach();

    let mut warnings = apply_identity(launch, root)?;
    let runtime = Leftovers::clear(&run)?;
    let notify_path = root.with_file_name("notify");
    let notify = launch.is_systemd.then(|| notify_socket(&notify_path, launch.ids.first)).transpose();
    let notify = notify.map_err(words("make the notification socket"))?;
    let id = launch.id.to_string();
    // Beside the root on this namespace's stage, where that is walked to.
    let own_proc = lxcfs::bring(prefix, root.parent().unwrap_or(root)).unwrap_or_else(|because| {
        warnings
            .push(format!("no lxcfs, so that /proc/meminfo and the like tell what the host has: {because}"));
        Vec::new()
    });
    let wanted = Wanted {
        own_proc: &own_proc,
        root,
        hostname: &launch.settings.hostname,
        environment: &launch.settings.environment,
        cgroup: cgroups.path_in_hierarchy(),
        ids: launch.ids,
        init: &launch.init,
        id: &id,
        notify: notify.as_ref().map(|_| notify_path.as_path()),
        devices: &launch.devices,
        nodes: &root.with_file_name(DEVICES),
        nests: launch.nests,
    };
    let specification = specification(&wanted).map_err(words("describe the container"))?;
    let bundle = runtime.path.join("bundle");
    std::fs::create_dir_all(&bundle).map_err(words("make the bundle"))?;
    specification.save(bundle.join("config.json")).map_err(words("write the specification"))?;
    let console_path = runtime.path.join("console");
    let console_socket = short_path(&console_path, |path| UnixListener::bind(path))
        .map_err(words("listen for the console"))?;
    // The writing end is inherited by init alone and closed by its execution, or by its death.
    let (executed, until_executed) =
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(words("make a pipe"))?;

    // On a hybrid host the v2 group that init is born in is this process's; see `Cgroups::birthplace`.
    if cgroups.is_hybrid() && !is_first {
        cgroups.enter_container().map_err(words("enter the control group"))?;
    }
    cgroups.hold_legacy().map_err(words("make the control groups"))?;
    let mut builder = ContainerBuilder::new(id, SyscallType::default());
    if let Some(application) = &launch.application {
        let mut application = application.clone();
        // What is said of the container is over what the image says.
        application.environment.extend(launch.settings.environment.iter().cloned());
        builder = builder.with_executor(SmallInit { application });
    }
    let built = builder.with_root_path(runtime.path.join("state")).and_then(|builder| {
        builder
            .with_console_socket(Some(&console_path))
            .as_init(&bundle)
            .with_systemd(false)
            .with_detach(true)
            .build()
    });
    if cgroups.is_hybrid() {
        cgroups.enter_monitor().map_err(words("leave the control group"))?;
    }
    drop(until_executed);
    let mut container = built.map_err(|error| describe(&error))?;

    let pid = container.pid().ok_or("the runtime made no process")?.as_raw();
    let init = ProcessIdentity::of(pid).ok_or("init has ended before it was executed")?;
    let pidfd = init.open().map_err(words("watch init"))?.ok_or("init has ended before it was executed")?;
    console.listen(console_terminal(&console_socket).map_err(words("take the console"))?);
    for (key, lacking) in limits::set(cgroups, &launch.settings.limits, limits::Disk::of(prefix))
        .map_err(|error| describe(&error))?
    {
        warnings.push(format!("`{key}` is not enforced: {lacking}"));
    }
    cgroups.delegate(launch.ids.first).map_err(words("hand over the control group"))?;
    net::bring_up_loopback(pidfd.as_fd()).map_err(|error| describe(&error))?;
    let probation = (launch.is_probation && is_first).then_some(launch.probation_network);
    let network = launch.settings.network(prefix, &launch.id, probation);
    warnings
        .extend(net::attach(prefix, &launch.id, pidfd.as_fd(), network).map_err(|error| describe(&error))?);
    // Before init: nothing runs in it that would find a database's directory empty.
    attachments.attach()?;
    warnings.extend(old.attach().map_err(words("attach the old root"))?);
    drop(complaints::take());
    container.start().map_err(|error| describe(&error))?;
    wait_for_execution(executed)?;
    if let Some(complaint) = complaints::take() {
        see_that_it_lives(&pidfd, &launch.init, &complaint)?;
    }
    Ok(Running { init, pidfd, notify, warnings })
}

fn apply_identity(launch: &Launch, root: &Path) -> Result<Vec<String>, String> {
    let handle = Root::open(root).map_err(words("open the root"))?;
    let reach = Reach { reads: Vec::new(), writes: vec![handle.handle()], ids: Some(launch.ids.first) };
    let Settings { hostname, resolver, .. } = &launch.settings;
    let files = launch.settings.network_files();
    let apply = || {
        let mut warnings = identity::apply(&handle, launch.ids, hostname, resolver.as_deref());
        warnings.extend(network_files::apply(&handle, launch.ids, files.as_ref()));
        warnings
    };
    confined(&reach, apply).map_err(words("be confined to the root"))
}

/// The directory that the runtime keeps its own state in, empty.
struct Leftovers {
    path: PathBuf,
}

impl Leftovers {
    fn clear(run: &Path) -> Result<Leftovers, String> {
        let handle =
            rustix::fs::open(run, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
                .map_err(words("open the run directory"))?;
        let path = run.join("oci");
        if path.exists() {
            tree::remove_entry(handle.as_fd(), "oci".as_ref()).map_err(words("clear the runtime's state"))?;
        }
        std::fs::create_dir_all(path.join("state")).map_err(words("make the runtime's state"))?;
        Ok(Leftovers { path })
    }
}

/// A socket of the host that the container's root may write to; it is bound into the container as a file.
fn notify_socket(path: &Path, owner: u32) -> io::Result<UnixDatagram> {
    drop(std::fs::remove_file(path));
    let socket = short_path(path, |short| UnixDatagram::bind(short))?;
    socket.set_nonblocking(true)?;
    rustix::fs::chown(path, Some(rustix::fs::Uid::from_raw(owner)), Some(rustix::fs::Gid::from_raw(owner)))?;
    Ok(socket)
}

/// Calls `work` with a path to the same file of at most 108 bytes, which is all that a socket's address has.
pub fn short_path<T>(path: &Path, work: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    use std::os::fd::AsRawFd;
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let handle = rustix::fs::open(parent, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    work(&Path::new(&format!("/proc/self/fd/{}", handle.as_raw_fd())).join(name))
}

fn console_terminal(listener: &UnixListener) -> io::Result<OwnedFd> {
    // Init has sent it before the runtime returned: nothing is waited for.
    listener.set_nonblocking(true)?;
    let (connection, _) = listener.accept()?;
    let channel = Channel::new(connection.into());
    let terminal = channel
        .receive_descriptor()?
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the runtime sent no terminal"))?;
    let flags = rustix::fs::fcntl_getfl(&terminal)?;
    rustix::fs::fcntl_setfl(&terminal, flags | OFlags::NONBLOCK)?;
    Ok(terminal)
}

fn wait_for_execution(pipe: OwnedFd) -> Result<(), String> {
    let timeout = Timespec { tv_sec: EXECUTION.as_secs() as i64, tv_nsec: 0 };
    match poll(&mut [PollFd::new(&pipe, PollFlags::IN)], Some(&timeout)) {
        Ok(0) => Err(format!("init was not executed within {} s", EXECUTION.as_secs())),
        Ok(_) => {
            let mut rest = String::new();
            drop(File::from(pipe).read_to_string(&mut rest));
            Ok(())
        }
        Err(error) => Err(error.to_string()),
    }
}

/// The pipe was closed by the execution of init, or by the death of what was to become it; of the latter it has complained before.
fn see_that_it_lives(pidfd: &OwnedFd, init: &str, complaint: &str) -> Result<(), String> {
    let timeout = Timespec { tv_sec: LAST_BREATH.as_secs() as i64, tv_nsec: 0 };
    if !matches!(poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&timeout)), Ok(1..)) {
        return Ok(());
    }
    Err(not_executed(init, why_not_executed(complaint).unwrap_or(complaint)))
}

fn not_executed(init: &str, why: &str) -> String {
    format!("`{init}` in the container cannot be executed: {why}")
}

/// Complaints of the library about the execution of init, in words.
fn why_not_executed(complaint: &str) -> Option<&'static str> {
    let is_of_execution = complaint.contains("execvp") || complaint.starts_with("executable ");
    let words = [
        ("not found in PATH", "it is not there"),
        ("correct permission", "it is not executable"),
        ("ENOENT", "it, or its interpreter, is not there"),
        ("ENOEXEC", "exec format error: it is no program of this machine, and has no `#!`"),
        ("EACCES", "permission denied: it, or its interpreter, is not executable"),
    ];
    words.iter().find(|(sign, _)| is_of_execution && complaint.contains(sign)).map(|(_, why)| *why)
}

fn words<E: std::error::Error>(what: &'static str) -> impl FnOnce(E) -> String {
    move |error| format!("cannot {what}: {}", describe(&error))
}

/// An error with its sources in one line.
pub fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = error.source();
    }
    text
}
