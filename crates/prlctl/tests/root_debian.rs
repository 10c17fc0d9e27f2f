//! Debian 12 with systemd, in a container that really runs.

use std::process::Stdio;
use std::time::Instant;

use testkit::{Ran, RealHost, Terminal};

fn new_host() -> Option<RealHost> {
    let host = RealHost::with_debian(env!("CARGO_BIN_EXE_prlctl"))?;
    host.ok(["create", "web01", "--ostemplate", "debian-12"]);
    Some(host)
}

/// What is not as it should be in a systemd that has come up.
fn assert_healthy(host: &RealHost) {
    assert_eq!(host.exec("web01", "systemctl --failed --no-legend --plain"), "");
    assert_eq!(host.exec("web01", "systemctl is-system-running"), "running");
}

#[test]
fn root_debian_comes_up_without_a_failed_unit() {
    let Some(host) = new_host() else { return };
    host.ok(["start", "web01", "--wait"]);
    assert_healthy(&host);
    for unit in ["ssh", "cron", "dbus", "systemd-logind", "systemd-journald"] {
        assert_eq!(host.exec("web01", &format!("systemctl is-active {unit}")), "active", "{unit}");
    }
    assert_eq!(host.exec("web01", "systemd-detect-virt -q -c && echo yes"), "yes");
    host.exec("web01", "ping -c1 127.0.0.1");
    assert_eq!(host.exec("web01", "hostname"), "web01");
    assert_eq!(host.exec("web01", "echo $BASH_VERSION | cut -c1"), "5", "there is a bash, and it is used");
    // Still so after systemd has read everything again, and executed itself again.
    host.exec("web01", "systemctl daemon-reload && systemctl daemon-reexec");
    assert_healthy(&host);
    let started = Instant::now();
    host.ok(["stop", "web01"]);
    // Not a speed test: with a stop signal that it does not know it would take the time-out of 120 s.
    assert!(started.elapsed() < testkit::patience(30), "{:?}", started.elapsed());
    assert_eq!(host.ok(["status", "web01"]), "CT web01 exist stopped\n");
}

#[test]
fn root_debian_is_reinstalled_from_running_to_running() {
    let Some(host) = new_host() else { return };
    host.ok(["start", "web01", "--wait"]);
    host.exec(
        "web01",
        "useradd -m -s /bin/bash anna && echo anna:geheim | chpasswd && echo precious > /home/anna/file",
    );
    let (machine, key) = ("cat /etc/machine-id", "cat /etc/ssh/ssh_host_ed25519_key.pub");
    let before = (host.exec("web01", machine), host.exec("web01", key));
    host.exec("web01", "mv /usr/bin /usr/bin.gone || true");
    host.run(["exec", "web01", "ls"]).failed(8, &["cannot execute in `web01`", "prlctl reinstall web01"]);

    host.ok(["reinstall", "web01"]);
    host.wait_until("it is up", || {
        host.run(["exec", "web01", "systemctl is-system-running --wait"]).code == 0
    });
    assert_healthy(&host);
    assert_eq!(
        host.exec("web01", "cat /old/home/anna/file; ls /old/usr/bin.gone | grep -x ls"),
        "precious\nls"
    );
    let after = (host.exec("web01", machine), host.exec("web01", key));
    assert_ne!(before.0, after.0, "the machine-id is a new one");
    assert_ne!(before.1, after.1, "the host keys are new ones");

    // She logs in on a terminal with her old password, and not with another.
    let mut command = host.prlctl();
    command.args(["exec", "web01", "su nobody -s /bin/bash -c 'su anna -c \"id -un; tty\"'"]);
    let mut terminal = Terminal::run(&command, 24, 80);
    terminal.expects("assword: ");
    terminal.types("geheim\n");
    terminal.expects("anna\r\n/dev/pts/");
    assert_eq!(terminal.ends().0, 0);
    let mut terminal = Terminal::run(&command, 24, 80);
    terminal.expects("assword: ");
    terminal.types("falsch\n");
    terminal.expects("Authentication failure");
    assert_ne!(terminal.ends().0, 0);
}

#[test]
fn root_debian_lets_somebody_in_with_a_password_that_was_given() {
    let Some(host) = new_host() else { return };
    host.ok(["start", "web01", "--wait"]);
    let mut reinstall = host.prlctl();
    reinstall.args(["reinstall", "web01", "--password", "root:-"]).stdin(Stdio::piped());
    let mut reinstall = reinstall.stderr(Stdio::piped()).spawn().expect("run prlctl");
    std::io::Write::write_all(&mut reinstall.stdin.take().expect("it has a stdin"), b"neues geheimnis\n")
        .expect("write");
    let ran = Ran::of(reinstall.wait_with_output().expect("wait for prlctl"));
    assert_eq!(ran.code, 0, "{ran}");
    assert!(ran.stderr.contains("\nroot's password: the one that was given with --password\n"), "{ran}");
    let mut command = host.prlctl();
    command.args(["exec", "web01", "su nobody -s /bin/bash -c 'su root -c \"id -un; tty\"'"]);
    for (password, answer, is_let_in) in
        [("neues geheimnis", "root\r\n/dev/pts/", true), ("geheim", "Authentication failure", false)]
    {
        let mut terminal = Terminal::run(&command, 24, 80);
        terminal.expects("assword: ");
        terminal.types(&format!("{password}\n"));
        terminal.expects(answer);
        assert_eq!(terminal.ends().0 == 0, is_let_in);
    }
    // The libraries of the distribution agree, and its own programs find nothing wrong.
    assert_eq!(host.exec("web01", "pwck -r -q && grpck -r && passwd -S root | cut -d' ' -f1,2"), "root P");
}

#[test]
fn root_debian_reboots_and_powers_off_from_inside() {
    let Some(host) = new_host() else { return };
    host.ok(["start", "web01", "--wait"]);
    let init = || {
        host.ok(["list", "-i", "web01", "-j"])
            .lines()
            .find(|line| line.contains("\"Init\""))
            .map(str::to_owned)
    };
    let first = init();
    host.run(["exec", "web01", "systemctl reboot"]);
    host.wait_until("another systemd runs", || init().is_some_and(|now| Some(now) != first));
    host.wait_until("it is up", || {
        host.run(["exec", "web01", "systemctl is-system-running --wait"]).code == 0
    });
    assert_healthy(&host);
    host.run(["exec", "web01", "systemctl poweroff"]);
    host.wait_until("it is stopped", || host.ok(["status", "web01"]) == "CT web01 exist stopped\n");
}

#[test]
fn root_a_script_whose_last_word_is_systemctl_reboot_has_failed() {
    let Some(host) = new_host() else { return };
    host.ok(["start", "web01", "--wait"]);
    for way in ["systemctl reboot", "systemctl poweroff"] {
        host.script("etc/vz/conf/vps.configure", &format!("#!/bin/sh\n{way}\n"));
        host.run(["reinstall", "web01"])
            .failed(94, &["`vps.configure` has ended the container", "runs on its old root"]);
    }
    host.script("etc/vz/conf/vps.configure", "#!/bin/sh\nexit 0\n");
    host.ok(["reinstall", "web01"]);
}

#[test]
fn root_an_undo_takes_a_debian_that_cannot_come_up_as_it_is() {
    let Some(host) = new_host() else { return };
    host.ok(["start", "web01", "--wait"]);
    host.exec("web01", "echo precious > /srv/file; rm -rf /usr/bin");
    host.ok(["reinstall", "web01"]);
    let ran = host.run(["reinstall", "web01", "--undo", "--timeout", "3"]);
    assert_eq!(ran.code, 0, "{ran}");
    assert!(ran.stderr.contains("warning: generation 1 runs, but is not up: "), "{ran}");
    assert_eq!(host.ok(["status", "web01"]), "CT web01 exist running\n");
    assert!(host.ok(["generation-list", "web01"]).contains("1     live"));
    host.ok(["stop", "web01", "--kill"]);
    // And on again, to the root that came instead.
    host.ok(["generation-switch", "web01", "2"]);
    host.ok(["start", "web01", "--wait"]);
    assert_eq!(host.exec("web01", "cat /old/srv/file"), "precious");
}

#[test]
fn root_an_executed_process_of_debian_is_in_everything_what_init_is() {
    let Some(host) = new_host() else { return };
    host.ok(["start", "web01", "--wait"]);
    let line = "for link in /proc/1/ns/*; do test \"$(readlink $link)\" = \"$(readlink /proc/self/ns/${link##*/})\" || echo $link; done; \
        for key in CapInh CapPrm CapEff CapBnd CapAmb NoNewPrivs Seccomp Seccomp_filters; do \
        test \"$(grep ^$key: /proc/1/status)\" = \"$(grep ^$key: /proc/self/status)\" || echo $key; done; \
        cmp /proc/1/uid_map /proc/self/uid_map; grep ^0:: /proc/self/cgroup";
    assert_eq!(host.exec("web01", line), "0::/.reroot");
    // A session on a terminal of its own, as a login has.
    let mut command = host.prlctl();
    command.args(["enter", "web01"]);
    let mut terminal = Terminal::run(&command, 24, 80);
    terminal.types("tty; ps -o tty= -p $$; stty size; exit 4\n");
    terminal.expects("/dev/pts/");
    terminal.expects("pts/");
    terminal.expects("24 80");
    assert_eq!(terminal.ends().0, 4);
}
