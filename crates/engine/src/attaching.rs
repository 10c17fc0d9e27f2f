//! What is being mounted or unmounted in a container that runs: written down before the first of it is, and gone when `ve.conf` says the same.
//!
//! ```text
//! /run/vz/<uuid>/attaching.json    {"format":1,"at":["/data"]}      it dies with the host, as the container does
//! ```
//!
//! Whoever finds it has come after a death in between, or after an error that left what somebody was in: which of the two holds is asked of `ve.conf`, at each of these paths, and what is there is made so.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use store::{Conf, InnerPath, atomic, disks};

use crate::attachments::configured;
use crate::disks::of_disks;
use crate::error::Result;
use crate::host::Container;

const FORMAT: u32 = 1;
const FILE: &str = "attaching.json";

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    format: u32,
    at: Vec<InnerPath>,
}

impl Container<'_> {
    fn attaching_file(&self) -> PathBuf {
        self.host.prefix.run_dir_of(self.id()).join(FILE)
    }

    /// Has it see what it is to see from now on, and not be between the two for ever should this process die. What is warned of.
    ///
    /// # Errors
    /// As of [`Container::follow_attachments`]. What stays is in its state, and in the file still.
    pub(crate) fn attach(&self, old: &Conf, new: &Conf) -> Result<Vec<String>> {
        let mut left = Vec::new();
        let done = self.begin_attaching(old, new).and_then(|()| self.follow_attachments(old, new, &mut left));
        done.map_err(|failure| {
            if left.is_empty() {
                self.end_attaching();
                return failure;
            }
            let left = left.join("; ");
            failure.state(format!("{left}: the next command tries again; nothing else was changed"))
        })
    }

    /// Takes that back. What of it stays, which is in the file still.
    pub(crate) fn attach_as_before(&self, new: &Conf, old: &Conf) -> Option<String> {
        let Err(failure) = self.follow_attachments(new, old, &mut Vec::new()) else {
            self.end_attaching();
            return None;
        };
        let because = failure.reason();
        Some(format!("what it sees is not as it was, and the next command tries again: {because}"))
    }

    /// Says where something is other in one configuration than in the other, before anything is done about it.
    ///
    /// # Errors
    /// What the disk says.
    fn begin_attaching(&self, old: &Conf, new: &Conf) -> Result<()> {
        let before = configured(&self.area, old).unwrap_or_default();
        let after = configured(&self.area, new).unwrap_or_default();
        let gone = before.iter().filter(|one| !after.contains(one));
        let come = after.iter().filter(|one| !before.contains(one));
        let at: Vec<InnerPath> = gone.chain(come).map(|one| one.at.clone()).collect();
        if at.is_empty() || linux::mutated!("attaching-forgotten") {
            return Ok(());
        }
        self.note_attaching(at)
    }

    fn note_attaching(&self, at: Vec<InnerPath>) -> Result<()> {
        let text = serde_json::to_vec(&Record { format: FORMAT, at })
            .map_err(|error| crate::error::system("cannot write down what is mounted", &error))?;
        Ok(atomic::replace(&self.attaching_file(), &text, 0o600)?)
    }

    /// `ve.conf` says what is there.
    pub(crate) fn end_attaching(&self) {
        let _ = std::fs::remove_file(self.attaching_file());
    }

    /// Has what a death has left in between be as `ve.conf` says, and nothing be mounted on the host of disks that it does not name.
    pub(crate) fn put_attachments_right(&self) {
        if !self.is_running() {
            self.end_attaching();
            return;
        }
        let Ok(conf) = self.area.conf() else { return };
        let text = std::fs::read(self.attaching_file()).unwrap_or_default();
        if let Some(record) =
            serde_json::from_slice(&text).ok().filter(|record: &Record| record.format == FORMAT)
        {
            // What could not be taken away is tried again when nobody may be in it any more.
            let left = self.attach_as_configured(&conf, &record.at);
            match left.is_empty() {
                true => self.end_attaching(),
                false => drop(self.note_attaching(left)),
            }
        }
        let Ok(all) = of_disks(&conf) else { return };
        for number in store::DiskNumber::all() {
            let is_wanted = all.own.iter().any(|disk| disk.number == number && disk.is_enabled);
            let point = disks::mount_point(&self.host.prefix, self.id(), number);
            if !is_wanted && point.exists() && !linux::mutated!("strays-stay-mounted") {
                self.runtime().release_disk(self.id(), number);
            }
        }
    }

    /// Returns where something is that is not to be.
    fn attach_as_configured(&self, conf: &Conf, at: &[InnerPath]) -> Vec<InnerPath> {
        let (Ok(wanted), Ok(record)) = (configured(&self.area, conf), self.area.record()) else {
            return Vec::new();
        };
        let mut left = Vec::new();
        for path in at.iter().rev() {
            // What is in use stays, should it be what is wanted or not.
            if let Err(error) = self.runtime().detach(self.id(), path)
                && !wanted.iter().any(|one| one.at == *path)
            {
                left.push(path.clone());
                self.host.warning(&format!(
                    "what is at {path} in `{}` is not in its ve.conf, and stays while it is in use: {}",
                    self.name, error.because
                ));
            }
        }
        for one in wanted.iter().filter(|one| at.contains(&one.at)) {
            if self.check_coming(&[one], &[], conf).is_ok() {
                // There already, where it could not be taken away.
                let _ = self.runtime().attach(self.id(), record.id_range, one);
            }
        }
        left
    }
}
