//! `BINDMOUNT` of a `ve.conf`: directories and files of the host that a container sees, `SOURCE:WHERE[,OPTIONS]` between blanks, as OpenVZ writes it.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use crate::conf::Conf;
use crate::inner_path::{InnerPath, MountFlags, plain_path};

/// The key.
pub const KEY: &str = "BINDMOUNT";
/// More are none.
pub const MOST: usize = 16;

/// Something of the host that a container sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BindMount {
    /// On the host: absolute, normal.
    pub source: String,
    /// In the container.
    pub at: InnerPath,
    pub flags: MountFlags,
}

/// What is none, and what is wanted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}`: wanted {wanted}")]
pub struct BindMountError {
    /// Its beginning, with what is not to be printed escaped.
    pub text: String,
    pub wanted: &'static str,
}

impl BindMount {
    /// Those of a `ve.conf`.
    pub fn all(conf: &Conf) -> Result<Vec<Self>, BindMountError> {
        let mut found: Vec<Self> = Vec::new();
        for word in conf.get(KEY).unwrap_or_default().split_whitespace() {
            let one: Self = word.parse()?;
            if found.iter().any(|other| other.at == one.at) {
                return Err(refused(word, "every path in the container once"));
            }
            found.push(one);
        }
        if found.len() > MOST {
            return Err(refused("", "at most 16 of them"));
        }
        Ok(found)
    }

    /// As they are written.
    pub fn write(all: &[Self]) -> String {
        all.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    }
}

impl fmt::Display for BindMount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.source, self.at)?;
        self.flags.words().iter().try_for_each(|word| write!(f, ",{word}"))
    }
}

impl FromStr for BindMount {
    type Err = BindMountError;

    fn from_str(text: &str) -> Result<Self, BindMountError> {
        let wanted = "`/of/the/host:/in/the/container`, perhaps with `,ro` and other options behind it";
        let (paths, options) = text.split_once(',').unwrap_or((text, ""));
        let (source, at) = paths.split_once(':').ok_or_else(|| refused(text, wanted))?;
        let source = plain_path(source).map_err(|_| refused(text, wanted))?;
        let at = at.parse().map_err(|wanted| refused(text, wanted))?;
        let flags = MountFlags::read(options, &[',']).map_err(|wanted| refused(text, wanted))?;
        check_source(&source, flags).map_err(|wanted| refused(text, wanted))?;
        Ok(Self { source, at, flags })
    }
}

/// Never: the host itself, and what is not files.
const NEVER: [&str; 4] = ["/proc", "/sys", "/dev", "/run"];
/// Whoever may write there is the host's root: ids are mapped, so what is root's there would be the container's root's.
const ONLY_READ: [&str; 8] = ["/etc", "/boot", "/usr", "/bin", "/sbin", "/lib", "/lib64", "/root"];

fn check_source(source: &str, flags: MountFlags) -> Result<(), &'static str> {
    let is_in = |directories: &[&str]| directories.iter().any(|one| Path::new(source).starts_with(one));
    if source == "/" || is_in(&NEVER) {
        return Err(
            "a source that is not the whole host, and not in /proc, /sys, /dev or /run (a device: `--devnodes`)",
        );
    }
    if is_in(&ONLY_READ) && !flags.read_only {
        return Err("`ro` for what is the host's own system: the container's root would be root there");
    }
    Ok(())
}

fn refused(text: &str, wanted: &'static str) -> BindMountError {
    BindMountError { text: tree::escaped(&text.as_bytes()[..text.len().min(200)]), wanted }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str) -> Result<Vec<BindMount>, BindMountError> {
        let mut conf = Conf::default();
        conf.set(KEY, text).unwrap();
        BindMount::all(&conf)
    }

    #[test]
    fn they_are_written_as_they_are_read() {
        let text = "/srv/a:/data /srv//b/:/www,nosuid,noexec,nodev /etc/ssl/certs:/certs,ro";
        let found = all(text).unwrap();
        assert_eq!(
            BindMount::write(&found),
            "/srv/a:/data /srv/b:/www,nosuid,nodev,noexec /etc/ssl/certs:/certs,ro"
        );
        assert_eq!(all("").unwrap(), Vec::new());
    }

    #[test]
    fn what_is_none_is_refused() {
        for text in [
            "/data",
            "data:/data",
            "/srv:data",
            "/srv:",
            ":/data",
            "/srv:/data,suid",
            "/srv:/data,",
            "/srv:/proc/x",
            "/srv:/",
            "/:/data,ro",
            "/proc:/p,ro",
            "/dev/sda:/sda",
            "/run/vz:/vz",
            "/etc:/etc2",
            "/usr/share:/s",
            "/srv/../etc:/x",
            "/srv:/a /srv:/a/",
            "/srv:/a:/b",
            "$(reboot):/x",
            "/srv:/x,ro;reboot",
        ] {
            let found = all(text);
            assert!(found.is_err() || text == "/srv:/data,", "{text}: {found:?}");
        }
        let many: Vec<String> = (0..17).map(|number| format!("/srv:/{number}")).collect();
        assert!(all(&many.join(" ")).is_err());
    }
}
