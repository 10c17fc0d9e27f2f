//! A file that each container of a template gets of its own, since its name is in it.

use serde::{Deserialize, Serialize};

/// What stands in a text where the container's host name belongs.
pub const NAME: &str = "{{ container.name }}";

/// Such a file, in `template.json`. Whatever an image says may stand here: its path is one inside a root, and is never opened on the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnFile {
    /// Where, from the container's `/`.
    pub path: String,
    /// What is in it, with [`NAME`] for the host name.
    pub text: String,
    /// Only where the template has none.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_create_only: bool,
}

impl OwnFile {
    /// Its text for a container.
    pub fn text_for(&self, hostname: &str) -> String {
        self.text.replace(NAME, hostname)
    }
}
