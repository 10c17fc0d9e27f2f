//! Images of Incus and LXD: what they say of their root, and what each container gets of its own by it.

#![expect(clippy::disallowed_methods, reason = "the archives are the test's own")]

use testkit::{Ran, RealHost, TarMaker};

const PROGRAM: &str = env!("CARGO_BIN_EXE_prlctl");
const METADATA: &str = "architecture: x86_64\ncreation_date: 1700000000\nproperties: {os: Voidlike, release: current}\ntemplates:\n  \
    /etc/hostname: {when: [create, copy], template: hostname.tpl}\n  \
    /etc/hosts: {when: [create, copy], template: hosts.tpl}\n  \
    /etc/nodename: {when: [create], template: hostname.tpl}\n  \
    /etc/made: {when: [create], create_only: true, template: hostname.tpl}\n  \
    /etc/there: {when: [create], create_only: true, template: hostname.tpl}\n  \
    /etc/copied: {when: [rename], template: hostname.tpl}\n  \
    /etc/odd: {when: [create], template: odd.tpl}\n  \
    /etc/none: {when: [create], template: none.tpl}\n  \
    /proc/sys/kernel/hostname: {when: [create], template: hostname.tpl}\n";

fn host() -> Option<RealHost> {
    RealHost::bare(PROGRAM)
}

fn import(host: &RealHost, name: &str, bytes: Vec<u8>) -> Ran {
    let archive = host.path(&format!("{name}.tar"));
    std::fs::write(&archive, bytes).expect("write an archive");
    let made = host.vzpkg().args(["create", "cache", name, "--from"]).arg(&archive).output();
    Ran::of(made.expect("run vzpkg"))
}

/// An image with all of a root in front of what is said of it, or behind.
fn image(is_first: bool) -> Vec<u8> {
    let said = |maker: TarMaker| {
        maker
            .file("metadata.yaml", METADATA.as_bytes())
            .file("templates/hostname.tpl", b"{{ container.name }}\n")
            .file(
                "templates/hosts.tpl",
                b"127.0.0.1\tlocalhost\n127.0.1.1\t{{ instance.name }}\n192.0.2.7\tother\n",
            )
            .file("templates/odd.tpl", b"{% if container.name %}x{% endif %}\n")
    };
    let root = |maker: TarMaker| {
        ["rootfs", "rootfs/sbin", "rootfs/etc"]
            .into_iter()
            .fold(maker, TarMaker::directory)
            .executable("rootfs/sbin/init", b"#!/bin/sh\n")
            .file("rootfs/etc/hosts", b"127.0.1.1 distrobuilder\n")
            .file("rootfs/etc/there", b"the image's\n")
            .file("rootfs/etc/odd", b"the image's\n")
            .executable("rootfs/etc/nodename", b"distrobuilder\n")
    };
    let maker = TarMaker::new();
    if is_first { root(said(maker)) } else { said(root(maker)) }.finish()
}

fn own(host: &RealHost, container: &str, file: &str) -> Option<String> {
    std::fs::read_to_string(host.area(container).join("live/delta/etc").join(file)).ok()
}

fn record(host: &RealHost, name: &str) -> serde_json::Value {
    let path = host.path(&format!("vz/template/{name}/latest/template.json"));
    serde_json::from_slice(&std::fs::read(path).expect("read a record")).expect("a record")
}

/// At its creation and at every reinstall, wherever in the archive it is said.
#[test]
fn root_each_container_of_an_image_gets_the_files_with_its_name() {
    let Some(host) = host() else { return };
    for (name, is_first) in [("first", true), ("last", false)] {
        let ran = import(&host, name, image(is_first));
        assert_eq!(ran.code, 0, "{ran}");
        for said in [
            "each container gets its own `/etc/hosts`, `/etc/nodename`, `/etc/made`, `/etc/there`",
            "`/etc/odd` is in every container as it is in the image's root: `{% if container.name %}x{% endif %}`",
            "`/etc/none` is in every container as it is in the image's root: there is no `templates/none.tpl`",
            "`/proc/sys/kernel/hostname` is in every container",
        ] {
            assert!(ran.stderr.contains(said), "{said}\n{ran}");
        }
        let record = record(&host, name);
        assert_eq!(
            (&record["distribution"], &record["release"]),
            (&"voidlike".into(), &"current".into()),
            "{record}"
        );
        host.ok(["create", name, "--ostemplate", name, "--hostname", "shop"]);
        for when in ["created", "reinstalled"] {
            assert_eq!(own(&host, name, "nodename").as_deref(), Some("shop\n"), "{when}");
            assert_eq!(own(&host, name, "made").as_deref(), Some("shop\n"), "{when}");
            // The start's own line is the start's to write, and to take away.
            assert_eq!(
                own(&host, name, "hosts").as_deref(),
                Some("127.0.0.1\tlocalhost\n192.0.2.7\tother\n"),
                "{when}"
            );
            for none in ["there", "copied", "odd", "none"] {
                assert_eq!(own(&host, name, none), None, "{when}: {none}");
            }
            host.ok(["reinstall", name]);
        }
        use std::os::unix::fs::PermissionsExt;
        let there = host.area(name).join("live/delta/etc/nodename").metadata().expect("it is there");
        assert_eq!(there.permissions().mode() & 0o7777, 0o755, "as the image has it");
    }
    // The same tree with other files of its own is another version; the golden image of a container has them, too.
    let digest = |name: &str| record(&host, name)["digest"].clone();
    assert_eq!(digest("first"), digest("last"));
    let ran = host.vzpkg().args(["create", "cache", "golden", "--from", "container:first"]).output();
    assert!(ran.expect("run vzpkg").status.success());
    host.ok(["create", "golden", "--ostemplate", "golden"]);
    assert_eq!(own(&host, "golden", "nodename").as_deref(), Some("golden\n"));
}

#[test]
fn root_another_name_is_in_hosts_and_hostname_at_the_next_start() {
    let Some(host) = host() else { return };
    let made = host.vzpkg().args(["create", "cache", "busybox"]).output();
    assert!(made.expect("run vzpkg").status.success());
    std::fs::create_dir_all(host.path("image/templates")).expect("make a directory");
    std::fs::write(host.path("image/metadata.yaml"), METADATA).expect("write");
    std::fs::write(host.path("image/templates/hostname.tpl"), "{{ container.name }}\n").expect("write");
    std::fs::write(
        host.path("image/templates/hosts.tpl"),
        "127.0.0.1 localhost\n127.0.1.1 {{ container.name }}\n",
    )
    .expect("write");
    let pack = "cp -a ../vz/template/busybox/latest/rootfs . && tar -czf ../real.tar.gz metadata.yaml rootfs templates";
    let ran = std::process::Command::new("sh").args(["-ec", pack]).current_dir(host.path("image")).status();
    assert!(ran.expect("run tar").success());
    let made =
        host.vzpkg().args(["create", "cache", "real", "--from"]).arg(host.path("real.tar.gz")).output();
    let ran = Ran::of(made.expect("run vzpkg"));
    assert_eq!(ran.code, 0, "{ran}");
    host.ok(["create", "web01", "--ostemplate", "real"]);
    host.ok(["start", "web01", "--wait"]);
    let look = "hostname; cat /etc/hostname /etc/nodename; grep -v '^#' /etc/hosts";
    assert_eq!(
        host.exec("web01", look),
        "web01\nweb01\nweb01\n127.0.0.1 localhost\n127.0.1.1\tweb01\t# prlctl"
    );
    host.ok(["stop", "web01"]);
    host.ok(["set", "web01", "--hostname", "shop"]);
    host.ok(["start", "web01", "--wait"]);
    let said = host.exec("web01", look);
    assert!(
        said.starts_with("shop\nshop\n") && said.ends_with("127.0.0.1 localhost\n127.0.1.1\tshop\t# prlctl"),
        "{said}"
    );
}

/// What is said of a machine counts where the init does not tell; and a `metadata.yaml` that nobody can read is no reason to do without the root.
#[test]
fn root_what_is_said_of_an_image_is_heeded_or_told() {
    let Some(host) = host() else { return };
    let with = |metadata: &str| {
        TarMaker::new()
            .file("metadata.yaml", metadata.as_bytes())
            .executable("rootfs/sbin/init", b"#!/bin/sh\n")
            .finish()
    };
    import(&host, "other", with("architecture: riscv64\n"))
        .failed(21, &["its programs are for riscv64", "take the one that was made for this machine"]);
    for (text, because) in [
        ("architecture: [\n", "nothing of its `metadata.yaml` is taken: line "),
        ("a: &a [x]\nb: [*a]\n", "nothing of its `metadata.yaml` is taken: line 1: an anchor"),
        ("\u{1b}[2J: {", "nothing of its `metadata.yaml` is taken: "),
    ] {
        let ran = import(&host, "odd", with(text));
        assert!(ran.code == 0 && ran.stderr.contains(because) && !ran.stderr.contains('\u{1b}'), "{ran}");
    }
    let large = format!("#{}\narchitecture: riscv64\n", "x".repeat(70_000));
    let ran = import(&host, "large", with(&large));
    assert!(ran.code == 0 && ran.stderr.contains("nothing of its `metadata.yaml` is taken"), "{ran}");
}

/// The archive beside the root's, which is in a file of its own.
#[test]
fn root_what_is_said_without_a_root_is_told_for_what_it_is() {
    let Some(host) = host() else { return };
    let only = TarMaker::new()
        .file("metadata.yaml", METADATA.as_bytes())
        .directory("templates")
        .file("templates/hostname.tpl", b"{{ container.name }}\n")
        .finish();
    import(&host, "split", only).failed(
        21,
        &[
            "what is said of an image of Incus or LXD, whose root is in another file",
            "hint: `--from` takes the root",
        ],
    );
}

/// Which of the three comes first says nothing of which root is meant.
#[test]
fn root_two_roots_in_an_archive_are_refused_in_every_order() {
    let Some(host) = host() else { return };
    type Part = fn(TarMaker) -> TarMaker;
    let parts: [Part; 3] = [
        |maker| maker.executable("sbin/init", b"#!/bin/sh\n"),
        |maker| maker.file("metadata.yaml", b""),
        |maker| maker.executable("rootfs/sbin/init", b"#!/bin/sh\n"),
    ];
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let bytes = order.iter().fold(TarMaker::new(), |maker, &part| parts[part](maker)).finish();
        let ran = import(&host, "two", bytes);
        ran.failed(21, &["there are two roots in it", "hint: unpack it, and name the directory"]);
    }
}
