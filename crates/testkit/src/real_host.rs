//! A prefix in which containers really run: its own directory, its own control groups, gone when it is dropped.
//!
//! It lies on the filesystem of the build's own directory, or on a loop-mounted image where that cannot carry an overlay's upper layer. Where
//! containers cannot run at all, [`RealHost::new`] says what is missing, loudly, writes the test down as not run, and gives none.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use runtime::state::ProcessIdentity;
use rustix::mount::UnmountFlags;

use crate::Ran;
use crate::wire::Wire;

/// Tests that could not run are listed in this file of the build's directory, a line each; `make test` counts them.
pub const NOT_RUN: &str = "tests-not-run.txt";

/// How long the containers of a host that goes may take to stop; then they are killed all the same.
const STOPPING: Duration = Duration::from_secs(60);

/// A host of its own for one test.
#[derive(Debug)]
pub struct RealHost {
    program: PathBuf,
    directory: PathBuf,
    /// A loop-mounted image under `directory`.
    image: Option<PathBuf>,
    /// The network that its commands are run in, instead of the machine's.
    wire: Option<Wire>,
}

impl RealHost {
    /// A new one with the template `busybox`, or `None` where containers cannot run.
    pub fn new(program: &str) -> Option<RealHost> {
        let host = RealHost::bare(program)?;
        host.share_templates();
        Some(host)
    }

    /// A new one without templates.
    pub fn bare(program: &str) -> Option<RealHost> {
        let program = PathBuf::from(program);
        let scratch = scratch(&program);
        if let Err(because) = can_run(&program) {
            not_run(&scratch, &because);
            return None;
        }
        // Tests that were killed have dropped nothing: whoever comes next does.
        sweep(&scratch);
        let directory = scratch.join(format!("{}-{}", mark("host"), unique()));
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&directory)
            .expect("make the host's directory");
        let mut host = RealHost { program, directory, image: None, wire: None };
        if !carries_overlay(&host.directory) {
            let line = format!(
                "{} cannot carry an overlay: the test's prefix is on a loop-mounted ext4\n",
                host.directory.display()
            );
            std::io::stderr().lock().write_all(line.as_bytes()).expect("write to stderr");
            host.mount_image("4G", "ext4");
        }
        std::fs::create_dir_all(host.prefix()).expect("make the prefix");
        Some(host)
    }

    /// A new one in `directory`, which is made, on whatever filesystem that is; without templates.
    pub fn at(program: &str, directory: &Path) -> Option<RealHost> {
        let program = PathBuf::from(program);
        if let Err(because) = can_run(&program) {
            not_run(&scratch(&program), &because);
            return None;
        }
        let directory = directory.join(format!("{}-{}", mark("host"), unique()));
        let host = RealHost { program, directory, image: None, wire: None };
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(host.prefix())
            .expect("make the host's directory");
        Some(host)
    }

    /// One whose prefix is in `directory` already: another host's, as a power cut has left it.
    pub fn existing(program: &str, directory: &Path) -> RealHost {
        RealHost { program: PathBuf::from(program), directory: directory.to_owned(), image: None, wire: None }
    }

    /// The prefix on a filesystem of its own of that size (`64M`), made by `mkfs.<kind>`; without templates.
    pub fn on_image(program: &str, size: &str, kind: &str) -> Option<RealHost> {
        let mut host = RealHost::bare(program)?;
        if host.image.is_none() {
            host.mount_image(size, kind);
        }
        std::fs::create_dir_all(host.prefix()).expect("make the prefix");
        Some(host)
    }

    /// As [`RealHost::new`] on a filesystem of its own: one without a journal, as a build's may be, takes minutes for a million files where others have
    /// just been deleted, since it looks at each number that was in use lately.
    pub fn on_journal(program: &str) -> Option<RealHost> {
        // It takes no more than what is written, and has inodes by its size.
        let host = RealHost::on_image(program, "64G", "ext4")?;
        host.share_templates();
        Some(host)
    }

    /// The same on one that keeps project quotas, with the template `busybox`; `None` also where this kernel, or what makes such a filesystem, cannot.
    pub fn on_quota(program: &str, size: &str, kind: &str) -> Option<RealHost> {
        let mut host = RealHost::bare(program)?;
        let options: &[&str] = if kind == "ext4" { &["-O", "quota,project"] } else { &[] };
        let made = if host.image.is_none() {
            host.make_image(size, kind, options, "loop,prjquota")
        } else {
            Err("the host's own filesystem carries no overlay".to_owned())
        };
        if let Err(because) = made {
            not_run(&scratch(&host.program), &format!("no project quotas on {kind}: {}", because.trim()));
            return None;
        }
        std::fs::create_dir_all(host.prefix()).expect("make the prefix");
        succeed(host.vzpkg().args(["create", "cache", "busybox"]));
        Some(host)
    }

    /// On a btrfs of its own, which counts its subvolumes or does not, with the template `busybox`; `None` also where there is no btrfs.
    pub fn on_btrfs(program: &str, size: &str, counts: bool) -> Option<RealHost> {
        let mut host = RealHost::bare(program)?;
        let made = if host.image.is_none() {
            host.make_image(size, "btrfs", &[], "loop")
        } else {
            Err("the host's own filesystem carries no overlay".to_owned())
        };
        let quota = ["quota", "enable"];
        let made = made.and_then(|()| match counts {
            true => tried(Command::new("btrfs").args(quota).arg(host.directory.join("mounted"))),
            false => Ok(()),
        });
        if let Err(because) = made {
            not_run(&scratch(&host.program), &format!("no btrfs: {}", because.trim()));
            return None;
        }
        std::fs::create_dir_all(host.prefix()).expect("make the prefix");
        succeed(host.vzpkg().args(["create", "cache", "busybox"]));
        Some(host)
    }

    fn mount_image(&mut self, size: &str, kind: &str) {
        self.make_image(size, kind, &[], "loop").expect("make a filesystem");
    }

    fn make_image(&mut self, size: &str, kind: &str, made: &[&str], mounted: &str) -> Result<(), String> {
        let image = self.directory.join("image");
        succeed(Command::new("truncate").args(["-s", size]).arg(&image));
        let quiet = if kind == "ext4" { vec!["-q", "-F"] } else { vec!["-q"] };
        tried(Command::new(format!("mkfs.{kind}")).args(quiet).args(made).arg(&image))?;
        let point = self.directory.join("mounted");
        std::fs::create_dir_all(&point).expect("make a mount point");
        tried(Command::new("mount").args(["-o", mounted]).arg(&image).arg(&point))?;
        self.image = Some(image);
        Ok(())
    }

    /// The prefix.
    pub fn prefix(&self) -> PathBuf {
        if self.image.is_some() {
            self.directory.join("mounted/prefix")
        } else {
            self.directory.join("prefix")
        }
    }

    /// A path below the prefix.
    pub fn path(&self, below: &str) -> PathBuf {
        self.prefix().join(below.trim_start_matches('/'))
    }

    /// `prlctl` with the prefix set.
    pub fn prlctl(&self) -> Command {
        self.command("prlctl")
    }

    /// `vzpkg` with the prefix set.
    pub fn vzpkg(&self) -> Command {
        self.command("vzpkg")
    }

    /// `vzctl` with the prefix set.
    pub fn vzctl(&self) -> Command {
        self.command("vzctl")
    }

    /// `vzlist` with the prefix set.
    pub fn vzlist(&self) -> Command {
        self.command("vzlist")
    }

    /// As [`RealHost::new`], in a network of its own with a neighbour.
    pub fn on_wire(program: &str) -> Option<RealHost> {
        let wire = Wire::new(program)?;
        let mut host = RealHost::new(program)?;
        host.wire = Some(wire);
        Some(host)
    }

    /// As [`RealHost::on_wire`], whose wire is on its bridge `br0`, so that the outside is a neighbour of whatever is there.
    pub fn on_bridge(program: &str) -> Option<RealHost> {
        let host = RealHost::on_wire(program)?;
        let wire = host.wire();
        wire.ok(
            &wire.host(),
            [
                "sh",
                "-c",
                "ip addr flush dev eth0 && ip link add br0 type bridge && echo 0 >/proc/sys/net/ipv6/conf/br0/accept_dad && ip link set eth0 master br0 && \
                 ip addr add 192.0.2.1/24 dev br0 && ip -6 addr add 2001:db8:1::1/64 dev br0 nodad && ip link set br0 mtu 1400 up",
            ],
        );
        Some(host)
    }

    /// Its network.
    pub fn wire(&self) -> &Wire {
        self.wire.as_ref().expect("a host on a wire")
    }

    fn command(&self, name: &str) -> Command {
        let mut command = match &self.wire {
            Some(wire) => {
                // Not by its own name: that is `prlctl` anyway.
                assert_eq!(name, "prlctl", "a host on a wire makes no templates");
                let mut command = wire.command(&wire.host());
                command.arg(&self.program);
                command
            }
            None => {
                let mut command = Command::new(&self.program);
                command.arg0(name);
                command
            }
        };
        command.env("REROOT_PREFIX", self.prefix()).env_remove("REROOT_FAULT").stdin(Stdio::null());
        command
    }

    /// Runs `prlctl` with these words.
    pub fn run<Word: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = Word>) -> Ran {
        Ran::of(self.prlctl().args(words).output().expect("run prlctl"))
    }

    /// Runs `prlctl` with these words, which must succeed; its stdout.
    pub fn ok<Word: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = Word>) -> String {
        let words: Vec<std::ffi::OsString> = words.into_iter().map(|word| word.as_ref().to_owned()).collect();
        let ran = self.run(&words);
        assert_eq!(ran.code, 0, "prlctl {words:?}\n{ran}");
        ran.stdout
    }

    /// Runs a shell line in a container, which must succeed; its stdout without the last newline.
    pub fn exec(&self, container: &str, line: &str) -> String {
        self.ok(["exec", container, line]).trim_end_matches('\n').to_owned()
    }

    /// Somebody is answered who calls that address from a container.
    pub fn calls(&self, container: &str, ip: &str) -> bool {
        let ran = self.run(["exec", container, &format!("ping -c 3 -A -W 2 {ip}")]);
        ran.stdout.contains(" received")
            && !ran.stdout.contains(" 0 packets received")
            && !ran.stdout.contains(" 0 received")
    }

    /// A container from the template `busybox`, running.
    pub fn started(&self, name: &str) {
        self.ok(["create", name, "--ostemplate", "busybox"]);
        self.ok(["start", name]);
    }

    /// Has it reboot from inside, and waits until its next life executes what it is told.
    pub fn reboots(&self, name: &str) {
        let state = self.path("run/vz").join(self.area(name).file_name().expect("it has a name"));
        let init = || -> Option<serde_json::Value> {
            let text = std::fs::read(state.join("state.json")).ok()?;
            serde_json::from_slice::<serde_json::Value>(&text).ok()?.get("init").cloned()
        };
        let before = init().expect("it runs");
        self.run(["exec", name, "reboot"]);
        self.wait_until("another init runs", || {
            init().is_some_and(|now| now != before) && self.run(["exec", name, ":"]).code == 0
        });
    }

    /// The private area of a container.
    pub fn area(&self, container: &str) -> PathBuf {
        let json: serde_json::Value =
            serde_json::from_str(&self.ok(["list", container, "-o", "uuid", "-j"])).expect("a list is JSON");
        self.path("vz/private").join(json[0]["uuid"].as_str().expect("a list has UUIDs"))
    }

    /// Writes a script of the host: owner root, mode 0755.
    pub fn script(&self, below: &str, text: &str) {
        self.write(below, text, 0o755);
    }

    /// Writes a file below the prefix, with what is on the way to it.
    pub fn write(&self, below: &str, text: &str, mode: u32) {
        use std::os::unix::fs::PermissionsExt;
        let path = self.path(below);
        let parent = path.parent().expect("a file has a directory");
        std::fs::create_dir_all(parent).expect("make a directory");
        let mut file = File::create(&path).expect("make a file");
        file.write_all(text.as_bytes()).expect("write a file");
        file.set_permissions(std::fs::Permissions::from_mode(mode)).expect("set a mode");
    }

    /// Has the templates of a store that all tests of one build share; the first one that needs it makes `busybox` there.
    fn share_templates(&self) {
        let shared = self.shared_store("busybox");
        self.bind_templates(&shared);
    }

    /// As [`RealHost::new`], with the template `debian-12`; `None` also where no archive can be reached.
    pub fn with_debian(program: &str) -> Option<RealHost> {
        let host = RealHost::bare(program)?;
        let shared = host.shared_store("busybox");
        let ran = host.make_shared(&shared, "debian-12");
        if ran.is_some_and(|ran| ran.code != 0) {
            not_run(&scratch(&host.program), "no Debian archive can be reached");
            return None;
        }
        host.bind_templates(&shared);
        Some(host)
    }

    /// The template of [`RealHost::with_cloud_init`].
    pub const CLOUDY: &str = "debian-12-cloud-init";

    /// The template of [`RealHost::with_podman`].
    pub const PODMAN: &str = "debian-12-podman";

    /// As [`RealHost::with_debian`], with a Debian 12 that has a cloud-init instead.
    pub fn with_cloud_init(program: &str) -> Option<RealHost> {
        Self::with_packages(program, Self::CLOUDY, &["cloud-init"])
    }

    /// As [`RealHost::with_debian`], with a Debian 12 that has what runs containers. Making it takes a minute, once a build.
    pub fn with_podman(program: &str) -> Option<RealHost> {
        Self::with_packages(program, Self::PODMAN, &["podman", "crun", "fuse-overlayfs"])
    }

    /// The template of [`RealHost::with_ifupdown`].
    pub const IFUPDOWN: &str = "debian-12-ifupdown";

    /// As [`RealHost::on_wire`], with a Debian 12 that has ifupdown, and systemd-networkd as each has.
    pub fn with_ifupdown(program: &str) -> Option<RealHost> {
        let wire = Wire::new(program)?;
        let mut host = Self::with_packages(program, Self::IFUPDOWN, &["ifupdown"])?;
        host.wire = Some(wire);
        Some(host)
    }

    fn with_packages(program: &str, name: &str, packages: &[&str]) -> Option<RealHost> {
        let host = RealHost::bare(program)?;
        let shared = host.shared_store("busybox");
        let recipe = shared.join("etc/vz/templates.d").join(format!("{name}.toml"));
        std::fs::create_dir_all(recipe.parent().expect("a file has a directory")).expect("make a directory");
        let text = format!("kind = \"mmdebstrap\"\nsuite = \"bookworm\"\npackages = {packages:?}\n");
        // By one rename: another test may read it.
        let file = tempfile::NamedTempFile::new_in(&shared).expect("make a file");
        file.as_file().write_all(text.as_bytes()).expect("write a recipe");
        file.persist(&recipe).expect("name a recipe");
        let ran = host.make_shared(&shared, name);
        if ran.is_some_and(|ran| ran.code != 0) {
            not_run(&scratch(&host.program), &format!("no Debian archive can be reached for `{name}`"));
            return None;
        }
        host.bind_templates(&shared);
        Some(host)
    }

    fn bind_templates(&self, shared: &Path) {
        self.ok(["list"]);
        succeed(
            Command::new("mount").arg("--bind").arg(shared.join("vz/template")).arg(self.path("vz/template")),
        );
    }

    fn shared_store(&self, name: &str) -> PathBuf {
        let shared = scratch(&self.program).join("templates");
        let ran = self.make_shared(&shared, name);
        assert!(
            ran.as_ref().is_none_or(|ran| ran.code == 0),
            "{}",
            ran.map(|ran| ran.to_string()).unwrap_or_default()
        );
        shared
    }

    /// Makes a template in the shared store unless it is there, one test at a time; what making it said, if it was made.
    fn make_shared(&self, shared: &Path, name: &str) -> Option<Ran> {
        std::fs::create_dir_all(shared).expect("make the shared store");
        let lock = File::create(shared.join("lock")).expect("make a lock");
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).expect("lock the shared store");
        if shared.join("vz/template").join(name).join("latest").exists() {
            return None;
        }
        let mut command = self.vzpkg();
        command.args(["create", "cache", name]).env("REROOT_PREFIX", shared);
        Some(Ran::of(command.output().expect("run vzpkg")))
    }

    /// Waits until `condition` holds, at most two minutes, since a whole suite may be running beside it: for what another process does and nobody tells of.
    pub fn wait_until(&self, what: &str, mut condition: impl FnMut() -> bool) {
        let deadline = Instant::now() + crate::patience(120);
        while !condition() {
            assert!(Instant::now() < deadline, "it never came that {what}");
            std::thread::park_timeout(Duration::from_millis(10));
        }
    }

    /// What is mounted below the prefix.
    pub fn mounts(&self) -> Vec<PathBuf> {
        mounts_below(&self.prefix())
    }
}

impl Drop for RealHost {
    fn drop(&mut self) {
        drop(Ran::within(self.prlctl().args(["stop", "--all", "--kill", "--lock-wait", "30"]), STOPPING));
        // What a killed command has left, its monitor first: it would start its container again.
        kill_groups(&self.prefix());
        if self.wire.is_none() {
            forget_tables(&self.prefix());
        }
        remove(&self.directory);
    }
}

/// A host keeps its tables of the packet filter, empty, when its last address has gone; one on a wire takes them along.
fn forget_tables(prefix: &Path) {
    let Ok(prefix) = store::Prefix::new(prefix) else { return };
    for family in ["inet", "bridge"] {
        let name = format!("reroot_{}", prefix.short_hash());
        drop(Ran::within(Command::new("nft").args(["delete", "table", family, &name]), STOPPING));
    }
}

/// Everything of it, mounts first.
fn remove(directory: &Path) {
    for point in mounts_below(directory).iter().rev() {
        let _ = rustix::mount::unmount(point, UnmountFlags::DETACH);
    }
    let parent = directory.parent().map(Path::to_owned).unwrap_or_default();
    if let Ok(parent) = File::open(parent)
        && let Some(name) = directory.file_name()
    {
        drop(tree::remove_entry(std::os::fd::AsFd::as_fd(&parent), name));
    }
}

/// What a directory of this process is to be called, `<kind>-<pid>-<start time>`, so that [`sweep`] knows when nobody can need it any more.
pub fn mark(kind: &str) -> String {
    let pid = std::process::id();
    let start = ProcessIdentity::of(pid as i32).map_or(0, |own| own.start_time);
    format!("{kind}-{pid}-{start}")
}

/// The process that has marked a directory of that name.
fn owner(name: &str) -> Option<ProcessIdentity> {
    let mut parts = ["host-", "torture-"].iter().find_map(|kind| name.strip_prefix(kind))?.split('-');
    let owner = ProcessIdentity { pid: parts.next()?.parse().ok()?, start_time: parts.next()?.parse().ok()? };
    // Something follows the mark.
    parts.next().filter(|_| owner.start_time > 0).map(|_| owner)
}

/// Removes from `scratch` what processes that were killed have left there: hosts, with what runs on them, their control groups and their mounts, and the
/// disks that they lie on. Returns how many directories that were.
pub fn sweep(scratch: &Path) -> usize {
    let entries = std::fs::read_dir(scratch).into_iter().flatten().flatten();
    let mut found = 0;
    for entry in entries {
        let name = entry.file_name();
        if owner(&name.to_string_lossy()).is_none_or(|owner| owner.is_alive()) {
            continue;
        }
        found += 1;
        let directory = entry.path();
        let mut looked_at = vec![directory.clone()];
        // …/prefix, …/mounted/prefix, and on a disk …/disk/host-…/prefix.
        for _ in 0..3 {
            looked_at.iter().for_each(|one| kill_groups(&one.join("prefix")));
            looked_at = looked_at
                .iter()
                .flat_map(|one| std::fs::read_dir(one).into_iter().flatten())
                .flatten()
                .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
                .map(|entry| entry.path())
                .collect();
        }
        remove(&directory);
    }
    found
}

fn scratch(program: &Path) -> PathBuf {
    // …/target/debug/prlctl
    program
        .ancestors()
        .nth(2)
        .map(|target| target.join("test-hosts"))
        .expect("the program lies in a build directory")
}

fn unique() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Whether containers can run here; what is missing if not.
///
/// # Errors
/// The features that `prlctl info` misses, in one line.
pub fn can_run(program: &Path) -> Result<(), String> {
    let output =
        Command::new(program).arg0("prlctl").arg("info").output().map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Err(text.lines().filter(|line| line.contains("MISSING")).map(str::trim).collect::<Vec<_>>().join("; "))
}

/// Writes a unit test down as not run.
pub fn unit_test_not_run_here(because: &str) {
    // …/target/debug/deps/NAME-0123456789abcdef: like a program, it has the build directory two above its own.
    let test = std::env::current_exe().expect("a test has a path");
    not_run(&scratch(test.parent().expect("it lies in a directory")), because);
}

/// Writes a test down as not run; `program` is the one under test.
pub fn not_run_here(program: &Path, because: &str) {
    not_run(&scratch(program), because);
}

fn not_run(scratch: &Path, because: &str) {
    let name = std::thread::current().name().unwrap_or("a test").to_owned();
    let line = format!("NOT RUN: {name}: {because}\n");
    std::io::stderr().lock().write_all(line.as_bytes()).expect("write to stderr");
    std::fs::create_dir_all(scratch).expect("make the scratch directory");
    let mut file =
        File::options().append(true).create(true).open(scratch.join(NOT_RUN)).expect("open the list");
    file.write_all(line.as_bytes()).expect("write the list");
}

fn carries_overlay(directory: &Path) -> bool {
    let found = rustix::fs::statfs(directory).expect("ask for the filesystem").f_type as i64;
    // ext4, xfs, btrfs
    [0xEF53, 0x5846_5342, 0x9123_683E].contains(&found)
}

fn succeed(command: &mut Command) {
    tried(command).expect("run a tool");
}

fn tried(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)))
}

fn mounts_below(directory: &Path) -> Vec<PathBuf> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(|point| PathBuf::from(point.replace("\\040", " ")))
        .filter(|point| point.starts_with(directory))
        .collect()
}

fn kill_groups(prefix: &Path) {
    let Ok(prefix) = store::Prefix::new(prefix) else { return };
    let group = format!("reroot-{}", prefix.short_hash());
    let root = Path::new("/sys/fs/cgroup");
    let trees = std::fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path());
    let groups: Vec<PathBuf> =
        trees.chain([root.to_owned()]).map(|tree| tree.join(&group)).filter(|group| group.is_dir()).collect();
    // All are killed before any is removed: on a hybrid host only the group of the v2 tree kills, and those of the others are busy until then.
    for group in &groups {
        drop(
            File::options()
                .write(true)
                .open(group.join("cgroup.kill"))
                .and_then(|mut file| file.write_all(b"1")),
        );
    }
    for group in &groups {
        let deadline = Instant::now() + crate::patience(10);
        // rmdir says EBUSY while a killed process is on its way out.
        while group.is_dir() && !remove_groups(group) && Instant::now() < deadline {
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }
}

fn remove_groups(group: &Path) -> bool {
    for entry in std::fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_groups(&entry.path());
        }
    }
    std::fs::remove_dir(group).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_end_is_killed_and_has_said_what_it_said() {
        let mut command = Command::new("sh");
        // Somebody else has its output, and lives on.
        command.args(["-c", "echo out; echo err >&2; sleep 8 & exec sleep 600"]);
        let began = Instant::now();
        let ran = Ran::within(&mut command, Duration::from_millis(300)).unwrap();
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        assert_eq!((ran.code, ran.stdout.as_str()), (137, "out\n"));
        assert_eq!(ran.stderr, "err\n(killed: it did not end within 300ms)\n");
    }

    #[test]
    fn what_a_living_process_has_marked_stays_and_what_a_dead_one_has_goes() {
        let scratch = tempfile::tempdir().unwrap();
        let pid = std::process::id();
        let start = ProcessIdentity::of(pid as i32).unwrap().start_time;
        let (own, other) = (format!("{}-0", mark("host")), format!("{}-xfs-1", mark("torture")));
        // The number of a process that lives, which was another's.
        let dead = [format!("host-{pid}-{}-0", start + 1), format!("torture-{pid}-{}-ext4-1", start + 1)];
        let strange = [format!("host-{pid}-0"), format!("other-{pid}-1-0"), "host-x-1-0".to_owned()];
        let kept: Vec<&String> = [&own, &other].into_iter().chain(&strange).collect();
        for name in kept.iter().copied().chain(&dead) {
            std::fs::create_dir_all(scratch.path().join(name).join("prefix/vz")).unwrap();
        }
        assert_eq!(sweep(scratch.path()), 2);
        assert!(kept.iter().all(|name| scratch.path().join(name).join("prefix/vz").exists()));
        assert!(dead.iter().all(|name| !scratch.path().join(name).exists()));
    }

    #[test]
    fn what_ends_in_time_is_as_ever() {
        let mut command = Command::new("sh");
        let ran = Ran::within(command.args(["-c", "echo out; exit 3"]), Duration::from_secs(60)).unwrap();
        assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (3, "out\n", ""));
    }
}
