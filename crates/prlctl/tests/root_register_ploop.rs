//! `prlctl register` of roots that are on disks of ploop: images of Parallels, one or a chain of them.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use testkit::old_area::{BASE, ext4, image, place, ploop, root_at, with_gpt, write};
use testkit::{Ran, RealHost};

const LATER: &str = "11111111-2222-4333-8444-555555555555";
const ASIDE: &str = "99999999-2222-4333-8444-555555555555";
/// 1 MiB, as ploop has it.
const SECTORS: u32 = 2048;

fn host() -> Option<RealHost> {
    RealHost::new(env!("CARGO_BIN_EXE_prlctl"))
}

fn bytes(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    File::open(path).and_then(|mut file| file.read_to_end(&mut bytes)).expect("read a file");
    bytes
}

fn register(host: &RealHost, area: &Path, more: &[&str]) -> Ran {
    let mut words = vec!["register".to_owned(), area.display().to_string()];
    words.extend(more.iter().map(|word| (*word).to_owned()));
    host.run(words)
}

/// Neither a directory under a name or aside, nor a device of a copy.
fn nothing_is_left(host: &RealHost) {
    let private = std::fs::read_dir(host.path("vz/private")).expect("list the areas");
    let names: Vec<_> = private.map(|entry| entry.expect("list the areas").file_name()).collect();
    assert!(names.iter().all(|name| name == ".trash" || name == ".reserve"), "{names:?}");
    let prefix = host.prefix().display().to_string();
    host.wait_until("the device of the copy is gone", || {
        let devices = std::fs::read_dir("/sys/block").expect("list devices").flatten();
        devices
            .filter_map(|device| std::fs::read(device.path().join("loop/backing_file")).ok())
            .all(|file| !String::from_utf8_lossy(&file).starts_with(&prefix))
    });
}

/// What has been done in a filesystem, with what is mounted still mounted or not.
fn changed(filesystem: &Path, line: &str, is_closed: bool) -> Vec<u8> {
    let point = filesystem.with_extension("mounted");
    std::fs::create_dir_all(&point).expect("make a mount point");
    let run = |command: &mut Command| assert!(command.status().expect("run it").success(), "{command:?}");
    run(Command::new("mount").args(["-o", "loop"]).args([filesystem, &point]));
    run(Command::new("sh").args(["-c", line]).current_dir(&point));
    run(Command::new("sync").arg("-f").arg(&point));
    let while_mounted = bytes(filesystem);
    run(Command::new("umount").arg(&point));
    if is_closed { bytes(filesystem) } else { while_mounted }
}

fn check_root(host: &RealHost, name: &str) {
    host.ok(["start", name]);
    let facts = "stat -c '%a %u:%g %h %n' /root/file; cat /srv/deep/hard; readlink /srv/deep/er/link; stat -c '%s %F %n' /srv/hole /srv/fifo; \
                 tail -c +33554433 /srv/hole | head -c 3; stat -c ' %Y' /srv/deep; cat /etc/machine-id";
    assert_eq!(
        host.exec(name, facts),
        "4750 1000:1001 2 /root/file\nmine\n/etc/shadow\n67108864 regular file /srv/hole\n0 fifo /srv/fifo\nend 1262304000\n0123456789abcdef0123456789abcdef"
    );
    let delta = host.area(name).join("generations/1/delta");
    let attribute = |file: &str, name: &str| {
        let mut value = vec![0; 100];
        let length = rustix::fs::getxattr(delta.join(file), name, &mut value[..]).unwrap_or(0);
        value.truncate(length);
        value
    };
    assert_eq!(attribute("srv/old", "user.note"), b"kept");
    assert_eq!(attribute("root/ping", "security.capability").len(), 20);
}

#[test]
fn root_a_disk_of_qemu_img_becomes_a_container_with_a_partition_and_without() {
    let Some(host) = host() else { return };
    if Command::new("qemu-img").arg("--version").output().is_err() {
        testkit::real_host::not_run_here(
            Path::new(env!("CARGO_BIN_EXE_prlctl")),
            "no qemu-img: apt-get install qemu-utils",
        );
        return;
    }
    let filesystem = ext4(&host, "fs");
    for (number, disk) in [("101", bytes(&filesystem)), ("102", with_gpt(&bytes(&filesystem)))] {
        let (raw, made) = (place(&host).join("raw"), place(&host).join("made"));
        write(&raw, &disk);
        let words = ["convert", "-f", "raw", "-O", "parallels"];
        assert!(Command::new("qemu-img").args(words).args([&raw, &made]).status().unwrap().success());
        let area = ploop(&host, number, &[(BASE, "", bytes(&made))]);
        let before = bytes(&area.join("root.hdd").join(format!("root.hdd.{BASE}")));
        let ran = register(&host, &area, &["--name", &format!("ct{number}")]);
        assert_eq!(ran.code, 0, "{ran}");
        assert_eq!(bytes(&area.join("root.hdd").join(format!("root.hdd.{BASE}"))), before);
        assert!(!ran.stderr.contains("mended"), "{ran}");
        check_root(&host, number);
        assert!(host.area(number).ends_with(host.area(&format!("ct{number}")).file_name().unwrap()));
        host.ok(["delete", number, "--force"]);
    }
    nothing_is_left(&host);
}

#[test]
fn root_of_a_chain_of_snapshots_the_present_state_comes_along() {
    let Some(host) = host() else { return };
    let filesystem = ext4(&host, "fs");
    let base = bytes(&filesystem);
    let aside = changed(&filesystem, "echo aside > root/aside", true);
    write(&filesystem, &base);
    let later = changed(&filesystem, "echo later > root/later; rm srv/old; echo more >> root/file", true);
    let over = |disk: &[u8]| image(disk, Some(&base), SECTORS, true);
    let images = [
        (BASE, "", image(&base, None, SECTORS, false)),
        (ASIDE, BASE, over(&aside)),
        (LATER, BASE, over(&later)),
    ];
    // The chain is shorter than the disk by far.
    assert!(images[2].2.len() < base.len() / 2, "{}", images[2].2.len());
    let area = ploop(&host, "103", &images);
    let ran = register(&host, &area, &[]);
    assert_eq!(ran.code, 0, "{ran}");
    assert!(ran.stderr.contains("snapshots do not come along: 1 images"), "{ran}");
    host.ok(["start", "103"]);
    let said =
        host.exec("103", "cat /root/later /srv/deep/hard; ls /root/aside /srv/old 2>/dev/null | wc -l");
    assert_eq!(said, "later\nmine\nmore\n0");
}

#[test]
fn root_a_disk_that_was_not_closed_is_taken_by_force_and_its_journal_replayed_in_the_copy() {
    let Some(host) = host() else { return };
    let filesystem = ext4(&host, "fs");
    let open = changed(&filesystem, "echo last > root/last", false);
    let mut image = image(&with_gpt(&open), None, SECTORS, true);
    image[44..48].copy_from_slice(&0x746f_6e59_u32.to_le_bytes());
    let area = ploop(&host, "104", &[(BASE, "", image)]);
    register(&host, &area, &[]).failed(41, &["is in use", "its host has died", "--force"]);
    nothing_is_left(&host);
    let before = bytes(&area.join("root.hdd").join(format!("root.hdd.{BASE}")));
    let ran = register(&host, &area, &["--force"]);
    assert_eq!(ran.code, 0, "{ran}");
    assert!(ran.stderr.contains("it was mended in the copy"), "{ran}");
    assert_eq!(bytes(&area.join("root.hdd").join(format!("root.hdd.{BASE}"))), before);
    host.ok(["start", "104"]);
    assert_eq!(host.exec("104", "cat /root/last /root/file"), "last\nmine");
}

#[test]
fn root_a_disk_that_cannot_be_read_leaves_nothing() {
    let Some(host) = host() else { return };
    let good = bytes(&ext4(&host, "fs"));
    let whole = |disk: &[u8]| image(disk, None, SECTORS, true);
    let area = |number: &str, images: &[(&str, &str, Vec<u8>)]| ploop(&host, number, images);
    let refused = |area: PathBuf, code: i32, said: &[&str]| {
        register(&host, &area, &[]).failed(code, said);
        nothing_is_left(&host);
    };
    refused(area("110", &[]), 21, &["DiskDescriptor.xml", "there is no image"]);
    refused(area("111", &[(LATER, BASE, whole(&good))]), 21, &["there is no image 5fbaabe3"]);
    refused(area("112", &[(BASE, "", good.clone())]), 21, &["does not begin like one"]);
    refused(area("113", &[(BASE, "", whole(&vec![7; 4 << 20]))]), 21, &["without an ext4 or xfs"]);
    let mut cut = whole(&good);
    cut.truncate(cut.len() - (2 << 20));
    refused(area("114", &[(BASE, "", cut)]), 21, &["damaged"]);

    // It says that it is an ext4, and nothing else of it is.
    let mut garbage = vec![0x5a; 8 << 20];
    garbage[1080..1082].copy_from_slice(&[0x53, 0xef]);
    refused(
        area("115", &[(BASE, "", whole(&garbage))]),
        21,
        &["its root cannot be read", "e2fsck` ended with"],
    );

    // Whole, and in use.
    let used = area("116", &[(BASE, "", whole(&good))]);
    let file = used.join("root.hdd").join(format!("root.hdd.{BASE}"));
    let output = Command::new("losetup").args(["-f", "--show"]).arg(&file).output().unwrap();
    let device = String::from_utf8(output.stdout).unwrap().trim().to_owned();
    register(&host, &used, &[]).failed(41, &["is in use", &format!("the device {device} is made of it")]);
    assert!(Command::new("losetup").args(["-d", &device]).status().unwrap().success());
    host.wait_until("it is detached", || {
        !Path::new("/sys/block").join(device.trim_start_matches("/dev/")).join("loop").exists()
    });

    // No init in it.
    let filesystem = place(&host).join("fs");
    let bare = changed(&filesystem, "rm -f sbin/init bin/init init usr/sbin/init", true);
    refused(area("117", &[(BASE, "", whole(&bare))]), 47, &["it has no init"]);

    #[cfg(debug_assertions)]
    for what in ["kill", "error", "interrupt"] {
        let mut command = host.prlctl();
        command
            .env("REROOT_FAULT", format!("register/sync/before:{what}"))
            .args(["register".into(), used.clone()]);
        let ran = Ran::of(command.output().unwrap());
        assert_ne!(ran.code, 0, "{ran}");
        host.ok(["recover"]);
        nothing_is_left(&host);
    }

    // One that is written to while it is copied.
    #[cfg(debug_assertions)]
    {
        let mut command = host.prlctl();
        command.env("REROOT_FAULT", "register/sync/before:stop").args(["register".into(), used.clone()]);
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        let child = command.spawn().unwrap();
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::UNTRACED).unwrap();
        File::options().write(true).open(&file).unwrap().write_all_at(&[1], 1 << 20).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::CONT).unwrap();
        let ran = Ran::of(child.wait_with_output().unwrap());
        ran.failed(41, &["it was changed while it was copied"]);
        nothing_is_left(&host);
    }
}

#[test]
fn root_an_xfs_that_was_not_closed_has_its_journal_replayed_by_the_kernel() {
    let Some(host) = host() else { return };
    let (root, filesystem) = (place(&host).join("root"), place(&host).join("xfs"));
    root_at(&host, &root);
    File::create(&filesystem).unwrap().set_len(320 << 20).unwrap();
    let made = Command::new("mkfs.xfs").arg("-q").arg(&filesystem).status();
    if !made.is_ok_and(|status| status.success()) {
        testkit::real_host::not_run_here(
            Path::new(env!("CARGO_BIN_EXE_prlctl")),
            "no mkfs.xfs: apt-get install xfsprogs",
        );
        return;
    }
    changed(&filesystem, &format!("cp -a '{}/.' .", root.display()), true);
    let open = changed(&filesystem, "echo last > root/last", false);
    let area = ploop(&host, "105", &[(BASE, "", image(&open, None, SECTORS, true))]);
    let ran = register(&host, &area, &[]);
    assert_eq!(ran.code, 0, "{ran}");
    check_root(&host, "105");
    assert_eq!(host.exec("105", "cat /root/last"), "last");
}
