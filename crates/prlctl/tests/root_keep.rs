//! `prlctl reinstall --keep`: what was asked for is in the new root, and nothing else is.

use testkit::{Ran, RealHost};

/// A host with a running container `web01` that has something of everything to keep.
fn with_container() -> Option<RealHost> {
    let host = RealHost::new(env!("CARGO_BIN_EXE_prlctl"))?;
    host.started("web01");
    host.exec(
        "web01",
        "echo 'joe:x:1000:1000::/home/joe:/bin/sh' >>/etc/passwd; echo 'joe:x:1000:' >>/etc/group; \
         mkdir -p /home/joe/.ssh /srv/www/deep /etc/ssh /var/spool/cron/crontabs /root/.ssh; \
         echo key of joe > /home/joe/.ssh/authorized_keys; echo key of root > /root/.ssh/authorized_keys; \
         echo mail > /home/joe/mail; chown -R 1000:1000 /home/joe; chmod 700 /home/joe; \
         echo page > /srv/www/index; ln /srv/www/index /srv/www/deep/same; ln -s /srv/www/index /srv/www/link; \
         echo secret > /etc/ssh/ssh_host_rsa_key; chmod 600 /etc/ssh/ssh_host_rsa_key; echo conf > /etc/ssh/sshd_config; \
         echo '* * * * * true' > /var/spool/cron/crontabs/joe; echo old > /etc/profile; echo other > /srv/other",
    );
    Some(host)
}

/// The files among these that the container has, each with owner, mode and contents.
fn files(host: &RealHost, paths: &str) -> String {
    host.exec(
        "web01",
        &format!("for f in {paths}; do [ -f $f ] && echo $f $(stat -c '%u %a' $f) \"$(cat $f)\"; done; true"),
    )
}

const ALL: &str = "/home/joe/.ssh/authorized_keys /home/joe/mail /root/.ssh/authorized_keys /srv/www/index /srv/other \
    /etc/ssh/ssh_host_rsa_key /etc/ssh/sshd_config /var/spool/cron/crontabs/joe";

fn reinstalled(host: &RealHost, options: &[&str]) -> Ran {
    let ran = host.run(["reinstall", "web01"].iter().chain(options));
    assert_eq!(ran.code, 0, "{ran}");
    ran
}

#[test]
fn root_keep_takes_what_it_names_and_nothing_else() {
    let Some(host) = with_container() else { return };
    for (options, wanted) in [
        (&[][..], &[][..]),
        (
            &["--keep", "ssh-keys"],
            &[
                "/home/joe/.ssh/authorized_keys 1000 644 key of joe",
                "/root/.ssh/authorized_keys 0 644 key of root",
            ],
        ),
        (&["--keep", "ssh-host-keys"], &["/etc/ssh/ssh_host_rsa_key 0 600 secret"]),
        (
            &["--keep", "home"],
            &[
                "/home/joe/.ssh/authorized_keys 1000 644 key of joe",
                "/home/joe/mail 1000 644 mail",
                "/root/.ssh/authorized_keys 0 644 key of root",
            ],
        ),
        (&["--keep", "cron"], &["/var/spool/cron/crontabs/joe 0 644 * * * * * true"]),
        (&["--keep", "/srv/www"], &["/srv/www/index 0 644 page"]),
        (&["--keep", "/s?v/o*", "--keep", "/none"], &["/srv/other 0 644 other"]),
    ] {
        let ran = reinstalled(&host, options);
        let found = files(&host, ALL);
        assert_eq!(found.lines().collect::<Vec<_>>(), wanted, "{options:?}: {ran}");
        assert_eq!(
            ran.stderr.contains("nothing of /none is in the old root"),
            options.contains(&"/none"),
            "{ran}"
        );
        // The old one is at /old, as ever.
        assert_eq!(host.exec("web01", "cat /old/srv/other"), "other");
        host.ok(["reinstall", "web01", "--undo"]);
    }
}

#[test]
fn root_keep_carries_links_and_says_what_it_did() {
    let Some(host) = with_container() else { return };
    let ran = host.run(["reinstall", "web01", "--keep", "/srv", "--keep", "/etc/profile", "-j"]);
    assert_eq!(ran.code, 0, "{ran}");
    let result: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(result["kept"]["kept"][0]["keep"], "/srv");
    assert_eq!(result["kept"]["kept"][0]["entries"], 7, "{result:#}");
    assert_eq!(result["kept"]["conflicts"][0]["saved_as"], "/etc/profile.template-new", "{result:#}");
    let same =
        "[ $(stat -c %i /srv/www/index) = $(stat -c %i /srv/www/deep/same) ] && readlink /srv/www/link";
    assert_eq!(host.exec("web01", same), "/srv/www/index");
    assert_eq!(host.exec("web01", "cat /etc/profile"), "old");
    assert_ne!(host.exec("web01", "cat /etc/profile.template-new"), "old");
    // What is changed in the new root leaves the old one alone.
    host.exec("web01", "echo changed > /srv/www/index");
    assert_eq!(host.exec("web01", "cat /old/srv/www/index"), "page");
}

#[test]
fn root_keep_with_skipbackup_holds_the_only_copy() {
    let Some(host) = with_container() else { return };
    host.ok(["stop", "web01"]);
    let ran = reinstalled(&host, &["--keep", "/srv", "--skipbackup"]);
    assert!(ran.stderr.contains("kept /srv: 7 entries"), "{ran}");
    host.ok(["start", "web01", "--wait"]);
    assert_eq!(host.exec("web01", "cat /srv/www/index /srv/other; ls -A /old"), "page\nother");
}

#[test]
fn root_keep_of_the_configuration_and_of_sets_of_ones_own() {
    let Some(host) = with_container() else { return };
    host.write("etc/vz/keep.d/mine.conf", "# ours\n\n/srv/www\n~/mail\n", 0o644);
    let conf = host.area("web01").join("ve.conf");
    let text = std::fs::read_to_string(&conf).unwrap();
    let below = conf.strip_prefix(host.prefix()).unwrap().to_str().unwrap().to_owned();
    host.write(&below, &format!("{text}REINSTALL_KEEP=\"mine /srv/other\"\n"), 0o600);
    let plan = host.ok(["reinstall", "web01", "--dry-run"]);
    assert!(plan.contains("keep mine: 5 entries") && plan.contains("keep /srv/other: 1 entries"), "{plan}");
    reinstalled(&host, &["--keep", "cron"]);
    assert_eq!(files(&host, ALL).lines().count(), 4, "{}", files(&host, ALL));
    // A file of one's own counts instead of what comes with the product.
    host.write("etc/vz/keep.d/cron.conf", "/nothing\n", 0o644);
    let ran = reinstalled(&host, &["--keep", "cron"]);
    assert!(ran.stderr.contains("nothing of cron is in the old root"), "{ran}");
    assert!(host.ok(["list", "-i", "web01"]).contains("web01"));
}

#[test]
fn root_keep_refuses_what_it_cannot_keep_before_anything_happens() {
    let Some(host) = with_container() else { return };
    let before = host.exec("web01", "cat /proc/1/stat");
    for (word, said) in [
        ("none", "no set"),
        ("srv", "the sets are cron, home, machine-id"),
        ("/", "the whole root"),
        ("/old/etc", "no part of the root"),
        ("/srv/../etc", "`..` is not followed"),
        ("/srv/**", "`**` means nothing"),
        ("/srv/[", "no pattern"),
    ] {
        host.run(["reinstall", "web01", "--keep", word])
            .failed(21, &["cannot be kept", said, "nothing was changed"]);
    }
    host.write("etc/vz/keep.d/bad.conf", "/srv\nwhat is this\n", 0o644);
    host.run(["reinstall", "web01", "--keep", "bad"]).failed(21, &["bad.conf", "line 2", "what is this"]);
    host.write("etc/vz/keep.d/open.conf", "/srv\n", 0o666);
    host.run(["reinstall", "web01", "--keep", "open"]).failed(21, &["open.conf", "chmod go-w"]);
    host.run(["reinstall", "web01", "--undo", "--keep", "home"]).failed(20, &["cannot be used with"]);
    assert_eq!(host.ok(["generation-list", "web01", "-H"]).lines().count(), 1);
    assert_eq!(
        host.exec("web01", "cat /proc/1/stat").split(' ').nth(21),
        before.split(' ').nth(21),
        "it was not restarted"
    );
}

#[test]
fn root_keep_tells_of_owners_who_are_somebody_else() {
    let Some(host) = with_container() else { return };
    host.exec("web01", "echo 'mysql:x:105:105::/srv/db:/bin/false' >>/etc/passwd; mkdir /srv/db; echo t > /srv/db/t; chown -R 105:105 /srv/db");
    let ran = reinstalled(&host, &["--keep", "/srv"]);
    assert!(
        ran.stderr
            .contains("2 kept entries belong to id 105, which was `mysql` and is nobody in the new root"),
        "{ran}"
    );
    assert_eq!(host.exec("web01", "stat -c %u /srv/db/t"), "105");
}

#[test]
fn root_keep_leaves_the_users_to_the_merge() {
    let Some(host) = with_container() else { return };
    host.exec("web01", "echo 'evil:x:0:0::/:/bin/sh' >> /etc/passwd");
    let ran = reinstalled(&host, &["--keep", "/etc"]);
    assert!(ran.stderr.contains("not kept: /etc/passwd: it is not kept but merged"), "{ran}");
    assert_eq!(
        host.exec(
            "web01",
            "grep -c ^evil /etc/passwd || true; grep -c ^joe: /etc/passwd; cat /etc/ssh/sshd_config"
        ),
        "0\n1\nconf"
    );
}

#[test]
fn root_keep_goes_into_a_root_that_a_script_has_built() {
    let Some(host) = with_container() else { return };
    host.script(
        "etc/vz/conf/vps.reinstall",
        "#!/bin/sh\nmkdir -p \"$VE_PRIVATE_TMP\" && cp -a \"$OSTEMPLATE_ROOT\"/. \"$VE_PRIVATE_TMP\" && mkdir -p \"$VE_PRIVATE_TMP/srv/www\" && echo built > \"$VE_PRIVATE_TMP/srv/www/index\"\n",
    );
    let ran = reinstalled(&host, &["--keep", "/srv"]);
    assert!(
        ran.stderr.contains("/srv/www/index is the old one; the template's is /srv/www/index.template-new"),
        "{ran}"
    );
    assert_eq!(host.exec("web01", "cat /srv/www/index /srv/www/index.template-new"), "page\nbuilt");
}

#[test]
fn root_keep_never_follows_a_hostile_root_out_of_it() {
    let Some(host) = with_container() else { return };
    let secret = host.path("secret");
    host.write("secret", "of the host", 0o644);
    host.exec(
        "web01",
        &format!(
            "rm -rf /srv/www; ln -s {} /srv/www; ln -s / /srv/top; mkfifo /srv/pipe; mv /home /home2; ln -s /../../../.. /home",
            host.prefix().display()
        ),
    );
    let ran = host.run([
        "reinstall",
        "web01",
        "--keep",
        "/srv/www/secret",
        "--keep",
        "/srv/top/srv/pipe",
        "--keep",
        "home",
    ]);
    assert_eq!(ran.code, 0, "{ran}");
    assert_eq!(
        host.exec("web01", "ls -d /srv/www /srv/top/srv/pipe; readlink /home"),
        "/srv/top/srv/pipe\n/../../../.."
    );
    assert_eq!(std::fs::read_to_string(&secret).unwrap(), "of the host");
}

#[test]
fn root_keep_that_does_not_fit_is_refused_with_figures() {
    let Some(host) = RealHost::on_image(env!("CARGO_BIN_EXE_prlctl"), "64M", "ext4") else { return };
    assert!(host.vzpkg().args(["create", "cache", "busybox"]).output().unwrap().status.success());
    host.started("web01");
    host.exec("web01", "dd if=/dev/urandom of=/srv/big bs=1M count=30 2>/dev/null");
    let ran = host.run(["reinstall", "web01", "--keep", "/srv"]);
    ran.failed(46, &["a new root with what is kept needs", "there are", "keep less", "nothing was changed"]);
    assert_eq!(host.exec("web01", "stat -c %s /srv/big"), "31457280");
}

#[test]
fn root_keep_is_interrupted_like_all_else() {
    let Some(host) = with_container() else { return };
    host.exec("web01", "mkdir /srv/many; cd /srv/many; seq 1 20000 | xargs touch");
    let mut command = host.prlctl();
    command.args(["reinstall", "web01", "--keep", "/srv/many"]).stdout(std::process::Stdio::null());
    let mut child = command.stderr(std::process::Stdio::piped()).spawn().unwrap();
    let stderr = child.stderr.take().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(stderr));
    lines.by_ref().find(|line| line.as_ref().unwrap().starts_with("Keeping")).unwrap().unwrap();
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::INT)
        .unwrap();
    let rest: Vec<String> = lines.map(Result::unwrap).collect();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{rest:#?}");
    assert!(rest.iter().any(|line| line.contains("nothing was lost")), "{rest:#?}");
    assert_eq!(
        host.exec("web01", "ls /srv/many | wc -l; ls -d /old 2>&1 || :"),
        "20000\nls: /old: No such file or directory"
    );
}

#[test]
fn root_keep_packages_leaves_a_script_where_there_is_no_network() {
    let Some(host) = with_container() else { return };
    // The template is no Debian: so that both roots are, it gets the records of one.
    host.script(
        "etc/vz/conf/vps.reinstall",
        "#!/bin/sh\nmkdir -p \"$VE_PRIVATE_TMP\" && cp -a \"$OSTEMPLATE_ROOT\"/. \"$VE_PRIVATE_TMP\" && mkdir -p \"$VE_PRIVATE_TMP/var/lib/dpkg\" && \
         printf 'Package: bash\\nStatus: install ok installed\\n' > \"$VE_PRIVATE_TMP/var/lib/dpkg/status\"\n",
    );
    host.exec(
        "web01",
        "mkdir -p /var/lib/dpkg /var/lib/apt; printf 'Package: %s\\nStatus: install ok installed\\nArchitecture: amd64\\n\\n' bash nginx libssl3 > /var/lib/dpkg/status; \
         printf 'Package: libssl3\\nArchitecture: amd64\\nAuto-Installed: 1\\n' > /var/lib/apt/extended_states",
    );
    let ran = reinstalled(&host, &["--keep", "packages"]);
    assert!(ran.stderr.contains("1 packages were installed by hand: nginx"), "{ran}");
    assert!(
        ran.stderr.contains("the container has no network: /root/install-packages.sh in it installs them"),
        "{ran}"
    );
    assert_eq!(
        host.exec(
            "web01",
            "grep -c 'packages=\"nginx\"' /root/install-packages.sh; stat -c %a /root/install-packages.sh"
        ),
        "1\n700"
    );
}

#[test]
fn root_keep_refuses_what_would_be_mounted_over_in_the_new_root() {
    let Some(host) = with_container() else { return };
    // The template has /var/run as a symlink to /run, or none; a script's root has one.
    host.exec("web01", "rm -rf /var/run; mkdir -p /var/run/app; echo data > /var/run/app/db");
    host.script(
        "etc/vz/conf/vps.reinstall",
        "#!/bin/sh\nmkdir -p \"$VE_PRIVATE_TMP\" && cp -a \"$OSTEMPLATE_ROOT\"/. \"$VE_PRIVATE_TMP\" && rm -rf \"$VE_PRIVATE_TMP/var/run\" && mkdir -p \"$VE_PRIVATE_TMP/var\" && ln -s ../run \"$VE_PRIVATE_TMP/var/run\"\n",
    );
    let ran = host.run(["reinstall", "web01", "--keep", "/var/run/app", "--skipbackup"]);
    ran.failed(94, &["`/var/run/app` cannot be kept", "mounted at every start", "nothing was lost"]);
    assert_eq!(host.exec("web01", "cat /var/run/app/db"), "data");
}

#[test]
fn root_keep_finds_homes_in_a_root_that_has_lost_its_users() {
    let Some(host) = with_container() else { return };
    host.exec("web01", "rm /etc/passwd /etc/shadow");
    reinstalled(&host, &["--keep", "home"]);
    assert_eq!(host.exec("web01", "cat /root/.ssh/authorized_keys /home/joe/mail"), "key of root\nmail");
    // What cannot be read is no reason to keep nothing.
    host.exec("web01", "rm /etc/passwd; mkfifo /etc/passwd");
    let ran = host.run(["reinstall", "web01", "--keep", "home", "--skipbackup"]);
    ran.failed(
        21,
        &["nobody can tell where the homes are", "a FIFO", "nothing was changed", "name their paths"],
    );
}
