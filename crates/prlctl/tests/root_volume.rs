//! A disk of its own: what a container may put on it, that nothing of it is lost when it changes, and that it comes and goes with the container.
#![expect(
    clippy::disallowed_methods,
    reason = "what is written by name is of the host's, in a prefix of the test's own"
)]

use std::collections::BTreeMap;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use testkit::{Ran, RealHost};

fn new_host() -> Option<RealHost> {
    RealHost::new(env!("CARGO_BIN_EXE_prlctl"))
}

/// A container with a disk of that size, running.
fn on_image(host: &RealHost, name: &str, size: &str) {
    host.ok(["create", name, "--ostemplate", "busybox", "--volume", "image", "--diskspace", size]);
    host.ok(["start", name]);
}

/// KiB: of all, used, available.
fn df(host: &RealHost, name: &str, path: &str) -> [u64; 3] {
    let said = host.exec(name, &format!("df -k {path} | tail -1"));
    let words: Vec<u64> = said.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    words[..3].try_into().expect("df tells three numbers")
}

/// Fills the container's disk to its end.
fn fill(host: &RealHost, name: &str) {
    let ran = host.run(["exec", name, "dd if=/dev/zero of=/full bs=64k; dd if=/dev/zero of=/rest bs=1k"]);
    assert!(ran.stderr.contains("No space left on device"), "{ran}");
}

fn image(host: &RealHost, name: &str) -> PathBuf {
    host.area(name).join("volume.img")
}

fn taken(image: &Path) -> u64 {
    image.metadata().expect("there is an image").blocks() * 512
}

/// The loop devices that have a file below the prefix behind them.
fn loops(host: &RealHost) -> Vec<String> {
    let devices = std::fs::read_dir("/sys/block").expect("there are block devices").flatten();
    let files =
        devices.filter_map(|device| std::fs::read_to_string(device.path().join("loop/backing_file")).ok());
    let prefix = host.prefix().join("vz/private");
    files.filter(|file| file.starts_with(prefix.to_str().expect("a prefix is UTF-8"))).collect()
}

/// One of everything that a root may have, made from inside.
const WORST: &str = "mkdir -p /data/deep/er; echo one > /data/deep/file; ln /data/deep/file /data/hard; ln -s deep/file /data/link; \
    mkfifo /data/fifo; chown 33:44 /data/deep/er; chmod 4751 /data/hard; truncate -s 1G /data/sparse; echo x | dd of=/data/sparse bs=1 seek=500M conv=notrunc 2>/dev/null; \
    touch -d '1999-12-31 23:59:58' /data/deep/file; rm /bin/vi; mv /etc/init.d /etc/moved; printf 'odd\\n' > \"/data/$(printf 'a\\nb\\377')\"";
/// All of it, as seen from inside.
const LOOK: &str = "cd \"$1\"; find data bin etc usr -xdev -exec stat -c '%n %f %u %g %h %s %Y %t %T' {} + | sort; \
    find data -type f -exec sha256sum {} + | sort; readlink data/link; ls bin/vi 2>&1; du -k data/sparse";

fn look(host: &RealHost, name: &str, root: &str) -> String {
    host.exec(name, &format!("set -- {root}; {LOOK}"))
}

#[test]
fn root_a_disk_is_as_large_as_it_was_said() {
    let Some(host) = new_host() else { return };
    on_image(&host, "web01", "200M");
    on_image(&host, "web02", "100M");
    let [all, used, _] = df(&host, "web01", "/");
    assert!((180_000..=204_800).contains(&all) && used < 1000, "{all} {used}");
    assert!((85_000..=102_400).contains(&df(&host, "web02", "/")[0]));
    let other = df(&host, "web02", "/");
    fill(&host, "web01");
    assert_eq!(df(&host, "web01", "/")[2], 0, "it is full");
    // The other one has what it had.
    assert_eq!(df(&host, "web02", "/"), other);
    assert!(other[2] > 80_000, "{other:?}");
    host.exec("web02", "dd if=/dev/zero of=/file bs=1M count=50 2>/dev/null; sync");
    let shown = host.ok(["list", "-i", "web01"]);
    assert!(shown.contains("volume image") && shown.contains("size 200Mb"), "{shown}");
    // Of the host it takes what is in it, which goes back when it is deleted.
    let web02 = image(&host, "web02");
    assert!(taken(&web02) > 45_000_000, "{}", taken(&web02));
    host.exec("web02", "rm /file");
    host.ok(["compact", "web02"]);
    // The kernel does it when it has time.
    host.wait_until("what was deleted is given back", || taken(&web02) < 10_000_000);
    for name in ["web01", "web02"] {
        host.ok(["delete", name, "--force"]);
    }
    host.wait_until("the devices are gone", || loops(&host).is_empty());
}

#[test]
fn root_inodes_are_limited() {
    let Some(host) = new_host() else { return };
    let limits = ["--volume", "image", "--diskspace", "100M", "--diskinodes", "512"];
    host.ok(["create", "web01", "--ostemplate", "busybox"].into_iter().chain(limits));
    host.ok(["start", "web01"]);
    let ran = host.run([
        "exec",
        "web01",
        "mkdir /many; i=0; while echo > /many/$i; do i=$((i+1)); done 2>/dev/null; ls /many | wc -l",
    ]);
    let made: u32 = ran.stdout.trim().parse().expect("wc tells a number");
    assert!((250..512).contains(&made), "{ran}");
    host.run(["set", "web01", "--diskinodes", "1000"]).failed(5, &["is settled when it is made"]);
    // What is kept back is enough for a new root.
    host.ok(["reinstall", "web01"]);
    assert_eq!(host.exec("web01", "ls /old/many | wc -l"), made.to_string());
}

#[test]
fn root_a_container_whose_disk_is_full_can_be_reinstalled() {
    let Some(host) = new_host() else { return };
    on_image(&host, "web01", "100M");
    host.exec(
        "web01",
        "echo precious > /root/file; echo 'alice:x:1000:1000::/home/alice:/bin/sh' >> /etc/passwd; echo alice:x:1000: >> /etc/group",
    );
    fill(&host, "web01");
    let before = host.exec("web01", "sha256sum /full /rest");
    for running in [true, false] {
        if !running {
            host.ok(["stop", "web01"]);
        }
        host.ok(["reinstall", "web01"]);
        if !running {
            host.ok(["start", "web01"]);
        }
        let old = if running { "/old" } else { "/old/old" };
        assert_eq!(host.exec("web01", &format!("cat {old}/root/file")), "precious");
        assert_eq!(host.exec("web01", &format!("cd {old}; sha256sum full rest | sed 's|  |  /|'")), before);
        assert!(host.exec("web01", "id alice").contains("alice"));
    }
    // What is full is full for the new one too, until the old one goes.
    host.ok(["reinstall", "web01", "--undo"]);
    host.ok(["reinstall", "web01", "--undo"]);
    assert_eq!(host.exec("web01", "cat /root/file"), "precious");
    host.ok(["reinstall", "web01", "--skipbackup"]);
    for number in generations(&host, "web01").into_iter().filter(|(_, state)| state != "live").map(|(n, _)| n)
    {
        host.ok(["generation-delete", "web01", &number.to_string()]);
    }
    host.wait_until("there is room again", || df(&host, "web01", "/")[2] > 60_000);
}

fn generations(host: &RealHost, name: &str) -> BTreeMap<u64, String> {
    let text = host.ok(["generation-list", name, "--all", "-j"]);
    let list: Vec<serde_json::Value> = serde_json::from_str(&text).expect("a list is JSON");
    let row = |one: &serde_json::Value| Some((one["number"].as_u64()?, one["state"].as_str()?.to_owned()));
    list.iter().filter_map(row).collect()
}

#[test]
fn root_a_disk_becomes_larger_and_smaller_and_nothing_is_lost() {
    let Some(host) = new_host() else { return };
    on_image(&host, "web01", "150M");
    host.exec("web01", WORST);
    host.exec("web01", "dd if=/dev/urandom of=/data/much bs=1M count=60 2>/dev/null");
    let before = look(&host, "web01", "/");
    host.run(["set", "web01", "--diskspace", "100M"]).failed(32, &["it runs", "prlctl stop web01"]);
    host.ok(["stop", "web01"]);
    for (size, least) in [("300M", 270_000), ("120M", 100_000), ("1G", 950_000)] {
        host.ok(["set", "web01", "--diskspace", size]);
        host.ok(["start", "web01"]);
        assert!(df(&host, "web01", "/")[0] > least, "{size}");
        assert_eq!(look(&host, "web01", "/"), before, "{size}");
        host.ok(["stop", "web01"]);
    }
    let size = image(&host, "web01").metadata().unwrap().len();
    host.run(["set", "web01", "--diskspace", "40M"]).failed(46, &["needs more room", "nothing was changed"]);
    assert_eq!(image(&host, "web01").metadata().unwrap().len(), size);
    assert!(
        std::fs::read_to_string(host.area("web01").join("ve.conf"))
            .unwrap()
            .contains("DISKSPACE=\"1048576:1048576\"\n")
    );
    host.ok(["start", "web01"]);
    assert_eq!(look(&host, "web01", "/"), before);
}

/// `CAP_SYS_RESOURCE`, without which the kernel makes no mounted filesystem larger.
fn may_resize() -> bool {
    const SYS_RESOURCE: u64 = 1 << 24;
    let status = std::fs::read_to_string("/proc/self/status").expect("a process has a status");
    let found = status.lines().find_map(|line| line.strip_prefix("CapEff:")).expect("it has capabilities");
    u64::from_str_radix(found.trim(), 16).expect("they are a number") & SYS_RESOURCE != 0
}

#[test]
fn root_a_disk_becomes_larger_while_its_container_runs() {
    let Some(host) = new_host() else { return };
    on_image(&host, "web01", "64M");
    host.exec("web01", "echo precious > /root/file");
    fill(&host, "web01");
    if !may_resize() {
        // Told, and nothing was changed; stopped it may.
        let size = image(&host, "web01").metadata().unwrap().len();
        host.run(["set", "web01", "--diskspace", "300M"])
            .failed(50, &["nothing was changed", "prlctl stop web01"]);
        assert_eq!(image(&host, "web01").metadata().unwrap().len(), size);
        // As large as it is, it is.
        host.ok(["set", "web01", "--diskspace", "64M"]);
        let because = "this process has no CAP_SYS_RESOURCE";
        return testkit::real_host::not_run_here(Path::new(env!("CARGO_BIN_EXE_prlctl")), because);
    }
    let init = host.ok(["list", "web01", "-o", "uuid,status"]);
    host.ok(["set", "web01", "--diskspace", "300M"]);
    assert!(df(&host, "web01", "/")[0] > 270_000);
    host.exec("web01", "dd if=/dev/zero of=/more bs=1M count=100 2>/dev/null && cat /root/file");
    // A death while it grows leaves a file that is larger than its device: whoever asks once more, or for more, gets it.
    for (left, asked) in [(400, 400), (500, 600)] {
        let file = std::fs::File::options().write(true).open(image(&host, "web01")).unwrap();
        file.set_len(left << 20).unwrap();
        assert!(df(&host, "web01", "/")[0] < (left - 100) << 10);
        host.ok(["set", "web01", "--diskspace", &format!("{asked}M")]);
        assert!(df(&host, "web01", "/")[0] > (asked - 30) << 10, "{asked}");
    }
    assert_eq!(host.ok(["list", "web01", "-o", "uuid,status"]), init);
    // And whoever asks for nothing, when it is mounted once more.
    host.ok(["stop", "web01"]);
    host.wait_until("its device is gone", || loops(&host).is_empty());
    let file = std::fs::File::options().write(true).open(image(&host, "web01")).unwrap();
    file.set_len(700 << 20).unwrap();
    host.ok(["start", "web01"]);
    assert!(df(&host, "web01", "/")[0] > 670 << 10);
}

#[test]
fn root_what_is_written_into_ve_conf_holds_at_the_next_start() {
    let Some(host) = new_host() else { return };
    on_image(&host, "web01", "100M");
    host.ok(["stop", "web01"]);
    let edit = |from: &str, to: &str| {
        let path = host.area("web01").join("ve.conf");
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{text}");
        std::fs::write(path, text.replace(from, to)).unwrap();
    };
    edit("DISKSPACE=\"102400:102400\"", "DISKSPACE=\"200M\"");
    host.ok(["start", "web01"]);
    assert!(df(&host, "web01", "/")[0] > 180_000);
    edit("200M", "50M");
    host.ok(["stop", "web01"]);
    let ran = host.run(["start", "web01"]);
    assert!(ran.code == 0 && ran.stderr.contains("its disk is larger than `DISKSPACE` says"), "{ran}");
}

#[test]
fn root_a_move_to_another_volume_loses_nothing() {
    let Some(host) = new_host() else { return };
    host.started("web01");
    host.exec("web01", WORST);
    host.ok(["reinstall", "web01"]);
    host.exec("web01", &WORST.replace("one", "two"));
    let [now, old] = ["/", "/old"].map(|root| look(&host, "web01", root));
    host.run(["move", "web01", "--volume", "image"]).failed(32, &["it runs"]);
    host.ok(["stop", "web01"]);
    host.run(["move", "web01", "--volume", "directory"]).failed(21, &["already"]);
    host.run(["move", "web01", "--volume", "ploop"]).failed(21, &["directory, image"]);
    for volume in ["image", "directory", "image"] {
        host.ok(["move", "web01", "--volume", volume]);
        assert_eq!(image(&host, "web01").exists(), volume == "image");
        host.ok(["start", "web01"]);
        assert_eq!(look(&host, "web01", "/"), now, "{volume}");
        assert_eq!(look(&host, "web01", "/old"), old, "{volume}");
        host.ok(["stop", "web01"]);
    }
    // And it is a whole container.
    host.ok(["reinstall", "web01", "--undo"]);
    host.ok(["start", "web01"]);
    assert_eq!(look(&host, "web01", "/"), old);
}

/// Room that somebody makes on the host would not help: the error tells what would, and that is tried.
#[test]
fn root_a_move_to_an_image_that_is_too_small_says_so() {
    let Some(host) = new_host() else { return };
    host.started("web01");
    host.exec("web01", "dd if=/dev/urandom of=/root/data bs=1M count=64 2>/dev/null");
    let sum = host.exec("web01", "sha256sum /root/data");
    host.ok(["stop", "web01"]);
    let conf = host.area("web01").join("ve.conf");
    let text = std::fs::read_to_string(&conf).unwrap();
    std::fs::write(&conf, format!("{text}DISKSPACE=\"64M\"\n")).unwrap();
    let words = ["move", "web01", "--volume", "image"];
    let ran = host.run(words);
    assert!(!ran.stderr.contains("make room"), "{ran}");
    ran.failed(46, &["image of 64 MiB", "too small", "nothing was changed", "more behind `--diskspace`"]);
    assert!(!image(&host, "web01").exists());
    host.wait_until("the devices are gone", || loops(&host).is_empty());
    std::fs::write(&conf, format!("{text}DISKSPACE=\"128M\"\n")).unwrap();
    host.ok(words);
    host.ok(["start", "web01"]);
    assert_eq!(host.exec("web01", "sha256sum /root/data"), sum);
}

#[test]
fn root_a_move_gives_a_disk_of_another_size() {
    let Some(host) = new_host() else { return };
    host.started("web01");
    host.exec("web01", "dd if=/dev/urandom of=/root/data bs=1M count=40 2>/dev/null");
    let sum = host.exec("web01", "sha256sum /root/data");
    host.ok(["stop", "web01"]);
    let conf = || std::fs::read_to_string(host.area("web01").join("ve.conf")).unwrap();
    let before = conf();
    let moved =
        |to: &str, size: &str| host.run(["move", "web01", "--volume", to, &format!("--diskspace={size}")]);
    for (to, size, code, said) in [
        ("image", "", 21, "wanted blocks of 1 KiB"),
        ("image", "-1", 21, "wanted blocks of 1 KiB"),
        ("image", "96MB", 21, "wanted blocks of 1 KiB"),
        ("image", "$(reboot)", 21, "wanted blocks of 1 KiB"),
        ("image", "1M", 21, "wanted 32 MiB to 16 TiB"),
        ("image", "17T", 21, "wanted 32 MiB to 16 TiB"),
        // What is there does not fit; as far as the figures tell, and as far as a copy does.
        ("image", "32M", 46, "image of 32 MiB is too small"),
        ("image", "41M", 46, "image of 41 MiB is too small"),
    ] {
        moved(to, size).failed(code, &[said, "nothing was changed"]);
        assert!(!image(&host, "web01").exists() && conf() == before, "{size}");
    }
    host.wait_until("the devices are gone", || loops(&host).is_empty());
    assert_eq!(moved("image", "96M").code, 0);
    assert_eq!(image(&host, "web01").metadata().unwrap().len(), 96 << 20);
    assert!(conf().contains("DISKSPACE=\"98304:98304\""), "{}", conf());
    host.ok(["start", "web01"]);
    assert_eq!(host.exec("web01", "sha256sum /root/data"), sum);
    assert!((80_000..98_304).contains(&df(&host, "web01", "/")[0]));
    host.ok(["stop", "web01"]);
    // Where nothing counts, nothing is promised.
    let before = conf();
    moved("directory", "1G").failed(5, &["`--diskspace` cannot be enforced", "nothing was changed"]);
    assert!(image(&host, "web01").exists() && conf() == before);
    host.ok(["move", "web01", "--volume", "directory"]);
    host.ok(["start", "web01"]);
    assert_eq!(host.exec("web01", "sha256sum /root/data"), sum);
}

#[test]
#[cfg(debug_assertions)] // A release build has no fault points.
fn root_a_move_that_is_killed_is_done_or_not_begun() {
    let Some(host) = new_host() else { return };
    host.started("web01");
    host.exec("web01", WORST);
    let before = look(&host, "web01", "/");
    host.ok(["stop", "web01"]);
    let mut volume = "directory";
    for to in ["image", "directory"] {
        for (fault, is_done) in [("move/commit/before:kill", false), ("move/commit/after:kill", true)] {
            let ran = Ran::of(
                host.prlctl()
                    .env("REROOT_FAULT", fault)
                    .args(["move", "web01", "--volume", to])
                    .output()
                    .unwrap(),
            );
            assert_eq!(ran.code, 128 + 9, "{fault} was not passed\n{ran}");
            volume = if is_done { to } else { volume };
            host.ok(["start", "web01"]);
            assert_eq!(look(&host, "web01", "/"), before, "{fault} {to}");
            host.ok(["stop", "web01"]);
            assert_eq!(image(&host, "web01").exists(), volume == "image");
            // What it had copied so far, or left behind, is gone.
            let names = |below: &str| -> Vec<String> {
                let entries = std::fs::read_dir(host.area("web01").join(below)).unwrap().flatten();
                entries.map(|entry| entry.file_name().into_string().unwrap()).collect()
            };
            assert!(!names("").iter().any(|name| name.starts_with(".reroot-tmp")), "{:?}", names(""));
            assert_eq!(
                names("generations/1").contains(&"delta".to_owned()),
                volume == "directory",
                "{fault} {to}"
            );
        }
        let ran = Ran::of(
            host.prlctl()
                .env("REROOT_FAULT", "move/commit/before:error")
                .args(["move", "web01", "--volume", if to == "image" { "directory" } else { "image" }])
                .output()
                .unwrap(),
        );
        ran.failed(3, &["cannot move `web01`"]);
        assert_eq!(image(&host, "web01").exists(), volume == "image");
    }
    host.wait_until("the devices are gone", || loops(&host).is_empty());
}

/// What a killed move has left mounted is no place to move to, whoever keeps it busy.
#[test]
#[cfg(debug_assertions)]
fn root_a_move_is_to_the_disk_that_it_has_made() {
    let Some(host) = new_host() else { return };
    host.started("web01");
    host.exec("web01", WORST);
    let before = look(&host, "web01", "/");
    host.ok(["stop", "web01"]);
    let words = ["move", "web01", "--volume", "image"];
    let ran =
        Ran::of(host.prlctl().env("REROOT_FAULT", "move/commit/before:kill").args(words).output().unwrap());
    assert_eq!(ran.code, 128 + 9, "{ran}");
    let id = host.area("web01").file_name().unwrap().to_owned();
    let busy = std::fs::File::open(host.path("run/vz").join(id).join("volume")).unwrap();
    host.run(words).failed(41, &["in use by a process of the host", "nothing was changed"]);
    assert!(!image(&host, "web01").exists());
    host.ok(["start", "web01"]);
    assert_eq!(look(&host, "web01", "/"), before);
    host.ok(["stop", "web01"]);
    drop(busy);
    host.ok(words);
    host.ok(["start", "web01"]);
    assert_eq!(look(&host, "web01", "/"), before);
    assert!(df(&host, "web01", "/")[1] > 100);
}

#[test]
#[cfg(debug_assertions)]
fn root_a_creation_that_is_killed_leaves_no_disk() {
    let Some(host) = new_host() else { return };
    let words = ["create", "web01", "--ostemplate", "busybox", "--volume", "image", "--diskspace", "100M"];
    let ran = Ran::of(
        host.prlctl().env("REROOT_FAULT", "create/publish/before:kill").args(words).output().unwrap(),
    );
    assert_eq!(ran.code, 128 + 9, "{ran}");
    assert_eq!(loops(&host).len(), 1);
    host.ok(["recover"]);
    host.wait_until("the devices are gone", || loops(&host).is_empty());
    host.ok(words);
    let ran = Ran::of(
        host.prlctl()
            .env("REROOT_FAULT", "delete/discard/before:kill")
            .args(["delete", "web01"])
            .output()
            .unwrap(),
    );
    assert_eq!(ran.code, 128 + 9, "{ran}");
    // It is there, and whole.
    host.ok(["start", "web01"]);
    host.ok(["delete", "web01", "--force"]);
    host.wait_until("the devices are gone", || loops(&host).is_empty());
}

#[test]
fn root_everything_else_works_on_a_disk_of_its_own() {
    let Some(host) = new_host() else { return };
    on_image(&host, "web01", "150M");
    host.exec("web01", "echo one > /root/file; echo more >> /etc/passwd-; echo x > /srv/kept");
    let changed = host.ok(["generation-diff", "web01"]);
    assert!(changed.contains("/root/file"), "{changed}");
    host.exec("web01", "su -c id root");
    host.ok(["reinstall", "web01", "--keep", "/srv"]);
    assert_eq!(host.exec("web01", "cat /srv/kept /old/root/file"), "x\none");
    host.ok(["generation-restore", "web01", "1", "/root/file"]);
    assert_eq!(host.exec("web01", "cat /root/file"), "one");
    host.ok(["generation-flatten", "web01"]);
    assert_eq!(host.exec("web01", "cat /root/file /srv/kept"), "one\nx");
    let script = "#!/bin/sh\nset -e\ncp -a \"$OSTEMPLATE_ROOT\"/. \"$VE_PRIVATE_TMP\"/\necho by-script > \"$VE_PRIVATE_TMP\"/made\n";
    host.script("etc/vz/conf/vps.reinstall", script);
    host.ok(["reinstall", "web01"]);
    assert_eq!(host.exec("web01", "cat /made /old/srv/kept /old/old/root/file"), "by-script\nx\none");
    std::fs::remove_file(host.path("etc/vz/conf/vps.reinstall")).unwrap();
    // From inside, and from the host.
    host.reboots("web01");
    assert_eq!(host.exec("web01", "cat /made"), "by-script");
    host.ok(["stop", "web01"]);
    host.ok(["mount", "web01"]);
    let root = host.path("vz/root").join(host.area("web01").file_name().unwrap());
    assert_eq!(std::fs::read_to_string(root.join("made")).unwrap(), "by-script\n");
    host.ok(["umount", "web01"]);
    let listed = host.ok(["generation-list", "web01", "--all", "--size"]);
    assert!(listed.contains(" in "), "{listed}");
    host.ok(["reinstall", "web01", "--undo"]);
    host.wait_until("the devices are gone", || {
        host.ok(["status", "web01"]);
        host.run(["recover", "web01"]);
        loops(&host).is_empty()
    });
}

#[test]
fn root_a_disk_that_is_damaged_is_told_and_keeps_nobody_from_the_rest() {
    let Some(host) = new_host() else { return };
    on_image(&host, "web01", "300M");
    on_image(&host, "web02", "100M");
    host.exec("web01", "echo precious > /root/file");
    host.ok(["stop", "web01"]);
    host.run(["recover", "web01"]);
    host.wait_until("its device is gone", || loops(&host).len() == 1);
    let path = image(&host, "web01");
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    // Its first superblock and what describes its groups; the copies of them are whole.
    file.write_all_at(&[0xaa; 64 * 1024], 1024).unwrap();
    file.sync_all().unwrap();
    let ran = host.run(["start", "web01"]);
    ran.failed(50, &["the disk of `web01` cannot be mounted", "nothing was changed", "e2fsck -f"]);
    host.run(["reinstall", "web01"]).failed(50, &["e2fsck -f"]);
    assert!(host.ok(["list", "-a"]).contains("web01"));
    host.ok(["status", "web01"]);
    host.ok(["set", "web01", "--memsize", "256M"]);
    // What the hint says to type.
    let ran = Ran::of(std::process::Command::new("e2fsck").args(["-f", "-y"]).arg(&path).output().unwrap());
    assert!(ran.code <= 1, "{ran}");
    host.ok(["start", "web01"]);
    assert_eq!(host.exec("web01", "cat /root/file"), "precious");
    host.ok(["stop", "web01"]);
    host.run(["recover", "web01"]);
    host.wait_until("its device is gone", || loops(&host).len() == 1);
    // Somebody has put another's in its place.
    host.ok(["stop", "web02"]);
    std::fs::copy(image(&host, "web02"), &path).unwrap();
    host.run(["start", "web01"]).failed(85, &["it is the volume of another container"]);
    // One that is gone is no reason not to delete what is left.
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "").unwrap();
    host.run(["start", "web01"]).failed(50, &[]);
    host.ok(["delete", "web01"]);
}

#[test]
fn root_a_file_that_is_called_like_a_disk_costs_nothing() {
    let Some(host) = new_host() else { return };
    host.started("web01");
    host.exec("web01", "echo precious > /root/file");
    host.ok(["stop", "web01"]);
    let stray = image(&host, "web01");
    for text in ["", "no filesystem"] {
        std::fs::write(&stray, text).unwrap();
        host.run(["start", "web01"]).failed(50, &["cannot be mounted"]);
        host.run(["recover", "web01"]);
        host.run(["reinstall", "web01"]).failed(50, &[]);
        assert!(host.ok(["list", "-a"]).contains("web01"));
    }
    // Another's, whole.
    on_image(&host, "web02", "64M");
    host.ok(["stop", "web02"]);
    host.run(["recover", "web02"]);
    host.wait_until("its device is gone", || loops(&host).is_empty());
    std::fs::copy(image(&host, "web02"), &stray).unwrap();
    host.run(["start", "web01"]).failed(85, &["it is the volume of another container"]);
    host.run(["recover", "web01"]);
    std::fs::remove_file(&stray).unwrap();
    host.ok(["start", "web01"]);
    assert_eq!(host.exec("web01", "cat /root/file"), "precious");
}

#[test]
fn root_a_disk_that_cannot_be_is_refused() {
    let Some(host) = new_host() else { return };
    let create = |words: &[&str]| {
        host.run(["create", "web01", "--ostemplate", "busybox"].into_iter().chain(words.iter().copied()))
    };
    for (words, code, said) in [
        (&["--volume", "ploop"][..], 21, "directory, image"),
        (&["--volume", ""], 21, "directory, image"),
        (&["--volume", "image", "--diskspace", "1M"], 21, "wanted 32 MiB"),
        (&["--volume", "image", "--diskspace", "0"], 21, "wanted blocks of 1 KiB"),
        (&["--volume", "image", "--diskspace=-1"], 21, "wanted blocks of 1 KiB"),
        (&["--volume", "image", "--diskspace", "10GB"], 21, "wanted blocks of 1 KiB"),
        (&["--volume", "image", "--diskspace", "$(reboot)"], 21, "wanted blocks of 1 KiB"),
        (&["--volume", "image", "--diskspace", "17T"], 21, "16 TiB"),
        (&["--volume", "image", "--diskinodes", "many"], 21, "wanted a number of inodes"),
        (&["--diskspace", "10G"], 5, "nothing on this host counts"),
        (&["--diskinodes", "1000"], 5, "nothing on this host counts"),
    ] {
        create(words).failed(code, &[said, "nothing was changed"]);
    }
    // Of a sample it is told, and the container is made.
    host.write("etc/vz/conf/ve-small.conf-sample", "DISKSPACE=\"1048576:1048576\"\n", 0o644);
    let ran = create(&["--config", "small"]);
    assert!(ran.code == 0 && ran.stderr.contains("`DISKSPACE` is not enforced"), "{ran}");
    host.run(["set", "web01", "--diskspace", "1G"]).failed(5, &["prlctl move web01 --volume image"]);
    host.run(["compact", "web01"]).failed(5, &["lie on the host's filesystem"]);
    let obeyed = |name: &str| -> bool {
        let told: serde_json::Value = serde_json::from_str(&host.ok(["info", name, "-j"])).unwrap();
        let has = |list: &str| told[list].as_array().unwrap().iter().any(|key| key == "DISKSPACE");
        assert_ne!(has("obeyed"), has("not_obeyed"), "{told}");
        has("obeyed")
    };
    assert!(!obeyed("web01"));
    assert!(host.ok(["info", "web01"]).contains("prlctl move web01 --volume image"));
    // The host says which volume there is by default.
    host.write("etc/vz/vz.conf", "VOLUME=\"image\"\n", 0o644);
    host.ok(["create", "web02", "--ostemplate", "busybox", "--config", "small"]);
    assert_eq!(image(&host, "web02").metadata().unwrap().len(), 1 << 30);
    assert!(obeyed("web02"));
    host.run(["set", "web02", "--diskspace", "unlimited"]).failed(21, &["without an end"]);
    host.write("etc/vz/vz.conf", "VOLUME=\"floppy\"\n", 0o644);
    host.run(["create", "web03", "--ostemplate", "busybox"]).failed(21, &["VOLUME=floppy"]);
}

#[test]
fn root_where_there_is_no_loop_device_it_is_told_what_to_do() {
    let Some(host) = new_host() else { return };
    // In a mount namespace of its own, where what gives them is something else.
    let line = "mount --bind /dev/null /dev/loop-control && exec \"$0\" \"$@\"";
    let without = |words: &[&str]| {
        let mut command = std::process::Command::new("unshare");
        command.args(["--mount", "sh", "-c", line, env!("CARGO_BIN_EXE_prlctl")]).args(words);
        Ran::of(command.env("REROOT_PREFIX", host.prefix()).output().expect("unshare runs"))
    };
    let told = ["there is no loop device for", "state: nothing was changed", "modprobe loop", "losetup -a"];
    without(&["create", "web01", "--ostemplate", "busybox", "--volume", "image", "--diskspace", "64M"])
        .failed(50, &told);
    on_image(&host, "web01", "64M");
    host.ok(["stop", "web01"]);
    let point = host
        .prefix()
        .join("run/vz")
        .join(host.area("web01").file_name().expect("an area has a name"))
        .join("volume");
    if host.mounts().contains(&point) {
        rustix::mount::unmount(&point, rustix::mount::UnmountFlags::empty()).expect("nobody is in it");
    }
    without(&["start", "web01"]).failed(50, &told);
    host.ok(["start", "web01"]);
}
