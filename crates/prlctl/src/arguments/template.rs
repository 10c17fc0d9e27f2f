//! Of `vzpkg`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Common;

/// See [`super::Vzpkg`].
#[derive(Debug, Subcommand)]
pub enum VzpkgCommand {
    /// Make a template
    #[command(after_help = "Example:\n  vzpkg create cache debian-12")]
    Create(CreateTemplate),
    /// List the templates of this host
    #[command(after_help = "Example:\n  vzpkg list -j")]
    List(ListTemplates),
    /// Remove a template
    #[command(after_help = "Example:\n  vzpkg remove cache busybox")]
    Remove(RemoveTemplate),
}

/// `vzpkg create cache`
#[derive(Debug, Args)]
pub struct CreateTemplate {
    /// The word `cache`
    #[arg(value_parser = ["cache"])]
    pub cache: String,
    /// debian-11, debian-12, debian-13 or busybox
    pub name: String,
    /// A directory with a finished root of that distribution; it is moved or copied
    #[arg(long, value_name = "DIR", hide = true)]
    pub built_root: Option<PathBuf>,
    /// Options of every command
    #[command(flatten)]
    pub common: Common,
}

/// `vzpkg list`
#[derive(Debug, Args)]
pub struct ListTemplates {
    /// No header
    #[arg(short = 'H', long)]
    pub no_header: bool,
    /// As JSON
    #[arg(short = 'j', long)]
    pub json: bool,
}

/// `vzpkg remove cache`
#[derive(Debug, Args)]
pub struct RemoveTemplate {
    /// The word `cache`
    #[arg(value_parser = ["cache"])]
    pub cache: String,
    /// The template
    pub name: String,
    /// Options of every command
    #[command(flatten)]
    pub common: Common,
}
