//! A container as the OCI runtime specification says it: the boundary to `libcontainer`.
//!
//! Unprivileged: a user namespace of its own, all other namespaces owned by it. What a system container needs for daily work (mounts, its own
//! network, setuid programs, a systemd) is allowed; what reaches the host's kernel as a whole is not, see [`seccomp`].

use std::path::{Path, PathBuf};

use oci_spec::OciSpecError;
use oci_spec::runtime::{
    Arch, Capability, LinuxBuilder, LinuxCapabilitiesBuilder, LinuxDeviceCgroupBuilder, LinuxDeviceType,
    LinuxIdMappingBuilder, LinuxNamespaceBuilder, LinuxNamespaceType, LinuxResourcesBuilder, LinuxSeccomp,
    LinuxSeccompAction, LinuxSeccompBuilder, LinuxSyscallBuilder, Mount, MountBuilder, ProcessBuilder,
    RootBuilder, Spec, SpecBuilder,
};
use store::IdRange;

use crate::devices::{Device, node};

/// The search path of everything that is started in a container, as the original has it.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a container needs to be told to its runtime.
#[derive(Debug, Clone)]
pub struct Wanted<'a> {
    /// Its root, mounted.
    pub root: &'a Path,
    /// Host name inside.
    pub hostname: &'a str,
    /// What its process 1 has in its environment besides: `NAME=VALUE`.
    pub environment: &'a [String],
    /// The path of its control group in every hierarchy.
    pub cgroup: PathBuf,
    /// Its ids on the host.
    pub ids: IdRange,
    /// PID 1.
    pub init: &'a str,
    /// `container=` in init's environment tells a systemd where it is; this is the container's id.
    pub id: &'a str,
    /// What is bound over files of `/proc`, by their names there.
    pub own_proc: &'a [(&'static str, PathBuf)],
    /// The socket on which a systemd tells that it is up, or `None`.
    pub notify: Option<&'a Path>,
    /// What devices it has beside those that every container has.
    pub devices: &'a [Device],
    /// Where their nodes are.
    pub nodes: &'a Path,
    /// Containers run in it.
    pub nests: bool,
}

/// Writes the specification.
///
/// # Errors
/// When a field is out of its range.
pub fn specification(wanted: &Wanted<'_>) -> Result<Spec, OciSpecError> {
    let mapping = LinuxIdMappingBuilder::default()
        .container_id(0u32)
        .host_id(wanted.ids.first)
        .size(wanted.ids.count)
        .build()?;
    let namespaces = [
        LinuxNamespaceType::User,
        LinuxNamespaceType::Pid,
        LinuxNamespaceType::Mount,
        LinuxNamespaceType::Network,
        LinuxNamespaceType::Ipc,
        LinuxNamespaceType::Uts,
        LinuxNamespaceType::Cgroup,
    ]
    .into_iter()
    .map(|kind| LinuxNamespaceBuilder::default().typ(kind).build())
    .collect::<Result<Vec<_>, _>>()?;

    let linux = LinuxBuilder::default()
        .namespaces(namespaces)
        .uid_mappings(vec![mapping])
        .gid_mappings(vec![mapping])
        .cgroups_path(wanted.cgroup.clone())
        .resources(LinuxResourcesBuilder::default().devices(devices(wanted.devices)?).build()?)
        .seccomp(seccomp(wanted.nests)?)
        // `/old` comes and goes by propagation from the monitor's namespace.
        .rootfs_propagation("slave")
        // Nothing in `/proc` is covered but by lxcfs: its ids own nothing there, and what is covered keeps every namespace in it from having a `/proc` of its own.
        .masked_paths(Vec::<String>::new())
        .readonly_paths(Vec::<String>::new())
        .build()?;

    let capabilities: oci_spec::runtime::Capabilities = capabilities().into_iter().collect();
    let process = ProcessBuilder::default()
        .terminal(true)
        .args(vec![wanted.init.to_owned()])
        .env(init_environment(wanted))
        .cwd("/")
        // Those of the monitor. What the crate would put here for us, 1024 open files and no more ever, is too little for a database.
        .rlimits(Vec::new())
        // su, sudo and ping are setuid programs, and a VPS has them.
        .no_new_privileges(false)
        .capabilities(
            LinuxCapabilitiesBuilder::default()
                .bounding(capabilities.clone())
                .effective(capabilities.clone())
                .permitted(capabilities)
                .inheritable(oci_spec::runtime::Capabilities::new())
                .ambient(oci_spec::runtime::Capabilities::new())
                .build()?,
        )
        .build()?;

    SpecBuilder::default()
        .version("1.0.2")
        .root(RootBuilder::default().path(wanted.root).readonly(false).build()?)
        .hostname(wanted.hostname)
        .process(process)
        .mounts(mounts(wanted)?)
        .linux(linux)
        .build()
}

fn init_environment(wanted: &Wanted<'_>) -> Vec<String> {
    let mut environment = vec![
        "HOME=/".to_owned(),
        "TERM=linux".to_owned(),
        format!("PATH={PATH}"),
        "container=reroot".to_owned(),
        format!("container_uuid={}", wanted.id),
    ];
    if wanted.notify.is_some() {
        environment.push("NOTIFY_SOCKET=/run/host/notify".to_owned());
    }
    for said in wanted.environment {
        let name = said.split_inclusive('=').next().unwrap_or(said);
        environment.retain(|usual| !usual.starts_with(name));
        environment.push(said.clone());
    }
    environment
}

fn mounts(wanted: &Wanted<'_>) -> Result<Vec<Mount>, OciSpecError> {
    let table: [(&str, &str, &[&str]); 8] = [
        ("/proc", "proc", &["nosuid", "noexec", "nodev"]),
        ("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=4m"]),
        ("/dev/pts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
        ("/dev/shm", "tmpfs", &["nosuid", "nodev", "mode=1777"]),
        ("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        ("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
        ("/sys/fs/cgroup", "cgroup2", &["nosuid", "noexec", "nodev", "relatime"]),
        ("/run", "tmpfs", &["nosuid", "nodev", "mode=755"]),
    ];
    let mut mounts = Vec::with_capacity(table.len() + 1);
    for (destination, kind, options) in table {
        let options: Vec<String> = options.iter().map(|&option| option.to_owned()).collect();
        mounts.push(
            MountBuilder::default()
                .destination(destination)
                .typ(kind)
                .source(kind)
                .options(options)
                .build()?,
        );
    }
    if !wanted.own_proc.is_empty() {
        // What is covered in one `/proc` keeps every namespace inside from having one of its own, unless there is another in which nothing is.
        mounts.push(
            MountBuilder::default()
                .destination("/dev/.reroot/proc")
                .typ("proc")
                .source("proc")
                .options(["nosuid", "noexec", "nodev"].map(str::to_owned).to_vec())
                .build()?,
        );
    }
    for (name, source) in wanted.own_proc {
        mounts.push(
            MountBuilder::default()
                .destination(Path::new("/proc").join(name))
                .typ("bind")
                .source(source)
                // As it is mounted on the host: without setuid and devices.
                .options(vec!["bind".to_owned()])
                .build()?,
        );
    }
    if let Some(notify) = wanted.notify {
        mounts.push(
            MountBuilder::default()
                .destination("/run/host/notify")
                .typ("bind")
                .source(notify)
                .options(vec!["bind".to_owned(), "rw".to_owned(), "nosuid".to_owned(), "nodev".to_owned()])
                .build()?,
        );
    }
    for (index, device) in wanted.devices.iter().enumerate() {
        mounts.push(
            MountBuilder::default()
                .destination(Path::new("/dev").join(&device.name))
                .typ("bind")
                .source(node(wanted.nodes, index))
                .options(vec!["bind".to_owned(), "rw".to_owned(), "nosuid".to_owned(), "noexec".to_owned()])
                .build()?,
        );
    }
    Ok(mounts)
}

/// Nothing but the pseudo-devices that every container has, and its own; terminals are of the container's own devpts.
fn devices(own: &[Device]) -> Result<Vec<oci_spec::runtime::LinuxDeviceCgroup>, OciSpecError> {
    let deny_all =
        LinuxDeviceCgroupBuilder::default().allow(false).typ(LinuxDeviceType::A).access("rwm").build()?;
    let mut rules = vec![deny_all];
    // null zero full random urandom tty console ptmx, and every pty
    let allowed = [
        (1, Some(3)),
        (1, Some(5)),
        (1, Some(7)),
        (1, Some(8)),
        (1, Some(9)),
        (5, Some(0)),
        (5, Some(1)),
        (5, Some(2)),
        (136, None),
    ];
    for (major, minor) in allowed {
        let mut rule = LinuxDeviceCgroupBuilder::default()
            .allow(true)
            .typ(LinuxDeviceType::C)
            .major(major)
            .access("rwm");
        if let Some(minor) = minor {
            rule = rule.minor(minor);
        }
        rules.push(rule.build()?);
    }
    for device in own {
        let kind = if device.is_block { LinuxDeviceType::B } else { LinuxDeviceType::C };
        let rule = LinuxDeviceCgroupBuilder::default()
            .allow(true)
            .typ(kind)
            .major(i64::from(device.major))
            .minor(i64::from(device.minor))
            .access(device.access());
        rules.push(rule.build()?);
    }
    Ok(rules)
}

/// Everything but what speaks to the kernel as a whole: in a user namespace these would be refused anyway, a program that looks at its bounding
/// set is told so.
pub fn capabilities() -> Vec<Capability> {
    vec![
        Capability::AuditControl,
        Capability::AuditWrite,
        Capability::Chown,
        Capability::DacOverride,
        Capability::DacReadSearch,
        Capability::Fowner,
        Capability::Fsetid,
        Capability::IpcLock,
        Capability::IpcOwner,
        Capability::Kill,
        Capability::Lease,
        Capability::LinuxImmutable,
        Capability::Mknod,
        Capability::NetAdmin,
        Capability::NetBindService,
        Capability::NetBroadcast,
        Capability::NetRaw,
        Capability::Setfcap,
        Capability::Setgid,
        Capability::Setpcap,
        Capability::Setuid,
        Capability::SysAdmin,
        Capability::SysBoot,
        Capability::SysChroot,
        Capability::SysNice,
        Capability::SysPtrace,
        Capability::SysResource,
        Capability::SysTtyConfig,
    ]
}

/// The machine's own, and those whose programs it also runs: a call of theirs must not be a way round.
pub(crate) fn architectures() -> Vec<Arch> {
    if cfg!(target_arch = "aarch64") {
        vec![Arch::ScmpArchAarch64, Arch::ScmpArchArm]
    } else {
        vec![Arch::ScmpArchX86_64, Arch::ScmpArchX86, Arch::ScmpArchX32]
    }
}

const KEYRINGS: [&str; 1] = ["keyctl"];

/// The calls that are refused in every container, to init and to whatever is executed in it alike.
///
/// Modules, kexec, opening files by handle (it walks past the mount), the kernel's log, keyrings that are not namespaced, and four large
/// surfaces that a VPS loses nothing without. `EPERM`, but for `clone3`-like probes none of these has a fallback that needs `ENOSYS`;
/// io_uring's users do look for `ENOSYS`. One in which containers run may use keyrings: each of those has one made.
///
/// # Errors
/// When a field is out of its range.
pub fn seccomp(nests: bool) -> Result<LinuxSeccomp, OciSpecError> {
    let refused: Vec<String> = [
        "kexec_load",
        "kexec_file_load",
        "open_by_handle_at",
        "init_module",
        "finit_module",
        "delete_module",
        "syslog",
        "bpf",
        "perf_event_open",
        "userfaultfd",
        "add_key",
        "keyctl",
        "request_key",
        "swapon",
        "swapoff",
        "acct",
        "settimeofday",
        "clock_settime",
        "iopl",
        "ioperm",
        "quotactl",
        "nfsservctl",
        "lookup_dcookie",
    ]
    .iter()
    .filter(|name| !(nests && KEYRINGS.contains(name)))
    .map(|&name| name.to_owned())
    .collect();
    let absent: Vec<String> = ["io_uring_setup", "io_uring_enter", "io_uring_register"]
        .iter()
        .map(|&name| name.to_owned())
        .collect();
    LinuxSeccompBuilder::default()
        .default_action(LinuxSeccompAction::ScmpActAllow)
        .architectures(architectures())
        .syscalls(vec![
            LinuxSyscallBuilder::default()
                .names(refused)
                .action(LinuxSeccompAction::ScmpActErrno)
                .errno_ret(rustix::io::Errno::PERM.raw_os_error() as u32)
                .build()?,
            LinuxSyscallBuilder::default()
                .names(absent)
                .action(LinuxSeccompAction::ScmpActErrno)
                .errno_ret(rustix::io::Errno::NOSYS.raw_os_error() as u32)
                .build()?,
        ])
        .build()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    /// Most of them need a capability over the host, too, and would be refused in a container without the list: so nothing inside shows that they are in it.
    #[test]
    fn the_list_of_refused_calls_is_the_one_that_is_promised() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../SECURITY.md");
        let text = std::fs::read_to_string(path).expect("it is there");
        let (_, rest) = text.split_once("- **Some system calls are refused**").expect("it tells of them");
        let (list, _) = rest.split_once("Everything else is allowed").expect("it ends");
        let (_, list) = list.split_once(": ").expect("it is a list");
        let promised: BTreeSet<String> = list.split('`').skip(1).step_by(2).map(str::to_owned).collect();
        let profile = seccomp(false).expect("it can be built");
        assert_eq!(profile.default_action(), LinuxSeccompAction::ScmpActAllow);
        let mut found = BTreeSet::new();
        for group in profile.syscalls().iter().flatten() {
            assert_eq!(group.action(), LinuxSeccompAction::ScmpActErrno);
            assert!(group.args().is_none(), "whatever they are called with");
            found.extend(group.names().iter().cloned());
        }
        assert_eq!(found, promised);
        let nesting = seccomp(true).expect("it can be built");
        let left: BTreeSet<String> =
            nesting.syscalls().iter().flatten().flat_map(|group| group.names().iter().cloned()).collect();
        let opened: Vec<&String> = found.difference(&left).collect();
        assert_eq!(opened, ["keyctl"]);
        assert!(found.len() >= 26);
    }
}
