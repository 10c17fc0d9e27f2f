//! What the kernel has killed in a container for want of memory.
//!
//! The kernel tells the container's group that something was killed (v2: `memory.events`; v1: an eventfd on `memory.oom_control`), and its log (kmsg(4))
//! which process that was: whose it is its id says, since each container has ids of its own. The log is read then and at no other time; where it cannot be, there
//! are numbers only. The group is heard at most once a second, so that who is always at his limit keeps nobody busy.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;
use store::IdRange;

use crate::cgroup::Cgroups;

/// From what is heard to what is looked at: the kernel first counts, or on v1 first tells, then kills, then logs.
const SETTLING: Duration = Duration::from_millis(200);
const BETWEEN_LOOKS: Duration = Duration::from_secs(1);
/// On v1 it tells before it has chosen, which it logs at length: to a slow console, say.
const LOOKS: u32 = 10;
/// So many are named.
const NAMED: usize = 10;
/// Bytes of one; the kernel makes none that are longer.
const RECORD: usize = 16 * 1024;
/// More records than the largest buffer has.
const MOST_RECORDS: usize = 1_000_000;

/// A process that was killed.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Killed {
    /// As it called itself: anything.
    pub name: String,
    /// On the host.
    pub pid: i32,
    /// Of memory that was its own.
    pub bytes: u64,
}

/// Where it is written down.
pub trait Diary {
    /// So many were killed, the last of which are these.
    fn killed(&mut self, kills: u64, processes: &[Killed]);
}

/// Who listens to a container's group, for one life of it.
#[derive(Debug)]
pub struct MemoryWatch {
    ids: IdRange,
    /// The file that counts.
    counts: PathBuf,
    ear: Ear,
    known: u64,
    look_at: Option<Instant>,
    looks: u32,
}

#[derive(Debug)]
enum Ear {
    /// v2: the file itself.
    Events(File),
    /// v1.
    Eventfd(OwnedFd),
}

impl MemoryWatch {
    /// `None` where the kernel does not tell.
    pub fn new(groups: &Cgroups, ids: IdRange) -> Option<MemoryWatch> {
        let directory = groups.of_controller("memory")?;
        let (counts, ear) = if groups.is_hybrid() {
            let counts = directory.join("memory.oom_control");
            let told = File::open(&counts).ok()?;
            let ear = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).ok()?;
            let line = format!("{} {}", ear.as_raw_fd(), told.as_raw_fd());
            let mut control =
                File::options().write(true).open(directory.join("cgroup.event_control")).ok()?;
            control.write_all(line.as_bytes()).ok()?;
            (counts, Ear::Eventfd(ear))
        } else {
            let counts = directory.join("memory.events");
            let file = File::open(&counts).ok()?;
            (counts, Ear::Events(file))
        };
        let mut watch = MemoryWatch { ids, counts, ear, known: 0, look_at: None, looks: 0 };
        watch.listen();
        watch.known = watch.count();
        Some(watch)
    }

    /// What to poll; nothing while a look is to come anyway.
    pub fn polled(&self) -> Option<PollFd<'_>> {
        if self.look_at.is_some() {
            return None;
        }
        Some(match &self.ear {
            Ear::Events(file) => PollFd::from_borrowed_fd(file.as_fd(), PollFlags::PRI),
            Ear::Eventfd(fd) => PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN),
        })
    }

    /// When to look.
    pub fn look_at(&self) -> Option<Instant> {
        self.look_at
    }

    /// What was polled is ready.
    pub fn hear(&mut self) {
        (self.look_at, self.looks) = (Some(Instant::now() + SETTLING), 0);
    }

    /// What was killed since the last time, if it is time to look.
    pub fn look(&mut self) -> Option<(u64, Vec<Killed>)> {
        if self.look_at.is_none_or(|at| at > Instant::now()) {
            return None;
        }
        // Before the count: what comes after it is heard again.
        self.listen();
        let kills = self.kills();
        self.looks += 1;
        let goes_on =
            matches!(self.ear, Ear::Eventfd(_)) && kills == 0 && self.looks < LOOKS || self.looks == 1;
        self.look_at = goes_on.then(|| Instant::now() + BETWEEN_LOOKS);
        (kills > 0).then(|| (kills, self.named(kills)))
    }

    /// What was killed since the last time; at the end of a life, when nothing more is heard.
    pub fn look_last(&mut self) -> Option<(u64, Vec<Killed>)> {
        let kills = self.kills();
        if kills == 0 {
            return None;
        }
        // The process is dead before the log has it. Opened before the first look: what comes after that is heard.
        let end = Instant::now() + SETTLING;
        let log = log_from(SeekFrom::End(0));
        loop {
            let named = self.named(kills);
            let rest = end.saturating_duration_since(Instant::now());
            if !named.is_empty() || rest.is_zero() || !log.as_ref().is_some_and(|log| has_more(log, rest)) {
                return Some((kills, named));
            }
        }
    }

    fn named(&self, kills: u64) -> Vec<Killed> {
        let mut all = killed_in_log(self.ids);
        let most = usize::try_from(kills).unwrap_or(NAMED).min(NAMED);
        all.split_off(all.len().saturating_sub(most))
    }

    fn kills(&mut self) -> u64 {
        let count = self.count();
        let kills = count.saturating_sub(self.known);
        self.known = self.known.max(count);
        kills
    }

    fn count(&self) -> u64 {
        let text = std::fs::read_to_string(&self.counts).unwrap_or_default();
        let mut lines = text.lines();
        lines.find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok()).unwrap_or(0)
    }

    /// What was heard is not heard again.
    fn listen(&mut self) {
        match &mut self.ear {
            Ear::Events(file) => {
                let mut text = String::new();
                let _ = file.seek(SeekFrom::Start(0)).and_then(|_| file.read_to_string(&mut text));
            }
            Ear::Eventfd(fd) => drop(rustix::io::read(fd, &mut [0; 8])),
        }
    }
}

/// The kernel's log; `None` where it cannot be read.
fn log_from(place: SeekFrom) -> Option<File> {
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let mut log = File::options().read(true).custom_flags(flags).open("/dev/kmsg").ok()?;
    log.seek(place).ok()?;
    Some(log)
}

/// Whether there comes another record, which is read, within that time.
fn has_more(log: &File, within: Duration) -> bool {
    let Ok(within) = Timespec::try_from(within) else { return false };
    let mut polled = [PollFd::new(log, PollFlags::IN)];
    if !matches!(poll(&mut polled, Some(&within)), Ok(1..)) {
        return false;
    }
    // Of several the others are heard again, and none is missed: who looks reads the log from its beginning.
    let _ = rustix::io::read(log, &mut [0; RECORD]);
    true
}

/// Those of the kernel's log with ids of this range, the last one last; none where it cannot be read.
fn killed_in_log(ids: IdRange) -> Vec<Killed> {
    let Some(log) = log_from(SeekFrom::Start(0)) else { return Vec::new() };
    let mut found = Vec::new();
    // One record a read, and those too large are none of these.
    let mut record = [0; RECORD];
    for _ in 0..MOST_RECORDS {
        match rustix::io::read(&log, &mut record) {
            Ok(0) => break,
            Ok(length) => found.extend(killed_in(&String::from_utf8_lossy(&record[..length]), ids)),
            // What was next has been overwritten, or is too long.
            Err(Errno::PIPE | Errno::INTR | Errno::INVAL) => {}
            Err(_) => break,
        }
    }
    found
}

/// `3,15180,2264883255,-;Memory cgroup out of memory: Killed process 21394 (dd) total-vm:3292kB, anon-rss:1024kB, …, UID:1879048192 …`
fn killed_in(record: &str, ids: IdRange) -> Option<Killed> {
    let (head, text) = record.lines().next()?.split_once(';')?;
    // Others than the kernel have a facility of their own, and cannot have its.
    let level: u32 = head.split(',').next()?.parse().ok()?;
    if level >> 3 != 0 {
        return None;
    }
    let rest = ["Memory cgroup out of memory: Killed process ", "Out of memory: Killed process "]
        .iter()
        .find_map(|start| text.strip_prefix(start))?;
    let (pid, rest) = rest.split_once(" (")?;
    // A name may have all of this in it, but not what comes last.
    let (name, facts) = rest.rsplit_once(") total-vm:")?;
    let number = |key: &str| -> Option<u64> {
        let rest = facts.split_once(key)?.1;
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        rest[..end].parse().ok()
    };
    let uid = u32::try_from(number(" UID:")?).ok()?;
    if uid.checked_sub(ids.first).is_none_or(|offset| offset >= ids.count) {
        return None;
    }
    let kilobytes: u64 = ["anon-rss:", "shmem-rss:"].iter().filter_map(|key| number(key)).sum();
    Some(Killed {
        name: tree::escaped(name.as_bytes()),
        pid: pid.parse().ok()?,
        bytes: kilobytes.saturating_mul(1024),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_killed_process_is_one_of_the_kernels_own_lines_and_of_these_ids() {
        let ids = IdRange { first: 1_879_048_192, count: 65_536 };
        let line = |head: &str, name: &str, uid: u64| {
            format!(
                "{head};Memory cgroup out of memory: Killed process 21394 ({name}) total-vm:3292kB, anon-rss:1024kB, file-rss:1512kB, shmem-rss:8kB, UID:{uid} pgtables:44kB oom_score_adj:0\n SUBSYSTEM=x\n"
            )
        };
        let found = killed_in(&line("3,15180,2264883255,-", "dd", 1_879_048_192), ids).unwrap();
        assert_eq!(found, Killed { name: "dd".to_owned(), pid: 21_394, bytes: 1032 * 1024 });
        let odd = killed_in(&line("3,1,2,-", "a) UID:0 (b", 1_879_048_200), ids).unwrap();
        assert_eq!(odd.name, "a) UID:0 (b");
        for (record, why) in [
            (line("3,1,2,-", "dd", 0), "the host's"),
            (line("3,1,2,-", "dd", 1_879_048_192 + 65_536), "another's"),
            (line("11,1,2,-", "dd", 1_879_048_192), "not the kernel's"),
            (
                "6,1,2,-;oom-kill:constraint=CONSTRAINT_MEMCG,task=dd,pid=1,uid=1879048192".to_owned(),
                "another line",
            ),
            ("3,1,2,-;Memory cgroup out of memory: Killed process x".to_owned(), "half"),
            (String::new(), "empty"),
        ] {
            assert_eq!(killed_in(&record, ids), None, "{why}");
        }
        let all = killed_in(
            "3,1,2,-;Out of memory: Killed process 7 (x) total-vm:1kB, anon-rss:0kB, UID:1879048192",
            ids,
        );
        assert_eq!(all.unwrap().pid, 7);
    }
}
