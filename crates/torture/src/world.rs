//! A host with one container, in the state that a scenario begins with.

use std::fs::{DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use store::{Area, ContainerId, GenerationNumber, Prefix, TemplateName, Volume};
use testkit::judge::{Before, Setting, Violation, renamed};
use testkit::{Ran, RealHost};

use crate::golden;
use crate::scenario::{
    AREA, AREA_ELSEWHERE, BOUND, DISK, DISK_BLOCKS, Kind, OLDER_VERSION, OTHER_NAME, OWN_AREA, Scenario,
    Scripts,
};
use crate::trace::LONGEST;

/// A container is used for so many faults, as long as it stays on its old roots.
const USES: u32 = 40;
/// With more roots it is made anew.
const ROOTS: usize = 5;

/// The template that has versions.
const VERSIONED: &str = "versioned";
/// What says in each which one it is: `1` or `2`.
pub const VERSION: &str = "etc/version";

/// Its other files, in `srv`.
const FILES: u32 = 40;
/// What has become of the first of them, where it is damaged.
const DAMAGE: &[u8] = b"damaged";

fn contents(number: u32) -> String {
    format!("{number}").repeat(1000)
}

/// A version has the damage that it began with, and no other.
pub fn is_as_damaged(rootfs: &Path) -> bool {
    let is = |path: &str, bytes: &[u8]| std::fs::read(rootfs.join(path)).is_ok_and(|found| found == bytes);
    is("srv/0", DAMAGE)
        && is(VERSION, b"1")
        && is("sbin/init", b"#!/bin/sh\n")
        && (1..FILES).all(|number| is(&format!("srv/{number}"), contents(number).as_bytes()))
}

/// It leaves something running, which ends with it, or with whoever recovers.
const BUILD: &str = "#!/bin/sh\n(sleep 90 >/dev/null 2>&1 &)\nmkdir -p \"$VE_PRIVATE_TMP\" && cp -a \"$OSTEMPLATE_ROOT/.\" \"$VE_PRIVATE_TMP/\" && \
                     echo yes >\"$VE_PRIVATE_TMP/built\"\n";
const CONFIGURE: &str = "#!/bin/sh\ntest -d /old/root && echo yes >/configured\n";
/// It would spoil the old root, too, if it could.
const BAD_CONFIGURE: &str =
    "#!/bin/sh\necho half >/configured\necho bad >/old/root/number\nrm -rf /old/root /old/srv\nexit 3\n";

/// See the module.
#[derive(Debug)]
pub struct World {
    /// The host.
    pub host: RealHost,
    /// Its prefix.
    pub prefix: Prefix,
    golden: PathBuf,
    current: Option<Current>,
    serial: u32,
}

#[derive(Debug)]
struct Current {
    scenario: &'static str,
    name: String,
    /// Whatever it is called.
    id: ContainerId,
    uses: u32,
}

/// Something about the host itself does not work: no fault of ours was survived or not.
#[derive(Debug)]
pub struct Unusable(pub String);

impl std::fmt::Display for Unusable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unusable {}

impl From<Violation> for Unusable {
    fn from(violation: Violation) -> Unusable {
        Unusable(format!("before anything was done to it: {violation}"))
    }
}

impl From<io::Error> for Unusable {
    fn from(error: io::Error) -> Unusable {
        Unusable(error.to_string())
    }
}

impl World {
    /// A new host in `directory`; `None` where containers cannot run.
    ///
    /// # Errors
    /// When it cannot be made ready.
    pub fn new(program: &str, directory: &Path) -> Result<Option<World>, Unusable> {
        let Some(host) = RealHost::at(program, directory) else { return Ok(None) };
        let prefix = Prefix::new(host.prefix()).map_err(|error| Unusable(error.to_string()))?;
        let golden = host.prefix().with_file_name("golden");
        let world = World { host, prefix, golden, current: None, serial: 0 };
        world.make_template()?;
        if store::counted::has_subvolumes(&world.prefix) {
            // What lies on a subvolume has an end then.
            let words = ["quota", "enable"];
            let status =
                Command::new("btrfs").process_group(0).args(words).arg(world.prefix.root()).status()?;
            if !status.success() {
                return Err(Unusable(format!("btrfs quota enable: {status}")));
            }
        }
        let template: TemplateName = "busybox".parse().map_err(|_| Unusable("no name".to_owned()))?;
        let template =
            store::template::latest(&world.prefix, &template).map_err(|error| Unusable(error.to_string()))?;
        golden::make(&world.golden, &template.rootfs())?;
        world.make_area(&template.rootfs())?;
        Ok(Some(world))
    }

    /// Makes the private area that is registered: a root with an init, and all that it could lose.
    fn make_area(&self, template: &Path) -> Result<(), Unusable> {
        let root = area_beside(self.prefix.root()).join("fs");
        DirBuilder::new().recursive(true).mode(0o755).create(&root)?;
        for from in [template, &self.golden] {
            // It has a mark of overlayfs in the place of a file, which an area does not: both are of one root here.
            let line = "cp -a --remove-destination \"$0/.\" \"$1\" && rm -f \"$1/usr/bin/env\"";
            let status =
                Command::new("sh").process_group(0).args(["-c", line]).args([from, &root]).status()?;
            if !status.success() {
                return Err(Unusable(format!("cp -a: {status}")));
            }
        }
        let mut conf = File::create(area_beside(self.prefix.root()).join("ve.conf"))?;
        conf.write_all(b"HOSTNAME=\"old.example.com\"\nKMEMSIZE=\"1:2\"\nOSTEMPLATE=\".busybox-x86_64\"\n")?;
        Ok(())
    }

    /// Where output of commands goes.
    pub fn scratch(&self) -> &Path {
        self.golden.parent().unwrap_or(&self.golden)
    }

    /// Makes the template.
    ///
    /// # Errors
    /// [`Unusable`].
    pub fn make_template(&self) -> Result<(), Unusable> {
        must(ended(self.host.vzpkg().args(["create", "cache", "busybox"]))).map(drop)
    }

    /// Makes the template that has versions anew, with one of them, or two, and what the next one is to be made of; or with one that is damaged then.
    fn make_versions(&self, kind: Kind) -> Result<(), Unusable> {
        let vzpkg = |words: &[&str]| must(ended(self.host.vzpkg().args(words)));
        if self.prefix.template_dir().join(VERSIONED).join("latest").exists() {
            vzpkg(&["remove", "cache", VERSIONED])?;
        }
        let source = self.golden.with_file_name("source");
        let write = |path: &str, bytes: &[u8]| -> io::Result<()> {
            let path = source.join(path);
            DirBuilder::new().recursive(true).mode(0o755).create(path.parent().unwrap_or(&source))?;
            let mut options = File::options();
            options.write(true).create(true).truncate(true).mode(0o755).open(&path)?.write_all(bytes)
        };
        write("sbin/init", b"#!/bin/sh\n")?;
        for number in 0..FILES {
            write(&format!("srv/{number}"), contents(number).as_bytes())?;
        }
        write(VERSION, b"1")?;
        let from = source.to_string_lossy().into_owned();
        vzpkg(&["create", "cache", VERSIONED, "--from", &from])?;
        let first = self.prefix.template_dir().join(VERSIONED).join("latest/rootfs").canonicalize()?;
        if kind != Kind::RepairTemplate {
            write(VERSION, b"2")?;
        }
        if matches!(kind, Kind::RemoveVersion | Kind::RepairVersion) {
            vzpkg(&["update", "cache", VERSIONED])?;
        }
        if matches!(kind, Kind::RepairTemplate | Kind::RepairVersion) {
            write(VERSION, b"1")?;
            File::create(first.join("srv/0"))?.write_all(DAMAGE)?;
        }
        Ok(())
    }

    /// Runs `prlctl`, which is killed if it does not end.
    pub fn run(&self, words: &[&str]) -> Ran {
        ended(self.host.prlctl().args(words))
    }

    /// Runs `prlctl`, which must succeed.
    ///
    /// # Errors
    /// [`Unusable`].
    pub fn ok(&self, words: &[&str]) -> Result<Ran, Unusable> {
        must(self.run(words))
    }

    /// Makes the host what `scenario` begins with. Returns the container's name, and the container unless there is none yet.
    ///
    /// # Errors
    /// [`Unusable`].
    pub fn prepare(&mut self, scenario: &'static Scenario) -> Result<(String, Option<Before>), Unusable> {
        if scenario.is_of_templates() {
            self.forget_container()?;
            let has_versions = matches!(
                scenario.kind,
                Kind::UpdateTemplate | Kind::RemoveVersion | Kind::RepairTemplate | Kind::RepairVersion
            );
            if has_versions {
                self.make_versions(scenario.kind)?;
                return Ok((VERSIONED.to_owned(), None));
            }
            let is_there = self.prefix.template_dir().join("busybox/latest").exists();
            if scenario.kind == Kind::MakeTemplate && is_there {
                must(ended(self.host.vzpkg().args(["remove", "cache", "busybox"])))?;
            } else if scenario.kind == Kind::RemoveTemplate && !is_there {
                self.make_template()?;
            }
            return Ok(("busybox".to_owned(), None));
        }
        if !self.prefix.template_dir().join("busybox/latest").exists() {
            self.make_template()?;
        }
        if let Some(current) = &mut self.current
            && current.scenario == scenario.name
            && scenario.kind != Kind::Return
            && current.uses < USES
        {
            current.uses += 1;
            let name = current.name.clone();
            let mut before = Before::of(&self.prefix, &name)?;
            let area = Area::open(&self.prefix, &before.id).map_err(|error| Unusable(error.to_string()))?;
            let live = testkit::judge::layers(&area, GenerationNumber::new(before.live)).join("delta");
            if !before.is_running && !live.join("etc/hostname").exists() {
                // The root of the last reinstall has never been started; a boot after a cut would, and write that.
                self.fill(&name, before.live)?;
                before = Before::of(&self.prefix, &name)?;
            }
            if before.is_running == scenario.runs && before.count() <= ROOTS {
                return Ok((name, Some(before)));
            }
        }
        self.forget_container()?;
        self.scripts(scenario.scripts)?;
        self.serial += 1;
        let name = format!("ct{}", self.serial);
        if scenario.roots == 0 {
            return Ok((name, None));
        }
        let mut words =
            vec!["create", &name, "--ostemplate", "busybox", "--volume", scenario.volume.as_str()];
        if scenario.volume != Volume::Directory {
            words.extend(["--diskspace", DISK]);
        }
        self.ok(&words)?;
        if matches!(scenario.kind, Kind::Move(Volume::Image | Volume::Btrfs))
            && scenario.volume == Volume::Directory
        {
            // As a sample would have it: what is moved writes nothing there then.
            self.set(&name, "DISKSPACE", DISK_BLOCKS)?;
        }
        for number in 1..=scenario.roots {
            if number > 1 {
                self.ok(&["reinstall", &name, "--skipscripts"])?;
            }
            self.fill(&name, number)?;
        }
        if scenario.mounts_at_data() {
            self.make_mount_point(&name)?;
        }
        if scenario.is_back {
            self.ok(&["reinstall", &name, "--undo"])?;
        }
        if scenario.has_a_disk() {
            self.ok(&["set", &name, "--device-add", "hdd", "--size", DISK, "--mnt", "/data"])?;
            let id =
                store::registry::find(&self.prefix, &name).map_err(|error| Unusable(error.to_string()))?;
            let area = Area::open(&self.prefix, &id).map_err(|error| Unusable(error.to_string()))?;
            let number = store::DiskNumber::named("hdd1").ok_or_else(|| Unusable("no disk".to_owned()))?;
            testkit::judge::fill(&self.prefix, &area, number)?;
        }
        if scenario.kind == Kind::Set(Setting::Bind { comes: false }) {
            self.ok(&["set", &name, "--bindmount_add", BOUND])?;
        }
        if scenario.runs {
            self.ok(&["start", &name])?;
        }
        let before = Before::of(&self.prefix, &name)?;
        self.current = Some(Current { scenario: scenario.name, name: name.clone(), id: before.id, uses: 1 });
        if scenario.kind == Kind::Return {
            self.ok(&["unregister", &name])?;
            if scenario.words.contains(&AREA_ELSEWHERE) {
                rustix::fs::rename(self.prefix.area_dir(&before.id), area_elsewhere(&self.prefix))
                    .map_err(io::Error::from)?;
            }
        }
        Ok((name, Some(before)))
    }

    /// Writes into a container's configuration, past every command.
    ///
    /// # Errors
    /// [`Unusable`].
    pub fn set(&self, name: &str, key: &str, value: &str) -> Result<(), Unusable> {
        let failed = |error: store::AreaError| Unusable(error.to_string());
        let id = store::registry::find(&self.prefix, name).map_err(|error| Unusable(error.to_string()))?;
        let area = Area::open(&self.prefix, &id).map_err(failed)?;
        let mut conf = area.conf().map_err(failed)?;
        conf.set(key, value).map_err(|error| Unusable(error.to_string()))?;
        area.store_conf(&conf).map_err(failed)
    }

    /// Makes the directory on which a disk is mounted, which a start would.
    fn make_mount_point(&self, name: &str) -> Result<(), Unusable> {
        let before = Before::of(&self.prefix, name)?;
        let area = Area::open(&self.prefix, &before.id).map_err(|error| Unusable(error.to_string()))?;
        let delta = testkit::judge::layers(&area, GenerationNumber::new(before.live)).join("delta");
        Ok(DirBuilder::new().mode(0o755).create(delta.join("data"))?)
    }

    /// Gives a generation of a stopped container what it could lose.
    fn fill(&self, name: &str, number: u32) -> Result<(), Unusable> {
        let id = store::registry::find(&self.prefix, name).map_err(|error| Unusable(error.to_string()))?;
        let area = Area::open(&self.prefix, &id).map_err(|error| Unusable(error.to_string()))?;
        let delta = testkit::judge::layers(&area, GenerationNumber::new(number)).join("delta");
        if number == 1 {
            let status = Command::new("cp")
                .process_group(0)
                .arg("-a")
                .arg(self.golden.join("."))
                .arg(&delta)
                .status()?;
            if !status.success() {
                return Err(Unusable(format!("cp -a: {status}")));
            }
        }
        // What its first start would write, so that no start of it changes anything any more.
        let hosts = format!("127.0.0.1\tlocalhost\n127.0.1.1\t{name}\n");
        let hostname = format!("{name}\n");
        for (path, text) in
            [("etc/hostname", hostname), ("etc/hosts", hosts), ("root/number", number.to_string())]
        {
            let path = delta.join(path);
            DirBuilder::new().recursive(true).mode(0o755).create(path.parent().unwrap_or(&delta))?;
            File::create(&path)?.write_all(text.as_bytes())?;
        }
        Ok(())
    }

    fn scripts(&self, scripts: Scripts) -> io::Result<()> {
        for name in ["vps.reinstall", "vps.configure"] {
            match std::fs::remove_file(self.prefix.conf_dir().join(name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        match scripts {
            Scripts::None => {}
            Scripts::Configure => self.host.script("etc/vz/conf/vps.configure", CONFIGURE),
            Scripts::BadConfigure => self.host.script("etc/vz/conf/vps.configure", BAD_CONFIGURE),
            Scripts::Build => {
                self.host.script("etc/vz/conf/vps.reinstall", BUILD);
                self.host.script("etc/vz/conf/vps.configure", CONFIGURE);
            }
        }
        Ok(())
    }

    /// The next scenario begins with another container.
    ///
    /// # Errors
    /// [`Unusable`] when this one cannot be deleted.
    pub fn forget_container(&mut self) -> Result<(), Unusable> {
        let Some(current) = self.current.take() else { return Ok(()) };
        for path in [area_elsewhere(&self.prefix), self.prefix.area_dir(&current.id)] {
            let area = Area::open_elsewhere(&self.prefix, &path).ok().flatten();
            if area.and_then(|area| area.record().ok()).is_some_and(|record| !record.is_registered()) {
                self.ok(&["register", &path.to_string_lossy()])?;
            }
        }
        if self.prefix.area_dir(&current.id).exists() {
            self.ok(&["delete", &current.id.to_string(), "--force", "--lock-wait", "60"])?;
        }
        Ok(())
    }

    /// The digest of the version that is not the latest; none that could be is taken for one when there is none.
    fn older_version(&self, name: &str) -> String {
        let Ok(name) = name.parse::<TemplateName>() else { return String::new() };
        let latest = store::template::latest(&self.prefix, &name).map(|latest| latest.record.digest);
        let all = store::template::templates(&self.prefix).unwrap_or_default().into_iter().flatten();
        all.filter(|template| template.record.name == name)
            .map(|template| template.record.digest)
            .find(|digest| latest.as_ref().is_ok_and(|latest| latest != digest))
            .unwrap_or_default()
    }

    fn own_area(&self) -> PathBuf {
        self.current.as_ref().map(|current| self.prefix.area_dir(&current.id)).unwrap_or_default()
    }

    /// The command of a scenario.
    pub fn command(&self, scenario: &Scenario, name: &str) -> Command {
        let mut command = if scenario.is_of_templates() { self.host.vzpkg() } else { self.host.prlctl() };
        command.process_group(0).args(scenario.words.iter().map(|word| match *word {
            "CT" => name.to_owned(),
            AREA => area_beside(self.prefix.root()).to_string_lossy().into_owned(),
            OWN_AREA => self.own_area().to_string_lossy().into_owned(),
            AREA_ELSEWHERE => area_elsewhere(&self.prefix).to_string_lossy().into_owned(),
            OTHER_NAME => renamed(name),
            OLDER_VERSION => format!("{name}@{}", self.older_version(name)),
            word => word.to_owned(),
        }));
        command
    }
}

/// The private area of OpenVZ that lies beside a prefix.
pub fn area_beside(prefix: &Path) -> PathBuf {
    prefix.with_file_name("area")
}

/// Where an area lies that was unregistered and moved: where what outlives a power cut does.
pub fn area_elsewhere(prefix: &Prefix) -> PathBuf {
    prefix.vz_dir().join("elsewhere")
}

/// The end of a command, which comes, and not by the ^C that is meant for the run: whoever waits for one that hangs hangs too, and never says so.
pub(crate) fn ended(command: &mut Command) -> Ran {
    Ran::within(command.process_group(0), LONGEST).unwrap_or_else(|error| Ran {
        code: 127,
        stdout: String::new(),
        stderr: format!("{command:?}: {error}\n"),
    })
}

fn must(ran: Ran) -> Result<Ran, Unusable> {
    if ran.code == 0 { Ok(ran) } else { Err(Unusable(ran.to_string())) }
}
