//! `generation-diff`: what a container has changed of its template, told while it runs, and after.

#![expect(clippy::disallowed_methods, reason = "the trees of these tests are their own")]

use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};
use testkit::RealHost;

fn new_host() -> Option<RealHost> {
    let host = RealHost::new(env!("CARGO_BIN_EXE_prlctl"))?;
    host.started("web01");
    Some(host)
}

/// What is told, without what every start and every creation changes.
fn told(host: &RealHost, words: &[&str]) -> Vec<String> {
    let ours = ["/old", "/etc/machine-id", "/etc/hostname", "/etc/hosts", "/etc/resolv.conf"];
    let text = host.ok(["generation-diff", "web01"].iter().chain(words));
    let path = |line: &str| line.get(3..).and_then(|rest| rest.split("  ").next()).map(str::to_owned);
    text.lines()
        .filter(|line| path(line).is_some_and(|path| !ours.contains(&path.as_str())))
        .map(str::to_owned)
        .collect()
}

fn parsed(host: &RealHost, words: &[&str]) -> Value {
    serde_json::from_str(&host.ok(["generation-diff", "web01", "-j"].iter().chain(words)))
        .expect("a difference is JSON")
}

const DEEDS: &str = "mkdir -p /srv/dir /root/was && printf 12345 > /srv/dir/file && printf x >> /etc/passwd && chmod 600 /etc/group \
    && rm /bin/true && printf x > \"/srv/new\nA  line\" && chown -h 5:5 /bin/false && touch /bin/sh && cp -p /etc/shadow /tmp/s && cat /tmp/s > /etc/shadow \
    && rm /tmp/s && mv /usr /other && echo > /other/new && ln -sfn cat /bin/ls";

fn expected() -> [&'static str; 11] {
    [
        "M  /bin/false  owner",
        "M  /bin/ls  target",
        "D  /bin/true  (symlink)",
        "M  /etc/group  mode",
        "M  /etc/passwd  contents",
        "R  /other  from /usr",
        "A  /other/new  (1 B)",
        "A  /root/was  (directory)",
        "A  /srv/dir  (directory)",
        "A  /srv/dir/file  (5 B)",
        "A  /srv/new\\nA  line  (1 B)",
    ]
}

#[test]
fn root_what_was_done_in_a_container_is_told_while_it_runs_and_when_it_is_stopped() {
    let Some(host) = new_host() else { return };
    let before = told(&host, &[]);
    host.exec("web01", DEEDS);
    let mut lines = told(&host, &[]);
    lines.retain(|line| !before.contains(line));
    assert_eq!(lines, expected());
    host.ok(["stop", "web01"]);
    let mut lines = told(&host, &[]);
    lines.retain(|line| !before.contains(line));
    assert_eq!(lines, expected());
    // Of the root by its number, and from a path on.
    assert_eq!(told(&host, &["1", "/srv/dir"]), expected()[8..10]);
    assert_eq!(told(&host, &["/srv/dir/file"]), expected()[9..10]);
    assert_eq!(told(&host, &["/root"]), expected()[7..8]);
    assert_eq!(told(&host, &["/bin/cat"]), [""; 0]);
    for (path, because) in [
        ("/nowhere/file", "`/nowhere/file` is not there, and was not in the template"),
        ("/bin/ls/x", "goes through a symlink"),
        ("/srv/..", "`..` is not followed"),
        ("srv", "neither the number of a root nor a path"),
    ] {
        let ran = host.run(["generation-diff", "web01", path]);
        ran.failed(21, &[because, "state: nothing was changed", "hint: "]);
        assert_eq!(ran.stdout, "", "{ran}");
    }
}

#[test]
fn root_counts_and_sizes_are_told_for_each_directory_and_in_all() {
    let Some(host) = new_host() else { return };
    host.exec(
        "web01",
        "mkdir /srv/a && head -c 1500 /dev/zero > /srv/a/b && printf x > /srv/c && printf x > /file && rm /etc/group && mv /usr /srv/usr",
    );
    let text = host.ok(["generation-diff", "web01", "--stat"]);
    assert!(text.contains("\n/srv  3 added (1.5 kB), 1 renamed\n"), "{text}");
    assert!(text.starts_with("/  1 added (1 B)\n"), "{text}");
    assert!(text.lines().last().unwrap().starts_with("total  "), "{text}");
    assert!(text.ends_with(", 1 renamed\n"), "{text}");
    assert_eq!(
        host.ok(["generation-diff", "web01", "1", "/srv", "--stat"]),
        "/srv  1 added (1 B)\n/srv/a  2 added (1.5 kB)\n/srv/usr  1 renamed\ntotal  3 added (1.5 kB), 0 changed (0 B), 0 deleted (0 B), 1 renamed\n"
    );
    let document = parsed(&host, &["--stat", "/srv"]);
    assert_eq!(document["path"], json!("/srv"));
    let count = |count, bytes| json!({ "count": count, "bytes": bytes });
    assert_eq!(
        document["directories"][1],
        json!({ "path": "/srv/a", "added": count(2, 1500), "changed": count(0, 0), "deleted": count(0, 0), "renamed": count(0, 0) })
    );
    assert_eq!(document["total"]["added"], count(3, 1501));
    assert_eq!(document["total"]["renamed"], count(1, 0));
    assert_eq!(document.get("differences"), None);
}

#[test]
fn root_the_json_document_has_everything_and_ends_well() {
    let Some(host) = new_host() else { return };
    host.exec("web01", "printf 12345 > '/srv/a\\b' && chmod 600 /etc/group && printf x >> /etc/group && mv /usr /other && rm /bin/true");
    let document = parsed(&host, &[]);
    assert_eq!((&document["container"], &document["number"]), (&json!("web01"), &json!(1)));
    assert_eq!(document["template"]["name"], json!("busybox"));
    assert_eq!(document["template"]["digest"].as_str().unwrap().len(), 64);
    let all = document["differences"].as_array().unwrap();
    let of = |path: &str| {
        all.iter().find(|one| one["path"] == path).unwrap_or_else(|| panic!("{path} of {all:#?}"))
    };
    assert_eq!(
        of("/srv/a\\\\b"),
        &json!({ "path": "/srv/a\\\\b", "change": "added", "kind": "file", "bytes": 5, "differs": [], "from": null, "conffile": false })
    );
    assert_eq!(of("/etc/group")["differs"], json!(["contents", "mode"]));
    assert_eq!(
        (&of("/bin/true")["change"], &of("/bin/true")["kind"]),
        (&json!("deleted"), &json!("symlink"))
    );
    assert_eq!((&of("/other")["change"], &of("/other")["from"]), (&json!("renamed"), &json!("/usr")));
    let changed = all.iter().filter(|one| one["change"] == "changed").count();
    assert_eq!(document["total"]["changed"]["count"], json!(changed));
    // Nothing at all is a document, too.
    let document = parsed(&host, &["/tmp"]);
    assert_eq!((&document["differences"], &document["total"]["added"]["count"]), (&json!([]), &json!(0)));
    let ran = host.run(["generation-diff", "web01", "/nowhere", "-j"]);
    assert_eq!(ran.code, 21, "{ran}");
    let document: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(document["error"]["code"], json!("bad-value"));
}

#[test]
fn root_an_old_root_is_told_of_and_one_that_a_script_built_has_nothing_to_be_compared_with() {
    let Some(host) = new_host() else { return };
    host.exec("web01", "echo old > /srv/old");
    host.ok(["reinstall", "web01"]);
    host.exec("web01", "echo new > /srv/new; echo later > /old/srv/later");
    assert_eq!(told(&host, &["/srv"]), ["A  /srv/new  (4 B)"]);
    assert_eq!(told(&host, &["1", "/srv"]), ["A  /srv/later  (6 B)", "A  /srv/old  (4 B)"]);
    host.script(
        "etc/vz/conf/vps.reinstall",
        "#!/bin/sh\nwhile [ $# -gt 0 ]; do [ \"$1\" = --ve_private_tmp ] && to=$2; shift; done\nmkdir -p \"$to\" && cp -a \"$OSTEMPLATE_ROOT\"/. \"$to\"/\n",
    );
    host.ok(["reinstall", "web01"]);
    let ran = host.run(["generation-diff", "web01"]);
    assert_eq!(ran.code, 0, "{ran}");
    assert!(ran.stderr.contains("generation 3 was made by vps.reinstall: there is no template"), "{ran}");
    assert!(ran.stdout.lines().any(|line| line.starts_with("A  /bin/busybox  (")), "{ran}");
    assert!(ran.stdout.lines().all(|line| line.starts_with("A  /")), "{ran}");
    let text = host.ok(["generation-diff", "web01", "3", "--stat"]);
    assert!(text.ends_with(", 0 changed (0 B), 0 deleted (0 B), 0 renamed\n"), "{text}");
    assert_eq!(parsed(&host, &["3", "/srv"])["template"], Value::Null);
}

#[test]
fn root_a_root_that_there_is_not_and_a_template_that_is_gone_are_refused() {
    let Some(host) = RealHost::bare(env!("CARGO_BIN_EXE_prlctl")) else { return };
    assert!(host.vzpkg().args(["create", "cache", "busybox"]).output().unwrap().status.success());
    host.ok(["create", "web01", "--ostemplate", "busybox"]);
    for number in ["0", "9"] {
        let said = format!("there is no generation {number}");
        host.run(["generation-diff", "web01", number])
            .failed(21, &[&said, "state: nothing was changed", "prlctl generation-list web01 --all"]);
    }
    host.run(["generation-diff", "nosuch"]).failed(14, &["unknown container `nosuch`"]);
    let digest = std::fs::read_link(host.path("vz/template/busybox/latest")).unwrap();
    let there = host.path("vz/template/busybox").join(digest);
    rustix::fs::rename(&there, host.path("vz/template/busybox/elsewhere")).unwrap();
    host.run(["generation-diff", "web01"]).failed(
        91,
        &[
            "cannot compare generation 1 of `web01` with its template",
            "template `busybox` has no version",
            "hint: ",
        ],
    );
    std::fs::create_dir(&there).unwrap();
    host.run(["generation-diff", "web01", "--stat"]).failed(91, &["is damaged"]);
    // Nobody waits for a lock, and none is in the way of a look.
    std::fs::remove_dir(&there).unwrap();
    rustix::fs::rename(host.path("vz/template/busybox/elsewhere"), &there).unwrap();
    let id: store::ContainerId = host.area("web01").file_name().unwrap().to_str().unwrap().parse().unwrap();
    let prefix = store::Prefix::new(host.prefix()).unwrap();
    let zero = std::time::Duration::ZERO;
    let _held =
        store::Lock::exclusive(&prefix, store::LockName::Container(id), zero, "prlctl backup web01").unwrap();
    host.ok(["generation-diff", "web01"]);
}

#[test]
fn root_nothing_that_a_container_puts_into_its_root_stops_a_look_at_it_or_leads_it_out() {
    let Some(host) = new_host() else { return };
    host.exec(
        "web01",
        "mkdir -p /var/lib/dpkg && mkfifo /var/lib/dpkg/status && mkfifo /srv/fifo && ln -s / /srv/up && ln -s /proc/1/root /srv/root \
        && i=0; cd /srv; while [ $i -lt 300 ]; do mkdir d && cd d && i=$((i+1)); done; \
        printf x > $(printf '/srv/\\033[2J')",
    );
    let ran = host.run(["generation-diff", "web01"]);
    assert_eq!(ran.code, 0, "{ran}");
    assert!(ran.stderr.contains("warning: which files are configuration of packages is not known"), "{ran}");
    assert!(!ran.stdout.contains('\x1b') && ran.stdout.contains("A  /srv/\\x1b[2J  (1 B)\n"), "{ran}");
    assert!(
        ran.stdout.contains("A  /srv/up  (symlink)\n") && ran.stdout.contains("/d/d/d/d  (directory)\n"),
        "{ran}"
    );
    // While it works on, which takes names away under the look.
    host.exec(
        "web01",
        "(while :; do mkdir -p /srv/w/x/y; echo > /srv/w/x/y/z; mv /srv/w/x /srv/v; rm -rf /srv/w /srv/v; done) >/dev/null 2>&1 </dev/null &",
    );
    for _ in 0..50 {
        host.ok(["generation-diff", "web01"]);
        parsed(&host, &["--stat"]);
    }
}

#[test]
fn root_configuration_of_packages_is_marked_in_debian() {
    let Some(host) = RealHost::with_debian(env!("CARGO_BIN_EXE_prlctl")) else { return };
    host.ok(["create", "web01", "--ostemplate", "debian-12"]);
    // Not started: that would change more than is looked at here.
    let root = host.path("vz/root").join(host.area("web01").file_name().unwrap());
    host.ok(["mount", "web01"]);
    let at = |path: &str| root.join(path);
    let text = std::fs::read(at("etc/adduser.conf")).unwrap();
    let write = |path: &str, bytes: &[u8]| {
        use std::io::Write;
        std::fs::File::create(at(path)).unwrap().write_all(bytes).unwrap();
    };
    write("etc/adduser.conf", &[&text[..], b"# mine\n"].concat());
    write("etc/fstab", b"# none\n");
    write("etc/new.conf", b"x");
    std::fs::remove_file(at("etc/deluser.conf")).unwrap();
    std::fs::set_permissions(at("etc/host.conf"), std::fs::Permissions::from_mode(0o600)).unwrap();
    // A package that came, and one that went with its own.
    let status = String::from_utf8(std::fs::read(at("var/lib/dpkg/status")).unwrap()).unwrap();
    let without = status.replace(" /etc/deluser.conf ", " /etc/another.conf ");
    write(
        "var/lib/dpkg/status",
        format!("{without}\nPackage: new\nConffiles:\n /etc/new.conf 1234\n").as_bytes(),
    );
    host.ok(["umount", "web01"]);
    let lines = told(&host, &["/etc"]);
    assert_eq!(
        lines,
        [
            "Mc /etc/adduser.conf  contents",
            // Whose minutes are this container's.
            "Mc /etc/crontab  contents",
            &format!("Dc /etc/deluser.conf  ({})", deleted_size(&host)),
            "M  /etc/fstab  contents",
            "Mc /etc/host.conf  mode",
            "Ac /etc/new.conf  (1 B)",
        ]
    );
    let document = parsed(&host, &["/etc/adduser.conf"]);
    assert_eq!(document["differences"][0]["conffile"], json!(true));
}

/// Of `/etc/deluser.conf`, as it is shown.
fn deleted_size(host: &RealHost) -> String {
    let document = parsed(host, &["/etc/deluser.conf"]);
    let bytes = document["differences"][0]["bytes"].as_u64().expect("a number");
    if bytes < 1000 { format!("{bytes} B") } else { format!("{:.1} kB", bytes as f64 / 1000.0) }
}
