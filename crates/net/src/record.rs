//! What was made of one container's network, so that whoever takes it away knows what that is, also after a crash.

use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use store::{Address, ContainerId, Prefix};

/// What a new root may do before it is the container's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Probation {
    /// Everything.
    Full,
    /// Call out, and be answered; nobody reaches it that it has not called: what it took in, an undo would lose.
    #[default]
    Outgoing,
    /// Nothing.
    None,
}

/// A container's network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Of which host: `reroot_` and the hash of its prefix.
    pub table: String,
    /// Its end of the pair, on the host.
    pub interface: String,
    /// What that end says whose it is.
    pub alias: String,
    /// Of both ends.
    pub mac: [u8; 6],
    /// Its addresses.
    pub addresses: Vec<Address>,
    /// Private ones of them are others' on their way outside.
    #[serde(default)]
    pub translates: bool,
    /// It is on probation.
    pub probation: Option<Probation>,
    /// Addresses that the host answers for on another interface, by its index.
    #[serde(default)]
    pub announced: Vec<(std::net::IpAddr, u32)>,
}

impl Network {
    /// That of a container of the host at `prefix`; makes nothing.
    pub fn of(
        prefix: &Prefix,
        id: &ContainerId,
        addresses: Vec<Address>,
        translates: bool,
        probation: Option<Probation>,
    ) -> Network {
        let hash = prefix.short_hash();
        let digits = id.to_string().replace('-', "");
        let mut mac = [0u8; 6];
        for (byte, pair) in mac.iter_mut().zip(digits.as_bytes().chunks(2)) {
            *byte = std::str::from_utf8(pair)
                .ok()
                .and_then(|pair| u8::from_str_radix(pair, 16).ok())
                .unwrap_or(0);
        }
        // One of our own making, and one interface's.
        mac[0] = mac[0] & !1 | 2;
        Network {
            table: format!("reroot_{hash}"),
            // IFNAMSIZ leaves 15 bytes.
            interface: format!("vz{}{}", &hash[..5], &digits[..8]),
            alias: Network::alias_of(id),
            mac,
            addresses,
            translates,
            probation,
            announced: Vec::new(),
        }
    }

    /// What its end on the host says whose it is.
    pub fn alias_of(id: &ContainerId) -> String {
        format!("reroot {id}")
    }

    fn path(prefix: &Prefix, id: &ContainerId) -> PathBuf {
        prefix.run_dir_of(id).join("network.json")
    }

    /// Writes it down, before anything of it is made.
    pub(crate) fn store(&self, prefix: &Prefix, id: &ContainerId) -> io::Result<()> {
        let bytes = serde_json::to_vec(self)?;
        store::atomic::replace(&Network::path(prefix, id), &bytes, 0o600).map_err(io::Error::other)
    }

    /// What is written down; `None`: nothing, or nothing that can be read.
    pub(crate) fn load(prefix: &Prefix, id: &ContainerId) -> Option<Network> {
        serde_json::from_slice(&std::fs::read(Network::path(prefix, id)).ok()?).ok()
    }

    pub(crate) fn forget(prefix: &Prefix, id: &ContainerId) {
        drop(std::fs::remove_file(Network::path(prefix, id)));
    }
}
