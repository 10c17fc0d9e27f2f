//! Recipes in `/etc/vz/templates.d`: of users, bad ones, and those that cannot be carried out.

use std::path::Path;

use testkit::{Ran, RealHost};

const PROGRAM: &str = env!("CARGO_BIN_EXE_prlctl");

fn new_host() -> Option<RealHost> {
    RealHost::bare(PROGRAM)
}

fn vzpkg(host: &RealHost, words: &[&str]) -> Ran {
    Ran::of(host.vzpkg().args(words).output().expect("run vzpkg"))
}

fn recipes(host: &RealHost) -> serde_json::Value {
    let ran = vzpkg(host, &["list", "--recipes", "-j"]);
    assert_eq!(ran.code, 0, "{ran}");
    serde_json::from_str(&ran.stdout).expect("a list is JSON")
}

/// A root that anything can be made from: an init that is a script.
fn root(host: &RealHost) -> String {
    host.script("roots/mine/sbin/init", "#!/bin/sh\n");
    host.path("roots/mine").display().to_string()
}

/// A URL where nobody answers: what had the port has let it go.
fn nobody() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind a port");
    format!("http://{}/debian", listener.local_addr().expect("it has an address"))
}

/// Says so where it is not there.
fn has_mmdebstrap() -> bool {
    let is_there =
        ["/usr/bin/mmdebstrap", "/usr/local/bin/mmdebstrap"].iter().any(|path| Path::new(path).exists());
    if !is_there {
        testkit::real_host::not_run_here(
            Path::new(PROGRAM),
            "it needs mmdebstrap: `apt-get install mmdebstrap`",
        );
    }
    is_there
}

#[test]
fn root_a_recipe_of_ones_own_is_listed_and_carried_out() {
    let Some(host) = new_host() else { return };
    let ran = vzpkg(&host, &["list", "--recipes"]);
    assert_eq!(ran.code, 0, "{ran}");
    assert!(ran.stdout.starts_with("NAME ") && ran.stdout.contains("ubuntu-24.04"), "{ran}");
    assert!(ran.stdout.lines().skip(1).all(|line| line.ends_with("built in")), "{ran}");

    let from = root(&host);
    let text = format!("kind = \"import\"\nfrom = \"{from}\"\nstop-signal = \"SIGINT\"\n");
    host.write("etc/vz/templates.d/mine.toml", &text, 0o644);
    // One of the same name as what is built in.
    host.write("etc/vz/templates.d/debian-13.toml", &text, 0o644);
    let list = recipes(&host);
    let of = |name: &str| list.as_array().unwrap().iter().find(|one| one["name"] == name).unwrap().clone();
    assert_eq!((&of("mine")["kind"], &of("mine")["of"]), (&"import".into(), &from.as_str().into()));
    assert!(of("debian-13")["file"].as_str().unwrap().ends_with("/etc/vz/templates.d/debian-13.toml"));
    assert!(of("debian-12")["file"].is_null());

    for name in ["mine", "debian-13"] {
        let ran = vzpkg(&host, &["create", "cache", name]);
        assert_eq!(ran.code, 0, "{ran}");
    }
    let made: serde_json::Value = serde_json::from_str(&vzpkg(&host, &["list", "-j"]).stdout).unwrap();
    assert_eq!(
        (&made[1]["stop_signal"], &made[1]["source"]),
        (&"SIGINT".into(), &format!("directory {from}").into()),
        "{made}"
    );
    // What was said on the command line counts.
    let ran = vzpkg(&host, &["create", "cache", "mine", "--from", "/nonexistent"]);
    ran.failed(21, &["`/nonexistent` cannot be read"]);
}

#[test]
fn root_a_bad_recipe_is_told_with_line_and_key_and_is_in_no_other_ones_way() {
    let Some(host) = new_host() else { return };
    host.write("etc/vz/templates.d/mine.toml", "kind = \"mmdebstrap\"\n\nsute = \"bookworm\"\n", 0o644);
    host.write("etc/vz/templates.d/open.toml", "kind = \"busybox\"\n", 0o666);
    host.write("etc/vz/templates.d/Odd Name.toml", "", 0o644);
    vzpkg(&host, &["create", "cache", "mine"]).failed(
        21,
        &[
            "cannot make template `mine`",
            "etc/vz/templates.d/mine.toml` cannot be used",
            "line 3, `sute`: there is no such key; did you mean `suite`?",
            "nothing was changed",
            "hint: ",
        ],
    );
    vzpkg(&host, &["create", "cache", "open"])
        .failed(21, &["others than its owner may write to it", "chmod go-w"]);
    let ran = vzpkg(&host, &["list", "--recipes"]);
    assert!(ran.code == 0 && ran.stdout.contains("debian-12"), "{ran}");
    for said in ["line 3, `sute`", "open.toml", "`Odd Name.toml`"] {
        assert!(ran.stderr.contains(said), "{said}: {ran}");
    }
    let list = recipes(&host);
    let is_damaged = |one: &serde_json::Value| one["damage"].is_string();
    assert_eq!(list.as_array().unwrap().iter().filter(|one| is_damaged(one)).count(), 2, "{list}");
    assert_eq!(vzpkg(&host, &["list"]).code, 0);
    assert_eq!(vzpkg(&host, &["create", "cache", "busybox"]).code, 0);
    vzpkg(&host, &["create", "cache", "alpine-3.22"])
        .failed(91, &["there is no recipe of that name", "--from alpine-minirootfs"]);
}

#[test]
fn root_what_a_recipe_needs_is_told_before_anything_is_made() {
    let Some(host) = new_host() else { return };
    let start = "kind = \"mmdebstrap\"\nsuite = \"noble\"\n";
    let keyring = host.path("keys/ubuntu-archive-keyring.gpg").display().to_string();
    host.write("etc/vz/templates.d/keys.toml", &format!("{start}keyring = \"{keyring}\"\n"), 0o644);
    vzpkg(&host, &["create", "cache", "keys"]).failed(
        91,
        &[
            &format!("there is no keyring `{keyring}`"),
            "nothing was changed",
            "apt-get install ubuntu-archive-keyring",
        ],
    );
    host.write("etc/vz/templates.d/post.toml", &format!("{start}post = \"post.sh\"\n"), 0o644);
    vzpkg(&host, &["create", "cache", "post"])
        .failed(21, &["the script `post` of the recipe cannot be run", "etc/vz/templates.d/post.sh`"]);
    host.write("etc/vz/templates.d/post.sh", "", 0o646);
    vzpkg(&host, &["create", "cache", "post"]).failed(21, &["others than its owner may write to it"]);
    assert!(!host.path("vz/template/post").exists());
}

#[test]
fn root_a_mirror_that_nobody_reaches_is_named_and_how_to_name_another() {
    let Some(host) = new_host() else { return };
    if !has_mmdebstrap() {
        return;
    }
    let url = nobody();
    let text = format!("kind = \"mmdebstrap\"\nsuite = \"bookworm\"\nmirrors = [\"{url}\"]\n");
    host.write("etc/vz/templates.d/mine.toml", &text, 0o644);
    vzpkg(&host, &["create", "cache", "mine"]).failed(
        91,
        &[
            &format!("Failed to fetch {url}"),
            &format!("tried: {url}"),
            "nothing was changed",
            "etc/vz/templates.d/mine.toml name another",
        ],
    );
    let mut command = host.vzpkg();
    let output = command.args(["create", "cache", "debian-12"]).env("REROOT_DEBIAN_MIRROR", &url).output();
    Ran::of(output.unwrap()).failed(91, &[&format!("Failed to fetch {url}"), "REROOT_DEBIAN_MIRROR"]);
    let left = std::fs::read_dir(host.path("vz/template")).unwrap().count();
    assert_eq!(left, 0, "nothing of it is left");
}

#[test]
fn root_scripts_of_a_recipe_are_run_inside_the_new_root() {
    let Some(host) = new_host() else { return };
    if !has_mmdebstrap() {
        return;
    }
    let text = "kind = \"mmdebstrap\"\nsuite = \"bookworm\"\ndistribution = \"debian\"\nrelease = \"12\"\n\
                base-packages = [\"systemd-sysv\"]\npackages = [\"hello\"]\npre = \"mine.pre\"\npost = \"mine.post\"\n";
    host.write("etc/vz/templates.d/mine.toml", text, 0o644);
    host.write("etc/vz/templates.d/mine.pre", "echo before; exit 7\n", 0o600);
    host.write("etc/vz/templates.d/mine.post", "", 0o644);
    let ran = vzpkg(&host, &["create", "cache", "mine"]);
    if ran.stderr.contains("Failed to fetch") {
        testkit::real_host::not_run_here(Path::new(PROGRAM), "no Debian archive can be reached");
        return;
    }
    ran.failed(
        91,
        &["the script `pre` of the recipe ended with 7", "nothing was changed", "template-mine.log"],
    );

    // It sees the new root and nothing else; what it makes of the files that each container has of its own is not in the way.
    let pre = "#!/bin/sh -e\ntest ! -e /usr/bin/hello\necho before >/etc/made\n";
    let post = format!(
        "#!/bin/sh -e\ntest -x /usr/bin/hello\ntest ! -e {}\necho after >>/etc/made\n\
         ln -sf /etc/made /etc/resolv.conf\nln -sf {} /etc/hosts\n",
        host.prefix().display(),
        host.path("etc/hosts-of-the-host").display()
    );
    host.write("etc/vz/templates.d/mine.pre", pre, 0o600);
    host.write("etc/vz/templates.d/mine.post", &post, 0o600);
    host.write("etc/hosts-of-the-host", "untouched\n", 0o644);
    let ran = vzpkg(&host, &["create", "cache", "mine"]);
    assert_eq!(ran.code, 0, "{ran}");
    let root = host.path("vz/template/mine/latest/rootfs");
    let read = |path: &str| std::fs::read_to_string(root.join(path)).unwrap();
    assert_eq!((read("etc/made"), read("etc/resolv.conf")), ("before\nafter\n".into(), String::new()));
    assert!(read("etc/hosts").contains("localhost"));
    assert!(!root.join(".recipe-script").exists());
    let hosts = std::fs::read_to_string(host.path("etc/hosts-of-the-host")).unwrap();
    assert_eq!(hosts, "untouched\n");
    host.ok(["create", "web01", "--ostemplate", "mine"]);
    host.ok(["start", "web01"]);
    host.wait_until("it is up", || host.run(["exec", "web01", "hello"]).stdout == "Hello, world!\n");
}
