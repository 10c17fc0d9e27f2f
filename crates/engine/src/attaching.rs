//! What is being mounted or unmounted in a container that runs: written down before the first of it is, and gone when `ve.conf` says the same.
//!
//! ```text
//! /run/vz/<uuid>/attaching.json    {"format":1,"at":["/data"]}      it dies with the host, as the container does
//! ```
//!
//! Whoever finds it has come after a death in between: which of the two holds is asked of `ve.conf`, at each of these paths, and what is there is made so.

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

    /// Says where something is other in one configuration than in the other, before anything is done about it.
    ///
    /// # Errors
    /// What the disk says.
    pub(crate) fn begin_attaching(&self, old: &Conf, new: &Conf) -> Result<()> {
        let before = configured(&self.area, old).unwrap_or_default();
        let after = configured(&self.area, new).unwrap_or_default();
        let gone = before.iter().filter(|one| !after.contains(one));
        let come = after.iter().filter(|one| !before.contains(one));
        let at: Vec<InnerPath> = gone.chain(come).map(|one| one.at.clone()).collect();
        if at.is_empty() || linux::mutated!("attaching-forgotten") {
            return Ok(());
        }
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
            self.attach_as_configured(&conf, &record.at);
            self.end_attaching();
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

    fn attach_as_configured(&self, conf: &Conf, at: &[InnerPath]) {
        let (Ok(wanted), Ok(record)) = (configured(&self.area, conf), self.area.record()) else { return };
        for path in at.iter().rev() {
            // What is in use stays, should it be what is wanted or not.
            if let Err(error) = self.runtime().detach(self.id(), path)
                && !wanted.iter().any(|one| one.at == *path)
            {
                self.host.warning(&format!(
                    "what is at {path} in `{}` is not in its ve.conf, and stays until it is stopped: {}",
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
    }
}
