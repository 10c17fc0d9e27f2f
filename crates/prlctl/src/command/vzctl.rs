//! `vzctl`: the words of legacy OpenVZ, its lines on stdout and its exit codes, over the commands of `prlctl`. Nothing is done here.
//!
//! Its commands never take a start of a name or a UUID for the whole: a script that stops 101 must not stop what happens to begin so.
//! See docs/decisions/0032-numeric-ids.md.

use std::path::Path;

use engine::{Code, Failure, Host, Result};
use store::{ContainerId, FindError, NumericId, Volume, registry};

use super::list::state_of;
use super::{create, delete, exec, host, mount, prefix, register, reinstall, set, start, stop};
use crate::arguments::{
    Common, Create, Delete, Enter, Exec, Mount, Named, NewDisk, OfContainer, Restart, Set, Settings, Start,
    Stop, Vzctl, VzctlCommand, VzctlCreate, VzctlEnter, VzctlExec, VzctlReinstall, VzctlSet, VzctlStart,
    VzctlStop, VzctlStopOnly,
};
use crate::output;

/// Runs it; returns its exit code.
///
/// # Errors
/// [`Failure`].
pub fn run(arguments: Vzctl) -> Result<u8> {
    // Its own lines are said here; what `prlctl` would say while it is at work is for those who ask.
    output::speak_as_vzctl(arguments.verbose > 0);
    let lines = Lines { is_quiet: arguments.quiet };
    match arguments.command {
        VzctlCommand::Create(arguments) => create_one(*arguments, &lines),
        VzctlCommand::Start(arguments) => start_one(&arguments, &lines),
        VzctlCommand::Stop(arguments) => stop_one(&arguments, &lines),
        VzctlCommand::Restart(arguments) => restart(&arguments, &lines),
        VzctlCommand::Status(arguments) => status(&arguments.container),
        VzctlCommand::Exec(arguments) => {
            // Whatever went wrong in there is one code; what kept it from being run has its own.
            let code = execute(arguments, false)?;
            Ok(if code == 0 { 0 } else { Code::ExecFailed.exit() })
        }
        VzctlCommand::Exec2(arguments) => execute(arguments, false),
        VzctlCommand::Exec3(arguments) => execute(arguments, true),
        VzctlCommand::Enter(arguments) => enter(arguments, &lines),
        VzctlCommand::Set(arguments) => set_one(*arguments, &lines),
        VzctlCommand::Destroy(arguments) => destroy(&arguments, &lines),
        VzctlCommand::Reinstall(arguments) => reinstall_one(*arguments, &lines),
        VzctlCommand::Mount(arguments) => {
            mount::mount(&Mount {
                container: whole(&arguments.container)?,
                generation: None,
                common: common(),
            })?;
            lines.say("Container is mounted");
            Ok(0)
        }
        VzctlCommand::Umount(arguments) => {
            mount::umount(&Named { container: whole(&arguments.container)?, common: common() })?;
            lines.say("Container is unmounted");
            Ok(0)
        }
        VzctlCommand::Unregister(arguments) => {
            register::unregister(&Named { container: whole(&arguments.container)?, common: common() })?;
            lines.say("Container is unregistered");
            Ok(0)
        }
    }
}

/// What scripts read.
struct Lines {
    is_quiet: bool,
}

impl Lines {
    fn say(&self, text: &str) {
        if !self.is_quiet {
            output::vzctl_line(text);
        }
    }
}

fn common() -> Common {
    Common { lock_wait: 0, json: false }
}

/// The words, if they are all of a name, a number or a UUID.
fn whole(words: &str) -> Result<String> {
    let host = host(0, false)?;
    match registry::find_whole(&host.prefix, words)? {
        // Not the words again: by then they might be the beginning of another.
        Some(id) => engine::names::is_its_alone(&host.prefix, &id, words).map(|()| id.to_string()),
        None => Err(unknown(words)),
    }
}

fn unknown(words: &str) -> Failure {
    Failure::new(Code::UnknownContainer, format!("unknown container `{}`", tree::escaped(words.as_bytes())))
        .because("no container has that number, name or UUID")
        .unchanged()
        .hint("`vzlist -a` shows all there are")
}

fn create_one(arguments: VzctlCreate, lines: &Lines) -> Result<u8> {
    let VzctlCreate {
        container,
        ostemplate,
        config,
        name,
        uuid,
        private,
        root,
        layout,
        ram,
        mut settings,
        ..
    } = arguments;
    let volume = layout.as_deref().map(volume_of).transpose()?;
    in_bytes(&mut settings, ram);
    let (ctid, own_uuid) = match container.parse::<ContainerId>() {
        Ok(id) => (None, Some(id.to_string())),
        Err(_) => {
            let number = container.parse::<NumericId>().map_err(|error| {
                Failure::new(Code::BadValue, "that cannot be the number of a container")
                    .caused_by(&error)
                    .unchanged()
                    .hint("`vzctl create 101`, with a name behind --name; or `prlctl create NAME`")
            })?;
            (Some(number), None)
        }
    };
    if let (Some(own), Some(uuid)) = (&own_uuid, &uuid) {
        return Err(Failure::new(Code::BadOption, "there are two UUIDs")
            .because(format!("`{own}`, and `{}` behind --uuid", tree::escaped(uuid.as_bytes())))
            .unchanged()
            .hint("leave one of them out"));
    }
    let id = own_uuid.clone().or_else(|| uuid.clone());
    for (option, path, directory) in [("--private", &private, "/vz/private"), ("--root", &root, "/vz/root")] {
        if let Some(path) = path {
            check_place(option, path, directory, &[Some(container.as_str()), id.as_deref()])?;
        }
    }
    let shown = ostemplate.clone().map_or_else(String::new, |template| format!(" ({template})"));
    lines.say(&format!("Creating Container private area{shown}"));
    create::run(&Create {
        name: name.unwrap_or_else(|| match ctid {
            Some(number) => number.to_string(),
            // A UUID is no name.
            None => format!(
                "ct-{}",
                container.chars().filter(char::is_ascii_hexdigit).take(8).collect::<String>()
            ),
        }),
        vmtype: "ct".to_owned(),
        ostemplate,
        uuid: id,
        ctid: ctid.map(|number| number.to_string()),
        user_data: None,
        config,
        volume: volume.map(|volume| volume.as_str().to_owned()),
        disk: NewDisk::default(),
        settings,
        common: common(),
    })?;
    lines.say("Container private area was created");
    Ok(0)
}

/// What is here as its layouts are there; the format of a ploop's image, behind a colon, is as it is.
fn volume_of(layout: &str) -> Result<Volume> {
    match layout.split(':').next() {
        Some("ploop") => Ok(Volume::Image),
        Some("simfs") => Ok(Volume::Directory),
        Some(_) | None => {
            let shown = tree::escaped(layout.as_bytes());
            Err(Failure::new(Code::BadValue, format!("`--layout {shown}` cannot be used"))
                .because("wanted ploop, a disk of its own, or simfs, a directory")
                .unchanged()
                .hint("leave --layout out for what VOLUME of vz.conf says"))
        }
    }
}

/// A place that somebody names is only taken where it is the one that there is; elsewhere nothing is put.
fn check_place(option: &str, path: &Path, directory: &str, ids: &[Option<&str>]) -> Result<()> {
    let last = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let is_usual = path.parent() == Some(Path::new(directory))
        && (["$VEID", "$CTID"].contains(&last) || ids.iter().flatten().any(|id| *id == last));
    if is_usual {
        return Ok(());
    }
    Err(Failure::new(Code::BadValue, format!("`{option} {}` cannot be used", tree::escaped_path(path)))
        .because(format!("every container is in {directory}, by its UUID"))
        .unchanged()
        .hint(format!("leave {option} out")))
}

fn start_one(arguments: &VzctlStart, lines: &Lines) -> Result<u8> {
    let container = whole(&arguments.container)?;
    lines.say("Starting Container ...");
    let (wait, force) = (arguments.wait, arguments.force);
    let repair = arguments.repair;
    start::run(&Start { container, force, wait, repair, timeout: 600, common: common() })?;
    lines.say("Container is mounted");
    lines.say("Container start in progress...");
    Ok(0)
}

fn stop_one(VzctlStopOnly { skip_umount, stop: arguments }: &VzctlStopOnly, lines: &Lines) -> Result<u8> {
    let container = whole(&arguments.container)?;
    lines.say("Stopping Container ...");
    if *skip_umount {
        output::warning(
            "`--skip-umount` means nothing here: `vzctl mount` shows the root of one that is stopped",
        );
    }
    stop::stop(&Stop {
        container: Some(container),
        all: false,
        deadline: None,
        kill: arguments.fast,
        timeout: None,
        with_host: false,
        common: common(),
    })?;
    lines.say("Container was stopped");
    lines.say("Container is unmounted");
    Ok(0)
}

fn restart(arguments: &VzctlStop, lines: &Lines) -> Result<u8> {
    let container = whole(&arguments.container)?;
    lines.say("Restarting Container");
    stop::restart(&Restart { container, kill: arguments.fast, timeout: None, common: common() })?;
    lines.say("Container is mounted");
    lines.say("Container start in progress...");
    Ok(0)
}

/// Five words, and code 0 whatever they are.
fn status(words: &str) -> Result<u8> {
    let host = host(0, false)?;
    let found = match registry::find_whole(&host.prefix, words) {
        Err(FindError::Unregistered { .. }) => None,
        found => found?,
    };
    let said = match found {
        Some(id) => state(&host, &id),
        None => "deleted unmounted down",
    };
    output::line(&format!("VEID {words} {said}"));
    Ok(0)
}

fn state(host: &Host, id: &ContainerId) -> &'static str {
    match state_of(host, id) {
        "running" => "exist mounted running",
        "mounted" => "exist mounted down",
        _ => "exist unmounted down",
    }
}

fn execute(arguments: VzctlExec, without_shell: bool) -> Result<u8> {
    exec::exec(Exec { container: whole(&arguments.container)?, without_shell, command: arguments.command })
}

fn enter(arguments: VzctlEnter, lines: &Lines) -> Result<u8> {
    let container = whole(&arguments.container)?;
    let prefix = prefix()?;
    let id = registry::find_whole(&prefix, &container)?;
    // Only said of one that can be entered.
    if id.is_some_and(|id| runtime::state::running(&prefix, &id).is_some()) {
        lines.say(&format!("entered into CT {}", arguments.container));
    }
    let code = if arguments.exec.is_empty() {
        exec::enter(&Enter { container })?
    } else {
        exec::exec(Exec { container, without_shell: false, command: arguments.exec })?
    };
    lines.say(&format!("exited from CT {}", arguments.container));
    Ok(code)
}

fn set_one(arguments: VzctlSet, lines: &Lines) -> Result<u8> {
    let VzctlSet { container: words, save, name, applyconfig, ipdel, ram, devices, mut settings, .. } =
        arguments;
    in_bytes(&mut settings, ram);
    // A password stands in no ve.conf, and is there to stay in any case.
    let sets_only_password = !settings.userpasswd.is_empty()
        && settings.said().is_empty()
        && settings.ipadd.is_empty()
        && settings.bindmount_add.is_empty()
        && settings.interfaces.is_empty()
        && devices.is_empty()
        && ipdel.is_empty()
        && name.is_none()
        && applyconfig.is_none();
    set::run(&Set {
        container: whole(&words)?,
        name,
        applyconfig,
        save,
        no_save: !save && !sets_only_password,
        ipdel,
        devices,
        screen: Box::default(),
        settings,
        common: common(),
    })?;
    if save {
        lines.say(&format!("Saved parameters for Container {words}"));
    } else if !sets_only_password {
        output::warning("the settings are not saved, and are gone with the next start: --save saves them");
    }
    Ok(0)
}

/// `vzctl` counts memory and swap in bytes where `prlctl` does in MiB; with a suffix both say the same.
fn in_bytes(settings: &mut Settings, ram: Option<String>) {
    let in_bytes = |text: String| {
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if is_number { format!("{text}B") } else { text }
    };
    if let Some(ram) = ram {
        settings.memsize = Some(in_bytes(ram));
    }
    settings.swap = settings.swap.take().map(in_bytes);
}

fn destroy(arguments: &OfContainer, lines: &Lines) -> Result<u8> {
    let words = whole(&arguments.container)?;
    let prefix = prefix()?;
    if let Some(id) = registry::find_whole(&prefix, &words)? {
        lines.say(&format!("Destroying Container private area: {}", prefix.area_dir(&id).display()));
    }
    delete::run(&Delete { container: words, force: false, common: common() })?;
    lines.say("Container private area was destroyed");
    Ok(0)
}

fn reinstall_one(arguments: VzctlReinstall, lines: &Lines) -> Result<u8> {
    for words in &arguments.reinstall.containers {
        whole(words)?;
    }
    let is_told_elsewhere =
        arguments.reinstall.listscripts || arguments.reinstall.dry_run || arguments.reinstall.common.json;
    let code = reinstall::run(&arguments.reinstall)?;
    if code == 0 && !is_told_elsewhere {
        lines.say("Container was successfully reinstalled");
    }
    Ok(code)
}
