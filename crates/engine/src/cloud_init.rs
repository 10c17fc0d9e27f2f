//! What a cloud-init in a root is told of its machine, as its data source NoCloud finds it: in the root itself, before its first start.
//!
//! What the user has given is kept beside the root, in its generation, so that it comes and goes with it: a reinstall hands it on, an undo brings the one before
//! back. Source: "NoCloud" of cloud-init's documentation.
//!
//! Of the network it is told that it is none of its business (`config: disabled`, "Disabling network configuration" there). The addresses of `ve.conf` are on
//! `venet0`, with its route, before process 1 begins, and they, `NAMESERVER` and `SEARCHDOMAIN` follow `prlctl set` and every start, while cloud-init would
//! write down those of its first start and never look again. Had it the same addresses, whatever it writes them for (ifupdown, networkd) would set them once
//! more: a unit that fails (`File exists`), or a route that goes with its restart. What those have to know of it stands in files of ours (`runtime::network_files`). An empty list of interfaces is not nothing either: it is a file that takes
//! the place of one that the image has. Without any word cloud-init would ask for addresses by DHCP, for which nobody answers.

use std::io::Read;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use store::{Area, ContainerId, GenerationNumber};
use tree::{LayeredRoot, TreeError};

/// Of a generation's directory.
const FILE: &str = "user-data";
/// More is no configuration.
pub const LONGEST: usize = 1024 * 1024;

const PROGRAM: &str = "/usr/bin/cloud-init";
/// What is on `venet0` was set from outside, and nothing of it is to be done a second time.
const NETWORK: &[u8] = b"config: disabled\n";
/// Its directories, the outermost first.
const DIRECTORIES: [&str; 3] = ["/var/lib/cloud", "/var/lib/cloud/seed", "/var/lib/cloud/seed/nocloud"];

/// What a cloud-init is to do, as the user has written it. It may hold secrets, and is shown to nobody.
#[derive(Clone)]
pub struct UserData(Vec<u8>);

impl std::fmt::Debug for UserData {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "UserData({} bytes)", self.0.len())
    }
}

impl UserData {
    /// `Err`: why these bytes are none.
    ///
    /// # Errors
    /// In words.
    pub fn new(bytes: Vec<u8>) -> Result<UserData, String> {
        if bytes.is_empty() {
            return Err("it is empty".to_owned());
        }
        if bytes.len() > LONGEST {
            return Err(format!("it is longer than {LONGEST} bytes"));
        }
        // As cloud-init tells them apart: a `#…` line, MIME, or compressed. All else it would pass over, with a line in a log.
        let starts =
            |sign: &[u8]| bytes.len() >= sign.len() && bytes[..sign.len()].eq_ignore_ascii_case(sign);
        let is_known = [&b"#"[..], b"content-type:", b"mime-version:", b"\x1f\x8b"].into_iter().any(starts);
        if is_known || starts(b"## template: jinja") {
            Ok(UserData(bytes))
        } else {
            Err("cloud-init takes what begins with `#cloud-config`, `#!`, `#include` or the like, MIME, or either compressed with gzip".to_owned())
        }
    }
}

/// What a generation was given. `None`: nothing, or it cannot be read.
pub fn read(area: &Area, number: GenerationNumber) -> Option<UserData> {
    let handle = area.generation_handle(number).ok()?;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(handle, FILE, flags, Mode::empty()).ok()?;
    let mut bytes = Vec::new();
    std::fs::File::from(file).take(LONGEST as u64 + 1).read_to_end(&mut bytes).ok()?;
    UserData::new(bytes).ok()
}

/// Keeps it with a generation that is being made, for root's eyes. Durable with the generation.
///
/// # Errors
/// When it cannot be written.
pub fn keep(area: &Area, number: GenerationNumber, data: &UserData) -> crate::Result<()> {
    let handle = area.generation_handle(number)?;
    Ok(store::atomic::replace_at(handle.as_fd(), FILE, &data.0, 0o600)?)
}

/// There is one in this root.
///
/// # Errors
/// When it cannot be looked at.
pub fn is_in(root: &LayeredRoot) -> Result<bool, TreeError> {
    root.has_executable(Path::new(PROGRAM))
}

/// Tells the cloud-init of `root`, if it has one, what it is: a new instance, so that it does its work once more; without addresses, which come from the host.
///
/// # Errors
/// When it cannot be written.
pub fn seed(
    root: &LayeredRoot,
    id: &ContainerId,
    number: GenerationNumber,
    hostname: &str,
    data: Option<&UserData>,
) -> Result<(), TreeError> {
    if !is_in(root)? {
        return Ok(());
    }
    for directory in DIRECTORIES {
        root.make_directory(Path::new(directory), 0o755, 0, 0)?;
    }
    let about = format!("instance-id: iid-{id}-{number}\nlocal-hostname: {hostname}\n");
    let nothing = UserData(b"#cloud-config\n{}\n".to_vec());
    let files: [(&str, &[u8]); 3] = [
        ("meta-data", about.as_bytes()),
        ("user-data", &data.unwrap_or(&nothing).0),
        ("network-config", NETWORK),
    ];
    for (name, bytes) in files {
        root.replace_file(&Path::new(DIRECTORIES[2]).join(name), bytes, 0o600, 0, 0)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::UserData;

    #[test]
    fn user_data_is_what_cloud_init_would_take() {
        for taken in [
            "#cloud-config\n",
            "#!/bin/sh\n",
            "#include\nhttp://x\n",
            "Content-Type: multipart/mixed",
            "MIME-Version: 1.0",
            "## template: jinja\n",
        ] {
            assert!(UserData::new(taken.into()).is_ok(), "{taken}");
        }
        assert!(UserData::new(b"\x1f\x8b\x08".to_vec()).is_ok());
        for refused in ["", "hostname: x\n", "\n#cloud-config\n"] {
            assert!(UserData::new(refused.into()).is_err(), "{refused}");
        }
        assert!(UserData::new(vec![b'#'; super::LONGEST + 1]).is_err());
        let secret = format!("{:?}", UserData::new(b"#cloud-config\npassword: geheim\n".to_vec()).unwrap());
        assert!(!secret.contains("geheim"));
    }
}
