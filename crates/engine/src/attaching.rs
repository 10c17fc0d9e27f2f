//! What is being mounted or unmounted in a container that runs: written down before the first of it is, and gone when `ve.conf` says the same.
//!
//! ```text
//! /run/vz/<uuid>/attaching.json    {"format":1,"at":["/data"]}      it dies with the host, as the container does
//! ```
//!
//! Whoever finds it has come after a death in between, or after an error that left what somebody was in: which of the two holds is asked of `ve.conf`, at each of these paths, and what is there is made so.
//! One of a later format, of a container that runs, is left alone, and so is what it is about.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use store::{Conf, InnerPath, atomic, disks};

use crate::attachments::configured;
use crate::disks::of_disks;
use crate::error::{Code, Failure, Result};
use crate::host::Container;

const FORMAT: u32 = 1;
const FILE: &str = "attaching.json";

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    format: u32,
    at: Vec<InnerPath>,
}

impl Record {
    /// As it was written; nothing of what is none, which a death cannot leave: it is there whole or not at all.
    ///
    /// # Errors
    /// In one line, of a later format.
    fn read(text: &[u8]) -> std::result::Result<Option<Record>, String> {
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        match serde_json::from_slice(text) {
            Ok(Format { format }) if format > FORMAT => {
                Err(format!("its format is {format}, and {FORMAT} the latest known here"))
            }
            Ok(Format { .. }) | Err(_) => Ok(serde_json::from_slice(text).ok()),
        }
    }
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
        self.attaching().map_err(|because| {
            let what = format!("nothing more can be mounted in `{}` while it runs", self.name);
            Failure::new(Code::Unsupported, what).because(because).hint(format!(
                "use the version of Reroot that has written it; or `prlctl restart {}`, with which nothing of it is left",
                self.name
            ))
        })?;
        self.note_attaching(at)
    }

    /// What is written down.
    ///
    /// # Errors
    /// In one line, when a later version has written it.
    fn attaching(&self) -> std::result::Result<Option<Record>, String> {
        let file = self.attaching_file();
        Record::read(&std::fs::read(&file).unwrap_or_default())
            .map_err(|because| format!("a later version of Reroot has written {}: {because}", file.display()))
    }

    fn note_attaching(&self, at: Vec<InnerPath>) -> Result<()> {
        let text = serde_json::to_vec(&Record { format: FORMAT, at })
            .map_err(|error| crate::error::system("cannot write down what is mounted", &error))?;
        Ok(atomic::replace(&self.attaching_file(), &text, 0o600)?)
    }

    /// `ve.conf` says what is there. With a container that does not run everything has gone that it could be about.
    pub(crate) fn end_attaching(&self) {
        if self.attaching().is_err() && self.is_running() {
            return;
        }
        let _ = std::fs::remove_file(self.attaching_file());
    }

    /// Has what a death has left in between be as `ve.conf` says, and nothing be mounted on the host of disks that it does not name.
    pub(crate) fn put_attachments_right(&self) {
        if !self.is_running() {
            self.end_attaching();
            return;
        }
        let Ok(conf) = self.area.conf() else { return };
        let record = match self.attaching() {
            Ok(record) => record,
            Err(because) => {
                self.host.warning(&format!("what is mounted in `{}` is left as it is: {because}", self.name));
                return;
            }
        };
        if let Some(record) = record {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What earlier versions have written, never changed: a container runs on while Reroot is upgraded.
    const PRESENT: &str = r#"{"format":1,"at":["/data","/srv/www"]}"#;

    #[test]
    fn what_every_version_has_written_is_read_and_what_this_one_writes_is_what_was_recorded() {
        let record = Record::read(PRESENT.as_bytes()).unwrap().unwrap();
        assert_eq!(record.at.iter().map(InnerPath::as_str).collect::<Vec<_>>(), ["/data", "/srv/www"]);
        assert_eq!(serde_json::to_string(&record).unwrap(), PRESENT);
    }

    #[test]
    fn what_a_later_version_has_written_is_said_and_what_is_no_record_is_none() {
        for later in [r#"{"format":2,"at":["/data"]}"#, r#"{"format":2,"trees":{}}"#] {
            let because = Record::read(later.as_bytes()).unwrap_err();
            assert_eq!(because, "its format is 2, and 1 the latest known here");
        }
        for none in
            ["", "{", "[]", r#"{"at":["/data"]}"#, r#"{"format":1,"at":["data"]}"#, r#"{"format":-1}"#]
        {
            assert!(Record::read(none.as_bytes()).unwrap().is_none(), "{none}");
        }
    }
}
