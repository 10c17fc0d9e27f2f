//! `prlctl`, `vzpkg`, `vzctl` and `vzlist`: one program, told apart by the name it is run under. Run as `reroot-monitor` it is the monitor of one container.
//!
//! This crate parses command lines and prints; nothing else in the house does either. One file a command, in `command/`.

mod arguments;
mod called;
mod command;
mod crew;
mod drawing;
mod event_words;
mod output;
mod password;
mod progress;
mod terminal;

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut words = std::env::args_os();
    let name = words.next().unwrap_or_default();
    let name = std::path::Path::new(&name)
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    // What started this may have blocked signals for itself: an operation does, and its keeper and its monitor are this program again.
    linux::unblock_signals();
    // As it has blocked signals, it may have limits: what a container, a script or an undo may use does not depend on who typed the command.
    linux::lift_limits();
    // What a caller's umask would take away, or leave open, is no business of a container's.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    if name == runtime::monitor::NAME {
        let argument = words.next().unwrap_or_default();
        return match runtime::monitor::serve(&argument.to_string_lossy(), engine::log::out_of_memory::diary) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        };
    }
    ExitCode::from(command::run(called::Called::by(&name)))
}
