//! The words that identify things: a container's id and name, a template's name, a generation's number.
//!
//! Each is checked once, where it enters; after that the type is the proof. All of them are safe as one component
//! of a path: none can be empty, begin with a dot or hold a slash.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Which rule a name breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` cannot be {what}: {rule}")]
pub struct NameError {
    /// As given, control characters made visible.
    pub name: String,
    pub what: &'static str,
    pub rule: &'static str,
}

pub(crate) fn refuse<T>(name: &str, what: &'static str, rule: &'static str) -> Result<T, NameError> {
    Err(NameError { name: tree::escaped(name.as_bytes()), what, rule })
}

/// A container's UUID. Its directory, its cgroup and its lock are named after it, in lower case, without braces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ContainerId(Uuid);

impl ContainerId {
    /// A new one (version 4).
    pub fn random() -> Self {
        Self(Uuid::new_v4())
    }

    /// As people of Virtuozzo write it: `{…}`.
    pub fn braced(&self) -> String {
        self.0.braced().to_string()
    }

    /// The name of a directory that is exactly a container's, written the one way that we write it.
    pub(crate) fn from_file_name(name: &str) -> Option<Self> {
        let id = Self(Uuid::try_parse(name).ok()?);
        (id.to_string() == name).then_some(id)
    }
}

impl From<Uuid> for ContainerId {
    fn from(uuid: Uuid) -> Self {
        Self(uuid)
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl FromStr for ContainerId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        match Uuid::try_parse(text) {
            Ok(uuid) if !text.starts_with("urn:") => Ok(Self(uuid)),
            Ok(_) | Err(_) => {
                refuse(text, "a UUID", "wanted 32 hex digits with hyphens, with or without braces")
            }
        }
    }
}

/// A container's name, as people type it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContainerName(String);

impl ContainerName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ContainerName {
    type Err = NameError;

    fn from_str(name: &str) -> Result<Self, NameError> {
        let refuse = |rule| refuse(name, "a container's name", rule);
        if name.is_empty() {
            return refuse("it is empty");
        }
        // The name is also the name of a link, and the kernel's limit there is 255 bytes.
        if name.chars().count() > 64 || name.len() > 255 {
            return refuse("it is longer than 64 characters");
        }
        if name.starts_with(['-', '.']) {
            return refuse("it begins with `-` or `.`");
        }
        if name.starts_with(' ') || name.ends_with(' ') {
            return refuse("it begins or ends with a space");
        }
        if !name.chars().all(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_' | '.')) {
            return refuse("only letters, digits, space, `-`, `_` and `.` are allowed");
        }
        if Uuid::try_parse(name).is_ok() {
            return refuse("it is a UUID");
        }
        Ok(Self(name.to_owned()))
    }
}

/// An operating system template's name, such as `debian-12-x86_64`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TemplateName(String);

impl TemplateName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TemplateName {
    type Err = NameError;

    /// OpenVZ marks its EZ templates with a leading dot (`.almalinux-9`); it is accepted and dropped.
    fn from_str(text: &str) -> Result<Self, NameError> {
        let refuse = |rule| refuse(text, "a template's name", rule);
        let name = text.strip_prefix('.').unwrap_or(text);
        if name.is_empty() {
            return refuse("it is empty");
        }
        if name.len() > 64 {
            return refuse("it is longer than 64 characters");
        }
        if !name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit()) {
            return refuse("it must begin with a lower-case letter or a digit");
        }
        if !name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'+' | b'-')) {
            return refuse("only lower-case letters, digits, `.`, `_`, `+` and `-` are allowed");
        }
        Ok(Self(name.to_owned()))
    }
}

/// A template as people name it, and as `OSTEMPLATE` does: `debian-12`, whatever is its latest version; or `debian-12@5b1c9f0e3a12`, that one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateChoice {
    pub name: TemplateName,
    /// The first digits of a version's digest, at least [`TemplateChoice::FEWEST`], or all; lower-case.
    pub version: Option<String>,
}

impl TemplateChoice {
    /// Fewer digits say nothing that one would want to rely on.
    pub const FEWEST: usize = 8;

    /// Whether a version is one that is meant.
    pub fn means(&self, name: &TemplateName, digest: &str) -> bool {
        self.name == *name && self.version.as_ref().is_none_or(|version| digest.starts_with(version))
    }
}

impl From<TemplateName> for TemplateChoice {
    fn from(name: TemplateName) -> Self {
        Self { name, version: None }
    }
}

impl fmt::Display for TemplateChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.version {
            Some(version) => write!(f, "{}@{version}", self.name),
            None => self.name.fmt(f),
        }
    }
}

impl FromStr for TemplateChoice {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let Some((name, version)) = text.split_once('@') else {
            return Ok(Self::from(text.parse::<TemplateName>()?));
        };
        let name = name.parse()?;
        let refuse = |rule| refuse(text, "a version of a template", rule);
        if version.len() < Self::FEWEST {
            return refuse("wanted are at least 8 digits of the version behind `@`");
        }
        if version.len() > 128 || !version.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return refuse("a version is named by hexadecimal digits");
        }
        Ok(Self { name, version: Some(version.to_ascii_lowercase()) })
    }
}

macro_rules! text_of {
    ($($name:ident),+) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }
    )+};
}

text_of!(ContainerName, TemplateName);

/// The number of a generation within its container; from 1, never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GenerationNumber(u32);

impl GenerationNumber {
    pub const FIRST: Self = Self(1);

    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    pub const fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for GenerationNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for GenerationNumber {
    type Err = NameError;

    /// Only as [`fmt::Display`] writes it: `07` and `+7` are other names of directories than `7`.
    fn from_str(text: &str) -> Result<Self, NameError> {
        match text.parse::<u32>() {
            Ok(number) if number > 0 && number.to_string() == text => Ok(Self(number)),
            Ok(_) | Err(_) => refuse(text, "a generation's number", "wanted a number from 1 up"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "9e3f3a2c-0f5e-4f0b-8d8a-2b1d6a9c1e77";

    #[test]
    fn reads_a_uuid_with_and_without_braces_in_any_case() {
        for text in [UUID, &format!("{{{UUID}}}"), &UUID.to_uppercase(), &UUID.replace('-', "")] {
            let id: ContainerId = text.parse().unwrap();
            assert_eq!(id.to_string(), UUID);
            assert_eq!(id.braced(), format!("{{{UUID}}}"));
        }
        for text in ["", "{}", "9e3f3a2c", &format!("urn:uuid:{UUID}"), &format!("{{{UUID}")] {
            assert!(text.parse::<ContainerId>().is_err(), "{text}");
        }
    }

    #[test]
    fn only_the_canonical_spelling_names_a_directory() {
        assert!(ContainerId::from_file_name(UUID).is_some());
        for name in [UUID.to_uppercase(), format!("{{{UUID}}}"), UUID.replace('-', ""), ".trash".into()] {
            assert!(ContainerId::from_file_name(&name).is_none(), "{name}");
        }
    }

    #[test]
    fn container_names_follow_the_rules_and_the_error_says_which_one() {
        let longest = "ä".repeat(64);
        for name in ["web01", "a", "my server", "Größe-1_2.x", "漢字", "9", &longest] {
            assert_eq!(name.parse::<ContainerName>().unwrap().as_str(), name);
        }
        let too_long = "x".repeat(65);
        let too_many_bytes = "𐍈".repeat(64);
        for (name, rule) in [
            ("", "empty"),
            (too_long.as_str(), "longer than 64"),
            (too_many_bytes.as_str(), "longer than 64"),
            ("-rf", "begins with `-`"),
            (".hidden", "begins with `-` or `.`"),
            ("..", "begins with `-` or `.`"),
            (" a", "space"),
            ("a ", "space"),
            ("a/b", "only letters"),
            ("a\nb", "only letters"),
            ("a\0", "only letters"),
            ("a$b", "only letters"),
            (UUID, "is a UUID"),
        ] {
            let error = name.parse::<ContainerName>().unwrap_err();
            assert!(error.rule.contains(rule), "{name:?}: {error}");
            assert!(!error.to_string().contains(char::is_control), "{error:?}");
        }
    }

    #[test]
    fn a_choice_is_a_template_or_one_version_of_it() {
        let choice = |text: &str| text.parse::<TemplateChoice>();
        let (latest, pinned) = (choice("debian-12").unwrap(), choice(".debian-12@5B1C9F0E3a").unwrap());
        assert_eq!((latest.to_string(), latest.version.as_ref()), ("debian-12".to_owned(), None));
        assert_eq!(pinned.to_string(), "debian-12@5b1c9f0e3a");
        let name = "debian-12".parse().unwrap();
        assert!(
            latest.means(&name, "ffff")
                && pinned.means(&name, "5b1c9f0e3aff")
                && !pinned.means(&name, "5b1c9f0e3b")
        );
        for (text, because) in [
            ("debian-12@", "at least 8"),
            ("debian-12@5b1c9f0", "at least 8"),
            ("debian-12@5b1c9f0g", "hexadecimal"),
            ("debian-12@latest-1", "hexadecimal"),
            ("debian-12@../../../etc", "hexadecimal"),
            ("debian-12@5b1c9f0e@5b1c9f0e", "hexadecimal"),
            ("@5b1c9f0e", "it is empty"),
            ("Debian@5b1c9f0e", "lower-case"),
        ] {
            let refused = choice(text).unwrap_err().to_string();
            assert!(refused.contains(because), "{text}: {refused}");
        }
        assert!(choice(&format!("a@{}", "0".repeat(129))).is_err());
    }

    #[test]
    fn template_names_lose_the_dot_of_openvz() {
        assert_eq!(".almalinux-9".parse::<TemplateName>().unwrap().as_str(), "almalinux-9");
        assert_eq!("debian-12-x86_64".parse::<TemplateName>().unwrap().as_str(), "debian-12-x86_64");
        for name in ["", ".", "..", "..x", "Debian", "a/b", "-a", "a b", &"x".repeat(65)] {
            assert!(name.parse::<TemplateName>().is_err(), "{name}");
        }
    }

    #[test]
    fn generation_numbers_have_one_spelling() {
        assert_eq!("41".parse::<GenerationNumber>().unwrap(), GenerationNumber::new(41));
        for text in ["", "0", "07", "+7", "-1", "7 ", "4294967296", "x"] {
            assert!(text.parse::<GenerationNumber>().is_err(), "{text}");
        }
    }

    #[test]
    fn json_is_checked_like_everything_else() {
        assert!(serde_json::from_str::<ContainerName>("\"../../etc\"").is_err());
        assert!(serde_json::from_str::<TemplateName>("\"../x\"").is_err());
        assert_eq!(serde_json::to_string(&GenerationNumber::FIRST).unwrap(), "1");
    }
}
