//! What no two containers may share, though they come from one template.

#![expect(clippy::disallowed_methods, reason = "the templates are the test's own")]

use std::path::Path;
use std::process::Command;

use testkit::{Ran, RealHost, TarMaker};

const PROGRAM: &str = env!("CARGO_BIN_EXE_prlctl");

const SECRETS: [(&str, &str); 7] = [
    ("etc/machine-id", "00000000000000000000000000000000\n"),
    ("var/lib/dbus/machine-id", "00000000000000000000000000000000\n"),
    ("etc/ssh/ssh_host_rsa_key", "the template's\n"),
    ("etc/ssh/ssh_host_rsa_key.pub", "the template's\n"),
    ("var/lib/systemd/random-seed", "the template's\n"),
    ("var/lib/systemd/credential.secret", "the template's\n"),
    ("etc/ssh/sshd_config", "# everybody's\n"),
];
const CRONTAB: &str = "17 *\t* * *\troot\trun-parts /etc/cron.hourly\n25 6\t* * *\troot\trun-parts /etc/cron.daily\n1 2 * * * root own\n";

fn import(host: &RealHost, name: &str, maker: TarMaker) -> Ran {
    let archive = host.path(&format!("{name}.tar"));
    std::fs::write(&archive, maker.finish()).expect("write an archive");
    let made =
        host.vzpkg().args(["create", "cache", name, "--from"]).arg(&archive).output().expect("run vzpkg");
    let ran = Ran::of(made);
    assert_eq!(ran.code, 0, "{ran}");
    ran
}

/// A host with a template that somebody has made of a machine of his.
fn scene() -> Option<RealHost> {
    let host = RealHost::bare(PROGRAM)?;
    let mut maker = TarMaker::root();
    for below in ["etc", "etc/ssh", "var", "var/lib", "var/lib/dbus", "var/lib/systemd"] {
        maker = maker.directory(below);
    }
    for (path, text) in SECRETS {
        maker = maker.file(path, text.as_bytes());
    }
    let maker = maker
        .file("etc/crontab", CRONTAB.as_bytes())
        .file("etc/passwd", b"root:x:0:0::/root:/bin/sh\n")
        .file("etc/shadow", b"root:$6$everybody$knows:19000:0:99999:7:::\ndaemon:*:19000::::::\n");
    let ran = import(&host, "machine", maker);
    assert!(ran.stderr.contains("no container gets them; each gets a new one"), "{ran}");
    Some(host)
}

fn read(host: &RealHost, name: &str, below: &str) -> Option<String> {
    std::fs::read(host.area(name).join("live/delta").join(below))
        .ok()
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// Everything that has to be another one, as the container's own layer has it.
fn own(host: &RealHost, name: &str) -> Vec<Option<String>> {
    [
        "etc/machine-id",
        "etc/ssh/ssh_host_ed25519_key",
        "etc/ssh/ssh_host_ed25519_key.pub",
        "var/lib/systemd/random-seed",
    ]
    .map(|below| read(host, name, below))
    .to_vec()
}

fn is_gone(host: &RealHost, name: &str, below: &str) -> bool {
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    let found = host.area(name).join("live/delta").join(below).symlink_metadata().expect("it is hidden");
    found.file_type().is_char_device() && found.rdev() == 0
}

fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().expect("it is there").permissions().mode() & 0o7777
}

#[test]
fn root_containers_of_one_template_share_no_secret() {
    let Some(host) = scene() else { return };
    // By their ids, of which the minutes are, too: by others they could be the same, once in 3,600 times.
    let (first, second) = ("6a1c5e0e-93cb-4b0a-8d57-0d4a5a1f0c11", "0f3e2d1c-5b6a-4c7d-9e8f-1a2b3c4d5e6f");
    let created = host.run(["create", "one", "--ostemplate", "machine", "--uuid", first]);
    assert!(created.code == 0, "{created}");
    for words in ["an SSH host key of its own", "root cannot log in"] {
        assert!(created.stdout.contains(words) || created.stderr.contains(words), "{created}");
    }
    host.ok(["create", "two", "--ostemplate", "machine", "--uuid", second]);
    for (one, two) in own(&host, "one").iter().zip(own(&host, "two")) {
        assert!(one.is_some() && *one != two, "{one:?} {two:?}");
    }
    for name in ["one", "two"] {
        assert_eq!(read(&host, name, "var/lib/dbus/machine-id"), read(&host, name, "etc/machine-id"));
        for below in
            ["etc/ssh/ssh_host_rsa_key", "etc/ssh/ssh_host_rsa_key.pub", "var/lib/systemd/credential.secret"]
        {
            assert!(is_gone(&host, name, below), "{below}");
        }
        let config = read(&host, name, "etc/ssh/sshd_config");
        assert_eq!(config, None, "what is nobody's secret stays the template's");
        let shadow = read(&host, name, "etc/shadow").expect("it is changed");
        assert!(shadow.starts_with("root:*:19000:") && shadow.contains("daemon:*:"), "{shadow}");
        let crontab = read(&host, name, "etc/crontab").expect("it is changed");
        assert!(
            crontab.ends_with("1 2 * * * root own\n") && crontab.contains(" 6\t* * *\troot\trun-parts"),
            "{crontab}"
        );
    }
    assert_ne!(read(&host, "one", "etc/crontab"), read(&host, "two", "etc/crontab"));
    // A public tool takes the key for one, and the public one for its other half.
    let private = host.area("one").join("live/delta/etc/ssh/ssh_host_ed25519_key");
    assert_eq!(mode(&private), 0o600);
    match Command::new("ssh-keygen").arg("-yf").arg(&private).output() {
        Ok(said) => {
            assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
            let public = read(&host, "one", "etc/ssh/ssh_host_ed25519_key.pub");
            assert_eq!(public, Some(String::from_utf8_lossy(&said.stdout).into_owned()));
        }
        Err(_) => testkit::real_host::not_run_here(Path::new(PROGRAM), "there is no ssh-keygen"),
    }
}

#[test]
fn root_a_reinstall_makes_all_of_it_anew_but_what_is_kept() {
    let Some(host) = scene() else { return };
    host.ok(["create", "one", "--ostemplate", "machine"]);
    let (first, crontab) = (own(&host, "one"), read(&host, "one", "etc/crontab"));
    host.ok(["reinstall", "one", "--resetpwdb"]);
    for (old, new) in first.iter().zip(own(&host, "one")) {
        assert!(new.is_some() && *old != new, "{old:?}");
    }
    assert_eq!(read(&host, "one", "etc/crontab"), crontab, "a container's minutes stay");
    assert!(read(&host, "one", "etc/shadow").expect("it is changed").starts_with("root:*:"), "locked");
    let second = own(&host, "one");
    let ran = host.run([
        "reinstall",
        "one",
        "--keep",
        "ssh-host-keys",
        "--keep",
        "machine-id",
        "--keep",
        "/etc/crontab",
    ]);
    assert!(ran.code == 0 && !ran.to_string().contains("template-new"), "{ran}");
    let third = own(&host, "one");
    assert_eq!(second[..3], third[..3], "kept");
    assert_ne!(second[3], third[3], "the seed is not");
    assert!(!host.area("one").join("live/delta/etc/ssh/ssh_host_ed25519_key.template-new").exists());
}

/// A template that puts something else in the way does no harm, and is told of where a secret stays.
#[test]
fn root_a_template_with_odd_things_in_the_way_is_used_all_the_same() {
    let Some(host) = RealHost::bare(PROGRAM) else { return };
    let maker = TarMaker::root()
        .directory("etc")
        .directory("etc/ssh")
        .directory("etc/ssh/ssh_host_dsa_key")
        .link(b'2', "etc/ssh/ssh_host_ed25519_key", "/etc/passwd")
        .link(b'2', "etc/crontab", "/proc/self/environ")
        .link(b'2', "etc/shadow", "../../../../etc/shadow")
        .file("etc/passwd", b"root::0:0::/root:/bin/sh\n");
    import(&host, "odd", maker);
    let before = std::fs::read("/etc/shadow").expect("read the host's");
    let created = host.run(["create", "one", "--ostemplate", "odd"]);
    assert_eq!(created.code, 0, "{created}");
    let said = created.stdout + &created.stderr;
    assert!(said.contains("/etc/crontab is as the template has it"), "{said}");
    assert!(said.contains("/etc/shadow is as the template has it"), "{said}");
    let key = read(&host, "one", "etc/ssh/ssh_host_ed25519_key").expect("a new one");
    assert!(key.contains("OPENSSH PRIVATE KEY"), "{key}");
    assert_eq!(std::fs::read("/etc/shadow").expect("read the host's"), before);
}
