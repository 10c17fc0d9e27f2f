//! Of commands that tell what was done.

use clap::Args;

/// `prlctl log`
#[derive(Debug, Args)]
pub struct Log {
    /// The container; of one that was deleted, its UUID
    pub container: String,
    /// Only the last operation
    #[arg(long)]
    pub last: bool,
    /// Go on with what is being done, until interrupted
    #[arg(short, long)]
    pub follow: bool,
    /// A JSON object a line: docs/format/events.md
    #[arg(short, long)]
    pub json: bool,
}

/// `prlctl events`
#[derive(Debug, Args)]
pub struct Events {
    /// From then on: a time, or how long ago
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Go on with what is being done, until interrupted
    #[arg(short, long)]
    pub follow: bool,
    /// A JSON object a line: docs/format/events.md
    #[arg(short, long)]
    pub json: bool,
}

/// `prlctl reinstall-report`
#[derive(Debug, Args)]
pub struct ReinstallReport {
    /// The container
    pub container: String,
    /// One JSON document
    #[arg(short, long)]
    pub json: bool,
}
