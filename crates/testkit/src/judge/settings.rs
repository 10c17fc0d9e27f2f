//! What one call of `set` makes another, and how far that has come: `ve.conf` says one thing or the other, and what the kernel, the disk and the root
//! have agrees with it, but for what a death in between may leave to the next start.

use std::collections::BTreeMap;

use store::{Area, BIND_MOUNTS, BindMount, DiskSpace, Prefix, Volume};

use super::disks::sees;
use super::{Before, Effect, Judged, Runs, Violation, eventually, judge, judge_called, records};

const AGREE: &str = "ve.conf and what holds agree";
const ACCOUNTS: &str = "an account has its old password or its new one, and nobody else another";
const NAMED: &str = "it is found by its name";

/// Where an account may be, in a root.
const FILES: [&str; 4] = ["etc/passwd", "etc/shadow", "etc/group", "etc/gshadow"];
/// What a new account makes another beside them, and the lock that is taken meanwhile.
pub(super) const OF_ACCOUNTS: &[&str] =
    &["etc/passwd", "etc/shadow", "etc/group", "etc/gshadow", "etc/.pwd.lock", "home"];

/// What is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setting {
    /// It is called [`renamed`].
    Name,
    /// This account has another password, or is there.
    Password(&'static str),
    /// It sees something of the host at `/data`, or does not any more.
    Bind {
        /// It does then.
        comes: bool,
    },
    /// Its roots may take so much, MiB.
    Space {
        /// Before.
        from: u64,
        /// And after it.
        to: u64,
    },
}

/// How far that has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// Nothing has happened.
    Old,
    /// All of it has.
    New,
    /// By `ve.conf`, or the list of accounts, it has happened or not; what goes with that is the other way round.
    Between {
        /// It has.
        is_new: bool,
    },
}

/// What a container is called that is given another name: no beginning of one is the other.
pub fn renamed(name: &str) -> String {
    format!("other-{name}")
}

/// Looks at all of a container, and says where a setting of it stands.
///
/// # Errors
/// The first [`Violation`].
pub fn judge_setting(prefix: &Prefix, before: &Before, setting: Setting, runs: Runs) -> Judged<Settled> {
    let area = Area::open(prefix, &before.id).map_err(records)?;
    let settled = |is_new| if is_new { Settled::New } else { Settled::Old };
    match setting {
        Setting::Name => {
            let (old, new) = (before.name.clone(), renamed(&before.name));
            let is_new = area.conf().map_err(records)?.get("NAME") == Some(new.clone());
            let (name, other) = if is_new { (new, old) } else { (old, new) };
            judge_called(prefix, before, &name, Effect::Settings(&["NAME"]), runs)?;
            let link = prefix.names_dir().join(&other);
            if store::registry::find(prefix, &other).is_ok() || link.symlink_metadata().is_ok() {
                return Err(Violation::new(NAMED, format!("it is `{name}`, and found as `{other}`, too")));
            }
            Ok(settled(is_new))
        }
        Setting::Password(user) => {
            judge(prefix, before, Effect::Accounts, runs)?;
            let settled = before.accounts.compare(&Accounts::of(prefix, &area)?, user)?;
            let etc = super::layers(&area, area.live().map_err(records)?).join("delta/etc");
            let mut names = std::fs::read_dir(etc).into_iter().flatten().flatten();
            let is_half_made = names.any(|entry| super::facts::is_half_made(&entry.path()));
            Ok(if is_half_made { Settled::Between { is_new: settled == Settled::New } } else { settled })
        }
        Setting::Bind { comes } => {
            judge(prefix, before, Effect::Settings(&[BIND_MOUNTS]), runs)?;
            let all = BindMount::all(&area.conf().map_err(records)?).map_err(records)?;
            let is_running = runtime::state::running(prefix, &before.id);
            if let Some(state) = is_running.filter(|state| state.monitor.is_alive()) {
                eventually(|| sees(state.init.pid, !all.is_empty()))?;
            }
            Ok(settled(all.is_empty() != comes))
        }
        Setting::Space { from, to } => {
            judge(prefix, before, Effect::Settings(&["DISKSPACE"]), runs)?;
            let said = said(&area)?;
            let is_new = said == Some(to << 20);
            if !is_new && said != Some(from << 20) {
                return Err(Violation::new(AGREE, format!("DISKSPACE is {said:?}, was {from} MiB")));
            }
            match held(&area)? {
                held if held == said => Ok(settled(is_new)),
                held if held == Some(from << 20) || held == Some(to << 20) => Ok(Settled::Between { is_new }),
                held => Err(Violation::new(AGREE, format!("DISKSPACE is {said:?}, and it has {held:?}"))),
            }
        }
    }
}

fn said(area: &Area) -> Judged<Option<u64>> {
    Ok(DiskSpace::from_conf(&[&area.conf().map_err(records)?]).map_err(records)?.bytes)
}

/// How much its roots may take; of an image, with a filesystem that is as large as its file.
fn held(area: &Area) -> Judged<Option<u64>> {
    let Some((_, size)) = area.image_size() else {
        return Ok(area.counted().and_then(|counted| counted.limits.bytes));
    };
    let live = area.live().map_err(records)?;
    let found = rustix::fs::statvfs(super::layers(area, live)).map_err(records)?;
    let holds = found.f_blocks * found.f_frsize;
    if holds < size / 10 * 8 || holds > size {
        let what = format!("its filesystem has {holds} bytes in a file of {size}");
        return Err(Violation::new(AGREE, what));
    }
    Ok(Some(size))
}

/// What a subvolume may take is what `ve.conf` says, where that is counted.
///
/// # Errors
/// [`Violation`] when it is not.
pub fn keeps_to_its_end(prefix: &Prefix, id: &store::ContainerId) -> Judged<()> {
    let area = Area::open(prefix, id).map_err(records)?;
    if area.volume() != Volume::Btrfs || area.counted().is_none() {
        return Ok(());
    }
    let (said, held) = (said(&area)?, held(&area)?);
    if said == held {
        return Ok(());
    }
    Err(Violation::new(AGREE, format!("DISKSPACE is {said:?}, and its subvolume may have {held:?}")))
}

/// The files of a live root in which accounts are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Accounts(BTreeMap<&'static str, Vec<u8>>);

impl Accounts {
    /// What the root has not written is its template's.
    pub(super) fn of(prefix: &Prefix, area: &Area) -> Judged<Accounts> {
        let live = area.live().map_err(records)?;
        let delta = super::layers(area, live).join("delta");
        let name = "busybox".parse().map_err(records)?;
        let template = store::template::latest(prefix, &name).ok().map(|found| found.rootfs());
        let read = |file: &'static str| {
            let layers = [Some(&delta), template.as_ref()];
            let bytes = layers.into_iter().flatten().find_map(|layer| std::fs::read(layer.join(file)).ok());
            bytes.map(|bytes| (file, bytes))
        };
        Ok(Accounts(FILES.into_iter().filter_map(read).collect()))
    }

    fn lines<'a>(&'a self, file: &str) -> Vec<&'a [u8]> {
        let text = self.0.get(file).map(Vec::as_slice).unwrap_or_default();
        text.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()).collect()
    }

    /// The line of a user, and those of all others.
    fn apart<'a>(&'a self, file: &str, user: &str) -> (Vec<&'a [u8]>, Vec<&'a [u8]>) {
        let begin = format!("{user}:");
        self.lines(file).into_iter().partition(|line| line.starts_with(begin.as_bytes()))
    }

    /// Everybody else is as he was, and this one is wholly the one or the other, or in between.
    fn compare(&self, now: &Accounts, user: &str) -> Judged<Settled> {
        for file in FILES {
            let (had, has) = (self.apart(file, user).1, now.apart(file, user).1);
            if had != has {
                return Err(Violation::new(
                    ACCOUNTS,
                    format!("{file}: others than `{user}` are not as they were"),
                ));
            }
        }
        if self == now {
            return Ok(Settled::Old);
        }
        let own = |accounts: &Accounts, file: &str| -> Vec<Vec<u8>> {
            accounts.apart(file, user).0.into_iter().map(<[u8]>::to_vec).collect()
        };
        let is_hashed =
            |line: &[u8]| line.split(|&byte| byte == b':').nth(1).is_some_and(|hash| hash.len() > 20);
        for file in FILES {
            if own(now, file).len() > 1 {
                return Err(Violation::new(ACCOUNTS, format!("{file}: `{user}` is there twice")));
            }
        }
        let was_there = own(self, "etc/passwd").len() == 1;
        let has_password = own(now, "etc/shadow") != own(self, "etc/shadow")
            && own(now, "etc/shadow").first().is_some_and(|line| is_hashed(line));
        let is_there = own(now, "etc/passwd").len() == 1;
        let has_group = own(now, "etc/group").len() == 1;
        Ok(match (is_there, has_password) {
            (true, true) if was_there || has_group => Settled::New,
            (true, true) => Settled::Between { is_new: true },
            _ => Settled::Between { is_new: false },
        })
    }
}
