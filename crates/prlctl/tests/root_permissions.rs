//! What a local user of the host sees of its containers: nothing.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use testkit::{Ran, RealHost};

/// Somebody who owns nothing here.
const NOBODY: u32 = 65_534;
const NAME: &str = "tenant-of-ours";

/// Everything that a container comes by, done by a caller with that umask.
fn lived_through(umask: &str) -> Option<RealHost> {
    let host = RealHost::new(env!("CARGO_BIN_EXE_prlctl"))?;
    host.script("etc/vz/conf/vps.configure", "#!/bin/sh\necho configured\n");
    // A reinstall that is undone leaves a root, too.
    host.script("etc/vz/reinstall.d/10-a.sh", "#!/bin/sh\nexit 0\n");
    let words: &[&[&str]] = &[
        &["create", NAME, "--ostemplate", "busybox"],
        &["start", NAME],
        &[
            "exec",
            NAME,
            "umask 0; echo secret > /srv/secret; mkdir /srv/open; cp /bin/busybox /srv/shell; chmod 6777 /srv/shell",
        ],
        &["reinstall", NAME, "--keep", "/srv"],
        &["script-run", NAME, "vps.configure", "--stop"],
        &["generation-restore", NAME, "1", "/srv/secret", "--to", "/srv/again"],
        &["mount", NAME],
        &["log", NAME],
        &["list", "-a"],
    ];
    for line in words {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("umask {umask}; exec \"$@\""), "sh", env!("CARGO_BIN_EXE_prlctl")]);
        command.args(*line).env("REROOT_PREFIX", host.prefix());
        let ran = Ran::of(command.output().expect("run a shell"));
        assert_eq!(ran.code, 0, "{line:?}\n{ran}");
    }
    Some(host)
}

/// What somebody who is not root gets out of a shell line in the prefix.
fn as_nobody(host: &RealHost, line: &str) -> String {
    let mut command = Command::new("setpriv");
    let id = NOBODY.to_string();
    command.args(["--reuid", &id, "--regid", &id, "--clear-groups", "sh", "-c", line]);
    let output = command.current_dir(host.prefix()).output().expect("run setpriv");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn root_a_local_user_sees_no_file_name_or_log_of_a_container_whatever_the_umask_of_the_caller() {
    for umask in ["0000", "0077"] {
        let Some(host) = lived_through(umask) else { return };
        let area = host.area(NAME);
        let uuid = area.file_name().expect("it has a name").to_string_lossy().into_owned();
        let seen = as_nobody(&host, "find . 2>/dev/null");
        // He does look: the scripts of the host are no secret, and where things are is known.
        assert!(seen.contains("./etc/vz/reinstall.d/10-a.sh") && seen.contains("./vz/private\n"), "{seen}");
        for closed in
            ["./vz/private/", "./vz/template/", "./vz/root/", "./run/vz/", "./var/log/vz/", NAME, &uuid]
        {
            assert!(!seen.contains(closed), "umask {umask}: he sees {closed}\n{seen}");
        }
        // Nor by a name that he guesses.
        for guessed in [
            format!("vz/private/{uuid}/ve.conf"),
            format!("vz/private/{uuid}/generations/1/delta/srv/secret"),
            format!("vz/private/{uuid}/generations/1/delta/srv/shell"),
            format!("vz/root/{uuid}/srv/secret"),
            format!("etc/vz/names/{NAME}"),
            format!("run/vz/{uuid}"),
            format!("var/log/vz/operations/{uuid}"),
        ] {
            assert!(host.path(&guessed).symlink_metadata().is_ok(), "{guessed} is there");
            let line = format!("cat {guessed}; ls -d {guessed}; [ -e {guessed} ] && echo there");
            assert_eq!(as_nobody(&host, &line), "", "umask {umask}: {guessed}");
        }
        // Nor can he leave anything.
        let line = "for d in $(find . -type d 2>/dev/null); do : >$d/planted && echo $d; done 2>/dev/null";
        assert_eq!(as_nobody(&host, line), "", "umask {umask}");
    }
}

#[test]
fn root_what_is_written_beside_containers_is_roots_alone_whatever_the_umask_of_the_caller() {
    for umask in ["0000", "0077"] {
        let Some(host) = lived_through(umask) else { return };
        let mut looked_at = 0;
        let mut todo: Vec<PathBuf> =
            ["vz", "run", "var", "etc"].iter().map(|below| host.path(below)).collect();
        while let Some(directory) = todo.pop() {
            for entry in std::fs::read_dir(&directory).expect("list a directory").flatten() {
                let path = entry.path();
                let below = path.strip_prefix(host.prefix()).expect("it is below").to_owned();
                if is_of_a_root(&below) {
                    continue;
                }
                let facts = path.symlink_metadata().expect("look at it");
                assert_eq!((facts.uid(), facts.gid()), (0, 0), "{}", below.display());
                let mode = facts.permissions().mode() & 0o7777;
                assert!(facts.is_symlink() || mode & 0o022 == 0, "{} has {mode:o}", below.display());
                looked_at += 1;
                if facts.is_dir() {
                    todo.push(path);
                }
            }
        }
        assert!(looked_at > 40, "{looked_at}");
        for closed in
            ["vz/private", "vz/template", "vz/root", "run/vz", "var/log/vz", "etc/vz/names", "etc/vz/conf"]
        {
            let mode = host.path(closed).metadata().expect("it is there").permissions().mode();
            assert_eq!(mode & 0o7777, 0o700, "{closed}");
        }
    }
}

/// What lies in a root has the owner and mode that somebody in the container gave it.
fn is_of_a_root(below: &Path) -> bool {
    let words: Vec<&str> = below.iter().filter_map(|word| word.to_str()).collect();
    words.iter().any(|word| ["delta", "work", "rootfs"].contains(word))
        || words.starts_with(&["run", "vz"])
            && words.iter().any(|word| ["generations", "host"].contains(word))
        || words.starts_with(&["vz", "root"]) && words.len() > 2
}

#[test]
fn root_a_monitor_that_everybody_sees_among_the_processes_does_not_say_of_whom_it_is() {
    let Some(host) = RealHost::new(env!("CARGO_BIN_EXE_prlctl")) else { return };
    host.started(NAME);
    let uuid = host.area(NAME).file_name().expect("it has a name").to_string_lossy().into_owned();
    let text = std::fs::read(host.path("run/vz").join(&uuid).join("state.json")).expect("read its state");
    let state: serde_json::Value = serde_json::from_slice(&text).expect("a state is JSON");
    let monitor = state["monitor"]["pid"].as_i64().expect("it has a monitor");
    let of = |what: &str| {
        let text = std::fs::read(format!("/proc/{monitor}/{what}")).expect("it lives");
        String::from_utf8_lossy(&text).into_owned()
    };
    assert!(of("cmdline").starts_with("reroot-monitor"), "{}", of("cmdline"));
    assert!(!of("cmdline").contains(NAME) && !of("environ").contains(NAME), "{}", of("cmdline"));
}
