//! `set --userpasswd`, `create --userpasswd`: the account has that password, whether the container runs or not, and nobody sees it on the way.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::io::Write;
use std::path::Path;
use std::process::Stdio;

use rustix::fs::{FlockOperation, fcntl_lock};
use testkit::{Ran, RealHost, Terminal};

const PASSWORD: &str = "Franz: jagt\\'\" im $6$ Taxi";

fn host() -> Option<RealHost> {
    let host = RealHost::new(env!("CARGO_BIN_EXE_prlctl"))?;
    host.started("web01");
    Some(host)
}

fn with_input(host: &RealHost, words: &[&str], input: &str) -> Ran {
    let mut command = host.prlctl();
    let mut child = command
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may have been refused before it is read.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    Ran::of(child.wait_with_output().unwrap())
}

/// Somebody who is not root logs in as `user` with `password`; whether he is let in.
fn lets_in(host: &RealHost, user: &str, password: &str) -> bool {
    let line = format!("su nobody -s /bin/sh -c 'su {user} -c \"echo I am \\$(id -un)\"'");
    let mut command = host.prlctl();
    command.args(["exec", "web01", &line]);
    let mut terminal = Terminal::run(&command, 24, 80);
    terminal.expects("assword: ");
    terminal.types(&format!("{password}\n"));
    let (code, said) = terminal.ends();
    assert_eq!(code == 0, said.contains(&format!("I am {user}")), "{said}");
    code == 0
}

/// Whether a file of the host's that is Reroot's own has it, or any command line or environment but this process's.
fn is_seen(host: &RealHost, words: &str) -> bool {
    let has = |path: &Path| {
        std::fs::read(path).is_ok_and(|bytes| bytes.windows(words.len()).any(|part| part == words.as_bytes()))
    };
    let mut todo = vec![host.path("vz/private"), host.path("etc"), host.path("var"), host.path("run")];
    while let Some(directory) = todo.pop() {
        for entry in std::fs::read_dir(&directory).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => todo.push(entry.path()),
                Ok(kind) if kind.is_file() && has(&entry.path()) => return true,
                Ok(_) | Err(_) => {}
            }
        }
    }
    let own = std::process::id().to_string();
    let processes = std::fs::read_dir("/proc").unwrap().flatten().filter(|entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        name != own && name.bytes().all(|byte| byte.is_ascii_digit())
    });
    processes.into_iter().any(|entry| ["cmdline", "environ"].iter().any(|name| has(&entry.path().join(name))))
}

#[test]
fn root_a_password_is_set_while_it_runs_and_while_it_does_not() {
    let Some(host) = host() else { return };
    host.exec("web01", "chmod 604 /etc/shadow; echo '# mine' >>/etc/passwd");
    let before = host.exec("web01", "cat /etc/passwd; grep -v ^root: /etc/shadow");
    let given = format!("root:{PASSWORD}");
    let said = host.ok(["set", "web01", "--userpasswd", &given, "--description", "with a password"]);
    assert!(said.contains("The CT has been successfully configured."), "{said}");
    assert!(lets_in(&host, "root", PASSWORD));
    assert!(!lets_in(&host, "root", "another"));
    assert_eq!(host.exec("web01", "cat /etc/passwd; grep -v ^root: /etc/shadow"), before);
    assert_eq!(host.exec("web01", "stat -c %a:%u:%g /etc/shadow"), "604:0:42");
    assert!(host.ok(["list", "-i", "web01"]).contains("with a password"));

    host.ok(["stop", "web01", "--kill"]);
    host.ok(["set", "web01", "--userpasswd=root:zweites"]);
    // With its own spelling, and without --save: a password is there to stay.
    let ran = Ran::of(host.vzctl().args(["set", "web01", "--userpasswd", "ann:drittes"]).output().unwrap());
    assert_eq!(ran.code, 0, "{ran}");
    assert!(!ran.stderr.contains("not saved"), "{ran}");
    host.ok(["start", "web01"]);
    assert!(lets_in(&host, "root", "zweites"));
    assert!(lets_in(&host, "ann", "drittes"));
}

#[test]
fn root_several_accounts_get_their_passwords_in_one_call() {
    let Some(host) = host() else { return };
    let words = ["set", "web01", "--userpasswd", "root:eins", "--userpasswd=ann:zwei"];
    let ran = host.run(words.iter().chain(&["--userpasswd", "bob:drei"]));
    assert_eq!(ran.code, 0, "{ran}");
    for (user, password) in [("root", "eins"), ("ann", "zwei"), ("bob", "drei")] {
        assert!(lets_in(&host, user, password), "{user}");
        assert_eq!(
            ran.stderr.contains(&format!("`{user}` was not there, and has been made")),
            user != "root"
        );
    }
    let words = &["set", "web01", "--userpasswd", "ann:-", "--userpasswd", "root:-"];
    assert_eq!(with_input(&host, words, "vier\nf\u{fc}nf\n").code, 0);
    assert!(lets_in(&host, "ann", "vier") && lets_in(&host, "root", "f\u{fc}nf"));
    // All of them, or none.
    with_input(&host, words, "sechs\n")
        .failed(21, &["the password for `root`", "it is empty", "nothing was changed"]);
    assert!(lets_in(&host, "ann", "vier"));
    for other in ["root:geheim", "bob:-"] {
        let ran = host.run(["set", "web01", "--userpasswd", "root:geheim", "--userpasswd", other]);
        ran.failed(20, &["cannot be used together", "nothing was changed"]);
        assert!(!ran.to_string().contains("geheim"), "{ran}");
    }
    host.ok(["create", "web02", "--ostemplate", "busybox", "--userpasswd", "ann:a", "--userpasswd", "bob:b"]);
    host.ok(["start", "web02"]);
    assert_eq!(
        host.exec("web02", "grep -c -e '^ann:.6' -e '^bob:.6' /etc/shadow; id -un ann; id -un bob"),
        "2\nann\nbob"
    );
}

/// What has no room is not done, and nothing more than that is said.
#[test]
fn root_where_the_disk_is_full_nothing_is_said_to_have_changed() {
    let Some(host) = RealHost::new(env!("CARGO_BIN_EXE_prlctl")) else { return };
    host.ok(["create", "web01", "--ostemplate", "busybox", "--volume", "image", "--diskspace", "32M"]);
    host.ok(["set", "web01", "--userpasswd", "root:erstes"]);
    host.ok(["start", "web01"]);
    host.exec("web01", "mkdir -p /home");
    let look = || host.exec("web01", "cat /etc/passwd /etc/shadow /etc/group; ls -A /home");
    let before = look();
    // To its very end, which the container alone would not come to.
    let volume = host.path("run/vz").join(host.area("web01").file_name().unwrap()).join("volume");
    let fill = "dd if=/dev/zero of=$0/full bs=64k; dd if=/dev/zero of=$0/rest bs=4k; dd if=/dev/zero of=$0/last bs=1";
    let ran = Ran::of(std::process::Command::new("sh").args(["-c", fill]).arg(&volume).output().unwrap());
    assert_eq!(ran.stderr.matches("No space left on device").count(), 3, "{ran}");
    for user in ["root", "ann"] {
        host.run(["set", "web01", "--userpasswd", &format!("{user}:zweites")])
            .failed(74, &["No space left on device", "state: nothing was changed\n"]);
    }
    assert_eq!(look(), before);
    assert!(lets_in(&host, "root", "erstes"));
    for name in ["full", "rest", "last"] {
        std::fs::remove_file(volume.join(name)).unwrap();
    }
    host.ok(["set", "web01", "--userpasswd", "root:zweites"]);
    assert!(lets_in(&host, "root", "zweites"));
}

#[test]
fn root_an_account_that_is_not_there_is_made() {
    let Some(host) = host() else { return };
    host.exec("web01", "mkdir -p /etc/skel/.config; echo hello >/etc/skel/.profile; echo x >/etc/skel/.config/a; ln -s /etc/shadow /etc/skel/link");
    let ran = with_input(&host, &["set", "web01", "--userpasswd", "ann:-"], &format!("{PASSWORD}\nmore\n"));
    assert_eq!(ran.code, 0, "{ran}");
    assert!(ran.stderr.contains("`ann` was not there, and has been made"), "{ran}");
    assert!(lets_in(&host, "ann", PASSWORD));
    let id = host.exec("web01", "id -u ann");
    assert_eq!(host.exec("web01", "id -g ann"), id);
    assert_eq!(
        host.exec(
            "web01",
            "stat -c '%n %a %U:%G' /home/ann /home/ann/.profile /home/ann/.config/a; ls -A /home/ann"
        ),
        "/home/ann 700 ann:ann\n/home/ann/.profile 644 ann:ann\n/home/ann/.config/a 644 ann:ann\n.config\n.profile"
    );
    // The second time it is an account like any other.
    let ran = with_input(&host, &["set", "web01", "--userpasswd", "ann:-"], "another\n");
    assert!(ran.code == 0 && !ran.stderr.contains("has been made"), "{ran}");
    assert!(lets_in(&host, "ann", "another"));
    assert_eq!(
        host.exec("web01", "grep -c ^ann: /etc/passwd /etc/shadow /etc/group"),
        "/etc/passwd:1\n/etc/shadow:1\n/etc/group:1"
    );

    // And in one that is only made now.
    let ran = with_input(
        &host,
        &["create", "web02", "--ostemplate", "busybox", "--userpasswd", "bob:-"],
        "erstes\n",
    );
    assert_eq!(ran.code, 0, "{ran}");
    host.ok(["start", "web02"]);
    assert_eq!(host.exec("web02", "stat -c '%a %U' /home/bob; id -un bob"), "700 bob\nbob");
    assert!(host.exec("web02", "grep ^bob: /etc/shadow").starts_with("bob:$6$"));
}

/// Whoever is root inside decides what is there: it is a courtesy, and nothing of the host's, nor anything that blocks.
#[test]
fn root_a_hostile_skeleton_gives_nothing_of_the_host_and_holds_nobody_up() {
    let Some(host) = host() else { return };
    host.write("outside/of-the-host", "secret\n", 0o644);
    let outside = host.path("outside").display().to_string();
    let up = "../".repeat(40);
    let hostile = [
        format!("ln -s {outside} /etc/skel"),
        format!("ln -s {up}{} /etc/skel", outside.trim_start_matches('/')),
        format!("mkdir /etc/skel; ln -s {outside} /etc/skel/directory; ln -s {outside}/of-the-host /etc/skel/file"),
        "ln -s skel /etc/skel".to_owned(),
        "mkfifo /etc/skel".to_owned(),
        "mkdir /etc/skel; mkfifo /etc/skel/fifo; mkdir /etc/skel/deep; ln -s .. /etc/skel/deep/up".to_owned(),
        "mkdir /etc/skel; echo x >/etc/skel/own; chmod 6755 /etc/skel/own; echo y >/etc/skel/sealed; chmod 0 /etc/skel/sealed".to_owned(),
        "mkdir /etc/skel; mount --bind /proc /etc/skel".to_owned(),
        "mkdir /etc/skel; mount -t tmpfs none /etc/skel; mkfifo /etc/skel/fifo; echo x >/etc/skel/hidden".to_owned(),
    ];
    for (number, line) in hostile.iter().enumerate() {
        host.exec("web01", &format!("umount /etc/skel 2>/dev/null; rm -rf /etc/skel; {line}"));
        let user = format!("user{number}");
        let ran = with_input(&host, &["set", "web01", "--userpasswd", &format!("{user}:-")], "geheim\n");
        assert!(ran.code == 0 && ran.stderr.contains("has been made"), "{line}: {ran}");
        assert_eq!(
            host.exec("web01", &format!("stat -c '%a %U' /home/{user}")),
            format!("700 {user}"),
            "{line}"
        );
        let home = host.exec("web01", &format!("find /home/{user}; cat /home/{user}/* 2>/dev/null; :"));
        assert!(!home.contains("of-the-host") && !home.contains("secret"), "{line}: {home}");
        assert_eq!(
            host.exec("web01", &format!("find /home/{user} -type p -o -type l -o -perm -4000")),
            "",
            "{line}"
        );
    }
    assert!(host.exec("web01", "ls /home/user6").contains("own"), "what is harmless is there");
    host.exec("web01", "umount /etc/skel");
}

/// Of whatever a death in the middle of `useradd`, or of ours, has left, the next try makes one account, and a group that somebody else has made gives it no rights.
#[test]
fn root_an_account_that_was_half_made_is_one_afterwards() {
    let Some(host) = host() else { return };
    let give =
        |user: &str| with_input(&host, &["set", "web01", "--userpasswd", &format!("{user}:-")], "geheim\n");
    let counted = |user: &str, files: &str| host.exec("web01", &format!("cat {files} | grep -c ^{user}:"));
    // Its shadow alone.
    host.exec("web01", "echo 'ann:!:19000:0:99999:7:::' >>/etc/shadow");
    let ran = give("ann");
    assert!(ran.code == 0 && ran.stderr.contains("`ann` was not there, and has been made"), "{ran}");
    assert_eq!(counted("ann", "/etc/passwd /etc/shadow /etc/group"), "3");
    assert!(lets_in(&host, "ann", "geheim"));
    // All but its group.
    host.exec("web01", "echo 'bob:x:4242:4242::/home/bob:/bin/sh' >>/etc/passwd; echo 'bob:!:19000:0:99999:7:::' >>/etc/shadow");
    let ran = give("bob");
    assert!(ran.code == 0 && !ran.stderr.contains("has been made"), "{ran}");
    assert_eq!(counted("bob", "/etc/passwd /etc/shadow"), "2");
    assert_eq!(host.exec("web01", "id -g bob"), "4242");
    assert!(lets_in(&host, "bob", "geheim"));
    // Its group alone, which may be anybody's.
    host.exec("web01", "echo 'carl:x:4243:' >>/etc/group");
    let before = host.exec("web01", "cat /etc/passwd /etc/shadow /etc/group | md5sum");
    give("carl").failed(74, &["a group with that name is there already", "nothing was changed"]);
    assert_eq!(host.exec("web01", "cat /etc/passwd /etc/shadow /etc/group | md5sum"), before);
}

#[test]
fn root_a_hash_is_taken_as_it_is() {
    let Some(host) = host() else { return };
    // openssl passwd -6 -salt salt secret
    let hash =
        "$6$salt$egUF/jLwnkJgtSBwZw8LErJVtPpCyj8JBEBKvLOmh1XRqxWCvjGnSoWTF0KkZFyZ0D4Tb9GtWBYfD3S/9Xq6B0";
    let openssl =
        std::process::Command::new("openssl").args(["passwd", "-6", "-salt", "salt", "secret"]).output();
    let hash = openssl
        .map_or_else(|_| hash.to_owned(), |made| String::from_utf8(made.stdout).unwrap().trim().to_owned());
    host.ok(["set", "web01", "--userpasswd", &format!("root:{hash}"), "--crypted"]);
    assert_eq!(host.exec("web01", "grep ^root: /etc/shadow").split(':').nth(1), Some(hash.as_str()));
    for (value, code) in [("root:secret", 21), ("root:!", 21), ("root:$6$a$b", 21)] {
        let ran = host.run(["set", "web01", "--userpasswd", value, "--crypted"]);
        ran.failed(code, &["it is no hash of a password", "nothing was changed"]);
        assert!(!ran.to_string().contains("secret"), "{ran}");
    }
    assert_eq!(host.exec("web01", "grep ^root: /etc/shadow").split(':').nth(1), Some(hash.as_str()));
}

#[test]
fn root_a_password_is_seen_nowhere() {
    let Some(host) = host() else { return };
    let (ready, fifo) = (host.path("ready"), host.path("go-on"));
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    // Something that holds the container's lock for as long as it is wanted.
    host.script(
        "etc/vz/conf/vps.reinstall",
        &format!("#!/bin/sh\n: >{}\nread -r word <{}\nexit 1\n", ready.display(), fifo.display()),
    );
    let reinstall =
        host.prlctl().args(["reinstall", "web01"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let mut reinstall = reinstall.unwrap();
    host.wait_until("the script runs", || ready.exists());
    let given = format!("root:{PASSWORD}");
    let set = host
        .prlctl()
        .args(["set", "web01", "--lock-wait", "300", "--userpasswd", &given])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let line = format!("/proc/{}/cmdline", set.id());
    host.wait_until("it has taken it off its command line", || {
        std::fs::read(&line).is_ok_and(|line| line.windows(7).any(|part| part == b"root:-\0"))
    });
    assert!(!is_seen(&host, PASSWORD));
    drop(std::fs::File::options().write(true).open(&fifo).unwrap());
    let ran = Ran::of(set.wait_with_output().unwrap());
    reinstall.wait().unwrap();
    assert!(ran.code == 0 && !ran.to_string().contains(PASSWORD), "{ran}");
    assert!(lets_in(&host, "root", PASSWORD));
    assert!(!is_seen(&host, PASSWORD));
    let told = host.ok(["log", "web01"]);
    assert!(!told.contains(PASSWORD) && !told.contains("$6$"), "{told}");
}

#[test]
fn root_what_cannot_be_given_changes_nothing_else() {
    let Some(host) = host() else { return };
    let conf = || std::fs::read(host.area("web01").join("ve.conf")).unwrap();
    let limit = |host: &RealHost| {
        let told = host.ok(["list", "-i", "web01", "-j"]);
        serde_json::from_str::<serde_json::Value>(&told).unwrap()[0]["now"].clone()
    };
    let (before, limits) = (conf(), limit(&host));
    let refused = |user: &str, wanted: &str| {
        let ran = host.run([
            "set",
            "web01",
            "--numproc",
            "77",
            "--description",
            "no",
            "--userpasswd",
            &format!("{user}:geheim"),
        ]);
        ran.failed(74, &[wanted, "state: nothing was changed"]);
        assert!(!ran.to_string().contains("geheim"), "{ran}");
        assert_eq!(conf(), before);
        assert_eq!(limit(&host), limits);
    };
    host.exec("web01", "echo docker:x:90: >>/etc/group");
    refused("docker", "a group with that name is there already");
    refused("1x", "none can be made with that name");
    refused("../../etc", "none can be made with that name");
    host.exec("web01", "mount -t tmpfs none /etc");
    refused("root", "something else is mounted at `/etc` in it");
    host.exec("web01", "umount /etc");
    host.exec("web01", "mv /etc/shadow /etc/shadow.mine; mkdir /etc/shadow");
    refused("root", "`/etc/shadow`");
    host.exec("web01", "rmdir /etc/shadow; mv /etc/shadow.mine /etc/shadow");

    // Held as `passwd` inside would: seen when everything else has been done, and taken back.
    let uuid = host.area("web01").file_name().unwrap().to_owned();
    let root = host.path("run/vz").join(uuid).join("generations/1");
    host.exec("web01", ": >/etc/.pwd.lock");
    let lock = std::fs::File::options().write(true).open(root.join("etc/.pwd.lock")).unwrap();
    fcntl_lock(&lock, FlockOperation::NonBlockingLockExclusive).unwrap();
    refused("root", "another program in it has held `/etc/.pwd.lock`");
    drop(lock);
    host.ok(["set", "web01", "--numproc", "77", "--userpasswd", "root:geheim"]);
    assert!(lets_in(&host, "root", "geheim"));
}

#[test]
fn root_a_password_is_of_a_call_of_its_own_where_disks_change_and_only_there() {
    let Some(host) = RealHost::new(env!("CARGO_BIN_EXE_prlctl")) else { return };
    host.ok(["create", "web01", "--ostemplate", "busybox", "--volume", "image", "--diskspace", "64M"]);
    let conf = || std::fs::read_to_string(host.area("web01").join("ve.conf")).unwrap();
    let (before, size) = (conf(), || host.area("web01").join("volume.img").metadata().unwrap().len());
    std::fs::create_dir(host.path("shared")).unwrap();
    let mount = format!("{}:/shared", host.path("shared").display());
    for words in [["--diskspace", "96M"], ["--bindmount_add", &mount], ["--device-add", "hdd"]] {
        let more: &[&str] = if words[1] == "hdd" { &["--size", "32M", "--mnt", "/disk"] } else { &[] };
        let ran = host.run([&["set", "web01", "--userpasswd", "root:geheim"], &words[..], more].concat());
        ran.failed(
            20,
            &[
                "`--userpasswd` is of a call of its own",
                "state: nothing was changed",
                "say the one, then the other",
            ],
        );
        assert_eq!((conf(), size()), (before.clone(), 64 << 20), "{words:?}");
    }
    host.write("etc/vz/conf/ve-large.conf-sample", "DISKSPACE=\"96M\"\n", 0o644);
    host.run(["set", "web01", "--userpasswd", "root:geheim", "--applyconfig", "large"])
        .failed(20, &["`--userpasswd` is of a call of its own", "state: nothing was changed"]);
    assert_eq!((conf(), size()), (before.clone(), 64 << 20));
    // What was edited, and does not hold yet, is nobody's option.
    let below = host.area("web01").join("ve.conf");
    let below = below.strip_prefix(host.prefix()).unwrap().to_string_lossy().into_owned();
    let edit = |size: &str| {
        let line = |line: &str| match line.starts_with("DISKSPACE=") {
            true => format!("DISKSPACE=\"{size}\"\n"),
            false => format!("{line}\n"),
        };
        host.write(&below, &conf().lines().map(line).collect::<String>(), 0o600);
    };
    edit("96M");
    host.ok(["set", "web01", "--userpasswd", "root:geheim"]);
    host.ok(["start", "web01"]);
    assert!(lets_in(&host, "root", "geheim"));
    // Where the disk cannot be made larger after it, it is said that the password stays.
    edit("128M");
    let ran = host.run(["set", "web01", "--userpasswd", "root:anders"]);
    if ran.code != 0 {
        let state = "state: the password has been changed, and stays so; nothing else was changed";
        ran.failed(50, &["its disk cannot be made larger", state]);
    }
    assert!(lets_in(&host, "root", "anders"));
}

#[test]
fn root_what_is_no_password_is_refused_and_not_repeated() {
    let Some(host) = host() else { return };
    let long = format!("root:geheim{}", "x".repeat(300));
    for (value, wanted) in [
        ("geheim", "wanted `USER:PASSWORD`"),
        (":geheim", "wanted `USER:PASSWORD`"),
        ("ro ot:geheim", "wanted `USER:PASSWORD`"),
        ("root:geheim\nroot2:x", "wanted `USER:PASSWORD`"),
        ("root:geheim\u{1b}[2J", "there is a control character in it"),
        ("root:", "it is empty"),
        (long.as_str(), "it is longer than 256 bytes"),
    ] {
        for words in [&["set", "web01"][..], &["create", "web09", "--ostemplate", "busybox"]] {
            let ran = host.run([words, &["--userpasswd", value]].concat());
            ran.failed(21, &[wanted, "state: nothing was changed"]);
            assert!(!ran.to_string().contains("geheim"), "{ran}");
        }
    }
    host.run(["set", "web01", "--crypted"]).failed(20, &["--userpasswd"]);
    let ran = host.run(["set", "web01", "--userpasswd", "root:", "geheim"]);
    assert!(ran.code == 20 && !ran.to_string().contains("geheim"), "{ran}");
    assert!(!host.ok(["list", "-a"]).contains("web09"));
}
