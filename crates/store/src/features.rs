//! `FEATURES` of a `ve.conf`, as OpenVZ writes it: `nesting:on fuse:on`. What each opens stands in SECURITY.md.

use crate::conf::Conf;

/// The key.
pub const KEY: &str = "FEATURES";

/// Something that a container may have and others have not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Feature {
    /// Containers in the container: keyrings, and `/dev/fuse`.
    Nesting,
    /// `/dev/fuse`.
    Fuse,
    /// `/dev/net/tun`.
    Tun,
    /// `/dev/ppp`.
    Ppp,
}

impl Feature {
    const ALL: [Feature; 4] = [Feature::Nesting, Feature::Fuse, Feature::Tun, Feature::Ppp];

    fn word(self) -> &'static str {
        match self {
            Feature::Nesting => "nesting",
            Feature::Fuse => "fuse",
            Feature::Tun => "tun",
            Feature::Ppp => "ppp",
        }
    }
}

/// What OpenVZ's containers had to be given, and every one here has in its own network, where the host's kernel has it.
const EVERYBODYS: [&str; 4] = ["bridge", "ipip", "ipgre", "sit"];
/// What the kernel gives to nobody in a user namespace.
const NOBODYS: [(&str, &str); 3] = [
    (
        "nfs",
        "the kernel mounts NFS for no container: mount it on the host, and bind it with an action script `mount`",
    ),
    ("nfsd", "the kernel's NFS server is the host's: a server in user space, Ganesha, works in a container"),
    ("time", "the clock is the host's, and of all its containers"),
];

/// All that a configuration says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Features {
    pub nesting: bool,
    pub fuse: bool,
    pub tun: bool,
    pub ppp: bool,
    /// What is not obeyed, each with why.
    pub ignored: Vec<(String, &'static str)>,
}

/// What is wrong with what was typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FeatureError {
    /// It is none of those that there are.
    Unknown(String),
    /// Nobody can have it, and why.
    Impossible(String, &'static str),
}

/// What is wanted.
pub const WANTED: &str = "`NAME:on` or `NAME:off`, several with blanks between them: nesting, fuse, tun, ppp; bridge, ipip, ipgre and sit, which every container has";

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split([' ', '\t', ',']).filter(|word| !word.is_empty())
}

fn pair(word: &str) -> Option<(&str, bool)> {
    match word.split_once(':')? {
        (name, "on") => Some((name, true)),
        (name, "off") => Some((name, false)),
        _ => None,
    }
}

impl Features {
    /// Those of a `ve.conf`; nothing in it is an error.
    pub fn of(conf: &Conf) -> Self {
        let mut features = Self::default();
        let text = conf.get(KEY).unwrap_or_default();
        for word in words(&text) {
            let Some((name, is_on)) = pair(word) else {
                features.ignored.push((word.to_owned(), "wanted `NAME:on` or `NAME:off`"));
                continue;
            };
            let found = Feature::ALL.into_iter().find(|feature| feature.word() == name);
            match found {
                Some(Feature::Nesting) => features.nesting = is_on,
                Some(Feature::Fuse) => features.fuse = is_on,
                Some(Feature::Tun) => features.tun = is_on,
                Some(Feature::Ppp) => features.ppp = is_on,
                None if !is_on => {}
                None if EVERYBODYS.contains(&name) => {}
                None => {
                    let why = NOBODYS
                        .iter()
                        .find(|(one, _)| *one == name)
                        .map_or("there is no such feature", |(_, why)| why);
                    features.ignored.push((word.to_owned(), why));
                }
            }
        }
        features
    }

    /// What `ve.conf` says after somebody has typed these beside what it said before.
    ///
    /// # Errors
    /// [`FeatureError`].
    pub fn merge(before: &str, typed: &str) -> Result<String, FeatureError> {
        let mut all: Vec<String> = words(before).map(str::to_owned).collect();
        for word in words(typed) {
            let (name, is_on) = pair(word).ok_or_else(|| FeatureError::Unknown(word.to_owned()))?;
            let is_known =
                Feature::ALL.iter().any(|feature| feature.word() == name) || EVERYBODYS.contains(&name);
            let why = NOBODYS.iter().find(|(one, _)| *one == name).map(|(_, why)| *why);
            match why {
                Some(why) if is_on => return Err(FeatureError::Impossible(word.to_owned(), why)),
                None if !is_known => return Err(FeatureError::Unknown(word.to_owned())),
                Some(_) | None => {}
            }
            if !is_on && EVERYBODYS.contains(&name) {
                return Err(FeatureError::Impossible(
                    word.to_owned(),
                    "every container has it, in its own network",
                ));
            }
            all.retain(|one| pair(one).is_none_or(|(other, _)| other != name));
            all.push(word.to_owned());
        }
        Ok(all.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Features {
        let mut conf = Conf::default();
        conf.set(KEY, text).unwrap();
        Features::of(&conf)
    }

    #[test]
    fn what_a_configuration_says_is_obeyed_as_far_as_it_can_be() {
        let features = of("nfs:on nesting:on,fuse:on tun:off sit:on frob:on frob:off tun");
        assert!(features.nesting && features.fuse && !features.tun && !features.ppp);
        let ignored: Vec<&str> = features.ignored.iter().map(|(word, _)| word.as_str()).collect();
        assert_eq!(ignored, ["nfs:on", "frob:on", "tun"]);
        assert_eq!(of(""), Features::default());
    }

    #[test]
    fn what_is_typed_is_added_to_what_was_there() {
        let merge = Features::merge;
        assert_eq!(merge("nfs:on tun:on", "nesting:on tun:off").unwrap(), "nfs:on nesting:on tun:off");
        assert_eq!(merge("", "fuse:on,tun:on").unwrap(), "fuse:on tun:on");
        assert_eq!(merge("nfs:on", "nfs:off").unwrap(), "nfs:off");
        for typed in
            ["frob:on", "nesting", "nesting:yes", ":on", "nesting:on;reboot", "NESTING:on", "$(reboot):on"]
        {
            assert!(matches!(merge("", typed), Err(FeatureError::Unknown(_))), "{typed}");
        }
        for typed in ["nfs:on", "nfsd:on", "time:on", "sit:off"] {
            assert!(matches!(merge("", typed), Err(FeatureError::Impossible(..))), "{typed}");
        }
    }
}
