//! `prlctl set`: other settings of a container, at once where the kernel can, and in its `ve.conf`. All of one call, or none.
//!
//! ```text
//! plan      everything that can be known beforehand; a refusal has changed nothing
//! steps     what is done, each with what takes it back should a later one fail
//! name      of two containers that want one name at once, one is refused
//! ```
//!
//! First the kernel, then the file: what the kernel was told is taken back when the file cannot be written, and is gone with the next start when
//! this process dies in between. The other way round a file would promise what does not hold.

mod name;
mod plan;
mod steps;

use crate::accounts::GivenPassword;
use crate::addresses::AddressChange;
use crate::attachments::AttachmentChange;
use crate::error::Result;
use crate::host::Container;
use crate::interfaces::InterfaceChange;
use crate::operation::user_password;
use crate::settings::Change;

pub use plan::{apply, lacking};

/// What the user has asked for.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// A sample whose settings come first.
    pub sample: Option<String>,
    /// Each key once.
    pub changes: Vec<Change>,
    /// Which addresses come and go.
    pub addresses: AddressChange,
    /// Of accounts of its root.
    pub passwords: Vec<GivenPassword>,
    /// Which disks, and what it sees of the host.
    pub attachments: AttachmentChange,
    /// Which interfaces on bridges come, go, and become other.
    pub interfaces: InterfaceChange,
    /// Written to `ve.conf`; else it is gone with the next start.
    pub is_kept: bool,
}

/// What has come of it.
#[derive(Debug)]
pub struct Report {
    /// The keys whose values have become others, and what they are.
    pub changed: Vec<(String, String)>,
    /// What became of each of the passwords.
    pub passwords: Vec<user_password::Given>,
    /// What is not as it should be.
    pub warnings: Vec<String>,
}

/// Sets them.
///
/// # Errors
/// With nothing changed: [`crate::Code::BadValue`], [`crate::Code::BadName`]; [`crate::Code::Unsupported`] where this kernel lacks what is needed for what was
/// said by hand.
pub fn set(container: &Container<'_>, options: &Options) -> Result<Report> {
    let what = format!("cannot set `{}`", container.name);
    let done = plan::plan(container, options, &what).and_then(|plan| {
        container.host.heed_signals(&what)?;
        steps::take(container, options, plan, &what)
    });
    done.map_err(|failure| {
        let failure = if failure.what == what { failure } else { failure.within(what) };
        if failure.state.is_none() { failure.unchanged() } else { failure }
    })
}
