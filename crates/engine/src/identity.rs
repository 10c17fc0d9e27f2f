//! What makes a new root its container's own: what no two containers may share, though they come from one template.
//!
//! | what | where |
//! |---|---|
//! | machine-id | `/etc/machine-id`, and dbus' own |
//! | SSH host keys | `/etc/ssh/ssh_host_*`, where the template has any |
//! | random seeds, and the key of stored credentials | `/var/lib/systemd`, `/var/lib/urandom` |
//! | minutes of daily work | `/etc/crontab`: all containers of a host would begin in the same minute |
//! | what an image says has the host name in it | where it says |
//! | root's password | locked where the template has one, which everybody who has the template knows |
//!
//! A template says nothing of it: it is looked at each time, by handle. What is not there is not made, but for the machine-id of a systemd.

use std::ffi::OsString;
use std::path::Path;

use ssh_key::rand_core::OsRng;
use ssh_key::{Algorithm, LineEnding, PrivateKey};
use store::{ContainerId, OwnFile};
use tree::{Kind, LayeredRoot, TreeError};

/// Of a file that is read here.
const LARGEST: u64 = 1024 * 1024;

const MACHINE_ID: &str = "/etc/machine-id";
const DBUS_MACHINE_ID: &str = "/var/lib/dbus/machine-id";
const SSH: &str = "/etc/ssh";
/// Which every SSH of today has.
const SSH_KEY: &str = "/etc/ssh/ssh_host_ed25519_key";
/// Random bytes that are mixed in at the next start: of everybody's, none.
const SEEDS: [&str; 2] = ["/var/lib/systemd/random-seed", "/var/lib/urandom/random-seed"];
const SEED_LENGTH: usize = 512;
/// What systemd encrypts stored credentials with; it makes another.
const SECRETS: [&str; 1] = ["/var/lib/systemd/credential.secret"];
const CRONTAB: &str = "/etc/crontab";
const SHADOW: &str = "/etc/shadow";
const PASSWD: &str = "/etc/passwd";

/// What came of it.
#[derive(Debug, Default)]
pub struct Own {
    /// What is otherwise than the template has it, worth telling of a new container.
    pub news: Vec<String>,
    /// What could not be made its own.
    pub problems: Vec<String>,
}

/// Makes `root` a container's own. `is_systemd`: it wants a machine-id, also where none is.
///
/// # Errors
/// When the machine-id cannot be written. What else cannot be looked at or written is told.
pub fn make_own(
    root: &LayeredRoot,
    id: &ContainerId,
    is_systemd: bool,
    hostname: &str,
    own_files: &[OwnFile],
) -> Result<Own, TreeError> {
    machine_id(root, is_systemd)?;
    let mut own = Own::default();
    for file in own_files {
        if let Err(error) = own_file(root, file, hostname) {
            let path = tree::escaped(file.path.as_bytes());
            own.problems.push(format!(
                "{path} is as the template has it, without the container's name: {}",
                runtime::monitor::describe(&error)
            ));
        }
    }
    let done = [
        (SSH, ssh_host_keys(root)),
        ("/var/lib/systemd", seeds(root)),
        (CRONTAB, crontab(root, id)),
        (SHADOW, lock_root(root)),
    ];
    for (what, done) in done {
        match done {
            Ok(news) => own.news.extend(news),
            Err(error) => own.problems.push(format!(
                "{what} is as the template has it, the same in all of its containers: {}",
                runtime::monitor::describe(&error)
            )),
        }
    }
    Ok(own)
}

fn machine_id(root: &LayeredRoot, is_systemd: bool) -> Result<(), TreeError> {
    let id = format!("{}\n", uuid::Uuid::new_v4().simple());
    let has = |path: &str| Ok(matches!(root.kind(Path::new(path))?, Some(Kind::File { size: 1.., .. })));
    if is_systemd || has(MACHINE_ID)? {
        root.replace_file(Path::new(MACHINE_ID), id.as_bytes(), 0o444, 0, 0)?;
        if has(DBUS_MACHINE_ID)? {
            root.replace_file(Path::new(DBUS_MACHINE_ID), id.as_bytes(), 0o444, 0, 0)?;
        }
    }
    Ok(())
}

fn own_file(root: &LayeredRoot, file: &OwnFile, hostname: &str) -> Result<(), TreeError> {
    let path = Path::new(&file.path);
    let found = root.kind(path)?;
    if file.is_create_only && found.is_some() {
        return Ok(());
    }
    // Owner and mode of the file that it takes the place of. Whatever else is there, a link, is replaced and not followed.
    let there = match found {
        Some(Kind::File { .. }) => root.read_file(path, LARGEST)?,
        _ => None,
    };
    let (mode, uid, gid) = there.map_or((0o644, 0, 0), |file| (file.mode & 0o777, file.uid, file.gid));
    root.replace_file(path, file.text_for(hostname).as_bytes(), mode, uid, gid)
}

/// The template's go, and one of the kind that is asked for first takes their place. Its making takes a moment; that of an RSA key would take seconds.
fn ssh_host_keys(root: &LayeredRoot) -> Result<Option<String>, TreeError> {
    let is_key = |name: &OsString| name.to_str().is_some_and(|name| name.starts_with("ssh_host_"));
    let names: Vec<OsString> =
        root.names(Path::new(SSH))?.unwrap_or_default().into_iter().filter(is_key).collect();
    if names.is_empty() {
        return Ok(None);
    }
    let Ok(key) = PrivateKey::random(&mut OsRng, Algorithm::Ed25519) else {
        return Ok(Some("no SSH host key can be made: those of the template stay".to_owned()));
    };
    let (Ok(private), Ok(public)) = (key.to_openssh(LineEnding::LF), key.public_key().to_openssh()) else {
        return Ok(Some("no SSH host key can be made: those of the template stay".to_owned()));
    };
    for name in &names {
        let path = Path::new(SSH).join(name);
        if !matches!(root.kind(&path)?, Some(Kind::Directory { .. })) {
            root.remove_file(&path)?;
        }
    }
    root.replace_file(Path::new(SSH_KEY), private.as_bytes(), 0o600, 0, 0)?;
    root.replace_file(Path::new(&format!("{SSH_KEY}.pub")), format!("{public}\n").as_bytes(), 0o644, 0, 0)?;
    Ok(Some("it has an SSH host key of its own, instead of those of the template".to_owned()))
}

fn seeds(root: &LayeredRoot) -> Result<Option<String>, TreeError> {
    for seed in SEEDS {
        if matches!(root.kind(Path::new(seed))?, Some(Kind::File { .. })) {
            let mut bytes = [0; SEED_LENGTH];
            // Without randomness of the host there is none to give: an empty one is as good as none.
            let length =
                rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()).unwrap_or(0);
            root.replace_file(Path::new(seed), &bytes[..length], 0o600, 0, 0)?;
        }
    }
    for secret in SECRETS {
        if matches!(root.kind(Path::new(secret))?, Some(Kind::File { .. })) {
            root.remove_file(Path::new(secret))?;
        }
    }
    Ok(None)
}

/// The same at every reinstall: whoever keeps the old file finds nothing in its way.
fn crontab(root: &LayeredRoot, id: &ContainerId) -> Result<Option<String>, TreeError> {
    let Some(file) = root.read_file(Path::new(CRONTAB), LARGEST)? else { return Ok(None) };
    let random = uuid::Uuid::parse_str(&id.to_string()).map_or(0, |id| id.as_u128());
    if let Some(new) = with_minutes(&file.bytes, random) {
        root.replace_file(Path::new(CRONTAB), &new, file.mode & 0o7777, file.uid, file.gid)?;
    }
    Ok(None)
}

/// The lines that run all of a directory (`run-parts`) at one minute, at another. `None`: there are none.
fn with_minutes(bytes: &[u8], mut random: u128) -> Option<Vec<u8>> {
    let mut is_changed = false;
    let mut new = Vec::with_capacity(bytes.len());
    for line in bytes.split_inclusive(|&byte| byte == b'\n') {
        let digits = line.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let is_daily = (1..=2).contains(&digits)
            && line.get(digits).is_some_and(|byte| matches!(byte, b' ' | b'\t'))
            && line.windows(9).any(|window| window == b"run-parts");
        if is_daily {
            new.extend_from_slice((random % 60).to_string().as_bytes());
            random /= 60;
            new.extend_from_slice(&line[digits..]);
            is_changed = true;
        } else {
            new.extend_from_slice(line);
        }
    }
    is_changed.then_some(new)
}

fn lock_root(root: &LayeredRoot) -> Result<Option<String>, TreeError> {
    let mut is_locked = false;
    for path in [SHADOW, PASSWD] {
        let Some(file) = root.read_file(Path::new(path), LARGEST)? else { continue };
        if let Some(new) = without_password(&file.bytes, path == PASSWD) {
            root.replace_file(Path::new(path), &new, file.mode & 0o7777, file.uid, file.gid)?;
            is_locked = true;
        }
    }
    Ok(is_locked.then(|| {
        "root cannot log in with the password that the template has, which is the same in all of its containers: `passwd` inside gives it one".to_owned()
    }))
}

/// The file with root's password locked; `None`: it is. In `passwd` an `x` says that it stands in `shadow`.
fn without_password(bytes: &[u8], is_passwd: bool) -> Option<Vec<u8>> {
    let mut is_changed = false;
    let mut new = Vec::with_capacity(bytes.len());
    for line in bytes.split_inclusive(|&byte| byte == b'\n') {
        let mut fields = line.splitn(3, |&byte| byte == b':');
        let (name, password, rest) = (fields.next(), fields.next(), fields.next());
        match (name, password, rest) {
            (Some(b"root"), Some(password), Some(rest))
                if !(matches!(password.first(), Some(b'*' | b'!')) || is_passwd && password == b"x") =>
            {
                new.extend_from_slice(b"root:*:");
                new.extend_from_slice(rest);
                is_changed = true;
            }
            _ => new.extend_from_slice(line),
        }
    }
    is_changed.then_some(new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_of_root_is_locked_and_of_nobody_else() {
        let locked = |text: &str, is_passwd| {
            without_password(text.as_bytes(), is_passwd).map(|bytes| String::from_utf8(bytes).unwrap())
        };
        assert_eq!(locked("root:*:1::::::\nu:$6$x:1:\n", false), None);
        assert_eq!(locked("root:!$6$x:1:\n", false), None);
        assert_eq!(locked("root:x:0:0::/root:/bin/sh\n", true), None);
        assert_eq!(locked("rooty:$6$x:1:\n", false), None);
        assert_eq!(
            locked("u:$6$u:1\nroot:$6$x:1:2\nroot::3:\n", false).unwrap(),
            "u:$6$u:1\nroot:*:1:2\nroot:*:3:\n"
        );
        assert_eq!(locked("root::0:0::/root:/bin/sh", true).unwrap(), "root:*:0:0::/root:/bin/sh");
    }

    #[test]
    fn only_minutes_of_what_runs_a_directory_are_others() {
        let text = b"SHELL=/bin/sh\n17 *\t* * *\troot\tcd / && run-parts --report /etc/cron.hourly\n25 6\t* * *\troot\ttest -x x || run-parts /etc/cron.daily\n# 9 9 run-parts\n5 4 * * * u own\n*/5 * * * * root run-parts x\n";
        let new = String::from_utf8(with_minutes(text, 61).unwrap()).unwrap();
        assert_eq!(
            new,
            "SHELL=/bin/sh\n1 *\t* * *\troot\tcd / && run-parts --report /etc/cron.hourly\n1 6\t* * *\troot\ttest -x x || run-parts /etc/cron.daily\n# 9 9 run-parts\n5 4 * * * u own\n*/5 * * * * root run-parts x\n"
        );
        assert_eq!(with_minutes(b"5 4 * * * u own\n\xff\xfe", 3), None);
    }
}
