//! `vps.reinstall`, the script of the host that makes the new root: each line of its contract.

#![expect(clippy::disallowed_methods, reason = "the trees of these tests are their own")]

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Stdio;

use testkit::{Ran, RealHost};

const REINSTALL: &str = "etc/vz/conf/vps.reinstall";
const CONFIGURE: &str = "etc/vz/conf/vps.configure";
/// Makes what the default reinstall would.
const COPY: &str =
    "#!/bin/sh\nset -e\nmkdir -p \"$VE_PRIVATE_TMP\"\ncp -a \"$OSTEMPLATE_ROOT/.\" \"$VE_PRIVATE_TMP/\"\n";

fn new() -> Option<RealHost> {
    RealHost::new(env!("CARGO_BIN_EXE_prlctl"))
}

/// A host with a running container `web01` whose root has a marker.
fn with_container() -> Option<RealHost> {
    let host = new()?;
    host.started("web01");
    host.exec("web01", "echo old > /root/marker; chown 33:33 /root/marker; chmod 640 /root/marker");
    Some(host)
}

fn uuid(host: &RealHost) -> String {
    host.area("web01").file_name().expect("an area has a name").to_string_lossy().into_owned()
}

fn roots(host: &RealHost) -> String {
    host.ok(["generation-list", "web01", "-H"])
}

/// What a refused or failed reinstall must not change.
fn facts(host: &RealHost) -> (String, String, String) {
    let conf = std::fs::read_to_string(host.area("web01").join("ve.conf")).expect("read ve.conf");
    (roots(host), host.ok(["status", "web01"]), conf)
}

#[track_caller]
fn refused(host: &RealHost, words: &[&str], code: i32, said: &[&str]) {
    let before = facts(host);
    let ran = host.run(words);
    ran.failed(code, said);
    assert!(ran.stderr.contains("\n  state: "), "{ran}");
    assert!(ran.stderr.contains("\n  hint: "), "{ran}");
    assert_eq!(facts(host), before, "nothing is changed\n{ran}");
    assert!(!host.area("web01").join("operation.json").exists());
    assert_eq!(host.exec("web01", "cat /root/marker"), "old");
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn is_alive(pid: &str) -> bool {
    // A zombie is none.
    std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).is_ok_and(|stat| !stat.contains(") Z "))
}

#[test]
fn root_vps_reinstall_gets_its_arguments_its_environment_and_nothing_else() {
    let Some(host) = with_container() else { return };
    let record = host.path("record");
    host.script(
        REINSTALL,
        &format!(
            "{COPY}{{ echo \"arguments: $*\"; tr '\\0' '\\n' </proc/$$/environ | sort; echo \"cwd: $(pwd)\"; \
             echo \"stdin: $(readlink /proc/$$/fd/0)\"; echo open:; for one in /proc/$$/fd/*; do readlink $one || :; done; }} >{}\n",
            record.display()
        ),
    );
    host.ok(["reinstall", "web01"]);
    let (area, uuid) = (host.area("web01"), uuid(&host));
    let template = std::fs::canonicalize(host.path("vz/template/busybox/latest")).unwrap().join("rootfs");
    let new = area.join("generations/2/delta");
    let expected = format!(
        "arguments: --veid {uuid} --ve_private_tmp {new} --ve_private {private}\n\
         HOME=/\nOSTEMPLATE_ROOT={template}\nPATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nSHELL=/bin/bash\n\
         VEID={uuid}\nVE_CONFFILE={conf}\nVE_PRIVATE={private}\nVE_PRIVATE_TMP={new}\nVE_ROOT={root}\ncwd: /\nstdin: /dev/null\n",
        new = new.display(),
        private = area.join("root").display(),
        template = template.display(),
        conf = host.path(&format!("etc/vz/conf/{uuid}.conf")).display(),
        root = host.path(&format!("vz/root/{uuid}")).display(),
    );
    let recorded = read(&record);
    let (recorded, open) = recorded.split_once("open:\n").expect("its descriptors were recorded");
    assert_eq!(recorded, expected);
    // Its own streams and the script itself, by whatever numbers: no lock, no directory, no socket.
    let script = host.path(REINSTALL).display().to_string();
    for one in open.lines() {
        let is_own = one == "/dev/null"
            || one == script
            || one == record.to_string_lossy()
            || one.starts_with("pipe:");
        assert!(is_own, "{one} is open\n{open}");
    }
    assert!(host.path(&format!("etc/vz/conf/{uuid}.conf")).exists());

    // The same path at the next reinstall, and what is there is the new root.
    host.exec("web01", "echo second > /root/marker");
    host.script(
        REINSTALL,
        &format!(
            "{COPY}echo \"$VE_PRIVATE\" >{0}\ncat \"$VE_PRIVATE/root/marker\" >>{0}\n",
            record.display()
        ),
    );
    host.ok(["reinstall", "web01"]);
    assert_eq!(read(&record), format!("{}\nsecond\n", area.join("root").display()));
}

#[test]
fn root_vps_reinstall_sees_the_whole_old_root_and_cannot_write_there() {
    let Some(host) = with_container() else { return };
    let record = host.path("record");
    host.script(
        REINSTALL,
        &format!(
            "{COPY}{{ stat -c '%u:%g %a' \"$VE_PRIVATE/root/marker\"; cat \"$VE_PRIVATE/root/marker\"; ls \"$VE_PRIVATE/bin/busybox\"; \
             for way in \"$VE_PRIVATE/new\" \"$VE_PRIVATE/root/marker\" \"$OSTEMPLATE_ROOT/new\"; do \
             if echo x 2>/dev/null >\"$way\"; then echo written; else echo refused; fi; done; }} >{}\n",
            record.display()
        ),
    );
    host.ok(["reinstall", "web01"]);
    let busybox = host.area("web01").join("root/bin/busybox");
    assert_eq!(read(&record), format!("33:33 640\nold\n{}\nrefused\nrefused\nrefused\n", busybox.display()));
    assert_eq!(host.exec("web01", "cat /old/root/marker; test -e /old/new || echo absent"), "old\nabsent");
    // What the host sees at that path is an empty directory: the mount was the script's alone.
    assert_eq!(std::fs::read_dir(host.area("web01").join("root")).unwrap().count(), 0);
}

#[test]
fn root_vps_reinstall_runs_while_the_container_is_stopped_and_builds_in_a_directory_that_it_may_make_itself()
{
    let Some(host) = with_container() else { return };
    let group = host.path("stopped");
    host.script(
        REINSTALL,
        &format!(
            "#!/bin/sh\nset -e\nREROOT_PREFIX={} {} status web01 >{} 2>&1\nrmdir \"$4\"\nmkdir -p \"$4\"\ncp -a \"$OSTEMPLATE_ROOT/.\" \"$4/\"\n\
             echo built > \"$4/root/built\"; chown 12:34 \"$4/root/built\"\n",
            host.prefix().display(),
            env!("CARGO_BIN_EXE_prlctl"),
            group.display()
        ),
    );
    host.ok(["reinstall", "web01"]);
    assert!(!read(&group).contains(" running"), "{}", read(&group));
    assert_eq!(host.exec("web01", "cat /root/built; stat -c %u:%g /root/built"), "built\n12:34");
    assert!(roots(&host).contains("vps.reinstall"), "{}", roots(&host));
}

#[test]
fn root_what_vps_reinstall_mounts_and_leaves_running_is_gone_with_it() {
    let Some(host) = with_container() else { return };
    let (point, pid, seen) = (host.path("point"), host.path("pid"), host.path("seen"));
    std::fs::create_dir(&point).unwrap();
    host.script(
        REINSTALL,
        &format!(
            "{COPY}mount -t tmpfs none {point}\necho x >{point}/file\ncat {point}/file >{seen}\n\
             setsid sh -c 'trap \"\" TERM HUP INT; echo $$ >{pid}.new; mv {pid}.new {pid}; exec sleep 1000' >/dev/null 2>&1 &\n\
             while ! [ -e {pid} ]; do :; done\n",
            point = point.display(),
            pid = pid.display(),
            seen = seen.display()
        ),
    );
    host.ok(["reinstall", "web01"]);
    assert_eq!(read(&seen), "x\n");
    assert!(!host.mounts().contains(&point), "{:?}", host.mounts());
    assert!(!point.join("file").exists());
    assert!(!is_alive(&read(&pid)));
}

#[test]
fn root_when_prlctl_is_killed_its_vps_reinstall_dies_and_the_container_comes_back_by_itself() {
    let Some(host) = with_container() else { return };
    let pid = host.path("pid");
    host.script(
        REINSTALL,
        &format!(
            "{COPY}setsid sh -c 'trap \"\" TERM HUP; echo $$ >{0}.new; mv {0}.new {0}; exec sleep 1000' &\nsleep 1000\n",
            pid.display()
        ),
    );
    let mut command = host.prlctl();
    let mut child =
        command.args(["reinstall", "web01"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    host.wait_until("vps.reinstall runs", || pid.exists());
    child.kill().unwrap();
    child.wait().unwrap();
    let journal = host.area("web01").join("operation.json");
    host.wait_until("the recovery is over", || !journal.exists());
    host.wait_until("it runs again", || host.run(["exec", "web01", "true"]).code == 0);
    assert_eq!(host.exec("web01", "cat /root/marker"), "old");
    assert!(!is_alive(&read(&pid)));
    assert!(roots(&host).starts_with("1     live"), "{}", roots(&host));
    assert_eq!(roots(&host).lines().count(), 1);
}

#[test]
fn root_vps_reinstall_that_fails_changes_nothing_and_the_command_exits_with_128() {
    let Some(host) = with_container() else { return };
    for (end, said) in [
        (
            "echo the licence server is away >&2\nexit 3",
            "`vps.reinstall` exited with 3\n  because: the licence server is away",
        ),
        ("exit 1", "`vps.reinstall` exited with 1"),
        ("exit 255", "`vps.reinstall` exited with 255"),
        ("kill -KILL $$", "`vps.reinstall` was killed by signal 9"),
        ("kill -TERM $$", "`vps.reinstall` was killed by signal 15"),
        ("trap '' TERM\nsleep 1000", "`vps.reinstall` did not end within 1 s and was killed"),
    ] {
        host.script(REINSTALL, &format!("{COPY}{end}\n"));
        refused(
            &host,
            // Where the deadline is not what is tested, a loaded machine must not make it so.
            &["reinstall", "web01", "--timeout", if said.contains("within 1 s") { "1" } else { "60" }],
            128,
            &["error: cannot reinstall `web01`", said, "prlctl reinstall web01"],
        );
    }
    // With --skipscripts it is as if it were not there.
    host.ok(["reinstall", "web01", "--skipscripts"]);
}

#[test]
fn root_vps_reinstall_that_fails_leaves_a_stopped_container_stopped() {
    let Some(host) = with_container() else { return };
    host.ok(["stop", "web01"]);
    host.script(REINSTALL, "#!/bin/sh\nexit 7\n");
    let before = facts(&host);
    host.run(["reinstall", "web01"]).failed(128, &["exited with 7", "is stopped"]);
    assert_eq!(facts(&host), before);
}

#[test]
fn root_what_vps_reinstall_has_made_must_be_a_root_that_only_a_script_can_have_made() {
    let Some(host) = with_container() else { return };
    let marked = host.path("marked");
    std::fs::create_dir(&marked).unwrap();
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(&marked, "trusted.overlay.opaque", b"y", flags).unwrap();
    let marked = marked.display();
    for (end, said) in [
        ("#!/bin/sh\nexit 0".to_owned(), "the new root is empty"),
        ("#!/bin/sh\nrmdir \"$VE_PRIVATE_TMP\"".to_owned(), "is no root"),
        ("#!/bin/sh\nrmdir \"$VE_PRIVATE_TMP\"; ln -s /etc \"$VE_PRIVATE_TMP\"".to_owned(), "is no root"),
        ("#!/bin/sh\nrmdir \"$VE_PRIVATE_TMP\"; echo x >\"$VE_PRIVATE_TMP\"".to_owned(), "is no root"),
        ("#!/bin/sh\nmkdir \"$VE_PRIVATE_TMP/etc\"".to_owned(), "it has no /sbin/init"),
        (format!("{COPY}ln -s /etc \"$VE_PRIVATE_TMP/old\""), "its /old is no directory"),
        (
            format!("{COPY}mkdir \"$VE_PRIVATE_TMP/old\"; echo x >\"$VE_PRIVATE_TMP/old/x\""),
            "its /old is not empty",
        ),
        (format!("{COPY}mknod \"$VE_PRIVATE_TMP/lib/gone\" c 0 0"), "`lib/gone` is a character device 0:0"),
        (
            format!("{COPY}mv {marked} \"$VE_PRIVATE_TMP/lib/hidden\""),
            "`lib/hidden` has the attribute `trusted.overlay.opaque`",
        ),
    ] {
        host.script(REINSTALL, &format!("{end}\n"));
        refused(&host, &["reinstall", "web01"], 128, &["what `vps.reinstall` has made is no root", said]);
    }
}

#[test]
fn root_device_nodes_that_vps_reinstall_has_made_are_removed_and_reported() {
    let Some(host) = with_container() else { return };
    host.script(REINSTALL, &format!("{COPY}mknod \"$VE_PRIVATE_TMP/dev/disk0\" b 8 0\nmknod \"$VE_PRIVATE_TMP/srv/zero\" c 1 5\nmkfifo \"$VE_PRIVATE_TMP/srv/pipe\"\n"));
    let ran = host.run(["reinstall", "web01"]);
    assert_eq!(ran.code, 0, "{ran}");
    for name in ["/dev/disk0", "/srv/zero"] {
        assert!(ran.stderr.contains(&format!("removed the device node {name}")), "{ran}");
        assert!(!host.area("web01").join(format!("generations/2/delta{name}")).exists());
    }
    assert_eq!(
        host.exec("web01", "test -p /srv/pipe && echo pipe; test -c /dev/null && echo null"),
        "pipe\nnull"
    );
}

#[test]
fn root_a_script_that_prints_100_mb_works_and_its_log_keeps_the_first_and_the_last_mb() {
    let Some(host) = with_container() else { return };
    host.script(
        REINSTALL,
        &format!("{COPY}echo FIRST LINE\nyes {} | head -c 50000000\nhead -c 50000000 /dev/zero | tr '\\0' x\necho\necho LAST LINE\n", "y".repeat(99)),
    );
    let status = host
        .prlctl()
        .args(["reinstall", "web01"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    let directory = host.path("var/log/vz/operations").join(uuid(&host));
    let log = std::fs::read_dir(directory)
        .unwrap()
        .flatten()
        .map(|entry| entry.path())
        .max()
        .expect("it has a log");
    let text = read(&log);
    assert!((1_500_000..2_500_000).contains(&text.len()), "{} bytes", text.len());
    for words in [r#""line":"FIRST LINE"}"#, r#""event":"left-out","lines":"#, r#""line":"LAST LINE"}"#] {
        assert!(text.contains(words), "the log lacks {words}");
    }
    assert_eq!(std::fs::metadata(&log).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn root_scripts_that_may_not_be_trusted_with_root_are_refused_before_anything_is_touched() {
    let Some(host) = with_container() else { return };
    let real = host.path("real.sh");
    host.script("real.sh", COPY);
    for name in [REINSTALL, CONFIGURE, "etc/vz/reinstall.d/10-a.sh"] {
        let path = host.path(name);
        let is_extra = name.contains("reinstall.d");
        let try_out = |code: i32, said: &[&str]| {
            // Not even the number of the next root is taken.
            let record = host.area("web01").join("area.json");
            let before = read(&record);
            refused(&host, &["reinstall", "web01"], code, said);
            assert_eq!(read(&record), before);
        };
        host.write(name, COPY, 0o644);
        if !is_extra {
            try_out(21, &["it is not executable", "chmod u+x"]);
        }
        host.write(name, COPY, 0o775);
        try_out(21, &["others than its owner may write to it", "chmod go-w"]);
        host.write(name, COPY, 0o757);
        try_out(21, &["others than its owner may write to it"]);
        host.write(name, COPY, 0o755);
        std::os::unix::fs::chown(&path, Some(33), None).unwrap();
        try_out(21, &["it belongs to user 33", "chown root:"]);
        std::fs::remove_file(&path).unwrap();
        if !is_extra {
            symlink(&real, &path).unwrap();
            try_out(21, &["it is a symbolic link"]);
            std::fs::remove_file(&path).unwrap();
            std::fs::create_dir(&path).unwrap();
            try_out(21, &["it is no regular file"]);
            std::fs::remove_dir(&path).unwrap();
        }
        host.script(name, COPY);
        for on_the_way in path.ancestors().skip(1).take_while(|path| path.starts_with(host.prefix())) {
            let mode = std::fs::metadata(on_the_way).unwrap().permissions();
            std::fs::set_permissions(on_the_way, std::fs::Permissions::from_mode(0o770)).unwrap();
            try_out(21, &["others than root may write to", "on the way to it", "chmod go-w"]);
            std::fs::set_permissions(on_the_way, mode).unwrap();
            std::os::unix::fs::chown(on_the_way, Some(33), None).unwrap();
            try_out(21, &["belongs to user 33, who could put another one in its place"]);
            std::os::unix::fs::chown(on_the_way, Some(0), None).unwrap();
        }
        std::fs::remove_file(&path).unwrap();
    }
    host.script(REINSTALL, "mkdir -p \"$VE_PRIVATE_TMP\"\n");
    refused(&host, &["reinstall", "web01"], 21, &["its first line does not begin with #!"]);
    std::fs::remove_file(host.path(REINSTALL)).unwrap();
    host.ok(["reinstall", "web01"]);
}

#[test]
fn root_a_named_script_that_is_not_there_is_refused_with_the_names_that_are() {
    let Some(host) = with_container() else { return };
    host.script("etc/vz/reinstall.d/10-a.sh", "#!/bin/sh\n");
    refused(
        &host,
        &["reinstall", "web01", "--scripts", "10-a.sh,20-b.sh"],
        21,
        &["20-b.sh is not found", "there are: 10-a.sh"],
    );
}

#[test]
fn root_exit_128_makes_the_default_reinstall_and_leaves_nothing_of_what_was_built() {
    let Some(host) = with_container() else { return };
    host.script(REINSTALL, &format!("{COPY}echo x >\"$VE_PRIVATE_TMP/built\"\nexit 128\n"));
    host.script(CONFIGURE, "#!/bin/sh\necho configured > /root/configured\n");
    host.script("etc/vz/reinstall.d/10-a.sh", "#!/bin/sh\necho extra > /root/extra\n");
    let ran = host.run(["reinstall", "web01"]);
    assert_eq!(ran.code, 0, "{ran}");
    assert!(ran.stderr.contains("exited with 128"), "{ran}");
    assert_eq!(
        host.exec("web01", "ls /root; ls -d /built /old/root/marker 2>/dev/null || :"),
        "extra\n/old/root/marker"
    );
    assert!(roots(&host).lines().next().unwrap().contains("template busybox"), "{}", roots(&host));
    // The same with nothing to run inside, stopped, without keeping: the old root is gone.
    std::fs::remove_file(host.path("etc/vz/reinstall.d/10-a.sh")).unwrap();
    host.ok(["stop", "web01"]);
    host.ok(["reinstall", "web01", "--skipbackup"]);
    assert!(roots(&host).starts_with("3     live     /"), "{}", roots(&host));
    assert_eq!(roots(&host).lines().count(), 2, "generation 1 is at /old\n{}", roots(&host));
    host.ok(["start", "web01"]);
    assert_eq!(host.exec("web01", "cat /old/root/marker; ls /root"), "old");
}

#[test]
fn root_a_stopped_container_is_started_to_see_that_a_root_made_by_a_script_lives() {
    let Some(host) = with_container() else { return };
    host.ok(["stop", "web01"]);
    host.script(REINSTALL, &format!("{COPY}printf '#!/bin/sh\\nexit 5\\n' >\"$VE_PRIVATE_TMP/sbin/init\"\n"));
    let ran = host.run(["reinstall", "web01"]);
    ran.failed(94, &["does not come up", "is stopped, on its old root"]);
    host.script(REINSTALL, COPY);
    host.ok(["reinstall", "web01"]);
    assert!(!host.ok(["status", "web01"]).contains(" running"));
    host.ok(["start", "web01"]);
    assert_eq!(host.exec("web01", "cat /old/root/marker"), "old");
}

/// As the page says: rename the samples, reinstall, change the last line, reinstall.
#[test]
fn root_the_samples_work_when_they_are_renamed_and_give_the_default_when_they_end_with_128() {
    let Some(host) = with_container() else { return };
    host.exec(
        "web01",
        "mkdir -p -m 700 /root/.ssh; echo key > /root/.ssh/authorized_keys; echo Europe/Rome > /etc/timezone",
    );
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../share/conf");
    for name in ["vps.reinstall", "vps.configure"] {
        let text = read(&samples.join(format!("{name}.sample")));
        assert!(text.ends_with("\nexit 0\n"), "its last line");
        host.script(&format!("etc/vz/conf/{name}"), &text);
    }
    let ran: Ran = host.run(["reinstall", "web01"]);
    assert_eq!(ran.code, 0, "{ran}");
    assert!(ran.stderr.contains("vps.configure: fetched /root/.ssh"), "{ran}");
    assert!(roots(&host).lines().next().unwrap().contains("vps.reinstall"), "{}", roots(&host));
    assert_eq!(
        host.exec(
            "web01",
            "cat /root/.ssh/authorized_keys /etc/timezone /old/root/marker; stat -c %a /root/.ssh"
        ),
        "key\nEurope/Rome\nold\n700"
    );

    let text = read(&host.path(REINSTALL)).replace("\nexit 0\n", "\nexit 128\n");
    host.script(REINSTALL, &text);
    host.ok(["reinstall", "web01"]);
    assert!(roots(&host).lines().next().unwrap().contains("template busybox"), "{}", roots(&host));
    assert_eq!(host.exec("web01", "ls -A /root; cat /old/root/.ssh/authorized_keys"), "key");
}
