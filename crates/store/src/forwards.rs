//! `FORWARD` of a `ve.conf`: ports of the host behind which a container answers, between blanks.

use std::str::FromStr;

use crate::conf::Conf;

/// The key.
pub const KEY: &str = "FORWARD";

/// What speaks of ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    Tcp,
    Udp,
}

impl std::fmt::Display for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Transport::Tcp => "tcp",
            Transport::Udp => "udp",
        })
    }
}

/// What comes to a port of the host goes to one of the container's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct Forward {
    pub transport: Transport,
    /// Of the host.
    pub port: u16,
    /// Of the container.
    pub to: u16,
}

/// What is no forward.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is none: wanted `tcp:8080:80` or `udp:53`, with ports from 1 to 65535, and no port twice")]
pub struct ForwardError {
    /// Its beginning, with what is not to be printed escaped.
    pub text: String,
}

impl Forward {
    /// Those of a `ve.conf`.
    pub fn all(conf: &Conf) -> Result<Vec<Forward>, ForwardError> {
        Forward::read(&conf.get(KEY).unwrap_or_default())
    }

    /// Those that are written there, each port of the host once.
    pub fn read(text: &str) -> Result<Vec<Forward>, ForwardError> {
        let mut found: Vec<Forward> = Vec::new();
        for word in text.split([' ', '\t', ',']).filter(|word| !word.is_empty()) {
            let forward: Forward = word.parse()?;
            if found.iter().any(|one| one.is_of_the_port_of(&forward)) {
                return Err(refused(word));
            }
            found.push(forward);
        }
        Ok(found)
    }

    /// Both want the same port of the host.
    pub fn is_of_the_port_of(&self, other: &Forward) -> bool {
        (self.transport, self.port) == (other.transport, other.port)
    }
}

fn refused(text: &str) -> ForwardError {
    ForwardError { text: text.chars().take(80).flat_map(char::escape_debug).collect() }
}

impl FromStr for Forward {
    type Err = ForwardError;

    /// `tcp:8080:80`, or `tcp:80` where both are the same.
    fn from_str(text: &str) -> Result<Forward, ForwardError> {
        let mut parts = text.split(':');
        let transport = match parts.next() {
            Some("tcp") => Transport::Tcp,
            Some("udp") => Transport::Udp,
            Some(_) | None => return Err(refused(text)),
        };
        let mut port = || -> Option<Result<u16, ForwardError>> {
            let part = parts.next()?;
            let is_number = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            let number = part.parse().ok().filter(|&number| is_number && number > 0);
            Some(number.ok_or_else(|| refused(text)))
        };
        let (first, second, more) = (port(), port(), port());
        match (first, second, more) {
            (Some(port), None, None) => {
                let port = port?;
                Ok(Forward { transport, port, to: port })
            }
            (Some(port), Some(to), None) => Ok(Forward { transport, port: port?, to: to? }),
            _ => Err(refused(text)),
        }
    }
}

impl std::fmt::Display for Forward {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}:{}", self.transport, self.port, self.to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_is_written() {
        let all = Forward::read("tcp:8080:80, udp:53\ttcp:53").unwrap();
        let words: Vec<String> = all.iter().map(ToString::to_string).collect();
        assert_eq!(words, ["tcp:8080:80", "udp:53:53", "tcp:53:53"]);
        assert_eq!(Forward::read("").unwrap(), []);
        assert_eq!(Forward::all(&Conf::parse(b"FORWARD=\"tcp:1:2\"\n")).unwrap().len(), 1);
    }

    #[test]
    fn says_what_is_none() {
        for text in [
            "tcp",
            "tcp:",
            "tcp:0",
            "tcp:65536",
            "tcp:-1",
            "tcp:+1",
            "tcp:80:",
            "tcp:80:0",
            "tcp:1:2:3",
            "sctp:80",
            "80",
            ":80:80",
            "tcp:80-90",
            "TCP:80",
            "tcp:$(reboot)",
            "tcp:80 tcp:80:81",
            "tcp:\u{663}",
        ] {
            assert!(Forward::read(text).is_err(), "{text}");
        }
    }
}
