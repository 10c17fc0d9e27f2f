//! What a root is, found out by looking at it: which system, for which machine, what starts and stops it.

use std::io::Read;
use std::path::Path;

use store::Application;
use tree::{LayeredRoot, Root, TreeError};

use super::entry_point::EntryPoint;
use super::{Told, Wanted};
use crate::template::{BUSYBOX_STOP_SIGNAL, BuiltTemplate, RecipeError, architecture, is_busybox_init};

/// What process 1 may be, the first that is there.
const INITS: [&str; 6] = [
    "/sbin/init",
    "/usr/sbin/init",
    "/lib/systemd/systemd",
    "/usr/lib/systemd/systemd",
    "/bin/init",
    "/init",
];
const SYSTEMD: [&str; 2] = ["/lib/systemd/systemd", "/usr/lib/systemd/systemd"];
/// The distribution of a root that does not say which it is of.
pub const UNKNOWN: &str = "linux";
/// Files that tell what a system is are a few hundred bytes.
const SMALL: u64 = 64 * 1024;

/// Process 1 of a root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Init {
    /// Its path.
    pub path: String,
    /// What asks it to stop the whole container.
    pub stop_signal: String,
    /// It is a systemd.
    pub is_systemd: bool,
}

/// `None`: the root has no init.
///
/// # Errors
/// When it cannot be looked at.
pub fn init_of(root: &LayeredRoot) -> Result<Option<Init>, TreeError> {
    let mut path = None;
    for init in INITS {
        if root.has_executable(Path::new(init))? {
            path = Some(init);
            break;
        }
    }
    let Some(path) = path else { return Ok(None) };
    for systemd in SYSTEMD {
        if root.has_executable(Path::new(systemd))? {
            return Ok(Some(Init {
                path: path.to_owned(),
                stop_signal: "SIGRTMIN+3".to_owned(),
                is_systemd: true,
            }));
        }
    }
    let is_ours = root
        .read_file_followed(Path::new(path), SMALL)
        .ok()
        .flatten()
        .is_some_and(|file| is_busybox_init(&file.bytes));
    // What a busybox is told to power off with; any other one may know the signal of a failing supply.
    let stop_signal = match () {
        () if is_ours => BUSYBOX_STOP_SIGNAL,
        () if root.has_executable(Path::new("/bin/busybox"))?
            && !root.has_executable(Path::new("/sbin/telinit"))? =>
        {
            "SIGUSR2"
        }
        () => "SIGPWR",
    };
    Ok(Some(Init { path: path.to_owned(), stop_signal: stop_signal.to_owned(), is_systemd: false }))
}

/// What a root is that is not to be a template.
#[derive(Debug)]
pub struct System {
    /// Process 1.
    pub init: Init,
    /// `ID` of os-release: `debian`, `busybox`.
    pub distribution: String,
}

/// Looks at a root that is to be a container's.
///
/// # Errors
/// [`RecipeError::NoInit`], [`RecipeError::OtherMachine`]; when it cannot be looked at.
pub fn system(root: &LayeredRoot) -> Result<System, RecipeError> {
    let Some(init) = init_of(root)? else {
        return Err(RecipeError::NoInit { tried: INITS.join(", ") });
    };
    check_machine(root, &init.path)?;
    Ok(System { init, distribution: system_of(root)?.0 })
}

/// For which machine it is, in Debian's words; one that this is not is refused.
fn check_machine(root: &LayeredRoot, init: &str) -> Result<String, RecipeError> {
    let machine = machine_of(root, init)?.unwrap_or_else(|| architecture().to_owned());
    if !is_run_here(&machine) {
        return Err(RecipeError::OtherMachine { is: machine, here: architecture() });
    }
    Ok(machine)
}

/// Looks at a root that is to be a template.
pub fn judge(
    rootfs: &Path,
    source: String,
    entry_point: Option<EntryPoint>,
    wanted: &Wanted,
    told: &mut Told<'_>,
) -> Result<BuiltTemplate, RecipeError> {
    let root = LayeredRoot::new(Root::open(rootfs)?, None);
    let (init, application) = process_one(&root, entry_point, wanted, told)?;
    let machine = check_machine(&root, &init.path)?;
    let (distribution, release) = system_of(&root)?;
    let is_key = |name: &std::ffi::OsString| name.to_string_lossy().starts_with("ssh_host_");
    if root.names(Path::new("/etc/ssh")).ok().flatten().is_some_and(|names| names.iter().any(is_key)) {
        (told.note)(
            "there are SSH host keys in it: whoever has the template has them, and no container gets them; each gets a new one",
        );
    }
    Ok(BuiltTemplate {
        source,
        distribution,
        release,
        architecture: machine,
        init: init.path,
        stop_signal: wanted.stop_signal.clone().unwrap_or(init.stop_signal),
        systemd: init.is_systemd,
        application,
        own_files: Vec::new(),
    })
}

/// Programs for that machine, as Debian names it, run on this one.
pub fn is_run_here(machine: &str) -> bool {
    machine == architecture() || machine == "i386" && architecture() == "amd64"
}

/// What is started in a container: the init that somebody has named, or that is there, or the entry point under the small init.
fn process_one(
    root: &LayeredRoot,
    entry_point: Option<EntryPoint>,
    wanted: &Wanted,
    told: &mut Told<'_>,
) -> Result<(Init, Option<Application>), RecipeError> {
    let found = init_of(root)?;
    if let Some(path) = &wanted.init {
        if !root.has_executable(Path::new(path))? {
            return Err(RecipeError::NoInit { tried: tree::escaped(path.as_bytes()) });
        }
        let unknown = || Init { path: String::new(), stop_signal: "SIGTERM".to_owned(), is_systemd: false };
        return Ok((Init { path: path.clone(), ..found.unwrap_or_else(unknown) }, None));
    }
    match (found, entry_point) {
        (None, None) => Err(RecipeError::NoInit { tried: INITS.join(", ") }),
        (Some(_), None) if wanted.entry_point => {
            Err(RecipeError::EntryPoint { because: "it does not say what is to be run".to_owned() })
        }
        (Some(found), None) => Ok((found, None)),
        (Some(found), Some(entry_point)) if !wanted.entry_point && !entry_point.is_chosen => {
            entry_point.tell_unused(&found, told);
            Ok((found, None))
        }
        (Some(_) | None, Some(entry_point)) => {
            let init = entry_point.init(root, told)?;
            Ok((init, Some(entry_point.application)))
        }
    }
}

/// For which machine its programs are, in Debian's words; `None`: that cannot be told.
fn machine_of(root: &LayeredRoot, init: &str) -> Result<Option<String>, TreeError> {
    for program in [init, "/bin/sh", "/usr/bin/sh", "/bin/busybox"] {
        let Ok(Some(file)) = root.open_file_followed(Path::new(program)) else { continue };
        let mut header = Vec::new();
        if file.take(20).read_to_end(&mut header).is_err()
            || !header.starts_with(b"\x7fELF")
            || header.len() < 20
        {
            continue;
        }
        let (is_64, is_little, number) = (header[4] == 2, header[5] == 1, [header[18], header[19]]);
        let number = if is_little { u16::from_le_bytes(number) } else { u16::from_be_bytes(number) };
        return Ok(Some(
            match (number, is_64, is_little) {
                (62, true, _) => "amd64",
                (62, false, _) => "x32",
                (3, ..) => "i386",
                (183, ..) => "arm64",
                (40, ..) => "armhf",
                (243, true, _) => "riscv64",
                (22, true, _) => "s390x",
                (21, _, true) => "ppc64el",
                (21, _, false) => "ppc64",
                (8, ..) => "mips",
                (258, ..) => "loong64",
                _ => "another machine",
            }
            .to_owned(),
        ));
    }
    Ok(None)
}

/// Distribution and release, in the words of os-release.
fn system_of(root: &LayeredRoot) -> Result<(String, Option<String>), TreeError> {
    let read = |path: &str| -> Option<String> {
        let file = root.read_file_followed(Path::new(path), SMALL).ok().flatten()?;
        Some(String::from_utf8_lossy(&file.bytes).into_owned())
    };
    for path in ["/etc/os-release", "/usr/lib/os-release"] {
        let Some(text) = read(path) else { continue };
        let value = |key: &str| {
            let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
            let value = value.trim().trim_matches(['"', '\'']);
            let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
            (!value.is_empty() && value.len() <= 64 && value.chars().all(is_plain)).then(|| value.to_owned())
        };
        if let Some(id) = value("ID") {
            return Ok((id, value("VERSION_ID")));
        }
    }
    // Those that are older than os-release: `CentOS release 6.10 (Final)`, `7.11`, `3.2.0`.
    let number = |text: &str| {
        let word = text.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
        Some(word.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect::<String>())
    };
    for (path, name) in [("/etc/alpine-release", "alpine"), ("/etc/debian_version", "debian")] {
        if let Some(text) = read(path) {
            return Ok((name.to_owned(), number(&text)));
        }
    }
    if let Some(text) = read("/etc/redhat-release") {
        let name = if text.starts_with("CentOS") { "centos" } else { "redhat" };
        return Ok((name.to_owned(), number(&text)));
    }
    Ok((UNKNOWN.to_owned(), None))
}
