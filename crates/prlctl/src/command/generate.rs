//! `prlctl generate`: man pages and completions for `make install`, fault points and mutations for tests

use std::fs::File;
use std::io::Write;
use std::path::Path;

use clap::{Arg, Command};
use engine::error::system;
use engine::{Code, Failure, Result};

use crate::arguments::Generate;
use crate::called::Called;
use crate::output;

/// Makes what is wanted.
///
/// # Errors
/// When the directory cannot be written.
pub fn run(arguments: &Generate) -> Result<u8> {
    match (arguments.what.as_str(), &arguments.directory) {
        ("fault-points", _) => {
            for point in engine::fault::points() {
                output::line(&point);
            }
        }
        #[cfg(feature = "mutations")]
        ("mutations", _) => {
            for (name, text) in linux::mutation::MUTATIONS {
                output::line(&format!("{name}: {text}"));
            }
        }
        ("man", Some(directory)) => {
            man(directory).map_err(|error| system("cannot write the man pages", &error))?
        }
        ("completions", Some(directory)) => {
            completions(directory).map_err(|error| system("cannot write the completions", &error))?;
        }
        _ => {
            return Err(Failure::new(Code::BadOption, "that cannot be generated")
                .because("there are man pages, completions and the list of fault points")
                .unchanged()
                .hint("`prlctl generate man DIR`, `prlctl generate completions DIR` or `prlctl generate fault-points`"));
        }
    }
    Ok(0)
}

fn man(directory: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(directory)?;
    for command in Called::ALL.map(Called::command) {
        page(&command, command.get_name(), directory)?;
        for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
            page(sub, &format!("{}-{}", command.get_name(), sub.get_name()), directory)?;
        }
    }
    Ok(())
}

fn page(command: &clap::Command, name: &str, directory: &Path) -> std::io::Result<()> {
    let name = fixed(name);
    let command = command
        .clone()
        .mut_args(with_aliases)
        .name(name)
        .display_name(name)
        .bin_name(name.replacen('-', " ", 1));
    let mut file = File::create(directory.join(format!("{name}.8")))?;
    let others = others(name, &command);
    clap_mangen::Man::new(command).section("8").title(name.to_uppercase()).render(&mut file)?;
    exit_status(name, &mut file)?;
    writeln!(file, ".SH \"SEE ALSO\"")?;
    let others: Vec<String> = others.iter().map(|name| format!("\\fB{}\\fR(8)", roff(name))).collect();
    writeln!(file, "{}", others.join(", "))
}

/// The pages that one leads to: of a program those of its commands, and the other programs.
fn others(name: &str, command: &Command) -> Vec<String> {
    let is_program = is_program(name);
    let subs = command.get_subcommands().filter(|sub| is_program && !sub.is_hide_set());
    let mut others: Vec<String> = subs.map(|sub| format!("{name}-{}", sub.get_name())).collect();
    others
        .extend(Called::ALL.map(Called::name).into_iter().filter(|other| *other != name).map(str::to_owned));
    others
}

fn is_program(name: &str) -> bool {
    Called::ALL.iter().any(|called| called.name() == name)
}

/// All codes on the pages of the programs; on those of the commands what is theirs, and where the others are.
fn exit_status(name: &str, out: &mut File) -> std::io::Result<()> {
    writeln!(out, ".SH \"EXIT STATUS\"")?;
    if is_program(name) {
        for (code, meaning) in exit_codes(MANUAL) {
            writeln!(out, ".TP\n{}\n{}", roff(code), roff(meaning))?;
        }
        return Ok(());
    }
    let own = match name {
        "vzctl-exec" => {
            "0 when the command ended with 0, 8 when it did not. 3 when the container could not be joined, 9 when it is locked, 14 when it is unknown, \
             31 when it does not run."
        }
        "vzctl-status" => "0, also for a container that is not there.",
        "prlctl-exec" | "prlctl-enter" | "vzctl-exec2" | "vzctl-exec3" | "vzctl-enter" => {
            "The command's own, 128 and the signal's number when it was killed. 8 when neither the program nor a shell could be executed, 3 when \
             the container could not be joined, 9 when it is locked, 14 when it is unknown, 31 when it does not run."
        }
        "prlctl-reinstall" | "vzctl-reinstall" => {
            "0 when it is done. 94 when it was undone, and the container is on the root that it had; 128 when vps.reinstall failed, and nothing \
             changed. 129, 130 and 143 when a signal came before the commit. 9 when another command holds the lock."
        }
        _ => "0 when it is done.",
    };
    let program = name.split('-').next().unwrap_or(name);
    writeln!(out, "{}\n.PP\nThe others are in \\fB{program}\\fR(8).", roff(own))
}

/// The operator's guide: its table of exit codes is the one that there is.
const MANUAL: &str = include_str!("../../../../docs/manual.md");

/// Codes and what they mean, out of the table below *Exit codes*.
fn exit_codes(manual: &str) -> Vec<(&str, &str)> {
    let section = manual.split("\n## ").find(|section| section.starts_with("Exit codes")).unwrap_or_default();
    let rows = section.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| ")?.strip_suffix(" |")?.split(" |").map(str::trim);
        let (code, _word, meaning) = (cells.next()?, cells.next()?, cells.next()?);
        code.starts_with(|digit: char| digit.is_ascii_digit()).then_some((code, meaning))
    });
    rows.collect()
}

/// Text as groff(7) wants it.
fn roff(text: &str) -> String {
    let text = text.replace('`', "").replace('\\', "\\e").replace('-', "\\-");
    if text.starts_with(['.', '\'']) { format!("\\&{text}") } else { text }
}

/// The help of an option, with the other names that it has: a man page would not tell them.
fn with_aliases(argument: Arg) -> Arg {
    let aliases: Vec<String> =
        argument.get_visible_aliases().unwrap_or_default().iter().map(|name| format!("--{name}")).collect();
    if aliases.is_empty() {
        return argument;
    }
    let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
    argument.help(format!("{help} [also: {}]", aliases.join(", ")))
}

/// As clap wants names. This process makes a few dozen of them and ends.
fn fixed(name: &str) -> &'static str {
    Box::leak(name.to_owned().into_boxed_str())
}

/// What people type: nothing that is hidden is offered to them.
fn visible(command: &Command) -> Command {
    Command::new(fixed(command.get_name()))
        .about(command.get_about().cloned().unwrap_or_default())
        .visible_aliases(command.get_visible_aliases().map(fixed).collect::<Vec<_>>())
        .args(command.get_arguments().filter(|argument| !argument.is_hide_set()).cloned())
        .subcommands(command.get_subcommands().filter(|sub| !sub.is_hide_set()).map(visible))
        .disable_help_subcommand(true)
        // One that has an `-h` of its own.
        .disable_help_flag(command.is_disable_help_flag_set())
}

fn completions(directory: &Path) -> std::io::Result<()> {
    use clap_complete::Shell;
    for command in Called::ALL.map(Called::command) {
        let mut command = visible(&command);
        let name = command.get_name().to_owned();
        for (shell, file) in [
            (Shell::Bash, name.clone()),
            (Shell::Zsh, format!("_{name}")),
            (Shell::Fish, format!("{name}.fish")),
        ] {
            let directory = directory.join(shell.to_string());
            std::fs::create_dir_all(&directory)?;
            let mut out = File::create(directory.join(file))?;
            clap_complete::generate(shell, &mut command, name.clone(), &mut out);
        }
    }
    Ok(())
}
