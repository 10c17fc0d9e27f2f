//! Of commands on generations.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

use super::Common;

/// `prlctl generation-list`
#[derive(Debug, Args)]
pub struct GenerationList {
    /// The container
    pub container: String,
    /// Every root there is, not only those that the live one leads to
    #[arg(short, long)]
    pub all: bool,
    /// Also how much each has changed: files and bytes of its delta, which takes a walk through it
    #[arg(long)]
    pub size: bool,
    /// No header
    #[arg(short = 'H', long)]
    pub no_header: bool,
    /// As JSON
    #[arg(short = 'j', long)]
    pub json: bool,
}

/// `prlctl generation-diff`
#[derive(Debug, Args)]
pub struct GenerationDiff {
    /// The container
    pub container: String,
    /// The root; without it the live one
    #[arg(value_name = "N")]
    pub number: Option<OsString>,
    /// Only what is there and below, a path in the container that begins with /
    #[arg(value_name = "PATH")]
    pub path: Option<OsString>,
    /// Only how many and how much, for each directory and in all
    #[arg(long)]
    pub stat: bool,
    /// As JSON
    #[arg(short = 'j', long)]
    pub json: bool,
}

/// `prlctl generation-switch`
#[derive(Debug, Args)]
pub struct GenerationSwitch {
    /// The container
    pub container: String,
    /// The root
    #[arg(value_name = "N")]
    pub number: u32,
    /// Seconds for the boot
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    pub timeout: u64,
    /// Options of every command
    #[command(flatten)]
    pub common: Common,
}

/// `prlctl generation-flatten`
#[derive(Debug, Args)]
pub struct GenerationFlatten {
    /// The container
    pub container: String,
    /// Also of a template that is damaged, with what is left of it
    #[arg(long)]
    pub allow_damaged: bool,
    /// Seconds for the boot
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    pub timeout: u64,
    /// Options of every command
    #[command(flatten)]
    pub common: Common,
}

/// `prlctl generation-restore`
#[derive(Debug, Args)]
pub struct GenerationRestore {
    /// The container
    pub container: String,
    /// The old root
    #[arg(value_name = "N")]
    pub number: u32,
    /// What of it: a path in the container that begins with /
    pub path: PathBuf,
    /// Put it there; without it where it was
    #[arg(long, value_name = "PATH")]
    pub to: Option<PathBuf>,
    /// Save what is there as NAME.before-restore; without it that is refused
    #[arg(long)]
    pub replace: bool,
    /// Options of every command
    #[command(flatten)]
    pub common: Common,
}

/// `prlctl generation-delete`
#[derive(Debug, Args)]
pub struct GenerationDelete {
    /// The container
    pub container: String,
    /// The root
    #[arg(value_name = "N")]
    pub number: u32,
    /// Options of every command
    #[command(flatten)]
    pub common: Common,
}
