//! `FEATURES` and `DEVNODES`: what each opens, and nothing beyond it.

use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use testkit::real_host::not_run_here;
use testkit::{Ran, RealHost};

const PROGRAM: &str = env!("CARGO_BIN_EXE_prlctl");

fn new_host() -> Option<RealHost> {
    RealHost::new(PROGRAM)
}

/// A block device of 1 MiB, gone with it.
struct Loop {
    name: String,
    file: PathBuf,
}

impl Loop {
    fn new(host: &RealHost) -> Loop {
        Loop::of(host.path("disk"))
    }

    fn of(file: PathBuf) -> Loop {
        let made = std::fs::File::create_new(&file).expect("make a file");
        made.set_len(1 << 20).expect("make room");
        made.write_all_at(b"of the host", 0).expect("write");
        let ran = Ran::of(
            Command::new("losetup").args(["--find", "--show"]).arg(&file).output().expect("run losetup"),
        );
        let name = ran.stdout.trim().strip_prefix("/dev/").expect("losetup tells the device").to_owned();
        Loop { name, file }
    }

    fn says(&self) -> String {
        let mut found = [0; 11];
        let file = std::fs::File::open(&self.file).expect("open the file");
        let device = std::fs::File::open(format!("/dev/{}", self.name)).expect("open the device");
        device.sync_all().expect("write out");
        file.read_exact_at(&mut found, 0).expect("read");
        String::from_utf8_lossy(&found).into_owned()
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["--detach", &format!("/dev/{}", self.name)]).status();
    }
}

#[test]
fn root_a_device_has_the_rights_that_were_given_and_no_others() {
    let Some(host) = new_host() else { return };
    let disk = Loop::new(&host);
    let node = format!("/dev/{}", disk.name);
    let given = |rights: &str| {
        host.ok(["set", "web01", "--devnodes", &format!("{}:{rights}", disk.name)]);
        host.run(["stop", "web01", "--kill"]);
        host.ok(["start", "web01"]);
    };
    let reads = || host.run(["exec", "web01", &format!("head -c 11 {node}")]).stdout == "of the host";
    let writes = |what: &str| {
        host.run(["exec", "web01", &format!("printf '{what}' | dd of={node} conv=notrunc,fsync 2>/dev/null")])
            .code
            == 0
    };
    host.ok(["create", "web01", "--ostemplate", "busybox"]);
    given("r");
    assert!(reads() && !writes("overwritten"));
    // Whoever is root in there cannot give himself more.
    for attack in
        [format!("chmod 666 {node}"), format!("chown 0:0 {node}"), format!("mount -o remount,rw {node}")]
    {
        let ran = host.run(["exec", "web01", &attack]);
        assert!(ran.code != 0, "{attack}: {ran}");
    }
    host.run(["exec", "web01", &format!("mknod /dev/own b 7 {}", &disk.name[4..])]);
    host.run(["exec", "web01", "dd if=/dev/zero of=/dev/own bs=512 count=1"]);
    assert!(!writes("overwritten") && disk.says() == "of the host");
    given("w");
    assert!(!reads() && writes("of the guts"));
    assert_eq!(disk.says(), "of the guts");
    given("rw");
    assert!(writes("of the host") && reads());
    assert_eq!(disk.says(), "of the host");
    assert!(host.ok(["list", "-i", "web01"]).contains(&format!("Devices: {}:rw", disk.name)));
    // Of the other ones it has none, and of this one no more when it is taken away.
    assert_eq!(host.exec("web01", "ls /dev | grep -c -E '^(loop|sd|vd|nvme)'"), "1");
    host.ok(["reinstall", "web01"]);
    assert!(reads(), "it is the container's, not the root's");
    given("none");
    assert_eq!(host.exec("web01", &format!("ls {node} 2>/dev/null || echo none")), "none");
}

#[test]
fn root_a_device_that_is_the_hosts_own_is_refused() {
    let Some(host) = new_host() else { return };
    host.ok(["create", "web01", "--ostemplate", "busybox"]);
    for (word, code, because) in [
        ("mem:r", 21, "the whole host"),
        ("port:rw", 21, "the whole host"),
        ("kmsg:r", 21, "the whole host"),
        ("mapper/control:rw", 21, "the whole host"),
        ("null:rw", 21, "has not anyway"),
        ("../etc/passwd:r", 21, "wanted `NAME:r`"),
        ("/dev/null:r", 21, "wanted `NAME:r`"),
        ("sda:rwm", 21, "wanted `NAME:r`"),
        ("sda", 21, "wanted `NAME:r`"),
        ("$(reboot):r", 21, "wanted `NAME:r`"),
        ("", 21, "wanted `NAME:"),
        ("nothing-like-that:r", 5, "is not there"),
    ] {
        host.run(["set", "web01", "--devnodes", word]).failed(code, &[because, "nothing was changed"]);
        host.run(["create", "web02", "--ostemplate", "busybox", "--devnodes", word]).failed(code, &[because]);
    }
    // One that somebody on the host has mounted.
    let disk = Loop::new(&host);
    let point = host.path("mounted");
    std::fs::create_dir(&point).unwrap();
    let run = |words: &[&str]| Ran::of(Command::new(words[0]).args(&words[1..]).output().unwrap());
    let device = format!("/dev/{}", disk.name);
    let (made, point) = (run(&["mkfs.ext4", "-q", &device]), point.to_str().unwrap().to_owned());
    assert_eq!(made.code, 0, "{made}");
    assert_eq!(run(&["mount", &device, &point]).code, 0);
    let word = format!("{}:r", disk.name);
    let ran = host.run(["set", "web01", "--devnodes", &word]);
    assert_eq!(run(&["umount", &point]).code, 0);
    ran.failed(5, &["is in use by the host", "nothing was changed"]);
    // Another: whoever started a container meanwhile, of another test, may have that mount still.
    let free = Loop::of(host.path("free"));
    let word = format!("{}:r", free.name);
    host.ok(["set", "web01", "--devnodes", &word]);
    // One that has gone keeps it from nothing.
    drop(free);
    let path = host.area("web01").join("ve.conf");
    let text = std::fs::read_to_string(&path).unwrap().replace(&word, "nothing-like-that:r");
    #[expect(clippy::disallowed_methods, reason = "a file of the host's, as an editor writes it")]
    std::fs::write(&path, text).unwrap();
    let ran = host.run(["start", "web01"]);
    assert!(ran.code == 0 && ran.stderr.contains("/dev/nothing-like-that is not there"), "{ran}");
}

#[test]
fn root_features_bring_their_nodes_and_are_told_when_they_cannot_be_had() {
    let Some(host) = new_host() else { return };
    host.ok(["create", "web01", "--ostemplate", "busybox"]);
    for (words, code, because) in [
        ("nfs:on", 5, "the kernel mounts NFS for no container"),
        ("time:on", 5, "the clock is the host's"),
        ("sit:off", 5, "every container has it"),
        ("frob:on", 21, "nesting, fuse, tun, ppp"),
        ("nesting", 21, "`NAME:on`"),
        ("nesting:on;reboot", 21, "`NAME:on`"),
        ("", 21, "wanted `NAME:"),
    ] {
        host.run(["set", "web01", "--features", words]).failed(code, &[because, "nothing was changed"]);
        host.run(["create", "web02", "--ostemplate", "busybox", "--features", words])
            .failed(code, &[because]);
    }
    // What another host has written is kept, and told.
    host.ok(["set", "web01", "--netfilter", "stateless"]);
    let path = host.area("web01").join("ve.conf");
    let text = std::fs::read_to_string(&path).unwrap() + "FEATURES=\"nfs:on frob:on\"\n";
    #[expect(clippy::disallowed_methods, reason = "a file of the host's, as an editor writes it")]
    std::fs::write(&path, text).unwrap();
    host.ok(["set", "web01", "--features", "sit:on"]);
    assert!(std::fs::read_to_string(&path).unwrap().contains("FEATURES=\"nfs:on frob:on sit:on\""));
    let info = host.ok(["info", "web01"]);
    for said in [
        "FEATURES: `nfs:on` is not obeyed: the kernel",
        "FEATURES: `frob:on` is not obeyed",
        "NETFILTER: `stateless` is not obeyed",
    ] {
        assert_eq!(info.matches(said).count(), 1, "{said}\n{info}");
    }
    host.ok(["start", "web01"]);
    let has = |path: &str| host.run(["exec", "web01", &format!("test -c {path}")]).code == 0;
    assert!(!has("/dev/fuse") && !has("/dev/net/tun"));
    for node in ["/dev/fuse", "/dev/net/tun"] {
        if !Path::new(node).exists() {
            return not_run_here(Path::new(PROGRAM), &format!("this host has no {node}"));
        }
    }
    let ran = host.run(["set", "web01", "--features", "fuse:on tun:on"]);
    assert!(ran.code == 0 && ran.stderr.contains("from its next start on"), "{ran}");
    assert!(!has("/dev/fuse") && !has("/dev/net/tun"));
    host.ok(["restart", "web01"]);
    assert!(has("/dev/fuse") && has("/dev/net/tun"));
    host.exec("web01", "exec 3<>/dev/net/tun 4<>/dev/fuse");
    // Of the next life, too, and of another root; and no more when it is off.
    host.ok(["reinstall", "web01"]);
    assert!(has("/dev/fuse") && has("/dev/net/tun"));
    host.ok(["set", "web01", "--features", "tun:off"]);
    host.ok(["restart", "web01"]);
    assert!(has("/dev/fuse") && !has("/dev/net/tun"));
}

/// A real Podman, in a Debian that has one; the image is a busybox of the host, since nobody can reach a registry.
#[test]
fn root_podman_runs_in_a_container_that_may_nest() {
    let Some(host) = RealHost::with_podman(PROGRAM) else { return };
    if !Path::new("/dev/fuse").exists() {
        return not_run_here(Path::new(PROGRAM), "this host has no /dev/fuse");
    }
    host.ok(["create", "web01", "--ostemplate", RealHost::PODMAN]);
    host.ok(["start", "web01", "--wait"]);
    let template = Ran::of(Command::new("sh").args(["-c", "command -v busybox"]).output().unwrap());
    let busybox = std::fs::File::open(template.stdout.trim())
        .expect("the host has a busybox, or there is no template of it");
    let given = host
        .prlctl()
        .args([
            "exec",
            "web01",
            "mkdir -p /root/image/bin && cat > /root/image/bin/busybox && chmod 755 /root/image/bin/busybox",
        ])
        .stdin(Stdio::from(busybox))
        .output();
    assert_eq!(Ran::of(given.unwrap()).code, 0);
    host.exec(
        "web01",
        "ln -s busybox /root/image/bin/sh; tar -C /root/image -c . | podman import -q - localhost/bb",
    );
    // On a host whose groups are of cgroup v1 a container has none for those in it.
    let podman = "podman run --rm --pids-limit=-1 --network=none localhost/bb /bin/sh -c 'echo hello; exec busybox id'";
    let ran = host.run(["exec", "web01", podman]);
    assert!(ran.code != 0 && ran.stderr.contains("fuse: device not found"), "without the feature: {ran}");
    host.ok(["set", "web01", "--features", "fuse:on"]);
    host.ok(["restart", "web01"]);
    host.wait_until("its journal is there", || {
        host.run(["exec", "web01", "test -S /run/systemd/journal/socket"]).code == 0
    });
    let ran = host.run(["exec", "web01", podman]);
    assert!(ran.code != 0 && ran.stderr.contains("create keyring"), "without keyrings: {ran}");
    host.ok(["set", "web01", "--features", "nesting:on fuse:off"]);
    host.ok(["stop", "web01"]);
    host.ok(["start", "web01", "--wait"]);
    assert_eq!(host.exec("web01", podman), "hello\nuid=0 gid=0");
    // By init's own filter, too, and not only that of what is executed.
    assert_eq!(
        host.exec("web01", &format!("systemd-run --quiet --wait --pipe {podman}")),
        "hello\nuid=0 gid=0"
    );
    // What is executed finds keys of the container, and none of whoever has typed the command.
    assert_eq!(
        host.exec("web01", "awk '$6 != 0' /proc/keys; grep -c _ses /proc/keys | sed 's/^[1-9].*/some/'"),
        "some"
    );
    // On a disk of its own it has the kernel's overlay instead, and its images in the next root.
    host.ok(["set", "web01", "--device-add", "hdd", "--size", "1G", "--mnt", "/var/lib/containers"]);
    host.exec("web01", "tar -C /root/image -c . | podman import -q - localhost/bb");
    assert_eq!(host.exec("web01", "podman info | grep -c 'Backing Filesystem: extfs'"), "1");
    host.ok(["reinstall", "web01"]);
    host.wait_until("its journal is there", || {
        host.run(["exec", "web01", "test -S /run/systemd/journal/socket"]).code == 0
    });
    assert_eq!(host.exec("web01", podman), "hello\nuid=0 gid=0");
}

/// A node in the host's `/dev`, of this test's own.
struct Node(std::path::PathBuf);

impl Node {
    fn new(what: &str, kind: rustix::fs::FileType, (major, minor): (u32, u32)) -> Node {
        let path = std::path::PathBuf::from(format!("/dev/reroot-test-{what}-{}", std::process::id()));
        let device = rustix::fs::makedev(major, minor);
        rustix::fs::mknodat(rustix::fs::CWD, &path, kind, rustix::fs::Mode::from_raw_mode(0o600), device)
            .expect("make a node");
        Node(path)
    }

    fn name(&self) -> String {
        self.0.file_name().expect("it has a name").to_string_lossy().into_owned()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Whatever they are called: the number counts.
#[test]
fn root_ways_past_a_filesystem_and_consoles_are_no_devices_of_a_container() {
    use rustix::fs::FileType::{BlockDevice, CharacterDevice};
    let Some(host) = new_host() else { return };
    host.ok(["create", "web01", "--ostemplate", "busybox"]);
    let nodes = [
        ("memory", CharacterDevice, (1, 1), "is the host itself"),
        ("sg", CharacterDevice, (21, 0), "is the host itself"),
        ("console", CharacterDevice, (4, 1), "is the host itself"),
        ("screen", CharacterDevice, (7, 1), "is the host itself"),
        ("raw", CharacterDevice, (162, 1), "is the host itself"),
        ("keyboard", CharacterDevice, (10, 223), "is the host itself"),
        // No file is behind it: which will be, nobody knows.
        ("loop", BlockDevice, (7, 1_000_003), "is a loop device without a file"),
    ];
    for (what, kind, number, because) in nodes {
        let node = Node::new(what, kind, number);
        for word in [format!("{}:rw", node.name()), format!("{}:r", node.name())] {
            host.run(["set", "web01", "--devnodes", &word])
                .failed(5, &[&node.name(), because, "nothing was changed"]);
        }
    }
    // A serial line is a device like others.
    let line = Node::new("line", CharacterDevice, (4, 64));
    host.ok(["set", "web01", "--devnodes", &format!("{}:rw", line.name())]);
}

/// `bsg`, `nvme` and their like have numbers of the day: the kernel tells what they are.
#[test]
fn root_a_way_to_a_disk_is_known_by_its_kind() {
    let Some(host) = new_host() else { return };
    host.ok(["create", "web01", "--ostemplate", "busybox"]);
    let ways: Vec<(u32, u32)> = std::fs::read_dir("/sys/dev/char")
        .unwrap()
        .flatten()
        .filter(|entry| {
            let kind = std::fs::read_link(entry.path().join("subsystem")).unwrap_or_default();
            ["bsg", "nvme", "nvme-generic", "scsi_generic"].iter().any(|one| kind.ends_with(one))
        })
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let (major, minor) = name.split_once(':')?;
            Some((major.parse().ok()?, minor.parse().ok()?))
        })
        .collect();
    if ways.is_empty() {
        let because = "this host has no bsg, nvme or sg device";
        return testkit::real_host::not_run_here(std::path::Path::new(env!("CARGO_BIN_EXE_prlctl")), because);
    }
    for number in ways {
        let node = Node::new(
            &format!("way-{}-{}", number.0, number.1),
            rustix::fs::FileType::CharacterDevice,
            number,
        );
        host.run(["set", "web01", "--devnodes", &format!("{}:rw", node.name())])
            .failed(5, &["is the host itself", "nothing was changed"]);
    }
}
