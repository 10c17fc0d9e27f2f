//! What the commands and a monitor say to each other: one JSON document a packet, descriptors beside it.
//!
//! The socket is `/run/vz/<uuid>/monitor`, which only root can reach; the command that starts a container has one end of a pair instead, and on
//! probation that pair is also how the monitor learns that the command has died. Both ends may be of different versions of this program, but for a launch.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use store::{Application, ContainerId, GenerationNumber, IdRange, InnerPath};

use super::settings::{Said, Settings};
use crate::actions::ActionScript;
use crate::attachments::Attached;
use crate::devices::Device;

/// What a monitor of this program speaks. It stands in `state.json`, by which commands find a monitor, so that a command of a later program says to an
/// earlier monitor only what that one knows: Reroot is upgraded while containers run.
///
/// | version | since then |
/// |---|---|
/// | 1 | no version stood in `state.json` |
/// | 2 | action scripts: [`Launch::actions`], [`Launch::veid`], `Event::Said`, `is_action`, warnings of an end; what is in [`Settings`] from then on; what of it is not said stays; [`Launch::attachments`], [`Launch::devices`], [`Launch::nests`], `Request::Attach`, `Request::Detach`; `scripts` of a stop |
/// | 3 | `forbids_reboot`, `environment` and `keeps_no_access_times` of [`Settings`] |
///
/// What a version has is never taken away: fields and variants are added, fields with a default. The bytes of each are recorded in `recorded/`, and
/// a test reads them.
pub const VERSION: u32 = 3;

/// The longest packet; a console's tail is the longest thing in one.
const LONGEST: usize = 64 * 1024;
/// A packet carries at most this many descriptors (`SCM_MAX_FD` is 253).
pub const MOST_DESCRIPTORS: usize = 200;

/// What a monitor is to run. Descriptors beside it: the root's mount, the files of `actions`, the mounts of `attachments`, then the roots for `/old`,
/// `/old/old`, …; the mounts are detached clones.
#[derive(Debug, Clone, Serialize, serde::Deserialize)]
pub struct Launch {
    /// The host's prefix.
    pub prefix: PathBuf,
    /// The container.
    pub id: ContainerId,
    /// The generation that the first mount is.
    pub generation: GenerationNumber,
    /// Its ids on the host.
    pub ids: IdRange,
    /// What can become something else while it runs.
    #[serde(flatten)]
    pub settings: Settings,
    /// What of its network there is on probation.
    #[serde(default)]
    pub probation_network: net::Probation,
    /// PID 1.
    pub init: String,
    /// What stops it, a number.
    pub stop_signal: i32,
    /// Init is a systemd.
    pub is_systemd: bool,
    /// What the small init runs, which then is PID 1; `init` is only where its program was found.
    pub application: Option<Application>,
    /// On probation: no restarts, and when the starting command dies, recovery is run.
    pub is_probation: bool,
    /// Its action scripts, in the order in which they run.
    #[serde(default)]
    pub actions: Vec<ActionScript>,
    /// Seconds that each of them may take.
    #[serde(default)]
    pub action_limit: u64,
    /// What they are told that it is, where that is not its UUID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub veid: Option<String>,
    /// What is mounted in its root.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attachments: Vec<Attached>,
    /// What devices it has beside those that every container has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<Device>,
    /// Containers run in it.
    #[serde(default)]
    pub nests: bool,
}

/// What a command asks of a monitor.
#[derive(Debug, Clone, Serialize, serde::Deserialize)]
pub enum Request {
    /// The operation is settled: probation is over.
    Settled,
    /// Stop the container; killed after so many milliseconds. Everybody who is connected is told of the end.
    Stop {
        /// Milliseconds until it is killed.
        limit: u64,
        /// Leave its generations mounted: the next start is at hand, and unmounting flushes.
        keeps_mounts: bool,
        /// Milliseconds until all of its action scripts have to have ended, too; each has the time that it always has where this is not said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        scripts: Option<u64>,
    },
    /// From its next reboot on it has these; those of now are not touched, which is for whoever says it to do.
    Change(Said),
    /// Take away what is at `/old`, and attach these descriptors there instead.
    Old,
    /// Mount this descriptor in its root, now and in every life from now on.
    Attach(Attached),
    /// Take away what is mounted there, unless something in the container is in it.
    Detach(InnerPath),
    /// Tell when it is up: [`Event::Up`], at once if it is.
    Watch,
    /// Tell whether a stop is under way: [`Event::Done`], or [`Event::Refused`] when none is.
    IsStopping,
}

/// What a monitor tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, serde::Deserialize)]
pub enum Event {
    /// Init has been executed.
    Started {
        /// What is not as it should be, but no reason not to start.
        warnings: Vec<String>,
    },
    /// It could not be started.
    Failed {
        /// Why, in one line.
        because: String,
        /// The last lines of its console.
        console: String,
        /// It was an action script.
        #[serde(default)]
        is_action: bool,
    },
    /// An action script has written a line; only whoever starts the container is told.
    Said {
        /// Which.
        script: String,
        /// The line, of whatever bytes.
        line: Vec<u8>,
    },
    /// A systemd inside has reached its target.
    Up,
    /// The request was done.
    Done {
        /// What is not as it should be.
        warnings: Vec<String>,
    },
    /// The request was not done.
    Refused {
        /// Why, in one line.
        because: String,
    },
    /// The container asked for a reboot and has been started again.
    Restarted,
    /// The container has ended; the monitor is about to.
    Ended {
        /// How.
        how: End,
        /// The last lines of its console.
        console: String,
        /// What is not as it should be.
        #[serde(default)]
        warnings: Vec<String>,
    },
}

/// How a container ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, serde::Deserialize)]
pub enum End {
    /// `poweroff` or `halt` inside, or a stop that was obeyed.
    Halted,
    /// `reboot` inside, and it was not to be started again.
    Rebooted,
    /// Init exited.
    Exited(i32),
    /// The small init's program ended, with the code that a shell would give.
    Finished(i32),
    /// Init was killed by a signal.
    Killed(i32),
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            End::Halted => write!(f, "it was powered off"),
            End::Rebooted => write!(f, "it rebooted"),
            End::Exited(code) => write!(f, "its init exited with {code}"),
            End::Finished(code) => write!(f, "its program ended with exit code {code}"),
            End::Killed(signal) => write!(f, "its init was killed by signal {signal}"),
        }
    }
}

/// One end of a conversation.
#[derive(Debug)]
pub struct Channel {
    socket: OwnedFd,
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Channel {
    /// Speaks over a `SOCK_SEQPACKET` socket.
    pub fn new(socket: OwnedFd) -> Channel {
        Channel { socket }
    }

    /// Sends one document and descriptors beside it. Does not wait: a reader that lets its buffer fill up gets an error here, never a
    /// stopped monitor.
    ///
    /// # Errors
    /// As in sendmsg(2).
    pub fn send<T: Serialize>(&self, what: &T, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let bytes = serde_json::to_vec(what)?;
        let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(io::Error::other(format!("more than {MOST_DESCRIPTORS} descriptors for one packet")));
        }
        sendmsg(
            &self.socket,
            &[IoSlice::new(&bytes)],
            &mut ancillary,
            SendFlags::NOSIGNAL | SendFlags::DONTWAIT,
        )?;
        Ok(())
    }

    /// Waits at most until `deadline` for one document: `Ok(None)` when the other end has closed.
    ///
    /// # Errors
    /// [`io::ErrorKind::TimedOut`]; as in recvmsg(2); a packet that is not what was expected.
    pub fn receive<T: DeserializeOwned>(&self, deadline: Instant) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        self.receive_unless(deadline, None)
    }

    /// As [`Channel::receive`], unless `interrupt` becomes readable.
    ///
    /// # Errors
    /// [`io::ErrorKind::Interrupted`], and those of [`Channel::receive`].
    pub fn receive_unless<T: DeserializeOwned>(
        &self,
        deadline: Instant,
        interrupt: Option<BorrowedFd<'_>>,
    ) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        loop {
            let rest = deadline.saturating_duration_since(Instant::now());
            let timeout = Timespec { tv_sec: rest.as_secs() as i64, tv_nsec: rest.subsec_nanos().into() };
            let mut polled = vec![PollFd::new(&self.socket, PollFlags::IN)];
            polled.extend(interrupt.map(|one| PollFd::from_borrowed_fd(one, PollFlags::IN)));
            match poll(&mut polled, Some(&timeout)) {
                Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
                Ok(_) if polled[0].revents().is_empty() => return Err(io::ErrorKind::Interrupted.into()),
                Ok(_) => return self.receive_now(),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Reads one packet of which only the first descriptor matters.
    ///
    /// # Errors
    /// As in recvmsg(2).
    pub fn receive_descriptor(&self) -> io::Result<Option<OwnedFd>> {
        let mut bytes = [0; 256];
        let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        recvmsg(&self.socket, &mut [IoSliceMut::new(&mut bytes)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
        let mut descriptors = ancillary.drain().flat_map(|message| {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                rights.collect::<Vec<_>>()
            } else {
                Vec::new()
            }
        });
        Ok(descriptors.next())
    }

    /// Reads a document that is there already.
    ///
    /// # Errors
    /// As in recvmsg(2); a packet that is not what was expected.
    pub fn receive_now<T: DeserializeOwned>(&self) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        let mut bytes = vec![0; LONGEST];
        let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let received = match recvmsg(
            &self.socket,
            &mut [IoSliceMut::new(&mut bytes)],
            &mut ancillary,
            RecvFlags::CMSG_CLOEXEC,
        ) {
            Ok(received) => received,
            Err(rustix::io::Errno::CONNRESET) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        if received.bytes == 0 {
            return Ok(None);
        }
        let mut descriptors = Vec::new();
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                descriptors.extend(rights);
            }
        }
        let what = serde_json::from_slice(&bytes[..received.bytes])?;
        Ok(Some((what, descriptors)))
    }
}

/// A deadline `limit` from now.
pub fn deadline(limit: Duration) -> Instant {
    Instant::now() + limit
}
