//! `prlctl generate`: man pages and completions for `make install`, fault points and mutations for tests

use std::fs::File;
use std::path::Path;

use clap::{Arg, Command, CommandFactory};
use engine::error::system;
use engine::{Code, Failure, Result};

use crate::arguments::{Generate, Prlctl, Vzpkg};
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
    for command in [Prlctl::command(), Vzpkg::command()] {
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
    clap_mangen::Man::new(command).section("8").title(name.to_uppercase()).render(&mut file)
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
}

fn completions(directory: &Path) -> std::io::Result<()> {
    use clap_complete::Shell;
    for command in [Prlctl::command(), Vzpkg::command()] {
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
