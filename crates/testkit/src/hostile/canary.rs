//! What of the host may neither be changed nor read, whatever is done to a container.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::RealHost;

/// Files of the host that hostile roots lead to, the host's own accounts, its mounts, and a container beside.
#[derive(Debug)]
pub struct Canary {
    directory: PathBuf,
    prefix: PathBuf,
    neighbour: PathBuf,
    before: State,
}

/// Everything that is compared.
#[derive(Debug, PartialEq, Eq)]
struct State {
    /// Mode, owner, size, times of the last change of contents, of anything, and of the last reading.
    files: BTreeMap<PathBuf, String>,
    mounts: Vec<String>,
    neighbour: String,
}

/// What a directory of the host has that something of ours may look for.
const FILES: &[&str] = &[
    "file",
    "passwd",
    "shadow",
    "group",
    "gshadow",
    "subuid",
    "subgid",
    "hosts",
    "hostname",
    "resolv.conf",
    "machine-id",
    "os-release",
    "login.defs",
    "inittab",
    "init",
    "null",
    "console",
    "crontab",
    "ssh/ssh_host_rsa_key",
    "cron.d/job",
    ".ssh/authorized_keys",
    "authorized_keys",
];
const DIRECTORIES: &[&str] = &[".", "ssh", "cron.d", ".ssh", "rc.d"];

/// Longer ago than this a reading is written down even where the filesystem saves itself that work (`relatime`).
const LONG_AGO: Duration = Duration::from_secs(3 * 24 * 3600);

impl Canary {
    /// Makes the files and the container beside.
    pub fn new(host: &RealHost) -> Canary {
        let directory = host.prefix().with_file_name("canary");
        for below in &DIRECTORIES[1..] {
            std::fs::create_dir_all(directory.join("directory").join(below)).expect("make the canary");
        }
        let long_ago = SystemTime::now() - LONG_AGO;
        let times = std::fs::FileTimes::new().set_accessed(long_ago).set_modified(long_ago);
        let files = [FILES, &["../file"]].concat();
        for name in files.iter().chain(DIRECTORIES) {
            let path = directory.join("directory").join(name);
            if !path.is_dir() {
                let mut file = std::fs::File::create(&path).expect("make the canary");
                std::io::Write::write_all(&mut file, b"a secret of the host\n").expect("write the canary");
            }
            std::fs::File::open(&path).and_then(|file| file.set_times(times)).expect("set its times");
        }
        host.ok(["create", "neighbour", "--ostemplate", "busybox"]);
        let neighbour = host.area("neighbour");
        let mut canary = Canary {
            directory,
            prefix: host.prefix(),
            neighbour,
            before: State { files: BTreeMap::new(), mounts: Vec::new(), neighbour: String::new() },
        };
        canary.before = canary.state();
        canary
    }

    /// A file of the host.
    pub fn file(&self) -> PathBuf {
        self.directory.join("file")
    }

    /// A directory of the host, with a file in it.
    pub fn directory(&self) -> PathBuf {
        self.directory.join("directory")
    }

    /// Nothing was changed, and nothing read.
    #[track_caller]
    pub fn is_untouched(&self) {
        let now = self.state();
        assert_eq!(now.files, self.before.files, "files of the host were read or changed");
        assert_eq!(now.mounts, self.before.mounts, "mounts of the host were changed");
        assert_eq!(now.neighbour, self.before.neighbour, "another container was changed");
    }

    fn state(&self) -> State {
        let own = FILES.iter().chain(DIRECTORIES).map(|name| self.directory().join(name));
        let hosts = ["/etc/passwd", "/etc/shadow", "/etc/hosts"].map(PathBuf::from);
        // Whoever lists a directory has read it, too; what is in it says when something was added or taken away.
        let files = own
            .chain([self.file()])
            .chain(hosts)
            .map(|path| {
                let facts = path.symlink_metadata().expect("it is there");
                let is_own = path.starts_with(&self.directory);
                let read = if is_own { (facts.atime(), facts.atime_nsec()) } else { (0, 0) };
                let changed = (facts.mtime(), facts.mtime_nsec(), facts.ctime(), facts.ctime_nsec());
                let facts = format!(
                    "{:o} {} {} changed {changed:?} read {read:?}",
                    facts.mode(),
                    facts.uid(),
                    facts.size()
                );
                (path, facts)
            })
            .collect();
        let table = std::fs::read_to_string("/proc/self/mountinfo").expect("read the mounts");
        // Tests of other hosts mount and unmount meanwhile, all in the build's directory.
        let is_scratch = |path: &&Path| path.file_name().is_some_and(|name| name == "test-hosts");
        let scratch = self.prefix.ancestors().find(is_scratch).expect("it lies in the scratch directory");
        let is_ours =
            |line: &&str| line.split(' ').nth(4).is_some_and(|point| !Path::new(point).starts_with(scratch));
        let mounts = table.lines().filter(is_ours).map(str::to_owned).collect();
        let handle = rustix::fs::open(
            &self.neighbour,
            rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC,
            rustix::fs::Mode::empty(),
        )
        .expect("open the neighbour");
        let neighbour = tree::digest(std::os::fd::AsFd::as_fd(&handle)).expect("look at the neighbour").hex;
        State { files, mounts, neighbour }
    }
}
