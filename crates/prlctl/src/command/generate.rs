//! `prlctl generate`: man pages and completions for `make install`, fault points for tests

use std::fs::File;
use std::path::Path;

use clap::CommandFactory;
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
    let name: &'static str = Box::leak(name.to_owned().into_boxed_str());
    let command = command.clone().name(name).display_name(name).bin_name(name.replacen('-', " ", 1));
    let mut file = File::create(directory.join(format!("{name}.8")))?;
    clap_mangen::Man::new(command).section("8").title(name.to_uppercase()).render(&mut file)
}

fn completions(directory: &Path) -> std::io::Result<()> {
    use clap_complete::Shell;
    for mut command in [Prlctl::command(), Vzpkg::command()] {
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
