//! The names that the program answers to: each has a command line of its own.

use clap::CommandFactory;

use crate::arguments::{Prlctl, Vzctl, Vzlist, Vzpkg};

/// By which name the program was called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Called {
    /// Everything; also under any name that is none of the others.
    Prlctl,
    /// Templates.
    Vzpkg,
    /// What there was before `prlctl`, for those who come from there.
    Vzctl,
    /// Its list.
    Vzlist,
}

impl Called {
    /// All, as they are documented.
    pub const ALL: [Called; 4] = [Called::Prlctl, Called::Vzpkg, Called::Vzctl, Called::Vzlist];

    /// By the last component of its first word.
    pub fn by(name: &str) -> Called {
        Called::ALL.into_iter().find(|called| called.name() == name).unwrap_or(Called::Prlctl)
    }

    /// The name.
    pub fn name(self) -> &'static str {
        match self {
            Called::Prlctl => "prlctl",
            Called::Vzpkg => "vzpkg",
            Called::Vzctl => "vzctl",
            Called::Vzlist => "vzlist",
        }
    }

    /// What can be said to it.
    pub fn command(self) -> clap::Command {
        match self {
            Called::Prlctl => Prlctl::command(),
            Called::Vzpkg => Vzpkg::command(),
            Called::Vzctl => Vzctl::command(),
            Called::Vzlist => Vzlist::command(),
        }
    }
}
