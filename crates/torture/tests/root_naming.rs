//! Nothing of ours goes into a container's root by name: every system call that names a file is looked at while everything that there is is done to a
//! container.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use testkit::RealHost;
use torture::naming::naming;
use torture::trace::{self, Action, Stops, Victim};

/// The program is another crate's: built beside this test by `make test`, and by `cargo test --workspace`.
fn program() -> PathBuf {
    let test = std::env::current_exe().expect("a test has a path");
    let program = test.ancestors().nth(2).expect("it lies in the build directory").join("prlctl");
    assert!(program.exists(), "{} is not built: `cargo build --workspace` first", program.display());
    program
}

/// What a run of `command` has named, and how it has gone into roots by name.
fn watched(host: &RealHost, command: &mut Command, victim: Victim) -> (u64, BTreeSet<String>) {
    let scratch = host.prefix().join("scratch");
    std::fs::create_dir_all(&scratch).expect("make a directory");
    let mut found = BTreeSet::new();
    // What a command forks empties the trash, say; what a monitor forks becomes the container, and what that does it does inside.
    let stops = Stops { at: naming, in_forks: victim == Victim::Command };
    let run = trace::run_stopped(command, victim, stops, &scratch, &mut |seen| {
        if !seen.is_after() {
            found.extend(seen.enters_a_root(&host.prefix()));
        }
        Action::Go
    })
    .expect("trace a command");
    assert_eq!(run.exit, linux::Exit::Code(0), "{command:?}\n{}", run.said);
    (run.calls, found)
}

#[test]
fn root_no_command_goes_into_a_root_by_name() {
    // With templates of its own: one more is made.
    let Some(host) = RealHost::bare(&program().to_string_lossy()) else { return };
    assert!(host.vzpkg().args(["create", "cache", "busybox"]).status().expect("run vzpkg").success());
    host.started("web01");
    host.exec(
        "web01",
        "echo 'joe:x:1000:1000::/home/joe:/bin/sh' >>/etc/passwd; echo 'joe:x:1000:' >>/etc/group; mkdir -p /home/joe/.ssh /srv/a/b; \
         echo x >/srv/a/b/c; ln -s /srv/a /srv/l; echo k > /home/joe/.ssh/authorized_keys; rm /bin/false",
    );
    host.script("etc/vz/reinstall.d/10-a.sh", "#!/bin/sh\nexit 0\n");
    let built =
        "#!/bin/sh\nmkdir -p \"$VE_PRIVATE_TMP\" && cp -a \"$OSTEMPLATE_ROOT/.\" \"$VE_PRIVATE_TMP/\"\n";
    let mut all = BTreeSet::new();
    let mut of = |mut command: Command, words: &[&str]| {
        command.args(words);
        let (calls, found) = watched(&host, &mut command, Victim::Command);
        assert!(calls > 20, "{words:?}: only {calls} calls were seen");
        all.extend(found.into_iter().map(|call| format!("{}: {call}", words.join(" "))));
    };
    of(host.prlctl(), &["create", "golden", "--ostemplate", "busybox"]);
    of(host.vzpkg(), &["create", "cache", "golden", "--from", "container:golden"]);
    of(host.vzpkg(), &["update", "cache", "golden"]);
    of(host.vzpkg(), &["verify", "golden"]);
    of(host.vzpkg(), &["remove", "cache", "golden"]);
    let mut does = |words: &[&str]| of(host.prlctl(), words);
    let (keep, home) = (["--keep", "/srv/*", "--keep"], "home");
    does(&["create", "web02", "--ostemplate", "busybox"]);
    let area = testkit::old_area::layout_4(&host, "101", "NAME=\"old\"\n");
    let file = testkit::old_area::ext4(&host, "fs");
    let image = testkit::old_area::image(&std::fs::read(file).unwrap(), None, 2048, true);
    let disk = testkit::old_area::ploop(&host, "102", &[(testkit::old_area::BASE, "", image)]);
    does(&["register", &area.to_string_lossy()]);
    does(&["register", &disk.to_string_lossy(), "--name", "old2"]);
    does(&["delete", "102"]);
    does(&["delete", "old"]);
    does(&["exec", "web01", "true"]);
    does(&["set", "web01", "--numproc", "70", "--hostname", "other"]);
    let bound = host.path("bound");
    std::fs::create_dir(&bound).expect("make a directory");
    let bind = format!("{}:/srv/bound/deep", bound.display());
    does(&[
        "set",
        "web01",
        "--bindmount_add",
        &bind,
        "--device-add",
        "hdd",
        "--size",
        "64M",
        "--mnt",
        "/srv/disk",
    ]);
    does(&["set", "web01", "--device-set", "hdd1", "--mnt", "/srv/other"]);
    does(&["set", "web01", "--bindmount_del", "all", "--device-del", "hdd1", "--destroy-image"]);
    does(&["mount", "web01"]);
    does(&["umount", "web01"]);
    does(&["reinstall", "web01"]);
    does(
        &[&["reinstall", "web01"][..], &keep, &[home], &["--keep", "packages", "--health", "true"]].concat(),
    );
    does(&["reinstall", "web01", "--undo"]);
    does(&["generation-diff", "web01", "1"]);
    does(&["generation-restore", "web01", "1", "/srv/a", "--replace"]);
    does(&["generation-list", "web01", "--size"]);
    does(&["script-run", "web01", "10-a.sh", "--stop"]);
    does(&["stop", "web01"]);
    does(&["generation-restore", "web01", "1", "/srv/l"]);
    does(&["reinstall", "web01", "--keep-changed", "/srv", "--scripts-from-old"]);
    host.script("etc/vz/conf/vps.reinstall", built);
    does(&["reinstall", "web01", "--keep", "/srv", "--skipbackup"]);
    does(&["mount", "web01"]);
    does(&["start", "web01"]);
    does(&["generation-switch", "web01", "1"]);
    does(&["generation-delete", "web01", "2"]);
    does(&["recover"]);
    does(&["delete", "web02"]);
    does(&["delete", "web01", "--force"]);
    assert!(all.is_empty(), "{}", all.into_iter().collect::<Vec<_>>().join("\n"));
}

#[test]
fn root_no_monitor_goes_into_a_root_by_name() {
    let Some(host) = RealHost::new(&program().to_string_lossy()) else { return };
    host.ok(["create", "web01", "--ostemplate", "busybox"]);
    host.ok(["reinstall", "web01"]);
    let bound = host.path("bound");
    std::fs::create_dir(&bound).expect("make a directory");
    let bind = format!("{}:/srv/bound/deep", bound.display());
    host.ok([
        "set",
        "web01",
        "--bindmount_add",
        &bind,
        "--device-add",
        "hdd",
        "--size",
        "64M",
        "--mnt",
        "/srv/disk",
    ]);
    let mut command = host.prlctl();
    let (calls, found) = watched(&host, command.args(["start", "web01"]), Victim::Monitor);
    assert!(calls > 20, "only {calls} calls were seen");
    assert!(found.is_empty(), "{}", found.into_iter().collect::<Vec<_>>().join("\n"));
}
