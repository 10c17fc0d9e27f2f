//! Of `prlctl register`.

use std::path::PathBuf;

use clap::Args;

use super::Common;

/// `prlctl register`
#[derive(Debug, Args)]
pub struct Register {
    /// The private area, of OpenVZ: the directory that has `ve.conf` and `root.hdd` or `fs` in it, or, with simfs, the one that is the root; or one that `unregister` has left
    pub path: PathBuf,
    /// Its configuration, where that does not lie in it: a copy of the old host's /etc/vz/conf/CTID.conf
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// What to call it; without it, as its NAME says, else by its number
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Its UUID; without it a new one
    #[arg(long)]
    pub uuid: Option<String>,
    /// With the UUID that it had
    #[arg(long, conflicts_with = "uuid")]
    pub preserve_uuid: bool,
    /// Though it says of itself that another host has it, or that its disk is open, or was not unregistered
    #[arg(long)]
    pub force: bool,
    /// Where its files are to lie, as of create; without it as VOLUME of vz.conf says. What `unregister` has left stays where it is
    #[arg(long, value_name = "directory|image|btrfs")]
    pub volume: Option<String>,
    /// Options of every command
    #[command(flatten)]
    pub common: Common,
}
