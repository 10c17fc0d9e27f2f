//! What a container runs that has no init of its own: the program of an image, and how it is meant to be started.

use serde::{Deserialize, Serialize};

/// A program under the small init, in `template.json`. Whatever an image says may stand here: it is made sense of in the container, never on the host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Application {
    /// The program and what it is called with; a program without a `/` is looked for in the `PATH` of `environment`.
    pub arguments: Vec<String>,
    /// `KEY=value`, beside what every process 1 has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub environment: Vec<String>,
    /// `USER[:GROUP]`, by name or number, of the container's own `/etc/passwd` and `/etc/group`; without one: root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Where it is started, made if it is not there; without one: `/`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<String>,
}
