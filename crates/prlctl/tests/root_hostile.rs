//! Everything that there is, done to roots that were made to harm whoever looks into them. Nothing of the host is changed or read; every command ends,
//! says in clean words what it could not do, and a container whose root is hostile gets a new one, with the old one whole at `/old`.

use std::path::Path;
use std::process::Command;

use testkit::attack::{self, UnderWay};
use testkit::hostile::{Canary, DISGUISES, ODDITIES, Oddity, PLACES, names};
use testkit::{Ran, RealHost, patience};

/// Another one by the environment: a build that opens by plain path, of which these tests have to find out.
fn program() -> String {
    std::env::var("REROOT_HOSTILE_PROGRAM").unwrap_or_else(|_| env!("CARGO_BIN_EXE_prlctl").to_owned())
}

/// One of these in a row of commands that has to be hurt by nothing.
struct Tour<'a> {
    host: &'a RealHost,
    canary: &'a Canary,
    /// So long each command may take; longer, it hangs.
    seconds: u32,
}

/// What a command may end with that could not do what it was asked.
const REFUSALS: [i32; 14] = [3, 5, 8, 9, 21, 31, 32, 33, 44, 46, 50, 85, 94, 128];
/// Both have the same root: one gets a new one, the other one that keeps as much as can be.
const CONTAINER: &str = "tenant";
const KEPT: &str = "kept";

impl Tour<'_> {
    /// It ends, and says cleanly what it says. Its code.
    #[track_caller]
    fn clean(&self, words: &[&str]) -> Ran {
        self.clean_of(self.host.prlctl(), words)
    }

    #[track_caller]
    fn clean_of(&self, mut command: Command, words: &[&str]) -> Ran {
        let ran = Ran::within(command.args(words), patience(self.seconds)).expect("run prlctl");
        assert_ne!(ran.code, 137, "prlctl {words:?} hangs\n{ran}");
        for said in [&ran.stdout, &ran.stderr] {
            let is_raw = |letter: char| letter.is_control() && letter != '\n' && letter != '\t';
            assert!(!said.contains(is_raw), "prlctl {words:?} gives control characters away: {said:?}");
            assert!(!said.contains("panicked"), "prlctl {words:?}\n{ran}");
        }
        if ran.code != 0 && words[0] != "exec" {
            assert!(REFUSALS.contains(&ran.code), "prlctl {words:?}\n{ran}");
            assert!(
                ran.stderr.contains("error: ") && ran.stderr.contains("state: "),
                "prlctl {words:?}\n{ran}"
            );
        }
        ran
    }

    #[track_caller]
    fn ok(&self, words: &[&str]) -> Ran {
        let ran = self.clean(words);
        assert_eq!(ran.code, 0, "prlctl {words:?}\n{ran}");
        ran
    }

    /// A template of the root, as golden images are made; and a container of that, which may do as little as it likes.
    fn make_template(&self) {
        let (create, remove) = (["create", "cache", "golden", "--from"], ["remove", "cache", "golden"]);
        let from = format!("container:{CONTAINER}");
        if self.clean_of(self.host.vzpkg(), &[&create[..], &[&from]].concat()).code == 0 {
            if self.clean(&["create", "copy", "--ostemplate", "golden"]).code == 0 {
                self.clean(&["start", "copy"]);
                self.ok(&["reinstall", "copy", "--ostemplate", "busybox"]);
                self.ok(&["delete", "copy", "--force"]);
            }
            let ran = self.clean_of(self.host.vzpkg(), &remove);
            assert_eq!(ran.code, 0, "{ran}");
        }
        self.canary.is_untouched();
    }

    /// The whole of it; `place` is where the harm is, `way_out` what would lead out of the root by it.
    fn make(&self, place: &str, way_out: &str) {
        self.clean(&["start", CONTAINER]);
        self.clean(&["exec", CONTAINER, "true"]);
        self.clean(&["generation-diff", CONTAINER]);
        self.clean(&["mount", CONTAINER]);
        self.clean(&["umount", CONTAINER]);
        self.clean(&["stop", CONTAINER]);
        let before = self.area_of(1);

        // What the product is for: whatever the old root is, there is a new one, and nothing of the old one is lost.
        self.ok(&["reinstall", CONTAINER]);
        self.ok(&["start", CONTAINER]);
        assert_eq!(self.host.exec(CONTAINER, "cat /old/opt/marker"), "of the old root");
        self.clean(&["generation-diff", CONTAINER, "1", "--stat"]);
        self.clean(&["generation-restore", CONTAINER, "1", place, "--to", "/srv-restored"]);
        self.clean(&["generation-restore", CONTAINER, "1", way_out, "--to", "/srv-of-the-host"]);
        self.clean(&["generation-diff", CONTAINER, "1", way_out]);
        assert_eq!(self.area_of(1), before, "the old root is as it was");
        self.ok(&["stop", CONTAINER]);
        // Without an init it is refused.
        let back = self.clean(&["reinstall", CONTAINER, "--undo"]);
        assert!([0, 21].contains(&back.code), "{back}");
        self.ok(&["delete", CONTAINER]);
        self.canary.is_untouched();
    }

    /// With all that can be asked for, into whose way the harm is put.
    fn make_with_everything(&self, place: &str, way_out: &str) {
        let sets = [
            "--keep",
            "home",
            "--keep",
            "ssh-keys",
            "--keep",
            "ssh-host-keys",
            "--keep",
            "cron",
            "--keep",
            "packages",
        ];
        let words = [
            &["reinstall", KEPT][..],
            &sets,
            &["--keep", "/opt", "--keep", place, "--keep", way_out, "--scripts-from-old"],
        ]
        .concat();
        // What cannot be kept stops it, and is told. Less is kept then.
        let less = [&["reinstall", KEPT][..], &sets, &["--keep", "/opt", "--keep-changed", "/etc"]].concat();
        // A script of the host is run in the new root, which it has the old one in sight of.
        self.host.script(
            "etc/vz/conf/vps.configure",
            "#!/bin/sh\nls -la /old /old/opt >/dev/null 2>&1\necho configured >/configured\n",
        );
        if self.clean(&words).code != 0 && self.clean(&less).code != 0 {
            self.ok(&["reinstall", KEPT, "--keep", "/opt", "--resetpwdb"]);
        }
        assert_eq!(self.delta_text("configured").as_deref(), Some("configured\n"));
        assert_eq!(self.delta_text("opt/marker").as_deref(), Some("of the old root\n"));
        self.ok(&["delete", KEPT, "--force"]);
        self.canary.is_untouched();
    }

    /// A file of the live root's own layer.
    fn delta_text(&self, below: &str) -> Option<String> {
        std::fs::read_to_string(self.host.area(KEPT).join("live/delta").join(below)).ok()
    }

    /// Names, owners, modes, contents of a generation's layer, but for the two places that are deep or many: those are looked at by `find` too slowly.
    fn area_of(&self, number: u32) -> String {
        let delta = self.host.area(CONTAINER).join(format!("generations/{number}/delta"));
        let facts = "-printf '%y %m %U %G %s %T@ %l %p\\n'";
        let line = format!("find . -maxdepth 4 -path ./home {facts} -prune -o {facts} | sort");
        let found = Command::new("sh").args(["-c", &line]).current_dir(delta).output().expect("run find");
        assert!(found.status.success(), "{}", String::from_utf8_lossy(&found.stderr));
        tree::escaped(&found.stdout)
    }
}

/// A host with a container that nobody has started yet, a canary, and in `/opt` of the container something to lose.
fn scene(attack: &str) -> Option<(RealHost, Canary, UnderWay)> {
    // With templates of its own: a hostile one is made, too.
    let host = RealHost::bare(&program())?;
    let made = Ran::of(host.vzpkg().args(["create", "cache", "busybox"]).output().expect("run vzpkg"));
    assert_eq!(made.code, 0, "{made}");
    scene_on(host, attack)
}

fn scene_on(host: RealHost, attack: &str) -> Option<(RealHost, Canary, UnderWay)> {
    let under_way = UnderWay::begin(&program(), attack, "hostile roots");
    let canary = Canary::new(&host);
    // What ignores the signal to stop is killed soon.
    host.write("etc/vz/vz.conf", "STOP_TIMEOUT=\"1\"\nNUMPROC=\"60\"\nPHYSPAGES=\"128M\"\n", 0o644);
    for container in [CONTAINER, KEPT] {
        host.ok(["create", container, "--ostemplate", "busybox"]);
    }
    in_files(&host, |root| {
        for below in ["opt", "home", "root"] {
            std::fs::create_dir_all(root.join(below)).expect("make a directory");
        }
        let mut file = std::fs::File::create(root.join("opt/marker")).expect("make a file");
        std::io::Write::write_all(&mut file, b"of the old root\n").expect("write a file");
    });
    Some((host, canary, under_way))
}

/// In the containers' files, as the host shows them while nothing of them runs.
fn in_files(host: &RealHost, plant: impl Fn(&Path)) {
    for container in [CONTAINER, KEPT] {
        host.ok(["mount", container]);
        plant(&host.path("vz/root").join(host.area(container).file_name().expect("it has a name")));
        host.ok(["umount", container]);
    }
}

fn place_and_disguise(place: &str, disguise: &str) {
    let (_, path) = PLACES.iter().find(|(name, _)| *name == place).expect("it is in the list");
    let (_, how) = DISGUISES.iter().find(|(name, _)| *name == disguise).expect("it is in the list");
    let Some((host, canary, under_way)) = scene(&format!("{place}::{disguise}")) else { return };
    in_files(&host, |root| how.plant(root, path, &canary));
    let tour = Tour { host: &host, canary: &canary, seconds: 60 };
    let way_out = how.way_out(path, &canary);
    tour.make_template();
    tour.make(path, &way_out);
    tour.make_with_everything(path, &way_out);
    under_way.held();
}

fn oddity(name: &str) {
    let (_, oddity) = ODDITIES.iter().find(|(known, _)| *known == name).expect("it is in the list");
    let Some((host, canary, under_way)) = scene(name) else { return };
    let tour = Tour { host: &host, canary: &canary, seconds: 60 };
    match oddity {
        Oddity::Inside(line) => {
            if line.contains("call ") && !bring_caller(&host) {
                return under_way.not_run("there is no compiler");
            }
            let line = line.replace("CANARY", &canary.file().display().to_string());
            for container in [CONTAINER, KEPT] {
                host.ok(["start", container]);
                host.ok(["exec", container, &line]);
            }
        }
        Oddity::Outside(plant) => in_files(&host, |root| plant(root, &canary)),
        Oddity::Delta(plant) => {
            for container in [CONTAINER, KEPT] {
                plant(&host.area(container).join("generations/1/delta"), &canary);
            }
        }
        Oddity::Init(text) => in_files(&host, |root| {
            rustix::fs::rename(root.join("sbin/init"), root.join("sbin/init.was")).expect("move it aside");
            std::fs::File::create(root.join("sbin/init")).expect("make a file");
            let below = root.join("sbin/init");
            let below = below.strip_prefix(host.prefix()).expect("it is below");
            host.write(below.to_str().expect("it is text"), text, 0o755);
        }),
    }
    // A hundred thousand files more, made and deleted, are a minute of some filesystems, and no other harm.
    if name != "root_a_directory_has_100000_entries" {
        tour.make_template();
    }
    tour.make("/srv", "/home");
    tour.make_with_everything("/srv", "/home");
    under_way.held();
}

/// `/bin/call` in the live roots.
fn bring_caller(host: &RealHost) -> bool {
    let Some(caller) = attack::caller(env!("CARGO_BIN_EXE_prlctl")).filter(|_| cfg!(target_arch = "x86_64"))
    else {
        return false;
    };
    in_files(host, |root| {
        let copied = Command::new("cp").arg(&caller).arg(root.join("bin/call")).status().expect("run cp");
        assert!(copied.success());
    });
    true
}

/// Without what is kept: a million names would have to be made again.
#[test]
fn root_a_directory_has_a_million_entries() {
    let Some(host) = RealHost::on_journal(&program()) else { return };
    let Some((host, canary, under_way)) = scene_on(host, "root_a_directory_has_a_million_entries") else {
        return;
    };
    host.ok(["mount", CONTAINER]);
    let root = host.path("vz/root").join(host.area(CONTAINER).file_name().expect("it has a name"));
    names(&root.join("home/many"), 1_000_000);
    host.ok(["umount", CONTAINER]);
    // To copy them takes a minute of an ordinary machine, and more of a busy one.
    Tour { host: &host, canary: &canary, seconds: 400 }.make("/srv", "/home");
    under_way.held();
}

/// Into a root whose owner changes what is on the way while it is gone.
#[test]
fn root_links_are_exchanged_while_something_is_restored() {
    let Some((host, canary, under_way)) = scene("root_links_are_exchanged_while_something_is_restored")
    else {
        return;
    };
    let tour = Tour { host: &host, canary: &canary, seconds: 60 };
    tour.ok(&["reinstall", CONTAINER]);
    if !bring_caller(&host) {
        return under_way.not_run("there is no compiler");
    }
    tour.ok(&["start", CONTAINER]);
    let line = "mkdir -p /srv/d/below /srv/e; ln -s CANARY /srv/link; ln -s / /srv/e/below; \
                call again 316 -100 s:/srv/d -100 s:/srv/link 2 >/dev/null 2>&1 </dev/null & \
                call again 316 -100 s:/srv/d/below -100 s:/srv/e/below 2 >/dev/null 2>&1 </dev/null &";
    tour.ok(&["exec", CONTAINER, &line.replace("CANARY", &canary.directory().display().to_string())]);
    let mut restored = 0;
    for number in 0..60 {
        let to = format!("/srv/{}/below/{number}", if number % 2 == 0 { "d" } else { "e" });
        restored +=
            usize::from(tour.clean(&["generation-restore", CONTAINER, "1", "/opt", "--to", &to]).code == 0);
        let beside = format!("/srv/d/restored{number}");
        restored += usize::from(
            tour.clean(&["generation-restore", CONTAINER, "1", "/opt", "--to", &beside]).code == 0,
        );
    }
    // Where the race was lost every time, or won every time, nothing was seen.
    assert!(restored > 0, "nothing could be restored");
    canary.is_untouched();
    tour.ok(&["stop", CONTAINER]);
    tour.ok(&["delete", CONTAINER]);
    canary.is_untouched();
    under_way.held();
}

macro_rules! disguised {
    ($place:ident: $($disguise:ident)+) => {
        mod $place {
            $(#[test] fn $disguise() { super::place_and_disguise(stringify!($place), stringify!($disguise)); })+
            pub const TESTS: &[&str] = &[$(stringify!($disguise)),+];
        }
    };
}

macro_rules! places {
    ($($place:ident)+) => {
        $(disguised!($place: is_a_link_to_a_file_of_the_host is_a_link_to_a_directory_of_the_host is_a_relative_link_out is_a_link_to_the_top is_a_loop is_a_fifo is_a_socket
            is_a_device is_of_another_kind is_huge);)+
        const TESTED_PLACES: &[(&str, &[&str])] = &[$((stringify!($place), $place::TESTS)),+];
    };
}

macro_rules! oddities {
    ($($name:ident)+) => {
        $(#[test] fn $name() { oddity(stringify!($name)); })+
        const TESTED_ODDITIES: &[&str] = &[$(stringify!($name)),+];
    };
}

places! {
    root_old root_etc root_passwd root_shadow root_group root_hosts root_hostname root_resolv_conf root_machine_id root_proc root_dev root_dev_null
    root_dev_console root_init root_sbin root_run root_tmp root_home root_ssh
}

oddities! {
    root_names_have_escape_sequences root_names_are_not_utf8 root_names_have_newlines root_names_have_255_bytes root_a_tree_is_deeper_than_any_path
    root_links_are_100000_deep root_a_directory_has_100000_entries root_files_are_immutable root_files_are_append_only
    root_files_are_setuid_and_have_capabilities root_files_have_access_lists root_files_have_user_overlay_attributes
    root_directories_are_opaque_and_redirected root_whiteouts_are_everywhere root_sh_is_of_another_architecture root_sh_is_its_own_interpreter
    root_sh_has_an_interpreter_that_never_ends root_passwd_has_a_line_without_end root_passwd_has_uid_0_clones_and_nonsense root_homes_are_elsewhere
    root_links_are_swapped_meanwhile root_links_are_exchanged_meanwhile root_something_is_mounted_over_everything root_mounts_are_moved_about root_a_terabyte_of_nothing_is_kept
    root_init_ends_at_once root_init_reboots_for_ever root_init_ignores_every_signal root_init_forks_for_ever root_init_writes_without_end
}

#[test]
fn every_root_of_the_generator_is_a_test() {
    let places: Vec<&str> = TESTED_PLACES.iter().map(|(name, _)| *name).collect();
    assert_eq!(places, PLACES.iter().map(|(name, _)| *name).collect::<Vec<_>>());
    for (_, tests) in TESTED_PLACES {
        assert_eq!(*tests, DISGUISES.iter().map(|(name, _)| *name).collect::<Vec<_>>());
    }
    assert_eq!(TESTED_ODDITIES, ODDITIES.iter().map(|(name, _)| *name).collect::<Vec<_>>());
    assert!(PLACES.len() * DISGUISES.len() + ODDITIES.len() >= 150);
}

#[test]
fn root_a_canary_that_was_read_is_not_untouched() {
    let Some(host) = RealHost::new(&program()) else { return };
    let canary = Canary::new(&host);
    canary.is_untouched();
    let flags = rustix::fs::statvfs(canary.file()).expect("ask for the filesystem").f_flag;
    if flags.contains(rustix::fs::StatVfsMountFlags::NOATIME) {
        testkit::real_host::not_run_here(
            program().as_ref(),
            "the filesystem does not say when a file was read: that nothing is read was not seen",
        );
        return;
    }
    assert_eq!(std::fs::read(canary.file()).expect("read it").len(), 21);
    let seen = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| canary.is_untouched()));
    assert!(seen.is_err(), "the filesystem does not tell who reads: these tests would see nothing");
}
