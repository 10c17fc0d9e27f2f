//! One file a command. Each gets its arguments, asks the engine, and prints.

mod columns;
mod compact;
mod create;
mod delete;
mod devices;
mod exec;
mod generate;
mod generation;
mod generation_diff;
mod generation_restore;
mod info;
mod list;
mod list_info;
mod list_network;
mod log;
mod mount;
mod move_volume;
mod packages;
mod recover;
mod register;
mod reinstall;
mod reinstall_many;
mod script_run;
mod set;
mod start;
mod statistics;
mod status;
mod stop;
mod template;
mod together;
mod vzctl;
mod vzlist;

use std::cell::RefCell;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use clap::Parser;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use engine::{Code, Container, Failure, Host, RealRuntime, Result};
use store::{ContainerId, Prefix};

use crate::arguments::{Prlctl, PrlctlCommand, Vzctl, Vzlist, Vzpkg, VzpkgCommand};
use crate::called::Called;
use crate::drawing;
use crate::output;
use crate::password;
use crate::progress::Progress;

/// Names another directory than `/` to work under.
pub const PREFIX_VARIABLE: &str = "REROOT_PREFIX";

/// What is said of a command line that is none.
const USELESS: &str = "the command line cannot be used";

/// Runs the command line of this process; returns its exit code.
pub fn run(called: Called) -> u8 {
    // Before the command line is understood: an error in it, too, is answered in the form that was asked for.
    let wants_json = wants_json();
    if called != Called::Vzpkg
        && let Some(failure) =
            password::on_the_command_line(own_words()).or_else(password::take_off_the_command_line)
    {
        output::failure(&failure, wants_json);
        return failure.code.exit();
    }
    let result = match called {
        Called::Prlctl => Prlctl::try_parse().map(|arguments| prlctl(arguments.command)),
        Called::Vzpkg => Vzpkg::try_parse().map(|arguments| vzpkg(arguments.command)),
        Called::Vzctl => Vzctl::try_parse().map(vzctl::run),
        Called::Vzlist => Vzlist::try_parse().map(|arguments| vzlist::run(&arguments)),
    };
    let result = match result {
        Ok(result) => result,
        Err(error) => return refuse(&error, called, wants_json),
    };
    let code = match result {
        Ok(code) => code,
        Err(failure) => {
            output::failure(&failure, wants_json);
            failure.code.exit()
        }
    };
    output::rest();
    code
}

/// The words from the command on: `vzctl` takes two options before it.
fn own_words() -> impl Iterator<Item = std::ffi::OsString> {
    std::env::args_os().skip(1).skip_while(|word| word == "--quiet" || word == "--verbose")
}

/// The words after `exec` are the container's, and so are their options.
fn wants_json() -> bool {
    let mut words = own_words().peekable();
    words.peek().is_some_and(|command| !["exec", "exec2", "exec3"].iter().any(|exec| command == exec))
        && words.any(|word| word == "-j" || word == "--json")
}

fn prlctl(command: PrlctlCommand) -> Result<u8> {
    match command {
        PrlctlCommand::Create(arguments) => create::run(&arguments),
        PrlctlCommand::Start(arguments) => start::run(&arguments),
        PrlctlCommand::Stop(arguments) => stop::stop(&arguments),
        PrlctlCommand::Restart(arguments) => stop::restart(&arguments),
        PrlctlCommand::Status(arguments) => status::run(&arguments),
        PrlctlCommand::List(arguments) => list::run(&arguments),
        PrlctlCommand::Exec(arguments) => exec::exec(arguments),
        PrlctlCommand::Enter(arguments) => exec::enter(&arguments),
        PrlctlCommand::Delete(arguments) => delete::run(&arguments),
        PrlctlCommand::Mount(arguments) => mount::mount(&arguments),
        PrlctlCommand::Umount(arguments) => mount::umount(&arguments),
        PrlctlCommand::Set(arguments) => set::run(&arguments),
        PrlctlCommand::Statistics(arguments) => statistics::run(&arguments),
        PrlctlCommand::Compact(arguments) => compact::run(&arguments),
        PrlctlCommand::Move(arguments) => move_volume::run(&arguments),
        PrlctlCommand::Register(arguments) => register::run(&arguments),
        PrlctlCommand::Unregister(arguments) => register::unregister(&arguments),
        PrlctlCommand::Reinstall(arguments) => reinstall::run(&arguments),
        PrlctlCommand::GenerationList(arguments) => generation::list(&arguments),
        PrlctlCommand::GenerationDiff(arguments) => generation_diff::run(&arguments),
        PrlctlCommand::GenerationSwitch(arguments) => generation::switch(&arguments),
        PrlctlCommand::GenerationFlatten(arguments) => generation::flatten(&arguments),
        PrlctlCommand::GenerationRestore(arguments) => generation_restore::run(&arguments),
        PrlctlCommand::GenerationDelete(arguments) => generation::delete(&arguments),
        PrlctlCommand::ScriptRun(arguments) => script_run::run(&arguments),
        PrlctlCommand::Log(arguments) => log::log(&arguments),
        PrlctlCommand::Events(arguments) => log::events(&arguments),
        PrlctlCommand::ReinstallReport(arguments) => log::reinstall_report(&arguments),
        PrlctlCommand::Recover(arguments) => recover::run(&arguments),
        PrlctlCommand::Info(arguments) => info::run(&arguments),
        PrlctlCommand::Generate(arguments) => generate::run(&arguments),
        PrlctlCommand::EmptyTrash => delete::empty_trash(),
        PrlctlCommand::RestoreFilter => recover::restore_filter(),
        PrlctlCommand::DrawProgress => Ok(drawing::draw()),
        PrlctlCommand::UndoCompression { kind, length } => Ok(template::undo_compression(&kind, length)),
    }
}

fn vzpkg(command: VzpkgCommand) -> Result<u8> {
    match command {
        VzpkgCommand::Create(arguments) => template::create(&arguments),
        VzpkgCommand::Install(arguments) => packages::install(&arguments),
        VzpkgCommand::Update(arguments) => template::update(&arguments),
        VzpkgCommand::List(arguments) => template::list(&arguments),
        VzpkgCommand::Verify(arguments) => template::verify(&arguments),
        VzpkgCommand::Gc(arguments) => template::collect(&arguments),
        VzpkgCommand::Remove(arguments) => template::remove(&arguments),
    }
}

/// An error in the command line is the original's 20, *bad option*, or 21, *bad value*; help and version are none.
fn refuse(error: &clap::Error, called: Called, is_json: bool) -> u8 {
    #[expect(clippy::wildcard_enum_match_arm, reason = "there are many ways of writing an option wrong")]
    let code = match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            output::text(&error.to_string());
            return 0;
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let failure = Failure::new(Code::BadOption, USELESS)
                .because("a command is missing")
                .unchanged()
                .hint("--help lists them");
            output::failure(&failure, is_json);
            return failure.code.exit();
        }
        ErrorKind::InvalidValue | ErrorKind::ValueValidation | ErrorKind::InvalidUtf8 => Code::BadValue,
        _ => Code::BadOption,
    };
    let text = error.to_string();
    let tip = tip(error, called);
    let text = text.trim_start_matches("error: ").trim_end();
    let plain = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut paragraphs = text.split("\n\n");
    let mut because = plain(paragraphs.next().unwrap_or_default());
    if is_word_too_many(error) && password::may_be_among(std::env::args_os()) {
        because = "there is a word too many; it is not repeated, since it may be a password".to_owned();
    }
    // Its own tips would have a slip of the pen passed on as a value.
    let usage = paragraphs.find(|paragraph| paragraph.starts_with("Usage:")).map(plain);
    let hint = match (tip, usage) {
        (Some(tip), _) => tip,
        (None, Some(usage)) if error.kind() != ErrorKind::UnknownArgument => usage,
        (None, _) => format!("`{} --help` tells what can be written there", command_of(called)),
    };
    let failure = Failure::new(code, USELESS).because(because).unchanged().hint(hint);
    output::failure(&failure, is_json);
    code.exit()
}

/// A word that is no option where none is expected.
fn is_word_too_many(error: &clap::Error) -> bool {
    error.kind() == ErrorKind::UnknownArgument
        && matches!(error.get(ContextKind::InvalidArg), Some(ContextValue::String(word)) if !word.starts_with('-'))
}

/// The program, and the command of it that was meant, as far as there is one.
fn command_of(called: Called) -> String {
    let (name, command) = (called.name(), called.command());
    let word = std::env::args().nth(1).filter(|word| command.find_subcommand(word).is_some());
    word.map_or_else(|| name.to_owned(), |word| format!("{name} {word}"))
}

/// What was probably meant.
fn tip(error: &clap::Error, called: Called) -> Option<String> {
    let nearest = |kind| match error.get(kind) {
        Some(ContextValue::String(word)) => Some(word.clone()),
        // The nearest is the last.
        Some(ContextValue::Strings(words)) => words.last().cloned(),
        _ => None,
    };
    if let Some(word) = nearest(ContextKind::SuggestedSubcommand) {
        return Some(format!("did you mean `{} {word}`?", called.name()));
    }
    let word = nearest(ContextKind::SuggestedArg).or_else(|| nearest(ContextKind::SuggestedValue))?;
    Some(format!("did you mean `{word}`? `{} --help` tells what there is", command_of(called)))
}

/// Where this host lies.
///
/// # Errors
/// When the prefix is no directory.
pub fn prefix() -> Result<Prefix> {
    let path =
        std::env::var_os(PREFIX_VARIABLE).filter(|path| !path.is_empty()).unwrap_or_else(|| "/".into());
    Ok(Prefix::new(path)?)
}

/// The host, made ready to be worked on.
///
/// # Errors
/// Without root, or when its directories are open to others.
pub fn host(lock_wait: u64, is_json: bool) -> Result<Host> {
    if !rustix::process::geteuid().is_root() {
        return Err(Failure::new(Code::Unsupported, "containers need root")
            .because(format!("this process runs as user {}", rustix::process::geteuid().as_raw()))
            .unchanged()
            .hint("run it with sudo"));
    }
    let prefix = prefix()?;
    prefix.ensure()?;
    let command = std::env::args_os()
        .enumerate()
        .map(|(index, word)| {
            let word = word.as_bytes();
            let word =
                if index == 0 { word.rsplit(|&byte| byte == b'/').next().unwrap_or(word) } else { word };
            engine::words::quoted(&tree::escaped(word))
        })
        .collect::<Vec<_>>()
        .join(" ");
    Ok(Host {
        runtime: Box::new(RealRuntime::new(prefix.clone())),
        prefix,
        observer: RefCell::new(Box::new(Progress::new(is_json))),
        log: RefCell::default(),
        command,
        lock_wait: Duration::from_secs(lock_wait),
    })
}

/// Seconds that a graceful stop may take: as given, else `STOP_TIMEOUT` of `vz.conf`, else 120.
pub fn stop_timeout(host: &Host, given: Option<u64>) -> u64 {
    let said = given.or_else(|| host.configuration().ok()?.get("STOP_TIMEOUT")?.parse().ok());
    // As much as can be said by an option.
    said.unwrap_or(120).min(86_400)
}

/// What deletes wants a whole name that no other container claims, or enough of a UUID that it cannot be a slip: everywhere else a unique start is a convenience, here it would be
/// somebody's container.
///
/// # Errors
/// [`Code::BadName`].
pub fn named_in_full(container: &Container<'_>, words: &str) -> Result<()> {
    if container.area.numeric_id().is_none_or(|number| number.to_string() != words) {
        is_named_in_full(&container.name, container.id(), words)?;
    }
    engine::names::is_its_alone(&container.host.prefix, container.id(), words)
}

/// The same of one that is not locked, and whose name was found to be no other's.
fn is_named_in_full(name: &str, id: &ContainerId, words: &str) -> Result<()> {
    let plain = words.trim_start_matches('{').trim_end_matches('}').to_ascii_lowercase();
    if name == words || plain.len() >= 8 && id.to_string().starts_with(&plain) {
        return Ok(());
    }
    Err(Failure::new(
        Code::BadName,
        format!("`{}` is not the whole name of a container", tree::escaped(words.as_bytes())),
    )
    .because(format!("it begins that of `{name}`, and where something is deleted the name must be whole"))
    .unchanged()
    .hint(format!("write `{name}`, or at least eight digits of its UUID")))
}

/// A closing success line on stdout, or a JSON document in its place.
pub fn done(is_json: bool, text: &str, value: serde_json::Value) -> u8 {
    // What has been done is done, whether or not anybody reads it: no exit code may say otherwise.
    output::closing(&if is_json {
        serde_json::to_string_pretty(&value).unwrap_or_default()
    } else {
        text.to_owned()
    });
    0
}

/// Empties the trash in the background, at idle priority, by a process of its own that nobody waits for.
pub fn empty_trash_later(host: &Host) {
    if store::trash::is_empty(&host.prefix).unwrap_or(true) {
        return;
    }
    let mut command = std::process::Command::new("/proc/self/exe");
    std::os::unix::process::CommandExt::arg0(&mut command, "prlctl");
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    let _ = command
        .arg("empty-trash")
        .current_dir("/")
        .env_clear()
        .env("PATH", runtime::spec::PATH)
        .env(PREFIX_VARIABLE, host.prefix.root())
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn();
}
